import type { Conflict, DocId, DocumentState, Family, Json, LoggedChange, StoredDocument } from "../documents/types.ts"
import { canonicalJson } from "../families/json.ts"
import type { Cutoffs } from "./cutoffs.ts"
import { blob, type Database, int, prefixEnd, type Row, type Statement, text, textOrNull } from "./database.ts"
import type { MemorySearch } from "./memory-search.ts"
import type { Names } from "./names.ts"
import { corrupt } from "./table-error.ts"

/** Documents in one answer at most. */
export const documentPageMax = 10_000
const stalledCharsMax = 512

export interface DocumentSummary {
  readonly id: DocId
  readonly heads: ReadonlyArray<string>
  readonly faults: ReadonlyArray<string>
  /** Why its changes are not applied; undefined when they are. */
  readonly stalled: string | undefined
  /** Registers with more than one value. */
  readonly conflicts: number
  readonly changes: number
  readonly waiting: number
  /** Changes beyond the cut-off of their log on which nobody builds. */
  readonly held: number
}

export interface DocumentConflicts {
  readonly id: DocId
  readonly conflicts: ReadonlyArray<Conflict>
}

export interface ListOptions {
  /** What the id begins with after the family, for instance `notes/`. */
  readonly prefix?: string
  readonly limit?: number
  /** The id that the last page ended with. */
  readonly after?: DocId
}

/** Documents: their state as the worker said it, their last save, and the changes since. */
export class DocumentStore {
  readonly #database: Database
  readonly #names: Names
  readonly #search: MemorySearch
  readonly #cutoffs: Cutoffs
  /** Emptied or built anew since somebody asked for their last change: a save that was begun before is of another document. */
  readonly #reset = new Set<DocId>()
  readonly #ensure: Statement
  readonly #append: Statement
  readonly #put: Statement

  constructor(database: Database, names: Names, search: MemorySearch, cutoffs: Cutoffs) {
    this.#database = database
    this.#names = names
    this.#search = search
    this.#cutoffs = cutoffs
    this.#ensure = database.prepare("INSERT INTO documents (id) VALUES (?) ON CONFLICT DO NOTHING")
    this.#append = database.prepare("INSERT INTO document_changes VALUES (NULL, ?, ?, ?, ?, ?, ?)")
    this.#put = database.prepare(
      "INSERT INTO documents (id, heads, value, live, faults, conflicts, writers, changes, waiting, held) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET " +
      "heads = excluded.heads, value = excluded.value, live = excluded.live, faults = excluded.faults, conflicts = excluded.conflicts, writers = excluded.writers, " +
      "changes = excluded.changes, waiting = excluded.waiting, held = excluded.held, stalled = NULL"
    )
  }

  /** What the worker needs to have the document again; empty for one that is not here. */
  load(doc: DocId): StoredDocument {
    const id = this.#names.find(doc)
    if (id === undefined) return { snapshot: undefined, gate: undefined, changes: [] }
    const saved = this.#database.prepare("SELECT snapshot, gate FROM document_snapshots WHERE id = ?").get(id)
    const changes = this.#database.prepare("SELECT log, block, offset, ms, change FROM document_changes WHERE doc = ? ORDER BY id").all(id)
    return {
      snapshot: saved === undefined ? undefined : blob(saved["snapshot"]),
      gate: saved === undefined ? undefined : blob(saved["gate"]),
      changes: changes.map((row) => {
        const log = this.#names.textAt(row, "log")
        const { docsTo } = this.#cutoffs.of(log)
        return { log, block: int(row["block"]), offset: int(row["offset"]), ms: int(row["ms"]), change: blob(row["change"]), ...(docsTo === Infinity ? {} : { cut: docsTo }) }
      })
    }
  }

  /** Adds changes in arrival order; returns the number of the last one, which `putSnapshot` takes. */
  append(doc: DocId, changes: ReadonlyArray<LoggedChange>): number {
    return this.#database.transaction(() => {
      const id = this.#names.idOf(doc)
      this.#ensure.run(id)
      const insert = this.#append.raw
      return this.#database.guard("append document changes", () => {
        let last = 0
        for (const { log, block, offset, ms, change } of changes) {
          last = Number(insert.run(id, this.#names.idOf(log), block, offset, ms, change).lastInsertRowid)
        }
        return last
      })
    })
  }

  /** Number of the newest change that is stored after the snapshot; 0 when there is none. */
  lastChange(doc: DocId): number {
    this.#reset.delete(doc)
    const id = this.#names.find(doc) ?? 0
    return int(this.#database.prepare("SELECT coalesce(max(id), 0) AS id FROM document_changes WHERE doc = ?").get(id)?.["id"])
  }

  /** How many changes are stored after the snapshot: when there are many, it is time for the next one. */
  changesSinceSnapshot(doc: DocId): number {
    const id = this.#names.find(doc) ?? 0
    return int(this.#database.prepare("SELECT count(*) AS n FROM document_changes WHERE doc = ?").get(id)?.["n"])
  }

  /** Takes the worker's word on a document; what was stalled no longer is. A memory page becomes searchable in the same transaction. */
  putState(doc: DocId, state: DocumentState): void {
    this.#database.transaction(() => {
      const id = this.#names.idOf(doc)
      const value = canonicalJson(state.value)
      const live = canonicalJson(state.live)
      this.#put.run(
        id, JSON.stringify(state.heads), value, live === value ? null : live, state.faults.length === 0 ? null : JSON.stringify(state.faults),
        state.conflicts.length === 0 ? null : JSON.stringify(inOrder(state.conflicts)), canonicalJson(state.writers), state.changes, state.waiting, state.held
      )
      if (doc.startsWith("memory/")) this.#search.put(doc, state.live)
    })
  }

  /**
   * Keeps a save and drops the changes that it covers: those up to number `through` (from `append` or `lastChange`, read before the worker
   * saved), or all of them when nothing can have come in between. Does nothing when the document was
   * emptied or built anew since `lastChange`, or is about to be.
   */
  putSnapshot(doc: DocId, snapshot: Uint8Array, gate: Uint8Array, through: number = Number.MAX_SAFE_INTEGER): void {
    if ((through !== Number.MAX_SAFE_INTEGER && this.#reset.has(doc)) || this.#cutoffs.isNoted(doc)) return
    this.#database.transaction(() => {
      const id = this.#names.idOf(doc)
      this.#ensure.run(id)
      const covered = this.#database.prepare("DELETE FROM document_changes WHERE doc = ? AND id <= ?").run(id, through)
      this.#database.prepare(
        "INSERT INTO document_snapshots VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET changes = changes + excluded.changes, snapshot = excluded.snapshot, gate = excluded.gate"
      ).run(id, covered, snapshot, gate)
    })
  }

  /** Marks that a document's changes are kept but not applied, and why; undefined takes the mark away. */
  stall(doc: DocId, why: string | undefined): void {
    this.#database.prepare("INSERT INTO documents (id, stalled) VALUES (?, ?) ON CONFLICT DO UPDATE SET stalled = excluded.stalled")
      .run(this.#names.idOf(doc), why === undefined ? null : why.slice(0, stalledCharsMax))
  }

  /** It is built anew: a save that was begun before is not kept. */
  renew(doc: DocId): void {
    this.#reset.add(doc)
  }

  /** Drops all that is stored of a document, so that it can be folded again from its events. */
  reset(doc: DocId): void {
    this.#database.transaction(() => {
      const id = this.#names.find(doc)
      if (id === undefined) return
      this.#reset.add(doc)
      this.#database.prepare("DELETE FROM document_changes WHERE doc = ?").run(id)
      this.#database.prepare("DELETE FROM document_snapshots WHERE id = ?").run(id)
      this.#database.prepare("DELETE FROM documents WHERE id = ?").run(id)
      this.#search.remove(doc)
    })
  }

  /** Undefined until a change of it counts: what is only held or waits makes no document. */
  state(doc: DocId): DocumentState | undefined {
    const id = this.#names.find(doc)
    const row = id === undefined ? undefined : this.#database.prepare("SELECT * FROM documents WHERE id = ? AND heads IS NOT NULL AND changes > 0").get(id)
    if (row === undefined) return undefined
    const value = record(row, "value")
    return {
      heads: strings(row, "heads"), value, live: row["live"] === null ? value : record(row, "live"), faults: strings(row, "faults"),
      conflicts: conflictsOf(row), writers: writersOf(row), changes: int(row["changes"]), waiting: int(row["waiting"]), held: int(row["held"])
    }
  }

  summary(doc: DocId): DocumentSummary | undefined {
    const id = this.#names.find(doc)
    const row = id === undefined ? undefined : this.#database.prepare(`${summaries} WHERE d.id = ?`).get(id)
    return row === undefined ? undefined : summaryOf(row)
  }

  /** Documents of a family, by id. */
  list(family: Family, options: ListOptions = {}): ReadonlyArray<DocumentSummary> {
    const prefix = `${family}/${options.prefix ?? ""}`
    return this.#database.prepare(`${summaries} WHERE n.text >= ? AND n.text < ? AND n.text > ? ORDER BY n.text LIMIT ?`)
      .all(prefix, prefixEnd(prefix), options.after ?? "", Math.min(options.limit ?? documentPageMax, documentPageMax)).map(summaryOf)
  }

  /** The conflict inbox: every document with registers of more than one value. */
  conflicts(limit: number = documentPageMax): ReadonlyArray<DocumentConflicts> {
    return this.#database.prepare(
      "SELECT n.text AS name, d.conflicts FROM documents d INDEXED BY documents_conflicts JOIN names n ON n.id = d.id WHERE d.conflicts IS NOT NULL ORDER BY n.text LIMIT ?"
    ).all(Math.min(limit, documentPageMax)).map((row) => ({ id: text(row["name"]), conflicts: conflictsOf(row) }))
  }

  /** Documents whose merged value breaks their schema, and documents that stall. */
  unwell(limit: number = documentPageMax): ReadonlyArray<DocumentSummary> {
    return this.#database.prepare(`${unwell} ORDER BY n.text LIMIT ?`).all(Math.min(limit, documentPageMax)).map(summaryOf)
  }

  /** Why a document's changes are not applied; undefined when they are. */
  stalled(doc: DocId): string | undefined {
    const id = this.#names.find(doc) ?? 0
    return textOrNull(this.#database.prepare("SELECT stalled FROM documents WHERE id = ?").get(id)?.["stalled"] ?? null)
  }

  /** All stalled documents: to be tried again at start. */
  stalledDocuments(): ReadonlyArray<DocId> {
    return this.unwell().filter((doc) => doc.stalled !== undefined).map((doc) => doc.id)
  }

  totals(): { readonly documents: number; readonly conflicts: number; readonly faulty: number; readonly stalled: number; readonly waiting: number; readonly held: number } {
    const row = this.#database.prepare(
      "SELECT count(*) AS n, count(conflicts) AS c, count(faults) AS f, count(stalled) AS s, coalesce(sum(waiting), 0) AS w, coalesce(sum(held), 0) AS h FROM documents"
    ).get()
    return { documents: int(row?.["n"]), conflicts: int(row?.["c"]), faulty: int(row?.["f"]), stalled: int(row?.["s"]), waiting: int(row?.["w"]), held: int(row?.["h"]) }
  }
}

const columns = "n.text AS name, d.heads, d.faults, d.stalled, coalesce(json_array_length(d.conflicts), 0) AS conflicted, d.changes, d.waiting, d.held"
const summaries = `SELECT ${columns} FROM names n CROSS JOIN documents d ON d.id = n.id`
const unwell = `SELECT ${columns} FROM documents d INDEXED BY documents_unwell JOIN names n ON n.id = d.id WHERE d.faults IS NOT NULL OR d.stalled IS NOT NULL`

/** The same on every node: by key; the winner first, then by address. */
const inOrder = (conflicts: ReadonlyArray<Conflict>): ReadonlyArray<Conflict> =>
  conflicts.map((conflict) => ({
    key: conflict.key,
    values: conflict.values.toSorted((a, b) => Number(b.winner) - Number(a.winner) || compare(a.log, b.log) || a.block - b.block || a.offset - b.offset)
  })).sort((a, b) => compare(a.key, b.key))

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

const summaryOf = (row: Row): DocumentSummary => ({
  id: text(row["name"]), heads: strings(row, "heads"), faults: strings(row, "faults"), stalled: textOrNull(row["stalled"] ?? null),
  conflicts: int(row["conflicted"]), changes: int(row["changes"]), waiting: int(row["waiting"]), held: int(row["held"])
})

/** Our own JSON, written by `putState`: that it parses shows that it is whole; its shape is what was put. */
const parsed = <A = Json>(row: Row, column: string): A => {
  try {
    const value: A = JSON.parse(text(row[column]))
    return value
  } catch (cause) {
    if (cause instanceof SyntaxError) throw corrupt(`read ${column} of a document`, cause.message)
    throw cause
  }
}

const record = (row: Row, column: string): DocumentState["value"] => {
  const value = parsed(row, column)
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw corrupt(`read ${column} of a document`, "it is not an object")
  return Object.fromEntries(Object.entries(value))
}

const strings = (row: Row, column: string): ReadonlyArray<string> => {
  if (row[column] === null) return []
  const value = parsed(row, column)
  if (!Array.isArray(value)) throw corrupt(`read ${column} of a document`, "it is not a list")
  return value.map(String)
}

const conflictsOf = (row: Row): ReadonlyArray<Conflict> => (row["conflicts"] === null ? [] : parsed<ReadonlyArray<Conflict>>(row, "conflicts"))

const writersOf = (row: Row): DocumentState["writers"] => (row["writers"] === null ? {} : parsed<DocumentState["writers"]>(row, "writers"))
