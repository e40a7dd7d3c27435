/** Mirrors: asked when no device gives a piece, and left as soon as they are not what a mirror is. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import type { Test } from "tap"
import t from "tap"
import { addressAtMirror, MirrorFault, type MirrorLimits, takeFromMirror } from "../src/updates/transfer/mirror.ts"
import { deviceA, deviceB, handPeer, mebibyte, type Pack, packOf, poisoner, sha256Of, sideOf, soon, whole } from "./transfer-lab.ts"

type Answer = (request: IncomingMessage, response: ServerResponse, range: readonly [number, number]) => void

interface Mirror {
  readonly url: string
  readonly asked: () => number
  /** Bytes that it could get rid of. */
  readonly sent: () => number
}

/** A mirror has its turn soon. */
const patience = { mirrorAfterMs: 200 }

const mirrorOf = async (t: Test, answer: Answer): Promise<Mirror> => {
  let asked = 0
  let sent = 0
  const server = createServer((request, response) => {
    asked += 1
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "")
    response.on("error", () => {})
    const { socket } = request
    response.once("close", () => { sent += socket.bytesWritten })
    answer(request, response, [Number(range?.[1]), Number(range?.[2])])
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/kos/`, asked: () => asked, sent: () => sent }
}

const honest = (pack: Pack): Answer => (request, response, [from, to]) => {
  if (request.url !== `/kos/packs/${pack.ref.sha256}`) return void response.writeHead(404).end()
  response.writeHead(206, { "content-range": `bytes ${from}-${to}/${pack.ref.length}`, "content-length": to - from + 1 })
  response.end(pack.bytes.subarray(from, to + 1))
}
const rangeless = (pack: Pack): Answer => (_request, response) => {
  response.writeHead(200, { "content-length": pack.ref.length })
  response.end(pack.bytes)
}
/** Says what it should and sends other bytes. */
const lying = (pack: Pack): Answer => (_request, response, [from, to]) => {
  response.writeHead(206, { "content-range": `bytes ${from}-${to}/${pack.ref.length}`, "content-length": to - from + 1 })
  response.end(Buffer.alloc(to - from + 1, 0x6c))
}
const endless = (pack: Pack): Answer => (_request, response, [from, to]) => {
  response.writeHead(206, { "content-range": `bytes ${from}-${to}/${pack.ref.length}` })
  const more = () => { while (!response.destroyed && response.write(Buffer.alloc(65_536, 0x65))); }
  response.on("drain", more)
  more()
}

t.test("mirrors give what no device has: with ranges, without, and only what is missing", async (t) => {
  const pack = await packOf(t, 5 * mebibyte + 99, 1)
  const one = await mirrorOf(t, honest(pack))
  const a = sideOf(t, "a", { mirrors: [one.url], patience })
  let bytes = 0
  const file = await a.ensure(pack.ref, [{ offset: 3 * mebibyte, length: 1 }, { offset: 0, length: 1 }], { ...soon(), onBytes: (more) => { bytes += more } })
  t.equal(bytes, 2 * mebibyte)
  t.ok(one.sent() < 2.2 * mebibyte, `${one.sent()} bytes were sent for two pieces`)
  t.equal(await a.ensure(pack.ref, whole(pack), soon()), file)
  t.equal(sha256Of(file), pack.ref.sha256)
  const two = await mirrorOf(t, rangeless(pack))
  const b = sideOf(t, "b", { mirrors: [two.url], patience })
  t.equal(sha256Of(await b.ensure(pack.ref, whole(pack), soon())), pack.ref.sha256)
  t.ok(two.asked() <= 2, `${two.asked()} times it sent the whole file`)
})

t.test("mirrors that lie are left for the next one, and all that failed are named when nothing is left", async (t) => {
  const pack = await packOf(t, 4 * mebibyte, 2)
  const [liar, running, good] = [await mirrorOf(t, lying(pack)), await mirrorOf(t, endless(pack)), await mirrorOf(t, honest(pack))]
  const a = sideOf(t, "a", { mirrors: [liar.url, running.url, good.url], patience })
  t.equal(sha256Of(await a.ensure(pack.ref, whole(pack), soon())), pack.ref.sha256)
  t.equal(liar.asked(), 1, "one that lied is not asked again")
  t.equal(running.asked(), 1)
  t.ok(running.sent() < 16 * mebibyte, `the endless one got rid of ${running.sent()} bytes`)
  t.ok(a.notices.some((text) => text.includes(`The mirror ${liar.url} is left: piece 0 that it gives is not what its hash says.`)), a.notices.join(" "))

  const gone = await mirrorOf(t, (_request, response) => void response.writeHead(404).end())
  const b = sideOf(t, "b", { mirrors: [liar.url, gone.url], patience: { ...patience, stallMsMax: 1_000 } })
  await t.rejects(b.ensure(pack.ref, whole(pack), soon()), { message: /mirrors: .*is not what its hash says.*it answers 404/ })
  t.ok(gone.asked() <= 3, `asked ${gone.asked()} times`)
})

t.test("a mirror takes over from devices that keep silent, and from a banned one", async (t) => {
  const pack = await packOf(t, 3 * mebibyte, 3)
  const good = await mirrorOf(t, honest(pack))
  const a = sideOf(t, "a", { mirrors: [good.url], patience })
  a.onWanted(() => {
    void a.addWire(pack.hash, { device: deviceA, carrier: "mesh", stream: handPeer({ pack, block: () => undefined }).stream })
    void a.addWire(pack.hash, { device: deviceB, carrier: "mesh", stream: handPeer({ pack, block: () => undefined }).stream })
    void a.addWire(pack.hash, { device: poisoner, carrier: "mesh", stream: handPeer({ pack, block: (_i, _o, length) => Buffer.alloc(length) }).stream })
  })
  t.equal(sha256Of(await a.ensure(pack.ref, whole(pack), soon())), pack.ref.sha256)
  t.notOk(a.bans.includes(deviceA), "silence is no crime")
})

t.test("the fetcher of ranges: everything that a mirror may do wrong", async (t) => {
  const bytes = Buffer.alloc(300_000, 7)
  const total = bytes.byteLength
  const cases: Record<string, { readonly answer: Answer; readonly why: RegExp; readonly lies: boolean; readonly limits?: Partial<MirrorLimits> }> = {
    "another range": { answer: (_q, r) => void r.writeHead(206, { "content-range": `bytes 0-99/${total}` }).end(bytes.subarray(0, 100)), why: /not the one asked for/, lies: true },
    "a range of another file": { answer: (_q, r, [f, e]) => void r.writeHead(206, { "content-range": `bytes ${f}-${e}/${total + 1}` }).end(bytes.subarray(f, e + 1)), why: /not the one asked for/, lies: true },
    "200 and another file": { answer: (_q, r) => void r.writeHead(200, { "content-length": 5 }).end("hello"), why: /its file has 5 bytes/, lies: true },
    "200 without a length": { answer: (_q, r) => { r.writeHead(200); r.write("hello") }, why: /an unknown number of bytes/, lies: true },
    "more than it says": { answer: (_q, r, [f, e]) => void r.writeHead(206, { "content-range": `bytes ${f}-${e}/${total}` }).end(bytes.subarray(f, e + 100)), why: /more bytes than were asked for/, lies: true },
    "a length that does not fit": { answer: (_q, r, [f, e]) => void r.writeHead(206, { "content-range": `bytes ${f}-${e}/${total}`, "content-length": 10 }).end(bytes.subarray(0, 10)), why: /says 10 bytes/, lies: true },
    "less, then the end": { answer: (_q, r, [f, e]) => void r.writeHead(206, { "content-range": `bytes ${f}-${e}/${total}` }).end(bytes.subarray(0, 10)), why: /ends after 10 bytes/, lies: false },
    "a cut": { answer: (_q, r, [f, e]) => { r.writeHead(206, { "content-range": `bytes ${f}-${e}/${total}`, "content-length": e - f + 1 }); r.write(bytes.subarray(0, 10), () => r.destroy()) }, why: /./, lies: false },
    "no answer": { answer: () => {}, why: /does not answer within/, lies: false, limits: { answerMsMax: 150 } },
    "a byte at a time": { answer: (_q, r, [f, e]) => { r.writeHead(206, { "content-range": `bytes ${f}-${e}/${total}` }); const timer = setInterval(() => r.write("x"), 20); r.once("close", () => clearInterval(timer)) }, why: /less than 8192 bytes a second/, lies: false, limits: { paceMs: 200 } },
    "round in circles": { answer: (_q, r) => void r.writeHead(302, { location: "/again" }).end(), why: /redirects more than 3 times/, lies: false },
    "to a file of this computer": { answer: (_q, r) => void r.writeHead(302, { location: "file:///etc/passwd" }).end(), why: /redirects to file:/, lies: false },
    "compressed": { answer: (_q, r, [f, e]) => void r.writeHead(206, { "content-range": `bytes ${f}-${e}/${total}`, "content-encoding": "gzip" }).end(), why: /encodes as gzip/, lies: false },
    "an error": { answer: (_q, r) => void r.writeHead(503).end(), why: /it answers 503/, lies: false }
  }
  const take = (url: string, limits?: Partial<MirrorLimits>) => {
    const parts: Array<Uint8Array> = []
    return takeFromMirror({
      url, offset: 1_000, length: 200_000, total, signal: AbortSignal.timeout(5_000), now: () => performance.now(), ...limits === undefined ? {} : { limits },
      take: async (part) => { parts.push(Buffer.from(part)) }
    }).then((how) => ({ ...how, bytes: Buffer.concat(parts) }))
  }
  for (const [name, { answer, why, lies, limits }] of Object.entries(cases)) {
    const mirror = await mirrorOf(t, answer)
    const fault: unknown = await take(mirror.url, limits).then(() => undefined, (error: unknown) => error)
    if (!(fault instanceof MirrorFault)) {
      t.fail(`${name}: ${String(fault)}`)
      continue
    }
    t.match(fault.message, why, name)
    t.equal(fault.lies, lies, `${name}: a lie or not`)
  }
  const moved = await mirrorOf(t, (q, r, [f, e]) => q.url === "/kos/" ? void r.writeHead(301, { location: "/there" }).end()
    : void r.writeHead(206, { "content-range": `bytes ${f}-${e}/${total}` }).end(bytes.subarray(f, e + 1)))
  t.equal((await take(moved.url)).bytes.byteLength, 200_000, "one that moved is followed")
  const full = await mirrorOf(t, (_q, r) => void r.writeHead(200, { "content-length": total }).end(bytes))
  t.match(await take(full.url), { ranges: false })
  t.equal(addressAtMirror("http://mirror.example/kos", "ab"), "http://mirror.example/kos/packs/ab")
  for (const bad of ["ftp://mirror.example", "nonsense", "http://user:secret@mirror.example/"]) t.equal(addressAtMirror(bad, "ab"), undefined, bad)
})
