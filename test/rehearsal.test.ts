/** Rehearsals: what travels, what is compared, how well it is shut in, and what a hostile new version gets. With a real tree: test/processes/rehearsal.test.ts. */
import { Result } from "effect"
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import t from "tap"
import type { Rehearsed } from "../src/boot/rehearsal.ts"
import { toHex } from "../src/codec/bytes.ts"
import { compareDigests, differencesMax, differingDocuments, plain } from "../src/updates/rehearsal/compare.ts"
import { confinedLimits, startConfined } from "../src/updates/rehearsal/confined-process.ts"
import { decodeLine, type Digest, type DocumentLine, gatherDigest, type Line } from "../src/updates/rehearsal/digest.ts"
import { findIsolation, isolationLevels } from "../src/updates/rehearsal/isolate.ts"
import { encodeLine, encodeRecord, readLines, readRecords, type Record as Sent } from "../src/updates/rehearsal/wire.ts"
import { openTrials, trialsMax } from "../src/boot/try-modules.ts"
import { fakeTree, now, openNode, processesWith, rehearseHere, workingLevels } from "./rehearsal-world.ts"

const log = "ab".repeat(32)
const hash = (text: string): string => text.padEnd(32, "0").slice(0, 32)

const all = async <A>(items: AsyncIterable<A>): Promise<ReadonlyArray<A>> => {
  const found: Array<A> = []
  for await (const item of items) found.push(item)
  return found
}
/** As text: a view of a Buffer and an array of the same bytes are one. */
const plainly = (records: ReadonlyArray<Sent>) => records.map((record) => record._tag === "Block" ? `${record.log}/${record.index} ${toHex(record.bytes)}`
  : JSON.stringify(record, (_key, value: unknown) => value instanceof Uint8Array ? toHex(value) : value instanceof Map ? [...value] : value))

t.test("records come out as they went in, however the stream is cut", async (t) => {
  const records: ReadonlyArray<Sent> = [
    { _tag: "Begin", begin: { v: 1, mesh: log, device: log, ownLog: log, operations: [new Uint8Array([1, 2, 3])] } },
    { _tag: "Key", epoch: 7, key: new Uint8Array(32).fill(9) },
    { _tag: "Block", log, index: 0, bytes: new Uint8Array(5_000).fill(3) },
    { _tag: "Block", log, index: 1, bytes: new Uint8Array(0) },
    { _tag: "End", logs: new Map([[log, 2]]) },
    { _tag: "Ask", documents: ["memory/a"] }
  ]
  const whole = Buffer.concat(records.map(encodeRecord))
  for (const size of [1, 7, 4_096, whole.byteLength]) {
    const cut = async function*() { for (let at = 0; at < whole.byteLength; at += size) yield whole.subarray(at, at + size) }
    t.same(plainly(await all(readRecords(cut()))), plainly(records), `in pieces of ${size} bytes`)
  }
  const one = async function*(bytes: Uint8Array) { yield bytes }
  const later = Buffer.from([2, 0, 0, 0, 99, 1])
  t.equal((await all(readRecords(one(later)))).length, 0, "a kind of record that a later version has is left out")
  await t.rejects(all(readRecords(one(Buffer.from([255, 255, 255, 255])))), /it says 4294967295 bytes/)
  await t.rejects(all(readRecords(one(whole.subarray(0, whole.byteLength - 1)))), /ends within it/)
  await t.rejects(all(readRecords(one(Buffer.from([3, 0, 0, 0, 1, 0xa1, 0x61])))), /malformed|begin/)
})

t.test("lines of a digest are bounded and decoded", async (t) => {
  const one = async function*(...parts: ReadonlyArray<string>) { for (const part of parts) yield Buffer.from(part) }
  const limits = { lineBytesMax: 100, bytesMax: 1_000 }
  t.same(await all(readLines(one("a\nb", "c\n", "\nd"), limits)), ["a", "bc", ""])
  await t.rejects(all(readLines(one("x".repeat(60), "x".repeat(60)), limits)), /more than 100 bytes/)
  await t.rejects(all(readLines(one(...Array.from({ length: 30 }, () => `${"x".repeat(60)}\n`)), limits)), /more than 1000 bytes/)
  for (const bad of ["", "[]", "nonsense", "{}", '{"kind":"document"}', '{"kind":"totals","events":-1}', '{"kind":"type","type":"a/1","known":1e99,"unknown":0,"quarantined":0}', `{"kind":"member","device":"x","name":"${"n".repeat(400)}","role":"r","standing":"s"}`]) {
    t.ok(Result.isFailure(decodeLine(bad)), `refused: ${bad.slice(0, 60)}`)
  }
  t.same(decodeLine('{"kind":"dances"}'), Result.succeed(undefined), "a later version's line is left out")
  const line: Line = { kind: "setting", path: "a.b", json: "1" }
  t.same(decodeLine(Buffer.from(encodeLine(line)).toString()), Result.succeed(line))
})

const document = (id: string, live = "1", more: Partial<DocumentLine> = {}): DocumentLine => ({
  kind: "document", id, live: hash(live), value: hash(live), heads: hash("h"), conflicts: hash("c"), faults: [], stalled: null, changes: 1, waiting: 0, held: 0, ...more
})
const totals: Line = { kind: "totals", events: 10, documents: 1, operations: 3, epochs: 1, sealed: 0, quarantined: 0, blocks: 5 }
const digest = (...lines: ReadonlyArray<Line>): Digest => {
  const gathered = gatherDigest()
  for (const line of [totals, ...lines]) gathered.add(line)
  const made = gathered.digest()
  if (made === undefined) throw new Error("not whole")
  return made
}
const compare = (live: Digest, fresh: Digest, more: Partial<Parameters<typeof compareDigests>[0]> = {}) => compareDigests({
  live, fresh, values: new Map(), migrations: [], unread: () => 0, describe: ({ block }) => `place ${block}`, nameOf: () => "attic", version: "2.0.0", ...more
})

t.test("differences are named; what is expected or announced does not speak against it", async (t) => {
  const type = (name: string, known: number, unknown = 0, quarantined = 0): Line => ({ kind: "type", type: name, known, unknown, quarantined })
  const live = digest(document("config/mesh/health"), type("memory.changed/1", 4), type("memory.changed/2", 0, 3), { kind: "setting", path: "health.interval", json: '"1m"' })
  t.same(compare(live, live), { differences: [], expected: [], failing: 0 })

  const values = new Map([["config/mesh/health", { live: '{"a":1,"b":2}', fresh: '{"b":2,"a":3}' }]])
  const other = digest(document("config/mesh/health", "2"), type("memory.changed/1", 4), type("memory.changed/2", 0, 3), { kind: "setting", path: "health.interval", json: '"1m"' })
  t.same(differingDocuments(live, other), ["config/mesh/health"])
  t.same(compare(live, other, { values }), { differences: ["document config/mesh/health: a is 1 here and 3 in the new version"], expected: [], failing: 1 })
  t.same(compare(live, other, { values, migrations: ["config/*: a is counted otherwise"] }), {
    differences: [], failing: 0, expected: ["document config/mesh/health: a is 1 here and 3 in the new version (announced: config/*: a is counted otherwise)"]
  })

  const learned = digest(document("config/mesh/health"), type("memory.changed/1", 4), type("memory.changed/2", 3), { kind: "setting", path: "health.interval", json: '"1m"' }, { kind: "setting", path: "new.one", json: "true" })
  t.same(compare(live, learned), { differences: [], failing: 0, expected: ["it reads 3 events of type memory.changed/2, which the running version cannot read", "there is a new setting new.one, which is true"] })

  const forgot = digest(document("config/mesh/health"), type("memory.changed/1", 0, 4), type("memory.changed/2", 0, 3), { kind: "setting", path: "health.interval", json: '"2m"' })
  t.same(compare(live, forgot), {
    failing: 1, expected: [],
    differences: ["it cannot read 4 events of type memory.changed/1, which the running version reads", 'setting health.interval is "1m" here and "2m" in the new version']
  }, "a default that changed is shown, and does not fail it")

  const strict = digest(document("config/mesh/health"), type("memory.changed/1", 3, 0, 1), type("memory.changed/2", 0, 3), { kind: "setting", path: "health.interval", json: '"1m"' }, { kind: "quarantined", log, block: 4, offset: 0, why: "too long" })
  t.same(compare(live, strict), { differences: ["it quarantines 1 that count here (too long): place 4"], expected: [], failing: 1 })
  t.same(compare(strict, live).failing, 0, "letting more count is shown, and does not fail it by itself")
  t.match(compare(strict, live).differences, [/lets 1 count/])

  const lost = digest(type("memory.changed/1", 2), type("memory.changed/2", 0, 3), { kind: "setting", path: "health.interval", json: '"1m"' })
  t.same(compare(live, lost).differences, ["it found 2 events of type memory.changed/1, the running version 4", "document config/mesh/health is missing in the new version"])
  const member = (role: string): Line => ({ kind: "member", device: log, name: "attic", role, standing: "member" })
  t.same(compare(digest(member("owner")), digest(member("reader"))).differences, ["attic is member attic (owner) here and member attic (reader) in the new version"])

  const many = Array.from({ length: 500 }, (_, i) => `memory/p${String(i).padStart(3, "0")}`)
  const flooded = compare(digest(...many.map((id) => document(id))), digest(...many.map((id) => document(id, "2"))))
  t.equal(flooded.failing, 500)
  t.equal(flooded.differences.length, differencesMax)
  t.match(flooded.differences.at(-1), /^and 437 more$/)
  t.equal(plain(`\u001b[31m${"f".repeat(64)}\n`, 100), ` [31m${"f".repeat(8)}… `, "no control characters and no keys in what is shown")
})

/** What a program may not do, whatever it tries; and what it must be able to do. */
const prober = `
import fs from "node:fs"
import net from "node:net"
import cp from "node:child_process"
const [outside, home, port] = process.argv.slice(2)
const said = {}
const tries = (name, run) => { try { said[name] = run() ?? "done" } catch (e) { said[name] = e.code ?? "refused" } }
tries("own", () => fs.writeFileSync("mine", "x"))
for (const path of [outside + "/planted", "/planted", "/usr/planted", "/etc/planted", "/dev/planted", "/dev/shm/planted", import.meta.dirname + "/planted"]) tries("write " + path, () => { fs.writeFileSync(path, "x") })
tries("kernel", () => { fs.writeFileSync("/proc/sys/kernel/printk_ratelimit", fs.readFileSync("/proc/sys/kernel/printk_ratelimit")) })
tries("key", () => fs.readFileSync(home + "/keys/device").length)
tries("passwd", () => fs.readFileSync("/etc/passwd").length)
tries("program", () => cp.spawnSync("/bin/sh", ["-c", "exit 0"]).status)
said.env = Object.keys(process.env).sort().join()
said.net = await new Promise((done) => { const s = net.connect(Number(port), "127.0.0.1"); s.on("connect", () => { s.destroy(); done("connected") }); s.on("error", (e) => done(e.code)) })
fs.writeSync(3, JSON.stringify(said) + "\\n")
`

t.test("what is shut in writes nothing outside, reads no key and reaches no network", async (t) => {
  const home = t.testdir({ home: { keys: { device: "secret" } }, scratch: {}, outside: {} })
  const slot = fakeTree(`${home}/slot`, prober)
  const server = createServer().listen(0, "127.0.0.1")
  await new Promise((done) => { server.once("listening", done) })
  t.teardown(() => server.close())
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const levels = await workingLevels(t, `${home}/scratch`)
  t.ok(levels.includes("node-permissions"), "the last level works wherever Node does")
  for (const level of isolationLevels) {
    if (!levels.includes(level)) {
      t.pass(level, { skip: `${level} does not work on this machine; the next level is tested` })
      continue
    }
    const way = await findIsolation(`${home}/scratch`, [level])
    const child = startConfined(way, {
      command: { node: process.execPath, options: [], script: `${slot}/src/main.ts` }, args: [`${home}/outside`, `${home}/home`, String(port)], read: [slot], write: [`${home}/scratch`], env: { ONLY: "this" }
    }, confinedLimits, { signal: AbortSignal.timeout(20_000) })
    child.stdin.end()
    const [text = "{}"] = await all(readLines(child.answers, { lineBytesMax: 10_000, bytesMax: 10_000 }))
    t.match(await child.ended, { code: 0, why: undefined }, `${level}: ${child.lines().join(" | ")}`)
    const said: Readonly<{ [name: string]: unknown }> = JSON.parse(text)
    t.equal(said["own"], "done", `${level}: its scratch directory is its own`)
    for (const [name, outcome] of Object.entries(said)) if (name.startsWith("write ")) t.not(outcome, "done", `${level}: ${name}: ${outcome}`)
    t.not(said["kernel"], "done", `${level}: the kernel's settings`)
    t.type(said["key"], "string", `${level}: the device key: ${said["key"]}`)
    t.type(said["passwd"], "string", `${level}: who has an account`)
    t.match(said["env"], /^ONLY(,PWD)?$/, `${level}: its environment is what was given`)
    if (way.network) t.not(said["net"], "connected", `${level}: network`)
    else t.equal(said["net"], "connected", `${level} says that the network is open, and it is`)
    t.same(readdirSync(`${home}/outside`), [])
    if (level === "node-permissions") t.match([way.says, said["program"]], [/network was open/, "ERR_ACCESS_DENIED"])
  }
})

t.test("levels that do not work here are passed over, and it is said why", async (t) => {
  const path = process.env["PATH"] ?? ""
  const directory = t.testdir({ bin: {} })
  t.teardown(() => { process.env["PATH"] = path })
  writeFileSync(`${directory}/bin/bwrap`, "#!/bin/sh\necho 'bwrap: no permission here' >&2\nexit 1\n", { mode: 0o755 })
  writeFileSync(`${directory}/bin/unshare`, "#!/bin/sh\necho 'unshare: Operation not permitted' >&2\nexit 1\n", { mode: 0o755 })
  process.env["PATH"] = `${directory}/bin:${path}`
  const way = await findIsolation(directory)
  t.equal(way.by, "node-permissions")
  t.match(way.says, /bubblewrap does not work here \(bwrap: no permission here\); unshare does not work here \(unshare: Operation not permitted\)/)
  t.match([way.network, way.writes], [false, false])
  await t.rejects(findIsolation(directory, ["bubblewrap"]), /nothing here can shut it in: bubblewrap does not work here/)
})

const hello = `fs.writeSync(3, JSON.stringify({ kind: "hello", v: 1, version: "9", node: "24" }) + "\\n")`
const hostile: Readonly<Record<string, { readonly main: string; readonly fault: RegExp; readonly ms?: number; readonly differences?: RegExp }>> = {
  "prints without end": { main: "for (;;) fs.writeSync(1, 'x'.repeat(65536))", fault: /printed more than/ },
  "answers without end": { main: `${hello}; for (;;) fs.writeSync(3, '{"kind":"setting","path":"a","json":"' + 'x'.repeat(60000) + '"}\\n')`, fault: /more than [0-9]+ (lines|bytes)|longer than|memory/ },
  "answers one line without end": { main: `${hello}; for (;;) fs.writeSync(3, 'x'.repeat(65536))`, fault: /a line has more than/ },
  "answers nonsense": { main: `${hello}; fs.writeSync(3, "nonsense\\n"); setInterval(() => {}, 1000)`, fault: /a line is no JSON/ },
  "says that it is done before it has read anything": { main: `${hello}; fs.writeSync(3, '{"kind":"totals","events":1,"documents":1,"operations":1,"epochs":1,"sealed":0,"quarantined":0,"blocks":0}\\n{"kind":"done"}\\n'); setInterval(() => {}, 1000)`, fault: /longer than|did not end/, ms: 2_000, differences: /it folded 0 blocks of the/ },
  "speaks of another rehearsal": { main: `fs.writeSync(3, '{"kind":"hello","v":7,"version":"9","node":"24"}\\n'); setInterval(() => {}, 1000)`, fault: /another version of the rehearsal/ },
  "knows no rehearsal": { main: "console.error('kos: there is no command daemon rehearse'); process.exit(2)", fault: /ended before it was through \(exit code 2\)/ },
  "throws": { main: "throw new Error('cannot start')", fault: /exit code 1/ },
  "hangs": { main: `${hello}; setInterval(() => {}, 1000)`, fault: /longer than 1 s/, ms: 1_000 },
  "spins": { main: `${hello}; for (;;);`, fault: /longer than 1 s/, ms: 1_000 },
  "takes all memory": { main: `${hello}; const all = []; for (;;) all.push(Buffer.alloc(16e6, 1))`, fault: /MiB of memory/ },
  "fills the disk": { main: `${hello}; for (let i = 0;; i++) fs.writeFileSync("f" + i, Buffer.alloc(4e6, 1))`, fault: /wrote more than|exit code|ended before/ },
  "nests deeper than a path may be long, and locks it": {
    main: `${hello}; for (let i = 0; i < 1500; i++) { fs.mkdirSync("deep-as-a-well"); process.chdir("deep-as-a-well") }; fs.mkdirSync("x"); fs.writeFileSync("x/y", ""); fs.chmodSync("x", 0); process.exit(3)`, fault: /exit code 3/
  },
  "reports a fault": { main: `${hello}; fs.writeSync(3, '{"kind":"fault","why":"I do not like it"}\\n'); process.exit(1)`, fault: /could not fold the events: I do not like it/ }
}

t.test("a hostile new version gets a report, and leaves nothing behind", async (t) => {
  const home = t.testdir({ trees: {} })
  const node = await openNode(t, `${home}/home`)
  const length = node.journal.length()
  let count = 0
  const run = (main: string, ms = 8_000): Promise<Rehearsed> => rehearseHere(node, fakeTree(`${home}/trees/${count++}`, `import fs from "node:fs"\n${main}`), {
    limits: { msMax: ms, memoryBytesMax: 400 * 1_048_576, scratchBytesMax: 64 * 1_048_576, processesMax: 24, printedBytesMax: 65_536 }
  })
  for (const [name, { main, fault, ms, differences }] of Object.entries(hostile)) {
    const report = await run(main, ms)
    t.comment(`${name}: ${report.ms} ms, ${Math.round(report.memoryBytes / 1e6)} MB, ${report.fault}`)
    t.match(report, { ok: false, fault }, name)
    t.match(report.differences.join(), differences ?? /^$/, name)
  }
  const [best] = await workingLevels(t, `${home}/trees`)
  if (best === "node-permissions") t.pass("forks without end", { skip: "no namespaces on this machine: Node's permission model starts no process at all, so there is no bomb" })
  else t.match(await run(`import cp from "node:child_process"\n${hello}; cp.spawn("/bin/sh", ["-c", "i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i + 1)); done; sleep 60"]); setInterval(() => {}, 1000)`, 20_000), { ok: false, fault: /more than 24 processes/ }, "forks without end")
  t.match(await rehearseHere(node, `${home}/trees`), { ok: false, fault: /no tree of kOS/ })
  t.match(await rehearseHere(node, fakeTree(`${home}/trees/x`, `import fs from "node:fs"\n${hello}; setInterval(() => {}, 1000)`), { signal: AbortSignal.timeout(300) }), { ok: false, fault: /it was stopped/ })
  t.notOk(existsSync(`${home}/home/updates/rehearsal/one`), "the scratch directory is gone")
  for (let i = 0; i < 100 && processesWith(`${home}/trees`).length > 0; i++) await new Promise((done) => { setTimeout(done, 20) })
  t.same(processesWith(`${home}/trees`), [], "nothing runs on")
  t.equal(node.journal.length(), length, "nothing was written into the log")
  t.ok(readFileSync(`${home}/home/keys/device`).byteLength > 0)
})

t.test("trials outlive a daemon as what ended; what was half begun is gone; no more are kept than may be", async (t) => {
  const state = (id: string, sinceMs: number) => JSON.stringify({
    id, name: "gardener", version: "1.0.0", release: null, entry: "main.mjs", state: "running", why: null, sinceMs, events: 3, isolation: { by: "bubblewrap", network: true, writes: true, says: "" }
  })
  const ids = Array.from({ length: trialsMax }, (_, i) => `0000000${i}`)
  const home = t.testdir({
    trials: { ...Object.fromEntries(ids.map((id, i) => [id, { "trial.json": state(id, trialsMax - i), log: "one\ntwo" }])), aaaaaaaa: { tree: { "main.mjs": "" } }, bbbbbbbb: { "trial.json": state("other", 1) } }, module: { "main.mjs": "" }
  })
  const trials = await openTrials({ root: `${home}/trials`, kos: home, now, notice: () => undefined })
  t.same((await trials.list()).map(({ id }) => id), ids.toReversed(), "by when they were begun")
  t.match(await trials.show("00000003"), { trial: { state: "ended", why: "the daemon that ran it ended", events: 3 }, log: ["one", "two"], events: [] })
  t.same(readdirSync(`${home}/trials`).toSorted(), ids)
  const module = { name: "gardener", version: "1.0.0", release: undefined, entry: "main.mjs", tree: `${home}/module` }
  await t.rejects(trials.start(module), /8 trials are kept; drop one first/)
  await t.rejects(trials.drop("0"), /several trials begin with 0/)
  await trials.drop("00000003")
  await t.rejects(trials.start(module), /its node|could not|no tree|ended/, "then there is room; without a kOS to run beside it it is refused")
  t.equal((await trials.list()).length, trialsMax - 1)
})
