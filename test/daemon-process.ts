/**
 * Real daemons as processes of their own, and the CLI against them.
 *
 * The daemon is `src/main.ts daemon run --lan-only` under this Node. The CLI runs inside the test: the same `runCli` that `bin/kos` calls, with
 * captured streams, because a process for each of some hundred calls would cost minutes; `process: true` runs `bin/kos` all the same.
 * Every daemon that is started is ended when its test ends, whatever happens.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { readdirSync, readFileSync, statSync } from "node:fs"
import { request } from "node:http"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { Result, Schema } from "effect"
import type { Test } from "tap"
import { runCli } from "../src/api/cli/run.ts"
import { type OperationName, operationByName, type OutputOf } from "../src/api/operations/table.ts"
import { ProblemDocument } from "../src/api/problem.ts"
import { socketAddress } from "../src/api/socket.ts"

const root = resolve(import.meta.dirname, "..")
const main = join(root, "src/main.ts")
const bin = join(root, "bin/kos")

/** A daemon that is not ready, and a condition that does not hold, after this time are given up, milliseconds. */
export const patienceMs = 40_000

/** Compiled sources are shared by all tests: a start takes half the time. */
const caches = join(tmpdir(), `kos-test-caches-${process.getuid?.() ?? 0}`)

const plainEnv = (more: Readonly<Record<string, string>>): Record<string, string> =>
  ({ PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: caches, XDG_CACHE_HOME: caches, ...more })

/** For `env`: the test runner puts hooks of its own into every Node that is spawned. A daemon is to be as people run it; `env` gives its pid on. */
const withoutHooks = ["-u", "NODE_OPTIONS"]

export interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

export interface CallOptions {
  readonly stdin?: string
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** Columns of the terminal that it prints for. */
  readonly columns?: number
  /** As a process of its own, by `bin/kos`. */
  readonly process?: boolean
  /** Ends an endless command as soon as what it printed satisfies this. */
  readonly until?: (out: string) => boolean
}

/** Runs `kos ARGV`. */
export const kos = async (argv: ReadonlyArray<string>, options: CallOptions = {}): Promise<Ran> => {
  if (options.process === true) return kosProcess(argv, options)
  let out = ""
  let err = ""
  const stop = new AbortController()
  const sink = (take: (text: string) => void) => ({ write: (text: string) => { take(text); return true }, once: () => undefined, off: () => undefined, ...(options.columns === undefined ? {} : { columns: options.columns }) })
  const { stdin } = options
  const code = await runCli(argv, {
    stdin: { async *[Symbol.asyncIterator]() { yield stdin ?? "" } },
    stdinPiped: stdin !== undefined,
    stdout: sink((text) => {
      out += text
      if (options.until?.(out) === true) stop.abort()
    }),
    stderr: sink((text) => { err += text }),
    env: plainEnv(options.env ?? {}), cwd: options.cwd ?? "/",
    now: () => performance.timeOrigin + performance.now(),
    random: (size) => crypto.getRandomValues(new Uint8Array(size)),
    version: "0.0.0-test", signal: stop.signal,
    local: {
      init: async (input, context) => (await import("../src/boot/init.ts")).init(input, context),
      doctor: async (input, context) => (await import("../src/boot/offline-doctor.ts")).offlineDoctor(input, context),
      keys: {
        show: async (input, context) => (await import("../src/boot/recovery.ts")).showKeys(input, context),
        seal: async (input, context) => (await import("../src/boot/recovery.ts")).sealKeys(input, context),
        unseal: async (input, context) => (await import("../src/boot/recovery.ts")).unsealKeys(input, context),
        backup: async (input, context) => (await import("../src/boot/recovery.ts")).backupKeys(input, context),
        restore: async (input, context) => (await import("../src/boot/recovery.ts")).restoreKeys(input, context)
      },
      daemonRun: () => Promise.reject(new Error("a daemon is run as a process")),
      dhtRun: () => Promise.reject(new Error("a DHT is run as a process"))
    }
  })
  return { code, out, err }
}

const kosProcess = async (argv: ReadonlyArray<string>, options: CallOptions): Promise<Ran> => {
  const child = spawn("env", [...withoutHooks, bin, ...argv], { cwd: options.cwd ?? "/", env: plainEnv(options.env ?? {}), stdio: [options.stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"] })
  let out = ""
  let err = ""
  child.stdout?.on("data", (part: Buffer) => {
    out += part.toString()
    if (options.until?.(out) === true) child.kill("SIGINT")
  })
  child.stderr?.on("data", (part: Buffer) => { err += part.toString() })
  child.stdin?.end(options.stdin)
  const [code] = await once(child, "close") as [number | null]
  return { code, out, err }
}

/** Decodes strictly: a key that the schema does not know is a fault of the handler. */
const decodeAs = <Name extends OperationName>(name: Name, value: unknown): OutputOf<Name> => {
  const op = operationByName.get(name)
  if (op === undefined) throw new Error(`there is no operation ${name}`)
  const decoded = Schema.decodeUnknownResult(op.output, { onExcessProperty: "error" })(value)
  if (Result.isFailure(decoded)) throw new Error(`${name} does not answer by its own schema: ${decoded.failure.message}`)
  return decoded.success as OutputOf<Name>
}

/** Operations whose answers were checked by their schemas in this process. */
export const asked = new Set<OperationName>()

const wordsOf = (name: OperationName): ReadonlyArray<string> => name.split(".")

export interface DaemonOptions {
  readonly name?: string
  /** Opens no connection at all; else it meets others on the local network. */
  readonly isolated?: boolean
  readonly env?: Readonly<Record<string, string>>
  /** Arguments of Node itself. */
  readonly node?: ReadonlyArray<string>
  /** By `bin/kos-launch`, as `npm start` does: then the node can switch versions. A directory: by the launcher of that installation. */
  readonly launched?: boolean | string
  readonly args?: ReadonlyArray<string>
}

/** One home; its daemon may be started and ended many times. */
export class TestNode {
  readonly home: string
  readonly #options: DaemonOptions
  #child: ChildProcess | undefined
  #err = ""
  #announced: OutputOf<"daemon.run"> | undefined

  constructor(home: string, options: DaemonOptions) {
    this.home = home
    this.#options = options
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** What the daemon said when it was ready. */
  get announced(): OutputOf<"daemon.run"> {
    if (this.#announced === undefined) throw new Error("the daemon has not said anything yet")
    return this.#announced
  }

  /** Everything that the daemon wrote to stderr. */
  get stderr(): string {
    return this.#err
  }

  /** Resolves when the daemon is ready. Another mode or environment may be given for this run. */
  async start(more: DaemonOptions = {}): Promise<this> {
    const { name, isolated = false, env = {}, node = [], args = [], launched = false } = { ...this.#options, ...more }
    const child = spawn("env", [
      ...withoutHooks, ...(launched !== false ? [join(launched === true ? root : launched, "bin/kos-launch")] : [process.execPath, ...node, main]), "--home", this.home, "--json", "daemon", "run", "--lan-only", ...(name === undefined ? [] : ["--name", name]), ...args
    ], { cwd: "/", env: plainEnv({ ...(launched !== false ? { PATH: `${join(root, "node_modules/.bin")}:${process.env["PATH"] ?? ""}` } : {}), ...(isolated ? { KOS_NETWORK_MODE: "isolated" } : {}), ...env }), stdio: ["ignore", "pipe", "pipe"] })
    this.#child = child
    let out = ""
    child.stderr?.on("data", (part: Buffer) => { this.#err += part.toString() })
    const line = await new Promise<string>((done, fail) => {
      const timer = setTimeout(() => fail(new Error(`no daemon on ${this.home} within ${patienceMs} ms: ${this.#err}`)), patienceMs)
      child.stdout?.on("data", (part: Buffer) => {
        out += part.toString()
        const end = out.indexOf("\n")
        if (end < 0) return
        clearTimeout(timer)
        done(out.slice(0, end))
      })
      child.once("close", (code) => {
        clearTimeout(timer)
        fail(new Error(`the daemon on ${this.home} ended with ${code}: ${this.#err}`))
      })
    })
    this.#announced = decodeAs("daemon.run", JSON.parse(line))
    asked.add("daemon.run")
    return this
  }

  /** Asks it to stop; resolves with its exit code. */
  async stop(): Promise<number | null> {
    return this.#end("SIGTERM")
  }

  /** As a power cut of the process: nothing is written any more. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL")
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null
    const closed = once(child, "close")
    child.kill(signal)
    const timer = setTimeout(() => child.kill("SIGKILL"), patienceMs)
    const [code] = await closed as [number | null]
    clearTimeout(timer)
    return code
  }

  /** `kos --home … ARGV`, as it is. */
  run(argv: ReadonlyArray<string>, options: CallOptions = {}): Promise<Ran> {
    return kos(["--home", this.home, ...argv], options)
  }

  /** `kos NAME ARGS --json`, which must succeed with one of these codes; the answer by the operation's own schema. */
  async ask<Name extends OperationName>(name: Name, args: ReadonlyArray<string> = [], options: CallOptions & { readonly codes?: ReadonlyArray<number> } = {}): Promise<OutputOf<Name>> {
    const ran = await this.#json(name, args, options)
    return decodeAs(name, JSON.parse(ran.out))
  }

  /** The same for the everyday lists that come as one array of items. */
  async list<Name extends "events" | "logs">(name: Name, args: ReadonlyArray<string> = []): Promise<ReadonlyArray<OutputOf<Name>>> {
    const ran = await this.#json(name, args, {})
    return (JSON.parse(ran.out) as ReadonlyArray<unknown>).map((item) => decodeAs(name, item))
  }

  /** The same for NDJSON. */
  async lines<Name extends "event.export" | "events" | "logs">(name: Name, args: ReadonlyArray<string> = [], options: CallOptions = {}): Promise<ReadonlyArray<OutputOf<Name>>> {
    const ran = await this.#json(name, args, { ...options, codes: [0, 130] })
    return ran.out.split("\n").filter((line) => line !== "").map((line) => decodeAs(name, JSON.parse(line)))
  }

  async #json(name: OperationName, args: ReadonlyArray<string>, options: CallOptions & { readonly codes?: ReadonlyArray<number> }): Promise<Ran> {
    asked.add(name)
    const ran = await this.run([...wordsOf(name), ...args, "--json"], options)
    if (!(options.codes ?? [0]).includes(ran.code ?? -1)) throw new Error(`kos ${wordsOf(name).join(" ")} ${args.join(" ")} ended with ${ran.code}: ${ran.err}${ran.out}`)
    if (ran.err !== "") throw new Error(`kos ${wordsOf(name).join(" ")} ${args.join(" ")} printed on stderr: ${ran.err}`)
    return ran
  }

  /** What was refused: runs with `--json` and reads the one problem on stderr; stdout must be empty. */
  async refused(argv: ReadonlyArray<string>, options: CallOptions = {}): Promise<ProblemDocument & { readonly code: number | null }> {
    return problemOf(await this.run([...argv, "--json"], options), argv)
  }

  /** Asks again until the answer satisfies; the last answer when it never does within the patience. */
  async until<Name extends OperationName>(name: Name, args: ReadonlyArray<string>, holds: (value: OutputOf<Name>) => boolean, codes: ReadonlyArray<number> = [0, 10]): Promise<OutputOf<Name>> {
    const end = performance.now() + patienceMs
    for (;;) {
      const value = await this.ask(name, args, { codes })
      if (holds(value) || performance.now() > end) return value
      await delay(50)
    }
  }

  /** The mesh's directory in this home. */
  get meshDirectory(): string {
    return `${this.home}/mesh/${readFileSync(`${this.home}/current`, "utf8").slice(0, 16)}`
  }

  /** GET on the daemon's socket. */
  get(path: string): Promise<{ readonly status: number; readonly text: string }> {
    return this.#http(path, {}, undefined)
  }

  /** A command under an id of the test's choosing. */
  async post(name: OperationName, input: unknown, command: string): Promise<{ readonly status: number; readonly value: unknown }> {
    const { status, text } = await this.#http(`/v1/${name.replaceAll(".", "/")}`, { "content-type": "application/json", "kos-command": command }, JSON.stringify(input))
    return { status, value: JSON.parse(text) }
  }

  async #http(path: string, headers: Readonly<Record<string, string>>, body: string | undefined): Promise<{ readonly status: number; readonly text: string }> {
    const at = socketAddress(this.home)
    try {
      return await new Promise((done, fail) => {
        request({
          socketPath: at.address, path, method: body === undefined ? "GET" : "POST", agent: false,
          headers: { ...headers, ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }) }
        }, (response) => {
          let text = ""
          response.setEncoding("utf8").on("data", (part: string) => { text += part }).on("end", () => done({ status: response.statusCode ?? 0, text }))
        }).on("error", fail).end(body)
      })
    } finally {
      at.release()
    }
  }
}

/**
 * A directory for homes, removed after the test and after its daemons. tap removes the directories of `testdir` before it runs teardowns, unless
 * a teardown was there first: a daemon that still writes then keeps its directory from being removed, and is never ended.
 */
export const homesOf = (t: Test, content: Parameters<Test["testdir"]>[0] = {}): string => {
  t.teardown(() => undefined)
  return t.testdir(content)
}

/** A new home below `directory`, ended with the test. */
export const testNode = (t: Test, directory: string, options: DaemonOptions = {}): TestNode => {
  const node = new TestNode(`${directory}/${options.name ?? "home"}`, options)
  t.teardown(() => node.kill())
  return node
}

export const problemOf = (ran: Ran, argv: ReadonlyArray<string>): ProblemDocument & { readonly code: number | null } => {
  if (ran.out !== "") throw new Error(`kos ${argv.join(" ")} was to be refused and printed: ${ran.out}`)
  const decoded = Schema.decodeUnknownResult(ProblemDocument, { onExcessProperty: "error" })(JSON.parse(ran.err))
  if (Result.isFailure(decoded)) throw new Error(`kos ${argv.join(" ")} printed no problem document: ${ran.err}`)
  return { ...decoded.success, code: ran.code }
}

/** Makes the second node a member of the first one's mesh; both meet on the local network. */
export const joinMesh = async (host: TestNode, guest: TestNode, meshName = "hill"): Promise<void> => {
  if ((await host.ask("mesh.show")).name !== meshName) await host.ask("mesh.create", [meshName])
  const { invite } = await host.ask("invite.create")
  await guest.ask("join", [invite, "--timeout", "30"])
  await guest.ask("wait", ["synced", "--timeout", "30"])
  await host.until("status", [], (status) => status.peers.some(({ device, inTouch, waiting }) => device === guest.announced.device && inTouch && waiting === 0))
}

/** Waits until something holds; false when it never does within the patience. */
export const eventually = async (holds: () => boolean | Promise<boolean>, msMax = patienceMs): Promise<boolean> => {
  const end = performance.now() + msMax
  while (!(await holds())) {
    if (performance.now() > end) return false
    await delay(50)
  }
  return true
}

/** Every regular file below a directory. */
export const filesBelow = (directory: string): ReadonlyArray<string> =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name)).filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true)

/** Files below a directory that hold this text, in UTF-8 or UTF-16. */
export const filesWith = (directory: string, text: string): ReadonlyArray<string> =>
  filesBelow(directory).filter((path) => {
    const bytes = readFileSync(path)
    return bytes.includes(text) || bytes.includes(Buffer.from(text, "utf16le"))
  })

// Nothing but what a terminal shows: no control character except the line end, no bidirectional override.
const controls = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/

/** Is it fit for a terminal? */
export const isPlain = (text: string): boolean => !controls.test(text)
