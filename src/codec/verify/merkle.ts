/**
 * Hypercore 11's Merkle tree, as far as a proof needs it: hashes, the shape of the tree and what a writer signs.
 *
 * Leaves are blocks. Nodes are numbered in order (flat-tree): block `i` is node `2i`. A log of length n has one root for each bit
 * set in n, the largest first. All hashes are BLAKE2b-256: of a leaf `0 | size u64 | block`, of a parent `1 | size u64 | left | right`,
 * of the tree `2 | (hash | node u64 | size u64) for each root`, integers little-endian. The writer signs
 * `namespace TREE | log key | tree hash | length u64 | fork u64`; the log key is the hash of `namespace MANIFEST | manifest`.
 */
import sodium from "sodium-native"
import { utf8 } from "../bytes.ts"
import { asBuffer } from "../hash.ts"

export interface TreeNode {
  /** Bytes of all blocks below. */
  readonly size: number
  readonly hash: Uint8Array
}

/** What a root is in the tree: its number and the blocks under it. */
export interface RootPlace {
  readonly node: number
  readonly first: number
  /** Blocks, a power of two. */
  readonly count: number
}

/** A manifest as kOS makes them: version 1, one Ed25519 signer, quorum one; nothing else fits. Bytes. */
export const manifestBytes = 70

const hash = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const out = Buffer.allocUnsafeSlow(32)
  sodium.crypto_generichash_batch(out, parts.map(asBuffer))
  return out
}

/** Hypercore's labels: the hash of a hash of its name and a number. */
const namespace = (number: number): Uint8Array => hash(hash(utf8("hypercore")), Uint8Array.of(number))

const treeNamespace = namespace(0)
const manifestNamespace = namespace(3)
const signerNamespace = namespace(4)

export const leafNode = (block: Uint8Array): TreeNode =>
  ({ size: block.byteLength, hash: hash(Uint8Array.of(0), u64(block.byteLength), block) })

export const parentNode = (left: TreeNode, right: TreeNode): TreeNode =>
  ({ size: left.size + right.size, hash: hash(Uint8Array.of(1), u64(left.size + right.size), left.hash, right.hash) })

/** Hash of the tree of this many blocks; roots in the order of `rootPlaces`. */
export const treeHash = (length: number, roots: ReadonlyArray<TreeNode>): Uint8Array =>
  hash(Uint8Array.of(2), ...rootPlaces(length).flatMap((place, i) => {
    const root = roots[i]
    return root === undefined ? [] : [root.hash, u64(place.node), u64(root.size)]
  }))

export const rootPlaces = (length: number): ReadonlyArray<RootPlace> => {
  const out: Array<RootPlace> = []
  let first = 0
  while (first < length) {
    const count = 2 ** Math.floor(Math.log2(length - first))
    out.push({ node: 2 * first + count - 1, first, count })
    first += count
  }
  return out
}

/** Climbs from a block to the root that stands over it. `path` holds the sister at each step; its length is the root's height. */
export const climb = (block: number, leaf: TreeNode, path: ReadonlyArray<TreeNode>): TreeNode => {
  let node = leaf
  let position = block
  for (const sister of path) {
    node = position % 2 === 0 ? parentNode(node, sister) : parentNode(sister, node)
    position = Math.floor(position / 2)
  }
  return node
}

/** What the writer signed at this length. */
export const treeSignable = (log: Uint8Array, tree: Uint8Array, length: number, fork: number): Uint8Array =>
  Buffer.concat([treeNamespace, log, tree, u64(length), u64(fork)])

/** The manifest of a log with this signing key. */
export const manifestOf = (signer: Uint8Array): Uint8Array =>
  Buffer.concat([Buffer.of(1, 0, 0, 1, 1, 0), signerNamespace, signer])

/** The key that signs the log; undefined for a manifest of any other form. */
export const signerOf = (manifest: Uint8Array): Uint8Array | undefined => {
  const signer = manifest.subarray(manifestBytes - 32)
  return manifest.byteLength === manifestBytes && Buffer.compare(manifestOf(signer), manifest) === 0 ? signer : undefined
}

export const logKeyOf = (manifest: Uint8Array): Uint8Array => hash(manifestNamespace, manifest)

const u64 = (value: number): Uint8Array => {
  const out = Buffer.alloc(8)
  out.writeBigUInt64LE(BigInt(value))
  return out
}
