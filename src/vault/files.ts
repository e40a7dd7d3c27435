/** Files that must be there whole after a power cut: written beside, synced, renamed, and the directory synced. Mode 0600. */
import { constants } from "node:fs"
import { mkdir, open, readFile, rename, unlink } from "node:fs/promises"
import { dirname } from "node:path"

/** What ends the name of a file that is being written; one that a crash left behind is no file of anybody. */
export const besideEnding = ".new"

export const writeWhole = async (path: string, bytes: Uint8Array | string): Promise<void> => {
  const beside = `${path}${besideEnding}`
  const file = await open(beside, "w", 0o600)
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(beside, path)
  await syncPath(dirname(path))
}

/** Gone for good, also after a power cut; nothing happens when it is not there. */
export const removeWhole = async (path: string): Promise<void> => {
  try {
    await unlink(path)
  } catch (cause) {
    if (isAbsent(cause)) return
    throw cause
  }
  await syncPath(dirname(path))
}

/** Undefined when there is no such file; other errors are thrown. */
export const readMaybe = async (path: string): Promise<Uint8Array | undefined> => {
  try {
    return await readFile(path)
  } catch (cause) {
    if (isAbsent(cause)) return undefined
    throw cause
  }
}

/** The same for a file whose name or size others may choose: nothing but a regular file, and no more of it than `bytesMax`. */
export const readSmall = async (path: string, bytesMax: number): Promise<Uint8Array | "absent" | "no file" | "too large"> => {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: unknown) => {
    if (isAbsent(cause)) return undefined
    throw cause
  })
  if (file === undefined) return "absent"
  try {
    if (!(await file.stat()).isFile()) return "no file"
    const bytes = Buffer.allocUnsafeSlow(bytesMax + 1)
    let length = 0
    for (;;) {
      const { bytesRead } = await file.read(bytes, length, bytes.byteLength - length)
      length += bytesRead
      if (bytesRead === 0 || length > bytesMax) break
    }
    const out = wipeable(bytes.subarray(0, Math.min(length, bytesMax)))
    bytes.fill(0)
    return length > bytesMax ? "too large" : out
  } finally {
    await file.close()
  }
}

/**
 * A copy that can be overwritten for good. Of up to 64 bytes a typed array lies in the engine's own heap, and whoever asks for its buffer (as
 * sodium does) gets a copy: overwriting that one leaves the first behind. One that is made on a buffer of its own never was there.
 */
/** The same as text; undefined when there is none, or it is no small file, or the disk does not give it. */
export const readSmallText = async (path: string, bytesMax: number): Promise<string | undefined> => {
  const bytes = await readSmall(path, bytesMax).catch(() => "no file" as const)
  return typeof bytes === "string" ? undefined : Buffer.from(bytes).toString("utf8")
}

export const wipeable = (bytes: Uint8Array): Uint8Array => {
  const out = new Uint8Array(new ArrayBuffer(bytes.byteLength))
  out.set(bytes)
  return out
}

export const makeDirectory = (path: string): Promise<unknown> => mkdir(path, { recursive: true, mode: 0o700 })

/** A file or directory, put on the disk. */
export const syncPath = async (path: string): Promise<void> => {
  const directory = await open(path, "r")
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

const isAbsent = (cause: unknown): boolean => typeof cause === "object" && cause !== null && "code" in cause && cause.code === "ENOENT"
