/**
 * Which bytes of the base are most like a new chunk: the same path's old bytes in a tree; in an image those that lie between the chunks around it that both have.
 * Frames take new chunks in order as long as what they are like lies close together, since one dictionary serves a whole frame.
 */
import type { ByteSource } from "./byte-source.ts"
import type { ChunkTable } from "./chunk-table.ts"
import { frameRaw, type FramePlan } from "./frames.ts"
import { dictionaryMax } from "./index-file.ts"

/** Bytes taken on either side: a boundary of chunks is none of the change. */
const margin = 65_536
/** Bytes of likeness that one frame may span. */
const spanMax = dictionaryMax - 2 * margin

interface Sides {
  readonly source: ByteSource
  readonly table: ChunkTable
  readonly base: ByteSource
  readonly baseTable: ChunkTable
}

/** Frames for the chunks that the base lacks; none when it lacks none. */
export const patchPlans = ({ source, table, base, baseTable }: Sides): ReadonlyArray<FramePlan> => {
  const like = source.entries !== undefined && base.entries !== undefined ? likeByPath(source, base) : likeByChunks(table, baseTable)
  const plans: Array<FramePlan> = []
  let open: { readonly chunks: Array<number>; raw: number; from: number; to: number } | undefined
  const close = () => {
    if (open === undefined) return
    const offset = Math.max(0, open.from - margin)
    plans.push({ chunks: open.chunks, dictionary: { offset, length: Math.min(base.length, open.to + margin, offset + dictionaryMax) - offset } })
    open = undefined
  }
  for (let chunk = 0; chunk < table.hashes.length; chunk++) {
    if (baseTable.numbers.has(table.hashes[chunk] ?? "")) continue
    const [offset, length] = [table.offsets[chunk] ?? 0, table.lengths[chunk] ?? 0]
    const from = Math.min(base.length, like(offset))
    const to = Math.min(base.length, Math.max(from, like(offset + length - 1) + 1), from + spanMax)
    if (open !== undefined && (open.raw + length > frameRaw || Math.max(open.to, to) - Math.min(open.from, from) > spanMax)) close()
    open = open === undefined ? { chunks: [chunk], raw: length, from, to }
      : { chunks: [...open.chunks, chunk], raw: open.raw + length, from: Math.min(open.from, from), to: Math.max(open.to, to) }
  }
  close()
  return plans
}

type Like = (offset: number) => number

/** The same place of the same path's content; behind it, or for a path that is new, where the path before ends. */
const likeByPath = (source: ByteSource, base: ByteSource): Like => {
  const old = new Map((base.entries ?? []).map((entry) => [entry.path, entry]))
  let before = 0
  const anchors = (source.entries ?? []).map((entry) => {
    const same = old.get(entry.path)
    if (same === undefined) return { offset: entry.offset, at: before, end: before }
    before = same.content + same.length
    return { offset: entry.offset, at: same.offset, end: before }
  })
  return likeOf(anchors)
}

const likeByChunks = (table: ChunkTable, baseTable: ChunkTable): Like => {
  const anchors: Array<{ readonly offset: number; readonly at: number; readonly end: number }> = []
  let offset = 0
  for (const chunk of table.order) {
    const same = baseTable.numbers.get(table.hashes[chunk] ?? "")
    const at = same === undefined ? undefined : baseTable.offsets[same] ?? 0
    if (at !== undefined) anchors.push({ offset, at, end: Number.POSITIVE_INFINITY })
    offset += table.lengths[chunk] ?? 0
  }
  return likeOf(anchors)
}

/** From the last anchor at or before an offset, on. */
const likeOf = (anchors: ReadonlyArray<{ readonly offset: number; readonly at: number; readonly end: number }>): Like => (offset) => {
  let [low, high] = [0, anchors.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((anchors[middle]?.offset ?? 0) <= offset) low = middle + 1
    else high = middle
  }
  const anchor = anchors[low - 1]
  return anchor === undefined ? offset : Math.min(anchor.at + offset - anchor.offset, anchor.end)
}
