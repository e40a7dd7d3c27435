/**
 * What counts, by subject, and what is true within a horizon: what one author knew, or everything.
 *
 * Here is no judgement: a pass (passes.ts) judges an operation and adds it when it counts. It may be added in any order in which parents
 * come first; no answer depends on which.
 */
import { type Cutoff, type Operation, rankOf, type Role } from "../operation.ts"
import { byOrder, knew, type Vertex } from "./graph.ts"

/** What the author of this operation knew, the operation itself not included; undefined is everything. */
export type Horizon = Vertex | undefined
export const everything: Horizon = undefined

export interface Standing {
  /** Undefined when the device was never admitted within the horizon. */
  readonly standing: "member" | "left" | "revoked" | undefined
  /** The role held, or held last. */
  readonly role: Role | undefined
  /** The revocation that holds, the first by order; exactly when `standing` is `revoked`. */
  readonly revocation?: Vertex
}

export interface Claim {
  readonly vertex: Vertex
  readonly device: string
}

interface Admission {
  readonly vertex: Vertex
  readonly device: string
}

interface Closing {
  readonly vertex: Vertex
  readonly length: number
}

interface Revocation {
  readonly vertex: Vertex
  /** Distinct owners that must revoke before it holds, as its author knew; 1 for a device that is no owner. */
  readonly needed: number
}

export interface Facts {
  /** Takes an operation that counts; all of its past that counts is in. */
  readonly add: (vertex: Vertex) => void
  readonly devices: () => Iterable<string>
  readonly invites: () => Iterable<string>
  /** Logs that the device claimed, whoever has them. */
  readonly logsOf: (device: string) => Iterable<string>
  /** Logs that more than one operation claims. */
  readonly contestedLogs: () => Iterable<string>
  readonly standingOf: (device: string, horizon: Horizon) => Standing
  /** The grants of a role to the device that no other grant within the horizon knew. */
  readonly grantsOf: (device: string, horizon: Horizon) => ReadonlyArray<Vertex>
  /** Admissions, creation and recoveries that made the device a member. */
  readonly entriesOf: (device: string, horizon: Horizon) => ReadonlyArray<Vertex>
  /** Those of the revocations that no re-admission has outlived. */
  readonly outstanding: (device: string, horizon: Horizon) => ReadonlyArray<Vertex>
  /**
   * Those of the revocations that hold: of an owner, so many owners agree. Agreement is among revocations that no re-admission lies
   * between: one that knew the one and that the other knew. `counts`: of which to take account.
   */
  readonly heldOf: (device: string, horizon: Horizon, counts?: (vertex: Vertex) => boolean) => ReadonlyArray<Vertex>
  /** The operation that gives the mesh its name: of concurrent ones the last by order. */
  readonly meshNaming: () => Vertex | undefined
  /** The operation that gives the device its name. */
  readonly namingOf: (device: string) => Vertex | undefined
  readonly issueOf: (invite: string, horizon: Horizon) => Vertex | undefined
  /** The fewest devices that an operation which issued the invite allows. */
  readonly usesOf: (invite: string) => number
  readonly isWithdrawn: (invite: string, horizon: Horizon) => boolean
  readonly admissionsBy: (invite: string, horizon: Horizon) => ReadonlyArray<Vertex>
  /** Devices that the invite let in, each once, in the canonical order of their admissions. */
  readonly admittedBy: (invite: string, horizon: Horizon) => ReadonlySet<string>
  /** All claims of a log, the winner first: who proves to hold the log's key goes before who does not, then by order. */
  readonly claimsOf: (log: string, horizon: Horizon) => ReadonlyArray<Claim>
  readonly claimOf: (log: string, horizon: Horizon) => Claim | undefined
  /** The closing of a log by the device it belongs to: the smallest length wins. */
  readonly closingOf: (log: string, device: string, horizon: Horizon) => Vertex | undefined
  /** Members with the role of owner, but this one. */
  readonly ownersBut: (device: string | undefined, horizon: Horizon) => number
  /** Owners that must agree, as the mesh has said; more than there are is allowed here. */
  readonly thresholdSaid: (horizon: Horizon) => number
  /** The operation that set the recovery key in force. */
  readonly recoveryOf: (horizon: Horizon) => Vertex | undefined
  /** Devices and invites about which something was added since the last call. */
  readonly takeTouched: () => Touched
}

export interface Touched {
  readonly devices: ReadonlySet<string>
  readonly invites: ReadonlySet<string>
}

export const makeFacts = (): Facts => {
  const grants = new Map<string, Array<Vertex>>()
  const entries = new Map<string, Array<Vertex>>()
  const leavings = new Map<string, Array<Vertex>>()
  const revocations = new Map<string, Array<Revocation>>()
  const namings = new Map<string, Array<Vertex>>()
  const meshNamings: Array<Vertex> = []
  const issues = new Map<string, Array<Vertex>>()
  const uses = new Map<string, number>()
  const withdrawals = new Map<string, Array<Vertex>>()
  const admissions = new Map<string, Array<Admission>>()
  const claims = new Map<string, Array<Claim>>()
  const logsOf = new Map<string, Set<string>>()
  const contested = new Set<string>()
  const closings = new Map<string, Array<Closing>>()
  /** With the owners besides the author that its author knew. */
  const thresholds: Array<{ readonly vertex: Vertex; readonly others: number }> = []
  const recoveries: Array<Vertex> = []
  const everOwners = new Set<string>()
  let touchedDevices = new Set<string>()
  let touchedInvites = new Set<string>()

  const grantsOf = (device: string, horizon: Horizon) => latest(grants.get(device), horizon)
  const entriesOf = (device: string, horizon: Horizon) => (entries.get(device) ?? []).filter((vertex) => within(horizon, vertex))
  const revocationsOf = (device: string, horizon: Horizon) => (revocations.get(device) ?? []).filter(({ vertex }) => within(horizon, vertex))

  /** Those of the list that no entry of the device within the horizon knew. */
  const notOutlived = (device: string, horizon: Horizon, list: ReadonlyArray<Vertex>): ReadonlyArray<Vertex> => {
    if (list.length === 0) return list
    const known = entriesOf(device, horizon)
    return list.filter((vertex) => within(horizon, vertex) && !known.some((entry) => knew(entry, vertex)))
  }
  const outstanding = (device: string, horizon: Horizon) => notOutlived(device, horizon, (revocations.get(device) ?? []).map(({ vertex }) => vertex))

  const heldOf = (device: string, horizon: Horizon, counts: (vertex: Vertex) => boolean = () => true): ReadonlyArray<Vertex> => {
    if (!revocations.has(device)) return []
    const known = revocationsOf(device, horizon).filter(({ vertex }) => counts(vertex)).sort((a, b) => byOrder(a.vertex, b.vertex))
    const between = entriesOf(device, horizon)
    const apart = (a: Vertex, b: Vertex) => between.some((entry) => knew(entry, a) && knew(b, entry))
    return known.map(({ vertex }) => vertex).filter((one) => isAgreed(known.filter(({ vertex: other }) => !apart(one, other) && !apart(other, one))))
  }

  const standingOf = (device: string, horizon: Horizon): Standing => {
    const role = lowestRole(grantsOf(device, horizon))
    if (role === undefined) return { standing: undefined, role }
    const [revocation] = notOutlived(device, horizon, heldOf(device, horizon))
    if (revocation !== undefined) return { standing: "revoked", role, revocation }
    const left = notOutlived(device, horizon, leavings.get(device) ?? []).length > 0
    return { standing: left ? "left" : "member", role }
  }

  const ownersBut = (device: string | undefined, horizon: Horizon): number => {
    let count = 0
    for (const other of everOwners) {
      if (other === device) continue
      const { standing, role } = standingOf(other, horizon)
      if (standing === "member" && role === "owner") count++
    }
    return count
  }

  /**
   * Gone through in order: the same or a higher number is in force at once; a lower one when so many owners said it as must agree
   * just then. Agreement begins anew with each change.
   */
  const thresholdSaid = (horizon: Horizon): number => {
    let said = 1
    const votes = new Map<string, number>()
    for (const { vertex, others } of thresholds) {
      const { author, says } = vertex.operation
      if (says.kind !== "owners.threshold" || !within(horizon, vertex)) continue
      if (says.threshold < said) {
        votes.set(author, says.threshold)
        const agreeing = [...votes.values()].filter((number) => number === says.threshold).length
        if (agreeing < clip(said, others)) continue
      }
      said = says.threshold
      votes.clear()
    }
    return said
  }

  const claimOf = (log: string, horizon: Horizon): Claim | undefined => {
    let first: Claim | undefined
    for (const claim of claims.get(log) ?? []) if (within(horizon, claim.vertex) && (first === undefined || byClaim(claim, first) < 0)) first = claim
    return first
  }

  const closingOf = (log: string, device: string, horizon: Horizon) =>
    (closings.get(log) ?? []).filter(({ vertex }) => vertex.operation.author === device && within(horizon, vertex))
      .sort((a, b) => a.length - b.length || byOrder(a.vertex, b.vertex))[0]?.vertex

  const claim = (log: string, device: string, vertex: Vertex): void => {
    for (const other of claims.get(log) ?? []) {
      touchedDevices.add(other.device)
      contested.add(log)
    }
    push(claims, log, { vertex, device })
    const logs = logsOf.get(device)
    if (logs === undefined) logsOf.set(device, new Set([log]))
    else logs.add(log)
  }

  const enter = (device: string, vertex: Vertex, role: Role): void => {
    push(grants, device, vertex)
    push(entries, device, vertex)
    if (role === "owner") everOwners.add(device)
  }

  const add = (vertex: Vertex): void => {
    const { author, says } = vertex.operation
    if (!ofNoDevice.has(says.kind)) touchedDevices.add("device" in says ? says.device : author)
    if ("invite" in says) touchedInvites.add(says.invite)
    switch (says.kind) {
      case "mesh.created":
        meshNamings.push(vertex)
        return enter(author, vertex, "owner")
      case "mesh.named":
        meshNamings.push(vertex)
        return
      case "invite.issued":
        uses.set(says.invite, Math.min(uses.get(says.invite) ?? Infinity, says.uses))
        return push(issues, says.invite, vertex)
      case "invite.withdrawn": return push(withdrawals, says.invite, vertex)
      case "member.admitted":
        push(namings, says.device, vertex)
        push(admissions, says.invite, { vertex, device: says.device })
        claim(says.log, says.device, vertex)
        return enter(says.device, vertex, says.role)
      case "member.named": return push(namings, says.device, vertex)
      case "role.set":
        push(grants, says.device, vertex)
        if (says.role === "owner") everOwners.add(says.device)
        return
      case "log.attached": return claim(says.log, author, vertex)
      case "log.succeeded":
        push(closings, says.log, { vertex, length: says.length })
        return claim(says.successor, author, vertex)
      case "member.left": return push(leavings, author, vertex)
      case "member.revoked": {
        const said = standingOf(says.device, vertex).role === "owner" ? thresholdSaid(vertex) : 1
        const needed = said === 1 ? 1 : clip(said, ownersBut(says.device, vertex))
        return push(revocations, says.device, { vertex, needed })
      }
      case "owners.threshold": {
        const at = thresholds.findLastIndex((other) => byOrder(other.vertex, vertex) < 0) + 1
        thresholds.splice(at, 0, { vertex, others: ownersBut(author, vertex) })
        return
      }
      case "recovery.set":
        recoveries.push(vertex)
        return
      case "recovery.used":
        push(namings, author, vertex)
        claim(says.log, author, vertex)
        return enter(author, vertex, "owner")
      case "epoch.rotated": case "epoch.shared": case "kept": return
    }
  }

  return {
    add,
    devices: () => grants.keys(),
    invites: () => issues.keys(),
    logsOf: (device) => logsOf.get(device) ?? [],
    contestedLogs: () => contested,
    standingOf, grantsOf, entriesOf, outstanding, heldOf, ownersBut, thresholdSaid, claimOf, closingOf,
    meshNaming: () => lastOf(meshNamings, everything),
    namingOf: (device) => lastOf(namings.get(device), everything),
    issueOf: (invite, horizon) => firstOf(issues.get(invite), horizon),
    usesOf: (invite) => uses.get(invite) ?? Infinity,
    isWithdrawn: (invite, horizon) => (withdrawals.get(invite) ?? []).some((vertex) => within(horizon, vertex)),
    admissionsBy: (invite, horizon) => (admissions.get(invite) ?? []).map(({ vertex }) => vertex).filter((vertex) => within(horizon, vertex)),
    admittedBy: (invite, horizon) => new Set((admissions.get(invite) ?? []).filter(({ vertex }) => within(horizon, vertex))
      .sort((a, b) => byOrder(a.vertex, b.vertex)).map(({ device }) => device)),
    claimsOf: (log, horizon) => (claims.get(log) ?? []).filter((claim) => within(horizon, claim.vertex)).sort(byClaim),
    recoveryOf: (horizon) => lastOf(recoveries, horizon),
    takeTouched: () => {
      const touched = { devices: touchedDevices, invites: touchedInvites }
      touchedDevices = new Set()
      touchedInvites = new Set()
      return touched
    }
  }
}

/** Kinds that say nothing of a device. */
const ofNoDevice: ReadonlySet<string> = new Set(["mesh.named", "invite.issued", "invite.withdrawn", "epoch.rotated", "epoch.shared", "recovery.set"])

/** Never more than there are besides the one it is about, and one at least. */
export const clip = (said: number, others: number): number => Math.max(1, Math.min(said, others))

/** Gone through in order: have so many distinct authors revoked as one of them knew to be needed? */
const isAgreed = (revocations: ReadonlyArray<Revocation>): boolean => {
  const authors = new Set<string>()
  return revocations.some(({ vertex, needed }) => authors.add(vertex.operation.author).size >= needed)
}

/** Role that a grant gives. */
export const roleGiven = ({ operation: { says } }: Vertex): Role =>
  says.kind === "member.admitted" || says.kind === "role.set" ? says.role : "owner"

/** Of concurrent grants the lower right wins. */
export const lowestRole = (grants: ReadonlyArray<Vertex>): Role | undefined => {
  let role: Role | undefined
  for (const grant of grants) {
    const given = roleGiven(grant)
    if (role === undefined || rankOf(given) < rankOf(role)) role = given
  }
  return role
}

/** The length at which a list of cut-offs cuts the log, the smallest when it stands there twice. */
export const listedLength = (cutoffs: ReadonlyArray<Cutoff> | undefined, log: string): number | undefined => {
  const lengths = (cutoffs ?? []).filter((cutoff) => cutoff.log === log).map(({ length }) => length)
  return lengths.length === 0 ? undefined : Math.min(...lengths)
}

export const within = (horizon: Horizon, vertex: Vertex): boolean => horizon === undefined || knew(horizon, vertex)

/** Does it prove that the device holds the key of the log that it claims? */
const holds = (operation: Operation): boolean => operation.holds

const byClaim = (a: Claim, b: Claim): number => Number(holds(b.vertex.operation)) - Number(holds(a.vertex.operation)) || byOrder(a.vertex, b.vertex)

const push = <A>(map: Map<string, Array<A>>, key: string, value: A): void => {
  const list = map.get(key)
  if (list === undefined) map.set(key, [value])
  else list.push(value)
}

const firstOf = (vertices: ReadonlyArray<Vertex> | undefined, horizon: Horizon): Vertex | undefined => {
  let first: Vertex | undefined
  for (const vertex of vertices ?? []) if (within(horizon, vertex) && (first === undefined || byOrder(vertex, first) < 0)) first = vertex
  return first
}

/** The last by order is one that no other knew. */
const lastOf = (vertices: ReadonlyArray<Vertex> | undefined, horizon: Horizon): Vertex | undefined => {
  let last: Vertex | undefined
  for (const vertex of vertices ?? []) if (within(horizon, vertex) && (last === undefined || byOrder(vertex, last) > 0)) last = vertex
  return last
}

/** Those within the horizon that no other of them knew. */
const latest = (vertices: ReadonlyArray<Vertex> | undefined, horizon: Horizon): ReadonlyArray<Vertex> => {
  let out: Array<Vertex> = []
  for (const vertex of vertices ?? []) {
    if (!within(horizon, vertex) || out.some((other) => knew(other, vertex))) continue
    if (out.length > 0) out = out.filter((other) => !knew(vertex, other))
    out.push(vertex)
  }
  return out
}
