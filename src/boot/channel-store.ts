/**
 * The logs of channels of releases, of all meshes of a home: one Corestore, opened when the first channel is followed or published.
 *
 *   HOME/updates/channels/store/         the Corestore
 *   HOME/updates/channels/marks/KEY      high-water mark of a log that is published here
 *   HOME/updates/channels/stopped/KEY    why a log is not followed any further: the fork that was found, with both signed histories
 *
 * Invariants
 * - A block of ours is synced, and the mark with it, before a peer or the caller hears of it.
 * - A log of ours is not appended to while it is shorter than its mark, or another one: that would rewrite what others hold (R1.8). The missing tail comes
 *   back from whoever follows the channel, by the same exchange as everybody's blocks; then appending goes on.
 * - R1.8: a log that was found forked is in `keys` no more, also after a restart, until `settle`. What was held of it stays readable.
 *
 * Tricky cases
 * - The store is damaged, or its directory was copied: it is put aside and an empty one begun. Logs are fetched again; what is published here waits for that.
 * - The store was closed and opened again (full disk): the log objects go on, their sessions are taken anew.
 */
import { Effect } from "effect"
import { existsSync } from "node:fs"
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { shortKey, toHex } from "../codec/bytes.ts"
import type { KeyPair } from "../codec/signature.ts"
import { HypercoreStore, isDamage, isMoved, logKey } from "../events/hypercore-store.ts"
import { type Mark, MarkFile } from "../events/mark.ts"
import { Disk } from "../events/ports.ts"
import type { HeldLog, OwnLog } from "../events/log-store.ts"
import { channelBlockBytesMax, channelBlocksMax, type ChannelLogs, channelsMax } from "../swarm/channels.ts"
import type { Proven } from "../swarm/investigate.ts"
import type { ChannelLog, OwnChannelLog } from "../updates/ports.ts"

export interface ChannelStore {
  /** The port of the swarms; the same for all meshes of the home. */
  readonly logs: ChannelLogs
  /** Logs that are followed or published and not stopped, with the blocks held of each. */
  readonly held: () => ReadonlyArray<{ readonly key: string; readonly length: number }>
  /** Rejects when `channelsMax` logs are followed already. The same log followed twice is followed once. */
  readonly follow: (key: string) => Promise<ChannelLog>
  /** The log of this key pair, to be published here. Its secret key does not enter the store. */
  readonly own: (keyPair: KeyPair) => Promise<OwnChannelLog>
  /** Its blocks stay on the disk. */
  readonly unfollow: (key: string) => Promise<void>
  /** A person decided that the log is followed on as it is held here. */
  readonly settle: (key: string) => Promise<void>
  /** A log was stopped: it forked, or is beyond the limits. Returns the unsubscribe. */
  readonly onStopped: (listener: (key: string, why: string) => void) => () => void
  readonly close: () => Promise<void>
}

export interface ChannelStoreOptions {
  /** `HOME/updates/channels`. */
  readonly directory: string
  readonly notice: (level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
}

interface Entry {
  readonly key: string
  held: HeldLog & { close(): Promise<void> }
  /** Resolves when `held` can be read. */
  ready: Promise<void>
  readonly log: ChannelLog
  readonly listeners: Set<() => void>
  own: OwnChannelLog | undefined
  stopped: string | undefined
  length: number
  timer: NodeJS.Timeout | undefined
  unwatch: () => void
  release: () => Promise<void>
}

/** Growth is told to those who read at most this often. */
const growMs = 20
/** Stores that were put aside and are kept. */
const asideMax = 2
const stoppedBytesMax = 65_536

export const makeChannelStore = (options: ChannelStoreOptions): ChannelStore => {
  const { directory, notice } = options
  const entries = new Map<string, Entry>()
  const opening = new Map<string, Promise<Entry>>()
  const changed = new Set<() => void>()
  const onStopped = new Set<(key: string, why: string) => void>()
  let store: Promise<HypercoreStore> | undefined
  let closed = false

  const theStore = (): Promise<HypercoreStore> => {
    if (closed) return Promise.reject(new Error("the channel store is closed"))
    store ??= openStore(directory, notice)
    store.catch(() => { store = undefined })
    return store
  }

  const tell = (): void => {
    for (const listener of [...changed]) listener()
  }

  const enter = async (key: string, keyPair: KeyPair | undefined): Promise<Entry> => {
    if (!/^[0-9a-f]{64}$/u.test(key)) throw new Error("the key of a channel's log is 64 hex digits")
    const known = entries.get(key) ?? await opening.get(key)
    if (known !== undefined) {
      if (keyPair !== undefined) await write(known, keyPair)
      return known
    }
    if (entries.size + opening.size >= channelsMax) throw new Error(`${channelsMax} channels are followed already`)
    const run = begin(key).then(async (entry) => {
      if (keyPair !== undefined) await write(entry, keyPair)
      return entry
    })
    opening.set(key, run)
    try {
      const entry = await run
      entries.set(key, entry)
      tell()
      return entry
    } finally {
      opening.delete(key)
    }
  }

  const begin = async (key: string): Promise<Entry> => {
    const from = await theStore()
    const held = await from.openHeld(key)
    const listeners = new Set<() => void>()
    const log: ChannelLog = {
      key,
      length: () => entry.held.length(),
      block: async (index) => {
        await entry.ready
        return entry.held.get(index)
      },
      onGrow: (listener) => {
        listeners.add(listener)
        return () => listeners.delete(listener)
      },
      fork: () => entry.stopped
    }
    const entry: Entry = {
      key, held, ready: Promise.resolve(), log, listeners, own: undefined, stopped: await readStopped(directory, key), length: held.length(), timer: undefined,
      unwatch: () => undefined, release: () => entry.held.close()
    }
    await watch(entry)
    return entry
  }

  const write = async (entry: Entry, keyPair: KeyPair): Promise<void> => {
    if (entry.own !== undefined) return
    const writable = await (await theStore()).openOwn(keyPair)
    const { append, close } = await writer(directory, entry.key, writable)
    const { release } = entry
    entry.release = async () => {
      await close()
      await writable.close()
      await release()
    }
    const own: OwnChannelLog = { ...entry.log, append: async (blocks) => {
      if (entry.stopped !== undefined) throw new Error(`the log ${shortKey(entry.key)} is not written any further: ${entry.stopped}`)
      if (entry.own !== own) throw new Error(`the log ${shortKey(entry.key)} was closed; open it anew`)
      await append(blocks)
      look(entry)
    } }
    entry.own = own
  }

  /**
   * A session of our own tells of growth, whoever brought it. When it ends and not by us, the store was closed and opened again, or Hypercore has
   * closed the log because of a conflict: then all that reads it is taken anew.
   */
  const watch = async (entry: Entry): Promise<void> => {
    const from = await theStore()
    const session = await from.session(entry.key)
    let over = false
    const onGrowth = (): void => {
      entry.timer ??= setTimeout(() => {
        entry.timer = undefined
        look(entry)
      }, growMs)
    }
    const again = (): void => {
      if (over) return
      over = true
      stop()
      // The writer outlives a store that was opened again, but not a conflict; after `settle` the log is opened for writing anew.
      if (entry.stopped !== undefined) entry.own = undefined
      entry.ready = (async () => {
        await entry.held.close().catch(() => undefined)
        entry.held = await from.openHeld(entry.key)
        await watch(entry)
        look(entry)
        tell()
      })()
      entry.ready.catch((cause: unknown) => notice("warn", `the channel log ${shortKey(entry.key)} could not be opened again: ${String(cause)}`))
    }
    const stop = from.onReopen(again)
    session.on("append", onGrowth)
    session.on("download", onGrowth)
    session.on("close", again)
    entry.unwatch = () => {
      over = true
      stop()
      clearTimeout(entry.timer)
      void session.close().catch(() => undefined)
    }
  }

  const look = (entry: Entry): void => {
    const length = entry.held.length()
    if (length <= entry.length) return
    entry.length = length
    for (const listener of [...entry.listeners]) listener()
    tell()
  }

  const remove = async (entry: Entry): Promise<void> => {
    entries.delete(entry.key)
    tell()
    entry.unwatch()
    await entry.release().catch(() => undefined)
  }

  const stop = (key: string, why: string, proven: Proven | undefined): void => {
    const entry = entries.get(key)
    if (entry === undefined || entry.stopped !== undefined) return
    entry.stopped = why
    notice("warn", `the channel log ${shortKey(key)} is not followed any further: ${why}`, { log: key })
    tell()
    void writeStopped(directory, key, why, proven)
      .catch((cause: unknown) => notice("warn", `it could not be kept that the channel log ${shortKey(key)} was stopped: ${String(cause)}`))
      .then(() => {
        for (const listener of [...onStopped]) listener(key, why)
      })
    for (const listener of [...entry.listeners]) listener()
  }

  return {
    logs: {
      keys: () => [...entries.values()].flatMap(({ key, stopped }) => stopped === undefined ? [key] : []),
      open: async (key) => (await theStore()).session(key),
      onChange: (listener) => {
        changed.add(listener)
        return () => changed.delete(listener)
      },
      forked: (key, device, proven) => stop(key, proven === undefined
        ? `two signed histories of it exist; ${shortKey(device)} holds the other one`
        : `two signed histories of it exist, different in the first ${proven.length} blocks; ${shortKey(device)} holds the other one`, proven),
      tooLarge: (key, why) => stop(key, `it has ${why}`, undefined)
    },
    held: () => [...entries.values()].flatMap(({ key, stopped, held }) => stopped === undefined ? [{ key, length: held.length() }] : []),
    follow: async (key) => (await enter(key, undefined)).log,
    own: async (keyPair) => {
      const { own } = await enter(logKey(keyPair.publicKey), keyPair)
      if (own === undefined) throw new Error("the log could not be opened for writing")
      return own
    },
    unfollow: async (key) => {
      const entry = entries.get(key)
      if (entry !== undefined) await remove(entry)
    },
    settle: async (key) => {
      await rm(join(directory, "stopped", key), { force: true })
      const entry = entries.get(key)
      if (entry === undefined) return
      entry.stopped = undefined
      tell()
    },
    onStopped: (listener) => {
      onStopped.add(listener)
      return () => onStopped.delete(listener)
    },
    close: async () => {
      closed = true
      await Promise.allSettled(opening.values())
      for (const entry of [...entries.values()]) await remove(entry)
      await (await store?.catch(() => undefined))?.close()
    }
  }
}

/** One append after the other, each block guarded by the mark. */
const writer = async (directory: string, key: string, log: OwnLog) => {
  await mkdir(join(directory, "marks"), { recursive: true, mode: 0o700 })
  const disk = <A, E>(use: (disk: Disk["Service"]) => Effect.Effect<A, E>): Promise<A> =>
    Effect.runPromise(Effect.flatMap(Disk, use).pipe(Effect.provide(Disk.layer(join(directory, "marks")))))
  const file = new MarkFile(await disk((on) => on.slots(key)))
  let mark = await file.read()
  const bootId = await disk((on) => on.bootId)
  let tail: Promise<unknown> = Promise.resolve()

  const fault = async (): Promise<string | undefined> => {
    if (log.signed() > log.length()) return `blocks from ${log.length()} on are missing, of ${log.signed()}`
    if (mark === undefined) return undefined
    if (log.length() < mark.length) return `it has ${log.length()} blocks here and had ${mark.length}`
    return await log.treeHash(mark.length) === mark.treeHash ? undefined : `its first ${mark.length} blocks are others than were written here`
  }

  const append = async (blocks: ReadonlyArray<Uint8Array>): Promise<void> => {
    await log.prepare()
    const why = await fault()
    if (why !== undefined) throw new Error(`the channel log ${shortKey(key)} is not written: ${why}; meet a node that follows it, or go over to another log`)
    const large = blocks.find((block) => block.byteLength > channelBlockBytesMax || block.byteLength === 0)
    if (large !== undefined) throw new Error(`a block of a channel log has 1 to ${channelBlockBytesMax} bytes, not ${large.byteLength}`)
    if (log.length() + blocks.length > channelBlocksMax) throw new Error(`a channel log has at most ${channelBlocksMax} blocks; go over to another log`)
    for (const block of blocks) {
      await log.append(block, async (head) => {
        const next: Omit<Mark, "turn"> = { log: key, ...head, dirty: false, bootId, place: "", pid: process.pid }
        await file.write(next)
        mark = { ...next, turn: 0 }
      })
    }
  }

  return {
    append: (blocks: ReadonlyArray<Uint8Array>): Promise<void> => {
      const run = tail.then(() => append(blocks))
      tail = run.catch(() => undefined)
      return run
    },
    close: async (): Promise<void> => {
      await tail
      await file.close()
    }
  }
}

const openStore = async (directory: string, notice: ChannelStoreOptions["notice"]): Promise<HypercoreStore> => {
  const path = join(directory, "store")
  await mkdir(directory, { recursive: true, mode: 0o700 })
  try {
    return await HypercoreStore.open(path)
  } catch (cause) {
    if (!isDamage(cause) && !isMoved(cause)) throw cause
    const names = await readdir(directory)
    const aside = names.flatMap((name) => /^store-aside-([0-9]{1,6})$/u.exec(name)?.slice(1).map(Number) ?? []).sort((a, b) => a - b)
    for (const old of aside.slice(0, Math.max(0, aside.length - asideMax + 1))) await rm(join(directory, `store-aside-${old}`), { recursive: true, force: true })
    const name = `store-aside-${(aside.at(-1) ?? 0) + 1}`
    await rename(path, join(directory, name))
    notice("warn", `the store of channel logs could not be opened and was put aside as ${name}; channels are fetched again from peers: ${cause instanceof Error ? cause.message : String(cause)}`)
    return HypercoreStore.open(path)
  }
}

/** The first line is the sentence; after it come the two signed histories, in hex. */
const writeStopped = async (directory: string, key: string, why: string, proven: Proven | undefined): Promise<void> => {
  const path = join(directory, "stopped")
  await mkdir(path, { recursive: true, mode: 0o700 })
  const file = await open(join(path, `${key}.part`), "w", 0o600)
  try {
    await file.write(`${[why, ...(proven?.histories ?? []).map(toHex)].join("\n")}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(join(path, `${key}.part`), join(path, key))
}

const readStopped = async (directory: string, key: string): Promise<string | undefined> => {
  const path = join(directory, "stopped", key)
  if (!existsSync(path)) return undefined
  const [why] = (await readFile(path, "utf8")).slice(0, stoppedBytesMax).split("\n")
  return why === undefined || why === "" ? "it was stopped" : why
}
