/** The keyring of one mesh, fed by its membership: what it opens follows the operations, what it seals under the epoch in force. */
import { rankOf } from "../codec/operation.ts"
import { epochOrder } from "../commands/epoch-order.ts"
import type { EpochRecord, Membership } from "../projections/membership.ts"
import type { Members } from "../projections/members.ts"
import type { Tables } from "../projections/tables/tables.ts"
import { makeKeyring, type OpenedKeyring } from "../vault/keyring.ts"
import type { Vault } from "../vault/vault.ts"

export interface MeshKeyringOptions {
  readonly vault: Pick<Vault, "device" | "deviceId">
  readonly meshKey: Uint8Array
  readonly members: Members
  readonly tables: Tables
}

export const makeMeshKeyring = ({ vault, meshKey, members, tables }: MeshKeyringOptions): OpenedKeyring => {
  let of: Membership | undefined
  let order: ReadonlyArray<EpochRecord> = []
  return makeKeyring({
    device: vault.device, legacyKey: meshKey,
    epochs: () => members.view().epochs,
    preferred: () => {
      const view = members.view()
      if (of !== view) {
        order = epochOrder(view, members.operations())
        of = view
      }
      return order
    },
    // What it was given before it became a seeder opens what was written then, and seals nothing any more.
    mayWrite: () => {
      const me = members.view().members.get(vault.deviceId)
      return me?.standing !== "member" || rankOf(me.role) >= rankOf("reader")
    },
    historyShared: () => isHistoryShared(tables)
  })
}

/** The mesh's setting `mesh.history`: do newcomers get the keys of older epochs? */
export const isHistoryShared = (tables: Tables): boolean => tables.documents.state("config/mesh/mesh")?.live["mesh.history"] !== "private"

/** Tells of epochs whose keys came to be held, now and whenever operations bring some. Gives the way to stop. */
export const watchKeys = (keyring: OpenedKeyring, members: Members, came: (epochs: ReadonlyArray<number>) => void): () => void => {
  const known = new Set<string>()
  const look = () => {
    const fresh = keyring.held().filter(({ epoch, key }) => {
      const name = `${epoch}/${Buffer.from(key).toString("hex")}`
      return !known.has(name) && known.add(name)
    })
    if (fresh.length > 0) came([...new Set(fresh.map(({ epoch }) => epoch))])
  }
  look()
  return members.onChange(look)
}
