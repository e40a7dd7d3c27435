import type { Edit, Json } from "../documents/types.ts"
import { equalJson, ownValue, type JsonObject } from "./json.ts"

/** Differences: of two tables by key, of two texts by line. All work is bounded: texts that share little are shown as replaced. */

export interface KeyDifference {
  readonly path: string
  readonly change: "added" | "changed" | "removed"
  readonly before?: Json
  readonly after?: Json
}

/** Keys that differ, in order of code units. */
export const diffKeys = (before: JsonObject, after: JsonObject): ReadonlyArray<KeyDifference> =>
  [...new Set([...Object.keys(before), ...Object.keys(after)])].sort().flatMap((path): ReadonlyArray<KeyDifference> => {
    const old = ownValue(before, path)
    const now = ownValue(after, path)
    if (old === undefined) return now === undefined ? [] : [{ path, change: "added", after: now }]
    if (now === undefined) return [{ path, change: "removed", before: old }]
    return equalJson(old, now) ? [] : [{ path, change: "changed", before: old, after: now }]
  })

/** A run of lines `[from, to)` of the old text that became the lines `[newFrom, newTo)` of the new one. */
export interface Hunk {
  readonly from: number
  readonly to: number
  readonly newFrom: number
  readonly newTo: number
}

/** Differing lines at most that are aligned exactly (removed and added together); beyond, the rest of the middle is one hunk. */
export const diffEditsMax = 1000
/** Lines of each text at most; longer texts differ as a whole. */
export const diffLinesMax = 50_000

/** Lines with their line breaks, so that joining them gives the text back. */
export const linesOf = (text: string): ReadonlyArray<string> => text.match(/[^\n]*\n|[^\n]+$/gu) ?? []

/** Where two lists of lines differ; the shortest set of changes (Myers, linear in the size of the change). */
export const diffLines = (before: ReadonlyArray<string>, after: ReadonlyArray<string>): ReadonlyArray<Hunk> => {
  let start = 0
  while (start < before.length && start < after.length && before[start] === after[start]) start++
  let end = 0
  while (end < before.length - start && end < after.length - start && before[before.length - 1 - end] === after[after.length - 1 - end]) end++
  const oldMiddle = before.slice(start, before.length - end)
  const newMiddle = after.slice(start, after.length - end)
  if (oldMiddle.length === 0 && newMiddle.length === 0) return []
  const whole: Hunk = { from: start, to: before.length - end, newFrom: start, newTo: after.length - end }
  if (oldMiddle.length === 0 || newMiddle.length === 0 || oldMiddle.length + newMiddle.length > diffLinesMax) return [whole]
  return shortest(oldMiddle, newMiddle)?.map((hunk) => ({ from: hunk.from + start, to: hunk.to + start, newFrom: hunk.newFrom + start, newTo: hunk.newTo + start })) ?? [whole]
}

/**
 * The difference of two texts in unified form, `context` lines around each change, at most `linesMax` lines (a last line says how many were left
 * out). Empty when they are equal.
 */
export const unifiedDiff = (before: string, after: string, options: { readonly context?: number; readonly linesMax?: number } = {}): ReadonlyArray<string> => {
  const { context = 3, linesMax = 2000 } = options
  const old = linesOf(before)
  const now = linesOf(after)
  const output: Array<string> = []
  const add = (sign: string, line: string | undefined): void => {
    output.push(`${sign}${(line ?? "").replace(/\n$/u, "")}`)
    if (line !== undefined && !line.endsWith("\n")) output.push("\\ No newline at end of file")
  }
  for (const group of grouped(diffLines(old, now), context)) {
    const head = group[0]
    const tail = group[group.length - 1]
    if (head === undefined || tail === undefined) continue
    const from = Math.max(0, head.from - context)
    const newFrom = Math.max(0, head.newFrom - context)
    const to = Math.min(old.length, tail.to + context)
    const newTo = Math.min(now.length, tail.newTo + context)
    output.push(`@@ -${span(from, to)} +${span(newFrom, newTo)} @@`)
    let at = from
    for (const hunk of group) {
      for (; at < hunk.from; at++) add(" ", old[at])
      for (; at < hunk.to; at++) add("-", old[at])
      for (let i = hunk.newFrom; i < hunk.newTo; i++) add("+", now[i])
    }
    for (; at < to; at++) add(" ", old[at])
  }
  return output.length <= linesMax ? output : [...output.slice(0, linesMax), `… ${output.length - linesMax} more lines`]
}

/** Splices at most; a text changed in more places is replaced from the first to the last of them. */
export const splicesMax = 256

/**
 * The splices that turn one text into another, last place first, so that each index is valid when its turn comes. Indices count UTF-16 code
 * units. Many small splices instead of one large: what others write between two changed places survives the merge.
 */
export const textEdits = (before: string, after: string): ReadonlyArray<Edit> => {
  if (before === after) return []
  const old = linesOf(before)
  const now = linesOf(after)
  const hunks = diffLines(old, now)
  if (hunks.length > splicesMax) {
    const { prefix, suffix } = commonEnds(before, after)
    return [{ _tag: "Splice", at: prefix, remove: before.length - prefix - suffix, insert: after.slice(prefix, after.length - suffix) }]
  }
  const starts = [0]
  for (const line of old) starts.push((starts[starts.length - 1] ?? 0) + line.length)
  return hunks.map((hunk): Edit => {
    const removed = old.slice(hunk.from, hunk.to).join("")
    const inserted = now.slice(hunk.newFrom, hunk.newTo).join("")
    const { prefix, suffix } = commonEnds(removed, inserted)
    return { _tag: "Splice", at: (starts[hunk.from] ?? 0) + prefix, remove: removed.length - prefix - suffix, insert: inserted.slice(prefix, inserted.length - suffix) }
  }).reverse()
}

/**
 * Carries the change from `base` to `mine` over to `theirs`, by lines. Undefined when both changed the same or touching lines differently.
 */
export const mergeTexts = (base: string, mine: string, theirs: string): string | undefined => {
  if (base === theirs || mine === theirs) return mine
  if (base === mine) return theirs
  const [old, left, right] = [linesOf(base), linesOf(mine), linesOf(theirs)]
  const [ours, others] = [diffLines(old, left), diffLines(old, right)]
  const changes: Array<{ readonly hunk: Hunk; readonly text: string }> = ours.map((hunk) => ({ hunk, text: left.slice(hunk.newFrom, hunk.newTo).join("") }))
  for (const hunk of others) {
    const text = right.slice(hunk.newFrom, hunk.newTo).join("")
    const near = changes.find((change) => touches(change.hunk, hunk))
    if (near === undefined) changes.push({ hunk, text })
    else if (near.hunk.from !== hunk.from || near.hunk.to !== hunk.to || near.text !== text) return undefined
  }
  let merged = ""
  let at = 0
  for (const { hunk, text } of changes.sort((a, b) => a.hunk.from - b.hunk.from || a.hunk.to - b.hunk.to)) {
    merged += old.slice(at, hunk.from).join("") + text
    at = hunk.to
  }
  return merged + old.slice(at).join("")
}

/** Applies edits to a text in their order; what a document does with them when nobody else writes. */
export const applyTextEdits = (text: string, edits: ReadonlyArray<Edit>): string =>
  edits.reduce((now, edit) => (edit._tag === "Text" ? edit.text : edit._tag === "Splice" ? now.slice(0, edit.at) + edit.insert + now.slice(edit.at + edit.remove) : now), text)

const touches = (a: Hunk, b: Hunk): boolean => a.from <= b.to && b.from <= a.to

const span = (from: number, to: number): string => (to - from === 1 ? `${from + 1}` : `${to === from ? from : from + 1},${to - from}`)

const grouped = (hunks: ReadonlyArray<Hunk>, context: number): ReadonlyArray<ReadonlyArray<Hunk>> => {
  const groups: Array<Array<Hunk>> = []
  for (const hunk of hunks) {
    const group = groups[groups.length - 1]
    const last = group?.[group.length - 1]
    if (group !== undefined && last !== undefined && hunk.from - last.to <= context * 2) group.push(hunk)
    else groups.push([hunk])
  }
  return groups
}

/** Lengths of the equal beginning and end of two texts, never cutting a surrogate pair. */
const commonEnds = (a: string, b: string): { readonly prefix: number; readonly suffix: number } => {
  const max = Math.min(a.length, b.length)
  let prefix = 0
  while (prefix < max && a.charCodeAt(prefix) === b.charCodeAt(prefix)) prefix++
  if (prefix > 0 && isHighSurrogate(a.charCodeAt(prefix - 1))) prefix--
  let suffix = 0
  while (suffix < max - prefix && a.charCodeAt(a.length - 1 - suffix) === b.charCodeAt(b.length - 1 - suffix)) suffix++
  if (suffix > 0 && isLowSurrogate(a.charCodeAt(a.length - suffix))) suffix--
  return { prefix, suffix }
}

const isHighSurrogate = (code: number): boolean => code >= 0xd800 && code <= 0xdbff
const isLowSurrogate = (code: number): boolean => code >= 0xdc00 && code <= 0xdfff

/** Myers' greedy algorithm; undefined when more than `diffEditsMax` lines differ. */
const shortest = (a: ReadonlyArray<string>, b: ReadonlyArray<string>): ReadonlyArray<Hunk> | undefined => {
  const max = Math.min(diffEditsMax, a.length + b.length)
  const offset = max + 1
  const furthest = new Int32Array(2 * max + 3)
  const trace: Array<Int32Array> = []
  for (let d = 0; d <= max; d++) {
    trace.push(furthest.slice(offset - d - 1, offset + d + 2))
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && (furthest[offset + k - 1] ?? 0) < (furthest[offset + k + 1] ?? 0))
      let x = down ? furthest[offset + k + 1] ?? 0 : (furthest[offset + k - 1] ?? 0) + 1
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++
      furthest[offset + k] = x
      if (x >= a.length && x - k >= b.length) return walkBack(trace, a.length, b.length)
    }
  }
  return undefined
}

/** From the end to the start over the saved rounds; neighbouring single steps join into one hunk. Round `d` is saved around its own middle `d + 1`. */
const walkBack = (trace: ReadonlyArray<Int32Array>, aLength: number, bLength: number): ReadonlyArray<Hunk> => {
  const hunks: Array<Hunk> = []
  let x = aLength
  let y = bLength
  for (let d = trace.length - 1; d > 0; d--) {
    const round = trace[d] ?? new Int32Array()
    const at = (k: number): number => round[k + d + 1] ?? 0
    const k = x - y
    const down = k === -d || (k !== d && at(k - 1) < at(k + 1))
    const fromK = down ? k + 1 : k - 1
    const fromX = at(fromK)
    const fromY = fromX - fromK
    const step: Hunk = { from: fromX, to: down ? fromX : fromX + 1, newFrom: fromY, newTo: down ? fromY + 1 : fromY }
    const next = hunks[hunks.length - 1]
    if (next !== undefined && next.from === step.to && next.newFrom === step.newTo) hunks[hunks.length - 1] = { from: step.from, to: next.to, newFrom: step.newFrom, newTo: next.newTo }
    else hunks.push(step)
    x = fromX
    y = fromY
  }
  return hunks.reverse()
}
