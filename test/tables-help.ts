import * as path from "node:path"
import type { Test } from "tap"
import type { DocumentState, LoggedChange } from "../src/projections/documents/types.ts"
import type { NewEvent } from "../src/projections/tables/event-index.ts"
import { TableError } from "../src/projections/tables/table-error.ts"
import { Tables } from "../src/projections/tables/tables.ts"

/** A small seeded generator (mulberry32): numbers from 0 to below `max`. */
export const seeded = (seed: number) => {
  let state = seed
  return (max: number): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor(((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32 * max)
  }
}

export const logKey = (n: number): string => n.toString(16).padStart(2, "0").repeat(32)

export const event = (more: Partial<NewEvent> = {}): NewEvent => ({
  log: logKey(1), block: 0, offset: 0, type: "memory.changed/1", ms: 1_800_000_000_000, count: 0, actor: "device", subject: "memory/notes/a", status: "known", ...more
})

/** Frames of 1 to 8 events in a few logs, in one possible order of arrival. */
export const frames = (count: number, seed: number): ReadonlyArray<ReadonlyArray<NewEvent>> => {
  const random = seeded(seed)
  const lengths = new Map<string, number>()
  let ms = 1_800_000_000_000
  return Array.from({ length: count }, () => {
    const log = logKey(1 + random(4))
    const block = lengths.get(log) ?? 0
    lengths.set(log, block + 1)
    return Array.from({ length: 1 + random(8) }, (_, offset) => event({
      log, block, offset, ms: (ms += random(50)), count: random(3), type: types[random(types.length)] ?? "node.started/1",
      actor: ["device", "person:mara", "agent:backup"][random(3)] ?? "device", subject: `memory/notes/page${random(40)}`,
      status: random(20) === 0 ? "quarantined" : random(10) === 0 ? "unknown" : "known"
    }))
  })
}

const types = ["memory.changed/1", "memory.changed/2", "memory.moved/1", "config.changed/1", "node.started/1", "node.measured/1"]

export const change = (more: Partial<LoggedChange> = {}): LoggedChange => ({
  log: logKey(1), block: 0, offset: 0, ms: 1_800_000_000_000, change: new Uint8Array([1, 2, 3]), ...more
})

export const state = (more: Partial<DocumentState> = {}): DocumentState => {
  const value = more.value ?? { text: "hello", fields: {} }
  return { heads: ["ab".repeat(32)], value, live: value, faults: [], conflicts: [], writers: {}, changes: 1, waiting: 0, held: 0, ...more }
}

export const opened = (t: Test, file: string = path.join(t.testdir(), "tables.db")): Tables => {
  const tables = new Tables(file)
  t.teardown(() => tables.close())
  return tables
}

/** The reason of the TableError that `work` throws; anything else fails the test. */
export const reasonOf = (work: () => unknown): TableError["reason"] | "none" => {
  try {
    work()
    return "none"
  } catch (cause) {
    if (cause instanceof TableError) return cause.reason
    throw cause
  }
}
