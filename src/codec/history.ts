/**
 * A signed history: what one holder of a log can show of its first `length` blocks, so that anybody can check, without asking
 * anyone, that the log's own key signed them. Two of one log that differ at the same length prove that the log was written twice.
 *
 * Hypercore keeps one signature with each copy of a log: its writer's, over the whole tree as of the last append. So a history is
 * shown as the roots of the tree of `length` blocks, the subtrees that come after them up to the signed length, and that signature.
 * CBOR: `[manifest, fork, length, [[size, hash]…] roots, signed length, [[size, hash]…] further, signature]`; places of the nodes
 * follow from the lengths, so none is told.
 */
import { fromHex, toHex } from "./bytes.ts"
import { decodeCbor, encodeCbor } from "./cbor.ts"
import { verify } from "./signature.ts"
import { logKeyOf, manifestBytes, parentNode, rootPlaces, signerOf, treeHash, treeSignable, type TreeNode } from "./verify/merkle.ts"
import { Result } from "effect"

/** An encoded history at most, bytes: 41 roots, twice 41 further subtrees. */
export const historyBytesMax = 8_192
const lengthMax = 2 ** 40
const nodesMax = 82

export interface SignedHistory {
  /** 70 bytes; its hash is the log key. */
  readonly manifest: Uint8Array
  readonly fork: number
  /** Blocks that are spoken of. */
  readonly length: number
  readonly roots: ReadonlyArray<TreeNode>
  readonly signedLength: number
  /** Subtrees that cover the blocks from `length` to `signedLength`, left to right. */
  readonly further: ReadonlyArray<TreeNode>
  /** Ed25519, 64 bytes. */
  readonly signature: Uint8Array
}

export const encodeHistory = ({ manifest, fork, length, roots, signedLength, further, signature }: SignedHistory): Uint8Array =>
  encodeCbor([manifest, fork, length, roots.map(nodeToWire), signedLength, further.map(nodeToWire), signature])

/** Undefined for bytes of any other form. Checks no signature. */
export const decodeHistory = (bytes: Uint8Array): SignedHistory | undefined => {
  if (bytes.byteLength > historyBytesMax) return undefined
  const wire = decodeCbor("history", bytes)
  if (Result.isFailure(wire) || !Array.isArray(wire.success) || wire.success.length !== 7) return undefined
  const [manifest, fork, length, roots, signedLength, further, signature] = wire.success as ReadonlyArray<unknown>
  const before = nodesOf(roots)
  const after = nodesOf(further)
  if (!isBytes(manifest, manifestBytes) || !isBytes(signature, 64) || before === undefined || after === undefined) return undefined
  if (!isCount(fork) || !isCount(length) || !isCount(signedLength) || length < 1 || length > signedLength || signedLength > lengthMax) return undefined
  return { manifest, fork, length, roots: before, signedLength, further: after, signature }
}

/** The tree hash at `length` when the log's own key signed this history, 64 hex digits; else undefined. */
export const checkHistory = (log: string, history: SignedHistory): string | undefined => {
  const signer = signerOf(history.manifest)
  if (signer === undefined || toHex(logKeyOf(history.manifest)) !== log) return undefined
  const { fork, length, roots, signedLength, further, signature } = history
  if (roots.length !== rootPlaces(length).length) return undefined
  const stack = rootPlaces(length).map(({ first, count }, i) => ({ first, count, node: roots[i] ?? noNode }))
  const places = placesBetween(length, signedLength)
  if (places.length !== further.length) return undefined
  places.forEach(({ first, count }, i) => {
    let right = { first, count, node: further[i] ?? noNode }
    for (let left = stack.at(-1); left !== undefined && left.count === right.count && left.first % (2 * left.count) === 0; left = stack.at(-1)) {
      stack.pop()
      right = { first: left.first, count: 2 * left.count, node: parentNode(left.node, right.node) }
    }
    stack.push(right)
  })
  const signed = treeSignable(fromHex(log), treeHash(signedLength, stack.map(({ node }) => node)), signedLength, fork)
  return verify(signed, signature, signer) ? toHex(treeHash(length, roots)) : undefined
}

/** The length at which two histories of this log contradict each other; undefined when they do not, or one is not signed by its key. */
export const contradiction = (log: string, a: SignedHistory, b: SignedHistory): number | undefined => {
  if (a.length !== b.length) return undefined
  const [one, other] = [checkHistory(log, a), checkHistory(log, b)]
  return one !== undefined && other !== undefined && one !== other ? a.length : undefined
}

/** First blocks and sizes of the largest subtrees that cover the blocks from one length to another, left to right. */
export const placesBetween = (from: number, to: number): ReadonlyArray<{ readonly first: number; readonly count: number }> => {
  const out: Array<{ readonly first: number; readonly count: number }> = []
  for (let first = from; first < to;) {
    let count = 1
    while (first % (2 * count) === 0 && first + 2 * count <= to) count *= 2
    out.push({ first, count })
    first += count
  }
  return out
}

const noNode: TreeNode = { size: 0, hash: new Uint8Array(32) }

const nodeToWire = ({ size, hash }: TreeNode): unknown => [size, hash]

const nodesOf = (value: unknown): ReadonlyArray<TreeNode> | undefined => {
  if (!Array.isArray(value) || value.length > nodesMax) return undefined
  const out: Array<TreeNode> = []
  for (const entry of value as ReadonlyArray<unknown>) {
    if (!Array.isArray(entry) || entry.length !== 2) return undefined
    const [size, hash] = entry as ReadonlyArray<unknown>
    if (!isCount(size) || !isBytes(hash, 32)) return undefined
    out.push({ size, hash })
  }
  return out
}

const isBytes = (value: unknown, size: number): value is Uint8Array => value instanceof Uint8Array && value.byteLength === size

const isCount = (value: unknown): value is number => typeof value === "number" && Number.isSafeInteger(value) && value >= 0
