import { Effect, Result, Stream } from "effect"
import { spawnSync } from "node:child_process"
import { readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { PassThrough } from "node:stream"
import t from "tap"
import { completionScript } from "../src/api/cli/completion.ts"
import { helpPage } from "../src/api/cli/help.ts"
import { progressBar } from "../src/api/cli/output.ts"
import { globalFlags, parse } from "../src/api/cli/parse.ts"
import { render } from "../src/api/cli/render/render.ts"
import { statusLinesMax } from "../src/api/cli/render/everyday.ts"
import { type CliIo, type LocalCommands, runCli } from "../src/api/cli/run.ts"
import { flagsOf, usageOf, wordsOf } from "../src/api/cli/shape.ts"
import { safe, safeDeep, table, type View, width } from "../src/api/cli/text.ts"
import type { Handlers } from "../src/api/operations/table.ts"
import { operations } from "../src/api/operations/table.ts"
import { exitCodes } from "../src/api/problem.ts"
import { Refusal } from "../src/commands/refusal.ts"
import { by, cloudEvent, fakeNode, key, sampleOf, statusAnswer } from "./api-fake.ts"

const now = Date.parse("2026-05-01T12:03:00.000Z")
const view: View = { now, color: false, columns: 80, input: {} }

interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

const absent = (what: string) => () => Promise.reject(new Refusal({ kind: "failed", detail: `${what} is not wanted here` }))
const local: LocalCommands = { init: absent("init"), doctor: absent("doctor"), keys: { show: absent("show"), seal: absent("seal"), unseal: absent("unseal"), backup: absent("backup"), restore: absent("restore") }, daemonRun: absent("daemon"), dhtRun: absent("dht") }

/** `kos` in this process, with its streams caught. */
const kos = async (argv: ReadonlyArray<string>, more: { home?: string; stdin?: string; env?: Record<string, string>; tty?: boolean; cwd?: string; local?: Partial<LocalCommands>; signal?: AbortSignal } = {}): Promise<Ran> => {
  const caught = { out: "", err: "" }
  const sink = (name: "out" | "err") => Object.assign(new PassThrough(), {
    isTTY: more.tty ?? false, columns: 80, write: (text: string) => { caught[name] += text; return true }
  })
  const io: CliIo = {
    stdin: { async *[Symbol.asyncIterator]() { yield Buffer.from(more.stdin ?? "") } },
    stdinPiped: more.stdin !== undefined,
    stdout: sink("out"), stderr: sink("err"),
    env: { KOS_HOME: more.home ?? "/nowhere/kos", PATH: process.env["PATH"] ?? "", ...more.env },
    cwd: more.cwd ?? "/", now: () => now, random: (size) => crypto.getRandomValues(new Uint8Array(size)), version: "0.1.0",
    signal: more.signal ?? new AbortController().signal, local: { ...local, ...more.local }
  }
  const code = await runCli(argv, io)
  return { code, ...caught }
}

const parsed = (...argv: ReadonlyArray<string>): unknown => {
  const result = parse(argv)
  if (Result.isFailure(result)) return { problem: result.failure.detail, hint: result.failure.hint }
  return result.success._tag === "Call" ? { [result.success.op.name]: result.success.input } : result.success._tag
}

t.test("words become operations and inputs", async (t) => {
  t.strictSame(parsed("config", "set", "a.b", "5", "--layer", "mesh"), { "config.set": { path: "a.b", text: "5", layer: "mesh" } })
  t.strictSame(parsed("--json", "config", "--home", "/x", "set", "a.b", "-5"), { "config.set": { path: "a.b", text: "-5" } }, "global flags anywhere, negative numbers are values")
  t.strictSame(parsed("events", "-fn5", "--type=config.*"), { problem: "kos events has no flag -fn5; did you mean --json?".replace("; did you mean --json?", ""), hint: "kos help events" })
  t.strictSame(parsed("events", "-f", "-n5", "--type=config.*"), { events: { follow: true, limit: 5, type: "config.*" } })
  t.strictSame(parsed("events", "--no-follow"), { events: { follow: false } })
  t.strictSame(parsed("memory", "add", "m/p", "--field", "a=1", "--field=b=2", "--", "--text"), { "memory.add": { page: "m/p", field: ["a=1", "b=2"], text: "--text" } })
  t.strictSame(parsed("memory", "search", "garden", "pump", "-n", "3"), { "memory.search": { words: ["garden", "pump"], limit: 3 } })
  t.strictSame(parsed("sync", "pause"), { "sync.pause": {} })
  t.strictSame(parsed("daemon", "run", "--lan-only", "--bootstrap", "a:1", "--bootstrap", "b:2"), { "daemon.run": { lanOnly: true, bootstrap: ["a:1", "b:2"] } })
  t.strictSame(parsed("config", "resolve", "a.b", "0"), { "config.resolve": { conflict: "a.b", choice: 0 } })
  t.equal(parsed(), "Incomplete")
  t.equal(parsed("config"), "Incomplete")
  t.equal(parsed("config", "--help"), "Help")
  t.equal(parsed("config", "get", "-h"), "Help", "although PATH is missing")
  t.equal(parsed("-V"), "Version")
})

t.test("no operation's flag hides behind a global one, and no two share a letter", async (t) => {
  for (const op of operations) {
    const flags = flagsOf(op)
    for (const { flag, letter } of flags) {
      t.notOk(globalFlags.some((global) => global.flag === flag || (letter !== undefined && global.letter === letter)), `${op.name} --${flag}`)
    }
    t.equal(new Set(flags.map(({ flag }) => flag)).size, flags.length)
  }
  t.strictSame(parsed("event", "list", "--actor", "person:mara", "--as", "agent:x"), { "event.list": { actor: "person:mara" } })
})

t.test("mistakes are named, with what was meant", async (t) => {
  const mistakes: ReadonlyArray<readonly [argv: string, says: RegExp]> = [
    ["confg get x", /unknown command "confg"; did you mean config\?/],
    ["staus", /did you mean status\?/],
    ["config gte x", /unknown command "config gte"; did you mean get\?/],
    ["config frobnicate", /config has show, get, set/],
    ["resolve x", /did you mean kos config resolve\?/],
    ["config set a 1 --lyer mesh", /has no flag --lyer; did you mean --layer\?/],
    ["config set a 1 --layer mush", /expected mesh, role or node, not "mush"; did you mean mesh\?/],
    ["event list --limit many", /--limit: expected a number, not "many"/],
    ["event list --limit", /--limit needs a value/],
    ["event list --limit 1 --limit 2", /given twice/],
    ["events --follow=maybe", /expected true or false/],
    ["config get", /PATH is missing/],
    ["config get a b", /no place for "b"/],
    ["dht run", /--port is missing/],
    ["completion tcsh", /expected bash, zsh or fish/],
    ["--hme /x status", /unknown flag --hme; did you mean --home\?/],
    ["--home", /--home needs a value/],
    ["--json=1 status", /--json takes no value/],
    ["config set a 1 --value 3", /has no flag --value/],
    ["event list --limit 0", /limit: expected a value between 1 and 100000/],
    ["wait forever", /condition: expected ready, synced or peer=NAME/],
    ["memory show nopage", /page: expected MODULE\/PAGE/],
    ["status --as nobody", /the actor must be device/]
  ]
  for (const [argv, says] of mistakes) {
    const ran = await kos(argv.split(" "))
    t.equal(ran.code, exitCodes.usage, `${argv} exits 2`)
    t.match(ran.err, says)
    t.equal(ran.out, "")
    const json = await kos(["--json", ...argv.split(" ")])
    t.match(JSON.parse(json.err), { kind: "usage", title: "Wrong use", status: 400 }, `${argv} --json`)
    t.equal(json.out, "")
  }
})

t.test("exit codes follow the kind of problem; without a daemon one sentence names the command", async (t) => {
  const none = await kos(["status"])
  t.equal(none.code, 3)
  t.equal(none.err, "kos: No daemon runs on /nowhere/kos.\n  next: kos --home /nowhere/kos daemon run\n")
  const kinds = ["failed", "usage", "not-found", "denied", "conflict", "timeout", "pending", "policy", "degraded"] as const
  let kind: (typeof kinds)[number] = "failed"
  const node = await fakeNode(t.testdir(), { join: () => Effect.fail(new Refusal({ kind, detail: "the invite was used", hint: "kos invite create" })) })
  t.teardown(() => node.stop())
  for (kind of kinds) {
    const ran = await kos(["join", "x"], { home: node.home })
    t.equal(ran.code, exitCodes[kind], kind)
    t.equal(ran.err, "kos: the invite was used\n  next: kos invite create\n")
    const json = await kos(["--json", "join", "x"], { home: node.home })
    t.equal(json.code, exitCodes[kind])
    t.match(JSON.parse(json.err), { kind, detail: "the invite was used" })
  }
})

t.test("bad news in an answer has its exit code too", async (t) => {
  const node = await fakeNode(t.testdir(), {
    status: () => Effect.succeed({ ...statusAnswer(1), state: "degraded" }),
    doctor: () => Effect.succeed({ healthy: false, daemon: true, findings: [] }),
    "event.verify": () => Effect.succeed({ clean: false, logs: [], misbehaviour: [], ms: 1 }),
    "config.validate": () => Effect.succeed({ valid: false, faults: [{ path: "a", detail: "expected a number" }] }),
    "sync.now": () => Effect.succeed({ received: 0, reached: [], missed: ["attic"], ms: 1 })
  })
  t.teardown(() => node.stop())
  for (const [argv, code] of [["status", 10], ["doctor", 10], ["event verify", 1], ["config validate", 2], ["sync now", 8]] as const) {
    t.equal((await kos(argv.split(" "), { home: node.home })).code, code, argv)
  }
})

t.test("--json is one value for every operation, and people get text", async (t) => {
  const node = await fakeNode(t.testdir())
  t.teardown(() => node.stop())
  const words: Record<string, ReadonlyArray<string>> = {
    wait: ["ready"], connect: ["a:b", "--listen", "0"], "node.ping": ["a"], join: ["x"], "mesh.create": ["hill"], "mesh.use": ["hill"], "node.role": ["a", "member"], "node.revoke": ["a"], "node.clear": ["a"], "invite.revoke": ["1"], "invite.confirm": ["1"], "key.backup": ["f"], "sync.export": ["f"], "sync.import": ["f"], "event.show": ["@1"], "event.diff": ["2h"],
    "event.at": ["@1", "a.b"], "config.get": ["a.b"], "config.set": ["a.b", "1"], "config.unset": ["a.b"], "config.diff": ["-"], "config.apply": ["-"], "config.revert": ["@1"],
    "config.resolve": ["a.b", "1"], "config.explain": ["a.b"], "approval.show": ["x"], "approval.allow": ["x"], "approval.deny": ["x"], "agent.show": ["x"], "agent.apply": ["-"], "agent.remove": ["x"], "agent.start": ["x"], "agent.stop": ["x"],
    "memory.show": ["m/p"], "memory.add": ["m/p", "x"], "memory.edit": ["m/p", "--field", "a=1"], "memory.forget": ["m/p"], "memory.history": ["m/p"], "memory.search": ["x"],
    "vault.set": ["x"], "vault.get": ["x"], "vault.rotate": ["x"], "vault.remove": ["x"],
    "update.show": ["1.0.0"], "update.plan": ["1.0.0"], "update.fetch": ["1.0.0"], "update.advise": ["1.0.0"], "update.export": ["f"], "update.import": ["f"], "seed.add": ["1.0.0"], "seed.remove": ["1.0.0"],
    "release.init": ["hill"], "release.pack": ["d", "kos@1.0.0", "--kind", "bundle"], "release.yank": ["kos@1.0.0", "--reason", "x"], "release.delegate": ["acme", "--area", "agents", "--signer", "a"],
    "release.withdraw": ["1"], "release.show": ["1"]
  }
  for (const op of operations.filter(({ place, name }) => place !== "local" && name !== "config.edit")) {
    const argv = [...wordsOf(op).split(" "), ...(words[op.name] ?? [])]
    const stdin = words[op.name]?.includes("-") === true ? { stdin: "a: 1\n" } : {}
    const json = await kos([...argv, "--json"], { home: node.home, ...stdin })
    const sample: unknown = JSON.parse(JSON.stringify(await sampleOf(op)))
    const values = op.stream === "always" ? json.out.trimEnd().split("\n").map((line) => JSON.parse(line)) : JSON.parse(json.out)
    t.strictSame(values, op.stream === "no" ? sample : [sample, sample], op.name)
    t.equal(json.err, "")
    const text = await kos(argv, { home: node.home, ...stdin })
    t.equal(text.err, "", op.name)
    t.notMatch(text.out, /undefined|\[object|NaN[^"]|\u001b/, op.name)
    t.notMatch(text.out, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/, `${op.name} shows no control character`)
  }
})

t.test("config get prints the bare value, and all about it as JSON", async (t) => {
  let value: unknown = 4077
  const node = await fakeNode(t.testdir(), { "config.get": ({ path }) => Effect.succeed({ path, value: value as number, layer: "mesh", by, at: by.at }) })
  t.teardown(() => node.stop())
  for (const [given, shown] of [[4077, "4077\n"], ["debug", "debug\n"], [true, "true\n"], [["a", 1], "[\"a\",1]\n"], [null, "null\n"], ["\u001b[2Jgone\u202e", "\\x1b[2Jgone\\u202e\n"]] as const) {
    value = given
    t.equal((await kos(["config", "get", "network.port"], { home: node.home })).out, shown)
  }
  value = 4077
  t.strictSame(JSON.parse((await kos(["config", "get", "network.port", "--json"], { home: node.home })).out), { path: "network.port", value: 4077, layer: "mesh", by, at: by.at })
})

t.test("status is one sentence first, at most 24 lines, and ends with the next command", async (t) => {
  for (const peers of [0, 2, 40]) {
    const lines = render("status", statusAnswer(peers), view)
    t.equal(lines[0], "All well. 2 of 3 nodes in touch; 4 events waiting for `attic`.")
    t.ok(lines.length <= statusLinesMax, `${peers} peers: ${lines.length} lines`)
    for (const line of lines) t.ok(width(line) <= 80, line)
    t.equal(lines[lines.length - 1], "Next: kos sync status")
  }
  t.matchSnapshot(render("status", statusAnswer(2), { ...view, now: Date.parse("2026-05-01T14:00:00.000Z") }).join("\n"), "status")
})

t.test("streams: lines as they come, NDJSON when asked for, an array when it ends", async (t) => {
  const node = await fakeNode(t.testdir(), {
    events: ({ follow, limit }) => (follow ? Stream.fromIterable([1, 2, 3].map(cloudEvent)) : Stream.fromIterable(Array.from({ length: limit }, (_, i) => cloudEvent(i)))),
    "event.export": ({ proof }) => (proof === undefined ? Stream.make(cloudEvent(1)) : Stream.make({ file: proof, events: 2, blocks: 1, bytes: 900 }))
  })
  t.teardown(() => node.stop())
  const { home } = node
  t.equal(JSON.parse((await kos(["events", "--json", "-n", "2"], { home })).out).length, 2)
  t.equal((await kos(["events", "-f", "--json"], { home })).out.trimEnd().split("\n").map((line) => JSON.parse(line)).length, 3)
  t.match((await kos(["events", "-f"], { home })).out, /@1 .*3 min ago.*attic.*config\.changed\/1.*config\/network/)
  t.strictSame(JSON.parse((await kos(["event", "export"], { home })).out), cloudEvent(1), "export is NDJSON without --json too")
  t.match((await kos(["event", "export", "--proof", "p.json"], { home, cwd: "/tmp" })).out, /Wrote \/tmp\/p\.json: 2 events/)
})

t.test("interrupting a stream exits 130", async (t) => {
  const node = await fakeNode(t.testdir(), { events: () => Stream.concat(Stream.make(cloudEvent(1)), Stream.never) })
  t.teardown(() => node.stop())
  const stop = new AbortController()
  const ran = kos(["events", "-f"], { home: node.home, signal: stop.signal })
  for (let i = 0; i < 500 && node.server.busy() === 0; i++) await new Promise((resolve) => setTimeout(resolve, 10))
  stop.abort()
  t.match(await ran, { code: 130, err: "" })
})

t.test("texts come from files, stdin or the words", async (t) => {
  const root = t.testdir({ home: {}, cwd: { "site.toml": "port = 1\n", directory: {} } })
  const cwd = join(root, "cwd")
  const seen: Array<unknown> = []
  const answer = { summary: "done", events: [] }
  const node = await fakeNode(join(root, "home"), {
    "config.apply": (input) => { seen.push(input); return Effect.succeed({ layer: input.layer, differences: [], ...answer }) },
    "config.set": (input) => { seen.push(input); return Effect.succeed({ path: input.path, layer: input.layer, after: 1, ...answer }) },
    "memory.add": (input) => { seen.push(input); return Effect.succeed({ page: input.page, created: true, ...answer }) },
    "memory.edit": (input) => { seen.push(input); return Effect.succeed({ page: input.page, created: false, ...answer }) },
    "sync.export": (input) => { seen.push(input); return Effect.succeed({ file: input.file, bytes: 1, logs: 1, blocks: 1 }) }
  })
  t.teardown(() => node.stop())
  const { home } = node
  const last = async (argv: string, more: Parameters<typeof kos>[1] = {}) => {
    const ran = await kos(argv.split(" "), { home, cwd, ...more })
    return ran.code === 0 ? seen[seen.length - 1] : ran
  }
  t.match(await last("config apply site.toml --layer mesh"), { text: "port = 1\n", format: "toml", layer: "mesh", prune: false })
  t.match(await last("config apply -", { stdin: "a: 1\nb: 2\n" }), { text: "a: 1\nb: 2\n" })
  t.match(await last("config apply", { stdin: "a: 1" }), { text: "a: 1" })
  t.match(await last("config apply"), { code: 2, err: /FILE is missing/ })
  t.match(await last("config apply gone.yaml"), { code: 4, err: /there is no file .*gone\.yaml/ })
  t.match(await last("config apply directory"), { code: 2, err: /is a directory/ })
  writeFileSync(join(cwd, "binary"), new Uint8Array([0xff, 0xfe, 0]))
  t.match(await last("config apply binary"), { code: 2, err: /not UTF-8/ })
  writeFileSync(join(cwd, "large"), new Uint8Array(4 * 1024 * 1024 + 1))
  t.match(await last("config apply large"), { code: 2, err: /larger than 4194304 bytes/ })
  t.match(await last("config set a.b -", { stdin: "5\n" }), { path: "a.b", text: "5" }, "echo 5 | kos config set a.b - means 5")
  t.match(await last("memory add m/p", { stdin: "one\ntwo\n" }), { page: "m/p", text: "one\ntwo\n" })
  t.strictSame(await last("memory add m/p --field a=1", { stdin: "never read" }), { page: "m/p", field: ["a=1"] })
  t.strictSame(await last("memory edit m/p", { stdin: "whole text" }), { page: "m/p", text: "whole text" })
  t.match(await last("memory edit m/p", { stdin: "" }), { code: 2, err: /stdin was empty/ }, "an empty pipe does not wipe a page")
  t.match(await last("sync export hill.kos"), { file: join(cwd, "hill.kos") }, "the daemon gets absolute paths")
})

t.test("the editor sends what was and what is; a refused text is kept", async (t) => {
  const root = t.testdir({ home: {}, cwd: { "edit.sh": "sed -i s/1/2/ \"$1\"\n", "new.sh": "echo fresh > \"$1\"\n" } })
  const cwd = join(root, "cwd")
  const seen: Array<unknown> = []
  let refuse = false
  const node = await fakeNode(join(root, "home"), {
    "config.show": () => Effect.succeed({ values: { port: 1 }, text: "port: 1\n", base: {}, conflicts: 0, quarantined: [] }),
    "config.edit": (input) => {
      seen.push(input)
      return refuse ? Effect.fail(new Refusal({ kind: "conflict", detail: "port changed meanwhile" })) : Effect.succeed({ layer: input.layer, differences: [], summary: "Changed port.", events: [] })
    },
    "memory.show": () => Effect.fail(new Refusal({ kind: "not-found", detail: "no such page" })),
    "memory.edit": (input) => { seen.push(input); return Effect.succeed({ page: input.page, created: true, summary: "Added.", events: [] }) }
  } satisfies Partial<Handlers>)
  t.teardown(() => node.stop())
  const { home } = node
  const editing = (script: string) => ({ home, env: { EDITOR: `sh ${join(cwd, script)}` } })
  t.match(await kos(["config", "edit", "--layer", "mesh"], editing("edit.sh")), { code: 0, out: "Changed port.\n" })
  t.strictSame(seen, [{ layer: "mesh", format: "yaml", base: "port: 1\n", text: "port: 2\n" }])
  t.match(await kos(["config", "edit"], { home, env: { EDITOR: "true" } }), { code: 0, err: "Nothing changed.\n" })
  t.match(await kos(["config", "edit"], { home, env: { EDITOR: "false" } }), { code: 1, err: /the editor \(false\) ended with 1; nothing was changed/ })
  t.equal(seen.length, 1)
  t.match(await kos(["memory", "edit", "m/p"], editing("new.sh")), { code: 0 }, "a page that is not there begins empty")
  t.strictSame(seen[1], { page: "m/p", base: "", text: "fresh\n" })
  refuse = true
  const refused = await kos(["config", "edit"], editing("edit.sh"))
  t.match(refused, { code: 6, err: /port changed meanwhile\n  your text is kept in (\S+)\n/ })
  const kept = /kept in (\S+)/.exec(refused.err)?.[1] ?? ""
  t.equal(readFileSync(kept, "utf8"), "port: 2\n")
  rmSync(dirname(kept), { recursive: true })
})

t.test("wait waits for a daemon that is about to start", async (t) => {
  const home = t.testdir()
  const waiting = kos(["wait", "ready", "--json"], { home })
  const node = await fakeNode(home, { wait: ({ condition }) => Effect.succeed({ condition, met: true as const, waitedMs: 0, detail: "ready" }) })
  t.match(await waiting, { code: 0, out: /"met":true/ })
  await node.stop()
})

t.test("what needs no daemon is done here", async (t) => {
  const made = { created: true, name: "attic", device: key("a"), log: key("b"), home: "/h", socket: "/h/run/kos.sock", next: "kos daemon run" }
  const ran = await kos(["init", "attic"], { local: { init: (input) => Promise.resolve({ ...made, name: input.name ?? "" }) } })
  t.match(ran, { code: 0, out: /^attic is a node now\.\n[^]*Next: kos daemon run\n$/ })
  t.match(await kos(["doctor"], { local: { doctor: () => Promise.resolve({ healthy: true, daemon: false, findings: [{ about: "disk", level: "good", detail: "enough" }] }) } }), { code: 0, out: /no daemon runs/ })
  const runs = { name: "attic", device: key("a"), home: "/h", socket: "/s", pid: 1, created: true, next: "kos status" }
  t.match(await kos(["daemon", "run", "--json"], { local: { daemonRun: (_, { announce }) => announce(runs).then(() => 0) } }), { code: 0, out: `${JSON.stringify(runs)}\n` })
  t.match(await kos(["dht", "run", "--port", "0"], { local: { dhtRun: () => Promise.reject(new Refusal({ kind: "degraded", detail: "no port" })) } }), { code: 10 })
})

t.test("help: pages, topics, near misses", async (t) => {
  for (const topic of ["exit-codes", "environment", "files"]) t.ok((await kos(["help", topic])).out.length > 200, topic)
  for (const [name, code] of Object.entries(exitCodes)) t.match(helpPage(["exit-codes"]), new RegExp(`\\b${code}  ${name === "done" ? "done" : "\\S"}`))
  t.match(await kos(["help", "exit-cods"]), { code: 4, err: /did you mean exit-codes\?/ })
  t.match(await kos(["config"]), { code: 2, out: "", err: /usage: kos config VERB/ })
  t.match(await kos([]), { code: 0, out: /usage: kos/ })
  t.equal((await kos(["help", "config", "set"])).out, (await kos(["config", "set", "--help"])).out)
  for (const op of operations) {
    const page = helpPage(op.name.split(".")) ?? ""
    t.match(page, `usage: ${usageOf(op)}`, op.name)
    for (const line of page.split("\n")) t.ok(line.length <= 200, `${op.name}: ${line}`)
  }
  t.matchSnapshot(helpPage([]), "kos help")
  t.matchSnapshot(helpPage(["config", "set"]), "kos help config set")
  t.matchSnapshot(helpPage(["events"]), "kos help events")
  t.matchSnapshot(helpPage(["invite"]), "kos help invite")
})

t.test("completion scripts are accepted by their shells and complete", async (t) => {
  const directory = t.testdir()
  for (const shell of ["bash", "zsh", "fish"] as const) {
    const { out, code } = await kos(["completion", shell])
    t.equal(code, 0)
    t.equal(out, completionScript(shell))
    for (const op of operations) t.ok(out.includes(op.name.split(".").at(-1) ?? ""), `${shell} knows ${op.name}`)
    writeFileSync(join(directory, shell), out)
    const checked = spawnSync(shell, ["-n", join(directory, shell)])
    if (checked.error === undefined) t.equal(checked.status, 0, `${shell} -n`)
    else t.comment(`${shell} is not installed here, so its script was not parsed`)
  }
  const completes = (line: string): ReadonlyArray<string> => {
    const words = line.split(" ")
    const script = `source ${join(directory, "bash")}; COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _kos; printf '%s\\n' "\${COMPREPLY[@]}"`
    return spawnSync("bash", ["-c", script], { encoding: "utf8" }).stdout.split("\n").filter((word) => word !== "")
  }
  t.strictSame(completes("kos conf"), ["config"])
  t.strictSame(completes("kos config ex"), ["explain"])
  t.strictSame(completes("kos --home /x config unse"), ["unset"])
  t.strictSame(completes("kos config set a 1 --la"), ["--layer"])
  t.strictSame(completes("kos config set a 1 --layer r"), ["role"])
  t.strictSame(completes("kos mesh mode i"), ["isolated"])
  t.strictSame(completes("kos events --fo"), ["--follow"])
})

t.test("nothing in data can steer a terminal", async (t) => {
  t.equal(safe("a\u001b]0;title\u0007b\rc\u009b31m\u202egnp\u2066"), "a\\x1b]0;title\\x07b\\x0dc\\x9b31m\\u202egnp\\u2066")
  t.equal(safe("plain text, umlaut ü, 漢字, tab\t and line\n"), "plain text, umlaut ü, 漢字, tab\t and line\n")
  t.strictSame(safeDeep({ "k\u0007": ["\u001b", 1, null, { x: true }] }), { "k\\x07": ["\\x1b", 1, null, { x: true }] })
  const node = await fakeNode(t.testdir(), {
    "memory.show": ({ page }) => Effect.fail(new Refusal({ kind: "not-found", detail: `no ${page}\u001b[31m` })),
    "event.at": ({ path }) => Effect.succeed({ point: {}, path, value: "\u009b2J\u202e" })
  })
  t.teardown(() => node.stop())
  t.notMatch((await kos(["memory", "show", "m/p"], { home: node.home, tty: true, env: { NO_COLOR: "1" } })).err, /\u001b/)
  t.notMatch((await kos(["event", "at", "@1", "a", "--json"], { home: node.home, tty: true })).out, /[\u001b\u009b\u202e]/, "JSON on a terminal is escaped too")
})

t.test("colours only on a terminal that wants them", async (t) => {
  const node = await fakeNode(t.testdir(), { status: () => Effect.succeed(statusAnswer(1)) })
  t.teardown(() => node.stop())
  const { home } = node
  t.match((await kos(["status"], { home, tty: true })).out, /\u001b\[1m/)
  t.notMatch((await kos(["status"], { home })).out, /\u001b/)
  t.notMatch((await kos(["status"], { home, tty: true, env: { NO_COLOR: "1" } })).out, /\u001b/)
  t.notMatch((await kos(["status", "--no-color"], { home, tty: true })).out, /\u001b/)
  t.notMatch((await kos(["status"], { home, tty: true, env: { TERM: "dumb" } })).out, /\u001b/)
})

t.test("a progress bar on a terminal, nothing on a pipe", async (t) => {
  const node = await fakeNode(t.testdir(), {
    "event.verify": (_, call) => Effect.sync(() => { call.progress(1, 4, "verifying"); call.progress(4, 4, "verifying"); return { clean: true, logs: [], misbehaviour: [], ms: 1 } })
  })
  t.teardown(() => node.stop())
  t.match((await kos(["event", "verify"], { home: node.home, tty: true })).err, /\[######\.+\] 25 % \(1 of 4\) verifying.*100 %.*\r\u001b\[K$/s)
  t.equal((await kos(["event", "verify"], { home: node.home })).err, "")
  const written: Array<string> = []
  const bar = progressBar({ write: (text) => written.push(text) > 0, once: () => {}, off: () => {}, isTTY: true, columns: 40 }, true)
  bar.show(7, 0, "long\u001b[2J words ".repeat(20))
  t.ok((written[0] ?? "").length <= 40 + 4)
  t.notMatch((written[0] ?? "").slice(0, -3), /\u001b/)
})

t.test("tables are aligned by what a terminal shows", async (t) => {
  const lines = table(view, ["name", "n#"], [["漢字", "1"], ["abc", "1000"], ["line\nbreak", "2"]])
  t.strictSame(lines.map(width), [18, 18, 18, 18])
  t.equal(width("e\u0301"), 1)
})

t.test("what is said of updates is plain, whole and no broader than the terminal, whatever stands in it", async (t) => {
  const nasty = ["", " ", "\u001b[2J\u202egone", "漢字".repeat(60), "word ".repeat(100), "line\nbreak\ttab", "x".repeat(3_000)]
  const row = (text: string, more: object = {}) => ({
    id: key("a"), name: "kos", version: "9.1.0", kind: "bundle", platform: "linux-x64", channel: text, security: true, state: text, running: false, verdict: "compatible", reasons: [text], waits: text, ...more
  })
  const channel = (text: string) => ({ name: text, channel: key("a"), log: key("b"), trust: "untrusted", detail: text, releases: 0, versions: { root: 0, timestamp: 0, snapshot: 0, targets: 0 } })
  const signers = [{ key: key("c"), name: "" }, { key: key("d"), name: "mill" }]
  const done = { summary: "done", events: [] }
  const limits = { upload: "0B", download: "4MiB", window: "never", metered: true }
  const values = (text: string): ReadonlyArray<readonly [name: string, value: object, table: boolean]> => [
    ["update.check", { channels: [channel(text)], offers: [row(text), row(text, { platform: "any" })] }, true],
    ["update.list", [row(text), row(text, { running: true }), row(text, { verdict: "unfit" }), row(text, { verdict: "stale" }), row(text, { state: "rolled-back" })], true],
    ["update.show", {
      ...row(text), target: text, role: text, threshold: 2, signers, boards: [text], payloadBytes: 0, from: text, kosMin: null, kosBelow: "9.9.9", minSecure: text, ring: "canary", permille: 5, checks: [text], migrations: [text],
      risk: text, notes: text, reads: 0, writes: 0
    }, false],
    ["update.plan", {
      release: row(text), changes: [text], fetchBytes: 0, spaceBytes: 1, freeBytes: 0, signers: [], threshold: 1, peers: [text], migrations: [text], risks: [text],
      advice: [{ by, stance: "veto", text, counts: false }, { by, stance: "advice", text, counts: false }]
    }, false],
    ["update.fetch", { release: row(text), summary: "done", hereBytes: 0, patchedBytes: 0, fetchedBytes: 0 }, true],
    ["update.try", { summary: "", trials: [{ id: text, name: text, version: text, state: text, since: by.at, events: 0, isolation: text }], log: [] }, true],
    ["update.apply", { release: row(text), summary: "done", restarting: true, differences: [] }, true],
    ["update.boot", { summary: "done", generation: 0, version: text }, true],
    ["update.rollback", { summary: "done", generation: 0, version: text }, true],
    ["update.history", [{ by, step: "rolled-back", id: key("a"), name: text, version: text, detail: text }], true],
    ["update.slots", [{ generation: 1_000_000, name: "kos", version: text, state: "failed", running: true, path: `/${text}` }], true],
    ["update.channel", { ...done, channels: [channel(text)], others: [] }, true],
    ["update.export", { file: "/f", bytes: 0, channels: 0, packs: 0 }, true],
    ["update.import", { file: text, summary: "done", blocks: 0, packs: 0, offers: [row(text)] }, true],
    ["seed.list", { seeds: [{ pack: key("a"), releases: [text, text, text, text], bytes: 2, heldBytes: 1, uploadedBytes: 0, downloadedBytes: 0, wires: 0, seeding: false }], limits, rests: "", banned: [], pid: 0, memoryBytes: 0 }, true],
    ["seed.limit", { ...done, limits }, false]
  ]
  for (const text of nasty) {
    for (const [name, value, narrow] of values(text)) {
      const lines = render(name, safeDeep(value), view)
      t.ok(lines.length > 0, name)
      for (const line of lines) {
        t.notMatch(line, /undefined|NaN|\[object|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/, name)
        if (narrow && width(line) > 80) t.fail(`${name} is ${width(line)} columns wide: ${line}`)
      }
    }
  }
  for (const [name, value, says] of [
    ["update.check", { channels: [], offers: [] }, /No channel is followed/], ["update.check", { channels: [channel("x")], offers: [] }, /Nothing is offered/], ["update.list", [], /Nothing is offered/],
    ["update.history", [], /No update/], ["update.channel", { ...done, summary: "", channels: [], others: [] }, /No channel/], ["update.try", { summary: "", trials: [], log: [] }, /Nothing is being tried/],
    ["seed.list", { seeds: [], limits, rests: "", banned: [], pid: 0, memoryBytes: 0 }, /holds no packs/]
  ] as const) t.match(render(name, value, view).join("\n"), says, `${name} says that there is nothing`)
  // A hint may only name what can be typed.
  for (const [name, value] of values("x")) {
    for (const [, command] of render(name, value, view).join("\n").matchAll(/\bkos ((?:wait|update|seed)[a-z0-9. -]*?)(?= and |$)/gm)) t.ok(Result.isSuccess(parse((command ?? "").trim().split(" "))), `${name}: kos ${command}`)
  }
})

t.test("home: flag before environment before XDG", async (t) => {
  const { homeOf } = await import("../src/api/home.ts")
  t.equal(homeOf("x", { KOS_HOME: "/e" }, "/c"), "/c/x")
  t.equal(homeOf(undefined, { KOS_HOME: "/e", XDG_DATA_HOME: "/d" }, "/c"), "/e")
  t.match(homeOf(undefined, { XDG_DATA_HOME: "/d", HOME: "/h" }, "/c"), /^(\/d\/kos|\/var\/lib\/kos)$/)
  t.match(homeOf(undefined, { XDG_DATA_HOME: "relative", HOME: "/h" }, "/c"), /^(\/h\/\.local\/share\/kos|\/var\/lib\/kos)$/)
})
