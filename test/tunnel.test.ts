/** Streams between two nodes over one connection: the bytes, the brakes, the rules, and what bad peers get. */
import { once } from "node:events"
import { createHash } from "node:crypto"
import type { Duplex } from "node:stream"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import t from "tap"
import { utf8 } from "../src/codec/bytes.ts"
import type { GuardedMux } from "../src/swarm/mux.ts"
import { openWire, type Wire } from "../src/swarm/mux.ts"
import { Writer } from "../src/swarm/wire.ts"
import { connectPair, keysOf, revoke, seeded, until } from "./swarm-host.ts"
import { deviceOf, forA, isReady, mustOpen, pair, readAll, world, type World } from "./tunnel-world.ts"

t.setTimeout(60_000)

const echo = (program: Duplex): void => void program.pipe(program)
const isDestroyed = ({ destroyed }: Duplex): boolean => destroyed
const opened = (stream: Duplex): Promise<Error> => new Promise((resolve) => void stream.once("error", resolve))

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")
/** Bytes of buffers that somebody still holds. */
const liveBytes = (): number => {
  collect()
  return process.memoryUsage().arrayBuffers
}

t.test("a ping comes back, on the one channel, from either side", async (t) => {
  const { a, b } = await pair(t)
  const there = await a.swarm.ping(b.host.device, 2_000)
  t.match(there, { carrier: "memory" })
  t.ok(there !== undefined && there.ms > 0 && there.ms < 1_000)
  t.ok(await b.swarm.ping(a.host.device, 2_000))
  t.equal((await Promise.all(Array.from({ length: 20 }, () => a.swarm.ping(b.host.device, 2_000)))).filter((pinged) => pinged !== undefined).length, 20)
  t.equal(await a.swarm.ping(deviceOf("nobody"), 100), undefined)
})

t.test("both may say the first word at once", async (t) => {
  const other = await pair(t)
  const both = await Promise.all([other.a.swarm.ping(other.b.host.device, 2_000), other.b.swarm.ping(other.a.host.device, 2_000)])
  t.notOk(both.includes(undefined))
})

t.test("a device that pings too fast is not answered for a while, and nothing else", async (t) => {
  const { a, b } = await pair(t, { tunnels: { pingsBurstMax: 5, pingsPerSecondMax: 1 } })
  const answers = await Promise.all(Array.from({ length: 12 }, () => a.swarm.ping(b.host.device, 150)))
  t.equal(answers.filter((answer) => answer !== undefined).length, 5)
  t.ok(isReady(a) && isReady(b))
})

t.test("bytes are equal under random chunking, on many streams at once, and each half ends for itself", async (t) => {
  const { a, b } = await pair(t)
  b.services.rules.set("echo", { serve: echo, allow: forA })
  for (const seed of [1, 2, 3]) {
    const random = seeded(seed)
    await Promise.all(Array.from({ length: 12 }, async (_, n) => {
      const stream = await mustOpen(a, b, "echo")
      const sent: Array<Buffer> = []
      const back = readAll(stream)
      for (let count = Math.floor(random() * 60); count > 0; count -= 1) {
        const size = random() < 0.2 ? Math.floor(random() * 200_000) : Math.floor(random() * 300)
        const part = Buffer.alloc(size, Math.floor(random() * 256))
        sent.push(part)
        if (!stream.write(part)) await once(stream, "drain")
        if (random() < 0.1) await new Promise((resolve) => setImmediate(resolve))
      }
      stream.end()
      const all = await back
      t.equal(createHash("sha256").update(all).digest("hex"), createHash("sha256").update(Buffer.concat(sent)).digest("hex"), `seed ${seed}, stream ${n}: ${all.byteLength} bytes`)
    }))
  }
  await until("all are over", () => b.services.uses.length === 36)
  t.ok(b.services.uses.every(({ use }) => use.why === undefined && use.bytesIn === use.bytesOut), "both sides ended well, and both halves were counted")
})

t.test("a half that is closed leaves the other one open", async (t) => {
  const { a, b } = await pair(t)
  let program: Duplex | undefined
  b.services.rules.set("late", { serve: (given) => { program = given }, allow: forA })
  const stream = await mustOpen(a, b, "late")
  stream.end("question")
  await until("it came", () => program !== undefined)
  if (program === undefined) throw new Error("none")
  t.equal((await readAll(program)).toString(), "question", "the question has an end")
  t.notOk(stream.destroyed)
  for (let n = 0; n < 5; n += 1) program.write(`part ${n};`)
  program.end("that is all")
  t.equal((await readAll(stream)).toString(), "part 0;part 1;part 2;part 3;part 4;that is all")
  await until("closed well", () => b.services.told.includes("closed late: well"))
})

t.test("a slow reader stops the writer at the far end: 50 MB pass and little lies about", async (t) => {
  const { a, b } = await pair(t)
  const total = 50_000_000
  let made = 0
  let taken = 0
  let most = 0
  b.services.rules.set("flood", {
    allow: forA,
    serve: (program) => {
      const more = (): void => {
        while (made < total) {
          const size = Math.min(50_000, total - made)
          made += size
          most = Math.max(most, made - taken)
          if (!program.write(Buffer.alloc(size, made & 255))) return void program.once("drain", more)
        }
        program.end()
      }
      more()
    }
  })
  const stream = await mustOpen(a, b, "flood")
  // For as long as nobody reads, nothing grows.
  let before = -1
  await until("the writer stands", () => {
    const stands = made === before && made > 0
    before = made
    return stands
  })
  t.ok(made < 1_500_000, `${made} bytes were made before the first was read`)
  const memory = liveBytes()
  let peak = 0
  let reads = 0
  for await (const part of stream as AsyncIterable<Buffer>) {
    taken += part.byteLength
    if (++reads % 64 !== 0) continue
    await new Promise((resolve) => setImmediate(resolve))
    peak = Math.max(peak, liveBytes() - memory)
  }
  t.equal(taken, total)
  t.ok(most < 1_500_000, `at most ${most} bytes were made and not yet read`)
  // The sweeper of buffers lags behind on a busy machine.
  t.ok(peak < 30_000_000, `buffers grew by at most ${peak} bytes`)
})

t.test("streams take turns, and neither pings nor replication starve beside them", async (t) => {
  const { a, b } = await pair(t)
  const counts = new Map<Duplex, number>()
  b.services.rules.set("flood", {
    allow: forA,
    serve: (program) => {
      const more = (): void => {
        if (program.destroyed) return
        program.write(Buffer.alloc(60_000))
        // Everything here is in memory: without a pause for timers nobody else would have a turn in this process.
        if (program.writableNeedDrain) program.once("drain", () => setImmediate(more))
        else setImmediate(more)
      }
      more()
    }
  })
  const streams = await Promise.all(Array.from({ length: 4 }, () => mustOpen(a, b, "flood")))
  for (const stream of streams) stream.on("data", (part: Buffer) => counts.set(stream, (counts.get(stream) ?? 0) + part.byteLength))
  await until("it flows", () => Math.min(...streams.map((stream) => counts.get(stream) ?? 0)) > 4_000_000)
  const shares = streams.map((stream) => counts.get(stream) ?? 0)
  t.ok(Math.max(...shares) < 1.5 * Math.min(...shares), `shares: ${shares.join(", ")}`)
  const pinged = await a.swarm.ping(b.host.device, 2_000)
  t.ok((pinged?.ms ?? 9_999) < 500, `a ping took ${pinged?.ms} ms`)
  const begun = performance.now()
  await b.host.append(Array.from({ length: 200 }, (_, n) => utf8(`block ${n}`)))
  await until("the log is there", () => a.host.lengthOf(b.host.ownLog) === 200, 5_000)
  t.ok(performance.now() - begun < 4_000, `200 blocks took ${Math.round(performance.now() - begun)} ms beside four floods`)
  for (const stream of streams) stream.destroy()
  await until("all are closed", () => b.services.told.filter((text) => text === "closed flood: broken").length === 4)
  t.ok(b.services.programs.every(isDestroyed))
})

t.test("what is refused says which, and leaves nothing open", async (t) => {
  const { a, b } = await pair(t, { tunnels: { streamsMax: 4 } })
  const nobody = new Set<string>()
  b.services.rules.set("web", { serve: echo, allow: nobody })
  b.services.rules.set("few", { serve: echo, allow: forA, streamsMax: 2 })
  b.services.rules.set("down", { serve: echo, allow: forA, fails: "nothing listens at 127.0.0.1:80" })
  b.services.rules.set("many", { serve: echo, allow: forA, streamsMax: 100 })
  const ask = (service: string, probe = false) => a.swarm.connect(b.host.device, service, probe)
  t.match(await ask("ftp"), { _tag: "Refused", reason: "unknown", sentence: "cellar has no service called ftp" })
  t.match(await ask("web"), { _tag: "Refused", reason: "denied", sentence: "web is not for attic" })
  t.match(await ask("web", true), { _tag: "Refused", reason: "denied" })
  t.match(await ask("few", true), { _tag: "Allowed" })
  t.equal(b.services.programs.length, 0, "a question alone opens nothing")
  t.match(await ask("down"), { _tag: "Refused", reason: "unreachable", sentence: "nothing listens at 127.0.0.1:80" })
  const two = [await mustOpen(a, b, "few"), await mustOpen(a, b, "few")]
  t.match(await ask("few"), { _tag: "Refused", reason: "busy", sentence: "few has all its 2 connections in use" })
  const more = [await mustOpen(a, b, "many"), await mustOpen(a, b, "many")]
  t.match(await ask("many"), { _tag: "Refused", reason: "busy", sentence: "4 connections are open between the two nodes already" })
  for (const stream of [...two, ...more]) stream.destroy()
  await until("room again", () => b.services.programs.every(isDestroyed))
  await mustOpen(a, b, "few")
  t.match(await a.swarm.connect(deviceOf("nobody"), "few"), { _tag: "Absent" })
  t.match(await b.swarm.connect(a.host.device, "few"), { _tag: "Refused", reason: "unknown" }, "the other way other rules hold")
})

t.test("a node without services lets itself be asked nothing, and says so", async (t) => {
  const directory = t.testdir({ a: {}, b: {} })
  const a = await world(t, directory, "a")
  const b = await world(t, directory, "b")
  const plain = await import("../src/swarm/swarm.ts")
  t.ok(plain.makeSwarm(b.host, () => [], { now: () => 0 }), "services may be left out")
  t.equal(await plain.makeSwarm(b.host, () => [], { now: () => 0 }).ping(a.host.device, 10), undefined)
  t.match(await plain.makeSwarm(b.host, () => [], { now: () => 0 }).connect(a.host.device, "web"), { _tag: "Absent" })
})

t.test("a revocation cuts open streams in the same turn, and so does a rule that is taken away", async (t) => {
  const { a, b } = await pair(t)
  const allow = new Set([a.host.device])
  b.services.rules.set("web", { serve: echo, allow })
  b.services.rules.set("log", { serve: echo, allow: forA })
  const [web, log] = [await mustOpen(a, b, "web"), await mustOpen(a, b, "log")]
  const broken = opened(web)
  allow.clear()
  b.services.changed()
  t.same(b.services.programs.map(isDestroyed), [false, false], "its program is closed in this turn, a moment later")
  await Promise.resolve()
  await new Promise((resolve) => process.nextTick(resolve))
  t.same(b.services.programs.map(isDestroyed), [true, false], "before any other input is looked at")
  t.equal((await broken).message, "web is not for attic")
  t.ok(b.services.told.includes("closed web: cut"))
  t.notOk(log.destroyed, "the other goes on")
  b.services.rules.set("log", { serve: echo, allow: forA, target: "127.0.0.1:81" })
  b.services.changed()
  t.equal((await opened(log)).message, "log is another program now")
  const last = await mustOpen(a, b, "log")
  last.write("x")
  const end = opened(last)
  await b.host.membership.offer([revoke(a.host.device)])
  await new Promise((resolve) => process.nextTick(resolve))
  t.ok(b.services.programs.every(isDestroyed), "revoked")
  t.match((await end).message, /member no more|ended|broke|revoked/)
  t.match(await a.swarm.connect(b.host.device, "log"), { _tag: "Absent" })
})

t.test("what is dialled while the rule goes is not opened", async (t) => {
  const { a, b } = await pair(t)
  let go: () => void = () => undefined
  const waits = new Promise<void>((resolve) => { go = resolve })
  const allow = new Set([a.host.device])
  b.services.rules.set("slow", { serve: echo, allow, waits, streamsMax: 1 })
  const asked = a.swarm.connect(b.host.device, "slow")
  await until("it is dialled", () => b.services.programs.length === 0 && isReady(b))
  t.match(await a.swarm.connect(b.host.device, "slow"), { reason: "busy" }, "what is dialled counts")
  allow.clear()
  b.services.changed()
  t.match(await asked, { _tag: "Refused", reason: "denied" })
  go()
  await until("the connection that came too late is closed", () => b.services.programs.length === 1 && b.services.programs.every(isDestroyed))
})

t.test("an asker that gives up is forgotten, and a stream on which nothing moves is closed", async (t) => {
  const { a, b } = await pair(t, {}, { tunnels: { openMs: 60 } })
  const never = new Promise<void>(() => undefined)
  b.services.rules.set("slow", { serve: echo, allow: forA, waits: never, streamsMax: 1 })
  b.services.rules.set("idle", { serve: echo, allow: forA, idleMs: 80 })
  t.match(await a.swarm.connect(b.host.device, "slow"), { _tag: "Refused", reason: "unreachable" })
  b.services.rules.set("slow", { serve: echo, allow: forA, streamsMax: 1 })
  await until("its place is free", () => isReady(a))
  const stream = await mustOpen(a, b, "slow")
  t.ok(stream)
  const idle = await mustOpen(a, b, "idle")
  t.match((await opened(idle)).message, /nothing moved/)
  t.ok(b.services.told.includes("closed idle: idle"))
  t.equal(stream.destroyed, false)
})

t.test("streams end with their connection, and the next one begins without any", async (t) => {
  const { a, b, connections } = await pair(t)
  b.services.rules.set("web", { serve: echo, allow: forA })
  const stream = await mustOpen(a, b, "web")
  const end = opened(stream)
  connections[0].destroy()
  t.ok(await end, "it was not a good end")
  await until("the program is closed", () => b.services.programs.every(isDestroyed))
  await until("both know", () => !isReady(a) && !isReady(b))
  t.match(await a.swarm.connect(b.host.device, "web"), { _tag: "Absent" })
  const again = await connectPair(a.host.keyPair, b.host.keyPair)
  a.accept(again[0])
  b.accept(again[1])
  await until("both are ready", () => isReady(a) && isReady(b))
  const next = await mustOpen(a, b, "web")
  next.end("hello")
  t.equal((await readAll(next)).toString(), "hello")
})

/** A member that speaks by hand: its swarm has no tunnels, so the channel is the test's. */
const bad = async (t: Parameters<typeof pair>[0]): Promise<{ readonly b: World; readonly meet: () => Promise<{ readonly wire: Wire; readonly heard: Array<number> }> }> => {
  const directory = t.testdir({ a: {}, b: {} })
  const a = await world(t, directory, "a")
  const b = await world(t, directory, "b")
  b.services.rules.set("echo", { serve: echo, allow: forA })
  b.services.rules.set("still", { serve: () => undefined, allow: forA })
  const meet = async () => {
    const [left, right] = await connectPair(keysOf("a"), b.host.keyPair)
    a.accept(left)
    b.accept(right)
    await until("both are ready", () => isReady(a) && isReady(b))
    const mux: GuardedMux = Reflect.get(left.stream, "userData")
    const heard: Array<number> = []
    mux.unpair({ protocol: "kos/tunnel" })
    const wire = openWire(mux, { protocol: "kos/tunnel", bytesMax: Array.from({ length: 9 }, () => 100_000), onMessage: (type) => void heard.push(type), onFault: () => undefined })
    if (wire === undefined) throw new Error("no channel")
    return { wire, heard }
  }
  return { b, meet }
}

const open = (id: number, service: string, probe = 0): Uint8Array => new Writer().uint(id).byte(probe).text(service).take()
const of = (id: number, ...rest: ReadonlyArray<number>): Uint8Array => Buffer.from([id, ...rest])

t.test("messages that break the rules end the session by name; a stream that is over is no rule broken", async (t) => {
  const { b, meet } = await bad(t)
  const big = Buffer.alloc(16_384)
  const data = (id: number, bytes: Uint8Array): Uint8Array => new Writer().uint(id).fixed(bytes).take()
  const hostile: ReadonlyArray<readonly [what: string, accepted: number, messages: ReadonlyArray<readonly [number, Uint8Array]>]> = [
    ["an id of the other side's", 0, [[2, open(3, "echo")]]],
    ["an id that goes back", 1, [[2, open(4, "echo")], [2, open(2, "echo")]]],
    ["the same id twice", 1, [[2, open(2, "echo")], [2, open(2, "echo")]]],
    ["a name that is too long", 0, [[2, open(2, "x".repeat(65))]]],
    ["data before consent", 0, [[2, open(2, "echo")], [5, data(2, big)]]],
    ["data of a stream that never was", 0, [[5, data(2, big)]]],
    ["stream zero", 0, [[5, data(0, big)]]],
    ["consent to what was never asked", 0, [[3, of(1)]]],
    ["a refusal of what was never asked", 0, [[4, of(1, 0, 0)]]],
    ["empty data", 1, [[2, open(2, "echo")], [5, of(2)]]],
    ["too large a piece", 1, [[2, open(2, "echo")], [5, data(2, Buffer.alloc(16_500))]]],
    ["more than the window", 1, [[2, open(2, "still")], ...Array.from({ length: 70 }, () => [5, data(2, big)] as const)]],
    ["credit that was not owed", 1, [[2, open(2, "still")], [6, of(2, 1)]]],
    ["credit of nothing", 1, [[2, open(2, "still")], [6, of(2, 0)]]],
    ["data after the end", 1, [[2, open(2, "still")], [7, of(2)], [5, data(2, big)]]],
    ["two ends", 1, [[2, open(2, "still")], [7, of(2)], [7, of(2)]]],
    ["a ping of the wrong size", 0, [[0, of(1, 2, 3)]]],
    ["a close that is cut short", 1, [[2, open(2, "still")], [8, of(2, 0)]]],
    ["bytes after the end of a message", 1, [[2, open(2, "still")], [7, of(2, 9)]]],
    ["streams without end", 64, Array.from({ length: 400 }, (_, n) => [2, open(2 * n + 2, "ftp")] as const)]
  ]
  for (const [what, accepted, messages] of hostile) {
    const { wire, heard } = await meet()
    const [first, ...rest] = messages
    if (first === undefined) continue
    wire.send(...first)
    if (accepted > 0 && what !== "streams without end") await until(`${what}: consent`, () => heard.includes(3))
    for (const message of rest) wire.send(...message)
    await until(`${what} ends it`, () => b.swarm.sessions().length === 0, 5_000)
    t.ok(b.host.notices.pop()?.includes(deviceOf("a").slice(0, 8)), what)
    await until("its programs are closed", () => b.services.programs.every(isDestroyed))
  }
  const { wire, heard } = await meet()
  wire.send(2, open(2, "echo"))
  await until("consent", () => heard.includes(3))
  wire.send(8, of(2, 0, 0))
  const lates: ReadonlyArray<readonly [number, Uint8Array]> = [[5, data(2, big)], [6, of(2, 9)], [7, of(2)], [8, of(2, 0, 0)], [1, Buffer.alloc(8)]]
  for (const late of lates) wire.send(...late)
  wire.send(0, Buffer.alloc(8, 7))
  await until("it is still there", () => heard.includes(1))
  t.equal(b.swarm.sessions().length, 1)
})

t.test("random bytes on the channel end the session or nothing", async (t) => {
  const { b, meet } = await bad(t)
  const random = seeded(11)
  for (let round = 0; round < 60; round += 1) {
    const { wire } = await meet()
    for (let count = 0; count < 8; count += 1) wire.send(Math.floor(random() * 9), Buffer.from(Array.from({ length: Math.floor(random() * 24) }, () => Math.floor(random() * (random() < 0.7 ? 4 : 256)))))
    wire.close()
    for (const { device } of b.swarm.sessions()) t.equal(device, deviceOf("a"))
    await b.swarm.setMode("isolated")
    await b.swarm.setMode("joined")
  }
  t.ok(b.services.programs.every(isDestroyed))
})
