/**
 * Rebuild: what was folded is made to agree with cut-offs that appeared, moved or went, and with keys that came late. Design section 4.7.
 *
 * **What it owns.** The difference between the cut-offs that membership says and those that the tables stand for (tables/cutoffs.ts), and the
 * way from one to the other. It runs in the runner's turn: no tick is under way meanwhile.
 *
 * **How a change of membership travels.** `note` compares. In one transaction the tables take the new cut-offs and note which folded blocks and
 * documents stand on the old ones. `step` then makes good one portion at a time, each in a transaction of its own:
 * - *blocks* are read from the log again: their rows in addressed tables are taken out and made anew, their events change status;
 * - *documents* are built again from their last save when that one knows nothing of the events in question, else from nothing out of the events
 *   of their subject, in the order in which these arrived here. Until the new state is stored, in the worker's same turn, everybody sees the old one.
 *
 * **Invariants.** After the last step all tables are what folding everything from nothing would make of it, but for arrival numbers. Events
 * keep theirs. Portions are bounded. A rebuild that is cut short goes on from the notes.
 *
 * **Tricky cases.**
 * - *Membership changes again meanwhile*: the notes are widened; what was made good with the old cut-off is noted anew.
 * - *Blocks whose key came*: their events get new rows, and their documents are built anew, since the gate takes each log in its own order.
 * - *A log is nobody's any more* (the admission of its device does not count after all): all that came of it is taken out, as if it had never been read.
 * - *A block is not on this disk any more*: nothing can be built without it. All tables are emptied and everything that is held is folded
 *   again; the block is fetched again.
 */
import { Effect } from "effect"
import { documentTypes } from "../events/catalogue.ts"
import type { FoldNotice } from "./runner.ts"
import { BlockFolder, type BlockFolderOptions } from "./fold-blocks.ts"
import type { Applied, DocumentWorker } from "./documents/pool.ts"
import type { DocId, LoggedChange, StoredDocument, Verdict } from "./documents/types.ts"
import { cutoffsOf, judged, Reasons } from "./placing.ts"
import { type Cutoff, noCutoff } from "./tables/cutoffs.ts"
import type { IndexedChange } from "./tables/event-index.ts"
import { BlockLost, type Taken, type TickReader } from "./tick-reader.ts"

/** Blocks folded again in one transaction. */
export const portionBlocksMax = 256
/** Documents, and events of documents, built anew in one transaction; one document at least, however large. */
export const portionDocumentsMax = 64
export const portionEventsMax = 8_192

export interface RebuildOptions extends BlockFolderOptions {
  readonly worker: DocumentWorker["Service"]
  readonly reader: TickReader
  readonly ownLog: () => { readonly log: string }
  readonly keys: (epoch: number) => ReadonlyArray<Uint8Array>
  readonly notice: (level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
  readonly observe: (blocks: ReadonlyArray<Taken>) => void
}

/** One document to be built anew: on what is stored, or from nothing. */
interface Work {
  readonly doc: DocId
  readonly whole: boolean
  readonly rows: ReadonlyArray<IndexedChange>
  readonly stored: StoredDocument
  readonly changes: ReadonlyArray<LoggedChange>
}

const nothing: StoredDocument = { snapshot: undefined, gate: undefined, changes: [] }

interface Difference {
  readonly log: string
  readonly was: Cutoff
  readonly now: Cutoff
  /** It belongs to nobody. */
  readonly gone: boolean
}

export class Rebuild {
  readonly #options: RebuildOptions
  readonly #folder: BlockFolder
  /** Logs as membership said them when the tables agreed. */
  #agreed: unknown
  readonly #keys = new Set<number>()
  #started = false

  constructor(options: RebuildOptions) {
    this.#options = options
    this.#folder = new BlockFolder(options)
  }

  /** Whether the tables do not agree with membership, or are being made to. */
  get pending(): boolean {
    if (this.#keys.size > 0 || this.#options.tables.cutoffs.pending) return true
    const logs = this.#options.members.logs()
    if (logs === this.#agreed) return false
    if (this.#differences().length > 0) return true
    this.#agreed = logs
    return false
  }

  /** Keys of these epochs came; true when blocks are sealed under one of them. */
  keysCame(epochs: Iterable<number>): boolean {
    const sealed = this.#options.tables.sealed.byEpoch()
    for (const epoch of epochs) if (sealed.has(epoch)) this.#keys.add(epoch)
    return this.#keys.size > 0
  }

  /** The tables were emptied. */
  forget(): void {
    this.#agreed = undefined
  }

  /** Takes the cut-offs of membership, and notes what is to be folded again. */
  note(): void {
    const { tables, members, keys } = this.#options
    if (!this.#started) {
      this.#started = true
      // Keys may have come just before the last run ended.
      this.keysCame([...tables.sealed.byEpoch().keys()].filter((epoch) => keys(epoch).length > 0))
    }
    const logs = members.logs()
    if (logs !== this.#agreed || this.#keys.size > 0) {
      const differences = logs === this.#agreed ? [] : this.#differences()
      if (differences.length > 0 || this.#keys.size > 0) {
        tables.transaction(() => {
          for (const difference of differences) this.#noteOne(difference)
          for (const epoch of this.#keys) for (const range of tables.sealed.ranges(epoch)) tables.cutoffs.noteBlocks(range)
        })
      }
      for (const { log, gone } of differences) if (gone) this.#options.reader.forget(log)
      this.#agreed = logs
      this.#keys.clear()
    }
  }

  /** Makes one portion good; undefined when nothing is left. */
  async step(): Promise<FoldNotice | undefined> {
    const { tables } = this.#options
    if (!tables.cutoffs.pending) return undefined
    try {
      const range = tables.cutoffs.blocks()
      if (range !== undefined) return await this.#blocks(range.log, range.from, range.to)
      return await this.#documents()
    } catch (cause) {
      if (!(cause instanceof BlockLost)) throw cause
      return await this.#everything(cause)
    }
  }

  #differences(): ReadonlyArray<Difference> {
    const { tables, members, ownLog } = this.#options
    const logs = members.logs()
    const wanted = cutoffsOf(logs)
    const stands = tables.cutoffs.all()
    const somebodys = new Set(logs.map(({ log }) => log))
    const gone = tables.cursors.all().filter(({ log }) => !somebodys.has(log) && log !== ownLog().log)
      .map(({ log }) => ({ log, was: stands.get(log) ?? noCutoff, now: noCutoff, gone: true }))
    const moved = [...new Set([...wanted.keys(), ...stands.keys()])].map((log) => ({ log, was: stands.get(log) ?? noCutoff, now: wanted.get(log) ?? noCutoff, gone: false }))
      .filter(({ log, was, now }) => (was.cutAt !== now.cutAt || was.docsTo !== now.docsTo) && !gone.some((other) => other.log === log))
    return [...gone, ...moved]
  }

  #noteOne({ log, was, now, gone }: Difference): void {
    const { cutoffs, cursors } = this.#options.tables
    cutoffs.set(log, now)
    if (gone) {
      cutoffs.noteDocuments(log, 0, documentTypes, true)
      return this.#options.tables.removeLog(log)
    }
    const folded = cursors.folded(log)
    const blocksFrom = was.cutAt === now.cutAt ? Infinity : Math.min(was.cutAt, now.cutAt)
    const changesFrom = was.docsTo === now.docsTo ? Infinity : Math.min(was.docsTo, now.docsTo)
    if (blocksFrom < folded) cutoffs.noteBlocks({ log, from: blocksFrom, to: folded })
    if (changesFrom < folded) cutoffs.noteDocuments(log, changesFrom, documentTypes, false)
  }

  async #blocks(log: string, from: number, to: number): Promise<FoldNotice> {
    const { tables, members, reader, observe } = this.#options
    const range = { log, from, to: Math.min(to, from + portionBlocksMax) }
    const sorted = this.#folder.sort(await reader.again(log, Array.from({ length: range.to - from }, (_, i) => from + i)))
    const { first, last, operations } = tables.transaction(() => {
      tables.removeRows(range)
      tables.sealed.remove(range)
      for (const { taken } of sorted.blocks) if (taken.why === undefined) tables.quarantine.release(log, taken.block, undefined)
      // What becomes of changes is said when their documents are built anew.
      const written = this.#folder.write(sorted, () => undefined)
      for (const doc of written.documents) tables.cutoffs.noteDocument(doc)
      tables.cutoffs.blocksDone({ log, from, to }, range.to)
      return written
    })
    observe(sorted.blocks.map(({ taken }) => taken))
    if (operations > 0 && last > 0) {
      members.changed()
      reader.lookAtAll()
    }
    return { first, last, documents: [], operations: operations > 0 }
  }

  async #documents(): Promise<FoldNotice> {
    const { tables, worker } = this.#options
    const works: Array<Work> = []
    let events = 0
    for (const { doc, whole } of tables.cutoffs.documents(portionDocumentsMax)) {
      const rows = inLogOrder(tables.events.changesOf(doc, documentTypes))
      const stored = whole ? nothing : tables.documents.load(doc)
      const size = whole ? rows.length : stored.changes.length
      if (works.length > 0 && events + size > portionEventsMax) break
      works.push({ doc, whole, rows, stored, changes: stored.changes })
      events += size
    }
    const read = await this.#read(new Map(works.filter(({ whole }) => whole).map(({ doc, rows }) => [doc, rows])))
    const batch = works.map((work) => work.whole ? { ...work, changes: read.get(work.doc) ?? [] } : work)
    const bases = new Map(works.map(({ doc, stored }) => [doc, { ...stored, changes: [] }]))
    await Effect.runPromise(worker.rebuild(batch, (doc) => bases.get(doc) ?? nothing, (answers) => {
      tables.transaction(() => {
        const reasons = new Reasons(this.#options.members)
        for (const work of batch) this.#keep(work, answers.find(({ doc }) => doc === work.doc), reasons)
      })
    }))
    return { first: 0, last: 0, documents: works.map(({ doc }) => doc), operations: false }
  }

  #keep({ doc, whole, rows, stored, changes }: Work, answer: Applied | undefined, reasons: Reasons): void {
    const { tables, reader, now } = this.#options
    // What was saved may be at fault: once more without it.
    if (answer !== undefined && "stalled" in answer && stored.snapshot !== undefined) return tables.cutoffs.noteDocument(doc)
    tables.cutoffs.documentDone(doc)
    if (whole) {
      tables.documents.reset(doc)
      if (changes.length > 0) tables.documents.append(doc, changes)
    } else tables.documents.renew(doc)
    if (answer === undefined || (whole && changes.length === 0)) return
    if ("stalled" in answer) tables.documents.stall(doc, answer.stalled)
    else tables.documents.putState(doc, answer.state)
    const statuses = new Map(rows.map((row) => [`${row.log}/${row.block}.${row.offset}`, row.status]))
    const ms = now()
    const judge = (change: LoggedChange, verdict: Verdict | undefined): void => {
      const { status, why } = judged(change, verdict, reasons)
      const was = statuses.get(`${change.log}/${change.block}.${change.offset}`)
      if (was !== status) tables.events.setStatus(change, status)
      if (why !== undefined) tables.quarantine.add({ log: change.log, block: change.block, offset: change.offset, device: reader.device(change.log) ?? "", why, ms })
      else if (was === "quarantined") tables.quarantine.release(change.log, change.block, change.offset)
    }
    changes.forEach((change, i) => judge(change, "stalled" in answer ? undefined : answer.verdicts[i]))
    if ("stalled" in answer) return
    for (const { verdict, ...at } of answer.released) judge({ ...at, ms, change: new Uint8Array(0), cut: tables.cutoffs.of(at.log).docsTo }, verdict)
  }

  /** The changes of these documents, each list in the order of its rows. */
  async #read(batch: ReadonlyMap<DocId, ReadonlyArray<IndexedChange>>): Promise<ReadonlyMap<DocId, ReadonlyArray<LoggedChange>>> {
    const wanted = new Map<string, Set<number>>()
    for (const rows of batch.values()) {
      for (const { log, block } of rows) {
        const blocks = wanted.get(log)
        if (blocks === undefined) wanted.set(log, new Set([block]))
        else blocks.add(block)
      }
    }
    const found = new Map<string, LoggedChange>()
    for (const [log, blocks] of wanted) {
      const ascending = [...blocks].sort((a, b) => a - b)
      for (let at = 0; at < ascending.length; at += portionBlocksMax) {
        const { changes } = this.#folder.sort(await this.#options.reader.again(log, ascending.slice(at, at + portionBlocksMax)))
        for (const [doc, list] of changes) if (batch.has(doc)) for (const change of list) found.set(`${log}/${change.block}.${change.offset}`, change)
      }
    }
    return new Map([...batch].map(([doc, rows]) => [doc, rows.flatMap(({ log, block, offset }) => found.get(`${log}/${block}.${offset}`) ?? [])]))
  }

  async #everything({ log, block, message }: BlockLost): Promise<FoldNotice> {
    const { tables, reader, worker, notice, ownLog } = this.#options
    notice("warn", `${message}; everything that is held is folded again`, { log })
    if (log !== ownLog().log) tables.heads.correct(log, block)
    const documents = (["config", "agents", "memory"] as const).flatMap((family) => tables.documents.list(family).map(({ id }) => id))
    for (const doc of documents) await Effect.runPromise(worker.discard(doc))
    reader.reset()
    tables.clearDerived()
    this.forget()
    reader.lookAtAll()
    return { first: 0, last: 0, documents, operations: false }
  }
}

/** By arrival, but each log in its own order: blocks that could be opened only later arrived after those behind them. */
const inLogOrder = (rows: ReadonlyArray<IndexedChange>): ReadonlyArray<IndexedChange> => {
  const byLog = new Map<string, Array<IndexedChange>>()
  for (const row of rows) {
    const list = byLog.get(row.log)
    if (list === undefined) byLog.set(row.log, [row])
    else list.push(row)
  }
  const next = new Map([...byLog].map(([log, list]) => [log, list.sort((a, b) => a.block - b.block || a.offset - b.offset).values()]))
  return rows.flatMap(({ log }) => next.get(log)?.next().value ?? [])
}
