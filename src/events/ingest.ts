/**
 * Ingest: a block of any log, own or remote, becomes events or a reason why not. The one path from bytes to events.
 *
 * Hypercore has proven that the block stands at its place in its author's log. Here it is opened under the epoch key, every envelope
 * is checked, and every body is decoded by the catalogue. What is wrong is quarantined with its address and never dropped: the block
 * stays in the log and is forwarded as it is. A block that cannot be opened as a whole is one quarantined thing; an event of a known
 * type with a wrong body is another; an event of an unknown type is kept and counted; a frame of an epoch whose key we were not given
 * is sealed, not wrong.
 *
 * **Sealed or quarantined.** Two nodes that rotate concurrently give one number to two keys, and we may hold one of them. So a frame that
 * is committed to none of the keys held of its number is sealed as well: its key may still come, and a verdict must not depend on what came
 * first. A hostile writer gains nothing by it, as it could name a number that nobody rotated to; its block stays unread, is shown
 * as sealed, and counts for nothing. What is committed to a held key and does not open or does not decode is
 * quarantined: there is no other key for it. Epoch 0 has one key for ever, the mesh key, so there a wrong commitment is final.
 */
import { Result } from "effect"
import type { Envelope } from "../codec/envelope.ts"
import { fittingFrameKey, frameHeader, frameVersion, openFrame, type FramePlace } from "../codec/frame.ts"
import type { Keyring } from "../vault/keyring.ts"
import { decodeBody, type EventType } from "./catalogue.ts"

export type Ingested =
  | { readonly _tag: "Opened"; readonly epoch: number; readonly events: ReadonlyArray<IngestedEvent> }
  | { readonly _tag: "Sealed"; readonly epoch: number }
  | { readonly _tag: "Quarantined"; readonly why: string }

export type IngestedEvent =
  | { readonly _tag: "Known"; readonly envelope: Envelope; readonly type: EventType; readonly body: unknown }
  | { readonly _tag: "Unknown"; readonly envelope: Envelope }
  | { readonly _tag: "Quarantined"; readonly envelope: Envelope; readonly why: string }

export const ingestBlock = (block: Uint8Array, place: FramePlace, keyring: Keyring): Ingested => {
  const header = frameHeader(block)
  if (Result.isFailure(header)) return { _tag: "Quarantined", why: header.failure.message }
  // In another version the bytes after it may mean something else, the epoch too.
  if (header.success.version !== frameVersion) return { _tag: "Quarantined", why: `frame is malformed: version ${header.success.version} is not known here` }
  const { epoch } = header.success
  const key = fittingFrameKey(block, header.success, place, keyring.keys(epoch))
  if (key === undefined) return epoch > 0 ? { _tag: "Sealed", epoch } : { _tag: "Quarantined", why: "frame is malformed: it is not committed to the key of epoch 0" }
  const opened = openFrame(block, place, key)
  if (Result.isFailure(opened)) return { _tag: "Quarantined", why: opened.failure.message }
  return { _tag: "Opened", epoch, events: opened.success.map(ingestEvent) }
}

export const ingestEvent = (envelope: Envelope): IngestedEvent => {
  const decoded = decodeBody(envelope.type, envelope.body)
  if (Result.isFailure(decoded)) return { _tag: "Quarantined", envelope, why: decoded.failure.message }
  return decoded.success._tag === "Unknown"
    ? { _tag: "Unknown", envelope }
    : { _tag: "Known", envelope, type: decoded.success.type, body: decoded.success.body }
}
