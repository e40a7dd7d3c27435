import type { DocId, Edit, Json } from "../projections/documents/types.ts"
import { layerValues } from "../projections/families/config-view.ts"
import { configDoc, isWhy, type LayerId } from "../projections/families/doc-id.ts"
import { diffKeys } from "../projections/families/diff.ts"
import { flatten, isFaulty, parseTable, type Format, type TextFault } from "../projections/families/formats.ts"
import { canonicalJson, equalJson, isObject, objectOf, ownValue, type JsonObject } from "../projections/families/json.ts"
import { canonicalPath, isWithin, namespaceOf } from "../projections/families/path.ts"
import { findSetting, layerFault, layerWords, leaves, namespaceKeysMax, readSetting, requireSetting, ruleFaults, settings } from "../projections/families/settings.ts"
import { readWord } from "../projections/families/values.ts"
import { brief, checked, conflicting, decideResolve, isConflicted, notFound, pathOfFault, refuseSecret, usage, valueOf, type Decided, type DocumentChange, type Documents, type Resolve } from "./decide-change.ts"
import { Refusal } from "./refusal.ts"

/**
 * Decides wishes about settings. Nothing is ever written in part: one bad value refuses the whole command. Unknown keys that newer nodes wrote
 * are never touched unless they are named.
 */
export type ConfigCommand =
  /** `word` is what a person typed and is read by the setting's type; `value` is JSON. */
  | { readonly _tag: "Set"; readonly layer: LayerId; readonly path: string; readonly word: string }
  | { readonly _tag: "SetValue"; readonly layer: LayerId; readonly path: string; readonly value: Json }
  /** A path, or a group with all that is set beneath it. */
  | { readonly _tag: "Unset"; readonly layer: LayerId; readonly path: string }
  /** Sets every key of the file; with `prune` also takes away what the file does not name. */
  | { readonly _tag: "Apply"; readonly layer: LayerId; readonly text: string; readonly format: Format; readonly prune?: boolean }
  /** The text before and after an editor; only their difference is applied, so that what others changed meanwhile stays. */
  | { readonly _tag: "Edit"; readonly layer: LayerId; readonly base: string; readonly text: string; readonly format: Format; readonly force?: boolean }
  /** Sets each path to its earlier value; `undefined` takes it away. */
  | { readonly _tag: "Revert"; readonly layer: LayerId; readonly earlier: ReadonlyMap<string, Json | undefined> }
  | Resolve

export const decideConfig = (documents: Documents, command: ConfigCommand): Decided => {
  switch (command._tag) {
    case "Set": return set(documents, command.layer, command.path, { word: command.word })
    case "SetValue": return set(documents, command.layer, command.path, { value: command.value })
    case "Unset": return unset(documents, command.layer, command.path)
    case "Apply": {
      const file = readFile(command.text, command.format)
      if (file instanceof Refusal) return file
      const wishes = new Map<string, Json | undefined>(Object.entries(file))
      if (command.prune === true) for (const path of Object.keys(mergedLayer(documents, command.layer))) if (findSetting(path) !== undefined && !wishes.has(path)) wishes.set(path, undefined)
      return write(documents, command.layer, wishes, "applied a file")
    }
    case "Edit": return edit(documents, command)
    case "Revert": return write(documents, command.layer, command.earlier, "reverted")
    case "Resolve": return decideResolve(documents, command)
  }
}

/** All faults of a file of settings for a layer, for `config validate`; the values by path when there are none. */
export const checkConfigFile = (text: string, format: Format, layer: LayerId): { readonly values: JsonObject; readonly faults: ReadonlyArray<TextFault> } => {
  const parsed = parseTable(text, format)
  if (isFaulty(parsed)) return { values: {}, faults: parsed.faults }
  const faults: Array<TextFault> = []
  const values = new Map<string, Json>()
  const add = (path: string, why: string): void => {
    const line = parsed.lines.get(path)
    faults.push({ path, line, detail: line === undefined ? why : `line ${line}: ${why}` })
  }
  for (const [path, value] of Object.entries(flatten(parsed.value))) {
    if (isEmptyGroup(path, value)) continue
    const read = readWish(layer, path, value)
    if (read instanceof Refusal) add(path, read.detail)
    else values.set(read.path, read.value)
  }
  const plain = objectOf(values)
  for (const fault of ruleFaults(plain)) add(pathOfFault(fault), fault)
  return { values: plain, faults }
}

/** What one layer says now, by path, as readers see it: the input of `writeConfig` for `config show --layer` and `config edit`. */
export const liveLayer = (documents: Documents, layer: LayerId): JsonObject => layerOf(documents, layer, "live")

const mergedLayer = (documents: Documents, layer: LayerId): JsonObject => layerOf(documents, layer, "value")

const layerOf = (documents: Documents, layer: LayerId, which: "live" | "value"): JsonObject =>
  layerValues([...documents.keys()].map((doc) => [doc, documents.get(doc)?.[which] ?? {}] as const), layer)

const set = (documents: Documents, layer: LayerId, text: string, given: { readonly word: string } | { readonly value: Json }): Decided => {
  const known = requireSetting(text)
  if (isWhy(known)) return unknown(text, known.why)
  const { path, setting } = known.value
  const read = "word" in given ? readWord(setting.type, given.word) : { value: given.value }
  if (isWhy(read)) return refuseSecret(path, "word" in given ? given.word : null) ?? usage(`${path}: ${read.why}; nothing was written`, { path })
  const wishes = new Map<string, Json | undefined>()
  // A table replaces what stood beneath the path; it becomes one key per leaf, so that two people can change two keys of it at once.
  if (isObject(read.value) && setting.type.kind === "any") {
    for (const now of Object.keys(mergedLayer(documents, layer))) if (isWithin(now, path)) wishes.set(now, undefined)
    for (const [leaf, value] of leaves(path, read.value)) wishes.set(leaf, value)
  } else wishes.set(path, read.value)
  return write(documents, layer, wishes, `set ${path} to ${brief(read.value)}`)
}

const unset = (documents: Documents, layer: LayerId, text: string): Decided => {
  const path = canonicalPath(text)
  if (isWhy(path)) return usage(path.why, { path: text })
  const within = Object.keys(mergedLayer(documents, layer)).filter((now) => isWithin(now, path.value))
  if (within.length > 0) return write(documents, layer, new Map(within.map((now) => [now, undefined])), `unset ${path.value}`)
  const isGroup = settings.some((setting) => isWithin(setting.path, path.value))
  const known = requireSetting(path.value)
  return isWhy(known) && !isGroup ? unknown(path.value, known.why) : { changes: [] }
}

const edit = (documents: Documents, command: ConfigCommand & { readonly _tag: "Edit" }): Decided => {
  const base = readFile(command.base, command.format)
  if (base instanceof Refusal) return usage(`the text before the edit cannot be read: ${base.detail}`)
  const mine = readFile(command.text, command.format)
  if (mine instanceof Refusal) return mine
  const now = liveLayer(documents, command.layer)
  const wishes = new Map<string, Json | undefined>()
  const clashes: Array<string> = []
  for (const { path, before, after } of diffKeys(base, mine)) {
    const current = normal(path, ownValue(now, path))
    if (!equalJson(current, normal(path, before)) && !equalJson(current, normal(path, after))) clashes.push(path)
    wishes.set(path, after)
  }
  if (clashes.length > 0 && command.force !== true)
    return conflicting(`${clashes.slice(0, 5).join(", ")} ${clashes.length === 1 ? "was" : "were"} changed by someone else while you edited; nothing was written`, { path: clashes[0] ?? "", hint: "kos config edit" })
  return write(documents, command.layer, wishes, "edited")
}

/** Checks every wish, then makes one change per document. `undefined` takes a key away. */
const write = (documents: Documents, layer: LayerId, wishes: ReadonlyMap<string, Json | undefined>, what: string): Decided => {
  const byDocument = new Map<DocId, Array<Edit>>()
  for (const [path, value] of wishes) {
    if (value !== undefined && isEmptyGroup(path, value)) continue
    const read = value === undefined ? { path, value } : readWish(layer, path, value)
    if (read instanceof Refusal) return new Refusal({ ...parts(read), detail: `${read.detail}; nothing was written` })
    const namespace = namespaceOf(read.path)
    if (isWhy(namespace)) return usage(namespace.why, { path })
    const doc = configDoc(layer, namespace.value)
    const now = ownValue(valueOf(documents, doc), read.path)
    const same = read.value === undefined ? now === undefined : now !== undefined && equalJson(now, read.value) && !isConflicted(documents, doc, read.path)
    if (same) continue
    const edits = byDocument.get(doc) ?? []
    edits.push(read.value === undefined ? { _tag: "Delete", key: read.path } : { _tag: "Set", key: read.path, json: canonicalJson(read.value) })
    byDocument.set(doc, edits)
  }
  const changes: Array<DocumentChange> = []
  for (const [doc, wished] of [...byDocument].sort(([a], [b]) => (a < b ? -1 : 1))) {
    // Keys go before keys come: should this become several events, then none in between holds a value and keys beneath it.
    const edits = [...wished.filter(({ _tag }) => _tag === "Delete"), ...wished.filter(({ _tag }) => _tag !== "Delete")]
    const added = edits.filter((wish) => wish._tag === "Set" && ownValue(valueOf(documents, doc), wish.key) === undefined).length
    const total = Object.keys(valueOf(documents, doc)).length + added
    if (added > 0 && total > namespaceKeysMax) return usage(`${doc}: expected at most ${namespaceKeysMax} keys in one namespace, found ${total}; nothing was written`)
    const paths = edits.flatMap((wish) => ("key" in wish ? [wish.key] : []))
    changes.push({ doc, edits, paths, summary: `${what} for ${layerWords(layer)}${paths.length > 1 ? ` (${paths.length} keys)` : what.startsWith("set") || what.startsWith("unset") ? "" : ` (${paths[0] ?? ""})`}` })
  }
  return checked(documents, changes)
}

/** One wish, checked alone: known, allowed in the layer, no secret, of its type; the value comes back normalised. */
const readWish = (layer: LayerId, text: string, value: Json): { readonly path: string; readonly value: Json } | Refusal => {
  const secret = refuseSecret(text, value)
  if (secret !== undefined) return secret
  const known = requireSetting(text)
  if (isWhy(known)) return unknown(text, known.why)
  const { path, setting } = known.value
  const place = layerFault(path, setting, layer)
  if (place !== undefined) return usage(place, { path })
  const read = readSetting(path, setting, value)
  return isWhy(read) ? usage(read.why, { path }) : { path, value: read.value }
}

const readFile = (text: string, format: Format): JsonObject | Refusal => {
  const parsed = parseTable(text, format)
  if (!isFaulty(parsed)) return flatten(parsed.value)
  const [fault] = parsed.faults
  return usage(`${fault?.detail ?? "the file cannot be read"}; nothing was written`, fault === undefined || fault.path === "" ? {} : { path: fault.path })
}

/** An empty table where only a group can stand, as `network: {}` in a file, says nothing. */
const isEmptyGroup = (path: string, value: Json): boolean => isObject(value) && Object.keys(value).length === 0 && findSetting(path) === undefined

const normal = (path: string, value: Json | undefined): Json | undefined => {
  const setting = value === undefined ? undefined : findSetting(path)
  const read = setting === undefined || value === undefined ? undefined : readSetting(path, setting, value)
  return read === undefined || isWhy(read) ? value : read.value
}

const unknown = (path: string, why: string): Refusal => (why.startsWith("there is no setting") ? notFound(why, "kos config show --defaults") : usage(why, { path }))

const parts = (refusal: Refusal): ConstructorParameters<typeof Refusal>[0] => ({
  kind: refusal.kind, detail: refusal.detail,
  ...(refusal.path === undefined ? {} : { path: refusal.path }), ...(refusal.hint === undefined ? {} : { hint: refusal.hint })
})
