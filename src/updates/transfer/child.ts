/**
 * The parent's hold on the transfer process: started when first needed, started again with growing pauses when it died, left alone for a while when it dies too
 * often, ended when nobody needs it. What is to happen in it after a new start is the caller's to say again (`onStart`).
 */
import { type ChildProcess, fork } from "node:child_process"
import { mkdirSync } from "node:fs"
import { readFile, unlink } from "node:fs/promises"
import { getCompileCacheDir } from "node:module"
import type { Socket } from "node:net"
import { dirname, join } from "node:path"
import { randomBytes } from "../../codec/signature.ts"
import { decodeFromChild, type FromChild, type Opening, type ToChild } from "./messages.ts"

export interface ChildOptions {
  /** Directory for the socket. */
  readonly run: string
  readonly memoryBytesMax: number
  readonly now: () => number
  readonly notice: (text: string) => void
  readonly opening: (socket: string) => Opening
  readonly onStart: (send: (message: ToChild) => void, tracker: string | null) => void
  readonly onMessage: (message: FromChild) => void
  /** It ended without being asked; `again` says whether it is started anew by itself. */
  readonly onEnd: (again: boolean, why: string) => void
  /** Must it be started anew when it died? */
  readonly needed: () => boolean
  readonly pausesMs?: ReadonlyArray<number>
  readonly entry?: string
}

export interface Child {
  /** The socket's path, as soon as the process is ready; rejects with the reason when it is not to be had. */
  readonly start: () => Promise<string>
  readonly running: () => boolean
  /** It runs, or is about to be started again. */
  readonly coming: () => boolean
  readonly pid: () => number | undefined
  /** Lost when it does not run. A socket is handed over. */
  readonly send: (message: ToChild, handle?: Socket) => void
  /** Asks it to end, and ends it after a while. */
  readonly stop: () => Promise<void>
}

/** Buffers are most of its garbage. Marking in steps begins anew with each few of them and took a third of the processor time. */
const flags = ["--max-old-space-size=192", "--max-semi-space-size=8", "--no-incremental-marking", "--disable-warning=ExperimentalWarning"]
const deathsMax = 5
const deathsWithinMs = 120_000
const restMs = 300_000
const pausesMsDefault = [100, 1_000, 5_000, 15_000] as const
const readyMsMax = 30_000
const stopMsMax = 5_000
/** It says something every second. */
const silentMsMax = 60_000
const watchMs = 2_000
/** Above what it may use by its own count: it ends itself before. */
const memorySlackBytes = 64 << 20

interface Running {
  readonly child: ChildProcess
  readonly ready: Promise<string>
  readonly ended: Promise<void>
  heard: number
  stopping: boolean
}

export const makeChild = (options: ChildOptions): Child => {
  const { run, memoryBytesMax, now, notice, onMessage, pausesMs = pausesMsDefault } = options
  let running: Running | undefined
  let deaths: ReadonlyArray<number> = []
  let restUntil = -Infinity
  let again: NodeJS.Timeout | undefined
  let closed = false

  const start = (): Promise<string> => {
    if (running !== undefined && !running.stopping) return running.ready
    if (running !== undefined) return running.ended.then(start)
    if (restUntil > now()) {
      return Promise.reject(new Error(`the transfer process ended ${deathsMax} times within ${deathsWithinMs / 60_000} minutes; it is tried again in ${Math.ceil((restUntil - now()) / 1_000)} s`))
    }
    clearTimeout(again)
    again = undefined
    running = launch()
    return running.ready
  }

  const launch = (): Running => {
    mkdirSync(run, { recursive: true, mode: 0o700 })
    const path = join(run, `transfer-${Buffer.from(randomBytes(6)).toString("hex")}.sock`)
    const child = fork(options.entry ?? join(import.meta.dirname, "process.ts"), [], {
      // Hooks and flags of this process are none of its business. A proxy of the environment is: mirrors are asked directly.
      env: compileCache(), execArgv: flags,
      serialization: "advanced", stdio: ["ignore", "ignore", "pipe", "ipc"]
    })
    let last = ""
    child.stderr?.setEncoding("utf8").on("data", (text: string) => { last = `${last}${text}`.slice(-2_000) })
    let self: Running
    const ended = new Promise<void>((resolve) => {
      const end = (why: string) => {
        clearInterval(watching)
        if (running === self) running = undefined
        void unlink(path).catch(() => {}).then(resolve)
        if (!self.stopping) died(why)
      }
      child.once("exit", (code, signal) => end(signal === null ? `it ended with code ${code}${last === "" ? "" : `: ${reasonIn(last)}`}` : `it was ended by ${signal}`))
      child.once("error", (error) => { if (child.pid === undefined) end(error.message) })
    })
    const ready = new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => {
        child.kill("SIGKILL")
        reject(new Error(`the transfer process was not ready within ${readyMsMax / 1_000} s`))
      }, readyMsMax)
      void ended.then(() => {
        clearTimeout(timer)
        reject(new Error("the transfer process ended before it was ready"))
      })
      child.on("message", (value: unknown) => {
        const message = decodeFromChild(value)
        if (message === undefined) return
        self.heard = now()
        if (message.type !== "ready") return onMessage(message)
        clearTimeout(timer)
        if (message.fault !== null) return reject(new Error(`the transfer process cannot begin: ${message.fault}`))
        options.onStart((next) => send(next), message.tracker)
        resolve(path)
      })
    })
    ready.catch(() => {})
    const watching = setInterval(() => {
      if (now() - self.heard > silentMsMax) child.kill("SIGKILL")
      void residentBytes(child.pid).then((bytes) => {
        if (bytes <= memoryBytesMax + memorySlackBytes) return
        notice(`The transfer process used ${Math.round(bytes / 2 ** 20)} MiB of memory and was ended.`)
        child.kill("SIGKILL")
      })
    }, watchMs)
    watching.unref()
    self = { child, ready, ended, heard: now(), stopping: false }
    child.send({ type: "open", opening: options.opening(path) } satisfies ToChild, () => {})
    return self
  }

  const died = (why: string) => {
    deaths = [...deaths, now()].filter((at) => now() - at < deathsWithinMs)
    const often = deaths.length >= deathsMax
    if (often) {
      restUntil = now() + restMs
      deaths = []
    }
    const anew = !often && !closed && options.needed()
    notice(`The transfer process ended: ${why}.${often ? ` It is left alone for ${restMs / 60_000} minutes.` : ""}`)
    options.onEnd(anew, often ? `the transfer process ended ${deathsMax} times within ${deathsWithinMs / 60_000} minutes: ${why}` : why)
    if (anew) again = setTimeout(() => { start().catch(() => {}) }, pausesMs[Math.min(deaths.length, pausesMs.length) - 1] ?? 0)
  }

  const send = (message: ToChild, handle?: Socket) => {
    const child = running?.child
    if (child === undefined || !child.connected) return
    if (handle === undefined) child.send(message, () => {})
    else child.send(message, handle, {}, () => {})
  }

  return {
    start, send,
    running: () => running !== undefined && !running.stopping,
    coming: () => running !== undefined || again !== undefined,
    pid: () => running?.child.pid,
    stop: async () => {
      closed = true
      clearTimeout(again)
      const self = running
      if (self === undefined) {
        closed = false
        return
      }
      self.stopping = true
      self.child.send({ type: "quit" } satisfies ToChild, () => {})
      const timer = setTimeout(() => self.child.kill("SIGKILL"), stopMsMax)
      await self.ended
      clearTimeout(timer)
      closed = false
    }
  }
}

/** Compiled code that both share: it starts in half the time with 30 MB less. */
const compileCache = (): NodeJS.ProcessEnv => {
  const own = getCompileCacheDir()
  const cache = process.env["NODE_COMPILE_CACHE"] ?? (own === undefined ? undefined : dirname(own))
  return cache === undefined ? {} : { NODE_COMPILE_CACHE: cache }
}

const reasonIn = (text: string): string => (/^(?:\w*Error\b.*|FATAL ERROR.*)$/m.exec(text)?.[0] ?? text.trim().split("\n").at(-1) ?? "").slice(0, 300)

/** 0 where it cannot be told. */
const residentBytes = async (pid: number | undefined): Promise<number> => {
  if (pid === undefined) return 0
  const text = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "")
  return Number(/^VmRSS:\s+(\d{1,12}) kB$/m.exec(text)?.[1] ?? 0) * 1_024
}
