/**
 * Evidence: logs of which two signed histories were shown (`evidence.found`), and what admins decided about them (`evidence.cleared`).
 *
 * Only what proves itself is kept: both histories are signed by the accused log's key and differ at one length, so it does not matter who
 * says it. A log is *held* from one block before the smallest such length on: all nodes count the same blocks of it, whichever history they have. A
 * decision names the history that stands by its tree hash at that length, and counts when an admin or owner made it; what is found later at a
 * smaller length holds the log again. Who may decide is asked when it is read, since membership may still change.
 */
import { contradiction, decodeHistory } from "../../codec/history.ts"
import { type Database, int, text } from "./database.ts"
import type { FoldedEvent } from "./folds.ts"
import type { Names } from "./names.ts"

/** Folded wherever they stand: whether a decision counts is asked when it is read, and evidence always does. */
export const evidenceTypes: ReadonlySet<string> = new Set(["evidence.found/1", "evidence.cleared/1"])

export const evidenceSql = `
-- accused: the log of which two histories were signed, differing at length. log, block, offset: the event that shows them.
CREATE TABLE evidence (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, accused INTEGER NOT NULL, length INTEGER NOT NULL,
  PRIMARY KEY (log, block, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX evidence_accused ON evidence (accused, length);

-- What was decided: the history with this tree hash at this length stands.
CREATE TABLE evidence_cleared (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, accused INTEGER NOT NULL, length INTEGER NOT NULL, tree_hash TEXT NOT NULL,
  PRIMARY KEY (log, block, offset)
) STRICT, WITHOUT ROWID;
`

export interface HeldLogEvidence {
  readonly accused: string
  /** The smallest length at which two histories differ; blocks from `length - 1` on are held back. */
  readonly length: number
  /** Events that show it, by their log, block and offset. */
  readonly events: ReadonlyArray<{ readonly log: string; readonly block: number; readonly offset: number }>
  /** The decision, when one was made that covers this length: the first by log, block and offset. */
  readonly decided: { readonly length: number; readonly treeHash: string; readonly log: string; readonly block: number; readonly offset: number } | undefined
}

export class Evidence {
  readonly #database: Database
  readonly #names: Names
  #all: ReadonlyArray<HeldLogEvidence> | undefined
  #version = 0

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
    database.onRollback(() => this.forget())
  }

  /** Takes `evidence.found`; keeps it only when its histories prove it. */
  found({ log, block, offset, body }: FoldedEvent): void {
    const shown = histories(body)
    if (shown === undefined) return
    const length = contradiction(shown.log, shown.one, shown.other)
    if (length === undefined) return
    this.forget()
    this.#database.prepare("INSERT INTO evidence VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
      .run(this.#names.idOf(log), block, offset, this.#names.idOf(shown.log), length)
  }

  cleared({ log, block, offset, body }: FoldedEvent): void {
    if (typeof body !== "object" || body === null || !("log" in body) || !("length" in body) || !("treeHash" in body)) return
    if (typeof body.log !== "string" || typeof body.length !== "number" || typeof body.treeHash !== "string") return
    this.forget()
    this.#database.prepare("INSERT INTO evidence_cleared VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
      .run(this.#names.idOf(log), block, offset, this.#names.idOf(body.log), body.length, body.treeHash)
  }

  /** Rows were taken out or put in by another hand. */
  forget(): void {
    this.#all = undefined
    this.#version++
  }

  /** Grows with each row taken in. */
  get version(): number {
    return this.#version
  }

  /** Every accused log. `mayDecide` says whether what stands in a log at a block may decide about the accused; other decisions are left out. */
  all(mayDecide: (decision: { readonly log: string; readonly block: number }, accused: string) => boolean): ReadonlyArray<HeldLogEvidence> {
    const found = this.#read()
    return found.map((held) => ({ ...held, decided: this.#decisions(held).find((decision) => mayDecide(decision, held.accused)) }))
  }

  #read(): ReadonlyArray<HeldLogEvidence> {
    if (this.#all !== undefined) return this.#all
    const byLog = new Map<string, { length: number; events: Array<{ readonly log: string; readonly block: number; readonly offset: number }> }>()
    for (const row of this.#database.prepare("SELECT * FROM evidence ORDER BY accused, length, log, block, offset").all()) {
      const accused = this.#names.textAt(row, "accused")
      const event = { log: this.#names.textAt(row, "log"), block: int(row["block"]), offset: int(row["offset"]) }
      const known = byLog.get(accused)
      if (known === undefined) byLog.set(accused, { length: int(row["length"]), events: [event] })
      else known.events.push(event)
    }
    this.#all = [...byLog].map(([accused, { length, events }]) => ({ accused, length, events, decided: undefined })).sort((a, b) => a.accused < b.accused ? -1 : 1)
    return this.#all
  }

  #decisions({ accused, length }: HeldLogEvidence): ReadonlyArray<NonNullable<HeldLogEvidence["decided"]>> {
    return this.#database.prepare("SELECT * FROM evidence_cleared WHERE accused = ? AND length <= ?").all(this.#names.find(accused) ?? 0, length).map((row) => ({
      length: int(row["length"]), treeHash: text(row["tree_hash"]), log: this.#names.textAt(row, "log"), block: int(row["block"]), offset: int(row["offset"])
    })).sort((a, b) => a.log < b.log ? -1 : a.log > b.log ? 1 : a.block - b.block || a.offset - b.offset)
  }
}

const histories = (body: unknown) => {
  if (typeof body !== "object" || body === null || !("log" in body) || typeof body.log !== "string" || !("histories" in body)) return undefined
  if (!Array.isArray(body.histories) || body.histories.length !== 2) return undefined
  const [first, second] = body.histories as ReadonlyArray<unknown>
  if (!(first instanceof Uint8Array) || !(second instanceof Uint8Array)) return undefined
  const one = decodeHistory(first)
  const other = decodeHistory(second)
  return one === undefined || other === undefined ? undefined : { log: body.log, one, other }
}
