import sodium from "sodium-native"
import { asBuffer } from "./hash.ts"

export interface KeyPair {
  /** Ed25519 public key, 32 bytes. */
  readonly publicKey: Uint8Array
  /** Ed25519 secret key in libsodium's form (seed and public key), 64 bytes. */
  readonly secretKey: Uint8Array
}

/** The Ed25519 key pair of a 32-byte seed (RFC 8032). */
export const keyPairFromSeed = (seed: Uint8Array): KeyPair => {
  const publicKey = Buffer.allocUnsafeSlow(32)
  const secretKey = Buffer.allocUnsafeSlow(64)
  sodium.crypto_sign_seed_keypair(publicKey, secretKey, asBuffer(seed))
  return { publicKey, secretKey }
}

export const sign = (message: Uint8Array, keyPair: KeyPair): Uint8Array => {
  const signature = Buffer.allocUnsafeSlow(64)
  sodium.crypto_sign_detached(signature, asBuffer(message), asBuffer(keyPair.secretKey))
  return signature
}

/** False for a wrong signature and for keys or signatures of the wrong size. */
export const verify = (message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean =>
  signature.byteLength === 64 && publicKey.byteLength === 32 &&
  sodium.crypto_sign_verify_detached(asBuffer(signature), asBuffer(message), asBuffer(publicKey))

export const randomBytes = (size: number): Uint8Array => {
  const out = Buffer.allocUnsafeSlow(size)
  sodium.randombytes_buf(out)
  return out
}
