import type { Json } from "../documents/types.ts"
import { shown, type Read } from "./doc-id.ts"
import { describe, isArray } from "./json.ts"

/**
 * The types that a setting can have. Each reads the word of a person (`readWord`), checks and normalises a JSON value (`readValue`) and says
 * in a few words what it expects (`expected`). A normalised value is what stands in the document: equal wishes get equal values.
 */
export type SettingType =
  | { readonly kind: "boolean" }
  | { readonly kind: "integer"; readonly min: number; readonly max: number }
  | { readonly kind: "number"; readonly min: number; readonly max: number }
  /** `format` is a pattern and what it means in words. */
  | { readonly kind: "text"; readonly charsMax: number; readonly format?: { readonly pattern: RegExp; readonly words: string } }
  | { readonly kind: "choice"; readonly of: ReadonlyArray<string> }
  /** Text such as `90s` or `24h`; limits in milliseconds. */
  | { readonly kind: "duration"; readonly minMs: number; readonly maxMs: number }
  /** Text such as `4MiB`, or a number of bytes. */
  | { readonly kind: "bytes"; readonly min: number; readonly max: number }
  /** `host:port` texts. */
  | { readonly kind: "addresses"; readonly itemsMax: number }
  /** Texts of one form, each once; `words` says the form. */
  | { readonly kind: "words"; readonly itemsMax: number; readonly format: { readonly pattern: RegExp; readonly words: string } }
  /** `always`, `never` or times of day such as `22:00-06:00,12:00-13:00`. */
  | { readonly kind: "window" }
  /** Any JSON within limits. */
  | { readonly kind: "any" }

export const windowRangesMax = 8

/** What the type expects, as it stands after "expected". */
export const expected = (type: SettingType): string => {
  switch (type.kind) {
    case "boolean": return "true or false"
    case "integer": return `a whole number from ${type.min} to ${type.max}`
    case "number": return `a number from ${type.min} to ${type.max}`
    case "text": return type.format?.words ?? `a text of at most ${type.charsMax} characters`
    case "choice": return type.of.length === 1 ? type.of.join() : `${type.of.slice(0, -1).join(", ")} or ${type.of[type.of.length - 1]}`
    case "duration": return `a duration from ${formatDuration(type.minMs)} to ${formatDuration(type.maxMs)}, such as 90s, 10m or 24h`
    case "bytes": return `a size from ${formatBytes(type.min)} to ${formatBytes(type.max)}, such as 64KiB or 4MiB`
    case "addresses": return `a list of at most ${type.itemsMax} host:port addresses`
    case "words": return `a list of at most ${type.itemsMax}, each ${type.format.words}`
    case "window": return "always, never or times of day such as 22:00-06:00"
    case "any": return "any value"
  }
}

/** Checks and normalises a value that came as JSON; `why` reads "expected …, found …". */
export const readValue = (type: SettingType, value: Json): Read<Json> => {
  const no = { why: `expected ${expected(type)}, found ${describe(value)}` }
  switch (type.kind) {
    case "boolean": return typeof value === "boolean" ? { value } : no
    case "integer": return typeof value === "number" && Number.isSafeInteger(value) && value >= type.min && value <= type.max ? { value } : no
    case "number": return typeof value === "number" && Number.isFinite(value) && value >= type.min && value <= type.max ? { value } : no
    case "text": {
      const fits = typeof value === "string" && value.length <= type.charsMax && !/[\u0000-\u001f\u007f]/u.test(value) && (type.format?.pattern.test(value) ?? true)
      return fits ? { value } : no
    }
    case "choice": return typeof value === "string" && type.of.includes(value) ? { value } : no
    case "duration": {
      const ms = typeof value === "string" ? parseDuration(value) : undefined
      return ms !== undefined && ms >= type.minMs && ms <= type.maxMs ? { value: formatDuration(ms) } : no
    }
    case "bytes": {
      const bytes = typeof value === "number" ? value : typeof value === "string" ? parseBytes(value) : undefined
      return bytes !== undefined && Number.isSafeInteger(bytes) && bytes >= type.min && bytes <= type.max ? { value: formatBytes(bytes) } : no
    }
    case "addresses": {
      if (!isArray(value) || value.length > type.itemsMax) return no
      const bad = value.find((item) => typeof item !== "string" || parseAddress(item) === undefined)
      return bad === undefined ? { value: [...new Set(value)] } : { why: `expected host:port, found ${describe(bad)}` }
    }
    case "words": {
      if (!isArray(value) || value.length > type.itemsMax) return no
      const bad = value.find((item) => typeof item !== "string" || !type.format.pattern.test(item))
      return bad === undefined ? { value: [...new Set(value)] } : { why: `expected ${type.format.words}, found ${describe(bad)}` }
    }
    case "window": {
      const ranges = typeof value === "string" ? parseWindow(value) : undefined
      return typeof value === "string" && ranges !== undefined ? { value: formatWindow(ranges) } : no
    }
    case "any": return { value }
  }
}

/** Reads the word that stands after `config set PATH` or in an environment variable. */
export const readWord = (type: SettingType, word: string): Read<Json> => {
  const text = word.trim()
  switch (type.kind) {
    case "boolean": {
      if (/^(true|yes|on|1)$/iu.test(text)) return { value: true }
      if (/^(false|no|off|0)$/iu.test(text)) return { value: false }
      return { why: `expected true or false, found ${shown(word)}` }
    }
    case "integer":
    case "number": return readValue(type, /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/iu.test(text) ? Number(text) : word)
    case "bytes": return readValue(type, text)
    case "duration":
    case "window":
    case "choice": return readValue(type, text)
    case "text": return readValue(type, word)
    case "addresses":
    case "words": {
      const json = text.startsWith("[") ? wordAsJson(text) : undefined
      return readValue(type, json ?? text.split(/[\s,]+/u).filter((item) => item !== ""))
    }
    case "any": return { value: wordAsJson(word) ?? word }
  }
}

/** Milliseconds of `1d2h3m4s5ms`, or undefined. A bare number is not a duration: it has no unit. */
export const parseDuration = (text: string): number | undefined => {
  if (text.length > 40 || !/^(\d+(\.\d+)?(ms|s|m|h|d|w))+$/u.test(text)) return undefined
  let ms = 0
  for (const [, count, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d|w)/gu)) ms += Number(count) * (durationUnits.get(unit ?? "") ?? 0)
  return Number.isSafeInteger(Math.round(ms)) ? Math.round(ms) : undefined
}

/** The shortest text of a duration: the largest unit that divides it. */
export const formatDuration = (ms: number): string => largestUnit(ms, durationUnits, "ms")

/** Bytes of `4MiB`, `100kB`, `512` or `512B`, or undefined. */
export const parseBytes = (text: string): number | undefined => {
  const found = /^(\d{1,16}(?:\.\d{1,6})?)\s?([A-Za-z]*)$/u.exec(text)
  const unit = byteUnits.get((found?.[2] ?? "").toLowerCase())
  if (found === null || unit === undefined) return undefined
  const bytes = Number(found[1]) * unit
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

/** The shortest exact text of a size, in binary units; 0 is `0B`. */
export const formatBytes = (bytes: number): string => largestUnit(bytes, binaryUnits, "B")

/** Host and port of `host:port`, `1.2.3.4:5` or `[::1]:5`, or undefined. */
export const parseAddress = (text: string): { readonly host: string; readonly port: number } | undefined => {
  const found = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)):(\d{1,5})$/u.exec(text)
  const port = Number(found?.[3])
  const host = found?.[1] ?? found?.[2]
  return host === undefined || host.includes("..") || port < 1 || port > 65_535 ? undefined : { host, port }
}

/** Ranges in minutes of the day, `[from, to)`; a range whose end is not after its start passes midnight. `always` is undefined in `ranges`' place. */
export type Window = "always" | "never" | ReadonlyArray<{ readonly from: number; readonly to: number }>

export const parseWindow = (text: string): Window | undefined => {
  if (text === "always" || text === "never") return text
  const ranges: Array<{ from: number; to: number }> = []
  for (const part of text.slice(0, 200).split(",")) {
    const found = /^([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-4]):([0-5]\d)$/u.exec(part.trim())
    if (found === null) return undefined
    const from = Number(found[1]) * 60 + Number(found[2])
    const to = Number(found[3]) * 60 + Number(found[4])
    if (to > 1440 || from === to) return undefined
    ranges.push({ from, to })
  }
  return ranges.length > windowRangesMax ? undefined : ranges.sort((a, b) => a.from - b.from || a.to - b.to)
}

/** Whether a minute of the day (0 to 1439, local time) lies in the window. */
export const windowHolds = (window: Window, minute: number): boolean =>
  window === "always" ||
  (window !== "never" && window.some(({ from, to }) => (from < to ? minute >= from && minute < to : minute >= from || minute < to)))

export const formatWindow = (window: Window): string =>
  typeof window === "string" ? window : window.map(({ from, to }) => `${clock(from)}-${clock(to)}`).join(",")

/** JSON when the word is JSON, undefined when it is not; keys that reach a prototype are caught by the limits later. */
const wordAsJson = (word: string): Json | undefined => {
  try {
    const value: Json = JSON.parse(word)
    return value
  } catch {
    return undefined
  }
}

const clock = (minutes: number): string => `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`

const durationUnits: ReadonlyMap<string, number> = new Map([["w", 604_800_000], ["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000], ["ms", 1]])

const binaryUnits: ReadonlyMap<string, number> = new Map([["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10], ["B", 1]])

const byteUnits: ReadonlyMap<string, number> = new Map([
  ["", 1], ["b", 1], ["k", 1024], ["m", 2 ** 20], ["g", 2 ** 30], ["t", 2 ** 40],
  ["kib", 1024], ["mib", 2 ** 20], ["gib", 2 ** 30], ["tib", 2 ** 40], ["kb", 1000], ["mb", 1e6], ["gb", 1e9], ["tb", 1e12]
])

/** Weeks are read but never written: people expect 14d, not 2w. */
const largestUnit = (amount: number, units: ReadonlyMap<string, number>, smallest: string): string => {
  if (amount === 0) return `0${smallest === "ms" ? "s" : smallest}`
  for (const [unit, size] of units) if (unit !== "w" && amount % size === 0) return `${amount / size}${unit}`
  return `${amount}${smallest}`
}
