/**
 * Blocks into rows: what a tick and a rebuild have in common. `sort` says what becomes of each event before the gate has spoken; `write`
 * makes rows of it, within the transaction of its caller.
 */
import { Result } from "effect"
import { evidenceTypes } from "./tables/evidence.ts"
import type { DocId, LoggedChange } from "./documents/types.ts"
import type { Members } from "./members.ts"
import { type Judged, type Placing, placingOf, Reasons } from "./placing.ts"
import type { Quarantined } from "./tables/quarantine.ts"
import type { Tables } from "./tables/tables.ts"
import type { Taken } from "./tick-reader.ts"

export interface BlockFolderOptions {
  readonly tables: Tables
  readonly members: Members
  readonly ownDevice: string
  /** For the local record of when something was quarantined; nothing that is folded depends on it. */
  readonly now: () => number
}

export interface Sorted {
  readonly blocks: ReadonlyArray<{ readonly taken: Taken; readonly placings: ReadonlyArray<Placing> }>
  /** In the order of the blocks. */
  readonly changes: ReadonlyMap<DocId, ReadonlyArray<LoggedChange>>
  readonly reasons: Reasons
}

export interface Written {
  /** Arrival numbers of new events; 0 when there are none. */
  readonly first: number
  readonly last: number
  /** Membership operations that came in. */
  readonly operations: number
  readonly faults: ReadonlyArray<Quarantined>
  /** Documents that got events which were not indexed before. */
  readonly documents: ReadonlySet<DocId>
}

export class BlockFolder {
  readonly #options: BlockFolderOptions

  constructor(options: BlockFolderOptions) {
    this.#options = options
  }

  sort(blocks: ReadonlyArray<Taken>): Sorted {
    const { cutoffs } = this.#options.tables
    const reasons = new Reasons(this.#options.members)
    const changes = new Map<DocId, Array<LoggedChange>>()
    const sorted = blocks.map((taken) => {
      const { log, block } = taken
      const cutoff = cutoffs.of(log)
      const placings = taken.events.map((event, offset) => {
        const placing = placingOf(event, { log, block, offset }, cutoff, reasons)
        if (placing._tag !== "Change") return placing
        const list = changes.get(placing.doc)
        if (list === undefined) changes.set(placing.doc, [placing.change])
        else list.push(placing.change)
        return placing
      })
      return { taken, placings }
    })
    return { blocks: sorted, changes, reasons }
  }

  /**
   * Writes rows for all of it. `judge` says what became of a change; when it does not, an event that is indexed already keeps its status.
   * What was quarantined before and counts now is taken off the list.
   */
  write({ blocks }: Sorted, judge: (change: LoggedChange) => Judged | undefined): Written {
    const { tables, members, ownDevice, now } = this.#options
    const before = tables.events.totals().lastArrival
    const faults: Array<Quarantined> = []
    const documents = new Set<DocId>()
    const ms = now()
    const rows = blocks.flatMap(({ taken: { log, block, device, events }, placings }) => events.flatMap(({ envelope }, offset) => {
      const placing = placings[offset]
      if (placing === undefined) return []
      const own = placing._tag === "Operation" ? known : placing._tag === "Change" ? judge(placing.change) : placing
      return [{
        row: {
          log, block, offset, type: envelope.type, ms: envelope.at.ms, count: envelope.at.count, actor: envelope.actor, subject: envelope.subject, status: own?.status ?? "known",
          // Of earlier logs of this node too: a rebuild must know what was answered before a log was succeeded.
          ...(device === ownDevice && envelope.command !== "" ? { command: envelope.command } : {})
        },
        device, judged: own, placing
      }]
    }))
    const arrivals = tables.events.add(rows.map(({ row }) => row))
    rows.forEach(({ row, device, judged: own, placing }, i) => {
      const fresh = (arrivals[i] ?? 0) > before
      if (fresh && placing._tag === "Change") documents.add(placing.doc)
      if (own === undefined) return
      if (!fresh) tables.events.setStatus(row, own.status)
      if (own.why !== undefined) faults.push({ log: row.log, block: row.block, offset: row.offset, device, why: own.why, ms })
      else if (!fresh) tables.quarantine.release(row.log, row.block, row.offset)
    })
    let operations = 0
    for (const { taken: { log, block, device, events, why, sealed }, placings } of blocks) {
      if (sealed !== undefined) tables.sealed.add(log, block, sealed)
      if (why !== undefined) faults.push({ log, block, offset: undefined, device, why, ms })
      events.forEach((event, offset) => {
        const placing = placings[offset]
        if (event._tag !== "Known" || placing === undefined) return
        if (placing._tag === "Operation") {
          const taken = members.take(placing.bytes, "log", { log, block, offset })
          if (Result.isFailure(taken)) {
            faults.push({ log, block, offset, device, why: taken.failure, ms })
            tables.events.setStatus({ log, block, offset }, "quarantined")
          } else operations++
        }
        // Evidence proves itself and holds logs back: were it bound by what it holds back, two logs that accuse each other would differ by who came first.
        if (placing._tag === "Plain" && placing.status === "quarantined" && !evidenceTypes.has(event.envelope.type)) return
        tables.folds.get(event.envelope.type)?.({ log, block, offset, device, envelope: event.envelope, body: event.body })
      })
    }
    for (const fault of faults) tables.quarantine.add(fault)
    const fresh = arrivals.filter((arrival) => arrival > before)
    return { first: fresh[0] ?? 0, last: fresh.at(-1) ?? 0, operations, faults, documents }
  }
}

const known: Judged = { status: "known", why: undefined }
