/**
 * One SQLite file: the tables that are folded from the logs, and what only this node knows.
 *
 * It owns the connection, its settings, the schema's version, transactions and the cache of prepared statements. Everything here is
 * synchronous: a fold of 256 events takes about a millisecond, and a transaction that cannot be interrupted cannot be interleaved.
 *
 * Invariants. Rows and the cursors that say how far they go are written in one transaction. A transaction that fails leaves nothing, in the
 * file or in memory: whoever caches what is in the file registers with `onRollback`. A transaction may stand in another one (a savepoint);
 * its failure undoes only itself.
 *
 * Tricky cases. (1) Some errors (no space, a failed read) may make SQLite roll back the *whole* transaction, also from within a savepoint. Code
 * that swallowed the error and went on would then write outside any transaction; so the transaction is marked lost, and every statement
 * fails with the same error until the outermost `transaction` has ended. (2) Disk full: nothing is written, the connection stays usable, and
 * the next transaction succeeds when space is back. A checkpoint that finds no space is only put off. (3) The last few transactions may
 * be missing after a power cut (synchronous NORMAL, as the logs are the truth), but always whole and from the end: rows and cursors agree.
 */
import * as fs from "node:fs"
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from "node:sqlite"
import { applicationId, migrations } from "./schema.ts"
import { asTableError, corrupt, TableError } from "./table-error.ts"

/** Bytes; small commits are what a node does most, and a commit writes whole pages. Measured: 8 KiB is 15 % slower at 50 rows a commit. */
const pageBytes = 4_096
/** KiB of page cache at most. Measured: 2 MiB is 20 % slower in bulk, more than 8 MiB is no faster. */
const cacheKibMax = 8_192
/** Bytes of the write-ahead file that are kept after a checkpoint. */
const walBytesMax = 16 * 1024 * 1024
/** Milliseconds to wait for another process (doctor) that holds the file. */
const busyMsMax = 5_000
/** Statements that are kept prepared. */
const statementsMax = 256
/** Faults that `integrity` lists. */
export const integrityFaultsMax = 20

export type Row = Record<string, SQLOutputValue>

export interface OpenOptions {
  /** For looking at the tables of a node on a read-only disk. */
  readonly readOnly?: boolean
}

export class Database {
  readonly path: string
  readonly readOnly: boolean
  readonly #sqlite: DatabaseSync
  readonly #statements = new Map<string, Statement>()
  readonly #forget: Array<() => void> = []
  #depth = 0
  #lost: unknown

  /** Opens or creates the file (mode 0600) and brings its schema up to date. Throws TableError. */
  constructor(file: string, options: OpenOptions = {}) {
    this.path = file
    this.readOnly = options.readOnly ?? false
    this.#sqlite = this.guard("open", () => (this.readOnly ? openReadOnly(file) : openWritable(file)))
    try {
      this.guard("open", () => this.#configure())
    } catch (cause) {
      this.#sqlite.close()
      throw cause
    }
  }

  /** A prepared statement; asked for again with the same text, the same one. */
  prepare(sql: string): Statement {
    const kept = this.#statements.get(sql)
    if (kept !== undefined) return kept
    const made = this.guard(firstWords(sql), () => new Statement(this, this.#sqlite.prepare(sql), firstWords(sql)))
    if (this.#statements.size >= statementsMax) {
      const oldest = this.#statements.keys().next().value
      if (oldest !== undefined) this.#statements.delete(oldest)
    }
    this.#statements.set(sql, made)
    return made
  }

  exec(sql: string): void {
    this.guard(firstWords(sql), () => this.#sqlite.exec(sql))
  }

  /** All of `work` or nothing. Within another transaction: a part of it that can fail alone. `work` must not wait for anything. */
  transaction<A>(work: () => A): A {
    const outer = this.#depth === 0
    const name = `level${this.#depth}`
    // Left over from a rollback that failed.
    if (outer && this.#sqlite.isTransaction) this.exec("ROLLBACK")
    this.exec(outer ? "BEGIN IMMEDIATE" : `SAVEPOINT ${name}`)
    this.#depth += 1
    try {
      const result = work()
      if (result instanceof Promise) throw new TypeError("a transaction cannot wait for a promise")
      this.exec(outer ? "COMMIT" : `RELEASE ${name}`)
      return result
    } catch (cause) {
      this.#undo(outer, name)
      throw cause
    } finally {
      this.#depth -= 1
      if (outer) this.#lost = undefined
    }
  }

  get inTransaction(): boolean {
    return this.#depth > 0
  }

  /** `forget` is called after every rollback: drop what was learnt from rows that are gone now. */
  onRollback(forget: () => void): void {
    this.#forget.push(forget)
  }

  /** As after a rollback: what is in memory is read anew. */
  forget(): void {
    for (const forget of this.#forget) forget()
  }

  /** What is wrong with the file, at most `integrityFaultsMax` sentences; empty when nothing is. Reads all of it. */
  integrity(): ReadonlyArray<string> {
    try {
      const rows = this.prepare(`PRAGMA integrity_check(${integrityFaultsMax})`).all()
      const said = rows.map((row) => text(row["integrity_check"])).filter((line) => line !== "ok")
      if (said.length > 0) return said
      const counts = this.prepare("SELECT (SELECT count(*) FROM events) AS rows, (SELECT total(n) FROM counts) AS counted").get()
      return counts?.["rows"] === counts?.["counted"] ? [] : [`the index holds ${counts?.["rows"]} events but counted ${counts?.["counted"]}`]
    } catch (cause) {
      if (cause instanceof TableError && cause.reason === "corrupt") return [cause.detail]
      throw cause
    }
  }

  /** Moves the write-ahead file into the database file. */
  checkpoint(): void {
    this.prepare("PRAGMA wal_checkpoint(TRUNCATE)").all()
  }

  close(): void {
    if (!this.#sqlite.isOpen) return
    this.#statements.clear()
    if (!this.readOnly) {
      try {
        this.#sqlite.exec("PRAGMA optimize")
      } catch {
        // Only an analysis for later queries; a full disk must not keep us from closing.
      }
    }
    this.guard("close", () => this.#sqlite.close())
  }

  /** Runs a piece of work on the connection and gives its errors their reason. For loops over `Statement.raw`. */
  guard<A>(operation: string, work: () => A): A {
    if (this.#lost !== undefined) throw this.#lost
    try {
      return work()
    } catch (cause) {
      const error = asTableError(cause, operation, this.path)
      if (this.#depth > 0 && !this.#sqlite.isTransaction) this.#lost = error
      throw error
    }
  }

  #undo(outer: boolean, name: string): void {
    if (this.#sqlite.isTransaction) {
      // When even this fails the transaction is lost: the outermost level ends it, or the next BEGIN says what is wrong.
      try {
        this.#sqlite.exec(outer ? "ROLLBACK" : `ROLLBACK TO ${name}; RELEASE ${name}`)
      } catch (cause) {
        this.#lost = asTableError(cause, "rollback", this.path)
      }
    }
    this.forget()
  }

  #configure(): void {
    this.#sqlite.exec(`PRAGMA cache_size = -${cacheKibMax}; PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY`)
    if (!this.readOnly) {
      // Page size first: it is fixed by the first write, and a write-ahead database cannot change it.
      this.#sqlite.exec(`PRAGMA page_size = ${pageBytes}; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = ${walBytesMax}`)
    }
    const id = this.#sqlite.prepare("PRAGMA application_id").get()?.["application_id"]
    const tables = this.#sqlite.prepare("SELECT count(*) AS n FROM sqlite_schema").get()?.["n"]
    if (tables === 0 && !this.readOnly) this.#sqlite.exec(`PRAGMA application_id = ${applicationId}`)
    else if (id !== applicationId) throw corrupt("open", "the file is a database, but not one of kOS")
    this.#migrate()
  }

  #migrate(): void {
    const version = tableExists(this.#sqlite) ? int(this.#sqlite.prepare("SELECT coalesce(max(version), 0) AS v FROM migrations").get()?.["v"]) : 0
    const newest = migrations.length
    if (version > newest)
      throw new TableError({ reason: "newer", operation: "open", detail: `the tables have schema ${version}, this kOS knows ${newest}` })
    // Steps are only ever added. A file with another one in the place of one of ours was written by a version that this one did not come from.
    for (const row of version === 0 ? [] : this.#sqlite.prepare("SELECT version, name FROM migrations").all()) {
      const ours = migrations[int(row["version"]) - 1]?.name
      if (row["name"] !== ours) throw new TableError({ reason: "newer", operation: "open", detail: `step ${int(row["version"])} of the tables' schema is ${text(row["name"])}, this kOS has ${ours}` })
    }
    if (version === newest) return
    if (this.readOnly) throw new TableError({ reason: "readonly", operation: "open", detail: `the tables have schema ${version} of ${newest} and cannot be brought up to date here` })
    this.transaction(() => {
      for (const [index, migration] of migrations.entries()) {
        if (index < version) continue
        this.exec(migration.sql)
        this.prepare("INSERT INTO migrations (version, name) VALUES (?, ?)").run(index + 1, migration.name)
      }
    })
  }
}

/** A prepared statement whose errors are TableErrors. */
export class Statement {
  /** For hot loops, within `Database.guard`. */
  readonly raw: StatementSync
  readonly #database: Database
  readonly #operation: string

  constructor(database: Database, raw: StatementSync, operation: string) {
    this.raw = raw
    this.#database = database
    this.#operation = operation
  }

  /** Returns how many rows changed. */
  run(...values: ReadonlyArray<SQLInputValue>): number {
    return this.#database.guard(this.#operation, () => Number(this.raw.run(...values).changes))
  }

  get(...values: ReadonlyArray<SQLInputValue>): Row | undefined {
    return this.#database.guard(this.#operation, () => this.raw.get(...values))
  }

  all(...values: ReadonlyArray<SQLInputValue>): ReadonlyArray<Row> {
    return this.#database.guard(this.#operation, () => this.raw.all(...values))
  }
}

/** Removes a closed database with its write-ahead files, so that the next open begins from nothing. */
export const wipeDatabase = (file: string): void => {
  for (const suffix of suffixes) fs.rmSync(file + suffix, { force: true })
}

/** Puts one closed database in the place of another closed one. */
export const replaceDatabase = (from: string, to: string): void => {
  if (fs.existsSync(`${from}-wal`)) throw new TableError({ reason: "busy", operation: "replace", detail: `${from} is still open` })
  // The old write-ahead file goes first: beside the new database it would be applied to it.
  for (const suffix of ["-wal", "-shm"]) fs.rmSync(to + suffix, { force: true })
  fs.renameSync(from, to)
}

/** Column readers: tables are STRICT, so another type means a damaged file. */
export const int = (value: SQLOutputValue | undefined): number => (typeof value === "number" ? value : wrongType("a number", value))
export const text = (value: SQLOutputValue | undefined): string => (typeof value === "string" ? value : wrongType("text", value))
export const textOrNull = (value: SQLOutputValue | undefined): string | undefined => (value === null ? undefined : text(value))
export const blob = (value: SQLOutputValue | undefined): Uint8Array => (value instanceof Uint8Array ? value : wrongType("bytes", value))
export const blobOrNull = (value: SQLOutputValue | undefined): Uint8Array | undefined => (value === null ? undefined : blob(value))

/** The texts that begin with `prefix` are those from `prefix` to below this one, in SQLite's order of UTF-8 bytes. */
export const prefixEnd = (prefix: string): string => `${prefix}\u{10ffff}`

const suffixes = ["-wal", "-shm", "-journal", ""]

const wrongType = (expected: string, value: SQLOutputValue | undefined): never => {
  throw corrupt("read", `expected ${expected} in a column, found ${value === null ? "nothing" : typeof value}`)
}

const openWritable = (file: string): DatabaseSync => {
  // SQLite gives its write-ahead files the mode of the database file.
  fs.closeSync(fs.openSync(file, "a", 0o600))
  fs.chmodSync(file, 0o600)
  return new DatabaseSync(file, { timeout: busyMsMax, enableForeignKeyConstraints: false, defensive: true })
}

const openReadOnly = (file: string): DatabaseSync => {
  const direct = new DatabaseSync(file, { timeout: busyMsMax, readOnly: true })
  try {
    direct.prepare("SELECT count(*) FROM sqlite_schema").get()
    return direct
  } catch (cause) {
    direct.close()
    // A write-ahead database needs its shared-memory file, which a read-only disk cannot give; without pending pages it can do without.
    const pending = fs.existsSync(`${file}-wal`) && fs.statSync(`${file}-wal`).size > 0
    if (pending) throw cause
    const url = new URL(`file://${encodeURI(fs.realpathSync(file)).replaceAll("?", "%3f").replaceAll("#", "%23")}?immutable=1`)
    return new DatabaseSync(url, { readOnly: true })
  }
}

const tableExists = (sqlite: DatabaseSync): boolean =>
  sqlite.prepare("SELECT 1 AS found FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'").get() !== undefined

const firstWords = (sql: string): string => sql.trim().split(/\s+/u, 4).join(" ")
