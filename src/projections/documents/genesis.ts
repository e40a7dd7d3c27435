/**
 * The constant first change of memory pages. Two nodes that create the same page while apart must write into the same `text` and
 * the same `fields`, else a merge would show one page and hide the other. So these objects come from a change that every node
 * has: actor of zeros, time 0. Configuration and agents keep registers at the root and need none.
 */
import { fromHex } from "../../codec/bytes.ts"
import type { DocId } from "./types.ts"

export interface Genesis {
  readonly change: Uint8Array
  readonly hash: string
  readonly actor: string
  /** In the order of their operations; the first is operation 1. */
  readonly objects: ReadonlyArray<{ readonly key: string; readonly kind: "text" | "map" }>
}

/** The page's own objects, as Automerge names them. */
export const textObjectId = "1@00000000000000000000000000000000"
export const fieldsObjectId = "2@00000000000000000000000000000000"

const memoryPage: Genesis = {
  change: fromHex(
    "856f4a83bb44d70c0137001000000000000000000000000000000000010100000005150d34014203560270027e0474657874066669656c6473027e040002000200"
  ),
  hash: "bb44d70cc4005f7bfa12e32b245f6f0817dd8deffc9471ec74fb96c8acd92e36",
  actor: "00000000000000000000000000000000",
  objects: [{ key: "text", kind: "text" }, { key: "fields", kind: "map" }]
}

export const isMemoryPage = (doc: DocId): boolean => doc.startsWith("memory/")

export const genesisOf = (doc: DocId): Genesis | undefined => (isMemoryPage(doc) ? memoryPage : undefined)
