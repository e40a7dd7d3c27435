/**
 * The transfer process from within: its packs, the socket to which the parent brings wires, and the clockwork that decides when a fetch looks elsewhere.
 *
 * Nothing here listens on a network, unless a person set an address for the tracker: WebTorrent always opens a listener on all interfaces, so it is given a server
 * that does not listen (`quietServers`), and only with a tracker one that listens at the tracker's address.
 */
import { chmod } from "node:fs/promises"
import net from "node:net"
import { join } from "node:path"
import type { Duplex } from "node:stream"
import WebTorrent from "webtorrent"
import type { Guilt } from "./guard.ts"
import { bannedMax, decodeToChild, type FromChild, type Opening, packsMax, type PackTold, type ToChild } from "./messages.ts"
import { makeMirrors } from "./mirror-turn.ts"
import { type OpenPack, openPack } from "./pack.ts"
import { shortPath } from "./short-path.ts"
import { openTracker, type Tracker } from "./tracker.ts"

const tickMs = 250
/** Bytes of blocks within `mirrorAfterMs` that count as something. */
const trickleBytes = 128 << 10
/** A wire that nobody spoke over for so long is let go. */
const idleMs = 90_000
const tokenMsMax = 10_000
const tokenDigits = 64
const wiresMax = 96
const statsEveryMs = 1_000
/** With room for nothing at all a fetch may drip this many times longer than it may stall. */
const dripTimes = 10
/** Clients from outside at one time, only with a tracker. */
const outsideMax = 32

interface Expected {
  readonly id: number
  readonly infoHash: string
  readonly device: string
  readonly carrier: "mesh" | "lan"
  readonly timer: NodeJS.Timeout
}

/** What the clock knows of a pack that is being fetched. */
interface Course {
  received: number
  /** When a whole piece, and when more than a trickle came the last time. */
  verifiedAt: number
  verified: number
  receivedAt: number
  wantedAt: number
  mirror: AbortController | undefined
}

const now = () => performance.now()

export const serve = (): void => {
  const say = (message: FromChild) => { if (process.connected) process.send?.(message, undefined, {}, () => {}) }
  /** Messages wait until the service is open. */
  let service: Promise<(message: ToChild, handle: unknown) => void> | undefined
  process.on("message", (value: unknown, handle: unknown) => {
    const message = decodeToChild(value)
    if (message === undefined) return
    if (message.type === "open") {
      service ??= open(message.opening, say)
      service.catch((error: unknown) => {
        say({ type: "ready", tracker: null, fault: textOf(error) })
        setTimeout(() => process.exit(1), 500)
      })
    } else service?.then((handle2) => handle2(message, handle), () => {})
  })
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)).slice(0, 300)

const open = async (opening: Opening, say: (message: FromChild) => void): Promise<(message: ToChild, handle: unknown) => void> => {
  let { limits } = opening
  const { patience, memoryBytesMax } = opening
  const packs = new Map<string, OpenPack>()
  /** Packs in opening and closing, one after the other. */
  const turns = new Map<string, Promise<void>>()
  const courses = new Map<OpenPack, Course>()
  const banned = new Set(opening.banned)
  const expected = new Map<string, Expected>()
  const wires = new Map<number, Duplex>()
  const notice = (text: string) => say({ type: "notice", text: text.slice(0, 1_000) })
  const mirrors = makeMirrors({ now, rateMax: () => limits.downloadMax, notice })
  mirrors.set(opening.mirrors)

  const client = await quietClient(opening.tracker?.host)
  client.on("error", (error: Error) => notice(`WebTorrent says: ${error.message}`))
  const tracker: Tracker | undefined = opening.tracker === null ? undefined : await openTracker({
    at: opening.tracker, serves: (infoHash) => packs.has(infoHash), peerId: client.peerId, port: client.torrentPort, notice
  })

  const throttle = () => {
    client.throttleDownload(limits.downloadMax > 0 ? limits.downloadMax : -1)
    client.throttleUpload(limits.uploadMax > 0 ? limits.uploadMax : -1)
  }
  throttle()

  const onGuilt = ({ device, why }: Guilt) => {
    if (banned.has(device) || banned.size >= bannedMax) return
    // R4.2: banned by the device's key, for all packs.
    banned.add(device)
    for (const pack of packs.values()) pack.cutDevice(device)
    say({ type: "banned", device, why: why.slice(0, 500) })
  }
  const addPack = async (pack: PackTold): Promise<void> => {
    if (packs.has(pack.infoHash)) return
    if (packs.size >= packsMax) return notice(`Pack ${pack.sha256.slice(0, 12)} is not taken: this process holds ${packsMax} packs.`)
    const opened = await openPack(pack, {
      client, file: join(opening.directory, pack.sha256), directory: opening.directory, own: opening.device, now,
      downloads: () => limits.downloadMax >= 0, uploads: () => limits.uploadMax >= 0, onGuilt,
      onDamage: (why) => say({ type: "damaged", infoHash: pack.infoHash, why }),
      onDone: (id, fault) => say({ type: "done", id, fault: fault?.slice(0, 1_000) ?? null }),
      onProgress: (id, bytes) => say({ type: "progress", id, bytes })
    })
    packs.set(pack.infoHash, opened)
    tracker?.announce(pack.infoHash)
  }
  const dropPack = async (infoHash: string): Promise<void> => {
    const pack = packs.get(infoHash)
    if (pack === undefined) return
    packs.delete(infoHash)
    tracker?.withdraw(infoHash)
    courses.get(pack)?.mirror?.abort()
    courses.delete(pack)
    pack.cutAll()
    await pack.close()
  }
  const inTurn = (infoHash: string, work: () => Promise<void>, failed: (why: string) => void): void => {
    const turn = (turns.get(infoHash) ?? Promise.resolve()).then(work).catch((error: unknown) => failed(textOf(error)))
    turns.set(infoHash, turn)
    void turn.then(() => { if (turns.get(infoHash) === turn) turns.delete(infoHash) })
  }

  const takeWire = (message: Extract<ToChild, { readonly type: "wire" }>, handle: unknown): void => {
    const { id, infoHash, device, token, carrier, head } = message
    const fault = refusal(infoHash, device)
    if (token === null) {
      if (fault === undefined && handle instanceof net.Socket) {
        if (head !== null && head.byteLength > 0) handle.unshift(head)
        return attach(handle, { id, infoHash, device, carrier })
      }
      if (handle instanceof net.Socket) handle.destroy()
      return say({ type: "wire-ended", id })
    }
    if (fault !== undefined) return say({ type: "wire-ready", id, fault })
    const timer = setTimeout(() => {
      expected.delete(token)
      say({ type: "wire-ended", id })
    }, tokenMsMax)
    expected.set(token, { id, infoHash, device, carrier, timer })
    say({ type: "wire-ready", id, fault: null })
  }
  const refusal = (infoHash: string, device: string): string | undefined =>
    banned.has(device) ? "the device is banned"
    : limits.uploadMax < 0 && limits.downloadMax < 0 ? "transfers are off"
    : wires.size + expected.size >= wiresMax ? `there are ${wiresMax} wires`
    : packs.has(infoHash) || turns.has(infoHash) ? undefined : "this pack is not held here"
  const attach = (stream: Duplex, { id, infoHash, device, carrier }: Omit<Expected, "timer">): void => {
    wires.set(id, stream)
    stream.on("error", () => {})
    stream.once("close", () => {
      wires.delete(id)
      say({ type: "wire-ended", id })
    })
    inTurn(infoHash, async () => {
      const why = refusal(infoHash, device) ?? packs.get(infoHash)?.attach(stream, { id, device, carrier })
      if (why !== undefined) stream.destroy()
    }, () => stream.destroy())
  }
  // Whoever connects shows a token that the parent has given for one wire.
  const server = net.createServer((socket) => {
    const timer = setTimeout(() => socket.destroy(), tokenMsMax)
    socket.on("error", () => {})
    socket.once("close", () => clearTimeout(timer))
    let shown = Buffer.alloc(0)
    const onData = (bytes: Buffer) => {
      shown = Buffer.concat([shown, bytes])
      if (shown.byteLength < tokenDigits) return
      clearTimeout(timer)
      socket.removeListener("data", onData)
      socket.pause()
      const token = shown.toString("latin1", 0, tokenDigits)
      const wire = expected.get(token)
      if (wire === undefined) return socket.destroy()
      expected.delete(token)
      clearTimeout(wire.timer)
      if (shown.byteLength > tokenDigits) socket.unshift(shown.subarray(tokenDigits))
      attach(socket, wire)
    }
    socket.on("data", onData)
  })
  server.maxConnections = wiresMax
  const { path, release } = await shortPath(opening.socket)
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject)
    server.listen(path, resolve)
  }).then(() => chmod(path, 0o600)).finally(release)

  /** A fetch that lacks something looks elsewhere: other wires, then mirrors, then its caller is told. */
  const watch = (pack: OpenPack): void => {
    if (pack.fetching().length === 0 || limits.downloadMax < 0) {
      courses.get(pack)?.mirror?.abort()
      courses.delete(pack)
      return
    }
    const time = now()
    let course = courses.get(pack)
    if (course === undefined) {
      course = { received: pack.received(), receivedAt: time, verified: pack.verified(), verifiedAt: time, wantedAt: -Infinity, mirror: undefined }
      courses.set(pack, course)
    }
    if (pack.verified() > course.verified) [course.verified, course.verifiedAt] = [pack.verified(), time]
    if (pack.received() > course.received + trickleBytes) [course.received, course.receivedAt] = [pack.received(), time]
    const poor = pack.wires() === 0 || time - course.receivedAt > patience.wantedEveryMs
    if (poor && time - course.wantedAt >= patience.wantedEveryMs) {
      course.wantedAt = time
      // One device that keeps silent does not hold a piece for ever.
      pack.releaseAlone()
      say({ type: "wanted", infoHash: pack.pack.infoHash })
    }
    if (time - course.receivedAt >= patience.mirrorAfterMs && course.mirror === undefined && mirrors.any()) {
      const controller = new AbortController()
      const taken = course
      course.mirror = controller
      const before = pack.received()
      void mirrors.turn(pack, controller.signal, () => pack.received() > before + trickleBytes).catch((error: unknown) => notice(`Mirrors: ${textOf(error)}`)).finally(() => {
        if (taken.mirror === controller) taken.mirror = undefined
      })
    }
    const silent = time - Math.max(course.receivedAt, course.verifiedAt)
    const noPiece = time - course.verifiedAt
    if (course.mirror !== undefined || (silent < patience.stallMsMax && noPiece < patience.stallMsMax * dripTimes)) return
    const left = mirrors.faults()
    pack.fail(`nobody gave the rest of pack ${pack.pack.sha256.slice(0, 12)} for ${Math.round(noPiece / 1_000)} s; wires: ${pack.wires()}, devices banned: ${banned.size}${left.length === 0 ? "" : `; mirrors: ${left.join("; ")}`}`)
  }
  const stats = (id: number) => say({
    type: "stats", id, wires: wires.size, fetches: [...packs.values()].reduce((sum, pack) => sum + pack.fetching().length, 0), memoryBytes: process.memoryUsage.rss(),
    packs: [...packs].map(([infoHash, pack]) => ({ infoHash, wires: pack.wires(), ...pack.stats() }))
  })
  const quit = async (): Promise<void> => {
    clearInterval(clockwork)
    server.close()
    for (const stream of wires.values()) stream.destroy()
    await Promise.allSettled([...packs.values()].map((pack) => pack.save()))
    process.exit(0)
  }
  let [statsAt, idleAt] = [0, now()]
  const clockwork = setInterval(() => {
    for (const pack of packs.values()) watch(pack)
    const time = now()
    if (time - idleAt > idleMs) {
      idleAt = time
      for (const pack of packs.values()) pack.cutIdle()
    }
    if (time - statsAt < statsEveryMs) return
    statsAt = time
    stats(0)
    for (const pack of packs.values()) if (pack.fetching().length > 0) pack.nudge()
    // Memory beyond the cap is given back by ending: the parent starts anew, and what is on disk stays.
    if (process.memoryUsage.rss() > memoryBytesMax) {
      notice(`The transfer process used ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB of memory and starts anew.`)
      void quit()
    }
  }, tickMs)
  process.once("SIGTERM", () => void quit())
  say({ type: "ready", tracker: tracker?.url ?? null, fault: null })

  return (message, handle) => {
    switch (message.type) {
      case "open": return
      case "pack": return inTurn(message.pack.infoHash, () => addPack(message.pack), (why) => notice(`Pack ${message.pack.sha256.slice(0, 12)} cannot be opened: ${why}`))
      case "unpack": return inTurn(message.infoHash, () => dropPack(message.infoHash).then(() => say({ type: "done", id: message.id, fault: null })),
        (why) => say({ type: "done", id: message.id, fault: why }))
      case "fetch": return inTurn(message.infoHash, async () => {
        const pack = packs.get(message.infoHash)
        if (pack === undefined) return say({ type: "done", id: message.id, fault: "the pack could not be opened" })
        pack.fetch(message.id, message.ranges)
        watch(pack)
      }, (why) => say({ type: "done", id: message.id, fault: why }))
      case "cancel": return packs.forEach((pack) => pack.cancel(message.id))
      case "wire": return takeWire(message, handle)
      case "cut": return void wires.get(message.id)?.destroy()
      case "limits": {
        const off = message.limits.downloadMax < 0 || message.limits.uploadMax < 0
        limits = message.limits
        throttle()
        for (const pack of packs.values()) {
          // R4.3: what was under way stops; wires come back by themselves where one of both ways is open.
          if (off) pack.cutAll()
          pack.uploadsChanged()
          pack.nudge()
        }
        return
      }
      case "mirrors": return mirrors.set(message.mirrors)
      case "bad": return inTurn(message.infoHash, async () => packs.get(message.infoHash)?.bad(message.offset, message.length), (why) => notice(`A piece could not be looked at: ${why}`))
      case "ask": return stats(message.id)
      case "quit": return void quit()
    }
  }
}

/** WebTorrent opens a listener on all interfaces as it is made. R4.1: here it gets one that listens where `host` says, and without that nowhere. */
const quietClient = async (host: string | undefined): Promise<WebTorrent> => {
  const make = net.createServer
  const opened: Array<Promise<void>> = []
  net.createServer = (...options: ReadonlyArray<unknown>) => {
    const server = Reflect.apply(make, net, options)
    const listen = server.listen.bind(server)
    server.listen = (_port: unknown, done: unknown) => {
      const ready = () => { if (typeof done === "function") done() }
      if (host === undefined) {
        // Its discovery, which is off, refuses to be made without a port.
        server.address = () => ({ address: "", family: "", port: 1 })
        queueMicrotask(ready)
      } else opened.push(new Promise((resolve, reject) => {
        server.once("error", reject)
        server.maxConnections = outsideMax
        listen({ host, port: 0 }, () => {
          server.removeListener("error", reject)
          ready()
          resolve()
        })
      }))
      return server
    }
    return server
  }
  try {
    const client = new WebTorrent({
      dht: false, lsd: false, utPex: false, natUpnp: false, natPmp: false, utp: false, tracker: false, webSeeds: false,
      // Clients from outside begin with an obfuscated handshake. The mesh's wires are encrypted already and never do.
      secure: host === undefined ? 0 : 1, maxConns: wiresMax
    })
    await Promise.all(opened)
    return client
  } finally {
    net.createServer = make
  }
}
