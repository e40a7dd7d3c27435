/**
 * A client as the public TUF conformance suite drives it (CLIENT-CLI.md of theupdateframework/tuf-conformance), over the same workflow that channels
 * are verified by; only files come by HTTP and are kept one by one. Exit code 0 when all of a command was done, 1 else.
 *
 *     client.ts --metadata-dir DIR init ROOT
 *     client.ts --metadata-dir DIR --metadata-url URL refresh
 *     client.ts --metadata-dir DIR --metadata-url URL --target-name PATH --target-base-url URL --target-dir DIR download
 */
import { createReadStream, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { join, posix } from "node:path"
import { Readable } from "node:stream"
import { parseArgs } from "node:util"
import type { TargetFile } from "@tufjs/models"
import type { MetadataLimits } from "../../src/updates/metadata/metadata-limits.ts"
import { openWorkflow, type MetadataSource, type TrustedFiles, type Workflow } from "../../src/updates/metadata/workflow.ts"

/** Those of tuf-js, and as many entries as fit into the bytes: the suite's repositories are no channels. */
const limits: MetadataLimits = {
  rootBytesMax: 512_000, timestampBytesMax: 16_384, snapshotBytesMax: 2_000_000, targetsBytesMax: 5_000_000,
  rootsMax: 256, delegationsMax: 32, entriesMax: 65_536, targetsMax: 65_536, plainKeys: false
}
/** One request, ms. */
const requestMsMax = 30_000

/** undefined when it is not there. Stops at the first byte too many. */
const fetchBounded = async (url: string, bytesMax: number): Promise<Uint8Array | undefined> => {
  const response = await fetch(url, { signal: AbortSignal.timeout(requestMsMax) })
  if (response.status === 404 || response.status === 403) {
    await response.body?.cancel()
    return undefined
  }
  if (!response.ok || response.body === null) throw new Error(`${url} answers ${response.status}`)
  const parts: Array<Uint8Array> = []
  let length = 0
  for await (const part of response.body) {
    length += part.byteLength
    if (length > bytesMax) throw new Error(`${url} gives more than ${bytesMax} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts)
}

const under = (base: string, path: string): string => new URL(`${base.replace(/\/$/, "")}/${path}`).toString()

const filesIn = (directory: string): TrustedFiles => {
  const pathOf = (role: string) => join(directory, `${encodeURIComponent(role)}.json`)
  return {
    get: (role) => {
      try {
        return readFileSync(pathOf(role))
      } catch {
        return undefined
      }
    },
    set: (role, bytes) => {
      writeFileSync(`${pathOf(role)}.new`, bytes)
      renameSync(`${pathOf(role)}.new`, pathOf(role))
    }
  }
}

const option = (value: string | undefined, name: string): string => {
  if (value === undefined) throw new Error(`--${name} is needed`)
  return value
}

const { values, positionals: [command, ...rest] } = parseArgs({
  allowPositionals: true,
  options: Object.fromEntries(["metadata-dir", "metadata-url", "target-name", "target-dir", "target-base-url"].map((name) => [name, { type: "string" as const }]))
})
const given = (name: string): string => option(typeof values[name] === "string" ? values[name] : undefined, name)

const refreshed = async (): Promise<Workflow> => {
  const trusted = filesIn(given("metadata-dir"))
  const root = trusted.get("root")
  if (root === undefined) throw new Error("there is no trusted root; init first")
  const base = given("metadata-url")
  const source: MetadataSource = {
    files: async (name, bytesMax) => {
      const bytes = await fetchBounded(under(base, name), bytesMax)
      return bytes === undefined ? [] : [bytes]
    }
  }
  const workflow = openWorkflow({ root, trusted, source, referenceMs: Date.now(), limits, timestampNeeded: true })
  await workflow.followRoots()
  await workflow.followTargets()
  return workflow
}

const download = async (): Promise<void> => {
  const [workflow, name, directory, base] = [await refreshed(), given("target-name"), given("target-dir"), given("target-base-url")]
  const target = (await workflow.findTarget(name))?.target
  if (target === undefined) throw new Error(`no target ${name}`)
  const file = join(directory, encodeURIComponent(name))
  if (await target.verify(createReadStream(file)).then(() => true, () => false)) return
  const bytes = await fetchBounded(under(base, workflow.root().signed.consistentSnapshot ? hashed(target) : target.path), target.length)
  if (bytes === undefined) throw new Error(`${name} is not there`)
  await target.verify(Readable.from([bytes]))
  mkdirSync(directory, { recursive: true })
  writeFileSync(`${file}.new`, bytes)
  renameSync(`${file}.new`, file)
}

/** Consistent snapshots: the hash stands before the last part of the path. */
const hashed = ({ path, hashes }: TargetFile): string => {
  const { dir, base } = posix.parse(path)
  const name = `${Object.values(hashes)[0] ?? ""}.${base}`
  return dir === "" ? name : `${dir}/${name}`
}

try {
  if (command === "init") {
    mkdirSync(given("metadata-dir"), { recursive: true })
    filesIn(given("metadata-dir")).set("root", readFileSync(option(rest[0], "root")))
  } else if (command === "refresh") await refreshed()
  else if (command === "download") await download()
  else throw new Error("init ROOT, refresh or download")
} catch (cause) {
  process.stderr.write(`${cause instanceof Error ? cause.message : String(cause)}\n`)
  process.exitCode = 1
}
