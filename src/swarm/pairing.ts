/**
 * How a device that is nobody's member becomes one: `kos invite` here, `kos join` there.
 *
 * Both meet at a topic made from the invite's public key. The candidate opens `kos/pairing` on the Noise stream. Two questions go one way and
 * two answers come back (`codec/pairing.ts` says what is in them; here they are bytes): the first proves to each side that the other knows the
 * invite, the second asks to be admitted. The redeemer decides, records and answers with the mesh key and the operations, inside this
 * one stream, so only to the device that Noise has proven. When a person has to confirm, `waiting` comes first.
 *
 * Invariants: two questions for each connection, in this order; every size and time is bounded; an address that brings ten wrong invites within a
 * minute is refused unread until the minute is over; a candidate that goes away while it waits for a person is forgotten.
 */
import { shortKey } from "../codec/bytes.ts"
import type { Malformed } from "../codec/malformed.ts"
import { pairingAnswerBytesMax, pairingRequestBytesMax } from "../codec/pairing.ts"
import type { Connection } from "./carrier.ts"
import { printable } from "./hello.ts"
import { type GuardedMux, openWire, type Wire } from "./mux.ts"
import { Reader, Writer } from "./wire.ts"

export const pairingRefusals = ["used", "expired", "withdrawn", "unknown", "malformed", "busy", "elsewhere", "declined"] as const
export type PairingRefusal = (typeof pairingRefusals)[number]

export interface PairingRefused {
  readonly refused: PairingRefusal
  readonly detail: string
}

/** How it ended. */
export type Redeemed = { readonly accepted: Uint8Array } | PairingRefused

/** What the redeemer says to a question. */
export type PairingReply =
  | Redeemed
  /** To the first: which mesh this is. */
  | { readonly offered: Uint8Array }
  /** A person decides; `abandon` tells that the candidate went away. */
  | { readonly waiting: Uint8Array; readonly decided: Promise<Redeemed>; readonly abandon: () => void }

/** Answers the questions of a proven device; must itself see to single use. */
export type Redeem = (question: Uint8Array, device: string, handshakeHash: Uint8Array) => Promise<PairingReply>

/** The candidate's side of what is said. */
export interface Candidate {
  readonly open: (connection: Connection) => Uint8Array
  /** The second question, when what was offered is believed. */
  readonly request: (offered: Uint8Array, connection: Connection) => { readonly request: Uint8Array } | PairingRefused
  /** A person has to confirm over there. */
  readonly waiting: (bytes: Uint8Array, connection: Connection) => PairingRefused | undefined
  /** Does what was answered prove the admission? */
  readonly check: (accepted: Uint8Array, connection: Connection) => Promise<PairingRefused | undefined>
}

export interface PairingOptions {
  readonly requestBytesMax: number
  readonly answerBytesMax: number
  /** For a question to come, and for its answer. */
  readonly requestMs: number
  readonly answerMs: number
  /** For a person to confirm, and a little more. */
  readonly waitMs: number
  readonly wrongPerMinuteMax: number
  readonly addressesMax: number
}

export const pairingDefaults: PairingOptions = {
  requestBytesMax: pairingRequestBytesMax, answerBytesMax: pairingAnswerBytesMax, requestMs: 10_000, answerMs: 30_000, waitMs: 630_000,
  wrongPerMinuteMax: 10, addressesMax: 1_024
}

const protocol = "kos/pairing"
const question = 0
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
  /** A question is being waited for or answered on this connection. */
  readonly busy: () => boolean
  /** A person here is asked about it. */
  readonly waiting: () => boolean
  /** Bytes of the last answer: so much has to get through before the connection may be ended. */
  readonly answerBytes: () => number
  /** Resolves when the last question has been answered, refused or given up. */
  readonly done: Promise<void>
  readonly end: () => void
}

/** The member's side: answers the candidate's questions, if they come. */
export const servePairing = (
  connection: Connection, mux: GuardedMux, options: PairingOptions, wrong: WrongInvites, redeem: Redeem,
  notice: (level: "info" | "warn", text: string) => void
): ServePairing => {
  const name = `${shortKey(connection.device)} (${connection.carrier} ${connection.remote})`
  const address = addressOf(connection)
  let finished = false
  /** Questions that came, and those answered. */
  let asked = 0
  let answered = 0
  let answerBytes = 0
  let abandon: (() => void) | undefined
  let wire: Wire | undefined
  let resolveDone: () => void = () => undefined
  const done = new Promise<void>((resolve) => { resolveDone = resolve })
  let timer = setTimeout(() => end(), options.requestMs)

  const arm = (ms: number): void => {
    clearTimeout(timer)
    timer = setTimeout(() => end(), ms)
  }

  const end = (): void => {
    if (finished) return
    finished = true
    clearTimeout(timer)
    mux.unpair({ protocol })
    abandon?.()
    resolveDone()
  }

  const say = (reply: Said): void => {
    const bytes = encodeSaid(reply)
    answerBytes = bytes.byteLength
    wire?.send(answer, bytes)
  }

  const refuse = (refused: PairingRefusal, detail: string): void => {
    notice("info", `${name} could not join: ${refused}, ${detail}`)
    say({ refused, detail })
    end()
  }

  const onFault = (fault: Malformed): void => {
    wrong.count(address)
    notice("warn", `${name} sent a malformed message: ${fault.message}`)
    refuse("malformed", fault.why)
  }

  const settle = (redeemed: Redeemed): void => {
    if (finished) return
    if ("refused" in redeemed) {
      if (redeemed.refused !== "busy" && redeemed.refused !== "elsewhere") wrong.count(address)
      return refuse(redeemed.refused, redeemed.detail)
    }
    if (redeemed.accepted.byteLength > options.answerBytesMax) return refuse("busy", `the answer has ${redeemed.accepted.byteLength} bytes, at most ${options.answerBytesMax} are sent`)
    say(redeemed)
    notice("info", `${name} joined`)
    end()
  }

  const onQuestion = async (bytes: Uint8Array): Promise<void> => {
    if (wrong.refused(address)) return refuse("busy", `too many wrong invites from ${address}, try again in a minute`)
    const reply = await redeem(bytes, connection.device, connection.handshakeHash)
    if (finished) {
      if ("waiting" in reply) reply.abandon()
      return
    }
    answered += 1
    if ("offered" in reply) {
      arm(options.requestMs)
      say(reply)
    } else if ("waiting" in reply) {
      abandon = reply.abandon
      arm(options.waitMs)
      say({ waiting: reply.waiting })
      const decided = await reply.decided
      abandon = undefined
      settle(decided)
    } else {
      settle(reply)
    }
  }

  mux.pair({ protocol }, () => {
    if (finished || wire !== undefined) return
    wire = openWire(mux, {
      protocol,
      bytesMax: [options.requestBytesMax, 0],
      onMessage: (type, bytes) => {
        if (finished) return
        if (type !== question || asked >= questionsMax || asked > answered) throw new Reader("kos/pairing question", bytes).fault("two are allowed on a connection, one after the other")
        asked += 1
        arm(options.answerMs)
        onQuestion(bytes.slice()).catch((fault: unknown) => refuse("busy", `it failed here: ${fault instanceof Error ? fault.message : String(fault)}`))
      },
      onFault,
      onClose: end
    })
  })
  void connection.closed.then(end)
  return { busy: () => !finished, waiting: () => !finished && abandon !== undefined, answerBytes: () => answerBytes, done, end }
}

/** To open, and to ask. */
const questionsMax = 2

/** How one connection answered. */
export interface Asked {
  readonly redeemed: Redeemed
  /** It is of the mesh, and what it says is the mesh's word; else another that is met may say otherwise. */
  readonly isFinal: boolean
}

/** Refusals that another member may see otherwise. */
const passing: ReadonlySet<PairingRefusal> = new Set(["unknown", "busy", "elsewhere"])

/** The candidate's side: asks and waits for the answers; `undefined` when the other side does not pair or goes away. */
export const requestPairing = (
  connection: Connection, mux: GuardedMux, options: PairingOptions, candidate: Candidate
): Promise<Asked | undefined> => new Promise((resolve) => {
  let timer = setTimeout(() => finish(undefined), options.answerMs)
  let step: "offer" | "answer" | "decision" | "checking" = "offer"
  const finish = (found: Asked | undefined): void => {
    clearTimeout(timer)
    resolve(found)
  }
  const refuse = (redeemed: PairingRefused): void => finish({ redeemed, isFinal: false })
  /** What was answered already is being looked at: the connection has done its part. */
  const gone = (): void => {
    if (step !== "checking") finish(undefined)
  }
  const arm = (ms: number): void => {
    clearTimeout(timer)
    timer = setTimeout(() => finish(undefined), ms)
  }
  const wire = openWire(mux, {
    protocol,
    bytesMax: [0, options.answerBytesMax + 16],
    onMessage: (_type, bytes) => {
      const said = decodeSaid(bytes, options.answerBytesMax)
      if (step === "checking") return
      if ("refused" in said) {
        finish({ redeemed: said, isFinal: step !== "offer" && !passing.has(said.refused) })
      } else if ("accepted" in said && step !== "offer") {
        clearTimeout(timer)
        step = "checking"
        candidate.check(said.accepted, connection).then(
          (fault) => fault === undefined ? finish({ redeemed: said, isFinal: true }) : refuse(fault),
          (fault: unknown) => refuse({ refused: "malformed", detail: String(fault) })
        )
      } else if ("offered" in said && step === "offer") {
        const next = candidate.request(said.offered, connection)
        if ("refused" in next) return refuse(next)
        step = "answer"
        arm(options.answerMs)
        wire?.send(question, next.request)
      } else if ("waiting" in said && step === "answer") {
        const fault = candidate.waiting(said.waiting, connection)
        if (fault !== undefined) return refuse(fault)
        step = "decision"
        arm(options.waitMs)
      } else {
        refuse({ refused: "malformed", detail: "it answered out of turn" })
      }
    },
    onFault: (fault) => refuse({ refused: "malformed", detail: fault.message }),
    onClose: () => gone()
  })
  void connection.closed.then(() => gone())
  if (wire === undefined) return finish(undefined)
  wire.send(question, candidate.open(connection))
})

export interface PairingAttempt {
  readonly onConnection: (connection: Connection, mux: GuardedMux) => void
  /** The first final answer; the last other one, or `undefined`, when the time is over. */
  readonly found: Promise<Redeemed | undefined>
}

/**
 * Asks whoever is met, one after the other, so that a single-use invite is redeemed once. While a person over there compares words, the
 * time does not run out.
 */
export const attemptPairing = (options: PairingOptions, candidate: Candidate, timeoutMs: number): PairingAttempt => {
  let last: Redeemed | undefined
  let over = false
  let late = false
  let waiting = false
  let turn: Promise<void> = Promise.resolve()
  let resolveFound: (found: Redeemed | undefined) => void = () => undefined
  const found = new Promise<Redeemed | undefined>((resolve) => { resolveFound = resolve })
  const finish = (answer: Redeemed | undefined): void => {
    over = true
    clearTimeout(timer)
    resolveFound(answer)
  }
  const timer = setTimeout(() => {
    late = true
    if (!waiting) finish(last)
  }, timeoutMs)
  const patient: Candidate = {
    ...candidate,
    waiting: (bytes, connection) => {
      const fault = candidate.waiting(bytes, connection)
      waiting = fault === undefined
      return fault
    }
  }
  return {
    found,
    onConnection: (connection, mux) => {
      turn = turn.then(async () => {
        const answer = over ? undefined : await requestPairing(connection, mux, options, patient)
        connection.destroy()
        waiting = false
        if (over) return
        if (answer !== undefined) {
          last = answer.redeemed
          if (answer.isFinal) return finish(answer.redeemed)
        }
        if (late) finish(last)
      })
    }
  }
}

type Said = Redeemed | { readonly offered: Uint8Array } | { readonly waiting: Uint8Array }

const encodeSaid = (said: Said): Uint8Array => {
  if ("refused" in said) return new Writer().byte(0).uint(pairingRefusals.indexOf(said.refused)).text(said.detail.slice(0, 200)).take()
  if ("accepted" in said) return new Writer().byte(1).bytes(said.accepted).take()
  return "offered" in said ? new Writer().byte(2).bytes(said.offered).take() : new Writer().byte(3).bytes(said.waiting).take()
}

/** What follows the known fields is left to later versions. */
const decodeSaid = (bytes: Uint8Array, bytesMax: number): Said => {
  const reader = new Reader("kos/pairing answer", bytes)
  const kind = reader.byte()
  if (kind === 0) return { refused: pairingRefusals[reader.uint(255)] ?? "malformed", detail: printable(reader.text(1_000)) }
  if (kind === 1) return { accepted: reader.bytes(bytesMax) }
  if (kind === 2) return { offered: reader.bytes(bytesMax) }
  if (kind === 3) return { waiting: reader.bytes(bytesMax) }
  throw reader.fault(`an answer of kind ${kind}`)
}
