/**
 * The heads exchange: who holds how much of which log, told without opening one.
 *
 * Each node numbers the growths of all its logs (`logs.sequence`). A peer remembers up to which number it has heard (its cursor) and says so when
 * the connection starts; it is sent only the logs that grew after that, oldest growth first, in batches of at most 1,024, each with the number
 * that it completes. Then growths are announced as they happen, gathered for 20 ms. A cursor into another sequence (the peer was
 * rebuilt) is void, and the whole list is sent.
 *
 * Invariants
 * - The cursor is stored after its batch was taken in, and not past a log that membership does not know here yet: that log would be forgotten.
 *   Until membership brings it, its heads are kept for this session and taken in at the next `review`.
 * - What is sent is read from `logs.heads(since)`, never from the events that woke us, so that nothing announced can be missed.
 * - The peer's `ready` waits for its turn while this channel is read at once: what it tells in that moment is kept and taken in when we begin.
 * - While the stream wants a pause nothing is announced; growths gather meanwhile and become one entry each.
 *
 * The same channel carries tree-hash probes ("what is your tree hash of this log at this length?") and the pace ("take at most so many bytes a second";
 * "not now").
 */
import { isHex, shortKey } from "../codec/bytes.ts"
import { historyBytesMax } from "../codec/history.ts"
import type { SwarmHost } from "./host.ts"
import { type GuardedMux, openWire, type Wire } from "./mux.ts"
import { Reader, Writer } from "./wire.ts"
import type { Malformed } from "../codec/malformed.ts"

export interface HeadsOptions {
  /** Entries in one batch. */
  readonly batchEntriesMax: number
  /** Announcements are gathered for this long. */
  readonly gatherMs: number
  /** Heads of logs that membership does not know yet, kept for one session. */
  readonly unknownMax: number
  /** Probes answered and not yet answered, per peer; more are ignored. */
  readonly probesMax: number
  readonly probeMs: number
  /** Times a peer may ask for its list in one session. */
  readonly asksMax: number
}

export const headsDefaults: HeadsOptions = {
  batchEntriesMax: 1_024, gatherMs: 20, unknownMax: 4_096, probesMax: 128, probeMs: 10_000, asksMax: 1_000
}

export interface HeadsEvents {
  readonly known: (log: string) => boolean
  /** A log is told of up to this length at most: what lies beyond is not served. */
  readonly limitOf: (log: string) => number
  /** A head of a log that membership knows. */
  readonly onHead: (log: string, length: number, fork: number) => void
  readonly onPace: (serving: boolean, bytesPerSecond: number) => void
  /** The peer's first list has been taken in whole. */
  readonly onCaughtUp: () => void
  /** Our tree hash of a log that we hold at least that far; undefined otherwise. */
  readonly treeHash: (log: string, length: number) => Promise<Uint8Array | undefined>
  /** What was signed of our first blocks of a log, encoded; undefined when it is not held that far. */
  readonly history: (log: string, length: number) => Promise<Uint8Array | undefined>
  readonly onFault: (fault: Malformed) => void
  /** The peer has said that it is ready, and that waits for its turn here. */
  readonly aboutToBegin: () => boolean
}

export interface Heads {
  /** Both are members: asks for the peer's heads and begins to tell ours. */
  readonly begin: () => void
  /** Membership changed: heads that waited for it are taken in. */
  readonly review: () => void
  readonly probe: (log: string, length: number) => Promise<Uint8Array | undefined>
  /** What was signed of the peer's first blocks of a log; hostile bytes. */
  readonly history: (log: string, length: number) => Promise<Uint8Array | undefined>
  readonly pace: (serving: boolean, bytesPerSecond: number) => void
  /** Asks for everything that changed since our cursor, again. */
  readonly ask: () => void
  readonly caughtUp: () => boolean
  /** Entries sent and received, for status and measurement. */
  readonly counts: { sent: number; received: number }
  readonly end: () => void
}

interface Batch {
  readonly sequenceId: string
  readonly sequence: number
  readonly last: boolean
  readonly entries: ReadonlyArray<{ readonly log: string; readonly length: number; readonly fork: number }>
}

const since = 0
const batch = 1
const probe = 2
const hash = 3
const pace = 4
const askHistory = 5
const showHistory = 6
const bytesMax = [160, 65_536, 64, 128, 16, 64, historyBytesMax + 64]
const lengthMax = 2 ** 40
/** Messages of a peer that began a moment before us; it tells little before it hears from where we want to know. */
const earlyMax = 16

export const startHeads = (host: SwarmHost, mux: GuardedMux, device: string, options: HeadsOptions, events: HeadsEvents): Heads => {
  const unknown = new Map<string, { readonly length: number; readonly fork: number }>()
  /** Probes by `log/length`, histories by `history log/length`. */
  const asked = new Map<string, Array<(found: Uint8Array | undefined) => void>>()
  const counts = { sent: 0, received: 0 }
  let cursor = host.receipts.cursor(device)
  /** Heads with `changed` up to this are told; undefined until the peer said from where. */
  let told: number | undefined
  let begun = false
  let caughtUp = false
  let ended = false
  let answering = 0
  let asks = 0
  let dropped = false
  let timer: NodeJS.Timeout | undefined
  let early: Array<{ readonly type: number; readonly bytes: Uint8Array }> = []

  const handle = (type: number, bytes: Uint8Array): void => {
    const reader = new Reader(`kos/heads message ${type}`, bytes)
    if (type === since) onSince(reader)
    else if (type === batch) onBatch(decodeBatch(reader, options.batchEntriesMax))
    else if (type === probe) onProbe(reader)
    else if (type === hash) onHash(reader)
    else if (type === askHistory) onAskHistory(reader)
    else if (type === showHistory) onShowHistory(reader)
    else onPace(reader)
  }

  const wire: Wire | undefined = openWire(mux, {
    protocol: "kos/heads",
    bytesMax,
    onMessage: (type, bytes) => {
      if (begun) return handle(type, bytes)
      if (!events.aboutToBegin() || early.length >= earlyMax) {
        throw new Reader(`kos/heads message ${type}`, bytes).fault("it came before both sides were known to be members")
      }
      early.push({ type, bytes: bytes.slice() })
    },
    onFault: events.onFault,
    onDrain: () => gather()
  })

  const unsubscribe = host.logs.onGrow(() => gather())

  const onSince = (reader: Reader): void => {
    const sequenceId = reader.text(64)
    const sequence = reader.uint()
    reader.end()
    asks += 1
    if (asks > options.asksMax) throw reader.fault(`it came ${asks} times in one session`)
    const valid = sequenceId === host.logs.sequenceId && sequence <= host.logs.sequence()
    told = valid ? sequence : -1
    tell(true)
  }

  /** Sends what changed after `told`, oldest growth first, so that each batch completes a number. */
  const tell = (always: boolean): void => {
    if (told === undefined || wire === undefined || ended) return
    const sequence = host.logs.sequence()
    if (sequence <= told && !always) return
    const entries = [...host.logs.heads(told)].filter((head) => head.length > 0).sort((a, b) => a.changed - b.changed)
    for (let start = 0; start < entries.length || start === 0; start += options.batchEntriesMax) {
      const part = entries.slice(start, start + options.batchEntriesMax)
      const last = start + part.length >= entries.length
      told = last ? sequence : part.at(-1)?.changed ?? sequence
      const writer = new Writer().text(host.logs.sequenceId).uint(told).byte(last ? 1 : 0).uint(part.length)
      for (const head of part) writer.hex(head.log).uint(Math.min(head.length, events.limitOf(head.log))).uint(head.fork ?? 0)
      counts.sent += part.length
      wire.send(batch, writer.take())
    }
  }

  const gather = (): void => {
    if (timer !== undefined || told === undefined || ended || wire === undefined) return
    if (host.logs.sequence() <= told) return
    timer = setTimeout(() => {
      timer = undefined
      if (wire.drained()) tell(false)
    }, options.gatherMs)
  }

  const onBatch = (found: Batch): void => {
    let complete = true
    counts.received += found.entries.length
    for (const { log, length, fork } of found.entries) {
      if (!events.known(log)) {
        complete = false
        if (unknown.size < options.unknownMax || unknown.has(log)) unknown.set(log, { length, fork })
        else dropped = true
      } else {
        take(log, length, fork)
      }
    }
    const forward = cursor === undefined || cursor.sequenceId !== found.sequenceId || found.sequence > cursor.sequence
    if (complete && unknown.size === 0 && !dropped && forward) {
      cursor = { sequenceId: found.sequenceId, sequence: found.sequence }
      host.receipts.setCursor(device, found.sequenceId, found.sequence)
    }
    if (found.last && !caughtUp) {
      caughtUp = true
      events.onCaughtUp()
    }
  }

  const take = (log: string, length: number, fork: number): void => {
    host.receipts.holds(device, log, length)
    events.onHead(log, length, fork)
  }

  const onProbe = (reader: Reader): void => {
    const log = reader.hex(32)
    const length = reader.uint(lengthMax)
    reader.end()
    if (answering >= options.probesMax) return
    answering += 1
    const answer = (found: Uint8Array | undefined): void => {
      answering -= 1
      const writer = new Writer().hex(log).uint(length)
      if (!ended) wire?.send(hash, (found === undefined ? writer.byte(0) : writer.byte(1).fixed(found)).take())
    }
    const found = events.known(log) && length > 0 ? events.treeHash(log, length) : Promise.resolve(undefined)
    found.then(answer, () => answer(undefined))
  }

  const onHash = (reader: Reader): void => {
    const name = `${reader.hex(32)}/${reader.uint(lengthMax)}`
    const found = reader.byte() === 0 ? undefined : reader.fixed(32)
    reader.end()
    answered(name, found)
  }

  const onAskHistory = (reader: Reader): void => {
    const log = reader.hex(32)
    const length = reader.uint(lengthMax)
    reader.end()
    if (answering >= options.probesMax) return
    answering += 1
    const answer = (found: Uint8Array | undefined): void => {
      answering -= 1
      if (!ended) wire?.send(showHistory, new Writer().hex(log).uint(length).bytes(found ?? new Uint8Array(0)).take())
    }
    const found = events.known(log) && length > 0 ? events.history(log, length) : Promise.resolve(undefined)
    found.then(answer, () => answer(undefined))
  }

  const onShowHistory = (reader: Reader): void => {
    const name = `history ${reader.hex(32)}/${reader.uint(lengthMax)}`
    const found = reader.bytes(historyBytesMax)
    reader.end()
    answered(name, found.byteLength === 0 ? undefined : found.slice())
  }

  const answered = (name: string, found: Uint8Array | undefined): void => {
    const waiting = asked.get(name)
    asked.delete(name)
    for (const resolve of waiting ?? []) resolve(found)
  }

  /** One question to the peer; undefined when it does not answer in time. Those who ask the same meanwhile share the answer. */
  const question = (type: number, name: string, log: string, length: number): Promise<Uint8Array | undefined> => new Promise((resolve) => {
    if (ended || wire === undefined || !isHex(log, 32)) return resolve(undefined)
    const waiting = asked.get(name)
    const timeout = setTimeout(() => {
      asked.delete(name)
      answer(undefined)
    }, options.probeMs)
    const answer = (found: Uint8Array | undefined): void => {
      clearTimeout(timeout)
      resolve(found)
    }
    if (waiting !== undefined) {
      waiting.push(answer)
      return
    }
    asked.set(name, [answer])
    wire.send(type, new Writer().hex(log).uint(length).take())
  })

  const onPace = (reader: Reader): void => {
    const serving = reader.byte() === 1
    const bytesPerSecond = reader.uint(2 ** 40)
    reader.end()
    events.onPace(serving, bytesPerSecond)
  }

  const ask = (): void => {
    if (begun) wire?.send(since, new Writer().text(cursor?.sequenceId ?? "").uint(cursor?.sequence ?? 0).take())
  }

  return {
    begin: () => {
      begun = true
      ask()
      const waiting = early
      early = []
      for (const { type, bytes } of waiting) handle(type, bytes)
    },
    review: () => {
      for (const [log, { length, fork }] of unknown) {
        if (!events.known(log)) continue
        unknown.delete(log)
        take(log, length, fork)
      }
    },
    probe: (log, length) => question(probe, `${log}/${length}`, log, length),
    history: (log, length) => question(askHistory, `history ${log}/${length}`, log, length),
    pace: (serving, bytesPerSecond) => {
      if (begun) wire?.send(pace, new Writer().byte(serving ? 1 : 0).uint(bytesPerSecond).take())
    },
    ask,
    caughtUp: () => caughtUp,
    counts,
    end: () => {
      if (ended) return
      ended = true
      clearTimeout(timer)
      unsubscribe()
      for (const waiting of asked.values()) for (const resolve of waiting) resolve(undefined)
      asked.clear()
      if (wire !== undefined && !wire.closed()) wire.close()
      if (unknown.size > 0) host.notice("debug", `${unknown.size} heads of ${shortKey(device)} were of logs that no member owns`, { device })
    }
  }
}

const decodeBatch = (reader: Reader, entriesMax: number): Batch => {
  const sequenceId = reader.text(64)
  const sequence = reader.uint()
  const last = reader.byte() === 1
  const count = reader.uint(entriesMax)
  const entries = Array.from({ length: count }, () => ({ log: reader.hex(32), length: reader.uint(lengthMax), fork: reader.uint(2 ** 32) }))
  reader.end()
  return { sequenceId, sequence, last, entries }
}
