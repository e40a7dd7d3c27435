/**
 * Takes from the logs on this disk what is to be folded next, in ticks of bounded size.
 *
 * It owns which logs may have grown, where the next tick begins in each, and the few reading sessions that are kept open. `take` may run while
 * the tick before is still being folded: it begins where that one ends, not where the cursors stand. When a tick was not folded after all,
 * `reset` lets everything beyond the cursors be taken again.
 *
 * A frame may be sealed under a key that an operation before it brings. So when a block cannot be opened and operations were taken that are
 * not folded yet, its log waits until they are; what is sealed after that is sealed.
 */
import { operationTypes } from "../events/catalogue.ts"
import { ingestBlock, type IngestedEvent } from "../events/ingest.ts"
import type { HeldLog } from "../events/log-store.ts"
import type { Keyring } from "../vault/keyring.ts"
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
export interface TickReaderOptions {
  readonly tables: Tables
  readonly members: Members
  readonly keyring: () => Keyring
  readonly open: (log: string) => Promise<HeldLog & { close(): Promise<void> }>
  readonly ownDevice: string
  /** The log that this node writes now, and how long it is. */
  readonly ownLog: () => { readonly log: string; readonly length: number }
  readonly notice: (level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
}

export interface Taken {
  readonly log: string
  readonly device: string
  readonly block: number
  readonly epoch: number
  readonly events: ReadonlyArray<IngestedEvent>
  /** Set when the block as a whole is not folded. */
  readonly why: string | undefined
  /** The epoch whose key would open the block, when it is not held here. */
  readonly sealed: number | undefined
}

export interface Tick {
  readonly blocks: ReadonlyArray<Taken>
  readonly cursors: ReadonlyMap<string, number>
}

/** A block that was folded is not on this disk any more. */
export class BlockLost extends Error {
  readonly log: string
  readonly block: number
  constructor(log: string, block: number) {
    super(`block ${block} of log ${log.slice(0, 8)} was folded and is not held any more`)
    this.log = log
    this.block = block
  }
}

export class TickReader {
  readonly #options: TickReaderOptions
  readonly #pending = new Set<string>()
  readonly #open = new Map<string, HeldLog & { close(): Promise<void> }>()
  /** Where the next tick begins, ahead of the cursors while a tick is being folded. */
  readonly #taken = new Map<string, number>()
  /** Blocks with operations that were taken and may not be folded yet. */
  #operations: Array<{ readonly log: string; readonly block: number }> = []

  constructor(options: TickReaderOptions) {
    this.#options = options
  }

  /** This log may have grown. */
  look(log: string): void {
    this.#pending.add(log)
  }

  lookAtAll(): void {
    for (const log of this.knownLogs()) this.#pending.add(log)
  }

  /** True when `take` may find something. */
  get wanted(): boolean {
    return this.#pending.size > 0
  }

  /** Blocks that are held and not folded yet. */
  behind(): number {
    let sum = 0
    for (const log of this.knownLogs()) sum += Math.max(0, this.#length(log) - this.#options.tables.cursors.folded(log))
    return sum
  }

  /** What was taken beyond the cursors is taken again. */
  reset(): void {
    this.#taken.clear()
    this.#operations = []
  }

  /** This log is begun from its first block when it is known again. */
  forget(log: string): void {
    this.#taken.delete(log)
    this.#pending.delete(log)
    this.#operations = this.#operations.filter((operation) => operation.log !== log)
  }

  /** Nothing is looked at any more until somebody says so. */
  rest(): void {
    this.#pending.clear()
  }

  /** Closes the reading sessions; they are opened again when needed. */
  async close(): Promise<void> {
    const open = [...this.#open.values()]
    this.#open.clear()
    for (const held of open) await held.close().catch(() => undefined)
  }

  knownLogs(): ReadonlyArray<string> {
    const own = this.#options.ownLog().log
    const logs = this.#options.members.logs().map(({ log }) => log)
    return logs.includes(own) ? logs : [own, ...logs]
  }

  #length(log: string): number {
    const own = this.#options.ownLog()
    return log === own.log ? own.length : (this.#options.tables.heads.get(log)?.length ?? 0)
  }

  device(log: string): string | undefined {
    return log === this.#options.ownLog().log ? this.#options.ownDevice : this.#options.members.deviceOf(log)
  }

  /**
   * The blocks of one tick; undefined when no log has any. Logs take turns, each in portions of its part of what is left: changes that build on each
   * other stand in several logs, and when one log runs ahead they wait for the others in memory.
   */
  async take(): Promise<Tick | undefined> {
    const before = new Map(this.#taken)
    try {
      return await this.#gather()
    } catch (cause) {
      // What was read before the fault is in no tick: it is to be read again.
      this.#taken.clear()
      for (const [log, block] of before) this.#taken.set(log, block)
      throw cause
    }
  }

  /** Blocks of a log that were folded before, ascending; throws BlockLost when one is not held. */
  async again(log: string, blocks: ReadonlyArray<number>): Promise<ReadonlyArray<Taken>> {
    const device = this.device(log) ?? ""
    const held = await this.#reader(log)
    const found: Array<Taken> = []
    for (let at = 0; at < blocks.length; at += windowBlocksMax) {
      const window = blocks.slice(at, at + windowBlocksMax)
      const read = await Promise.all(window.map((block) => held.get(block).catch(() => undefined)))
      window.forEach((block, i) => {
        const bytes = read[i]
        if (bytes === undefined) throw new BlockLost(log, block)
        found.push(this.#ingest(log, device, block, bytes))
      })
    }
    return found
  }

  async #gather(): Promise<Tick | undefined> {
    this.#operations = this.#operations.filter(({ log, block }) => this.#options.tables.cursors.folded(log) <= block)
    const halted = new Set<string>()
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
        if (from >= to || !this.#pending.has(log) || halted.has(log)) continue
        const read = await this.#read(log, from, to)
        for (const { block, bytes } of read) {
          const taken = this.#ingest(log, device, block, bytes)
          if (taken.sealed !== undefined && this.#operations.length > 0) {
            halted.add(log)
            break
          }
          if (taken.events.some(({ envelope }) => operationTypes.has(envelope.type))) this.#operations.push({ log, block })
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
      const device = this.device(log)
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
    if (ingested._tag === "Opened") return { log, device, block, epoch: ingested.epoch, events: ingested.events, why: undefined, sealed: undefined }
    return ingested._tag === "Sealed" ? { log, device, block, epoch: ingested.epoch, events: [], why: undefined, sealed: ingested.epoch }
      : { log, device, block, epoch: 0, events: [], why: ingested.why, sealed: undefined }
  }
}
