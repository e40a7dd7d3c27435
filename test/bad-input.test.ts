/** What a person gets for a mistake: which one, what was expected, an exit code to act on, and a node that is as it was. */
import { writeFileSync } from "node:fs"
import t from "tap"
import { filesWith, homesOf, isPlain, kos, problemOf, testNode, TestNode } from "./daemon-process.ts"

t.setTimeout(110_000)

/** What the node says of itself that a refused command must not have changed. */
const stateOf = async (node: TestNode) => ({
  config: (await node.ask("config.show")).values, memory: await node.ask("memory.list"), agents: await node.ask("agent.list"), mesh: await node.ask("mesh.show"),
  invites: await node.ask("invite.list", ["--all"]), changed: (await node.ask("event.list", ["--limit", "10000"])).filter(({ type }) => type !== "command.refused/1")
})

interface Wrong {
  readonly argv: ReadonlyArray<string>
  readonly code: number
  readonly says: RegExp
  readonly path?: string
  readonly stdin?: string
}

t.test("each mistake is named with what was expected, and nothing is written", async (t) => {
  const directory = homesOf(t, {
    "wrong.yaml": "network:\n  port: many\nlog:\n  levl: loud\n", "torn.json": "{\"log\": ", "list.toml": "[[log]]\nlevel = 3\n", "agent.yaml": "name: 7\ncommand: x\n",
    "nothing.kos": "", "text.kos": "not a bundle at all", "binary.yaml": Buffer.from([0xff, 0xfe, 0x00])
  })
  const node = testNode(t, directory, { name: "alpha", isolated: true })
  await node.start()
  await node.ask("memory.add", ["notes/todo", "Oil the door."])
  await node.ask("config.set", ["log.level", "warn"])
  const before = await stateOf(node)
  const at = (name: string) => `${directory}/${name}`
  const mistakes: ReadonlyArray<Wrong> = [
    // Unknown command, flag, path, type.
    { argv: ["sttus"], code: 2, says: /unknown command "sttus"; did you mean status\?/ },
    { argv: ["config", "gte", "log.level"], code: 2, says: /did you mean (config )?get/ },
    { argv: ["config"], code: 2, says: /config needs a verb/ },
    { argv: ["status", "--jsn"], code: 2, says: /no flag --jsn; did you mean --json\?/ },
    { argv: ["config", "set", "log.level", "warn", "--lyaer", "mesh"], code: 2, says: /did you mean --layer\?/ },
    { argv: ["config", "set"], code: 2, says: /PATH is missing: a setting/ },
    { argv: ["config", "get", "network.prt"], code: 4, says: /there is no setting network\.prt; did you mean network\.port/ },
    { argv: ["config", "set", "network.prt", "1"], code: 4, says: /network\.prt.*did you mean network\.port/ },
    { argv: ["config", "explain", "netwrk.port"], code: 4, says: /did you mean network\.port/ },
    { argv: ["config", "get", "network"], code: 4, says: /network is a group, not a setting/ },
    { argv: ["event", "list", "--type", "confg.changed/1"], code: 4, says: /confg\.changed\/1; did you mean config\.changed\/1/ },
    { argv: ["events", "--type", "node.startd/1"], code: 4, says: /did you mean node\.started\/1/ },
    { argv: ["event", "list", "--node", "beta"], code: 4, says: /no node of this mesh is called beta/ },
    { argv: ["event", "show", "@99999"], code: 4, says: /there is no event @99999 here/ },
    { argv: ["event", "show", "banana"], code: 2, says: /neither @NUMBER nor an address/ },
    { argv: ["event", "at", "last week", "log.level"], code: 2, says: /is no point: expected @NUMBER/ },
    { argv: ["event", "at", "now", "memory/notes/nothing"], code: 4, says: /did not exist/ },
    { argv: ["event", "list", "--since", "banana"], code: 2, says: /banana/ },
    { argv: ["memory", "show", "notes/tood"], code: 4, says: /there is no page "notes\/tood"; did you mean notes\/todo\?/ },
    { argv: ["memory", "show", "todo"], code: 2, says: /expected MODULE\/PAGE/, path: "page" },
    { argv: ["memory", "history", "notes/nothing"], code: 4, says: /no page/ },
    { argv: ["agent", "show", "watcher"], code: 4, says: /there is no agent/ },
    { argv: ["agent", "start", "watcher"], code: 4, says: /there is no agent/ },
    { argv: ["node", "show", "cellar"], code: 4, says: /cellar/ },
    { argv: ["config", "resolve", "network.port", "1"], code: 4, says: /there is no conflict/ },
    { argv: ["invite", "revoke", "7f3a"], code: 4, says: /no invite/ },
    { argv: ["help", "exit-cods"], code: 4, says: /did you mean exit-codes\?/ },
    { argv: ["wait", "peer=cellar", "--timeout", "1"], code: 4, says: /no node of this mesh is called cellar/ },
    { argv: ["wait", "later"], code: 2, says: /expected ready, synced or peer=NAME/ },
    // A wrong type, a value outside its limits, a file with faults: which path, and what was expected.
    { argv: ["config", "set", "network.port", "many"], code: 2, says: /network\.port: expected a whole number from 0 to 65535, found the text "many"; nothing was written/ },
    { argv: ["config", "set", "network.port", "65536"], code: 2, says: /from 0 to 65535, found the number 65536/ },
    { argv: ["config", "set", "network.port", "1.5"], code: 2, says: /expected a whole number/ },
    { argv: ["config", "set", "log.level", "loud"], code: 2, says: /log\.level: expected debug, info, warn or error/ },
    { argv: ["config", "set", "health.interval", "soon"], code: 2, says: /health\.interval: expected/ },
    { argv: ["config", "set", "network.lan", "perhaps"], code: 2, says: /network\.lan: expected/ },
    { argv: ["config", "set", "network.bootstrap", "nowhere"], code: 2, says: /network\.bootstrap/ },
    { argv: ["config", "set", "network.port", "4077", "--layer", "mesh"], code: 2, says: /cannot be set for the whole mesh: only for a node/ },
    { argv: ["config", "set", "log.level", "warn", "--layer", "planet"], code: 2, says: /layer: expected/, path: "--layer" },
    { argv: ["config", "set", "user.__proto__.x", "1"], code: 2, says: /__proto__/ },
    { argv: ["config", "set", "log.files.max", "100", "--as", "somebody"], code: 2, says: /the actor must be device, agent:NAME or person:NAME/ },
    { argv: ["config", "apply", at("wrong.yaml")], code: 2, says: /network\.port: expected a whole number/ },
    { argv: ["config", "apply", at("torn.json")], code: 2, says: /line 1: log: expected a value, found the end of the text; nothing was written/ },
    { argv: ["config", "apply", at("list.toml")], code: 2, says: /log/ },
    { argv: ["config", "apply", at("binary.yaml")], code: 2, says: /is not UTF-8 text/ },
    { argv: ["config", "apply", at("nowhere.yaml")], code: 4, says: /there is no file/ },
    { argv: ["agent", "apply", at("agent.yaml")], code: 2, says: /name/ },
    { argv: ["memory", "add", "notes/todo", "--field", "novalue"], code: 2, says: /expected KEY=VALUE/ },
    { argv: ["memory", "add", "notes/todo", "x".repeat(200_000)], code: 2, says: /128\s?KiB|131072/ },
    { argv: ["node", "name", "bad name/"], code: 2, says: /a node's name is letters, digits/ },
    { argv: ["sync", "pause", "soon"], code: 2, says: /expected a duration such as 30m/ },
    { argv: ["sync", "import", at("nowhere.kos")], code: 4, says: /nowhere\.kos/ },
    { argv: ["sync", "import", at("nothing.kos")], code: 2, says: /the bundle was refused at byte 0/ },
    { argv: ["sync", "import", at("text.kos")], code: 2, says: /the bundle was refused at byte/ },
    { argv: ["invite", "create", "--expires", "never"], code: 2, says: /expected a duration such as 30m, 24h or 7d/, path: "expires" },
    { argv: ["invite", "create", "--uses", "0"], code: 2, says: /uses/ },
    { argv: ["invite", "create", "--role", "king"], code: 2, says: /role: expected/ },
    // Invites that are none.
    { argv: ["join", "nonsense"], code: 5, says: /the invite cannot be read/ },
    { argv: ["join", "kos-invite:aaaa"], code: 5, says: /the invite cannot be read/ },
    { argv: ["leave"], code: 6, says: /the whole mesh; there is nothing to leave/ },
    { argv: ["sync", "now"], code: 9, says: /isolated/ }
  ]
  for (const { argv, code, says, path } of mistakes) {
    const shown = argv.join(" ").slice(0, 60)
    const problem = await node.refused(argv)
    t.equal(problem.code, code, `${shown}: exit ${code}`)
    t.match(problem.detail, says, shown)
    if (path !== undefined) t.equal(problem.path, path, `${shown}: the path is named`)
    const told = await node.run(argv)
    t.equal(told.code, code, `${shown}: the same for a person`)
    if (told.err.startsWith("kos:")) t.match(told.err, says)
    t.ok(isPlain(told.err) && told.out === "", `${shown}: plain text on stderr alone`)
  }
  t.same(await stateOf(node), before, "nothing was written")
  const refused = (await node.ask("event.list", ["--type", "command.refused/1", "--limit", "1000"])).map(({ summary }) => summary)
  for (const name of ["config.set", "config.apply", "memory.add", "agent.start", "agent.apply", "join", "leave", "invite.revoke", "node.name", "sync.import", "sync.now", "config.resolve"]) {
    t.ok(refused.some((summary) => summary.startsWith(`${name} refused: `)), `${name}: the refusal is an event`)
  }
  t.match(await node.run(["config", "validate", at("wrong.yaml")]), { code: 2, out: /network\.port/ })
  t.match(await node.run(["config", "diff", at("wrong.yaml"), "--json"]), { code: 2, out: /"faults":\[\{/ })
})

t.test("invites that were used, have expired or were withdrawn say which, and nobody comes in", async (t) => {
  const directory = homesOf(t)
  const host = await testNode(t, directory, { name: "host" }).start()
  const guests = await Promise.all(["used", "late", "withdrawn", "first"].map((name) => testNode(t, directory, { name }).start()))
  const [used, late, withdrawn, first] = guests
  if (used === undefined || late === undefined || withdrawn === undefined || first === undefined) throw new Error("no guests")
  await host.ask("mesh.create", ["hill"])
  const [once, gone] = [await host.ask("invite.create"), await host.ask("invite.create")]
  await first.ask("join", [once.invite])
  await host.ask("invite.revoke", [gone.id])
  // The candidate's own clock does not decide: the host runs ahead by two hours after it made a short invite.
  const short = await host.ask("invite.create", ["--expires", "1m"])
  const refusals = [[used, once.invite, /used/], [withdrawn, gone.invite, /withdrawn/]] as const
  for (const [guest, invite, says] of refusals) {
    const problem = await guest.refused(["join", invite, "--timeout", "20"])
    t.match(problem, { code: 5, kind: "denied", detail: says })
    t.equal((await guest.ask("mesh.show")).members.length, 1, "it stays a mesh of its own")
    t.match(await guest.ask("event.list", ["--type", "command.refused/1"]), [{ summary: /^join refused: / }])
  }
  await host.stop()
  await host.start({ node: ["--import", new URL("./shifted-clock.ts", import.meta.url).pathname], env: { KOS_TEST_CLOCK_MS: String(2 * 3_600_000) } })
  const problem = await late.refused(["join", short.invite, "--timeout", "20"])
  t.match(problem, { code: 5, kind: "denied", detail: /expired/ })
  t.equal((await late.ask("mesh.show")).members.length, 1)
  t.same((await host.ask("invite.list", ["--all"])).map(({ id, state }) => [id, state]).sort(), [[once.id, "used"], [gone.id, "withdrawn"], [short.id, "expired"]].sort())
  t.same((await host.ask("mesh.show")).members.map(({ name }) => name).sort(), ["first", "host"], "nobody else came in")
  t.match(await first.refused(["join", short.invite]), { code: 6, detail: /in hill already/ })
})

t.test("without a daemon one sentence says how to start it; a second one is told the pid of the first", async (t) => {
  const directory = homesOf(t)
  const home = `${directory}/home of mine`
  const ran = await kos(["--home", home, "status"], { process: true })
  t.equal(ran.code, 3)
  t.equal(ran.err, `kos: No daemon runs on ${home}.\n  next: kos --home '${home}' daemon run\n`)
  t.match(problemOf(await kos(["--home", home, "config", "set", "log.level", "warn", "--json"], { process: true }), []), { code: 3, kind: "no-daemon", hint: `kos --home '${home}' daemon run` })
  t.match(await kos(["config", "show"], { env: { KOS_HOME: home } }), { code: 3 })
  const node = testNode(t, directory, { name: "alpha", isolated: true })
  await node.start()
  const second = await kos(["--home", node.home, "daemon", "run", "--json"], { process: true })
  t.match(problemOf(second, ["daemon run"]), { code: 6, kind: "conflict", detail: new RegExp(`already: pid ${node.pid}$`) })
  t.match(await kos(["--home", node.home, "init"], { process: true }), { code: 6, err: new RegExp(`pid ${node.pid}`) })
  t.equal((await node.ask("status")).node.pid, node.pid, "and the first lives")
  await node.kill()
  t.match(await node.refused(["status"]), { code: 3 })
  await node.start()
  t.equal((await node.ask("status")).uncleanStops.count, 1, "a pid file of a dead daemon is no obstacle")
})

t.test("a secret is refused with a word about the vault and stands nowhere", async (t) => {
  const directory = homesOf(t)
  const node = testNode(t, directory, { name: "alpha", isolated: true })
  await node.start()
  // Made at run time, so that no scanner of sources stumbles over them.
  const token = `ghp_${"a1B2c3D4e5F6".repeat(3)}`
  const password = "correct-horse-battery-9"
  const key = `-----BEGIN OPENSSH ${"PRIVATE"} KEY-----\n${"b3BlbnNzaC1rZXktdjEAAAAABG5vbmU".repeat(3)}\n-----END OPENSSH ${"PRIVATE"} KEY-----\n`
  const secretFile = `${directory}/agent.yaml`
  writeFileSync(secretFile, `name: watcher\ncommand: [run]\nenv:\n  TOKEN: ${token}\n`)
  const tries: ReadonlyArray<readonly [ReadonlyArray<string>, string?]> = [
    [["config", "set", "user.mail.token", token]], [["config", "set", "secrets.mail", password]], [["config", "set", "user.mail.password", password]],
    [["memory", "add", "notes/keys"], key], [["memory", "add", "notes/keys", "--field", `password=${password}`]], [["agent", "apply", secretFile]],
    [["config", "set", "user.key", "-"], key]
  ]
  for (const [argv, stdin] of tries) {
    const ran = await node.run([...argv, "--json"], stdin === undefined ? {} : { stdin })
    const problem = problemOf(ran, argv)
    t.equal(problem.code, 9, `${argv.slice(0, 3).join(" ")} is refused by policy`)
    t.match(problem.detail, /vault/)
    t.notOk(problem.detail.includes(token) || problem.detail.includes(password) || problem.detail.includes("b3BlbnNz"), "the answer does not repeat it")
  }
  await node.ask("config.set", ["user.mail.password", "vault:mail"])
  t.equal((await node.ask("config.get", ["user.mail.password"])).value, "vault:mail", "a reference to the vault may stand there")
  t.equal((await node.ask("status")).refusedCommands, tries.length)
  await node.stop()
  for (const secret of [token, password, "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"]) t.same(filesWith(node.home, secret), [], "no file of the home holds it")
  t.same(filesWith(node.home, "alpha").length > 0, true, "the search itself works")
})
