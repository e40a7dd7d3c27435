/** What several renderers say in the same way. Every value that comes here is already safe to show. */
import type { OperationName, OutputOf } from "../../operations/table.ts"
import type { By, ConflictShape, Difference, Done, HistoryRow } from "../../operations/common.ts"
import { ago, dim, inline, oneLine, short, table, type View, yellow } from "../text.ts"

export type Lines = ReadonlyArray<string>
export type Renderer<Name extends OperationName> = (value: OutputOf<Name>, view: View) => Lines

export const who = (by: By): string => `${by.actor === "device" ? "" : `${by.actor} on `}${nodeOf(by)}`
export const nodeOf = (by: { readonly node: string; readonly device: string }): string => (by.node === "" ? short(by.device) : by.node)
/** Whole keys in a subject or document, shortened: what a person compares is their beginning. */
export const brief = (text: string): string => text.replace(/[0-9a-f]{64}/g, (key) => `${key.slice(0, 8)}…`)
export const mark = (by: By): string => (by.arrival === undefined ? by.address : `@${by.arrival}`)
export const byLine = (view: View, by: By): string => `${who(by)}, ${ago(view, by.at)} (${mark(by)})`

/** What a command did, and for whom it still waits. */
export const done = (view: View, value: Done, more: Lines = []): Lines => {
  const events = value.events.map(({ arrival }) => `@${arrival}`)
  const shown = events.length > 3 ? `${events[0] ?? ""}…${events[events.length - 1] ?? ""}` : events.join(" ")
  const waiting = value.waitingFor ?? []
  return [
    shown === "" ? value.summary : `${value.summary} ${dim(view, shown)}`,
    ...more,
    ...(waiting.length === 0 ? [] : [yellow(view, `Waiting for ${names(waiting)}.`)])
  ]
}

/** `attic, shed and 3 more` */
export const names = (all: ReadonlyArray<string>, max = 6): string => {
  if (all.length <= max) return all.length < 2 ? all.join("") : `${all.slice(0, -1).join(", ")} and ${all[all.length - 1] ?? ""}`
  return `${all.slice(0, max).join(", ")} and ${all.length - max} more`
}

export const differences = (view: View, all: ReadonlyArray<Difference>): Lines =>
  all.map(({ document, path, change, before, after, by }) => {
    const sign = { added: "+", removed: "-", changed: "~" }[change]
    const values = change === "added" ? inline(after) : change === "removed" ? inline(before) : `${oneLine(inline(before), 60)} → ${oneLine(inline(after), 60)}`
    return `${sign} ${brief(document)}${path === "" ? "" : ` ${path}`}: ${oneLine(values, 130)}${by === undefined ? "" : dim(view, `  ${byLine(view, by)}`)}`
  })

export const history = (view: View, rows: ReadonlyArray<HistoryRow>, empty: string): Lines =>
  rows.length === 0
    ? [empty]
    : table(view, ["event", "when", "who", "what"], rows.map((row) => [mark(row.by), ago(view, row.by.at), who(row.by), changeOf(row)]))

const changeOf = (row: HistoryRow): string =>
  row.path === undefined || (row.before === undefined && row.after === undefined)
    ? row.summary
    : `${row.path}: ${row.before === undefined ? "" : `${oneLine(inline(row.before), 40)} → `}${row.after === undefined ? "taken away" : oneLine(inline(row.after), 60)}`

export const conflict = (view: View, one: ConflictShape): Lines => [
  `${yellow(view, one.path === "" ? one.document : `${one.document} ${one.path}`)}  ${dim(view, `${one.id}, since ${ago(view, one.since)}`)}`,
  ...one.values.map(({ choice, value, by, winner }) => `  ${choice}  ${oneLine(inline(value), 60)}  ${byLine(view, by)}${winner ? dim(view, "  in force meanwhile") : ""}`)
]
