/**
 * The connections of one carrier: at most one per remote device, at most `connectionsMax` in all.
 *
 * When two devices dial each other at the same moment there are two streams and each side sees them come along in its own order. Both must
 * keep the same one, without talking about it. So the device with the smaller key decides, by what it does first: once its own stream has
 * proven the other's key (`begin`) it accepts none from there; once it has accepted one, it gives its own up before greeting. The other
 * device takes what it gets. Hence nothing that was handed over is replaced merely because two dialled.
 *
 * A device that dials us although we hold a connection to it has lost that one (it restarted, its network changed). If the old one was
 * dialled by it, or we are the larger key, the new one replaces it, and is handed over after the old one has closed, so that those
 * above never see two of one device. Otherwise the new one is refused, and the old one is poked: if it is dead the poke brings the
 * reset, and the remote's next attempt is welcome.
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
  /** Our own stream has proven this device: a sentence when it is to be given up. Else call `end` when it is settled. */
  begin(device: string): string | undefined
  end(device: string): void
  /** A stream of this device wants to be accepted: a sentence when not. */
  accept(device: string): string | undefined
  /** Keeps it and hands it over, or destroys it; false when destroyed. */
  add(greeted: Greeted, remote: string): boolean
  has(device: string): boolean
  readonly size: number
  destroyAll(): Promise<void>
}

export const makeConnections = (options: ConnectionsOptions): Connections => {
  const { carrier, device: own, connectionsMax, onConnection, onLost } = options
  const held = new Map<string, { connection: Connection; stream: SecretStream }>()
  const begun = new Set<string>()
  let stopped = false

  const noRoom = (): string | undefined =>
    stopped ? "the carrier has stopped" : held.size >= connectionsMax ? `there are ${connectionsMax} connections already` : undefined
  const connectedAlready = "there is a connection to this device already"

  return {
    begin(device) {
      const old = held.get(device)
      if (old === undefined && !begun.has(device)) {
        const refusal = noRoom()
        if (refusal === undefined) begun.add(device)
        return refusal
      }
      old?.stream.sendKeepAlive()
      return connectedAlready
    },
    end(device) {
      begun.delete(device)
    },
    accept(device) {
      const old = held.get(device)
      if (old === undefined) return begun.has(device) && own < device ? "our own stream to it is about to be complete" : noRoom()
      if (newWins(own, device, old.connection.initiator, false)) return stopped ? noRoom() : undefined
      old.stream.sendKeepAlive()
      return connectedAlready
    },
    add({ stream, initiator, device, handshakeHash }, remote) {
      const old = held.get(device)
      const refused = old === undefined ? noRoom() !== undefined : stopped || !newWins(own, device, old.connection.initiator, initiator)
      if (stream.destroyed || refused) {
        stream.destroy()
        return false
      }
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
