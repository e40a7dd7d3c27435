/** Versions as in Semantic Versioning 2.0.0 (clauses 2, 9 to 11): three numbers, and what comes before a release after a dash. */

const pattern = /^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?$/

export const isVersion = (text: string): boolean => text.length <= 64 && pattern.test(text)

/** Negative when `a` is older, 0 when they are of one rank, positive when it is newer. A text that is no version is older than all. */
export const compareVersions = (a: string, b: string): number => {
  const [left, right] = [pattern.exec(a), pattern.exec(b)]
  if (left === null || right === null) return Number(left !== null) - Number(right !== null)
  for (const place of [1, 2, 3]) {
    const difference = Number(left[place]) - Number(right[place])
    if (difference !== 0) return difference
  }
  return comparePre(left[4], right[4])
}

/** Clause 11.3 and 11.4: a version with something before the release is older than the release; numbers are less than words. */
const comparePre = (a: string | undefined, b: string | undefined): number => {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined)
  const [left, right] = [a.split("."), b.split(".")]
  for (let at = 0; at < Math.max(left.length, right.length); at += 1) {
    const [x, y] = [left[at], right[at]]
    if (x === undefined || y === undefined) return Number(y === undefined) - Number(x === undefined)
    if (x === y) continue
    const [n, m] = [/^\d+$/.test(x), /^\d+$/.test(y)]
    if (n && m) return Number(x) - Number(y)
    if (n !== m) return n ? -1 : 1
    return x < y ? -1 : 1
  }
  return 0
}
