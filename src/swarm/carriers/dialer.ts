import { makeRateLimit } from "./rate-limit.ts"
import type { Timers } from "./timers.ts"

export interface DialerOptions<T> {
  readonly timers: Timers
  /** From 0 up to 1; spreads the attempts of many nodes. */
  readonly random: () => number
  readonly targetsMax: number
  readonly parallelMax: number
  readonly perMinuteMax: number
  readonly backoffMs: { readonly first: number; readonly max: number }
  /** A connection that lived shorter counts as a failure, so that one which is always cut is not dialled in a loop. */
  readonly livedMs: number
  /** Resolves true when it led to a connection. Must not reject. */
  readonly attempt: (target: T, key: string) => Promise<boolean>
  /** Nothing to do now, because its device is connected. */
  readonly idle: (target: T) => boolean
}

/** Tries targets again and again with back-off until they are deleted; sleeps while they are connected. */
export interface Dialer<T> {
  /** Adds or replaces; false when there is no room. A target that is there already keeps its back-off. */
  set(key: string, target: T, delayMs: number): boolean
  get(key: string): T | undefined
  delete(key: string): void
  /** The connection of these targets is gone: try again after their back-off. */
  lost(match: (target: T) => boolean): void
  /** The network changed: try all that are not connected soon, back-off forgotten. */
  wake(): void
  readonly size: number
  stop(): void
}

export const makeDialer = <T>(options: DialerOptions<T>): Dialer<T> => {
  const { timers, random, backoffMs } = options
  interface Entry { target: T; failures: number; dueAt: number; busy: boolean; wokenAt: number | undefined; since: number | undefined }
  const entries = new Map<string, Entry>()
  const limit = makeRateLimit({ takesMax: options.perMinuteMax, windowMs: 60_000, keysMax: 1, timers })
  let busy = 0
  let stopped = false
  let cancel = (): void => {}

  const backoff = (failures: number): number =>
    Math.min(backoffMs.max, backoffMs.first * 2 ** Math.min(failures, 16)) * (0.8 + 0.4 * random())

  const schedule = (): void => {
    cancel()
    cancel = () => {}
    if (stopped || busy >= options.parallelMax) return
    let next = Infinity
    for (const entry of entries.values()) if (!entry.busy) next = Math.min(next, entry.dueAt)
    if (next < Infinity) cancel = timers.after(Math.max(0, next - timers.now()), tick)
  }

  const tick = (): void => {
    const now = timers.now()
    for (const [key, entry] of entries) {
      if (entry.busy || entry.dueAt > now) continue
      if (options.idle(entry.target)) {
        entry.dueAt = Infinity
        continue
      }
      if (busy >= options.parallelMax) break
      if (!limit.take("all")) {
        entry.dueAt = now + 1000 + 4000 * random()
        continue
      }
      void run(key, entry)
    }
    schedule()
  }

  const run = async (key: string, entry: Entry): Promise<void> => {
    entry.busy = true
    entry.wokenAt = undefined
    busy += 1
    const connected = await options.attempt(entry.target, key)
    busy -= 1
    entry.busy = false
    if (connected) entry.since = timers.now()
    else entry.failures += 1
    entry.dueAt = entry.wokenAt ?? (connected && options.idle(entry.target) ? Infinity : timers.now() + backoff(entry.failures))
    schedule()
  }

  return {
    set(key, target, delayMs) {
      if (stopped) return false
      const entry = entries.get(key)
      if (entry !== undefined) {
        entry.target = target
        if (entry.dueAt === Infinity && !options.idle(target)) entry.dueAt = timers.now() + backoff(entry.failures)
      } else {
        if (entries.size >= options.targetsMax) return false
        const dueAt = timers.now() + delayMs
        entries.set(key, { target, failures: 0, dueAt, busy: false, wokenAt: undefined, since: undefined })
      }
      schedule()
      return true
    },
    get: (key) => entries.get(key)?.target,
    delete(key) {
      entries.delete(key)
      schedule()
    },
    lost(match) {
      const now = timers.now()
      for (const entry of entries.values()) {
        if (!match(entry.target)) continue
        const short = entry.since !== undefined && now - entry.since < options.livedMs
        entry.since = undefined
        entry.failures = short ? entry.failures + 1 : 0
        const dueAt = now + backoff(entry.failures)
        if (entry.busy) entry.wokenAt = dueAt
        else entry.dueAt = dueAt
      }
      schedule()
    },
    wake() {
      const now = timers.now()
      for (const entry of entries.values()) {
        entry.failures = 0
        const dueAt = now + backoffMs.first * random()
        if (entry.busy) entry.wokenAt = dueAt
        else entry.dueAt = dueAt
      }
      schedule()
    },
    get size() {
      return entries.size
    },
    stop() {
      stopped = true
      cancel()
      entries.clear()
    }
  }
}
