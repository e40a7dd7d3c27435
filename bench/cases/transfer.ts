import { spawn, spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { once } from "node:events"
import { closeSync, createReadStream, createWriteStream, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs"
import { createServer as createHttpServer, get, type IncomingMessage } from "node:http"
import { connect, createServer, type AddressInfo, type Socket } from "node:net"
import { join } from "node:path"
import { Transform } from "node:stream"
import { pipeline } from "node:stream/promises"
import { setTimeout as delay } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { hashPieces, torrentFile } from "../../src/updates/payload/torrent.ts"
import type { PackRef } from "../../src/updates/ports.ts"
import { openTransfer, type OwnTransfer } from "../../src/updates/transfer/transfer.ts"
import type { BenchCase, Measure, OtherMain, Side, SideContext } from "../case.ts"
import { NotYet } from "../case.ts"
import { seeded } from "../workload.ts"
import type { MeshBy } from "./transfer-mesh.ts"

const mebibyte = 1 << 20
const here = fileURLToPath(import.meta.url)

/** MiB of the file, by what is measured. */
const sizes = { lan: (short: boolean) => (short ? 32 : 500), five: (short: boolean) => (short ? 16 : 200), memory: (short: boolean) => (short ? 64 : 1_024) }
const fileOf = (fixture: string, mib: number): string => join(fixture, `pack-${mib}`)

/** Noise that is not made anew for each MiB: what is in it does not matter. */
const writeNoise = async (path: string, mib: number): Promise<void> => {
  const random = seeded(mib)
  const block = Buffer.allocUnsafe(mebibyte)
  for (let at = 0; at < mebibyte; at += 4) block.writeUInt32LE((random() * 4_294_967_296) >>> 0, at)
  const out = createWriteStream(path)
  for (let n = 0; n < mib; n += 1) {
    const next = Buffer.from(block)
    next.writeUInt32LE(n, 0)
    if (!out.write(next)) await once(out, "drain")
  }
  out.end()
  await once(out, "finish")
}

const prepare = async ({ dir, short }: { readonly dir: string; readonly short: boolean }): Promise<void> => {
  for (const size of Object.values(sizes)) {
    const path = fileOf(dir, size(short))
    if (existsSync(path)) continue
    await writeNoise(path, size(short))
    // Else the first sides would wait for this file's way to the disk.
    const fd = openSync(path, "r+")
    fsyncSync(fd)
    closeSync(fd)
    const { pieces, ...ref } = await hashPieces(path)
    writeFileSync(`${path}.ref`, JSON.stringify({ ...ref, pieces: Buffer.from(pieces).toString("base64") }))
  }
}

const refOf = (path: string): PackRef => {
  const { pieces, ...ref } = JSON.parse(readFileSync(`${path}.ref`, "utf8")) as Omit<PackRef, "pieces"> & { readonly pieces: string }
  return { ...ref, pieces: Buffer.from(pieces, "base64") }
}

const tcpPair = async (): Promise<readonly [Socket, Socket]> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const one = connect((server.address() as AddressInfo).port, "127.0.0.1")
  const [other] = (await once(server, "connection")) as [Socket]
  server.close()
  return [one, other]
}

const deviceOf = (n: number): string => createHash("sha256").update(String(n)).digest("hex")

/** Milliseconds of processor time and the highest memory of a process, as the kernel tells. */
export const costOf = (pid: number | undefined): { readonly cpuMs: number; readonly peakMiB: number } => {
  if (pid === undefined) return { cpuMs: 0, peakMiB: 0 }
  const cells = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ")
  const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0)
  return { cpuMs: (Number(cells[11]) + Number(cells[12])) * 10, peakMiB: peak / 1_024 }
}

/** One node that has the pack, others that fetch it, all of them joined by TCP on loopback as devices of one LAN are. */
const fetching = (size: (short: boolean) => number, leechers: number): Side => async ({ dir, fixture, short, begin }) => {
  const path = fileOf(fixture, size(short))
  const ref = refOf(path)
  const small = join(dir, "small")
  writeFileSync(small, Buffer.alloc(mebibyte, 1))
  const first = await hashPieces(small)
  const sides: Array<OwnTransfer> = []
  for (let n = 0; n <= leechers; n += 1) {
    const home = join(dir, `side-${n}`)
    mkdirSync(home)
    sides.push(openTransfer({ device: deviceOf(n), directory: join(home, "packs"), run: join(home, "run"), now: () => performance.now(), notice: (text) => { process.stderr.write(`${text}\n`) } }))
  }
  const [seeder, ...others] = sides
  if (seeder === undefined) throw new Error("nobody has it")
  const joins = new Set<string>()
  for (const [n, side] of sides.entries()) {
    side.onWanted((wanted) => {
      for (const [m, other] of sides.entries()) {
        const [low, high] = [Math.min(n, m), Math.max(n, m)]
        // Each two are joined once, whoever asks.
        const pair = `${wanted} ${low} ${high}`
        if (n === m || joins.has(pair)) continue
        joins.add(pair)
        void tcpPair().then(([x, y]) => {
          void side.addWire(wanted, { device: deviceOf(m), carrier: "lan", stream: x })
          void other.addWire(wanted, { device: deviceOf(n), carrier: "lan", stream: y })
        })
      }
    })
  }
  try {
    for (const [pack, from] of [[first, small], [ref, path]] as const) {
      await seeder.take(pack, from)
      await seeder.seed(pack)
    }
    // The processes are started by something small before the window begins.
    await Promise.all(others.map((side) => side.ensure(first, [{ offset: 0, length: first.length }], { signal: AbortSignal.timeout(60_000) })))
    const pids = await Promise.all(sides.map(async (side) => (await side.status()).pid))
    const before = pids.map((pid) => costOf(pid).cpuMs)
    const end = await begin()
    await Promise.all(others.map((side) => side.ensure(ref, [{ offset: 0, length: ref.length }], { signal: AbortSignal.timeout(280_000) })))
    const window = await end()
    const costs = pids.map(costOf)
    const cpuMs = window.cpuMs + costs.reduce((sum, cost, n) => sum + cost.cpuMs - (before[n] ?? 0), 0)
    const seeds = (await seeder.status()).seeds.find((seed) => seed.pack === ref.sha256)
    if (await others[0]?.file(ref.sha256) === undefined) throw new Error("what was fetched is not the pack")
    return measured(window.wallMs, cpuMs, ref.length, {
      "process MiB": Math.max(...costs.map((cost) => cost.peakMiB)), "seeder MiB": costs[0]?.peakMiB ?? 0, "leecher MiB": costs[1]?.peakMiB ?? 0,
      "sent by the first, of the pack": (seeds?.uploaded ?? 0) / ref.length
    })
  } finally {
    await Promise.all(sides.map((side) => side.close()))
  }
}

export const measured = (wallMs: number, cpuMs: number, bytes: number, more: Readonly<Record<string, number>> = {}): Measure =>
  ({ value: wallMs / 1_000, wallMs, cpuMs, detail: { "CPU s": cpuMs / 1_000, "MB/s": bytes / wallMs / 1_000, ...more } })

/** A plain mirror. */
export const startMirror: OtherMain = async (path) => {
  if (typeof path !== "string") throw new Error("no path")
  const server = createHttpServer((_request, response) => { createReadStream(path, { highWaterMark: mebibyte }).pipe(response) }).listen(0, "127.0.0.1")
  await once(server, "listening")
  return { port: async () => (server.address() as AddressInfo).port }
}

/** Somebody who takes a file from it, hashing it while it is written. */
export const startClient: OtherMain = async (_argument, { dir }) => ({
  take: async (port) => {
    const [response] = (await once(get({ port: Number(port), host: "127.0.0.1", agent: false }), "response")) as [IncomingMessage]
    const hash = createHash("sha256")
    const hashing = new Transform({ transform: (bytes: Buffer, _encoding, done) => { hash.update(bytes); done(null, bytes) } })
    await pipeline(response, hashing, createWriteStream(join(dir, "file")))
    return hash.digest("hex")
  }
})

const overHttp = (size: (short: boolean) => number, clients: number): Side => async ({ fixture, short, other, begin }) => {
  const path = fileOf(fixture, size(short))
  const ref = refOf(path)
  const mirror = await other(here, "startMirror", path)
  const port = await mirror.ask("port")
  const all = await Promise.all(Array.from({ length: clients }, () => other(here, "startClient")))
  const end = await begin()
  const hashes = await Promise.all(all.map((client) => client.ask("take", port)))
  const { wallMs, cpuMs } = await end()
  if (hashes.some((hash) => hash !== ref.sha256)) throw new Error("what was fetched is not the pack")
  return measured(wallMs, cpuMs, ref.length)
}

/** aria2 at both ends, through this product's tracker: its own way from peer to peer needs one. */
const aria2: Side = async ({ dir, fixture, short, begin }) => {
  if (spawnSync("aria2c", ["--version"], { stdio: "ignore" }).status !== 0) throw new NotYet("aria2 on this machine")
  const path = fileOf(fixture, sizes.lan(short))
  const ref = refOf(path)
  const torrent = join(dir, "pack.torrent")
  writeFileSync(torrent, torrentFile(ref))
  const mesh = openTransfer({ device: deviceOf(0), directory: join(dir, "packs"), run: join(dir, "run"), now: () => performance.now(), notice: () => {}, tracker: { host: "127.0.0.1", port: 0 } })
  const own = async (name: string, seeding: boolean) => {
    const home = join(dir, name)
    mkdirSync(home)
    if (seeding) await pipeline(createReadStream(path), createWriteStream(join(home, ref.sha256)))
    return spawn("aria2c", [
      "--no-conf", "--quiet", `--dir=${home}`, `--bt-tracker=${await mesh.tracker() ?? ""}`, "--enable-dht=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false", "--file-allocation=none",
      "--bt-tracker-interval=1", ...seeding ? ["--check-integrity=true", "--seed-ratio=0.0"] : ["--seed-time=0"], torrent
    ], { stdio: "ignore" })
  }
  await mesh.seed(ref)
  const seeder = await own("seeder", true)
  try {
    await delay(3_000)
    const before = costOf(seeder.pid).cpuMs
    const end = await begin()
    const leecher = await own("leecher", false)
    let cpuMs = 0
    const watching = setInterval(() => { cpuMs = costOf(leecher.pid).cpuMs }, 50)
    await once(leecher, "exit")
    clearInterval(watching)
    const window = await end()
    return measured(window.wallMs, window.cpuMs + cpuMs + costOf(seeder.pid).cpuMs - before, ref.length)
  } finally {
    seeder.kill("SIGKILL")
    await mesh.close()
  }
}

/** The same file between two whole nodes in touch. */
const overMesh = (by: MeshBy): Side => async (context: SideContext) => {
  const { meshFetch } = await import("./transfer-mesh.ts")
  const path = fileOf(context.fixture, sizes.lan(context.short))
  return meshFetch(context, path, refOf(path), by)
}

const within = (times: number) => ({ kind: "ratio-min", value: Number((1 / times).toFixed(3)) }) as const

export const benchCase: BenchCase = {
  name: "transfer",
  about: "A pack from one node to another over TCP, from one to five that also give it to each other, and how much memory the process takes for a large one; against a plain HTTP mirror whose clients hash what they write, and aria2.",
  secondsMax: 300,
  prepare,
  sides: {
    lan: fetching(sizes.lan, 1), http: overHttp(sizes.lan, 1), mesh: overMesh("udx"), "mesh-tcp": overMesh("tcp"), lane: overMesh("lane"), aria2, five: fetching(sizes.five, 5), "http-five": overHttp(sizes.five, 5), large: fetching(sizes.memory, 1)
  },
  rows: [
    { title: "one fetches over TCP, time, against HTTP (at most 2.5 times)", unit: "s", ours: { side: "lan" }, peer: { side: "http" }, ratio: "peer/ours", target: within(2.5) },
    { title: "the same, processor time of both ends", unit: "s", ours: { side: "lan", detail: "CPU s" }, peer: { side: "http", detail: "CPU s" }, ratio: "peer/ours", target: within(2.5) },
    { title: "one fetches over the mesh, time, against HTTP (at most 6 times)", unit: "s", ours: { side: "mesh" }, peer: { side: "http" }, ratio: "peer/ours", target: within(6) },
    { title: "the same, processor time of both ends", unit: "s", ours: { side: "mesh", detail: "CPU s" }, peer: { side: "http", detail: "CPU s" }, ratio: "peer/ours", target: { kind: "report" } },
    { title: "one fetches over a session by TCP, as in a LAN, time, against HTTP", unit: "s", ours: { side: "mesh-tcp" }, peer: { side: "http" }, ratio: "peer/ours", target: { kind: "report" } },
    { title: "one fetches over the lane that two nodes in touch make, time, against HTTP", unit: "s", ours: { side: "lane" }, peer: { side: "http" }, ratio: "peer/ours", target: within(2.5) },
    { title: "one fetches over TCP, time, against aria2", unit: "s", ours: { side: "lan" }, peer: { side: "aria2" }, ratio: "peer/ours", target: { kind: "report" } },
    { title: "five fetch, time, against HTTP (at most 2.5 times)", unit: "s", ours: { side: "five" }, peer: { side: "http-five" }, ratio: "peer/ours", target: within(2.5) },
    { title: "the same, processor time of all", unit: "s", ours: { side: "five", detail: "CPU s" }, peer: { side: "http-five", detail: "CPU s" }, ratio: "peer/ours", target: within(2.5) },
    { title: "what the first sends when five fetch, in packs", unit: "packs", ours: { side: "five", detail: "sent by the first, of the pack" }, target: { kind: "report" } },
    { title: "memory of the transfer process, a pack of 1 GiB", unit: "MiB", ours: { side: "large", detail: "process MiB" }, target: { kind: "value-max", value: 350 } }
  ]
}
