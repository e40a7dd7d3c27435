/**
 * How fast a member may write, as the nodes that it is in touch with see it.
 *
 * Judged is what a log's own device tells of it: by how much it grew since it told last, against `rate` blocks a minute and a burst. Credit gathers
 * with time, also while the device is away, and then without a bound: who comes back after weeks brings weeks of blocks and has weeks of
 * credit for them. What a third node tells of the log is not judged; the nodes in touch with its author slow it down for all.
 *
 * Beyond the credit a log is *slowed*: it is taken up to where the credit reaches, and further as credit gathers. With more than ten bursts beyond it
 * is *paused*: not taken at all for a minute, then slowed again; each time it goes on growing beyond ten bursts the next pause is twice as
 * long, an hour at most. Nothing is lost by that, and nothing is forgotten: what was written is there, and comes later.
 *
 * Not covered: a member that only ever meets nodes which do not judge, and one that tells its growth through a third node only.
 */

export interface QuotaOptions {
  readonly now: () => number
  /** 0 for no limit. */
  readonly blocksPerMinuteMax: number
  /** Growth at once beyond the rate, as minutes of it. */
  readonly burstMinutes: number
  readonly pauseMs: number
  readonly pauseMsMax: number
  /** Logs judged; of more the one told of longest ago is forgotten, and begins anew. */
  readonly logsMax: number
}

export const quotaDefaults: Omit<QuotaOptions, "now" | "blocksPerMinuteMax"> = {
  burstMinutes: 1, pauseMs: 60_000, pauseMsMax: 3_600_000, logsMax: 4_096
}

/** So many bursts beyond the credit pause a log. */
export const pausedAtBursts = 10

export interface Slowed {
  readonly log: string
  readonly state: "slowed" | "paused"
  /** When the pause ends, or when what was told so far will have been taken; by the same clock. */
  readonly until: number
  /** Blocks beyond the credit. */
  readonly beyond: number
}

export interface Quota {
  /** The log's own device tells that it has this length. True when the log became slowed or paused by that. */
  readonly told: (log: string, length: number) => boolean
  /** The device is in touch no more: credit gathers without a bound until it has told what it brings. */
  readonly away: (log: string) => void
  /** The device is in touch and has told all: from now on credit is a burst at most. */
  readonly present: (log: string) => void
  /** Up to which length the log may be taken now. */
  readonly upTo: (log: string) => number
  readonly slowed: () => ReadonlyArray<Slowed>
}

interface Account {
  length: number
  /** Blocks; negative beyond the allowance. */
  credit: number
  at: number
  away: boolean
  pausedUntil: number
  /** Of the next pause. */
  pauseMs: number
}

export const makeQuota = (options: QuotaOptions): Quota => {
  const { now, blocksPerMinuteMax: rate } = options
  const burst = rate * options.burstMinutes
  const accounts = new Map<string, Account>()

  const gather = (account: Account): void => {
    const gained = Math.max(0, now() - account.at) / 60_000 * rate
    account.at = now()
    account.credit = account.away ? account.credit + gained : Math.min(burst, account.credit + gained)
    if (account.credit >= 0) account.pauseMs = options.pauseMs
  }

  const isPaused = (account: Account): boolean => now() < account.pausedUntil

  const open = (log: string, length: number): void => {
    const oldest = accounts.keys().next().value
    if (accounts.size >= options.logsMax && oldest !== undefined) accounts.delete(oldest)
    accounts.set(log, { length, credit: burst, at: now(), away: true, pausedUntil: 0, pauseMs: options.pauseMs })
  }

  return {
    told: (log, length) => {
      if (rate === 0) return false
      const account = accounts.get(log)
      if (account === undefined) {
        open(log, length)
        return false
      }
      gather(account)
      if (length <= account.length) return false
      const before = account.credit < 0
      accounts.delete(log)
      accounts.set(log, account)
      account.credit -= length - account.length
      account.length = length
      if (account.credit < -pausedAtBursts * burst && !isPaused(account)) {
        account.pausedUntil = now() + account.pauseMs
        account.pauseMs = Math.min(2 * account.pauseMs, options.pauseMsMax)
        return true
      }
      return !before && account.credit < 0
    },
    away: (log) => {
      const account = accounts.get(log)
      if (account === undefined) return
      gather(account)
      account.away = true
    },
    present: (log) => {
      const account = accounts.get(log)
      if (account === undefined) return
      account.away = false
      gather(account)
    },
    upTo: (log) => {
      const account = accounts.get(log)
      if (account === undefined) return Number.MAX_SAFE_INTEGER
      gather(account)
      if (account.credit >= 0) return Number.MAX_SAFE_INTEGER
      return isPaused(account) ? 0 : Math.floor(account.length + account.credit)
    },
    slowed: () => [...accounts].flatMap(([log, account]): ReadonlyArray<Slowed> => {
      gather(account)
      if (account.credit >= 0) return []
      const beyond = Math.ceil(-account.credit)
      return [isPaused(account)
        ? { log, state: "paused", until: account.pausedUntil, beyond }
        : { log, state: "slowed", until: now() + Math.ceil(beyond / rate * 60_000), beyond }]
    })
  }
}
