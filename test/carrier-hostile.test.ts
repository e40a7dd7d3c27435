import net from "node:net"
import t from "tap"
import { randomBytes } from "../src/codec/signature.ts"
import { hostDht } from "../src/swarm/carriers/dht-host.ts"
import { decodePacket, encodeAnnouncement, encodeQuery, packetBytesMax, serviceName, tagsMax } from "../src/swarm/carriers/dns-wire.ts"
import { decodeGreeting, encodeGreeting } from "../src/swarm/carriers/greeting.ts"
import { makeHyperswarmCarrier } from "../src/swarm/carriers/hyperswarm.ts"
import { lanTag, makeLanCarrier, parseHint } from "../src/swarm/carriers/lan.ts"
import { seededRandom } from "../src/swarm/carriers/memory.ts"
import { makeRateLimit } from "../src/swarm/carriers/rate-limit.ts"
import { meet, TestDevice, until } from "./carrier-contract.ts"

const announced = { instance: "00112233445566aa", port: 4242, tags: ["0123456789abcdef", "fedcba9876543210"], ttlSeconds: 120 }

t.test("an announcement and a question survive the wire", async (t) => {
  t.strictSame(decodePacket(encodeAnnouncement(announced, "10.0.0.1")), { asks: false, announced: [announced] })
  t.strictSame(decodePacket(encodeAnnouncement(announced, undefined)), { asks: false, announced: [announced] })
  t.strictSame(decodePacket(encodeQuery()), { asks: true, announced: [] })
  const full = { ...announced, tags: Array.from({ length: tagsMax }, (_, i) => lanTag(new Uint8Array(32).fill(i))) }
  t.ok(encodeAnnouncement(full, "255.255.255.255").byteLength < 512, "the largest announcement stays small")
  t.strictSame(decodePacket(encodeAnnouncement(full, undefined))?.announced, [full])
  t.notOk(encodeAnnouncement(full, undefined).toString("latin1").includes("kos/"), "nothing but tags is said")
})

t.test("hostile packets are refused, quickly and without growing", async (t) => {
  const good = encodeAnnouncement(announced, "10.0.0.1")
  const header = (questions: number, records: number): Buffer => {
    const out = Buffer.alloc(12)
    out.writeUInt16BE(questions, 4)
    out.writeUInt16BE(records, 6)
    return out
  }
  for (const [why, packet] of Object.entries({
    "empty": Buffer.alloc(0),
    "counts beyond the packet": header(65_535, 65_535),
    "one question, no bytes": header(1, 0),
    "a name that points to itself": Buffer.concat([header(1, 0), Buffer.from([0xc0, 12, 0, 12, 0, 1])]),
    "a name that points ahead": Buffer.concat([header(1, 0), Buffer.from([0xc0, 40, 0, 12, 0, 1]), Buffer.alloc(40)]),
    "a label beyond the end": Buffer.concat([header(1, 0), Buffer.from([63, 1, 2])]),
    "a name without end": Buffer.concat([header(1, 0), ...Array.from({ length: 10 }, () => Buffer.concat([Buffer.from([63]), Buffer.alloc(63)]))]),
    "too large": Buffer.concat([good, Buffer.alloc(packetBytesMax)])
  })) t.equal(decodePacket(packet), undefined, why)
  const random = seededRandom(11, "dns")
  const started = performance.now()
  for (let round = 0; round < 5000; round += 1) {
    const packet = Buffer.from(good.subarray(0, Math.floor(random() * (good.byteLength + 1))))
    for (let flips = 0; flips < 4 && packet.byteLength > 0; flips += 1) packet[Math.floor(random() * packet.byteLength)] = Math.floor(random() * 256)
    const packets = decodePacket(packet)
    for (const one of packets?.announced ?? []) {
      if (!/^[0-9a-f]{16}$/.test(one.instance) || one.tags.length > tagsMax || one.port > 65_535) t.fail("a decoded announcement is malformed")
    }
  }
  t.ok(performance.now() - started < 2000, "5000 broken packets take no time")
  t.strictSame(decodePacket(Buffer.from(good.toString("latin1").replace(serviceName.slice(0, 4), "_koz"), "latin1"))?.announced.length, 1,
    "only the owner names count")
})

t.test("greetings of another size or version are none", async (t) => {
  const greeting = { instance: "00112233445566aa", port: 65_535 }
  t.strictSame(decodeGreeting(encodeGreeting(greeting)), greeting)
  t.equal(decodeGreeting(Buffer.alloc(11)), undefined)
  t.equal(decodeGreeting(Buffer.concat([encodeGreeting(greeting), Buffer.alloc(1)])), undefined)
  t.equal(decodeGreeting(Buffer.alloc(0)), undefined)
})

t.test("hints are host and port", async (t) => {
  t.strictSame(parseHint("10.0.0.1:80"), { host: "10.0.0.1", port: 80 })
  t.strictSame(parseHint("attic.local:65535"), { host: "attic.local", port: 65_535 })
  t.strictSame(parseHint("[fe80::1%eth0]:9"), { host: "fe80::1%eth0", port: 9 })
  for (const bad of ["", "x", "x:0", "x:70000", "a b:1", "fe80::1:9", "x:1:2", "[x]:1"]) t.equal(parseHint(bad), undefined, bad)
})

t.test("a rate limit forgets, and never holds more keys than it may", async (t) => {
  let now = 0
  const limit = makeRateLimit({ takesMax: 2, windowMs: 100, keysMax: 2, timers: { now: () => now, after: () => () => {} } })
  t.strictSame(["a", "a", "a", "b", "c"].map((key) => limit.take(key)), [true, true, false, true, false])
  t.equal(limit.spent("a"), true)
  now = 100
  t.strictSame(["c", "a", "b"].map((key) => limit.take(key)), [true, true, false])
})

t.test("strangers on the LAN port cost little and are cut off", async (t) => {
  const carrier = makeLanCarrier({
    host: "127.0.0.1", interfaces: [],
    limits: { greetDeadlineMs: 2500, halfOpenPerAddressMax: 4, failuresPerMinuteMax: 8 }
  })
  const node = new TestDevice(carrier)
  await node.start()
  t.teardown(() => carrier.stop())
  const port = carrier.port() ?? 0
  const knock = (bytes: Uint8Array | undefined): Promise<number> => new Promise((resolve) => {
    const started = performance.now()
    const socket = net.connect(port, "127.0.0.1", () => {
      if (bytes !== undefined) socket.write(bytes)
    })
    socket.on("error", () => {})
    socket.resume()
    socket.on("close", () => resolve(performance.now() - started))
  })
  t.ok(await knock(Buffer.from([255, 255, 255])) < 2000, "a frame of 16 MiB is not waited for")
  t.ok(await knock(Buffer.concat([Buffer.from([32, 0, 0]), Buffer.alloc(32)])) < 2000, "a bad Noise message ends it")
  t.ok(await knock(Buffer.from("GET / HTTP/1.1\r\n\r\n")) < 2000, "so does another protocol")
  const silent = await Promise.all(Array.from({ length: 6 }, () => knock(undefined)))
  t.equal(silent.filter((ms) => ms < 2000).length, 2, "more silent ones than allowed are refused at once")
  t.ok(silent.every((ms) => ms < 6000), "the silent ones go at the deadline")
  await knock(Buffer.from([255, 255, 255]))
  t.ok(await knock(undefined) < 2000, "an address that failed too often is not heard any more")
  t.equal(node.seen.length, 0)
  t.ok(node.notices.length <= 10, `${node.notices.length} notices`)
})

t.test("a port that is taken is noticed and taken later", async (t) => {
  const other = net.createServer()
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve))
  const address = other.address()
  const port = address !== null && typeof address === "object" ? address.port : 0
  const carrier = makeLanCarrier({ host: "127.0.0.1", port, interfaces: [], limits: { relistenMs: 50 } })
  const node = new TestDevice(carrier)
  t.teardown(() => carrier.stop())
  await node.start()
  t.equal(carrier.status().listening, false)
  t.match(node.notices.join(), /cannot listen/)
  await new Promise((resolve) => other.close(resolve))
  await until(() => carrier.status().listening, "it listens once the port is free")
  t.equal(carrier.port(), port)
})

t.test("without multicast the LAN carrier says so once and is dialled by address", async (t) => {
  const carriers = [makeLanCarrier({ host: "127.0.0.1", interfaces: [] }), makeLanCarrier({ host: "127.0.0.1", interfaces: [] })] as const
  const [a, b] = [new TestDevice(carriers[0]), new TestDevice(carriers[1])]
  t.teardown(() => Promise.all(carriers.map((carrier) => carrier.stop())))
  await a.start()
  await b.start()
  await a.carrier.join(randomBytes(32))
  a.carrier.dial(b.device, `127.0.0.1:${carriers[1].port()}`)
  await meet(a, b)
  await until(() => a.notices.some((text) => text.includes("multicast does not work")), "it says so")
  t.equal(a.notices.length, 1)
})

t.test("a swarm that starts before its DHT waits, says so once, and meets when the DHT comes", { timeout: 40_000 }, async (t) => {
  const first = await hostDht({ port: 0, host: "127.0.0.1", nodes: 1 })
  const { port } = first
  await first.stop()
  const make = () => makeHyperswarmCarrier({ bootstrap: [{ host: "127.0.0.1", port }], limits: { tendEveryMs: 1000 } })
  const [a, b] = [new TestDevice(make()), new TestDevice(make())]
  await a.start()
  await b.start()
  t.equal(a.carrier.status().listening, true)
  const topic = randomBytes(32)
  await a.carrier.join(topic)
  await b.carrier.join(topic)
  await until(() => a.notices.some((text) => text.includes("no DHT node answers")), "it says that nobody answers")
  const dht = await hostDht({ port, host: "127.0.0.1", nodes: 1 })
  t.teardown(async () => {
    await a.carrier.stop()
    await b.carrier.stop()
    await dht.stop()
  })
  const started = performance.now()
  await meet(a, b)
  t.comment(`met ${Math.round(performance.now() - started)} ms after the DHT came`)
  t.equal(a.notices.filter((text) => text.includes("no DHT node answers")).length, 1)
})

t.test("a private DHT of four nodes on an address of this machine, or a clear refusal", async (t) => {
  await t.rejects(hostDht({ port: 0, host: "0.0.0.0" }), /is not an IPv4 address/)
  await t.rejects(hostDht({ port: 0, host: "127.0.0.1", nodes: 0 }), /1 to 16/)
  await t.rejects(hostDht({ port: 0, host: "192.0.2.77", nodes: 2 }), /at least 3/)
  const dht = await hostDht({ port: 0, host: "127.0.0.1" })
  await t.rejects(hostDht({ port: dht.port, host: "127.0.0.1" }), /cannot be used/)
  t.equal(dht.nodes, 4)
  await dht.stop()
})
