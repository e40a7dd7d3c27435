/**
 * Which revocations are accepted, round by round; accepted stays accepted.
 *
 * A revocation takes away what its device did concurrently, perhaps the ground on which another revocation stands. So each round takes
 * the candidates, revocations that count as far as is known, and accepts those that no other candidate threatens: R is threatened by R'
 * when R itself, or an operation of R's authority, is by the device that R' is about and concurrent with R' (but for R about the author of
 * R': those two are both out). When all are threatened (a cycle), the first by rank, by seniority of the author and by order is accepted alone.
 */
import { rankOf } from "../operation.ts"
import { everything, type Facts, roleGiven } from "./facts.ts"
import { byOrder, type Vertex } from "./graph.ts"
import { type Accepted, type Contests, type Pass, passOver, removes } from "./passes.ts"

/** Rounds in which threats are weighed at most; whoever makes more of a tangle gets all that is left accepted at once. */
export const roundsMax = 64

export interface Resolved {
  /** The last pass, in which no further revocation can be accepted: it says what counts. */
  readonly pass: Pass
  readonly accepted: Accepted
}

/** `order`: all operations in the canonical order. A pure function of them. */
export const accept = (order: ReadonlyArray<Vertex>, contests: Contests): Resolved => {
  const revocations = order.flatMap((vertex): ReadonlyArray<Revoking> =>
    vertex.operation.says.kind === "member.revoked" ? [{ vertex, device: vertex.operation.says.device }] : [])
  const accepted = new Set<Vertex>()
  /** Those of them that hold, as they did when it was looked at; they hold from then on. */
  const held = new Set<Vertex>()
  for (let round = 1; ; round++) {
    const removals = byDevice(revocations.filter(({ vertex }) => held.has(vertex)))
    const pass = passOver(order, contests, { revocations: accepted, removals })
    const candidates = revocations.filter(({ vertex }) => !accepted.has(vertex) && !pass.voids.has(vertex.operation.hash))
    for (const { vertex } of round < roundsMax ? nextOf(pass.facts, candidates) : candidates) accepted.add(vertex)
    const before = held.size
    for (const device of new Set(revocations.map((revocation) => revocation.device))) {
      for (const vertex of pass.facts.heldOf(device, everything, (other) => accepted.has(other))) held.add(vertex)
    }
    if (candidates.length === 0 && held.size === before) return { pass, accepted: { revocations: accepted, removals } }
  }
}

interface Revoking {
  readonly vertex: Vertex
  readonly device: string
}

/** Those that no other threatens, or, when there are none, the first. */
const nextOf = (facts: Facts, candidates: ReadonlyArray<Revoking>): ReadonlyArray<Revoking> => {
  const about = byDevice(candidates)
  const free = candidates.filter(({ vertex }) => ![vertex, ...authorityOf(facts, vertex)].some((basis) =>
    (about.get(basis.operation.author) ?? []).some((other) => other !== vertex && removes(other, basis))))
  return free.length > 0 ? free : candidates.map((candidate) => weigh(facts, candidate)).sort(bySeniority).slice(0, 1)
}

/** The grants by which its author acts, those by which their authors gave them, and so on down to the creation of the mesh. */
const authorityOf = (facts: Facts, revocation: Vertex): ReadonlySet<Vertex> => {
  const found = new Set<Vertex>()
  const queue = [revocation]
  for (const vertex of queue) {
    for (const basis of basesOf(facts, vertex)) {
      if (found.has(basis)) continue
      found.add(basis)
      queue.push(basis)
    }
  }
  return found
}

const basesOf = (facts: Facts, vertex: Vertex): ReadonlyArray<Vertex> => {
  const { author, says } = vertex.operation
  // Who holds the secret on paper needs no other right than that an owner set its key.
  const bases = says.kind === "recovery.used" ? [facts.recoveryOf(vertex)] : [...facts.grantsOf(author, vertex), ...facts.entriesOf(author, vertex)]
  if (says.kind === "member.admitted") bases.push(facts.issueOf(says.invite, vertex))
  return bases.filter((basis) => basis !== undefined)
}

interface Weight extends Revoking {
  readonly rank: number
  readonly entry: Vertex
}

const weigh = (facts: Facts, candidate: Revoking): Weight => {
  const { vertex } = candidate
  const { author } = vertex.operation
  const rank = Math.min(...facts.grantsOf(author, vertex).map((grant) => rankOf(roleGiven(grant))))
  const [entry = vertex] = [...facts.entriesOf(author, vertex)].sort(byOrder)
  return { ...candidate, rank, entry }
}

const bySeniority = (a: Weight, b: Weight): number => b.rank - a.rank || byOrder(a.entry, b.entry) || byOrder(a.vertex, b.vertex)

const byDevice = (revocations: ReadonlyArray<Revoking>): ReadonlyMap<string, ReadonlyArray<Vertex>> => {
  const out = new Map<string, Array<Vertex>>()
  for (const { vertex, device } of revocations) {
    const others = out.get(device)
    if (others === undefined) out.set(device, [vertex])
    else others.push(vertex)
  }
  return out
}
