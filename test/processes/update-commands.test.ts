/** Commands of updates that take several switches of a real node: a veto overridden, the security floor, one that is not healthy, one that is stopped on trial, one that lies ready. */
import t from "tap"
import { eventually, homesOf, testNode, type TestNode } from "../daemon-process.ts"
import { kosTree, openChannelAt, publish } from "../update-tree.ts"

t.setTimeout(240_000)

const running = async (node: TestNode): Promise<string> => {
  try {
    return (await node.ask("update.slots")).find((slot) => slot.running)?.version ?? ""
  } catch {
    // It starts again just now.
    return ""
  }
}

const stepsOf = async (node: TestNode, version: string): Promise<ReadonlyArray<string>> => {
  try {
    return (await node.ask("update.history", ["-n", "1000"])).filter((row) => row.version === version).map(({ step }) => step)
  } catch {
    return []
  }
}

const settled = (node: TestNode, version: string, step: string): Promise<boolean> => eventually(async () => (await stepsOf(node, version)).at(-1) === step && (await running(node)) !== "", 60_000)

t.test("a node is led through good and bad releases by hand", async (t) => {
  const homes = homesOf(t)
  const node = await testNode(t, homes, { name: "mill", isolated: true, launched: true }).start()
  const first = await running(node)
  await openChannelAt(node, "stable")
  await node.ask("config.set", ["update.auto", "off"])

  // A veto that counts is overridden by a person, who says so.
  await publish(node, "stable", kosTree(`${homes}/one`, "9.1.0"), "9.1.0")
  await node.ask("config.set", ["update.veto", "[\"agent:wheel\"]", "--layer", "mesh"])
  t.match(await node.ask("update.advise", ["9.1.0", "not while it grinds", "--veto", "--as", "agent:wheel"]), { counts: true })
  t.match(await node.refused(["update", "apply", "9.1.0"]), { kind: "policy", code: 9 })
  await node.ask("update.apply", ["9.1.0", "--override-veto"])
  t.ok(await settled(node, "9.1.0", "committed"), "taken all the same")

  // Back, and once more, because a person says so.
  await node.ask("update.rollback")
  t.ok(await settled(node, "9.1.0", "rolled-back"))
  t.equal(await running(node), first)
  await node.ask("update.apply", ["9.1.0", "--override-veto"])
  t.ok(await settled(node, "9.1.0", "committed"), "a person may try again what was rolled back")

  // One that never gets well comes back by itself and says why.
  await publish(node, "stable", kosTree(`${homes}/two`, "9.2.0"), "9.2.0", ["--check", "never=/bin/false", "--deadline", "3s"])
  t.match(await node.ask("update.apply"), { restarting: true, release: { version: "9.2.0" } })
  t.ok(await settled(node, "9.2.0", "rolled-back"), "it comes back by itself")
  t.equal(await running(node), "9.1.0")
  t.match((await node.ask("update.history")).at(-1), { detail: /never/ })
  t.match((await node.ask("update.slots")).find(({ version }) => version === "9.2.0"), { state: "failed", why: /never/ })

  // One that is stopped while it is on trial.
  await publish(node, "stable", kosTree(`${homes}/three`, "9.3.0"), "9.3.0", ["--healthy", "2m", "--deadline", "5m"])
  await node.ask("update.apply")
  t.ok(await eventually(async () => (await running(node)) === "9.3.0", 60_000), "it is on trial")
  t.match((await node.ask("update.slots")).find(({ version }) => version === "9.3.0"), { state: "trial" })
  await node.ask("wait", ["ready"])
  t.match(await node.ask("update.stop"), { summary: /kos 9\.3\.0 is stopped/ })
  t.ok(await settled(node, "9.3.0", "rolled-back"), "the one before runs again")
  t.match((await node.ask("update.history")).at(-1), { detail: /a person stopped it/ })

  // One that lies ready outside its window is booted by hand; below it nothing runs any more.
  const hour = new Date().getHours()
  const at = (plus: number): string => `${String((hour + plus) % 24).padStart(2, "0")}:00`
  await node.ask("config.set", ["update.window", `${at(10)}-${at(12)}`])
  await node.ask("config.set", ["update.auto", "all"])
  await publish(node, "stable", kosTree(`${homes}/four`, "9.4.0"), "9.4.0", ["--min-secure", "9.4.0", "--security"])
  t.ok(await eventually(async () => (await stepsOf(node, "9.4.0")).includes("rehearsed"), 60_000), "made ready by itself")
  t.match((await node.ask("update.list"))[0], { version: "9.4.0", waits: /update\.window/, security: true })
  const slot = (await node.ask("update.slots")).find(({ version }) => version === "9.4.0")
  t.match(slot, { state: "staged", running: false })
  t.match(await node.ask("update.boot"), { generation: slot?.generation ?? -1, version: "9.4.0" })
  t.ok(await settled(node, "9.4.0", "committed"))
  for (const argv of [["update", "rollback"], ["update", "rollback", "0"], ["update", "boot", "0"]]) t.match(await node.refused(argv), { kind: "policy", code: 9, detail: /9\.4\.0/, hint: /update slots/ }, argv.join(" "))
  t.match((await node.ask("update.list", ["--all"])).filter(({ version }) => version === "9.1.0"), [{ verdict: "unfit" }])
  t.match(await node.refused(["update", "apply", "9.1.0", "--override-veto"]), { kind: "conflict", code: 6, detail: /does not fit here: .*9\.4\.0/ })
  t.equal(await node.stop(), 0)
})
