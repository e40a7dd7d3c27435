/**
 * Reactors: what the node does by itself when something happened. They act through dispatch like everybody, and doing a thing twice
 * does no harm.
 *
 * - *Checkpoints*: every so many events or minutes, what this node verified of the logs that grew: every member witnesses the others.
 *   Only events other than checkpoints and the like count, so that two idle nodes do not witness each other's witnessing for ever.
 * - *Peers*: who came and who went, gathered for half a minute.
 * - *Health*: a measurement at each interval.
 * - *Key epochs*: the key in force is rotated and shared as the members change (`epoch-reactor.ts`).
 * - *Snapshots*: a document with many changes since its last save is saved anew.
 * - *Invites*: on the nodes of admins and owners the carriers look out for candidates while an invite is open that the node may redeem; for an own
 *   one also for a day after, so that whoever comes with a used, expired or withdrawn one is told which.
 */
import { Effect, type Scope } from "effect"
import { toHex } from "../codec/bytes.ts"
import { actsOn, manages } from "../codec/membership/rules.ts"
import { rankOf } from "../codec/operation.ts"
import type { Wanted } from "../commands/dispatch.ts"
import { eventTypes } from "../events/catalogue.ts"
import { settingInteger, settingMs, settingWindow } from "../projections/families/config-view.ts"
import { windowHolds } from "../projections/families/values.ts"
import type { DocId } from "../projections/documents/types.ts"
import type { InviteRecord } from "../projections/membership.ts"
import { startEpochReactor } from "./epoch-reactor.ts"
import { startApprovalReactor } from "./approval-reactor.ts"
import { keepToDecisions } from "./evidence.ts"
import type { MeshNode } from "./mesh-node.ts"
import { startSecretReactor } from "./secret-reactor.ts"
import type { SettingsView } from "./settings-view.ts"

/** Logs named in one checkpoint. */
export const checkpointLogsMax = 1_000
/** Documents that wait to be saved; more are found again by their next change. */
export const snapshotsWaitingMax = 10_000
const peersEveryMs = 30_000
/** Invites that are looked out for, own ones first, then the newest: a node announces few topics on the local network (`dns-wire.ts`). */
export const openInvitesMax = 14
/** Own invites that are good no more and still answered, the newest of them, and how long after their end by the clock, milliseconds. */
export const endedInvitesMax = 4
const endedInvitesMs = 24 * 3_600_000

export interface ReactorOptions {
  readonly node: MeshNode
  readonly settings: SettingsView
  readonly now: () => number
  /** Sync is paused by a person; the window must not resume it. */
  readonly pausedByHand: () => boolean
  /** Another history of this node's own log stands: the node is to be opened again, with a new log. */
  readonly overruled: () => void
  readonly notice: (level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
}

export const startReactors = (options: ReactorOptions): Effect.Effect<void, never, Scope.Scope> => Effect.gen(function*() {
  const { node, notice } = options
  const opened = new Set<string>()
  const every = (name: string, ms: () => number, work: Effect.Effect<void, unknown>) => Effect.sleep("1 millis").pipe(
    Effect.andThen(Effect.forever(Effect.suspend(() => Effect.sleep(ms())).pipe(
      Effect.andThen(work),
      Effect.catchCause((cause) => Effect.sync(() => notice("warn", `${name} did not work`, { cause: String(cause).slice(0, 300) })))
    ))),
    Effect.forkScoped
  )
  yield* startEpochReactor(options)
  yield* startApprovalReactor(options)
  yield* startSecretReactor(options)
  yield* keepToDecisions(node, options.overruled, notice)
  yield* checkpoints(options)
  yield* snapshots(options)
  yield* every("peers", () => peersEveryMs, Effect.suspend(() => recordPeers(node)))
  yield* every("health", () => settingMs(options.settings.get(), "health.interval"), Effect.suspend(() => recordHealth(options)))
  yield* every("window", () => 30_000, Effect.sync(() => keepWindow(options)))
  yield* every("invites", () => 20_000, Effect.promise(() => keepInvites(options, opened)))
  const stop = node.members.onChange(() => void keepInvites(options, opened))
  yield* Effect.addFinalizer(() => Effect.sync(stop))
  yield* Effect.promise(() => keepInvites(options, opened))
})

const checkpoints = ({ node, settings, notice }: ReactorOptions): Effect.Effect<void, never, Scope.Scope> => Effect.gen(function*() {
  const { tables, members, runner, dispatch, store, journal } = node
  const witnessed = new Map<string, number>()
  for (const { log } of members.logs()) {
    const own = tables.witnesses.of(log).filter((witness) => witness.device === node.vault.deviceId)
    witnessed.set(log, Math.max(0, ...own.map((witness) => witness.length)))
  }
  let since = 0
  let making = false
  const make = async () => {
    if (making || since === 0) return
    making = true
    since = 0
    try {
      const logs: Array<{ readonly log: string; readonly fork: number; readonly length: number; readonly treeHash: string }> = []
      for (const { log } of members.logs()) {
        if (log === journal.log() || logs.length >= checkpointLogsMax) continue
        const length = tables.cursors.folded(log)
        if (length <= (witnessed.get(log) ?? 0)) continue
        const held = await store.session(log)
        try {
          // Blocks that a power cut took are fetched again first; asking for their hash would wait for that.
          if (held.contiguousLength >= length) logs.push({ log, fork: held.fork, length, treeHash: toHex(await held.treeHash(length)) })
        } finally {
          await held.close()
        }
      }
      if (logs.length === 0) return
      await Effect.runPromise(dispatch.record([{ type: "checkpoint.made/1", subject: "logs", body: { logs } }]))
      for (const { log, length } of logs) witnessed.set(log, length)
    } catch (cause) {
      notice("warn", "the checkpoint could not be made", { cause: cause instanceof Error ? cause.message : String(cause) })
    } finally {
      making = false
    }
  }
  const stop = runner.onFold(({ first, last }) => {
    if (last === 0) return
    const page = tables.events.query({ arrivalMin: first, arrivalMax: last, order: "oldest", limit: 10_000 })
    since += page.events.filter((row) => eventTypes.get(row.type)?.durability !== "batched").length
    if (since >= settingInteger(settings.get(), "checkpoint.events")) void make()
  })
  yield* Effect.addFinalizer(() => Effect.sync(stop))
  yield* Effect.forever(Effect.suspend(() => Effect.sleep(settingMs(settings.get(), "checkpoint.interval"))).pipe(
    Effect.andThen(Effect.promise(make))
  )).pipe(Effect.forkScoped)
})

const snapshots = ({ node, settings, notice }: ReactorOptions): Effect.Effect<void, never, Scope.Scope> => Effect.gen(function*() {
  const { tables, runner, dispatch, worker } = node
  const waiting = new Set<DocId>()
  let wake: (() => void) | undefined
  const stop = runner.onFold(({ documents }) => {
    for (const doc of documents) {
      if (waiting.size >= snapshotsWaitingMax || tables.documents.changesSinceSnapshot(doc) < settingInteger(settings.get(), "snapshot.changes")) continue
      waiting.add(doc)
      wake?.()
    }
  })
  yield* Effect.addFinalizer(() => Effect.sync(stop))
  const save = (doc: DocId) => dispatch.withDocument(doc, Effect.gen(function*() {
    const through = tables.documents.lastChange(doc)
    const saved = yield* worker.save(doc, (id) => tables.documents.load(id))
    if (saved !== undefined) tables.documents.putSnapshot(doc, saved.snapshot, saved.gate, through)
  })).pipe(Effect.catchCause((cause) => Effect.sync(() => notice("warn", `${doc} could not be saved anew`, { cause: String(cause).slice(0, 300) }))))
  yield* Effect.forever(Effect.gen(function*() {
    const [doc] = waiting
    if (doc === undefined) {
      yield* Effect.callback<void>((resume) => {
        wake = () => resume(Effect.void)
        if (waiting.size > 0) wake()
        return Effect.sync(() => { wake = undefined })
      })
      return
    }
    waiting.delete(doc)
    yield* save(doc)
  })).pipe(Effect.forkScoped)
})

const recordPeers = (node: MeshNode): Effect.Effect<void, unknown> => {
  const touched = node.takeTouched()
  if (touched.length === 0) return Effect.void
  const of = (up: boolean) => touched.filter((touch) => touch.up === up).map(({ device, carrier }) => ({ device, carrier })).slice(0, 256)
  return node.dispatch.record([{ type: "peers.changed/1", subject: "peers", body: { joined: of(true), left: of(false) } }])
}

const recordHealth = ({ node, now }: ReactorOptions): Effect.Effect<void, unknown> => Effect.gen(function*() {
  const diskFreeBytes = yield* Effect.promise(() => node.diskFree())
  const event: Wanted = {
    type: "node.measured/1", subject: "node",
    body: {
      uptimeSeconds: Math.max(0, Math.round((now() - node.startedMs) / 1_000)), memoryBytes: process.memoryUsage.rss(), diskFreeBytes: Math.round(diskFreeBytes),
      peers: node.swarm.sessions().filter((session) => session.phase === "ready").length, events: node.tables.events.totals().events
    }
  }
  yield* node.dispatch.record([event])
})

/** Outside its window sync rests; a pause by a person is left alone. */
const keepWindow = ({ node, settings, now, pausedByHand }: ReactorOptions): void => {
  const date = new Date(now())
  const open = windowHolds(settingWindow(settings.get(), "sync.window"), date.getHours() * 60 + date.getMinutes())
  if (pausedByHand()) return
  if (!open && !node.swarm.paused()) node.swarm.pause()
  if (open && node.swarm.paused()) node.swarm.resume()
}

const keepInvites = async ({ node, now, notice }: ReactorOptions, opened: Set<string>): Promise<void> => {
  try {
    const { members, invites } = node.members.view()
    const me = members.get(node.vault.deviceId)
    const isMine = (record: InviteRecord) => record.by === node.vault.deviceId
    // A person confirms admins and owners, at the node that made the invite.
    const mayRedeem = (record: InviteRecord) => me?.standing === "member" && manages(me.role) && actsOn(me.role, record.role) && (isMine(record) || rankOf(record.role) < rankOf("admin"))
    const isGood = (record: InviteRecord) => !record.withdrawn && record.used < record.uses && now() < record.expiresMs
    const redeemable = [...invites.values()].filter(mayRedeem).toSorted((a, b) => Number(isMine(b)) - Number(isMine(a)) || b.issuedMs - a.issuedMs)
    const ended = redeemable.filter((record) => isMine(record) && !isGood(record) && now() < record.expiresMs + endedInvitesMs).slice(0, endedInvitesMax)
    const wanted = new Set([...redeemable.filter(isGood).slice(0, openInvitesMax - ended.length), ...ended].map(({ invite }) => invite))
    for (const invite of [...opened]) {
      if (wanted.has(invite)) continue
      opened.delete(invite)
      await node.swarm.closeInvite(Buffer.from(invite, "hex"))
    }
    for (const invite of wanted) {
      if (opened.has(invite)) continue
      opened.add(invite)
      await node.swarm.openInvite(Buffer.from(invite, "hex"))
    }
  } catch (cause) {
    notice("warn", "an invite's topic could not be joined or left", { cause: cause instanceof Error ? cause.message : String(cause) })
  }
}
