import { didYouMean } from "../../codec/suggest.ts"
import type { DocId, Json } from "../documents/types.ts"
import { isWhy, layerKind, parseDocId, type LayerId, type LayerKind } from "./doc-id.ts"
import { unflatten } from "./formats.ts"
import { ownValue, type JsonObject } from "./json.ts"
import { canonicalPath, isWithin } from "./path.ts"
import { environmentNames, findSetting, readSetting, ruleFaults, settings, type Setting } from "./settings.ts"
import { parseBytes, parseDuration, parseWindow, readWord, type Window } from "./values.ts"

/**
 * Which value counts: flag > environment > node > role > mesh > default. A layer is what its documents say; a setting that a layer may not hold,
 * or that this version does not know, is not read from it.
 */
export type Source = "default" | LayerKind | "environment" | "flag"

/** Who set a value, and when; as the event says it. */
export interface SetBy<By> {
  readonly by: By
  readonly at: string
}

/** One layer of documents. `who` may be asked for each path that counts. */
export interface LayerInput<By = string> {
  readonly layer: LayerId
  readonly values: JsonObject
  readonly who?: (path: string) => SetBy<By> | undefined
}

export interface LayeredValue<By = string> {
  readonly value: Json
  readonly layer: Source
  /** For `role` and `node` which one; for environment and flag the name of the variable or flag; else empty. */
  readonly from: string
  readonly by?: By
  readonly at?: string
}

export interface ConfigInput<By = string> {
  /** The layers that apply to this node, in any order; several roles count in the order given, the last is strongest. */
  readonly layers: ReadonlyArray<LayerInput<By>>
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Path and word, as `--set network.lan=false` gives them. */
  readonly flags?: Readonly<Record<string, string>>
}

export interface Config<By = string> {
  /** Every known setting and every one of the user's own that some layer has, by path. */
  readonly values: ReadonlyMap<string, LayeredValue<By>>
  /** Each path's values, strongest first, the default last. */
  readonly all: ReadonlyMap<string, ReadonlyArray<LayeredValue<By>>>
  /** Variables and flags that could not be read, and rules that the values break together. One sentence each. */
  readonly faults: ReadonlyArray<string>
}

/** What `config explain` says of one path. */
export interface Explained<By = string> {
  readonly path: string
  readonly setting: Setting | undefined
  readonly winner: LayeredValue<By> | undefined
  /** Strongest first; the first one counts. */
  readonly layers: ReadonlyArray<LayeredValue<By>>
}

export const resolveConfig = <By = string>(input: ConfigInput<By>): Config<By> => {
  const faults: Array<string> = []
  const weakestFirst = [...input.layers].sort((a, b) => strength(a.layer) - strength(b.layer))
  const found = new Map<string, Array<LayeredValue<By>>>()
  const add = (path: string, value: LayeredValue<By>): void => {
    const values = found.get(path)
    if (values === undefined) found.set(path, [value])
    else values.unshift(value)
  }
  for (const setting of settings) if (!setting.path.includes("*")) add(setting.path, { value: setting.default, layer: "default", from: "" })
  for (const { layer, values, who } of weakestFirst) {
    for (const path of Object.keys(values)) {
      const setting = findSetting(path)
      if (setting === undefined || !setting.layers.includes(layerKind(layer))) continue
      const read = readSetting(path, setting, ownValue(values, path) ?? null)
      if (isWhy(read)) continue
      add(path, { value: read.value, layer: layerKind(layer), from: layer === "mesh" ? "" : layer.slice(layer.indexOf(":") + 1), ...who?.(path) })
    }
  }
  for (const { path, value, name } of readEnvironment(input.env ?? {}, faults)) add(path, { value, layer: "environment", from: name })
  for (const [text, word] of Object.entries(input.flags ?? {})) {
    const path = canonicalPath(text)
    const setting = isWhy(path) ? undefined : findSetting(path.value)
    if (isWhy(path) || setting === undefined) {
      faults.push(isWhy(path) ? path.why : `flag: there is no setting ${path.value}${didYouMean(path.value, settings.map((known) => known.path))}`)
      continue
    }
    const read = readWord(setting.type, word)
    if (isWhy(read)) faults.push(`flag ${path.value}: ${read.why}`)
    else add(path.value, { value: read.value, layer: "flag", from: `--set ${path.value}` })
  }
  const values = new Map<string, LayeredValue<By>>()
  for (const path of [...found.keys()].sort()) {
    const winner = found.get(path)?.[0]
    if (winner !== undefined) values.set(path, winner)
  }
  faults.push(...ruleFaults(plainValues(values)))
  return { values, all: found, faults }
}

/** Every layer's word on one path. A path of a table with free keys that nobody set has its pattern's default. */
export const explain = <By>(config: Config<By>, path: string): Explained<By> => {
  const setting = findSetting(path)
  const found = config.all.get(path) ?? []
  const layers = found.length === 0 && setting !== undefined && !setting.path.startsWith("user.") && setting.secret === undefined
    ? [{ value: setting.default, layer: "default" as const, from: "" }]
    : found
  return { path, setting, winner: layers[0], layers }
}

/** The values as nested tables, all or those within `scope`. Without `defaults` only what somebody set. */
export const configTree = <By>(config: Config<By>, options: { readonly scope?: string; readonly defaults?: boolean } = {}): JsonObject =>
  unflatten(plainValues([...config.values].filter(([path, { layer }]) => (options.defaults === true || layer !== "default") && (options.scope === undefined || isWithin(path, options.scope)))))

/** The values of all documents of one layer, by path. */
export const layerValues = (documents: Iterable<readonly [DocId, JsonObject]>, layer: LayerId): JsonObject => {
  const entries: Array<readonly [string, Json]> = []
  for (const [doc, value] of documents) {
    const id = parseDocId(doc)
    if (!isWhy(id) && id.value.family === "config" && id.value.layer === layer) entries.push(...Object.entries(value))
  }
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Typed reading for the rest of the node. A path of another type is a mistake of ours and throws. */
export const settingText = (config: Config<unknown>, path: string): string => typed(config, path, (value) => (typeof value === "string" ? value : undefined))
export const settingInteger = (config: Config<unknown>, path: string): number => typed(config, path, (value) => (typeof value === "number" ? value : undefined))
export const settingFlag = (config: Config<unknown>, path: string): boolean => typed(config, path, (value) => (typeof value === "boolean" ? value : undefined))
export const settingBytes = (config: Config<unknown>, path: string): number => typed(config, path, (value) => (typeof value === "string" ? parseBytes(value) : typeof value === "number" ? value : undefined))
export const settingMs = (config: Config<unknown>, path: string): number => typed(config, path, (value) => (typeof value === "string" ? parseDuration(value) : undefined))
export const settingTexts = (config: Config<unknown>, path: string): ReadonlyArray<string> =>
  typed(config, path, (value) => (Array.isArray(value) && value.every((item) => typeof item === "string") ? value : undefined))
export const settingWindow = (config: Config<unknown>, path: string): Window => typed(config, path, (value) => (typeof value === "string" ? parseWindow(value) : undefined))

const typed = <A>(config: Config<unknown>, path: string, read: (value: Json) => A | undefined): A => {
  const value = explain(config, path).winner?.value
  const found = value === undefined ? undefined : read(value)
  if (found === undefined) throw new Error(`no setting of this type: ${path}`)
  return found
}

const strength = (layer: LayerId): number => (layer === "mesh" ? 0 : layer.startsWith("role:") ? 1 : 2)

const plainValues = <By>(values: Iterable<readonly [string, LayeredValue<By>]>): JsonObject => Object.fromEntries([...values].map(([path, { value }]) => [path, value]))

/** Variables that are not settings but belong to kOS; whoever reads them checks them. */
const otherVariables: ReadonlySet<string> = new Set([
  "KOS_HOME", "KOS_JSON", "KOS_NAME", "KOS_SOCKET", "KOS_TEST", "KOS_ACTOR", "KOS_MESH", "KOS_PASSPHRASE_FILE", "KOS_LAUNCH_GRACE",
  // From the launcher to the daemon.
  "KOS_LAUNCHER", "KOS_LAUNCHER_PID", "KOS_LAUNCHER_PACKAGE", "KOS_SLOT", "KOS_TRIAL", "KOS_ROLLED_BACK"
])

const readEnvironment = (env: Readonly<Record<string, string | undefined>>, faults: Array<string>): ReadonlyArray<{ readonly path: string; readonly value: Json; readonly name: string }> => {
  const found: Array<{ readonly path: string; readonly value: Json; readonly name: string }> = []
  for (const name of Object.keys(env).sort()) {
    const word = env[name]
    if (!name.startsWith("KOS_") || word === undefined || otherVariables.has(name)) continue
    const setting = settingOfVariable.get(name)
    if (setting === undefined) {
      faults.push(`environment: there is no setting for ${name}${didYouMean(name, settingOfVariable.keys())}`)
      continue
    }
    const read = readWord(setting.type, word)
    if (isWhy(read)) faults.push(`environment ${name}: ${read.why}`)
    else found.push({ path: setting.path, value: read.value, name })
  }
  return found
}

const settingOfVariable: ReadonlyMap<string, Setting> = new Map(settings.flatMap((setting) => environmentNames(setting).map((name) => [name, setting] as const)))
