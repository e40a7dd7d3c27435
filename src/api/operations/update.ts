/** Releases on this device: what there is, what it would do, and taking it. */
import { Schema } from "effect"
import { operation } from "../operation.ts"
import { By, Done, flag, KeyHex, limit, Time, Word } from "./common.ts"

const Channel = Schema.Struct({
  name: Schema.String, channel: KeyHex, log: KeyHex,
  trust: Schema.Literals(["fresh", "stale", "untrusted", "empty"]), detail: Schema.String,
  releases: Schema.Natural, signed: Schema.optionalKey(Time), expires: Schema.optionalKey(Time),
  /** Versions of root, timestamp, snapshot and targets. */
  versions: Schema.Struct({ root: Schema.Natural, timestamp: Schema.Natural, snapshot: Schema.Natural, targets: Schema.Natural })
})

const Row = Schema.Struct({
  id: KeyHex, name: Schema.String, version: Schema.String, kind: Schema.Literals(["bundle", "agent", "codex", "os"]), platform: Schema.String,
  channel: Schema.String, security: Schema.Boolean,
  /** Last step on this device; `new` before the first. */
  state: Schema.String,
  /** This version runs here now. */
  running: Schema.Boolean,
  verdict: Schema.Literals(["compatible", "unfit", "stale"]),
  /** Why it does not fit; one sentence each. */
  reasons: Schema.Array(Schema.String),
  /** Why this node does not take it by itself; empty when it does. */
  waits: Schema.String
})
export type UpdateRow = typeof Row.Type

const Signer = Schema.Struct({ key: Schema.String, name: Schema.String })
const release = { release: Word }
const releaseWords = "version, NAME@VERSION, or the beginning of the release's id"

export const updateCheck = operation("update.check", {
  summary: "Read the channels anew and show what is offered.",
  kind: "query",
  input: Schema.Struct({ channel: Schema.optionalKey(Word) }),
  output: Schema.Struct({ channels: Schema.Array(Channel), offers: Schema.Array(Row) }),
  cli: { positional: ["channel"], describe: { channel: "only this channel" }, examples: ["kos update check"] }
})

export const updateList = operation("update.list", {
  summary: "List releases that this node could take.",
  kind: "query",
  input: Schema.Struct({ all: flag }),
  output: Schema.Array(Row),
  cli: { describe: { all: "also those that are older than what runs, or do not fit" }, alias: { a: "all" }, examples: ["kos update list"] }
})

export const updateShow = operation("update.show", {
  summary: "Show one release: what it says of itself and who signed it.",
  kind: "query",
  input: Schema.Struct(release),
  output: Schema.Struct({
    ...Row.fields, target: Schema.String, role: Schema.String, threshold: Schema.Natural, signers: Schema.Array(Signer),
    boards: Schema.Array(Schema.String), payloadBytes: Schema.Natural, from: Schema.NullOr(Schema.String), kosMin: Schema.NullOr(Schema.String), kosBelow: Schema.NullOr(Schema.String),
    minSecure: Schema.NullOr(Schema.String), ring: Schema.String, permille: Schema.Natural, checks: Schema.Array(Schema.String), migrations: Schema.Array(Schema.String),
    risk: Schema.String, notes: Schema.String, reads: Schema.Natural, writes: Schema.Natural
  }),
  cli: { positional: ["release"], describe: { release: releaseWords }, examples: ["kos update show 0.3.0"] }
})

export const updatePlan = operation("update.plan", {
  summary: "Say what taking a release would do, what it takes and what it risks; nothing is touched.",
  kind: "query",
  input: Schema.Struct(release),
  output: Schema.Struct({
    release: Row, changes: Schema.Array(Schema.String),
    /** Bytes to fetch, needed on disk, and free. */
    fetchBytes: Schema.Natural, spaceBytes: Schema.Natural, freeBytes: Schema.Natural,
    signers: Schema.Array(Signer), threshold: Schema.Natural, peers: Schema.Array(Schema.String), migrations: Schema.Array(Schema.String),
    /** Sync risk, in words. */
    risks: Schema.Array(Schema.String),
    advice: Schema.Array(Schema.Struct({ by: By, stance: Schema.Literals(["advice", "veto"]), text: Schema.String, counts: Schema.Boolean }))
  }),
  cli: { positional: ["release"], describe: { release: releaseWords }, examples: ["kos update plan 0.3.0"] }
})

export const updateFetch = operation("update.fetch", {
  summary: "Fetch a release and check it, without switching to it.",
  kind: "command",
  input: Schema.Struct(release),
  output: Schema.Struct({
    release: Row, summary: Schema.String,
    /** Bytes of the payload that were here already, made from a patch, and fetched. */
    hereBytes: Schema.Natural, patchedBytes: Schema.Natural, fetchedBytes: Schema.Natural
  }),
  cli: { positional: ["release"], describe: { release: releaseWords }, examples: ["kos update fetch 0.3.0"] }
})

export const updateTry = operation("update.try", {
  summary: "Run a module shut in, with a log of its own that nobody else sees, until it is promoted or dropped.",
  kind: "command",
  input: Schema.Struct({ what: Schema.optionalKey(Word), show: Schema.optionalKey(Word), promote: Schema.optionalKey(Word), drop: Schema.optionalKey(Word) }),
  output: Schema.Struct({
    summary: Schema.String,
    trials: Schema.Array(Schema.Struct({
      id: Schema.String, name: Schema.String, version: Schema.String, state: Schema.String, since: Time, events: Schema.Natural, isolation: Schema.String
    })),
    /** What it printed last; with `show` only. */
    log: Schema.Array(Schema.String)
  }),
  cli: {
    positional: ["what"], describe: { what: "release, or the whole path of a module's directory; the trials are listed without it", show: "what a trial did, by its id", promote: "take it over for good", drop: "end it and remove all that it left" },
    examples: ["kos update try watcher@1.2.0", "kos update try", "kos update try --drop 3fa9"]
  }
})

export const updateApply = operation("update.apply", {
  summary: "Take a release: fetch, rehearse, switch and watch; the old version comes back by itself if it is not healthy.",
  kind: "command",
  input: Schema.Struct({ release: Schema.optionalKey(Word), overrideVeto: flag, despite: flag, insist: flag }),
  output: Schema.Struct({
    release: Row, summary: Schema.String,
    /** The node is about to start again with it. */
    restarting: Schema.Boolean,
    differences: Schema.Array(Schema.String)
  }),
  cli: {
    positional: ["release"], describe: { release: `${releaseWords}; the newest that fits when left out`, overrideVeto: "although somebody who may vetoed it", despite: "although its rehearsal made something otherwise", insist: "although others are trying it, or nobody else holds this node's events" },
    examples: ["kos update apply", "kos update apply 0.3.0"]
  }
})

export const updateBoot = operation("update.boot", {
  summary: "Start again with a version that lies ready, on trial.",
  kind: "command",
  input: Schema.Struct({ generation: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000_000 }))) }),
  output: Schema.Struct({ summary: Schema.String, generation: Schema.Natural, version: Schema.String }),
  cli: { positional: ["generation"], describe: { generation: "number from `kos update slots`; the newest that was staged when left out" }, examples: ["kos update boot"] }
})

export const updateRollback = operation("update.rollback", {
  summary: "Go back to an earlier version and start again with it.",
  kind: "command",
  input: Schema.Struct({ generation: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000_000 }))) }),
  output: Schema.Struct({ summary: Schema.String, generation: Schema.Natural, version: Schema.String }),
  cli: { positional: ["generation"], describe: { generation: "number from `kos update slots`; the one before when left out" }, examples: ["kos update rollback", "kos update rollback 3"] }
})

export const updateHistory = operation("update.history", {
  summary: "Show the steps of updates, newest last.",
  kind: "query",
  input: Schema.Struct({ all: flag, limit: limit(50, 10_000) }),
  output: Schema.Array(Schema.Struct({ by: By, step: Schema.String, id: KeyHex, name: Schema.String, version: Schema.String, detail: Schema.String })),
  cli: { describe: { all: "of all nodes", limit: "at most this many, the newest" }, alias: { a: "all", n: "limit" }, examples: ["kos update history", "kos update history --all"] }
})

export const updateChannel = operation("update.channel", {
  summary: "Show the channels that this node follows, follow one, or follow one no more.",
  kind: "command",
  input: Schema.Struct({ name: Schema.optionalKey(Word), follow: Schema.optionalKey(Word), unfollow: flag, settle: flag, layer: Schema.optionalKey(Schema.Literals(["mesh", "role", "node"])) }),
  output: Schema.Struct({
    ...Done.fields, channels: Schema.Array(Channel),
    /** Channels that federated meshes follow; nobody here does because of that. */
    others: Schema.Array(Schema.Struct({ name: Schema.String, mesh: Schema.String, code: Schema.String }))
  }),
  cli: {
    positional: ["name"], describe: { name: "the channel", follow: "its code, which begins with kos-channel:", unfollow: "follow it no more", settle: "go on with a log that was stopped because it forked, as it is held here", layer: "for everybody (mesh, the default), a role, or this node" },
    examples: ["kos update channel", "kos update channel stable --follow kos-channel:…"]
  }
})

export const updateSlots = operation("update.slots", {
  summary: "List the versions that lie on this node.",
  kind: "query",
  input: Schema.Struct({}),
  output: Schema.Array(Schema.Struct({
    generation: Schema.Natural, name: Schema.String, version: Schema.String, state: Schema.Literals(["current", "trial", "good", "staged", "failed"]), running: Schema.Boolean,
    release: Schema.optionalKey(KeyHex), path: Schema.String, why: Schema.optionalKey(Schema.String)
  })),
  cli: { describe: {}, examples: ["kos update slots"] }
})

export const updateAdvise = operation("update.advise", {
  summary: "Say something of a release to the nodes of the mesh, or veto it.",
  kind: "command",
  input: Schema.Struct({ release: Word, text: Schema.optionalKey(Word), veto: flag, withdraw: flag }),
  output: Schema.Struct({ ...Done.fields, counts: Schema.Boolean }),
  cli: {
    positional: ["release", "text"], describe: { release: releaseWords, text: "one sentence", veto: "nodes shall not take it by themselves; counts where `update.veto` names you", withdraw: "take the last word back" },
    examples: ["kos --as agent:watcher update advise 0.3.0 \"my module is not ready\" --veto"]
  }
})

export const updateStop = operation("update.stop", {
  summary: "Stop an update that is under way, at whatever step it is.",
  kind: "command",
  input: Schema.Struct({ release: Schema.optionalKey(Word) }),
  output: Done,
  cli: { positional: ["release"], describe: { release: `${releaseWords}; what is under way when left out` }, examples: ["kos update stop"] }
})

export const updatePin = operation("update.pin", {
  summary: "Let this node take one version of kOS only, or any again.",
  kind: "command",
  input: Schema.Struct({ version: Schema.optionalKey(Word), off: flag }),
  output: Done,
  cli: { positional: ["version"], describe: { version: "the version; what runs now when left out", off: "take it back" }, examples: ["kos update pin", "kos update pin --off"] }
})

export const updatePause = operation("update.pause", {
  summary: "Take no step of any update until it is resumed.",
  kind: "command",
  input: Schema.Struct({}),
  output: Done,
  cli: { describe: {}, examples: ["kos update pause"] }
})

export const updateResume = operation("update.resume", {
  summary: "Go on with updates.",
  kind: "command",
  input: Schema.Struct({}),
  output: Done,
  cli: { describe: {}, examples: ["kos update resume"] }
})

export const updateExport = operation("update.export", {
  summary: "Write channels and the packs of a release into a file, to be carried by hand.",
  kind: "query",
  input: Schema.Struct({ file: Word, release: Schema.optionalKey(Word) }),
  output: Schema.Struct({ file: Schema.String, bytes: Schema.Natural, channels: Schema.Natural, packs: Schema.Natural }),
  cli: {
    positional: ["file"], paths: ["file"], describe: { file: "where to write it", release: `${releaseWords}; the newest when left out` },
    examples: ["kos update export /media/stick/kos-update"]
  }
})

export const updateImport = operation("update.import", {
  summary: "Take in a file of channels and packs; everything is checked first.",
  kind: "command",
  input: Schema.Struct({ file: Word }),
  output: Schema.Struct({ file: Schema.String, summary: Schema.String, blocks: Schema.Natural, packs: Schema.Natural, offers: Schema.Array(Row) }),
  cli: { positional: ["file"], paths: ["file"], describe: { file: "the file" }, examples: ["kos update import /media/stick/kos-update"] }
})
