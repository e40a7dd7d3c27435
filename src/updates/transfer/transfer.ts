/**
 * Packs are fetched and served by a process of its own, since the code that speaks BitTorrent is large, not ours, and known to use memory without bounds. This is
 * the daemon's side: what is served and fetched, which devices are banned, and the wires.
 *
 * How a wire travels. The mesh gives a stream to a device. A socket without anything read ahead is handed to the process itself, and its bytes never pass through here. Any other
 * stream is joined with a connection to the process's socket in `run/`, which opens with a token that was given for this wire alone. Both sides of a transfer do the same.
 *
 * The process may die at any moment, by its own fault or a peer's. All that it must know lives here and is said again: packs with open fetches or wires, fetches, limits, bans. So a
 * fetch survives it. It runs only while there are fetches, wires or a tracker: a node that merely could serve has no second process.
 */
import { once } from "node:events"
import { mkdir, rename, rm } from "node:fs/promises"
import { connect, Socket } from "node:net"
import { join } from "node:path"
import { randomBytes } from "../../codec/signature.ts"
import { infoHash, torrentFile } from "../payload/torrent.ts"
import type { PackRef, PackWire, Range, SeedStatus, Transfer, TransferLimits } from "../ports.ts"
import { makeChild } from "./child.ts"
import { joinStreams } from "./join-streams.ts"
import { bannedMax, faultOfPack, type FromChild, mirrorsMax, packsMax, type PackStats, type Patience, rangesMax, type ToChild, type TrackerAt } from "./messages.ts"
import { copyHashed, isMarked, mark, markOf, sha256Of } from "./pack-files.ts"
import { heldByState, writeWholeState } from "./piece-store.ts"
import { shortPath } from "./short-path.ts"

export interface TransferOptions {
  /** This device as others know it, 64 hex digits: who fetches together shares the pieces out by it. */
  readonly device: string
  /** Where packs lie, `HOME/updates/packs`. */
  readonly directory: string
  /** Where the process's socket lies, `HOME/run`. */
  readonly run: string
  /** Milliseconds. */
  readonly now: () => number
  readonly notice: (text: string) => void
  /** The process starts anew when it uses more. */
  readonly memoryBytesMax?: number
  readonly limits?: TransferLimits
  readonly mirrors?: ReadonlyArray<string>
  /** Devices banned before, 64 hex digits each. */
  readonly banned?: ReadonlyArray<string>
  /** Where the tracker listens; without it there is none, and no listener. */
  readonly tracker?: TrackerAt
  readonly patience?: Partial<Patience>
  /** After so long without fetch and wire the process ends, milliseconds. */
  readonly idleMs?: number
  /** Pauses before a new start after the first, second, … death, milliseconds. */
  readonly pausesMs?: ReadonlyArray<number>
  /** For tests: another file that the process runs. */
  readonly entry?: string
}

export interface OwnTransfer extends Transfer {
  /** Where clients from outside announce themselves; undefined without a tracker. Starts the process. */
  readonly tracker: () => Promise<string | undefined>
}

const defaultPatience: Patience = { mirrorAfterMs: 5_000, wantedEveryMs: 3_000, stallMsMax: 120_000 }
const memoryBytesMaxDefault = 350 << 20
const idleMsDefault = 180_000
const askMsMax = 2_000
const closeMsMax = 30_000
const fetchesMax = 4_096

interface Known {
  readonly ref: PackRef
  readonly infoHash: string
  seeding: boolean
  /** A fetch of it succeeded: what is held is served, until it is removed. */
  kept: boolean
  /** Wires that are being brought or are there. */
  wires: number
  readonly fetches: Set<number>
  /** The process has it open. */
  open: boolean
  /** Counted by processes that ended, and by the one that runs. */
  uploaded: number
  downloaded: number
  now: PackStats | undefined
}

interface Fetch {
  readonly known: Known
  readonly ranges: ReadonlyArray<Range>
  readonly onBytes: ((bytes: number) => void) | undefined
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export const openTransfer = (options: TransferOptions): OwnTransfer => {
  const { directory, run, now, notice } = options
  const memoryBytesMax = options.memoryBytesMax ?? memoryBytesMaxDefault
  let limits: TransferLimits = options.limits ?? { uploadMax: 0, downloadMax: 0 }
  let mirrors = (options.mirrors ?? []).slice(0, mirrorsMax)
  let closed = false
  let nextId = 1
  let memoryBytes = 0
  let busyAt = now()
  let trackerUrl: string | undefined
  const known = new Map<string, Known>()
  const fetches = new Map<number, Fetch>()
  const banned = new Map<string, string>((options.banned ?? []).slice(0, bannedMax).map((device) => [device, "banned before"]))
  const wantedListeners = new Set<(infoHash: string, pack: PackRef) => void>()
  const banListeners = new Set<(device: string, why: string) => void>()
  /** Answers of the process that are waited for. */
  const waiting = new Map<number, (message: FromChild | undefined) => void>()
  /** Handed-over wires, until the process says that they ended. */
  const handed = new Map<number, () => void>()

  const child = makeChild({
    run, memoryBytesMax, now, notice,
    ...options.entry === undefined ? {} : { entry: options.entry }, ...options.pausesMs === undefined ? {} : { pausesMs: options.pausesMs },
    opening: (socket) => ({
      directory, device: options.device, socket, memoryBytesMax, limits, mirrors, banned: [...banned.keys()], patience: { ...defaultPatience, ...options.patience }, tracker: options.tracker ?? null
    }),
    needed: () => fetches.size > 0 || (options.tracker !== undefined && [...known.values()].some((pack) => pack.seeding)),
    onStart: (send, tracker) => {
      trackerUrl = tracker ?? undefined
      for (const pack of known.values()) if (pack.fetches.size > 0 || options.tracker !== undefined) openIn(pack, send)
      for (const [id, fetch] of fetches) send({ type: "fetch", id, infoHash: fetch.known.infoHash, ranges: fetch.ranges })
    },
    onEnd: (again, why) => {
      forgetProcess()
      if (!again) for (const id of [...fetches.keys()]) finish(id, new Error(why))
    },
    onMessage: (message) => hear(message)
  })

  const fold = (pack: Known) => {
    pack.uploaded += pack.now?.uploaded ?? 0
    pack.downloaded += pack.now?.downloaded ?? 0
    pack.now = undefined
  }
  const openIn = (pack: Known, send: (message: ToChild) => void = child.send) => {
    if (pack.open) return
    pack.open = true
    const { sha256, length, pieceLength, pieces } = pack.ref
    send({ type: "pack", pack: { sha256, length, pieceLength, pieces, infoHash: pack.infoHash, torrent: torrentFile(pack.ref) } })
  }
  const finish = (id: number, error?: Error) => {
    const fetch = fetches.get(id)
    if (fetch === undefined) return
    fetches.delete(id)
    fetch.known.fetches.delete(id)
    busyAt = now()
    if (error === undefined) fetch.resolve()
    else fetch.reject(error)
  }
  const hear = (message: FromChild) => {
    switch (message.type) {
      case "ready": return
      case "done": {
        const answer = waiting.get(message.id)
        waiting.delete(message.id)
        answer?.(message)
        return finish(message.id, message.fault === null ? undefined : new Error(message.fault))
      }
      case "progress": return fetches.get(message.id)?.onBytes?.(message.bytes)
      case "wire-ready": {
        const answer = waiting.get(message.id)
        waiting.delete(message.id)
        return answer?.(message)
      }
      case "wire-ended": {
        const end = handed.get(message.id)
        handed.delete(message.id)
        return end?.()
      }
      case "wanted": {
        const pack = known.get(message.infoHash)
        if (pack !== undefined && limits.downloadMax >= 0) for (const listener of wantedListeners) listener(pack.infoHash, pack.ref)
        return
      }
      case "banned": {
        if (banned.has(message.device) || banned.size >= bannedMax) return
        banned.set(message.device, message.why)
        for (const listener of banListeners) listener(message.device, message.why)
        return
      }
      case "damaged": {
        const pack = known.get(message.infoHash)
        notice(`Pack ${pack?.ref.sha256.slice(0, 12) ?? message.infoHash}: ${message.why}.`)
        if (pack !== undefined) void rm(markOf(fileOf(pack.ref.sha256)), { force: true }).catch(() => {})
        return
      }
      case "stats": {
        memoryBytes = message.memoryBytes
        for (const stats of message.packs) {
          const pack = known.get(stats.infoHash)
          if (pack !== undefined) pack.now = stats
        }
        if (message.wires > 0 || message.fetches > 0) busyAt = now()
        const answer = waiting.get(message.id)
        waiting.delete(message.id)
        return answer?.(message)
      }
      case "notice": return notice(message.text)
    }
  }
  const askChild = (message: (id: number) => ToChild, msMax: number, handle?: Socket): Promise<FromChild | undefined> => {
    const id = nextId++
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        waiting.delete(id)
        resolve(undefined)
      }, msMax)
      waiting.set(id, (answer) => {
        clearTimeout(timer)
        resolve(answer)
      })
      child.send(message(id), handle)
    })
  }

  const fileOf = (sha256: string) => join(directory, sha256)
  const know = (ref: PackRef): Known => {
    const fault = faultOfPack(ref)
    if (fault !== undefined) throw new Error(`the pack ${String(ref.sha256).slice(0, 12)} is none: ${fault}`)
    const hash = infoHash(ref)
    const before = known.get(hash)
    if (before !== undefined) return before
    if (known.size >= packsMax) throw new Error(`${packsMax} packs are held already`)
    const pack: Known = { ref, infoHash: hash, seeding: false, kept: false, wires: 0, fetches: new Set(), open: false, uploaded: 0, downloaded: 0, now: undefined }
    known.set(hash, pack)
    return pack
  }
  const bySha256 = (sha256: string): Known | undefined => [...known.values()].find((pack) => pack.ref.sha256 === sha256)
  const forgetIfUnused = (pack: Known) => {
    if (pack.seeding || pack.kept || pack.fetches.size > 0 || pack.wires > 0) return
    known.delete(pack.infoHash)
    void release(pack)
  }
  /** Packs that the process is closing, by SHA-256: it writes their state meanwhile. */
  const closing = new Map<string, Promise<void>>()
  /** Takes it out of the process. */
  const release = (pack: Known): Promise<void> => {
    const { sha256 } = pack.ref
    if (pack.open) {
      pack.open = false
      const done = askChild((id) => ({ type: "unpack", id, infoHash: pack.infoHash }), closeMsMax).then(() => {
        fold(pack)
        if (closing.get(sha256) === done) closing.delete(sha256)
      })
      closing.set(sha256, done)
    }
    return closing.get(sha256) ?? Promise.resolve()
  }
  /** The process has it open no more, nor is about to close it: its files may be changed here. */
  const freed = async (pack: Known | undefined, sha256: string): Promise<void> => {
    if (pack !== undefined) await release(pack)
    // It may have been forgotten just now.
    else await closing.get(sha256)
  }
  const idle = setInterval(() => {
    if (!child.running() || options.tracker !== undefined || fetches.size > 0 || [...known.values()].some((pack) => pack.wires > 0)) return
    if (now() - busyAt < (options.idleMs ?? idleMsDefault)) return
    void stop()
  }, Math.min(5_000, options.idleMs ?? idleMsDefault))
  idle.unref()
  /** The process is gone: nothing is open there, and who waits for a word of it or holds a wire in it hears so. */
  const forgetProcess = (): void => {
    for (const pack of known.values()) {
      pack.open = false
      fold(pack)
    }
    for (const answer of waiting.values()) answer(undefined)
    waiting.clear()
    for (const end of handed.values()) end()
    handed.clear()
  }
  const stop = async () => {
    await child.stop()
    forgetProcess()
    memoryBytes = 0
  }

  const ensure: Transfer["ensure"] = async (ref, ranges, { signal, onBytes }) => {
    if (closed) throw new Error("the transfer was closed")
    signal.throwIfAborted()
    if (ranges.length > rangesMax) throw new Error(`${ranges.length} ranges are too many for one fetch, at most ${rangesMax}`)
    if (fetches.size >= fetchesMax) throw new Error(`${fetchesMax} fetches are under way`)
    const pack = know(ref)
    const file = fileOf(ref.sha256)
    try {
      if (ranges.length === 0) return file
      if (!pack.open && await isMarked(file, ref)) {
        pack.kept = true
        return file
      }
      const id = nextId++
      await new Promise<void>((resolve, reject) => {
        const abort = () => {
          child.send({ type: "cancel", id })
          finish(id, signal.reason instanceof Error ? signal.reason : new Error("the fetch was stopped"))
        }
        const over = () => signal.removeEventListener("abort", abort)
        pack.fetches.add(id)
        fetches.set(id, {
          known: pack, ranges, onBytes,
          resolve: () => { over(); resolve() },
          reject: (error) => { over(); reject(error) }
        })
        signal.addEventListener("abort", abort)
        if (signal.aborted) return abort()
        busyAt = now()
        const running = child.running()
        child.start().then(
          () => {
            // A process that began with this fetch among its own was told of it.
            if (!running || !fetches.has(id)) return
            openIn(pack)
            child.send({ type: "fetch", id, infoHash: pack.infoHash, ranges })
          },
          (error: unknown) => { if (!child.coming()) finish(id, error instanceof Error ? error : new Error(String(error))) }
        )
      })
      pack.kept = true
      return file
    } finally {
      forgetIfUnused(pack)
    }
  }

  const addWire = async (hash: string, wire: PackWire): Promise<void> => {
    const { stream, device, carrier } = wire
    const pack = known.get(hash)
    // R4.1, R4.2, R4.3: of a known device, not banned, for a pack that is held or fetched, and only while something may go over it.
    if (closed || pack === undefined || banned.has(device) || (limits.uploadMax < 0 && limits.downloadMax < 0)) {
      stream.destroy()
      return
    }
    pack.wires += 1
    stream.on("error", () => {})
    try {
      stream.pause()
      const path = await child.start()
      if (stream.destroyed) return
      busyAt = now()
      openIn(pack)
      if (stream instanceof Socket && stream.writableLength === 0) await handOver(pack, stream, device, carrier)
      else await bring(pack, path, wire)
    } catch (error) {
      notice(`A wire to ${device.slice(0, 12)} could not be made: ${error instanceof Error ? error.message : String(error)}.`)
    } finally {
      stream.destroy()
      pack.wires -= 1
      busyAt = now()
      forgetIfUnused(pack)
    }
  }
  /** The socket itself goes to the process; here stays its shell, by which its owner may still end it. */
  const handOver = async (pack: Known, socket: Socket, device: string, carrier: "mesh" | "lan"): Promise<void> => {
    // From here on nothing is read; what was read goes along.
    const handle: unknown = Reflect.get(socket, "_handle")
    if (typeof handle === "object" && handle !== null && "readStop" in handle && typeof handle.readStop === "function") handle.readStop()
    const read: unknown = socket.readableLength > 0 ? socket.read() : null
    const head = Buffer.isBuffer(read) ? read : null
    const id = nextId++
    const ended = new Promise<void>((resolve) => handed.set(id, resolve))
    const cut = () => child.send({ type: "cut", id })
    socket.once("close", cut)
    child.send({ type: "wire", id, token: null, infoHash: pack.infoHash, device, carrier, head }, socket)
    await ended
    socket.removeListener("close", cut)
  }
  const bring = async (pack: Known, path: string, { stream, device, carrier }: PackWire): Promise<void> => {
    const token = Buffer.from(randomBytes(32)).toString("hex")
    const answer = await askChild((id) => ({ type: "wire", id, token, infoHash: pack.infoHash, device, carrier, head: null }), 10_000)
    if (answer?.type !== "wire-ready" || answer.fault !== null || stream.destroyed) return
    const short = await shortPath(path)
    const socket = connect(short.path)
    // Between the connection and the joining nobody else listens; `once` hears of one before that, and what breaks later has ended.
    socket.on("error", () => {})
    try {
      await once(socket, "connect")
    } finally {
      await short.release()
    }
    socket.write(token)
    await joinStreams(stream, socket)
  }

  return {
    ensure, addWire,
    bad: (ref, { offset, length }) => {
      const pack = known.get(infoHash(ref))
      void rm(markOf(fileOf(ref.sha256)), { force: true }).catch(() => {})
      const tell = (of: Known) => {
        openIn(of)
        child.send({ type: "bad", infoHash: of.infoHash, offset, length })
      }
      if (pack !== undefined && child.running()) return tell(pack)
      const of = know(ref)
      of.wires += 1
      child.start().then(() => tell(of), (error: unknown) => notice(String(error))).finally(() => {
        of.wires -= 1
      })
    },
    seed: async (ref) => {
      const pack = know(ref)
      pack.seeding = true
      if (options.tracker === undefined) return
      await child.start()
      openIn(pack)
    },
    remove: async (sha256) => {
      const pack = bySha256(sha256)
      if (pack !== undefined) {
        pack.seeding = false
        for (const id of [...pack.fetches]) {
          child.send({ type: "cancel", id })
          finish(id, new Error("the pack was removed"))
        }
        pack.kept = false
        known.delete(pack.infoHash)
      }
      await freed(pack, sha256)
      if (!/^[0-9a-f]{64}$/.test(sha256)) return
      const file = fileOf(sha256)
      for (const path of [markOf(file), `${file}.json`, `${file}.json.new`, `${file}.new`, file]) await rm(path, { force: true })
    },
    serves: (hash) => known.has(hash),
    onWanted: (listener) => {
      wantedListeners.add(listener)
      return () => { wantedListeners.delete(listener) }
    },
    setLimits: (next) => {
      limits = next
      child.send({ type: "limits", limits })
    },
    setMirrors: (urls) => {
      mirrors = urls.slice(0, mirrorsMax)
      child.send({ type: "mirrors", mirrors })
    },
    banned: () => [...banned.keys()],
    onBan: (listener) => {
      banListeners.add(listener)
      return () => { banListeners.delete(listener) }
    },
    status: async () => {
      if (child.running()) await askChild((id) => ({ type: "ask", id }), askMsMax)
      const seeds: Array<SeedStatus> = []
      for (const pack of known.values()) {
        const held = pack.now?.held ?? (await heldByState(fileOf(pack.ref.sha256), pack.ref)).bytes
        seeds.push({
          pack: pack.ref.sha256, length: pack.ref.length, held, wires: pack.now?.wires ?? 0, seeding: pack.seeding,
          uploaded: pack.uploaded + (pack.now?.uploaded ?? 0), downloaded: pack.downloaded + (pack.now?.downloaded ?? 0)
        })
      }
      return { seeds, memoryBytes: child.running() ? memoryBytes : 0, pid: child.pid() }
    },
    file: async (sha256) => {
      if (!/^[0-9a-f]{64}$/.test(sha256)) return undefined
      const file = fileOf(sha256)
      const pack = bySha256(sha256)
      if (await isMarked(file, pack?.ref)) return file
      if (pack === undefined) return undefined
      if (pack.open) await askChild((id) => ({ type: "ask", id }), askMsMax)
      if ((pack.now?.held ?? (await heldByState(file, pack.ref)).bytes) < pack.ref.length) return undefined
      // R3.1: whole when its SHA-256 is as signed; looked at once, and remembered with the file's time.
      if (await sha256Of(file, pack.ref.length) !== sha256) return undefined
      await mark(file)
      return file
    },
    take: async (ref, path) => {
      const fault = faultOfPack(ref)
      if (fault !== undefined) throw new Error(`the pack is none: ${fault}`)
      const file = fileOf(ref.sha256)
      if (await isMarked(file, ref)) return
      await mkdir(directory, { recursive: true, mode: 0o700 })
      const aside = `${file}.new`
      try {
        // R1.7, R3.1: as long and as hashed as signed, before it counts.
        const copied = await copyHashed(path, aside, ref.length)
        if (copied !== ref.sha256) throw new Error(`${path} is not the pack ${ref.sha256.slice(0, 12)}: its SHA-256 is ${copied.slice(0, 12)}…`)
        const pack = known.get(infoHash(ref))
        await freed(pack, ref.sha256)
        await rename(aside, file)
        await writeWholeState(file, ref)
        await mark(file)
        // Fetches that were under way find all that they want.
        for (const id of pack?.fetches ?? []) finish(id)
      } finally {
        await rm(aside, { force: true })
      }
    },
    tracker: async () => {
      if (options.tracker === undefined) return undefined
      await child.start()
      return trackerUrl
    },
    close: async () => {
      closed = true
      clearInterval(idle)
      for (const id of [...fetches.keys()]) finish(id, new Error("the transfer was closed"))
      await stop()
    }
  }
}
