/** The settings in force on this node, kept up to date as configuration documents change. */
import { type Config, layerValues, resolveConfig } from "../projections/families/config-view.ts"
import type { LayerId } from "../projections/families/doc-id.ts"
import { isWhy, parseDocId } from "../projections/families/doc-id.ts"
import type { ConfigSource } from "../api/node.ts"
import type { MeshNode } from "./mesh-node.ts"

type Parts = Pick<MeshNode, "tables" | "members" | "vault">

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

  #read({ tables, members, vault }: Parts): Config<ConfigSource> {
    const role = members.view().members.get(vault.deviceId)?.role ?? "member"
    const wanted: ReadonlyArray<LayerId> = ["mesh", `role:${role}`, `node:${vault.deviceId}`]
    const ids = tables.documents.list("config").map(({ id }) => id)
    const layers = wanted.map((layer) => {
      const states = ids.flatMap((id) => {
        const parsed = parseDocId(id)
        if (isWhy(parsed) || parsed.value.family !== "config" || parsed.value.layer !== layer) return []
        const state = tables.documents.state(id)
        return state === undefined ? [] : [[id, state] as const]
      })
      return {
        layer, values: layerValues(states.map(([id, state]) => [id, state.live] as const), layer),
        who: (path: string) => {
          const writer = states.map(([, state]) => state.writers[path]).find((found) => found !== undefined && found.block >= 0)
          if (writer === undefined) return undefined
          const actor = tables.events.byAddress(writer)?.actor ?? "device"
          return { by: { actor, ...writer }, at: new Date(Math.min(writer.ms, 8.64e15)).toISOString() }
        }
      }
    })
    return resolveConfig({ layers, env: this.#env, flags: this.#flags })
  }
}
