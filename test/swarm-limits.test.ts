/** What is neither asked for nor served of a log that was cut off, and members that write too fast. */
import t, { type Test } from "tap"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import { beyondCutBlocksMax } from "../src/projections/documents/limits.ts"
import { makeQuota, pausedAtBursts, quotaDefaults } from "../src/swarm/quota.ts"
import { makeSwarm, type Swarm, type SwarmOptions } from "../src/swarm/swarm.ts"
import { admit, keysOf, logKeyOf, makeHost, makeHub, revoke, testMesh, until, type TestHost } from "./swarm-host.ts"

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

t.test("an expelled device that tries through a third one gets nothing far beyond its cut-off to anybody", async (t) => {
  const directory = t.testdir({ a: {}, b: {} })
  const hub = makeHub()
  const gone = keysOf("gone")
  const log = logKeyOf(gone)
  const everyone = ["a", "b", "gone"].map(admission)
  const cutAt = 10
  // The third one, b, took everything before it heard of the revocation.
  const a = await party(t, directory, hub, "a", everyone)
  const b = await party(t, directory, hub, "b", everyone)
  await b.host.append(Array.from({ length: cutAt + beyondCutBlocksMax + 200 }, (_, index) => utf8(`${index}`)), gone)
  await b.host.membership.offer([revoke(deviceOf("gone"), cutAt)])
  await Promise.all([a, b].map(({ swarm }) => swarm.start()))
  await until("a took what may be needed", () => a.host.lengthOf(log) === cutAt + beyondCutBlocksMax, 20_000)
  t.ok(await a.swarm.waitSynced(2_000), "and misses nothing")
  t.equal(a.host.held.get(deviceOf("b"))?.get(log), cutAt + beyondCutBlocksMax, "more is not even told of")
  // Asked for all the same, past our own rules: it is not served.
  const core = await a.host.logs.open(log)
  const stream = hub.streamOf(deviceOf("a"))
  core.replicate(Reflect.get(stream, "userData"))
  await until("the channel is open", () => core.peers.length > 0)
  const beyond = await core.get(cutAt + beyondCutBlocksMax + 50, { timeout: 300 }).catch(() => null)
  t.equal(beyond, null)
  await core.close()
  t.equal(a.host.lengthOf(log), cutAt + beyondCutBlocksMax)
})

t.test("a cut-off that comes during a download ends it there", async (t) => {
  const directory = t.testdir({ a: {}, b: {} })
  const hub = makeHub()
  const gone = keysOf("gone")
  const log = logKeyOf(gone)
  const everyone = ["a", "b", "gone"].map(admission)
  const a = await party(t, directory, hub, "a", everyone)
  const b = await party(t, directory, hub, "b", everyone)
  await b.host.append(Array.from({ length: 6_000 }, () => Buffer.alloc(100, 1)), gone)
  await Promise.all([a, b].map(({ swarm }) => swarm.start()))
  await until("it is under way", () => a.host.lengthOf(log) > 100)
  await a.host.membership.offer([revoke(deviceOf("gone"), 0)])
  await until("it ended", () => a.swarm.sessions().every(({ ahead }) => ahead === 0), 20_000)
  t.ok(a.host.lengthOf(log) <= beyondCutBlocksMax, `${a.host.lengthOf(log)} blocks`)
})

t.test("how fast a member may write: slowed beyond its credit, paused beyond ten bursts, and weeks away are no flood", (t) => {
  let now = 0
  const quota = makeQuota({ ...quotaDefaults, now: () => now, blocksPerMinuteMax: 600 })
  const log = "log"
  t.notOk(quota.told(log, 5_000_000), "what it brings at the first meeting is no flood")
  t.equal(quota.upTo(log), Number.MAX_SAFE_INTEGER)
  quota.present(log)
  t.notOk(quota.told(log, 5_000_600), "a burst")
  t.equal(quota.upTo(log), Number.MAX_SAFE_INTEGER)
  t.ok(quota.told(log, 5_000_900), "300 beyond")
  t.equal(quota.upTo(log), 5_000_600)
  t.match(quota.slowed(), [{ log, state: "slowed", beyond: 300, until: 30_000 }])
  now = 10_000
  t.equal(quota.upTo(log), 5_000_700, "100 more after ten seconds")
  now = 30_000
  t.equal(quota.upTo(log), Number.MAX_SAFE_INTEGER)
  t.same(quota.slowed(), [])
  quota.present(log)
  let length = 5_000_900
  length += pausedAtBursts * 600 + 100
  t.ok(quota.told(log, length))
  t.match(quota.slowed(), [{ state: "paused", until: now + 60_000 }])
  t.equal(quota.upTo(log), 0)
  now += 60_001
  t.match(quota.slowed(), [{ state: "slowed" }], "after the pause it is taken again, slowly")
  length += 5_000
  t.ok(quota.told(log, length))
  t.match(quota.slowed(), [{ state: "paused", until: now + 120_000 }], "the next pause is twice as long")
  for (let round = 0; round < 12; round += 1) {
    now = (quota.slowed()[0]?.until ?? 0) + 1
    length += 600_000
    quota.told(log, length)
  }
  t.equal((quota.slowed()[0]?.until ?? 0) - now, 3_600_000, "an hour at most")
  quota.away(log)
  now += 6 * 7 * 24 * 3_600_000
  length += 20_000_000
  t.notOk(quota.told(log, length), "weeks of credit for weeks of blocks")
  t.same(quota.slowed(), [])
  quota.present(log)
  quota.away(log)
  now += 1_000
  length += 5_000
  t.ok(quota.told(log, length), "going away for a second is no way around")
  now -= 1_000_000
  t.equal(quota.slowed().length, 1, "a clock set back gives no credit")
  const off = makeQuota({ ...quotaDefaults, now: () => now, blocksPerMinuteMax: 0 })
  t.notOk(off.told(log, 1) || off.told(log, 1e9))
  t.end()
})

t.test("a member that floods is slowed, then paused, and said so; what others write goes on", async (t) => {
  const directory = t.testdir({ a: {}, b: {}, flood: {} })
  const hub = makeHub()
  let skew = 0
  const clock = { now: () => performance.now() + skew }
  const everyone = ["a", "b", "flood"].map(admission)
  const limited = { ...clock, replication: { ...options.replication, memberBlocksPerMinuteMax: 120 } }
  const a = await party(t, directory, hub, "a", everyone, limited)
  const b = await party(t, directory, hub, "b", everyone)
  const flood = await party(t, directory, hub, "flood", everyone)
  hub.separate(deviceOf("b"), deviceOf("flood"))
  await flood.host.append(blocks(1_500, "weeks of work"))
  await Promise.all([a, b, flood].map(({ swarm }) => swarm.start()))
  await until("a has what was there when they met", () => a.host.lengthOf(flood.host.ownLog) === 1_500)
  await until("they have told all", () => a.swarm.sessions().every(({ caughtUp }) => caughtUp))
  t.same(a.swarm.slowed(), [], "catching up is no flood")
  await flood.host.append(blocks(300, "too fast"))
  await until("it is slowed", () => a.swarm.slowed().length === 1)
  t.match(a.swarm.slowed(), [{ log: flood.host.ownLog, state: "slowed" }])
  await until("its allowance is taken", () => a.host.lengthOf(flood.host.ownLog) >= 1_619)
  t.ok(a.host.lengthOf(flood.host.ownLog) < 1_700, `${a.host.lengthOf(flood.host.ownLog) - 1_500} of 300`)
  t.ok(a.host.notices.some((text) => text.startsWith(`warn ${deviceOf("flood").slice(0, 8)} writes faster than 120 blocks a minute`)))
  skew += 60_000
  await until("more a minute later", () => a.host.lengthOf(flood.host.ownLog) >= 1_730)
  await flood.host.append(blocks(1_400, "much too fast"))
  await until("it is paused", () => a.swarm.slowed()[0]?.state === "paused")
  t.ok(a.host.notices.some((text) => text.includes("nothing of it is taken for 60 s")))
  await b.host.append(blocks(50, "b"))
  await until("others go on", () => a.host.lengthOf(b.host.ownLog) === 50)
  // Blocks that were asked for before the pause may land in it; of the 1,400 new ones none is asked for.
  const before = a.host.lengthOf(flood.host.ownLog)
  t.ok(before < 1_800, `${before - 1_500} of 1,700`)
  await b.host.append(blocks(50, "b again"))
  await until("and on", () => a.host.lengthOf(b.host.ownLog) === 100)
  t.ok(a.host.lengthOf(flood.host.ownLog) < 1_800)
  skew += 3 * 3_600_000
  await until("in the end all is taken", () => a.host.lengthOf(flood.host.ownLog) === 3_200, 20_000)
  t.same(a.swarm.slowed(), [])
})
