/** Clocks that are wrong by years: order and merge do not follow them, and doctor says so. */
import t from "tap"
import { homesOf, joinMesh, testNode, type TestNode } from "../daemon-process.ts"

t.setTimeout(110_000)

const yearMs = 365 * 86_400_000
const withClock = (ms: number) => ({ node: ["--import", new URL("../shifted-clock.ts", import.meta.url).pathname], env: { KOS_TEST_CLOCK_MS: String(ms) } })

t.test("a node that lives ten years ago and then in five years merges like any other", async (t) => {
  const directory = homesOf(t)
  const alpha = await testNode(t, directory, { name: "alpha" }).start()
  const beta = await testNode(t, directory, { name: "beta" }).start(withClock(-15 * yearMs))
  await joinMesh(alpha, beta)
  const both = async (value: number) => {
    for (const node of [alpha, beta]) {
      const got = await node.until("config.show", ["user.turn", "--layer", "mesh"], ({ values }) => JSON.stringify(values) === JSON.stringify({ user: { turn: value } }))
      t.same(got.values, { user: { turn: value } }, `${node.announced.name} has ${value}`)
    }
  }
  const set = (node: TestNode, value: number) => node.ask("config.set", ["user.turn", String(value), "--layer", "mesh"])
  await set(alpha, 1)
  await both(1)
  t.match((await beta.ask("doctor", [], { codes: [10] })).findings.find(({ about }) => about === "clock"), { level: "warning", detail: /clock says 20\d\d, before kOS existed/, fix: /order and merging are not affected/ })
  // The past overrides the present when it knew it.
  await set(beta, 2)
  await both(2)
  await set(alpha, 3)
  await both(3)
  await beta.stop()
  await beta.start(withClock(5 * yearMs))
  await beta.ask("wait", ["peer=alpha", "--timeout", "30"])
  await set(beta, 4)
  await both(4)
  t.match((await alpha.ask("doctor", [], { codes: [0, 10] })).findings.find(({ about }) => about === "clock"), { level: "note", detail: /the clock of beta is more than a day ahead/ })
  // The present overrides the future when it knew it, and is not dragged along.
  const changed = await set(alpha, 5)
  await both(5)
  const shown = await alpha.ask("event.show", [changed.events[0]?.address ?? ""])
  t.ok(Date.parse(shown.at) < Date.now() + 86_400_000, "the true clock stays true")
  t.same(await alpha.ask("config.conflicts", ["--all"]), [], "none of this was a conflict")
  await beta.stop()
  await beta.start()
  t.match((await beta.ask("doctor", [], { codes: [10] })).findings.find(({ about }) => about === "clock"), { level: "warning", detail: /own events carry times more than a day ahead/ })
  await beta.ask("wait", ["peer=alpha", "--timeout", "30"])
  await set(beta, 6)
  await both(6)
  for (const node of [alpha, beta]) {
    t.ok((await node.ask("event.verify")).clean)
    t.ok((await node.ask("doctor", ["--rebuild"], { codes: [0, 10] })).rebuild?.equal, "the order of arrival needs no clock")
    const turns = (await node.ask("config.history", ["user.turn", "--layer", "mesh"])).map(({ after }) => after)
    t.same(turns, [1, 2, 3, 4, 5, 6], "history is told in the order in which things were known")
  }
})
