/** Deciders of invites, roles, revocation and thresholds: what they write counts, what would not count they refuse with a sentence. */
import t from "tap"
import { type Invite, inviteKey, inviteSeedBytes, proveInvite } from "../src/codec/invite.ts"
import { epochCommit, proveLogHeld, type Role, type Unsigned } from "../src/codec/operation.ts"
import { openSealed } from "../src/codec/seal.ts"
import { logKeyOf, manifestOf } from "../src/codec/verify/merkle.ts"
import { toHex } from "../src/codec/bytes.ts"
import {
  decideAttachLog, decideCreateMesh, decideIssueInvite, decideLeave, decideNameNode, decideRedeem, decideRevoke, decideSetRole, decideSucceedLog, decideThreshold,
  decideWithdrawInvite, ownersToAgree, type Decision
} from "../src/commands/decide-membership.ts"
import { type KeysToGive } from "../src/commands/decide-invites.ts"
import { foldMembership } from "../src/projections/membership.ts"
import { deviceOf, key, keyPair, must, mustFail, signed } from "./membership-world.ts"

const fresh = (n: number) => new Uint8Array(32).fill(n)

/** A mesh of ann, owner; `act` signs what a decider gave, offers it, and requires that it counts. */
const world = (...who: ReadonlyArray<readonly [string, Role]>) => {
  const { mesh, operations } = must(decideCreateMesh(
    { name: "hill", nodeName: "ann", log: key("ann-log"), nonce: fresh(0), newKey: fresh(1) }, { device: deviceOf("ann"), ms: 1_000 }
  ))
  const fold = foldMembership(mesh)
  const take = (drafts: ReadonlyArray<Unsigned>, name: string) => {
    for (const operation of signed(drafts, name)) {
      fold.offer(operation)
      const why = fold.whyVoid(operation.hash)
      if (why !== undefined) throw new Error(`a decided operation is void: ${why}`)
    }
    return drafts
  }
  take(operations, "ann")
  const as = (name: string, ms = 2_000) => ({ membership: fold.view(), device: deviceOf(name), ms })
  const act = <E>(name: string, decision: Decision<E>) => take(must(decision), name).map(({ says }) => says.kind)
  let invites = 0
  const invite = (issuer: string, role: Role): Invite => ({
    mesh, meshName: "hill", seed: new Uint8Array(inviteSeedBytes).fill(++invites), issuer: deviceOf(issuer), role, expiresMs: 9_000, bootstrap: [], lan: []
  })
  const ask = (i: Invite, name: string, log = key(`${name}-log`)) => ({ invite: inviteKey(i), log, name, proof: proveInvite(i, deviceOf(name), log) })
  const admit = (by: string, name: string, role: Role, given: KeysToGive = {}) => {
    const i = invite(by, role)
    act(by, decideIssueInvite(as(by), { invite: i, uses: 1 }))
    return act(by, decideRedeem(as(by), ask(i, name), deviceOf(name), given))
  }
  for (const [name, role] of who) admit("ann", name, role)
  const member = (name: string) => fold.view().members.get(deviceOf(name))
  return { fold, mesh, as, act, invite, ask, admit, member, view: fold.view }
}
const lengthOf = () => 9

t.test("an invite goes up to what its issuer may grant, and whoever may grant it redeems it", async (t) => {
  const w = world(["adi", "admin"], ["ada", "admin"], ["ben", "member"])
  t.match(mustFail(decideIssueInvite(w.as("adi"), { invite: w.invite("adi", "admin"), uses: 1 })), { kind: "denied", detail: /an admin may not invite a node as admin: only ranks below its own/ })
  t.match(mustFail(decideIssueInvite(w.as("ben"), { invite: w.invite("ben", "reader"), uses: 1 })), { kind: "denied", detail: /only admins and owners may issue invites; this node is member of hill/ })
  const low = w.invite("adi", "member")
  const high = w.invite("ann", "admin")
  w.act("adi", decideIssueInvite(w.as("adi"), { invite: low, uses: 9, certificate: new Uint8Array(64) }))
  w.act("ann", decideIssueInvite(w.as("ann"), { invite: high, uses: 9 }))
  w.act("ada", decideRedeem(w.as("ada"), w.ask(low, "cem"), deviceOf("cem")))
  t.match(w.member("cem"), { role: "member", by: deviceOf("ada") })
  t.match(mustFail(decideRedeem(w.as("ada"), w.ask(high, "dot"), deviceOf("dot"))), { reason: "unknown", detail: /This node is admin of hill and may not admit a node as admin/ })
  t.match(mustFail(decideRedeem(w.as("ben"), w.ask(low, "dot"), deviceOf("dot"))), { reason: "unknown" })
  t.match(mustFail(decideWithdrawInvite(w.as("adi"), { invite: inviteKey(high) })), { kind: "denied", detail: /may not withdraw an invite as admin/ })
  t.match(mustFail(decideWithdrawInvite(w.as("ben"), { invite: inviteKey(low) })), { kind: "denied" })
  w.act("ann", decideRevoke(w.as("ann"), { node: "adi", lengthOf, newKey: fresh(2) }))
  t.match(mustFail(decideRedeem(w.as("ada"), w.ask(low, "dot"), deviceOf("dot"))), { reason: "withdrawn", detail: /made by a node that was revoked/ })
  t.same(w.act("ada", decideWithdrawInvite(w.as("ada"), { invite: inviteKey(low) })), ["invite.withdrawn"])
})

t.test("who comes in is given keys in the same unit; a seeder none; without history a new key is made", async (t) => {
  const w = world()
  const keys = [{ epoch: 2, key: fresh(2) }, { epoch: 1, key: fresh(1) }]
  t.same(w.admit("ann", "ben", "reader", { keys }), ["member.admitted", "epoch.shared", "epoch.shared"])
  const box = w.view().epochs[0]?.sealed.get(deviceOf("ben"))
  t.same(box === undefined ? undefined : openSealed(box, keyPair("ben")), Buffer.from(fresh(1)))
  t.same(w.admit("ann", "sid", "seeder", { keys, newKey: fresh(8) }), ["member.admitted"])
  t.same(w.admit("ann", "cem", "member", { keys: [], newKey: fresh(3) }), ["member.admitted", "epoch.rotated", "epoch.shared"])
  const epoch = w.view().epochs.at(-1)
  t.match(epoch, { epoch: 2, commit: epochCommit(fresh(3)), valid: true })
  t.same([...epoch?.sealed.keys() ?? []].sort(), ["ann", "ben", "cem"].map(deviceOf).sort(), "for all who may read, the seeder not")
})

t.test("a role that takes writing away says where it ended, one that takes reading away rotates, one that gives reading gives keys", async (t) => {
  const w = world(["ben", "member"], ["adi", "admin"], ["oma", "owner"])
  const keys = [{ epoch: 1, key: fresh(1) }]
  const set = (name: string, node: string, role: Role) => decideSetRole(w.as(name), { node, role, lengthOf, newKey: fresh(5), keys })
  t.same(w.act("adi", set("adi", "ben", "reader")), ["role.set"])
  t.match(w.member("ben"), { role: "reader", logs: [{ docsTo: 9 }] })
  t.same(must(set("adi", "ben", "reader")), [])
  t.same(w.act("ann", set("ann", "ben", "seeder")), ["role.set", "epoch.rotated"])
  t.equal(w.view().epochs.at(-1)?.sealed.has(deviceOf("ben")), false)
  t.equal(w.member("ben")?.logs[0]?.docsTo, 9)
  t.same(w.act("ann", set("ann", "ben", "member")), ["role.set", "epoch.shared"])
  t.same(must(decideSetRole(w.as("ann"), { node: "ben", role: "seeder", lengthOf })).length, 1, "without a new key the rotation is left to others")
  t.match(mustFail(set("adi", "ben", "admin")), { kind: "denied", detail: /may not make a node admin/ })
  t.match(mustFail(set("adi", "oma", "member")), { kind: "denied", detail: /owner's role is changed by itself only/ })
  t.match(mustFail(set("ben", "adi", "member")), { kind: "denied", detail: /only admins and owners may set roles/ })
  t.match(mustFail(set("ann", "nobody", "member")), { kind: "not-found" })
  w.admit("ann", "ada", "admin")
  t.match(mustFail(set("adi", "ada", "member")), { kind: "denied", detail: /may not change the role of ada, who is admin/ })
  t.same(w.act("oma", set("oma", "oma", "seeder")), ["epoch.rotated", "role.set"], "who steps down rotates before it loses the right to")
  t.match(mustFail(set("ann", "ann", "member")), { kind: "denied", detail: /the last owner stays/ })
  t.same(w.act("adi", set("adi", "adi", "member")), ["role.set"])
})

t.test("a revocation cuts the logs and rotates in one unit; what would not count is refused", async (t) => {
  const w = world(["adi", "admin"], ["ben", "member"])
  const revoke = (name: string, node: string, reason?: string) => decideRevoke(w.as(name), { node, lengthOf, newKey: fresh(6), ...(reason === undefined ? {} : { reason }) })
  t.match(mustFail(revoke("ann", "ann")), { kind: "denied", hint: "kos leave" })
  t.match(mustFail(revoke("adi", "ann")), { kind: "denied", detail: /an admin may not revoke ann, who is owner/ })
  t.match(mustFail(revoke("ben", "adi")), { kind: "denied", detail: /only admins and owners may revoke/ })
  t.match(mustFail(revoke("ann", "nobody")), { kind: "not-found", hint: "kos node list --all" })
  t.match(mustFail(revoke("ann", "ben", "x".repeat(257))), { kind: "usage", path: "reason" })
  w.act("ben", decideSucceedLog(w.as("ben"), { log: key("ben-log"), length: 4, treeHash: key("t"), successor: key("ben-2") }))
  t.same(w.act("adi", revoke("adi", "ben", "")), ["member.revoked", "epoch.rotated"])
  t.match(w.member("ben"), { standing: "revoked", revoked: { by: deviceOf("adi"), reason: "" }, logs: [{ cutAt: 4 }, { cutAt: 9 }] })
  t.equal(w.view().epochs.at(-1)?.sealed.has(deviceOf("ben")), false)
  t.same(must(revoke("ann", "ben")), [], "once is enough")
  t.match(mustFail(decideAttachLog(w.as("ben"), { log: key("x") })), { kind: "denied", detail: /has been revoked from hill/ })
  w.act("adi", decideLeave(w.as("adi")))
  t.same(w.act("ann", revoke("ann", "adi", "lost")), ["member.revoked", "epoch.rotated"], "one that left, too")
  t.match(w.member("adi"), { standing: "revoked", revoked: { reason: "lost" } })
})

t.test("an owner is revoked by as many owners as must agree; the last one rotates", async (t) => {
  const w = world(["oma", "owner"], ["opa", "owner"], ["eve", "owner"])
  const revoke = (name: string, node = "eve") => decideRevoke(w.as(name), { node, lengthOf, newKey: fresh(6) })
  const agree = (name: string, threshold: number) => decideThreshold(w.as(name), { threshold })
  t.match(mustFail(agree("ann", 4)), { kind: "conflict", detail: /hill has 4 owners; at most 3 can agree/ })
  t.match(mustFail(agree("ann", 0)), { kind: "usage" })
  t.match(mustFail(agree("nobody", 2)), { kind: "denied" })
  t.same(w.act("ann", agree("ann", 3)), ["owners.threshold"])
  t.same(must(agree("ann", 3)), [])
  const eve = w.member("eve")
  t.equal(eve === undefined ? undefined : ownersToAgree(w.view(), eve, deviceOf("ann")), 2)
  t.same(w.act("ann", revoke("ann")), ["member.revoked"])
  t.match(mustFail(revoke("ann")), { kind: "pending", detail: /2 more owners must do the same/ })
  t.same(w.act("oma", revoke("oma")), ["member.revoked"])
  t.match(mustFail(revoke("oma")), { kind: "pending", detail: /one more owner must do the same/ })
  t.equal(w.member("eve")?.standing, "member")
  t.same(w.act("opa", revoke("opa")), ["member.revoked", "epoch.rotated"])
  t.equal(w.member("eve")?.standing, "revoked")
  t.match(w.view(), { threshold: 2, thresholdSaid: 3 })
  t.same(w.act("ann", revoke("ann", "opa")), ["member.revoked"])
  t.same(w.act("ann", agree("ann", 1)), ["owners.threshold"])
  t.match(w.view(), { threshold: 2 })
  t.same(w.act("oma", agree("oma", 1)), ["owners.threshold"])
  t.match(w.view(), { threshold: 1 })
  t.same(w.act("ann", revoke("ann", "opa")), ["member.revoked", "epoch.rotated"], "the number is lower by now: saying it again is enough")
  t.equal(w.member("opa")?.standing, "revoked")
  t.match(mustFail(decideThreshold({ ...w.as("ann"), device: deviceOf("ann") }, { threshold: 2 })), { kind: "conflict", detail: /has 2 owners; at most 1/ })
})

t.test("admins name nodes of lower rank", async (t) => {
  const w = world(["adi", "admin"], ["ada", "admin"], ["ben", "member"])
  t.same(w.act("adi", decideNameNode(w.as("adi"), { node: "ben", name: "attic" })), ["member.named"])
  t.match(mustFail(decideNameNode(w.as("adi"), { node: "ada", name: "x" })), { kind: "denied", detail: /lower rank only; ada is admin/ })
  t.match(mustFail(decideNameNode(w.as("ben"), { node: "ada", name: "x" })), { kind: "denied", detail: /only admins and owners/ })
})

t.test("a claim that proves to hold the log's key is carried and verified, and takes the log from one that does not", async (t) => {
  const w = world(["ben", "member"], ["eve", "member"])
  const logKey = (name: string) => toHex(logKeyOf(manifestOf(keyPair(name).publicKey)))
  const log = logKey("log-1")
  const proof = proveLogHeld(w.mesh, deviceOf("ben"), keyPair("log-1"))
  w.act("eve", decideAttachLog(w.as("eve"), { log }))
  t.match(mustFail(decideAttachLog(w.as("ben"), { log })), { kind: "conflict" })
  t.same(w.act("ben", decideAttachLog(w.as("ben"), { log, ...proof })), ["log.attached"])
  t.equal(w.view().devices.get(log), deviceOf("ben"))
  t.same(must(decideAttachLog(w.as("ben"), { log, ...proof })), [])
  t.match(mustFail(decideAttachLog(w.as("eve"), { log, ...proveLogHeld(w.mesh, deviceOf("eve"), keyPair("log-1")) })), { kind: "conflict" })
  const next = logKey("log-2")
  w.act("eve", decideAttachLog(w.as("eve"), { log: next }))
  t.same(w.act("ben", decideSucceedLog(w.as("ben"), { log, length: 3, treeHash: key("t"), successor: next, ...proveLogHeld(w.mesh, deviceOf("ben"), keyPair("log-2")) })), ["log.succeeded"])
  t.match(w.member("ben")?.logs, [{}, { log, held: true, closedAt: 3 }, { log: next, held: true }])
  const third = logKey("log-3")
  w.act("eve", decideAttachLog(w.as("eve"), { log: third }))
  const i = w.invite("ann", "member")
  w.act("ann", decideIssueInvite(w.as("ann"), { invite: i, uses: 1 }))
  t.match(mustFail(decideRedeem(w.as("ann"), w.ask(i, "cem", third), deviceOf("cem"))), { reason: "malformed" })
  w.act("ann", decideRedeem(w.as("ann"), { ...w.ask(i, "cem", third), ...proveLogHeld(w.mesh, deviceOf("cem"), keyPair("log-3")) }, deviceOf("cem")))
  t.equal(w.view().devices.get(third), deviceOf("cem"))
  // A proof made for another device is no proof.
  const fourth = logKey("log-4")
  const foreign = { log: fourth, ...proveLogHeld(w.mesh, deviceOf("ben"), keyPair("log-4")) }
  w.act("eve", decideAttachLog(w.as("eve"), foreign))
  t.equal(w.member("eve")?.logs.find((entry) => entry.log === fourth)?.held, undefined)
})
