import { spawn, type ChildProcess } from "node:child_process"
import * as fs from "node:fs"
import * as http from "node:http"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import type { BenchCase, Side } from "../case.ts"
import { privateDht } from "../kos-logs.ts"
import { openHomeJournal } from "../kos.ts"

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url))
const readyMsMax = 120_000
const pollMs = 10
/** The first seconds after a start are not idle: caches fill, the DHT is asked. */
const settleMs = 15_000
const unitEvents = 250

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

const kos: Side = async ({ fixture, dir, short }) => {
  const dht = await privateDht()
  // A home stays where it is: its store knows its place. Runs follow one another.
  const { child, readyMs } = await start(path.join(fixture, "home"), dht.port)
  await new Promise((resolve) => setTimeout(resolve, short ? 3_000 : settleMs))
  const { residentMiB, fileMiB } = memory(child.pid ?? 0)
  const stat = fs.readFileSync(`/proc/${child.pid}/stat`, "utf8").split(" ")
  const cpuMs = (Number(stat[13]) + Number(stat[14])) * 10
  await stop(child)
  await dht.stop()
  fs.rmSync(dir, { recursive: true, force: true })
  return { value: residentMiB, wallMs: readyMs, cpuMs, detail: { "ready ms": readyMs, "of it mapped files MiB": fileMiB } }
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
  about: "The daemon of a node with 100,000 events: from its start until /readyz says yes, and its resident memory 15 s later.",
  secondsMax: 300,
  prepare,
  sides: { kos },
  rows: [
    { title: "idle daemon, resident memory", unit: "MiB", ours: { side: "kos" }, target: { kind: "value-max", value: 150 } },
    { title: "start to ready with 100,000 events", unit: "ms", ours: { side: "kos", detail: "ready ms" }, target: { kind: "report" } }
  ]
}
