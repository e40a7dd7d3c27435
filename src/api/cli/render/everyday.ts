import { ago, bold, bytes, count, dim, duration, green, oneLine, pairs, plain, red, safe, table, type View, yellow } from "../text.ts"
import type { OutputOf } from "../../operations/table.ts"
import { brief, done, type Lines, names, type Renderer } from "./shared.ts"

/** Never longer than a small terminal. */
export const statusLinesMax = 24
const peersShownMax = 6
const warningsShownMax = 4
const othersShownMax = 3

export const status: Renderer<"status"> = (value, view) => {
  const { node, mesh, events, disk } = value
  const paint = value.state === "well" ? green : value.state === "attention" ? yellow : red
  const peers = [...value.peers].sort((a, b) => Number(b.inTouch) - Number(a.inTouch) || b.waiting - a.waiting || (a.name < b.name ? -1 : 1))
  const hidden = peers.length - peersShownMax
  const found = [...troubles(value), ...value.warnings]
  return [
    bold(view, paint(view, value.sentence)),
    "",
    ...pairs(view, [
      ["node", `${node.name} (${node.ready ? "ready" : "not ready"}, ${node.mode}${value.sync.paused ? ", sync paused" : ""}), up ${duration(view.now - Date.parse(node.startedAt))}, pid ${node.pid}`],
      ["mesh", `${mesh.name === "" ? "of its own" : mesh.name}, ${count(mesh.members, "member")}, ${mesh.inTouch} in touch`],
      ...(value.others ?? []).slice(0, othersShownMax).map((other): readonly [string, string] => ["beside", other.fault === undefined ? `${other.name}, ${count(other.members, "member")}, ${other.inTouch} in touch${other.default ? "; the default" : ""}` : `${other.name} could not be opened: ${other.fault}`]),
      ...((value.others ?? []).length > othersShownMax ? [["", "and more: kos mesh list"] as const] : []),
      ["events", `${events.total.toLocaleString("en")} (${events.own.toLocaleString("en")} own), newest @${events.newestArrival}`],
      ["disk", `${bytes(disk.usedBytes)} used, ${bytes(disk.freeBytes)} free`]
    ]),
    ...(peers.length === 0 ? [] : [""]),
    ...table(view, ["peer", "in touch", "waiting#", "behind#", "last seen"], peers.slice(0, peersShownMax).map((peer) => [
      peer.name, peer.inTouch ? peer.carrier ?? "yes" : "no", String(peer.waiting), String(peer.behind), peer.inTouch ? "now" : ago(view, peer.lastSeen)
    ])),
    ...(hidden > 0 ? [dim(view, `and ${hidden} more: kos node list`)] : []),
    ...(found.length === 0 ? [] : [""]),
    ...found.slice(0, warningsShownMax).map((text) => yellow(view, `! ${oneLine(text, Math.max(40, view.columns - 2))}`)),
    ...(found.length > warningsShownMax ? [dim(view, `and ${found.length - warningsShownMax} more: kos doctor`)] : []),
    "",
    `Next: ${bold(view, oneLine(value.next, view.columns))}`
  ]
}

const troubles = (value: OutputOf<"status">): Lines => {
  const { conflicts, quarantine, unknownTypes, uncleanStops, refusedCommands } = value
  const refused = quarantine.frames + quarantine.events
  return [
    ...(conflicts > 0 ? [`${count(conflicts, "conflict")}: kos config conflicts --all`] : []),
    ...(quarantine.documents.length > 0 ? [`invalid, last valid state in force: ${names(quarantine.documents, 3)}`] : []),
    ...(refused > 0 ? [`${count(refused, "frame or event", "frames or events")} in quarantine: kos event verify`] : []),
    ...(unknownTypes.length > 0 ? [`event types of a newer version, kept: ${names(unknownTypes.map(({ type, count: n }) => `${type} (${n})`), 3)}`] : []),
    ...(uncleanStops.count > 0 ? [`${count(uncleanStops.count, "unclean stop")}`] : []),
    ...(refusedCommands > 0 ? [`${count(refusedCommands, "command")} refused so far`] : [])
  ]
}

export const init: Renderer<"init"> = (value, view) => [
  value.created ? `${bold(view, value.name)} is a node now.` : `${bold(view, value.name)} is a node already.`,
  ...pairs(view, [["device", value.device], ["log", value.log], ["home", value.home], ["socket", value.socket]]),
  "",
  `Next: ${bold(view, value.next)}`
]

export const daemonRun: Renderer<"daemon.run"> = (value, view) => [
  `${bold(view, value.name)} runs${value.created ? "; its keys and its log are new" : ""}.`,
  ...pairs(view, [["device", value.device], ["home", value.home], ["socket", value.socket], ["pid", String(value.pid)]]),
  "",
  `Next, in another terminal: ${bold(view, value.next)}`
]

const levels = { good: green, note: dim, warning: yellow, fault: red }

export const doctor: Renderer<"doctor"> = (value, view) => {
  const bad = value.findings.filter(({ level }) => level === "fault" || level === "warning").length
  const { rebuild } = value
  return [
    bold(view, value.healthy && bad === 0 ? "Healthy." : `${count(bad, "thing")} to look at.`) + (value.daemon ? "" : dim(view, " (no daemon runs)")),
    "",
    ...value.findings.flatMap(({ about, level, detail, fix }) => [
      `${levels[level](view, level.padEnd(7))}  ${about}: ${detail}`,
      ...(fix === undefined ? [] : [`         → ${fix}`])
    ]),
    ...(rebuild === undefined ? [] : [
      "",
      `Rebuilt ${count(rebuild.documents, "document")} and ${count(rebuild.rows, "row")} from ${count(rebuild.events, "event")} in ${duration(rebuild.ms)}: ` +
        (rebuild.equal ? green(view, "equal to the live state.") : red(view, "NOT equal to the live state.")),
      ...rebuild.differences.slice(0, 20).map((text) => `  ${text}`)
    ])
  ]
}

export const events: Renderer<"events"> = (value, view) => [
  `${dim(view, `@${value.kosarrival}`.padEnd(7))} ${ago(view, value.time).padEnd(10)} ${value.kosnode.padEnd(10)} ${value.type.padEnd(22)} ${brief(value.subject ?? "")}` +
    (value.kosactor === "device" ? "" : dim(view, ` by ${value.kosactor}`))
]

export const logs: Renderer<"logs"> = (value, view) => {
  const paint = value.level === "error" ? red : value.level === "warn" ? yellow : value.level === "debug" ? dim : (_: View, text: string) => text
  const detail = Object.entries(value.detail ?? {}).map(([key, inner]) => `${key}=${safe(plain(inner))}`).join(" ")
  return [`${dim(view, value.at)} ${paint(view, value.level.padEnd(5))} ${value.text}${detail === "" ? "" : dim(view, ` ${oneLine(detail, 400)}`)}`]
}

export const wait: Renderer<"wait"> = (value) => [`${value.condition}: ${value.detail} (after ${duration(value.waitedMs)})`]

export const join: Renderer<"join"> = (value, view) =>
  done(view, value, [`In ${value.mesh.name} as ${value.role}, ${count(value.members, "member")}, admitted by ${value.admittedBy}${value.synced ? "." : "; the first sync goes on: kos wait synced"}`])

export const leave: Renderer<"leave"> = (value, view) => done(view, value)
