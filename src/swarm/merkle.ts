/**
 * Hypercore's Merkle tree, as far as bundles need it: the shape of partial trees over the hashes of codec/verify/merkle.ts. Leaves have even indices (block i is 2i), a parent stands between its children; a tree of n
 * blocks has one root for each full subtree, largest first.
 */
import caps from "hypercore/lib/caps.js"
import Verifier, { type Manifest } from "hypercore/lib/verifier.js"
import { equalBytes } from "../codec/bytes.ts"
import { asBuffer } from "../codec/hash.ts"
import { leafNode as plainLeaf, parentNode as plainParent, treeHash as plainTreeHash } from "../codec/verify/merkle.ts"
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

export const leafNode = (block: number, value: Uint8Array): TreeNode => placed(2 * block, plainLeaf(value))

export const parentNode = (left: TreeNode, right: TreeNode): TreeNode => placed((left.index + right.index) / 2, plainParent(left, right))

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

/** Hash of the tree that these roots are. */
export const treeHash = (roots: ReadonlyArray<TreeNode>): Buffer => asBuffer(plainTreeHash(roots.reduce((sum, root) => sum + span(root), 0), roots))

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

const placed = (index: number, { size, hash }: { readonly size: number; readonly hash: Uint8Array }): TreeNode => ({ index, size, hash: asBuffer(hash) })
