import type { DocId, Json } from "../documents/types.ts"
import { agentFaults } from "./agents.ts"
import { isWhy, layerKind, parseDocId, shown, type LayerId } from "./doc-id.ts"
import { memoryFaults } from "./memory.ts"
import { pathFacts } from "./path.ts"
import { findSetting, namespaceKeysMergedMax, readSetting, ruleFaults } from "./settings.ts"

/** Faults shown of one document; one more sentence says how many were left out. */
export const faultsMax = 20

/**
 * Whether the merged value of a document obeys its family: empty means valid, else one sentence per fault with path, what was expected and what
 * was found. The same on every node of this version; keys that this version does not know are not faults. An empty document is valid.
 */
export const validate = (doc: DocId, value: { readonly [key: string]: Json }): ReadonlyArray<string> => {
  const id = parseDocId(doc)
  if (isWhy(id)) return [id.why]
  const faults = id.value.family === "config" ? configFaults(id.value.namespace, id.value.layer, value)
    : id.value.family === "agents" ? agentFaults(value)
    : memoryFaults(value)
  return faults.length <= faultsMax ? faults : [...faults.slice(0, faultsMax), `and ${faults.length - faultsMax} more faults`]
}

/** What a valid document holds that this version ignores: unknown keys, and known ones in a layer that may not hold them. One sentence each. */
export const notes = (doc: DocId, value: { readonly [key: string]: Json }): ReadonlyArray<string> => {
  const id = parseDocId(doc)
  if (isWhy(id) || id.value.family !== "config") return []
  const { layer } = id.value
  return Object.keys(value).sort().flatMap((key) => {
    const setting = findSetting(key)
    if (setting === undefined) return [`${shown(key)} is not known to this version; kept and ignored`]
    return setting.layers.includes(layerKind(layer)) ? [] : [`${key} is not read from this layer; kept and ignored`]
  })
}

const configFaults = (namespace: string, layer: LayerId, value: { readonly [key: string]: Json }): ReadonlyArray<string> => {
  const faults: Array<string> = []
  const keys = Object.keys(value).sort()
  if (keys.length > namespaceKeysMergedMax) faults.push(`${namespace}: expected at most ${namespaceKeysMergedMax} keys, found ${keys.length}`)
  const known: Array<readonly [string, Json]> = []
  for (const key of keys) {
    const fault = keyFault(namespace, key)
    if (fault !== undefined) faults.push(fault)
    const setting = fault === undefined ? findSetting(key) : undefined
    if (setting === undefined || !setting.layers.includes(layerKind(layer))) continue
    const read = readSetting(key, setting, value[key] ?? null)
    if (isWhy(read)) faults.push(read.why)
    else known.push([key, read.value])
  }
  return [...faults, ...ruleFaults(Object.fromEntries(known))]
}

/** A key is a canonical path of its own namespace; anything else was not written by a decider. */
const keyFault = (namespace: string, key: string): string | undefined => {
  const facts = pathFacts(key)
  if (isWhy(facts)) return facts.why
  const { canonical, namespace: home } = facts.value
  if (canonical !== key) return `${shown(key)}: expected the path ${canonical}, found another spelling`
  if (isWhy(home)) return home.why
  return home.value === namespace ? undefined : `${key}: expected a path of ${namespace}, found one of ${home.value}`
}
