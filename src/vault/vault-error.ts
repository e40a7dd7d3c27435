import { Schema } from "effect"

/** What went wrong with keys, as one sentence; `reason` is what the caller can act on. */
export class VaultError extends Schema.TaggedError<VaultError>()("VaultError", {
  /**
   * `locked`: a passphrase, credential or key file is wanted and none was given. `wrong`: what was given does not open. `damaged`: bytes that no
   * kOS wrote. `missing`: a file that should be there. `refused`: the wish makes no sense as things are.
   */
  reason: Schema.Literals(["locked", "wrong", "damaged", "missing", "refused"]),
  detail: Schema.String
}) {
  override get message() {
    return this.detail
  }
}
