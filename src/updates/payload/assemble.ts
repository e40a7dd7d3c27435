/**
 * The device's side: a payload out of what is here and what packs have.
 *
 * It owns `work/payload` while it runs; nobody else may write there. One chunk's way: looked for in the file itself (a run before), in the local
 * sources, then way by way (R3.2): a patch against a base that is whole here, the packs, the full pack. Its hash is checked before it is
 * written, at all its places at once; the payload as a whole is read back and checked in the end.
 *
 * Tricky cases and the answers chosen:
 * - A pack's range passes the torrent's hashes and is not what the index says: `packs.bad`, asked twice more, then the next way.
 * - `faultsMax` frames that fail in a row end an asking, so that a lying source costs a bounded number of bytes.
 * - A patch unpacks to something else, since the base changed between looking and using: the chunks are still missing, the next way has them.
 * - Every chunk fits and the whole does not: the file is looked through again. A chunk that is wrong now was spoilt by the disk and is fetched once more;
 *   when none is, the index contradicts itself, and there is no way out.
 * - Fetching the next ranges goes on while these are unpacked; at most two batches are asked for at one time.
 */
import { mkdir, open, rm } from "node:fs/promises"
import type { PackSource, Range } from "../ports.ts"
import { readExactly, sha256, type ByteSource } from "./byte-source.ts"
import { hashKey, keyAt } from "./chunk-table.ts"
import { diskError } from "./disk-error.ts"
import { rangesOf, wantedOf, waysOf, type Wanted } from "./fetch-plan.ts"
import { unpackFrame } from "./frames.ts"
import { dictionaryMax, frameRawMax, frameSizeMax } from "./index-file.ts"
import { scanLocal, type Bases } from "./local-chunks.ts"
import { PayloadFile, payloadPath } from "./payload-file.ts"
import { PayloadError, type AssembleOptions, type AssembleReport, type Frame, type IndexPack } from "./payload.ts"
import { openSource } from "./source.ts"

const syncEveryBytesDefault = 64 * 1_048_576
/** Bytes of frames asked for at one time. */
const batchBytes = 16 * 1_048_576
/** How often a frame is asked for on one way. */
const attemptsMax = 3
/** Frames of a pack that fail in a row before the asking is given up. */
const faultsMax = 4
/** How often the whole payload may turn out wrong because of the disk. */
const roundsMax = 2
const faultsKeptMax = 32

export const assemble = async (options: AssembleOptions): Promise<{ readonly path: string; readonly report: AssembleReport }> => {
  const { index, signal } = options
  const path = payloadPath(options.work)
  try {
    await mkdir(options.work, { recursive: true })
    const file = await PayloadFile.open(path, index, options.syncEveryBytesMax ?? syncEveryBytesDefault, signal)
    try {
      return { path, report: await fill(file, options) }
    } finally {
      await file.close()
    }
  } catch (cause) {
    const error = diskError(cause, `Assembling ${path}`, signal)
    if (error.reason === "wrong-payload") await rm(path, { force: true })
    throw error
  }
}

const fill = async (file: PayloadFile, options: AssembleOptions): Promise<AssembleReport> => {
  const tally = new Tally(options)
  const missing = await file.missing()
  let here = file.index.payload.length
  for (const chunk of missing) here -= file.bytesOf(chunk)
  tally.add("kept", here)
  for (let round = 1; ; round++) {
    await new Filling(file, options, missing, tally).run()
    if (await file.verify()) return tally.report
    for (const chunk of await file.missing()) missing.add(chunk)
    if (missing.size === 0) throw new PayloadError({ reason: "wrong-payload", detail: `Every chunk is as its index says, the payload as a whole is not ${file.index.payload.sha256}.` })
    tally.fault(`${missing.size} chunks were not on the disk as they had been written.`)
    if (round >= roundsMax) throw new PayloadError({ reason: "disk", detail: `${file.path} does not keep what is written: ${missing.size} chunks differ.` })
  }
}

class Tally {
  report: AssembleReport
  readonly #onProgress: AssembleOptions["onProgress"]

  constructor({ index, onProgress }: AssembleOptions) {
    this.report = { of: index.payload.length, kept: 0, local: 0, patched: 0, packs: 0, fetched: 0, refetched: 0, faults: [] }
    this.#onProgress = onProgress
  }

  add(what: "kept" | "local" | "patched" | "packs" | "fetched" | "refetched", bytes: number): void {
    this.report = { ...this.report, [what]: this.report[what] + bytes }
    this.#onProgress?.(this.report)
  }

  fault(why: string): void {
    if (this.report.faults.length < faultsKeptMax) this.report = { ...this.report, faults: [...this.report.faults, why] }
  }
}

/** One go through all ways. */
class Filling {
  readonly #file: PayloadFile
  readonly #options: AssembleOptions
  readonly #missing: Set<number>
  readonly #tally: Tally
  readonly #packed = Buffer.allocUnsafe(frameSizeMax(frameRawMax))

  constructor(file: PayloadFile, options: AssembleOptions, missing: Set<number>, tally: Tally) {
    this.#file = file
    this.#options = options
    this.#missing = missing
    this.#tally = tally
  }

  async run(): Promise<void> {
    const { index, local, signal } = this.#options
    // R3.2: what is on this device.
    const bases = await scanLocal({
      index, local, missing: this.#missing, signal, onFault: (why) => this.#tally.fault(why),
      onChunk: async (chunk, bytes) => {
        await this.#file.write(chunk, bytes)
        this.#tally.add("local", this.#file.bytesOf(chunk))
      }
    })
    // R3.2: a patch against it, the packs, the full pack.
    for (const way of waysOf(index, this.#missing, new Set(bases.keys()))) {
      for (const wanted of wantedOf(this.#missing, way)) await this.#fromPack(wanted, bases)
    }
    if (this.#missing.size > 0) {
      const { faults } = this.#tally.report
      throw new PayloadError({ reason: "exhausted", detail: `${this.#missing.size} of ${index.lengths.length} chunks could not be had from any pack. ${faults.slice(-3).join(" ")}`.trim() })
    }
  }

  /** What fails stays missing. */
  async #fromPack({ pack, frames }: Wanted, bases: Bases): Promise<void> {
    const local = pack.base === undefined ? undefined : bases.get(pack.base.sha256)
    const source = local === undefined ? undefined : await openSource(local, this.#options.signal).catch(() => undefined)
    const base = source === undefined ? undefined : new Dictionary(source)
    if (pack.kind === "patch" && base === undefined) return
    try {
      let left = frames
      for (let attempt = 1; attempt <= attemptsMax && left.length > 0; attempt++) {
        left = await this.#attempt(pack, left, base, attempt)
      }
    } finally {
      await source?.close()
    }
  }

  /** The frames that are to be asked for once more. */
  async #attempt(pack: IndexPack, frames: ReadonlyArray<Frame>, base: Dictionary | undefined, attempt: number): Promise<ReadonlyArray<Frame>> {
    const { packs, signal } = this.#options
    const batches = batchesOf(frames)
    const failed: Array<Frame> = []
    let inRow = 0
    const stop = new AbortController()
    const ask = (batch: ReadonlyArray<Frame> | undefined) => batch === undefined ? undefined : ensured(packs, pack, batch, AbortSignal.any([signal, stop.signal]))
    let next = ask(batches[0])
    try {
      for (const [at, batch] of batches.entries()) {
        const current = next
        next = ask(batches[at + 1])
        const had = await current
        signal.throwIfAborted()
        if (had === undefined || "fault" in had) {
          if (had?.fault.reason === "no-space") throw had.fault
          this.#tally.fault(`Pack ${pack.ref.sha256.slice(0, 12)}: ${had?.fault.detail ?? "it was not asked for."}`)
          return [...failed, ...batches.slice(at).flat()]
        }
        this.#tally.add(attempt === 1 ? "fetched" : "refetched", batch.reduce((sum, { size }) => sum + size, 0))
        for (const [done, frame] of batch.entries()) {
          const why = await this.#frame(pack, frame, had.path, base)
          inRow = why === undefined ? 0 : inRow + 1
          if (why === undefined) continue
          failed.push(frame)
          this.#tally.fault(`Pack ${pack.ref.sha256.slice(0, 12)} at ${frame.offset}: ${why}`)
          // A source that lies costs a bounded number of bytes; it was named, so that the next asking is another one's to answer.
          if (inRow >= faultsMax) return [...failed, ...batch.slice(done + 1), ...batches.slice(at + 1).flat()]
        }
      }
      return failed
    } finally {
      stop.abort()
    }
  }

  /** Why the frame was of no use, or nothing when its chunks are written. */
  async #frame(pack: IndexPack, frame: Frame, path: string, base: Dictionary | undefined): Promise<string | undefined> {
    const { index, packs, signal } = this.#options
    // With a dictionary it may as well be our own base that changed.
    const accuse = () => {
      if (frame.dictionary === undefined) packs.bad(pack.ref, { offset: frame.offset, length: frame.size })
    }
    const packed = this.#packed.subarray(0, frame.size)
    let dictionary: Buffer | undefined
    try {
      const handle = await open(path, "r")
      await readExactly(handle, frame.offset, packed, path).finally(() => handle.close())
      if (frame.dictionary !== undefined) dictionary = await base?.read(frame.dictionary)
    } catch (cause) {
      signal.throwIfAborted()
      // Our own disk, unless the file is shorter than was promised.
      if (cause instanceof PayloadError) accuse()
      return diskError(cause, "Reading it", signal).detail
    }
    let raw: Buffer
    try {
      raw = await unpackFrame(packed, frame.raw, dictionary)
    } catch (cause) {
      signal.throwIfAborted()
      accuse()
      return diskError(cause, "Unpacking it", signal).detail
    }
    let wrong = raw.length === frame.raw ? 0 : 1
    for (const { chunk, offset } of frame.places) {
      if (!this.#missing.has(chunk)) continue
      const bytes = raw.subarray(offset, offset + (index.lengths[chunk] ?? 0))
      // R3.1: every chunk is checked before it is written.
      if (hashKey(sha256(bytes)) !== keyAt(index.hashes, chunk) || bytes.length !== index.lengths[chunk]) {
        wrong += 1
        continue
      }
      await this.#file.write(chunk, bytes)
      this.#missing.delete(chunk)
      this.#tally.add(pack.kind === "patch" ? "patched" : "packs", this.#file.bytesOf(chunk))
    }
    if (wrong === 0) return undefined
    accuse()
    return `${wrong} of its chunks are not what the index says.`
  }
}

/** Ranges of a base, one after the other: they overlap nearly always, and a tree's small files are slow to read. */
class Dictionary {
  readonly #source: ByteSource
  readonly #buffer = Buffer.allocUnsafe(dictionaryMax)
  #from = 0
  #to = 0

  constructor(source: ByteSource) {
    this.#source = source
  }

  /** Valid until the next read. */
  async read({ offset, length }: Range): Promise<Buffer> {
    const kept = offset >= this.#from && offset < this.#to ? Math.min(this.#to - offset, length) : 0
    this.#buffer.copyWithin(0, offset - this.#from, offset - this.#from + kept)
    this.#from = offset
    this.#to = offset + kept
    await this.#source.read(offset + kept, this.#buffer.subarray(kept, length))
    this.#to = offset + length
    return this.#buffer.subarray(0, length)
  }
}

/** Never rejects: a failure is one of this way only. */
const ensured = (packs: PackSource, pack: IndexPack, batch: ReadonlyArray<Frame>, signal: AbortSignal): Promise<{ readonly path: string } | { readonly fault: PayloadError }> =>
  packs.ensure(pack.ref, rangesOf(batch), { signal }).then((path) => ({ path }), (cause: unknown) => ({ fault: diskError(cause, "Fetching it", signal, pack.ref.length) }))

const batchesOf = (frames: ReadonlyArray<Frame>): ReadonlyArray<ReadonlyArray<Frame>> => {
  const batches: Array<Array<Frame>> = []
  let bytes = Number.POSITIVE_INFINITY
  for (const frame of frames) {
    if (bytes + frame.size > batchBytes) {
      batches.push([])
      bytes = 0
    }
    batches.at(-1)?.push(frame)
    bytes += frame.size
  }
  return batches
}
