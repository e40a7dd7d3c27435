/** What this device and this version can do, as an event when it changed: others plan by it what an update would cut off. */
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { schemaRange } from "../events/catalogue.ts"
import type { MeshNode } from "./mesh-node.ts"

/** `linux-x64`, `linux-arm64`. */
export const platform = `${process.platform}-${process.arch}`

/** What the board calls itself; empty when it does not say. */
export const boardOf = (read: (path: string) => string = (path) => readFileSync(path, "utf8")): string => {
  for (const path of ["/proc/device-tree/model", "/sys/class/dmi/id/product_name"]) {
    try {
      const text = read(path).replace(/[^\x20-\x7e]/g, "").trim().slice(0, 64)
      if (text !== "") return text
    } catch {
      // Not every machine has it.
    }
  }
  return ""
}

/** Says once what this version reads and writes; nothing when the last such event says the same. */
export const sayCapabilities = (node: MeshNode, version: string): Effect.Effect<void, unknown> => Effect.suspend(() => {
  const body = { version, platform, board: boardOf(), ...schemaRange }
  const known = node.tables.updates.capability(node.vault.deviceId)
  if (known !== undefined && JSON.stringify(sorted(known)) === JSON.stringify(sorted(body))) return Effect.void
  return node.dispatch.record([{ type: "node.capable/1", subject: "node", body }])
})

const sorted = (body: { readonly version: string; readonly platform: string; readonly board: string; readonly reads: ReadonlyArray<string>; readonly writes: ReadonlyArray<string> }) =>
  [body.version, body.platform, body.board, body.reads.toSorted(), body.writes.toSorted()]
