/** Peers of the mesh that lie, and what they cost: bytes, time, and nothing else. */
import { createHash } from "node:crypto"
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { connect } from "node:net"
import { join } from "node:path"
import { duplexPair } from "node:stream"
import { setTimeout as delay } from "node:timers/promises"
import t from "tap"
import { hashPieces, infoHash } from "../src/updates/payload/torrent.ts"
import { makeGuard } from "../src/updates/transfer/guard.ts"
import { decodeFromChild, decodeToChild } from "../src/updates/transfer/messages.ts"
import { deviceA, deviceB, directoryOf, handPeer, holds, joined, mebibyte, neighbours, packOf, poisoner, seededBytes, sha256Of, sideOf, soon, until, whole } from "./transfer-lab.ts"

const garbage = (_index: number, _offset: number, length: number): Uint8Array => Buffer.alloc(length, 0x66)

t.test("a poisoner beside a slow good peer: it is banned, the good one is not, and little is wasted", async (t) => {
  const pack = await packOf(t, 8 * mebibyte, 1)
  const [good, side] = [sideOf(t, "good", { limits: { uploadMax: 6 * mebibyte, downloadMax: 0 } }), sideOf(t, "b")]
  await holds(good, pack)
  let sent = 0
  const fetching = side.ensure(pack.ref, whole(pack), soon(25_000))
  side.onWanted(() => {
    if (!side.banned().includes(deviceA)) void joined(pack.hash, [side, deviceB], [good, deviceA], "mesh")
    if (side.banned().includes(poisoner)) return
    const peer = handPeer({ pack, block: (index, offset, length) => { sent += length; return garbage(index, offset, length) } })
    void side.addWire(pack.hash, { device: poisoner, carrier: "mesh", stream: peer.stream })
  })
  t.equal(sha256Of(await fetching), pack.ref.sha256)
  await until("the ban", () => side.bans.length > 0)
  t.same(side.bans, [poisoner])
  t.ok(sent <= 12 * mebibyte, `${Math.round(sent / 1_024)} KiB of garbage`)
  const again = handPeer({ pack, block: garbage })
  await side.addWire(pack.hash, { device: poisoner, carrier: "mesh", stream: again.stream })
  t.ok(again.stream.destroyed, "it does not come back")
  t.same(side.banned(), [poisoner])
})

t.test("nobody but a poisoner: the fetch ends with a reason, within bytes and time", async (t) => {
  const pack = await packOf(t, 8 * mebibyte, 2)
  const side = sideOf(t, "b", { patience: { stallMsMax: 800 } })
  let sent = 0
  side.onWanted(() => {
    const peer = handPeer({ pack, block: (index, offset, length) => { sent += length; return garbage(index, offset, length) } })
    void side.addWire(pack.hash, { device: poisoner, carrier: "mesh", stream: peer.stream })
  })
  const from = performance.now()
  await t.rejects(side.ensure(pack.ref, whole(pack), soon()), { message: /nobody gave the rest of pack .* devices banned: 1/ })
  t.ok(performance.now() - from < 15_000)
  t.ok(sent <= 8 * mebibyte, `${sent} bytes of garbage`)
  t.same(side.bans, [poisoner])
})

t.test("devices that were banned before are banned from the start", async (t) => {
  const pack = await packOf(t, mebibyte, 3)
  const side = sideOf(t, "a", { banned: [poisoner] })
  await holds(side, pack)
  const peer = handPeer({ pack, block: garbage })
  await side.addWire(pack.hash, { device: poisoner, carrier: "mesh", stream: peer.stream })
  t.ok(peer.stream.destroyed)
  t.equal((await side.status()).pid, undefined, "no process was started for it")
})

const messageHead = (length: number, id: number): Buffer => {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(length)
  head[4] = id
  return head
}

t.test("what no peer may say ends its wire and not the process", async (t) => {
  const pack = await packOf(t, 2 * mebibyte, 4)
  const [good, side] = [sideOf(t, "good"), sideOf(t, "b")]
  await holds(good, pack)
  const wanted = new Promise<void>((resolve) => { side.onWanted(() => resolve()) })
  const fetching = side.ensure(pack.ref, whole(pack), soon(25_000))
  await wanted
  const { pid } = await side.status()
  const extended = Buffer.from("d1:mi5e6:v3:xyze")
  const hostile: Record<string, ReadonlyArray<Uint8Array>> = {
    "a message of 4 GB": [messageHead(0xffff_fff0, 7), Buffer.alloc(300_000)],
    "a message of 200 KB": [messageHead(200_000, 7), Buffer.alloc(1_000)],
    "an extended handshake of nonsense": [Buffer.concat([messageHead(2 + extended.byteLength, 20), Buffer.from([0]), extended])],
    "an extended handshake without a table": [Buffer.concat([messageHead(2 + 10, 20), Buffer.from([0]), Buffer.from("d1:m3:abce")])],
    "have, with nothing in it": [messageHead(1, 4)],
    "a request with nothing in it": [messageHead(1, 2), messageHead(1, 6)],
    "a piece with nothing in it": [messageHead(1, 7)],
    "thousands of requests": [Buffer.concat(Array.from({ length: 4_000 }, () => Buffer.concat([messageHead(13, 6), Buffer.from("00000000000000000000400 0".replace(" ", ""), "hex")])))],
    "random bytes": [seededBytes(200_000, 9)]
  }
  // Side by side: each has half a second to do its worst.
  await Promise.all(Object.values(hostile).map(async (opening, n) => {
    const peer = handPeer({ pack, block: () => undefined, opening })
    const over = side.addWire(pack.hash, { device: `${n}${n}`.padEnd(64, "0"), carrier: "mesh", stream: peer.stream })
    await Promise.race([over, delay(500)])
    peer.stream.destroy()
    await over
  }))
  t.equal((await side.status()).pid, pid, `none of these ends the process: ${Object.keys(hostile).join("; ")} (${side.notices.join(" ")})`)
  neighbours(side, deviceB, [[good, deviceA]])
  t.equal(sha256Of(await fetching), pack.ref.sha256)
  t.equal((await side.status()).pid, pid, "the same process all along")
})

/** The pair of 320 bytes with one SHA-1 that was published in 2017. */
const collision = (() => {
  const head = "255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f4865696768742033203020522f547970652034203020522f537562747970652035203020522f46696c7465722036203020522f436f6c6f7253706163652037203020522f4c656e6774682038203020522f42697473506572436f6d706f6e656e7420383e3e0a73747265616d0affd8fffe00245348412d3120697320646561642121212121852fec092339759c39b1a1c63c4c97e1fffe01"
  const one = "7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df614f86db1690901c56b45c1530afedfb76038e972722fe7ad728f0e4904e046c230570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a332ec37fac3514e74ddc0f2cc1a874cd0c78305a21566461309789606bd0bf3f98cda8044629a1"
  const two = "7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26fedfb3dc38e96ac22fe7bd728f0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf93ac3500eb4ddc0decc1a864790c782c76215660dd309791d06bd0af3f98cda4bc4629b1"
  return [Buffer.from(head + one, "hex"), Buffer.from(head + two, "hex")] as const
})()

t.test("a piece that fits the torrent and not the index is taken from others, and who forged it is banned", async (t) => {
  const sha1 = (bytes: Uint8Array) => createHash("sha1").update(bytes).digest("hex")
  t.equal(sha1(collision[0]), sha1(collision[1]))
  const path = join(directoryOf(t), "pack")
  const tail = seededBytes(2 * mebibyte - 320, 5)
  const bytes = Buffer.concat([collision[0], tail])
  const forged = Buffer.concat([collision[1], tail])
  writeFileSync(path, bytes)
  const ref = await hashPieces(path)
  const pack = { ref, hash: infoHash(ref), bytes, path }
  const side = sideOf(t, "b")
  const peerOf = (content: Buffer) => handPeer({ pack, block: (index, offset, length) => content.subarray(index * mebibyte + offset, index * mebibyte + offset + length) }).stream
  let good = false
  side.onWanted(() => {
    void side.addWire(pack.hash, { device: poisoner, carrier: "mesh", stream: peerOf(forged) })
    if (good) void side.addWire(pack.hash, { device: deviceA, carrier: "mesh", stream: peerOf(bytes) })
  })
  const file = await side.ensure(ref, whole(pack), soon())
  t.not(sha256Of(file), ref.sha256, "the forger's piece passed the torrent's hash")
  t.equal(await side.file(ref.sha256), undefined, "but such a file is not whole")
  side.bad(ref, { offset: 100, length: 200 })
  good = true
  await side.ensure(ref, whole(pack), soon())
  t.ok(readFileSync(file).equals(bytes))
  await until("the ban", () => side.bans.length > 0)
  t.same(side.bans, [poisoner])
  t.equal(await side.file(ref.sha256), file)
})

t.test("the guard names who is certainly guilty, and nobody else", async (t) => {
  const block = (text: string) => Buffer.from(text)
  const alone = makeGuard("p")
  alone.block(0, {}, 0, "x", block("a"))
  t.match(alone.failed(0), [{ device: "x" }])

  const shared = makeGuard("p")
  const piece = {}
  shared.block(3, piece, 0, "x", block("bad"))
  shared.block(3, piece, 1, "y", block("good"))
  t.same(shared.failed(3), [], "two gave it: nobody is named yet")
  t.ok(shared.mayAsk(3, "y"))
  t.notOk(shared.mayAsk(3, "x"), "one at a time")
  const next = {}
  shared.block(3, next, 0, "y", block("fine"))
  shared.block(3, next, 1, "y", block("good"))
  t.match(shared.fitted(3), [{ device: "x" }])
  t.ok(shared.mayAsk(3, "x") && shared.mayAsk(3, "y"))

  const gone = makeGuard("p")
  const third = {}
  gone.block(1, third, 0, "x", block("1"))
  gone.block(1, third, 1, "y", block("2"))
  gone.failed(1)
  t.ok(gone.mayAsk(1, "x"))
  t.notOk(gone.mayAsk(1, "y"))
  gone.left("x")
  t.ok(gone.mayAsk(1, "y"), "who left does not hold it")

  const same = makeGuard("p")
  same.block(1, third, 0, "x", block("1"))
  same.fitted(1)
  same.disowned(1, "h1")
  t.notOk(same.mayAsk(1, "x"))
  t.ok(same.mayAsk(1, "y"))
  t.same(same.replaced(1, "h1"), [], "all have the same: the index is wrong, and nobody is named")
  same.block(1, {}, 0, "z", block("1"))
  same.fitted(1)
  same.disowned(1, "h1")
  t.match(same.replaced(1, "h2"), [{ device: "z" }])
})

t.test("messages that do not fit are none", async (t) => {
  for (const value of [
    undefined, null, 1, "open", [], {}, { type: "toString" }, { type: "__proto__" }, { type: "open" }, { type: "fetch", id: -1, infoHash: "0".repeat(40), ranges: [] },
    { type: "fetch", id: 1, infoHash: "0".repeat(40), ranges: [{ offset: 0, length: 0 }] }, { type: "fetch", id: 1, infoHash: "G".repeat(40), ranges: [] },
    { type: "wire", id: 1, token: "x", infoHash: "0".repeat(40), device: deviceA, carrier: "lan", head: null }, { type: "limits", limits: { uploadMax: -2, downloadMax: 0 } }
  ]) t.equal(decodeToChild(value), undefined, JSON.stringify(value))
  for (const value of [null, { type: "done", id: 1 }, { type: "banned", device: "me", why: "" }, { type: "notice", text: "x".repeat(3_000) }, { type: "stats", id: 0, packs: [{}], wires: 0, fetches: 0, memoryBytes: 0 }]) {
    t.equal(decodeFromChild(value), undefined, JSON.stringify(value).slice(0, 80))
  }
  t.same(decodeToChild({ type: "cancel", id: 7 }), { type: "cancel", id: 7 })
  t.same(decodeFromChild({ type: "wanted", infoHash: "0".repeat(40) }), { type: "wanted", infoHash: "0".repeat(40) })
})

t.test("a local process without a token gets nowhere", async (t) => {
  const pack = await packOf(t, mebibyte, 6)
  const side = sideOf(t, "a")
  await holds(side, pack)
  const [x] = duplexPair()
  void side.addWire(pack.hash, { device: deviceB, carrier: "mesh", stream: x })
  const run = join(side.directory, "..", "run")
  await until("the socket", async () => (await side.status()).pid !== undefined && readdirSync(run).length === 1)
  const path = join(run, readdirSync(run)[0] ?? "")
  t.equal(statSync(path).mode & 0o777, 0o600, "for its owner alone")
  const socket = connect(path)
  socket.on("error", () => {})
  socket.write("0".repeat(64))
  await new Promise<void>((resolve) => socket.once("close", () => resolve()))
  t.pass("it was shown the door")
})
