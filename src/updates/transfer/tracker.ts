/** The node's own tracker for WebTorrent clients of the same people: only for packs that this node serves, only at the address that a person set (R4.1). */
import { Client, Server } from "bittorrent-tracker"
import type { TrackerAt } from "./messages.ts"

export interface Tracker {
  readonly url: string
  /** Says that this node has the pack. */
  readonly announce: (infoHash: string) => void
  readonly withdraw: (infoHash: string) => void
  readonly close: () => Promise<void>
}

export interface TrackerOptions {
  readonly at: TrackerAt
  /** The allow-list. */
  readonly serves: (infoHash: string) => boolean
  readonly peerId: string
  /** Where this node takes connections of other clients. */
  readonly port: number
  readonly notice: (text: string) => void
}

/** How often clients come back, milliseconds. */
const intervalMs = 60_000
const peersMax = 1_000
const connectionsMax = 256
const messageBytesMax = 65_536

export const openTracker = ({ at, serves, peerId, port, notice }: TrackerOptions): Promise<Tracker> =>
  new Promise((resolve, reject) => {
    const server = new Server({
      http: true, udp: false, ws: { maxPayload: messageBytesMax }, stats: false, interval: intervalMs, peersCacheLength: peersMax, peersCacheTtl: intervalMs * 3,
      // R4.1: what this node does not serve has no place here.
      filter: (infoHash, _params, done) => done(serves(infoHash) ? null : new Error("unknown pack"))
    })
    server.http.maxConnections = connectionsMax
    server.http.headersTimeout = 10_000
    server.http.requestTimeout = 10_000
    const announced = new Map<string, Client>()
    const withdraw = (infoHash: string) => {
      announced.get(infoHash)?.destroy()
      announced.delete(infoHash)
    }
    server.once("error", reject)
    server.on("warning", () => {})
    server.listen(at.port, at.host, () => {
      server.removeListener("error", reject)
      server.on("error", (error: Error) => notice(`The tracker says: ${error.message}`.slice(0, 300)))
      const address = server.http.address()
      const bound = typeof address === "object" && address !== null ? address.port : at.port
      const url = `http://${at.host.includes(":") ? `[${at.host}]` : at.host}:${bound}/announce`
      resolve({
        url, withdraw,
        announce: (infoHash) => {
          if (announced.has(infoHash)) return
          const client = new Client({ infoHash, peerId, announce: [url], port })
          client.on("error", (error: Error) => notice(`The tracker refuses this node: ${error.message}`.slice(0, 300)))
          client.on("warning", () => {})
          announced.set(infoHash, client)
          client.start({ left: 0 })
        },
        close: () => new Promise((done) => {
          for (const infoHash of [...announced.keys()]) withdraw(infoHash)
          server.http.closeAllConnections()
          server.close(() => done())
        })
      })
    })
  })
