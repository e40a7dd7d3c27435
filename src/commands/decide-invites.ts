/** Deciders of invites: issue, withdraw, and redeem, which is what makes a device a member. Pure but for the chance inside sealing. */
import { Result } from "effect"
import { fromHex } from "../codec/bytes.ts"
import { type Invite, inviteKey } from "../codec/invite.ts"
import { actsOn, manages } from "../codec/membership/rules.ts"
import { admissionHash, inviteUsesMax, type LogHeld, rankOf, type Statement } from "../codec/operation.ts"
import type { InviteRefusalReason, PairingRequest } from "../codec/pairing.ts"
import { verify } from "../codec/signature.ts"
import type { Membership } from "../projections/membership.ts"
import { type EpochKey, rotationStatements, sharingStatements } from "./epoch-statements.ts"
import { type Decision, holderAgainst, manager, next, one, reaches, refuse, type Situation, usage } from "./situation.ts"

/** Why an invite did not let a candidate in; `detail` is a sentence for the person who tries. */
export interface InviteRefusal {
  readonly reason: InviteRefusalReason
  readonly detail: string
}

/** An invite is valid for at most this long, milliseconds. */
export const inviteLifeMsMax = 366 * 24 * 3_600_000

/** The invite's public key, role and expiry are recorded; its seed is not. `certificate`: see `certifyInvite`. */
export const decideIssueInvite = (
  situation: Situation, wish: { readonly invite: Invite; readonly uses: number; readonly certificate?: Uint8Array }
): Decision => {
  const me = manager(situation, "issue invites")
  if (Result.isFailure(me)) return Result.fail(me.failure)
  const { invite, uses, certificate } = wish
  const may = reaches(situation, me.success, invite.role, "invite a node as")
  if (Result.isFailure(may)) return Result.fail(may.failure)
  if (!Number.isSafeInteger(uses) || uses < 1 || uses > inviteUsesMax) return usage(`an invite has 1 to ${inviteUsesMax} uses`, "uses")
  if (invite.expiresMs <= situation.ms) return usage("the invite would have expired already", "expires")
  if (invite.expiresMs > situation.ms + inviteLifeMsMax) return usage("an invite is valid for a year at most", "expires")
  if (invite.mesh !== situation.membership.id || invite.issuer !== situation.device) return usage("the invite names another mesh or issuer", "invite")
  return one(situation, {
    kind: "invite.issued", invite: inviteKey(invite), role: invite.role, expiresMs: invite.expiresMs, uses, ...(certificate === undefined ? {} : { certificate })
  })
}

/** `invite` is the public key, or eight or more of its first digits. Withdrawing twice changes nothing. */
export const decideWithdrawInvite = (situation: Situation, wish: { readonly invite: string }): Decision => {
  const me = manager(situation, "withdraw invites")
  if (Result.isFailure(me)) return Result.fail(me.failure)
  const found = [...situation.membership.invites.values()].filter((record) =>
    /^[0-9a-f]{8,64}$/.test(wish.invite) && record.invite.startsWith(wish.invite))
  const [record] = found
  if (record === undefined || found.length > 1) {
    const why = record === undefined ? "no invite" : `${found.length} invites`
    return refuse("not-found", `${why} of this mesh ${found.length > 1 ? "begin" : "begins"} with ${wish.invite}`, "kos invite list")
  }
  if (record.withdrawn) return Result.succeed([])
  const may = record.by === situation.device ? Result.succeed(undefined) : reaches(situation, me.success, record.role, "withdraw an invite as")
  return Result.isFailure(may) ? Result.fail(may.failure) : one(situation, { kind: "invite.withdrawn", invite: record.invite })
}

/** What a device that may read from now on is given: held keys, or, when none are to be given, a key that is new to all. */
export interface KeysToGive {
  /** Epoch keys, newest first. */
  readonly keys?: ReadonlyArray<EpochKey>
  /** 32 bytes of chance: made a new epoch when `keys` is empty. */
  readonly newKey?: Uint8Array
}

/**
 * The answer of an admin or owner to a candidate. `device` is the key that the connection proved. Asking again after an answer was lost
 * gives the empty list: the candidate is in already. What it may read with goes into the same unit of operations.
 */
export const decideRedeem = (
  situation: Situation, request: PairingRequest & LogHeld, device: string, given: KeysToGive = {}
): Decision<InviteRefusal> => {
  const { membership } = situation
  const { invite, log, name, proof, signer, held } = request
  const record = membership.invites.get(invite)
  const me = membership.members.get(situation.device)
  if (!verify(admissionHash(membership.id, invite, device, log), proof, fromHex(invite))) {
    return decline("malformed", "The invite does not prove itself for this device and log; ask for a new one.")
  }
  if (record === undefined || me?.standing !== "member" || !manages(me.role)) {
    return decline("unknown", `This node knows no such invite to ${membership.name}; ask who gave it to you.`)
  }
  const known = membership.members.get(device)
  if (record.admitted.includes(device) && known?.standing === "member" && membership.devices.get(log) === device) return Result.succeed([])
  if (record.withdrawn) return decline("withdrawn", `The invite to ${membership.name} was withdrawn; ask for a new one.`)
  // Who has a revoked device has the secrets of its invites.
  if (membership.members.get(record.by)?.standing === "revoked") return decline("withdrawn", `The invite to ${membership.name} was made by a node that was revoked; ask for a new one.`)
  if (record.barred.includes(device)) return decline("withdrawn", `This device was revoked after the invite to ${membership.name} was made; ask for a new one.`)
  if (situation.ms >= record.expiresMs) return decline("expired", `The invite to ${membership.name} has expired; ask for a new one.`)
  if (record.used >= record.uses) {
    const nodes = record.uses === 1 ? "one node" : `${record.uses} nodes`
    return decline("used", `The invite to ${membership.name} was for ${nodes} and is used up; ask for a new one.`)
  }
  if (known?.standing === "member") return decline("used", `This device is a member of ${membership.name} already, as ${known.name}.`)
  if (!actsOn(me.role, record.role)) {
    return decline("unknown", `This node is ${me.role} of ${membership.name} and may not admit a node as ${record.role}; meet who made the invite.`)
  }
  if (holderAgainst(membership, log, request) !== undefined || membership.devices.get(log) === device) return decline("malformed", "The log that came with the request belongs to a member already; join with a new one.")
  return Result.succeed(next(situation, [
    { kind: "member.admitted", device, log, name, role: record.role, invite, proof, ...(signer === undefined || held === undefined ? {} : { signer, held }) },
    ...(rankOf(record.role) >= rankOf("reader") ? givingStatements(membership, device, given) : [])
  ]))
}

/** What gives the keys to a device that may read from now on. */
export const givingStatements = (membership: Membership, device: string, { keys = [], newKey }: KeysToGive): ReadonlyArray<Statement> => {
  if (keys.length > 0 || newKey === undefined) return sharingStatements(keys, [device])
  const [rotation, ...more] = rotationStatements(membership, newKey)
  return rotation?.kind !== "epoch.rotated" ? [] : [rotation, ...more, ...sharingStatements([{ epoch: rotation.epoch, key: newKey }], [device])]
}

const decline = (reason: InviteRefusalReason, detail: string) => Result.fail<InviteRefusal>({ reason, detail })
