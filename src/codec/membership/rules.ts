/**
 * Which membership operations count, and what is true within a horizon.
 *
 * Whether an operation counts depends on nothing but the operations in its own past: it is decided once, when the operation
 * enters, and what arrives later never changes it. A horizon is a past (what an author knew) or everything (what is true now).
 */
import { type Operation, rankOf, type Role } from "../operation.ts"
import { byOrder, knew, type Vertex } from "./graph.ts"

/** Does the vertex lie within what is looked at? */
export type Horizon = (vertex: Vertex) => boolean
export const everything: Horizon = () => true

export interface Standing {
  /** Undefined when the device was never admitted within the horizon. */
  readonly standing: "member" | "left" | undefined
  /** The role held, or held last. */
  readonly role: Role | undefined
}

export interface Rules {
  /** Decides whether a vertex counts; undefined says it does, a sentence says why not. Vertices come parents first. */
  readonly judge: (vertex: Vertex) => string | undefined
  readonly devices: () => Iterable<string>
  readonly invites: () => Iterable<string>
  readonly logs: () => Iterable<string>
  readonly standingOf: (device: string, horizon: Horizon) => Standing
  /** The admission or creation that made the device a member, the last one when it left and came back. */
  readonly admissionOf: (device: string) => Vertex | undefined
  /** The operation that gives the mesh its name: of concurrent ones the last by order. */
  readonly meshNaming: () => Vertex | undefined
  /** The operation that gives the device its name. */
  readonly namingOf: (device: string) => Vertex | undefined
  readonly issueOf: (invite: string, horizon: Horizon) => Vertex | undefined
  readonly isWithdrawn: (invite: string, horizon: Horizon) => boolean
  readonly admissionsBy: (invite: string, horizon: Horizon) => ReadonlyArray<Vertex>
  /** All claims of a log in order; the first wins. */
  readonly claimsOf: (log: string, horizon: Horizon) => ReadonlyArray<Claim>
  /** The closing of a log by the device it belongs to: the smallest length wins. */
  readonly closingOf: (log: string, device: string, horizon: Horizon) => Vertex | undefined
}

export interface Claim {
  readonly vertex: Vertex
  readonly device: string
}

export const makeRules = (): Rules => {
  const grants = new Map<string, Array<Vertex>>()
  const entries = new Map<string, Array<Vertex>>()
  const leavings = new Map<string, Array<Vertex>>()
  const namings = new Map<string, Array<Vertex>>()
  const meshNamings: Array<Vertex> = []
  const issues = new Map<string, Array<Vertex>>()
  const withdrawals = new Map<string, Array<Vertex>>()
  const admissions = new Map<string, Array<Vertex>>()
  const claims = new Map<string, Array<Claim>>()
  const closings = new Map<string, Array<Vertex>>()
  const everOwners = new Set<string>()

  const standingOf = (device: string, horizon: Horizon): Standing => {
    const role = lowest(latest(grants.get(device), horizon), device)
    if (role === undefined) return { standing: undefined, role }
    const left = (leavings.get(device) ?? []).some((leaving) =>
      horizon(leaving) && !(entries.get(device) ?? []).some((entry) => horizon(entry) && knew(entry, leaving)))
    return { standing: left ? "left" : "member", role }
  }

  const issueOf = (invite: string, horizon: Horizon) => firstOf(issues.get(invite), horizon)
  const isWithdrawn = (invite: string, horizon: Horizon) => (withdrawals.get(invite) ?? []).some(horizon)
  const admissionsBy = (invite: string, horizon: Horizon) => (admissions.get(invite) ?? []).filter(horizon)
  const claimsOf = (log: string, horizon: Horizon) =>
    (claims.get(log) ?? []).filter((claim) => horizon(claim.vertex)).sort((a, b) => byOrder(a.vertex, b.vertex))
  const closingOf = (log: string, device: string, horizon: Horizon) =>
    (closings.get(log) ?? []).filter((v) => v.operation.author === device && horizon(v))
      .sort((a, b) => lengthOf(a) - lengthOf(b) || byOrder(a, b))[0]

  const isOwner = (device: string, horizon: Horizon) => {
    const { standing, role } = standingOf(device, horizon)
    return standing === "member" && role === "owner"
  }
  const isLastOwner = (device: string, horizon: Horizon) =>
    isOwner(device, horizon) && ![...everOwners].some((other) => other !== device && isOwner(other, horizon))
  const ownerOf = (log: string, horizon: Horizon) => claimsOf(log, horizon)[0]?.device

  const fault = (operation: Operation, past: Horizon): string | undefined => {
    const { author, says } = operation
    if (says.kind === "mesh.created") return undefined
    if (says.kind === "member.revoked" || says.kind === "epoch.rotated" || says.kind === "epoch.shared" || says.kind === "owners.threshold" ||
      says.kind === "recovery.set" || says.kind === "recovery.used") return "this kind is not yet in force here"
    if (says.kind === "kept") return `the kind ${says.name} is not known here`
    const own = standingOf(author, past)
    if (own.standing === undefined) return "its author was no member"
    if (own.standing === "left") return "its author had left"
    const owner = own.role === "owner"
    switch (says.kind) {
      case "mesh.named":
        return owner ? undefined : "only an owner names the mesh"
      case "invite.issued":
        if (!owner) return "only an owner issues invites"
        return issueOf(says.invite, past) === undefined ? undefined : "this invite was issued before"
      case "invite.withdrawn":
        if (!owner) return "only an owner withdraws invites"
        return issueOf(says.invite, past) === undefined ? "no such invite was issued" : undefined
      case "member.admitted": {
        if (!owner) return "only an owner admits"
        const issue = issueOf(says.invite, past)?.operation.says
        if (issue?.kind !== "invite.issued") return "no such invite was issued"
        if (!operation.proven) return "the invite's proof is wrong"
        if (isWithdrawn(says.invite, past)) return "the invite was withdrawn"
        if (rankOf(says.role) > rankOf(issue.role)) return `the invite goes up to ${issue.role}`
        if (admissionsBy(says.invite, past).length >= issue.uses) return "the invite was used up"
        if (standingOf(says.device, past).standing === "member") return "the device was a member already"
        const holder = ownerOf(says.log, past)
        return holder === undefined ? undefined : "the log was attached before; a device that comes back brings a new one"
      }
      case "member.named":
        if (says.device !== author && !owner) return "only an owner names another's node"
        return standingOf(says.device, past).standing === "member" ? undefined : "the named device was no member"
      case "role.set": {
        if (!owner) return "only an owner sets roles"
        const target = standingOf(says.device, past)
        if (target.standing !== "member") return "the device was no member"
        if (says.device !== author) return target.role === "owner" ? "an owner's role is changed by itself only" : undefined
        return says.role !== "owner" && isLastOwner(author, past) ? "the last owner stays" : undefined
      }
      case "log.attached": {
        const holder = ownerOf(says.log, past)
        return holder === undefined || holder === author ? undefined : "the log belongs to another device"
      }
      case "log.succeeded": {
        if (ownerOf(says.log, past) !== author) return "the log does not belong to its author"
        if (closingOf(says.log, author, past) !== undefined) return "the log was closed before"
        const holder = ownerOf(says.successor, past)
        if (holder !== undefined && holder !== author) return "the successor belongs to another device"
        return closingOf(says.successor, author, past) === undefined ? undefined : "the successor was closed before"
      }
      case "member.left":
        return isLastOwner(author, past) ? "the last owner stays" : undefined
    }
  }

  const record = (vertex: Vertex): void => {
    const { author, says } = vertex.operation
    switch (says.kind) {
      case "mesh.created":
        push(grants, author, vertex)
        push(entries, author, vertex)
        meshNamings.push(vertex)
        everOwners.add(author)
        return
      case "mesh.named":
        meshNamings.push(vertex)
        return
      case "invite.issued": return push(issues, says.invite, vertex)
      case "invite.withdrawn": return push(withdrawals, says.invite, vertex)
      case "member.admitted":
        push(grants, says.device, vertex)
        push(entries, says.device, vertex)
        push(namings, says.device, vertex)
        push(admissions, says.invite, vertex)
        push(claims, says.log, { vertex, device: says.device })
        if (says.role === "owner") everOwners.add(says.device)
        return
      case "member.named": return push(namings, says.device, vertex)
      case "role.set":
        push(grants, says.device, vertex)
        if (says.role === "owner") everOwners.add(says.device)
        return
      case "log.attached": return push(claims, says.log, { vertex, device: author })
      case "log.succeeded":
        push(closings, says.log, vertex)
        return push(claims, says.successor, { vertex, device: author })
      case "member.left": return push(leavings, author, vertex)
      case "member.revoked": case "epoch.rotated": case "epoch.shared": case "owners.threshold": case "recovery.set": case "recovery.used":
      case "kept": return
    }
  }

  return {
    judge: (vertex) => {
      const why = fault(vertex.operation, (earlier) => knew(vertex, earlier))
      if (why === undefined) record(vertex)
      return why
    },
    devices: () => grants.keys(),
    invites: () => issues.keys(),
    logs: () => claims.keys(),
    standingOf,
    admissionOf: (device) => lastOf(entries.get(device)),
    meshNaming: () => lastOf(meshNamings),
    namingOf: (device) => lastOf(namings.get(device)),
    issueOf, isWithdrawn, admissionsBy, claimsOf, closingOf
  }
}

const push = <A>(map: Map<string, Array<A>>, key: string, value: A): void => {
  const list = map.get(key)
  if (list === undefined) map.set(key, [value])
  else list.push(value)
}

const firstOf = (vertices: ReadonlyArray<Vertex> | undefined, horizon: Horizon): Vertex | undefined => {
  let first: Vertex | undefined
  for (const vertex of vertices ?? []) if (horizon(vertex) && (first === undefined || byOrder(vertex, first) < 0)) first = vertex
  return first
}

/** The last by order is one that no other knew. */
const lastOf = (vertices: ReadonlyArray<Vertex> | undefined): Vertex | undefined => {
  let last: Vertex | undefined
  for (const vertex of vertices ?? []) if (last === undefined || byOrder(vertex, last) > 0) last = vertex
  return last
}

/** Those within the horizon that no other of them knew. One that lies in any other's past lies in the past of one of these. */
const latest = (vertices: ReadonlyArray<Vertex> | undefined, horizon: Horizon): ReadonlyArray<Vertex> => {
  if (vertices === undefined) return []
  const out: Array<Vertex> = []
  for (const vertex of vertices.filter(horizon).sort((a, b) => byOrder(b, a))) {
    if (!out.some((later) => knew(later, vertex))) out.push(vertex)
  }
  return out
}

/** Of concurrent grants the lower right wins. */
const lowest = (vertices: ReadonlyArray<Vertex>, device: string): Role | undefined => {
  let role: Role | undefined
  for (const vertex of vertices) {
    const says = vertex.operation.says
    const given = says.kind === "member.admitted" || says.kind === "role.set" ? says.role
      : says.kind === "mesh.created" && vertex.operation.author === device ? "owner" : undefined
    if (given !== undefined && (role === undefined || rankOf(given) < rankOf(role))) role = given
  }
  return role
}

const lengthOf = (vertex: Vertex): number => vertex.operation.says.kind === "log.succeeded" ? vertex.operation.says.length : 0
