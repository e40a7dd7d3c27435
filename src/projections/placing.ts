/**
 * What becomes of an event by its kind and its place in its log. The same for a block that is folded for the first time and for one that is
 * folded again, and the same on every node: it depends on the event, the cut-off of its log and, for changes of documents, the gate's word.
 *
 * - *Membership operations* count by their own rules (projections/membership.ts) wherever they stand: of two devices that revoke each other each
 *   would cut off the other's revocation. No cut-off touches them.
 * - *Evidence* against a log proves itself, and moves cut-offs: if a cut-off could touch it, two logs with evidence against each other would have no one answer.
 * - *Changes of documents* go to the gate, which knows the cut-off. Beyond it they count when they are applied, because somebody builds on them.
 * - *All other events* count up to the cut-off and not beyond.
 */
import { documentTypes, operationTypes } from "../events/catalogue.ts"
import type { IngestedEvent } from "../events/ingest.ts"
import type { DocId, LoggedChange, Verdict } from "./documents/types.ts"
import { parseDocId } from "./families/doc-id.ts"
import type { Members } from "./members.ts"
import type { Cutoff } from "./tables/cutoffs.ts"
import type { EventStatus } from "./tables/event-index.ts"

export type Placing =
  | { readonly _tag: "Operation"; readonly bytes: Uint8Array }
  | { readonly _tag: "Change"; readonly doc: DocId; readonly change: LoggedChange }
  | { readonly _tag: "Plain"; readonly status: EventStatus; readonly why: string | undefined }

/** Types that count beyond a cut-off as before it. */
const evidenceTypes: ReadonlySet<string> = new Set(["evidence.found/1", "evidence.cleared/1"])

/** Whether an event counts, and why not when it does not. */
export interface Judged {
  readonly status: EventStatus
  readonly why: string | undefined
}

export const placingOf = (event: IngestedEvent, at: { readonly log: string; readonly block: number; readonly offset: number }, cutoff: Cutoff, reasons: Reasons): Placing => {
  if (event._tag === "Quarantined") return { _tag: "Plain", status: "quarantined", why: event.why }
  const { type, subject } = event.envelope
  if (event._tag === "Known" && operationTypes.has(type)) return { _tag: "Operation", bytes: bytesIn(event.body, "operation") }
  if (event._tag === "Known" && documentTypes.has(type)) {
    const why = documentFault(type, subject)
    if (why !== undefined) return { _tag: "Plain", status: "quarantined", why }
    const change = { log: at.log, block: at.block, offset: at.offset, ms: event.envelope.at.ms, change: bytesIn(event.body, "change") }
    return { _tag: "Change", doc: subject, change: cutoff.docsTo === Infinity ? change : { ...change, cut: cutoff.docsTo } }
  }
  if (at.block >= cutoff.cutAt && !evidenceTypes.has(type)) return { _tag: "Plain", status: "quarantined", why: reasons.cut(at.log) }
  return { _tag: "Plain", status: event._tag === "Unknown" ? "unknown" : "known", why: undefined }
}

/** A change counts unless the gate refused it; beyond the cut-off only when it is applied. No verdict: its document stalls. */
export const judged = ({ log, block, cut = Infinity }: LoggedChange, verdict: Verdict | undefined, reasons: Reasons): Judged => {
  if (verdict?._tag === "Refused") return { status: "quarantined", why: verdict.why }
  if (block < cut || verdict?._tag === "Applied" || verdict?._tag === "Known") return { status: "known", why: undefined }
  return { status: "quarantined", why: reasons.held(log, block) }
}

/** The cut-offs that membership says, of each log that has one. */
export const cutoffsOf = (logs: ReturnType<Members["logs"]>): ReadonlyMap<string, Cutoff> => {
  const found = new Map<string, Cutoff>()
  for (const { log, closedAt = Infinity, cutAt = Infinity, docsTo = Infinity } of logs) {
    const end = Math.min(closedAt, cutAt)
    if (end < Infinity || docsTo < Infinity) found.set(log, { cutAt: end, docsTo: Math.min(end, docsTo) })
  }
  return found
}

/** Sentences for people; nothing that is folded depends on them. */
export class Reasons {
  readonly #members: Members
  readonly #cut = new Map<string, string>()

  constructor(members: Members) {
    this.#members = members
  }

  cut(log: string): string {
    const known = this.#cut.get(log)
    if (known !== undefined) return known
    const why = this.#why(log)
    this.#cut.set(log, why)
    return why
  }

  held(log: string, block: number): string {
    const { cutAt = Infinity, closedAt = Infinity } = this.#members.logs().find((entry) => entry.log === log) ?? {}
    if (block >= Math.min(cutAt, closedAt)) return this.cut(log)
    const member = this.#members.view().members.get(this.#members.deviceOf(log) ?? "")
    return member === undefined ? "its device may not write documents" : `its device is a ${member.role} by word of ${this.#members.nameOf(member.granted.by)} and may not write documents`
  }

  #why(log: string): string {
    const { cutAt = Infinity, closedAt = Infinity } = this.#members.logs().find((entry) => entry.log === log) ?? {}
    const revoked = this.#members.view().members.get(this.#members.deviceOf(log) ?? "")?.revoked
    if (closedAt <= cutAt && closedAt < Infinity) return "beyond the length at which its device closed the log"
    return revoked === undefined ? "beyond the cut-off of its log" : `beyond the cut-off of its revocation by ${this.#members.nameOf(revoked.by)}`
  }
}

/** The subject must be a document of the family that the event's type speaks of. */
const documentFault = (type: string, subject: string): string | undefined => {
  const parsed = parseDocId(subject)
  if ("why" in parsed) return parsed.why
  return type.startsWith(`${parsed.value.family}.`) ? undefined : `${type} cannot change ${subject}`
}

const bytesIn = (body: unknown, key: "change" | "operation"): Uint8Array => {
  const value: unknown = typeof body === "object" && body !== null ? Reflect.get(body, key) : undefined
  return value instanceof Uint8Array ? value : new Uint8Array(0)
}
