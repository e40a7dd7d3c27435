/** A home, a package and small versions of it whose `bin/kos` is a shell script: what the launcher does is seen in a fraction of a second. */
import { type ChildProcess, spawn } from "node:child_process"
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { once } from "node:events"
import { join, resolve } from "node:path"
import type { Test } from "tap"
import { type DirectorySlots, type DirectorySlotsOptions, openDirectorySlots } from "../src/boot/slots-directories.ts"

/**
 * How a version behaves. `good`: becomes good, and runs. `bad`: ends with code 1. `hang`: runs and is never good. `stubborn`: the same, and does not end when asked.
 * `crash`: is killed. `gives-up`: takes itself back. `good-again`: becomes good and wants to be started again. `again`: always wants to be started again.
 */
export type Behaviour = "good" | "bad" | "hang" | "stubborn" | "crash" | "gives-up" | "good-again" | "again"

const root = resolve(import.meta.dirname, "..")

/** Takes the home as the daemon does, writes down that it was started, and ends when its launcher is gone. Uses no program that a test puts its own in the place of. */
const script = (behaviour: Behaviour): string => `#!/bin/sh
home=$2
slots=$home/updates/slots/kos
ticks() { { read -r stat < "/proc/$1/stat"; } 2>/dev/null || return 1; set -- \${stat##*) }; shift 19; ticks=$1; }
{ read -r pid started < "$home/run/kos.pid"; } 2>/dev/null
if [ -n "\${pid:-}" ] && ticks "$pid" && [ "$ticks" = "$started" ]; then echo "conflict $KOS_SLOT" >> "$home/starts"; exit 6; fi
ticks $$; echo "$$ $ticks" > "$home/run/kos.pid"
echo "start $KOS_SLOT \${KOS_TRIAL:-0} \${KOS_ROLLED_BACK:--}" >> "$home/starts"
good() {
  /bin/rm -f "$slots/current.new"
  /bin/ln -s "gen/$(printf %04d "$KOS_SLOT")" "$slots/current.new" && /bin/mv -T -f "$slots/current.new" "$slots/current" && /bin/rm -f "$slots/trial"
}
stay() {
  # As when a person wants another version.
  trap 'exit 75' USR1
  echo "runs $KOS_SLOT" >> "$home/starts"
  while read -r stat < /proc/$$/stat; set -- \${stat##*) }; [ "$2" = "$KOS_LAUNCHER_PID" ]; do /bin/sleep 0.05; done
}
trial=\${KOS_TRIAL:-0}
case ${behaviour} in
  good) [ "$trial" = 1 ] && good; stay ;;
  bad) [ "$trial" = 1 ] && exit 1; stay ;;
  crash) [ "$trial" = 1 ] && kill -9 $$; stay ;;
  hang) stay ;;
  stubborn) trap '' TERM; stay ;;
  gives-up) [ "$trial" = 1 ] && { echo "1 $KOS_SLOT 1 it says so itself" > "$slots/failed"; /bin/rm -f "$slots/trial"; exit 75; }; stay ;;
  good-again) [ "$trial" = 1 ] && { good; exit 75; }; stay ;;
  again) exit 75 ;;
esac
`

/** Writes a version into a directory. */
export const writeVersion = (directory: string, behaviour: Behaviour): void => {
  mkdirSync(`${directory}/bin`, { recursive: true })
  writeFileSync(`${directory}/bin/kos`, script(behaviour))
  chmodSync(`${directory}/bin/kos`, 0o755)
  writeFileSync(`${directory}/whole`, behaviour)
}

export const releaseId = (n: number): string => n.toString(16).padStart(64, "0")

export interface Started {
  readonly child: ChildProcess
  readonly err: () => string
  /** Resolves with the exit code. */
  readonly ended: Promise<number | null>
}

export class SlotsHome {
  readonly home: string
  readonly pkg: string
  readonly root: string
  readonly #running = new Set<ChildProcess>()

  constructor(t: Test, directory: string) {
    this.home = join(directory, "home")
    this.pkg = join(directory, "package")
    this.root = `${this.home}/updates/slots/kos`
    mkdirSync(`${this.home}/run`, { recursive: true })
    writeVersion(this.pkg, "good")
    cpSync(`${root}/bin/kos-launch`, `${this.pkg}/bin/kos-launch`)
    t.teardown(() => { for (const child of this.#running) child.kill("SIGKILL") })
  }

  open(more: Partial<DirectorySlotsOptions> = {}): Promise<DirectorySlots> {
    return openDirectorySlots({ root: this.root, name: "kos", factory: { version: "0.1.0", path: this.pkg }, ...more })
  }

  /** Stages a version and returns its generation. */
  async stage(slots: DirectorySlots, behaviour: Behaviour, n: number): Promise<number> {
    const { generation } = await slots.stage({ name: "kos", version: `1.0.${n}`, release: releaseId(n), write: async (directory) => writeVersion(directory, behaviour) })
    return generation
  }

  launch(options: { readonly env?: Readonly<Record<string, string>>; readonly shell?: string; readonly args?: ReadonlyArray<string> } = {}): Started {
    const { env = {}, shell = "/bin/sh", args = ["--home", this.home, "daemon", "run"] } = options
    const child = spawn(shell, [`${this.pkg}/bin/kos-launch`, ...args], { stdio: ["ignore", "pipe", "pipe"], env: { PATH: "/usr/bin:/bin", KOS_LAUNCH_GRACE: "1", ...env } })
    this.#running.add(child)
    let err = ""
    child.stderr.on("data", (part: Buffer) => { err += part.toString() })
    const ended = once(child, "exit").then(([code]: Array<unknown>) => {
      this.#running.delete(child)
      return typeof code === "number" ? code : null
    })
    return { child, err: () => err, ended }
  }

  /** Ends a launcher as a crash does; its version sees that and ends. */
  async end({ child, ended }: Started): Promise<void> {
    child.kill("SIGKILL")
    await ended
  }

  /** What versions wrote down: `start GENERATION TRIAL ROLLED_BACK`, `runs GENERATION`, `conflict GENERATION`. */
  lines(): ReadonlyArray<string> {
    return existsSync(`${this.home}/starts`) ? readFileSync(`${this.home}/starts`, "utf8").split("\n").filter((line) => line !== "") : []
  }

  forget(): void {
    writeFileSync(`${this.home}/starts`, "")
  }
}
