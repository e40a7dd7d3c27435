/**
 * One version of a secret as bytes. A random item key is what is handed to recipients and destroyed; the value is sealed under a key derived
 * from it and from the place where the version stands (name, version, the author's log), so a version that was moved or copied does not open.
 *
 * Cipher: XChaCha20-Poly1305 of `length u32 | value | zeros`, filled up to a multiple of 256 bytes, which hides a short value's length. The
 * commitment is a hash of the derived key, as in a frame: XChaCha20-Poly1305 alone would let an author make one cipher that opens to
 * two values under two item keys. Who gets an item key checks it by the commitment, whoever it came from.
 */
import sodium from "sodium-native"
import { fromHex, toHex, utf8 } from "./bytes.ts"
import { asBuffer, deriveKey, hashParts } from "./hash.ts"
import { randomBytes } from "./signature.ts"

/** A value at most, bytes. */
export const secretBytesMax = 64 * 1024
/** Versions of one name and generations of a reader key are counted up to here; beyond, the later stamp decides. */
export const secretCountMax = 2 ** 31
export const itemKeyBytes = 32
export const secretNonceBytes = 24
/** What is sealed is a multiple of this, bytes. */
const paddingBytes = 256
const tagBytes = 16
const lengthBytes = 4
/** A cipher at most, bytes. */
export const secretCipherBytesMax = Math.ceil((secretBytesMax + lengthBytes) / paddingBytes) * paddingBytes + tagBytes

/** Where a version stands; a cipher opens nowhere else. */
export interface SecretPlace {
  readonly name: string
  readonly version: number
  /** The author's log, 64 hex digits. */
  readonly log: string
}

export interface SealedSecret {
  /** 24 bytes. */
  readonly nonce: Uint8Array
  /** 64 hex digits. */
  readonly commit: string
  readonly cipher: Uint8Array
}

/** `value` of at most `secretBytesMax` bytes under an item key never used before. */
export const sealSecret = (value: Uint8Array, itemKey: Uint8Array, place: SecretPlace): SealedSecret => {
  const key = contentKey(itemKey, place)
  const nonce = randomBytes(secretNonceBytes)
  const content = Buffer.alloc(Math.ceil((value.byteLength + lengthBytes) / paddingBytes) * paddingBytes)
  content.writeUInt32BE(value.byteLength)
  content.set(value, lengthBytes)
  const cipher = Buffer.allocUnsafeSlow(content.byteLength + tagBytes)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(cipher, content, associated(place), null, asBuffer(nonce), asBuffer(key))
  content.fill(0)
  return { nonce, commit: commitment(key), cipher }
}

/** Undefined when the item key is another one, or anything was changed or moved. */
export const openSecret = (sealed: SealedSecret, itemKey: Uint8Array, place: SecretPlace): Uint8Array | undefined => {
  const key = contentKey(itemKey, place)
  if (commitment(key) !== sealed.commit || sealed.cipher.byteLength < paddingBytes + tagBytes) return undefined
  const content = Buffer.allocUnsafeSlow(sealed.cipher.byteLength - tagBytes)
  try {
    sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(content, null, asBuffer(sealed.cipher), associated(place), asBuffer(sealed.nonce), asBuffer(key))
  } catch {
    return undefined
  }
  const length = content.readUInt32BE()
  return length > content.byteLength - lengthBytes ? undefined : content.subarray(lengthBytes, lengthBytes + length)
}

/** Is this the item key that the version was sealed under? */
export const isItemKey = (itemKey: Uint8Array, commit: string, place: SecretPlace): boolean =>
  itemKey.byteLength === itemKeyBytes && commitment(contentKey(itemKey, place)) === commit

/** Names a version for ever, 64 hex digits. It holds the author's log, so nobody can make a version that passes for another's. */
export const secretItem = (place: SecretPlace, commit: string): string =>
  toHex(hashParts("kos/secret-item/1", utf8(place.name), u32(place.version), fromHex(place.log), fromHex(commit)))

const contentKey = (itemKey: Uint8Array, { name, version, log }: SecretPlace): Uint8Array =>
  deriveKey(itemKey, "kos/secret-key/1", utf8(name), u32(version), fromHex(log))

const commitment = (key: Uint8Array): string => toHex(hashParts("kos/secret-commit/1", key))

const associated = ({ name, version, log }: SecretPlace): Buffer => asBuffer(hashParts("kos/secret/1", utf8(name), u32(version), fromHex(log)))

const u32 = (value: number): Uint8Array => {
  const out = Buffer.alloc(4)
  out.writeUInt32BE(value)
  return out
}
