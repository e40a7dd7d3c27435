/** Every operation against a real daemon: the answer fits the operation's own schema, and what a person reads fits a terminal. */
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs"
import t, { type Test } from "tap"
import { uuidv7 } from "../src/codec/uuid.ts"
import { operations } from "../src/api/operations/table.ts"
import { asked, filesBelow, homesOf, isPlain, joinMesh, kos, testNode, type TestNode } from "./daemon-process.ts"

t.setTimeout(110_000)

const columns = 80

/** What must fit a terminal whatever is in it; other answers hold texts of any length, which the terminal wraps. */
const fitting = new Set([
  "status", "doctor", "node list", "node show", "mesh show", "sync status", "invite list", "memory list", "agent list", "agent show watcher", "config conflicts",
  "config history", "config explain log.level", "event verify"
])

/** What a person gets of a command that succeeds. */
const human = async (t: Test, node: TestNode, argv: ReadonlyArray<string>): Promise<string> => {
  const ran = await node.run(argv, { columns })
  const shown = argv.join(" ").slice(0, 60)
  t.ok(ran.code === 0 || ran.code === 10, `${shown}: done (${ran.code}) ${ran.err}`)
  t.ok(isPlain(ran.out) && ran.out !== "" && ran.err === "", `${shown}: plain text on stdout`)
  const long = ran.out.split("\n").filter((line) => line.length > columns)
  if (fitting.has(argv.join(" "))) t.same(long, [], `${shown}: fits ${columns} columns`)
  return ran.out
}

/** An editor that replaces text: `sed` on the file that it is given. */
const editor = (directory: string, script: string): Readonly<Record<string, string>> => {
  const path = `${directory}/editor.sh`
  writeFileSync(path, `#!/bin/sh\nsed -i '${script}' "$1"\n`)
  chmodSync(path, 0o700)
  return { EDITOR: path }
}

t.test("settings: three layers, edit, diff, apply, history, revert, explain, validate", async (t) => {
  const directory = homesOf(t, {
    "site.yaml": "log:\n  level: error\nuser:\n  garden:\n    pump: 3\n    names: [a, b]\n", "site.toml": "[user.garden]\npump = 4\n", "site.json": "{\"user\": {\"garden\": {\"pump\": 5}}}"
  })
  const node = await testNode(t, directory, { name: "alpha", isolated: true }).start()
  t.match(await node.ask("config.get", ["log.level"]), { value: "info", layer: "default", by: null, at: null })
  const layers = [["mesh", "debug"], ["role", "warn"], ["node", "error"]] as const
  for (const [layer, level] of layers) {
    t.match(await node.ask("config.set", ["log.level", level, "--layer", layer]), { path: "log.level", layer, after: level })
    t.match(await node.ask("config.get", ["log.level"]), { value: level, layer, by: { node: "alpha", actor: "device" }, at: /^\d{4}-/ }, "the stronger layer wins")
  }
  t.same((await node.ask("config.explain", ["log.level"])).layers.map(({ layer, value }) => [layer, value]).slice(0, 4), [["node", "error"], ["role", "warn"], ["mesh", "debug"], ["default", "info"]])
  t.match(await node.ask("config.unset", ["log.level"]), { before: "error", after: "warn" })
  t.equal((await node.run(["config", "get", "log.level"])).out, "warn\n", "the bare value")
  t.match((await node.ask("config.get", ["network.mode"])), { value: "isolated", layer: "environment" })
  t.match((await node.ask("config.get", ["network.dht"])), { value: false, layer: "flag" })

  t.same((await node.ask("config.diff", [`${directory}/site.yaml`])).differences.map(({ path, change }) => [path, change]), [["log.level", "added"], ["user.garden.names", "added"], ["user.garden.pump", "added"]])
  t.same(await node.ask("config.validate", [`${directory}/site.yaml`]), { valid: true, faults: [] })
  t.same(await node.ask("config.validate"), { valid: true, faults: [] })
  const applied = await node.ask("config.apply", [`${directory}/site.yaml`])
  t.same(applied.differences.map(({ path }) => path).toSorted(), ["log.level", "user.garden.names", "user.garden.pump"])
  t.same((await node.ask("config.diff", [`${directory}/site.yaml`])).differences, [])
  for (const [file, pump] of [["site.toml", 4], ["site.json", 5]] as const) {
    await node.ask("config.apply", [`${directory}/${file}`])
    t.equal((await node.ask("config.get", ["user.garden.pump"])).value, pump)
  }
  for (const format of ["yaml", "toml", "json"]) t.match((await node.ask("config.show", ["user", "--format", format])), { values: { user: { garden: { pump: 5 } } }, text: /pump/ })
  const history = await node.ask("config.history", ["user.garden.pump"])
  t.same(history.map(({ before, after }) => [before, after]), [[undefined, 3], [3, 4], [4, 5]])
  await node.ask("config.revert", [`@${history.at(-1)?.by.arrival}`])
  t.equal((await node.ask("config.get", ["user.garden.pump"])).value, 4, "reverted")

  const edited = await node.ask("config.edit", [], { env: editor(directory, "s/pump: 4/pump: 7/") })
  t.match(edited.differences, [{ path: "user.garden.pump", before: 4, after: 7 }])
  t.match(await node.run(["config", "edit"], { env: { EDITOR: "true" } }), { code: 0, err: "Nothing changed.\n" })
  t.match(await node.run(["config", "edit"], { env: { EDITOR: "false" } }), { code: 1, err: /nothing was changed/ })
  const bad = await node.run(["config", "edit"], { env: editor(directory, "s/pump: 7/pump: [/") })
  t.equal(bad.code, 2)
  t.match(readFileSync(/your text is kept in (\S+)/.exec(bad.err)?.[1] ?? "", "utf8"), /pump: \[/, "a bad edit is not lost")
  t.equal((await node.ask("config.get", ["user.garden.pump"])).value, 7)

  for (const argv of [["show"], ["show", "--defaults"], ["explain", "log.level"], ["history"], ["get", "log.level"], ["conflicts"], ["validate"], ["diff", `${directory}/site.json`]]) await human(t, node, ["config", ...argv])
})

t.test("memory and agents", async (t) => {
  const directory = homesOf(t, { "watcher.yaml": "name: watcher\ndescription: Looks at the garden\ncommand: [/bin/true]\nwhere: [all]\n", "watcher.json": "{\"name\": \"watcher\", \"command\": [\"/bin/false\"]}" })
  const node = await testNode(t, directory, { name: "alpha", isolated: true }).start()
  t.match(await node.ask("memory.add", ["notes/todo", "Oil the door."]), { page: "notes/todo", created: true })
  const { events: [first] } = await node.ask("memory.add", ["notes/todo", "Water the beans."], { env: {} })
  await node.ask("memory.edit", ["notes/todo", "--field", "due=3", "--field", "who=Ann"])
  await node.ask("memory.edit", ["notes/todo", "--unset", "who"])
  t.match(await node.ask("memory.show", ["notes/todo"]), { text: "Oil the door.\n\nWater the beans.", fields: { due: 3 }, authors: ["alpha"], conflicts: [] })
  await node.ask("memory.edit", ["notes/todo"], { env: editor(directory, "s/door/gate/") })
  await node.ask("memory.add", ["notes/readme"], { stdin: "a draft" })
  await node.ask("memory.edit", ["notes/readme"], { stdin: "# Read me\nof the \u001b[31m garden pump\n" })
  t.match((await node.ask("memory.show", ["notes/todo"])).text, /Oil the gate/)
  t.match((await node.ask("memory.show", ["notes/todo", "--at", `@${first?.arrival}`])), { text: "Oil the door.\n\nWater the beans.", fields: {} })
  t.same((await node.ask("memory.search", ["garden", "pump"])).map(({ page, line }) => [page, line]), [["notes/readme", 2]])
  t.same((await node.ask("memory.search", ["gate"])).map(({ page }) => page), ["notes/todo"])
  t.same((await node.ask("memory.search", ["door"])), [], "what is written no more is not found")
  t.same((await node.ask("memory.list")).map(({ page }) => page), ["notes/readme", "notes/todo"])
  t.equal((await node.ask("memory.history", ["notes/todo"])).length, 5)
  for (const argv of [["list"], ["show", "notes/readme"], ["history", "notes/todo", "--text"], ["search", "garden"]]) await human(t, node, ["memory", ...argv])
  await node.ask("memory.forget", ["notes/todo"])
  t.match(await node.refused(["memory", "show", "notes/todo"]), { code: 4, detail: /was forgotten; its history stays/ })
  t.ok((await node.ask("memory.history", ["notes/todo", "--text"])).some(({ after }) => String(after).includes("gate")), "its history stays")

  t.match(await node.ask("agent.apply", [`${directory}/watcher.yaml`]), { name: "watcher", version: "1", created: true })
  t.match(await node.ask("agent.apply", [`${directory}/watcher.json`]), { name: "watcher", version: "2", created: false })
  await node.ask("agent.start", ["watcher"])
  t.match(await node.ask("agent.list"), [{ name: "watcher", desired: "running", valid: true }])
  await human(t, node, ["agent", "list"])
  await human(t, node, ["agent", "show", "watcher"])
  await node.ask("agent.stop", ["watcher"])
  t.match(await node.ask("agent.show", ["watcher"]), { desired: "stopped", definition: { command: ["/bin/false"] } })
  await node.ask("agent.remove", ["watcher"])
  t.same(await node.ask("agent.list"), [])
  t.match(await node.refused(["agent", "show", "watcher"]), { code: 4 })
})

t.test("events, points, waiting, logs and the doors", async (t) => {
  const directory = homesOf(t)
  const node = await testNode(t, directory, { name: "alpha", isolated: true }).start()
  const set = async (value: string) => (await node.ask("config.set", ["user.a", value, "--as", "person:Ann"])).events[0]?.arrival ?? 0
  const one = await set("1")
  const two = await set("2")
  await node.ask("memory.add", ["notes/todo", "Oil the door."])
  t.match(await node.ask("event.at", [`@${one}`, "user.a"]), { value: 1, by: { actor: "person:Ann" } })
  t.match(await node.ask("event.at", [`@${two}`, "user.a"]), { value: 2 })
  t.match(await node.ask("event.at", ["now", "memory/notes/todo"]), { value: { text: "Oil the door." } })
  t.match(await node.refused(["event", "at", "1h", "user.a"]), { code: 4 }, "an hour ago there was nothing")
  t.match(await node.ask("event.diff", [`@${one}`, `@${two}`]), { events: 1, differences: [{ path: "user.a", change: "changed", before: 1, after: 2, by: { actor: "person:Ann" } }] })
  t.equal((await node.ask("event.list", ["--actor", "person:Ann"])).length, 2)
  t.equal((await node.ask("event.list", ["--subject", "memory/"])).length, 1)
  t.equal((await node.ask("event.list", ["--type", "config.*", "--since", `@${two}`])).length, 1)
  t.equal((await node.ask("event.list", ["--until", `@${one}`])).at(-1)?.arrival, one)
  t.equal((await node.ask("event.list", ["--since", "1h", "--limit", "2"])).length, 2)
  t.same(await node.ask("event.list", ["--until", "1h"]), [])
  t.match(await node.ask("event.show", [`@${two}`]), { type: "config.changed/1", actor: "person:Ann", known: true, heldBy: ["alpha"], body: { summary: /user\.a/ } })
  const types = await node.ask("event.types")
  t.ok(types.writes.length > 50 && types.writes.every((type) => types.reads.includes(type)), "what this version writes it can read")
  await human(t, node, ["event", "types"])
  t.match(await node.ask("event.verify"), { clean: true, misbehaviour: [] })
  const exported = await node.lines("event.export")
  t.equal(exported.length, (await node.ask("event.list", ["--limit", "1000"])).length)
  t.match(exported.at(-1), { specversion: "1.0", type: "memory.changed/1", kosnode: "alpha", datacontenttype: "application/json" })
  t.same((await node.list("events", ["--limit", "3"])).map(({ kosarrival }) => kosarrival), exported.slice(-3).map((event) => "kosarrival" in event ? event.kosarrival : 0))
  // Followed as they come.
  const followed = node.lines("events", ["-f", "--type", "memory.*", "--limit", "1"], { until: (out) => out.split("\n").length > 2 })
  await node.ask("memory.add", ["notes/todo", "Once more."])
  const seen = await followed
  t.same(seen.map((event) => event.type), ["memory.changed/1", "memory.changed/1"])

  t.match(await node.ask("wait", ["ready"]), { condition: "ready", met: true })
  t.match(await node.ask("wait", ["synced"]), { met: true }, "alone is in step")
  t.match(await node.list("logs", ["--level", "info", "--since", "1h"]), [{ level: "info", text: "the node is ready" }])
  t.match(JSON.parse((await node.get("/livez")).text), { live: true, pid: node.pid })
  t.match(JSON.parse((await node.get("/readyz")).text), { ready: true, checks: [{ name: "log writable", ok: true }, { name: "projections caught up", ok: true }, { name: "disk", ok: true }] })
  t.match((await node.get("/metrics")).text, /^# HELP kos_events_total[\s\S]*kos_events_total\{status="known"\} \d+\n/)
  const api = JSON.parse((await node.get("/openapi.json")).text) as { openapi: string; paths: Record<string, unknown> }
  for (const { name, place } of operations) if (place !== "local") t.ok(`/v1/${name.replace(".", "/")}` in api.paths, `${name} stands in the description of the API`)
  t.equal((await node.get("/v1/nothing")).status, 404)

  const status = await human(t, node, ["status"])
  t.match(status, /^All well\. This node is a mesh of its own\.\n/)
  t.ok(status.trimEnd().split("\n").length <= 24, "within 24 lines")
  t.match(status, /\nNext: kos [^\n]+\n$/)
  for (const argv of [["doctor"], ["doctor", "--rebuild"], ["events"], ["logs"], ["event", "list"], ["event", "diff", `@${one}`], ["event", "at", "now", "user.a"], ["event", "verify"], ["node", "list"], ["node", "show"], ["mesh", "show"], ["sync", "status"], ["invite", "list"], ["help"], ["help", "config", "set"], ["help", "exit-codes"], ["help", "environment"], ["help", "files"], ["wait", "ready"]]) await human(t, node, argv)
  await human(t, node, ["event", "show", `@${two}`])
  for (const shell of ["bash", "zsh", "fish"]) await node.ask("completion", [shell])
  await node.ask("help", ["files"])
  t.match(await node.ask("doctor", ["--rebuild"]), { healthy: true, daemon: true, rebuild: { equal: true, differences: [] } })

  // Files only their owner can read.
  for (const path of filesBelow(node.home)) t.notOk(isOpen(path), `${path.slice(node.home.length)} is private`)
  await node.stop()
  t.match(await node.ask("doctor", [], { codes: [0] }), { daemon: false, healthy: true })
})

t.test("one command id is done once, and a repetition is answered as then", async (t) => {
  const node = await testNode(t, homesOf(t), { name: "alpha", isolated: true }).start()
  const id = uuidv7(Date.now(), crypto.getRandomValues(new Uint8Array(10)))
  const add = { page: "notes/todo", text: "Oil the door." }
  const first = await node.post("memory.add", add, id)
  t.equal(first.status, 200)
  const many = await Promise.all(Array.from({ length: 8 }, () => node.post("memory.add", add, id)))
  const events = (answer: { value: unknown }) => (answer.value as { events: ReadonlyArray<{ address: string }> }).events.map(({ address }) => address)
  for (const again of many) t.same([again.status, events(again)], [200, events(first)], "the same event")
  t.equal((await node.ask("memory.show", ["notes/todo"])).text, "Oil the door.", "added once")
  const refused = uuidv7(Date.now(), crypto.getRandomValues(new Uint8Array(10)))
  t.equal((await node.post("config.set", { path: "network.port", text: "many" }, refused)).status, 400)
  t.ok((await node.post("config.set", { path: "network.port", text: "4077" }, refused)).status >= 400, "a refused command stays refused")
  t.equal((await node.ask("event.list", ["--type", "command.refused/1"])).length, 1, "recorded once")
  t.equal((await node.ask("config.get", ["network.port"])).value, 0)
  t.match(await node.post("memory.add", add, "not-a-uuid"), { status: 400 })
  await node.kill()
  await node.start()
  t.same(events(await node.post("memory.add", add, id)), events(first), "also after a crash and a restart")
  t.equal((await node.ask("memory.show", ["notes/todo"])).text, "Oil the door.")
})

t.test("meshes: naming, inviting, joining, pausing, naming nodes, leaving", async (t) => {
  const directory = homesOf(t)
  const made = await kos(["--home", `${directory}/alpha`, "init", "alpha", "--json"])
  t.match(JSON.parse(made.out), { created: true, name: "alpha" })
  const again = await kos(["--home", `${directory}/alpha`, "init", "--json"])
  t.match(JSON.parse(again.out), { created: false, name: "alpha" }, "asked again it says who this is, and makes nothing")
  asked.add("init")
  const [alpha, beta] = [testNode(t, directory, { name: "alpha" }), testNode(t, directory, { name: "beta" })]
  await Promise.all([alpha.start({ args: [] }), beta.start()])
  await beta.ask("memory.add", ["diary/first", "before the mesh"])
  await joinMesh(alpha, beta)
  const shown = await beta.ask("mesh.show")
  t.match(shown, { name: "hill", role: "member" })
  t.same(shown.members.map(({ name, role }) => [name, role]).toSorted(), [["alpha", "owner"], ["beta", "member"]])
  t.equal((await alpha.until("memory.list", [], (pages) => pages.length === 1))[0]?.page, "diary/first", "its memory came along")
  t.match(await alpha.ask("invite.list", ["--all"]), [{ state: "used", used: 1 }])
  const open = await alpha.ask("invite.create", ["--expires", "1h", "--uses", "3"])
  t.match(await alpha.ask("invite.list"), [{ id: open.id, state: "open", uses: 3 }])
  await human(t, alpha, ["invite", "list"])
  await alpha.ask("invite.revoke", [open.id])
  t.match(await alpha.ask("node.name", ["attic"]), { name: "attic" })
  await beta.ask("node.name", ["cellar", "--node", "beta"])
  await beta.until("node.list", [], (nodes) => nodes.some(({ name }) => name === "attic"))
  t.same((await beta.ask("node.list")).map(({ name, inTouch }) => [name, inTouch]).toSorted(), [["attic", true], ["cellar", true]])
  t.match(await beta.ask("node.show", ["attic"]), { name: "attic", role: "owner", version: /^\d/ })
  t.match(await alpha.ask("wait", ["peer=cellar"]), { met: true })
  t.match(await alpha.ask("sync.now"), { reached: ["cellar"], missed: [] })
  const sync = await alpha.ask("sync.status")
  t.match(sync, { mode: "joined", paused: false, peers: [{ name: "cellar", inTouch: true }] })
  t.ok(sync.carriers.some(({ name, listening }) => name === "lan" && listening))
  for (const argv of [["sync", "status"], ["node", "list"], ["node", "show", "cellar"], ["mesh", "show"], ["status"]]) await human(t, alpha, argv)
  t.match(await alpha.ask("node.role", ["cellar", "admin"]), { role: "admin", was: "member" })
  t.match(await alpha.ask("mesh.threshold"), { threshold: 1, owners: ["attic"] })
  t.match(await alpha.ask("mesh.list"), [{ name: "hill" }])
  t.match(await alpha.ask("key.show"), { device: alpha.announced.device })
  t.same(await alpha.ask("service.list"), [])
  t.same(await alpha.ask("approval.list"), [])
  t.match(await alpha.refused(["node", "role", "cellar", "god"]), { code: 2 })
  t.match(await alpha.refused(["node", "revoke", "nobody"]), { code: 4 })
  await alpha.ask("node.role", ["cellar", "member"])
  for (const argv of [["mesh", "list"], ["key", "show"], ["mesh", "threshold"]]) await human(t, alpha, argv)
  await beta.ask("sync.pause", ["30m"])
  t.match(await beta.ask("sync.status"), { paused: true, pausedUntil: /^\d{4}-/ })
  await alpha.ask("memory.add", ["notes/paused", "while cellar rests"])
  t.match(await alpha.refused(["wait", "synced", "--timeout", "1"]), { code: 7, kind: "timeout" })
  t.same((await beta.ask("memory.list", ["notes"])).length, 0)
  await beta.ask("sync.resume")
  t.equal((await beta.until("memory.list", ["notes"], (pages) => pages.length === 1)).length, 1)
  t.match(await beta.ask("mesh.mode"), { mode: "joined" })
  const bundle = await alpha.ask("sync.export", [`${directory}/all.kos`])
  t.ok(bundle.blocks > 0)
  t.match(await beta.ask("sync.import", [`${directory}/all.kos`]), { refused: [] })
  t.match(await alpha.refused(["join", (await beta.ask("mesh.show")).id]), { code: 5 })
  await beta.ask("wait", ["synced"])
  await beta.ask("leave")
  t.match(await beta.ask("mesh.show"), { role: "owner", members: [{ name: "cellar" }] })
  t.equal((await beta.ask("memory.list")).length, 2, "it keeps what it held")
  const left = await alpha.until("mesh.show", [], ({ members }) => members.some(({ standing }) => standing === "left"))
  t.same(left.members.map(({ name, standing }) => [name, standing]).toSorted(), [["attic", "member"], ["cellar", "left"]])
})

/** Asked in daemon-vault, key-commands, key-recovery, daemon-approval, daemon-meshes, daemon-federation, daemon-connect, trust-*, update-daemon, update-commands, release-daemon and rehearsal.test.ts. */
const elsewhere = /^(vault|key|approval|update|seed|release)\.|^(daemon\.rehearse|connect|mesh\.use|mesh\.federate|node\.revoke|node\.clear|node\.ping)$/

t.test("no operation was left out", (t) => {
  const missing = operations.map(({ name }) => name).filter((name) => !asked.has(name as never) && !["dht.run", "invite.confirm", "config.conflicts", "config.resolve"].includes(name) && !elsewhere.test(name))
  t.same(missing, [], "dht run is shown where Hyperswarm is tested, conflicts in daemon-mesh.test.ts, the rest of trust in tests of its own")
  t.end()
})

const isOpen = (path: string): boolean => (statSync(path).mode & 0o077) !== 0
