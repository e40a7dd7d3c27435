import type { KeyPair } from "../codec/signature.ts"
import type { Proven } from "./investigate.ts"

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
    /** Every log that the mesh's membership attaches to a member, with the device it belongs to, and from where on its blocks are out. */
    logs(): ReadonlyArray<{ readonly log: string; readonly device: string; readonly cutAt?: number | undefined }>
    /** For a device that is no member any more, or whose admission does not count: what it is told. Undefined for members and strangers. */
    dismissal(device: string): Dismissal | undefined
    /** All membership operations held, signed bytes, parents before children. */
    operations(): ReadonlyArray<Uint8Array>
    /** Verifies and keeps operations that are new here; returns how many were. Never throws on hostile bytes. */
    offer(operations: ReadonlyArray<Uint8Array>): Promise<number>
    /** Called after the set of operations changed; returns the unsubscribe. */
    onChange(listener: () => void): () => void
  }
  readonly logs: {
    /** The log that this node appends to; a growth of it at a peer is reported, never downloaded unasked. */
    own(): string
    /**
     * Contiguous length of every log held here (own log included), without opening any; only those whose `changed` is greater than
     * `since` when given. `fork` is absent for 0, the only value an honest log has.
     */
    heads(since?: number): ReadonlyArray<{ readonly log: string; readonly length: number; readonly changed: number; readonly fork?: number }>
    /** Grows by one with each recorded growth of any log; heads() entries carry the value at their last growth. */
    sequence(): number
    /** A random id made when this node's sequence was born; a peer's cursor into another sequence is void. */
    readonly sequenceId: string
    /** Opens a Hypercore session with forks refused; close it when done. Only keys in membership.logs() are asked for. */
    open(log: string): Promise<ReplicatedLog>
    /** Records that a log has grown to this contiguous length (verified by Hypercore); wakes the ingest. */
    grew(log: string, length: number): void
    onGrow(listener: (log: string, length: number) => void): () => void
    /** A peer has another history of a log than ours: what was seen, and, when both histories were signed, the proof. */
    diverged(log: string, device: string, detail: string, proven?: Proven): void
    /** A peer holds more of our own log than we do: we lost a tail, or our key is used elsewhere. The journal decides. */
    ownLogAhead(length: number, device: string): void
  }
  readonly receipts: {
    /** The peer says it holds this log up to this length. Monotonic. */
    holds(device: string, log: string, length: number): void
    /** Cursor into the peer's sequence up to which its heads are known here; void when its sequenceId differs. */
    cursor(device: string): { readonly sequenceId: string; readonly sequence: number } | undefined
    setCursor(device: string, sequenceId: string, sequence: number): void
    /** What `holds` recorded of this device: a download that a lost connection cut short goes on from here. */
    holdings(device: string): ReadonlyArray<{ readonly log: string; readonly length: number }>
    /** A peer came in touch or was lost. */
    touched(device: string, carrier: string, up: boolean, remote: string): void
  }
  /** One structured line for the node's log. */
  notice(level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>): void
}

/** Why a device is no member, for it to read and to check. */
export interface Dismissal {
  /** `you were revoked by alpha on 2026-11-23`. */
  readonly sentence: string
  /** `gamma was revoked by alpha on 2026-11-23`. */
  readonly about: string
  /** `left`: it went by itself. */
  readonly kind: "revoked" | "left" | "void"
  /** Signed operations, parents before children: those that put it out, and what their authors knew. */
  readonly proof: () => ReadonlyArray<Uint8Array>
}

/**
 * The slice of a Hypercore 11 session that replication uses. `core.replicator` is internal to Hypercore and the version is pinned: without
 * `detachFrom` a log once replicated stays tied to the stream, and every later download of it would ask every such peer again.
 */
export interface ReplicatedLog {
  readonly key: Buffer
  readonly discoveryKey: Buffer
  readonly length: number
  readonly contiguousLength: number
  readonly fork: number
  /** `sendSync` tells the peer again how much of the log is held here. */
  readonly peers: ReadonlyArray<{ readonly protomux: unknown; readonly channel: { close(): void }; sendSync(): void }>
  readonly core: { readonly replicator: { attached(mux: unknown): boolean; detachFrom(mux: unknown): void } }
  replicate(mux: unknown): unknown
  download(range: { readonly start: number; readonly end: number; readonly linear?: boolean }): { done(): Promise<unknown>; destroy(): void }
  get(index: number, options?: { readonly timeout?: number; readonly wait?: boolean }): Promise<Buffer | null>
  treeHash(length?: number): Promise<Buffer>
  /** Signed upgrade and Merkle nodes; see `bundle.ts`. */
  proof(request: ProofRequest): Promise<LogProof>
  /** Verifies and keeps; false or a rejection means that nothing was kept. */
  applyProof(proof: LogProof & { readonly manifest: unknown }): Promise<boolean>
  getManifest(options: { readonly raw: true }): Buffer | null
  on(event: string, listener: (...args: ReadonlyArray<never>) => void): void
  off(event: string, listener: (...args: ReadonlyArray<never>) => void): void
  close(): Promise<void>
}

export interface ProofRequest {
  readonly block?: { readonly index: number; readonly nodes: number }
  readonly upgrade?: { readonly start: number; readonly length: number }
}

export interface TreeNode {
  readonly index: number
  readonly size: number
  readonly hash: Buffer
}

/** What Hypercore's `proof` gives and `applyProof` takes. */
export interface LogProof {
  readonly fork: number
  readonly block: { readonly index: number; readonly value: Buffer | null; readonly nodes: ReadonlyArray<TreeNode> } | null
  readonly hash: null
  readonly seek: null
  readonly upgrade: {
    readonly start: number
    readonly length: number
    readonly nodes: ReadonlyArray<TreeNode>
    readonly additionalNodes: ReadonlyArray<TreeNode>
    readonly signature: Buffer
  } | null
}
