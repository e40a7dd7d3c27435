/**
 * Which pieces this device takes from one that has all of them, when others fetch the same pack at the same time.
 *
 * Everybody takes pieces in order, so without this everybody would take the same ones from the publisher, which would send the whole pack to each. Instead each piece belongs to
 * one of those that fetch, by a hash of piece and device that all reckon alike; it alone takes it from a complete holder, and the others take it from there. A device that
 * told of no new piece for a while has no pieces, so a slow one holds up nobody. Two may see the crowd differently: when nothing has come for a moment, all pieces are everybody's for a while.
 */
export interface Spread {
  /** It joined, or told that it has another piece. */
  readonly heard: (device: string) => void
  readonly left: (device: string) => void
  /** A whole piece came, from anybody. */
  readonly progress: () => void
  readonly mine: (index: number) => boolean
  /** Is there anybody to share with? */
  readonly crowded: () => boolean
}

/** For each MiB of a piece. */
const productiveMsOfMebibyte = 6_000
const stallMs = 3_000
const openMs = 1_500

export const makeSpread = (own: string, pieceLength: number, now: () => number): Spread => {
  const productiveMs = productiveMsOfMebibyte * pieceLength / 1_048_576
  const heardAt = new Map<string, number>()
  let progressAt = now()
  let openUntil = -Infinity
  let lookedAt = -Infinity
  let others: ReadonlyArray<number> = []
  const me = seedOf(own)
  const look = () => {
    const time = now()
    // The gate asks thousands of times a second.
    if (time - lookedAt < 50) return
    lookedAt = time
    others = [...heardAt].filter(([, at]) => time - at < productiveMs).map(([device]) => seedOf(device))
    if (time - progressAt > stallMs && time > openUntil) [openUntil, progressAt] = [time + openMs, time + openMs]
  }
  return {
    heard: (device) => { heardAt.set(device, now()) },
    left: (device) => { heardAt.delete(device) },
    progress: () => { progressAt = Math.max(progressAt, now()) },
    crowded: () => {
      look()
      return others.length > 0
    },
    mine: (index) => {
      look()
      if (now() < openUntil) return true
      const weight = weightOf(me, index)
      return others.every((other) => weightOf(other, index) <= weight)
    }
  }
}

const seedOf = (device: string): number => Number.parseInt(device.slice(0, 8), 16) ^ Number.parseInt(device.slice(-8), 16)

const weightOf = (seed: number, index: number): number => {
  let x = Math.imul(seed ^ Math.imul(index + 1, 0x9e37_79b1), 0x85eb_ca6b)
  x = Math.imul(x ^ (x >>> 15), 0xc2b2_ae35)
  x = Math.imul(x ^ (x >>> 13), 0x27d4_eb2f)
  return (x ^ (x >>> 16)) >>> 0
}
