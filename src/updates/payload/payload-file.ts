/**
 * The payload while it is being assembled: a file of its full length from the beginning, with holes. A chunk is written at all its places when its hash fits.
 *
 * Nothing is noted beside the file: what is there is found again by its hashes, so that a kill or a power cut at any moment costs at most
 * what was not synced yet.
 */
import { createHash } from "node:crypto"
import { constants } from "node:fs"
import { open, statfs, type FileHandle } from "node:fs/promises"
import { dirname, join } from "node:path"
import { readExactly, sha256, writeExactly } from "./byte-source.ts"
import { hashKey, keyAt } from "./chunk-table.ts"
import { diskError } from "./disk-error.ts"
import { PayloadError, type PayloadIndex } from "./payload.ts"

const readBlock = 1_048_576

export class PayloadFile {
  readonly path: string
  readonly index: PayloadIndex
  readonly #handle: FileHandle
  readonly #syncEvery: number
  readonly #signal: AbortSignal
  /** Offsets of chunk n: `#offsets` from `#first[n]` to `#first[n + 1]`. */
  readonly #first: Uint32Array
  readonly #offsets: Float64Array
  #unsynced = 0

  private constructor(path: string, index: PayloadIndex, handle: FileHandle, syncEvery: number, signal: AbortSignal) {
    this.path = path
    this.index = index
    this.#handle = handle
    this.#syncEvery = syncEvery
    this.#signal = signal
    this.#first = new Uint32Array(index.lengths.length + 1)
    for (const chunk of index.order) this.#first[chunk + 1] = (this.#first[chunk + 1] ?? 0) + 1
    for (let n = 1; n < this.#first.length; n++) this.#first[n] = (this.#first[n] ?? 0) + (this.#first[n - 1] ?? 0)
    this.#offsets = new Float64Array(index.order.length)
    const next = this.#first.slice()
    let offset = 0
    for (const chunk of index.order) {
      const at = next[chunk] ?? 0
      this.#offsets[at] = offset
      next[chunk] = at + 1
      offset += index.lengths[chunk] ?? 0
    }
  }

  /** Opens or makes it; throws `no-space` when what is not there yet cannot fit. */
  static async open(path: string, index: PayloadIndex, syncEvery: number, signal: AbortSignal): Promise<PayloadFile> {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
    try {
      const { length } = index.payload
      const { size, blocks } = await handle.stat()
      if (size !== length) await handle.truncate(length)
      // R3.4: before the first byte.
      const { bavail, bsize } = await statfs(dirname(path))
      const bytesNeeded = Math.max(0, length - blocks * 512)
      if (bavail * bsize < bytesNeeded) throw new PayloadError({ reason: "no-space", detail: `${path} needs ${bytesNeeded} bytes more; ${bavail * bsize} are free.`, bytesNeeded })
      return new PayloadFile(path, index, handle, syncEvery, signal)
    } catch (cause) {
      await handle.close()
      throw diskError(cause, `Opening ${path}`, signal)
    }
  }

  /** Chunks that are not there, at all their places; one that is there at some places is written at the others. */
  async missing(): Promise<Set<number>> {
    const { index } = this
    const missing = new Set(index.lengths.keys())
    if ((await this.#handle.stat()).blocks === 0) return missing
    const partly = new Map<number, number>()
    const wrong: Array<number> = []
    let offset = 0
    for (const chunk of index.order) {
      this.#signal.throwIfAborted()
      const bytes = await this.#read(offset, (index.lengths[chunk] ?? 0))
      // R3.1: what is in the file counts by its hash, whoever wrote it.
      if (hashKey(sha256(bytes)) === keyAt(index.hashes, chunk)) partly.set(chunk, offset)
      else wrong.push(chunk)
      offset += bytes.length
    }
    for (const chunk of partly.keys()) missing.delete(chunk)
    for (const chunk of new Set(wrong)) {
      const from = partly.get(chunk)
      if (from !== undefined) await this.write(chunk, await this.#read(from, (index.lengths[chunk] ?? 0)))
    }
    return missing
  }

  /** Writes a chunk at all its places. The caller has checked its hash; a wrong one is found by `verify`. */
  async write(chunk: number, bytes: Buffer): Promise<void> {
    try {
      for (let n = (this.#first[chunk] ?? 0); n < (this.#first[chunk + 1] ?? 0); n++) {
        await writeExactly(this.#handle, this.#offsets[n] ?? 0, bytes)
        this.#unsynced += bytes.length
      }
      if (this.#unsynced >= this.#syncEvery) {
        await this.#handle.datasync()
        this.#unsynced = 0
      }
    } catch (cause) {
      throw diskError(cause, `Writing ${this.path}`, this.#signal, this.index.payload.length)
    }
  }

  /** Bytes that a chunk takes at all its places. */
  bytesOf(chunk: number): number {
    return ((this.#first[chunk + 1] ?? 0) - (this.#first[chunk] ?? 0)) * (this.index.lengths[chunk] ?? 0)
  }

  /** R3.1: the payload as a whole, read back from the disk. */
  async verify(): Promise<boolean> {
    await this.#handle.sync()
    const hash = createHash("sha256")
    const { length, sha256: signed } = this.index.payload
    for (let offset = 0; offset < length; offset += readBlock) {
      this.#signal.throwIfAborted()
      hash.update(await this.#read(offset, Math.min(readBlock, length - offset)))
    }
    if ((await this.#handle.stat()).size !== length || hash.digest("hex") !== signed) return false
    const directory = await open(dirname(this.path), "r")
    await directory.sync().finally(() => directory.close())
    return true
  }

  close(): Promise<void> {
    return this.#handle.close()
  }

  readonly #buffer = Buffer.allocUnsafe(readBlock)
  /** Valid until the next read. */
  async #read(offset: number, length: number): Promise<Buffer> {
    const into = this.#buffer.subarray(0, length)
    await readExactly(this.#handle, offset, into, this.path)
    return into
  }
}

export const payloadPath = (work: string): string => join(work, "payload")
