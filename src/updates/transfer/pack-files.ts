/** Pack files as wholes: hashed once, remembered by a mark beside the file with its length, time and inode, and copied from elsewhere. */
import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { open, readFile, stat } from "node:fs/promises"
import type { PackRef } from "../ports.ts"

/** Beside a pack that was hashed as a whole: which file that was. */
export const markOf = (file: string): string => `${file}.whole`

const identityOf = async (file: string): Promise<string | undefined> => {
  const found = await stat(file).catch(() => undefined)
  return found === undefined ? undefined : `${found.size} ${found.mtimeMs} ${found.ino}`
}

export const isMarked = async (file: string, ref: PackRef | undefined): Promise<boolean> => {
  const found = await readFile(markOf(file), "utf8").catch(() => undefined)
  if (found === undefined || found.length > 200 || found !== await identityOf(file)) return false
  return ref === undefined || found.startsWith(`${ref.length} `)
}

export const mark = async (file: string): Promise<void> => {
  const identity = await identityOf(file)
  if (identity === undefined) return
  const handle = await open(markOf(file), "w", 0o600)
  try {
    await handle.writeFile(identity)
  } finally {
    await handle.close()
  }
}

const blockBytes = 1 << 20

export const sha256Of = async (file: string, length: number): Promise<string | undefined> => {
  const hash = createHash("sha256")
  let bytes = 0
  for await (const block of createReadStream(file, { highWaterMark: blockBytes })) {
    if (!Buffer.isBuffer(block)) continue
    bytes += block.byteLength
    hash.update(block)
  }
  return bytes === length ? hash.digest("hex") : undefined
}

/** Copies at most `length` bytes and one more: what is longer is refused without being read. */
export const copyHashed = async (from: string, to: string, length: number): Promise<string> => {
  const { size } = await stat(from)
  if (size !== length) throw new Error(`${from} has ${size} bytes, the pack has ${length}`)
  const hash = createHash("sha256")
  const out = await open(to, "w", 0o600)
  try {
    let bytes = 0
    for await (const block of createReadStream(from, { highWaterMark: blockBytes, end: length })) {
      if (!Buffer.isBuffer(block)) continue
      bytes += block.byteLength
      if (bytes > length) throw new Error(`${from} grew while it was read`)
      hash.update(block)
      await out.writeFile(block)
    }
    if (bytes !== length) throw new Error(`${from} became shorter while it was read`)
    await out.datasync()
    return hash.digest("hex")
  } finally {
    await out.close()
  }
}
