/**
 * The rules of membership a second time, written straight from their text: slow, with nothing kept but what is said, lists filtered anew
 * for every question. It shares no code with src but the form of operations and the ranks of roles. The property test compares the two.
 */
import { type Operation, rankOf, type Role } from "../src/codec/operation.ts"

interface Op {
  readonly hash: string
  readonly author: string
  readonly says: Operation["says"]
  readonly proven: boolean
  readonly holds: boolean
  readonly ms: number
  readonly past: ReadonlySet<string>
  readonly depth: number
}

/** What is compared of two resolutions. */
export interface Summary {
  readonly void: ReadonlyArray<string>
  readonly members: Readonly<Record<string, unknown>>
  readonly invites: Readonly<Record<string, unknown>>
  readonly epochs: ReadonlyArray<string>
  readonly threshold: number
  readonly said: number
  readonly recovery: string
  readonly name: string
}

export const modelOf = (operations: Iterable<Operation>): Summary => {
  const all = canonical(operations)
  const place = new Map(all.map((op, i) => [op.hash, i]))
  const before = (a: Op, b: Op) => (place.get(a.hash) ?? 0) - (place.get(b.hash) ?? 0)
  const knows = (later: Op, earlier: Op) => later.past.has(earlier.hash)
  const concurrent = (a: Op, b: Op) => a.hash !== b.hash && !knows(a, b) && !knows(b, a)

  // ---- what follows from a list of operations that count -------------------------------------------------------------------------
  let counted = new Set<string>()
  let needs = new Map<string, number>()
  const countedPast = (op: Op) => all.filter((other) => knows(op, other) && counted.has(other.hash))

  const isEntry = (op: Op, device: string) =>
    (op.says.kind === "member.admitted" && op.says.device === device) || ((op.says.kind === "mesh.created" || op.says.kind === "recovery.used") && op.author === device)
  const isGrant = (op: Op, device: string) => isEntry(op, device) || (op.says.kind === "role.set" && op.says.device === device)
  const given = (op: Op): Role => op.says.kind === "member.admitted" || op.says.kind === "role.set" ? op.says.role : "owner"
  /** Strong removal, but for a revocation of the one who revokes. */
  const strikes = (revocation: Op, op: Op) => target(revocation) === op.author && concurrent(revocation, op) && target(op) !== revocation.author
  const target = (op: Op) => op.says.kind === "member.revoked" ? op.says.device : ""

  const unknownToOthers = (list: ReadonlyArray<Op>) => list.filter((op) => !list.some((other) => knows(other, op)))
  const lastGrants = (ops: ReadonlyArray<Op>, device: string) => unknownToOthers(ops.filter((op) => isGrant(op, device)))
  const lowest = (grants: ReadonlyArray<Op>): Role | undefined => grants.map(given).sort((a, b) => rankOf(a) - rankOf(b))[0]
  const notOutlived = (ops: ReadonlyArray<Op>, device: string, list: ReadonlyArray<Op>) =>
    list.filter((op) => !ops.some((entry) => isEntry(entry, device) && knows(entry, op)))
  const outstanding = (ops: ReadonlyArray<Op>, device: string) => notOutlived(ops, device, ops.filter((op) => target(op) === device))

  /** Owners that must agree, as the author of this revocation knew. */
  const need = (revocation: Op): number => {
    const kept = needs.get(revocation.hash)
    if (kept !== undefined) return kept
    const ops = countedPast(revocation)
    const device = target(revocation)
    const number = roleIn(ops, device) !== "owner" ? 1 : Math.max(1, Math.min(said(ops), owners(ops).filter((owner) => owner !== device).length))
    needs.set(revocation.hash, number)
    return number
  }
  const agreed = (revocations: ReadonlyArray<Op>): boolean =>
    revocations.some((last) => new Set(revocations.filter((op) => before(op, last) <= 0).map((op) => op.author)).size >= need(last))

  /** Is there a re-admission between the two: after the one, and known to the other? */
  const parted = (ops: ReadonlyArray<Op>, a: Op, b: Op): boolean =>
    ops.some((entry) => isEntry(entry, target(a)) && ((knows(entry, a) && knows(b, entry)) || (knows(entry, b) && knows(a, entry))))
  /** Of these revocations of one device those about which so many owners agree as must. */
  const holding = (ops: ReadonlyArray<Op>, revocations: ReadonlyArray<Op>) =>
    revocations.filter((one) => agreed(revocations.filter((other) => !parted(ops, one, other))))

  const roleIn = (ops: ReadonlyArray<Op>, device: string) => lowest(lastGrants(ops, device))
  const standingIn = (ops: ReadonlyArray<Op>, device: string): "none" | "member" | "left" | "revoked" => {
    if (roleIn(ops, device) === undefined) return "none"
    if (holdingIn(ops, device).some((op) => outstanding(ops, device).includes(op))) return "revoked"
    return notOutlived(ops, device, ops.filter((op) => op.says.kind === "member.left" && op.author === device)).length > 0 ? "left" : "member"
  }
  const holdingIn = (ops: ReadonlyArray<Op>, device: string) => holding(ops, ops.filter((op) => target(op) === device))
  const devicesIn = (ops: ReadonlyArray<Op>) => [...new Set(ops.flatMap((op) =>
    op.says.kind === "member.admitted" || op.says.kind === "role.set" ? [op.says.device] : op.says.kind === "mesh.created" || op.says.kind === "recovery.used" ? [op.author] : []))]
  const owners = (ops: ReadonlyArray<Op>) => devicesIn(ops).filter((device) => roleIn(ops, device) === "owner" && standingIn(ops, device) === "member")

  const said = (ops: ReadonlyArray<Op>): number => {
    let now = 1
    let votes: Array<readonly [string, number]> = []
    for (const op of ops) {
      if (op.says.kind !== "owners.threshold") continue
      const wish = op.says.threshold
      if (wish < now) {
        votes = [...votes.filter(([who]) => who !== op.author), [op.author, wish]]
        const others = owners(countedPast(op)).filter((owner) => owner !== op.author).length
        if (votes.filter(([, number]) => number === wish).length < Math.max(1, Math.min(now, others))) continue
      }
      now = wish
      votes = []
    }
    return now
  }

  const claimant = (op: Op, log: string): string | undefined => {
    const { says } = op
    if ((says.kind === "log.attached" || says.kind === "recovery.used") && says.log === log) return op.author
    if (says.kind === "log.succeeded" && says.successor === log) return op.author
    return says.kind === "member.admitted" && says.log === log ? says.device : undefined
  }
  const claimIn = (ops: ReadonlyArray<Op>, log: string) => {
    const claims = ops.filter((op) => claimant(op, log) !== undefined)
    return claims.find((op) => op.holds) ?? claims[0]
  }
  const holderIn = (ops: ReadonlyArray<Op>, log: string) => {
    const claim = claimIn(ops, log)
    return claim === undefined ? undefined : claimant(claim, log)
  }
  const closings = (ops: ReadonlyArray<Op>, log: string, device: string) =>
    ops.flatMap((op) => op.says.kind === "log.succeeded" && op.says.log === log && op.author === device ? [op.says] : []).sort((a, b) => a.length - b.length)
  const issueIn = (ops: ReadonlyArray<Op>, invite: string) =>
    ops.find((op) => op.says.kind === "invite.issued" && op.says.invite === invite)
  const admitted = (ops: ReadonlyArray<Op>, invite: string) =>
    [...new Set(ops.flatMap((op) => op.says.kind === "member.admitted" && op.says.invite === invite ? [op.says.device] : []))]
  const recoveryIn = (ops: ReadonlyArray<Op>) => ops.findLast((op) => op.says.kind === "recovery.set")

  // ---- rule 1: had the author the right, in its own past? ------------------------------------------------------------------------
  const hasRight = (op: Op): boolean => {
    const { says, author } = op
    const ops = countedPast(op)
    const freeFor = (log: string, device: string) => {
      const claim = claimIn(ops, log)
      return claim === undefined || (claimant(claim, log) !== device && op.holds && !claim.holds)
    }
    const mine = (log: string) => holderIn(ops, log) === author || freeFor(log, author)
    if (says.kind === "mesh.created") return true
    if (says.kind === "recovery.used") {
      const set = recoveryIn(ops)?.says
      return set?.kind === "recovery.set" && set.recovery === says.recovery && op.proven &&
        ((standingIn(ops, author) === "member" && holderIn(ops, says.log) === author) || freeFor(says.log, author))
    }
    const role = roleIn(ops, author)
    if (role === undefined || standingIn(ops, author) !== "member") return false
    const manages = role === "owner" || role === "admin"
    const acts = (other: Role | undefined) => other !== undefined && (role === "owner" || rankOf(other) < rankOf(role))
    const lastOwner = role === "owner" && owners(ops).every((owner) => owner === author)
    switch (says.kind) {
      case "kept": return false
      case "mesh.named": case "owners.threshold": case "recovery.set": return role === "owner"
      case "epoch.rotated": case "epoch.shared": return manages
      case "invite.issued": return manages && acts(says.role) && issueIn(ops, says.invite) === undefined
      case "invite.withdrawn": {
        const issue = issueIn(ops, says.invite)
        return manages && issue?.says.kind === "invite.issued" && (issue.author === author || acts(issue.says.role))
      }
      case "member.admitted": {
        const issue = issueIn(ops, says.invite)?.says
        const known = admitted(ops, says.invite)
        return manages && issue?.kind === "invite.issued" && op.proven && acts(says.role) && rankOf(says.role) <= rankOf(issue.role) &&
          !ops.some((other) => other.says.kind === "invite.withdrawn" && other.says.invite === says.invite) &&
          standingIn(ops, says.device) !== "member" && (known.includes(says.device) || known.length < issue.uses) && freeFor(says.log, says.device)
      }
      case "member.named": return standingIn(ops, says.device) === "member" && (says.device === author || (manages && acts(roleIn(ops, says.device))))
      case "role.set": {
        if (!manages || standingIn(ops, says.device) !== "member" || !acts(says.role)) return false
        if (says.device === author) return says.role === "owner" || !lastOwner
        return roleIn(ops, says.device) !== "owner" && acts(roleIn(ops, says.device))
      }
      case "log.attached": return mine(says.log)
      case "log.succeeded": return holderIn(ops, says.log) === author && closings(ops, says.log, author).length === 0 && mine(says.successor) &&
        closings(ops, says.successor, author).length === 0
      case "member.left": return !lastOwner
      case "member.revoked": return manages && says.device !== author && !["none", "revoked"].includes(standingIn(ops, says.device)) && acts(roleIn(ops, says.device))
    }
  }

  // ---- a pass, with all three rules ----------------------------------------------------------------------------------------------
  const surplus = (op: Op): boolean => {
    const { says } = op
    if (says.kind !== "member.admitted") return false
    const issue = issueIn(countedPast(op), says.invite)?.says
    const earlier = admitted(all.filter((other) => counted.has(other.hash)), says.invite)
    return !earlier.includes(says.device) && issue?.kind === "invite.issued" && earlier.length >= issue.uses
  }
  const runWith = (accepted: ReadonlySet<Op>, held: ReadonlySet<Op>, blocked: ReadonlyArray<Op>) => {
    counted = new Set()
    needs = new Map()
    for (const op of all) {
      const removed = [...held].some((revocation) => strikes(revocation, op))
      if (accepted.has(op) || (!removed && !blocked.includes(op) && hasRight(op) && !surplus(op))) counted.add(op.hash)
    }
  }
  const againstRecovery = (use: Op) => all.filter((set) => use.says.kind === "recovery.used" && set.says.kind === "recovery.set" &&
    set.says.recovery !== use.says.recovery && concurrent(set, use))
  const pass = (accepted: ReadonlySet<Op>, held: ReadonlySet<Op>) => {
    const contested = all.filter((op) => againstRecovery(op).length > 0)
    runWith(accepted, held, contested)
    const blocked = contested.filter((use) => againstRecovery(use).some((set) => counted.has(set.hash)))
    runWith(accepted, held, blocked)
  }

  // ---- which revocations are accepted ---------------------------------------------------------------------------------------------
  const bases = (op: Op): ReadonlyArray<Op> => {
    const ops = countedPast(op)
    const { says } = op
    const out = says.kind === "recovery.used" ? [recoveryIn(ops)] : [...lastGrants(ops, op.author), ...ops.filter((entry) => isEntry(entry, op.author))]
    return [...out, says.kind === "member.admitted" ? issueIn(ops, says.invite) : undefined].filter((basis) => basis !== undefined)
  }
  const authority = (op: Op): ReadonlySet<Op> => {
    const out = new Set<Op>()
    const follow = (from: Op): void => bases(from).forEach((basis) => {
      if (out.has(basis)) return
      out.add(basis)
      follow(basis)
    })
    follow(op)
    return out
  }
  const threatened = (revocation: Op, candidates: ReadonlyArray<Op>) => {
    const chain = authority(revocation)
    return candidates.some((other) => other !== revocation && [revocation, ...chain].some((basis) => strikes(other, basis)))
  }
  const seniority = (a: Op, b: Op): number => {
    const rank = (op: Op) => rankOf(roleIn(countedPast(op), op.author) ?? "seeder")
    const first = (op: Op) => countedPast(op).find((entry) => isEntry(entry, op.author)) ?? op
    return rank(b) - rank(a) || before(first(a), first(b)) || before(a, b)
  }

  const accepted = new Set<Op>()
  const held = new Set<Op>()
  for (let changed = true; changed;) {
    pass(accepted, held)
    const candidates = all.filter((op) => target(op) !== "" && counted.has(op.hash) && !accepted.has(op))
    const free = candidates.filter((op) => !threatened(op, candidates))
    const chosen = free.length > 0 ? free : [...candidates].sort(seniority).slice(0, 1)
    for (const op of chosen) accepted.add(op)
    const size = held.size
    const now = all.filter((op) => counted.has(op.hash))
    for (const op of accepted) if (holding(now, [...accepted].filter((other) => target(other) === target(op)).sort(before)).includes(op)) held.add(op)
    changed = candidates.length > 0 || held.size > size
  }

  // ---- the state ------------------------------------------------------------------------------------------------------------------
  const now = all.filter((op) => counted.has(op.hash))
  const cut = (log: string, device: string, claim: Op, revocations: ReadonlyArray<Op>, ops: ReadonlyArray<Op>): number => Math.min(
    closings(ops, log, device)[0]?.length ?? Infinity,
    ...revocations.filter((op) => target(op) === device && !knows(claim, op)).map((op) => listed(op, log) ?? 0)
  )
  const writes = (role: Role | undefined) => role !== undefined && rankOf(role) >= rankOf("member")
  /** How far the device wrote documents in this log while it might, as of these operations. */
  const written = (log: string, device: string, claim: Op, ops: ReadonlyArray<Op>): number => Math.min(Infinity, ...lastGrants(ops, device).filter((grant) => !writes(given(grant))).map((grant) => {
    const then = countedPast(grant)
    if (grant.says.kind === "role.set") {
      const here = listed(grant, log)
      return writes(roleIn(then, device)) ? here ?? 0 : Math.min(here ?? Infinity, written(log, device, claim, then))
    }
    return knows(grant, claim) && cut(log, device, claim, holdingIn(then, device), then) < Infinity ? written(log, device, claim, then) : 0
  }))
  const members = Object.fromEntries(devicesIn(now).filter((device) => standingIn(now, device) !== "none").sort().map((device) => {
    const role = roleIn(now, device)
    const standing = standingIn(now, device)
    const logs = [...new Set(now.flatMap((op) => ["log", "successor"].flatMap((name) => name in op.says ? [String(Object(op.says)[name])] : [])))]
      .filter((log) => holderIn(now, log) === device).sort().map((log) => {
        const claim = claimIn(now, log)
        if (claim === undefined) throw new Error("no claim")
        const cutAt = cut(log, device, claim, [...held], now)
        const docsTo = writes(role) ? Infinity : Math.min(cutAt, written(log, device, claim, now))
        return { log, closedAt: closings(now, log, device)[0]?.length, cutAt: finite(cutAt), docsTo: finite(docsTo) }
      })
    return [device, {
      role, standing, logs, since: now.findLast((op) => isEntry(op, device))?.hash,
      granted: [...lastGrants(now, device)].find((grant) => given(grant) === role)?.hash,
      revoked: standing === "revoked" ? holdingIn(now, device).find((op) => outstanding(now, device).includes(op))?.hash : undefined,
      accused: standing === "revoked" ? [] : [...new Set(outstanding(now, device).map((op) => op.author))].sort()
    }]
  }))
  const invites = Object.fromEntries([...new Set(now.flatMap((op) => op.says.kind === "invite.issued" ? [op.says.invite] : []))].sort().map((invite) => {
    const says = issueIn(now, invite)?.says
    return [invite, {
      role: says?.kind === "invite.issued" ? says.role : "", admitted: admitted(now, invite),
      withdrawn: now.some((op) => op.says.kind === "invite.withdrawn" && op.says.invite === invite)
    }]
  }))
  const recovery = recoveryIn(now)?.says
  const naming = now.findLast((op) => op.says.kind === "mesh.created" || op.says.kind === "mesh.named")?.says
  return {
    void: all.filter((op) => !counted.has(op.hash)).map((op) => op.hash), members, invites,
    epochs: all.flatMap((op) => op.says.kind === "epoch.rotated" ? [`${op.hash} ${counted.has(op.hash)}`] : []),
    threshold: Math.max(1, Math.min(said(now), owners(now).length - 1)), said: said(now),
    recovery: recovery?.kind === "recovery.set" ? recovery.recovery : "",
    name: naming !== undefined && "name" in naming ? naming.name : ""
  }
}

const listed = (op: Op, log: string): number | undefined => {
  const cutoffs = op.says.kind === "member.revoked" || op.says.kind === "role.set" ? op.says.cutoffs ?? [] : []
  return cutoffs.filter((cutoff) => cutoff.log === log).map(({ length }) => length).sort((a, b) => a - b)[0]
}

const finite = (length: number): number | undefined => length === Infinity ? undefined : length

/** Those with all their ancestors, by depth and hash, each with its whole past. */
const canonical = (operations: Iterable<Operation>): ReadonlyArray<Op> => {
  const given = new Map([...operations].map((operation) => [operation.hash, operation]))
  const made = new Map<string, Op>()
  for (let size = -1; size !== made.size;) {
    size = made.size
    for (const { hash, author, says, proven, holds, ms, parents } of given.values()) {
      const known = parents.map((parent) => made.get(parent)).filter((parent) => parent !== undefined)
      if (made.has(hash) || known.length < parents.length) continue
      const past = new Set(known.flatMap((parent) => [parent.hash, ...parent.past]))
      made.set(hash, { hash, author, says, proven, holds, ms, past, depth: Math.max(-1, ...known.map((parent) => parent.depth)) + 1 })
    }
  }
  return [...made.values()].sort((a, b) => a.depth - b.depth || (a.hash < b.hash ? -1 : 1))
}
