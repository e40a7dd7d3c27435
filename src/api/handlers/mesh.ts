import { Effect, Result } from "effect"
import type { Address } from "../../codec/address.ts"
import { type Unsigned } from "../../codec/operation.ts"
import { decideConfig } from "../../commands/decide-config.ts"
import { decideNameMesh, decideNameNode, type Decision } from "../../commands/decide-membership.ts"
import { lockOf } from "../../commands/dispatch.ts"
import { membershipLock, operationEvents } from "../../commands/membership-events.ts"
import type { Refusal } from "../../commands/refusal.ts"
import { asFederation, federatedNames } from "../../projections/federation.ts"
import { findMember, type Member } from "../../projections/membership.ts"
import { explain, settingText } from "../../projections/families/config-view.ts"
import type { Call } from "../operation.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { By } from "../operations/common.ts"
import type { Handlers, OutputOf } from "../operations/table.ts"
import { readableBy, rightsOf } from "./node.ts"
import { lastSeenOf, peerStates, type PeerState } from "./peers.ts"
import { byOf, refuse, timeText, withFrames } from "./reading.ts"

type Names = "mesh.create" | "mesh.list" | "mesh.use" | "mesh.show" | "mesh.mode" | "node.list" | "node.show" | "node.name"

export const meshHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "mesh.create": ({ name, another }, call) => Effect.gen(function*() {
    if (another) return yield* anotherMesh(daemon, name, call)
    const mesh = daemon.mesh()
    const done = yield* decided(mesh, "mesh.create", call, `the mesh is called ${name}`, () => decideNameMesh(mesh.situation(), { name }))
    return { id: mesh.mesh, name: mesh.members.view().name, further: false, ...done }
  }),

  "mesh.list": () => Effect.sync(() => daemon.meshes().map((entry) => {
    const { id, name, isDefault, mesh, fault } = entry
    const me = mesh?.members.view().members.get(mesh.vault.deviceId)
    return {
      id, name, default: isDefault, ...sizeOf(mesh), federation: mesh !== undefined && asFederation(mesh) !== undefined, ...(fault === undefined ? {} : { fault }),
      ...(mesh === undefined ? {} : { device: mesh.vault.deviceId }), ...(me === undefined ? {} : { role: me.role, standing: me.standing })
    }
  })),

  "mesh.use": ({ name }) => Effect.gen(function*() {
    const entry = yield* daemon.useMesh(name)
    return { id: entry.id, name: entry.name, summary: `commands go to ${entry.name} when they name no mesh`, events: [] }
  }),

  "mesh.show": () => Effect.sync(() => {
    const mesh = daemon.mesh()
    const view = mesh.members.view()
    const created = mesh.members.operations().find((operation) => operation.hash === mesh.mesh)
    return {
      id: mesh.mesh, name: view.name, mode: mesh.swarm.mode(), created: timeText(created?.ms ?? 0),
      role: view.members.get(mesh.vault.deviceId)?.role ?? "member",
      members: [...view.members.values()].toSorted(byName).map((member) => ({
        name: member.name, device: member.device, role: member.role, standing: member.standing, since: timeText(member.ms), self: member.device === mesh.vault.deviceId
      }))
    }
  }),

  "mesh.mode": ({ mode }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    if (mode === undefined) return { mode: modeOf(daemon), summary: `the mode is ${modeOf(daemon)}`, events: [] }
    const layer = `node:${mesh.vault.deviceId}` as const
    const done = yield* mesh.dispatch.change("mesh.mode", call, [lockOf(`config/${layer}/network`)], (documents) =>
      decideConfig(documents, { _tag: "SetValue", layer, path: "network.mode", value: mode }))
    const effective = modeOf(daemon)
    return { mode: effective, ...done, summary: effective === mode ? `this node is ${mode}` : `${mode} is set for this node, but the ${explain(daemon.config(), "network.mode").winner?.layer ?? "default"} keeps it ${effective}` }
  }),

  "node.list": ({ all, federated }) => Effect.sync(() => {
    const mesh = daemon.mesh()
    if (federated) {
      return federatedNames(mesh).map(({ name, meshName, device, services }) => ({
        name: `${name}.${meshName}`, device, mesh: meshName, services: [...services], standing: "member" as const, self: false, inTouch: false, events: 0, waiting: 0, behind: 0
      }))
    }
    const states = peerStates(mesh)
    return [...mesh.members.view().members.values()].filter((member) => all || member.standing === "member").toSorted(byName).map((member) => nodeRow(mesh, member, states))
  }),

  "node.show": ({ node }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const member = yield* memberOf(mesh, node ?? mesh.vault.deviceId)
    const admission = operationOf(mesh, member.since)
    const evidence = mesh.members.evidence()
    const started = mesh.tables.events.query({ types: ["node.started/1"], logs: member.logs.map(({ log }) => log), order: "newest", limit: 1 }).events[0]
    const others = [...mesh.members.view().members.values()].filter((other) => other.standing === "member" && other.device !== mesh.vault.deviceId)
    return {
      ...nodeRow(mesh, member, peerStates(mesh)),
      ...(admission === undefined ? {} : { admitted: operationBy(mesh, admission) }),
      ...(member.granted.hash === member.since ? {} : { granted: operationBy(mesh, operationOf(mesh, member.granted.hash)) }),
      ...(member.revoked === undefined ? {} : { revoked: { ...operationBy(mesh, operationOf(mesh, member.revoked.hash)), reason: member.revoked.reason } }),
      rights: [...rightsOf(member)], readable: readableBy(mesh, member),
      ...(started === undefined ? {} : { version: yield* versionOf(mesh, started) }),
      logs: member.logs.map(({ log, closedAt, cutAt }, epoch) => {
        const last = mesh.tables.events.query({ logs: [log], order: "newest", limit: 1 }).events[0]
        const shown = evidence.find(({ accused }) => accused === log)
        return {
          log, epoch, length: lengthOf(mesh, log), ...(cutAt === undefined ? {} : { counts: cutAt }),
          state: shown !== undefined && shown.decided === undefined ? "held" as const : mesh.diverged.has(log) && shown === undefined ? "diverged" as const
            : closedAt === undefined ? "open" as const : "closed" as const,
          ...(last === undefined ? {} : { last: timeText(last.ms) })
        }
      }),
      receipts: member.logs.flatMap(({ log }) => others.map((other) => {
        const holds = mesh.tables.receipts.held(other.device, log)
        const waiting = mesh.tables.events.from(log, holds)
        return {
          log, node: other.name, holds, of: Math.max(holds, lengthOf(mesh, log)),
          ...(waiting.sinceMs === undefined ? {} : { since: timeText(waiting.sinceMs) })
        }
      }))
    }
  }),

  "node.name": ({ name, node }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const member = yield* memberOf(mesh, node ?? mesh.vault.deviceId)
    if (name === undefined) return { name: member.name, device: member.device, summary: `this node is called ${member.name}`, events: [] }
    const done = yield* decided(mesh, "node.name", call, `${member.name} is called ${name} now`, () => decideNameNode(mesh.situation(), { node: member.device, name }))
    return { name: mesh.members.nameOf(member.device), device: member.device, ...done }
  })
})

/** Members, and those in touch, this node counted in both. */
export const sizeOf = (mesh: MeshView | undefined): { readonly members: number; readonly inTouch: number } => {
  if (mesh === undefined) return { members: 0, inTouch: 0 }
  const others = [...peerStates(mesh).values()]
  return { members: others.length + 1, inTouch: others.filter(({ inTouch }) => inTouch).length + 1 }
}

const anotherMesh = (daemon: DaemonView, name: string, call: Call) => Effect.gen(function*() {
  if (daemon.meshes().some((entry) => entry.name.toLowerCase() === name.toLowerCase())) return yield* refuse("conflict", `this node is in a mesh called ${name} already`, "kos mesh list")
  const mesh = yield* daemon.anotherMesh(name)
  const usual = daemon.meshes().find(({ isDefault }) => isDefault)?.name ?? ""
  const done = yield* mesh.dispatch.run("mesh.create", call, [], Effect.succeed({
    summary: `made ${name}; commands still go to ${usual} unless they say --mesh ${name}`, events: [{ type: "command.done/1", subject: "mesh", body: { name: "mesh.create", detail: `made ${name}` } }]
  }))
  return { id: mesh.mesh, name: mesh.members.view().name, further: true, ...done }
})

/** Signs what a membership decider wants and appends it. */
export const decided = (mesh: MeshView, name: string, call: Call, summary: string, decide: () => Decision) =>
  mesh.dispatch.run(name, call, [membershipLock], Effect.suspend(() => Effect.fromResult(Result.map(decide(), (operations: ReadonlyArray<Unsigned>) => ({
    summary: operations.length === 0 ? "nothing to change" : summary, events: operationEvents(mesh.vault, operations)
  })))))

export const modeOf = (daemon: DaemonView): "isolated" | "joined" => settingText(daemon.config(), "network.mode") === "isolated" ? "isolated" : "joined"

export const memberOf = (mesh: MeshView, text: string): Effect.Effect<Member, Refusal> => {
  const member = findMember(mesh.members.view(), text)
  return member === undefined ? Effect.fail(refuse("not-found", `no node of this mesh is called ${text}`, "kos node list --all")) : Effect.succeed(member)
}

export const lengthOf = (mesh: MeshView, log: string): number => log === mesh.journal.log() ? mesh.journal.length() : mesh.tables.heads.get(log)?.length ?? 0

const operationOf = (mesh: MeshView, hash: string) => mesh.members.operations().find((operation) => operation.hash === hash)

const byName = (a: Member, b: Member): number => a.name.localeCompare(b.name)

const unknownLog = "0".repeat(64)

export const operationBy = (mesh: MeshView, operation: { readonly author: string; readonly ms: number; readonly hash: string } | undefined): By => {
  const at = operation === undefined ? undefined : mesh.tables.operationPlace(operation.hash)
  const row = at === undefined ? undefined : mesh.tables.events.byAddress(at)
  // An operation that was met at a handshake is known before the log that holds it.
  const by = byOf(mesh, row ?? { log: mesh.members.view().members.get(operation?.author ?? "")?.logs[0]?.log ?? unknownLog, block: 0, offset: 0, actor: "device", ms: operation?.ms ?? 0 })
  return { ...by, device: operation?.author ?? by.device, node: operation === undefined ? "" : mesh.members.nameOf(operation.author) }
}

const versionOf = (mesh: MeshView, row: Address): Effect.Effect<string, Refusal> =>
  withFrames(mesh, "the start of the node could not be read", async (frames) => {
    const event = await frames.event(row)
    const body = event?._tag === "Known" ? event.body : undefined
    return typeof body === "object" && body !== null && "version" in body ? String(body.version) : "unknown"
  })

const nodeRow = (mesh: MeshView, member: Member, states: ReadonlyMap<string, PeerState>) => {
  const state = states.get(member.device)
  const self = member.device === mesh.vault.deviceId
  const lastSeen = self || state?.inTouch === true ? undefined : lastSeenOf(mesh, member.device)
  return {
    name: member.name, device: member.device, role: member.role, standing: member.standing, self, inTouch: self || state?.inTouch === true,
    ...(state?.carrier === undefined ? {} : { carrier: state.carrier }), ...(lastSeen === undefined ? {} : { lastSeen }),
    events: member.logs.reduce((sum, { log }) => sum + mesh.tables.events.from(log, 0).events, 0),
    waiting: state?.waiting ?? 0, behind: state?.behind ?? 0
  }
}
