import { Schema } from "effect"

/** Bytes from disk, network or a user that are not what their place promises; `what` names the place, `why` the fault. */
export class Malformed extends Schema.TaggedError<Malformed>()("Malformed", {
  what: Schema.String,
  why: Schema.String
}) {
  override get message() {
    return `${this.what} is malformed: ${this.why}`
  }
}
