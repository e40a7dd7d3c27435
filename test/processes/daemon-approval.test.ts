/** Three daemons: who may change what, approvals by two admins over sync and apart, and what an admin wrote who was none any more. */
import t, { type Test } from "tap"
import { homesOf, joinMesh, testNode, type TestNode } from "../daemon-process.ts"

t.setTimeout(150_000)

const apart = async (...nodes: ReadonlyArray<TestNode>): Promise<void> => {
  for (const node of nodes) await node.ask("mesh.mode", ["isolated"])
}
const together = async (...nodes: ReadonlyArray<TestNode>): Promise<void> => {
  for (const node of nodes) await node.ask("mesh.mode", ["joined"])
  for (const node of nodes) await node.ask("wait", ["synced", "--timeout", "40"])
}

const three = async (t: Test) => {
  const directory = homesOf(t)
  const [alpha, beta, gamma] = ["alpha", "beta", "gamma"].map((name) => testNode(t, directory, { name })) as [TestNode, TestNode, TestNode]
  await Promise.all([alpha.start(), beta.start(), gamma.start()])
  await joinMesh(alpha, beta)
  await joinMesh(alpha, gamma)
  await alpha.ask("node.role", ["beta", "admin"])
  for (const node of [beta, gamma]) await node.until("node.list", [], (rows) => rows.find(({ name }) => name === "beta")?.role === "admin")
  return { alpha, beta, gamma }
}

const value = async (node: TestNode, path: string) => (await node.ask("config.get", [path])).value

t.test("a member's change waits for two admins and then holds everywhere; a denial closes; approvals given apart are enough when they meet", async (t) => {
  const { alpha, beta, gamma } = await three(t)

  const refused = await gamma.refused(["config", "set", "invite.expires", "2d", "--layer", "mesh"])
  t.match(refused, { code: 9, kind: "policy", detail: /invite\.expires for the whole mesh is changed by admins only, by the built-in rule "config\/mesh invite\.\*\* by admin"; this node is a member/ })
  t.match(await gamma.refused(["config", "set", "policy.rules.mine", "config/mesh ** by member", "--layer", "mesh"]), { code: 9, kind: "policy" })

  t.match(await alpha.refused(["config", "set", "policy.rules.health", "config/mesh health by member after 3 of admin", "--layer", "mesh"]), { code: 9, detail: /only 2 nodes have that right, so nobody could fulfil it/ })
  t.match(await alpha.refused(["config", "set", "policy.rules.health", "everybody may", "--layer", "mesh"]), { code: 2, detail: /expected a rule such as/ })
  await gamma.ask("config.set", ["health.interval", "7m", "--layer", "mesh"])
  await alpha.until("config.get", ["health.interval"], (got) => got.value === "7m")
  await alpha.ask("config.set", ["policy.rules.health", "config/mesh health by member after 2 of admin", "--layer", "mesh"])
  const shown = await gamma.until("config.explain", ["health.interval"], ({ policy }) => policy.approvals === 2)
  t.match(shown.policy, { may: "member", approvals: 2, by: "admin", rule: "policy.rules.health: config/mesh health by member after 2 of admin", setBy: { node: "alpha" } })
  t.equal(shown.value, "7m", "what stood before the rule stays")
  t.match((await gamma.run(["config", "explain", "health.interval"])).out, /policy\.rules\.health: config\/mesh health by member after 2 of admin, set by alpha/)

  const pending = await gamma.refused(["config", "set", "health.interval", "1m", "--layer", "mesh"])
  t.match(pending, { code: 8, kind: "pending", detail: /not yet, it needs 2 approvals of admins by the rule policy\.rules\.health .* set by alpha; it was proposed as / })
  const id = /proposed as (\S+)$/.exec(pending.detail)?.[1] ?? ""
  t.equal(await value(gamma, "health.interval"), "7m")
  t.match(await beta.until("approval.list", [], (rows) => rows.length === 1), [{ id, state: "open", has: 0, needs: 2, by: "admin", asked: { node: "gamma" } }])
  t.match(await beta.ask("approval.show", [id]), { edits: [{ document: "config/mesh/health", path: "health.interval", before: "7m", after: "1m" }], given: [], effect: null })
  t.match(await gamma.refused(["approval", "allow", id]), { code: 9, detail: /nobody approves their own proposal/ })
  const token = `ghp_${"a1B2".repeat(9)}`
  t.match(await beta.refused(["approval", "allow", id, "--reason", token]), { code: 9, detail: /approval\.given\/1\.reason holds a GitHub token; events keep no secrets/ })
  t.match(await beta.refused(["approval", "deny", token]), { code: 4 })
  const told = (await beta.ask("event.list", ["--type", "command.refused/1"])).map(({ summary }) => summary).join("\n")
  t.ok(told.includes("(a GitHub token)") && !told.includes(token), "what was refused is told without it")
  t.match(await beta.ask("approval.allow", [id, "--reason", "yes"]), { id, state: "open", has: 1 })
  t.match(await alpha.until("approval.show", [id], ({ has }) => has === 1), { given: [{ verdict: "allow", reason: "yes", counts: true, by: { node: "beta" } }] })
  t.match(await alpha.ask("approval.allow", [id]), { state: "done", has: 2, summary: /it takes effect/ })
  for (const node of [alpha, beta, gamma]) {
    t.equal((await node.until("config.get", ["health.interval"], (got) => got.value === "1m")).value, "1m")
    const done = await node.until("approval.show", [id], ({ state }) => state === "done")
    t.equal(done.effect?.node, "alpha")
    t.equal((await node.ask("event.show", [done.effect?.address ?? ""])).cause.length, 3, "the change names the proposal and both approvals")
    t.same(await node.ask("approval.list"), [])
    t.same(await node.ask("config.conflicts", ["--all"]), [])
  }
  t.match((await beta.run(["approval", "list", "--all"])).out, new RegExp(`${id}[\\s\\S]*2 of 2`))

  const second = /proposed as (\S+)$/.exec((await gamma.refused(["config", "set", "health.interval", "2m", "--layer", "mesh"])).detail)?.[1] ?? ""
  await beta.until("approval.list", [], (rows) => rows.length === 1)
  await beta.ask("approval.deny", [second, "--reason", "too seldom"])
  await gamma.until("approval.show", [second], ({ state }) => state === "denied")
  await alpha.until("approval.show", [second], ({ state }) => state === "denied")
  t.match(await alpha.refused(["approval", "allow", second]), { code: 6, detail: /was denied/ })

  const third = /proposed as (\S+)$/.exec((await gamma.refused(["config", "set", "health.interval", "3m", "--layer", "mesh"])).detail)?.[1] ?? ""
  for (const node of [alpha, beta]) await node.until("approval.list", [], (rows) => rows.some(({ id: other }) => other === third))
  await apart(alpha, beta, gamma)
  for (const node of [alpha, beta]) t.match(await node.ask("approval.allow", [third]), { state: "open", has: 1 })
  await together(alpha, beta, gamma)
  for (const node of [alpha, beta, gamma]) t.equal((await node.until("config.get", ["health.interval"], (got) => got.value === "3m")).value, "3m", "nobody had to say it again")
  for (const node of [alpha, beta, gamma]) t.ok((await node.ask("doctor", ["--rebuild"], { codes: [0, 10] })).rebuild?.equal)
})

t.test("what was written by one who may not is shown, does not hold, and can be settled", async (t) => {
  const { alpha, beta, gamma } = await three(t)
  await alpha.ask("config.set", ["invite.expires", "3d", "--layer", "mesh"])
  await beta.until("config.get", ["invite.expires"], (got) => got.value === "3d")
  await apart(alpha, beta, gamma)
  await beta.ask("config.set", ["invite.expires", "9d", "--layer", "mesh"])
  t.equal(await value(beta, "invite.expires"), "9d")
  await alpha.ask("node.role", ["beta", "member"])
  await together(alpha, beta, gamma)
  for (const node of [alpha, beta, gamma]) {
    t.equal((await node.until("config.get", ["invite.expires"], (got) => got.value === "3d")).value, "3d", "the last value of one who may")
    const explained = await node.until("config.explain", ["invite.expires"], ({ refused }) => refused.length === 1)
    t.match(explained.refused, [{ value: "9d", by: { node: "beta" }, why: /^set by beta, who may not \(member; .*\): not in force$/ }])
    t.match((await node.run(["config", "explain", "invite.expires"])).out, /"9d" set by beta, who may not/)
  }
  const [conflict] = await alpha.ask("config.conflicts")
  t.match(conflict, { path: "invite.expires", refused: /set by beta, who may not/, values: [{ choice: 1, value: "9d", winner: false }, { choice: 2, value: "3d", winner: true }] })
  t.match(await beta.refused(["config", "resolve", conflict?.id ?? "", "1"]), { code: 9 })
  await alpha.ask("config.resolve", [conflict?.id ?? "", "1"])
  for (const node of [alpha, beta, gamma]) {
    t.equal((await node.until("config.get", ["invite.expires"], (got) => got.value === "9d")).value, "9d")
    t.same(await node.until("config.conflicts", [], (rows) => rows.length === 0), [])
  }
})

t.test("a reader says what happens to itself and changes nothing; a revoked node is told by whom; a rule about pages and agents holds at the command", async (t) => {
  const { alpha, beta, gamma } = await three(t)
  await alpha.ask("config.set", ["policy.rules.minutes", "memory minutes by admin", "--layer", "mesh"])
  await gamma.until("config.explain", ["policy.rules.minutes"], (shown) => shown.value !== "")
  t.match(await gamma.refused(["memory", "add", "minutes/may", "We met."]), { code: 9, detail: /memory\/minutes\/may is changed by admins only, by the rule policy\.rules\.minutes "memory minutes by admin", set by alpha/ })
  await gamma.ask("memory.add", ["notes/may", "We met."])
  await beta.ask("memory.add", ["minutes/may", "We met."])

  await alpha.ask("node.role", ["gamma", "reader"])
  await gamma.until("mesh.show", [], ({ role }) => role === "reader")
  const before = (await gamma.ask("status", [], { codes: [0, 10] })).events.own
  t.match(await gamma.refused(["config", "set", "user.garden.pump", "3"]), { code: 5, detail: /this node is a reader of the mesh: it reads everything and writes nothing/ })
  t.match(await gamma.refused(["memory", "add", "notes/may", "More."]), { code: 5 })
  await gamma.ask("sync.pause")
  await gamma.ask("sync.resume")
  await gamma.ask("node.name", ["garden"])
  t.ok((await gamma.ask("status", [], { codes: [0, 10] })).events.own > before, "what happens to itself is in its log")
  await alpha.until("node.list", [], (rows) => rows.some(({ name, role }) => name === "garden" && role === "reader"))

  await alpha.ask("node.role", ["beta", "seeder"])
  await beta.until("mesh.show", [], ({ role }) => role === "seeder")
  const length = async () => (await beta.ask("node.show")).logs.reduce((sum, log) => sum + log.length, 0)
  const written = await length()
  t.match(await beta.refused(["config", "set", "user.garden.pump", "3"]), { code: 5, detail: /this node is a seeder of the mesh/ })
  t.match(await beta.ask("sync.pause"), { events: [] }, "it is done, and said to nobody")
  await beta.ask("sync.resume")
  await beta.ask("node.name", ["keeper"])
  t.equal(await length(), written, "a seeder appends nothing")
  t.ok((await alpha.until("node.list", [], (rows) => rows.some(({ name }) => name === "keeper"))).some(({ name }) => name === "keeper"), "what it says of its membership travels in the session")

  await alpha.ask("node.revoke", ["garden", "--reason", "lost on the train"])
  const told = await gamma.until("mesh.show", [], ({ members }) => members.some(({ self, standing }) => self && standing === "revoked"))
  if (!told.members.some(({ self, standing }) => self && standing === "revoked")) return t.fail("the revoked node never heard of it")
  t.match(await gamma.refused(["memory", "add", "notes/may", "More."]), { code: 5, detail: /^this node was revoked from hill by alpha on \d{4}-\d\d-\d\d: lost on the train$/ })
})
