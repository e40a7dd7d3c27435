/** The digest of this version's tables (`updates/rehearsal/digest.ts`): the same code on both sides of a rehearsal, each in its own version. */
import { createHash } from "node:crypto"
import { canonicalJson } from "../projections/families/json.ts"
import type { Members } from "../projections/members.ts"
import type { Tables } from "../projections/tables/tables.ts"
import { documentPageMax } from "../projections/tables/document-store.ts"
import { quarantineRowsMax } from "../projections/tables/quarantine.ts"
import { type Digest, gatherDigest, type Line, valueBytesMax } from "../updates/rehearsal/digest.ts"
import { SettingsView } from "./settings-view.ts"

export interface DigestParts {
  readonly tables: Tables
  readonly members: Members
  readonly device: string
}

const families = ["config", "agents", "memory"] as const

/** Line by line, without hello and done; reads the tables as it goes, so nothing may be folded meanwhile. */
export function* digestLines({ tables, members, device }: DigestParts): Generator<Line> {
  for (const family of families) {
    let after: string | undefined
    for (;;) {
      const page = tables.documents.list(family, after === undefined ? {} : { after })
      for (const { id, stalled } of page) {
        const state = tables.documents.state(id)
        yield {
          kind: "document", id: id.slice(0, 512),
          live: hashOf(state === undefined ? "" : canonicalJson(state.live)), value: hashOf(state === undefined ? "" : canonicalJson(state.value)), heads: hashOf(state?.heads.join() ?? ""),
          conflicts: hashOf(JSON.stringify(state?.conflicts ?? [])), faults: (state?.faults ?? []).slice(0, 8).map((fault) => fault.slice(0, 512)), stalled: stalled?.slice(0, 512) ?? null,
          changes: state?.changes ?? 0, waiting: state?.waiting ?? 0, held: state?.held ?? 0
        }
      }
      after = page.at(-1)?.id
      if (page.length < documentPageMax || after === undefined) break
    }
  }
  const types = new Map<string, { known: number; unknown: number; quarantined: number }>()
  for (const { type, status, events } of tables.events.countByType()) {
    const counts = types.get(type) ?? { known: 0, unknown: 0, quarantined: 0 }
    counts[status] += events
    types.set(type, counts)
  }
  for (const [type, counts] of types) yield { kind: "type", type: type.slice(0, 256), ...counts }
  const view = members.view()
  for (const { device, name, role, standing } of view.members.values()) yield { kind: "member", device, name: name.slice(0, 256), role, standing }
  const settings = new SettingsView({}, {})
  settings.refresh({ tables, members, vault: { deviceId: device } })
  for (const [path, { value }] of settings.get().values) {
    const json = canonicalJson(value)
    yield { kind: "setting", path: path.slice(0, 512), json: json.length * 3 <= valueBytesMax ? json : hashOf(json) }
  }
  for (const { log, block, offset, why } of tables.quarantine.list(quarantineRowsMax)) yield { kind: "quarantined", log, block, offset: offset ?? null, why: why.slice(0, 512) }
  yield {
    kind: "totals", events: tables.events.totals().events, documents: tables.documents.totals().documents, operations: members.operations().length, epochs: view.epochs.length,
    sealed: tables.sealed.count(), quarantined: tables.quarantine.count(), blocks: tables.cursors.all().reduce((sum, { folded }) => sum + folded, 0)
  }
}

/** Of the tables as they are in this turn of the loop. */
export const digestOf = (parts: DigestParts): Digest => {
  const gathered = gatherDigest()
  for (const line of digestLines(parts)) gathered.add(line)
  const digest = gathered.digest()
  if (digest === undefined) throw new Error("a digest has no totals")
  return digest
}

/** JSON of what readers get of a document; undefined when it has nothing or is too large to be shown. */
export const documentJson = (tables: Tables, id: string): string | undefined => {
  const state = tables.documents.state(id)
  if (state === undefined) return undefined
  const json = canonicalJson(state.live)
  return json.length * 3 <= valueBytesMax ? json : undefined
}

const hashOf = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 32)
