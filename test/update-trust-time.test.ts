/** Clocks that are wrong, keys that lie about the time: a channel may become stale by them, and nothing worse. */
import t from "tap"
import { acceptTimestamp, decodeFloor, encodeFloor, floorAheadMaxMs, type FloorGround, floorMs, noFloor, noteStep, referenceMs, type TimeFloor } from "../src/updates/metadata/time-floor.ts"
import { device, startMs } from "./update-followed.ts"
import { dayMs, madeKeys, madeRepo } from "./update-repo.ts"

const clocks = { "in 1970": 0, "before 1970": -9e15, "in 2099": Date.UTC(2099, 0, 1), "at the end of time": 8.64e15, "no number": Number.NaN, "endless": Number.POSITIVE_INFINITY }

for (const [name, nowMs] of Object.entries(clocks)) {
  t.test(`a clock ${name}: releases come, and all is well when the clock is`, async (t) => {
    const repo = madeRepo(`clock ${name}`, startMs)
    await repo.release("1.0.0")
    const one = await device(t, repo, { nowMs })
    const ahead = nowMs > startMs && Number.isFinite(nowMs)
    t.equal(await one.check(), `${ahead ? "stale" : "fresh"} 1.0.0`, "behind the floor: judged at the floor; far ahead: at the floor and 400 days")
    await one.channel.stepped(nowMs)
    repo.state.nowMs += 10 * dayMs
    await repo.release("1.1.0")
    t.equal(await one.check(), `${ahead ? "stale" : "fresh"} 1.0.0,1.1.0`)
    one.nowMs = repo.state.nowMs
    t.equal(await one.check(), "fresh 1.0.0,1.1.0", "an honest clock, and the wrong time is forgotten")
    await one.restart()
    t.equal(await one.check(), "fresh 1.0.0,1.1.0")
  })
}

t.test("a clock that jumped ahead by less than can be seen, then is honest: stale until somebody signs again", async (t) => {
  const repo = madeRepo("jump", startMs)
  await repo.release("1.0.0")
  const one = await device(t, repo, { nowMs: startMs + 300 * dayMs })
  t.equal(await one.check(), "stale 1.0.0")
  await one.channel.stepped(one.nowMs)
  one.nowMs = startMs + dayMs
  t.equal(await one.check(), "stale 1.0.0", "this device acted at that time once")
  await one.restart()
  t.equal(await one.check(), "stale 1.0.0")
  repo.state.nowMs = startMs + 10 * dayMs
  one.nowMs = repo.state.nowMs
  await repo.release("1.1.0")
  t.equal(await one.check(), "fresh 1.0.0,1.1.0")
})

t.test("a clock that jumped back does not unfreeze what has expired", async (t) => {
  const repo = madeRepo("back", startMs)
  await repo.release("1.0.0")
  const one = await device(t, repo, { nowMs: startMs + 40 * dayMs })
  t.equal(await one.check(), "stale 1.0.0")
  await one.channel.stepped(one.nowMs)
  one.nowMs = 0
  t.equal(await one.check(), "stale 1.0.0")
  await one.restart()
  t.equal(await one.check(), "stale 1.0.0")
  t.equal(one.channel.referenceMs(), startMs + 40 * dayMs)
})

t.test("a thief of the timestamp key sets the time ahead as far as it goes: a new root undoes it", async (t) => {
  const repo = madeRepo("thief", startMs)
  await repo.release("1.0.0")
  const one = await device(t, repo)
  t.equal(await one.check(), "fresh 1.0.0")
  const far = Date.UTC(2099, 0, 1)
  for (let at = 0; at < 50; at += 1) {
    await repo.writeTimestamp(undefined, { signedMs: far, expiresMs: far + 30 * dayMs })
    await one.check()
  }
  t.equal(one.channel.referenceMs(), startMs + floorAheadMaxMs, "no further than 400 days after what enough keys signed")
  t.equal(one.state().trust, "stale")
  // Without a new root, an honest timestamp is what counts: it was accepted last.
  repo.state.nowMs += 10 * dayMs
  one.nowMs = repo.state.nowMs
  await repo.release("1.1.0")
  t.equal(await one.check(), "fresh 1.0.0,1.1.0")
  // With versions run to their end too, only a new root helps.
  await repo.writeTimestamp(undefined, { signedMs: far, expiresMs: far + 30 * dayMs, version: Number.MAX_SAFE_INTEGER - 1 })
  t.equal(await one.check(), "stale 1.0.0,1.1.0")
  repo.state.timestamp = { keys: madeKeys("thief new timestamp", 1), threshold: 1 }
  repo.state.versions.timestamp = 9
  await repo.writeRoot()
  await repo.release("1.2.0")
  t.equal(await one.check(), "fresh 1.0.0,1.1.0,1.2.0")
  t.equal(one.channel.referenceMs(), one.nowMs)
  await one.restart()
  t.equal(await one.check(), "fresh 1.0.0,1.1.0,1.2.0")
})

t.test("signing times that are none move nothing", async (t) => {
  const repo = madeRepo("nonsense", startMs)
  await repo.release("1.0.0")
  const one = await device(t, repo, { nowMs: 0 })
  t.equal(await one.check(), "fresh 1.0.0")
  for (const signedMs of ["2099", null, -1, 1e300, {}, [], true]) {
    await repo.writeTimestamp(undefined, { signedMs })
    t.equal(await one.check(), "fresh 1.0.0")
    t.equal(one.state().signedMs, 0)
    t.equal(one.channel.referenceMs(), startMs, "the signing time of root and targets is left")
  }
})

t.test("the machine's own clock is not asked by tuf-js", async (t) => {
  // In force around the year 2000: by the machine's clock of today all of it expired long ago.
  const past = Date.UTC(2000, 0, 1)
  const repo = madeRepo("machine", past)
  await repo.release("1.0.0")
  const one = await device(t, repo, { nowMs: past + dayMs, builtMs: past - dayMs })
  t.equal(await one.check(), "fresh 1.0.0")
})

/** A small generator with a seed, so that a failure can be played again. */
const random = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let x = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
  return ((x ^ (x >>> 14)) >>> 0) / 4_294_967_296
}

t.test("property: whatever clocks, steps and one stolen key do, the floor stays near what enough keys signed, and honest signing ends it", async (t) => {
  for (let seed = 1; seed <= 400; seed += 1) {
    const next = random(seed)
    const builtMs = startMs - Math.floor(next() * 900) * dayMs
    let ground: FloorGround = { builtMs, thresholdMs: 0, timestampKeys: ["a"] }
    let floor: TimeFloor = noFloor
    let trueMs = startMs
    const anyMs = () => [0, trueMs, Date.UTC(2099, 0, 1), Number.MAX_SAFE_INTEGER, Number.NaN, startMs + Math.floor((next() - 0.5) * 4_000) * dayMs][Math.floor(next() * 6)] ?? 0
    for (let turn = 0; turn < 40; turn += 1) {
      trueMs += Math.floor(next() * 20) * dayMs
      const before = floorMs(floor, ground)
      const kind = Math.floor(next() * 5)
      if (kind === 0) floor = noteStep(floor, ground, anyMs())
      if (kind === 1) floor = acceptTimestamp(floor, { version: turn, signedMs: anyMs(), expiresMs: anyMs(), signers: ["a"] })
      if (kind === 2) floor = acceptTimestamp(floor, { version: turn, signedMs: trueMs, expiresMs: trueMs + 30 * dayMs, signers: ["a"] })
      if (kind === 3) ground = { ...ground, thresholdMs: trueMs }
      if (kind === 4) {
        const decoded = decodeFloor(encodeFloor(floor))
        t.ok(decoded._tag === "Success")
        if (decoded._tag === "Success") floor = decoded.success
        if (floorMs(floor, ground) !== before) t.fail(`seed ${seed}: writing it changed it`)
      }
      const firm = Math.max(builtMs, ground.thresholdMs)
      const now = floorMs(floor, ground)
      if (now < firm || now > firm + 2 * floorAheadMaxMs) t.fail(`seed ${seed}, turn ${turn}: the floor is ${now}, signed by enough keys is ${firm}`)
      if (kind === 0 && now < before) t.fail(`seed ${seed}: a step lowered the floor`)
      for (const clock of [anyMs(), 0, Number.NaN]) {
        const at = referenceMs(clock, now)
        if (!(at >= now && at <= now + floorAheadMaxMs)) t.fail(`seed ${seed}: judged at ${at} with the floor at ${now}`)
      }
      // However it came to be here: one honest timestamp, and an honest clock or one without battery sees it as fresh.
      const honest = acceptTimestamp(floor, { version: 1_000, signedMs: trueMs, expiresMs: trueMs + 30 * dayMs, signers: ["a"] })
      const fresh = { ...ground, thresholdMs: Math.max(ground.thresholdMs, trueMs - 300 * dayMs) }
      for (const clock of [0, trueMs, trueMs + 20 * dayMs]) {
        if (referenceMs(clock, floorMs(honest, fresh)) >= trueMs + 30 * dayMs) t.fail(`seed ${seed}, turn ${turn}: an honest timestamp counts as expired at clock ${clock}`)
      }
      // And a root without the stolen key ends what it said.
      if (floorMs({ ...floor, stepMs: 0 }, { ...ground, timestampKeys: ["b"] }) !== firm) t.fail(`seed ${seed}: a dead key still moves the floor`)
    }
  }
  t.pass("400 stories of 40 turns")
})

t.test("a floor's file that is none", async (t) => {
  for (const text of ["", "{", "null", "[]", "{}", '{"v":2}', encodeFloor({ ...noFloor, stepMs: -1 }), encodeFloor({ ...noFloor, signedMs: 1e300 }), " ".repeat(20_000)]) t.equal(decodeFloor(text)._tag, "Failure", text.slice(0, 40))
  t.equal(decodeFloor(encodeFloor(noFloor))._tag, "Success")
})
