/**
 * A process of a benchmark, started by `run.ts` or by a side. Three forms, told apart by the first message:
 * a side of a case, a case's preparation, or the other process of a side. It talks over Node's IPC channel only.
 */
import { fork } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import type { BenchCase, Other, OtherMain, SideContext, Window } from "./case.ts"
import { NotYet } from "./case.ts"

export type Job =
  | { readonly form: "side"; readonly module: string; readonly side: string; readonly dir: string; readonly fixture: string; readonly short: boolean }
  | { readonly form: "prepare"; readonly module: string; readonly dir: string; readonly short: boolean }
  | { readonly form: "other"; readonly module: string; readonly start: string; readonly dir: string; readonly argument: unknown }

const answerMsMax = 600_000
const stopMsMax = 10_000

const reply = (message: object) => new Promise<void>((resolve) => process.send?.(message, undefined, {}, () => resolve()))

const cpuMs = () => {
  const used = process.cpuUsage()
  return (used.user + used.system) / 1000
}

const main = async (job: Job) => {
  if (job.form === "other") return runOther(job)
  const module = (await import(job.module)) as { readonly benchCase: BenchCase }
  if (job.form === "prepare") {
    await module.benchCase.prepare?.({ dir: job.dir, short: job.short })
    return reply({ done: null })
  }
  const side = module.benchCase.sides[job.side]
  if (side === undefined) throw new Error(`no side ${job.side}`)
  const others: Array<Started> = []
  const context: SideContext = {
    dir: job.dir,
    fixture: job.fixture,
    short: job.short,
    other: async (moduleName, start, argument) => {
      const dir = path.join(job.dir, `other-${others.length}`)
      fs.mkdirSync(dir, { recursive: true })
      const other = await startOther({ form: "other", module: moduleName, start, dir, argument })
      others.push(other)
      return other
    },
    begin: async () => {
      const all = async () => {
        let sum = cpuMs()
        for (const other of others) if (other.alive()) sum += Number(await other.ask("cpu"))
        return sum
      }
      const cpu = await all()
      const from = process.hrtime.bigint()
      return async (): Promise<Window> => {
        const wallMs = Number(process.hrtime.bigint() - from) / 1e6
        return { wallMs, cpuMs: (await all()) - cpu }
      }
    }
  }
  try {
    const measure = await side(context)
    await reply({ done: { ...measure, detail: { ...measure.detail, "peak MiB": Math.round(process.resourceUsage().maxRSS / 1024) } } })
  } finally {
    for (const other of others) await other.stop()
  }
}

interface Started extends Other {
  alive(): boolean
}

const startOther = (job: Job): Promise<Started> => {
  const child = fork(new URL(import.meta.url), { stdio: ["ignore", "inherit", "inherit", "ipc"], serialization: "advanced" })
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (cause: Error) => void }>()
  let next = 1
  let ended = false
  const gone = new Promise<void>((resolve) => child.once("exit", () => {
    ended = true
    for (const one of waiting.values()) one.reject(new Error("the other process ended"))
    resolve()
  }))
  const ask = (question: string, argument?: unknown) => new Promise<unknown>((resolve, reject) => {
    if (ended) return reject(new Error("the other process ended"))
    const id = next++
    const timer = setTimeout(() => reject(new Error(`no answer to ${question}`)), answerMsMax)
    waiting.set(id, {
      resolve: (value) => { clearTimeout(timer); resolve(value) },
      reject: (cause) => { clearTimeout(timer); reject(cause) }
    })
    child.send({ id, question, argument })
  })
  const stop = async () => {
    if (ended) return
    const timer = setTimeout(() => child.kill("SIGKILL"), stopMsMax)
    child.send({ stop: true })
    await gone
    clearTimeout(timer)
  }
  return new Promise((resolve, reject) => {
    child.on("message", (message: { ready?: boolean; id?: number; value?: unknown; failed?: string; notYet?: string }) => {
      if (message.ready === true) return resolve({ ask, stop, alive: () => !ended })
      if (message.notYet !== undefined) return reject(new NotYet(message.notYet))
      if (message.id === undefined) return reject(new Error(message.failed ?? "the other process failed"))
      const one = waiting.get(message.id)
      waiting.delete(message.id)
      if (message.failed !== undefined) one?.reject(new Error(message.failed))
      else one?.resolve(message.value)
    })
    void gone.then(() => reject(new Error("the other process ended before it was ready")))
    child.send(job)
  })
}

const runOther = async (job: Extract<Job, { form: "other" }>) => {
  const module = (await import(job.module)) as Record<string, OtherMain>
  const start = module[job.start]
  if (start === undefined) throw new Error(`no ${job.start} in ${job.module}`)
  const answers = await start(job.argument, { dir: job.dir })
  process.on("message", (message: { id?: number; question?: string; argument?: unknown; stop?: boolean }) => {
    if (message.stop === true) {
      const bye = answers["stop"]
      void Promise.resolve(bye?.(undefined)).catch(() => {}).finally(() => process.exit(0))
      return
    }
    const { id, question = "" } = message
    const work = question === "cpu" ? Promise.resolve(cpuMs()) : answers[question]?.(message.argument)
    if (work === undefined) return void reply({ id, failed: `cannot ${question}` })
    work.then((value) => reply({ id, value }), (cause: unknown) => reply({ id, failed: String(cause) }))
  })
  await reply({ ready: true })
}

process.once("message", (job: Job) => {
  main(job).then(
    () => { if (job.form !== "other") process.exit(0) },
    async (cause: unknown) => {
      if (cause instanceof NotYet) await reply({ notYet: cause.needs })
      else await reply({ failed: cause instanceof Error ? cause.stack ?? cause.message : String(cause) })
      process.exit(1)
    }
  )
})
process.once("disconnect", () => process.exit(1))
