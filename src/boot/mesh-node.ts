/**
 * This node in one mesh: store, tables, journal, runner, dispatch and swarm put together, from opening to stopping. A node that joins or
 * leaves closes one of these and opens another.
 *
 * Order of opening: log store → tables (a damaged or newer file is put aside and rebuilt from the logs) → membership → swarm, so that peers can
 * heal this node's log → the own log is settled → the journal begins → what the node itself has to say.
 */
import type { MeshView } from "../api/node.ts"
import { Cause, Context, Effect, Layer, Result, Scope, Exit } from "effect"
import { readdir, rename, rm } from "node:fs/promises"
import { decideAttachLog, decideSucceedLog, type Situation } from "../commands/decide-membership.ts"
import { toHex, utf8 } from "../codec/bytes.ts"
import { hashParts } from "../codec/hash.ts"
import { proveLogHeld } from "../codec/operation.ts"
import { Dispatch, type Wanted } from "../commands/dispatch.ts"
import { operationEvents } from "../commands/membership-events.ts"
import { kindOf } from "../projections/membership.ts"
import { HypercoreStore } from "../events/hypercore-store.ts"
import { Journal } from "../events/journal.ts"
import { Disk } from "../events/ports.ts"
import { DocumentWorker } from "../projections/documents/pool.ts"
import { noteLearned } from "../projections/learned.ts"
import { Members } from "../projections/members.ts"
import { Runner } from "../projections/runner.ts"
import { TableError } from "../projections/tables/table-error.ts"
import { Tables } from "../projections/tables/tables.ts"
import type { Carrier } from "../swarm/carrier.ts"
import type { Redeem } from "../swarm/pairing.ts"
import { makeSwarm, type Swarm, type SwarmMode, type SwarmOptions } from "../swarm/swarm.ts"
import type { Vault } from "../vault/vault.ts"
import { isOverruled } from "./evidence.ts"
import { readIntroduction } from "./introduction.ts"
import { makeMeshKeyring, watchKeys } from "./mesh-keyring.ts"
import { refoldWithoutLost, writeAgain } from "./lost-blocks.ts"
import { openStore } from "./open-store.ts"
import { isLeft, type OwnLogReport, settleOwnLog } from "./own-log.ts"
import { makeSwarmHost } from "./swarm-host.ts"

export interface MeshNodeOptions {
  readonly vault: Vault
  readonly mesh: string
  readonly version: string
  readonly now: () => number
  readonly notice: (level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
  /** Made anew each time the swarm connects, by the settings of then. */
  readonly carriers: (node: MeshNode) => ReadonlyArray<Carrier>
  readonly mode: (node: MeshNode) => SwarmMode
  /** Limits of the swarm by the settings of when it opens. */
  readonly limits: (parts: Pick<MeshNode, "tables" | "members" | "vault">) => Partial<SwarmOptions>
  readonly redeem: (node: MeshNode) => Redeem
}

export interface MeshNode extends MeshView {
  /** Peers that came or went since the last time this was asked. */
  readonly takeTouched: () => ReadonlyArray<{ readonly device: string; readonly carrier: string; readonly up: boolean }>
  readonly report: OwnLogReport
}

/** Touches remembered between two `peers.changed` events; later ones of the same device replace earlier ones. */
export const touchedMax = 512

export const openMeshNode = (options: MeshNodeOptions): Effect.Effect<MeshNode, Error, Scope.Scope> => Effect.gen(function*() {
  const { vault, mesh, now, notice } = options
  const scope = yield* Effect.scope
  const directory = vault.meshDirectory(mesh)
  const meshKey = yield* promise(() => vault.meshKey(mesh))
  const { keyPair } = yield* promise(() => vault.logKeyPair(mesh))
  const recoveries: Array<Recovery> = []
  const recovered: Recovered = (what, detail) => {
    notice("warn", `${what}: ${detail}`)
    // Events are for everybody and for ever: where this home lies is nobody's business.
    recoveries.push({ what, detail: detail.replaceAll(`${vault.home}/`, "") })
  }
  const store = yield* Effect.acquireRelease(
    promise(() => openStore({ directory, own: keyPair, now, notice: (_level, text) => recovered("log store", text) })), (held) => Effect.promise(() => held.close().catch(() => undefined))
  )
  const tables = yield* Effect.acquireRelease(promise(() => openTables(directory, now, recovered)), (held) => Effect.sync(() => held.close()))
  tables.receipts.allDown(now())
  const learned = noteLearned(tables)
  if (learned.length > 0) notice("info", `this version reads what was kept unread: ${learned.join(", ")}`)
  const introduction = yield* promise(() => readIntroduction(directory))
  const members = new Members(mesh, tables)
  tables.transaction(() => {
    for (const bytes of introduction) members.take(bytes, "met")
  })
  const keyring = makeMeshKeyring({ vault, meshKey, members, tables })
  const services = yield* Layer.buildWithScope(
    Layer.merge(Journal.layer(keyPair, () => keyring), DocumentWorker.layer).pipe(
      Layer.provide(Layer.merge(HypercoreStore.layer(store), Disk.layer(directory)))
    ), scope
  )
  const journal = Context.get(services, Journal)
  const worker = Context.get(services, DocumentWorker)
  const diverged = new Map<string, string>()
  const touched = new Map<string, { readonly device: string; readonly carrier: string; readonly up: boolean }>()
  const runner = new Runner({
    tables, members, worker, keyring: () => keyring, now, notice, ownDevice: vault.deviceId,
    open: (log) => store.openHeld(log), observe: (stamp) => journal.observe(stamp),
    ownLog: () => ({ log: journal.log(), length: journal.length() })
  })
  const built = makeSwarmHost({
    keyPair: vault.device, device: vault.deviceId, mesh: { id: mesh, key: meshKey }, tables, members, runner, journal, store, now, notice,
    onDiverged: (log, device, detail, proven) => {
      const known = tables.evidence.all(() => false).find(({ accused }) => accused === log)
      if (proven === undefined ? diverged.has(log) : known !== undefined && known.length <= proven.length) return
      diverged.set(log, detail)
      notice("warn", `log ${log.slice(0, 8)} has two histories: ${detail}`, { log, device })
      void Effect.runPromise(dispatch.record([{
        type: "evidence.found/1", subject: `log/${log}`,
        body: {
          log, length: proven?.length ?? tables.heads.get(log)?.length ?? 0, kind: "two histories", ours: "", theirs: detail.slice(0, 256), from: device,
          ...(proven === undefined ? {} : { histories: proven.histories })
        }
      }]).pipe(Effect.ignore))
    },
    onOwnLogAhead: (length, device) => notice("warn", `${members.nameOf(device)} holds ${length} blocks of this node's log, more than this node`, { length }),
    onTouched: (device, carrier, up) => {
      touched.delete(device)
      if (touched.size < touchedMax) touched.set(device, { device, carrier, up })
    }
  })
  const dispatch = new Dispatch({ journal, runner, tables, members, worker, device: vault.deviceId, now, onAppended: built.grewOwn })
  const situation = (): Situation => ({ membership: members.view(), device: vault.deviceId, ms: now() })
  const base = {
    mesh, directory, vault, keyring, meshKey, store, tables, members, journal, worker, runner, dispatch, situation, diverged,
    startedMs: now(), swarmHost: built.host,
    diskFree: () => Effect.runPromise(Disk.use((disk) => disk.free).pipe(Effect.provide(Disk.layer(directory)), Effect.orElseSucceed(() => 0))),
    takeTouched: () => {
      const all = [...touched.values()]
      touched.clear()
      return all
    }
  }
  // The swarm asks for carriers and settings only after this node exists.
  let node: MeshNode | undefined
  const self = (): MeshNode => {
    if (node === undefined) throw new Error("the node is not open yet")
    return node
  }
  const { finding, lastRun } = yield* promise(() => journal.inspect())
  const powerCut = lastRun !== undefined && lastRun.unclean && !lastRun.sameBoot
  if (recoveries.length > 0 || powerCut || (finding._tag !== "New" && finding._tag !== "Healthy")) yield* promise(() => correctHeads(store, tables))
  // Documents that stalled are tried once more: what ended the worker then may have been its version.
  for (const doc of tables.documents.stalledDocuments()) tables.documents.stall(doc, undefined)
  const empty = tables.events.totals().events === 0
  const unwatch = watchKeys(keyring, members, (epochs) => runner.keysChanged(epochs))
  yield* Effect.addFinalizer(() => Effect.sync(unwatch))
  runner.wake()
  yield* promise(() => runner.idle())
  if (empty) yield* promise(() => findHeads(store, tables, members, runner))
  const swarm: Swarm = makeSwarm(built.host, () => options.carriers(self()), {
    ...options.limits(base), now, hint: (device) => tables.receipts.peer(device)?.remote,
    redeem: (request, device, hash) => options.redeem(self())(request, device, hash)
  })
  // Every session on the old store is dead: readers open theirs again, and peers are met anew.
  store.onReopen(() => {
    void runner.forgetLogs().then(async () => {
      runner.wake()
      const mode = swarm.mode()
      await swarm.setMode("isolated")
      await swarm.setMode(mode)
    }).catch((cause: unknown) => notice("warn", `peers could not be met anew: ${String(cause)}`))
  })
  const early: MeshNode = { ...base, swarm, report: { lastRun: undefined, healed: undefined, succession: undefined } }
  node = early
  yield* promise(() => swarm.setMode(options.mode(early)))
  yield* Effect.acquireRelease(promise(() => swarm.start()), () => Effect.promise(() => swarm.stop().catch(() => undefined)))
  const report = yield* settleOwnLog({
    journal, vault, mesh, notice,
    heal: async (length, msMax) => await swarm.healOwn(length, msMax) >= length,
    word: (msMax) => wordOfPeers(early, msMax),
    overruled: async (log) => await isOverruled(early, log) === true
  })
  const opened: MeshNode = { ...early, report }
  node = opened
  // Growths that a power cut took would otherwise be numbered again, and peers would miss them.
  if (report.lastRun?.unclean === true || report.succession !== undefined) tables.heads.renewSequence()
  const remembered = report.succession === undefined ? [] : yield* promise(() => refoldWithoutLost(base))
  journal.begin()
  yield* Effect.addFinalizer((exit) => dispatch.record([{
    type: "node.stopped/1", subject: "node", body: { reason: Exit.isSuccess(exit) ? "went into another mesh" : Cause.hasInterruptsOnly(exit.cause) ? "asked to stop" : "a fault" }
  }]).pipe(Effect.ignore, Effect.andThen(Effect.promise(() => farewell(opened))), Effect.andThen(journal.stop()), Effect.andThen(Effect.promise(() => runner.stop()))))
  yield* sayStart(opened, options.version, recoveries).pipe(Effect.catch((refusal) => Effect.sync(() => notice("warn", `the start could not be recorded: ${refusal.message}`))))
  if (remembered.length > 0) {
    const written = yield* writeAgain(opened, remembered, now)
    notice("warn", `${written} documents said what only lost blocks had said; it was written again`)
    yield* dispatch.record([{ type: "node.recovered/1", subject: "node", body: { what: "documents", detail: `${written} documents said what only lost blocks had said; it was written again` } }]).pipe(Effect.ignore)
  }
  return opened
})

/** The tables may speak of blocks that the disk has lost since: what is not held is to be asked for again, the own log's too. */
const correctHeads = async (store: HypercoreStore, tables: Tables): Promise<void> => {
  for (const { log } of tables.heads.all()) {
    const held = await store.openHeld(log)
    try {
      tables.heads.correct(log, held.length())
    } finally {
      await held.close()
    }
  }
}

/** Tables that begin empty do not know what this disk holds: it is looked for, log by log as operations make them known. */
const findHeads = async (store: HypercoreStore, tables: Tables, members: Members, runner: Runner): Promise<void> => {
  const seen = new Set<string>()
  for (;;) {
    const logs = members.logs().map(({ log }) => log).filter((log) => !seen.has(log))
    if (logs.length === 0) return
    for (const log of logs) {
      seen.add(log)
      const held = await store.openHeld(log)
      try {
        if (held.length() > 0 && tables.heads.grew(log, held.length())) runner.wake(log)
      } finally {
        await held.close()
      }
    }
    await runner.idle()
  }
}

/** How long a node that stops waits for the peers in touch to hold its last events, milliseconds. */
const farewellMsMax = 1_000

/** What only this disk holds when it stops cannot come back from anybody: the peers in touch get a moment to take it. */
const farewell = async ({ swarm, tables, journal }: MeshNode): Promise<void> => {
  const log = journal.log()
  const length = journal.length()
  for (let waited = 0; waited < farewellMsMax; waited += 20) {
    const inTouch = swarm.sessions().filter((session) => session.phase === "ready")
    if (swarm.paused() || inTouch.every(({ device }) => tables.receipts.held(device, log) >= length)) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Operations that are written as one unit: a restored device may have thousands of its own, and each may have `operationBytesMax`. */
const foundingEventsMax = 32

/** What the node has to say when it starts: who it is, how the last run ended, what became of its log. */
const sayStart = (node: MeshNode, version: string, recoveries: ReadonlyArray<Recovery>) => Effect.gen(function*() {
  const { dispatch, vault, tables, members, journal, report } = node
  const written = new Set(tables.database.prepare("SELECT hash FROM operations WHERE source = 0").all().map((row) => row["hash"]))
  const mine = members.operations().filter((operation) => operation.author === vault.deviceId && !written.has(operation.hash))
  const founding: ReadonlyArray<Wanted> = mine.map((operation) => ({ type: `${kindOf(operation)}/1`, subject: "mesh", body: { operation: operation.bytes } }))
  for (let start = 0; start < founding.length; start += foundingEventsMax) yield* dispatch.record(founding.slice(start, start + foundingEventsMax))
  if (!members.logs().some(({ log }) => log === journal.log())) yield* attach(node)
  const events: Array<Wanted> = []
  const { lastRun, healed, succession } = report
  if (lastRun?.unclean === true) {
    events.push({ type: "node.found-unclean/1", subject: "node", body: { sameBoot: lastRun.sameBoot, length: journal.length(), pid: lastRun.pid } })
  }
  if (healed !== undefined) events.push({ type: "log.healed/1", subject: `log/${journal.log()}`, body: { log: journal.log(), ...healed } })
  if (succession !== undefined) {
    const { log, length, expected, why, successor } = succession
    events.push(isLeft(succession.finding)
      ? { type: "log.copied/1", subject: `log/${log}`, body: { log, length, successor } }
      : { type: "log.closed/1", subject: `log/${log}`, body: { log, length, expected, why } })
  }
  for (const { what, detail } of recoveries) events.push({ type: "node.recovered/1", subject: "node", body: { what, detail: detail.slice(0, 1_024) } })
  const bootId = yield* Disk.use((disk) => disk.bootId).pipe(Effect.provide(Disk.layer(node.directory)))
  // The same in each run between two starts of the machine, and another in each mesh: it must not tell two meshes that they share a device.
  const boot = bootId === "" ? "" : toHex(hashParts("kos/boot/1", utf8(node.mesh), utf8(bootId)).subarray(0, 16))
  events.push({ type: "node.started/1", subject: "node", body: { version, pid: process.pid, bootId: boot } })
  yield* dispatch.record(events)
})

/** Tells the mesh that this log is ours and, when it follows another, where that one ends. */
const attach = (node: MeshNode) => Effect.gen(function*() {
  const { keyPair } = yield* promise(() => node.vault.logKeyPair(node.mesh))
  const held = proveLogHeld(node.mesh, node.vault.deviceId, keyPair)
  const attached = yield* Effect.fromResult(decideAttachLog(node.situation(), { log: node.journal.log(), ...held }))
  yield* node.dispatch.record(operationEvents(node.vault, attached))
  const succession = node.report.succession
  if (succession === undefined || isLeft(succession.finding)) return
  const succeeded = decideSucceedLog(node.situation(), {
    log: succession.log, length: succession.expected, treeHash: succession.treeHash, successor: succession.successor, ...held
  })
  if (Result.isSuccess(succeeded)) yield* node.dispatch.record(operationEvents(node.vault, succeeded.success))
})

/** Length of the own log by the word of peers, after one of them has told all it holds or the time is over. */
const wordOfPeers = async ({ members, swarm, tables, journal, vault }: MeshNode, msMax: number): Promise<number> => {
  const others = [...members.view().members.values()].filter((member) => member.device !== vault.deviceId && member.standing === "member")
  if (others.length === 0 || swarm.mode() === "isolated") return 0
  await swarm.waitSynced(msMax)
  return Math.max(0, ...others.map(({ device }) => tables.receipts.held(device, journal.log())))
}

interface Recovery {
  readonly what: string
  readonly detail: string
}
type Recovered = (what: string, detail: string) => void

/** Databases of one kind that are kept aside; the oldest go first. */
export const asideMax = 2

/** Tables that are damaged, or of a newer version (R6.6), are put aside and made anew: all that counts in them stands in the logs. */
const openTables = async (directory: string, now: () => number, recovered: Recovered): Promise<Tables> => {
  const file = `${directory}/tables.db`
  try {
    return new Tables(file)
  } catch (cause) {
    if (!(cause instanceof TableError) || (cause.reason !== "corrupt" && cause.reason !== "newer")) throw cause
    const kind = cause.reason === "newer" ? "newer" : "damaged"
    const aside = `${file}.${kind}-${now()}`
    recovered("tables", kind === "newer"
      ? `a newer version of kOS wrote them (${cause.detail}); they are kept as ${aside} and rebuilt from the logs`
      : `they are damaged (${cause.message}); they are kept as ${aside} and rebuilt from the logs`)
    await rename(file, aside)
    for (const suffix of ["-wal", "-shm"]) await rename(file + suffix, aside + suffix).catch(() => undefined)
    await dropAsides(directory, `tables.db.${kind}-`)
    return new Tables(file)
  }
}

const dropAsides = async (directory: string, beginning: string): Promise<void> => {
  const moments = (await readdir(directory)).filter((name) => name.startsWith(beginning)).map((name) => Number(name.slice(beginning.length))).filter(Number.isSafeInteger)
  for (const ms of moments.sort((a, b) => b - a).slice(asideMax)) {
    for (const suffix of ["", "-wal", "-shm"]) await rm(`${directory}/${beginning}${ms}${suffix}`, { force: true })
  }
}

const promise = <A>(run: () => Promise<A>): Effect.Effect<A, Error> =>
  Effect.tryPromise({ try: run, catch: (cause) => cause instanceof Error ? cause : new Error(String(cause)) })
