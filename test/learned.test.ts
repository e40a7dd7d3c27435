/** R6.6: events whose type was unknown when they came are folded again once a version knows it. */
import { DatabaseSync } from "node:sqlite"
import t from "tap"
import { noteLearned } from "../src/projections/learned.ts"
import { event, logKey, opened } from "./tables-help.ts"

t.test("what is known now is noted by log and block; what is still unknown stays as it is", async (t) => {
  const tables = opened(t)
  const add = (log: number, block: number, type: string, status: "known" | "unknown", subject = "s") => tables.events.add([event({ log: logKey(log), block, type, status, subject })])
  add(1, 0, "update.seen/1", "known")
  add(1, 3, "update.seen/1", "unknown")
  add(1, 7, "update.turn/1", "unknown")
  add(2, 4, "memory.changed/1", "unknown", "memory/notes/a")
  add(3, 5, "leaf.grew/1", "unknown")
  t.same([...noteLearned(tables)].sort(), ["memory.changed/1", "update.seen/1", "update.turn/1"])
  const noted = new DatabaseSync(tables.database.path, { readOnly: true })
  t.same(noted.prepare("SELECT n.text AS log, block, next FROM refold_blocks r JOIN names n ON n.id = r.log ORDER BY n.text").all().map((row) => ({ ...row })), [
    { log: logKey(1), block: 3, next: 8 }, { log: logKey(2), block: 4, next: 5 }
  ])
  noted.close()
  t.ok(tables.cutoffs.isNoted("memory/notes/a"))
  t.ok(tables.cutoffs.pending)
})

t.test("nothing is noted when nothing was learned", async (t) => {
  const tables = opened(t)
  tables.events.add([event({ type: "leaf.grew/1", status: "unknown" }), event({ block: 1 })])
  t.same(noteLearned(tables), [])
  t.notOk(tables.cutoffs.pending)
})
