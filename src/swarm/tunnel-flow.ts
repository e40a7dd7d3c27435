/**
 * One stream of a tunnel as a Duplex. What is written waits until the other side has room for it; what came waits here until it is read, and
 * only then is the other side told that there is room again. So a slow reader stops the writer at the far end, and never more than
 * `windowBytes` lie here.
 */
import { Duplex } from "node:stream"
import { Malformed } from "../codec/malformed.ts"
import { chunkBytesMax, type CloseReason, type Told } from "./tunnel-wire.ts"

/** A stream that ended before its time; `message` is the sentence. */
export class StreamClosed extends Error {
  readonly told: Told<CloseReason>
  /** The other side said so; it need not be told. */
  readonly isRemote: boolean

  constructor(told: Told<CloseReason>, isRemote: boolean) {
    super(told.sentence)
    this.name = "StreamClosed"
    this.told = told
    this.isRemote = isRemote
  }
}

export interface FlowEvents {
  /** There is something to send, and room for it. */
  readonly wake: (flow: Flow) => void
  readonly credit: (flow: Flow, bytes: number) => void
  readonly end: (flow: Flow) => void
  /** It is over; `why` is absent when both sides had ended. */
  readonly gone: (flow: Flow, why: StreamClosed | undefined) => void
}

export interface Flow {
  readonly id: number
  readonly duplex: Duplex
  /** Is there something that may be sent now? */
  readonly wants: () => boolean
  /** The next piece to send, at most `chunkBytesMax`; hand it over, then call `sent`. */
  readonly next: () => Uint8Array
  readonly sent: () => void
  /** From the other side; these throw `Malformed` when it breaks the rules. */
  readonly take: (bytes: Uint8Array) => void
  readonly takeCredit: (bytes: number) => void
  readonly takeEnd: () => void
  readonly destroy: (why: StreamClosed) => void
  /** Bytes taken from and handed to the connection. */
  readonly counts: { in: number; out: number }
}

/** Bytes that may lie in each of the Duplex's own buffers besides. */
const bufferBytes = 65_536

export const makeFlow = (id: number, windowBytes: number, events: FlowEvents): Flow => {
  const counts = { in: 0, out: 0 }
  let pending: Uint8Array | undefined
  let offset = 0
  let written: () => void = () => undefined
  /** What we may send, and what the other side may. */
  let room = windowBytes
  let allowance = windowBytes
  /** What came and is not read yet, at most `windowBytes`. */
  const incoming: Array<Uint8Array> = []
  let wanted = false
  let taken = 0
  let granted = 0
  let ended = false

  const put = (bytes: Uint8Array, done: () => void): void => {
    if (bytes.byteLength === 0) return done()
    pending = bytes
    offset = 0
    written = done
    if (room > 0) events.wake(flow)
  }

  /** Hands on what the reader wants; that makes room for more. */
  const feed = (): void => {
    while (wanted && incoming.length > 0) {
      const bytes = incoming.shift()
      taken += bytes?.byteLength ?? 0
      wanted = duplex.push(bytes)
    }
    if (wanted && ended && incoming.length === 0) {
      wanted = false
      duplex.push(null)
    }
    // In quarters of the window: a message for each piece that is read would be as many messages back as came.
    const due = taken - granted
    if (due < windowBytes / 4 || ended || duplex.destroyed) return
    granted += due
    allowance += due
    events.credit(flow, due)
  }

  const duplex = new Duplex({
    allowHalfOpen: true, readableHighWaterMark: bufferBytes, writableHighWaterMark: bufferBytes, decodeStrings: true,
    read: () => {
      wanted = true
      feed()
    },
    write: (bytes: Buffer, _encoding, done) => put(bytes, done),
    writev: (chunks, done) => put(Buffer.concat(chunks.map(({ chunk }: { chunk: Buffer }) => chunk)), done),
    final: (done) => {
      events.end(flow)
      done()
    },
    destroy: (fault, done) => {
      const whole = fault === null && duplex.readableEnded && duplex.writableFinished
      pending = undefined
      incoming.length = 0
      events.gone(flow, whole ? undefined : fault instanceof StreamClosed ? fault : new StreamClosed(brokenOff, false))
      done(fault)
    }
  })
  // Whoever uses it may look at errors; that nobody does must not end the process.
  duplex.on("error", () => undefined)

  const fault = (why: string): Malformed => new Malformed({ what: `stream ${id} of kos/tunnel`, why })

  const flow: Flow = {
    id, duplex, counts,
    wants: () => pending !== undefined && room > 0,
    next: () => pending === undefined ? new Uint8Array(0) : pending.subarray(offset, offset + Math.min(chunkBytesMax, room)),
    sent: () => {
      if (pending === undefined) return
      const size = Math.min(chunkBytesMax, room, pending.byteLength - offset)
      offset += size
      room -= size
      counts.out += size
      if (offset < pending.byteLength) return
      pending = undefined
      written()
    },
    take: (bytes) => {
      if (ended) throw fault("data came after its end")
      if (bytes.byteLength > allowance) throw fault(`${bytes.byteLength} bytes where ${allowance} were allowed`)
      allowance -= bytes.byteLength
      counts.in += bytes.byteLength
      incoming.push(bytes)
      feed()
    },
    takeCredit: (bytes) => {
      if (bytes === 0 || room + bytes > windowBytes) throw fault(`credit for ${bytes} bytes where ${windowBytes - room} are under way`)
      room += bytes
      if (pending !== undefined) events.wake(flow)
    },
    takeEnd: () => {
      if (ended) throw fault("it was ended twice")
      ended = true
      feed()
    },
    destroy: (why) => void duplex.destroy(why)
  }
  return flow
}

const brokenOff: Told<CloseReason> = { reason: "broken", sentence: "the program at the other end broke it off" }
