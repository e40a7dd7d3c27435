import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import type { BenchCase, OtherMain, Side } from "../case.ts"
import { benchKeyPair, logManifest } from "../kos.ts"
import { copyHome, deviceOf, openLogsNode, tcpCarrier } from "../kos-logs.ts"
import { payloadBytes } from "../payload.ts"

const lengthBefore = 4
const growth = 4

export interface LogsManifest {
  readonly logs: ReadonlyArray<{ readonly key: string; readonly before: number; readonly after: number }>
}

export const readManifest = (fixture: string) => JSON.parse(fs.readFileSync(path.join(fixture, "manifest.json"), "utf8")) as LogsManifest

interface Core {
  readonly key: Buffer
  readonly length: number
  readonly contiguousLength: number
  ready(): Promise<void>
  append(blocks: ReadonlyArray<Buffer>, options: object): Promise<unknown>
  download(range: { start: number; end: number }): unknown
  on(event: string, listener: () => void): void
  close(): Promise<void>
}
interface Store {
  get(options: object): Core
  replicate(initiator: boolean): NodeJS.ReadWriteStream & { on(event: "error", listener: () => void): void; destroy(): void }
  ready(): Promise<void>
  close(): Promise<void>
}

const openStore = async (dir: string): Promise<Store> => {
  const { default: Corestore } = await import("corestore")
  const store = new Corestore(dir, { allowBackup: true } as object) as unknown as Store
  await store.ready()
  return store
}

const prepare = async ({ dir, short }: { readonly dir: string; readonly short: boolean }) => {
  const [count, changed] = short ? [100, 5] : [1_000, 50]
  const server = path.join(dir, "server", "logs")
  fs.mkdirSync(server, { recursive: true })
  const logs: Array<{ key: string; before: number; after: number }> = []
  const append = async (store: Store, index: number, blocks: number) => {
    const pair = benchKeyPair(`log ${index}`)
    const core = store.get({ manifest: logManifest(pair.publicKey) })
    await core.ready()
    await core.append(Array.from({ length: blocks }, () => Buffer.alloc(payloadBytes * 4, index & 255)), { keyPair: pair })
    const key = core.key.toString("hex")
    await core.close()
    return key
  }
  let store = await openStore(server)
  for (let i = 0; i < count; i++) logs.push({ key: await append(store, i, lengthBefore), before: lengthBefore, after: lengthBefore + (i % (count / changed) === 0 ? growth : 0) })
  await store.close()
  copyHome(path.join(dir, "server"), path.join(dir, "away"))
  store = await openStore(server)
  for (const [i, log] of logs.entries()) if (log.after > log.before) await append(store, i, log.after - log.before)
  await store.close()
  fs.writeFileSync(path.join(dir, "manifest.json"), JSON.stringify({ logs }))
  const mesh = meshOf({ logs })
  const stayed = await openLogsNode(path.join(dir, "server"), "server", mesh, () => [])
  const away = await openLogsNode(path.join(dir, "away"), "away", mesh, () => [])
  for (const node of [stayed, away]) node.tables.transaction(() => logs.forEach(({ key, before }) => node.tables.heads.grew(key, before)))
  for (const { key, before } of logs) away.tables.receipts.holds(deviceOf("server"), key, before)
  away.tables.receipts.setCursor(deviceOf("server"), stayed.tables.heads.sequenceId(), stayed.tables.heads.sequence())
  for (const { key, after } of logs) stayed.tables.heads.grew(key, after)
  await stayed.close()
  await away.close()
}

const meshOf = ({ logs }: LogsManifest) => ({ devices: [deviceOf("server"), deviceOf("away")], logs: logs.map(({ key }) => key) })

export const startKos: OtherMain = async (fixture, { dir }) => {
  copyHome(path.join(String(fixture), "server"), dir)
  let port = 0
  const node = await openLogsNode(dir, "server", meshOf(readManifest(String(fixture))), () => [tcpCarrier(0, (listening) => (port = listening))])
  await node.swarm.start()
  return { port: async () => port, stop: () => node.close() }
}

const kos: Side = async ({ dir, fixture, other, begin }) => {
  const manifest = readManifest(fixture)
  const server = await other(import.meta.filename, "startKos", fixture)
  const port = Number(await server.ask("port"))
  copyHome(path.join(fixture, "away"), dir)
  const node = await openLogsNode(dir, "away", meshOf(manifest), () => [tcpCarrier(port)])
  const waiting = new Map(manifest.logs.filter(({ before, after }) => after > before).map(({ key, after }) => [key, after]))
  const done = new Promise<void>((resolve) => node.onGrew((log, length) => {
    if (length >= (waiting.get(log) ?? Infinity)) waiting.delete(log)
    if (waiting.size === 0) resolve()
  }))
  const end = await begin()
  await node.swarm.start()
  await done
  const window = await end()
  const [session] = node.swarm.sessions()
  await node.close()
  return { ...window, value: window.wallMs, detail: { "heads received": session?.headsReceived ?? 0 } }
}

/** Every log opened at both ends over one connection, as Corestore's own examples do; the server's are open before the clock starts. */
export const startOpenAll: OtherMain = async (fixture, { dir }) => {
  fs.cpSync(path.join(String(fixture), "server", "logs"), path.join(dir, "logs"), { recursive: true })
  const store = await openStore(path.join(dir, "logs"))
  for (const { key } of readManifest(String(fixture)).logs) await store.get({ key: Buffer.from(key, "hex") }).ready()
  const server = net.createServer((socket) => {
    const stream = store.replicate(false)
    stream.on("error", () => {})
    socket.on("error", () => {})
    socket.setNoDelay(true)
    stream.pipe(socket).pipe(stream)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  return { port: async () => (typeof address === "object" ? address?.port : undefined) }
}

const openAll: Side = async ({ dir, fixture, other, begin }) => {
  const { logs } = readManifest(fixture)
  const server = await other(import.meta.filename, "startOpenAll", fixture)
  const port = Number(await server.ask("port"))
  fs.cpSync(path.join(fixture, "away", "logs"), path.join(dir, "logs"), { recursive: true })
  const store = await openStore(path.join(dir, "logs"))
  const end = await begin()
  const socket = net.connect(port, "127.0.0.1")
  socket.setNoDelay(true)
  socket.on("error", () => {})
  const stream = store.replicate(true)
  stream.on("error", () => {})
  stream.pipe(socket).pipe(stream)
  let left = 0
  await new Promise<void>((resolve, reject) => {
    const opening = logs.map(async ({ key, after }) => {
      const core = store.get({ key: Buffer.from(key, "hex") })
      await core.ready()
      core.download({ start: 0, end: -1 })
      if (core.contiguousLength >= after) return
      left += 1
      let done = false
      core.on("download", () => {
        if (done || core.contiguousLength < after) return
        done = true
        left -= 1
        if (left === 0) resolve()
      })
    })
    Promise.all(opening).catch(reject)
  })
  const window = await end()
  stream.destroy()
  socket.destroy()
  return { ...window, value: window.wallMs }
}

export const benchCase: BenchCase = {
  name: "thousand-logs",
  about: "A node back among 1,000 logs of which 50 grew by 4 blocks: time from connecting until all 50 are held, handshake and heads exchange included; against opening and replicating all of them. One loopback TCP connection, both ends on disk.",
  secondsMax: 120,
  prepare,
  sides: { kos, "open-all": openAll },
  rows: [
    { title: "back among 1,000 logs, 50 changed: lazy against open-all", unit: "ms", ours: { side: "kos" }, peer: { side: "open-all" }, ratio: "peer/ours", target: { kind: "ratio-min", value: 8 } }
  ]
}
