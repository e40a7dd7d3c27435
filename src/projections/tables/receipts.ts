import { type Database, int, type Row, type Statement, text } from "./database.ts"
import type { EventIndex } from "./event-index.ts"
import type { Names } from "./names.ts"

/** What waits for one device. */
export interface Waiting {
  readonly device: string
  /** Own events that the device is not known to hold. */
  readonly events: number
  /** Stamp of the oldest of them, milliseconds; undefined when none waits. */
  readonly sinceMs: number | undefined
}

export interface Peer {
  readonly device: string
  readonly carrier: string
  /** Where it was last reached; a hint for dialling, and for people. */
  readonly remote: string
  readonly up: boolean
  readonly lastUpMs: number | undefined
  readonly lastDownMs: number | undefined
}

/** Who holds what: each device's word on how long its copy of each log is. It only ever grows; a device that says nothing holds nothing. */
export class Receipts {
  readonly #database: Database
  readonly #names: Names
  readonly #events: EventIndex
  readonly #set: Statement

  constructor(database: Database, names: Names, events: EventIndex) {
    this.#database = database
    this.#names = names
    this.#events = events
    this.#set = database.prepare(
      "INSERT INTO peer_heads VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET length = excluded.length WHERE excluded.length > length"
    )
  }

  /** Returns true when this was news. */
  holds(device: string, log: string, length: number): boolean {
    return this.#set.run(this.#names.idOf(log), this.#names.idOf(device), length) > 0
  }

  /** A whole heads message; returns how many entries were news. */
  holdsAll(device: string, heads: ReadonlyArray<{ readonly log: string; readonly length: number }>): number {
    return this.#database.transaction(() => heads.reduce((news, head) => news + (this.holds(device, head.log, head.length) ? 1 : 0), 0))
  }

  /** How long a device's copy of a log is known to be. */
  held(device: string, log: string): number {
    const [logId, deviceId] = [this.#names.find(log), this.#names.find(device)]
    if (logId === undefined || deviceId === undefined) return 0
    return int(this.#database.prepare("SELECT length FROM peer_heads WHERE log = ? AND device = ?").get(logId, deviceId)?.["length"] ?? 0)
  }

  /** All that a device is known to hold. */
  holdings(device: string): ReadonlyArray<{ readonly log: string; readonly length: number }> {
    const id = this.#names.find(device)
    if (id === undefined) return []
    return this.#database.prepare("SELECT log, length FROM peer_heads WHERE device = ?").all(id)
      .map((row) => ({ log: this.#names.textAt(row, "log"), length: int(row["length"]) }))
  }

  /** Which of these devices hold a block, and which do not. Order is kept. */
  holders(log: string, block: number, devices: ReadonlyArray<string>): { readonly holding: ReadonlyArray<string>; readonly missing: ReadonlyArray<string> } {
    const lengths = this.#lengths(log)
    const holding = devices.filter((device) => (lengths.get(device) ?? 0) > block)
    const has = new Set(holding)
    return { holding, missing: devices.filter((device) => !has.has(device)) }
  }

  /** For each device, how much of these own logs it is not known to hold. */
  waiting(ownLogs: ReadonlyArray<string>, devices: ReadonlyArray<string>): ReadonlyArray<Waiting> {
    const sums = new Map<string, { events: number; sinceMs: number | undefined }>()
    for (const device of devices) sums.set(device, { events: 0, sinceMs: undefined })
    for (const log of ownLogs) {
      const lengths = this.#lengths(log)
      // Devices that met us together have the same length: counted once.
      const seen = new Map<number, ReturnType<EventIndex["from"]>>()
      for (const [device, sum] of sums) {
        const length = lengths.get(device) ?? 0
        const rest = seen.get(length) ?? this.#events.from(log, length)
        seen.set(length, rest)
        sum.events += rest.events
        if (rest.sinceMs !== undefined) sum.sinceMs = Math.min(sum.sinceMs ?? rest.sinceMs, rest.sinceMs)
      }
    }
    return [...sums].map(([device, sum]) => ({ device, ...sum }))
  }

  /** Up to where in a peer's sequence its heads are known here. */
  cursor(device: string): { readonly sequenceId: string; readonly sequence: number } | undefined {
    const row = this.#database.prepare("SELECT sequence_id, sequence FROM peer_cursors WHERE device = ?").get(this.#names.find(device) ?? 0)
    return row === undefined ? undefined : { sequenceId: text(row["sequence_id"]), sequence: int(row["sequence"]) }
  }

  /** Another sequence id replaces the cursor; in the same sequence it never moves back. */
  setCursor(device: string, sequenceId: string, sequence: number): void {
    this.#database.prepare(
      "INSERT INTO peer_cursors VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET sequence_id = excluded.sequence_id, sequence = excluded.sequence " +
      "WHERE excluded.sequence_id <> sequence_id OR excluded.sequence > sequence"
    ).run(this.#names.idOf(device), sequenceId, sequence)
  }

  /** A peer came in touch or was lost, at `ms` of our clock. */
  touched(device: string, carrier: string, up: boolean, remote: string, ms: number): void {
    this.#database.prepare(
      "INSERT INTO peers VALUES (?1, ?2, ?3, ?4, iif(?4, ?5, NULL), iif(?4, NULL, ?5)) ON CONFLICT DO UPDATE SET carrier = excluded.carrier, " +
      "remote = iif(excluded.remote = '', remote, excluded.remote), up = excluded.up, " +
      "up_ms = coalesce(excluded.up_ms, up_ms), down_ms = coalesce(excluded.down_ms, down_ms)"
    ).run(this.#names.idOf(device), carrier, remote.slice(0, remoteCharsMax), up ? 1 : 0, ms)
  }

  /** At start: nobody is in touch yet, whatever the last run left. */
  allDown(ms: number): void {
    this.#database.prepare("UPDATE peers SET up = 0, down_ms = ? WHERE up = 1").run(ms)
  }

  peers(): ReadonlyArray<Peer> {
    return this.#database.prepare("SELECT * FROM peers ORDER BY device").all().map((row) => this.#peer(row))
  }

  peer(device: string): Peer | undefined {
    const row = this.#database.prepare("SELECT * FROM peers WHERE device = ?").get(this.#names.find(device) ?? 0)
    return row === undefined ? undefined : this.#peer(row)
  }

  #lengths(log: string): ReadonlyMap<string, number> {
    const id = this.#names.find(log)
    if (id === undefined) return new Map()
    return new Map(this.#database.prepare("SELECT device, length FROM peer_heads WHERE log = ?").all(id)
      .map((row) => [this.#names.textAt(row, "device"), int(row["length"])]))
  }

  #peer(row: Row): Peer {
    return {
      device: this.#names.textAt(row, "device"), carrier: text(row["carrier"]), remote: text(row["remote"]), up: int(row["up"]) === 1,
      lastUpMs: msOrNone(row, "up_ms"), lastDownMs: msOrNone(row, "down_ms")
    }
  }
}

const remoteCharsMax = 256

const msOrNone = (row: Row, column: string): number | undefined => (row[column] === null ? undefined : int(row[column]))
