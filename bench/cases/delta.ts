/**
 * Real trees, no made ones: what npm installs of this project's own dependencies.
 *
 * - `root`, like the packages of a system image: all that the project depends on, and the larger of its development tools, as the newest versions
 *   of one day and of another six weeks later. Which packages changed is counted from the two trees and shown.
 * - `app`, like a bundle: its run-time dependencies as of one day; before and after three patch releases.
 * Native builds for other systems (`prebuilds`) are taken out of both: no image or bundle carries them. Without a registry the case waits.
 * The short form changes a few files of a few installed packages instead.
 */
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { constants, createZstdCompress } from "node:zlib"
import { Result } from "effect"
import { openArchive } from "../../src/updates/payload/archive-write.ts"
import { assemble } from "../../src/updates/payload/assemble.ts"
import { chunksOf } from "../../src/updates/payload/fastcdc.ts"
import { planFetch } from "../../src/updates/payload/fetch-plan.ts"
import { decodeIndex } from "../../src/updates/payload/index-file.ts"
import { makePayload } from "../../src/updates/payload/pack.ts"
import type { BenchCase, Side, SideContext } from "../case.ts"
import { NotYet } from "../case.ts"

const root = path.resolve(import.meta.dirname, "../..")
const never = new AbortController().signal
/** Days whose newest versions are taken. */
const rootDays = { old: "2026-09-08", new: "2026-10-20" } as const
const appDay = "2026-10-20"
const tools = ["tap", "esbuild", "@types/node"] as const
const patches = { old: { cborg: "6.1.2", "smol-toml": "1.9.0", yaml: "2.9.0" }, new: { cborg: "6.1.3", "smol-toml": "1.9.1", yaml: "2.9.1" } } as const
/** Of this project, for the short form. */
const shortPackages = ["hypercore", "hyperdht", "webtorrent", "yaml"] as const
const missingFile = "missing.txt"
const installSecondsMax = 240

const prepare = async ({ dir, short }: { readonly dir: string; readonly short: boolean }): Promise<void> => {
  if (short) return prepareShort(dir)
  const own: { readonly dependencies: Readonly<Record<string, string>> } = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8"))
  const newest = (names: ReadonlyArray<string>) => Object.fromEntries(names.map((name) => [name, "*"]))
  const names = Object.keys(own.dependencies)
  for (const age of ["old", "new"] as const) {
    const installed = install(path.join(dir, "root", age), newest([...names, ...tools]), rootDays[age]) && install(path.join(dir, "app", age), { ...newest(names), ...patches[age] }, appDay)
    if (!installed) return fs.writeFileSync(path.join(dir, missingFile), "")
  }
}

const install = (dir: string, dependencies: Readonly<Record<string, string>>, day: string): boolean => {
  fs.mkdirSync(dir, { recursive: true })
  fs.writeFileSync(path.join(dir, "package.json"), JSON.stringify({ name: "tree", version: "1.0.0", private: true, dependencies }))
  const done = spawnSync("npm", ["install", `--before=${day}`, "--omit=dev", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--legacy-peer-deps", "--loglevel=error"],
    { cwd: dir, stdio: ["ignore", 2, 2], timeout: installSecondsMax * 1_000 })
  if (done.status !== 0) return false
  for (const name of fs.readdirSync(dir, { recursive: true, encoding: "utf8" })) if (path.basename(name) === "prebuilds") fs.rmSync(path.join(dir, name), { recursive: true, force: true })
  return true
}

const prepareShort = (dir: string): void => {
  for (const what of ["root", "app"]) {
    for (const age of ["old", "new"]) {
      for (const name of shortPackages) fs.cpSync(path.join(root, "node_modules", name), path.join(dir, what, age, "node_modules", name), { recursive: true, verbatimSymlinks: true })
    }
    const changed = what === "root" ? shortPackages.slice(0, 2) : ["yaml"]
    for (const name of changed) fs.appendFileSync(path.join(dir, what, "new/node_modules", name, "package.json"), "\n")
  }
}

const treeOf = (fixture: string, what: "root" | "app", age: "old" | "new"): string => {
  if (fs.existsSync(path.join(fixture, missingFile))) throw new NotYet("a registry: npm could not install the two trees")
  return path.join(fixture, what, age, "node_modules")
}

/** Packages with another version, of all that are in both trees. */
const packagesOf = (tree: string): ReadonlyMap<string, string> => new Map(fs.readdirSync(tree, { recursive: true, encoding: "utf8" })
  .filter((file) => /(^|node_modules\/)(@[^/]+\/)?[^/@]+\/package\.json$/.test(file))
  .map((file) => [path.dirname(file), String(JSON.parse(fs.readFileSync(path.join(tree, file), "utf8")).version)]))

/** One archive, one zstd stream at level 9: what a device would fetch without any of this. */
const fullArchive = async (tree: string): Promise<number> => {
  const archive = await openArchive(tree, never)
  const zstd = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 9 } })
  let bytes = 0
  zstd.on("data", (part: Buffer) => { bytes += part.length })
  for await (const chunk of chunksOf(archive, 65_536, never)) if (!zstd.write(Buffer.from(chunk.bytes))) await new Promise((resolve) => zstd.once("drain", resolve))
  await new Promise((resolve) => zstd.end(() => zstd.once("end", resolve)))
  return bytes
}

/** Publishes both trees, then assembles the new one on a device that has the old one; the window is the device's. */
const update = (what: "root" | "app"): Side => async ({ dir, fixture, begin }) => {
  const [before, after] = [treeOf(fixture, what, "old"), treeOf(fixture, what, "new")]
  const [old, fresh] = [packagesOf(before), packagesOf(after)]
  const full = await fullArchive(after)
  const out = path.join(dir, "packs")
  const first = await makePayload({ source: { form: "tree", path: before }, earlier: [], out, signal: never })
  const second = await makePayload({ source: { form: "tree", path: after }, earlier: [first.index], patchFrom: { index: first.index, path: before }, out, signal: never })
  const index = Result.getOrThrow(decodeIndex(second.index))
  const packs = { ensure: async ({ sha256 }: { readonly sha256: string }) => path.join(out, sha256), bad: () => {} }
  const local = [{ form: "tree" as const, path: before, index: Result.getOrThrow(decodeIndex(first.index)) }]
  const end = await begin()
  const { report } = await assemble({ index, work: path.join(dir, "work"), local, packs, signal: never })
  const window = await end()
  const unpatched = { ...index, packs: index.packs.filter(({ kind }) => kind !== "patch") }
  const { report: chunks } = await assemble({ index: unpatched, work: path.join(dir, "work2"), local, packs, signal: never })
  const indexBytes = second.index.length
  return {
    value: (report.fetched + indexBytes) / full, wallMs: window.wallMs, cpuMs: window.cpuMs,
    detail: {
      "by chunks alone": (chunks.fetched + indexBytes) / full,
      "full zstd-9 archive MB": full / 1e6, "archive MB": index.payload.length / 1e6, "fetched MB": report.fetched / 1e6, "index MB": indexBytes / 1e6,
      "fetched by a device with nothing MB": planFetch(index).bytes / 1e6,
      packages: fresh.size, "packages changed": [...fresh].filter(([name, version]) => old.get(name) !== version).length,
      "payload bytes changed": 1 - report.local / report.of, "MB/s": index.payload.length / 1e3 / window.wallMs
    }
  }
}

/** The chunker over an image, with the hash of each chunk; and what SHA-256 of the same bytes alone takes. */
const chunking = async ({ dir, short, begin }: SideContext, chunker: boolean) => {
  const length = (short ? 16 : 256) * 1_048_576
  const file = path.join(dir, "image")
  const block = createHash("shake256", { outputLength: 1_048_576 }).update("image").digest()
  for (let at = 0; at < length; at += block.length) fs.appendFileSync(file, block.fill(at / block.length, 0, 4))
  const handle = fs.openSync(file, "r")
  const source = { length, close: async () => {}, read: async (offset: number, into: Buffer) => void fs.readSync(handle, into, 0, into.length, offset) }
  const end = await begin()
  let chunks = 0
  if (chunker) for await (const { bytes } of chunksOf(source, 65_536, never)) chunks += createHash("sha256").update(bytes).digest().length / 32
  else {
    for (let at = 0; at < length; at += block.length) {
      await source.read(at, block)
      createHash("sha256").update(block).digest()
    }
  }
  const window = await end()
  fs.closeSync(handle)
  return { value: length / 1e3 / window.wallMs, wallMs: window.wallMs, cpuMs: window.cpuMs, detail: { chunks } }
}

export const benchCase: BenchCase = {
  name: "delta",
  about: "An update of a tree of packages from the version before: bytes fetched (the index and what is asked of packs) as a share of the full archive by zstd -9.",
  secondsMax: 1_200,
  runs: 1,
  prepare,
  sides: { root: update("root"), app: update("app"), chunker: (context) => chunking(context, true), hash: (context) => chunking(context, false) },
  rows: [
    { title: "root-image-like update, bytes fetched", unit: "of full zstd-9", ours: { side: "root" }, target: { kind: "value-max", value: 0.45 } },
    { title: "the same without the patch", unit: "of full zstd-9", ours: { side: "root", detail: "by chunks alone" }, target: { kind: "report" } },
    { title: "app bundle, three patch releases, bytes fetched", unit: "of full zstd-9", ours: { side: "app" }, target: { kind: "value-max", value: 0.06 } },
    { title: "the same without the patch", unit: "of full zstd-9", ours: { side: "app", detail: "by chunks alone" }, target: { kind: "report" } },
    { title: "chunking and hashing an image, against SHA-256 alone", unit: "MB/s", ours: { side: "chunker" }, peer: { side: "hash" }, ratio: "ours/peer", target: { kind: "report" } }
  ]
}
