/**
 * What candidate and redeemer say to each other when an invite is redeemed. Each message is a CBOR array inside a Noise stream that has
 * proven both device keys; the carrier takes them as opaque bytes. What follows the known fields is left to later versions.
 *
 * ```text
 * candidate  [2, "open", proof 32]                          I hold an invite of yours (which one is not said in the clear)
 * redeemer   [2, "offer", mesh, mesh name, role, issuer, certificate, proof 32, commit 32]
 * candidate  [2, "request", invite, log, name, proof 64, nonce 32, signer 32, held 64]
 * redeemer   [2, "waiting", nonce 32]                       a person here has to compare six words; only for admins and owners
 * redeemer   [2, "admitted", mesh, mesh name, mesh key, [operations], [bootstrap]]   or [2, "refused", reason, sentence]
 * ```
 *
 * The proofs of `open` and `offer` are keyed by the invite's *public* key, which stands in the mesh's operations and is never sent here:
 * whoever merely announces itself on the topic learns nothing, and cannot answer. A member that is no admin knows that key too. What it
 * would say of the mesh does not fit the certificate, and what it would answer does not fit the operations (`boot/joining.ts`).
 *
 * The six words are a hash over the handshake, both devices and a nonce of each side. The redeemer commits to its nonce before it sees
 * the other and shows it after, so somebody in the middle cannot look for two handshakes with equal words: it has one try in 2^66.
 */
import { Result } from "effect"
import { fromHex, toHex, utf8 } from "./bytes.ts"
import { decodeCbor, encodeCbor } from "./cbor.ts"
import { deriveKey, hashParts } from "./hash.ts"
import { Malformed } from "./malformed.ts"
import { isMeshName, isNodeName, isRole, type LogHeld, operationBytesMax, type Role } from "./operation.ts"
import { checkWords } from "./words.ts"

export const pairingVersion = 2
/** A message of the candidate, and an offer, at most, bytes. */
export const pairingRequestBytesMax = 1_024
/** An answer at most, bytes, and operations in it. */
export const pairingAnswerBytesMax = 8 * 1024 * 1024
export const pairingOperationsMax = 20_000
/** Where to look for others, `host:port`, at most, and characters in one. */
export const pairingBootstrapMax = 8
const hintLengthMax = 128
const sentenceLengthMax = 500

export interface PairingRequest {
  readonly invite: string
  /** Key of the log that the candidate made for this mesh. */
  readonly log: string
  /** The name that it would like. */
  readonly name: string
  /** By the invite key over mesh, invite, device and log. */
  readonly proof: Uint8Array
}

/** What the candidate says, in this order. */
export type PairingAsk =
  | { readonly _tag: "Open"; readonly proof: Uint8Array }
  | (PairingRequest & Required<LogHeld> & { readonly _tag: "Request"; readonly nonce: Uint8Array })

/** What the candidate is told before it asks. */
export interface PairingOffer {
  readonly mesh: string
  readonly meshName: string
  readonly role: Role
  /** Device key of who made the invite. */
  readonly issuer: string
  /** By the invite key over mesh and issuer; empty when the invite was made without. */
  readonly certificate: Uint8Array
  readonly proof: Uint8Array
  /** `nonceCommit` of the redeemer's nonce. */
  readonly commit: Uint8Array
}

export const inviteRefusals = ["used", "expired", "withdrawn", "unknown", "malformed"] as const
export type InviteRefusalReason = typeof inviteRefusals[number]

export type PairingAnswer =
  | {
    readonly _tag: "Admitted"
    readonly mesh: string
    readonly meshName: string
    readonly meshKey: Uint8Array
    /** Signed operations, parents before children; keys of epochs are sealed inside. */
    readonly operations: ReadonlyArray<Uint8Array>
    /** DHT bootstrap nodes of the mesh. */
    readonly bootstrap: ReadonlyArray<string>
  }
  | { readonly _tag: "Refused"; readonly reason: InviteRefusalReason; readonly detail: string }

export type PairingSide = "candidate" | "redeemer"

/** Proves, for one connection, that this side knows the invite's public key. */
export const pairingProof = (invite: string, handshakeHash: Uint8Array, side: PairingSide, device: string): Uint8Array =>
  deriveKey(fromHex(invite), "kos/pairing-proof/2", handshakeHash, utf8(side), fromHex(device))

export const nonceCommit = (nonce: Uint8Array): Uint8Array => hashParts("kos/pairing-commit/2", nonce)

export interface CheckParts {
  readonly handshakeHash: Uint8Array
  readonly candidate: string
  readonly redeemer: string
  readonly candidateNonce: Uint8Array
  readonly redeemerNonce: Uint8Array
}

/** Six words that both screens show; equal only when nobody stands between. */
export const pairingWords = (parts: CheckParts): string => checkWords(hashParts(
  "kos/pairing-check/2", parts.handshakeHash, fromHex(parts.candidate), fromHex(parts.redeemer), parts.candidateNonce, parts.redeemerNonce
))

export const encodePairingAsk = (ask: PairingAsk): Uint8Array => ask._tag === "Open"
  ? encodeCbor([pairingVersion, "open", ask.proof])
  : encodeCbor([pairingVersion, "request", fromHex(ask.invite), fromHex(ask.log), ask.name, ask.proof, ask.nonce, ask.signer, ask.held])

export const decodePairingAsk = (bytes: Uint8Array): Result.Result<PairingAsk, Malformed> => {
  const list = listOf("request", bytes, pairingRequestBytesMax)
  if (Result.isFailure(list)) return Result.fail(list.failure)
  const [, kind, ...rest] = list.success
  if (kind === "open") {
    const [proof] = rest
    return isBytes(proof, 32) ? Result.succeed({ _tag: "Open", proof: new Uint8Array(proof) }) : bad("request", "its proof has the wrong size")
  }
  if (kind !== "request") return bad("request", "it neither opens nor asks")
  const [invite, log, name, proof, nonce, signer, held] = rest
  if (!isBytes(invite, 32) || !isBytes(log, 32) || !isBytes(proof, 64) || !isBytes(nonce, 32) || !isBytes(signer, 32) || !isBytes(held, 64)) {
    return bad("request", "a key or signature has the wrong size")
  }
  if (!isNodeName(name)) return bad("request", "the node's name is not a name")
  return Result.succeed({
    _tag: "Request", invite: toHex(invite), log: toHex(log), name, proof: new Uint8Array(proof), nonce: new Uint8Array(nonce),
    signer: new Uint8Array(signer), held: new Uint8Array(held)
  })
}

export const encodePairingOffer = (offer: PairingOffer): Uint8Array => encodeCbor([
  pairingVersion, "offer", fromHex(offer.mesh), offer.meshName, offer.role, fromHex(offer.issuer), offer.certificate, offer.proof, offer.commit
])

export const decodePairingOffer = (bytes: Uint8Array): Result.Result<PairingOffer, Malformed> => {
  const list = listOf("offer", bytes, pairingRequestBytesMax)
  if (Result.isFailure(list)) return Result.fail(list.failure)
  const [, kind, mesh, meshName, role, issuer, certificate, proof, commit] = list.success
  if (kind !== "offer") return bad("offer", "it is none")
  if (!isBytes(mesh, 32) || !isBytes(issuer, 32) || !isBytes(proof, 32) || !isBytes(commit, 32)) return bad("offer", "a key or proof has the wrong size")
  if (!isBytes(certificate, 64) && !isBytes(certificate, 0)) return bad("offer", "the certificate has the wrong size")
  if (!isMeshName(meshName)) return bad("offer", "the mesh's name is not a name")
  if (!isRole(role)) return bad("offer", "the role is not known")
  return Result.succeed({
    mesh: toHex(mesh), meshName, role, issuer: toHex(issuer), certificate: new Uint8Array(certificate), proof: new Uint8Array(proof), commit: new Uint8Array(commit)
  })
}

/** The redeemer's nonce, shown once the candidate's is known. */
export const encodePairingWaiting = (nonce: Uint8Array): Uint8Array => encodeCbor([pairingVersion, "waiting", nonce])

export const decodePairingWaiting = (bytes: Uint8Array): Result.Result<Uint8Array, Malformed> => {
  const list = listOf("wait", bytes, pairingRequestBytesMax)
  if (Result.isFailure(list)) return Result.fail(list.failure)
  const [, kind, nonce] = list.success
  return kind === "waiting" && isBytes(nonce, 32) ? Result.succeed(new Uint8Array(nonce)) : bad("wait", "it is none")
}

export const encodePairingAnswer = (answer: PairingAnswer): Uint8Array =>
  answer._tag === "Admitted"
    ? encodeCbor([pairingVersion, "admitted", fromHex(answer.mesh), answer.meshName, answer.meshKey, [...answer.operations], [...answer.bootstrap]])
    : encodeCbor([pairingVersion, "refused", answer.reason, answer.detail])

export const decodePairingAnswer = (bytes: Uint8Array): Result.Result<PairingAnswer, Malformed> => {
  const found = listOf("answer", bytes, pairingAnswerBytesMax)
  if (Result.isFailure(found)) return Result.fail(found.failure)
  const list = found.success
  if (list[1] === "refused") {
    const [, , word, detail] = list
    const reason = inviteRefusals.find((known) => known === word)
    if (reason === undefined || typeof detail !== "string" || detail.length > sentenceLengthMax) return bad("answer", "the refusal")
    return Result.succeed({ _tag: "Refused", reason, detail })
  }
  if (list[1] !== "admitted") return bad("answer", "neither admitted nor refused")
  const [, , mesh, meshName, meshKey, operations, hints] = list
  if (!isBytes(mesh, 32) || !isBytes(meshKey, 32)) return bad("answer", "a key has the wrong size")
  if (!isMeshName(meshName)) return bad("answer", "the mesh's name is not a name")
  if (!Array.isArray(operations) || operations.length > pairingOperationsMax) return bad("answer", "the operations")
  const kept: Array<Uint8Array> = []
  for (const operation of operations as ReadonlyArray<unknown>) {
    if (!(operation instanceof Uint8Array) || operation.byteLength > operationBytesMax) return bad("answer", "an operation")
    kept.push(new Uint8Array(operation))
  }
  if (!Array.isArray(hints) || hints.length > pairingBootstrapMax) return bad("answer", "the addresses")
  const bootstrap: Array<string> = []
  for (const hint of hints as ReadonlyArray<unknown>) {
    if (typeof hint !== "string" || hint.length > hintLengthMax) return bad("answer", "an address")
    bootstrap.push(hint)
  }
  return Result.succeed({ _tag: "Admitted", mesh: toHex(mesh), meshName, meshKey: new Uint8Array(meshKey), operations: kept, bootstrap })
}

const listOf = (part: string, bytes: Uint8Array, bytesMax: number): Result.Result<ReadonlyArray<unknown>, Malformed> => {
  if (bytes.byteLength > bytesMax) return bad(part, `larger than ${bytesMax} bytes`)
  const wire = decodeCbor(`pairing ${part}`, bytes)
  if (Result.isFailure(wire)) return Result.fail(wire.failure)
  if (!Array.isArray(wire.success)) return bad(part, "not an array")
  const list = wire.success as ReadonlyArray<unknown>
  if (list[0] === pairingVersion) return Result.succeed(list)
  const theirs = typeof list[0] === "number" ? `it speaks version ${list[0]} of pairing, here ${pairingVersion}: update the older of the two nodes` : "it has no version"
  return bad(part, theirs)
}

const isBytes = (value: unknown, size: number): value is Uint8Array => value instanceof Uint8Array && value.byteLength === size

const bad = (part: string, why: string) => Result.fail(new Malformed({ what: `pairing ${part}`, why }))
