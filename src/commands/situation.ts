/** What a decider of membership knows, and what all of them need: who may, and how statements become operations that are ready to be signed. */
import { Result } from "effect"
import { actsOn, manages } from "../codec/membership/rules.ts"
import { draftOperation, operationParentsMax, type LogHeld, type Role, type Statement, type Unsigned } from "../codec/operation.ts"
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

/** Drafts of one command, each building on the one before, the first on the heads as of now. */
export const next = ({ membership, device, ms }: Situation, statements: ReadonlyArray<Statement>): ReadonlyArray<Unsigned> =>
  chain(membership.id, device, ms, parentsOf(membership), statements)

export const one = (situation: Situation, says: Statement): Decision => Result.succeed(next(situation, [says]))

export const chain = (
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

/**
 * At most 16 of the heads, those with the most behind them: the rest is taken by the operations after. What the author relies on
 * lies behind the first ones, unless someone floods the mesh with parallel operations; then the operation is void and seen as such.
 */
const parentsOf = (membership: Membership): ReadonlyArray<string> => membership.heads.slice(0, operationParentsMax).sort()

/** This node, when it is a member. */
export const member = ({ membership, device }: Situation): Result.Result<Member, Refusal> => {
  const me = membership.members.get(device)
  if (me?.standing === "member") return Result.succeed(me)
  if (me === undefined) return refuse("denied", "this node is no member of the mesh")
  return refuse("denied", `this node has ${me.standing === "left" ? "left" : "been revoked from"} ${membership.name}`)
}

/** This node, when it is an owner; `what` completes "only an owner may". */
export const owner = (situation: Situation, what: string): Result.Result<Member, Refusal> => {
  const me = member(situation)
  if (Result.isFailure(me) || me.success.role === "owner") return me
  return refuse("denied", `only an owner may ${what}; this node is ${me.success.role} of ${situation.membership.name}`)
}

/** This node, when it is an admin or owner; `what` completes "only admins and owners may". */
export const manager = (situation: Situation, what: string): Result.Result<Member, Refusal> => {
  const me = member(situation)
  if (Result.isFailure(me) || manages(me.success.role)) return me
  return refuse("denied", `only admins and owners may ${what}; this node is ${me.success.role} of ${situation.membership.name}`)
}

/** Device that keeps the log from being claimed with what is said of possession: who proves it takes the log from another who did not, and says so once. */
export const holderAgainst = ({ devices, members }: Membership, log: string, { held }: LogHeld): string | undefined => {
  const holder = devices.get(log)
  if (holder === undefined || held === undefined) return holder
  return members.get(holder)?.logs.some((entry) => entry.log === log && entry.held === true) === true ? holder : undefined
}

/** Does this member's rank reach this role? `what` is what it would do, as in "invite a". */
export const reaches = ({ membership }: Situation, me: Member, role: Role, what: string): Result.Result<void, Refusal> =>
  actsOn(me.role, role) ? Result.succeed(undefined)
    : refuse("denied", `an ${me.role} may not ${what} ${role}: only ranks below its own; this node is ${me.role} of ${membership.name}`)

/** The node that a person means: a member, or with `gone` also one that was. */
export const nodeCalled = ({ membership }: Situation, node: string, gone = false): Result.Result<Member, Refusal> => {
  const found = findMember(membership, node)
  return found !== undefined && (gone || found.standing === "member") ? Result.succeed(found)
    : refuse("not-found", `no node of this mesh is called ${node}`, gone ? "kos node list --all" : "kos node list")
}

export const isLastOwner = ({ membership, device }: Situation): boolean =>
  ![...membership.members.values()].some((other) => other.device !== device && other.standing === "member" && other.role === "owner") &&
  membership.members.get(device)?.role === "owner"

export const usage = (detail: string, path?: string) =>
  Result.fail(new Refusal({ kind: "usage", detail, ...(path === undefined ? {} : { path }) }))

export const refuse = (kind: Refusal["kind"], detail: string, hint?: string) =>
  Result.fail(new Refusal({ kind, detail, ...(hint === undefined ? {} : { hint }) }))
