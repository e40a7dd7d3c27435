/**
 * Updates as they stand: what each device did with each release, what it runs, which releases are bad for it, who waits for a turn or is in a
 * trial, and what each node can read.
 *
 * A device speaks for itself only: a step, turn or capability counts for the device of the log that it stands in. What one device says is ordered by
 * its logs, in the order in which they were attached, and by place in them; never by its clock. The newest say of a device is what holds, so
 * that saying a thing twice changes nothing (R5.1 of `src/updates/rules.md`).
 */
import { type Address, addressText } from "../codec/address.ts"
import type { NodeCapable, UpdateStep, UpdateStepName } from "../events/catalogue.ts"
import type { Members } from "./members.ts"
import type { Member } from "./membership.ts"
import type { SaidAt } from "./tables/updates.ts"
import type { Tables } from "./tables/tables.ts"

type Reading = { readonly tables: { readonly updates: Pick<Tables["updates"], "steps" | "turns" | "advice" | "capable"> }; readonly members: Pick<Members, "view" | "deviceOf" | "nameOf"> }

/** A step that a device said of itself. */
export interface StepSaid extends UpdateStep {
  readonly step: UpdateStepName
  readonly device: string
  readonly actor: string
  /** By the clock of the device. */
  readonly ms: number
  readonly at: Address
}

/** Steps that end an attempt. */
export const endings: ReadonlySet<UpdateStepName> = new Set(["committed", "rolled-back", "failed", "stopped"])
/** Steps in which a release runs on trial. */
export const trials: ReadonlySet<UpdateStepName> = new Set(["trial", "healthy"])

/** All steps of a device, oldest first; of one release when it is named. */
export const stepsOf = (parts: Reading, device: string, release?: string): ReadonlyArray<StepSaid> => said(parts, release === undefined ? {} : { release }).get(device) ?? []

/** The last step of each release on a device, by release. */
export const lastSteps = (parts: Reading, device: string): ReadonlyMap<string, StepSaid> => new Map(stepsOf(parts, device).map((step) => [step.release, step]))

export interface HistoryLine extends StepSaid {
  /** Name of the device. */
  readonly node: string
  /** Address of the event. */
  readonly address: string
}

/** Who did what when and why, newest first: of one device by place, of all by stamp. */
export const historyOf = (parts: Reading, { device, limit }: { readonly device?: string; readonly limit: number }): ReadonlyArray<HistoryLine> => {
  const steps = device === undefined
    ? [...said(parts, {}).values()].flat().toSorted((a, b) => b.ms - a.ms || compare(a.at.log, b.at.log) || b.at.block - a.at.block || b.at.offset - a.at.offset)
    : stepsOf(parts, device).toReversed()
  return steps.slice(0, limit).map((step) => ({ ...step, node: parts.members.nameOf(step.device), address: addressText(step.at) }))
}

/** Releases that this device does not take by itself, by id, with the step that made them bad. */
export const badReleases = (parts: Reading, device: string): ReadonlyMap<string, StepSaid> => {
  // R5.3: what was rolled back here is bad here, unless it was committed here since.
  const bad = new Map<string, StepSaid>()
  for (const step of stepsOf(parts, device)) {
    if (step.step === "rolled-back") bad.set(step.release, step)
    if (step.step === "committed") bad.delete(step.release)
  }
  return bad
}

/** What was committed last of each name and not rolled back since. The slots say what really runs. */
export const committedOf = (parts: Reading, device: string): ReadonlyMap<string, StepSaid> => {
  const standing = new Map<string, ReadonlyArray<StepSaid>>()
  for (const step of stepsOf(parts, device)) {
    const others = (standing.get(step.name) ?? []).filter(({ release }) => release !== step.release)
    if (step.step === "committed") standing.set(step.name, [...others, step])
    if (step.step === "rolled-back") standing.set(step.name, others)
  }
  return new Map([...standing].flatMap(([name, steps]) => {
    const last = steps.at(-1)
    return last === undefined ? [] : [[name, last] as const]
  }))
}

/** Versions below which a device does not go any more, by name: all that was ever committed on it has said so. The highest of them is the floor. */
export const minSecuresOf = (parts: Reading, device: string): ReadonlyMap<string, ReadonlyArray<string>> => {
  // R5.4: going back from a release does not take its floor away.
  const found = new Map<string, Array<string>>()
  for (const { name, minSecure } of said(parts, { step: "committed" }).get(device) ?? []) {
    if (minSecure === undefined) continue
    const known = found.get(name)
    if (known === undefined) found.set(name, [minSecure])
    else if (!known.includes(minSecure)) known.push(minSecure)
  }
  return found
}

/** What a node says that it reads and writes. */
export interface Capability extends NodeCapableBody {
  readonly device: string
}
type NodeCapableBody = typeof NodeCapable.Type

/** By device, of members only. */
export const capabilitiesOf = (parts: Reading): ReadonlyMap<string, Capability> => {
  const found = new Map<string, Capability>()
  for (const { device, row } of ordered(parts, parts.tables.updates.capable())) found.set(device, { ...row.body, device })
  return found
}

/** A device that asked for its turn to try a release and has not given it back, or runs it on trial. */
export interface TurnAsk {
  readonly device: string
  readonly release: string
  /** Order of asks: each is greater than those that its device knew. */
  readonly number: number
  readonly state: "asked" | "trial"
  /** Where it asked; of a trial that nobody asked for, where it began. */
  readonly at: Address
  readonly ms: number
}

export interface Turns {
  /** At most one for each device and release, by number and log. */
  readonly asks: ReadonlyArray<TurnAsk>
  /** Number of the next ask of this device. */
  readonly nextNumber: number
}

/** Largest number of an ask; a member that claims more is counted as this. */
export const turnNumberMax = 1_000_000_000_000

/** Asks and trials that have not ended, of devices that are members. */
export const turnsOf = (parts: Reading): Turns => {
  const open = new Map<string, TurnAsk>()
  let largest = 0
  const turns = ordered(parts, parts.tables.updates.turns()).map(({ device, row, order }) => ({ device, order, row, what: row.body.state, release: row.body.release, number: row.body.number }))
  const steps = ordered(parts, parts.tables.updates.steps()).map(({ device, row, order }) => ({ device, order, row, what: row.step, release: row.body.release, number: undefined }))
  for (const { device, row, what, release, number } of [...turns, ...steps].toSorted(byPlace)) {
    const key = `${device} ${release}`
    const known = open.get(key)
    const place = { device, release, at: { log: row.log, block: row.block, offset: row.offset }, ms: row.ms }
    if (what === "asked") {
      const capped = Math.min(number ?? 0, turnNumberMax)
      largest = Math.max(largest, capped)
      open.set(key, { ...place, number: capped, state: "asked" })
    } else if (what === "given-back" || (isEnding(what) && known !== undefined)) open.delete(key)
    else if (what === "trial" || what === "healthy") open.set(key, { ...place, ...known, number: known?.number ?? 0, state: "trial" })
  }
  return { asks: [...open.values()].toSorted((a, b) => a.number - b.number || compare(a.at.log, b.at.log)), nextNumber: Math.min(largest + 1, turnNumberMax) }
}

/** What was said of a release, the newest word of each speaker; taken back ones are left out. */
export interface Advice {
  readonly release: string
  readonly stance: "advice" | "veto"
  readonly text: string
  readonly device: string
  readonly node: string
  readonly actor: string
  readonly ms: number
  /** R5.5: the setting `update.veto` names its speaker. */
  readonly counts: boolean
}

/** `names`: the setting `update.veto`. Members of the rank member and above are heard. */
export const adviceOn = (parts: Reading, release: string, names: ReadonlyArray<string>): ReadonlyArray<Advice> => {
  const last = new Map<string, Advice | undefined>()
  for (const { device, member, row } of ordered(parts, parts.tables.updates.advice(release))) {
    if (member.role === "reader" || member.role === "seeder") continue
    const { stance, text } = row.body
    last.set(`${device} ${row.actor}`, stance === "withdrawn" ? undefined : {
      release, stance, text, device, node: member.name, actor: row.actor, ms: row.ms, counts: stance === "veto" && vetoCounts(names, member, row.actor)
    })
  }
  return [...last.values()].filter((one) => one !== undefined).toSorted((a, b) => compare(a.node, b.node) || compare(a.actor, b.actor) || compare(a.device, b.device))
}

/** Does the setting `update.veto` name this speaker? A role names those of this rank and above; names of agents and people are the word of their node. */
export const vetoCounts = (names: ReadonlyArray<string>, member: Pick<Member, "name" | "role" | "device">, actor: string): boolean =>
  names.some((name) => name === actor || name === `node:${member.name}` || name === `node:${member.device}` || (name.startsWith("role:") && ranks.indexOf(name.slice(5)) >= 0 && ranks.indexOf(member.role) >= ranks.indexOf(name.slice(5))))

const ranks: ReadonlyArray<string> = ["seeder", "reader", "member", "admin", "owner"]

interface Ordered<Row> {
  readonly device: string
  readonly member: Member
  readonly row: Row
  /** Which of its device's logs it stands in. */
  readonly order: number
}

/** Rows of standing members, each device's in its own order. */
const ordered = <Row extends SaidAt>({ members }: Reading, rows: ReadonlyArray<Row>): ReadonlyArray<Ordered<Row>> => {
  const view = members.view()
  return rows.flatMap((row) => {
    const member = view.members.get(members.deviceOf(row.log) ?? "")
    return member?.standing !== "member" ? [] : [{ device: member.device, member, row, order: member.logs.findIndex(({ log }) => log === row.log) }]
  }).toSorted(byPlace)
}

const byPlace = (a: { readonly device: string; readonly order: number; readonly row: SaidAt }, b: typeof a): number =>
  compare(a.device, b.device) || a.order - b.order || a.row.block - b.row.block || a.row.offset - b.row.offset

const said = (parts: Reading, of: { readonly release?: string; readonly step?: UpdateStepName }): ReadonlyMap<string, ReadonlyArray<StepSaid>> => {
  const found = new Map<string, Array<StepSaid>>()
  for (const { device, row } of ordered(parts, parts.tables.updates.steps(of))) {
    const step = { ...row.body, step: row.step, device, actor: row.actor, ms: row.ms, at: { log: row.log, block: row.block, offset: row.offset } }
    const known = found.get(device)
    if (known === undefined) found.set(device, [step])
    else known.push(step)
  }
  return found
}

const isEnding = (what: string): boolean => what === "committed" || what === "rolled-back" || what === "failed" || what === "stopped"

const compare = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0
