import { equalBytes, shortKey } from "../codec/bytes.ts"
import type { SwarmHost } from "./host.ts"
import type { ReplicationOptions } from "./limits.ts"
import type { Link } from "./links.ts"
import type { Job, PeerState } from "./replication.ts"

export type DownloadEnd =
  | { readonly kind: "done" }
  | { readonly kind: "stopped" }
  | { readonly kind: "failed"; readonly why: string }
  | { readonly kind: "diverged"; readonly why: string }

interface Request {
  readonly log: string
  readonly state: PeerState
  /** Length recorded so far. */
  readonly held: number
  /** Length to reach; may grow while the download runs. */
  readonly target: () => number
  /** Milliseconds to wait before more may be asked for. */
  readonly budgetMs: () => number
  readonly spent: (bytes: number) => void
  readonly onLinger: () => void
}

/**
 * Downloads one log from one peer, up to a target that may move, then lingers for the next growth. Never rejects: `ended` tells how it went.
 * Growth is recorded while it runs, at most every `grewMs`, and at the end.
 */
export const download = (host: SwarmHost, options: ReplicationOptions, request: Request): { readonly job: Job; readonly ended: Promise<DownloadEnd> } => {
  const { log: name, state } = request
  let end: DownloadEnd | undefined
  let signal: () => void = ignore
  let progressAt = options.now()
  let lostAt: number | undefined

  const job: Job = {
    log: name,
    state,
    lingering: false,
    wake: () => signal(),
    stop: (why) => {
      end ??= why
      signal()
    }
  }

  /** Until something happens, or at most `ms`. */
  const pause = (ms: number): Promise<void> => new Promise((resolve) => {
    const timer = setTimeout(() => signal(), ms)
    signal = () => {
      clearTimeout(timer)
      signal = ignore
      resolve()
    }
  })

  const compare = async (link: Link, early: Promise<Uint8Array | undefined> | undefined): Promise<DownloadEnd | undefined> => {
    const length = link.log.contiguousLength
    if (length === 0 || state.agreed.has(name)) return undefined
    const probe = length === request.held && early !== undefined ? early : state.peer.probe(name, length)
    const ours = await link.log.treeHash(length)
    const theirs = await probe
    if (end !== undefined) return end
    if (theirs === undefined) return { kind: "failed", why: `it did not show its tree hash at ${length}` }
    if (!equalBytes(ours, theirs)) return { kind: "diverged", why: `another history at length ${length}` }
    state.agreed.add(name)
    return undefined
  }

  const run = async (): Promise<DownloadEnd> => {
    // Asked before the log is open here: the peer opens it meanwhile. Should we hold another length than recorded, compare asks again.
    const early = request.held > 0 && !state.agreed.has(name) ? state.peer.probe(name, request.held) : undefined
    const link = await state.peer.links.acquire(name)
    const ranges: Array<{ destroy(): void }> = []
    const log = link.log
    let recorded = request.held
    let recordedAt = options.now()
    const record = (): void => {
      if (log.contiguousLength <= recorded) return
      recorded = log.contiguousLength
      recordedAt = options.now()
      host.logs.grew(name, recorded)
    }
    const onBlock = (_index: number, bytes: number): void => {
      progressAt = options.now()
      request.spent(bytes)
      signal()
    }
    try {
      const unequal = await compare(link, early)
      if (unequal !== undefined) return unequal
      log.on("download", onBlock)
      link.attach()
      progressAt = options.now()
      let asked = log.contiguousLength
      while (end === undefined) {
        const have = log.contiguousLength
        const target = request.target()
        asked = Math.max(asked, have)
        if (options.now() - recordedAt >= options.grewMs || have >= target) record()
        if (have >= target) {
          if (await linger(have)) continue
          return { kind: "done" }
        }
        const budgetMs = request.budgetMs()
        const window = budgetMs > 0 || slow() ? 16 : options.windowBlocksMax
        if (budgetMs === 0) {
          while (asked < target && asked - have < window) {
            const stop = Math.min(target, asked + Math.max(8, window / 2))
            ranges.push(log.download({ start: asked, end: stop, linear: true }))
            asked = stop
            if (ranges.length > 8) ranges.shift()
          }
        } else {
          progressAt = options.now()
        }
        await pause(budgetMs > 0 ? Math.min(budgetMs, options.tickMs) : Math.min(options.nudgeMs, options.tickMs, options.stallMs))
        if (options.now() - progressAt >= options.nudgeMs) link.nudge()
        const fault = health(link)
        if (fault !== undefined) return { kind: "failed", why: fault }
      }
      return end
    } finally {
      record()
      log.off("download", onBlock)
      for (const range of ranges) range.destroy()
      link.release()
    }
  }

  const slow = (): boolean => options.downBytesPerSecondMax > 0 || state.pace.bytesPerSecond > 0

  const health = (link: Link): string | undefined => {
    const now = options.now()
    if (now - progressAt >= options.stallMs) return `no block for ${options.stallMs} ms`
    if (link.connected()) lostAt = undefined
    else lostAt ??= now
    if (lostAt !== undefined && now - Math.max(lostAt, progressAt) >= 2 * options.tickMs) return "the peer closed the log's channel"
    return undefined
  }

  /** True when the target moved beyond `have` within the linger. */
  const linger = async (have: number): Promise<boolean> => {
    const until = options.now() + options.lingerMs
    job.lingering = true
    request.onLinger()
    while (end === undefined && request.target() <= have && options.now() < until) await pause(until - options.now())
    job.lingering = false
    progressAt = options.now()
    return end === undefined && request.target() > have
  }

  const ended = run().catch((fault: unknown): DownloadEnd => end ?? {
    kind: "failed", why: `log ${shortKey(name)}: ${fault instanceof Error ? fault.message : String(fault)}`
  })
  return { job, ended }
}

function ignore(): void {}
