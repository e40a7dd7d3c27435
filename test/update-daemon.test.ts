/** Updates by hand on real daemons: what each command says, what it refuses and with which exit code, and a node that takes a version and goes back. */
import { readFileSync, writeFileSync } from "node:fs"
import t, { type Test } from "tap"
import type { ProblemKind } from "../src/api/problem.ts"
import { operations } from "../src/api/operations/table.ts"
import { asked, eventually, homesOf, isPlain, testNode, type TestNode } from "./daemon-process.ts"
import { kosTree, openChannelAt, publish } from "./update-tree.ts"

t.setTimeout(110_000)

const columns = 80

/** What a person reads: plain, nothing on stderr, and no line broader than the terminal but for texts of any length. */
const human = async (t: Test, node: TestNode, argv: string): Promise<string> => {
  const { code, out, err } = await node.run(argv.split(" "), { columns })
  t.same([code, err], [0, ""], argv)
  t.ok(isPlain(out) && out !== "", `${argv}: plain text`)
  t.notMatch(out, /undefined|NaN|\[object|Infinity/, argv)
  return out
}

/** Refusals: what is asked, kind, exit code, what the sentence says, what the hint says. */
const refusals = async (t: Test, node: TestNode, rows: ReadonlyArray<readonly [argv: string, kind: ProblemKind, code: number, says: RegExp, hint?: RegExp]>): Promise<void> => {
  for (const [argv, kind, code, says, hint] of rows) {
    const refused = await node.refused(argv.split(" "))
    t.match(refused, { kind, code, detail: says }, argv)
    t.ok(isPlain(refused.detail) && !refused.detail.includes("\n"), `${argv}: one sentence`)
    if (hint !== undefined) t.match(refused.hint, hint, argv)
  }
}

const running = async (node: TestNode): Promise<string> => {
  try {
    return (await node.ask("update.slots")).find((slot) => slot.running)?.version ?? ""
  } catch {
    // It starts again just now.
    return ""
  }
}

const steps = async (node: TestNode): Promise<ReadonlyArray<string>> => (await node.ask("update.history")).map(({ step, version }) => `${version} ${step}`)

t.test("one node publishes to itself, takes the release by hand and goes back", async (t) => {
  const homes = homesOf(t)
  const node = await testNode(t, homes, { name: "mill", isolated: true, launched: true }).start()

  const first = await running(node)
  t.match(await human(t, node, "update check"), /^No channel is followed\.\n[^]*kos update channel stable --follow CODE/)
  for (const [argv, says] of [["update list", /Nothing is offered/], ["update history", /No update/], ["seed list", /holds no packs/], ["update channel", /No channel/], ["update try", /Nothing is being tried/]] as const) t.match(await human(t, node, argv), says)
  t.match(await node.ask("update.slots"), [{ generation: 0, version: first, state: "current", running: true }])
  await refusals(t, node, [
    ["update apply", "not-found", 4, /nothing is offered/, /update list/],
    ["update stop", "not-found", 4, /no update is under way/],
    ["update boot", "not-found", 4, /nothing lies ready/, /update slots/],
    ["update rollback", "not-found", 4, /no earlier version/, /update slots/],
    ["update check stable", "not-found", 4, /no channel called stable/, /update channel/],
    ["update channel stable", "not-found", 4, /no channel called stable/],
    ["update channel stable --unfollow", "not-found", 4, /no channel called stable/],
    ["update channel stable --settle", "not-found", 4, /no channel called stable/],
    ["update channel stable --follow kos-channel:abc", "usage", 2, /no code of a channel/, /release list/],
    ["update channel stable --follow kos-channel:abc --unfollow", "usage", 2, /opposite/],
    ["update channel --unfollow", "usage", 2, /a channel has a name/],
    ["update export /tmp/never", "conflict", 6, /no channel is followed/, /--follow CODE/]
  ])

  await node.ask("config.set", ["update.auto", "off"])
  const code = await openChannelAt(node, "stable")
  await refusals(t, node, [
    ["update channel Stable --follow " + code, "usage", 2, /small letters/],
    ["update channel stable --unfollow --layer node", "conflict", 6, /another layer than node/, /config explain update\.channels\.stable/]
  ])
  t.match(await node.ask("update.channel", ["stable", "--follow", code]), { events: [], channels: [{ name: "stable", trust: "fresh" }] }, "the same code once more changes nothing")
  t.match(await node.ask("update.channel", ["beta", "--follow", code, "--layer", "node"]), { summary: /this node follows beta/, channels: { length: 2 } })
  t.match(await node.ask("update.channel", ["beta", "--unfollow", "--layer", "node"]), { summary: /follows beta no more/, channels: { length: 1 } })

  const { release } = await publish(node, "stable", kosTree(`${homes}/one`, "9.1.0"), "9.1.0", ["--note", "line one\nline \u001b[2J two", "--risk", "the mill may stand still"])
  const { offers } = await node.ask("update.check", ["stable"])
  t.match(offers, [{ id: release, version: "9.1.0", verdict: "compatible", running: false, waits: "update.auto is off" }])
  t.same((await node.ask("update.list")).map(({ id }) => id), [release])
  t.match(await human(t, node, "update check"), /kos 9\.1\.0 .*\n\nNext: kos update plan 9\.1\.0/)
  t.match(await node.ask("update.show", ["kos@9.1.0"]), { id: release, threshold: 1, signers: [{ name: "mill" }], ring: "all", permille: 1_000, risk: "the mill may stand still" })
  const shown = await human(t, node, `update show ${release.slice(0, 8)}`)
  t.match(shown, /roll-out +every device\nby itself +no: update\.auto is off[^]*risk: the mill may stand still\n\nline one\nline \\x1b\[2J two/)
  t.match(await node.ask("update.plan", ["9.1.0"]), { release: { id: release }, fetchBytes: 0, peers: [], signers: [{ name: "mill" }] })
  t.match(await human(t, node, "update plan 9.1.0"), new RegExp(`kos goes from ${first.replaceAll(".", "\\.")} to 9\\.1\\.0[^]*held by +nobody else in touch[^]*Nothing was touched\\.\nNext: kos update apply 9\\.1\\.0`))

  await refusals(t, node, [
    ...["update show", "update plan", "update fetch", "update apply", "update stop", "seed add", "seed remove"].map((argv) => [`${argv} 7.7.7`, "not-found", 4, /no channel that is followed here has a release 7\.7\.7/, /update list --all/] as const),
    ["update advise 7.7.7 no", "not-found", 4, /release 7\.7\.7/],
    [`update export ${homes}/stick --release 7.7.7`, "not-found", 4, /release 7\.7\.7/],
    [`update export ${homes}/none/stick`, "not-found", 4, /there is no directory/],
    [`update import ${homes}/none`, "not-found", 4, /there is no file/],
    [`update import ${homes}`, "usage", 2, /no plain file/],
    ["update show zz", "not-found", 4, /release zz/],
    ["update boot 7", "not-found", 4, /no generation 7/, /update slots/],
    ["update boot 0", "conflict", 6, /runs here already/],
    ["update boot -1", "usage", 2, /between 0 and/],
    ["update boot 1.5", "usage", 2, /generation/],
    ["update rollback 7", "not-found", 4, /no generation 7/],
    ["update rollback 0", "conflict", 6, /runs here already/],
    ["update history --limit 0", "usage", 2, /between 1 and/],
    ["update pin new", "usage", 2, /no version/],
    ["update pin 9.1.0 --off", "usage", 2, /opposite/],
    ["update try a --drop b", "usage", 2, /one of them/],
    ["seed limit --up -5", "usage", 2, /seed\.upload\.max: expected a size/],
    ["seed limit --down many", "usage", 2, /seed\.download\.max/],
    ["seed limit --window 25:00-26:00", "usage", 2, /seed\.window/],
    ["seed limit --metered maybe", "usage", 2, /metered/]
  ])

  await node.ask("update.pause")
  t.match((await node.ask("update.list"))[0]?.waits, /paused/)
  await refusals(t, node, [["update fetch 9.1.0", "policy", 9, /paused/, /update resume/], ["update apply", "policy", 9, /paused/, /update resume/]])
  await node.ask("update.resume")
  await node.ask("update.pin", ["9.9.9"])
  await refusals(t, node, [["update apply", "policy", 9, /pinned to 9\.9\.9/, /update pin --off/]])
  await node.ask("update.pin", ["--off"])
  t.equal((await node.ask("update.list"))[0]?.state, "compatible", "nothing that was refused is done later")

  t.match(await human(t, node, "seed limit --up 512KiB --down 0 --window 22:00-06:00 --metered yes"), /keeps to these limits now.*\nup 512KiB a second, down without limit, from 22:00-06:00, local network only/)
  t.match(await node.ask("seed.limit", ["--up", "0", "--window", "always", "--metered", "no"]), { limits: { upload: "0B", download: "0B", window: "always", metered: false } })
  t.same((await node.ask("seed.limit")).events, [])
  const [pack] = (await node.ask("seed.list")).seeds
  if (pack === undefined) throw new Error("it holds no pack of what it published")
  t.match(pack, { releases: ["kos 9.1.0"], heldBytes: pack.bytes })
  t.match(await node.ask("seed.add", ["9.1.0"]), { packs: 1, bytes: pack.bytes })
  await human(t, node, "seed list")
  await refusals(t, node, [["seed remove 9.1.0", "conflict", 6, /may be the last copy/, new RegExp(`kos seed remove ${pack.pack.slice(0, 16)}`)]])
  t.match(await node.ask("update.export", [`${homes}/stick`]), { channels: 1, packs: 1 })
  t.match(await node.ask("seed.remove", [pack.pack.slice(0, 16)]), { packs: 1, bytes: pack.bytes })
  t.same((await node.ask("seed.list")).seeds, [])
  t.match(await human(t, node, `update export ${homes}/empty`), /1 channel, no packs, since none is on this node/)
  await refusals(t, node, [
    ["seed add 9.1.0", "timeout", 7, /nobody in touch holds pack/, /update import/],
    [`update export ${homes}/stick2 --release 9.1.0`, "conflict", 6, /1 of the 1 packs/, /seed add/]
  ])
  t.match(await node.ask("update.import", [`${homes}/stick`]), { blocks: 0, packs: 1, offers: [{ id: release }], summary: "took 0 blocks of channels and 1 pack" }, "the pack is back, and the channel was known")

  t.match(await node.ask("update.fetch", ["9.1.0"]), { release: { state: "fetched" } })
  await human(t, node, "update fetch 9.1.0")
  t.match(await node.ask("update.stop"), { summary: /kos 9\.1\.0 is stopped/ })
  t.equal((await node.ask("update.list"))[0]?.state, "stopped")

  t.match(await node.ask("update.advise", ["9.1.0", "wait for the oil"]), { counts: false })
  t.same((await node.ask("update.advise", ["9.1.0", "wait for the oil"])).events, [], "said once")
  t.match(await node.ask("update.advise", ["9.1.0", "my wheel is not ready", "--veto", "--as", "agent:wheel"]), { counts: false, summary: /update\.veto does not name agent:wheel/ })
  await refusals(t, node, [
    ["update advise 9.1.0", "usage", 2, /needs a text/],
    [`update advise 9.1.0 ${"x".repeat(513)}`, "usage", 2, /at most 512/],
    ["update advise 9.1.0 no --veto --withdraw", "usage", 2, /opposite/],
    ["update advise 9.1.0 --withdraw --as person:mara", "not-found", 4, /person:mara of mill has said nothing/]
  ])
  await node.ask("config.set", ["update.veto", "[\"agent:wheel\"]", "--layer", "mesh"])
  t.match((await node.ask("update.plan", ["9.1.0"])).advice, [{ stance: "veto", counts: true }, { stance: "advice", counts: false }])
  t.match(await human(t, node, "update plan 9.1.0"), /veto of agent:wheel on mill, .*: my wheel is not ready\nadvice of mill, .*: wait for the oil/)
  await refusals(t, node, [["update apply 9.1.0", "policy", 9, /agent:wheel of mill vetoes kos 9\.1\.0: my wheel is not ready/, /--override-veto/]])
  await node.ask("update.advise", ["9.1.0", "--withdraw", "--as", "agent:wheel"])
  t.same((await node.ask("update.plan", ["9.1.0"])).advice.map(({ stance }) => stance), ["advice"])

  t.match(await node.ask("update.apply"), { restarting: true, release: { id: release } })
  t.ok(await eventually(async () => (await running(node)) === "9.1.0"), "it runs on trial")
  t.ok(await eventually(async () => (await steps(node)).includes("9.1.0 committed")), "and is healthy")
  t.same((await steps(node)).filter((step, i, all) => i > all.indexOf("9.1.0 stopped")), ["fetched", "staged", "rehearsed", "trial", "healthy", "committed"].map((step) => `9.1.0 ${step}`))
  t.match(await node.ask("update.slots"), [{ generation: 0, state: "good", running: false }, { generation: 1, version: "9.1.0", state: "current", running: true, release }])
  t.match(await human(t, node, "update show 9.1.0"), /kos 9\.1\.0 +runs here/)
  t.match(await human(t, node, "update slots"), /9\.1\.0 +current, runs/)
  t.match(await human(t, node, "update history"), /committed/)
  t.equal((await human(t, node, "update history -n 1")).split("\n").length, 3, "heading, the newest, the end")
  t.same(await node.ask("update.list"), [])
  await refusals(t, node, [
    ["update apply 9.1.0", "conflict", 6, /runs here already/],
    ["update stop 9.1.0", "conflict", 6, /not under way here: it was committed/, /rollback/],
    ["update apply", "not-found", 4, /nothing is offered/]
  ])
  t.match(await node.ask("update.pin"), { summary: /takes kOS 9\.1\.0 only/ }, "what runs, when no version is given")
  await node.ask("update.pin", ["--off"])

  t.match(await node.ask("update.rollback"), { generation: 0, version: first })
  t.ok(await eventually(async () => (await running(node)) === first), "the version before runs again")
  t.match((await node.ask("update.slots"))[1], { generation: 1, state: "failed", running: false, why: /a person/ })
  await node.ask("wait", ["ready"])
  t.match((await node.ask("update.history")).at(-1), { step: "rolled-back", version: "9.1.0", by: { node: "mill" } })
  t.match((await node.ask("update.list"))[0]?.waits, /rolled back/, "bad here from now on")
  await refusals(t, node, [
    ["update apply", "not-found", 4, /was not rolled back here/],
    ["update boot 1", "conflict", 6, /generation 1 is failed/],
    ["update rollback 1", "conflict", 6, /generation 1 is failed/],
    ["update stop 9.1.0", "conflict", 6, /it was rolled-back/]
  ])
  t.equal(await node.stop(), 0)

  // Another home far from any network: by the code and the file alone, and without a launcher.
  const far = await testNode(t, homes, { name: "far", isolated: true }).start()
  await far.ask("config.set", ["update.auto", "off"])
  await refusals(t, far, [[`update import ${homes}/stick`, "conflict", 6, /no channel is followed/, /--follow CODE/]])
  t.match(await far.ask("update.channel", ["stable", "--follow", code]), { channels: [{ name: "stable", trust: "empty", releases: 0 }] })
  t.match(await human(t, far, "update channel"), /stable .*empty/)
  const bytes = readFileSync(`${homes}/stick`)
  for (const [name, change] of [["short", bytes.subarray(0, bytes.length - 7)], ["bent", Buffer.from(bytes).fill(0x55, bytes.length >> 1, (bytes.length >> 1) + 1)], ["other", Buffer.from("not a stick at all")]] as const) {
    writeFileSync(`${homes}/${name}`, change)
    await refusals(t, far, [[`update import ${homes}/${name}`, "usage", 2, /was refused at byte \d+/]])
  }
  t.same((await far.ask("update.list", ["--all"])), [], "nothing of a damaged file is taken")
  t.match(await human(t, far, `update import ${homes}/stick`), /^took \d+ blocks of channels and 1 pack\nrelease .*\nkos 9\.1\.0 /)
  t.match(await far.ask("update.plan", ["9.1.0"]), { fetchBytes: 0 })
  t.match(await far.ask("update.fetch", ["9.1.0"]), { release: { state: "fetched" } })
  await refusals(t, far, [
    ["update apply 9.1.0", "policy", 9, /without its launcher/, /kos-launch/],
    ["update rollback", "policy", 9, /without its launcher/, /kos-launch/],
    ["update boot 0", "conflict", 6, /runs here already/]
  ])
  t.equal(await running(far), first)
})

t.test("no command of updates was left out", (t) => {
  const missing = operations.map(({ name }) => name).filter((name) => /^(update|seed)\./.test(name) && !asked.has(name as never))
  t.same(missing, ["update.try", "update.boot"], "the first is shown where modules are tried, the other in update-commands.test.ts")
  t.end()
})
