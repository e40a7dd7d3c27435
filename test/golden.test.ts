/** Homes that earlier versions left behind: this one must read their logs and come to what they said. `test/golden/make.ts` makes one. */
import { readdirSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import t from "tap"
import { homesOf, testNode } from "./daemon-process.ts"
import { type Projections, projectionsOf, unpackHome } from "./golden/golden.ts"

t.setTimeout(110_000)

const golden = join(import.meta.dirname, "golden")

for (const version of readdirSync(golden, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name)) {
  const packed = readFileSync(join(golden, version, "home.br"))
  const expected = JSON.parse(readFileSync(join(golden, version, "expected.json"), "utf8")) as Projections
  const addresses = new Set(expected.events.map(({ address }) => address))

  for (const tables of ["as they are", "gone"] as const) {
    void t.test(`the home of ${version} is read, its tables ${tables}`, async (t) => {
      const node = testNode(t, homesOf(t), { name: "home", isolated: true })
      unpackHome(packed, node.home)
      if (tables === "gone") for (const name of readdirSync(node.meshDirectory)) if (name.startsWith("tables.db")) rmSync(join(node.meshDirectory, name))
      await node.start()
      // What is unpacked is a copy, and the original may be running somewhere.
      t.match(await node.ask("event.list", ["--type", "log.copied/1"]), [{ summary: /is a copy/ }])
      const { log } = (await node.ask("status", [], { codes: [0, 10] })).node
      t.notOk(expected.events.some(({ address }) => address.startsWith(log)), "it writes a log of its own")
      t.same(await projectionsOf(node, addresses), expected, "documents, events and membership are as they were")
      const rebuilt = await node.ask("doctor", ["--rebuild"], { codes: [0, 10] })
      t.match(rebuilt.rebuild, { equal: true, differences: [] })
      const verified = await node.ask("event.verify", [], { codes: [0, 1] })
      t.same(verified.logs.flatMap(({ faults }) => faults), [], "every block is sound")
      await node.ask("config.set", ["user.pump.speed", "6", "--layer", "mesh"])
      t.same(await node.ask("config.conflicts"), [], "and it can be gone on with")
    })
  }
}
