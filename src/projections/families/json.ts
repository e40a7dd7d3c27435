import type { Json } from "../documents/types.ts"
import { shown } from "./doc-id.ts"

/** JSON values as values: comparing, one text for equal values, limits, and how they stand in a sentence. */

export type JsonObject = { readonly [key: string]: Json }

/** Limits of one value. */
export interface JsonLimits {
  /** Nesting of arrays and objects. */
  readonly depthMax: number
  /** UTF-8 bytes of the value's JSON text. */
  readonly bytesMax: number
}

export const isObject = (value: Json | undefined): value is JsonObject => typeof value === "object" && value !== null && !Array.isArray(value)

export const isArray = (value: Json | undefined): value is ReadonlyArray<Json> => Array.isArray(value)

/** One text per value: keys sorted by code unit, no blanks. Equal values have equal texts on every node. */
export const canonicalJson = (value: Json): string => {
  if (isArray(value)) return `[${value.map(canonicalJson).join(",")}]`
  if (!isObject(value)) return JSON.stringify(value)
  return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key] ?? null)}`).join(",")}}`
}

export const equalJson = (a: Json | undefined, b: Json | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && typeof a === "object" && typeof b === "object" && canonicalJson(a) === canonicalJson(b))

/** Own properties only: `__proto__` and the like never reach the prototype. */
export const ownValue = (object: JsonObject, key: string): Json | undefined => (Object.hasOwn(object, key) ? object[key] : undefined)

/** An object from entries; a later entry wins; no key reaches the prototype. */
export const objectOf = (entries: Iterable<readonly [string, Json]>): JsonObject => Object.fromEntries(entries)

/** UTF-8 length of a text. */
export const utf8Length = (text: string): number => encoder.encode(text).length

/** Why a value exceeds the limits or cannot be JSON, or undefined. Safe on deep values: stops at the depth limit. */
export const jsonFault = (value: Json, limits: JsonLimits): string | undefined => {
  const deep = depthFault(value, limits.depthMax)
  if (deep !== undefined) return deep
  const bytes = utf8Length(JSON.stringify(value) ?? "")
  return bytes > limits.bytesMax ? `expected at most ${limits.bytesMax} bytes of JSON, found ${bytes}` : undefined
}

/** A value as it stands in a sentence: short, control characters escaped. */
export const describe = (value: Json | undefined): string => {
  if (value === undefined) return "nothing"
  if (value === null) return "null"
  if (typeof value === "string") return `the text ${shown(value)}`
  if (typeof value === "number") return `the number ${value}`
  if (typeof value === "boolean") return String(value)
  if (isArray(value)) return `a list of ${value.length}`
  return `a table of ${Object.keys(value).length} keys`
}

/** Keys that no object may have, because careless code would let them reach a prototype. */
export const forbiddenKeys: ReadonlySet<string> = new Set(["__proto__"])

const encoder = new TextEncoder()

const depthFault = (value: Json, left: number): string | undefined => {
  if (typeof value === "number" && !Number.isFinite(value)) return "expected a finite number, found one that JSON cannot hold"
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)) return "expected a whole number within 2^53, found one that would lose digits (write it as text)"
  if (typeof value !== "object" || value === null) return undefined
  if (left === 0) return "is nested too deeply"
  for (const [key, inner] of isArray(value) ? value.entries() : Object.entries(value)) {
    if (typeof key === "string" && forbiddenKeys.has(key)) return `holds the forbidden key ${shown(key)}`
    const fault = depthFault(inner, left - 1)
    if (fault !== undefined) return fault
  }
  return undefined
}
