/** Limits and times of replication and sessions, in one place; boot overrides them from settings. */
export interface ReplicationOptions {
  readonly now: () => number
  /** Logs downloaded at a time. */
  readonly openMax: number
  /** Logs kept open after their download, for the next growth, and for how long. */
  readonly lingerMax: number
  readonly lingerMs: number
  /** Logs opened for one peer, and for all of them, because they asked. */
  readonly servedMax: number
  readonly servedTotalMax: number
  /** Blocks asked for and not yet here, per log; fewer when bytes are limited. */
  readonly windowBlocksMax: number
  /** Heads kept of one peer that are beyond ours. */
  readonly aheadMax: number
  /** No block for this long: the download is dropped and another peer is asked. */
  readonly stallMs: number
  /** No block for this long: the peer is told again how much is held here. */
  readonly nudgeMs: number
  readonly retryMs: number
  readonly retryMsMax: number
  /** Growth of a log under download is recorded at most this often. */
  readonly grewMs: number
  readonly tickMs: number
  /** Bytes a second from all members together, and to each of them; 0 for no limit. */
  readonly downBytesPerSecondMax: number
  readonly upBytesPerSecondMax: number
  /** Blocks a minute that one member may write before its logs are taken more slowly; 0 for no limit. See `quota.ts`. */
  readonly memberBlocksPerMinuteMax: number
}

export const replicationDefaults: Omit<ReplicationOptions, "now"> = {
  openMax: 64,
  lingerMax: 32,
  lingerMs: 2_000,
  servedMax: 128,
  servedTotalMax: 512,
  windowBlocksMax: 1_024,
  aheadMax: 16_384,
  stallMs: 30_000,
  nudgeMs: 300,
  retryMs: 1_000,
  retryMsMax: 300_000,
  grewMs: 20,
  tickMs: 1_000,
  downBytesPerSecondMax: 0,
  upBytesPerSecondMax: 0,
  memberBlocksPerMinuteMax: 6_000
}

/** Bytes spent against a rate: spending is never refused, debt tells how long to wait before the next. */
export interface Bucket {
  readonly bytesPerSecond: number
  readonly spend: (bytes: number) => void
  /** Milliseconds until the debt is paid; 0 when there is none or no limit. */
  readonly debtMs: () => number
}

export const makeBucket = (bytesPerSecond: number, now: () => number): Bucket => {
  let paidUntil = 0
  return {
    bytesPerSecond,
    spend: (bytes) => {
      if (bytesPerSecond > 0) paidUntil = Math.max(paidUntil, now()) + bytes * 1_000 / bytesPerSecond
    },
    debtMs: () => bytesPerSecond === 0 ? 0 : Math.max(0, paidUntil - now())
  }
}
