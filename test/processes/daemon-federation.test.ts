/** Two meshes of two nodes each share names through a federation, until one side ends it. */
import t from "tap"
import { eventually, homesOf, joinMesh, testNode, type TestNode } from "../daemon-process.ts"

t.setTimeout(160_000)

const namesAt = async (node: TestNode): Promise<ReadonlyArray<string>> => (await node.ask("node.list", ["--federated"])).map(({ name }) => name)

t.test("names of another mesh are seen by every member, nothing else is, and either side ends it", async (t) => {
  const directory = homesOf(t)
  const [ann, abe, ben, bea] = ["ann", "abe", "ben", "bea"].map((name) => testNode(t, directory, { name })) as [TestNode, TestNode, TestNode, TestNode]
  await Promise.all([ann.start(), abe.start(), ben.start(), bea.start()])
  await Promise.all([joinMesh(ann, abe, "hill"), joinMesh(ben, bea, "grove")])
  await ann.ask("config.set", ["services.weather.target", "127.0.0.1:8080"])
  await ann.ask("config.set", ["services.weather.allow", '["role:member","federated"]'])
  await ann.ask("config.set", ["services.ledger.target", "127.0.0.1:8081"])
  await ann.ask("config.set", ["services.ledger.allow", '["all"]'])

  t.match(await abe.refused(["mesh", "federate", "--share", "names"]), { code: 5, detail: /only admins and owners federate/ })
  t.match(await ann.refused(["mesh", "federate", "--share", "names,keys"]), { code: 2, detail: /keys cannot be shared/ })
  t.match(await ann.refused(["mesh", "federate", "--list", "--share", "names"]), { code: 2 })
  const plain = await ben.ask("invite.create")
  t.match(await ann.refused(["mesh", "federate", plain.invite, "--share", "names"]), { code: 6, detail: /an invite to a mesh, not to a federation/ })
  t.equal((await ann.ask("mesh.list")).length, 1, "and that mesh was left again")

  const begun = await ann.ask("mesh.federate", ["--share", "names,threats"])
  t.match(begun, { invite: /^kos-invite/, federations: [{ state: "open", with: [], bridge: true, shares: [{ kind: "names", things: 2 }, { kind: "threats", things: 0, note: "nothing to share yet" }] }] })
  const taken = await ben.ask("mesh.federate", [begun.invite ?? "", "--share", "names"])
  t.match(taken, { federations: [{ bridge: true, shares: [{ kind: "names", things: 2 }] }] })
  t.match(await ben.ask("mesh.list"), [{ name: "grove", default: true, federation: false }, { name: "hill federation", federation: true, members: 2 }])

  for (const node of [ben, bea]) {
    const rows = await node.until("node.list", ["--federated"], (all) => all.length === 2)
    t.same(rows.map(({ name, device, services }) => [name, device, services]), [["abe.hill", abe.announced.device, []], ["ann.hill", ann.announced.device, ["weather"]]])
  }
  for (const node of [ann, abe]) {
    const rows = await node.until("node.list", ["--federated"], (all) => all.length === 2)
    t.same(rows.map(({ name, device }) => [name, device]), [["bea.grove", bea.announced.device], ["ben.grove", ben.announced.device]])
  }
  t.match(await bea.ask("mesh.federate", ["--list"]), { federations: [{ with: [{ name: "hill", shares: ["names", "threats"] }], received: 2, bridge: false, begun: { node: "ben" } }] })
  t.match((await abe.run(["node", "list", "--federated"])).out, /ben\.grove/)
  t.match((await bea.run(["mesh", "federate", "--list"])).out, /hill +[0-9a-f]{8} +open +names \(2\) +names, threats +2/)

  await abe.ask("node.name", ["abraham"])
  const renamed = await bea.until("node.list", ["--federated"], (all) => all.some(({ name }) => name === "abraham.hill"))
  t.same(renamed.map(({ name }) => name), ["abraham.hill", "ann.hill"], "what changed is shared anew, and only that is there")
  t.notOk((await bea.ask("node.list")).some(({ name }) => name.includes("hill")), "nobody became a member by it")
  const told = JSON.stringify([...await bea.lines("event.export", []), ...await ben.lines("event.export", ["--mesh", "hill federation"])])
  for (const word of ["ledger", "127.0.0.1:808", "role:member"]) t.notOk(told.includes(word), `${word} was told to nobody`)
  t.ok(told.includes("weather"), "the search finds what is there")

  t.match(await bea.refused(["mesh", "federate", "--end", "hill"]), { code: 5 })
  t.match(await ben.refused(["mesh", "federate", "--end", "dale"]), { code: 4 })
  t.match(await ben.ask("mesh.federate", ["--end", "hill"]), { summary: /the federation with hill has ended/, federations: [{ state: "ended" }] })
  for (const node of [ann, abe, ben, bea]) t.ok(await eventually(async () => (await namesAt(node)).length === 0), "what was received is shown no more")
  for (const node of [ann, abe, ben, bea]) t.match(await node.until("mesh.federate", ["--list"], ({ federations }) => federations[0]?.state === "ended"), { federations: [{ state: "ended" }] })
  for (const node of [ann, ben]) t.ok(await eventually(async () => (await node.ask("mesh.list")).length === 1), "the bridge has left it")
  for (const node of [ann, ben]) t.ok((await node.ask("doctor", ["--rebuild"], { codes: [0, 10] })).rebuild?.equal)
})

t.test("two meshes that wish so find each other by themselves, once; a third that does not stays alone", async (t) => {
  const directory = homesOf(t)
  const [ann, ben, zoe] = ["ann", "ben", "zoe"].map((name) => testNode(t, directory, { name })) as [TestNode, TestNode, TestNode]
  await Promise.all([ann.start(), ben.start(), zoe.start()])
  for (const [node, name] of [[ann, "hill"], [ben, "grove"], [zoe, "dale"]] as const) await node.ask("mesh.create", [name])
  for (const node of [ann, ben]) await node.ask("config.set", ["mesh.autopeer", "true", "--layer", "mesh"])
  t.ok(await eventually(async () => (await namesAt(ann)).includes("ben.grove") && (await namesAt(ben)).includes("ann.hill")), "each sees the names of the other")
  const open = async (node: TestNode) => (await node.ask("mesh.federate", ["--list"])).federations.filter(({ state, with: others }) => state === "open" && others.length > 0)
  t.ok(await eventually(async () => {
    const [here, over] = [await open(ann), await open(ben)]
    return here.length === 1 && over.length === 1 && here[0]?.id === over[0]?.id
  }), "when both came at once, one of the two is ended")
  t.same(await namesAt(ann), ["ben.grove"])
  t.same(await namesAt(zoe), [])
  t.equal((await zoe.ask("mesh.list")).length, 1)
  t.ok(await eventually(async () => {
    for (const { id } of await open(ann)) await ann.run(["mesh", "federate", "--end", id])
    return (await namesAt(ben)).length === 0 && (await namesAt(ann)).length === 0
  }), "a person ends it")
})
