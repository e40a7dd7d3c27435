/** Opens a tree or an image for reading at any place. */
import { open } from "node:fs/promises"
import { openArchive } from "./archive-write.ts"
import { readExactly, type ByteSource } from "./byte-source.ts"
import { PayloadError, type PayloadSource } from "./payload.ts"

export const openSource = async ({ form, path }: PayloadSource, signal: AbortSignal): Promise<ByteSource> => form === "tree" ? openArchive(path, signal) : openImage(path)

const openImage = async (path: string): Promise<ByteSource> => {
  const handle = await open(path, "r")
  const status = await handle.stat()
  if (!status.isFile()) {
    await handle.close()
    throw new PayloadError({ reason: "unfit-source", detail: `${path} is no plain file.` })
  }
  return { length: status.size, read: (offset, into) => readExactly(handle, offset, into, path), close: () => handle.close() }
}
