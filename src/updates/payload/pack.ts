/**
 * The publisher's side: what of a payload is new, packed; everything else by reference to packs of earlier releases.
 *
 * The source is read once to know its chunks, then again for each pack. Packs are append-only: a chunk is packed when no pack of an earlier
 * index has it. The same source and the same earlier indexes give the same bytes with one version of zstd. Pack files are named by
 * their SHA-256 when they are whole.
 */
import { Result } from "effect"
import { mkdir, rm } from "node:fs/promises"
import { sha256, type ByteSource } from "./byte-source.ts"
import { chunkTable, keyAt, type ChunkTable } from "./chunk-table.ts"
import { diskError } from "./disk-error.ts"
import { averageMax } from "./fastcdc.ts"
import { frameRaw, writePack, type FramePlan } from "./frames.ts"
import { chunksMax, decodeIndex, encodeIndex, indexBytesMax, packsMax, payloadBytesMax, placesMax } from "./index-file.ts"
import { patchPlans } from "./patch-plan.ts"
import { PayloadError, type Frame, type IndexPack, type MadePayload, type MakePayloadOptions, type PayloadIndex, type Place } from "./payload.ts"
import { openSource } from "./source.ts"

/** What a patch may be of the pack of new chunks, else it is dropped: a device that fetches it serves nobody on another version. */
const patchShareMax = 0.75
/** Three packs may come with this release. */
const keptPacksMax = packsMax - 3
/** Chunks that an index should have at most: 80,000 are 3 MiB of index. */
const chunksAimed = 80_000

export const makePayload = async (options: MakePayloadOptions): Promise<MadePayload> => {
  const { source: from, signal } = options
  const earlier = options.earlier.map(decoded)
  const opened: Array<ByteSource> = []
  try {
    await mkdir(options.out, { recursive: true })
    const source = await openSource(from, signal)
    opened.push(source)
    if (source.length > payloadBytesMax) throw new PayloadError({ reason: "too-large", detail: `${from.path} makes a payload of ${source.length} bytes; ${payloadBytesMax} is the most.` })
    const average = averageFor(source.length, earlier.at(-1)?.average)
    const table = await chunkTable(source, average, signal, (bytes) => options.onProgress?.({ bytes, of: source.length }))
    if (table.order.length > chunksMax) throw new PayloadError({ reason: "too-large", detail: `${from.path} makes ${table.order.length} chunks; ${chunksMax} is the most.` })
    const kept = keptPacks(earlier, table)
    const packed = new Set(kept.flatMap(({ frames }) => frames.flatMap(({ places }) => places.map(({ chunk }) => chunk))))
    const all = table.hashes.map((_, chunk) => chunk)
    const fresh = all.filter((chunk) => !packed.has(chunk))
    const packs: Array<IndexPack> = [...kept]
    const made: Array<MadePayload["packs"][number]> = []
    const add = async (kind: IndexPack["kind"], plans: ReadonlyArray<FramePlan>, base?: { readonly source: ByteSource; readonly of: NonNullable<IndexPack["base"]> }): Promise<void> => {
      const { ref, file, frames } = await writePack(plans, table, source, base?.source, options.out, signal)
      const chunksPack = packs.at(-1)
      if (kind === "patch" && chunksPack?.kind === "chunks" && ref.length >= patchShareMax * chunksPack.ref.length) return rm(file)
      // A full pack of a first release is its chunks pack over again.
      if (packs.some((pack) => pack.ref.sha256 === ref.sha256)) return
      packs.push({ ref, kind, base: base?.of, frames })
      made.push({ ref, file, kind })
    }
    if (fresh.length > 0) await add("chunks", framePlans(fresh, table))
    if (options.patchFrom !== undefined && fresh.length > 0) {
      const index = decoded(options.patchFrom.index)
      const base = await openSource({ form: index.payload.form, path: options.patchFrom.path }, signal)
      opened.push(base)
      const baseTable = await chunkTable(base, average, signal)
      if (baseTable.whole !== index.payload.sha256) throw new PayloadError({ reason: "unfit-source", detail: `${options.patchFrom.path} is not the payload of the index that was given with it.` })
      const of = { release: sha256(options.patchFrom.index).toString("hex"), sha256: baseTable.whole, length: base.length }
      const plans = patchPlans({ source, table, base, baseTable })
      if (plans.length > 0) await add("patch", plans, { source: base, of })
    }
    if (options.full === true && fresh.length < all.length) await add("full", framePlans(all, table))
    const payload = { form: from.form, length: source.length, sha256: table.whole }
    const index = encodeIndex({
      payload, average, packs, hashes: Buffer.concat(table.hashes.map((hash) => Buffer.from(hash, "latin1"))),
      lengths: Uint32Array.from(table.lengths), order: Uint32Array.from(table.order)
    })
    if (index.length > indexBytesMax) throw new PayloadError({ reason: "too-large", detail: `The index has ${index.length} bytes; ${indexBytesMax} is the most.` })
    // Checked after making, as every device will before use.
    decoded(index)
    return { index, packs: made, payload, unpackedBytes: source.entries?.reduce((sum, { length }) => sum + length, 0) ?? source.length }
  } catch (cause) {
    throw diskError(cause, `Packing ${from.path}`, signal)
  } finally {
    for (const source of opened) await source.close()
  }
}

/** Frames of chunks in this order. */
export const framePlans = (chunks: ReadonlyArray<number>, table: Pick<ChunkTable, "lengths">): ReadonlyArray<FramePlan> => {
  const plans: Array<{ readonly chunks: Array<number>; readonly dictionary: undefined }> = []
  let raw = Number.POSITIVE_INFINITY
  for (const chunk of chunks) {
    const length = table.lengths[chunk] ?? 0
    if (raw + length > frameRaw) {
      plans.push({ chunks: [], dictionary: undefined })
      raw = 0
    }
    plans.at(-1)?.chunks.push(chunk)
    raw += length
  }
  return plans
}

/** What the releases before used, as long as it fits: another average finds none of their chunks. */
const averageFor = (length: number, before: number | undefined): number => {
  let average = before ?? 65_536
  while (length / average > chunksAimed && average < averageMax) average *= 2
  return average
}

const decoded = (bytes: Uint8Array): PayloadIndex => {
  const index = decodeIndex(bytes)
  if (Result.isFailure(index)) throw new PayloadError({ reason: "malformed", detail: index.failure.message })
  return index.success
}

interface KeptPack {
  readonly pack: IndexPack
  readonly order: number
  readonly frames: Map<number, { readonly frame: Frame; readonly places: Map<number, Place> }>
  bytes: number
}

/**
 * Packs of earlier releases that have chunks of this payload. Of full packs the newest only. One index names only the chunks of a pack that its own
 * payload has, so that what several say of one pack is put together. When there are too many, those with the least bytes go, and their chunks are new again.
 */
const keptPacks = (earlier: ReadonlyArray<PayloadIndex>, table: ChunkTable): ReadonlyArray<IndexPack> => {
  const newestFull = earlier.flatMap(({ packs }) => packs).findLast(({ kind }) => kind === "full")?.ref.sha256
  const found = new Map<string, KeptPack>()
  const placed = new Set<number>()
  let places = 0
  for (const { packs, hashes } of earlier) {
    for (const pack of packs) {
      if (pack.kind === "patch" || (pack.kind === "full" && pack.ref.sha256 !== newestFull)) continue
      for (const frame of pack.frames) {
        for (const place of frame.places) {
          const chunk = table.numbers.get(keyAt(hashes, place.chunk))
          if (chunk === undefined) continue
          const kept = found.get(pack.ref.sha256) ?? { pack, order: found.size, frames: new Map(), bytes: 0 }
          const known = kept.frames.get(frame.offset) ?? { frame, places: new Map<number, Place>() }
          if (known.places.has(chunk) || (pack.kind === "chunks" && placed.has(chunk)) || places >= placesMax / 2) continue
          if (pack.kind === "chunks") placed.add(chunk)
          known.places.set(chunk, { chunk, offset: place.offset })
          places += 1
          kept.bytes += table.lengths[chunk] ?? 0
          kept.frames.set(frame.offset, known)
          found.set(pack.ref.sha256, kept)
        }
      }
    }
  }
  return [...found.values()].sort((a, b) => b.bytes - a.bytes || a.order - b.order).slice(0, keptPacksMax).sort((a, b) => a.order - b.order)
    .map(({ pack, frames }): IndexPack => ({
      ref: pack.ref, kind: pack.kind, base: undefined,
      frames: [...frames.values()].sort((a, b) => a.frame.offset - b.frame.offset)
        .map(({ frame, places }) => ({ ...frame, places: [...places.values()].sort((a, b) => a.offset - b.offset) }))
    }))
}
