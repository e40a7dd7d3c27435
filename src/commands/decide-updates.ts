/**
 * Deciders of updates: what is said of a release, of the turn to try it and of a device that sends bad pieces, and who may say it. Pure.
 *
 * A node speaks of itself (steps, offers, turns, bans, channels, what it can read), whatever its role; what nodes say of a release for others, advice and
 * vetoes, is for members. A seeder appends nothing, so its steps are known to itself only (dispatch.ts).
 */
import type { ChannelStated, UpdateOffered, UpdateStep, UpdateStepName } from "../events/catalogue.ts"
import type { Membership } from "../projections/membership.ts"
import { type Advice, type Turns, vetoCounts } from "../projections/updates.ts"
import type { Plan, Wanted } from "./dispatch.ts"
import { roleRefusal, standingRefusal } from "./policy.ts"
import { Refusal } from "./refusal.ts"

/** What of a release stands in each event about it; `Release` of `src/updates/release.ts` is one. */
export interface ReleaseNamed {
  readonly id: string
  readonly channel: string
  readonly target: string
  readonly custom: Pick<UpdateStep, "name" | "version" | "kind"> & { readonly minSecure: string | null }
}

export interface StepMore {
  readonly generation?: number
  readonly differences?: number
}

/** R5.1: one step of a release on this device. */
export const sayStep = (release: ReleaseNamed, step: UpdateStepName, detail: string, { generation, differences }: StepMore = {}): Wanted => ({
  type: `update.${step}/1`, subject: subjectOf(release.custom),
  body: {
    ...named(release, generation, detail),
    // R5.4: the floor is read from what was committed, when the channel is not there any more.
    ...(release.custom.minSecure === null ? {} : { minSecure: release.custom.minSecure }),
    ...(differences === undefined ? {} : { differences })
  } satisfies UpdateStep
})

/** The release with this device's verdict, for agents and people. Risks beyond 32 and characters beyond 512 are left out. */
export const sayOffer = (release: ReleaseNamed, verdict: (typeof UpdateOffered.Type)["verdict"], risks: ReadonlyArray<string>, detail: string): Wanted => ({
  type: "update.offered/1", subject: subjectOf(release.custom),
  body: { ...named(release, undefined, detail), verdict, risks: risks.slice(0, 32).map((risk) => risk.slice(0, 512)) } satisfies typeof UpdateOffered.Type
})

/** Nothing when the same was offered last: an offer is said anew when the verdict or a risk changed. */
export const decideOffer = (last: typeof UpdateOffered.Type | undefined, release: ReleaseNamed, verdict: (typeof UpdateOffered.Type)["verdict"], risks: ReadonlyArray<string>, detail: string): ReadonlyArray<Wanted> => {
  const offer = sayOffer(release, verdict, risks, detail)
  const same = last !== undefined && last.release === release.id && last.verdict === verdict && JSON.stringify(last.risks) === JSON.stringify(risks.slice(0, 32).map((risk) => risk.slice(0, 512)))
  return same ? [] : [offer]
}

/** A node's standing with a channel; nothing when it is as it was last. */
export const decideChannel = (last: typeof ChannelStated.Type | undefined, now: typeof ChannelStated.Type): ReadonlyArray<Wanted> =>
  last !== undefined && last.trust === now.trust && last.name === now.name && last.detail === now.detail.slice(0, 512) ? [] : [{
    type: "channel.stated/1", subject: `channel/${now.name}`, body: { ...now, detail: now.detail.slice(0, 512) }
  }]

export interface AdviceWish {
  readonly stance: "advice" | "veto" | "withdrawn"
  readonly text: string
  /** Who speaks: `device`, `agent:NAME` or `person:NAME`. */
  readonly actor: string
}

/** Characters of an advice. */
export const adviceCharsMax = 512

/** `vetoers`: the setting `update.veto`. The answer says whether a veto counts. */
export const decideAdvice = (
  membership: Membership, device: string, vetoers: ReadonlyArray<string>, release: ReleaseNamed, known: ReadonlyArray<Advice>, { stance, text, actor }: AdviceWish
): Plan | Refusal => {
  const me = membership.members.get(device)
  const refusal = standingRefusal(membership, device) ?? roleRefusal(me?.role)
  if (refusal !== undefined || me === undefined) return refusal ?? new Refusal({ kind: "denied", detail: "this node is no member of its mesh", hint: "kos mesh show" })
  const what = `${release.custom.name} ${release.custom.version}`
  const said = text.trim()
  if (said.length > adviceCharsMax) return new Refusal({ kind: "usage", detail: `the text has ${said.length} characters; the most is ${adviceCharsMax}`, path: "text" })
  if (stance === "advice" && said === "") return new Refusal({ kind: "usage", detail: "advice needs a text", path: "text", hint: "kos help update advise" })
  const before = known.find((one) => one.device === device && one.actor === actor)
  if (stance === "withdrawn" && before === undefined) return new Refusal({ kind: "not-found", detail: `${speaker(actor, me.name)} has said nothing of ${what}`, hint: `kos update show ${release.id.slice(0, 8)}` })
  if (before !== undefined && before.stance === stance && before.text === said) return { summary: `this was said of ${what} before`, events: [] }
  const counts = vetoCounts(vetoers, me, actor)
  const summary = stance === "withdrawn" ? `took back what ${speaker(actor, me.name)} said of ${what}`
    : stance === "advice" ? `advice on ${what} is noted`
    // R5.5: whose veto counts is a setting of the mesh.
    : counts ? `vetoed ${what}: no node takes it by itself while this stands`
    : `noted as advice only: update.veto does not name ${speaker(actor, me.name)}, so this keeps no node from taking ${what}`
  return { summary, events: [{ type: "update.advised/1", subject: subjectOf(release.custom), body: { release: release.id, stance, text: said } }] }
}

/** R5.6: asks for the turn, with a number above all that are known; nothing while the ask stands. */
export const decideAskTurn = (turns: Turns, device: string, release: Pick<ReleaseNamed, "id" | "custom">): ReadonlyArray<Wanted> =>
  turns.asks.some((ask) => ask.device === device && ask.release === release.id) ? [] : [{
    type: "update.turn/1", subject: subjectOf(release.custom), body: { release: release.id, state: "asked", number: turns.nextNumber }
  }]

export const decideGiveBackTurn = (turns: Turns, device: string, release: Pick<ReleaseNamed, "id" | "custom">): ReadonlyArray<Wanted> =>
  turns.asks.some((ask) => ask.device === device && ask.release === release.id) ? [{
    type: "update.turn/1", subject: subjectOf(release.custom), body: { release: release.id, state: "given-back" }
  }] : []

/** R4.2: this node takes no more pieces from a device. `banned`: those that it said so of. */
export const decideBan = (banned: ReadonlySet<string>, device: string, why: string): ReadonlyArray<Wanted> =>
  banned.has(device) ? [] : [{ type: "update.banned/1", subject: `peer/${device}`, body: { device, why: why.slice(0, 256) } }]

const named = ({ id, channel, target, custom: { name, version, kind } }: ReleaseNamed, generation: number | undefined, detail: string): UpdateStep => ({
  release: id, channel, target, name, version, kind, ...(generation === undefined ? {} : { generation }), detail: detail.slice(0, 1_024)
})

const subjectOf = ({ name }: { readonly name: string }): string => `update/${name}`

const speaker = (actor: string, node: string): string => actor === "device" ? node : `${actor} of ${node}`
