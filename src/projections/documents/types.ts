/** What a document is to the rest of kOS. The Automerge side lives in the worker; nothing outside this folder imports Automerge. */

/** `config/LAYER/NAMESPACE`, `agents/NAME` or `memory/MODULE/PAGE`; it is also the `subject` of the events that change it. */
export type DocId = string

export type Family = "config" | "agents" | "memory"

/** One wish about a document. Registers hold JSON text as one unmergeable value; text merges by character. */
export type Edit =
  | { readonly _tag: "Set"; readonly key: string; readonly json: string }
  | { readonly _tag: "Delete"; readonly key: string }
  /** Replaces the page's text; the worker finds the smallest splice, so concurrent edits elsewhere in it survive. */
  | { readonly _tag: "Text"; readonly text: string }
  | { readonly _tag: "Splice"; readonly at: number; readonly remove: number; readonly insert: string }
  | { readonly _tag: "SetField"; readonly key: string; readonly json: string }
  | { readonly _tag: "DeleteField"; readonly key: string }

/** A change as it came out of a log. */
export interface LoggedChange {
  /** Log key, 64 hex digits; the Automerge actor must be `changeActor(log, doc)`. */
  readonly log: string
  readonly block: number
  readonly offset: number
  /** Wall milliseconds of the event's stamp, for people. */
  readonly ms: number
  readonly change: Uint8Array
  /** Changes of this log from this block on are held; undefined when its log has no cut-off. */
  readonly cut?: number | undefined
}

/** What the gate said of one change. The same on every node that holds the same set of events. */
export type Verdict =
  | { readonly _tag: "Applied" }
  | { readonly _tag: "Known" }
  /** A dependency has not arrived. */
  | { readonly _tag: "Waiting" }
  /** It stands beyond the cut-off of its log, and no change that counts builds on it. */
  | { readonly _tag: "Held" }
  | { readonly _tag: "Refused"; readonly why: string }

export type Json = null | boolean | number | string | ReadonlyArray<Json> | { readonly [key: string]: Json }

/** Two or more values at one register, none of which knew the other. */
export interface Conflict {
  /** Register key; a field of a memory page is `fields.KEY`. */
  readonly key: string
  readonly values: ReadonlyArray<{ readonly value: Json; readonly log: string; readonly block: number; readonly offset: number; readonly ms: number; readonly winner: boolean }>
}

export interface DocumentState {
  /** Sorted change hashes. */
  readonly heads: ReadonlyArray<string>
  /** The merged value: registers by key; memory pages have `text` and `fields` too. */
  readonly value: { readonly [key: string]: Json }
  /** Empty while the merged value obeys its family's schema. */
  readonly faults: ReadonlyArray<string>
  /** What readers get: `value` when it is valid, else the value of the longest valid prefix in the document's own causal order. */
  readonly live: { readonly [key: string]: Json }
  readonly conflicts: ReadonlyArray<Conflict>
  /** Where the value at each register stands in the logs; a field of a memory page is `fields.KEY`. Block -1: an own edit that is not in a log yet. */
  readonly writers: { readonly [key: string]: { readonly log: string; readonly block: number; readonly offset: number; readonly ms: number } }
  readonly changes: number
  readonly waiting: number
  /** Changes beyond the cut-off of their log on which nobody builds. */
  readonly held: number
}

/** What the database keeps of a document: the last save, and every change that came after it, in arrival order. */
export interface StoredDocument {
  readonly snapshot: Uint8Array | undefined
  /** The gate's memory at the time of the snapshot; opaque outside the worker. */
  readonly gate: Uint8Array | undefined
  readonly changes: ReadonlyArray<LoggedChange>
}

export interface ChangeInfo {
  readonly hash: string
  readonly log: string
  readonly block: number
  readonly offset: number
  readonly ms: number
  readonly deps: ReadonlyArray<string>
}
