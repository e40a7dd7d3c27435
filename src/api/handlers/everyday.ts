import { Effect, Queue, Stream } from "effect"
import { readdir, stat } from "node:fs/promises"
import { settingBytes } from "../../projections/families/config-view.ts"
import { rankOf } from "../../codec/operation.ts"
import { findMember } from "../../projections/membership.ts"
import { secretsReadableBy } from "../../projections/secrets.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { Handlers, OutputOf } from "../operations/table.ts"
import { twinOf } from "./key.ts"
import { meetingWarnings } from "./meeting.ts"
import { modeOf, sizeOf } from "./mesh.ts"
import { refusedValues } from "./approval.ts"
import { peerStates } from "./peers.ts"
import { momentOf, refuse, timeText } from "./reading.ts"
import { until } from "./sync.ts"

type Names = "status" | "doctor" | "logs" | "wait"
type Status = OutputOf<"status">

/** Log lines that wait for a slow reader of `logs -f`; older ones are dropped. */
const linesMax = 1_024

const rank = { debug: 0, info: 1, warn: 2, error: 3 } as const

export const everydayHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  status: () => Effect.promise(() => statusOf(daemon)),

  doctor: ({ rebuild }, call) => daemon.doctor(rebuild, call.progress),

  logs: (input) => Stream.unwrap(Effect.gen(function*() {
    const since = input.since === undefined ? undefined : momentOf(input.since, daemon.now())
    if (input.since !== undefined && since === undefined) return yield* refuse("usage", `${input.since} is neither a time nor a duration such as 2h`)
    const fits = (line: OutputOf<"logs">) => rank[line.level] >= rank[input.level ?? "debug"] && (since === undefined || Date.parse(line.at) >= since)
    const past = Stream.fromIterable((yield* Effect.promise(() => daemon.logLines(100_000))).filter(fits).slice(-input.limit))
    if (!input.follow) return past
    const coming = Stream.callback<OutputOf<"logs">>((queue) => Effect.acquireRelease(
      Effect.sync(() => daemon.onLogLine((line) => {
        if (fits(line)) Queue.offerUnsafe(queue, line)
      })),
      (stop) => Effect.sync(stop)
    ), { bufferSize: linesMax, strategy: "sliding" })
    return Stream.concat(past, coming)
  })),

  wait: ({ condition, timeout }) => Effect.gen(function*() {
    const began = daemon.now()
    const met = (detail: string) => ({ condition, met: true as const, waitedMs: Math.max(0, Math.round(daemon.now() - began)), detail })
    const over = () => refuse("timeout", `${condition} did not come about within ${timeout} seconds`, "kos sync status")
    if (condition === "ready") {
      const held = yield* until(daemon, timeout * 1_000, () => daemon.mesh().runner.behind() === 0 && daemon.mesh().runner.fault === undefined)
      return held ? met("the log is writable and everything held is folded") : yield* over()
    }
    if (condition === "synced") {
      const held = yield* until(daemon, timeout * 1_000, () => isSynced(daemon.mesh()))
      return held ? met("in step with every peer in touch") : yield* over()
    }
    const name = condition.slice("peer=".length)
    if (findMember(daemon.mesh().members.view(), name) === undefined) return yield* refuse("not-found", `no node of this mesh is called ${name}`, "kos node list")
    const held = yield* until(daemon, timeout * 1_000, () => {
      const mesh = daemon.mesh()
      const member = findMember(mesh.members.view(), name)
      return mesh.swarm.sessions().some((session) => session.device === member?.device && session.phase === "ready")
    })
    return held ? met(`in touch with ${name}`) : yield* over()
  })
})

/** In touch with somebody, or alone, and nothing that a peer told of is missing here or not folded. */
export const isSynced = (mesh: MeshView): boolean => {
  const others = peerStates(mesh)
  if (mesh.runner.behind() > 0) return false
  if (others.size === 0) return true
  const sessions = mesh.swarm.sessions().filter((session) => session.phase === "ready")
  return sessions.length > 0 && sessions.every((session) => session.caughtUp && session.ahead === 0) &&
    [...others.values()].filter((peer) => peer.inTouch).every((peer) => peer.behind === 0 && peer.waiting === 0)
}

const statusOf = async (daemon: DaemonView): Promise<Status> => {
  const mesh = daemon.mesh()
  const { tables, members, vault, journal } = mesh
  const view = members.view()
  const peers = [...peerStates(mesh).values()]
  const inTouch = peers.filter((peer) => peer.inTouch).length + 1
  const totals = tables.events.totals()
  const documents = tables.documents.totals()
  const unwell = tables.documents.unwell().map(({ id }) => id)
  const quarantined = tables.quarantine.list(10_000)
  const unclean = tables.events.query({ types: ["node.found-unclean/1"], logs: ownLogs(mesh), order: "newest", limit: 1 }).events[0]
  const free = await mesh.diskFree()
  const conflicts = tables.documents.conflicts().reduce((sum, entry) => sum + entry.conflicts.length, 0)
  const warnings = warningsOf(daemon, mesh, free, unwell)
  const frames = quarantined.filter((entry) => entry.offset === undefined).length
  const ready = mesh.runner.fault === undefined && mesh.runner.behind() === 0
  const state: Status["state"] = mesh.runner.fault !== undefined || mesh.diverged.size > 0 ? "degraded"
    : warnings.length > 0 || conflicts > 0 || unwell.length > 0 || tables.quarantine.count() > 0 ? "attention" : "well"
  const mode = modeOf(daemon)
  return {
    sentence: sentenceOf({ state, warnings, conflicts, mode, members: peers.length + 1, inTouch, peers, quarantine: tables.quarantine.count() }),
    state,
    node: {
      name: members.nameOf(vault.deviceId), device: vault.deviceId, log: journal.log(), home: daemon.home, version: daemon.version, pid: process.pid,
      startedAt: timeText(mesh.startedMs), ready, mode
    },
    mesh: { id: mesh.mesh, name: view.name, members: peers.length + 1, inTouch }, ...othersOf(daemon, mesh),
    peers: peers.map(({ waitingSince: _, carrier, remote, lastSeen, ...peer }) => ({
      ...peer, ...(carrier === undefined ? {} : { carrier }), ...(remote === undefined ? {} : { remote }), ...(lastSeen === undefined ? {} : { lastSeen })
    })),
    events: { total: totals.events, own: ownLogs(mesh).reduce((sum, log) => sum + tables.events.from(log, 0).events, 0), newestArrival: totals.lastArrival },
    conflicts,
    quarantine: { frames, events: tables.quarantine.count() - frames, documents: unwell },
    unknownTypes: tables.events.unknownTypes().map(({ type, events }) => ({ type, count: events })),
    uncleanStops: { count: countOf(mesh, "node.found-unclean/1"), ...(unclean === undefined ? {} : { last: timeText(unclean.ms) }) },
    refusedCommands: countOf(mesh, "command.refused/1", mesh.startedMs),
    disk: { usedBytes: await usedBytes(daemon.home), freeBytes: free },
    sync: { paused: mesh.swarm.paused() },
    warnings: documents.waiting > 0 ? [...warnings, `${documents.waiting} changes wait for others that have not arrived`] : warnings,
    next: nextOf({ conflicts, unwell, peers: peers.length, mode, warnings: warnings.length })
  }
}

/** One line for each other mesh of this home. */
const othersOf = (daemon: DaemonView, here: MeshView): Pick<Status, "others"> => {
  const others = daemon.meshes().filter(({ id }) => id !== here.mesh)
  return others.length === 0 ? {} : { others: others.map(({ id, name, isDefault, mesh, fault }) => ({ name, id, default: isDefault, ...sizeOf(mesh), ...(fault === undefined ? {} : { fault }) })) }
}

const ownLogs = (mesh: MeshView): ReadonlyArray<string> =>
  mesh.members.logs().filter(({ device }) => device === mesh.vault.deviceId).map(({ log }) => log)

/** Own events of one type, of this run or of all time. */
const countOf = (mesh: MeshView, type: string, since?: number): number =>
  mesh.tables.events.query({ types: [type], logs: ownLogs(mesh), order: "newest", limit: 10_000, ...(since === undefined ? {} : { since }) }).events.length

/** Bytes that the files of the home take on the disk. */
const usedBytes = async (home: string): Promise<number> => {
  const names = await readdir(home, { recursive: true })
  const sizes = await Promise.all(names.map((name) => stat(`${home}/${name}`).then(({ blocks }) => blocks * 512, () => 0)))
  return sizes.reduce((sum, size) => sum + size, 0)
}

const warningsOf = (daemon: DaemonView, mesh: MeshView, free: number, unwell: ReadonlyArray<string>): ReadonlyArray<string> => {
  const warnings: Array<string> = [...meetingWarnings(daemon, mesh)]
  if (mesh.runner.fault !== undefined) warnings.push(`nothing is folded at the moment: ${mesh.runner.fault}`)
  warnings.push(...evidenceWarnings(mesh), ...trustWarnings(daemon, mesh))
  for (const { log, length } of mesh.tables.witnesses.contradictions()) warnings.push(`members witnessed different histories of log ${log.slice(0, 8)} at ${length} blocks`)
  const twin = twinOf(mesh)
  if (twin !== undefined) warnings.push(twin)
  if (free < settingBytes(daemon.config(), "disk.free.min")) warnings.push(`only ${Math.round(free / 1_048_576)} MiB are free on the disk`)
  for (const doc of unwell.slice(0, 3)) warnings.push(`the document ${doc} is quarantined; its last valid state is in force`)
  warnings.push(...daemon.config().faults.slice(0, 3))
  return warnings
}

/** What waits for a person: values that may not be in force, proposals, secrets that somebody who left could read. */
const trustWarnings = (daemon: DaemonView, mesh: MeshView): ReadonlyArray<string> => {
  const { members, vault, dispatch } = mesh
  const refused = refusedValues(mesh)
  const me = members.view().members.get(vault.deviceId)
  const waiting = dispatch.policy.proposals(daemon.now()).filter(({ state, device, by, given }) => state === "open" && device !== vault.deviceId &&
    me !== undefined && rankOf(me.role) >= rankOf(by) && !given.some((word) => word.device === vault.deviceId))
  const gone = [...members.view().members.values()].filter((member) => member.standing === "revoked")
  const secrets = new Set(gone.flatMap((member) => [...secretsReadableBy(mesh, member.device)]))
  return [
    ...refused.slice(0, 3).map(({ doc, shape, refused: why }) => `${doc} ${shape.path} is not in force: ${why}`),
    ...(waiting.length === 0 ? [] : [`${waiting.length === 1 ? "a change waits" : `${waiting.length} changes wait`} for this node's word: kos approval list`]),
    ...(secrets.size === 0 ? [] : [`rotate what an expelled node could read: ${[...secrets].slice(0, 5).join(", ")}`])
  ]
}

/** Logs that were written twice, and what it takes to go on. */
const evidenceWarnings = (mesh: MeshView): ReadonlyArray<string> => {
  const { members } = mesh
  const evidence = members.evidence()
  const proven = evidence.filter(({ decided }) => decided === undefined).map(({ accused, length }) => {
    const device = members.deviceOf(accused)
    const whose = device === mesh.vault.deviceId ? "this node's log" : `the log of ${device === undefined ? accused.slice(0, 8) : members.nameOf(device)}`
    return `${whose} was written twice from block ${length - 1} on; nothing of it counts from there until an admin decides: kos node clear ${device === undefined ? "NODE" : members.nameOf(device)}`
  })
  const hearsay = [...mesh.diverged].filter(([log]) => !evidence.some(({ accused }) => accused === log))
    .map(([log, detail]) => `a peer shows another history of log ${log.slice(0, 8)} and no proof: ${detail}`)
  return [...proven, ...hearsay]
}

interface Facts {
  readonly state: Status["state"]
  readonly warnings: ReadonlyArray<string>
  readonly conflicts: number
  readonly mode: "isolated" | "joined"
  readonly members: number
  readonly inTouch: number
  readonly quarantine: number
  readonly peers: ReadonlyArray<{ readonly name: string; readonly waiting: number }>
}

const sentenceOf = ({ state, warnings, conflicts, mode, members, inTouch, peers, quarantine }: Facts): string => {
  const first = state === "well" ? "All well."
    : warnings[0] !== undefined ? `${warnings[0].charAt(0).toUpperCase()}${warnings[0].slice(1)}.`
    : conflicts > 0 ? `${conflicts === 1 ? "One conflict waits" : `${conflicts} conflicts wait`} for a decision.`
    : `${quarantine} ${quarantine === 1 ? "thing is" : "things are"} in quarantine.`
  if (members === 1) return `${first} This node is a mesh of its own.`
  const touch = mode === "isolated" ? `Isolated from ${members - 1} other ${members === 2 ? "node" : "nodes"}` : `${inTouch} of ${members} nodes in touch`
  const waiting = peers.filter((peer) => peer.waiting > 0).toSorted((a, b) => b.waiting - a.waiting)
  const [most] = waiting
  if (most === undefined) return `${first} ${touch}; everybody has everything.`
  const rest = waiting.length > 1 ? ` and ${waiting.length - 1} more` : ""
  return `${first} ${touch}; ${most.waiting} ${most.waiting === 1 ? "event" : "events"} waiting for \`${most.name}\`${rest}.`
}

const nextOf = (facts: { readonly conflicts: number; readonly unwell: ReadonlyArray<string>; readonly peers: number; readonly mode: string; readonly warnings: number }): string =>
  facts.conflicts > 0 ? "kos config conflicts --all"
    : facts.unwell.length > 0 ? "kos config validate"
    : facts.warnings > 0 ? "kos doctor"
    : facts.peers === 0 ? "kos invite create"
    : facts.mode === "isolated" ? "kos mesh mode joined"
    : "kos events -f"
