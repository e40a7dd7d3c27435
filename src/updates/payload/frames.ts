/** Frames: chunks compressed together, about 1 MiB of them, so that a few chunks can be had without the whole pack. */
import { open, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { constants, zstdCompress, zstdDecompress } from "node:zlib"
import type { PackRef, Range } from "../ports.ts"
import { sha256, writeExactly, type ByteSource } from "./byte-source.ts"
import { hashKey, type ChunkTable } from "./chunk-table.ts"
import { frameSizeMax } from "./index-file.ts"
import { PayloadError, type Frame, type Place } from "./payload.ts"
import { hashPieces } from "./torrent.ts"

const compress = promisify(zstdCompress)
const decompress = promisify(zstdDecompress)

/** Bytes of a frame when unpacked; a chunk that is larger is a frame of its own. */
export const frameRaw = 1_048_576
const levelOfChunks = 9
/** Level 9 misses most of what lies far back in a dictionary of 4 MiB; 12 finds it. */
const levelOfPatch = 12
const windowOfPatch = 23
/** Frames being compressed at one time. */
const compressionsMax = 2

/** A frame to be made. */
export interface FramePlan {
  readonly chunks: ReadonlyArray<number>
  readonly dictionary: Range | undefined
}

export const unpackFrame = (packed: Uint8Array, raw: number, dictionary: Buffer | undefined): Promise<Buffer> =>
  // R1.7: never more than the index says.
  decompress(packed, { maxOutputLength: raw, chunkSize: Math.max(64, raw), ...(dictionary === undefined ? {} : { dictionary }) })

/** Writes a pack into `out` under its SHA-256. The chunks are read again, and checked against what was read the first time. */
export const writePack = async (
  plans: ReadonlyArray<FramePlan>, table: ChunkTable, source: ByteSource, base: ByteSource | undefined, out: string, signal: AbortSignal
): Promise<{ readonly ref: PackRef; readonly file: string; readonly frames: ReadonlyArray<Frame> }> => {
  const temporary = join(out, "pack.new")
  const handle = await open(temporary, "w")
  const frames: Array<Frame> = []
  try {
    const waiting: Array<Promise<{ readonly packed: Buffer; readonly raw: number; readonly plan: FramePlan; readonly places: ReadonlyArray<Place> }>> = []
    let offset = 0
    const writeFirst = async (): Promise<void> => {
      const done = await waiting.shift()
      if (done === undefined) return
      await writeExactly(handle, offset, done.packed)
      frames.push({ offset, size: done.packed.length, raw: done.raw, dictionary: done.plan.dictionary, places: done.places })
      offset += done.packed.length
    }
    for (const plan of plans) {
      signal.throwIfAborted()
      const { raw, places } = await readChunks(plan.chunks, table, source)
      const dictionary = plan.dictionary === undefined || base === undefined ? undefined : Buffer.allocUnsafe(plan.dictionary.length)
      if (dictionary !== undefined) await base?.read(plan.dictionary?.offset ?? 0, dictionary)
      const packing = pack(raw, dictionary).then((packed) => ({ packed, raw: raw.length, plan, places }))
      packing.catch(() => undefined)
      waiting.push(packing)
      if (waiting.length >= compressionsMax) await writeFirst()
    }
    while (waiting.length > 0) await writeFirst()
    await handle.sync()
  } catch (cause) {
    await handle.close()
    await rm(temporary, { force: true })
    throw cause
  }
  await handle.close()
  const ref = await hashPieces(temporary)
  const file = join(out, ref.sha256)
  await rename(temporary, file)
  return { ref, file, frames }
}

const pack = (raw: Buffer, dictionary: Buffer | undefined): Promise<Buffer> => dictionary === undefined
  ? compress(raw, { chunkSize: frameSizeMax(raw.length), params: { [constants.ZSTD_c_compressionLevel]: levelOfChunks }, pledgedSrcSize: raw.length })
  : compress(raw, { dictionary, chunkSize: frameSizeMax(raw.length), params: { [constants.ZSTD_c_compressionLevel]: levelOfPatch, [constants.ZSTD_c_windowLog]: windowOfPatch } })

const readChunks = async (chunks: ReadonlyArray<number>, table: ChunkTable, source: ByteSource): Promise<{ readonly raw: Buffer; readonly places: ReadonlyArray<Place> }> => {
  let length = 0
  const places = chunks.map((chunk): Place => {
    const offset = length
    length += table.lengths[chunk] ?? 0
    return { chunk, offset }
  })
  const raw = Buffer.allocUnsafe(length)
  for (let at = 0; at < places.length;) {
    // Chunks that follow each other in the source are read at once.
    const first = places[at]
    if (first === undefined) break
    const from = table.offsets[first.chunk] ?? 0
    let size = 0
    for (let place = places[at]; place !== undefined && table.offsets[place.chunk] === from + size; place = places[at]) {
      size += table.lengths[place.chunk] ?? 0
      at += 1
    }
    await source.read(from, raw.subarray(first.offset, first.offset + size))
  }
  for (const { chunk, offset } of places) {
    if (hashKey(sha256(raw.subarray(offset, offset + (table.lengths[chunk] ?? 0)))) !== table.hashes[chunk]) {
      throw new PayloadError({ reason: "changed-source", detail: `The source changed at byte ${table.offsets[chunk] ?? 0} while it was packed.` })
    }
  }
  return { raw, places }
}
