/** The chunks of a source: which, in which order, where each is first. */
import { createHash } from "node:crypto"
import { sha256, type ByteSource } from "./byte-source.ts"
import { chunksOf } from "./fastcdc.ts"

export interface ChunkTable {
  /** Numbers of chunks by their hash. */
  readonly numbers: ReadonlyMap<string, number>
  /** By number: hash, bytes, first offset. */
  readonly hashes: ReadonlyArray<string>
  readonly lengths: ReadonlyArray<number>
  readonly offsets: ReadonlyArray<number>
  /** Numbers in the order of the source. */
  readonly order: ReadonlyArray<number>
  /** SHA-256 of the whole. */
  readonly whole: string
}

/** A hash as a key of a Map: 32 characters of a byte each. */
export const hashKey = (hash: Buffer): string => hash.toString("latin1")

export const keyAt = (hashes: Uint8Array, chunk: number): string => Buffer.from(hashes.buffer, hashes.byteOffset + 32 * chunk, 32).toString("latin1")

/** Reads the source once. */
export const chunkTable = async (source: ByteSource, average: number, signal: AbortSignal, onBytes?: (bytes: number) => void): Promise<ChunkTable> => {
  const numbers = new Map<string, number>()
  const [hashes, lengths, offsets, order]: [Array<string>, Array<number>, Array<number>, Array<number>] = [[], [], [], []]
  const whole = createHash("sha256")
  for await (const { offset, bytes } of chunksOf(source, average, signal)) {
    whole.update(bytes)
    const key = hashKey(sha256(bytes))
    let number = numbers.get(key)
    if (number === undefined) {
      number = hashes.push(key) - 1
      numbers.set(key, number)
      lengths.push(bytes.length)
      offsets.push(offset)
    }
    order.push(number)
    onBytes?.(offset + bytes.length)
  }
  return { numbers, hashes, lengths, offsets, order, whole: whole.digest("hex") }
}
