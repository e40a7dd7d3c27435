/** What a device would ask of packs, before it asks. */
import type { Range } from "../ports.ts"
import type { FetchPlan, Frame, IndexPack, PayloadIndex } from "./payload.ts"

/** Bytes between two ranges that are fetched rather than left out. */
const gapMax = 65_536
/** Bytes that are left free beside everything. */
const reserveBytes = 64 * 1_048_576

/** Frames of one pack. */
export interface Wanted {
  readonly pack: IndexPack
  readonly frames: ReadonlyArray<Frame>
}

/** One way to have the missing chunks: packs in the order in which they are asked. */
export type Way = ReadonlyArray<IndexPack>

/**
 * R3.2: a patch, the packs, the full pack. A device that lacks so much that the full pack alone is less than its share of many packs takes that one
 * first; the others stay the way after it.
 */
export const waysOf = (index: PayloadIndex, missing: ReadonlySet<number>, bases: ReadonlySet<string>): ReadonlyArray<Way> => {
  const patches = index.packs.filter(({ kind, base }) => kind === "patch" && base !== undefined && bases.has(base.sha256))
  const chunks = index.packs.filter(({ kind }) => kind === "chunks")
  const full = index.packs.filter(({ kind }) => kind === "full")
  const rest = after(missing, patches)
  const [small, large] = [[...chunks, ...full], [...full, ...chunks]]
  const largeFirst = full.length > 0 && costOf(wantedOf(rest, large)) < costOf(wantedOf(rest, small))
  return [patches, ...(largeFirst ? [full, chunks] : [chunks, full])].filter((way) => way.length > 0)
}

/** For each missing chunk the first pack that has it. */
export const wantedOf = (missing: ReadonlySet<number>, packs: Way): ReadonlyArray<Wanted> => {
  const left = new Set(missing)
  const wanted: Array<Wanted> = []
  for (const pack of packs) {
    const frames = pack.frames.filter(({ places }) => places.some(({ chunk }) => left.has(chunk)))
    for (const { places } of frames) for (const { chunk } of places) left.delete(chunk)
    if (frames.length > 0) wanted.push({ pack, frames })
  }
  return wanted
}

export const rangesOf = (frames: ReadonlyArray<Frame>): ReadonlyArray<Range> => {
  const ranges: Array<{ readonly offset: number; length: number }> = []
  for (const { offset, size } of frames) {
    const last = ranges.at(-1)
    if (last !== undefined && offset - (last.offset + last.length) <= gapMax) last.length = offset + size - last.offset
    else ranges.push({ offset, length: size })
  }
  return ranges
}

export const planFetch = (index: PayloadIndex, missing: ReadonlySet<number> = allChunks(index), bases: ReadonlySet<string> = new Set()): FetchPlan => {
  const packs = wantedOf(missing, waysOf(index, missing, bases).flat())
    .map(({ pack, frames }) => ({ pack, ranges: rangesOf(frames), bytes: pieceBytes(pack, frames) }))
  return { packs, bytes: packs.reduce((sum, { bytes }) => sum + bytes, 0), nowhere: [...after(missing, index.packs)] }
}

/** R3.4: bytes to ask for before the first byte is fetched. A tree takes more than its archive: each file ends in a block of its own. */
export const spaceNeeded = (index: PayloadIndex, plan: FetchPlan): { readonly payload: number; readonly tree: number; readonly packs: number; readonly reserve: number; readonly total: number } => {
  const { length, form } = index.payload
  const tree = form === "tree" ? length + Math.ceil(length / 8) : length
  return { payload: length, tree, packs: plan.bytes, reserve: reserveBytes, total: length + tree + plan.bytes + reserveBytes }
}

export const allChunks = (index: PayloadIndex): ReadonlySet<number> => new Set(index.lengths.keys())

const after = (missing: ReadonlySet<number>, packs: Way): ReadonlySet<number> => {
  const left = new Set(missing)
  for (const { frames } of packs) for (const { places } of frames) for (const { chunk } of places) left.delete(chunk)
  return left
}

const costOf = (wanted: ReadonlyArray<Wanted>): number => wanted.reduce((sum, { pack, frames }) => sum + pieceBytes(pack, frames), 0)

/** Whole pieces travel. */
const pieceBytes = ({ ref }: IndexPack, frames: ReadonlyArray<Frame>): number => {
  let bytes = 0
  let next = 0
  for (const { offset, length } of rangesOf(frames)) {
    const from = Math.max(next, Math.floor(offset / ref.pieceLength))
    const to = Math.ceil((offset + length) / ref.pieceLength)
    if (to > from) bytes += Math.min(ref.length, to * ref.pieceLength) - from * ref.pieceLength
    next = Math.max(next, to)
  }
  return bytes
}
