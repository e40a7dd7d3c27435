/** Mesh, invites, nodes, sync. */
import { ago, bold, bytes, count, dim, duration, green, pairs, red, short, table, when, yellow } from "../text.ts"
import { done, names, type Renderer, who } from "./shared.ts"

export const meshCreate: Renderer<"mesh.create"> = (value, view) => [...done(view, value), "", `Next: ${bold(view, "kos invite create")}`]

export const meshShow: Renderer<"mesh.show"> = (value, view) => [
  `${bold(view, value.name === "" ? "A mesh of its own" : value.name)}, ${count(value.members.length, "member")}; this node is ${value.role}, ${value.mode}.`,
  ...pairs(view, [["id", value.id], ["created", when(view, value.created)]]),
  "",
  ...table(view, ["name", "device", "role", "standing", "since"], value.members.map((m) => [m.self ? `${m.name} (this)` : m.name, short(m.device), m.role, m.standing, ago(view, m.since)]))
]

export const meshMode: Renderer<"mesh.mode"> = (value, view) => (value.events.length === 0 ? [value.mode] : done(view, value))

export const inviteCreate: Renderer<"invite.create"> = (value, view) => [
  value.invite,
  ...(value.words === undefined ? [] : ["", value.words]),
  ...(value.qr === undefined ? [] : ["", value.qr]),
  "",
  dim(view, `For ${count(value.uses, "device")} as ${value.role}, good until ${when(view, value.expires)}. Withdraw: kos invite revoke ${value.id}`),
  `On the other device: ${bold(view, `kos join ${value.invite}`)}`
]

export const inviteList: Renderer<"invite.list"> = (rows, view) =>
  rows.length === 0
    ? ["No invites. Next: kos invite create"]
    : table(view, ["id", "role", "state", "used#", "expires", "by"], rows.map((row) => [row.id, row.role, row.state, `${row.used}/${row.uses}`, ago(view, row.expires), who(row.issued)]))

export const inviteRevoke: Renderer<"invite.revoke"> = (value, view) => done(view, value)

export const nodeList: Renderer<"node.list"> = (rows, view) =>
  table(view, ["name", "device", "role", "in touch", "events#", "waiting#", "behind#", "last seen"], rows.map((row) => [
    row.self ? `${row.name} (this)` : row.name, short(row.device), row.standing === "member" ? row.role : row.standing, row.self ? "" : row.inTouch ? row.carrier ?? "yes" : "no",
    String(row.events), row.self ? "" : String(row.waiting), row.self ? "" : String(row.behind), row.self || row.inTouch ? "now" : ago(view, row.lastSeen)
  ]))

export const nodeShow: Renderer<"node.show"> = (value, view) => [
  `${bold(view, value.name)}${value.self ? " (this node)" : value.inTouch ? `, in touch by ${value.carrier ?? "some carrier"}` : `, last seen ${ago(view, value.lastSeen) || "never"}`}`,
  ...pairs(view, [
    ["device", value.device], ["role", value.standing === "member" ? value.role : value.standing], ["version", value.version],
    ["admitted", value.admitted === undefined ? undefined : `${ago(view, value.admitted.at)} by ${who(value.admitted)}`],
    ["waiting", value.self ? undefined : `${count(value.waiting, "event")} for it, ${value.behind} from it`]
  ]),
  "",
  ...table(view, ["log", "epoch#", "blocks#", "state", "newest"], value.logs.map((log) => [short(log.log), String(log.epoch), String(log.length), log.state, ago(view, log.last)])),
  ...(value.receipts.length === 0 ? [] : [""]),
  ...table(view, ["log of", "holds#", "of#", "since"], value.receipts.map((row) => [row.node, String(row.holds), String(row.of), ago(view, row.since)]))
]

export const nodeName: Renderer<"node.name"> = (value, view) => (value.events.length === 0 ? [value.name] : done(view, value))

export const syncStatus: Renderer<"sync.status"> = (value, view) => {
  const waiting = value.peers.filter((peer) => peer.waiting > 0)
  const touched = value.peers.filter(({ inTouch }) => inTouch).length
  return [
    bold(view, `${value.paused ? `Paused${value.pausedUntil === undefined ? "" : ` until ${when(view, value.pausedUntil)}`}. ` : ""}${touched} of ${count(value.peers.length, "peer")} in touch; ` +
      (waiting.length === 0 ? "everybody holds what is here." : `waiting for ${names(waiting.map(({ name }) => name))}.`)),
    "",
    ...table(view, ["carrier", "listening", "connections#", "detail"], value.carriers.map((c) => [c.name, c.listening ? "yes" : "no", String(c.connections), c.detail])),
    ...(value.peers.length === 0 ? [] : [""]),
    ...table(view, ["peer", "in touch", "waiting#", "waiting since", "behind#", "last seen"], value.peers.map((peer) => [
      peer.name, peer.inTouch ? peer.carrier ?? "yes" : "no", String(peer.waiting), ago(view, peer.waitingSince), String(peer.behind), peer.inTouch ? "now" : ago(view, peer.lastSeen)
    ])),
    ...(value.logs.length === 0 ? [] : [""]),
    ...table(view, ["log of", "blocks#", "known#", "held by", "missing at"], value.logs.map((log) => [log.node, String(log.length), String(log.known), names(log.heldBy, 4), names(log.missingAt, 4)]))
  ]
}

export const syncNow: Renderer<"sync.now"> = (value, view) => [
  `${value.reached.length === 0 ? "Reached nobody" : `Reached ${names(value.reached)}`}, ${count(value.received, "event")} came, in ${duration(value.ms)}.`,
  ...(value.missed.length === 0 ? [] : [yellow(view, `Not reached: ${names(value.missed)}.`)])
]

export const syncPause: Renderer<"sync.pause"> = (value, view) => done(view, value)
export const syncResume: Renderer<"sync.resume"> = (value, view) => done(view, value)

export const syncExport: Renderer<"sync.export"> = (value, view) => [
  `Wrote ${value.file}: ${count(value.blocks, "block")} of ${count(value.logs, "log")}, ${bytes(value.bytes)}.`,
  `There: ${bold(view, `kos sync import ${value.file}`)}`
]

export const syncImport: Renderer<"sync.import"> = (value, view) => [
  `${green(view, `Took in ${count(value.blocks, "block")}`)} (${count(value.events, "event")}) of ${count(value.logs, "log")}; ${value.known} were known.`,
  ...value.refused.map(({ log, why }) => red(view, `Refused ${short(log)}: ${why}`))
]
