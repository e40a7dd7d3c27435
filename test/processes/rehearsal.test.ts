/** Rehearsals with real trees: this checkout as the new version, as it is and with a change planted in it. */
import { Effect } from "effect"
import { existsSync, readdirSync } from "node:fs"
import t from "tap"
import { rehearsalText } from "../../src/boot/rehearsal.ts"
import { dependencies, openNode, rehearseHere, setConfig, treeOf, workingLevels, writePage } from "../rehearsal-world.ts"

t.setTimeout(180_000)

const home = t.testdir()
const node = await openNode(t, `${home}/home`)
for (const page of ["garden", "orchard", "well"]) await writePage(node, `notes/${page}`)
await writePage(node, "notes/long", "A long page. ".repeat(200))
await setConfig(node, "checkpoint.events", "77")
// What a newer node of the mesh may have written: this version does not know the type, keeps it and counts it.
await Effect.runPromise(node.journal.append([1, 2].map(() => ({ type: "garden.watered/1", actor: "device", subject: "garden", command: "", cause: [], body: { litres: 3 } }))))
node.runner.wake()
await node.runner.idle()
const { events } = node.tables.events.totals()
let trees = 0
const tree = (changes: Parameters<typeof treeOf>[1] = {}): string => treeOf(`${home}/trees/${trees++}`, changes)
const rehearsed = async (changes: Parameters<typeof treeOf>[1], more: Parameters<typeof rehearseHere>[2] = {}) => {
  const report = await rehearseHere(node, tree(changes), { read: dependencies, ...more })
  t.comment(rehearsalText(report), report.log.join(" | "))
  return report
}

t.test("the same version makes the same of the same events, however it is shut in", async (t) => {
  const same = tree()
  for (const level of await workingLevels(t, home)) {
    const report = await rehearseHere(node, same, { read: dependencies, levels: [level] })
    t.match(report, { ok: true, differences: [], expected: [], failing: 0, fault: undefined, events, isolation: { by: level } }, `${level}: ${rehearsalText(report)}: ${report.log.join(" | ")}`)
  }
  t.notOk(existsSync(`${home}/home/updates/rehearsal/one`), "nothing is left behind")
  t.same(readdirSync(same).toSorted(), ["bin", "node_modules", "package.json", "src"], "nothing was written into its tree")
})

t.test("a value that comes out otherwise is named", async (t) => {
  const changes = { "src/projections/documents/register.ts": ["return why === undefined ? { value }", "return why === undefined ? { value: value === 77 ? 78 : value }"] } as const
  const report = await rehearsed(changes)
  t.match(report, { ok: false, fault: undefined, differences: ["document config/mesh/checkpoint: checkpoint.events is 77 here and 78 in the new version", "setting checkpoint.events is 77 here and 78 in the new version"] })
  t.match(await rehearsed(changes, { migrations: ["config/*: numbers are counted from one", "checkpoint.events: as above"] }), { ok: true, failing: 0, differences: [], expected: [/announced: config/, /./] }, "unless the release announces it")
})

t.test("a gate that refuses what counted here is found, with what and whose it is", async (t) => {
  const report = await rehearsed({ "src/projections/documents/limits.ts": ["changeBytesMax = 256 * 1024", "changeBytesMax = 300"] })
  t.match(report, { ok: false, fault: undefined })
  t.match(report.differences.join("\n"), /document memory\/notes\/long: /)
  t.match(report.differences.join("\n"), /it quarantines 1 that count here \(.*300.*\): memory\.changed\/1 [0-9a-f]{8}\/[0-9]+\.0 of ada/)
})

t.test("a default that changed is shown and does not fail it", async (t) => {
  const report = await rehearsed({ "src/projections/families/settings.ts": ['maxMs: day }, default: "5m"', 'maxMs: day }, default: "6m"'] })
  t.match(report, { ok: true, failing: 0, differences: ['setting swarm.retry.max is "5m" here and "6m" in the new version'] })
})

t.test("types that only the new version knows are expected, those that it forgot are not", async (t) => {
  const knows = { "src/events/catalogue.ts": ['  define("node.stopped/1"', '  define("garden.watered/1", "durable", Schema.Struct({ litres: Count }), () => "watered"),\n  define("node.stopped/1"'] } as const
  t.match(await rehearsed(knows), { ok: true, differences: [], expected: ["it reads 2 events of type garden.watered/1, which the running version cannot read"] })
  const strict = { "src/events/catalogue.ts": [knows["src/events/catalogue.ts"][0], knows["src/events/catalogue.ts"][1].replace("litres: Count", "litres: Schema.String")] } as const
  t.match(await rehearsed(strict), { ok: false, differences: [/it quarantines 2 that count here .*: garden\.watered\/1/] }, "unless it cannot read what was written")
  t.match(await rehearsed({ "src/events/catalogue.ts": ['define("memory.changed/1"', 'define("memory.altered/1"'] }), { ok: false, differences: [/cannot read 4 events of type memory\.changed\/1/] })
})

t.test("a version that cannot start says why", async (t) => {
  const report = await rehearsed({ "src/boot/rehearse.ts": ["export const rehearse =", "throw new Error('half a version')\nexport const rehearse ="] })
  t.match(report, { ok: false, fault: /ended before it was through \(exit code 1\)/ })
  t.match(report.log.join(" "), /half a version/)
})
