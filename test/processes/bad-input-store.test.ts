/** A store that was torn or damaged, and disks that are full or read-only, as a person meets them. */
import { execFileSync } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import t, { type Test } from "tap"
import { eventsOf, flip, offlineLength, tear, write } from "../daemon-damage.ts"
import { eventually, homesOf, kos, problemOf, testNode, TestNode } from "../daemon-process.ts"

t.setTimeout(110_000)

t.test("alone, a log that lost blocks is closed for ever and a new one says how many; nothing is overwritten", async (t) => {
  for (const [what, damage] of [["torn", (node: TestNode) => tear(node, 0.6)], ["flipped", (node: TestNode) => flip(node, 0.6)]] as const) {
    const node = testNode(t, homesOf(t), { name: "alpha", isolated: true })
    await node.start()
    await write(node, 0, 12)
    const before = await node.ask("status")
    await node.stop()
    const length = (await offlineLength(node)).length
    damage(node)
    await node.start()
    const after = await node.until("status", [], ({ node: { ready } }) => ready)
    t.not(after.node.log, before.node.log, `${what}: a new log is written`)
    const [closed, ...more] = await eventsOf(node, "log.closed/1")
    t.same(more, [])
    const shown = await node.ask("event.show", [`@${closed?.arrival}`])
    const body = shown.body as { readonly log: string; readonly length: number; readonly expected: number; readonly why: string }
    t.equal(body.log, before.node.log, "the event names the old log")
    t.equal(body.expected, length, "what it had")
    t.ok(body.length < length && body.length >= 0, "and what is left")
    t.match(body.why, /lost its tail/)
    const doctor = await node.ask("doctor", [], { codes: [0, 10] })
    t.match(doctor.findings.find(({ about, level }) => about === "log" && level === "warning")?.detail, new RegExp(`closed at ${body.length} of ${length} blocks`), "doctor says so")
    t.notOk(doctor.healthy)
    const { rebuild } = await node.ask("doctor", ["--rebuild"], { codes: [0, 10] })
    t.match(rebuild, { equal: true, differences: [] }, "state stands on nothing that is gone")
    for (let i = 0; i < 12; i++) {
      t.ok((await node.ask("memory.show", [`notes/page-${i}`])).text.startsWith(`text ${i} `), `page ${i} says what it said: what only lost blocks had said was written again`)
    }
    t.match((await eventsOf(node, "node.recovered/1")).map(({ summary }) => summary).join(), /documents said what only lost blocks had said/)
    t.equal((await node.ask("memory.history", ["notes/page-11"])).length, 1, "and its history is readable")
    const verified = await node.ask("event.verify", [], { codes: [0, 1] })
    const old = verified.logs.find(({ log }) => log === before.node.log)
    t.same(verified.misbehaviour, [], "no second history")
    t.ok(old?.faults.every(({ why }) => /cannot be read|is not held/.test(why)), "the old log lacks blocks and holds no other ones")
    t.equal((await node.ask("memory.show", ["notes/page-0"])).text.startsWith("text 0"), true, "what is held still counts")
    await write(node, 20, 22)
    await node.stop()
    await node.start()
    t.equal((await node.ask("status")).node.log, after.node.log, "the next start goes on with the new log")
    t.equal((await eventsOf(node, "log.closed/1")).length, 1, "and closes nothing again")
    t.equal((await node.ask("memory.show", ["notes/page-21"])).text.startsWith("text 21"), true)
    await node.stop()
  }
})

t.test("damaged tables are put aside and rebuilt from the logs", async (t) => {
  const node = testNode(t, homesOf(t), { name: "alpha", isolated: true })
  await node.start()
  await write(node, 0, 4)
  const pages = await node.ask("memory.list")
  await node.stop()
  for (const suffix of ["-wal", "-shm"]) rmSync(`${node.meshDirectory}/tables.db${suffix}`, { force: true })
  const bytes = readFileSync(`${node.meshDirectory}/tables.db`)
  bytes.fill(0x5a, 0, Math.min(bytes.length, 8_192))
  writeFileSync(`${node.meshDirectory}/tables.db`, bytes)
  t.match(await node.run(["doctor"]), { code: 10, out: /tables/ }, "doctor sees it without a daemon")
  await node.start()
  t.same((await node.until("memory.list", [], (list) => list.length === pages.length)).map(({ page }) => page), pages.map(({ page }) => page))
  t.ok((await node.ask("doctor", ["--rebuild"])).rebuild?.equal)
  t.ok(readdirSync(node.meshDirectory).some((name) => name.startsWith("tables.db.damaged-")), "the damaged file is kept")
})

t.test("an unclean stop is found, told, and loses nothing that was acknowledged", async (t) => {
  const node = testNode(t, homesOf(t), { name: "alpha", isolated: true })
  await node.start()
  t.same((await node.ask("status")).uncleanStops, { count: 0 })
  const pid = node.pid
  await write(node, 0, 3)
  await node.kill()
  await node.start()
  const { uncleanStops } = await node.ask("status")
  t.match(uncleanStops, { count: 1, last: /^\d{4}-/ })
  t.equal((await node.ask("memory.list")).length, 3)
  const [found] = await eventsOf(node, "node.found-unclean/1")
  t.match((await node.ask("event.show", [`@${found?.arrival}`])).body, { sameBoot: true, pid })
  t.match(await node.run(["status"]), { out: /unclean/i }, "and a person reads it in status")
  t.equal(await node.stop(), 0)
  await node.start()
  t.equal((await node.ask("status")).uncleanStops.count, 1, "a clean stop adds none")
  t.equal((await eventsOf(node, "node.stopped/1")).length, 1)
})

t.test("full and read-only disks: refused with the reason, earlier data intact, works again without a restart", async (t) => {
  // Not in a directory that tap removes: nothing can remove a mount point.
  const mount = mkdtempSync(join(tmpdir(), "kos-disk-"))
  if (!mounted(t, mount)) return
  const node = new TestNode(`${mount}/alpha`, { name: "alpha", isolated: true })
  t.teardown(async () => {
    await node.kill()
    execFileSync("umount", [mount], { stdio: "ignore" })
    rmSync(mount, { recursive: true })
  })
  await node.start()
  await write(node, 0, 3)
  const before = await node.ask("memory.list")
  const { log } = (await node.ask("status", [], { codes: [0, 10] })).node
  const expectRefused = async (says: RegExp) => {
    // What is known of the free space may be a quarter second old: commands that are done meanwhile are done.
    let ran = await node.run(["memory", "add", "notes/more", "more", "--json"])
    await eventually(async () => ran.code !== 0 || (ran = await node.run(["memory", "add", "notes/more", "more", "--json"])).code !== 0)
    t.match(problemOf(ran, []), { code: 10, kind: "degraded", detail: says })
    const held = await node.ask("memory.list")
    t.match(await node.refused(["config", "set", "log.level", "warn"]), { code: 10, detail: says })
    t.same(await node.ask("memory.list"), held, "nothing was written")
    for (const { page } of before) t.ok((await node.ask("memory.show", [page])).text.startsWith("text"), "everything is there")
    t.equal((await node.get("/readyz")).status, 503, "it calls itself not ready")
    t.equal((await node.get("/livez")).status, 200, "and lives")
  }
  // First down to the reserve, then to the last byte.
  const free = () => Number(execFileSync("df", ["--output=avail", "-B1", mount], { encoding: "utf8" }).trim().split("\n")[1])
  writeFileSync(`${mount}/filler`, Buffer.alloc(Math.max(0, free() - 8 * 1_048_576), 1))
  await expectRefused(/nothing was written: the disk is full/)
  try {
    writeFileSync(`${mount}/filler2`, Buffer.alloc(16 * 1_048_576, 1))
  } catch {
    // As full as it gets.
  }
  await expectRefused(/nothing was written: the disk is full/)
  t.match(await node.run(["doctor"]), { code: 10, out: /fault\s+disk: only \d+ MiB are free/ })
  for (const name of ["filler", "filler2"]) rmSync(`${mount}/${name}`, { force: true })
  await node.ask("memory.add", ["notes/again", "space is back"])
  t.ok((await node.ask("memory.show", ["notes/again"])).text.startsWith("space"), "it works again")
  t.ok(await eventually(async () => (await node.get("/readyz")).status === 200))
  t.equal((await node.ask("status", [], { codes: [0, 10] })).node.log, log, "still the same log")
  t.ok((await node.ask("event.verify")).clean)
  await node.stop()
  await node.start()
  t.equal((await node.ask("status", [], { codes: [0, 10] })).node.log, log, "and the next start finds it whole")
  t.ok((await node.ask("event.verify")).clean)
  await node.stop()
  // A disk can be made read-only only while nobody writes to it.
  if (!remounted(mount, "ro")) return t.comment("this machine does not make a disk read-only: not tested")
  const ran = await kos(["--home", node.home, "daemon", "run", "--json"], { process: true })
  t.match(problemOf(ran, []), { code: 10, kind: "degraded", detail: /read-only/i })
  t.match(await node.run(["doctor"]), { code: 10, out: /cannot be written/ }, "doctor says it without a daemon")
  t.ok(remounted(mount, "rw"))
  await node.start()
  t.equal((await node.ask("memory.show", ["notes/again"])).text, "space is back")
  t.equal((await node.ask("status", [], { codes: [0, 10] })).node.log, log)
})

const mounted = (t: Test, mount: string): boolean => {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=160m", "tmpfs", mount], { stdio: "ignore" })
  } catch {
    rmSync(mount, { recursive: true })
    t.comment("only root can mount a small disk to fill: not tested")
    return false
  }
  return true
}

const remounted = (mount: string, how: "ro" | "rw"): boolean => {
  try {
    execFileSync("mount", ["-o", `remount,${how}`, mount], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}
