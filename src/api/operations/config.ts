import { Schema } from "effect"
import { operation } from "../operation.ts"
import {
  By, ConflictShape, Difference, Done, flag, Format, format, formatDescribe, HistoryRow, Json, Layer, layerDescribe, limit, PointShape, Source, Text, withDefault, Word
} from "./common.ts"

const layer = Schema.optionalKey(Layer)
/** Name of the role, needed with layer `role` when this node has none or several. */
const role = Schema.optionalKey(Word)
const roleDescribe = "which role, with --layer role"
const targetLayer = withDefault(Layer, "node")
const Fault = Schema.Struct({ path: Schema.String, detail: Schema.String })

export const configShow = operation("config.show", {
  summary: "Show settings: the effective ones, or one layer as it is written.",
  kind: "query",
  input: Schema.Struct({ path: Schema.optionalKey(Word), layer, role, format, defaults: flag }),
  output: Schema.Struct({
    values: Json,
    /** `values` in the asked format; what the CLI prints. */
    text: Schema.String,
    layer: Schema.optionalKey(Layer),
    /** The state that was shown; `config edit` sends it back. */
    base: PointShape,
    conflicts: Schema.Natural,
    /** Namespaces whose newest value is invalid, so that the last valid one is shown. */
    quarantined: Schema.Array(Schema.String)
  }),
  cli: {
    positional: ["path"],
    describe: { path: "only this part", layer: "only what this layer says: mesh, role or node", role: roleDescribe, format: formatDescribe, defaults: "also settings that nobody set" },
    examples: ["kos config show", "kos config show network --layer mesh --format toml"]
  }
})

export const configGet = operation("config.get", {
  summary: "Print one effective value.",
  kind: "query",
  input: Schema.Struct({ path: Word, layer, role }),
  output: Schema.Struct({ path: Schema.String, value: Json, layer: Source, by: Schema.NullOr(By), at: Schema.NullOr(Schema.String) }),
  cli: { positional: ["path"], describe: { path: "a setting, for example network.port", layer: "what this layer alone says", role: roleDescribe }, examples: ["kos config get network.port"] }
})

export const configSet = operation("config.set", {
  summary: "Set one value.",
  kind: "command",
  input: Schema.Struct({
    path: Word,
    /** The value as a person types it, read by the setting's type. Either this or `value`. */
    text: Schema.optionalKey(Text),
    value: Schema.optionalKey(Json),
    layer: targetLayer, role
  }),
  output: Schema.Struct({ path: Schema.String, layer: Layer, before: Schema.optionalKey(Json), after: Json, ...Done.fields }),
  cli: {
    positional: ["path", "text"], stdin: "text", hidden: ["value"],
    describe: { path: "a setting, for example network.port", text: "the value; read from stdin when it is -", value: "the value as JSON", layer: layerDescribe, role: roleDescribe },
    examples: ["kos config set network.port 4077", "kos config set log.level debug --layer mesh"]
  }
})

export const configUnset = operation("config.unset", {
  summary: "Take a value away from a layer, so that the next weaker one counts.",
  kind: "command",
  input: Schema.Struct({ path: Word, layer: targetLayer, role }),
  output: Schema.Struct({ path: Schema.String, layer: Layer, before: Schema.optionalKey(Json), after: Schema.optionalKey(Json), ...Done.fields }),
  cli: { positional: ["path"], describe: { path: "a setting", layer: layerDescribe, role: roleDescribe }, examples: ["kos config unset network.port"] }
})

const Applied = Schema.Struct({ layer: Layer, differences: Schema.Array(Difference), ...Done.fields })

export const configEdit = operation("config.edit", {
  summary: "Edit a layer in $EDITOR; what others changed meanwhile stays.",
  kind: "command",
  input: Schema.Struct({
    layer: targetLayer, role, format,
    /** The text as it was when the editor opened, and as it was saved; the difference is applied. */
    base: Text, text: Text
  }),
  output: Applied,
  cli: {
    describe: { layer: layerDescribe, role: roleDescribe, format: formatDescribe, base: "text before", text: "text after" },
    hidden: ["base", "text"], editor: true,
    examples: ["kos config edit", "kos config edit --layer mesh"]
  }
})

const fileInput = { text: Text, format: Schema.optionalKey(Format), layer: targetLayer, role }
const fileDescribe = { text: "file to read, - for stdin", format: `${formatDescribe} (default: by the file's name)`, layer: layerDescribe, role: roleDescribe }

export const configValidate = operation("config.validate", {
  summary: "Check a file of settings, or the settings in force, without changing anything.",
  kind: "query",
  input: Schema.Struct({ ...fileInput, text: Schema.optionalKey(Text) }),
  output: Schema.Struct({ valid: Schema.Boolean, faults: Schema.Array(Fault) }),
  cli: { positional: ["text"], file: "text", describe: fileDescribe, examples: ["kos config validate site.yaml"] }
})

export const configDiff = operation("config.diff", {
  summary: "Show what applying a file would change.",
  kind: "query",
  input: Schema.Struct({ ...fileInput, prune: flag }),
  output: Schema.Struct({ layer: Layer, differences: Schema.Array(Difference), faults: Schema.Array(Fault) }),
  cli: { positional: ["text"], file: "text", describe: { ...fileDescribe, prune: "also take away what the file does not name" }, examples: ["kos config diff site.yaml --layer mesh"] }
})

export const configApply = operation("config.apply", {
  summary: "Apply a file of settings to a layer, as one change.",
  kind: "command",
  input: Schema.Struct({ ...fileInput, prune: flag }),
  output: Applied,
  cli: { positional: ["text"], file: "text", describe: { ...fileDescribe, prune: "also take away what the file does not name" }, examples: ["kos config apply site.yaml --layer mesh"] }
})

export const configHistory = operation("config.history", {
  summary: "Show who changed settings, when, where, and from what to what.",
  kind: "query",
  input: Schema.Struct({ path: Schema.optionalKey(Word), layer, limit: limit(50, 10_000) }),
  output: Schema.Array(HistoryRow),
  cli: {
    positional: ["path"], alias: { n: "limit" },
    describe: { path: "only this part", layer: "only this layer", limit: "at most this many, the newest" },
    examples: ["kos config history network.port"]
  }
})

export const configRevert = operation("config.revert", {
  summary: "Undo one change by a new one.",
  kind: "command",
  input: Schema.Struct({ event: Word }),
  output: Applied,
  cli: { positional: ["event"], describe: { event: "@NUMBER or address, from `kos config history`" }, examples: ["kos config revert @1204"] }
})

export const configConflicts = operation("config.conflicts", {
  summary: "List values that were changed in two places, neither knowing the other, and values of those who may not.",
  kind: "query",
  input: Schema.Struct({ all: flag }),
  output: Schema.Array(Schema.Struct({
    ...ConflictShape.fields,
    /** Not a conflict: somebody wrote here who may not, and this says who and why; the value in force is the winner, when there is one. */
    refused: Schema.optionalKey(Schema.String)
  })),
  cli: { describe: { all: "also conflicts in agents and memory" }, alias: { a: "all" }, examples: ["kos config conflicts"] }
})

export const configResolve = operation("config.resolve", {
  summary: "Settle a conflict by choosing one of its values, or another.",
  kind: "command",
  input: Schema.Struct({
    /** Conflict id or path. */
    conflict: Word,
    /** Number of the chosen value; or give `text` or `value`. */
    choice: Schema.optionalKey(Schema.Natural),
    text: Schema.optionalKey(Text), value: Schema.optionalKey(Json)
  }),
  output: Schema.Struct({ document: Schema.String, path: Schema.String, value: Json, ...Done.fields }),
  cli: {
    positional: ["conflict", "choice"], hidden: ["value"],
    describe: { conflict: "its id or path, from `kos config conflicts`", choice: "number of the value to keep", text: "another value instead", value: "another value as JSON" },
    examples: ["kos config resolve network.port 1", "kos config resolve network.port --text 4078"]
  }
})

export const configExplain = operation("config.explain", {
  summary: "Say what a setting means, which layer won, and who set it.",
  kind: "query",
  input: Schema.Struct({ path: Word }),
  output: Schema.Struct({
    path: Schema.String, sentence: Schema.String, type: Schema.String, default: Schema.NullOr(Json), value: Json, winner: Source,
    /** Every layer that says something, strongest first. */
    layers: Schema.Array(Schema.Struct({ layer: Source, value: Json, by: Schema.NullOr(By), from: Schema.optionalKey(Schema.String) })),
    conflict: Schema.NullOr(ConflictShape),
    /** Who may change it for the whole mesh, by which rule, and who set that; `approvals` of `by` when it needs some. */
    policy: Schema.Struct({ may: Schema.Literals(["member", "admin", "owner"]), approvals: Schema.Natural, by: Schema.Literals(["admin", "owner"]), rule: Schema.String, setBy: Schema.NullOr(By) }),
    /** Values that are not in force, because who wrote them may not. */
    refused: Schema.Array(Schema.Struct({ document: Schema.String, value: Schema.NullOr(Json), by: By, why: Schema.String })),
    restart: Schema.Boolean
  }),
  cli: { positional: ["path"], describe: { path: "a setting" }, examples: ["kos config explain network.port"] }
})
