/** The slices of the Holepunch network libraries that the carriers use; they ship no types. Loaded by the type checker only. */

declare module "@hyperswarm/secret-stream" {
  import type { Duplex } from "node:stream"
  export interface NoiseKeyPair {
    readonly publicKey: Buffer
    readonly secretKey: Buffer
  }
  export interface SecretStream extends Duplex {
    readonly isInitiator: boolean
    readonly remotePublicKey: Buffer | null
    readonly handshakeHash: Buffer | null
    setKeepAlive(ms: number): void
    setTimeout(ms: number): void
    sendKeepAlive(): void
  }
  const NoiseSecretStream: new(
    isInitiator: boolean, raw: Duplex, options: { readonly keyPair: NoiseKeyPair }
  ) => SecretStream
  export default NoiseSecretStream
}

declare module "hyperdht" {
  import type { NoiseKeyPair } from "@hyperswarm/secret-stream"
  export interface DhtAddress {
    readonly host: string
    readonly port: number
  }
  export interface DhtOptions {
    readonly bootstrap?: ReadonlyArray<DhtAddress>
    readonly host?: string
    readonly port?: number
    readonly anyPort?: boolean
    readonly ephemeral?: boolean
    readonly firewalled?: boolean
  }
  class HyperDHT {
    constructor(options: DhtOptions)
    static bootstrapper(port: number, host: string, options?: DhtOptions): HyperDHT
    static keyPair(seed?: Buffer): NoiseKeyPair
    readonly online: boolean
    readonly firewalled: boolean
    readonly destroyed: boolean
    /** Our address as others see it, null until enough of them said so. */
    readonly host: string | null
    readonly port: number
    bind(): Promise<void>
    fullyBootstrapped(): Promise<void>
    address(): DhtAddress | null
    /** Nodes in the routing table. */
    toArray(options?: { readonly limit?: number }): ReadonlyArray<DhtAddress>
    refresh(): void
    destroy(options?: { readonly force?: boolean }): Promise<void>
    on(event: "network-update" | "network-change" | "close", listener: () => void): void
  }
  export default HyperDHT
}

declare module "hyperswarm" {
  import type { NoiseKeyPair, SecretStream } from "@hyperswarm/secret-stream"
  import type HyperDHT from "hyperdht"
  export interface SwarmPeer {
    readonly publicKey: Buffer
    readonly explicit: boolean
    ban(banned: boolean): void
  }
  export interface SwarmConnection extends SecretStream {
    readonly rawStream: { readonly remoteHost?: string; readonly remotePort?: number } | null
  }
  export interface SwarmDiscovery {
    refresh(options: { readonly client: boolean; readonly server: boolean }): Promise<boolean>
    flushed(): Promise<boolean>
  }
  class Hyperswarm {
    constructor(options: {
      readonly dht: HyperDHT
      readonly keyPair: NoiseKeyPair
      readonly firewall: (publicKey: Buffer) => boolean
      readonly maxPeers: number
    })
    readonly peers: Map<string, SwarmPeer>
    readonly destroyed: boolean
    join(topic: Buffer, options: { readonly client: boolean; readonly server: boolean }): SwarmDiscovery
    leave(topic: Buffer): Promise<void>
    joinPeer(publicKey: Buffer): void
    leavePeer(publicKey: Buffer): void
    listen(): Promise<void>
    destroy(options?: { readonly force?: boolean }): Promise<void>
    on(event: "connection", listener: (connection: SwarmConnection) => void): void
    on(event: "ban", listener: (peer: SwarmPeer) => void): void
  }
  export default Hyperswarm
}
