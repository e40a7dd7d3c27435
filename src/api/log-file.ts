/** Reads the daemon's own log back: one JSON object a line in `kos.log`, older ones in `kos.log.1`, `kos.log.2`, … (see `boot/node-log.ts`). */
import { Result, Schema } from "effect"
import { readFile } from "node:fs/promises"
import { logs } from "./operations/everyday.ts"
import type { OutputOf } from "./operations/table.ts"

/** Rotated files that are looked for at most. */
const filesMax = 16

/**
 * The newest `limit` lines that pass `fits`, oldest first. Lines that are torn or not ours are skipped: the log is for finding faults and may
 * itself be cut short by one. Files are read whole; each is bounded by the writer.
 */
export const readLogLines = async (
  path: string, limit: number, fits: (line: OutputOf<"logs">) => boolean = () => true
): Promise<ReadonlyArray<OutputOf<"logs">>> => {
  const newestFirst: Array<OutputOf<"logs">> = []
  for (let n = 0; n < filesMax && newestFirst.length < limit; n++) {
    const text = await readFile(n === 0 ? path : `${path}.${n}`, "utf8").catch(() => undefined)
    // Right after a rotation there is no current file yet.
    if (text === undefined && n > 0) break
    for (const line of (text ?? "").split("\n").reverse()) {
      if (newestFirst.length >= limit) break
      const decoded = lineOf(line)
      if (decoded !== undefined && fits(decoded)) newestFirst.push(decoded)
    }
  }
  return newestFirst.reverse()
}

const lineOf = (line: string): OutputOf<"logs"> | undefined => {
  if (!line.startsWith("{")) return undefined
  try {
    const decoded = Schema.decodeUnknownResult(logs.output)(JSON.parse(line))
    return Result.isSuccess(decoded) ? decoded.success : undefined
  } catch {
    return undefined
  }
}
