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
import type { IngestedEvent } from "../events/ingest.ts"
import type { DocId, LoggedChange } from "./documents/types.ts"
import type { DocumentWorker } from "./documents/pool.ts"
import { parseDocId } from "./families/doc-id.ts"
import { type Taken, type Tick, TickReader, type TickReaderOptions } from "./tick-reader.ts"

/** Pause before a failed tick is tried again, milliseconds. */
export const retryMs = 1_000

export interface FoldNotice {
  /** Arrival numbers of the new events. */
  readonly first: number
  readonly last: number
  readonly documents: ReadonlyArray<DocId>
  readonly operations: boolean
}

export interface RunnerOptions extends TickReaderOptions {
  readonly worker: DocumentWorker["Service"]
  readonly observe: (stamp: Stamp) => void
  /** For the local record of when something was quarantined; nothing that is folded depends on it. */
  readonly now: () => number
}

export class Runner {
  readonly #options: RunnerOptions
  readonly #reader: TickReader
  readonly #waiters = new Map<string, Array<{ readonly length: number; readonly done: () => void }>>()
  readonly #listeners = new Set<(notice: FoldNotice) => void>()
  readonly #idleWaiters: Array<() => void> = []
  #running = false
  #stopped = false
  #fault: string | undefined

  constructor(options: RunnerOptions) {
    this.#options = options
    this.#reader = new TickReader(options)
  }

  /** Looks at this log again, or at every log that is known. */
  wake(log?: string): void {
    if (this.#stopped) return
    if (log !== undefined) this.#reader.look(log)
    else this.#reader.lookAtAll()
    if (!this.#running) void this.#run()
  }

  /** Why nothing is folded at the moment; undefined when all is well. */
  get fault(): string | undefined {
    return this.#fault
  }

  /** Blocks that are held and not folded yet. */
  behind(): number {
    return this.#reader.behind()
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
    if (!this.#running && !this.#reader.wanted) return Promise.resolve()
    return new Promise((done) => this.#idleWaiters.push(done))
  }

  /** Everything is folded from the beginning after `clear` has emptied the tables; no tick is under way meanwhile. */
  async again(clear: () => void): Promise<void> {
    await this.idle()
    this.#reader.reset()
    clear()
    this.wake()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#reader.rest()
    while (this.#running) await new Promise((resolve) => setTimeout(resolve, 5))
    await this.#reader.close()
  }

  /** Closes the reading sessions; they are opened again when needed. */
  forgetLogs(): Promise<void> {
    return this.#reader.close()
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
          // The tick after it was taken as well; neither is folded now, so both are taken again.
          this.#reader.reset()
          await this.#heldUp(cause)
          tick = await this.#next()
        }
      }
    } finally {
      this.#running = false
      // A wake that came between the last look and here would be lost otherwise.
      if (this.#reader.wanted && !this.#stopped) void this.#run()
      else for (const done of this.#idleWaiters.splice(0)) done()
    }
  }

  /** The next tick; what keeps it from being taken is waited out. */
  async #next(): Promise<Tick | undefined> {
    while (!this.#stopped) {
      try {
        return await this.#reader.take()
      } catch (cause) {
        await this.#heldUp(cause)
      }
    }
    return undefined
  }

  /** A pause, and every log is looked at again. */
  async #heldUp(cause: unknown): Promise<void> {
    this.#fault = cause instanceof Error ? cause.message : String(cause)
    this.#options.notice("warn", `folding is held up: ${this.#fault}`)
    await new Promise((resolve) => setTimeout(resolve, retryMs))
    this.#reader.lookAtAll()
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
        faults.push({ log: change.log, block: change.block, offset: change.offset, device: this.#reader.device(change.log) ?? "", why: verdict.why })
      })
    }
    const late = answers.flatMap((answer) => "stalled" in answer ? [] : answer.released).flatMap(({ log, block, offset, verdict }) =>
      verdict._tag === "Refused" ? [{ log, block, offset, device: this.#reader.device(log) ?? "", why: verdict.why }] : [])
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
            tables.folds.get(event.envelope.type)?.({ log, block, offset, device, envelope: event.envelope, body: event.body })
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
      this.#reader.lookAtAll()
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
