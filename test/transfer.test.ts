/** Packs that are fetched and served by real processes, joined over loopback and streams in memory. */
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { duplexPair } from "node:stream"
import t from "tap"
import { deviceA, deviceB, holds, mebibyte, neighbours, packOf, sha256Of, sideOf, soon, tcpPair, until, whole } from "./transfer-lab.ts"

t.test("a pack travels over a socket that is handed over, and over a stream that is joined", async (t) => {
  const pack = await packOf(t, 9 * mebibyte + 12_345)
  const [a, b, c] = [sideOf(t, "a"), sideOf(t, "b"), sideOf(t, "c")]
  await holds(a, pack)
  t.equal((await a.status()).pid, undefined, "who merely holds a pack runs no process")
  neighbours(b, deviceB, [[a, deviceA]], "lan")
  let bytes = 0
  const file = await b.ensure(pack.ref, whole(pack), { ...soon(), onBytes: (more) => { bytes += more } })
  t.equal(sha256Of(file), pack.ref.sha256)
  t.equal(bytes, pack.ref.length)
  t.equal(await b.file(pack.ref.sha256), file)
  await b.seed(pack.ref)
  neighbours(c, "cc".repeat(32), [[b, deviceB]], "mesh")
  t.equal(sha256Of(await c.ensure(pack.ref, whole(pack), soon())), pack.ref.sha256, "what was fetched is served")
  const seeds = (await b.status()).seeds
  t.match(seeds, [{ pack: pack.ref.sha256, held: pack.ref.length, seeding: true }])
  t.ok((seeds[0]?.uploaded ?? 0) >= pack.ref.length)
})

t.test("only the pieces of the ranges are fetched, several fetches go side by side, and who holds a part serves it", async (t) => {
  const pack = await packOf(t, 8 * mebibyte, 2)
  const [a, b, c] = [sideOf(t, "a"), sideOf(t, "b"), sideOf(t, "c", { patience: { stallMsMax: 800 } })]
  await holds(a, pack)
  neighbours(b, deviceB, [[a, deviceA]])
  const files = await Promise.all([
    b.ensure(pack.ref, [{ offset: 5, length: 10 }], soon()),
    b.ensure(pack.ref, [{ offset: mebibyte * 2 - 1, length: 2 }, { offset: 0, length: 1 }], soon()),
    b.ensure(pack.ref, [{ offset: 7 * mebibyte, length: mebibyte }], soon())
  ])
  const held = readFileSync(files[0] ?? "")
  for (const index of [0, 1, 2, 7]) t.ok(held.subarray(index * mebibyte, (index + 1) * mebibyte).equals(pack.bytes.subarray(index * mebibyte, (index + 1) * mebibyte)), `piece ${index}`)
  t.ok(held.subarray(4 * mebibyte, 5 * mebibyte).every((byte) => byte === 0), "what nobody wanted was not fetched")
  t.equal(await b.file(pack.ref.sha256), undefined, "a part is no file")
  await b.seed(pack.ref)
  t.match((await b.status()).seeds, [{ held: 4 * mebibyte, seeding: true }])
  neighbours(c, "cc".repeat(32), [[b, deviceB]])
  await c.ensure(pack.ref, [{ offset: mebibyte, length: 100 }], soon())
  await t.rejects(c.ensure(pack.ref, [{ offset: 4 * mebibyte, length: 100 }], soon()), { message: /nobody gave the rest/ }, "what the neighbour lacks does not come, and the fetch says so")
  await t.rejects(c.ensure(pack.ref, [{ offset: 8 * mebibyte, length: 1 }], soon()), { message: /not within the pack/ })
})

t.test("a fetch is stopped by its caller, and a pack is removed", async (t) => {
  const pack = await packOf(t, 2 * mebibyte, 3)
  const side = sideOf(t, "a")
  const stopping = new AbortController()
  const wanted = new Promise<void>((resolve) => { side.onWanted(() => resolve()) })
  const fetching = side.ensure(pack.ref, whole(pack), { signal: stopping.signal })
  await wanted
  t.ok(side.serves(pack.hash), "others may ask for what is being fetched")
  stopping.abort(new Error("enough"))
  await t.rejects(fetching, { message: "enough" })
  t.notOk(side.serves(pack.hash))
  await holds(side, pack)
  t.ok(side.serves(pack.hash))
  await side.remove(pack.ref.sha256)
  t.notOk(side.serves(pack.hash))
  t.same(readdirSync(side.directory), [], "nothing of it is left")
})

t.test("the owner of a stream ends its wire, handed over or joined", async (t) => {
  const pack = await packOf(t, mebibyte, 10)
  const [a, b] = [sideOf(t, "a"), sideOf(t, "b")]
  await holds(a, pack)
  await holds(b, pack)
  for (const [carrier, [x, y]] of [["lan", await tcpPair()], ["mesh", duplexPair()]] as const) {
    const over = [a.addWire(pack.hash, { device: deviceB, carrier, stream: x }), b.addWire(pack.hash, { device: deviceA, carrier, stream: y })]
    await until(`a wire by ${carrier}`, async () => (await a.status()).seeds[0]?.wires === 1)
    x.destroy()
    await Promise.all(over)
    await until("no wire", async () => (await a.status()).seeds[0]?.wires === 0)
  }
  t.pass("a revoked device keeps no wire")
})

t.test("a pack from a stick is checked before it counts", async (t) => {
  const pack = await packOf(t, mebibyte + 7, 4)
  const side = sideOf(t, "a")
  const bad = join(t.testdirName, "bad")
  const bytes = Buffer.from(pack.bytes)
  bytes[1_000] = (bytes[1_000] ?? 0) ^ 1
  writeFileSync(bad, bytes)
  await t.rejects(side.take(pack.ref, bad), { message: /is not the pack/ })
  writeFileSync(bad, Buffer.concat([pack.bytes, Buffer.from("x")]))
  await t.rejects(side.take(pack.ref, bad), { message: /has 1048584 bytes/ })
  t.same(readdirSync(side.directory), [])
  await side.take(pack.ref, pack.path)
  t.equal(sha256Of((await side.file(pack.ref.sha256)) ?? ""), pack.ref.sha256)
})

/** Inodes of sockets that listen for TCP or are bound for UDP, of this process. */
const listening = (pid: number): ReadonlyArray<string> => {
  const inodes = new Set<string>()
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1]
      if (inode !== undefined) inodes.add(inode)
    } catch {
      // It was closed meanwhile.
    }
  }
  return ["tcp", "tcp6", "udp", "udp6"].flatMap((table) => readFileSync(`/proc/${pid}/net/${table}`, "utf8").split("\n").slice(1)
    .map((line) => line.trim().split(/\s+/)).filter((cells) => inodes.has(cells[9] ?? "") && (table.startsWith("udp") || cells[3] === "0A")).map((cells) => `${table} ${cells[1]}`))
}

t.test("nothing listens on the network, the socket is shut to others, and nothing is left behind", async (t) => {
  const pack = await packOf(t, mebibyte, 7)
  const [a, b] = [sideOf(t, "a"), sideOf(t, "b", { idleMs: 300 })]
  await holds(a, pack)
  neighbours(b, deviceB, [[a, deviceA]], "lan")
  await b.ensure(pack.ref, whole(pack), soon())
  await b.seed(pack.ref)
  const { pid } = await a.status()
  t.same(listening(pid ?? 0), [])
  const run = join(a.directory, "..", "run")
  t.equal(readdirSync(run).length, 1)
  await a.close()
  t.same(readdirSync(run), [])
  t.notOk(existsSync(`/proc/${pid}`))
  await until("the process of the other side, which nobody needs, to end", async () => (await b.status()).pid === undefined)
  t.match((await b.status()).seeds, [{ held: mebibyte, seeding: true }])
  t.ok(b.serves(pack.hash), "and it serves at the next wire")
})
