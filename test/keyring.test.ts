/** Keys of frames: what is sealed and opened, by whom, under which epoch; and what hostile boxes and frames come to. */
import { Context, Effect, Layer, Result, Scope } from "effect"
import sodium from "sodium-native"
import t from "tap"
import { fromHex, toHex } from "../src/codec/bytes.ts"
import { encodeCbor } from "../src/codec/cbor.ts"
import {
  encodeEvent, fittingFrameKey, frameBytesMax, frameEventsMax, type FrameHeader, frameHeader, frameKey, type FramePlace, nonceBytes, openFrame, sealFrame
} from "../src/codec/frame.ts"
import { asBuffer, hashParts } from "../src/codec/hash.ts"
import { draftOperation, epochCommit, epochMax, type Operation, type Role, sealedKeyBytes, sealedKeysMax, type Statement } from "../src/codec/operation.ts"
import { openSealed, sealOverheadBytes, sealTo } from "../src/codec/seal.ts"
import { keyPairFromSeed, randomBytes } from "../src/codec/signature.ts"
import { decideEpochNeed, decideRotate, decideShare, type EpochFacts, epochNeed, pastsFoundMax } from "../src/commands/decide-epoch.ts"
import { epochOrder } from "../src/commands/epoch-order.ts"
import { foundingRotation, readersOf, rotationStatements, sharingStatements, sharingStatementsMax } from "../src/commands/epoch-statements.ts"
import { ingestBlock } from "../src/events/ingest.ts"
import { Journal } from "../src/events/journal.ts"
import { MemoryMachine } from "../src/events/memory-store.ts"
import type { EpochRecord, Member, Membership } from "../src/projections/membership.ts"
import { epochKeysMax, type Keyring, makeKeyring, openedBoxesMax, type SealedEpoch, singleKeyring } from "../src/vault/keyring.ts"
import { draft } from "./journal-contract.ts"
import { deviceOf, keyPair, must, mustFail, unsignedOperation } from "./membership-world.ts"

const log = toHex(hashParts("test", Buffer.from("log")))
const place: FramePlace = { log, block: 3 }
const epochKey = (n: number): Uint8Array => hashParts("test epoch key", Buffer.from(String(n)))
const hashOf = (n: number): string => toHex(hashParts("test rotation", Buffer.from(String(n))))
const legacyKey = epochKey(0)
const event = (text: string, body: unknown = { name: "test", detail: text }) => encodeEvent({
  type: "command.done/1", at: { ms: 1_800_000_000_000, count: 0 }, actor: "device", subject: "node", command: "", cause: [], body
}, log)
const headerOf = (block: Uint8Array): FrameHeader => must(frameHeader(block))
const box = (content: Uint8Array, name: string): Uint8Array => sealTo(content, deviceOf(name)) ?? new Uint8Array(0)
const rotation = (n: number, epoch: number, sealed: ReadonlyArray<readonly [string, Uint8Array]>, over: Partial<SealedEpoch> = {}): SealedEpoch =>
  ({ epoch, commit: epochCommit(epochKey(n)), hash: hashOf(n), valid: true, sealed: new Map(sealed), ...over })
const given = (n: number, epoch: number, ...names: ReadonlyArray<string>): SealedEpoch =>
  rotation(n, epoch, names.map((name) => [deviceOf(name), box(epochKey(n), name)]))
const ringOf = (epochs: ReadonlyArray<SealedEpoch>, name = "ann") => makeKeyring({ device: keyPair(name), legacyKey, epochs: () => epochs })

t.test("a sealed box opens for its reader and for nobody else, whole and unchanged", async (t) => {
  const content = epochKey(1)
  const sealed = box(content, "ann")
  t.equal(sealed.byteLength, sealedKeyBytes)
  t.same(openSealed(sealed, keyPair("ann")), content)
  t.equal(openSealed(sealed, keyPair("ben")), undefined)
  for (let i = 0; i < sealed.byteLength; i++) {
    const bent = Uint8Array.from(sealed, (byte, at) => at === i ? byte ^ 1 : byte)
    if (openSealed(bent, keyPair("ann")) !== undefined) t.fail(`byte ${i} can be changed`)
  }
  t.equal(openSealed(sealed.subarray(0, sealOverheadBytes - 1), keyPair("ann")), undefined)
  t.same(openSealed(box(new Uint8Array(0), "ann"), keyPair("ann")), new Uint8Array(0), "nothing can be sealed too")
  t.equal(openSealed(sealed, { ...keyPair("ann"), publicKey: new Uint8Array(32) }), undefined, "a public key that is none")
  t.not(toHex(sealed), toHex(box(content, "ann")), "two boxes of one content differ")
  for (const none of ["00".repeat(32), `01${"00".repeat(31)}`, "ff".repeat(32), "00".repeat(31)]) t.equal(sealTo(content, none), undefined, `${none.slice(0, 8)} is nobody's key`)
})

/** Seals any content as a member that holds the key could, with any of the clear bytes changed. */
const sealRaw = (content: Uint8Array, epoch: number, key: Uint8Array, version = 1): Uint8Array => {
  const nonce = randomBytes(nonceBytes)
  const own = frameKey(key, place, nonce)
  const header = Buffer.concat([Buffer.of(version, 0, 0, 0, epoch), nonce, hashParts("kos/frame-commit/1", own)])
  const ad = Buffer.concat([header, fromHex(log), Buffer.from("0000000000000003", "hex")])
  const out = Buffer.alloc(content.byteLength + 16)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(out, asBuffer(content), ad, null, asBuffer(nonce), asBuffer(own))
  return Buffer.concat([header, out])
}

t.test("a frame of any size and packing opens again; what is wrong in it is named", async (t) => {
  const key = epochKey(1)
  for (const events of [
    [event("short")], [event("x".repeat(5_000))], [event("random", { name: "test", detail: randomBytes(400) })],
    Array.from({ length: 24 }, (_, i) => event(`${i}`)), Array.from({ length: frameEventsMax }, (_, i) => event(`${i}`))
  ]) {
    const frame = sealFrame(events, place, 7, key)
    t.equal(headerOf(frame).epoch, 7)
    t.equal(must(openFrame(frame, place, frameKey(key, place, headerOf(frame).nonce))).length, events.length)
  }
  const ring = singleKeyring(key, 1)
  t.equal(ingestBlock(sealRaw(Buffer.concat([Buffer.of(0, 0x81), event("raw")]), 1, key), place, ring)._tag, "Opened", "raw sealing is as ours")
  const bad: ReadonlyArray<readonly [string, Uint8Array, RegExp]> = [
    ["packing", Buffer.of(9, 0x80), /packing 9 is not known here/], ["zstd", Buffer.of(1, 1, 2, 3), /zstd content is broken/],
    ["CBOR", Buffer.of(0, 0x9f, 0x01), /./], ["no list", Buffer.of(0, 0xa0), /not an array of events/], ["no event", Buffer.of(0, 0x80), /0 events/],
    ["no envelope", Buffer.of(0, 0x81, 0x01), /./], ["too many", Buffer.concat([Buffer.of(0, 0x99, 1, 1), ...Array.from({ length: 257 }, () => event("many"))]), /257 events/]
  ]
  for (const [what, content, why] of bad) t.match(ingestBlock(sealRaw(content, 1, key), place, ring), { _tag: "Quarantined", why }, what)
  t.match(ingestBlock(sealRaw(Buffer.concat([Buffer.of(0, 0x81), event("raw")]), 1, key, 2), place, ring), { _tag: "Quarantined", why: /version 2/ })
  t.match(mustFail(openFrame(sealRaw(Buffer.of(0, 0x80), 1, key, 2), place, key)).why, /version 2/)
  t.match(mustFail(openFrame(Buffer.alloc(20), place, key)).why, /too short/)
  t.match(mustFail(openFrame(Buffer.alloc(frameBytesMax + 1), place, key)).why, /larger than/)
  t.match(mustFail(openFrame(sealFrame([event("x")], place, 1, key), place, key)).why, /not committed to this key/)
  t.match(ingestBlock(Buffer.alloc(20), place, ring), { _tag: "Quarantined", why: /too short/ })
})

t.test("of several keys with one number the one that the frame is committed to opens it", async (t) => {
  const ring = ringOf([given(1, 1, "ann"), given(2, 2, "ann", "ben"), given(3, 2, "ann"), given(4, 2, "ben")])
  t.same(ring.keys(2), [epochKey(2), epochKey(3)])
  for (const n of [2, 3]) {
    const frame = sealFrame([event(`under ${n}`)], place, 2, epochKey(n))
    t.match(ingestBlock(frame, place, ring), { _tag: "Opened", epoch: 2, events: { length: 1 } })
    t.same(fittingFrameKey(frame, headerOf(frame), place, ring.keys(2)), frameKey(epochKey(n), place, headerOf(frame).nonce))
  }
  const foreign = sealFrame([event("of the other rotation")], place, 2, epochKey(4))
  t.same(ingestBlock(foreign, place, ring), { _tag: "Sealed", epoch: 2 }, "a rotation that was not given to us")
  t.equal(ingestBlock(foreign, place, ringOf([given(4, 2, "ben")], "ben"))._tag, "Opened")
  t.same(ingestBlock(sealFrame([event("x")], place, 9, epochKey(9)), place, ring), { _tag: "Sealed", epoch: 9 }, "a number that nobody rotated to")
  t.match(ingestBlock(sealFrame([event("x")], place, 0, legacyKey), place, ring), { _tag: "Opened", epoch: 0 })
  t.match(ingestBlock(sealFrame([event("x")], place, 0, epochKey(1)), place, ring), { _tag: "Quarantined", why: /key of epoch 0/ }, "there is one key of epoch 0")
  const bent = Buffer.from(sealFrame([event("bent")], place, 2, epochKey(2)))
  bent[bent.length - 1] = (bent[bent.length - 1] ?? 0) ^ 1
  t.match(ingestBlock(bent, place, ring), { _tag: "Quarantined", why: /does not open/ }, "committed to a held key: there is no other")
  t.same(ingestBlock(sealFrame([event("moved")], { log, block: 4 }, 2, epochKey(2)), place, ring), { _tag: "Sealed", epoch: 2 }, "a frame of another place is committed to none")
})

t.test("the keyring holds what fits its commitment; hostile boxes are as if there were none", async (t) => {
  const short = randomBytes(16)
  const ring = ringOf([
    rotation(1, 1, [[deviceOf("ann"), box(epochKey(9), "ann")]]),
    rotation(2, 1, [[deviceOf("ann"), box(short, "ann")]], { commit: epochCommit(short) }),
    rotation(3, 1, [[deviceOf("ann"), box(epochKey(3), "ben")]]), rotation(4, 1, [[deviceOf("ann"), randomBytes(80)]]),
    rotation(5, 1, [[deviceOf("ann"), new Uint8Array(3)]]), rotation(6, 1, [[deviceOf("ben"), box(epochKey(6), "ann")]]), given(7, 1, "ann"),
    { ...given(7, 1, "ann"), hash: hashOf(8) }
  ])
  t.same(ring.keys(1), [epochKey(7)], "another content, another length, for another, noise, nothing; the same key twice is one")
  t.same(ring.keys(1), [epochKey(7)], "and again from memory")
  t.same(ring.current, { epoch: 1, key: epochKey(7) })
  t.same(ring.held(), [{ epoch: 1, key: epochKey(7) }])
})

t.test("new frames are sealed under the last rotation that counts and that this node can open", async (t) => {
  const three = [given(1, 1, "ann", "ben"), given(2, 2, "ann"), given(3, 3, "ben")]
  t.same(ringOf(three).current, { epoch: 2, key: epochKey(2) })
  t.same(ringOf(three, "ben").current, { epoch: 3, key: epochKey(3) })
  t.equal(ringOf(three, "eve").current, undefined, "a seeder was given none, and never falls back to the mesh key")
  t.same(ringOf(three.map((record) => ({ ...record, valid: record.epoch < 2 }))).current, { epoch: 1, key: epochKey(1) })
  t.same(ringOf([]).current, { epoch: 0, key: legacyKey }, "a home of before has the mesh key until it rotates")
  t.same(ringOf([{ ...given(1, 1, "ann"), valid: false }]).current, { epoch: 0, key: legacyKey })
  t.same(ringOf([{ ...given(1, 1, "ann"), valid: false }]).keys(1), [epochKey(1)], "what does not count still opens")
  const options = { device: keyPair("ann"), legacyKey, epochs: () => three }
  t.same(makeKeyring({ ...options, preferred: () => three }).current, { epoch: 1, key: epochKey(1) })
  t.equal(makeKeyring({ ...options, mayWrite: () => false }).current, undefined)
  t.same(makeKeyring({ ...options, mayWrite: () => true }).current, { epoch: 2, key: epochKey(2) })
})

t.test("a newcomer is given the key in force first and older ones by the mesh's history", async (t) => {
  const epochs = [given(1, 1, "ann"), given(2, 2, "ann"), given(3, 3, "ann")]
  const shared = (history: boolean | undefined) => makeKeyring({
    device: keyPair("ann"), legacyKey, epochs: () => epochs, preferred: () => [epochs[1] ?? given(2, 2)], ...(history === undefined ? {} : { historyShared: () => history })
  }).shared().map(({ epoch }) => epoch)
  t.same(shared(undefined), [2, 3, 1])
  t.same(shared(true), [2, 3, 1])
  t.same(shared(false), [])
  t.same(ringOf([]).shared(), [], "the mesh key is no epoch's key to give")
  t.same(ringOf(epochs, "eve").shared(), [])
  t.same(singleKeyring(legacyKey).shared(), [])
  t.same(singleKeyring(legacyKey).keys(1), [])
})

t.test("a secret on paper opens what was sealed to it; memory of boxes and numbers is bounded", async (t) => {
  const epochs: Array<SealedEpoch> = [given(1, 1, "paper"), given(2, 2, "ann", "paper")]
  let list: ReadonlyArray<SealedEpoch> = epochs
  const ring = makeKeyring({ device: keyPair("ann"), legacyKey, epochs: () => list })
  t.same(ring.keys(1), [])
  ring.openWith(keyPair("paper"))
  t.same(ring.keys(1), [epochKey(1)])
  const lost = [given(3, 3, "paper")]
  const restored = makeKeyring({ device: keyPair("ann"), legacyKey, epochs: () => lost, preferred: () => lost })
  t.equal(restored.current, undefined)
  restored.openWith(keyPair("paper"))
  t.same(restored.current, { epoch: 3, key: epochKey(3) })
  t.equal(restored.current, restored.current, "found once")
  t.same(ring.held().map(({ epoch }) => epoch), [2, 1])
  t.same(ring.keys(77), [])
  list = Array.from({ length: epochKeysMax + 3 }, (_, i) => given(i, 5, "ann"))
  t.equal(ring.keys(5).length, epochKeysMax, "the first of one number are looked at")
  t.same(ring.keys(1), [], "an operation set without it, a keyring without it")
  const crowd = rotation(1, 1, [[deviceOf("ann"), new Uint8Array(1)]])
  for (let i = 0; i < openedBoxesMax + 10; i++) ring.keyOf({ ...crowd, hash: String(i) })
  list = [given(2, 2, "ann")]
  t.same(ring.keys(2), [epochKey(2)], "what was pushed out is opened again")
})

t.test("the journal refuses while there is no key to seal under, and goes on when there is", async (t) => {
  let ring: Keyring = { current: undefined, keys: () => [], shared: () => [] }
  const machine = new MemoryMachine()
  const scope = Effect.runSync(Scope.make())
  const seed = randomBytes(32)
  const layer = Journal.layer(keyPairFromSeed(seed), () => ring).pipe(Layer.provide(Layer.merge(machine.logStore, machine.disk)))
  const journal = Context.get(await Effect.runPromise(Layer.buildWithScope(layer, scope)), Journal)
  journal.begin()
  const append = () => Effect.runPromise(Effect.result(journal.append([draft(1)])))
  t.equal(journal.canAppend(), false)
  t.match(mustFail(await append()), { _tag: "JournalError", reason: "no-key" })
  ring = singleKeyring(epochKey(1), 1)
  t.equal(journal.canAppend(), true)
  t.equal(must(await append()).block, 0)
  const waiting = append()
  ring = { ...ring, current: undefined }
  t.match(mustFail(await waiting), { reason: "no-key" }, "a unit that waits when the key is taken away")
  t.equal(journal.length(), 1)
  await Effect.runPromise(journal.stop())
})

// A mesh by hand: who is what, and rotations with what their authors knew.
const member = (name: string, role: Role, over: Partial<Member> = {}): Member => ({
  device: deviceOf(name), name, role, since: `in-${name}`, by: "", ms: 0, standing: "member", granted: { hash: `in-${name}`, by: "", ms: 0 }, logs: [], ...over
})
const record = (epoch: SealedEpoch): EpochRecord => ({ ...epoch, by: deviceOf("ann"), ms: 0 })
const meshOf = (members: ReadonlyArray<Member>, epochs: ReadonlyArray<SealedEpoch>, over: Partial<Membership> = {}): Membership => ({
  id: hashOf(0), name: "hill", members: new Map(members.map((one) => [one.device, one])), invites: new Map(), devices: new Map(), void: [],
  epochs: epochs.map(record), threshold: 1, recovery: undefined, operations: 0, waiting: 0, heads: [hashOf(0)], ...over
})
/** Operations as `hash <- parents`, parents first. */
const graph = (...edges: ReadonlyArray<readonly [string, ...ReadonlyArray<string>]>): ReadonlyArray<Operation> => edges.map(([hash, ...parents]) => ({
  ...unsignedOperation(draftOperation({ mesh: hashOf(0), author: deviceOf("ann"), parents: [], ms: 0, says: { kind: "member.left" } })), hash, parents
}))
const order = (membership: Membership, operations: ReadonlyArray<Operation>) => epochOrder(membership, operations).map(({ hash }) => hash)

t.test("the epoch in force: nobody goes back past a rotation, and of concurrent ones a clean one comes first", async (t) => {
  const trio = [member("ann", "owner"), member("ben", "member"), member("eve", "member", { standing: "revoked" })]
  const line = graph([hashOf(1)], [hashOf(2), hashOf(1)], [hashOf(3), hashOf(2)])
  const grown = [given(1, 1, "ann", "ben"), given(2, 2, "ann", "ben", "eve"), given(3, 3, "ann", "ben", "eve")]
  t.same(order(meshOf(trio, grown), line), [hashOf(3), hashOf(2), hashOf(1)], "an older clean one is not taken up again")
  const clean = given(1, 1, "ann", "ben")
  const fork = graph(["root"], [hashOf(1), "root"], ["x", "root"], [hashOf(2), "x"], ["y", hashOf(2), hashOf(1)])
  t.same(order(meshOf(trio, [clean, given(2, 1, "ann", "ben", "eve")]), fork), [hashOf(1), hashOf(2)], "the revocation's before the one that did not know of it")
  t.same(order(meshOf(trio, [clean, given(2, 1, "ann", "ben")]), fork), [hashOf(2), hashOf(1)], "both clean: the last")
  t.same(order(meshOf(trio, [clean, { ...given(2, 1, "ann", "ben"), valid: false }]), fork), [hashOf(1)], "what does not count is never sealed under")
  const voided = [clean, { ...given(2, 2, "ann", "ben"), valid: false }]
  t.same(order(meshOf(trio, voided), graph([hashOf(1)], [hashOf(2), hashOf(1)])), [hashOf(1)], "and takes nobody's place")
  const beside = graph(["root"], [hashOf(1), "root"], [hashOf(2), "root"], [hashOf(3), hashOf(2)])
  t.same(order(meshOf(trio, [clean, given(2, 1, "ann", "ben"), { ...given(3, 2, "ann", "ben"), valid: false }]), beside), [hashOf(2), hashOf(1)], "not even when it knew one of two")
  const joined = graph(["root"], [hashOf(1), "root"], [hashOf(2), "root"], ["j", hashOf(1), hashOf(2), "root"], [hashOf(3), "j"])
  t.same(order(meshOf(trio, [clean, given(2, 1, "ann"), given(3, 2, "ann", "ben")]), joined), [hashOf(3), hashOf(2), hashOf(1)])
  t.same(order(meshOf(trio, []), []), [])
})

const factsOf = (name: string, operations: ReadonlyArray<Operation>, historyShared = true): EpochFacts =>
  ({ operations, keyOf: ringOf([], name).keyOf, historyShared, pasts: new Map() })

t.test("an admin's node finds what to do about epochs", async (t) => {
  const [ann, ben, cat] = [member("ann", "admin"), member("ben", "member"), member("cat", "reader")]
  const seeder = member("sid", "seeder")
  const one = graph([hashOf(1)])
  const need = (members: ReadonlyArray<Member>, epochs: ReadonlyArray<SealedEpoch>, over: Partial<Membership> = {}, facts = factsOf("ann", one), name = "ann") =>
    epochNeed({ membership: meshOf(members, epochs, over), device: deviceOf(name), ms: 1 }, facts)
  t.equal(need([ann, ben, cat, seeder], [given(1, 1, "ann", "ben", "cat")]), undefined, "all is well; a seeder is given nothing")
  t.match(need([ann], []), { _tag: "Rotate", why: /no key of its own/ }, "a home of before")
  t.equal(need([ann, ben], [], {}, factsOf("ben", one), "ben"), undefined, "a member does nothing about it")
  t.equal(need([{ ...ann, standing: "left" }], []), undefined)
  for (const gone of [{ ...ben, standing: "left" as const }, { ...ben, standing: "revoked" as const }, { ...ben, role: "seeder" as const }]) {
    t.match(need([ann, gone], [given(1, 1, "ann", "ben")]), { _tag: "Rotate", why: /given to ben/, late: false })
  }
  t.match(need([ann], [given(1, 1, "ann", "ben")]), { why: new RegExp(deviceOf("ben").slice(0, 8)) }, "a stranger is named by its key")
  t.match(need([ann, ben], [given(1, 1, "ben")]), { _tag: "Rotate", why: /not given/, late: true })
  t.match(need([ann, ben, cat], [given(1, 1, "ann", "ben")]), { _tag: "Share", shares: [{ epoch: 1, key: epochKey(1), readers: [deviceOf("cat")] }] })
  t.match(need([ann], [given(1, 1, "ann")], { recovery: deviceOf("paper") }), { _tag: "Share", shares: [{ readers: [deviceOf("paper")] }] })
  t.match(need([ann], [given(1, 1, "ann", "paper")]), { _tag: "Rotate" }, "a secret on paper that is none any more")
  const two = graph([hashOf(1)], [hashOf(2), hashOf(1)])
  t.match(need([ann, ben], [given(1, 1, "ann"), given(2, 2, "ann", "ben")], {}, factsOf("ann", two)), { shares: [{ epoch: 1, readers: [deviceOf("ben")] }] }, "older ones too")
  t.equal(need([ann, ben], [given(1, 1), given(2, 2, "ann", "ben")], {}, factsOf("ann", two)), undefined, "but not what is not held")
  const many = Array.from({ length: sharingStatementsMax + 5 }, (_, i) => given(i + 1, i + 1, "ann"))
  const found = need([ann, ben], many, {}, factsOf("ann", graph([hashOf(1)], ...many.slice(1).map((_, i) => [hashOf(i + 2), hashOf(i + 1)] as const))))
  t.match(found, { _tag: "Share", shares: { length: sharingStatementsMax } })
  t.match(found, { shares: [{ epoch: sharingStatementsMax + 5 }] }, "the one in force first")
})

t.test("without shared history a device gets what was made by somebody who did not know of it, and a new key else", async (t) => {
  const [ann, ben] = [member("ann", "owner"), member("ben", "member")]
  const need = (operations: ReadonlyArray<Operation>, epochs: ReadonlyArray<SealedEpoch>, over: Partial<Membership> = {}, facts = factsOf("ann", operations, false)) =>
    epochNeed({ membership: meshOf([ann, ben], epochs, over), device: deviceOf("ann"), ms: 1 }, facts)
  const before = graph([hashOf(1)], ["in-ben", hashOf(1)])
  t.match(need(before, [given(1, 1, "ann")]), { _tag: "Rotate", why: /ben may read what is written from now on/ })
  const after = graph([hashOf(1)], ["in-ben", hashOf(1)], [hashOf(2), "in-ben"])
  t.equal(need(after, [given(1, 1, "ann"), given(2, 2, "ann", "ben")]), undefined, "what is older stays closed")
  const beside = graph(["root"], [hashOf(1), "root"], ["in-ben", "root"])
  t.match(need(beside, [given(1, 1, "ann")]), { _tag: "Share", shares: [{ readers: [deviceOf("ben")] }] }, "made by somebody who did not know")
  t.match(need(after, [given(1, 1, "ann"), given(2, 2, "ann", "ben")], { recovery: deviceOf("paper") }), {
    shares: [{ epoch: 2, readers: [deviceOf("paper")] }, { epoch: 1, readers: [deviceOf("paper")] }]
  }, "the secret on paper gets all")
  t.match(need([...before, ...graph([hashOf(1)])], [given(1, 1, "ann")], {}, { ...factsOf("ann", before, false), pasts: new Map([["in-ben", new Set<string>()]]) }), { _tag: "Share" }, "a past that is known is not walked again")
  const crowd = Array.from({ length: pastsFoundMax + 1 }, (_, i) => member(`n${i}`, "member", { granted: { hash: `in-${i}`, by: "", ms: 0 } }))
  const facts = factsOf("ann", graph([hashOf(1)], [hashOf(2), hashOf(1)], ...crowd.map((_, i) => [`in-${i}`, hashOf(1)] as const)), false)
  const names = crowd.map(({ name }) => name)
  const full = () => epochNeed({ membership: meshOf([ann, ...crowd], [given(1, 1, "ann"), given(2, 2, "ann", ...names)]), device: deviceOf("ann"), ms: 1 }, facts)
  t.equal(full(), undefined)
  t.equal(facts.pasts.size, pastsFoundMax, "so many pasts at a time")
  t.equal(full(), undefined)
  t.equal(facts.pasts.size, pastsFoundMax + 1)
})

const says = (drafts: ReadonlyArray<{ readonly says: Statement }>): ReadonlyArray<Statement> => drafts.map((one) => one.says)
const opens = (statement: Statement | undefined, name: string): Uint8Array | undefined => {
  if (statement?.kind !== "epoch.rotated" && statement?.kind !== "epoch.shared") return undefined
  const found = statement.sealed.find(({ reader }) => reader === deviceOf(name))
  return found === undefined ? undefined : openSealed(found.sealed, keyPair(name))
}

t.test("deciders: admins and owners rotate and share, each reader gets a box that it can open", async (t) => {
  const members = [member("ann", "owner"), member("ben", "admin"), member("cat", "reader"), member("dan", "member"), member("sid", "seeder"), member("eve", "owner", { standing: "left" })]
  const membership = meshOf(members, [given(1, 1, "ann"), { ...given(2, 9, "ann"), valid: false }], { recovery: deviceOf("paper") })
  const as = (name: string) => ({ membership, device: deviceOf(name), ms: 5 })
  t.same(readersOf(membership), [...["ann", "ben", "cat", "dan"].map(deviceOf), deviceOf("paper")])
  for (const name of ["ann", "ben"]) {
    const [rotated, ...more] = says(must(decideRotate(as(name), { newKey: epochKey(5) })))
    t.match(rotated, { kind: "epoch.rotated", epoch: 2, commit: epochCommit(epochKey(5)) }, "after the highest that counts")
    t.same(more, [])
    for (const reader of ["ann", "ben", "cat", "dan", "paper"]) t.same(opens(rotated, reader), epochKey(5))
    for (const other of ["sid", "eve"]) t.equal(opens(rotated, other), undefined)
    const shared = says(must(decideShare(as(name), { keys: [{ epoch: 3, key: epochKey(3) }], devices: ["cat", "sid"].map(deviceOf) })))
    t.match(shared, [{ kind: "epoch.shared", epoch: 3, commit: epochCommit(epochKey(3)), sealed: { length: 1 } }])
    t.same(opens(shared[0], "cat"), epochKey(3))
    t.same(must(decideShare(as(name), { keys: [{ epoch: 3, key: epochKey(3) }], devices: [deviceOf("sid")] })), [])
    t.match(says(must(decideEpochNeed(as(name), { _tag: "Rotate", why: "", late: false }, epochKey(6)))), [{ kind: "epoch.rotated" }])
    t.match(says(must(decideEpochNeed(as(name), { _tag: "Share", shares: [{ epoch: 1, key: epochKey(1), readers: [deviceOf("cat")] }] }, epochKey(6)))), [{ kind: "epoch.shared", epoch: 1 }])
  }
  for (const name of ["cat", "dan", "sid", "eve", "zoe"]) {
    t.match(mustFail(decideRotate(as(name), { newKey: epochKey(5) })), { kind: "denied", detail: /only an admin or owner makes a new key/ }, name)
    t.match(mustFail(decideShare(as(name), { keys: [], devices: [] })), { kind: "denied" }, name)
    t.match(mustFail(decideEpochNeed(as(name), { _tag: "Share", shares: [] }, epochKey(6))), { kind: "denied" }, name)
  }
  t.equal(opens(rotationStatements(membership, epochKey(5), deviceOf("cat"))[0], "cat"), undefined, "for all but the one that is expelled")
  t.same(opens(foundingRotation(epochKey(1), deviceOf("ann")), "ann"), epochKey(1))
  t.match(foundingRotation(epochKey(1), "00".repeat(32)), { epoch: 1, sealed: [] }, "a key that nothing can be sealed to")
  t.match(rotationStatements(meshOf([], []), epochKey(1)), [{ kind: "epoch.rotated", epoch: 1, sealed: [] }])
  t.match(rotationStatements(meshOf([member("ann", "owner")], [given(1, epochMax, "ann")]), epochKey(5)), [{ epoch: epochMax }], "there is no higher number, and none is needed")
})

t.test("many readers take several operations, and many keys no more than one unit holds", async (t) => {
  const names = Array.from({ length: 2 * sealedKeysMax + 1 }, (_, i) => `n${i}`)
  const statements = rotationStatements(meshOf(names.map((name) => member(name, "member")), []), epochKey(1))
  t.match(statements, [{ kind: "epoch.rotated" }, { kind: "epoch.shared", epoch: 1 }, { kind: "epoch.shared", epoch: 1 }])
  for (const name of [names[0] ?? "", names[100] ?? "", names.at(-1) ?? ""]) t.same(statements.map((one) => opens(one, name)).find((key) => key !== undefined), epochKey(1))
  const keys = Array.from({ length: 200 }, (_, i) => ({ epoch: 200 - i, key: epochKey(200 - i) }))
  t.equal(sharingStatements(keys, [deviceOf("ann")]).length, sharingStatementsMax)
  t.match(sharingStatements(keys, [deviceOf("ann")])[0], { epoch: 200 })
  t.equal(sharingStatements(keys.slice(0, 100), names.map(deviceOf)).length, 3 * Math.floor(sharingStatementsMax / 3))
  t.same(sharingStatements(keys, []), [])
  t.ok(Result.isSuccess(decideShare({ membership: meshOf([member("ann", "owner")], []), device: deviceOf("ann"), ms: 1 }, { keys, devices: [deviceOf("ann")] })))
})
