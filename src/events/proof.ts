/**
 * Makes a proof file for chosen events: each frame as it stands in its log, its way through the log's Merkle tree to a head that the
 * writer signed, the key of that one frame, and the membership operations that tie log to device to mesh. The form of the file is
 * in codec/verify/format.ts, what it proves in codec/verify/verify.ts.
 *
 * Where the head's signature lives: Hypercore keeps, with the head of each core, the signature over its whole tree, made by the
 * writer at its last append and passed on to every replica as it is. `core.proof({ upgrade })` gives it out with the roots in one
 * call. It fits that length only: a log may have grown by the time that a block's way is asked for, so a way is always asked for
 * "as of that length", and the signature of that later answer is not used.
 *
 * A file that was made is verified before it is given out: what we cannot prove to ourselves we do not export.
 */
import { Effect, Result, Schema } from "effect"
import { type Address } from "../codec/address.ts"
import { shortKey, toHex } from "../codec/bytes.ts"
import { fittingFrameKey, frameHeader } from "../codec/frame.ts"
import { asBuffer } from "../codec/hash.ts"
import type { SignedHistory } from "../codec/history.ts"
import type { Operation } from "../codec/operation.ts"
import { encodeProof, proofBytesMax, proofFramesMax, proofLogsMax, type ProvenFrame, type ProvenLog } from "../codec/verify/format.ts"
import { logKeyOf, manifestOf, type TreeNode } from "../codec/verify/merkle.ts"
import { verifyProof } from "../codec/verify/verify.ts"

/** A log that can prove its blocks. Reads are local; they reject when something is not held. */
export interface ProofSource {
  /** 64 hex digits. */
  readonly log: string
  /** The last head that the writer signed, of one moment. */
  head(): Promise<ProofHead>
  /** The block as it is stored, sealed. */
  block(block: number): Promise<Uint8Array>
  /** Sisters from the block up to its root in the tree of this length. */
  path(block: number, length: number): Promise<ReadonlyArray<TreeNode>>
  /** What the writer signed of the first `length` blocks, which must be held. */
  history(length: number): Promise<SignedHistory>
}

export interface ProofHead {
  readonly manifest: Uint8Array
  readonly fork: number
  readonly length: number
  readonly roots: ReadonlyArray<TreeNode>
  /** Ed25519, 64 bytes. */
  readonly signature: Uint8Array
}

export interface ProofRequest {
  readonly mesh: string
  /** At most 20,000 frames are touched. */
  readonly events: ReadonlyArray<Address>
  /** All operations of the mesh, parents before children; those that matter are chosen. */
  readonly operations: ReadonlyArray<Operation>
  readonly source: (log: string) => ProofSource | undefined
  /** The keys of a key epoch that this node holds. They stay here: the file has the key of each frame only. */
  readonly epochKeys: (epoch: number) => ReadonlyArray<Uint8Array>
  /** Told after each frame: done and total. */
  readonly progress?: (done: number, total: number) => void
}

export class ProofError extends Schema.TaggedError<ProofError>()("ProofError", {
  reason: Schema.Literals(["nothing", "too-large", "not-held", "no-key", "not-provable"]),
  detail: Schema.String
}) {
  override get message() {
    return this.detail
  }
}

export const buildProof: (request: ProofRequest) => Effect.Effect<Uint8Array, ProofError> = Effect.fn("buildProof")(function*(request: ProofRequest) {
  const wanted = byLogAndBlock(request.events)
  const total = [...wanted.values()].reduce((sum, blocks) => sum + blocks.size, 0)
  if (total === 0) return yield* fail("nothing", "no event was chosen")
  if (total > proofFramesMax || wanted.size > proofLogsMax) {
    return yield* fail("too-large", `a proof takes ${proofFramesMax} frames of ${proofLogsMax} logs at most; this one has ${total} of ${wanted.size}`)
  }
  const logs: Array<ProvenLog> = []
  let done = 0
  let bytes = 0
  for (const log of [...wanted.keys()].sort()) {
    const source = request.source(log)
    if (source === undefined) return yield* fail("not-held", `the log ${shortKey(log)} is not held here`)
    const head = yield* attempt(log, () => source.head())
    const frames: Array<ProvenFrame> = []
    for (const [block, offsets] of [...(wanted.get(log) ?? [])].sort(([a], [b]) => a - b)) {
      if (block >= head.length) return yield* fail("not-held", `the log ${shortKey(log)} has no block ${block}`)
      const sealed = yield* attempt(log, () => source.block(block))
      const header = frameHeader(sealed)
      if (Result.isFailure(header)) return yield* fail("not-provable", `block ${block} of ${shortKey(log)}: ${header.failure.message}`)
      const key = fittingFrameKey(sealed, header.success, { log, block }, request.epochKeys(header.success.epoch))
      if (key === undefined) return yield* fail("no-key", `this node does not hold the key of block ${block} of ${shortKey(log)}, which is of epoch ${header.success.epoch}`)
      const path = yield* attempt(log, () => source.path(block, head.length))
      bytes += sealed.byteLength
      if (bytes > proofBytesMax) return yield* fail("too-large", `a proof has ${proofBytesMax} bytes at most; export a shorter range`)
      frames.push({ block, path, sealed, key, offsets: [...offsets].sort((a, b) => a - b) })
      request.progress?.(++done, total)
    }
    logs.push({ ...head, frames })
  }
  const operations = chosen(request.operations, new Set(wanted.keys())).map((operation) => operation.bytes)
  const file = encodeProof({ mesh: request.mesh, operations, logs })
  const report = verifyProof(file)
  if (Result.isFailure(report)) return yield* fail("not-provable", report.failure.message)
  const { proved, faults } = report.success
  return proved ? file : yield* fail("not-provable", `the proof does not hold: ${faults.slice(0, 3).join("; ")}`)
})

const fail = (reason: ProofError["reason"], detail: string) => new ProofError({ reason, detail })

const attempt = <A>(log: string, run: () => Promise<A>) => Effect.tryPromise({
  try: run,
  catch: (cause) => fail("not-held", `the log ${shortKey(log)} cannot prove this: ${cause instanceof Error ? cause.message : String(cause)}`)
})

const byLogAndBlock = (events: ReadonlyArray<Address>): ReadonlyMap<string, ReadonlyMap<number, ReadonlySet<number>>> => {
  const out = new Map<string, Map<number, Set<number>>>()
  for (const { log, block, offset } of events) {
    const blocks = out.get(log) ?? new Map<number, Set<number>>()
    const offsets = blocks.get(block) ?? new Set<number>()
    out.set(log, blocks.set(block, offsets.add(offset)))
  }
  return out
}

/** What speaks of these logs and of their devices, with everything that those operations build on. */
const chosen = (operations: ReadonlyArray<Operation>, logs: ReadonlySet<string>): ReadonlyArray<Operation> => {
  const devices = new Set<string>()
  const needed = new Set<string>()
  for (const { says, author, hash } of operations) {
    const attaches = (says.kind === "log.attached" || says.kind === "member.admitted") && logs.has(says.log)
    const closes = says.kind === "log.succeeded" && (logs.has(says.log) || logs.has(says.successor))
    if (!attaches && !closes) continue
    needed.add(hash)
    devices.add(says.kind === "member.admitted" ? says.device : author)
  }
  for (const { says, author, hash } of operations) {
    const about = says.kind === "member.named" || says.kind === "role.set" || says.kind === "member.revoked" || says.kind === "member.admitted"
      ? devices.has(says.device) : says.kind === "member.left" && devices.has(author)
    if (about || says.kind === "mesh.created" || says.kind === "mesh.named") needed.add(hash)
  }
  for (const operation of operations.toReversed()) {
    if (needed.has(operation.hash)) for (const parent of operation.parents) needed.add(parent)
  }
  return operations.filter((operation) => needed.has(operation.hash))
}

/** The slice of a Hypercore session that proofs need. Its key pair of one signer and no patches makes the signature 68 bytes. */
interface ProvableCore {
  readonly key: Buffer
  readonly length: number
  readonly manifest: { readonly signers: ReadonlyArray<{ readonly publicKey: Buffer }> } | null
  get(block: number, options: { readonly wait: false }): Promise<Buffer | null>
  proof(request: {
    readonly block?: { readonly index: number; readonly nodes: number }
    readonly upgrade: { readonly start: number; readonly length: number }
  }): Promise<{
    readonly fork: number
    readonly block: { readonly nodes: ReadonlyArray<TreeNode> } | null
    readonly upgrade: {
      readonly length: number; readonly nodes: ReadonlyArray<TreeNode>; readonly additionalNodes: ReadonlyArray<TreeNode>; readonly signature: Buffer | null
    }
  }>
}

/** True for a Hypercore 11 session. */
const isProvable = (core: object): core is ProvableCore => "proof" in core && typeof core.proof === "function" && "manifest" in core && "key" in core

/** A ready Hypercore session as the source of proofs; the caller keeps it open meanwhile. Undefined when the object is none. */
export const hypercoreProofSource = (core: object): ProofSource | undefined => {
  if (!isProvable(core)) return undefined
  const log = toHex(core.key)
  return {
    log,
    head: async () => {
      // One call, with nothing awaited before it: roots and signature are of this length.
      const length = core.length
      const { fork, upgrade } = await core.proof({ upgrade: { start: 0, length } })
      const manifest = manifestOf(core.manifest?.signers[0]?.publicKey ?? Buffer.alloc(32))
      if (toHex(logKeyOf(manifest)) !== log) throw new Error("its manifest is not the one of a kOS log")
      const signature = plainSignature(upgrade.signature)
      if (signature === undefined) throw new Error("its head has no signature of a single writer")
      return { manifest, fork, length, roots: upgrade.nodes.map(plainNode), signature }
    },
    block: async (block) => {
      const bytes = await core.get(block, { wait: false })
      if (bytes === null) throw new Error(`block ${block} is not held`)
      return bytes
    },
    path: async (block, length) => {
      const { block: found } = await core.proof({ block: { index: block, nodes: 0 }, upgrade: { start: 0, length } })
      if (found === null) throw new Error(`block ${block} is not held`)
      return found.nodes.map(plainNode)
    },
    history: async (length) => {
      const signedLength = core.length
      const { fork, upgrade } = await core.proof({ upgrade: { start: 0, length } })
      const signature = plainSignature(upgrade.signature)
      if (signature === undefined) throw new Error("its head has no signature of a single writer")
      return {
        manifest: manifestOf(core.manifest?.signers[0]?.publicKey ?? Buffer.alloc(32)), fork, length, roots: upgrade.nodes.map(plainNode), signedLength,
        further: upgrade.additionalNodes.map(plainNode), signature
      }
    }
  }
}

const plainNode = ({ size, hash }: TreeNode): TreeNode => ({ size, hash })

/** Hypercore's form of one signature: count 1, signer 0, 64 bytes, no patch, no nodes. */
const plainSignature = (signature: Buffer | null): Uint8Array | undefined => {
  if (signature === null || signature.byteLength !== 68) return undefined
  const around = asBuffer(Uint8Array.of(signature[0] ?? 0, signature[1] ?? 0, signature[66] ?? 0, signature[67] ?? 0))
  return around.equals(Buffer.of(1, 0, 0, 0)) ? signature.subarray(2, 66) : undefined
}
