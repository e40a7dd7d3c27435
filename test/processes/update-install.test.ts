/** An installation that a person makes newer by hand takes the place of what an update brought before. */
import { readFileSync, writeFileSync } from "node:fs"
import t from "tap"
import { eventually, homesOf, testNode } from "../daemon-process.ts"
import { kosTree, openChannelAt, publish } from "../update-tree.ts"

t.test("a release is committed over an older installation, and gives way to a newer one", async (t) => {
  const homes = homesOf(t)
  const installed = kosTree(`${homes}/installed`, "9.0.0")
  const node = testNode(t, homes, { name: "mill", launched: installed, isolated: true })
  await node.start()
  const runs = async (): Promise<readonly [number, string]> => {
    try {
      const slot = (await node.ask("update.slots")).find(({ running }) => running)
      return [slot?.generation ?? -1, slot?.version ?? ""]
    } catch {
      return [-1, ""]
    }
  }
  t.same(await runs(), [0, "9.0.0"])
  await openChannelAt(node, "stable")
  await publish(node, "stable", kosTree(`${homes}/one`, "9.1.0"), "9.1.0")
  await node.ask("update.check")
  await node.ask("update.apply", ["9.1.0"])
  t.ok(await eventually(async () => (await node.ask("update.history").catch(() => [])).some(({ step }) => step === "committed")))
  t.same(await runs(), [1, "9.1.0"])
  await node.stop()
  await node.start()
  t.same(await runs(), [1, "9.1.0"], "an older installation does not come back by itself")
  await node.stop()
  const own = `${installed}/package.json`
  writeFileSync(own, readFileSync(own, "utf8").replace('"9.0.0"', '"9.2.0"'))
  await node.start()
  t.ok(await eventually(async () => (await runs())[0] === 0), "the newer installation runs")
  t.same(await runs(), [0, "9.2.0"])
  t.match((await node.ask("update.slots")).find(({ generation }) => generation === 1), { version: "9.1.0", why: /the installation itself is newer/ })
})
