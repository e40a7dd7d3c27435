/** The way of a release: in order, and from any crash on or back; never past the rehearsal, the turn or what a person said. */
import t from "tap"
import type { Judgement } from "../src/updates/compatible.ts"
import type { Slot } from "../src/updates/ports.ts"
import type { ByItself } from "../src/updates/rollout.ts"
import { mayTakeByItself } from "../src/updates/rollout.ts"
import { endingsOf, failuresOf, next, triesMax, type WayAction, type WayFacts, type WayNext, type WayStep, type WayWish } from "../src/updates/way.ts"
import { endings, trials } from "../src/projections/updates.ts"
import { seeded } from "./tables-help.ts"
import { releaseOf } from "./update-world.ts"

const release = releaseOf({ healthyMs: 2_000 })
const fits: Judgement = { fits: true, reasons: [] }
const yes: ByItself = { may: true }
const bare: WayFacts = {
  steps: [], offered: true, yanked: undefined, verified: false, judgement: fits, byItself: yes, wish: undefined, stop: false, paused: false, pinned: undefined, payload: false, slot: undefined,
  running: 0, failed: undefined, back: undefined, rehearsal: undefined, turn: { answer: { _tag: "Unasked", number: 1 }, asked: false, said: false }, health: undefined, fault: undefined
}
const mine = { answer: { _tag: "Mine" }, asked: true, said: false } as const
const steps = (...names: ReadonlyArray<WayStep["step"]>): ReadonlyArray<WayStep> => names.map((step) => ({ step, detail: "", ...(["staged", "rehearsed", "trial"].includes(step) ? { generation: 1 } : {}) }))
const upTo = (...names: ReadonlyArray<WayStep["step"]>): ReadonlyArray<WayStep> => steps("seen", "verified", "compatible", ...names)
const staged = { generation: 1, state: "staged", why: undefined } as const

const does = (facts: Partial<WayFacts>): WayAction | string => {
  const answer = next(release, { ...bare, ...facts })
  return answer._tag === "Do" ? answer.action : `${answer._tag}: ${answer.why}`
}

t.test("one thing after the other, each said when it is done", async (t) => {
  const way: ReadonlyArray<readonly [Partial<WayFacts>, WayAction]> = [
    [{}, { do: "say", step: "seen", detail: "" }],
    [{ steps: steps("seen") }, { do: "verify" }],
    [{ steps: steps("seen"), verified: true }, { do: "say", step: "verified", detail: "" }],
    [{ steps: steps("seen", "verified"), verified: true }, { do: "say", step: "compatible", detail: "" }],
    [{ steps: upTo(), verified: true }, { do: "fetch" }],
    [{ steps: upTo(), verified: true, payload: true }, { do: "say", step: "fetched", detail: "" }],
    [{ steps: upTo("fetched"), verified: true, payload: true }, { do: "stage" }],
    [{ steps: upTo("fetched"), verified: true, slot: staged }, { do: "say", step: "staged", detail: "", generation: 1 }],
    [{ steps: upTo("fetched", "staged"), verified: true, slot: staged }, { do: "rehearse", generation: 1 }],
    [{ steps: upTo("fetched", "staged"), verified: true, slot: staged, rehearsal: { generation: 1, ok: true, differences: 0, says: "same" } }, { do: "say", step: "rehearsed", detail: "same", generation: 1, differences: 0 }],
    [{ steps: upTo("fetched", "staged", "rehearsed"), verified: true, slot: staged }, { do: "ask-turn", number: 1 }],
    [{ steps: upTo("fetched", "staged", "rehearsed"), verified: true, slot: staged, turn: mine }, { do: "say", step: "trial", detail: "", generation: 1 }],
    [{ steps: upTo("fetched", "staged", "rehearsed", "trial"), verified: true, slot: staged, turn: { ...mine, said: true } }, { do: "activate", generation: 1, tries: triesMax, deadlineMs: release.custom.deadlineMs }],
    [{ steps: upTo("fetched", "staged", "rehearsed", "trial"), slot: { ...staged, state: "trial" } }, { do: "restart" }],
    [{ steps: upTo("fetched", "staged", "rehearsed", "trial"), slot: { ...staged, state: "trial" }, running: 1, health: { state: "good", says: "all checks", goodMs: 0 } }, { do: "say", step: "healthy", detail: "all checks", generation: 1 }],
    [{ steps: upTo("fetched", "staged", "rehearsed", "trial", "healthy"), slot: { ...staged, state: "trial" }, running: 1, health: { state: "good", says: "", goodMs: 2_000 } }, { do: "good", generation: 1 }],
    [{ steps: upTo("fetched", "staged", "rehearsed", "trial", "healthy"), slot: { ...staged, state: "current" }, running: 1 }, { do: "say", step: "committed", detail: "", generation: 1 }],
    [{ steps: upTo("trial", "healthy", "committed"), slot: { ...staged, state: "current" }, running: 1, turn: mine }, { do: "give-back-turn" }]
  ]
  for (const [facts, action] of way) t.same(does(facts), action, action.do === "say" ? action.step : action.do)
  t.equal(does({ steps: upTo("trial", "healthy", "committed"), slot: { ...staged, state: "current" }, running: 1 }), "Done: it runs here")
  t.match(does({ steps: upTo("trial", "healthy"), slot: { ...staged, state: "trial" }, running: 1, health: { state: "good", says: "", goodMs: 500 } }), /for 2 s more/)
})

t.test("a trial that ended badly is said, then settled, and not tried again by itself", async (t) => {
  const said = upTo("fetched", "staged", "rehearsed", "trial")
  const failed = { generation: 1, why: "no answer within 60 s" }
  t.same(does({ steps: said, slot: { ...staged, state: "failed" }, failed }), { do: "say", step: "rolled-back", detail: failed.why, generation: 1 })
  const after = [...said, { step: "rolled-back", detail: failed.why } as const]
  t.same(does({ steps: after, slot: { ...staged, state: "failed" }, failed }), { do: "settle", generation: 1 })
  t.equal(does({ steps: after, verified: true, slot: { ...staged, state: "failed", why: "x" } }), "Wait: it was rolled back on this device: no answer within 60 s")
  t.same(does({ steps: after, verified: true, slot: { ...staged, state: "failed", why: "x" }, wish: { to: "committed", endings: 1, despite: false }, payload: true }), { do: "say", step: "fetched", detail: "" }, "a person may")
  t.same(does({ steps: [...after, ...steps("fetched")], verified: true, slot: { ...staged, state: "failed", why: "x" }, wish: { to: "committed", endings: 1, despite: false } }), { do: "drop", generation: 1 }, "and its slot is made anew")
  t.match(does({ steps: after, verified: true, slot: { ...staged, state: "failed", why: "x" }, wish: { to: "committed", endings: 0, despite: false } }), /rolled back/, "by a wish from before, not")
  t.same(does({ steps: said, slot: { ...staged, state: "trial" }, running: 1, health: { state: "bad", says: "the log cannot be written", goodMs: 0 } }), { do: "rollback", generation: 1, why: "the log cannot be written" })
  t.same(does({ steps: upTo("committed"), slot: { ...staged, state: "failed", why: "a person went back" } }), { do: "say", step: "rolled-back", detail: "a person went back", generation: 1 }, "left by hand, and the daemon died before it was said")
  t.match(does({ steps: [...upTo(), ...steps("failed", "failed")], verified: true }), /failed here 2 times/)
})

t.test("a person stops, pauses, pins and decides on differences; a publisher takes back", async (t) => {
  const ready = { steps: upTo("fetched", "staged", "rehearsed"), verified: true, slot: staged }
  t.same(does({ ...ready, stop: true }), { do: "say", step: "stopped", detail: "a person stopped it" })
  t.same(does({ ...ready, steps: [...ready.steps, { step: "stopped", detail: "by mara" }], stop: true, turn: mine }), { do: "drop", generation: 1 })
  t.same(does({ ...ready, slot: undefined, steps: [...ready.steps, { step: "stopped", detail: "by mara" }], turn: mine }), { do: "give-back-turn" })
  t.same(does({ ...ready, slot: { ...staged, state: "trial" }, running: 1, stop: true }), { do: "rollback", generation: 1, why: "a person stopped it" })
  t.equal(does({ ...ready, paused: true }), "Wait: updates are paused on this device")
  t.match(does({ ...ready, pinned: "1.0.0" }), /is pinned to 1\.0\.0/)
  const other = { ...ready, steps: upTo("fetched", "staged").concat({ step: "rehearsed", detail: "", generation: 1, differences: 2 }) }
  t.match(does(other), /2 things otherwise/)
  t.match(does({ ...other, wish: { to: "committed", endings: 0, despite: false } }), /2 things otherwise/)
  t.same(does({ ...other, wish: { to: "committed", endings: 0, despite: true } }), { do: "ask-turn", number: 1 })
  t.same(does({ ...ready, yanked: "it loses pages" }), { do: "say", step: "stopped", detail: "its publisher took it back: it loses pages" })
  t.same(does({ ...ready, offered: false }), { do: "say", step: "stopped", detail: "it is not in its channel any more" })
  t.same(does({ ...ready, superseded: "1.2.0" }), { do: "say", step: "stopped", detail: "kos 1.2.0 takes its place" })
  t.equal(does({ steps: upTo(), verified: true, superseded: "1.2.0" }), "Wait: kos 1.2.0 takes its place")
  const runs = { steps: upTo("committed"), slot: { ...staged, state: "current" } as const, running: 1, yanked: "it loses pages" }
  t.match(does(runs), /no version here to go back to/)
  t.same(does({ ...runs, back: 0 }), { do: "say", step: "rolled-back", detail: "its publisher took it back: it loses pages", generation: 1 })
  t.same(does({ ...runs, steps: upTo("committed", "rolled-back"), back: 0 }), { do: "rollback", generation: 1, to: 0, why: "it loses pages" })
  t.same(does({ ...ready, judgement: { fits: false, reasons: ["It needs 9 MiB."] } }), { do: "say", step: "failed", detail: "It needs 9 MiB." })
  t.same(does({ steps: steps("seen", "verified"), verified: true, judgement: { fits: false, reasons: ["It is for linux-arm64."] } }), { do: "say", step: "unfit", detail: "It is for linux-arm64." })
  t.equal(does({ steps: steps("seen", "verified", "unfit"), verified: true, judgement: { fits: false, reasons: ["It is for linux-arm64."] } }), "Wait: It is for linux-arm64.")
  const closed: ByItself = { may: false, why: "update.window is 02:00-04:00", opens: true }
  t.same(does({ steps: upTo(), verified: true, byItself: closed }), { do: "fetch" }, "what does not switch is done before the window")
  t.equal(does({ ...ready, byItself: closed }), "Wait: update.window is 02:00-04:00")
  t.same(does({ ...ready, byItself: closed, turn: mine }), { do: "give-back-turn" })
  t.equal(does({ ...ready, wish: { to: "rehearsed", endings: 0, despite: false } }), "Wait: it is rehearsed, as was asked")
  t.same(does({ ...ready, steps: upTo("fetched", "staged", "rehearsed", "trial"), turn: { answer: { _tag: "Waits", why: "shed goes first" }, asked: true, said: true } }), { do: "give-back-turn" }, "the second look")
})

/** A device: what is on its disk outlives a crash, the rest does not. */
class World {
  readonly random: (max: number) => number
  steps: Array<WayStep> = []
  verified = false
  payload = false
  slot: { generation: number; state: Slot["state"]; why: string | undefined } | undefined
  generation = 0
  tries = 0
  failed: WayFacts["failed"]
  turn: "none" | "asked" | "said" = "none"
  wish: WayWish | undefined
  stop = false
  paused = false
  yanked: string | undefined
  byItself = true
  bad: boolean
  differences: number
  // In memory only.
  running = 0
  rehearsal: WayFacts["rehearsal"]
  health: WayFacts["health"]
  fault: string | undefined
  current = 0
  begunByItself = 0

  constructor(seed: number, random: (max: number) => number = seeded(seed)) {
    this.random = random
    this.bad = this.random(3) === 0
    this.differences = this.random(4) === 0 ? 1 : 0
  }

  facts(): WayFacts {
    const counts = failuresOf(this.steps)
    const rolled = [...this.steps].reverse().find(({ step }) => step === "rolled-back" || step === "committed")?.step === "rolled-back"
    const byItself: ByItself = this.byItself && !rolled && counts < 2 ? yes : { may: false, why: "not by itself", opens: this.random(2) === 0 }
    return {
      ...bare, steps: this.steps, verified: this.verified, payload: this.payload, slot: this.slot, failed: this.failed, running: this.running, wish: this.wish, stop: this.stop, paused: this.paused,
      yanked: this.yanked, byItself, back: 0, rehearsal: this.rehearsal, health: this.health, fault: this.fault,
      turn: {
        asked: this.turn !== "none", said: this.turn === "said",
        answer: this.turn === "none" ? { _tag: "Unasked", number: 1 } : this.random(4) === 0 ? { _tag: "Waits", why: "shed goes first" } : { _tag: "Mine" }
      }
    }
  }

  /** The launcher: counts before the start, and what runs is decided by the disk. */
  start(): void {
    this.rehearsal = undefined
    this.health = undefined
    this.fault = undefined
    const { slot } = this
    if (slot?.state !== "trial") {
      this.running = this.current
      return
    }
    if (this.tries > 0) {
      this.tries--
      this.running = slot.generation
      return
    }
    this.endTrial("it was begun 2 times and was not good after any of them")
    this.running = this.current
  }

  endTrial(why: string): void {
    const { slot } = this
    if (slot === undefined) throw new Error("nothing is on trial")
    this.slot = { ...slot, state: "failed", why }
    this.failed = { generation: slot.generation, why }
  }

  act(action: WayAction): void {
    const { slot, random } = this
    const attempt = this.steps.slice(this.steps.findLastIndex(({ step }) => endings.has(step)) + 1)
    switch (action.do) {
      case "say":
        if (action.step === "trial") this.turn = "said"
        if (endings.has(action.step)) {
          this.turn = "none"
          this.fault = undefined
          if (action.step === "stopped") this.stop = false
        }
        this.steps.push(action)
        return
      case "verify":
        this.verified = true
        return
      case "fetch":
        if (random(6) === 0) this.fault = "no source has it"
        else this.payload = true
        return
      case "stage":
        if (slot !== undefined || !this.payload) throw new Error("staged over a slot or without a payload")
        this.slot = { generation: ++this.generation, state: "staged", why: undefined }
        return
      case "rehearse":
        this.rehearsal = { generation: action.generation, ok: random(8) !== 0, differences: this.differences, says: "" }
        return
      case "ask-turn":
        if (this.turn !== "none") throw new Error("asked twice")
        this.turn = "asked"
        return
      case "give-back-turn":
        if (this.turn === "none") throw new Error("gave back what it had not")
        this.turn = "none"
        return
      case "activate":
        if (slot?.generation !== action.generation || slot.state === "trial" || slot.state === "current") throw new Error("activated what is not there")
        if (!attempt.some((one) => one.step === "rehearsed" && one.generation === action.generation)) throw new Error("activated without rehearsal")
        if (!attempt.some((one) => one.step === "trial" && one.generation === action.generation) || this.turn !== "said") throw new Error("activated without its turn")
        if (this.paused || this.yanked !== undefined) throw new Error("activated against a person's or publisher's word")
        if (this.wish?.endings !== endingsOf(this.steps)) this.begunByItself++
        this.slot = { ...slot, state: "trial", why: undefined }
        this.tries = action.tries
        this.failed = undefined
        return
      case "restart":
        this.start()
        return
      case "good":
        if (slot?.state !== "trial" || this.running !== slot.generation || this.health?.state !== "good") throw new Error("made good what is not")
        this.slot = { ...slot, state: "current" }
        this.current = slot.generation
        return
      case "rollback":
        if (slot?.state === "trial") this.endTrial(action.why)
        else {
          if (slot === undefined || action.to === undefined) throw new Error("rolled back from nothing")
          this.slot = { ...slot, state: "failed", why: action.why }
          this.current = action.to
        }
        this.start()
        return
      case "settle":
        this.failed = undefined
        return
      case "drop":
        if (slot === undefined || slot.state === "trial" || slot.state === "current" || this.running === slot.generation) throw new Error(`dropped a slot that is ${slot?.state}`)
        this.slot = undefined
        return
    }
  }

  /** Time passes in a trial. */
  check(): void {
    if (this.slot?.state !== "trial" || this.running !== this.slot.generation) return
    this.health = this.bad ? this.random(3) === 0 ? { state: "bad", says: "no peer answers", goodMs: 0 } : { state: "waiting", says: "", goodMs: 0 }
      : { state: "good", says: "", goodMs: (this.health?.goodMs ?? 0) + 1_000 }
  }

  /** A word of a person, or of the publisher. */
  meddle(): void {
    const { random } = this
    const what = random(12)
    if (what === 0) this.stop = true
    else if (what === 1) this.paused = !this.paused
    else if (what === 2) this.wish = { to: (["fetched", "staged", "rehearsed", "committed"] as const)[random(4)] ?? "committed", endings: endingsOf(this.steps), despite: random(2) === 0 }
    else if (what === 3) this.byItself = !this.byItself
    else if (what === 4 && random(3) === 0) this.yanked = "it loses pages"
  }
}

const order = ["fetched", "staged", "rehearsed", "trial", "healthy", "committed"]

/** Steps of each attempt stand in their order; a trial may be begun again after the turn was given back. */
const inOrder = (steps: ReadonlyArray<WayStep>): string | undefined => {
  let place = -1
  for (const { step } of steps) {
    if (step === "failed" || step === "stopped" || step === "rolled-back") place = -1
    const at = order.indexOf(step)
    if (at < 0) continue
    if (at > place + 1 && !(step === "committed" && place < 0)) return `${step} came ${place < 0 ? "first" : `after ${order[place] ?? ""}`}`
    if (at < place && !(at <= 2)) return `${step} came after ${order[place] ?? ""}`
    place = step === "committed" ? -1 : at
  }
  return undefined
}

t.test("from any crash at any step it leads on or back, and never past what it must not pass", async (t) => {
  const seen = new Map<string, number>()
  for (let seed = 1; seed <= 1_500; seed++) {
    const world = new World(seed)
    const { random } = world
    let at: WayNext | undefined
    for (let i = 0; i < 120; i++) {
      const turnedTo = random(20)
      if (turnedTo === 0) world.start()
      else if (turnedTo < 4) world.check()
      else if (turnedTo === 4 && seed % 2 === 0) world.meddle()
      else {
        at = next(release, world.facts())
        const running = world.running
        // A crash between an effect and its step is the next look without the memory.
        if (at._tag === "Do") world.act(at.action)
        if (at._tag === "Do" && !["restart", "rollback"].includes(at.action.do) && world.running !== running) t.fail(`seed ${seed}: ${at.action.do} changed what runs`)
        if (at._tag === "Wait" && at.why === "") t.fail(`seed ${seed}: it waits without a reason`)
      }
    }
    // Left alone, it comes to rest.
    world.stop = false
    const trail: Array<string> = []
    let still = 0
    for (let i = 0; i < 120 && still < 8; i++) {
      world.check()
      at = next(release, world.facts())
      trail.push(at._tag === "Do" ? at.action.do : `${at._tag} ${at.why}`)
      if (at._tag === "Do") world.act(at.action)
      still = at._tag === "Do" || at._tag === "Wait" && ["health", "turn"].includes(at.for) ? 0 : still + 1
    }
    if (still < 8) t.fail(`seed ${seed}: it does not come to rest: ${trail.slice(-12).join(", ")}`)
    const fault = inOrder(world.steps)
    if (fault !== undefined) t.fail(`seed ${seed}: ${fault}: ${world.steps.map(({ step }) => step).join(" ")}`)
    if (world.turn !== "none") t.fail(`seed ${seed}: it keeps its turn at rest`)
    if (world.slot?.state === "trial") t.fail(`seed ${seed}: a trial is left over`)
    if (world.current !== 0 && world.slot?.state !== "current") t.fail(`seed ${seed}: what runs is not what the slots say`)
    const last = world.steps.findLast(({ step }) => endings.has(step))?.step ?? "none"
    if (last === "committed" && world.slot?.state !== "current") t.fail(`seed ${seed}: committed and not current`)
    if (world.slot?.state === "current" && last !== "committed") t.fail(`seed ${seed}: current and ${last}`)
    if (world.begunByItself > 2) t.fail(`seed ${seed}: ${world.begunByItself} trials by itself`)
    const open = world.steps.slice(world.steps.findLastIndex(({ step }) => endings.has(step)) + 1)
    if (open.some(({ step }) => trials.has(step)) && at?._tag === "Done") t.fail(`seed ${seed}: done within a trial`)
    seen.set(last, (seen.get(last) ?? 0) + 1)
  }
  for (const ending of ["committed", "rolled-back", "failed", "stopped"]) t.ok((seen.get(ending) ?? 0) > 20, `${ending}: ${seen.get(ending) ?? 0} of 1500`)
})

t.test("left to itself without a fault it commits, in as many actions as it has", async (t) => {
  const world = new World(1, (max) => max - 1)
  world.bad = false
  world.differences = 0
  const done: Array<string> = []
  for (let i = 0; i < 60; i++) {
    world.check()
    const at = next(release, world.facts())
    if (at._tag === "Done") break
    if (at._tag === "Do") {
      done.push(at.action.do === "say" ? at.action.step : at.action.do)
      world.act(at.action)
    }
  }
  t.same(done, ["seen", "verify", "verified", "compatible", "fetch", "fetched", "stage", "staged", "rehearse", "rehearsed", "ask-turn", "trial", "activate", "restart", "healthy", "good", "committed"])
})

t.test("by itself: a sentence for each reason not to", async (t) => {
  const facts = {
    device: "ab".repeat(32), trust: "fresh", auto: "all", window: "always", minute: 0, ring: "all", paused: false, pinned: undefined, bad: undefined, yanked: undefined, failures: 0, vetoes: []
  } as const
  t.same(mayTakeByItself(release, facts), { may: true })
  const why = (more: Partial<Parameters<typeof mayTakeByItself>[1]>, custom: Parameters<typeof releaseOf>[0] = {}): string => {
    const answer = mayTakeByItself(releaseOf(custom), { ...facts, ...more })
    return answer.may ? "it may" : answer.why
  }
  t.equal(why({ trust: "stale" }), "its channel is stale")
  t.equal(why({ auto: "off" }), "update.auto is off")
  t.equal(why({ auto: "security" }), "update.auto is security, and it mends no security problem")
  t.equal(why({ auto: "security" }, { security: true }), "it may")
  t.equal(why({}, { ring: "canary" }), "it is for the ring canary so far, and this device is in all")
  t.equal(why({ ring: "early" }, { ring: "canary" }), "it is for the ring canary so far, and this device is in early")
  t.equal(why({ ring: "canary" }, { ring: "early" }), "it may")
  t.match(why({}, { rolloutPermille: 0 }), /for 0 % of devices/)
  t.equal(why({ window: [{ from: 120, to: 240 }], minute: 600 }), "update.window is 02:00-04:00")
  t.equal(why({ window: [{ from: 120, to: 240 }], minute: 180 }), "it may")
  t.equal(why({ paused: true }), "updates are paused on this device")
  t.equal(why({ pinned: "1.0.0" }), "kos is pinned to 1.0.0 on this device")
  t.equal(why({ bad: "no peer answers" }), "it was rolled back on this device: no peer answers")
  t.equal(why({ yanked: "it loses pages" }), "it was taken back by its publisher: it loses pages")
  t.match(why({ failures: 2 }), /failed here 2 times/)
  t.equal(why({ vetoes: [{ who: "agent:watch of hill", text: "the disk is old" }] }), "agent:watch of hill vetoes it: the disk is old")
  const share = Array.from({ length: 400 }, (_, i) => i.toString(16).padStart(64, "0")).filter((device) => why({ device }, { rolloutPermille: 250 }) === "it may").length
  t.ok(share > 60 && share < 140, `${share} of 400 devices at 250 permille`)
})
