/** Roles that keys and cut-offs enforce, with real daemons: a seeder that carries what it cannot read, and a reader whose writes count nowhere. */
import t from "tap"
import { forgeBlocks } from "../daemon-forge.ts"
import { eventually, filesBelow, homesOf, joinMesh, testNode, type TestNode } from "../daemon-process.ts"
import { newHandle } from "../documents-world.ts"
import { disagreement, pagesOf, tracesBelow } from "../trust-help.ts"

t.setTimeout(170_000)

const canaries = ["canary-of-alpha-5f1d9c", "canary-of-gamma-83ab02", "canary-in-a-setting-77e0", "canary-title-19bb4"]

const holdsAll = (host: TestNode, guest: TestNode): Promise<boolean> => eventually(async () =>
  (await host.ask("status", [], { codes: [0, 10] })).peers.some(({ device, inTouch, waiting, behind }) => device === guest.announced.device && inTouch && waiting === 0 && behind === 0))

t.test("a seeder between two members that do not meet carries everything and reads nothing", async (t) => {
  const directory = homesOf(t)
  const nodes = ["alpha", "sid", "gamma"].map((name) => testNode(t, directory, { name }))
  const [alpha, sid, gamma] = nodes as [TestNode, TestNode, TestNode]
  await Promise.all(nodes.map((node) => node.start()))
  await joinMesh(alpha, gamma)
  await gamma.stop()
  const { invite } = await alpha.ask("invite.create", ["--role", "seeder"])
  t.match(await sid.ask("join", [invite, "--timeout", "30"]), { role: "seeder" })

  // First alpha with the seeder, then gamma with the seeder, then alpha again. A new key is made on the way.
  await alpha.ask("memory.add", ["notes/alpha", `Known to members only: ${canaries[0]}.`, "--field", `title=${canaries[3]}`])
  await alpha.ask("config.set", ["user.word", canaries[2] ?? "", "--layer", "mesh"])
  t.match(await alpha.ask("key.rotate"), { epoch: 2 })
  await alpha.ask("memory.add", ["notes/alpha", "Under the second key."])
  t.ok(await holdsAll(alpha, sid), "the seeder takes all of it")
  await alpha.stop()
  await gamma.start()
  t.ok(await eventually(async () => (await pagesOf(gamma))["notes/alpha"]?.includes("Under the second key.") === true), "and gamma has it from there")
  t.ok((await pagesOf(gamma))["notes/alpha"]?.includes(canaries[0] ?? "?"))
  t.equal((await gamma.ask("config.get", ["user.word"])).value, canaries[2])
  await gamma.ask("memory.add", ["notes/gamma", `From gamma: ${canaries[1]}.`])
  t.ok(await holdsAll(gamma, sid))
  await gamma.stop()
  await alpha.start()
  t.ok(await eventually(async () => (await pagesOf(alpha))["notes/gamma"]?.includes(canaries[1] ?? "?") === true), "everything arrives in both directions")

  // What the seeder has of it.
  t.match(await sid.ask("mesh.show"), { role: "seeder" })
  const verified = await sid.ask("event.verify", ["--all"])
  const sealed = verified.logs.filter(({ node }) => node !== "sid")
  t.ok(verified.clean && sealed.length === 2 && sealed.every(({ blocks, sealed: closed, events }) => blocks > 0 && closed === blocks && events === 0), "it verifies every block and opens none")
  t.ok((await sid.ask("key.show")).epochs.every(({ held }) => !held))
  t.same(await sid.ask("memory.list"), [])
  t.match(await sid.refused(["memory", "show", "notes/alpha"]), { code: 4 })
  t.match(await sid.refused(["config", "get", "user.word"]), { code: 4 })
  t.match(await sid.refused(["memory", "add", "notes/sid", "of a seeder"]), { code: 5, kind: "denied" })
  t.same((await sid.ask("event.list")).filter(({ node }) => node !== "sid"), [])
  await Promise.all([alpha.stop(), sid.stop()])
  t.ok(filesBelow(sid.home).length > 10)
  t.same(tracesBelow(sid.home, canaries), [], "no file of the seeder holds any of it")
  t.not(tracesBelow(alpha.home, canaries).length, 0, "those of a member do, so the search finds what there is")
})

t.test("a reader reads; what it writes is refused here, and what its log says all the same counts nowhere", async (t) => {
  const directory = homesOf(t)
  const nodes = ["alpha", "rita", "mia"].map((name) => testNode(t, directory, { name }))
  const [alpha, rita, mia] = nodes as [TestNode, TestNode, TestNode]
  await Promise.all(nodes.map((node) => node.start()))
  await joinMesh(alpha, mia)
  await alpha.ask("memory.add", ["notes/old", "Written before rita came."])
  const { invite } = await alpha.ask("invite.create", ["--role", "reader"])
  t.match(await rita.ask("join", [invite, "--timeout", "30"]), { role: "reader" })
  await rita.until("memory.list", [], (pages) => pages.length === 1)
  t.equal((await rita.ask("memory.show", ["notes/old"])).text, "Written before rita came.")
  for (const wish of [["memory", "add", "notes/rita", "of a reader"], ["config", "set", "user.x", "1", "--layer", "mesh"], ["key", "rotate"], ["invite", "create"], ["node", "revoke", "mia"], ["node", "role", "rita", "owner"]]) {
    t.match(await rita.refused(wish), { code: 5, kind: "denied", detail: /./ }, wish.join(" "))
  }
  t.ok(await holdsAll(alpha, rita))

  // By hand into the logs of a reader and of a member: the same words.
  const forge = (node: TestNode, page: string) => forgeBlocks(node.home, [({ log, frame }) => {
    const doc = `memory/notes/${page}`
    const handle = newHandle(doc, log)
    handle.put("/", "state", "present", "str")
    handle.commit(undefined, 0)
    return frame({ type: "memory.changed/1", subject: doc, body: { change: handle.getLastLocalChange() ?? new Uint8Array(0), paths: [], summary: "" } })
  }])
  for (const [node, page] of [[rita, "by-reader"], [mia, "by-member"]] as const) {
    await node.stop()
    await forge(node, page)
    await node.start()
  }
  for (const node of nodes) {
    const rows = await node.until("event.list", ["--type", "memory.changed/1"], (events) => events.filter(({ subject }) => subject.startsWith("memory/notes/by-")).length === 2)
    t.match(rows.find(({ subject }) => subject === "memory/notes/by-reader"), { node: "rita", summary: /^quarantined: its device is a reader by word of alpha and may not write documents/ })
    t.same(Object.keys(await pagesOf(node)).toSorted(), ["notes/by-member", "notes/old"], "the reader's counts nowhere, the member's everywhere")
  }
  t.equal(await disagreement(alpha, mia, rita), undefined)
})
