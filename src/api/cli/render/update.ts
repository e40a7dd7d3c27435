/** Releases, slots and packs for people. */
import type { OutputOf } from "../../operations/table.ts"
import { ago, bold, bytes, count, dim, green, pairs, red, table, type View, yellow } from "../text.ts"
import { done, type Lines, names, type Renderer, who } from "./shared.ts"

type Row = OutputOf<"update.list">[number]
type ChannelRow = OutputOf<"update.channel">["channels"][number]

const titleOf = (row: Row): string => `${row.name} ${row.version}`

const stateOf = (view: View, row: Row): string => row.running ? green(view, "runs here")
  : row.state === "rolled-back" || row.state === "failed" ? red(view, row.state)
  : row.verdict === "unfit" ? red(view, "does not fit") : row.verdict === "stale" ? yellow(view, "stale channel") : row.state

/** The platform is shown where releases differ in it; else there is more room for why one is not taken. */
const rowsOf = (view: View, rows: ReadonlyArray<Row>): Lines => {
  const platforms = new Set(rows.map(({ platform }) => platform)).size > 1
  return table(view, ["release", "id", "channel", ...(platforms ? ["platform"] : []), "state", "by itself"], rows.map((row) => [
    `${titleOf(row)}${row.security ? yellow(view, " security") : ""}`, row.id.slice(0, 8), row.channel, ...(platforms ? [row.platform] : []), stateOf(view, row), row.running ? "" : byItself(row)
  ]))
}

const byItself = ({ waits }: Row): string => waits === "" ? "yes" : `no: ${waits}`

/** Which devices take it by themselves. */
const rollOut = ({ ring, permille }: OutputOf<"update.show">): string => `${permille === 1_000 ? "every device" : `${permille / 10} % of devices`}${ring === "all" ? "" : ` of the ring ${ring}`}`

const trustOf = (view: View, { trust, detail }: ChannelRow): string => `${trust === "fresh" ? green(view, trust) : trust === "untrusted" ? red(view, trust) : yellow(view, trust)}${detail === "" ? "" : `: ${detail}`}`

const channelsOf = (view: View, channels: ReadonlyArray<ChannelRow>): Lines => channels.length === 0 ? ["No channel is followed."]
  : table(view, ["channel", "signed", "releases#", "trust"], channels.map((channel) => [channel.name, ago(view, channel.signed), String(channel.releases), trustOf(view, channel)]))

const noOffers = "Nothing is offered that is newer than what runs."

export const updateCheck: Renderer<"update.check"> = ({ channels, offers }, view) => [
  ...channelsOf(view, channels), "",
  ...(offers.length === 0 ? [noOffers] : rowsOf(view, offers)),
  ...(channels.length === 0 ? [`Next: ${bold(view, "kos update channel stable --follow CODE")}`] : offers.length === 0 ? [] : ["", `Next: ${bold(view, `kos update plan ${offers[0]?.version ?? ""}`)}`])
]

export const updateList: Renderer<"update.list"> = (rows, view) => rows.length === 0 ? [noOffers] : rowsOf(view, rows)

export const updateShow: Renderer<"update.show"> = (value, view) => [
  `${bold(view, titleOf(value))}  ${stateOf(view, value)}`,
  ...pairs(view, [
    ["id", value.id], ["kind", `${value.kind} for ${value.platform}${value.boards.length === 0 ? "" : `, boards ${names(value.boards)}`}`], ["channel", `${value.channel}, ${value.target}`],
    ["signed by", `${signersText(value.signers)}; ${value.threshold} needed for ${value.role}`], ["payload", bytes(value.payloadBytes)],
    ["comes from", value.from === null ? undefined : `${value.from} or later`],
    ["needs kOS", value.kosMin === null && value.kosBelow === null ? undefined : `${value.kosMin ?? "any"}${value.kosBelow === null ? " or later" : ` to before ${value.kosBelow}`}`],
    ["never below", value.minSecure ?? undefined], ["roll-out", rollOut(value)], ["by itself", value.running ? undefined : byItself(value)], ["events", `reads ${value.reads} types, may write ${value.writes}`],
    ["checks", value.checks.length === 0 ? undefined : value.checks.join(", ")]
  ]),
  ...value.migrations.map((line) => `changes data: ${line}`),
  ...(value.risk === "" ? [] : [yellow(view, `risk: ${value.risk}`)]),
  ...value.reasons.map((reason) => red(view, reason)),
  ...(value.notes === "" ? [] : ["", ...value.notes.split("\n")])
]

const signersText = (signers: ReadonlyArray<{ readonly key: string; readonly name: string }>): string => names(signers.map(({ key, name }) => name === "" ? key.slice(0, 8) : `${name} (${key.slice(0, 8)})`))

export const updatePlan: Renderer<"update.plan"> = (value, view) => [
  `${bold(view, titleOf(value.release))}  ${stateOf(view, value.release)}`,
  ...value.changes.map((line) => `  ${line}`),
  ...pairs(view, [
    ["to fetch", bytes(value.fetchBytes)], ["space", `${bytes(value.spaceBytes)} of ${bytes(value.freeBytes)} free`], ["signed by", `${signersText(value.signers)}; ${value.threshold} needed`],
    ["held by", value.peers.length === 0 ? "nobody else in touch" : names(value.peers)], ["by itself", value.release.running ? undefined : byItself(value.release)]
  ]),
  ...value.migrations.map((line) => `changes data: ${line}`),
  ...value.release.reasons.map((reason) => red(view, reason)),
  ...value.risks.map((risk) => yellow(view, risk)),
  ...value.advice.map(({ by, stance, text, counts }) => `${stance === "veto" ? red(view, "veto") : "advice"} of ${who(by)}, ${ago(view, by.at)}: ${text}${counts || stance === "advice" ? "" : dim(view, "  does not count here")}`),
  "", dim(view, "Nothing was touched."), ...(value.release.verdict === "unfit" || value.release.running ? [] : [`Next: ${bold(view, `kos update apply ${value.release.version}`)}`])
]

export const updateFetch: Renderer<"update.fetch"> = (value, view) => [
  value.summary, ...pairs(view, [["was here", value.hereBytes === 0 ? undefined : bytes(value.hereBytes)], ["patched", value.patchedBytes === 0 ? undefined : bytes(value.patchedBytes)], ["fetched", bytes(value.fetchedBytes)]])
]

export const updateTry: Renderer<"update.try"> = (value, view) => [
  ...(value.summary === "" ? [] : [value.summary]),
  ...(value.trials.length === 0 ? value.summary === "" ? ["Nothing is being tried."] : []
    : table(view, ["id", "module", "state", "since", "events#", "shut in by"], value.trials.map((trial) => [trial.id, `${trial.name} ${trial.version}`, trial.state, ago(view, trial.since), String(trial.events), trial.isolation]))),
  ...value.log.map((line) => dim(view, `  ${line}`))
]

export const updateApply: Renderer<"update.apply"> = (value, view) => [
  value.summary, ...value.differences.map((line) => yellow(view, `  ${line}`)),
  ...(value.restarting ? [afterwards(view)] : [])
]

/** The node is gone for a moment now, and says afterwards how it went. */
const afterwards = (view: View): string => `Next, in a moment: ${bold(view, "kos wait ready")} and ${bold(view, "kos update history")}`

const switched = (value: { readonly summary: string }, view: View): Lines => [value.summary, afterwards(view)]
export const updateBoot: Renderer<"update.boot"> = switched
export const updateRollback: Renderer<"update.rollback"> = switched

export const updateHistory: Renderer<"update.history"> = (rows, view) => rows.length === 0 ? ["No update has been under way here."]
  : table(view, ["when", "who", "release", "step", "what"], rows.map((row) => [ago(view, row.by.at), who(row.by), `${row.name} ${row.version}`, stepOf(view, row.step), row.detail]))

const stepOf = (view: View, step: string): string => step === "committed" ? green(view, step) : step === "rolled-back" || step === "failed" ? red(view, step) : step

export const updateChannel: Renderer<"update.channel"> = (value, view) => [
  ...(value.summary === "" ? [] : done(view, value)), ...channelsOf(view, value.channels),
  ...value.others.flatMap(({ name, mesh, code }) => ["", `${mesh} follows ${name}; to follow it here: ${bold(view, `kos update channel ${name} --follow ${code}`)}`])
]

export const updateSlots: Renderer<"update.slots"> = (rows, view) => [
  ...table(view, ["generation#", "version", "state", "where"], rows.map((row) => [String(row.generation), `${row.name} ${row.version}`, `${row.state}${row.running ? green(view, ", runs") : ""}`, row.path])),
  ...rows.flatMap(({ generation, name, version, state, why }) => why === undefined ? [] : [`Generation ${generation}, ${name} ${version}, is ${state}: ${why}`])
]

export const updateAdvise: Renderer<"update.advise"> = (value, view) => done(view, value)
export const updateStop: Renderer<"update.stop"> = (value, view) => done(view, value)
export const updatePin: Renderer<"update.pin"> = (value, view) => done(view, value)
export const updatePause: Renderer<"update.pause"> = (value, view) => done(view, value)
export const updateResume: Renderer<"update.resume"> = (value, view) => done(view, value)
export const updateExport: Renderer<"update.export"> = (value) => [`Wrote ${value.file}: ${count(value.channels, "channel")}, ${value.packs === 0 ? "no packs, since none is on this node" : count(value.packs, "pack")}, ${bytes(value.bytes)}.`]
export const updateImport: Renderer<"update.import"> = (value, view) => [value.summary, ...(value.offers.length === 0 ? [noOffers] : rowsOf(view, value.offers))]

const limitsText = ({ upload, download, window, metered }: OutputOf<"seed.limit">["limits"]): string =>
  `up ${upload === "0B" ? "without limit" : `${upload} a second`}, down ${download === "0B" ? "without limit" : `${download} a second`}, ${window === "always" ? "at any time" : window === "never" ? "at no time" : `from ${window}`}${metered ? ", local network only" : ""}`

export const seedList: Renderer<"seed.list"> = (value, view) => [
  ...(value.seeds.length === 0 ? ["This node holds no packs."]
    : table(view, ["pack", "of", "held#", "sent#", "fetched#", "wires#"], value.seeds.map((seed) => [
      seed.pack.slice(0, 8), seed.releases.length === 0 ? "nothing offered now" : names(seed.releases, 3), seed.heldBytes === seed.bytes ? bytes(seed.bytes) : `${bytes(seed.heldBytes)} of ${bytes(seed.bytes)}`,
      bytes(seed.uploadedBytes), bytes(seed.downloadedBytes), String(seed.wires)
    ]))),
  ...pairs(view, [
    ["limits", limitsText(value.limits)], ["rests", value.rests === "" ? undefined : value.rests], ["process", value.pid === 0 ? "none runs" : `${value.pid}, ${bytes(value.memoryBytes)}`],
    ["banned", value.banned.length === 0 ? undefined : names(value.banned)]
  ])
]
export const seedAdd: Renderer<"seed.add"> = (value, view) => done(view, value)
export const seedRemove: Renderer<"seed.remove"> = (value, view) => done(view, value)
export const seedLimit: Renderer<"seed.limit"> = (value, view) => done(view, value, [limitsText(value.limits)])

export const eventTypes: Renderer<"event.types"> = (value) => value.reads.map((type) => value.writes.includes(type) ? type : `${type} (read only)`)
