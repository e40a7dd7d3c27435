/** Folds and deciders of federations: order does not matter, only those who may speak count, and what comes from others is hostile until it fits. */
import t, { type Test } from "tap"
import { acceptable, decideBegin, decideEnd, decideItems, eventCharsMax, eventItemsMax, federationCalled, othersMax } from "../src/commands/decide-federation.ts"
import type { Wanted } from "../src/commands/dispatch.ts"
import { Refusal } from "../src/commands/refusal.ts"
import { decodeBody } from "../src/events/catalogue.ts"
import { asFederation, federatedNames, type Federation, federationsOf, itemsMax, kinds, newest, receivedRows } from "../src/projections/federation.ts"
import type { Member, Membership } from "../src/projections/membership.ts"
import type { ItemRow } from "../src/projections/tables/federation.ts"
import type { Tables } from "../src/projections/tables/tables.ts"
import { chance, deviceOf, key, must } from "./membership-world.ts"
import { opened } from "./tables-help.ts"

const people = { olga: "owner", adam: "admin", mona: "member", rita: "reader" } as const
type Person = keyof typeof people
const names = Object.keys(people) as ReadonlyArray<Person>
const logOf = (name: string) => key(`log ${name}`)
const federation = key("federation")
const there = { mesh: key("their mesh"), name: "grove" }

const membership = (standing: Partial<Record<Person, Member["standing"]>> = {}, roles: Partial<Record<Person, Member["role"]>> = {}): Membership => {
  const members = new Map(names.map((name): [string, Member] => [deviceOf(name), {
    device: deviceOf(name), name, role: roles[name] ?? people[name], since: key("since"), by: deviceOf("olga"), ms: 0, standing: standing[name] ?? "member",
    granted: { hash: key("since"), by: deviceOf("olga"), ms: 0 }, logs: [{ log: logOf(name), from: key("since") }]
  }]))
  return {
    id: key("mesh"), name: "hill", members, invites: new Map(), devices: new Map(names.map((name) => [logOf(name), deviceOf(name)])), void: [], epochs: [], threshold: 1,
    recovery: undefined, operations: 1, waiting: 0, heads: []
  }
}

interface Said extends Wanted {
  readonly who: Person
  readonly block: number
  readonly ms: number
}

/** As the runner does: the row of the index, and the fold of its type. */
const fold = (tables: Tables, { who, block, ms, type, subject, body }: Said): void => {
  const decoded = must(decodeBody(type, body))
  if (decoded._tag === "Unknown") throw new Error(`${type} is not known`)
  const envelope = { type, at: { ms, count: 0 }, actor: "device", subject, command: "", cause: [], body }
  tables.transaction(() => {
    tables.events.add([{ log: logOf(who), block, offset: 0, type, ms, count: 0, actor: "device", subject, status: "known" }])
    tables.folds.get(type)?.({ log: logOf(who), block, offset: 0, device: deviceOf(who), envelope, body: decoded.body })
  })
}

const reading = (tables: Tables, view: Membership = membership()) => ({ tables, members: { view: () => view, deviceOf: (log: string) => view.devices.get(log) } })

const begun = (shares: ReadonlyArray<string> = ["names"], of = federation): Wanted => ({ type: "federation.begun/1", subject: "f", body: { federation: of, shares } })
const ended = (of = federation): Wanted => ({ type: "federation.ended/1", subject: "f", body: { federation: of, reason: "" } })
const received = (items: Readonly<Record<string, string | null>>, kind = "names", from = there): Wanted =>
  ({ type: "federation.received/1", subject: "f", body: { federation, from, kind, items: Object.entries(items).map(([id, value]) => ({ id, value })) } })
const named = (name: string, services: ReadonlyArray<string> = []): string => JSON.stringify({ name, services })
const met = received({ [there.mesh]: JSON.stringify({ name: "grove", shares: ["names"] }) }, "mesh")

const story = (events: ReadonlyArray<readonly [Person, Wanted]>): ReadonlyArray<Said> => {
  const blocks = new Map<Person, number>()
  return events.map(([who, wanted], i) => {
    const block = blocks.get(who) ?? 0
    blocks.set(who, block + 1)
    return { ...wanted, who, block, ms: 1_000 + i }
  })
}

const told = (t: Test, events: ReadonlyArray<readonly [Person, Wanted]>, view?: Membership) => {
  const tables = opened(t)
  for (const said of story(events)) fold(tables, said)
  return reading(tables, view)
}

const shown = (parts: Parameters<typeof federationsOf>[0]): string => JSON.stringify([
  federationsOf(parts).map((one) => ({ ...one, bridges: [...one.bridges].sort() })), federatedNames(parts), asFederation({ ...parts, mesh: federation })
])

t.test("any order of arrival, twice the same, and what a cut-off takes, give one state", async (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const random = chance(seed)
    const events = story(Array.from({ length: 30 }, (): readonly [Person, Wanted] => {
      const who = random.pick(names)
      const what = random.below(10)
      if (what === 0) return [who, begun(random.pick([["names"], ["names", "threats"], []]))]
      if (what === 1) return [who, random.below(4) === 0 ? ended() : met]
      return [who, received({ [key(`node ${random.below(4)}`)]: random.below(4) === 0 ? null : named(`node-${random.below(9)}`) })]
    // Stamps of several authors are often equal.
    })).map((said) => ({ ...said, ms: 1_000 + random.below(6) }))
    const cut = { log: logOf("adam"), from: random.below(5), to: Number.MAX_SAFE_INTEGER }
    const views = [1, 2, 3].map((n) => {
      const tables = opened(t, `${t.testdir({})}/../${seed}-${n}.db`)
      const arriving = n === 1 ? events : chance(seed * 100 + n).shuffle(events)
      for (const said of arriving) fold(tables, said)
      const whole = shown(reading(tables))
      tables.removeRows(cut)
      const rest = shown(reading(tables))
      const only = opened(t, `${t.testdir({})}/../${seed}-${n}-cut.db`)
      for (const said of arriving) if (said.who !== "adam" || said.block < cut.from) fold(only, said)
      t.equal(rest, shown(reading(only)), `seed ${seed}: as if it had never been said`)
      return whole
    })
    t.equal(views[0], views[1], `seed ${seed}`)
    t.equal(views[0], views[2], `seed ${seed}`)
  }
})

t.test("only admins and owners speak for their mesh, and only while they are", async (t) => {
  const node = key("node")
  t.same(federationsOf(told(t, [["mona", begun()], ["rita", begun()]])), [], "a member cannot begin one")
  const events: ReadonlyArray<readonly [Person, Wanted]> = [["adam", begun()], ["adam", met], ["adam", received({ [node]: named("barn") })], ["mona", received({ [key("x")]: named("planted") })], ["mona", ended()]]
  const parts = told(t, events)
  t.match(federationsOf(parts), [{ id: federation, shares: ["names"], begunBy: deviceOf("adam"), ended: undefined, others: [{ id: there.mesh, name: "grove", shares: ["names"] }] }])
  t.match(federatedNames(parts), [{ name: "barn", device: node, meshName: "grove" }])
  t.equal(federatedNames(parts).length, 1, "what a member wrote is not shown")
  for (const view of [membership({ adam: "revoked" }), membership({ adam: "left" }), membership({}, { adam: "member" })]) t.same(federationsOf(reading(parts.tables as Tables, view)), [])
})

t.test("an end is for ever, and hides everything", async (t) => {
  const parts = told(t, [["adam", begun()], ["adam", met], ["adam", received({ [key("node")]: named("barn") })], ["olga", ended()], ["adam", begun(["threats"])], ["adam", received({ [key("node")]: named("shed") })]])
  t.match(federationsOf(parts), [{ ended: { by: deviceOf("olga") }, others: [] }])
  t.same(federatedNames(parts), [])
  const list = federationsOf(parts)
  t.match(decideBegin(membership(), deviceOf("olga"), list, { federation, shares: [] }), { kind: "conflict" })
  t.same(decideEnd(membership(), deviceOf("olga"), list[0] as Federation, ""), [], "ended once is ended")
  t.match(decideEnd(membership(), deviceOf("mona"), list[0] as Federation, ""), { kind: "denied" })
  t.match(decideBegin(membership({ olga: "revoked" }), deviceOf("olga"), [], { federation, shares: [] }), { kind: "denied" })
  t.match(federationCalled(list, "grove"), { kind: "not-found" })
  const open = federationsOf(told(t, [["adam", begun()], ["adam", met]]))
  for (const text of ["grove", "GROVE", federation.slice(0, 8)]) t.equal((federationCalled(open, text) as Federation).id, federation)
  t.ok(federationCalled(open, "grov") instanceof Refusal)
})

t.test("what comes from others is taken only as far as it is what it says it is", async (t) => {
  const row = (item: string, value: string | undefined, more: Partial<ItemRow> = {}): ItemRow => ({ federation: "", mesh: there.mesh, meshName: "grove", kind: "names", item, value, log: logOf("olga"), ms: 1, ...more })
  const good = key("good")
  const rows = [
    row(good, named("barn", ["weather"])), row(key("1"), "{"), row(key("2"), "null"), row(key("3"), named("no name")), row(key("4"), named("../etc")), row(key("5"), JSON.stringify({ name: "x", services: [], role: "owner" })),
    row(key("6"), JSON.stringify({ name: "x", services: ["a b"] })), row("not a key", named("x")), row(key("7"), named("x".repeat(65))), row(key("8"), JSON.stringify({ name: "x", services: Array(65).fill("s") })), row(key("9"), undefined),
    row(key("own"), named("own"), { mesh: key("mesh") })
  ]
  const taken = acceptable(rows, "names", key("mesh"))
  t.same([...taken].map(([mesh, { name, items }]) => [mesh, name, [...items.keys()]]), [[there.mesh, "grove", [good]]])
  for (const kind of ["releases", "threats"] as const) t.equal([...acceptable([row(good, "{}", { kind })], kind, key("mesh")).values()][0]?.items.size, 0, "of these kinds there is nothing yet")
  t.equal(acceptable(Array.from({ length: 40 }, (_, i) => row(good, named("barn"), { mesh: key(`mesh ${i}`) })), "names", key("mesh")).size, othersMax)
  const many = Array.from({ length: itemsMax + 50 }, (_, i) => row(i.toString(16).padStart(64, "0"), named(`node-${i}`)))
  t.equal(acceptable(many, "names", key("mesh")).get(there.mesh)?.items.size, itemsMax)
  t.equal(newest(many, "names").length, itemsMax)
})

t.test("only what changed is written, in events of bounded size, and writing it brings both sides in step", async (t) => {
  const tables = opened(t)
  const parts = reading(tables)
  let block = 0
  const step = (wanted: ReadonlyMap<string, string>): ReadonlyArray<Wanted> => {
    const events = decideItems(newest(receivedRows(parts, federation), "names"), wanted, there, "names", { federation })
    for (const event of events) fold(tables, { ...event, who: "adam", block: block++, ms: block })
    return events
  }
  const wanted = new Map(Array.from({ length: 600 }, (_, i) => [key(`${i}`), named(`node-${i}`)]))
  const first = step(wanted)
  t.equal(first.length, Math.ceil(600 / eventItemsMax))
  t.same(step(wanted), [], "nothing changed, nothing is written")
  wanted.delete(key("3"))
  wanted.set(key("4"), named("four"))
  const second = step(wanted)
  t.match(second, [{ body: { items: [{ id: key("3"), value: null }, { id: key("4"), value: named("four") }] } }])
  t.same(new Map(newest(receivedRows(parts, federation), "names").flatMap(({ item, value }) => value === undefined ? [] : [[item, value]])), new Map([...wanted].sort(([a], [b]) => a < b ? -1 : 1)))
  t.same(step(new Map()).flatMap(({ body }) => (body as { items: ReadonlyArray<unknown> }).items).length, 599, "all of it can be taken back")
  t.same(step(new Map()), [])
  const large = step(new Map(Array.from({ length: 6 }, (_, i) => [key(`${i}`), "x".repeat(20_000)])))
  for (const { body } of large) t.ok(JSON.stringify(body).length <= eventCharsMax + 4_096)
})

t.test("a channel is shared by its name and code, and nothing else passes for one", async (t) => {
  const code = `kos-channel:${"a".repeat(103)}`
  const { fits } = kinds.releases
  t.ok(fits("stable", JSON.stringify({ code })))
  for (const [id, value] of [["stable", "{}"], ["stable", JSON.stringify({ code: "" })], ["stable", JSON.stringify({ code: `${code}a` })], ["stable", JSON.stringify({ code, more: 1 })], ["../x", JSON.stringify({ code })], ["", JSON.stringify({ code })]] as const) {
    t.notOk(fits(id, value), `${id} ${value}`)
  }
})
