/**
 * How a device that is nobody's member yet becomes one: `kos invite` here, `kos join` there.
 *
 * Both meet at a topic made from the invite's public key. The candidate opens `kos/pairing` on the Noise stream and sends one request, built above us:
 * the invite's public key, its own log key and name, and a signature made with the invite's secret, over the handshake hash. The member
 * redeems it (decides, records, answers) and the answer, which holds the mesh key and the operations, goes back inside this one stream, so only
 * to the device that Noise has proven.
 *
 * Invariants: one request for each connection; every size and time is bounded; an address that brings ten wrong invites within a minute is
 * refused unread until the minute is over. What a request means is not known here.
 */
import { shortKey } from "../codec/bytes.ts"
import type { Malformed } from "../codec/malformed.ts"
import type { Connection } from "./carrier.ts"
import { type GuardedMux, openWire, type Wire } from "./mux.ts"
import { Reader, Writer } from "./wire.ts"

export const pairingRefusals = ["used", "expired", "withdrawn", "unknown", "malformed", "busy"] as const
export type PairingRefusal = (typeof pairingRefusals)[number]

export type Redeemed =
  | { readonly accepted: Uint8Array }
  | { readonly refused: PairingRefusal; readonly detail: string }

/** Decides about a request of a proven device; must itself see to single use. */
export type Redeem = (request: Uint8Array, device: string, handshakeHash: Uint8Array) => Promise<Redeemed>

export interface PairingOptions {
  readonly requestBytesMax: number
  readonly answerBytesMax: number
  /** For the request to come, and for the answer. */
  readonly requestMs: number
  readonly answerMs: number
  readonly wrongPerMinuteMax: number
  readonly addressesMax: number
}

export const pairingDefaults: PairingOptions = {
  requestBytesMax: 16_384, answerBytesMax: 1_048_576, requestMs: 10_000, answerMs: 30_000, wrongPerMinuteMax: 10, addressesMax: 1_024
}

const protocol = "kos/pairing"
const request = 0
const answer = 1

/** Counts wrong invites for each address over a minute. */
export interface WrongInvites {
  readonly refused: (address: string) => boolean
  readonly count: (address: string) => void
}

export const makeWrongInvites = (options: PairingOptions, now: () => number): WrongInvites => {
  const seen = new Map<string, { since: number; count: number }>()
  const fresh = (address: string): { since: number; count: number } | undefined => {
    const found = seen.get(address)
    if (found === undefined || now() - found.since < 60_000) return found
    seen.delete(address)
    return undefined
  }
  return {
    refused: (address) => (fresh(address)?.count ?? 0) >= options.wrongPerMinuteMax,
    count: (address) => {
      const found = fresh(address)
      if (found !== undefined) found.count += 1
      else {
        const oldest = seen.keys().next().value
        if (seen.size >= options.addressesMax && oldest !== undefined) seen.delete(oldest)
        seen.set(address, { since: now(), count: 1 })
      }
    }
  }
}

/** The address without its port, so that a new connection does not count as a new address. */
export const addressOf = (connection: Connection): string => connection.remote.replace(/:\d+$/, "")

export interface ServePairing {
  /** A request is being waited for or answered on this connection. */
  readonly busy: () => boolean
  /** Resolves when the one request has been answered, refused or given up. */
  readonly done: Promise<void>
  readonly end: () => void
}

/** The member's side: answers the candidate's one request, if it comes. */
export const servePairing = (
  connection: Connection, mux: GuardedMux, options: PairingOptions, wrong: WrongInvites, redeem: Redeem,
  notice: (level: "info" | "warn", text: string) => void
): ServePairing => {
  const name = `${shortKey(connection.device)} (${connection.carrier} ${connection.remote})`
  const address = addressOf(connection)
  let finished = false
  let asked = false
  let wire: Wire | undefined
  let resolveDone: () => void = () => undefined
  const done = new Promise<void>((resolve) => { resolveDone = resolve })
  const timer = setTimeout(() => end(), options.requestMs)

  const end = (): void => {
    if (finished) return
    finished = true
    clearTimeout(timer)
    mux.unpair({ protocol })
    resolveDone()
  }

  const refuse = (refused: PairingRefusal, detail: string): void => {
    notice("info", `${name} could not join: ${refused}, ${detail}`)
    wire?.send(answer, encodeAnswer({ refused, detail }))
    end()
  }

  const onFault = (fault: Malformed): void => {
    wrong.count(address)
    notice("warn", `${name} sent a malformed message: ${fault.message}`)
    refuse("malformed", fault.why)
  }

  const onRequest = async (bytes: Uint8Array): Promise<void> => {
    if (wrong.refused(address)) return refuse("busy", `too many wrong invites from ${address}, try again in a minute`)
    const redeemed = await redeem(bytes, connection.device, connection.handshakeHash)
    if (finished) return
    if ("refused" in redeemed) {
      wrong.count(address)
      return refuse(redeemed.refused, redeemed.detail)
    }
    if (redeemed.accepted.byteLength > options.answerBytesMax) return refuse("busy", `the answer has ${redeemed.accepted.byteLength} bytes, at most ${options.answerBytesMax} are sent`)
    wire?.send(answer, encodeAnswer(redeemed))
    notice("info", `${name} joined`)
    end()
  }

  mux.pair({ protocol }, () => {
    if (finished || wire !== undefined) return
    wire = openWire(mux, {
      protocol,
      bytesMax: [options.requestBytesMax, 0],
      onMessage: (type, bytes) => {
        if (finished) return
        if (type !== request || asked) throw new Reader("kos/pairing request", bytes).fault("only one is allowed on a connection")
        asked = true
        timer.refresh()
        onRequest(bytes.slice()).catch((fault: unknown) => refuse("busy", `it failed here: ${fault instanceof Error ? fault.message : String(fault)}`))
      },
      onFault,
      onClose: end
    })
  })
  void connection.closed.then(end)
  return { busy: () => !finished, done, end }
}

/** The candidate's side: sends the request and waits for the answer; `undefined` when the other side does not pair or goes away. */
export const requestPairing = (
  connection: Connection, mux: GuardedMux, options: PairingOptions, build: (connection: Connection) => Uint8Array
): Promise<Redeemed | undefined> => new Promise((resolve) => {
  const finish = (found: Redeemed | undefined): void => {
    clearTimeout(timer)
    resolve(found)
  }
  const timer = setTimeout(() => finish(undefined), options.answerMs)
  const wire = openWire(mux, {
    protocol,
    bytesMax: [0, options.answerBytesMax + 16],
    onMessage: (_type, bytes) => finish(decodeAnswer(bytes, options.answerBytesMax)),
    onFault: (fault) => finish({ refused: "malformed", detail: fault.message }),
    onClose: () => finish(undefined)
  })
  void connection.closed.then(() => finish(undefined))
  if (wire === undefined) return finish(undefined)
  wire.send(request, build(connection))
})

export interface PairingAttempt {
  readonly onConnection: (connection: Connection, mux: GuardedMux) => void
  /** The first final answer; the last other one, or `undefined`, when the time is over. */
  readonly found: Promise<Redeemed | undefined>
}

/** Asks whoever is met, one after the other, so that a single-use invite is redeemed once. */
export const attemptPairing = (options: PairingOptions, build: (connection: Connection) => Uint8Array, timeoutMs: number): PairingAttempt => {
  let last: Redeemed | undefined
  let over = false
  let turn: Promise<void> = Promise.resolve()
  let resolveFound: (found: Redeemed | undefined) => void = () => undefined
  const found = new Promise<Redeemed | undefined>((resolve) => { resolveFound = resolve })
  const finish = (answer: Redeemed | undefined): void => {
    over = true
    clearTimeout(timer)
    resolveFound(answer)
  }
  const timer = setTimeout(() => finish(last), timeoutMs)
  return {
    found,
    onConnection: (connection, mux) => {
      turn = turn.then(async () => {
        const answer = over ? undefined : await requestPairing(connection, mux, options, build)
        connection.destroy()
        if (answer === undefined || over) return
        last = answer
        // A member that has not heard of the invite yet is no verdict: another may have.
        if ("accepted" in answer || answer.refused !== "unknown" && answer.refused !== "busy") finish(answer)
      })
    }
  }
}

const encodeAnswer = (redeemed: Redeemed): Uint8Array => "accepted" in redeemed
  ? new Writer().byte(1).bytes(redeemed.accepted).take()
  : new Writer().byte(0).uint(pairingRefusals.indexOf(redeemed.refused)).text(redeemed.detail.slice(0, 200)).take()

const decodeAnswer = (bytes: Uint8Array, bytesMax: number): Redeemed => {
  const reader = new Reader("kos/pairing answer", bytes)
  if (reader.byte() === 1) {
    const accepted = reader.bytes(bytesMax)
    reader.end()
    return { accepted }
  }
  const refused = pairingRefusals[reader.uint(pairingRefusals.length - 1)] ?? "malformed"
  const detail = reader.text(1_000).replace(/[^\x20-\x7e]/g, "?")
  reader.end()
  return { refused, detail }
}
