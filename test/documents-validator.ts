/**
 * A validator for tests. A register `invalid` with true is a fault. Loaded in the worker, it also makes Automerge as fragile as it
 * really is, without the seconds: a change whose bytes hold HANG never returns, EXIT ends the thread, THROW throws.
 */
import * as Automerge from "@automerge/automerge"
import type { DocId, Json } from "../src/projections/documents/types.ts"

export const validate = (_doc: DocId, value: { readonly [key: string]: Json }): ReadonlyArray<string> => {
  if (value["invalid"] === true) return ["invalid: expected false, found true"]
  return value["a"] === 1 && value["b"] === 1 ? ["a and b: expected at most one of them, found both"] : []
}

const backend = Automerge.getBackend(Automerge.init())
const prototype: { applyChanges(changes: Array<Uint8Array>): void } = Object.getPrototypeOf(backend)
const real = prototype.applyChanges
prototype.applyChanges = function(changes) {
  for (const change of changes) {
    const text = Buffer.from(change).toString("latin1")
    if (text.includes("HANG")) for (;;);
    if (text.includes("EXIT")) process.exit(7)
    if (text.includes("THROW")) throw new Error("recursive use of an object")
  }
  real.call(this, changes)
}
