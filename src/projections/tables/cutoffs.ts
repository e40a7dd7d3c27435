/**
 * The cut-offs that the tables stand for, and what is still to be folded again because one of them changed or a key came.
 *
 * Membership says which cut-offs are in force now (`Members.logs`). Here is written which ones the rows were made with; in the transaction in
 * which these change, the blocks and documents concerned are noted, and a note goes in the transaction that makes them good. So a rebuild that
 * was cut short goes on at the next start.
 */
import type { DocId } from "../documents/types.ts"
import { type Database, int, type Row } from "./database.ts"
import type { Names } from "./names.ts"

export const cutoffsSql = `
-- Blocks of a log from cut_at on do not count; document changes from docs_to on are held. Null: all count.
CREATE TABLE cutoffs (log INTEGER PRIMARY KEY, cut_at INTEGER, docs_to INTEGER) STRICT;
-- Folded blocks that are to be folded again: from block to below next.
CREATE TABLE refold_blocks (log INTEGER PRIMARY KEY, block INTEGER NOT NULL, next INTEGER NOT NULL) STRICT;
-- whole: 1 when what is stored of the document cannot be built on, and its events are to be read from the logs.
CREATE TABLE refold_documents (doc INTEGER PRIMARY KEY, whole INTEGER NOT NULL) STRICT;
`

/** Both Infinity when there is none; `docsTo` is never greater. */
export interface Cutoff {
  /** Blocks from here on do not count. */
  readonly cutAt: number
  /** Document changes from this block on are held. */
  readonly docsTo: number
}

export const noCutoff: Cutoff = { cutAt: Infinity, docsTo: Infinity }

export interface BlockRange {
  readonly log: string
  readonly from: number
  /** The block after the last. */
  readonly to: number
}

export class Cutoffs {
  readonly #database: Database
  readonly #names: Names
  #known: Map<string, Cutoff> | undefined
  #pending: boolean | undefined

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
    database.onRollback(() => {
      this.#known = undefined
      this.#pending = undefined
    })
  }

  of(log: string): Cutoff {
    return this.#load().get(log) ?? noCutoff
  }

  /** Logs that have one. */
  all(): ReadonlyMap<string, Cutoff> {
    return this.#load()
  }

  set(log: string, { cutAt, docsTo }: Cutoff): void {
    const id = this.#names.idOf(log)
    if (cutAt === Infinity && docsTo === Infinity) {
      this.#database.prepare("DELETE FROM cutoffs WHERE log = ?").run(id)
      this.#load().delete(log)
      return
    }
    this.#database.prepare("INSERT INTO cutoffs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET cut_at = excluded.cut_at, docs_to = excluded.docs_to").run(id, orNull(cutAt), orNull(docsTo))
    this.#load().set(log, { cutAt, docsTo })
  }

  /** Whether anything is to be folded again. */
  get pending(): boolean {
    return this.#pending ??= this.#database.prepare("SELECT EXISTS (SELECT 1 FROM refold_blocks) OR EXISTS (SELECT 1 FROM refold_documents) AS pending").get()?.["pending"] === 1
  }

  noteBlocks({ log, from, to }: BlockRange): void {
    this.#pending = undefined
    this.#database.prepare("INSERT INTO refold_blocks VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET block = min(block, excluded.block), next = max(next, excluded.next)").run(this.#names.idOf(log), from, to)
  }

  /** A document that is to be read from the logs. */
  noteDocument(doc: DocId): void {
    this.#pending = undefined
    this.#database.prepare("INSERT INTO refold_documents VALUES (?, 1) ON CONFLICT DO UPDATE SET whole = 1").run(this.#names.idOf(doc))
  }

  /**
   * Documents that indexed events of these types, from this block of a log on, are about. Their last save can be built on when it covers none
   * of these events, that is when all of them are among the changes stored since; never when the log is to be taken out.
   */
  noteDocuments(log: string, from: number, types: Iterable<string>, takenOut: boolean): void {
    this.#pending = undefined
    const ids = [...types].flatMap((type) => this.#names.find(type) ?? [])
    const logId = this.#names.idOf(log)
    this.#database.prepare(
      "INSERT INTO refold_documents SELECT e.subject, ? OR EXISTS (SELECT 1 FROM document_snapshots s WHERE s.id = e.subject) " +
      "AND count(*) <> (SELECT count(*) FROM document_changes c WHERE c.doc = e.subject AND c.log = ? AND c.block >= ?) " +
      `FROM events e WHERE e.log = ? AND e.block >= ? AND e.type IN (${ids.map(() => "?").join()}) GROUP BY e.subject ON CONFLICT DO UPDATE SET whole = max(whole, excluded.whole)`
    ).run(takenOut ? 1 : 0, logId, from, logId, from, ...ids)
  }

  /** Whether this document is to be built anew. */
  isNoted(doc: DocId): boolean {
    return this.pending && this.#database.prepare("SELECT 1 AS found FROM refold_documents WHERE doc = ?").get(this.#names.find(doc) ?? 0) !== undefined
  }

  /** A range of which something is left. */
  blocks(): BlockRange | undefined {
    const row = this.#database.prepare("SELECT log, block, next FROM refold_blocks LIMIT 1").get()
    return row === undefined ? undefined : { log: this.#names.textAt(row, "log"), from: int(row["block"]), to: int(row["next"]) }
  }

  /** The range is good below this block. */
  blocksDone({ log, to }: BlockRange, through: number): void {
    this.#pending = undefined
    const id = this.#names.idOf(log)
    if (through >= to) this.#database.prepare("DELETE FROM refold_blocks WHERE log = ?").run(id)
    else this.#database.prepare("UPDATE refold_blocks SET block = ? WHERE log = ?").run(through, id)
  }

  /** Noted documents, those first that can be built on what is stored. */
  documents(limit: number): ReadonlyArray<{ readonly doc: DocId; readonly whole: boolean }> {
    return this.#database.prepare("SELECT * FROM refold_documents ORDER BY whole LIMIT ?").all(limit).map((row) => ({ doc: this.#names.textAt(row, "doc"), whole: int(row["whole"]) === 1 }))
  }

  documentDone(doc: DocId): void {
    this.#pending = undefined
    this.#database.prepare("DELETE FROM refold_documents WHERE doc = ?").run(this.#names.idOf(doc))
  }

  #load(): Map<string, Cutoff> {
    return this.#known ??= new Map(this.#database.prepare("SELECT * FROM cutoffs").all().map((row) => [this.#names.textAt(row, "log"), { cutAt: orInfinity(row, "cut_at"), docsTo: orInfinity(row, "docs_to") }]))
  }
}

const orNull = (block: number): number | null => (block === Infinity ? null : block)
const orInfinity = (row: Row, column: string): number => (row[column] === null ? Infinity : int(row[column]))
