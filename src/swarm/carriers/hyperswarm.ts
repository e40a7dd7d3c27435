/**
 * The Hyperswarm carrier: meets devices anywhere by a DHT (public, or one's own), through NATs where it can.
 *
 * Owns: one DHT node and one swarm on it, from start to stop; the swarm is always destroyed on stop, because stale announcements make a
 * reconnect take seconds.
 *
 * What the library does not do and this file does:
 * - It bans a refused device for ever and remembers every stranger. Here a refusal is forgotten at once, so that a device which is
 *   admitted later is let in, and strangers cost no memory.
 * - Two devices that join a topic at the same moment can miss each other until its next look, 10 minutes later. Here each topic is
 *   looked up again after 0.5, 2, 8 and 30 s.
 * - It tries a remembered device a few times and then every 10 minutes. Here every second at first, then a few of
 *   those that are absent every 15 s, in turn.
 * - After a start without network it asks the bootstrap nodes again only after minutes. Here: every 15 s until one answers, then all topics
 *   are announced anew.
 * - `maxServerConnections` is not enforced by it; `connectionsMax` is here.
 *
 * Duplicate connections are settled by the library (it knows both ends); what it replaces closes before the new one is handed over.
 *
 * When every bootstrap node is on loopback, all sockets stay on loopback: with the default address, hole punching on one machine
 * makes only one side believe that it is connected.
 */
import HyperDHT, { type DhtAddress } from "hyperdht"
import Hyperswarm, { type SwarmDiscovery } from "hyperswarm"
import { fromHex, isHex, toHex } from "../../codec/bytes.ts"
import { asBuffer } from "../../codec/hash.ts"
import type { Carrier, CarrierOptions, CarrierStatus, Connection } from "../carrier.ts"
import { toConnection } from "./connections.ts"
import { isLoopback } from "./dht-host.ts"
import { realTimers, secureRandom, type Timers } from "./timers.ts"

export interface HyperswarmOptions {
  /** Addresses of bootstrap nodes; the public ones when absent. */
  readonly bootstrap?: ReadonlyArray<DhtAddress>
  readonly limits?: Partial<typeof hyperswarmLimits>
  readonly timers?: Timers
}

export const hyperswarmLimits = {
  connectionsMax: 256,
  /** Devices found by topic that the library connects to by itself. */
  peersMax: 128,
  rememberedMax: 512,
  /** Every so often, so many absent remembered devices are tried. */
  tendEveryMs: 15_000,
  triedPerRoundMax: 8,
  /** How long the start waits to be found in the DHT. */
  announceMs: 1500,
  /** After this the goodbye to the DHT is given up. */
  goodbyeMs: 4000
}

export const makeHyperswarmCarrier = (swarmOptions: HyperswarmOptions = {}): Carrier => {
  let run: SwarmRun | undefined
  const running = (): SwarmRun => {
    if (run === undefined) throw new Error("the Hyperswarm carrier is not started")
    return run
  }
  return {
    name: "hyperswarm",
    async start(options) {
      if (run !== undefined) return
      run = makeRun(swarmOptions, options)
      try {
        await run.start()
      } catch (error) {
        const failed = run
        run = undefined
        await failed?.stop()
        throw error
      }
    },
    join: async (topic) => running().join(topic),
    leave: async (topic) => run?.leave(topic),
    dial: (device) => running().dial(device),
    forget: (device) => run?.forget(device),
    async stop() {
      const last = run
      run = undefined
      await last?.stop()
    },
    status: () => run?.status() ?? { name: "hyperswarm", listening: false, detail: "not started", connections: 0 }
  }
}

interface SwarmRun {
  start(): Promise<void>
  join(topic: Uint8Array): void
  leave(topic: Uint8Array): Promise<void>
  dial(device: string): void
  forget(device: string): void
  stop(): Promise<void>
  status(): CarrierStatus
}

const lookAgainMs = [500, 2000, 8000, 30_000]
/** A device that somebody just asked for is tried so many times, once a second, before it queues with the others. */
const eagerRounds = 5
const eagerMax = 64

const makeRun = (swarmOptions: HyperswarmOptions, options: CarrierOptions): SwarmRun => {
  const { keyPair, firewall, onConnection, onNotice } = options
  const limits = { ...hyperswarmLimits, ...swarmOptions.limits }
  const timers = swarmOptions.timers ?? realTimers
  const { bootstrap } = swarmOptions
  const local = bootstrap !== undefined && bootstrap.length > 0 && bootstrap.every(({ host }) => isLoopback(host))
  const dht = new HyperDHT({ ...(bootstrap === undefined ? {} : { bootstrap }), ...(local ? { host: "127.0.0.1" } : {}) })
  const swarm = new Hyperswarm({
    dht, maxPeers: limits.peersMax,
    keyPair: { publicKey: asBuffer(keyPair.publicKey), secretKey: asBuffer(keyPair.secretKey) },
    firewall: (publicKey) => stopped || !firewall(toHex(publicKey))
  })
  const own = toHex(keyPair.publicKey)
  const topics = new Map<string, SwarmDiscovery>()
  const remembered = new Set<string>()
  const connected = new Map<string, Connection>()
  const cancels = new Set<() => void>()
  let listening = false
  let stopped = false
  let reachable: boolean | undefined

  const later = (ms: number, run: () => void): void => {
    const cancel = timers.after(ms, () => {
      cancels.delete(cancel)
      run()
    })
    cancels.add(cancel)
  }

  swarm.on("ban", (peer) => {
    peer.ban(false)
    // The library upserts a record for whoever knocks. Explicit ones are ours to keep.
    if (!peer.explicit) swarm.peers.delete(toHex(peer.publicKey))
  })

  swarm.on("connection", (stream) => {
    stream.on("error", () => {})
    const key = stream.remotePublicKey
    const hash = stream.handshakeHash
    const device = key === null ? "" : toHex(key)
    // The firewall again: the answer may have changed since the library asked.
    if (stopped || hash === null || !firewall(device) || connected.size >= limits.connectionsMax) {
      stream.destroy()
      return
    }
    const old = connected.get(device)
    const raw = stream.rawStream
    const connection = toConnection({
      stream, carrier: "hyperswarm", initiator: stream.isInitiator, device, handshakeHash: new Uint8Array(hash),
      remote: raw?.remoteHost === undefined ? "unknown" : `${raw.remoteHost}:${raw.remotePort ?? 0}`
    })
    connected.set(device, connection)
    void connection.closed.then(() => {
      if (connected.get(device) === connection) connected.delete(device)
    })
    if (old === undefined) return onConnection(connection)
    old.destroy()
    void old.closed.then(() => {
      if (!stopped && !stream.destroyed) onConnection(connection)
    })
  })

  const refresh = (discovery: SwarmDiscovery): void => {
    discovery.refresh({ client: true, server: true }).catch(() => {})
  }

  const judge = (): void => {
    if (stopped) return
    const now = dht.online && dht.toArray({ limit: 1 }).length > 0
    if (now === reachable) return
    const before = reachable
    reachable = now
    if (!now) onNotice("hyperswarm: no DHT node answers; trying on")
    else if (before === false) {
      onNotice("hyperswarm: the DHT answers again")
      for (const discovery of topics.values()) refresh(discovery)
      for (const device of remembered) tryDevice(device)
    }
  }

  const tryDevice = (device: string): void => {
    if (!connected.has(device) && firewall(device)) swarm.joinPeer(asBuffer(fromHex(device)))
  }

  const eager = new Map<string, number>()
  const tryEager = (): void => {
    for (const [device, rounds] of [...eager]) {
      tryDevice(device)
      if (rounds > 1 && !connected.has(device)) eager.set(device, rounds - 1)
      else eager.delete(device)
    }
    if (eager.size > 0) later(1000, tryEager)
  }

  /** Every round: is the DHT there, and where are some of those we miss? */
  const tend = (): void => {
    if (stopped) return
    judge()
    if (reachable === false) dht.refresh()
    let tried = 0
    for (const device of [...remembered]) {
      if (tried >= limits.triedPerRoundMax) break
      if (connected.has(device)) continue
      // To the end of the line, so that all have their turn.
      remembered.delete(device)
      remembered.add(device)
      tryDevice(device)
      tried += 1
    }
    later(limits.tendEveryMs * (0.9 + 0.2 * secureRandom()), tend)
  }

  dht.on("network-update", judge)

  return {
    async start() {
      await dht.bind()
      listening = true
      const announced = swarm.listen().catch((error: unknown) => {
        if (!stopped) onNotice(`hyperswarm: cannot listen: ${error instanceof Error ? error.message : "unknown error"}`)
      })
      // That waits until the DHT knows where to find us, or for long when it is far away or absent: we do not wait for long.
      await Promise.race([announced, new Promise<void>((resolve) => later(limits.announceMs, resolve))])
      dht.fullyBootstrapped().then(judge, judge)
      later(limits.tendEveryMs, tend)
    },
    join(topic) {
      const name = toHex(topic)
      if (topics.has(name)) return
      const discovery = swarm.join(Buffer.from(topic), { client: true, server: true })
      topics.set(name, discovery)
      for (const ms of lookAgainMs) {
        later(ms * (0.75 + 0.5 * secureRandom()), () => {
          if (topics.get(name) === discovery && !stopped) refresh(discovery)
        })
      }
    },
    async leave(topic) {
      if (topics.delete(toHex(topic))) await swarm.leave(Buffer.from(topic))
    },
    dial(device) {
      if (!isHex(device, 32) || device === own || (!remembered.has(device) && remembered.size >= limits.rememberedMax)) return
      remembered.add(device)
      tryDevice(device)
      if (eager.size === 0) later(1000, tryEager)
      if (eager.size < eagerMax) eager.set(device, eagerRounds)
    },
    forget(device) {
      eager.delete(device)
      if (remembered.delete(device)) swarm.leavePeer(asBuffer(fromHex(device)))
    },
    async stop() {
      if (stopped) return
      stopped = true
      listening = false
      for (const cancel of cancels) cancel()
      const ending = [...connected.values()]
      for (const connection of ending) connection.destroy()
      let giveUp = (): void => {}
      const late = new Promise<"late">((resolve) => {
        giveUp = timers.after(limits.goodbyeMs, () => resolve("late"))
      })
      const said = await Promise.race([swarm.destroy().catch(() => "late" as const), late])
      giveUp()
      if (said === "late") await swarm.destroy({ force: true }).catch(() => {})
      await Promise.all(ending.map(({ closed }) => closed))
    },
    status: () => ({
      name: "hyperswarm", listening, connections: connected.size,
      detail: reachable === undefined ? "looking for the DHT" : reachable
        ? `DHT reached${dht.host === null ? "" : `, seen as ${dht.host}`}${dht.firewalled ? ", behind a NAT or firewall" : ""}`
        : "no DHT node answers"
    })
  }
}
