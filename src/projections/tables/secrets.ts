/**
 * What events say of secrets, as it was said: sets, sealed boxes, reader keys, receipts. Four sets of rows, each row with the address of its
 * event, so the order of arrival does not matter, a repetition adds nothing, and what stands beyond a cut-off is taken out by its place.
 * Who may say what, and what follows from it, is decided when it is read: `src/projections/secrets.ts`.
 */
import { Schema } from "effect"
import { fromHex, toHex } from "../../codec/bytes.ts"
import { type SealedSecret, secretItem } from "../../codec/secret-item.ts"
import { SecretHeld, SecretReader, SecretRemoved, SecretSet, SecretShared, SecretShredded } from "../../events/catalogue.ts"
import { blob, type Database, int, type Row, text } from "./database.ts"
import type { EventFold, FoldedEvent } from "./folds.ts"
import type { Names } from "./names.ts"
import { secretTableNames } from "./secrets-sql.ts"

/** Where a row comes from. */
export interface Said {
  readonly log: string
  readonly block: number
  readonly offset: number
}

export interface SetRow extends Said {
  /** Id of the version: hash of name, version, log and commitment. */
  readonly item: string
  readonly name: string
  readonly version: number
  readonly owner: string
  readonly fresh: boolean
  readonly recipients: ReadonlyArray<string>
  readonly commit: string
  readonly ms: number
  readonly count: number
}

export interface BoxRow extends Said {
  readonly item: string
  readonly reader: string
}

export interface ReaderRow extends Said {
  readonly key: string
  readonly generation: number
  readonly refused: ReadonlyArray<string>
  readonly ms: number
  readonly count: number
}

/** `held` and `shredded` name the reader key that was its device's then. */
export interface ReceiptRow extends Said {
  readonly what: "held" | "shredded" | "removed"
  readonly item: string
  /** Empty for `removed`. */
  readonly reader: string
  readonly ms: number
}

export class Secrets {
  readonly #database: Database
  readonly #names: Names
  #revision = 0

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
  }

  /** Grows when an event about secrets was folded; not when rows are taken out. */
  /** Rows were taken out by another hand. */
  changed(): void {
    this.#revision++
  }

  get revision(): number {
    return this.#revision
  }

  readonly folds: ReadonlyArray<readonly [type: string, fold: EventFold]> = [
    ["secret.set/1", (event) => this.#set(event)],
    ["secret.shared/1", (event) => {
      if (Schema.is(SecretShared)(event.body)) this.#boxes(event, toHex(event.body.item), event.body.boxes)
    }],
    ["secret.reader/1", (event) => this.#reader(event)],
    ["secret.held/1", (event) => {
      if (Schema.is(SecretHeld)(event.body)) this.#receipts(event, 0, event.body.items, toHex(event.body.reader))
    }],
    ["secret.shredded/1", (event) => {
      if (Schema.is(SecretShredded)(event.body)) this.#receipts(event, 1, event.body.items, toHex(event.body.reader))
    }],
    ["secret.removed/1", (event) => {
      if (Schema.is(SecretRemoved)(event.body)) this.#receipts(event, 2, event.body.items, "")
    }]
  ]

  /** Rows of one log come by place. */
  sets(): ReadonlyArray<SetRow> {
    return this.#database.prepare("SELECT log, block, offset, item, name, version, owner, fresh, recipients, ms, count, commitment FROM secrets ORDER BY log, block, offset").all().map((row) => ({
      ...this.#said(row), item: text(row["item"]), name: text(row["name"]), version: int(row["version"]), owner: text(row["owner"]), fresh: int(row["fresh"]) === 1,
      recipients: words(row, "recipients"), commit: text(row["commitment"]), ms: int(row["ms"]), count: int(row["count"])
    }))
  }

  boxes(): ReadonlyArray<BoxRow> {
    return this.#database.prepare("SELECT log, block, offset, item, reader FROM secret_boxes").all()
      .map((row) => ({ ...this.#said(row), item: text(row["item"]), reader: text(row["reader"]) }))
  }

  /** What is sealed to one reader key. */
  sealedTo(reader: string): ReadonlyArray<BoxRow & { readonly sealed: Uint8Array }> {
    return this.#database.prepare("SELECT log, block, offset, item, reader, sealed FROM secret_boxes WHERE reader = ? ORDER BY log, block, offset").all(reader)
      .map((row) => ({ ...this.#said(row), item: text(row["item"]), reader: text(row["reader"]), sealed: blob(row["sealed"]) }))
  }

  readers(): ReadonlyArray<ReaderRow> {
    return this.#database.prepare("SELECT log, block, offset, key, generation, refused, ms, count FROM secret_readers").all().map((row) => ({
      ...this.#said(row), key: text(row["key"]), generation: int(row["generation"]), refused: words(row, "refused"), ms: int(row["ms"]), count: int(row["count"])
    }))
  }

  receipts(): ReadonlyArray<ReceiptRow> {
    return this.#database.prepare("SELECT log, block, offset, item, what, reader, ms FROM secret_receipts").all().map((row) => ({
      ...this.#said(row), item: text(row["item"]), what: (["held", "shredded", "removed"] as const)[int(row["what"])] ?? "held", reader: text(row["reader"]), ms: int(row["ms"])
    }))
  }

  /** The cipher of a version. */
  sealed(item: string): SealedSecret | undefined {
    const row = this.#database.prepare("SELECT nonce, commitment, cipher FROM secrets WHERE item = ? ORDER BY log, block, offset LIMIT 1").get(item)
    return row === undefined ? undefined : { nonce: blob(row["nonce"]), commit: text(row["commitment"]), cipher: blob(row["cipher"]) }
  }

  #set(event: FoldedEvent): void {
    const { body, log, block, offset, envelope: { at } } = event
    if (!Schema.is(SecretSet)(body)) return
    const { name, version, owner, fresh, recipients, nonce, commit, cipher } = body
    const item = secretItem({ name, version, log }, commit)
    this.#database.prepare("INSERT INTO secrets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING").run(
      this.#names.idOf(log), block, offset, item, name, version, owner, fresh ? 1 : 0, JSON.stringify(recipients), at.ms, at.count, commit, nonce, cipher
    )
    this.#boxes(event, item, body.boxes)
  }

  #boxes({ log, block, offset }: FoldedEvent, item: string, boxes: ReadonlyArray<{ readonly reader: Uint8Array; readonly sealed: Uint8Array }>): void {
    this.#revision++
    const insert = this.#database.prepare("INSERT INTO secret_boxes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
    for (const { reader, sealed } of boxes) insert.run(this.#names.idOf(log), block, offset, item, toHex(reader), sealed)
  }

  #reader({ body, log, block, offset, envelope: { at } }: FoldedEvent): void {
    if (!Schema.is(SecretReader)(body)) return
    this.#revision++
    this.#database.prepare("INSERT INTO secret_readers VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
      .run(this.#names.idOf(log), block, offset, toHex(body.key), body.generation, JSON.stringify(body.refused), at.ms, at.count)
  }

  #receipts({ log, block, offset, envelope: { at } }: FoldedEvent, what: number, items: ReadonlyArray<Uint8Array>, reader: string): void {
    this.#revision++
    const insert = this.#database.prepare("INSERT INTO secret_receipts VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
    for (const item of items) insert.run(this.#names.idOf(log), block, offset, toHex(item), what, reader, at.ms)
  }

  #said(row: Row): Said {
    return { log: this.#names.textAt(row, "log"), block: int(row["block"]), offset: int(row["offset"]) }
  }
}

/** Ids of versions as events carry them. */
export const itemBytes = (items: ReadonlyArray<string>): ReadonlyArray<Uint8Array> => items.map(fromHex)

/** For the fingerprint: every row, in an order that depends on nothing but what they say. */
export function* secretLines(database: Database): Iterable<string> {
  for (const table of secretTableNames) {
    yield table
    const columns = database.prepare(`SELECT name FROM pragma_table_info('${table}') WHERE name <> 'log' ORDER BY name`).all().map((row) => text(row["name"]))
    const shown = columns.map((column) => column === "cipher" || column === "sealed" || column === "nonce" ? `hex(s.${column}) AS ${column}` : `s.${column}`)
    const order = columns.filter((column) => column === "item" || column === "reader").map((column) => `, s.${column}`).join("")
    for (const row of database.prepare(`SELECT n.text AS log, ${shown.join(", ")} FROM ${table} s JOIN names n ON n.id = s.log ORDER BY n.text, s.block, s.offset${order}`).all()) {
      yield JSON.stringify(row)
    }
  }
}

/** Written by `#set` and `#reader` from arrays of texts that their schema has checked. */
const words = (row: Row, column: string): ReadonlyArray<string> => {
  const value: unknown = JSON.parse(text(row[column]))
  return Array.isArray(value) ? value.filter((word) => typeof word === "string") : []
}
