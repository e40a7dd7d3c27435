/**
 * kOS as far as logs go: the real store, tables of heads and receipts, sessions, heads exchange and replication, between two
 * processes. Membership is given, not folded: its operations are bytes of the usual size that both sides hold.
 */
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import NoiseSecretStream from "@hyperswarm/secret-stream"
import { toHex } from "../src/codec/bytes.ts"
import type { KeyPair } from "../src/codec/signature.ts"
import { HypercoreStore } from "../src/events/hypercore-store.ts"
import { Tables } from "../src/projections/tables/tables.ts"
import type { Carrier, CarrierOptions, Connection } from "../src/swarm/carrier.ts"
import { hostDht } from "../src/swarm/carriers/dht-host.ts"
import { makeHyperswarmCarrier } from "../src/swarm/carriers/hyperswarm.ts"
import { toConnection } from "../src/swarm/carriers/connections.ts"
import type { ReplicatedLog, SwarmHost } from "../src/swarm/host.ts"
import { makeSwarm, type Swarm, type SwarmOptions } from "../src/swarm/swarm.ts"
import { benchKeyPair, meshKey } from "./kos.ts"

export interface LogsNode {
  readonly tables: Tables
  readonly swarm: Swarm
  /** Opened now, closed with the node. */
  readonly store: HypercoreStore
  onGrew(listener: (log: string, length: number) => void): void
  close(): Promise<void>
}

export const deviceOf = (name: string) => toHex(benchKeyPair(name).publicKey)

/** A signed membership operation is about this long. */
const operationBytes = 240

/** `directory` holds `logs/` (the store) and `tables.db`; both are made when they are missing. */
export const openLogsNode = async (
  directory: string, name: string, mesh: { readonly devices: ReadonlyArray<string>; readonly logs: ReadonlyArray<string> }, carriers: () => ReadonlyArray<Carrier>,
  more: Partial<SwarmOptions> = {}
): Promise<LogsNode> => {
  fs.mkdirSync(directory, { recursive: true })
  const store = await HypercoreStore.open(path.join(directory, "logs"))
  const tables = new Tables(path.join(directory, "tables.db"))
  const keyPair: KeyPair = benchKeyPair(name)
  const device = deviceOf(name)
  const logs = mesh.logs.map((log) => ({ log, device: mesh.devices[0] ?? device }))
  const operations = logs.map(({ log }) => Buffer.concat([Buffer.from(log, "hex"), Buffer.alloc(operationBytes - 32, 7)]))
  const growers = new Set<(log: string, length: number) => void>()
  const host: SwarmHost = {
    keyPair, device, mesh: { id: "ab".repeat(32), key: meshKey },
    membership: {
      standing: (other) => (mesh.devices.includes(other) ? "member" : "unknown"),
      dismissal: () => undefined, logs: () => logs, operations: () => operations, offer: async () => 0, onChange: () => () => undefined
    },
    logs: {
      own: () => device,
      heads: (since) => (since === undefined ? tables.heads.all() : tables.heads.since(since)),
      sequence: () => tables.heads.sequence(),
      sequenceId: tables.heads.sequenceId(),
      open: async (log): Promise<ReplicatedLog> => store.session(log),
      grew: (log, length) => {
        if (tables.heads.grew(log, length)) for (const listener of growers) listener(log, length)
      },
      onGrow: (listener) => {
        growers.add(listener)
        return () => growers.delete(listener)
      },
      diverged: (log, _, detail) => fail(`log ${log} diverged: ${detail}`),
      ownLogAhead: () => undefined
    },
    receipts: {
      holds: (other, log, length) => void tables.receipts.holds(other, log, length),
      cursor: (other) => tables.receipts.cursor(other),
      setCursor: (other, id, sequence) => tables.receipts.setCursor(other, id, sequence),
      holdings: (other) => tables.receipts.holdings(other),
      touched: () => undefined
    },
    notice: (level, text, detail) => {
      if (level === "warn" || process.env["BENCH_TALK"] !== undefined) process.stderr.write(`${name}: ${text} ${JSON.stringify(detail ?? {})}\n`)
    }
  }
  const swarm = makeSwarm(host, carriers, { now: () => Date.now(), ...more })
  return {
    tables, swarm, store,
    onGrew: (listener) => growers.add(listener),
    close: async () => {
      await swarm.stop()
      tables.close()
      await store.close()
    }
  }
}

/** A closed home, as if it had always stood here: stores know their place and refuse to be copied. */
export const copyHome = (from: string, to: string) => {
  fs.cpSync(from, to, { recursive: true })
  fs.rmSync(path.join(to, "logs", "CORESTORE"), { force: true })
}

const fail = (text: string): never => {
  throw new Error(text)
}

/** One connection over loopback TCP with the same Noise stream as every carrier's. The server's `port` is 0. */
export const tcpCarrier = (port: number, onListening: (port: number) => void = () => {}): Carrier => {
  let server: net.Server | undefined
  const sockets = new Set<net.Socket>()
  const greet = (socket: net.Socket, initiator: boolean, { keyPair, onConnection }: CarrierOptions) => {
    sockets.add(socket)
    socket.setNoDelay(true)
    const stream = new NoiseSecretStream(initiator, socket, { keyPair: { publicKey: Buffer.from(keyPair.publicKey), secretKey: Buffer.from(keyPair.secretKey) } })
    stream.on("error", () => {})
    stream.once("handshake", () => {
      const { remotePublicKey: key, handshakeHash: hash } = stream
      if (key === null || hash === null) return
      onConnection(toConnection({ stream, carrier: "lan", initiator, device: toHex(key), handshakeHash: new Uint8Array(hash), remote: "loopback" }))
    })
  }
  return {
    name: "lan",
    start: async (options) => {
      if (port > 0) return greet(net.connect(port, "127.0.0.1"), true, options)
      server = net.createServer((socket) => greet(socket, false, options))
      await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve))
      const address = server.address()
      if (typeof address === "object" && address !== null) onListening(address.port)
    },
    join: async () => undefined,
    leave: async () => undefined,
    dial: () => undefined,
    forget: () => undefined,
    stop: async () => {
      server?.close()
      for (const socket of sockets) socket.destroy()
    },
    status: () => ({ name: "lan", listening: server !== undefined, detail: "", connections: sockets.size })
  }
}

export interface PrivateDht {
  readonly port: number
  stop(): Promise<void>
}

export const privateDht = (): Promise<PrivateDht> => hostDht({ port: 0, host: "127.0.0.1" })

export const hyperswarmCarrier = (dhtPort: number): Carrier => makeHyperswarmCarrier({ bootstrap: [{ host: "127.0.0.1", port: dhtPort }] })

/** Tells each connection that is handed over, before its receiver gets it. */
export const watched = (carrier: Carrier, onConnection: (connection: Connection) => void): Carrier => ({
  ...carrier,
  start: (options) => carrier.start({
    ...options,
    onConnection: (connection) => {
      onConnection(connection)
      options.onConnection(connection)
    }
  })
})
