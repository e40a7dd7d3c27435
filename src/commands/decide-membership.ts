/**
 * Deciders of membership: what is now and what is wished, to operations ready to be signed, or a refusal. Pure.
 *
 * The caller signs each draft in order with the vault's device key (`signOperation`), offers it to the fold, stores it and tells the
 * peers. An empty list says that nothing is left to do. Parents of the first draft are the mesh's heads as of now; each further
 * draft builds on the one before.
 */
import { Result } from "effect"
import { fromHex, shortKey } from "../codec/bytes.ts"
import { type Invite, inviteKey } from "../codec/invite.ts"
import {
  admissionHash, draftOperation, inviteUsesMax, isKeyText, isMeshName, isNodeName, operationParentsMax, type Role, type Statement, type Unsigned
} from "../codec/operation.ts"
import type { InviteRefusalReason, PairingRequest } from "../codec/pairing.ts"
import { verify } from "../codec/signature.ts"
import { findMember, type Member, type Membership } from "../projections/membership.ts"
import { Refusal } from "./refusal.ts"

export type Decision<E = Refusal> = Result.Result<ReadonlyArray<Unsigned>, E>

/** Who acts, and what this node knows. */
export interface Situation {
  readonly membership: Membership
  /** Device key of this node. */
  readonly device: string
  /** Wall milliseconds. */
  readonly ms: number
}

/** Why an invite did not let a candidate in; `detail` is a sentence for the person who tries. */
export interface InviteRefusal {
  readonly reason: InviteRefusalReason
  readonly detail: string
}

/** An invite is valid for at most this long, milliseconds. */
export const inviteLifeMsMax = 366 * 24 * 3_600_000

/** A new mesh with this node as its owner. `nonce` is 32 random bytes: two meshes of one name and moment stay two. */
export const decideCreateMesh = (
  wish: { readonly name: string; readonly nodeName: string; readonly log: string; readonly nonce: Uint8Array },
  who: { readonly device: string; readonly ms: number }
): Result.Result<{ readonly mesh: string; readonly operations: ReadonlyArray<Unsigned> }, Refusal> => {
  if (!isMeshName(wish.name)) return usage(meshNameRule, "name")
  if (!isNodeName(wish.nodeName)) return usage(nodeNameRule, "nodeName")
  const created = draftOperation({
    mesh: "", author: who.device, parents: [], ms: who.ms, says: { kind: "mesh.created", name: wish.name, nonce: wish.nonce }
  })
  const mesh = created.hash
  const rest = chain(mesh, who.device, who.ms, [mesh], [
    { kind: "member.named", device: who.device, name: wish.nodeName }, { kind: "log.attached", log: wish.log }
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

/** The invite's public key, role and expiry are recorded; its seed is not. */
export const decideIssueInvite = (
  situation: Situation, wish: { readonly invite: Invite; readonly uses: number }
): Decision => {
  const me = owner(situation, "issue invites")
  if (Result.isFailure(me)) return Result.fail(me.failure)
  const { invite, uses } = wish
  if (invite.role !== "member" && invite.role !== "owner") return usage(`the role ${invite.role} is not in force in this version; expected member or owner`, "role")
  if (!Number.isSafeInteger(uses) || uses < 1 || uses > inviteUsesMax) return usage(`an invite has 1 to ${inviteUsesMax} uses`, "uses")
  if (invite.expiresMs <= situation.ms) return usage("the invite would have expired already", "expires")
  if (invite.expiresMs > situation.ms + inviteLifeMsMax) return usage("an invite is valid for a year at most", "expires")
  if (invite.mesh !== situation.membership.id || invite.issuer !== situation.device) return usage("the invite names another mesh or issuer", "invite")
  return one(situation, { kind: "invite.issued", invite: inviteKey(invite), role: invite.role, expiresMs: invite.expiresMs, uses })
}

/** `invite` is the public key, or eight or more of its first digits. Withdrawing twice changes nothing. */
export const decideWithdrawInvite = (situation: Situation, wish: { readonly invite: string }): Decision => {
  const me = owner(situation, "withdraw invites")
  if (Result.isFailure(me)) return Result.fail(me.failure)
  const found = [...situation.membership.invites.values()].filter((record) =>
    /^[0-9a-f]{8,64}$/.test(wish.invite) && record.invite.startsWith(wish.invite))
  const [record] = found
  if (record === undefined || found.length > 1) {
    const why = record === undefined ? "no invite" : `${found.length} invites`
    return refuse("not-found", `${why} of this mesh ${found.length > 1 ? "begin" : "begins"} with ${wish.invite}`, "kos invite list")
  }
  return record.withdrawn ? Result.succeed([]) : one(situation, { kind: "invite.withdrawn", invite: record.invite })
}

/**
 * The issuer's answer to a candidate. `device` is the key that the connection proved. Asking again after an answer was lost gives
 * the empty list: the candidate is in already.
 */
export const decideRedeem = (
  situation: Situation, request: PairingRequest, device: string
): Decision<InviteRefusal> => {
  const { membership } = situation
  const record = membership.invites.get(request.invite)
  const me = membership.members.get(situation.device)
  const proof = verify(admissionHash(membership.id, request.invite, device, request.log), request.proof, fromHex(request.invite))
  if (!proof) return decline("malformed", "The invite does not prove itself for this device and log; ask for a new one.")
  if (record === undefined || me?.role !== "owner" || me.standing !== "member") {
    return decline("unknown", `This node knows no such invite to ${membership.name}; ask who gave it to you.`)
  }
  const known = membership.members.get(device)
  if (record.admitted.includes(device) && known?.standing === "member" && membership.devices.get(request.log) === device) return Result.succeed([])
  if (record.withdrawn) return decline("withdrawn", `The invite to ${membership.name} was withdrawn; ask for a new one.`)
  if (situation.ms >= record.expiresMs) return decline("expired", `The invite to ${membership.name} has expired; ask for a new one.`)
  if (record.used >= record.uses) {
    const nodes = record.uses === 1 ? "one node" : `${record.uses} nodes`
    return decline("used", `The invite to ${membership.name} was for ${nodes} and is used up; ask for a new one.`)
  }
  if (known?.standing === "member") return decline("used", `This device is a member of ${membership.name} already, as ${known.name}.`)
  if (membership.devices.has(request.log)) return decline("malformed", "The log that came with the request belongs to a member already; join with a new one.")
  const { invite, log, name, proof: signature } = request
  return Result.succeed(next(situation, [{ kind: "member.admitted", device, log, name, role: record.role, invite, proof: signature }]))
}

/** Names this node, or as owner another; `node` is a name or the beginning of a device key. */
export const decideNameNode = (situation: Situation, wish: { readonly node: string; readonly name: string }): Decision => {
  const me = member(situation)
  if (Result.isFailure(me)) return Result.fail(me.failure)
  if (!isNodeName(wish.name)) return usage(nodeNameRule, "name")
  const target = findMember(situation.membership, wish.node)
  if (target === undefined || target.standing !== "member") return refuse("not-found", `no node of this mesh is called ${wish.node}`, "kos node list")
  if (target.device !== situation.device && me.success.role !== "owner") return refuse("denied", "only an owner names another's node")
  if (target.name === wish.name) return Result.succeed([])
  const holder = findMember(situation.membership, wish.name)
  if (holder !== undefined && holder.device !== target.device && holder.standing === "member" && holder.name.toLowerCase() === wish.name.toLowerCase()) {
    return refuse("conflict", `${wish.name} is the name of ${shortKey(holder.device)} already`)
  }
  return one(situation, { kind: "member.named", device: target.device, name: wish.name })
}

export const decideSetRole = (situation: Situation, wish: { readonly node: string; readonly role: Role }): Decision => {
  const me = owner(situation, "set roles")
  if (Result.isFailure(me)) return Result.fail(me.failure)
  const target = findMember(situation.membership, wish.node)
  if (target === undefined || target.standing !== "member") return refuse("not-found", `no node of this mesh is called ${wish.node}`, "kos node list")
  if (target.role === wish.role) return Result.succeed([])
  if (target.device !== situation.device && target.role === "owner") return refuse("denied", `${target.name} is an owner; an owner's role is changed by itself only`)
  if (target.device === situation.device && isLastOwner(situation)) return refuse("denied", "the last owner stays; make another node owner first")
  return one(situation, { kind: "role.set", device: target.device, role: wish.role })
}

/** A further log of this node. */
export const decideAttachLog = (situation: Situation, wish: { readonly log: string }): Decision => {
  const me = member(situation)
  if (Result.isFailure(me)) return Result.fail(me.failure)
  if (!isKeyText(wish.log)) return usage("a log key is 64 hex digits", "log")
  const holder = situation.membership.devices.get(wish.log)
  if (holder === situation.device) return Result.succeed([])
  if (holder !== undefined) return refuse("conflict", `the log ${shortKey(wish.log)} belongs to ${shortKey(holder)}`)
  return one(situation, { kind: "log.attached", log: wish.log })
}

/** Closes a log of this node at a length and goes on in another. */
export const decideSucceedLog = (
  situation: Situation, wish: { readonly log: string; readonly length: number; readonly treeHash: string; readonly successor: string }
): Decision => {
  const me = member(situation)
  if (Result.isFailure(me)) return Result.fail(me.failure)
  if (!isKeyText(wish.log) || !isKeyText(wish.treeHash) || !isKeyText(wish.successor)) return usage("keys and hashes are 64 hex digits")
  if (!Number.isSafeInteger(wish.length) || wish.length < 0) return usage("a length is a whole number", "length")
  const log = me.success.logs.find((entry) => entry.log === wish.log)
  if (log === undefined) return refuse("not-found", `the log ${shortKey(wish.log)} does not belong to this node`)
  if (log.successor === wish.successor) return Result.succeed([])
  if (log.successor !== undefined) return refuse("conflict", `the log ${shortKey(wish.log)} was closed before, its successor is ${shortKey(log.successor)}`)
  const holder = situation.membership.devices.get(wish.successor)
  if (wish.successor === wish.log || (holder !== undefined && holder !== situation.device)) return refuse("conflict", "the successor must be a new log of this node")
  if (me.success.logs.some((entry) => entry.log === wish.successor && entry.closedAt !== undefined)) return refuse("conflict", "the successor was closed before")
  const { length, successor, treeHash } = wish
  return one(situation, { kind: "log.succeeded", log: wish.log, length, treeHash, successor })
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

/**
 * At most 16 of the heads, those with the most behind them: the rest is taken by the operations after. What the author relies on
 * lies behind the first ones, unless someone floods the mesh with parallel operations; then the operation is void and seen as such.
 */
const parentsOf = (membership: Membership): ReadonlyArray<string> => membership.heads.slice(0, operationParentsMax).sort()

const chain = (
  mesh: string, author: string, ms: number, parents: ReadonlyArray<string>, statements: ReadonlyArray<Statement>
): ReadonlyArray<Unsigned> => {
  const out: Array<Unsigned> = []
  let builtOn = parents
  for (const says of statements) {
    const draft = draftOperation({ mesh, author, parents: builtOn, ms, says })
    out.push(draft)
    builtOn = [draft.hash]
  }
  return out
}

const next = ({ membership, device, ms }: Situation, statements: ReadonlyArray<Statement>) =>
  chain(membership.id, device, ms, parentsOf(membership), statements)

const one = (situation: Situation, says: Statement): Decision => Result.succeed(next(situation, [says]))

const member = ({ membership, device }: Situation): Result.Result<Member, Refusal> => {
  const me = membership.members.get(device)
  if (me?.standing === "member") return Result.succeed(me)
  if (me === undefined) return refuse("denied", "this node is no member of the mesh")
  return refuse("denied", `this node has ${me.standing === "left" ? "left" : "been revoked from"} ${membership.name}`)
}

const owner = (situation: Situation, what: string): Result.Result<Member, Refusal> => {
  const me = member(situation)
  if (Result.isFailure(me) || me.success.role === "owner") return me
  return refuse("denied", `only an owner may ${what}; this node is ${me.success.role} of ${situation.membership.name}`)
}

const isLastOwner = ({ membership, device }: Situation): boolean =>
  ![...membership.members.values()].some((other) => other.device !== device && other.standing === "member" && other.role === "owner") &&
  membership.members.get(device)?.role === "owner"

const meshNameRule = "a mesh's name is one line of at most 64 printable characters"

const nodeNameRule = "a node's name is letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit"

const usage = (detail: string, path?: string) =>
  Result.fail(new Refusal({ kind: "usage", detail, ...(path === undefined ? {} : { path }) }))

const refuse = (kind: Refusal["kind"], detail: string, hint?: string) =>
  Result.fail(new Refusal({ kind, detail, ...(hint === undefined ? {} : { hint }) }))

const decline = (reason: InviteRefusalReason, detail: string) => Result.fail<InviteRefusal>({ reason, detail })
