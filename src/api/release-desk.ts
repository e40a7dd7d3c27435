/** What handlers see of the making of releases on this home; boot builds it (`src/boot/release-desk.ts`). */
import type { Effect } from "effect"
import type { Refusal } from "../commands/refusal.ts"
import type { Call } from "./operation.ts"
import type { InputOf, OutputOf } from "./operations/table.ts"

type Name = "key" | "init" | "pack" | "sign" | "publish" | "yank" | "rotate" | "delegate" | "withdraw" | "list" | "show"

export type ReleaseDesk = { readonly [N in Name]: (input: InputOf<`release.${N}`>, call: Call) => Effect.Effect<OutputOf<`release.${N}`>, Refusal> }
