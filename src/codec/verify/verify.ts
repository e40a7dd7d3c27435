/**
 * What a proof file proves, checked with nothing but the file. Pure.
 *
 * For each shown event: the frame it stands in opens with the shown key at that place (XChaCha20-Poly1305 binds content, log and
 * block); the sealed frame is a leaf of the log's Merkle tree; the tree was signed by the log's key; the log belongs to a device by a
 * chain of signed membership operations that begins with `mesh.created`, whose hash is the mesh's id. So: this device of this mesh
 * wrote exactly this, before and after exactly what stands there by number.
 *
 * What it does not prove: that there was no later operation (a revocation, say) that the file leaves out, that nothing else was
 * written, and that a clock was right. Whose mesh it is, is known from the mesh's id: compare it with one from a source you trust.
 */
import { Result } from "effect"
import { equalBytes, fromHex, shortKey, toHex } from "../bytes.ts"
import { type Envelope } from "../envelope.ts"
import { openFrame } from "../frame.ts"
import type { Malformed } from "../malformed.ts"
import { cutAtOf } from "../membership/cuts.ts"
import { everything } from "../membership/facts.ts"
import { makeGraph } from "../membership/graph.ts"
import { makeResolver, type Verdicts } from "../membership/resolver.ts"
import { openOperation } from "../operation.ts"
import { verify } from "../signature.ts"
import { decodeProof, type ProofFile, type ProvenFrame, type ProvenLog } from "./format.ts"
import { climb, leafNode, logKeyOf, rootPlaces, signerOf, treeHash, treeSignable } from "./merkle.ts"

export interface ShownEvent {
  readonly block: number
  readonly offset: number
  readonly event: Envelope
}

export interface LogReport {
  readonly log: string
  /** Device key and the name that the operations in the file give it; absent when no chain leads to a device. */
  readonly device?: string
  readonly deviceName?: string
  readonly role?: string
  readonly fork: number
  /** Length of the log when its tree was signed. */
  readonly length: number
  readonly events: ReadonlyArray<ShownEvent>
}

export interface ProofReport {
  readonly proved: boolean
  /** What does not hold, each a sentence; empty exactly when `proved`. */
  readonly faults: ReadonlyArray<string>
  readonly mesh: { readonly id: string; readonly name: string }
  readonly operations: number
  readonly logs: ReadonlyArray<LogReport>
}

/** Faults are listed up to this number. */
export const faultsMax = 50

/** Reads and checks a proof file. Fails only when the bytes have not the form; what does not hold is in the report. */
export const verifyProof = (bytes: Uint8Array): Result.Result<ProofReport, Malformed> => {
  const file = decodeProof(bytes)
  return Result.isFailure(file) ? Result.fail(file.failure) : Result.succeed(checkProof(file.success))
}

export const checkProof = (file: ProofFile): ProofReport => {
  const faults: Array<string> = []
  const fault = (text: string): void => {
    if (faults.length < faultsMax) faults.push(text)
  }
  const verdicts = chainOf(file, fault)
  const naming = verdicts.facts.meshNaming()?.operation.says
  const name = naming?.kind === "mesh.created" || naming?.kind === "mesh.named" ? naming.name : ""
  const logs: Array<LogReport> = []
  let lastKey = ""
  for (const log of file.logs) {
    const key = toHex(logKeyOf(log.manifest))
    if (key <= lastKey) fault(`log ${shortKey(key)}: the logs are not in order`)
    lastKey = key
    const owner = ownerOf(verdicts, key, log, fault)
    logs.push({ log: key, ...owner, fork: log.fork, length: log.length, events: eventsOf(key, log, fault) })
  }
  return { proved: faults.length === 0, faults, mesh: { id: file.mesh, name }, operations: file.operations.length, logs }
}

type Fault = (text: string) => void

/** The membership operations, each with its signature and all its parents, from `mesh.created` on. */
const chainOf = (file: ProofFile, fault: Fault): Verdicts => {
  const graph = makeGraph(file.mesh)
  const resolver = makeResolver()
  for (const [i, bytes] of file.operations.entries()) {
    const opened = openOperation(bytes)
    if (Result.isFailure(opened)) {
      fault(`membership operation ${i + 1}: ${opened.failure.message}`)
      continue
    }
    const entry = graph.enter(opened.success)
    if (entry._tag !== "Entered") {
      const why = entry._tag === "Refused" ? entry.why : entry._tag === "Known" ? "it stands there twice" : "what it builds on is missing"
      fault(`membership operation ${i + 1}: ${why}`)
      continue
    }
    for (const vertex of entry.vertices) resolver.enter(vertex)
  }
  if (graph.vertex(file.mesh) === undefined) fault("the operation that created the mesh is missing")
  return resolver.verdicts()
}

const ownerOf = (verdicts: Verdicts, key: string, log: ProvenLog, fault: Fault) => {
  const { facts } = verdicts
  const claim = facts.claimOf(key, everything)
  if (claim === undefined) {
    fault(`log ${shortKey(key)}: no member of the mesh attached it`)
    return {}
  }
  const { device } = claim
  const last = log.frames[log.frames.length - 1]?.block ?? 0
  const closing = facts.closingOf(key, device, everything)?.operation.says
  const cut = cutAtOf(verdicts, claim, key, everything)
  if (closing?.kind === "log.succeeded" && last >= closing.length) {
    fault(`log ${shortKey(key)}: its device closed it at ${closing.length}, block ${last} is beyond`)
  } else if (cut !== undefined && last >= cut) {
    fault(`log ${shortKey(key)}: its device was revoked and the log cut at ${cut}, block ${last} is beyond`)
  }
  const naming = facts.namingOf(device)?.operation.says
  const role = facts.standingOf(device, everything).role
  return {
    device,
    deviceName: naming !== undefined && "name" in naming ? naming.name : shortKey(device),
    ...(role === undefined ? {} : { role })
  }
}

const eventsOf = (key: string, log: ProvenLog, fault: Fault): ReadonlyArray<ShownEvent> => {
  const signer = signerOf(log.manifest)
  if (signer === undefined) fault(`log ${shortKey(key)}: its manifest is not of a kOS log`)
  else if (!verify(treeSignable(fromHex(key), treeHash(log.length, log.roots), log.length, log.fork), log.signature, signer)) {
    fault(`log ${shortKey(key)}: the tree of ${log.length} blocks was not signed by the log's writer`)
  }
  const events: Array<ShownEvent> = []
  let lastBlock = -1
  for (const frame of log.frames) {
    const place = `log ${shortKey(key)}, block ${frame.block}`
    if (frame.block <= lastBlock) fault(`${place}: the blocks are not in order`)
    lastBlock = frame.block
    const why = treeFault(log, frame)
    if (why !== undefined) {
      fault(`${place}: ${why}`)
      continue
    }
    const opened = openFrame(frame.sealed, { log: key, block: frame.block }, frame.key)
    if (Result.isFailure(opened)) {
      fault(`${place}: ${opened.failure.message}`)
      continue
    }
    let lastOffset = -1
    for (const offset of frame.offsets) {
      const event = opened.success[offset]
      if (event === undefined) fault(`${place}: there is no event ${offset} in it`)
      else if (offset <= lastOffset) fault(`${place}: the events are not in order`)
      else events.push({ block: frame.block, offset, event })
      lastOffset = offset
    }
  }
  return events
}

/** Is the sealed frame the block of this number in the signed tree? */
const treeFault = (log: ProvenLog, frame: ProvenFrame): string | undefined => {
  const places = rootPlaces(log.length)
  const at = places.findIndex((place) => frame.block >= place.first && frame.block < place.first + place.count)
  const place = places[at]
  const root = log.roots[at]
  if (place === undefined || root === undefined) return `the log had ${log.length} blocks only`
  if (2 ** frame.path.length !== place.count) return "its way to the root of the tree has the wrong length"
  const top = climb(frame.block - place.first, leafNode(frame.sealed), frame.path)
  return top.size === root.size && equalBytes(top.hash, root.hash) ? undefined : "it is not the block that the writer signed there"
}
