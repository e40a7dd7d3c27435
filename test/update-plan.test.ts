/** Whether a release fits, and what it would mean for this device and for those that have not updated. */
import t from "tap"
import { secretInEvent } from "../src/projections/families/secret-scan.ts"
import { sayOffer, sayStep } from "../src/commands/decide-updates.ts"
import { decodeBody } from "../src/events/catalogue.ts"
import { belowFloor, bytesText, type CompatibleFacts, floorOf, judge } from "../src/updates/compatible.ts"
import { type PlanFacts, type PlanNode, planOf, riskCharsMax, risksMax } from "../src/updates/plan.ts"
import { bucketOf } from "../src/updates/rollout.ts"
import { must } from "./membership-world.ts"
import { releaseOf } from "./update-world.ts"

const mib = 1_048_576
const here: CompatibleFacts = {
  kinds: ["bundle", "agent", "codex"], platform: "linux-x64", board: "Raspberry Pi 4 Model B Rev 1.4", kos: "1.0.0", here: "1.0.0", reads: ["memory.changed/1", "node.started/1"],
  written: ["memory.changed/1"], freeBytes: 100 * mib, neededBytes: 10 * mib, floor: undefined
}
const reasons = (custom: Parameters<typeof releaseOf>[0], more: Partial<CompatibleFacts> = {}): ReadonlyArray<string> => judge(releaseOf(custom), { ...here, ...more }).reasons

t.test("each thing that does not fit is said with its values", async (t) => {
  t.same(judge(releaseOf(), here), { fits: true, reasons: [] })
  t.same(reasons({ kind: "os" }), ["It is a system image, and this device cannot install one: it takes a version of kOS or an agent or a codex module."])
  t.same(reasons({ platform: "linux-arm64" }), ["It is for linux-arm64, and this device is linux-x64."])
  t.same(reasons({ boards: ["Raspberry Pi 5"] }), ["It is for the board Raspberry Pi 5, and this one is Raspberry Pi 4 Model B Rev 1.4."])
  t.same(reasons({ boards: ["Raspberry Pi 5", "raspberry  pi 4"] }), [])
  t.same(reasons({ boards: ["Raspberry Pi 4 Model"] }, { board: "Raspberry Pi 4 Models" }).length, 1, "whole words")
  t.same(reasons({ boards: ["Raspberry Pi 5"] }, { board: "" }), ["It is for the board Raspberry Pi 5, and this one does not say what it is."])
  t.same(reasons({ version: "1.0.0" }), ["kos 1.0.0 is here already."])
  t.same(reasons({ version: "0.9.0" }), ["It is older than kos 1.0.0, which is here; an earlier version comes back by a rollback."])
  const needs = { kosMin: null, kosBelow: null, from: null, freeBytes: 0 }
  t.same(reasons({ needs: { ...needs, from: "1.0.5" } }), ["It can only come from kos 1.0.5 or later, and 1.0.0 is here; take 1.0.5 first."])
  t.same(reasons({ needs: { ...needs, from: "1.0.5" } }, { here: undefined }), ["It can only come from kos 1.0.5 or later, and there is no kos here."])
  t.same(reasons({}, { floor: "1.2.0" }), ["It is older than kos 1.2.0, below which this device does not go any more for its security."])
  t.same(reasons({ kind: "agent", name: "watch", needs: { ...needs, kosMin: "1.1.0" } }, { here: undefined }), ["It needs kOS 1.1.0 or later, and kOS 1.0.0 runs here."])
  t.same(reasons({ kind: "agent", name: "watch", needs: { ...needs, kosBelow: "1.0.0" } }, { here: undefined }), ["It needs a kOS before 1.0.0, and kOS 1.0.0 runs here."])
  t.same(reasons({ kind: "codex", name: "leaf", events: { reads: ["leaf.grew/1"], writes: ["memory.changed/1"] } }, { here: undefined }), ["It works with events of type leaf.grew/1, which kOS 1.0.0 does not know."])
  t.same(reasons({ events: { reads: ["memory.changed/2"], writes: [] } }), ["It cannot read events of type memory.changed/1, which this device has written."])
  t.same(reasons({ needs: { ...needs, freeBytes: 95 * mib } }), ["It needs 111 MB of space, and 105 MB are free."])
  t.equal(reasons({ platform: "linux-arm64", version: "0.1.0", needs: { ...needs, freeBytes: 95 * mib } }).length, 3, "all reasons at once")
})

t.test("the floor, sizes and shares", async (t) => {
  t.equal(floorOf([]), undefined)
  t.equal(floorOf(["1.2.0", "1.10.0", "1.9.0"]), "1.10.0")
  t.equal(belowFloor("kos", "1.10.0", "1.10.0"), undefined)
  t.match(belowFloor("kos", "1.9.9", "1.10.0"), /kos 1\.9\.9 is older than 1\.10\.0/)
  t.same([0, 999, 1_000, 1_500, 10_000_000, 3e12].map(bytesText), ["0 B", "999 B", "1 kB", "1.5 kB", "10 MB", "3 TB"])
  // sha256sum over the 64 bytes, first four as a number, mod 1000: the same on every device and in every version.
  t.equal(bucketOf("00".repeat(32), "00".repeat(32)), 0xf5a5fd42 % 1_000)
})

const node = (name: string, capability: PlanNode["capability"]): PlanNode => ({ device: name, name, capability })
const old = { version: "1.0.0", reads: ["memory.changed/1"], writes: ["memory.changed/1"] }
const facts = (more: Partial<PlanFacts> = {}): PlanFacts => ({
  device: "me", from: { version: "1.0.0", generation: 0 }, nodes: [node("me", old)], now: old, types: ["memory.changed/1"], bytes: { fetch: 3 * mib, needed: 20 * mib, free: 900 * mib },
  signerNames: (id) => id.startsWith("11") ? ["mara", "hut"] : [], whole: ["shed"], part: [], judgement: { fits: true, reasons: [] }, rehearsed: undefined, trust: "fresh", unwell: [], ...more
})
const newer = releaseOf({ events: { reads: ["memory.changed/1", "memory.changed/2"], writes: ["memory.changed/2"] } })

t.test("a plan says what changes, what it costs, who signed and who has it", async (t) => {
  const plan = planOf(newer, facts())
  t.equal(plan.summary, "kos goes from 1.0.0 to 1.1.0 (channel stable): about 3.2 MB have to be fetched, 1 peer has it, and it needs 21 MB of 944 MB free.")
  t.same(plan.signedBy, ["key 11111111 of hut and mara", "key 22222222, which no node here names as its own", "2 signatures for targets, of which 2 are needed"])
  t.same(plan.holders, ["shed"])
  t.same(plan.risks, [])
  t.match(planOf(newer, facts({ from: undefined, bytes: { fetch: undefined, needed: 0, free: 0 }, whole: [] })).summary, /comes anew .*how much has to be fetched is not known yet, no peer in touch has it/)
  t.same(planOf(newer, facts({ whole: [], nodes: [node("me", old), node("shed", { ...old, reads: newer.custom.events.reads })] })).risks, ["no peer in touch has it, so it has to come from a mirror or a stick"])
})

t.test("the sync risk in plain words, in both directions, and those of whom nothing is known", async (t) => {
  const risks = (nodes: ReadonlyArray<PlanNode>, more: Partial<PlanFacts> = {}): ReadonlyArray<string> => planOf(newer, facts({ nodes: [node("me", old), ...nodes], ...more })).risks
  const able = { ...old, reads: newer.custom.events.reads }
  t.same(risks([node("shed", old), node("attic", old), ...["a", "b", "c", "d"].map((name) => node(name, able))]), [
    "after this, `attic` and `shed` (2 of 7 nodes) cannot read events of type memory.changed/2 until they update; they will keep and forward them"
  ])
  t.same(risks([node("shed", old)]), ["after this, `shed` (1 of 2 nodes) cannot read events of type memory.changed/2 until it updates; it will keep and forward them"])
  t.same(risks(Array.from({ length: 8 }, (_, i) => node(`n${i}`, old))), [
    "after this, `n0`, `n1`, `n2`, `n3`, `n4` and 3 more (8 of 9 nodes) cannot read events of type memory.changed/2 until they update; they will keep and forward them"
  ])
  t.same(risks([node("shed", undefined), node("a", able)]), ["what `shed` (1 of 3 nodes) can read is not known, so it may not be able to read events of type memory.changed/2 after this"])
  t.same(risks([node("shed", old)], { now: { ...old, writes: ["memory.changed/2"] } }), [], "what is written already is no consequence of the update")
  const both = { reads: [...old.reads, "leaf.grew/1"], writes: ["leaf.grew/1"] }
  t.same(risks([node("lab", { ...able, writes: ["leaf.grew/1"] })], { now: both, types: ["leaf.grew/1", "memory.changed/1"] }), [
    "`lab` (1 of 2 nodes) already writes events of type leaf.grew/1, which kos 1.1.0 cannot read; this node would keep and forward them",
    "the logs here hold events of type leaf.grew/1, which kos 1.1.0 cannot read; this node would keep and forward them"
  ])
  t.same(planOf(releaseOf({ ...newer.custom, kind: "agent", name: "watch" }), facts({ nodes: [node("me", old), node("shed", old)] })).risks, [], "what runs beside kOS writes through it")
})

t.test("other risks, bounded and the same for the same facts", async (t) => {
  const hard = releaseOf({ events: { reads: [], writes: Array.from({ length: 300 }, (_, i) => `leaf.grew${i}/1`) }, risk: "it needs ten minutes", migrations: ["pages are split"], minSecure: "1.0.5" })
  const given = facts({
    trust: "stale", rehearsed: { differences: 2, says: "two pages differ" }, unwell: [{ name: "disk", ok: false, detail: "" }, { name: "log", ok: true, detail: "" }],
    nodes: Array.from({ length: 200 }, (_, i) => node(`node-${i}`, { ...old, reads: Array.from({ length: i }, (_, j) => `leaf.grew${j}/1`) }))
  })
  const plan = planOf(hard, given)
  t.match(plan.risks[0], /^its channel is stale/)
  t.match(plan.risks[1], /^its publisher says: it needs ten minutes/)
  t.ok(plan.risks.length <= risksMax)
  t.match(plan.risks.join("\n"), /192 more of 200 nodes cannot read other types of events after this\n/)
  t.match(plan.risks.at(-1), /^this device is not healthy/, "many nodes push no other risk out")
  t.ok(plan.risks.every((risk) => risk.length <= riskCharsMax))
  const few = planOf(hard, { ...given, nodes: [] }).risks
  t.same(few.slice(2), [
    "its rehearsal made 2 things otherwise than the running version: two pages differ", "it changes what is stored: pages are split",
    "once it is committed, this device cannot go back to 1.0.0: nothing before 1.0.5 is secure", "this device is not healthy as it is (disk), so its trial would fail"
  ])
  t.same(planOf(hard, { ...given, nodes: given.nodes.toReversed() }), plan)
  for (const wanted of [sayStep(hard, "committed", "all is well"), sayOffer(hard, "compatible", plan.risks, plan.summary)]) {
    t.ok(must(decodeBody(wanted.type, wanted.body)))
    t.equal(secretInEvent(wanted.type, wanted.body), undefined, "no id is taken for a secret")
  }
})
