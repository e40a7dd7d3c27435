import type { TreeNode } from "./host.ts"
import { levelsAt, subtreeIndex } from "./merkle.ts"
import { Reader, Writer } from "./wire.ts"

export const blockBytesMax = 1_048_576
export const blocksPerRecordMax = 256
export const logsMax = 65_536
const lengthMax = 2 ** 40

/** Announces blocks `from` to `to` of a log and proves them: the roots at `from`, the subtrees from there to `to`, and the signature over both. */
export interface LogRange {
  readonly log: string
  readonly from: number
  readonly to: number
  /** Blocks end here: before `to` when the log was cut off, as nobody takes what lies far beyond. */
  readonly until: number
  readonly fork: number
  readonly manifest: Uint8Array
  readonly roots: ReadonlyArray<TreeNode>
  readonly nodes: ReadonlyArray<TreeNode>
  readonly signature: Uint8Array
}

/** A block with its siblings up to the largest full subtree that it begins; which ones these are follows from its number. */
export interface BundleBlock {
  readonly index: number
  readonly value: Buffer
  readonly nodes: ReadonlyArray<TreeNode>
}

export const encodeOperations = (operations: ReadonlyArray<Uint8Array>): Uint8Array => {
  const writer = new Writer()
  for (const operation of operations) writer.bytes(operation)
  return writer.take()
}

export const decodeOperations = (payload: Uint8Array, bytesMax: number): ReadonlyArray<Uint8Array> => {
  const reader = new Reader("a bundle's operations", payload)
  const found: Array<Uint8Array> = []
  while (reader.left > 0) found.push(reader.bytes(bytesMax))
  return found
}

export const encodeRange = (range: LogRange): Uint8Array => {
  const writer = new Writer().hex(range.log).uint(range.from).uint(range.to).uint(range.until).uint(range.fork).bytes(range.manifest).bytes(range.signature)
  for (const list of [range.roots, range.nodes]) {
    writer.uint(list.length)
    for (const node of list) writer.uint(node.index).uint(node.size).fixed(node.hash)
  }
  return writer.take()
}

export const decodeRange = (payload: Uint8Array): LogRange => {
  const reader = new Reader("a bundle's log", payload)
  const log = reader.hex(32)
  const from = reader.uint(lengthMax)
  const to = reader.uint(lengthMax)
  if (to <= from) throw reader.fault(`blocks ${from} to ${to}`)
  const until = reader.uint(to)
  if (until <= from) throw reader.fault(`blocks ${from} to ${until}`)
  const fork = reader.uint(2 ** 32)
  const manifest = reader.bytes(4_096)
  const signature = reader.bytes(2_048)
  const list = (): ReadonlyArray<TreeNode> => Array.from({ length: reader.uint(96) }, () => ({
    index: reader.uint(2 * lengthMax), size: reader.uint(), hash: Buffer.from(reader.fixed(32))
  }))
  const roots = list()
  const nodes = list()
  reader.end()
  return { log, from, to, until, fork, manifest, roots, nodes, signature }
}

export const encodeBlock = (writer: Writer, block: BundleBlock): void => {
  writer.bytes(block.value)
  for (const node of block.nodes) writer.uint(node.size).fixed(node.hash)
}

/** The blocks of one record; `first` is the number of the first one, `to` the length that the range proves, `until` where its blocks end. */
export const decodeBlocks = (payload: Uint8Array, first: number, { to, until }: { readonly to: number; readonly until: number }): ReadonlyArray<BundleBlock> => {
  const reader = new Reader("a bundle's blocks", payload)
  const found: Array<BundleBlock> = []
  for (let index = first; reader.left > 0; index += 1) {
    if (index >= until || found.length >= blocksPerRecordMax) throw reader.fault(`too many blocks, from ${first}`)
    const value = Buffer.from(reader.bytes(blockBytesMax))
    const nodes: Array<TreeNode> = []
    for (let level = 0; level < levelsAt(index, to); level += 1) {
      nodes.push({ index: subtreeIndex(index + 2 ** level, level), size: reader.uint(), hash: Buffer.from(reader.fixed(32)) })
    }
    found.push({ index, value, nodes })
  }
  if (found.length === 0) throw reader.fault("a record without blocks")
  return found
}
