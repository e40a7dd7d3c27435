/**
 * The right to say something: did the author hold it in its own causal past? Everything here looks at nothing but that past, and of it
 * at what counts. Higher ranks act on lower ones; an owner acts on owners too.
 */
import { shortKey } from "../bytes.ts"
import { rankOf, type Role, type Statement } from "../operation.ts"
import type { Facts, Standing } from "./facts.ts"
import type { Vertex } from "./graph.ts"

/** Undefined says that the author had the right, a sentence says why not. `facts` hold what counts of its past. */
export const fault = (facts: Facts, vertex: Vertex): string | undefined => {
  const { author, says } = vertex.operation
  if (says.kind === "mesh.created") return undefined
  if (says.kind === "kept") return `the kind ${says.name} is not known here`
  if (says.kind === "recovery.used") return faultOfRecovery(facts, vertex, says)
  const own = facts.standingOf(author, vertex)
  if (own.standing !== "member" || own.role === undefined) return `its author ${whyNoMember(own)}`
  const role = own.role
  switch (says.kind) {
    case "mesh.named": return role === "owner" ? undefined : "only an owner names the mesh"
    case "owners.threshold": return role === "owner" ? undefined : "only an owner says how many owners must agree"
    case "recovery.set": return role === "owner" ? undefined : "only an owner sets the recovery key"
    case "epoch.rotated": return manages(role) ? undefined : "only admins and owners rotate the key epoch"
    case "epoch.shared": return manages(role) ? undefined : "only admins and owners share keys"
    case "invite.issued":
      if (!manages(role)) return "only admins and owners issue invites"
      if (!actsOn(role, says.role)) return `an ${role} invites lower roles only`
      return facts.issueOf(says.invite, vertex) === undefined ? undefined : "this invite was issued before"
    case "invite.withdrawn": {
      if (!manages(role)) return "only admins and owners withdraw invites"
      const issue = facts.issueOf(says.invite, vertex)?.operation
      if (issue?.says.kind !== "invite.issued") return "no such invite was issued"
      return issue.author === author || actsOn(role, issue.says.role) ? undefined : `an ${role} withdraws invites for lower roles only`
    }
    case "member.admitted": return manages(role) ? faultOfAdmission(facts, vertex, says, role) : "only admins and owners admit"
    case "member.named": {
      const target = facts.standingOf(says.device, vertex)
      if (target.standing !== "member" || target.role === undefined) return `the named device ${whyNoMember(target)}`
      if (says.device === author) return undefined
      if (!manages(role)) return "only admins and owners name another's node"
      return actsOn(role, target.role) ? undefined : `an ${role} names nodes of lower rank only`
    }
    case "role.set": return manages(role) ? faultOfRole(facts, vertex, says, role) : "only admins and owners set roles"
    case "log.attached":
      return isTaken(facts, vertex, says.log) ? "the log belongs to another device" : undefined
    case "log.succeeded": {
      if (facts.claimOf(says.log, vertex)?.device !== author) return "the log does not belong to its author"
      if (facts.closingOf(says.log, author, vertex) !== undefined) return "the log was closed before"
      if (isTaken(facts, vertex, says.successor)) return "the successor belongs to another device"
      return facts.closingOf(says.successor, author, vertex) === undefined ? undefined : "the successor was closed before"
    }
    case "member.left":
      return role === "owner" && facts.ownersBut(author, vertex) === 0 ? "the last owner stays" : undefined
    case "member.revoked": {
      if (!manages(role)) return "only admins and owners revoke"
      if (says.device === author) return "a node does not revoke itself; it leaves"
      // An author that may act on an owner is another owner: the last one is safe by rank.
      const target = facts.standingOf(says.device, vertex)
      if (target.role === undefined) return "the device was no member"
      if (target.standing === "revoked") return `the device ${whyNoMember(target)}`
      return actsOn(role, target.role) ? undefined : `an ${role} revokes nodes of lower rank only`
    }
  }
}

/** May issue and withdraw invites, admit, set roles, revoke, and rotate and share keys, each for ranks below its own. */
export const manages = (role: Role): boolean => rankOf(role) >= rankOf("admin")

/** May one of this role give, take or name one of that role? */
export const actsOn = (role: Role, other: Role): boolean => role === "owner" || rankOf(other) < rankOf(role)

type Admission = Extract<Statement, { readonly kind: "member.admitted" }>

const faultOfAdmission = (facts: Facts, vertex: Vertex, says: Admission, role: Role): string | undefined => {
  const issue = facts.issueOf(says.invite, vertex)?.operation.says
  if (issue?.kind !== "invite.issued") return "no such invite was issued"
  if (!vertex.operation.proven) return "the invite's proof is wrong"
  if (facts.isWithdrawn(says.invite, vertex)) return "the invite was withdrawn"
  if (rankOf(says.role) > rankOf(issue.role)) return `the invite goes up to ${issue.role}`
  if (!actsOn(role, says.role)) return `an ${role} admits to lower roles only`
  if (facts.standingOf(says.device, vertex).standing === "member") return "the device was a member already"
  const known = facts.admittedBy(says.invite, vertex)
  if (!known.has(says.device) && known.size >= issue.uses) return "the invite was used up"
  return isFresh(facts, vertex, says.log, says.device) ? undefined : "the log was attached before; a device that comes back brings a new one"
}

const faultOfRole = (facts: Facts, vertex: Vertex, says: Extract<Statement, { readonly kind: "role.set" }>, role: Role): string | undefined => {
  const { author } = vertex.operation
  const target = facts.standingOf(says.device, vertex)
  if (target.standing !== "member" || target.role === undefined) return `the device ${whyNoMember(target)}`
  if (says.device !== author && target.role === "owner") return "an owner's role is changed by itself only"
  if (says.device !== author && !actsOn(role, target.role)) return `an ${role} sets the roles of lower ranks only`
  if (!actsOn(role, says.role)) return `an ${role} gives lower roles only`
  if (says.device !== author || says.role === "owner") return undefined
  return role === "owner" && facts.ownersBut(author, vertex) === 0 ? "the last owner stays" : undefined
}

const faultOfRecovery = (facts: Facts, vertex: Vertex, says: Extract<Statement, { readonly kind: "recovery.used" }>): string | undefined => {
  const { author, proven } = vertex.operation
  const set = facts.recoveryOf(vertex)?.operation.says
  if (set?.kind !== "recovery.set") return "the mesh had no recovery key"
  if (set.recovery !== says.recovery) return "another recovery key was in force"
  if (!proven) return "the proof of the recovery key is wrong"
  // A member that becomes an owner goes on in its log.
  const kept = facts.standingOf(author, vertex).standing === "member" && facts.claimOf(says.log, vertex)?.device === author
  return kept || isFresh(facts, vertex, says.log, author) ? undefined : "the log was attached before; a device that comes back brings a new one"
}

/** Does the log belong to another, as far as the author knew? Who proves to hold its key takes it from who did not. */
const isTaken = (facts: Facts, vertex: Vertex, log: string): boolean => {
  const claim = facts.claimOf(log, vertex)
  return claim !== undefined && claim.device !== vertex.operation.author && (claim.vertex.operation.holds || !vertex.operation.holds)
}

/** Does the log belong to nobody yet, or to another that does not prove to hold its key while this does? */
const isFresh = (facts: Facts, vertex: Vertex, log: string, device: string): boolean => {
  const claim = facts.claimOf(log, vertex)
  return claim === undefined || (claim.device !== device && vertex.operation.holds && !claim.vertex.operation.holds)
}

const whyNoMember = ({ standing, revocation }: Standing): string =>
  standing === "left" ? "had left"
    : revocation === undefined ? "was no member" : `was revoked by ${shortKey(revocation.operation.author)} before`
