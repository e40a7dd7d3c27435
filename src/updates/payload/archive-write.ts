/** A tree as its canonical archive, readable at any place without being written anywhere. */
import { open, lstat, readdir, readlink } from "node:fs/promises"
import { join } from "node:path"
import { archiveEnd, encodeHeader, entriesMax, fileBytesMax, linkFault, padded, pathFault, type Entry } from "./archive-format.ts"
import { readExactly, type ByteSource } from "./byte-source.ts"
import { PayloadError } from "./payload.ts"

/** An entry and where it lies in the archive. */
export interface PlacedEntry extends Entry {
  /** Of its header. */
  readonly offset: number
  /** Of its first byte of content. */
  readonly content: number
}

export interface Archive extends ByteSource {
  readonly entries: ReadonlyArray<PlacedEntry>
}

/** Files being read at one time. */
const readsMax = 8

/** Reads names, kinds and lengths now, contents when they are asked for. Throws `PayloadError` `unfit-source` for what an archive cannot carry. */
export const openArchive = async (directory: string, signal: AbortSignal): Promise<Archive> => {
  const entries = await entriesOf(directory, signal)
  let length = 0
  const placed = entries.map((entry): PlacedEntry => {
    const offset = length
    const content = offset + encodeHeader(entry).length
    length = content + padded(entry.length)
    return { ...entry, offset, content }
  })
  length += archiveEnd.length
  return {
    entries: placed,
    length,
    read: async (offset, into) => {
      if (offset < 0 || offset + into.length > length) throw new PayloadError({ reason: "changed-source", detail: `The archive of ${directory} has ${length} bytes; ${offset + into.length} were asked.` })
      into.fill(0)
      const jobs: Array<{ readonly path: string; readonly from: number; readonly part: Buffer }> = []
      for (let at = placeOf(placed, offset); at < placed.length; at++) {
        const entry = placed[at]
        if (entry === undefined || entry.offset >= offset + into.length) break
        if (entry.content > offset) encodeHeader(entry).copy(into, Math.max(0, entry.offset - offset), Math.max(0, offset - entry.offset))
        const from = Math.max(offset, entry.content)
        const to = Math.min(offset + into.length, entry.content + entry.length)
        if (from < to) jobs.push({ path: entry.path, from: from - entry.content, part: into.subarray(from - offset, to - offset) })
      }
      await Promise.all(Array.from({ length: Math.min(readsMax, jobs.length) }, async () => {
        for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
          const path = join(directory, job.path)
          const handle = await open(path, "r").catch((cause: unknown) => {
            throw new PayloadError({ reason: "changed-source", detail: `${path} cannot be read: ${String(cause)}` })
          })
          await readExactly(handle, job.from, job.part, path).finally(() => handle.close())
        }
      }))
    },
    close: async () => {}
  }
}

/** The last entry that begins at or before this offset. */
const placeOf = (placed: ReadonlyArray<PlacedEntry>, offset: number): number => {
  let [low, high] = [0, placed.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((placed[middle]?.offset ?? 0) <= offset) low = middle + 1
    else high = middle
  }
  return Math.max(0, low - 1)
}

const entriesOf = async (directory: string, signal: AbortSignal): Promise<ReadonlyArray<Entry>> => {
  const found: Array<Entry> = []
  const unfit = (path: string, why: string): PayloadError => new PayloadError({ reason: "unfit-source", detail: `${JSON.stringify(path)} of ${directory} cannot be packed: ${why}.` })
  const visit = async (below: string): Promise<void> => {
    signal.throwIfAborted()
    for (const item of await readdir(join(directory, below), { withFileTypes: true })) {
      const path = below === "" ? item.name : `${below}/${item.name}`
      const why = pathFault(path)
      if (why !== undefined) throw unfit(path, why)
      if (found.length >= entriesMax) throw unfit(path, `the tree has more than ${entriesMax} entries`)
      if (item.isDirectory()) {
        found.push({ path, kind: "directory", executable: false, length: 0, target: "" })
        await visit(path)
      } else if (item.isFile()) {
        const { size, mode } = await lstat(join(directory, path))
        if (size > fileBytesMax) throw unfit(path, `it has ${size} bytes, more than ${fileBytesMax}`)
        found.push({ path, kind: "file", executable: (mode & 0o100) !== 0, length: size, target: "" })
      } else if (item.isSymbolicLink()) {
        const target = await readlink(join(directory, path))
        const fault = linkFault(path, target)
        if (fault !== undefined) throw unfit(path, `its target ${JSON.stringify(target)} is not allowed, ${fault}`)
        found.push({ path, kind: "link", executable: false, length: 0, target })
      } else throw unfit(path, "it is no file, directory or link")
    }
  }
  await visit("")
  return found.map((entry) => ({ entry, key: Buffer.from(entry.path) })).sort((a, b) => Buffer.compare(a.key, b.key)).map(({ entry }) => entry)
}
