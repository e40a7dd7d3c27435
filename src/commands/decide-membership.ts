/**
 * Deciders of membership: what is now and what is wished, to operations ready to be signed, or a refusal. Pure.
 *
 * The caller signs each draft in order with the vault's device key (`signOperation`), offers it to the fold, stores it and tells the
 * peers. An empty list says that nothing is left to do. Parents of the first draft are the mesh's heads as of now; each further
 * draft builds on the one before.
 */
import { Result } from "effect"
import { shortKey } from "../codec/bytes.ts"
import { actsOn, manages } from "../codec/membership/rules.ts"
import { draftOperation, isKeyText, isMeshName, isNodeName, type LogHeld, type Unsigned } from "../codec/operation.ts"
import { findMember } from "../projections/membership.ts"
import { foundingRotation } from "./epoch-statements.ts"
import type { Refusal } from "./refusal.ts"
import { chain, type Decision, holderAgainst, isLastOwner, member, next, nodeCalled, one, owner, refuse, type Situation, usage } from "./situation.ts"

// Callers name this file; what was divided off by subject is still found here.
export { decideIssueInvite, decideRedeem, decideWithdrawInvite, inviteLifeMsMax, type InviteRefusal } from "./decide-invites.ts"
export { decideRevoke, decideSetRole, decideThreshold, ownersToAgree } from "./decide-rights.ts"
export { type Decision, next, type Situation }

/** A new mesh with this node as its owner. `nonce` is 32 random bytes: two meshes of one name and moment stay two. `newKey` is that of epoch 1. */
export const decideCreateMesh = (
  wish: LogHeld & { readonly name: string; readonly nodeName: string; readonly log: string; readonly nonce: Uint8Array; readonly newKey: Uint8Array },
  who: { readonly device: string; readonly ms: number }
): Result.Result<{ readonly mesh: string; readonly operations: ReadonlyArray<Unsigned> }, Refusal> => {
  if (!isMeshName(wish.name)) return usage(meshNameRule, "name")
  if (!isNodeName(wish.nodeName)) return usage(nodeNameRule, "nodeName")
  const created = draftOperation({
    mesh: "", author: who.device, parents: [], ms: who.ms, says: { kind: "mesh.created", name: wish.name, nonce: wish.nonce }
  })
  const mesh = created.hash
  const rest = chain(mesh, who.device, who.ms, [mesh], [
    { kind: "member.named", device: who.device, name: wish.nodeName }, { kind: "log.attached", log: wish.log, ...heldOf(wish) }, foundingRotation(wish.newKey, who.device)
  ])
  return Result.succeed({ mesh, operations: [created, ...rest] })
}

/** Gives the mesh a name; an owner may. `kos mesh create NAME` on a mesh of one comes here. A name that it has already changes nothing. */
export const decideNameMesh = (situation: Situation, wish: { readonly name: string }): Decision => {
  const me = owner(situation, "name the mesh")
  if (Result.isFailure(me)) return Result.fail(me.failure)
  if (!isMeshName(wish.name)) return usage(meshNameRule, "name")
  return wish.name === situation.membership.name ? Result.succeed([]) : one(situation, { kind: "mesh.named", name: wish.name })
}

/** Names this node, or as admin or owner one of lower rank; `node` is a name or the beginning of a device key. */
export const decideNameNode = (situation: Situation, wish: { readonly node: string; readonly name: string }): Decision => {
  const me = member(situation)
  if (Result.isFailure(me)) return Result.fail(me.failure)
  if (!isNodeName(wish.name)) return usage(nodeNameRule, "name")
  const found = nodeCalled(situation, wish.node)
  if (Result.isFailure(found)) return Result.fail(found.failure)
  const target = found.success
  const { role } = me.success
  if (target.device !== situation.device && !manages(role)) return refuse("denied", "only admins and owners name another's node")
  if (target.device !== situation.device && !actsOn(role, target.role)) return refuse("denied", `an ${role} names nodes of lower rank only; ${target.name} is ${target.role}`)
  if (target.name === wish.name) return Result.succeed([])
  const holder = findMember(situation.membership, wish.name)
  if (holder !== undefined && holder.device !== target.device && holder.standing === "member" && holder.name.toLowerCase() === wish.name.toLowerCase()) {
    return refuse("conflict", `${wish.name} is the name of ${shortKey(holder.device)} already`)
  }
  return one(situation, { kind: "member.named", device: target.device, name: wish.name })
}

/** A further log of this node. */
export const decideAttachLog = (situation: Situation, wish: LogHeld & { readonly log: string }): Decision => {
  const me = member(situation)
  if (Result.isFailure(me)) return Result.fail(me.failure)
  if (!isKeyText(wish.log)) return usage("a log key is 64 hex digits", "log")
  const holder = holderAgainst(situation.membership, wish.log, wish)
  if (holder === situation.device) return Result.succeed([])
  if (holder !== undefined) return refuse("conflict", `the log ${shortKey(wish.log)} belongs to ${shortKey(holder)}`)
  return one(situation, { kind: "log.attached", log: wish.log, ...heldOf(wish) })
}

/** Closes a log of this node at a length and goes on in another. */
export const decideSucceedLog = (
  situation: Situation, wish: LogHeld & { readonly log: string; readonly length: number; readonly treeHash: string; readonly successor: string }
): Decision => {
  const me = member(situation)
  if (Result.isFailure(me)) return Result.fail(me.failure)
  if (!isKeyText(wish.log) || !isKeyText(wish.treeHash) || !isKeyText(wish.successor)) return usage("keys and hashes are 64 hex digits")
  if (!Number.isSafeInteger(wish.length) || wish.length < 0) return usage("a length is a whole number", "length")
  const log = me.success.logs.find((entry) => entry.log === wish.log)
  if (log === undefined) return refuse("not-found", `the log ${shortKey(wish.log)} does not belong to this node`)
  if (log.successor === wish.successor) return Result.succeed([])
  if (log.successor !== undefined) return refuse("conflict", `the log ${shortKey(wish.log)} was closed before, its successor is ${shortKey(log.successor)}`)
  const holder = holderAgainst(situation.membership, wish.successor, wish)
  if (wish.successor === wish.log || (holder !== undefined && holder !== situation.device)) return refuse("conflict", "the successor must be a new log of this node")
  if (me.success.logs.some((entry) => entry.log === wish.successor && entry.closedAt !== undefined)) return refuse("conflict", "the successor was closed before")
  const { length, successor, treeHash } = wish
  return one(situation, { kind: "log.succeeded", log: wish.log, length, treeHash, successor, ...heldOf(wish) })
}

export const decideLeave = (situation: Situation): Decision => {
  const me = member(situation)
  if (Result.isFailure(me)) return Result.fail(me.failure)
  if (isLastOwner(situation)) {
    const others = [...situation.membership.members.values()].some((one) => one.device !== situation.device && one.standing === "member")
    return others
      ? refuse("denied", "the last owner stays; make another node owner first")
      : refuse("denied", "this node is the whole mesh; there is nothing to leave")
  }
  return one(situation, { kind: "member.left" })
}

/** The proof of possession, when the caller gives one. */
const heldOf = ({ signer, held }: LogHeld): LogHeld => signer === undefined || held === undefined ? {} : { signer, held }

const meshNameRule = "a mesh's name is one line of at most 64 printable characters"

const nodeNameRule = "a node's name is letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit"
