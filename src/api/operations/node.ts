import { Schema } from "effect"
import { operation } from "../operation.ts"
import { By, Done, KeyHex, Text, withDefault, Word } from "./common.ts"
import { Readable, Role } from "./roles.ts"

export const nodeRole = operation("node.role", {
  summary: "Give a node another role in the mesh.",
  kind: "command",
  input: Schema.Struct({ node: Word, role: Role }),
  output: Schema.Struct({ name: Schema.String, device: KeyHex, role: Role, was: Role, ...Done.fields }),
  cli: {
    positional: ["node", "role"], describe: { node: "name or beginning of its key", role: "owner, admin, member, reader (writes nothing) or seeder (holds, reads nothing)" },
    examples: ["kos node role attic admin", "kos node role shed seeder"]
  }
})

export const nodeRevoke = operation("node.revoke", {
  summary: "Expel a node: it is cut off, its later changes do not count, and the mesh gets new keys.",
  kind: "command",
  input: Schema.Struct({ node: Word, reason: withDefault(Text.check(Schema.isMaxLength(256)), "") }),
  output: Schema.Struct({
    name: Schema.String, device: KeyHex, role: Role,
    /** What it wrote from here on does not count. */
    cutoffs: Schema.Array(Schema.Struct({ log: KeyHex, length: Schema.Natural })),
    /** The new key epoch; absent when more owners must agree first. */
    epoch: Schema.optionalKey(Schema.Natural),
    /** Owners that agree, of how many that must. */
    agreed: Schema.Struct({ owners: Schema.Natural, of: Schema.Natural }),
    readable: Readable,
    /** Nodes in touch that have heard of it, and those that have not. */
    told: Schema.Array(Schema.String), untold: Schema.Array(Schema.String),
    ...Done.fields
  }),
  cli: {
    positional: ["node"], describe: { node: "name or beginning of its key", reason: "why, for the others to read" },
    examples: ["kos node revoke attic --reason 'stolen from the shed'"]
  }
})

export const nodeClear = operation("node.clear", {
  summary: "Decide which history of a node's log stands, after it showed two.",
  kind: "command",
  input: Schema.Struct({ node: Word, reason: withDefault(Text.check(Schema.isMaxLength(256)), "") }),
  output: Schema.Struct({
    name: Schema.String, device: KeyHex,
    logs: Schema.Array(Schema.Struct({ log: KeyHex, length: Schema.Natural, treeHash: KeyHex })),
    ...Done.fields
  }),
  cli: {
    positional: ["node"], describe: { node: "name or beginning of its key", reason: "why, for the others to read" },
    examples: ["kos node clear attic --reason 'its card was copied; this is the original'"]
  }
})

export const meshThreshold = operation("mesh.threshold", {
  summary: "Show or set how many owners must agree before an owner is expelled.",
  kind: "command",
  input: Schema.Struct({ owners: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 16 }))) }),
  output: Schema.Struct({ threshold: Schema.Natural, owners: Schema.Array(Schema.String), by: Schema.optionalKey(By), ...Done.fields }),
  cli: { positional: ["owners"], describe: { owners: "1 to 16; shows the present number when left out" }, examples: ["kos mesh threshold 2"] }
})
