/**
 * Sealing a few bytes to one device, so that nobody else opens them: libsodium's sealed box (X25519, XSalsa20-Poly1305, an ephemeral
 * sender key) to the X25519 form of the device's Ed25519 key (RFC 7748, birational map). 48 bytes longer than the content. The sender is
 * anonymous: who sealed is said, and signed, by the operation or event that carries the box.
 */
import sodium from "sodium-native"
import { fromHex } from "./bytes.ts"
import { asBuffer } from "./hash.ts"
import type { KeyPair } from "./signature.ts"

/** Bytes that sealing adds. */
export const sealOverheadBytes = 48

/** Undefined when the reader's key is no key that anything can be sealed to (a point of small order, or none at all). */
export const sealTo = (content: Uint8Array, reader: string): Uint8Array | undefined => {
  const recipient = Buffer.allocUnsafeSlow(32)
  const out = Buffer.allocUnsafeSlow(content.byteLength + sealOverheadBytes)
  try {
    sodium.crypto_sign_ed25519_pk_to_curve25519(recipient, asBuffer(fromHex(reader)))
    sodium.crypto_box_seal(out, asBuffer(content), recipient)
  } catch {
    return undefined
  }
  return out
}

/** Undefined when it was not sealed to this key, or was changed. */
export const openSealed = (sealed: Uint8Array, keyPair: KeyPair): Uint8Array | undefined => {
  if (sealed.byteLength < sealOverheadBytes) return undefined
  const publicKey = Buffer.allocUnsafeSlow(32)
  const secretKey = Buffer.allocUnsafeSlow(32)
  const out = Buffer.allocUnsafeSlow(sealed.byteLength - sealOverheadBytes)
  let isOpen: boolean
  try {
    sodium.crypto_sign_ed25519_pk_to_curve25519(publicKey, asBuffer(keyPair.publicKey))
    sodium.crypto_sign_ed25519_sk_to_curve25519(secretKey, asBuffer(keyPair.secretKey))
    isOpen = sodium.crypto_box_seal_open(out, asBuffer(sealed), publicKey, secretKey)
  } catch {
    // A key pair that is none.
    isOpen = false
  }
  secretKey.fill(0)
  return isOpen ? out : undefined
}
