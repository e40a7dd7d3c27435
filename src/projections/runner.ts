/**
 * The runner: the one fold, for own and remote events alike. Design section 2 (the life of a remote event) and section 4.
 *
 * **What it owns.** The way from blocks on this disk to rows, documents and membership; the cursors that say how far it is; the notice
 * that something changed.
 *
 * **How one block travels.** `wake(log)` says that a log may have grown. A tick takes blocks after the cursors (bounded in blocks and
 * events), opens them (`ingest`), sorts what they hold, applies document changes in the worker in bulk, and then writes rows, changes,
 * states and cursors in one transaction. Only then are `folded` waiters answered and listeners told.
 *
 * **Invariants.** An event is folded once: cursor and rows stand in the same transaction. A fold uses no clock, no chance, no network.
 * What cannot be folded is kept with its address and the reason, and never holds up what comes after it.
 *
 * **Tricky cases.**
 * - *The transaction fails* (disk full): the worker is ahead of the tables, so it forgets the documents of this tick; the same tick is tried
 *   again after a pause.
 * - *A block that was held is gone* (power cut on a replica): the recorded length is corrected down, and it is fetched again.
 * - *A document stalls* (its changes end the worker): its changes are kept, it is shown as stalled, everything else goes on.
 * - *A log was closed and succeeded*: blocks from that length on are not this log's; they are quarantined.
 * - *Operations in a log name further logs*: these are woken after the tick.
 */
import { Effect, Result } from "effect"
import type { Stamp } from "../codec/clock.ts"
import { documentTypes, operationTypes } from "../events/catalogue.ts"
import { ingestBlock, type IngestedEvent } from "../events/ingest.ts"
import type { HeldLog } from "../events/log-store.ts"
import type { Keyring } from "../vault/keyring.ts"
import type { DocId, LoggedChange } from "./documents/types.ts"
import type { DocumentWorker } from "./documents/pool.ts"
import { parseDocId } from "./families/doc-id.ts"
import type { Members } from "./members.ts"
import type { Tables } from "./tables/tables.ts"

/** Blocks read from one log in one go, at most, and at least where it has that many: opening a log costs as much as reading a few blocks. */
export const windowBlocksMax = 128
const windowBlocksMin = 32
/**
 * Blocks, events and bytes of blocks folded in one tick. Large ticks are cheap: Automerge takes a document's changes at 20 µs each when they come
 * together and at 70 µs in portions of 25, and states are kept once. What bounds a tick is memory, about 1 KiB for each event.
 */
export const tickBlocksMax = 2_048
export const tickEventsMax = 16_384
export const tickBytesMax = 8 * 1024 * 1024
/** Logs kept open for reading. */
export const openLogsMax = 64
/** Pause before a failed tick is tried again, milliseconds. */
export const retryMs = 1_000
/** Changes after which a document is saved anew. */
export const snapshotChangesMax = 256

export interface FoldNotice {
  /** Arrival numbers of the new events. */
  readonly first: number
  readonly last: number
  readonly documents: ReadonlyArray<DocId>
  readonly operations: boolean
}

export interface RunnerOptions {
  readonly tables: Tables
  readonly members: Members
  readonly worker: DocumentWorker["Service"]
  readonly keyring: () => Keyring
  readonly open: (log: string) => Promise<HeldLog & { close(): Promise<void> }>
  readonly observe: (stamp: Stamp) => void
  readonly ownDevice: string
  /** The log that this node writes now, and how long it is. */
  readonly ownLog: () => { readonly log: string; readonly length: number }
  /** For the local record of when something was quarantined; nothing that is folded depends on it. */
  readonly now: () => number
  readonly notice: (level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
}

interface Taken {
  readonly log: string
  readonly device: string
  readonly block: number
  readonly epoch: number
  readonly events: ReadonlyArray<IngestedEvent>
  /** Set when the block as a whole is not folded. */
  readonly why: string | undefined
}

interface Tick {
  readonly blocks: ReadonlyArray<Taken>
  readonly cursors: ReadonlyMap<string, number>
}

export class Runner {
  readonly #options: RunnerOptions
  readonly #pending = new Set<string>()
  readonly #open = new Map<string, HeldLog & { close(): Promise<void> }>()
  /** Where the next tick begins, ahead of the cursors while a tick is being folded. */
  readonly #taken = new Map<string, number>()
  readonly #waiters = new Map<string, Array<{ readonly length: number; readonly done: () => void }>>()
  readonly #listeners = new Set<(notice: FoldNotice) => void>()
  readonly #idleWaiters: Array<() => void> = []
  #running = false
  #stopped = false
  #fault: string | undefined

  constructor(options: RunnerOptions) {
    this.#options = options
  }

  /** Looks at this log again, or at every log that is known. */
  wake(log?: string): void {
    if (this.#stopped) return
    if (log !== undefined) this.#pending.add(log)
    else for (const known of this.#knownLogs()) this.#pending.add(known)
    if (!this.#running) void this.#run()
  }

  /** Why nothing is folded at the moment; undefined when all is well. */
  get fault(): string | undefined {
    return this.#fault
  }

  /** Blocks that are held and not folded yet. */
  behind(): number {
    let sum = 0
    for (const log of this.#knownLogs()) sum += Math.max(0, this.#length(log) - this.#options.tables.cursors.folded(log))
    return sum
  }

  onFold(listener: (notice: FoldNotice) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Resolves when the log is folded up to this length. */
  folded(log: string, length: number): Promise<void> {
    if (this.#options.tables.cursors.folded(log) >= length) return Promise.resolve()
    return new Promise((done) => {
      const list = this.#waiters.get(log)
      if (list === undefined) this.#waiters.set(log, [{ length, done }])
      else list.push({ length, done })
      this.wake(log)
    })
  }

  /** Resolves when nothing is left to fold. */
  idle(): Promise<void> {
    if (!this.#running && this.#pending.size === 0) return Promise.resolve()
    return new Promise((done) => this.#idleWaiters.push(done))
  }

  /** Everything is folded from the beginning after `clear` has emptied the tables; no tick is under way meanwhile. */
  async again(clear: () => void): Promise<void> {
    await this.idle()
    this.#taken.clear()
    clear()
    this.wake()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#pending.clear()
    while (this.#running) await new Promise((resolve) => setTimeout(resolve, 5))
    await this.forgetLogs()
  }

  /** Closes the reading sessions; they are opened again when needed. */
  async forgetLogs(): Promise<void> {
    const open = [...this.#open.values()]
    this.#open.clear()
    for (const held of open) await held.close().catch(() => undefined)
  }

  async #run(): Promise<void> {
    this.#running = true
    try {
      let tick = await this.#next()
      while (tick !== undefined && !this.#stopped) {
        // The next tick is read and opened here while the worker is busy with this one.
        const folding = this.#fold(tick)
        folding.catch(() => undefined)
        const following = await this.#next()
        try {
          await folding
          this.#fault = undefined
          tick = following ?? await this.#next()
        } catch (cause) {
          await this.#heldUp(cause)
          tick = await this.#next()
        }
      }
    } finally {
      this.#running = false
      // A wake that came between the last look and here would be lost otherwise.
      if (this.#pending.size > 0 && !this.#stopped) void this.#run()
      else for (const done of this.#idleWaiters.splice(0)) done()
    }
  }

  /** The next tick; what keeps it from being taken is waited out. */
  async #next(): Promise<Tick | undefined> {
    while (!this.#stopped) {
      try {
        return await this.#take()
      } catch (cause) {
        await this.#heldUp(cause)
      }
    }
    return undefined
  }

  /** A pause, and everything that is not folded is taken again. */
  async #heldUp(cause: unknown): Promise<void> {
    this.#fault = cause instanceof Error ? cause.message : String(cause)
    this.#options.notice("warn", `folding is held up: ${this.#fault}`)
    this.#taken.clear()
    await new Promise((resolve) => setTimeout(resolve, retryMs))
    for (const log of this.#knownLogs()) this.#pending.add(log)
  }

  #knownLogs(): ReadonlyArray<string> {
    const own = this.#options.ownLog().log
    const logs = this.#options.members.logs().map(({ log }) => log)
    return logs.includes(own) ? logs : [own, ...logs]
  }

  #length(log: string): number {
    const own = this.#options.ownLog()
    return log === own.log ? own.length : (this.#options.tables.heads.get(log)?.length ?? 0)
  }

  #device(log: string): string | undefined {
    return log === this.#options.ownLog().log ? this.#options.ownDevice : this.#options.members.deviceOf(log)
  }

  /**
   * The blocks of one tick; undefined when no log has any. Logs take turns, each in portions of its part of what is left: changes that build on each
   * other stand in several logs, and when one log runs ahead they wait for the others in memory.
   */
  async #take(): Promise<Tick | undefined> {
    const blocks: Array<Taken> = []
    const cursors = new Map<string, number>()
    let events = 0
    let bytesTaken = 0
    const full = (): boolean => events >= tickEventsMax || blocks.length >= tickBlocksMax || bytesTaken >= tickBytesMax
    const backlog = this.#backlog()
    let left = 0
    for (const { blocks: count } of backlog) left += count
    const rounds = Math.max(1, Math.ceil(Math.min(left, tickBlocksMax) / windowBlocksMax))
    for (let round = 0; round < rounds && !full(); round++) {
      for (const { log, device, blocks: count } of backlog) {
        if (full()) break
        const from = this.#from(log)
        const share = Math.max(windowBlocksMin, Math.ceil(count * Math.min(1, tickBlocksMax / left) / rounds))
        const to = Math.min(this.#length(log), from + share, from + windowBlocksMax)
        if (from >= to || !this.#pending.has(log)) continue
        const read = await this.#read(log, from, to)
        for (const { block, bytes } of read) {
          const taken = this.#ingest(log, device, block, bytes)
          blocks.push(taken)
          events += taken.events.length
          bytesTaken += bytes.byteLength
          cursors.set(log, block + 1)
          this.#taken.set(log, block + 1)
          if (full()) break
        }
        if (read.length === 0) this.#pending.delete(log)
      }
    }
    return blocks.length === 0 ? undefined : { blocks, cursors }
  }

  /** Pending logs that hold more than was taken; the others are pending no longer. */
  #backlog(): ReadonlyArray<{ readonly log: string; readonly device: string; readonly blocks: number }> {
    const found: Array<{ readonly log: string; readonly device: string; readonly blocks: number }> = []
    for (const log of [...this.#pending]) {
      const device = this.#device(log)
      const blocks = this.#length(log) - this.#from(log)
      if (device === undefined || blocks <= 0) this.#pending.delete(log)
      else found.push({ log, device, blocks })
    }
    return found
  }

  /** The first block that is not taken. */
  #from(log: string): number {
    return Math.max(this.#taken.get(log) ?? 0, this.#options.tables.cursors.folded(log))
  }

  async #read(log: string, from: number, to: number): Promise<ReadonlyArray<{ readonly block: number; readonly bytes: Uint8Array }>> {
    const held = await this.#reader(log)
    const wanted = Array.from({ length: to - from }, (_, i) => from + i)
    const read = await Promise.all(wanted.map((block) => held.get(block).then((bytes) => ({ block, bytes }), () => undefined)))
    const gap = read.findIndex((entry) => entry === undefined)
    if (gap >= 0) {
      const length = from + gap
      this.#options.notice("warn", `log ${log.slice(0, 8)} was recorded with more blocks than it holds; fetching them again`, { length })
      if (log !== this.#options.ownLog().log) this.#options.tables.heads.correct(log, length)
    }
    return read.slice(0, gap < 0 ? read.length : gap).filter((entry) => entry !== undefined)
  }

  async #reader(log: string): Promise<HeldLog> {
    const open = this.#open.get(log)
    if (open !== undefined) {
      this.#open.delete(log)
      this.#open.set(log, open)
      return open
    }
    const held = await this.#options.open(log)
    this.#open.set(log, held)
    if (this.#open.size > openLogsMax) {
      const [oldest, reader] = this.#open.entries().next().value ?? []
      if (oldest !== undefined) this.#open.delete(oldest)
      await reader?.close().catch(() => undefined)
    }
    return held
  }

  #ingest(log: string, device: string, block: number, bytes: Uint8Array): Taken {
    const ingested = ingestBlock(bytes, { log, block }, this.#options.keyring())
    if (ingested._tag === "Opened") return { log, device, block, epoch: ingested.epoch, events: ingested.events, why: undefined }
    const why = ingested._tag === "Sealed" ? `the key of epoch ${ingested.epoch} is not held here` : ingested.why
    return { log, device, block, epoch: 0, events: [], why }
  }

  async #fold(tick: Tick): Promise<void> {
    const { tables, members, worker } = this.#options
    const changes = new Map<DocId, Array<LoggedChange>>()
    const faults: Array<{ readonly log: string; readonly block: number; readonly offset: number | undefined; readonly device: string; readonly why: string }> = []
    const closed = new Map(members.logs().map(({ log, closedAt }) => [log, closedAt]))
    const blocks = tick.blocks.map((taken): Taken => {
      const limit = closed.get(taken.log)
      return limit === undefined || taken.block < limit ? taken : { ...taken, events: [], why: `the log was closed at ${limit} blocks` }
    })
    for (const { log, device, block, events, why } of blocks) {
      if (why !== undefined) faults.push({ log, block, offset: undefined, device, why })
      events.forEach((event, offset) => {
        if (event._tag === "Quarantined") faults.push({ log, block, offset, device, why: event.why })
        if (event._tag !== "Known" || !documentTypes.has(event.envelope.type)) return
        const fault = documentFault(event.envelope.type, event.envelope.subject)
        if (fault !== undefined) return void faults.push({ log, block, offset, device, why: fault })
        const change: LoggedChange = { log, block, offset, ms: event.envelope.at.ms, change: changeOf(event.body) }
        const list = changes.get(event.envelope.subject)
        if (list === undefined) changes.set(event.envelope.subject, [change])
        else list.push(change)
      })
    }
    const batch = [...changes].map(([doc, list]) => ({ doc, changes: list }))
    const answers = batch.length === 0 ? [] : await Effect.runPromise(worker.apply(batch, (doc) => tables.documents.load(doc)))
    let first = 0
    let last = 0
    let operations = 0
    for (const answer of answers) {
      if ("stalled" in answer) continue
      const list = changes.get(answer.doc) ?? []
      answer.verdicts.forEach((verdict, i) => {
        const change = list[i]
        if (verdict._tag !== "Refused" || change === undefined) return
        faults.push({ log: change.log, block: change.block, offset: change.offset, device: this.#device(change.log) ?? "", why: verdict.why })
      })
    }
    const late = answers.flatMap((answer) => "stalled" in answer ? [] : answer.released).flatMap(({ log, block, offset, verdict }) =>
      verdict._tag === "Refused" ? [{ log, block, offset, device: this.#device(log) ?? "", why: verdict.why }] : [])
    const wrong = new Set(faults.map((fault) => `${fault.log}/${fault.block}.${fault.offset ?? -1}`))
    try {
      tables.transaction(() => {
        const rows = blocks.flatMap(({ log, block, events, device }) => events.map((event, offset) => ({
          log, block, offset, type: event.envelope.type, ms: event.envelope.at.ms, count: event.envelope.at.count, actor: event.envelope.actor,
          subject: event.envelope.subject, status: statusOf(event, wrong.has(`${log}/${block}.${offset}`)),
          // Of earlier logs of this node too: a rebuild must know what was answered before a log was succeeded.
          ...(device === this.#options.ownDevice && event.envelope.command !== "" ? { command: event.envelope.command } : {})
        })))
        const arrivals = tables.events.add(rows)
        first = arrivals[0] ?? 0
        last = arrivals.at(-1) ?? 0
        for (const { log, block, device, events } of blocks) {
          events.forEach((event, offset) => {
            if (event._tag !== "Known") return
            if (operationTypes.has(event.envelope.type)) {
              const taken = members.take(operationOf(event.body), "log", { log, block, offset })
              if (Result.isFailure(taken)) {
                faults.push({ log, block, offset, device, why: taken.failure })
                tables.events.setStatus({ log, block, offset }, "quarantined")
              } else operations++
            }
            if (event.envelope.type === "checkpoint.made/1") tables.witnesses.add(device, event.body)
          })
        }
        for (const answer of answers) {
          const list = changes.get(answer.doc) ?? []
          const kept = "stalled" in answer ? list : list.filter((_, i) => answer.verdicts[i]?._tag !== "Refused")
          tables.documents.append(answer.doc, kept)
          if ("stalled" in answer) {
            tables.documents.stall(answer.doc, answer.stalled)
            continue
          }
          tables.documents.putState(answer.doc, answer.state)
        }
        const ms = this.#options.now()
        for (const fault of [...faults, ...late]) tables.quarantine.add({ ...fault, ms })
        for (const place of late) tables.events.setStatus(place, "quarantined")
        for (const [log, length] of tick.cursors) tables.cursors.advance(log, length)
      })
    } catch (cause) {
      for (const { doc } of batch) await Effect.runPromise(worker.discard(doc))
      throw cause
    }
    for (const answer of answers) if ("stalled" in answer) this.#options.notice("warn", `document ${answer.doc} stalls: ${answer.stalled}`)
    for (const fault of faults) this.#options.notice("warn", `quarantined ${fault.log.slice(0, 8)}/${fault.block}${fault.offset === undefined ? "" : `.${fault.offset}`}: ${fault.why}`, { device: fault.device })
    this.#observe(tick)
    if (operations > 0) {
      members.changed()
      for (const log of this.#knownLogs()) this.#pending.add(log)
    }
    this.#answer(tick.cursors)
    const notice: FoldNotice = { first, last, documents: [...changes.keys()], operations: operations > 0 }
    for (const listener of this.#listeners) listener(notice)
  }

  #observe(tick: Tick): void {
    const own = this.#options.ownLog().log
    let newest: Stamp | undefined
    for (const { log, events } of tick.blocks) {
      if (log === own) continue
      for (const { envelope: { at } } of events) if (newest === undefined || at.ms > newest.ms || (at.ms === newest.ms && at.count > newest.count)) newest = at
    }
    if (newest !== undefined) this.#options.observe(newest)
  }

  #answer(cursors: ReadonlyMap<string, number>): void {
    for (const [log, length] of cursors) {
      const waiting = this.#waiters.get(log)
      if (waiting === undefined) continue
      const left = waiting.filter((waiter) => waiter.length > length)
      if (left.length === 0) this.#waiters.delete(log)
      else this.#waiters.set(log, left)
      for (const waiter of waiting) if (waiter.length <= length) waiter.done()
    }
  }
}

const statusOf = (event: IngestedEvent, wrong: boolean): "known" | "unknown" | "quarantined" =>
  wrong || event._tag === "Quarantined" ? "quarantined" : event._tag === "Unknown" ? "unknown" : "known"

/** The subject must be a document of the family that the event's type speaks of. */
const documentFault = (type: string, subject: string): string | undefined => {
  const parsed = parseDocId(subject)
  if ("why" in parsed) return parsed.why
  return type.startsWith(`${parsed.value.family}.`) ? undefined : `${type} cannot change ${subject}`
}

const changeOf = (body: unknown): Uint8Array =>
  typeof body === "object" && body !== null && "change" in body && body.change instanceof Uint8Array ? body.change : new Uint8Array(0)

const operationOf = (body: unknown): Uint8Array =>
  typeof body === "object" && body !== null && "operation" in body && body.operation instanceof Uint8Array ? body.operation : new Uint8Array(0)
