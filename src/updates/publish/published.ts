/** What a channel's log holds, read as a client would read it: nothing counts that the newest root does not vouch for, step by step. */
import { Metadata, MetadataKind, type Root, type Snapshot, type Targets, type Timestamp } from "@tufjs/models"
import type { ChannelFiles } from "../metadata/channel-block.ts"
import type { Published } from "./book.ts"
import { isJsonObject, sha256 } from "./signed.ts"

/** Roots that are followed at most, one after the other. */
export const rootsMax = 1_024
/** Roots that tuf-js follows in one refresh. */
const refreshRootsMax = 256

export interface SignedFile<T extends Root | Snapshot | Targets | Timestamp> {
  readonly metadata: Metadata<T>
  readonly bytes: Uint8Array
}

export interface HeldChannel {
  readonly roots: ReadonlyArray<SignedFile<Root>>
  readonly timestamp: SignedFile<Timestamp> | undefined
  readonly snapshot: SignedFile<Snapshot> | undefined
  readonly targets: SignedFile<Targets> | undefined
  readonly delegated: ReadonlyMap<string, SignedFile<Targets>>
}

export const publishedOf = ({ roots, targets, delegated }: HeldChannel): Published => ({
  roots: roots.map(({ metadata }) => metadata), targets: targets?.metadata, delegated: new Map([...delegated].map(([role, { metadata }]) => [role, metadata]))
})

/** The bytes of a metadata file: signatures in the order of their keys, so that the same ones make the same file. */
export const fileOf = <T extends Root | Snapshot | Targets | Timestamp>(metadata: Metadata<T>): SignedFile<T> => ({ metadata, bytes: new Uint8Array(Buffer.from(JSON.stringify(metadata.toJSON()), "utf8")) })

/** Rejects only when the log cannot be read from disk. */
export const readHeld = async (files: ChannelFiles): Promise<HeldChannel> => {
  const roots: Array<SignedFile<Root>> = []
  for (let version = 1; version <= rootsMax; version++) {
    const before = roots.at(-1)?.metadata
    // R1.3: each by enough keys of the one before and of itself.
    const found = await first(files, `${version}.root.json`, (bytes) => {
      const root = parsed(bytes, (json) => Metadata.fromJSON(MetadataKind.Root, json))
      return root !== undefined && root.signed.version === version && vouches(root, "root", root) && (before === undefined || vouches(before, "root", root)) ? root : undefined
    })
    if (found === undefined) break
    roots.push(found)
  }
  const newest = roots.at(-1)?.metadata
  const none: HeldChannel = { roots, timestamp: undefined, snapshot: undefined, targets: undefined, delegated: new Map() }
  if (newest === undefined) return none
  const chain = roots.slice(-refreshRootsMax).map(({ metadata }) => metadata).toReversed()
  // When a publication was cut short after a root with another key for it, the timestamp is still by the key before.
  const byOneOf = (role: string, metadata: Metadata<Snapshot> | Metadata<Timestamp> | Metadata<Targets>): boolean => chain.some((root) => vouches(root, role, metadata))
  const timestamp = await first(files, "timestamp.json", (bytes) => accepted(parsed(bytes, (json) => Metadata.fromJSON(MetadataKind.Timestamp, json)), (one) => byOneOf("timestamp", one)))
  if (timestamp === undefined) return none
  const { snapshotMeta } = timestamp.metadata.signed
  const snapshot = await first(files, `${snapshotMeta.version}.snapshot.json`, (bytes) => sha256(bytes) === snapshotMeta.hashes?.["sha256"]
    ? accepted(parsed(bytes, (json) => Metadata.fromJSON(MetadataKind.Snapshot, json)), (one) => byOneOf("snapshot", one)) : undefined)
  if (snapshot === undefined) return { ...none, timestamp }
  const targetsOf = (role: string, by: (metadata: Metadata<Targets>) => boolean): Promise<SignedFile<Targets> | undefined> => {
    const meta = snapshot.metadata.signed.meta[`${role}.json`]
    if (meta === undefined) return Promise.resolve(undefined)
    return first(files, `${meta.version}.${role}.json`, (bytes) => sha256(bytes) === meta.hashes?.["sha256"] ? accepted(parsed(bytes, (json) => Metadata.fromJSON(MetadataKind.Targets, json)), by) : undefined)
  }
  const targets = await targetsOf("targets", (one) => byOneOf("targets", one))
  const delegated = new Map<string, SignedFile<Targets>>()
  for (const role of Object.keys(snapshot.metadata.signed.meta).map((name) => name.replace(/\.json$/, "")).filter((name) => name !== "targets")) {
    // Whether its delegation vouches for it now is asked when the whole is checked; here it says what version there was.
    const found = await targetsOf(role, () => true)
    if (found !== undefined) delegated.set(role, found)
  }
  return { roots, timestamp, snapshot, targets, delegated }
}

/** True when enough keys of the role in `by` signed it. */
export const vouches = (by: Metadata<Root> | Metadata<Targets>, role: string, metadata: Metadata<Root> | Metadata<Snapshot> | Metadata<Targets> | Metadata<Timestamp>): boolean => {
  try {
    by.verifyDelegate(role, metadata)
    return true
  } catch {
    return false
  }
}

const accepted = <T>(value: T | undefined, is: (value: T) => boolean): T | undefined => value !== undefined && is(value) ? value : undefined

const parsed = <T>(bytes: Uint8Array, read: (json: Parameters<typeof Metadata.fromJSON>[1]) => T): T | undefined => {
  try {
    const json: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"))
    return isJsonObject(json) ? read(json) : undefined
  } catch {
    return undefined
  }
}

const first = async <T extends Root | Snapshot | Targets | Timestamp>(files: ChannelFiles, path: string, read: (bytes: Uint8Array) => Metadata<T> | undefined): Promise<SignedFile<T> | undefined> => {
  let metadata: Metadata<T> | undefined
  const bytes = await files.find(path, (candidate) => (metadata = read(candidate)) !== undefined)
  return bytes === undefined || metadata === undefined ? undefined : { metadata, bytes }
}
