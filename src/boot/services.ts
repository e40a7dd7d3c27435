/**
 * The services of this node for other nodes: rules from the configuration in force, connections to their targets by TCP, and events of their use.
 *
 * Rules are read anew in each turn in which somebody asks, from documents, policy and membership as they are then; nothing is kept that could be
 * old. Whenever a fold touches configuration or membership all open streams are asked about again.
 */
import { Effect, type Scope } from "effect"
import { createConnection, type Socket } from "node:net"
import { networkInterfaces } from "node:os"
import { serviceNameFault, type ServiceRule, targetFault, targetText } from "../projections/families/services.ts"
import { parseAddress } from "../projections/families/values.ts"
import { mayUseService, servicesOf } from "../projections/services.ts"
import type { Admission, Services } from "../swarm/services.ts"
import type { MeshNode } from "./mesh-node.ts"
import type { BuiltinServices } from "./pack-wires.ts"
import { makeServiceEvents } from "./service-events.ts"

export interface ServiceDesk {
  readonly services: Services
  /** Follows this node's folds and writes its events until the scope closes; then every stream that it serves is cut. */
  readonly attach: (node: MeshNode) => Effect.Effect<void, never, Scope.Scope>
}

type Parts = Pick<MeshNode, "tables" | "members" | "vault">

const tickMs = 5_000

/** `builtin` are the node's own services: no rule of the configuration speaks of them, and no event tells of their use. */
export const makeServiceDesk = (parts: Parts, now: () => number, builtin?: BuiltinServices): ServiceDesk => {
  const { members, vault } = parts
  const listeners = new Set<() => void>()
  let stopped = false
  let node: MeshNode | undefined
  let rules: ReadonlyMap<string, ServiceRule> | undefined

  const current = (): ReadonlyMap<string, ServiceRule> => {
    if (rules === undefined) {
      rules = servicesOf(parts, vault.deviceId)
      // A review asks once for each open stream, all in one turn.
      queueMicrotask(() => { rules = undefined })
    }
    return rules
  }

  const admit = (service: string, device: string): Admission => {
    const me = members.nameOf(vault.deviceId)
    const refused = (reason: "unknown" | "denied" | "busy" | "failed", sentence: string): Admission => ({ _tag: "Refused", reason, sentence })
    if (stopped) return refused("busy", `${me} stops`)
    const own = builtin?.admit(service, device, vault.deviceId)
    if (own !== undefined) return own
    if (serviceNameFault(service) !== undefined) return refused("unknown", `${me} has no service of this name`)
    const rule = current().get(service)
    if (rule?.target === undefined) return refused("unknown", `${me} has no service called ${service}`)
    if (!mayUseService(members, rule, device)) return refused("denied", `${service} is not for ${members.nameOf(device)}`)
    const fault = targetFault(rule, rule.remote ? new Set() : ownAddresses())
    if (fault !== undefined) return refused("failed", fault)
    return { _tag: "Admitted", streamsMax: rule.connectionsMax, idleMs: rule.idleMs, target: targetText(rule.target) }
  }

  const isBuiltin = (service: string, device: string): boolean => builtin?.admit(service, device, vault.deviceId) !== undefined

  const events = makeServiceEvents((wanted) => {
    if (node !== undefined) void Effect.runPromise(node.dispatch.record(wanted).pipe(Effect.ignore))
  }, now)

  const changed = (): void => {
    rules = undefined
    for (const listener of listeners) listener()
    builtin?.review()
  }

  return {
    services: {
      admit,
      dial: (service, target, msMax) => dialTarget(service, target, msMax),
      onChange: (listener) => void listeners.add(listener),
      opened: (service, device) => {
        if (serviceNameFault(service) === undefined) events.opened(service, device)
      },
      refused: (service, device, { sentence }) => {
        if (!isBuiltin(service, device)) events.refused(current().has(service) ? service : "", device, sentence)
      },
      closed: (service, device, use) => {
        if (serviceNameFault(service) === undefined) events.closed(service, device, use)
      }
    },
    attach: (attached) => Effect.gen(function*() {
      node = attached
      const stop = attached.runner.onFold(({ documents, operations }) => {
        if (operations || documents.some((doc) => doc.startsWith("config/"))) changed()
      })
      // Not with the fold, but in the turn in which membership tells.
      const stopMembers = builtin === undefined ? () => undefined : members.onChange(builtin.review)
      yield* Effect.forever(Effect.sleep(tickMs).pipe(Effect.andThen(Effect.sync(() => events.tick())))).pipe(Effect.forkScoped)
      yield* Effect.addFinalizer(() => Effect.sync(() => {
        stop()
        stopMembers()
        stopped = true
        changed()
        events.flush()
        node = undefined
      }))
    })
  }
}

/** `localhost` is looked up by nobody: it is this machine, by either family. */
const dialTarget = async (service: string, target: string, msMax: number): Promise<Socket> => {
  const at = parseAddress(target)
  if (at === undefined) throw new Error(`${service} has no target`)
  const hosts = at.host.toLowerCase() === "localhost" ? ["127.0.0.1", "::1"] : [at.host]
  let why = "nothing"
  for (const host of hosts) {
    try {
      return await connectTo(host, at.port, msMax)
    } catch (fault) {
      why = fault instanceof Error && "code" in fault ? String(fault.code) : String(fault)
    }
  }
  throw new Error(why === "ECONNREFUSED" ? `nothing listens at ${target}, where ${service} should be` : `${service} at ${target} does not answer (${why})`)
}

const connectTo = (host: string, port: number, msMax: number): Promise<Socket> => new Promise((resolve, reject) => {
  const socket = createConnection({ host, port, allowHalfOpen: true, noDelay: true, keepAlive: true })
  const timer = setTimeout(() => socket.destroy(Object.assign(new Error("timeout"), { code: "ETIMEDOUT" })), msMax)
  const failed = (fault: Error): void => {
    clearTimeout(timer)
    reject(fault)
  }
  socket.once("error", failed)
  socket.once("connect", () => {
    clearTimeout(timer)
    socket.off("error", failed)
    // Whoever takes it over looks at its errors; until then one must not end the process.
    socket.on("error", () => undefined)
    resolve(socket)
  })
})

const ownAddresses = (): ReadonlySet<string> =>
  new Set(Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address.toLowerCase())))
