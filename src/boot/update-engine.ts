/**
 * What drives updates on this home: it looks at each release that concerns this device, asks `src/updates/way.ts` for the one next thing to do, does it, and looks again.
 *
 * **What it owns.** The turn of the driver, what is under way, and what of a release is known to this process only (its index, its payload, its rehearsal, its
 * health). Everything else is read anew in each look: steps from the log, slots from the disk, settings as they are in force.
 *
 * **How one release travels.** `drive` is called when something changed and every few seconds. Quick actions (saying a step, staging a turn) are done in its
 * turn; fetching, staging and rehearsing run beside it, one at a time for the whole home, and wake it when they end.
 *
 * **Invariants.** One driver. Events and settings are those of the default mesh. An action that fails is tried again after a growing pause; what can never succeed
 * becomes the step `failed`. A person's stop ends what runs beside.
 */
import { Effect } from "effect"
import { readdir, rm } from "node:fs/promises"
import { decideAskTurn, decideGiveBackTurn, decideOffer, sayStep } from "../commands/decide-updates.ts"
import type { Wanted } from "../commands/dispatch.ts"
import { badReleases, endings, stepsOf, turnsOf } from "../projections/updates.ts"
import { type AssembleReport, type LocalSource, type PayloadIndex, PayloadError } from "../updates/payload/payload.ts"
import type { RehearsalReport, Slot, Transfer } from "../updates/ports.ts"
import type { Release } from "../updates/release.ts"
import { risksOf } from "../updates/plan.ts"
import { compareVersions } from "../updates/version.ts"
import { next, type WayAction, type WayNext } from "../updates/way.ts"
import type { HealthVerdict } from "./health.ts"
import { trialDeadlineMs } from "./health.ts"
import type { MeshNode } from "./mesh-node.ts"
import type { Runtime } from "./mesh-runtime.ts"
import type { Level } from "./node-log.ts"
import type { FollowedChannels } from "./update-channels.ts"
import { type Facts, gatherFacts, planFacts } from "./update-facts.ts"
import type { KnownReleases } from "./update-releases.ts"
import { type Component, componentKey, slotOf, type SlotHouse } from "./update-slots.ts"
import { fetchPayload, localSources, readIndex, stagePayload } from "./update-work.ts"
import { stoppedMax, type WishBook } from "./update-wishes.ts"

/** What a rehearsal found, and a sentence for people. */
export interface Rehearsal {
  readonly report: RehearsalReport & { readonly expected?: ReadonlyArray<string> }
  readonly says: string
}

export interface EngineParts {
  /** `HOME/updates`. */
  readonly directory: string
  readonly version: string
  readonly now: () => number
  /** Of a clock that never jumps, ms. */
  readonly tick: () => number
  readonly notice: (level: Level, text: string, detail?: Readonly<Record<string, unknown>>) => void
  readonly again: () => void
  readonly standard: () => Runtime | undefined
  readonly channels: FollowedChannels
  /** A channel is to be followed, or may be, and could not be read since this process began. */
  readonly unread: (channel: string) => boolean
  readonly slots: SlotHouse
  readonly releases: KnownReleases
  readonly wishes: WishBook
  readonly transfer: Transfer
  readonly rehearse: (node: MeshNode, slot: Slot, release: Release, signal: AbortSignal) => Promise<Rehearsal>
  readonly watch: (node: MeshNode, slot: Slot, release: Release, signal: AbortSignal) => Promise<HealthVerdict>
  readonly holders: (pack: string) => Promise<ReadonlyArray<string>>
}

/** What this process knows of a release and no event or file says. */
export interface Known {
  index: PayloadIndex | undefined
  payload: string | undefined
  report: AssembleReport | undefined
  rehearsal: Rehearsal & { readonly generation: number } | undefined
  health: { readonly generation: number; verdict: HealthVerdict | undefined } | undefined
  fault: string | undefined
  /** R5.2: a person wants it stopped. Kept among the wishes: it holds beyond a crash once the next wish was written. */
  stop: boolean
  /** Actions that failed in a row, and until when it waits for that, steady ms. */
  failures: number
  restsUntil: number
  /** What it waits for, or why it failed last; for people. */
  says: string
  waits: WayNext | undefined
}

export interface Engine {
  readonly wake: () => void
  /** Settles when nothing is to be done at once. */
  readonly idle: () => Promise<void>
  /** Drives nothing any more, since the daemon is about to end for another version; what it resolves with takes that back. */
  readonly hold: () => Promise<() => void>
  readonly known: (release: Release) => Known
  readonly facts: (node: MeshNode, release: Release) => Promise<Facts>
  readonly index: (release: Release) => Promise<PayloadIndex>
  readonly underway: () => { readonly release: string; readonly what: string; readonly done: number; readonly of: number } | undefined
  /** Releases that concern this device. */
  readonly concerned: (node: MeshNode) => Promise<ReadonlyArray<Release>>
  readonly all: () => ReadonlyArray<Release>
  readonly locals: () => Promise<ReadonlyArray<LocalSource>>
  readonly close: () => Promise<void>
}

/** Between two looks when nothing changed, milliseconds. */
const lookMs = 5_000
/** Actions of one release in one look; more wait for the next. */
const actionsMax = 32
const restMsMin = 2_000
const restMsMax = 600_000
/** Releases looked at in one look. */
const concernedMax = 64
const knownMax = 256

export const makeEngine = (parts: EngineParts): Engine => {
  const { channels, slots, wishes, notice, tick } = parts
  const known = new Map<string, Known>()
  const seen = new Map<string, number>()
  let beside: { readonly release: string; readonly what: string; readonly abort: AbortController; done: number; of: number } | undefined
  let watching: { readonly release: string; readonly abort: AbortController } | undefined
  let looking: Promise<void> | undefined
  let lookAgain = false
  let closed = false
  let restarting = false
  /** Releases of kOS that this process put on trial, and when it began, steady ms. */
  const activated = new Set<string>()
  const began = tick()

  const knownOf = (release: Pick<Release, "id">): Known => {
    const found = known.get(release.id)
    if (found !== undefined) return found
    const [oldest] = known.keys()
    if (known.size >= knownMax && oldest !== undefined) known.delete(oldest)
    const made: Known = {
      index: undefined, payload: undefined, report: undefined, rehearsal: undefined, health: undefined, fault: undefined, failures: 0, restsUntil: 0, says: "", waits: undefined,
      get stop() {
        return wishes.get().stopped?.includes(release.id) === true
      },
      set stop(wanted) {
        if (wanted === this.stop) return
        const others = (wishes.get().stopped ?? []).filter((id) => id !== release.id)
        void wishes.set({ stopped: wanted ? [...others, release.id].slice(-stoppedMax) : others }).catch((cause: unknown) => notice("warn", `what is to be stopped could not be written: ${String(cause)}`))
      }
    }
    known.set(release.id, made)
    return made
  }

  const record = (node: MeshNode, events: ReadonlyArray<Wanted>): Promise<void> => events.length === 0 ? Promise.resolve() : Effect.runPromise(node.dispatch.record(events)).then(() => undefined)

  const all = (): ReadonlyArray<Release> => channels.releases()

  const concerned = async (node: MeshNode): Promise<ReadonlyArray<Release>> => {
    const wanted = new Map<string, Release>()
    const components = await slots.all()
    for (const { slots: place } of components) {
      for (const slot of await place.list()) {
        if (slot.release === undefined || (slot.state !== "trial" && slot.state !== "current" && slot.state !== "failed")) continue
        const release = all().find(({ id }) => id === slot.release) ?? parts.releases.get(slot.release)
        if (release !== undefined) wanted.set(release.id, release)
      }
    }
    const { asked } = wishes.get()
    const here = new Map<string, string>()
    for (const { key, slots: place } of components) here.set(key, (await place.current()).version)
    const bad = badReleases(node, node.vault.deviceId)
    const newest = new Map<string, Release>()
    for (const release of all()) {
      const { custom } = release
      const key = componentKey(custom)
      if (release.id === asked?.release) wanted.set(release.id, release)
      // Something that is not here comes only when a person asks for it.
      const version = key === "kos" ? parts.version : here.get(key)
      if (version === undefined || version === "0.0.0-none" || bad.has(release.id) || compareVersions(custom.version, version) <= 0 || (custom.platform !== "any" && custom.platform !== platformHere)) continue
      const best = newest.get(key)
      if (best === undefined || compareVersions(custom.version, best.custom.version) > 0) newest.set(key, release)
    }
    for (const release of newest.values()) wanted.set(release.id, release)
    // What was begun and is not the newest any more is brought to its end.
    for (const release of all()) if (beside?.release === release.id) wanted.set(release.id, release)
    return [...wanted.values()].slice(0, concernedMax)
  }

  const facts = async (node: MeshNode, release: Release): Promise<Facts> => gatherFacts({ ...parts, node, known: knownOf(release), seen, settings: settingsOf() }, release)

  const settingsOf = (): Runtime["settings"] => {
    const runtime = parts.standard()
    if (runtime === undefined) throw new Error("no mesh is open")
    return runtime.settings
  }

  const look = async (): Promise<void> => {
    const runtime = parts.standard()
    if (runtime === undefined || runtime.switching() || closed || restarting) return
    const node = runtime.node()
    const me = node.members.view().members.get(node.vault.deviceId)
    // A seeder writes no events, and each step is one: it holds and passes on.
    if (me?.standing !== "member" || me.role === "seeder") return
    const releases = await concerned(node)
    await leaveOvertaken(node, releases)
    await clearWork(node, releases)
    await parts.releases.retain(new Set(releases.map(({ id }) => id)))
    for (const release of releases) await driveOne(node, release)
  }

  /** What lies ready and is not the newest any more, nor asked for, makes room. */
  const leaveOvertaken = async (node: MeshNode, releases: ReadonlyArray<Release>): Promise<void> => {
    for (const { slots: place } of await slots.all()) {
      for (const slot of await place.list()) {
        if (slot.state !== "staged" || slot.release === undefined || beside?.release === slot.release || releases.some(({ id }) => id === slot.release)) continue
        const release = all().find(({ id }) => id === slot.release) ?? parts.releases.get(slot.release)
        // Just started: which is the newest is known when the channels were read.
        if (parts.unread(release?.channel ?? "")) continue
        if (release !== undefined) await record(node, [sayStep(release, "stopped", "another release took its place", { generation: slot.generation })])
        await place.drop(slot.generation)
      }
    }
  }

  /** What a crash left of an attempt that has ended, or that nobody goes on with. */
  const clearWork = async (node: MeshNode, releases: ReadonlyArray<Release>): Promise<void> => {
    for (const id of await readdir(`${parts.directory}/work`).catch(() => [])) {
      if (beside?.release === id) continue
      const release = releases.find((one) => one.id === id)
      if (release === undefined) {
        // Just started: whose it is is known when the channels were read.
        if (parts.unread("")) continue
      } else {
        const last = stepsOf(node, node.vault.deviceId, id).at(-1)?.step
        const lies = slotOf(await (await slots.of(release.custom)).slots.list(), id) !== undefined
        // Here and not said yet: of the next attempt, since an ending forgets it.
        if (!lies && (last === undefined || !endings.has(last) || knownOf(release).payload !== undefined)) continue
        knownOf(release).payload = undefined
      }
      await rm(`${parts.directory}/work/${id}`, { recursive: true, force: true })
    }
  }

  const driveOne = async (node: MeshNode, release: Release): Promise<void> => {
    const mine = knownOf(release)
    for (let round = 0; round < actionsMax && !closed && !restarting; round += 1) {
      if (beside?.release === release.id) {
        if (!mine.stop) return
        // R5.2: a person can stop it at any step.
        beside.abort.abort()
        return
      }
      if (tick() < mine.restsUntil && !mine.stop) return
      const present = await facts(node, release)
      const step = next(release, present.way)
      mine.waits = step
      if (step._tag !== "Do") {
        mine.says = step.why
        if (step._tag === "Done" || step.for === "release" || step.for === "person" || step.for === "roll-out") await offer(node, release, present)
        return
      }
      const { action } = step
      if (action.do === "fetch" || action.do === "stage" || action.do === "rehearse") {
        if (beside !== undefined) {
          mine.says = `waits until ${beside.what} of another release is done`
          return
        }
        runBeside(node, release, action, present)
        return
      }
      try {
        await act(node, release, action, present.component)
        mine.failures = 0
      } catch (cause) {
        failed(release, cause)
        return
      }
    }
    lookAgain = true
  }

  /** Agents and people hear of it once it was judged, and again when the verdict changed. */
  const offer = async (node: MeshNode, release: Release, { way, trust }: Facts): Promise<void> => {
    if (!way.verified || !way.offered || way.slot?.state === "current") return
    const verdict = !way.judgement.fits ? "unfit" : trust === "fresh" ? "compatible" : "stale"
    const last = node.tables.updates.offers(release.id).find(({ log }) => node.members.deviceOf(log) === node.vault.deviceId)?.body
    const risks = risksOf(release, await planFacts({ ...parts, node, known: knownOf(release), seen, settings: settingsOf() }, release, [], []))
    await record(node, decideOffer(last, release, verdict, risks, way.judgement.reasons.join(" ")))
  }

  const failed = (release: Release, cause: unknown): void => {
    const mine = knownOf(release)
    const text = cause instanceof Error ? cause.message : String(cause)
    mine.failures += 1
    mine.restsUntil = tick() + Math.min(restMsMax, restMsMin * 2 ** Math.min(12, mine.failures - 1))
    mine.says = text
    if (cause instanceof PayloadError && (cause.reason === "malformed" || cause.reason === "unsafe-archive" || cause.reason === "wrong-payload")) {
      mine.fault = text
      mine.restsUntil = 0
    }
    notice("warn", `${release.custom.name} ${release.custom.version}: ${text}`)
  }

  const act = async (node: MeshNode, release: Release, action: WayAction, component: Component): Promise<void> => {
    const mine = knownOf(release)
    const place = component.slots
    switch (action.do) {
      case "say": {
        await record(node, [sayStep(release, action.step, action.detail, {
          ...(action.generation === undefined ? {} : { generation: action.generation }), ...(action.differences === undefined ? {} : { differences: action.differences })
        })])
        await channels.stepped(release.channel)
        // Before anything is fetched, so that whoever may can still advise or veto.
        if (action.step === "compatible" || action.step === "unfit") await offer(node, release, await facts(node, release))
        if (action.step === "failed") mine.fault = undefined
        if (action.step === "stopped" || action.step === "rolled-back" || action.step === "committed") mine.stop = false
        if (action.step === "rolled-back" || action.step === "failed" || action.step === "stopped" || action.step === "committed") await ended(release, component)
        return
      }
      case "verify": {
        await indexOf(release)
        return
      }
      case "ask-turn": return record(node, decideAskTurn(turnsOf(node), node.vault.deviceId, release))
      case "give-back-turn": return record(node, decideGiveBackTurn(turnsOf(node), node.vault.deviceId, release))
      case "activate": {
        await place.activate(action.generation, { tries: action.tries, deadlineMs: trialDeadlineMs(release.custom) })
        if (component.key === "kos") activated.add(release.id)
        return
      }
      case "restart": {
        // R5.2: a launcher that could not count the try, on a full disk, started this version in its place: ending at once, it would be started again and again.
        const mayEnd = activated.has(release.id) || tick() - began >= restMsMax
        if (component.key === "kos" && !(mayEnd && component.launched)) {
          throw new Error(component.launched ? "it is on trial and its launcher did not begin it, perhaps because the disk is full" : "it is on trial, and this daemon was started without the launcher that would begin it")
        }
        return restart(component, release)
      }
      case "good": {
        await place.good(action.generation)
        return
      }
      case "rollback": {
        await place.rollback(action.to, action.why)
        stopWatching(release.id)
        return restart(component, release)
      }
      case "settle": return place.settle(action.generation)
      case "drop": return place.drop(action.generation)
      default: throw new Error(`${action.do} is not done here`)
    }
  }

  const restart = async (component: Component, release: Release): Promise<void> => {
    if (component.key === "kos") {
      // Nobody would start it again.
      if (!component.launched) return
      restarting = true
      notice("info", `kOS starts again for ${release.custom.name} ${release.custom.version}`)
      parts.again()
      return
    }
    await component.begin()
  }

  const stopWatching = (release: string): void => {
    if (watching?.release !== release) return
    watching.abort.abort()
    watching = undefined
  }

  const ended = async (release: Release, component: Component): Promise<void> => {
    stopWatching(release.id)
    const mine = knownOf(release)
    mine.payload = undefined
    mine.rehearsal = undefined
    mine.health = undefined
    await rm(workOf(release), { recursive: true, force: true })
    // R6.5: good ones are kept to go back to, as many as the setting says; what failed or was left is not.
    const keep = settingsOf().get().values.get("update.keep")?.value
    const list = await component.slots.list()
    const good = list.filter(({ state, generation }) => state === "good" && generation !== 0)
    for (const slot of good.slice(0, Math.max(0, good.length - (typeof keep === "number" ? keep : 2)))) await component.slots.drop(slot.generation)
    for (const slot of list) if (slot.state === "failed" && slot.release !== release.id) await component.slots.drop(slot.generation)
  }

  const workOf = ({ id }: Pick<Release, "id">): string => `${parts.directory}/work/${id}`

  const indexOf = (release: Release): Promise<PayloadIndex> => readIndex(channels, release, knownOf(release))
  const locals = (): Promise<ReadonlyArray<LocalSource>> => localSources(slots, (id) => all().find((one) => one.id === id) ?? parts.releases.get(id), indexOf)

  const runBeside = (node: MeshNode, release: Release, action: WayAction & { readonly do: "fetch" | "stage" | "rehearse" }, { component }: Facts): void => {
    const abort = new AbortController()
    const mine = knownOf(release)
    const run = { release: release.id, what: action.do === "fetch" ? "fetching" : action.do === "stage" ? "unpacking" : "rehearsing", abort, done: 0, of: Math.max(1, release.custom.payload.length) }
    beside = run
    const work = async (): Promise<void> => {
      if (action.do === "fetch") await fetchPayload({ ...parts, workOf, indexOf, locals }, release, mine, abort.signal, (done) => { run.done = done })
      else if (action.do === "stage") await stagePayload({ ...parts, workOf }, release, mine, component, abort.signal)
      else {
        const slot = slotOf(await component.slots.list(), release.id)
        if (slot === undefined || slot.generation !== action.generation) throw new Error("its slot is gone")
        mine.rehearsal = { generation: slot.generation, ...await parts.rehearse(node, slot, release, abort.signal) }
      }
      mine.failures = 0
    }
    void work().catch((cause: unknown) => {
      if (!abort.signal.aborted) failed(release, cause)
    }).finally(() => {
      beside = undefined
      wake()
    })
  }

  /** A trial that runs here is watched until there is a verdict. */
  const watchTrials = async (node: MeshNode): Promise<void> => {
    if (watching !== undefined) return
    for (const component of await slots.all()) {
      const trial = (await component.slots.list()).find(({ state }) => state === "trial")
      if (trial?.release === undefined || component.running() !== trial.generation) continue
      const release = all().find(({ id }) => id === trial.release) ?? parts.releases.get(trial.release)
      if (release === undefined) continue
      const mine = knownOf(release)
      if (mine.health?.generation === trial.generation && mine.health.verdict !== undefined) continue
      const abort = new AbortController()
      watching = { release: release.id, abort }
      const health: NonNullable<Known["health"]> = { generation: trial.generation, verdict: undefined }
      mine.health = health
      void parts.watch(node, trial, release, abort.signal).then((verdict) => {
        health.verdict = verdict
      }).catch((cause: unknown) => {
        if (!abort.signal.aborted) notice("warn", `the health of ${release.custom.name} ${release.custom.version} could not be watched: ${String(cause)}`)
      }).finally(() => {
        if (watching?.release === release.id) watching = undefined
        wake()
      })
      return
    }
  }

  const turn = async (): Promise<void> => {
    do {
      lookAgain = false
      const runtime = parts.standard()
      try {
        if (runtime !== undefined && !runtime.switching() && !closed && !restarting) {
          await watchTrials(runtime.node())
          await look()
        }
      } catch (cause) {
        // The mesh may have been closed in the middle of it; the next look is at the one in its place.
        if (!closed) notice("warn", `updates could not be looked at: ${cause instanceof Error ? cause.message : String(cause)}`)
        return
      }
    } while (lookAgain && !closed && !restarting)
  }

  const wake = (): void => {
    if (closed) return
    if (looking !== undefined) {
      lookAgain = true
      return
    }
    looking = turn().finally(() => { looking = undefined })
  }
  const timer = setInterval(wake, lookMs)
  timer.unref()

  return {
    wake, known: knownOf, facts, index: indexOf, concerned, all, locals,
    idle: async () => { while (looking !== undefined) await looking },
    hold: async () => {
      restarting = true
      while (looking !== undefined) await looking
      return () => { restarting = false }
    },
    underway: () => beside === undefined ? undefined : { release: beside.release, what: beside.what, done: beside.done, of: beside.of },
    close: async () => {
      closed = true
      clearInterval(timer)
      beside?.abort.abort()
      watching?.abort.abort()
      await looking?.catch(() => undefined)
    }
  }
}

const platformHere = `${process.platform}-${process.arch}`

export const stepsHere = (node: MeshNode, release: string) => stepsOf(node, node.vault.deviceId, release)
