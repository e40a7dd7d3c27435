import type { Duplex } from "node:stream"
import type { KeyPair } from "../codec/signature.ts"

/**
 * A carrier brings authenticated connections to other devices. Every connection is a Noise stream (the same secret-stream
 * whatever lies below), so the remote device key is proven before anyone above hears of it.
 */
export interface Connection {
  /** Unique in this process, for logs. */
  readonly id: string
  readonly carrier: CarrierName
  readonly initiator: boolean
  /** Remote device key, 64 hex digits, proven by Noise. */
  readonly device: string
  /** Noise handshake hash, the same 64 bytes on both sides. */
  readonly handshakeHash: Uint8Array
  /** A secret-stream: give it to `Protomux.from`. */
  readonly stream: Duplex
  /** Where it came from or went to, for people. */
  readonly remote: string
  /** Resolves when the connection has ended for whatever reason. */
  readonly closed: Promise<void>
  /** Ends it now; never rejects. */
  destroy(): void
}

export type CarrierName = "hyperswarm" | "lan" | "memory"

export interface CarrierOptions {
  readonly keyPair: KeyPair
  /** May this device connect at all? Asked before a connection is handed over, both ways. */
  readonly firewall: (device: string) => boolean
  readonly onConnection: (connection: Connection) => void
  /** One line for the log when something of note happened (bind failed, peer refused). */
  readonly onNotice: (text: string) => void
}

export interface Carrier {
  readonly name: CarrierName
  /** Begins to listen and to look; resolves when it listens. */
  start(options: CarrierOptions): Promise<void>
  /** Meet others who know this 32-byte topic; may be called again with more. Announce and look up. */
  join(topic: Uint8Array): Promise<void>
  leave(topic: Uint8Array): Promise<void>
  /** Try this remembered device beside the topics, now and again with back-off, until `forget`. */
  dial(device: string, hint?: string): void
  forget(device: string): void
  /** Says goodbye, ends every connection and listens no more. Idempotent. */
  stop(): Promise<void>
  /** For `kos doctor`: is it listening, where, is the DHT reachable. */
  status(): CarrierStatus
}

export interface CarrierStatus {
  readonly name: CarrierName
  readonly listening: boolean
  readonly detail: string
  readonly connections: number
}
