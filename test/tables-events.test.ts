import t from "tap"
import { planEvents, type EventQuery } from "../src/projections/tables/event-query.ts"
import type { EventRow, NewEvent } from "../src/projections/tables/event-index.ts"
import { event, frames, logKey, opened, reasonOf, seeded } from "./tables-help.ts"

const command = "0190163d-8694-739b-aea5-966c26f8ad91"
const all = { order: "oldest", limit: 10_000 } as const

t.test("an event is found by arrival, address, command and subject", async (t) => {
  const { events } = opened(t)
  const first = event({ command })
  t.same(events.add([first, event({ offset: 1, command }), event({ block: 1, subject: "config/mesh/net" })]), [1, 2, 3])
  const { command: _, ...kept } = first
  t.same(events.byArrival(1), { arrival: 1, ...kept })
  t.equal(events.byAddress({ log: logKey(1), block: 1, offset: 0 })?.arrival, 3)
  t.equal(events.byCommand(command)?.arrival, 1, "the first event of the command")
  t.equal(events.byCommand("0190163d-8694-739b-aea5-966c26f8ad92"), undefined)
  t.equal(events.byAddress({ log: logKey(9), block: 0, offset: 0 }), undefined)
  t.equal(events.byArrival(4), undefined)
  t.same(events.forSubject("memory/notes/a").map((row) => row.arrival), [1, 2])
})

t.test("an event that comes again keeps its number and counts once", async (t) => {
  const { events } = opened(t)
  t.same(events.add([event(), event({ offset: 1 })]), [1, 2])
  const [again, fresh] = events.add([event(), event({ offset: 2 })])
  t.equal(again, 1)
  t.equal(events.byArrival(fresh ?? 0)?.offset, 2)
  t.equal(events.totals().events, 3)
  t.same(events.countByLog(), [{ log: logKey(1), events: 3 }])
})

t.test("a subject's events come by log, block and offset, up to a point", async (t) => {
  const { events } = opened(t)
  events.add([event({ log: logKey(2), block: 1 }), event({ log: logKey(1), block: 3, offset: 1 }), event({ log: logKey(1), block: 3 }), event({ log: logKey(2) })])
  const places = (rows: ReadonlyArray<EventRow>) => rows.map((row) => `${row.log.slice(0, 2)}/${row.block}.${row.offset}`)
  t.same(places(events.forSubject("memory/notes/a")), ["01/3.0", "01/3.1", "02/0.0", "02/1.0"])
  t.same(places(events.forSubject("memory/notes/a", { [logKey(1)]: 3, [logKey(2)]: 1 })), ["02/0.0"])
  t.same(events.forSubject("memory/notes/none"), [])
})

t.test("every query gives what a plain filter gives, whatever way it takes (seeds 1 to 3)", async (t) => {
  const dir = t.testdir()
  for (const seed of [1, 2, 3]) {
    const tables = opened(t, `${dir}/${seed}.db`)
    const list = frames(300, seed).flat()
    const arrivals = tables.events.add(list)
    const random = seeded(seed * 7)
    const some = <A>(values: ReadonlyArray<A>): A | undefined => values[random(values.length + 2)]
    for (let i = 0; i < 150; i++) {
      const since = some([1_800_000_000_000 + random(30_000)])
      const type = some(["memory.*", "memory.changed", "memory.changed/1", "node.*", "nothing.*"])
      const subject = some(["memory/notes/page1", "memory/notes/page1*", "memory/*", "config/*"])
      const actor = some(["device", "person:mara", "agent:*"])
      const [minimum, maximum, status] = [some([100]), some([900]), some(["known", "unknown", "quarantined"] as const)]
      const query: EventQuery = {
        order: random(2) === 0 ? "oldest" : "newest", limit: 1 + random(40),
        ...type === undefined ? {} : { types: random(2) === 0 ? [type] : [type, "config.changed/1"] },
        ...random(2) === 0 ? {} : { logs: random(2) === 0 ? [logKey(1)] : [logKey(2), logKey(3), logKey(99)] },
        ...since === undefined ? {} : { since }, ...random(2) === 0 ? {} : { until: 1_800_000_000_000 + random(60_000) },
        ...subject === undefined ? {} : { subject }, ...actor === undefined ? {} : { actor }, ...status === undefined ? {} : { status },
        ...minimum === undefined ? {} : { arrivalMin: minimum }, ...maximum === undefined ? {} : { arrivalMax: maximum }
      }
      const wanted = list.map((e, at) => ({ e, arrival: arrivals[at] ?? 0 })).filter(({ e, arrival }) => fits(query, e, arrival)).map(({ arrival }) => arrival)
      if (query.order === "newest") wanted.reverse()
      const got: Array<number> = []
      let next: number | undefined
      do {
        const page = tables.events.query(next === undefined ? query : { ...query, after: next })
        got.push(...page.events.map((row) => row.arrival))
        next = page.next
      } while (next !== undefined)
      if (JSON.stringify(got) !== JSON.stringify(wanted)) t.same(got, wanted, JSON.stringify({ seed, query }))
      // A large set is found by a scan; so that a small one shows the same, no row may be sorted here.
      const scan = planEvents(tables.database, tables.names, query, -1)
      const scanned = scan === undefined ? [] : tables.database.prepare(scan.sql).all(...scan.values).map((row) => Number(row["id"]))
      if (JSON.stringify(scanned) !== JSON.stringify(wanted.slice(0, query.limit + 1))) t.same(scanned, wanted, JSON.stringify({ scan, query }))
    }
  }
  t.pass("450 queries")
})

const matches = (pattern: string, name: string) => (pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : pattern === name)

const fits = (query: EventQuery, e: NewEvent, arrival: number): boolean =>
  (query.types === undefined || query.types.some((type) => matches(type.includes("/") || type.endsWith("*") ? type : `${type}/*`, e.type))) &&
  (query.logs === undefined || query.logs.includes(e.log)) && (query.actor === undefined || matches(query.actor, e.actor)) &&
  (query.subject === undefined || matches(query.subject, e.subject)) && (query.status === undefined || query.status === e.status) &&
  e.ms >= (query.since ?? 0) && e.ms < (query.until ?? Infinity) && arrival >= (query.arrivalMin ?? 0) && arrival <= (query.arrivalMax ?? Infinity)

t.test("queries use the indexes", async (t) => {
  const { events, database, names } = opened(t)
  events.add(frames(500, 5).flat())
  const explain = (query: EventQuery) => {
    const plan = planEvents(database, names, query)
    if (plan === undefined) throw new Error("no plan")
    const steps = database.prepare(`EXPLAIN QUERY PLAN ${plan.sql}`).all(...plan.values).map((row) => String(row["detail"])).join("; ")
    return { way: plan.way, steps }
  }
  t.match(explain({ ...all, logs: [logKey(1)], types: ["memory.changed/1"], since: 5, until: 2e12 }), { way: "kind", steps: /USING INDEX events_log_type_ms \(log=\? AND type=\? AND ms>\? AND ms<\?\)/ })
  t.match(explain({ ...all, types: ["memory.*"] }), { way: "kind", steps: /USING INDEX events_log_type_ms \(log=\? AND type=\?\)/ })
  t.match(explain({ ...all, since: 5 }), { way: "kind", steps: /USING INDEX events_log_type_ms \(log=\? AND type=\? AND ms>\?\)/ })
  const subject = explain({ ...all, subject: "memory/notes/page1" })
  t.match(subject, { way: "subject", steps: /USING INDEX events_subject \(subject=\?\)/ })
  t.notMatch(subject, { steps: /TEMP B-TREE/ }, "one subject needs no sorting")
  t.match(explain({ ...all, subject: "memory/notes/*" }), { way: "subject", steps: /USING INDEX events_subject \(subject=\?\)/ })
  const page = explain({ ...all, order: "newest" })
  t.equal(page.way, "scan")
  t.notMatch(page, { steps: /TEMP B-TREE/ })
  t.match(explain({ ...all, after: 40 }), { way: "scan", steps: /USING INTEGER PRIMARY KEY \(rowid>\?\)/ })
  const steps = (sql: string, ...values: ReadonlyArray<number>) => database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...values).map((row) => String(row["detail"])).join("; ")
  t.match(steps("SELECT * FROM events WHERE log = ? AND block = ? AND offset = ?", 1, 1, 1), /USING INDEX events_address \(log=\? AND block=\? AND offset=\?\)/)
  t.match(steps("SELECT count(*) FROM events WHERE log = ? AND block >= ?", 1, 1), /USING COVERING INDEX events_address \(log=\? AND block>\?\)/)
})

t.test("a page has a limit, and a limit that is none is refused", async (t) => {
  const { events } = opened(t)
  events.add([event()])
  for (const limit of [0, -1, 1.5, Number.NaN, 10_001]) t.equal(reasonOf(() => events.query({ order: "oldest", limit })), "failed", String(limit))
  t.equal(events.query({ order: "oldest", limit: 1 }).next, undefined)
})

t.test("counts say how many of each kind there are, and follow a changed status", async (t) => {
  const tables = opened(t)
  const { events } = tables
  events.add([event({ type: "new.thing/1", status: "unknown" }), event({ block: 1, type: "new.thing/1", status: "unknown" }), event({ block: 2, status: "quarantined" }), event({ block: 3 })])
  t.same(events.totals(), { events: 4, unknown: 2, quarantined: 1, lastArrival: 4 })
  t.same(events.unknownTypes(), [{ type: "new.thing/1", events: 2 }])
  t.ok(events.setStatus(event(), "known"))
  t.notOk(events.setStatus(event({ block: 9 }), "known"))
  t.same(events.unknownTypes(), [{ type: "new.thing/1", events: 1 }])
  t.equal(events.byArrival(1)?.status, "known")
  t.same(tables.integrity(), [])
})

t.test("what waits from a block on is counted from either side", async (t) => {
  const { events } = opened(t)
  const list = frames(400, 8).flat()
  events.add(list)
  const own = list.filter((e) => e.log === logKey(2))
  for (const block of [0, 3, 60, 1_000]) {
    const rest = own.filter((e) => e.block >= block)
    t.same(events.from(logKey(2), block), { events: rest.length, sinceMs: rest[0]?.ms }, `block ${block}`)
  }
  t.same(events.from(logKey(77), 0), { events: 0, sinceMs: undefined })
})
