/** The slices of the peers' untyped packages that the benchmarks use. Loaded by the type checker only. */
declare module "rocksdb-native" {
  class RocksDB {
    constructor(path: string, options?: Readonly<Record<string, unknown>>)
    ready(): Promise<void>
    write(): { put(key: Buffer, value: Buffer): Promise<void>; flush(): Promise<void>; destroy(): void }
    currentWalFile(): Promise<{ readonly path: string } | null>
    close(): Promise<void>
  }
  export default RocksDB
}

declare module "autobase" {
  class Autobase {
    constructor(store: unknown, bootstrap: Buffer | null, handlers: Readonly<Record<string, unknown>>)
    readonly key: Buffer
    readonly local: { readonly key: Buffer; readonly length: number }
    readonly view: any
    readonly length: number
    readonly signedLength: number
    readonly writable: boolean
    ready(): Promise<void>
    append(values: unknown): Promise<void>
    update(): Promise<void>
    ack(): Promise<void>
    hash(): Promise<Buffer>
    heads(): ReadonlyArray<{ readonly key: Buffer; readonly length: number }>
    replicate(initiatorOrStream: unknown, options?: unknown): any
    on(event: string, listener: (...args: ReadonlyArray<any>) => void): void
    close(): Promise<void>
  }
  export default Autobase
}

declare module "hyperbee" {
  const Hyperbee: any
  export default Hyperbee
}
