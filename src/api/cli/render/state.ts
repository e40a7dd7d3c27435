/** Events, settings, agents, memory. */
import { ago, bold, bytes, count, dim, duration, green, inline, oneLine, pairs, plain, red, short, table, when, yellow } from "../text.ts"
import { brief, byLine, conflict, differences, done, history, type Lines, names, type Renderer, who } from "./shared.ts"

export const eventList: Renderer<"event.list"> = (rows, view) =>
  rows.length === 0
    ? ["No events."]
    : table(view, ["event", "when", "node", "who", "type", "subject", "what"], rows.map((row) => [
      `@${row.arrival}`, ago(view, row.at), row.node, row.actor === "device" ? "" : row.actor, row.known ? row.type : `${row.type} (unknown here)`, brief(row.subject), row.summary
    ]))

export const eventShow: Renderer<"event.show"> = (value, view) => [
  `${bold(view, value.type)} @${value.arrival}${value.known ? "" : yellow(view, "  not known to this version")}`,
  ...pairs(view, [
    ["what", value.summary], ["subject", value.subject], ["at", when(view, value.at)], ["node", `${value.node} (${short(value.device)})`], ["actor", value.actor],
    ["address", value.address], ["command", value.command], ["epoch", String(value.epoch)], ["size", bytes(value.bytes)],
    ["because of", value.cause.length === 0 ? undefined : value.cause.join("\n            ")], ["led to", value.led.length === 0 ? undefined : value.led.join("\n            ")],
    ["held by", names(value.heldBy)]
  ]),
  "",
  ...JSON.stringify(value.body, null, 2).split("\n")
]

export const eventDiff: Renderer<"event.diff"> = (value, view) => [
  bold(view, `${count(value.differences.length, "difference")} in ${count(value.events, "event")}.`), ...differences(view, value.differences)
]

export const eventAt: Renderer<"event.at"> = (value) => plain(value.value).split("\n")

export const eventVerify: Renderer<"event.verify"> = (value, view) => [
  value.clean ? green(view, bold(view, `Clean: ${count(value.logs.length, "log")} in ${duration(value.ms)}.`)) : red(view, bold(view, "NOT clean.")),
  "",
  ...table(view, ["log of", "log", "blocks#", "witnessed#", "gaps#", "conflicts#", "beyond#", "faults#", "tree hash"], value.logs.map((log) => [
    log.node, short(log.log), String(log.blocks), log.blocks === 0 ? "" : `${Math.floor((100 * log.witnessed) / log.blocks)} %`, String(log.gaps), String(log.conflicts),
    String(log.beyond), String(log.faults.length), short(log.treeHash)
  ])),
  ...value.logs.flatMap((log) => log.faults.slice(0, 20).map(({ address, why }) => red(view, `${log.node} ${address}: ${why}`))),
  ...value.misbehaviour.map((proof) => red(view, `${proof.node} signed two histories of ${short(proof.log)} at ${proof.length}: ${proof.detail}`))
]

/** The CLI prints these as JSON lines in any case, but for a proof. */
export const eventExport: Renderer<"event.export"> = (value) =>
  "specversion" in value ? [JSON.stringify(value)] : [`Wrote ${value.file}: ${count(value.events, "event")} in ${count(value.blocks, "block")}, ${bytes(value.bytes)}. Check: kos-verify ${value.file}`]

export const configShow: Renderer<"config.show"> = (value) => value.text.trimEnd().split("\n")
export const configGet: Renderer<"config.get"> = (value) => plain(value.value).split("\n")

const applied = (value: Parameters<Renderer<"config.apply">>[0], view: Parameters<Renderer<"config.apply">>[1]): Lines => done(view, value, differences(view, value.differences))
export const configSet: Renderer<"config.set"> = (value, view) => done(view, value)
export const configUnset: Renderer<"config.unset"> = (value, view) => done(view, value, value.after === undefined ? [] : [dim(view, `Now in force: ${inline(value.after)}`)])
export const configEdit: Renderer<"config.edit"> = applied
export const configApply: Renderer<"config.apply"> = applied
export const configRevert: Renderer<"config.revert"> = applied

export const configValidate: Renderer<"config.validate"> = (value, view) =>
  value.valid ? [green(view, "Valid.")] : [red(view, `${count(value.faults.length, "fault")}:`), ...value.faults.map(({ path, detail }) => `  ${path}: ${detail}`)]

export const configDiff: Renderer<"config.diff"> = (value, view) => [
  ...(value.differences.length === 0 ? ["No difference."] : differences(view, value.differences)),
  ...value.faults.map(({ path, detail }) => red(view, `! ${path}: ${detail}`))
]

export const configHistory: Renderer<"config.history"> = (rows, view) => history(view, rows, "Nobody has changed it.")

export const configConflicts: Renderer<"config.conflicts"> = (all, view) => {
  const [first] = all
  if (first === undefined) return ["No conflicts."]
  return [...all.flatMap((one) => [...conflict(view, one), ...(one.refused === undefined ? [] : [`  ${yellow(view, one.refused)}`])]), "", `Next: ${bold(view, `kos config resolve ${first.id} ${first.values[0]?.choice ?? 1}`)}`]
}

export const configResolve: Renderer<"config.resolve"> = (value, view) => done(view, value)

export const configExplain: Renderer<"config.explain"> = (value, view) => [
  `${bold(view, value.path)} = ${inline(value.value)}  ${dim(view, `from ${value.winner}`)}`,
  value.sentence,
  ...pairs(view, [["type", value.type], ["default", value.default === null ? "none" : inline(value.default)], ["rule", `${value.policy.rule}${value.policy.setBy === null ? "" : `, set by ${byLine(view, value.policy.setBy)}`}`], ["change", value.restart ? "counts after a restart" : "counts at once"]]),
  "",
  ...table(view, ["layer", "value", "set"], value.layers.map((layer) => [layer.layer, inline(layer.value), layer.by === null ? layer.from ?? "" : byLine(view, layer.by)])),
  ...(value.conflict === null ? [] : ["", ...conflict(view, value.conflict)]),
  ...value.refused.map(({ document, value: refused, why }) => yellow(view, `! ${brief(document)}: ${refused === null ? "" : `${inline(refused)} `}${why}`))
]

export const agentList: Renderer<"agent.list"> = (rows, view) =>
  rows.length === 0
    ? ["No agents. Next: kos agent apply FILE"]
    : table(view, ["name", "version", "wanted", "where", "state", "changed"], rows.map((row) => [
      row.name, row.version, row.desired, names(row.where, 3), row.valid ? (row.conflicts > 0 ? count(row.conflicts, "conflict") : "") : "invalid", `${ago(view, row.changed.at)} by ${who(row.changed)}`
    ]))

export const agentShow: Renderer<"agent.show"> = (value, view) => [
  `${bold(view, value.name)} ${value.version}, wanted ${value.desired}; changed ${byLine(view, value.changed)}`,
  ...value.faults.map((fault) => red(view, `! ${fault}`)),
  ...value.open.flatMap((one) => conflict(view, one)),
  "",
  ...value.text.trimEnd().split("\n")
]

export const agentApply: Renderer<"agent.apply"> = (value, view) => done(view, value)
export const agentRemove: Renderer<"agent.remove"> = (value, view) => done(view, value)
export const agentStart: Renderer<"agent.start"> = (value, view) => done(view, value)
export const agentStop: Renderer<"agent.stop"> = (value, view) => done(view, value)

export const memoryList: Renderer<"memory.list"> = (rows, view) =>
  rows.length === 0
    ? ["No pages. Next: kos memory add MODULE/PAGE TEXT"]
    : table(view, ["page", "characters#", "fields#", "changed", ""], rows.map((row) => [
      row.page, String(row.characters), String(row.fields), `${ago(view, row.changed.at)} by ${who(row.changed)}`, row.conflicts > 0 ? count(row.conflicts, "conflict") : ""
    ]))

export const memoryShow: Renderer<"memory.show"> = (value, view) => [
  ...Object.entries(value.fields).map(([key, field]) => `${dim(view, `${key}:`)} ${plain(field)}`),
  ...(Object.keys(value.fields).length > 0 && value.text !== "" ? [""] : []),
  ...(value.text === "" ? [] : value.text.replace(/\n$/, "").split("\n")),
  ...value.conflicts.flatMap((one) => conflict(view, one))
]

export const memoryAdd: Renderer<"memory.add"> = (value, view) => done(view, value)
export const memoryEdit: Renderer<"memory.edit"> = (value, view) => done(view, value)
export const memoryForget: Renderer<"memory.forget"> = (value, view) => done(view, value)
export const memoryHistory: Renderer<"memory.history"> = (rows, view) =>
  view.input["text"] === true
    ? rows.flatMap((row) => [bold(view, byLine(view, row.by)), ...plain(row.after ?? "").split("\n").map((line) => `  ${line}`), ""])
    : history(view, rows, "No history.")
export const memorySearch: Renderer<"memory.search"> = (rows, view) =>
  rows.length === 0 ? ["Nothing found."] : table(view, ["page", "line#", "text"], rows.map((row) => [row.page, String(row.line), oneLine(row.excerpt, 200)]))
