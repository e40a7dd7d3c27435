import { Schema } from "effect"
import { operation } from "../operation.ts"
import { AddressText, By, CloudEvent, Difference, eventFilter, eventFilterDescribe, EventRow, flag, Json, KeyHex, limit, PointShape, PointText, Word } from "./common.ts"

export const eventList = operation("event.list", {
  summary: "List events, newest last.",
  kind: "query",
  input: Schema.Struct({ ...eventFilter, limit: limit(50, 100_000) }),
  output: Schema.Array(EventRow),
  cli: {
    describe: { ...eventFilterDescribe, limit: "at most this many, the newest" },
    alias: { n: "limit" },
    examples: ["kos event list --since 2h", "kos event list --type config.changed/1 --node attic"]
  }
})

export const eventShow = operation("event.show", {
  summary: "Show one event with its body, its causes and what it led to.",
  kind: "query",
  input: Schema.Struct({ event: Word }),
  output: Schema.Struct({
    ...EventRow.fields,
    log: KeyHex,
    /** Block and place in its frame. */
    block: Schema.Natural, offset: Schema.Natural,
    /** Key epoch the frame was sealed with. */
    epoch: Schema.Natural,
    command: Schema.optionalKey(Schema.String),
    cause: Schema.Array(AddressText),
    led: Schema.Array(AddressText),
    body: Json,
    /** Size of the body as it stands in the log. */
    bytes: Schema.Natural,
    /** Names of the nodes known to hold it. */
    heldBy: Schema.Array(Schema.String)
  }),
  cli: { positional: ["event"], describe: { event: "@NUMBER or address" }, examples: ["kos event show @1204"] }
})

export const eventDiff = operation("event.diff", {
  summary: "Show what changed in state between two points, and who changed it.",
  kind: "query",
  input: Schema.Struct({ from: PointText, to: Schema.optionalKey(PointText), subject: Schema.optionalKey(Word) }),
  output: Schema.Struct({ from: PointShape, to: PointShape, events: Schema.Natural, differences: Schema.Array(Difference) }),
  cli: {
    positional: ["from", "to"],
    describe: { from: "@NUMBER, address, time, or a duration such as 2h", to: "the same; now when left out", subject: "only documents that begin with this" },
    examples: ["kos event diff 2h", "kos event diff @1200 @1204"]
  }
})

export const eventAt = operation("event.at", {
  summary: "Show a value as it was at a point.",
  kind: "query",
  input: Schema.Struct({ point: PointText, path: Word }),
  output: Schema.Struct({ point: PointShape, path: Schema.String, value: Json, layer: Schema.optionalKey(Schema.String), by: Schema.optionalKey(By) }),
  cli: {
    positional: ["point", "path"],
    describe: { point: "@NUMBER, address, time, or a duration such as 2h", path: "setting (network.port), agent (agents/NAME) or page (memory/MODULE/PAGE)" },
    examples: ["kos event at 2h network.port", "kos event at @1204 memory/notes/todo"]
  }
})

export const eventVerify = operation("event.verify", {
  summary: "Recompute signatures, hashes, frames and checkpoints of every log from its blocks.",
  kind: "query",
  input: Schema.Struct({ node: Schema.optionalKey(Word), all: flag }),
  output: Schema.Struct({
    clean: Schema.Boolean,
    logs: Schema.Array(Schema.Struct({
      log: KeyHex, node: Schema.String, blocks: Schema.Natural, events: Schema.Natural, treeHash: Schema.String, fork: Schema.Natural,
      /** Checkpoints by other nodes that agree with it. */
      witnesses: Schema.Natural,
      /** Blocks up to the last such checkpoint. */
      witnessed: Schema.Natural,
      /** Blocks that others hold and this node does not. */
      gaps: Schema.Natural,
      /** Checkpoints that contradict it. */
      conflicts: Schema.Natural,
      /** Blocks beyond its cut-off, which do not count, and blocks that this node has no key for. */
      beyond: Schema.Natural, sealed: Schema.Natural,
      faults: Schema.Array(Schema.Struct({ address: Schema.String, why: Schema.String }))
    })),
    /** Proofs that a log's author signed two histories. */
    misbehaviour: Schema.Array(Schema.Struct({ log: KeyHex, node: Schema.String, length: Schema.Natural, detail: Schema.String })),
    ms: Schema.Natural
  }),
  cli: {
    positional: ["node"], describe: { node: "only this node's logs", all: "also logs of nodes that left or were expelled" }, alias: { a: "all" },
    examples: ["kos event verify", "kos event verify --all"]
  }
})

export const ProofFile = Schema.Struct({ file: Schema.String, events: Schema.Natural, blocks: Schema.Natural, bytes: Schema.Natural })

export const eventExport = operation("event.export", {
  summary: "Write events as CloudEvents, one a line; with --proof, into a file that an outsider can check.",
  kind: "query",
  stream: "always",
  input: Schema.Struct({ ...eventFilter, limit: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100_000_000 }))), proof: Schema.optionalKey(Word), force: flag }),
  /** With `proof`, the only item is what was written. */
  output: Schema.Union([CloudEvent, ProofFile]),
  cli: {
    paths: ["proof"],
    describe: { ...eventFilterDescribe, limit: "at most this many, the oldest", proof: "write this file, with Merkle proofs and signatures, for kos-verify", force: "write over an existing file" },
    alias: { n: "limit" },
    examples: ["kos event export --since 7d > week.ndjson", "kos event export --proof audit.json"]
  }
})

export const eventTypesList = operation("event.types", {
  summary: "List the types of events that this version reads and may write.",
  kind: "query",
  place: "local",
  input: Schema.Struct({}),
  output: Schema.Struct({ version: Schema.String, reads: Schema.Array(Schema.String), writes: Schema.Array(Schema.String) }),
  cli: { describe: {}, examples: ["kos event types"] }
})
