import { type Database, int, text } from "./database.ts"
import type { Facts } from "./facts.ts"
import type { Names } from "./names.ts"

/** Entries that are kept; later ones are only counted. */
export const quarantineRowsMax = 10_000
const whyCharsMax = 512
const uncountedFact = "quarantine-not-kept"
/** Stands for the offset of an entry about a whole frame. */
const wholeFrame = -1

export interface Quarantined {
  readonly log: string
  readonly block: number
  /** Undefined (or -1): the whole frame. */
  readonly offset: number | undefined
  /** The device whose log it is, 64 hex digits; empty when nobody knows. */
  readonly device: string
  readonly why: string
  /** When it was found here, milliseconds of our clock; undefined from a fold, which has none. */
  readonly ms?: number | undefined
}

/** What was refused after it had come in: kept with author and address, so that people see whose it is and why it does not count. */
export class Quarantine {
  readonly #database: Database
  readonly #names: Names
  readonly #facts: Facts

  constructor(database: Database, names: Names, facts: Facts) {
    this.#database = database
    this.#names = names
    this.#facts = facts
  }

  /** One entry for each place; a second reason for the same place replaces the first. */
  add(entry: Quarantined): void {
    this.#database.transaction(() => {
      const log = this.#names.idOf(entry.log)
      const place = [log, entry.block, entry.offset ?? wholeFrame] as const
      const known = this.#database.prepare("SELECT 1 AS found FROM quarantine WHERE log = ? AND block = ? AND event = ?").get(...place)
      if (known === undefined && this.#kept() >= quarantineRowsMax) {
        this.#facts.set(uncountedFact, String(this.#notKept() + 1))
        return
      }
      this.#database.prepare(
        "INSERT INTO quarantine VALUES (NULL, ?, ?, ?, ?, ?, ?) ON CONFLICT (log, block, event) DO UPDATE SET device = excluded.device, why = excluded.why"
      ).run(...place, entry.device, entry.why.slice(0, whyCharsMax), entry.ms ?? null)
    })
  }

  /** It counts after all, for instance because its author's membership has arrived. Returns false when it was not here. */
  release(log: string, block: number, offset: number | undefined): boolean {
    return this.#database.prepare("DELETE FROM quarantine WHERE log = ? AND block = ? AND event = ?").run(this.#names.find(log) ?? 0, block, offset ?? wholeFrame) > 0
  }

  /** Newest first. */
  list(limit: number, log?: string): ReadonlyArray<Quarantined> {
    const rows = log === undefined
      ? this.#database.prepare("SELECT * FROM quarantine ORDER BY id DESC LIMIT ?").all(limit)
      : this.#database.prepare("SELECT * FROM quarantine WHERE log = ? ORDER BY id DESC LIMIT ?").all(this.#names.find(log) ?? 0, limit)
    return rows.map((row) => ({
      log: this.#names.textAt(row, "log"), block: int(row["block"]), offset: row["event"] === wholeFrame ? undefined : int(row["event"]),
      device: text(row["device"]), why: text(row["why"]), ms: row["ms"] === null ? undefined : int(row["ms"])
    }))
  }

  /** Why the event at this place does not count; undefined when it does, or when the reason was not kept. */
  why(log: string, block: number, offset: number): string | undefined {
    const row = this.#database.prepare("SELECT why FROM quarantine WHERE log = ? AND block = ? AND event = ?").get(this.#names.find(log) ?? 0, block, offset)
    return row === undefined ? undefined : text(row["why"])
  }

  /** All that were found, kept or not. */
  count(): number {
    return this.#kept() + this.#notKept()
  }

  #kept(): number {
    return int(this.#database.prepare("SELECT count(*) AS n FROM quarantine").get()?.["n"])
  }

  #notKept(): number {
    return Number(this.#facts.get(uncountedFact) ?? "0")
  }
}
