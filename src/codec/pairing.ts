/**
 * What candidate and issuer say to each other when an invite is redeemed. Both travel inside a Noise stream that has proven both
 * device keys; the carrier takes them as opaque bytes.
 *
 * Request, CBOR: `[1, invite key, log key, name, proof]`. Answer, CBOR: `[1, "admitted", mesh, mesh name, mesh key, key epoch,
 * [operations]]` or `[1, "refused", reason, sentence]`.
 */
import { Result } from "effect"
import { fromHex, toHex } from "./bytes.ts"
import { decodeCbor, encodeCbor } from "./cbor.ts"
import { Malformed } from "./malformed.ts"
import { isMeshName, isNodeName, operationBytesMax } from "./operation.ts"

export const pairingVersion = 1
/** A request at most, bytes. */
export const pairingRequestBytesMax = 1_024
/** An answer at most, bytes, and operations in it; more are fetched in the ordinary exchange. */
export const pairingAnswerBytesMax = 8 * 1024 * 1024
export const pairingOperationsMax = 20_000
/** The highest key epoch, as in the header of a frame. */
const epochMax = 0xffff_ffff

export interface PairingRequest {
  readonly invite: string
  /** Key of the log that the candidate made for this mesh. */
  readonly log: string
  /** The name that it would like. */
  readonly name: string
  /** By the invite key over mesh, invite, device and log. */
  readonly proof: Uint8Array
}

export const inviteRefusals = ["used", "expired", "withdrawn", "unknown", "malformed"] as const
export type InviteRefusalReason = typeof inviteRefusals[number]

export type PairingAnswer =
  | {
    readonly _tag: "Admitted"
    readonly mesh: string
    readonly meshName: string
    readonly meshKey: Uint8Array
    readonly epoch: number
    /** Signed operations, parents before children. */
    readonly operations: ReadonlyArray<Uint8Array>
  }
  | { readonly _tag: "Refused"; readonly reason: InviteRefusalReason; readonly detail: string }

export const encodePairingRequest = (request: PairingRequest): Uint8Array =>
  encodeCbor([pairingVersion, fromHex(request.invite), fromHex(request.log), request.name, request.proof])

export const decodePairingRequest = (bytes: Uint8Array): Result.Result<PairingRequest, Malformed> => {
  if (bytes.byteLength > pairingRequestBytesMax) return bad("request", `larger than ${pairingRequestBytesMax} bytes`)
  const wire = decodeCbor("pairing request", bytes)
  if (Result.isFailure(wire)) return Result.fail(wire.failure)
  if (!Array.isArray(wire.success)) return bad("request", "not an array")
  const [version, invite, log, name, proof] = wire.success as ReadonlyArray<unknown>
  if (version !== pairingVersion) return bad("request", "its version is not known here")
  if (!isBytes(invite, 32) || !isBytes(log, 32) || !isBytes(proof, 64)) return bad("request", "a key or signature has the wrong size")
  if (!isNodeName(name)) return bad("request", "the node's name is not a name")
  return Result.succeed({ invite: toHex(invite), log: toHex(log), name, proof: new Uint8Array(proof) })
}

export const encodePairingAnswer = (answer: PairingAnswer): Uint8Array =>
  answer._tag === "Admitted"
    ? encodeCbor([pairingVersion, "admitted", fromHex(answer.mesh), answer.meshName, answer.meshKey, answer.epoch, [...answer.operations]])
    : encodeCbor([pairingVersion, "refused", answer.reason, answer.detail])

export const decodePairingAnswer = (bytes: Uint8Array): Result.Result<PairingAnswer, Malformed> => {
  if (bytes.byteLength > pairingAnswerBytesMax) return bad("answer", `larger than ${pairingAnswerBytesMax} bytes`)
  const wire = decodeCbor("pairing answer", bytes)
  if (Result.isFailure(wire)) return Result.fail(wire.failure)
  if (!Array.isArray(wire.success)) return bad("answer", "not an array")
  const list = wire.success as ReadonlyArray<unknown>
  if (list[0] !== pairingVersion) return bad("answer", "its version is not known here")
  if (list[1] === "refused") {
    const [, , word, detail] = list
    const reason = inviteRefusals.find((known) => known === word)
    if (reason === undefined || typeof detail !== "string" || detail.length > 500) return bad("answer", "the refusal")
    return Result.succeed({ _tag: "Refused", reason, detail })
  }
  if (list[1] !== "admitted") return bad("answer", "neither admitted nor refused")
  const [, , mesh, meshName, meshKey, epoch, operations] = list
  if (!isBytes(mesh, 32) || !isBytes(meshKey, 32)) return bad("answer", "a key has the wrong size")
  if (!isMeshName(meshName)) return bad("answer", "the mesh's name is not a name")
  if (typeof epoch !== "number" || !Number.isSafeInteger(epoch) || epoch < 0 || epoch > epochMax) return bad("answer", "the key epoch")
  if (!Array.isArray(operations) || operations.length > pairingOperationsMax) return bad("answer", "the operations")
  const kept: Array<Uint8Array> = []
  for (const operation of operations as ReadonlyArray<unknown>) {
    if (!(operation instanceof Uint8Array) || operation.byteLength > operationBytesMax) return bad("answer", "an operation")
    kept.push(new Uint8Array(operation))
  }
  return Result.succeed({ _tag: "Admitted", mesh: toHex(mesh), meshName, meshKey: new Uint8Array(meshKey), epoch, operations: kept })
}

const isBytes = (value: unknown, size: number): value is Uint8Array => value instanceof Uint8Array && value.byteLength === size

const bad = (part: string, why: string) => Result.fail(new Malformed({ what: `pairing ${part}`, why }))
