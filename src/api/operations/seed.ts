/** Packs of releases that this node holds for others. */
import { Schema } from "effect"
import { operation } from "../operation.ts"
import { Done, Word } from "./common.ts"

const Limits = { upload: Schema.String, download: Schema.String, window: Schema.String, metered: Schema.Boolean }

export const seedList = operation("seed.list", {
  summary: "List the packs that this node holds and passes on.",
  kind: "query",
  input: Schema.Struct({}),
  output: Schema.Struct({
    seeds: Schema.Array(Schema.Struct({
      pack: Schema.String, releases: Schema.Array(Schema.String), bytes: Schema.Natural, heldBytes: Schema.Natural, uploadedBytes: Schema.Natural, downloadedBytes: Schema.Natural,
      wires: Schema.Natural, seeding: Schema.Boolean
    })),
    limits: Schema.Struct(Limits),
    /** Nothing goes over the wires now, and why; empty when it may. */
    rests: Schema.String,
    banned: Schema.Array(Schema.String),
    /** Of the process that does it; 0 when none runs. */
    pid: Schema.Natural, memoryBytes: Schema.Natural
  }),
  cli: { describe: {}, examples: ["kos seed list"] }
})

export const seedAdd = operation("seed.add", {
  summary: "Fetch all packs of a release and pass them on.",
  kind: "command",
  input: Schema.Struct({ release: Word }),
  output: Schema.Struct({ ...Done.fields, packs: Schema.Natural, bytes: Schema.Natural }),
  cli: { positional: ["release"], describe: { release: "version, NAME@VERSION, or the beginning of the release's id" }, examples: ["kos seed add 0.3.0"] }
})

export const seedRemove = operation("seed.remove", {
  summary: "Pass packs on no more and remove them.",
  kind: "command",
  input: Schema.Struct({ what: Word }),
  output: Schema.Struct({ ...Done.fields, packs: Schema.Natural, bytes: Schema.Natural }),
  cli: { positional: ["what"], describe: { what: "a release, or the beginning of a pack's SHA-256" }, examples: ["kos seed remove 0.2.0"] }
})

export const seedLimit = operation("seed.limit", {
  summary: "Set how much, when and over what this node passes packs on.",
  kind: "command",
  input: Schema.Struct({ up: Schema.optionalKey(Word), down: Schema.optionalKey(Word), window: Schema.optionalKey(Word), metered: Schema.optionalKey(Schema.Literals(["yes", "no"])) }),
  output: Schema.Struct({ ...Done.fields, limits: Schema.Struct(Limits) }),
  cli: {
    describe: { up: "bytes a second sent to all others together, such as 500KiB; 0 for no limit", down: "bytes a second fetched", window: "times of day: always, never or such as 22:00-06:00", metered: "yes: the connection costs by volume; packs go over the local network only" },
    examples: ["kos seed limit --up 500KiB --window 22:00-06:00"]
  }
})
