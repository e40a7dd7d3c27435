/**
 * automerge-repo as its documentation recommends it for nodes with disks: NodeFS storage on both ends, one network adapter. The
 * adapter is ours: messages in CBOR with a length before each, over one loopback TCP connection (what the websocket adapter
 * does, without masking and HTTP), so the peer does not pay for anything but its own work.
 */
import * as Automerge from "@automerge/automerge"
import { type DocHandle, type DocumentId, type Message, NetworkAdapter, type PeerId, type PeerMetadata, Repo } from "@automerge/automerge-repo"
import { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs"
import { Decoder, Encoder } from "cbor-x"
import * as crypto from "node:crypto"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import type { OtherMain, Side } from "../case.ts"
import { perSecond } from "../case.ts"
import { genesis, type Played, type PlayedBurst } from "../changes.ts"

interface PeerDocument { fields?: Record<string, unknown>; text?: string }

interface Manifest {
  readonly changes: number
  readonly docs: ReadonlyArray<{ readonly id: string; readonly heads: ReadonlyArray<string> }>
}

export const prepareAutomergeRepo = async (dir: string, played: Played, changes: number) => {
  const ids = played.docs.map((_, index) => idOf(index))
  const document = (index: number, rounds: ReadonlyArray<ReadonlyArray<PlayedBurst>>) => {
    const list = rounds.flatMap((round) => round.filter((burst) => burst.doc === index).flatMap((burst) => [...burst.changes]))
    const [doc] = Automerge.applyChanges(Automerge.init<PeerDocument>(), [genesis(), ...list])
    return Automerge.save(doc)
  }
  for (const [name, rounds] of [["away", [played.base]], ["server", [played.base, ...played.rounds]]] as const) {
    const storage = path.join(dir, name)
    fs.mkdirSync(storage, { recursive: true })
    const repo = new Repo({ storage: new NodeFSStorageAdapter(storage), network: [], saveDebounceRate: 1 })
    ids.forEach((id, index) => repo.import(document(index, rounds), { docId: id as DocumentId }))
    await repo.flush()
    await repo.shutdown()
  }
  const manifest: Manifest = { changes, docs: played.heads.map((heads, index) => ({ id: ids[index] ?? "", heads })) }
  fs.writeFileSync(path.join(dir, "manifest.json"), JSON.stringify(manifest))
}

/** A document id is bs58check of 16 bytes; the repo makes them, we want the same in every run. */
const idOf = (index: number): string => {
  const bytes = crypto.createHash("sha256").update(`doc ${index}`).digest().subarray(0, 16)
  const check = crypto.createHash("sha256").update(crypto.createHash("sha256").update(bytes).digest()).digest().subarray(0, 4)
  let number = BigInt(`0x${Buffer.concat([bytes, check]).toString("hex")}`)
  let text = ""
  for (; number > 0n; number /= 58n) text = `${"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[Number(number % 58n)]}${text}`
  return text.padStart(bytes.findIndex((byte) => byte !== 0) + text.length, "1")
}

const loadAll = async (repo: Repo, manifest: Manifest) => {
  const handles: Array<DocHandle<PeerDocument>> = []
  for (const { id } of manifest.docs) handles.push(await repo.find<PeerDocument>(id as DocumentId))
  return handles
}

const readManifest = (fixture: string) => JSON.parse(fs.readFileSync(path.join(fixture, "manifest.json"), "utf8")) as Manifest

/** The node that stayed: everything loaded, listening. */
export const startServer: OtherMain = async (fixture, { dir }) => {
  const storage = path.join(dir, "storage")
  fs.cpSync(path.join(String(fixture), "server"), storage, { recursive: true })
  const repo = new Repo({ storage: new NodeFSStorageAdapter(storage), network: [], peerId: "server" as PeerId })
  await loadAll(repo, readManifest(String(fixture)))
  const server = net.createServer((socket) => repo.networkSubsystem.addNetworkAdapter(new SocketAdapter(socket)))
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  return { port: async () => (typeof address === "object" ? address?.port : undefined) }
}

export const automergeRepoSide = (fixtureName: string): Side => async ({ dir, fixture, other, begin }) => {
  const from = path.join(fixture, fixtureName)
  const manifest = readManifest(from)
  const server = await other(import.meta.filename, "startServer", from)
  const storage = path.join(dir, "storage")
  fs.cpSync(path.join(from, "away"), storage, { recursive: true })
  const repo = new Repo({ storage: new NodeFSStorageAdapter(storage), network: [], peerId: "away" as PeerId })
  const handles = await loadAll(repo, manifest)
  const port = Number(await server.ask("port"))
  const wanted = manifest.docs.map(({ heads }) => heads.join())
  const open = new Set<number>()
  let resolveAll = () => {}
  const all = new Promise<void>((resolve) => (resolveAll = resolve))
  handles.forEach((handle, index) => {
    const check = () => {
      if (Automerge.getHeads(handle.doc()).toSorted().join() !== wanted[index]) return
      open.delete(index)
      if (open.size === 0) resolveAll()
    }
    open.add(index)
    handle.on("heads-changed", check)
    check()
  })
  const end = await begin()
  const socket = net.connect(port, "127.0.0.1")
  repo.networkSubsystem.addNetworkAdapter(new SocketAdapter(socket))
  await all
  const settled = performance.now()
  await repo.flush()
  const flushMs = performance.now() - settled
  const window = await end()
  const measure = perSecond(manifest.changes, window)
  const read = socket.bytesRead
  socket.destroy()
  return { ...measure, detail: { ...measure.detail, "storing ms": flushMs, "bytes per change": read / manifest.changes } }
}

const cbor = { tagUint8Array: false, useRecords: false } as const

class SocketAdapter extends NetworkAdapter {
  readonly #socket: net.Socket
  readonly #encoder = new Encoder(cbor)
  readonly #decoder = new Decoder(cbor)
  #parts: Array<Buffer> = []
  #gathered = 0

  constructor(socket: net.Socket) {
    super()
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on("error", () => {})
  }

  isReady() {
    return true
  }

  whenReady() {
    return Promise.resolve()
  }

  connect(peerId: PeerId, peerMetadata?: PeerMetadata) {
    this.peerId = peerId
    this.#socket.on("data", (bytes) => this.#read(bytes))
    this.#socket.on("close", () => this.emit("close"))
    this.#write({ type: "hello", senderId: peerId, peerMetadata: peerMetadata ?? {} })
  }

  send(message: Message) {
    this.#write(message)
  }

  disconnect() {
    this.#socket.destroy()
  }

  #write(message: unknown) {
    const bytes = this.#encoder.encode(message)
    const head = Buffer.alloc(4)
    head.writeUInt32LE(bytes.byteLength)
    this.#socket.cork()
    this.#socket.write(head)
    this.#socket.write(bytes)
    this.#socket.uncork()
  }

  #read(bytes: Buffer) {
    this.#parts.push(bytes)
    this.#gathered += bytes.byteLength
    while (this.#gathered >= 4) {
      let whole = this.#parts[0] ?? Buffer.alloc(0)
      const need = () => (whole.byteLength >= 4 ? 4 + whole.readUInt32LE(0) : Infinity)
      if (whole.byteLength < 4 || whole.byteLength < need()) {
        if (whole.byteLength >= 4 && this.#gathered < need()) return
        whole = Buffer.concat(this.#parts)
        this.#parts = [whole]
        if (whole.byteLength < need()) return
      }
      const message = this.#decoder.decode(whole.subarray(4, need())) as Message & { peerMetadata?: PeerMetadata }
      this.#parts[0] = whole.subarray(need())
      this.#gathered -= need()
      if (message.type === "hello") this.emit("peer-candidate", { peerId: message.senderId, peerMetadata: message.peerMetadata ?? {} })
      else this.emit("message", { ...message, ...("data" in message && message.data !== undefined ? { data: new Uint8Array(message.data) } : {}) } as Message)
    }
  }
}
