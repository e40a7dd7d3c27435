/** Deciders of rights: roles, revocation, and how many owners must agree on one. Pure but for the chance inside sealing. */
import { Result } from "effect"
import { writes } from "../codec/membership/cuts.ts"
import { type Cutoff, cutoffsMax, rankOf, reasonLengthMax, type Role, type Statement, thresholdMax } from "../codec/operation.ts"
import type { Member, Membership } from "../projections/membership.ts"
import { givingStatements, type KeysToGive } from "./decide-invites.ts"
import { rotationStatements } from "./epoch-statements.ts"
import { type Decision, isLastOwner, manager, next, nodeCalled, one, owner, reaches, refuse, type Situation, usage } from "./situation.ts"

/**
 * Another role for a node. A role without writing ends what it wrote in documents at the lengths that this node knows; one without reading
 * takes a new key (`newKey`), one with reading for the first time is given keys (`keys`, or `newKey` when there are none to give).
 */
export const decideSetRole = (
  situation: Situation, wish: KeysToGive & { readonly node: string; readonly role: Role; readonly lengthOf: (log: string) => number }
): Decision => {
  const me = manager(situation, "set roles")
  if (Result.isFailure(me)) return Result.fail(me.failure)
  const found = nodeCalled(situation, wish.node)
  if (Result.isFailure(found)) return Result.fail(found.failure)
  const target = found.success
  const self = target.device === situation.device
  if (target.role === wish.role) return Result.succeed([])
  if (!self && target.role === "owner") return refuse("denied", `${target.name} is an owner; an owner's role is changed by itself only`)
  const may = self ? Result.succeed(undefined) : reaches(situation, me.success, target.role, `change the role of ${target.name}, who is`)
  if (Result.isFailure(may)) return Result.fail(may.failure)
  const gives = reaches(situation, me.success, wish.role, "make a node")
  if (Result.isFailure(gives)) return Result.fail(gives.failure)
  if (self && isLastOwner(situation)) return refuse("denied", "the last owner stays; make another node owner first")
  const statements: Array<Statement> = [{
    kind: "role.set", device: target.device, role: wish.role,
    // Also of a role that may still write: what an admin set where members may not stays in force up to here.
    ...(rankOf(wish.role) < rankOf(target.role) ? { cutoffs: cutoffsOf(target, wish.lengthOf) } : {})
  }]
  if (reads(target.role) && !reads(wish.role) && wish.newKey !== undefined) statements.push(...rotationStatements(situation.membership, wish.newKey, target.device))
  if (!reads(target.role) && reads(wish.role)) statements.push(...givingStatements(situation.membership, target.device, wish))
  // Who steps down so far loses the right to rotate with it: first the rotation, then the role.
  if (self && statements.length > 1) statements.push(...statements.splice(0, 1))
  return Result.succeed(next(situation, statements))
}

/**
 * Ends a device's membership, with all that it does concurrently, and gives the others a new key in the same unit of operations. Of an
 * owner it takes as many owners as must agree: before they are so many, only the wish is recorded (`ownersToAgree` says how many).
 */
export const decideRevoke = (
  situation: Situation, wish: { readonly node: string; readonly reason?: string; readonly lengthOf: (log: string) => number; readonly newKey: Uint8Array }
): Decision => {
  const me = manager(situation, "revoke")
  if (Result.isFailure(me)) return Result.fail(me.failure)
  const found = nodeCalled(situation, wish.node, true)
  if (Result.isFailure(found)) return Result.fail(found.failure)
  const target = found.success
  if (target.device === situation.device) return refuse("denied", "a node does not revoke itself; it leaves", "kos leave")
  if (target.standing === "revoked") return Result.succeed([])
  const may = reaches(situation, me.success, target.role, `revoke ${target.name}, who is`)
  if (Result.isFailure(may)) return Result.fail(may.failure)
  if (wish.reason !== undefined && wish.reason.length > reasonLengthMax) return usage(`a reason has at most ${reasonLengthMax} characters`, "reason")
  const missing = ownersToAgree(situation.membership, target, situation.device)
  if (target.accused?.by.includes(situation.device) === true && missing > 0) {
    return refuse("pending", `${target.name} is an owner, and this node has revoked it; ${missing === 1 ? "one more owner" : `${missing} more owners`} must do the same`)
  }
  const revocation: Statement = {
    kind: "member.revoked", device: target.device, cutoffs: cutoffsOf(target, wish.lengthOf), ...(wish.reason === undefined || wish.reason === "" ? {} : { reason: wish.reason })
  }
  return Result.succeed(next(situation, [revocation, ...(missing > 0 ? [] : rotationStatements(situation.membership, wish.newKey, target.device))]))
}

/** Owners that must still agree once `by` has, before this node is revoked; 0 when it then is. */
export const ownersToAgree = (membership: Membership, target: Member, by: string): number => {
  if (target.role !== "owner") return 0
  const others = [...membership.members.values()].filter((member) => member.device !== target.device && member.standing === "member" && member.role === "owner").length
  const needed = Math.max(1, Math.min(membership.thresholdSaid ?? membership.threshold, others))
  return Math.max(0, needed - new Set([...target.accused?.by ?? [], by]).size)
}

/** How many owners must agree before an owner is revoked. A higher number holds at once; a lower one when as many owners as must agree now have said it. */
export const decideThreshold = (situation: Situation, wish: { readonly threshold: number }): Decision => {
  const me = owner(situation, "say how many owners must agree")
  if (Result.isFailure(me)) return Result.fail(me.failure)
  const { threshold } = wish
  if (!Number.isSafeInteger(threshold) || threshold < 1 || threshold > thresholdMax) return usage(`expected 1 to ${thresholdMax} owners`, "owners")
  const { membership } = situation
  if (threshold === (membership.thresholdSaid ?? membership.threshold)) return Result.succeed([])
  const owners = [...membership.members.values()].filter((member) => member.standing === "member" && member.role === "owner").length
  if (threshold > Math.max(1, owners - 1)) {
    return refuse("conflict", `${membership.name} has ${owners === 1 ? "one owner" : `${owners} owners`}; at most ${Math.max(1, owners - 1)} can agree about another`)
  }
  return one(situation, { kind: "owners.threshold", threshold })
}

const reads = (role: Role): boolean => rankOf(role) >= rankOf("reader")

/** Where the device's logs end as far as this node knows, the newest logs first when there are more than fit. */
const cutoffsOf = (target: Member, lengthOf: (log: string) => number): ReadonlyArray<Cutoff> =>
  target.logs.toReversed().slice(0, cutoffsMax).map(({ log, cutAt }) => ({ log, length: Math.min(lengthOf(log), cutAt ?? Infinity) }))
