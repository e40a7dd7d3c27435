/** Two daemons that change things apart and meet: conflicts, documents that are invalid together, a stick between nodes that never meet, proofs. */
import { execFileSync } from "node:child_process"
import { readFileSync, statSync, writeFileSync } from "node:fs"
import { resolve } from "node:path"
import t, { type Test } from "tap"
import { homesOf, joinMesh, testNode, type TestNode } from "./daemon-process.ts"

t.setTimeout(110_000)

const pair = async (t: Test): Promise<{ readonly alpha: TestNode; readonly beta: TestNode; readonly directory: string }> => {
  const directory = homesOf(t)
  const alpha = testNode(t, directory, { name: "alpha" })
  const beta = testNode(t, directory, { name: "beta" })
  await Promise.all([alpha.start(), beta.start()])
  await joinMesh(alpha, beta)
  return { alpha, beta, directory }
}

const apart = async (...nodes: ReadonlyArray<TestNode>): Promise<void> => {
  for (const node of nodes) await node.ask("mesh.mode", ["isolated"])
}

const together = async (...nodes: ReadonlyArray<TestNode>): Promise<void> => {
  for (const node of nodes) await node.ask("mesh.mode", ["joined"])
  for (const node of nodes) await node.ask("wait", ["synced", "--timeout", "40"])
  for (const node of nodes) await node.until("status", [], (status) => status.peers.every(({ inTouch, waiting, behind }) => inTouch && waiting === 0 && behind === 0))
}

t.test("a true conflict is shown once with both authors, and settling it settles it everywhere", async (t) => {
  const { alpha, beta } = await pair(t)
  await alpha.ask("config.set", ["user.pump.speed", "3", "--layer", "mesh"])
  await alpha.ask("memory.add", ["notes/todo", "Oil the door."])
  await beta.until("config.show", ["user", "--layer", "mesh"], ({ values }) => JSON.stringify(values).includes("3"))
  await beta.until("memory.list", [], (pages) => pages.length === 1)
  await apart(alpha, beta)
  t.match((await alpha.run(["status"])).out, /Isolated from 1 other node/)
  await alpha.ask("config.set", ["user.pump.speed", "4", "--layer", "mesh", "--as", "person:Ann"])
  await beta.ask("config.set", ["user.pump.speed", "5", "--layer", "mesh", "--as", "person:Ben"])
  // The same on both is no conflict; neither is what both add to one text.
  for (const node of [alpha, beta]) await node.ask("config.set", ["user.pump.name", "main", "--layer", "mesh"])
  await alpha.ask("memory.add", ["notes/todo", "Ann was here."])
  await beta.ask("memory.add", ["notes/todo", "Ben was here."])
  const waiting = await alpha.ask("status", [], { codes: [0, 10] })
  t.ok((waiting.peers[0]?.waiting ?? 0) >= 4, "what waits for the other is counted")
  await together(alpha, beta)
  const seen = []
  for (const node of [alpha, beta]) {
    const conflicts = await node.ask("config.conflicts", ["--all"])
    t.equal(conflicts.length, 1, "listed once")
    const [conflict] = conflicts
    t.match(conflict, { path: "user.pump.speed", document: "config/mesh/user" })
    t.same(conflict?.values.map(({ value, by }) => [value, by.actor, by.node]).toSorted(), [[4, "person:Ann", "alpha"], [5, "person:Ben", "beta"]], "with who and on which node")
    t.equal(conflict?.values.filter(({ winner }) => winner).length, 1)
    seen.push({ id: conflict?.id, winner: conflict?.values.find(({ winner }) => winner)?.value, got: (await node.ask("config.get", ["user.pump.speed"])).value })
    const { text } = await node.ask("memory.show", ["notes/todo"])
    t.ok(text.includes("Ann was here.") && text.includes("Ben was here.") && text.includes("Oil the door."), "both texts are kept")
    t.equal((await node.ask("status")).conflicts, 1)
    t.match((await node.run(["status"])).out, /One conflict waits for a decision[\s\S]*Next: kos config conflicts/)
    t.match((await node.run(["config", "conflicts"])).out, /person:Ann|Ann/)
    t.equal((await node.ask("config.explain", ["user.pump.speed"])).conflict?.id, conflict?.id)
  }
  t.same(seen[0], seen[1], "both agree on the value meanwhile, and on the conflict's name")
  const settled = await alpha.ask("config.resolve", ["user.pump.speed", "--text", "6"])
  t.match(settled, { path: "user.pump.speed", value: 6 })
  await beta.until("config.conflicts", ["--all"], (conflicts) => conflicts.length === 0)
  for (const node of [alpha, beta]) {
    t.same(await node.ask("config.conflicts", ["--all"]), [])
    t.equal((await node.ask("config.get", ["user.pump.speed"])).value, 6)
  }
  t.match(await alpha.refused(["config", "resolve", "user.pump.speed", "1"]), { code: 4 })
})

t.test("two edits that are valid apart and invalid together are quarantined; the last valid one stays live", async (t) => {
  const { alpha, beta } = await pair(t)
  await apart(alpha, beta)
  await alpha.ask("config.set", ["log.files.max", "100", "--layer", "mesh"])
  await beta.ask("config.set", ["log.bytes.max", "256MiB", "--layer", "mesh"])
  await together(alpha, beta)
  for (const node of [alpha, beta]) {
    const status = await node.until("status", [], ({ quarantine }) => quarantine.documents.length > 0)
    t.same(status.quarantine.documents, ["config/mesh/log"])
    t.match(status.sentence, /config\/mesh\/log is quarantined; its last valid state is in force/)
    const doctor = await node.ask("doctor", [], { codes: [10] })
    t.match(doctor.findings.find(({ about }) => about === "documents")?.detail, /log\.files\.max times log\.bytes\.max within 1GiB/, "the reason is told")
    t.match(await node.ask("config.validate", [], { codes: [2] }), { valid: false, faults: [{ path: "config/mesh/log", detail: /within 1GiB/ }] })
    const [files, bytes] = [(await node.ask("config.get", ["log.files.max"])).value, (await node.ask("config.get", ["log.bytes.max"])).value]
    t.notOk(files === 100 && bytes === 268_435_456, `the invalid pair is not in force (${String(files)}, ${String(bytes)})`)
    t.same((await node.ask("config.show", ["--layer", "mesh"])).quarantined, ["config/mesh/log"])
  }
  await beta.ask("config.set", ["log.bytes.max", "8MiB", "--layer", "mesh"])
  await alpha.until("status", [], ({ quarantine }) => quarantine.documents.length === 0)
  for (const node of [alpha, beta]) {
    t.same((await node.ask("status", [], { codes: [0, 10] })).quarantine.documents, [])
    t.equal((await node.ask("config.get", ["log.files.max"])).value, 100)
    t.ok((await node.ask("doctor", ["--rebuild"], { codes: [0, 10] })).rebuild?.equal)
  }
})

t.test("a stick between two nodes that do not meet carries everything, is checked, and is safe to carry twice", async (t) => {
  const { alpha, beta, directory } = await pair(t)
  await apart(alpha, beta)
  await alpha.ask("memory.add", ["notes/hill", "written on the hill"])
  await beta.ask("memory.add", ["notes/cabin", "written in the cabin"])
  const there = `${directory}/there.kos`
  const back = `${directory}/back.kos`
  const out = await alpha.ask("sync.export", [there])
  t.ok(out.blocks > 0 && out.bytes === statSync(there).size)
  t.notOk(readFileSync(there).includes("written on the hill"), "the stick can be lost: it is sealed as the logs are")
  const taken = await beta.ask("sync.import", [there])
  t.ok(taken.blocks > 0 && taken.refused.length === 0)
  t.equal((await beta.ask("memory.show", ["notes/hill"])).text, "written on the hill")
  t.match(await beta.ask("sync.import", [there]), { blocks: 0, events: 0 }, "again it brings nothing")
  const only = await beta.ask("sync.export", [back, "--node", "alpha"])
  t.ok(only.blocks < (await beta.ask("sync.export", [`${directory}/all.kos`])).blocks, "what alpha is known to hold stays at home")
  await alpha.ask("sync.import", [back])
  t.equal((await alpha.ask("memory.show", ["notes/cabin"])).text, "written in the cabin")
  const bytes = readFileSync(there)
  for (const at of [0.2, 0.5, 0.9]) {
    const damaged = Buffer.from(bytes)
    const place = Math.floor(damaged.length * at)
    damaged[place] = (damaged[place] ?? 0) ^ 1
    writeFileSync(`${directory}/damaged.kos`, damaged)
    const ran = await beta.run(["sync", "import", `${directory}/damaged.kos`, "--json"])
    t.ok(ran.code !== 0 || (JSON.parse(ran.out) as { blocks: number }).blocks === 0, `a byte flipped at ${at} brings nothing in`)
  }
  writeFileSync(`${directory}/cut.kos`, bytes.subarray(0, Math.floor(bytes.length / 2)))
  t.not((await beta.run(["sync", "import", `${directory}/cut.kos`, "--json"])).code, 0, "half a stick is told")
  const stranger = await testNode(t, directory, { name: "stranger", isolated: true }).start()
  t.match(await stranger.refused(["sync", "import", there]), { code: 5, kind: "denied" })
  for (const node of [alpha, beta]) t.ok((await node.ask("event.verify")).clean)
})

t.test("an exported history is checked by an outsider with one file, and a changed one is refused", async (t) => {
  const { alpha, beta, directory } = await pair(t)
  await alpha.ask("memory.add", ["notes/todo", "Oil the door.", "--as", "person:Ann"])
  await beta.ask("memory.add", ["notes/bees", "Feed the bees."])
  await alpha.until("memory.list", [], (pages) => pages.length === 2)
  const proof = `${directory}/audit.json`
  const [made] = await alpha.lines("event.export", ["--proof", proof])
  t.match(made, { file: proof })
  const tool = `${directory}/kos-verify.mjs`
  execFileSync(process.execPath, [resolve(import.meta.dirname, "../src/codec/verify/build.mjs"), tool])
  const check = (file: string): { readonly code: number; readonly out: string } => {
    try {
      return { code: 0, out: execFileSync(process.execPath, [tool, file], { cwd: directory, encoding: "utf8", env: {}, stdio: ["ignore", "pipe", "pipe"] }) }
    } catch (error) {
      const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string }
      return { code: status, out: stdout + stderr }
    }
  }
  const good = check(proof)
  t.equal(good.code, 0, good.out)
  t.match(good.out, /person:Ann/)
  const text = readFileSync(proof, "utf8")
  const changed = `${directory}/changed.json`
  // One character of the longest text in the file: some block's bytes.
  const longest = [...text.matchAll(/[A-Za-z0-9+/=_-]{40,}/g)].toSorted((a, b) => b[0].length - a[0].length)[0]
  const place = (longest?.index ?? 0) + 20
  writeFileSync(changed, `${text.slice(0, place)}${text[place] === "A" ? "B" : "A"}${text.slice(place + 1)}`)
  t.not(check(changed).code, 0, "a changed one is refused")
  t.match(await alpha.refused(["event", "export", "--proof", proof]), { code: 6 })
  const lines = await alpha.lines("event.export", ["--type", "memory.*"])
  t.same(lines.map((line) => "type" in line && line.type), ["memory.changed/1", "memory.changed/1"])
})
