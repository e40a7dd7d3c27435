/**
 * The first words between two devices on a fresh byte stream, the same on LAN and in memory.
 *
 * Owns: one raw stream from its first byte until both sides have said yes, or its end.
 *
 * How it goes: Noise XX proves both device keys. Then each side asks its `refuse`. The initiator sends one greeting; the responder
 * decides with `accept` and answers with its own greeting; only that answer makes the connection one for the initiator. A refusal is
 * silence and a closed stream: a stranger learns nothing but that nobody wants it.
 *
 * Invariants: nothing above hears of a stream whose key is unproven or refused. A stream that has not finished in `deadlineMs` is gone.
 * Before Noise is done, the remote can make us hold at most `noiseMessageBytesMax` per message, although the frame header of
 * secret-stream could announce 16 MiB.
 *
 * Tricky cases:
 * - In XX the initiator's key travels (encrypted) before it can ask `refuse`: a stranger that we dial learns our device key.
 * - The initiator is "open" for Noise before the responder has judged it. Hence the answer: without it a refused initiator would
 *   believe for a moment that it is connected.
 * - Data may follow the greeting in the same chunk. The stream is paused after exactly one message; the rest waits inside it.
 */
import NoiseSecretStream, { type SecretStream } from "@hyperswarm/secret-stream"
import type { Duplex } from "node:stream"
import { fromHex, toHex } from "../../codec/bytes.ts"
import { asBuffer } from "../../codec/hash.ts"
import type { KeyPair } from "../../codec/signature.ts"
import type { Timers } from "./timers.ts"

/** What a device says of itself: a random name of this run (16 hex digits) and the port where it can be dialled, 0 for none. */
export interface Greeting {
  readonly instance: string
  readonly port: number
}

export interface Greeted {
  readonly stream: SecretStream
  readonly initiator: boolean
  readonly device: string
  readonly handshakeHash: Uint8Array
  readonly greeting: Greeting
}

export interface GreetOptions {
  readonly initiator: boolean
  readonly keyPair: KeyPair
  readonly greeting: Greeting
  readonly deadlineMs: number
  /** How often an idle connection says that it lives. */
  readonly keepAliveMs: number
  readonly timers: Timers
  /** Asked on both sides once the remote key is proven; a sentence refuses. */
  readonly refuse: (device: string) => string | undefined
  /** Asked on the responder's side last of all; a sentence refuses. */
  readonly accept: (device: string) => string | undefined
}

export type GreetFailure = "refused" | "malformed" | "deadline" | "closed"

export class GreetError extends Error {
  readonly kind: GreetFailure
  /** The proven remote key, when it came so far. */
  readonly device: string | undefined
  constructor(kind: GreetFailure, message: string, device: string | undefined) {
    super(message)
    this.kind = kind
    this.device = device
  }
}

/** Runs the greeting over a raw stream and owns that stream until it resolves. Rejects with `GreetError`, the stream destroyed. */
export const greet = (raw: Duplex, options: GreetOptions): Promise<Greeted> =>
  new Promise((resolve, reject) => {
    const { initiator, keyPair } = options
    let device: string | undefined
    let settled = false
    const stream = new NoiseSecretStream(initiator, raw, {
      keyPair: { publicKey: asBuffer(keyPair.publicKey), secretKey: asBuffer(keyPair.secretKey) }
    })
    // Stays for the stream's whole life: an error that nobody listens to would end the process.
    stream.on("error", () => {})
    const settle = (): boolean => {
      if (settled) return false
      settled = true
      cancelDeadline()
      stream.removeListener("data", onMessage)
      stream.removeListener("close", onClose)
      return true
    }
    const fail = (kind: GreetFailure, message: string): void => {
      if (!settle()) return
      stream.destroy()
      reject(new GreetError(kind, message, device))
    }
    const onClose = (): void => fail("closed", "the stream ended before the greeting was complete")
    const cancelDeadline = options.timers.after(options.deadlineMs,
      () => fail("deadline", `no greeting within ${options.deadlineMs} ms`))
    limitNoiseMessages(raw, initiator ? 1 : 2, () => fail("malformed", "a handshake message is too large"))

    stream.once("handshake", () => {
      const key = stream.remotePublicKey
      if (settled || key === null) return
      device = toHex(key)
      const refusal = options.refuse(device)
      if (refusal !== undefined) fail("refused", refusal)
    })
    stream.once("connect", () => {
      if (!settled && initiator) stream.write(encodeGreeting(options.greeting))
    })
    const onMessage = (message: Buffer): void => {
      const greeting = decodeGreeting(message)
      const hash = stream.handshakeHash
      if (greeting === undefined || device === undefined || hash === null) {
        return fail("malformed", "the greeting is malformed")
      }
      if (!initiator) {
        const refusal = options.accept(device)
        if (refusal !== undefined) return fail("refused", refusal)
        stream.write(encodeGreeting(options.greeting))
      }
      if (!settle()) return
      stream.pause()
      // Also makes secret-stream swallow the empty messages by which the other side keeps alive.
      stream.setKeepAlive(options.keepAliveMs)
      resolve({ stream, initiator, device, handshakeHash: new Uint8Array(hash), greeting })
    }
    stream.on("close", onClose)
    stream.on("data", onMessage)
  })

const greetingVersion = 1
const greetingBytes = 11
/** Noise XX messages with Ed25519 keys are 32 to 96 bytes. */
const noiseMessageBytesMax = 256

export const encodeGreeting = ({ instance, port }: Greeting): Buffer => {
  const out = Buffer.alloc(greetingBytes)
  out[0] = greetingVersion
  out.set(fromHex(instance).subarray(0, 8), 1)
  out.writeUInt16BE(port, 9)
  return out
}

/** Undefined for anything that is not a greeting of this version. */
export const decodeGreeting = (bytes: Uint8Array): Greeting | undefined => {
  if (bytes.byteLength !== greetingBytes || bytes[0] !== greetingVersion) return undefined
  const view = asBuffer(bytes)
  return { instance: toHex(view.subarray(1, 9)), port: view.readUInt16BE(9) }
}

/** Watches the 3-byte lengths of the first frames; secret-stream itself would accept 16 MiB from a stranger. */
const limitNoiseMessages = (raw: Duplex, messages: number, tooLarge: () => void): void => {
  let left = messages
  let header = 0
  let length = 0
  let skip = 0
  const onData = (chunk: Buffer): void => {
    let offset = 0
    while (left > 0 && offset < chunk.byteLength) {
      if (header < 3) {
        length += (chunk[offset] ?? 0) * 256 ** header
        header += 1
        offset += 1
        if (header === 3) {
          if (length > noiseMessageBytesMax) {
            raw.removeListener("data", onData)
            return tooLarge()
          }
          skip = length
        }
      } else {
        const step = Math.min(skip, chunk.byteLength - offset)
        skip -= step
        offset += step
      }
      if (header === 3 && skip === 0) {
        left -= 1
        header = 0
        length = 0
      }
    }
    if (left === 0) raw.removeListener("data", onData)
  }
  raw.on("data", onData)
}
