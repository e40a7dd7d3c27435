/** A device that follows a made-up channel, and beside it tuf-js's own updater over the same files as a second opinion. */
import { mkdirSync, writeFileSync } from "node:fs"
import { BaseFetcher, Updater } from "tuf-js"
import { DownloadHTTPError } from "tuf-js/dist/error.js"
import type { Test } from "tap"
import { channelFiles } from "../src/updates/metadata/channel-block.ts"
import { type FollowedChannel, openChannel } from "../src/updates/metadata/channel.ts"
import type { ChannelLog, ChannelState } from "../src/updates/ports.ts"
import { dayMs, type MadeRepo, type MemoryLog } from "./update-repo.ts"

export const startMs = Date.UTC(2027, 0, 1)

export interface Device {
  nowMs: number
  channel: FollowedChannel
  readonly directory: string
  /** Opens everything again from disk, as after a power cut. */
  readonly restart: (code?: string) => Promise<void>
  /** The state after a check, in short: `fresh 1.0.0,1.1.0`. */
  readonly check: () => Promise<string>
  readonly state: () => ChannelState
  /** Says tuf-js's own updater that all passes, at this device's clock? */
  readonly stock: () => Promise<boolean>
}

export const device = async (t: Test, repo: MadeRepo, options: { readonly nowMs?: number; readonly builtMs?: number; readonly logs?: ReadonlyArray<MemoryLog>; readonly code?: string; readonly log?: ChannelLog } = {}): Promise<Device> => {
  const directory = t.testdir()
  const logs = [repo.state.log, ...options.logs ?? []]
  let code = options.code ?? repo.code()
  const open = (): Promise<FollowedChannel> => openChannel({
    name: "main", code, directory: `${directory}/trust`, now: () => made.nowMs, builtMs: options.builtMs ?? startMs - 30 * dayMs,
    follow: async (key) => {
      const found = options.log ?? logs.find((log) => log.key === key)
      if (found === undefined) throw new Error(`log ${key} cannot be opened`)
      return found
    }
  })
  const stockDirectory = `${directory}/stock`
  mkdirSync(stockDirectory)
  const made: Device = {
    nowMs: options.nowMs ?? startMs, directory,
    channel: { state: () => { throw new Error("not open") }, refresh: () => Promise.reject(), index: () => Promise.reject(), stepped: () => Promise.reject(), referenceMs: () => 0, close: () => Promise.resolve() },
    restart: async (next) => {
      await made.channel.close()
      code = next ?? code
      made.channel = await open()
    },
    check: async () => short(await made.channel.refresh()),
    state: () => made.channel.state(),
    stock: async () => {
      try {
        const files = channelFiles(repo.state.log)
        const first = await files.read("1.root.json")
        if (first === undefined) return false
        writeFileSync(`${stockDirectory}/root.json`, first, { flag: "wx" })
      } catch { /* It was begun before. */ }
      try {
        const updater = new Updater({ metadataDir: stockDirectory, metadataBaseUrl: "http://log.invalid", fetcher: new LogFetcher(repo.state.log) })
        const store: unknown = Reflect.get(updater, "trustedSet")
        if (typeof store !== "object" || store === null) throw new Error("tuf-js has no trustedSet")
        Reflect.set(store, "referenceTime", new Date(made.nowMs))
        await updater.refresh()
        return true
      } catch {
        return false
      }
    }
  }
  made.channel = await open()
  t.teardown(() => made.channel.close())
  return made
}

export const short = ({ trust, releases }: ChannelState): string => `${trust} ${releases.map(({ custom }) => custom.version).join()}`.trim()

class LogFetcher extends BaseFetcher {
  readonly #files
  constructor(log: ChannelLog) {
    super()
    this.#files = channelFiles(log)
  }
  override async fetch(url: string) {
    const bytes = await this.#files.read(new URL(url).pathname.slice(1))
    if (bytes === undefined) throw new DownloadHTTPError("not there", 404)
    return new Blob([Buffer.from(bytes)]).stream()
  }
}
