/**
 * The launcher with real daemons. A slot is a tree with its own sources and version; its packages are a link to those that are installed here.
 *
 * What the engine does in a daemon on trial, `good`, is done by the test, from outside.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { resolve } from "node:path"
import t, { type Test } from "tap"
import { holder } from "../../src/boot/lock.ts"
import { openDirectorySlots } from "../../src/boot/slots-directories.ts"
import { eventually, homesOf, kos } from "../daemon-process.ts"
import { releaseId } from "../slots-help.ts"

t.setTimeout(120_000)

const root = resolve(import.meta.dirname, "../..")
const caches = `${tmpdir()}/kos-test-caches-${process.getuid?.() ?? 0}`

const writeTree = async (directory: string, version: string, broken: boolean): Promise<void> => {
  cpSync(`${root}/src`, `${directory}/src`, { recursive: true })
  mkdirSync(`${directory}/bin`)
  cpSync(`${root}/bin/kos`, `${directory}/bin/kos`)
  writeFileSync(`${directory}/package.json`, readFileSync(`${root}/package.json`, "utf8").replace(/"version": "[^"]*"/, `"version": "${version}"`))
  if (broken) writeFileSync(`${directory}/src/boot/daemon.ts`, "throw new Error(\"this version does not start\")\n")
  symlinkSync(`${root}/node_modules`, `${directory}/node_modules`)
}

const launch = (t: Test, home: string): { readonly child: ChildProcess; readonly out: () => string; readonly err: () => string } => {
  const child = spawn("env", ["-u", "NODE_OPTIONS", `${root}/bin/kos-launch`, "--home", home, "--json", "daemon", "run", "--lan-only", "--name", "alpha"], {
    cwd: "/", stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env["PATH"] ?? "", HOME: caches, XDG_CACHE_HOME: caches, KOS_NETWORK_MODE: "isolated" }
  })
  let out = ""
  let err = ""
  child.stdout.on("data", (part: Buffer) => { out += part.toString() })
  child.stderr.on("data", (part: Buffer) => { err += part.toString() })
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const closed = once(child, "exit")
    child.kill("SIGTERM")
    await closed
  })
  return { child, out: () => out, err: () => err }
}

const started = (out: string): number => out.split("\n").filter((line) => line.startsWith("{")).length
const versions = async (home: string): Promise<ReadonlyArray<string>> => {
  const { out } = await kos(["--home", home, "events", "--type", "node.started/1", "--json"])
  return [...out.matchAll(/kOS (\d+\.\d+\.\d+)|"version": ?"(\d+\.\d+\.\d+)"/g)].map(([, a, b]) => a ?? b ?? "")
}

t.test("a good version takes over, a broken one does not, and the node's events are all there", async (t) => {
  const home = `${homesOf(t)}/home`
  const own = /"version": "([^"]*)"/.exec(readFileSync(`${root}/package.json`, "utf8"))?.[1] ?? ""
  const slots = await openDirectorySlots({ root: `${home}/updates/slots/kos`, name: "kos", factory: { version: own, path: root } })
  const stage = async (n: number, broken: boolean): Promise<number> => {
    const { generation } = await slots.stage({ name: "kos", version: `9.9.${n}`, release: releaseId(n), write: (directory) => writeTree(directory, `9.9.${n}`, broken) })
    await slots.activate(generation, { tries: 2, deadlineMs: 120_000 })
    return generation
  }
  const runs = async (trial: boolean): Promise<void> => {
    const run = launch(t, home)
    t.ok(await eventually(() => started(run.out()) === 1 || run.child.exitCode !== null), "a daemon is ready")
    t.equal(started(run.out()), 1, run.err())
    if (trial) await slots.good((await slots.list()).find(({ state }) => state === "trial")?.generation ?? 0)
    const pid = Number(readFileSync(`${home}/run/kos.pid`, "utf8").split(" ")[0])
    t.match(readFileSync(`/proc/${pid}/environ`, "utf8"), /KOS_LAUNCHER=1/)
    const closed = once(run.child, "exit")
    run.child.kill("SIGTERM")
    t.same((await closed)[0], 0, "asked to stop, it ends as the daemon does")
    t.notOk(existsSync(`/proc/${pid}`))
  }
  await runs(false)
  t.equal((await slots.current()).generation, 0)
  await stage(1, false)
  await runs(true)
  t.match(await slots.current(), { generation: 1, version: "9.9.1" })
  const bad = await stage(2, true)
  const run = launch(t, home)
  t.ok(await eventually(() => started(run.out()) === 1), "the version before the broken one runs")
  t.match(await slots.failed(), { slot: { generation: bad }, why: /it ended with code \d+ after \d+ s, in try 2 of 2/ })
  t.match(run.err(), /this version does not start/)
  const said = await versions(home)
  t.same([...said].sort(), [own, "9.9.1", "9.9.1"].sort(), "which versions ran stands in the log")
  const second = launch(t, home)
  const [code] = await once(second.child, "exit") as [number]
  t.equal(code, 6, "a second launcher is refused")
  // Its launcher is killed: the daemon sees that, and stops; the next launcher waits for it and starts the same version.
  const before = await holder(home)
  const dead = once(run.child, "exit")
  run.child.kill("SIGKILL")
  await dead
  const next = launch(t, home)
  t.ok(await eventually(() => started(next.out()) === 1 || next.child.exitCode !== null), "the next launcher's daemon is ready")
  t.equal(started(next.out()), 1, next.err())
  t.match(next.err(), new RegExp(`waiting for the daemon ${before}`))
  t.not(await holder(home), before, "the daemon that had no launcher is gone")
  t.notOk(existsSync(`/proc/${before}`) && /^\d+ \(.*\) [^Z]/.test(readFileSync(`/proc/${before}/stat`, "utf8")))
})
