import { createRequire } from "node:module"
import t, { type Test } from "tap"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import { sign, verify, type KeyPair } from "../src/codec/signature.ts"
import type { Carrier, CarrierOptions, Connection } from "../src/swarm/carrier.ts"
import { openMux } from "../src/swarm/mux.ts"
import { type Candidate, makeWrongInvites, pairingDefaults, requestPairing, type Redeem } from "../src/swarm/pairing.ts"
import { makeSwarm, type Swarm, type SwarmOptions } from "../src/swarm/swarm.ts"
import { Reader, Writer } from "../src/swarm/wire.ts"
import { admit, connectPair, keysOf, logKeyOf, makeHost, makeHub, seeded, testMesh, until, type TestHost } from "./swarm-host.ts"

const mesh = testMesh("hill")
const deviceOf = (name: string): string => toHex(keysOf(name).publicKey)
const admission = (name: string): Uint8Array => admit(deviceOf(name), logKeyOf(keysOf(name)))
const options: SwarmOptions = {
  now: () => performance.now(), replication: { lingerMs: 50, tickMs: 50 },
  session: { farewellMs: 10, helloMs: 300, operationsMs: 300, readyMs: 300 }
}

/** A carrier whose connections the test hands over itself. */
const handCarrier = (): { carrier: Carrier; options: () => CarrierOptions } => {
  let given: CarrierOptions | undefined
  return {
    carrier: {
      name: "memory", start: async (options) => { given = options }, join: async () => undefined, leave: async () => undefined,
      dial: () => undefined, forget: () => undefined, stop: async () => undefined,
      status: () => ({ name: "memory", listening: true, detail: "by hand", connections: 0 })
    },
    options: () => {
      if (given === undefined) throw new Error("not started")
      return given
    }
  }
}

interface Node {
  readonly host: TestHost
  readonly swarm: Swarm
  readonly accept: (connection: Connection) => void
}

const node = async (t: Test, directory: string, name: string, operations: ReadonlyArray<Uint8Array>, over: Partial<SwarmOptions> = {}): Promise<Node> => {
  const host = await makeHost(`${directory}/${name}`, name, mesh, operations)
  const hand = handCarrier()
  const swarm = makeSwarm(host, () => [hand.carrier], { ...options, ...over })
  await swarm.start()
  t.teardown(async () => {
    await swarm.stop()
    await host.close()
  })
  return { host, swarm, accept: (connection) => hand.options().onConnection(connection) }
}

const connect = async (from: KeyPair, to: Node): Promise<Connection> => {
  const [left, right] = await connectPair(from, to.host.keyPair)
  to.accept(right)
  return left
}

t.test("bytes that mean nothing, from strangers, end their connection and nothing else", async (t) => {
  const a = await node(t, t.testdir({ a: {} }), "a", [admission("a")])
  const random = seeded(1)
  const frames = [Buffer.of(0, 1, 0, 0, 0), Buffer.of(0, 1, 255, 255), Buffer.of(0, 2, 9), Buffer.of(0, 0, 1, 255), Buffer.alloc(700_000, 1)]
  for (let round = 0; round < 60; round += 1) {
    const connection = await connect(keysOf(`stranger ${round}`), a)
    const bytes = frames[round] ?? Buffer.from(Array.from({ length: 1 + Math.floor(random() * 40) }, () => Math.floor(random() * (random() < 0.5 ? 6 : 256))))
    connection.stream.write(bytes)
    connection.stream.write(bytes)
    await new Promise((resolve) => setImmediate(resolve))
    if (round >= frames.length) connection.destroy()
  }
  await until("all are gone", () => a.swarm.sessions().length === 0, 5_000)
  t.ok(a.host.notices.some((text) => text.includes(deviceOf("stranger 0").slice(0, 8)) && text.includes("malformed")), "the device is named")
  t.equal(a.host.touchedSeen.length, 0)
})

t.test("strangers have room for eight, five seconds and no more", async (t) => {
  const a = await node(t, t.testdir({ a: {} }), "a", [admission("a")])
  const connections: Array<Connection> = []
  for (let count = 0; count < 12; count += 1) connections.push(await connect(keysOf(`stranger ${count}`), a))
  t.equal(a.swarm.sessions().length, 8)
  await until("the silent are gone", () => a.swarm.sessions().length === 0, 3_000)
  await Promise.all(connections.map(({ closed }) => closed))
})

t.test("a member that sends garbage on a channel of ours is cut off by name, and may come again", async (t) => {
  const everyone = ["a", "m"].map(admission)
  const directory = t.testdir({ a: {}, m: {} })
  const [a, m] = [await node(t, directory, "a", everyone), await node(t, directory, "m", everyone)]
  await a.host.append(Array.from({ length: 20 }, (_, index) => utf8(`a ${index}`)))
  const random = seeded(3)
  for (let round = 0; round < 40; round += 1) {
    const [left, right] = await connectPair(m.host.keyPair, a.host.keyPair)
    m.accept(left)
    a.accept(right)
    await until("ready", () => m.swarm.sessions().some(({ phase }) => phase === "ready"))
    const [channel, type] = [1 + (round % 2), Math.floor(round / 2) % 6]
    left.stream.write(Buffer.from([channel, type, ...Array.from({ length: 120 }, () => Math.floor(random() * 256))]))
    if (type < 5) await until(`channel ${channel} type ${type} ends it`, () => a.swarm.sessions().length === 0, 3_000)
    left.destroy()
    await until("gone", () => a.swarm.sessions().length + m.swarm.sessions().length === 0)
  }
  t.ok(a.host.notices.filter((text) => text.startsWith(`warn ${deviceOf("m").slice(0, 8)}`)).length >= 20)
  t.same(a.host.divergedSeen, [])
  const [left, right] = await connectPair(m.host.keyPair, a.host.keyPair)
  m.accept(left)
  a.accept(right)
  await until("m gets the log", () => m.host.lengthOf(a.host.ownLog) === 20)
})

t.test("a member that claims impossible blocks on a Hypercore channel is cut off before Hypercore believes it", async (t) => {
  const wire: Record<string, unknown> = createRequire(import.meta.url)("hypercore/lib/messages").wire
  const { encode }: { encode: (codec: unknown, value: unknown) => Buffer } = createRequire(import.meta.url)("compact-encoding")
  const everyone = ["a", "m"].map(admission)
  const directory = t.testdir({ a: {}, m: {} })
  const [a, m] = [await node(t, directory, "a", everyone), await node(t, directory, "m", everyone)]
  const node1 = { index: 1, size: 2, hash: Buffer.alloc(32) }
  const hostile: ReadonlyArray<readonly [number, Buffer]> = [
    [8, encode(wire["range"], { start: 2, length: 2 ** 32, drop: false })],
    [5, encode(wire["want"], { start: 2 ** 40, length: 2 ** 40, any: false })],
    [7, encode(wire["bitfield"], { start: 2 ** 50, bitfield: new Uint32Array(1) })],
    [0, encode(wire["sync"], { fork: 0, length: 2 ** 52, remoteLength: 0, canUpgrade: true, uploading: true, downloading: true, hasManifest: true, allowPush: false })],
    [3, encode(wire["data"], {
      request: 2, fork: 2, block: null, hash: null, seek: null, manifest: null,
      upgrade: { start: 0, length: 0, nodes: [node1], additionalNodes: [node1], signature: Buffer.alloc(3) }
    })]
  ]
  for (const [type, bytes] of hostile) {
    await a.host.append([utf8("next")])
    const [left, right] = await connectPair(m.host.keyPair, a.host.keyPair)
    m.accept(left)
    a.accept(right)
    await until("the log is attached", () => m.host.lengthOf(a.host.ownLog) === a.host.lengthOf(a.host.ownLog))
    left.stream.write(Buffer.concat([Buffer.of(3, type), bytes]))
    await until(`type ${type} ends it`, () => a.swarm.sessions().length === 0, 3_000)
    await until("gone", () => m.swarm.sessions().length === 0)
  }
  t.equal(a.host.notices.filter((text) => text.startsWith("warn ") && text.includes("a Hypercore message is malformed")).length, hostile.length)
})

t.test("a log that is none of this mesh is neither opened nor served", async (t) => {
  const everyone = ["a", "m"].map(admission)
  const secret = keysOf("secret")
  const directory = t.testdir({ a: {}, m: {} })
  const a = await node(t, directory, "a", everyone)
  const m = await node(t, directory, "m", [...everyone, admit(deviceOf("m"), logKeyOf(secret))])
  await a.host.append([utf8("not for you")], secret)
  a.host.membership.offer = async () => 0
  a.host.opened.length = 0
  const [left, right] = await connectPair(m.host.keyPair, a.host.keyPair)
  m.accept(left)
  a.accept(right)
  await until("ready", () => m.swarm.sessions().some(({ phase, caughtUp }) => phase === "ready" && caughtUp))
  const core = await m.host.logs.open(logKeyOf(secret))
  core.replicate(Reflect.get(left.stream, "userData"))
  await until("it is noticed", () => a.host.notices.some((text) => text.includes("none of this mesh")))
  t.notOk(a.host.opened.includes(logKeyOf(secret)))
  t.equal(core.peers.length, 0)
  await core.close()
})

t.test("numbers and fields are read exactly or not at all", (t) => {
  for (const value of [0, 1, 127, 128, 16_383, 16_384, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
    t.equal(new Reader("x", new Writer().uint(value).take()).uint(), value)
  }
  t.throws(() => new Reader("x", Buffer.of(128)).uint(), /ends too early/)
  t.throws(() => new Reader("x", Buffer.of(128, 0)).uint(), /needless/)
  t.throws(() => new Reader("x", Buffer.alloc(9, 255)).uint(), /too large|at most/)
  t.throws(() => new Reader("x", Buffer.of(5, 1)).bytes(9), /ends too early/)
  t.throws(() => new Reader("x", Buffer.of(5, 1)).bytes(4), /at most 4/)
  t.end()
})

t.test("an invite admits once, over the swarm, and the reasons of a refusal arrive", async (t) => {
  const directory = t.testdir({ a: {}, n: {}, o: {} })
  const hub = makeHub()
  const invite = keysOf("invite")
  let used = false
  const redeem: Redeem = async (request, device, handshakeHash) => {
    if (request.byteLength === 1) return { offered: Buffer.of(7) }
    const reader = new Reader("request", request)
    const [key, signature] = [reader.fixed(32), reader.fixed(64)]
    if (Buffer.compare(key, invite.publicKey) !== 0) return { refused: "unknown", detail: "no such invite" }
    if (!verify(handshakeHash, signature, key)) return { refused: "malformed", detail: "wrong signature" }
    if (used) return { refused: "used", detail: "by somebody else" }
    used = true
    return { accepted: Buffer.concat([mesh.key, Buffer.from(device, "hex"), Buffer.alloc(500_000, 7)]) }
  }
  const hostA = await makeHost(`${directory}/a`, "a", mesh, [admission("a")])
  const hostN = await makeHost(`${directory}/n`, "n", testMesh("alone"), [admission("n")])
  const swarms = [makeSwarm(hostA, () => [hub.carrier()], { ...options, redeem }), makeSwarm(hostN, () => [hub.carrier()], options)]
  t.teardown(async () => {
    await Promise.all(swarms.map((swarm) => swarm.stop()))
    await Promise.all([hostA.close(), hostN.close()])
  })
  const [a, n] = swarms
  if (a === undefined || n === undefined) throw new Error("two")
  await Promise.all([a.start(), n.start()])
  const build = (key: KeyPair): Candidate => ({
    open: () => Buffer.of(1),
    request: (offered, connection) => offered[0] === 7
      ? { request: new Writer().fixed(invite.publicKey).fixed(sign(connection.handshakeHash, key)).take() } : { refused: "malformed", detail: "no offer" },
    waiting: () => undefined,
    check: async () => undefined
  })
  t.equal(await n.pair(invite.publicKey, build(invite), 200), undefined, "nobody there yet")
  await a.openInvite(invite.publicKey)
  const answer = await n.pair(invite.publicKey, build(keysOf("guess")), 3_000)
  t.match(answer, { refused: "malformed", detail: "wrong signature" })
  await until("gone", () => hub.connections().length === 0)
  const joined = await n.pair(invite.publicKey, build(invite), 3_000)
  if (joined === undefined || !("accepted" in joined)) throw new Error("not accepted")
  t.same(joined.accepted.slice(0, 32), mesh.key)
  t.equal(toHex(joined.accepted.slice(32, 64)), deviceOf("n"), "the device is the one that Noise proved")
  await until("gone again", () => hub.connections().length === 0)
  t.match(await n.pair(invite.publicKey, build(invite), 3_000), { refused: "used" })
  t.same(a.sessions(), [])
})

t.test("ten wrong invites a minute from one address, then a pause", (t) => {
  let now = 0
  const wrong = makeWrongInvites({ ...pairingDefaults, addressesMax: 2 }, () => now)
  for (let count = 0; count < 10; count += 1) {
    t.notOk(wrong.refused("10.0.0.1"))
    wrong.count("10.0.0.1")
  }
  t.ok(wrong.refused("10.0.0.1"))
  t.notOk(wrong.refused("10.0.0.2"))
  now = 60_000
  t.notOk(wrong.refused("10.0.0.1"))
  t.end()
})

t.test("a request that is too large or comes twice is refused", async (t) => {
  const a = await node(t, t.testdir({ a: {} }), "a", [admission("a")], { redeem: async () => ({ refused: "unknown", detail: "x" }) })
  await a.swarm.openInvite(keysOf("invite").publicKey)
  const connection = await connect(keysOf("big"), a)
  const mux = openMux(connection.stream, () => undefined)
  t.match((await requestPairing(connection, mux, pairingDefaults, { open: () => Buffer.alloc(20_000), request: () => ({ request: Buffer.alloc(1) }), waiting: () => undefined, check: async () => undefined }))?.redeemed, { refused: "malformed" })
  await until("gone", () => a.swarm.sessions().length === 0, 3_000)
})
