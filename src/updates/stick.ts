/**
 * The file that carries releases on a stick: the logs of channels and the packs of chosen releases, for a device that has no network.
 *
 *   "KOSSTICK" version(1)
 *   section    type(1) length(8, big-endian) bytes      1 logs: one file as `kos sync export` makes them, of channel logs only
 *                                                       2 pack: sha256(32), then the pack
 *   end        type 3, length 32, sha256 of everything before it
 *
 * The sections come in this order: logs once, then packs, then the end. The hash at the end tells a stick that was torn out or went bad; it is no
 * signature. Trust comes from what is inside: blocks are proven by the log's key, and a pack counts when a release that is signed names it (R3.1).
 *
 * What is bounded (R1.7): `stickBytesMax` for the file, `logsBytesMax` for its logs, `packsMax` packs. Nothing is held in memory but a piece at a time.
 */
import { createHash } from "node:crypto"
import { constants, type FileHandle, open, rename, rm, statfs } from "node:fs/promises"
import { Schema } from "effect"
import { equalBytes, toHex, utf8 } from "../codec/bytes.ts"
import type { PackRef } from "./ports.ts"

export const stickBytesMax = 274_877_906_944
export const logsBytesMax = 1_073_741_824
export const packsMax = 1_024

const magic = utf8("KOSSTICK")
const version = 1
const headBytes = 9
const sectionBytes = 9
const hashBytes = 32
const types = { logs: 1, pack: 2, end: 3 } as const
const pieceBytes = 1_048_576
/** Left free on the disk when something is unpacked. */
const reserveBytes = 67_108_864

/** Why a file was refused, and at which byte. Nothing of it was applied. */
export class StickRefused extends Schema.TaggedError<StickRefused>()("StickRefused", {
  reason: Schema.Literals(["notAStick", "version", "truncated", "damaged", "oversize", "unreadable", "full"]),
  at: Schema.Natural,
  detail: Schema.String
}) {
  override get message() {
    return `the file was refused at byte ${this.at}: ${this.detail}`
  }
}

export interface Section {
  /** Where its bytes begin in the file, and how many there are. */
  readonly offset: number
  readonly length: number
}

export interface Stick {
  readonly bytes: number
  readonly logs: Section
  readonly packs: ReadonlyArray<Section & { readonly sha256: string }>
}

/** Writes beside the file and renames at the end, so that a file with the right name is whole. Returns its size in bytes. */
export const writeStick = async (
  path: string, logs: string, packs: ReadonlyArray<{ readonly ref: Pick<PackRef, "sha256" | "length">; readonly file: string }>
): Promise<number> => {
  if (packs.length > packsMax) throw new RangeError(`${packs.length} packs, at most ${packsMax} fit on a stick`)
  const part = `${path}.part`
  const file = await open(part, "w", 0o600)
  const hash = createHash("sha256")
  let bytes = 0
  const put = async (piece: Uint8Array): Promise<void> => {
    hash.update(piece)
    await file.write(piece)
    bytes += piece.byteLength
  }
  try {
    await put(Buffer.concat([magic, Uint8Array.of(version)]))
    const source = await open(logs, "r")
    try {
      const { size } = await source.stat()
      if (size > logsBytesMax) throw new RangeError(`the logs have ${size} bytes, at most ${logsBytesMax} fit on a stick`)
      await put(head(types.logs, size))
      for await (const piece of pieces(source, 0, size)) await put(piece)
    } finally {
      await source.close()
    }
    for (const { ref, file: from } of packs) {
      await put(Buffer.concat([head(types.pack, hashBytes + ref.length), Buffer.from(ref.sha256, "hex")]))
      const pack = await open(from, "r")
      const check = createHash("sha256")
      try {
        for await (const piece of pieces(pack, 0, ref.length)) {
          check.update(piece)
          await put(piece)
        }
      } finally {
        await pack.close()
      }
      if (check.digest("hex") !== ref.sha256) throw new Error(`the pack ${ref.sha256.slice(0, 8)} is damaged here`)
    }
    const end = hash.copy().digest()
    await put(head(types.end, hashBytes))
    await put(end)
    await file.sync()
    await file.close()
    await rename(part, path)
    return bytes
  } catch (fault) {
    await file.close().catch(() => undefined)
    await rm(part, { force: true })
    throw fault
  }
}

/** Reads all of it once and checks every byte; fails with `StickRefused`. Writes nothing. */
export const checkStick = async (path: string, onProgress?: (bytes: number) => void): Promise<Stick> => {
  const file = await openPlain(path)
  try {
    const { size } = await file.stat()
    if (size > stickBytesMax) throw refuse("oversize", 0, `it has ${size} bytes, at most ${stickBytesMax} are read`)
    const hash = createHash("sha256")
    let at = 0
    const take = async (bytes: number): Promise<Buffer> => {
      const found = await readAt(file, at, bytes)
      at += bytes
      return found
    }
    const start = await take(headBytes)
    if (!equalBytes(start.subarray(0, magic.byteLength), magic)) throw refuse("notAStick", 0, "it is no file of releases")
    if (start[magic.byteLength] !== version) throw refuse("version", magic.byteLength, `it has version ${start[magic.byteLength] ?? 0}, here ${version} is known`)
    hash.update(start)
    let logs: Section | undefined
    const packs: Array<Stick["packs"][number]> = []
    for (;;) {
      const begun = at
      const section = await take(sectionBytes)
      const type = section[0]
      // R1.7: what a section may weigh is known before its first byte is read.
      const length = Number(section.readBigUInt64BE(1))
      if (type === types.end) {
        const expected = hash.digest()
        if (length !== hashBytes || logs === undefined) throw refuse("damaged", begun, "its end is malformed")
        if (!equalBytes(await take(hashBytes), expected)) throw refuse("damaged", begun, "the hash of the whole file is wrong")
        if (at !== size) throw refuse("damaged", at, "something follows its end")
        return { bytes: size, logs, packs }
      }
      if (length > size - at) throw refuse("truncated", begun, `it ends too early: ${length} bytes should follow`)
      hash.update(section)
      const pass = async (bytes: number, also?: (piece: Uint8Array) => void): Promise<void> => {
        for await (const piece of pieces(file, at, bytes)) {
          hash.update(piece)
          also?.(piece)
          at += piece.byteLength
          onProgress?.(at)
        }
      }
      if (type === types.logs && logs === undefined && packs.length === 0) {
        if (length > logsBytesMax) throw refuse("oversize", begun, `its logs have ${length} bytes, at most ${logsBytesMax} are taken`)
        logs = { offset: at, length }
        await pass(length)
      } else if (type === types.pack && logs !== undefined && length > hashBytes) {
        if (packs.length >= packsMax) throw refuse("oversize", begun, `it has more than ${packsMax} packs`)
        const name = await take(hashBytes)
        hash.update(name)
        const sha256 = toHex(name)
        if (packs.some((other) => other.sha256 === sha256)) throw refuse("damaged", begun, `the pack ${sha256.slice(0, 8)} comes twice`)
        packs.push({ sha256, offset: at, length: length - hashBytes })
        // R3.1
        const check = createHash("sha256")
        await pass(length - hashBytes, (piece) => check.update(piece))
        if (check.digest("hex") !== sha256) throw refuse("damaged", begun, `the pack ${sha256.slice(0, 8)} is not what its name says`)
      } else {
        throw refuse("damaged", begun, `a section of type ${type ?? 0} has no place here`)
      }
    }
  } finally {
    await file.close()
  }
}

/** Copies one section into a file of its own, which must not be there. */
export const unpack = async (path: string, section: Section, to: string): Promise<void> => {
  const file = await openPlain(path)
  try {
    const into = await open(to, "wx", 0o600)
    try {
      // R3.4
      const { bavail, bsize } = await statfs(to)
      if (bavail * bsize < section.length + reserveBytes) throw refuse("full", section.offset, `${section.length} bytes are to be unpacked and ${bavail * bsize} are free`)
      for await (const piece of pieces(file, section.offset, section.length)) await into.write(piece)
    } finally {
      await into.close()
    }
  } catch (fault) {
    if (!isThere(fault)) await rm(to, { force: true })
    throw fault
  } finally {
    await file.close()
  }
}

/** A device file or pipe could go on for ever. */
const openPlain = async (path: string): Promise<FileHandle> => {
  let file: FileHandle | undefined
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    if ((await file.stat()).isFile()) return file
  } catch (fault) {
    throw refuse("unreadable", 0, fault instanceof Error ? fault.message : String(fault))
  }
  await file.close()
  throw refuse("unreadable", 0, "it is no plain file")
}

async function* pieces(file: FileHandle, from: number, length: number): AsyncGenerator<Uint8Array, void> {
  for (let at = from; at < from + length;) {
    const piece = await readAt(file, at, Math.min(pieceBytes, from + length - at))
    at += piece.byteLength
    yield piece
  }
}

const readAt = async (file: FileHandle, at: number, bytes: number): Promise<Buffer> => {
  const out = Buffer.allocUnsafe(bytes)
  let have = 0
  while (have < bytes) {
    const { bytesRead } = await file.read(out, have, bytes - have, at + have)
    if (bytesRead === 0) throw refuse(at === 0 ? "notAStick" : "truncated", at + have, "it ends too early")
    have += bytesRead
  }
  return out
}

const head = (type: number, length: number): Buffer => {
  const out = Buffer.alloc(sectionBytes)
  out[0] = type
  out.writeBigUInt64BE(BigInt(length), 1)
  return out
}

const refuse = (reason: StickRefused["reason"], at: number, detail: string): StickRefused => new StickRefused({ reason, at, detail })

const isThere = (fault: unknown): boolean => typeof fault === "object" && fault !== null && "code" in fault && fault.code === "EEXIST"
