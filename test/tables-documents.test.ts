import t from "tap"
import { matchOf } from "../src/projections/tables/memory-search.ts"
import { change, event, logKey, opened, seeded, state } from "./tables-help.ts"

const page = "memory/notes/garden"
const bytes = (...list: ReadonlyArray<number>) => new Uint8Array(list)

t.test("a document comes back as it was stored: snapshot, gate and the changes since, in order of arrival", async (t) => {
  const { documents } = opened(t)
  t.same(documents.load(page), { snapshot: undefined, gate: undefined, changes: [] })
  const changes = [change({ block: 5, change: bytes(5) }), change({ log: logKey(2), block: 1, offset: 3, ms: 7, change: bytes(1) }), change({ block: 6, change: bytes(6) })]
  documents.append(page, changes.slice(0, 2))
  documents.append("memory/notes/other", [change()])
  documents.append(page, changes.slice(2))
  t.same(documents.load(page), { snapshot: undefined, gate: undefined, changes })
  t.equal(documents.changesSinceSnapshot(page), 3)
  documents.putSnapshot(page, bytes(1, 2), bytes(3))
  t.same(documents.load(page), { snapshot: bytes(1, 2), gate: bytes(3), changes: [] })
  t.equal(documents.load("memory/notes/other").changes.length, 1)
})

t.test("a snapshot drops only the changes that it covers", async (t) => {
  const { documents } = opened(t)
  const through = documents.append(page, [change({ block: 1 }), change({ block: 2 })])
  t.equal(documents.lastChange(page), through)
  documents.append(page, [change({ block: 3 })])
  documents.putSnapshot(page, bytes(1), bytes(2), through)
  t.same(documents.load(page).changes.map((c) => c.block), [3])
  documents.putSnapshot(page, bytes(9), bytes(8), documents.lastChange(page))
  t.same(documents.load(page), { snapshot: bytes(9), gate: bytes(8), changes: [] })
  t.equal(documents.lastChange(page), 0)
})

t.test("a state comes back whole; what readers get may differ from the merged value", async (t) => {
  const { documents } = opened(t)
  t.equal(documents.state(page), undefined)
  documents.append(page, [change()])
  t.equal(documents.state(page), undefined, "changes alone are no state")
  const value = { z: [1, { b: null, a: "ü\u0000" }], a: true, fields: {} }
  const conflicts = [{ key: "z", values: [
    { value: 1, log: logKey(1), block: 0, offset: 0, ms: 1, winner: true }, { value: { x: 2 }, log: logKey(2), block: 3, offset: 1, ms: 2, winner: false }
  ] }]
  const full = state({ heads: ["a", "b"], value, live: { a: false }, faults: ["z: expected a number"], conflicts, writers: { a: { log: logKey(1), block: 4, offset: 0, ms: 9 } }, changes: 7, waiting: 2 })
  documents.putState(page, full)
  t.same(documents.state(page), full)
  const sound = state({ value })
  documents.putState(page, sound)
  t.same(documents.state(page), sound)
})

t.test("a value with a key that could reach a prototype reaches none", async (t) => {
  const { documents } = opened(t)
  const value: Record<string, never> = JSON.parse('{"__proto__": {"polluted": true}, "a": {"__proto__": 1}}')
  documents.putState("config/mesh/x", state({ value }))
  const read = documents.state("config/mesh/x")?.value
  t.ok(Object.hasOwn(read ?? {}, "__proto__"))
  t.equal(read?.["polluted"], undefined)
})

t.test("documents are listed by family and prefix, in pages", async (t) => {
  const { documents } = opened(t)
  for (const id of ["memory/notes/b", "memory/notes/a", "memory/work/a", "config/mesh/net", "agents/backup", "memory/notes/ä"]) documents.putState(id, state())
  const ids = (list: ReturnType<typeof documents.list>) => list.map((doc) => doc.id)
  t.same(ids(documents.list("memory")), ["memory/notes/a", "memory/notes/b", "memory/notes/ä", "memory/work/a"])
  t.same(ids(documents.list("memory", { prefix: "notes/" })), ["memory/notes/a", "memory/notes/b", "memory/notes/ä"])
  t.same(ids(documents.list("memory", { limit: 2, after: "memory/notes/b" })), ["memory/notes/ä", "memory/work/a"])
  t.same(ids(documents.list("agents")), ["agents/backup"])
  t.match(documents.list("config"), [{ id: "config/mesh/net", faults: [], stalled: undefined, conflicts: 0, changes: 1, waiting: 0 }])
})

t.test("the conflict inbox and the unwell documents are found by index", async (t) => {
  const tables = opened(t)
  const { documents } = tables
  const values = [{ value: 1, log: logKey(1), block: 0, offset: 0, ms: 1, winner: true }, { value: 2, log: logKey(2), block: 0, offset: 0, ms: 1, winner: false }]
  for (let i = 0; i < 50; i++) documents.putState(`config/mesh/n${i}`, state())
  documents.putState("config/mesh/n7", state({ conflicts: [{ key: "b", values }, { key: "a", values }] }))
  documents.putState("config/mesh/n9", state({ faults: ["x: expected a number"] }))
  documents.stall("config/mesh/n8", "the worker ended")
  t.same(documents.conflicts().map((doc) => [doc.id, doc.conflicts.map((c) => c.key)]), [["config/mesh/n7", ["a", "b"]]])
  t.same(documents.unwell().map((doc) => [doc.id, doc.faults, doc.stalled]), [
    ["config/mesh/n8", [], "the worker ended"], ["config/mesh/n9", ["x: expected a number"], undefined]
  ])
  t.equal(documents.stalled("config/mesh/n8"), "the worker ended")
  t.equal(documents.stalled("config/mesh/n9"), undefined)
  t.same(documents.stalledDocuments(), ["config/mesh/n8"])
  t.match(documents.totals(), { documents: 50, conflicts: 1, faulty: 1, stalled: 1 })
  documents.putState("config/mesh/n8", state())
  documents.putState("config/mesh/n7", state())
  t.same(documents.stalledDocuments(), [])
  t.same(documents.conflicts(), [])
  const plan = tables.database.prepare("EXPLAIN QUERY PLAN SELECT id FROM document_changes WHERE doc = ? ORDER BY id").all(1).map((row) => String(row["detail"])).join()
  t.match(plan, /USING COVERING INDEX document_changes_doc/)
  t.notMatch(plan, /TEMP B-TREE/)
})

t.test("a document that is reset is as if it had never been", async (t) => {
  const tables = opened(t)
  const before = tables.fingerprint()
  tables.documents.append(page, [change()])
  tables.documents.putSnapshot(page, bytes(1), bytes(2))
  tables.documents.append(page, [change({ block: 1 })])
  tables.documents.putState(page, state())
  tables.documents.reset(page)
  tables.documents.reset("memory/notes/never")
  t.same(tables.documents.load(page), { snapshot: undefined, gate: undefined, changes: [] })
  t.equal(tables.search.count(), 0)
  t.same(tables.fingerprint(), before)
})

t.test("a save that was begun before its document was built anew is not kept", async (t) => {
  const { documents } = opened(t)
  documents.append(page, [change()])
  const through = documents.lastChange(page)
  documents.renew(page)
  documents.putSnapshot(page, bytes(1), bytes(2), through)
  t.equal(documents.load(page).snapshot, undefined)
  documents.putSnapshot(page, bytes(1), bytes(2), documents.lastChange(page))
  t.same(documents.load(page).snapshot, bytes(1))
})

t.test("pages are found by name, title, tags, fields and text, as readers see them", async (t) => {
  const { documents, search } = opened(t)
  const put = (doc: string, value: Parameters<typeof state>[0]) => documents.putState(doc, state(value))
  put("memory/notes/apple-tree", { value: { title: "Pruning", text: "Cut in late winter. Größe egal.", tags: ["orchard"], fields: { height: 3, where: { field: "north hill" } } } })
  put("memory/notes/bees", { value: { title: "Bees", text: "They like the apple blossom in spring; winter is quiet." } })
  put("memory/work/tax", { value: { text: "the merged value is broken" }, live: { text: "papers are in the blue box" }, faults: ["x"] })
  put("config/mesh/winter", { value: { text: "winter" } })
  const found = (query: string, module?: string) => search.search(query, { limit: 10, ...module === undefined ? {} : { module } }).map((f) => f.doc)
  t.same(found("apple"), ["memory/notes/apple-tree", "memory/notes/bees"], "the name counts most")
  t.same(found("orchard"), ["memory/notes/apple-tree"])
  t.same(found("north height"), ["memory/notes/apple-tree"])
  t.same(found("GRÖSSE"), [], "ß is a letter of its own")
  t.same(found("große"), ["memory/notes/apple-tree"], "accents do not matter")
  t.same(found("wint*").toSorted(), ["memory/notes/apple-tree", "memory/notes/bees"])
  t.same(found("winter apple blossom"), ["memory/notes/bees"])
  t.same(found('"late winter"'), ["memory/notes/apple-tree"])
  t.same(found('"winter late"'), [])
  t.same(found("blue"), ["memory/work/tax"])
  t.same(found("broken"), [], "only what readers get")
  t.same(found("winter", "work"), [])
  t.match(search.search("blossom", { limit: 1 }), [{ snippet: /the apple \[blossom\] in spring/ }])
  put("memory/notes/bees", { value: { title: "Bees", text: "gone south" } })
  t.same(found("blossom"), [])
  t.same(found("south"), ["memory/notes/bees"])
  put("memory/notes/bees", { value: { title: "Bees", text: "gone south", state: "forgotten" } })
  t.same(found("south"), [])
  t.equal(search.count(), 2)
})

t.test("no query string breaks the search (named ones, and 2,000 of seed 9)", async (t) => {
  const { documents, search } = opened(t)
  documents.putState(page, state({ value: { text: "AND OR NOT NEAR a b text near NEAR(a b)" } }))
  const named = [
    "", " ", '"', '""', '"""', '"a', 'a"b', "'", "*", "a*", "**", "a**", '"a"*', "^a", "a ^b", "-a", "+a", "a + b", "text:a", "nothing:a", "{text title}:a", "(a", "a)", "()",
    "AND", "a AND", "NOT a", "a NOT b", "OR OR", "NEAR(a b", "NEAR(a b, 2)", "a\0b", "\0", "\ud800", "a\udfffb", "%", "_", "\\", ";", "--", "'; DROP TABLE names; --", "🙂", "مرحبا", "日本語",
    "a".repeat(100_000), "a ".repeat(100_000), '"'.repeat(5_000), "*".repeat(5_000), "\n\t\r", "\u2028", "e\u0301", "a:b:c", "col : a", "?1", ":name", "$a", "@a"
  ]
  const parts = ['"', "*", "(", ")", "a", "b", " ", "AND", "NOT", "OR", "NEAR", "^", ":", "-", "+", "{", "}", "\0", "text", ",", "'", "\\", "é", "\ud83d"]
  const random = seeded(9)
  const made = Array.from({ length: 2_000 }, () => Array.from({ length: random(12) }, () => parts[random(parts.length)]).join(""))
  for (const query of [...named, ...made]) {
    try {
      search.search(query, { limit: 3 })
    } catch (cause) {
      t.fail("a query threw", { query: JSON.stringify(query.slice(0, 60)), cause: String(cause) })
    }
  }
  t.same(search.search("NEAR AND", { limit: 5 }).map((f) => f.doc), [page], "operators are words")
  t.equal(search.search("a b", { limit: 5 }).length, 1)
  t.equal(search.search("a", { limit: -5 }).length, 0)
  t.equal(matchOf('a "b c" d* !!'), '"a" AND "b c" AND "d"*')
  t.equal(matchOf(Array.from({ length: 40 }, () => "w").join(" ")).split(" AND ").length, 16)
})

t.test("what is searchable and what is stored change together or not at all", async (t) => {
  const tables = opened(t)
  tables.documents.putState(page, state({ value: { text: "first" } }))
  t.throws(() => tables.transaction(() => {
    tables.events.add([event()])
    tables.documents.putState(page, state({ value: { text: "second" } }))
    throw new Error("no")
  }), { message: "no" })
  t.equal(tables.search.search("first", { limit: 1 }).length, 1)
  t.equal(tables.search.search("second", { limit: 1 }).length, 0)
  t.same(tables.documents.state(page)?.value, { text: "first" })
  t.same(tables.integrity(), [])
})
