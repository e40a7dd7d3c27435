/**
 * Membership: who belongs to a mesh and who may what, as a pure function of the set of signed operations. Design section 5.
 *
 * **What this owns.** The view that the rest of kOS reads. The resolver lies a floor lower (codec/membership), because kos-verify judges by
 * the same rules: the graph of operations (`graph.ts`), what counts by subject (`facts.ts`), the right to say something (`rules.ts`), one pass
 * over all (`passes.ts`), which revocations are accepted (`acceptance.ts`), verdicts kept as operations come (`resolver.ts`), where logs
 * end (`cuts.ts`). Nothing here holds keys, reads a clock or checks a signature: `openOperation` has done that.
 *
 * **How one operation travels.** A command or a peer brings signed bytes; `openOperation` checks them; `offer` puts the operation into the
 * graph when all its parents are there, else it waits (10,000 at most). Most are judged alone on entering. A revocation, and what else bears
 * on others, makes the verdicts stale; the next `view` or `whyVoid` makes them anew. So a verdict can change when something concurrent
 * arrives. Operations that do not count stay in the graph, are passed on, and are shown with the reason.
 *
 * **Rights.** owner > admin > member > reader > seeder. Admins and owners issue and withdraw invites, admit, set roles, revoke, rotate and
 * share keys and name others, each for ranks strictly below their own; an owner acts on owners too, but an owner's role is changed by
 * itself only. Owners alone name the mesh, set the recovery key and say how many owners must agree. Everybody names itself, attaches and
 * closes its own logs and leaves. An admin may lower its own role.
 *
 * **When an operation counts.** A pass judges all in the canonical order (depth, hash), in which causes come first. (1) Its author held the
 * right in the operation's own past, judged over what counts of that past. (2) Strong removal: it is not by a device concurrently with an
 * accepted revocation of that device that holds. Only a revocation of whoever revoked it is exempt. (3) Surplus: of the devices that one invite admits, those
 * beyond its uses are out, counted in the canonical order whatever each admitter knew. What depends on something void is void by (1).
 *
 * **Which revocations are accepted.** None at first. Each round runs a pass with those accepted so far; candidates are the revocations that
 * count in it. A candidate is threatened by another when an operation of its authority (the grants, entries and invites by which its author
 * is what it is, those by which their authors gave them, and so on) is by the device that the other is about and concurrent with that
 * other. All that nobody threatens are accepted; when all are threatened, the first by rank of the author, then by its first
 * admission, then by order. Accepted stays accepted and counts, even when its ground is struck later. The last pass, with no new
 * candidate, says what counts. A revocation of an owner *holds* (revokes, cuts, removes) once as many owners as must agree have such
 * a revocation that counts; of anybody else at once.
 *
 * **Invariants.**
 * 1. The view is the same for the same set of operations, in any order, with any repetition, whenever it was looked at in between.
 * 2. A device is one member and a log belongs to one device.
 * 3. No clock decides. An invite's expiry is checked by who redeems it, with its own clock, and recorded by the fact that it
 *    admitted; a replica with a wrong clock comes to the same members.
 * 4. The end of a log moves back only when something becomes known that is concurrent or later.
 *
 * **Tricky cases and the answers chosen.**
 * - *Two concurrent roles for one device:* the lower right wins. The same for an admission, or a recovery, and a role.
 * - *An invite is withdrawn and redeemed concurrently:* the admission stands, for its author could not know.
 * - *One invite is redeemed in two partitions:* the first by order stays, everywhere; the other device, and what it did, is out.
 * - *A node leaves and is given a role concurrently:* it has left. It comes back by a new admission that knows of the leaving, with a new log.
 * - *Two revoke each other concurrently:* both are out, and nobody else: what either revoked besides is void. A third that revokes one of them decides it. When they were the last owners, the secret on paper is left.
 * - *A revoked device writes operations with old parents:* concurrent with its revocation, so void, and what they admit too.
 * - *A revoked device revokes its revoker with old parents:* counts, if it had the right and nobody else revoked it: nobody can tell it from the honest mutual case.
 *   An owner cannot be revoked from below, and a threshold keeps one stolen owner from it.
 * - *A circle of three, each resting on who the next one takes away:* the senior one is accepted, then what still counts.
 * - *Revoked, and admitted again by somebody who did not know:* revoked. By somebody who knew: a member again, with a new log.
 * - *Revocations of an owner that is admitted again between them:* not added up, if the later one knew of the re-admission; else they are:
 *   a re-admission that one of those who agree did not know of cannot part them.
 * - *The threshold is raised and an owner revoked concurrently:* each revocation asks for what its own author knew, and the last in order of
 *   those that are needed decides. Raising takes one owner; lowering as many as must agree just then, all saying the same number;
 *   gone through in order, so a raise that comes between undoes the votes. The number in force is never more than there are other owners.
 * - *The last owner*, as far as the author knew, cannot leave or step down, and nobody else may revoke an owner. Two last owners who
 *   leave concurrently both leave.
 * - *A device that left is revoked:* allowed, so that what it wrote before can be cut.
 * - *The recovery key is changed and used concurrently:* the use does not count, if the change counts in a mesh without any such contested
 *   use: so it cannot undo what speaks against it. A thief who is an owner can therefore block the paper by a change that was not yet known,
 *   and is revoked by another owner; a revocation that removes the change lets the use count again.
 * - *A revoked device uses the secret on paper:* without knowing of the revocation void; knowing it, a member again, with a new log.
 * - *Cut-offs of several revocations:* the smallest for each log. A log that the device had as far as the revoker knew, or attached
 *   concurrently, and that is not listed is cut at 0. A log of a later re-admission is not touched. Logs of others in the list mean nothing.
 * - *Writing is taken away by a role:* documents count up to the lengths in that grant (0 where none is listed); a further lowering does
 *   not move them up. When writing is given back, all counts again. Who is admitted as reader writes no documents in any log,
 *   but what an earlier membership wrote stays where its log had been closed or cut by then.
 * - *One log claimed by two devices:* who proves to hold its key goes before who does not, whatever the order; else the first by order.
 *   The other claim is shown as void.
 * - *One name for two nodes:* the first grant by order keeps it, the other is shown as `name-2`. Nodes that left or were revoked give way.
 * - *Two owners name the mesh concurrently:* the last by order is its name, the same rule by which a later naming wins.
 * - *A log closed twice concurrently:* the smaller length wins.
 * - *Hundreds of revocations tangled on purpose:* threats are weighed for 64 rounds, then all that is left is accepted at once.
 *
 * What causality cannot give: an owner that forges old parents is believed to have known no better, as far as its own rank reaches; so a
 * raised threshold does not bind a revocation that pretends to be older.
 */
import { type Entry, makeGraph } from "../codec/membership/graph.ts"
import { makeResolver } from "../codec/membership/resolver.ts"
import type { Operation, Role } from "../codec/operation.ts"
import { makeView } from "./membership-view.ts"

export { kindOf } from "./membership-view.ts"

export interface MemberLog {
  readonly log: string
  /** Hash of the operation that attached it. */
  readonly from: string
  /** Its device proved to hold its key. */
  readonly held?: true
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
  /** Owners that want this owner revoked, while they are fewer than must agree. */
  readonly accused?: { readonly by: ReadonlyArray<string>; readonly needed: number }
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
  /** Devices that were revoked by a revocation which the invite did not know of: it does not bring them back. */
  readonly barred: ReadonlyArray<string>
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
  /** Owners that must agree before an owner is revoked; 1 unless the mesh says more, and never more than there are besides that owner. */
  readonly threshold: number
  /** What the mesh said, when it has too few owners for that many to agree. */
  readonly thresholdSaid?: number
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
  const resolver = makeResolver()
  const viewOf = makeView()
  let last: Membership | undefined
  return {
    offer: (operation) => {
      const entry = graph.enter(operation)
      if (entry._tag !== "Known" && entry._tag !== "Refused") last = undefined
      if (entry._tag !== "Entered") return entry
      for (const vertex of entry.vertices) resolver.enter(vertex)
      return { _tag: "Entered", entered: entry.vertices.map((vertex) => vertex.operation) }
    },
    view: () => last ??= {
      id: mesh, ...viewOf(resolver.order(), resolver.verdicts()),
      operations: graph.vertices.length, waiting: graph.waiting(), heads: graph.heads()
    },
    operations: () => graph.vertices.map((vertex) => vertex.operation),
    whyVoid: (hash) => resolver.verdicts().voids.get(hash),
    has: graph.has
  }
}

/** The same in one call, from a set in any order. */
export const resolveMembership = (mesh: string, operations: Iterable<Operation>): Membership => {
  const fold = foldMembership(mesh)
  for (const operation of operations) fold.offer(operation)
  return fold.view()
}

/** The member that a person means: by name, or by eight or more hex digits that begin exactly one device key. */
export const findMember = (membership: Membership, text: string): Member | undefined => {
  const wanted = text.toLowerCase()
  const all = [...membership.members.values()]
  const named = all.find((member) => member.name.toLowerCase() === wanted)
  if (named !== undefined || !/^[0-9a-f]{8,64}$/.test(wanted)) return named
  const begun = all.filter((member) => member.device.startsWith(wanted))
  return begun.length === 1 ? begun[0] : undefined
}
