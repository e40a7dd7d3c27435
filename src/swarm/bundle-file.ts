/**
 * The file that carries logs on a stick: a clear header, then sealed records, each with its number in the nonce, and an end record with a hash of
 * everything before it, signed by the device that wrote the file. Whoever has not the mesh key learns the size and nothing else; a record
 * that was changed, moved, left out or added is noticed at its address, before it is looked at.
 *
 *   header  "KOSBUNDL" version(1) salt(16) mesh(32: hash of mesh id and salt)
 *   record  length(4, big-endian) ciphertext of type(1) payload
 *   end     records before it, hash(32), device(32), how long its own logs were, signature(64)
 */
import { createHash } from "node:crypto"
import { open, rename, rm, type FileHandle } from "node:fs/promises"
import { Schema } from "effect"
import sodium from "sodium-native"
import { equalBytes, fromHex, toHex, utf8 } from "../codec/bytes.ts"
import { asBuffer, deriveKey, hashParts } from "../codec/hash.ts"
import { type KeyPair, randomBytes, sign, verify } from "../codec/signature.ts"
import { Reader, Writer } from "./wire.ts"

export const recordBytesMax = 2_097_152
export const recordTypes = { operations: 1, log: 2, blocks: 3, end: 4 } as const

const magic = utf8("KOSBUNDL")
const version = 2
/** Own logs that the exporter tells of, the newest. */
const exporterLogsMax = 64
const lengthMax = 2 ** 40
const headerBytes = 57
const tagBytes = 16

export const BundleReason = Schema.Literals(["notABundle", "version", "foreign", "truncated", "damaged", "oversize", "unreadable", "stranger", "revoked"])

/**
 * Why a bundle was refused, and at which byte of the file. Nothing of it was applied; of one whose exporter is no member in good standing
 * (`stranger`, `revoked`) its membership operations were, and no block.
 */
export class BundleRefused extends Schema.TaggedError<BundleRefused>()("BundleRefused", {
  reason: BundleReason,
  at: Schema.Natural,
  detail: Schema.String
}) {
  override get message() {
    return `the bundle was refused at byte ${this.at}: ${this.detail}`
  }
}

export interface BundleMesh {
  readonly id: string
  readonly key: Uint8Array
}

/** Who wrote the file, and how long its own logs were then. */
export interface Exporter {
  readonly device: string
  readonly logs: ReadonlyArray<{ readonly log: string; readonly length: number }>
}

export interface BundleRecord {
  readonly type: number
  readonly at: number
  readonly payload: Uint8Array
}

export interface BundleWriter {
  readonly write: (type: number, payload: Uint8Array) => Promise<void>
  /** Writes and signs the end record, syncs and gives the file its name; returns its size in bytes. */
  readonly finish: (logs: Exporter["logs"], keyPair: KeyPair) => Promise<number>
  readonly abandon: () => Promise<void>
}

/** Writes beside the file and renames at the end, so that a file with the right name is a whole bundle. */
export const createBundle = async (path: string, mesh: BundleMesh): Promise<BundleWriter> => {
  const part = `${path}.part`
  const file = await open(part, "w", 0o600)
  const hash = createHash("sha256")
  const salt = randomBytes(16)
  const header = Buffer.concat([magic, Uint8Array.of(version), salt, meshMark(mesh, salt)])
  const key = bundleKey(mesh, salt)
  let size = 0
  let count = 0
  const put = async (bytes: Buffer): Promise<void> => {
    hash.update(bytes)
    await file.write(bytes)
    size += bytes.byteLength
  }
  const write = async (type: number, payload: Uint8Array): Promise<void> => {
    const sealed = seal(key, count, header, Buffer.concat([Uint8Array.of(type), payload]))
    if (sealed.byteLength > recordBytesMax) throw new RangeError(`a bundle record of ${sealed.byteLength} bytes, at most ${recordBytesMax} are allowed`)
    const length = Buffer.allocUnsafe(4)
    length.writeUInt32BE(sealed.byteLength)
    count += 1
    await put(Buffer.concat([length, sealed]))
  }
  await put(header)
  return {
    write,
    finish: async (logs, keyPair) => {
      const told = encodeExporter(hash.copy().digest(), count, { device: toHex(keyPair.publicKey), logs: logs.slice(-exporterLogsMax) })
      await write(recordTypes.end, Buffer.concat([told, sign(hashParts("kos/bundle-exporter/1", told), keyPair)]))
      await file.sync()
      await file.close()
      await rename(part, path)
      return size
    },
    abandon: async () => {
      await file.close().catch(() => undefined)
      await rm(part, { force: true })
    }
  }
}

/**
 * The records in order, each one authenticated, the end record last, once its hash and signature were checked; or fails with
 * `BundleRefused`. One record is in memory at a time.
 */
export async function* readBundle(path: string, mesh: BundleMesh, fileBytesMax: number): AsyncGenerator<BundleRecord, void> {
  let file: FileHandle
  try {
    file = await open(path, "r")
  } catch (fault) {
    throw refuse("unreadable", 0, fault instanceof Error ? fault.message : String(fault))
  }
  try {
    const { size } = await file.stat()
    if (size > fileBytesMax) throw refuse("oversize", 0, `it has ${size} bytes, at most ${fileBytesMax} are read`)
    const header = await take(file, 0, headerBytes)
    if (!equalBytes(header.subarray(0, 8), magic)) throw refuse("notABundle", 0, "it is not a kOS bundle")
    if (header[8] !== version) throw refuse("version", 8, `it has version ${header[8] ?? 0}, here ${version} is known`)
    const salt = header.subarray(9, 25)
    if (!equalBytes(header.subarray(25, 57), meshMark(mesh, salt))) throw refuse("foreign", 25, "it is of another mesh")
    const key = bundleKey(mesh, salt)
    const hash = createHash("sha256").update(header)
    let at = headerBytes
    for (let count = 0; ; count += 1) {
      const length = await take(file, at, 4)
      const sealedBytes = length.readUInt32BE()
      if (sealedBytes <= tagBytes || sealedBytes > recordBytesMax) throw refuse("damaged", at, `a record says it has ${sealedBytes} bytes, 17 to ${recordBytesMax} are possible`)
      const sealed = await take(file, at + 4, sealedBytes)
      const plain = unseal(key, count, header, sealed)
      const type = plain?.[0]
      if (plain === undefined || type === undefined) throw refuse("damaged", at, `record ${count} was changed`)
      if (type === recordTypes.end) {
        const exporter = readExporter(plain.subarray(1), count, hash.digest())
        if (typeof exporter === "string") throw refuse("damaged", at, exporter)
        if (at + 4 + sealedBytes !== size) throw refuse("damaged", at + 4 + sealedBytes, "something follows its end")
        yield { type, at, payload: plain.subarray(1) }
        return
      }
      hash.update(length).update(sealed)
      yield { type, at, payload: plain.subarray(1) }
      at += 4 + sealedBytes
    }
  } finally {
    await file.close()
  }
}

/** Of an end record that `readBundle` has given. */
export const exporterOf = (payload: Uint8Array): Exporter => {
  const reader = new Reader("the end record", payload)
  reader.uint()
  reader.fixed(32)
  const device = reader.hex(32)
  return { device, logs: Array.from({ length: reader.uint(exporterLogsMax) }, () => ({ log: reader.hex(32), length: reader.uint(lengthMax) })) }
}

const encodeExporter = (hash: Uint8Array, count: number, { device, logs }: Exporter): Buffer => {
  const writer = new Writer().uint(count).fixed(hash).hex(device).uint(logs.length)
  for (const { log, length } of logs) writer.hex(log).uint(length)
  return writer.take()
}

const readExporter = (payload: Uint8Array, count: number, hash: Uint8Array): Exporter | string => {
  try {
    const reader = new Reader("the end record", payload)
    if (reader.uint() !== count || !equalBytes(reader.fixed(32), hash)) return "the hash of the whole file is wrong"
    const exporter = exporterOf(payload)
    const told = payload.subarray(0, -64)
    if (encodeExporter(hash, count, exporter).byteLength !== told.byteLength) return "its end record is malformed"
    return verify(hashParts("kos/bundle-exporter/1", told), payload.subarray(-64), fromHex(exporter.device)) ? exporter : "the signature of who exported it is wrong"
  } catch (fault) {
    return fault instanceof Error ? fault.message : String(fault)
  }
}

export const refuse = (reason: typeof BundleReason.Type, at: number, detail: string): BundleRefused => new BundleRefused({ reason, at, detail })

const take = async (file: FileHandle, at: number, bytes: number): Promise<Buffer> => {
  const out = Buffer.allocUnsafe(bytes)
  let have = 0
  while (have < bytes) {
    const { bytesRead } = await file.read(out, have, bytes - have, at + have)
    if (bytesRead === 0) throw refuse(at === 0 && have < 8 ? "notABundle" : "truncated", at + have, "it ends too early")
    have += bytesRead
  }
  return out
}

const meshMark = (mesh: BundleMesh, salt: Uint8Array): Uint8Array => hashParts("kos/bundle-mesh/1", utf8(mesh.id), salt)

const bundleKey = (mesh: BundleMesh, salt: Uint8Array): Uint8Array => deriveKey(mesh.key, "kos/bundle/1", salt)

/** The key is of this file only (salt), so the record's number alone makes the nonce unique. */
const nonceOf = (count: number): Buffer => {
  const nonce = Buffer.alloc(24)
  nonce.writeBigUInt64BE(BigInt(count), 16)
  return nonce
}

const seal = (key: Uint8Array, count: number, header: Uint8Array, plain: Buffer): Buffer => {
  const out = Buffer.allocUnsafe(plain.byteLength + tagBytes)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(out, plain, asBuffer(header), null, nonceOf(count), asBuffer(key))
  return out
}

const unseal = (key: Uint8Array, count: number, header: Uint8Array, sealed: Buffer): Buffer | undefined => {
  const out = Buffer.allocUnsafe(sealed.byteLength - tagBytes)
  try {
    sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(out, null, sealed, asBuffer(header), nonceOf(count), asBuffer(key))
    return out
  } catch {
    return undefined
  }
}
