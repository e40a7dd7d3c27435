/**
 * The way of a release on this device, as a machine without memory: from what was said (events) and what is there (disk, slots, processes) to the one
 * next action (R5.1, R5.2).
 *
 * **What it owns.** The order of things alone. Whoever drives it does the action, looks again and asks again; each action is one effect, and saying a step is an
 * action of its own, after the effect. So a crash anywhere is only a new look: what was done and not said is said, what was said and not done is done.
 *
 * **How one release travels.** seen → verify → verified → compatible or unfit → fetch → fetched → stage → staged → rehearse → rehearsed → ask for a turn →
 * trial → activate and restart → the new version runs: healthy → hold → make good → committed → turn given back. In place of the last ones: the launcher or
 * a failed check puts the old version back, which says rolled-back and settles it with the slots.
 *
 * **Attempts.** Steps since the last ending (committed, rolled-back, failed, stopped) are the attempt under way. `seen`, `verified` and the last of
 * compatible and unfit hold beyond it. A next attempt is made by itself only as `mayTakeByItself` says; a person's wish holds for the endings that there were when
 * it was made, so it is one attempt whatever crashes in between.
 *
 * **Invariants.** 1. A slot is activated only after a rehearsal of that generation in the same attempt, after `trial` was said, and while the turn is this
 * node's. 2. Nothing that runs is touched before. 3. An attempt ends in one of the endings, or waits with a sentence. 4. While it waits for anything but its
 * turn it holds no turn.
 */
import { endings, type StepSaid, trials } from "../projections/updates.ts"
import type { UpdateStepName } from "../events/catalogue.ts"
import type { Judgement } from "./compatible.ts"
import type { Slot } from "./ports.ts"
import type { Release } from "./release.ts"
import { attemptsMax, type ByItself } from "./rollout.ts"
import type { Turn } from "./turn.ts"

export type WayGoal = "fetched" | "staged" | "rehearsed" | "committed"
const goals: ReadonlyArray<WayGoal> = ["fetched", "staged", "rehearsed", "committed"]

export type WayStep = Pick<StepSaid, "step" | "detail"> & Partial<Pick<StepSaid, "generation" | "differences">>

/** What a person asked for. */
export interface WayWish {
  readonly to: WayGoal
  /** `endingsOf` its steps when the person asked: the wish holds for one attempt. */
  readonly endings: number
  /** Switch although the rehearsal made something otherwise. */
  readonly despite: boolean
}

export interface WayFacts {
  /** Of this release on this device, oldest first. */
  readonly steps: ReadonlyArray<WayStep>
  /** It is in the targets in force. */
  readonly offered: boolean
  /** Its channel is followed and could not be read yet, so nobody knows whether it is offered. */
  readonly unread?: boolean
  readonly yanked: string | undefined
  /** Version of a newer release of the name that fits here and is not bad here: it is taken in place of this one. */
  readonly superseded?: string | undefined
  /** Its index is here and as signed. */
  readonly verified: boolean
  readonly judgement: Judgement
  readonly byItself: ByItself
  readonly wish: WayWish | undefined
  /** A person wants it stopped; forgotten once it was. */
  readonly stop: boolean
  readonly paused: boolean
  readonly pinned: string | undefined
  /** The whole payload is here and checked. */
  readonly payload: boolean
  /** The slot with this release; of several the newest. */
  readonly slot: Pick<Slot, "generation" | "state" | "why"> | undefined
  /** Generation that runs now, of what the release is called. */
  readonly running: number
  /** `Slots.failed()`, when it is about this release. */
  readonly failed: { readonly generation: number; readonly why: string } | undefined
  /** Generation to go back to from this release without passing the security floor; undefined when there is none. */
  readonly back: number | undefined
  /** Of the slot's generation, made since this process began. */
  readonly rehearsal: { readonly generation: number; readonly ok: boolean; readonly differences: number; readonly says: string } | undefined
  readonly turn: Turn
  /** While its trial runs: `waiting` until the checks have an answer for good. `goodMs`: for how long it is good without a break, by the steady clock. */
  readonly health: { readonly state: "waiting" | "good" | "bad"; readonly says: string; readonly goodMs: number } | undefined
  /** Why the last action cannot succeed however often it is tried; forgotten once `failed` was said. */
  readonly fault: string | undefined
}

export type WayAction =
  | { readonly do: "say"; readonly step: UpdateStepName; readonly detail: string; readonly generation?: number; readonly differences?: number }
  /** Gets the index and checks it. */
  | { readonly do: "verify" }
  | { readonly do: "fetch" }
  | { readonly do: "stage" }
  | { readonly do: "rehearse"; readonly generation: number }
  | { readonly do: "ask-turn"; readonly number: number }
  | { readonly do: "give-back-turn" }
  | { readonly do: "activate"; readonly generation: number; readonly tries: number; readonly deadlineMs: number }
  /** It is activated and does not run: start again. */
  | { readonly do: "restart" }
  | { readonly do: "good"; readonly generation: number }
  /** Goes back from this generation, to `to` or the one before, and starts again. */
  | { readonly do: "rollback"; readonly generation: number; readonly to?: number; readonly why: string }
  | { readonly do: "settle"; readonly generation: number }
  | { readonly do: "drop"; readonly generation: number }

export type WaitsFor = "person" | "turn" | "window" | "health" | "restart" | "roll-out" | "release"

export type WayNext =
  | { readonly _tag: "Do"; readonly action: WayAction }
  | { readonly _tag: "Wait"; readonly why: string; readonly for: WaitsFor }
  | { readonly _tag: "Done"; readonly why: string }

/** R6.2: starts that a trial gets; the second one is the one further try of R6.4 within it. */
export const triesMax = 2

/** The one next thing to do for a release on this device. */
export const next = (release: Pick<Release, "custom">, facts: WayFacts): WayNext => {
  const decided = reality(release, facts) ?? wayOn(release, facts)
  // R5.6: who does not go gives its turn back.
  const going = facts.slot?.state === "trial" || (decided._tag === "Wait" && decided.for === "turn")
  return decided._tag !== "Do" && facts.turn.asked && !going ? act({ do: "give-back-turn" }) : decided
}

/** How often attempts with this release ended here; a wish names it. */
export const endingsOf = (steps: ReadonlyArray<WayStep>): number => steps.filter(({ step }) => endings.has(step)).length

/** Attempts that ended before a trial since it was last committed; `mayTakeByItself` asks for it. */
export const failuresOf = (steps: ReadonlyArray<WayStep>): number => steps.slice(steps.findLastIndex(({ step }) => step === "committed") + 1).filter(({ step }) => step === "failed").length

/** What the slots say goes before what was said. Undefined when nothing runs, or is about to run, on trial. */
const reality = ({ custom }: Pick<Release, "custom">, facts: WayFacts): WayNext | undefined => {
  const { slot, failed, running, health, yanked } = facts
  const last = facts.steps.at(-1)?.step
  const attempt = attemptOf(facts.steps)
  const tried = attempt.some(({ step }) => trials.has(step))
  if (failed !== undefined) {
    // R6.3: the one before runs again and says why; said first, then settled, so that a crash in between says it once.
    return tried ? say("rolled-back", failed.why, failed.generation) : act({ do: "settle", generation: failed.generation })
  }
  if (slot === undefined) return tried ? say("failed", "what was to be tried is not on this device any more") : undefined
  const { generation } = slot
  // R5.3: left for a reason, by a trial or by hand, and not said yet.
  if (slot.state === "failed" && (tried || last === "committed")) return say("rolled-back", slot.why ?? "its trial ended badly", generation)
  if (slot.state === "trial") {
    // R5.2, R1.6: stopped at any step, by a person or by who published it.
    if (facts.stop) return act({ do: "rollback", generation, why: "a person stopped it" })
    if (yanked !== undefined) return act({ do: "rollback", generation, why: `its publisher took it back: ${yanked}`.slice(0, 512) })
    if (running !== generation) return act({ do: "restart" })
    if (health === undefined || health.state === "waiting") return wait(`its trial runs and is not known to be healthy yet${health === undefined || health.says === "" ? "" : `: ${health.says}`}`, "health")
    // R6.3: good within the time, or the one before runs again.
    if (health.state === "bad") return act({ do: "rollback", generation, why: health.says.slice(0, 512) })
    if (!attempt.some(({ step }) => step === "healthy")) return say("healthy", health.says, generation)
    if (health.goodMs < custom.healthyMs) return wait(`it is healthy and has to stay so for ${Math.ceil((custom.healthyMs - health.goodMs) / 1_000)} s more`, "health")
    return act({ do: "good", generation })
  }
  if (slot.state !== "current") return undefined
  if (yanked !== undefined && running === generation) {
    // R1.6: a device that runs what was taken back goes back if it may.
    if (facts.back === undefined) return wait(`its publisher took it back (${yanked}), and there is no version here to go back to`, "release")
    return last === "rolled-back" ? act({ do: "rollback", generation, to: facts.back, why: yanked }) : say("rolled-back", `its publisher took it back: ${yanked}`, generation)
  }
  if (running !== generation) return wait("it runs after the next start", "restart")
  return last === "committed" ? done("it runs here") : say("committed", tried ? "" : "it came back by a rollback", generation)
}

const wayOn = ({ custom }: Pick<Release, "custom">, facts: WayFacts): WayNext => {
  const { steps, slot, rehearsal, turn, byItself, judgement } = facts
  const attempt = attemptOf(steps)
  const has = (step: UpdateStepName): boolean => attempt.some((one) => one.step === step)
  const last = steps.at(-1)
  const begun = attempt.some(({ step }) => step !== "seen" && step !== "verified" && step !== "compatible" && step !== "unfit")
  const wish = facts.wish?.endings === endingsOf(steps) ? facts.wish : undefined

  // R5.2: a person can stop it at any step.
  if (facts.stop && last?.step !== "stopped") return last?.step === "committed" ? done("it was committed before it could be stopped") : say("stopped", "a person stopped it")
  if (facts.fault !== undefined) return say("failed", facts.fault, slot?.generation)
  // R1.6: what is not offered any more is not taken. After a start that is known only when the channel was read.
  if (facts.unread === true) return wait("its channel is not read yet", "release")
  if (facts.yanked !== undefined || !facts.offered) {
    const why = facts.yanked === undefined ? "it is not in its channel any more" : `its publisher took it back: ${facts.yanked}`
    return begun ? say("stopped", why) : slot?.state === "staged" ? act({ do: "drop", generation: slot.generation }) : done(why)
  }
  const ended = [...steps].reverse().find(({ step }) => endings.has(step))
  if (!begun && wish === undefined && (ended?.step === "stopped" || ended?.step === "committed")) {
    if (ended.step === "stopped" && slot?.state === "staged") return act({ do: "drop", generation: slot.generation })
    return done(ended.step === "stopped" ? `it was stopped here: ${ended.detail}` : "it was committed here, and another one took its place")
  }

  // R5.1: seen, verified, compatible.
  if (!steps.some(({ step }) => step === "seen")) return say("seen", "")
  if (!facts.verified) return act({ do: "verify" })
  if (!steps.some(({ step }) => step === "verified")) return say("verified", "")
  const judged = steps.findLast(({ step }) => step === "compatible" || step === "unfit")?.step
  // R5.7
  if (!judgement.fits) return begun ? say("failed", judgement.reasons.join(" ")) : judged === "unfit" ? wait(judgement.reasons.join(" "), "release") : say("unfit", judgement.reasons.join(" "))
  if (judged !== "compatible") return say("compatible", "")

  if (facts.superseded !== undefined && wish === undefined) {
    const why = `${custom.name} ${facts.superseded} takes its place`
    return begun ? say("stopped", why) : slot?.state === "staged" ? act({ do: "drop", generation: slot.generation }) : wait(why, "release")
  }

  // R5.5, R5.2: by itself or because a person wishes it, and how far.
  if (facts.paused) return wait("updates are paused on this device", "person")
  if (facts.pinned !== undefined && facts.pinned !== custom.version) return wait(`${custom.name} is pinned to ${facts.pinned} on this device`, "person")
  // R5.3, R6.4: counted here too, so that no caller's slip makes a device try again and again.
  if (wish === undefined && ended?.step === "rolled-back") return wait(`it was rolled back on this device: ${ended.detail}`, "person")
  if (wish === undefined && !begun && failuresOf(steps) >= attemptsMax) return wait(`it failed here ${failuresOf(steps)} times; a person has to ask for it`, "person")
  const goal: WayGoal | undefined = wish?.to ?? (byItself.may ? "committed" : byItself.opens ? "rehearsed" : undefined)
  if (goal === undefined) return wait(byItself.may ? "" : byItself.why, "roll-out")
  const reaches = (step: WayGoal): boolean => goals.indexOf(goal) >= goals.indexOf(step)
  const short = (): WayNext => wish === undefined ? wait(byItself.may ? "" : byItself.why, "window") : wait(`it is ${goal}, as was asked`, "person")

  if (slot === undefined && !facts.payload) return act({ do: "fetch" })
  if (!has("fetched")) return say("fetched", "")
  if (!reaches("staged")) return short()
  // R6.1: a slot whose trial ended badly is made anew.
  if (slot?.state === "failed") return act({ do: "drop", generation: slot.generation })
  if (slot === undefined) return act({ do: "stage" })
  const { generation } = slot
  if (!attempt.some((one) => one.step === "staged" && one.generation === generation)) return say("staged", "", generation)
  if (!reaches("rehearsed")) return short()

  // R7.1: on a copy first.
  const rehearsed = attempt.findLast((one) => one.step === "rehearsed" && one.generation === generation)
  if (rehearsed === undefined) {
    if (rehearsal?.generation !== generation) return act({ do: "rehearse", generation })
    return rehearsal.ok ? say("rehearsed", rehearsal.says, generation, rehearsal.differences) : say("failed", `its rehearsal failed: ${rehearsal.says}`, generation)
  }
  if (!reaches("committed")) return short()
  const differences = rehearsed.differences ?? 0
  // R7.2: what is different is for a person to decide.
  if (differences > 0 && wish?.despite !== true) return wait(`its rehearsal made ${differences} ${differences === 1 ? "thing" : "things"} otherwise than the running version; a person has to say that this is meant`, "person")

  // R5.6
  if (turn.answer._tag === "Unasked") return act({ do: "ask-turn", number: turn.answer.number })
  // Said and not switched: another one goes before after all, so the turn is given back and asked for again.
  if (turn.answer._tag === "Waits") return turn.said ? act({ do: "give-back-turn" }) : wait(turn.answer.why, "turn")
  if (!turn.said) return say("trial", "", generation)
  // R6.2
  return act({ do: "activate", generation, tries: triesMax, deadlineMs: custom.deadlineMs })
}

const attemptOf = (steps: ReadonlyArray<WayStep>): ReadonlyArray<WayStep> => steps.slice(steps.findLastIndex(({ step }) => endings.has(step)) + 1)

const act = (action: WayAction): WayNext => ({ _tag: "Do", action })
const wait = (why: string, waitsFor: WaitsFor): WayNext => ({ _tag: "Wait", why, for: waitsFor })
const done = (why: string): WayNext => ({ _tag: "Done", why })
const say = (step: UpdateStepName, detail: string, generation?: number, differences?: number): WayNext => act({
  do: "say", step, detail: detail.slice(0, 1_024), ...(generation === undefined ? {} : { generation }), ...(differences === undefined ? {} : { differences })
})
