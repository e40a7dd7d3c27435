/** Text for people: safe to show on a terminal, aligned, with relative times. */

/** How to show it. */
export interface View {
  /** Wall milliseconds. */
  readonly now: number
  readonly color: boolean
  /** Columns of the terminal; lines of tables are cut to it. */
  readonly columns: number
  /** What the person typed, for wording. */
  readonly input: Readonly<Record<string, unknown>>
}

/**
 * Control characters (C0 but newline and tab, DEL, C1) and the characters that turn the direction of text, any of which could make a terminal
 * show something else than what is there.
 */
const unsafe = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

export const safe = (text: string): string =>
  text.replace(unsafe, (character) => {
    const code = character.charCodeAt(0)
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`
  })

/** The same value with every string in it safe, keys too; whatever is rendered passes through here once. */
export const safeDeep = <T>(value: T): T => mapStrings(value) as T

const mapStrings = (value: unknown): unknown => {
  if (typeof value === "string") return safe(value)
  if (Array.isArray(value)) return value.map(mapStrings)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [safe(key), mapStrings(inner)]))
}

const paint = (code: number) => (view: View, text: string): string => (view.color && text !== "" ? `\u001b[${code}m${text}\u001b[0m` : text)
export const bold = paint(1)
export const dim = paint(2)
export const red = paint(31)
export const green = paint(32)
export const yellow = paint(33)

/** Columns that a text takes: colour codes none, wide East Asian characters and most emoji two, combining ones none. */
export const width = (text: string): number => {
  let columns = 0
  for (const character of text.replace(/\u001b\[\d+m/g, "")) {
    const code = character.codePointAt(0) ?? 0
    if (/^\p{Mn}|\u200d|\ufe0f$/u.test(character)) continue
    columns += (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf) || (code >= 0xac00 && code <= 0xd7a3) ||
        (code >= 0xf900 && code <= 0xfaff) || (code >= 0xfe30 && code <= 0xfe6f) || (code >= 0xff00 && code <= 0xff60) ||
        (code >= 0x1f300 && code <= 0x1faff) || (code >= 0x20000 && code <= 0x3fffd)
      ? 2
      : 1
  }
  return columns
}

/** On one line, and not longer than `columnsMax`. */
export const oneLine = (text: string, columnsMax = 200): string => {
  const flat = text.replace(/\s*\n\s*/g, " ⏎ ").replaceAll("\t", " ")
  if (width(flat) <= columnsMax) return flat
  let out = ""
  let used = 0
  for (const character of flat) {
    used += width(character)
    if (used >= columnsMax) break
    out += character
  }
  return `${out}…`
}

/** Columns aligned by spaces; a column whose heading ends in `#` is set right. Empty when there are no rows. */
export const table = (view: View, headings: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> => {
  if (rows.length === 0) return []
  const right = headings.map((heading) => heading.endsWith("#"))
  const titles = headings.map((heading) => heading.replace(/#$/, ""))
  const cells = rows.map((row) => titles.map((_, i) => oneLine(row[i] ?? "", i === titles.length - 1 ? 2_000 : 48)))
  const widths = titles.map((title, i) => cells.reduce((most, row) => Math.max(most, width(row[i] ?? "")), width(title)))
  const line = (row: ReadonlyArray<string>) =>
    row.map((cell, i) => {
      const gap = " ".repeat(Math.max(0, (widths[i] ?? 0) - width(cell)))
      if (right[i] === true) return gap + cell
      return i === row.length - 1 ? cell : cell + gap
    }).join("  ").trimEnd()
  return [dim(view, cutLine(line(titles), view.columns)), ...cells.map((row) => cutLine(line(row), view.columns))]
}

const cutLine = (line: string, columns: number): string => (line.includes("\u001b") || width(line) <= columns ? line : oneLine(line, columns))

/** Label and value, a pair a line. Undefined values are left out. */
export const pairs = (view: View, entries: ReadonlyArray<readonly [string, string | undefined]>): ReadonlyArray<string> => {
  const shown = entries.flatMap(([label, value]) => (value === undefined ? [] : [[label, value] as const]))
  const wide = shown.reduce((most, [label]) => Math.max(most, width(label)), 0)
  return shown.map(([label, value]) => `${dim(view, label.padEnd(wide))}  ${value}`)
}

const steps = [[60_000, 1_000, "s"], [3_600_000, 60_000, "min"], [86_400_000, 3_600_000, "h"], [Infinity, 86_400_000, "d"]] as const

export const duration = (ms: number): string => {
  const size = Math.abs(ms)
  if (Number.isNaN(size)) return "an unknown time"
  if (size < 1_000) return `${Math.round(size)} ms`
  const [, unit, name] = steps.find(([below]) => size < below) ?? steps[3]
  return `${Math.floor(size / unit)} ${name}`
}

/** `3 min ago`, `in 2 h`; the text itself when it is no time. */
export const ago = (view: View, time: string | undefined): string => {
  if (time === undefined) return ""
  const ms = Date.parse(time)
  if (Number.isNaN(ms)) return time
  const past = view.now - ms
  if (Math.abs(past) < 2_000) return "now"
  return past > 0 ? `${duration(past)} ago` : `in ${duration(past)}`
}

/** `2026-05-01 12:00:00` in UTC, with how long ago. */
export const when = (view: View, time: string | undefined): string => (time === undefined ? "" : `${time.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC")} (${ago(view, time)})`)

export const count = (n: number, one: string, many = `${one}s`): string => `${n.toLocaleString("en")} ${n === 1 ? one : many}`

export const bytes = (n: number): string => {
  const names = ["B", "kB", "MB", "GB", "TB"]
  const power = n < 1 ? 0 : Math.min(names.length - 1, Math.floor(Math.log10(n) / 3))
  const value = n / 1_000 ** power
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${names[power] ?? "B"}`
}

/** First eight digits: enough to name a key on a small mesh. */
export const short = (hex: string): string => hex.slice(0, 8)

/** A value as a person reads it: text bare, the rest as JSON. */
export const plain = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value) ?? "")
/** A value inside a line, so that text cannot be taken for something else. */
export const inline = (value: unknown): string => JSON.stringify(value) ?? "nothing"
