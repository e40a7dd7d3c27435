/** What handlers see of updates on this home; boot builds it (`src/boot/updates.ts`). */
import type { Effect } from "effect"
import type { Done } from "../commands/dispatch.ts"
import type { Refusal } from "../commands/refusal.ts"
import type { Call } from "./operation.ts"
import type { OperationName, OutputOf } from "./operations/table.ts"

type Answer<Name extends OperationName> = Effect.Effect<OutputOf<Name>, Refusal>

export interface UpdateDesk {
  readonly check: (channel: string | undefined) => Answer<"update.check">
  readonly list: (all: boolean) => Answer<"update.list">
  readonly show: (release: string) => Answer<"update.show">
  readonly plan: (release: string) => Answer<"update.plan">
  readonly fetch: (release: string, call: Call) => Answer<"update.fetch">
  readonly try: (wish: { readonly what?: string; readonly show?: string; readonly promote?: string; readonly drop?: string }, call: Call) => Answer<"update.try">
  readonly apply: (release: string | undefined, wish: { readonly overrideVeto: boolean; readonly despite: boolean; readonly insist: boolean }, call: Call) => Answer<"update.apply">
  readonly boot: (generation: number | undefined, call: Call) => Answer<"update.boot">
  readonly rollback: (generation: number | undefined, call: Call) => Answer<"update.rollback">
  readonly history: (all: boolean, limit: number) => Answer<"update.history">
  readonly channels: () => Effect.Effect<OutputOf<"update.channel">["channels"], Refusal>
  /** R1.8: a person decided that the channel's log is followed on as it is held here. */
  readonly settle: (channel: string, call: Call) => Effect.Effect<Done, Refusal>
  readonly slots: () => Answer<"update.slots">
  readonly advise: (release: string, stance: "advice" | "veto" | "withdrawn", text: string, call: Call) => Answer<"update.advise">
  readonly stop: (release: string | undefined, call: Call) => Effect.Effect<Done, Refusal>
  /** Takes that version of kOS only, until it is taken back; undefined takes it back. */
  readonly pin: (version: string | undefined, call: Call) => Effect.Effect<Done, Refusal>
  readonly pause: (call: Call) => Effect.Effect<Done, Refusal>
  readonly resume: (call: Call) => Effect.Effect<Done, Refusal>
  readonly export: (file: string, release: string | undefined, call: Call) => Answer<"update.export">
  readonly import: (file: string, call: Call) => Answer<"update.import">
  readonly seeds: () => Answer<"seed.list">
  readonly seed: (release: string, call: Call) => Answer<"seed.add">
  readonly unseed: (what: string, call: Call) => Answer<"seed.remove">
}
