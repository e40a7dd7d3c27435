/**
 * The channels that this home follows: one log and one verified state for each code in the settings. It opens and closes them as settings change,
 * reads anew when a log grew, and tells what changed.
 */
import type { Level } from "./node-log.ts"
import type { ChannelState } from "../updates/ports.ts"
import { type FollowedChannel, openChannel } from "../updates/metadata/channel.ts"
import { parseChannelCode } from "../updates/metadata/channel-code.ts"
import type { Release } from "../updates/release.ts"
import type { ChannelStore } from "./channel-store.ts"

/** Channels followed at a time; of more, the first by name. */
export const channelsMax = 16

export interface FollowedChannels {
  /** Names and codes as the settings have them now. */
  readonly follow: (wanted: ReadonlyMap<string, string>) => Promise<void>
  readonly states: () => ReadonlyArray<ChannelState>
  readonly refresh: (name?: string) => Promise<void>
  /** All releases of all channels; of two with one id the first channel by name. */
  readonly releases: () => ReadonlyArray<Release>
  readonly index: (release: Release) => Promise<Uint8Array>
  /** R2.1: this device did a step with a release of this channel, now by its clock. */
  readonly stepped: (channel: string) => Promise<void>
  readonly close: () => Promise<void>
}

interface Options {
  readonly store: ChannelStore
  /** `HOME/updates/trust`. */
  readonly directory: string
  readonly now: () => number
  readonly builtMs: number
  readonly notice: (level: Level, text: string) => void
  /** A channel's state changed. */
  readonly onState: (state: ChannelState) => void
}

interface Followed {
  readonly code: string
  readonly channel: FollowedChannel
  readonly close: () => Promise<void>
}

export const makeFollowedChannels = (options: Options): FollowedChannels => {
  const { store, notice } = options
  const followed = new Map<string, Followed>()
  const told = new Map<string, string>()
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <A>(work: () => Promise<A>): Promise<A> => {
    const next = turn.then(work)
    turn = next.catch(() => undefined)
    return next
  }

  const refreshOne = async (name: string): Promise<void> => {
    const entry = followed.get(name)
    if (entry === undefined) return
    const state = await entry.channel.refresh()
    const says = JSON.stringify([state.trust, state.fault, state.versions, state.releases.map(({ id }) => id), state.yanked])
    if (told.get(name) === says) return
    told.set(name, says)
    options.onState(state)
  }

  const open = async (name: string, code: string): Promise<void> => {
    const parsed = parseChannelCode(code)
    if (parsed === undefined) {
      notice("warn", `the code of channel ${name} is not a code`)
      return
    }
    const opened = await openChannel({
      name, code, directory: `${options.directory}/${parsed.root}`, follow: (key: string) => store.follow(key), now: options.now, builtMs: options.builtMs,
      onGrow: () => void inTurn(() => refreshOne(name)).catch((cause: unknown) => notice("warn", `channel ${name} could not be read: ${String(cause)}`))
    })
    followed.set(name, { code, channel: opened, close: () => opened.close() })
    await refreshOne(name)
  }

  return {
    follow: (wanted) => inTurn(async () => {
      const names = [...wanted.keys()].sort().slice(0, channelsMax)
      for (const [name, { code, close }] of [...followed]) {
        if (names.includes(name) && wanted.get(name) === code) continue
        followed.delete(name)
        told.delete(name)
        await close()
      }
      for (const name of names) {
        const code = wanted.get(name)
        if (code === undefined || code === "" || followed.has(name)) continue
        await open(name, code).catch((cause: unknown) => notice("warn", `channel ${name} could not be opened: ${cause instanceof Error ? cause.message : String(cause)}`))
      }
    }),
    states: () => [...followed.values()].map(({ channel }) => channel.state()),
    refresh: (name) => inTurn(async () => {
      for (const each of [...followed.keys()]) if (name === undefined || each === name) await refreshOne(each)
    }),
    releases: () => {
      const all = new Map<string, Release>()
      for (const [, { channel }] of [...followed].toSorted(([a], [b]) => a < b ? -1 : 1)) for (const release of channel.state().releases) if (!all.has(release.id)) all.set(release.id, release)
      return [...all.values()]
    },
    index: async (release) => {
      const entry = [...followed.values()].find(({ channel }) => channel.state().channel === release.channel)
      if (entry === undefined) throw new Error(`channel ${release.channelName} is not followed any more`)
      return entry.channel.index(release)
    },
    stepped: async (id) => {
      for (const { channel } of followed.values()) if (channel.state().channel === id) await channel.stepped(options.now())
    },
    close: () => inTurn(async () => {
      for (const { close } of followed.values()) await close()
      followed.clear()
    })
  }
}
