/** A transfer whose process dies or outlives its parent, that is killed, throttled, or has a bad disk; and several that fetch at the same time and give to each other. */
import { fork } from "node:child_process"
import { createHash } from "node:crypto"
import { once } from "node:events"
import { closeSync, existsSync, openSync, truncateSync, writeFileSync, writeSync } from "node:fs"
import { getCompileCacheDir } from "node:module"
import { dirname, join } from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import t from "tap"
import { deviceA, deviceB, holds, joined, mebibyte, neighbours, packOf, sha256Of, type Side, sideOf, soon, until, whole } from "../transfer-lab.ts"

const deviceOf = (name: string): string => createHash("sha256").update(name).digest("hex")

t.test("three fetch at once and the first does not send three packs", async (t) => {
  const pack = await packOf(t, 24 * mebibyte)
  // The first is slower than the others among each other, as a publisher's line is.
  const first = sideOf(t, "first", { limits: { uploadMax: 12 * mebibyte, downloadMax: 0 } })
  await holds(first, pack)
  const names = ["one", "two", "three"]
  const sides: ReadonlyArray<readonly [Side, string]> = names.map((name) => [sideOf(t, name, { patience: { wantedEveryMs: 3_000 } }), deviceOf(name)])
  for (const [n, [side, device]] of sides.entries()) neighbours(side, device, [[first, deviceOf("first")], ...sides.slice(0, n)], "lan")
  const files = await Promise.all(sides.map(([side]) => side.ensure(pack.ref, whole(pack), soon(25_000))))
  for (const file of files) t.equal(sha256Of(file), pack.ref.sha256)
  const sent = ((await first.status()).seeds[0]?.uploaded ?? 0) / pack.ref.length
  t.ok(sent < 2.2, `the first sent ${sent.toFixed(2)} packs`)
})

t.test("the process is killed at any moment and the fetch goes on with what is whole", async (t) => {
  const pack = await packOf(t, 16 * mebibyte, 5)
  // So slow that each kill hits a fetch that is under way.
  const [a, b] = [sideOf(t, "a"), sideOf(t, "b", { limits: { uploadMax: 0, downloadMax: 6 * mebibyte } })]
  await holds(a, pack)
  neighbours(b, deviceB, [[a, deviceA]], "lan")
  let bytes = 0
  let kills = 0
  const fetching = b.ensure(pack.ref, whole(pack), { ...soon(30_000), onBytes: (more) => { bytes += more } })
  for (const after of [2, 6, 9]) {
    await until(`${after} pieces`, () => bytes >= after * mebibyte)
    const { pid } = await b.status()
    if (pid === undefined) continue
    process.kill(pid, "SIGKILL")
    kills += 1
    await until("another process", async () => {
      const now = (await b.status()).pid
      return now !== undefined && now !== pid
    })
    if (after === 9) b.setLimits({ uploadMax: 0, downloadMax: 0 })
  }
  t.equal(sha256Of(await fetching), pack.ref.sha256)
  t.equal(kills, 3)
  t.ok(bytes <= pack.ref.length, "a piece that is whole is not fetched twice")
  t.ok(b.notices.some((text) => text.includes("SIGKILL")))
})

t.test("limits are kept, change while it runs, and -1 stops everything", async (t) => {
  const pack = await packOf(t, 8 * mebibyte, 6)
  const [a, b] = [sideOf(t, "a", { limits: { uploadMax: 2 * mebibyte, downloadMax: 0 } }), sideOf(t, "b")]
  await holds(a, pack)
  neighbours(b, deviceB, [[a, deviceA]])
  let bytes = 0
  const fetching = b.ensure(pack.ref, whole(pack), { ...soon(30_000), onBytes: (more) => { bytes += more } })
  await until("a piece", () => bytes > 0)
  const [from, before] = [performance.now(), bytes]
  await until("two more pieces", () => bytes >= before + 2 * mebibyte)
  const rate = (bytes - before) / ((performance.now() - from) / 1_000)
  t.ok(rate < 4 * mebibyte, `${Math.round(rate / 1_000)} kB/s with 2 MiB/s allowed`)
  b.setLimits({ uploadMax: -1, downloadMax: -1 })
  await until("no wire", async () => (await b.status()).seeds.every((seed) => seed.wires === 0))
  const stopped = bytes
  await delay(600)
  t.ok(bytes - stopped <= mebibyte, "nothing comes")
  a.setLimits({ uploadMax: 0, downloadMax: 0 })
  b.setLimits({ uploadMax: 0, downloadMax: 0 })
  t.equal(sha256Of(await fetching), pack.ref.sha256, "and goes on when it may")
  const c = sideOf(t, "c", { patience: { stallMsMax: 1_000 } })
  a.setLimits({ uploadMax: -1, downloadMax: 0 })
  neighbours(c, "cc".repeat(32), [[a, deviceA]])
  await t.rejects(c.ensure(pack.ref, [{ offset: 0, length: 1 }], soon()), { message: /nobody gave/ }, "who may not upload serves nothing")
})

t.test("what the disk damaged is not served, and is fetched again", async (t) => {
  const pack = await packOf(t, 4 * mebibyte, 9)
  const [a, b] = [sideOf(t, "a"), sideOf(t, "b")]
  await holds(a, pack)
  await holds(b, pack)
  const file = join(b.directory, pack.ref.sha256)
  const rot = (path: string, at: number) => {
    const fd = openSync(path, "r+")
    writeSync(fd, Buffer.from("rot"), 0, 3, at)
    closeSync(fd)
  }
  rot(file, 2 * mebibyte + 17)
  neighbours(b, deviceB, [[a, deviceA]])
  // The assembler finds a chunk that is not as signed.
  b.bad(pack.ref, { offset: 2 * mebibyte, length: 100 })
  t.equal(await b.ensure(pack.ref, [{ offset: 2 * mebibyte, length: 100 }], soon()), file)
  await until("the file to be mended", () => sha256Of(file) === pack.ref.sha256)
  t.same(b.bans, [], "nobody is banned for it")
  // The server finds it by itself, when it reads the piece for the first time.
  await b.close()
  const c = sideOf(t, "c", { patience: { stallMsMax: 1_500 } })
  const again = sideOf(t, "b")
  rot(file, mebibyte + 5)
  await again.seed(pack.ref)
  neighbours(c, "cc".repeat(32), [[again, deviceB]])
  await t.rejects(c.ensure(pack.ref, whole(pack), soon()), { message: /nobody gave/ })
  t.same(c.bans, [], "a damaged disk sends nothing bad")
  t.ok(again.notices.some((text) => text.includes("piece 1 is damaged on this disk")), again.notices.join(" "))
  t.equal(await again.file(pack.ref.sha256), undefined)
  truncateSync(file, mebibyte / 2)
  await again.close()
  const third = sideOf(t, "b")
  await third.seed(pack.ref)
  t.match((await third.status()).seeds, [{ held: 0 }], "of a file that was cut nothing is held")
  await joined(pack.hash, [third, deviceB], [a, deviceA], "mesh")
  t.equal(sha256Of(await third.ensure(pack.ref, whole(pack), soon())), pack.ref.sha256)
})

t.test("a process that takes more memory than it may starts anew, and the fetch goes on", async (t) => {
  const pack = await packOf(t, mebibyte, 11)
  const side = sideOf(t, "a", { memoryBytesMax: 40 * mebibyte })
  const stopping = new AbortController()
  const fetching = side.ensure(pack.ref, whole(pack), { signal: stopping.signal })
  fetching.catch(() => {})
  const pids = new Set<number>()
  await until("two processes, one after the other", async () => {
    const { pid } = await side.status()
    if (pid !== undefined) pids.add(pid)
    return pids.size >= 2
  })
  t.ok(side.notices.some((text) => /used \d+ MiB of memory and (starts anew|was ended)/.test(text)), side.notices.join(" "))
  stopping.abort()
  await t.rejects(fetching)
})

t.test("the process ends when its parent is gone", async (t) => {
  const script = join(t.testdir(), "parent.ts")
  const source = JSON.stringify(join(import.meta.dirname, "../../src/updates/transfer/transfer.ts"))
  const tracker = `{ host: "127.0.0.1", port: 0 }`
  writeFileSync(script, `import { openTransfer } from ${source}
const side = openTransfer({ device: ${JSON.stringify(deviceA)}, directory: ${JSON.stringify(t.testdirName)}, run: ${JSON.stringify(t.testdirName)}, now: () => performance.now(), notice: () => {}, tracker: ${tracker} })
await side.tracker()
process.send?.((await side.status()).pid)
`)
  const parent = fork(script, { stdio: "ignore", execArgv: [], env: { NODE_COMPILE_CACHE: dirname(getCompileCacheDir() ?? "/") } })
  const [pid] = (await once(parent, "message")) as [number]
  t.ok(existsSync(`/proc/${pid}`))
  parent.kill("SIGKILL")
  await until("the end", () => !existsSync(`/proc/${pid}`))
})

t.test("a process that dies at once is left alone after some tries, and the fetch says why", async (t) => {
  const pack = await packOf(t, mebibyte, 8)
  const entry = join(t.testdirName, "broken.ts")
  writeFileSync(entry, `process.on("message", () => { throw new Error("broken on purpose") })\n`)
  let time = 0
  const side = sideOf(t, "a", { entry, now: () => time })
  const fetching = side.ensure(pack.ref, whole(pack), soon(40_000))
  fetching.catch(() => {})
  // Its clock stands still, so that all tries fall into the same two minutes; the pauses between them are real.
  await t.rejects(fetching, { message: /ended 5 times within 2 minutes.*broken on purpose/ })
  await t.rejects(side.ensure(pack.ref, whole(pack), soon()), { message: /it is tried again in 300 s/ })
  time = 300_001
  t.equal(side.notices.length, 5)
})
