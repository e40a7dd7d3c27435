import { Schema } from "effect"
import type { Refusal } from "../commands/refusal.ts"

/** Exit codes of the CLI, design section 7. */
export const exitCodes = {
  done: 0, failed: 1, usage: 2, "no-daemon": 3, "not-found": 4, denied: 5, conflict: 6, timeout: 7, pending: 8, policy: 9, degraded: 10
} as const

export type ProblemKind = Exclude<keyof typeof exitCodes, "done">

/** HTTP status of each kind of problem; the only place where the two meet. */
export const httpStatus: Readonly<Record<ProblemKind, number>> = {
  failed: 500, usage: 400, "no-daemon": 503, "not-found": 404, denied: 403, conflict: 409, timeout: 504, pending: 202, policy: 403, degraded: 507
}

/** What a kind of problem is called; `title` of RFC 9457. */
const titles: Readonly<Record<ProblemKind, string>> = {
  failed: "Failed", usage: "Wrong use", "no-daemon": "No daemon", "not-found": "Not found", denied: "Denied", conflict: "Conflict",
  timeout: "Took too long", pending: "Not yet", policy: "Against policy", degraded: "Not able to now"
}

/** RFC 9457 problem details, the one shape of failure in CLI and HTTP. `kind` is our extension member and decides the exit code. */
export const ProblemDocument = Schema.Struct({
  type: Schema.String,
  title: Schema.String,
  status: Schema.Int,
  detail: Schema.String,
  kind: Schema.Literals(["failed", "usage", "no-daemon", "not-found", "denied", "conflict", "timeout", "pending", "policy", "degraded"]),
  instance: Schema.optionalKey(Schema.String),
  /** Where in the input the fault lies, when it lies in the input. */
  path: Schema.optionalKey(Schema.String),
  /** The next command to try. */
  hint: Schema.optionalKey(Schema.String)
})
export type ProblemDocument = typeof ProblemDocument.Type

/** Makes a problem; `status` only where HTTP has a finer word than the kind. */
export const problem = (
  kind: ProblemKind,
  detail: string,
  more: { readonly status?: number; readonly path?: string | undefined; readonly hint?: string | undefined; readonly instance?: string | undefined } = {}
): ProblemDocument => ({
  type: `urn:kos:problem:${kind}`,
  title: titles[kind],
  status: more.status ?? httpStatus[kind],
  detail,
  kind,
  ...(more.instance === undefined ? {} : { instance: more.instance }),
  ...(more.path === undefined ? {} : { path: more.path }),
  ...(more.hint === undefined ? {} : { hint: more.hint })
})

/** A refused command as the caller sees it; `instance` is the command's id. */
export const problemOfRefusal = (refusal: Refusal, instance?: string): ProblemDocument =>
  problem(refusal.kind, refusal.detail, { path: refusal.path, hint: refusal.hint, instance })
