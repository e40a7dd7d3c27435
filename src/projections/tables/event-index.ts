import type { Address, Point } from "../../codec/address.ts"
import { uuidBytes } from "../../codec/uuid.ts"
import { type Database, int, type Row, type Statement, text } from "./database.ts"
import { type EventQuery, planEvents } from "./event-query.ts"
import type { Names } from "./names.ts"
import { corrupt } from "./table-error.ts"

/** `known`: in the catalogue. `unknown`: a type that this node does not know; kept and forwarded. `quarantined`: does not count. */
export type EventStatus = "known" | "unknown" | "quarantined"

export interface IndexedEvent extends Address {
  readonly type: string
  /** The event's stamp. */
  readonly ms: number
  readonly count: number
  readonly actor: string
  readonly subject: string
  readonly status: EventStatus
}

export interface NewEvent extends IndexedEvent {
  /** UUIDv7 of the command, for events of own logs only: remembered for `byCommand`. Absent or empty: none. */
  readonly command?: string | undefined
}

export interface EventRow extends IndexedEvent {
  /** Local arrival number, from 1: what people see as `@1204`. */
  readonly arrival: number
}

/** Where an event that changes a document stands, and whether it counts. */
export interface IndexedChange extends Address {
  readonly status: EventStatus
}

export interface EventPage {
  readonly events: ReadonlyArray<EventRow>
  /** Give it as `after` to read on; undefined when there is no more. */
  readonly next: number | undefined
}

/** The index of events: where each one is, and what is asked for when people and machines look for some. Bodies stay in the logs. */
export class EventIndex {
  readonly #database: Database
  readonly #names: Names
  readonly #insert: Statement
  readonly #count: Statement
  readonly #command: Statement
  readonly #find: Statement

  constructor(database: Database, names: Names) {
    this.#database = database
    this.#names = names
    this.#insert = database.prepare("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (log, block, offset) DO NOTHING")
    this.#count = database.prepare("INSERT INTO counts VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n")
    this.#command = database.prepare("INSERT INTO commands VALUES (?, ?) ON CONFLICT DO NOTHING")
    this.#find = database.prepare("SELECT * FROM events WHERE log = ? AND block = ? AND offset = ?")
  }

  /** Adds events, in this order; returns the arrival number of each. One that is here already keeps its number. */
  add(events: ReadonlyArray<NewEvent>): ReadonlyArray<number> {
    return this.#database.transaction(() => {
      const names = this.#names
      const insert = this.#insert.raw
      const arrivals = new Array<number>(events.length)
      const added = new Map<number, Map<number, number>>()
      this.#database.guard("index events", () => {
        for (let i = 0; i < events.length; i++) {
          const event = events[i]
          if (event === undefined) continue
          const log = names.idOf(event.log)
          const type = names.idOf(event.type)
          const status = statusNumber[event.status]
          const done = insert.run(
            log, event.block, event.offset, type, event.ms, event.count, names.idOf(event.actor), names.idOf(event.subject), status
          )
          if (done.changes === 0) {
            arrivals[i] = int(this.#find.get(log, event.block, event.offset)?.["id"])
            continue
          }
          const arrival = Number(done.lastInsertRowid)
          arrivals[i] = arrival
          bump(added, log, type * statuses + status)
          if (event.command !== undefined && event.command !== "") this.#command.raw.run(uuidBytes(event.command), arrival)
        }
      })
      for (const [log, kinds] of added) {
        for (const [kind, n] of kinds) this.#count.run(log, Math.floor(kind / statuses), kind % statuses, n)
      }
      return arrivals
    })
  }

  /** Events that fulfil all conditions, by arrival. Throws TableError `failed` for a query that is no query (its limit). */
  query(query: EventQuery): EventPage {
    const plan = planEvents(this.#database, this.#names, query)
    if (plan === undefined) return { events: [], next: undefined }
    // One row more than asked for tells whether there is a next page.
    const rows = this.#database.prepare(plan.sql).all(...plan.values)
    const events = rows.slice(0, query.limit).map((row) => this.#row(row))
    return { events, next: rows.length > query.limit ? events.at(-1)?.arrival : undefined }
  }

  byArrival(arrival: number): EventRow | undefined {
    return this.#one(this.#database.prepare("SELECT * FROM events WHERE id = ?").get(arrival))
  }

  byAddress(address: Address): EventRow | undefined {
    const log = this.#names.find(address.log)
    return log === undefined ? undefined : this.#one(this.#find.get(log, address.block, address.offset))
  }

  /** The first event that a command led to. */
  byCommand(command: string): EventRow | undefined {
    return this.#one(this.#database.prepare("SELECT e.* FROM commands c JOIN events e ON e.id = c.event WHERE c.command = ?").get(uuidBytes(command)))
  }

  /** All events about a subject, those at or before `point` when it is given, ordered by log, block, offset: the same on every node. */
  forSubject(subject: string, point?: Point): ReadonlyArray<EventRow> {
    const id = this.#names.find(subject)
    if (id === undefined) return []
    const rows = this.#database.prepare(
      "SELECT e.* FROM events e JOIN names n ON n.id = e.log WHERE e.subject = ? ORDER BY n.text, e.block, e.offset"
    ).all(id).map((row) => this.#row(row))
    return point === undefined ? rows : rows.filter((row) => row.block < (Object.hasOwn(point, row.log) ? point[row.log] ?? 0 : 0))
  }

  /** Events of these types about a subject, by arrival. */
  changesOf(subject: string, types: Iterable<string>): ReadonlyArray<IndexedChange> {
    const id = this.#names.find(subject)
    const ids = [...types].flatMap((type) => this.#names.find(type) ?? [])
    if (id === undefined) return []
    return this.#database.prepare(`SELECT log, block, offset, status FROM events WHERE subject = ? AND type IN (${ids.map(() => "?").join()}) ORDER BY id`).all(id, ...ids)
      .map((row) => ({ log: this.#names.textAt(row, "log"), block: int(row["block"]), offset: int(row["offset"]), status: statusOf(row) }))
  }

  /** How many events of a log stand at or after a block, and the stamp of the first of them. */
  from(log: string, block: number): { readonly events: number; readonly sinceMs: number | undefined } {
    const id = this.#names.find(log)
    if (id === undefined) return { events: 0, sinceMs: undefined }
    const first = this.#database.prepare("SELECT block, ms FROM events WHERE log = ? AND block >= ? ORDER BY block, offset LIMIT 1").get(id, block)
    if (first === undefined) return { events: 0, sinceMs: undefined }
    const last = int(this.#database.prepare("SELECT max(block) AS block FROM events WHERE log = ?").get(id)?.["block"])
    // Count the shorter side; the total is known.
    const after = "SELECT count(*) AS n FROM events WHERE log = ? AND block >= ?"
    const before = "SELECT (SELECT coalesce(sum(n), 0) FROM counts WHERE log = ?1) - (SELECT count(*) FROM events WHERE log = ?1 AND block < ?2) AS n"
    const events = int(this.#database.prepare(block > last / 2 ? after : before).get(id, block)?.["n"])
    return { events, sinceMs: int(first["ms"]) }
  }

  countByType(): ReadonlyArray<{ readonly type: string; readonly status: EventStatus; readonly events: number }> {
    return this.#database.prepare("SELECT type, status, sum(n) AS n FROM counts WHERE n > 0 GROUP BY type, status ORDER BY n DESC, type").all()
      .map((row) => ({ type: this.#names.textAt(row, "type"), status: statusOf(row), events: int(row["n"]) }))
  }

  countByLog(): ReadonlyArray<{ readonly log: string; readonly events: number }> {
    return this.#database.prepare("SELECT log, sum(n) AS n FROM counts GROUP BY log ORDER BY n DESC, log").all()
      .map((row) => ({ log: this.#names.textAt(row, "log"), events: int(row["n"]) }))
  }

  totals(): { readonly events: number; readonly unknown: number; readonly quarantined: number; readonly lastArrival: number } {
    const row = this.#database.prepare(
      "SELECT total(n) AS n, total(iif(status = 1, n, 0)) AS u, total(iif(status = 2, n, 0)) AS q, (SELECT coalesce(max(id), 0) FROM events) AS last FROM counts"
    ).get()
    return { events: int(row?.["n"]), unknown: int(row?.["u"]), quarantined: int(row?.["q"]), lastArrival: int(row?.["last"]) }
  }

  /** Types that were unknown when their events came, with how many there are. */
  unknownTypes(): ReadonlyArray<{ readonly type: string; readonly events: number }> {
    return this.countByType().filter((entry) => entry.status === "unknown").map(({ type, events }) => ({ type, events }))
  }

  /** Types that stand here, also those that this version does not know; of one log when it is named. */
  types(log?: string): ReadonlyArray<string> {
    const id = log === undefined ? undefined : this.#names.find(log)
    if (log !== undefined && id === undefined) return []
    return this.#database.prepare(`SELECT DISTINCT n.text FROM counts c JOIN names n ON n.id = c.type WHERE c.n > 0${id === undefined ? "" : " AND c.log = ?"} ORDER BY n.text`)
      .all(...(id === undefined ? [] : [id])).map((row) => text(row["text"]))
  }

  /** Changes what one event counts as, for instance when a newer release knows its type. Returns false when there is no such event. */
  setStatus(address: Address, status: EventStatus): boolean {
    return this.#database.transaction(() => {
      const event = this.byAddress(address)
      if (event === undefined) return false
      if (event.status === status) return true
      const [log, type] = [this.#names.idOf(event.log), this.#names.idOf(event.type)]
      this.#database.prepare("UPDATE events SET status = ? WHERE id = ?").run(statusNumber[status], event.arrival)
      this.#count.run(log, type, statusNumber[event.status], -1)
      this.#count.run(log, type, statusNumber[status], 1)
      return true
    })
  }

  #one(row: Row | undefined): EventRow | undefined {
    return row === undefined ? undefined : this.#row(row)
  }

  #row(row: Row): EventRow {
    return {
      arrival: int(row["id"]), log: this.#names.textAt(row, "log"), block: int(row["block"]), offset: int(row["offset"]),
      type: this.#names.textAt(row, "type"), ms: int(row["ms"]), count: int(row["count"]), actor: this.#names.textAt(row, "actor"),
      subject: this.#names.textAt(row, "subject"), status: statusOf(row)
    }
  }
}

export const statusNumber: Readonly<Record<EventStatus, number>> = { known: 0, unknown: 1, quarantined: 2 }
const statuses = 3

const statusOf = (row: Row): EventStatus => {
  const status = int(row["status"])
  if (status === 0) return "known"
  if (status === 1) return "unknown"
  if (status === 2) return "quarantined"
  throw corrupt("read an event", `there is no status ${status}`)
}

const bump = (counts: Map<number, Map<number, number>>, log: number, kind: number): void => {
  let kinds = counts.get(log)
  if (kinds === undefined) counts.set(log, (kinds = new Map()))
  kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
}
