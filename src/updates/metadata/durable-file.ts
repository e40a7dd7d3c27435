/** Small files that are either as they were or as they are to be, whenever the power goes. */
import { mkdir, open, readFile, rename, stat } from "node:fs/promises"
import { dirname } from "node:path"

/** Written aside, synced, named, and the directory synced. One writer at a time for one path. */
export const writeDurably = async (path: string, text: string): Promise<void> => {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const aside = `${path}.new`
  const file = await open(aside, "w", 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(aside, path)
  const directory = await open(dirname(path), "r")
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** undefined when there is none, or it is larger than `bytesMax`, or the disk does not give it. */
export const readBounded = async (path: string, bytesMax: number): Promise<string | undefined> => {
  try {
    return (await stat(path)).size > bytesMax ? undefined : await readFile(path, "utf8")
  } catch {
    return undefined
  }
}
