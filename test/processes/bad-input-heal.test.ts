/** A node that has peers: what its disk lost comes back from them, and its log goes on. */
import { cpSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import t from "tap"
import { eventsOf, offlineLength, otherBoot, restoreInPlace, tear, write } from "../daemon-damage.ts"
import { eventually, homesOf, joinMesh, testNode, type TestNode } from "../daemon-process.ts"

t.setTimeout(110_000)

t.test("with a peer, what was lost comes back and the log goes on: torn, flipped, gone, or an older store put back", async (t) => {
  const directory = homesOf(t)
  const alpha = await testNode(t, directory, { name: "alpha" }).start()
  const beta = await testNode(t, directory, { name: "beta" }).start()
  await joinMesh(alpha, beta)
  await write(beta, 0, 6)
  await beta.stop()
  const image = `${directory}/image`
  cpSync(`${beta.meshDirectory}/store`, image, { recursive: true })
  const log = (await offlineLength(beta)).log
  const damages: ReadonlyArray<readonly [string, (node: TestNode) => void]> = [
    ["torn", (node) => tear(node, 0.5)],
    ["an older store", (node) => {
      rmSync(`${node.meshDirectory}/store`, { recursive: true })
      cpSync(image, `${node.meshDirectory}/store`, { recursive: true })
    }],
    ["gone", (node) => rmSync(`${node.meshDirectory}/store`, { recursive: true })],
    ["manifest damaged", (node) => {
      const db = `${node.meshDirectory}/store/db`
      for (const name of readdirSync(db)) if (name.startsWith("MANIFEST")) writeFileSync(`${db}/${name}`, "nothing that RocksDB knows")
    }]
  ]
  let healed = 0
  let page = 10
  for (const [what, damage] of damages) {
    await beta.start()
    await write(beta, page, page + 3)
    await beta.ask("wait", ["synced", "--timeout", "30"])
    t.ok(await eventually(async () => (await alpha.ask("status", [], { codes: [0, 10] })).peers.every(({ waiting, behind }) => behind === 0 && waiting === 0)))
    await beta.stop()
    const before = await offlineLength(beta)
    damage(beta)
    await beta.start()
    const status = await beta.ask("status")
    t.equal(status.node.log, log, `${what}: the same log goes on`)
    t.equal((await eventsOf(beta, "log.closed/1")).length, 0)
    healed++
    const events = await eventsOf(beta, "log.healed/1")
    t.equal(events.length, healed, `${what}: the healing is an event`)
    const { body } = await beta.ask("event.show", [`@${events.at(-1)?.arrival}`])
    t.match(body, { log, to: before.length }, "which says up to where")
    page += 3
    t.ok((await beta.ask("memory.show", [`notes/page-${page - 1}`])).text.startsWith(`text ${page - 1}`), "nothing is lost")
    await beta.stop()
  }
  await beta.start()
  await beta.ask("wait", ["synced", "--timeout", "30"])
  for (const node of [alpha, beta]) {
    const verified = await node.ask("event.verify")
    t.ok(verified.clean && verified.misbehaviour.length === 0, "verify is clean")
  }
  t.same(await alpha.ask("event.list", ["--type", "evidence.found/1"]), [], "nobody saw two histories")
})

t.test("the image of an old disk looks healthy, and the peers' word is asked before anything is written", async (t) => {
  const directory = homesOf(t)
  const alpha = await testNode(t, directory, { name: "alpha" }).start()
  const beta = await testNode(t, directory, { name: "beta" }).start()
  await joinMesh(alpha, beta)
  await write(beta, 0, 3)
  await beta.stop()
  // Put back in place: contents of then in files of now, as restoring a whole disk does; and the machine started anew.
  const image = `${directory}/image`
  cpSync(beta.home, image, { recursive: true, preserveTimestamps: true })
  await beta.start()
  await write(beta, 3, 6)
  await beta.ask("wait", ["synced", "--timeout", "30"])
  t.ok(await eventually(async () => (await alpha.ask("status", [], { codes: [0, 10] })).peers.every(({ waiting, behind }) => behind === 0 && waiting === 0)))
  const log = (await beta.ask("status")).node.log
  await beta.stop()
  const late = await offlineLength(beta)
  restoreInPlace(image, beta.home)
  await otherBoot(beta.meshDirectory)
  await beta.start()
  t.equal((await beta.ask("status")).node.log, log)
  t.match((await beta.ask("event.show", [`@${(await eventsOf(beta, "log.healed/1"))[0]?.arrival}`])).body, { log, to: late.length })
  t.ok((await beta.ask("memory.show", ["notes/page-5"])).text.startsWith("text 5"), "what was written after the image is back")
  t.ok((await beta.ask("event.verify")).clean)

  // A copy elsewhere begins a log of its own, and the original may go on.
  await beta.stop()
  const copy = testNode(t, directory, { name: "copy" })
  cpSync(beta.home, copy.home, { recursive: true, preserveTimestamps: true })
  await copy.start({ isolated: true })
  const status = await copy.ask("status")
  t.not(status.node.log, log, "a copy begins a new log")
  t.match((await eventsOf(copy, "log.copied/1")).map(({ summary }) => summary), [/copy/])
  t.same(await eventsOf(copy, "log.closed/1"), [], "and closes nothing that is the original's")
  const doctor = await copy.ask("doctor", ["--rebuild"], { codes: [0, 10] })
  t.match(doctor.findings.filter(({ about, level }) => about === "log" && level === "note"), [{ detail: /copy/ }])
  t.match(doctor.rebuild, { equal: true, differences: [] })
  await copy.stop()
  await beta.start()
  t.equal((await beta.ask("status")).node.log, log, "the original goes on with its own")
})
