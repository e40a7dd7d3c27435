/**
 * State must not stand on blocks that nobody holds. When this node's own log lost blocks for good, its tables have folded them already:
 * documents would build on changes that no peer can ever get. So everything is folded anew from what is held.
 *
 * The tables still know what the lost changes had made of their documents. That is written again, as changes of the log that follows:
 * the events are gone and counted as gone, what a person wrote stays.
 */
import { Effect, Result } from "effect"
import { uuidv7 } from "../codec/uuid.ts"
import { randomBytes } from "../codec/signature.ts"
import { decideAgents } from "../commands/decide-agents.ts"
import type { Decided, Documents } from "../commands/decide-change.ts"
import { decideConfig } from "../commands/decide-config.ts"
import { decideMemory } from "../commands/decide-memory.ts"
import { lockOf } from "../commands/dispatch.ts"
import type { MeshView } from "../api/node.ts"
import type { DocId, DocumentState, Json } from "../projections/documents/types.ts"
import { diffKeys } from "../projections/families/diff.ts"
import { parseDocId } from "../projections/families/doc-id.ts"

export interface Remembered {
  readonly doc: DocId
  readonly live: DocumentState["live"]
}

type Parts = Pick<MeshView, "tables" | "runner" | "worker" | "store" | "members" | "vault" | "journal">

/** Folds anew when own closed logs lost blocks that were folded; what their documents said comes back. */
export const refoldWithoutLost = async ({ tables, runner, worker, store, members, vault, journal }: Parts): Promise<ReadonlyArray<Remembered>> => {
  const docs = new Set<DocId>()
  let lost = false
  for (const { log, folded } of tables.cursors.all()) {
    const own = members.deviceOf(log) === vault.deviceId
    if (!own || log === journal.log()) continue
    const held = await store.openHeld(log)
    const length = held.length()
    await held.close()
    if (folded <= length) continue
    lost = true
    tables.heads.correct(log, length)
    for (const row of eventsFrom(tables, log, length)) docs.add(row)
  }
  if (!lost) return []
  const remembered = [...docs].flatMap((doc) => {
    const state = tables.documents.state(doc)
    return state === undefined ? [] : [{ doc, live: state.live }]
  })
  for (const family of ["config", "agents", "memory"] as const) {
    for (const { id } of tables.documents.list(family)) await Effect.runPromise(worker.discard(id))
  }
  await runner.again(() => tables.clearDerived())
  await runner.idle()
  return remembered
}

/** Documents that events of a log from this block on changed. */
const eventsFrom = (tables: MeshView["tables"], log: string, block: number): ReadonlyArray<DocId> => {
  const found = new Set<DocId>()
  for (let after: number | undefined, more = true; more;) {
    const page = tables.events.query({ logs: [log], order: "oldest", limit: 10_000, ...(after === undefined ? {} : { after }) })
    for (const row of page.events) if (row.block >= block && row.type.endsWith(".changed/1")) found.add(row.subject)
    after = page.next
    more = after !== undefined
  }
  return [...found]
}

/** Writes again what is remembered, where the documents do not say it any more; how many it were. */
export const writeAgain = ({ dispatch, tables }: MeshView, remembered: ReadonlyArray<Remembered>, now: () => number): Effect.Effect<number> => Effect.gen(function*() {
  let written = 0
  for (const { doc, live } of remembered) {
    const done = yield* dispatch.change("recover", { command: uuidv7(now(), randomBytes(10)), actor: "device" }, [lockOf(doc)], (documents) =>
      again(documents, doc, live, tables.documents.state(doc)?.live ?? {})).pipe(Effect.result)
    if (Result.isSuccess(done) && done.success.events.length > 0) written++
  }
  return written
})

const again = (documents: Documents, doc: DocId, earlier: DocumentState["live"], now: DocumentState["live"]): Decided => {
  const id = parseDocId(doc)
  if ("why" in id) return { changes: [] }
  if (id.value.family === "agents") return decideAgents(documents, { _tag: "Revert", name: id.value.name, earlier })
  if (id.value.family === "config") {
    const values = new Map<string, Json | undefined>(diffKeys(now, earlier).map(({ path, after }) => [path, after]))
    return decideConfig(documents, { _tag: "Revert", layer: id.value.layer, earlier: values })
  }
  const page = `${id.value.module}/${id.value.page}`
  if (Object.keys(now).length > 0) return decideMemory(documents, { _tag: "Revert", page, earlier }, unbounded)
  const { text, fields } = earlier
  const entries = typeof fields === "object" && fields !== null && !Array.isArray(fields) ? Object.entries(fields) : []
  return decideMemory(documents, {
    _tag: "Add", page, text: typeof text === "string" ? text : "", fields: new Map(entries.map(([name, value]) => [name, { value }]))
  }, unbounded)
}

/** The text was let in once; a limit that was lowered since must not lose it. */
const unbounded = { pageBytesMax: Number.MAX_SAFE_INTEGER }
