/**
 * Federations that nobody asks for by hand: two meshes that both have `mesh.autopeer` on find each other and share names. Off by default.
 *
 * **How two meshes find each other.** One invite is known to everybody: its seed is a hash of a public label and of the shared kinds, so it proves
 * nothing but a willingness. The node that acts for a mesh keeps one federation open that a single other mesh may enter with this invite, and every
 * minute or so looks whether somebody else keeps one open. Whoever comes in is a federation like any other: it shares names, is listed, and is ended by command.
 *
 * **Who acts.** Of the admins and owners in touch with each other the one with the lowest device key. When the setting goes off, what is
 * only offered is ended; federations that came about stay until somebody ends them.
 *
 * **Tricky cases.**
 * - *Both find each other at the same time:* of two such federations with one mesh the one with the greater id is ended, by both sides alike.
 * - *The same mesh is met again:* an offered federation is called by its mesh's id, so a candidate turns away before it has said who it is.
 * - *A federation was ended by a person:* the two meshes do not find each other again by themselves.
 * - *A stranger enters what is offered:* it sees the names. That is what the setting allows.
 */
import { Effect, Result, type Scope } from "effect"
import { utf8 } from "../codec/bytes.ts"
import { hashParts } from "../codec/hash.ts"
import { certifyInvite, inviteKey, inviteSeedBytes, inviteWords } from "../codec/invite.ts"
import { manages } from "../codec/membership/rules.ts"
import { randomBytes } from "../codec/signature.ts"
import { decideBegin, endedEvent } from "../commands/decide-federation.ts"
import { decideIssueInvite } from "../commands/decide-membership.ts"
import { operationEvents } from "../commands/membership-events.ts"
import { Refusal } from "../commands/refusal.ts"
import { settingFlag } from "../projections/families/config-view.ts"
import { asFederation, type Federation, federationsOf, newest, receivedRows } from "../projections/federation.ts"
import { type FederationParts, nodeNameOf } from "./federation.ts"
import type { MeshNode } from "./mesh-node.ts"
import type { Runtime } from "./mesh-runtime.ts"

/** Federations that one mesh makes by itself, the offered one counted. */
export const autopeersMax = 4
/** What is shared with meshes that are found so. */
export const autopeerKinds = ["names"] as const
const offeredMs = 30 * 24 * 3_600_000
const tickMs = 2_000
const lookEveryMs = 60_000
const lookMs = 10_000

/** Known to everybody. */
export const autopeerSeed = hashParts("kos/autopeer/1", ...autopeerKinds.map(utf8)).subarray(0, inviteSeedBytes)

const prefix = "auto "
const offeredName = (home: MeshNode): string => `${prefix}${home.mesh.slice(0, 16)} ${home.members.view().name.slice(0, 40)}`
/** First digits of the id of the mesh that made a federation of this name. */
const maker = (name: string): string | undefined => /^auto ([0-9a-f]{16})(?: |$)/.exec(name)?.[1]

export const startAutopeer = (parts: FederationParts): Effect.Effect<void, never, Scope.Scope> => Effect.gen(function*() {
  const { now, notice, runtimes } = parts
  const looked = new Map<string, number>()

  interface Auto {
    readonly federation: Federation
    readonly inside: MeshNode
  }
  /** Those that this home made or entered by itself for this mesh and that are open. */
  const autosOf = (home: MeshNode): ReadonlyArray<Auto> => federationsOf(home).filter(({ ended, bridges }) => ended === undefined && bridges.has(home.vault.deviceId)).flatMap((federation) => {
    const inside = runtimes().find((other) => other.node().mesh === federation.id)?.node()
    return inside === undefined || maker(inside.members.view().name) === undefined ? [] : [{ federation, inside }]
  })
  const end = (home: MeshNode, federation: Federation, why: string) => home.dispatch.record([endedEvent(federation.id, why)])
  const begin = (home: MeshNode, federation: string) => Effect.suspend(() => {
    const events = decideBegin(home.members.view(), home.vault.deviceId, federationsOf(home), { federation, shares: autopeerKinds })
    return events instanceof Refusal ? Effect.fail(events) : home.dispatch.record(events)
  })

  const offer = (runtime: Runtime) => Effect.gen(function*() {
    const home = runtime.node()
    const inside = (yield* parts.create(runtime, offeredName(home), nodeNameOf(home.members.view().name))).node()
    const invite = {
      mesh: inside.mesh, meshName: inside.members.view().name, seed: autopeerSeed, issuer: inside.vault.deviceId, role: "member" as const, expiresMs: now() + offeredMs, bootstrap: [], lan: []
    }
    const issued = decideIssueInvite(inside.situation(), { invite, uses: 1, certificate: certifyInvite(invite) })
    if (Result.isFailure(issued)) return yield* issued.failure
    yield* inside.dispatch.record([
      { type: "federation.begun/1", subject: `federation/${inside.mesh}`, body: { federation: inside.mesh, shares: [] } }, ...operationEvents(inside.vault, issued.success)
    ])
    yield* Effect.promise(() => inside.swarm.openInvite(Buffer.from(inviteKey(invite), "hex")))
    yield* begin(home, inside.mesh)
  })

  const look = (runtime: Runtime, known: ReadonlySet<string>) => Effect.gen(function*() {
    const home = runtime.node()
    const found = yield* parts.join(runtime, inviteWords({ seed: autopeerSeed }), lookMs, nodeNameOf(home.members.view().name), (_mesh, name) => {
      const other = maker(name)
      return other === undefined ? "no mesh that looks for others" : known.has(other) ? name : undefined
    }).pipe(Effect.option)
    if (found._tag === "None") return
    const { mesh } = found.value
    if (asFederation(mesh)?.ended !== false) return yield* parts.drop(mesh.mesh)
    yield* begin(home, mesh.mesh)
    notice("info", `${home.members.view().name} federates by itself: ${mesh.members.view().name}`, { federation: mesh.mesh })
  })

  const step = (runtime: Runtime) => Effect.gen(function*() {
    const home = runtime.node()
    if (asFederation(home) !== undefined) return
    const isOn = settingFlag(runtime.settings.get(), "mesh.autopeer")
    const autos = isOn || home.tables.federations.said().length > 0 ? autosOf(home) : []
    const offered = autos.filter(({ inside }) => inside.members.view().members.size === 1)
    if (!isOn || !actsFor(home)) return yield* Effect.forEach(isOn ? [] : offered, ({ federation }) => end(home, federation, "mesh.autopeer is off"), { discard: true })
    for (const { federation, inside } of offered) {
      if ([...inside.members.view().invites.values()].every(({ expiresMs }) => now() >= expiresMs)) return yield* end(home, federation, "nobody came")
    }
    const partners = new Set<string>()
    for (const { federation } of [...autos].sort((a, b) => (a.federation.id < b.federation.id ? -1 : 1))) {
      if (federation.others.some(({ id }) => partners.has(id))) return yield* end(home, federation, "there is another one with the same mesh")
      for (const { id } of federation.others) partners.add(id)
    }
    if (offered.length === 0 && autos.length < autopeersMax) yield* offer(runtime)
    if (autos.length >= autopeersMax + 1) return
    const due = looked.get(home.mesh) ?? 0
    if (now() < due) return
    // Two meshes that were set up together should not look in step for ever.
    looked.set(home.mesh, now() + lookEveryMs / 2 + (randomBytes(1)[0] ?? 0) / 256 * lookEveryMs)
    // Whoever was met before is not met again by itself: it stands already, or somebody ended it.
    const met = federationsOf(home).flatMap(({ id }) => newest(receivedRows(home, id), "mesh").map(({ mesh }) => mesh.slice(0, 16)))
    yield* look(runtime, new Set([home.mesh.slice(0, 16), ...met]))
  })

  yield* Effect.forever(Effect.sleep(tickMs).pipe(Effect.andThen(Effect.forEach([...runtimes()], (runtime) => step(runtime).pipe(
    Effect.catchCause((cause) => Effect.sync(() => notice("warn", "looking for other meshes did not work", { cause: String(cause).slice(0, 300) })))
  ), { discard: true })))).pipe(Effect.forkScoped)
})

/** One node of a mesh is enough: of the admins and owners in touch the one with the lowest device key. */
const actsFor = ({ members, swarm, vault }: MeshNode): boolean => {
  const view = members.view().members
  const may = (device: string): boolean => {
    const member = view.get(device)
    return member?.standing === "member" && manages(member.role)
  }
  return may(vault.deviceId) && !swarm.sessions().some(({ phase, device }) => phase === "ready" && device < vault.deviceId && may(device))
}
