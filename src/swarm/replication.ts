/**
 * Which logs are open, from whom they are downloaded, and how much.
 *
 * How one growth travels: a peer's head says that it holds more of a log than we do → the log waits in a queue → when one of the few places is
 * free, one peer that has it is chosen → the log is opened, compared with the peer's at our length (tree hash), attached to that peer's
 * stream only, and downloaded in windows → each contiguous growth is recorded with `logs.grew` → after a linger it is detached and closed.
 *
 * Invariants
 * - A log is downloaded from one peer at a time; at most `openMax` downloads and `lingerMax` idle ones exist.
 * - Nothing but logs of `membership.logs()` is opened, neither for us nor for a peer.
 * - Our own log is never downloaded unasked (`heal` asks).
 * - Of a log that was closed or whose device was put out nothing is asked for beyond `limitOf` (`cutAt` and some blocks, in case honest work
 *   builds on them), whoever offers it; and a log whose author writes too fast is taken as far as `quota.ts` says, whoever offers it.
 *
 * Tricky cases
 * - Attach, then find another history: Hypercore would call it a conflict and close the log for good, our own included. So the tree hash is
 *   compared first, once per peer and log; a mismatch is reported and that peer is not asked for that log again.
 * - The peer raises its head while we download: the target moves, the log is not opened again.
 * - The peer refuses to serve or goes silent: the download is dropped, the peer waits with growing back-off, the next one that has the log is asked.
 * - The same link may serve the peer and download from it: it is counted and detached when the last use ends.
 */
import { shortKey } from "../codec/bytes.ts"
import type { SwarmHost } from "./host.ts"
import type { Links } from "./links.ts"
import type { Bucket, ReplicationOptions } from "./limits.ts"
import { makeBucket } from "./limits.ts"
import { download, type DownloadEnd } from "./download.ts"
import { makeQuota, quotaDefaults, type Slowed } from "./quota.ts"

/** What replication needs of a session. */
export interface ReplicationPeer {
  readonly device: string
  readonly links: Links
  /** The peer's tree hash of a log at a length; undefined when it does not hold that much. */
  readonly probe: (log: string, length: number) => Promise<Uint8Array | undefined>
}

export interface PeerState {
  readonly peer: ReplicationPeer
  /** What the peer holds beyond what we hold, by log. */
  readonly ahead: Map<string, number>
  /** Logs whose history was found equal, and those found different. */
  readonly agreed: Set<string>
  readonly diverged: Set<string>
  readonly failures: Map<string, { readonly count: number; readonly until: number }>
  /** Bytes a second the peer lets us take; 0 for no limit. */
  pace: Bucket
  serving: boolean
  gone: boolean
}

export interface Job {
  readonly log: string
  readonly state: PeerState
  readonly wake: () => void
  readonly stop: (end: DownloadEnd) => void
  lingering: boolean
}

export interface Replication {
  readonly add: (peer: ReplicationPeer) => PeerState
  readonly remove: (state: PeerState) => void
  /** A head was heard: the peer holds this log up to this length. */
  readonly offer: (state: PeerState, log: string, length: number) => void
  readonly setPace: (state: PeerState, serving: boolean, bytesPerSecond: number) => void
  /** The peer has told all its heads. */
  readonly caughtUp: (state: PeerState) => void
  /** Logs whose authors write faster than their quota. */
  readonly slowed: () => ReadonlyArray<Slowed>
  readonly pause: () => void
  readonly resume: () => void
  /** Forgets all back-off and tries what waits. */
  readonly now: () => void
  /** True when no peer holds more than we do, as far as the heads heard so far tell. */
  readonly idle: () => boolean
  readonly waiting: () => number
  readonly downloading: () => number
  /** Downloads the missing tail of our own log up to `length`; resolves with the length then held. */
  readonly heal: (length: number, timeoutMs: number) => Promise<number>
  /** Membership changed: logs that were unknown may be wanted now, others no longer. */
  readonly review: () => void
  readonly ourLength: (log: string) => number
  readonly stop: () => Promise<void>
}

/** What membership says of logs. */
export interface KnownLogs {
  readonly deviceOf: (log: string) => string | undefined
  readonly logsOf: (device: string) => ReadonlyArray<string>
  /** Blocks from here on are neither asked for nor served. */
  readonly limitOf: (log: string) => number
}

export const makeReplication = (
  host: SwarmHost, options: ReplicationOptions, known: KnownLogs, diverged: (log: string, device: string, detail: string) => void = host.logs.diverged
): Replication => {
  const quota = makeQuota({ ...quotaDefaults, now: options.now, blocksPerMinuteMax: options.memberBlocksPerMinuteMax })
  const lengths = new Map<string, number>()
  for (const head of host.logs.heads()) lengths.set(head.log, head.length)
  const states = new Set<PeerState>()
  const jobs = new Map<string, Job>()
  const running = new Set<Promise<void>>()
  const queue = new Set<string>()
  const idleWaiters = new Set<() => void>()
  const down = makeBucket(options.downBytesPerSecondMax, options.now)
  let healing = 0
  let paused = false
  let stopped = false

  const unsubscribe = host.logs.onGrow((log, length) => {
    if (length <= (lengths.get(log) ?? 0)) return
    lengths.set(log, length)
    for (const state of states) {
      if ((state.ahead.get(log) ?? 0) <= length) state.ahead.delete(log)
    }
    settled()
  })
  const tick = setInterval(() => {
    for (const { log } of quota.slowed()) jobs.get(log)?.wake()
    pump()
  }, options.tickMs)

  const ourLength = (log: string): number => lengths.get(log) ?? 0

  const settled = (): void => {
    for (const waiter of [...idleWaiters]) waiter()
  }

  const wanted = (log: string): boolean => known.deviceOf(log) !== undefined && (log !== host.logs.own() || healing > ourLength(log))

  /** How far a peer's copy may be taken now. */
  const reachable = (state: PeerState, log: string): number => Math.min(state.ahead.get(log) ?? 0, quota.upTo(log))

  const judge = (device: string, log: string, length: number): void => {
    if (known.deviceOf(log) !== device || !quota.told(log, length)) return
    const found = quota.slowed().find((slowed) => slowed.log === log)
    if (found === undefined) return
    const detail = found.state === "paused" ? `nothing of it is taken for ${Math.round((found.until - options.now()) / 1_000)} s` : "it is taken more slowly"
    host.notice("warn", `${shortKey(device)} writes faster than ${options.memberBlocksPerMinuteMax} blocks a minute, ${found.beyond} beyond its allowance: ${detail}`, { log, device })
  }

  const offer = (state: PeerState, log: string, told: number): void => {
    judge(state.peer.device, log, told)
    const length = log === host.logs.own() ? told : Math.min(told, known.limitOf(log))
    if (state.gone || length <= ourLength(log) || state.diverged.has(log)) return
    if (length <= (state.ahead.get(log) ?? 0)) return
    if (state.ahead.size >= options.aheadMax && !state.ahead.has(log)) return
    state.ahead.set(log, length)
    if (log === host.logs.own() && healing <= ourLength(log)) {
      host.logs.ownLogAhead(length, state.peer.device)
      return
    }
    const job = jobs.get(log)
    if (job !== undefined && job.state === state) job.wake()
    else if (wanted(log)) queue.add(log)
    pump()
  }

  /** The peer to ask: one that may be asked now, with the longest log; the least busy among equals. */
  const choose = (log: string): PeerState | undefined => {
    let best: PeerState | undefined
    const now = options.now()
    for (const state of states) {
      const length = reachable(state, log)
      if (length <= ourLength(log) || !state.serving || state.gone || state.diverged.has(log)) continue
      if ((state.failures.get(log)?.until ?? 0) > now) continue
      if (best === undefined || length > (best.ahead.get(log) ?? 0)) best = state
    }
    return best
  }

  let pumping = false
  /** Many heads come at once: one look at the queue serves them all. */
  const pump = (): void => {
    if (pumping) return
    pumping = true
    queueMicrotask(() => {
      pumping = false
      pumpNow()
    })
  }

  const pumpNow = (): void => {
    if (paused || stopped) return
    for (const log of queue) {
      if (active() >= options.openMax) return
      const job = jobs.get(log)
      if (job !== undefined && !job.lingering) continue
      const state = wanted(log) ? choose(log) : undefined
      if (state === undefined) {
        if (!wanted(log) || ![...states].some((other) => other.ahead.has(log))) queue.delete(log)
        continue
      }
      if (job !== undefined) {
        job.stop({ kind: "done" })
        continue
      }
      queue.delete(log)
      start(log, state)
    }
  }

  const active = (): number => {
    let count = 0
    for (const job of jobs.values()) if (!job.lingering) count += 1
    return count
  }

  const start = (log: string, state: PeerState): void => {
    const run = download(host, options, {
      log,
      state,
      held: ourLength(log),
      target: () => reachable(state, log),
      budgetMs: () => Math.max(down.debtMs(), state.pace.debtMs()),
      spent: (bytes) => {
        down.spend(bytes)
        state.pace.spend(bytes)
      },
      onLinger: () => {
        const idle = [...jobs.values()].filter((job) => job.lingering)
        for (const job of idle.slice(0, Math.max(0, idle.length - options.lingerMax))) job.stop({ kind: "done" })
        pump()
      }
    })
    jobs.set(log, run.job)
    const done = run.ended.then((end) => {
      jobs.delete(log)
      running.delete(done)
      finish(log, state, end)
    })
    running.add(done)
  }

  const finish = (log: string, state: PeerState, end: DownloadEnd): void => {
    if (end.kind === "done") {
      state.failures.delete(log)
    } else if (end.kind === "diverged") {
      state.diverged.add(log)
      state.ahead.delete(log)
      diverged(log, state.peer.device, end.why)
    } else if (end.kind === "failed") {
      const count = Math.min((state.failures.get(log)?.count ?? 0) + 1, 16)
      const delay = Math.min(options.retryMs * 2 ** (count - 1), options.retryMsMax)
      state.failures.set(log, { count, until: options.now() + delay })
      host.notice("debug", `log ${shortKey(log)} was not taken from ${shortKey(state.peer.device)}: ${end.why}`, { log, device: state.peer.device, delay })
    }
    if ([...states].some((other) => (other.ahead.get(log) ?? 0) > ourLength(log))) queue.add(log)
    settled()
    pump()
  }

  const review = (): void => {
    for (const state of states) {
      for (const [log, length] of state.ahead) {
        const limit = log === host.logs.own() ? length : known.limitOf(log)
        if (length > limit) state.ahead.set(log, limit)
        if (Math.min(length, limit) <= ourLength(log)) state.ahead.delete(log)
        else if (wanted(log)) queue.add(log)
      }
    }
    for (const job of [...jobs.values()]) {
      if (!wanted(job.log)) job.stop({ kind: "stopped" })
      else job.wake()
    }
    pump()
  }

  return {
    add: (peer) => {
      const state: PeerState = {
        peer, ahead: new Map(), agreed: new Set(), diverged: new Set(), failures: new Map(),
        pace: makeBucket(0, options.now), serving: true, gone: false
      }
      states.add(state)
      return state
    },
    remove: (state) => {
      state.gone = true
      states.delete(state)
      for (const job of [...jobs.values()]) if (job.state === state) job.stop({ kind: "stopped" })
      if (![...states].some(({ peer }) => peer.device === state.peer.device)) for (const log of known.logsOf(state.peer.device)) quota.away(log)
      settled()
    },
    offer,
    caughtUp: (state) => {
      for (const log of known.logsOf(state.peer.device)) quota.present(log)
    },
    slowed: quota.slowed,
    setPace: (state, serving, bytesPerSecond) => {
      state.pace = makeBucket(bytesPerSecond, options.now)
      const resumed = serving && !state.serving
      state.serving = serving
      if (!serving) for (const job of [...jobs.values()]) if (job.state === state) job.stop({ kind: "stopped" })
      if (resumed) state.failures.clear()
      pump()
    },
    pause: () => {
      paused = true
      for (const job of [...jobs.values()]) job.stop({ kind: "stopped" })
    },
    resume: () => {
      paused = false
      review()
    },
    now: () => {
      for (const state of states) state.failures.clear()
      review()
    },
    idle: () => ![...states].some((state) => [...state.ahead].some(([log, length]) => length > ourLength(log) && wanted(log))),
    waiting: () => queue.size,
    downloading: active,
    heal: (length, timeoutMs) => new Promise((resolve) => {
      const own = host.logs.own()
      healing = Math.max(healing, length)
      const check = (): void => {
        if (ourLength(own) >= length) end()
      }
      const end = (): void => {
        clearTimeout(timer)
        idleWaiters.delete(check)
        healing = 0
        resolve(ourLength(own))
      }
      const timer = setTimeout(end, timeoutMs)
      idleWaiters.add(check)
      review()
      check()
    }),
    review,
    ourLength,
    stop: async () => {
      stopped = true
      clearInterval(tick)
      unsubscribe()
      for (const job of [...jobs.values()]) job.stop({ kind: "stopped" })
      await Promise.all(running)
    }
  }
}
