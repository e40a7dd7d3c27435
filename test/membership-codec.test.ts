import { Result } from "effect"
import t from "tap"
import { encodeCbor } from "../src/codec/cbor.ts"
import { fromHex } from "../src/codec/bytes.ts"
import { type Invite, inviteKey, proveInvite } from "../src/codec/invite.ts"
import {
  admissionHash, draftOperation, openOperation, operationBytesMax, operationHash, operationParentsMax, proveLogHeld, recoveryHash, signOperation, type Statement
} from "../src/codec/operation.ts"
import { sign } from "../src/codec/signature.ts"
import { logKey } from "../src/events/hypercore-store.ts"
import { chance, deviceOf, key, keyPair, must, mustFail } from "./membership-world.ts"

const invite: Invite = {
  mesh: key("mesh"), meshName: "Hill & Valley", seed: new Uint8Array(16).fill(7), issuer: deviceOf("ann"), role: "member",
  expiresMs: 1_800_000_000_000, bootstrap: ["dht.hill.example:49737"], lan: ["192.168.7.12:4077"]
}
const proof = proveInvite(invite, deviceOf("ben"), key("log"))

const statements: ReadonlyArray<Statement> = [
  { kind: "mesh.named", name: "Hügel & Tal" },
  { kind: "invite.issued", invite: inviteKey(invite), role: "member", expiresMs: 5, uses: 2 },
  { kind: "invite.withdrawn", invite: inviteKey(invite) },
  { kind: "member.admitted", device: deviceOf("ben"), log: key("log"), name: "Dachgeschoß", role: "member", invite: inviteKey(invite), proof },
  { kind: "member.named", device: deviceOf("ben"), name: "attic" },
  { kind: "role.set", device: deviceOf("ben"), role: "admin" },
  { kind: "log.attached", log: key("log") },
  { kind: "log.succeeded", log: key("log"), length: 9, treeHash: key("t"), successor: key("next") },
  { kind: "member.left" },
  { kind: "member.revoked", device: deviceOf("ben"), cutoffs: [{ log: key("log"), length: 3 }] },
  { kind: "member.revoked", device: deviceOf("ben"), cutoffs: [], reason: "stolen" },
  { kind: "role.set", device: deviceOf("ben"), role: "reader", cutoffs: [{ log: key("log"), length: 0 }] },
  { kind: "epoch.rotated", epoch: 3, commit: key("c"), sealed: [{ reader: deviceOf("ben"), sealed: new Uint8Array(80).fill(2) }] },
  { kind: "epoch.shared", epoch: 3, commit: key("c"), sealed: [] },
  { kind: "owners.threshold", threshold: 2 },
  { kind: "recovery.set", recovery: deviceOf("paper") },
  { kind: "log.attached", log: key("log"), signer: new Uint8Array(32).fill(1), held: new Uint8Array(64).fill(2) },
  { kind: "log.succeeded", log: key("log"), length: 9, treeHash: key("t"), successor: key("next"), signer: new Uint8Array(32).fill(1), held: new Uint8Array(64).fill(2) },
  { kind: "kept", name: "sun.set", body: { epoch: 1 } },
  { kind: "kept", name: "moon.phased", body: { any: [1, "two"] } }
]
const draft = (says: Statement, parents = [key("a"), key("b")]) =>
  draftOperation({ mesh: key("mesh"), author: deviceOf("ann"), parents: [...parents].sort(), ms: 12, says })

t.test("every kind survives signing and opening", async (t) => {
  for (const says of statements) {
    const opened = must(signOperation(draft(says), keyPair("ann")))
    t.match(opened, { says, mesh: key("mesh"), author: deviceOf("ann"), ms: 12, proven: true, hash: draft(says).hash }, says.kind)
    t.same(must(openOperation(opened.bytes)), opened)
  }
  const created = draftOperation({ mesh: "", author: deviceOf("ann"), parents: [], ms: 0, says: { kind: "mesh.created", name: "m", nonce: new Uint8Array(32) } })
  t.equal(must(signOperation(created, keyPair("ann"))).mesh, "")
  t.match(mustFail(signOperation(created, keyPair("ben"))).why, /not the author's/)
})

t.test("a key that a later version adds to a body is ignored, and the hash still covers it", async (t) => {
  const content = encodeCbor([1, "member.left", fromHex(key("mesh")), fromHex(deviceOf("ann")), [fromHex(key("a"))], 1, { farewell: "so long" }])
  const hash = operationHash(content)
  const opened = must(openOperation(Buffer.concat([sign(fromHex(hash), keyPair("ann")), content])))
  t.same(opened.says, { kind: "member.left" })
  t.equal(opened.hash, hash)
})

t.test("an admission whose proof was made for another device, log or mesh is not proven", async (t) => {
  const says = { kind: "member.admitted", device: deviceOf("ben"), log: key("log"), name: "ben", role: "member", invite: inviteKey(invite), proof } as const
  t.equal(must(signOperation(draft(says), keyPair("ann"))).proven, true)
  t.equal(must(signOperation(draft({ ...says, device: deviceOf("eve") }), keyPair("ann"))).proven, false)
  t.equal(must(signOperation(draft({ ...says, log: key("other") }), keyPair("ann"))).proven, false)
  t.notSame(admissionHash(key("mesh"), says.invite, says.device, says.log), admissionHash(key("m2"), says.invite, says.device, says.log))
})

t.test("a claim of a log proves possession only for this mesh, device and log, by the log's own key", async (t) => {
  const mine = logKey(keyPair("ben-log").publicKey)
  const at = (log: string, proof: object, mesh = key("mesh")) =>
    must(signOperation(draftOperation({ mesh, author: deviceOf("ben"), parents: [key("a")], ms: 1, says: { kind: "log.attached", log, ...proof } }), keyPair("ben"))).holds
  const proof = proveLogHeld(key("mesh"), deviceOf("ben"), keyPair("ben-log"))
  t.equal(at(mine, proof), true)
  t.equal(at(mine, {}), false)
  t.equal(at(mine, { held: proof.held }), false, "half a proof is none")
  t.equal(at(key("other"), proof), false)
  t.equal(at(mine, proof, key("m2")), false)
  t.equal(at(mine, { ...proof, held: new Uint8Array(64) }), false)
  t.equal(at(mine, proveLogHeld(key("mesh"), deviceOf("eve"), keyPair("ben-log"))), false)
  t.equal(at(mine, proveLogHeld(key("mesh"), deviceOf("ben"), keyPair("eve-log"))), false)
  const admission = { kind: "member.admitted", device: deviceOf("ben"), log: mine, name: "ben", role: "member", invite: inviteKey(invite), proof: proveInvite(invite, deviceOf("ben"), mine) } as const
  t.match(must(signOperation(draft({ ...admission, ...proof }), keyPair("ann"))), { proven: true, holds: true }, "of the device that is admitted")
  const pair = keyPair("paper")
  const recovery = deviceOf("paper")
  const used = { kind: "recovery.used", log: mine, name: "ben", recovery, proof: sign(recoveryHash(key("mesh"), recovery, deviceOf("ben"), mine), pair), ...proof } as const
  const by = (name: string) => must(signOperation(draftOperation({ mesh: key("mesh"), author: deviceOf(name), parents: [key("a")], ms: 1, says: used }), keyPair(name)))
  t.match([by("ben"), by("eve")], [{ proven: true, holds: true }, { proven: false, holds: false }])
})

t.test("hostile operation bytes are refused with a reason and never throw", async (t) => {
  const wire = (over: Record<number, unknown>) => {
    const base: Array<unknown> = [1, "log.attached", fromHex(key("mesh")), fromHex(deviceOf("ann")), [fromHex(key("a"))], 1, { log: fromHex(key("l")) }]
    for (const [at, value] of Object.entries(over)) base[Number(at)] = value
    const content = encodeCbor(base)
    return Buffer.concat([sign(fromHex(operationHash(content)), keyPair("ann")), content])
  }
  must(openOperation(wire({})))
  const many = Array.from({ length: operationParentsMax + 1 }, (_, i) => fromHex(key(`p${i}`))).sort(Buffer.compare)
  const cases: ReadonlyArray<readonly [string, Uint8Array, RegExp]> = [
    ["version", wire({ 0: 2 }), /version/], ["kind", wire({ 1: "Log Attached" }), /kind/], ["kind type", wire({ 1: 7 }), /kind/],
    ["mesh", wire({ 2: new Uint8Array(31) }), /mesh/], ["no mesh", wire({ 2: null }), /mesh/], ["author", wire({ 3: "ann" }), /author/],
    ["no parents", wire({ 4: [] }), /parents/], ["too many parents", wire({ 4: many }), /parents/],
    ["unsorted", wire({ 4: [many[1], many[0]] }), /parents/], ["repeated", wire({ 4: [many[0], many[0]] }), /parents/],
    ["time", wire({ 5: -1 }), /time/], ["time", wire({ 5: 1.5 }), /time/], ["body", wire({ 6: [] }), /body/], ["body", wire({ 6: new Uint8Array(3) }), /body/],
    ["body of kind", wire({ 6: {} }), /body of log.attached/], ["created with parents", wire({ 1: "mesh.created" }), /mesh/],
    ["bad name", wire({ 1: "member.named", 6: { device: fromHex(key("d")), name: "a b" } }), /body of member.named/],
    ["bad mesh name", wire({ 1: "mesh.named", 6: { name: "two\nlines" } }), /body of mesh.named/],
    ["bad role", wire({ 1: "role.set", 6: { device: fromHex(key("d")), role: "king" } }), /body of role.set/],
    ["no uses", wire({ 1: "invite.issued", 6: { invite: fromHex(key("d")), role: "member", uses: 0, expiresMs: 1 } }), /body of invite.issued/],
    ["half a proof", wire({ 6: { log: fromHex(key("l")), signer: new Uint8Array(32) } }), /body of log.attached/],
    ["short proof", wire({ 6: { log: fromHex(key("l")), signer: new Uint8Array(32), held: new Uint8Array(63) } }), /body of log.attached/],
    ["no threshold", wire({ 1: "owners.threshold", 6: { threshold: 0 } }), /body of owners.threshold/],
    ["epoch 0", wire({ 1: "epoch.rotated", 6: { epoch: 0, commit: fromHex(key("c")), sealed: [] } }), /body of epoch.rotated/],
    ["a box of the wrong size", wire({ 1: "epoch.shared", 6: { epoch: 1, commit: fromHex(key("c")), sealed: [[fromHex(key("d")), new Uint8Array(79)]] } }), /body of epoch.shared/],
    ["cut-off below 0", wire({ 1: "member.revoked", 6: { device: fromHex(key("d")), cutoffs: [[fromHex(key("l")), -1]] } }), /body of member.revoked/],
    ["a long reason", wire({ 1: "member.revoked", 6: { device: fromHex(key("d")), cutoffs: [], reason: "x".repeat(257) } }), /body of member.revoked/],
    ["a cut-off of three", wire({ 1: "role.set", 6: { device: fromHex(key("d")), role: "reader", cutoffs: [[1, 2, 3]] } }), /body of role.set/],
    ["own successor", wire({ 1: "log.succeeded", 6: { log: fromHex(key("l")), length: 1, treeHash: fromHex(key("l")), successor: fromHex(key("l")) } }), /body of log.succeeded/],
    ["large", wire({ 1: "moon.phased", 6: { x: new Uint8Array(operationBytesMax) } }), /larger/],
    ["eight", wire({ 7: 1 }), /seven/], ["empty", new Uint8Array(), /short/]
  ]
  for (const [name, bytes, why] of cases) t.match(mustFail(openOperation(bytes)).why, why, name)
  const good = wire({})
  const { below } = chance(11)
  let refused = 0
  for (let i = 0; i < 1_500; i++) {
    const bytes = new Uint8Array(good)
    const at = below(bytes.length)
    bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8))
    if (Result.isFailure(openOperation(bytes))) refused++
    openOperation(bytes.subarray(0, below(bytes.length)))
  }
  t.equal(refused, 1_500, "no flipped bit passes")
})
