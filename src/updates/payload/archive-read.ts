/**
 * Unpacks a canonical archive into an empty directory. The archive is hostile until its last byte: a publisher's key may be stolen.
 *
 * Why it cannot write elsewhere (R3.3): each header must be, byte for byte, the one that `encodeHeader` makes of what was read from it; paths have no
 * `..`, come in ascending order, so none comes twice, and their parent is a directory that this run has made itself. So no path
 * leads through a link, and a file or link never takes the place of another. Files are made with O_EXCL and O_NOFOLLOW on top.
 */
import { constants } from "node:fs"
import { chmod, mkdir, open, readdir, symlink, type FileHandle } from "node:fs/promises"
import { join } from "node:path"
import { archiveEnd, blockBytes, comparePaths, encodeHeader, entriesMax, fileBytesMax, kinds, linkFault, padded, pathFault, paxBytesMax, type Entry } from "./archive-format.ts"
import { readExactly, writeExactly } from "./byte-source.ts"
import { diskError } from "./disk-error.ts"
import { PayloadError } from "./payload.ts"

/** Files being synced at one time: a journal commits them together. */
const syncsMax = 16

/** Resolves when everything is written and synced. What was written before a failure stays for the caller to remove. */
export const extractArchive = async (file: string, directory: string, signal: AbortSignal): Promise<{ readonly entries: number; readonly bytes: number }> => {
  if ((await readdir(directory)).length > 0) throw new PayloadError({ reason: "disk", detail: `${directory} is not empty.` })
  const handle = await open(file, "r")
  const directories = new Set<string>()
  const files: Array<string> = []
  const { size } = await handle.stat()
  try {
    let bytes = 0
    let entries = 0
    for await (const { entry, content } of entriesOf(handle, size, file)) {
      signal.throwIfAborted()
      entries += 1
      const parent = entry.path.slice(0, Math.max(0, entry.path.lastIndexOf("/")))
      // R3.3: below this directory only, in directories that were made here.
      if (parent !== "" && !directories.has(parent)) throw unsafe(entry.path, "its directory is not in the archive")
      const path = join(directory, entry.path)
      if (entry.kind === "directory") {
        await mkdir(path)
        await chmod(path, 0o755)
        directories.add(entry.path)
      } else if (entry.kind === "link") await symlink(entry.target, path)
      else {
        await writeFile(path, entry, handle, content, file)
        files.push(entry.path)
        bytes += entry.length
      }
    }
    await syncAll(directory, files, signal)
    await syncAll(directory, ["", ...directories], signal)
    return { entries, bytes }
  } catch (cause) {
    throw diskError(cause, `Unpacking ${file} to ${directory}`, signal, size)
  } finally {
    await handle.close()
  }
}

/** The entries of an archive and where their content begins; throws `unsafe-archive` at the first thing that does not belong there. */
export async function* entriesOf(handle: FileHandle, size: number, file: string): AsyncGenerator<{ readonly entry: Entry; readonly content: number }> {
  const window = new Window(handle, size, file)
  let at = 0
  let before: string | undefined
  for (let count = 0; ; count++) {
    if (size - at < archiveEnd.length) throw unsafe(before ?? "", "the archive ends without its end")
    const head = await window.bytes(at, blockBytes)
    if (head.equals(archiveEnd.subarray(0, blockBytes))) {
      if (size - at !== archiveEnd.length || !(await window.bytes(at, archiveEnd.length)).equals(archiveEnd)) throw unsafe(before ?? "", "something follows the archive's end")
      return
    }
    if (count >= entriesMax) throw unsafe(before ?? "", `the archive has more than ${entriesMax} entries`)
    // R1.7: the pax records are bounded before they are read.
    const pax = head[156] === 0x78 ? octal(head, 124, 11) : 0
    if (pax > paxBytesMax) throw unsafe(before ?? "", `a header has ${pax} bytes of records, more than ${paxBytesMax}`)
    const headerLength = pax === 0 ? blockBytes : 2 * blockBytes + padded(pax)
    if (size - at < headerLength) throw unsafe(before ?? "", "the archive ends within a header")
    const header = await window.bytes(at, headerLength)
    const entry = decodeHeader(header, pax)
    if (entry === undefined || !encodeHeader(entry).equals(header)) throw unsafe(before ?? "", `what follows it at byte ${at} is no header that kOS writes`)
    // R3.3: no absolute path, no `..`, no link that leads out, no device, no set-user-id.
    const fault = pathFault(entry.path) ?? (entry.kind === "link" ? linkFault(entry.path, entry.target) : undefined)
    if (fault !== undefined) throw unsafe(entry.path, fault)
    if (before !== undefined && comparePaths(before, entry.path) >= 0) throw unsafe(entry.path, `it does not come after ${JSON.stringify(before)}`)
    if (entry.length > fileBytesMax || padded(entry.length) > size - at - headerLength) throw unsafe(entry.path, `it claims ${entry.length} bytes, beyond the archive's end`)
    const tail = padded(entry.length) - entry.length
    if (tail > 0 && (await window.bytes(at + headerLength + entry.length, tail)).some((byte) => byte !== 0)) throw unsafe(entry.path, "what fills its last block is not zero")
    yield { entry, content: at + headerLength }
    before = entry.path
    at += headerLength + padded(entry.length)
  }
}

/** Reads little; the comparison with the header made anew is the check. */
const decodeHeader = (header: Buffer, pax: number): Entry | undefined => {
  const main = header.subarray(header.length - blockBytes)
  const records = pax === 0 ? new Map<string, string>() : paxRecords(header.subarray(blockBytes, blockBytes + pax))
  const type = String.fromCharCode(main[156] ?? 0)
  const kind = type === kinds.file ? "file" : type === kinds.directory ? "directory" : type === kinds.link ? "link" : undefined
  if (kind === undefined || records === undefined) return undefined
  const name = records.get("path") ?? text(main, 0, 100)
  const target = records.get("linkpath") ?? text(main, 157, 100)
  if (kind === "directory" && !name.endsWith("/")) return undefined
  return {
    path: kind === "directory" ? name.slice(0, -1) : name, kind, target,
    executable: kind === "file" && octal(main, 100, 7) === 0o755, length: octal(main, 124, 11)
  }
}

const paxRecords = (bytes: Buffer): Map<string, string> | undefined => {
  const records = new Map<string, string>()
  for (let at = 0; at < bytes.length;) {
    const digits = /^([1-9]\d{0,3}) /.exec(bytes.toString("latin1", at, at + 5))?.[1]
    const length = Number(digits ?? 0)
    if (digits === undefined || length <= digits.length + 1 || at + length > bytes.length) return undefined
    const record = bytes.toString("utf8", at + digits.length + 1, at + length - 1)
    const equals = record.indexOf("=")
    records.set(record.slice(0, Math.max(0, equals)), record.slice(equals + 1))
    at += length
  }
  return records
}

const octal = (block: Buffer, at: number, digits: number): number => {
  const value = block.toString("latin1", at, at + digits)
  return /^[0-7]+$/.test(value) ? Number.parseInt(value, 8) : 0
}

const text = (block: Buffer, at: number, length: number): string => {
  const end = block.indexOf(0, at)
  return block.toString("utf8", at, end < 0 || end > at + length ? at + length : end)
}

/** Small reads out of large ones. */
class Window {
  readonly #handle: FileHandle
  readonly #size: number
  readonly #file: string
  readonly #buffer = Buffer.allocUnsafe(262_144)
  #from = 0
  #to = 0

  constructor(handle: FileHandle, size: number, file: string) {
    this.#handle = handle
    this.#size = size
    this.#file = file
  }

  /** At most 64 KiB; valid until the next call. */
  async bytes(at: number, length: number): Promise<Buffer> {
    if (at < this.#from || at + length > this.#to) {
      const fill = Math.min(this.#buffer.length, this.#size - at)
      await readExactly(this.#handle, at, this.#buffer.subarray(0, fill), this.#file)
      this.#from = at
      this.#to = at + fill
    }
    return this.#buffer.subarray(at - this.#from, at - this.#from + length)
  }
}

const copyBlock = 1_048_576

const writeFile = async (path: string, entry: Entry, from: FileHandle, content: number, file: string): Promise<void> => {
  const handle = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
  try {
    const buffer = Buffer.allocUnsafe(Math.min(copyBlock, entry.length))
    for (let done = 0; done < entry.length;) {
      const part = buffer.subarray(0, Math.min(buffer.length, entry.length - done))
      await readExactly(from, content + done, part, file)
      await writeExactly(handle, done, part)
      done += part.length
    }
    // R3.3: no set-user-id; the mode is one of two, whatever the mask of this process is.
    await handle.chmod(entry.executable ? 0o755 : 0o644)
  } finally {
    await handle.close()
  }
}

const syncAll = async (directory: string, paths: ReadonlyArray<string>, signal: AbortSignal): Promise<void> => {
  let next = 0
  const worker = async (): Promise<void> => {
    for (let path = paths[next++]; path !== undefined; path = paths[next++]) {
      signal.throwIfAborted()
      const handle = await open(join(directory, path), "r")
      try {
        await handle.sync()
      } finally {
        await handle.close()
      }
    }
  }
  await Promise.all(Array.from({ length: syncsMax }, worker))
}

const unsafe = (path: string, why: string): PayloadError => new PayloadError({ reason: "unsafe-archive", detail: `The archive is refused at ${JSON.stringify(path)}: ${why}.` })
