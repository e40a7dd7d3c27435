/**
 * How secrets lie on the disk. Design section 5; kept by `vault.ts`.
 *
 * What this owns. The bytes of two kinds of file, and nothing of where they lie. A *sealed secret* is any secret of this home under the
 * *home key*, 32 random bytes. The *home-key file* is that key under one of three locks: a passphrase (Argon2id), a credential of
 * systemd, or a key file. So whoever changes the passphrase writes one file, and the secrets stay as they are.
 *
 * ```text
 * sealed secret   "kos/sealed/1\n" 13 | nonce 24 | XChaCha20-Poly1305 of the secret, 16 longer
 *                 bound to its place in the home ("keys/device"), so that no file passes for another
 * home-key file   "kos/home-key/1\n" 15 | size of header, 2 | header, CBOR | XChaCha20-Poly1305 of the home key, 48
 *                 bound to everything before it, so that no byte of the header can be changed unseen
 * ```
 *
 * Invariants.
 * 1. What does not open gives an error and changes nothing. Wrong passphrase and changed bytes cannot be told apart: both are said.
 * 2. A hostile header asks for no more than `argonMemKiBMax` of memory and `argonOpsMax` passes; it is read before any work is done.
 * 3. Keys that are derived here are overwritten after use. What callers hand in stays theirs to overwrite.
 *
 * What sealing cannot do. A running node has its keys in memory. And a raw key that once lay on a disk may be found on it after the
 * file was replaced: flash and copy-on-write file systems keep old blocks. Who needs more seals before the first key is made.
 */
import { Result, Schema } from "effect"
import sodium from "sodium-native"
import { equalBytes, toHex, utf8 } from "../codec/bytes.ts"
import { decodeCbor, encodeCbor } from "../codec/cbor.ts"
import { asBuffer, deriveKey, hashParts } from "../codec/hash.ts"
import { randomBytes } from "../codec/signature.ts"
import { VaultError } from "./vault-error.ts"

export const homeKeyBytes = 32
/** A secret at most, bytes. */
export const secretBytesMax = 64 * 1024
/** A home-key file at most, bytes. */
export const homeKeyFileBytesMax = 8 * 1024
/** A passphrase, the content of a credential or of a key file at most, bytes. */
export const lockSecretBytesMax = 64 * 1024
/** A credential or key file at least, bytes: it is hashed, not stretched, so it must be random. */
export const lockKeyBytesMin = 32

/** Cost of Argon2id: passes over the memory, and the memory. */
export interface ArgonCost {
  readonly ops: number
  readonly memKiB: number
}

/** RFC 9106, section 4, second recommendation (64 MiB, three passes), with one lane: a Pi Zero 2 has 512 MiB and takes a second or two. */
export const argonStandard: ArgonCost = { ops: 3, memKiB: 64 * 1024 }
export const argonOpsMax = 10
export const argonMemKiBMin = 8 * 1024
export const argonMemKiBMax = 256 * 1024

export const ways = ["passphrase", "credential", "key-file"] as const
/** What opens the home key. */
export type Way = typeof ways[number]

/** What locks a home: the way, and the secret of it. */
export interface Lock {
  readonly way: Way
  /** Name of the credential, or path of the key file; empty for a passphrase. */
  readonly name: string
  /** The passphrase, or what the credential or file holds. */
  readonly secret: Uint8Array
  readonly cost?: ArgonCost
}

/** What a home-key file says in clear. */
export interface HomeKeyHeader {
  readonly way: Way
  readonly name: string
  /** Public device key of the home, hex; of a home that is not opened it is only what the file claims. */
  readonly device: string
  readonly cost: ArgonCost
}

const nonceSize = 24
const tagSize = 16
const saltSize = 16
const sealedMagic = utf8("kos/sealed/1\n")
const homeMagic = utf8("kos/home-key/1\n")

/** Is this a sealed secret, by its first bytes? */
export const isSealed = (bytes: Uint8Array): boolean => begins(bytes, sealedMagic)

/** `place` is the file's path below the home. */
export const sealSecret = (homeKey: Uint8Array, place: string, secret: Uint8Array): Uint8Array => {
  if (secret.byteLength > secretBytesMax) throw new VaultError({ reason: "refused", detail: `${place} would have ${secret.byteLength} bytes, more than ${secretBytesMax}` })
  const nonce = randomBytes(nonceSize)
  return Buffer.concat([sealedMagic, nonce, encrypt(homeKey, nonce, placeData(place), secret)])
}

/** Throws `damaged` when it was changed, or sealed for another place or under another key. */
export const openSecret = (homeKey: Uint8Array, place: string, bytes: Uint8Array): Uint8Array => {
  const from = sealedMagic.byteLength + nonceSize
  const opened = isSealed(bytes) && bytes.byteLength >= from + tagSize
    ? decrypt(homeKey, bytes.subarray(sealedMagic.byteLength, from), placeData(place), bytes.subarray(from)) : undefined
  if (opened === undefined) throw new VaultError({ reason: "damaged", detail: `${place} is damaged, or was sealed under another home key` })
  return opened
}

const placeData = (place: string): Uint8Array => utf8(`kos/sealed/1 ${place}`)

const Bytes = (size: number) => Schema.Uint8Array.check(Schema.makeFilter((bytes) => bytes.byteLength === size))
const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const Header = Schema.Struct({
  way: Schema.Literals(ways),
  name: Schema.String.check(Schema.isMaxLength(4_096)),
  device: Bytes(32),
  ops: between(1, argonOpsMax),
  memKiB: between(argonMemKiBMin, argonMemKiBMax),
  salt: Bytes(saltSize),
  nonce: Bytes(nonceSize)
})
type Header = typeof Header.Type
const decodeHeader = Schema.decodeUnknownResult(Header)

/** The home key under a lock, as the bytes of its file. `device` is the public device key. */
export const wrapHomeKey = async (homeKey: Uint8Array, device: Uint8Array, lock: Lock): Promise<Uint8Array> => {
  checkLock(lock)
  const { ops, memKiB } = lock.cost ?? argonStandard
  const header: Header = { way: lock.way, name: lock.name, device, ops, memKiB, salt: randomBytes(saltSize), nonce: randomBytes(nonceSize) }
  const body = encodeCbor(header)
  const size = Buffer.allocUnsafe(2)
  size.writeUInt16BE(body.byteLength)
  const clear = Buffer.concat([homeMagic, size, body])
  const key = await lockKey(header, lock.secret)
  try {
    return Buffer.concat([clear, encrypt(key, header.nonce, clear, homeKey)])
  } finally {
    key.fill(0)
  }
}

/** What a home-key file says without any secret; throws `damaged`. */
export const readHomeKeyHeader = (bytes: Uint8Array, path: string): HomeKeyHeader => {
  const { header } = parse(bytes, path)
  return { way: header.way, name: header.name, device: toHex(header.device), cost: { ops: header.ops, memKiB: header.memKiB } }
}

/** The home key; throws `wrong` when this secret does not open it. */
export const unwrapHomeKey = async (bytes: Uint8Array, path: string, secret: Uint8Array): Promise<Uint8Array> => {
  const { header, clear, cipher } = parse(bytes, path)
  const key = await lockKey(header, secret)
  try {
    const homeKey = decrypt(key, header.nonce, clear, cipher)
    if (homeKey !== undefined) return homeKey
  } finally {
    key.fill(0)
  }
  const what = header.way === "passphrase" ? "the passphrase is wrong" : header.way === "credential" ? `the credential ${header.name} is not the one` : `${header.name} is not the key file`
  throw new VaultError({ reason: "wrong", detail: `${what}, or ${path} was changed; nothing was opened` })
}

const parse = (bytes: Uint8Array, path: string): { readonly header: Header; readonly clear: Uint8Array; readonly cipher: Uint8Array } => {
  const damaged = (why: string) => new VaultError({ reason: "damaged", detail: `${path} is damaged: ${why}; restore it, or restore a backup into a new home` })
  if (!begins(bytes, homeMagic)) throw damaged("it does not begin as a home-key file")
  const at = homeMagic.byteLength + 2
  const size = bytes.byteLength < at ? 0 : asBuffer(bytes).readUInt16BE(homeMagic.byteLength)
  if (bytes.byteLength > homeKeyFileBytesMax || bytes.byteLength !== at + size + homeKeyBytes + tagSize) throw damaged("it has the wrong length")
  const decoded = Result.flatMap(decodeCbor("home key", bytes.subarray(at, at + size)), decodeHeader)
  if (Result.isFailure(decoded)) throw damaged("its header cannot be read, or asks for more work than kOS would ever ask for")
  return { header: decoded.success, clear: bytes.subarray(0, at + size), cipher: bytes.subarray(at + size) }
}

const checkLock = ({ way, name, secret }: Lock): void => {
  const what = way === "passphrase" ? "the passphrase" : way === "credential" ? `the credential ${name}` : `the key file ${name}`
  const min = way === "passphrase" ? 1 : lockKeyBytesMin
  if (secret.byteLength < min) {
    throw new VaultError({ reason: "refused", detail: way === "passphrase" ? "the passphrase is empty" : `${what} has ${secret.byteLength} bytes; it must be at least ${min} random ones, or else be given as a passphrase` })
  }
  if (secret.byteLength > lockSecretBytesMax) throw new VaultError({ reason: "refused", detail: `${what} is larger than ${lockSecretBytesMax} bytes` })
}

/** Argon2id for what people think of; a keyed hash for what is random already. */
const lockKey = async (header: Header, secret: Uint8Array): Promise<Buffer> => {
  if (header.way !== "passphrase") return asBuffer(deriveKey(hashParts("kos/home-lock/1", secret), "kos/home-lock-key/1", utf8(header.way), header.salt))
  const out = Buffer.allocUnsafeSlow(32)
  await sodium.crypto_pwhash_async(out, asBuffer(secret), asBuffer(header.salt), header.ops, header.memKiB * 1_024, sodium.crypto_pwhash_ALG_ARGON2ID13)
  return out
}

const encrypt = (key: Uint8Array, nonce: Uint8Array, data: Uint8Array, content: Uint8Array): Buffer => {
  const out = Buffer.allocUnsafeSlow(content.byteLength + tagSize)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(out, asBuffer(content), asBuffer(data), null, asBuffer(nonce), asBuffer(key))
  return out
}

const decrypt = (key: Uint8Array, nonce: Uint8Array, data: Uint8Array, cipher: Uint8Array): Uint8Array | undefined => {
  const out = Buffer.allocUnsafeSlow(cipher.byteLength - tagSize)
  try {
    sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(out, null, asBuffer(cipher), asBuffer(data), asBuffer(nonce), asBuffer(key))
    return out
  } catch {
    out.fill(0)
    return undefined
  }
}

const begins = (bytes: Uint8Array, magic: Uint8Array): boolean => equalBytes(bytes.subarray(0, magic.byteLength), magic)
