/** The slice of Corestore and Hypercore 11 that we use; they ship no types. Loaded by the type checker only. */
declare module "hypercore" {
  interface Manifest {
    readonly version: number
    readonly signers: ReadonlyArray<{ readonly publicKey: Buffer }>
  }
  interface ProofNode {
    readonly index: number
    readonly size: number
    readonly hash: Buffer
  }
  interface Proof {
    readonly fork: number
    readonly block: { readonly index: number; readonly value: Buffer | null; readonly nodes: ReadonlyArray<ProofNode> } | null
    readonly hash: null
    readonly seek: null
    readonly upgrade: {
      readonly start: number
      readonly length: number
      readonly nodes: ReadonlyArray<ProofNode>
      readonly additionalNodes: ReadonlyArray<ProofNode>
      readonly signature: Buffer
    } | null
  }
  interface AppendOptions {
    readonly keyPair: { readonly publicKey: Buffer; readonly secretKey: Buffer }
    /** Runs after the block is in storage and before any peer hears of it. */
    readonly postappend?: () => Promise<void>
  }
  class Hypercore {
    readonly key: Buffer
    readonly discoveryKey: Buffer
    readonly length: number
    readonly contiguousLength: number
    readonly fork: number
    readonly closing: Promise<void> | null
    /** Internal: the Merkle roots as of the last write, also while `postappend` runs. */
    readonly state: { readonly roots: ReadonlyArray<{ readonly hash: Buffer; readonly size: number; readonly index: number }>; readonly length: number }
    ready(): Promise<void>
    append(block: Buffer | Uint8Array, options: AppendOptions): Promise<{ length: number }>
    get(index: number, options?: { readonly timeout?: number; readonly wait?: boolean }): Promise<Buffer | null>
    has(index: number): Promise<boolean>
    treeHash(length?: number): Promise<Buffer>
    update(options?: { readonly wait?: boolean }): Promise<boolean>
    replicate(stream: unknown, options?: unknown): unknown
    readonly peers: ReadonlyArray<{ readonly protomux: unknown; readonly channel: { close(): void }; sendSync(): void }>
    readonly core: {
      readonly replicator: { attached(mux: unknown): boolean; detachFrom(mux: unknown): void }
      /** Internal: where the core lies in the storage. */
      readonly storage: { readonly core: { readonly corePointer: number; readonly dataPointer: number } }
    }
    getManifest(options: { readonly raw: true }): Buffer | null
    proof(request: {
      readonly block?: { readonly index: number; readonly nodes: number }
      readonly upgrade?: { readonly start: number; readonly length: number }
    }): Promise<Proof>
    applyProof(proof: Proof & { readonly manifest: unknown }): Promise<boolean>
    download(
      range: { readonly start: number; readonly end: number; readonly linear?: boolean } | { readonly blocks: ReadonlyArray<number> }
    ): { done(): Promise<unknown>; destroy(): void }
    on(event: string, listener: (...args: ReadonlyArray<never>) => void): void
    off(event: string, listener: (...args: ReadonlyArray<never>) => void): void
    close(): Promise<void>
    static key(manifest: Manifest): Buffer
    static discoveryKey(key: Buffer): Buffer
  }
  export default Hypercore
}

declare module "corestore" {
  import type Hypercore from "hypercore"
  interface WalFile { readonly path: string; readonly number: number; readonly size: number }
  class Corestore {
    constructor(directory: string, options?: { readonly readOnly?: boolean; readonly wait?: boolean; readonly primaryKey?: Buffer; readonly unsafe?: boolean })
    readonly storage: {
      readonly db: { currentWalFile(): Promise<WalFile | null>; flush(): Promise<void> }
      readonly rocks: { close(options: { readonly force: true }): Promise<void> }
      close(): Promise<void>
      hasCore(discoveryKey: Buffer): Promise<boolean>
      /** Internal: removes all of a core; sessions must be closed. */
      deleteCore(pointer: { readonly corePointer: number; readonly dataPointer: number }): Promise<void>
    }
    ready(): Promise<void>
    get(options: { readonly key?: Buffer; readonly manifest?: unknown; readonly allowFork: boolean; readonly createIfMissing?: boolean }): Hypercore
    close(): Promise<void>
  }
  export default Corestore
}
