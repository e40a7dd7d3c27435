/**
 * Proposals, what others said of them, which changes of settings name what as their cause, and what stood when a rule was made. Sets of rows
 * by address, so the order of arrival does not matter; whether a row counts is what the event index says of its event, and who had which
 * right is decided when it is read (projections/policy-view.ts).
 */
import { Schema } from "effect"
import { type Address, addressText, parseAddress } from "../../codec/address.ts"
import { ApprovalAsked, ApprovalGiven, PolicyKept } from "../../events/catalogue.ts"
import type { DocId } from "../documents/types.ts"
import { type Database, int, type Row, text } from "./database.ts"
import type { FoldedEvent } from "./folds.ts"
import type { Names } from "./names.ts"

export const approvalsSql = `
-- body: the proposal as JSON.
CREATE TABLE approval_asked (log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (log, block, offset)) STRICT, WITHOUT ROWID;

-- of_log, of_block, of_offset: the proposal. verdict: 1 allow, 0 deny.
CREATE TABLE approval_given (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, of_log INTEGER NOT NULL, of_block INTEGER NOT NULL, of_offset INTEGER NOT NULL,
  verdict INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (log, block, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX approval_given_of ON approval_given (of_log, of_block, of_offset);

-- Changes of settings that name other events as their causes.
CREATE TABLE change_causes (
  log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, of_log INTEGER NOT NULL, of_block INTEGER NOT NULL, of_offset INTEGER NOT NULL,
  PRIMARY KEY (log, block, offset, of_log, of_block, of_offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX change_causes_of ON change_causes (of_log, of_block, of_offset);

-- kept: addresses of events, as JSON.
CREATE TABLE policy_kept (log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, rule TEXT NOT NULL, kept TEXT NOT NULL, PRIMARY KEY (log, block, offset)) STRICT, WITHOUT ROWID;
`

/** Proposals that are read at most, the newest. */
export const proposalsMax = 10_000

/** One register of a proposal: JSON text, or undefined when the key goes or was not there. */
export interface ProposedEdit {
  readonly doc: DocId
  readonly key: string
  readonly json: string | undefined
  /** What was in force when it was asked. */
  readonly base: string | undefined
}

export interface Proposal extends Address {
  readonly actor: string
  readonly ms: number
  readonly edits: ReadonlyArray<ProposedEdit>
  readonly summary: string
  /** The rule that asked for approvals, as a person reads it. */
  readonly rule: string
  readonly approvals: number
  readonly by: "admin" | "owner"
  /** By the clock of the node that asked; for people. */
  readonly expiresMs: number
}

export interface Given extends Address {
  readonly actor: string
  readonly ms: number
  readonly count: number
  readonly asked: Address
  readonly allow: boolean
  readonly reason: string
}

export class Approvals {
  readonly #database: Database
  readonly #names: Names

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
  }

  /** Takes a proposal. */
  asked({ log, block, offset, body }: FoldedEvent): void {
    if (!Schema.is(ApprovalAsked)(body)) return
    this.#database.prepare("INSERT INTO approval_asked VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING").run(this.#names.idOf(log), block, offset, JSON.stringify(body))
  }

  /** Takes a word on a proposal. */
  given({ log, block, offset, body }: FoldedEvent): void {
    const asked = Schema.is(ApprovalGiven)(body) ? parseAddress(body.asked) : undefined
    if (!Schema.is(ApprovalGiven)(body) || asked === undefined) return
    this.#database.prepare("INSERT INTO approval_given VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
      .run(this.#names.idOf(log), block, offset, this.#names.idOf(asked.log), asked.block, asked.offset, body.verdict === "allow" ? 1 : 0, body.reason)
  }

  /** Takes what a change of settings names as its cause. */
  caused({ log, block, offset, envelope }: FoldedEvent): void {
    const insert = this.#database.prepare("INSERT INTO change_causes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
    for (const cause of envelope.cause) insert.run(this.#names.idOf(log), block, offset, this.#names.idOf(cause.log), cause.block, cause.offset)
  }

  /** Takes what stood when a rule was made. */
  kept({ log, block, offset, body }: FoldedEvent): void {
    if (!Schema.is(PolicyKept)(body)) return
    this.#database.prepare("INSERT INTO policy_kept VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING").run(this.#names.idOf(log), block, offset, body.rule, JSON.stringify(body.kept))
  }

  /** Newest first. */
  proposals(): ReadonlyArray<Proposal> {
    return this.#database.prepare(`SELECT a.*, e.ms, e.actor ${from("approval_asked")} ORDER BY e.ms DESC, e.count DESC, a.block DESC, a.offset DESC LIMIT ${proposalsMax}`).all().flatMap((row) => this.#proposal(row))
  }

  proposal({ log, block, offset }: Address): Proposal | undefined {
    const id = this.#names.find(log)
    if (id === undefined) return undefined
    const row = this.#database.prepare(`SELECT a.*, e.ms, e.actor ${from("approval_asked")} AND a.log = ? AND a.block = ? AND a.offset = ?`).get(id, block, offset)
    return row === undefined ? undefined : this.#proposal(row)[0]
  }

  /** What was said of a proposal, in the order of the stamps. */
  givenTo({ log, block, offset }: Address): ReadonlyArray<Given> {
    const id = this.#names.find(log)
    if (id === undefined) return []
    return this.#database.prepare(`SELECT a.*, e.ms, e.count, e.actor ${from("approval_given")} AND a.of_log = ? AND a.of_block = ? AND a.of_offset = ?`).all(id, block, offset)
      .map((row): Given => ({
        log: this.#names.textAt(row, "log"), block: int(row["block"]), offset: int(row["offset"]), actor: this.#names.textAt(row, "actor"), ms: int(row["ms"]), count: int(row["count"]),
        asked: { log, block, offset }, allow: int(row["verdict"]) === 1, reason: text(row["reason"])
      }))
      .sort((a, b) => a.ms - b.ms || a.count - b.count || (addressText(a) < addressText(b) ? -1 : 1))
  }

  /** What a change of settings names as its causes. */
  causesOf({ log, block, offset }: Address): ReadonlyArray<Address> {
    const id = this.#names.find(log)
    if (id === undefined) return []
    return this.#database.prepare("SELECT * FROM change_causes WHERE log = ? AND block = ? AND offset = ? ORDER BY of_log, of_block, of_offset").all(id, block, offset)
      .map((row) => ({ log: this.#names.textAt(row, "of_log"), block: int(row["of_block"]), offset: int(row["of_offset"]) }))
  }

  /** Changes of settings that name this as a cause. */
  causedBy({ log, block, offset }: Address): ReadonlyArray<Address> {
    const id = this.#names.find(log)
    if (id === undefined) return []
    return this.#database.prepare(`SELECT a.* ${from("change_causes")} AND a.of_log = ? AND a.of_block = ? AND a.of_offset = ?`).all(id, block, offset)
      .map((row) => ({ log: this.#names.textAt(row, "log"), block: int(row["block"]), offset: int(row["offset"]) }))
  }

  /** Addresses of what stood when the change at this place made the rule. It must have been said in the same frame. */
  keptBy({ log, block }: Address, rule: string): ReadonlySet<string> {
    const id = this.#names.find(log)
    if (id === undefined) return new Set()
    return new Set(this.#database.prepare(`SELECT a.kept ${from("policy_kept")} AND a.log = ? AND a.block = ? AND a.rule = ?`).all(id, block, rule).flatMap((row) => strings(text(row["kept"]))))
  }

  #proposal(row: Row): ReadonlyArray<Proposal> {
    const body: unknown = JSON.parse(text(row["body"]))
    if (!Schema.is(ApprovalAsked)(body)) return []
    const base = new Map(body.base.map((edit) => [`${edit.doc} ${edit.key}`, edit.json ?? undefined]))
    return [{
      log: this.#names.textAt(row, "log"), block: int(row["block"]), offset: int(row["offset"]), actor: this.#names.textAt(row, "actor"), ms: int(row["ms"]),
      edits: body.edits.map(({ doc, key, json }) => ({ doc, key, json: json ?? undefined, base: base.get(`${doc} ${key}`) })),
      summary: body.summary, rule: body.rule, approvals: body.approvals, by: body.by, expiresMs: body.expiresMs
    }]
  }
}

const from = (table: string): string => `FROM ${table} a JOIN events e ON e.log = a.log AND e.block = a.block AND e.offset = a.offset WHERE e.status = 0`

const strings = (json: string): ReadonlyArray<string> => {
  const value: unknown = JSON.parse(json)
  return Array.isArray(value) ? value.map(String) : []
}
