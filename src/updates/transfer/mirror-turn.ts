/** A mirror's turn: pieces of one pack that no wire gives, from the first mirror that is still good. Bytes are gathered to one piece at most. */
import type { OpenPack } from "./pack.ts"
import { addressAtMirror, MirrorFault, takeFromMirror } from "./mirror.ts"
import { lengthOfPiece } from "./piece-store.ts"

export interface Mirrors {
  readonly set: (urls: ReadonlyArray<string>) => void
  /** Is one left that may be asked? */
  readonly any: () => boolean
  /** Brings pieces until the fetches have all they want, no mirror is left or `go` says that wires are to go on. */
  readonly turn: (pack: OpenPack, signal: AbortSignal, go: () => boolean) => Promise<void>
  /** What was wrong with those that were left, in words. */
  readonly faults: () => ReadonlyArray<string>
}

export interface MirrorsOptions {
  readonly now: () => number
  /** Bytes a second, 0 for none. */
  readonly rateMax: () => number
  readonly notice: (text: string) => void
}

/** Bytes of one request. A mirror that knows no ranges is asked for all at once. */
const runBytesMax = 16 << 20
const faultsMax = 3
/** After that many faults that are no lies a mirror rests, milliseconds. */
const restMs = 600_000
const wordsMax = 16

interface Standing {
  readonly url: string
  faults: number
  why: string
  /** It lied: for the life of this process nothing is asked of it. */
  left: boolean
  restUntil: number
  ranges: boolean
}

export const makeMirrors = ({ now, rateMax, notice }: MirrorsOptions): Mirrors => {
  let standings: ReadonlyArray<Standing> = []
  const usable = () => standings.find((mirror) => !mirror.left && mirror.restUntil <= now())

  const fault = (mirror: Standing, error: unknown) => {
    const lies = error instanceof MirrorFault && error.lies
    mirror.faults += 1
    mirror.why = error instanceof Error ? error.message : String(error)
    // R4.4: one that lies is left; one that fails has another try, then rests.
    if (lies) mirror.left = true
    else if (mirror.faults >= faultsMax) [mirror.restUntil, mirror.faults] = [now() + restMs, 0]
    if (lies || mirror.restUntil > now()) notice(`The mirror ${mirror.url} is left: ${mirror.why}.`)
  }

  const run = async (mirror: Standing, pack: OpenPack, signal: AbortSignal): Promise<boolean> => {
    const url = addressAtMirror(mirror.url, pack.pack.sha256)
    if (url === undefined) throw new MirrorFault("it is no web address", true)
    const claim = pack.claim(mirror.ranges ? runBytesMax : Number.MAX_SAFE_INTEGER)
    if (claim === undefined) return false
    const { pieceLength, length } = pack.pack
    const offset = claim.from * pieceLength
    const bytes = Math.min(length, (claim.from + claim.count) * pieceLength) - offset
    let index = claim.from
    let piece = Buffer.allocUnsafeSlow(lengthOfPiece(pack.pack, index))
    let filled = 0
    const from = now()
    let taken = 0
    const take = async (chunk: Uint8Array): Promise<void> => {
      for (let at = 0; at < chunk.byteLength;) {
        const part = chunk.subarray(at, at + piece.byteLength - filled)
        piece.set(part, filled)
        filled += part.byteLength
        at += part.byteLength
        if (filled < piece.byteLength) continue
        if (!await pack.bring(index, piece)) throw new MirrorFault(`piece ${index} that it gives is not what its hash says`, true)
        index += 1
        filled = 0
        if (index < claim.from + claim.count) piece = Buffer.allocUnsafeSlow(lengthOfPiece(pack.pack, index))
      }
      taken += chunk.byteLength
      // R4.3: mirrors count against the limit for downloads.
      const rate = rateMax()
      const aheadMs = rate > 0 ? taken / rate * 1_000 - (now() - from) : 0
      if (aheadMs > 20) await pause(Math.min(aheadMs, 5_000), signal)
    }
    try {
      mirror.ranges = (await takeFromMirror({ url, offset, length: bytes, total: length, signal, now, take })).ranges
      mirror.faults = 0
      return true
    } finally {
      pack.unclaim()
    }
  }

  return {
    set: (urls) => {
      const before = new Map(standings.map((mirror) => [mirror.url, mirror]))
      standings = [...new Set(urls)].map((url) => before.get(url) ?? { url, faults: 0, why: "", left: false, restUntil: 0, ranges: true })
    },
    any: () => usable() !== undefined,
    faults: () => standings.filter((mirror) => mirror.why !== "").slice(0, wordsMax).map((mirror) => `${mirror.url}: ${mirror.why}`),
    turn: async (pack, signal, go) => {
      while (!signal.aborted) {
        const mirror = usable()
        if (mirror === undefined) return
        try {
          if (!await run(mirror, pack, signal) || go()) return
        } catch (error) {
          if (signal.aborted) return
          // A disk that does not take it is no fault of the mirror.
          if (error instanceof Error && "code" in error && (error.code === "ENOSPC" || error.code === "EIO" || error.code === "EROFS")) return pack.fail(`the pack cannot be written: ${error.message}`)
          fault(mirror, error)
          await pause(200, signal)
        }
      }
    }
  }
}

const pause = (ms: number, signal: AbortSignal): Promise<void> => new Promise((resolve) => {
  const done = () => {
    clearTimeout(timer)
    signal.removeEventListener("abort", done)
    resolve()
  }
  const timer = setTimeout(done, ms)
  signal.addEventListener("abort", done)
})
