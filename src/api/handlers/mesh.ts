import { Effect, Result } from "effect"
import type { Address } from "../../codec/address.ts"
import { inviteHintsMax, inviteKey, inviteText, type Invite } from "../../codec/invite.ts"
import { type Unsigned } from "../../codec/operation.ts"
import { randomBytes } from "../../codec/signature.ts"
import { decideConfig } from "../../commands/decide-config.ts"
import { decideIssueInvite, decideNameMesh, decideNameNode, decideWithdrawInvite, type Decision } from "../../commands/decide-membership.ts"
import { lockOf } from "../../commands/dispatch.ts"
import { membershipLock, operationEvents } from "../../commands/membership-events.ts"
import type { Refusal } from "../../commands/refusal.ts"
import { findMember, type InviteRecord, type Member } from "../../projections/membership.ts"
import { explain, settingMs, settingText, settingTexts } from "../../projections/families/config-view.ts"
import { formatDuration, parseDuration } from "../../projections/families/values.ts"
import type { Call } from "../operation.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { By } from "../operations/common.ts"
import type { Handlers, OutputOf } from "../operations/table.ts"
import { peerStates, type PeerState } from "./peers.ts"
import { byOf, refuse, timeText, withFrames } from "./reading.ts"

type Names = "mesh.create" | "mesh.show" | "mesh.mode" | "invite.create" | "invite.list" | "invite.revoke" | "node.list" | "node.show" | "node.name"

export const meshHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "mesh.create": ({ name }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const done = yield* decided(mesh, "mesh.create", call, `the mesh is called ${name}`, () => decideNameMesh(mesh.situation(), { name }))
    return { id: mesh.mesh, name: mesh.members.view().name, ...done }
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

  "invite.create": ({ role, expires, uses }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const life = expires === undefined ? settingMs(daemon.config(), "invite.expires") : parseDuration(expires)
    if (life === undefined) return yield* refuse("usage", `${expires} is no duration; expected for example 30m, 24h or 7d`)
    const expiresMs = daemon.now() + life
    const invite: Invite = {
      mesh: mesh.mesh, meshName: mesh.members.view().name, seed: randomBytes(32), issuer: mesh.vault.deviceId, role, expiresMs,
      bootstrap: settingTexts(daemon.config(), "network.bootstrap").slice(0, inviteHintsMax), lan: lanHints(mesh).slice(0, inviteHintsMax)
    }
    yield* decided(mesh, "invite.create", call, `made an invite for ${uses === 1 ? "one device" : `${uses} devices`}, good for ${formatDuration(life)}`,
      () => decideIssueInvite(mesh.situation(), { invite, uses }))
    yield* Effect.promise(() => mesh.swarm.openInvite(Buffer.from(inviteKey(invite), "hex")))
    const record = mesh.members.view().invites.get(inviteKey(invite))
    if (record === undefined) return yield* refuse("failed", "the invite was recorded but does not count", "kos doctor")
    return { ...inviteRow(daemon, mesh, record), invite: inviteText(invite) }
  }),

  "invite.list": ({ all }) => Effect.sync(() => {
    const mesh = daemon.mesh()
    return [...mesh.members.view().invites.values()].map((record) => inviteRow(daemon, mesh, record)).filter((row) => all || row.state === "open")
  }),

  "invite.revoke": ({ id }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    // Its topic stays open for a while: whoever comes with it is told that it was withdrawn.
    return yield* decided(mesh, "invite.revoke", call, `withdrew the invite ${id}`, () => decideWithdrawInvite(mesh.situation(), { invite: id }))
  }),

  "node.list": ({ all }) => Effect.sync(() => {
    const mesh = daemon.mesh()
    const states = peerStates(mesh)
    return [...mesh.members.view().members.values()].filter((member) => all || member.standing === "member").toSorted(byName).map((member) => nodeRow(mesh, member, states))
  }),

  "node.show": ({ node }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const member = yield* memberOf(mesh, node ?? mesh.vault.deviceId)
    const admission = mesh.members.operations().find((operation) => operation.hash === member.since)
    const started = mesh.tables.events.query({ types: ["node.started/1"], logs: member.logs.map(({ log }) => log), order: "newest", limit: 1 }).events[0]
    const others = [...mesh.members.view().members.values()].filter((other) => other.standing === "member" && other.device !== mesh.vault.deviceId)
    return {
      ...nodeRow(mesh, member, peerStates(mesh)),
      ...(admission === undefined ? {} : { admitted: operationBy(mesh, admission) }),
      ...(started === undefined ? {} : { version: yield* versionOf(mesh, started) }),
      logs: member.logs.map(({ log, closedAt }, epoch) => {
        const last = mesh.tables.events.query({ logs: [log], order: "newest", limit: 1 }).events[0]
        return {
          log, epoch, length: lengthOf(mesh, log), state: mesh.diverged.has(log) ? "diverged" as const : closedAt === undefined ? "open" as const : "closed" as const,
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

/** Signs what a membership decider wants and appends it. */
const decided = (mesh: MeshView, name: string, call: Call, summary: string, decide: () => Decision) =>
  mesh.dispatch.run(name, call, [membershipLock], Effect.suspend(() => Effect.fromResult(Result.map(decide(), (operations: ReadonlyArray<Unsigned>) => ({
    summary: operations.length === 0 ? "nothing to change" : summary, events: operationEvents(mesh.vault, operations)
  })))))

export const modeOf = (daemon: DaemonView): "isolated" | "joined" => settingText(daemon.config(), "network.mode") === "isolated" ? "isolated" : "joined"

const memberOf = (mesh: MeshView, text: string): Effect.Effect<Member, Refusal> => {
  const member = findMember(mesh.members.view(), text)
  return member === undefined ? Effect.fail(refuse("not-found", `no node of this mesh is called ${text}`, "kos node list --all")) : Effect.succeed(member)
}

export const lengthOf = (mesh: MeshView, log: string): number => log === mesh.journal.log() ? mesh.journal.length() : mesh.tables.heads.get(log)?.length ?? 0

/** Where this node is reached on the local network, for a candidate that finds nobody by multicast. */
const lanHints = (mesh: MeshView): ReadonlyArray<string> =>
  mesh.swarm.carriers().filter((carrier) => carrier.name === "lan" && carrier.listening).flatMap((carrier) => /\b\d+\.\d+\.\d+\.\d+:\d+\b/.exec(carrier.detail)?.[0] ?? [])

const inviteRow = (daemon: DaemonView, mesh: MeshView, record: InviteRecord): OutputOf<"invite.list">[number] => ({
  id: record.invite.slice(0, 8), role: record.role, expires: timeText(record.expiresMs), uses: record.uses, used: record.used,
  issued: operationBy(mesh, mesh.members.operations().find((operation) => operation.says.kind === "invite.issued" && operation.says.invite === record.invite)),
  state: record.withdrawn ? "withdrawn" : record.used >= record.uses ? "used" : daemon.now() >= record.expiresMs ? "expired" : "open"
})

const byName = (a: Member, b: Member): number => a.name.localeCompare(b.name)

const unknownLog = "0".repeat(64)

const operationBy = (mesh: MeshView, operation: { readonly author: string; readonly ms: number; readonly hash: string } | undefined): By => {
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

const nodeRow = (mesh: MeshView, member: Member, states: ReadonlyMap<string, PeerState>): OutputOf<"node.list">[number] => {
  const state = states.get(member.device)
  const self = member.device === mesh.vault.deviceId
  return {
    name: member.name, device: member.device, role: member.role, standing: member.standing, self, inTouch: self || state?.inTouch === true,
    ...(state?.carrier === undefined ? {} : { carrier: state.carrier }), ...(state?.lastSeen === undefined ? {} : { lastSeen: state.lastSeen }),
    events: member.logs.reduce((sum, { log }) => sum + mesh.tables.events.from(log, 0).events, 0),
    waiting: state?.waiting ?? 0, behind: state?.behind ?? 0
  }
}
