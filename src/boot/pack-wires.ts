/**
 * Wires for packs: streams to other devices of the home's meshes over which the transfer process speaks BitTorrent.
 *
 * How one wire comes to be. The transfer wants a pack → each device in touch that is not known to lack it is asked, near ones first → if the device is on
 * the same network, for a LAN lane (`lan-lane.ts`), else, or when that does not come about within `laneMs`, for a stream of the tunnel → whoever
 * is asked admits members only, and only packs that it serves → both ends are handed to their transfers, as wires of a device.
 *
 * Why the tunnel, and not a channel of its own: it bounds what may lie here unread, takes turns with everything else on the connection, is asked about
 * again when membership changes, and with a larger window for these streams (`tunnel-wire.ts`) it comes near to a channel without any of this.
 *
 * Invariants
 * - R4.1: a wire belongs to a member, by its device key. What membership takes away is cut in that turn: streams of the tunnel by the session, LAN wires
 *   by `review`.
 * - R4.2: a device that the transfer has banned is neither asked nor served.
 * - Between two devices there is one wire for a pack; `perDeviceMax`, `perPackMax` and `wiresMax` bound them all.
 * - A metered node has wires to devices of its own network only.
 *
 * Tricky cases
 * - Both ask each other at once: the request of the smaller device key goes through; the other side's is refused as busy, or its stream is dropped.
 * - The offer of a LAN lane leads nowhere (a firewall): the mesh it is, and that device is not asked for a lane again for a while.
 */
import type { Duplex } from "node:stream"
import type { Admission, Opened } from "../swarm/services.ts"
import type { SessionStatus } from "../swarm/swarm.ts"
import type { PackWire, Transfer } from "../updates/ports.ts"
import { lanHostOf, ownLanAddresses } from "./lan-address.ts"
import { dialLane, type LanLane, makeLanLane, offerBytesMax } from "./lan-lane.ts"

/** A mesh of this home. */
export interface PackMesh {
  /** This home's device in it, 64 hex digits. */
  readonly device: string
  readonly isMember: (device: string) => boolean
  readonly sessions: () => ReadonlyArray<Pick<SessionStatus, "device" | "phase" | "carrier" | "remote">>
  readonly connect: (device: string, service: string, probe?: boolean) => Promise<Opened>
}

export interface PackWiresOptions {
  readonly transfer: Pick<Transfer, "serves" | "addWire" | "onWanted" | "banned" | "onBan">
  readonly meshes: () => ReadonlyArray<PackMesh>
  /** As they are in force now: `seed.lan` and `seed.metered`. */
  readonly settings: () => { readonly lan: boolean; readonly metered: boolean }
  /** Milliseconds of a clock that only goes forward. */
  readonly tick: () => number
  readonly limits?: Partial<PackWireLimits>
  /** Where a LAN lane may be listened at. */
  readonly addresses?: () => ReadonlyArray<string>
}

export interface PackWireLimits {
  readonly wiresMax: number
  readonly perDeviceMax: number
  readonly perPackMax: number
  /** Devices asked at a time. */
  readonly asksMax: number
  /** How long an offer and a LAN lane may take before the mesh is used. */
  readonly laneMs: number
  /** A device that has not got the pack, or no lane, is asked again after so long. */
  readonly againMs: number
  /** One that was busy, after so long. */
  readonly busyMs: number
  readonly laneAgainMs: number
  /** A wire on which nothing moved for so long is closed. */
  readonly idleMs: number
}

export const packWireDefaults: PackWireLimits = {
  wiresMax: 64, perDeviceMax: 8, perPackMax: 8, asksMax: 16, laneMs: 1_500, againMs: 15_000, busyMs: 1_000, laneAgainMs: 60_000, idleMs: 300_000
}

/** The node's own services, beside those of its configuration. */
export interface BuiltinServices {
  /** Undefined when it is none of these. `own` is this node's device in the mesh that asks. */
  readonly admit: (service: string, device: string, own: string) => Admission | undefined
  /** Membership or settings changed. */
  readonly review: () => void
}

export interface WireStatus {
  readonly device: string
  readonly infoHash: string
  readonly carrier: PackWire["carrier"]
}

export interface PackWires extends BuiltinServices {
  /** Devices in touch that have this pack, or are fetching it: they are asked. */
  readonly holders: (infoHash: string) => Promise<ReadonlyArray<string>>
  readonly wires: () => ReadonlyArray<WireStatus>
  /** Where LAN lanes are listened at now. */
  readonly listening: LanLane["listening"]
  readonly close: () => void
}

const packPrefix = "kos-pack/"
const lanePrefix = "kos-lane/"
/** Answers that are remembered. */
const rememberedMax = 4_096

interface Wire extends WireStatus {
  readonly stream: Duplex
}

interface Near {
  readonly mesh: PackMesh
  readonly device: string
  /** Its LAN address, when it stands in the same network. */
  readonly host: string | undefined
}

export const makePackWires = (options: PackWiresOptions): PackWires => {
  const { transfer, tick, settings } = options
  const limits: PackWireLimits = { ...packWireDefaults, ...options.limits }
  const wires = new Map<string, Wire>()
  const asking = new Set<string>()
  /** When a device may be asked again: by device and pack, and by device for lanes. */
  const notBefore = new Map<string, number>()
  let closed = false

  const lane = makeLanLane({
    addresses: options.addresses ?? ownLanAddresses,
    // R4.1: a device may have been put out since it was given its token.
    mayCome: (device, infoHash) => refusal(device, "lan") === undefined && !wires.has(`${device} ${infoHash}`),
    onWire: (device, infoHash, socket) => add(device, infoHash, socket, "lan")
  })

  const memberIn = (device: string): PackMesh | undefined => options.meshes().find((mesh) => mesh.isMember(device))

  const inTouch = (): ReadonlyArray<Near> => {
    const found = new Map<string, Near>()
    for (const mesh of options.meshes()) {
      for (const { device, phase, remote } of mesh.sessions()) {
        if (phase !== "ready" || !mesh.isMember(device)) continue
        const host = lanHostOf(remote)
        if (host !== undefined || !found.has(device)) found.set(device, { mesh, device, host })
      }
    }
    return [...found.values()].sort((a, b) => Number(a.host === undefined) - Number(b.host === undefined))
  }

  const isNear = (device: string): boolean => inTouch().some((other) => other.device === device && other.host !== undefined)

  /** R4.1, R4.2, R4.3: why no wire to this device may be; undefined when it may. */
  const refusal = (device: string, carrier: PackWire["carrier"]): string | undefined => {
    if (closed) return "the node stops"
    if (memberIn(device) === undefined) return "only members get packs"
    if (transfer.banned().includes(device)) return "this device sent pieces that are not what they should be"
    const { lan, metered } = settings()
    if (carrier === "lan") return lan ? undefined : "this node offers no LAN lanes"
    return metered && !isNear(device) ? "this node is on a metered link and gives packs to its own network only" : undefined
  }

  const hasRoom = (device: string, infoHash: string): boolean => {
    const all = [...wires.values()]
    return all.length < limits.wiresMax && all.filter((wire) => wire.device === device).length < limits.perDeviceMax &&
      all.filter((wire) => wire.infoHash === infoHash).length < limits.perPackMax
  }

  const add = (device: string, infoHash: string, stream: Duplex, carrier: PackWire["carrier"]): void => {
    const key = `${device} ${infoHash}`
    if (refusal(device, carrier) !== undefined || !transfer.serves(infoHash) || wires.has(key) || !hasRoom(device, infoHash)) return void stream.destroy()
    const wire: Wire = { device, infoHash, carrier, stream }
    wires.set(key, wire)
    stream.on("error", () => undefined)
    stream.once("close", () => {
      if (wires.get(key) === wire) wires.delete(key)
    })
    transfer.addWire(infoHash, { device, carrier, stream }).catch(() => undefined).then(() => stream.destroy())
  }

  const remember = (key: string, ms: number): void => {
    const oldest = notBefore.keys().next().value
    if (notBefore.size >= rememberedMax && oldest !== undefined) notBefore.delete(oldest)
    notBefore.delete(key)
    notBefore.set(key, tick() + ms)
  }

  const mayAsk = (key: string): boolean => (notBefore.get(key) ?? -Infinity) <= tick()

  const seek = (infoHash: string): void => {
    for (const other of inTouch()) {
      const key = `${other.device} ${infoHash}`
      if (asking.size >= limits.asksMax) return
      if (wires.has(key) || asking.has(key) || !mayAsk(key) || !hasRoom(other.device, infoHash)) continue
      if (refusal(other.device, "mesh") !== undefined) continue
      asking.add(key)
      void ask(other, infoHash).catch(() => "unknown" as const).then((found) => {
        asking.delete(key)
        if (found !== "opened") remember(key, found === "busy" ? limits.busyMs : limits.againMs)
      })
    }
  }

  const ask = async ({ mesh, device, host }: Near, infoHash: string): Promise<"opened" | "busy" | "unknown"> => {
    const laneKey = `lane ${device}`
    if (host !== undefined && settings().lan && mayAsk(laneKey)) {
      const until = tick() + limits.laneMs
      const offer = await askOffer(mesh, device, infoHash)
      // Whoever lacks the pack, or asks us for it just now, has no stream for us either.
      if (offer === "unknown" || offer === "busy") return offer
      const socket = offer === undefined ? undefined : await dialLane(offer, host, infoHash, Math.max(100, until - tick()))
      if (socket !== undefined) {
        add(device, infoHash, socket, "lan")
        return "opened"
      }
      remember(laneKey, limits.laneAgainMs)
    }
    const opened = await mesh.connect(device, `${packPrefix}${infoHash}`)
    if (opened._tag !== "Opened") return opened._tag === "Refused" && opened.reason === "busy" ? "busy" : "unknown"
    add(device, infoHash, opened.stream, "mesh")
    return "opened"
  }

  const askOffer = async (mesh: PackMesh, device: string, infoHash: string): Promise<Uint8Array | "unknown" | "busy" | undefined> => {
    const opened = await within(mesh.connect(device, `${lanePrefix}${infoHash}`), limits.laneMs)
    if (opened?._tag === "Refused" && (opened.reason === "unknown" || opened.reason === "busy")) return opened.reason
    return opened?._tag === "Opened" ? await readAll(opened.stream, limits.laneMs) : undefined
  }

  const giveOffer = async (device: string, infoHash: string, stream: Duplex): Promise<void> => {
    const offer = await lane.offer(device, infoHash)
    if (offer === undefined || stream.destroyed) return void stream.destroy()
    stream.resume()
    stream.end(offer)
  }

  const stopWanted = transfer.onWanted((infoHash) => seek(infoHash))
  const stopBan = transfer.onBan((device) => {
    // R4.2
    for (const wire of [...wires.values()]) if (wire.device === device) wire.stream.destroy()
  })

  return {
    admit: (service, device, own) => {
      const prefix = [packPrefix, lanePrefix].find((known) => service.startsWith(known))
      if (prefix === undefined) return undefined
      const infoHash = service.slice(prefix.length)
      const carrier = prefix === lanePrefix ? "lan" : "mesh"
      if (!/^[0-9a-f]{40}$/u.test(infoHash) || !transfer.serves(infoHash)) return { _tag: "Refused", reason: "unknown", sentence: "this pack is not here" }
      const sentence = refusal(device, carrier)
      if (sentence !== undefined) return { _tag: "Refused", reason: "denied", sentence }
      // Both ask at once: the smaller device key goes first.
      const key = `${device} ${infoHash}`
      if (asking.has(key) && !wires.has(key) && own < device) return { _tag: "Refused", reason: "busy", sentence: "this node asks for the same just now" }
      return {
        _tag: "Admitted", streamsMax: limits.wiresMax, idleMs: carrier === "lan" ? limits.laneMs : limits.idleMs, target: service,
        take: (stream) => carrier === "lan" ? void giveOffer(device, infoHash, stream) : add(device, infoHash, stream, "mesh")
      }
    },
    review: () => {
      for (const { device, carrier, stream } of [...wires.values()]) if (refusal(device, carrier) !== undefined) stream.destroy()
      if (!settings().lan) lane.close()
    },
    holders: async (infoHash) => {
      const devices = inTouch()
      const found: Array<string> = []
      for (let first = 0; first < devices.length; first += limits.asksMax) {
        await Promise.all(devices.slice(first, first + limits.asksMax).map(async ({ mesh, device }) => {
          const opened = await within(mesh.connect(device, `${packPrefix}${infoHash}`, true), limits.laneMs)
          // Who is busy with it has it.
          if (opened?._tag === "Allowed" || (opened?._tag === "Refused" && opened.reason === "busy")) found.push(device)
        }))
      }
      return found.sort()
    },
    wires: () => [...wires.values()].map(({ device, infoHash, carrier }) => ({ device, infoHash, carrier })),
    listening: lane.listening,
    close: () => {
      if (closed) return
      closed = true
      stopWanted()
      stopBan()
      lane.close()
      for (const { stream } of [...wires.values()]) stream.destroy()
    }
  }
}

/** Undefined when there is no answer in time; a stream that comes after that is closed. */
const within = (asked: Promise<Opened>, msMax: number): Promise<Opened | undefined> => new Promise((resolve) => {
  let late = false
  const timer = setTimeout(() => {
    late = true
    resolve(undefined)
  }, msMax)
  void asked.catch(() => undefined).then((opened) => {
    clearTimeout(timer)
    if (late && opened?._tag === "Opened") opened.stream.destroy()
    resolve(opened)
  })
})

/** What an offer's stream says until it ends; undefined when that is too much or takes too long. */
const readAll = (stream: Duplex, msMax: number): Promise<Uint8Array | undefined> => new Promise((resolve) => {
  const parts: Array<Uint8Array> = []
  let bytes = 0
  const finish = (whole: boolean): void => {
    clearTimeout(timer)
    resolve(whole && bytes > 0 ? Buffer.concat(parts) : undefined)
    if (whole) stream.end()
    else stream.destroy()
  }
  const timer = setTimeout(() => finish(false), msMax)
  stream.on("data", (part: Uint8Array) => {
    bytes += part.byteLength
    parts.push(part)
    if (bytes > offerBytesMax) finish(false)
  })
  stream.once("end", () => finish(true))
  stream.once("close", () => finish(false))
  stream.on("error", () => undefined)
})
