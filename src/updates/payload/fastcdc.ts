/**
 * FastCDC (Xia and others, USENIX ATC 2016) with normalised chunking: a boundary depends on the 32 bytes before it, so that an insertion
 * moves the boundaries next to it only. The table and the masks are part of the format: other ones find no old chunk again.
 */
import { createHash } from "node:crypto"
import type { ByteSource } from "./byte-source.ts"

export interface Chunk {
  readonly offset: number
  /** Valid until the next one is asked for. */
  readonly bytes: Buffer
}

/** Averages that an index may name: powers of two, bytes. */
export const averageMin = 16_384
export const averageMax = 262_144
/** A chunk has a quarter of the average at least, except the last one, and four averages at most. */
export const chunkBytesMax = 4 * averageMax

/** The chunks of a source, in order. Holds four averages and a block of 1 MiB. */
export async function* chunksOf(source: ByteSource, average: number, signal: AbortSignal): AsyncGenerator<Chunk> {
  const max = 4 * average
  const buffer = Buffer.allocUnsafe(max + 1_048_576)
  let [start, end, read] = [0, 0, 0]
  while (start < end || read < source.length) {
    if (end - start < max && read < source.length) {
      buffer.copyWithin(0, start, end)
      end -= start
      start = 0
      const size = Math.min(buffer.length - end, source.length - read)
      signal.throwIfAborted()
      await source.read(read, buffer.subarray(end, end + size))
      read += size
      end += size
    }
    const length = cut(buffer, start, end, average)
    yield { offset: read - end + start, bytes: buffer.subarray(start, start + length) }
    start += length
  }
}

/** Bytes of the chunk that begins at `start`; what is left when no boundary comes. */
export const cut = (bytes: Uint8Array, start: number, end: number, average: number): number => {
  const bits = 31 - Math.clz32(average)
  const [strict, loose] = [highBits(bits + 2), highBits(bits - 2)]
  const normal = Math.min(end, start + average)
  const last = Math.min(end, start + 4 * average)
  let at = start + (average >> 2)
  if (at >= last) return last - start
  let hash = 0
  for (; at < normal; at++) {
    hash = ((hash << 1) + (gear[bytes[at] ?? 0] ?? 0)) | 0
    if ((hash & strict) === 0) return at + 1 - start
  }
  for (; at < last; at++) {
    hash = ((hash << 1) + (gear[bytes[at] ?? 0] ?? 0)) | 0
    if ((hash & loose) === 0) return at + 1 - start
  }
  return last - start
}

const highBits = (bits: number): number => -1 << (32 - bits)

/** The first four bytes of SHA-256 of `kos gear N`. */
const gear = Int32Array.from({ length: 256 }, (_, n) => createHash("sha256").update(`kos gear ${n}`).digest().readInt32LE())
