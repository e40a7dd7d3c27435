/**
 * Our workflow beside tuf-js's own updater, which passes the public conformance suite: over seeded stories of honest and dishonest
 * publications both must take and refuse the same, and trust the same versions afterwards.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { MetaFile } from "@tufjs/models"
import t from "tap"
import { BaseFetcher, Updater } from "tuf-js"
import { DownloadHTTPError } from "tuf-js/dist/error.js"
import { channelFiles, type ChannelFiles } from "../src/updates/metadata/channel-block.ts"
import { channelLimits } from "../src/updates/metadata/metadata-limits.ts"
import { openWorkflow } from "../src/updates/metadata/workflow.ts"
import { startMs } from "./update-followed.ts"
import { customOf, dayMs, madeKeys, madeRepo, type MadeRepo } from "./update-repo.ts"

const names = ["root", "timestamp", "snapshot", "targets", "agents-acme"]
const versionOf = (bytes: Uint8Array | undefined): unknown => bytes === undefined ? undefined : JSON.parse(Buffer.from(bytes).toString()).signed.version

class FilesFetcher extends BaseFetcher {
  readonly #files
  constructor(files: ChannelFiles) {
    super()
    this.#files = files
  }
  override async fetch(url: string) {
    const bytes = await this.#files.read(decodeURIComponent(new URL(url).pathname.slice(1)))
    if (bytes === undefined) throw new DownloadHTTPError("not there", 404)
    return new Blob([Buffer.from(bytes)]).stream()
  }
}

const path = "agents/acme/bee@1.0.0@any"

const stock = async (directory: string, files: ChannelFiles, first: Uint8Array, nowMs: number) => {
  const file = (name: string) => join(directory, `${name}.json`)
  if (!existsSync(file("root"))) writeFileSync(file("root"), first)
  let says = "refused"
  try {
    const updater = new Updater({ metadataDir: directory, metadataBaseUrl: "http://log.invalid", fetcher: new FilesFetcher(files), config: { rootMaxLength: channelLimits.rootBytesMax } })
    const store: unknown = Reflect.get(updater, "trustedSet")
    if (typeof store !== "object" || store === null) throw new Error("tuf-js has no trustedSet")
    Reflect.set(store, "referenceTime", new Date(nowMs))
    await updater.refresh()
    says = "taken"
    says += ` ${JSON.stringify((await updater.getTargetInfo(path))?.hashes ?? null)}`
  } catch { /* It says so. */ }
  return [says, names.map((name) => versionOf(existsSync(file(name)) ? readFileSync(file(name)) : undefined)).join()]
}

const ours = async (held: Map<string, Uint8Array>, files: ChannelFiles, first: Uint8Array, nowMs: number) => {
  if (!held.has("root")) held.set("root", first)
  let says = "refused"
  try {
    const source = { files: async (name: string, bytesMax: number) => [await files.read(name, bytesMax)].flatMap((bytes) => bytes ?? []) }
    const trusted = { get: (role: string) => held.get(role), set: (role: string, bytes: Uint8Array) => void held.set(role, bytes) }
    const workflow = openWorkflow({ root: first, trusted, source, referenceMs: nowMs, limits: { ...channelLimits, plainKeys: false }, timestampNeeded: true })
    await workflow.followRoots()
    await workflow.followTargets()
    says = "taken"
    says += ` ${JSON.stringify((await workflow.findTarget(path))?.target.hashes ?? null)}`
  } catch { /* It says so. */ }
  return [says, names.map((name) => versionOf(held.get(name))).join()]
}

/** Things a publisher, or who stole from it, may do. */
const deeds: ReadonlyArray<readonly [string, (repo: MadeRepo, next: (max: number) => number) => Promise<unknown>]> = [
  ["publish", (repo) => repo.publish()],
  ["release", (repo, next) => repo.release(`1.${next(1_000)}.0`)],
  ["timestamp", (repo) => repo.writeTimestamp()],
  ["snapshot", (repo) => repo.writeSnapshot()],
  ["targets", (repo) => repo.writeTargets()],
  ["acme", (repo) => repo.writeRole("agents-acme")],
  ["root", (repo) => repo.writeRoot()],
  ["new online keys", async (repo, next) => {
    repo.state.timestamp = { keys: madeKeys(`timestamp ${next(1e6)}`, 1), threshold: 1 }
    if (next(2) === 0) repo.state.snapshot = { keys: madeKeys(`snapshot ${next(1e6)}`, 1), threshold: 1 }
    await repo.writeRoot()
    if (next(2) === 0) await repo.publish()
  }],
  ["new release keys", async (repo, next) => {
    repo.state.targets = { keys: madeKeys(`targets ${next(1e6)}`, 3), threshold: 1 + next(3) }
    await repo.writeRoot()
    if (next(2) === 0) await repo.publish()
  }],
  ["new root keys", async (repo, next) => {
    const old = repo.state.root.keys
    repo.state.root = { keys: madeKeys(`root ${next(1e6)}`, 3), threshold: 1 + next(3) }
    await repo.writeRoot(old)
  }],
  ["foreign timestamp", (repo) => repo.writeTimestamp(madeKeys("stranger", 1))],
  ["foreign targets", async (repo) => { await repo.writeTargets(madeKeys("stranger", 3)); await repo.writeSnapshot(); await repo.writeTimestamp() }],
  ["too few for acme", async (repo) => { await repo.writeRole("agents-acme", madeKeys("acme", 1)); await repo.writeSnapshot(); await repo.writeTimestamp() }],
  ["old block again", (repo, next) => repo.state.log.append([repo.state.log.blocks[next(repo.state.log.blocks.length)] ?? new Uint8Array()])],
  ["versions back", async (repo, next) => { repo.state.versions.snapshot = Math.max(0, repo.state.versions.snapshot - next(4)); await repo.writeSnapshot(); await repo.writeTimestamp() }],
  ["timestamp back", (repo, next) => repo.writeTimestamp(undefined, { version: Math.max(1, repo.state.versions.timestamp - next(3)) })],
  ["no hashes", async (repo, next) => { await repo.writeSnapshot(undefined, { "targets.json": new MetaFile({ version: Math.max(1, repo.state.top.version - next(2)) }), "agents-acme.json": new MetaFile({ version: 1 + next(3) }) }); await repo.writeTimestamp() }],
  ["acme left out", async (repo) => { await repo.writeSnapshot(undefined, { "targets.json": repo.metaOf(repo.state.top.version, repo.state.files.get("targets")) }); await repo.writeTimestamp() }],
  ["soon expired", async (repo, next) => { await repo.writeTimestamp(undefined, { expiresMs: repo.state.nowMs + (next(3) - 1) * dayMs }) }],
  ["junk", (repo, next) => repo.put(["timestamp.json", `${repo.state.versions.root + 1}.root.json`, `${repo.state.versions.snapshot}.snapshot.json`][next(3)] ?? "timestamp.json", Buffer.from(["{}", "[]", "null", "", "{\"signed\":{}}"][next(5)] ?? ""))],
  ["time", async (repo, next) => { repo.state.nowMs += next(40) * dayMs }]
]

t.test("both say the same", async (t) => {
  let [taken, refused] = [0, 0]
  for (let story = 1; story <= 12; story += 1) {
    let seed = story * 7_919
    const next = (max: number) => (seed = (seed * 48_271) % 2_147_483_647) % max
    const repo = madeRepo(`story ${story}`, startMs)
    repo.delegate({ name: "agents-acme", paths: ["agents/acme/*"], keys: madeKeys("acme", 2), threshold: 2 })
    await repo.add(path, customOf("bee", "1.0.0", { kind: "agent" }), "agents-acme")
    await repo.publish()
    const files = channelFiles(repo.state.log)
    const first = await files.read("1.root.json")
    if (first === undefined) return t.fail("no root")
    const directory = t.testdir()
    const held = new Map<string, Uint8Array>()
    const did: Array<string> = []
    for (let turn = 0; turn < 20; turn += 1) {
      const [name, deed] = deeds[next(deeds.length)] ?? ["nothing", async () => undefined]
      did.push(name)
      await deed(repo, next)
      if (next(12) === 0) {
        // A file that was torn.
        const role = names[1 + next(4)] ?? ""
        rmSync(join(directory, `${role}.json`), { force: true })
        held.delete(role)
        did.push(`lost ${role}`)
      }
      const [theirs, mine] = [await stock(directory, files, first, repo.state.nowMs), await ours(held, files, first, repo.state.nowMs)]
      if (theirs.join() !== mine.join()) return t.fail(`story ${story}: after ${did.join(", ")}: tuf-js says ${theirs.join(" ")}, we say ${mine.join(" ")}`)
      if (mine[0] === "refused") refused += 1
      else taken += 1
    }
  }
  t.ok(taken > 30 && refused > 30, `${taken} taken, ${refused} refused, by both`)
})
