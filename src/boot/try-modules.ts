/**
 * `kos update try`: a module runs shut in, beside a node of its own.
 *
 * **What it owns.** `HOME/updates/trials/ID/`: `trial.json` (state), `tree` (the module, a copy), `home` (a node with a mesh and a log of its own), `work` (what the module writes), `log` and
 * `events.json` (what it printed and what stood in its log when it ended). All of it goes with `drop`.
 *
 * **How one trial goes.** Copy → find the best way to shut it in → start this version of kOS on `home`, shut in, isolated → when it answers, start the module, shut in apart from it: it reads
 * its tree and reaches that node by its socket (`KOS_HOME`; `kos` is in its path), and writes `work` only. When the module ends, its events are read and the node is ended too.
 *
 * **Invariants.** R7.3: no peer gets that log, for the node opens no connection by its settings and has no network by its namespace. The module cannot reach this daemon's socket or read this home.
 * A trial runs only while somebody asked for it and this daemon lives; what it left is kept until it is dropped, `trialsMax` of them.
 *
 * **Tricky cases.**
 * - *This daemon ends or crashes while one runs:* its processes end with it. At the next start it is one that ended, and can be run again.
 * - *The module ends the connection, floods its node, or fills `work`:* limits end it; the trial has failed, with the reason.
 * - *Only Node's permission model works here:* a program that is no script for Node is refused, and the report says that the network is open to it.
 */
import { Schema } from "effect"
import { basename, dirname } from "node:path"
import { cp, lstat, mkdir, readdir, realpath } from "node:fs/promises"
import { callNode } from "../api/client.ts"
import { EventRow } from "../api/operations/common.ts"
import { toHex } from "../codec/bytes.ts"
import { randomBytes } from "../codec/signature.ts"
import { uuidv7 } from "../codec/uuid.ts"
import { plain } from "../updates/rehearsal/compare.ts"
import { confinedLimits, type ConfinedLimits, type ConfinedProcess, directoryBytes, removeHostile, startConfined } from "../updates/rehearsal/confined-process.ts"
import { findIsolation, type IsolationLevel, isolationLevels, nodeOfTree } from "../updates/rehearsal/isolate.ts"
import { type Trial, type TrialEvent, type TrialModule, TrialRefused, type Trials, type TrialView } from "../updates/rehearsal/trials.ts"
import { makeDirectory, readSmall, writeWhole } from "../vault/files.ts"

/** Trials that are kept at a time; whoever wants another drops one. */
export const trialsMax = 8
/** Bytes of a module's tree. */
export const trialTreeBytesMax = 512 * 1024 * 1024
const eventsKeptMax = 200
const stateBytesMax = 64 * 1024
const leftBytesMax = 1024 * 1024
/** How long its node may take to answer, milliseconds. */
const readyMsMax = 60_000
const readyEveryMs = 100

const trialLimits: ConfinedLimits = { ...confinedLimits, msMax: 3_600_000, memoryBytesMax: 512 * 1024 * 1024, heapMiBMax: 256, scratchBytesMax: 1024 * 1024 * 1024 }

export interface TrialsOptions {
  /** `HOME/updates/trials`. */
  readonly root: string
  /** The tree of kOS that the trials' nodes run: this version's own. */
  readonly kos: string
  readonly now: () => number
  readonly notice: (level: "debug" | "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
  readonly limits?: Partial<ConfinedLimits>
  readonly levels?: ReadonlyArray<IsolationLevel>
}

const Isolation = Schema.Struct({ by: Schema.Literals(isolationLevels), network: Schema.Boolean, writes: Schema.Boolean, says: Schema.String })
const TrialFile = Schema.Struct({
  id: Schema.String, name: Schema.String, version: Schema.String, release: Schema.NullOr(Schema.String), entry: Schema.String, state: Schema.Literals(["running", "ended", "failed"]),
  why: Schema.NullOr(Schema.String), sinceMs: Schema.Finite, events: Schema.Natural, isolation: Isolation
})
const EventRows = Schema.Array(EventRow)
const LeftEvents = Schema.Array(Schema.Struct({ ms: Schema.Finite, type: Schema.String, actor: Schema.String, subject: Schema.String, summary: Schema.String }))

interface Running {
  readonly node: ConfinedProcess
  readonly module: ConfinedProcess
  /** Resolves when both have ended and what is left is written. */
  readonly over: Promise<void>
}

export const openTrials = async (options: TrialsOptions): Promise<Trials> => {
  const { root, now, notice } = options
  await makeDirectory(root)
  const trials = new Map<string, Trial>()
  const running = new Map<string, Running>()
  const starting = new Set<string>()
  const place = (id: string, name = ""): string => `${root}/${id}${name === "" ? "" : `/${name}`}`
  const keep = async (trial: Trial): Promise<Trial> => {
    trials.set(trial.id, trial)
    await writeWhole(place(trial.id, "trial.json"), JSON.stringify({ ...trial, release: trial.release ?? null, why: trial.why ?? null }))
    return trial
  }
  for (const id of await readdir(root)) {
    const found = await readTrial(place(id, "trial.json"))
    // What has no state was being begun when the daemon ended.
    if (found?.id !== id) await removeHostile(place(id))
    else if (found.state === "running") await keep({ ...found, state: "ended", why: "the daemon that ran it ended" })
    else trials.set(id, found)
  }
  const get = (id: string): Trial => {
    const fitting = [...trials.values()].filter((trial) => trial.id.startsWith(id))
    const [trial] = fitting
    if (id === "" || trial === undefined || fitting.length > 1) throw new TrialRefused("absent", fitting.length > 1 ? `several trials begin with ${id}` : `there is no trial ${id}`)
    return trial
  }
  const end = async (id: string, why: string): Promise<Trial> => {
    const one = running.get(id)
    one?.module.end(why)
    await one?.over
    return get(id)
  }

  const run = async (trial: Trial, signal: AbortSignal): Promise<Trial> => {
    const [home, work, tree] = [place(trial.id, "home"), place(trial.id, "work"), await realpath(place(trial.id, "tree"))]
    for (const directory of [home, `${home}/run`, work]) await makeDirectory(directory)
    const way = await findIsolation(work, options.levels ?? isolationLevels).catch((cause: unknown) => { throw new TrialRefused("failed", String(cause)) })
    const { by, network, writes, says } = way
    const limits = { ...trialLimits, ...options.limits }
    const kos = { script: `${options.kos}/src/main.ts`, node: nodeOfTree(options.kos, []), options: [] }
    const parts = await partsOf(options.kos)
    const env = { PATH: `${options.kos}/bin:/usr/bin:/bin`, LANG: "C.UTF-8", NODE_DISABLE_COMPILE_CACHE: "1" }
    const node = startConfined(way, {
      command: kos, args: ["--home", home, "daemon", "run", "--lan-only", "--name", "trial"], read: parts, write: [home],
      env: { ...env, HOME: home, TMPDIR: home, KOS_NETWORK_MODE: "isolated", KOS_NETWORK_LAN: "false" }
    }, limits, { signal: new AbortController().signal })
    node.stdin.end()
    node.answers.resume()
    let module: ConfinedProcess
    try {
      await answering(home, node, signal)
      module = startConfined(way, {
        command: commandOf(tree, trial.entry), args: [], read: [tree, `${home}/run`, ...parts], write: [work],
        env: { ...env, HOME: work, TMPDIR: work, KOS_HOME: home, KOS_ACTOR: `agent:${trial.name}` }
      }, limits, { signal: new AbortController().signal })
    } catch (cause) {
      node.end("its module could not be begun")
      const { why } = await node.ended
      throw cause instanceof TrialRefused ? cause : new TrialRefused("failed", cause instanceof Error ? cause.message : why ?? String(cause))
    }
    module.stdin.end()
    module.answers.resume()
    const begun = await keep({ ...trial, state: "running", why: undefined, sinceMs: now(), isolation: { by, network, writes, says } })
    // A module without its node has nobody to speak to.
    void node.ended.then(({ why }) => module.end(why === undefined ? "its node ended" : `its node: ${why}`))
    const over = module.ended.then(async ({ code, why }) => {
      const events = await eventsOf(home, now).catch(() => [])
      const count = await countOf(home, now).catch(() => begun.events)
      node.end("its module ended")
      await node.ended
      running.delete(trial.id)
      await writeWhole(place(trial.id, "log"), module.lines().join("\n"))
      await writeWhole(place(trial.id, "events.json"), JSON.stringify(events))
      const asked = why === stopped || why === closed
      await keep({ ...begun, events: count, state: asked || (why === undefined && code === 0) ? "ended" : "failed", why: why ?? (code === 0 ? undefined : `it ended with exit code ${code ?? "?"}`) })
    }).catch((cause: unknown) => notice("warn", `trial ${trial.id} could not be ended properly: ${String(cause)}`))
    running.set(trial.id, { node, module, over })
    return begun
  }

  const view = async (id: string): Promise<TrialView> => {
    const trial = get(id)
    const one = running.get(trial.id)
    if (one !== undefined) {
      const home = place(trial.id, "home")
      const events = await eventsOf(home, now).catch(() => [])
      return { trial: { ...trial, events: await countOf(home, now).catch(() => trial.events) }, log: one.module.lines(), events }
    }
    return { trial, log: (await textOf(place(trial.id, "log"))).split("\n").filter((line) => line !== ""), events: await leftEvents(place(trial.id, "events.json")) }
  }

  const begin = async (id: string, work: () => Promise<Trial>): Promise<Trial> => {
    if (starting.has(id) || running.has(id)) throw new TrialRefused("running", `trial ${id} runs already`)
    starting.add(id)
    try {
      return await work()
    } finally {
      starting.delete(id)
    }
  }

  return {
    list: () => Promise.resolve([...trials.values()].toSorted((a, b) => a.sinceMs - b.sinceMs)),
    start: async (module, { signal = new AbortController().signal } = {}) => {
      if (trials.size + starting.size >= trialsMax) throw new TrialRefused("full", `${trialsMax} trials are kept; drop one first`)
      const id = toHex(randomBytes(4))
      return begin(id, async () => {
        try {
          await take(module, place(id, "tree"))
          const { name, version, release, entry } = module
          return await run({ id, name, version, release, entry, state: "running", why: undefined, sinceMs: now(), events: 0, isolation: { by: "node-permissions", network: false, writes: false, says: "" } }, signal)
        } catch (cause) {
          await removeHostile(place(id))
          throw cause
        }
      })
    },
    again: async (id) => {
      const trial = get(id)
      return begin(trial.id, () => run(trial, new AbortController().signal))
    },
    stop: (id) => end(get(id).id, stopped),
    show: view,
    promote: async (id) => {
      const trial = await end(get(id).id, stopped)
      return { trial, tree: place(trial.id, "tree") }
    },
    drop: async (id) => {
      const trial = await end(get(id).id, stopped)
      trials.delete(trial.id)
      await removeHostile(place(trial.id))
      return trial
    },
    close: async () => {
      await Promise.all([...running.keys()].map((id) => end(id, closed)))
    }
  }
}

const stopped = "it was stopped"
const closed = "the daemon that ran it ended"

/** Copies the module; refuses what is no module before anything of it runs. */
const take = async ({ tree, entry, name }: TrialModule, to: string): Promise<void> => {
  if (!/^[a-z0-9][a-z0-9._-]{0,63}$/.test(name)) throw new TrialRefused("wrong", `${plain(name, 80)} is no name for a module`)
  if (entry.startsWith("/") || entry.split("/").some((part) => part === ".." || part === "")) throw new TrialRefused("wrong", `its entry ${plain(entry, 80)} leads out of it`)
  const found = await lstat(`${tree}/${entry}`).catch(() => undefined)
  if (found?.isFile() !== true) throw new TrialRefused("wrong", `its entry ${plain(entry, 80)} is no file of ${tree}`)
  const bytes = await directoryBytes([tree])
  if (bytes > trialTreeBytesMax) throw new TrialRefused("wrong", `it has more than ${trialTreeBytesMax / 1_048_576} MiB`)
  await mkdir(to, { recursive: true, mode: 0o700 })
  // Links stay as they are: one that leads out leads nowhere once it is shut in.
  await cp(tree, to, { recursive: true, verbatimSymlinks: true })
    .catch((cause: unknown) => { throw new TrialRefused("failed", `it could not be copied: ${cause instanceof Error ? cause.message : String(cause)}`) })
}

const commandOf = (tree: string, entry: string) =>
  /\.([cm]?js|m?ts)$/.test(entry) ? { node: nodeOfTree(tree, []), options: [], script: `${tree}/${entry}` } : { program: `${tree}/${entry}` }

/** What of the tree of kOS is needed to run it; nothing else that may lie beside. */
const partsOf = async (kos: string): Promise<ReadonlyArray<string>> => {
  const parts: Array<string> = []
  for (const name of ["bin", "src", "package.json", "node_modules"]) {
    const path = `${kos}/${name}`
    const real = await realpath(path).catch(() => undefined)
    if (real !== undefined) parts.push(...real === path ? [path] : [path, real])
  }
  // Installed into somebody's project: its dependencies lie beside it.
  if (basename(dirname(kos)) === "node_modules") parts.push(dirname(kos))
  return parts
}

/** Waits until its node answers. */
const answering = async (home: string, node: ConfinedProcess, signal: AbortSignal): Promise<void> => {
  let ended = false
  void node.ended.then(() => { ended = true })
  for (let waited = 0; waited < readyMsMax; waited += readyEveryMs) {
    if (signal.aborted) throw new TrialRefused("failed", "it was stopped while it began")
    if (ended) throw new TrialRefused("failed", `its node ended: ${node.lines().slice(-3).join(" | ")}`)
    const answer = await callNode(home, "status", {}, { command: newCommand(0), silenceMsMax: 5_000 })
    if (answer._tag === "Value") return
    await new Promise((done) => { setTimeout(done, readyEveryMs) })
  }
  throw new TrialRefused("failed", `its node did not answer within ${readyMsMax / 1_000} s: ${node.lines().slice(-3).join(" | ")}`)
}

const newCommand = (ms: number): string => uuidv7(ms, randomBytes(10))

const eventsOf = async (home: string, now: () => number): Promise<ReadonlyArray<TrialEvent>> => {
  const answer = await callNode(home, "event.list", { limit: eventsKeptMax }, { command: newCommand(now()), silenceMsMax: 5_000 })
  if (answer._tag === "Problem") return []
  return Schema.decodeUnknownSync(EventRows)(answer.value).map(({ at, type, actor, subject, summary }) => ({
    ms: Date.parse(at) || 0, type: plain(type, 100), actor: plain(actor, 100), subject: plain(subject, 200), summary: plain(summary, 400)
  }))
}

const Status = Schema.Struct({ events: Schema.Struct({ total: Schema.Natural }) })
const countOf = async (home: string, now: () => number): Promise<number> => {
  const answer = await callNode(home, "status", {}, { command: newCommand(now()), silenceMsMax: 5_000 })
  return answer._tag === "Problem" ? 0 : Schema.decodeUnknownSync(Status)(answer.value).events.total
}

const textOf = async (path: string): Promise<string> => {
  const bytes = await readSmall(path, leftBytesMax)
  return typeof bytes === "string" ? "" : Buffer.from(bytes).toString("utf8")
}

const leftEvents = async (path: string): Promise<ReadonlyArray<TrialEvent>> => {
  try {
    return Schema.decodeUnknownSync(LeftEvents)(JSON.parse(await textOf(path)))
  } catch {
    return []
  }
}

const readTrial = async (path: string): Promise<Trial | undefined> => {
  try {
    const bytes = await readSmall(path, stateBytesMax)
    if (typeof bytes === "string") return undefined
    const { release, why, ...rest } = Schema.decodeUnknownSync(TrialFile)(JSON.parse(Buffer.from(bytes).toString("utf8")))
    return { ...rest, release: release ?? undefined, why: why ?? undefined }
  } catch {
    return undefined
  }
}
