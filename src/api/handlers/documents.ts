/** What config, agents and memory have in common at the doors: conflicts, who wrote what, and how a document came to be. */
import { Effect } from "effect"
import type { Address } from "../../codec/address.ts"
import type { Conflict, DocId, DocumentState, Json } from "../../projections/documents/types.ts"
import { diffKeys } from "../../projections/families/diff.ts"
import type { Refusal } from "../../commands/refusal.ts"
import type { MeshView } from "../node.ts"
import type { By, ConflictShape, Difference, HistoryRow } from "../operations/common.ts"
import { byAt, byOf, changesAt, timeText, withFrames } from "./reading.ts"

/** Short name of a conflict: the same on every node that sees it. */
export const conflictId = (doc: DocId, conflict: Conflict): string => {
  const first = conflict.values.map((value) => `${value.log.slice(0, 4)}${value.block}.${value.offset}`).toSorted()[0] ?? ""
  return `${doc.split("/").at(-1) ?? doc}:${conflict.key.split(".").at(-1) ?? conflict.key}:${first}`
}

export const conflictShape = (mesh: MeshView, doc: DocId, conflict: Conflict): ConflictShape => ({
  id: conflictId(doc, conflict), document: doc, path: conflict.key, since: timeText(Math.max(...conflict.values.map(({ ms }) => ms))),
  values: conflict.values.map((value, i) => ({ choice: i + 1, value: value.value, by: byAt(mesh, value), winner: value.winner }))
})

export const conflictsOf = (mesh: MeshView, doc: DocId, state: DocumentState | undefined): ReadonlyArray<ConflictShape> =>
  (state?.conflicts ?? []).map((conflict) => conflictShape(mesh, doc, conflict))

/** Who wrote the value that stands at a register. */
export const writerOf = (mesh: MeshView, state: DocumentState | undefined, key: string): By | undefined => {
  const writer = state?.writers[key]
  return writer === undefined || writer.block < 0 ? undefined : byAt(mesh, writer)
}

/** Who changed the document last, as it arrived here. */
export const lastChange = (mesh: MeshView, doc: DocId): By => {
  const row = mesh.tables.events.query({ subject: doc, order: "newest", limit: 1 }).events[0]
  return byOf(mesh, row ?? { log: mesh.journal.log(), block: 0, offset: 0, actor: "device", ms: 0 })
}

export const differences = (doc: DocId, before: DocumentState["live"], after: DocumentState["live"], by: By | undefined): ReadonlyArray<Difference> =>
  diffKeys(before, after).map(({ path, before: old, after: now }) => ({
    document: doc, path, change: old === undefined ? "added" as const : now === undefined ? "removed" as const : "changed" as const,
    ...(old === undefined ? {} : { before: old }), ...(now === undefined ? {} : { after: now }), ...(by === undefined ? {} : { by })
  }))

/** Steps that are shown with their values at most: each is the document built up to there. */
export const valuedStepsMax = 200

/** Steps of a document's life: the newest `limit`, each after what its author knew, with what it changed; the same on every node, whatever arrived first. */
export const historyOf = (mesh: MeshView, doc: DocId, limit: number, values: boolean, only?: string): Effect.Effect<ReadonlyArray<HistoryRow>, Refusal> =>
  withFrames(mesh, "the history could not be read", async (frames) => {
    // A document that stalls has no order of its own: then as it arrived.
    const causal = await Effect.runPromise(mesh.worker.history(doc, (id) => mesh.tables.documents.load(id)).pipe(Effect.orElseSucceed(() => [])))
    const places = new Map(causal.map((change, place) => [`${change.log}/${change.block}.${change.offset}`, place]))
    const placeOf = ({ log, block, offset }: Address): number => places.get(`${log}/${block}.${offset}`) ?? Infinity
    const changes = (await changesAt(mesh, frames, doc, undefined)).toSorted((a, b) => placeOf(a) - placeOf(b) || a.row.arrival - b.row.arrival)
    const rows: Array<HistoryRow> = []
    const first = Math.max(0, changes.length - (values ? Math.min(limit, valuedStepsMax) : limit))
    let before = !values ? {} : first === 0 ? {} : (await Effect.runPromise(mesh.worker.materialize(doc, changes.slice(0, first)))).value
    for (let i = first; i < changes.length; i++) {
      const change = changes[i]
      if (change === undefined) continue
      const event = await frames.event(change)
      const body = event?._tag === "Known" ? event.body : undefined
      const summary = typeof body === "object" && body !== null && "summary" in body ? String(body.summary) : ""
      const shared = { by: byOf(mesh, change.row), type: change.row.type, document: doc, summary }
      if (!values) {
        rows.push(shared)
        continue
      }
      const state = await Effect.runPromise(mesh.worker.materialize(doc, changes.slice(0, i + 1)))
      const after = state.value
      const found = diffKeys(before, after).filter(({ path }) => only === undefined || path === only || path.startsWith(`${only}.`))
      for (const { path, before: old, after: now } of found) {
        rows.push({ ...shared, path, ...(old === undefined ? {} : { before: old }), ...(now === undefined ? {} : { after: now }) })
      }
      if (found.length === 0) rows.push(...silentRows(shared, body, state, change, only))
      before = after
    }
    return rows
  })

/** A change that did not show: what it wrote lost against another that knew nothing of it. */
const silentRows = (
  shared: HistoryRow, body: unknown, state: DocumentState, at: Address, only: string | undefined
): ReadonlyArray<HistoryRow> => {
  const paths = typeof body === "object" && body !== null && "paths" in body && Array.isArray(body.paths) ? body.paths.map(String) : []
  const wanted = paths.filter((path) => only === undefined || path === only || path.startsWith(`${only}.`))
  if (wanted.length === 0) return only === undefined ? [shared] : []
  return wanted.map((path) => {
    const written = state.conflicts.find((conflict) => conflict.key === path)?.values
      .find((value) => value.log === at.log && value.block === at.block && value.offset === at.offset)
    return { ...shared, path, ...(written === undefined ? {} : { after: written.value }) }
  })
}

/** The values that registers had before a change, as the change's own author saw them; undefined for those that were not there. */
export const earlierOf = (mesh: MeshView, doc: DocId, arrival: number): Effect.Effect<{ readonly before: DocumentState["value"]; readonly after: DocumentState["value"] }, Refusal> =>
  withFrames(mesh, "the earlier state could not be read", async (frames) => {
    const changes = (await changesAt(mesh, frames, doc, undefined)).toSorted((a, b) => a.row.arrival - b.row.arrival)
    const upTo = changes.filter(({ row }) => row.arrival < arrival)
    const including = changes.filter(({ row }) => row.arrival <= arrival)
    const before: { readonly [key: string]: Json } = upTo.length === 0 ? {} : (await Effect.runPromise(mesh.worker.materialize(doc, upTo))).value
    return { before, after: (await Effect.runPromise(mesh.worker.materialize(doc, including))).value }
  })
