/**
 * The reactor of secrets: lets the keeper take a step when something happened that may concern it, so that item keys are taken in, given on and
 * destroyed by themselves, and nothing of it waits for a person. Steps are gathered: many events make one.
 */
import { Effect, type Scope } from "effect"
import { secretKeeperOf, type NodeParts } from "../commands/secret-keeper.ts"

export interface SecretReactorParts {
  readonly node: NodeParts
  readonly now: () => number
  readonly notice: (level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
}

/** News of this long are one step, milliseconds. */
export const gatherMs = 50
/** A step is taken at least this often: rows may have been taken out by a cut-off, milliseconds. */
export const stepEveryMs = 30_000

export const startSecretReactor = ({ node, now, notice }: SecretReactorParts): Effect.Effect<void, never, Scope.Scope> => Effect.gen(function*() {
  const keeper = secretKeeperOf(node, now)
  const { tables, runner, members } = node
  let wake: (() => void) | undefined
  let wanted = true
  let seen = -1
  const want = () => {
    wanted = true
    wake?.()
  }
  const stopFolds = runner.onFold(({ documents, operations }) => {
    const { revision } = tables.secrets
    if (revision === seen && !operations && !documents.some((doc) => doc.startsWith("agents/"))) return
    seen = revision
    want()
  })
  const stopMembers = members.onChange(want)
  yield* Effect.addFinalizer(() => Effect.sync(() => {
    stopFolds()
    stopMembers()
    // A node that has left must not keep what it was given: the last step sees to it.
  }).pipe(Effect.andThen(keeper.step()), Effect.andThen(keeper.flush(true)), Effect.ignoreCause))
  const rest = (ms: number) => Effect.callback<void>((resume) => {
    const timer = setTimeout(() => resume(Effect.void), ms)
    wake = () => {
      clearTimeout(timer)
      resume(Effect.void)
    }
    if (wanted) wake()
    return Effect.sync(() => clearTimeout(timer))
  }).pipe(Effect.ensuring(Effect.sync(() => { wake = undefined })))
  const step = Effect.suspend(() => {
    wanted = false
    return keeper.step()
  }).pipe(
    Effect.tap(() => keeper.flush(false)),
    Effect.catchCause((cause) => Effect.sync(() => {
      notice("warn", "secrets could not be looked after", { cause: String(cause).slice(0, 300) })
      return stepEveryMs
    }))
  )
  yield* Effect.forever(Effect.gen(function*() {
    const again = yield* step
    yield* rest(Math.min(stepEveryMs, Math.max(gatherMs, again ?? stepEveryMs)))
    yield* Effect.sleep(gatherMs)
  })).pipe(Effect.forkScoped)
})
