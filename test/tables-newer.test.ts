/** Rule R6.6, the file: tables that another version made are told apart from damaged ones. */
import { DatabaseSync } from "node:sqlite"
import t from "tap"
import { migrations } from "../src/projections/tables/schema.ts"
import { TableError } from "../src/projections/tables/table-error.ts"
import { Tables } from "../src/projections/tables/tables.ts"

const changed = (directory: string, sql: string): unknown => {
  const file = `${directory}/tables.db`
  new Tables(file).close()
  const sqlite = new DatabaseSync(file)
  sqlite.exec(sql)
  sqlite.close()
  try {
    new Tables(file).close()
    return undefined
  } catch (cause) {
    return cause
  }
}

t.test("a schema with more steps than this version knows is newer", (t) => {
  const cause = changed(t.testdir(), `INSERT INTO migrations VALUES (${migrations.length + 1}, 'dreams'); CREATE TABLE dreams (id INTEGER PRIMARY KEY) STRICT`)
  t.ok(cause instanceof TableError && cause.reason === "newer", String(cause))
  t.end()
})

t.test("so is one with another step in the place of one of ours", (t) => {
  const cause = changed(t.testdir(), "UPDATE migrations SET name = 'dreams' WHERE version = 2")
  t.ok(cause instanceof TableError && cause.reason === "newer" && /step 2 of the tables' schema is dreams/.test(cause.detail), String(cause))
  t.end()
})

t.test("its own file it opens again", (t) => {
  t.equal(changed(t.testdir(), "SELECT 1"), undefined)
  t.end()
})
