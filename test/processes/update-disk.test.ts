/**
 * A disk that is full at a step of an update: the version that runs is not touched, it is said why, and when there is space again the update goes on by itself. The disk is a
 * small file system in memory, so this needs the right to mount one.
 */
import { execFileSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs"
import { setTimeout as delay } from "node:timers/promises"
import t from "tap"
import { eventually, homesOf } from "../daemon-process.ts"
import { namesIn, UpdateHome } from "../durability/update-home.ts"
import { kosTree, openChannelAt, publish } from "../update-tree.ts"

t.setTimeout(300_000)

const bytes = 320 << 20

const mounted = (directory: string): boolean => {
  mkdirSync(directory, { recursive: true })
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", directory], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

t.test("a disk without space leaves the running version alone", async (t) => {
  const directory = homesOf(t)
  const disk = `${directory}/disk`
  if (!mounted(disk)) {
    t.comment("skipped: a file system in memory cannot be mounted here")
    return
  }
  t.teardown(() => { execFileSync("umount", ["-l", disk]) })
  const base = kosTree(`${directory}/base`, "9.0.0")
  const home = new UpdateHome(t, disk, "mill", { KOS_NETWORK_MODE: "isolated" })
  const filler = `${disk}/filler`
  const fill = (left: number): void => {
    const { bavail, bsize } = statfsSync(disk)
    try {
      writeFileSync(filler, Buffer.alloc(Math.max(0, bavail * bsize - left)))
    } catch {
      // Somebody else took the last byte.
    }
  }
  const empty = (): void => rmSync(filler, { force: true })
  await home.start()
  await openChannelAt(home.node, "stable")
  await home.node.ask("config.set", ["update.auto", "all"])

  const running = async () => {
    const { node: { version, pid } } = await home.node.ask("status", [], { codes: [0, 10] })
    return { version, pid }
  }

  /** Publishes, waits for the moment, takes the space away, looks for the reason, and gives it back. */
  const without = async (version: string, at: (last: number) => boolean, left: number, says: RegExp): Promise<void> => {
    const before = (await home.list()).find(({ running }) => running)?.version
    const tree = `${directory}/tree-${version}`
    cpSync(base, tree, { recursive: true })
    writeFileSync(`${tree}/package.json`, readFileSync(`${base}/package.json`, "utf8").replace("9.0.0", version))
    await home.node.ask("update.pause")
    await publish(home.node, "stable", tree, version)
    const last = Number(/^1 (\d+)/.exec(existsSync(`${home.slots}/last`) ? readFileSync(`${home.slots}/last`, "utf8") : "")?.[1] ?? 0)
    let full = false
    const moment = (async () => {
      for (let n = 0; n < 60_000 && !at(last); n++) await delay(1)
      full = at(last)
      fill(left)
    })()
    await home.node.ask("update.resume")
    await moment
    t.ok(full, `${version}: the moment came`)
    let said = ""
    t.ok(await eventually(async () => {
      const rows = await home.node.ask("update.list", ["--all"]).catch(() => [])
      const logs = await home.node.list("logs", ["--limit", "60", "--level", "warn"]).catch(() => [])
      said = [...rows.filter((row) => row.version === version).flatMap(({ waits, reasons }) => [waits, ...reasons]), ...logs.map(({ text }) => text).filter((text) => text.includes(version))].join("; ")
      return says.test(said)
    }), `${version}: it is said why: ${said}`)
    const first = await running()
    t.equal(first.version, before, `${version}: the one before runs`)
    await delay(3_000)
    t.same(await running(), first, `${version}: and does not start again and again`)
    empty()
    const steps = async () => (await home.steps(version)).map(({ step }) => step)
    t.ok(await eventually(async () => (await steps()).at(-1) === "committed", 60_000), `${version}: with space again it goes on: ${(await steps()).join(" ")} ${said}`)
    t.same(home.leftovers(), [], `${version}: nothing is left over`)
  }

  await without("9.1.0", () => true, 20 << 20, /of space, and .* are free/)
  await without("9.2.0", (last) => readdirSync(`${home.slots}/gen`).some((name) => name === `.tmp-${last + 1}`), 0, /space|full|ENOSPC/i)
  await without("9.3.0", () => namesIn(`${home.updates}/rehearsal`).length > 0, 0, /space|full|ENOSPC/i)
})
