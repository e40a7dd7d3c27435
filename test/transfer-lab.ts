/** Transfers with real processes, joined inside of the test: packs of seeded bytes, pairs of streams, and a peer that speaks BitTorrent by hand and may lie. */
import { createHash } from "node:crypto"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { once } from "node:events"
import { enableCompileCache } from "node:module"
import { connect, createServer, type AddressInfo, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Duplex, duplexPair } from "node:stream"
import { setTimeout as delay } from "node:timers/promises"
import type { Test } from "tap"
import { hashPieces, infoHash } from "../src/updates/payload/torrent.ts"
import type { PackRef } from "../src/updates/ports.ts"
import { openTransfer, type OwnTransfer, type TransferOptions } from "../src/updates/transfer/transfer.ts"

// As the daemon does: its processes start in half the time.
enableCompileCache(join(tmpdir(), `kos-test-caches-${process.getuid?.() ?? 0}`, "transfer"))

export const mebibyte = 1 << 20
export const deviceA = "aa".repeat(32)
export const deviceB = "bb".repeat(32)
export const poisoner = "ee".repeat(32)

/** Bytes that nothing compresses and that are the same for the same seed. */
export const seededBytes = (length: number, seed: number): Buffer => {
  const bytes = Buffer.alloc(length)
  let x = (seed * 2_654_435_761 + 1) >>> 0
  for (let at = 0; at + 4 <= length; at += 4) {
    x ^= x << 13
    x >>>= 0
    x ^= x >>> 17
    x ^= x << 5
    x >>>= 0
    bytes.writeUInt32LE(x, at)
  }
  return bytes
}

export interface Pack {
  readonly ref: PackRef
  readonly hash: string
  readonly bytes: Buffer
  readonly path: string
}

const begun = new WeakSet<Test>()
/** The test's own directory, empty when it is first asked for: what an earlier run left, that was killed, would count as fetched. */
export const directoryOf = (t: Test): string => {
  if (begun.has(t)) return t.testdirName
  begun.add(t)
  // tap removes the directory before teardowns unless one was there first: a process that still writes would be in its way.
  t.teardown(() => undefined)
  return t.testdir()
}

export const packOf = async (t: Test, length: number, seed = 1): Promise<Pack> => {
  const path = join(directoryOf(t), `pack-${seed}`)
  const bytes = seededBytes(length, seed)
  writeFileSync(path, bytes)
  const ref = await hashPieces(path)
  return { ref, hash: infoHash(ref), bytes, path }
}

export interface Side extends OwnTransfer {
  readonly directory: string
  readonly notices: ReadonlyArray<string>
  readonly bans: ReadonlyArray<string>
}

/** Closed when the test ends. */
export const sideOf = (t: Test, name: string, more: Partial<TransferOptions> = {}): Side => {
  const home = join(directoryOf(t), name)
  const directory = join(home, "packs")
  mkdirSync(directory, { recursive: true })
  const notices: Array<string> = []
  const bans: Array<string> = []
  const transfer = openTransfer({
    device: createHash("sha256").update(name).digest("hex"), directory, run: join(home, "run"), now: () => performance.now(), notice: (text) => { notices.push(text) }, pausesMs: [50, 100, 150], ...more,
    patience: { wantedEveryMs: 300, mirrorAfterMs: 500, stallMsMax: 10_000, ...more.patience }
  })
  transfer.onBan((device) => { bans.push(device) })
  t.teardown(() => transfer.close())
  return Object.assign(transfer, { directory, notices, bans })
}

export const holds = async (side: Side, pack: Pack): Promise<void> => {
  await side.take(pack.ref, pack.path)
  await side.seed(pack.ref)
}

/** Two ends of a TCP connection on loopback. */
export const tcpPair = async (): Promise<readonly [Socket, Socket]> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const here = connect((server.address() as AddressInfo).port, "127.0.0.1")
  const [there] = (await once(server, "connection")) as [Socket]
  server.close()
  return [here, there]
}

/** Joins two sides: over TCP, or by streams that pass through this process. */
export const joined = async (hash: string, [one, device]: readonly [Side, string], [other, otherDevice]: readonly [Side, string], carrier: "lan" | "mesh"): Promise<void> => {
  const [x, y]: readonly [Duplex, Duplex] = carrier === "lan" ? await tcpPair() : duplexPair({ highWaterMark: 1 << 18 })
  void one.addWire(hash, { device: otherDevice, carrier, stream: x })
  void other.addWire(hash, { device, carrier, stream: y })
}

/** Fetches of `side` get wires to these. */
export const neighbours = (side: Side, device: string, others: ReadonlyArray<readonly [Side, string]>, carrier: "lan" | "mesh" = "mesh"): void => {
  side.onWanted((hash) => {
    for (const [other, otherDevice] of others) if (!side.banned().includes(otherDevice)) void joined(hash, [side, device], [other, otherDevice], carrier)
  })
}

export const whole = ({ ref }: Pack) => [{ offset: 0, length: ref.length }]
export const soon = (ms = 20_000) => ({ signal: AbortSignal.timeout(ms) })
export const sha256Of = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex")

/** Waits until it is so; throws after the bound. */
export const until = async (what: string, is: () => boolean | Promise<boolean>, msMax = 15_000): Promise<void> => {
  const end = performance.now() + msMax
  while (!await is()) {
    if (performance.now() > end) throw new Error(`it did not come to this: ${what}`)
    await delay(25)
  }
}

export interface HandPeer {
  readonly stream: Duplex
  /** Bytes of blocks that it sent. */
  readonly sent: () => number
}

export interface HandPeerOptions {
  readonly pack: Pack
  /** What it sends for a block; undefined to keep silent. */
  readonly block: (index: number, offset: number, length: number) => Uint8Array | undefined
  /** Sent right after the handshake. */
  readonly opening?: ReadonlyArray<Uint8Array>
}

/** A peer that holds everything, as it says: BEP 3 and nothing else. */
export const handPeer = ({ pack, block, opening = [] }: HandPeerOptions): HandPeer => {
  const [stream, near] = duplexPair({ highWaterMark: 1 << 18 })
  let sent = 0
  let heard = Buffer.alloc(0)
  let shaken = false
  const say = (id: number, ...parts: ReadonlyArray<Uint8Array>) => {
    const body = Buffer.concat(parts)
    const head = Buffer.alloc(5)
    head.writeUInt32BE(body.byteLength + 1)
    head[4] = id
    if (!near.destroyed) near.write(Buffer.concat([head, body]))
  }
  near.on("error", () => {})
  near.on("data", (bytes: Buffer) => {
    heard = Buffer.concat([heard, bytes])
    if (!shaken && heard.byteLength >= 68) {
      shaken = true
      heard = heard.subarray(68)
      near.write(Buffer.concat([Buffer.from("\x13BitTorrent protocol", "latin1"), Buffer.alloc(8), Buffer.from(pack.hash, "hex"), Buffer.from("-XX0000-000000000000")]))
      for (const message of opening) near.write(message)
      const count = Math.ceil(pack.ref.length / pack.ref.pieceLength)
      const field = Buffer.alloc(Math.ceil(count / 8))
      for (let index = 0; index < count; index += 1) field[index >> 3] = (field[index >> 3] ?? 0) | (128 >> (index & 7))
      say(5, field)
      say(1)
    }
    while (shaken && heard.byteLength >= 4 && heard.byteLength >= 4 + heard.readUInt32BE()) {
      const length = heard.readUInt32BE()
      const message = heard.subarray(4, 4 + length)
      heard = heard.subarray(4 + length)
      if (message[0] !== 6) continue
      const [index, offset, size] = [message.readUInt32BE(1), message.readUInt32BE(5), message.readUInt32BE(9)]
      const bytes = block(index, offset, size)
      if (bytes === undefined) continue
      sent += bytes.byteLength
      say(7, message.subarray(1, 9), bytes)
    }
  })
  return { stream, sent: () => sent }
}
