/** "Did you mean": the known words nearest to a mistyped one. */

/** Longer words are compared by their first characters only, so that hostile input stays cheap. */
const wordCharsMax = 96

/**
 * The candidates nearest to `word`, best first, at most `max`. Near means: few edits for the word's length (one in three characters, at least
 * one, at most four), or the word is the beginning or a dotted part of the candidate. Equal distances keep alphabetical order.
 */
export const suggest = (word: string, candidates: Iterable<string>, max = 3): ReadonlyArray<string> => {
  const typed = fold(word)
  if (typed === "") return []
  const limit = Math.min(4, Math.max(1, Math.floor(typed.length / 3)))
  const near: Array<{ readonly candidate: string; readonly score: number }> = []
  for (const candidate of new Set(candidates)) {
    const other = fold(candidate)
    const distance = editDistance(typed, other, limit)
    const part = typed.length >= 3 && (other.startsWith(typed) || other.split(/[.\s-]/).includes(typed))
    if (distance <= limit) near.push({ candidate, score: distance })
    else if (part) near.push({ candidate, score: limit + 1 })
  }
  return near
    .sort((a, b) => a.score - b.score || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, max)
    .map(({ candidate }) => candidate)
}

/** The suggestions as the end of a sentence: `; did you mean a, b or c?`, or nothing. */
export const didYouMean = (word: string, candidates: Iterable<string>, max = 3): string => {
  const words = suggest(word, candidates, max)
  if (words.length === 0) return ""
  const last = words[words.length - 1] ?? ""
  return `; did you mean ${words.length === 1 ? last : `${words.slice(0, -1).join(", ")} or ${last}`}?`
}

/**
 * Damerau-Levenshtein distance in its restricted form: inserting, removing, replacing a character or swapping two neighbours costs one.
 * Gives up with `limit + 1` as soon as the answer must exceed `limit`.
 */
export const editDistance = (a: string, b: string, limit = wordCharsMax): number => {
  if (Math.abs(a.length - b.length) > limit) return limit + 1
  let beforeLast: Array<number> = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    let best = i
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let cost = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, (beforeLast[j - 2] ?? 0) + 1)
      row.push(cost)
      best = Math.min(best, cost)
    }
    if (best > limit) return limit + 1
    beforeLast = last
    last = row
  }
  return last[b.length] ?? 0
}

const fold = (word: string): string => word.slice(0, wordCharsMax).toLowerCase()
