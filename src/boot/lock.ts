/**
 * One daemon per home. `run/kos.pid` holds the pid and the start time of the process (field 22 of /proc/PID/stat), so that a pid
 * that was given to another program after a crash is not taken for ours.
 */
import { Schema } from "effect"
import { link, readFile, rm, unlink, writeFile } from "node:fs/promises"
import { makeDirectory, readMaybe } from "../vault/files.ts"

export class HomeInUse extends Schema.TaggedError<HomeInUse>()("HomeInUse", { home: Schema.String, pid: Schema.Int }) {
  override get message() {
    return `a daemon runs on ${this.home} already: pid ${this.pid}`
  }
}

/** Takes the home or throws `HomeInUse`; the answer gives it back. */
export const lockHome = async (home: string): Promise<() => Promise<void>> => {
  await makeDirectory(`${home}/run`)
  const path = `${home}/run/kos.pid`
  const mine = `${path}.${process.pid}`
  await writeFile(mine, `${process.pid} ${await startTicks(process.pid)}\n`, { mode: 0o600 })
  try {
    for (let attempt = 0; attempt < 10; attempt++) {
      try {
        await link(mine, path)
        return async () => {
          if (await holder(home) === process.pid) await rm(path, { force: true })
        }
      } catch (cause) {
        if (!isCode(cause, "EEXIST")) throw cause
      }
      const pid = await holder(home)
      if (pid !== undefined) throw new HomeInUse({ home, pid })
      await unlink(path).catch(() => undefined)
    }
    throw new Error(`${path} changes hands faster than it can be read`)
  } finally {
    await rm(mine, { force: true })
  }
}

/** Pid of the living daemon of this home. */
export const holder = async (home: string): Promise<number | undefined> => {
  const bytes = await readMaybe(`${home}/run/kos.pid`)
  if (bytes === undefined) return undefined
  const [pidText, ticks] = Buffer.from(bytes).toString("utf8").trim().split(" ")
  const pid = Number(pidText)
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined
  return await startTicks(pid) === ticks ? pid : undefined
}

const startTicks = async (pid: number): Promise<string | undefined> => {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8")
    const [state, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    // What has ended and is not reaped yet holds nothing.
    return state === "Z" || state === "X" ? undefined : rest[18]
  } catch {
    return undefined
  }
}

const isCode = (cause: unknown, code: string): boolean =>
  typeof cause === "object" && cause !== null && "code" in cause && cause.code === code
