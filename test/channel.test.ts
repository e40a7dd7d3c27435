/** Logs of channels of releases, exchanged between members over connections in memory. */
import { readdirSync, readFileSync } from "node:fs"
import { rm } from "node:fs/promises"
import Hypercore from "hypercore"
import t, { type Test } from "tap"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import { contradiction, decodeHistory, encodeHistory } from "../src/codec/history.ts"
import { hashParts } from "../src/codec/hash.ts"
import { hypercoreProofSource } from "../src/events/proof.ts"
import { type ChannelStore, makeChannelStore } from "../src/boot/channel-store.ts"
import { channelBlockBytesMax } from "../src/swarm/channels.ts"
import type { Connection } from "../src/swarm/carrier.ts"
import { GuardedMux, openWire } from "../src/swarm/mux.ts"
import { makeSwarm, type Swarm, type SwarmOptions } from "../src/swarm/swarm.ts"
import { discoveryKeyOf } from "../src/swarm/links.ts"
import { admit, keysOf, logKeyOf, makeHost, makeHub, revoke, testMesh, type TestHost, until } from "./swarm-host.ts"

const mesh = testMesh("hill")
const deviceOf = (name: string): string => toHex(keysOf(name).publicKey)
const members = ["a", "b", "c"].map((name) => admit(deviceOf(name), logKeyOf(keysOf(name))))
const options: SwarmOptions = { now: () => performance.now(), replication: { lingerMs: 50, tickMs: 50 }, session: { farewellMs: 10 } }
const publisher = keysOf("publisher")
const channel = logKeyOf(publisher)

interface Node {
  readonly host: TestHost
  readonly swarm: Swarm
  readonly store: ChannelStore
  readonly directory: string
}

const node = async (t: Test, directory: string, name: string, hub: ReturnType<typeof makeHub>, over: Partial<SwarmOptions> = {}): Promise<Node> => {
  const host = await makeHost(`${directory}/${name}/mesh`, name, mesh, members)
  const store = makeChannelStore({ directory: `${directory}/${name}/channels`, notice: host.notice })
  const swarm = makeSwarm(host, () => [hub.carrier()], { ...options, channels: store.logs, ...over })
  t.teardown(async () => {
    await swarm.stop()
    await store.close()
    await host.close()
  })
  return { host, swarm, store, directory: `${directory}/${name}/channels` }
}

interface Spoken {
  readonly send: (type: number, bytes: Uint8Array) => void
  readonly heard: Array<number>
}

/** A member whose swarm knows no channels: the test speaks `kos/channels` for it. */
const hostile = async (t: Test, directory: string, name: string, hub: ReturnType<typeof makeHub>) => {
  const host = await makeHost(`${directory}/${name}/mesh`, name, mesh, members)
  const carrier = hub.carrier()
  const said: { now: Spoken | undefined } = { now: undefined }
  const speak = ({ stream }: Connection): void => {
    const mux: unknown = Reflect.get(stream, "userData")
    if (!(mux instanceof GuardedMux)) throw new Error("the connection has no multiplexer")
    mux.pair({ protocol: "kos/channels" }, () => {
      const heard: Array<number> = []
      const wire = openWire(mux, { protocol: "kos/channels", bytesMax: [9_000, 9_000, 9_000, 9_000], onMessage: (type) => heard.push(type), onFault: (fault) => { throw fault } })
      said.now = { heard, send: (type, bytes) => void wire?.send(type, bytes) }
    })
  }
  const swarm = makeSwarm(host, () => [{ ...carrier, start: (given) => carrier.start({ ...given, onConnection: (connection) => {
    given.onConnection(connection)
    speak(connection)
  } }) }], options)
  t.teardown(async () => {
    await swarm.stop()
    await host.close()
  })
  /** A new connection, and its channel. */
  const meetAgain = async (): Promise<Spoken> => {
    for (const key of hub.connections()) if (key.includes(host.device)) hub.cut(key)
    await until("they are apart", () => !hub.connections().some((key) => key.includes(host.device)))
    said.now = undefined
    await hub.meet()
    await until("the channel is open", () => said.now !== undefined)
    if (said.now === undefined) throw new Error("no channel")
    return said.now
  }
  return { host, swarm, meetAgain }
}

const blocksOf = (from: number, to: number, text = "block"): ReadonlyArray<Uint8Array> =>
  Array.from({ length: to - from }, (_, i) => utf8(`${text} ${from + i} ${"x".repeat((from + i) * 97 % 3_000)}`))

const textOf = async (log: { block: (index: number) => Promise<Uint8Array> }, index: number): Promise<string> =>
  Buffer.from(await log.block(index)).toString().split(" x")[0] ?? ""

t.test("a channel goes from its publisher to a follower, and from there to another one", async (t) => {
  const directory = t.testdir({ relay: {} }) + "/relay"
  const hub = makeHub()
  const [a, b, c] = [await node(t, directory, "a", hub), await node(t, directory, "b", hub), await node(t, directory, "c", hub)]
  hub.separate(a.host.device, c.host.device)
  const own = await a.store.own(publisher)
  t.equal(own.key, channel)
  await own.append(blocksOf(0, 100))
  t.equal(own.length(), 100)
  const [atB, atC] = [await b.store.follow(channel), await c.store.follow(channel)]
  let grown = 0
  atC.onGrow(() => { grown += 1 })
  for (const { swarm } of [a, b, c]) await swarm.start()
  await hub.meet()
  await until("c holds all of it", () => atC.length() === 100)
  t.equal(atB.length(), 100)
  t.ok(grown > 0 && grown <= 100, "those who read were told")
  t.equal(await textOf(atC, 99), "block 99")
  await own.append(blocksOf(100, 140))
  await until("what is appended later comes too", () => atC.length() === 140 && atB.length() === 140)
  t.equal(await textOf(atC, 139), "block 139")
  t.same([atB.fork(), atC.fork(), own.fork()], [undefined, undefined, undefined])
  t.same([a, b, c].flatMap(({ host }) => host.notices.filter((text) => text.startsWith("warn"))), [], "nobody warned of anything")
  await t.rejects(atC.block(140), /not held/, "nothing is waited for")
})

t.test("who follows later gets it then, and who follows no more gets nothing; other channels stay unknown", async (t) => {
  const directory = t.testdir({ later: {} }) + "/later"
  const hub = makeHub()
  const [a, b] = [await node(t, directory, "a", hub), await node(t, directory, "b", hub)]
  const own = await a.store.own(publisher)
  await own.append(blocksOf(0, 10))
  for (const { swarm } of [a, b]) await swarm.start()
  await hub.meet()
  await until("both are in touch", () => b.swarm.sessions().some(({ phase }) => phase === "ready"))
  t.notOk(readdirSync(`${directory}/b`).includes("channels"), "a home that follows nothing opens no store")
  const atB = await b.store.follow(channel)
  await until("b holds it", () => atB.length() === 10)
  await b.store.unfollow(channel)
  await own.append(blocksOf(10, 20))
  const again = await b.store.follow(channel)
  await until("b follows again", () => again.length() === 20)
  await t.rejects(b.store.follow("00"), /64 hex digits/)
  t.same(b.host.notices.filter((text) => text.startsWith("warn")), [])
})

t.test("a member that is revoked gets nothing more, also from a third node, and a paused node exchanges nothing", async (t) => {
  const directory = t.testdir({ revoked: {} }) + "/revoked"
  const hub = makeHub()
  const [a, b, c] = [await node(t, directory, "a", hub), await node(t, directory, "b", hub), await node(t, directory, "c", hub)]
  const own = await a.store.own(publisher)
  await own.append(blocksOf(0, 10))
  const [atB, atC] = [await b.store.follow(channel), await c.store.follow(channel)]
  for (const { swarm } of [a, b, c]) await swarm.start()
  await hub.meet()
  await until("both hold it", () => atB.length() === 10 && atC.length() === 10)
  c.swarm.pause()
  await a.host.membership.offer([revoke(b.host.device)])
  await until("b is out", () => !a.swarm.sessions().some(({ device }) => device === b.host.device))
  await own.append(blocksOf(10, 30))
  await hub.meet()
  c.swarm.resume()
  await until("c goes on", () => atC.length() === 30)
  t.equal(atB.length(), 10, "b has what it had")
})

t.test("two histories that the publisher signed are a fork: both sides stop, keep the proof and what they hold, and stay stopped", async (t) => {
  const directory = t.testdir({ fork: {} }) + "/fork"
  const hub = makeHub()
  const [a, b, c] = [await node(t, directory, "a", hub), await node(t, directory, "b", hub), await node(t, directory, "c", hub)]
  const one = await a.store.own(publisher)
  await one.append([...blocksOf(0, 5), ...blocksOf(5, 9, "one")])
  // The same key on another machine.
  const other = await b.store.own(publisher)
  await other.append([...blocksOf(0, 5), ...blocksOf(5, 7, "other")])
  const stopped: Array<string> = []
  b.store.onStopped((key, why) => stopped.push(`${key === channel} ${why}`))
  const atC = await c.store.follow(channel)
  hub.separate(b.host.device, c.host.device)
  hub.separate(a.host.device, b.host.device)
  for (const { swarm } of [a, b, c]) await swarm.start()
  await hub.meet()
  await until("c holds one of them", () => atC.length() === 9)
  hub.reunite(a.host.device, b.host.device)
  await hub.meet()
  await until("both found it", () => one.fork() !== undefined && other.fork() !== undefined)
  t.match(other.fork(), /two signed histories of it exist, different in the first 7 blocks/)
  t.equal(await textOf(other, 6), "other 6", "what was held stays readable")
  await t.rejects(one.append(blocksOf(9, 10)), /not written any further/)
  await until("it was told", () => stopped.length === 1)
  t.equal(a.store.logs.keys().length, 0)
  const text = readFileSync(`${a.directory}/stopped/${channel}`, "utf8").split("\n")
  const histories = text.slice(1, 3).map((hex) => decodeHistory(Buffer.from(hex, "hex")))
  const [first, second] = histories
  t.ok(first !== undefined && second !== undefined && contradiction(channel, first, second) === 7, "the proof was kept")
  t.equal(atC.fork(), undefined, "c did not hear of it yet")
  // After a restart it is still so; a person can decide.
  await a.swarm.stop()
  await a.store.close()
  const again = makeChannelStore({ directory: a.directory, notice: a.host.notice })
  const read = await again.follow(channel)
  t.match(read.fork(), /two signed histories/)
  t.same(again.logs.keys(), [])
  await again.settle(channel)
  t.same([read.fork(), again.logs.keys()], [undefined, [channel]])
  await again.close()
})

t.test("a fork that comes into being while two are in touch is found as well, and what was held stays readable", async (t) => {
  const directory = t.testdir({ live: {} }) + "/live"
  const hub = makeHub()
  const [a, b] = [await node(t, directory, "a", hub), await node(t, directory, "b", hub)]
  const one = await a.store.own(publisher)
  await one.append(blocksOf(0, 5))
  const other = await b.store.own(publisher)
  for (const { swarm } of [a, b]) await swarm.start()
  await hub.meet()
  await until("b holds it", () => other.length() === 5)
  await Promise.all([one.append(blocksOf(5, 8, "one")), other.append(blocksOf(5, 7, "other"))])
  await until("both found it", () => one.fork() !== undefined && other.fork() !== undefined)
  t.equal(await textOf(one, 7), "one 7")
  t.equal(await textOf(other, 6), "other 6")
  t.same([...a.store.logs.keys(), ...b.store.logs.keys()], [])
})

t.test("claims of a hostile member stop no log: unsigned and foreign histories, empty words, floods", async (t) => {
  const directory = t.testdir({ hostile: {} }) + "/hostile"
  const hub = makeHub()
  const a = await node(t, directory, "a", hub)
  const own = await a.store.own(publisher)
  await own.append(blocksOf(0, 10))
  const session = await a.store.logs.open(channel)
  const history = await hypercoreProofSource(session)?.history(10)
  await session.close()
  if (history === undefined) throw new Error("no history")
  const b = await node(t, directory, "b", hub)
  const m = await hostile(t, directory, "c", hub)
  hub.separate(b.host.device, m.host.device)
  const atB = await b.store.follow(channel)
  for (const { swarm } of [a, b, m]) await swarm.start()
  await hub.meet()
  await until("b holds it", () => atB.length() === 10)
  const lies = [
    encodeHistory({ ...history, signature: new Uint8Array(64) }), encodeHistory({ ...history, signedLength: 2 ** 30 }), encodeHistory({ ...history, length: 9 }),
    new Uint8Array(8_192), utf8("nonsense")
  ]
  const id = Buffer.from(discoveryKeyOf(channel), "hex")
  let noticed = 0
  for (const lie of lies) for (const type of [0, 3]) {
    const { send } = await m.meetAgain()
    send(type, Buffer.concat([id, lie]))
    send(2, id)
    noticed += 1
    await until("it is noticed", () => a.host.notices.filter((text) => /has not signed/.test(text)).length === noticed)
  }
  // What is signed, and shown as if it were another: nothing comes of it.
  const { send, heard } = await m.meetAgain()
  await until("a tells what it holds", () => heard.includes(0))
  send(3, Buffer.concat([id, encodeHistory(history)]))
  await until("that is noticed, too", () => a.host.notices.some((text) => /the same history as another one/.test(text)))
  await own.append(blocksOf(10, 12))
  await until("b follows all the time", () => atB.length() === 12)
  t.same([own.fork(), atB.fork()], [undefined, undefined])
  t.same(a.store.logs.keys(), [channel])
  // Other channels than ours are remembered up to a bound; too many at once, or a malformed message, end the session.
  const flood = await m.meetAgain()
  for (let i = 0; i < 1_100; i += 1) flood.send(0, hashParts("test/id", utf8(`${i}`)))
  await until("a flood ends the session", () => a.host.notices.some((text) => /too many messages at once/.test(text)))
  const short = await m.meetAgain()
  short.send(1, Buffer.alloc(3))
  await until("so does a short message", () => a.host.notices.some((text) => /kos\/channels message 1.*it ends too early/.test(text)))
  t.equal(atB.length(), 12)
})

t.test("blocks beyond the limit stop the log once they are verified", async (t) => {
  const directory = t.testdir({ large: {} }) + "/large"
  const hub = makeHub()
  const [a, b] = [await node(t, directory, "a", hub), await node(t, directory, "b", hub)]
  const own = await a.store.own(publisher)
  await t.rejects(own.append([new Uint8Array(channelBlockBytesMax + 1)]), /1 to 65536 bytes/)
  await own.append([new Uint8Array(channelBlockBytesMax)])
  const atB = await b.store.follow(channel)
  for (const { swarm } of [a, b]) await swarm.start()
  await hub.meet()
  await until("b holds it", () => atB.length() === 1)
  // A publisher whose own node keeps to no limit.
  const raw = await a.store.logs.open(channel)
  if (!(raw instanceof Hypercore)) throw new Error("no Hypercore")
  await raw.append(Buffer.alloc(channelBlockBytesMax + 1), { keyPair: { publicKey: Buffer.from(publisher.publicKey), secretKey: Buffer.from(publisher.secretKey) } })
  await raw.close()
  await until("b stops", () => atB.fork() !== undefined)
  t.match(atB.fork(), /a block of 65537 bytes/)
  t.same(b.store.logs.keys(), [])
})

t.test("a log of ours that lost its tail is not written until a follower gave it back", async (t) => {
  const directory = t.testdir({ tail: {} }) + "/tail"
  const hub = makeHub()
  const [a, b] = [await node(t, directory, "a", hub), await node(t, directory, "b", hub)]
  const own = await a.store.own(publisher)
  await own.append(blocksOf(0, 8))
  const atB = await b.store.follow(channel)
  for (const { swarm } of [a, b]) await swarm.start()
  await hub.meet()
  await until("b holds it", () => atB.length() === 8)
  await a.swarm.stop()
  await a.store.close()
  await rm(`${a.directory}/store`, { recursive: true })
  const store = makeChannelStore({ directory: a.directory, notice: a.host.notice })
  const swarm = makeSwarm(a.host, () => [hub.carrier()], { ...options, channels: store.logs })
  t.teardown(async () => {
    await swarm.stop()
    await store.close()
  })
  const again = await store.own(publisher)
  await t.rejects(again.append(blocksOf(0, 1, "anew")), /it has 0 blocks here and had 8/)
  await swarm.start()
  await hub.meet()
  await until("its tail came back", () => again.length() === 8)
  await again.append(blocksOf(8, 9))
  await until("b follows", () => atB.length() === 9)
  t.same([again.fork(), atB.fork()], [undefined, undefined])
})
