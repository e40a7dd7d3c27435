/**
 * What events say of federations: which mesh takes part in which, what ended, and the things that were shared or received. Sets of rows by
 * address, so the order of arrival does not matter and what stands beyond a cut-off is taken out by its place; whether a row counts is what the
 * event index says of its event, and who may say what is decided when it is read (`projections/federation.ts`).
 */
import { Schema } from "effect"
import { FederationBegun, FederationEnded, FederationReceived, FederationShared } from "../../events/catalogue.ts"
import { type Database, int, type Row, text, textOrNull } from "./database.ts"
import type { EventFold, FoldedEvent } from "./folds.ts"
import type { Names } from "./names.ts"

export const federationTableNames: ReadonlyArray<string> = ["federation_said", "federation_items"]

export const federationSql = `
-- ended: 1 when it says that the federation has ended. shares: kinds, as JSON.
CREATE TABLE federation_said (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, federation TEXT NOT NULL, ended INTEGER NOT NULL, shares TEXT NOT NULL,
  PRIMARY KEY (log, block, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX federation_said_of ON federation_said (federation);

-- place: among the items of its event. federation: empty in the federation itself. mesh: where it comes from. value: null when it is gone.
CREATE TABLE federation_items (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, place INTEGER NOT NULL, federation TEXT NOT NULL, mesh TEXT NOT NULL,
  mesh_name TEXT NOT NULL, kind TEXT NOT NULL, item TEXT NOT NULL, value TEXT, PRIMARY KEY (log, block, offset, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX federation_items_of ON federation_items (federation, mesh, kind, item);
`

/** Rows that one reading looks at, the newest; beyond them older ones are as if not there. */
export const federationRowsMax = 100_000

export interface SaidRow {
  readonly federation: string
  readonly ended: boolean
  readonly shares: ReadonlyArray<string>
  readonly log: string
  readonly ms: number
}

export interface ItemRow {
  readonly federation: string
  readonly mesh: string
  readonly meshName: string
  readonly kind: string
  readonly item: string
  readonly value: string | undefined
  readonly log: string
  readonly ms: number
}

export class Federations {
  readonly #database: Database
  readonly #names: Names
  /** Grows with each row. */
  revision = 0

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
  }

  get folds(): ReadonlyArray<readonly [string, EventFold]> {
    return [
      ["federation.begun/1", (event) => {
        if (Schema.is(FederationBegun)(event.body)) this.#said(event, event.body.federation, false, event.body.shares)
      }],
      ["federation.ended/1", (event) => {
        if (Schema.is(FederationEnded)(event.body)) this.#said(event, event.body.federation, true, [])
      }],
      ["federation.shared/1", (event) => {
        if (Schema.is(FederationShared)(event.body)) this.#items(event, "", event.body)
      }],
      ["federation.received/1", (event) => {
        if (Schema.is(FederationReceived)(event.body)) this.#items(event, event.body.federation, event.body)
      }]
    ]
  }

  /** Newest first. */
  said(): ReadonlyArray<SaidRow> {
    return this.#database.prepare(`SELECT a.*, e.ms ${from("federation_said")} ${newestFirst} LIMIT ${federationRowsMax}`).all().map((row) => ({
      federation: text(row["federation"]), ended: int(row["ended"]) === 1, shares: strings(text(row["shares"])), log: this.#names.textAt(row, "log"), ms: int(row["ms"])
    }))
  }

  /** Things of one federation, or with "" of the federation that this mesh is; newest first. */
  items(federation: string): ReadonlyArray<ItemRow> {
    return this.#database.prepare(
      `SELECT a.*, e.ms ${from("federation_items")} AND a.federation = ? ${newestFirst}, a.place DESC LIMIT ${federationRowsMax}`
    ).all(federation).map((row) => this.#item(row))
  }

  #said({ log, block, offset }: FoldedEvent, federation: string, ended: boolean, shares: ReadonlyArray<string>): void {
    this.revision++
    this.#database.prepare("INSERT INTO federation_said VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING").run(this.#names.idOf(log), block, offset, federation, ended ? 1 : 0, JSON.stringify(shares))
  }

  #items({ log, block, offset }: FoldedEvent, federation: string, { from: whose, kind, items }: FederationShared): void {
    this.revision++
    const insert = this.#database.prepare("INSERT INTO federation_items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
    const id = this.#names.idOf(log)
    items.forEach(({ id: item, value }, place) => insert.run(id, block, offset, place, federation, whose.mesh, whose.name, kind, item, value))
  }

  #item(row: Row): ItemRow {
    return {
      federation: text(row["federation"]), mesh: text(row["mesh"]), meshName: text(row["mesh_name"]), kind: text(row["kind"]), item: text(row["item"]),
      value: textOrNull(row["value"]) ?? undefined, log: this.#names.textAt(row, "log"), ms: int(row["ms"])
    }
  }
}

const from = (table: string): string => `FROM ${table} a JOIN events e ON e.log = a.log AND e.block = a.block AND e.offset = a.offset JOIN names n ON n.id = a.log WHERE e.status = 0`

/** Numbers of logs differ between nodes, so equal stamps are told apart by the logs' keys. */
const newestFirst = "ORDER BY e.ms DESC, e.count DESC, n.text, a.block DESC, a.offset DESC"

const strings = (json: string): ReadonlyArray<string> => {
  const value: unknown = JSON.parse(json)
  return Array.isArray(value) ? value.map(String) : []
}
