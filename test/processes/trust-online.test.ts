/** A node is expelled while all are in touch: within two seconds the others have cut it off, write under a new key, and count nothing more of it. */
import { setTimeout as delay } from "node:timers/promises"
import t from "tap"
import { uuidv7 } from "../../src/codec/uuid.ts"
import { randomBytes } from "../../src/codec/signature.ts"
import { eventually, homesOf, joinMesh, testNode, type TestNode } from "../daemon-process.ts"
import { disagreement, eventsOfNode, isolated, joined, meets, pagesOf, withTables } from "../trust-help.ts"

t.setTimeout(170_000)

/** Between the revoker's answer and the last of the others, milliseconds. */
const cutOffMsMax = 2_000

const cutOff = async (node: TestNode, device: string): Promise<boolean> => {
  const [status, { epochs }] = await Promise.all([node.ask("status", [], { codes: [0, 10] }), node.ask("key.show")])
  return status.peers.every((peer) => peer.device !== device) && epochs.some(({ epoch, held }) => epoch === 2 && held)
}

t.test("two seconds after the command's answer the others have cut it off and are on a new key", async (t) => {
  const directory = homesOf(t)
  const nodes = ["alpha", "beta", "gamma", "delta"].map((name) => testNode(t, directory, { name }))
  const [alpha, beta, gamma, delta] = nodes as [TestNode, TestNode, TestNode, TestNode]
  await Promise.all(nodes.map((node) => node.start()))
  for (const guest of [beta, gamma, delta]) await joinMesh(alpha, guest)
  const device = beta.announced.device
  for (const node of [gamma, delta]) t.ok(await eventually(() => meets(node, beta)))
  t.same((await alpha.ask("key.show")).epochs.map(({ epoch }) => epoch), [1])

  // Beta writes as fast as it can, until it is refused.
  let goesOn = true
  let written = 0
  const writing = (async () => {
    while (goesOn) {
      const id = uuidv7(Math.floor(performance.timeOrigin + performance.now()), randomBytes(10))
      const { status } = await beta.post("memory.add", { page: `notes/beta-${written}`, text: `Number ${written}.` }, id)
      if (status !== 200) return status
      written++
    }
    return 200
  })()
  t.ok(await eventually(() => written > 20))
  const revoked = await alpha.ask("node.revoke", ["beta", "--reason", "stolen"])
  const answered = performance.now()
  const after = await Promise.all([gamma, delta].map(async (node) => {
    while (!await cutOff(node, device)) {
      if (performance.now() - answered > 20_000) return Infinity
      await delay(10)
    }
    return performance.now() - answered
  }))
  t.comment(`cut off and on a new key after ${after.map((ms) => Math.round(ms)).join(" and ")} ms; told ${revoked.told.join(", ")}`)
  t.ok(after.every((ms) => ms < cutOffMsMax), `${after.join(" and ")} ms`)
  t.same(revoked.told.toSorted(), ["delta", "gamma"])
  t.same(revoked.untold, [])
  t.equal(await writing, 403, "its own writes are refused as soon as it is told")
  goesOn = false

  // Nobody counts anything beyond, and nobody ever does.
  const [{ log, length } = { log: "", length: 0 }] = revoked.cutoffs
  const beyond = (node: TestNode) => withTables(node, (tables) => tables.database.prepare(
    "SELECT count(*) AS n FROM events e JOIN names n ON n.id = e.log WHERE n.text = ? AND e.block >= ? AND e.status = 0"
  ).get(log, length)?.["n"])
  for (const node of [alpha, gamma, delta]) t.equal(beyond(node), 0)
  t.equal(await disagreement(alpha, gamma, delta), undefined)
  const pages = Object.keys(await pagesOf(alpha))
  t.ok(pages.length <= written && pages.length > 0, `${pages.length} of ${written} pages lie within the cut-off`)
  for (const node of [gamma, delta]) t.equal(Object.keys(await pagesOf(node)).length, pages.length)
  // What is written from now on is sealed under the new key.
  for (const [i, node] of [alpha, gamma, delta].entries()) {
    const { events: [event] } = await node.ask("memory.add", [`notes/after-${i}`, "After."])
    t.equal((await node.ask("event.show", [event?.address ?? ""])).epoch, 2)
  }
  t.match(revoked.readable.epochs.map(({ epoch }) => epoch), [1])
  t.ok((await beta.ask("key.show")).epochs.every(({ epoch, held }) => epoch === 1 || !held), "beta has no key of it")
})

t.test("a node that was away hears of the revocation before it takes anything, and counts nothing beyond from the first moment", async (t) => {
  const directory = homesOf(t)
  const nodes = ["alpha", "beta", "gamma", "delta"].map((name) => testNode(t, directory, { name }))
  const [alpha, beta, gamma, delta] = nodes as [TestNode, TestNode, TestNode, TestNode]
  await Promise.all(nodes.map((node) => node.start()))
  for (const guest of [beta, gamma, delta]) await joinMesh(alpha, guest)
  t.ok(await eventually(() => meets(delta, beta)))
  await isolated(gamma)
  // Delta takes of beta what alpha does not know when it expels it.
  await isolated(alpha)
  for (let i = 0; i < 20; i++) await beta.ask("memory.add", [`notes/late-${i}`, "Beyond."])
  await delta.until("memory.list", [], (pages) => pages.length === 20)
  await beta.stop()
  await alpha.ask("node.revoke", ["beta"])
  await joined(alpha)
  t.equal(await disagreement(alpha, delta), undefined)
  t.same(await pagesOf(delta), {}, "delta counts it no more")

  // Gamma meets delta only. What comes in of beta is looked at all the while.
  await alpha.stop()
  let goesOn = true
  const looks: Array<readonly [number, number]> = []
  const looking = (async () => {
    while (goesOn) {
      looks.push(withTables(gamma, (tables) => {
        const row = tables.database.prepare("SELECT count(*) AS n, total(e.status = 0) AS counting FROM events e JOIN names t ON t.id = e.type JOIN names s ON s.id = e.subject WHERE t.text = 'memory.changed/1' AND s.text LIKE 'memory/notes/late-%'").get()
        return [Number(row?.["n"]), Number(row?.["counting"])]
      }))
      await delay(2)
    }
  })()
  await joined(gamma)
  t.ok(await eventually(() => looks.at(-1)?.[0] === 20), "the blocks came by way of delta")
  goesOn = false
  await looking
  t.same(looks[0], [0, 0])
  t.same(looks.filter(([, counting]) => counting > 0), [], `none of them counted at any of ${looks.length} looks`)
  t.ok((await eventsOfNode(gamma, "beta")).filter(({ type }) => type === "memory.changed/1").every((event) => event.void?.startsWith("beyond the cut-off") === true))
  await gamma.ask("memory.add", ["notes/gamma", "The end."])
  t.same(Object.keys(await pagesOf(gamma)), ["notes/gamma"])
  t.equal(await disagreement(gamma, delta), undefined)
})
