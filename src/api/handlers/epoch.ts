/** Changing the key that this mesh writes under, by command and by the reactor. */
import { Effect } from "effect"
import { randomBytes } from "../../codec/signature.ts"
import type { Unsigned } from "../../codec/operation.ts"
import { decideRotate, type EpochNeed, decideEpochNeed } from "../../commands/decide-epoch.ts"
import type { Decision } from "../../commands/decide-membership.ts"
import type { Asker, Done } from "../../commands/dispatch.ts"
import { readersOf } from "../../commands/epoch-statements.ts"
import { membershipLock, operationEvents, signed } from "../../commands/membership-events.ts"
import type { Refusal } from "../../commands/refusal.ts"
import type { MeshView } from "../node.ts"

export interface Rotated extends Done {
  /** Number of the epoch that is in force now. */
  readonly epoch: number
  /** Devices that may read, and the secret on paper when there is one: all of them were given the key. */
  readonly readers: number
}

/** `kos key rotate`: a new key for everything that is written from now on, sealed to all who may read now. Admins and owners. */
export const rotateEpoch = (mesh: MeshView, call: Asker): Effect.Effect<Rotated, Refusal> => keepEpoch(mesh, "key.rotate", call, () =>
  [decideRotate(mesh.situation(), { newKey: randomBytes(32) }), "made a new key for what is written from now on"]
).pipe(Effect.map((done) => ({ ...done, epoch: mesh.keyring.current?.epoch ?? 0, readers: readersOf(mesh.members.view()).length })))

/** What the reactor does about a need; `need` is asked again while nothing can change it. */
export const meetEpochNeed = (mesh: MeshView, call: Asker, need: () => EpochNeed | undefined): Effect.Effect<Done, Refusal> => keepEpoch(mesh, "epoch.keep", call, () => {
  const found = need()
  if (found === undefined) return undefined
  const decided = decideEpochNeed(mesh.situation(), found, randomBytes(32))
  return [decided, found._tag === "Rotate" ? `made a new key: ${found.why}` : "shared keys"]
})

const keepEpoch = (
  mesh: MeshView, name: string, call: Asker, decide: () => readonly [Decision, string] | undefined
): Effect.Effect<Done, Refusal> => mesh.dispatch.run(name, call, [membershipLock], Effect.suspend(() => {
  const [decided, summary] = decide() ?? []
  if (decided === undefined || summary === undefined) return Effect.succeed({ summary: "nothing to change", events: [] })
  return Effect.map(Effect.fromResult(decided), (drafts) => {
    if (!mesh.journal.canAppend()) takeFirst(mesh, drafts)
    return { summary, events: operationEvents(mesh.vault, drafts) }
  })
}))

/**
 * An admin that holds no key at all, as after a restoration, could not write down the rotation that gives it one. So the operation counts here
 * before it stands in the log, as one that was met, and the frame that holds it is sealed under the key that it brings. Should the
 * append fail, it is written at the next start, like every operation of this node that its log lacks.
 */
const takeFirst = (mesh: MeshView, drafts: ReadonlyArray<Unsigned>): void => {
  mesh.tables.transaction(() => {
    for (const draft of drafts) mesh.members.take(signed(mesh.vault, draft), "met")
  })
  mesh.members.changed()
}
