/**
 * The daemon: a home, the meshes that it is in, the doors, from start to stop. `kos daemon run`.
 *
 * It owns the home's lock, its log and the socket; the meshes and what changes in their list is `meshes.ts`.
 */
import { Cause, Clock, Effect, Exit, Latch, type Scope } from "effect"
import { readLogLines } from "../api/log-file.ts"
import type { InputOf, OutputOf } from "../api/operations/table.ts"
import { serveApi } from "../api/server.ts"
import { socketPath } from "../api/socket.ts"
import { Refusal } from "../commands/refusal.ts"
import { diskReason } from "../events/ports.ts"
import { settingBytes, settingInteger, settingText } from "../projections/families/config-view.ts"
import { openHome } from "./first-run.ts"
import { HomeInUse, lockHome } from "./lock.ts"
import { promise } from "./mesh-runtime.ts"
import { type Meshes, openMeshes } from "./meshes.ts"
import { metricsText, readinessOf } from "./monitoring.ts"
import { type Level, type LogLine, NodeLog } from "./node-log.ts"
import { launcherGone, switchCode } from "./slots-launcher.ts"
import { openUpdates } from "./updates.ts"
import { SettingsView } from "./settings-view.ts"

export interface DaemonContext {
  readonly home: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly stdin: AsyncIterable<unknown>
  readonly ask?: (prompt: string) => Promise<string>
  readonly version: string
  readonly signal: AbortSignal
  readonly announce: (value: OutputOf<"daemon.run">) => Promise<void>
}

/** Runs until `signal`, or until it wants to be started again; resolves with the exit code. Throws a `Refusal` when it cannot start. */
export const runDaemon = async (input: InputOf<"daemon.run">, context: DaemonContext): Promise<number> => {
  process.umask(0o077)
  const exit = await Effect.runPromiseExit(Effect.scoped(daemon(input, context)), { signal: context.signal })
  if (context.signal.aborted) return 0
  if (Exit.isSuccess(exit)) return exit.value
  throw Cause.squash(exit.cause)
}

const daemon = (input: InputOf<"daemon.run">, context: DaemonContext): Effect.Effect<number, Error, Scope.Scope> => Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const now = () => clock.currentTimeMillisUnsafe()
  const { home, version } = context
  yield* Effect.acquireRelease(
    Effect.tryPromise({
      try: () => lockHome(home),
      catch: (cause) => cause instanceof HomeInUse
        ? new Refusal({ kind: "conflict", detail: cause.message, hint: "kos status" })
        : new Refusal({ kind: diskReason(cause) === "failed" ? "failed" : "degraded", detail: `${home} cannot be used: ${cause instanceof Error ? cause.message : String(cause)}` })
    }),
    (release) => Effect.promise(release)
  )
  const settings = new SettingsView(context.env, flagsOf(input))
  const log = new NodeLog(`${home}/logs`, limitsOf(settings), now)
  const notice = (level: Level, text: string, detail?: Readonly<Record<string, unknown>>) => log.write(level, text, detail)
  yield* surviveStrays(notice)
  const opened = yield* promise(() => openHome(home, input.name, now, { ...context, passphraseFile: input.passphraseFile }))
  const { vault, created } = yield* Effect.fromResult(opened)
  const again = yield* Latch.make()
  const updates = yield* openUpdates({ home, env: context.env, version, now, notice, again: () => again.openUnsafe() })
  const parts = {
    home, updates, env: context.env, socket: socketPath(home), version, now, vault, flags: flagsOf(input), notice,
    logLines: (limit: number) => readLogLines(log.path, limit),
    onLogLine: (listener: (line: OutputOf<"logs">) => void) => log.onLine((line) => listener(lineOf(line)))
  }
  const meshes = yield* openMeshes(parts, (standard) => { log.limits = limitsOf(standard.settings) })
  yield* updates.begin(meshes)
  yield* Effect.forever(Effect.sleep("1 second").pipe(Effect.andThen(Effect.sync(() => {
    for (const runtime of meshes.runtimes()) runtime.tick()
  })))).pipe(Effect.forkScoped)
  const server = yield* serveApi(home, {
    version, handlers: meshes.handlersFor, notice,
    readiness: Effect.suspend(() => readinessOfAll(meshes)),
    metrics: Effect.suspend(() => {
      const view = meshes.standard()?.view ?? meshes.runtimes()[0]?.view
      return view === undefined ? Effect.succeed("") : metricsText(view)
    })
  })
  const first = meshes.standard() ?? meshes.runtimes()[0]
  if (first === undefined) return yield* Effect.fail(new Error("no mesh is open"))
  const { members, vault: here, mesh } = first.node()
  const name = members.nameOf(here.deviceId)
  notice("info", "the node is ready", { name, device: here.deviceId, mesh, home, meshes: meshes.entries().length })
  yield* promise(() => context.announce({
    name, device: here.deviceId, home, socket: server.socket, pid: process.pid, created,
    next: created ? `kos --home ${home} status` : `kos --home ${home} events -f`
  }))
  const switching = again.await.pipe(Effect.as(switchCode))
  const left = launcherGone(context.env).pipe(Effect.as(0))
  const code = yield* Effect.raceFirst(switching, left)
  notice("info", code === switchCode ? "the node stops to start again with another version" : "the node stops: its launcher is gone")
  return code
})

/** As the default mesh is; a mesh that could not be opened is a fault of the whole. */
const readinessOfAll = (meshes: Meshes) => Effect.gen(function*() {
  const standard = meshes.standard()
  const state = standard === undefined ? { ready: false, checks: [] } : yield* readinessOf(standard.view)
  const closed = meshes.entries().filter(({ fault }) => fault !== undefined)
  if (closed.length === 0) return state
  return { ready: state.ready, checks: [...state.checks, ...closed.map(({ name, fault }) => ({ name: `mesh ${name}`, ok: false, detail: fault ?? "" }))] }
})

/** Stray exceptions within a minute after which the daemon gives up. */
const straysMax = 5

/**
 * Libraries below throw outside every handler when a peer sends them what they did not expect. What is on disk stays consistent by
 * itself, so one such exception is told and outlived; many of them mean that something is broken, and the service starts anew.
 */
const surviveStrays = (notice: (level: Level, text: string, detail?: Readonly<Record<string, unknown>>) => void): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(Effect.sync(() => {
    let strays: ReadonlyArray<number> = []
    const onStray = (cause: unknown) => {
      const moment = performance.now()
      strays = [...strays.filter((at) => moment - at < 60_000), moment]
      notice("error", "an exception that nobody expected", { cause: cause instanceof Error ? cause.stack ?? cause.message : String(cause), withinOneMinute: strays.length })
      if (strays.length > straysMax) process.exit(1)
    }
    process.on("uncaughtException", onStray)
    process.on("unhandledRejection", onStray)
    return onStray
  }), (onStray) => Effect.sync(() => {
    process.off("uncaughtException", onStray)
    process.off("unhandledRejection", onStray)
  })).pipe(Effect.asVoid)

const limitsOf = (settings: SettingsView) => ({
  level: levelOf(settingText(settings.get(), "log.level")), bytesMax: settingBytes(settings.get(), "log.bytes.max"), filesMax: settingInteger(settings.get(), "log.files.max")
})

const levelOf = (text: string): Level => text === "debug" || text === "warn" || text === "error" ? text : "info"

const flagsOf = (input: InputOf<"daemon.run">): Readonly<Record<string, string>> => ({
  ...(input.bootstrap === undefined ? {} : { "network.bootstrap": input.bootstrap.join(",") }),
  ...(input.lanOnly ? { "network.dht": "false" } : {}),
  ...(input.level === undefined ? {} : { "log.level": input.level })
})

const lineOf = ({ at, level, text, detail }: LogLine): OutputOf<"logs"> => ({
  at, level, text, ...(detail === undefined ? {} : { detail: JSON.parse(JSON.stringify(detail)) })
})
