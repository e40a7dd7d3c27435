import { Schema } from "effect"
import { operation } from "../operation.ts"
import { Done, DurationText, KeyHex, limit, PointText, Time, Word } from "./common.ts"

export const syncStatus = operation("sync.status", {
  summary: "Show who is in touch, who holds what, and what is waiting for whom.",
  kind: "query",
  input: Schema.Struct({}),
  output: Schema.Struct({
    mode: Schema.Literals(["isolated", "joined"]),
    paused: Schema.Boolean,
    pausedUntil: Schema.optionalKey(Time),
    carriers: Schema.Array(Schema.Struct({ name: Schema.String, listening: Schema.Boolean, detail: Schema.String, connections: Schema.Natural })),
    peers: Schema.Array(Schema.Struct({
      name: Schema.String, device: KeyHex, inTouch: Schema.Boolean,
      carrier: Schema.optionalKey(Schema.String), remote: Schema.optionalKey(Schema.String), lastSeen: Schema.optionalKey(Time),
      /** Events held here that it lacks, and since when the oldest of them waits. */
      waiting: Schema.Natural, waitingSince: Schema.optionalKey(Time),
      behind: Schema.Natural
    })),
    logs: Schema.Array(Schema.Struct({
      log: KeyHex, node: Schema.String,
      /** Blocks held here, and the longest that any peer reported. */
      length: Schema.Natural, known: Schema.Natural,
      /** Names of the nodes that hold all of it, and of those that do not. */
      heldBy: Schema.Array(Schema.String), missingAt: Schema.Array(Schema.String)
    }))
  }),
  cli: { describe: {}, examples: ["kos sync status"] }
})

export const syncNow = operation("sync.now", {
  summary: "Dial everybody now and wait until logs are exchanged.",
  kind: "command",
  input: Schema.Struct({ peer: Schema.optionalKey(Word), timeout: limit(60, 86_400) }),
  output: Schema.Struct({ received: Schema.Natural, reached: Schema.Array(Schema.String), missed: Schema.Array(Schema.String), ms: Schema.Natural }),
  cli: { positional: ["peer"], describe: { peer: "only this node", timeout: "give up after this many seconds (exit 7)" }, examples: ["kos sync now", "kos sync now attic"] }
})

export const syncPause = operation("sync.pause", {
  summary: "Exchange nothing until resumed, or for a while.",
  kind: "command",
  input: Schema.Struct({
    for: Schema.optionalKey(DurationText)
  }),
  output: Schema.Struct({ until: Schema.optionalKey(Time), ...Done.fields }),
  cli: { positional: ["for"], describe: { for: "a duration such as 30m; without end when left out" }, examples: ["kos sync pause 2h"] }
})

export const syncResume = operation("sync.resume", {
  summary: "Exchange again.",
  kind: "command",
  input: Schema.Struct({}),
  output: Done,
  cli: { describe: {}, examples: ["kos sync resume"] }
})

export const syncExport = operation("sync.export", {
  summary: "Write what another node lacks into a bundle file, to be carried by hand.",
  kind: "query",
  input: Schema.Struct({ file: Word, since: Schema.optionalKey(PointText), node: Schema.optionalKey(Word) }),
  output: Schema.Struct({ file: Schema.String, bytes: Schema.Natural, logs: Schema.Natural, blocks: Schema.Natural }),
  cli: {
    positional: ["file"], paths: ["file"],
    describe: { file: "where to write it", since: "only what came after this point: @NUMBER, time, or duration", node: "only what this node is not known to hold" },
    examples: ["kos sync export /media/stick/hill.kos", "kos sync export hill.kos --since 7d"]
  }
})

export const syncImport = operation("sync.import", {
  summary: "Take in a bundle file, checked as if a peer had sent it.",
  kind: "command",
  input: Schema.Struct({ file: Word }),
  output: Schema.Struct({
    file: Schema.String, logs: Schema.Natural, blocks: Schema.Natural,
    /** Blocks that were already here. */
    known: Schema.Natural,
    events: Schema.Natural,
    refused: Schema.Array(Schema.Struct({ log: Schema.String, why: Schema.String }))
  }),
  cli: { positional: ["file"], paths: ["file"], describe: { file: "the bundle" }, examples: ["kos sync import /media/stick/hill.kos"] }
})
