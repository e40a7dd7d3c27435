import { Cause, Effect, Exit, Layer, type Scope } from "effect"
import t, { type Test } from "tap"

/** Runs one effect as a tap test: fresh layer, own scope, failures thrown with their stack. */
export const effectTest = <R, E>(
  name: string, layer: Layer.Layer<R, E>, body: (t: Test) => Effect.Effect<void, unknown, R | Scope.Scope>
): void => {
  void t.test(name, async (t) => {
    const exit = await Effect.runPromiseExit(Effect.suspend(() => body(t)).pipe(Effect.scoped, Effect.provide(Layer.fresh(layer))))
    if (Exit.isFailure(exit)) throw Cause.squash(exit.cause)
  })
}
