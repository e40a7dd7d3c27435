/**
 * Membership: who belongs to a mesh and who may what, as a pure function of the set of signed operations. Design section 5.
 *
 * What this owns. The view that the rest of kOS reads. The graph of operations (codec/membership/graph.ts) and the rules by which
 * they count (codec/membership/rules.ts) lie a floor lower because kos-verify judges by the same ones. Nothing here holds keys,
 * reads a clock or checks a signature: `openOperation` has done that.
 *
 * How one operation travels. A command or a peer brings signed bytes; `openOperation` checks them; `offer` puts the operation into
 * the graph when all its parents are there, else it waits (10,000 at most); on entering it is judged once; `view` folds those that
 * count. Operations that do not count stay in the graph, are passed on, and are shown with the reason.
 *
 * Invariants.
 * 1. An operation counts only if its author held the right in the operation's own past. So a verdict never changes, and is the
 *    same on every node whatever came first.
 * 2. The view is the same for the same set of operations, in any order, with any repetition.
 * 3. A device is one member and a log belongs to one device.
 * 4. No clock decides. An invite's expiry is checked by the owner who redeems it, with its own clock, and recorded by the fact
 *    that it admitted; a replica with a wrong clock comes to the same members.
 *
 * Tricky cases and the answers chosen.
 * - Two concurrent roles for one device: the lower right wins.
 * - An invite is withdrawn and redeemed concurrently: the admission stands, for its author could not know. The same when two
 *   owners redeem the last use in two partitions; both devices are members.
 * - A node leaves and is given a role concurrently: it has left. It comes back by a new admission that knows of the leaving, with a
 *   new log: the old one stays as it was.
 * - One log claimed by two devices concurrently: the first by depth and hash keeps it, the other claim is shown as void.
 * - One name for two nodes: the first grant by depth and hash keeps it, the other is shown as `name-2`. Nodes that left give way.
 * - Two owners name the mesh concurrently: the last by depth and hash is its name, the same rule by which a later naming wins.
 * - The last owner cannot leave or step down. Two last owners who leave concurrently both leave: recovery is another matter.
 * - A log closed twice concurrently: the smaller length wins.
 */
import type { Operation, Role } from "../codec/operation.ts"
import { shortKey } from "../codec/bytes.ts"
import { byOrder, type Entry, makeGraph, type Vertex } from "../codec/membership/graph.ts"
import { everything, makeRules, type Rules } from "../codec/membership/rules.ts"

export interface MemberLog {
  readonly log: string
  /** Hash of the operation that attached it. */
  readonly from: string
  /** Its device closed it at this length. */
  readonly closedAt?: number
  /** Blocks from here on do not count: the log was closed, or its device revoked; the smallest such length. */
  readonly cutAt?: number
  /** Changes of documents from this block on do not count: `cutAt`, or where a device that may write no more wrote last; 0 when it never might. */
  readonly docsTo?: number
  readonly successor?: string
}

export interface Member {
  readonly device: string
  /** Unique in the mesh; what people see and type. */
  readonly name: string
  readonly role: Role
  /** Hash of the operation that made it a member, who wrote that, and when by the writer's clock. */
  readonly since: string
  readonly by: string
  readonly ms: number
  readonly standing: "member" | "left" | "revoked"
  /** The operation that gave it its present role, who wrote that, and when by the writer's clock. */
  readonly granted: { readonly hash: string; readonly by: string; readonly ms: number }
  /** The revocation that holds, the first by depth and hash; only while `standing` is `revoked`. */
  readonly revoked?: { readonly hash: string; readonly by: string; readonly ms: number; readonly reason: string }
  /** In the order in which they were attached. */
  readonly logs: ReadonlyArray<MemberLog>
}

export interface InviteRecord {
  /** Public key of the invite. */
  readonly invite: string
  readonly role: Role
  readonly expiresMs: number
  readonly uses: number
  readonly used: number
  readonly withdrawn: boolean
  readonly by: string
  readonly issuedMs: number
  readonly admitted: ReadonlyArray<string>
}

/** A key of frames, as operations tell of it; the key itself is the keyring's. */
export interface EpochRecord {
  readonly epoch: number
  /** `epochCommit` of its key; of concurrent rotations with one number it tells which is which. */
  readonly commit: string
  /** Hash of `epoch.rotated`. */
  readonly hash: string
  readonly by: string
  readonly ms: number
  /** False when the rotation does not count; its frames can be opened all the same. */
  readonly valid: boolean
  /** Sealed to whom, in the rotation and in what was shared of it later: device keys, and recovery keys. */
  readonly sealed: ReadonlyMap<string, Uint8Array>
}

export interface VoidOperation {
  readonly hash: string
  readonly kind: string
  readonly author: string
  readonly why: string
}

export interface Membership {
  readonly id: string
  /** Empty while `mesh.created` has not arrived. */
  readonly name: string
  readonly members: ReadonlyMap<string, Member>
  readonly invites: ReadonlyMap<string, InviteRecord>
  /** Every log that belongs to a device, with that device. */
  readonly devices: ReadonlyMap<string, string>
  readonly void: ReadonlyArray<VoidOperation>
  /** By depth and hash; the last valid one is the one to seal under. */
  readonly epochs: ReadonlyArray<EpochRecord>
  /** Owners that must agree before an owner is revoked; 1 unless the mesh says more. */
  readonly threshold: number
  /** Public key of the secret on paper, when the mesh has one. */
  readonly recovery: string | undefined
  /** Operations in the graph, those that do not count included. */
  readonly operations: number
  /** Operations whose parents have not arrived. */
  readonly waiting: number
  /** Hashes without children, those with the most behind them first: the parents of the next operation. */
  readonly heads: ReadonlyArray<string>
}

export type Offered =
  /** It is in, perhaps with others that had waited for it. */
  | { readonly _tag: "Entered"; readonly entered: ReadonlyArray<Operation> }
  | Exclude<Entry, { readonly _tag: "Entered" }>

export interface MembershipFold {
  /** Takes one opened operation; costs a few microseconds. */
  readonly offer: (operation: Operation) => Offered
  /** What is true now; computed when something entered since the last call. */
  readonly view: () => Membership
  /** Those in the graph, parents before children. */
  readonly operations: () => ReadonlyArray<Operation>
  /** Why an operation in the graph does not count; undefined when it does or is not here. */
  readonly whyVoid: (hash: string) => string | undefined
  /** Is it in the graph? */
  readonly has: (hash: string) => boolean
}

/** The members of a mesh folded from operations as they come. */
export const foldMembership = (mesh: string): MembershipFold => {
  const graph = makeGraph(mesh)
  const rules = makeRules()
  const voids = new Map<string, string>()
  let last: Membership | undefined
  return {
    offer: (operation) => {
      const entry = graph.enter(operation)
      if (entry._tag !== "Known" && entry._tag !== "Refused") last = undefined
      if (entry._tag !== "Entered") return entry
      for (const vertex of entry.vertices) {
        const why = rules.judge(vertex)
        if (why !== undefined) voids.set(vertex.operation.hash, why)
      }
      return { _tag: "Entered", entered: entry.vertices.map((vertex) => vertex.operation) }
    },
    view: () => {
      if (last !== undefined) return last
      const naming = rules.meshNaming()?.operation.says
      const contested = contestedClaims(rules)
      const { members, devices } = membersOf(rules)
      last = {
        id: mesh,
        name: naming?.kind === "mesh.created" || naming?.kind === "mesh.named" ? naming.name : "",
        members, devices,
        invites: invitesOf(rules),
        epochs: [], threshold: 1, recovery: undefined,
        void: [...graph.vertices].sort(byOrder).flatMap((vertex) => {
          const why = voids.get(vertex.operation.hash) ?? contested.get(vertex.operation.hash)
          return why === undefined ? [] : [{ hash: vertex.operation.hash, kind: kindOf(vertex.operation), author: vertex.operation.author, why }]
        }),
        operations: graph.vertices.length,
        waiting: graph.waiting(),
        heads: graph.heads()
      }
      return last
    },
    operations: () => graph.vertices.map((vertex) => vertex.operation),
    whyVoid: (hash) => voids.get(hash),
    has: graph.has
  }
}

/** The same in one call, from a set in any order. */
export const resolveMembership = (mesh: string, operations: Iterable<Operation>): Membership => {
  const fold = foldMembership(mesh)
  for (const operation of operations) fold.offer(operation)
  return fold.view()
}

/** The kind as it stands in the operation's bytes. */
export const kindOf = (operation: Operation): string =>
  operation.says.kind === "kept" ? operation.says.name : operation.says.kind

/** The member that a person means: by name, or by eight or more hex digits that begin exactly one device key. */
export const findMember = (membership: Membership, text: string): Member | undefined => {
  const wanted = text.toLowerCase()
  const all = [...membership.members.values()]
  const named = all.find((member) => member.name.toLowerCase() === wanted)
  if (named !== undefined || !/^[0-9a-f]{8,64}$/.test(wanted)) return named
  const begun = all.filter((member) => member.device.startsWith(wanted))
  return begun.length === 1 ? begun[0] : undefined
}

const membersOf = (rules: Rules): { readonly members: Map<string, Member>; readonly devices: Map<string, string> } => {
  const logs = new Map<string, Array<{ readonly order: Vertex; readonly log: MemberLog }>>()
  const devices = new Map<string, string>()
  for (const log of [...rules.logs()].sort()) {
    const claim = rules.claimsOf(log, everything)[0]
    if (claim === undefined) continue
    devices.set(log, claim.device)
    const closing = rules.closingOf(log, claim.device, everything)?.operation.says
    const closed = closing?.kind === "log.succeeded" ? { closedAt: closing.length, successor: closing.successor } : {}
    const entry = { order: claim.vertex, log: { log, from: claim.vertex.operation.hash, ...closed } }
    const list = logs.get(claim.device)
    if (list === undefined) logs.set(claim.device, [entry])
    else list.push(entry)
  }
  const names = namesOf(rules)
  const members = new Map<string, Member>()
  for (const device of [...rules.devices()].sort()) {
    const { standing, role } = rules.standingOf(device, everything)
    const admission = rules.admissionOf(device)?.operation
    if (standing === undefined || role === undefined || admission === undefined) continue
    members.set(device, {
      device, name: names.get(device) ?? shortKey(device), role, since: admission.hash, by: admission.author, ms: admission.ms, standing,
      granted: { hash: admission.hash, by: admission.author, ms: admission.ms },
      logs: (logs.get(device) ?? []).sort((a, b) => byOrder(a.order, b.order)).map((entry) => entry.log)
    })
  }
  return { members, devices }
}

const namesOf = (rules: Rules): ReadonlyMap<string, string> => {
  const wishes: Array<{ readonly device: string; readonly name: string; readonly order: Vertex; readonly left: boolean }> = []
  for (const device of rules.devices()) {
    const naming = rules.namingOf(device) ?? rules.admissionOf(device)
    if (naming === undefined) continue
    const says = naming.operation.says
    const name = says.kind === "member.named" || says.kind === "member.admitted" ? says.name : shortKey(device)
    wishes.push({ device, name, order: naming, left: rules.standingOf(device, everything).standing === "left" })
  }
  wishes.sort((a, b) => Number(a.left) - Number(b.left) || byOrder(a.order, b.order) || (a.device < b.device ? -1 : 1))
  const names = new Map<string, string>()
  const taken = new Set<string>()
  const give = (device: string, name: string): boolean => {
    if (taken.has(name.toLowerCase())) return false
    taken.add(name.toLowerCase())
    names.set(device, name)
    return true
  }
  const seconds = wishes.filter(({ device, name }) => !give(device, name))
  const tried = new Map<string, number>()
  for (const { device, name } of seconds) {
    const key = name.toLowerCase()
    let suffix = tried.get(key) ?? 2
    while (!give(device, `${name}-${suffix}`)) suffix++
    tried.set(key, suffix + 1)
  }
  return names
}

const invitesOf = (rules: Rules): Map<string, InviteRecord> => {
  const out = new Map<string, InviteRecord>()
  for (const invite of [...rules.invites()].sort()) {
    const issue = rules.issueOf(invite, everything)?.operation
    if (issue?.says.kind !== "invite.issued") continue
    const admitted = [...rules.admissionsBy(invite, everything)].sort(byOrder)
      .flatMap(({ operation: { says } }) => says.kind === "member.admitted" ? [says.device] : [])
    out.set(invite, {
      invite, role: issue.says.role, expiresMs: issue.says.expiresMs, uses: issue.says.uses, used: admitted.length,
      withdrawn: rules.isWithdrawn(invite, everything), by: issue.author, issuedMs: issue.ms, admitted
    })
  }
  return out
}

const contestedClaims = (rules: Rules): ReadonlyMap<string, string> => {
  const out = new Map<string, string>()
  for (const log of rules.logs()) {
    const [winner, ...others] = rules.claimsOf(log, everything)
    for (const claim of others) {
      if (claim.device === winner?.device) continue
      const but = claim.vertex.operation.says.kind === "member.admitted" ? "the admission counts, but " : ""
      out.set(claim.vertex.operation.hash,
        `${but}the log ${shortKey(log)} was attached to another device concurrently; that claim is the first by order`)
    }
  }
  return out
}
