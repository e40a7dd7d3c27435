/** Writes frames for ever, each with its cursor, documents and heads, until it is killed; prints the number of each finished transaction. */
import * as fs from "node:fs"
import { Tables } from "../src/projections/tables/tables.ts"
import { change, event, logKey, state } from "./tables-help.ts"

const tables = new Tables(process.argv[2] ?? "")
for (let n = tables.cursors.folded(logKey(1)); ; n++) {
  tables.transaction(() => {
    tables.events.add(Array.from({ length: 5 }, (_, offset) => event({ block: n, offset, subject: `memory/notes/p${n % 7}` })))
    tables.documents.append(`memory/notes/p${n % 7}`, [change({ block: n, change: new Uint8Array(300) })])
    if (n % 20 === 19) tables.documents.putSnapshot(`memory/notes/p${n % 7}`, new Uint8Array(5_000), new Uint8Array(10))
    tables.documents.putState(`memory/notes/p${n % 7}`, state({ value: { text: `block ${n}` }, changes: n }))
    tables.heads.grew(logKey(1), n + 1)
    tables.cursors.advance(logKey(1), n + 1)
  })
  fs.writeSync(1, `${n + 1}\n`)
}
