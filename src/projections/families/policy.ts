/**
 * Policy: who may change what, as rules that stand in the mesh's own configuration.
 *
 * A rule is one setting, `policy.rules.NAME`, and one line of text: `OF [PATH] by ROLE [after N of ROLE]`.
 *
 *     config/mesh network.** by admin            only admins and owners change network.* of the mesh's layer
 *     config user.pump.** by member after 2 of admin    everybody may ask, two admins must agree
 *     memory minutes by owner                    pages of the module `minutes`
 *
 * One text, because a rule must never be a mixture of what two people wrote at once. A path is a scope: it means itself and all beneath
 * it; `*` stands for one name, and a final `**` changes nothing. The most specific path wins, of equal ones the stricter. Where no rule is
 * as specific as a built-in one, that holds. On `policy.**` rules only ever add: no rule loosens who may write rules.
 *
 * Readers and seeders change nothing anywhere, whatever the rules say.
 */
import { rankOf, type Role } from "../../codec/operation.ts"
import type { DocId } from "../documents/types.ts"
import { isWhy, layerKind, parseDocId, type Read } from "./doc-id.ts"
import { pathFacts } from "./path.ts"

/** What a rule can be about; `config` is all three layers of it. */
export const ruleKinds = ["config", "config/mesh", "config/role", "config/node", "memory", "agents", "vault", "services"] as const
export type RuleKind = typeof ruleKinds[number]
/** What a thing that is changed can be. */
export type Kind = Exclude<RuleKind, "config" | "services">
export type MayRole = "member" | "admin" | "owner"
export type ApproverRole = "admin" | "owner"

/** Approvals that one rule may ask for at most; the event that carries out what was approved names each as its cause. */
export const approvalsMax = 5
export const ruleCharsMax = 200

export interface Rule {
  /** The setting that says it; empty for a built-in one. */
  readonly name: string
  /** As a person wrote it, in one spelling. */
  readonly text: string
  readonly of: "config" | Kind
  readonly parts: ReadonlyArray<string>
  readonly may: MayRole
  readonly approvals: number
  readonly by: ApproverRole
  /** Built-in for other nodes' own layers: the node itself may all the same. */
  readonly exceptOwn?: true
}

/** What is asked of somebody who changes a thing. */
export interface Demand {
  readonly may: MayRole
  readonly approvals: number
  readonly by: ApproverRole
  /** The rule that decides; undefined when none does, and every member may. */
  readonly rule: Rule | undefined
}

/** The thing that is changed. */
export interface Subject {
  readonly kind: Kind
  readonly parts: ReadonlyArray<string>
  /** Of a node's own layer: which. */
  readonly device?: string
}

/** For the setting's type: the form without the meaning of the path. An empty text is no rule. */
export const rulePattern = /^(?:(config(?:\/(?:mesh|role|node))?|memory|agents|vault|services)(?: +([\p{L}\p{N}_*](?:[\p{L}\p{M}\p{N}_.*/-]*)))? +by +(member|admin|owner)s?(?: +after +([0-5]) +of +(admin|owner)s?)?)?$/u
export const ruleWords = "a rule such as \"config/mesh network.** by admin\" or \"config/mesh updates by admin after 2 of admin\""

export const rulesPath = "policy.rules"
/** The document that holds the rules. */
export const policyDoc: DocId = "config/mesh/policy"

/** Reads a rule's text; `name` is its setting. */
export const parseRule = (name: string, text: string): Read<Rule> => {
  const found = text === "" || text.length > ruleCharsMax ? null : rulePattern.exec(text)
  if (found === null) return { why: `expected ${ruleWords}` }
  const [, of = "", path = "", may = "", count = "0", by = "admin"] = found
  const slashed = of === "memory"
  const parts = path === "" ? [] : path.split(slashed ? "/" : ".")
  while (parts.at(-1) === "**") parts.pop()
  const odd = parts.find((part) => part !== "*" && !(slashed ? /^[\p{L}\p{N}][\p{L}\p{M}\p{N}._-]*$/u : of === "agents" || of === "vault" ? /^[\p{L}\p{N}_.-]+$/u : /^[\p{L}\p{M}\p{N}_-]+$/u).test(part))
  if (odd !== undefined) return { why: `expected names, * for one name and ** at the end, found ${JSON.stringify(odd)}` }
  const approvals = Number(count)
  if (approvals > 0 && !(of.startsWith("config") || of === "services")) return { why: `expected approvals for settings only, found them for ${of}` }
  const scope = of === "services" ? ["services", ...parts] : of === "agents" || of === "vault" ? (parts.length === 0 ? [] : [parts.join(".")]) : parts
  return {
    value: {
      name, of: of === "services" ? "config" : of as Rule["of"], parts: scope, may: may as MayRole, approvals, by: by as ApproverRole,
      text: `${of}${path === "" ? "" : ` ${path}`} by ${may}${approvals === 0 ? "" : ` after ${approvals} of ${by}`}`
    }
  }
}

/**
 * First names of settings that keep a mesh safe: for the whole mesh and for roles they are changed by admins and owners only, unless a rule
 * says otherwise. A role's layer is stronger than the mesh's, so what holds for one holds for the other.
 */
export const securityPaths: ReadonlyArray<string> = [
  "policy", "mesh", "network", "services", "guard", "updates", "sync.member", "invite", "federation", "names", "vault", "secrets", "keys", "membership"
]

const builtIn: ReadonlyArray<Rule> = [
  ...(["config/mesh", "config/role"] as const).flatMap((of) => securityPaths.map((path): Rule => ({
    name: "", of, parts: path.split("."), may: "admin", approvals: 0, by: "admin", text: `${of} ${path}.** by admin`
  }))),
  { name: "", of: "config/node", parts: [], may: "admin", approvals: 0, by: "admin", exceptOwn: true, text: "config/node by admin or the node itself" }
]

/** The thing that a register of a document is, or undefined for a name that is no document's. */
export const subjectOf = (doc: DocId, key: string): Subject | undefined => {
  const id = parseDocId(doc)
  if (isWhy(id)) return undefined
  if (id.value.family === "agents") return { kind: "agents", parts: [id.value.name] }
  if (id.value.family === "memory") return { kind: "memory", parts: [id.value.module, id.value.page] }
  const facts = pathFacts(key)
  const { layer } = id.value
  const parts = isWhy(facts) ? [key] : facts.value.parts
  return { kind: `config/${layerKind(layer)}`, parts, ...(layer.startsWith("node:") ? { device: layer.slice(5) } : {}) }
}

/** What the rules ask of who changes this. */
export const demandOf = (rules: ReadonlyArray<Rule>, subject: Subject): Demand => {
  const own = best(builtIn, subject)
  if (subject.kind.startsWith("config/") && subject.parts[0] === "policy") return strictestOf([...own === undefined ? [] : [own], ...rules.filter((rule) => covers(rule, subject))])
  const written = best(rules, subject)
  const rule = written === undefined ? own : own === undefined || compareScope(written, own) >= 0 ? written : own
  return rule === undefined ? { may: "member", approvals: 0, by: "admin", rule } : { may: rule.may, approvals: rule.approvals, by: rule.by, rule }
}

/** Nothing is asked but to be a member. */
export const isOpen = (demand: Demand): boolean => demand.may === "member" && demand.approvals === 0

/** Whether a device with this role has the right to change it, or to ask for the change when approvals are demanded. */
export const mayChangeIt = (demand: Demand, subject: Subject, device: string, role: Role | undefined): boolean => {
  if (role === undefined || rankOf(role) < rankOf("member")) return false
  return rankOf(role) >= rankOf(demand.may) || (demand.rule?.exceptOwn === true && subject.device === device)
}

/** Whether a role may approve or deny. */
export const mayApprove = (by: ApproverRole, role: Role | undefined): boolean => role !== undefined && rankOf(role) >= rankOf(by)

/** The strictest of several demands, for a command that changes several things. */
export const strictest = (demands: ReadonlyArray<Demand>): Demand | undefined =>
  demands.reduce<Demand | undefined>((most, demand) => most === undefined || compareStrict(demand, most) > 0 ? demand : most, undefined)

const covers = (rule: Rule, subject: Subject): boolean =>
  (rule.of === subject.kind || (rule.of === "config" && subject.kind.startsWith("config/"))) &&
  rule.parts.length <= subject.parts.length && rule.parts.every((part, i) => part === "*" || part === subject.parts[i])

const best = (rules: ReadonlyArray<Rule>, subject: Subject): Rule | undefined => {
  let found: Rule | undefined
  for (const rule of rules) {
    if (!covers(rule, subject)) continue
    if (found === undefined || (compareScope(rule, found) || compareStrict(rule, found) || (rule.name < found.name ? 1 : -1)) > 0) found = rule
  }
  return found
}

/** Positive when `a` is more specific. */
const compareScope = (a: Rule, b: Rule): number =>
  a.parts.length - b.parts.length || literals(a) - literals(b) || Number(a.of !== "config") - Number(b.of !== "config")

const literals = ({ parts }: Rule): number => parts.filter((part) => part !== "*").length

/** Positive when `a` is stricter. */
const compareStrict = (a: Demand | Rule, b: Demand | Rule): number =>
  rankOf(a.may) - rankOf(b.may) || a.approvals - b.approvals || (a.approvals === 0 ? 0 : rankOf(a.by) - rankOf(b.by))

const strictestOf = (rules: ReadonlyArray<Rule>): Demand => {
  const rule = rules.reduce<Rule | undefined>((most, next) => most === undefined || compareStrict(next, most) > 0 ? next : most, undefined)
  return {
    may: rules.reduce<MayRole>((most, next) => rankOf(next.may) > rankOf(most) ? next.may : most, "admin"),
    approvals: Math.max(0, ...rules.map(({ approvals }) => approvals)),
    by: rules.some((next) => next.approvals > 0 && next.by === "owner") ? "owner" : "admin", rule
  }
}
