/**
 * Which settings of a document are in force: what policy leaves of its registers.
 *
 * A register shows what was written last. When its writer may not write there, that value is not in force, and neither is it enough to
 * look at the other values of a conflict: a writer who may not could also have taken the key away, or written over what stood there. So
 * the register is computed anew from the operations on it, as if those who may not had never written: an allowed operation takes the
 * place of all that lies behind it, through any number of operations that do not count; of what is left the last in Automerge's order
 * is seen. When all writers may, that is what Automerge says.
 *
 * What an approved proposal brought in counts once. The operations that carry out one proposal are one decision: who writes over one of
 * them writes over all, and one that has another of them behind it is a repetition and does not count. So an old approval cannot be used
 * to bring an old value back.
 *
 * All of it is a function of the operations, the events that they name as causes, the roles and the rules.
 */
import type { Address } from "../../codec/address.ts"
import type { Role } from "../../codec/operation.ts"
import type { DocId, DocumentState, Json } from "../documents/types.ts"
import { readRegister } from "../documents/register.ts"
import type { JsonObject } from "./json.ts"
import { demandOf, type Demand, isOpen, mayChangeIt, type Rule, type Subject, subjectOf } from "./policy.ts"
import { compareOps, type RegisterWrite } from "./register-writes.ts"

/** What is known beside the document. */
export interface PolicyFacts {
  readonly rules: ReadonlyArray<Rule>
  readonly deviceOf: (log: string) => string | undefined
  /** The role that counts for what stands at this place: the present one, or the last one of a device that is no member any more. */
  readonly roleAt: (at: Address) => Role | undefined
  /** Operations on a register that count as events. */
  readonly writes: (doc: DocId, key: string) => ReadonlyArray<RegisterWrite>
  /** Keys that anybody ever wrote. */
  readonly keys: (doc: DocId) => ReadonlyArray<string>
  /** The approved proposal that a write carries out, by its address; undefined when there is none. */
  readonly proposalOf: (write: RegisterWrite, doc: DocId, key: string, demand: Demand, subject: Subject) => string | undefined
  /** Whether what this event wrote stood when the rule was made: the rule is about changes from then on. */
  readonly isKept: (rule: Rule, at: Address) => boolean
}

/** A value, or the taking away of one, that would be seen if its writer might write there. */
export interface LeftOut extends Address {
  readonly key: string
  /** Undefined: it took the key away. */
  readonly value: Json | undefined
  readonly device: string | undefined
  /** Follows "set by NAME, ". */
  readonly why: string
}

export interface InForce {
  readonly values: JsonObject
  /** Where the value in force stands, for registers that policy looked at. */
  readonly writers: ReadonlyMap<string, Address>
  readonly left: ReadonlyArray<LeftOut>
}

/** The registers of a document of settings that are in force. */
export const inForce = (doc: DocId, state: DocumentState | undefined, facts: PolicyFacts): InForce => {
  const values = new Map<string, Json>(Object.entries(state?.live ?? {}))
  const writers = new Map<string, Address>()
  const left: Array<LeftOut> = []
  for (const key of new Set([...values.keys(), ...Object.keys(state?.value ?? {}), ...facts.keys(doc)])) {
    const subject = subjectOf(doc, key)
    if (subject === undefined || isOpen(demandOf(facts.rules, subject))) continue
    const writer = state?.writers[key]
    const plain = state !== undefined && state.faults.length === 0 && writer !== undefined && !state.conflicts.some((conflict) => conflict.key === key)
    if (plain && mayByRole(facts, subject, writer)) {
      writers.set(key, writer)
      continue
    }
    const register = registerInForce(facts.writes(doc, key), (write) => judge(facts, write, doc, key, subject))
    left.push(...register.left.map(({ write, why }) => ({
      log: write.log, block: write.block, offset: write.offset, key, value: valueOf(write), device: facts.deviceOf(write.log), why
    })))
    const value = register.winner === undefined ? undefined : valueOf(register.winner)
    if (value === undefined || register.winner === undefined) values.delete(key)
    else {
      values.set(key, value)
      writers.set(key, register.winner)
    }
  }
  return { values: Object.fromEntries([...values].sort(([a], [b]) => (a < b ? -1 : 1))), writers, left }
}

export type Judged =
  /** `group`: the approved proposal that it carries out. */
  | { readonly allowed: true; readonly group?: string }
  | { readonly allowed: false; readonly why: string }

/** What a register holds of those who may write it, and what it would also show if everybody might. */
export const registerInForce = (
  writes: ReadonlyArray<RegisterWrite>, judgeWrite: (write: RegisterWrite) => Judged
): { readonly winner: RegisterWrite | undefined; readonly left: ReadonlyArray<{ readonly write: RegisterWrite; readonly why: string }> } => {
  const byOp = firstOfEach(writes)
  const judged = new Map([...byOp].map(([op, write]) => [op, judgeWrite(write)] as const))
  const groups = new Map<string, Array<string>>()
  for (const [op, verdict] of judged) if (verdict.allowed && verdict.group !== undefined) groups.set(verdict.group, [...groups.get(verdict.group) ?? [], op])
  for (const [group, ops] of groups) {
    const again = ops.filter((op) => behind(byOp, op, () => true).some((earlier) => ops.includes(earlier)))
    for (const op of again) judged.set(op, { allowed: false, why: "the approval was used before" })
    groups.set(group, ops.filter((op) => !again.includes(op)))
  }
  const allowed = (op: string): boolean => judged.get(op)?.allowed === true
  const gone = new Set<string>()
  const known = new Set<string>()
  for (const op of byOp.keys()) {
    if (!allowed(op)) continue
    for (const earlier of behind(byOp, op, (at) => !allowed(at))) {
      known.add(earlier)
      const verdict = judged.get(earlier)
      for (const one of verdict?.allowed === true && verdict.group !== undefined ? groups.get(verdict.group) ?? [] : [earlier]) gone.add(one)
    }
  }
  const winner = [...byOp].filter(([op, write]) => allowed(op) && !gone.has(op) && write.json !== undefined).map(([, write]) => write).sort((a, b) => compareOps(a.op, b.op)).at(-1)
  const replaced = new Set([...byOp.values()].flatMap(({ over }) => over))
  const left = [...byOp.values()].sort((a, b) => compareOps(a.op, b.op)).flatMap((write) => {
    const verdict = judged.get(write.op)
    return verdict?.allowed === false && !replaced.has(write.op) && !known.has(write.op) ? [{ write, why: verdict.why }] : []
  })
  return { winner, left }
}

/** Whether a writer may by its role alone, without approvals. */
const mayByRole = (facts: PolicyFacts, subject: Subject, at: Address): boolean => {
  const demand = demandAt(facts, subject, at)
  const device = facts.deviceOf(at.log)
  return demand.approvals === 0 && device !== undefined && mayChangeIt(demand, subject, device, facts.roleAt(at))
}

const judge = (facts: PolicyFacts, write: RegisterWrite, doc: DocId, key: string, subject: Subject): Judged => {
  const device = facts.deviceOf(write.log)
  if (device === undefined) return { allowed: false, why: "who is not known here" }
  const demand = demandAt(facts, subject, write)
  if (demand.approvals === 0) {
    const role = facts.roleAt(write)
    return mayChangeIt(demand, subject, device, role) ? { allowed: true } : { allowed: false, why: `who may not (${role ?? "no member"}; ${demand.rule?.text ?? "members only"})` }
  }
  const group = facts.proposalOf(write, doc, key, demand, subject)
  return group === undefined ? { allowed: false, why: `without the approval that it needs (${demand.rule?.text ?? ""})` } : { allowed: true, group }
}

const demandAt = (facts: PolicyFacts, subject: Subject, at: Address): Demand => demandOf(facts.rules.filter((rule) => !facts.isKept(rule, at)), subject)

/** Operations behind one, as far as `through` lets look past what was found. */
const behind = (byOp: ReadonlyMap<string, RegisterWrite>, op: string, through: (op: string) => boolean): ReadonlyArray<string> => {
  const found = new Set<string>()
  const open = [...byOp.get(op)?.over ?? []]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (found.has(next)) continue
    found.add(next)
    if (through(next)) open.push(...byOp.get(next)?.over ?? [])
  }
  return [...found]
}

/** A change that stands in a log twice counts where it stands first. */
const firstOfEach = (writes: ReadonlyArray<RegisterWrite>): Map<string, RegisterWrite> => {
  const byOp = new Map<string, RegisterWrite>()
  for (const write of writes) {
    const other = byOp.get(write.op)
    if (other === undefined || write.block < other.block || (write.block === other.block && write.offset < other.offset)) byOp.set(write.op, write)
  }
  return byOp
}

const valueOf = (write: RegisterWrite): Json | undefined => {
  if (write.json === undefined) return undefined
  const read = readRegister(write.json)
  return "value" in read ? read.value : undefined
}
