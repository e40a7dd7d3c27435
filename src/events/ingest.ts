/**
 * Ingest: a block of any log, own or remote, becomes events or a reason why not. The one path from bytes to events.
 *
 * Hypercore has proven that the block stands at its place in its author's log. Here it is opened under the epoch key, every envelope
 * is checked, and every body is decoded by the catalogue. What is wrong is quarantined with its address and never dropped: the block
 * stays in the log and is forwarded as it is. A block that cannot be opened as a whole is one quarantined thing; an event of a known
 * type with a wrong body is another; an event of an unknown type is kept and counted; a frame of an epoch whose key we were not given
 * is sealed, not wrong.
 */
import { Result } from "effect"
import type { Envelope } from "../codec/envelope.ts"
import { frameHeader, frameKey, frameVersion, openFrame, type FramePlace } from "../codec/frame.ts"
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
  const epochKey = keyring.key(header.success.epoch)
  if (epochKey === undefined) return { _tag: "Sealed", epoch: header.success.epoch }
  const opened = openFrame(block, place, frameKey(epochKey, place, header.success.nonce))
  if (Result.isFailure(opened)) return { _tag: "Quarantined", why: opened.failure.message }
  return { _tag: "Opened", epoch: header.success.epoch, events: opened.success.map(ingestEvent) }
}

export const ingestEvent = (envelope: Envelope): IngestedEvent => {
  const decoded = decodeBody(envelope.type, envelope.body)
  if (Result.isFailure(decoded)) return { _tag: "Quarantined", envelope, why: decoded.failure.message }
  return decoded.success._tag === "Unknown"
    ? { _tag: "Unknown", envelope }
    : { _tag: "Known", envelope, type: decoded.success.type, body: decoded.success.body }
}
