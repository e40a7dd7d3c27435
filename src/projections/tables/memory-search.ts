import type { DocId, Json } from "../documents/types.ts"
import { readPage } from "../families/memory.ts"
import { type Database, int, type Statement, text } from "./database.ts"
import type { Names } from "./names.ts"

export const searchResultsMax = 1_000
/** Words and phrases of a query that are looked for; further ones are left out. */
const termsMax = 16
const queryCharsMax = 512
/** Characters of fields that are indexed for a page. */
const fieldCharsMax = 65_536
/** Words in a snippet. */
const snippetWords = 16
const prefix = "memory/"

export interface Found {
  readonly doc: DocId
  /** The place that fits best, the words found in `[` and `]`. */
  readonly snippet: string
  /** Lower is better (BM25; name and title count most, then tags and fields, then text). */
  readonly rank: number
}

export interface SearchOptions {
  readonly limit: number
  /** One module of memory only. */
  readonly module?: string
}

/** Full-text search over memory pages, as readers see them (`live`). SQLite's FTS5; words without accents, case does not matter. */
export class MemorySearch {
  readonly #database: Database
  readonly #names: Names
  readonly #old: Statement
  readonly #delete: Statement
  readonly #insert: Statement

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
    this.#old = database.prepare("SELECT title, fields, text FROM memory_pages WHERE rowid = ?")
    this.#delete = database.prepare("DELETE FROM memory_pages WHERE rowid = ?")
    this.#insert = database.prepare("INSERT INTO memory_pages (rowid, page, title, fields, text) VALUES (?, ?, ?, ?, ?)")
  }

  /** Called by the document store, in its transaction. A page that is empty or forgotten is not found. */
  put(doc: DocId, live: { readonly [key: string]: Json }): void {
    const id = this.#names.idOf(doc)
    const page = readPage(live)
    const title = page.title
    const fields = [...page.tags, wordsOf(page.fields)].join(" ").slice(0, fieldCharsMax)
    const old = this.#old.get(id)
    const gone = page.state === "forgotten" || (title === "" && fields === "" && page.text === "")
    if (old !== undefined) {
      if (!gone && old["title"] === title && old["text"] === page.text && old["fields"] === fields) return
      this.#delete.run(id)
    }
    if (!gone) this.#insert.run(id, doc.slice(prefix.length), title, fields, page.text)
  }

  remove(doc: DocId): void {
    this.#delete.run(this.#names.find(doc) ?? 0)
  }

  /**
   * Pages that hold all words of the query, best first. `"two words"` is a phrase, `begin*` any word that begins so; everything else
   * is words, whatever characters it has. A query without a word finds nothing.
   */
  search(query: string, options: SearchOptions): ReadonlyArray<Found> {
    const match = matchOf(query)
    if (match === "") return []
    const module = options.module === undefined ? "" : `${prefix}${options.module}/`
    return this.#database.prepare(
      `SELECT n.text AS name, snippet(memory_pages, -1, '[', ']', '…', ${snippetWords}) AS snippet, bm25(memory_pages, 8.0, 8.0, 3.0, 1.0) AS score ` +
      "FROM memory_pages JOIN names n ON n.id = memory_pages.rowid WHERE memory_pages MATCH ?1 AND (?2 = '' OR substr(n.text, 1, length(?2)) = ?2) " +
      "ORDER BY score, n.text LIMIT ?3"
    ).all(match, module, Math.max(0, Math.min(options.limit, searchResultsMax)))
      .map((row) => ({ doc: text(row["name"]), snippet: text(row["snippet"]), rank: Number(row["score"]) }))
  }

  /** Pages that can be found. */
  count(): number {
    return int(this.#database.prepare("SELECT count(*) AS n FROM memory_pages").get()?.["n"])
  }
}

/** An FTS5 expression that says what the user wrote and nothing else: every term is a quoted string. */
export const matchOf = (query: string): string => {
  const terms: Array<string> = []
  for (const [, phrase, word] of query.slice(0, queryCharsMax).toWellFormed().replaceAll("\0", " ").matchAll(/"([^"]*)(?:"|$)|([^\s"]+)/gu)) {
    const raw = phrase ?? word ?? ""
    // Without a letter or digit FTS5 has no word to look for.
    if (!/[\p{L}\p{N}]/u.test(raw)) continue
    const begins = phrase === undefined && raw.endsWith("*")
    terms.push(begins ? `"${raw.replace(/\*+$/u, "")}"*` : `"${raw}"`)
    if (terms.length === termsMax) break
  }
  return terms.join(" AND ")
}

/** Keys and values as words. */
const wordsOf = (value: Json): string => {
  if (value === null || typeof value === "boolean") return ""
  if (typeof value !== "object") return String(value)
  if (Array.isArray(value)) return value.map(wordsOf).filter((words) => words !== "").join(" ")
  return Object.entries(value).map(([key, inner]) => `${key} ${wordsOf(inner)}`).join(" ").trim()
}
