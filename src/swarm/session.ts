/**
 * One session per connection: from two devices that only know each other's key to two members that exchange logs.
 *
 *   hello        versions, the mesh (blinded), proof of the mesh key         → or refused
 *   have         hashes of the membership operations held, then `operations`: those that the other lacks, verified and kept
 *   ready        only now is the standing of the device decided              → or refused
 *   kos/heads    who holds how much (heads.ts), then replication; new membership operations go on being passed at once
 *
 * Why operations come before standing: the node that admitted this device may be away. The device brings the operations that prove it. Whoever
 * knows the mesh key but is not known here sends its operations first and learns ours only when they proved it (of two that do not know
 * each other the initiator begins).
 *
 * What a device that was put out gets. A refusal with a sentence (by whom, when, why), and before it, as `proof`, the operations that put it out
 * and what their authors knew when they wrote them: without these it would go on believing itself a member, and writing. Nothing that came
 * after, nothing written beside it elsewhere, no list of what is held here, no head, no block. It comes as far as that once a minute
 * (`door.ts`); what it sends meanwhile is not taken, but for the list of operations it holds, so that it is sent only what it lacks, and a
 * proof of its own, should it have put us out.
 * A device whose admission does not count (an invite raced in two parts of the mesh) is told the same way.
 *
 * Invariants
 * - Before `ready` of both sides nothing is told of logs and nothing is opened; a stranger costs at most `introductionBytesMax` and a few seconds.
 * - `ready` follows the other side's last operation: a node that was away knows of every revocation that its peer knows of before it takes
 *   a head or a block from it.
 * - Each message is handled after the one before it, also when that waits for the disk; what waits is bounded.
 * - A malformed message ends the session with a notice that names the device. A revoked device is cut off in the turn in which membership tells.
 *
 * Tricky cases
 * - The other side opens no `kos/session` because it is a candidate that pairs: `pairing` says so and the session stays out of the way.
 * - Both sides refuse at once: each goes on hearing until the connection is gone, so each reads the other's sentence. Two that revoked each
 *   other both wait for the other's list; after `dismissalMs` each sends its proof without having seen it.
 */
import { equalBytes, shortKey, toHex } from "../codec/bytes.ts"
import { hashParts } from "../codec/hash.ts"
import { Malformed } from "../codec/malformed.ts"
import type { Connection } from "./carrier.ts"
import { startHeads, type Heads, type HeadsEvents, type HeadsOptions } from "./heads.ts"
import {
  commonVersion, decodeHello, decodeRefusal, encodeHello, encodeRefusal, helloOf, refusalText, versions, type Refusal, type Told, type Versions
} from "./hello.ts"
import type { SwarmHost } from "./host.ts"
import { type GuardedMux, openWire } from "./mux.ts"
import { Reader, Writer } from "./wire.ts"

export interface SessionOptions {
  readonly heads: HeadsOptions
  readonly helloMs: number
  readonly operationsMs: number
  readonly readyMs: number
  /** Everything read from a device before it is known to be a member. */
  readonly introductionBytesMax: number
  readonly operationBytesMax: number
  readonly operationsMax: number
  /** Bytes of messages that wait for their turn. */
  readonly pendingBytesMax: number
  /** A refusal is given this long to reach the other side. */
  readonly farewellMs: number
  /** A device that was put out is given this long to say which operations it holds. */
  readonly dismissalMs: number
  /** Operations sent to a device to prove that it was put out; more are not sent. */
  readonly proofBytesMax: number
  readonly versions: Versions
}

export const sessionDefaults: Omit<SessionOptions, "heads"> = {
  helloMs: 5_000,
  operationsMs: 5_000,
  readyMs: 10_000,
  introductionBytesMax: 655_360,
  operationBytesMax: 65_536,
  operationsMax: 8_192,
  pendingBytesMax: 4_194_304,
  farewellMs: 200,
  dismissalMs: 1_000,
  proofBytesMax: 1_048_576,
  versions
}

/** Operations of a device that nobody here knows. */
const unknownOperationBytesMax = 262_144
const hashesPerMessage = 1_024
const operationMessageBytes = 131_072
/** What a slow line takes: the connection is kept for so long when a proof was sent. */
const proofBytesPerMs = 64

export interface SessionEnd {
  /** Our reason, when we refused. */
  readonly refusal?: Refusal
  readonly why: string
}

export interface Session {
  readonly connection: Connection
  readonly device: string
  readonly mux: GuardedMux
  readonly heads: Heads
  readonly phase: () => "hello" | "operations" | "ready" | "ended"
  /** The version that both speak; 0 before the hello. */
  readonly version: () => number
  /** Membership changed: is the device still one, what is new to it, what is new to us? */
  readonly review: () => void
  /** With a refusal `why` is the sentence for the other side; empty for the usual one. */
  readonly end: (refusal: Refusal | undefined, why: string) => void
  readonly ended: Promise<SessionEnd>
}

export interface SessionEvents {
  readonly heads: Omit<HeadsEvents, "onFault" | "aboutToBegin">
  /** Both sides are members and ready. */
  readonly onReady: () => void
  /** The other side refused us. */
  readonly onRefused: (told: Told) => void
  /** The connection pairs; a missing hello is then no fault. */
  readonly pairing: () => boolean
}

const hello = 0
const refused = 1
const have = 2
const operations = 3
const ready = 4
const proof = 5

export const startSession = (host: SwarmHost, connection: Connection, mux: GuardedMux, options: SessionOptions, events: SessionEvents): Session => {
  const device = connection.device
  const name = `${shortKey(device)} (${connection.carrier} ${connection.remote})`
  const theirs = new Set<string>()
  let phase: "hello" | "operations" | "ready" | "ended" = "hello"
  let hashesDone = false
  let operationsDone = false
  let operationsSent = false
  let readySent = false
  let readyCame = false
  let readyHeard = false
  let operationBytes = 0
  let pendingBytes = 0
  let bytesRead = 0
  let version = 0
  /** It was put out, and is only to learn why. */
  let dismissing = false
  let tail: Promise<void> = Promise.resolve()
  let timer: NodeJS.Timeout | undefined
  let resolveEnded: (end: SessionEnd) => void = () => undefined
  const ended = new Promise<SessionEnd>((resolve) => { resolveEnded = resolve })

  const onFault = (fault: Malformed | Error): void => {
    host.notice("warn", `${name} sent a malformed message: ${fault.message}`, { device, carrier: connection.carrier, remote: connection.remote })
    end("malformed", `${refusalText.malformed}: ${fault.message}`)
  }
  mux.onFault = onFault

  /** Something of ours failed while a message was handled: the peer is not to blame. */
  const onFailure = (fault: unknown): void => {
    if (fault instanceof Malformed) return onFault(fault)
    host.notice("warn", `the session with ${name} failed here: ${fault instanceof Error ? fault.message : String(fault)}`, { device })
    end(undefined, "it failed here")
  }

  const onBytes = (bytes: Uint8Array): void => {
    bytesRead += bytes.byteLength
    if (phase === "ready" || host.membership.standing(device) === "member") return
    if (bytesRead > options.introductionBytesMax) onFault(new Error(`${bytesRead} bytes before it was known to be a member`))
  }

  const arm = (ms: number, what: string): void => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      if (phase === "hello" && events.pairing()) arm(ms, what)
      else if (dismissing) dismiss()
      else if (phase === "operations" && host.membership.standing(device) === "unknown") end("notMember", `${refusalText.notMember}: no proof of it came within ${ms} ms`)
      else end("tooSlow", `${refusalText.tooSlow}: ${what} took more than ${ms} ms`)
    }, ms)
  }

  const dismiss = (): void => {
    const standing = host.membership.standing(device)
    const sentence = host.membership.dismissal(device)?.sentence ?? ""
    end(standing === "revoked" ? "revoked" : "notMember", sentence)
  }

  const wire = openWire(mux, {
    protocol: "kos/session",
    bytesMax: [256, 2_048, 32 * hashesPerMessage + 16, 2 * operationMessageBytes, 64, 2 * operationMessageBytes],
    onMessage: (type, bytes) => {
      pendingBytes += bytes.byteLength
      if (type === ready) readyCame = true
      const copy = type === operations || type === proof ? bytes : bytes.slice()
      if (pendingBytes > options.pendingBytesMax) throw new Reader("kos/session", copy).fault(`more than ${options.pendingBytesMax} bytes wait for their turn`)
      tail = tail.then(async () => {
        if (phase !== "ended" || type === refused || (type === proof && version > 0)) await handle(type, copy)
        pendingBytes -= bytes.byteLength
      }).catch(onFailure)
    },
    onFault,
    onClose: () => {
      if (phase !== "ended" && !(phase === "hello" && events.pairing())) end(undefined, "the other side closed the session")
    }
  })

  const heads = startHeads(host, mux, device, options.heads, { ...events.heads, onFault, aboutToBegin: () => readyCame && readySent })

  const handle = async (type: number, bytes: Uint8Array): Promise<void> => {
    const reader = new Reader(`kos/session message ${type}`, bytes)
    if (type === refused) {
      const told = decodeRefusal(bytes)
      host.notice(told.refusal === "stopping" ? "debug" : "info", `${name} refused: ${told.sentence}`, { device })
      events.onRefused(told)
      if (dismissing) dismiss()
      else end(undefined, `refused: ${told.sentence}`)
    } else if (type === hello) {
      if (phase !== "hello") throw reader.fault("it came twice")
      onHello(bytes)
    } else if (phase === "hello") {
      throw reader.fault("it came before the hello")
    } else if (type === have) {
      onHave(reader)
    } else if (type === proof) {
      await onProof(reader)
    } else if (dismissing) {
      return
    } else if (type === operations) {
      await onOperations(reader)
    } else {
      if (readyHeard) throw reader.fault("it came twice")
      readyHeard = true
      begin()
    }
  }

  const onHello = (bytes: Uint8Array): void => {
    const found = decodeHello(bytes)
    const common = commonVersion(options.versions, found)
    if (typeof common === "string") {
      // It finds the same, and may be too old to say so in a way that is understood here.
      events.onRefused({ refusal: "version", sentence: String(commonVersion(found, options.versions)) })
      return end("version", common)
    }
    const expected = helloOf(host, connection, false)
    if (!equalBytes(found.mesh, expected.mesh)) return end("otherMesh", "")
    if (!equalBytes(found.proof, expected.proof)) return end("notMember", `${refusalText.notMember}: the proof of the mesh's key does not fit`)
    version = common
    phase = "operations"
    if (host.membership.standing(device) === "revoked") {
      dismissing = true
      return arm(options.dismissalMs, "")
    }
    arm(options.operationsMs, "the exchange of membership operations")
    const hashes = host.membership.operations().slice(-options.operationsMax).map(operationHash)
    for (let start = 0; start < hashes.length || start === 0; start += hashesPerMessage) {
      const part = hashes.slice(start, start + hashesPerMessage)
      const writer = new Writer().byte(start + part.length >= hashes.length ? 1 : 0)
      for (const hash of part) writer.hex(hash)
      wire?.send(have, writer.take())
    }
  }

  const onHave = (reader: Reader): void => {
    if (hashesDone) throw reader.fault("it came after the last one")
    hashesDone = reader.byte() === 1
    while (reader.left > 0) theirs.add(reader.hex(32))
    if (theirs.size > options.operationsMax) throw reader.fault(`more than ${options.operationsMax} hashes`)
    if (dismissing) {
      if (hashesDone) dismiss()
      return
    }
    if (hashesDone && (connection.initiator || host.membership.standing(device) === "member")) sendOperations()
  }

  /** What the other side lacks, parents before children; also later, whenever membership changes. */
  const sendOperations = (): void => {
    const first = !operationsSent
    operationsSent = true
    let writer = new Writer()
    let some = first
    for (const operation of host.membership.operations()) {
      const hash = operationHash(operation)
      if (theirs.has(hash)) continue
      theirs.add(hash)
      if (writer.size + operation.byteLength > operationMessageBytes && writer.size > 0) {
        wire?.send(operations, Buffer.concat([Uint8Array.of(0), writer.take()]))
        writer = new Writer()
      }
      writer.bytes(operation)
      some = true
    }
    if (some) wire?.send(operations, Buffer.concat([Uint8Array.of(1), writer.take()]))
  }

  const onOperations = async (reader: Reader): Promise<void> => {
    if (!hashesDone) throw reader.fault("it came before the hashes")
    const last = reader.byte() === 1
    await take(reader)
    if (hasEnded() || !last || operationsDone) return
    operationsDone = true
    if (host.membership.standing(device) !== "member") return dismiss()
    if (!operationsSent) sendOperations()
    readySent = true
    wire?.send(ready, new Uint8Array(0))
    arm(options.readyMs, "the other side's consent")
    begin()
  }

  const take = async (reader: Reader): Promise<void> => {
    const brought: Array<Uint8Array> = []
    while (reader.left > 0) brought.push(reader.bytes(options.operationBytesMax))
    operationBytes += brought.reduce((sum, operation) => sum + operation.byteLength, 0)
    if (host.membership.standing(device) !== "member" && operationBytes > unknownOperationBytesMax) {
      throw reader.fault(`${operationBytes} bytes of operations from a device that is not known`)
    }
    for (const operation of brought) theirs.add(operationHash(operation))
    if (theirs.size > 2 * options.operationsMax) throw reader.fault("too many operations in one session")
    if (brought.length > 0) await host.membership.offer(brought)
  }

  /** We were put out, and this is what says so; the refusal follows. */
  const onProof = async (reader: Reader): Promise<void> => {
    reader.byte()
    await take(reader)
  }

  /** Bytes sent. Only to a device that has proven the mesh key. */
  const sendProof = (): number => {
    if (phase === "hello") return 0
    const lacking = (host.membership.dismissal(device)?.proof() ?? []).filter((operation) => !theirs.has(operationHash(operation)))
    const bytes = lacking.reduce((sum, operation) => sum + operation.byteLength, 0)
    if (bytes > options.proofBytesMax) return 0
    let writer = new Writer().byte(1)
    for (const [index, operation] of lacking.entries()) {
      writer.bytes(operation)
      if (writer.size < operationMessageBytes && index < lacking.length - 1) continue
      wire?.send(proof, writer.take())
      writer = new Writer().byte(1)
    }
    return bytes
  }

  const begin = (): void => {
    if (!readySent || !readyHeard || phase !== "operations") return
    if (host.membership.standing(device) !== "member") return review()
    phase = "ready"
    clearTimeout(timer)
    connection.stream.off("data", onBytes)
    events.onReady()
    heads.begin()
  }

  const hasEnded = (): boolean => phase === "ended"

  const review = (): void => {
    // A hello that is still to come is judged when it comes; a device that is being put out already waits for its sentence.
    if (phase === "ended" || phase === "hello" || dismissing) return
    const standing = host.membership.standing(device)
    if (standing === "revoked" || (phase === "ready" && standing === "unknown")) return dismiss()
    if (phase !== "ready") return
    sendOperations()
    heads.review()
  }

  const end = (refusal: Refusal | undefined, why: string): void => {
    if (phase === "ended") return
    const told = phase
    const sentBytes = refusal === "revoked" || refusal === "notMember" ? sendProof() : 0
    phase = "ended"
    clearTimeout(timer)
    connection.stream.off("data", onBytes)
    heads.end()
    if (refusal !== undefined && wire !== undefined && !wire.closed()) {
      const sentence = why === "" ? refusalText[refusal] : why
      wire.send(refused, encodeRefusal(refusal, sentence))
      host.notice(refusal === "stopping" ? "debug" : "info", `${name} was refused: ${sentence}`, { device, phase: told })
      setTimeout(() => connection.destroy(), options.farewellMs + Math.ceil(sentBytes / proofBytesPerMs))
    } else {
      connection.destroy()
    }
    resolveEnded({ why, ...(refusal === undefined ? {} : { refusal }) })
  }

  connection.stream.on("data", onBytes)
  void connection.closed.then(() => end(undefined, "the connection ended"))
  arm(options.helloMs, "the hello")
  wire?.send(hello, encodeHello(helloOf(host, connection, true, options.versions)))

  return { connection, device, mux, heads, phase: () => phase, version: () => version, review, end, ended }
}

const hashes = new WeakMap<Uint8Array, string>()

/** Names an operation in this exchange; kept, because a node with many peers tells the same ones again and again. */
const operationHash = (operation: Uint8Array): string => {
  const known = hashes.get(operation)
  if (known !== undefined) return known
  const hash = toHex(hashParts("kos/operation/1", operation))
  hashes.set(operation, hash)
  return hash
}
