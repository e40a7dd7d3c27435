/**
 * The real log store: Hypercores in one Corestore.
 *
 * - **Sync before publish.** `append` uses Hypercore's `postappend` hook, which runs between the storage write and the word to
 *   peers: there we `fdatasync` RocksDB's write-ahead file. Hypercore itself never syncs.
 * - **Write-ahead files rotate.** RocksDB names a new file when its table fills. The block may stand in the old one, so when the
 *   name changes both files are synced; the old handle was kept open for this.
 * - **Disk full.** RocksDB refuses all writes after a failed one until it is reopened. A failed append marks the store; the next
 *   `prepare` reopens it. Sessions that others hold die with that, so `onReopen` tells them.
 * - **Secret keys.** Corestore keeps key pairs in clear in its files. Logs are opened by manifest only and the key pair is handed
 *   to each append.
 */
import Corestore from "corestore"
import { Effect, Layer, type Scope } from "effect"
import Hypercore from "hypercore"
import { chmod, mkdir, open, type FileHandle } from "node:fs/promises"
import { fromHex, toHex } from "../codec/bytes.ts"
import { asBuffer } from "../codec/hash.ts"
import { treeHash } from "../codec/verify/merkle.ts"
import type { KeyPair } from "../codec/signature.ts"
import { type HeldLog, LogStore, type LogStoreError, logStoreError, type OwnLog } from "./log-store.ts"
import { diskReason } from "./ports.ts"

/** Hypercore's manifest of a log with one Ed25519 signer; the log key is its hash. */
export const logManifest = (publicKey: Uint8Array) => ({ version: 1, signers: [{ publicKey: asBuffer(publicKey) }] })

export const logKey = (publicKey: Uint8Array): string => toHex(Hypercore.key(logManifest(publicKey)))

/** Newest blocks of the own log that are read when it is opened; 20,000 take about half a second. */
export const checkedBlocksMax = 20_000
const checkedAtOnceMax = 128

export interface Examined {
  /** Blocks that can be read. */
  readonly held: ReadonlyArray<number>
  /** Blocks that are said to be held and cannot be read, ascending. */
  readonly damaged: ReadonlyArray<number>
}

/** What RocksDB says of files that are torn, changed or missing, and not of a disk that is full, read-only, locked or failing. */
export const isDamage = (cause: unknown): boolean => {
  const text = cause instanceof Error ? cause.message : String(cause)
  return diskReason(cause) === "failed" &&
    /corrupt|(checksum|crc|size) mismatch|no such file|existing log file|bad (table|block|record)|truncated|too short to be|entry in manifest/i.test(text)
}

/** Corestore's own mark against copies does not fit: the directory was copied, or the mark is damaged. */
export const isMoved = (cause: unknown): boolean =>
  typeof cause === "object" && cause !== null && "code" in cause && cause.code === "DEVICE_FILE"

/** Waiting for a block that should be on this disk, milliseconds. */
const readWaitMsMax = 5_000

export class HypercoreStore {
  readonly #directory: string
  #store: Corestore
  #broken = false
  #reopening: Promise<void> | undefined
  #wal: { path: string; file: FileHandle } | undefined
  readonly #reopened = new Set<() => void>()

  private constructor(directory: string, store: Corestore) {
    this.#directory = directory
    this.#store = store
  }

  static async open(directory: string): Promise<HypercoreStore> {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    await chmod(directory, 0o700)
    const held = new HypercoreStore(directory, newStore(directory))
    try {
      await held.#store.ready()
      return held
    } catch (cause) {
      await shut(held.#store)
      throw cause
    }
  }

  /** Called after the store was closed and opened again; every session taken before is dead. */
  onReopen(listener: () => void): () => void {
    this.#reopened.add(listener)
    return () => this.#reopened.delete(listener)
  }

  /** A Hypercore session for replication; the caller closes it. Forks are refused. */
  async session(key: string): Promise<Hypercore> {
    await this.#reopening
    const core = this.#store.get({ key: asBuffer(fromHex(key)), allowFork: false })
    await core.ready()
    return core
  }

  async openOwn(keyPair: KeyPair): Promise<OwnLog & { close(): Promise<void> }> {
    const pair = { publicKey: asBuffer(keyPair.publicKey), secretKey: asBuffer(keyPair.secretKey) }
    const get = () => this.#store.get({ manifest: logManifest(keyPair.publicKey), allowFork: false })
    const held = await this.#held(get)
    return {
      ...held.log,
      signed: () => held.now().state.length,
      count: async () => {
        const core = await held.core()
        let count = core.contiguousLength
        for (let block = count; block < core.state.length; block++) if (await core.has(block)) count++
        return count
      },
      prepare: async () => {
        if (this.#broken) await this.reopen()
        await held.core()
      },
      append: async (block, beforePublish) => {
        const core = await held.core()
        const head = () => ({
          length: core.state.length, fork: core.fork, treeHash: toHex(treeHash(core.state.length, core.state.roots))
        })
        try {
          await core.append(asBuffer(block), {
            keyPair: pair,
            postappend: async () => {
              await this.#sync()
              await beforePublish(head())
            }
          })
          return head()
        } catch (cause) {
          this.#broken = true
          throw cause
        }
      },
      close: held.close
    }
  }

  async openHeld(key: string): Promise<HeldLog & { close(): Promise<void> }> {
    const held = await this.#held(() => this.#store.get({ key: asBuffer(fromHex(key)), allowFork: false }))
    return { ...held.log, close: held.close }
  }

  /**
   * Reads the newest blocks of an own log, to find those that the disk gives back damaged: Hypercore counts a block as held whatever
   * its bytes have become, and serves nothing more to anybody after it failed to read one. Rejects when the log cannot be opened at all.
   */
  async examine(keyPair: KeyPair): Promise<Examined> {
    const core = this.#store.get({ manifest: logManifest(keyPair.publicKey), allowFork: false })
    try {
      await core.ready()
      const held: Array<number> = []
      const damaged: Array<number> = []
      const end = core.length
      const read = async (block: number): Promise<void> => {
        if (!await core.has(block)) return
        try {
          await core.get(block, { wait: false, timeout: readWaitMsMax })
          held.push(block)
        } catch (cause) {
          if (!isDamage(cause)) throw cause
          damaged.push(block)
        }
      }
      const readAll = async (from: number, to: number): Promise<void> => {
        for (let first = from; first < to; first += checkedAtOnceMax) {
          await Promise.all(Array.from({ length: Math.min(checkedAtOnceMax, to - first) }, (_, i) => read(first + i)))
        }
      }
      const newest = Math.max(0, end - checkedBlocksMax)
      await readAll(newest, end)
      if (damaged.length > 0) await readAll(0, newest)
      return { held, damaged: damaged.sort((a, b) => a - b) }
    } finally {
      await core.close().catch(() => undefined)
    }
  }

  /**
   * Removes a copy of a log, to be fetched anew. Its sessions die with the store that is closed and opened for it: Corestore keeps a core in
   * memory after its last session is closed, and would answer from there.
   */
  async drop(key: string): Promise<void> {
    const core = await this.session(key)
    const pointer = core.core.storage.core
    await core.close()
    await this.#store.storage.deleteCore(pointer)
    await this.reopen()
  }

  /** Closes and opens RocksDB, which forgets that the disk was full. */
  reopen(): Promise<void> {
    this.#reopening ??= (async () => {
      try {
        await this.#closeWal()
        await shut(this.#store)
        this.#store = newStore(this.#directory)
        await this.#store.ready()
        this.#broken = false
      } finally {
        this.#reopening = undefined
      }
      for (const listener of this.#reopened) listener()
    })()
    return this.#reopening
  }

  async close(): Promise<void> {
    await this.#closeWal()
    await shut(this.#store)
  }

  /** One log that survives a reopen of the store underneath it. */
  async #held(get: () => Hypercore) {
    let store = this.#store
    let core = get()
    await core.ready()
    const current = async (): Promise<Hypercore> => {
      await this.#reopening
      if (store !== this.#store) {
        store = this.#store
        core = get()
        await core.ready()
      }
      return core
    }
    const log: HeldLog = {
      key: toHex(core.key),
      length: () => core.contiguousLength,
      fork: () => core.fork,
      treeHash: async (length) => toHex(await (await current()).treeHash(length)),
      get: async (block) => {
        const bytes = await (await current()).get(block, { wait: false, timeout: readWaitMsMax })
        if (bytes === null) throw new Error(`block ${block} is not held`)
        return bytes
      }
    }
    return { log, core: current, now: () => core, close: () => core.close() }
  }

  /** Syncs the write-ahead file that holds what was just written: the known one, and the present one when it is another by now. */
  async #sync(): Promise<void> {
    const [wal] = await Promise.all([this.#store.storage.db.currentWalFile(), this.#wal?.file.datasync()])
    const path = wal === null ? undefined : `${this.#directory}/db${wal.path}`
    if (this.#wal !== undefined && this.#wal.path === path) return
    await this.#closeWal()
    if (path === undefined) return this.#store.storage.db.flush()
    this.#wal = { path, file: await open(path, "r+") }
    await this.#wal.file.datasync()
  }

  async #closeWal(): Promise<void> {
    const wal = this.#wal
    this.#wal = undefined
    await wal?.file.close()
  }

  static readonly layer = (store: HypercoreStore): Layer.Layer<LogStore> => Layer.succeed(LogStore, LogStore.of({
    openOwn: (keyPair) => acquire(() => store.openOwn(keyPair)),
    openHeld: (key) => acquire(() => store.openHeld(key))
  }))
}

const acquire = <A extends { close(): Promise<void> }>(
  run: () => Promise<A>
): Effect.Effect<A, LogStoreError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise({ try: run, catch: logStoreError("open") }),
    (log) => Effect.promise(() => log.close().catch(() => undefined))
  )

/**
 * Closes for certain. A Corestore that failed while it opened, or with a core in it that failed, leaves RocksDB open and with it the lock
 * on the directory, and says nothing.
 */
const shut = async (store: Corestore): Promise<void> => {
  await store.close().catch(() => undefined)
  await store.storage.close().catch(() => undefined)
  await store.storage.rocks.close({ force: true }).catch(() => undefined)
}

const newStore = (directory: string): Corestore => new Corestore(directory, { wait: true })

