/** The pure floor: every codec reads back what it wrote, and no bytes make it throw. */
import { Result } from "effect"
import * as zlib from "node:zlib"
import t from "tap"
import { addressText, parseAddress } from "../src/codec/address.ts"
import { fromHex, isHex, toHex } from "../src/codec/bytes.ts"
import { cborDepthMax, decodeCbor, encodeCbor } from "../src/codec/cbor.ts"
import { clockAheadMsMax, clockEpochMs, compareStamps, receive, type Stamp, stampCountMax, stampMsMax, stampText, stampZero, tick } from "../src/codec/clock.ts"
import { type Envelope, envelopeFromWire, envelopeToWire, isActor, isEventType } from "../src/codec/envelope.ts"
import { encodeEvent, frameBytesMax, frameEventsMax, frameHeader, frameKey, openFrame, sealFrame } from "../src/codec/frame.ts"
import { deriveKey, hashParts } from "../src/codec/hash.ts"
import { keyPairFromSeed, randomBytes, sign, verify } from "../src/codec/signature.ts"
import { isUuidv7, uuidBytes, uuidText, uuidv7 } from "../src/codec/uuid.ts"
import { decodeBody, documentTypes, eventTypes, type EventType } from "../src/events/catalogue.ts"
import { ingestBlock } from "../src/events/ingest.ts"
import { singleKeyring } from "../src/vault/keyring.ts"
import { Schema } from "effect"
import { seededRandom } from "../src/swarm/carriers/memory.ts"

const seed = Number(process.env["KOS_SEED"] ?? 1)
const random = seededRandom(seed, "codec")
const pick = (n: number) => Math.floor(random() * n)
const bytes = (n: number) => Uint8Array.from({ length: n }, () => pick(256))
const log = toHex(bytes(32))
const other = toHex(bytes(32))
const key = bytes(32)

const anyText = () => Array.from({ length: pick(12) }, () => ["a", "é", "漢", "😀", " ", "/", "."][pick(7)]).join("")
const anyValue = (depth = 0): unknown => {
  const kind = pick(depth > 3 ? 6 : 8)
  if (kind === 0) return null
  if (kind === 1) return pick(2) === 1
  if (kind === 2) return pick(2) === 0 ? pick(1e9) : -pick(1e9)
  if (kind === 3) return anyText()
  if (kind === 4) return bytes(pick(20))
  if (kind === 5) return random() * 1e6 - 5e5
  if (kind === 6) return Array.from({ length: pick(5) }, () => anyValue(depth + 1))
  return Object.fromEntries(Array.from({ length: pick(5) }, (_, i) => [`${anyText()}${i}`, anyValue(depth + 1)]))
}
const anyEnvelope = (): Envelope => ({
  type: ["config.changed/1", "garden.watered/3", "node.started/1"][pick(3)] ?? "node.started/1",
  at: { ms: pick(2 ** 47), count: pick(65_536) }, actor: ["device", "agent:watcher", "person:Mara"][pick(3)] ?? "device",
  subject: anyText().replace(/[\u0000-\u001f]/g, ""), command: pick(2) === 0 ? "" : uuidv7(pick(2 ** 47), bytes(10)),
  cause: Array.from({ length: pick(4) }, () => ({ log: pick(2) === 0 ? log : other, block: pick(1e6), offset: pick(256) })), body: anyValue()
})

t.test(`envelopes and frames read back as they were written (seed ${seed})`, async (t) => {
  for (let round = 0; round < 300; round++) {
    const events = Array.from({ length: 1 + pick(20) }, anyEnvelope)
    for (const event of events) t.same(Result.getOrThrow(envelopeFromWire(envelopeToWire(event, log), log)), event)
    const place = { log, block: pick(1e9) }
    const frame = sealFrame(events.map((event) => encodeEvent(event, log)), place, pick(5), key)
    const nonce = Result.getOrThrow(frameHeader(frame)).nonce
    t.same(Result.getOrThrow(openFrame(frame, place, frameKey(key, place, nonce))), events)
  }
})

t.test("a frame opens at its own place, whole, under its own key, and nowhere else", async (t) => {
  const place = { log, block: 7 }
  const frame = sealFrame([encodeEvent({ ...anyEnvelope(), body: "x".repeat(400) }, log)], place, 0, key)
  const mine = frameKey(key, place, Result.getOrThrow(frameHeader(frame)).nonce)
  t.ok(Result.isSuccess(openFrame(frame, place, mine)))
  for (const wrong of [{ log, block: 8 }, { log: other, block: 7 }]) t.ok(Result.isFailure(openFrame(frame, wrong, mine)))
  t.ok(Result.isFailure(openFrame(frame, place, bytes(32))))
  for (let i = 0; i < frame.byteLength; i++) {
    const bent = Buffer.from(frame)
    bent[i] = (bent[i] ?? 0) ^ (1 << pick(8))
    if (Result.isSuccess(openFrame(bent, place, mine))) t.fail(`byte ${i} can be changed unnoticed`)
  }
  for (let length = 0; length < frame.byteLength; length += 3) t.ok(Result.isFailure(openFrame(frame.subarray(0, length), place, mine)))
})

/** Seals any plaintext as a member with the key could. */
const sealRaw = (content: Uint8Array, place: { readonly log: string; readonly block: number }): Uint8Array => {
  const honest = sealFrame([content], place, 0, key)
  return honest
}

t.test("hostile contents of a well-sealed frame are a reason, never an exception", async (t) => {
  const place = { log, block: 0 }
  const ring = singleKeyring(key)
  const contents: ReadonlyArray<readonly [string, Uint8Array]> = [
    ["no event", encodeCbor(null)], ["a map", encodeCbor({ type: "x" })], ["too few", encodeCbor([1, 2, 3])],
    ["a wrong type", encodeCbor(["Node Started", 1, 0, "device", "", null, [], null])],
    ["a stamp beyond limits", encodeCbor(["node.started/1", 2 ** 50, 0, "device", "", null, [], null])],
    ["a wrong actor", encodeCbor(["node.started/1", 1, 0, "root", "", null, [], null])],
    ["a control character", encodeCbor(["node.started/1", 1, 0, "device", "a\nb", null, [], null])],
    ["a short command", encodeCbor(["node.started/1", 1, 0, "device", "", new Uint8Array(3), [], null])],
    ["a negative cause", encodeCbor(["node.started/1", 1, 0, "device", "", null, [[null, -1, 0]], null])],
    ["too many causes", encodeCbor(["node.started/1", 1, 0, "device", "", null, Array.from({ length: 17 }, () => [null, 1, 0]), null])],
    ["an unfinished item", Uint8Array.of(0x9f, 0x01)], ["a tag", Uint8Array.of(0xc1, 0x01)], ["nothing", new Uint8Array(0)],
    ["a deep nest", Buffer.concat([Buffer.alloc(5_000, 0x81), Buffer.of(0)])]
  ]
  for (const [what, content] of contents) t.equal(ingestBlock(sealRaw(content, place), place, ring)._tag, "Quarantined", what)
  for (let i = 0; i < 2_000; i++) {
    const ingested = ingestBlock(sealRaw(bytes(pick(60)), place), place, ring)
    if (ingested._tag === "Sealed") t.fail("its epoch is known")
  }
  for (let i = 0; i < 2_000; i++) t.not(ingestBlock(bytes(pick(300)), place, ring)._tag, "Opened")
})

t.test("what is too much is refused before it is unpacked", async (t) => {
  const place = { log, block: 0 }
  const bomb = encodeCbor(["node.started/1", 1, 0, "device", "", null, [], "a".repeat(3 * frameBytesMax)])
  const frame = sealFrame([bomb], place, 0, key)
  t.ok(frame.byteLength < 10_000, `${frame.byteLength} bytes hold ${bomb.byteLength}`)
  t.match(ingestBlock(frame, place, singleKeyring(key)), { _tag: "Quarantined", why: /larger than/ })
  const crowd = sealFrame(Array.from({ length: frameEventsMax + 1 }, () => encodeEvent(anyEnvelope(), log)), place, 0, key)
  t.match(ingestBlock(crowd, place, singleKeyring(key)), { _tag: "Quarantined", why: /257 events/ })
  t.match(ingestBlock(new Uint8Array(frameBytesMax + 1), place, singleKeyring(key)), { _tag: "Quarantined" })
  t.match(ingestBlock(sealFrame([encodeEvent(anyEnvelope(), log)], place, 3, key), place, singleKeyring(key)), { _tag: "Sealed", epoch: 3 })
  t.ok(zlib.constants.ZSTD_c_compressionLevel > 0)
})

t.test("CBOR: deep, indefinite, tagged, doubled keys and foreign numbers are refused", async (t) => {
  const nested = (depth: number) => Buffer.concat([Buffer.alloc(depth, 0x81), Buffer.of(0)])
  t.ok(Result.isSuccess(decodeCbor("x", nested(cborDepthMax))))
  t.ok(Result.isFailure(decodeCbor("x", nested(cborDepthMax + 1))))
  t.ok(Result.isFailure(decodeCbor("x", nested(200_000))), "and no stack is exhausted")
  for (const bad of [[0x9f, 0xff], [0xf7], [0xf9, 0x7e, 0x00], [0xc0, 0x00], [0xa2, 0x61, 0x61, 0x01, 0x61, 0x61, 0x02], [0x18, 0x01], []]) {
    t.ok(Result.isFailure(decodeCbor("x", Uint8Array.from(bad))), bad.map((byte) => byte.toString(16)).join(" "))
  }
  const proto = Result.getOrThrow(decodeCbor("x", Buffer.from("a1695f5f70726f746f5f5fa16161f5", "hex")))
  t.equal(Object.getPrototypeOf(proto), Object.prototype, "a key __proto__ changes no prototype")
})

t.test("the clock never runs backwards, and nobody drags it far ahead", async (t) => {
  let last: Stamp = stampZero
  for (let i = 0; i < 20_000; i++) {
    const wall = pick(3) === 0 ? pick(2 ** 42) : clockEpochMs + pick(1e10)
    if (pick(3) === 0) {
      const remote = { ms: pick(2 ** 48), count: pick(65_536) }
      const next = receive(last, remote, wall)
      if (compareStamps(next, last) < 0) t.fail("receive went back")
      if (wall >= clockEpochMs && compareStamps(next, last) > 0 && next.ms > wall + clockAheadMsMax) t.fail("a remote stamp dragged the clock ahead")
      last = next
    } else {
      const next = tick(last, wall)
      if (compareStamps(next, last) <= 0) t.fail("tick did not go on")
      last = next
    }
    if (last.ms > stampMsMax || last.count > stampCountMax) t.fail("out of range")
  }
  t.same(tick({ ms: 5, count: stampCountMax }, 0), { ms: 6, count: 0 }, "a full counter borrows from the next millisecond")
  t.same(receive({ ms: 0, count: 0 }, { ms: clockEpochMs, count: 3 }, 1_000), { ms: clockEpochMs, count: 3 }, "a clock of 1970 believes others")
  t.equal(stampText({ ms: stampMsMax, count: 0 }).length > 0, true)
})

t.test("small spellings", async (t) => {
  for (let i = 0; i < 500; i++) {
    const address = { log, block: pick(2 ** 40), offset: pick(256) }
    t.same(parseAddress(addressText(address)), address)
    const id = uuidv7(pick(2 ** 47), bytes(10))
    t.ok(isUuidv7(id))
    t.equal(uuidText(uuidBytes(id)), id)
    const raw = bytes(pick(40))
    t.same(fromHex(toHex(raw)), raw)
    const text = anyText()
    t.equal(parseAddress(text), undefined)
  }
  t.notOk(isHex("AB", 1))
  t.notOk(isHex("abc", 1))
  t.ok(isEventType("log.attached/1"))
  for (const wrong of ["log/1", "Log.attached/1", "log.attached/0", "log.attached", "log..x/1", `a.${"b".repeat(99)}/1`]) t.notOk(isEventType(wrong), wrong)
  for (const wrong of ["", "root", "agent:", "person:a\u0007"]) t.notOk(isActor(wrong), wrong)
  t.not(toHex(hashParts("a", Uint8Array.of(1), Uint8Array.of(2))), toHex(hashParts("a", Uint8Array.of(1, 2))), "parts do not run together")
  t.not(toHex(deriveKey(key, "a", key)), toHex(deriveKey(key, "b", key)))
  const pair = keyPairFromSeed(randomBytes(32))
  const signature = sign(key, pair)
  t.ok(verify(key, signature, pair.publicKey))
  t.notOk(verify(bytes(32), signature, pair.publicKey))
  t.notOk(verify(key, signature.subarray(1), pair.publicKey))
})

t.test("an older version of a body is read as the newest; unknown types are no fault; known types with a wrong body are", async (t) => {
  const old: EventType = {
    type: "lamp.lit/1", durability: "durable", body: Schema.Struct({ minutes: Schema.Int }), says: () => "",
    upcast: { to: "lamp.lit/2", body: ({ minutes }: { readonly minutes: number }) => ({ seconds: minutes * 60 }) }
  }
  const now: EventType = { type: "lamp.lit/2", durability: "durable", body: Schema.Struct({ seconds: Schema.Int }), says: (body) => `${body.seconds} s` }
  const catalogue = new Map([[old.type, old], [now.type, now]])
  const read = Result.getOrThrow(decodeBody("lamp.lit/1", { minutes: 2 }, catalogue))
  t.match(read, { _tag: "Known", type: { type: "lamp.lit/2" }, body: { seconds: 120 } })
  t.ok(Result.isFailure(decodeBody("lamp.lit/1", { minutes: "two" }, catalogue)))
  t.match(Result.getOrThrow(decodeBody("garden.watered/1", { anything: 1 })), { _tag: "Unknown" })
  for (const type of eventTypes.keys()) {
    t.ok(isEventType(type), type)
    if (type !== "sync.paused/1" && type !== "sync.resumed/1") t.ok(Result.isFailure(decodeBody(type, 7)), `${type} refuses a number`)
  }
  for (const type of documentTypes) t.ok(Result.isFailure(decodeBody(type, { change: new Uint8Array(300_000), paths: [], summary: "" })), `${type} refuses a change that is too large`)
})
