/** Invites between real daemons: words, an admin that a person confirms, another admin that redeems, and a way back for who was revoked. */
import t from "tap"
import { eventually, homesOf, joinMesh, testNode } from "../daemon-process.ts"

t.setTimeout(110_000)

t.test("twelve words, as several arguments and cut to four letters, bring a node in; its keys let it read what was before", async (t) => {
  const directory = homesOf(t)
  const [alpha, beta] = [testNode(t, directory, { name: "alpha" }), testNode(t, directory, { name: "beta" })]
  await Promise.all([alpha.start(), beta.start()])
  await alpha.ask("mesh.create", ["hill"])
  await alpha.ask("memory.add", ["notes/todo", "written before beta came"])
  const made = await alpha.ask("invite.create", ["--expires", "1h"])
  t.equal(made.words.split(" ").length, 12)
  t.match(made.qr, /█/)
  t.match((await alpha.run(["invite", "create", "--words"])).out, /^([a-z]+ ){11}[a-z]+\n\n[^]*four letters of each are enough/)
  const words = made.words.split(" ")
  t.match(await beta.refused(["join", ...words.slice(0, 11)]), { code: 5, detail: /there are 12 words, and these are 11/ })
  t.match(await beta.refused(["join", "abandonn", ...words.slice(1)]), { code: 5, detail: /word 1, "abandonn", is none of the list; did you mean abandon\?/ })
  const joined = await beta.ask("join", [...words.map((word) => word.slice(0, 4)), "--timeout", "30"])
  t.match(joined, { mesh: { name: "hill" }, role: "member", admittedBy: "alpha", members: 2 })
  await beta.ask("wait", ["synced", "--timeout", "30"])
  t.equal((await beta.ask("memory.show", ["notes/todo"])).text, "written before beta came")
  t.match((await alpha.ask("invite.list", ["--all"])).map(({ state }) => state).toSorted(), ["open", "used"])
  // The words stand in no file of either node.
  const { filesWith } = await import("../daemon-process.ts")
  for (const node of [alpha, beta]) t.same(filesWith(node.home, words.slice(0, 6).join(" ")), [])
})

t.test("an admin comes in when a person has compared six words, and not before", async (t) => {
  const directory = homesOf(t)
  const [alpha, beta] = [testNode(t, directory, { name: "alpha" }), testNode(t, directory, { name: "beta" })]
  await Promise.all([alpha.start(), beta.start()])
  await alpha.ask("mesh.create", ["hill"])
  const made = await alpha.ask("invite.create", ["--role", "admin", "--expires", "1h"])
  t.match(await alpha.refused(["invite", "confirm", made.id]), { code: 4, detail: /nobody waits/ })
  const waiting = async () => {
    const rows = await alpha.until("invite.list", [], ([row]) => (row?.waiting.length ?? 0) > 0)
    return rows[0]?.waiting[0]
  }
  const first = beta.run(["join", made.invite, "--timeout", "5"])
  const one = await waiting()
  t.match(one, { name: "beta", device: beta.announced.device })
  const own = await beta.until("status", [], ({ warnings }) => warnings.some((text) => text.includes("waits to be let into")))
  t.match(own.warnings.join(), new RegExp(`waits to be let into hill as admin; the other screen must show: ${one?.words}`), "the same words on both")
  t.match((await alpha.run(["invite", "list"])).out, new RegExp(`beta waits to be let in as admin[^]*${one?.words}`))
  t.same((await alpha.ask("mesh.show")).members.map(({ name }) => name), ["alpha"], "nobody is in yet")
  t.match(await alpha.ask("invite.confirm", [made.id, "--deny"]), { name: "beta", admitted: false })
  const turned = await first
  t.equal(turned.code, 5)
  t.match(turned.err, /compare: the other screen must show the same six words[^]*declined it/)
  t.ok(turned.err.includes(one?.words ?? "?"), "the candidate's person saw them")
  const second = beta.ask("join", [made.invite, "--timeout", "5"])
  const two = await waiting()
  t.not(two?.words, one?.words, "another meeting, other words")
  t.match(await alpha.ask("invite.confirm", [two?.id ?? ""]), { name: "beta", role: "admin", admitted: true })
  t.match(await second, { role: "admin", admittedBy: "alpha" })
  t.match((await alpha.ask("event.list", ["--type", "command.done/1"])).map(({ summary }) => summary).join(), /confirmed beta/)
  await beta.ask("wait", ["synced", "--timeout", "30"])

  // The other admin lets a third one in while the issuer is away.
  const third = await alpha.ask("invite.create", ["--expires", "1h"])
  await beta.until("invite.list", [], (rows) => rows.some(({ id }) => id === third.id))
  await alpha.stop()
  const gamma = await testNode(t, directory, { name: "gamma" }).start()
  t.match(await gamma.ask("join", [third.words, "--timeout", "30"]), { role: "member", admittedBy: "beta", mesh: { name: "hill" } })
})

t.test("a revoked node reads by whom and when, and may come back with a new invite", async (t) => {
  const directory = homesOf(t)
  const [alpha, beta] = [testNode(t, directory, { name: "alpha" }), testNode(t, directory, { name: "beta" })]
  await Promise.all([alpha.start(), beta.start()])
  await joinMesh(alpha, beta)
  await beta.ask("mesh.mode", ["isolated"])
  await alpha.ask("node.revoke", ["beta", "--reason", "left on the train"])
  await beta.ask("mesh.mode", ["joined"])
  const day = /\d{4}-\d\d-\d\d/.source
  const status = await beta.until("status", [], ({ warnings }) => warnings.some((text) => text.includes("was revoked")))
  t.match(status.warnings.join(), new RegExp(`this node was revoked by alpha on ${day}: left on the train`))
  t.ok(await eventually(async () => (await alpha.ask("status", [], { codes: [0, 10] })).peers.length === 0))
  t.match(await beta.refused(["memory", "add", "notes/x", "after"]), { code: 5 })
  const again = await alpha.ask("invite.create", ["--expires", "1h"])
  t.match(await beta.ask("join", [again.words, "--timeout", "40"]), { role: "member", admittedBy: "alpha" })
  await beta.ask("memory.add", ["notes/back", "here again"])
  t.ok(await eventually(async () => (await alpha.ask("memory.list", ["notes"])).length === 1), "what it writes now counts")
})
