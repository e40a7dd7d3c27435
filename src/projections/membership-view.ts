/**
 * The view of a mesh's membership, made from the verdicts on its operations. What it means stands in membership.ts.
 *
 * After an operation that was judged alone only what it is about is made anew; after a resolution of all, everything.
 */
import { shortKey } from "../codec/bytes.ts"
import { cutAtOf, docsToOf } from "../codec/membership/cuts.ts"
import { type Claim, clip, everything, type Facts, lowestRole, roleGiven } from "../codec/membership/facts.ts"
import { byOrder, knew, type Vertex } from "../codec/membership/graph.ts"
import type { Verdicts } from "../codec/membership/resolver.ts"
import type { Operation } from "../codec/operation.ts"
import type { EpochRecord, InviteRecord, Member, MemberLog, Membership, VoidOperation } from "./membership.ts"

/** What the verdicts decide of a view. */
export type Decided = Omit<Membership, "id" | "operations" | "waiting" | "heads">

/** `order`: all operations in the canonical order. Called again and again with the verdicts of one mesh as they grow. */
export const makeView = (): (order: ReadonlyArray<Vertex>, verdicts: Verdicts) => Decided => {
  let of: Facts | undefined
  let known: ReadonlyMap<string, Known> = new Map()
  let peopled: Pick<Membership, "members" | "devices"> = { members: new Map(), devices: new Map() }
  let invites: ReadonlyMap<string, InviteRecord> = new Map()
  let epochCount = 0
  let epochs: ReadonlyArray<EpochRecord> = []
  let voids: { readonly count: number; readonly list: ReadonlyArray<VoidOperation> } = { count: -1, list: [] }
  return (order, verdicts) => {
    const { facts } = verdicts
    const touched = facts.takeTouched()
    const anew = of !== facts
    of = facts
    if (anew || touched.devices.size > 0) {
      const before = known
      known = keyed(facts.devices(), before, touched.devices, (device) => knownOf(verdicts, device))
      peopled = membersOf(facts, known, { known: before, members: peopled.members })
    }
    if (anew || touched.invites.size > 0) invites = keyed(facts.invites(), invites, touched.invites, (invite) => inviteOf(verdicts, invite))
    // What does not count is only ever added to, while the facts are the same; a contest is between claims that count.
    const contested = touched.devices.size > 0 && !isEmpty(facts.contestedLogs())
    if (anew || contested || voids.count !== verdicts.voids.size) voids = { count: verdicts.voids.size, list: voidsOf(order, verdicts) }
    if (anew || epochCount !== verdicts.epochs.length) {
      epochCount = verdicts.epochs.length
      epochs = epochsOf(verdicts)
    }
    const naming = facts.meshNaming()?.operation.says
    const recovery = facts.recoveryOf(everything)?.operation.says
    const said = facts.thresholdSaid(everything)
    const threshold = clip(said, facts.ownersBut(undefined, everything) - 1)
    return {
      name: naming !== undefined && "name" in naming ? naming.name : "",
      ...peopled, invites,
      void: voids.list, epochs,
      threshold, ...(said === threshold ? {} : { thresholdSaid: said }),
      recovery: recovery?.kind === "recovery.set" ? recovery.recovery : undefined
    }
  }
}

const isEmpty = (items: Iterable<unknown>): boolean => {
  for (const _ of items) return false
  return true
}

/** By key in order; those that were not touched as they were. */
const keyed = <A>(keys: Iterable<string>, before: ReadonlyMap<string, A>, touched: ReadonlySet<string>, make: (key: string) => A | undefined): ReadonlyMap<string, A> => {
  const out = new Map<string, A>()
  for (const key of [...keys].sort()) {
    const value = touched.has(key) ? make(key) : before.get(key)
    if (value !== undefined) out.set(key, value)
  }
  return out
}

/** The kind as it stands in the operation's bytes. */
export const kindOf = (operation: Operation): string =>
  operation.says.kind === "kept" ? operation.says.name : operation.says.kind

/** What is known of a device without looking at others, but for its name. */
interface Known {
  readonly member: Omit<Member, "name" | "accused">
  readonly accusers: ReadonlyArray<string>
  readonly wish: { readonly name: string; readonly order: Vertex }
}

const knownOf = (verdicts: Verdicts, device: string): Known | undefined => {
  const { facts } = verdicts
  const { standing, revocation } = facts.standingOf(device, everything)
  const grants = facts.grantsOf(device, everything)
  const role = lowestRole(grants)
  const granted = [...grants].sort(byOrder).find((grant) => roleGiven(grant) === role)
  const entry = [...facts.entriesOf(device, everything)].sort(byOrder).at(-1)
  if (standing === undefined || role === undefined || granted === undefined || entry === undefined) return undefined
  const says = revocation?.operation.says
  const naming = facts.namingOf(device) ?? entry
  const named = naming.operation.says
  const { hash: since, author: by, ms } = entry.operation
  return {
    member: {
      device, role, since, by, ms, standing, granted: placeOf(granted),
      ...(revocation === undefined || says?.kind !== "member.revoked" ? {} : { revoked: { ...placeOf(revocation), reason: says.reason ?? "" } }),
      logs: logsOf(verdicts, device)
    },
    accusers: standing === "revoked" ? [] : [...new Set(facts.outstanding(device, everything).map(({ operation }) => operation.author))].sort(),
    wish: { name: named.kind !== "mesh.created" && "name" in named ? named.name : shortKey(device), order: naming }
  }
}

const logsOf = (verdicts: Verdicts, device: string): ReadonlyArray<MemberLog> => {
  const { facts } = verdicts
  return [...facts.logsOf(device)]
    .flatMap((log) => {
      const claim = facts.claimOf(log, everything)
      return claim?.device === device ? [{ claim, log }] : []
    })
    .sort((a, b) => byOrder(a.claim.vertex, b.claim.vertex))
    .map(({ claim, log }) => logOf(verdicts, claim, log))
}

const logOf = (verdicts: Verdicts, claim: Claim, log: string): MemberLog => {
  const closing = verdicts.facts.closingOf(log, claim.device, everything)?.operation.says
  const cutAt = cutAtOf(verdicts, claim, log, everything)
  const docsTo = docsToOf(verdicts, claim, log)
  const { hash: from, holds } = claim.vertex.operation
  return {
    log, from, ...(holds ? { held: true as const } : {}),
    ...(closing?.kind === "log.succeeded" ? { closedAt: closing.length, successor: closing.successor } : {}),
    ...(cutAt === undefined ? {} : { cutAt }), ...(docsTo === undefined ? {} : { docsTo })
  }
}

const membersOf = (
  facts: Facts, known: ReadonlyMap<string, Known>, before: { readonly known: ReadonlyMap<string, Known>; readonly members: ReadonlyMap<string, Member> }
): Pick<Membership, "members" | "devices"> => {
  const names = namesOf([...known.values()])
  const members = new Map<string, Member>()
  const devices = new Map<string, string>()
  for (const [device, one] of known) {
    const { member, accusers } = one
    const was = before.members.get(device)
    for (const { log } of member.logs) devices.set(log, device)
    if (was !== undefined && before.known.get(device) === one && accusers.length === 0 && was.name === names.get(device)) {
      members.set(device, was)
      continue
    }
    const { device: _, role, ...rest } = member
    members.set(device, {
      device, name: names.get(device) ?? shortKey(device), role, ...rest,
      ...(accusers.length === 0 ? {} : { accused: { by: accusers, needed: clip(facts.thresholdSaid(everything), facts.ownersBut(device, everything)) } })
    })
  }
  return { members, devices }
}

const placeOf = ({ operation: { hash, author, ms } }: Vertex) => ({ hash, by: author, ms })

/** By first wish in the canonical order; who is no member any more gives way. */
const namesOf = (known: ReadonlyArray<Known>): ReadonlyMap<string, string> => {
  const wishes = known.map(({ member: { device, standing }, wish: { name, order } }) => ({ device, name, order, gone: standing !== "member" }))
  wishes.sort((a, b) => Number(a.gone) - Number(b.gone) || byOrder(a.order, b.order))
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

const inviteOf = ({ facts, removals }: Verdicts, invite: string): InviteRecord | undefined => {
  const vertex = facts.issueOf(invite, everything)
  const issue = vertex?.operation
  if (vertex === undefined || issue?.says.kind !== "invite.issued") return undefined
  const { role, expiresMs, uses } = issue.says
  const admitted = [...facts.admittedBy(invite, everything)]
  return {
    invite, role, expiresMs, uses, used: admitted.length, withdrawn: facts.isWithdrawn(invite, everything), by: issue.author, issuedMs: issue.ms, admitted,
    barred: [...removals].flatMap(([device, revocations]) => revocations.every((revocation) => knew(vertex, revocation)) ? [] : [device]).sort()
  }
}

/** Each rotation with its sharings: those that count, and those of who made the rotation and so held the key. */
const epochsOf = ({ voids, epochs }: Verdicts): ReadonlyArray<EpochRecord> => {
  const order = [...epochs].sort(byOrder)
  const sharings = new Map<string, Array<Operation>>()
  for (const { operation } of order) {
    if (operation.says.kind !== "epoch.shared") continue
    const key = `${operation.says.epoch} ${operation.says.commit}`
    const list = sharings.get(key)
    if (list === undefined) sharings.set(key, [operation])
    else list.push(operation)
  }
  return order.flatMap(({ operation: { says, hash, author, ms } }) => {
    if (says.kind !== "epoch.rotated") return []
    const sealed = new Map<string, Uint8Array>()
    const shared = (sharings.get(`${says.epoch} ${says.commit}`) ?? []).filter((operation) => operation.author === author || !voids.has(operation.hash))
    for (const list of [says, ...shared.map((operation) => operation.says)]) {
      if (list.kind !== "epoch.rotated" && list.kind !== "epoch.shared") continue
      for (const { reader, sealed: box } of list.sealed) if (!sealed.has(reader)) sealed.set(reader, box)
    }
    return [{ epoch: says.epoch, commit: says.commit, hash, by: author, ms, valid: !voids.has(hash), sealed }]
  })
}

const voidsOf = (order: ReadonlyArray<Vertex>, { facts, voids }: Verdicts): ReadonlyArray<VoidOperation> => {
  const contested = contestedClaims(facts)
  return order.flatMap(({ operation }) => {
    const why = voids.get(operation.hash) ?? contested.get(operation.hash)
    return why === undefined ? [] : [{ hash: operation.hash, kind: kindOf(operation), author: operation.author, why }]
  })
}

const contestedClaims = (facts: Facts): ReadonlyMap<string, string> => {
  const out = new Map<string, string>()
  for (const log of facts.contestedLogs()) {
    const [winner, ...others] = facts.claimsOf(log, everything)
    for (const claim of others) {
      if (winner === undefined || claim.device === winner.device) continue
      const { says, holds } = claim.vertex.operation
      const but = says.kind === "member.admitted" || says.kind === "recovery.used" ? "the admission counts, but " : ""
      const why = winner.vertex.operation.holds && !holds ? "; that one proves to hold its key" : " concurrently; that claim is the first by order"
      out.set(claim.vertex.operation.hash, `${but}the log ${shortKey(log)} was attached to another device${why}`)
    }
  }
  return out
}
