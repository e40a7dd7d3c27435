import { Schema } from "effect"
import { operation } from "../operation.ts"
import { Readable, Role } from "./roles.ts"
import { By, Done, flag, KeyHex, Time, Word } from "./common.ts"

/** `joined`: meet other nodes; `isolated`: open no connection at all. */
export const Mode = Schema.Literals(["isolated", "joined"])
const Mesh = Schema.Struct({
  id: KeyHex, name: Schema.String, mode: Mode, created: Time, role: Role,
  members: Schema.Array(Schema.Struct({
    name: Schema.String, device: KeyHex, role: Role, standing: Schema.Literals(["member", "revoked", "left"]), since: Time, self: Schema.Boolean
  }))
})

export const meshCreate = operation("mesh.create", {
  summary: "Name this node's mesh so that others can be invited; with --another, make a further one beside it.",
  kind: "command",
  input: Schema.Struct({ name: Word, another: flag }),
  /** `further`: commands reach it only when they name it. */
  output: Schema.Struct({ id: KeyHex, name: Schema.String, further: Schema.Boolean, ...Done.fields }),
  cli: {
    positional: ["name"], describe: { name: "what its people call it", another: "a further mesh, in which this node has a device key of its own" },
    examples: ["kos mesh create hill", "kos mesh create allotments --another"]
  }
})

const MeshRow = Schema.Struct({
  id: KeyHex, name: Schema.String,
  /** Commands that name no mesh go here. */
  default: Schema.Boolean,
  /** Absent when it could not be opened; `fault` says why. */
  role: Schema.optionalKey(Role),
  standing: Schema.optionalKey(Schema.Literals(["member", "revoked", "left"])),
  /** This node's device key there. */
  device: Schema.optionalKey(KeyHex),
  members: Schema.Natural,
  /** Members in touch, this node counted. */
  inTouch: Schema.Natural,
  /** It is a federation: nothing but shared things is in it. */
  federation: Schema.Boolean,
  fault: Schema.optionalKey(Schema.String)
})

export const meshList = operation("mesh.list", {
  summary: "List the meshes that this node is in.",
  kind: "query",
  input: Schema.Struct({}),
  output: Schema.Array(MeshRow),
  cli: { describe: {}, examples: ["kos mesh list", "kos --mesh allotments status"] }
})

export const meshUse = operation("mesh.use", {
  summary: "Choose the mesh that commands go to when they name none.",
  kind: "command",
  input: Schema.Struct({ name: Word }),
  output: Schema.Struct({ id: KeyHex, name: Schema.String, ...Done.fields }),
  cli: { positional: ["name"], describe: { name: "its name, or 8 digits or more of its id" }, examples: ["kos mesh use allotments"] }
})

export const meshShow = operation("mesh.show", {
  summary: "Show the mesh, its members and what this node may do in it.",
  kind: "query",
  input: Schema.Struct({}),
  output: Mesh,
  cli: { describe: {}, examples: ["kos mesh show"] }
})

export const meshMode = operation("mesh.mode", {
  summary: "Show or set whether this node meets others.",
  kind: "command",
  input: Schema.Struct({ mode: Schema.optionalKey(Mode) }),
  output: Schema.Struct({ mode: Mode, ...Done.fields }),
  cli: { positional: ["mode"], describe: { mode: "isolated or joined; shows the present one when left out" }, examples: ["kos mesh mode", "kos mesh mode isolated"] }
})

const NodeRow = Schema.Struct({
  name: Schema.String,
  device: KeyHex,
  role: Role,
  standing: Schema.Literals(["member", "revoked", "left"]),
  self: Schema.Boolean,
  inTouch: Schema.Boolean,
  carrier: Schema.optionalKey(Schema.String),
  lastSeen: Schema.optionalKey(Time),
  /** Its events that are held here. */
  events: Schema.Natural,
  waiting: Schema.Natural,
  behind: Schema.Natural
})

export const nodeList = operation("node.list", {
  summary: "List the nodes of the mesh.",
  kind: "query",
  input: Schema.Struct({ all: flag, federated: flag }),
  output: Schema.Array(Schema.Struct({
    ...NodeRow.fields,
    /** Absent for a node of another mesh, whose role there is nobody's business here. */
    role: Schema.optionalKey(Role),
    /** Of a node of another mesh: that mesh's name, and its services whose names are shared. */
    mesh: Schema.optionalKey(Schema.String),
    services: Schema.optionalKey(Schema.Array(Schema.String))
  })),
  cli: {
    describe: { all: "also nodes that left or were revoked", federated: "nodes of other meshes instead, as they share their names: NAME.MESH" }, alias: { a: "all" },
    examples: ["kos node list", "kos node list --federated"]
  }
})

export const nodeShow = operation("node.show", {
  summary: "Show one node: its logs, what it holds of ours, and since when.",
  kind: "query",
  input: Schema.Struct({ node: Schema.optionalKey(Word) }),
  output: Schema.Struct({
    ...NodeRow.fields,
    admitted: Schema.optionalKey(By),
    /** Who gave it its present role, when that was not its admission. */
    granted: Schema.optionalKey(By),
    revoked: Schema.optionalKey(Schema.Struct({ ...By.fields, reason: Schema.String })),
    /** What its role lets it do, one sentence each. */
    rights: Schema.Array(Schema.String),
    readable: Readable,
    version: Schema.optionalKey(Schema.String),
    logs: Schema.Array(Schema.Struct({
      log: KeyHex, epoch: Schema.Natural,
      /** Blocks held here. */
      length: Schema.Natural,
      /** Blocks that count, when that is not all. */
      counts: Schema.optionalKey(Schema.Natural),
      /** `held`: two signed histories of it were shown, and no admin has decided; `diverged`: a peer says so and cannot prove it. */
      state: Schema.Literals(["open", "closed", "held", "diverged"]),
      /** Newest event, as its author's clock had it. */
      last: Schema.optionalKey(Time)
    })),
    /** What this node is known to hold of each log. */
    receipts: Schema.Array(Schema.Struct({ log: KeyHex, node: Schema.String, holds: Schema.Natural, of: Schema.Natural, since: Schema.optionalKey(Time) }))
  }),
  cli: { positional: ["node"], describe: { node: "name or beginning of its key; this node when left out" }, examples: ["kos node show attic"] }
})

export const nodeName = operation("node.name", {
  summary: "Show or set the name of a node.",
  kind: "command",
  input: Schema.Struct({ name: Schema.optionalKey(Word), node: Schema.optionalKey(Word) }),
  output: Schema.Struct({ name: Schema.String, device: KeyHex, ...Done.fields }),
  cli: { positional: ["name"], describe: { name: "the new name; shows the present one when left out", node: "another node than this one" }, examples: ["kos node name cellar"] }
})
