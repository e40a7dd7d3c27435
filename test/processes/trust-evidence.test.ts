/** One device key in two homes, and a log that was written twice: what stands, what is held back, and who decides. Real daemons. */
import { cpSync } from "node:fs"
import t, { type Test } from "tap"
import { restoreInPlace } from "../daemon-damage.ts"
import { eventually, homesOf, joinMesh, testNode, type TestNode } from "../daemon-process.ts"
import { disagreement, eventsOfNode, meets, pagesOf } from "../trust-help.ts"

t.setTimeout(170_000)

t.test("a copied home begins a log of its own: both histories stand, and nothing forks", async (t) => {
  const directory = homesOf(t)
  const nodes = ["alpha", "beta", "copy"].map((name) => testNode(t, directory, { name }))
  const [alpha, beta, copy] = nodes as [TestNode, TestNode, TestNode]
  await Promise.all([alpha.start(), beta.start()])
  await joinMesh(alpha, beta)
  await beta.ask("memory.add", ["notes/both", "Before the copy."])
  await beta.stop()
  cpSync(beta.home, copy.home, { recursive: true })
  await copy.start()
  t.equal(copy.announced.device, beta.announced.device)
  await copy.ask("memory.add", ["notes/copy", "Of the copy."])
  await alpha.until("memory.list", [], (pages) => pages.length === 2)
  await copy.stop()
  await beta.start()
  await beta.ask("memory.add", ["notes/original", "Of the original."])
  await alpha.until("memory.list", [], (pages) => pages.length === 3)
  t.ok(await eventually(async () => Object.keys(await pagesOf(beta)).length === 3), "the original takes what its copy wrote")
  const { logs } = await alpha.ask("node.show", ["beta"])
  t.match(logs, [{ state: "open" }, { state: "open" }], "two logs of one device")
  t.match(await alpha.ask("event.list", ["--type", "log.copied/1"]), [{ summary: /is a copy/ }])
  t.same(await alpha.ask("event.list", ["--type", "evidence.*"]), [])
  t.ok((await alpha.ask("event.verify", ["--all"])).clean)
  t.equal(await disagreement(alpha, beta), undefined)
})

const held = /^The log of beta was written twice from block \d+ on; nothing of it counts from there until an admin decides: kos node clear beta/
const saysTwice = ({ warnings }: { readonly warnings: ReadonlyArray<string> }): boolean => warnings.some((text) => text.includes("was written twice"))

/** Beta's log has two histories: gamma holds the first, alpha and beta's own disk the second. Both know. */
const writtenTwice = async (t: Test): Promise<readonly [TestNode, TestNode, TestNode]> => {
  const directory = homesOf(t)
  const nodes = ["alpha", "beta", "gamma"].map((name) => testNode(t, directory, { name }))
  const [alpha, beta, gamma] = nodes as [TestNode, TestNode, TestNode]
  await Promise.all(nodes.map((node) => node.start()))
  await joinMesh(alpha, beta)
  await joinMesh(alpha, gamma)
  await beta.ask("memory.add", ["notes/before", "Before the image was made."])
  for (const node of [alpha, gamma]) await node.until("memory.list", [], (pages) => pages.length === 1)
  await beta.stop()
  const image = `${directory}/image`
  cpSync(beta.home, image, { recursive: true })

  // The first history is seen by gamma, the second by alpha, and nobody is there who could warn beta.
  await alpha.stop()
  await beta.start()
  await beta.ask("memory.add", ["notes/first", "Of the first history."])
  await gamma.until("memory.list", [], (pages) => pages.length === 2)
  await Promise.all([beta.stop(), gamma.stop()])
  restoreInPlace(image, beta.home)
  await Promise.all([alpha.start(), beta.start()])
  await beta.ask("memory.add", ["notes/second", "Of the second history."])
  await beta.ask("memory.add", ["notes/second", "And more of it."])
  await alpha.until("memory.list", [], (pages) => pages.length === 2)
  await beta.stop()
  await gamma.start()

  for (const node of [alpha, gamma]) await node.until("status", [], ({ sentence }) => held.test(sentence))
  return [alpha, beta, gamma]
}

t.test("a disk image put back in place writes its log again: proven, held back, and an admin decides", async (t) => {
  const [alpha, beta, gamma] = await writtenTwice(t)
  for (const node of [alpha, gamma]) {
    const status = await node.until("status", [], ({ sentence }) => held.test(sentence))
    t.match(status.sentence, held)
    t.match((await node.run(["status"])).out, /was written twice/)
    t.ok(await eventually(async () => JSON.stringify(Object.keys(await pagesOf(node))) === JSON.stringify(["notes/before"])), "neither history counts")
    t.match(await node.ask("node.show", ["beta"]), { logs: [{ state: "held" }] })
    const [found] = await node.ask("event.list", ["--type", "evidence.found/1"])
    const { body } = await node.ask("event.show", [`@${found?.arrival ?? 0}`])
    t.match(body, { kind: "two histories", histories: [{ base64: /.{100}/ }, { base64: /.{100}/ }] }, "both signed histories are in the event")
    t.match(await node.ask("event.verify", ["--all"], { codes: [0, 1] }), { clean: false, misbehaviour: [{ node: "beta", detail: /two signed histories/ }] })
    t.ok((await node.ask("doctor", ["--rebuild"], { codes: [10] })).rebuild?.equal)
  }
  t.match(await gamma.refused(["node", "clear", "beta"]), { code: 5, detail: /only an admin or owner/ })
  t.match(await alpha.refused(["node", "clear", "gamma"]), { code: 4 })

  // Its own node says so as well.
  await beta.start()
  const own = await beta.until("status", [], saysTwice)
  t.match(own.warnings.join(), /this node's log was written twice/)
  t.match(await beta.refused(["memory", "add", "notes/x", "y"]), { code: 5, detail: /this node's log was written twice/ })
  const decided = await alpha.ask("node.clear", ["beta", "--reason", "the image is what is used now"])
  t.equal(decided.logs.length, 1)
  for (const node of [alpha, gamma]) {
    t.ok(await eventually(async () => (await pagesOf(node))["notes/second"] === "Of the second history.\n\nAnd more of it."), "alpha's history stands everywhere")
    t.notOk("notes/first" in await pagesOf(node))
  }
  for (const node of [alpha, beta, gamma]) t.notOk(saysTwice(await node.until("status", [], (status) => !saysTwice(status))))
  t.ok(await eventually(() => meets(beta, gamma)))
  await beta.ask("memory.add", ["notes/after", "Beta goes on."])
  for (const node of [alpha, gamma]) await node.until("memory.list", [], (pages) => pages.some(({ page }) => page === "notes/after"))
  t.equal(await disagreement(alpha, gamma, beta), undefined)
  t.same((await eventsOfNode(gamma, "beta")).filter((event) => event.void !== undefined), [], "nothing of the history that stands is left out")
})

t.test("when the other history stands, the node goes on in a new log and takes the one that stands from the others", async (t) => {
  const [alpha, beta, gamma] = await writtenTwice(t)
  await alpha.ask("node.role", ["gamma", "admin"])
  await gamma.until("mesh.show", [], ({ role }) => role === "admin")
  t.equal((await gamma.ask("node.clear", ["beta"])).logs.length, 1)
  for (const node of [alpha, gamma]) {
    t.ok(await eventually(async () => (await pagesOf(node))["notes/first"] === "Of the first history."), "gamma's history stands everywhere")
    t.notOk("notes/second" in await pagesOf(node))
  }
  await beta.start()
  t.ok(await eventually(async () => {
    // While it opens anew it says so.
    const { code, out, err } = await beta.run(["node", "show", "--json"])
    if (code !== 0) t.match(err, /is being opened anew/)
    return code === 0 && JSON.parse(out).logs.length === 2
  }), "beta begins a new log by itself")
  await beta.ask("memory.add", ["notes/after", "Beta goes on."])
  for (const node of [alpha, gamma]) {
    t.ok(await eventually(async () => "notes/after" in await pagesOf(node)))
    t.equal((await node.ask("node.show", ["beta"])).logs.length, 2)
    const { logs, misbehaviour } = await node.ask("event.verify", ["beta"], { codes: [1] })
    t.ok(logs.every(({ faults }) => faults.length === 0))
    t.match(misbehaviour, [{ detail: /two signed histories; [0-9a-f]{8} stands by decision/ }], "what was done stays known")
  }
  t.equal(await disagreement(alpha, gamma, beta), undefined)
})
