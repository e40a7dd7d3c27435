/** Approvals as folds: the same in any order; who counts; what becomes of a proposal; what two nodes carry out at once. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import t, { type Test } from "tap"
import { type Address, addressText } from "../src/codec/address.ts"
import type { Operation, Role, Statement } from "../src/codec/operation.ts"
import { carriersOut, decideApply, decideAsk, decideVerdict, findProposal, pendingRefusal, proposalId } from "../src/commands/decide-approval.ts"
import type { Documents } from "../src/commands/decide-change.ts"
import { Refusal } from "../src/commands/refusal.ts"
import { LoadedDocument } from "../src/projections/documents/document.ts"
import type { LoggedChange } from "../src/projections/documents/types.ts"
import { isWhy } from "../src/projections/families/doc-id.ts"
import { parseRule, policyDoc } from "../src/projections/families/policy.ts"
import type { Member, Membership } from "../src/projections/membership.ts"
import { type PolicyMembers, PolicyView } from "../src/projections/policy-view.ts"
import { Tables } from "../src/projections/tables/tables.ts"
import { type Handle, logKey, newHandle, randomFrom } from "./documents-world.ts"

const net = "config/mesh/network"
const text = "config/mesh network by member after 2 of admin"
const month = 30 * 86_400_000

interface Said extends Address {
  readonly type: string
  readonly ms: number
  readonly subject: string
  readonly cause: ReadonlyArray<Address>
  readonly body: unknown
}

/** Logs 0 to 5: an owner, two admins, two members, a reader. The device of a log has the log's key. */
const roles: ReadonlyArray<Role> = ["owner", "admin", "admin", "member", "member", "reader"]

class World {
  readonly said: Array<Said> = []
  readonly #lengths = new Map<number, number>()
  readonly #handles = new Map<string, Handle>()

  say(by: number, type: string, body: unknown, more: { readonly subject?: string; readonly cause?: ReadonlyArray<Address>; readonly sameBlock?: boolean } = {}): Address {
    const block = (this.#lengths.get(by) ?? -1) + (more.sameBlock === true ? 0 : 1)
    const offset = more.sameBlock === true ? this.said.filter((one) => one.log === logKey(by) && one.block === block).length : 0
    this.#lengths.set(by, block)
    const at = { log: logKey(by), block, offset }
    this.said.push({ ...at, type, ms: 1_000 + this.said.length, subject: more.subject ?? "x", cause: more.cause ?? [], body })
    return at
  }

  /** A change of registers that knows all that was changed before; or only what `alone` knew. */
  change(by: number, doc: string, registers: Readonly<Record<string, unknown>>, cause: ReadonlyArray<Address> = [], alone = false): Address {
    const key = `${by} ${doc}`
    let handle = this.#handles.get(key)
    if (handle === undefined) this.#handles.set(key, handle = newHandle(doc, logKey(by)))
    if (!alone) for (const [other, theirs] of this.#handles) if (other !== key && other.endsWith(` ${doc}`)) handle.merge(theirs)
    for (const [name, value] of Object.entries(registers)) {
      if (value === undefined) handle.delete("/", name)
      else {
        if (handle.get("/", name) === JSON.stringify(value)) handle.delete("/", name)
        handle.put("/", name, JSON.stringify(value), "str")
      }
    }
    handle.commit(undefined, 1)
    return this.say(by, "config.changed/1", { change: handle.getLastLocalChange() ?? new Uint8Array(), paths: Object.keys(registers), summary: "changed" }, { subject: doc, cause })
  }

  ask(by: number, value: unknown, base: unknown = undefined): Address {
    const edit = (json: unknown) => ({ doc: net, key: "network.lan", json: json === undefined ? null : JSON.stringify(json) })
    return this.say(by, "approval.asked/1", { edits: [edit(value)], base: [edit(base)], summary: "set network.lan", rule: "policy.rules.net: x", approvals: 2, by: "admin", expiresMs: 1_000 + month })
  }

  word(by: number, asked: Address, verdict: "allow" | "deny" = "allow"): Address {
    return this.say(by, "approval.given/1", { asked: addressText(asked), verdict, reason: "" }, { cause: [asked] })
  }
}

const memberOf = (n: number, more: Partial<Member> = {}): Member => ({
  device: logKey(n), name: `node${n}`, role: roles[n] ?? "member", since: "", by: "", ms: 0, standing: "member", granted: { hash: "", by: "", ms: 0 }, logs: [], ...more
})

const membersOf = (more: Readonly<Record<number, Partial<Member>>> = {}): PolicyMembers => {
  const view = { members: new Map(roles.map((_, n) => [logKey(n), memberOf(n, more[n])])), void: [] } as Partial<Membership> as Membership
  return { view: () => view, deviceOf: (log: string) => log, operations: () => [] }
}

/** What a node knows that heard all this in this order. `out`: events that do not count. */
const heard = (t: Test, said: ReadonlyArray<Said>, more: Readonly<Record<number, Partial<Member>>> = {}, out: ReadonlyArray<Address> = []) => {
  const directory = mkdtempSync(join(tmpdir(), "kos-approval-"))
  const tables = new Tables(join(directory, "tables.db"))
  t.teardown(() => {
    tables.close()
    rmSync(directory, { recursive: true, force: true })
  })
  const gone = new Set(out.map(addressText))
  const changes = new Map<string, Array<LoggedChange>>()
  tables.transaction(() => {
    for (const { log, block, offset, type, ms, subject, cause, body } of said) {
      tables.events.add([{ log, block, offset, type, ms, count: 0, actor: "device", subject, status: gone.has(addressText({ log, block, offset })) ? "quarantined" : "known" }])
      tables.folds.get(type)?.({ log, block, offset, device: log, body, envelope: { type, at: { ms, count: 0 }, actor: "device", subject, command: "", cause, body } })
      if (type === "config.changed/1" && typeof body === "object" && body !== null && "change" in body && body.change instanceof Uint8Array) {
        changes.set(subject, [...changes.get(subject) ?? [], { log, block, offset, ms, change: body.change }])
      }
    }
    for (const [doc, list] of changes) {
      const loaded = new LoadedDocument(doc)
      for (const change of list) if (!gone.has(addressText(change))) loaded.gate.offer(change)
      loaded.settle()
      tables.documents.putState(doc, loaded.state(() => []))
      loaded.free()
    }
  })
  const policy = new PolicyView({ tables, members: membersOf(more) })
  const documents: Documents = { get: (doc) => tables.documents.state(doc), keys: () => tables.documents.list("config").map(({ id }) => id) }
  return { tables, policy, documents, lan: () => policy.document(net).values["network.lan"], standing: (at: Address, now = 2_000) => {
    const proposal = tables.approvals.proposal(at)
    if (proposal === undefined) throw new Error("no proposal")
    return policy.standing(proposal, now)
  } }
}

const shuffle = <A>(list: ReadonlyArray<A>, seed: number): ReadonlyArray<A> => {
  const random = randomFrom(seed)
  const out = [...list]
  for (let i = out.length - 1; i > 0; i--) {
    const j = random(i + 1)
    const [a, b] = [out[i], out[j]]
    if (a !== undefined && b !== undefined) [out[i], out[j]] = [b, a]
  }
  return out
}

const ruled = (): World => {
  const world = new World()
  world.change(0, policyDoc, { "policy.rules.net": text })
  return world
}

t.test("two approvals bring a change into force, in whatever order its events arrive", async (t) => {
  const world = ruled()
  const asked = world.ask(3, false)
  const first = world.word(1, asked)
  const second = world.word(2, asked)
  const done = world.change(2, net, { "network.lan": false }, [asked, first, second])
  for (let seed = 0; seed < 40; seed++) {
    const node = heard(t, shuffle(world.said, seed))
    t.equal(node.lan(), false, `seed ${seed}`)
    t.match(node.standing(asked), { state: "done", done })
    t.same(node.policy.document(net).left, [])
    t.same(node.policy.rules().map((rule) => rule.text), [text])
  }
  const before = heard(t, world.said.slice(0, -1))
  t.match(before.standing(asked), { state: "approved", needs: 2, by: "admin" })
  t.equal(before.lan(), undefined)
  t.match(heard(t, world.said.slice(0, -2)).standing(asked), { state: "open" })
})

t.test("what was not approved, or says something else, is not in force", async (t) => {
  const cases: ReadonlyArray<readonly [string, (world: World, asked: Address) => void]> = [
    ["no approval", (world, asked) => world.change(3, net, { "network.lan": false }, [asked])],
    ["one of two", (world, asked) => world.change(3, net, { "network.lan": false }, [asked, world.word(1, asked)])],
    ["one, twice", (world, asked) => world.change(3, net, { "network.lan": false }, [asked, world.word(1, asked), world.word(1, asked)])],
    ["a member's", (world, asked) => world.change(3, net, { "network.lan": false }, [asked, world.word(1, asked), world.word(4, asked)])],
    ["another value", (world, asked) => world.change(3, net, { "network.lan": true }, [asked, world.word(1, asked), world.word(2, asked)])],
    ["another key", (world, asked) => world.change(3, net, { "network.dht": false }, [asked, world.word(1, asked), world.word(2, asked)])],
    ["a denial", (world, asked) => world.change(3, net, { "network.lan": false }, [asked, world.word(1, asked), world.word(2, asked, "deny")])],
    ["approvals that are not named", (world, asked) => {
      world.word(1, asked)
      world.word(2, asked)
      world.change(3, net, { "network.lan": false }, [asked])
    }],
    ["of another proposal", (world, asked) => world.change(3, net, { "network.lan": false }, [asked, world.word(1, asked), world.word(2, world.ask(4, false))])],
    ["an owner alone", (world) => world.change(0, net, { "network.lan": false })]
  ]
  for (const [name, go] of cases) {
    const world = ruled()
    go(world, world.ask(3, false))
    const node = heard(t, world.said)
    t.same(node.policy.document(net).values, {}, name)
    t.match(node.policy.document(net).left, [{ why: /without the approval that it needs/ }], name)
  }
  const own = ruled()
  const asked = own.ask(1, false)
  own.change(1, net, { "network.lan": false }, [asked, own.word(1, asked), own.word(2, asked)])
  t.equal(heard(t, own.said).lan(), undefined, "who asks does not approve")
})

t.test("an approval counts only from a member who is in and has the right", async (t) => {
  const world = ruled()
  const asked = world.ask(3, false)
  world.word(1, asked)
  const second = world.word(2, asked)
  t.match(heard(t, world.said).standing(asked), { state: "approved" })
  t.match(heard(t, world.said, { 2: { standing: "revoked" } }).standing(asked), { state: "open" }, "revoked before it took effect")
  t.match(heard(t, world.said, { 2: { role: "member" } }).standing(asked), { state: "open" })
  t.match(heard(t, world.said, {}, [second]).standing(asked), { state: "open" }, "beyond a cut-off")
  t.match(heard(t, world.said, { 3: { role: "reader" } }).standing(asked), { state: "open" }, "who asked may not ask any more")
  t.match(heard(t, world.said, { 3: { standing: "left" } }).standing(asked), { state: "approved" }, "who asked and went had the right")
  world.word(0, asked)
  t.match(heard(t, world.said, { 2: { standing: "revoked" } }).standing(asked), { state: "approved" })
  t.equal(carriersOut(heard(t, world.said).standing(asked)).last, logKey(0))
  const done = world.change(0, net, { "network.lan": false }, [asked, ...world.said.filter(({ type }) => type === "approval.given/1")])
  t.equal(heard(t, world.said, { 1: { standing: "revoked" }, 2: { standing: "revoked" } }).lan(), false, "what took effect stays when they are revoked later")
  t.match(heard(t, world.said, { 1: { standing: "revoked" } }).standing(asked), { state: "done", done })
})

t.test("one denial closes it, who asked may take it back, and a first word stands", async (t) => {
  const world = ruled()
  const asked = world.ask(3, false)
  world.word(4, asked, "deny")
  t.match(heard(t, world.said).standing(asked), { state: "open" }, "a member's word is none")
  world.word(1, asked)
  world.word(2, asked, "deny")
  world.word(0, asked)
  t.match(heard(t, world.said).standing(asked), { state: "denied" })
  const back = ruled()
  const mine = back.ask(3, false)
  back.word(3, mine)
  t.match(heard(t, back.said).standing(mine), { state: "open", given: [{ counts: false }] })
  back.word(3, mine, "deny")
  t.match(heard(t, back.said).standing(mine), { state: "denied" })
})

t.test("a proposal whose value changed meanwhile is outdated, and expiry is a matter of the reader's clock", async (t) => {
  const world = ruled()
  const first = world.ask(3, false)
  const second = world.ask(4, 7)
  const words = [world.word(1, second), world.word(2, second)]
  world.change(2, net, { "network.lan": 7 }, [second, ...words])
  const node = heard(t, world.said)
  t.match(node.standing(first), { state: "outdated" })
  t.match(decideVerdict(membersOf().view(), logKey(1), node.standing(first), { allow: true, reason: "" }), { kind: "conflict", detail: /outdated: what it would change was changed meanwhile/ })
  const other = ruled()
  const asked = other.ask(3, false)
  t.match(heard(t, other.said).standing(asked, 1_000 + month), { state: "expired" })
  other.word(1, asked)
  other.word(2, asked)
  t.match(heard(t, other.said).standing(asked, 1_000 + month), { state: "approved" }, "no clock keeps from it what has its approvals")
})

t.test("carried out by two nodes at once it is one value, and what was decided after it stays", async (t) => {
  const world = ruled()
  const asked = world.ask(3, false)
  const words = [world.word(1, asked), world.word(2, asked)]
  world.change(2, net, { "network.lan": false }, [asked, ...words], true)
  world.change(3, net, { "network.lan": false }, [asked, ...words], true)
  for (let seed = 0; seed < 10; seed++) {
    const node = heard(t, shuffle(world.said, seed))
    t.equal(node.lan(), false)
    t.match(node.standing(asked), { state: "done" })
  }
  const later = world.ask(4, true, false)
  world.change(1, net, { "network.lan": true }, [later, world.word(1, later), world.word(0, later)])
  t.equal(heard(t, world.said).lan(), true)
  // Somebody who has the old approval at hand tries to use it again.
  world.change(3, net, { "network.lan": false }, [asked, ...words])
  const node = heard(t, world.said)
  t.equal(node.lan(), true)
  t.match(node.policy.document(net).left, [{ value: false, why: "the approval was used before" }])
})

t.test("a rule leaves what stood before it, and only that", async (t) => {
  const world = new World()
  const before = world.change(1, net, { "network.lan": true, "network.dht": true })
  const made = heard(t, world.said)
  const rule = parseRule("policy.rules.net", text)
  if (isWhy(rule)) return t.fail(rule.why)
  t.same(made.policy.keptUnder(rule.value), [before])
  world.change(0, policyDoc, { "policy.rules.net": text })
  t.same(heard(t, world.said).policy.document(net).values, {}, "without saying what it keeps nothing stands")
  world.say(0, "policy.kept/1", { rule: "policy.rules.net", kept: [addressText(before)] }, { sameBlock: true })
  t.same(heard(t, world.said).policy.document(net).values, { "network.dht": true, "network.lan": true })
  const sneaked = world.change(1, net, { "network.lan": false })
  world.say(1, "policy.kept/1", { rule: "policy.rules.net", kept: [addressText(sneaked)] })
  world.say(0, "policy.kept/1", { rule: "policy.rules.net", kept: [addressText(sneaked)] })
  t.equal(heard(t, world.said).lan(), true, "what is said elsewhere than with the rule keeps nothing")
})

t.test("a member can neither change nor take away a rule; what an admin demands holds", async (t) => {
  const world = ruled()
  world.change(3, policyDoc, { "policy.rules.net": "config/mesh network by member" })
  t.same(heard(t, world.said).policy.rules().map((rule) => rule.text), [text])
  world.change(4, policyDoc, { "policy.rules.net": undefined, "policy.rules.mine": "config/mesh ** by member" })
  world.change(5, policyDoc, { "policy.rules.mine": "config/mesh ** by member" })
  const node = heard(t, world.said)
  t.same(node.policy.rules().map((rule) => [rule.name, rule.text]), [["policy.rules.net", text]])
  t.ok(node.policy.document(policyDoc).left.length >= 2, "both are shown")
  world.change(1, policyDoc, { "policy.rules.net": "config/mesh network by admin" })
  t.same(heard(t, world.said).policy.rules().map((rule) => rule.text), ["config/mesh network by admin"])
})

t.test("a role that was lowered counts from where the operation says", async (t) => {
  const world = new World()
  world.change(1, net, { "network.lan": true })
  world.change(1, net, { "network.lan": false })
  const base = membersOf({ 1: { role: "member", granted: { hash: "lowered", by: "", ms: 0 } } })
  const operation = (hash: string, says: Partial<Statement>) => ({ hash, author: logKey(0), says } as Partial<Operation> as Operation)
  const operations = [
    operation("admitted", { kind: "member.admitted", device: logKey(1), role: "admin" }),
    operation("lowered", { kind: "role.set", device: logKey(1), role: "member", cutoffs: [{ log: logKey(1), length: 1 }] })
  ]
  const node = heard(t, world.said)
  const members = { ...base, operations: () => operations }
  const policy = new PolicyView({ tables: node.tables, members })
  t.match(policy.document(net), { values: { "network.lan": true }, left: [{ value: false, why: /who may not \(member/ }] })
})

t.test("deciders: asking, a word, carrying out, finding", async (t) => {
  const world = ruled()
  const asked = world.ask(3, false)
  const node = heard(t, world.said)
  const view = membersOf().view()
  const standing = node.standing(asked)
  const id = proposalId(asked)
  const demand = { may: "member", approvals: 2, by: "admin", rule: undefined } as const
  const wanted = decideAsk([{ doc: net, edits: [{ _tag: "Set", key: "network.lan", json: "false" }, { _tag: "Delete", key: "network.dht" }], paths: [], summary: "set both" }],
    { _tag: "NeedsApproval", demand, why: "it needs 2 approvals" }, (_, key) => key === "network.dht" ? "true" : undefined, 5)
  t.match(wanted, { type: "approval.asked/1", body: { edits: [{ key: "network.lan", json: "false" }, { key: "network.dht", json: null }], base: [{ json: null }, { json: "true" }], expiresMs: 5 + month } })
  t.match(pendingRefusal(asked, "set network.lan", "it needs 2 approvals"), { kind: "pending", detail: `set network.lan: not yet, it needs 2 approvals; it was proposed as ${id}`, hint: `kos approval show ${id}` })
  const word = (n: number, allow: boolean, of = standing) => decideVerdict(view, logKey(n), of, { allow, reason: "" })
  t.match(word(1, true), { events: [{ type: "approval.given/1", body: { verdict: "allow", asked: addressText(asked) } }] })
  t.match(word(3, true), { kind: "policy", detail: /nobody approves their own proposal/ })
  t.match(word(3, false), { summary: `took back ${id}` })
  t.match(word(4, true), { kind: "policy", detail: /is for admins to decide; this node is member/ })
  t.match(decideVerdict(view, logKey(1), standing, { allow: true, reason: "x".repeat(257) }), { kind: "usage" })
  world.word(1, asked)
  const said = heard(t, world.said)
  t.match(word(1, true, said.standing(asked)), { events: [] })
  t.match(word(1, false, said.standing(asked)), { kind: "conflict", detail: /the first word counts/ })
  t.match(decideApply(said.documents, said.standing(asked)), { kind: "conflict", detail: /is not approved/ })
  world.word(2, asked)
  const ready = heard(t, world.said)
  const applied = decideApply(ready.documents, ready.standing(asked))
  t.match(applied, { changes: [{ doc: net, edits: [{ _tag: "Set", key: "network.lan", json: "false" }] }], cause: [{ log: logKey(3) }, { log: logKey(1) }, { log: logKey(2) }] })
  const all = ready.policy.proposals(2_000)
  t.equal(all.length, 1)
  for (const text of [id, addressText(asked), id.slice(0, 6)]) {
    const found = findProposal(all, text)
    t.notOk(found instanceof Refusal, text)
  }
  t.match(findProposal(all, "nothing"), { kind: "not-found" })
  t.match(findProposal([...all, ...all], id.slice(0, 6)), { kind: "usage" })
})
