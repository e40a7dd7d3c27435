import { isWhy, nameFault, shown, type Read } from "./doc-id.ts"
import { forbiddenKeys } from "./json.ts"

/**
 * Paths of settings: dotted, as TOML writes keys. `network.lan`, `user.editor."files.exclude"`: a part with other characters than letters,
 * digits, `_` and `-` stands in double quotes with JSON's escapes. Written by `formatPath` each path has exactly one text; that text is the
 * register's key in the document.
 */

/** As long as the key of a document may be. */
export const pathCharsMax = 256
export const pathPartsMax = 24

export const parsePath = (text: string): Read<ReadonlyArray<string>> => {
  if (text === "") return { why: "a path is empty" }
  if (text.length > pathCharsMax) return { why: `a path is at most ${pathCharsMax} characters, this one has ${text.length}` }
  const parts: Array<string> = []
  const part = /([\p{L}\p{M}\p{N}_-]+)|("(?:[^"\\\u0000-\u001f]|\\.)*")/uy
  for (let at = 0; ;) {
    part.lastIndex = at
    const found = part.exec(text)
    if (found === null) return { why: `${shown(text)} is not a path: expected a name at character ${at + 1} (other characters than letters, digits, _ and - need double quotes)` }
    const name = found[1] ?? unquote(found[2] ?? "")
    if (name === undefined) return { why: `${shown(text)} is not a path: bad escape in ${shown(found[0])}` }
    if (forbiddenKeys.has(name)) return { why: `the path ${shown(text)} holds the forbidden name ${shown(name)}` }
    parts.push(name)
    if (parts.length > pathPartsMax) return { why: `a path has at most ${pathPartsMax} parts` }
    at = part.lastIndex
    if (at === text.length) return { value: parts }
    if (text[at] !== ".") return { why: `${shown(text)} is not a path: expected a dot at character ${at + 1}` }
    at++
  }
}

export const formatPath = (parts: ReadonlyArray<string>): string =>
  parts.map((part) => (/^[\p{L}\p{M}\p{N}_-]+$/u.test(part) ? part : JSON.stringify(part))).join(".")

/** The one text of a path that a person wrote, or why it is none. */
export const canonicalPath = (text: string): Read<string> => {
  const parts = parsePath(text)
  return isWhy(parts) ? parts : { value: formatPath(parts.value) }
}

/** Whether `path` is `scope` or lies beneath it. Both canonical. */
export const isWithin = (path: string, scope: string): boolean => path === scope || path.startsWith(`${scope}.`)

/**
 * The namespace whose document holds a path: its first name; of the user's own settings the first two (`user.editor`), so that each
 * application has a small document of its own.
 */
export const namespaceOf = (path: string): Read<string> => {
  const parts = parsePath(path)
  if (isWhy(parts)) return parts
  const [first = "", second] = parts.value
  if (first === "user" && second === undefined) return { why: "user is not a setting: your own settings are called user.NAME or user.NAME.KEY" }
  const namespace = first === "user" ? `user.${second ?? ""}` : first
  const why = nameFault(namespace)
  return why === undefined ? { value: namespace } : { why: `${path}: ${why}` }
}

/** All that checks ask of one path. */
export interface PathFacts {
  readonly parts: ReadonlyArray<string>
  /** The path's one text. */
  readonly canonical: string
  readonly namespace: Read<string>
  /** The paths above it, longest last, without the first part. */
  readonly above: ReadonlyArray<string>
}

/** Paths whose facts are kept; all are dropped when one more comes. */
const pathFactsMax = 4096
const kept = new Map<string, Read<PathFacts>>()

/** The facts of a path. Kept, because each check of a document asks for each of its keys, and parsing costs 5 µs. */
export const pathFacts = (text: string): Read<PathFacts> => {
  const before = kept.get(text)
  if (before !== undefined) return before
  const parts = parsePath(text)
  const facts = isWhy(parts) ? parts : {
    value: {
      parts: parts.value, canonical: formatPath(parts.value), namespace: namespaceOf(text),
      above: parts.value.slice(2).map((_, i) => formatPath(parts.value.slice(0, i + 2)))
    }
  }
  if (text.length > pathCharsMax) return facts
  if (kept.size >= pathFactsMax) kept.clear()
  kept.set(text, facts)
  return facts
}

const unquote = (text: string): string | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === "string" ? value : undefined
  } catch {
    return undefined
  }
}
