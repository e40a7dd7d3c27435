/**
 * Where a log ends: closed by its device, cut by a revocation, or, for documents, by a change of role that takes writing away.
 *
 * A revocation speaks of the device's logs as its author knew them: those that it lists are cut where it says, the others at 0. A log
 * whose claim knew of the revocation belongs to a later membership and is not touched.
 */
import { rankOf, type Role } from "../operation.ts"
import { type Claim, everything, type Horizon, listedLength, lowestRole, roleGiven } from "./facts.ts"
import { knew } from "./graph.ts"
import type { Verdicts } from "./resolver.ts"

/** May a device with this role write documents? */
export const writes = (role: Role): boolean => rankOf(role) >= rankOf("member")

/** Blocks from here on do not count; undefined when the log goes on. `claim` is the one that wins the log. */
export const cutAtOf = ({ facts, removals }: Verdicts, claim: Claim, log: string, horizon: Horizon): number | undefined => {
  const closing = facts.closingOf(log, claim.device, horizon)?.operation.says
  let cut = closing?.kind === "log.succeeded" ? closing.length : Infinity
  for (const revocation of horizon === undefined ? removals.get(claim.device) ?? [] : facts.heldOf(claim.device, horizon)) {
    const { says } = revocation.operation
    if (says.kind !== "member.revoked" || knew(claim.vertex, revocation)) continue
    cut = Math.min(cut, listedLength(says.cutoffs, log) ?? 0)
  }
  return cut === Infinity ? undefined : cut
}

/**
 * Changes of documents from this block on do not count; undefined when the device may write documents now (then `cutAtOf` alone says),
 * 0 when it never might.
 */
export const docsToOf = (verdicts: Verdicts, claim: Claim, log: string): number | undefined => {
  const role = lowestRole(verdicts.facts.grantsOf(claim.device, everything))
  if (role === undefined || writes(role)) return undefined
  return Math.min(cutAtOf(verdicts, claim, log, everything) ?? Infinity, writtenTo(verdicts, claim, log))
}

/** The smallest length at which writing was taken away, back to the grants that did so; Infinity when nothing but `cutAtOf` ended it. */
const writtenTo = (verdicts: Verdicts, claim: Claim, log: string): number => {
  const { facts } = verdicts
  const takingBefore = (horizon: Horizon) => facts.grantsOf(claim.device, horizon).filter((grant) => !writes(roleGiven(grant)))
  const taking = new Set(takingBefore(everything))
  let end = Infinity
  for (const grant of taking) {
    const { says } = grant.operation
    const earlier = takingBefore(grant)
    const listed = says.kind === "role.set" ? listedLength(says.cutoffs, log) : undefined
    if (listed !== undefined) end = Math.min(end, listed)
    // A membership that begins without writing: what an earlier one wrote stays only where its log had ended by then.
    const begins = says.kind !== "role.set" && !(knew(grant, claim.vertex) && cutAtOf(verdicts, claim, log, grant) !== undefined)
    const takes = says.kind === "role.set" && earlier.length === 0
    if (begins || (takes && listed === undefined)) return 0
    for (const other of earlier) taking.add(other)
  }
  return end
}
