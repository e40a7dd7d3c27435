/**
 * The journal: this node's own log, written. Design section 3, points 1, 4 and 5.
 *
 * **What it owns.** The own log of one mesh, its high-water mark, the queue in front of it and the hybrid logical clock.
 *
 * **How one event travels.** `append(drafts)` puts the drafts of one command into the queue as a unit. One writer takes whatever
 * gathered while the last append ran (at most 256 events or 64 KiB), stamps, encodes and seals it as one frame, and hands it to the
 * log store: written, synced, mark synced, published, in this order. Then every unit in the frame is answered with its addresses.
 * A unit of only `batched` events may wait up to 200 ms for company; a durable one pulls it along at once.
 *
 * **Invariants.** A block that a peer may know is on disk, and so is a mark that says so. A unit is never split over frames. Units
 * are written in the order of their arrival. Nothing is appended before `begin`.
 *
 * **Tricky cases.**
 * - *The log is shorter than the mark, or its tree hash there differs:* it lost its tail or was rewritten. Nothing may be appended.
 *   `open` says so, boot lets peers heal it, and what cannot be healed is closed for ever and succeeded by a new log.
 * - *It has a gap, or our signature speaks of more blocks than are held:* blocks were damaged, or a heal was cut short. The same as
 *   short: the next block's place is known to whoever has the rest.
 * - *The log is longer than the mark:* the power went between the two syncs. No peer and no caller heard of the excess; it stands.
 * - *The directory was copied:* the original may still be running. The copy starts a new log.
 * - *No key to seal under* (a seeder, or a reader that was given none yet): nothing can be written that others could read, so units are
 *   refused as `no-key` at once, and those that wait when a key is taken away are refused when their turn comes.
 * - *The append failed* (disk full): the units in the frame are refused with the reason. The block may have been written all the
 *   same without being published; the next append goes after it.
 */
import { Context, Effect, Layer, Result, Schema, Scope } from "effect"
import type { Address } from "../codec/address.ts"
import { receive, type Stamp, stampZero, tick } from "../codec/clock.ts"
import type { Envelope } from "../codec/envelope.ts"
import { encodeEvent, eventBytesMax, frameEventsMax, fittingFrameKey, frameGatherBytesMax, frameHeader, nonceBytes, openFrame, sealFrame } from "../codec/frame.ts"
import type { KeyPair } from "../codec/signature.ts"
import type { Keyring } from "../vault/keyring.ts"
import { eventTypes } from "./catalogue.ts"
import { type Head, LogStore, LogStoreError, logStoreError, type OwnLog } from "./log-store.ts"
import { type Mark, MarkFile } from "./mark.ts"
import { Disk, DiskError, Random, wallClock } from "./ports.ts"

/** An event before it has a place and a time. The body is as the catalogue encodes it. */
export interface Draft {
  readonly type: string
  readonly actor: string
  readonly subject: string
  readonly command: string
  readonly cause: ReadonlyArray<Address>
  readonly body: unknown
}

export interface Appended {
  readonly log: string
  readonly block: number
  /** Offset of the unit's first event in the frame. */
  readonly offset: number
  readonly events: ReadonlyArray<Envelope>
}

export class JournalError extends Schema.TaggedError<JournalError>()("JournalError", {
  reason: Schema.Literals(["full", "readonly", "failed", "busy", "closed", "too-large", "no-key"]),
  detail: Schema.String
}) {
  override get message() {
    return this.detail
  }
}

/** Units that may wait at once; more are refused as `busy`. */
export const queueUnitsMax = 4_096
/** How long a unit of batched events may wait for company, milliseconds. */
export const lingerMsMax = 200
/** Appends are refused while less is free, so that there is room to recover in, bytes. */
export const diskReserveBytes = Context.Reference<number>("kos/events/diskReserveBytes", { defaultValue: () => 16 * 1024 * 1024 })

/** How old and how outdated by our own writing the known free space may be, milliseconds and bytes. */
const spaceAskedMsMax = 250
const spaceWrittenMax = 1024 * 1024

/** What `open` found. Everything but `new` and `healthy` must be dealt with before `begin`. */
export type Finding =
  | { readonly _tag: "New" }
  | { readonly _tag: "Healthy" }
  | ({ readonly _tag: "Short" } & Mismatch)
  | ({ readonly _tag: "Rewritten" } & Mismatch)
  | ({ readonly _tag: "Copied" } & Mismatch)
  | ({ readonly _tag: "Unmarked" } & Mismatch)

export interface Mismatch {
  /** Blocks that are held. */
  readonly length: number
  /** Blocks that the mark speaks of, and the tree hash that it has there. */
  readonly expected: number
  readonly treeHash: string
}

export interface LastRun {
  /** The last run ended without a stop. */
  readonly unclean: boolean
  /** The machine was not restarted since. */
  readonly sameBoot: boolean
  readonly pid: number
}

interface Unit {
  readonly drafts: ReadonlyArray<Draft>
  readonly durable: boolean
  readonly answer: (answer: Effect.Effect<Appended, JournalError>) => void
}

export class Journal extends Context.Service<Journal, {
  /** Key of the log that is written now. */
  log(): string
  length(): number
  /** Looks at the own log and its mark. Repeated after a heal. */
  inspect(): Promise<{ readonly finding: Finding; readonly lastRun: LastRun | undefined }>
  /** From here on the log is written. */
  begin(): void
  /** Puts another log in the place of the present one, which is never written again. */
  succeed(keyPair: KeyPair): Effect.Effect<void, LogStoreError>
  /** Appends the events of one command as a unit; answers when they are on disk and published. */
  append(drafts: ReadonlyArray<Draft>): Effect.Effect<Appended, JournalError>
  /** False while this node holds no key to seal under: a seeder writes nothing. */
  canAppend(): boolean
  /** Moves the clock past a stamp that came from elsewhere. */
  observe(stamp: Stamp): void
  treeHash(length: number): Promise<string>
  /** Refuses new units, writes what waits, and marks the run as cleanly ended. */
  stop(): Effect.Effect<void>
}>()("kos/events/Journal") {
  static readonly layer = (
    keyPair: KeyPair, keyring: () => Keyring
  ): Layer.Layer<Journal, LogStoreError | DiskError, LogStore | Disk> => Layer.effect(Journal, make(keyPair, keyring))
}

const make = (keyPair: KeyPair, keyring: () => Keyring): Effect.Effect<Journal["Service"], LogStoreError | DiskError, LogStore | Disk | Scope.Scope> => Effect.gen(function*() {
  const store = yield* LogStore
  const disk = yield* Disk
  const random = yield* Random
  const now = yield* wallClock
  const reserve = yield* diskReserveBytes
  const scope = yield* Effect.scope
  const bootId = yield* disk.bootId
  const marks = new MarkFile(yield* disk.slots("mark"))
  yield* Effect.addFinalizer(() => Effect.promise(() => marks.close()))
  let own: OwnLog = yield* store.openOwn(keyPair)
  const place = yield* disk.place("mark")

  let queue: Array<Unit> = []
  let state: "waiting" | "open" | "stopped" = "waiting"
  let writing: Promise<void> | undefined
  let wake: (() => void) | undefined
  let clock: Stamp = stampZero
  let clockRead = false
  let marked = false

  /** Asking the file system costs as much as a sync: once a quarter second, and sooner when much was written since. */
  const space = { free: 0, askedMs: Number.NEGATIVE_INFINITY, written: 0 }
  const free = async () => {
    if (now() - space.askedMs > spaceAskedMsMax || now() < space.askedMs || space.written > spaceWrittenMax || space.free - space.written < reserve) {
      space.free = await Effect.runPromise(disk.free)
      space.askedMs = now()
      space.written = 0
    }
    return space.free - space.written
  }
  const markOf = (head: Head, dirty: boolean): Omit<Mark, "turn"> =>
    ({ log: own.key, ...head, dirty, bootId, place, pid: process.pid })

  const inspect = async () => {
    const mark = await marks.read()
    const length = own.length()
    const lastRun = mark === undefined ? undefined : { unclean: mark.dirty, sameBoot: mark.bootId === bootId, pid: mark.pid }
    return { finding: await judge(own, mark, length, place), lastRun }
  }

  /** The first mark of a run, before its first block: a block without any mark would look like a lost mark. */
  const markStart = async () => {
    if (marked) return
    const length = own.length()
    await marks.write(markOf({ length, fork: own.fork(), treeHash: await own.treeHash(length) }, true))
    marked = true
  }

  /** The clock goes on from the newest own event, so that stamps of one log never run backwards. */
  const readClock = async () => {
    if (clockRead) return
    clockRead = true
    const block = own.length() - 1
    if (block < 0) return
    const bytes = await own.get(block)
    const header = frameHeader(bytes)
    if (Result.isFailure(header)) return
    const at = { log: own.key, block }
    const key = fittingFrameKey(bytes, header.success, at, keyring().keys(header.success.epoch))
    if (key === undefined) return
    const events = openFrame(bytes, at, key)
    if (Result.isSuccess(events)) for (const event of events.success) clock = event.at.ms > clock.ms ? event.at : clock
  }

  /** Takes units for one frame off the queue: always one, more while they fit. */
  const gather = (): { units: Array<Unit>; encoded: Array<Uint8Array>; events: Array<Array<Envelope>> } => {
    const units: Array<Unit> = []
    const encoded: Array<Uint8Array> = []
    const events: Array<Array<Envelope>> = []
    let bytes = 0
    while (queue.length > 0 && units.length < frameEventsMax) {
      const unit = queue[0]
      if (unit === undefined || (units.length > 0 && encoded.length + unit.drafts.length > frameEventsMax)) break
      const before = clock
      const stamped: Array<Envelope> = []
      const mine: Array<Uint8Array> = []
      for (const draft of unit.drafts) {
        clock = tick(clock, now())
        const envelope: Envelope = { ...draft, at: clock }
        stamped.push(envelope)
        mine.push(encodeEvent(envelope, own.key))
      }
      const size = mine.reduce((sum, e) => sum + e.byteLength, 0)
      const tooLarge = mine.some((e) => e.byteLength > eventBytesMax) || size > 2 * eventBytesMax
      if (tooLarge) {
        clock = before
        queue.shift()
        unit.answer(Effect.fail(new JournalError({ reason: "too-large", detail: `the events are larger than ${eventBytesMax} bytes` })))
        continue
      }
      if (units.length > 0 && bytes + size > frameGatherBytesMax) {
        clock = before
        break
      }
      queue.shift()
      bytes += size
      units.push(unit)
      encoded.push(...mine)
      events.push(stamped)
    }
    return { units, encoded, events }
  }

  const writeFrame = async () => {
    const { units, encoded, events } = gather()
    if (units.length === 0) return
    try {
      await own.prepare()
      await markStart()
      if (await free() < reserve) {
        throw new DiskError({ operation: "write", reason: "full", detail: `less than ${Math.round(reserve / 1_048_576)} MiB are free` })
      }
      const current = keyring().current
      if (current === undefined) throw noKey()
      const block = own.length()
      const frame = sealFrame(encoded, { log: own.key, block }, current.epoch, current.key, random(nonceBytes))
      space.written += frame.byteLength
      const head = await own.append(frame, (head) => marks.write(markOf(head, true)))
      if (head.length !== block + 1) throw new Error(`the log grew to ${head.length} while block ${block} was written`)
      let offset = 0
      units.forEach((unit, i) => {
        const stamped = events[i] ?? []
        unit.answer(Effect.succeed({ log: own.key, block, offset, events: stamped }))
        offset += stamped.length
      })
    } catch (cause) {
      const error = await explained(journalError(cause))
      for (const unit of units) unit.answer(Effect.fail(error))
    }
  }

  /** RocksDB says of a batch only that it was not applied: when next to nothing is free, that is why. */
  const explained = async (error: JournalError): Promise<JournalError> => {
    if (error.reason !== "failed") return error
    space.askedMs = Number.NEGATIVE_INFINITY
    const left = await free().catch(() => reserve)
    return left < reserve ? new JournalError({ reason: "full", detail: `${error.detail}; ${Math.round(left / 1_048_576)} MiB are free` }) : error
  }

  /** One writer at a time; it ends when the queue is empty. */
  const write = async () => {
    await readClock()
    while (queue.length > 0 && state !== "waiting") {
      if (state === "open" && !queue.some((unit) => unit.durable) && queue.length < frameEventsMax) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, lingerMsMax)
          wake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
        wake = undefined
      }
      await writeFrame()
      // Who was just answered often has the next command ready: it may still come along.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  const kick = () => {
    wake?.()
    if (state === "waiting" || writing !== undefined) return
    writing = write().finally(() => {
      writing = undefined
      if (queue.length > 0) kick()
    })
  }

  const refused = (drafts: ReadonlyArray<Draft>): JournalError | undefined => {
    if (state === "stopped") return new JournalError({ reason: "closed", detail: "the node is stopping" })
    if (keyring().current === undefined) return noKey()
    if (queue.length >= queueUnitsMax) return new JournalError({ reason: "busy", detail: `${queueUnitsMax} commands wait for the log` })
    if (drafts.length === 0 || drafts.length > frameEventsMax) return new JournalError({ reason: "too-large", detail: `${drafts.length} events in one command` })
    return undefined
  }

  // A callback and no generator: this runs for every command, and a unit that was taken up is written whatever becomes of its caller.
  const append = (drafts: ReadonlyArray<Draft>): Effect.Effect<Appended, JournalError> => Effect.callback((answer) => {
    const error = refused(drafts)
    if (error !== undefined) return answer(Effect.fail(error))
    const durable = drafts.some((draft) => eventTypes.get(draft.type)?.durability !== "batched")
    queue.push({ drafts, durable, answer })
    if (durable || queue.length >= frameEventsMax || writing === undefined) kick()
  })

  const settle = Effect.promise(async () => {
    wake?.()
    while (writing !== undefined) await writing
  })

  return Journal.of({
    log: () => own.key,
    length: () => own.length(),
    inspect,
    begin: () => {
      state = "open"
      kick()
    },
    succeed: Effect.fn("Journal.succeed")(function*(next: KeyPair) {
      const before = state
      state = "waiting"
      yield* settle
      own = yield* store.openOwn(next).pipe(Effect.provideService(Scope.Scope, scope))
      clockRead = false
      marked = false
      state = before
      kick()
    }),
    append,
    canAppend: () => keyring().current !== undefined,
    observe: (stamp) => {
      clock = receive(clock, stamp, now())
    },
    treeHash: (length) => own.treeHash(length),
    stop: Effect.fn("Journal.stop")(function*() {
      const begun = state === "open"
      state = "stopped"
      if (begun) kick()
      yield* settle
      for (const unit of queue) unit.answer(Effect.fail(new JournalError({ reason: "closed", detail: "the node is stopping" })))
      queue = []
      if (!begun) return
      const length = own.length()
      yield* Effect.promise(async () => marks.write(markOf({ length, fork: own.fork(), treeHash: await own.treeHash(length) }, false))).pipe(
        Effect.catchCause((cause) => Effect.logWarning("the clean stop could not be marked", cause))
      )
    })
  })
})

const judge = async (own: OwnLog, mark: Mark | undefined, length: number, place: string): Promise<Finding> => {
  const signed = own.signed()
  if (mark === undefined || mark.log !== own.key) {
    return signed === 0 ? { _tag: "New" } : { _tag: "Unmarked", length: await own.count(), expected: signed, treeHash: await hashAt(own, length, signed) }
  }
  const mismatch: Mismatch = { length, expected: mark.length, treeHash: mark.treeHash }
  if (mark.place !== place) return { _tag: "Copied", ...mismatch }
  const expected = Math.max(mark.length, signed)
  if (length < expected) {
    return { _tag: "Short", length: await own.count(), expected, treeHash: signed > mark.length ? await hashAt(own, length, signed) : mark.treeHash }
  }
  const same = own.fork() === mark.fork && (mark.length === 0 || await own.treeHash(mark.length) === mark.treeHash)
  return same ? { _tag: "Healthy" } : { _tag: "Rewritten", ...mismatch }
}

/** Zeros when the last block is missing here: its hash is known to peers only. */
const hashAt = (own: OwnLog, length: number, at: number): Promise<string> => length >= at ? own.treeHash(at) : Promise.resolve("0".repeat(64))

const noKey = () => new JournalError({ reason: "no-key", detail: "this node holds no key to write with: it is a seeder, or nobody has shared the key in force with it yet" })

const journalError = (cause: unknown): JournalError => {
  if (cause instanceof JournalError) return cause
  const error = cause instanceof LogStoreError || cause instanceof DiskError ? cause : logStoreError("append")(cause)
  return new JournalError({ reason: error.reason, detail: error.message })
}
