/**
 * What every change of settings wrote, operation by operation: from it follows what a register holds of those who may write it
 * (families/in-force.ts). A set of rows by address, so the order of arrival does not matter. Whether a row counts is what the event index
 * says of its event: what the gate refused or a cut-off took is not read.
 */
import type { Address } from "../../codec/address.ts"
import { changeActor } from "../documents/actor.ts"
import type { DocId } from "../documents/types.ts"
import { type RegisterWrite, registerWrites } from "../families/register-writes.ts"
import { type Database, int, type Row, text, textOrNull } from "./database.ts"
import type { FoldedEvent } from "./folds.ts"
import type { Names } from "./names.ts"

export const registerWritesSql = `
-- n: place in the change. op: counter@actor. json: null when the key goes. over: operations that it replaced, parted by blanks.
CREATE TABLE register_writes (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, n INTEGER NOT NULL, doc INTEGER NOT NULL, key TEXT NOT NULL, op TEXT NOT NULL,
  json TEXT, over TEXT, PRIMARY KEY (log, block, offset, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX register_writes_key ON register_writes (doc, key);
`

/** Operations read of one register at most, the newest: a register written more often than that by those who may not loses what stood before. */
export const registerWritesMax = 100_000

export class RegisterWrites {
  readonly #database: Database
  readonly #names: Names

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
  }

  /** Takes a change of settings. */
  add({ log, block, offset, envelope, body }: FoldedEvent): void {
    if (typeof body !== "object" || body === null || !("change" in body) || !(body.change instanceof Uint8Array)) return
    const doc = envelope.subject
    const writes = registerWrites(body.change, changeActor(log, doc))
    if (writes.length === 0) return
    const insert = this.#database.prepare("INSERT INTO register_writes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
    const [logId, docId] = [this.#names.idOf(log), this.#names.idOf(doc)]
    writes.forEach(({ key, op, json, over }, n) => insert.run(logId, block, offset, n, docId, key, op, json ?? null, over.length === 0 ? null : over.join(" ")))
  }

  /** Operations on a register. */
  of(doc: DocId, key: string): ReadonlyArray<RegisterWrite> {
    const id = this.#names.find(doc)
    if (id === undefined) return []
    return this.#database.prepare(`SELECT w.* ${counting} AND w.doc = ? AND w.key = ? ORDER BY w.block DESC LIMIT ${registerWritesMax}`).all(id, key).map((row) => this.#write(row))
  }

  keys(doc: DocId): ReadonlyArray<string> {
    const id = this.#names.find(doc)
    return id === undefined ? [] : this.#database.prepare("SELECT DISTINCT key FROM register_writes WHERE doc = ? ORDER BY key").all(id).map((row) => text(row["key"]))
  }

  /** Documents of settings that anybody ever wrote. */
  documents(): ReadonlyArray<DocId> {
    return this.#database.prepare("SELECT DISTINCT doc FROM register_writes").all().map((row) => this.#names.textAt(row, "doc")).sort()
  }

  /** What one event wrote. */
  at({ log, block, offset }: Address): ReadonlyArray<RegisterWrite & { readonly doc: DocId; readonly key: string }> {
    const id = this.#names.find(log)
    if (id === undefined) return []
    return this.#database.prepare(`SELECT w.* ${counting} AND w.log = ? AND w.block = ? AND w.offset = ? ORDER BY w.n`).all(id, block, offset)
      .map((row) => ({ ...this.#write(row), doc: this.#names.textAt(row, "doc"), key: text(row["key"]) }))
  }

  #write(row: Row): RegisterWrite {
    const over = textOrNull(row["over"] ?? null)
    return {
      log: this.#names.textAt(row, "log"), block: int(row["block"]), offset: int(row["offset"]), op: text(row["op"]),
      json: textOrNull(row["json"] ?? null), over: over === undefined ? [] : over.split(" ")
    }
  }
}

const counting = "FROM register_writes w JOIN events e ON e.log = w.log AND e.block = w.block AND e.offset = w.offset WHERE e.status = 0"
