/** Deciders of key epochs: a new one, and keys of known ones for further readers; and what an admin's node finds to do by itself. Pure. */
import { Result } from "effect"
import { shortKey } from "../codec/bytes.ts"
import { type Operation, rankOf } from "../codec/operation.ts"
import type { EpochRecord, Membership } from "../projections/membership.ts"
import type { EpochKey } from "../vault/keyring.ts"
import { type Decision, next, type Situation } from "./decide-membership.ts"
import { epochOrder, isSealedBeyond, rotationsBefore } from "./epoch-order.ts"
import { readersOf, rotationStatements, sharingStatements, sharingStatementsMax } from "./epoch-statements.ts"
import { Refusal } from "./refusal.ts"

/** A new epoch for all who may read now. `newKey` is 32 bytes of chance. */
export const decideRotate = (situation: Situation, wish: { readonly newKey: Uint8Array }): Decision =>
  mayKeepEpochs(situation) ? Result.succeed(next(situation, rotationStatements(situation.membership, wish.newKey))) : denied("makes a new key", situation)

/** These keys for these devices, newest first, as many as go into one unit; those that may not read are left out. */
export const decideShare = (
  situation: Situation, wish: { readonly keys: ReadonlyArray<EpochKey>; readonly devices: ReadonlyArray<string> }
): Decision => {
  if (!mayKeepEpochs(situation)) return denied("shares keys", situation)
  const readers = new Set(readersOf(situation.membership))
  const devices = wish.devices.filter((device) => readers.has(device))
  return Result.succeed(devices.length === 0 ? [] : next(situation, sharingStatements(wish.keys, devices)))
}

/** What is not as it should be, and an admin's node can set right. */
export type EpochNeed =
  /** `late`: others can do it better, by sharing with this node. */
  | { readonly _tag: "Rotate"; readonly why: string; readonly late: boolean }
  | { readonly _tag: "Share"; readonly shares: ReadonlyArray<Share> }

export interface Share extends EpochKey {
  readonly readers: ReadonlyArray<string>
}

export interface EpochFacts {
  /** All that are known, parents before children. */
  readonly operations: ReadonlyArray<Operation>
  readonly keyOf: (epoch: EpochRecord) => Uint8Array | undefined
  /** Do newcomers get older keys? */
  readonly historyShared: boolean
  /** By the operation that gave a device its role: rotations that its author knew. Kept between calls; at most so many are found out in one. */
  readonly pasts: Map<string, ReadonlySet<string>>
}

/** Pasts that one call of `epochNeed` finds out; each costs a walk over the operations. */
export const pastsFoundMax = 16

/**
 * What this admin's node should do about epochs now, if anything. The epoch in force must be sealed to everybody who may read and to nobody
 * else. Of older ones the same readers get those they lack: all of them when history is shared, else only those whose making their grant
 * did not know of; and when the one in force is older than a grant, it is rotated in place of being shared. The secret on paper gets all in any case, as it stands for the owners.
 */
export const epochNeed = (situation: Situation, facts: EpochFacts): EpochNeed | undefined => {
  if (!mayKeepEpochs(situation)) return undefined
  const { membership } = situation
  const readers = new Set(readersOf(membership))
  const [first] = epochOrder(membership, facts.operations)
  if (first === undefined) return { _tag: "Rotate", why: "the mesh has no key of its own yet", late: false }
  if (isSealedBeyond(first, readers)) {
    const beyond = [...first.sealed.keys()].filter((reader) => !readers.has(reader)).map((reader) => nameOf(membership, reader))
    return { _tag: "Rotate", why: `the key in force was given to ${beyond.slice(0, 8).join(", ")}, who may not read now`, late: false }
  }
  if (facts.keyOf(first) === undefined) return { _tag: "Rotate", why: "this node was not given the key in force", late: true }
  const knew = knowing(membership, facts)
  const late = facts.historyShared ? undefined : [...readers].find((reader) => !first.sealed.has(reader) && knew(reader, first) === true)
  if (late !== undefined) return { _tag: "Rotate", why: `${nameOf(membership, late)} may read what is written from now on, and nothing older`, late: false }
  const shares: Array<Share> = []
  for (const record of [first, ...membership.epochs.filter((other) => other !== first).toReversed()]) {
    if (shares.length >= sharingStatementsMax) break
    const lacking = [...readers].filter((reader) => !record.sealed.has(reader))
    const due = facts.historyShared ? lacking : lacking.filter((reader) => knew(reader, record) === false)
    const key = due.length === 0 ? undefined : facts.keyOf(record)
    if (key !== undefined) shares.push({ epoch: record.epoch, key, readers: due })
  }
  return shares.length === 0 ? undefined : { _tag: "Share", shares }
}

/** What meets the need, as operations. */
export const decideEpochNeed = (situation: Situation, need: EpochNeed, newKey: Uint8Array): Decision =>
  need._tag === "Rotate" ? decideRotate(situation, { newKey })
    : mayKeepEpochs(situation)
    ? Result.succeed(next(situation, need.shares.flatMap((share) => sharingStatements([share], share.readers)).slice(0, sharingStatementsMax)))
    : denied("shares keys", situation)

/**
 * Did whoever gave a device its role know of this epoch? Then it was made before the device might read. Undefined when that is not found out in
 * this call. The secret on paper was there before everything.
 */
const knowing = (membership: Membership, { operations, pasts }: EpochFacts) => {
  const rotations = new Set(membership.epochs.map(({ hash }) => hash))
  let byHash: ReadonlyMap<string, Operation> | undefined
  let left = pastsFoundMax
  return (reader: string, record: EpochRecord): boolean | undefined => {
    const granted = membership.members.get(reader)?.granted.hash
    if (granted === undefined) return false
    let past = pasts.get(granted)
    if (past === undefined) {
      if (left-- <= 0) return undefined
      byHash ??= new Map(operations.map((operation) => [operation.hash, operation]))
      // What an operation knew never changes; rotations that come later are not in it.
      past = rotationsBefore(granted, rotations, byHash)
      pasts.set(granted, past)
    }
    return past.has(record.hash)
  }
}

const nameOf = (membership: Membership, device: string): string => membership.members.get(device)?.name ?? shortKey(device)

const mayKeepEpochs = ({ membership, device }: Situation): boolean => {
  const me = membership.members.get(device)
  return me?.standing === "member" && rankOf(me.role) >= rankOf("admin")
}

const denied = (what: string, { membership, device }: Situation) => {
  const me = membership.members.get(device)
  const is = me?.standing === "member" ? `this node is ${me.role} of ${membership.name}` : "this node is no member of the mesh"
  return Result.fail(new Refusal({ kind: "denied", detail: `only an admin or owner ${what}; ${is}` }))
}
