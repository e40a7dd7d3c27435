/**
 * Files of a channel as blocks of its log.
 *
 * A file is a run of consecutive blocks, CBOR `{v: 1, path, part, parts, bytes}` each, parts counted from 0; the newest complete run
 * with a path is the file. Paths are TUF's (`1.root.json`, `timestamp.json`, `3.targets.json`) and `targets/SHA256.index`. A run that
 * another path breaks into, or that ends too early, is no file. Blocks are hostile until decoded: who holds the log's key may write
 * anything, and that makes no more than files that fail verification. A publisher that writes the right file once more heals it.
 *
 * The order within one publication is: new roots, indexes, targets, snapshot, and the timestamp last. A replica holds blocks without a
 * gap from the first on, so whoever holds a timestamp holds all that it names.
 */
import { Result } from "effect"
import { decodeCbor, encodeCbor } from "../../codec/cbor.ts"
import { Malformed } from "../../codec/malformed.ts"
import type { ChannelLog } from "../ports.ts"
import { metadataBytesMax } from "./metadata-limits.ts"

export const channelBlockVersion = 1
/** Bytes of a file in one block. */
export const partBytesMax = 49_152
/** Bytes of a block. */
export const blockBytesMax = 65_536
/** Blocks of a log that are looked at; later ones do not count. */
export const channelBlocksMax = 65_536
/** Bytes of one index. */
export const indexBytesMax = 4_194_304
/** Blocks of one file. */
export const partsMax = Math.ceil(indexBytesMax / partBytesMax)
/** Runs of one path that are remembered: the newest, and those before it for files that are known by their hash. */
export const runsPerPathMax = 4

/** A file of TUF, or an index by its hash. No `..`, no slash but that one. */
const pathPattern = /^(targets\/[0-9a-f]{64}\.index|[A-Za-z0-9][A-Za-z0-9._%-]{0,199}\.json)$/

export const isChannelPath = (path: string): boolean => pathPattern.test(path)
export const indexPath = (sha256: string): string => `targets/${sha256}.index`
const bytesMaxOf = (path: string): number => path.startsWith("targets/") ? indexBytesMax : metadataBytesMax

export interface ChannelBlock {
  readonly path: string
  readonly part: number
  readonly parts: number
  readonly bytes: Uint8Array
}

/** One run of blocks, to be appended in this order with nothing between them. Throws for a path or size that no reader would take. */
export const encodeFile = (path: string, bytes: Uint8Array): ReadonlyArray<Uint8Array> => {
  if (!isChannelPath(path)) throw new RangeError(`${JSON.stringify(path)} is no path of a channel's file`)
  if (bytes.byteLength > bytesMaxOf(path)) throw new RangeError(`${path} has ${bytes.byteLength} bytes; ${bytesMaxOf(path)} are the limit`)
  const parts = Math.max(1, Math.ceil(bytes.byteLength / partBytesMax))
  return Array.from({ length: parts }, (_, part) => encodeCbor({
    v: channelBlockVersion, path, part, parts, bytes: bytes.subarray(part * partBytesMax, (part + 1) * partBytesMax)
  }))
}

/** Every part but the last is full, so that the size of a file is known before its blocks are read. */
export const decodeBlock = (block: Uint8Array): Result.Result<ChannelBlock, Malformed> => {
  // R1.7: what a block may weigh is known before it is decoded.
  if (block.byteLength > blockBytesMax) return bad(`${block.byteLength} bytes; ${blockBytesMax} are the limit`)
  const wire = decodeCbor("channel block", block)
  if (Result.isFailure(wire)) return Result.fail(wire.failure)
  const record = wire.success
  if (typeof record !== "object" || record === null) return bad("no map")
  const { v, path, part, parts, bytes } = record as Record<string, unknown>
  if (v !== channelBlockVersion) return bad("another version")
  if (typeof path !== "string" || !isChannelPath(path)) return bad("no path of a channel's file")
  if (typeof part !== "number" || typeof parts !== "number" || !Number.isInteger(part) || !Number.isInteger(parts)) return bad("parts are no numbers")
  if (parts < 1 || parts > partsMax || part < 0 || part >= parts) return bad(`part ${part} of ${parts}`)
  if (!(bytes instanceof Uint8Array) || bytes.byteLength > partBytesMax) return bad("no bytes, or too many")
  if (part < parts - 1 && bytes.byteLength !== partBytesMax) return bad("a part that is not the last one is not full")
  return (parts - 1) * partBytesMax + (part === parts - 1 ? bytes.byteLength : 0) > bytesMaxOf(path)
    ? bad(`${path} is larger than ${bytesMaxOf(path)} bytes`)
    : Result.succeed({ path, part, parts, bytes: new Uint8Array(bytes) })
}

const bad = (why: string) => Result.fail(new Malformed({ what: "channel block", why }))

interface Run {
  readonly first: number
  readonly parts: number
  readonly length: number
}

/** The files in a channel's log. Rejects only when the log cannot be read from disk. */
export interface ChannelFiles {
  readonly log: ChannelLog
  /** The newest file with this path; undefined when there is none, or it is larger than asked for. */
  readonly read: (path: string, bytesMax?: number) => Promise<Uint8Array | undefined>
  /** The newest one that is accepted, of the last `runsPerPathMax`: for files that are known by their hash. */
  readonly find: (path: string, accepts: (bytes: Uint8Array) => boolean, bytesMax?: number) => Promise<Uint8Array | undefined>
  /** Paths of all files, as of now. */
  readonly paths: () => Promise<ReadonlyArray<string>>
  /** Blocks looked at, and those of them that were no block of ours. */
  readonly seen: () => { readonly blocks: number; readonly faulty: number }
}

/** Blocks are looked at once, when they are first asked about after they came. */
export const channelFiles = (log: ChannelLog): ChannelFiles => {
  const runs = new Map<string, ReadonlyArray<Run>>()
  let next = 0
  let faulty = 0
  let open: { readonly path: string; readonly parts: number; readonly first: number } | undefined
  let busy: Promise<void> = Promise.resolve()

  const take = (index: number, decoded: Result.Result<ChannelBlock, Malformed>): void => {
    if (Result.isFailure(decoded)) {
      faulty += 1
      open = undefined
      return
    }
    const { path, part, parts, bytes } = decoded.success
    if (part === 0) open = { path, parts, first: index }
    else if (open === undefined || open.path !== path || open.parts !== parts || index - open.first !== part) open = undefined
    if (open === undefined || part !== parts - 1) return
    const run: Run = { first: open.first, parts, length: (parts - 1) * partBytesMax + bytes.byteLength }
    runs.set(path, [run, ...runs.get(path) ?? []].slice(0, runsPerPathMax))
    open = undefined
  }

  const scan = async (): Promise<void> => {
    // R1.7: a log has no more blocks than this for us.
    const end = Math.min(log.length(), channelBlocksMax)
    if (end < next) {
      // A log that was opened anew on an older state is read from its first block.
      runs.clear()
      next = 0
      faulty = 0
      open = undefined
    }
    for (; next < end; next += 1) take(next, decodeBlock(await log.block(next)))
  }

  const update = (): Promise<void> => {
    busy = busy.then(scan, scan)
    return busy
  }

  const bytesOf = async (path: string, { first, parts, length }: Run): Promise<Uint8Array | undefined> => {
    const out = new Uint8Array(length)
    let at = 0
    for (let part = 0; part < parts; part += 1) {
      const decoded = decodeBlock(await log.block(first + part))
      // Compared again after the read: the disk may have changed.
      if (Result.isFailure(decoded) || decoded.success.path !== path || decoded.success.part !== part || at + decoded.success.bytes.byteLength > length) return undefined
      out.set(decoded.success.bytes, at)
      at += decoded.success.bytes.byteLength
    }
    return at === length ? out : undefined
  }

  const find: ChannelFiles["find"] = async (path, accepts, bytesMax = bytesMaxOf(path)) => {
    await update()
    for (const run of runs.get(path) ?? []) {
      if (run.length > bytesMax) continue
      const bytes = await bytesOf(path, run)
      if (bytes !== undefined && accepts(bytes)) return bytes
    }
    return undefined
  }

  const read: ChannelFiles["read"] = async (path, bytesMax = bytesMaxOf(path)) => {
    await update()
    const newest = runs.get(path)?.[0]
    return newest === undefined || newest.length > bytesMax ? undefined : bytesOf(path, newest)
  }

  return {
    log, read, find,
    paths: async () => {
      await update()
      return [...runs.keys()]
    },
    seen: () => ({ blocks: next, faulty })
  }
}
