/**
 * The daemon: a home, a mesh in it, the doors, from start to stop. `kos daemon run`.
 *
 * It owns the home's lock, the node in the mesh of now, and the settings in force. Joining and leaving close that node and open another
 * in its place; the doors stay open meanwhile and always ask for the present one.
 */
import { Cause, Clock, Effect, Exit, Scope } from "effect"
import { makeHandlers } from "../api/handlers/all.ts"
import type { DaemonView } from "../api/node.ts"
import type { InputOf, OutputOf } from "../api/operations/table.ts"
import { readLogLines } from "../api/log-file.ts"
import { serveApi } from "../api/server.ts"
import { socketPath } from "../api/socket.ts"
import { decideLeave } from "../commands/decide-membership.ts"
import { membershipLock, operationEvents } from "../commands/membership-events.ts"
import { Refusal } from "../commands/refusal.ts"
import { uuidv7 } from "../codec/uuid.ts"
import { randomBytes } from "../codec/signature.ts"
import { diskReason } from "../events/ports.ts"
import { settingBytes, settingInteger, settingMs, settingText } from "../projections/families/config-view.ts"
import { carriersBy } from "./carriers.ts"
import { examine, rebuild } from "./doctor.ts"
import { createMesh, openHome } from "./first-run.ts"
import { type Hints, readHints } from "./introduction.ts"
import { carry, enter, pagesOf, redeem } from "./joining.ts"
import { HomeInUse, lockHome } from "./lock.ts"
import { type MeshNode, openMeshNode } from "./mesh-node.ts"
import { metricsText, readinessOf } from "./monitoring.ts"
import { type Level, type LogLine, NodeLog } from "./node-log.ts"
import { startReactors } from "./reactors.ts"
import { SettingsView } from "./settings-view.ts"

export interface DaemonContext {
  readonly home: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly version: string
  readonly signal: AbortSignal
  readonly announce: (value: OutputOf<"daemon.run">) => Promise<void>
}

/** Runs until `signal`; throws a `Refusal` when it cannot start. */
export const runDaemon = async (input: InputOf<"daemon.run">, context: DaemonContext): Promise<void> => {
  process.umask(0o077)
  const exit = await Effect.runPromiseExit(Effect.scoped(daemon(input, context)), { signal: context.signal })
  if (Exit.isSuccess(exit) || context.signal.aborted) return
  throw Cause.squash(exit.cause)
}

const daemon = (input: InputOf<"daemon.run">, context: DaemonContext): Effect.Effect<void, Error, Scope.Scope> => Effect.gen(function*() {
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
  const opened = yield* promise(() => openHome(home, input.name, now))
  const { vault, mesh, created } = yield* Effect.fromResult(opened)
  let hints: Hints = yield* promise(() => readHints(vault.meshDirectory(mesh)))
  let pausedUntil: number | undefined
  let pausedByHand = false
  const switched = new Set<() => void>()

  const openNode = (id: string) => Effect.gen(function*() {
    hints = yield* promise(() => readHints(vault.meshDirectory(id)))
    const node = yield* openMeshNode({
      vault, mesh: id, version, now, notice,
      carriers: () => carriersBy(settings.get(), hints.bootstrap),
      limits: (parts) => {
        settings.refresh(parts)
        return {
          dialMax: settingInteger(settings.get(), "swarm.peers.max"),
          session: { helloMs: settingMs(settings.get(), "swarm.handshake.timeout") },
          replication: {
            retryMs: settingMs(settings.get(), "swarm.retry.min"), retryMsMax: settingMs(settings.get(), "swarm.retry.max"),
            upBytesPerSecondMax: settingBytes(settings.get(), "sync.upload.max"), downBytesPerSecondMax: settingBytes(settings.get(), "sync.download.max")
          }
        }
      },
      mode: (early) => {
        settings.refresh(early)
        for (const hint of hints.lan.slice(0, 1)) if (early.tables.receipts.peer(hints.issuer) === undefined) early.tables.receipts.touched(hints.issuer, "lan", false, hint, now())
        return settingText(settings.get(), "network.mode") === "isolated" ? "isolated" : "joined"
      },
      redeem: (self) => redeem(self, now)
    })
    yield* followSettings(node, settings, log, notice)
    yield* startReactors({ node, settings, now, notice, pausedByHand: () => pausedByHand })
    return node
  })
  const root = yield* Effect.scope
  let inner = yield* Scope.fork(root)
  let node: MeshNode = yield* openNode(mesh).pipe(Effect.provideService(Scope.Scope, inner))
  const switchTo = (id: string) => Effect.gen(function*() {
    yield* Scope.close(inner, Exit.void)
    inner = yield* Scope.fork(root)
    node = yield* openNode(id).pipe(Effect.provideService(Scope.Scope, inner))
    for (const listener of switched) listener()
    return node
  }).pipe(Effect.mapError((error) => new Refusal({ kind: "failed", detail: error.message })), Effect.uninterruptible)

  const view: DaemonView = {
    home, socket: socketPath(home), version, now, mesh: () => node, config: () => settings.get(),
    join: (invite, timeoutMs) => Effect.gen(function*() {
      const entered = yield* enter(node, invite, timeoutMs, (bootstrap) => carriersBy(settings.get(), bootstrap), now)
      const pages = pagesOf(node)
      const joined = yield* switchTo(entered.mesh)
      const synced = yield* promise(() => joined.swarm.waitSynced(Math.min(timeoutMs, 15_000)))
      yield* promise(() => joined.runner.idle())
      const carried = yield* carry(joined, pages, now)
      return { admittedBy: joined.members.nameOf(entered.issuer), role: entered.role, carried, synced }
    }).pipe(Effect.mapError(asRefusal)),
    leave: () => Effect.gen(function*() {
      const left = node
      const name = left.members.nameOf(vault.deviceId)
      yield* left.dispatch.run("leave", { command: uuidv7(now(), randomBytes(10)), actor: "device" }, [membershipLock], Effect.suspend(() =>
        Effect.map(Effect.fromResult(decideLeave(left.situation())), (operations) => ({ summary: "left", events: operationEvents(vault, operations) }))))
      // A moment for the peers in touch to hear of it; who is away learns it from them.
      yield* promise(() => left.swarm.waitSynced(2_000))
      const pages = pagesOf(left)
      const made = yield* Effect.fromResult(yield* promise(() => createMesh(vault, name, now())))
      yield* promise(() => vault.setCurrentMesh(made))
      yield* carry(yield* switchTo(made), pages, now)
    }).pipe(Effect.mapError(asRefusal)),
    doctor: (again, progress) => Effect.gen(function*() {
      const findings = yield* promise(() => examine(node, now, settings.get().faults, settingBytes(settings.get(), "disk.free.min")))
      const rebuilt = again ? yield* promise(() => rebuild(node, now, progress)) : undefined
      return {
        healthy: findings.every((finding) => finding.level === "good" || finding.level === "note") && rebuilt?.equal !== false, daemon: true, findings,
        ...(rebuilt === undefined ? {} : { rebuild: rebuilt })
      }
    }).pipe(Effect.mapError(asRefusal)),
    pause: (untilMs) => {
      pausedByHand = true
      pausedUntil = untilMs
      node.swarm.pause()
    },
    resume: () => {
      pausedByHand = false
      pausedUntil = undefined
      node.swarm.resume()
    },
    pausedUntil: () => pausedUntil,
    logLines: (limit) => readLogLines(log.path, limit),
    onLogLine: (listener) => log.onLine((line) => listener(lineOf(line))),
    onSwitch: (listener) => {
      switched.add(listener)
      return () => switched.delete(listener)
    }
  }
  yield* Effect.forever(Effect.sleep("1 second").pipe(Effect.andThen(Effect.sync(() => {
    if (pausedUntil !== undefined && now() >= pausedUntil) view.resume()
  })))).pipe(Effect.forkScoped)
  const server = yield* serveApi(home, {
    version, handlers: makeHandlers(view), notice, readiness: Effect.suspend(() => readinessOf(view)), metrics: Effect.suspend(() => metricsText(view))
  })
  notice("info", "the node is ready", { name: node.members.nameOf(vault.deviceId), device: vault.deviceId, mesh: node.mesh, home })
  yield* promise(() => context.announce({
    name: node.members.nameOf(vault.deviceId), device: vault.deviceId, home, socket: server.socket, pid: process.pid, created,
    next: created ? `kos --home ${home} status` : `kos --home ${home} events -f`
  }))
  return yield* Effect.never
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

/** Settings follow their documents; the log's limits and the mode take effect at once, other network settings by reconnecting. */
const followSettings = (
  node: MeshNode, settings: SettingsView, log: NodeLog, notice: (level: Level, text: string) => void
): Effect.Effect<void, never, Scope.Scope> => Effect.gen(function*() {
  settings.refresh(node)
  log.limits = limitsOf(settings)
  let network = networkOf(settings)
  let turn = Promise.resolve()
  const apply = async () => {
    const mode = settingText(settings.get(), "network.mode") === "isolated" ? "isolated" : "joined"
    if (mode === "joined") await node.swarm.setMode("isolated")
    await node.swarm.setMode(mode)
  }
  const stop = node.runner.onFold(({ documents, operations }) => {
    if (!operations && !documents.some((doc) => doc.startsWith("config/"))) return
    settings.refresh(node)
    // A person's own settings say nothing to the node itself.
    if (!operations && !documents.some((doc) => doc.startsWith("config/") && !doc.includes("/user."))) return
    log.limits = limitsOf(settings)
    const next = networkOf(settings)
    if (next === network) return
    network = next
    turn = turn.then(apply).catch((cause: unknown) => notice("warn", `the network settings could not be applied: ${String(cause)}`))
  })
  yield* Effect.addFinalizer(() => Effect.sync(stop).pipe(Effect.andThen(Effect.promise(() => turn))))
})

const networkOf = (settings: SettingsView): string =>
  JSON.stringify([...settings.get().values].filter(([path]) => path.startsWith("network.")).map(([path, { value }]) => [path, value]))

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

const asRefusal = (error: Error): Refusal => error instanceof Refusal ? error : new Refusal({ kind: "failed", detail: error.message })

const promise = <A>(run: () => Promise<A>): Effect.Effect<A, Error> =>
  Effect.tryPromise({ try: run, catch: (cause) => cause instanceof Error ? cause : new Error(String(cause)) })
