/**
 * A rehearsal: a new version of kOS makes its own of this node's data, shut in, and both are compared. Rules R7.1 and R7.2.
 *
 * **The copy.** Nothing is copied on the disk: this daemon reads its own logs, as a rebuild does, and hands the blocks over a pipe, sealed as they are. Copying the store was weighed and left:
 * the files of a RocksDB in use are no consistent view by themselves, a copied store is refused by its own guard, its keys stand in clear, and the new version would have to open it with the
 * right to write. The pipe is isolated by construction and needs no more of the new version than that it can fold. Measured with 20,000 events in 2,645 blocks: copying takes 0.1 s and 21 MB, handing
 * the blocks over as good as nothing; what takes time either way is the folding, 10 of 14 s.
 *
 * **The keys.** The new version gets the keys of epochs that frames here name, over the same pipe, and neither the device key, nor the log's, nor a secret. It holds them in memory. It could
 * read all of this after the switch anyway; while it rehearses it can tell nobody.
 *
 * **How it goes.** Wait until the tables are steady → digest of the live tables and the cursors that they stand at, in one turn of the loop → shut in and begin → all blocks below the cursors → its
 * digest, line by line, decoded and bounded → the values of documents that differ → compare → end. What comes in meanwhile is no part of it on either side.
 *
 * **Invariants.** The new version's words are believed as to what it makes of the data, never as to what may be done. Whatever it does (prints without end, forks, hangs, fills memory or
 * disk, answers nonsense), the answer is a report with `fault`, this daemon goes on, and of the scratch directory nothing is left.
 *
 * **Tricky cases.**
 * - *The running version was itself updated* and its tables still call events unknown that it knows by now: shown as what every newer version brings.
 * - *The new version does not know this rehearsal* (it is older): it ends before it says hello, and the report says so.
 * - *It reads slower than we write:* the pipe holds us back; its time is what bounds it.
 */
import { Result } from "effect"
import { existsSync } from "node:fs"
import type { MeshView } from "../api/node.ts"
import { frameHeader } from "../codec/frame.ts"
import { compareDigests, differencesMax, differingDocuments, askedMax, plain } from "../updates/rehearsal/compare.ts"
import { confinedLimits, type ConfinedLimits, type ConfinedProcess, removeHostile, startConfined } from "../updates/rehearsal/confined-process.ts"
import { decodeLine, type Digest, gatherDigest, type Line, lineBytesMax, linesMax, type QuarantinedLine } from "../updates/rehearsal/digest.ts"
import { findIsolation, type IsolationLevel, isolationLevels, nodeOfTree } from "../updates/rehearsal/isolate.ts"
import { encodeRecord, readLines, rehearsalVersion } from "../updates/rehearsal/wire.ts"
import type { RehearsalReport, Slot } from "../updates/ports.ts"
import { makeDirectory } from "../vault/files.ts"
import { digestOf, documentJson } from "./digest.ts"

/** Bytes of a digest and the values asked for. */
const answerBytesMax = 64 * 1024 * 1024
/** Blocks read from one log in one go. */
const windowBlocks = 128
/** How long it may take to end after its stdin did, milliseconds. */
const endMsMax = 10_000
const logLinesMax = 50
/** Its time: the limit, and this for each event, milliseconds, so that a node with a long history is not refused for it; an hour at most. */
const eventMs = 5
const msMaxMax = 3_600_000
const eventsLookedAtMax = 10_000

export interface RehearseOptions {
  readonly mesh: Pick<MeshView, "mesh" | "vault" | "keyring" | "store" | "tables" | "members" | "journal" | "runner">
  readonly slot: Pick<Slot, "path" | "version">
  /** Differences that the release announces; `custom.migrations`. */
  readonly migrations: ReadonlyArray<string>
  /** A directory of its own below the home; made, and removed in the end. */
  readonly scratch: string
  readonly signal: AbortSignal
  readonly notice: (level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
  readonly now: () => number
  readonly limits?: Partial<ConfinedLimits>
  /** Ways of shutting in that may be taken. */
  readonly levels?: ReadonlyArray<IsolationLevel>
  /** Directories that the tree leads to and that may be read as well. */
  readonly read?: ReadonlyArray<string>
  readonly progress?: (done: number, total: number, what: string) => void
}

export interface Rehearsed extends RehearsalReport {
  /** Differences that every newer version brings, or that the release announces. Not among `differences`. */
  readonly expected: ReadonlyArray<string>
  /** How many of the differences speak against it; `ok` is false when any does. */
  readonly failing: number
  /** What it took at most. */
  readonly memoryBytes: number
  readonly scratchBytes: number
}

const givenUp = "it was given up"
const notBegun: RehearsalReport["isolation"] = { by: "node-permissions", network: false, writes: false, says: "it was not begun" }

export const rehearse = async (options: RehearseOptions): Promise<Rehearsed> => {
  const { mesh, slot, scratch, now } = options
  const began = now()
  const entry = `${slot.path}/src/main.ts`
  const failed = (why: string, more: Partial<Rehearsed> = {}): Rehearsed => ({
    ok: false, isolation: notBegun, events: 0, ms: Math.max(0, Math.round(now() - began)), differences: [], log: [], fault: plain(why, 500), expected: [], failing: 0, memoryBytes: 0, scratchBytes: 0, ...more
  })
  if (!existsSync(entry)) return failed(`${slot.version} has no src/main.ts: it is no tree of kOS`)
  await removeHostile(scratch)
  await makeDirectory(scratch)
  try {
    // R7.1: without network and without writes outside of its copy, as well as this machine can.
    const way = await findIsolation(scratch, options.levels ?? isolationLevels)
    const { by, network, writes, says } = way
    const isolation = { by, network, writes, says }
    await mesh.runner.idle()
    await mesh.runner.steady()
    const live = digestOf({ tables: mesh.tables, members: mesh.members, device: mesh.vault.deviceId })
    const cursors = new Map(mesh.tables.cursors.all().map(({ log, folded }) => [log, folded]))
    const read = options.read ?? []
    const child = startConfined(way, {
      command: { node: nodeOfTree(slot.path, read), options: [], script: entry }, args: ["daemon", "rehearse"], read: [slot.path, ...read], write: [scratch],
      env: { PATH: "/usr/bin:/bin", HOME: scratch, TMPDIR: scratch, LANG: "C.UTF-8", NODE_DISABLE_COMPILE_CACHE: "1", KOS_REHEARSAL: "1" }
    }, { ...confinedLimits, msMax: Math.min(msMaxMax, confinedLimits.msMax + eventMs * live.totals.events), ...options.limits }, { signal: options.signal })
    const outcome = await talk(options, child, live, cursors).catch((cause: unknown) => cause instanceof Error ? cause : new Error(String(cause)))
    // What ended by itself has an exit code that says more.
    if (outcome instanceof Error && !(outcome instanceof EndedEarly)) child.end(givenUp)
    child.stdin.destroy()
    const end = await endOf(child)
    const common = { isolation, log: child.lines().slice(-logLinesMax), memoryBytes: end.memoryBytes, scratchBytes: end.scratchBytes }
    if (outcome instanceof Error) {
      // What ended it says more than what became of our pipes.
      const why = end.why !== undefined && end.why !== givenUp ? end.why
        : outcome instanceof EndedEarly ? `${outcome.message}${end.code === null ? "" : ` (exit code ${end.code})`}` : outcome.message
      return failed(why, common)
    }
    // R7.2: shown before a switch is offered.
    const { compared: { differences, expected, failing }, fresh } = outcome
    const found = { ...common, events: fresh.totals.events, differences, expected, failing }
    if (end.why !== undefined) return failed(end.why, found)
    if (end.code !== 0) return failed(`it was through and then ended with ${end.code === null ? `signal ${end.signal ?? ""}` : `exit code ${end.code}`}`, found)
    return { ...found, ok: failing === 0, ms: Math.max(0, Math.round(now() - began)), fault: undefined }
  } catch (cause) {
    return failed(cause instanceof Error ? cause.message : String(cause))
  } finally {
    await removeHostile(scratch).catch((cause: unknown) => options.notice("warn", `${scratch} could not be removed: ${String(cause)}`))
  }
}

/** It ended, or said nothing more, before it was through. */
class EndedEarly extends Error {
  readonly early = true
}

const talk = async (options: RehearseOptions, child: ConfinedProcess, live: Digest, cursors: ReadonlyMap<string, number>) => {
  const { mesh, slot } = options
  const lines = linesOf(child)
  const said = gatherDigest()
  // Its words are read while the logs are written, so that neither waits for the other.
  const digest = (async (): Promise<Digest> => {
    const hello = await nextLine(lines)
    if (hello.kind === "fault") throw new Error(`it could not begin: ${hello.why}`)
    if (hello.kind !== "hello" || hello.v !== rehearsalVersion) throw new Error(`it speaks another version of the rehearsal than ${rehearsalVersion}`)
    for (;;) {
      const line = await nextLine(lines)
      if (line.kind === "fault") throw new Error(`it could not fold the events: ${line.why}`)
      if (line.kind === "progress") options.progress?.(Math.min(line.events, live.totals.events), live.totals.events, "rehearsing")
      else if (line.kind === "done") break
      else said.add(line)
    }
    const whole = said.digest()
    if (whole === undefined) throw new Error("its digest is not whole")
    return whole
  })()
  digest.catch(() => undefined)
  const ended = child.ended.then(() => { throw new EndedEarly("it ended before it was through") })
  ended.catch(() => undefined)
  const streamed = stream(options, child, cursors)
  streamed.catch(() => undefined)
  await Promise.race([streamed, digest.then(() => { throw new Error("it answered before it had been given everything") }), ended])
  const fresh = await Promise.race([digest, ended])
  const asked = differingDocuments(live, fresh).filter((id) => live.documents.has(id) && fresh.documents.has(id)).slice(0, askedMax)
  const values = new Map<string, { readonly live: string | undefined; readonly fresh: string | undefined }>()
  if (asked.length > 0) {
    child.stdin.write(encodeRecord({ _tag: "Ask", documents: asked }))
    for (const id of asked) {
      const line = await Promise.race([nextLine(lines), ended])
      if (line.kind !== "value" || line.id !== id) throw new Error(`it was asked for ${id} and answered something else`)
      values.set(id, { live: documentJson(mesh.tables, id), fresh: line.json ?? undefined })
    }
  }
  child.stdin.end()
  const { members, tables } = mesh
  const compared = compareDigests({
    live, fresh, values, migrations: options.migrations, version: slot.version, nameOf: (device) => members.nameOf(device),
    unread: (document) => tables.events.query({ subject: document, status: "unknown", order: "newest", limit: eventsLookedAtMax }).events.length,
    describe: (place) => describe(mesh, place)
  })
  return { compared, fresh }
}

const describe = ({ tables, members }: RehearseOptions["mesh"], { log, block, offset }: Pick<QuarantinedLine, "log" | "block" | "offset">): string => {
  const place = `${log.slice(0, 8)}/${block}${offset === null ? "" : `.${offset}`}`
  const author = members.nameOf(members.deviceOf(log) ?? "")
  const row = offset === null ? undefined : tables.events.byAddress({ log, block, offset })
  return `${row === undefined ? "block" : row.type} ${place}${author === "" ? "" : ` of ${author}`}`
}

/** Who this node is, all blocks below the cursors with the keys that they name, and how many there are. */
const stream = async ({ mesh }: RehearseOptions, { stdin, ended }: ConfinedProcess, cursors: ReadonlyMap<string, number>): Promise<void> => {
  let over = false
  void ended.then(() => { over = true })
  const send = async (bytes: Uint8Array): Promise<void> => {
    if (over || stdin.destroyed) throw new EndedEarly("it ended before it was through")
    if (stdin.write(bytes)) return
    await new Promise<void>((done) => {
      const go = (): void => {
        stdin.off("drain", go)
        stdin.off("close", go)
        done()
      }
      stdin.on("drain", go)
      stdin.on("close", go)
    })
  }
  await send(encodeRecord({ _tag: "Begin", begin: {
    v: rehearsalVersion, mesh: mesh.mesh, device: mesh.vault.deviceId, ownLog: mesh.journal.log(), operations: mesh.members.operations().map(({ bytes }) => bytes)
  } }))
  const given = new Set<number>()
  for (const [log, length] of cursors) {
    const held = await mesh.store.openHeld(log)
    try {
      for (let from = 0; from < length; from += windowBlocks) {
        const blocks = await Promise.all(Array.from({ length: Math.min(windowBlocks, length - from) }, (_, i) => held.get(from + i)))
        for (const [i, bytes] of blocks.entries()) {
          const header = frameHeader(bytes)
          if (Result.isSuccess(header) && !given.has(header.success.epoch)) {
            given.add(header.success.epoch)
            for (const key of mesh.keyring.keys(header.success.epoch)) await send(encodeRecord({ _tag: "Key", epoch: header.success.epoch, key }))
          }
          await send(encodeRecord({ _tag: "Block", log, index: from + i, bytes }))
        }
      }
    } finally {
      await held.close()
    }
  }
  await send(encodeRecord({ _tag: "End", logs: cursors }))
}

/** R7.1: what it says is as hostile as what it prints, until it is decoded. */
async function* linesOf(child: ConfinedProcess): AsyncGenerator<Line> {
  let count = 0
  for await (const text of readLines(child.answers, { lineBytesMax, bytesMax: answerBytesMax })) {
    if (++count > linesMax) throw new Error(`its digest has more than ${linesMax} lines`)
    const line = decodeLine(text)
    if (Result.isFailure(line)) throw line.failure
    if (line.success !== undefined) yield line.success
  }
}

const nextLine = async (lines: AsyncGenerator<Line>): Promise<Line> => {
  const { value, done } = await lines.next()
  if (done === true) throw new EndedEarly("it ended before it was through")
  return value
}

const endOf = async (child: ConfinedProcess) => {
  const timer = setTimeout(() => child.end("it did not end when it was through"), endMsMax)
  const end = await child.ended
  clearTimeout(timer)
  return end
}

/** One line for the step's event and for people. */
export const rehearsalText = ({ ok, events, ms, differences, expected, fault, isolation }: Rehearsed): string => {
  if (fault !== undefined) return `the rehearsal failed: ${fault}`
  const shut = isolation.network && isolation.writes ? `shut in by ${isolation.by}` : `held by ${isolation.by} only`
  const found = differences.length === 0 ? "no difference" : `${differences.length >= differencesMax ? `${differencesMax} or more` : differences.length} ${differences.length === 1 ? "difference" : "differences"}${ok ? "" : ", which speak against it"}: ${differences[0] ?? ""}`
  return `${events} events folded in ${Math.round(ms / 100) / 10} s, ${shut}: ${found}${expected.length === 0 ? "" : ` (${expected.length} expected)`}`
}
