import { didYouMean } from "../../codec/suggest.ts"
import type { Json } from "../documents/types.ts"
import { isWhy, layerKind, type LayerId, type LayerKind, type Read } from "./doc-id.ts"
import { isObject, jsonFault, type JsonObject } from "./json.ts"
import { formatPath, isWithin, parsePath, pathFacts } from "./path.ts"
import { ruleCharsMax, rulePattern, ruleWords } from "./policy.ts"
import { allowItemsMax, allowPattern, allowWords, serviceDefaults, serviceFaults, targetPattern, targetWords } from "./services.ts"
import { channelPattern, channelWords, mirrorPattern, mirrorWords, vetoPattern, vetoWords } from "./updates.ts"
import { expected, parseBytes, parseDuration, readValue, type SettingType } from "./values.ts"

/**
 * Every setting of a node, with its type, limits, default and one sentence. Adding one is adding a line here; its meaning never changes, a
 * new meaning gets a new path. Unknown paths in documents come from newer nodes: they are kept and ignored, never a fault.
 */
export interface Setting {
  /** Dotted path; the part `*` stands for any one name (a table with free keys). */
  readonly path: string
  readonly type: SettingType
  readonly default: Json
  /** One sentence for people, without a final dot. */
  readonly about: string
  /** Which layers may hold it. */
  readonly layers: ReadonlyArray<LayerKind>
  /** A secret never stands in a setting: writing it is refused with a message that names the vault. */
  readonly secret?: true
  /** Environment variables beside the one that the rule gives (`KOS_` and the path in capitals). */
  readonly env?: ReadonlyArray<string>
}

const everywhere: ReadonlyArray<LayerKind> = ["mesh", "role", "node"]
const nodeOnly: ReadonlyArray<LayerKind> = ["node"]
const meshOnly: ReadonlyArray<LayerKind> = ["mesh"]
const nodeOrRole: ReadonlyArray<LayerKind> = ["role", "node"]
const second = 1000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour
const kib = 1024
const mib = 1024 * kib
const gib = 1024 * mib

/** Rates: up to 10 GiB a second; 0 means no limit. */
const rate: SettingType = { kind: "bytes", min: 0, max: 10 * gib }

export const settings: ReadonlyArray<Setting> = [
  { path: "network.mode", type: { kind: "choice", of: ["joined", "isolated"] }, default: "joined", layers: everywhere,
    about: "Whether the node meets others: joined, or isolated until told otherwise" },
  { path: "network.bootstrap", type: { kind: "addresses", itemsMax: 16 }, default: [], layers: everywhere, env: ["KOS_BOOTSTRAP"],
    about: "Nodes of the DHT to start from, as host:port; empty means the public DHT" },
  { path: "network.dht", type: { kind: "boolean" }, default: true, layers: everywhere,
    about: "Whether to find other nodes over the internet by the DHT" },
  { path: "network.lan", type: { kind: "boolean" }, default: true, layers: everywhere,
    about: "Whether to find other nodes on the local network by mDNS" },
  { path: "network.port", type: { kind: "integer", min: 0, max: 65_535 }, default: 0, layers: nodeOnly,
    about: "Port for other nodes of the local network; 0 takes any free one" },
  { path: "swarm.peers.max", type: { kind: "integer", min: 1, max: 256 }, default: 32, layers: everywhere,
    about: "Most members that this node dials by itself; takes effect when the node starts" },
  { path: "swarm.handshake.timeout", type: { kind: "duration", minMs: second, maxMs: 5 * minute }, default: "10s", layers: everywhere,
    about: "How long a new connection may take to prove that it is a member; takes effect when the node starts" },
  { path: "swarm.retry.min", type: { kind: "duration", minMs: 100, maxMs: hour }, default: "1s", layers: everywhere,
    about: "First wait before a broken download is tried again; takes effect when the node starts" },
  { path: "swarm.retry.max", type: { kind: "duration", minMs: second, maxMs: day }, default: "5m", layers: everywhere,
    about: "Longest wait before a broken download is tried again; takes effect when the node starts" },
  { path: "sync.window", type: { kind: "window" }, default: "always", layers: everywhere,
    about: "Times of day (local) in which logs are exchanged: always, never or such as 22:00-06:00" },
  { path: "sync.upload.max", type: rate, default: "0B", layers: everywhere,
    about: "Most bytes a second sent to each peer; 0 means no limit; takes effect when the node starts" },
  { path: "sync.download.max", type: rate, default: "0B", layers: everywhere,
    about: "Most bytes a second taken from all peers together; 0 means no limit; takes effect when the node starts" },
  { path: "sync.member.rate", type: { kind: "integer", min: 0, max: 1_000_000 }, default: 6_000, layers: everywhere,
    about: "Blocks a minute that one member may write before its log is taken more slowly, then not at all for a while; 0 means no limit; takes effect when the node starts" },
  { path: "log.level", type: { kind: "choice", of: ["debug", "info", "warn", "error"] }, default: "info", layers: everywhere,
    about: "Least serious line that the daemon writes to its log files" },
  { path: "log.bytes.max", type: { kind: "bytes", min: 64 * kib, max: 256 * mib }, default: "4MiB", layers: everywhere,
    about: "Size at which a log file is closed and the next one begun" },
  { path: "log.files.max", type: { kind: "integer", min: 1, max: 100 }, default: 4, layers: everywhere,
    about: "How many log files are kept, the oldest goes first" },
  { path: "health.interval", type: { kind: "duration", minMs: 10 * second, maxMs: day }, default: "5m", layers: everywhere,
    about: "How often the node notes its own health as an event" },
  { path: "checkpoint.events", type: { kind: "integer", min: 1, max: 10_000 }, default: 64, layers: everywhere,
    about: "After how many verified events the node witnesses the other logs" },
  { path: "checkpoint.interval", type: { kind: "duration", minMs: minute, maxMs: day }, default: "10m", layers: everywhere,
    about: "Longest time until verified events of other logs are witnessed" },
  { path: "snapshot.changes", type: { kind: "integer", min: 16, max: 100_000 }, default: 512, layers: everywhere,
    about: "After how many new changes a document is saved whole, so that a restart is quick" },
  { path: "memory.page.bytes.max", type: { kind: "bytes", min: kib, max: 160 * kib }, default: "128KiB", layers: meshOnly,
    about: "Largest text of one memory page" },
  { path: "disk.free.min", type: { kind: "bytes", min: 0, max: 64 * gib }, default: "64MiB", layers: everywhere,
    about: "Free space below which the node calls itself not ready and warns" },
  { path: "invite.expires", type: { kind: "duration", minMs: minute, maxMs: 30 * day }, default: "1d", layers: meshOnly,
    about: "How long an invite is good unless it says otherwise" },
  { path: "mesh.history", type: { kind: "choice", of: ["shared", "private"] }, default: "shared", layers: meshOnly,
    about: "What newcomers may read of what was written before them: shared, all of it; private, nothing" },
  { path: "mesh.autopeer", type: { kind: "boolean" }, default: false, layers: meshOnly,
    about: "Whether this mesh shares the names of its nodes with any other mesh that wishes so too, without asking a person" },
  { path: "policy.rules.*", type: { kind: "text", charsMax: ruleCharsMax, format: { pattern: rulePattern, words: ruleWords } }, default: "", layers: meshOnly,
    about: "A rule of policy: who may change what, and after how many approvals" },
  { path: "services.*.target", type: { kind: "text", charsMax: 262, format: { pattern: targetPattern, words: targetWords } }, default: "", layers: nodeOrRole,
    about: "Where a service of this node listens; declares it" },
  { path: "services.*.remote", type: { kind: "boolean" }, default: false, layers: nodeOrRole,
    about: "Whether the target of a service may be another machine than this node" },
  { path: "services.*.allow", type: { kind: "words", itemsMax: allowItemsMax, format: { pattern: allowPattern, words: allowWords } }, default: [], layers: nodeOrRole,
    about: "Who may use a service: role:ROLE (and the roles above it), node:NAME, or all nodes of the mesh; nobody unless it says so" },
  { path: "services.*.connections.max", type: { kind: "integer", min: 1, max: 1_024 }, default: serviceDefaults.connectionsMax, layers: nodeOrRole,
    about: "Connections to a service at once, of all nodes together" },
  { path: "services.*.idle", type: { kind: "duration", minMs: second, maxMs: 30 * day }, default: serviceDefaults.idle, layers: nodeOrRole,
    about: "A connection to a service on which nothing moves for so long is closed" },
  { path: "update.channels.*", type: { kind: "text", charsMax: 256, format: { pattern: channelPattern, words: channelWords } }, default: "", layers: everywhere,
    about: "A channel of releases that nodes follow, by its code" },
  { path: "update.auto", type: { kind: "choice", of: ["off", "security", "all"] }, default: "off", layers: everywhere,
    about: "Which releases the node takes by itself: none, those that mend a security problem, or all that fit" },
  { path: "update.window", type: { kind: "window" }, default: "always", layers: everywhere,
    about: "Times of day (local) in which the node switches versions by itself" },
  { path: "update.ring", type: { kind: "choice", of: ["canary", "early", "all"] }, default: "all", layers: everywhere,
    about: "How early the node takes releases by itself: canary takes the first ones, all waits until they are for everybody" },
  { path: "update.trial.max", type: { kind: "integer", min: 1, max: 64 }, default: 1, layers: meshOnly,
    about: "Most nodes of the mesh that try a release at one time" },
  { path: "update.veto", type: { kind: "words", itemsMax: 32, format: { pattern: vetoPattern, words: vetoWords } }, default: [], layers: meshOnly,
    about: "Whose veto keeps nodes from taking a release by themselves" },
  { path: "update.keep", type: { kind: "integer", min: 1, max: 16 }, default: 2, layers: everywhere,
    about: "How many earlier good versions are kept to go back to" },
  { path: "update.mirrors", type: { kind: "words", itemsMax: 16, format: { pattern: mirrorPattern, words: mirrorWords } }, default: [], layers: everywhere,
    about: "Web addresses from which packs may be fetched when no node has them" },
  { path: "seed.upload.max", type: rate, default: "0B", layers: everywhere,
    about: "Most bytes of packs a second that the node sends to all others together; 0 means no limit" },
  { path: "seed.download.max", type: rate, default: "0B", layers: everywhere,
    about: "Most bytes of packs a second that the node fetches; 0 means no limit" },
  { path: "seed.window", type: { kind: "window" }, default: "always", layers: everywhere,
    about: "Times of day (local) in which packs are sent and fetched" },
  { path: "seed.metered", type: { kind: "boolean" }, default: false, layers: everywhere,
    about: "Whether the node's connection costs by volume: then packs go over the local network only" },
  { path: "seed.lan", type: { kind: "boolean" }, default: true, layers: everywhere,
    about: "Whether packs may go over plain TCP to nodes of the mesh on the same network" },
  { path: "seed.tracker", type: { kind: "addresses", itemsMax: 1 }, default: [], layers: nodeOnly,
    about: "Where this node offers a tracker for WebTorrent clients, as host:port; then strangers who know a release may fetch it" },
  { path: "seed.bytes.max", type: { kind: "bytes", min: 0, max: 1024 * gib }, default: "20GiB", layers: everywhere,
    about: "Most bytes of packs that are kept to be seeded; the oldest go first" },
  { path: "secrets.*", type: { kind: "any" }, default: null, layers: [], secret: true,
    about: "Secrets are not settings: they live in the vault" }
]

/** Limits of one value of the user's own. */
export const userValueLimits = { depthMax: 16, bytesMax: 16 * kib }
/** A decider stops here; a merge of concurrent edits may go over it up to the second figure before the document is invalid. */
export const namespaceKeysMax = 1000
export const namespaceKeysMergedMax = 2000

/** The user's own settings: any value under `user.`, kept and merged key by key. */
const userSetting: Setting = { path: "user.*", type: { kind: "any" }, default: null, layers: everywhere, about: "A setting of your own, read by your own programs" }

/** The setting at a canonical path, or undefined when this version knows none. */
export const findSetting = (path: string): Setting | undefined => {
  const exact = exactSettings.get(path)
  if (exact !== undefined) return exact
  const facts = pathFacts(path)
  if (isWhy(facts)) return undefined
  const { parts } = facts.value
  if (parts[0] === "user") return parts.length > 1 ? userSetting : undefined
  return patternSettings.find(({ pattern }) => pattern.length === parts.length && pattern.every((part, i) => part === "*" || part === parts[i]))?.setting
}

/** The setting at a path that a person wrote, with the path in canonical form; unknown paths get "did you mean". */
export const requireSetting = (text: string): Read<{ readonly path: string; readonly setting: Setting }> => {
  const parts = parsePath(text)
  if (isWhy(parts)) return parts
  const path = formatPath(parts.value)
  const setting = findSetting(path)
  if (setting !== undefined) return { value: { path, setting } }
  const beneath = settings.filter((known) => known.secret === undefined && isWithin(known.path, path)).map((known) => known.path)
  if (path === "user") return { why: "user is not a setting: your own settings are called user.NAME or user.NAME.KEY" }
  if (beneath.length > 0) return { why: `${path} is a group, not a setting: it holds ${beneath.join(", ")}` }
  return { why: `there is no setting ${path}${didYouMean(path, settings.map((known) => known.path)) || "; your own settings begin with user."}` }
}

/** Checks and normalises one value; `why` is a sentence with path, what was expected and what was found. */
export const readSetting = (path: string, setting: Setting, value: Json): Read<Json> => {
  if (setting.type.kind === "any") {
    const why = jsonFault(value, userValueLimits)
    return why === undefined ? { value } : { why: `${path}: ${why}` }
  }
  const read = readValue(setting.type, value)
  return isWhy(read) ? { why: `${path}: ${read.why}` } : read
}

/** Why a layer may not hold a setting, or undefined. */
export const layerFault = (path: string, setting: Setting, layer: LayerId): string | undefined =>
  setting.layers.includes(layerKind(layer)) ? undefined : `${path} cannot be set for ${layerWords(layer)}: only for ${setting.layers.map((kind) => (kind === "mesh" ? "the whole mesh" : `a ${kind}`)).join(" or ")}`

export const layerWords = (layer: LayerId): string =>
  layer === "mesh" ? "the whole mesh" : layer.startsWith("role:") ? `the role ${layer.slice(5)}` : `the node ${layer.slice(5, 13)}`

/**
 * Rules between settings. Each setting may be good alone and two concurrent edits still break a rule together: then the merged document is
 * invalid and the last valid one stays live. A rule looks only at keys that are present in the values given.
 */
export const ruleFaults = (values: JsonObject): ReadonlyArray<string> => {
  const faults: Array<string> = []
  const files = values["log.files.max"]
  const bytes = bytesOf(values["log.bytes.max"])
  if (typeof files === "number" && bytes !== undefined && files * bytes > logBytesMax)
    faults.push(`log.files.max: expected log.files.max times log.bytes.max within 1GiB, found ${files} times ${Math.ceil(bytes / kib)}KiB`)
  if (values["network.lan"] === false && values["network.dht"] === false && values["network.mode"] !== "isolated")
    faults.push("network.lan: expected network.lan or network.dht to stay true while network.mode is joined, found both false; no node could reach another (network.mode isolated says that on purpose)")
  const least = durationOf(values["swarm.retry.min"])
  const most = durationOf(values["swarm.retry.max"])
  if (least !== undefined && most !== undefined && least > most)
    faults.push(`swarm.retry.min: expected at most swarm.retry.max, found ${least} ms over ${most} ms`)
  return [...faults, ...serviceFaults(values), ...nestingFaults(values)]
}

/** All files of the daemon's log together. */
export const logBytesMax = gib

/** Leaves of a value: tables are taken apart, lists and empty tables stay whole. */
export const leaves = (path: string, value: Json): ReadonlyArray<readonly [string, Json]> => {
  const parts = parsePath(path)
  const found: Array<readonly [string, Json]> = []
  const walk = (at: ReadonlyArray<string>, inner: Json): void => {
    if (isObject(inner) && Object.keys(inner).length > 0) for (const [key, next] of Object.entries(inner)) walk([...at, key], next)
    else found.push([formatPath(at), inner])
  }
  if (!isWhy(parts)) walk(parts.value, value)
  return found
}

/** What `config show --schema` and the docs print of a type. */
export const settingExpects = (setting: Setting): string => expected(setting.type)

/** `KOS_` and the path in capitals, then the setting's own aliases. Patterns have none: a name would have to survive capitals. */
export const environmentNames = (setting: Setting): ReadonlyArray<string> =>
  setting.path.includes("*") ? [] : [`KOS_${setting.path.replaceAll(/[.-]/gu, "_").toUpperCase()}`, ...(setting.env ?? [])]

const exactSettings: ReadonlyMap<string, Setting> = new Map(settings.filter((setting) => !setting.path.includes("*")).map((setting) => [setting.path, setting]))

const patternSettings = settings.filter((setting) => setting.path.includes("*")).map((setting) => ({ pattern: setting.path.split("."), setting }))

const bytesOf = (value: Json | undefined): number | undefined => (typeof value === "number" ? value : typeof value === "string" ? parseBytes(value) : undefined)

const durationOf = (value: Json | undefined): number | undefined => (typeof value === "string" ? parseDuration(value) : undefined)

/** A path cannot both have a value and hold other paths, or no file could be written from it. An empty table may: then it is just a table. */
const nestingFaults = (values: JsonObject): ReadonlyArray<string> => {
  const faults: Array<string> = []
  for (const path of Object.keys(values)) {
    if (!path.startsWith("user.")) continue
    const facts = pathFacts(path)
    for (const above of isWhy(facts) ? [] : facts.value.above) {
      const value = Object.hasOwn(values, above) ? values[above] : undefined
      if (value !== undefined && !(isObject(value) && Object.keys(value).length === 0)) faults.push(`${above}: expected either a value or keys beneath it, found both (${path})`)
    }
  }
  return faults
}
