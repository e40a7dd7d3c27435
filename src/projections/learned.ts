/**
 * What a newer version learned to read (R6.6 of `src/updates/rules.md`): events that came while their type was unknown here are folded again once it is in the
 * catalogue. They kept their place and arrival number; only what they say was left out.
 */
import { documentTypes, type EventType, eventTypes } from "../events/catalogue.ts"
import { int } from "./tables/database.ts"
import { statusNumber } from "./tables/event-index.ts"
import type { Tables } from "./tables/tables.ts"

/** Notes blocks and documents to be folded again; the runner does it in portions. To be called when tables are opened. Returns the types that were learned. */
export const noteLearned = (tables: Tables, catalogue: ReadonlyMap<string, EventType> = eventTypes): ReadonlyArray<string> => {
  const learned = tables.events.unknownTypes().map(({ type }) => type).filter((type) => catalogue.has(type))
  if (learned.length === 0) return []
  const { database, names, cutoffs } = tables
  tables.transaction(() => {
    for (const type of learned) {
      const id = names.find(type) ?? 0
      for (const row of database.prepare("SELECT log, min(block) AS first, max(block) AS last FROM events WHERE type = ? AND status = ? GROUP BY log").all(id, statusNumber.unknown)) {
        const log = names.textAt(row, "log")
        cutoffs.noteBlocks({ log, from: int(row["first"]), to: int(row["last"]) + 1 })
      }
      if (!documentTypes.has(type)) continue
      // What is stored of the document knows nothing of these changes: it is read from the logs.
      for (const row of database.prepare("SELECT DISTINCT subject FROM events WHERE type = ? AND status = ?").all(id, statusNumber.unknown)) cutoffs.noteDocument(names.textAt(row, "subject"))
    }
  })
  return learned
}
