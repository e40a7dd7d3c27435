/**
 * Verdicts on the operations of one graph, kept as they come in.
 *
 * An operation that nothing but its own past can decide, and that decides about nothing but what comes after it, is judged alone: that
 * is all ordinary traffic. Another one (a revocation, an admission that may push out another, a recovery whose key was changed concurrently)
 * only marks the verdicts as stale, and the next question has them made anew (acceptance.ts). Both ways give the same.
 */
import { accept, type Resolved } from "./acceptance.ts"
import { everything, type Facts } from "./facts.ts"
import { byOrder, type Vertex } from "./graph.ts"
import { contest, type Contests, makePass, type Removals } from "./passes.ts"

export interface Verdicts {
  readonly facts: Facts
  /** Of operations that do not count, by hash: why not. */
  readonly voids: ReadonlyMap<string, string>
  /** Revocations that hold, by the device they are about, in the canonical order. */
  readonly removals: Removals
  /** Rotations and sharings of keys, whether they count or not. */
  readonly epochs: ReadonlyArray<Vertex>
}

export interface Resolver {
  /** Takes a vertex of the graph; parents come first. */
  readonly enter: (vertex: Vertex) => void
  readonly verdicts: () => Verdicts
  /** In the canonical order. */
  readonly order: () => ReadonlyArray<Vertex>
}

export const makeResolver = (): Resolver => {
  const order: Array<Vertex> = []
  let isSorted = true
  let stale = false
  const nothing = { revocations: new Set<Vertex>(), removals: new Map() }
  let resolved: Resolved = { pass: makePass(nothing, new Set()), accepted: nothing }
  /** Devices that any operation lets in, whether it counts or not. */
  const entering = new Set<string>()
  const uses: Array<Vertex> = []
  const changes: Array<Vertex> = []
  const epochs: Array<Vertex> = []

  const sorted = (): ReadonlyArray<Vertex> => {
    if (!isSorted) order.sort(byOrder)
    isSorted = true
    return order
  }

  const contests = (): Contests => new Map(uses.flatMap((use) => {
    const against = changes.filter((change) => contest(use, change))
    return against.length === 0 ? [] : [[use, against] as const]
  }))

  const standsAlone = (vertex: Vertex): boolean => {
    const { author, says } = vertex.operation
    switch (says.kind) {
      // Of one that nobody ever let in nothing can count.
      case "member.revoked": return !entering.has(author)
      case "member.admitted": return !mayPushOut(resolved.pass.facts, vertex, says.invite)
      case "recovery.used": return !changes.some((change) => contest(vertex, change))
      case "recovery.set": return !uses.some((use) => contest(use, vertex))
      default: return true
    }
  }

  const note = (vertex: Vertex): void => {
    const { author, says } = vertex.operation
    if (says.kind === "mesh.created" || says.kind === "recovery.used") entering.add(author)
    if (says.kind === "member.admitted") entering.add(says.device)
    if (says.kind === "recovery.used") uses.push(vertex)
    if (says.kind === "recovery.set") changes.push(vertex)
    if (says.kind === "epoch.rotated" || says.kind === "epoch.shared") epochs.push(vertex)
  }

  return {
    enter: (vertex) => {
      const last = order[order.length - 1]
      isSorted &&= last === undefined || byOrder(last, vertex) < 0
      order.push(vertex)
      note(vertex)
      if (stale) return
      if (standsAlone(vertex)) resolved.pass.judge(vertex)
      else stale = true
    },
    verdicts: () => {
      if (stale) {
        resolved = accept(sorted(), contests())
        stale = false
      }
      return { facts: resolved.pass.facts, voids: resolved.pass.voids, removals: resolved.accepted.removals, epochs }
    },
    order: sorted
  }
}

/** Could an admission that comes later in the order be one too many because of this one? */
const mayPushOut = (facts: Facts, vertex: Vertex, invite: string): boolean => {
  const others = facts.admissionsBy(invite, everything)
  if (others.every((other) => byOrder(other, vertex) < 0)) return false
  return facts.admittedBy(invite, everything).size >= facts.usesOf(invite)
}
