/**
 * Our use of libsodium against the published vectors of Wycheproof and CCTV, and against a second implementation (noble) on 10,000 seeded
 * cases: hash, derived keys, frames and their AEAD, signatures, sealed boxes, Argon2id. KOS_SEED changes the cases.
 */
import { argon2id } from "@noble/hashes/argon2.js"
import { blake2b } from "@noble/hashes/blake2.js"
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js"
import { hsalsa, xsalsa20poly1305 } from "@noble/ciphers/salsa.js"
import { ed25519, x25519 } from "@noble/curves/ed25519.js"
import { Result, Schema } from "effect"
import sodium from "sodium-native"
import { readFileSync } from "node:fs"
import * as zlib from "node:zlib"
import t from "tap"
import { fromHex, toHex } from "../src/codec/bytes.ts"
import { decodeCbor, encodeCbor } from "../src/codec/cbor.ts"
import { type Envelope, envelopeToWire } from "../src/codec/envelope.ts"
import { encodeEvent, frameHeader, frameKey, type FramePlace, openFrame, sealFrame } from "../src/codec/frame.ts"
import { asBuffer, deriveKey, hashParts } from "../src/codec/hash.ts"
import { openSealed, sealTo } from "../src/codec/seal.ts"
import { keyPairFromSeed, sign, verify } from "../src/codec/signature.ts"
import { chance, must } from "./membership-world.ts"

const seed = Number(process.env["KOS_SEED"] ?? 1)
const { below, next } = chance(seed)
const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => below(256))
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0
const bent = (content: Uint8Array): Uint8Array => {
  const at = below(content.byteLength)
  return Uint8Array.from(content, (byte, i) => i === at ? byte ^ (1 << below(8)) : byte)
}

const file = <F extends Schema.Struct.Fields>(fields: F) => Schema.Struct({
  source: Schema.String, licence: Schema.String, lowOrderPoints: Schema.optionalKey(Schema.Array(Schema.String)), tests: Schema.Array(Schema.Struct(fields))
})
const vectors = <A>(name: string, decode: (raw: unknown) => Result.Result<A, unknown>): A =>
  must(decode(JSON.parse(readFileSync(new URL(`vectors/${name}.json`, import.meta.url), "utf8"))))

t.test("Wycheproof, Ed25519: what is valid verifies, and nothing else does", async (t) => {
  const { tests } = vectors("wycheproof-ed25519", Schema.decodeUnknownResult(file({ id: Schema.Int, key: Schema.String, msg: Schema.String, sig: Schema.String, result: Schema.String })))
  for (const { id, key, msg, sig, result } of tests) t.equal(verify(fromHex(msg), fromHex(sig), fromHex(key)), result === "valid", `test ${id}`)
  t.ok(tests.filter(({ result }) => result === "invalid").length > 40 && tests.filter(({ result }) => result === "valid").length > 15)
  t.equal(verify(new Uint8Array(0), new Uint8Array(64), new Uint8Array(31)), false)
})

t.test("CCTV, Ed25519: points of low order and encodings that are not canonical are refused", async (t) => {
  const { tests, lowOrderPoints = [] } = vectors("cctv-ed25519", Schema.decodeUnknownResult(file({ id: Schema.Int, key: Schema.String, msg: Schema.String, sig: Schema.String, comment: Schema.String })))
  // A point of prime order with a component of low order in R and A, which cancel out: libsodium accepts what no list of points can tell.
  const accepted = ["low order components"]
  for (const { id, key, msg, sig, comment } of tests) {
    t.equal(verify(Buffer.from(msg), fromHex(sig), fromHex(key)), accepted.includes(comment), `vector ${id}: ${comment}`)
  }
  t.equal(lowOrderPoints.length, 14)
  for (const point of lowOrderPoints) t.equal(sealTo(new Uint8Array(32), point), undefined, "nothing is sealed to a key of low order")
})

t.test("Wycheproof, XChaCha20-Poly1305: sealed as they say, and no changed tag opens", async (t) => {
  const { tests } = vectors("wycheproof-xchacha20-poly1305", Schema.decodeUnknownResult(file({ id: Schema.Int, key: Schema.String, iv: Schema.String, aad: Schema.String, msg: Schema.String, ct: Schema.String, tag: Schema.String })))
  for (const { id, key, iv, aad, msg, ct, tag } of tests) {
    const sealed = aeadSeal(fromHex(key), fromHex(iv), fromHex(aad), fromHex(msg))
    t.equal(toHex(sealed), ct + tag, `test ${id}`)
    for (let bit = 0; bit < 128; bit++) {
      const wrong = Uint8Array.from(sealed, (byte, i) => i === sealed.byteLength - 16 + (bit >> 3) ? byte ^ (1 << (bit & 7)) : byte)
      if (aeadOpen(fromHex(key), fromHex(iv), fromHex(aad), wrong) !== undefined) t.fail(`test ${id} opens with bit ${bit} of its tag changed`)
    }
  }
})

t.test("Wycheproof, X25519, on which sealed boxes stand: the shared secret, and none with a point of low order", async (t) => {
  const { tests } = vectors("wycheproof-x25519", Schema.decodeUnknownResult(file({ id: Schema.Int, public: Schema.String, private: Schema.String, shared: Schema.String, result: Schema.String })))
  for (const { id, public: publicKey, private: secretKey, shared } of tests) {
    const out = Buffer.alloc(32)
    const run = () => sodium.crypto_scalarmult(out, asBuffer(fromHex(secretKey)), asBuffer(fromHex(publicKey)))
    if (/^0+$/.test(shared)) t.throws(run, `test ${id}`)
    else {
      run()
      t.equal(toHex(out), shared, `test ${id}`)
    }
  }
})

const aeadSeal = (key: Uint8Array, nonce: Uint8Array, ad: Uint8Array, content: Uint8Array): Uint8Array => {
  const out = Buffer.alloc(content.byteLength + 16)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(out, asBuffer(content), asBuffer(ad), null, asBuffer(nonce), asBuffer(key))
  return out
}
const aeadOpen = (key: Uint8Array, nonce: Uint8Array, ad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined => {
  const out = Buffer.alloc(sealed.byteLength - 16)
  try {
    sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(out, null, asBuffer(sealed), asBuffer(ad), asBuffer(nonce), asBuffer(key))
    return out
  } catch {
    return undefined
  }
}

// The second implementation: our constructions written down once more, on noble.
const other = {
  parts: (label: string, parts: ReadonlyArray<Uint8Array>): Uint8Array => Buffer.concat([Buffer.from(label), ...parts].flatMap((part) => {
    const size = Buffer.alloc(4)
    size.writeUInt32BE(part.byteLength)
    return [size, part]
  })),
  hash: (label: string, ...parts: ReadonlyArray<Uint8Array>): Uint8Array => blake2b(other.parts(label, parts), { dkLen: 32 }),
  derive: (key: Uint8Array, label: string, ...parts: ReadonlyArray<Uint8Array>): Uint8Array => blake2b(other.hash(label, ...parts), { dkLen: 32, key }),
  index: (block: number): Uint8Array => {
    const out = Buffer.alloc(8)
    out.writeBigUInt64BE(BigInt(block))
    return out
  },
  frameKey: (epochKey: Uint8Array, { log, block }: FramePlace, nonce: Uint8Array): Uint8Array =>
    other.derive(epochKey, "kos/frame-key/1", fromHex(log), other.index(block), nonce),
  seal: (content: Uint8Array, place: FramePlace, epoch: number, epochKey: Uint8Array, nonce: Uint8Array): Uint8Array => {
    const key = other.frameKey(epochKey, place, nonce)
    const header = Buffer.concat([Buffer.of(1, epoch >>> 24, (epoch >>> 16) & 255, (epoch >>> 8) & 255, epoch & 255), nonce, other.hash("kos/frame-commit/1", key)])
    const ad = Buffer.concat([header, fromHex(place.log), other.index(place.block)])
    return Buffer.concat([header, xchacha20poly1305(key, nonce, ad).encrypt(content)])
  },
  open: (frame: Uint8Array, place: FramePlace, epochKey: Uint8Array): Uint8Array => {
    const key = other.frameKey(epochKey, place, frame.subarray(5, 29))
    if (!same(other.hash("kos/frame-commit/1", key), frame.subarray(29, 61))) throw new Error("not committed to this key")
    const ad = Buffer.concat([frame.subarray(0, 61), fromHex(place.log), other.index(place.block)])
    return xchacha20poly1305(key, frame.subarray(5, 29), ad).decrypt(frame.subarray(61))
  },
  /** libsodium's sealed box: an ephemeral X25519 key, the nonce a BLAKE2b of both public keys, the key by HSalsa20. */
  box: (shared: Uint8Array, ephemeral: Uint8Array, reader: Uint8Array) => {
    const words = (content: Uint8Array): Uint32Array => Uint32Array.from({ length: content.byteLength / 4 }, (_, i) => asBuffer(content).readUInt32LE(4 * i))
    const key = new Uint32Array(8)
    hsalsa(words(Buffer.from("expand 32-byte k")), words(shared), new Uint32Array(4), key)
    const out = Buffer.alloc(32)
    key.forEach((word, i) => out.writeUInt32LE(word, 4 * i))
    return xsalsa20poly1305(out, blake2b(Buffer.concat([ephemeral, reader]), { dkLen: 24 }))
  },
  sealTo: (content: Uint8Array, reader: Uint8Array, secret: Uint8Array): Uint8Array => {
    const to = ed25519.utils.toMontgomery(reader)
    const ephemeral = x25519.getPublicKey(secret)
    return Buffer.concat([ephemeral, other.box(x25519.getSharedSecret(secret, to), ephemeral, to).encrypt(content)])
  },
  openSealed: (sealed: Uint8Array, deviceSeed: Uint8Array): Uint8Array => {
    const to = ed25519.utils.toMontgomery(ed25519.getPublicKey(deviceSeed))
    const ephemeral = sealed.subarray(0, 32)
    return other.box(x25519.getSharedSecret(ed25519.utils.toMontgomerySecret(deviceSeed), ephemeral), ephemeral, to).decrypt(sealed.subarray(32))
  }
}

let cases = 0
const times = (count: number, run: (i: number) => string | undefined, t: Tap): void => {
  for (let i = 0; i < count; i++) {
    cases++
    const why = run(i)
    if (why !== undefined) t.fail(`case ${i} of seed ${seed}: ${why}`)
  }
  t.pass(`${count} cases`)
}
type Tap = { fail(text: string): unknown; pass(text: string): unknown }

t.test(`sodium and noble agree: hashes and derived keys (seed ${seed})`, async (t) => {
  const label = () => ["kos/a/1", "", "kos/frame-key/1", "é漢"][below(4)] ?? ""
  const parts = () => Array.from({ length: below(5) }, () => bytes(below(300)))
  times(2_000, () => {
    const [l, p] = [label(), parts()]
    return same(hashParts(l, ...p), other.hash(l, ...p)) ? undefined : `hash of ${p.length} parts`
  }, t)
  times(2_000, () => {
    const [k, l, p] = [bytes(32), label(), parts()]
    return same(deriveKey(k, l, ...p), other.derive(k, l, ...p)) ? undefined : `key from ${p.length} parts`
  }, t)
})

t.test(`sodium and noble agree: authenticated encryption (seed ${seed})`, async (t) => {
  times(3_000, () => {
    const [key, nonce, ad, content] = [bytes(32), bytes(24), bytes(below(120)), bytes(below(next() < 0.05 ? 5_000 : 300))]
    const sealed = aeadSeal(key, nonce, ad, content)
    const again = xchacha20poly1305(key, nonce, ad)
    if (!same(sealed, again.encrypt(content))) return `${content.byteLength} bytes are sealed otherwise`
    if (!same(again.decrypt(sealed), content)) return "does not open there"
    return aeadOpen(key, nonce, ad, bent(sealed)) === undefined ? undefined : "opens although it was changed"
  }, t)
})

const anyEvent = (log: string): Envelope => ({
  type: "garden.watered/3", at: { ms: below(2 ** 40), count: below(65_536) }, actor: "person:Mara", subject: "memory/garden", command: "",
  cause: Array.from({ length: below(3) }, () => ({ log, block: below(1e6), offset: below(256) })), body: { text: "bean ".repeat(below(60)), bytes: bytes(below(80)) }
})

t.test(`sodium and noble agree: whole frames, sealed by one and opened by the other (seed ${seed})`, async (t) => {
  const place = (): FramePlace => ({ log: toHex(bytes(32)), block: below(2 ** 40) })
  times(1_000, () => {
    const [at, epochKey, epoch] = [place(), bytes(32), below(2 ** 31) * 2 + below(2)]
    const events = Array.from({ length: 1 + below(4) }, () => anyEvent(at.log))
    const content = other.open(sealFrame(events.map((event) => encodeEvent(event, at.log)), at, epoch, epochKey), at, epochKey)
    const cbor = content[0] === 1 ? zlib.zstdDecompressSync(content.subarray(1)) : content.subarray(1)
    return same(encodeCbor(must(decodeCbor("frame", cbor))), encodeCbor(events.map((event) => envelopeToWire(event, at.log)))) ? undefined : "ours, opened there"
  }, t)
  times(1_000, () => {
    const [at, epochKey, epoch, nonce] = [place(), bytes(32), below(2 ** 31) * 2 + below(2), bytes(24)]
    const events = Array.from({ length: 1 + below(4) }, () => anyEvent(at.log))
    const frame = other.seal(Buffer.concat([Buffer.of(0), encodeCbor(events.map((event) => envelopeToWire(event, at.log)))]), at, epoch, epochKey, nonce)
    const header = must(frameHeader(frame))
    if (header.epoch !== epoch || !same(header.nonce, nonce)) return "its header is read otherwise"
    const opened = openFrame(frame, at, frameKey(epochKey, at, nonce))
    if (Result.isFailure(opened) || opened.success.length !== events.length) return "theirs does not open here"
    return Result.isFailure(openFrame(bent(frame), at, frameKey(epochKey, at, nonce))) ? undefined : "opens although it was changed"
  }, t)
})

t.test(`sodium and noble agree: signatures, sealed boxes, Argon2id (seed ${seed})`, async (t) => {
  times(400, (i) => {
    const [secret, message] = [bytes(32), bytes(below(200))]
    const pair = keyPairFromSeed(secret)
    const signature = sign(message, pair)
    if (i % 4 === 0 && !same(pair.publicKey, ed25519.getPublicKey(secret))) return "another public key"
    return same(signature, ed25519.sign(message, secret)) ? undefined : "another signature"
  }, t)
  times(200, (i) => {
    const [secret, message] = [bytes(32), bytes(below(200))]
    const pair = keyPairFromSeed(secret)
    const signature = i % 2 === 0 ? sign(message, pair) : bent(sign(message, pair))
    const judged = verify(message, signature, pair.publicKey)
    return judged === (i % 2 === 0) && judged === ed25519.verify(signature, message, pair.publicKey, { zip215: false }) ? undefined : "judged otherwise"
  }, t)
  times(200, () => {
    const [secret, content] = [bytes(32), bytes(below(100))]
    const box = sealTo(content, toHex(keyPairFromSeed(secret).publicKey))
    return box !== undefined && same(other.openSealed(box, secret), content) ? undefined : "our box does not open there"
  }, t)
  times(194, () => {
    const [secret, content] = [bytes(32), bytes(below(100))]
    const pair = keyPairFromSeed(secret)
    const box = other.sealTo(content, pair.publicKey, bytes(32))
    const opened = openSealed(box, pair)
    if (opened === undefined || !same(opened, content)) return "their box does not open here"
    return openSealed(bent(box), pair) === undefined ? undefined : "opens although it was changed"
  }, t)
  for (const [ops, kib] of [[1, 8], [1, 64], [2, 256], [3, 64], [4, 16], [2, 1_024]] as const) {
    cases++
    const [password, salt, out] = [bytes(below(40)), bytes(16), Buffer.alloc(32)]
    await sodium.crypto_pwhash_async(out, asBuffer(password), asBuffer(salt), ops, kib * 1_024, sodium.crypto_pwhash_ALG_ARGON2ID13)
    t.equal(toHex(out), toHex(argon2id(password, salt, { t: ops, m: kib, p: 1, dkLen: 32 })), `Argon2id, ${ops} passes over ${kib} KiB`)
  }
  t.equal(cases, 10_000)
})
