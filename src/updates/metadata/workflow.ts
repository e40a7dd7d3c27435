/**
 * The client workflow of TUF 1.0 (5.3 to 5.7) over tuf-js's trusted store, which makes every check of the standard. This file only
 * decides what is handed to it, in which order, and what is remembered: as tuf-js's own updater does, but with the time given, files
 * taken as bytes, nothing written to disk meanwhile, and delegated roles that can be listed.
 *
 * Each step offers what is trusted already and then what the source has. A step throws what the store throws; what was accepted before
 * it stays accepted and remembered, as the standard wants. An older file can then not come back.
 *
 * A source may have several files with one numbered name: who holds a log's key can write a wrong one over the right one. They are
 * tried in turn, at most `candidatesMax`; the right one is right by its signatures. Of timestamps only the newest is taken.
 */
import type { Metadata, Root, Snapshot, TargetFile, Targets, Timestamp } from "@tufjs/models"
import { EqualVersionError } from "tuf-js/dist/error.js"
import { TrustedMetadataStore } from "tuf-js/dist/store.js"
import { checkBounds, type MetadataLimits } from "./metadata-limits.ts"

/** Where metadata comes from. */
export interface MetadataSource {
  /** Files with this name, newest first; none when there is none. Nothing larger than `bytesMax`. */
  readonly files: (name: string, bytesMax: number) => Promise<ReadonlyArray<Uint8Array>>
}

/** What was verified before, by role (`root`, `timestamp`, `snapshot`, `targets` and delegated ones). */
export interface TrustedFiles {
  readonly get: (role: string) => Uint8Array | undefined
  readonly set: (role: string, bytes: Uint8Array) => void
}

export interface WorkflowOptions {
  /** Trusted from the beginning; used while `trusted` has no root that can be read. */
  readonly root: Uint8Array
  readonly trusted: TrustedFiles
  readonly source: MetadataSource
  /** Expiry is judged at this time. At 0 nothing is expired that could ever be valid. */
  readonly referenceMs: number
  readonly limits: MetadataLimits
  /** Is it a failure when the source has no timestamp? Else the trusted one serves. */
  readonly timestampNeeded: boolean
}

/** A role that lists targets, and who delegated to it. */
export interface LoadedRole {
  readonly name: string
  readonly parent: string
  readonly metadata: Metadata<Targets>
}

export interface Workflow {
  readonly root: () => Metadata<Root>
  readonly timestamp: () => Metadata<Timestamp> | undefined
  readonly snapshot: () => Metadata<Snapshot> | undefined
  readonly targets: () => Metadata<Targets> | undefined
  /** Client workflow 5.3. */
  readonly followRoots: () => Promise<void>
  /** Client workflow 5.4 to 5.6, after the roots. */
  readonly followTargets: () => Promise<void>
  /** Client workflow 5.6.7: one role that its parent, which is loaded, delegates to. */
  readonly loadRole: (name: string, parent: string) => Promise<LoadedRole>
  /** Client workflow 5.6.7: the target in force under this path, and the role that has it. `load` may leave a role out by `undefined`, and end the search by throwing. */
  readonly findTarget: (path: string, load?: (name: string, parent: string) => Promise<LoadedRole | undefined>) => Promise<{ readonly target: TargetFile; readonly role: LoadedRole } | undefined>
}

/** Nothing was found where a file had to be. */
export class MetadataMissing extends Error {
  override readonly name = "MetadataMissing"
}

/** Files of one name that are tried. */
export const candidatesMax = 8

export const emptySource: MetadataSource = { files: async () => [] }

/** Throws when neither the trusted root nor the pinned one is a root. */
export const openWorkflow = ({ root, trusted, source, referenceMs, limits, timestampNeeded }: WorkflowOptions): Workflow => {
  const store = openStore(trusted.get("root"), root, referenceMs, limits)
  const roles = new Map<string, LoadedRole>()

  /** The first candidate that passes is remembered; when none does, what was wrong with the newest is thrown. */
  const accept = async (role: string, name: string, bytesMax: number, check: (bytes: Buffer) => void): Promise<boolean> => {
    // R1.7: the source gives no more than this.
    const candidates = (await source.files(name, bytesMax)).slice(0, candidatesMax)
    let fault: unknown
    for (const bytes of candidates) {
      try {
        checkBounds(role, bytes, bytesMax, limits)
        check(Buffer.from(bytes))
        trusted.set(role, bytes)
        return true
      } catch (cause) {
        fault ??= cause
      }
    }
    if (fault !== undefined) throw fault
    return false
  }

  /** True when what is trusted already is still what is wanted. */
  const passes = (role: string, bytesMax: number, check: (bytes: Buffer) => void): boolean => {
    const bytes = trusted.get(role)
    if (bytes === undefined) return false
    try {
      checkBounds(role, bytes, bytesMax, limits)
      check(Buffer.from(bytes))
      return true
    } catch {
      return false
    }
  }

  const followRoots = async (): Promise<void> => {
    // R1.3: version by version, each signed by enough keys of the one before and of itself.
    for (let count = 0; count < limits.rootsMax; count += 1) {
      const version = store.root.signed.version + 1
      if (!await accept("root", `${version}.root.json`, limits.rootBytesMax, (bytes) => void store.updateRoot(bytes))) return
    }
  }

  const followTimestamp = async (): Promise<void> => {
    // R1.4: the trusted one first, so that the next one cannot be older.
    const held = passes("timestamp", limits.timestampBytesMax, (bytes) => void store.updateTimestamp(bytes))
    const [newest] = await source.files("timestamp.json", limits.timestampBytesMax)
    if (newest === undefined) {
      if (held && !timestampNeeded) return
      throw new MetadataMissing("there is no timestamp.json")
    }
    checkBounds("timestamp", newest, limits.timestampBytesMax, limits)
    try {
      store.updateTimestamp(Buffer.from(newest))
    } catch (cause) {
      if (cause instanceof EqualVersionError) return
      throw cause
    }
    trusted.set("timestamp", newest)
  }

  const numbered = (version: number, role: string): string =>
    store.root.signed.consistentSnapshot ? `${version}.${encodeURIComponent(role)}.json` : `${encodeURIComponent(role)}.json`

  const followSnapshot = async (): Promise<void> => {
    if (passes("snapshot", limits.snapshotBytesMax, (bytes) => void store.updateSnapshot(bytes, true))) return
    const meta = store.timestamp?.signed.snapshotMeta
    if (meta === undefined) throw new MetadataMissing("no timestamp is trusted")
    // R1.4: the snapshot is the one that the timestamp names.
    const name = numbered(meta.version, "snapshot")
    const bytesMax = Math.min(meta.length ?? limits.snapshotBytesMax, limits.snapshotBytesMax)
    if (!await accept("snapshot", name, bytesMax, (bytes) => void store.updateSnapshot(bytes))) throw new MetadataMissing(`there is no ${name} of at most ${bytesMax} bytes`)
  }

  const loadRole = async (name: string, parent: string): Promise<LoadedRole> => {
    const known = roles.get(name)
    if (known !== undefined) {
      // A role may be delegated twice: each delegator asks for its own keys.
      if (known.parent !== parent) parentOf(parent).verifyDelegate(name, known.metadata)
      return known
    }
    if (!passes(name, limits.targetsBytesMax, (bytes) => store.updateDelegatedTargets(bytes, name, parent))) {
      // R1.4: targets are those that the snapshot names.
      const all = store.snapshot?.signed.meta ?? {}
      const meta = Object.hasOwn(all, `${name}.json`) ? all[`${name}.json`] : undefined
      if (meta === undefined) throw new MetadataMissing(`the snapshot has no ${name}.json`)
      const file = numbered(meta.version, name)
      const bytesMax = Math.min(meta.length ?? limits.targetsBytesMax, limits.targetsBytesMax)
      // R1.5: the store asks for enough of the keys that the delegator lists for this role.
      const found = await accept(name, file, bytesMax, (bytes) => store.updateDelegatedTargets(bytes, name, parent))
      if (!found) throw new MetadataMissing(`there is no ${file} of at most ${bytesMax} bytes`)
    }
    const metadata = store.getRole(name)
    if (metadata === undefined) throw new MetadataMissing(`${name} is not trusted`)
    const role: LoadedRole = { name, parent, metadata }
    roles.set(name, role)
    return role
  }

  const parentOf = (name: string): Metadata<Root> | Metadata<Targets> => {
    const parent = name === "root" ? store.root : roles.get(name)?.metadata
    if (parent === undefined) throw new MetadataMissing(`${name} is not trusted`)
    return parent
  }

  const findTarget: Workflow["findTarget"] = async (path, load = loadRole) => {
    // R1.5: roles in their order, those before a terminating one only; a role sees no path that its delegator does not.
    const open: Array<{ readonly name: string; readonly parent: string }> = [{ name: "targets", parent: "root" }]
    const visited = new Set<string>()
    while (open.length > 0 && visited.size <= limits.delegationsMax) {
      const next = open.pop()
      if (next === undefined || visited.has(next.name)) continue
      const role = next.name === "targets" ? await loadRole(next.name, next.parent) : await load(next.name, next.parent)
      if (role === undefined) continue
      const { signed } = role.metadata
      const target = Object.hasOwn(signed.targets, path) ? signed.targets[path] : undefined
      if (target !== undefined) return { target, role }
      visited.add(next.name)
      const children: typeof open = []
      for (const child of signed.delegations?.rolesForTarget(path) ?? []) {
        children.push({ name: child.role, parent: next.name })
        if (!child.terminating) continue
        open.length = 0
        break
      }
      open.push(...children.reverse())
    }
    return undefined
  }

  return {
    root: () => store.root,
    timestamp: () => store.timestamp,
    snapshot: () => store.snapshot,
    targets: () => store.targets,
    followRoots,
    followTargets: async () => {
      await followTimestamp()
      await followSnapshot()
      await loadRole("targets", "root")
    },
    loadRole, findTarget
  }
}

const openStore = (trusted: Uint8Array | undefined, pinned: Uint8Array, referenceMs: number, limits: MetadataLimits): TrustedMetadataStore => {
  const open = (bytes: Uint8Array): TrustedMetadataStore => {
    checkBounds("root", bytes, limits.rootBytesMax, limits)
    const store = new TrustedMetadataStore(Buffer.from(bytes))
    setReferenceTime(store, referenceMs)
    return store
  }
  if (trusted !== undefined) {
    try {
      return open(trusted)
    } catch {
      // The file was torn: the pinned root leads to it again.
    }
  }
  return open(pinned)
}

/** tuf-js takes the machine's clock and has no option for it: its one field is set from outside, and missed loudly when it moves. */
const setReferenceTime = (store: TrustedMetadataStore, ms: number): void => {
  const before: unknown = Reflect.get(store, "referenceTime")
  if (!(before instanceof Date) || !Reflect.set(store, "referenceTime", new Date(ms))) throw new Error("tuf-js does not keep its reference time in TrustedMetadataStore.referenceTime any more")
}
