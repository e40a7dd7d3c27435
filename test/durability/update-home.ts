/**
 * A home that takes updates under its launcher while a test kills its processes. What systemd does is done here: a launcher that ended is started again at once.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { setTimeout as delay } from "node:timers/promises"
import type { Test } from "tap"
import { holder } from "../../src/boot/lock.ts"
import type { OutputOf } from "../../src/api/operations/table.ts"
import { eventually, type TestNode, testNode } from "../daemon-process.ts"

export const victims = ["daemon", "launcher", "both"] as const
/** `transfer`: the process that fetches packs, alone. */
export type Victim = typeof victims[number] | "transfer"

export interface Step {
  readonly step: string
  readonly version: string
  readonly detail: string
}

/** A process, so that another one with its number is not taken for it. */
interface Alive {
  readonly pid: number
  readonly ticks: string
}

export class UpdateHome {
  readonly node: TestNode
  readonly name: string
  #wanted = false
  #keeping: Promise<void> | undefined
  #seen = new Map<number, Alive>()
  #acknowledged: Array<string> = []
  #written = 0

  constructor(t: Test, directory: string, name: string, env: Readonly<Record<string, string>> = {}) {
    this.node = testNode(t, directory, { name, launched: true, env })
    this.name = name
    t.teardown(() => this.stop())
  }

  get updates(): string {
    return `${this.node.home}/updates`
  }

  get slots(): string {
    return `${this.updates}/slots/kos`
  }

  /** Runs until `stop`, and again whenever it ends. */
  async start(): Promise<void> {
    this.#wanted = true
    const first = this.node.start()
    this.#keeping = (async () => {
      await first.catch(() => undefined)
      while (this.#wanted) {
        if (startOf(this.node.pid) !== undefined) {
          await delay(20)
          continue
        }
        await this.node.start().catch(() => undefined)
      }
    })()
    await first
  }

  async stop(): Promise<void> {
    this.#wanted = false
    await this.node.stop()
    await this.#keeping
    // A start that was under way.
    await this.node.stop()
  }

  /** Kills, and remembers all processes that stood below the launcher: none of them may be left. */
  async kill(victim: Victim): Promise<void> {
    const launcher = this.node.pid
    const daemon = await holder(this.node.home)
    const below = descendants(launcher)
    for (const pid of below) {
      const ticks = startOf(pid)
      if (ticks !== undefined) this.#seen.set(pid, { pid, ticks })
    }
    if (victim === "daemon" && daemon !== undefined) end(daemon)
    else if (victim === "launcher") end(launcher)
    else if (victim === "transfer") for (const pid of below.filter((one) => commandOf(one).includes("transfer/process.ts"))) end(pid)
    else if (victim === "both") for (const pid of [launcher, ...below]) end(pid)
  }

  /** Of the killed ones and what they had started, those that still run; what belongs to the present launcher does not count. */
  left(): ReadonlyArray<string> {
    const mine = new Set([this.node.pid, ...descendants(this.node.pid)])
    const found: Array<string> = []
    for (const { pid, ticks } of this.#seen.values()) if (startOf(pid) === ticks && !mine.has(pid)) found.push(`${pid} ${commandOf(pid)}`)
    for (const pid of processes()) if (!mine.has(pid) && pid !== process.pid && commandOf(pid).includes(`${this.node.home}/`)) found.push(`${pid} ${commandOf(pid)}`)
    return [...new Set(found)]
  }

  /** Steps of one version on this device, oldest first; none while nobody answers. */
  async steps(version: string): Promise<ReadonlyArray<Step>> {
    try {
      return (await this.node.ask("update.history", ["--limit", "400"])).filter((row) => row.version === version)
    } catch {
      return []
    }
  }

  async list(): Promise<OutputOf<"update.slots">> {
    return (await this.node.ask("update.slots")).filter(({ name }) => name === "kos")
  }

  /** Writes a page; whether it was acknowledged. */
  async write(): Promise<void> {
    const page = `notes/${this.name}-${this.#written++}`
    try {
      await this.node.ask("memory.add", [page, "a line"])
      this.#acknowledged.push(page)
    } catch {
      // Nobody was there to say so.
    }
  }

  /** Pages that were acknowledged and are not there. */
  async lost(): Promise<ReadonlyArray<string>> {
    const there = new Set((await this.node.ask("memory.list", ["--limit", "10000"])).map(({ page }) => page))
    return this.#acknowledged.filter((page) => !there.has(page))
  }

  get acknowledged(): number {
    return this.#acknowledged.length
  }

  /** What a crash may leave and a node that came to rest must not have. */
  leftovers(): ReadonlyArray<string> {
    const found: Array<string> = []
    for (const place of ["work", "rehearsal"]) found.push(...namesIn(`${this.updates}/${place}`).map((name) => `${place}/${name}`))
    for (const place of ["slots/kos", "slots/kos/gen", "releases", ""]) {
      found.push(...namesIn(`${this.updates}/${place}`).filter((name) => name.startsWith(".tmp-") || name.endsWith(".new")).map((name) => `${place}/${name}`))
    }
    for (const name of ["trial", "failed"]) if (existsSync(`${this.slots}/${name}`)) found.push(`slots/kos/${name}`)
    for (const name of namesIn(`${this.node.home}/run`)) if (/^(kos\.pid|launcher)\.\d/.test(name)) found.push(`run/${name}`)
    return found
  }

  bytes(): number {
    let sum = 0
    for (const name of readdirSync(this.updates, { recursive: true, encoding: "utf8" })) sum += statSync(`${this.updates}/${name}`, { throwIfNoEntry: false })?.size ?? 0
    return sum
  }

  /** Tries that the launcher began of a generation, as it says itself. */
  tries(generation: number): ReadonlyArray<string> {
    return this.node.stderr.split("\n").filter((line) => line.startsWith(`kos-launch: generation ${generation}: try `))
  }

  answers(): Promise<boolean> {
    return eventually(() => this.node.ask("status", [], { codes: [0, 10] }).then(() => true, () => false))
  }
}

export const namesIn = (directory: string): ReadonlyArray<string> => {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

const processes = (): ReadonlyArray<number> => namesIn("/proc").filter((name) => /^\d+$/.test(name)).map(Number)

const fieldsOf = (pid: number): ReadonlyArray<string> | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  } catch {
    return undefined
  }
}

/** When it began; undefined of one that has ended. */
const startOf = (pid: number): string | undefined => {
  const fields = pid > 0 ? fieldsOf(pid) : undefined
  return fields?.[0] === "Z" || fields?.[0] === "X" ? undefined : fields?.[19]
}

const commandOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim()
  } catch {
    return ""
  }
}

const descendants = (root: number): ReadonlyArray<number> => {
  const parents = new Map<number, Array<number>>()
  for (const pid of processes()) {
    const parent = Number(fieldsOf(pid)?.[1] ?? 0)
    parents.set(parent, [...parents.get(parent) ?? [], pid])
  }
  const found: Array<number> = []
  const walk = (pid: number): void => {
    for (const child of parents.get(pid) ?? []) {
      found.push(child)
      walk(child)
    }
  }
  if (root > 0) walk(root)
  return found
}

const end = (pid: number): void => {
  if (pid <= 0) return
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // It ended by itself.
  }
}
