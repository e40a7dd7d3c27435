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
 * - *A log has a cut-off* (its device was revoked, may write no more, or closed it): placing.ts says what counts beyond it.
 * - *A cut-off appears, moves or goes*: before the next tick, what stands on the old one is made good (rebuild.ts). A tick is folded with the cut-offs
 *   that the tables stand for, whatever membership says meanwhile. Whoever waits for a fold waits for the rebuild too.
 * - *A key comes late*: the same, for the blocks that were sealed.
 * - *Operations in a log name further logs*: these are woken after the tick. What an operation is worth may change later: nothing here depends on it.
 */
import { Effect } from "effect"
import type { Stamp } from "../codec/clock.ts"
import type { DocId } from "./documents/types.ts"
import type { DocumentWorker } from "./documents/pool.ts"
import { BlockFolder, type BlockFolderOptions } from "./fold-blocks.ts"
import { judged } from "./placing.ts"
import { Rebuild } from "./rebuild.ts"
import type { Quarantined } from "./tables/quarantine.ts"
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

export interface RunnerOptions extends TickReaderOptions, BlockFolderOptions {
  readonly worker: DocumentWorker["Service"]
  readonly observe: (stamp: Stamp) => void
}

export class Runner {
  readonly #options: RunnerOptions
  readonly #reader: TickReader
  readonly #folder: BlockFolder
  readonly #rebuild: Rebuild
  readonly #unlisten: () => void
  readonly #waiters = new Map<string, Array<{ readonly length: number; readonly done: () => void }>>()
  readonly #listeners = new Set<(notice: FoldNotice) => void>()
  readonly #idleWaiters: Array<() => void> = []
  readonly #steadyWaiters: Array<() => void> = []
  #running = false
  #stopped = false
  #fault: string | undefined
  /** While everything is folded from the beginning. */
  #again: Promise<void> | undefined

  constructor(options: RunnerOptions) {
    this.#options = options
    this.#reader = new TickReader(options)
    this.#folder = new BlockFolder(options)
    this.#rebuild = new Rebuild({ ...options, reader: this.#reader, keys: (epoch) => options.keyring().keys(epoch), observe: (blocks) => this.#observe(blocks) })
    this.#unlisten = options.members.onChange(() => this.#look())
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

  /** Resolves when the log is folded up to this length and the tables agree with membership. */
  folded(log: string, length: number): Promise<void> {
    if (this.#options.tables.cursors.folded(log) >= length && !this.#rebuild.pending) return Promise.resolve()
    return new Promise((done) => {
      const list = this.#waiters.get(log)
      if (list === undefined) this.#waiters.set(log, [{ length, done }])
      else list.push({ length, done })
      this.wake(log)
    })
  }

  /** Resolves when nothing is left to fold. */
  idle(): Promise<void> {
    if (!this.#running && !this.#reader.wanted && !this.#rebuild.pending) return Promise.resolve()
    return new Promise((done) => {
      this.#idleWaiters.push(done)
      if (!this.#running && !this.#stopped) void this.#run()
    })
  }

  /** Resolves when the tables agree with membership and hold what they did: no document stands on an old cut-off, or is half folded again. At once, nearly always. */
  async steady(): Promise<void> {
    await this.#again
    if (!this.#rebuild.pending || this.#stopped) return
    return new Promise((done) => {
      this.#steadyWaiters.push(done)
      this.#look()
    })
  }

  /** Keys of these epochs came: what was sealed under them is folded. No work when nothing was. */
  keysChanged(epochs: Iterable<number>): void {
    if (this.#rebuild.keysCame(epochs)) this.#look()
  }

  /** Everything is folded from the beginning after `clear` has emptied the tables; no tick is under way meanwhile. Resolves when it is done. */
  async again(clear: () => void): Promise<void> {
    const work = async (): Promise<void> => {
      await this.idle()
      this.#reader.reset()
      this.#rebuild.forget()
      clear()
      this.wake()
      await this.idle()
    }
    const done = work()
    this.#again = done.catch(() => undefined)
    try {
      await done
    } finally {
      this.#again = undefined
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#unlisten()
    this.#reader.rest()
    while (this.#running) await new Promise((resolve) => setTimeout(resolve, 5))
    await this.#reader.close()
  }

  /** Closes the reading sessions; they are opened again when needed. */
  forgetLogs(): Promise<void> {
    return this.#reader.close()
  }

  /** Begins when there is something to make good. */
  #look(): void {
    if (!this.#stopped && !this.#running && this.#rebuild.pending) void this.#run()
  }

  async #run(): Promise<void> {
    this.#running = true
    try {
      let tick: Tick | undefined
      while (!this.#stopped) {
        if (await this.#makeGood()) {
          // Cursors may stand elsewhere now: what was read ahead is read again.
          this.#reader.reset()
          tick = undefined
        }
        tick ??= await this.#next()
        if (tick === undefined) {
          if (this.#rebuild.pending && !this.#stopped) continue
          break
        }
        // The next tick is read and opened here while the worker is busy with this one.
        const folding = this.#fold(tick)
        folding.catch(() => undefined)
        const following = await this.#next()
        try {
          await folding
          this.#fault = undefined
          tick = following
        } catch (cause) {
          // The tick after it was taken as well; neither is folded now, so both are taken again.
          this.#reader.reset()
          await this.#heldUp(cause)
          tick = undefined
        }
      }
    } finally {
      this.#running = false
      // A wake that came between the last look and here would be lost otherwise.
      if (!this.#stopped && (this.#reader.wanted || this.#rebuild.pending)) void this.#run()
      else for (const done of [...this.#idleWaiters.splice(0), ...this.#steadyWaiters.splice(0)]) done()
    }
  }

  /** Brings the tables to agree with membership, portion by portion; what keeps it from that is waited out. True when there was anything to do. */
  async #makeGood(): Promise<boolean> {
    let worked = false
    while (!this.#stopped && this.#rebuild.pending) {
      worked = true
      try {
        this.#rebuild.note()
        for (let notice = await this.#rebuild.step(); notice !== undefined && !this.#stopped; notice = await this.#rebuild.step()) this.#tell(notice)
        this.#fault = undefined
      } catch (cause) {
        await this.#heldUp(cause)
      }
    }
    if (worked) this.#answer()
    return worked
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
    const { tables, members, worker, notice, now, ownDevice } = this.#options
    const sorted = this.#folder.sort(tick.blocks)
    const { changes, reasons } = sorted
    const batch = [...changes].map(([doc, list]) => ({ doc, changes: list }))
    // An own edit is in the worker's document before it is in the log; when a cut-off has come in between it must not stay there.
    for (const { doc, changes: list } of batch) {
      if (list.some(({ log, block, cut = Infinity }) => block >= cut && this.#reader.device(log) === ownDevice)) await Effect.runPromise(worker.discard(doc))
    }
    const answers = batch.length === 0 ? [] : await Effect.runPromise(worker.apply(batch, (doc) => tables.documents.load(doc)))
    const verdicts = new Map(answers.flatMap((answer) => (changes.get(answer.doc) ?? []).map((change, i) =>
      [change, judged(change, "stalled" in answer ? undefined : answer.verdicts[i], reasons)] as const)))
    const late = answers.flatMap((answer) => "stalled" in answer ? [] : answer.released)
    const evidence = members.evidenceVersion()
    let written
    try {
      written = tables.transaction(() => {
        const done = this.#folder.write(sorted, (change) => verdicts.get(change))
        for (const answer of answers) {
          // Refused ones too: what builds on them is refused after a reload as well.
          tables.documents.append(answer.doc, changes.get(answer.doc) ?? [])
          if ("stalled" in answer) tables.documents.stall(answer.doc, answer.stalled)
          else tables.documents.putState(answer.doc, answer.state)
        }
        const ms = now()
        for (const { log, block, offset, verdict } of late) {
          const cut = tables.cutoffs.of(log).docsTo
          if (verdict._tag !== "Refused" && block < cut) continue
          const { status, why } = judged({ log, block, offset, ms, change: nothing, cut }, verdict, reasons)
          tables.events.setStatus({ log, block, offset }, status)
          if (why === undefined) tables.quarantine.release(log, block, offset)
          else tables.quarantine.add({ log, block, offset, device: this.#reader.device(log) ?? "", why, ms })
        }
        for (const [log, length] of tick.cursors) tables.cursors.advance(log, length)
        return done
      })
    } catch (cause) {
      for (const { doc } of batch) await Effect.runPromise(worker.discard(doc))
      throw cause
    }
    for (const answer of answers) if ("stalled" in answer) notice("warn", `document ${answer.doc} stalls: ${answer.stalled}`)
    this.#warn(written.faults)
    this.#observe(tick.blocks)
    if (written.operations > 0 || members.evidenceVersion() !== evidence) {
      members.changed()
      this.#reader.lookAtAll()
    }
    this.#answer()
    this.#tell({ first: written.first, last: written.last, documents: [...changes.keys()], operations: written.operations > 0 })
  }

  /** One line for each log and reason: a device that writes on beyond its cut-off must not fill the records of others. */
  #warn(faults: ReadonlyArray<Quarantined>): void {
    const groups = new Map<string, { readonly first: Quarantined; count: number }>()
    for (const fault of faults) {
      const group = groups.get(`${fault.log} ${fault.why}`)
      if (group === undefined) groups.set(`${fault.log} ${fault.why}`, { first: fault, count: 1 })
      else group.count++
    }
    for (const { first: { log, block, offset, why, device }, count } of groups.values()) {
      const place = `${log.slice(0, 8)}/${block}${offset === undefined ? "" : `.${offset}`}`
      this.#options.notice("warn", `quarantined ${place}${count === 1 ? "" : ` and ${count - 1} more`}: ${why}`, { device })
    }
  }

  #tell(notice: FoldNotice): void {
    for (const listener of this.#listeners) listener(notice)
  }

  #observe(blocks: ReadonlyArray<Taken>): void {
    const own = this.#options.ownLog().log
    let newest: Stamp | undefined
    for (const { log, events } of blocks) {
      if (log === own) continue
      for (const { envelope: { at } } of events) if (newest === undefined || at.ms > newest.ms || (at.ms === newest.ms && at.count > newest.count)) newest = at
    }
    if (newest !== undefined) this.#options.observe(newest)
  }

  /** Those who wait are told how far it is; not before the tables agree with membership. */
  #answer(): void {
    if (this.#rebuild.pending) return
    for (const done of this.#steadyWaiters.splice(0)) done()
    for (const [log, waiting] of this.#waiters) {
      const length = this.#options.tables.cursors.folded(log)
      const left = waiting.filter((waiter) => waiter.length > length)
      if (left.length === 0) this.#waiters.delete(log)
      else this.#waiters.set(log, left)
      for (const waiter of waiting) if (waiter.length <= length) waiter.done()
    }
  }
}

const nothing = new Uint8Array(0)
