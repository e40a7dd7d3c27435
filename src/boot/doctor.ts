/** `kos doctor`: looks for what is wrong and says what to do about it. `--rebuild` folds everything anew and compares. */
import { Context, Effect, Layer, Scope, Exit } from "effect"
import { stat, rm } from "node:fs/promises"
import { clockEpochMs } from "../codec/clock.ts"
import type { OutputOf } from "../api/operations/table.ts"
import { DocumentWorker } from "../projections/documents/pool.ts"
import { Members } from "../projections/members.ts"
import { Runner } from "../projections/runner.ts"
import { wipeDatabase } from "../projections/tables/database.ts"
import type { Quarantined } from "../projections/tables/quarantine.ts"
import { Tables } from "../projections/tables/tables.ts"
import type { MeshNode } from "./mesh-node.ts"

type Report = OutputOf<"doctor">
type Finding = Report["findings"][number]
type Rebuild = NonNullable<Report["rebuild"]>

/** A clock that others are ahead of or behind by more than this is told, milliseconds. */
const clockOffMs = 24 * 3_600_000

export const examine = async (node: MeshNode, now: () => number, faults: ReadonlyArray<string>, freeBytesMin: number): Promise<ReadonlyArray<Finding>> => {
  const findings: Array<Finding> = []
  const say = (about: string, level: Finding["level"], detail: string, fix?: string) => findings.push({ about, level, detail, ...(fix === undefined ? {} : { fix }) })
  clock(node, now(), say)
  const free = await node.diskFree()
  if (free < freeBytesMin) say("disk", "fault", `only ${Math.round(free / 1_048_576)} MiB are free; commands are refused below 16 MiB`, "free some space; nothing needs a restart")
  else say("disk", free < 1_073_741_824 ? "warning" : "good", `${Math.round(free / 1_048_576)} MiB are free`)
  log(node, say)
  const broken = node.tables.integrity()
  if (broken.length === 0) say("tables", "good", "the tables are whole")
  else say("tables", "fault", broken[0] ?? "the tables are damaged", "kos doctor --rebuild")
  for (const path of ["keys/device", `mesh/${node.mesh.slice(0, 16)}/keys/mesh`]) {
    const { mode } = await stat(`${node.vault.home}/${path}`)
    if ((mode & 0o077) !== 0) say("permissions", "fault", `${path} can be read by others (mode ${(mode & 0o777).toString(8)})`, `chmod 600 ${node.vault.home}/${path}`)
  }
  const carriers = node.swarm.carriers()
  if (node.swarm.mode() === "isolated") say("network", "note", "this node is isolated: it opens no connection", "kos mesh mode joined")
  else if (carriers.length === 0) say("network", "warning", "no carrier is on", "kos config set network.lan true")
  for (const carrier of carriers) say("network", carrier.listening ? "good" : "warning", `${carrier.name}: ${carrier.detail}`)
  for (const doc of node.tables.documents.unwell()) {
    if (doc.stalled !== undefined) say("documents", "fault", `${doc.id} stalls: ${doc.stalled}`, "restart the node; if it stalls again, its last changes are hostile or damaged")
    else say("documents", "warning", `${doc.id} is quarantined: ${doc.faults[0] ?? ""}`, doc.id.startsWith("config/") ? "kos config conflicts, then set the values right" : "set the values right")
  }
  const { held } = node.tables.documents.totals()
  if (held > 0) say("documents", "note", `${held} changes stand beyond the cut-off of their log and are held: they count if somebody in good standing builds on them`)
  const sealed = node.tables.sealed.count()
  if (sealed > 0) say("keys", "note", `${sealed} blocks are sealed under keys that this node does not have (epochs ${[...node.tables.sealed.byEpoch().keys()].slice(0, 8).join(", ")}); they are kept and passed on`)
  const quarantined = node.tables.quarantine.list(3)
  if (quarantined.length > 0) {
    const [entry] = quarantined
    say("quarantine", "warning", `${node.tables.quarantine.count()} frames or events are quarantined; the newest is of ${node.members.nameOf(entry?.device ?? "")} at ${placeOf(entry)}: ${entry?.why ?? ""}`, "kos event verify")
  }
  for (const { type, events } of node.tables.events.unknownTypes()) say("versions", "note", `${events} events of type ${type} come from a newer version; they are kept and forwarded`)
  for (const fault of faults) say("settings", "warning", fault)
  return findings
}

const placeOf = (entry: Quarantined | undefined): string =>
  entry === undefined ? "" : `${entry.log}/${entry.block}${entry.offset === undefined ? "" : `.${entry.offset}`}`

const clock = (node: MeshNode, now: number, say: (about: string, level: Finding["level"], detail: string, fix?: string) => void): void => {
  const fix = "set the clock, for example with timedatectl; order and merging are not affected"
  if (now < clockEpochMs) return say("clock", "warning", `this machine's clock says ${new Date(Math.max(0, now)).getUTCFullYear()}, before kOS existed`, fix)
  const newest = node.tables.events.query({ since: now + clockOffMs, order: "newest", limit: 10_000 }).events
  const ahead = new Set(newest.map((row) => node.members.deviceOf(row.log)).filter((device) => device !== undefined))
  if (ahead.has(node.vault.deviceId)) return say("clock", "warning", "this node's own events carry times more than a day ahead of its clock now: the clock was or is wrong", fix)
  for (const device of ahead) say("clock", "note", `the clock of ${node.members.nameOf(device)} is more than a day ahead of this one; order and merging are not affected`)
  if (ahead.size === 0) say("clock", "good", "the clock agrees with the times of events")
}

const log = (node: MeshNode, say: (about: string, level: Finding["level"], detail: string, fix?: string) => void): void => {
  const { report, journal, diverged, tables, runner } = node
  if (report.succession !== undefined) say("log", report.succession.finding === "Copied" ? "note" : "warning", report.succession.finding === "Copied"
    ? `this directory is a copy: log ${report.succession.log.slice(0, 8)} is left to the original, ${report.succession.successor.slice(0, 8)} is written here`
    : `log ${report.succession.log.slice(0, 8)} was closed at ${report.succession.length} of ${report.succession.expected} blocks: ${report.succession.why}`)
  if (report.lastRun?.unclean === true) say("log", "note", "the last run ended without a stop; nothing that was acknowledged is missing")
  for (const [key, detail] of diverged) say("log", "fault", `log ${key.slice(0, 8)} has two histories: ${detail}`, "kos event verify")
  for (const { log: key, length } of tables.witnesses.contradictions()) say("log", "fault", `members witnessed different histories of log ${key.slice(0, 8)} at ${length} blocks`, "kos event verify")
  if (runner.fault !== undefined) say("log", "fault", `nothing is folded at the moment: ${runner.fault}`)
  if (diverged.size === 0 && runner.fault === undefined) say("log", "good", `this node's log has ${journal.length()} blocks and is written`)
}

/** Logs of which more was folded than is held now: what came of those blocks cannot be rebuilt. */
const lostBlocks = ({ tables, journal }: MeshNode): ReadonlyArray<string> => tables.cursors.all().flatMap(({ log, folded }) => {
  const length = log === journal.log() ? journal.length() : tables.heads.get(log)?.length ?? 0
  return folded > length ? [`${folded - length} blocks of log ${log.slice(0, 8)} were folded and are held no more`] : []
})

/** How often a rebuild is compared again because events came in meanwhile. */
const comparesMax = 5

/** Folds all logs into a second database and compares what both say. The live one is not touched. */
export const rebuild = async (
  node: MeshNode, now: () => number, progress: (done: number, total: number, what: string) => void
): Promise<Rebuild> => {
  const began = now()
  const file = `${node.directory}/rebuild.db`
  wipeDatabase(file)
  const scope = Effect.runSync(Scope.make())
  const tables = new Tables(file)
  try {
    const worker = Context.get(await Effect.runPromise(Layer.buildWithScope(Layer.fresh(DocumentWorker.layer), scope)), DocumentWorker)
    const members = new Members(node.mesh, tables)
    // Known beforehand, as for whoever comes in: what makes a log known may stand in that log only, when a seeder left and came again.
    tables.transaction(() => {
      for (const { bytes } of node.members.operations()) members.take(bytes, "met")
    })
    const runner = new Runner({
      tables, members, worker, keyring: () => node.keyring, now, ownDevice: node.vault.deviceId, notice: () => undefined, observe: () => undefined,
      open: (key) => node.store.openHeld(key), ownLog: () => ({ log: node.journal.log(), length: node.journal.length() })
    })
    const total = node.tables.events.totals().events
    const stop = runner.onFold(({ last }) => progress(last, Math.max(last, total), "rebuilding"))
    let differences: ReadonlyArray<string> = ["events kept coming in while it was compared"]
    for (let attempt = 0; attempt < comparesMax; attempt++) {
      await node.runner.idle()
      for (const head of node.tables.heads.all()) tables.heads.grew(head.log, head.length)
      runner.wake()
      await runner.idle()
      // Logs that an operation made known are folded now.
      runner.wake()
      await runner.idle()
      const lost = lostBlocks(node)
      if (lost.length > 0) {
        differences = lost
        break
      }
      const [live, again] = [node.tables.fingerprint(), tables.fingerprint()]
      if (live.cursors !== again.cursors) continue
      const parts = ["events", "commands", "witnesses", "operations", "documents", "sealed", "cutoffs"] as const
      differences = parts.filter((part) => live[part] !== again[part]).map((part) => `${part} differ`)
      break
    }
    stop()
    await runner.stop()
    const totals = tables.documents.totals()
    return { equal: differences.length === 0, events: tables.events.totals().events, documents: totals.documents, rows: tables.events.totals().events + totals.documents, ms: Math.max(0, Math.round(now() - began)), differences }
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    tables.close()
    wipeDatabase(file)
    await rm(file, { force: true })
  }
}
