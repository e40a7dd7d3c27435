/**
 * What the main thread and the worker say to each other. Everything large of a request travels in one buffer that is transferred:
 * cloning views of big buffers would copy the whole of each.
 */
import type { ChangeInfo, DocId, DocumentState, Edit, LoggedChange } from "./types.ts"

/** Where a document's part of the buffer lies. Counts are of changes, in the order of the buffer. */
export interface DocumentPart {
  readonly doc: DocId
  /** Undefined when the worker has the document already. */
  readonly load: {
    readonly snapshotBytes: number
    readonly gateBytes: number
    readonly changes: number
    /** Our own edits without an address, which are on top. */
    readonly own: number
  } | undefined
  readonly changes: number
  /** The last part of this document in this round: the state is wanted. */
  readonly final: boolean
}

export interface Packed {
  readonly logs: ReadonlyArray<string>
  /** By log: from which block on its changes are held, -1 when none is. */
  readonly cuts: ReadonlyArray<number>
  /** Rows of log, block, offset, ms, size as doubles; then snapshots, gates and changes, document by document. */
  readonly rows: number
  readonly buffer: ArrayBuffer
}

export type Request =
  | { readonly id: number; readonly _tag: "Apply"; readonly parts: ReadonlyArray<DocumentPart>; readonly packed: Packed; readonly step: boolean }
  | { readonly id: number; readonly _tag: "Edit"; readonly part: DocumentPart; readonly packed: Packed; readonly log: string; readonly edits: ReadonlyArray<Edit>; readonly nowMs: number }
  | { readonly id: number; readonly _tag: "Materialize"; readonly part: DocumentPart; readonly packed: Packed }
  | { readonly id: number; readonly _tag: "History"; readonly part: DocumentPart; readonly packed: Packed }
  | { readonly id: number; readonly _tag: "Save"; readonly part: DocumentPart; readonly packed: Packed }
  | { readonly id: number; readonly _tag: "Discard"; readonly docs: ReadonlyArray<DocId> }
  | { readonly id: number; readonly _tag: "Stats" }

/** One letter per change of a part: applied, known, waiting, held, refused. */
export const verdictCodes = ["A", "K", "W", "H", "R"] as const

export interface ReleasedChange {
  readonly log: string
  readonly block: number
  readonly offset: number
  /** Undefined: applied. */
  readonly why: string | undefined
}

export type PartAnswer =
  | { readonly _tag: "Done"; readonly doc: DocId; readonly verdicts: string; readonly refusals: ReadonlyArray<string>; readonly released: ReadonlyArray<ReleasedChange>; readonly state: DocumentState | undefined }
  /** The document cannot go on; `guilty` is the change of this part that did it, -1 when unknown; `heals`: a later load may succeed. */
  | { readonly _tag: "Stalled"; readonly doc: DocId; readonly why: string; readonly guilty: number; readonly heals: boolean }
  /** Automerge threw: the thread is not to be trusted any longer. */
  | { readonly _tag: "Thrown"; readonly doc: DocId; readonly why: string; readonly guilty: number }

export interface WorkerStats {
  readonly documents: number
  readonly bytes: number
}

export type Reply =
  | { readonly id: number; readonly _tag: "Applied"; readonly answers: ReadonlyArray<PartAnswer>; readonly evicted: ReadonlyArray<DocId> }
  | { readonly id: number; readonly _tag: "Edited"; readonly change: Uint8Array | undefined; readonly state: DocumentState; readonly evicted: ReadonlyArray<DocId> }
  | { readonly id: number; readonly _tag: "EditRefused"; readonly why: string; readonly evicted: ReadonlyArray<DocId> }
  | { readonly id: number; readonly _tag: "State"; readonly state: DocumentState; readonly evicted: ReadonlyArray<DocId> }
  | { readonly id: number; readonly _tag: "History"; readonly history: ReadonlyArray<ChangeInfo>; readonly evicted: ReadonlyArray<DocId> }
  /** Undefined while an own edit has no address. */
  | { readonly id: number; readonly _tag: "Saved"; readonly saved: { readonly snapshot: Uint8Array; readonly gate: Uint8Array } | undefined; readonly evicted: ReadonlyArray<DocId> }
  | { readonly id: number; readonly _tag: "Discarded"; readonly evicted: ReadonlyArray<DocId> }
  | { readonly id: number; readonly _tag: "Stats"; readonly stats: WorkerStats; readonly evicted: ReadonlyArray<DocId> }
  /** The one document of the request cannot be had. */
  | { readonly id: number; readonly _tag: "Failed"; readonly why: string; readonly thrown: boolean; readonly evicted: ReadonlyArray<DocId> }

/** Places in the shared array: which part, and which change of it, is in Automerge's hands. */
export const progressPart = 0
export const progressChange = 1
/** Changes with every step, so that slow is told from stuck. */
export const progressBeat = 2

export interface PartContent {
  readonly part: DocumentPart
  readonly snapshot: Uint8Array | undefined
  readonly gate: Uint8Array | undefined
  readonly stored: ReadonlyArray<LoggedChange>
  readonly own: ReadonlyArray<LoggedChange>
  readonly changes: ReadonlyArray<LoggedChange>
}

const rowDoubles = 5

export const pack = (contents: ReadonlyArray<PartContent>): Packed => {
  const logs: Array<string> = []
  const cuts: Array<number> = []
  const logIndex = new Map<string, number>()
  let rows = 0
  let bytes = 0
  for (const { snapshot, gate, stored, own, changes } of contents) {
    rows += stored.length + own.length + changes.length
    bytes += (snapshot?.byteLength ?? 0) + (gate?.byteLength ?? 0)
    for (const list of [stored, own, changes]) for (const { change } of list) bytes += change.byteLength
  }
  const buffer = new ArrayBuffer(rows * rowDoubles * 8 + bytes)
  const table = new Float64Array(buffer, 0, rows * rowDoubles)
  const body = new Uint8Array(buffer, rows * rowDoubles * 8)
  let row = 0
  let at = 0
  const add = (piece: Uint8Array | undefined): void => {
    if (piece === undefined) return
    body.set(piece, at)
    at += piece.byteLength
  }
  for (const { snapshot, gate, stored, own, changes } of contents) {
    add(snapshot)
    add(gate)
    for (const list of [stored, own, changes]) {
      for (const { log, block, offset, ms, change, cut } of list) {
        let index = logIndex.get(log)
        if (index === undefined) {
          index = logs.push(log) - 1
          cuts.push(-1)
          logIndex.set(log, index)
        }
        if (cut !== undefined) cuts[index] = cut
        table[row++] = index
        table[row++] = block
        table[row++] = offset
        table[row++] = ms
        table[row++] = change.byteLength
        add(change)
      }
    }
  }
  return { logs, cuts, rows, buffer }
}

export const unpack = (parts: ReadonlyArray<DocumentPart>, { logs, cuts, rows, buffer }: Packed): ReadonlyArray<PartContent> => {
  const table = new Float64Array(buffer, 0, rows * rowDoubles)
  const start = rows * rowDoubles * 8
  let row = 0
  let at = 0
  const cut = (size: number): Uint8Array => {
    const piece = Buffer.from(buffer, start + at, size)
    at += size
    return piece
  }
  const changes = (count: number): ReadonlyArray<LoggedChange> => {
    const list: Array<LoggedChange> = []
    for (let i = 0; i < count; i++) {
      const index = table[row++] ?? -1
      const held = cuts[index] ?? -1
      list.push({
        log: logs[index] ?? "", block: table[row++] ?? 0, offset: table[row++] ?? 0, ms: table[row++] ?? 0, change: cut(table[row++] ?? 0),
        cut: held < 0 ? undefined : held
      })
    }
    return list
  }
  return parts.map((part) => ({
    part,
    snapshot: part.load !== undefined && part.load.snapshotBytes > 0 ? cut(part.load.snapshotBytes) : undefined,
    gate: part.load !== undefined && part.load.gateBytes > 0 ? cut(part.load.gateBytes) : undefined,
    stored: changes(part.load?.changes ?? 0),
    own: changes(part.load?.own ?? 0),
    changes: changes(part.changes)
  }))
}
