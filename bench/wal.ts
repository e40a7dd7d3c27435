import * as fs from "node:fs"
import * as path from "node:path"

const pollMs = 20

/** Bytes ever written to RocksDB's write-ahead files of a directory, seen by polling: files that vanish keep their last size. */
export const watchWal = (directory: string) => {
  const seen = new Map<string, number>()
  const look = () => {
    for (const name of fs.existsSync(directory) ? fs.readdirSync(directory) : []) {
      if (!/^\d+\.log$/.test(name)) continue
      try {
        seen.set(name, Math.max(seen.get(name) ?? 0, fs.statSync(path.join(directory, name)).size))
      } catch {
        // Deleted between the two calls; its last size stands.
      }
    }
  }
  look()
  const before = [...seen.values()].reduce((a, b) => a + b, 0)
  const timer = setInterval(look, pollMs)
  return () => {
    clearInterval(timer)
    look()
    return [...seen.values()].reduce((a, b) => a + b, 0) - before
  }
}
