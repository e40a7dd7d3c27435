/** What is said of key epochs, as statements for the operations of a command. Pure but for the chance inside sealing. */
import { epochCommit, epochMax, rankOf, type SealedKey, sealedKeysMax, type Statement } from "../codec/operation.ts"
import { sealTo } from "../codec/seal.ts"
import type { Membership } from "../projections/membership.ts"
import type { EpochKey } from "../vault/keyring.ts"

export type { EpochKey } from "../vault/keyring.ts"

/**
 * Statements of one sharing at most: with an admission they must fit into one unit of events. Keys are taken in the order given, so give the newest
 * first; older ones are shared by the reactor, so many at a time.
 */
export const sharingStatementsMax = 128

/** Devices that may read now, and the recovery key when the mesh has one. */
export const readersOf = (membership: Membership): ReadonlyArray<string> => [
  ...[...membership.members.values()].filter((member) => member.standing === "member" && rankOf(member.role) >= rankOf("reader")).map((member) => member.device),
  ...(membership.recovery === undefined ? [] : [membership.recovery])
]

/**
 * A new epoch under this key, for all who may read but `without`. The number follows the highest of those that count. At the highest
 * that there is, it is given again: numbers only say where to look, a frame's commitment tells the keys of one number apart.
 */
export const rotationStatements = (membership: Membership, key: Uint8Array, without?: string): ReadonlyArray<Statement> => {
  const numbers = membership.epochs.filter((record) => record.valid).map((record) => record.epoch)
  const epoch = Math.min(epochMax, numbers.reduce((highest, number) => Math.max(highest, number), 0) + 1)
  const [first, ...more] = portions(key, readersOf(membership).filter((reader) => reader !== without))
  const commit = epochCommit(key)
  return [{ kind: "epoch.rotated", epoch, commit, sealed: first ?? [] }, ...more.map((sealed): Statement => ({ kind: "epoch.shared", epoch, commit, sealed }))]
}

/** Epoch 1 of a new mesh, for the device that founds it. */
export const foundingRotation = (key: Uint8Array, device: string): Statement =>
  ({ kind: "epoch.rotated", epoch: 1, commit: epochCommit(key), sealed: portions(key, [device])[0] ?? [] })

/** These keys for further readers. */
export const sharingStatements = (keys: ReadonlyArray<EpochKey>, readers: ReadonlyArray<string>): ReadonlyArray<Statement> => {
  const perKey = Math.max(1, Math.ceil(readers.length / sealedKeysMax))
  return keys.slice(0, Math.max(1, Math.floor(sharingStatementsMax / perKey)))
    .flatMap(({ epoch, key }) => portions(key, readers).map((sealed): Statement => ({ kind: "epoch.shared", epoch, commit: epochCommit(key), sealed })))
}

const portions = (key: Uint8Array, readers: ReadonlyArray<string>): ReadonlyArray<ReadonlyArray<SealedKey>> => {
  const sealed = readers.flatMap((reader) => {
    const box = sealTo(key, reader)
    return box === undefined ? [] : [{ reader, sealed: box }]
  })
  return Array.from({ length: Math.ceil(sealed.length / sealedKeysMax) }, (_, i) => sealed.slice(i * sealedKeysMax, (i + 1) * sealedKeysMax))
}
