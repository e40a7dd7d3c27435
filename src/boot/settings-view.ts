/** The settings in force on this node, kept up to date as configuration documents change: what policy leaves of the layers that apply to it. */
import { type Config, layerValues, resolveConfig } from "../projections/families/config-view.ts"
import type { LayerId } from "../projections/families/doc-id.ts"
import { isWhy, parseDocId } from "../projections/families/doc-id.ts"
import { PolicyView } from "../projections/policy-view.ts"
import type { ConfigSource } from "../api/node.ts"
import type { MeshNode } from "./mesh-node.ts"

type Parts = Pick<MeshNode, "tables" | "members"> & { readonly vault: Pick<MeshNode["vault"], "deviceId"> }

export class SettingsView {
  readonly #env: Readonly<Record<string, string | undefined>>
  readonly #flags: Readonly<Record<string, string>>
  #config: Config<ConfigSource>
  #stale: Parts | undefined

  /** Without a mesh: defaults, environment and flags, for what must be known before any document can be read. */
  constructor(env: Readonly<Record<string, string | undefined>>, flags: Readonly<Record<string, string>>) {
    this.#env = env
    this.#flags = flags
    this.#config = resolveConfig({ layers: [], env, flags })
  }

  get(): Config<ConfigSource> {
    if (this.#stale !== undefined) {
      const parts = this.#stale
      this.#stale = undefined
      this.#config = this.#read(parts)
    }
    return this.#config
  }

  /** Says that documents changed; the layers that apply to this node are read anew when somebody asks. */
  refresh(parts: Parts): void {
    this.#stale = parts
  }

  #read(parts: Parts): Config<ConfigSource> {
    const { tables, members, vault } = parts
    const policy = new PolicyView(parts)
    const role = members.view().members.get(vault.deviceId)?.role ?? "member"
    const wanted: ReadonlyArray<LayerId> = ["mesh", `role:${role}`, `node:${vault.deviceId}`]
    const ids = tables.documents.list("config").map(({ id }) => id)
    const layers = wanted.map((layer) => {
      const found = ids.flatMap((id) => {
        const parsed = parseDocId(id)
        return isWhy(parsed) || parsed.value.family !== "config" || parsed.value.layer !== layer ? [] : [{ id, inForce: policy.document(id), writers: tables.documents.state(id)?.writers ?? {} }]
      })
      return {
        layer, values: layerValues(found.map(({ id, inForce }) => [id, inForce.values] as const), layer),
        who: (path: string) => {
          const place = found.map(({ inForce, writers }) => inForce.writers.get(path) ?? writers[path]).find((at) => at !== undefined && at.block >= 0)
          if (place === undefined) return undefined
          const row = tables.events.byAddress(place)
          const { log, block, offset } = place
          const ms = row?.ms ?? 0
          return { by: { actor: row?.actor ?? "device", log, block, offset, ms }, at: new Date(Math.min(ms, 8.64e15)).toISOString() }
        }
      }
    })
    return resolveConfig({ layers, env: this.#env, flags: this.#flags })
  }
}
