/**
 * One pack in the transfer process: its torrent, the fetches that wait for pieces of it, and its wires.
 *
 * How a piece travels. A fetch names ranges; the pieces that cover them are selected and nothing else is. WebTorrent asks a wire for blocks through the gate
 * (`_request`), which says no to wires without a device, to devices that the guard does not want for this piece, and while the disk is behind. A whole piece is hashed by
 * WebTorrent and put into the store; `verified` is told to the fetches. A piece that fails is told to the guard, which may name a device.
 * When wires give next to nothing for a while, a mirror has a turn: pieces from there are hashed here and put into the same store by the same words, so there is one truth.
 *
 * Invariants: a piece that a mirror brings is not asked of wires meanwhile. A fetch ends exactly once. What a peer says is bounded before WebTorrent sees
 * it: the length of a message, requests in waiting, bytes in waiting, blocks that nobody asked for. WebTorrent itself bounds none of these.
 */
import { createHash } from "node:crypto"
import type { Duplex } from "node:stream"
import type WebTorrent from "webtorrent"
import type { Torrent, Wire } from "webtorrent"
import { type Guilt, makeGuard } from "./guard.ts"
import type { PackTold } from "./messages.ts"
import { isHeld, lengthOfPiece, openPieceStore, pieceCount, pieceFits, type PieceStore } from "./piece-store.ts"
import { makeSpread } from "./spread.ts"

export interface PackDeps {
  readonly client: WebTorrent
  readonly file: string
  readonly directory: string
  /** This device, 64 hex digits. */
  readonly own: string
  readonly now: () => number
  readonly downloads: () => boolean
  readonly uploads: () => boolean
  readonly onGuilt: (guilt: Guilt) => void
  readonly onDamage: (why: string) => void
  readonly onDone: (fetch: number, fault: string | null) => void
  readonly onProgress: (fetch: number, bytes: number) => void
}

export interface PackWireInfo {
  readonly id: number
  readonly device: string
  readonly carrier: "mesh" | "lan"
}

export interface OpenPack {
  readonly pack: PackTold
  readonly fetch: (id: number, ranges: ReadonlyArray<{ readonly offset: number; readonly length: number }>) => void
  readonly cancel: (id: number) => void
  readonly fetching: () => ReadonlyArray<number>
  /** Fails all fetches. */
  readonly fail: (why: string) => void
  /** Takes over the stream; the sentence says why not. */
  readonly attach: (stream: Duplex, wire: PackWireInfo) => string | undefined
  readonly wires: () => number
  readonly cutDevice: (device: string) => void
  readonly cutAll: () => void
  /** Wires over which nothing went between two calls of this. */
  readonly cutIdle: () => void
  /** Uploads were turned on or off. */
  readonly uploadsChanged: () => void
  readonly bad: (offset: number, length: number) => Promise<void>
  /** Bytes of blocks that wires brought, and pieces that became whole, since it is open. */
  readonly received: () => number
  readonly verified: () => number
  /** Pieces that a mirror is to bring, side by side, at most so many bytes; and marks them. */
  readonly claim: (bytesMax: number) => { readonly from: number; readonly count: number } | undefined
  readonly unclaim: () => void
  /** A piece from a mirror; false when it does not fit. */
  readonly bring: (index: number, bytes: Uint8Array) => Promise<boolean>
  /** Asks anew what the gate refused. */
  readonly nudge: () => void
  readonly releaseAlone: () => void
  readonly stats: () => { readonly held: number; readonly uploaded: number; readonly downloaded: number }
  readonly save: () => Promise<void>
  readonly close: () => Promise<void>
}

/** Blocks of 16 KiB that one wire may owe us, and we one wire. */
const requestsMax = 256
const refillBlocks = 64
const restMs = 20
const peerRequestsMax = 1_024
/** Longest message that a wire may send: a block and its head, or the field of 65,536 pieces. */
const messageBytesMax = 160 << 10
const outgoingBytesMax = 24 << 20
/** Pieces on their way to the disk; more are not asked for. */
const pendingBytesMax = 32 << 20
/** Blocks that nobody asked for, beyond as much as was useful. */
const unaskedBytesMax = 32 << 20
const wiresMax = 24
const wiresOfDeviceMax = 2
const uploadSlots = 12
/** For so long a wire is taken to be at least so fast, bytes a second. */
const youngMs = 3_000
const youngSpeed = 2 << 20

interface Attached extends PackWireInfo {
  readonly peer: string
  readonly stream: Duplex
  readonly wire: Wire
  asked: number
  /** Bytes both ways at the last look for idle wires. */
  seen: number
}

export const openPack = async (pack: PackTold, deps: PackDeps): Promise<OpenPack> => {
  const count = pieceCount(pack)
  const fetches = new Map<number, Set<number>>()
  const attached = new Map<Wire, Attached>()
  const claimed = new Set<number>()
  const guard = makeGuard(pack.sha256)
  const spread = makeSpread(deps.own, pack.pieceLength, deps.now)
  let verified = 0
  let received = 0

  const lost = (index: number, why: string) => {
    torrent._markUnverified(index)
    // Those who were told that it is here must not wait for it.
    for (const wire of torrent.wires) {
      try {
        wire.lt_donthave?.donthave(index)
      } catch {
        // It does not know this message; its request will be refused.
      }
    }
    deps.onDamage(why)
    select()
  }
  const store: PieceStore = await openPieceStore({
    pack, file: deps.file,
    onDamage: (index) => queueMicrotask(() => { if (!torrent.destroyed && torrent.bitfield.get(index)) lost(index, `piece ${index} is damaged on this disk`) })
  })
  const torrent: Torrent = deps.client.add(pack.torrent, {
    path: deps.directory, preloadedStore: store, storeCacheSlots: 0, bitfield: store.held.slice(), deselect: true, strategy: "sequential", uploads: uploadSlots
  })

  const name = (guilty: ReadonlyArray<Guilt>) => { for (const guilt of guilty) deps.onGuilt(guilt) }
  /** Only what a fetch waits for is asked for. */
  const select = () => {
    if (torrent.destroyed || !torrent.ready) return
    torrent.deselect(0, count - 1)
    const wanted = [...new Set([...fetches.values()].flatMap((pieces) => [...pieces]))].sort((a, b) => a - b)
    for (let at = 0; at < wanted.length;) {
      const from = wanted[at] ?? 0
      let to = from
      for (at += 1; wanted[at] === to + 1; at += 1) to += 1
      torrent.select(from, to, 0)
    }
  }
  const settle = (index: number) => {
    for (const [id, pieces] of fetches) {
      if (!pieces.delete(index)) continue
      deps.onProgress(id, lengthOfPiece(pack, index))
      if (pieces.size > 0) continue
      fetches.delete(id)
      deps.onDone(id, null)
    }
  }
  const fail = (why: string) => {
    for (const id of [...fetches.keys()]) {
      fetches.delete(id)
      deps.onDone(id, why)
    }
    select()
  }

  const ready = new Promise<void>((resolve, reject) => {
    torrent.once("ready", resolve)
    torrent.once("close", () => reject(new Error("the torrent was closed")))
    torrent.once("error", (error: Error) => {
      reject(error)
      fail(`the pack cannot be written: ${error.message}`)
    })
  })
  torrent.on("verified", (index: number) => {
    verified += 1
    spread.progress()
    if (torrent.ready) name(guard.fitted(index))
    settle(index)
    if (guard.isDisowned(index)) void compare(index)
  })
  torrent.on("warning", (warning: Error) => {
    const index = /^Piece (\d{1,6}) failed verification$/.exec(warning.message)?.[1]
    // R4.2: who sent it is looked for, and named when it is certain.
    if (index !== undefined) name(guard.failed(Number(index)))
  })
  /** R4.2: the same hash and other bytes: whoever gave the first ones made them up. */
  const compare = async (index: number) => {
    const sha256 = await digestOfPiece(store, pack, index)
    if (sha256 !== undefined) name(guard.replaced(index, sha256))
  }

  const ask = torrent._request.bind(torrent)
  torrent._request = (wire, index, hotswap) => {
    const of = attached.get(wire)
    // R4.1: nothing is taken from a wire that belongs to no device.
    if (of === undefined || !deps.downloads() || claimed.has(index) || store.pendingBytes() > pendingBytesMax) return false
    if (wire.isSeeder && spread.crowded() && !spread.mine(index)) return false
    if (torrent.bitfield.get(index) || !guard.mayAsk(index, of.device)) return false
    return ask(wire, index, hotswap)
  }
  /** The wire that WebTorrent fills with requests just now. */
  let updating: Wire | undefined
  const update = torrent._updateWire.bind(torrent)
  /** Wires that had nothing to be asked for, and until when they are not looked at again: each look goes over all pieces, and every block of any wire asks for one. */
  const resting = new WeakMap<Wire, number>()
  let later: NodeJS.Timeout | undefined
  torrent._updateWire = (wire) => {
    // Requests are made many at a time.
    if (wire.requests.length > requestsMax - refillBlocks) return
    if ((resting.get(wire) ?? 0) > deps.now()) {
      later ??= setTimeout(() => {
        later = undefined
        if (!torrent.destroyed) torrent._update()
      }, restMs)
      return
    }
    updating = wire
    update(wire)
    updating = undefined
    if (wire.requests.length === 0) resting.set(wire, deps.now() + restMs)
  }
  /** What WebTorrent does not bound. */
  const harden = (wire: Wire, of: () => Attached | undefined) => {
    wire.peerExtendedHandshake.reqq = requestsMax
    wire.on("extended", (kind: unknown) => {
      if (kind === "handshake") wire.peerExtendedHandshake.reqq = requestsMax
    })
    // Requests in waiting grow with the speed, which is an average of seconds: a wire that has just begun is given some ahead.
    const speed = wire.downloadSpeed
    const young = deps.now() + youngMs
    wire.downloadSpeed = (bytes) => {
      const real = speed(bytes)
      return wire === updating && real < youngSpeed && wire.downloaded > 0 && deps.now() < young ? youngSpeed : real
    }
    const meet = () => {
      const device = of()?.device
      if (device === undefined) return
      if (wire.isSeeder) spread.left(device)
      else spread.heard(device)
    }
    for (const event of ["have", "bitfield", "have-none", "have-all"]) wire.on(event, () => queueMicrotask(meet))
    const write = wire._write.bind(wire)
    wire._write = (bytes, done) => {
      try {
        write(bytes, (error) => {
          if (wire._parserSize > messageBytesMax) wire.destroy()
          done(error)
        })
      } catch {
        // What its reader cannot make sense of ends this wire, not the process.
        wire.destroy()
        done(null)
      }
    }
    const request = wire.request.bind(wire)
    wire.request = (index, offset, length, done) => {
      const piece = torrent.pieces[index]
      const attachedTo = of()
      if (attachedTo !== undefined) attachedTo.asked += length
      request(index, offset, length, (error, block) => {
        if (error === null && block !== null) {
          received += block.byteLength
          if (attachedTo !== undefined && piece !== null && piece !== undefined && torrent.pieces[index] === piece && !piece.get(offset >> 14)) {
            guard.block(index, piece, offset, attachedTo.device, block)
          }
        }
        done(error, block)
      })
    }
    wire.on("piece", () => {
      const attachedTo = of()
      // R4.4: a source that gives more bytes than asked is left.
      if (attachedTo !== undefined && wire.downloaded > attachedTo.asked + unaskedBytesMax) deps.onGuilt({ device: attachedTo.device, why: "it sends blocks that nobody asked for" })
    })
    wire.on("request", () => {
      if (wire.peerRequests.length > peerRequestsMax || wire._readableState.buffered > outgoingBytesMax) wire.destroy()
    })
    const unchoke = wire.unchoke.bind(wire)
    wire.unchoke = () => { if (deps.uploads()) unchoke() }
  }

  await ready
  // The start may have found pieces damaged that the state named.
  for (let index = 0; index < count; index += 1) if (isHeld(store.held, index) && !torrent.bitfield.get(index)) store.drop(index)

  const cut = (of: Attached) => torrent.removePeer(of.peer)
  return {
    pack,
    fetch: (id, ranges) => {
      const pieces = new Set<number>()
      for (const { offset, length } of ranges) {
        if (offset + length > pack.length) return deps.onDone(id, `the range from ${offset} on, ${length} bytes, is not within the pack`)
        for (let index = Math.floor(offset / pack.pieceLength); index * pack.pieceLength < offset + length; index += 1) {
          if (!torrent.bitfield.get(index)) pieces.add(index)
        }
      }
      if (pieces.size === 0) return deps.onDone(id, null)
      fetches.set(id, pieces)
      select()
    },
    cancel: (id) => {
      if (fetches.delete(id)) select()
    },
    fetching: () => [...fetches.keys()],
    fail,
    attach: (stream, info) => {
      if (torrent.destroyed) return "the pack was closed"
      if (attached.size >= wiresMax) return `the pack has ${wiresMax} wires`
      const same = [...attached.values()].filter((of) => of.device === info.device)
      if (same.length >= wiresOfDeviceMax) return `the device has ${wiresOfDeviceMax} wires for this pack`
      const peer = `${info.device}:${pack.infoHash}:${info.id}`
      if (!torrent.addPeer(Object.assign(stream, { id: peer, connected: true }), "mesh")) return "the wire was not taken"
      const wire = torrent._peers.get(peer)?.wire ?? undefined
      if (wire === undefined) return "the wire was not taken"
      const of: Attached = { ...info, peer, stream, wire, asked: 0, seen: 0 }
      attached.set(wire, of)
      harden(wire, () => attached.get(wire))
      stream.once("close", () => {
        attached.delete(wire)
        if ([...attached.values()].some((other) => other.device === info.device)) return
        guard.left(info.device)
        spread.left(info.device)
      })
      // The faster way to the same device takes over once it speaks.
      if (info.carrier === "lan") wire.once("handshake", () => { for (const other of same) if (other.carrier === "mesh") cut(other) })
      return undefined
    },
    wires: () => attached.size,
    cutDevice: (device) => { for (const of of [...attached.values()]) if (of.device === device) cut(of) },
    cutAll: () => { for (const of of [...attached.values()]) cut(of) },
    cutIdle: () => {
      for (const of of [...attached.values()]) {
        const bytes = of.wire.uploaded + of.wire.downloaded
        if (bytes === of.seen && fetches.size === 0) cut(of)
        of.seen = bytes
      }
    },
    uploadsChanged: () => {
      for (const wire of torrent.wires) {
        if (!deps.uploads()) wire.choke()
        else if (wire.peerInterested) wire.unchoke()
      }
    },
    bad: async (offset, length) => {
      for (let index = Math.floor(offset / pack.pieceLength); index < count && index * pack.pieceLength < offset + length; index += 1) {
        if (!torrent.bitfield.get(index)) continue
        const sha256 = await store.check(index) ? await digestOfPiece(store, pack, index) : undefined
        if (torrent.destroyed || !torrent.bitfield.get(index)) continue
        // The disk changed it: nobody sent it like this.
        if (sha256 !== undefined) guard.disowned(index, sha256)
        store.drop(index)
        lost(index, sha256 === undefined ? `piece ${index} is damaged on this disk` : `piece ${index} is not what the index says`)
      }
    },
    received: () => received,
    verified: () => verified,
    claim: (bytesMax) => {
      const wanted = [...new Set([...fetches.values()].flatMap((pieces) => [...pieces]))].filter((index) => !torrent.bitfield.get(index)).sort((a, b) => a - b)
      const [from] = wanted
      if (from === undefined) return undefined
      const most = Math.max(1, Math.floor(bytesMax / pack.pieceLength))
      let pieces = 1
      while (pieces < most && wanted[pieces] === from + pieces) pieces += 1
      for (let index = from; index < from + pieces; index += 1) claimed.add(index)
      return { from, count: pieces }
    },
    unclaim: () => {
      claimed.clear()
      if (!torrent.destroyed) torrent._update()
    },
    bring: (index, bytes) => {
      // R3.1, R4.4: what a mirror gives counts when its hash is as signed.
      if (!pieceFits(pack, index, bytes)) return Promise.resolve(false)
      return new Promise((resolve, reject) => {
        if (torrent.destroyed) return reject(new Error("the pack was closed"))
        if (torrent.bitfield.get(index)) return resolve(true)
        torrent.store.put(index, bytes, (error) => {
          if (error !== null) return reject(error)
          if (!torrent.destroyed && !torrent.bitfield.get(index)) {
            torrent._markVerified(index)
            for (const wire of torrent.wires) wire.have(index)
            torrent._checkDone()
          }
          resolve(true)
        })
      })
    },
    nudge: () => { if (!torrent.destroyed) torrent._update() },
    releaseAlone: guard.release,
    stats: () => ({ held: store.heldBytes(), uploaded: torrent.uploaded, downloaded: torrent.received }),
    save: store.save,
    close: async () => {
      fail("the pack was removed")
      if (!torrent.destroyed) await new Promise<void>((resolve) => torrent.destroy({ destroyStore: false }, resolve))
      await store.shut()
    }
  }
}

const digestOfPiece = (store: PieceStore, pack: PackTold, index: number): Promise<string | undefined> =>
  new Promise((resolve) => store.get(index, { offset: 0, length: lengthOfPiece(pack, index) }, (error, bytes) =>
    resolve(error !== null || bytes === undefined ? undefined : createHash("sha256").update(bytes).digest("hex"))))
