/** Rules of policy: how they read, which one counts, what they leave of a document, and that none of them lets a member write rules. */
import t from "tap"
import type { Role } from "../src/codec/operation.ts"
import type { Address } from "../src/codec/address.ts"
import { mayChange, mayTouch, type Policy } from "../src/commands/policy.ts"
import { isRefusal } from "../src/commands/decide-change.ts"
import { Refusal } from "../src/commands/refusal.ts"
import type { DocumentChange } from "../src/commands/decide-change.ts"
import { changeActor } from "../src/projections/documents/actor.ts"
import { LoadedDocument } from "../src/projections/documents/document.ts"
import type { DocumentState, Json } from "../src/projections/documents/types.ts"
import { isWhy } from "../src/projections/families/doc-id.ts"
import { inForce, type PolicyFacts, registerInForce } from "../src/projections/families/in-force.ts"
import { demandOf, mayChangeIt, parseRule, type Rule, ruleKinds, securityPaths, subjectOf } from "../src/projections/families/policy.ts"
import { type RegisterWrite, registerWrites } from "../src/projections/families/register-writes.ts"
import { findSetting, readSetting, settings } from "../src/projections/families/settings.ts"
import type { Member, Membership } from "../src/projections/membership.ts"
import { type Handle, honest, logKey, newHandle, type Random, randomFrom, shuffled } from "./documents-world.ts"

const rule = (text: string, name = "policy.rules.a"): Rule => {
  const read = parseRule(name, text)
  if (isWhy(read)) throw new Error(`${text}: ${read.why}`)
  return read.value
}

const device = (n: number): string => n.toString(16).padStart(2, "0").repeat(32)
const demand = (rules: ReadonlyArray<Rule>, doc: string, key = "text") => {
  const subject = subjectOf(doc, key)
  if (subject === undefined) throw new Error(doc)
  const { may, approvals, by } = demandOf(rules, subject)
  return approvals === 0 ? may : `${may} after ${approvals} of ${by}`
}

t.test("a rule is one line that a person writes, and one spelling comes back", async (t) => {
  for (const [text, back] of [
    ["config/mesh network.** by admin", "config/mesh network.** by admin"],
    ["config  user.pump   by members after 2 of admins", "config user.pump by member after 2 of admin"],
    ["services by owner", "services by owner"], ["services web by member", "services web by member"], ["memory minutes/** by owners", "memory minutes/** by owner"],
    ["agents weather by admin", "agents weather by admin"], ["config/node by admin after 0 of owner", "config/node by admin"], ["vault by owner", "vault by owner"]
  ] as const) t.equal(rule(text).text, back)
  for (const text of ["", "config", "config by reader", "config/tree x by admin", "config a..b by admin", "config a.**.b by admin", "memory x by admin after 2 of admin",
    "config x by admin after 6 of admin", "config x by admin after 2 of member", `config ${"x".repeat(300)} by admin`, "config x by admin\nafter 2 of admin", "agents ../x by admin"])
    t.ok(isWhy(parseRule("policy.rules.a", text)), text)
  const setting = findSetting("policy.rules.garden")
  t.equal(setting?.path, "policy.rules.*")
  if (setting === undefined) return
  t.same(readSetting("policy.rules.garden", setting, "config/mesh updates by admin after 2 of admin"), { value: "config/mesh updates by admin after 2 of admin" })
  t.match(readSetting("policy.rules.garden", setting, "everybody may"), { why: /expected a rule such as/ })
  t.same(setting.layers, ["mesh"], "rules are the mesh's own")
})

t.test("what holds without any rule", async (t) => {
  for (const path of securityPaths) {
    t.equal(demand([], "config/mesh/x", `${path}.some.thing`), "admin", path)
    t.equal(demand([], "config/role:member/x", `${path}.some.thing`), "admin", "a role's layer is stronger than the mesh's")
  }
  for (const [doc, key] of [["config/mesh/log", "log.level"], ["config/mesh/user.x", "user.x.network"], ["config/mesh/networks", "networks.a"], ["agents/a", "state"], ["memory/a/b", "text"], ["config/role:member/log", "log.level"]] as const)
    t.equal(demand([], doc, key), "member", doc)
  const own = subjectOf(`config/node:${device(1)}/network`, "network.port")
  if (own === undefined) return t.fail("no subject")
  t.ok(mayChangeIt(demandOf([], own), own, device(1), "member"), "a node its own layer")
  t.notOk(mayChangeIt(demandOf([], own), own, device(2), "member"), "but not another's")
  t.ok(mayChangeIt(demandOf([], own), own, device(2), "admin"))
  t.notOk(mayChangeIt(demandOf([], own), own, device(1), "reader"))
  t.notOk(mayChangeIt(demandOf([rule("config/node network by admin")], own), own, device(1), "member"), "a rule that says so binds the node itself, too")
})

t.test("the most specific path wins, of equal ones the stricter, and a rule may loosen what is not about rules", async (t) => {
  const some = [rule("config/mesh network.** by member"), rule("config network.bootstrap by owner", "policy.rules.b"), rule("config/mesh user.*.speed by admin", "policy.rules.c"), rule("config user.pump by owner", "policy.rules.d")]
  t.equal(demand(some, "config/mesh/network", "network.lan"), "member")
  t.equal(demand(some, "config/mesh/network", "network.bootstrap"), "owner")
  t.equal(demand(some, "config/mesh/user.pump", "user.pump.speed"), "admin", "three names are more than two")
  t.equal(demand(some, "config/mesh/user.pump", "user.pump.name"), "owner")
  t.equal(demand([rule("config/mesh ** by member")], "config/mesh/network", "network.lan"), "admin", "a built-in rule that is more specific holds")
  t.equal(demand([rule("config/mesh log by admin"), rule("config/mesh log by member after 2 of owner", "policy.rules.b")], "config/mesh/log", "log.level"), "admin")
  t.equal(demand([rule("config/mesh log by admin"), rule("config/mesh log by admin after 1 of admin", "policy.rules.b")], "config/mesh/log", "log.level"), "admin after 1 of admin")
  t.equal(demand([rule("memory minutes/2026 by owner"), rule("memory minutes by admin")], "memory/minutes/2026"), "owner")
  t.equal(demand([rule("memory minutes/2026 by owner"), rule("memory minutes by admin")], "memory/minutes/2025"), "admin")
  t.equal(demand([rule("agents weather by owner")], "agents/weather"), "owner")
  t.equal(demand([rule("services web by owner")], "config/mesh/services", "services.web.port"), "owner")
})

t.test("no set of rules lets a member write a rule", async (t) => {
  const random = randomFrom(11)
  const pick = <A>(list: ReadonlyArray<A>): A => list[random(list.length)] ?? list[0] as A
  let loosened = 0
  for (let run = 0; run < 3_000; run++) {
    const rules = Array.from({ length: random(8) }, (_, i) => {
      const of = pick(ruleKinds)
      const path = of.startsWith("config") ? pick(["", "policy", "policy.**", "policy.rules", "policy.rules.a", "*", "*.rules", "policy.*.a", "network"]) : ""
      const after = of.startsWith("config") && random(3) === 0 ? ` after ${random(6)} of ${pick(["admin", "owner"])}` : ""
      return rule(`${of}${path === "" ? "" : ` ${path}`} by ${pick(["member", "admin", "owner"])}${after}`, `policy.rules.${i}`)
    })
    for (const doc of ["config/mesh/policy", "config/role:member/policy", `config/node:${device(9)}/policy`]) {
      const subject = subjectOf(doc, pick(["policy.rules.a", "policy.rules.b", "policy.other"]))
      if (subject === undefined) return t.fail("no subject")
      const asked = demandOf(rules, subject)
      for (const role of ["seeder", "reader", "member"] as const) if (mayChangeIt(asked, subject, device(1), role)) t.fail(`${doc} by ${role}: ${rules.map(({ text }) => text).join("; ")}`)
      if (asked.may === "owner" || asked.approvals > 0) loosened++
    }
  }
  t.ok(loosened > 100, `${loosened} rule sets were stricter than what is built in`)
})

// --- documents

const doc = "config/mesh/network"
const roles: Record<string, Role> = { [logKey(0)]: "owner", [logKey(1)]: "admin", [logKey(2)]: "member", [logKey(3)]: "member" }

const writesOf = (name: string, changes: ReadonlyArray<{ readonly log: string; readonly block: number; readonly offset: number; readonly change: Uint8Array }>) => {
  const all = new Map<string, Array<RegisterWrite>>()
  for (const { log, block, offset, change } of changes) for (const { key, ...write } of registerWrites(change, changeActor(log, name))) {
    all.set(key, [...all.get(key) ?? [], { ...write, log, block, offset }])
  }
  return all
}

const factsOf = (writes: ReadonlyMap<string, ReadonlyArray<RegisterWrite>>, more: Partial<PolicyFacts> = {}): PolicyFacts => ({
  rules: [], deviceOf: (log) => log, roleAt: ({ log }) => roles[log], writes: (_, key) => writes.get(key) ?? [], keys: () => [...writes.keys()],
  proposalOf: () => undefined, isKept: () => false, ...more
})

const stateOf = (name: string, changes: ReadonlyArray<{ readonly log: string; readonly block: number; readonly offset: number; readonly ms: number; readonly change: Uint8Array }>): DocumentState => {
  const loaded = new LoadedDocument(name)
  for (const change of changes) loaded.gate.offer(change)
  loaded.settle()
  const state = loaded.state(() => [])
  loaded.free()
  return state
}

const keys = ["network.lan", "network.dht", "network.bootstrap"]
const registerEdit = (handle: Handle, random: Random): void => {
  const key = keys[random(keys.length)] ?? ""
  if (random(5) === 0 && handle.get("/", key) !== undefined) handle.delete("/", key)
  else handle.put("/", key, JSON.stringify(random(6)), "str")
}

t.test("when all writers may, the registers are as Automerge says; in any order of arrival", async (t) => {
  for (let seed = 0; seed < 60; seed++) {
    const random = randomFrom(seed)
    const { changes } = honest(doc, 3, 30, random, registerEdit)
    const state = stateOf(doc, changes)
    const writes = writesOf(doc, changes)
    const expected: Record<string, Json> = {}
    for (const key of writes.keys()) {
      const { winner, left } = registerInForce(writes.get(key) ?? [], () => ({ allowed: true }))
      if (winner?.json !== undefined) expected[key] = JSON.parse(winner.json)
      t.same(left, [])
    }
    t.same(expected, state.value, `seed ${seed}`)
    const again = writesOf(doc, shuffled(changes, random))
    t.same(inForce(doc, state, factsOf(again)), inForce(doc, state, factsOf(writes)))
  }
})

t.test("what those who may not write does not change anything: not over, not away, not beside", async (t) => {
  let removed = 0
  let overwritten = 0
  for (let seed = 100; seed < 180; seed++) {
    const { changes } = honest(doc, 4, 40, randomFrom(seed), registerEdit)
    const state = stateOf(doc, changes)
    const writes = writesOf(doc, changes)
    const { values, writers, left } = inForce(doc, state, factsOf(writes))
    for (const key of keys) {
      const at = writers.get(key)
      if (values[key] !== undefined) t.ok(at !== undefined && ["owner", "admin"].includes(roles[at.log] ?? ""), `seed ${seed}: ${key} is in force by an admin`)
      const last = (writes.get(key) ?? []).filter(({ log }) => roles[log] !== "member")
      // Model: an allowed value goes only when an allowed operation has it behind it.
      const all = new Map((writes.get(key) ?? []).map((write) => [write.op, write]))
      const past = (op: string, seen = new Set<string>()): Set<string> => {
        for (const before of all.get(op)?.over ?? []) if (!seen.has(before)) past(before, seen.add(before))
        return seen
      }
      const gone = new Set(last.flatMap(({ op }) => [...past(op)]))
      const alive = last.filter(({ op, json }) => !gone.has(op) && json !== undefined)
      t.equal(values[key] !== undefined, alive.length > 0, `seed ${seed}: ${key} is there when an admin's value stands`)
      if (alive.length === 0) continue
      t.ok(alive.some(({ json }) => json === JSON.stringify(values[key])))
      if (state.value[key] === undefined) removed++
      else if (JSON.stringify(state.value[key]) !== JSON.stringify(values[key])) overwritten++
    }
    for (const one of left) t.ok(roles[one.log] === "member" && /who may not \(member; config\/mesh network\.\*\* by admin\)/.test(one.why))
  }
  t.ok(removed > 0 && overwritten > 10, `${removed} were taken away and ${overwritten} written over by members`)
})

const sequence = (steps: ReadonlyArray<{ readonly by: number; readonly set?: Json; readonly remove?: true }>) => {
  const key = "network.lan"
  const handle = new Map([0, 1, 2].map((n) => [n, newHandle(doc, logKey(n))] as const))
  const blocks = new Map<number, number>()
  let last: Handle | undefined
  const changes = steps.map(({ by, set, remove }) => {
    const mine = handle.get(by)
    if (mine === undefined) throw new Error("who")
    if (last !== undefined && last !== mine) mine.merge(last)
    if (remove === true) mine.delete("/", key)
    else mine.put("/", key, JSON.stringify(set), "str")
    mine.commit(undefined, 1)
    last = mine
    const block = blocks.get(by) ?? 0
    blocks.set(by, block + 1)
    return { log: logKey(by), block, offset: 0, ms: 1, change: mine.getLastLocalChange() ?? new Uint8Array() }
  })
  for (const one of handle.values()) one.free()
  return { changes, writes: writesOf(doc, changes), state: stateOf(doc, changes) }
}

t.test("what a member writes over or takes away is put back, and shown", async (t) => {
  const over = sequence([{ by: 1, set: true }, { by: 2, set: false }])
  t.same(over.state.live, { "network.lan": false })
  t.match(inForce(doc, over.state, factsOf(over.writes)), { values: { "network.lan": true }, left: [{ key: "network.lan", value: false, device: logKey(2) }] })
  const away = sequence([{ by: 1, set: true }, { by: 2, remove: true }])
  t.same(away.state.live, {})
  t.match(inForce(doc, away.state, factsOf(away.writes)), { values: { "network.lan": true }, left: [{ key: "network.lan", value: undefined, device: logKey(2) }] })
  const seen = sequence([{ by: 1, set: true }, { by: 2, set: false }, { by: 0, set: 3 }])
  t.match(inForce(doc, seen.state, factsOf(seen.writes)), { values: { "network.lan": 3 }, left: [] }, "an owner who wrote over it has settled it")
  const only = sequence([{ by: 2, set: false }])
  t.match(inForce(doc, only.state, factsOf(only.writes)), { values: {}, left: [{ value: false }] })
  const unknown = inForce(doc, over.state, factsOf(over.writes, { deviceOf: (log) => log === logKey(2) ? undefined : log }))
  t.match(unknown, { values: { "network.lan": true }, left: [{ why: "who is not known here" }] })
  const faulty = { ...over.state, faults: ["something"], live: { "network.lan": false, "network.dht": 1 } }
  t.same(inForce(doc, faulty, factsOf(over.writes)).values["network.lan"], true, "of an invalid document the last valid state may hold what a member wrote")
})

t.test("a rule is about changes from then on: what stood before it stays", async (t) => {
  const { state, writes } = sequence([{ by: 1, set: true }])
  const rules = [rule("config/mesh network by admin after 2 of admin")]
  t.match(inForce(doc, state, factsOf(writes, { rules })), { values: {}, left: [{ why: /without the approval that it needs/ }] })
  t.match(inForce(doc, state, factsOf(writes, { rules, isKept: (_, at: Address) => at.log === logKey(1) && at.block === 0 })), { values: { "network.lan": true }, left: [] })
})

t.test("what was approved counts once: an old approval does not bring an old value back", async (t) => {
  const rules = [rule("config/mesh network by admin after 1 of admin")]
  const first = sequence([{ by: 1, set: 1 }, { by: 0, set: 2 }, { by: 1, set: 1 }])
  const proposals = new Map([["0", "one"], ["1", "two"], ["2", "one"]])
  const numbered = new Map([...first.writes.get("network.lan") ?? []].map((write, i) => [write.op, String(i)]))
  const proposalOf = (write: RegisterWrite) => proposals.get(numbered.get(write.op) ?? "")
  t.same(inForce(doc, first.state, factsOf(first.writes, { rules, proposalOf })).values, { "network.lan": 2 })
  // The same, pretending that it knew nothing of the second decision.
  const a = { log: logKey(0), block: 0, offset: 0, op: "1@aa", json: "1", over: [] }
  const b = { log: logKey(1), block: 0, offset: 0, op: "2@bb", json: "2", over: ["1@aa"] }
  const again = { log: logKey(2), block: 0, offset: 0, op: "9@cc", json: "1", over: [] }
  const judged = (write: RegisterWrite) => ({ allowed: true as const, group: write.json === "1" ? "one" : "two" })
  t.equal(registerInForce([a, b, again], judged).winner?.op, "2@bb")
  const twice = [a, { ...again, op: "1@cc" }]
  t.equal(registerInForce(twice, judged).winner?.json, "1", "carried out twice at once it is the same value")
  t.equal(registerInForce([...twice, b], judged).winner?.op, "2@bb", "and who writes over one has written over both")
})

t.test("reading a hostile change gives nothing, never a fault", async (t) => {
  const random = randomFrom(5)
  const { changes } = sequence([{ by: 1, set: true }])
  const [good] = changes
  if (good === undefined) return t.fail("no change")
  t.same(registerWrites(good.change, changeActor(logKey(2), doc)), [], "under another's name")
  for (let i = 0; i < 2_000; i++) {
    const bytes = Uint8Array.from(good.change)
    bytes[random(bytes.length)] = random(256)
    registerWrites(bytes.subarray(0, random(2) === 0 ? bytes.length : random(bytes.length)), changeActor(logKey(1), doc))
  }
  t.pass("2,000 damaged changes were read")
})

// --- commands

const member = (n: number, role: Role, more: Partial<Member> = {}): Member => ({
  device: device(n), name: `node${n}`, role, since: "", by: "", ms: 0, standing: "member", granted: { hash: "", by: "", ms: 0 }, logs: [], ...more
})
const meshOf = (...members: ReadonlyArray<Member>): Membership => ({
  id: "", name: "hill", members: new Map(members.map((one) => [one.device, one])), invites: new Map(), devices: new Map(), void: [], epochs: [], threshold: 1, recovery: undefined,
  operations: 0, waiting: 0, heads: []
} as Partial<Membership> as Membership)
const change = (doc: string, key: string, value: Json): DocumentChange => ({ doc, edits: [{ _tag: "Set", key, json: JSON.stringify(value) }], paths: [key], summary: `set ${key}` })
const policy = (...rules: ReadonlyArray<Rule>): Policy => ({ rules, setBy: () => "alpha" })

t.test("a command against a rule is refused with a sentence that names the rule and who set it", async (t) => {
  const mesh = meshOf(member(1, "owner"), member(2, "admin"), member(3, "member"), member(4, "reader"), member(5, "member", { standing: "revoked", revoked: { hash: "", by: device(1), ms: 1_777_593_600_000, reason: "lost" } }))
  const of = (n: number, what: DocumentChange, ...rules: ReadonlyArray<Rule>) => mayChange(mesh, device(n), [what], policy(...rules))
  t.match(of(3, change(doc, "network.lan", false)), { kind: "policy", detail: "network.lan for the whole mesh is changed by admins only, by the built-in rule \"config/mesh network.** by admin\"; this node is a member" })
  t.match(of(2, change(doc, "network.lan", false)), { _tag: "Allowed" })
  t.match(of(3, change("config/mesh/user.pump", "user.pump.speed", 3), rule("config user.pump by owner", "policy.rules.pump")), { kind: "policy", detail: /by the rule policy\.rules\.pump "config user\.pump by owner", set by alpha; this node is a member/, hint: "kos config explain policy.rules.pump" })
  t.match(of(3, change(`config/node:${device(1)}/log`, "log.level", "debug")), { kind: "policy" })
  t.match(of(3, change(`config/node:${device(3)}/network`, "network.lan", false)), { _tag: "Allowed" })
  t.match(of(4, change(`config/node:${device(4)}/log`, "log.level", "debug")), { kind: "denied", detail: /reader of the mesh/ })
  t.match(of(5, change("memory/a/b", "text", "")), { kind: "denied", detail: "this node was revoked from hill by node1 on 2026-05-01: lost" })
  t.match(mayTouch(mesh, device(3), "vault", "wifi", policy(rule("vault wifi by admin"))), { kind: "policy", detail: /^vault wifi is changed by admins only/ })
  t.match(mayTouch(mesh, device(3), "vault", "other", policy(rule("vault wifi by admin"))), { _tag: "Allowed" })
})

t.test("approvals are asked for, and a rule that nobody could fulfil is not set", async (t) => {
  const mesh = meshOf(member(1, "owner"), member(2, "admin"), member(6, "admin"), member(3, "member"))
  const two = rule("config/mesh network by member after 2 of admin", "policy.rules.net")
  t.match(mayChange(mesh, device(3), [change(doc, "network.lan", false)], policy(two)), { _tag: "NeedsApproval", why: /2 approvals of admins by the rule policy\.rules\.net/ })
  t.match(mayChange(meshOf(member(1, "owner"), member(2, "admin")), device(2), [change(doc, "network.lan", false)], policy(two)), { kind: "policy", detail: /only 1 other node has that right/ })
  const set = (text: string) => change("config/mesh/policy", "policy.rules.x", text)
  t.match(mayChange(mesh, device(2), [set("config network by admin after 2 of admin")], policy()), { _tag: "Allowed" })
  const never = mayChange(mesh, device(2), [set("config network by admin after 3 of admin")], policy())
  t.match(never, { kind: "policy", detail: /beside who proposes; only 3 nodes have that right, so nobody could fulfil it/ })
  t.ok(never instanceof Refusal && isRefusal(never))
  t.match(mayChange(mesh, device(2), [set("config network by member after 3 of admin")], policy()), { _tag: "Allowed" }, "a member can propose it")
  t.match(mayChange(mesh, device(2), [set("memory x by admin after 3 of admin")], policy()), { kind: "usage" })
  const locked = rule("config/mesh policy by admin after 1 of owner", "policy.rules.lock")
  t.match(mayChange(mesh, device(2), [set("config log by admin")], policy(locked)), { _tag: "NeedsApproval" })
  t.match(mayChange(mesh, device(1), [set("config log by admin")], policy(locked)), { _tag: "Allowed" }, "the only owner can still change the rules")
})

t.test("the table of settings knows rules", async (t) => {
  t.ok(settings.some(({ path }) => path === "policy.rules.*"))
})
