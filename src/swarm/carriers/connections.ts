/**
 * The connections of one carrier: at most one per remote device, at most `connectionsMax` in all.
 *
 * When two devices dial each other at the same moment there are two streams and each side sees them finish in its own order. Both
 * must keep the same one, without talking about it: of two streams dialled by different sides, the one dialled by the device with
 * the smaller key stays; of two dialled by the same side, the newer, because nobody dials a device it still has a connection to.
 * A stream that loses is destroyed; if the loser was already handed over, the winner is handed over after the loser has closed, so
 * that those above never see two of one device.
 *
 * A refused duplicate pokes the connection that stays: if that one is dead without our knowing (the remote lost power), the poke
 * brings the reset, and the remote's next attempt is welcome.
 */
import type { SecretStream } from "@hyperswarm/secret-stream"
import type { CarrierName, Connection } from "../carrier.ts"
import type { Greeted } from "./greeting.ts"

export interface ConnectionsOptions {
  readonly carrier: CarrierName
  /** Our own device key, 64 hex digits. */
  readonly device: string
  readonly connectionsMax: number
  readonly onConnection: (connection: Connection) => void
  /** The device has no connection any more. */
  readonly onLost: (device: string) => void
}

export interface Connections {
  /** A sentence when a new stream of this direction would not be kept. */
  refuse(device: string, initiator: boolean): string | undefined
  /** Keeps it and hands it over, or destroys it; false when destroyed. */
  add(greeted: Greeted, remote: string): boolean
  has(device: string): boolean
  readonly size: number
  destroyAll(): Promise<void>
}

export const makeConnections = (options: ConnectionsOptions): Connections => {
  const { carrier, connectionsMax, onConnection, onLost } = options
  const held = new Map<string, { connection: Connection; stream: SecretStream }>()
  let stopped = false

  const refuse = (device: string, initiator: boolean): string | undefined => {
    if (stopped) return "the carrier has stopped"
    const old = held.get(device)
    if (old === undefined) return held.size < connectionsMax ? undefined : `there are ${connectionsMax} connections already`
    if (newWins(options.device, device, old.connection.initiator, initiator)) return undefined
    old.stream.sendKeepAlive()
    return "there is a connection to this device already"
  }

  return {
    refuse,
    add({ stream, initiator, device, handshakeHash }, remote) {
      if (stream.destroyed || refuse(device, initiator) !== undefined) {
        stream.destroy()
        return false
      }
      const old = held.get(device)
      const connection = toConnection({ stream, carrier, initiator, device, handshakeHash, remote })
      const entry = { connection, stream }
      held.set(device, entry)
      void connection.closed.then(() => {
        if (held.get(device) !== entry) return
        held.delete(device)
        onLost(device)
      })
      if (old === undefined) {
        onConnection(connection)
      } else {
        old.connection.destroy()
        void old.connection.closed.then(() => {
          if (!stopped && !stream.destroyed && held.get(device) === entry) onConnection(connection)
        })
      }
      return true
    },
    has: (device) => held.has(device),
    get size() {
      return held.size
    },
    async destroyAll() {
      stopped = true
      const all = [...held.values()]
      for (const { connection } of all) connection.destroy()
      await Promise.all(all.map(({ connection }) => connection.closed))
    }
  }
}

/** Of two streams between the same devices, does the new one stay? */
export const newWins = (own: string, remote: string, oldInitiator: boolean, newInitiator: boolean): boolean =>
  oldInitiator === newInitiator || newInitiator === (own < remote)

/** The contract's view of a proven secret-stream. */
export const toConnection = (parts: {
  readonly stream: SecretStream
  readonly carrier: CarrierName
  readonly initiator: boolean
  readonly device: string
  readonly handshakeHash: Uint8Array
  readonly remote: string
}): Connection => {
  const { stream, carrier, initiator, device, handshakeHash, remote } = parts
  const closed = new Promise<void>((resolve) => {
    if (stream.destroyed) resolve()
    else stream.once("close", () => resolve())
  })
  connectionsMade += 1
  return {
    id: `${carrier}-${connectionsMade}`, carrier, initiator, device, handshakeHash, stream, remote, closed,
    destroy: () => {
      stream.destroy()
    }
  }
}

let connectionsMade = 0
