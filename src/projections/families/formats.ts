import { parse as parseToml, stringify as stringifyToml, TomlDate, TomlError } from "smol-toml"
import { Document, isAlias, isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseDocument, type Node } from "yaml"
import type { Json } from "../documents/types.ts"
import { shown, type Read } from "./doc-id.ts"
import { forbiddenKeys, isArray, isObject, objectOf, utf8Length, type JsonObject } from "./json.ts"
import { parseJson } from "./json-text.ts"
import { formatPath, parsePath } from "./path.ts"
import { findSetting } from "./settings.ts"

/**
 * Tables of keys in and out as YAML, TOML and JSON. Reading is bounded: size, depth, number of keys; no aliases (a few hundred bytes can
 * mean gigabytes), no tags, no keys twice, no numbers that lose digits. What a text nests is counted before the YAML parser sees it: on a
 * deep text that parser exhausts the stack, and inside V8's regular expressions that can end the process instead of throwing.
 */
export type Format = "yaml" | "toml" | "json"

export const formats: ReadonlyArray<Format> = ["yaml", "toml", "json"]

export const fileBytesMax = 256 * 1024
export const fileDepthMax = 24
export const fileKeysMax = 20_000

/** What is wrong with a text, and where: line from 1, path when it is known. */
export interface TextFault {
  readonly path: string
  readonly line: number | undefined
  /** One sentence, with the line and path in it. */
  readonly detail: string
}

export interface ParsedTable {
  readonly value: JsonObject
  /** Line of each path (`formatPath`), from 1; lists and what stands in them have the line of their key. */
  readonly lines: ReadonlyMap<string, number>
}

/** Reads a text that must be a table of keys. An empty text is an empty table. */
export const parseTable = (text: string, format: Format): ParsedTable | { readonly faults: ReadonlyArray<TextFault> } => {
  const bytes = utf8Length(text)
  if (bytes > fileBytesMax) return only(`expected at most ${fileBytesMax} bytes, found ${bytes}`)
  const clean = text.replace(/^\ufeff/u, "").replaceAll("\r\n", "\n")
  const control = /[\u0000-\u0008\u000b-\u001f\u007f]/u.exec(clean)
  if (control !== null) return only(`expected text, found the control character ${shown(control[0])}`, clean.slice(0, control.index).split("\n").length)
  try {
    if (clean.trim() === "") return { value: {}, lines: new Map() }
    return format === "yaml" ? readYaml(clean) : format === "toml" ? readToml(clean) : readJson(clean)
  } catch (error) {
    if (error instanceof Fault) return only(error.message, error.line, error.path)
    throw error
  }
}

export const isFaulty = (parsed: ParsedTable | { readonly faults: ReadonlyArray<TextFault> }): parsed is { readonly faults: ReadonlyArray<TextFault> } => "faults" in parsed

/** The format that a file's name says, or undefined. */
export const formatOfName = (name: string): Format | undefined => {
  const ending = /\.(ya?ml|toml|jsonc?)$/iu.exec(name)?.[1]?.toLowerCase()
  return ending === undefined ? undefined : ending.startsWith("y") ? "yaml" : ending === "toml" ? "toml" : "json"
}

/** The format that a text looks like; YAML when in doubt. */
export const guessFormat = (text: string): Format => {
  const start = text.replace(/^\ufeff/u, "").trimStart()
  if (start.startsWith("{")) return "json"
  return /^\s*(\[\[?[^\]\n]+\]\]?\s*(#.*)?|[\w."'-]+(\s*\.\s*[\w"'-]+)*\s*=.*)$/mu.exec(start.slice(0, 4096).replaceAll(/^\s*#.*$/gmu, "").trimStart().split("\n")[0] ?? "") === null ? "yaml" : "toml"
}

/** Nested tables as dotted paths. Lists, empty tables and null are leaves. */
export const flatten = (value: JsonObject): JsonObject => {
  const flat: Array<readonly [string, Json]> = []
  const walk = (at: ReadonlyArray<string>, inner: JsonObject): void => {
    for (const [key, next] of Object.entries(inner)) {
      const path = [...at, key]
      if (isObject(next) && Object.keys(next).length > 0) walk(path, next)
      else flat.push([formatPath(path), next])
    }
  }
  walk([], value)
  return objectOf(flat)
}

/** Dotted paths as nested tables, keys in order of code units. A path beneath a value (which no valid document has) stays a dotted key. */
export const unflatten = (flat: JsonObject): JsonObject => {
  interface Table { readonly entries: Map<string, Json | Table> }
  const isTable = (entry: Json | Table | undefined): entry is Table => typeof entry === "object" && entry !== null && "entries" in entry && entry.entries instanceof Map
  const root: Table = { entries: new Map() }
  for (const path of Object.keys(flat).sort()) {
    const parts = parsePath(path)
    const names = "why" in parts ? [path] : [...parts.value]
    let table = root
    while (names.length > 1) {
      const next = table.entries.get(names[0] ?? "")
      if (next !== undefined && !isTable(next) && !(isObject(next) && Object.keys(next).length === 0)) break
      const inner: Table = isTable(next) ? next : { entries: new Map() }
      table.entries.set(names.shift() ?? "", inner)
      table = inner
    }
    table.entries.set(names.length === 1 ? names[0] ?? "" : formatPath(names), flat[path] ?? null)
  }
  const plain = (table: Table): JsonObject =>
    objectOf([...table.entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, entry]) => [key, isTable(entry) ? plain(entry) : sorted(entry)]))
  return plain(root)
}

/** Writes a table; equal tables give equal texts. YAML carries each known setting's sentence as a comment unless `comments` is false. */
export const writeTable = (value: JsonObject, format: Format, options: { readonly comments?: boolean } = {}): Read<string> => {
  const ordered = sorted(value)
  if (!isObject(ordered)) return { why: "expected a table" }
  if (format === "json") return { value: `${JSON.stringify(ordered, undefined, 2)}\n` }
  if (Object.keys(ordered).length === 0) return { value: format === "yaml" ? "{}\n" : "" }
  if (format === "toml") {
    const empty = findNull([], ordered)
    return empty === undefined ? { value: `${stringifyToml(ordered).trimEnd()}\n` } : { why: `TOML cannot say null, which is the value of ${empty}; use yaml or json` }
  }
  const document = new Document(ordered, { aliasDuplicateObjects: false })
  if (options.comments !== false) comment(document.contents, [])
  return { value: document.toString({ lineWidth: 0 }) }
}

/** Writes settings, given by path. */
export const writeConfig = (flat: JsonObject, format: Format, options: { readonly comments?: boolean } = {}): Read<string> => writeTable(unflatten(flat), format, options)

class Fault extends Error {
  readonly line: number | undefined
  readonly path: string
  constructor(message: string, line?: number, path = "") {
    super(message)
    this.line = line
    this.path = path
  }
}

const only = (why: string, line?: number, path = ""): { readonly faults: ReadonlyArray<TextFault> } => ({
  faults: [{ path, line, detail: `${line === undefined ? "" : `line ${line}: `}${path === "" ? "" : `${path}: `}${why}` }]
})

const readJson = (text: string): ParsedTable => {
  const parsed = parseJson(text, { depthMax: fileDepthMax, keysMax: fileKeysMax })
  if ("why" in parsed) throw new Fault(parsed.why, parsed.line, parsed.path)
  if (!isObject(parsed.value)) throw new Fault("expected a table of keys, found another value", 1)
  return { value: parsed.value, lines: parsed.lines }
}

const readYaml = (text: string): ParsedTable => {
  refuseDeepYaml(text)
  const counter = new LineCounter()
  const document = parseDocument(text, { version: "1.2", schema: "core", strict: true, uniqueKeys: false, stringKeys: true, logLevel: "error", prettyErrors: false, lineCounter: counter })
  const lineAt = (offset: number | undefined): number | undefined => (offset === undefined ? undefined : counter.linePos(offset).line)
  const error = document.errors[0] ?? document.warnings[0]
  if (error !== undefined) {
    const why = error.code === "MULTIPLE_DOCS" ? "expected one document, found several" : error.message.split("\n")[0] ?? ""
    throw new Fault(why, lineAt(error.pos[0]))
  }
  if (document.directives?.tags !== undefined && Object.keys(document.directives.tags).length > 1) throw new Fault("tags (%TAG) are not read", 1)
  const lines = new Map<string, number>()
  let keys = 0
  const read = (node: unknown, path: ReadonlyArray<string>, line: number | undefined, listed: boolean, depth: number): Json => {
    const at = formatPath(path)
    if (node === null || node === undefined) return null
    if (!isNode(node)) throw new Fault("expected a plain value", line, at)
    const here = lineAt(node.range?.[0]) ?? line
    if (isAlias(node)) throw new Fault(`aliases (*${node.source}) are not read; write the value out`, here, at)
    if (node.anchor !== undefined) throw new Fault(`anchors (&${node.anchor}) are not read; write the value out where it is used`, here, at)
    if (node.tag !== undefined && !plainTags.has(node.tag)) throw new Fault(`the tag ${shown(node.tag)} is not read`, here, at)
    if (depth > fileDepthMax) throw new Fault(`is nested deeper than ${fileDepthMax} levels`, here, at)
    if (isScalar(node)) return scalar(node.value, typeof node.source === "string" ? node.source : "", here, at)
    if (isSeq(node)) return node.items.map((item) => read(item, path, here, true, depth + 1))
    if (!isMap(node)) throw new Fault("expected a value, a list or a table", here, at)
    const entries = new Map<string, Json>()
    for (const pair of node.items) {
      const key = keyOf(pair.key)
      const keyLine = lineAt(isNode(pair.key) ? pair.key.range?.[0] : undefined) ?? here
      if (key === undefined) throw new Fault("expected a plain name as key", keyLine, at)
      const inner = [...path, key]
      refuseKey(key, entries.has(key), keyLine, formatPath(inner))
      if (++keys > fileKeysMax) throw new Fault(`expected at most ${fileKeysMax} keys`, keyLine, at)
      if (!listed && keyLine !== undefined) lines.set(formatPath(inner), keyLine)
      entries.set(key, read(pair.value, inner, keyLine, listed, depth + 1))
    }
    return objectOf(entries)
  }
  if (document.contents === null) return { value: {}, lines }
  const value = read(document.contents, [], 1, false, 1)
  if (!isObject(value)) throw new Fault("expected a table of keys, found another value", 1)
  return { value, lines }
}

/** The key's text, unless it is anchored, tagged or no scalar. */
const keyOf = (key: unknown): string | undefined =>
  isScalar(key) && key.anchor === undefined && (key.tag === undefined || plainTags.has(key.tag)) ? (typeof key.value === "string" ? key.value : String(key.value ?? "")) : undefined

const plainTags: ReadonlySet<string> = new Set(["str", "int", "float", "bool", "null", "map", "seq"].map((name) => `tag:yaml.org,2002:${name}`))

/** Levels that a text may nest before it is refused unread; the parser's stack holds about 700. */
const scanDepthMax = 100

/** Counts what may nest: open brackets, indicators in one line, indentation. Over-counts in texts that hold many lone brackets, never under-counts. */
const refuseDeepYaml = (text: string): void => {
  let open = 0
  let line = 1
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i)
    if (char === 10) line++
    else if (char === 91 || char === 123) {
      if (++open > scanDepthMax) throw new Fault(`more than ${scanDepthMax} brackets are open at once`, line)
    } else if ((char === 93 || char === 125) && open > 0) open--
  }
  const chain = /(?:(?:[-?:]|[!&][^\s,[\]{}]*)[ \t\n]+){40}|(?:^|\n)[ \t]{300}/u.exec(text)
  if (chain !== null && /[-?:!&]/u.test(chain[0])) throw new Fault("too many structures begin at once", text.slice(0, chain.index).split("\n").length)
  if (chain !== null) throw new Fault("is indented too deeply", text.slice(0, chain.index + 1).split("\n").length)
}

const readToml = (text: string): ParsedTable => {
  const lines = tomlLines(text)
  let table: unknown
  try {
    table = parseToml(text, { maxDepth: fileDepthMax, unsafeKeyBehaviour: "keep" })
  } catch (error) {
    if (error instanceof TomlError) throw new Fault((error.message.split("\n")[0] ?? "").replace(/^Invalid TOML document: /u, ""), error.line)
    throw error
  }
  let keys = 0
  const read = (value: unknown, path: ReadonlyArray<string>, depth: number): Json => {
    const at = formatPath(path.slice(0, 8))
    const line = lines.get(at)
    if (depth > fileDepthMax) throw new Fault(`is nested deeper than ${fileDepthMax} levels`, line, at)
    if (value instanceof TomlDate) return value.toISOString()
    if (Array.isArray(value)) return value.map((item: unknown) => read(item, path, depth + 1))
    if (typeof value !== "object" || value === null) return scalar(value, "", line, at)
    const entries: Array<readonly [string, Json]> = []
    for (const [key, inner] of Object.entries(value)) {
      refuseKey(key, false, line, formatPath([...path, key]))
      if (++keys > fileKeysMax) throw new Fault(`expected at most ${fileKeysMax} keys`, line, at)
      entries.push([key, read(inner, [...path, key], depth + 1)])
    }
    return objectOf(entries)
  }
  const value = read(table, [], 1)
  return { value: isObject(value) ? value : {}, lines }
}

/** Lines of TOML keys, found by their look: a line inside a long text may be taken for a key, which only misleads a message. */
const tomlLines = (text: string): ReadonlyMap<string, number> => {
  const lines = new Map<string, number>()
  let table = ""
  for (const [index, line] of text.split("\n").entries()) {
    const header = /^\s*\[\[?\s*([^\]\n]{1,400}?)\s*\]\]?\s*(?:#.*)?$/u.exec(line)?.[1]
    const key = header ?? /^\s*((?:[\w-]+|"[^"\n]*"|'[^'\n]*')(?:\s*\.\s*(?:[\w-]+|"[^"\n]*"|'[^'\n]*')){0,23})\s*=/u.exec(line)?.[1]
    if (key === undefined) continue
    const written = key.replaceAll(/'([^']*)'/gu, (_, name: string) => JSON.stringify(name)).replaceAll(/\s*\.\s*/gu, ".")
    const parts = parsePath(header === undefined && table !== "" ? `${table}.${written}` : written)
    if ("why" in parts) continue
    const path = formatPath(parts.value)
    if (header !== undefined) table = path
    if (!lines.has(path)) lines.set(path, index + 1)
  }
  return lines
}

const scalar = (value: unknown, source: string, line: number | undefined, path: string): Json => {
  if (value === null || typeof value === "boolean" || typeof value === "string") return value
  if (typeof value !== "number") throw new Fault("expected a text, a number, true, false or null", line, path)
  if (!Number.isFinite(value)) throw new Fault("expected a number, found one that is not finite", line, path)
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) throw new Fault(`the number ${source || value} would lose digits; write it as text in quotes`, line, path)
  return value + 0
}

const refuseKey = (key: string, twice: boolean, line: number | undefined, path: string): void => {
  if (twice) throw new Fault("the key stands here for the second time", line, path)
  if (forbiddenKeys.has(key)) throw new Fault(`the key ${shown(key)} is forbidden`, line)
}

const sorted = (value: Json): Json =>
  isArray(value) ? value.map(sorted) : isObject(value) ? objectOf(Object.keys(value).sort().map((key) => [key, sorted(value[key] ?? null)])) : value

const findNull = (path: ReadonlyArray<string>, value: Json): string | undefined => {
  if (value === null) return formatPath(path)
  if (isArray(value)) return value.map((item) => findNull(path, item)).find((found) => found !== undefined)
  return isObject(value) ? Object.entries(value).map(([key, inner]) => findNull([...path, key], inner)).find((found) => found !== undefined) : undefined
}

const comment = (node: Node | null, path: ReadonlyArray<string>): void => {
  if (!isMap(node)) return
  for (const pair of node.items) {
    if (!isPair(pair) || !isScalar(pair.key) || typeof pair.key.value !== "string") continue
    const inner = [...path, pair.key.value]
    const setting = findSetting(formatPath(inner))
    if (setting !== undefined && !setting.path.startsWith("user.")) pair.key.commentBefore = ` ${setting.about}`
    if (isNode(pair.value)) comment(pair.value, inner)
  }
}
