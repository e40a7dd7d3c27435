import { Schema } from "effect"

/** Why a command was not done. `kind` is what the caller can act on; the API maps it to an exit code and an HTTP status. */
export class Refusal extends Schema.TaggedError<Refusal>()("Refusal", {
  kind: Schema.Literals(["failed", "usage", "not-found", "denied", "conflict", "timeout", "pending", "policy", "degraded"]),
  /** One sentence with the values in it. */
  detail: Schema.String,
  /** Where in the input the fault lies. */
  path: Schema.optionalKey(Schema.String),
  /** The next command to try. */
  hint: Schema.optionalKey(Schema.String)
}) {
  override get message() {
    return this.detail
  }
}
