import t from "tap"
import { type Invite, inviteKey, proveInvite } from "../src/codec/invite.ts"
import type { Unsigned } from "../src/codec/operation.ts"
import {
  decideAttachLog, decideCreateMesh, decideIssueInvite, decideLeave, decideNameMesh, decideNameNode, decideRedeem, decideSetRole, decideSucceedLog,
  decideWithdrawInvite, type Decision
} from "../src/commands/decide-membership.ts"
import { foldMembership } from "../src/projections/membership.ts"
import { deviceOf, key, must, mustFail, signed } from "./membership-world.ts"

const hour = 3_600_000

/** A mesh that really signs: ann is owner; `act` signs what a decider gave, offers it and requires that it counts. */
const world = () => {
  const { mesh, operations } = must(decideCreateMesh(
    { name: "hill", nodeName: "alpha", log: key("ann-log"), nonce: new Uint8Array(32), newKey: new Uint8Array(32).fill(7) }, { device: deviceOf("ann"), ms: 1_000 }
  ))
  const fold = foldMembership(mesh)
  const take = (drafts: ReadonlyArray<Unsigned>, name: string) => {
    for (const operation of signed(drafts, name)) {
      fold.offer(operation)
      const why = fold.whyVoid(operation.hash)
      if (why !== undefined) throw new Error(`a decided operation is void: ${why}`)
    }
    return drafts.length
  }
  take(operations, "ann")
  const as = (name: string, ms = 2_000) => ({ membership: fold.view(), device: deviceOf(name), ms })
  const act = <E>(name: string, decision: Decision<E>) => take(must(decision), name)
  const invite = (seed: number, role: Invite["role"] = "member"): Invite => ({
    mesh, meshName: "hill", seed: new Uint8Array(32).fill(seed), issuer: deviceOf("ann"), role, expiresMs: 2_000 + hour, bootstrap: [], lan: []
  })
  const ask = (i: Invite, name: string, log = `${name}-log`) => ({
    invite: inviteKey(i), log: key(log), name, proof: proveInvite(i, deviceOf(name), key(log))
  })
  return { mesh, fold, as, act, invite, ask, view: fold.view }
}

t.test("a new mesh has its creator as owner, named, with its log", async (t) => {
  const w = world()
  t.match(w.view(), { id: w.mesh, name: "hill", operations: 4, void: [] })
  t.match(w.view().members.get(deviceOf("ann")), { name: "alpha", role: "owner", standing: "member", since: w.mesh, logs: [{ log: key("ann-log") }] })
  const bad = (wish: object) => mustFail(decideCreateMesh({ name: "m", nodeName: "n", log: key("l"), nonce: new Uint8Array(32), newKey: new Uint8Array(32), ...wish }, { device: deviceOf("ann"), ms: 1 }))
  t.match(bad({ name: "" }), { kind: "usage", path: "name" })
  t.match(bad({ nodeName: "a b" }), { kind: "usage", path: "nodeName" })
})

t.test("an owner names the mesh; the name that it has changes nothing; a member may not", async (t) => {
  const w = world()
  t.equal(w.act("ann", decideNameMesh(w.as("ann"), { name: "hill" })), 0)
  t.equal(w.act("ann", decideNameMesh(w.as("ann"), { name: "The Hill" })), 1)
  t.equal(w.view().name, "The Hill")
  t.equal(w.act("ann", decideNameMesh(w.as("ann"), { name: "The Hill" })), 0)
  t.match(mustFail(decideNameMesh(w.as("ann"), { name: "two\nlines" })), { kind: "usage", path: "name" })
  const i = w.invite(1)
  w.act("ann", decideIssueInvite(w.as("ann"), { invite: i, uses: 1 }))
  w.act("ann", decideRedeem(w.as("ann"), w.ask(i, "ben"), deviceOf("ben")))
  t.match(mustFail(decideNameMesh(w.as("ben"), { name: "Ben's" })), { kind: "denied", detail: /only an owner may name the mesh/ })
  t.match(mustFail(decideNameMesh(w.as("eve"), { name: "Eve's" })), { kind: "denied" })
})

t.test("an invite lets one in, once; asking again after a lost answer is harmless", async (t) => {
  const w = world()
  const i = w.invite(1)
  w.act("ann", decideIssueInvite(w.as("ann"), { invite: i, uses: 1 }))
  w.act("ann", decideRedeem(w.as("ann"), w.ask(i, "ben"), deviceOf("ben")))
  t.match(w.view().members.get(deviceOf("ben")), { name: "ben", role: "member", by: deviceOf("ann"), logs: [{ log: key("ben-log") }] })
  t.same(must(decideRedeem(w.as("ann"), w.ask(i, "ben"), deviceOf("ben"))), [])
  t.match(mustFail(decideRedeem(w.as("ann"), w.ask(i, "cem"), deviceOf("cem"))), { reason: "used", detail: /for one node and is used up/ })
})

t.test("each way in which an invite fails has its name and sentence", async (t) => {
  const w = world()
  const refuse = (i: Invite, ms = 2_000, device = deviceOf("ben"), name = "ben") => mustFail(decideRedeem(w.as("ann", ms), w.ask(i, name), device))
  t.match(refuse(w.invite(9)), { reason: "unknown" })
  const i = w.invite(1)
  w.act("ann", decideIssueInvite(w.as("ann"), { invite: i, uses: 3 }))
  t.match(refuse(i, 2_000 + hour), { reason: "expired", detail: /has expired/ })
  t.match(refuse(i, 2_000, deviceOf("eve")), { reason: "malformed" }, "a proof for another device")
  t.match(mustFail(decideRedeem(w.as("ann"), w.ask(i, "ben", "ann-log"), deviceOf("ben"))), { reason: "malformed" }, "another's log")
  t.match(mustFail(decideRedeem(w.as("ben"), w.ask(i, "ben"), deviceOf("ben"))), { reason: "unknown" }, "asked of one who is no owner")
  t.match(refuse(i, 2_000, deviceOf("ann"), "ann"), { reason: "used", detail: /already, as alpha/ })
  t.equal(w.act("ann", decideWithdrawInvite(w.as("ann"), { invite: inviteKey(i).slice(0, 8) })), 1)
  t.equal(w.act("ann", decideWithdrawInvite(w.as("ann"), { invite: inviteKey(i) })), 0)
  t.match(refuse(i), { reason: "withdrawn" })
  t.match(mustFail(decideWithdrawInvite(w.as("ann"), { invite: "00000000" })), { kind: "not-found" })
  t.match(mustFail(decideIssueInvite(w.as("ann"), { invite: w.invite(2), uses: 0 })), { kind: "usage", path: "uses" })
  t.match(mustFail(decideIssueInvite(w.as("ann", 2_000 + hour), { invite: w.invite(2), uses: 1 })), { kind: "usage", path: "expires" })
})

t.test("members name themselves, attach and succeed logs and leave; what they may not is denied", async (t) => {
  const w = world()
  const i = w.invite(1)
  w.act("ann", decideIssueInvite(w.as("ann"), { invite: i, uses: 3 }))
  for (const name of ["ben", "cem"]) w.act("ann", decideRedeem(w.as("ann"), w.ask(i, name), deviceOf(name)))
  w.act("ben", decideNameNode(w.as("ben"), { node: "ben", name: "attic" }))
  w.act("ann", decideNameNode(w.as("ann"), { node: deviceOf("cem").slice(0, 8), name: "cabin" }))
  t.equal(w.view().members.get(deviceOf("cem"))?.name, "cabin")
  t.match(mustFail(decideNameNode(w.as("ben"), { node: "cabin", name: "x" })), { kind: "denied" })
  t.match(mustFail(decideNameNode(w.as("ben"), { node: "attic", name: "Cabin" })), { kind: "conflict" })
  t.match(mustFail(decideNameNode(w.as("ben"), { node: "nobody", name: "x" })), { kind: "not-found" })
  t.equal(w.act("ben", decideAttachLog(w.as("ben"), { log: key("ben-2") })), 1)
  t.equal(w.act("ben", decideAttachLog(w.as("ben"), { log: key("ben-2") })), 0)
  t.match(mustFail(decideAttachLog(w.as("ben"), { log: key("cem-log") })), { kind: "conflict" })
  const succeed = { log: key("ben-log"), length: 5, treeHash: key("t"), successor: key("ben-3") }
  t.equal(w.act("ben", decideSucceedLog(w.as("ben"), succeed)), 1)
  t.equal(w.act("ben", decideSucceedLog(w.as("ben"), succeed)), 0)
  t.match(mustFail(decideSucceedLog(w.as("ben"), { ...succeed, successor: key("ben-4") })), { kind: "conflict" })
  t.match(mustFail(decideIssueInvite(w.as("ben"), { invite: w.invite(3), uses: 1 })), { kind: "denied", detail: /is member of hill/ })
  t.match(mustFail(decideLeave(w.as("ann"))), { kind: "denied" })
  w.act("ann", decideSetRole(w.as("ann"), { node: "attic", role: "owner", lengthOf: () => 9 }))
  w.act("ann", decideLeave(w.as("ann")))
  t.match(mustFail(decideAttachLog(w.as("ann"), { log: key("x") })), { kind: "denied", detail: /has left hill/ })
  t.match(mustFail(decideAttachLog(w.as("eve"), { log: key("x") })), { kind: "denied", detail: /no member/ })
  t.match(mustFail(decideLeave(world().as("ann"))), { kind: "denied", detail: /whole mesh/ })
})
