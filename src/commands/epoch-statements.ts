/** What is said of key epochs, as statements for the operations of a command. Pure but for the chance inside sealing. */
import { epochCommit, rankOf, type SealedKey, sealedKeysMax, type Statement } from "../codec/operation.ts"
import { sealTo } from "../codec/seal.ts"
import type { Membership } from "../projections/membership.ts"

/** A key epoch with its key, as the keyring holds it. */
export interface EpochKey {
  readonly epoch: number
  /** 32 bytes. */
  readonly key: Uint8Array
}

/** Devices that may read now, and the recovery key when the mesh has one. */
export const readersOf = (membership: Membership): ReadonlyArray<string> => [
  ...[...membership.members.values()].filter((member) => member.standing === "member" && rankOf(member.role) >= rankOf("reader")).map((member) => member.device),
  ...(membership.recovery === undefined ? [] : [membership.recovery])
]

/** A new epoch under this key, for all who may read but `without`; the number follows the highest that is known. */
export const rotationStatements = (membership: Membership, key: Uint8Array, without?: string): ReadonlyArray<Statement> => {
  const epoch = Math.max(0, ...membership.epochs.map((record) => record.epoch)) + 1
  const [first, ...more] = portions(key, readersOf(membership).filter((reader) => reader !== without))
  const commit = epochCommit(key)
  return [{ kind: "epoch.rotated", epoch, commit, sealed: first ?? [] }, ...more.map((sealed): Statement => ({ kind: "epoch.shared", epoch, commit, sealed }))]
}

/** These keys for further readers. */
export const sharingStatements = (keys: ReadonlyArray<EpochKey>, readers: ReadonlyArray<string>): ReadonlyArray<Statement> =>
  keys.flatMap(({ epoch, key }) => portions(key, readers).map((sealed): Statement => ({ kind: "epoch.shared", epoch, commit: epochCommit(key), sealed })))

const portions = (key: Uint8Array, readers: ReadonlyArray<string>): ReadonlyArray<ReadonlyArray<SealedKey>> => {
  const sealed = readers.flatMap((reader) => {
    const box = sealTo(key, reader)
    return box === undefined ? [] : [{ reader, sealed: box }]
  })
  return Array.from({ length: Math.ceil(sealed.length / sealedKeysMax) }, (_, i) => sealed.slice(i * sealedKeysMax, (i + 1) * sealedKeysMax))
}
