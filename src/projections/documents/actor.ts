import { fromHex, toHex, utf8 } from "../../codec/bytes.ts"
import { hashParts } from "../../codec/hash.ts"

/** The Automerge actor of a log in a document, 32 hex digits. Nobody can write under another log's actor without its log. */
export const changeActor = (log: string, doc: string): string =>
  toHex(hashParts("kos/actor/1", fromHex(log), utf8(doc)).subarray(0, 16))
