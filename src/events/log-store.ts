import { Context, type Effect, Schema, type Scope } from "effect"
import type { KeyPair } from "../codec/signature.ts"
import { diskReason } from "./ports.ts"

/** What a log is at a moment: enough to prove later that history was rewritten. */
export interface Head {
  readonly length: number
  readonly fork: number
  /** Hypercore tree hash at `length`, 64 hex digits; of the empty tree when the length is 0. */
  readonly treeHash: string
}

/** A log held here. Reads are local only: they never wait for a peer. */
export interface HeldLog {
  /** 64 hex digits. */
  readonly key: string
  /** Blocks held without a gap from the start. */
  length(): number
  fork(): number
  /** Tree hash as of this length, which must be held. */
  treeHash(length: number): Promise<string>
  /** Rejects when the block is not held. */
  get(block: number): Promise<Uint8Array>
}

export interface OwnLog extends HeldLog {
  /** Makes the log writable again after an append failed; what `length` says before that may be old. */
  prepare(): Promise<void>
  /** Length that our signature speaks of here: more than `length()` when blocks are missing, as after a heal that was cut short. */
  signed(): number
  /** Blocks held, also those behind a gap. */
  count(): Promise<number>
  /**
   * Writes one block, syncs it to disk, runs `beforePublish` with the head that it makes, and only then lets peers hear of it.
   * Hypercore tells its peers of a block in the same call that writes it, so a block that was told but not synced could be lost
   * in a power cut and then be written anew with other content: a fork. Rejects with the system's error; after that the caller
   * may try again (the store reopens itself), and the block may turn out to have been written.
   */
  append(block: Uint8Array, beforePublish: (head: Head) => Promise<void>): Promise<Head>
}

export class LogStoreError extends Schema.TaggedError<LogStoreError>()("LogStoreError", {
  operation: Schema.Literals(["open", "append", "read"]),
  reason: Schema.Literals(["full", "readonly", "failed"]),
  detail: Schema.String
}) {
  override get message() {
    return this.reason === "full" ? "the disk is full"
      : this.reason === "readonly" ? "the disk is read-only"
      : `log store: ${this.operation} failed: ${this.detail}`
  }
}

export const logStoreError = (operation: LogStoreError["operation"]) => (cause: unknown): LogStoreError =>
  new LogStoreError({ operation, reason: diskReason(cause), detail: cause instanceof Error ? cause.message : String(cause) })

/** The logs on this disk. Real: `hypercore-store.ts`. Memory: `memory-store.ts`. One contract suite runs against both. */
export class LogStore extends Context.Service<LogStore, {
  /** Opens or makes the log of this key pair. The secret key never enters the store. */
  openOwn(keyPair: KeyPair): Effect.Effect<OwnLog, LogStoreError, Scope.Scope>
  /** Opens a log by its key, held or not yet. */
  openHeld(key: string): Effect.Effect<HeldLog, LogStoreError, Scope.Scope>
}>()("kos/events/LogStore") {}
