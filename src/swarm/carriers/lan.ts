/**
 * The LAN carrier: finds nodes by multicast DNS and talks to them over TCP; needs no DHT, no internet, no default route.
 *
 * Owns: one TCP server, the dialling of neighbours, and (through mdns.ts) what the local network hears about us.
 *
 * How two nodes meet: each announces a random name of this run, its port and a short tag per topic. Who sees a tag of its own dials the
 * packet's source address. Noise then proves both device keys, the firewall is asked on both sides, and the greeting (greeting.ts)
 * settles which of two crossing streams stays (connections.ts). A remembered device is dialled by its address besides: the hint given, or
 * where it was last met.
 *
 * What the network can learn: that a node is here, whether two nodes share a topic (the tag is a hash, not the topic), and that the same
 * tags were seen elsewhere. No name, no device key, no mesh key.
 *
 * Limits against a hostile network stand in `lanLimits`. A peer that fails the greeting too often is not answered for a minute; the count
 * is kept per address (per /64 for IPv6).
 *
 * Tricky cases:
 * - Both see each other at once: the one with the smaller random name dials at once, the other 2 s later, if it still has to. Streams
 *   that cross all the same are settled by connections.ts.
 * - The port is taken or the server fails: we go on dialling and listen again every 5 s.
 * - A neighbour restarts: its new run has a new name, so it is dialled anew; its old name dies with its time to live.
 * - The cable comes back: mdns.ts sees other interfaces, everything is announced and dialled again with its back-off forgotten.
 */
import net from "node:net"
import { isHex, shortKey, toHex } from "../../codec/bytes.ts"
import { hashParts } from "../../codec/hash.ts"
import { randomBytes } from "../../codec/signature.ts"
import type { Carrier, CarrierOptions, CarrierStatus } from "../carrier.ts"
import { makeConnections } from "./connections.ts"
import { makeDialer } from "./dialer.ts"
import { greet, GreetError } from "./greeting.ts"
import { makeMdns, type Sighting } from "./mdns.ts"
import { tagsMax } from "./dns-wire.ts"
import { makeRateLimit } from "./rate-limit.ts"
import { realTimers, secureRandom, type Timers } from "./timers.ts"

export interface LanOptions {
  /** TCP port to listen on; 0 or absent takes a free one. */
  readonly port?: number
  /** Address to listen on; all when absent. */
  readonly host?: string
  /** Names of the interfaces for multicast; all when absent, none for an empty list. */
  readonly interfaces?: ReadonlyArray<string>
  readonly limits?: Partial<typeof lanLimits>
  readonly timers?: Timers
}

export const lanLimits = {
  connectionsMax: 256,
  /** Streams that have not finished their greeting, incoming, in all and per address. */
  halfOpenMax: 64,
  halfOpenPerAddressMax: 16,
  greetDeadlineMs: 10_000,
  /** Failed greetings per address and minute, and how many addresses are remembered. */
  failuresPerMinuteMax: 20,
  addressesMax: 1024,
  /** Seen neighbours and remembered devices, how many of them are dialled at once and per minute. */
  targetsMax: 512,
  dialsParallelMax: 16,
  dialsPerMinuteMax: 120,
  /** Lines about refused or failed strangers per minute. */
  noticesPerMinuteMax: 10,
  keepAliveMs: 5000,
  silenceMs: 30_000,
  relistenMs: 5000,
  /** The node with the larger random name waits so long before it dials. */
  headStartMs: 2000
}

/** What stands for a topic on the air: 16 hex digits. */
export const lanTag = (topic: Uint8Array): string => toHex(hashParts("kos/lan-tag/1", topic).subarray(0, 8))

export const makeLanCarrier = (lanOptions: LanOptions = {}): Carrier & { port(): number | undefined } => {
  let run: LanRun | undefined
  const running = (): LanRun => {
    if (run === undefined) throw new Error("the LAN carrier is not started")
    return run
  }
  return {
    name: "lan",
    async start(options) {
      if (run !== undefined) return
      run = makeRun(lanOptions, options)
      await run.start()
    },
    join: async (topic) => running().join(topic),
    leave: async (topic) => run?.leave(topic),
    dial: (device, hint) => running().dial(device, hint),
    forget: (device) => run?.forget(device),
    async stop() {
      const last = run
      run = undefined
      await last?.stop()
    },
    status: () => run?.status() ?? { name: "lan", listening: false, detail: "not started", connections: 0 },
    port: () => run?.port()
  }
}

interface LanRun {
  start(): Promise<void>
  join(topic: Uint8Array): void
  leave(topic: Uint8Array): void
  dial(device: string, hint: string | undefined): void
  forget(device: string): void
  stop(): Promise<void>
  status(): CarrierStatus
  port(): number | undefined
}

interface Target {
  readonly host: string
  readonly port: number
  /** Known beforehand for a remembered device, after the first meeting for a seen one. */
  device: string | undefined
}

const makeRun = (lanOptions: LanOptions, options: CarrierOptions): LanRun => {
  const limits = { ...lanLimits, ...lanOptions.limits }
  const timers = lanOptions.timers ?? realTimers
  const { keyPair, firewall, onNotice, onConnection } = options
  const own = toHex(keyPair.publicKey)
  const instance = toHex(randomBytes(8))
  const tags = new Map<string, string>()
  /** Remembered devices, and where devices were met. */
  const remembered = new Set<string>()
  const met = new Map<string, { readonly host: string; readonly port: number }>()
  const expiries = new Map<string, () => void>()
  /** Devices that a dial of ours has reached or aims at: two ways to one device are not dialled at once. */
  const claims = new Set<string>()
  const halfOpen = new Map<net.Socket, string>()
  const dialling = new Set<net.Socket>()
  const minute = { windowMs: 60_000, timers }
  const failures = makeRateLimit({ ...minute, takesMax: limits.failuresPerMinuteMax, keysMax: limits.addressesMax })
  const notices = makeRateLimit({ ...minute, takesMax: limits.noticesPerMinuteMax, keysMax: 1 })
  const said = makeRateLimit({ takesMax: 1, windowMs: 3_600_000, keysMax: limits.addressesMax, timers })
  let server: net.Server | undefined
  let listening = false
  let stopped = false
  let cancelRelisten = (): void => {}

  /** Once an hour about the same thing, and not more than a few a minute in all. */
  const notice = (about: string, text: string): void => {
    if (!stopped && said.take(about) && notices.take("all")) onNotice(`lan: ${text}`)
  }

  const connections = makeConnections({
    carrier: "lan", device: own, connectionsMax: limits.connectionsMax,
    onConnection, onLost: (device) => dialer.lost((target) => target.device === device)
  })

  const greeting = () => ({ instance, port: port() ?? 0 })
  const common = { keyPair, timers, deadlineMs: limits.greetDeadlineMs, keepAliveMs: limits.keepAliveMs }

  const refusal = (device: string): string | undefined =>
    device === own ? "this is our own address" : firewall(device) ? undefined : "the firewall refuses this device"

  const remember = (device: string, host: string, at: number): void => {
    if (at === 0) return
    met.delete(device)
    met.set(device, { host, port: at })
    if (met.size > limits.targetsMax) for (const oldest of met.keys()) {
      met.delete(oldest)
      break
    }
    if (remembered.has(device)) dialer.set(`device:${device}`, { host, port: at, device }, 0)
  }

  const attempt = async (target: Target, key: string): Promise<boolean> => {
    let claimed: string | undefined
    let begun: string | undefined
    const claim = (device: string): boolean => {
      if (claimed === device) return true
      if (claims.has(device)) return false
      claims.add(claimed = device)
      return true
    }
    if (target.device !== undefined && (!firewall(target.device) || !claim(target.device))) return false
    const socket = net.connect({ host: target.host, port: target.port, noDelay: true })
    dialling.add(socket)
    try {
      const greeted = await greet(socket, {
        ...common, initiator: true, greeting: greeting(),
        refuse: (device) => {
          if (target.device !== undefined && device !== target.device) return "another device answers at its address"
          if (device !== own) target.device = device
          const refused = refusal(device) ?? (claim(device) ? connections.begin(device) : "it is being dialled already")
          if (refused === undefined) begun = device
          return refused
        },
        accept: () => undefined
      })
      greeted.stream.setTimeout(limits.silenceMs)
      remember(greeted.device, target.host, target.port)
      return connections.add(greeted, hostPort(target.host, target.port))
    } catch (error) {
      if (error instanceof GreetError) {
        if (error.device === own) dialer.delete(key)
        else if (error.kind === "refused" && error.device !== claimed && !connections.has(error.device ?? "")) {
          const place = hostPort(target.host, target.port)
          notice(place, `${place} was not connected: ${error.message}`)
        }
      }
      return false
    } finally {
      dialling.delete(socket)
      if (claimed !== undefined) claims.delete(claimed)
      if (begun !== undefined) connections.end(begun)
    }
  }

  const dialer = makeDialer<Target>({
    timers, random: secureRandom, targetsMax: limits.targetsMax, parallelMax: limits.dialsParallelMax,
    perMinuteMax: limits.dialsPerMinuteMax, backoffMs: { first: 1000, max: 60_000 }, livedMs: 10_000,
    attempt, idle: (target) => target.device !== undefined && connections.has(target.device)
  })

  const onSocket = (socket: net.Socket): void => {
    socket.on("error", () => {})
    const address = plainAddress(socket.remoteAddress ?? "")
    const bucket = addressBucket(address)
    let sameAddress = 0
    for (const other of halfOpen.values()) if (other === bucket) sameAddress += 1
    if (stopped || failures.spent(bucket) || halfOpen.size >= limits.halfOpenMax ||
      sameAddress >= limits.halfOpenPerAddressMax || connections.size >= limits.connectionsMax) {
      socket.destroy()
      return
    }
    halfOpen.set(socket, bucket)
    socket.setNoDelay(true)
    greet(socket, {
      ...common, initiator: false, greeting: greeting(),
      refuse: refusal, accept: (device) => connections.accept(device)
    }).then((greeted) => {
      greeted.stream.setTimeout(limits.silenceMs)
      const at = greeted.greeting.port
      remember(greeted.device, address, at)
      know(greeted.greeting.instance, greeted.device)
      connections.add(greeted, hostPort(address, at === 0 ? socket.remotePort ?? 0 : at))
    }, (error: unknown) => {
      if (stopped || !(error instanceof GreetError)) return
      if (error.device !== undefined && connections.has(error.device)) return
      failures.take(bucket)
      const who = error.device === undefined ? address : `${address} (device ${shortKey(error.device)})`
      notice(`${who} ${error.kind}`, `${who} was refused: ${error.message}`)
    }).finally(() => halfOpen.delete(socket))
  }

  /** A seen neighbour turns out to be this device. */
  const know = (name: string, device: string): void => {
    const target = dialer.get(`seen:${name}`)
    if (target !== undefined) target.device = device
  }

  const onSighting = ({ instance: name, address, port: at, tags: theirs, ttlSeconds }: Sighting): void => {
    if (stopped || name === instance) return
    const key = `seen:${name}`
    if (ttlSeconds === 0) return lapse(key)
    if (!theirs.some((tag) => tags.has(tag))) return
    const before = dialer.get(key)
    const connected = before?.device !== undefined && connections.has(before.device)
    if (!connected && (before?.host !== address || before.port !== at)) {
      // Seen elsewhere (another interface, another family): the latest place is tried, back-off goes on.
      const delayMs = instance < name ? 0 : limits.headStartMs
      if (!dialer.set(key, { host: address, port: at, device: before?.device }, delayMs)) return
    }
    expiries.get(key)?.()
    expiries.set(key, timers.after((Math.min(ttlSeconds, 3600) + 30) * 1000, () => lapse(key)))
  }

  const lapse = (key: string): void => {
    expiries.get(key)?.()
    expiries.delete(key)
    dialer.delete(key)
  }

  const port = (): number | undefined => {
    const address = listening ? server?.address() : null
    return address !== null && typeof address === "object" ? address.port : undefined
  }

  const mdns = makeMdns({
    instance, port, tags: () => [...tags.keys()].slice(0, tagsMax), onSighting, timers, random: secureRandom,
    interfaces: lanOptions.interfaces, onInterfaces: () => dialer.wake(),
    onNotice: (text) => {
      if (!stopped) onNotice(text)
    }
  })

  const listen = (wanted: number): Promise<void> => new Promise((resolve) => {
    const next = net.createServer({ noDelay: true })
    server = next
    next.maxConnections = limits.connectionsMax + limits.halfOpenMax
    next.on("connection", onSocket)
    next.on("error", (error) => {
      resolve()
      if (stopped || server !== next) return
      server = undefined
      listening = false
      next.close()
      onNotice(`lan: cannot listen on port ${wanted}: ${error.message}; trying again`)
      cancelRelisten = timers.after(limits.relistenMs, () => void listen(wanted).then(() => listening && mdns.changed()))
    })
    next.listen({ port: wanted, ...(lanOptions.host === undefined ? {} : { host: lanOptions.host }) }, () => {
      listening = true
      resolve()
    })
  })

  return {
    async start() {
      await listen(lanOptions.port ?? 0)
      if (!stopped) await mdns.start()
    },
    join(topic) {
      tags.set(lanTag(topic), toHex(topic))
      if (tags.size === tagsMax + 1) onNotice(`lan: only the first ${tagsMax} topics are announced`)
      mdns.changed()
    },
    leave(topic) {
      tags.delete(lanTag(topic))
    },
    dial(device, hint) {
      if (!isHex(device, 32) || device === own || (!remembered.has(device) && remembered.size >= limits.targetsMax)) return
      remembered.add(device)
      const place = hint === undefined ? met.get(device) : parseHint(hint)
      if (hint !== undefined && place === undefined) onNotice(`lan: ${hint.slice(0, 80)} is not an address like host:port`)
      if (place === undefined) return
      // Called anew means try anew, whatever the back-off was; the limit per minute still holds.
      dialer.delete(`device:${device}`)
      dialer.set(`device:${device}`, { ...place, device }, 0)
    },
    forget(device) {
      remembered.delete(device)
      dialer.delete(`device:${device}`)
    },
    async stop() {
      if (stopped) return
      await mdns.stop()
      stopped = true
      cancelRelisten()
      dialer.stop()
      for (const cancel of expiries.values()) cancel()
      const closed = new Promise<void>((resolve) => server === undefined ? resolve() : server.close(() => resolve()))
      for (const socket of [...halfOpen.keys(), ...dialling]) socket.destroy()
      await connections.destroyAll()
      await closed
      listening = false
    },
    status: () => ({
      name: "lan", listening, connections: connections.size,
      detail: `${listening ? `tcp port ${port() ?? 0}` : "not listening"}, ${mdns.detail()}`
    }),
    port
  }
}

/** "host:port" or "[v6]:port"; undefined for anything else. */
export const parseHint = (hint: string): { readonly host: string; readonly port: number } | undefined => {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45}(?:%[\w.-]{1,32})?)\]|([\w.-]{1,253})):(\d{1,5})$/.exec(hint)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port }
}

const hostPort = (host: string, port: number): string => host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`

const plainAddress = (address: string): string => address.startsWith("::ffff:") ? address.slice(7) : address

/** One household of IPv6 is a /64: whoever owns one has all its addresses. */
const addressBucket = (address: string): string => {
  if (!address.includes(":")) return address
  const [head = ""] = address.split("%")
  const [left = "", right] = head.split("::")
  const groups = left === "" ? [] : left.split(":")
  if (right !== undefined) {
    const tail = right === "" ? 0 : right.split(":").length
    while (groups.length < 8 - tail) groups.push("0")
  }
  return groups.slice(0, 4).join(":")
}
