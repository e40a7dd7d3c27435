/**
 * A frame: the events that were appended together, sealed, as one block of a log. Design section 3, points 1 and 2.
 *
 * Bytes: `version u8 | key epoch u32 | nonce 24 | commitment 32` in clear, then XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) of
 * `packing u8 | CBOR array of envelopes`, where packing 1 says that the CBOR is a zstd frame (RFC 8878). The clear header, the
 * log key and the block index are associated data: a frame moved to another place does not open. The frame's key is derived
 * from the epoch key, log key, block index and nonce, so one frame can be opened for an outsider without giving the epoch away.
 * The commitment is a hash of that key: XChaCha20-Poly1305 alone would let a writer make one block that opens to two contents
 * under two keys, and show an outsider another history than the members saw.
 */
import { Result } from "effect"
import sodium from "sodium-native"
import * as zlib from "node:zlib"
import { fromHex } from "./bytes.ts"
import { decodeCbor, encodeCbor } from "./cbor.ts"
import { type Envelope, envelopeFromWire, envelopeToWire } from "./envelope.ts"
import { asBuffer, deriveKey, hashParts } from "./hash.ts"
import { Malformed } from "./malformed.ts"
import { randomBytes } from "./signature.ts"

export const frameVersion = 1
/** Events in one frame at most. */
export const frameEventsMax = 256
/** Encoded events that are gathered into one frame at most, bytes; one larger event makes a frame of its own. */
export const frameGatherBytesMax = 64 * 1024
/** One encoded event at most, bytes. */
export const eventBytesMax = 320 * 1024
/** A sealed frame at most, bytes; a larger block is not opened. */
export const frameBytesMax = 1024 * 1024

export const nonceBytes = 24
const commitmentBytes = 32
const headerBytes = 1 + 4 + nonceBytes + commitmentBytes
const tagBytes = 16
const packedAbove = 160
const plain = 0
const zstd = 1

export interface FrameHeader {
  readonly version: number
  readonly epoch: number
  readonly nonce: Uint8Array
}

export interface FramePlace {
  /** Log key, 64 hex digits. */
  readonly log: string
  readonly block: number
}

export const encodeEvent = (envelope: Envelope, log: string): Uint8Array => encodeCbor(envelopeToWire(envelope, log))

/** Reads the clear header; no key is needed. */
export const frameHeader = (block: Uint8Array): Result.Result<FrameHeader, Malformed> => {
  if (block.byteLength < headerBytes + tagBytes + 2) return bad("too short")
  if (block.byteLength > frameBytesMax) return bad(`larger than ${frameBytesMax} bytes`)
  const view = asBuffer(block)
  return Result.succeed({ version: view.readUInt8(0), epoch: view.readUInt32BE(1), nonce: view.subarray(5, 5 + nonceBytes) })
}

/** The key that opens this one frame. */
export const frameKey = (epochKey: Uint8Array, place: FramePlace, nonce: Uint8Array): Uint8Array =>
  deriveKey(epochKey, "kos/frame-key/1", fromHex(place.log), blockIndex(place.block), nonce)

/**
 * The frame's own key from that one of these epoch keys which it is committed to; undefined when it is committed to none of them. Two
 * hashes for each key and no trial decryption: concurrent rotations may give one epoch number to several keys.
 */
export const fittingFrameKey = (block: Uint8Array, header: FrameHeader, place: FramePlace, epochKeys: ReadonlyArray<Uint8Array>): Uint8Array | undefined => {
  const committed = asBuffer(block).subarray(5 + nonceBytes, headerBytes)
  for (const epochKey of epochKeys) {
    const key = frameKey(epochKey, place, header.nonce)
    if (Buffer.compare(committed, commitment(key)) === 0) return key
  }
  return undefined
}

/** Seals events that `encodeEvent` made, under 24 bytes of chance never used before. The caller keeps to the limits above. */
export const sealFrame = (
  events: ReadonlyArray<Uint8Array>, place: FramePlace, epoch: number, epochKey: Uint8Array, nonce: Uint8Array = randomBytes(nonceBytes)
): Uint8Array => {
  const header = Buffer.allocUnsafe(headerBytes)
  header[0] = frameVersion
  header.writeUInt32BE(epoch, 1)
  const key = frameKey(epochKey, place, nonce)
  header.set(nonce, 5)
  header.set(commitment(key), 5 + nonceBytes)
  const cbor = Buffer.concat([arrayHead(events.length), ...events])
  const packed = cbor.byteLength > packedAbove ? zlib.zstdCompressSync(cbor, zstdOptions) : cbor
  const smaller = packed.byteLength < cbor.byteLength
  const content = Buffer.concat([Buffer.of(smaller ? zstd : plain), smaller ? packed : cbor])
  const out = Buffer.allocUnsafeSlow(headerBytes + content.byteLength + tagBytes)
  header.copy(out)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
    out.subarray(headerBytes), content, associated(header, place), null, asBuffer(nonce), asBuffer(key)
  )
  return out
}

/** Opens a frame with its own key and checks every envelope. Fails on the first fault: a frame is one author's single act. */
export const openFrame = (
  block: Uint8Array, place: FramePlace, key: Uint8Array
): Result.Result<ReadonlyArray<Envelope>, Malformed> => {
  const header = frameHeader(block)
  if (Result.isFailure(header)) return Result.fail(header.failure)
  if (header.success.version !== frameVersion) return bad(`version ${header.success.version} is not known here`)
  const sealed = asBuffer(block)
  if (Buffer.compare(sealed.subarray(5 + nonceBytes, headerBytes), commitment(key)) !== 0) return bad("it is not committed to this key")
  const content = Buffer.allocUnsafe(sealed.byteLength - headerBytes - tagBytes)
  try {
    sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
      content, null, sealed.subarray(headerBytes), associated(sealed.subarray(0, headerBytes), place),
      asBuffer(header.success.nonce), asBuffer(key)
    )
  } catch {
    return bad("it does not open with this key at this place")
  }
  const cbor = unpack(content)
  if (Result.isFailure(cbor)) return Result.fail(cbor.failure)
  const wire = decodeCbor("frame", cbor.success)
  if (Result.isFailure(wire)) return Result.fail(wire.failure)
  if (!Array.isArray(wire.success)) return bad("not an array of events")
  const list = wire.success as ReadonlyArray<unknown>
  if (list.length === 0 || list.length > frameEventsMax) return bad(`${list.length} events`)
  const events: Array<Envelope> = []
  for (const entry of list) {
    const event = envelopeFromWire(entry, place.log)
    if (Result.isFailure(event)) return Result.fail(event.failure)
    events.push(event.success)
  }
  return Result.succeed(events)
}

const commitment = (key: Uint8Array): Uint8Array => hashParts("kos/frame-commit/1", key)

const zstdOptions = { params: { [zlib.constants.ZSTD_c_compressionLevel]: 1 } }

const unpack = (content: Buffer): Result.Result<Uint8Array, Malformed> => {
  const body = content.subarray(1)
  if (content[0] === plain) return Result.succeed(body)
  if (content[0] !== zstd) return bad(`packing ${content[0]} is not known here`)
  try {
    return Result.succeed(zlib.zstdDecompressSync(body, { maxOutputLength: frameBytesMax }))
  } catch {
    return bad(`its zstd content is broken or larger than ${frameBytesMax} bytes`)
  }
}

const associated = (header: Buffer, place: FramePlace): Buffer =>
  Buffer.concat([header, Buffer.from(place.log, "hex"), blockIndex(place.block)])

const blockIndex = (block: number): Buffer => {
  const out = Buffer.alloc(8)
  out.writeBigUInt64BE(BigInt(block))
  return out
}

const arrayHead = (count: number): Buffer =>
  count < 24 ? Buffer.of(0x80 | count) : count < 256 ? Buffer.of(0x98, count) : Buffer.of(0x99, count >> 8, count & 255)

const bad = (why: string) => Result.fail(new Malformed({ what: "frame", why }))
