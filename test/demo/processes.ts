/** Daemons as processes of their own, each with a home of its own, spoken to as the CLI does. Ends by pid whatever it started. */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { uuidv7 } from "../../src/codec/uuid.ts"
import { randomBytes } from "../../src/codec/signature.ts"
import { callNode } from "../../src/api/client.ts"
import type { InputOf, OperationName, OutputOf } from "../../src/api/operations/table.ts"
import type { ProblemDocument } from "../../src/api/problem.ts"

const main = resolve(import.meta.dirname, "../../src/main.ts")
/** How long a process may take to say that it is ready, and to end after it was asked to, milliseconds. */
const readyMsMax = 30_000
const endMsMax = 15_000

/** A call that was refused or found nobody. */
export class Refused extends Error {
  readonly problem: ProblemDocument
  constructor(operation: string, problem: ProblemDocument) {
    super(`${operation}: ${problem.detail}`)
    this.problem = problem
  }
}

export interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

export const newCommand = (): string => uuidv7(Date.now(), randomBytes(10))

/** Looks again every `everyMs` until it holds; throws with `what` after `msMax`. */
export const waitFor = async <A>(what: string, msMax: number, look: () => Promise<A | undefined> | A | undefined, everyMs = 50): Promise<A> => {
  const end = performance.now() + msMax
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    if (performance.now() > end) throw new Error(`${what} did not happen within ${Math.round(msMax / 1_000)} s`)
    await new Promise((done) => setTimeout(done, everyMs))
  }
}

interface Launched {
  /** Others need it to end well: it goes last. */
  readonly last: boolean
  readonly child: ChildProcess
  readonly ended: Promise<Ran>
  readonly first: Promise<string>
}

/** What a test starts; `endAll` leaves nothing behind. */
export class Processes {
  readonly directory: string
  readonly #env: Readonly<Record<string, string>>
  readonly #running = new Set<Launched>()
  readonly #keep: boolean

  constructor(options: { readonly env?: Readonly<Record<string, string>>; readonly keep?: boolean; readonly name?: string } = {}) {
    this.directory = mkdtempSync(join(tmpdir(), `${options.name ?? "kos"}-`))
    this.#env = options.env ?? {}
    this.#keep = options.keep ?? false
  }

  /** `prefix`: a command that runs it elsewhere, for instance in a network namespace. */
  launch(argv: ReadonlyArray<string>, options: { readonly prefix?: ReadonlyArray<string>; readonly last?: boolean } = {}): Launched {
    const [command = process.execPath, ...rest] = [...(options.prefix ?? []), process.execPath, main, ...argv]
    const child = spawn(command, rest, { env: { ...cleanEnv(), ...this.#env }, stdio: ["ignore", "pipe", "pipe"] })
    let out = ""
    let err = ""
    let tellFirst: (line: string) => void = () => undefined
    const first = new Promise<string>((done) => { tellFirst = done })
    child.stdout.on("data", (part: Buffer) => {
      out += part.toString()
      const end = out.indexOf("\n")
      if (end >= 0) tellFirst(out.slice(0, end))
    })
    child.stderr.on("data", (part: Buffer) => { err = `${err}${part.toString()}`.slice(-65_536) })
    const ended = new Promise<Ran>((done) => {
      child.on("error", (cause) => done({ code: null, out, err: String(cause) }))
      child.on("close", (code) => done({ code, out, err }))
    })
    const launched = { last: options.last ?? false, child, ended, first }
    this.#running.add(launched)
    void ended.then(() => this.#running.delete(launched))
    return launched
  }

  /** One call of the CLI as a process. */
  async cli(argv: ReadonlyArray<string>): Promise<Ran> {
    return this.launch(argv).ended
  }

  async dht(): Promise<string> {
    const said = await firstLine(this.launch(["dht", "run", "--port", "0", "--host", "127.0.0.1", "--json"], { last: true }), "the DHT")
    return String(said["bootstrap"])
  }

  node(name: string, argv: ReadonlyArray<string>, prefix: ReadonlyArray<string> = []): DemoNode {
    return new DemoNode(this, name, join(this.directory, name), argv, prefix)
  }

  async endAll(): Promise<void> {
    for (const last of [false, true]) await this.#end([...this.#running].filter((launched) => launched.last === last))
    if (!this.#keep) rmSync(this.directory, { recursive: true, force: true })
  }

  async #end(running: ReadonlyArray<Launched>): Promise<void> {
    for (const { child } of running) child.kill("SIGTERM")
    let late: NodeJS.Timeout | undefined
    await Promise.race([
      Promise.all(running.map(({ ended }) => ended)),
      new Promise<void>((done) => { late = setTimeout(done, endMsMax) })
    ])
    clearTimeout(late)
    for (const { child } of running) if (child.exitCode === null) child.kill("SIGKILL")
    await Promise.all(running.map(({ ended }) => ended))
  }

  /** At once and without asking, for a second Ctrl-C. */
  endNow(): void {
    for (const { child } of this.#running) child.kill("SIGKILL")
  }
}

export class DemoNode {
  readonly name: string
  readonly home: string
  readonly #processes: Processes
  readonly #argv: ReadonlyArray<string>
  readonly #prefix: ReadonlyArray<string>
  #launched: Launched | undefined
  pid = 0

  constructor(processes: Processes, name: string, home: string, argv: ReadonlyArray<string>, prefix: ReadonlyArray<string>) {
    this.#processes = processes
    this.name = name
    this.home = home
    this.#argv = argv
    this.#prefix = prefix
  }

  /** Resolves when it is ready. */
  async start(): Promise<void> {
    this.#launched = this.#processes.launch(["--home", this.home, "daemon", "run", "--name", this.name, "--json", ...this.#argv], { prefix: this.#prefix })
    const said = await firstLine(this.#launched, `node ${this.name}`)
    this.pid = Number(said["pid"])
  }

  async stop(): Promise<Ran | undefined> {
    this.#launched?.child.kill("SIGTERM")
    return this.#launched?.ended
  }

  /** `kill -9`: nothing is said, nothing is written. */
  async kill(): Promise<void> {
    process.kill(this.pid, "SIGKILL")
    await this.#launched?.ended
  }

  async call<Name extends OperationName>(
    name: Name, input: Partial<InputOf<Name>>,
    options: { readonly command?: string; readonly onItem?: (item: unknown) => void; readonly silenceMsMax?: number } = {}
  ): Promise<OutputOf<Name>> {
    const answer = await callNode(this.home, name, input, {
      command: options.command ?? newCommand(),
      ...(options.onItem === undefined ? {} : { onItem: options.onItem }), ...(options.silenceMsMax === undefined ? {} : { silenceMsMax: options.silenceMsMax })
    })
    if (answer._tag === "Problem") throw new Refused(name, answer.problem)
    // Encoded by the daemon with the operation's own schema; the tests of the API check that it fits.
    return answer.value as OutputOf<Name>
  }

  cli(argv: ReadonlyArray<string>): Promise<Ran> {
    return this.#processes.cli(["--home", this.home, ...argv])
  }
}

/** No setting of whoever runs the test may reach the nodes. */
const cleanEnv = (): Record<string, string> =>
  Object.fromEntries(Object.entries(process.env).flatMap(([name, value]) => value === undefined || /^(KOS_|TAP_|NODE_OPTIONS$|NODE_V8_COVERAGE$)/.test(name) ? [] : [[name, value]]))

const firstLine = async (launched: Launched, what: string): Promise<Record<string, unknown>> => {
  let late: NodeJS.Timeout | undefined
  const line = await Promise.race([
    launched.first,
    launched.ended.then(({ code, err }) => { throw new Error(`${what} ended with ${code}: ${err.trim()}`) }),
    new Promise<never>((_, fail) => { late = setTimeout(() => fail(new Error(`${what} was not ready within ${readyMsMax / 1_000} s`)), readyMsMax) })
  ])
  clearTimeout(late)
  const said: unknown = JSON.parse(line)
  return typeof said === "object" && said !== null ? Object.fromEntries(Object.entries(said)) : {}
}
