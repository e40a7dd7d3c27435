import { open } from "node:fs/promises"

/** The kernel takes no longer ones. */
const socketPathBytesMax = 107

/** A path for `listen` or `connect`: one that is longer than the kernel takes is named through its directory's descriptor. */
export const shortPath = async (path: string): Promise<{ readonly path: string; readonly release: () => Promise<void> }> => {
  if (Buffer.byteLength(path) <= socketPathBytesMax) return { path, release: async () => {} }
  const at = path.lastIndexOf("/")
  const directory = await open(path.slice(0, at), "r")
  return { path: `/proc/self/fd/${directory.fd}/${path.slice(at + 1)}`, release: () => directory.close() }
}
