/**
 * The messages of `kos/tunnel`, their sizes and the limits of a tunnel. Numbers are LEB128.
 *
 *   ping, pong   nonce 8                      the answer carries the nonce of the question
 *   open         stream, probe u8, service    probe 1: only asks whether it would be accepted
 *   accepted     stream
 *   refused      stream, reason u8, sentence
 *   data         stream, 1 to 16,384 bytes
 *   credit       stream, bytes                so many more may be sent on this stream
 *   end          stream                       no more data from this side
 *   close        stream, reason u8, sentence  the stream is over at once, both ways
 *
 * Streams are numbered by the side that opens them: even numbers by the one who dialled the connection, odd ones by the other, each
 * greater than the one before.
 */
import { utf8 } from "../codec/bytes.ts"
import { Reader, Writer } from "./wire.ts"

export const ping = 0
export const pong = 1
export const open = 2
export const accepted = 3
export const refused = 4
export const data = 5
export const credit = 6
export const end = 7
export const close = 8

export const nonceBytes = 8
export const chunkBytesMax = 16_384
export const serviceBytesMax = 64
const sentenceBytesMax = 256
const streamMax = 2 ** 40
const headBytes = 8

/** Largest message, by type. */
export const messageBytesMax: ReadonlyArray<number> = [
  nonceBytes, nonceBytes, headBytes + 2 + serviceBytesMax, headBytes, headBytes + 3 + sentenceBytesMax,
  headBytes + chunkBytesMax, 2 * headBytes, headBytes, headBytes + 3 + sentenceBytesMax
]

export interface TunnelOptions {
  /** Bytes under way in each direction of a stream: sent and not yet taken by the reader. Both sides must agree, so it is part of the protocol. */
  readonly windowBytes: number
  /** The same for services of the node itself that carry much (`bulkPrefix`); part of the protocol as well. */
  readonly bulkWindowBytes: number
  /** Streams that one peer may have open here. */
  readonly streamsMax: number
  /** Streams that a peer may open in a burst, and each second after it. Who goes on for four bursts more is cut off. */
  readonly opensBurstMax: number
  readonly opensPerSecondMax: number
  /** Pings answered in a burst, and each second after it; more are not answered. */
  readonly pingsBurstMax: number
  readonly pingsPerSecondMax: number
  /** Pings of ours that are not answered yet. */
  readonly pingsUnderwayMax: number
  /** How long the other side may take to accept or refuse, and how long a target of ours may take to answer. */
  readonly openMs: number
  readonly dialMs: number
}

export const tunnelDefaults: TunnelOptions = {
  windowBytes: 262_144, bulkWindowBytes: 1_048_576, streamsMax: 64, opensBurstMax: 64, opensPerSecondMax: 16, pingsBurstMax: 32, pingsPerSecondMax: 16, pingsUnderwayMax: 64,
  openMs: 15_000, dialMs: 10_000
}

/**
 * Streams of services with this prefix carry whole packs. Measured over Noise and UDX with 300 MB on loopback: 57 to 83 MB/s with the window of other
 * streams, 100 with this one, 119 with 4 MiB, 118 to 155 with no window at all, which would let a peer fill our memory.
 */
export const bulkPrefix = "kos-pack/"

/** Why a stream was not opened; the number on the wire is the place in this list. */
export const refusalReasons = ["unknown", "denied", "busy", "unreachable", "failed"] as const
export type RefusalReason = (typeof refusalReasons)[number]

/** Why a stream ended before its time: `broken` by the program at its end, `cut` by the rules. */
export const closeReasons = ["broken", "idle", "cut", "stopping"] as const
export type CloseReason = (typeof closeReasons)[number]

/** One sentence for people goes with each reason. */
export interface Told<Reason> {
  readonly reason: Reason
  readonly sentence: string
}

export const encodeTold = <Reason extends string>(stream: number, told: Told<Reason>, reasons: ReadonlyArray<Reason>): Uint8Array =>
  new Writer().uint(stream).byte(reasons.indexOf(told.reason)).bytes(cutText(told.sentence)).take()

/** A reason of a newer version is read as the last one known: it says the least. */
export const decodeTold = <Reason extends string>(reader: Reader, reasons: readonly [Reason, ...ReadonlyArray<Reason>]): Told<Reason> => {
  const reason = reasons[reader.byte()] ?? reasons[reasons.length - 1] ?? reasons[0]
  const sentence = plainText(reader.text(sentenceBytesMax))
  reader.end()
  return { reason, sentence }
}

export const readStream = (reader: Reader): number => reader.uint(streamMax)

/** At most 256 bytes, never a half character. */
const cutText = (text: string): Uint8Array => {
  let short = text
  while (utf8(short).byteLength > sentenceBytesMax) short = short.slice(0, -1).toWellFormed()
  return utf8(short)
}

/** It will stand in a line of ours. */
const plainText = (text: string): string => text.replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/gu, " ")
