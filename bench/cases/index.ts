import * as path from "node:path"
import { DatabaseSync } from "node:sqlite"
import type { BenchCase, Side } from "../case.ts"
import { perSecond } from "../case.ts"
import { openIndex } from "../kos.ts"
import { seeded } from "../workload.ts"

/** Rows of one transaction: what one fold of a few frames writes. */
const batchRows = 1_024
const queries = 2_000

const amount = (short: boolean) => (short ? 20_000 : 200_000)
const large = (short: boolean) => (short ? 50_000 : 1_000_000)

const types = ["config.changed/1", "memory.changed/1", "agents.changed/1", "node.measured/1", "command.done/1", "checkpoint.made/1", "peers.changed/1", "node.started/1"]
const startMs = 1_800_000_000_000

/** Events as a mesh of nine makes them: 20 to a frame, logs in turns, mostly changes and health, two seconds apart on average. */
const makeEvents = (count: number) => {
  const random = seeded(11)
  const logs = Array.from({ length: 9 }, (_, i) => `${i + 1}`.repeat(64))
  const blocks = new Array<number>(9).fill(0)
  const list: Array<{ log: string; block: number; offset: number; type: string; ms: number; count: number; actor: string; subject: string; status: "known" }> = []
  for (let i = 0, log = 0, offset = 20; i < count; i++, offset++) {
    if (offset === 20) {
      log = Math.floor(random() * 9)
      blocks[log] = (blocks[log] ?? 0) + 1
      offset = 0
    }
    const type = types[Math.floor(random() ** 2 * types.length)] ?? ""
    list.push({
      log: logs[log] ?? "", block: blocks[log] ?? 0, offset, type, ms: startMs + i * 2_000 + Math.floor(random() * 1_000), count: 0,
      actor: random() < 0.5 ? "device" : `person:${Math.floor(random() * 5)}`, subject: `memory/notes/page-${Math.floor(random() * 400)}`, status: "known"
    })
  }
  return list
}

const kos: Side = async ({ dir, short, begin }) => {
  const events = makeEvents(amount(short))
  const index = await openIndex(path.join(dir, "tables.sqlite"))
  const end = await begin()
  for (let at = 0; at < events.length; at += batchRows) index.add(events.slice(at, at + batchRows))
  const window = await end()
  index.close()
  return perSecond(events.length, window)
}

/** The same rows in the same transactions by hand: numbers for texts are known beforehand and no name is looked up. */
const bare: Side = async ({ dir, short, begin }) => {
  const ids = new Map<string, number>()
  const id = (text: string) => {
    const known = ids.get(text)
    if (known !== undefined) return known
    ids.set(text, ids.size + 1)
    return ids.size
  }
  const rows = makeEvents(amount(short)).map((e) => [id(e.log), e.block, e.offset, id(e.type), e.ms, e.count, id(e.actor), id(e.subject), 0] as const)
  const db = new DatabaseSync(path.join(dir, "bare.sqlite"))
  db.exec("PRAGMA cache_size = -8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY")
  db.exec(`CREATE TABLE events (id INTEGER PRIMARY KEY, log INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL, type INTEGER NOT NULL,
    ms INTEGER NOT NULL, count INTEGER NOT NULL, actor INTEGER NOT NULL, subject INTEGER NOT NULL, status INTEGER NOT NULL) STRICT;
    CREATE UNIQUE INDEX events_address ON events (log, block, offset); CREATE INDEX events_log_type_ms ON events (log, type, ms); CREATE INDEX events_subject ON events (subject)`)
  const insert = db.prepare("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
  const end = await begin()
  for (let at = 0; at < rows.length; at += batchRows) {
    db.exec("BEGIN")
    for (const row of rows.slice(at, at + batchRows)) insert.run(...row)
    db.exec("COMMIT")
  }
  const window = await end()
  db.close()
  return perSecond(rows.length, window)
}

/** A node's events of one type within six hours, somewhere in the history: median of many, each with other values. */
const query: Side = async ({ fixture, short, begin }) => {
  const index = await openIndex(path.join(fixture, "tables.sqlite"))
  const random = seeded(5)
  const total = large(short)
  const times: Array<number> = []
  let found = 0
  const end = await begin()
  for (let i = 0; i < queries; i++) {
    const since = startMs + Math.floor(random() * total) * 2_000
    const log = `${1 + Math.floor(random() * 9)}`.repeat(64)
    const type = types[Math.floor(random() * types.length)] ?? ""
    const from = performance.now()
    found += index.query(log, type, since, since + 6 * 3_600_000, 50)
    times.push(performance.now() - from)
  }
  const window = await end()
  index.close()
  times.sort((a, b) => a - b)
  return {
    ...window, value: times[times.length >> 1] ?? 0,
    detail: { "p99 ms": times[Math.floor(times.length * 0.99)] ?? 0, "rows a query": found / queries, "events in the index": total }
  }
}

export const benchCase: BenchCase = {
  name: "index",
  about: `Event rows inserted ${batchRows} a transaction, against the same rows into the same table and indexes by bare node:sqlite; and a query by node, type and time among 1,000,000 events.`,
  secondsMax: 240,
  prepare: async ({ dir, short }) => {
    const index = await openIndex(path.join(dir, "tables.sqlite"))
    const events = makeEvents(large(short))
    for (let at = 0; at < events.length; at += 4_096) index.add(events.slice(at, at + 4_096))
    index.close()
  },
  sides: { kos, bare, query },
  rows: [
    { title: "event-index insert, against bare node:sqlite", unit: "rows/s", ours: { side: "kos" }, peer: { side: "bare" }, ratio: "ours/peer", target: { kind: "ratio-min", value: 0.7 } },
    { title: "query by node, type and time at 1,000,000 events, median", unit: "ms", ours: { side: "query" }, target: { kind: "value-max", value: 1 } }
  ]
}
