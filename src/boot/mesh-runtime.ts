/**
 * One mesh of this home as it runs: its node, its settings in force, its reactors, and what the doors see of it.
 *
 * A runtime belongs to one place in the list of meshes (`meshes.ts`) and may change the mesh that is in that place: a mesh of one gives way to
 * the one that is joined, and the last mesh that is left gives way to a new mesh of one. Then the node is closed and another opened in its stead; the doors stay
 * open meanwhile and always ask for the present one.
 */
import { Effect, Exit, Scope } from "effect"
import { makeHandlers } from "../api/handlers/all.ts"
import type { DaemonView, MeshDoors, OwnCheck } from "../api/node.ts"
import type { Handlers } from "../api/operations/table.ts"
import { Refusal } from "../commands/refusal.ts"
import { settingBytes, settingInteger, settingMs, settingText, settingTexts } from "../projections/families/config-view.ts"
import type { Carrier } from "../swarm/carrier.ts"
import type { Vault } from "../vault/vault.ts"
import { type CandidateRoom, makeCandidates } from "./candidates.ts"
import { carriersBy } from "./carriers.ts"
import { examine, rebuild } from "./doctor.ts"
import { type Hints, readHints } from "./introduction.ts"
import { redeem } from "./joining.ts"
import { type MeshNode, openMeshNode } from "./mesh-node.ts"
import type { Level } from "./node-log.ts"
import { startReactors } from "./reactors.ts"
import { makeServiceDesk, type ServiceDesk } from "./services.ts"
import type { HomeUpdates } from "./updates.ts"
import { SettingsView } from "./settings-view.ts"

/** What is the same for all meshes of a home. */
export interface HomeParts {
  readonly home: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly socket: string
  readonly version: string
  readonly now: () => number
  readonly vault: Vault
  readonly flags: Readonly<Record<string, string>>
  readonly notice: (level: Level, text: string, detail?: Readonly<Record<string, unknown>>) => void
  readonly updates: HomeUpdates
  readonly logLines: DaemonView["logLines"]
  readonly onLogLine: DaemonView["onLogLine"]
  /** Settings of a mesh may have changed. */
  readonly onSettings: () => void
  /** Something was folded in a mesh. */
  readonly onFold: () => void
  /** Does another mesh of this home listen on the port already? */
  readonly portTaken: (runtime: Runtime, port: number) => boolean
  readonly doors: (runtime: Runtime) => MeshDoors
}

export interface Runtime {
  readonly node: () => MeshNode
  readonly settings: SettingsView
  readonly candidates: CandidateRoom
  readonly handlers: Handlers
  readonly view: DaemonView
  /** Carriers by the settings in force here; `bootstrap` counts while nobody set another. */
  readonly carriers: (bootstrap: ReadonlyArray<string>) => ReadonlyArray<Carrier>
  /** While this home waits to be confirmed in another mesh. */
  readonly setCheck: (check: OwnCheck | undefined) => void
  /** Closes the node and opens the one in another mesh. */
  readonly switchTo: (mesh: string) => Effect.Effect<MeshNode, Refusal>
  /** The node is closed and another one is being opened in its place. */
  readonly switching: () => boolean
  readonly close: Effect.Effect<void>
  /** Ends a pause whose time has come. */
  readonly tick: () => void
}

/** Opens the node of one mesh; closed with the scope. */
export const openRuntime = (home: HomeParts, mesh: string): Effect.Effect<Runtime, Error, Scope.Scope> => Effect.gen(function*() {
  const { now, notice, version } = home
  const settings = new SettingsView(home.env, home.flags)
  const candidates = makeCandidates(now)
  let hints: Hints = { bootstrap: [], issuer: "", lan: [] }
  let pausedUntil: number | undefined
  let pausedByHand = false
  let check: OwnCheck | undefined
  const switched = new Set<() => void>()
  const carriers = (bootstrap: ReadonlyArray<string>) => carriersBy(settings.get(), bootstrap, home.portTaken(runtime, settingInteger(settings.get(), "network.port")))

  const openNode = (id: string) => Effect.gen(function*() {
    const vault = yield* promise(() => home.vault.forMesh(id))
    hints = yield* promise(() => readHints(vault.meshDirectory(id)))
    let desk: ServiceDesk | undefined
    const opened = yield* openMeshNode({
      vault, mesh: id, version, now, notice,
      carriers: () => carriers(hints.bootstrap),
      limits: (parts) => {
        settings.refresh(parts)
        desk = makeServiceDesk(parts, now, home.updates.services)
        return {
          services: desk.services, channels: home.updates.channels, tick: () => performance.now(),
          dialMax: settingInteger(settings.get(), "swarm.peers.max"),
          session: { helloMs: settingMs(settings.get(), "swarm.handshake.timeout") },
          replication: {
            retryMs: settingMs(settings.get(), "swarm.retry.min"), retryMsMax: settingMs(settings.get(), "swarm.retry.max"),
            upBytesPerSecondMax: settingBytes(settings.get(), "sync.upload.max"), downBytesPerSecondMax: settingBytes(settings.get(), "sync.download.max"),
            memberBlocksPerMinuteMax: settingInteger(settings.get(), "sync.member.rate")
          }
        }
      },
      mode: (early) => {
        settings.refresh(early)
        for (const hint of hints.lan.slice(0, 1)) if (early.tables.receipts.peer(hints.issuer) === undefined) early.tables.receipts.touched(hints.issuer, "lan", false, hint, now())
        return settingText(settings.get(), "network.mode") === "isolated" ? "isolated" : "joined"
      },
      redeem: (self) => redeem(self, { now, candidates, bootstrap: () => settingTexts(settings.get(), "network.bootstrap") })
    })
    if (desk !== undefined) yield* desk.attach(opened)
    yield* followSettings(opened, settings, home)
    const stopFolds = opened.runner.onFold(home.onFold)
    yield* Effect.addFinalizer(() => Effect.sync(stopFolds))
    yield* startReactors({
      node: opened, settings, now, notice, pausedByHand: () => pausedByHand,
      // Opening the node anew ends the log that does not stand.
      overruled: () => void Effect.runPromise(Effect.suspend(() => node === opened ? switchTo(id).pipe(Effect.asVoid) : Effect.void).pipe(Effect.catch((refusal) => Effect.sync(() => notice("error", refusal.message)))))
    })
    return opened
  })
  const root = yield* Effect.scope
  let inner = yield* Scope.fork(root)
  let node: MeshNode | undefined
  const present = (): MeshNode => {
    if (node === undefined) throw new Error("the node is not open yet")
    return node
  }
  const tick = (): void => {
    if (pausedUntil !== undefined && now() >= pausedUntil) view.resume()
  }
  let switching = false
  const switchTo = (id: string) => Effect.gen(function*() {
    switching = true
    yield* Scope.close(inner, Exit.void)
    inner = yield* Scope.fork(root)
    const opened = yield* openNode(id).pipe(Effect.provideService(Scope.Scope, inner))
    node = opened
    switching = false
    for (const listener of switched) listener()
    return opened
  }).pipe(Effect.mapError((error) => new Refusal({ kind: "failed", detail: error.message })), Effect.uninterruptible)

  const doors: MeshDoors = {
    join: (...args) => home.doors(runtime).join(...args),
    leave: () => home.doors(runtime).leave(),
    meshes: () => home.doors(runtime).meshes(),
    useMesh: (name) => home.doors(runtime).useMesh(name),
    anotherMesh: (name) => home.doors(runtime).anotherMesh(name),
    federate: (...args) => home.doors(runtime).federate(...args)
  }
  const view: DaemonView = {
    home: home.home, env: home.env, socket: home.socket, version, now, mesh: present, config: () => settings.get(),
    candidates, ownCheck: () => check, ...doors, updates: home.updates.desk, releases: home.updates.releases,
    doctor: (again, progress) => Effect.gen(function*() {
      const findings = yield* promise(() => examine(present(), now, settings.get().faults, settingBytes(settings.get(), "disk.free.min")))
      const rebuilt = again ? yield* promise(() => rebuild(present(), now, progress)) : undefined
      return {
        healthy: findings.every((finding) => finding.level === "good" || finding.level === "note") && rebuilt?.equal !== false, daemon: true, findings,
        ...(rebuilt === undefined ? {} : { rebuild: rebuilt })
      }
    }).pipe(Effect.mapError(asRefusal)),
    pause: (untilMs) => {
      pausedByHand = true
      pausedUntil = untilMs
      present().swarm.pause()
    },
    resume: () => {
      pausedByHand = false
      pausedUntil = undefined
      present().swarm.resume()
    },
    pausedUntil: () => pausedUntil,
    logLines: home.logLines,
    onLogLine: home.onLogLine,
    onSwitch: (listener) => {
      switched.add(listener)
      return () => switched.delete(listener)
    }
  }
  const runtime: Runtime = {
    node: present, settings, candidates, handlers: makeHandlers(view), view, carriers, switchTo, tick, switching: () => switching,
    setCheck: (next) => { check = next },
    close: Effect.suspend(() => Scope.close(inner, Exit.void)).pipe(Effect.uninterruptible)
  }
  // A node that does not open leaves nothing behind.
  node = yield* openNode(mesh).pipe(Effect.provideService(Scope.Scope, inner), Effect.onError(() => Scope.close(inner, Exit.void)))
  return runtime
})

/** Settings follow their documents; the log's limits and the mode take effect at once, other network settings by reconnecting. */
const followSettings = (node: MeshNode, settings: SettingsView, home: HomeParts): Effect.Effect<void, never, Scope.Scope> => Effect.gen(function*() {
  settings.refresh(node)
  home.onSettings()
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
    home.onSettings()
    const next = networkOf(settings)
    if (next === network) return
    network = next
    turn = turn.then(apply).catch((cause: unknown) => home.notice("warn", `the network settings could not be applied: ${String(cause)}`))
  })
  yield* Effect.addFinalizer(() => Effect.sync(stop).pipe(Effect.andThen(Effect.promise(() => turn))))
})

const networkOf = (settings: SettingsView): string =>
  JSON.stringify([...settings.get().values].filter(([path]) => path.startsWith("network.")).map(([path, { value }]) => [path, value]))

export const asRefusal = (error: Error): Refusal => error instanceof Refusal ? error : new Refusal({ kind: "failed", detail: error.message })

export const promise = <A>(run: () => Promise<A>): Effect.Effect<A, Error> =>
  Effect.tryPromise({ try: run, catch: (cause) => cause instanceof Error ? cause : new Error(String(cause)) })
