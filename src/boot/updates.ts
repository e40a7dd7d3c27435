/**
 * Updates of a home: channels, transfer, wires, slots, rehearsal and the engine put together. What each of them is about stands in its own file; here is only
 * which hands what to whom, and when.
 *
 * Order: before the meshes are opened, what their swarms exchange (the channel logs) and whom they may serve (packs); after that, with settings and membership at hand,
 * the transfer process's side, the channels and the engine. The engine ends before the meshes close, the rest after.
 */
import { Effect, type Scope } from "effect"
import { existsSync, realpathSync } from "node:fs"
import { mkdir } from "node:fs/promises"
import { dirname, resolve } from "node:path"
import type { ReleaseDesk } from "../api/release-desk.ts"
import type { UpdateDesk } from "../api/update-desk.ts"
import { decideBan, decideChannel } from "../commands/decide-updates.ts"
import type { Wanted } from "../commands/dispatch.ts"
import { Refusal } from "../commands/refusal.ts"
import { parseAddress } from "../projections/families/values.ts"
import { settingFlag, settingTexts } from "../projections/families/config-view.ts"
import type { ChannelLogs } from "../swarm/channels.ts"
import { builtMs } from "../updates/built.ts"
import { makePayload } from "../updates/payload/pack.ts"
import type { Slot } from "../updates/ports.ts"
import type { Release } from "../updates/release.ts"
import { compareVersions } from "../updates/version.ts"
import { parseChannelCode } from "../updates/metadata/channel-code.ts"
import { removeHostile } from "../updates/rehearsal/confined-process.ts"
import { openTransfer } from "../updates/transfer/transfer.ts"
import { sayCapabilities } from "./capabilities.ts"
import { makeChannelStore } from "./channel-store.ts"
import { meshSources, releaseSources, watchHealth } from "./health.ts"
import type { MeshNode } from "./mesh-node.ts"
import type { Runtime } from "./mesh-runtime.ts"
import type { Level } from "./node-log.ts"
import { type BuiltinServices, makePackWires, type PackWires } from "./pack-wires.ts"
import { makePublisher, startPublisher } from "./publisher.ts"
import { rehearsalText, rehearse } from "./rehearsal.ts"
import { makeReleaseDesk } from "./release-desk.ts"
import { makeSeeding } from "./seeding.ts"
import { makeFollowedChannels } from "./update-channels.ts"
import { makeUpdateDesk } from "./update-desk.ts"
import { makeEngine } from "./update-engine.ts"
import { openKnownReleases } from "./update-releases.ts"
import { type Component, openSlotHouse } from "./update-slots.ts"
import { openWishes } from "./update-wishes.ts"
import { openTrials } from "./try-modules.ts"
import { rehearseModule } from "./rehearse-module.ts"
import { makeStickDesk } from "./stick-desk.ts"
import { clearStickLeftovers } from "./update-stick.ts"

export interface UpdateParts {
  readonly home: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly version: string
  readonly now: () => number
  readonly notice: (level: Level, text: string, detail?: Readonly<Record<string, unknown>>) => void
  /** Ends the daemon so that its launcher starts the version that is to run now. */
  readonly again: () => void
}

export interface HomeUpdates {
  /** For the swarms of all meshes. */
  readonly channels: ChannelLogs
  readonly services: BuiltinServices
  readonly desk: () => UpdateDesk
  readonly releases: () => ReleaseDesk
  /** Something was folded, or settings changed. */
  readonly wake: () => void
  /** With the meshes open. */
  readonly begin: (meshes: { readonly standard: () => Runtime | undefined; readonly runtimes: () => ReadonlyArray<Runtime> }) => Effect.Effect<void, Error, Scope.Scope>
}

/** How often settings, windows and seeds are looked at, ms. */
const keepEveryMs = 30_000
/** Folds come in bursts; so long after the first of them updates are looked at, ms. */
const wakeMs = 500

export const openUpdates = (parts: UpdateParts): Effect.Effect<HomeUpdates, Error, Scope.Scope> => Effect.gen(function*() {
  const { home, env, now, notice, version } = parts
  const directory = `${home}/updates`
  yield* promise(() => mkdir(directory, { recursive: true, mode: 0o700 }))
  const store = yield* Effect.acquireRelease(
    Effect.sync(() => makeChannelStore({ directory: `${directory}/channels`, notice })), (opened) => Effect.promise(() => opened.close().catch(() => undefined))
  )
  let wires: PackWires | undefined
  let desk: UpdateDesk | undefined
  let releases: ReleaseDesk | undefined
  let wakeEngine: () => void = () => undefined
  let waking: NodeJS.Timeout | undefined
  const early = () => new Refusal({ kind: "degraded", detail: "the node is being opened; try again in a moment" })

  return {
    channels: store.logs,
    services: { admit: (...asked) => wires?.admit(...asked), review: () => wires?.review() },
    desk: () => {
      if (desk === undefined) throw early()
      return desk
    },
    releases: () => {
      if (releases === undefined) throw early()
      return releases
    },
    wake: () => {
      waking ??= setTimeout(() => {
        waking = undefined
        wakeEngine()
      }, wakeMs)
      waking.unref()
    },
    begin: ({ standard, runtimes }) => Effect.gen(function*() {
      const tick = () => performance.now()
      const first = standard() ?? runtimes()[0]
      if (first === undefined) return
      const node = (): MeshNode => {
        const runtime = standard()
        if (runtime === undefined) throw new Refusal({ kind: "degraded", detail: "the default mesh is not open", hint: "kos mesh list" })
        return runtime.node()
      }
      const record = (events: ReadonlyArray<Wanted>): void => {
        if (events.length > 0) void Effect.runPromise(Effect.suspend(() => node().dispatch.record(events)).pipe(
          Effect.catchCause((cause) => Effect.sync(() => notice("warn", "what happened to a channel or a device could not be written", { types: events.map(({ type }) => type).join(), cause: String(cause).slice(0, 300) })))
        ))
      }
      const settings = () => (standard() ?? first).settings.get()
      const banned = new Set(first.node().tables.updates.bans().filter(({ log }) => first.node().members.deviceOf(log) === first.node().vault.deviceId).map(({ body }) => body.device))
      const [trackerText] = settingTexts(settings(), "seed.tracker")
      const tracker = trackerText === undefined ? undefined : parseAddress(trackerText)
      const transfer = yield* Effect.acquireRelease(
        Effect.sync(() => openTransfer({ device: first.node().vault.deviceId, directory: `${directory}/packs`, run: `${home}/run`, now: tick, notice: (text) => notice("warn", text), banned: [...banned], ...(tracker === undefined ? {} : { tracker }) })),
        (opened) => Effect.promise(() => opened.close().catch(() => undefined))
      )
      const unban = transfer.onBan((device, why) => {
        record(decideBan(banned, device, why))
        banned.add(device)
        notice("warn", `${node().members.nameOf(device)} sends bad pieces and is left: ${why}`)
      })
      const packs = makePackWires({
        transfer, tick, settings: () => ({ lan: settingFlag(settings(), "seed.lan"), metered: settingFlag(settings(), "seed.metered") }),
        meshes: () => runtimes().filter((runtime) => !runtime.switching()).map((runtime) => {
          const { vault, members, swarm } = runtime.node()
          return { device: vault.deviceId, isMember: (device) => members.standing(device) === "member", sessions: () => swarm.sessions(), connect: (device, service, probe) => swarm.connect(device, service, probe) }
        })
      })
      wires = packs
      const slots = yield* promise(() => openSlotHouse(`${directory}/slots`, env, { version, path: resolve(import.meta.dirname, "../..") }))
      if (yield* promise(() => installationIsNewer(slots.kos, version))) {
        notice("info", "the installation itself is newer than the version in the slot: it runs from now on")
        parts.again()
      }
      const known = yield* promise(() => openKnownReleases(`${directory}/releases`))
      const wishes = yield* promise(() => openWishes(`${directory}/wishes.json`, (text) => notice("warn", text)))
      yield* promise(() => clearStickLeftovers(`${directory}/stick`))
      // R7.1: whoever was shut in ended with the daemon that held it.
      yield* promise(() => removeHostile(`${directory}/rehearsal`))
      const seeding = makeSeeding({ transfer, now })
      const channels = makeFollowedChannels({
        store, directory: `${directory}/trust`, now, builtMs, notice,
        onState: (state) => {
          const here = node()
          const last = here.tables.updates.channels().find(({ log, body }) => here.members.deviceOf(log) === here.vault.deviceId && body.channel === state.channel)?.body
          record(decideChannel(last, { channel: state.channel, name: state.name, trust: state.trust, detail: state.fault ?? "" }))
          wakeEngine()
        }
      })
      const unstop = store.onStopped((key, why) => {
        notice("warn", `the channel log ${key.slice(0, 8)} is followed no further: ${why}`)
        void channels.refresh()
      })
      let followed = false
      const follow = async (): Promise<void> => {
        await channels.follow(channelsIn(settings()))
        followed = true
      }
      const unread = (channel: string): boolean =>
        !followed || [...channelsIn(settings()).values()].some((code) => parseChannelCode(code)?.root === channel && !channels.states().some((state) => state.channel === channel))
      const engineParts = {
        directory, version, now, tick, notice, again: parts.again, standard, channels, unread, slots, releases: known, wishes, transfer, holders: packs.holders,
        rehearse: async (mesh: MeshNode, slot: Slot, release: Release, signal: AbortSignal) => {
          const scratch = `${directory}/rehearsal/${release.id.slice(0, 16)}`
          if (release.custom.kind !== "bundle") {
            const report = await rehearseModule({ slot, release, scratch, signal, tick })
            return { report, says: report.fault ?? `its checks passed; ${report.isolation.says}` }
          }
          const report = await rehearse({ mesh, slot, migrations: release.custom.migrations, scratch, signal, notice: (level, text, detail) => notice(level, text, detail), now: tick, read: modulesAbove(slot.path) })
          return { report, says: rehearsalText(report) }
        },
        watch: (mesh: MeshNode, slot: Slot, { custom }: Release, signal: AbortSignal) => Effect.runPromise(watchHealth({
          sources: [
            ...(custom.kind === "bundle" ? meshSources(mesh, { append: () => Effect.runPromise(mesh.dispatch.record([alive(mesh, version)])) }) : []),
            ...releaseSources(custom.checks, { directory: slot.path, home, node: process.execPath, tick, ...(env["PATH"] === undefined ? {} : { path: env["PATH"] }) })
          ],
          healthyMs: custom.healthyMs, deadlineMs: custom.deadlineMs, tick
        }), { signal })
      }
      const engine = makeEngine(engineParts)
      wakeEngine = () => {
        void follow().catch((cause: unknown) => notice("warn", `channels could not be followed: ${String(cause)}`))
        engine.wake()
      }
      const stick = makeStickDesk({ store, transfer, channels, engine, node, directory, offers: (everything) => desk?.list(everything) ?? Effect.fail(early()) })
      const trials = yield* Effect.acquireRelease(promise(() => openTrials({ root: `${directory}/trials`, kos: resolve(import.meta.dirname, "../.."), now, notice })), (opened) => Effect.promise(() => opened.close()))
      // Whoever asks right after the start is to find the channels there; what goes wrong is said by the next look.
      yield* Effect.promise(() => follow().catch((cause: unknown) => notice("warn", `channels could not be followed: ${String(cause)}`)))
      desk = makeUpdateDesk({ ...engineParts, engine, seeding, follow, trials, stick, settle: store.settle })
      const publisher = makePublisher({
        home, node, now, notice, channels: store, makePayload, take: (pack, file) => transfer.take(pack, file).then(() => transfer.seed(pack))
      })
      releases = makeReleaseDesk(publisher)
      yield* startPublisher(publisher)

      const capable = new Set<string>()
      /** Where nobody follows a channel nobody plans by it. */
      const tellCapabilities = async (): Promise<void> => {
        if (channelsIn(settings()).size === 0) return
        for (const runtime of runtimes()) {
          const here = runtime.node()
          if (runtime.switching() || capable.has(here.mesh)) continue
          capable.add(here.mesh)
          await Effect.runPromise(sayCapabilities(here, version).pipe(Effect.catchCause((cause) => Effect.sync(() => notice("warn", "what this version can do could not be said", { cause: String(cause).slice(0, 300) })))))
        }
      }
      const keep = async (): Promise<void> => {
        await follow()
        await tellCapabilities()
        seeding.apply(settings())
        const indexes = []
        for (const release of engine.all()) {
          const index = await engine.index(release).catch(() => undefined)
          if (index !== undefined) indexes.push({ release, index })
        }
        await seeding.keep(indexes, settings(), new Set(wishes.get().seeds))
        engine.wake()
      }
      const keepOnce = Effect.promise(() => keep().catch((cause: unknown) => notice("warn", `updates could not be looked after: ${cause instanceof Error ? cause.message : String(cause)}`)))
      yield* Effect.forever(keepOnce.pipe(Effect.andThen(Effect.sleep(keepEveryMs)))).pipe(Effect.forkScoped)
      yield* Effect.addFinalizer(() => Effect.promise(async () => {
        wakeEngine = () => undefined
        clearTimeout(waking)
        await engine.close()
        await channels.close()
        packs.close()
        unban()
        unstop()
        desk = undefined
        releases = undefined
      }))
    })
  }
})

/** Whoever installs a newer kOS by hand means it: it takes the place of what an update brought before. */
const installationIsNewer = async ({ slots, running, launched }: Component, version: string): Promise<boolean> => {
  const list = await slots.list()
  const installed = list.find(({ generation }) => generation === 0)
  if (!launched || running() === 0 || installed === undefined || list.some(({ state }) => state === "trial") || compareVersions(installed.version, version) <= 0) return false
  await slots.rollback(0, `the installation itself is newer: ${installed.version}`)
  return true
}

/** A tree without packages of its own finds them above it, as a checkout does: a rehearsal may read them there. */
const modulesAbove = (path: string): ReadonlyArray<string> => {
  const found: Array<string> = []
  for (let at = dirname(path); at !== dirname(at); at = dirname(at)) if (existsSync(`${at}/node_modules`)) found.push(realpathSync(`${at}/node_modules`), `${at}/node_modules`)
  return [...new Set(found)]
}

/** Names and codes of the channels that the settings name. */
const channelsIn = (config: ReturnType<Runtime["settings"]["get"]>): ReadonlyMap<string, string> => {
  const found = new Map<string, string>()
  for (const [path, { value }] of config.values) {
    if (path.startsWith("update.channels.") && typeof value === "string" && value !== "") found.set(path.slice("update.channels.".length), value)
  }
  return found
}

/** An event that says nothing but that it could be written. */
const alive = (mesh: MeshNode, version: string): Wanted => ({ type: "command.done/1", subject: "updates", body: { name: "update.trial", detail: `kOS ${version} writes, ${mesh.tables.events.totals().events} events here` } })

const promise = <A>(run: () => Promise<A>): Effect.Effect<A, Error> => Effect.tryPromise({ try: run, catch: (cause) => cause instanceof Error ? cause : new Error(String(cause)) })
