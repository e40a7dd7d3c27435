/**
 * The canonical archive of a tree: a subset of POSIX ustar with pax records for long names, such that one tree has exactly one archive.
 *
 * Entries are directories (0755), files (0644, or 0755 when the owner may run them) and symbolic links, in the order of the bytes of their
 * paths without a closing slash, each directory before what is in it; times, owners and everything else are zero. Two zero blocks end it,
 * nothing follows. A reader makes each header again from what it read, and refuses it when the bytes differ: so nothing else of tar exists here.
 */
import { Buffer } from "node:buffer"

export interface Entry {
  /** Below the tree's root, parts joined by `/`, no slash at either end. */
  readonly path: string
  readonly kind: "directory" | "file" | "link"
  /** Of a file. */
  readonly executable: boolean
  /** Bytes of a file, else 0. */
  readonly length: number
  /** Of a link, else empty. */
  readonly target: string
}

export const blockBytes = 512
export const entriesMax = 262_144
export const pathBytesMax = 1_024
export const nameBytesMax = 255
export const depthMax = 64
/** What ustar's size field holds; a larger file travels as an image. */
export const fileBytesMax = 8 * 2 ** 30 - 1
/** Both records of the longest path and target. */
export const paxBytesMax = 4_096
export const archiveEnd = Buffer.alloc(2 * blockBytes)

export const padded = (length: number): number => Math.ceil(length / blockBytes) * blockBytes

/** Why this path may not be in an archive (R3.3). */
export const pathFault = (path: string): string | undefined => {
  if (path === "") return "it is empty"
  if (Buffer.byteLength(path) > pathBytesMax) return `it is longer than ${pathBytesMax} bytes`
  if (!path.isWellFormed() || path.includes("\0") || path.includes("\uFFFD")) return "it is not plain UTF-8"
  const parts = path.split("/")
  if (parts.length > depthMax) return `it is deeper than ${depthMax}`
  for (const part of parts) {
    if (part === "") return "it has an empty part"
    if (part === "." || part === "..") return `it has the part ${part}`
    if (Buffer.byteLength(part) > nameBytesMax) return `a part is longer than ${nameBytesMax} bytes`
  }
  return undefined
}

/**
 * Why a link at this path may not point there. `..` counts only at its beginning: the directories above a link are real ones, so that going up is
 * what it seems. Behind another link it would go up from elsewhere (`a` → `x/y`, `b` → `a/../..`).
 */
export const linkFault = (path: string, target: string): string | undefined => {
  if (target === "") return "it is empty"
  if (Buffer.byteLength(target) > pathBytesMax) return `it is longer than ${pathBytesMax} bytes`
  if (!target.isWellFormed() || target.includes("\0") || target.includes("\uFFFD")) return "it is not plain UTF-8"
  if (target.startsWith("/")) return "it is absolute"
  let above = path.split("/").length - 1
  let down = false
  for (const part of target.split("/")) {
    if (part === "") return "it has an empty part"
    if (part === ".") continue
    if (part !== "..") {
      down = true
      continue
    }
    if (down) return "it goes up after going down"
    if (above === 0) return "it leads out of the tree"
    above -= 1
  }
  return undefined
}

/** The header of an entry: one block, or three with pax records. */
export const encodeHeader = (entry: Entry): Buffer => {
  const name = Buffer.from(entry.kind === "directory" ? `${entry.path}/` : entry.path)
  const target = Buffer.from(entry.target)
  const records = Buffer.concat([name.length > 100 ? paxRecord("path", name) : empty, target.length > 100 ? paxRecord("linkpath", target) : empty])
  const main = headerBlock(name.length > 100 ? longName : name, kinds[entry.kind], entry.executable || entry.kind !== "file" ? 0o755 : 0o644, entry.length, target.length > 100 ? longName : target)
  if (records.length === 0) return main
  return Buffer.concat([headerBlock(paxName, "x", 0o644, records.length, empty), records, Buffer.alloc(padded(records.length) - records.length), main])
}

/** Order of entries. */
export const comparePaths = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))

export const kinds = { file: "0", link: "2", directory: "5" } as const

const empty = Buffer.alloc(0)
const longName = Buffer.from("@long")
const paxName = Buffer.from("@pax")

/** `LENGTH KEY=VALUE\n`, where the length counts its own digits. */
const paxRecord = (key: string, value: Buffer): Buffer => {
  const rest = key.length + value.length + 3
  let length = rest + String(rest).length
  if (rest + String(length).length > length) length += 1
  return Buffer.concat([Buffer.from(`${length} ${key}=`), value, Buffer.from("\n")])
}

const headerBlock = (name: Buffer, type: string, mode: number, size: number, target: Buffer): Buffer => {
  const block = Buffer.alloc(blockBytes)
  const octal = (value: number, at: number, digits: number) => block.write(value.toString(8).padStart(digits, "0"), at, "latin1")
  name.copy(block, 0)
  octal(mode, 100, 7)
  octal(0, 108, 7)
  octal(0, 116, 7)
  octal(size, 124, 11)
  octal(0, 136, 11)
  block.write(type, 156, "latin1")
  target.copy(block, 157)
  block.write("ustar\0" + "00", 257, "latin1")
  octal(0, 329, 7)
  octal(0, 337, 7)
  block.fill(" ", 148, 156)
  let sum = 0
  for (const byte of block) sum += byte
  octal(sum, 148, 6)
  block.write("\0 ", 154, "latin1")
  return block
}
