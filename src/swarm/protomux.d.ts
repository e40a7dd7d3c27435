/** The slice of Protomux 3 that we use; it ships no types. Loaded by the type checker only. */
declare module "protomux" {
  import type { Duplex } from "node:stream"
  import type { State } from "compact-encoding"

  interface Message {
    send(value: unknown): boolean
  }
  interface Channel {
    readonly opened: boolean
    readonly closed: boolean
    readonly drained: boolean
    open(handshake?: unknown): void
    close(): void
    addMessage(options: {
      readonly encoding: unknown
      readonly onmessage: (value: Uint8Array) => void
    }): Message
  }
  interface ChannelName {
    readonly protocol: string
    readonly id?: Uint8Array | null
  }
  interface ChannelOptions extends ChannelName {
    readonly messages?: ReadonlyArray<{ readonly onmessage: (value: unknown, channel: unknown) => unknown }>
    readonly onopen?: () => void
    readonly onclose?: (isRemote: boolean) => void
    readonly ondrain?: () => void
  }
  class Protomux {
    constructor(stream: Duplex)
    readonly stream: Duplex
    readonly drained: boolean
    protected _destroying: boolean
    protected _safeDestroy(error: unknown): void
    protected _warn(error: unknown): void
    createChannel(options: ChannelOptions): Channel | null
    pair(name: ChannelName, notify: (id: Uint8Array | null) => Promise<void> | void): void
    unpair(name: ChannelName): void
    opened(name: ChannelName): boolean
    cork(): void
    uncork(): void
  }
  export type { Channel, ChannelOptions, State }
  export default Protomux
}

/** Internal to the pinned Hypercore: checks a signed tree without opening a log. */
declare module "hypercore/lib/verifier.js" {
  interface Manifest {
    readonly version: number
    readonly allowPatch: boolean
    readonly signers: ReadonlyArray<{ readonly publicKey: Buffer }>
    readonly prologue: unknown
  }
  interface SignedTree {
    readonly length: number
    signable(context: Buffer): Buffer
  }
  class Verifier {
    constructor(key: Buffer, manifest: Manifest)
    verify(tree: SignedTree, signature: Buffer): boolean
    static createManifest(encoded: Buffer): Manifest
    static isValidManifest(key: Buffer, manifest: Manifest): boolean
  }
  export type { Manifest }
  export default Verifier
}

declare module "hypercore/lib/caps.js" {
  const caps: { treeSignable(key: Buffer, treeHash: Buffer, length: number, fork: number): Buffer }
  export default caps
}
