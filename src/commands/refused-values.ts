/** Values that are not in force, because who wrote them may not, as deciders and the worker must see them so that others can settle them. */
import type { Conflict, Json } from "../projections/documents/types.ts"
import type { LeftOut } from "../projections/families/in-force.ts"
import { ownValue } from "../projections/families/json.ts"
import type { DocumentChange } from "./decide-change.ts"

/** What is not in force, as conflicts to settle: deciders write over them although the text may be the same. */
export const refusedAsConflicts = (left: ReadonlyArray<LeftOut>, values: { readonly [key: string]: Json }, known: ReadonlyArray<Conflict>): ReadonlyArray<Conflict> =>
  [...new Set(left.map(({ key }) => key))].filter((key) => !known.some((conflict) => conflict.key === key)).map((key) => {
    const inForce = ownValue(values, key)
    return {
      key, values: [
        ...left.flatMap(({ key: at, value, log, block, offset }) => at === key && value !== undefined ? [{ value, log, block, offset, ms: 0, winner: false }] : []),
        ...(inForce === undefined ? [] : [{ value: inForce, log: "", block: 0, offset: 0, ms: 0, winner: true }])
      ]
    }
  })

/** A value that somebody wrote who may not is taken away first, or writing the same value would be no change. */
export const overRefused = (change: DocumentChange, left: ReadonlyArray<LeftOut>): DocumentChange => {
  if (left.length === 0) return change
  const refused = new Set(left.map(({ key }) => key))
  const deleted = new Set(change.edits.flatMap((edit) => edit._tag === "Delete" ? [edit.key] : []))
  return { ...change, edits: change.edits.flatMap((edit) => edit._tag === "Set" && refused.has(edit.key) && !deleted.has(edit.key) ? [{ _tag: "Delete" as const, key: edit.key }, edit] : [edit]) }
}
