/**
 * How a query over events finds its rows.
 *
 * Results come by arrival number, so that a page has an exact next page. Three ways lead there:
 * - `subject`: the index on subject, which is by arrival within a subject. Taken whenever one subject is named exactly.
 * - `kind`: the index on (log, type, time), entered once for each (log, type) that `counts` says exists; its rows are then put in order.
 * - `scan`: the events by arrival, leaving out what does not fit, until the page is full.
 * The first two sort what they find, so they are only taken when a probe finds no more than `sortedRowsMax` rows; a larger set lies dense
 * enough for the scan. So no query sorts more than that, and only one that is answered by few old rows and has no index (an actor)
 * walks through everything.
 */
import type { SQLInputValue } from "node:sqlite"
import { type Database, int } from "./database.ts"
import { type EventStatus, statusNumber } from "./event-index.ts"
import type { Names } from "./names.ts"
import { TableError } from "./table-error.ts"

/** Events on one page at most. */
export const eventPageMax = 10_000
/** Rows that a query sorts at most. */
const sortedRowsMax = 20_000

/** Absent: no condition. A list: any of them. */
export interface EventQuery {
  /** `config.changed/1` exactly, `config.changed` in any version, `memory.*` all that begin so. */
  readonly types?: ReadonlyArray<string>
  /** Log keys. */
  readonly logs?: ReadonlyArray<string>
  /** Exactly, or `agent:*`. */
  readonly actor?: string
  /** Exactly, or `memory/notes/*`. */
  readonly subject?: string
  readonly status?: EventStatus
  /** Milliseconds of the stamp: from `since` on, and before `until`. */
  readonly since?: number
  readonly until?: number
  /** Arrival numbers, both included. */
  readonly arrivalMin?: number
  readonly arrivalMax?: number
  readonly order: "oldest" | "newest"
  /** 1 to `eventPageMax`. */
  readonly limit: number
  /** The arrival number that the last page ended with. */
  readonly after?: number
}

export interface EventPlan {
  readonly way: "subject" | "kind" | "scan"
  readonly sql: string
  readonly values: ReadonlyArray<SQLInputValue>
}

/** The way that the rows will be found, or undefined when nothing can fulfil the query. It may sort `sortedMax` rows. */
export const planEvents = (database: Database, names: Names, query: EventQuery, sortedMax: number = sortedRowsMax): EventPlan | undefined => {
  if (!Number.isInteger(query.limit) || query.limit < 1 || query.limit > eventPageMax)
    throw new TableError({ reason: "failed", operation: "query events", detail: `a page has 1 to ${eventPageMax} events, not ${query.limit}` })
  const types = query.types === undefined ? undefined : query.types.flatMap((pattern) => [...typeIds(names, pattern)])
  const logs = query.logs?.flatMap((log) => names.find(log) ?? [])
  const actors = query.actor === undefined ? undefined : matching(names, query.actor)
  const subjects = query.subject === undefined ? undefined : matching(names, query.subject)
  for (const list of [types, logs, actors, subjects]) if (list?.length === 0) return undefined

  const rest = new Conditions()
  rest.among("e.log", logs)
  rest.among("e.type", types)
  rest.among("e.actor", actors)
  rest.among("e.subject", subjects)
  if (query.status !== undefined) rest.add("e.status = ?", statusNumber[query.status])
  if (query.since !== undefined) rest.add("e.ms >= ?", query.since)
  if (query.until !== undefined) rest.add("e.ms < ?", query.until)
  if (query.arrivalMin !== undefined) rest.add("e.id >= ?", query.arrivalMin)
  if (query.arrivalMax !== undefined) rest.add("e.id <= ?", query.arrivalMax)
  if (query.after !== undefined) rest.add(query.order === "oldest" ? "e.id > ?" : "e.id < ?", query.after)

  const finish = (way: EventPlan["way"], from: string, found: ReadonlyArray<SQLInputValue>): EventPlan => ({
    way,
    sql: `SELECT e.* FROM ${from} ${rest.where()} ORDER BY e.id${query.order === "newest" ? " DESC" : ""} LIMIT ?`,
    values: [...found, ...rest.values, query.limit + 1]
  })
  if (subjects?.length === 1) return finish("subject", "events e INDEXED BY events_subject", [])
  const size = (from: string, where: string, values: ReadonlyArray<SQLInputValue>): number =>
    int(database.prepare(`SELECT count(*) AS n FROM (SELECT 1 FROM ${from} ${where} LIMIT ${sortedMax + 1})`).get(...values)?.["n"])

  const ways: Array<{ readonly plan: EventPlan; readonly rows: number }> = []
  if (subjects !== undefined) {
    const only = new Conditions()
    only.among("e.subject", subjects)
    const from = "events e INDEXED BY events_subject"
    ways.push({ plan: finish("subject", from, []), rows: size(from, only.where(), only.values) })
  }
  if (types !== undefined || logs !== undefined || query.since !== undefined || query.until !== undefined) {
    const kind = kinds(types, logs, query)
    ways.push({ plan: finish("kind", kind.from, kind.values), rows: size(kind.from, "", kind.values) })
  }
  const best = ways.sort((a, b) => a.rows - b.rows)[0]
  return best !== undefined && best.rows <= sortedMax ? best.plan : finish("scan", "events e NOT INDEXED", [])
}

/** One entry into the index for each (log, type) there is: without it, a condition on time alone could not use the index. */
const kinds = (types: ReadonlyArray<number> | undefined, logs: ReadonlyArray<number> | undefined, query: EventQuery) => {
  const pairs = new Conditions()
  pairs.among("log", logs)
  pairs.among("type", types)
  const time = new Conditions()
  if (query.since !== undefined) time.add("e.ms >= ?", query.since)
  if (query.until !== undefined) time.add("e.ms < ?", query.until)
  const on = ["e.log = k.log", "e.type = k.type", ...time.parts].join(" AND ")
  return {
    from: `(SELECT DISTINCT log, type FROM counts ${pairs.where()}) k CROSS JOIN events e INDEXED BY events_log_type_ms ON ${on}`,
    values: [...pairs.values, ...time.values]
  }
}

class Conditions {
  readonly parts: Array<string> = []
  readonly values: Array<SQLInputValue> = []

  add(part: string, value: SQLInputValue): void {
    this.parts.push(part)
    this.values.push(value)
  }

  /** A list travels as one JSON text, so that the statement is the same for any length of it. */
  among(column: string, ids: ReadonlyArray<number> | undefined): void {
    if (ids === undefined) return
    if (ids.length === 1) this.add(`${column} = ?`, ids[0] ?? 0)
    else this.add(`${column} IN (SELECT value FROM json_each(?))`, JSON.stringify(ids))
  }

  where(): string {
    return this.parts.length === 0 ? "" : `WHERE ${this.parts.join(" AND ")}`
  }
}

const matching = (names: Names, pattern: string): ReadonlyArray<number> => {
  if (pattern.endsWith("*")) return names.beginningWith(pattern.slice(0, -1))
  const id = names.find(pattern)
  return id === undefined ? [] : [id]
}

const typeIds = (names: Names, pattern: string): ReadonlyArray<number> =>
  matching(names, pattern.includes("/") || pattern.endsWith("*") ? pattern : `${pattern}/*`)
