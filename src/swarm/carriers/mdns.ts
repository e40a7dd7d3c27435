/**
 * Multicast DNS for `_kos._tcp`, on every interface, IPv4 and IPv6, beside any other responder of the machine.
 *
 * Owns: one UDP socket per family on port 5353 (shared by SO_REUSEADDR), its group memberships, what is announced and when.
 *
 * How a node is found: it asks and announces at the start, after 1 s and after 3 s, whenever its tags or the machine's interfaces
 * change, and every 60 s. Who is asked answers to the group within 20 to 120 ms, at most once a second. Every packet is sent on each
 * interface by name, so that it works without a default route; one goodbye is sent at the end.
 *
 * What the network says is a claim by a stranger: packets are counted before they are read (per second, in all and per sender), only
 * senders on one of our own subnets are heard, and the address to dial is the packet's source, never one that the packet names, so
 * nobody can aim us at a third machine.
 *
 * Why not the `multicast-dns` package: it decodes before anyone can count, a 12-byte packet makes its decoder allocate 2 MiB, it sends on
 * one interface only, and fails without a default route.
 */
import dgram from "node:dgram"
import net from "node:net"
import os from "node:os"
import { decodePacket, encodeAnnouncement, encodeQuery, packetBytesMax, tagsMax } from "./dns-wire.ts"
import { makeRateLimit } from "./rate-limit.ts"
import type { Timers } from "./timers.ts"

export interface Sighting {
  readonly instance: string
  readonly address: string
  readonly port: number
  readonly tags: ReadonlyArray<string>
  /** 0 is goodbye. */
  readonly ttlSeconds: number
}

export interface MdnsOptions {
  readonly instance: string
  /** The port announced; undefined while there is none, then nothing is announced. */
  readonly port: () => number | undefined
  /** At most `tagsMax` are announced. */
  readonly tags: () => ReadonlyArray<string>
  readonly onSighting: (sighting: Sighting) => void
  /** The machine's addresses are others than before. */
  readonly onInterfaces: () => void
  readonly onNotice: (text: string) => void
  readonly timers: Timers
  readonly random: () => number
  /** Names of interfaces; all when absent. */
  readonly interfaces: ReadonlyArray<string> | undefined
}

export interface Mdns {
  start(): Promise<void>
  /** Announce and ask soon: tags or port changed. */
  changed(): void
  stop(): Promise<void>
  /** For people: interfaces in use, or why there are none. */
  detail(): string
}

export const mdnsPort = 5353
const group = { 4: "224.0.0.251", 6: "ff02::fb" } as const
const ttlSeconds = 120
const announceEveryMs = 60_000
const lookEveryMs = 3000
const burstMs = [0, 1000, 3000]
const answerGapMs = 1000
const interfacesMax = 16
const packetsPerSecondMax = 200
const packetsPerSenderPerSecondMax = 40
const sendersMax = 256

type Family = 4 | 6

interface Door {
  readonly name: string
  /** What setMulticastInterface and addMembership want. */
  readonly key: string
  readonly cidr: string
  readonly address: string
}

interface Side {
  readonly family: Family
  socket: dgram.Socket | undefined
  doors: ReadonlyArray<Door>
  joined: Set<string>
  subnets: net.BlockList
  working: boolean
  problem: string | undefined
}

export const makeMdns = (options: MdnsOptions): Mdns => {
  const { instance, timers, random, onNotice } = options
  const sides: ReadonlyArray<Side> = [emptySide(4), emptySide(6)]
  const everyone = makeRateLimit({ takesMax: packetsPerSecondMax, windowMs: 1000, keysMax: 1, timers })
  const senders = makeRateLimit({ takesMax: packetsPerSenderPerSecondMax, windowMs: 1000, keysMax: sendersMax, timers })
  let stopped = false
  let noticed = false
  let sending: Promise<void> = Promise.resolve()
  let sendingCount = 0
  let lastAnswer = -Infinity
  const cancels = new Map<string, () => void>()

  /** One timer per purpose; a new one replaces the old. */
  const later = (purpose: string, ms: number, run: () => void): void => {
    cancels.get(purpose)?.()
    if (stopped) return
    cancels.set(purpose, timers.after(ms, () => {
      cancels.delete(purpose)
      run()
    }))
  }

  const send = (make: (door: Door, family: Family) => Buffer): Promise<void> => {
    if (sendingCount >= 4) return sending
    sendingCount += 1
    sending = sending.then(async () => {
      for (const side of sides) {
        let sent = 0
        for (const door of side.doors) if (await sendOn(side, door, make(door, side.family))) sent += 1
        side.working = sent > 0
      }
      sendingCount -= 1
      if (noticed || stopped || sides.some((side) => side.working)) return
      noticed = true
      onNotice(`lan: multicast does not work here (${detail()}); nodes are found by address only`)
    })
    return sending
  }

  const announcement = (ttl: number) => (door: Door, family: Family): Buffer =>
    encodeAnnouncement({ instance, port: options.port() ?? 0, tags: options.tags().slice(0, tagsMax), ttlSeconds: ttl },
      family === 4 ? door.address : undefined)

  const announce = (): void => {
    if (options.port() === undefined || options.tags().length === 0) return
    lastAnswer = timers.now()
    void send(announcement(ttlSeconds))
  }

  const burst = (): void => {
    burstMs.forEach((ms, i) => later(`burst${i}`, ms + 20 * random(), () => {
      void send(encodeQuery)
      announce()
    }))
    later("again", announceEveryMs * (0.9 + 0.2 * random()), again)
  }
  const again = (): void => {
    void send(encodeQuery)
    announce()
    later("again", announceEveryMs * (0.9 + 0.2 * random()), again)
  }

  const onPacket = (side: Side, bytes: Buffer, source: dgram.RemoteInfo): void => {
    if (stopped || bytes.byteLength > packetBytesMax || !isOnLink(side, source.address)) return
    if (!everyone.take("all") || !senders.take(source.address)) return
    const packet = decodePacket(bytes)
    if (packet === undefined) return
    if (packet.asks && !cancels.has("answer")) {
      const gap = Math.max(0, lastAnswer + answerGapMs - timers.now())
      later("answer", gap + 20 + 100 * random(), announce)
    }
    for (const announced of packet.announced) {
      if (announced.instance !== instance) options.onSighting({ ...announced, address: source.address })
    }
  }

  const open = (side: Side): Promise<void> => new Promise((resolve) => {
    const socket = dgram.createSocket({ type: side.family === 4 ? "udp4" : "udp6", reuseAddr: true, ipv6Only: side.family === 6 })
    socket.on("error", (error) => {
      side.problem = error.message
      if (side.socket === socket) side.socket = undefined
      side.joined.clear()
      closeQuietly(socket)
      resolve()
    })
    socket.on("message", (bytes, source) => onPacket(side, bytes, source))
    socket.bind(mdnsPort, () => {
      if (stopped) {
        closeQuietly(socket)
        return resolve()
      }
      try {
        socket.setMulticastTTL(255)
        socket.setMulticastLoopback(true)
      } catch (error) {
        side.problem = messageOf(error)
      }
      side.socket = socket
      resolve()
    })
  })

  /** Looks at the machine's interfaces, opens what is closed, joins what is new. True when something changed. */
  const look = async (): Promise<boolean> => {
    let changed = false
    for (const side of sides) {
      const doors = doorsOf(side.family, options.interfaces)
      if (doors.map((door) => door.key + door.cidr).join() !== side.doors.map((door) => door.key + door.cidr).join()) changed = true
      side.doors = doors
      side.subnets = subnetsOf(side.family, doors)
      if (doors.length === 0) continue
      if (side.socket === undefined) {
        side.problem = undefined
        await open(side)
        if (side.socket !== undefined) changed = true
      }
      joinGroups(side)
    }
    return changed
  }

  const lookAgain = (): void => later("look", lookEveryMs, () => {
    void look().then((changed) => {
      if (stopped) return
      if (changed) {
        burst()
        options.onInterfaces()
      }
      lookAgain()
    })
  })

  const detail = (): string => {
    const names = new Set(sides.filter((side) => side.working).flatMap((side) => side.doors.map((door) => door.name)))
    if (names.size > 0) return `multicast on ${[...names].join(", ")}`
    return sides.map((side) => side.problem).find((problem) => problem !== undefined) ?? "no interface with multicast"
  }

  return {
    async start() {
      await look()
      burst()
      lookAgain()
    },
    changed: burst,
    async stop() {
      if (stopped) return
      for (const cancel of cancels.values()) cancel()
      cancels.clear()
      if (options.port() !== undefined && options.tags().length > 0) await send(announcement(0))
      stopped = true
      await Promise.all(sides.map(({ socket }) => new Promise<void>((resolve) => {
        if (socket === undefined) return resolve()
        socket.once("close", () => resolve())
        closeQuietly(socket)
      })))
    },
    detail
  }
}

const emptySide = (family: Family): Side =>
  ({ family, socket: undefined, doors: [], joined: new Set(), subnets: new net.BlockList(), working: false, problem: undefined })

const sendOn = (side: Side, door: Door, bytes: Buffer): Promise<boolean> => new Promise((resolve) => {
  const { socket, family } = side
  if (socket === undefined) return resolve(false)
  try {
    socket.setMulticastInterface(door.key)
    socket.send(bytes, mdnsPort, family === 4 ? group[4] : `${group[6]}${door.key.slice(2)}`, (error) => {
      if (error) side.problem = error.message
      resolve(!error)
    })
  } catch (error) {
    side.problem = messageOf(error)
    resolve(false)
  }
})

const joinGroups = (side: Side): void => {
  const { socket, family, doors, joined } = side
  if (socket === undefined) return
  const wanted = new Set(doors.map((door) => door.key))
  for (const key of joined) {
    // An interface that is gone has left its group by itself.
    if (!wanted.has(key)) joined.delete(key)
  }
  for (const key of wanted) {
    if (joined.has(key)) continue
    try {
      socket.addMembership(group[family], key)
    } catch (error) {
      // EADDRINUSE: we are a member already (the interface came back with another key).
      if (!messageOf(error).includes("EADDRINUSE")) {
        side.problem = messageOf(error)
        continue
      }
    }
    joined.add(key)
  }
}

const doorsOf = (family: Family, only: ReadonlyArray<string> | undefined): ReadonlyArray<Door> => {
  const doors: Array<Door> = []
  for (const [name, addresses] of Object.entries(os.networkInterfaces())) {
    if (addresses === undefined || (only !== undefined && !only.includes(name))) continue
    for (const { family: kind, address, cidr, internal } of addresses) {
      if (cidr === null) continue
      if (family === 4 && kind === "IPv4") doors.push({ name, key: address, cidr, address })
      else if (family === 6 && kind === "IPv6" && !internal && address.startsWith("fe80")) doors.push({ name, key: `::%${name}`, cidr, address })
      else continue
      break
    }
  }
  return doors.slice(0, interfacesMax)
}

const subnetsOf = (family: Family, doors: ReadonlyArray<Door>): net.BlockList => {
  const list = new net.BlockList()
  for (const { cidr } of doors) {
    const [address = "", prefix = "0"] = cidr.split("/")
    list.addSubnet(address, Number(prefix), family === 4 ? "ipv4" : "ipv6")
  }
  return list
}

const isOnLink = (side: Side, address: string): boolean =>
  side.family === 4 ? side.subnets.check(address, "ipv4") : side.subnets.check(address.split("%")[0] ?? "", "ipv6")

const closeQuietly = (socket: dgram.Socket): void => {
  try {
    socket.close()
  } catch {
    // It is closed already.
  }
}

const messageOf = (error: unknown): string => error instanceof Error ? error.message : "unknown error"
