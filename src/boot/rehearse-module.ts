/**
 * The rehearsal of an agent, a codex module or an image: its own checks, run shut in on its tree, before it takes the place of the version before it (R7.1). There
 * is no data of the node that it would fold.
 */
import { Result } from "effect"
import { rm } from "node:fs/promises"
import { resolve } from "node:path"
import type { RehearsalReport, Slot } from "../updates/ports.ts"
import type { Release } from "../updates/release.ts"
import { confinedLimits, startConfined } from "../updates/rehearsal/confined-process.ts"
import { findIsolation, findProgram } from "../updates/rehearsal/isolate.ts"
import { makeDirectory } from "../vault/files.ts"

export interface ModuleRehearsal {
  readonly slot: Slot
  readonly release: Release
  /** Made, and removed in the end. */
  readonly scratch: string
  readonly signal: AbortSignal
  /** Milliseconds of a clock that never jumps. */
  readonly tick: () => number
}

export const rehearseModule = async ({ slot, release, scratch, signal, tick }: ModuleRehearsal): Promise<RehearsalReport> => {
  const began = tick()
  await rm(scratch, { recursive: true, force: true })
  await makeDirectory(scratch)
  const log: Array<string> = []
  const report = (by: RehearsalReport["isolation"], fault: string | undefined): RehearsalReport =>
    ({ ok: fault === undefined, isolation: by, events: 0, ms: Math.round(tick() - began), differences: [], log, fault })
  try {
    const found = await findIsolation(scratch).then(Result.succeed, (cause: unknown) => Result.fail(cause instanceof Error ? cause.message : String(cause)))
    if (Result.isFailure(found)) return report({ by: "node-permissions", network: true, writes: true, says: "not shut in" }, found.failure)
    const { by, network, writes, says } = found.success
    const isolation = { by, network, writes, says }
    for (const check of release.custom.checks) {
      const [program = "", ...args] = check.command.map((word) => word.replaceAll("{node}", process.execPath))
      const script = args[0]
      const child = startConfined(found.success, {
        // The third level runs Node only.
        command: program === process.execPath && script !== undefined ? { node: program, options: [], script: resolve(slot.path, script) } : { program: program.includes("/") ? resolve(slot.path, program) : findProgram(program) ?? resolve(slot.path, program) },
        args: program === process.execPath ? args.slice(1) : args, read: [slot.path, process.execPath], write: [scratch],
        env: { PATH: "/usr/bin:/bin", HOME: scratch, TMPDIR: scratch, LANG: "C.UTF-8", KOS_CHECK: check.name, KOS_REHEARSAL: "1", KOS_TREE: slot.path }
      }, { ...confinedLimits, msMax: check.timeoutMs }, { signal })
      child.stdin.on("error", () => undefined)
      child.stdin.end()
      child.answers.resume()
      const end = await child.ended
      log.push(...child.lines().slice(-50))
      if (end.code !== 0) return report(isolation, `its check ${check.name} failed: ${end.why ?? (end.code === null ? `ended by ${end.signal ?? "nobody"}` : `exit code ${end.code}`)}`)
    }
    return report(isolation, undefined)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}
