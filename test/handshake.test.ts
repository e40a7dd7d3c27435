/** Refusals that the refused side can read, versions, and what a device that was put out learns and does not. */
import t, { type Test } from "tap"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import { makeDoor } from "../src/swarm/door.ts"
import { commonVersion, decodeHello, decodeRefusal, encodeHello, encodeRefusal, printable } from "../src/swarm/hello.ts"
import type { Candidate } from "../src/swarm/pairing.ts"
import { makeSwarm, type Swarm, type SwarmOptions } from "../src/swarm/swarm.ts"
import { admit, connectPair, keysOf, logKeyOf, makeHost, makeHub, revoke, testMesh, until, type TestHost } from "./swarm-host.ts"

const mesh = testMesh("hill")
const deviceOf = (name: string): string => toHex(keysOf(name).publicKey)
const admission = (name: string): Uint8Array => admit(deviceOf(name), logKeyOf(keysOf(name)))
const blocks = (count: number, text: string): ReadonlyArray<Uint8Array> => Array.from({ length: count }, (_, index) => utf8(`${text} ${index}`))
const options: SwarmOptions = { now: () => performance.now(), replication: { lingerMs: 100, tickMs: 20, retryMs: 50 }, session: { farewellMs: 20, dismissalMs: 100 } }

interface Party {
  readonly host: TestHost
  readonly swarm: Swarm
}

const party = async (t: Test, directory: string, hub: ReturnType<typeof makeHub>, name: string, operations: ReadonlyArray<Uint8Array>, over: Partial<SwarmOptions> = {}): Promise<Party> => {
  const host = await makeHost(`${directory}/${name}`, name, mesh, operations)
  const swarm = makeSwarm(host, () => [hub.carrier()], { ...options, ...over, session: { ...options.session, ...over.session } })
  t.teardown(async () => {
    await swarm.stop()
    await host.close()
  })
  return { host, swarm }
}

const ready = (swarm: Swarm): number => swarm.sessions().filter(({ phase }) => phase === "ready").length

t.test("of the versions that both speak the highest is used; without one, each is told both ranges", (t) => {
  t.equal(commonVersion({ min: 1, max: 2 }, { min: 1, max: 2 }), 2)
  t.equal(commonVersion({ min: 1, max: 4 }, { min: 2, max: 3 }), 3)
  t.equal(commonVersion({ min: 2, max: 2 }, { min: 1, max: 9 }), 2)
  t.equal(commonVersion({ min: 3, max: 4 }, { min: 1, max: 2 }), "speak a newer version: it speaks 3 to 4, this node 1 to 2")
  t.equal(commonVersion({ min: 1, max: 1 }, { min: 3, max: 4 }), "speak an older version: it speaks 1, this node 3 to 4")
  t.end()
})

t.test("what follows the known fields is left to later versions, and a peer's words are fit to be shown", (t) => {
  const hello = { min: 2, max: 7, mesh: Buffer.alloc(32, 1), proof: Buffer.alloc(32, 2) }
  t.match(decodeHello(Buffer.concat([encodeHello(hello), utf8("of a later version")])), { min: 2, max: 7 })
  t.same(decodeRefusal(Buffer.concat([encodeRefusal("revoked", "you were revoked by alpha"), utf8("more")])), { refusal: "revoked", sentence: "you were revoked by alpha" })
  t.equal(decodeRefusal(encodeRefusal("busy", "")).sentence, "too many connections wait here")
  t.match(decodeRefusal(Buffer.from([99, 0])), { refusal: undefined, sentence: /of a later version \(99\)/ })
  t.equal(printable("älpha\u001b[31m\u202e\n"), "älpha?[31m??")
  t.ok(decodeRefusal(encodeRefusal("malformed", "x".repeat(5_000))).sentence.length <= 400)
  t.throws(() => decodeHello(encodeHello({ ...hello, min: 8 })), /lowest version is above/)
  t.end()
})

t.test("two nodes meet in the highest version; one that is too old reads both ranges and keeps the sentence", async (t) => {
  const directory = t.testdir({ a: {}, b: {}, old: {} })
  const hub = makeHub()
  const everyone = ["a", "b", "old"].map(admission)
  const a = await party(t, directory, hub, "a", everyone, { session: { versions: { min: 3, max: 6 } } })
  const b = await party(t, directory, hub, "b", everyone, { session: { versions: { min: 2, max: 5 } } })
  const old = await party(t, directory, hub, "old", everyone, { session: { versions: { min: 1, max: 2 } } })
  hub.separate(deviceOf("b"), deviceOf("old"))
  await Promise.all([a, b, old].map(({ swarm }) => swarm.start()))
  await until("a and b are in touch", () => ready(a.swarm) === 1 && ready(b.swarm) === 1)
  t.same([a, b].map(({ swarm }) => swarm.sessions().find(({ phase }) => phase === "ready")?.version), [5, 5])
  await until("the old one was told", () => old.swarm.refusals().length === 1)
  t.match(old.swarm.refusals(), [{ device: deviceOf("a"), refusal: "version", sentence: "speak a newer version: it speaks 3 to 6, this node 1 to 2" }])
  t.ok(old.host.notices.some((text) => text.includes("speak a newer version: it speaks 3 to 6, this node 1 to 2")))
})

t.test("a device that was revoked while it was away is told by whom and when, gets what proves it, and nothing else", async (t) => {
  const directory = t.testdir({ a: {}, gone: {} })
  const hub = makeHub()
  const both = ["a", "gone"].map(admission)
  const expulsion = revoke(deviceOf("gone"), 3)
  const a = await party(t, directory, hub, "a", [...both, expulsion, admission("later")])
  const gone = await party(t, directory, hub, "gone", both)
  await a.host.append(blocks(20, "not for it"))
  await gone.host.append(blocks(5, "gone"))
  await Promise.all([a, gone].map(({ swarm }) => swarm.start()))
  await until("it reads why", () => gone.swarm.refusals().length === 1)
  t.match(gone.swarm.refusals(), [{ device: deviceOf("a"), refusal: "revoked", sentence: "you were revoked by alpha on 2026-11-23" }])
  t.equal(gone.host.membership.standing(deviceOf("gone")), "revoked", "so it knows, and stops writing")
  t.equal(gone.host.membership.standing(deviceOf("later")), "unknown", "but not what came after")
  t.equal(gone.host.did.includes("took 1"), true)
  t.same([gone.host.lengthOf(a.host.ownLog), gone.host.held.size, gone.host.cursors.size], [0, 0, 0], "no head, no block")
  t.same([a.host.lengthOf(gone.host.ownLog), a.host.held.size], [0, 0], "and nothing is taken from it")
  t.same(a.host.opened, [])
  await until("it was cut off", () => hub.connections().length === 0)
  await hub.meet()
  t.equal(hub.connections().length, 0, "not again within the minute")
})

t.test("a device that was put out comes as far as the hello once a minute, however many there are", (t) => {
  let now = 1_000
  const door = makeDoor(() => now, () => 60_000, 3)
  t.ok(door.isOpen("a"))
  door.enter("a")
  t.notOk(door.isOpen("a"))
  t.ok(door.isOpen("b"))
  now += 59_999
  t.notOk(door.isOpen("a"))
  now += 1
  t.ok(door.isOpen("a"))
  for (const device of ["a", "b", "c", "d"]) door.enter(device)
  t.ok(door.isOpen("a"), "the oldest is forgotten")
  t.notOk(door.isOpen("d"))
  now = 0
  t.ok(door.isOpen("d"), "a clock that was set back locks nobody out for ever")
  t.end()
})

t.test("two that revoked each other both learn of it", async (t) => {
  const directory = t.testdir({ a: {}, b: {} })
  const hub = makeHub()
  const both = ["a", "b"].map(admission)
  const a = await party(t, directory, hub, "a", [...both, revoke(deviceOf("b"), 0, "a")])
  const b = await party(t, directory, hub, "b", [...both, revoke(deviceOf("a"), 0, "b")])
  await Promise.all([a, b].map(({ swarm }) => swarm.start()))
  await until("one was told", () => a.swarm.refusals().length + b.swarm.refusals().length > 0)
  await until("both know", () => [a, b].every(({ host }) => host.membership.standing(host.device) === "revoked"))
  await until("both were told", () => [a, b].every(({ swarm }) => swarm.refusals().length === 1))
  t.ok([...a.swarm.refusals(), ...b.swarm.refusals()].every(({ refusal }) => refusal === "revoked"))
})

t.test("a revoked device gets a sentence, but a stranger and a device without the mesh key get no operations", async (t) => {
  const directory = t.testdir({ a: {}, x: {} })
  const hub = makeHub()
  const a = await party(t, directory, hub, "a", [...["a", "x"].map(admission), revoke(deviceOf("x"), 0)])
  const x = await makeHost(`${directory}/x`, "x", { ...mesh, key: testMesh("other").key }, ["a", "x"].map(admission))
  const swarm = makeSwarm(x, () => [hub.carrier()], options)
  t.teardown(async () => {
    await swarm.stop()
    await x.close()
  })
  await Promise.all([a.swarm.start(), swarm.start()])
  // Another mesh key is another topic: the connection is made by hand.
  const [left, right] = await connectPair(x.keyPair, a.host.keyPair)
  const carrier = hub.accept(deviceOf("a"))
  const other = hub.accept(deviceOf("x"))
  carrier(right)
  other(left)
  await until("it was refused", () => swarm.refusals().length === 1)
  t.match(swarm.refusals(), [{ refusal: "notMember", sentence: /the proof of the mesh's key does not fit/ }])
  t.equal(x.membership.standing(deviceOf("x")), "member", "no operation came")
})

t.test("a node that was away learns of a revocation before it takes a head or a block from anybody", async (t) => {
  const directory = t.testdir({ a: {}, b: {}, gone: {} })
  const hub = makeHub()
  const everyone = ["a", "b", "gone"].map(admission)
  const [a, b, gone] = [await party(t, directory, hub, "a", everyone), await party(t, directory, hub, "b", everyone), await party(t, directory, hub, "gone", everyone)]
  await b.host.append(blocks(10, "b"))
  await gone.host.append(blocks(6, "gone"))
  hub.separate(deviceOf("a"), deviceOf("gone"))
  await Promise.all([b, gone].map(({ swarm }) => swarm.start()))
  await until("b holds the log of the one that will go", () => b.host.lengthOf(gone.host.ownLog) === 6)
  await b.host.membership.offer([revoke(deviceOf("gone"), 6)])
  await until("it is out", () => ready(b.swarm) === 0)
  a.host.did.length = 0
  await a.swarm.start()
  await until("a has all", () => a.host.lengthOf(b.host.ownLog) === 10 && a.host.lengthOf(gone.host.ownLog) === 6)
  t.equal(a.host.did[0], "took 1", `membership first: ${a.host.did.slice(0, 3).map((what) => what.slice(0, 14)).join(", ")}`)
  t.ok(a.host.did.some((what) => what.startsWith("opened ")) && a.host.did.some((what) => what.startsWith("grew ")))
  hub.reunite(deviceOf("a"), deviceOf("gone"))
  await hub.meet()
  await until("and a refuses it too", () => gone.swarm.refusals().some(({ device }) => device === deviceOf("a")))
  t.equal(ready(a.swarm), 1)
})

t.test("a device that was put out may come with a new invite", async (t) => {
  const directory = t.testdir({ a: {}, gone: {} })
  const hub = makeHub()
  const invite = keysOf("invite")
  const a = await party(t, directory, hub, "a", [...["a", "gone"].map(admission), revoke(deviceOf("gone"), 0)], {
    redeem: async (question) => question.byteLength === 1 ? { offered: Buffer.of(7) } : { accepted: Buffer.from("welcome back") }
  })
  const host = await makeHost(`${directory}/gone`, "gone", testMesh("alone"), [admission("gone")])
  const gone = makeSwarm(host, () => [hub.carrier()], options)
  t.teardown(async () => {
    await gone.stop()
    await host.close()
  })
  await Promise.all([a.swarm.start(), gone.start()])
  await a.swarm.openInvite(invite.publicKey)
  const side: Candidate = { open: () => Buffer.of(1), request: () => ({ request: Buffer.of(2, 2) }), waiting: () => undefined, check: async () => undefined }
  const found = await gone.pair(invite.publicKey, side, 3_000)
  t.ok(found !== undefined && "accepted" in found && Buffer.from(found.accepted).toString() === "welcome back")
})

t.test("a candidate waits for a person beyond its own time, and one that is declined reads so", async (t) => {
  const directory = t.testdir({ a: {}, n: {} })
  const hub = makeHub()
  const invite = keysOf("invite")
  let decide: (allow: boolean) => void = () => undefined
  let abandoned = 0
  const a = await party(t, directory, hub, "a", [admission("a")], {
    redeem: async (question) => question.byteLength === 1 ? { offered: Buffer.of(7) } : {
      waiting: Buffer.from("six words"), abandon: () => { abandoned += 1 },
      decided: new Promise((resolve) => { decide = (allow) => resolve(allow ? { accepted: Buffer.from("in") } : { refused: "declined", detail: "A person there declined it." }) })
    }
  })
  const host = await makeHost(`${directory}/n`, "n", testMesh("alone"), [admission("n")])
  const n = makeSwarm(host, () => [hub.carrier()], options)
  t.teardown(async () => {
    await n.stop()
    await host.close()
  })
  await Promise.all([a.swarm.start(), n.start()])
  await a.swarm.openInvite(invite.publicKey)
  let shown = ""
  const side: Candidate = {
    open: () => Buffer.of(1), request: () => ({ request: Buffer.of(2, 2) }), check: async () => undefined,
    waiting: (bytes) => {
      shown = Buffer.from(bytes).toString()
      return undefined
    }
  }
  const first = n.pair(invite.publicKey, side, 300)
  await until("it waits", () => shown === "six words")
  await new Promise((resolve) => setTimeout(resolve, 400))
  decide(true)
  t.match(await first, { accepted: Buffer.from("in") }, "the time of the person does not count")
  shown = ""
  await until("gone", () => hub.connections().length === 0)
  const second = n.pair(invite.publicKey, side, 3_000)
  await until("it waits again", () => shown === "six words")
  decide(false)
  t.match(await second, { refused: "declined", detail: "A person there declined it." })
  t.equal(abandoned, 0)
  shown = ""
  await until("gone again", () => hub.connections().length === 0)
  const third = n.pair(invite.publicKey, side, 100)
  await until("it waits a third time", () => shown === "six words")
  for (const key of hub.connections()) hub.cut(key)
  t.equal(await third, undefined, "the line broke, and its time is over")
  await until("nobody is waited for", () => abandoned === 1)
})
