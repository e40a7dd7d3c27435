/**
 * The next version of each metadata file, as plain functions of the one before and a wish.
 *
 * Times come from the publishing node's clock, but neither an expiry nor a signing time is ever earlier than in the version before: a clock that was set
 * back must not make fresh metadata look stale to those who have seen the version before.
 */
import { Root, Snapshot, Targets, Timestamp } from "@tufjs/models"
import { Refusal } from "../../commands/refusal.ts"
import { compareVersions } from "../version.ts"
import { canonicalBytes, type JsonObject, sha256, signedBytesMax, tufKey, versionMax } from "./signed.ts"

const dayMs = 86_400_000
/** How long a version counts, milliseconds. */
export const lifeMs = { root: 3_650 * dayMs, targets: 365 * dayMs, snapshot: 90 * dayMs, timestamp: 30 * dayMs } as const
/** Keys of one role at most. */
export const signersMax = 32
/** Yanked releases that a role names at most; the oldest go first. */
export const yankedMax = 64
/** Delegated publishers of a channel at most. */
export const delegationsMax = 30

const specVersion = "1.0.31"
/** 9999-12-31: what a date may say in RFC 3339. */
const expiresMsMax = 253_402_300_799_000

/** Who signs a role. Keys are public keys, 64 hex digits. */
export interface RolePlan {
  readonly keys: ReadonlyArray<string>
  readonly threshold: number
}

export interface FirstRoot {
  /** What its publisher calls the channel. */
  readonly name: string
  /** Key of the channel's log, 64 hex digits. */
  readonly log: string
  /** Key of the publishing node for snapshot and timestamp. */
  readonly online: string
  readonly root: RolePlan
  readonly targets: RolePlan
}

export const firstRoot = ({ name, log, online, root, targets }: FirstRoot, now: number): Root => rootOf({
  version: 1, expires: expiry(undefined, now, lifeMs.root), root: checkedPlan("root", root), targets: checkedPlan("targets", targets), online,
  more: { "x-kos-name": name, "x-kos-log": log, ...signedMs(undefined, now) }
})

/** Changes what is given, and keeps the rest. */
export interface RootChange {
  readonly root?: RolePlan
  readonly targets?: RolePlan
  readonly online?: string
  readonly log?: string
}

export const nextRoot = (before: Root, change: RootChange, now: number): Root => rootOf({
  version: nextVersion("root", before.version), expires: expiry(before.expires, now, lifeMs.root),
  root: checkedPlan("root", change.root ?? planOf(before, "root")), targets: checkedPlan("targets", change.targets ?? planOf(before, "targets")),
  online: change.online ?? onlineOf(before), more: { ...before.unrecognizedFields, ...(change.log === undefined ? {} : { "x-kos-log": change.log }), ...signedMs(before, now) }
})

/** Keys and threshold of one of the root's roles. */
export const planOf = (root: Root, role: string): RolePlan => {
  const found = root.roles[role]
  return { keys: (found?.keyIDs ?? []).flatMap((id) => root.keys[id]?.keyVal["public"] ?? []), threshold: found?.threshold ?? 1 }
}

/** Key of snapshot and timestamp. */
export const onlineOf = (root: Root): string => planOf(root, "timestamp").keys[0] ?? ""

export const logOf = (root: Root): string => textField(root, "x-kos-log")
export const channelNameOf = (root: Root): string => textField(root, "x-kos-name")

const textField = (root: Root, field: string): string => {
  const value = root.unrecognizedFields[field]
  return typeof value === "string" ? value : ""
}

interface RootParts {
  readonly version: number
  readonly expires: string
  readonly root: RolePlan
  readonly targets: RolePlan
  readonly online: string
  readonly more: JsonObject
}

const rootOf = ({ version, expires, root, targets, online, more }: RootParts): Root => {
  const keys = [...new Set([...root.keys, ...targets.keys, online])].map(tufKey)
  const role = ({ keys: of, threshold }: RolePlan): JsonObject => ({ keyids: of.map((key) => tufKey(key).keyID), threshold })
  return Root.fromJSON({
    ...more, _type: "root", spec_version: specVersion, version, expires, consistent_snapshot: true,
    keys: Object.fromEntries(keys.map((key) => [key.keyID, key.toJSON()])),
    roles: { root: role(root), targets: role(targets), snapshot: role({ keys: [online], threshold: 1 }), timestamp: role({ keys: [online], threshold: 1 }) }
  })
}

const checkedPlan = (role: string, { keys, threshold }: RolePlan): RolePlan => {
  const distinct = [...new Set(keys)]
  if (distinct.length === 0) throw new Refusal({ kind: "usage", detail: `nobody would sign ${role}`, hint: "--signer NODE" })
  if (distinct.length > signersMax) throw new Refusal({ kind: "usage", detail: `${distinct.length} keys would sign ${role}, more than ${signersMax}` })
  if (threshold < 1 || threshold > distinct.length) throw new Refusal({ kind: "usage", detail: `${threshold} of ${distinct.length} keys cannot sign ${role}`, hint: "--threshold K" })
  return { keys: distinct, threshold }
}

/** What a release becomes in the targets. */
export interface TargetEntry {
  readonly path: string
  /** Of its index. */
  readonly length: number
  readonly sha256: string
  readonly custom: JsonObject
}

export interface Yanked {
  readonly target: string
  /** Id of the release. */
  readonly id: string
  readonly reason: string
}

/** A publisher who signs below its own path only (R1.5). */
export interface Delegation extends RolePlan {
  readonly area: "agents" | "codex"
  readonly publisher: string
}

export interface TargetsChange {
  readonly add?: TargetEntry
  readonly yank?: Yanked
  readonly delegate?: Delegation
}

/** Name of a delegated role: TUF makes a file name of it. */
export const delegatedRole = (area: string, publisher: string): string => `${area}-${publisher}`
/** The area of a delegated role: where its targets lie. Undefined for other roles. */
export const areaOfRole = (role: string): string | undefined => {
  const found = /^(agents|codex)-([a-z0-9][a-z0-9._-]{0,55})$/.exec(role)
  return found === null ? undefined : `${found[1]}/${found[2]}`
}

export interface NextTargets {
  readonly targets: Targets
  /** Paths of older releases that had to go for lack of room. */
  readonly dropped: ReadonlyArray<string>
}

/** The next version of targets or of a delegated role; `before` is undefined for the first. */
export const nextTargets = (role: string, before: Targets | undefined, change: TargetsChange, now: number): NextTargets => {
  const targets = new Map<string, JsonObject>(Object.entries(before?.targets ?? {}).map(([path, target]) => [path, target.toJSON()]))
  const yanked = new Map(yankedOf(before).map((one) => [one.id, one]))
  const { add, yank, delegate } = change
  if (add !== undefined) {
    const area = areaOfRole(role)
    // R1.5: what a publisher signs lies below its own path.
    if (area !== undefined && !add.path.startsWith(`${area}/`)) throw new Refusal({ kind: "usage", detail: `${add.path} does not lie below ${area}/, where ${role} signs` })
    targets.set(add.path, { length: add.length, hashes: { sha256: add.sha256 }, custom: add.custom })
    yanked.delete(add.sha256)
  }
  if (yank !== undefined) {
    targets.delete(yank.target)
    yanked.set(yank.id, yank)
  }
  const { delegations } = before ?? {}
  const made = (): Targets => Targets.fromJSON({
    ...before?.unrecognizedFields, ...signedMs(before, now), _type: "targets", spec_version: specVersion, version: before === undefined ? 1 : nextVersion(role, before.version),
    expires: expiry(before?.expires, now, lifeMs.targets), targets: Object.fromEntries(targets),
    ...(yanked.size === 0 ? {} : { "x-kos-yanked": [...yanked.values()].slice(-yankedMax).map((one) => ({ ...one })) }),
    ...(delegate !== undefined ? { delegations: withDelegation(delegations?.toJSON(), delegate) } : delegations === undefined ? {} : { delegations: delegations.toJSON() })
  })
  const dropped: Array<string> = []
  for (let next = made(); ; next = made()) {
    const { byteLength } = canonicalBytes(next)
    if (byteLength <= signedBytesMax) return { targets: next, dropped }
    const oldest = oldestSuperseded([...targets.keys()].filter((path) => path !== add?.path))
    if (oldest === undefined) throw new Refusal({ kind: "usage", detail: `${role} would have ${byteLength} bytes, more than ${signedBytesMax}, and no older release of it can go`, hint: "shorten notes and checks, or delegate a part to another publisher" })
    targets.delete(oldest)
    dropped.push(oldest)
  }
}

export const yankedOf = (targets: Targets | undefined): ReadonlyArray<Yanked> => {
  const list = targets?.unrecognizedFields["x-kos-yanked"]
  return !Array.isArray(list) ? [] : list.flatMap((one) =>
    typeof one === "object" && one !== null && !Array.isArray(one) && typeof one["target"] === "string" && typeof one["id"] === "string" && typeof one["reason"] === "string"
      ? [{ target: one["target"], id: one["id"], reason: one["reason"] }] : [])
}

/** The one that has a newer version of the same name and platform and is the oldest of all such; undefined when each is the newest of its own. */
const oldestSuperseded = (paths: ReadonlyArray<string>): string | undefined => {
  const split = paths.map((path) => {
    const [name = "", version = "", platform = ""] = path.split("@")
    return { path, of: `${name}@${platform}`, version }
  })
  return split.filter((one) => split.some((other) => other.of === one.of && compareVersions(other.version, one.version) > 0))
    .toSorted((a, b) => compareVersions(a.version, b.version))[0]?.path
}

const withDelegation = (before: JsonObject | undefined, { area, publisher, ...plan }: Delegation): JsonObject => {
  const name = delegatedRole(area, publisher)
  if (areaOfRole(name) !== `${area}/${publisher}`) throw new Refusal({ kind: "usage", detail: `${publisher} is no name of a publisher: lower-case letters, digits, dots and dashes, at most 56` })
  const { keys, threshold } = checkedPlan(name, plan)
  const had = before?.["roles"]
  const roles = (Array.isArray(had) ? had : []).filter((role) => !(typeof role === "object" && role !== null && !Array.isArray(role) && role["name"] === name))
  if (roles.length >= delegationsMax) throw new Refusal({ kind: "usage", detail: `a channel has at most ${delegationsMax} delegated publishers` })
  const known = before?.["keys"]
  return {
    keys: { ...(typeof known === "object" && known !== null && !Array.isArray(known) ? known : {}), ...Object.fromEntries(keys.map((key) => [tufKey(key).keyID, tufKey(key).toJSON()])) },
    roles: [...roles, { name, keyids: keys.map((key) => tufKey(key).keyID), threshold, terminating: true, paths: [`${area}/${publisher}/*`] }]
  }
}

/** A metadata file that the snapshot names: `targets.json`, `agents-acme.json`. */
export interface MetaEntry {
  readonly name: string
  readonly version: number
  readonly bytes: Uint8Array
}

/** Files that an earlier snapshot named stay named: their going would be an attack by TUF's rules. */
export const nextSnapshot = (before: Snapshot | undefined, files: ReadonlyArray<MetaEntry>, now: number): Snapshot => Snapshot.fromJSON({
  _type: "snapshot", spec_version: specVersion, version: before === undefined ? 1 : nextVersion("snapshot", before.version), expires: expiry(before?.expires, now, lifeMs.snapshot),
  meta: {
    ...Object.fromEntries(Object.entries(before?.meta ?? {}).map(([name, file]) => [name, file.toJSON()])),
    ...Object.fromEntries(files.map(({ name, version, bytes }) => [name, { version, length: bytes.byteLength, hashes: { sha256: sha256(bytes) } }]))
  }
})

export const nextTimestamp = (before: Timestamp | undefined, snapshot: MetaEntry, now: number): Timestamp => Timestamp.fromJSON({
  _type: "timestamp", spec_version: specVersion, version: before === undefined ? 1 : nextVersion("timestamp", before.version), expires: expiry(before?.expires, now, lifeMs.timestamp),
  meta: { "snapshot.json": { version: snapshot.version, length: snapshot.bytes.byteLength, hashes: { sha256: sha256(snapshot.bytes) } } },
  "x-kos-signed-ms": Math.max(Math.round(now), signedMsOf(before))
})

export const signedMsOf = (signed: Root | Targets | Timestamp | undefined): number => {
  const ms = signed?.unrecognizedFields["x-kos-signed-ms"]
  return typeof ms === "number" ? ms : 0
}

/** R2.2: what enough keys have signed moves every follower's floor, so a clock that jumped ahead moves it by no more than this at a time, milliseconds. */
const signedAheadMsMax = 400 * dayMs

const signedMs = (before: Root | Targets | undefined, now: number): JsonObject => {
  const last = signedMsOf(before)
  return { "x-kos-signed-ms": last === 0 ? Math.max(0, Math.round(now)) : Math.max(last, Math.min(Math.round(now), last + signedAheadMsMax)) }
}

/** Is a third of its life over? Then it is signed anew. */
export const isDue = (expires: string, life: number, now: number): boolean => Date.parse(expires) - now < life * 2 / 3

const expiry = (before: string | undefined, now: number, life: number): string => {
  const earliest = before === undefined ? 0 : Date.parse(before)
  return new Date(Math.min(expiresMsMax, Math.max(earliest, Math.round(now) + life))).toISOString().replace(/\.\d+Z$/, "Z")
}

const nextVersion = (role: string, version: number): number => {
  if (version >= versionMax) throw new Refusal({ kind: "failed", detail: `${role} has reached version ${version}, the last there can be` })
  return version + 1
}
