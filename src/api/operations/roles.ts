import { Schema } from "effect"
import { Time } from "./common.ts"

/** Roles by rising right. */
export const Role = Schema.Literals(["seeder", "reader", "member", "admin", "owner"])

/** What a device could read while it belonged. */
export const Readable = Schema.Struct({
  /** Key epochs that were sealed to it, with when each began: whatever was written under them. */
  epochs: Schema.Array(Schema.Struct({ epoch: Schema.Natural, since: Time })),
  /** Secrets that were sealed to it: rotate them. */
  secrets: Schema.Array(Schema.String)
})
