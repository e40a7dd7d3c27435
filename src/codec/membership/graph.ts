/**
 * The graph of membership operations: which are here with all their ancestors, in what order, and which lies in whose past.
 *
 * An operation enters once all its parents are in; until then it waits, `waitingMax` at most. A bit for each operation of the past
 * makes "did the author know of it" one test. All ancestors of an operation have a lower number, so a row is as long as its number.
 */
import type { Operation } from "../operation.ts"

/** Operations of one mesh at most; the rows of the past then take 25 MB. */
export const operationsMax = 20_000
/** Operations that may wait for their parents at most. */
export const waitingMax = 10_000

export interface Vertex {
  readonly operation: Operation
  readonly number: number
  /** Longest way from `mesh.created`. With the hash it is the one order of all operations that respects who knew what. */
  readonly depth: number
  readonly past: Uint32Array
}

export type Entry =
  | { readonly _tag: "Entered"; readonly vertices: ReadonlyArray<Vertex> }
  | { readonly _tag: "Known" }
  | { readonly _tag: "Waiting" }
  /** Not kept: of another mesh, or a limit is reached. */
  | { readonly _tag: "Refused"; readonly why: string }

export interface Graph {
  /** Takes one operation; the vertices that entered by it come parents first. */
  readonly enter: (operation: Operation) => Entry
  readonly vertices: ReadonlyArray<Vertex>
  readonly has: (hash: string) => boolean
  readonly waiting: () => number
  /** Hashes of operations that no other here names as parent, the deepest first, then by hash. */
  readonly heads: () => ReadonlyArray<string>
  readonly vertex: (hash: string) => Vertex | undefined
}

/** Is `earlier` in the causal past of `later`? */
export const knew = (later: Vertex, earlier: Vertex): boolean => {
  const word = later.past[earlier.number >>> 5]
  return word !== undefined && (word & (1 << (earlier.number & 31))) !== 0
}

/** Did neither author know of the other operation? */
export const concurrent = (a: Vertex, b: Vertex): boolean => a !== b && !knew(a, b) && !knew(b, a)

/** Ascending: causes before effects, concurrent ones by depth and hash, the same on every node. */
export const byOrder = (a: Vertex, b: Vertex): number =>
  a.depth - b.depth || (a.operation.hash < b.operation.hash ? -1 : a.operation.hash > b.operation.hash ? 1 : 0)

export const makeGraph = (mesh: string): Graph => {
  const vertices: Array<Vertex> = []
  const byHash = new Map<string, Vertex>()
  const heads = new Set<Vertex>()
  const waiting = new Map<string, Operation>()
  const waitingFor = new Map<string, Set<string>>()

  const missing = (operation: Operation): string | undefined => operation.parents.find((parent) => !byHash.has(parent))

  const wait = (operation: Operation, parent: string): void => {
    waiting.set(operation.hash, operation)
    const others = waitingFor.get(parent)
    if (others === undefined) waitingFor.set(parent, new Set([operation.hash]))
    else others.add(operation.hash)
  }

  const insert = (operation: Operation): Vertex => {
    const number = vertices.length
    const past = new Uint32Array((number + 31) >>> 5)
    let depth = 0
    for (const hash of operation.parents) {
      const parent = byHash.get(hash)
      if (parent === undefined) throw new Error(`parent ${hash} of ${operation.hash} is not in the graph`)
      depth = Math.max(depth, parent.depth + 1)
      for (let i = 0; i < parent.past.length; i++) past[i] = (past[i] ?? 0) | (parent.past[i] ?? 0)
      past[parent.number >>> 5] = (past[parent.number >>> 5] ?? 0) | (1 << (parent.number & 31))
      heads.delete(parent)
    }
    const vertex: Vertex = { operation, number, depth, past }
    vertices.push(vertex)
    byHash.set(operation.hash, vertex)
    heads.add(vertex)
    return vertex
  }

  const enter = (operation: Operation): Entry => {
    const first = operation.says.kind === "mesh.created"
    if ((first ? operation.hash : operation.mesh) !== mesh) return { _tag: "Refused", why: "it belongs to another mesh" }
    if (byHash.has(operation.hash)) return { _tag: "Known" }
    if (waiting.has(operation.hash)) return { _tag: "Known" }
    if (vertices.length + waiting.size >= operationsMax) return { _tag: "Refused", why: `the mesh has ${operationsMax} operations already` }
    const parent = missing(operation)
    if (parent !== undefined) {
      if (waiting.size >= waitingMax) return { _tag: "Refused", why: `${waitingMax} operations wait for their parents already` }
      wait(operation, parent)
      return { _tag: "Waiting" }
    }
    const entered = [insert(operation)]
    for (let i = 0; i < entered.length; i++) {
      const hash = entered[i]?.operation.hash ?? ""
      const ready = waitingFor.get(hash)
      waitingFor.delete(hash)
      for (const child of ready ?? []) {
        const candidate = waiting.get(child)
        if (candidate === undefined) continue
        waiting.delete(child)
        const next = missing(candidate)
        if (next === undefined) entered.push(insert(candidate))
        else wait(candidate, next)
      }
    }
    return { _tag: "Entered", vertices: entered }
  }

  return {
    enter, vertices,
    has: (hash) => byHash.has(hash),
    waiting: () => waiting.size,
    heads: () => [...heads].sort((a, b) => b.depth - a.depth || byOrder(a, b)).map((vertex) => vertex.operation.hash),
    vertex: (hash) => byHash.get(hash)
  }
}
