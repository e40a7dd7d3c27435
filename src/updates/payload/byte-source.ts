/** Bytes of known length that can be read at any place: an image, or a tree as its archive (source.ts). */
import { createHash } from "node:crypto"
import type { FileHandle } from "node:fs/promises"
import type { PlacedEntry } from "./archive-write.ts"
import { PayloadError } from "./payload.ts"

export interface ByteSource {
  readonly length: number
  /** Fills `into` with what is at `offset`; throws `PayloadError` `changed-source` when that is not there any more. */
  readonly read: (offset: number, into: Buffer) => Promise<void>
  readonly close: () => Promise<void>
  /** Of a tree. */
  readonly entries?: ReadonlyArray<PlacedEntry>
}

export const readExactly = async (handle: FileHandle, offset: number, into: Buffer, path: string): Promise<void> => {
  for (let filled = 0; filled < into.length;) {
    const { bytesRead } = await handle.read(into, filled, into.length - filled, offset + filled)
    if (bytesRead === 0) throw new PayloadError({ reason: "changed-source", detail: `${path} ends at byte ${offset + filled}; ${into.length - filled} bytes more were expected.` })
    filled += bytesRead
  }
}

/** Writes all of it: one write call may take less than it is given. */
export const writeExactly = async (handle: FileHandle, offset: number, bytes: Uint8Array): Promise<void> => {
  for (let done = 0; done < bytes.length;) done += (await handle.write(bytes, done, bytes.length - done, offset + done)).bytesWritten
}

export const sha256 = (bytes: Uint8Array): Buffer => createHash("sha256").update(bytes).digest()
