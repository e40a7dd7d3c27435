import { Effect, Semaphore } from "effect"

/** Mutual exclusion by name. Names are taken in sorted order, so two callers that want the same ones cannot wait for each other. */
export class KeyedLock {
  readonly #held = new Map<string, { readonly semaphore: Semaphore.Semaphore; users: number }>()

  with<A, E, R>(keys: ReadonlyArray<string>, work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return [...new Set(keys)].toSorted().reduceRight<Effect.Effect<A, E, R>>((inner, key) => this.#one(key, inner), work)
  }

  #one<A, E, R>(key: string, work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      let entry = this.#held.get(key)
      if (entry === undefined) this.#held.set(key, entry = { semaphore: Semaphore.makeUnsafe(1), users: 0 })
      const held = entry
      held.users++
      return held.semaphore.withPermits(1)(work).pipe(Effect.ensuring(Effect.sync(() => {
        held.users--
        if (held.users === 0) this.#held.delete(key)
      })))
    })
  }
}
