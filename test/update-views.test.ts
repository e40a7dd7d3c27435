/** What events say of updates: order does not matter, a device speaks for itself only, and what it said last holds. Deciders of the same. */
import t, { type Test } from "tap"
import { adviceCharsMax, decideAdvice, decideAskTurn, decideBan, decideChannel, decideGiveBackTurn, decideOffer, sayOffer, sayStep } from "../src/commands/decide-updates.ts"
import type { Plan, Wanted } from "../src/commands/dispatch.ts"
import { Refusal } from "../src/commands/refusal.ts"
import { decodeBody } from "../src/events/catalogue.ts"
import type { Membership } from "../src/projections/membership.ts"
import { proposalsPerLogMax, updateRowsPerLogMax } from "../src/projections/tables/updates.ts"
import type { Tables } from "../src/projections/tables/tables.ts"
import { adviceOn, badReleases, capabilitiesOf, committedOf, historyOf, lastSteps, minSecuresOf, stepsOf, turnsOf } from "../src/projections/updates.ts"
import { floorOf } from "../src/updates/compatible.ts"
import { must } from "./membership-world.ts"
import { opened, seeded } from "./tables-help.ts"
import { membershipOf, type Person, releaseOf } from "./update-world.ts"

const key = (n: number): string => n.toString(16).padStart(2, "0").repeat(32)
const people = [
  { device: key(1), name: "attic", logs: [key(11), key(12)], role: "owner" }, { device: key(2), name: "shed", logs: [key(21)] },
  { device: key(3), name: "rita", logs: [key(31)], role: "reader" }, { device: key(4), name: "gone", logs: [key(41)], standing: "revoked" }
] as const satisfies ReadonlyArray<Person>
const [attic, shed, rita, gone] = people
const mesh = membershipOf(people)
const one = releaseOf({ version: "1.1.0", minSecure: "1.0.5" }, "a1".repeat(32))
const two = releaseOf({ version: "1.2.0", minSecure: "1.1.0" }, "a2".repeat(32))
const three = releaseOf({ version: "1.3.0", minSecure: "1.3.0" }, "a3".repeat(32))

interface Said extends Wanted {
  readonly log: string
  readonly block: number
  readonly ms: number
  readonly actor: string
}

const fold = (tables: Tables, { log, block, ms, actor, type, subject, body }: Said): void => {
  const decoded = must(decodeBody(type, body))
  if (decoded._tag === "Unknown") throw new Error(`${type} is not known`)
  const envelope = { type, at: { ms, count: 0 }, actor, subject, command: "", cause: [], body }
  tables.transaction(() => {
    tables.events.add([{ log, block, offset: 0, type, ms, count: 0, actor, subject, status: "known" }])
    tables.folds.get(type)?.({ log, block, offset: 0, device: mesh.devices.get(log) ?? "", envelope, body: decoded.body })
  })
}

const story = (events: ReadonlyArray<readonly [log: string, Wanted, more?: { readonly ms?: number; readonly actor?: string }]>): ReadonlyArray<Said> => {
  const blocks = new Map<string, number>()
  return events.map(([log, wanted, { ms, actor } = {}], i) => {
    const block = blocks.get(log) ?? 0
    blocks.set(log, block + 1)
    return { ...wanted, log, block, ms: ms ?? 1_000 + i, actor: actor ?? "device" }
  })
}

const reading = (tables: Tables, view: Membership = mesh) => ({
  tables, members: { view: () => view, deviceOf: (log: string) => view.devices.get(log), nameOf: (device: string) => view.members.get(device)?.name ?? device.slice(0, 8) }
})
const told = (t: Test, events: Parameters<typeof story>[0]) => {
  const tables = opened(t)
  for (const said of story(events)) fold(tables, said)
  return reading(tables)
}
const capable = (version: string): Wanted => ({ type: "node.capable/1", subject: "node", body: { version, platform: "linux-x64", board: "", reads: ["memory.changed/1"], writes: ["memory.changed/1"] } })
const asked = (release: string, number: number): Wanted => ({ type: "update.turn/1", subject: "update/kos", body: { release, state: "asked", number } })
const advised = (release: string, stance: string, text = ""): Wanted => ({ type: "update.advised/1", subject: "update/kos", body: { release, stance, text } })

const shown = (parts: ReturnType<typeof reading>): string => JSON.stringify([
  people.map(({ device }) => [stepsOf(parts, device), [...lastSteps(parts, device)], [...badReleases(parts, device)], [...committedOf(parts, device)], [...minSecuresOf(parts, device)]]),
  historyOf(parts, { limit: 1_000 }), [...capabilitiesOf(parts)].sort(), turnsOf(parts), adviceOn(parts, one.id, ["role:owner", "agent:watch"]), parts.tables.updates.offers(),
  parts.tables.updates.proposals(), parts.tables.updates.signatures(key(9)), parts.tables.updates.bans(), parts.tables.updates.channels(), parts.tables.updates.signers(), parts.tables.updates.withdrawn(key(9))
])

t.test("any order of arrival, twice the same, and what a cut-off takes, give one state", async (t) => {
  const wishes: ReadonlyArray<(random: (max: number) => number) => Wanted> = [
    (random) => sayStep([one, two, three][random(3)] ?? one, (["seen", "trial", "healthy", "committed", "rolled-back", "failed", "stopped"] as const)[random(7)] ?? "seen", "why", { generation: random(4) }),
    (random) => asked([one, two][random(2)]?.id ?? one.id, random(9)), (random) => advised(one.id, ["advice", "veto", "withdrawn"][random(3)] ?? "veto", "x"), () => capable("1.0.0"),
    () => sayOffer(one, "compatible", ["a risk"], ""), () => ({ type: "update.banned/1", subject: "peer", body: { device: key(7), why: "bad pieces" } }),
    () => ({ type: "channel.stated/1", subject: "channel/stable", body: { channel: key(8), name: "stable", trust: "fresh", detail: "" } }),
    (random) => ({ type: "release.proposed/1", subject: "release", body: { channel: key(8), role: "targets", version: random(3), unsigned: new Uint8Array([random(3)]), summary: "" } }),
    () => ({ type: "release.signed/1", subject: "release", body: { channel: key(8), proposal: key(9), keyId: key(5), signature: "s" } }),
    () => ({ type: "release.withdrawn/1", subject: "release", body: { channel: key(8), proposal: key(9), reason: "" } }), () => ({ type: "release.signer/1", subject: "node", body: { key: key(5), name: "mara" } })
  ]
  for (let seed = 1; seed <= 30; seed++) {
    const random = seeded(seed)
    const events = story(Array.from({ length: 40 }, () => [
      [key(11), key(12), key(21), key(31), key(41)][random(5)] ?? key(11), (wishes[random(wishes.length)] ?? (() => capable("1.0.0")))(random), { ms: random(5), actor: ["device", "agent:watch"][random(2)] ?? "device" }
    ] as const))
    const straight = opened(t)
    for (const said of events) fold(straight, said)
    const mixed = opened(t)
    for (const said of events.map((said) => ({ said, at: random(1_000) })).sort((a, b) => a.at - b.at)) {
      fold(mixed, said.said)
      if (random(3) === 0) fold(mixed, said.said)
    }
    t.equal(shown(reading(mixed)), shown(reading(straight)), `seed ${seed}`)
    // What stands beyond a cut-off is as if it had never been.
    straight.removeRows({ log: key(21), from: 3, to: 1_000 })
    const cut = opened(t)
    for (const said of events.filter(({ log, block }) => log !== key(21) || block < 3)) fold(cut, said)
    t.equal(shown(reading(straight)), shown(reading(cut)), `seed ${seed}, cut`)
  }
})

t.test("what a device runs, what is bad for it and how far it may go back", async (t) => {
  const parts = told(t, [
    [attic.logs[0], sayStep(one, "trial", "", { generation: 1 })], [attic.logs[0], sayStep(one, "committed", "", { generation: 1 })],
    [attic.logs[0], sayStep(two, "committed", "", { generation: 2 })], [shed.logs[0], sayStep(two, "rolled-back", "no peer answers", { generation: 1 })],
    // Its clock went back; its second log comes after its first all the same.
    [attic.logs[1], sayStep(three, "trial", "", { generation: 3 }), { ms: 5 }], [attic.logs[1], sayStep(three, "rolled-back", "it does not start", { generation: 3 }), { ms: 6 }],
    [gone.logs[0], sayStep(three, "committed", "")]
  ])
  t.equal(committedOf(parts, attic.device).get("kos")?.version, "1.2.0")
  t.same([...badReleases(parts, attic.device)].map(([release, step]) => [release, step.detail]), [[three.id, "it does not start"]])
  t.same([...badReleases(parts, shed.device).keys()], [two.id], "each device has its own")
  t.same(minSecuresOf(parts, attic.device).get("kos"), ["1.0.5", "1.1.0"], "what was never committed raises nothing")
  t.equal(floorOf(minSecuresOf(parts, attic.device).get("kos") ?? []), "1.1.0")
  t.equal(lastSteps(parts, attic.device).get(three.id)?.step, "rolled-back")
  t.equal(stepsOf(parts, gone.device).length, 0, "who is no member any more says nothing")
  t.same(historyOf(parts, { device: attic.device, limit: 2 }).map(({ node, version, step, detail, generation, actor }) => [node, version, step, detail, generation, actor]), [
    ["attic", "1.3.0", "rolled-back", "it does not start", 3, "device"], ["attic", "1.3.0", "trial", "", 3, "device"]
  ])
  fold(parts.tables, { ...sayStep(two, "rolled-back", "a person went back", { generation: 2 }), log: attic.logs[1], block: 2, ms: 7, actor: "person:mara" })
  t.equal(committedOf(parts, attic.device).get("kos")?.version, "1.1.0")
  t.same(minSecuresOf(parts, attic.device).get("kos"), ["1.0.5", "1.1.0"], "going back takes no floor away")
  fold(parts.tables, { ...sayStep(three, "committed", ""), log: attic.logs[1], block: 3, ms: 8, actor: "person:mara" })
  t.notOk(badReleases(parts, attic.device).has(three.id), "a person tried it again, and it is good")
})

t.test("turns: asked, on trial, ended and given back; numbers grow and are bounded", async (t) => {
  const parts = told(t, [
    [attic.logs[0], asked(one.id, 1)], [shed.logs[0], asked(one.id, 2)], [rita.logs[0], asked(one.id, Number.MAX_SAFE_INTEGER)], [gone.logs[0], asked(one.id, 3)],
    [attic.logs[1], sayStep(one, "trial", "")]
  ])
  const seen = () => turnsOf(parts).asks.map(({ device, state, number }) => [parts.members.nameOf(device), state, number])
  t.same(seen(), [["attic", "trial", 1], ["shed", "asked", 2], ["rita", "asked", 1_000_000_000_000]])
  t.equal(turnsOf(parts).nextNumber, 1_000_000_000_000, "who claims a huge number stops nobody from asking")
  t.same(decideAskTurn(turnsOf(parts), shed.device, one), [], "it asked already")
  t.same(decideGiveBackTurn(turnsOf(parts), key(5), one), [])
  for (const [log, block, wanted] of [[attic.logs[1], 1, sayStep(one, "committed", "")], [shed.logs[0], 1, ...decideGiveBackTurn(turnsOf(parts), shed.device, one)], [shed.logs[0], 2, sayStep(two, "trial", "a person insisted")]] as const) {
    if (wanted !== undefined) fold(parts.tables, { ...wanted, log, block, ms: 2_000, actor: "device" })
  }
  t.same(seen(), [["shed", "trial", 0], ["rita", "asked", 1_000_000_000_000]])
  t.same(decideAskTurn({ asks: [], nextNumber: 7 }, attic.device, two), [{ type: "update.turn/1", subject: "update/kos", body: { release: two.id, state: "asked", number: 7 } }])
})

t.test("what nodes can read is their newest word, and one that writes much pushes out its own rows only", async (t) => {
  const parts = told(t, [[attic.logs[1], capable("1.1.0")], [attic.logs[0], capable("1.0.0")], [shed.logs[0], capable("1.0.0")], [gone.logs[0], capable("1.0.0")]])
  t.same([...capabilitiesOf(parts)].map(([device, { version }]) => [parts.members.nameOf(device), version]).sort(), [["attic", "1.1.0"], ["shed", "1.0.0"]])
  parts.tables.transaction(() => {
    for (let block = 1; block <= updateRowsPerLogMax + 10; block++) fold(parts.tables, { ...asked(one.id, block), log: shed.logs[0], block, ms: 9_000, actor: "device" })
    for (let block = 5; block <= proposalsPerLogMax + 10; block++) {
      fold(parts.tables, { type: "release.proposed/1", subject: "release", body: { channel: key(8), role: "targets", version: block, unsigned: new Uint8Array([block]), summary: "" }, log: rita.logs[0], block, ms: 1, actor: "device" })
    }
  })
  t.equal(parts.tables.updates.turns().length, updateRowsPerLogMax)
  t.equal(parts.tables.updates.proposals(key(8)).length, proposalsPerLogMax)
  t.equal(capabilitiesOf(parts).size, 2)
})

t.test("advice: who may, whose veto counts, and the newest word of each", async (t) => {
  const vetoers = ["agent:watch", "role:owner"]
  const parts = told(t, [
    [attic.logs[0], advised(one.id, "veto", "not before sunday")], [shed.logs[0], advised(one.id, "veto", "disk"), { actor: "agent:watch" }], [shed.logs[0], advised(one.id, "veto", "no"), { actor: "agent:other" }],
    [rita.logs[0], advised(one.id, "veto", "no"), { actor: "agent:watch" }], [shed.logs[0], advised(one.id, "advice", "fine")], [shed.logs[0], advised(two.id, "veto", "no"), { actor: "agent:watch" }]
  ])
  t.same(adviceOn(parts, one.id, vetoers).map(({ node, actor, stance, counts }) => [node, actor, stance, counts]), [
    ["attic", "device", "veto", true], ["shed", "agent:other", "veto", false], ["shed", "agent:watch", "veto", true], ["shed", "device", "advice", false]
  ])
  t.same(adviceOn(parts, one.id, ["node:shed"]).filter(({ counts }) => counts).map(({ actor }) => actor), ["agent:other", "agent:watch"])
  const given = (device: string, stance: "advice" | "veto" | "withdrawn", text: string, actor = "device") => decideAdvice(mesh, device, vetoers, one, adviceOn(parts, one.id, vetoers), { stance, text, actor })
  const plan = (decided: Plan | Refusal): Plan => {
    if (decided instanceof Refusal) throw decided
    return decided
  }
  const refused = (decided: Plan | Refusal, kind: string, detail: RegExp): void => {
    t.ok(decided instanceof Refusal)
    if (decided instanceof Refusal) t.match([decided.kind, decided.detail].join(" "), new RegExp(`^${kind} .*${detail.source}`))
  }
  t.match(plan(given(attic.device, "veto", "never")).summary, /^vetoed kos 1\.1\.0: no node takes it by itself/)
  t.match(plan(given(shed.device, "veto", "never", "person:mara")).summary, /noted as advice only: update\.veto does not name person:mara of shed/)
  t.same(plan(given(attic.device, "veto", "not before sunday")).events, [], "said before")
  t.same(plan(given(attic.device, "withdrawn", "")).events, [{ type: "update.advised/1", subject: "update/kos", body: { release: one.id, stance: "withdrawn", text: "" } }])
  refused(given(rita.device, "advice", "fine"), "denied", /reader/)
  refused(given(gone.device, "advice", "fine"), "denied", /revoked/)
  refused(given(attic.device, "advice", " "), "usage", /needs a text/)
  refused(given(attic.device, "advice", "x".repeat(adviceCharsMax + 1)), "usage", /513 characters/)
  refused(given(shed.device, "withdrawn", "", "person:mara"), "not-found", /has said nothing of kos 1\.1\.0/)
  fold(parts.tables, { ...advised(one.id, "withdrawn"), log: attic.logs[0], block: 1, ms: 3_000, actor: "device" })
  t.notOk(adviceOn(parts, one.id, vetoers).some(({ node }) => node === "attic"))
})

t.test("what is said fits its schema and is not said twice", async (t) => {
  const long = "x".repeat(5_000)
  const offer = sayOffer(one, "unfit", Array.from({ length: 50 }, () => long), long)
  for (const wanted of [sayStep(two, "committed", long, { generation: 3, differences: 2 }), offer, ...decideBan(new Set(), key(7), long), ...decideChannel(undefined, { channel: key(8), name: "stable", trust: "stale", detail: long })]) {
    t.ok(must(decodeBody(wanted.type, wanted.body)), wanted.type)
  }
  t.match(sayStep(two, "committed", "").body, { minSecure: "1.1.0", version: "1.2.0", release: two.id })
  t.notOk(Object.hasOwn(sayStep(releaseOf(), "seen", "").body as object, "minSecure"))
  const parts = told(t, [[attic.logs[0], sayOffer(one, "compatible", ["a"], "")]])
  const last = parts.tables.updates.offers(one.id)[0]?.body
  t.equal(decideOffer(last, one, "compatible", ["a"], "").length, 0)
  t.equal(decideOffer(last, one, "compatible", ["b"], "").length, 1)
  t.equal(decideOffer(last, one, "stale", ["a"], "").length, 1)
  t.equal(decideOffer(undefined, one, "compatible", ["a"], "").length, 1)
  t.equal(decideBan(new Set([key(7)]), key(7), "again").length, 0)
  const now = { channel: key(8), name: "stable", trust: "fresh", detail: "" } as const
  t.equal(decideChannel(now, now).length, 0)
  t.equal(decideChannel(now, { ...now, trust: "stale" }).length, 1)
})
