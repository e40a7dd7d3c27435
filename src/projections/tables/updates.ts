/**
 * What events say of updates: steps of releases on devices, offers, advice, turns, bans, channels, what nodes can read; and of the making of releases:
 * proposals, signatures, withdrawals, signers. Sets of rows by address, so the order of arrival does not matter and what stands beyond a cut-off
 * is taken out by its place; whether a row counts is what the event index says of its event, and who may say what is decided when it is
 * read (`projections/updates.ts`, and for releases whoever publishes).
 */
import { createHash } from "node:crypto"
import { Schema } from "effect"
import {
  NodeCapable, ReleaseProposed, ReleaseSigned, ReleaseSigner, ReleaseWithdrawn, UpdateAdvised, UpdateBanned, UpdateOffered, UpdateStep, type UpdateStepName, updateSteps, UpdateTurn, ChannelStated
} from "../../events/catalogue.ts"
import { blob, type Database, int, type Row, text } from "./database.ts"
import type { EventFold, FoldedEvent } from "./folds.ts"
import type { Names } from "./names.ts"

/** Rows of one log that one reading looks at, the newest: a member that writes many pushes out its own only. */
export const updateRowsPerLogMax = 2_000
/** The same of proposals, which are up to 48 KiB each. */
export const proposalsPerLogMax = 64

/** Where a row comes from, who said it by the word of its log's device, and when by that one's clock. */
export interface SaidAt {
  readonly log: string
  readonly block: number
  readonly offset: number
  readonly ms: number
  readonly count: number
  readonly actor: string
}

export interface StepRow extends SaidAt {
  readonly step: UpdateStepName
  readonly body: UpdateStep
}
export interface OfferRow extends SaidAt {
  readonly body: typeof UpdateOffered.Type
}
export interface AdviceRow extends SaidAt {
  readonly body: typeof UpdateAdvised.Type
}
export interface TurnRow extends SaidAt {
  readonly body: typeof UpdateTurn.Type
}
export interface BanRow extends SaidAt {
  readonly body: typeof UpdateBanned.Type
}
export interface ChannelRow extends SaidAt {
  readonly body: typeof ChannelStated.Type
}
export interface CapableRow extends SaidAt {
  readonly body: typeof NodeCapable.Type
}
export interface ProposedRow extends SaidAt {
  /** SHA-256 of `unsigned`, 64 hex digits: its id. */
  readonly proposal: string
  readonly body: Omit<typeof ReleaseProposed.Type, "unsigned">
  readonly unsigned: Uint8Array
}
export interface SignedRow extends SaidAt {
  readonly body: typeof ReleaseSigned.Type
}
export interface WithdrawnRow extends SaidAt {
  readonly body: typeof ReleaseWithdrawn.Type
}
export interface SignerRow extends SaidAt {
  readonly body: typeof ReleaseSigner.Type
}

type What = "offered" | "advised" | "turn" | "banned" | "channel" | "capable"
type ReleaseWhat = "proposed" | "signed" | "withdrawn" | "signer"

export class Updates {
  readonly #database: Database
  readonly #names: Names
  /** Grows with each row; not when rows are taken out. */
  revision = 0

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
  }

  get folds(): ReadonlyArray<readonly [string, EventFold]> {
    return [
      ...updateSteps.map((step): readonly [string, EventFold] => [`update.${step}/1`, (event) => {
        if (Schema.is(UpdateStep)(event.body)) this.#step(event, step, event.body)
      }]),
      ["update.offered/1", (event) => {
        if (Schema.is(UpdateOffered)(event.body)) this.#said(event, "offered", event.body.release)
      }],
      ["update.advised/1", (event) => {
        if (Schema.is(UpdateAdvised)(event.body)) this.#said(event, "advised", event.body.release)
      }],
      ["update.turn/1", (event) => {
        if (Schema.is(UpdateTurn)(event.body)) this.#said(event, "turn", event.body.release)
      }],
      ["update.banned/1", (event) => {
        if (Schema.is(UpdateBanned)(event.body)) this.#said(event, "banned", event.body.device)
      }],
      ["channel.stated/1", (event) => {
        if (Schema.is(ChannelStated)(event.body)) this.#said(event, "channel", event.body.channel)
      }],
      ["node.capable/1", (event) => {
        if (Schema.is(NodeCapable)(event.body)) this.#said(event, "capable", event.device)
      }],
      ["release.proposed/1", (event) => {
        if (!Schema.is(ReleaseProposed)(event.body)) return
        const { unsigned, ...body } = event.body
        this.#release(event, "proposed", body.channel, createHash("sha256").update(unsigned).digest("hex"), body, unsigned)
      }],
      ["release.signed/1", (event) => {
        if (Schema.is(ReleaseSigned)(event.body)) this.#release(event, "signed", event.body.channel, event.body.proposal, event.body)
      }],
      ["release.withdrawn/1", (event) => {
        if (Schema.is(ReleaseWithdrawn)(event.body)) this.#release(event, "withdrawn", event.body.channel, event.body.proposal, event.body)
      }],
      ["release.signer/1", (event) => {
        if (Schema.is(ReleaseSigner)(event.body)) this.#release(event, "signer", "", "", event.body)
      }]
    ]
  }

  /** Newest first by stamp and place; of one release or kind of step when it is named. */
  steps(of: { readonly release?: string; readonly step?: UpdateStepName } = {}): ReadonlyArray<StepRow> {
    return this.#rows("update_steps", of).flatMap((row) => {
      const body: unknown = JSON.parse(text(row["body"]))
      const step = updateSteps.find((name) => name === row["step"])
      return step !== undefined && isStep(body) ? [{ ...this.#at(row), step, body }] : []
    })
  }

  offers(release?: string): ReadonlyArray<OfferRow> {
    return this.#saidRows("offered", isOffered, release)
  }

  advice(release?: string): ReadonlyArray<AdviceRow> {
    return this.#saidRows("advised", isAdvised, release)
  }

  turns(): ReadonlyArray<TurnRow> {
    return this.#saidRows("turn", isTurn)
  }

  bans(): ReadonlyArray<BanRow> {
    return this.#saidRows("banned", isBanned)
  }

  /** What nodes said of channels. */
  channels(): ReadonlyArray<ChannelRow> {
    return this.#saidRows("channel", isChannel)
  }

  /** What nodes can read and write; of each log the newest rows count, so look for the newest of each device. */
  capable(): ReadonlyArray<CapableRow> {
    return this.#saidRows("capable", isCapable)
  }

  /** What a device said last of what it can read and write. */
  capability(device: string): CapableRow["body"] | undefined {
    return this.#saidRows("capable", isCapable, device)[0]?.body
  }

  /** What is to be signed, newest first; of one channel when it is named (SHA-256 of its first root). */
  proposals(channel?: string): ReadonlyArray<ProposedRow> {
    return this.#proposed(channel === undefined ? {} : { channel })
  }

  /** Every event that proposes these bytes, newest first. */
  proposal(proposal: string): ReadonlyArray<ProposedRow> {
    return this.#proposed({ proposal })
  }

  /** Signatures over a proposal, as they were said; whether one is right is for its reader to check. */
  signatures(proposal: string): ReadonlyArray<SignedRow> {
    return this.#releaseRows("signed", isSigned, { proposal })
  }

  /** Who withdrew a proposal, newest first; whether that one may is for its reader to decide. */
  withdrawn(proposal: string): ReadonlyArray<WithdrawnRow> {
    return this.#releaseRows("withdrawn", isWithdrawn, { proposal })
  }

  /** Keys with which nodes say that they sign, newest first. */
  signers(): ReadonlyArray<SignerRow> {
    return this.#releaseRows("signer", isSigner, {})
  }

  #proposed(where: Where): ReadonlyArray<ProposedRow> {
    return this.#rows("release_said", { what: "proposed", ...where }, proposalsPerLogMax).flatMap((row) => {
      const body: unknown = JSON.parse(text(row["body"]))
      const unsigned = blob(row["unsigned"])
      if (typeof body !== "object" || body === null) return []
      const whole: unknown = { ...body, unsigned }
      return isProposed(whole) ? [{ ...this.#at(row), proposal: text(row["proposal"]), body: { channel: whole.channel, role: whole.role, version: whole.version, summary: whole.summary }, unsigned }] : []
    })
  }

  #saidRows<B>(what: What, is: (body: unknown) => body is B, about?: string): ReadonlyArray<SaidAt & { readonly body: B }> {
    return this.#bodies(this.#rows("update_said", about === undefined ? { what } : { what, about }), is)
  }

  #releaseRows<B>(what: ReleaseWhat, is: (body: unknown) => body is B, where: Where): ReadonlyArray<SaidAt & { readonly body: B }> {
    return this.#bodies(this.#rows("release_said", { what, ...where }), is)
  }

  #bodies<B>(rows: ReadonlyArray<Row>, is: (body: unknown) => body is B): ReadonlyArray<SaidAt & { readonly body: B }> {
    return rows.flatMap((row) => {
      const body: unknown = JSON.parse(text(row["body"]))
      return is(body) ? [{ ...this.#at(row), body }] : []
    })
  }

  /** Of each log the newest rows. Numbers of logs differ between nodes, so equal stamps are told apart by the logs' keys. */
  #rows(table: string, where: Where, perLogMax = updateRowsPerLogMax): ReadonlyArray<Row> {
    const columns = Object.keys(where)
    return this.#database.prepare(
      `SELECT * FROM (SELECT a.*, e.ms, e.count, e.actor, n.text AS key, row_number() OVER (PARTITION BY a.log ORDER BY a.block DESC, a.offset DESC) AS place
      FROM ${table} a JOIN events e ON e.log = a.log AND e.block = a.block AND e.offset = a.offset JOIN names n ON n.id = a.log
      WHERE e.status = 0${columns.map((column) => ` AND a.${column} = ?`).join("")}) WHERE place <= ${perLogMax}
      ORDER BY ms DESC, count DESC, key, block DESC, offset DESC`
    ).all(...Object.values(where))
  }

  #at(row: Row): SaidAt {
    return { log: text(row["key"]), block: int(row["block"]), offset: int(row["offset"]), ms: int(row["ms"]), count: int(row["count"]), actor: this.#names.textAt(row, "actor") }
  }

  #step({ log, block, offset }: FoldedEvent, step: UpdateStepName, body: UpdateStep): void {
    this.revision++
    this.#database.prepare("INSERT INTO update_steps VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING").run(this.#names.idOf(log), block, offset, step, body.release, JSON.stringify(body))
  }

  #said({ log, block, offset, body }: FoldedEvent, what: What, about: string): void {
    this.revision++
    this.#database.prepare("INSERT INTO update_said VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING").run(this.#names.idOf(log), block, offset, what, about, JSON.stringify(body))
  }

  #release({ log, block, offset }: FoldedEvent, what: ReleaseWhat, channel: string, proposal: string, body: object, unsigned?: Uint8Array): void {
    this.revision++
    this.#database.prepare("INSERT INTO release_said VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
      .run(this.#names.idOf(log), block, offset, what, channel, proposal, JSON.stringify(body), unsigned ?? null)
  }
}

type Where = Readonly<Record<string, string>>

const isStep = Schema.is(UpdateStep)
const isOffered = Schema.is(UpdateOffered)
const isAdvised = Schema.is(UpdateAdvised)
const isTurn = Schema.is(UpdateTurn)
const isBanned = Schema.is(UpdateBanned)
const isChannel = Schema.is(ChannelStated)
const isCapable = Schema.is(NodeCapable)
const isProposed = Schema.is(ReleaseProposed)
const isSigned = Schema.is(ReleaseSigned)
const isWithdrawn = Schema.is(ReleaseWithdrawn)
const isSigner = Schema.is(ReleaseSigner)
