/** A node is expelled while others are away: what it wrote since, what somebody built on that, and what it is told. Real daemons. */
import t from "tap"
import { eventually, homesOf, joinMesh, testNode } from "../daemon-process.ts"
import { disagreement, eventsOfNode, isolated, joined, meets, pagesOf } from "../trust-help.ts"

t.setTimeout(170_000)

t.test("expelled while a third is away: the same everywhere, and who is in good standing loses nothing", async (t) => {
  const directory = homesOf(t)
  const [alpha, beta, gamma] = [testNode(t, directory, { name: "alpha" }), testNode(t, directory, { name: "beta" }), testNode(t, directory, { name: "gamma" })]
  await Promise.all([alpha.start(), beta.start(), gamma.start()])
  await joinMesh(alpha, beta)
  await joinMesh(alpha, gamma)
  await alpha.ask("memory.add", ["notes/plan", "Plan of alpha."])
  for (const node of [beta, gamma]) await node.until("memory.list", [], (pages) => pages.length === 1)
  t.ok(await eventually(() => meets(beta, gamma)))
  await isolated(alpha)

  // Beta writes beyond what alpha will know of it; gamma takes it, goes away, and builds on one of these edits.
  await beta.ask("memory.add", ["notes/plan", "Beta was here."])
  await beta.ask("memory.add", ["notes/loose", "Nobody builds on this."])
  t.ok(await eventually(async () => {
    const pages = await pagesOf(gamma)
    return pages["notes/plan"]?.includes("Beta was here.") === true && "notes/loose" in pages
  }))
  await isolated(gamma)
  await gamma.ask("memory.add", ["notes/plan", "Gamma builds on it."])
  await gamma.ask("memory.add", ["notes/gamma", "Of gamma alone."])
  const revoked = await alpha.ask("node.revoke", ["beta", "--reason", "left on the train"])
  t.match(revoked, { name: "beta", role: "member", agreed: { owners: 1, of: 1 }, epoch: 2 })
  await beta.ask("memory.add", ["notes/beta", "Beta writes on."])
  await beta.ask("memory.add", ["notes/plan", "Beta again."])

  await joined(alpha, gamma)
  t.equal(await disagreement(alpha, gamma), undefined, "one state, and folding from zero gives it")
  const cut = new Map(revoked.cutoffs.map(({ log, length }) => [log, length]))
  for (const node of [alpha, gamma]) {
    const pages = await pagesOf(node)
    t.same(Object.keys(pages).toSorted(), ["notes/gamma", "notes/plan"])
    const plan = pages["notes/plan"] ?? ""
    for (const text of ["Plan of alpha.", "Beta was here.", "Gamma builds on it."]) t.ok(plan.includes(text), text)
    t.notOk(plan.includes("Beta again."))
    t.equal(pages["notes/gamma"], "Of gamma alone.")
    const beyond = (await eventsOfNode(node, "beta")).filter(({ log, block }) => block >= (cut.get(log) ?? 0))
    t.same(beyond.filter((event) => event.void === undefined).map(({ type }) => type), ["memory.changed/1"], "of what lies beyond counts the edit that was built on, and nothing else")
    t.match(beyond.find((event) => event.void !== undefined)?.void, /beyond the cut-off of its revocation by alpha/)
    t.same((await eventsOfNode(node, "gamma")).filter((event) => event.void !== undefined), [], "gamma lost nothing")
    t.equal(Math.max(...(await node.ask("key.show")).epochs.map(({ epoch }) => epoch)), 2)
    t.ok((await node.ask("key.show")).epochs.every(({ held }) => held))
    t.ok((await node.ask("event.verify", ["--all"])).clean)
  }

  // Beta looks for the others all the while, is told, and stops.
  const told = await beta.until("status", [], ({ warnings }) => warnings.some((text) => text.includes("was revoked")))
  t.match(told.sentence, /^This node was revoked by alpha on \d{4}-\d\d-\d\d: left on the train/)
  t.match((await beta.run(["status"])).out, /was revoked by alpha on/)
  t.match(await beta.refused(["memory", "add", "notes/beta", "and on"]), { code: 5, kind: "denied", detail: /this node was revoked from hill by alpha on .*: left on the train/ })
  t.match(await beta.refused(["config", "set", "user.x", "1"]), { code: 5 })
  t.match(await beta.refused(["key", "rotate"]), { code: 5 })
  t.ok((await beta.ask("doctor", ["--rebuild"], { codes: [0, 10] })).rebuild?.equal, "also what beta has left can be folded anew")
  for (const node of [alpha, gamma]) t.notOk(await meets(node, beta))
  t.match(await gamma.ask("node.show", ["beta"]), { standing: "revoked", revoked: { node: "alpha", reason: "left on the train" } })

  // Nothing of it hangs on who runs since when.
  for (const node of [alpha, gamma]) {
    await node.stop()
    await node.start()
  }
  await gamma.ask("memory.add", ["notes/plan", "And on."])
  await alpha.until("memory.show", ["notes/plan"], ({ text }) => text.includes("And on."))
  t.equal(await disagreement(alpha, gamma), undefined)
})
