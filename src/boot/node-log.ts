/**
 * The daemon's own log: one JSON object a line, levelled, in `$home/logs/kos.log`, rotated by size. Not the event log: this is for
 * finding faults and may be lost. What looks like a secret is blotted out before it is written.
 */
import { appendFileSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs"

export type Level = "debug" | "info" | "warn" | "error"
const rank: Readonly<Record<Level, number>> = { debug: 0, info: 1, warn: 2, error: 3 }

export interface LogLimits {
  readonly level: Level
  /** One file at most, bytes. */
  readonly bytesMax: number
  /** Files kept, the current one included. */
  readonly filesMax: number
}

export interface LogLine {
  readonly at: string
  readonly level: Level
  readonly text: string
  readonly detail?: Readonly<Record<string, unknown>>
}

/** One line at most, bytes; a longer one is cut. */
export const lineBytesMax = 16 * 1024

export class NodeLog {
  readonly path: string
  limits: LogLimits
  readonly #now: () => number
  readonly #toTerminal: ((line: LogLine) => void) | undefined
  readonly #listeners = new Set<(line: LogLine) => void>()
  #bytes: number
  #lost = 0

  constructor(directory: string, limits: LogLimits, now: () => number, toTerminal?: (line: LogLine) => void) {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    this.path = `${directory}/kos.log`
    this.limits = limits
    this.#now = now
    this.#toTerminal = toTerminal
    this.#bytes = sizeOf(this.path)
  }

  write(level: Level, text: string, detail?: Readonly<Record<string, unknown>>): void {
    if (rank[level] < rank[this.limits.level]) return
    const line: LogLine = { at: new Date(this.#now()).toISOString(), level, text: blot(text), ...(detail === undefined ? {} : { detail }) }
    this.#toTerminal?.(line)
    for (const listener of this.#listeners) listener(line)
    let json = blot(JSON.stringify(line, plain))
    if (json.length > lineBytesMax) json = JSON.stringify({ ...line, text: line.text.slice(0, 1_000), detail: { cut: json.length } })
    try {
      this.#rotate(json.length + 1)
      appendFileSync(this.path, `${json}\n`, { mode: 0o600 })
      this.#bytes += json.length + 1
    } catch {
      // A log that cannot be written must not take the node down; the count is shown by status.
      this.#lost++
    }
  }

  /** Lines that could not be written, for instance because the disk is full. */
  get lost(): number {
    return this.#lost
  }

  onLine(listener: (line: LogLine) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #rotate(more: number): void {
    if (this.#bytes + more <= this.limits.bytesMax) return
    rmSync(`${this.path}.${this.limits.filesMax - 1}`, { force: true })
    for (let n = this.limits.filesMax - 2; n >= 1; n--) if (sizeOf(`${this.path}.${n}`) > 0) renameSync(`${this.path}.${n}`, `${this.path}.${n + 1}`)
    if (this.#bytes > 0) renameSync(this.path, `${this.path}.1`)
    this.#bytes = 0
  }
}

/** Long hex and the token shapes that kOS itself makes; keys that are public are shown by their first eight digits anyway. */
const blot = (text: string): string => text
  .replace(/kos-invite:[a-z0-9-]+/gi, "kos-invite:…")
  .replace(/-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*-----END [A-Z ]*PRIVATE KEY-----/g, "[private key]")
  .replace(/\b(gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,})\b/g, "[secret]")

const plain = (_key: string, value: unknown): unknown =>
  typeof value === "bigint" ? String(value) : value instanceof Error ? value.message : value instanceof Uint8Array ? `${value.byteLength} bytes` : value

const sizeOf = (path: string): number => {
  try {
    return statSync(path).size
  } catch {
    return 0
  }
}
