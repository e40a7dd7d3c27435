/**
 * One pack's file on disk, piece by piece, in the form that WebTorrent wants of a store.
 *
 * Beside the pack `SHA256` lies its state `SHA256.json`: which pieces are whole. While pieces come it is written often and without a sync, which would stop the fetch for its time, and
 * names the boot of the machine: after a kill the kernel has all that was written, after another boot the pieces are hashed before they count. Once nothing comes any more the data is
 * synced and the state says so. What the state does not say yet after a kill is found by hashing, since the file then has more blocks than the state explains.
 * A piece that this process has neither written nor hashed is hashed when it is read the first time: a damaged disk must not make this device a
 * sender of bad pieces, for which others would ban it (R4.2).
 */
import { createHash } from "node:crypto"
import { type FileHandle, mkdir, open, readFile, rename, rm, stat } from "node:fs/promises"
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
  const { held } = await readState(file, pack)
  return { held, bytes: bytesOf(pack, held) }
}

/** Says that all pieces of the file are held; for a file that was hashed as a whole. */
export const writeWholeState = async (file: string, pack: StoredPack): Promise<void> => {
  const held = new Uint8Array(Math.ceil(pieceCount(pack) / 8))
  for (let index = 0; index < pieceCount(pack); index += 1) setHeld(held, index, true)
  await writeState(file, pack, held, undefined)
}

export const openPieceStore = async ({ pack, file, onDamage }: PieceStoreOptions): Promise<PieceStore> => {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const count = pieceCount(pack)
  const handle = await openSized(file, pack.length)
  const { held, sure: trusted } = await readState(file, pack)
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
  for (let index = 0; !trusted && index < count; index += 1) if (isHeld(held, index) && !await check(index)) setHeld(held, index, false)
  // A kill may have left pieces that no state names: their blocks are in the file.
  const { blocks } = await handle.stat()
  if (blocks * 512 > bytesOf(pack, held) + slackBytes) {
    for (let index = 0; index < count; index += 1) if (!isHeld(held, index) && await check(index)) setHeld(held, index, true)
  }

  const cache = new Map<number, Promise<Uint8Array>>()
  const cacheMax = Math.max(2, Math.floor(cacheBytesMax / pack.pieceLength))
  let pending = 0
  let closed = false
  let timer: NodeJS.Timeout | undefined
  let saving: Promise<void> = Promise.resolve()

  const write = (sync: boolean): Promise<void> => {
    clearTimeout(timer)
    timer = undefined
    saving = saving.catch(() => {}).then(async () => {
      const now = held.slice()
      if (sync) await handle.datasync()
      await writeState(file, pack, now, sync ? undefined : await bootOfMachine())
    })
    return saving
  }
  const save = () => write(true)
  const saveSoon = () => {
    const whole = bytesOf(pack, held) === pack.length
    if (whole) void write(true).catch(() => {})
    else timer ??= setTimeout(() => { void write(false).catch(() => {}) }, saveAfterMs)
  }
  const drop = (index: number) => {
    setHeld(held, index, false)
    setHeld(sure, index, false)
    cache.delete(index)
    saveSoon()
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
          saveSoon()
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

/** The same text until the machine starts again; `` where it cannot be told. */
const bootOfMachine = async (): Promise<string> => (await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "")).trim().slice(0, 64)

/** `sure`: all that it names was synced, or written since this machine started. */
const readState = async (file: string, pack: StoredPack): Promise<{ readonly held: Uint8Array; readonly sure: boolean }> => {
  const none = { held: new Uint8Array(Math.ceil(pieceCount(pack) / 8)), sure: true }
  try {
    const bytes = await readFile(stateOf(file))
    if (bytes.byteLength > stateBytesMax) return none
    const state: unknown = JSON.parse(bytes.toString("utf8"))
    if (typeof state !== "object" || state === null || !("v" in state) || !("length" in state) || !("pieceLength" in state) || !("held" in state)) return none
    if (state.v !== 1 || state.length !== pack.length || state.pieceLength !== pack.pieceLength || typeof state.held !== "string") return none
    const said = Buffer.from(state.held, "base64")
    if (said.byteLength !== none.held.byteLength) return none
    const boot = "boot" in state ? state.boot : null
    // A file that was cut since has not what lies beyond its end.
    const { size } = await stat(file)
    for (let index = 0; index < pieceCount(pack); index += 1) {
      if (isHeld(said, index) && index * pack.pieceLength + lengthOfPiece(pack, index) <= size) setHeld(none.held, index, true)
    }
    return { held: none.held, sure: boot === null || (boot !== "" && boot === await bootOfMachine()) }
  } catch {
    return none
  }
}

/** `boot`: undefined when the data was synced. */
const writeState = async (file: string, pack: StoredPack, held: Uint8Array, boot: string | undefined): Promise<void> => {
  const state = JSON.stringify({ v: 1, length: pack.length, pieceLength: pack.pieceLength, held: Buffer.from(held).toString("base64"), boot: boot ?? null })
  const aside = `${stateOf(file)}.new`
  const handle = await open(aside, "w", 0o600)
  try {
    await handle.writeFile(state)
    if (boot === undefined) await handle.datasync()
  } finally {
    await handle.close()
  }
  await rename(aside, stateOf(file))
}
