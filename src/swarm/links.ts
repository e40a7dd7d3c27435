/**
 * The logs that are open on one connection. A link is a Hypercore session attached to this stream only; it is counted, because the same log
 * may be served to the peer and downloaded from it at once, and it is detached and closed when its last use ends.
 *
 * Hypercore opens a channel per log, named by the log's discovery key, when either side attaches. A channel for a log that is not attached here
 * is answered by `serve`, which opens the log on demand if membership knows it and there is room; else Protomux rejects the channel.
 */
import sodium from "sodium-native"
import { shortKey } from "../codec/bytes.ts"
import { asBuffer } from "../codec/hash.ts"
import type { ReplicatedLog, SwarmHost } from "./host.ts"
import type { ReplicationOptions } from "./limits.ts"
import { makeBucket } from "./limits.ts"
import type { GuardedMux } from "./mux.ts"

export interface Link {
  readonly log: ReplicatedLog
  /** Ties the log to this connection's stream; idempotent. */
  readonly attach: () => void
  /** Is the peer's channel of this log open? */
  readonly connected: () => boolean
  /**
   * Tells the peer our length once more. Hypercore 11.37 forgets to when the peer's own length comes in while it looks whether it could
   * upgrade the peer; the peer then never acknowledges our length, and we ask for nothing beyond it until the channel is opened anew.
   */
  readonly nudge: () => void
  readonly release: () => void
}

export interface Links {
  /** Opens the log, or counts one more use of it. */
  readonly acquire: (log: string) => Promise<Link>
  /** May the peer take logs from us now? */
  readonly setServing: (serving: boolean) => void
  readonly open: () => number
  readonly close: () => Promise<void>
}

/** Room for served logs, shared by all connections. */
export interface ServedRoom {
  count: number
}

interface Entry {
  readonly opening: Promise<ReplicatedLog>
  log: ReplicatedLog | undefined
  uses: number
  served: boolean
}

const protocol = "hypercore/alpha"

/** Hypercore's discovery key: what a channel may show of a log without giving its key away. */
export const discoveryKeyOf = (log: string): string => {
  const out = Buffer.allocUnsafeSlow(32)
  sodium.crypto_generichash(out, Buffer.from("hypercore"), Buffer.from(log, "hex"))
  return out.toString("hex")
}

export const makeLinks = (
  host: SwarmHost, mux: GuardedMux, device: string, options: ReplicationOptions, room: ServedRoom,
  byDiscovery: (discoveryKey: string) => string | undefined
): Links => {
  const entries = new Map<string, Entry>()
  const closing = new Set<Promise<void>>()
  const up = makeBucket(options.upBytesPerSecondMax, options.now)
  const timers = new Set<NodeJS.Timeout>()
  let served = 0
  let serving = false
  let closed = false
  let warned = false

  mux.pair({ protocol }, async (id) => {
    if (id === null || id.byteLength !== 32 || closed || !serving || overdrawn()) return
    const log = byDiscovery(asBuffer(id).toString("hex"))
    if (log === undefined) {
      if (!warned) host.notice("warn", `${shortKey(device)} asked for a log that is none of this mesh`, { device })
      warned = true
      return
    }
    await serve(log)
  })

  /** A member is told its pace; one that takes 4 s more than that is cut off until the debt is paid. */
  const overdrawn = (): boolean => up.debtMs() > 4_000

  const entryOf = async (name: string): Promise<Entry> => {
    let entry = entries.get(name)
    if (entry === undefined) {
      entry = { opening: host.logs.open(name), log: undefined, uses: 0, served: false }
      entries.set(name, entry)
    }
    entry.uses += 1
    const mine = entry
    try {
      const fresh = mine.log === undefined
      mine.log = await mine.opening
      if (fresh) watch(name, mine, mine.log)
      return mine
    } catch (fault) {
      release(name, mine)
      throw fault
    }
  }

  const watched = new WeakSet<Entry>()
  const lingering = new WeakSet<Entry>()
  const watch = (name: string, entry: Entry, log: ReplicatedLog): void => {
    if (watched.has(entry)) return
    watched.add(entry)
    log.on("upload", (_index: number, bytes: number, from: { readonly protomux: unknown }) => {
      if (from.protomux !== mux) return
      up.spend(bytes)
      if (overdrawn() && entry.served) endServing(name, entry)
    })
    log.on("peer-remove", (peer: { readonly protomux: unknown }) => {
      if (peer.protomux !== mux || !entry.served) return
      lingering.add(entry)
      later(options.lingerMs, () => {
        lingering.delete(entry)
        if (entry.served && !connected(entry)) endServing(name, entry)
      })
    })
    log.on("conflict", (length: number, fork: number) => {
      host.logs.diverged(name, device, `two signed histories of length ${length}, fork ${fork}`)
    })
    log.on("verification-error", (fault: Error, _request: unknown, _data: unknown, from: { readonly protomux: unknown }) => {
      if (from.protomux === mux) host.notice("warn", `${shortKey(device)} sent data of log ${shortKey(name)} that do not verify: ${fault.message}`, { device, log: name })
    })
  }

  const connected = (entry: Entry): boolean => entry.log?.peers.some((peer) => peer.protomux === mux) ?? false

  const attach = (entry: Entry): void => {
    if (entry.log !== undefined && !closed && !entry.log.core.replicator.attached(mux)) entry.log.replicate(mux)
  }

  const serve = async (name: string): Promise<void> => {
    const before = entries.get(name)
    if (before?.served === true) return attach(before)
    if (served >= options.servedMax || room.count >= options.servedTotalMax) makeRoom()
    if (served >= options.servedMax || room.count >= options.servedTotalMax) return
    served += 1
    room.count += 1
    let entry: Entry | undefined
    try {
      entry = await entryOf(name)
    } catch (fault) {
      host.notice("warn", `log ${shortKey(name)} could not be opened for ${shortKey(device)}`, { log: name, why: String(fault) })
    }
    if (entry === undefined || entry.served || closed || !serving) {
      served -= 1
      room.count -= 1
      if (entry !== undefined) release(name, entry)
      return
    }
    entry.served = true
    const mine = entry
    attach(mine)
    later(options.stallMs, () => {
      if (mine.served && !connected(mine)) endServing(name, mine)
    })
  }

  /** A peer that takes many logs in turn leaves each one lingering: the oldest of these gives way. */
  const makeRoom = (): void => {
    for (const [name, entry] of entries) {
      if (!entry.served || entry.log === undefined || connected(entry) || !lingering.has(entry)) continue
      endServing(name, entry)
      return
    }
  }

  const endServing = (name: string, entry: Entry): void => {
    if (!entry.served) return
    entry.served = false
    served -= 1
    room.count -= 1
    release(name, entry)
  }

  const release = (name: string, entry: Entry): void => {
    entry.uses -= 1
    if (entry.uses > 0) return
    if (entries.get(name) === entry) entries.delete(name)
    const done = shut(entry).catch(() => undefined).then(() => {
      closing.delete(done)
    })
    closing.add(done)
  }

  /** The channel goes first: while the peer believes that we still download, it does not open it again. */
  const shut = async (entry: Entry): Promise<void> => {
    const log = await entry.opening
    log.core.replicator.detachFrom(mux)
    for (const peer of [...log.peers]) if (peer.protomux === mux) peer.channel.close()
    await log.close()
  }

  const later = (delayMs: number, run: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer)
      run()
    }, delayMs)
    timers.add(timer)
  }

  return {
    acquire: async (name) => {
      const entry = await entryOf(name)
      const log = entry.log
      if (log === undefined || closed) {
        release(name, entry)
        throw new Error("the connection has ended")
      }
      let released = false
      return {
        log,
        attach: () => attach(entry),
        connected: () => connected(entry),
        nudge: () => {
          for (const peer of log.peers) if (peer.protomux === mux) peer.sendSync()
        },
        release: () => {
          if (!released) release(name, entry)
          released = true
        }
      }
    },
    setServing: (value) => {
      serving = value
      if (!serving) for (const [name, entry] of [...entries]) endServing(name, entry)
    },
    open: () => entries.size,
    close: async () => {
      closed = true
      serving = false
      mux.unpair({ protocol })
      for (const timer of timers) clearTimeout(timer)
      timers.clear()
      for (const [name, entry] of [...entries]) endServing(name, entry)
      await Promise.all(closing)
    }
  }
}
