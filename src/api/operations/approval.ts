import { Schema } from "effect"
import { operation } from "../operation.ts"
import { By, Done, flag, Json, Time, Word } from "./common.ts"

/** How a proposal stands; only `open` and `approved` may still take effect, and an expired one that is approved after all. */
const State = Schema.Literals(["open", "approved", "done", "denied", "outdated", "expired"])

const Approval = Schema.Struct({
  /** Short name, the same on every node. */
  id: Schema.String,
  state: State,
  /** One sentence of what it would change. */
  summary: Schema.String,
  asked: By,
  /** By the asking node's clock; says what is shown and nothing else. */
  expires: Time,
  /** Approvals that it takes, and of whom. */
  needs: Schema.Natural,
  by: Schema.Literals(["admin", "owner"]),
  /** Approvals that count. */
  has: Schema.Natural
})

const idDescribe = "its id, from `kos approval list`"
const id = { id: Word }

export const approvalList = operation("approval.list", {
  summary: "List changes that wait for approval.",
  kind: "query",
  input: Schema.Struct({ all: flag }),
  output: Schema.Array(Approval),
  cli: { describe: { all: "also those that are decided, outdated or expired" }, alias: { a: "all" }, examples: ["kos approval list"] }
})

export const approvalShow = operation("approval.show", {
  summary: "Show one proposal: what it changes, by which rule it needs approval, and what was said.",
  kind: "query",
  input: Schema.Struct(id),
  output: Schema.Struct({
    ...Approval.fields,
    rule: Schema.String,
    edits: Schema.Array(Schema.Struct({ document: Schema.String, path: Schema.String, before: Schema.optionalKey(Json), after: Schema.optionalKey(Json) })),
    /** `counts`: by a member with the right, its first word. */
    given: Schema.Array(Schema.Struct({ verdict: Schema.Literals(["allow", "deny"]), by: By, reason: Schema.String, counts: Schema.Boolean })),
    /** The change that carried it out. */
    effect: Schema.NullOr(By)
  }),
  cli: { positional: ["id"], describe: { id: idDescribe }, examples: ["kos approval show 3fa94c-12.0"] }
})

const said = Schema.Struct({ id: Schema.String, state: State, needs: Schema.Natural, has: Schema.Natural, ...Done.fields })
const verdictInput = Schema.Struct({ ...id, reason: Schema.optionalKey(Word) })

export const approvalAllow = operation("approval.allow", {
  summary: "Approve a proposal; the approval that completes it brings it into force.",
  kind: "command",
  input: verdictInput,
  output: said,
  cli: { positional: ["id"], describe: { id: idDescribe, reason: "a word on why" }, examples: ["kos approval allow 3fa94c-12.0 --reason \"agreed on Monday\""] }
})

export const approvalDeny = operation("approval.deny", {
  summary: "Deny a proposal, or take one's own back.",
  kind: "command",
  input: verdictInput,
  output: said,
  cli: { positional: ["id"], describe: { id: idDescribe, reason: "a word on why" }, examples: ["kos approval deny 3fa94c-12.0"] }
})
