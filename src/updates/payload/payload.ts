/**
 * What a payload is made of, and what the parts of this folder give to others.
 *
 * publisher: `makePayload` (pack.ts) → index bytes (the release's target file) and pack files.
 * device: `decodeIndex` (index-file.ts) → `spaceNeeded`, `planFetch` (fetch-plan.ts) → `assemble` (assemble.ts) → for a tree `extractArchive` (archive-read.ts).
 */
import { Schema } from "effect"
import type { PackRef, PackSource, Range } from "../ports.ts"

/** A tree is a directory, a file an image. */
export interface PayloadSource {
  readonly form: "tree" | "file"
  readonly path: string
}

/** A chunk's place: in the uncompressed bytes of a frame. */
export interface Place {
  /** Number of the chunk. */
  readonly chunk: number
  readonly offset: number
}

/** Chunks that are compressed together. */
export interface Frame {
  /** In the pack. */
  readonly offset: number
  readonly size: number
  /** Bytes when unpacked. */
  readonly raw: number
  /** In the base payload; for frames of a patch. */
  readonly dictionary: Range | undefined
  /** Those that this payload wants; a frame may have others too. */
  readonly places: ReadonlyArray<Place>
}

export interface IndexPack {
  readonly ref: PackRef
  /** `chunks`: chunks that no earlier pack has. `full`: all of the payload. `patch`: those that the base lacks, packed against the base. */
  readonly kind: "patch" | "chunks" | "full"
  /** Of a patch: release id and payload that it starts from. */
  readonly base: { readonly release: string; readonly sha256: string; readonly length: number } | undefined
  readonly frames: ReadonlyArray<Frame>
}

/** A decoded index. Chunks are numbered; equal chunks are one. */
export interface PayloadIndex {
  readonly payload: { readonly form: "tree" | "file"; readonly length: number; readonly sha256: string }
  /** Bytes that a chunk has on average. */
  readonly average: number
  /** SHA-256 of chunk n at 32 × n. */
  readonly hashes: Uint8Array
  readonly lengths: Uint32Array
  /** Numbers of the chunks, in the order of the payload. */
  readonly order: Uint32Array
  readonly packs: ReadonlyArray<IndexPack>
}

export interface MakePayloadOptions {
  readonly source: PayloadSource
  /** Indexes of earlier releases of this name, oldest first; their packs are referred to. */
  readonly earlier: ReadonlyArray<Uint8Array>
  /** A patch against this release is made, and kept when it is less than 3/4 of the new chunks' pack. */
  readonly patchFrom?: { readonly index: Uint8Array; readonly path: string }
  /** A pack with everything is made too, for devices that have nothing; do it every 8 releases or so. */
  readonly full?: boolean
  /** Directory for pack files, named by their SHA-256; one call at a time in one directory. */
  readonly out: string
  readonly signal: AbortSignal
  readonly onProgress?: (done: { readonly bytes: number; readonly of: number }) => void
}

export interface MadePayload {
  /** The release's target file; its SHA-256 is the release's id. */
  readonly index: Uint8Array
  /** Packs made now; none when nothing is new. */
  readonly packs: ReadonlyArray<{ readonly ref: PackRef; readonly file: string; readonly kind: IndexPack["kind"] }>
  /** As in the release's `custom`. */
  readonly payload: PayloadIndex["payload"]
  /** Bytes of the files of the tree, or of the image. */
  readonly unpackedBytes: number
}

/** `makePayload` of pack.ts. Throws `PayloadError`. */
export type MakePayload = (options: MakePayloadOptions) => Promise<MadePayload>

/** Something on this device that may have chunks: a slot's tree, an image, an older payload. */
export interface LocalSource extends PayloadSource {
  /** Index of the release that it is, when known: tells without reading whether it is a patch's base. */
  readonly index?: PayloadIndex
}

export interface AssembleOptions {
  readonly index: PayloadIndex
  /** Directory of this release's own; `payload` in it is the file being made, also across restarts. */
  readonly work: string
  readonly local: ReadonlyArray<LocalSource>
  readonly packs: PackSource
  readonly signal: AbortSignal
  readonly onProgress?: (report: AssembleReport) => void
  /** Bytes written between two syncs; 64 MiB when not given. */
  readonly syncEveryBytesMax?: number
}

/** Bytes of the payload by where they came from, and what was fetched for that. */
export interface AssembleReport {
  readonly of: number
  /** Was in the file already, from a run before. */
  readonly kept: number
  readonly local: number
  readonly patched: number
  readonly packs: number
  /** Bytes of frames asked of packs, and of those again after a fault. */
  readonly fetched: number
  readonly refetched: number
  /** What went wrong and was made good another way; the first 32. */
  readonly faults: ReadonlyArray<string>
}

/** `assemble` of assemble.ts: the path of the verified payload. Throws `PayloadError`. */
export type Assemble = (options: AssembleOptions) => Promise<{ readonly path: string; readonly report: AssembleReport }>

/** What is to be asked of packs for these chunks. */
export interface FetchPlan {
  readonly packs: ReadonlyArray<{ readonly pack: IndexPack; readonly ranges: ReadonlyArray<Range>; readonly bytes: number }>
  /** Bytes of the pieces that the ranges touch: what will be fetched. */
  readonly bytes: number
  /** Chunks that no pack has; empty for a decoded index. */
  readonly nowhere: ReadonlyArray<number>
}

/** `planFetch(index, missing, bases)` of fetch-plan.ts. `missing` undefined: all. `bases`: SHA-256 of payloads that are whole here, so that patches against them count. */
export type PlanFetch = (index: PayloadIndex, missing?: ReadonlySet<number>, bases?: ReadonlySet<string>) => FetchPlan

/** `spaceNeeded(index, plan)` of fetch-plan.ts, bytes (R3.4). */
export type SpaceNeeded = (index: PayloadIndex, plan: FetchPlan) => { readonly payload: number; readonly tree: number; readonly packs: number; readonly reserve: number; readonly total: number }

/** `missingOf(index, local, signal)` of local-chunks.ts: what the local sources do not have; reads them whole. Also which payloads they are, for `bases`. */
export type MissingOf = (index: PayloadIndex, local: ReadonlyArray<LocalSource>, signal: AbortSignal) => Promise<{ readonly missing: ReadonlySet<number>; readonly bases: ReadonlySet<string> }>

/** `extractArchive(payloadFile, emptyDirectory, signal)` of archive-read.ts; all is synced when it resolves. Throws `PayloadError`. */
export type ExtractArchive = (file: string, directory: string, signal: AbortSignal) => Promise<{ readonly entries: number; readonly bytes: number }>

export const payloadReasons = ["malformed", "too-large", "unfit-source", "changed-source", "unsafe-archive", "no-space", "exhausted", "wrong-payload", "disk", "stopped"] as const

/**
 * `unfit-source`: the tree has what an archive cannot carry. `changed-source`: it changed while it was read. `exhausted`: all ways to a chunk
 * failed. `wrong-payload`: every chunk fits, the whole does not: the index lies. `no-space` says how many bytes are needed. `stopped`: by the signal.
 */
export class PayloadError extends Schema.TaggedError<PayloadError>()("PayloadError", {
  reason: Schema.Literals(payloadReasons),
  detail: Schema.String,
  bytesNeeded: Schema.optionalKey(Schema.Finite)
}) {
  override get message() {
    return this.detail
  }
}
