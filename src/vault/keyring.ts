/**
 * The keyring: the keys that frames are sealed under and opened with. Design section 5, key epochs.
 *
 * **What it owns.** Nothing on disk. Epoch keys travel inside membership operations, sealed to each device that may read; the keyring is a
 * function of those operations and of this node's secret keys, and what it opened stays in memory only. The key of epoch 0 is the
 * mesh key, under which meshes of before wrote; a new mesh begins with epoch 1 and nothing is written under 0.
 *
 * **How one key travels.** An operation brings a box for this device; when somebody asks for the keys of that number, or for the key to seal
 * under, the box is opened, its content must be 32 bytes and fit the commitment that the operation names, and from then on it is held.
 *
 * **Invariants.** A key is never held that its rotation does not commit to. The same operations give the same keys in the same order.
 * Boxes are opened when asked for, each once.
 *
 * **Tricky cases.**
 * - *Concurrent rotations have one number:* all their keys are held; a frame's commitment says which one opens it (`codec/frame.ts`).
 * - *A rotation that does not count* (its author was revoked meanwhile): members that could not know it have sealed under it, so its key is held
 *   and opens; it is never sealed under.
 * - *A hostile box* (other content, other length, a commitment that does not fit): as if there were none. Its failure is remembered too.
 * - *Many rotations of one number* by members who want every frame tried against all of them: the first 64 are looked at.
 * - *A node that holds no key of an epoch that counts* (a seeder, or a reader that was not given one yet) has nothing to seal under: never the
 *   mesh key, which seeders hold.
 */
import { toHex } from "../codec/bytes.ts"
import { epochCommit } from "../codec/operation.ts"
import { openSealed } from "../codec/seal.ts"
import type { KeyPair } from "../codec/signature.ts"

/** A key epoch's number with its key. */
export interface EpochKey {
  readonly epoch: number
  /** 32 bytes. */
  readonly key: Uint8Array
}

export interface Keyring {
  /** What new frames are sealed under; undefined when this node holds no such key. */
  readonly current: EpochKey | undefined
  /** All held keys of that number, in the order of their rotations; empty when none was given to this node. */
  keys(epoch: number): ReadonlyArray<Uint8Array>
  /**
   * What a device that may read from now on is given: the key in force, then older ones, newest first. Empty when newcomers get no history, or
   * nothing is held: then a new key is made for them.
   */
  shared(): ReadonlyArray<EpochKey>
}

/** A rotation as `projections/membership.ts` tells of it. */
export interface SealedEpoch {
  readonly epoch: number
  readonly commit: string
  readonly hash: string
  /** Does the rotation count? */
  readonly valid: boolean
  /** Reader to its box. */
  readonly sealed: ReadonlyMap<string, Uint8Array>
}

export interface KeyringOptions {
  readonly device: KeyPair
  /** Key of epoch 0. */
  readonly legacyKey: Uint8Array
  /** By depth and hash. The same array as long as nothing changed: what was found is kept by it. */
  readonly epochs: () => ReadonlyArray<SealedEpoch>
  /** Those that count, the one to seal under first; this node takes the first that it can open. The same array as long as nothing changed. The last of `epochs` first when it is not said. */
  readonly preferred?: () => ReadonlyArray<SealedEpoch>
  /** May this device write now? When it may not there is nothing to seal under. It may when it is not said. */
  readonly mayWrite?: () => boolean
  /** Do newcomers get the keys of older epochs? They do when it is not said. */
  readonly historyShared?: () => boolean
}

export interface OpenedKeyring extends Keyring {
  /** Every key that this node was given, newest number first, each once; the key of epoch 0 is not among them. */
  held(): ReadonlyArray<EpochKey>
  /** The key of one rotation, when it was given to this node. */
  keyOf(epoch: SealedEpoch): Uint8Array | undefined
  /** From here on boxes for this key pair are opened too, as long as the keyring lives: the secret on paper when a node is restored. */
  openWith(keyPair: KeyPair): void
}

/** Boxes whose content is remembered. */
export const openedBoxesMax = 10_000
/** Keys of one number that are looked at. */
export const epochKeysMax = 64

/** The keys that this device, or a secret given later, was given. */
export const makeKeyring = ({ device, legacyKey, epochs, preferred, mayWrite, historyShared }: KeyringOptions): OpenedKeyring => {
  const openers = [{ reader: toHex(device.publicKey), keyPair: device }]
  const opened = new Map<string, Uint8Array | undefined>()
  let of: ReadonlyArray<SealedEpoch> | undefined
  let byNumber = new Map<number, ReadonlyArray<SealedEpoch>>()
  let keysOf = new Map<number, ReadonlyArray<Uint8Array>>()
  let found: { readonly of: ReadonlyArray<SealedEpoch> | undefined; readonly current: EpochKey | undefined } = { of: undefined, current: undefined }

  const open = (epoch: SealedEpoch, { reader, keyPair }: typeof openers[number]): Uint8Array | undefined => {
    const box = epoch.sealed.get(reader)
    if (box === undefined) return undefined
    const name = `${epoch.hash}/${epoch.commit}/${toHex(box)}`
    if (opened.has(name)) return opened.get(name)
    const content = openSealed(box, keyPair)
    const key = content?.byteLength === 32 && epochCommit(content) === epoch.commit ? content : undefined
    const [oldest] = opened.keys()
    if (opened.size >= openedBoxesMax && oldest !== undefined) opened.delete(oldest)
    opened.set(name, key)
    return key
  }
  const keyOf = (epoch: SealedEpoch): Uint8Array | undefined => {
    for (const opener of openers) {
      const key = open(epoch, opener)
      if (key !== undefined) return key
    }
    return undefined
  }
  const records = (): ReadonlyMap<number, ReadonlyArray<SealedEpoch>> => {
    const list = epochs()
    if (of === list) return byNumber
    const grouped = new Map<number, Array<SealedEpoch>>()
    for (const record of list) {
      const same = grouped.get(record.epoch)
      if (same === undefined) grouped.set(record.epoch, [record])
      else same.push(record)
    }
    of = list
    byNumber = grouped
    keysOf = new Map([[0, [legacyKey]]])
    return grouped
  }
  const keys = (epoch: number): ReadonlyArray<Uint8Array> => {
    const all = records()
    const known = keysOf.get(epoch)
    if (known !== undefined) return known
    const held = distinct((all.get(epoch) ?? []).slice(0, epochKeysMax).flatMap((record) => keyOf(record) ?? []))
    // Numbers that nobody rotated to are what anybody may write into a frame: they are not remembered.
    if (all.has(epoch)) keysOf.set(epoch, held)
    return held
  }
  const firstOf = (wanted: ReadonlyArray<SealedEpoch>): EpochKey | undefined => {
    if (wanted.length === 0) return { epoch: 0, key: legacyKey }
    for (const record of wanted) {
      const key = keyOf(record)
      if (key !== undefined) return { epoch: record.epoch, key }
    }
    return undefined
  }
  const inForce = (): EpochKey | undefined => {
    if (mayWrite?.() === false) return undefined
    const wanted = preferred?.() ?? epochs().filter((record) => record.valid).toReversed()
    // Asked for with every event that is appended: the same list has the same answer.
    if (found.of !== wanted) found = { of: wanted, current: firstOf(wanted) }
    return found.current
  }
  const held = (): ReadonlyArray<EpochKey> =>
    [...records().keys()].toSorted((a, b) => b - a).flatMap((epoch) => keys(epoch).map((key) => ({ epoch, key })))
  return {
    get current() {
      return inForce()
    },
    keys, keyOf, held,
    shared: () => {
      const first = inForce()
      if (first === undefined || first.epoch === 0 || historyShared?.() === false) return []
      return [first, ...held().filter(({ key }) => Buffer.compare(key, first.key) !== 0)]
    },
    openWith: (keyPair) => {
      openers.push({ reader: toHex(keyPair.publicKey), keyPair })
      of = undefined
      found = { of: undefined, current: undefined }
    }
  }
}

/** One key for ever, under one number: for tests and benchmarks. */
export const singleKeyring = (key: Uint8Array, epoch = 0): Keyring => ({
  current: { epoch, key },
  keys: (wanted) => wanted === epoch ? [key] : [],
  shared: () => []
})

const distinct = (keys: ReadonlyArray<Uint8Array>): ReadonlyArray<Uint8Array> =>
  keys.filter((key, i) => keys.findIndex((other) => Buffer.compare(other, key) === 0) === i)
