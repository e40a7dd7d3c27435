/**
 * Running code that is not trusted yet: shut in by the best means that this machine has.
 *
 * **What it owns.** How a command is wrapped so that it reads only what it needs, writes only its scratch directory and has no network; nothing of what it is run for.
 *
 * **Three levels**, the first that works here is taken; whether one works is tried with the real arguments, not looked up:
 * 1. *bubblewrap*: all namespaces, a root of its own that is read-only but for the scratch directory and a small `/tmp`, no capabilities.
 * 2. *namespaces*: the same with `unshare`, `mount` and `pivot_root` of util-linux, which every Debian has.
 * 3. *node-permissions*: Node's own permission model. It binds JavaScript only: native modules, of which kOS has some, are not held by it, and the network is open. Only Node can be run
 *    so, and it is this process's own Node. It guards against mistakes, not against malice, and says so.
 *
 * **Invariants.** The home of this node is not among what can be read, so its keys are not. The environment is the one given and nothing else. All processes end with the first one: in
 * 1 and 2 they share a process namespace that dies with it, in 3 no process can be started.
 *
 * **Tricky cases.**
 * - *As root*: in the namespaces it is root too, but without capabilities, and files outside are not there or read-only. `/proc` must be read-only as well: the kernel's settings in it
 *   (`/proc/sys`) ask who writes, not what he may.
 * - *`bwrap` or `unshare` is there and not allowed* (containers, hardened kernels): the trial run fails, and the next level is taken.
 * - *A slot below `/tmp`*: `/tmp` is made before what is to be read is put into it.
 */
import { execFile } from "node:child_process"
import { existsSync, lstatSync, readlinkSync, realpathSync } from "node:fs"
import { delimiter, isAbsolute, join } from "node:path"
import { promisify } from "node:util"

export const isolationLevels = ["bubblewrap", "namespaces", "node-permissions"] as const
export type IsolationLevel = (typeof isolationLevels)[number]

export interface Isolation {
  readonly by: IsolationLevel
  /** True when the network is kept away. */
  readonly network: boolean
  /** True when writes outside of the scratch directory are kept away, whatever it runs. */
  readonly writes: boolean
  /** One sentence for people. */
  readonly says: string
}

/** What is to be run. Paths are absolute. */
export interface Confined {
  /** Node and its script, or a program; the third level runs Node only. */
  readonly command: { readonly node: string; readonly options: ReadonlyArray<string>; readonly script: string } | { readonly program: string }
  readonly args: ReadonlyArray<string>
  /** Files and directories that it may read besides the system's programs and libraries. */
  readonly read: ReadonlyArray<string>
  /** The directories that it may write; the first one is where it starts. */
  readonly write: readonly [string, ...ReadonlyArray<string>]
  readonly env: Readonly<Record<string, string>>
}

export interface Wrapped {
  readonly file: string
  readonly args: ReadonlyArray<string>
}

export interface IsolationWay extends Isolation {
  readonly wrap: (confined: Confined) => Wrapped
}

/** No way of those that were asked for works here. */
export class NotIsolated extends Error {}

/** Bytes of the `/tmp` inside. */
const tmpBytesMax = 16 * 1024 * 1024
/** One trial run, milliseconds. */
const probeMsMax = 10_000

/** The best way that works here. `scratch` is a directory for the trial runs, which exists. */
export const findIsolation = async (scratch: string, levels: ReadonlyArray<IsolationLevel> = isolationLevels): Promise<IsolationWay> => {
  const why: Array<string> = []
  for (const level of isolationLevels) {
    if (!levels.includes(level)) continue
    const fault = await tryLevel(level, scratch)
    if (fault === undefined) return ways[level](why)
    why.push(fault)
  }
  throw new NotIsolated(`nothing here can shut it in: ${why.join("; ")}`)
}

/** R7.1: tried as it will be used. Says why it does not work. */
const tryLevel = async (level: IsolationLevel, scratch: string): Promise<string | undefined> => {
  const missing = needs[level].filter((name) => findProgram(name) === undefined)
  if (missing.length > 0) return `${missing.join(" and ")} ${missing.length === 1 ? "is" : "are"} not installed`
  const { file, args } = ways[level]([]).wrap({
    command: { node: process.execPath, options: ["-e"], script: "0" }, args: [], read: [], write: [scratch], env: {}
  })
  try {
    await promisify(execFile)(file, [...args], { timeout: probeMsMax, killSignal: "SIGKILL", env: {}, maxBuffer: 65_536 })
    return undefined
  } catch (cause) {
    const text = typeof cause === "object" && cause !== null && "stderr" in cause ? String(cause.stderr).trim().split("\n").at(-1) ?? "" : ""
    return `${level === "namespaces" ? "unshare" : level} does not work here${text === "" ? "" : ` (${text.slice(0, 200)})`}`
  }
}

const needs: Readonly<Record<IsolationLevel, ReadonlyArray<string>>> = {
  bubblewrap: ["bwrap"], namespaces: ["unshare", "mount", "umount", "pivot_root", "setpriv", "sh", "env"], "node-permissions": ["env"]
}

const ways: Readonly<Record<IsolationLevel, (why: ReadonlyArray<string>) => IsolationWay>> = {
  bubblewrap: () => ({
    by: "bubblewrap", network: true, writes: true, wrap: byBubblewrap,
    says: "bubblewrap shut it in: no network, nothing of this home to read, and nothing to write but its scratch directory"
  }),
  namespaces: (why) => ({
    by: "namespaces", network: true, writes: true, wrap: byNamespaces,
    says: `namespaces of the kernel shut it in: no network, nothing of this home to read, and nothing to write but its scratch directory${because(why)}`
  }),
  "node-permissions": (why) => ({
    by: "node-permissions", network: false, writes: false, wrap: byPermissions,
    says: `only Node's permission model held it: its JavaScript could read no files but its own and the system's and write none but its own, its native modules were not held, and the network was open to it${because(why)}`
  })
}

const because = (why: ReadonlyArray<string>): string => why.length === 0 ? "" : `; ${why.join("; ")}`

/** What of the system is there inside: programs and libraries, nothing of anybody. */
const systemPlaces = (): { readonly bound: ReadonlyArray<string>; readonly links: ReadonlyArray<readonly [target: string, at: string]> } => {
  const bound = ["/usr"]
  const links: Array<readonly [string, string]> = []
  for (const place of ["/bin", "/sbin", "/lib", "/lib32", "/lib64"]) {
    const found = lstatSync(place, { throwIfNoEntry: false })
    if (found?.isSymbolicLink() === true) links.push([readlinkSync(place), place])
    else if (found?.isDirectory() === true) bound.push(place)
  }
  // Where distributions without /usr/lib keep them, and how libraries are found.
  return { bound: [...bound, "/nix/store", "/gnu/store", "/etc/ld.so.cache", "/etc/alternatives"].filter((place) => existsSync(place)), links }
}

/** What to run, and what has to be readable for it. */
const wordsOf = ({ command, args }: Confined): { readonly words: ReadonlyArray<string>; readonly needs: ReadonlyArray<string> } =>
  "program" in command ? { words: [command.program, ...args], needs: [] } : { words: [command.node, ...command.options, command.script, ...args], needs: [command.node] }

/** Without those that lie below another one. */
const outermost = (paths: ReadonlyArray<string>): ReadonlyArray<string> => {
  const all = [...new Set(paths)].toSorted()
  return all.filter((path) => !all.some((other) => other !== path && path.startsWith(`${other}/`)))
}

const byBubblewrap = (confined: Confined): Wrapped => {
  const { words, needs } = wordsOf(confined)
  const { bound, links } = systemPlaces()
  const reads = outermost([...confined.read, ...needs]).filter((path) => !bound.some((place) => path.startsWith(`${place}/`)))
  return {
    file: programOf("bwrap"),
    args: [
      "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv",
      ...Object.entries(confined.env).flatMap(([name, value]) => ["--setenv", name, value]),
      ...bound.flatMap((place) => ["--ro-bind", place, place]), ...links.flatMap(([target, at]) => ["--symlink", target, at]),
      "--proc", "/proc", "--dev", "/dev", "--size", String(tmpBytesMax), "--tmpfs", "/tmp",
      ...reads.flatMap((path) => ["--ro-bind", path, path]), ...confined.write.flatMap((path) => ["--bind", path, path]),
      "--remount-ro", "/", "--remount-ro", "/dev", "--remount-ro", "/proc", "--chdir", confined.write[0], "--", ...words
    ]
  }
}

/**
 * Builds a root in a directory of the scratch directory and goes there for good. Its arguments: scratch directory, bytes of what is written to memory, number of links and the links,
 * number of places that are read and the places, number of those that are written and the places, then the command. Mounts lie in a mount namespace of their own and end with it.
 */
const pivotScript = `set -eu
scratch=$1 size=$2; shift 2
root=$scratch/.root
mount --make-rprivate /
mkdir -p "$root"
mount -t tmpfs -o "size=$size,mode=0755" kos "$root"
mkdir "$root/tmp" "$root/proc" "$root/dev" "$root/old"
mount -t tmpfs -o "size=$size,mode=1777" kos "$root/tmp"
put() {
  if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root\${1%/*}"; : > "$root$1"; fi
  mount --bind "$1" "$root$1"
}
left=$1; shift
while [ "$left" -gt 0 ]; do ln -s "$1" "$root$2"; shift 2; left=$((left - 1)); done
left=$1; shift
while [ "$left" -gt 0 ]; do
  put "$1"
  mount -o remount,bind,ro "$root$1" 2>/dev/null || mount -o remount,bind,ro,nosuid,nodev "$root$1"
  shift; left=$((left - 1))
done
left=$1; shift
while [ "$left" -gt 0 ]; do put "$1"; shift; left=$((left - 1)); done
for device in null zero full random urandom; do : > "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
mount -t proc proc "$root/proc"
# Whoever is root outside could change the kernel's settings there, without any capability.
mount -o remount,bind,ro,nosuid,nodev,noexec "$root/proc"
cd "$root"
pivot_root . old
umount -l /old
rmdir /old
mount -o remount,bind,ro /
cd "$scratch"
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
`

const byNamespaces = (confined: Confined): Wrapped => {
  const { words, needs } = wordsOf(confined)
  const { bound, links } = systemPlaces()
  const reads = outermost([...confined.read, ...needs]).filter((path) => !bound.some((place) => path.startsWith(`${place}/`)))
  const places = [...bound, ...reads]
  return {
    file: programOf("unshare"),
    args: [
      "--user", "--map-root-user", "--net", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child=KILL",
      programOf("sh"), "-c", pivotScript, "kos", confined.write[0], String(tmpBytesMax), String(links.length), ...links.flat(),
      String(places.length), ...places, String(confined.write.length), ...confined.write,
      programOf("env"), "-i", ...Object.entries(confined.env).map(([name, value]) => `${name}=${value}`), ...words
    ]
  }
}

const byPermissions = ({ command, args, read, write, env }: Confined): Wrapped => {
  if ("program" in command) throw new NotIsolated(`only Node can be held by Node's permission model, and ${command.program} is a program of its own`)
  return {
    file: programOf("env"),
    args: [
      // Its own Node would be a program that nothing holds.
      "-i", ...Object.entries(env).map(([name, value]) => `${name}=${value}`), process.execPath, "--permission", "--allow-worker", "--allow-addons", "--disable-warning=SecurityWarning",
      ...[...systemPlaces().bound, "/etc/alpine-release", ...read, ...write].map((path) => `--allow-fs-read=${path}`), ...write.map((path) => `--allow-fs-write=${path}`),
      ...command.options, command.script, ...args
    ]
  }
}

/** Where the system keeps its programs, whatever this process's own search path says. */
const programDirectories = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"]

export const findProgram = (name: string): string | undefined =>
  [...(process.env["PATH"] ?? "").split(delimiter).filter((directory) => isAbsolute(directory)), ...programDirectories].map((directory) => join(directory, name)).find((path) => existsSync(path))

const programOf = (name: string): string => {
  const found = findProgram(name)
  if (found === undefined) throw new NotIsolated(`${name} is not installed`)
  return found
}

/** The Node that comes with a tree, when it is one of its own files or of `also`; else this process's own. */
export const nodeOfTree = (tree: string, also: ReadonlyArray<string>): string => {
  const link = `${tree}/node_modules/.bin/node`
  if (!existsSync(link)) return process.execPath
  const real = realpathSync(link)
  return [tree, ...also].some((place) => real.startsWith(`${realpathSync(place)}/`)) ? real : process.execPath
}
