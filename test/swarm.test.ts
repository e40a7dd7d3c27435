import { contradiction, decodeHistory } from "../src/codec/history.ts"
import t, { type Test } from "tap"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import { makeSwarm, type Swarm, type SwarmOptions } from "../src/swarm/swarm.ts"
import { admit, keysOf, logKeyOf, makeHost, makeHub, revoke, seeded, testMesh, until, type TestHost } from "./swarm-host.ts"

const mesh = testMesh("hill")
const options: SwarmOptions = { now: () => performance.now(), replication: { lingerMs: 100, tickMs: 50, retryMs: 50 }, session: { farewellMs: 20 } }
const deviceOf = (name: string): string => toHex(keysOf(name).publicKey)
const admission = (name: string): Uint8Array => admit(deviceOf(name), logKeyOf(keysOf(name)))
const blocks = (count: number, text: string): ReadonlyArray<Uint8Array> => Array.from({ length: count }, (_, index) => utf8(`${text} ${index}`))

interface World {
  readonly hub: ReturnType<typeof makeHub>
  readonly hosts: ReadonlyArray<TestHost>
  readonly swarms: Array<Swarm>
  readonly host: (name: string) => TestHost
  readonly swarm: (name: string) => Swarm
}

/** Hosts on one hub, each with the operations it is given; nothing is started. */
const world = async (t: Test, operations: Readonly<Record<string, ReadonlyArray<Uint8Array>>>, over: Partial<SwarmOptions> = {}): Promise<World> => {
  const names = Object.keys(operations)
  const directory = t.testdir(Object.fromEntries(names.map((name) => [name, {}])))
  const hub = makeHub()
  const hosts = await Promise.all(names.map((name) => makeHost(`${directory}/${name}`, name, mesh, operations[name] ?? [])))
  const swarms = hosts.map((host) => makeSwarm(host, () => [hub.carrier()], { ...options, ...over }))
  t.teardown(async () => {
    await Promise.all(swarms.map((swarm) => swarm.stop()))
    await Promise.all(hosts.map((host) => host.close()))
  })
  const at = <A>(list: ReadonlyArray<A>, name: string): A => {
    const found = list[names.indexOf(name)]
    if (found === undefined) throw new Error(`no ${name}`)
    return found
  }
  return { hub, hosts, swarms, host: (name) => at(hosts, name), swarm: (name) => at(swarms, name) }
}

const all = (...names: ReadonlyArray<string>): Record<string, ReadonlyArray<Uint8Array>> => Object.fromEntries(names.map((name) => [name, names.map(admission)]))

t.test("three nodes exchange their logs and know who holds what", async (t) => {
  const { hosts, swarms, host } = await world(t, all("a", "b", "c"))
  for (const each of hosts) await each.append(blocks(30, each.name))
  await Promise.all(swarms.map((swarm) => swarm.start()))
  t.same(await Promise.all(swarms.map((swarm) => swarm.waitSynced(10_000, 2))), [true, true, true])
  for (const each of hosts) for (const other of hosts) {
    t.same((await each.blocks(other.ownLog)).map(String), blocks(30, other.name).map((block) => Buffer.from(block).toString()), `${each.name} holds the log of ${other.name}`)
  }
  const [a, b, c] = [host("a"), host("b"), host("c")]
  await a.append(blocks(5, "live"))
  await until("live growth arrives and comes back as a receipt", () => b.lengthOf(a.ownLog) === 35 && a.held.get(c.device)?.get(a.ownLog) === 35 && a.held.get(b.device)?.get(a.ownLog) === 35)
  t.same(hosts.flatMap((each) => each.divergedSeen), [])
})

t.test("of many logs only those that changed are opened", async (t) => {
  const writers = Array.from({ length: 300 }, (_, index) => keysOf(`writer ${index}`))
  const everyone = [admit(deviceOf("a"), logKeyOf(keysOf("a")), ...writers.map(logKeyOf)), admission("b")]
  const { hub, host, swarm, swarms } = await world(t, { a: everyone, b: everyone })
  const [a, b] = [host("a"), host("b")]
  for (const writer of writers) await a.append(blocks(2, "first"), writer)
  await Promise.all(swarms.map((each) => each.start()))
  t.ok(await swarm("b").waitSynced(20_000))
  t.equal(writers.filter((writer) => b.lengthOf(logKeyOf(writer)) === 2).length, 300)
  await until("all links are closed after their linger", () => swarms.every((each) => each.sessions().every(({ openLogs }) => openLogs === 0)))
  await Promise.all(swarms.map((each) => each.setMode("isolated")))
  t.same([swarm("a").sessions(), swarm("a").carriers(), hub.connections()], [[], [], []], "isolated leaves nothing open")
  for (const writer of writers.slice(100, 115)) await a.append(blocks(1, "later"), writer)
  a.opened.length = 0
  b.opened.length = 0
  await Promise.all(swarms.map((each) => each.setMode("joined")))
  t.ok(await swarm("b").waitSynced(20_000))
  t.equal(writers.filter((writer) => b.lengthOf(logKeyOf(writer)) === 3).length, 15)
  t.equal(swarm("b").sessions()[0]?.headsReceived, 15, "heads of the changed logs only")
  t.same([...new Set(b.opened)].sort(), writers.slice(100, 115).map(logKeyOf).sort())
  t.equal(new Set(a.opened).size, 15)
})

t.test("connections that break at any time only delay", async (t) => {
  const names = ["a", "b", "c", "d"]
  const { hub, hosts, swarms } = await world(t, all(...names))
  const random = seeded(4)
  await Promise.all(swarms.map((swarm) => swarm.start()))
  for (let round = 0; round < 25; round += 1) {
    for (const host of hosts) if (random() < 0.6) await host.append(blocks(1 + Math.floor(random() * 60), `${host.name} ${round}`))
    for (let turns = Math.floor(random() * 30); turns > 0; turns -= 1) await new Promise((resolve) => setImmediate(resolve))
    for (const key of hub.connections()) if (random() < 0.5) hub.cut(key)
    await hub.meet()
  }
  await hub.meet()
  await until("all hold all", () => hosts.every((host) => hosts.every((other) => host.lengthOf(other.ownLog) === other.lengthOf(other.ownLog))), 15_000)
  for (const host of hosts) for (const other of hosts) t.same(await host.blocks(other.ownLog), await other.blocks(other.ownLog))
  t.same(hosts.flatMap((host) => host.divergedSeen), [])
})

t.test("news travel from node to node without a direct connection", async (t) => {
  const { hub, host, swarms } = await world(t, all("a", "b", "c"))
  hub.separate(deviceOf("a"), deviceOf("c"))
  await host("a").append(blocks(40, "a"))
  await Promise.all(swarms.map((swarm) => swarm.start()))
  await until("c holds the log of a", () => host("c").lengthOf(host("a").ownLog) === 40)
  await until("b knows that c holds it", () => host("b").held.get(deviceOf("c"))?.get(host("a").ownLog) === 40)
})

t.test("a device admitted elsewhere brings the proof; one without proof stays out", async (t) => {
  const { host, swarms } = await world(t, { a: [admission("a"), admission("b")], b: [admission("a"), admission("b")], n: ["a", "b", "n"].map(admission), x: [admission("a"), admission("b")] })
  await host("n").append(blocks(3, "n"))
  await Promise.all(swarms.map((swarm) => swarm.start()))
  await until("a and b take the log of the newcomer", () => host("a").lengthOf(host("n").ownLog) === 3 && host("b").lengthOf(host("n").ownLog) === 3)
  t.equal(host("a").membership.standing(deviceOf("n")), "member")
  t.equal(host("a").membership.standing(deviceOf("x")), "unknown")
  t.notOk(host("a").touchedSeen.some(({ device }) => device === deviceOf("x")))
  t.ok(host("x").notices.some((text) => text.includes("you are not a member")) || host("a").notices.some((text) => text.includes("you are not a member")))
})

t.test("a revoked device is cut off in the turn of the news, and its news reach third parties", async (t) => {
  const { hub, host, swarm, swarms } = await world(t, all("a", "b", "c"))
  await Promise.all(swarms.map((each) => each.start()))
  await until("all are in touch", () => swarms.every((each) => each.sessions().filter(({ phase }) => phase === "ready").length === 2))
  const began = performance.now()
  await host("a").membership.offer([revoke(deviceOf("c"))])
  t.same(swarm("a").sessions().map(({ device }) => device).filter((device) => device === deviceOf("c")), [], "at once")
  await until("b heard and cut it too", () => swarm("b").sessions().every(({ device }) => device !== deviceOf("c")), 2_000)
  t.ok(performance.now() - began < 2_000)
  await until("c is told", () => host("c").notices.some((text) => text.includes("you were revoked")))
  await hub.meet()
  t.equal(hub.connections().length, 1, "the firewall refuses it")
})

t.test("a device of another mesh learns nothing and is refused", async (t) => {
  const { host, swarms } = await world(t, all("a"))
  const directory = t.testdir({ z: {} })
  const z = await makeHost(`${directory}/z`, "z", { ...testMesh("other"), key: mesh.key }, ["a", "z"].map(admission))
  const hub = makeHub()
  const [a2, other] = [makeSwarm(host("a"), () => [hub.carrier()], options), makeSwarm(z, () => [hub.carrier()], options)]
  t.teardown(async () => {
    await Promise.all([a2.stop(), other.stop()])
    await z.close()
  })
  await Promise.all([a2.start(), other.start()])
  await until("one of them refuses", () => [...host("a").notices, ...z.notices].some((text) => text.includes("another mesh")))
  await until("the session is over", () => a2.sessions().length === 0 && other.sessions().length === 0)
  t.equal(swarms.length, 1)
})

t.test("pause stops replication but not membership; resume goes on", async (t) => {
  const { host, swarm, swarms } = await world(t, all("a", "b"))
  await Promise.all(swarms.map((each) => each.start()))
  t.ok(await swarm("b").waitSynced(5_000))
  swarm("b").pause()
  await host("a").append(blocks(10, "a"))
  await host("b").append(blocks(10, "b"))
  await until("heads arrive", () => host("b").held.get(deviceOf("a"))?.get(host("a").ownLog) === 10 && host("a").held.get(deviceOf("b"))?.get(host("b").ownLog) === 10)
  await host("a").membership.offer([admission("c")])
  await until("membership goes on", () => host("b").membership.standing(deviceOf("c")) === "member")
  t.same([host("b").lengthOf(host("a").ownLog), host("a").lengthOf(host("b").ownLog)], [0, 0])
  swarm("b").resume()
  await until("both have all", () => host("b").lengthOf(host("a").ownLog) === 10 && host("a").lengthOf(host("b").ownLog) === 10)
})

t.test("a download that was cut short goes on though the cursor has passed it", async (t) => {
  const { hub, host, swarm, swarms } = await world(t, all("a", "b"))
  await host("a").append(blocks(10, "a"))
  await swarm("a").start()
  swarm("b").pause()
  await swarm("b").start()
  await until("b heard of it", () => host("b").cursors.get(deviceOf("a"))?.sequence === 1)
  t.equal(host("b").lengthOf(host("a").ownLog), 0)
  await swarm("b").setMode("isolated")
  swarm("b").resume()
  await swarm("b").setMode("joined")
  await hub.meet()
  await until("b has it", () => host("b").lengthOf(host("a").ownLog) === 10)
  t.equal(swarms.length, 2)
})

t.test("a node that lost the tail of its own log is told, and healed when it asks", async (t) => {
  const { host, swarm, swarms } = await world(t, all("a", "b"))
  const directory = t.testdir({ old: {} })
  await host("a").append(blocks(20, "a"))
  await Promise.all(swarms.map((each) => each.start()))
  await until("b has it", () => host("b").lengthOf(host("a").ownLog) === 20)
  await swarm("a").stop()
  const again = await makeHost(`${directory}/old`, "a", mesh, ["a", "b"].map(admission))
  const hub = makeHub()
  const [lost, peer] = [makeSwarm(again, () => [hub.carrier()], options), makeSwarm(host("b"), () => [hub.carrier()], options)]
  t.teardown(async () => {
    await Promise.all([lost.stop(), peer.stop()])
    await again.close()
  })
  await Promise.all([lost.start(), peer.start()])
  await until("the journal is told", () => again.aheadSeen.length > 0)
  t.match(again.aheadSeen, [{ length: 20, device: deviceOf("b") }])
  t.equal(again.lengthOf(again.ownLog), 0, "nothing is downloaded unasked")
  t.equal(await lost.healOwn(20, 5_000), 20)
  t.same((await again.blocks(again.ownLog)).map(String), (await host("a").blocks(again.ownLog)).map(String))
})

t.test("another history of a log is noticed before it is attached, and kept out", async (t) => {
  const { host, swarms } = await world(t, all("a", "b", "c"))
  const directory = t.testdir({ twin: {} })
  const twin = await makeHost(`${directory}/twin`, "a", mesh, ["a", "b", "c"].map(admission))
  t.teardown(() => twin.close())
  await host("a").append(blocks(10, "a"))
  await Promise.all(swarms.map((each) => each.start()))
  await until("b and c have it", () => ["b", "c"].every((name) => host(name).lengthOf(host("a").ownLog) === 10))
  await twin.append(blocks(15, "rewritten"))
  const hub = makeHub()
  const [rewriter, peer] = [makeSwarm(twin, () => [hub.carrier()], options), makeSwarm(host("b"), () => [hub.carrier()], options)]
  t.teardown(() => Promise.all([rewriter.stop(), peer.stop()]))
  await Promise.all([rewriter.start(), peer.start()])
  await until("b notices", () => host("b").divergedSeen.length > 0)
  t.match(host("b").divergedSeen, [{ log: host("a").ownLog, device: deviceOf("a"), detail: /another history at length 10/, proven: { length: 1 } }])
  const [ours, theirs] = (host("b").divergedSeen[0]?.proven?.histories ?? []).map(decodeHistory)
  t.ok(ours !== undefined && theirs !== undefined && contradiction(host("a").ownLog, ours, theirs) === 1, "anybody can check it")
  await until("the writer notices too", () => twin.divergedSeen.length > 0)
  t.equal(host("b").lengthOf(host("a").ownLog), 10)
  await host("a").append(blocks(1, "goes on"))
  await until("the honest history goes on", () => host("b").lengthOf(host("a").ownLog) === 11)
})

t.test("two histories of equal length are noticed between third parties", async (t) => {
  const { host, swarms } = await world(t, all("b", "c"), { auditDelayMs: 50 })
  const writer = keysOf("w")
  for (const name of ["b", "c"]) {
    await host(name).membership.offer([admission("w")])
    await host(name).append(blocks(5, name), writer)
  }
  await Promise.all(swarms.map((each) => each.start()))
  await until("b and c notice", () => host("b").divergedSeen.length > 0 && host("c").divergedSeen.length > 0)
  t.match(host("b").divergedSeen, [{ log: logKeyOf(writer), device: deviceOf("c"), detail: "another history at length 5", proven: { length: 1 } }])
})

t.test("a limit on bytes a second is kept", async (t) => {
  const { host, swarm, swarms } = await world(t, all("a", "b"), { replication: { ...options.replication, downBytesPerSecondMax: 400_000 } })
  await host("a").append(Array.from({ length: 60 }, () => Buffer.alloc(10_000, 1)))
  const began = performance.now()
  await Promise.all(swarms.map((each) => each.start()))
  t.ok(await swarm("b").waitSynced(10_000))
  const seconds = (performance.now() - began) / 1_000
  t.equal(host("b").lengthOf(host("a").ownLog), 60)
  t.ok(seconds > 0.9 && seconds < 4, `600 kB at 400 kB/s took ${seconds.toFixed(2)} s`)
})
