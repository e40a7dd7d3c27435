/** Channels that are made here, what waits for signatures, and what was published. */
import type { ProposalRow, ReleaseChannelRow } from "../../operations/release.ts"
import { ago, bold, bytes, dim, green, pairs, red, short, table, type View, when, yellow } from "../text.ts"
import { done, type Lines, type Renderer } from "./shared.ts"

export const releaseKey: Renderer<"release.key"> = (value, view) => done(view, value, pairs(view, [
  ["key", value.key], ["name", value.name], ["file", value.file], ["kept", value.sealed ? "sealed" : "in clear"]
]))

export const releaseInit: Renderer<"release.init"> = (value, view) => proposed(view, value)
export const releaseYank: Renderer<"release.yank"> = (value, view) => proposed(view, value)
export const releaseRotate: Renderer<"release.rotate"> = (value, view) => proposed(view, value)
export const releaseDelegate: Renderer<"release.delegate"> = (value, view) => proposed(view, value)
export const releaseSign: Renderer<"release.sign"> = (value, view) => proposed(view, value)

export const releasePack: Renderer<"release.pack"> = (value, view) => [
  ...done(view, value),
  ...pairs(view, [
    ["release", value.release], ["target", value.target], ["payload", bytes(value.payloadBytes)], ["index", bytes(value.indexBytes)],
    ["packs", value.packs.length === 0 ? "nothing new" : value.packs.map((pack) => `${pack.kind} ${bytes(pack.bytes)}`).join(", ")]
  ]),
  ...value.dropped.map((target) => yellow(view, `${target} had to go, for lack of room.`)),
  ...value.proposals.flatMap((row) => ["", ...proposal(view, row)]), ...next(view, value.next)
]

export const releasePublish: Renderer<"release.publish"> = (value, view) => [
  ...done(view, value), ...value.published.map((line) => `${green(view, "+")} ${line}`), ...value.notes.map((line) => yellow(view, line)),
  ...(value.follow === "" ? [] : ["", dim(view, "Follow it with:"), bold(view, value.follow)])
]

export const releaseWithdraw: Renderer<"release.withdraw"> = (value, view) => done(view, value)

export const releaseList: Renderer<"release.list"> = (rows, view) => rows.length === 0
  ? ["No channel is made in this mesh.", "", `Next: ${bold(view, "kos release init NAME")}`]
  : rows.flatMap((row, i) => [...(i === 0 ? [] : [""]), ...channel(view, row)])

export const releaseShow: Renderer<"release.show"> = (value, view) => [
  ...proposal(view, value), ...pairs(view, [["id", value.id], ["channel", value.channel], ["signed part", bytes(value.bytes)], ["good until", when(view, value.expires)]])
]

const proposed = (view: View, value: { readonly summary: string; readonly events: Parameters<typeof done>[1]["events"]; readonly proposals: ReadonlyArray<ProposalRow>; readonly next: string }): Lines => [
  ...done(view, value), ...value.proposals.flatMap((row) => ["", ...proposal(view, row)]), ...next(view, value.next)
]

const next = (view: View, text: string): Lines => text === "" ? [] : ["", `Next: ${bold(view, text)}`]

const proposal = (view: View, row: ProposalRow): Lines => [
  `${bold(view, short(row.id))}  ${row.channelName} ${row.role} ${row.version}  ${stateText(view, row)}`,
  `  ${row.summary}, by ${row.by} ${ago(view, row.at)}`,
  ...row.changes.map((change) => `  ${change}`),
  ...row.needs.map((need) => `  ${need.signed} of ${need.threshold} as ${need.as}: ${need.signers.map(({ key, name, signed }) => signed ? green(view, `${name === "" ? short(key) : name} signed`) : dim(view, name === "" ? short(key) : name)).join(", ")}`)
]

const stateText = (view: View, { state, why }: ProposalRow): string =>
  state === "complete" ? green(view, "has enough signatures") : state === "waiting" ? yellow(view, "waits for signatures") : red(view, why)

const channel = (view: View, row: ReleaseChannelRow): Lines => [
  `${bold(view, row.name)}  ${dim(view, short(row.id))}${row.here ? "  published here" : ""}`,
  ...pairs(view, [
    ["code", row.code === "" ? undefined : row.code], ["log", row.log],
    ["versions", `root ${row.versions.root}, targets ${row.versions.targets}, snapshot ${row.versions.snapshot}, timestamp ${row.versions.timestamp}`],
    ["good until", row.expires === undefined ? undefined : when(view, row.expires)],
    ...row.needs.map((need): readonly [string, string] => [need.as, `${need.threshold} of ${need.signers.map(({ key, name }) => name === "" ? short(key) : name).join(", ")}`]),
    ...row.publishers.map((need): readonly [string, string] => [need.as, `${need.threshold} of ${need.signers.map(({ key, name }) => name === "" ? short(key) : name).join(", ")}`])
  ]),
  ...table(view, ["release", "id", "kind", "ring", "share", ""], row.releases.map((one) => [one.target, short(one.id), one.kind, one.ring, `${one.permille / 10} %`, one.security ? "security" : ""])),
  ...row.yanked.map(({ target, reason }) => red(view, `${target} was yanked: ${reason}`)),
  ...row.waiting.flatMap((one) => ["", ...proposal(view, one)])
]
