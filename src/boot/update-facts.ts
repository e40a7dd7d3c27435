/** What `src/updates/way.ts`, `plan.ts` and `rollout.ts` are asked with: read from the mesh, the slots, the settings and what this process knows. */
import { rm, statfs } from "node:fs/promises"
import { schemaRange } from "../events/catalogue.ts"
import { settingInteger, settingText, settingTexts, settingWindow } from "../projections/families/config-view.ts"
import { adviceOn, badReleases, capabilitiesOf, endings, minSecuresOf, stepsOf, turnsOf } from "../projections/updates.ts"
import { belowFloor, floorOf, judge } from "../updates/compatible.ts"
import { planFetch, spaceNeeded } from "../updates/payload/fetch-plan.ts"
import type { PlanFacts } from "../updates/plan.ts"
import type { ChannelState, HealthCheck, Slot } from "../updates/ports.ts"
import { findIsolation } from "../updates/rehearsal/isolate.ts"
import { type Release, rings } from "../updates/release.ts"
import { keyIdOf } from "../updates/publish/signed.ts"
import { mayTakeByItself } from "../updates/rollout.ts"
import { turnOf, type TurnPeer } from "../updates/turn.ts"
import { failuresOf, type WayFacts } from "../updates/way.ts"
import { makeDirectory } from "../vault/files.ts"
import { boardOf, platform } from "./capabilities.ts"
import type { MeshNode } from "./mesh-node.ts"
import type { Runtime } from "./mesh-runtime.ts"
import type { EngineParts, Known } from "./update-engine.ts"
import { type Component, slotOf } from "./update-slots.ts"

export interface Facts {
  readonly way: WayFacts
  readonly component: Component
  readonly trust: ChannelState["trust"]
}

type Parts = Pick<EngineParts, "directory" | "version" | "now" | "tick" | "channels" | "unread" | "slots" | "wishes" | "holders"> & {
  readonly node: MeshNode
  readonly known: Known
  /** When each device was last known to live, steady ms; kept by the engine. */
  readonly seen: Map<string, number>
  readonly settings: Runtime["settings"]
}

const board = boardOf()
/** When this process began, by the steady clock. */
const began = performance.now()

export const gatherFacts = async (parts: Parts, release: Release): Promise<Facts> => {
  const { node, known, settings, wishes, tick } = parts
  const { id, custom } = release
  const device = node.vault.deviceId
  const config = settings.get()
  const component = await parts.slots.of(custom)
  const list = await component.slots.list()
  const slot = slotOf(list, id)
  const failed = await component.slots.failed()
  const steps = stepsOf(node, device, id)
  const state = parts.channels.states().find(({ channel }) => channel === release.channel)
  const yanked = state?.yanked.find((one) => one.id === id)?.reason
  const wish = wishes.get()
  const asked = wish.asked?.release === id ? wish.asked : undefined
  const trust = release.stale === true && state?.trust === "fresh" ? "stale" : state?.trust ?? "empty"
  const floor = floorOf(minSecuresOf(node, device).get(custom.name) ?? [])
  const vetoes = adviceOn(node, id, settingTexts(config, "update.veto")).filter(({ counts }) => counts).map(({ actor, node: who, text }) => ({ who: actor === "device" ? who : `${actor} of ${who}`, text }))
  const ring = rings.find((one) => one === settingText(config, "update.ring")) ?? "all"
  const auto = settingText(config, "update.auto")
  const date = new Date(parts.now())
  const mayBy = mayTakeByItself(release, {
    device, trust, auto: auto === "all" || auto === "security" ? auto : "off", window: settingWindow(config, "update.window"), minute: date.getHours() * 60 + date.getMinutes(), ring,
    paused: wish.paused, pinned: custom.kind === "bundle" ? wish.pinned ?? undefined : undefined, bad: badReleases(node, device).get(id)?.detail, yanked, failures: failuresOf(steps), vetoes
  })
  const held = known.health
  // R7.5: also when the rehearsal was made before this process began.
  const rehearsed = steps.slice(steps.findLastIndex(({ step }) => endings.has(step)) + 1).some(({ step }) => step === "rehearsed")
  const open = known.rehearsal !== undefined ? openIn(known.rehearsal.report.isolation) : rehearsed && mayBy.may ? await openHere(parts.directory) : undefined
  return {
    component, trust,
    way: {
      steps, offered: state?.releases.some((one) => one.id === id) === true, unread: state === undefined && parts.unread(release.channel), yanked, verified: known.index !== undefined,
      judgement: judge(release, await compatibleFacts(parts, release, component, list, floor)),
      byItself: mayBy.may && open !== undefined ? { may: false, why: `nothing on this device could shut its rehearsal in: ${open}; a person has to ask for it`, opens: false }
        : mayBy.may && !component.launched ? { may: false, why: "this daemon was started without its launcher, so nobody could bring the old version back; start it with npm start or kos-launch", opens: false } : mayBy,
      wish: asked === undefined ? undefined : { to: asked.to, endings: asked.endings, despite: asked.despite },
      stop: known.stop, paused: wish.paused, pinned: custom.kind === "bundle" ? wish.pinned ?? undefined : undefined,
      payload: known.payload !== undefined, slot, running: component.running(),
      failed: failed !== undefined && failed.slot.release === id ? { generation: failed.slot.generation, why: failed.why } : undefined,
      back: backOf(list, slot, custom.name, floor),
      // R7.2: what is different is for a person to decide; only a rehearsal that did not get to its end has failed.
      rehearsal: known.rehearsal === undefined ? undefined : {
        generation: known.rehearsal.generation, ok: known.rehearsal.report.fault === undefined,
        differences: known.rehearsal.report.ok ? 0 : known.rehearsal.report.differences.length, says: known.rehearsal.says
      },
      turn: turnHere(parts, release),
      health: held === undefined || held.generation !== slot?.generation ? undefined
        : held.verdict === undefined ? { state: "waiting", says: "", goodMs: 0 }
        : { state: held.verdict.ok ? "good" : "bad", says: held.verdict.why, goodMs: held.verdict.ok ? custom.healthyMs : 0 },
      fault: known.fault
    }
  }

  function turnHere({ node: { tables, members, swarm } }: Parts, { id: release }: Release) {
    const turns = turnsOf(node)
    const now = tick()
    const own = turns.asks.find((ask) => ask.device === device && ask.release === release)
    const inTouch: Array<TurnPeer> = []
    for (const session of swarm.sessions()) {
      if (session.phase !== "ready" || members.standing(session.device) !== "member") continue
      parts.seen.set(session.device, now)
      const holdsAsk = own !== undefined && tables.receipts.held(session.device, own.at.log) > own.at.block
      const heard = session.caughtUp && session.ahead === 0 && node.runner.behind() === 0
      const key = `behind ${session.device}`
      if (holdsAsk && heard) parts.seen.delete(key)
      else if (!parts.seen.has(key)) parts.seen.set(key, now)
      inTouch.push({ device: session.device, holdsAsk, heard, behindMs: now - (parts.seen.get(key) ?? now) })
    }
    return turnOf({
      device, release, turns, nodesMax: settingInteger(config, "update.trial.max"), inTouch, awayMs: (other) => now - Math.max(parts.seen.get(other) ?? 0, began),
      others: [...members.view().members.values()].filter((member) => member.standing === "member" && member.device !== device && member.logs.length > 0).length,
      nameOf: (other) => members.nameOf(other), insisted: wishes.get().asked?.release === release && wishes.get().asked?.insist === true
    })
  }
}

const compatibleFacts = async (parts: Parts, { id, custom }: Release, component: Component, list: ReadonlyArray<Slot>, floor: string | undefined) => {
  const { node, known } = parts
  const current = list.find(({ generation }) => generation === component.running())
  return {
    kinds: ["bundle" as const, "agent" as const, "codex" as const], platform, board, kos: parts.version,
    here: component.key === "kos" ? parts.version : current === undefined || current.path === "" ? undefined : current.version,
    reads: schemaRange.reads, written: node.tables.events.types(node.journal.log()).filter((type) => schemaRange.reads.includes(type)),
    freeBytes: await freeBytes(parts.directory), neededBytes: slotOf(list, id) === undefined ? neededBytes(known, custom.payload.length) : 0, floor
  }
}

/** What is written already does not have to be found once more. */
const neededBytes = ({ index, payload }: Known, length: number): number => {
  if (index === undefined) return 2 * length
  const space = spaceNeeded(index, planFetch(index))
  return payload === undefined ? space.total : space.tree + space.reserve
}

export const freeBytes = async (directory: string): Promise<number> => {
  const found = await statfs(directory).catch(() => undefined)
  return found === undefined ? 0 : found.bavail * found.bsize
}

/** R1.6, R5.4: the newest good one before it that the floor allows; what came with the installation last. */
const backOf = (list: ReadonlyArray<Slot>, slot: Slot | undefined, name: string, floor: string | undefined): number | undefined =>
  list.filter(({ state, generation, path, version }) => generation !== slot?.generation && (state === "good" || (generation === 0 && path !== "")) && belowFloor(name, version, floor) === undefined).at(-1)?.generation

export const planFacts = async (parts: Parts, release: Release, whole: ReadonlyArray<string>, unwell: ReadonlyArray<HealthCheck>, fetchBytes?: number): Promise<PlanFacts> => {
  const { node, known } = parts
  const component = await parts.slots.of(release.custom)
  const list = await component.slots.list()
  const { way, trust } = await gatherFacts(parts, release)
  const capabilities = capabilitiesOf(node)
  const current = list.find(({ generation }) => generation === component.running())
  const from = component.key === "kos" ? { version: parts.version, generation: component.running() } : current === undefined || current.path === "" ? undefined : { version: current.version, generation: current.generation }
  const signers = node.tables.updates.signers()
  return {
    device: node.vault.deviceId, from,
    nodes: [...node.members.view().members.values()].filter((member) => member.standing === "member" && member.role !== "seeder")
      .map((member) => ({ device: member.device, name: member.name, capability: capabilities.get(member.device) })),
    now: schemaRange, types: node.tables.events.types(), bytes: { fetch: fetchBytes, needed: neededBytes(known, release.custom.payload.length), free: await freeBytes(parts.directory) },
    signerNames: (keyId) => signers.filter(({ body }) => keyIdOf(body.key) === keyId).map(({ body, log }) => body.name === "" ? node.members.nameOf(node.members.deviceOf(log) ?? "") : body.name),
    whole: whole.map((device) => node.members.nameOf(device)), part: [], judgement: way.judgement,
    rehearsed: way.rehearsal === undefined ? undefined : { differences: way.rehearsal.differences, says: way.rehearsal.says }, trust, unwell
  }
}


const openIn = ({ network, says }: { readonly network: boolean; readonly says: string }): string | undefined => network ? undefined : says

let here: Promise<string | undefined> | undefined
/** What a rehearsal on this device would not be kept from; asked once. */
const openHere = (directory: string): Promise<string | undefined> => {
  const scratch = `${directory}/rehearsal/probe`
  here ??= makeDirectory(scratch).then(() => findIsolation(scratch)).then(openIn, (cause: unknown) => cause instanceof Error ? cause.message : String(cause)).finally(() => rm(scratch, { recursive: true, force: true }))
  return here
}
