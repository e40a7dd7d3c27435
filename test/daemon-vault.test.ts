/** The vault with real daemons: who gets a secret, who does not, away from everybody, removal with receipts, and no trace of a value in any file. */
import { readFileSync } from "node:fs"
import t, { type Test } from "tap"
import { eventually, filesBelow, homesOf, joinMesh, testNode, type TestNode } from "./daemon-process.ts"

t.setTimeout(110_000)

/** Files that hold the text as it is, in hex, base64 (at any of three places) or UTF-16. */
const tracesOf = (directory: string, text: string): ReadonlyArray<string> => {
  const bytes = Buffer.from(text)
  const forms = [
    bytes, Buffer.from(text, "utf16le"), Buffer.from(bytes.toString("hex")), Buffer.from(bytes.toString("hex").toUpperCase()),
    ...[0, 1, 2].map((shift) => Buffer.from(Buffer.concat([Buffer.alloc(shift), bytes]).toString("base64").replace(/=+$/, "").slice(shift === 0 ? 0 : 4, -4)))
  ]
  return filesBelow(directory).filter((path) => {
    const content = readFileSync(path)
    return forms.some((form) => content.includes(form))
  })
}

const three = async (t: Test): Promise<{ readonly alpha: TestNode; readonly beta: TestNode; readonly gamma: TestNode; readonly directory: string }> => {
  const directory = homesOf(t)
  const [alpha, beta, gamma] = ["alpha", "beta", "gamma"].map((name) => testNode(t, directory, { name })) as [TestNode, TestNode, TestNode]
  await Promise.all([alpha.start(), beta.start(), gamma.start()])
  await joinMesh(alpha, beta)
  await joinMesh(alpha, gamma)
  // Everybody has a reader key that alpha knows.
  const known = async () => (await alpha.ask("event.list", ["--type", "secret.reader/1"])).length
  if (!(await eventually(async () => await known() >= 3))) t.fail(`${await known()} reader keys`)
  return { alpha, beta, gamma, directory }
}

const held = (node: TestNode, name: string, count: number) => node.until("vault.list", [], (rows) => rows.find((row) => row.name === name)?.nodes.filter(({ state }) => state === "holds").length === count)

t.test("a secret for one node: used there with nobody in reach, denied elsewhere, destroyed with receipts, in no file", async (t) => {
  const { alpha, beta, gamma, directory } = await three(t)
  const canary = `canary-${"7f3a91c0".repeat(4)}-value`
  const set = await alpha.ask("vault.set", ["weather-key", "--for", "beta"], { stdin: `${canary}\n` })
  t.match(set, { name: "weather-key", version: 1, summary: "set weather-key, version 1" })
  const rows = await held(alpha, "weather-key", 1)
  t.match(rows, [{ name: "weather-key", state: "in force", recipients: ["beta"], owner: "alpha", nodes: [{ node: "beta", state: "holds" }], rotate: [] }])
  t.match((await alpha.run(["vault", "list"])).out, /weather-key +1 +beta +1 of 1/)
  t.same(await beta.run(["vault", "get", "weather-key"]), { code: 0, out: canary, err: "" }, "to a program exactly the value")
  t.equal((await beta.ask("vault.get", ["weather-key"])).value, canary)
  for (const node of [alpha, gamma]) {
    await held(node, "weather-key", 1)
    t.match(await node.refused(["vault", "get", "weather-key"]), { code: 5, kind: "denied", detail: "weather-key is not for this node" })
  }
  t.match(await beta.refused(["vault", "get", "weather-key", "--as", "agent:pump"]), { code: 5 })
  t.match(await alpha.until("event.list", ["--type", "secret.denied/1"], (events) => events.length === 3), [
    { subject: "secret/weather-key", summary: /was denied secret weather-key/ }, {}, {}
  ], "each denial is an event that everybody sees")
  t.match(await alpha.ask("event.list", ["--type", "secret.read/1", "--node", "beta"]), [{ actor: "device", summary: "read secret weather-key" }])
  t.match(await gamma.refused(["vault", "set", "weather-key", "--for", "gamma"], { stdin: "other" }), { code: 5, detail: /was set by alpha/ })
  t.match(await gamma.refused(["vault", "remove", "weather-key"]), { code: 5 })
  // Away from everybody, after a kill.
  await beta.kill()
  await beta.start({ isolated: true })
  t.equal((await beta.run(["vault", "get", "weather-key"])).out, canary)
  // It is removed while beta is away.
  const removed = await alpha.ask("vault.remove", ["weather-key"])
  t.same(removed.nodes.map(({ node, state }) => [node, state]).toSorted(), [["alpha", "destroyed"], ["beta", "not yet"]])
  t.same(await alpha.ask("vault.list"), [])
  t.match((await alpha.run(["vault", "list", "--all"])).out, /destroyed by 1 of 2/)
  t.equal((await beta.run(["vault", "get", "weather-key"])).out, canary, "it has not heard of it")
  await beta.stop()
  await beta.start()
  const all = await alpha.until("vault.list", ["--all"], ([row]) => row?.nodes.every(({ state }) => state === "destroyed") === true)
  t.match(all, [{ name: "weather-key", state: "removed", nodes: [{ state: "destroyed" }, { state: "destroyed" }] }])
  t.match(await beta.refused(["vault", "get", "weather-key"]), { code: 4, detail: "weather-key was removed" })
  for (const node of [alpha, beta, gamma]) t.ok((await node.ask("doctor", ["--rebuild"], { codes: [0, 10] })).rebuild?.equal, "the tables can be folded anew")
  for (const node of [alpha, beta, gamma]) t.notOk(node.stderr.includes(canary))
  const exported = await alpha.lines("event.export", ["--json"])
  t.notOk(JSON.stringify(exported).includes(canary))
  await Promise.all([alpha, beta, gamma].map((node) => node.stop()))
  t.ok(filesBelow(directory).length > 30)
  t.same(tracesOf(directory, canary), [], "no log, table, file or log line holds it")
})

t.test("a role's secret reaches who joins later; rotation; a file; what is refused never shows a value", async (t) => {
  const directory = homesOf(t, { "pem.txt": "-----BEGIN PRIVATE KEY-----\nline one\nline two\n-----END PRIVATE KEY-----\n" })
  const alpha = await testNode(t, directory, { name: "alpha" }).start()
  await alpha.ask("mesh.create", ["hill"])
  await alpha.ask("vault.set", ["pem", "--for", "role:member", "--file", `${directory}/pem.txt`])
  const beta = await testNode(t, directory, { name: "beta" }).start()
  await joinMesh(alpha, beta)
  await held(beta, "pem", 1)
  t.equal((await beta.run(["vault", "get", "pem"])).out, readFileSync(`${directory}/pem.txt`, "utf8"), "every byte of a file")
  t.match(await alpha.ask("vault.rotate", ["pem"], { stdin: "second value" }), { version: 2, summary: "set pem, version 2" })
  await beta.until("vault.list", [], ([row]) => row?.version === 2 && row.nodes.every(({ state }) => state === "holds"))
  t.equal((await beta.run(["vault", "get", "pem"])).out, "second value")
  t.match(await alpha.refused(["vault", "rotate", "pem"]), { code: 5 }, "alpha set it for members and keeps no key")
  t.match(await alpha.refused(["vault", "set", "x"]), { code: 2, detail: "the value is missing; it is read from stdin or a file" })
  t.match(await alpha.refused(["vault", "set", "x", "value-in-words"]), { code: 2 })
  const large = "s3cr3t-".repeat(10_000)
  for (const node of [await alpha.refused(["vault", "set", "x"], { stdin: large }), await alpha.post("vault.set", { name: "x", value: large }, "0190163d-8694-739b-aea5-966c26f8ad91"),
    await alpha.post("vault.set", { name: "x", value: ["s3cr3t-in-a-list"] }, "0190163d-8694-739b-aea5-966c26f8ad92"), await alpha.post("vault.set", { name: ["s3cr3t-"], value: "v" }, "0190163d-8694-739b-aea5-966c26f8ad93")
  ]) t.notOk(JSON.stringify(node).includes("s3cr3t-"), "what is too large or of the wrong kind is not repeated")
  t.match(await alpha.refused(["vault", "get", "pen"]), { code: 4, detail: /did you mean pem/ })
  await alpha.ask("vault.set", ["mine"], { stdin: "for myself" })
  t.equal((await alpha.run(["vault", "get", "mine"])).out, "for myself", "without --for it is for this node")
  t.match(await alpha.ask("vault.rotate", ["mine"]), { version: 2, summary: "sealed anew mine, version 2" })
  t.equal((await alpha.run(["vault", "get", "mine"])).out, "for myself")
  t.match(await alpha.refused(["vault", "get", "mine", "--as", "agent:pump"]), { code: 5 })
  await alpha.kill()
  await alpha.start()
  t.equal((await alpha.run(["vault", "get", "mine"], { process: true })).out, "for myself", "after a kill, by a process of its own")
  await Promise.all([alpha.stop(), beta.stop()])
  t.same(tracesOf(`${directory}/beta`, "for myself"), [])
})
