/**
 * CBOR (RFC 8949) as kOS writes and reads it: definite lengths, shortest integers, no tags, no undefined, no NaN, unique keys.
 * cborg is strict by itself; the options close what it leaves open. Decoded objects are plain; a key named `__proto__` becomes
 * an own property (cborg sees to that) and is refused by every schema above.
 */
import * as cborg from "cborg"
import { Result } from "effect"
import { Malformed } from "./malformed.ts"

const decodeOptions = {
  strict: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowBigInt: false,
  allowNaN: false,
  allowInfinity: false,
  rejectDuplicateMapKeys: true,
  useMaps: false
} as const

/** Depth of arrays and maps that the decoder will follow; a deeper value could exhaust the stack. */
export const cborDepthMax = 64

export const encodeCbor = (value: unknown): Uint8Array => cborg.encode(value)

export const decodeCbor = (what: string, bytes: Uint8Array): Result.Result<unknown, Malformed> => {
  if (cborDepth(bytes) > cborDepthMax) return Result.fail(new Malformed({ what, why: `nested deeper than ${cborDepthMax}` }))
  try {
    return Result.succeed(cborg.decode(bytes, decodeOptions))
  } catch (cause) {
    return Result.fail(new Malformed({ what, why: cause instanceof Error ? cause.message.slice(0, 200) : "not CBOR" }))
  }
}

/**
 * Greatest nesting of a CBOR item, found in one pass without recursion. Malformed input ends the walk early with the depth so
 * far: the decoder proper refuses it.
 */
const cborDepth = (bytes: Uint8Array): number => {
  const open: Array<number> = []
  let at = 0
  let deepest = 0
  while (at < bytes.length) {
    const head = bytes[at++] ?? 0
    const major = head >> 5
    const info = head & 31
    let count = info
    if (info >= 24) {
      if (info > 27) return deepest
      const size = 1 << (info - 24)
      count = 0
      for (let i = 0; i < size; i++) count = count * 256 + (bytes[at++] ?? 0)
    }
    if (major === 2 || major === 3) at += count
    const children = major === 4 ? count : major === 5 ? count * 2 : major === 6 ? 1 : 0
    if (children > 0) {
      open.push(children)
      if (open.length > deepest) deepest = open.length
      if (deepest > cborDepthMax) return deepest
      continue
    }
    while (open.length > 0) {
      const left = (open[open.length - 1] ?? 1) - 1
      if (left > 0) {
        open[open.length - 1] = left
        break
      }
      open.pop()
    }
  }
  return deepest
}
