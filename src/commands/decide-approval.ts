/**
 * Decides wishes about approvals: asking, saying a word on a proposal, carrying one out. Pure.
 *
 * A proposal is carried out by the node that sees it approved first of these: the one whose approval completed it, and the one that asked.
 * Twice does no harm: both write the same values, name the same proposal, and count as one (families/in-force.ts).
 */
import { type Address, addressText, parseAddress } from "../codec/address.ts"
import type { Edit } from "../projections/documents/types.ts"
import { canonicalJson, ownValue } from "../projections/families/json.ts"
import { mayApprove } from "../projections/families/policy.ts"
import type { Membership } from "../projections/membership.ts"
import type { ProposalState, Standing } from "../projections/policy-view.ts"
import type { DocumentChange, Documents } from "./decide-change.ts"
import type { Plan, Wanted } from "./dispatch.ts"
import { approvalWords, type NeedsApproval } from "./policy.ts"
import { Refusal } from "./refusal.ts"

/** How long a proposal is shown as open, by the clock of whoever looks; nothing else depends on it. Milliseconds. */
export const proposalLifeMs = 30 * 24 * 3_600_000
/** Causes that the event which carries a proposal out may name, as in an envelope; the first is the proposal. */
export const approvalCausesMax = 15

/** The short name of a proposal, the same on every node. */
export const proposalId = (at: Address): string => `${at.log.slice(0, 6)}-${at.block}.${at.offset}`

/** The event that asks; `inForce` gives the value that holds now, as JSON text. */
export const decideAsk = (
  changes: ReadonlyArray<DocumentChange>, needs: NeedsApproval, inForce: (doc: string, key: string) => string | undefined, nowMs: number
): Wanted | Refusal => {
  const edits = changes.flatMap(({ doc, edits: wished }) => wished.flatMap((edit) => edit._tag === "Set" || edit._tag === "Delete" ? [{ doc, key: edit.key, json: edit._tag === "Set" ? edit.json : null }] : []))
  if (edits.length > proposalEditsMax) return new Refusal({ kind: "usage", detail: `${needs.why}; one proposal holds at most ${proposalEditsMax} settings, these are ${edits.length}` })
  const { rule, approvals, by } = needs.demand
  return {
    type: "approval.asked/1", subject: changes[0]?.doc ?? "config",
    body: {
      edits, base: edits.map(({ doc, key }) => ({ doc, key, json: inForce(doc, key) ?? null })),
      summary: changes.map(({ summary }) => summary).join("; ").slice(0, 512), rule: (rule === undefined ? "" : rule.name === "" ? rule.text : `${rule.name}: ${rule.text}`).slice(0, 256),
      approvals, by, expiresMs: nowMs + proposalLifeMs
    }
  }
}

/** Settings in one proposal at most. */
export const proposalEditsMax = 64

/** What the command that asked is told. */
export const pendingRefusal = (at: Address, summary: string, why: string): Refusal => new Refusal({
  kind: "pending", detail: `${summary}: not yet, ${why}; it was proposed as ${proposalId(at)}`, hint: `kos approval show ${proposalId(at)}`
})

/** A word on a proposal: to allow it, or to deny it; denying one's own takes it back. */
export const decideVerdict = (
  membership: Membership, device: string, standing: Standing, wish: { readonly allow: boolean; readonly reason: string }
): Plan | Refusal => {
  const { proposal, state, given, by, needs } = standing
  const id = proposalId(proposal)
  const me = membership.members.get(device)
  const own = standing.device === device
  if (wish.reason.length > reasonCharsMax) return new Refusal({ kind: "usage", detail: `a reason has at most ${reasonCharsMax} characters`, path: "reason" })
  const mine = given.find((one) => one.device === device)
  if (mine !== undefined) {
    return mine.allow === wish.allow ? { summary: `${id} was ${wish.allow ? "allowed" : "denied"} by this node before`, events: [] }
      : new Refusal({ kind: "conflict", detail: `this node has ${mine.allow ? "allowed" : "denied"} ${id} before, and the first word counts`, hint: `kos approval show ${id}` })
  }
  if (state !== "open" && state !== "approved") return new Refusal({ kind: "conflict", detail: `${id} ${stateWords[state]}`, hint: state === "denied" || state === "done" ? `kos approval show ${id}` : "kos config set" })
  if (own && wish.allow) return new Refusal({ kind: "policy", detail: `${id} was proposed by this node, and nobody approves their own proposal; it needs ${approvalWords({ approvals: needs, by })}`, hint: `kos approval show ${id}` })
  if (!own && !mayApprove(by, me?.role)) return new Refusal({ kind: "policy", detail: `${id} is for ${by}s to decide; this node is ${me?.role ?? "no member"}`, hint: `kos approval show ${id}` })
  return {
    summary: own ? `took back ${id}` : `${wish.allow ? "allowed" : "denied"} ${id}: ${proposal.summary}`,
    events: [{ type: "approval.given/1", subject: "approvals", cause: [proposal], body: { asked: addressText(proposal), verdict: wish.allow ? "allow" : "deny", reason: wish.reason } }]
  }
}

export const reasonCharsMax = 256

/** The change that carries an approved proposal out, and what it names as its causes. Values that stand already are written all the same. */
export const decideApply = (documents: Documents, standing: Standing): { readonly changes: ReadonlyArray<DocumentChange>; readonly cause: ReadonlyArray<Address> } | Refusal => {
  const { proposal, state, given } = standing
  const id = proposalId(proposal)
  if (state !== "approved") return new Refusal({ kind: "conflict", detail: `${id} ${state === "open" ? "is not approved" : stateWords[state]}`, hint: `kos approval show ${id}` })
  const byDocument = new Map<string, Array<Edit>>()
  for (const { doc, key, json } of proposal.edits) {
    const edits = byDocument.get(doc) ?? []
    const now = ownValue(documents.get(doc)?.value ?? {}, key)
    // The same text would be no change: what stands there was written by somebody who may not.
    if (json === undefined || (now !== undefined && canonicalJson(now) === json)) edits.push({ _tag: "Delete", key })
    if (json !== undefined) edits.push({ _tag: "Set", key, json })
    byDocument.set(doc, edits)
  }
  const approvals = given.filter(({ counts, allow }) => counts && allow).slice(0, approvalCausesMax)
  return {
    cause: [proposal, ...approvals].map(({ log, block, offset }) => ({ log, block, offset })),
    changes: [...byDocument].sort(([a], [b]) => (a < b ? -1 : 1)).map(([doc, edits]) => ({
      doc, edits, paths: [...new Set(edits.flatMap((edit) => "key" in edit ? [edit.key] : []))], summary: `${proposal.summary} (approved as ${id})`.slice(0, 512)
    }))
  }
}

/** Which nodes carry an approved proposal out: whose approval came last by the stamps, and who asked. */
export const carriersOut = (standing: Standing): { readonly last: string | undefined; readonly asker: string | undefined } => ({
  last: standing.given.filter(({ counts, allow }) => counts && allow).at(-1)?.device, asker: standing.device
})

/** The proposal that a person means: its short name, an address, or the beginning of either. */
export const findProposal = (all: ReadonlyArray<Standing>, text: string): Standing | Refusal => {
  const address = parseAddress(text)
  const found = all.filter(({ proposal }) => (address === undefined ? proposalId(proposal) === text : addressText(proposal) === text))
  const near = found.length > 0 ? found : all.filter(({ proposal }) => text.length >= 4 && proposalId(proposal).startsWith(text))
  const [only] = near
  if (only === undefined) return new Refusal({ kind: "not-found", detail: `there is no proposal ${text.slice(0, 80)}`, hint: "kos approval list --all" })
  return near.length > 1 ? new Refusal({ kind: "usage", detail: `${near.length} proposals begin with ${text.slice(0, 80)}`, hint: "kos approval list --all" }) : only
}

export const stateWords: Readonly<Record<ProposalState, string>> = {
  open: "waits for approval", approved: "is approved", done: "has taken effect", denied: "was denied", outdated: "is outdated: what it would change was changed meanwhile; ask again",
  expired: "has expired; ask again"
}
