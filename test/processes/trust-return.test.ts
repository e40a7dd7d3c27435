/** A node that was expelled tries to come back: through one that does not know yet, with a stick, with an old invite, and by writing on regardless. */
import t from "tap"
import { forgeBlocks } from "../daemon-forge.ts"
import { eventually, homesOf, joinMesh, testNode, type TestNode } from "../daemon-process.ts"
import { newHandle } from "../documents-world.ts"
import { disagreement, eventsOfNode, isolated, joined, meets, pagesOf } from "../trust-help.ts"

t.setTimeout(170_000)

const day = /\d{4}-\d\d-\d\d/.source

t.test("through a third that does not know yet, and with sticks", async (t) => {
  const directory = homesOf(t)
  const nodes = ["alpha", "beta", "gamma"].map((name) => testNode(t, directory, { name }))
  const [alpha, beta, gamma] = nodes as [TestNode, TestNode, TestNode]
  await Promise.all(nodes.map((node) => node.start()))
  await alpha.ask("mesh.create", ["hill"])
  const { invite: old } = await alpha.ask("invite.create", ["--uses", "3"])
  await beta.ask("join", [old, "--timeout", "30"])
  await joinMesh(alpha, gamma)
  await beta.ask("memory.add", ["notes/before", "Of beta, in good standing."])
  for (const node of [alpha, gamma]) await node.until("memory.list", [], (pages) => pages.length === 1)
  t.ok(await eventually(() => meets(beta, gamma)))

  // Alpha is away when it expels beta; the others go on together.
  await isolated(alpha)
  const early = `${directory}/early.kos`
  await beta.ask("sync.export", [early])
  await alpha.ask("node.revoke", ["beta", "--reason", "moved away"])
  await beta.ask("memory.add", ["notes/through", "Through gamma."])
  await gamma.until("memory.list", [], (pages) => pages.length === 2)
  const [late, carried] = [`${directory}/late.kos`, `${directory}/carried.kos`]
  await beta.ask("sync.export", [late])
  t.equal((await gamma.ask("sync.export", [carried])).logs, 3)

  t.match(await alpha.refused(["sync", "import", late]), { code: 5, kind: "denied", detail: new RegExp(`revoked by alpha on ${day}`) }, "a stick of its own, written later")
  t.match(await alpha.ask("sync.import", [early]), { refused: [] }, "one that it wrote before is taken")
  t.match(await alpha.ask("sync.import", [carried]), { refused: [] }, "one of gamma's, which knew nothing, is taken too")
  t.same(Object.keys(await pagesOf(alpha)), ["notes/before"], "and nothing of beta counts that lies beyond")
  const beyond = (await eventsOfNode(alpha, "beta")).filter(({ type, void: why }) => type === "memory.changed/1" && why !== undefined)
  t.match(beyond, [{ void: /beyond the cut-off of its revocation by alpha/ }], "although the block came by way of gamma")

  // Now gamma hears of it; beta meets gamma only.
  await isolated(beta)
  await joined(alpha)
  t.equal(await disagreement(alpha, gamma), undefined)
  t.same(Object.keys(await pagesOf(gamma)), ["notes/before"])
  await alpha.stop()
  await joined(beta)
  const told = await beta.until("status", [], ({ warnings }) => warnings.some((text) => text.includes("was revoked")))
  t.match(told.warnings.join(), new RegExp(`this node was revoked by alpha on ${day}: moved away`), "gamma tells it, alpha being gone")
  t.notOk(await meets(gamma, beta))
  t.match(await gamma.refused(["sync", "import", late]), { code: 5, detail: /revoked by alpha/ })
  await alpha.start()

  // Of the invite two uses are left, but it is older than the revocation. Who makes a new one lets it in knowingly.
  t.match(await beta.refused(["join", old, "--timeout", "30"]), { code: 5, detail: /This device was revoked after the invite to hill was made; ask for a new one/ })
  t.same((await alpha.ask("mesh.show")).members.filter(({ standing }) => standing === "member").map(({ name }) => name), ["alpha", "gamma"])
})

t.test("an owner's software that does not let itself be stopped: what it writes on reaches nobody, and counts nowhere", async (t) => {
  const directory = homesOf(t)
  const nodes = ["alpha", "beta", "gamma"].map((name) => testNode(t, directory, { name }))
  const [alpha, beta, gamma] = nodes as [TestNode, TestNode, TestNode]
  await Promise.all(nodes.map((node) => node.start()))
  await joinMesh(alpha, beta)
  await joinMesh(alpha, gamma)
  const write = (page: string) => forgeBlocks(beta.home, [({ log, frame }) => {
    const doc = `memory/notes/${page}`
    const handle = newHandle(doc, log)
    handle.put("/", "state", "present", "str")
    handle.commit(undefined, 0)
    return frame({ type: "memory.changed/1", subject: doc, body: { change: handle.getLastLocalChange() ?? new Uint8Array(0), paths: [], summary: "" } })
  }])
  // The same by hand while it is a member, so that this test can fail.
  await beta.stop()
  await write("good")
  await beta.start()
  for (const node of [alpha, gamma]) await node.until("memory.list", [], (pages) => pages.length === 1)
  await beta.stop()
  const { cutoffs: [cut] } = await alpha.ask("node.revoke", ["beta"])
  await write("bad")
  await beta.start()
  await beta.until("status", [], ({ warnings }) => warnings.some((text) => text.includes("was revoked by alpha")))
  for (const node of [alpha, gamma]) {
    t.same(Object.keys(await pagesOf(node)), ["notes/good"])
    t.equal((await node.ask("node.show", ["beta"])).logs[0]?.length, cut?.length, "no block beyond came in at all")
    t.notOk(await meets(node, beta))
  }
  t.equal(await disagreement(alpha, gamma), undefined)
})
