import sodium from "sodium-native"
import { utf8 } from "./bytes.ts"

/** BLAKE2b-256 of the parts in order, each preceded by its length, under a label that keeps uses apart. */
export const hashParts = (label: string, ...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const out = Buffer.allocUnsafeSlow(32)
  const list: Array<Buffer> = []
  for (const part of [utf8(label), ...parts]) {
    const size = Buffer.allocUnsafe(4)
    size.writeUInt32BE(part.byteLength)
    list.push(size, asBuffer(part))
  }
  sodium.crypto_generichash_batch(out, list)
  return out
}

/** A key derived from a key: BLAKE2b-256 keyed by `key` over the labelled parts. */
export const deriveKey = (key: Uint8Array, label: string, ...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const out = Buffer.allocUnsafeSlow(32)
  sodium.crypto_generichash(out, asBuffer(hashParts(label, ...parts)), asBuffer(key))
  return out
}

/** A view, not a copy: sodium wants Buffers. */
export const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
