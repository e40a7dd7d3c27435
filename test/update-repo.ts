/**
 * A made-up publisher: keys, thresholds, metadata of every role, and a channel's log in memory. Everything that it signs can be made wrong by the test:
 * other signers, other versions, other times.
 */
import { createHash } from "node:crypto"
import { Key, MetaFile, Metadata, Root, Signature, Snapshot, TargetFile, Targets, Timestamp } from "@tufjs/models"
import { Delegations } from "@tufjs/models/dist/delegations.js"
import { DelegatedRole, Role } from "@tufjs/models/dist/role.js"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import { keyPairFromSeed, sign } from "../src/codec/signature.ts"
import { encodeFile, indexPath } from "../src/updates/metadata/channel-block.ts"
import { channelCode } from "../src/updates/metadata/channel-code.ts"
import type { OwnChannelLog } from "../src/updates/ports.ts"

export const dayMs = 86_400_000
export const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex")

export interface MadeKey {
  readonly id: string
  readonly key: Key
  readonly sign: (bytes: Uint8Array) => Signature
}

/** The same name gives the same key; a second id gives the same key under another name. */
export const madeKey = (name: string, alias = ""): MadeKey => {
  const pair = keyPairFromSeed(new Uint8Array(Buffer.from(sha256(`key ${name}`), "hex")))
  const keyval = { public: toHex(pair.publicKey) }
  const id = sha256(`${JSON.stringify({ keytype: "ed25519", keyval, scheme: "ed25519" })}${alias}`)
  return {
    id, key: new Key({ keyID: id, keyType: "ed25519", scheme: "ed25519", keyVal: keyval }),
    sign: (bytes) => new Signature({ keyID: id, sig: toHex(sign(bytes, pair)) })
  }
}
export const madeKeys = (name: string, count: number): ReadonlyArray<MadeKey> => Array.from({ length: count }, (_, at) => madeKey(`${name} ${at}`))

export interface MemoryLog extends OwnChannelLog {
  readonly blocks: Array<Uint8Array>
  forked: string | undefined
}

export const memoryLog = (name: string): MemoryLog => {
  const listeners = new Set<() => void>()
  const log: MemoryLog = {
    key: sha256(`log ${name}`), blocks: [], forked: undefined,
    length: () => log.blocks.length,
    block: async (index) => {
      const block = log.blocks[index]
      if (block === undefined) throw new Error(`block ${index} is not here`)
      return block
    },
    onGrow: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    fork: () => log.forked,
    append: async (blocks) => {
      log.blocks.push(...blocks)
      for (const listener of listeners) listener()
    }
  }
  return log
}

export interface MadeRole {
  keys: ReadonlyArray<MadeKey>
  threshold: number
}

export interface MadeDelegation extends MadeRole {
  readonly name: string
  readonly paths: ReadonlyArray<string>
  readonly terminating?: boolean
}

export const customOf = (name: string, version: string, more: Readonly<Record<string, unknown>> = {}) => ({
  kos: 1, kind: "bundle", name, version, platform: "any", boards: [], payload: { form: "tree", length: 10, sha256: "0".repeat(64) },
  needs: { kosMin: null, kosBelow: null, from: null, freeBytes: 0 }, events: { reads: [], writes: [] }, minSecure: null, security: false, ring: "all",
  rolloutPermille: 1_000, checks: [], healthyMs: 0, deadlineMs: 60_000, entry: null, migrations: [], risk: "", notes: `notes of ${version}`, ...more
})

type Signed = Root | Timestamp | Snapshot | Targets

export const signedBytes = <A extends Signed>(signed: A, signers: ReadonlyArray<MadeKey>): Uint8Array => {
  const metadata = new Metadata<A>(signed)
  for (const { sign: by } of signers) metadata.sign((bytes) => by(bytes))
  return utf8(JSON.stringify(metadata.toJSON()))
}

/** A role of targets: its version, its targets, its yanks. */
export interface MadeTargets {
  version: number
  expiresMs: number | undefined
  readonly targets: Map<string, TargetFile>
  yanked: unknown
  readonly delegations: Map<string, MadeDelegation>
  extra: Record<string, never | string | number>
}


export const madeRepo = (name: string, nowMs: number) => {
  const repo = {
    log: memoryLog(name),
    /** The publisher's clock. */
    nowMs,
    root: { keys: madeKeys(`${name} root`, 3), threshold: 2 } as MadeRole,
    targets: { keys: madeKeys(`${name} targets`, 3), threshold: 2 } as MadeRole,
    snapshot: { keys: madeKeys(`${name} snapshot`, 1), threshold: 1 } as MadeRole,
    timestamp: { keys: madeKeys(`${name} timestamp`, 1), threshold: 1 } as MadeRole,
    versions: { root: 0, timestamp: 0, snapshot: 0 },
    top: { version: 0, expiresMs: undefined, targets: new Map(), yanked: undefined, delegations: new Map(), extra: {} } as MadeTargets,
    roles: new Map<string, MadeTargets>(),
    /** `x-kos-log` of the next root. */
    movedTo: undefined as string | undefined,
    firstRoot: "",
    /** Newest file of each role. */
    files: new Map<string, Uint8Array>()
  }

  const expires = (ms: number): string => new Date(Math.floor(ms / 1_000) * 1_000).toISOString().replace(/\.\d{3}Z$/, "Z")
  const put = async (path: string, bytes: Uint8Array): Promise<Uint8Array> => {
    await repo.log.append(encodeFile(path, bytes))
    return bytes
  }

  const rootBytes = (signers: ReadonlyArray<MadeKey>, version = repo.versions.root + 1): Uint8Array => {
    const all = [repo.root, repo.targets, repo.snapshot, repo.timestamp]
    const role = ({ keys, threshold }: MadeRole) => new Role({ keyIDs: keys.map(({ id }) => id), threshold })
    return signedBytes(new Root({
      version, specVersion: "1.0.31", expires: expires(repo.nowMs + 3_650 * dayMs), consistentSnapshot: true,
      keys: Object.fromEntries(all.flatMap(({ keys }) => keys.map(({ id, key }) => [id, key]))),
      roles: { root: role(repo.root), targets: role(repo.targets), snapshot: role(repo.snapshot), timestamp: role(repo.timestamp) },
      unrecognizedFields: { "x-kos-signed-ms": repo.nowMs, ...repo.movedTo === undefined ? {} : { "x-kos-log": repo.movedTo } }
    }), signers)
  }

  /** By default signed by enough keys of the new root and, for a rotation, of those handed in too. */
  const writeRoot = async (more: ReadonlyArray<MadeKey> = [], own = repo.root.keys.slice(0, repo.root.threshold)): Promise<Uint8Array> => {
    const signers = new Map([...own, ...more].map((key) => [key.id, key]))
    const bytes = rootBytes([...signers.values()])
    repo.versions.root += 1
    if (repo.firstRoot === "") repo.firstRoot = sha256(bytes)
    return put(`${repo.versions.root}.root.json`, bytes)
  }

  const targetsBytes = (made: MadeTargets, signers: ReadonlyArray<MadeKey>): Uint8Array => {
    const delegations = [...made.delegations.values()]
    return signedBytes(new Targets({
      version: made.version, specVersion: "1.0.31", expires: expires(made.expiresMs ?? repo.nowMs + 365 * dayMs), targets: Object.fromEntries(made.targets),
      ...delegations.length === 0 ? {} : {
        delegations: new Delegations({
          keys: Object.fromEntries(delegations.flatMap(({ keys }) => keys.map(({ id, key }) => [id, key]))),
          roles: Object.fromEntries(delegations.map(({ name, keys, threshold, paths, terminating }) =>
            [name, new DelegatedRole({ name, keyIDs: keys.map(({ id }) => id), threshold, paths: [...paths], terminating: terminating ?? true })]))
        })
      },
      unrecognizedFields: JSON.parse(JSON.stringify({ "x-kos-signed-ms": repo.nowMs, "x-kos-yanked": made.yanked, ...made.extra }))
    }), signers)
  }

  const enough = ({ keys, threshold }: MadeRole): ReadonlyArray<MadeKey> => keys.slice(0, threshold)

  const writeTargets = async (signers = enough(repo.targets)): Promise<Uint8Array> => {
    repo.top.version += 1
    const bytes = targetsBytes(repo.top, signers)
    repo.files.set("targets", bytes)
    return put(`${repo.top.version}.targets.json`, bytes)
  }

  const writeRole = async (role: string, signers?: ReadonlyArray<MadeKey>): Promise<Uint8Array> => {
    const made = repo.roles.get(role)
    const delegation = [repo.top, ...repo.roles.values()].flatMap(({ delegations }) => delegations.get(role) ?? [])[0]
    if (made === undefined || delegation === undefined) throw new Error(`no role ${role}`)
    made.version += 1
    const bytes = targetsBytes(made, signers ?? enough(delegation))
    repo.files.set(role, bytes)
    return put(`${made.version}.${role}.json`, bytes)
  }

  const metaOf = (version: number, bytes: Uint8Array | undefined) =>
    bytes === undefined ? new MetaFile({ version }) : new MetaFile({ version, length: bytes.byteLength, hashes: { sha256: sha256(bytes) } })

  const writeSnapshot = async (signers = enough(repo.snapshot), meta?: Record<string, MetaFile>): Promise<Uint8Array> => {
    repo.versions.snapshot += 1
    const bytes = signedBytes(new Snapshot({
      version: repo.versions.snapshot, specVersion: "1.0.31", expires: expires(repo.nowMs + 90 * dayMs),
      meta: meta ?? {
        "targets.json": metaOf(repo.top.version, repo.files.get("targets")),
        ...Object.fromEntries([...repo.roles].filter(([role]) => repo.files.has(role)).map(([role, { version }]) => [`${role}.json`, metaOf(version, repo.files.get(role))]))
      }
    }), signers)
    repo.files.set("snapshot", bytes)
    return put(`${repo.versions.snapshot}.snapshot.json`, bytes)
  }

  const writeTimestamp = async (signers = enough(repo.timestamp), more: { readonly signedMs?: unknown; readonly expiresMs?: number; readonly version?: number; readonly snapshot?: MetaFile } = {}): Promise<Uint8Array> => {
    repo.versions.timestamp = more.version ?? repo.versions.timestamp + 1
    return put("timestamp.json", signedBytes(new Timestamp({
      version: repo.versions.timestamp, specVersion: "1.0.31", expires: expires(more.expiresMs ?? repo.nowMs + 30 * dayMs),
      snapshotMeta: more.snapshot ?? metaOf(repo.versions.snapshot, repo.files.get("snapshot")),
      unrecognizedFields: JSON.parse(JSON.stringify({ "x-kos-signed-ms": "signedMs" in more ? more.signedMs : repo.nowMs }))
    }), signers))
  }

  /** Puts a release into a role, with its index into the log; not signed yet. */
  const add = async (target: string, custom: Readonly<Record<string, unknown>>, role = "targets", index: Uint8Array = utf8(`index of ${target}`)): Promise<string> => {
    const made = role === "targets" ? repo.top : repo.roles.get(role)
    if (made === undefined) throw new Error(`no role ${role}`)
    const hash = sha256(index)
    made.targets.set(target, new TargetFile({ path: target, length: index.byteLength, hashes: { sha256: hash }, unrecognizedFields: JSON.parse(JSON.stringify({ custom })) }))
    await put(indexPath(hash), index)
    return hash
  }

  return {
    state: repo, rootBytes, writeRoot, targetsBytes, writeTargets, writeRole, writeSnapshot, writeTimestamp, put, add, metaOf,
    code: () => channelCode({ log: repo.log.key, root: repo.firstRoot }),
    /** Delegates to a publisher, whose list is empty. */
    delegate: (delegation: MadeDelegation, from = "targets"): void => {
      const made = from === "targets" ? repo.top : repo.roles.get(from)
      made?.delegations.set(delegation.name, delegation)
      if (!repo.roles.has(delegation.name)) repo.roles.set(delegation.name, { version: 0, expiresMs: undefined, targets: new Map(), yanked: undefined, delegations: new Map(), extra: {} })
    },
    /** One honest publication of all targets as they stand. */
    publish: async (): Promise<void> => {
      if (repo.versions.root === 0) await writeRoot()
      for (const role of repo.roles.keys()) await writeRole(role)
      await writeTargets()
      await writeSnapshot()
      await writeTimestamp()
    },
    /** An honest release of kOS, published at once. */
    release: async (version: string, more: Readonly<Record<string, unknown>> = {}): Promise<string> => {
      const id = await add(`kos/kos@${version}@any`, customOf("kos", version, more))
      if (repo.versions.root === 0) await writeRoot()
      for (const role of repo.roles.keys()) await writeRole(role)
      await writeTargets()
      await writeSnapshot()
      await writeTimestamp()
      return id
    }
  }
}

export type MadeRepo = ReturnType<typeof madeRepo>
