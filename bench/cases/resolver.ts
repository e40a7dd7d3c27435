import { toHex, utf8 } from "../../src/codec/bytes.ts"
import { hashParts } from "../../src/codec/hash.ts"
import { draftOperation, epochCommit, type Operation, type Statement } from "../../src/codec/operation.ts"
import { epochOrder } from "../../src/commands/epoch-order.ts"
import { foldMembership, type Membership } from "../../src/projections/membership.ts"
import type { BenchCase, Side } from "../case.ts"
import { seeded } from "../workload.ts"

const members = (short: boolean) => (short ? 200 : 1_000)
const operations = (short: boolean) => (short ? 2_000 : 10_000)
const owners = 5
/** Heads that operations are written on at the same time. */
const width = 6

const key = (name: string): string => toHex(hashParts("bench", utf8(name)))

/**
 * A mesh as a busy year leaves it: five owners let everybody in and make a few of them admins; then names, roles, further logs, one revocation in a
 * hundred operations with the new key that goes with it; always six strands side by side that meet now and then. Made without
 * signatures: checking those is another matter.
 */
const makeMesh = (short: boolean) => {
  const random = seeded(3)
  const below = (n: number) => Math.floor(random() * n)
  const list: Array<Operation> = []
  let mesh = ""
  const heads: Array<string> = []
  const add = (author: string, says: Statement, strand = below(width)) => {
    const parents = mesh === "" ? [] : [...new Set([heads[strand] ?? mesh, ...(random() < 0.15 ? [heads[below(width)] ?? mesh] : [])])].sort()
    const draft = draftOperation({ mesh, author, parents, ms: list.length, says })
    list.push({ ...draft, bytes: draft.content, proven: true, holds: false })
    if (mesh === "") mesh = draft.hash
    heads[strand] = draft.hash
    return draft.hash
  }
  const nodes = Array.from({ length: members(short) }, (_, i) => key(`device ${i}`))
  const at = (i: number): string => nodes[i] ?? ""
  add(at(0), { kind: "mesh.created", name: "bench", nonce: new Uint8Array(32) }, 0)
  const invites = Array.from({ length: Math.ceil(nodes.length / 100) + 1 }, (_, i) => key(`invite ${i}`))
  const issue = (i: number, role: "owner" | "member") => add(at(0), { kind: "invite.issued", invite: invites[i] ?? "", role, expiresMs: 1e12, uses: 100 }, 0)
  const admit = (i: number, invite: number, role: "owner" | "member", strand: number) => add(at(i < owners ? 0 : i % owners), {
    kind: "member.admitted", device: at(i), log: key(`log ${i}`), name: `node-${i}`, role, invite: invites[invite] ?? "", proof: new Uint8Array(64)
  }, strand)
  issue(0, "owner")
  for (let i = 1; i < owners; i++) admit(i, 0, "owner", 0)
  for (let i = 1; i < invites.length; i++) issue(i, "member")
  heads.fill(heads[0] ?? mesh, 0, width)
  for (let strand = 0; strand < width; strand++) heads[strand] = heads[0] ?? mesh
  for (let i = owners; i < nodes.length; i++) admit(i, 1 + Math.floor(i / 100), "member", below(width))
  // Everybody knows everybody from here on; revocations then take effect on what is written beside them.
  const meeting = draftOperation({ mesh, author: at(0), parents: [...new Set(heads)].sort(), ms: 0, says: { kind: "mesh.named", name: "bench mesh" } })
  list.push({ ...meeting, bytes: meeting.content, proven: true, holds: false })
  for (let strand = 0; strand < width; strand++) heads[strand] = meeting.hash
  let epoch = 0
  while (list.length < operations(short)) {
    const [i, chance] = [owners + below(nodes.length - owners), random()]
    const owner = at(below(owners))
    if (chance < 0.01) {
      const strand = below(width)
      add(owner, { kind: "member.revoked", device: at(i), cutoffs: [{ log: key(`log ${i}`), length: below(1_000) }] }, strand)
      add(owner, { kind: "epoch.rotated", epoch: ++epoch, commit: epochCommit(hashParts("bench", utf8(String(epoch)))), sealed: nodes.slice(0, 96).map((reader) => ({ reader, sealed: new Uint8Array(80) })) }, strand)
    } else if (chance < 0.2) add(owner, { kind: "role.set", device: at(i), role: (["admin", "member", "reader"] as const)[below(3)] ?? "member" })
    else if (chance < 0.5) add(at(i), { kind: "log.attached", log: key(`log ${list.length}`) })
    else add(at(i), { kind: "member.named", device: at(i), name: `name-${list.length}` })
  }
  return { mesh, list, owner: at(0), last: at(nodes.length - 1), lastLog: key(`log ${nodes.length - 1}`), heads: () => [...new Set(heads)].sort() }
}

const resolver: Side = async ({ short, begin }) => {
  const { mesh, list, owner, last, lastLog, heads } = makeMesh(short)
  const fold = foldMembership(mesh)
  const timed = <A>(run: () => A): readonly [A, number] => {
    const from = performance.now()
    const out = run()
    return [out, performance.now() - from]
  }
  const more = (says: Statement): Operation => {
    const draft = draftOperation({ mesh, author: owner, parents: heads(), ms: 1, says })
    return { ...draft, bytes: draft.content, proven: true, holds: false }
  }
  const end = await begin()
  for (const operation of list) fold.offer(operation)
  const view: Membership = fold.view()
  const window = await end()
  const [, one] = timed(() => {
    fold.offer(more({ kind: "member.named", device: owner, name: "later" }))
    return fold.view()
  })
  const [after, revoking] = timed(() => {
    fold.offer(more({ kind: "member.revoked", device: last, cutoffs: [{ log: lastLog, length: 1 }] }))
    return fold.view()
  })
  const [, inForce] = timed(() => epochOrder(after, fold.operations()))
  return {
    ...window, value: window.wallMs,
    detail: {
      members: view.members.size, operations: view.operations, "not counting": view.void.length, "ms for one more": one, "ms for one more revocation": revoking,
      "ms for the epoch in force": inForce
    }
  }
}

export const benchCase: BenchCase = {
  name: "resolver",
  about: "All membership operations of a mesh of 1,000 members and 10,000 operations entered and resolved from nothing; then one operation more, and one revocation more.",
  secondsMax: 120,
  sides: { resolver },
  rows: [
    { title: "membership of 1,000 members and 10,000 operations from nothing", unit: "ms", ours: { side: "resolver" }, target: { kind: "value-max", value: 2_000 } },
    { title: "the same after one operation more", unit: "ms", ours: { side: "resolver", detail: "ms for one more" }, target: { kind: "report" } },
    { title: "the same after one revocation more", unit: "ms", ours: { side: "resolver", detail: "ms for one more revocation" }, target: { kind: "report" } }
  ]
}
