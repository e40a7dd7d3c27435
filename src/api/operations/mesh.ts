import { Schema } from "effect"
import { operation } from "../operation.ts"
import { By, Done, DurationText, flag, KeyHex, limit, Time, withDefault, Word } from "./common.ts"

/** `joined`: meet other nodes; `isolated`: open no connection at all. */
export const Mode = Schema.Literals(["isolated", "joined"])
/** Roles by rising right; owner and member are in use now. */
export const Role = Schema.Literals(["seeder", "reader", "member", "admin", "owner"])

const Mesh = Schema.Struct({
  id: KeyHex, name: Schema.String, mode: Mode, created: Time, role: Role,
  members: Schema.Array(Schema.Struct({
    name: Schema.String, device: KeyHex, role: Role, standing: Schema.Literals(["member", "revoked", "left"]), since: Time, self: Schema.Boolean
  }))
})

export const meshCreate = operation("mesh.create", {
  summary: "Name this node's mesh so that others can be invited.",
  kind: "command",
  input: Schema.Struct({ name: Word }),
  output: Schema.Struct({ id: KeyHex, name: Schema.String, ...Done.fields }),
  cli: { positional: ["name"], describe: { name: "what its people call it" }, examples: ["kos mesh create hill"] }
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

const InviteRow = Schema.Struct({
  /** Short id to revoke it by. */
  id: Schema.String,
  role: Role,
  issued: By,
  expires: Time,
  uses: Schema.Natural,
  used: Schema.Natural,
  state: Schema.Literals(["open", "used", "expired", "withdrawn"])
})

export const inviteCreate = operation("invite.create", {
  summary: "Make an invite for another device.",
  kind: "command",
  input: Schema.Struct({
    role: withDefault(Role, "member"),
    expires: Schema.optionalKey(DurationText),
    uses: limit(1, 100)
  }),
  output: Schema.Struct({ ...InviteRow.fields, invite: Schema.String, words: Schema.optionalKey(Schema.String), qr: Schema.optionalKey(Schema.String) }),
  cli: {
    describe: { role: "what the newcomer may do", expires: "how long it is good for: 30m, 24h, 7d (default: the setting invite.expires)", uses: "how many devices may use it" },
    examples: ["kos invite create", "kos invite create --expires 1h --uses 3"]
  }
})

export const inviteList = operation("invite.list", {
  summary: "List invites and what became of them.",
  kind: "query",
  input: Schema.Struct({ all: flag }),
  output: Schema.Array(InviteRow),
  cli: { describe: { all: "also used, expired and withdrawn ones" }, alias: { a: "all" }, examples: ["kos invite list --all"] }
})

export const inviteRevoke = operation("invite.revoke", {
  summary: "Withdraw an invite.",
  kind: "command",
  input: Schema.Struct({ id: Word }),
  output: Done,
  cli: { positional: ["id"], describe: { id: "its id, from `kos invite list`" }, examples: ["kos invite revoke 7f3a"] }
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
  input: Schema.Struct({ all: flag }),
  output: Schema.Array(NodeRow),
  cli: { describe: { all: "also nodes that left or were revoked" }, alias: { a: "all" }, examples: ["kos node list"] }
})

export const nodeShow = operation("node.show", {
  summary: "Show one node: its logs, what it holds of ours, and since when.",
  kind: "query",
  input: Schema.Struct({ node: Schema.optionalKey(Word) }),
  output: Schema.Struct({
    ...NodeRow.fields,
    admitted: Schema.optionalKey(By),
    version: Schema.optionalKey(Schema.String),
    logs: Schema.Array(Schema.Struct({
      log: KeyHex, epoch: Schema.Natural,
      /** Blocks held here. */
      length: Schema.Natural,
      state: Schema.Literals(["open", "closed", "diverged"]),
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
