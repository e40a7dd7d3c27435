/**
 * Approvals: carries out what was approved, and has the settings read anew when a word on a proposal arrives after the change that it allowed.
 *
 * The command that gives the last approval carries the proposal out itself. Here is what is left: approvals that were given apart and
 * met later. Whose approval came last by the stamps does it at once; who asked does it when that one has not after a while. Both at once
 * do no harm: both write what was proposed, and it counts as one decision.
 */
import { Effect, type Scope } from "effect"
import { addressText } from "../codec/address.ts"
import { carriersOut } from "../commands/decide-approval.ts"
import type { MeshNode } from "./mesh-node.ts"
import type { SettingsView } from "./settings-view.ts"

/** How long who asked waits for whose approval came last, milliseconds. */
export const askerWaitMs = 10_000

export interface ApprovalReactorParts {
  readonly node: MeshNode
  readonly settings: SettingsView
  readonly now: () => number
  readonly notice: (level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
}

export const startApprovalReactor = ({ node, settings, now, notice }: ApprovalReactorParts): Effect.Effect<void, never, Scope.Scope> => Effect.gen(function*() {
  const { tables, runner, dispatch, members, vault } = node
  const since = new Map<string, number>()
  // What could not be made will not be made by trying again: only when the members changed.
  const failed = new Set<string>()
  let wake: (() => void) | undefined
  let wanted = true
  const look = () => {
    wanted = true
    wake?.()
  }
  const stopFolds = runner.onFold(({ first, last, operations }) => {
    const spoken = last > 0 && tables.events.query({ types: ["approval.*", "policy.*"], arrivalMin: first, arrivalMax: last, order: "newest", limit: 1 }).events.length > 0
    if (spoken) settings.refresh(node)
    if (operations) failed.clear()
    if (spoken || operations) look()
  })
  yield* Effect.addFinalizer(() => Effect.sync(stopFolds))
  /** Milliseconds until this should be looked at again; undefined: when something comes. */
  const work = Effect.gen(function*() {
    let again: number | undefined
    const seen = new Set<string>()
    for (const standing of dispatch.policy.proposals(now())) {
      if (standing.state !== "approved") continue
      const id = addressText(standing.proposal)
      seen.add(id)
      if (failed.has(id)) continue
      const { last, asker } = carriersOut(standing)
      if (last !== vault.deviceId) {
        if (asker !== vault.deviceId) continue
        const waited = now() - (since.get(id) ?? now())
        if (!since.has(id)) since.set(id, now())
        if (waited >= 0 && waited < askerWaitMs) {
          again = Math.min(again ?? askerWaitMs, askerWaitMs - waited)
          continue
        }
      }
      yield* dispatch.applyApproved(standing.proposal).pipe(
        Effect.tap(() => Effect.sync(() => notice("info", `an approved change took effect: ${standing.proposal.summary}`))),
        Effect.catch((refusal) => Effect.sync(() => {
          failed.add(id)
          notice("warn", `an approved change could not be made: ${refusal.message}`, { proposal: id, by: members.nameOf(vault.deviceId) })
        }))
      )
    }
    for (const id of since.keys()) if (!seen.has(id)) since.delete(id)
    return again
  })
  yield* Effect.forever(Effect.gen(function*() {
    wanted = false
    const again = yield* work.pipe(Effect.catchCause((cause) => Effect.sync(() => {
      notice("warn", "approvals could not be looked at", { cause: String(cause).slice(0, 300) })
      return askerWaitMs
    })))
    const woken = Effect.callback<void>((resume) => {
      wake = () => resume(Effect.void)
      if (wanted) wake()
      return Effect.sync(() => { wake = undefined })
    })
    yield* again === undefined ? woken : Effect.raceFirst(woken, Effect.sleep(again))
  })).pipe(Effect.forkScoped)
})
