/** Mesh, invites, nodes, sync. */
import { ago, bold, bytes, count, dim, duration, green, pairs, red, short, table, when, yellow } from "../text.ts"
import { done, names, type Renderer, who } from "./shared.ts"

export const meshCreate: Renderer<"mesh.create"> = (value, view) => [...done(view, value), "", `Next: ${bold(view, `kos ${value.further ? `--mesh ${value.id.slice(0, 8)} ` : ""}invite create`)}`]

export const meshList: Renderer<"mesh.list"> = (rows, view) => [
  ...table(view, ["mesh", "id", "role", "members#", "in touch#", ""], rows.map((row) => [
    row.name, short(row.id), row.fault !== undefined ? "not open" : row.standing === "member" ? row.role ?? "" : row.standing ?? "", String(row.members), String(row.inTouch), row.default ? "default" : row.federation ? "federation" : ""
  ])),
  ...rows.flatMap(({ name, fault }) => fault === undefined ? [] : [red(view, `${name} could not be opened: ${fault}`)])
]

export const meshUse: Renderer<"mesh.use"> = (value, view) => done(view, value)

export const meshFederate: Renderer<"mesh.federate"> = (value, view) => [
  ...(value.summary === "" ? [] : [...done(view, value), ""]),
  ...(value.federations.length === 0 ? ["No federations. Next: kos mesh federate --share names"] : []),
  ...table(view, ["with", "federation", "state", "we share", "they share", "received#", "begun", "by"], value.federations.map((row) => [
    row.with.map(({ name }) => name).join(", ") || (row.state === "open" ? "nobody yet" : ""), short(row.id), row.state, row.shares.map(({ kind, things, note }) => `${kind} (${note ?? things})`).join(", "),
    [...new Set(row.with.flatMap(({ shares }) => shares))].join(", "), String(row.received), ago(view, row.begun.at), row.bridge ? `${row.begun.node} (this)` : row.begun.node
  ])),
  ...(value.invite === undefined ? [] : ["", value.invite, "", `An admin of the other mesh: ${bold(view, `kos mesh federate ${value.invite} --share names`)}`])
]

export const meshShow: Renderer<"mesh.show"> = (value, view) => [
  `${bold(view, value.name === "" ? "A mesh of its own" : value.name)}, ${count(value.members.length, "member")}; this node is ${value.role}, ${value.mode}.`,
  ...pairs(view, [["id", value.id], ["created", when(view, value.created)]]),
  "",
  ...table(view, ["name", "device", "role", "standing", "since"], value.members.map((m) => [m.self ? `${m.name} (this)` : m.name, short(m.device), m.role, m.standing, ago(view, m.since)]))
]

export const meshMode: Renderer<"mesh.mode"> = (value, view) => (value.events.length === 0 ? [value.mode] : done(view, value))

export const inviteCreate: Renderer<"invite.create"> = (value, view) => [
  ...(view.input["words"] === true ? [value.words] : []),
  ...(view.input["qr"] === true ? value.qr.split("\n") : []),
  ...(view.input["words"] === true || view.input["qr"] === true ? [] : [value.invite]),
  "",
  dim(view, `For ${count(value.uses, "device")} as ${value.role}, good until ${when(view, value.expires)}. Withdraw: kos invite revoke ${value.id}`),
  ...(value.role === "admin" || value.role === "owner" ? [`Both screens will show six words: compare them, then ${bold(view, `kos invite confirm ${value.id}`)}`] : []),
  view.input["words"] === true ? `On the other device: ${bold(view, "kos join")} and the words; four letters of each are enough.`
    : view.input["qr"] === true ? `On the other device: ${bold(view, "kos join")} and what the code says.` : `On the other device: ${bold(view, `kos join ${value.invite}`)}`
]

export const inviteList: Renderer<"invite.list"> = (rows, view) =>
  rows.length === 0
    ? ["No invites. Next: kos invite create"]
    : [
      ...table(view, ["id", "role", "state", "used#", "expires", "by"], rows.map((row) => [row.id, row.role, row.state, `${row.used}/${row.uses}`, ago(view, row.expires), who(row.issued)])),
      ...rows.flatMap((row) => row.waiting.flatMap((candidate) => [
        "", yellow(view, `${candidate.name} waits to be let in as ${row.role}. Its screen must show:`), `    ${bold(view, candidate.words)}`, `Next: kos invite confirm ${candidate.id}`
      ]))
    ]

export const inviteConfirm: Renderer<"invite.confirm"> = (value, view) => done(view, value)

export const inviteRevoke: Renderer<"invite.revoke"> = (value, view) => done(view, value)

export const nodeList: Renderer<"node.list"> = (rows, view) =>
  view.input["federated"] === true
    ? rows.length === 0 ? ["No other mesh shares names with this one."] : table(view, ["name", "device", "services"], rows.map((row) => [row.name, short(row.device), (row.services ?? []).join(", ")]))
    : table(view, ["name", "device", "role", "in touch", "events#", "waiting#", "behind#", "last seen"], rows.map((row) => [
    row.self ? `${row.name} (this)` : row.name, short(row.device), row.standing === "member" ? row.role ?? "" : row.standing, row.self ? "" : row.inTouch ? row.carrier ?? "yes" : "no",
    String(row.events), row.self ? "" : String(row.waiting), row.self ? "" : String(row.behind), row.self || row.inTouch ? "now" : ago(view, row.lastSeen)
  ]))

export const nodeShow: Renderer<"node.show"> = (value, view) => [
  `${bold(view, value.name)}${value.self ? " (this node)" : value.inTouch ? `, in touch by ${value.carrier ?? "some carrier"}` : `, last seen ${ago(view, value.lastSeen) || "never"}`}`,
  ...pairs(view, [
    ["device", value.device], ["role", value.standing === "member" ? value.role : value.standing], ["version", value.version],
    ["admitted", value.admitted === undefined ? undefined : `${ago(view, value.admitted.at)} by ${who(value.admitted)}`],
    ["role given", value.granted === undefined ? undefined : `${ago(view, value.granted.at)} by ${who(value.granted)}`],
    ["expelled", value.revoked === undefined ? undefined : `${ago(view, value.revoked.at)} by ${who(value.revoked)}${value.revoked.reason === "" ? "" : `: ${value.revoked.reason}`}`],
    ...value.rights.map((right, i): [string, string] => [i === 0 ? "may" : "", right]),
    ["could read", value.readable.epochs.length === 0 ? "nothing" : `key epochs ${value.readable.epochs.map(({ epoch }) => epoch).join(", ")}`],
    ["secrets", value.readable.secrets.length === 0 ? undefined : value.readable.secrets.join(", ")],
    ["waiting", value.self ? undefined : `${count(value.waiting, "event")} for it, ${value.behind} from it`]
  ]),
  "",
  ...table(view, ["log", "epoch#", "blocks#", "state", "newest"], value.logs.map((log) => [short(log.log), String(log.epoch), log.counts === undefined ? String(log.length) : `${log.length} (${log.counts} count)`, log.state, ago(view, log.last)])),
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
