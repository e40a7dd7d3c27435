/** Random graphs of membership operations with hostile moves, and what is compared of their resolution. Seeded. */
import { draftOperation, type Operation, rankOf, type Role, roles, type Statement } from "../src/codec/operation.ts"
import { type Membership, resolveMembership } from "../src/projections/membership.ts"
import { chance, key, unsignedOperation } from "./membership-world.ts"
import type { Summary } from "./resolver-model.ts"

export interface RandomGraph {
  readonly mesh: string
  /** Parents before children. */
  readonly operations: ReadonlyArray<Operation>
}

const names = ["a", "b", "c", "d", "e", "f", "g"]
const devices = names.map(key)
const invites = ["i1", "i2", "i3", "i4"].map(key)
const logs = [...names.map((name) => `${name}-log`), "l1", "l2", "l3", "l4"].map(key)
const papers = ["paper-1", "paper-2"].map(key)

/**
 * A founder lets others in, then all act: some on what they know, some with parents of long ago, some on what they have no right to. The
 * moves are chosen with an eye on who is what by then, so that more than half of them count.
 */
export const randomGraph = (seed: number): RandomGraph => {
  const { below, pick, next, shuffle } = chance(seed)
  const first = unsignedOperation(draftOperation({
    mesh: "", author: devices[0] ?? "", parents: [], ms: seed, says: { kind: "mesh.created", name: "m", nonce: new Uint8Array(32) }
  }))
  const operations: Array<Operation> = [first]
  const lastOf = new Map<string, string>([[first.author, first.hash]])
  let view: Membership = resolveMembership(first.hash, operations)
  const say = (author: string, says: Statement, parents: Iterable<string>, proven = true, holds = false): string => {
    const operation = unsignedOperation(draftOperation({
      mesh: first.hash, author, parents: [...new Set(parents)].sort().slice(0, 16), ms: below(1_000), says
    }), proven, holds)
    if (operations.some(({ hash }) => hash === operation.hash)) return operation.hash
    operations.push(operation)
    lastOf.set(author, operation.hash)
    return operation.hash
  }
  const heads = (): ReadonlyArray<string> => {
    const named = new Set(operations.flatMap(({ parents }) => parents))
    return operations.filter(({ hash }) => !named.has(hash)).map(({ hash }) => hash)
  }
  const admit = (author: string, device: string, as: Role, invite: string, log: string, parents: Iterable<string>, proven = true, holds = false) =>
    say(author, { kind: "member.admitted", device, log, name: pick(names), role: as, invite, proof: new Uint8Array(64) }, parents, proven, holds)

  // The founding: several are in, some by each other, some concurrently.
  const owner = first.author
  let base = [first.hash]
  for (const invite of invites) base = [say(owner, { kind: "invite.issued", invite, role: pick(["owner", "owner", "admin", "member"]), expiresMs: 5, uses: 1 + below(4) }, base)]
  for (const device of devices.slice(1, 3 + below(4))) {
    const by = next() < 0.6 ? owner : pick(devices)
    const as = pick(["owner", "owner", "admin", "member", "reader"] as const)
    const hash = admit(by, device, as, pick(invites), logs[devices.indexOf(device)] ?? "", next() < 0.7 ? heads() : base)
    if (next() < 0.5) base = [hash]
  }
  if (next() < 0.3) say(owner, { kind: "owners.threshold", threshold: 2 + below(2) }, heads())
  if (next() < 0.4) say(owner, { kind: "recovery.set", recovery: pick(papers) }, heads())

  const cutoffs = () => shuffle(logs).slice(0, below(4)).map((log) => ({ log, length: below(30) }))
  const statement = (author: string, dice: number): Statement => {
    const others = devices.filter((device) => device !== author || next() < 0.05)
    const present = others.filter((device) => view.members.get(device)?.standing === "member")
    const admits = dice >= 40 && dice < 56
    const absent = others.filter((device) => !present.includes(device))
    const device = next() < 0.85 && (admits ? absent : present).length > 0 ? pick(admits ? absent : present) : pick(others)
    const log = next() < 0.7 ? view.members.get(author)?.logs[0]?.log ?? logs[0] ?? "" : pick(logs)
    const open = [...view.invites.values()].filter((record) => !record.withdrawn && record.used < record.uses + 1)
    const invite = next() < 0.8 && open.length > 0 ? pick(open).invite : pick(invites)
    const cap = view.invites.get(invite)?.role ?? "member"
    const free = logs.filter((one) => !view.devices.has(one))
    return dice < 24 ? { kind: "member.revoked", device, cutoffs: cutoffs(), ...(next() < 0.3 ? { reason: "stolen" } : {}) }
      : dice < 40 ? { kind: "role.set", device: next() < 0.12 ? author : device, role: pick(roles), ...(next() < 0.5 ? { cutoffs: cutoffs() } : {}) }
      : dice < 56 ? { kind: "member.admitted", device, log: next() < 0.8 && free.length > 0 ? pick(free) : pick(logs), name: pick(names), role: next() < 0.8 ? pick(roles.filter((one) => rankOf(one) <= rankOf(cap))) : pick(roles), invite, proof: new Uint8Array(64) }
      : dice < 62 ? { kind: "invite.issued", invite: next() < 0.5 ? invite : key(`i-${below(9)}`), role: pick(roles), expiresMs: 5, uses: 1 + below(3) }
      : dice < 64 ? { kind: "invite.withdrawn", invite }
      : dice < 67 ? { kind: "member.named", device: next() < 0.6 ? author : device, name: pick(names) }
      : dice < 72 ? { kind: "log.attached", log: pick(logs) }
      : dice < 77 ? { kind: "log.succeeded", log, length: below(40), treeHash: key("t"), successor: pick(logs.filter((other) => other !== log)) }
      : dice < 82 ? { kind: "member.left" }
      : dice < 87 ? { kind: "owners.threshold", threshold: 1 + below(3) }
      : dice < 91 ? { kind: "recovery.set", recovery: pick(papers) }
      : dice < 95 ? { kind: "recovery.used", log: next() < 0.7 && free.length > 0 ? pick(free) : pick(logs), name: pick(names), recovery: next() < 0.7 ? view.recovery ?? pick(papers) : pick(papers), proof: new Uint8Array(64) }
      : dice < 97 ? { kind: "epoch.rotated", epoch: 1 + below(4), commit: key("commit"), sealed: [] }
      : dice < 98 ? { kind: "epoch.shared", epoch: 1 + below(4), commit: key("commit"), sealed: [] }
      : dice < 99 ? { kind: "mesh.named", name: pick(names) }
      : { kind: "kept", name: "moon.phased", body: {} }
  }

  // The rest: each acts on all it could know, on some of it, or as if it knew of long ago only.
  const size = operations.length + 4 + below(24)
  const wild = next() < 0.5 ? 0.05 : 0.3
  const tight = next() < 0.4
  while (operations.length < size) {
    if (operations.length % 3 === 0) view = resolveMembership(first.hash, operations)
    const here = [...view.members.values()].filter((member) => member.standing === "member")
    const strong = here.filter((member) => rankOf(member.role) >= rankOf("admin"))
    const crowd = next() < 0.75 ? strong : here
    const author = next() < 0.9 && crowd.length > 0 ? pick(crowd).device : pick(devices)
    const recent = operations.slice(-6)
    const own = lastOf.get(author)
    const parents = next() < wild ? [pick(operations).hash]
      : tight && next() < 0.6 ? [...heads()]
      : [...(own === undefined ? [] : [own]), ...Array.from({ length: 1 + below(2) }, () => pick(recent).hash)]
    const says = statement(author, below(100))
    say(author, says, parents, next() < 0.95, next() < 0.3)
    if (next() < 0.04) circle(say, admit, { pick, below }, heads())
    if (next() < 0.02) twice(say, admit, { pick, below }, heads())
    if (next() < 0.015) agree(say, admit, { pick, below }, heads())
    if (next() < 0.02) race(say, admit, { pick, below }, heads())
    if (next() < 0.01) mutual(say, admit, { pick, below }, heads())
  }
  if (next() < 0.08) {
    view = resolveMembership(first.hash, operations)
    const owners = [...view.members.values()].filter((member) => member.standing === "member" && member.role === "owner").map((member) => member.device)
    if (owners.length > 0) paper(say, { pick, below }, owners, heads())
  }
  return { mesh: first.hash, operations }
}

type Say = (author: string, says: Statement, parents: Iterable<string>) => string
type Admit = (author: string, device: string, as: Role, invite: string, log: string, parents: Iterable<string>) => string
interface Chance {
  readonly pick: <A>(list: ReadonlyArray<A>) => A
  readonly below: (count: number) => number
}

/**
 * Three owners each let one in (or one by another), and those three revoke in a circle who let the next one in: every ground is taken
 * away by another. Some of the three step down at the same time, so that admins may revoke them.
 */
const circle = (say: Say, admit: Admit, { pick, below }: Chance, base: ReadonlyArray<string>): void => {
  const number = below(1_000)
  const [founder = ""] = devices
  const invite = key(`round-${number}`)
  let top = say(founder, { kind: "invite.issued", invite, role: "owner", expiresMs: 5, uses: 12 }, base)
  const three = [0, 1, 2].map((i) => key(`chief-${number}-${i}`))
  for (const chief of three) top = admit(founder, chief, "owner", invite, key(`${chief}-log`), [top])
  const down = three.map((chief) => below(2) === 0 ? top : say(chief, { kind: "role.set", device: chief, role: "member" }, [top]))
  const lastOnes = three.map((chief) => {
    let by = chief
    let hash = top
    for (let depth = below(2); depth >= 0; depth--) {
      const device = key(`${depth}-by-${chief}`)
      hash = admit(by, device, depth > 0 ? "owner" : pick(["owner", "admin"]), invite, key(`${device}-log`), [hash])
      by = device
    }
    return { device: by, hash }
  })
  for (const [i, { device, hash }] of lastOnes.entries()) {
    const more = below(4) === 0 ? lastOnes[(i + 2) % 3]?.hash ?? hash : hash
    say(device, { kind: "member.revoked", device: three[(i + 1) % 3] ?? "", cutoffs: [] }, [hash, more, down[(i + 1) % 3] ?? top])
  }
}

/** The secret on paper is set, and used while another owner sets another one. */
const paper = (say: Say, { pick, below }: Chance, owners: ReadonlyArray<string>, base: ReadonlyArray<string>): void => {
  const [old = "", other = ""] = papers
  const set = say(pick(owners), { kind: "recovery.set", recovery: old }, base)
  const device = key(`finder-${below(1_000)}`)
  const used = say(device, { kind: "recovery.used", log: key(`${device}-log`), name: "paper", recovery: old, proof: new Uint8Array(64) }, [set])
  const changed = say(pick(owners), { kind: "recovery.set", recovery: pick([other, other, old]) }, [set])
  if (below(2) === 0) say(device, { kind: "mesh.named", name: "found" }, [used])
  if (below(4) === 0) say(device, { kind: "member.revoked", device: pick(owners), cutoffs: [] }, [used, pick([used, changed])])
}

/** Two revoke each other, the one on a ground that a third threatens, on a ground that is taken away. */
const mutual = (say: Say, admit: Admit, { below }: Chance, base: ReadonlyArray<string>): void => {
  const number = below(1_000)
  const [founder = ""] = devices
  const invite = key(`round-${number}`)
  const [one = "", two = "", middle = "", giver = "", false_ = ""] = [0, 1, 2, 3, 4].map((i) => key(`peer-${number}-${i}`))
  let top = say(founder, { kind: "invite.issued", invite, role: "owner", expiresMs: 5, uses: 12 }, base)
  for (const peer of [two, middle, giver]) top = admit(founder, peer, "owner", invite, key(`${peer}-log`), [top])
  const first = admit(middle, one, "owner", invite, key(`${one}-log`), [top])
  const last = admit(giver, false_, "owner", invite, key(`${false_}-log`), [top])
  say(false_, { kind: "member.revoked", device: middle, cutoffs: [] }, [last])
  if (below(3) > 0) say(founder, { kind: "member.revoked", device: giver, cutoffs: [] }, [top])
  say(one, { kind: "member.revoked", device: two, cutoffs: [] }, [first])
  say(two, { kind: "member.revoked", device: one, cutoffs: [] }, [first])
}

/** Four owners say how many must agree, some knowing of each other, and one of them is revoked by the others. */
const agree = (say: Say, admit: Admit, { pick, below }: Chance, base: ReadonlyArray<string>): void => {
  const number = below(1_000)
  const [founder = ""] = devices
  const invite = key(`round-${number}`)
  let top = say(founder, { kind: "invite.issued", invite, role: "owner", expiresMs: 5, uses: 12 }, base)
  const chiefs = [0, 1, 2].map((i) => key(`chief-${number}-${i}`))
  for (const chief of chiefs) top = admit(founder, chief, "owner", invite, key(`${chief}-log`), [top])
  const said = [say(founder, { kind: "owners.threshold", threshold: 3 }, [top])]
  for (let i = 0; i < 6; i++) {
    said.push(say(pick(chiefs), { kind: "owners.threshold", threshold: 1 + below(3) }, below(3) === 0 ? [pick(said)] : [said[said.length - 1] ?? top]))
  }
  const [target = "", ...others] = chiefs
  for (const chief of others) {
    if (below(3) === 0) continue
    const first = say(chief, { kind: "member.revoked", device: target, cutoffs: [] }, [pick(said)])
    if (below(2) === 0) say(chief, { kind: "member.revoked", device: target, cutoffs: [], reason: "again" }, [first])
  }
}

/** One invite is redeemed by several in several places at once, for more devices than it was for; one of them knew more than the others. */
const race = (say: Say, admit: Admit, { pick, below }: Chance, base: ReadonlyArray<string>): void => {
  const number = below(1_000)
  const [founder = ""] = devices
  const invite = key(`race-${number}`)
  const top = say(founder, { kind: "invite.issued", invite, role: "admin", expiresMs: 5, uses: 1 + below(2) }, base)
  const later = say(founder, below(3) === 0 ? { kind: "invite.withdrawn", invite } : { kind: "member.named", device: founder, name: "later" }, [top])
  for (let i = 0; i < 3; i++) {
    const device = key(`racer-${number}-${below(4)}`)
    const hash = admit(founder, device, pick(["admin", "member"]), invite, key(`${device}-log`), [pick([top, top, later])])
    if (below(3) === 0) say(device, { kind: "invite.issued", invite: key(`by-${device}`), role: "member", expiresMs: 5, uses: 1 }, [hash])
  }
}

/** An owner that two must revoke is revoked by one, leaves, comes back, and is revoked by another; who knew what of it is left to chance. */
const twice = (say: Say, admit: Admit, { pick, below }: Chance, base: ReadonlyArray<string>): void => {
  const number = below(1_000)
  const [founder = ""] = devices
  const invite = key(`round-${number}`)
  let top = say(founder, { kind: "invite.issued", invite, role: "owner", expiresMs: 5, uses: 12 }, base)
  const [one = "", two = "", three = ""] = [0, 1, 2].map((i) => key(`chief-${number}-${i}`))
  for (const chief of [one, two, three]) top = admit(founder, chief, "owner", invite, key(`${chief}-log`), [top])
  top = say(founder, { kind: "owners.threshold", threshold: 2 }, [top])
  const first = say(one, { kind: "member.revoked", device: three, cutoffs: [] }, [top])
  const left = say(three, { kind: "member.left" }, [pick([top, first, first])])
  const back = admit(pick([founder, two]), three, "owner", invite, key(`${three}-log${below(4) === 0 ? "" : "-2"}`), [left, pick([top, first, first])])
  say(two, { kind: "member.revoked", device: three, cutoffs: [] }, [pick([top, first, left, back])])
  if (below(3) === 0) say(three, { kind: "log.attached", log: key(`${three}-log-3`) }, [back])
}

/** The view in the model's words. */
export const summaryOf = (view: Membership): Summary => {
  const claimVoid = new Set(view.void.filter(({ why }) => why.includes("was attached to another device")).map(({ hash }) => hash))
  return {
    void: view.void.map(({ hash }) => hash).filter((hash) => !claimVoid.has(hash)),
    members: Object.fromEntries([...view.members.values()].map((member) => [member.device, {
      role: member.role, standing: member.standing,
      logs: [...member.logs].sort((a, b) => a.log < b.log ? -1 : 1).map(({ log, closedAt, cutAt, docsTo }) => ({ log, closedAt, cutAt, docsTo })),
      since: member.since, granted: member.granted.hash, revoked: member.revoked?.hash, accused: [...member.accused?.by ?? []]
    }])),
    invites: Object.fromEntries([...view.invites.values()].map(({ invite, role, admitted, withdrawn }) => [invite, { role, admitted, withdrawn }])),
    epochs: view.epochs.map(({ hash, valid }) => `${hash} ${valid}`),
    threshold: view.threshold, said: view.thresholdSaid ?? view.threshold, recovery: view.recovery ?? "", name: view.name
  }
}
