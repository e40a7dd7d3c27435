/** Policy at the command: may this node change this here? Pure. What other nodes wrote against the rules is left out when it is read (families/in-force.ts). */
import { shortKey } from "../codec/bytes.ts"
import { stampText } from "../codec/clock.ts"
import { rankOf, type Role } from "../codec/operation.ts"
import { layerKind, parseDocId, isWhy } from "../projections/families/doc-id.ts"
import { type Demand, demandOf, type Kind, mayApprove, mayChangeIt, parseRule, type Rule, rulesPath, strictest, type Subject, subjectOf } from "../projections/families/policy.ts"
import type { Member, Membership } from "../projections/membership.ts"
import type { DocumentChange } from "./decide-change.ts"
import { Refusal } from "./refusal.ts"

/** The rules in force, and who set each: a name. */
export interface Policy {
  readonly rules: ReadonlyArray<Rule>
  readonly setBy: (rule: Rule) => string | undefined
}

export type Allowed = { readonly _tag: "Allowed" }

/** The change is to be proposed. */
export interface NeedsApproval {
  readonly _tag: "NeedsApproval"
  /** The strictest of what is asked. */
  readonly demand: Demand
  /** One sentence. */
  readonly why: string
}

const allowed: Allowed = { _tag: "Allowed" }

/** Whether a device may make these changes; the first that it may not make refuses all. */
export const mayChange = (membership: Membership, device: string, changes: ReadonlyArray<DocumentChange>, policy: Policy): Allowed | Refusal | NeedsApproval => {
  const me = membership.members.get(device)
  const out = standingRefusal(membership, device) ?? roleRefusal(me?.role)
  if (out !== undefined || me === undefined) return out ?? allowed
  const demands: Array<Demand> = []
  const subjects: Array<Subject> = []
  for (const { doc, edits } of changes) {
    const keys = edits.map((edit) => "key" in edit ? edit.key : "text")
    for (const key of keys) {
      const subject = subjectOf(doc, key)
      if (subject === undefined) continue
      const demand = demandOf(policy.rules, subject)
      if (!mayChangeIt(demand, subject, device, me.role)) return forbidden(whatOf(doc, key), demand, me, policy)
      demands.push(demand)
      subjects.push(subject)
    }
    const fault = ruleRefusal(membership, doc, edits)
    if (fault !== undefined) return fault
  }
  const most = strictest(demands.filter(({ approvals }) => approvals > 0))
  if (most === undefined) return allowed
  const others = [...membership.members.values()].filter((other) => other.device !== device && other.standing === "member" && mayApprove(most.by, other.role)).length
  if (others < most.approvals) {
    // Nobody is left to agree: an owner may still change the rules themselves, or they could never be changed again.
    if (me.role === "owner" && demands.every((demand, i) => demand.approvals === 0 || subjects[i]?.parts[0] === "policy")) return allowed
    return new Refusal({
      kind: "policy", hint: `kos config explain ${most.rule?.name === "" ? rulesPath : most.rule?.name ?? rulesPath}`,
      detail: `this change needs ${approvalWords(most)} by ${ruleSentence(most.rule, policy)}, and only ${others} other ${others === 1 ? "node has" : "nodes have"} that right`
    })
  }
  return { _tag: "NeedsApproval", demand: most, why: `it needs ${approvalWords(most)} by ${ruleSentence(most.rule, policy)}` }
}

/** The same for a thing that is no document: an item of the vault, for instance. */
export const mayTouch = (membership: Membership, device: string, kind: Kind, name: string, policy: Policy): Allowed | Refusal => {
  const me = membership.members.get(device)
  const out = standingRefusal(membership, device) ?? roleRefusal(me?.role)
  if (out !== undefined || me === undefined) return out ?? allowed
  const subject: Subject = { kind, parts: [name] }
  const demand = demandOf(policy.rules, subject)
  return mayChangeIt(demand, subject, device, me.role) ? allowed : forbidden(`${kind} ${name}`, demand, me, policy)
}

/** Why a device that is no member any more may do nothing: who took it out, and when by that one's clock. */
export const standingRefusal = (membership: Membership, device: string): Refusal | undefined => {
  const me = membership.members.get(device)
  if (me?.standing === "member") return undefined
  const mesh = membership.name === "" ? "its mesh" : membership.name
  if (me?.standing === "left") return new Refusal({ kind: "denied", detail: `this node has left ${mesh}`, hint: "kos mesh show" })
  if (me?.standing === "revoked") {
    const { revoked } = me
    const by = revoked === undefined ? "" : ` by ${nameOf(membership, revoked.by)} on ${dayText(revoked.ms)}`
    const reason = revoked === undefined || revoked.reason === "" ? "" : `: ${revoked.reason}`
    return new Refusal({ kind: "denied", detail: `this node was revoked from ${mesh}${by}${reason}`, hint: "kos mesh show" })
  }
  return new Refusal({ kind: "denied", detail: "this node is no member of its mesh", hint: "kos mesh show" })
}

/** Why a reader or seeder writes nothing. */
export const roleRefusal = (role: Role | undefined): Refusal | undefined =>
  role === undefined || rankOf(role) >= rankOf("member") ? undefined : new Refusal({
    kind: "denied", hint: "kos mesh show",
    detail: role === "reader" ? "this node is a reader of the mesh: it reads everything and writes nothing" : "this node is a seeder of the mesh: it keeps and forwards logs, reads nothing and writes nothing"
  })

/** "2 approvals of admins" */
export const approvalWords = ({ approvals, by }: Pick<Demand, "approvals" | "by">): string => `${approvals} ${approvals === 1 ? `approval of an ${by}` : `approvals of ${by}s`}`

/** A rule with who set it, as it stands in a sentence. */
export const ruleSentence = (rule: Rule | undefined, policy: Policy): string => {
  if (rule === undefined) return "the rule that members write"
  if (rule.name === "") return `the built-in rule "${rule.text}"`
  const by = policy.setBy(rule)
  return `the rule ${rule.name} "${rule.text}"${by === undefined ? "" : `, set by ${by}`}`
}

const forbidden = (what: string, demand: Demand, me: Member, policy: Policy): Refusal => new Refusal({
  kind: "policy", hint: demand.rule === undefined || demand.rule.name === "" ? "kos mesh show" : `kos config explain ${demand.rule.name}`,
  detail: `${what} is changed by ${demand.may}s only, by ${ruleSentence(demand.rule, policy)}; this node is ${me.role === "admin" || me.role === "owner" ? "an" : "a"} ${me.role}`
})

/** A rule that could never be fulfilled is not set: then nobody could change what it is about. */
const ruleRefusal = (membership: Membership, doc: string, edits: DocumentChange["edits"]): Refusal | undefined => {
  for (const edit of edits) {
    if (edit._tag !== "Set" || doc !== "config/mesh/policy" || !edit.key.startsWith(`${rulesPath}.`)) continue
    const text: unknown = JSON.parse(edit.json)
    if (text === "") continue
    const rule = typeof text === "string" ? parseRule(edit.key, text) : { why: "expected a text" }
    if (isWhy(rule)) return new Refusal({ kind: "usage", detail: `${edit.key}: ${rule.why}; nothing was written`, path: edit.key })
    const { may, approvals, by } = rule.value
    if (approvals === 0) continue
    const holders = [...membership.members.values()].filter((member) => member.standing === "member" && mayApprove(by, member.role)).length
    const needed = rankOf(may) >= rankOf(by) ? approvals + 1 : approvals
    if (holders < needed) {
      return new Refusal({
        kind: "policy", path: edit.key, hint: "kos node list",
        detail: `${edit.key} asks for ${approvalWords(rule.value)}, beside who proposes; only ${holders} ${holders === 1 ? "node has" : "nodes have"} that right, so nobody could fulfil it; nothing was written`
      })
    }
  }
  return undefined
}

const whatOf = (doc: string, key: string): string => {
  const id = parseDocId(doc)
  if (isWhy(id) || id.value.family !== "config") return doc
  const kind = layerKind(id.value.layer)
  return `${key} ${kind === "mesh" ? "for the whole mesh" : kind === "role" ? `for the role ${id.value.layer.slice(5)}` : `of the node ${shortKey(id.value.layer.slice(5))}`}`
}

const nameOf = (membership: Membership, device: string): string => membership.members.get(device)?.name ?? shortKey(device)

/** `2026-05-01`; the clock is another node's, so no more is said. */
const dayText = (ms: number): string => stampText({ ms: Math.max(0, ms), count: 0 }).slice(0, 10)
