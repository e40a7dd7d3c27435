/** Chunks that are on this device already. A local source is what a person or a program may have changed since: a hit counts by its hash, nothing else. */
import { createHash } from "node:crypto"
import { sha256 } from "./byte-source.ts"
import { hashKey, keyAt } from "./chunk-table.ts"
import { diskError } from "./disk-error.ts"
import { chunksOf } from "./fastcdc.ts"
import { allChunks } from "./fetch-plan.ts"
import { PayloadError, type LocalSource, type PayloadIndex } from "./payload.ts"
import { openSource } from "./source.ts"

/** Patch bases found whole, by the SHA-256 of the payload. */
export type Bases = Map<string, LocalSource>

export interface LocalScan {
  readonly index: PayloadIndex
  readonly local: ReadonlyArray<LocalSource>
  /** Chunks that are looked for; those found are taken out. */
  readonly missing: Set<number>
  readonly signal: AbortSignal
  /** A chunk that was found, checked; its bytes are valid until this resolves. What it throws ends the scan. */
  readonly onChunk: (chunk: number, bytes: Buffer) => Promise<void>
  /** A source that could not be read to its end: the next one may do. */
  readonly onFault: (why: string) => void
}

/** Reads the sources one after the other, until nothing is missing. */
export const scanLocal = async ({ index, local, missing, signal, onChunk, onFault }: LocalScan): Promise<Bases> => {
  const bases: Bases = new Map()
  const wanted = new Map([...missing].map((chunk) => [keyAt(index.hashes, chunk), chunk]))
  for (const from of local) {
    if (missing.size === 0) break
    try {
      const source = await openSource(from, signal)
      try {
        const base = index.packs.find(({ base }) => base !== undefined && base.length === source.length && (from.index === undefined || from.index.payload.sha256 === base.sha256))?.base
        const whole = base === undefined ? undefined : createHash("sha256")
        for await (const { bytes } of chunksOf(source, index.average, signal)) {
          whole?.update(bytes)
          const chunk = wanted.get(hashKey(sha256(bytes)))
          if (chunk === undefined || !missing.has(chunk) || bytes.length !== index.lengths[chunk]) continue
          await onChunk(chunk, bytes).catch((cause: unknown) => {
            throw new Fatal(cause)
          })
          missing.delete(chunk)
          if (missing.size === 0) return bases
        }
        if (base !== undefined && whole?.digest("hex") === base.sha256) bases.set(base.sha256, from)
      } finally {
        await source.close()
      }
    } catch (cause) {
      if (cause instanceof Fatal) throw cause.cause
      if (signal.aborted) throw diskError(cause, "Looking for chunks", signal)
      // R3.2: failure of one way is no failure of the release.
      onFault(cause instanceof PayloadError ? cause.detail : diskError(cause, `Reading ${from.path}`, signal).detail)
    }
  }
  return bases
}

/** What the sources lack, for a plan. */
export const missingOf = async (index: PayloadIndex, local: ReadonlyArray<LocalSource>, signal: AbortSignal): Promise<{ readonly missing: ReadonlySet<number>; readonly bases: ReadonlySet<string> }> => {
  const missing = new Set(allChunks(index))
  const bases = await scanLocal({ index, local, missing, signal, onChunk: async () => {}, onFault: () => {} })
  return { missing, bases: new Set(bases.keys()) }
}

/** Wraps what is not the source's fault. */
class Fatal extends Error {
  constructor(cause: unknown) {
    super("not the source's fault", { cause })
  }
}
