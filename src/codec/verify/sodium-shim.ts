/**
 * What the codec uses of libsodium, for the one built file that runs on any Node: BLAKE2b of @noble/hashes, Ed25519 and
 * ChaCha20-Poly1305 of Node's OpenSSL, HChaCha20 by hand (draft-irtf-cfrg-xchacha-03, section 2.2). The build puts it in the
 * place of sodium-native; a test compares the two.
 */
import { blake2b } from "@noble/hashes/blake2.js"
import { createDecipheriv, createPublicKey, verify } from "node:crypto"

const spki = Buffer.from("302a300506032b6570032100", "hex")

/** Points of small order and their negatives (last bit ignored): libsodium refuses them, OpenSSL would not. */
const smallOrder = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
]

const isSmallOrder = (point: Buffer): boolean => {
  const copy = Buffer.from(point)
  copy[31] = (copy[31] ?? 0) & 0x7f
  return smallOrder.includes(copy.toString("hex"))
}

const chunked = (out: Buffer, inputs: ReadonlyArray<Buffer>, key?: Buffer): void => {
  const hash = blake2b.create(key === undefined ? { dkLen: out.byteLength } : { dkLen: out.byteLength, key })
  for (const input of inputs) hash.update(input)
  out.set(hash.digest())
}

export default {
  crypto_generichash: (out: Buffer, input: Buffer, key?: Buffer): void => chunked(out, [input], key),
  crypto_generichash_batch: chunked,
  crypto_sign_verify_detached: (signature: Buffer, message: Buffer, publicKey: Buffer): boolean => {
    if (isSmallOrder(publicKey) || isSmallOrder(signature.subarray(0, 32))) return false
    try {
      return verify(null, message, createPublicKey({ key: Buffer.concat([spki, publicKey]), format: "der", type: "spki" }), signature)
    } catch {
      return false
    }
  },
  /** Throws when the tag does not fit, as sodium-native does. */
  crypto_aead_xchacha20poly1305_ietf_decrypt: (
    out: Buffer, _nsec: null, cipher: Buffer, ad: Buffer | null, nonce: Buffer, key: Buffer
  ): number => {
    const iv = Buffer.concat([Buffer.alloc(4), nonce.subarray(16, 24)])
    const opener = createDecipheriv("chacha20-poly1305", hchacha20(key, nonce), iv, { authTagLength: 16 })
    const size = cipher.byteLength - 16
    if (ad !== null) opener.setAAD(ad, { plaintextLength: size })
    opener.setAuthTag(cipher.subarray(size))
    const plain = Buffer.concat([opener.update(cipher.subarray(0, size)), opener.final()])
    out.set(plain)
    return plain.byteLength
  }
}

/** The key for the inner cipher, from a 32-byte key and the first 16 bytes of the nonce. */
const hchacha20 = (key: Buffer, nonce: Buffer): Buffer => {
  const s = new Uint32Array(16)
  s.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574])
  for (let i = 0; i < 8; i++) s[4 + i] = key.readUInt32LE(i * 4)
  for (let i = 0; i < 4; i++) s[12 + i] = nonce.readUInt32LE(i * 4)
  const at = (i: number): number => s[i] ?? 0
  const mix = (a: number, b: number, c: number, d: number): void => {
    s[a] = at(a) + at(b)
    s[d] = rotate(at(d) ^ at(a), 16)
    s[c] = at(c) + at(d)
    s[b] = rotate(at(b) ^ at(c), 12)
    s[a] = at(a) + at(b)
    s[d] = rotate(at(d) ^ at(a), 8)
    s[c] = at(c) + at(d)
    s[b] = rotate(at(b) ^ at(c), 7)
  }
  for (let round = 0; round < 10; round++) {
    mix(0, 4, 8, 12)
    mix(1, 5, 9, 13)
    mix(2, 6, 10, 14)
    mix(3, 7, 11, 15)
    mix(0, 5, 10, 15)
    mix(1, 6, 11, 12)
    mix(2, 7, 8, 13)
    mix(3, 4, 9, 14)
  }
  const out = Buffer.alloc(32)
  for (let i = 0; i < 4; i++) {
    out.writeUInt32LE(at(i), i * 4)
    out.writeUInt32LE(at(12 + i), 16 + i * 4)
  }
  return out
}

const rotate = (value: number, bits: number): number => (value << bits) | (value >>> (32 - bits))
