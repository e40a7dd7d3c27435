/**
 * `npm run bench`: runs every case, prints one table of ratios and what was aimed at.
 *
 *   --only NAME   a case by name, may be repeated    --list    names and what they do
 *   --runs N      runs of each side (default 3)      --short   small amounts, one run: does it still work at all
 *   --json        one JSON value on standard output
 *
 * Each run of a side is a process of its own; sides alternate (A B A B), so that a slow minute of the machine hits both. A
 * case that exceeds its time is killed with everything it started and shown as failed; the others go on.
 */
import { fork, spawnSync, type ChildProcess } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import type { BenchCase, Measure, Pick, Row } from "./case.ts"
import type { Job } from "./side.ts"

const here = path.dirname(fileURLToPath(import.meta.url))

const caseNames = ["append", "catch-up", "offline", "thousand-logs", "restart", "index", "seal", "resolver", "daemon", "revocation", "delta", "transfer", "metadata"] as const
const runsDefault = 3

interface Outcome {
  readonly measures: Array<Measure>
  problem: string | undefined
}

interface Line {
  readonly case: string
  readonly title: string
  readonly unit: string
  readonly ours: number | undefined
  readonly peer: number | undefined
  readonly ratio: number | undefined
  readonly target: string
  readonly met: boolean | undefined
  readonly problem: string | undefined
}

const main = async () => {
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true, default: [] }, runs: { type: "string" }, json: { type: "boolean", default: false },
      short: { type: "boolean", default: false }, list: { type: "boolean", default: false }, keep: { type: "boolean", default: false }
    }
  })
  const unknown = values.only.filter((name) => !caseNames.some((known) => known === name))
  if (unknown.length > 0) return usage(`No case ${unknown.join(", ")}. Cases: ${caseNames.join(", ")}.`)
  const runs = values.runs === undefined ? undefined : Number(values.runs)
  if (runs !== undefined && !(Number.isInteger(runs) && runs > 0 && runs <= 100)) return usage("--runs takes a number from 1 to 100.")
  if (!installed()) return
  const say = (text: string) => process.stderr.write(`${text}\n`)
  const root = fs.mkdtempSync(path.join(os.tmpdir(), "kos-bench-"))
  const lines: Array<Line> = []
  const raw: Record<string, Record<string, ReadonlyArray<Measure>>> = {}
  try {
    for (const name of caseNames.filter((known) => values.only.length === 0 || values.only.includes(known))) {
      const module = path.join(here, "cases", `${name}.ts`)
      const { benchCase } = (await import(module)) as { readonly benchCase: BenchCase }
      if (values.list) {
        process.stdout.write(`${name.padEnd(14)} ${benchCase.about}\n`)
        continue
      }
      const outcomes = await runCase(benchCase, module, path.join(root, name), runs ?? (values.short ? 1 : benchCase.runs ?? runsDefault), values.short, say)
      raw[name] = Object.fromEntries(Object.entries(outcomes).map(([side, outcome]) => [side, outcome.measures]))
      for (const row of benchCase.rows) lines.push(lineOf(name, row, outcomes))
    }
  } finally {
    if (!values.keep) fs.rmSync(root, { recursive: true, force: true })
  }
  if (values.list) return
  const machine = machineFacts()
  if (values.json) process.stdout.write(`${JSON.stringify({ machine, short: values.short, rows: lines, runs: raw }, null, 1)}\n`)
  else process.stdout.write(table(lines, machine, values.short, raw))
  if (lines.some((line) => line.problem !== undefined && !line.problem.startsWith("waits"))) process.exitCode = 1
}

const usage = (text: string) => {
  process.stderr.write(`${text}\n`)
  process.exitCode = 2
}

/** The peers' packages are not the product's: they come with their own lock file, on first use. */
const installed = (): boolean => {
  if (fs.existsSync(path.join(here, "node_modules", "autobase"))) return true
  process.stderr.write("Fetching the peers' packages into bench/ (once).\n")
  const done = spawnSync("npm", ["ci", "--prefix", here], { stdio: ["ignore", 2, 2] })
  if (done.status === 0) return true
  process.stderr.write("They could not be fetched; `npm ci --prefix bench` says why.\n")
  process.exitCode = 1
  return false
}

const runCase = async (
  benchCase: BenchCase, module: string, dir: string, runs: number, short: boolean, say: (text: string) => void
): Promise<Record<string, Outcome>> => {
  const fixture = path.join(dir, "fixture")
  fs.mkdirSync(fixture, { recursive: true })
  const outcomes: Record<string, Outcome> = {}
  for (const side of Object.keys(benchCase.sides)) outcomes[side] = { measures: [], problem: undefined }
  if (benchCase.prepare !== undefined) {
    say(`${benchCase.name}: preparing`)
    const done = await runJob({ form: "prepare", module, dir: fixture, short }, benchCase.secondsMax)
    if (done.problem !== undefined) for (const outcome of Object.values(outcomes)) outcome.problem = `preparation: ${done.problem}`
  }
  for (let run = 0; run < runs; run++) {
    for (const [side, outcome] of Object.entries(outcomes)) {
      if (outcome.problem !== undefined) continue
      const runDir = path.join(dir, `${side}-${run}`)
      fs.mkdirSync(runDir, { recursive: true })
      const done = await runJob({ form: "side", module, side, dir: runDir, fixture, short }, benchCase.secondsMax)
      fs.rmSync(runDir, { recursive: true, force: true })
      if (done.measure === undefined) outcome.problem = done.problem ?? "no result"
      else outcome.measures.push(done.measure)
      const said = done.measure === undefined ? outcome.problem : `${figure(done.measure.value)} (${(done.measure.wallMs / 1000).toFixed(2)} s wall, ${(done.measure.cpuMs / 1000).toFixed(2)} s CPU)`
      say(`${benchCase.name}: ${side} ${run + 1}/${runs}: ${said}`)
    }
  }
  fs.rmSync(dir, { recursive: true, force: true })
  return outcomes
}

const runJob = (job: Job, secondsMax: number): Promise<{ measure?: Measure; problem?: string }> =>
  new Promise((resolve) => {
    const child = fork(path.join(here, "side.ts"), {
      stdio: ["ignore", 2, 2, "ipc"], serialization: "advanced", detached: true, execArgv: ["--expose-gc"]
    })
    let result: { measure?: Measure; problem?: string } = { problem: "the process ended without a word" }
    const timer = setTimeout(() => {
      result = { problem: `took more than ${secondsMax} s` }
      endGroup(child)
    }, secondsMax * 1000)
    child.on("message", (message: { done?: Measure | null; failed?: string; notYet?: string }) => {
      if (message.done !== undefined) result = message.done === null ? {} : { measure: message.done }
      else if (message.notYet !== undefined) result = { problem: `waits for ${message.notYet}` }
      else result = { problem: message.failed ?? "failed" }
    })
    child.once("exit", () => {
      clearTimeout(timer)
      endGroup(child)
      resolve(result)
    })
    child.send(job)
  })

/** The group is exactly what this child started: it was made its leader. */
const endGroup = (child: ChildProcess) => {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL")
  } catch {
    // Nothing of it is left.
  }
}

const median = (list: ReadonlyArray<number>): number | undefined => {
  const sorted = [...list].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : sorted.length === 0 ? undefined : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2
}

const pick = (outcomes: Record<string, Outcome>, what: Pick): number | undefined => {
  const measures = outcomes[what.side]?.measures ?? []
  const numbers: Array<number> = []
  for (const measure of measures) {
    const value = what.detail === undefined ? measure.value : measure.detail?.[what.detail]
    if (typeof value === "number") numbers.push(value)
  }
  return median(numbers)
}

const lineOf = (name: string, row: Row, outcomes: Record<string, Outcome>): Line => {
  const ours = pick(outcomes, row.ours)
  const peer = row.peer === undefined ? undefined : pick(outcomes, row.peer)
  const ratio = ours === undefined || peer === undefined || row.ratio === undefined ? undefined : row.ratio === "ours/peer" ? ours / peer : peer / ours
  const problem = outcomes[row.ours.side]?.problem ?? (row.peer === undefined ? undefined : outcomes[row.peer.side]?.problem)
  const target = row.target
  const met = target.kind === "report" ? undefined
    : target.kind === "ratio-min" ? (ratio === undefined ? undefined : ratio >= target.value)
    : ours === undefined ? undefined : ours <= target.value
  const aimed = target.kind === "report" ? "report" : target.kind === "ratio-min" ? `≥ ${target.value}x` : `≤ ${target.value}`
  return { case: name, title: row.title, unit: row.unit, ours, peer, ratio, target: aimed, met, problem }
}

const figure = (value: number | undefined): string =>
  value === undefined ? "–" : Math.abs(value) >= 100 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(3)

const machineFacts = () => {
  const cpus = os.cpus()
  const versions: Record<string, string> = {}
  for (const [base, names] of [
    ["..", ["hypercore", "hyperswarm", "@automerge/automerge", "effect"]],
    [".", ["@automerge/automerge-repo", "autobase", "rocksdb-native"]]
  ] as const) {
    for (const name of names) {
      const file = path.join(here, base, "node_modules", name, "package.json")
      if (fs.existsSync(file)) versions[name] = (JSON.parse(fs.readFileSync(file, "utf8")) as { version: string }).version
    }
  }
  return {
    cpu: cpus[0]?.model.trim() ?? "unknown", cores: cpus.length, memoryGiB: Math.round(os.totalmem() / 2 ** 30), node: process.versions.node,
    sqlite: process.versions["sqlite"] ?? "", system: `${os.type()} ${os.release()} ${os.arch()}`, load: os.loadavg().map((n) => Number(n.toFixed(2))), versions
  }
}

const table = (
  lines: ReadonlyArray<Line>, machine: ReturnType<typeof machineFacts>, short: boolean, raw: Record<string, Record<string, ReadonlyArray<Measure>>>
): string => {
  const cells = [["case", "what", "unit", "kOS", "peer", "ratio", "target", "met"]]
  for (const line of lines) {
    const verdict = line.problem !== undefined ? (line.problem.startsWith("waits") ? "waits" : "failed") : line.met === undefined ? "" : line.met ? "yes" : "NO"
    cells.push([line.case, line.title, line.unit, figure(line.ours), figure(line.peer), line.ratio === undefined ? "–" : line.ratio.toFixed(2), line.target, verdict])
  }
  const widths = cells[0]?.map((_, column) => Math.max(...cells.map((row) => [...(row[column] ?? "")].length))) ?? []
  let out = ""
  for (const row of cells) out += `${row.map((cell, i) => cell + " ".repeat((widths[i] ?? 0) - [...cell].length)).join("  ").trimEnd()}\n`
  out += "\n"
  for (const [name, sides] of Object.entries(raw)) {
    for (const [side, measures] of Object.entries(sides)) {
      if (measures.length === 0) continue
      const notes: Array<string> = []
      for (const key of Object.keys(measures[0]?.detail ?? {})) {
        const first = measures[0]?.detail?.[key]
        notes.push(typeof first === "string" ? `${key} ${first}` : `${key} ${figure(median(measures.map((m) => Number(m.detail?.[key] ?? 0))))}`)
      }
      out += `${name}, ${side}: wall ${figure(median(measures.map((m) => m.wallMs)))} ms, CPU ${figure(median(measures.map((m) => m.cpuMs)))} ms; ${notes.join(", ")}\n`
    }
  }
  const problems = new Set(lines.filter((line) => line.problem !== undefined).map((line) => `${line.case}: ${line.problem?.split("\n")[0]}`))
  for (const problem of problems) out += `${problem}\n`
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version}`).join(", ")
  out += `\n${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}, Node ${machine.node}, SQLite ${machine.sqlite}, load ${machine.load.join(" ")}; ${versions}\n`
  if (short) out += "Short run: small amounts, one run; its ratios say only that the cases work.\n"
  return out
}

await main()
