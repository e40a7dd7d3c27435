/** Rule R6.6: an older version on what a newer one wrote. Nothing is lost; the tables are made anew from the logs, and it is told. */
import { readdirSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import t from "tap"
import { asideMax } from "../../src/boot/mesh-node.ts"
import { eventsOf, write } from "../daemon-damage.ts"
import { homesOf, testNode } from "../daemon-process.ts"

t.test("tables of a newer version are put aside, rebuilt, told, and only the last ones kept", async (t) => {
  const node = testNode(t, homesOf(t), { name: "alpha", isolated: true })
  await node.start()
  await write(node, 0, 3)
  const pages = (await node.ask("memory.list")).map(({ page }) => page)
  const log = (await node.ask("status")).node.log
  t.equal(pages.length, 3)
  for (let round = 1; round <= asideMax + 1; round++) {
    await node.stop()
    const sqlite = new DatabaseSync(`${node.meshDirectory}/tables.db`)
    sqlite.exec(`INSERT INTO migrations VALUES (${1 + Number(sqlite.prepare("SELECT max(version) AS v FROM migrations").get()?.["v"])}, 'dreams'); CREATE TABLE dreams (id INTEGER PRIMARY KEY) STRICT`)
    sqlite.close()
    await node.start()
    t.same((await node.until("memory.list", [], (list) => list.length === pages.length)).map(({ page }) => page), pages)
    t.equal(readdirSync(node.meshDirectory).filter((name) => /^tables\.db\.newer-\d+$/.test(name)).length, Math.min(round, asideMax))
  }
  const told = (await eventsOf(node, "node.recovered/1")).map(({ summary }) => summary)
  t.equal(told.length, asideMax + 1)
  t.match(told[0], /a newer version of kOS wrote them \(the tables have schema \d+, this kOS knows \d+\)/)
  t.equal((await node.ask("status")).node.log, log, "its log goes on")
  t.ok((await node.ask("doctor", ["--rebuild"], { codes: [0, 10] })).rebuild?.equal)
})
