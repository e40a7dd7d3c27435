/**
 * Hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014, figure 5): wall milliseconds that never run backwards
 * plus a counter for what happens within one. It orders what one node saw for people to read. Nothing is decided by it: order
 * that matters is causal (addresses in `cause`, Automerge dependencies, parents of membership operations).
 *
 * A clock wrong by years must not drag the others along for ever. A remote stamp moves this clock only while it is no more than
 * `clockAheadMsMax` ahead of our wall clock, or while our own wall clock is itself impossible (before `clockEpochMs`, as on a Pi
 * after a power cut). The event keeps the stamp that its author wrote.
 */

export interface Stamp {
  /** Wall milliseconds since 1970, as the author's clock had it, never less than an earlier stamp of the same log. */
  readonly ms: number
  /** Orders stamps of one millisecond, 0 to 65,535. */
  readonly count: number
}

/** 2026-01-01: no kOS existed before, so an earlier wall clock is known to be wrong. */
export const clockEpochMs = 1_767_225_600_000
export const clockAheadMsMax = 24 * 3_600_000
export const stampMsMax = 2 ** 48 - 1
export const stampCountMax = 65_535

export const stampZero: Stamp = { ms: 0, count: 0 }

/** The stamp of the next own event. A full counter borrows from the next millisecond. */
export const tick = (last: Stamp, wallMs: number): Stamp => {
  const ms = Math.min(Math.max(0, Math.floor(wallMs)), stampMsMax)
  if (ms > last.ms) return { ms, count: 0 }
  return last.count < stampCountMax ? { ms: last.ms, count: last.count + 1 } : { ms: last.ms + 1, count: 0 }
}

/** The clock after seeing a remote stamp. */
export const receive = (last: Stamp, remote: Stamp, wallMs: number): Stamp => {
  const believable = wallMs < clockEpochMs ? remote.ms >= clockEpochMs : remote.ms <= wallMs + clockAheadMsMax
  return believable && compareStamps(remote, last) > 0 ? remote : last
}

export const compareStamps = (a: Stamp, b: Stamp): number => a.ms - b.ms || a.count - b.count

export const isStamp = (ms: unknown, count: unknown): boolean =>
  Number.isSafeInteger(ms) && (ms as number) >= 0 && (ms as number) <= stampMsMax &&
  Number.isSafeInteger(count) && (count as number) >= 0 && (count as number) <= stampCountMax

/** RFC 3339 in UTC with milliseconds. */
export const stampText = (stamp: Stamp): string => {
  const date = new Date(Math.min(stamp.ms, 8.64e15))
  return date.toISOString()
}
