/**
 * Hypercore's Merkle tree, as far as bundles need it. Leaves have even indices (block i is 2i), a parent stands between its children; a tree of n
 * blocks has one root for each full subtree, largest first.
 */
import sodium from "sodium-native"
import caps from "hypercore/lib/caps.js"
import Verifier, { type Manifest } from "hypercore/lib/verifier.js"
import { equalBytes } from "../codec/bytes.ts"
import { asBuffer } from "../codec/hash.ts"
import type { TreeNode } from "./host.ts"

/** How many levels the largest full subtree has that starts at this block and ends within `to` blocks. */
export const levelsAt = (block: number, to: number): number => {
  let levels = 0
  while (block % 2 ** (levels + 1) === 0 && block + 2 ** (levels + 1) <= to) levels += 1
  return levels
}

/** Index of the root of the subtree of 2^levels blocks that starts at `block`. */
export const subtreeIndex = (block: number, levels: number): number => 2 * block + 2 ** levels - 1

/** First blocks of the largest full subtrees that cover blocks `from` to `to`, left to right. */
export const covering = (from: number, to: number): ReadonlyArray<number> => {
  const found: Array<number> = []
  for (let block = from; block < to; block += 2 ** levelsAt(block, to)) found.push(block)
  return found
}

export const leafNode = (block: number, value: Uint8Array): TreeNode =>
  ({ index: 2 * block, size: value.byteLength, hash: digest(0, uint64(value.byteLength), asBuffer(value)) })

export const parentNode = (left: TreeNode, right: TreeNode): TreeNode => {
  const size = left.size + right.size
  return { index: (left.index + right.index) / 2, size, hash: digest(1, uint64(size), left.hash, right.hash) }
}

/** The root of the subtree whose first block this is, from the block and the siblings on the way up. */
export const climb = (block: number, value: Uint8Array, siblings: ReadonlyArray<TreeNode>): TreeNode =>
  siblings.reduce(parentNode, leafNode(block, value))

/** Adds full subtrees on the right and merges those that became siblings. */
export const merge = (roots: ReadonlyArray<TreeNode>, nodes: ReadonlyArray<TreeNode>): ReadonlyArray<TreeNode> => {
  const stack: Array<TreeNode> = []
  for (const node of [...roots, ...nodes]) {
    let right = node
    for (let left = stack.at(-1); left !== undefined && siblings(left, right); left = stack.at(-1)) {
      stack.pop()
      right = parentNode(left, right)
    }
    stack.push(right)
  }
  return stack
}

export const treeHash = (roots: ReadonlyArray<TreeNode>): Buffer =>
  digest(2, ...roots.flatMap((root) => [root.hash, uint64(root.index), uint64(root.size)]))

/** The manifest when it is one that our logs have and hashes to this log's key. */
export const readManifest = (log: string, encoded: Uint8Array): Manifest | undefined => {
  try {
    const manifest = Verifier.createManifest(Buffer.from(encoded))
    const plain = manifest.version >= 1 && !manifest.allowPatch && manifest.prologue === null && manifest.signers.length <= 16
    return plain && Verifier.isValidManifest(Buffer.from(log, "hex"), manifest) ? manifest : undefined
  } catch {
    return undefined
  }
}

/** Did the log's key sign exactly this tree? */
export const signedTree = (log: string, manifest: Manifest, roots: ReadonlyArray<TreeNode>, length: number, fork: number, signature: Uint8Array): boolean => {
  try {
    const hash = treeHash(roots)
    const tree = { length, signable: (context: Buffer) => caps.treeSignable(context, hash, length, fork) }
    return new Verifier(Buffer.from(log, "hex"), manifest).verify(tree, Buffer.from(signature))
  } catch {
    return false
  }
}

export const equalNodes = (a: TreeNode, b: TreeNode | undefined): boolean =>
  b !== undefined && a.index === b.index && a.size === b.size && equalBytes(a.hash, b.hash)

/** Blocks under a node. */
const span = (node: TreeNode): number => {
  let blocks = 1
  for (let rest = node.index; rest % 2 === 1; rest = (rest - 1) / 2) blocks *= 2
  return blocks
}

const siblings = (left: TreeNode, right: TreeNode): boolean => {
  const blocks = span(left)
  return blocks === span(right) && right.index - left.index === 2 * blocks && ((left.index + 1) / blocks - 1) % 4 === 0
}

const uint64 = (value: number): Buffer => {
  const out = Buffer.allocUnsafe(8)
  out.writeBigUInt64LE(BigInt(value))
  return out
}

const digest = (kind: number, ...parts: ReadonlyArray<Buffer>): Buffer => {
  const out = Buffer.allocUnsafeSlow(32)
  sodium.crypto_generichash_batch(out, [Buffer.of(kind), ...parts])
  return out
}
