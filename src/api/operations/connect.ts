/** Other nodes by name: are they there, what do they serve, a connection to it. */
import { Schema } from "effect"
import { operation } from "../operation.ts"
import { KeyHex, limit, withDefault, Word } from "./common.ts"

export const nodePing = operation("node.ping", {
  summary: "Measure the round trip to a node that is in touch.",
  kind: "query",
  stream: "follow",
  input: Schema.Struct({ node: Word, count: limit(4, 1_000), timeout: limit(10, 600) }),
  output: Schema.Struct({
    name: Schema.String, device: KeyHex, number: Schema.Natural,
    /** Milliseconds there and back. */
    ms: Schema.Finite,
    carrier: Schema.String, remote: Schema.String
  }),
  cli: {
    positional: ["node"], describe: { node: "name or beginning of its key", count: "how many pings", timeout: "seconds to wait for the node, and for each answer" }, alias: { c: "count" },
    examples: ["kos node ping cellar", "kos node ping cellar --count 1 --timeout 30"]
  }
})

export const serviceList = operation("service.list", {
  summary: "List the services that a node declares, and who may use them.",
  kind: "query",
  input: Schema.Struct({ node: Schema.optionalKey(Word) }),
  output: Schema.Array(Schema.Struct({
    node: Schema.String, device: KeyHex, name: Schema.String,
    /** `host:port` where it listens; absent when something is set for a service that is not declared. */
    target: Schema.optionalKey(Schema.String),
    remote: Schema.Boolean,
    allow: Schema.Array(Schema.String),
    connectionsMax: Schema.Natural, idleSeconds: Schema.Natural,
    /** May this node use it? */
    may: Schema.Boolean,
    /** Why nobody can use it, when nobody can. */
    fault: Schema.optionalKey(Schema.String)
  })),
  cli: { positional: ["node"], describe: { node: "name or beginning of its key; this node when left out" }, examples: ["kos service list", "kos service list cellar"] }
})

export const connect = operation("connect", {
  summary: "Connect to a service of another node through the mesh: stdin and stdout, or a local port.",
  kind: "query",
  stream: "always",
  input: Schema.Struct({
    service: Word,
    listen: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65_535 }))),
    timeout: limit(10, 600),
    /** It goes on until the caller leaves or the connection ends. */
    follow: withDefault(Schema.Boolean, true)
  }),
  output: Schema.Struct({
    state: Schema.Literals(["ready", "listening", "opened", "closed", "refused"]),
    node: Schema.String, service: Schema.String,
    /** One line for people. */
    sentence: Schema.String,
    /** Where a local program connects to. */
    address: Schema.optionalKey(Schema.String),
    /** Name of the socket in the node's `run` directory that carries the bytes of stdin and stdout. */
    socket: Schema.optionalKey(Schema.String),
    /** Connections open now. */
    open: Schema.Natural,
    bytesIn: Schema.optionalKey(Schema.Natural), bytesOut: Schema.optionalKey(Schema.Natural)
  }),
  cli: {
    positional: ["service"], hidden: ["follow"], alias: { l: "listen" },
    describe: {
      service: "NODE:SERVICE", listen: "listen on this port of 127.0.0.1 instead of stdin and stdout; 0 takes any free one",
      timeout: "seconds to wait for the node", follow: "it goes on until the caller leaves or the connection ends"
    },
    examples: ["kos connect cellar:web --listen 8080", "kos connect cellar:ssh", "ssh -o ProxyCommand='kos connect cellar:ssh' pi@cellar"]
  }
})
