/**
 * Channels over one connection.
 *
 * Protomux hands errors of its decoder to `safety-catch`, which throws every TypeError and RangeError again outside of any handler:
 * three bytes from a stranger would end the process. `GuardedMux` ends the connection instead, and says why.
 *
 * Our own channels carry raw bytes; each protocol decodes them with `Reader`, so that a malformed message is a value, not an exception
 * in a library. A message that is longer than its type allows ends the connection before it is decoded.
 */
import { raw, type State } from "compact-encoding"
import type { Duplex } from "node:stream"
import Protomux, { type Channel, type ChannelOptions } from "protomux"
import { Malformed } from "../codec/malformed.ts"
import { checkClaims, requestedBlock, requestType } from "./wire-guard.ts"

export class GuardedMux extends Protomux {
  onFault: (fault: Error) => void = ignore
  /** Blocks of a log, by its discovery key, from here on are not served. */
  servedTo: (discoveryKey: string) => number = everything
  /** May Hypercore see this message of a log's channel? By the log's discovery key. */
  accepts: (discoveryKey: string, message: unknown) => boolean = always

  /** Channels that Hypercore opens are checked for impossible claims on the way in, and for blocks that are not served. */
  override createChannel(options: ChannelOptions): Channel | null {
    const id = options.id === undefined || options.id === null ? undefined : Buffer.from(options.id).toString("hex")
    const messages = options.messages?.map((message, type) => ({
      ...message,
      onmessage: (value: unknown, channel: unknown) => {
        checkClaims(value)
        if (id !== undefined && type === requestType && requestedBlock(value) >= this.servedTo(id)) return undefined
        if (id !== undefined && !this.accepts(id, value)) return undefined
        return message.onmessage(value, channel)
      }
    }))
    return super.createChannel(messages === undefined ? options : { ...options, messages })
  }

  protected override _safeDestroy(error: unknown): void {
    this._destroying = true
    this.onFault(error instanceof Error ? error : new Error(String(error)))
    this.stream.destroy()
  }

  protected override _warn(error: unknown): void {
    this.onFault(error instanceof Error ? error : new Error(String(error)))
  }
}

/** The multiplexer of a connection; made in the same turn in which the connection is handed over, before any of its bytes is read. */
export const openMux = (stream: Duplex, onFault: (fault: Error) => void): GuardedMux => {
  const mux = new GuardedMux(stream)
  mux.onFault = onFault
  return mux
}

/** One of our channels: typed messages of bounded size, in order. */
export interface Wire {
  /** False when the stream wants a pause (still sent), or when the channel is closed (not sent). What follows `bytes` in the same message is not copied for that. */
  readonly send: (type: number, bytes: Uint8Array, then?: Uint8Array) => boolean
  readonly drained: () => boolean
  readonly closed: () => boolean
  readonly close: () => void
}

export interface WireOptions {
  readonly protocol: string
  /** Largest message in bytes, one entry per message type. */
  readonly bytesMax: ReadonlyArray<number>
  readonly onMessage: (type: number, bytes: Uint8Array) => void
  readonly onFault: (fault: Malformed) => void
  readonly onOpen?: () => void
  readonly onClose?: (isRemote: boolean) => void
  readonly onDrain?: () => void
}

/** Opens our side of a channel; undefined when the stream is gone or the channel exists already. */
export const openWire = (mux: GuardedMux, options: WireOptions): Wire | undefined => {
  const channel = mux.createChannel({
    protocol: options.protocol,
    onopen: options.onOpen ?? ignore,
    onclose: options.onClose ?? ignore,
    ondrain: options.onDrain ?? ignore
  })
  if (channel === null) return undefined
  const messages = options.bytesMax.map((bytesMax, type) => channel.addMessage({
    encoding: inParts,
    onmessage: (bytes) => {
      if (bytes.byteLength > bytesMax) {
        options.onFault(new Malformed({ what: `${options.protocol} message ${type}`, why: `${bytes.byteLength} bytes, at most ${bytesMax} are allowed` }))
        return
      }
      try {
        options.onMessage(type, bytes)
      } catch (fault) {
        if (!(fault instanceof Malformed)) throw fault
        options.onFault(fault)
      }
    }
  }))
  channel.open()
  return {
    send: (type, bytes, then) => {
      const message = messages[type]
      return message !== undefined && !channel.closed && message.send(then === undefined ? [bytes] : [bytes, then])
    },
    drained: () => channel.drained,
    closed: () => channel.closed,
    close: () => channel.close()
  }
}

/** Raw bytes, given in parts. */
const inParts = {
  preencode: (state: State, parts: ReadonlyArray<Uint8Array>): void => {
    for (const part of parts) raw.preencode(state, part)
  },
  encode: (state: State, parts: ReadonlyArray<Uint8Array>): void => {
    for (const part of parts) raw.encode(state, part)
  },
  decode: (state: State): Uint8Array => raw.decode(state)
}

function ignore(): void {}

const everything = (): number => Number.MAX_SAFE_INTEGER

const always = (): boolean => true
