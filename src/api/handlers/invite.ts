import { renderUnicodeCompact } from "uqr"
import { Effect } from "effect"
import {
  certifyInvite, inviteHintsMax, inviteKey, inviteQrText, inviteSeedBytes, inviteText, inviteWords, type Invite
} from "../../codec/invite.ts"
import { randomBytes } from "../../codec/signature.ts"
import { decideIssueInvite, decideWithdrawInvite } from "../../commands/decide-membership.ts"
import type { Refusal } from "../../commands/refusal.ts"
import { asFederation } from "../../projections/federation.ts"
import type { InviteRecord } from "../../projections/membership.ts"
import { settingMs, settingTexts } from "../../projections/families/config-view.ts"
import { formatDuration, parseDuration } from "../../projections/families/values.ts"
import type { DaemonView, MeshView, WaitingCandidate } from "../node.ts"
import type { Handlers, OutputOf } from "../operations/table.ts"
import { decided, operationBy } from "./mesh.ts"
import { peerStates } from "./peers.ts"
import { refuse, timeText } from "./reading.ts"
import { until } from "./sync.ts"

type Names = "invite.create" | "invite.list" | "invite.confirm" | "invite.revoke" | "join" | "leave"

/** How long the answer to a confirmation waits for the admission to be written, milliseconds. */
const admittedMsMax = 10_000

export const inviteHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "invite.create": ({ role, expires, uses }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const life = expires === undefined ? settingMs(daemon.config(), "invite.expires") : parseDuration(expires)
    if (life === undefined) return yield* refuse("usage", `${expires} is no duration; expected for example 30m, 24h or 7d`)
    const expiresMs = daemon.now() + life
    const invite: Invite = {
      mesh: mesh.mesh, meshName: mesh.members.view().name, seed: randomBytes(inviteSeedBytes), issuer: mesh.vault.deviceId, role, expiresMs,
      bootstrap: settingTexts(daemon.config(), "network.bootstrap").slice(0, inviteHintsMax), lan: lanHints(mesh).slice(0, inviteHintsMax)
    }
    yield* decided(mesh, "invite.create", call, `made an invite for ${uses === 1 ? "one device" : `${uses} devices`}, good for ${formatDuration(life)}`,
      () => decideIssueInvite(mesh.situation(), { invite, uses, certificate: certifyInvite(invite) }))
    yield* Effect.promise(() => mesh.swarm.openInvite(Buffer.from(inviteKey(invite), "hex")))
    const record = mesh.members.view().invites.get(inviteKey(invite))
    if (record === undefined) return yield* refuse("failed", "the invite was recorded but does not count", "kos doctor")
    return {
      ...inviteRow(daemon, mesh, record), invite: inviteText(invite), words: inviteWords(invite), qr: renderUnicodeCompact(inviteQrText(invite))
    }
  }),

  "invite.list": ({ all }) => Effect.sync(() => {
    const mesh = daemon.mesh()
    return [...mesh.members.view().invites.values()].map((record) => inviteRow(daemon, mesh, record)).filter((row) => all || row.state === "open" || row.waiting.length > 0)
  }),

  "invite.confirm": ({ id, deny }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const candidate = yield* waitingBy(daemon, id)
    const { name, device, role, words } = candidate
    // Who let in whom, with which right, leads back to a person.
    const done = yield* mesh.dispatch.run("invite.confirm", call, [], Effect.succeed({
      summary: deny ? `turned ${name} away` : `let ${name} in as ${role}`,
      events: [{ type: "command.done/1", subject: "mesh", body: { name: "invite.confirm", detail: `${deny ? "turned away" : "confirmed"} ${name} (${device.slice(0, 8)}) as ${role}` } }]
    }))
    if (!daemon.candidates.decide(candidate, !deny)) return yield* refuse("conflict", `${name} waits no more; it has to come again with the invite`, "kos invite list")
    const admitted = !deny && (yield* until(daemon, admittedMsMax, () => mesh.members.standing(device) === "member"))
    if (!deny && !admitted) return yield* refuse("failed", `${name} was confirmed, and could not be admitted all the same`, "kos logs --level warn")
    return { name, device, role, words, admitted, ...done }
  }),

  "invite.revoke": ({ id }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    // Its topic stays open for a while: whoever comes with it is told that it was withdrawn.
    const done = yield* decided(mesh, "invite.revoke", call, `withdrew the invite ${id}`, () => decideWithdrawInvite(mesh.situation(), { invite: id }))
    for (const candidate of daemon.candidates.list()) if (candidate.invite.startsWith(id)) daemon.candidates.decide(candidate, false)
    return done
  }),

  join: ({ invite, words, timeout, name }, call) => Effect.gen(function*() {
    const joined = yield* daemon.join([invite, ...words ?? []].join(" "), { timeoutMs: timeout * 1_000, name, onWaiting: (check) => call.progress(0, -1,
      `To be ${check.role} of ${check.meshName}, compare: the other screen must show the same six words.\n\n    ${check.words}\n\nThere: kos invite list, kos invite confirm`) })
    const { mesh } = joined
    const view = mesh.members.view()
    const done = yield* mesh.dispatch.run("join", call, [], Effect.succeed({
      summary: joined.beside === undefined ? `joined ${view.name}` : `joined ${view.name}, beside ${joined.beside}; commands go there with --mesh ${view.name}`, events: [{ type: "command.done/1", subject: "mesh", body: { name: "join", detail: `joined ${view.name}, admitted by ${joined.admittedBy}` } }]
    }))
    return {
      mesh: { id: mesh.mesh, name: view.name }, role: joined.role, admittedBy: joined.admittedBy, synced: joined.synced,
      members: [...view.members.values()].filter((member) => member.standing === "member").length, ...done
    }
  }),

  leave: ({ force }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const name = mesh.members.view().name
    const others = [...peerStates(mesh).values()]
    const isLast = daemon.meshes().every((entry) => entry.id === mesh.mesh || (entry.mesh !== undefined && asFederation(entry.mesh) !== undefined))
    if (others.length === 0 && isLast) return yield* refuse("conflict", "this node is the whole mesh; there is nothing to leave")
    const safe = others.length === 0 || others.some((peer) => peer.waiting === 0)
    if (!safe && !force) {
      return yield* refuse("conflict", "events of this node have reached nobody yet; they would stay here alone", "kos sync now, or kos leave --force")
    }
    const usual = yield* daemon.leave()
    return { summary: usual === undefined ? `left ${name}; this node is a mesh of its own again, and what it held is kept` : `left ${name}, and what this node held of it is kept; commands go to ${usual}`, events: [] }
  })
})

/** By the beginning of the invite or of the candidate's key, four digits or more. */
const waitingBy = (daemon: DaemonView, id: string): Effect.Effect<WaitingCandidate, Refusal> => {
  const wanted = id.toLowerCase()
  const found = /^[0-9a-f]{4,64}$/.test(wanted) ? daemon.candidates.list().filter((each) => each.device.startsWith(wanted) || each.invite.startsWith(wanted)) : []
  const [candidate] = found
  if (candidate === undefined) return Effect.fail(refuse("not-found", `nobody waits to be confirmed with ${id}`, "kos invite list"))
  if (found.length === 1) return Effect.succeed(candidate)
  return Effect.fail(refuse("conflict", `${found.length} candidates wait with ${id}: ${found.map((each) => `${each.id} (${each.words})`).join(", ")}; name the one with your words`, "kos invite list"))
}

/** Where this node is reached on the local network, for a candidate that finds nobody by multicast. */
const lanHints = (mesh: MeshView): ReadonlyArray<string> =>
  mesh.swarm.carriers().filter((carrier) => carrier.name === "lan" && carrier.listening).flatMap((carrier) => /\b\d+\.\d+\.\d+\.\d+:\d+\b/.exec(carrier.detail)?.[0] ?? [])

/** Nobody redeems what a device that is no member any more has issued. */
const mayStillIssue = (mesh: MeshView, device: string): boolean => mesh.members.view().members.get(device)?.standing === "member"

const inviteRow = (daemon: DaemonView, mesh: MeshView, record: InviteRecord): OutputOf<"invite.list">[number] => ({
  id: record.invite.slice(0, 8), role: record.role, expires: timeText(record.expiresMs), uses: record.uses, used: record.used,
  issued: operationBy(mesh, mesh.members.operations().find((operation) => operation.says.kind === "invite.issued" && operation.says.invite === record.invite)),
  state: record.withdrawn || !mayStillIssue(mesh, record.by) ? "withdrawn" : record.used >= record.uses ? "used" : daemon.now() >= record.expiresMs ? "expired" : "open",
  waiting: daemon.candidates.list().filter(({ invite }) => invite === record.invite).map(({ id, device, name, words, since, until: end }) => ({
    id, device, name, words, since: timeText(since), until: timeText(end)
  }))
})
