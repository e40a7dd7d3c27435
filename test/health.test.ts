/** Is a version healthy? Rule R6.3. */
import { existsSync, readFileSync } from "node:fs"
import { setTimeout as delay } from "node:timers/promises"
import { Effect } from "effect"
import t from "tap"
import { type HealthSource, type HealthyMesh, meshSources, outputBytesMax, releaseSources, runCheck, watchHealth } from "../src/boot/health.ts"
import { eventually } from "./daemon-process.ts"

const tick = (): number => performance.now()
const source = (name: string, answer: () => boolean | Promise<boolean>): HealthSource => ({ name, ask: async () => ({ name, ok: await answer(), detail: "" }) })
const watch = (sources: ReadonlyArray<HealthSource>, more: Partial<Parameters<typeof watchHealth>[0]> = {}) =>
  Effect.runPromise(watchHealth({ sources, healthyMs: 60, deadlineMs: 400, everyMs: 5, tick, ...more }))

t.test("good when all say yes for long enough without a break", async (t) => {
  const said: Array<string> = []
  let rounds = 0
  const verdict = await watch([source("steady", () => true), source("late", () => { rounds++; return rounds > 3 && rounds !== 6 })], {
    onChecks: (checks) => {
      said.push(checks.map(({ ok }) => (ok ? "+" : "-")).join(""))
      // A report that does not get through must not take a good version back.
      throw new Error("nobody listens")
    }
  })
  t.match(verdict, { ok: true, checks: [{ name: "steady", ok: true }, { name: "late", ok: true }], why: /all 2 checks held for/ })
  t.ok(verdict.ms >= 60)
  t.same(said, ["+-", "++", "+-", "++"], "told when something changed")
  t.ok(rounds > 6, "the break began the time anew")
})

t.test("not good when it takes too long, and it is said what was missing", async (t) => {
  const verdict = await watch([source("fine", () => true), source("peers", () => false)], { deadlineMs: 50 })
  t.match(verdict, { ok: false, why: "not healthy within 0.1 s: peers" })
  let round = 0
  t.match(await watch([source("shaky", () => round++ % 2 === 0)], { deadlineMs: 50, healthyMs: 40 }), { ok: false })
})

t.test("time that began within the deadline may end after it", async (t) => {
  const began = tick()
  t.match(await watch([source("late", () => tick() - began > 80)], { deadlineMs: 100, healthyMs: 100 }), { ok: true })
})

t.test("a source that throws or never answers says no", async (t) => {
  const verdict = await watch([
    { name: "throws", ask: () => Promise.reject(new Error("the disk\u0007 is gone")) },
    { name: "hangs", msMax: 20, ask: () => new Promise(() => undefined) }
  ], { deadlineMs: 30 })
  t.match(verdict, { ok: false, checks: [{ name: "throws", ok: false, detail: "the disk  is gone" }, { name: "hangs", ok: false, detail: "no answer within 0 s" }] })
})

const mesh = (more: { readonly [Key in keyof HealthyMesh]?: Partial<HealthyMesh[Key]> }): HealthyMesh => ({
  startedMs: 1_000_000, diskFree: () => Promise.resolve(1e9),
  journal: { canAppend: () => true, length: () => 7, ...more.journal },
  runner: { fault: undefined, behind: () => 0, ...more.runner },
  swarm: { mode: () => "joined", paused: () => false, sessions: () => [], ...more.swarm },
  tables: { receipts: { peers: () => [] }, ...more.tables }
})
const peer = (device: string, lastDownMs: number | undefined) => ({ device, carrier: "lan", remote: "", up: false, lastUpMs: undefined, lastDownMs })
const ask = async (sources: ReadonlyArray<HealthSource>): Promise<ReadonlyArray<string>> => {
  const all = await Promise.all(sources.map(({ name, ask: question }) => question(AbortSignal.timeout(1_000)).catch((cause: Error) => ({ name, ok: false, detail: cause.message }))))
  return all.map(({ name, ok, detail }) => `${ok ? "+" : "-"} ${name}: ${detail}`)
}

t.test("the log: an append of our own must have been taken", async (t) => {
  let appends = 0
  const sources = meshSources(mesh({}), { label: "hill: ", append: () => (++appends < 3 ? Promise.reject(new Error("the disk is full")) : Promise.resolve()) })
  t.equal((await ask(sources))[0], "- hill: log writable: the disk is full")
  t.equal((await ask(sources))[0], "- hill: log writable: the disk is full")
  t.equal((await ask(sources))[0], "+ hill: log writable: 7 blocks")
  await ask(sources)
  t.equal(appends, 3, "once is enough")
  t.equal((await ask(meshSources({ ...mesh({}), diskFree: () => Promise.resolve(1_048_576) }, { append: () => Promise.resolve() })))[0], "- log writable: 1 MiB free")
  t.equal((await ask(meshSources(mesh({ journal: { canAppend: () => false } }), { append: () => Promise.reject(new Error("no key")) })))[0], "+ log writable: a seeder writes nothing")
})

t.test("projections: all folded once, and never far behind after that", async (t) => {
  let behind = 5
  let fault: string | undefined
  const sources = meshSources({ ...mesh({}), runner: { behind: () => behind, get fault() { return fault } } }, { append: () => Promise.resolve() })
  t.equal((await ask(sources))[1], "- projections caught up: 5 blocks behind")
  behind = 0
  t.equal((await ask(sources))[1], "+ projections caught up: 0 blocks behind")
  behind = 400
  t.equal((await ask(sources))[1], "+ projections caught up: 400 blocks behind")
  behind = 5_000
  t.equal((await ask(sources))[1], "- projections caught up: 5000 blocks behind")
  behind = 0
  fault = "disk I/O error"
  t.equal((await ask(sources))[1], "- projections caught up: disk I/O error")
})

t.test("peers: one of those that were in touch shortly before must be reached, unless nobody may be", async (t) => {
  const options = { append: () => Promise.resolve() }
  const session = (device: string) => ({ device, phase: "ready", carrier: "lan", remote: "", initiator: true, version: 1, caughtUp: true, ahead: 0, openLogs: 0, headsSent: 0, headsReceived: 0 })
  const before = { receipts: { peers: () => [peer("a", 999_000), peer("b", 990_000), peer("old", 100), peer("never", undefined), peer("ahead", 9_000_000)] } }
  t.equal((await ask(meshSources(mesh({ tables: { receipts: { peers: () => [peer("old", 100)] } } }), options)))[2], "+ peers reached: skipped: no peer was in touch before")
  t.equal((await ask(meshSources(mesh({ tables: before }), options)))[2], "- peers reached: none of 2 that were in touch before")
  t.equal((await ask(meshSources(mesh({ tables: before, swarm: { mode: () => "isolated" } }), options)))[2], "+ peers reached: skipped: this node is isolated")
  t.equal((await ask(meshSources(mesh({ tables: before, swarm: { paused: () => true } }), options)))[2], "+ peers reached: skipped: sync is paused, or its window is closed")
  let sessions = [session("old")]
  const sources = meshSources(mesh({ tables: before, swarm: { sessions: () => sessions } }), options)
  t.equal((await ask(sources))[2], "- peers reached: none of 2 that were in touch before")
  sessions = [session("b")]
  t.equal((await ask(sources))[2], "+ peers reached: one of 2 that were in touch before")
  sessions = []
  t.equal((await ask(sources))[2], "+ peers reached: one of 2 that were in touch before", "it may leave again")
})

t.test("a release's own checks: exit code, time, little output, an environment of their own", async (t) => {
  const directory = t.testdir({ "check.sh": "#!/bin/sh\necho \"in $(pwd)\"; echo \"$KOS_HOME $SECRET\"\n" })
  const options = { directory, home: "/some/home", node: process.execPath, tick }
  const run = (command: ReadonlyArray<string>, timeoutMs = 5_000) => runCheck({ name: "own", command, timeoutMs }, options, AbortSignal.timeout(10_000))
  process.env["SECRET"] = "told nobody"
  t.same(await run(["/bin/sh", "check.sh"]), { name: "own", ok: true, detail: "/some/home" })
  t.match(await run(["{node}", "-p", "process.versions.node.split('.')[0] >= 24"]), { ok: true, detail: "true" })
  t.same(await run(["/bin/sh", "-c", "echo the valve is stuck >&2; exit 3"]), { name: "own", ok: false, detail: "exit code 3: the valve is stuck" })
  t.match(await run(["./missing"]), { ok: false, detail: /cannot be run/ })
  t.match(await run(["/bin/sh", "-c", "kill -9 $$"]), { ok: false, detail: "ended by SIGKILL" })
  const endless = await run(["/bin/sh", "-c", "yes 'line after line'"], 300)
  t.match(endless, { ok: false, detail: "no answer within 0.3 s" })
  const long = await run(["/bin/sh", "-c", `head -c ${outputBytesMax * 4} /dev/zero | tr '\\0' x`])
  t.ok(long.ok && long.detail.length <= 256)
  const began = tick()
  t.match(await run(["/bin/sh", "-c", "(sleep 30; echo late) & echo $! > child; exit 0"], 5_000), { ok: true }, "what it leaves running does not hold it up")
  t.ok(tick() - began < 5_000)
  const left = Number(readFileSync(`${directory}/child`, "utf8"))
  t.ok(await eventually(() => !existsSync(`/proc/${left}`) || /^\d+ \(.*\) Z/.test(readFileSync(`/proc/${left}/stat`, "utf8"))), "and is ended")
})

t.test("own checks are not run in every round once they succeeded, and again when they did not", async (t) => {
  const directory = t.testdir({})
  let now = 0
  const [own] = releaseSources([{ name: "own", command: ["/bin/sh", "-c", "echo x >> runs; [ -e works ]"], timeoutMs: 5_000 }], { directory, home: directory, node: process.execPath, tick: () => now })
  const runs = () => readFileSync(`${directory}/runs`, "utf8").length / 2
  if (own === undefined) throw new Error("no source was made")
  const signal = new AbortController().signal
  t.notOk((await own.ask(signal)).ok)
  t.notOk((await own.ask(signal)).ok)
  t.equal(runs(), 2)
  const { writeFileSync } = await import("node:fs")
  writeFileSync(`${directory}/works`, "")
  t.ok((await own.ask(signal)).ok)
  await own.ask(signal)
  t.equal(runs(), 3)
  now = 60_000
  await own.ask(signal)
  t.equal(runs(), 4)
  await delay(1)
})
