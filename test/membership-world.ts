import { Result } from "effect"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import { hashParts } from "../src/codec/hash.ts"
import { type Operation, signOperation, type Unsigned } from "../src/codec/operation.ts"
import { type KeyPair, keyPairFromSeed } from "../src/codec/signature.ts"
import type { Membership } from "../src/projections/membership.ts"

/** Small and seeded (mulberry32); good enough to shuffle tests. */
export const chance = (seed: number) => {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let z = state
    z = Math.imul(z ^ (z >>> 15), z | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return ((z ^ (z >>> 14)) >>> 0) / 4_294_967_296
  }
  const below = (count: number): number => Math.floor(next() * count)
  const pick = <A>(list: ReadonlyArray<A>): A => {
    const value = list[below(list.length)]
    if (value === undefined) throw new Error("nothing to pick from")
    return value
  }
  const shuffle = <A>(list: ReadonlyArray<A>): Array<A> => {
    const out = [...list]
    for (let i = out.length - 1; i > 0; i--) {
      const j = below(i + 1)
      const [a, b] = [out[i], out[j]]
      if (a !== undefined && b !== undefined) [out[i], out[j]] = [b, a]
    }
    return out
  }
  return { next, below, pick, shuffle }
}

export const key = (name: string): string => toHex(hashParts("test", utf8(name)))
export const keyPair = (name: string): KeyPair => keyPairFromSeed(hashParts("test", utf8(name)))
export const deviceOf = (name: string): string => toHex(keyPair(name).publicKey)

export const must = <A, E>(result: Result.Result<A, E>): A => {
  if (Result.isFailure(result)) throw new Error(String(result.failure instanceof Error ? result.failure.message : JSON.stringify(result.failure)))
  return result.success
}
export const mustFail = <A, E>(result: Result.Result<A, E>): E => {
  if (Result.isSuccess(result)) throw new Error("it succeeded")
  return result.failure
}

export const signed = (drafts: ReadonlyArray<Unsigned>, name: string): ReadonlyArray<Operation> =>
  drafts.map((draft) => must(signOperation(draft, keyPair(name))))

/** As if it had been signed and opened: for graphs of thousands. */
export const unsignedOperation = (draft: Unsigned, proven = true, holds = false): Operation => ({ ...draft, bytes: draft.content, proven, holds })

/** One text for equal views. */
export const viewText = (view: Membership): string => JSON.stringify({
  ...view, members: [...view.members], invites: [...view.invites], devices: [...view.devices]
})
