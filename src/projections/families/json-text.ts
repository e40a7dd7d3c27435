import type { Json } from "../documents/types.ts"
import { shown } from "./doc-id.ts"
import { forbiddenKeys, objectOf } from "./json.ts"
import { formatPath } from "./path.ts"

/**
 * JSON with line numbers. `JSON.parse` keeps the last of two equal keys without a word, loses digits of long numbers and does not say where a
 * key stood; a file that a person applies deserves better. Reads strict JSON (RFC 8259) only.
 */
export interface JsonText {
  readonly value: Json
  /** Line of each key outside lists, from 1, by path. */
  readonly lines: ReadonlyMap<string, number>
}

export interface JsonTextFault {
  readonly why: string
  readonly line: number
  readonly path: string
}

export const parseJson = (text: string, limits: { readonly depthMax: number; readonly keysMax: number }): JsonText | JsonTextFault => {
  const lines = new Map<string, number>()
  let at = 0
  let line = 1
  let keys = 0
  let path: ReadonlyArray<string> = []

  const fail = (why: string): never => {
    throw new Stop(why)
  }
  const blank = (): void => {
    for (; at < text.length; at++) {
      const char = text[at]
      if (char === "\n") line++
      else if (char !== " " && char !== "\t" && char !== "\r") return
    }
  }
  const found = (): string => (at >= text.length ? "the end of the text" : shown([...text.slice(at, at + 2)][0] ?? ""))
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at
    const match = pattern.exec(text)?.[0]
    if (match !== undefined) at += match.length
    return match
  }
  const readText = (): string => {
    const match = take(/"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*"/uy) ?? fail(`expected a text that ends on its line and has only JSON's escapes, found ${found()}`)
    const value: unknown = JSON.parse(match)
    return typeof value === "string" ? value : fail("expected a text")
  }
  const readNumber = (): number => {
    const match = take(/-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/uy) ?? fail(`expected a value, found ${found()}`)
    const value = Number(match)
    if (!Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value))) fail(`the number ${shown(match)} would lose digits; write it as text in quotes`)
    return value + 0
  }
  const readValue = (depth: number, listed: boolean): Json => {
    blank()
    const char = text[at]
    if (char === "\"") return readText()
    if (char === "[" || char === "{") {
      if (depth === 0) fail(`is nested deeper than ${limits.depthMax} levels`)
      return char === "[" ? readList(depth) : readTable(depth, listed)
    }
    const word = take(/true|false|null/uy)
    return word === undefined ? readNumber() : word === "null" ? null : word === "true"
  }
  const readList = (depth: number): Json => {
    const items: Array<Json> = []
    at++
    blank()
    if (text[at] === "]") { at++; return items }
    for (;;) {
      items.push(readValue(depth - 1, true))
      blank()
      const char = text[at]
      if (char !== "," && char !== "]") fail(`expected ',' or ']', found ${found()}`)
      at++
      if (char === "]") return items
    }
  }
  const readTable = (depth: number, listed: boolean): Json => {
    const entries = new Map<string, Json>()
    const outer = path
    at++
    blank()
    if (text[at] === "}") { at++; return {} }
    for (;;) {
      blank()
      const key = text[at] === "\"" ? readText() : fail(`expected a key in double quotes, found ${found()}`)
      path = [...outer, key]
      if (entries.has(key)) fail("the key stands here for the second time")
      if (forbiddenKeys.has(key)) fail(`the key ${shown(key)} is forbidden`)
      if (++keys > limits.keysMax) fail(`expected at most ${limits.keysMax} keys`)
      if (!listed) lines.set(formatPath(path), line)
      blank()
      if (text[at] !== ":") fail(`expected ':', found ${found()}`)
      at++
      entries.set(key, readValue(depth - 1, listed))
      path = outer
      blank()
      const char = text[at]
      if (char !== "," && char !== "}") fail(`expected ',' or '}', found ${found()}`)
      at++
      if (char === "}") return objectOf(entries)
    }
  }

  try {
    const value = readValue(limits.depthMax, false)
    blank()
    if (at < text.length) fail(`expected the end of the text, found ${found()}`)
    return { value, lines }
  } catch (stop) {
    if (stop instanceof Stop) return { why: stop.message, line, path: formatPath(path) }
    throw stop
  }
}

class Stop extends Error {}
