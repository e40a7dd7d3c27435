import { createHash } from "node:crypto"
import { type Database, int, text, textOrNull } from "./database.ts"
import type { Names } from "./names.ts"
import { secretLines } from "./secrets.ts"

/** A hash, 64 hex digits, for each derived table, and one over all of them. */
export interface Fingerprint {
  readonly all: string
  readonly events: string
  readonly commands: string
  readonly cursors: string
  readonly witnesses: string
  readonly operations: string
  readonly documents: string
  readonly secrets: string
  readonly sealed: string
  readonly cutoffs: string
}

/** Events hashed between two reads of the database: keeps memory flat. */
const pageRows = 10_000

/**
 * What the derived tables hold, in an order that depends on nothing but what they hold. Two databases with the same fingerprint are equal
 * in all that a rebuild can know; arrival numbers and local tables are left out (see schema). `commands` differs between nodes, `sealed` and what
 * follows from it between those that were given different keys; the others do not once they have folded the same blocks.
 */
export const fingerprint = (database: Database, names: Names): Fingerprint => {
  const parts = {
    events: hashed(eventLines(database, names)),
    commands: hashed(commandLines(database)),
    cursors: hashed(cursorLines(database)),
    witnesses: hashed(witnessLines(database, names)),
    operations: hashed(operationLines(database)),
    documents: hashed(documentLines(database)),
    secrets: hashed(secretLines(database)),
    sealed: hashed(sealedLines(database, names)),
    cutoffs: hashed(cutoffLines(database))
  }
  return { all: hashed([parts.events, parts.commands, parts.cursors, parts.witnesses, parts.operations, parts.documents, parts.secrets, parts.sealed, parts.cutoffs]), ...parts }
}

const hashed = (lines: Iterable<string>): string => {
  const hash = createHash("sha256")
  let gathered: Array<string> = []
  for (const line of lines) {
    gathered.push(line)
    if (gathered.length < 1_000) continue
    hash.update(`${gathered.join("\n")}\n`)
    gathered = []
  }
  return hash.update(`${gathered.join("\n")}\n`).digest("hex")
}

function* eventLines(database: Database, names: Names): Iterable<string> {
  const logs = database.prepare("SELECT DISTINCT c.log, n.text FROM counts c JOIN names n ON n.id = c.log ORDER BY n.text").all()
  const page = database.prepare(
    `SELECT * FROM events INDEXED BY events_address WHERE log = ? AND (block, offset) > (?, ?) ORDER BY block, offset LIMIT ${pageRows}`
  )
  for (const { log, text: key } of logs) {
    yield text(key)
    let [block, offset] = [-1, -1]
    for (;;) {
      const rows = page.all(int(log), block, offset)
      for (const row of rows) {
        block = int(row["block"])
        offset = int(row["offset"])
        yield JSON.stringify([block, offset, names.textAt(row, "type"), row["ms"], row["count"], names.textAt(row, "actor"), names.textAt(row, "subject"), row["status"]])
      }
      if (rows.length < pageRows) break
    }
  }
}

function* commandLines(database: Database): Iterable<string> {
  const page = database.prepare(
    "SELECT hex(c.command) AS command, n.text AS log, e.block, e.offset FROM commands c JOIN events e ON e.id = c.event JOIN names n ON n.id = e.log " +
    `WHERE c.command > unhex(?) ORDER BY c.command LIMIT ${pageRows}`
  )
  let after = ""
  for (;;) {
    const rows = page.all(after)
    for (const row of rows) {
      after = text(row["command"])
      yield JSON.stringify([after, row["log"], row["block"], row["offset"]])
    }
    if (rows.length < pageRows) break
  }
}

function* cursorLines(database: Database): Iterable<string> {
  for (const row of database.prepare("SELECT n.text AS log, c.folded FROM cursors c JOIN names n ON n.id = c.log ORDER BY n.text").all())
    yield JSON.stringify([row["log"], row["folded"]])
}

function* witnessLines(database: Database, names: Names): Iterable<string> {
  const logs = database.prepare("SELECT DISTINCT w.log, n.text FROM witnesses w JOIN names n ON n.id = w.log ORDER BY n.text").all()
  const some = database.prepare(
    "SELECT w.block, w.offset, w.length, w.fork, w.tree_hash, a.text AS about FROM witnesses w JOIN names a ON a.id = w.about WHERE w.log = ? ORDER BY w.block, w.offset, about, w.length, w.fork"
  )
  for (const { log, text: key } of logs) {
    yield text(key)
    for (const row of some.all(int(log))) yield JSON.stringify([row["block"], row["offset"], row["about"], row["length"], row["fork"], row["tree_hash"]])
  }
}

/** Neighbouring stretches of one epoch are one, however they came about. */
function* sealedLines(database: Database, names: Names): Iterable<string> {
  let open: { readonly log: string; readonly block: number; readonly epoch: number; next: number } | undefined
  for (const row of database.prepare("SELECT s.* FROM sealed s JOIN names n ON n.id = s.log ORDER BY n.text, s.block").all()) {
    const [log, block, next, epoch] = [names.textAt(row, "log"), int(row["block"]), int(row["next"]), int(row["epoch"])]
    if (open !== undefined && open.log === log && open.next === block && open.epoch === epoch) {
      open.next = next
      continue
    }
    if (open !== undefined) yield JSON.stringify([open.log, open.block, open.next, open.epoch])
    open = { log, block, next, epoch }
  }
  if (open !== undefined) yield JSON.stringify([open.log, open.block, open.next, open.epoch])
}

function* cutoffLines(database: Database): Iterable<string> {
  for (const row of database.prepare("SELECT n.text AS log, c.cut_at, c.docs_to FROM cutoffs c JOIN names n ON n.id = c.log ORDER BY n.text").all())
    yield JSON.stringify([row["log"], row["cut_at"], row["docs_to"]])
}

function* operationLines(database: Database): Iterable<string> {
  for (const row of database.prepare("SELECT hash FROM operations WHERE source = 0 ORDER BY hash").all()) yield text(row["hash"])
}

function* documentLines(database: Database): Iterable<string> {
  const ids = database.prepare("SELECT d.id, n.text FROM documents d JOIN names n ON n.id = d.id ORDER BY n.text").all()
  const one = database.prepare("SELECT heads, value, live, faults, conflicts, changes, waiting, held FROM documents WHERE id = ?")
  for (const { id, text: name } of ids) {
    const row = one.get(int(id))
    if (row === undefined) continue
    yield JSON.stringify([
      text(name), ...["heads", "value", "live", "faults", "conflicts"].map((column) => textOrNull(row[column] ?? null) ?? null), row["changes"], row["waiting"], row["held"]
    ])
  }
}
