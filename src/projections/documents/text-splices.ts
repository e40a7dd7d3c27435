/**
 * The small splices that turn one text into another, so that two people's edits at different places of a page both survive.
 * Lines first, then words inside changed lines, then letters at the edges of changed words. Myers' algorithm with a bound on
 * the distance: beyond it a stretch is replaced as a whole, so the cost stays linear in the text times the bound.
 */
import { changeOperationsMax } from "./limits.ts"
import type { Edit } from "./types.ts"

export interface Splice {
  /** UTF-16 units, in the text as it was before the first splice. */
  readonly at: number
  readonly remove: number
  readonly insert: string
}

/** Differences followed at most, per stretch. */
export const distanceMax = 256

/** Splices in ascending, disjoint order; apply them from the last to the first. */
export const splicesBetween = (before: string, after: string): ReadonlyArray<Splice> => {
  const out: Array<Splice> = []
  refine(before, after, 0, [lines, words], out)
  return out
}

/** Operations of one change that text edits fill at most; the rest is headroom. */
const stepOperationsMax = changeOperationsMax - 1_000

/** The same as edits, one group per change: a change holds at most 10,000 operations, and each character is one. */
export const textSteps = (before: string, after: string): ReadonlyArray<ReadonlyArray<Edit>> => {
  const steps: Array<Array<Edit>> = []
  let step: Array<Edit> = []
  let room = stepOperationsMax
  const add = (at: number, remove: number, insert: string): void => {
    step.push({ _tag: "Splice", at, remove, insert })
    room -= remove + insert.length
    if (room > 0) return
    steps.push(step)
    step = []
    room = stepOperationsMax
  }
  for (const { at, remove, insert } of splicesBetween(before, after).toReversed()) {
    for (let left = remove; left > 0;) {
      const size = fit(before, at + left, Math.min(left, room), -1)
      add(at + left - size, size, "")
      left -= size
    }
    for (let done = 0; done < insert.length;) {
      const size = fit(insert, done, Math.min(insert.length - done, room), 1)
      add(at + done, 0, insert.slice(done, done + size))
      done += size
    }
  }
  if (step.length > 0) steps.push(step)
  return steps
}

/** A length from `at` in this direction that does not part a surrogate pair; one unit more when need be. */
const fit = (text: string, at: number, size: number, direction: 1 | -1): number => {
  const edge = at + direction * size
  return edge > 0 && edge < text.length && isLow(text, edge) && isHigh(text, edge - 1) ? size + 1 : size
}

type Split = (text: string) => ReadonlyArray<string>
const lines: Split = (text) => text.match(/[^\n]*\n|[^\n]+/g) ?? []
const words: Split = (text) => text.match(/[\p{L}\p{N}\p{M}_]+|\s+|[^\p{L}\p{N}\p{M}_\s]/gu) ?? []

const isHigh = (text: string, i: number): boolean => (text.charCodeAt(i) & 0xfc00) === 0xd800
const isLow = (text: string, i: number): boolean => (text.charCodeAt(i) & 0xfc00) === 0xdc00

const refine = (before: string, after: string, offset: number, splits: ReadonlyArray<Split>, out: Array<Splice>): void => {
  const short = Math.min(before.length, after.length)
  let head = 0
  while (head < short && before.charCodeAt(head) === after.charCodeAt(head)) head++
  if (head > 0 && isHigh(before, head - 1)) head--
  let tail = 0
  while (tail < short - head && before.charCodeAt(before.length - 1 - tail) === after.charCodeAt(after.length - 1 - tail)) tail++
  if (tail > 0 && isLow(before, before.length - tail)) tail--
  const a = before.slice(head, before.length - tail)
  const b = after.slice(head, after.length - tail)
  if (a === "" && b === "") return
  const [split, ...finer] = splits
  const hunks = a === "" || b === "" || split === undefined ? undefined : differences(split(a), split(b))
  if (hunks === undefined) return void out.push({ at: offset + head, remove: a.length, insert: b })
  for (const hunk of hunks) refine(hunk.a, hunk.b, offset + head + hunk.at, finer, out)
}

interface Hunk {
  readonly at: number
  readonly a: string
  readonly b: string
}

/** Myers' greedy shortest edit; undefined when the distance is above the bound. */
const differences = (a: ReadonlyArray<string>, b: ReadonlyArray<string>): ReadonlyArray<Hunk> | undefined => {
  const bound = Math.min(distanceMax, a.length + b.length)
  const furthest = new Int32Array(2 * bound + 3)
  const trace: Array<Int32Array> = []
  const at = (k: number): number => furthest[k + bound + 1] ?? 0
  for (let d = 0; d <= bound; d++) {
    trace.push(furthest.slice())
    for (let k = -d; k <= d; k += 2) {
      let x = k === -d || (k !== d && at(k - 1) < at(k + 1)) ? at(k + 1) : at(k - 1) + 1
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++
      furthest[k + bound + 1] = x
      if (x >= a.length && x - k >= b.length) return hunksOf(a, b, trace, bound)
    }
  }
  return undefined
}

const hunksOf = (a: ReadonlyArray<string>, b: ReadonlyArray<string>, trace: ReadonlyArray<Int32Array>, bound: number): ReadonlyArray<Hunk> => {
  const keptA = new Uint8Array(a.length)
  const keptB = new Uint8Array(b.length)
  let x = a.length
  let y = b.length
  for (let d = trace.length - 1; d >= 0; d--) {
    const row = trace[d] ?? new Int32Array(0)
    const at = (k: number): number => row[k + bound + 1] ?? 0
    const k = x - y
    const before = k === -d || (k !== d && at(k - 1) < at(k + 1)) ? k + 1 : k - 1
    const beforeX = d === 0 ? 0 : at(before)
    const beforeY = d === 0 ? 0 : beforeX - before
    while (x > beforeX && y > beforeY) {
      keptA[--x] = 1
      keptB[--y] = 1
    }
    x = beforeX
    y = beforeY
  }
  const hunks: Array<Hunk> = []
  let place = 0
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    const start = place
    let removed = ""
    let inserted = ""
    while (i < a.length && keptA[i] === 0) removed += a[i++] ?? ""
    while (j < b.length && keptB[j] === 0) inserted += b[j++] ?? ""
    if (removed !== "" || inserted !== "") hunks.push({ at: start, a: removed, b: inserted })
    place += removed.length
    while (i < a.length && j < b.length && keptA[i] === 1 && keptB[j] === 1) {
      place += a[i]?.length ?? 0
      i++
      j++
    }
  }
  return hunks
}
