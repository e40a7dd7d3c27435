/**
 * Is this version healthy? Asked while it is on trial: rule R6.3.
 *
 * Sources are asked again and again, all at one time. A version is good when all of them have said yes without a break for `healthyMs`, and the time without
 * a break began within `deadlineMs`. Sources look at this device only. What others say of it, and whether they could be told, is no source: a report
 * that does not get through must not take a good version back.
 *
 * Tricky cases. (1) A source that throws or does not answer says no. (2) Time is counted by a clock that does not jump when the date is set.
 * (3) A device whose peers are all away has none to reach: only peers that were in touch shortly before the start are expected, and one of them is enough.
 * (4) A listener that throws changes no verdict.
 */
import { spawn } from "node:child_process"
import { Effect } from "effect"
import type { MeshView } from "../api/node.ts"
import type { HealthCheck } from "../updates/ports.ts"
import type { ReleaseCustom } from "../updates/release.ts"
import { oneLine } from "./slots-files.ts"

/** Between two rounds of questions, milliseconds. */
export const roundMs = 1_000
/** How long a source of ours may take to answer, milliseconds; a release's own checks say it themselves. */
export const answerMsMax = 10_000
/** How often a release's own checks are run once they have succeeded, milliseconds. */
export const ownCheckEveryMs = 30_000
/** Bytes of what a check prints that are kept; the last ones count. */
export const outputBytesMax = 4_096
/** Characters of a check's detail. */
export const detailCharsMax = 256
/** A peer is expected when it was in touch so shortly before the start, milliseconds. */
export const recentMs = 600_000
/** What the launcher waits longer than the daemon's own verdict, milliseconds: the daemon knows better reasons. */
export const launcherMoreMs = 15_000
/** Bytes that must be free for the log to count as writable; below it the journal refuses. */
const reserveBytes = 16 * 1024 * 1024
/** Blocks that may wait to be folded once everything was folded. */
const behindMax = 1_000

export interface HealthSource {
  readonly name: string
  /** Bounded by the signal. */
  readonly ask: (signal: AbortSignal) => Promise<HealthCheck>
  readonly msMax?: number
}

export interface HealthVerdict {
  readonly ok: boolean
  /** What the last round said. */
  readonly checks: ReadonlyArray<HealthCheck>
  /** A sentence; of a bad verdict it names what was missing. */
  readonly why: string
  /** From the beginning to the verdict, milliseconds. */
  readonly ms: number
}

export interface HealthOptions {
  readonly sources: ReadonlyArray<HealthSource>
  /** For how long all must say yes without a break, milliseconds. */
  readonly healthyMs: number
  /** Within how long that time must begin, milliseconds from the beginning of the watch. */
  readonly deadlineMs: number
  /** Milliseconds of a clock that never jumps. */
  readonly tick: () => number
  readonly everyMs?: number
  /** Told when a check's verdict changed, and of the first round. */
  readonly onChecks?: (checks: ReadonlyArray<HealthCheck>) => void
}

/** For `Slots.activate`: longer than the watch can take, so that the launcher only ends what says nothing itself. */
export const trialDeadlineMs = ({ healthyMs, deadlineMs }: Pick<ReleaseCustom, "healthyMs" | "deadlineMs">): number => healthyMs + deadlineMs + launcherMoreMs

/** Asks until there is a verdict: at the latest after `deadlineMs` plus `healthyMs`. */
export const watchHealth = (options: HealthOptions): Effect.Effect<HealthVerdict> => Effect.gen(function*() {
  const { sources, healthyMs, deadlineMs, tick, everyMs = roundMs } = options
  const began = tick()
  let since: number | undefined
  let told = ""
  for (;;) {
    const asked = tick()
    const checks = yield* Effect.forEach(sources, askOne, { concurrency: "unbounded" })
    const answered = tick()
    tell(checks)
    const missing = checks.filter(({ ok }) => !ok)
    since = missing.length === 0 ? since ?? asked : undefined
    const ms = answered - began
    if (since !== undefined && answered - since >= healthyMs) return { ok: true, checks, why: `all ${checks.length} checks held for ${seconds(answered - since)}`, ms }
    // R6.3: no health within the time.
    if (since === undefined ? ms >= deadlineMs : since - began > deadlineMs) {
      return { ok: false, checks, why: since === undefined ? `not healthy within ${seconds(deadlineMs)}: ${missing.map(sentence).join("; ")}` : `not healthy for ${seconds(healthyMs)} without a break`, ms }
    }
    const left = since === undefined ? deadlineMs - ms : healthyMs - (answered - since)
    yield* Effect.sleep(Math.max(1, Math.min(everyMs, left)))
  }

  function tell(checks: ReadonlyArray<HealthCheck>): void {
    const now = checks.map(({ ok }) => (ok ? "+" : "-")).join("")
    if (now === told) return
    told = now
    try {
      options.onChecks?.(checks)
    } catch {
      // What could not be told changes nothing.
    }
  }
})

const askOne = ({ name, ask, msMax = answerMsMax }: HealthSource): Effect.Effect<HealthCheck> =>
  Effect.tryPromise({ try: (signal) => ask(signal), catch: (cause) => cause }).pipe(
    Effect.timeoutOrElse({ duration: msMax, orElse: () => Effect.succeed({ name, ok: false, detail: `no answer within ${seconds(msMax)}` }) }),
    Effect.catch((cause) => Effect.succeed({ name, ok: false, detail: short(cause instanceof Error ? cause.message : String(cause)) }))
  )

const sentence = ({ name, detail }: HealthCheck): string => (detail === "" ? name : `${name} (${detail})`)
const seconds = (ms: number): string => `${Math.round(ms / 100) / 10} s`
const short = (text: string): string => oneLine(text).slice(0, detailCharsMax)

/** What health asks of a mesh; `MeshView` has all of it. */
export type HealthyMesh = Pick<MeshView, "startedMs" | "diskFree"> & {
  readonly journal: Pick<MeshView["journal"], "canAppend" | "length">
  readonly runner: Pick<MeshView["runner"], "fault" | "behind">
  readonly swarm: Pick<MeshView["swarm"], "mode" | "paused" | "sessions">
  readonly tables: { readonly receipts: Pick<MeshView["tables"]["receipts"], "peers"> }
}

export interface MeshSourceOptions {
  /** Appends an event of this device to its log; resolves when it is on the disk. Asked until it succeeds once. */
  readonly append: () => Promise<unknown>
  /** Put before the names when a home is in several meshes, such as `hill: `. */
  readonly label?: string
}

/** Log writable, projections caught up, peers reached if they were before. Made shortly after the mesh was opened. */
export const meshSources = (mesh: HealthyMesh, { append, label = "" }: MeshSourceOptions): ReadonlyArray<HealthSource> => {
  const expected = new Set(mesh.tables.receipts.peers().filter((peer) => wasRecent(peer, mesh.startedMs)).map(({ device }) => device))
  const named = (name: string, ask: () => Promise<Omit<HealthCheck, "name">>): HealthSource => ({ name: `${label}${name}`, ask: async () => ({ name: `${label}${name}`, ...await ask() }) })
  let appended = false
  let folded = false
  let reached = false
  return [
    named("log writable", async () => {
      if (!mesh.journal.canAppend()) return { ok: true, detail: "a seeder writes nothing" }
      if (!appended) await append()
      appended = true
      const free = await mesh.diskFree()
      return { ok: free >= reserveBytes, detail: free >= reserveBytes ? `${mesh.journal.length()} blocks` : `${Math.round(free / 1_048_576)} MiB free` }
    }),
    named("projections caught up", async () => {
      const { fault } = mesh.runner
      const behind = mesh.runner.behind()
      folded ||= fault === undefined && behind === 0
      return { ok: fault === undefined && folded && behind <= behindMax, detail: fault ?? `${behind} blocks behind` }
    }),
    named("peers reached", async () => {
      reached ||= mesh.swarm.sessions().some(({ device, phase }) => phase === "ready" && expected.has(device))
      if (expected.size === 0) return { ok: true, detail: "skipped: no peer was in touch before" }
      if (reached) return { ok: true, detail: `one of ${expected.size} that were in touch before` }
      if (mesh.swarm.mode() === "isolated") return { ok: true, detail: "skipped: this node is isolated" }
      if (mesh.swarm.paused()) return { ok: true, detail: "skipped: sync is paused, or its window is closed" }
      return { ok: false, detail: `none of ${expected.size} that were in touch before` }
    })
  ]
}

/** Those in touch when the last run ended count as lost then or at this start; those met since do not matter here. */
const wasRecent = ({ lastDownMs }: { readonly lastDownMs: number | undefined }, startedMs: number): boolean =>
  lastDownMs !== undefined && lastDownMs >= startedMs - recentMs && lastDownMs <= startedMs

export interface OwnCheckOptions {
  /** The slot of the release. */
  readonly directory: string
  /** Home of the node, told as KOS_HOME. */
  readonly home: string
  /** What `{node}` stands for. */
  readonly node: string
  readonly path?: string
  readonly tick: () => number
}

/** The release's own checks: commands of it that say by exit code 0 that it is healthy. */
export const releaseSources = (checks: ReleaseCustom["checks"], options: OwnCheckOptions): ReadonlyArray<HealthSource> => checks.map((check) => {
  let good: { readonly at: number; readonly answer: HealthCheck } | undefined
  return {
    name: check.name, msMax: check.timeoutMs + 2_000,
    ask: async (signal) => {
      if (good !== undefined && options.tick() - good.at < ownCheckEveryMs) return good.answer
      const answer = await runCheck(check, options, signal)
      good = answer.ok ? { at: options.tick(), answer } : undefined
      return answer
    }
  }
})

/** Runs one check: a time, little output, an environment of its own, and nothing of it is left running. */
export const runCheck = (check: ReleaseCustom["checks"][number], options: OwnCheckOptions, signal: AbortSignal): Promise<HealthCheck> => new Promise((done) => {
  const { name, timeoutMs } = check
  const [command = "", ...args] = check.command.map((word) => word.replaceAll("{node}", options.node))
  const say = (ok: boolean, detail: string) => done({ name, ok, detail: short(detail) })
  if (signal.aborted) return say(false, "not run any more")
  const child = spawn(command, args, {
    cwd: options.directory, detached: true, stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: options.path ?? "/usr/local/bin:/usr/bin:/bin", LANG: "C.UTF-8", HOME: options.home, KOS_HOME: options.home, KOS_CHECK: name }
  })
  let output = Buffer.alloc(0)
  let ended: string | undefined
  const take = (part: Buffer) => { output = Buffer.concat([output, part.subarray(-outputBytesMax)]).subarray(-outputBytesMax) }
  child.stdout.on("data", take)
  child.stderr.on("data", take)
  // Its own group: what it started ends with it.
  const endGroup = (why: string) => {
    ended ??= why
    if (child.pid === undefined) return
    try {
      process.kill(-child.pid, "SIGKILL")
    } catch {
      child.kill("SIGKILL")
    }
  }
  const timer = setTimeout(() => endGroup(`no answer within ${seconds(timeoutMs)}`), timeoutMs)
  const onAbort = () => endGroup("not run any more")
  signal.addEventListener("abort", onAbort, { once: true })
  const finish = (ok: boolean, detail: string) => {
    clearTimeout(timer)
    signal.removeEventListener("abort", onAbort)
    endGroup("")
    child.stdout.destroy()
    child.stderr.destroy()
    say(ok, detail)
  }
  child.once("error", (cause) => finish(false, `it cannot be run: ${cause.message}`))
  // `exit` and not `close`: a grandchild that holds the pipe must not hold the verdict.
  child.once("exit", (code, by) => {
    const last = output.toString("utf8").trim().split("\n").at(-1) ?? ""
    finish(code === 0 && ended === undefined, ended ?? (code === 0 ? last : `${code === null ? `ended by ${by}` : `exit code ${code}`}${last === "" ? "" : `: ${last}`}`))
  })
})
