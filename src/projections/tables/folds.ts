import type { Envelope } from "../../codec/envelope.ts"

/** An event of a known type on its way into a table. */
export interface FoldedEvent {
  readonly log: string
  readonly block: number
  readonly offset: number
  /** Device that the log belongs to. */
  readonly device: string
  readonly envelope: Envelope
  /** Decoded by the catalogue. */
  readonly body: unknown
}

/**
 * Takes one event into a table, within the transaction of its cursor. A join: commutative, associative, idempotent; rows keep the event's
 * address (`log`, `block`, `offset`), so that what stands beyond a cut-off is taken out again, and who may say what is decided when it is read.
 */
export type EventFold = (event: FoldedEvent) => void
