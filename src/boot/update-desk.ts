/** Updates as the doors ask for them, over the engine. A person's wish is written down and driven by the same machine as what a device does by itself. */
import { Effect } from "effect"
import type { UpdateDesk } from "../api/update-desk.ts"
import { byAt, timeText } from "../api/handlers/reading.ts"
import type { Call } from "../api/operation.ts"
import type { UpdateRow } from "../api/operations/update.ts"
import type { OutputOf } from "../api/operations/table.ts"
import { decideAdvice, sayStep } from "../commands/decide-updates.ts"
import type { Done, Wanted } from "../commands/dispatch.ts"
import { Refusal } from "../commands/refusal.ts"
import { settingTexts } from "../projections/families/config-view.ts"
import { adviceOn, historyOf, minSecuresOf, stepsOf } from "../projections/updates.ts"
import { belowFloor, floorOf } from "../updates/compatible.ts"
import { planFetch } from "../updates/payload/fetch-plan.ts"
import { missingOf } from "../updates/payload/local-chunks.ts"
import { infoHash } from "../updates/payload/torrent.ts"
import { planOf } from "../updates/plan.ts"
import type { ChannelState, Transfer } from "../updates/ports.ts"
import { keyIdOf } from "../updates/publish/signed.ts"
import type { Release } from "../updates/release.ts"
import type { Trials } from "../updates/rehearsal/trials.ts"
import { compareVersions } from "../updates/version.ts"
import { endingsOf, next, type WayGoal } from "../updates/way.ts"
import type { MeshNode } from "./mesh-node.ts"
import type { Runtime } from "./mesh-runtime.ts"
import { limitsOf, type Seeding } from "./seeding.ts"
import type { Engine, EngineParts } from "./update-engine.ts"
import { planFacts } from "./update-facts.ts"
import { slotOf } from "./update-slots.ts"
import { makeTrialDesk } from "./update-trials.ts"

export interface DeskParts extends EngineParts {
  readonly engine: Engine
  readonly seeding: Seeding
  readonly transfer: Transfer
  readonly trials: Trials
  readonly stick: Pick<UpdateDesk, "export" | "import">
  readonly settle: (logKey: string) => Promise<void>
  /** Settings may have named another set of channels. */
  readonly follow: () => Promise<void>
}

/** How long `apply` and `fetch` stay with what they asked for, ms; the device goes on after that. */
const staysMsMax = 6 * 3_600_000
const lookEveryMs = 100
/** How long `apply` waits for its turn, and `check` for the first blocks of a channel, ms. */
const turnMsMax = 60_000
const firstMsMax = 5_000

export const makeUpdateDesk = (parts: DeskParts): UpdateDesk => {
  const { engine, channels, wishes, slots } = parts

  const runtime = (): Runtime => {
    const standard = parts.standard()
    if (standard === undefined) throw new Refusal({ kind: "degraded", detail: "the default mesh is not open", hint: "kos mesh list" })
    return standard
  }
  const node = (): MeshNode => runtime().node()

  const rowOf = async (release: Release): Promise<UpdateRow> => {
    const { custom } = release
    const here = node()
    const { way, trust, component } = await engine.facts(here, release)
    const list = await component.slots.list()
    const running = list.find(({ generation }) => generation === component.running())
    return {
      id: release.id, name: custom.name, version: custom.version, kind: custom.kind, platform: custom.platform, channel: release.channelName, security: custom.security,
      state: stepsOf(here, here.vault.deviceId, release.id).at(-1)?.step ?? "new",
      running: running?.release === release.id || (component.key === "kos" && custom.version === parts.version),
      verdict: !way.judgement.fits ? "unfit" : trust === "fresh" ? "compatible" : "stale", reasons: way.judgement.reasons, waits: way.byItself.may ? "" : way.byItself.why
    }
  }

  /** By version, NAME@VERSION or the beginning of its id. */
  const find = (text: string): Release => {
    const all = engine.all()
    const [name, version] = text.includes("@") ? [text.slice(0, text.indexOf("@")), text.slice(text.indexOf("@") + 1)] : [undefined, text]
    const here = `${process.platform}-${process.arch}`
    const named = all.filter(({ custom }) => custom.version === version && (name === undefined || custom.name === name))
    const fitting = named.filter(({ custom }) => custom.platform === here || custom.platform === "any")
    const kos = name === undefined ? fitting.filter(({ custom }) => custom.kind === "bundle") : []
    const found = kos.length > 0 ? kos : fitting.length > 0 ? fitting : named.length > 0 ? named : /^[0-9a-f]{4,64}$/.test(text) ? all.filter(({ id }) => id.startsWith(text)) : []
    const [one] = found
    if (one === undefined) throw new Refusal({ kind: "not-found", detail: `no channel that is followed here has a release ${text}`, hint: "kos update list --all" })
    if (found.length > 1) throw new Refusal({ kind: "conflict", detail: `there are ${found.length} releases ${text}: ${found.slice(0, 8).map(({ id, custom }) => `${custom.name} ${custom.version} for ${custom.platform} (${id.slice(0, 8)})`).join(", ")}`, hint: "kos update show ID" })
    return one
  }

  const offersOf = async (): Promise<ReadonlyArray<UpdateRow>> => {
    const rows = await Promise.all((await engine.concerned(node())).map(rowOf))
    return rows.filter((row) => !row.running).toSorted((a, b) => compareVersions(b.version, a.version))
  }

  const channelRow = (state: ChannelState): OutputOf<"update.channel">["channels"][number] => ({
    name: state.name, channel: state.channel, log: state.logKey, trust: state.trust, detail: state.fault ?? "", releases: state.releases.length, versions: state.versions,
    ...(state.signedMs > 0 ? { signed: timeText(state.signedMs) } : {}), ...(state.expiresMs > 0 ? { expires: timeText(state.expiresMs) } : {})
  })

  const command = (call: Call, name: string, summary: string, events: ReadonlyArray<Wanted>): Effect.Effect<Done, Refusal> => Effect.suspend(() => node().dispatch.run(name, call, ["updates"], Effect.succeed({ summary, events })))
  const noted = (call: Call, name: string, summary: string): Effect.Effect<Done, Refusal> => command(call, name, summary, [{ type: "command.done/1", subject: "updates", body: { name, detail: summary } }])

  /** Writes a wish down and stays until it is fulfilled, waits for something, or failed. */
  const ask = async (release: Release, to: WayGoal, call: Call, { despite = false, insist = false }: { readonly despite?: boolean; readonly insist?: boolean } = {}): Promise<{ readonly why: string; readonly restarting: boolean; readonly reached: boolean }> => {
    const here = node()
    const steps = stepsOf(here, here.vault.deviceId, release.id)
    const mine = engine.known(release)
    // A wish that is refused now is not fulfilled later, when nobody expects it any more.
    const { way: { paused, pinned, judgement } } = await engine.facts(here, release)
    const { name, version } = release.custom
    if (paused) throw new Refusal({ kind: "policy", detail: "updates are paused on this node", hint: "kos update resume" })
    if (pinned !== undefined && pinned !== version) throw new Refusal({ kind: "policy", detail: `${name} is pinned to ${pinned} on this node`, hint: "kos update pin --off" })
    if (!judgement.fits) throw new Refusal({ kind: "conflict", detail: `${name} ${version} does not fit here: ${judgement.reasons.join(" ")}`, hint: `kos update plan ${release.id.slice(0, 8)}` })
    mine.stop = false
    mine.failures = 0
    mine.restsUntil = 0
    await wishes.set({ asked: { release: release.id, to, endings: endingsOf(steps), despite, insist } })
    engine.wake()
    const began = parts.tick()
    const end = began + staysMsMax
    let told = ""
    for (;;) {
      await engine.idle()
      const underway = engine.underway()
      if (underway?.release === release.id) call.progress(underway.done, underway.of, underway.what)
      else {
        const { way } = await engine.facts(node(), release)
        const step = next(release, way)
        const last = way.steps.slice(steps.length).findLast(({ step: one }) => one === "failed" || one === "stopped" || one === "rolled-back")
        if (last !== undefined) return { why: last.detail, restarting: false, reached: false }
        if (step._tag === "Do" && step.action.do === "restart") return { why: "it is on trial", restarting: true, reached: true }
        if (step._tag === "Done") return { why: step.why, restarting: false, reached: true }
        // Its turn comes in a moment when nobody else is trying anything: those in touch only have to hear of the ask.
        const passes = step._tag === "Wait" && (step.for === "health" || ((step.for === "turn" || step.for === "restart") && parts.tick() < began + turnMsMax))
        if (step._tag === "Wait" && passes && step.why !== told) {
          told = step.why
          call.progress(0, 0, step.why)
        }
        if (step._tag === "Wait" && !passes) return { why: step.why, restarting: false, reached: way.steps.some(({ step: one }) => one === to) && step.for === "person" }
        if (mine.failures >= 3) return { why: mine.says, restarting: false, reached: false }
      }
      if (parts.tick() > end) return { why: "it takes longer than this command stays", restarting: false, reached: false }
      await new Promise((resolve) => setTimeout(resolve, lookEveryMs))
    }
  }

  const tried = <A>(work: () => Promise<A>): Effect.Effect<A, Refusal> => Effect.tryPromise({
    try: work, catch: (cause) => cause instanceof Refusal ? cause : new Refusal({ kind: "failed", detail: cause instanceof Error ? cause.message : String(cause) })
  })

  const signersOf = (release: Release) => {
    const said = node().tables.updates.signers()
    return release.signers.map((key) => {
      const signer = said.find(({ body }) => keyIdOf(body.key) === key)
      return { key, name: signer === undefined ? "" : signer.body.name === "" ? node().members.nameOf(node().members.deviceOf(signer.log) ?? "") : signer.body.name }
    })
  }

  const namesOf = (devices: ReadonlyArray<string>): ReadonlyArray<string> => [...new Set(devices.map((device) => node().members.nameOf(device)))].sort()

  const withIndexes = async () => {
    const found = []
    for (const release of engine.all().toSorted((a, b) => compareVersions(a.custom.version, b.custom.version))) {
      const index = await engine.index(release).catch(() => undefined)
      if (index !== undefined) found.push({ release, index })
    }
    return found
  }

  const { try: tryModule } = makeTrialDesk({
    trials: parts.trials, node, find,
    stage: async (release, call) => {
      const { why } = await ask(release, "staged", call)
      const slot = slotOf(await (await slots.of(release.custom)).slots.list(), release.id)
      if (slot === undefined) throw new Refusal({ kind: "failed", detail: `${release.custom.name} ${release.custom.version} could not be unpacked: ${why}`, hint: `kos update plan ${release.id.slice(0, 8)}` })
      return slot.path
    },
    apply: (release, call) => applyOne(release, { overrideVeto: false, despite: false, insist: false }, call)
  })

  return {
    try: tryModule, ...parts.stick,

    check: (channel) => tried(async () => {
      await parts.follow()
      if (channel !== undefined && !channels.states().some(({ name }) => name === channel)) throw new Refusal({ kind: "not-found", detail: `no channel called ${channel} is followed here`, hint: "kos update channel" })
      await channels.refresh(channel)
      // A channel that is new here comes in a moment when anybody in touch has it.
      const end = parts.tick() + firstMsMax
      const isWaiting = () => channels.states().some(({ trust, name }) => trust === "empty" && (channel === undefined || name === channel)) && node().swarm.sessions().some(({ phase }) => phase === "ready")
      while (isWaiting() && parts.tick() < end) await new Promise((resolve) => setTimeout(resolve, lookEveryMs))
      engine.wake()
      await engine.idle()
      return { channels: channels.states().filter(({ name }) => channel === undefined || name === channel).map(channelRow), offers: await offersOf() }
    }),

    list: (everything) => tried(async () => everything ? (await Promise.all(engine.all().map(rowOf))).toSorted((a, b) => compareVersions(b.version, a.version)) : offersOf()),

    show: (text) => tried(async () => {
      const release = find(text)
      const { custom } = release
      return {
        ...await rowOf(release), target: release.target, role: release.role, threshold: release.threshold, signers: signersOf(release), boards: custom.boards, payloadBytes: custom.payload.length,
        from: custom.needs.from, kosMin: custom.needs.kosMin, kosBelow: custom.needs.kosBelow, minSecure: custom.minSecure, ring: custom.ring, permille: custom.rolloutPermille,
        checks: custom.checks.map(({ name }) => name), migrations: custom.migrations, risk: custom.risk, notes: custom.notes, reads: custom.events.reads.length, writes: custom.events.writes.length
      }
    }),

    plan: (text) => tried(async () => {
      const release = find(text)
      const here = node()
      const index = await engine.index(release)
      const { missing, bases } = await missingOf(index, await engine.locals(), AbortSignal.timeout(120_000))
      const fetch = planFetch(index, missing, bases)
      const held: Array<string> = []
      for (const { pack } of fetch.packs) if (await parts.transfer.file(pack.ref.sha256) !== undefined) held.push(pack.ref.sha256)
      const [first] = fetch.packs
      const holders = first === undefined ? [] : await parts.holders(infoHash(first.pack.ref))
      const fetchBytes = fetch.packs.filter(({ pack }) => !held.includes(pack.ref.sha256)).reduce((sum, { bytes }) => sum + bytes, 0)
      const plan = planOf(release, await planFacts({ ...parts, node: here, known: engine.known(release), seen: new Map(), settings: runtime().settings }, release, holders, [], fetchBytes))
      const advice = adviceOn(here, release.id, settingTexts(runtime().settings.get(), "update.veto"))
      const rows = here.tables.updates.advice(release.id)
      return {
        release: await rowOf(release), changes: [plan.summary], fetchBytes, spaceBytes: plan.neededBytes, freeBytes: plan.freeBytes, signers: signersOf(release), threshold: release.threshold,
        peers: namesOf(holders), migrations: plan.migrations, risks: plan.risks,
        advice: advice.flatMap(({ stance, text: said, counts, device, actor }) => {
          const row = rows.find((one) => one.actor === actor && here.members.deviceOf(one.log) === device)
          return row === undefined ? [] : [{ by: byAt(here, row), stance, text: said, counts }]
        })
      }
    }),

    fetch: (text, call) => tried(async () => {
      const release = find(text)
      const { why, reached } = await ask(release, "fetched", call)
      const { report } = engine.known(release)
      if (!reached && report === undefined) throw new Refusal({ kind: "failed", detail: `${release.custom.name} ${release.custom.version} was not fetched: ${why}`, hint: `kos update plan ${release.custom.version}` })
      return {
        release: await rowOf(release), summary: `${release.custom.name} ${release.custom.version} is here and checked`,
        hereBytes: (report?.local ?? 0) + (report?.kept ?? 0), patchedBytes: report?.patched ?? 0, fetchedBytes: report?.fetched ?? 0
      }
    }),

    apply: (text, wish, call) => tried(async () => {
      const offers = await offersOf()
      const best = text === undefined ? [...offers.filter(({ kind }) => kind === "bundle"), ...offers].find(({ verdict, state }) => verdict !== "unfit" && state !== "rolled-back") : undefined
      if (text === undefined && best === undefined) throw new Refusal({ kind: "not-found", detail: "nothing is offered that fits, is newer than what runs, and was not rolled back here", hint: "kos update list --all" })
      return text === undefined ? engine.all().find(({ id }) => id === best?.id) ?? find(best?.id ?? "") : find(text)
    }).pipe(Effect.flatMap((release) => applyOne(release, wish, call))),

    boot: (generation, call) => tried(async () => {
      const list = await slots.kos.slots.list()
      const slot = generation === undefined ? list.filter(({ state }) => state === "staged").at(-1) : list.find((one) => one.generation === generation)
      if (slot === undefined) throw new Refusal({ kind: "not-found", detail: generation === undefined ? "nothing lies ready" : `there is no generation ${generation} here`, hint: "kos update slots" })
      if (slot.state === "current") throw new Refusal({ kind: "conflict", detail: `generation ${slot.generation} runs here already`, hint: "kos update slots" })
      if (slot.state !== "staged" || slot.release === undefined) return goBack(slot.generation, call)
      const release = engine.all().find(({ id }) => id === slot.release)
      if (release === undefined) throw new Refusal({ kind: "conflict", detail: `the release in generation ${slot.generation} is in no channel any more`, hint: "kos update list" })
      const { why, restarting } = await ask(release, "committed", call, { despite: true })
      if (!restarting) throw new Refusal({ kind: "failed", detail: why, hint: "kos update history" })
      return { summary: `${slot.name} ${slot.version} is on trial: the node starts again with it`, generation: slot.generation, version: slot.version }
    }),

    rollback: (generation, call) => tried(() => goBack(generation, call)),

    history: (everything, limit) => Effect.sync(() => {
      const here = node()
      return historyOf(here, { ...(everything ? {} : { device: here.vault.deviceId }), limit }).toReversed()
        .map((line) => ({ by: byAt(here, line.at), step: line.step, id: line.release, name: line.name, version: line.version, detail: line.detail }))
    }),

    channels: () => tried(async () => {
      await parts.follow()
      return channels.states().map(channelRow)
    }),

    settle: (name, call) => Effect.gen(function*() {
      const state = channels.states().find((one) => one.name === name)
      if (state === undefined) return yield* new Refusal({ kind: "not-found", detail: `no channel called ${name} is followed here`, hint: "kos update channel" })
      yield* tried(async () => {
        await parts.settle(state.logKey)
        await channels.refresh(name)
      })
      return yield* noted(call, "update.channel", `the log of ${name} is followed on as it is held here`)
    }),

    slots: () => tried(async () => {
      const found: Array<OutputOf<"update.slots">[number]> = []
      for (const { slots: place, running } of await slots.all()) {
        for (const { generation, name, version, state, release, path, why } of await place.list()) {
          if (path !== "") found.push({ generation, name, version, state, running: generation === running(), path, ...(release === undefined ? {} : { release }), ...(why === undefined ? {} : { why }) })
        }
      }
      return found
    }),

    advise: (text, stance, said, call) => Effect.gen(function*() {
      const release = yield* tried(async () => find(text))
      const here = node()
      const vetoers = settingTexts(runtime().settings.get(), "update.veto")
      const plan = decideAdvice(here.members.view(), here.vault.deviceId, vetoers, release, adviceOn(here, release.id, vetoers), { stance, text: said, actor: call.actor })
      if (plan instanceof Refusal) return yield* plan
      const done = yield* here.dispatch.run("update.advise", call, ["updates"], Effect.succeed(plan))
      engine.wake()
      return { ...done, counts: adviceOn(here, release.id, vetoers).some(({ actor, device, counts }) => counts && actor === call.actor && device === here.vault.deviceId) }
    }),

    stop: (text, call) => Effect.gen(function*() {
      const underway = engine.underway()
      const asked = wishes.get().asked?.release
      const id = text === undefined ? underway?.release ?? asked : (yield* tried(async () => find(text))).id
      const release = engine.all().find((one) => one.id === id)
      if (release === undefined) return yield* new Refusal({ kind: "not-found", detail: "no update is under way", hint: "kos update list" })
      const steps = stepsOf(node(), node().vault.deviceId, release.id)
      const last = steps.at(-1)?.step
      const wished = asked === release.id && wishes.get().asked?.endings === endingsOf(steps)
      if (!wished && (last === "committed" || last === "rolled-back")) {
        return yield* new Refusal({ kind: "conflict", detail: `${release.custom.name} ${release.custom.version} is not under way here: it was ${last}`, hint: last === "committed" ? "kos update rollback" : "kos update history" })
      }
      engine.known(release).stop = true
      yield* tried(() => wishes.set({ asked: null }))
      engine.wake()
      yield* tried(() => engine.idle())
      return yield* noted(call, "update.stop", `${release.custom.name} ${release.custom.version} is stopped`)
    }),

    pin: (version, call) => Effect.gen(function*() {
      yield* tried(() => wishes.set({ pinned: version ?? null }))
      engine.wake()
      return yield* noted(call, "update.pin", version === undefined ? "this node takes any version of kOS again" : `this node takes kOS ${version} only`)
    }),

    pause: (call) => Effect.gen(function*() {
      yield* tried(() => wishes.set({ paused: true }))
      return yield* noted(call, "update.pause", "updates are paused on this node")
    }),

    resume: (call) => Effect.gen(function*() {
      yield* tried(() => wishes.set({ paused: false }))
      engine.wake()
      return yield* noted(call, "update.resume", "updates go on")
    }),

    seeds: () => tried(async () => {
      const { rows, memoryBytes, pid } = await parts.seeding.rows(await withIndexes())
      return {
        seeds: rows.map((row) => ({
          pack: row.pack, releases: row.releases, bytes: row.length, heldBytes: row.held, uploadedBytes: row.uploaded, downloadedBytes: row.downloaded, wires: row.wires, seeding: row.seeding
        })),
        limits: limitsOf(runtime().settings.get()), rests: parts.seeding.rests(), banned: namesOf(parts.transfer.banned()), pid, memoryBytes
      }
    }),

    seed: (text, call) => Effect.gen(function*() {
      const release = yield* tried(async () => find(text))
      const { packs, bytes } = yield* tried(async () => {
        const index = await engine.index(release)
        let total = 0
        for (const { ref } of index.packs) {
          const elsewhere = ["update.mirrors", "seed.tracker"].some((path) => settingTexts(runtime().settings.get(), path).length > 0)
          if (!elsewhere && await parts.transfer.file(ref.sha256) === undefined && (await parts.holders(infoHash(ref))).length === 0) {
            throw new Refusal({ kind: "timeout", detail: `nobody in touch holds pack ${ref.sha256.slice(0, 8)} of ${text}`, hint: "kos sync status; or bring it by hand with kos update import FILE" })
          }
          await parts.transfer.ensure(ref, [{ offset: 0, length: ref.length }], { signal: AbortSignal.timeout(staysMsMax), onBytes: (done) => call.progress(total + done, Math.max(1, index.packs.reduce((sum, pack) => sum + pack.ref.length, 0)), "packs") })
          await parts.transfer.seed(ref)
          total += ref.length
        }
        await wishes.set({ seeds: [...new Set([...wishes.get().seeds, ...index.packs.map(({ ref }) => ref.sha256)])].slice(-1_024) })
        return { packs: index.packs.length, bytes: total }
      })
      return { ...yield* noted(call, "seed.add", `this node holds all of ${release.custom.name} ${release.custom.version} and passes it on`), packs, bytes }
    }),

    unseed: (what, call) => Effect.gen(function*() {
      const { removed, bytes } = yield* tried(async () => {
        const { seeds } = await parts.transfer.status()
        const byPack = /^[0-9a-f]{8,64}$/.test(what) ? seeds.filter(({ pack }) => pack.startsWith(what)).map(({ pack }) => pack) : []
        const refs = byPack.length > 0 ? [] : (await engine.index(find(what))).packs.map(({ ref }) => ref)
        const ids = [...byPack, ...refs.map(({ sha256 }) => sha256)]
        const gone = seeds.filter(({ pack }) => ids.includes(pack))
        // Nobody could take the release any more; who means that says it of the pack itself.
        for (const ref of refs) {
          if (!gone.some(({ pack, held, length }) => pack === ref.sha256 && held === length) || (await parts.holders(infoHash(ref))).length > 0) continue
          throw new Refusal({ kind: "conflict", detail: `nobody in touch holds pack ${ref.sha256.slice(0, 8)} of ${what}, so this may be the last copy`, hint: `kos seed remove ${ref.sha256.slice(0, 16)}, if it may go all the same` })
        }
        for (const { pack } of gone) await parts.transfer.remove(pack)
        await wishes.set({ seeds: wishes.get().seeds.filter((pack) => !ids.includes(pack)) })
        return { removed: gone.length, bytes: gone.reduce((sum, { held }) => sum + held, 0) }
      })
      return { ...yield* noted(call, "seed.remove", removed === 0 ? "this node held none of it" : `removed ${removed} ${removed === 1 ? "pack" : "packs"}`), packs: removed, bytes }
    })
  }

  /** A person's wish, from the checks that need no work to the trial or to what it waits for. */
  function applyOne(release: Release, { overrideVeto, despite, insist }: { readonly overrideVeto: boolean; readonly despite: boolean; readonly insist: boolean }, call: Call): Effect.Effect<OutputOf<"update.apply">, Refusal> {
    return tried(async () => {
      const what = `${release.custom.name} ${release.custom.version}`
      const row = await rowOf(release)
      if (row.running) throw new Refusal({ kind: "conflict", detail: `${what} runs here already`, hint: "kos update slots" })
      const component = await slots.of(release.custom)
      if (!component.launched) throw new Refusal({ kind: "policy", detail: "this daemon was started without its launcher, so nobody could bring the old version back", hint: "start the node with npm start, or with kos-launch daemon run" })
      if (node().members.view().members.get(node().vault.deviceId)?.role === "seeder") throw new Refusal({ kind: "denied", detail: "this node is a seeder: it writes no events, and each step of an update is one", hint: "kos node role NODE reader" })
      const vetoes = adviceOn(node(), release.id, settingTexts(runtime().settings.get(), "update.veto")).filter(({ counts }) => counts)
      if (vetoes.length > 0 && !overrideVeto) throw new Refusal({ kind: "policy", detail: `${vetoes.map(({ actor, node: who, text: said }) => `${actor === "device" ? who : `${actor} of ${who}`} vetoes ${what}${said === "" ? "" : `: ${said}`}`).join("; ")}`, hint: `kos update apply ${release.custom.version} --override-veto` })
      const { why, restarting, reached } = await ask(release, "committed", call, { despite, insist })
      const report = engine.known(release).rehearsal?.report
      const differences = [...report?.differences ?? [], ...(report?.expected ?? []).map((one) => `as expected: ${one}`)]
      if (!restarting && !reached) {
        const { way } = await engine.facts(node(), release)
        const step = next(release, way)
        if (step._tag === "Wait" && (step.for === "turn" || step.for === "window" || step.for === "restart")) return { release: await rowOf(release), summary: `${what} waits: ${why}`, restarting: false, differences }
        throw new Refusal({ kind: way.judgement.fits ? "failed" : "conflict", detail: `${what} was not taken: ${why}`, ...(step._tag === "Wait" && differences.length > 0 ? { hint: `kos update apply ${release.custom.version} --despite` } : { hint: "kos update history" }) })
      }
      return { release: await rowOf(release), summary: restarting ? `${what} is on trial: the node starts again with it` : `${what}: ${why}`, restarting, differences }
    })
  }

  /** R5.4, R6.6: to an earlier good version, at once; the one that is left is bad here from now on. */
  async function goBack(generation: number | undefined, call: Call): Promise<{ readonly summary: string; readonly generation: number; readonly version: string }> {
    const here = node()
    const { slots: place, launched, running } = slots.kos
    if (!launched) throw new Refusal({ kind: "policy", detail: "this daemon was started without its launcher, so nobody would start the other version", hint: "start the node with npm start, or with kos-launch daemon run" })
    const list = await place.list()
    const now = list.find((slot) => slot.generation === running())
    const goal = generation === undefined ? list.filter((slot) => slot.generation !== running() && (slot.state === "good" || slot.generation === 0)).at(-1) : list.find((slot) => slot.generation === generation)
    if (goal === undefined) throw new Refusal({ kind: "not-found", detail: generation === undefined ? "there is no earlier version here" : `there is no generation ${generation} here`, hint: "kos update slots" })
    if (goal.generation === running()) throw new Refusal({ kind: "conflict", detail: `${goal.name} ${goal.version} runs here already`, hint: "kos update slots" })
    if (goal.generation !== 0 && goal.state !== "good") throw new Refusal({ kind: "conflict", detail: `generation ${goal.generation} is ${goal.state}; only what ran well before can be gone back to`, hint: "kos update boot" })
    const below = belowFloor(goal.name, goal.version, floorOf(minSecuresOf(here, here.vault.deviceId).get(goal.name) ?? []))
    if (below !== undefined) throw new Refusal({ kind: "policy", detail: below, hint: "kos update slots" })
    const left = now?.release === undefined ? undefined : engine.all().find(({ id }) => id === now.release) ?? parts.releases.get(now.release)
    // Between the event and the switch a look would find that the version still runs, and say so.
    const goOn = await engine.hold()
    const summary = `goes back to ${goal.name} ${goal.version} (generation ${goal.generation})`
    try {
      await Effect.runPromise(command(call, "update.rollback", summary, left === undefined ? [{ type: "command.done/1", subject: "updates", body: { name: "update.rollback", detail: summary } }]
        : [sayStep(left, "rolled-back", `a person went back to ${goal.version}`, { generation: now?.generation ?? 0 })]))
      await wishes.set({ asked: null })
      await place.rollback(goal.generation, "a person went back")
    } catch (cause) {
      goOn()
      throw cause
    }
    parts.again()
    return { summary, generation: goal.generation, version: goal.version }
  }
}

