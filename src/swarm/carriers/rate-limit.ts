import type { Timers } from "./timers.ts"

export interface RateLimitOptions {
  /** How many a key may take in one window. */
  readonly takesMax: number
  readonly windowMs: number
  /** How many keys are remembered; when all are in a running window a new key is refused. */
  readonly keysMax: number
  readonly timers: Timers
}

/** Counts per key in fixed windows. Memory is bounded by `keysMax`, whatever the network invents as keys. */
export interface RateLimit {
  /** Takes one; false when the key has none left. */
  take(key: string): boolean
  /** True when `take` would refuse now. */
  spent(key: string): boolean
}

export const makeRateLimit = ({ takesMax, windowMs, keysMax, timers }: RateLimitOptions): RateLimit => {
  const windows = new Map<string, { since: number; taken: number }>()
  const current = (key: string): { since: number; taken: number } | undefined => {
    const window = windows.get(key)
    if (window === undefined || timers.now() - window.since < windowMs) return window
    windows.delete(key)
    return undefined
  }
  const makeRoom = (): boolean => {
    if (windows.size < keysMax) return true
    for (const key of windows.keys()) current(key)
    return windows.size < keysMax
  }
  return {
    take(key) {
      const window = current(key)
      if (window === undefined) {
        if (!makeRoom()) return false
        windows.set(key, { since: timers.now(), taken: 1 })
        return true
      }
      if (window.taken >= takesMax) return false
      window.taken += 1
      return true
    },
    spent(key) {
      const window = current(key)
      return window !== undefined && window.taken >= takesMax
    }
  }
}
