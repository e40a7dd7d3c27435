import { leafNode, parentNode, treeHash, type TreeNode } from "./verify/merkle.ts"

/** Builds a log's Merkle tree block by block and gives its hash at any length on the way; keeps one root per set bit of the length. */
export class TreeHasher {
  readonly #roots: Array<{ readonly blocks: number; readonly node: TreeNode }> = []
  #length = 0

  get length(): number {
    return this.#length
  }

  append(block: Uint8Array): void {
    let node = leafNode(block)
    let blocks = 1
    for (let last = this.#roots.at(-1); last !== undefined && last.blocks === blocks; last = this.#roots.at(-1)) {
      node = parentNode(last.node, node)
      blocks *= 2
      this.#roots.pop()
    }
    this.#roots.push({ blocks, node })
    this.#length++
  }

  treeHash(): Uint8Array {
    return treeHash(this.#length, this.#roots.map(({ node }) => node))
  }
}
