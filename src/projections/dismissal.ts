/**
 * What a device is told that belonged to the mesh and does not any more, or never did although somebody admitted it: why, in a sentence, and
 * the operations that say so. It gets those operations with their whole past, because without it they have no place in its own graph;
 * what was written later, or elsewhere meanwhile, is not among them.
 */
import { stampText } from "../codec/clock.ts"
import type { Operation } from "../codec/operation.ts"
import type { Membership } from "./membership.ts"

export interface Departure {
  readonly kind: "revoked" | "left" | "void"
  /** `you were revoked by alpha on 2026-11-23: lost at the station`. */
  readonly sentence: string
  /** The same of this node itself, and of the device by its name. */
  readonly own: string
  readonly about: string
}

/** Undefined for members and for devices that nobody ever admitted. */
export const departureOf = (view: Membership, operations: ReadonlyArray<Operation>, device: string): Departure | undefined => {
  const member = view.members.get(device)
  if (member?.standing === "member") return undefined
  const lost = lostAdmissions(view, operations, device)
  const why = lost.at(-1)?.why
  if (member === undefined) return why === undefined ? undefined : said("void", ["you are", "this node is", `${device.slice(0, 8)} is`], `not a member: ${why}`)
  const { revoked, name } = member
  const gone = revoked?.hash ?? operations.findLast(({ author, says }) => says.kind === "member.left" && author === device)?.hash
  // Somebody let it in again, and that does not count.
  const again = why === undefined || gone === undefined || !lost.some(({ hash }) => pastOf(operations, [hash]).has(gone)) ? "" : `; that it was let in again does not count: ${why}`
  if (revoked !== undefined) {
    const by = ` by ${view.members.get(revoked.by)?.name ?? revoked.by.slice(0, 8)} on ${dayOf(revoked.ms)}`
    return said("revoked", ["you were", "this node was", `${name} was`], `revoked${by}${revoked.reason === "" ? "" : `: ${revoked.reason}`}${again}`)
  }
  const ms = operations.find(({ hash }) => hash === gone)?.ms
  return said("left", ["you", "this node", name], `left the mesh${ms === undefined ? "" : ` on ${dayOf(ms)}`}${again}`)
}

const said = (kind: Departure["kind"], [you, own, about]: readonly [string, string, string], rest: string): Departure =>
  ({ kind, sentence: `${you} ${rest}`, own: `${own} ${rest}`, about: `${about} ${rest}` })

/** Admissions of the device that do not count, in the order of `operations`. */
const lostAdmissions = (view: Membership, operations: ReadonlyArray<Operation>, device: string) => {
  const whys = new Map(view.void.map(({ hash, why }) => [hash, why]))
  return operations.flatMap(({ hash, author, says }) => {
    const why = whys.get(hash)
    return why !== undefined && says.kind === "member.admitted" && says.device === device ? [{ hash, author, invite: says.invite, why }] : []
  })
}

/**
 * What proves it, parents before children as in `operations`. Also what made an admission void that came after: a device that was put out and
 * was let in again, in vain, knows of the one and not of the other.
 */
export const departureProof = (view: Membership, operations: ReadonlyArray<Operation>, device: string): ReadonlyArray<Operation> => {
  const lost = lostAdmissions(view, operations, device)
  const admitters = new Set(lost.map(({ author }) => author))
  const invites = new Set(lost.map(({ invite }) => invite))
  const proof = operations.flatMap(({ hash, author, says }) => {
    const about = says.kind === "member.revoked" ? says.device === device || admitters.has(says.device)
      : says.kind === "member.left" ? author === device
      // Others by the same invite, or its withdrawal.
      : (says.kind === "member.admitted" || says.kind === "invite.withdrawn") && invites.has(says.invite)
    return about ? [hash] : []
  })
  const wanted = pastOf(operations, proof)
  return operations.filter(({ hash }) => wanted.has(hash))
}

/** These and all that they knew. Children come after their parents: one pass from the end reaches the whole past. */
const pastOf = (operations: ReadonlyArray<Operation>, hashes: ReadonlyArray<string>): ReadonlySet<string> => {
  const wanted = new Set(hashes)
  for (const { hash, parents } of operations.toReversed()) if (wanted.has(hash)) for (const parent of parents) wanted.add(parent)
  return wanted
}

const dayOf = (ms: number): string => stampText({ ms, count: 0 }).slice(0, 10)
