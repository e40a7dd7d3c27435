/** `kos update try` as the door asks for it: a module of a release or of a directory, shut in (`try-modules.ts`), and taken over by the way of every release. */
import { Effect } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { basename } from "node:path"
import { timeText } from "../api/handlers/reading.ts"
import type { UpdateDesk } from "../api/update-desk.ts"
import type { Call } from "../api/operation.ts"
import type { OutputOf } from "../api/operations/table.ts"
import { Refusal } from "../commands/refusal.ts"
import type { Release } from "../updates/release.ts"
import { type Trial, TrialRefused, type Trials } from "../updates/rehearsal/trials.ts"
import { isVersion } from "../updates/version.ts"
import type { MeshNode } from "./mesh-node.ts"

export interface TrialDeskParts {
  readonly trials: Trials
  readonly node: () => MeshNode
  readonly find: (text: string) => Release
  /** Fetches and unpacks a release; resolves with its tree. */
  readonly stage: (release: Release, call: Call) => Promise<string>
  /** Takes a release for good. */
  readonly apply: (release: Release, call: Call) => Effect.Effect<OutputOf<"update.apply">, Refusal>
}

export const makeTrialDesk = ({ trials, node, find, stage, apply }: TrialDeskParts): Pick<UpdateDesk, "try"> => {
  const tried = <A>(work: () => Promise<A>): Effect.Effect<A, Refusal> => Effect.tryPromise({ try: work, catch: asRefusal })
  const noted = (call: Call, detail: string) => node().dispatch.run("update.try", call, [], Effect.succeed({ summary: detail, events: [{ type: "command.done/1", subject: "updates", body: { name: "update.try", detail } }] }))
  const rows = async (): Promise<OutputOf<"update.try">["trials"]> => (await trials.list()).map((trial) => ({
    id: trial.id, name: trial.name, version: trial.version, state: trial.why === undefined ? trial.state : `${trial.state}: ${trial.why}`, since: timeText(trial.sinceMs), events: trial.events, isolation: trial.isolation.by
  }))
  const answer = (summary: string, log: ReadonlyArray<string> = []) => tried(async () => ({ summary, trials: await rows(), log }))

  const begin = async (what: string, call: Call): Promise<Trial> => {
    if (what.startsWith("/")) {
      if (!existsSync(what)) throw new Refusal({ kind: "not-found", detail: `there is no directory ${what}` })
      const told = packageOf(what)
      return trials.start({ name: told.name ?? basename(what), version: told.version ?? "0.0.0", release: undefined, entry: told.main ?? "main.js", tree: what })
    }
    const release = find(what)
    const { kind, name, version, entry } = release.custom
    if (kind !== "agent" && kind !== "codex") throw new Refusal({ kind: "usage", detail: `${name} ${version} is a ${kind}; only agents and codex modules can be tried beside what runs`, hint: `kos update apply ${version}` })
    if (entry === null) throw new Refusal({ kind: "conflict", detail: `${name} ${version} does not say what runs it`, hint: `kos update show ${release.id.slice(0, 8)}` })
    return trials.start({ name, version, release: release.id, entry, tree: await stage(release, call) })
  }

  return {
    try: ({ what, show, promote, drop }, call) => Effect.gen(function*() {
      if (show !== undefined) {
        const { trial, log, events } = yield* tried(() => trials.show(show))
        return yield* answer(`${trial.name} ${trial.version}: ${trial.isolation.says}`, [...events.map((event) => `${timeText(event.ms)} ${event.type} ${event.summary}`), ...log])
      }
      if (drop !== undefined) {
        const trial = yield* tried(() => trials.drop(drop))
        const { summary } = yield* noted(call, `dropped the trial of ${trial.name} ${trial.version} with all that it left`)
        return yield* answer(summary)
      }
      if (promote !== undefined) {
        const { trial } = yield* tried(() => trials.promote(promote))
        const { release } = trial
        if (release === undefined) return yield* new Refusal({ kind: "policy", detail: `${trial.name} is a directory that nobody signed; make a release of it first`, hint: `kos release pack DIRECTORY ${trial.name}@${trial.version} --kind agent` })
        const found = yield* tried(async () => find(release))
        const done = yield* apply(found, call)
        yield* tried(() => trials.drop(promote))
        return yield* answer(done.summary)
      }
      if (what === undefined) return yield* answer("")
      const trial = yield* tried(() => begin(what, call))
      const { summary } = yield* noted(call, `tries ${trial.name} ${trial.version}, with a log of its own, as trial ${trial.id}`)
      return yield* answer(summary)
    })
  }
}

/** What a directory says of itself in `package.json`, as far as it is plain. */
const packageOf = (directory: string): { readonly name?: string; readonly version?: string; readonly main?: string } => {
  try {
    const told: unknown = JSON.parse(readFileSync(`${directory}/package.json`, "utf8").slice(0, 65_536))
    if (typeof told !== "object" || told === null) return {}
    const { name, version, main } = { ...told } as Readonly<Record<string, unknown>>
    return {
      ...(typeof name === "string" && /^[a-z0-9][a-z0-9._-]{0,63}$/.test(name) ? { name } : {}), ...(typeof version === "string" && isVersion(version) ? { version } : {}),
      ...(typeof main === "string" && main.length <= 256 ? { main } : {})
    }
  } catch {
    return {}
  }
}

const kinds = { absent: "not-found", full: "conflict", running: "conflict", wrong: "usage", failed: "failed" } as const

const asRefusal = (cause: unknown): Refusal => cause instanceof Refusal ? cause
  : cause instanceof TrialRefused ? new Refusal({ kind: kinds[cause.reason], detail: cause.message, hint: "kos update try" })
  : new Refusal({ kind: "failed", detail: cause instanceof Error ? cause.message : String(cause) })
