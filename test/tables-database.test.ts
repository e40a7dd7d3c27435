import * as fs from "node:fs"
import * as path from "node:path"
import { DatabaseSync } from "node:sqlite"
import t from "tap"
import { replaceDatabase, wipeDatabase } from "../src/projections/tables/database.ts"
import { quarantineRowsMax } from "../src/projections/tables/quarantine.ts"
import { Tables } from "../src/projections/tables/tables.ts"
import { change, event, frames, logKey, opened, reasonOf, seeded, state } from "./tables-help.ts"

const [log, other] = [logKey(1), logKey(2)]
const [mara, attic, cabin] = ["a1".repeat(32), "a2".repeat(32), "a3".repeat(32)]

t.test("the file is for its owner only, and what was written is there after reopening", async (t) => {
  const file = path.join(t.testdir(), "tables.db")
  const first = new Tables(file)
  first.transaction(() => {
    first.events.add([event()])
    first.cursors.advance(log, 1)
    first.heads.grew(log, 4)
  })
  for (const suffix of ["", "-wal", "-shm"]) t.equal(fs.statSync(file + suffix).mode & 0o777, 0o600, `mode of ${suffix}`)
  const [print, id] = [first.fingerprint(), first.heads.sequenceId()]
  first.close()
  first.close()
  const again = opened(t, file)
  t.same(again.fingerprint(), print)
  t.equal(again.heads.sequenceId(), id)
  t.equal(again.heads.sequence(), 1)
  t.equal(again.cursors.folded(log), 1)
  t.same(again.integrity(), [])
})

t.test("a transaction that fails leaves nothing, in the file or in memory", async (t) => {
  const tables = opened(t)
  tables.heads.grew(log, 1)
  t.throws(() => tables.transaction(() => {
    tables.events.add([event({ log: other, type: "some.name/1" })])
    tables.cursors.advance(other, 1)
    tables.heads.grew(other, 5)
    tables.documents.append("memory/notes/a", [change()])
    tables.documents.putState("memory/notes/a", state())
    tables.facts.set("boot", "1")
    throw new Error("no")
  }), { message: "no" })
  t.equal(tables.events.totals().events, 0)
  t.equal(tables.cursors.folded(other), 0)
  t.equal(tables.heads.get(other), undefined)
  t.equal(tables.heads.sequence(), 1)
  t.equal(tables.facts.get("boot"), undefined)
  t.equal(tables.documents.state("memory/notes/a"), undefined)
  t.equal(tables.search.count(), 0)
  // A name learnt in the lost transaction must not be used by its old number.
  tables.names.idOf("taken by another")
  tables.events.add([event({ log: other, type: "some.name/1" })])
  t.match(tables.events.byArrival(1), { log: other, type: "some.name/1" })
})

t.test("an inner transaction fails alone, and one that waits is refused", async (t) => {
  const tables = opened(t)
  tables.transaction(() => {
    tables.events.add([event()])
    t.throws(() => tables.transaction(() => {
      tables.events.add([event({ block: 1 })])
      throw new Error("inner")
    }), { message: "inner" })
    tables.events.add([event({ block: 2 })])
  })
  t.same(tables.events.forSubject("memory/notes/a").map((row) => row.block), [0, 2])
  t.throws(() => tables.transaction(async () => tables.events.add([event({ block: 3 })])), TypeError)
  t.equal(tables.events.totals().events, 2)
})

t.test("when SQLite drops a whole transaction, code that swallows the error writes nothing outside of it", async (t) => {
  const tables = opened(t)
  tables.facts.set("boot", "1")
  const reason = reasonOf(() => tables.transaction(() => {
    tables.events.add([event()])
    t.throws(() => tables.transaction(() => tables.database.prepare("INSERT OR ROLLBACK INTO facts VALUES ('boot', '2')").run()))
    t.throws(() => tables.facts.set("outside", "1"), { message: /INSERT OR ROLLBACK INTO failed/ }, "it says what happened first")
  }))
  t.equal(reason, "failed")
  t.same(tables.facts.all(), { boot: "1" })
  t.equal(tables.events.totals().events, 0)
  tables.transaction(() => tables.facts.set("boot", "3"))
  t.same(tables.facts.all(), { boot: "3" })
})

t.test("the fingerprint does not depend on the order of arrival, and sees every difference", async (t) => {
  const dir = t.testdir()
  const list = frames(200, 11)
  const fill = (name: string, order: ReadonlyArray<(typeof list)[number]>, documents: ReadonlyArray<number>) => {
    const tables = opened(t, path.join(dir, name))
    for (const frame of order) {
      tables.transaction(() => {
        tables.events.add(frame)
        const [at] = frame
        if (at !== undefined) tables.cursors.advance(at.log, at.block + 1)
      })
    }
    for (const n of documents) {
      const conflict = (winner: boolean, key: string) => ({ value: 1, log: key, block: n, offset: 0, ms: 5, winner })
      const values = [conflict(true, log), conflict(false, other)]
      tables.documents.putState(`config/mesh/n${n}`, state({
        value: n % 2 === 0 ? { a: 1, b: [{ x: 1, y: 2 }] } : { b: [{ x: 1, y: 2 }], a: 1 },
        conflicts: [{ key: "a", values: name === "one" ? values : values.toReversed() }]
      }))
    }
    return tables
  }
  const random = seeded(3)
  const byLog = list.toSorted((a, b) => (a[0]?.log ?? "").localeCompare(b[0]?.log ?? "") || random(1))
  const [one, two] = [fill("one", list, [1, 2, 3]), fill("two", byLog, [3, 1, 2])]
  two.facts.set("boot", "other")
  two.receipts.holds(attic, log, 5)
  t.not(one.events.byArrival(5)?.block, two.events.byArrival(5)?.block, "the orders do differ")
  t.same(one.fingerprint(), two.fingerprint())
  const before = two.fingerprint()
  two.events.setStatus(two.events.byArrival(7) ?? event(), two.events.byArrival(7)?.status === "unknown" ? "known" : "unknown")
  t.not(two.fingerprint().events, before.events)
  t.not(two.fingerprint().all, before.all)
  t.equal(two.fingerprint().documents, before.documents)
  one.documents.putState("config/mesh/n1", state({ value: { a: 2 } }))
  t.not(one.fingerprint().documents, before.documents)
})

t.test("heads are numbered by growth, and lengths only grow unless corrected", async (t) => {
  const { heads } = opened(t)
  t.ok(heads.grew(log, 3))
  t.notOk(heads.grew(log, 3))
  t.notOk(heads.grew(log, 2))
  t.ok(heads.grew(other, 1))
  t.equal(heads.sequence(), 2)
  t.same(heads.since(1), [{ log: other, length: 1, changed: 2 }])
  heads.correct(log, 1)
  t.same(heads.get(log), { log, length: 1, changed: 3 })
  heads.correct(log, 7)
  t.equal(heads.get(log)?.length, 1)
  const id = heads.sequenceId()
  t.match(id, /^[0-9a-f]{32}$/)
  t.equal(heads.sequenceId(), id)
  t.not(heads.renewSequence(), id)
})

t.test("receipts say who holds a block, who does not, and what waits since when", async (t) => {
  const { receipts, events } = opened(t)
  events.add([0, 1, 2].flatMap((block) => [event({ block, ms: 1_000 + block }), event({ block, offset: 1, ms: 1_000 + block })]))
  t.ok(receipts.holds(attic, log, 2))
  t.notOk(receipts.holds(attic, log, 1), "it only grows")
  t.equal(receipts.holdsAll(mara, [{ log, length: 3 }, { log: other, length: 1 }]), 2)
  t.equal(receipts.held(attic, log), 2)
  t.equal(receipts.held(cabin, log), 0)
  t.same(receipts.holders(log, 1, [mara, attic, cabin]), { holding: [mara, attic], missing: [cabin] })
  t.same(receipts.holders(log, 2, [mara, attic, cabin]), { holding: [mara], missing: [attic, cabin] })
  t.same(receipts.holders(logKey(9), 0, [mara]), { holding: [], missing: [mara] })
  t.same(receipts.waiting([log, other], [mara, attic, cabin]), [
    { device: mara, events: 0, sinceMs: undefined }, { device: attic, events: 2, sinceMs: 1_002 }, { device: cabin, events: 6, sinceMs: 1_000 }
  ])
})

t.test("a cursor into a peer's sequence moves on, and is void in another sequence", async (t) => {
  const { receipts } = opened(t)
  t.equal(receipts.cursor(attic), undefined)
  receipts.setCursor(attic, "s1", 5)
  receipts.setCursor(attic, "s1", 3)
  t.same(receipts.cursor(attic), { sequenceId: "s1", sequence: 5 })
  receipts.setCursor(attic, "s2", 1)
  t.same(receipts.cursor(attic), { sequenceId: "s2", sequence: 1 })
})

t.test("peers keep when and where they were last in touch", async (t) => {
  const { receipts } = opened(t)
  receipts.touched(attic, "lan", true, "10.0.0.2:7", 100)
  receipts.touched(attic, "lan", false, "", 200)
  t.same(receipts.peer(attic), { device: attic, carrier: "lan", remote: "10.0.0.2:7", up: false, lastUpMs: 100, lastDownMs: 200 })
  receipts.touched(cabin, "swarm", true, "1.2.3.4:5", 300)
  receipts.allDown(400)
  t.same(receipts.peers().map((peer) => [peer.device, peer.up, peer.lastDownMs]), [[attic, false, 200], [cabin, false, 400]])
  t.equal(receipts.peer(mara), undefined)
})

t.test("the quarantine keeps the first entries and counts the rest", async (t) => {
  const tables = opened(t)
  const { quarantine } = tables
  const entry = (block: number, offset: number | undefined) => ({ log, block, offset, device: attic, why: "x".repeat(600), ms: 5 })
  tables.transaction(() => {
    for (let block = 0; block < quarantineRowsMax + 5; block++) quarantine.add(entry(block, undefined))
  })
  quarantine.add({ ...entry(3, undefined), why: "again" })
  t.equal(quarantine.count(), quarantineRowsMax + 5)
  t.equal(quarantine.list(20_000).length, quarantineRowsMax)
  t.match(quarantine.list(1), [{ log, block: quarantineRowsMax - 1, offset: undefined, device: attic, ms: 5 }])
  t.equal(quarantine.list(1)[0]?.why.length, 512)
  t.ok(quarantine.release(log, 3, undefined))
  t.notOk(quarantine.release(log, 3, undefined))
  quarantine.add({ log: other, block: 0, offset: 2, device: "", why: "body" })
  t.same(quarantine.list(5, other), [{ log: other, block: 0, offset: 2, device: "", why: "body", ms: undefined }])
})

t.test("facts are small and few", async (t) => {
  const tables = opened(t)
  const { facts } = tables
  facts.set("boot", "1")
  facts.set("boot", "2")
  t.same(facts.all(), { boot: "2" })
  facts.remove("boot")
  t.equal(facts.get("boot"), undefined)
  t.equal(reasonOf(() => facts.set("big", "x".repeat(70_000))), "failed")
  tables.transaction(() => { for (let i = 0; i < 1_000; i++) facts.set(`f${i}`, "") })
  t.equal(reasonOf(() => facts.set("one more", "")), "failed")
  facts.set("f7", "changed")
  t.equal(facts.get("f7"), "changed")
})

t.test("a file that is no database, another program's or a newer one is refused with its reason", async (t) => {
  const dir = t.testdir({ text: "this is no database, however long it is. ".repeat(100) })
  t.equal(reasonOf(() => new Tables(path.join(dir, "text"))), "corrupt")
  const foreign = new DatabaseSync(path.join(dir, "foreign.db"))
  foreign.exec("CREATE TABLE mine (a)")
  foreign.close()
  t.equal(reasonOf(() => new Tables(path.join(dir, "foreign.db"))), "corrupt")
  new Tables(path.join(dir, "new.db")).close()
  const raw = new DatabaseSync(path.join(dir, "new.db"))
  raw.exec("INSERT INTO migrations VALUES (999, 'later')")
  raw.close()
  t.equal(reasonOf(() => new Tables(path.join(dir, "new.db"))), "newer")
  t.equal(reasonOf(() => new Tables(path.join(dir, "no", "such", "folder.db"))), "failed")
})

t.test("a database that another process holds is busy, and one that is read only says so", async (t) => {
  const file = path.join(t.testdir(), "tables.db")
  new Tables(file).close()
  const readOnly = new Tables(file, { readOnly: true })
  t.equal(reasonOf(() => readOnly.events.add([event()])), "readonly")
  t.equal(readOnly.events.totals().events, 0)
  readOnly.close()
  const tables = opened(t, file)
  tables.database.exec("PRAGMA busy_timeout = 20")
  const holder = new DatabaseSync(file)
  holder.exec("BEGIN IMMEDIATE")
  t.equal(reasonOf(() => tables.events.add([event()])), "busy")
  holder.exec("ROLLBACK")
  holder.close()
  t.same(tables.events.add([event()]), [1])
})

t.test("what is derived can be emptied and folded again; what only this node knows stays", async (t) => {
  const tables = opened(t)
  const fold = () => tables.transaction(() => {
    tables.events.add(frames(30, 1).flat().map((e, i) => ({ ...e, command: i === 0 ? "0190163d-8694-739b-aea5-966c26f8ad91" : undefined })))
    tables.cursors.advance(log, 9)
    tables.documents.append("memory/notes/a", [change()])
    tables.documents.putState("memory/notes/a", state())
    tables.witnesses.add({ log, block: 0, offset: 0, device: attic, body: { logs: [{ log, fork: 0, length: 3, treeHash: "ab".repeat(32) }] } })
    tables.sealed.add(log, 9, 2)
    const secret = { type: "secret.removed/1", at: { ms: 1, count: 0 }, actor: "device", subject: "secret/x", command: "", cause: [], body: { name: "x", items: [new Uint8Array(32)] } }
    tables.folds.get(secret.type)?.({ log, block: 0, offset: 1, device: attic, envelope: secret, body: secret.body })
    tables.cutoffs.set(log, { cutAt: 20, docsTo: 12 })
    tables.database.prepare("INSERT INTO operations (hash, source, bytes) VALUES ('h', 0, x'01') ON CONFLICT DO UPDATE SET source = 0").run()
  })
  const empty = tables.fingerprint()
  fold()
  tables.heads.grew(log, 9)
  tables.receipts.holds(attic, log, 4)
  const print = tables.fingerprint()
  for (const part of Object.keys(empty)) t.not(Reflect.get(print, part), Reflect.get(empty, part), `${part} sees what was folded`)
  tables.clearDerived()
  t.same(tables.fingerprint(), empty)
  t.equal(tables.cursors.folded(log), 0)
  t.equal(tables.search.count(), 0)
  t.equal(tables.heads.get(log)?.length, 9)
  t.equal(tables.receipts.held(attic, log), 4)
  t.equal(tables.database.prepare("SELECT source FROM operations").get()?.["source"], 1)
  t.same(tables.integrity(), [])
  fold()
  t.same(tables.fingerprint(), print)
})

t.test("a rebuilt file can take the place of the old one", async (t) => {
  const dir = t.testdir()
  const [live, rebuilt] = [path.join(dir, "live.db"), path.join(dir, "rebuilt.db")]
  const old = new Tables(live)
  old.events.add([event()])
  const fresh = new Tables(rebuilt)
  fresh.events.add([event(), event({ block: 1 })])
  t.equal(reasonOf(() => replaceDatabase(rebuilt, live)), "busy")
  old.close()
  fresh.close()
  replaceDatabase(rebuilt, live)
  const now = new Tables(live)
  t.equal(now.events.totals().events, 2)
  now.close()
  wipeDatabase(live)
  t.same(fs.readdirSync(dir), [])
})
