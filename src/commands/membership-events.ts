import { Effect } from "effect"
import { signOperation, type Unsigned } from "../codec/operation.ts"
import type { Vault } from "../vault/vault.ts"
import type { Wanted } from "./dispatch.ts"

/** Held while a membership decision is made and folded, so that each operation builds on the one before. */
export const membershipLock = "membership"

/** Signs as this device; a failure is our own defect. */
export const signed = (vault: Vault, unsigned: Unsigned): Uint8Array =>
  Effect.runSync(Effect.fromResult(signOperation(unsigned, vault.device)).pipe(Effect.orDie)).bytes

/** Membership operations as events. */
export const operationEvents = (vault: Vault, operations: ReadonlyArray<Unsigned>): ReadonlyArray<Wanted> => operations.map((unsigned) => ({
  type: `${unsigned.says.kind === "kept" ? unsigned.says.name : unsigned.says.kind}/1`, subject: "mesh", body: { operation: signed(vault, unsigned) }
}))
