/**
 * The proof file (`.kosproof`): chosen events with all that an outsider needs to check them, and no more.
 *
 * Bytes: the 8 characters `kosproof`, then one CBOR item, then BLAKE2b-256 over both under a label. The item:
 *
 *     [1, mesh, [operation…], [log…]]
 *     operation  a signed membership operation (codec/operation.ts), parents before children, none missing
 *     log        [manifest, fork, length, [root…], signature, [frame…]]      logs in the order of their keys
 *       manifest   70 bytes of Hypercore's manifest; its hash is the log key
 *       root       [size, hash], the roots of the tree of `length` blocks, the largest first
 *       signature  64 bytes, Ed25519 by the manifest's signer over the tree of those roots
 *     frame      [block, [sister…], sealed, key, [offset…]]                  frames in the order of their blocks
 *       sister     [size, hash], from the block up to its root
 *       sealed     the block as it stands in the log (codec/frame.ts)
 *       key        32 bytes: opens this frame and no other
 *       offset     which events of the frame are shown, ascending; the key opens the others too
 *
 * Nothing stands in it twice and nothing that is not checked. The CBOR is the only one for its value: it is written again after
 * reading and compared. The hash at the end finds damage; it proves nothing by itself. What the file proves is in verify.ts.
 */
import { Result } from "effect"
import { equalBytes, fromHex, toHex, utf8 } from "../bytes.ts"
import { decodeCbor, encodeCbor } from "../cbor.ts"
import { frameBytesMax, frameEventsMax } from "../frame.ts"
import { hashParts } from "../hash.ts"
import { Malformed } from "../malformed.ts"
import { operationsMax } from "../membership/graph.ts"
import { operationBytesMax } from "../operation.ts"
import { manifestBytes, rootPlaces, type TreeNode } from "./merkle.ts"

export const proofVersion = 1
/** A proof file at most, bytes. */
export const proofBytesMax = 64 * 1024 * 1024
export const proofLogsMax = 1_000
/** Frames of all logs together at most. */
export const proofFramesMax = 20_000
/** Blocks in a log at most; below it all numbers of nodes and bytes are exact. */
export const logLengthMax = 2 ** 40
const pathLengthMax = 41

export interface ProvenFrame {
  readonly block: number
  readonly path: ReadonlyArray<TreeNode>
  readonly sealed: Uint8Array
  readonly key: Uint8Array
  readonly offsets: ReadonlyArray<number>
}

export interface ProvenLog {
  readonly manifest: Uint8Array
  readonly fork: number
  readonly length: number
  readonly roots: ReadonlyArray<TreeNode>
  readonly signature: Uint8Array
  readonly frames: ReadonlyArray<ProvenFrame>
}

export interface ProofFile {
  readonly mesh: string
  readonly operations: ReadonlyArray<Uint8Array>
  readonly logs: ReadonlyArray<ProvenLog>
}

const magic = utf8("kosproof")

export const encodeProof = (file: ProofFile): Uint8Array => {
  const node = ({ size, hash }: TreeNode) => [size, hash]
  const body = Buffer.concat([magic, encodeCbor([
    proofVersion, fromHex(file.mesh), [...file.operations],
    file.logs.map((log) => [
      log.manifest, log.fork, log.length, log.roots.map(node), log.signature,
      log.frames.map((frame) => [frame.block, frame.path.map(node), frame.sealed, frame.key, [...frame.offsets]])
    ])
  ])])
  return Buffer.concat([body, hashParts("kos/proof/1", body)])
}

/** Reads the form; checks no signature. Never throws. */
export const decodeProof = (bytes: Uint8Array): Result.Result<ProofFile, Malformed> => {
  if (bytes.byteLength > proofBytesMax) return bad(`larger than ${proofBytesMax} bytes`)
  if (bytes.byteLength < magic.byteLength + 33 || !equalBytes(bytes.subarray(0, magic.byteLength), magic)) return bad("this is no kOS proof file")
  const body = bytes.subarray(0, bytes.byteLength - 32)
  if (!equalBytes(hashParts("kos/proof/1", body), bytes.subarray(body.byteLength))) return bad("the file was damaged or cut: its own hash does not fit")
  const content = body.subarray(magic.byteLength)
  const wire = decodeCbor("proof file", content)
  if (Result.isFailure(wire)) return Result.fail(wire.failure)
  if (!Array.isArray(wire.success)) return bad("not an array")
  const [version, mesh, operations, logs, ...more] = wire.success as ReadonlyArray<unknown>
  if (version !== proofVersion) return bad(`version ${String(version).slice(0, 20)} is not known here; get a newer kos-verify`)
  if (more.length > 0 || !isBytes(mesh, 32)) return bad("mesh")
  const operationList = listOf(operations, operationsMax, (one) => one instanceof Uint8Array && one.byteLength <= operationBytesMax ? one : undefined)
  if (operationList === undefined) return bad("operations")
  const logList = listOf(logs, proofLogsMax, logFromWire)
  if (logList === undefined || logList.length === 0) return bad("logs")
  const frames = logList.reduce((sum, log) => sum + log.frames.length, 0)
  if (frames > proofFramesMax) return bad(`more than ${proofFramesMax} frames`)
  const file = { mesh: toHex(mesh), operations: operationList, logs: logList }
  return equalBytes(encodeProof(file), bytes) ? Result.succeed(file) : bad("it is not written in the one form of its content")
}

const logFromWire = (value: unknown): ProvenLog | undefined => {
  if (!Array.isArray(value) || value.length !== 6) return undefined
  const [manifest, fork, length, roots, signature, frames] = value as ReadonlyArray<unknown>
  if (!isBytes(manifest, manifestBytes) || !isBytes(signature, 64) || !isCount(fork) || !isCount(length) || length === 0 || length > logLengthMax) return undefined
  const rootList = listOf(roots, pathLengthMax, nodeFromWire)
  const frameList = listOf(frames, proofFramesMax, frameFromWire)
  if (rootList === undefined || rootList.length !== rootPlaces(length).length || frameList === undefined || frameList.length === 0) return undefined
  return { manifest, fork, length, roots: rootList, signature, frames: frameList }
}

const frameFromWire = (value: unknown): ProvenFrame | undefined => {
  if (!Array.isArray(value) || value.length !== 5) return undefined
  const [block, path, sealed, key, offsets] = value as ReadonlyArray<unknown>
  if (!isCount(block) || !isBytes(key, 32) || !(sealed instanceof Uint8Array) || sealed.byteLength > frameBytesMax) return undefined
  const pathList = listOf(path, pathLengthMax, nodeFromWire)
  const offsetList = listOf(offsets, frameEventsMax, (one) => isCount(one) ? one : undefined)
  if (pathList === undefined || offsetList === undefined || offsetList.length === 0) return undefined
  return { block, path: pathList, sealed, key, offsets: offsetList }
}

const nodeFromWire = (value: unknown): TreeNode | undefined => {
  if (!Array.isArray(value) || value.length !== 2) return undefined
  const [size, hash] = value as ReadonlyArray<unknown>
  return isCount(size) && isBytes(hash, 32) ? { size, hash } : undefined
}

const listOf = <A>(value: unknown, max: number, read: (one: unknown) => A | undefined): ReadonlyArray<A> | undefined => {
  if (!Array.isArray(value) || value.length > max) return undefined
  const out: Array<A> = []
  for (const one of value as ReadonlyArray<unknown>) {
    const item = read(one)
    if (item === undefined) return undefined
    out.push(item)
  }
  return out
}

const isBytes = (value: unknown, size: number): value is Uint8Array => value instanceof Uint8Array && value.byteLength === size

const isCount = (value: unknown): value is number => typeof value === "number" && Number.isSafeInteger(value) && value >= 0

const bad = (why: string) => Result.fail(new Malformed({ what: "proof file", why }))
