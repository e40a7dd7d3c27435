/** Shapes that several operations share. All of them decode to exactly the JSON that is sent, so handlers return plain values. */
import { Effect, Schema } from "effect"

/** RFC 3339 in UTC with milliseconds, as the author's clock had it. */
export const Time = Schema.String.annotate({ description: "RFC 3339 time", examples: ["2026-05-01T12:00:00.000Z"] })
/** `log/block.offset`. */
export const AddressText = Schema.String.annotate({ description: "address of an event: log/block.offset" })
/** 64 hex digits. */
export const KeyHex = Schema.String.annotate({ description: "key, 64 hex digits" })
/** What a caller may say: `@1204`, an address, an RFC 3339 time, a duration back from now (`2h`), `now`, or `LOG=LENGTH,…`. */
export const PointText = Schema.String.check(Schema.isMaxLength(16_384))
/** Length of each log, by log key. */
export const PointShape = Schema.Record(Schema.String, Schema.Natural)
export const Json = Schema.Json
/** One word or path as a person types it. */
export const Word = Schema.NonEmptyString.check(Schema.isMaxLength(512))
/** A document, definition or page as text. */
export const Text = Schema.String.check(Schema.isMaxLength(4_194_304))
export const Format = Schema.Literals(["yaml", "toml", "json"])
export const Layer = Schema.Literals(["mesh", "role", "node"])
/** Where an effective value can come from, strongest last. */
export const Source = Schema.Literals(["default", "mesh", "role", "node", "environment", "flag"])

/** A key that may be left out and then has this value; help and OpenAPI show it. */
export const withDefault = <S extends Schema.Codec<any, any>>(schema: S, standard: S["Encoded"] & S["Type"]) =>
  (schema.annotate({ default: standard }) as S).pipe(Schema.withDecodingDefaultKey(Effect.succeed<S["Encoded"]>(standard)))
export const flag = withDefault(Schema.Boolean, false)
export const limit = (standard: number, max: number) => withDefault(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: max })), standard)
export const format = withDefault(Format, "yaml")
const durationPattern = /^[1-9][0-9]{0,4}(s|m|h|d)$/
/** `30s`, `30m`, `24h`, `7d`. */
export const DurationText = Schema.String.check(Schema.isPattern(durationPattern, { message: "expected a duration such as 30m, 24h or 7d" }))

/** Who did something: the actor, and the device whose log says so. */
export const By = Schema.Struct({
  /** `device`, `agent:NAME` or `person:NAME`. */
  actor: Schema.String,
  device: KeyHex,
  /** Name of that node, as known here; empty when unknown. */
  node: Schema.String,
  address: AddressText,
  /** Arrival number here; `@1204` for people. */
  arrival: Schema.optionalKey(Schema.Natural),
  at: Time
})
export type By = typeof By.Type

/** What a command left behind: empty `events` mean that nothing had to change. */
export const Done = Schema.Struct({
  /** One sentence of what was done. */
  summary: Schema.String,
  events: Schema.Array(Schema.Struct({ address: AddressText, arrival: Schema.Natural, type: Schema.String })),
  /** Nodes that do not hold it yet. */
  waitingFor: Schema.optionalKey(Schema.Array(Schema.String))
})
export type Done = typeof Done.Type

/** An event as a table row. */
export const EventRow = Schema.Struct({
  address: AddressText,
  arrival: Schema.Natural,
  type: Schema.String,
  at: Time,
  node: Schema.String,
  device: KeyHex,
  actor: Schema.String,
  subject: Schema.String,
  /** Does this version of kOS know the type? */
  known: Schema.Boolean,
  /** One line for people. */
  summary: Schema.String
})
export type EventRow = typeof EventRow.Type

/** CloudEvents 1.0, JSON form; our extension attributes begin with `kos`. */
export const CloudEvent = Schema.Struct({
  specversion: Schema.Literal("1.0"),
  /** The event's address. */
  id: Schema.String,
  /** `urn:kos:DEVICE`. */
  source: Schema.String,
  type: Schema.String,
  time: Time,
  subject: Schema.optionalKey(Schema.String),
  datacontenttype: Schema.Literal("application/json"),
  data: Json,
  kosnode: Schema.String,
  kosactor: Schema.String,
  kosarrival: Schema.Natural,
  koscommand: Schema.optionalKey(Schema.String),
  /** Addresses, joined by commas. */
  koscause: Schema.optionalKey(Schema.String)
})
export type CloudEvent = typeof CloudEvent.Type

/** Two or more values at one place, none of which knew the other. */
export const ConflictShape = Schema.Struct({
  /** Short name to resolve it by. */
  id: Schema.String,
  /** `config/mesh/network`, `memory/notes/todo`, … */
  document: Schema.String,
  path: Schema.String,
  since: Time,
  values: Schema.Array(Schema.Struct({ choice: Schema.Natural, value: Json, by: By, winner: Schema.Boolean }))
})
export type ConflictShape = typeof ConflictShape.Type

/** One difference between two states. */
export const Difference = Schema.Struct({
  document: Schema.String,
  path: Schema.String,
  change: Schema.Literals(["added", "changed", "removed"]),
  before: Schema.optionalKey(Json),
  after: Schema.optionalKey(Json),
  by: Schema.optionalKey(By)
})
export type Difference = typeof Difference.Type

/** One step in the life of a document. */
export const HistoryRow = Schema.Struct({
  by: By,
  type: Schema.String,
  document: Schema.String,
  path: Schema.optionalKey(Schema.String),
  before: Schema.optionalKey(Json),
  after: Schema.optionalKey(Json),
  summary: Schema.String
})
export type HistoryRow = typeof HistoryRow.Type

/** Which events; all given conditions must hold. */
export const eventFilter = {
  /** Exact type, or a prefix that ends in `.` or `*`. */
  type: Schema.optionalKey(Word),
  /** Name or beginning of the device key. */
  node: Schema.optionalKey(Word),
  actor: Schema.optionalKey(Word),
  /** Exact subject, or a prefix that ends in `/` or `*`. */
  subject: Schema.optionalKey(Word),
  since: Schema.optionalKey(PointText),
  until: Schema.optionalKey(PointText)
}
export const eventFilterDescribe = {
  type: "only this type, or a prefix that ends in *",
  node: "only events of this node (name or beginning of its key)",
  actor: "only events of this actor: device, agent:NAME or person:NAME",
  subject: "only events about this, or a prefix that ends in / or *",
  since: "from here on: @NUMBER, address, time, or a duration such as 2h",
  until: "up to here: @NUMBER, address, time, or a duration such as 2h"
}
/** How the CLI describes keys that mean the same everywhere. */
export const layerDescribe = "layer to write: mesh (everybody), role or node (this one)"
export const formatDescribe = "yaml, toml or json"
