/** What a member can publish that is hostile, broken or newer: seen, named, counted, passed on as it is, and never the end of a node. */
import { readFileSync } from "node:fs"
import t from "tap"
import { filesBelow, homesOf, joinMesh, testNode } from "./daemon-process.ts"
import { forgeBlocks, soundEvent } from "./daemon-forge.ts"

t.setTimeout(110_000)

const corpus = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(`./hostile/automerge/${name}.bin`, import.meta.url)))

t.test("hostile blocks of a member are quarantined with author and address, unknown types are kept and passed on, and every node lives", async (t) => {
  const directory = homesOf(t)
  const [alpha, beta, gamma] = ["alpha", "beta", "gamma"].map((name) => testNode(t, directory, { name })) as [ReturnType<typeof testNode>, ReturnType<typeof testNode>, ReturnType<typeof testNode>]
  await Promise.all([alpha.start(), beta.start()])
  await joinMesh(alpha, beta)
  await alpha.ask("config.set", ["user.garden.pump", "3", "--layer", "mesh"])
  const before = (await alpha.ask("status")).quarantine
  t.same([before.frames, before.events], [0, 0])
  await beta.stop()

  const wire = (more: Readonly<Record<number, unknown>>): ReadonlyArray<unknown> =>
    ["sync.paused/1", soundEvent.at.ms, 0, "device", "sync", null, [], {}].map((value, i) => i in more ? more[i] : value)
  const change = (name: string, subject: string) => ({ type: "config.changed/1", subject, body: { change: corpus(name), paths: ["network.port"], summary: "hostile" } })
  const frames: ReadonlyArray<Parameters<typeof forgeBlocks>[1][number]> = [
    () => new Uint8Array([1, 2, 3]),
    () => new Uint8Array(0),
    () => crypto.getRandomValues(new Uint8Array(500)).fill(200, 0, 1),
    // A sound frame with one flipped bit, and one of a version that nobody knows.
    ({ frame }) => { const bytes = frame({}); bytes[80] = (bytes[80] ?? 0) ^ 1; return bytes },
    ({ frame }) => { const bytes = frame({}); bytes[0] = 9; return bytes },
    ({ wire: seal }) => seal("not an event"),
    ({ wire: seal }) => seal(wire({ 0: "No Type" })),
    ({ wire: seal }) => seal(wire({ 1: -5 })),
    ({ wire: seal }) => seal(wire({ 3: "person:\u001b[2J" })),
    ({ wire: seal }) => seal(wire({ 4: "x".repeat(300) })),
    ({ wire: seal }) => seal(wire({ 6: [[null, -1, 0]] }))
  ]
  const events: ReadonlyArray<Parameters<typeof forgeBlocks>[1][number]> = [
    // A known type with a wrong body; the second event of the same frame is sound.
    ({ frame }) => frame({ type: "node.started/1", subject: "node", body: { version: 7 } }, { subject: "sync" }),
    ({ frame }) => frame(change("spoofed-actor", "config/mesh/network")),
    ({ frame }) => frame(change("nesting-bomb", "config/mesh/network")),
    ({ frame }) => frame(change("300001-operations", "config/mesh/network")),
    ({ frame }) => frame(change("proto-key", "config/mesh/network")),
    ({ frame }) => frame(change("flipped-bit", "config/mesh/user")),
    ({ frame }) => frame(change("base", "memory/notes/todo")),
    ({ frame }) => frame(change("base", "../../etc/passwd")),
    ({ frame }) => frame({ type: "member.admitted/1", subject: "mesh", body: { operation: crypto.getRandomValues(new Uint8Array(200)) } })
  ]
  const newer = { type: "garden.watered/1", subject: "garden/beans", body: { litres: 12, note: "from the future\u001b[31m", bytes: new Uint8Array([1, 2, 3]) } }
  const badFrames = await forgeBlocks(beta.home, frames)
  const badEvents = await forgeBlocks(beta.home, events)
  const [unknown = ""] = await forgeBlocks(beta.home, [({ frame }) => frame(newer, { ...newer, subject: "garden/peas" })])

  // The author's own node lives with what it finds in its own log, and goes on writing after it.
  await beta.start()
  await beta.ask("memory.add", ["notes/after", "written after it"])
  for (const node of [alpha, beta]) {
    const status = await node.until("status", [], (value) => value.quarantine.frames >= frames.length && value.quarantine.events >= events.length && value.unknownTypes.length > 0)
    t.equal(status.quarantine.frames, frames.length, `${status.node.name}: every malformed frame is counted`)
    t.equal(status.quarantine.events, events.length, `${status.node.name}: every malformed event is counted`)
    t.same(status.unknownTypes, [{ type: "garden.watered/1", count: 2 }], "events of a newer type are no fault and are counted")
    t.equal(status.state, "attention")
    t.match(status.sentence, /20 things are in quarantine/)
  }
  t.equal((await alpha.until("memory.list", [], (pages) => pages.some(({ page }) => page === "notes/after"))).filter(({ page }) => page === "notes/after").length, 1, "what came after the hostile blocks counts")
  t.equal((await alpha.ask("config.get", ["user.garden.pump"])).value, 3, "and what was there before stands")

  // Author and address, for people and for programs.
  const doctor = await alpha.ask("doctor", [], { codes: [10] })
  t.match(doctor.findings.filter(({ about }) => about === "quarantine"), [{ level: "warning", detail: new RegExp(`^20 frames or events are quarantined; .*beta.*${badEvents.at(-1)?.slice(0, 8)}`) }])
  const verified = await alpha.ask("event.verify", ["beta"], { codes: [1] })
  const faults = verified.logs.find(({ node }) => node === "beta")?.faults ?? []
  for (const address of badFrames) t.ok(faults.some((fault) => fault.address === address && fault.why !== ""), `verify names ${address.slice(-3)}`)
  const listed = await alpha.ask("event.list", ["--node", "beta", "--limit", "1000"])
  for (const address of badEvents) {
    const row = listed.find((event) => event.address === `${address}.0`)
    t.match(row, { node: "beta", summary: /^quarantined: / }, "a quarantined event is listed with its author and the reason")
  }
  t.match(listed.find((event) => event.address === `${badEvents[0]}.1`), { summary: "paused sync" }, "its neighbour in the same frame counts")

  // The newer type, raw.
  const row = listed.find((event) => event.address === `${unknown}.0`)
  t.match(row, { type: "garden.watered/1", known: false, subject: "garden/beans" })
  const shown = await alpha.ask("event.show", [`@${row?.arrival}`])
  t.same(shown.body, { litres: 12, note: "from the future\u001b[31m", bytes: { base64: "AQID" } })
  t.notOk((await alpha.run(["event", "show", `@${row?.arrival}`])).out.includes("\u001b"), "a person's terminal gets no escape from it")
  t.match(await alpha.run(["events", "--type", "garden.*"]), { code: 0, out: /garden\.watered\/1/ })

  // Its author is gone; a newcomer gets everything from the other node, unknown types and all.
  await beta.stop()
  await gamma.start()
  await joinMesh(alpha, gamma)
  const status = await gamma.until("status", [], (value) => value.unknownTypes.length > 0 && value.quarantine.events >= events.length && value.quarantine.frames >= frames.length)
  t.same(status.unknownTypes, [{ type: "garden.watered/1", count: 2 }], "it was passed on")
  t.same([status.quarantine.frames, status.quarantine.events], [frames.length, events.length])
  t.same((await gamma.ask("event.show", [`${unknown}.1`])).body, shown.body)
  t.ok((await alpha.ask("doctor", ["--rebuild"], { codes: [10] })).rebuild?.equal, "a rebuild comes to the same")
  t.notOk(filesBelow(`${alpha.home}/logs`).some((path) => readFileSync(path).includes(0x1b)), "the daemon's log has no escape either")
})
