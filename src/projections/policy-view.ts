/**
 * Policy as it is in force on this node: the rules, what they leave of each document of settings, and how proposals stand. It reads tables and
 * membership and keeps nothing that does not follow from them.
 *
 * Whose right counts. A device's present role, or the one it held last when it left or was revoked. When a role was lowered and the
 * operation says how long its logs were then, what stands before that is judged by the most that it had been given.
 *
 * How a proposal stands, each the first that applies: *done* when a change of settings carries it out; *denied* when somebody denied it
 * who has the right to approve; *outdated* when what it would change is not any more as it was when it was asked; *approved* when enough
 * devices have allowed it; *expired* by the reader's clock, which only says what is shown; else *open*. Only members that are in and have
 * the right now count, each with its first word; who proposed never counts for its own, not even when nobody else could, but may take it back
 * by denying it. Once it is carried out, what counts are the approvals that the change
 * itself names as causes, by the right that their devices have or had last: a later revocation undoes nothing.
 */
import { type Address, addressText } from "../codec/address.ts"
import { rankOf, type Role } from "../codec/operation.ts"
import { isWhy, type LayerId, parseDocId } from "./families/doc-id.ts"
import { type InForce, inForce, type PolicyFacts } from "./families/in-force.ts"
import { canonicalJson, equalJson, ownValue } from "./families/json.ts"
import { type ApproverRole, type Demand, demandOf, mayApprove, mayChangeIt, parseRule, policyDoc, type Rule, rulesPath, strictest, type Subject, subjectOf } from "./families/policy.ts"
import type { RegisterWrite } from "./families/register-writes.ts"
import { readRegister } from "./documents/register.ts"
import type { DocId, Json } from "./documents/types.ts"
import type { Member, Membership } from "./membership.ts"
import type { Members } from "./members.ts"
import type { Given, Proposal, ProposedEdit } from "./tables/approvals.ts"
import type { Tables } from "./tables/tables.ts"

/** A rule with where it was written. */
export interface WrittenRule extends Rule {
  readonly at: Address
}

export type ProposalState = "open" | "approved" | "done" | "denied" | "outdated" | "expired"

export interface Standing {
  readonly proposal: Proposal
  readonly device: string | undefined
  readonly state: ProposalState
  /** Approvals that it takes, of whom. */
  readonly needs: number
  readonly by: ApproverRole
  /** What was said, oldest first; `counts`: the first word of a member with the right; of who asked only that it takes it back. */
  readonly given: ReadonlyArray<Given & { readonly device: string | undefined; readonly counts: boolean }>
  /** The change that carried it out. */
  readonly done: Address | undefined
}

/** Values that one new rule leaves as they stood at most. */
export const keptMax = 256

/** What is asked of the members. */
export type PolicyMembers = Pick<Members, "view" | "deviceOf" | "operations">

export class PolicyView {
  readonly #tables: Tables
  readonly #members: PolicyMembers
  #rules: { readonly of: Membership; readonly heads: string; readonly rules: ReadonlyArray<WrittenRule> } | undefined
  #roles: { readonly of: Membership; readonly most: ReadonlyMap<string, Role>; readonly cutoffs: ReadonlyMap<string, ReadonlyMap<string, number>> } | undefined

  constructor({ tables, members }: { readonly tables: Tables; readonly members: PolicyMembers }) {
    this.#tables = tables
    this.#members = members
  }

  /** Rules in force, by name. They are judged by the built-in rules alone. */
  rules(): ReadonlyArray<WrittenRule> {
    const view = this.#members.view()
    const heads = this.#tables.documents.summary(policyDoc)?.heads.join() ?? ""
    if (this.#rules?.of !== view || this.#rules.heads !== heads) this.#rules = { of: view, heads, rules: heads === "" ? [] : this.#readRules() }
    return this.#rules.rules
  }

  /** What of a document of settings is in force. */
  document(doc: DocId): InForce {
    return inForce(doc, this.#tables.documents.state(doc), this.facts(this.rules()))
  }

  /** What is in force of all documents of a layer, or of all layers. */
  documents(layer?: LayerId): ReadonlyArray<readonly [DocId, InForce]> {
    const ids = this.#tables.documents.list("config").map(({ id }) => id)
    return ids.flatMap((doc) => {
      const id = parseDocId(doc)
      return isWhy(id) || id.value.family !== "config" || (layer !== undefined && id.value.layer !== layer) ? [] : [[doc, this.document(doc)] as const]
    })
  }

  facts(rules: ReadonlyArray<WrittenRule>): PolicyFacts {
    const { registerWrites, approvals } = this.#tables
    const kept = new Map(rules.map((rule) => [rule.name, approvals.keptBy(rule.at, rule.name)] as const))
    return {
      rules, deviceOf: (log) => this.#members.deviceOf(log), roleAt: (at) => this.roleAt(at),
      writes: (doc, key) => registerWrites.of(doc, key), keys: (doc) => registerWrites.keys(doc),
      proposalOf: (write, doc, key, demand, subject) => this.#proposalOf(write, doc, key, demand, subject),
      isKept: (rule, at) => kept.get(rule.name)?.has(addressText(at)) ?? false
    }
  }

  /** The role that counts for what stands at this place. */
  roleAt({ log, block }: Address): Role | undefined {
    const device = this.#members.deviceOf(log)
    const member = device === undefined ? undefined : this.#members.view().members.get(device)
    if (device === undefined || member === undefined) return undefined
    const { most, cutoffs } = this.#grants()
    const cut = cutoffs.get(member.granted.hash)?.get(log)
    return cut !== undefined && block < cut ? most.get(device) ?? member.role : member.role
  }

  /** Addresses of what is in force now and would not be under this rule: it stays until somebody changes it. */
  keptUnder(rule: Rule): ReadonlyArray<Address> {
    const others = this.rules().filter(({ name }) => name !== rule.name)
    const facts = this.facts(others)
    const found: Array<Address> = []
    for (const [doc, { values, writers }] of this.documents()) {
      const state = this.#tables.documents.state(doc)
      for (const key of Object.keys(values)) {
        const subject = subjectOf(doc, key)
        const at = writers.get(key) ?? state?.writers[key]
        if (subject === undefined || at === undefined || at.block < 0 || subject.parts[0] === "policy") continue
        const demand = demandOf([...others.filter((other) => !facts.isKept(other, at)), rule], subject)
        if (demand.rule !== rule) continue
        const device = facts.deviceOf(at.log)
        if (demand.approvals > 0 || device === undefined || !mayChangeIt(demand, subject, device, facts.roleAt(at))) found.push({ log: at.log, block: at.block, offset: at.offset })
      }
    }
    return [...new Map(found.map((at) => [addressText(at), at])).values()].slice(0, keptMax)
  }

  /** What a rule's text would be as a rule; undefined when it is none. */
  static ruleOf(key: string, value: Json | undefined): Rule | undefined {
    if (!key.startsWith(`${rulesPath}.`) || typeof value !== "string") return undefined
    const rule = parseRule(key, value)
    return isWhy(rule) ? undefined : rule.value
  }

  /** Every proposal that this node knows, newest first. */
  proposals(nowMs: number): ReadonlyArray<Standing> {
    return this.#tables.approvals.proposals().map((proposal) => this.standing(proposal, nowMs))
  }

  standing(proposal: Proposal, nowMs: number): Standing {
    const view = this.#members.view()
    const device = this.#members.deviceOf(proposal.log)
    const demands = proposal.edits.flatMap(({ doc, key }) => {
      const subject = subjectOf(doc, key)
      return subject === undefined ? [] : [{ subject, demand: demandOf(this.rules(), subject) }]
    })
    const most = strictest(demands.map(({ demand }) => demand).filter(({ approvals }) => approvals > 0))
    const [needs, by] = most === undefined ? [proposal.approvals, proposal.by] as const : [most.approvals, most.by] as const
    const spoken = new Set<string>()
    const given = this.#tables.approvals.givenTo(proposal).map((one) => {
      const who = this.#members.deviceOf(one.log)
      const member: Member | undefined = who === undefined ? undefined : view.members.get(who)
      const counts = member?.standing === "member" && !spoken.has(member.device) && (who === device ? !one.allow : mayApprove(by, member.role))
      if (counts && who !== undefined) spoken.add(who)
      return { ...one, device: who, counts }
    })
    const mayAsk = device !== undefined && demands.every(({ demand, subject }) => mayChangeIt(demand, subject, device, this.roleAt(proposal)))
    const done = this.#doneBy(proposal)
    const state: ProposalState = done !== undefined ? "done"
      : given.some(({ allow, counts }) => counts && !allow) ? "denied"
      : this.#isOutdated(proposal) ? "outdated"
      : mayAsk && given.filter(({ counts }) => counts).length >= needs ? "approved"
      : nowMs >= proposal.expiresMs ? "expired" : "open"
    return { proposal, device, state, needs, by, given, done }
  }

  /** The value in force at a register, as JSON text. */
  textInForce(doc: DocId, key: string): string | undefined {
    const value = ownValue(this.document(doc).values, key)
    return value === undefined ? undefined : canonicalJson(value)
  }

  #readRules(): ReadonlyArray<WrittenRule> {
    const { values, writers } = inForce(policyDoc, this.#tables.documents.state(policyDoc), this.facts([]))
    return Object.entries(values).flatMap(([key, value]) => {
      const at = writers.get(key)
      const rule = PolicyView.ruleOf(key, value)
      return at === undefined || rule === undefined ? [] : [{ ...rule, at }]
    })
  }

  #grants() {
    const view = this.#members.view()
    if (this.#roles?.of === view) return this.#roles
    const most = new Map<string, Role>()
    const cutoffs = new Map<string, ReadonlyMap<string, number>>()
    const voids = new Set(view.void.map(({ hash }) => hash))
    const give = (device: string, role: Role) => {
      const before = most.get(device)
      if (before === undefined || rankOf(role) > rankOf(before)) most.set(device, role)
    }
    for (const { hash, author, says } of this.#members.operations()) {
      if (voids.has(hash)) continue
      if (says.kind === "mesh.created" || says.kind === "recovery.used") give(author, "owner")
      else if (says.kind === "member.admitted" || says.kind === "role.set") give(says.device, says.role)
      if (says.kind === "role.set" && says.cutoffs !== undefined) cutoffs.set(hash, new Map(says.cutoffs.map(({ log, length }) => [log, length])))
    }
    this.#roles = { of: view, most, cutoffs }
    return this.#roles
  }

  /** The proposal that a write names as its cause, when it says what was proposed and the approvals that it names are enough. */
  #proposalOf(write: RegisterWrite, doc: DocId, key: string, demand: Demand, subject: Subject): string | undefined {
    const { approvals } = this.#tables
    const causes = approvals.causesOf(write)
    const named = new Set(causes.map(addressText))
    for (const cause of causes) {
      const proposal = approvals.proposal(cause)
      const device = proposal === undefined ? undefined : this.#members.deviceOf(proposal.log)
      if (proposal === undefined || device === undefined || !saysSo(proposal.edits, doc, key, write.json)) continue
      if (!mayChangeIt(demand, subject, device, this.roleAt(proposal))) continue
      const devices = new Set(approvals.givenTo(proposal).flatMap((given) => {
        const who = this.#members.deviceOf(given.log)
        return given.allow && named.has(addressText(given)) && who !== undefined && who !== device && mayApprove(demand.by, this.roleAt(given)) ? [who] : []
      }))
      if (devices.size >= demand.approvals) return addressText(proposal)
    }
    return undefined
  }

  /** The event that carried it out: of several the first by address. */
  #doneBy(proposal: Proposal): Address | undefined {
    const { approvals, registerWrites } = this.#tables
    const all = approvals.causedBy(proposal).toSorted((a, b) => (addressText(a) < addressText(b) ? -1 : 1))
    const rules = this.rules()
    const open = new Set(proposal.edits.map((_, i) => i))
    let first: Address | undefined
    for (const at of all) {
      for (const write of registerWrites.at(at)) {
        const i = proposal.edits.findIndex(({ doc, key, json }) => doc === write.doc && key === write.key && sameText(json, write.json))
        const subject = i < 0 ? undefined : subjectOf(write.doc, write.key)
        if (subject === undefined) continue
        const demand = demandOf(rules, subject)
        const counts = demand.approvals > 0 ? this.#proposalOf(write, write.doc, write.key, demand, subject) !== undefined
          : mayChangeIt(demand, subject, this.#members.deviceOf(write.log) ?? "", this.roleAt(write))
        if (!counts) continue
        open.delete(i)
        first ??= at
      }
    }
    return open.size === 0 ? first : undefined
  }

  #isOutdated({ edits }: Proposal): boolean {
    return edits.some(({ doc, key, base }) => !sameText(this.textInForce(doc, key), base))
  }
}

const saysSo = (edits: ReadonlyArray<ProposedEdit>, doc: DocId, key: string, json: string | undefined): boolean =>
  edits.some((edit) => edit.doc === doc && edit.key === key && sameText(edit.json, json))

/** Whether two JSON texts are one value. */
const sameText = (a: string | undefined, b: string | undefined): boolean => {
  if (a === b) return true
  if (a === undefined || b === undefined) return false
  const [one, other] = [readRegister(a), readRegister(b)]
  return "value" in one && "value" in other && equalJson(one.value, other.value)
}
