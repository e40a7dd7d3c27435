/**
 * One pack's file on disk, piece by piece, in the form that WebTorrent wants of a store.
 *
 * Beside the pack `SHA256` lies its state `SHA256.json`: which pieces are whole. It is written after the file's data was synced, aside and then named, so it never
 * says more than is there; what it does not say yet after a crash is found by hashing, since the file then has more blocks than the state explains.
 * A piece that this process has neither written nor hashed is hashed when it is read the first time: a damaged disk must not make this device a
 * sender of bad pieces, for which others would ban it (R4.2).
 */
import { createHash } from "node:crypto"
import { type FileHandle, mkdir, open, readFile, rename, rm } from "node:fs/promises"
import { dirname } from "node:path"
import type { ChunkStore } from "webtorrent"

export interface StoredPack {
  readonly length: number
  readonly pieceLength: number
  readonly pieces: Uint8Array
}

export interface PieceStore extends ChunkStore {
  /** One bit a piece, the highest of the first byte first. */
  readonly held: Uint8Array
  readonly heldBytes: () => number
  /** Bytes on their way to the disk. */
  readonly pendingBytes: () => number
  /** Is this piece on disk what its hash says? Reads the disk. */
  readonly check: (index: number) => Promise<boolean>
  /** The piece is not held any more. */
  readonly drop: (index: number) => void
  readonly save: () => Promise<void>
  readonly shut: () => Promise<void>
}

export interface PieceStoreOptions {
  readonly pack: StoredPack
  readonly file: string
  /** A held piece turned out damaged when it was read. */
  readonly onDamage: (index: number) => void
}

/** Pieces kept in memory for those who ask for their blocks. */
const cacheBytesMax = 16 << 20
const stateBytesMax = 65_536
const saveAfterMs = 1_000
const saveAfterBytes = 64 << 20
/** File systems add blocks of their own. */
const slackBytes = 65_536

export const pieceCount = (pack: StoredPack): number => Math.ceil(pack.length / pack.pieceLength)
export const lengthOfPiece = (pack: StoredPack, index: number): number => Math.min(pack.pieceLength, pack.length - index * pack.pieceLength)
export const isHeld = (held: Uint8Array, index: number): boolean => ((held[index >> 3] ?? 0) & (128 >> (index & 7))) !== 0

/** R3.1: a piece counts when its hash is as signed. */
export const pieceFits = (pack: StoredPack, index: number, bytes: Uint8Array): boolean =>
  createHash("sha1").update(bytes).digest().equals(pack.pieces.subarray(index * 20, index * 20 + 20))

/** Bytes held, as the state beside a pack says; 0 when there is none that fits. */
export const heldByState = async (file: string, pack: StoredPack): Promise<{ readonly held: Uint8Array; readonly bytes: number }> => {
  const held = await readState(file, pack)
  return { held, bytes: bytesOf(pack, held) }
}

/** Says that all pieces of the file are held; for a file that was hashed as a whole. */
export const writeWholeState = async (file: string, pack: StoredPack): Promise<void> => {
  const held = new Uint8Array(Math.ceil(pieceCount(pack) / 8))
  for (let index = 0; index < pieceCount(pack); index += 1) setHeld(held, index, true)
  await writeState(file, pack, held)
}

export const openPieceStore = async ({ pack, file, onDamage }: PieceStoreOptions): Promise<PieceStore> => {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const count = pieceCount(pack)
  const handle = await openSized(file, pack.length)
  const held = await readState(file, pack)
  /** Pieces that this process wrote or hashed. */
  const sure = new Uint8Array(held.byteLength)
  const read = async (index: number): Promise<Uint8Array> => {
    const bytes = Buffer.allocUnsafeSlow(lengthOfPiece(pack, index))
    for (let at = 0; at < bytes.byteLength;) {
      const { bytesRead } = await handle.read(bytes, at, bytes.byteLength - at, index * pack.pieceLength + at)
      if (bytesRead === 0) throw new Error(`the file of the pack ends within piece ${index}`)
      at += bytesRead
    }
    return bytes
  }
  const check = async (index: number): Promise<boolean> => {
    const good = await read(index).then((bytes) => pieceFits(pack, index, bytes), () => false)
    setHeld(sure, index, good)
    return good
  }
  // A crash may have left pieces that no state names: their blocks are in the file.
  const { blocks } = await handle.stat()
  if (blocks * 512 > bytesOf(pack, held) + slackBytes) {
    for (let index = 0; index < count; index += 1) if (!isHeld(held, index) && await check(index)) setHeld(held, index, true)
  }

  const cache = new Map<number, Promise<Uint8Array>>()
  const cacheMax = Math.max(2, Math.floor(cacheBytesMax / pack.pieceLength))
  let pending = 0
  let unsaved = 0
  let closed = false
  let timer: NodeJS.Timeout | undefined
  let saving: Promise<void> = Promise.resolve()

  const save = (): Promise<void> => {
    clearTimeout(timer)
    timer = undefined
    unsaved = 0
    saving = saving.catch(() => {}).then(async () => {
      const now = held.slice()
      await handle.datasync()
      await writeState(file, pack, now)
    })
    return saving
  }
  const saveSoon = (bytes: number) => {
    unsaved += bytes
    if (unsaved >= saveAfterBytes) void save().catch(() => {})
    else timer ??= setTimeout(() => { void save().catch(() => {}) }, saveAfterMs)
  }
  const drop = (index: number) => {
    setHeld(held, index, false)
    setHeld(sure, index, false)
    cache.delete(index)
    saveSoon(0)
  }
  const load = (index: number): Promise<Uint8Array> => {
    const known = cache.get(index)
    if (known !== undefined) {
      cache.delete(index)
      cache.set(index, known)
      return known
    }
    const loading = read(index).then((bytes) => {
      if (isHeld(sure, index)) return bytes
      if (!pieceFits(pack, index, bytes)) {
        drop(index)
        onDamage(index)
        throw new Error(`piece ${index} is damaged on this disk`)
      }
      setHeld(sure, index, true)
      return bytes
    })
    loading.catch(() => cache.delete(index))
    cache.set(index, loading)
    for (const oldest of cache.keys()) {
      if (cache.size <= cacheMax) break
      cache.delete(oldest)
    }
    return loading
  }
  const shut = async () => {
    if (closed) return
    closed = true
    await save().catch(() => {})
    cache.clear()
    await handle.close()
  }

  return {
    chunkLength: pack.pieceLength, held, check, drop, save, shut,
    heldBytes: () => bytesOf(pack, held),
    pendingBytes: () => pending,
    get: (index, options, then) => {
      const [range, done] = typeof options === "function" ? [null, options] : [options, then]
      if (done === undefined) return
      if (closed) return queueMicrotask(() => done(new Error("the store is closed")))
      const offset = range?.offset ?? 0
      const length = range?.length ?? lengthOfPiece(pack, index) - offset
      if (index < 0 || index >= count || offset < 0 || length < 0 || offset + length > lengthOfPiece(pack, index)) return queueMicrotask(() => done(new Error("that is not within a piece")))
      load(index).then((bytes) => done(null, bytes.subarray(offset, offset + length)), (error: unknown) => done(asError(error)))
    },
    put: (index, bytes, done) => {
      if (closed) return queueMicrotask(() => done(new Error("the store is closed")))
      pending += bytes.byteLength
      writeAll(handle, bytes, index * pack.pieceLength).then(
        () => {
          pending -= bytes.byteLength
          cache.delete(index)
          setHeld(held, index, true)
          setHeld(sure, index, true)
          saveSoon(bytes.byteLength)
          done(null)
        },
        (error: unknown) => {
          pending -= bytes.byteLength
          done(asError(error))
        }
      )
    },
    close: (done) => { shut().then(() => done(null), (error: unknown) => done(asError(error))) },
    destroy: (done) => { shut().then(() => rm(file, { force: true })).then(() => done(null), (error: unknown) => done(asError(error))) }
  }
}

const asError = (error: unknown): Error => error instanceof Error ? error : new Error(String(error))

const setHeld = (held: Uint8Array, index: number, value: boolean) => {
  const bit = 128 >> (index & 7)
  held[index >> 3] = value ? (held[index >> 3] ?? 0) | bit : (held[index >> 3] ?? 0) & ~bit
}

const bytesOf = (pack: StoredPack, held: Uint8Array): number => {
  let bytes = 0
  for (let index = 0; index < pieceCount(pack); index += 1) if (isHeld(held, index)) bytes += lengthOfPiece(pack, index)
  return bytes
}

const openSized = async (file: string, length: number): Promise<FileHandle> => {
  const handle = await open(file, "r+", 0o600).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error
    return open(file, "w+", 0o600)
  })
  const { size } = await handle.stat()
  if (size !== length) await handle.truncate(length)
  return handle
}

const writeAll = async (handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> => {
  for (let at = 0; at < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.byteLength - at, position + at)
    at += bytesWritten
  }
}

const stateOf = (file: string): string => `${file}.json`

const readState = async (file: string, pack: StoredPack): Promise<Uint8Array> => {
  const none = new Uint8Array(Math.ceil(pieceCount(pack) / 8))
  try {
    const bytes = await readFile(stateOf(file))
    if (bytes.byteLength > stateBytesMax) return none
    const state: unknown = JSON.parse(bytes.toString("utf8"))
    if (typeof state !== "object" || state === null || !("v" in state) || !("length" in state) || !("pieceLength" in state) || !("held" in state)) return none
    if (state.v !== 1 || state.length !== pack.length || state.pieceLength !== pack.pieceLength || typeof state.held !== "string") return none
    const held = Buffer.from(state.held, "base64")
    if (held.byteLength !== none.byteLength) return none
    // A file that was cut since has not what lies beyond its end.
    const size = await open(file, "r").then(async (handle) => {
      try {
        return (await handle.stat()).size
      } finally {
        await handle.close()
      }
    }, () => 0)
    for (let index = 0; index < pieceCount(pack); index += 1) {
      if (isHeld(held, index) && index * pack.pieceLength + lengthOfPiece(pack, index) <= size) setHeld(none, index, true)
    }
    return none
  } catch {
    return none
  }
}

const writeState = async (file: string, pack: StoredPack, held: Uint8Array): Promise<void> => {
  const state = JSON.stringify({ v: 1, length: pack.length, pieceLength: pack.pieceLength, held: Buffer.from(held).toString("base64") })
  const aside = `${stateOf(file)}.new`
  const handle = await open(aside, "w", 0o600)
  try {
    await handle.writeFile(state)
    await handle.datasync()
  } finally {
    await handle.close()
  }
  await rename(aside, stateOf(file))
}
