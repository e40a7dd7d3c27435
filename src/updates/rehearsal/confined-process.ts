/**
 * A process that is shut in, and held to limits from outside: time, memory of all its processes together, their number, what it prints, and what its scratch directory holds.
 *
 * **How it is watched.** Ten times a second the processes below it are counted and their memory added up, as the kernel tells (`/proc`); twice a second the scratch directory is
 * measured. Whoever is over a limit is ended, with everything it started, and `ended` says over which one. What a single file may hold is a limit that the kernel keeps, where
 * `prlimit` is installed.
 *
 * **Invariant.** After `ended` nothing of it runs: in namespaces the kernel ends all processes with the first one, and in Node's permission model there is only one.
 */
import { execFile, spawn } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { lstat, readdir, rm } from "node:fs/promises"
import type { Readable, Writable } from "node:stream"
import { promisify } from "node:util"
import { plain } from "./compare.ts"
import { type Confined, findProgram, type IsolationWay } from "./isolate.ts"

export interface ConfinedLimits {
  readonly msMax: number
  /** Of all its processes together, resident. */
  readonly memoryBytesMax: number
  /** Heap of each Node that is started directly, MiB. */
  readonly heapMiBMax: number
  readonly processesMax: number
  /** What it may print; more of it is read and dropped, and ten times as much ends it. */
  readonly printedBytesMax: number
  readonly scratchBytesMax: number
}

export const confinedLimits: ConfinedLimits = {
  msMax: 5 * 60_000, memoryBytesMax: 1024 * 1024 * 1024, heapMiBMax: 512, processesMax: 64, printedBytesMax: 1024 * 1024, scratchBytesMax: 4 * 1024 * 1024 * 1024
}

/** Lines of what it printed that are kept, the last ones, and characters of each. */
export const linesKeptMax = 200
export const lineCharsMax = 500

export interface ConfinedEnd {
  readonly code: number | null
  readonly signal: string | null
  /** Over which limit it was, or who ended it; undefined when it ended by itself. */
  readonly why: string | undefined
  readonly memoryBytes: number
  readonly scratchBytes: number
}

export interface ConfinedProcess {
  readonly pid: number | undefined
  readonly stdin: Writable
  /** Its descriptor 3. */
  readonly answers: Readable
  /** The last lines that it printed. */
  readonly lines: () => ReadonlyArray<string>
  readonly ended: Promise<ConfinedEnd>
  readonly end: (why: string) => void
}

const watchMs = 100
const measureEvery = 5

export const startConfined = (way: IsolationWay, confined: Confined, limits: ConfinedLimits, options: { readonly signal: AbortSignal; readonly onLine?: (line: string) => void }): ConfinedProcess => {
  const command = "program" in confined.command ? confined.command : { ...confined.command, options: [`--max-old-space-size=${limits.heapMiBMax}`, ...confined.command.options] }
  const wrapped = way.wrap({ ...confined, command })
  const [file = wrapped.file, ...args] = [
    // When memory is gone before we have counted, the kernel shall end this one and not us.
    ...prefix("choom", ["-n", "1000", "--"]), ...prefix("prlimit", ["--core=0", `--fsize=${limits.scratchBytesMax}`, "--nofile=4096", "--"]), wrapped.file, ...wrapped.args
  ]
  const child = spawn(file, args, { cwd: confined.write[0], env: {}, stdio: ["pipe", "pipe", "pipe", "pipe"], detached: true })
  const answers = child.stdio[3]
  if (child.stdin === null || answers === null || answers === undefined || !("read" in answers)) throw new Error("a process has no pipes")
  let why: string | undefined
  let memoryBytes = 0
  let scratchBytes = 0
  const end = (reason: string): void => {
    why ??= reason
    const { pid } = child
    if (pid === undefined) return
    // Its group too: what has not come into the namespaces yet.
    for (const target of [-pid, pid]) {
      try {
        process.kill(target, "SIGKILL")
      } catch {
        // It has ended already.
      }
    }
  }
  const printed = keepLines(limits.printedBytesMax, options.onLine, () => end(`it printed more than ${10 * limits.printedBytesMax} bytes`))
  child.stdout?.on("data", printed.take)
  child.stderr?.on("data", printed.take)
  // A child that ends closes its pipes: what was on its way is lost, and `ended` tells.
  child.stdin.on("error", () => undefined)
  answers.on("error", () => undefined)
  const timer = setTimeout(() => end(`it took longer than ${Math.round(limits.msMax / 1_000)} s`), limits.msMax)
  const onAbort = (): void => end("it was stopped")
  options.signal.addEventListener("abort", onAbort, { once: true })
  if (options.signal.aborted) onAbort()
  let turns = 0
  let measuring = false
  const watch = setInterval(() => {
    if (child.pid === undefined) return
    const { processes, bytes } = memoryBelow(child.pid)
    memoryBytes = Math.max(memoryBytes, bytes)
    if (processes > limits.processesMax) end(`it started more than ${limits.processesMax} processes`)
    else if (bytes > limits.memoryBytesMax) end(`it took more than ${Math.round(limits.memoryBytesMax / 1_048_576)} MiB of memory`)
    if (turns++ % measureEvery !== 0 || measuring) return
    measuring = true
    void directoryBytes(confined.write).then((measured) => {
      scratchBytes = Math.max(scratchBytes, measured)
      if (measured > limits.scratchBytesMax) end(`it wrote more than ${Math.round(limits.scratchBytesMax / 1_048_576)} MiB`)
    }).finally(() => { measuring = false })
  }, watchMs)
  const ended = new Promise<ConfinedEnd>((done) => {
    const finish = (code: number | null, signal: string | null): void => {
      clearTimeout(timer)
      clearInterval(watch)
      options.signal.removeEventListener("abort", onAbort)
      done({ code, signal, why, memoryBytes, scratchBytes })
    }
    child.once("error", (cause) => {
      why ??= `it could not be started: ${cause.message}`
      if (child.pid === undefined) finish(null, null)
    })
    child.once("close", (code, signal) => finish(code, signal))
  })
  return { pid: child.pid, stdin: child.stdin, answers, lines: printed.lines, ended, end }
}

/** A program that runs the rest of its words; nothing where it is not installed. */
const prefix = (name: string, options: ReadonlyArray<string>): ReadonlyArray<string> => {
  const found = findProgram(name)
  return found === undefined ? [] : [found, ...options]
}

/** The last lines of what comes, whole ones, fit to be shown. */
const keepLines = (bytesMax: number, onLine: ((line: string) => void) | undefined, onTooMuch: () => void) => {
  const lines: Array<string> = []
  let total = 0
  let rest = ""
  const keep = (line: string): void => {
    const shown = plain(line, lineCharsMax)
    lines.push(shown)
    if (lines.length > linesKeptMax) lines.shift()
    onLine?.(shown)
  }
  return {
    take: (bytes: Buffer): void => {
      total += bytes.byteLength
      if (total > 10 * bytesMax) return onTooMuch()
      if (total > bytesMax) return
      const parts = `${rest}${bytes.toString("utf8")}`.split("\n")
      rest = (parts.pop() ?? "").slice(-lineCharsMax * 2)
      for (const part of parts) if (part.trim() !== "") keep(part)
    },
    lines: (): ReadonlyArray<string> => rest.trim() === "" ? [...lines] : [...lines, plain(rest, lineCharsMax)]
  }
}

/** Processes below this one, itself among them, and their resident memory; zeros where the kernel does not tell. */
export const memoryBelow = (root: number): { readonly processes: number; readonly bytes: number } => {
  const children = new Map<number, Array<number>>()
  for (const name of namesIn("/proc")) {
    if (!/^[0-9]+$/.test(name)) continue
    const stat = textOf(`/proc/${name}/stat`)
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1])
    if (!Number.isInteger(parent)) continue
    const list = children.get(parent)
    if (list === undefined) children.set(parent, [Number(name)])
    else list.push(Number(name))
  }
  let processes = 0
  let bytes = 0
  const waiting = [root]
  for (let pid = waiting.pop(); pid !== undefined; pid = waiting.pop()) {
    processes++
    bytes += 1_024 * Number(/^VmRSS:\s+([0-9]+) kB$/m.exec(textOf(`/proc/${pid}/status`))?.[1] ?? 0)
    waiting.push(...children.get(pid) ?? [])
  }
  return { processes, bytes }
}

const namesIn = (directory: string): ReadonlyArray<string> => {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

const textOf = (path: string): string => {
  try {
    return readFileSync(path, "latin1")
  } catch {
    return ""
  }
}

/**
 * Removes a directory in which something hostile could write. It may have taken its own rights to a directory away, or nested deeper than a path may be long: then the system's `rm`
 * does it, which goes down step by step.
 */
export const removeHostile = async (directory: string): Promise<void> => {
  try {
    await rm(directory, { recursive: true, force: true })
  } catch {
    const [changeMode, remove] = [findProgram("chmod"), findProgram("rm")]
    if (changeMode !== undefined) await promisify(execFile)(changeMode, ["-R", "u+rwX", "--", directory], { timeout: removeMsMax }).catch(() => undefined)
    if (remove === undefined) throw new Error(`${directory} could not be removed`)
    await promisify(execFile)(remove, ["-rf", "--", directory], { timeout: removeMsMax })
  }
}
const removeMsMax = 120_000

/** Entries of one measure; whoever makes more of them is over the limit of bytes as well. */
const entriesMax = 200_000

/** Bytes on the disk of all that lies in these directories. Links are not followed. */
export const directoryBytes = async (directories: ReadonlyArray<string>): Promise<number> => {
  let bytes = 0
  let entries = 0
  const waiting = [...directories]
  for (let directory = waiting.pop(); directory !== undefined; directory = waiting.pop()) {
    for (const entry of await readdir(directory, { withFileTypes: true }).catch(() => [])) {
      if (++entries > entriesMax) return Number.MAX_SAFE_INTEGER
      const path = `${directory}/${entry.name}`
      const found = await lstat(path).catch(() => undefined)
      bytes += found === undefined ? 0 : Math.max(found.blocks * 512, 512)
      if (entry.isDirectory()) waiting.push(path)
    }
  }
  return bytes
}
