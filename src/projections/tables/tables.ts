import { Witnesses } from "./witnesses.ts"
import { Cursors, Heads } from "./cursors.ts"
import type { Address } from "../../codec/address.ts"
import { Database, int, type OpenOptions } from "./database.ts"
import { DocumentStore } from "./document-store.ts"
import { Evidence } from "./evidence.ts"
import { EventIndex } from "./event-index.ts"
import { Facts } from "./facts.ts"
import type { EventFold } from "./folds.ts"
import { fingerprint, type Fingerprint } from "./fingerprint.ts"
import { MemorySearch } from "./memory-search.ts"
import { Names } from "./names.ts"
import { Quarantine } from "./quarantine.ts"
import { Receipts } from "./receipts.ts"
import { derivedTables } from "./schema.ts"

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
  readonly evidence: Evidence
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
    this.documents = new DocumentStore(this.database, this.names, this.search)
    this.quarantine = new Quarantine(this.database, this.names, this.facts)
    this.witnesses = new Witnesses(this.database, this.names)
    this.evidence = new Evidence(this.database, this.names)
    this.folds = new Map<string, EventFold>([
      ["evidence.found/1", (event) => this.evidence.found(event)],
      ["evidence.cleared/1", (event) => this.evidence.cleared(event)],
      ["checkpoint.made/1", ({ device, body }) => this.witnesses.add(device, body)]
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
