import type { KeyPair } from "../codec/signature.ts"
import type { Duplex } from "node:stream"

/**
 * What swarm needs from the floors below, in one place, so that sessions can be tested without a whole node. Boot builds it from
 * the log store, the membership projection and the tables.
 */
export interface SwarmHost {
  /** This device. */
  readonly keyPair: KeyPair
  /** 64 hex digits. */
  readonly device: string
  readonly mesh: {
    /** 64 hex digits: hash of the mesh.created operation. */
    readonly id: string
    /** The mesh key, 32 bytes; topics and proofs are derived from it. */
    readonly key: Uint8Array
  }
  readonly membership: {
    standing(device: string): "member" | "revoked" | "unknown"
    /** Every log that the mesh's membership attaches to a member, with the device it belongs to. */
    logs(): ReadonlyArray<{ readonly log: string; readonly device: string }>
    /** All membership operations held, signed bytes, parents before children. */
    operations(): ReadonlyArray<Uint8Array>
    /** Verifies and keeps operations that are new here; returns how many were. Never throws on hostile bytes. */
    offer(operations: ReadonlyArray<Uint8Array>): Promise<number>
    /** Called after the set of operations changed; returns the unsubscribe. */
    onChange(listener: () => void): () => void
  }
  readonly logs: {
    /** Contiguous length of every log held here (own log included), without opening any. */
    heads(): ReadonlyArray<{ readonly log: string; readonly length: number; readonly changed: number }>
    /** Grows by one with each recorded growth of any log; heads() entries carry the value at their last growth. */
    sequence(): number
    /** A random id made when this node's sequence was born; a peer's cursor into another sequence is void. */
    readonly sequenceId: string
    /** Opens a Hypercore session with forks refused; close it when done. Only keys in membership.logs() are asked for. */
    open(log: string): Promise<ReplicatedLog>
    /** Records that a log has grown to this contiguous length (verified by Hypercore); wakes the ingest. */
    grew(log: string, length: number): void
    onGrow(listener: (log: string, length: number) => void): () => void
    /** A peer showed another history of a log than ours: (log, what was seen). */
    diverged(log: string, device: string, detail: string): void
  }
  readonly receipts: {
    /** The peer says it holds this log up to this length. Monotonic. */
    holds(device: string, log: string, length: number): void
    /** Cursor into the peer's sequence up to which its heads are known here; void when its sequenceId differs. */
    cursor(device: string): { readonly sequenceId: string; readonly sequence: number } | undefined
    setCursor(device: string, sequenceId: string, sequence: number): void
    /** A peer came in touch or was lost. */
    touched(device: string, carrier: string, up: boolean, remote: string): void
  }
  /** One structured line for the node's log. */
  notice(level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>): void
}

/** The slice of a Hypercore session that replication uses. */
export interface ReplicatedLog {
  readonly key: Buffer
  readonly length: number
  readonly contiguousLength: number
  readonly fork: number
  replicate(stream: Duplex): unknown
  download(range: { readonly start: number; readonly end: number }): { done(): Promise<unknown>; destroy(): void }
  get(index: number, options?: { readonly timeout?: number; readonly wait?: boolean }): Promise<Buffer | null>
  treeHash(length?: number): Promise<Buffer>
  update(options?: { readonly wait?: boolean }): Promise<boolean>
  on(event: string, listener: (...args: ReadonlyArray<never>) => void): void
  off(event: string, listener: (...args: ReadonlyArray<never>) => void): void
  close(): Promise<void>
}
