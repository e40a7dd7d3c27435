import { execFile, spawn, type ChildProcess } from "node:child_process"
import * as fs from "node:fs"
import * as http from "node:http"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import type { BenchCase, Side } from "../case.ts"
import { privateDht } from "../kos-logs.ts"
import { openHomeJournal } from "../kos.ts"
import { openHome, release } from "./metadata.ts"

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url))
const readyMsMax = 120_000
const pollMs = 10
/** The first seconds after a start are not idle: caches fill, the DHT is asked. */
const settleMs = 15_000
const unitEvents = 250
const releases = 50

const start = async (home: string, dhtPort: number) => {
  const from = performance.now()
  const child = spawn(process.execPath, ["--max-semi-space-size=4", main, "daemon", "run", "--home", home], {
    env: { ...process.env, KOS_BOOTSTRAP: `127.0.0.1:${dhtPort}` }, stdio: ["ignore", "ignore", "inherit"]
  })
  let ended = false
  child.once("exit", () => (ended = true))
  while (!(await ready(path.join(home, "run", "kos.sock")))) {
    if (ended) throw new Error("the daemon ended")
    if (performance.now() - from > readyMsMax) throw new Error(`not ready after ${readyMsMax} ms`)
    await new Promise((resolve) => setTimeout(resolve, pollMs))
  }
  return { child, readyMs: performance.now() - from }
}

const stop = async (child: ChildProcess) => {
  const gone = new Promise((resolve) => child.once("exit", resolve))
  child.kill("SIGTERM")
  const timer = setTimeout(() => child.kill("SIGKILL"), 20_000)
  await gone
  clearTimeout(timer)
}

const ready = (socketPath: string) => new Promise<boolean>((resolve) => {
  const request = http.get({ socketPath, path: "/readyz", timeout: 2_000 }, (response) => {
    response.resume()
    resolve(response.statusCode === 200)
  })
  request.on("error", () => resolve(false))
  request.on("timeout", () => request.destroy())
})

const memory = (pid: number) => {
  const status = fs.readFileSync(`/proc/${pid}/status`, "utf8")
  const kib = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0)
  return { residentMiB: kib("VmRSS") / 1024, fileMiB: kib("RssFile") / 1024 }
}

/** A fresh start of the home that `prepare` made, and how it is after a while of doing nothing. */
const idle = async (home: string, dhtPort: number, short: boolean) => {
  const { child, readyMs } = await start(home, dhtPort)
  await new Promise((resolve) => setTimeout(resolve, short ? 3_000 : settleMs))
  const { residentMiB, fileMiB } = memory(child.pid ?? 0)
  const stat = fs.readFileSync(`/proc/${child.pid}/stat`, "utf8").split(" ")
  const cpuMs = (Number(stat[13]) + Number(stat[14])) * 10
  const processes = fs.readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim().split(" ").filter((pid) => pid !== "").length
  return { child, measure: { value: residentMiB, wallMs: readyMs, cpuMs, detail: { "ready ms": readyMs, "of it mapped files MiB": fileMiB, "processes it started": processes } } }
}

const kos: Side = async ({ fixture, dir, short }) => {
  const dht = await privateDht()
  // A home stays where it is: its store knows its place. Runs follow one another.
  const { child, measure } = await idle(path.join(fixture, "home"), dht.port, short)
  await stop(child)
  await dht.stop()
  fs.rmSync(dir, { recursive: true, force: true })
  return measure
}

const cli = async (home: string, ...argv: ReadonlyArray<string>) => {
  const { stdout } = await promisify(execFile)(process.execPath, [main, ...argv, "--home", home, "--json"])
  return stdout
}

/** The same home, which follows a channel that is held whole, and fetches none of its releases. */
const followed: Side = async ({ fixture, dir, short }) => {
  const dht = await privateDht()
  const home = path.join(fixture, "home")
  const channel = await openHome(path.join(home, "updates"), Date.now())
  for (let n = 0; n < releases; n += 1) await release(channel.repo, n)
  await channel.give()
  await channel.close()
  const before = await start(home, dht.port)
  await cli(home, "config", "set", "update.auto", "off")
  await cli(home, "update", "channel", "bench", "--follow", channel.code(), "--layer", "node")
  await stop(before.child)
  const { child, measure } = await idle(home, dht.port, short)
  const seen = await cli(home, "update", "channel")
  if (!/"trust": ?"fresh"/.test(seen)) throw new Error(`the channel is not followed: ${seen}`)
  await cli(home, "update", "channel", "bench", "--unfollow", "--layer", "node")
  await stop(child)
  await dht.stop()
  fs.rmSync(path.join(home, "updates"), { recursive: true, force: true })
  fs.rmSync(dir, { recursive: true, force: true })
  return measure
}

/** A first run, then 100,000 events written into the stopped node's log, then one start that folds them. */
const prepare = async ({ dir, short }: { readonly dir: string; readonly short: boolean }) => {
  const home = path.join(dir, "home")
  const dht = await privateDht()
  await stop((await start(home, dht.port)).child)
  const journal = await openHomeJournal(home)
  const body = { uptimeSeconds: 1, memoryBytes: 1, diskFreeBytes: 1, peers: 0, events: 0 }
  const draft = { type: "node.measured/1", actor: "device", subject: "node", command: "", cause: [], body }
  for (let at = 0; at < (short ? 5_000 : 100_000); at += unitEvents) await journal.append(Array.from({ length: unitEvents }, (_, i) => ({ ...draft, body: { ...body, events: at + i } })))
  await journal.close()
  await stop((await start(home, dht.port)).child)
  await dht.stop()
}

export const benchCase: BenchCase = {
  name: "daemon",
  about: "The daemon of a node with 100,000 events: from its start until /readyz says yes, and its resident memory 15 s later; alone, and following a channel of 50 releases of which it fetches none.",
  secondsMax: 300,
  prepare,
  sides: { kos, followed },
  rows: [
    { title: "idle daemon, resident memory", unit: "MiB", ours: { side: "kos" }, target: { kind: "value-max", value: 150 } },
    { title: "the same, following a channel", unit: "MiB", ours: { side: "followed" }, target: { kind: "report" } },
    { title: "processes that it starts for a channel of which nothing is fetched", unit: "", ours: { side: "followed", detail: "processes it started" }, target: { kind: "value-max", value: 0 } },
    { title: "start to ready with 100,000 events", unit: "ms", ours: { side: "kos", detail: "ready ms" }, target: { kind: "report" } }
  ]
}
