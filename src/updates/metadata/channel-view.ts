/** What verified metadata says: releases, yanks, times. A function of the metadata alone: no clock, no disk. */
import { Result, Schema } from "effect"
import type { Metadata, Root, TargetFile, Targets, Timestamp } from "@tufjs/models"
import { isHex } from "../../codec/bytes.ts"
import { decodeCustom, type Release } from "../release.ts"
import { indexBytesMax } from "./channel-block.ts"
import { boundedMs } from "./time-floor.ts"
import { MetadataMissing, type LoadedRole, type Workflow } from "./workflow.ts"

/** Faulty targets and roles that are named. */
export const faultyMax = 64
/** Yanks that one role may hold. */
export const yankedMax = 256

export interface Yank {
  readonly target: string
  readonly id: string
  readonly reason: string
}

/** A release and until when its publisher's list holds, ms. */
export interface ListedRelease {
  readonly release: Release
  readonly expiresMs: number
}

export interface ChannelView {
  readonly versions: { readonly root: number; readonly timestamp: number; readonly snapshot: number; readonly targets: number }
  readonly signedMs: number
  /** Of the timestamp, ms. */
  readonly expiresMs: number
  /** Of root, timestamp, snapshot and targets, with their names, ms. */
  readonly expiries: ReadonlyArray<readonly [string, number]>
  readonly releases: ReadonlyArray<ListedRelease>
  readonly yanked: ReadonlyArray<Yank>
  readonly faulty: ReadonlyArray<{ readonly target: string; readonly why: string }>
  /** Latest signing time in root and targets, ms. */
  readonly thresholdMs: number
  readonly timestamp: { readonly version: number; readonly signedMs: unknown; readonly expiresMs: number; readonly signers: ReadonlyArray<string> }
  readonly targets: Metadata<Targets>
  /** Roles that count, the top one first. */
  readonly roles: ReadonlyArray<string>
}

/** Reads all roles. Rejects when the metadata was not followed to the targets before. */
export const viewChannel = async (workflow: Workflow, channel: { readonly root: string; readonly name: string; readonly rolesMax: number }): Promise<ChannelView> => {
  const [root, timestamp, snapshot, targets] = [workflow.root(), workflow.timestamp(), workflow.snapshot(), workflow.targets()]
  if (timestamp === undefined || snapshot === undefined || targets === undefined) throw new MetadataMissing("the metadata was not read to its end")
  const faulty: Array<{ readonly target: string; readonly why: string }> = []
  const fault = (target: string, why: string): void => {
    if (faulty.length < faultyMax) faulty.push({ target: target.slice(0, 256), why: why.slice(0, 300) })
  }
  const { loaded, load } = await loadRoles(workflow, channel.rolesMax, fault)
  const yanked = loaded.flatMap((role) => yanksOf(role, (path) => mayList(loaded, role, path)))
  const yankedIds = new Set(yanked.map(({ id }) => id))
  const releases = new Map<string, ListedRelease>()
  for (const role of loaded) {
    const { signers, threshold } = signersOf(role.name === "targets" ? root : parentOf(loaded, role), role.name, role.metadata)
    for (const path of Object.keys(role.metadata.signed.targets)) {
      // R1.5: the role that the search for this path ends in is the only one that counts.
      const found = await workflow.findTarget(path, load).catch(() => undefined)
      if (found === undefined || found.role.name !== role.name) {
        fault(path, `${role.name} may not list it, or a role before it does`)
        continue
      }
      const release = toRelease(found.target, path, { channel: channel.root, channelName: channel.name, signers, threshold, role: role.name })
      if (typeof release === "string") fault(path, release)
      // R1.6: what is yanked is not offered, even when its entry is still there.
      else if (yankedIds.has(release.id)) continue
      else if (releases.has(release.id)) fault(path, `it has the index of ${releases.get(release.id)?.release.target ?? ""}`)
      else releases.set(release.id, { release, expiresMs: expiryOf(role.metadata) })
    }
  }
  const timestampMs = expiryOf(timestamp)
  const signedMs = timestamp.signed.unrecognizedFields["x-kos-signed-ms"]
  return {
    versions: { root: root.signed.version, timestamp: timestamp.signed.version, snapshot: snapshot.signed.version, targets: targets.signed.version },
    signedMs: boundedMs(signedMs, timestampMs), expiresMs: timestampMs,
    expiries: [["root", expiryOf(root)], ["timestamp", timestampMs], ["snapshot", expiryOf(snapshot)], ["targets", expiryOf(targets)]],
    releases: [...releases.values()], yanked, faulty,
    thresholdMs: Math.max(signedMsOf(root), signedMsOf(targets)),
    timestamp: { version: timestamp.signed.version, signedMs, expiresMs: timestampMs, signers: signersOf(root, "timestamp", timestamp).signers },
    targets, roles: loaded.map(({ name }) => name)
  }
}

/** Where the channel's log is from now on, by the root in force. */
export const movedTo = (root: Metadata<Root>): string | undefined => {
  const key = root.signed.unrecognizedFields["x-kos-log"]
  return isHex(key, 32) ? key : undefined
}

const rolePattern = /^[a-z0-9][a-z0-9._-]{0,127}$/
const areaPattern = /^(agents|codex)\/[a-z0-9][a-z0-9._-]{0,63}\/\*$/

/** All delegated roles that are of our form and verify, each after its delegator; the others are named with their fault. */
const loadRoles = async (workflow: Workflow, rolesMax: number, fault: (target: string, why: string) => void) => {
  const loaded: Array<LoadedRole> = [await workflow.loadRole("targets", "root")]
  const left = new Set<string>()
  const failed = new Set<string>()
  for (let at = 0; at < loaded.length; at += 1) {
    const parent = loaded[at]
    const delegations = parent?.metadata.signed.delegations
    if (parent === undefined || delegations === undefined) continue
    if (delegations.succinctRoles !== undefined) fault(parent.name, "it delegates by hash, which no channel does")
    for (const [name, role] of Object.entries(delegations.roles ?? {})) {
      if (loaded.some((each) => each.name === name) || left.has(name) || failed.has(name)) continue
      // R1.5: a publisher signs below its own path only.
      if (!rolePattern.test(name) || role.paths === undefined || !role.paths.every((path) => areaPattern.test(path))) {
        left.add(name)
        fault(name, "a role has paths such as agents/PUBLISHER/*, and no others")
      } else if (loaded.length >= rolesMax) {
        failed.add(name)
        fault(name, `a channel has at most ${rolesMax} roles`)
      } else {
        // One publisher's fault is not the others'.
        await workflow.loadRole(name, parent.name).then((each) => loaded.push(each), (cause: unknown) => {
          failed.add(name)
          fault(name, cause instanceof Error ? cause.message : String(cause))
        })
      }
    }
  }
  const load = async (name: string, parent: string): Promise<LoadedRole | undefined> => {
    if (left.has(name)) return undefined
    if (failed.has(name) || !loaded.some((each) => each.name === name)) throw new MetadataMissing(`${name} is not trusted`)
    return workflow.loadRole(name, parent)
  }
  return { loaded, load }
}

const parentOf = (loaded: ReadonlyArray<LoadedRole>, role: LoadedRole): Metadata<Targets> => {
  const parent = loaded.find(({ name }) => name === role.parent)
  if (parent === undefined) throw new MetadataMissing(`${role.parent} is not trusted`)
  return parent.metadata
}

/** Is this path the role's, and that of all who delegated to it? */
const mayList = (loaded: ReadonlyArray<LoadedRole>, role: LoadedRole, path: string): boolean => {
  for (let at = role; at.name !== "targets";) {
    const parent = loaded.find(({ name }) => name === at.parent)
    if (parent === undefined || parent.metadata.signed.delegations?.roles?.[at.name]?.isDelegatedPath(path) !== true) return false
    at = parent
  }
  return true
}

const Yanks = Schema.Array(Schema.Struct({
  target: Schema.String.check(Schema.isMaxLength(256)),
  id: Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/)),
  reason: Schema.String.check(Schema.isMaxLength(512))
})).check(Schema.isMaxLength(yankedMax))

/** R1.6: what this role says is yanked, of what it may speak about. */
const yanksOf = (role: LoadedRole, may: (path: string) => boolean): ReadonlyArray<Yank> => {
  const decoded = Schema.decodeUnknownResult(Yanks)(role.metadata.signed.unrecognizedFields["x-kos-yanked"] ?? [])
  return Result.isFailure(decoded) ? [] : decoded.success.filter(({ target }) => role.name === "targets" || may(target))
}

/** A sentence when the target is no release. */
const toRelease = (target: TargetFile, path: string, known: Pick<Release, "channel" | "channelName" | "signers" | "threshold" | "role">): Release | string => {
  const { hashes, length, custom } = target
  if (Object.keys(hashes).length !== 1 || !isHex(hashes["sha256"], 32)) return "its index is to be named by a SHA-256, and by nothing else"
  // R1.7: what an index may weigh is known before it is read.
  if (!Number.isSafeInteger(length) || length < 1 || length > indexBytesMax) return `its index has ${length} bytes; ${indexBytesMax} are the limit`
  // R1.9: what does not fit is no release; the others are not affected.
  const decoded = decodeCustom(path, custom)
  return Result.isFailure(decoded) ? decoded.failure.why : { ...known, id: hashes["sha256"], target: path, indexLength: length, custom: decoded.success }
}

/** Who of those that may sign this role did. */
export const signersOf = (delegator: Metadata<Root> | Metadata<Targets>, role: string, signed: Metadata<Targets> | Metadata<Timestamp>): { readonly signers: ReadonlyArray<string>; readonly threshold: number } => {
  const by = delegator.signed
  const [keys, authority] = "consistentSnapshot" in by ? [by.keys, by.roles[role]] : [by.delegations?.keys ?? {}, by.delegations?.roles?.[role]]
  const signers = (authority?.keyIDs ?? []).filter((id) => {
    try {
      keys[id]?.verifySignature(signed)
      return keys[id] !== undefined
    } catch {
      return false
    }
  })
  return { signers, threshold: authority?.threshold ?? 0 }
}

const expiryOf = (metadata: Metadata<Root> | Metadata<Timestamp> | Metadata<Targets> | NonNullable<ReturnType<Workflow["snapshot"]>>): number => new Date(metadata.signed.expires).getTime()

const signedMsOf = (metadata: Metadata<Root> | Metadata<Targets>): number => boundedMs(metadata.signed.unrecognizedFields["x-kos-signed-ms"], expiryOf(metadata))
