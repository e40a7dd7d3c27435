/** An agent by the same way as kOS itself: tried shut in with a log of its own, promoted, replaced by the next version, and brought back when that one is not healthy. */
import { mkdirSync, writeFileSync } from "node:fs"
import t from "tap"
import { eventually, homesOf, type TestNode, testNode } from "../daemon-process.ts"
import { openChannelAt } from "../update-tree.ts"

const agentTree = (directory: string, says: string): string => {
  mkdirSync(directory, { recursive: true })
  writeFileSync(`${directory}/main.mjs`, `import { execFileSync } from "node:child_process"\nconsole.log(${JSON.stringify(says)})\nexecFileSync("kos", ["memory", "add", "notes/trial", ${JSON.stringify(says)}])\nconsole.log("written")\n`)
  writeFileSync(`${directory}/check.mjs`, "process.exit(process.env.KOS_CHECK === 'well' ? 0 : 1)\n")
  return directory
}

const publishAgent = async (node: TestNode, tree: string, version: string, check: string): Promise<void> => {
  await node.ask("release.pack", [tree, `watcher@${version}`, "--channel", "stable", "--kind", "agent", "--publisher", "acme", "--entry", "main.mjs", "--healthy", "1s", "--deadline", "5s", "--check", check])
  await node.ask("release.publish", ["stable"])
  await node.ask("update.check")
}

const steps = async (node: TestNode, version: string): Promise<ReadonlyArray<string>> => (await node.ask("update.history")).filter((row) => row.name === "watcher" && row.version === version).map(({ step }) => step)

t.test("an agent is tried, promoted, and comes back when the next version is not well", async (t) => {
  const homes = homesOf(t)
  const node = testNode(t, homes, { name: "mill", launched: true, isolated: true })
  await node.start()
  await openChannelAt(node, "stable")
  await publishAgent(node, agentTree(`${homes}/one`, "I am the first."), "1.0.0", "well={node} check.mjs")
  t.match((await node.ask("update.list", ["--all"])).find(({ name }) => name === "watcher"), { version: "1.0.0", verdict: "compatible", state: "new" }, "what is not here waits for a person")

  const tried = await node.ask("update.try", ["watcher@1.0.0"])
  const [trial] = tried.trials
  t.ok(trial)
  t.ok(await eventually(async () => (await node.ask("update.try")).trials[0]?.state !== "running"), "it ran to its end")
  const shown = await node.ask("update.try", ["--show", trial?.id ?? ""])
  t.ok(shown.log.some((line) => line.includes("I am the first.")), "what it printed is shown")
  t.ok(shown.log.some((line) => line.includes("memory.changed/1")), "and what it wrote into its own log")
  t.same(await node.ask("memory.list"), [], "this node's log knows nothing of it")

  t.match(await node.ask("update.try", ["--promote", trial?.id ?? ""]), { trials: [] }, "promoted: nothing of the trial is left")
  t.ok(await eventually(async () => (await steps(node, "1.0.0")).includes("committed")))
  t.match((await node.ask("update.slots")).find(({ name, running }) => name === "watcher" && running), { version: "1.0.0", state: "current" })

  await publishAgent(node, agentTree(`${homes}/two`, "I am the second."), "1.1.0", "unwell={node} check.mjs")
  t.match(await node.refused(["update", "apply", "watcher@1.1.0"]), { detail: /rehearsal failed.*unwell/ }, "its own check says no before it is tried")
  t.notOk((await steps(node, "1.1.0")).includes("trial"))
  t.match((await node.ask("update.slots")).find(({ name, running }) => name === "watcher" && running), { version: "1.0.0" }, "and the one before runs")
  t.match(await node.refused(["update", "try", "--promote", "00000000"]), { code: 4 })
  await node.stop()
})
