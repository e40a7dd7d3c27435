import { readFile, writeFile, truncate, stat } from "node:fs/promises"
import t from "tap"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import { BundleRefused } from "../src/swarm/bundle-file.ts"
import { exportBundle, importBundle, sinceReceipts } from "../src/swarm/bundle.ts"
import { climb, covering, leafNode, levelsAt, merge, treeHash } from "../src/swarm/merkle.ts"
import { admit, keysOf, logKeyOf, makeHost, manifestOf, revoke, seeded, testMesh, type TestHost } from "./swarm-host.ts"

const mesh = testMesh("stick")
const deviceOf = (name: string): string => toHex(keysOf(name).publicKey)
const operations = ["a", "b"].map((name) => admit(deviceOf(name), logKeyOf(keysOf(name))))
const third = keysOf("third")
const blocks = (count: number, text: string): ReadonlyArray<Uint8Array> => Array.from({ length: count }, (_, index) => utf8(`${text} ${index} ${"x".repeat(index % 50)}`))

const two = async (directory: string): Promise<readonly [TestHost, TestHost]> => {
  const a = await makeHost(`${directory}/a`, "a", mesh, [...operations, admit(deviceOf("c"), logKeyOf(third))])
  const b = await makeHost(`${directory}/b`, "b", mesh, operations)
  t.teardown(() => Promise.all([a.close(), b.close()]))
  return [a, b]
}

t.test("our Merkle roots are Hypercore's", async (t) => {
  const [a] = await two(t.testdir({ a: {}, b: {} }))
  for (let length = 1; length <= 70; length += 1) {
    await a.append(blocks(1, `block ${length}`))
    const session = await a.logs.open(a.ownLog)
    const leaves = (await a.blocks(a.ownLog)).map((block, index) => leafNode(index, block))
    t.same(treeHash(merge([], leaves)), await session.treeHash(length), `length ${length}`)
    await session.close()
  }
  t.same(covering(5, 12), [5, 6, 8])
  t.equal(levelsAt(8, 12), 2)
  t.equal(climb(3, utf8("x"), []).index, 6)
})

t.test("logs and members go from A over a stick to B, then what is new", async (t) => {
  const directory = t.testdir({ a: {}, b: {} })
  const [a, b] = await two(directory)
  await a.append(blocks(100, "a"))
  await a.append(blocks(77, "third"), third)
  const first = await exportBundle(a, `${directory}/first.kos`)
  t.equal(first.logs.length, 2)
  t.same(first.point, { [a.ownLog]: 100, [logKeyOf(third)]: 77 })
  t.match((await importBundle(b, `${directory}/first.kos`)), { operations: 1, logs: [{ state: "taken" }, { state: "taken" }] })
  t.same(await b.blocks(a.ownLog), await a.blocks(a.ownLog))
  t.same(await b.blocks(logKeyOf(third)), await a.blocks(logKeyOf(third)))
  t.equal(b.lengthOf(logKeyOf(third)), 77)

  await a.append(blocks(333, "more"))
  await exportBundle(a, `${directory}/second.kos`, first.point)
  await a.append(blocks(50, "even more"))
  await exportBundle(a, `${directory}/third.kos`, { ...first.point, [a.ownLog]: 433 })
  const gap = await importBundle(b, `${directory}/third.kos`)
  t.match(gap.logs, [{ state: "gap", why: /starts at 433 of log [0-9a-f]{8}, you hold 100: ask for one since 100/ }])
  t.equal(b.lengthOf(a.ownLog), 100)
  t.match((await importBundle(b, `${directory}/second.kos`)).logs, [{ state: "taken", held: 433 }])
  t.match((await importBundle(b, `${directory}/third.kos`)).logs, [{ state: "taken", held: 483 }])
  t.match((await importBundle(b, `${directory}/third.kos`)).logs, [{ state: "held" }])
  t.same(await b.blocks(a.ownLog), await a.blocks(a.ownLog))

  await a.append(blocks(9, "overlap"))
  await exportBundle(a, `${directory}/all.kos`)
  t.match((await importBundle(b, `${directory}/all.kos`)).logs.filter(({ log }) => log === a.ownLog), [{ state: "taken", held: 492, from: 0 }])
  t.same(await b.blocks(a.ownLog), await a.blocks(a.ownLog))
  a.receipts.holds(b.device, a.ownLog, 492)
  a.receipts.holds(b.device, logKeyOf(third), 77)
  t.same((await exportBundle(a, `${directory}/none.kos`, sinceReceipts(a, b.device))).logs, [])
  t.match(await importBundle(b, `${directory}/none.kos`), { operations: 0, logs: [] })
})

t.test("every overlap of a bundle with what is held gives the same log", async (t) => {
  const directory = t.testdir({ a: {}, b: {} })
  const [a, b] = await two(directory)
  const random = seeded(7)
  let reached = 0
  for (let round = 0; round < 25; round += 1) {
    await a.append(blocks(1 + Math.floor(random() * 40), `round ${round}`))
    const from = Math.floor(random() * (reached + 1))
    await exportBundle(a, `${directory}/x.kos`, { [a.ownLog]: from })
    const report = await importBundle(b, `${directory}/x.kos`)
    reached = a.lengthOf(a.ownLog)
    t.match(report.logs, [{ state: "taken", held: reached, from }], `from ${from} to ${reached}`)
  }
  t.same(await b.blocks(a.ownLog), await a.blocks(a.ownLog))
  const session = await b.logs.open(a.ownLog)
  t.same(await session.treeHash(reached), await (await a.logs.open(a.ownLog)).treeHash(reached))
})

t.test("a bundle that was damaged, cut, or is of another mesh is refused with reason and place, and changes nothing", async (t) => {
  const directory = t.testdir({ a: {}, b: {}, c: {} })
  const [a, b] = await two(directory)
  await a.append(blocks(120, "a"))
  const path = `${directory}/good.kos`
  await exportBundle(a, path)
  const good = await readFile(path)
  const bad = `${directory}/bad.kos`
  const attempt = (host = b, file = bad, fileBytesMax = 1e9): Promise<BundleRefused | string> =>
    importBundle(host, file, { fileBytesMax }).then(() => "taken", (fault: unknown) => fault instanceof BundleRefused ? fault : String(fault))
  const random = seeded(20)
  for (let round = 0; round < 200; round += 1) {
    const at = Math.floor(random() * good.byteLength)
    const changed = Buffer.from(good)
    changed[at] = (changed[at] ?? 0) ^ (1 << Math.floor(random() * 8))
    await writeFile(bad, changed)
    const answer = await attempt()
    if (!(answer instanceof BundleRefused)) t.fail(`byte ${at}: ${answer}`)
  }
  for (let round = 0; round < 30; round += 1) {
    await writeFile(bad, good)
    await truncate(bad, Math.floor(random() * good.byteLength))
    const answer = await attempt()
    if (!(answer instanceof BundleRefused)) t.fail(`cut: ${answer}`)
  }
  t.equal(b.lengthOf(a.ownLog), 0)
  await writeFile(bad, Buffer.concat([good, Buffer.of(0)]))
  t.match(await attempt(), { reason: "damaged", at: good.byteLength })
  await writeFile(bad, "hello")
  t.match(await attempt(), { reason: "notABundle" })
  await writeFile(bad, good)
  const { size } = await stat(bad)
  t.match(await attempt(b, bad, size - 1), { reason: "oversize" })
  const stranger = await makeHost(`${directory}/c`, "c", testMesh("other"), operations)
  t.teardown(() => stranger.close())
  t.match(await attempt(stranger), { reason: "foreign" })
  t.match(await attempt(b, `${directory}/none.kos`), { reason: "unreadable" })
  t.match(await importBundle(b, bad), { logs: [{ state: "taken" }] })
})

t.test("another history in a bundle is reported, not taken", async (t) => {
  const directory = t.testdir({ a: {}, b: {}, twin: {} })
  const [a, b] = await two(directory)
  const twin = await makeHost(`${directory}/twin`, "a", mesh, operations)
  t.teardown(() => twin.close())
  await a.append(blocks(10, "a"))
  await twin.append(blocks(20, "twin"))
  await exportBundle(a, `${directory}/a.kos`)
  await exportBundle(twin, `${directory}/twin.kos`)
  await exportBundle(twin, `${directory}/twin5.kos`, { [a.ownLog]: 5 })
  t.match((await importBundle(b, `${directory}/a.kos`)).logs, [{ state: "taken" }])
  t.match((await importBundle(b, `${directory}/twin.kos`)).logs, [{ state: "diverged", held: 10 }])
  t.match((await importBundle(b, `${directory}/twin5.kos`)).logs, [{ state: "diverged", held: 10 }])
  t.match(b.divergedSeen, [{ log: a.ownLog }])
  t.same((await b.blocks(a.ownLog)).map(String), (await a.blocks(a.ownLog)).map(String))
  t.match((await importBundle(a, `${directory}/twin.kos`)).logs, [{ state: "own" }])
  t.same(manifestOf(keysOf("a")).signers.length, 1)
})

t.test("who exported counts: a bundle of a revoked device is refused with the sentence, one from before is taken, and operations are taken first", async (t) => {
  const directory = t.testdir({ a: {}, b: {}, c: {}, d: {} })
  const everyone = ["a", "b", "c"].map((name) => admit(deviceOf(name), logKeyOf(keysOf(name))))
  const [a, b, c] = await Promise.all(["a", "b", "c"].map((name) => makeHost(`${directory}/${name}`, name, mesh, everyone)))
  if (a === undefined || b === undefined || c === undefined) throw new Error("three")
  t.teardown(() => Promise.all([a, b, c].map((host) => host.close())))
  await c.append(blocks(10, "in good standing"))
  await c.append(blocks(7, "third"), keysOf("a"))
  await exportBundle(c, `${directory}/before.kos`)
  await c.append(blocks(5, "after"))
  const expulsion = revoke(c.device, 10)
  // The exporter's own bundle brings what says that it was revoked.
  await c.membership.offer([expulsion])
  await exportBundle(c, `${directory}/after.kos`)
  const refusal = await importBundle(b, `${directory}/after.kos`).catch((fault: unknown) => fault)
  t.ok(refusal instanceof BundleRefused)
  t.match(refusal, { reason: "revoked", message: new RegExp(`${c.device.slice(0, 8)} was revoked by alpha on 2026-11-23`) })
  t.equal(b.membership.standing(c.device), "revoked", "its operations were taken")
  t.same([b.lengthOf(c.ownLog), b.lengthOf(a.ownLog)], [0, 0], "and no block")
  t.match(await importBundle(b, `${directory}/before.kos`), { exporter: c.device, logs: [{ state: "taken" }, { state: "taken" }] })
  t.same([b.lengthOf(c.ownLog), b.lengthOf(a.ownLog)], [10, 7])
  t.equal(b.did[0], "took 1", "membership before anything else")
  // A stranger that knows the mesh key writes a bundle.
  const stranger = await makeHost(`${directory}/d`, "d", mesh, everyone)
  t.teardown(() => stranger.close())
  await exportBundle(stranger, `${directory}/stranger.kos`)
  t.match(await importBundle(b, `${directory}/stranger.kos`).catch((fault: unknown) => fault), { reason: "stranger" })
  // Somebody else's signature under the end record.
  const forged = Object.assign(Object.create(null) as TestHost, stranger, { keyPair: { ...stranger.keyPair, publicKey: a.keyPair.publicKey } })
  await exportBundle(forged, `${directory}/forged.kos`)
  t.match(await importBundle(b, `${directory}/forged.kos`).catch((fault: unknown) => fault), { reason: "damaged" })
})

t.test("of a revoked log no block is carried far beyond its cut-off, and what is carried is whole", async (t) => {
  const directory = t.testdir({ a: {}, b: {}, e: {} })
  const everyone = ["a", "b", "e"].map((name) => admit(deviceOf(name), logKeyOf(keysOf(name))))
  const [a, b, e] = await Promise.all(["a", "b", "e"].map((name) => makeHost(`${directory}/${name}`, name, mesh, everyone)))
  if (a === undefined || b === undefined || e === undefined) throw new Error("three")
  t.teardown(() => Promise.all([a, b, e].map((host) => host.close())))
  const gone = keysOf("gone")
  const log = logKeyOf(gone)
  await a.append(Array.from({ length: 4_200 }, (_, index) => utf8(`${index}`)), gone)
  await a.membership.offer([admit(deviceOf("gone"), log), revoke(deviceOf("gone"), 13)])
  t.match((await exportBundle(a, `${directory}/cut.kos`)).logs, [{ log, from: 0, to: 13 + 4_096 }])
  t.match((await importBundle(b, `${directory}/cut.kos`)).logs, [{ log, state: "taken", held: 4_109 }])
  t.equal(String((await b.blocks(log))[4_108]), "4108")
  t.match((await importBundle(b, `${directory}/cut.kos`)).logs, [{ log, state: "held" }])
  t.match((await exportBundle(b, `${directory}/again.kos`)).logs, [{ log, from: 0, to: 4_109 }], "what was taken so can be carried on")
  t.match((await importBundle(e, `${directory}/again.kos`)).logs, [{ log, state: "taken", held: 4_109 }])
  t.same(await exportBundle(b, `${directory}/rest.kos`, { [log]: 4_109 }).then(({ logs, skipped }) => [logs, skipped.length]), [[], 0])
})
