/** Real daemons in several meshes: commands go to the right one, and nothing of one can be found in the other. */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import t, { type Test } from "tap"
import { eventually, homesOf, joinMesh, testNode, type TestNode } from "../daemon-process.ts"

t.setTimeout(160_000)

/** All bytes of all files below a directory, by path. */
const filesBelow = (directory: string): ReadonlyArray<readonly [string, Buffer]> => readdirSync(directory, { recursive: true, encoding: "utf8" })
  .map((name) => `${directory}/${name}`).filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true).map((path) => [path, readFileSync(path)] as const)

/** Where any of the words or keys stands, as text or as bytes. */
const findings = (directory: string, texts: ReadonlyArray<string>): ReadonlyArray<string> => {
  const needles = texts.flatMap((text) => /^[0-9a-f]{16,64}$/.test(text) ? [Buffer.from(text), Buffer.from(text.slice(0, 16), "hex")] : [Buffer.from(text)])
  return filesBelow(directory).flatMap(([path, bytes]) => needles.filter((needle) => bytes.includes(needle)).map((needle) => `${path}: ${needle.toString("latin1")}`))
}

const meshDirectory = (node: TestNode, id: string) => `${node.home}/mesh/${id.slice(0, 16)}`

/** Everything that a member reads of the events of its mesh. */
const eventsText = async (node: TestNode, args: ReadonlyArray<string>): Promise<string> => JSON.stringify(await node.lines("event.export", args))

/** A home that is in hill with ann, and in grove with ben. */
const inTwo = async (t: Test): Promise<{ readonly ann: TestNode; readonly ben: TestNode; readonly both: TestNode; readonly hill: string; readonly grove: string }> => {
  const directory = homesOf(t)
  const [ann, ben, both] = ["annahome", "benhome", "twofold"].map((name) => testNode(t, directory, { name })) as [TestNode, TestNode, TestNode]
  await Promise.all([ann.start(), ben.start(), both.start()])
  await joinMesh(ann, both, "hillmesh")
  await ben.ask("mesh.create", ["grovemesh"])
  const { invite } = await ben.ask("invite.create")
  const joined = await both.ask("join", [invite, "--timeout", "30", "--name", "visitor"])
  t.match(joined, { mesh: { name: "grovemesh" }, members: 2, summary: /joined grovemesh, beside hillmesh; commands go there with --mesh grovemesh/ })
  await both.ask("wait", ["synced", "--mesh", "grovemesh", "--timeout", "30"])
  return { ann, ben, both, hill: (await ann.ask("mesh.show")).id, grove: joined.mesh.id }
}

t.test("one home in two meshes: each command goes to the mesh that it names", async (t) => {
  const { ann, ben, both, hill, grove } = await inTwo(t)
  const list = await both.ask("mesh.list")
  t.match(list, [{ id: hill, name: "hillmesh", default: true, role: "member", members: 2, inTouch: 2 }, { id: grove, name: "grovemesh", default: false, role: "member", members: 2, inTouch: 2 }])
  const [inHill, inGrove] = list.map(({ device }) => device ?? "")
  t.equal(inHill, both.announced.device, "the first mesh has the home's device key")
  t.not(inHill, inGrove, "each mesh has a device key of its own")
  t.equal((await both.ask("status")).mesh.name, "hillmesh")
  t.equal((await both.ask("status", ["--mesh", "grovemesh"])).node.name, "visitor")
  t.equal((await both.ask("status", ["--mesh", grove.slice(0, 8)])).mesh.id, grove)
  t.equal((await both.ask("status", [], { env: { KOS_MESH: "GroveMesh" } })).mesh.id, grove)
  t.match((await both.run(["status"])).out, /beside +grovemesh, 2 members, 2 in touch/)
  t.match(await both.refused(["status", "--mesh", "grovmesh"]), { code: 4, kind: "not-found", detail: /did you mean grovemesh/ })
  t.match(await both.refused(["status", "--mesh", "elsewhere"]), { code: 4, detail: /hillmesh \([0-9a-f]{8}\), grovemesh \([0-9a-f]{8}\)/ })

  await both.ask("memory.add", ["notes/of-hill", "Only for hillfolk."])
  await both.ask("memory.add", ["notes/of-grove", "Only for grovefolk.", "--mesh", "grovemesh"])
  await ann.ask("config.set", ["user.hillpump.speed", "3", "--layer", "mesh"])
  await ann.until("memory.list", [], (pages) => pages.length === 1)
  await ben.until("memory.list", [], (pages) => pages.length === 1)
  t.same((await ann.ask("memory.list")).map(({ page }) => page), ["notes/of-hill"])
  t.same((await ben.ask("memory.list")).map(({ page }) => page), ["notes/of-grove"])
  await both.until("config.show", ["user", "--layer", "mesh"], ({ values }) => JSON.stringify(values).includes("3"))
  t.notMatch(JSON.stringify((await both.ask("config.show", ["user", "--layer", "mesh", "--mesh", "grovemesh"])).values), /hillpump/)

  // Ids, device and log keys, names and words of one mesh; the name of the home itself was not told to grove.
  const hillWords = [hill, "hillmesh", "annahome", "twofold", "hillfolk", "hillpump", ann.announced.device, inHill ?? "", (await both.ask("status")).node.log, (await ann.ask("status")).node.log]
  const groveWords = [grove, "grovemesh", "benhome", "visitor", "grovefolk", ben.announced.device, inGrove ?? "", (await both.ask("status", ["--mesh", "grovemesh"])).node.log, (await ben.ask("status")).node.log]
  const texts = { hill: await eventsText(both, []), grove: await eventsText(both, ["--mesh", "grovemesh"]) }
  for (const word of hillWords.slice(1)) t.notOk(texts.grove.includes(word), `no event of grove says ${word}`)
  for (const word of groveWords.slice(1)) t.notOk(texts.hill.includes(word), `no event of hill says ${word}`)
  t.ok(texts.hill.includes("annahome") && texts.grove.includes("benhome"), "the search finds what is there")
  for (const node of [ann, ben, both]) await node.stop()
  t.same(findings(ben.home, hillWords), [], "nothing of hill is in the home of somebody of grove")
  t.same(findings(ann.home, groveWords), [], "nothing of grove is in the home of somebody of hill")
  // RocksDB's own log names the directory of the home, which is called twofold.
  t.same(findings(meshDirectory(both, grove), hillWords.filter((word) => word !== "twofold")), [])
  t.same(findings(meshDirectory(both, hill), groveWords), [])
  t.ok(findings(meshDirectory(both, hill), hillWords).length > 0, "the search finds what is there")
  await both.start({ isolated: true })
  t.match(await both.ask("mesh.list"), [{ id: hill, default: true, device: inHill }, { id: grove, device: inGrove }], "after a restart it is in both, as it was")
})

t.test("the default is chosen, one mesh is left, and the last one gives way to a mesh of its own", async (t) => {
  const { ann, ben, both, grove } = await inTwo(t)
  t.match(await both.ask("mesh.use", ["grovemesh"]), { id: grove })
  t.equal((await both.ask("mesh.show")).name, "grovemesh")
  t.match(await both.ask("mesh.create", ["allotments", "--another"]), { name: "allotments" })
  t.match(await both.refused(["mesh", "create", "Allotments", "--another"]), { code: 6 })
  t.match(await both.ask("mesh.list"), [{ name: "grovemesh", default: true }, { name: "hillmesh" }, { name: "allotments", role: "owner", members: 1 }])
  const again = await ben.ask("invite.create")
  t.match(await both.refused(["join", again.invite]), { code: 6, detail: /in grovemesh already/ })
  t.match(await both.refused(["join", again.words, "--mesh", "allotments", "--timeout", "5"]), { code: 5, detail: /in grovemesh already/ }, "words do not say which mesh it is")
  t.equal((await ben.ask("node.list")).length, 2, "and no second device came in")
  t.match(await both.ask("leave", ["--mesh", "allotments"]), { summary: /left allotments.*commands go to grovemesh/ })
  t.match(await both.ask("leave"), { summary: /left grovemesh.*commands go to hillmesh/ })
  t.equal((await both.ask("mesh.show")).name, "hillmesh")
  t.match(await both.refused(["status", "--mesh", "grovemesh"]), { code: 4 })
  await ben.until("node.list", ["--all"], (rows) => rows.some(({ standing }) => standing === "left"))
  t.ok(await eventually(async () => (await ann.ask("status")).peers.every(({ inTouch }) => inTouch)), "hill is still in touch")
  t.match(await both.ask("leave", ["--force"]), { summary: /a mesh of its own again/ })
  t.match(await both.ask("mesh.list"), [{ default: true, members: 1, role: "owner", device: both.announced.device }])
  await both.stop()
  await both.start({ isolated: true })
  t.equal((await both.ask("mesh.list")).length, 1)
})

t.test("a mesh that cannot be opened keeps its place and its reason, and the others run", async (t) => {
  const node = await testNode(t, homesOf(t), { name: "many", isolated: true }).start()
  const [first] = await node.ask("mesh.list")
  const made = await node.ask("mesh.create", ["allotments", "--another"])
  await node.ask("memory.add", ["notes/plot", "beans", "--mesh", "allotments"])
  await node.stop()
  const key = `${meshDirectory(node, made.id)}/keys/mesh`
  const kept = readFileSync(key)
  writeFileSync(key, "short")
  await node.start()
  t.match(await node.ask("mesh.list"), [{ id: first?.id, default: true, members: 1 }, { id: made.id, name: "allotments", fault: /keys\/mesh has 5 bytes/ }])
  t.match(await node.refused(["memory", "list", "--mesh", "allotments"]), { code: 10, kind: "degraded", detail: /allotments could not be opened: .*5 bytes/ })
  t.match(await node.refused(["mesh", "use", "allotments"]), { code: 10 })
  t.match((await node.run(["status"])).out, /beside +allotments could not be opened/)
  t.match(JSON.parse((await node.get("/readyz")).text), { ready: true, checks: [{}, {}, {}, { name: "mesh allotments", ok: false }] })
  await node.stop()
  writeFileSync(key, kept)
  const firstKey = `${meshDirectory(node, first?.id ?? "")}/keys/mesh`
  const firstKept = readFileSync(firstKey)
  writeFileSync(firstKey, "short")
  await node.start()
  t.match(await node.refused(["memory", "list"]), { code: 10, detail: /many could not be opened/ }, "a call that names no mesh goes to the default one or nowhere")
  t.equal((await node.ask("memory.show", ["notes/plot", "--mesh", "allotments"])).text, "beans")
  t.match(await node.ask("mesh.list"), [{ id: first?.id, fault: /5 bytes/ }, { id: made.id, members: 1 }])
  t.match(await node.ask("mesh.use", ["allotments"]), { id: made.id })
  t.equal((await node.ask("memory.show", ["notes/plot"])).text, "beans")
  await node.stop()
  writeFileSync(firstKey, firstKept)
  await node.start()
  t.match(await node.ask("mesh.list"), [{ id: made.id, default: true, members: 1 }, { id: first?.id, members: 1 }])
})
