/** Files that must be there whole after a power cut: written beside, synced, renamed, and the directory synced. Mode 0600. */
import { mkdir, open, readFile, rename } from "node:fs/promises"
import { dirname } from "node:path"

export const writeWhole = async (path: string, bytes: Uint8Array | string): Promise<void> => {
  const beside = `${path}.new`
  const file = await open(beside, "w", 0o600)
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(beside, path)
  const directory = await open(dirname(path), "r")
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** Undefined when there is no such file; other errors are thrown. */
export const readMaybe = async (path: string): Promise<Uint8Array | undefined> => {
  try {
    return await readFile(path)
  } catch (cause) {
    if (typeof cause === "object" && cause !== null && "code" in cause && cause.code === "ENOENT") return undefined
    throw cause
  }
}

export const makeDirectory = (path: string): Promise<unknown> => mkdir(path, { recursive: true, mode: 0o700 })
