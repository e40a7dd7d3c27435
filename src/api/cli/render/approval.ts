/** Proposals and what was said of them. */
import { ago, bold, count, dim, green, inline, pairs, red, table, type View, when, yellow } from "../text.ts"
import type { OutputOf } from "../../operations/table.ts"
import { brief, byLine, done, type Lines, type Renderer, who } from "./shared.ts"

export const approvalList: Renderer<"approval.list"> = (rows, view) => {
  const open = rows.find(({ state }) => state === "open")
  return rows.length === 0 ? ["Nothing waits for approval."] : [
    ...table(view, ["id", "state", "asked", "by", "approvals", "what"], rows.map((row) => [row.id, row.state, ago(view, row.asked.at), who(row.asked), `${row.has} of ${row.needs}`, row.summary])),
    ...(open === undefined ? [] : ["", `Next: ${bold(view, `kos approval show ${open.id}`)}`])
  ]
}

export const approvalShow: Renderer<"approval.show"> = (value, view) => [
  `${bold(view, value.summary)}  ${stateText(view, value.state)}`,
  ...pairs(view, [
    ["id", value.id], ["asked", byLine(view, value.asked)], ["rule", value.rule], ["approvals", `${value.has} of ${value.needs}, by ${value.by}s`],
    ["expires", value.state === "open" ? when(view, value.expires) : undefined], ["in force", value.effect === null ? undefined : byLine(view, value.effect)]
  ]),
  "",
  ...value.edits.map(({ document, path, before, after }) => `~ ${brief(document)} ${path}: ${before === undefined ? "nothing" : inline(before)} → ${after === undefined ? "taken away" : inline(after)}`),
  ...(value.given.length === 0 ? [] : ["", ...value.given.map(({ verdict, by, reason, counts }) => `${verdict === "allow" ? green(view, "allowed") : red(view, "denied")} by ${byLine(view, by)}${reason === "" ? "" : `: ${reason}`}${counts ? "" : dim(view, "  does not count")}`)]),
  ...(value.state === "open" ? ["", `Next: ${bold(view, `kos approval allow ${value.id}`)}`] : [])
]

const said = (view: View, value: OutputOf<"approval.allow">): Lines => done(view, value, value.state === "open" ? [dim(view, `${count(value.has, "approval")} of ${value.needs}.`)] : [])
export const approvalAllow: Renderer<"approval.allow"> = (value, view) => said(view, value)
export const approvalDeny: Renderer<"approval.deny"> = (value, view) => said(view, value)

const stateText = (view: View, state: string): string => state === "done" ? green(view, "in force") : state === "denied" ? red(view, "denied") : state === "open" ? yellow(view, "waits for approval") : yellow(view, state)
