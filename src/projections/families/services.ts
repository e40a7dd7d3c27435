/**
 * Services: TCP programs of a node that other nodes may reach through the mesh. A service is some settings of a node or a role,
 * `services.NAME.*`, and nothing is one that has no target; nobody may use it whom its `allow` does not name.
 */
import { isIP } from "node:net"
import { rankOf, type Role, roles } from "../../codec/operation.ts"
import type { Json } from "../documents/types.ts"
import { isWhy, shown } from "./doc-id.ts"
import { isArray, type JsonObject } from "./json.ts"
import { pathFacts } from "./path.ts"
import { parseAddress, parseDuration } from "./values.ts"

export interface ServiceRule {
  readonly name: string
  /** Undefined: it is named somewhere and not declared. */
  readonly target: { readonly host: string; readonly port: number } | undefined
  /** The target may be another machine than this node. */
  readonly remote: boolean
  readonly allow: ReadonlyArray<Allowed>
  /** Connections at once, of all nodes together. */
  readonly connectionsMax: number
  readonly idleMs: number
}

/** `role` means this role and those above it; `node` is a name or a whole device key; `federated` lets nobody in, and tells federated meshes the service's name. */
export type Allowed = { readonly kind: "all" } | { readonly kind: "federated" } | { readonly kind: "role"; readonly role: Role } | { readonly kind: "node"; readonly node: string }

export const serviceDefaults = { connectionsMax: 16, idle: "10m", idleMs: 600_000 }
export const serviceNameCharsMax = 63
export const allowItemsMax = 64

/** For the types of settings: `host:port`, and one item of `allow`. */
export const targetPattern = /^(?:(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):[1-9][0-9]{0,4})?$/u
export const targetWords = "host:port, such as 127.0.0.1:8080"
export const allowPattern = /^(?:all|federated|role:(?:owner|admin|member|reader|seeder)|node:[A-Za-z0-9][A-Za-z0-9._-]{0,62}|node:[0-9a-f]{64})$/u
export const allowWords = "role:ROLE, node:NAME, all or federated"

export const serviceNameFault = (name: string): string | undefined =>
  name.length <= serviceNameCharsMax && /^[A-Za-z0-9][A-Za-z0-9_-]*$/u.test(name) ? undefined
    : `the name of a service is letters, digits, '_' and '-', at most ${serviceNameCharsMax}, beginning with a letter or digit; found ${shown(name)}`

/** Names that cannot be typed after `kos connect NODE:`. One sentence each. */
export const serviceFaults = (values: JsonObject): ReadonlyArray<string> => Object.keys(values).flatMap((path) => {
  const fault = path.startsWith("services.") ? serviceNameFault(nameIn(path) ?? "") : undefined
  return fault === undefined ? [] : [`${path}: ${fault}`]
})

/** The services in settings by path; a setting that cannot be read counts as not there. By name. */
export const readServices = (values: JsonObject): ReadonlyMap<string, ServiceRule> => {
  const found = new Map<string, ServiceRule>()
  for (const [path, value] of Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const name = path.startsWith("services.") ? nameIn(path) : undefined
    if (name === undefined || serviceNameFault(name) !== undefined) continue
    const rule = found.get(name) ?? { name, target: undefined, remote: false, allow: [], connectionsMax: serviceDefaults.connectionsMax, idleMs: serviceDefaults.idleMs }
    found.set(name, { ...rule, ...partOf(path.slice("services.".length + name.length + 1), value) })
  }
  return found
}

export const targetText = ({ host, port }: { readonly host: string; readonly port: number }): string => `${host.includes(":") ? `[${host}]` : host}:${port}`

/** Why a target may not be dialled, or undefined. `own` are the addresses of this node's interfaces. No name is looked up: who answers for it may change. */
export const targetFault = (rule: ServiceRule, own: ReadonlySet<string>): string | undefined => {
  if (rule.target === undefined) return `${rule.name} has no target`
  if (rule.remote || isOwnHost(rule.target.host, own)) return undefined
  return `${rule.name} points to ${targetText(rule.target)}, which is not this node; the setting services.${rule.name}.remote says that it may`
}

const isOwnHost = (host: string, own: ReadonlySet<string>): boolean =>
  host.toLowerCase() === "localhost" || own.has(host.toLowerCase()) || (isIP(host) === 4 && host.startsWith("127.")) || host === "::1"

export const allowText = (allowed: Allowed): string => allowed.kind === "all" || allowed.kind === "federated" ? allowed.kind : allowed.kind === "role" ? `role:${allowed.role}` : `node:${allowed.node}`

/** May a device with this role use it? `deviceOf` says which device a name means now. */
export const isAllowed = (rule: ServiceRule, device: string, role: Role, deviceOf: (name: string) => string | undefined): boolean =>
  rule.allow.some((allowed) => allowed.kind === "all" || (allowed.kind === "role" ? rankOf(role) >= rankOf(allowed.role) : allowed.kind === "node" && deviceOf(allowed.node) === device))

const nameIn = (path: string): string | undefined => {
  const facts = pathFacts(path)
  return isWhy(facts) ? undefined : facts.value.parts[1]
}

const partOf = (key: string, value: Json): Partial<ServiceRule> => {
  if (key === "target") return typeof value === "string" ? { target: parseAddress(value) } : {}
  if (key === "remote") return { remote: value === true }
  if (key === "allow") return { allow: isArray(value) ? value.flatMap(allowedOf) : [] }
  if (key === "connections.max") return typeof value === "number" ? { connectionsMax: value } : {}
  const idleMs = key === "idle" && typeof value === "string" ? parseDuration(value) : undefined
  return idleMs === undefined ? {} : { idleMs }
}

const allowedOf = (item: Json): ReadonlyArray<Allowed> => {
  if (typeof item !== "string" || !allowPattern.test(item)) return []
  if (item === "all" || item === "federated") return [{ kind: item }]
  const role = roles.find((one) => item === `role:${one}`)
  return [role === undefined ? { kind: "node", node: item.slice("node:".length) } : { kind: "role", role }]
}
