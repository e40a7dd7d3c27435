/**
 * A channel is followed as the daemon follows it: blocks of a real store of channel logs, and `openChannel` over them. The publisher is the one of the
 * tests, which signs as the standard wants: root and targets by two of three keys, snapshot and timestamp by one; each release is published by itself.
 */
import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { makeChannelStore } from "../../src/boot/channel-store.ts"
import { channelCode } from "../../src/updates/metadata/channel-code.ts"
import { type FollowedChannel, openChannel } from "../../src/updates/metadata/channel.ts"
import type { ChannelState, OwnChannelLog } from "../../src/updates/ports.ts"
import { customOf, dayMs, madeRepo, type MadeRepo } from "../../test/update-repo.ts"
import type { BenchCase, Measure, OtherMain, Side } from "../case.ts"
import { logKey } from "../../src/events/hypercore-store.ts"
import { benchKeyPair } from "../kos.ts"

const here = fileURLToPath(import.meta.url)
const publisher = benchKeyPair("channel")
const nowMs = Date.UTC(2027, 0, 1)
/** As one of a bundle of 120 MB is. */
const indexBytes = 262_144
const notes = "What is new for people who use it, in a few sentences. ".repeat(8)
const releasesOf = (short: boolean) => (short ? 5 : 50)
const timesOf = (short: boolean) => (short ? 3 : 15)

export interface Home {
  readonly repo: MadeRepo
  readonly log: OwnChannelLog
  readonly code: () => string
  readonly open: () => Promise<FollowedChannel>
  /** Moves what the publisher wrote since into the store's log. */
  readonly give: () => Promise<void>
  readonly close: () => Promise<void>
}

/** One more, published. */
export const release = async (repo: MadeRepo, n: number): Promise<void> => {
  repo.state.nowMs += 1_000
  await repo.add(`kos/kos@1.${n}.0@any`, customOf("kos", `1.${n}.0`, { notes }), "targets", randomBytes(indexBytes))
  await repo.publish()
}

/** `directory` as `HOME/updates`. */
export const openHome = async (directory: string, beganMs = nowMs): Promise<Home> => {
  const store = makeChannelStore({ directory: join(directory, "channels"), notice: (level, text) => { if (level === "warn") process.stderr.write(`${text}\n`) } })
  const log = await store.own(publisher)
  const repo = madeRepo("bench", beganMs)
  const code = () => channelCode({ log: log.key, root: repo.state.firstRoot })
  let given = 0
  return {
    repo, log, code,
    open: () => openChannel({ name: "main", code: code(), directory: join(directory, "trust"), follow: store.follow, now: () => repo.state.nowMs + 60_000, builtMs: beganMs - 30 * dayMs }),
    give: async () => {
      const { blocks } = repo.state.log
      await log.append(blocks.slice(given))
      given = blocks.length
    },
    close: store.close
  }
}

/** One process publishes and follows, and ends; only its files are left. */
export const startBefore: OtherMain = async (argument) => {
  const { directory, releases } = argument as { readonly directory: string; readonly releases: number }
  const home = await openHome(directory)
  for (let n = 0; n < releases; n += 1) await release(home.repo, n)
  await home.give()
  const channel = await home.open()
  holds(await channel.refresh(), releases)
  await channel.close()
  await home.close()
  return { code: async () => home.code(), now: async () => home.repo.state.nowMs }
}

const holds = ({ trust, fault, releases }: ChannelState, count: number): void => {
  if (trust !== "fresh" || releases.length !== count) throw new Error(`the channel is ${trust} with ${releases.length} releases, ${fault ?? "without fault"}`)
}

const times = (list: ReadonlyArray<number>, cpuMs: number, detail: Readonly<Record<string, number>>): Measure => ({
  value: [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0, wallMs: list.reduce((sum, ms) => sum + ms, 0), cpuMs,
  detail: { "first ms": list[0] ?? 0, "slowest ms": Math.max(...list), times: list.length, ...detail }
})

/** A node that runs; something may come between two checks, and the checks alone count. `between` says how many releases there are then. */
const running = (between: (home: Home, releases: number) => Promise<number>): Side => async ({ dir, short }) => {
  const home = await openHome(dir)
  let releases = releasesOf(short)
  for (let n = 0; n < releases; n += 1) await release(home.repo, n)
  await home.give()
  const channel = await home.open()
  const from = performance.now()
  holds(await channel.refresh(), releases)
  const firstMs = performance.now() - from
  const list: Array<number> = []
  let cpuMs = 0
  for (let n = 0; n < timesOf(short); n += 1) {
    releases = await between(home, releases)
    await home.give()
    const cpu = process.cpuUsage()
    const begun = performance.now()
    holds(await channel.refresh(), releases)
    list.push(performance.now() - begun)
    const { user, system } = process.cpuUsage(cpu)
    cpuMs += (user + system) / 1_000
  }
  const blocks = home.log.length()
  await channel.close()
  await home.close()
  return times(list, cpuMs, { "all of it for the first time ms": firstMs, "blocks then": blocks })
}

/** In a process that has just begun, with what an earlier one left: the store is opened, the channel is opened, and checked. */
const restart: Side = async ({ dir, short, other }) => {
  const releases = releasesOf(short)
  const before = await other(here, "startBefore", { directory: dir, releases })
  const [code, now] = [String(await before.ask("code")), Number(await before.ask("now"))]
  await before.stop()
  const cpu = process.cpuUsage()
  const from = performance.now()
  const store = makeChannelStore({ directory: join(dir, "channels"), notice: () => undefined })
  await store.follow(logKey(publisher.publicKey))
  const stored = performance.now()
  const channel = await openChannel({ name: "main", code, directory: join(dir, "trust"), follow: store.follow, now: () => now + 60_000, builtMs: nowMs - 30 * dayMs })
  holds(channel.state(), releases)
  const opened = performance.now()
  holds(await channel.refresh(), releases)
  const checked = performance.now()
  const { user, system } = process.cpuUsage(cpu)
  await channel.close()
  await store.close()
  return { value: checked - stored, wallMs: checked - from, cpuMs: (user + system) / 1_000, detail: { "store opened ms": stored - from, "releases shown after ms": opened - stored, "check ms": checked - opened } }
}

export const benchCase: BenchCase = {
  name: "metadata",
  about: "The check of a channel with 50 releases, from its log on the disk to verified releases: nothing new, a new timestamp, a whole new publication with its index, and in a process that has just begun.",
  secondsMax: 120,
  sides: {
    nothing: running(async (_home, releases) => releases),
    timestamp: running(async ({ repo }, releases) => {
      repo.state.nowMs += 1_000
      await repo.writeTimestamp()
      return releases
    }),
    publication: running(async ({ repo }, releases) => {
      await release(repo, releases)
      return releases + 1
    }),
    restart
  },
  rows: [
    { title: "metadata check, nothing new", unit: "ms", ours: { side: "nothing" }, target: { kind: "report" } },
    { title: "metadata check, a new timestamp", unit: "ms", ours: { side: "timestamp" }, target: { kind: "value-max", value: 20 } },
    { title: "metadata check, a whole new publication", unit: "ms", ours: { side: "publication" }, target: { kind: "value-max", value: 20 } },
    { title: "metadata check after a restart, the first of the process", unit: "ms", ours: { side: "restart" }, target: { kind: "report" } },
    { title: "until the releases are shown again after a restart", unit: "ms", ours: { side: "restart", detail: "releases shown after ms" }, target: { kind: "report" } }
  ]
}
