/** The one-word commands: what a person types first. */
import { Schema } from "effect"
import { operation } from "../operation.ts"
import { CloudEvent, eventFilter, eventFilterDescribe, flag, KeyHex, limit, Time, Word } from "./common.ts"
import { Mode } from "./mesh.ts"

export const init = operation("init", {
  summary: "Make this directory a node: name, keys, log and settings.",
  kind: "command",
  place: "local",
  input: Schema.Struct({ name: Schema.optionalKey(Word), mode: Schema.optionalKey(Mode) }),
  output: Schema.Struct({
    created: Schema.Boolean, name: Schema.String, device: KeyHex, log: KeyHex, home: Schema.String, socket: Schema.String, next: Schema.String
  }),
  cli: {
    positional: ["name"],
    describe: { name: "name of this node (default: from the host name)", mode: "joined: meet other nodes; isolated: never open a connection" },
    examples: ["kos init attic", "kos --home /tmp/second init cellar --mode isolated"]
  }
})

const Peer = Schema.Struct({
  name: Schema.String,
  device: KeyHex,
  inTouch: Schema.Boolean,
  carrier: Schema.optionalKey(Schema.String),
  remote: Schema.optionalKey(Schema.String),
  lastSeen: Schema.optionalKey(Time),
  /** Events held here that this peer does not hold yet. */
  waiting: Schema.Natural,
  /** Events known to exist there that are not held here. */
  behind: Schema.Natural
})

export const status = operation("status", {
  summary: "Say how this node and its mesh are, in one sentence and a few lines.",
  kind: "query",
  input: Schema.Struct({}),
  output: Schema.Struct({
    /** "All well. 2 of 3 nodes in touch; 4 events waiting for `attic`." */
    sentence: Schema.String,
    state: Schema.Literals(["well", "attention", "degraded"]),
    node: Schema.Struct({
      name: Schema.String, device: KeyHex, log: KeyHex, home: Schema.String, version: Schema.String, pid: Schema.Natural, startedAt: Time,
      ready: Schema.Boolean, mode: Mode
    }),
    mesh: Schema.Struct({
      id: KeyHex, name: Schema.String, members: Schema.Natural,
      /** Members in touch, this node counted. */
      inTouch: Schema.Natural
    }),
    /** The other meshes that this node is in. */
    others: Schema.optionalKey(Schema.Array(Schema.Struct({
      name: Schema.String, id: KeyHex, default: Schema.Boolean, members: Schema.Natural, inTouch: Schema.Natural, fault: Schema.optionalKey(Schema.String)
    }))),
    peers: Schema.Array(Peer),
    events: Schema.Struct({ total: Schema.Natural, own: Schema.Natural, newestArrival: Schema.Natural }),
    conflicts: Schema.Natural,
    quarantine: Schema.Struct({ frames: Schema.Natural, events: Schema.Natural, documents: Schema.Array(Schema.String) }),
    unknownTypes: Schema.Array(Schema.Struct({ type: Schema.String, count: Schema.Natural })),
    uncleanStops: Schema.Struct({ count: Schema.Natural, last: Schema.optionalKey(Time) }),
    refusedCommands: Schema.Natural,
    disk: Schema.Struct({ usedBytes: Schema.Natural, freeBytes: Schema.Natural }),
    sync: Schema.Struct({ paused: Schema.Boolean }),
    warnings: Schema.Array(Schema.String),
    /** The command to try next. */
    next: Schema.String
  }),
  cli: { describe: {}, examples: ["kos status", "kos status --json"] }
})

export const doctor = operation("doctor", {
  summary: "Look for what is wrong and say what to do about it; with --rebuild, rebuild all state from the logs and compare.",
  kind: "command",
  place: "either",
  input: Schema.Struct({ rebuild: flag }),
  output: Schema.Struct({
    healthy: Schema.Boolean,
    /** False when it was done without a daemon. */
    daemon: Schema.Boolean,
    findings: Schema.Array(Schema.Struct({
      /** `clock`, `disk`, `log`, `store`, `permissions`, `network`, … */
      about: Schema.String,
      level: Schema.Literals(["good", "note", "warning", "fault"]),
      detail: Schema.String,
      fix: Schema.optionalKey(Schema.String)
    })),
    rebuild: Schema.optionalKey(Schema.Struct({
      equal: Schema.Boolean, events: Schema.Natural, documents: Schema.Natural, rows: Schema.Natural, ms: Schema.Natural,
      differences: Schema.Array(Schema.String)
    }))
  }),
  cli: { describe: { rebuild: "rebuild every projection from the logs and say whether it equals the live state" }, examples: ["kos doctor", "kos doctor --rebuild"] }
})

export const events = operation("events", {
  summary: "Show the newest events; with -f, go on showing them as they come.",
  kind: "query",
  stream: "follow",
  input: Schema.Struct({ follow: flag, ...eventFilter, limit: limit(20, 100_000) }),
  output: CloudEvent,
  cli: {
    describe: { follow: "go on until interrupted", ...eventFilterDescribe, limit: "how many of the newest to begin with" },
    alias: { f: "follow", n: "limit" },
    examples: ["kos events", "kos events -f --type 'config.*'"]
  }
})

export const LogLevel = Schema.Literals(["debug", "info", "warn", "error"])

export const logs = operation("logs", {
  summary: "Show what the daemon logged; with -f, go on showing it as it comes.",
  kind: "query",
  stream: "follow",
  input: Schema.Struct({ follow: flag, level: Schema.optionalKey(LogLevel), since: Schema.optionalKey(Word), limit: limit(100, 100_000) }),
  output: Schema.Struct({
    at: Time, level: LogLevel, text: Schema.String, detail: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json))
  }),
  cli: {
    describe: {
      follow: "go on until interrupted", level: "this level and the graver ones: debug, info, warn or error",
      since: "from this time on: RFC 3339, or a duration such as 2h", limit: "how many of the newest to begin with"
    },
    alias: { f: "follow", n: "limit" },
    examples: ["kos logs -n 20", "kos logs -f --level warn"]
  }
})

export const wait = operation("wait", {
  summary: "Wait until the node is ready, in step with its peers, or in touch with one of them.",
  kind: "query",
  input: Schema.Struct({
    condition: Schema.String.check(Schema.isPattern(/^(ready|synced|peer=.{1,128})$/, { description: "ready, synced or peer=NAME", message: "expected ready, synced or peer=NAME" })),
    /** Seconds. */
    timeout: limit(60, 86_400)
  }),
  output: Schema.Struct({ condition: Schema.String, met: Schema.Literal(true), waitedMs: Schema.Natural, detail: Schema.String }),
  cli: {
    positional: ["condition"],
    describe: { condition: "ready, synced or peer=NAME", timeout: "give up after this many seconds (exit 7)" },
    examples: ["kos wait ready", "kos wait synced --timeout 300", "kos wait peer=attic"]
  }
})
