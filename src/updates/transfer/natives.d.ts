/** The slices of WebTorrent 3 and bittorrent-tracker 11 that we use, among them names that begin with an underscore: their versions are pinned. Loaded by the type checker only. */
declare module "webtorrent" {
  import type { EventEmitter } from "node:events"
  import type { Server } from "node:net"
  import type { Duplex } from "node:stream"
  export interface Wire extends EventEmitter {
    readonly destroyed: boolean
    /** A wire that has not told what it holds yet has an empty field. */
    readonly peerPieces: { get(index: number): boolean }
    readonly peerInterested: boolean
    readonly isSeeder: boolean
    readonly requests: ReadonlyArray<unknown>
    readonly peerRequests: ReadonlyArray<unknown>
    readonly uploaded: number
    readonly downloaded: number
    /** Bytes of the message that it waits for. */
    readonly _parserSize: number
    readonly _readableState: { readonly buffered: number }
    readonly lt_donthave?: { donthave(index: number): void }
    peerExtendedHandshake: { reqq?: unknown }
    request: (index: number, offset: number, length: number, done: (error: Error | null, block: Uint8Array | null) => void) => void
    _write: (data: Uint8Array, done: (error: Error | null) => void) => void
    downloadSpeed: (bytes?: number) => number
    unchoke: () => void
    choke(): void
    have(index: number): void
    destroy(): void
  }
  /** A piece that is being put together. */
  export interface GatheredPiece {
    get(block: number): Uint8Array | undefined | null
  }
  export interface Torrent extends EventEmitter {
    readonly infoHash: string
    readonly ready: boolean
    readonly destroyed: boolean
    readonly bitfield: { get(index: number): boolean }
    readonly pieces: Array<GatheredPiece | null>
    readonly wires: ReadonlyArray<Wire>
    readonly store: { put(index: number, piece: Uint8Array, done: (error: Error | null) => void): void }
    readonly received: number
    readonly uploaded: number
    readonly _peers: Map<string, { readonly wire: Wire | null }>
    _request: (wire: Wire, index: number, hotswap: boolean) => boolean
    _updateWire: (wire: Wire) => unknown
    _markVerified(index: number): void
    _markUnverified(index: number): void
    _checkDone(): void
    _update(): void
    addPeer(peer: Duplex & { readonly id: string; readonly connected: boolean }, source: string): boolean
    removePeer(id: string): void
    select(from: number, to: number, priority: number): void
    deselect(from: number, to: number): void
    destroy(options: { readonly destroyStore: boolean }, done: () => void): void
  }
  export interface ChunkStore {
    readonly chunkLength: number
    get(index: number, options: { readonly offset?: number; readonly length?: number } | null | ((error: Error | null, bytes?: Uint8Array) => void), done?: (error: Error | null, bytes?: Uint8Array) => void): void
    put(index: number, piece: Uint8Array, done: (error: Error | null) => void): void
    close(done: (error: Error | null) => void): void
    destroy(done: (error: Error | null) => void): void
  }
  export interface ClientOptions {
    readonly dht: false
    readonly lsd: false
    readonly utPex: false
    readonly natUpnp: false
    readonly natPmp: false
    readonly utp: false
    readonly tracker: false
    readonly webSeeds: false
    readonly secure: 0 | 1
    readonly maxConns: number
  }
  export interface TorrentOptions {
    readonly path: string
    readonly preloadedStore: ChunkStore
    readonly storeCacheSlots: 0
    readonly bitfield: Uint8Array
    readonly deselect: true
    readonly strategy: "sequential"
    readonly uploads: number
  }
  class Client extends EventEmitter {
    constructor(options: ClientOptions)
    readonly peerId: string
    torrentPort: number
    readonly _connPool: { readonly tcpServer: Server } | null
    add(torrent: Uint8Array, options: TorrentOptions): Torrent
    /** Bytes a second; -1 for no limit. */
    throttleDownload(rate: number): void
    throttleUpload(rate: number): void
    destroy(done: () => void): void
  }
  export default Client
}

declare module "bittorrent-tracker" {
  import type { EventEmitter } from "node:events"
  import type { Server as HttpServer } from "node:http"
  export class Server extends EventEmitter {
    constructor(options: {
      readonly http: true
      readonly udp: false
      readonly ws: true | { readonly maxPayload: number }
      readonly stats: false
      readonly interval: number
      readonly peersCacheLength: number
      readonly peersCacheTtl: number
      readonly filter: (infoHash: string, params: unknown, done: (refusal: Error | null) => void) => void
    })
    readonly http: HttpServer
    listen(port: number, host: string, done: () => void): void
    close(done: () => void): void
  }
  export class Client extends EventEmitter {
    constructor(options: { readonly infoHash: string; readonly peerId: string; readonly announce: ReadonlyArray<string>; readonly port: number })
    start(options: { readonly left: number }): void
    stop(): void
    destroy(done?: () => void): void
  }
}
