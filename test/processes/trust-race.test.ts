/** An invite for one device, used in two parts of a mesh by two candidates at two admins. Real daemons. */
import t from "tap"
import { eventually, homesOf, joinMesh, testNode, type TestNode } from "../daemon-process.ts"
import { disagreement } from "../trust-help.ts"

t.setTimeout(170_000)

t.test("the same one stays everywhere, and the other reads why, although it was expelled once before", async (t) => {
  const directory = homesOf(t)
  const nodes = ["alpha", "beta", "xaver", "yola"].map((name) => testNode(t, directory, { name }))
  const [alpha, beta, xaver, yola] = nodes as [TestNode, TestNode, TestNode, TestNode]
  await Promise.all([alpha, beta, yola].map((node) => node.start()))
  await joinMesh(alpha, beta)
  await joinMesh(alpha, yola)
  await alpha.ask("node.revoke", ["yola", "--reason", "a mistake"])
  await yola.until("status", [], ({ warnings }) => warnings.some((text) => text.includes("was revoked")))
  await yola.stop()
  await alpha.ask("node.role", ["beta", "admin"])
  const made = await alpha.ask("invite.create", ["--uses", "1"])
  t.ok((await beta.until("invite.list", [], (rows) => rows.some(({ id }) => id === made.id))).some(({ id }) => id === made.id), "both admins know the invite")

  // Two parts that do not run at the same time: neither can know of the other.
  await beta.stop()
  await xaver.start()
  t.match(await xaver.ask("join", [made.invite, "--timeout", "30"]), { admittedBy: "alpha" })
  await xaver.ask("memory.add", ["notes/xaver", "Of xaver."])
  await Promise.all([alpha.stop(), xaver.stop()])
  await Promise.all([beta.start(), yola.start()])
  t.match(await yola.ask("join", [made.invite, "--timeout", "30"]), { admittedBy: "beta" }, "each part lets one in")
  await yola.ask("memory.add", ["notes/yola", "Of yola."])
  await beta.until("memory.list", [], (pages) => pages.some(({ page }) => page === "notes/yola"))
  await Promise.all([alpha.start(), xaver.start()])

  const candidates = [xaver, yola]
  const inside = async (node: TestNode) => (await node.ask("mesh.show")).members.filter(({ standing }) => standing === "member").map(({ device }) => device).toSorted().join()
  const views = async () => Promise.all([alpha, beta, ...candidates].map(inside))
  t.ok(await eventually(async () => new Set(await views()).size === 1 && ((await inside(alpha)).split(",").length === 3)), `all say the same: ${(await views()).join(" | ")}`)
  const [stays, goes] = (await inside(alpha)).includes(xaver.announced.device) ? [xaver, yola] as const : [yola, xaver] as const
  t.comment(`${stays === xaver ? "xaver" : "yola"} stays`)
  const told = await goes.until("status", [], ({ sentence }) => /the invite was used up by an admission that comes first/.test(sentence))
  t.match(told.sentence, goes === yola
    ? /^This node was revoked by alpha on \d{4}-\d\d-\d\d: a mistake; that it was let in again does not count: the invite was used up by an admission that comes first/
    : /^This node is not a member: the invite was used up by an admission that comes first/)
  t.match(await goes.refused(["memory", "add", "notes/more", "x"]), { code: 5, kind: "denied" })
  t.equal(await disagreement(alpha, beta, stays), undefined)
  for (const node of [alpha, beta, stays]) {
    const pages = (await node.ask("memory.list")).map(({ page }) => page)
    t.same(pages, [stays === xaver ? "notes/xaver" : "notes/yola"], "what the other wrote meanwhile counts nowhere")
  }
  await goes.stop()
  await goes.start()
  t.match((await goes.ask("status")).sentence, /the invite was used up/, "also after a restart")
})
