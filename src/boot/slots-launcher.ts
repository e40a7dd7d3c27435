/** What `bin/kos-launch` tells the daemon, and what the daemon owes it. */
import { Effect } from "effect"

/** The daemon ends with this code when another version is to be started in its place; EX_TEMPFAIL of sysexits.h. */
export const switchCode = 75
/** How often a daemon looks whether its launcher is there, milliseconds. */
export const launcherLookMs = 1_000

export interface Launch {
  /** Generation that runs; 0 for the package's own. */
  readonly slot: number
  readonly trial: boolean
  /** Generation whose trial failed and is not settled. */
  readonly rolledBack: number | undefined
  readonly pid: number | undefined
  /** Directory that the launcher itself came with: generation 0. */
  readonly factory: string | undefined
}

/** Undefined when no launcher started this: then nothing can be switched, and nobody would count a trial's tries. */
export const launchOf = (env: Readonly<Record<string, string | undefined>>): Launch | undefined => {
  const slot = number(env["KOS_SLOT"])
  if (env["KOS_LAUNCHER"] !== "1" || slot === undefined) return undefined
  return { slot, trial: env["KOS_TRIAL"] === "1" && slot !== 0, rolledBack: number(env["KOS_ROLLED_BACK"]), pid: number(env["KOS_LAUNCHER_PID"]), factory: env["KOS_LAUNCHER_PACKAGE"]?.startsWith("/") === true ? env["KOS_LAUNCHER_PACKAGE"] : undefined }
}

/**
 * Answers when the launcher that started this process is gone, and never when none did. A daemon without its launcher has nobody to count, and holds the home
 * that a new launcher waits for: it stops, as if asked.
 */
export const launcherGone = (env: Readonly<Record<string, string | undefined>>, parent: () => number = () => process.ppid): Effect.Effect<void> => {
  const launch = launchOf(env)
  if (launch?.pid === undefined) return Effect.never
  return Effect.sleep(launcherLookMs).pipe(Effect.repeat({ while: () => parent() === launch.pid }), Effect.asVoid)
}

const number = (text: string | undefined): number | undefined => (text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined)
