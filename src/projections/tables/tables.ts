import { Witnesses } from "./witnesses.ts"
import { type BlockRange, Cutoffs } from "./cutoffs.ts"
import { Sealed } from "./sealed.ts"
import { Cursors, Heads } from "./cursors.ts"
import { Approvals } from "./approvals.ts"
import { RegisterWrites } from "./register-writes.ts"
import type { Address } from "../../codec/address.ts"
import { Database, int, type OpenOptions } from "./database.ts"
import { DocumentStore } from "./document-store.ts"
import { Evidence } from "./evidence.ts"
import { EventIndex } from "./event-index.ts"
import { Facts } from "./facts.ts"
import type { EventFold } from "./folds.ts"
import { fingerprint, type Fingerprint } from "./fingerprint.ts"
import { MemorySearch } from "./memory-search.ts"
import { Federations } from "./federation.ts"
import { Names } from "./names.ts"
import { Quarantine } from "./quarantine.ts"
import { Receipts } from "./receipts.ts"
import { addressedTables, derivedTables } from "./schema.ts"
import { Secrets } from "./secrets.ts"
import { Updates } from "./updates.ts"

/** All tables of one node and mesh, over one file. */
export class Tables {
  readonly database: Database
  readonly names: Names
  readonly facts: Facts
  readonly events: EventIndex
  readonly cursors: Cursors
  readonly heads: Heads
  readonly receipts: Receipts
  readonly search: MemorySearch
  readonly documents: DocumentStore
  readonly quarantine: Quarantine
  readonly witnesses: Witnesses
  readonly secrets: Secrets
  readonly cutoffs: Cutoffs
  readonly sealed: Sealed
  readonly evidence: Evidence
  readonly approvals: Approvals
  readonly registerWrites: RegisterWrites
  readonly federations: Federations
  readonly updates: Updates
  /** What is done with an event of a type beside indexing it. */
  readonly folds: ReadonlyMap<string, EventFold>

  /** Opens or creates the file; throws TableError. */
  constructor(file: string, options: OpenOptions = {}) {
    this.database = new Database(file, options)
    this.names = new Names(this.database)
    this.facts = new Facts(this.database)
    this.events = new EventIndex(this.database, this.names)
    this.cursors = new Cursors(this.database, this.names)
    this.heads = new Heads(this.database, this.names, this.facts)
    this.receipts = new Receipts(this.database, this.names, this.events)
    this.search = new MemorySearch(this.database, this.names)
    this.cutoffs = new Cutoffs(this.database, this.names)
    this.sealed = new Sealed(this.database, this.names)
    this.documents = new DocumentStore(this.database, this.names, this.search, this.cutoffs)
    this.quarantine = new Quarantine(this.database, this.names, this.facts)
    this.witnesses = new Witnesses(this.database, this.names)
    this.secrets = new Secrets(this.database, this.names)
    this.evidence = new Evidence(this.database, this.names)
    this.approvals = new Approvals(this.database, this.names)
    this.registerWrites = new RegisterWrites(this.database, this.names)
    this.federations = new Federations(this.database, this.names)
    this.updates = new Updates(this.database, this.names)
    this.folds = new Map<string, EventFold>([
      ["approval.asked/1", (event) => this.approvals.asked(event)],
      ["approval.given/1", (event) => this.approvals.given(event)],
      ["policy.kept/1", (event) => this.approvals.kept(event)],
      ["config.changed/1", (event) => {
        this.approvals.caused(event)
        this.registerWrites.add(event)
      }],
      ["evidence.found/1", (event) => this.evidence.found(event)],
      ["evidence.cleared/1", (event) => this.evidence.cleared(event)],
      ...this.secrets.folds,
      ...this.federations.folds,
      ...this.updates.folds,
      ["checkpoint.made/1", (event) => this.witnesses.add(event)]
    ])
  }

  transaction<A>(work: () => A): A {
    return this.database.transaction(work)
  }

  /**
   * Empties everything that is derived, so that all logs are folded again into this file; what only this node knows stays. Membership
   * operations stay too (as if met), so that the logs of members are still known while they are read again. Arrival numbers begin anew.
   */
  clearDerived(): void {
    this.transaction(() => {
      for (const table of derivedTables) this.database.exec(`DELETE FROM ${table}`)
      this.database.exec("UPDATE operations SET source = 1")
    })
    this.database.forget()
    this.evidence.forget()
  }

  /** Takes out what events in these blocks have said, so that they can be folded again or count no more. */
  removeRows({ log, from, to }: BlockRange): void {
    const id = this.names.find(log)
    if (id === undefined) return
    for (const table of addressedTables) this.database.prepare(`DELETE FROM ${table} WHERE log = ? AND block >= ? AND block < ?`).run(id, from, to)
    this.secrets.changed()
  }

  /** Takes out all that came of a log, its cursor too. Operations stay known. */
  removeLog(log: string): void {
    const id = this.names.find(log)
    if (id === undefined) return
    this.removeRows({ log, from: 0, to: Number.MAX_SAFE_INTEGER })
    this.sealed.remove({ log, from: 0, to: Number.MAX_SAFE_INTEGER })
    this.database.prepare("DELETE FROM commands WHERE event IN (SELECT id FROM events WHERE log = ?)").run(id)
    this.evidence.forget()
    for (const table of ["evidence", "evidence_cleared", "events", "counts", "quarantine", "refold_blocks"]) this.database.prepare(`DELETE FROM ${table} WHERE log = ?`).run(id)
    this.database.prepare("UPDATE operations SET source = 1, log = NULL, block = NULL, offset = NULL WHERE log = ?").run(id)
    this.cursors.remove(log)
  }

  /** The event that a membership operation was first read in. */
  operationPlace(hash: string): Address | undefined {
    const row = this.database.prepare("SELECT log, block, offset FROM operations WHERE hash = ? AND log IS NOT NULL").get(hash)
    return row === undefined ? undefined : { log: this.names.textAt(row, "log"), block: int(row["block"]), offset: int(row["offset"]) }
  }

  fingerprint(): Fingerprint {
    return fingerprint(this.database, this.names)
  }

  /** What is wrong with the file; empty when nothing is. */
  integrity(): ReadonlyArray<string> {
    return this.database.integrity()
  }

  close(): void {
    this.database.close()
  }
}
