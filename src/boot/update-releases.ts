/**
 * What this home must know of releases that lie in its slots, also when their channel is followed no more: the signed `custom` of each, one small file each, below
 * `HOME/updates/releases`. Read as hostile: a file that was changed is as if it were not there.
 */
import { Result } from "effect"
import { mkdir, readdir } from "node:fs/promises"
import { decodeCustom, type Release } from "../updates/release.ts"
import { readSmall, removeWhole, writeWhole } from "../vault/files.ts"

const bytesMax = 262_144
/** Files that are looked at. */
const releasesMax = 256

export interface KnownReleases {
  readonly get: (id: string) => Release | undefined
  readonly keep: (release: Release) => Promise<void>
  /** All but these are forgotten. */
  readonly retain: (ids: ReadonlySet<string>) => Promise<void>
}

export const openKnownReleases = async (directory: string): Promise<KnownReleases> => {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const known = new Map<string, Release>()
  for (const name of (await readdir(directory)).sort().slice(0, releasesMax)) {
    const id = /^([0-9a-f]{64})\.json$/.exec(name)?.[1]
    const bytes = id === undefined ? "absent" : await readSmall(`${directory}/${name}`, bytesMax)
    const release = typeof bytes === "string" ? undefined : decode(Buffer.from(bytes).toString("utf8"))
    if (release !== undefined && release.id === id) known.set(release.id, release)
  }
  return {
    get: (id) => known.get(id),
    keep: async (release) => {
      if (known.has(release.id)) return
      await writeWhole(`${directory}/${release.id}.json`, JSON.stringify(release))
      known.set(release.id, release)
    },
    retain: async (ids) => {
      for (const id of [...known.keys()]) {
        if (ids.has(id)) continue
        known.delete(id)
        await removeWhole(`${directory}/${id}.json`)
      }
    }
  }
}

const decode = (text: string): Release | undefined => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== "object" || value === null) return undefined
  const { id, channel, channelName, target, indexLength, signers, threshold, role, custom } = { ...value } as Readonly<Record<string, unknown>>
  if (!isHash(id) || !isHash(channel) || typeof channelName !== "string" || typeof target !== "string" || typeof indexLength !== "number" || typeof threshold !== "number" || typeof role !== "string") return undefined
  if (!Array.isArray(signers) || !signers.every((key) => typeof key === "string")) return undefined
  // R1.9: decoded by the schema here too.
  const decoded = decodeCustom(target, custom)
  return Result.isSuccess(decoded) ? { id, channel, channelName, target, indexLength, signers, threshold, role, custom: decoded.success } : undefined
}

const isHash = (value: unknown): value is string => typeof value === "string" && /^[0-9a-f]{64}$/.test(value)
