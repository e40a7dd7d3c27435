/**
 * One pass: each operation is judged once, in an order in which causes come before effects, against what counts of those before it.
 *
 * An operation counts when its author held the right in its own past (rules.ts), when it is not by a device that an accepted revocation
 * removes concurrently, and when it is not an admission beyond the uses of its invite. Which revocations are accepted is given
 * (acceptance.ts); an accepted one counts whatever becomes of its basis.
 */
import { shortKey } from "../bytes.ts"
import { everything, type Facts, makeFacts } from "./facts.ts"
import { concurrent, type Vertex } from "./graph.ts"
import { fault } from "./rules.ts"

/** Revocations by the device they are about, each list in the canonical order. */
export type Removals = ReadonlyMap<string, ReadonlyArray<Vertex>>

export interface Accepted {
  /** Revocations that count, come what may. */
  readonly revocations: ReadonlySet<Vertex>
  /** Those of them that hold: of an owner, so many as must agree. */
  readonly removals: Removals
}

export interface Pass {
  readonly facts: Facts
  /** Of operations that do not count, by hash: why not. */
  readonly voids: ReadonlyMap<string, string>
  /**
   * Judges one more operation. In any order when nothing but its own past can decide it (`standsAlone` of resolver.ts); else in the
   * canonical order.
   */
  readonly judge: (vertex: Vertex) => void
}

/** `blocked`: recoveries that do not count, for the recovery key was changed concurrently. */
export const makePass = (accepted: Accepted, blocked: ReadonlySet<Vertex>): Pass => {
  const facts = makeFacts()
  const voids = new Map<string, string>()
  const reason = (vertex: Vertex): string | undefined => {
    if (accepted.revocations.has(vertex)) return undefined
    const removal = removalOf(accepted.removals, vertex)
    if (removal !== undefined) return `its author was revoked by ${shortKey(removal.operation.author)} concurrently`
    if (blocked.has(vertex)) return "another recovery key was set concurrently"
    return fault(facts, vertex) ?? surplus(facts, vertex)
  }
  return {
    facts, voids,
    judge: (vertex) => {
      const why = reason(vertex)
      if (why === undefined) facts.add(vertex)
      else voids.set(vertex.operation.hash, why)
    }
  }
}

/**
 * A pass over all, in the canonical order. A recovery that is contested by a change of the recovery key is judged by what the mesh
 * would be without any contested recovery: does that change count there? So it cannot undo what speaks against it.
 */
export const passOver = (order: ReadonlyArray<Vertex>, contests: Contests, accepted: Accepted): Pass => {
  const first = run(order, accepted, new Set(contests.keys()))
  if (contests.size === 0) return first
  const blocked = [...contests].filter(([, changes]) => changes.some(({ operation }) => !first.voids.has(operation.hash))).map(([use]) => use)
  return blocked.length === contests.size ? first : run(order, accepted, new Set(blocked))
}

/** Uses of the recovery key with the concurrent changes to another key. */
export type Contests = ReadonlyMap<Vertex, ReadonlyArray<Vertex>>

/** Do these two contest the recovery key? */
export const contest = (use: Vertex, change: Vertex): boolean => {
  const used = use.operation.says
  const set = change.operation.says
  return used.kind === "recovery.used" && set.kind === "recovery.set" && used.recovery !== set.recovery && concurrent(use, change)
}

const run = (order: ReadonlyArray<Vertex>, accepted: Accepted, blocked: ReadonlySet<Vertex>): Pass => {
  const pass = makePass(accepted, blocked)
  for (const vertex of order) pass.judge(vertex)
  return pass
}

/**
 * Strong removal: what a device did concurrently with its revocation is out. One thing is not: that it revoked whoever revoked it. Two that
 * revoke each other are both out, and nobody else is drawn in: who steals a device cannot expel the rest of the mesh with it afterwards.
 */
const removalOf = (removals: Removals, vertex: Vertex): Vertex | undefined =>
  removals.get(vertex.operation.author)?.find((removal) => removes(removal, vertex))

/** Would this revocation of its author, were it in force, take this operation away? */
export const removes = (removal: Vertex, vertex: Vertex): boolean => {
  const { says } = vertex.operation
  return concurrent(removal, vertex) && !(says.kind === "member.revoked" && says.device === removal.operation.author)
}

/** Admissions by one invite are counted in the canonical order, whatever each knew: the devices beyond its uses are not in. */
const surplus = (facts: Facts, vertex: Vertex): string | undefined => {
  const { says } = vertex.operation
  if (says.kind !== "member.admitted") return undefined
  const issue = facts.issueOf(says.invite, vertex)?.operation.says
  const before = facts.admittedBy(says.invite, everything)
  return issue?.kind === "invite.issued" && !before.has(says.device) && before.size >= issue.uses
    ? "the invite was used up by an admission that comes first" : undefined
}
