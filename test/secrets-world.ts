/**
 * Devices that keep secrets, without daemons: each has tables, a store in a directory of its own, a keeper, and a log of real frames. What one says
 * reaches another when the test says so. And a thief, who gets device keys, logs and directories, and opens what can be opened.
 */
import { Effect, Result } from "effect"
import { mkdirSync, readdirSync, readFileSync } from "node:fs"
import { toHex } from "../src/codec/bytes.ts"
import { encodeEvent, frameKey, openFrame, frameHeader, sealFrame } from "../src/codec/frame.ts"
import type { Envelope } from "../src/codec/envelope.ts"
import type { Role } from "../src/codec/operation.ts"
import { openSealed } from "../src/codec/seal.ts"
import { isItemKey, openSecret } from "../src/codec/secret-item.ts"
import { type KeyPair, keyPairFromSeed } from "../src/codec/signature.ts"
import { uuidv7 } from "../src/codec/uuid.ts"
import { SecretKeeper, type Used } from "../src/commands/secret-keeper.ts"
import type { Done, Plan, Wanted } from "../src/commands/dispatch.ts"
import { Refusal } from "../src/commands/refusal.ts"
import { decodeBody } from "../src/events/catalogue.ts"
import type { Member, Membership } from "../src/projections/membership.ts"
import type { SecretsView } from "../src/projections/secrets.ts"
import { Tables } from "../src/projections/tables/tables.ts"
import { SecretStore } from "../src/vault/secret-store.ts"
import { key, keyPair } from "./membership-world.ts"

const epochKey = Buffer.alloc(32, 7)
export const meshId = key("mesh")

export interface WorldMember {
  readonly role: Role
  readonly standing?: Member["standing"]
  readonly docsTo?: number
}

export class World {
  readonly directory: string
  readonly members = new Map<string, WorldMember>()
  readonly agents = new Map<string, ReadonlyArray<string>>()
  readonly devices: Array<SimDevice> = []
  ms = 1_800_000_000_000

  constructor(directory: string) {
    this.directory = directory
  }

  add(name: string, role: Role): SimDevice {
    this.members.set(name, { role })
    const device = new SimDevice(this, name)
    this.devices.push(device)
    return device
  }

  membership(): Membership {
    const members = new Map([...this.members].map(([name, { role, standing = "member", docsTo }]): [string, Member] => {
      const device = toHex(keyPair(name).publicKey)
      return [device, {
        device, name, role, since: key("since"), by: device, ms: 0, standing, granted: { hash: key("since"), by: device, ms: 0 },
        logs: [{ log: key(`log ${name}`), from: key("since"), ...(docsTo === undefined ? {} : { docsTo }) }]
      }]
    }))
    return {
      id: meshId, name: "hill", members, invites: new Map(), devices: new Map([...members].map(([device, { logs }]) => [logs[0]?.log ?? "", device])), void: [],
      epochs: [], threshold: 1, recovery: undefined, operations: 1, waiting: 0, heads: []
    }
  }

  /** Everybody hears everything and takes steps, until nobody has anything to say. */
  async settle(devices: ReadonlyArray<SimDevice> = this.devices): Promise<void> {
    // One may wait a moment whether another does it.
    let silent = 0
    for (let round = 0; round < 40; round++) {
      const before = devices.map(({ frames }) => frames.length).join()
      this.ms += 4_000
      for (const device of devices) {
        for (const other of devices) device.hear(other)
        await device.step()
      }
      for (const device of devices) for (const other of devices) device.hear(other)
      if (devices.map(({ frames }) => frames.length).join() === before) silent++
      else silent = 0
      if (silent === 2) return
    }
    throw new Error("they never fall silent")
  }
}

export class SimDevice {
  readonly world: World
  readonly name: string
  readonly keyPair: KeyPair
  readonly id: string
  readonly log: string
  readonly directory: string
  readonly frames: Array<Uint8Array> = []
  readonly heard = new Map<string, number>()
  readonly tables: Tables
  keeper: SecretKeeper

  constructor(world: World, name: string) {
    this.world = world
    this.name = name
    this.keyPair = keyPair(name)
    this.id = toHex(this.keyPair.publicKey)
    this.log = key(`log ${name}`)
    this.directory = `${world.directory}/${name}`
    mkdirSync(this.directory)
    this.tables = new Tables(`${this.directory}/tables.db`)
    this.keeper = this.makeKeeper()
  }

  /** As after a restart: only what lies in the directory and the tables is left. */
  makeKeeper(): SecretKeeper {
    return this.keeper = new SecretKeeper({
      device: this.id, log: () => this.log, membership: () => this.world.membership(), places: (agent) => this.world.agents.get(agent), rows: this.tables.secrets,
      openStore: () => SecretStore.open(this.directory, meshId, this.keyPair), settled: () => true, now: () => this.world.ms,
      dispatch: {
        run: (_name, asker, _locks, decide) => Effect.map(decide, (plan: Plan) => this.say(plan.events, asker.actor, plan.summary)),
        record: (events, actor = "device") => Effect.sync(() => this.say(events, actor, "recorded"))
      }
    })
  }

  say(events: ReadonlyArray<Wanted>, actor = "device", summary = ""): Done {
    const place = { log: this.log, block: this.frames.length }
    const encoded = events.map(({ type, subject, body, cause = [] }, count) => encodeEvent({ type, at: { ms: this.world.ms, count }, actor, subject, command: "", cause, body }, this.log))
    this.frames.push(sealFrame(encoded, place, 0, epochKey))
    this.hear(this)
    return { summary, events: [] }
  }

  /** What is new in another's log. */
  hear(other: SimDevice): void {
    for (let block = this.heard.get(other.log) ?? 0; block < other.frames.length; block++) {
      foldFrame(this.tables, other.log, block, other.frames[block] ?? new Uint8Array(), other.id)
      this.heard.set(other.log, block + 1)
    }
  }

  step(): Promise<number | undefined> {
    return Effect.runPromise(this.keeper.step())
  }

  view(): SecretsView {
    return this.keeper.view()
  }

  set(name: string, value: string, recipients?: ReadonlyArray<string>, actor = "device"): Promise<Result.Result<Done, Refusal>> {
    return Effect.runPromise(Effect.result(this.keeper.set(this.asker(actor), { name, value, recipients })))
  }

  rotate(name: string, value?: string): Promise<Result.Result<Done, Refusal>> {
    return Effect.runPromise(Effect.result(this.keeper.rotate(this.asker("device"), { name, value })))
  }

  remove(name: string): Promise<Result.Result<Done & { readonly items: ReadonlyArray<string> }, Refusal>> {
    return Effect.runPromise(Effect.result(this.keeper.remove(this.asker("device"), name)))
  }

  async get(name: string, actor = "device"): Promise<string> {
    const used: Result.Result<Used, Refusal> = await Effect.runPromise(Effect.result(this.keeper.use(name, actor)))
    return Result.isSuccess(used) ? Buffer.from(used.success.value).toString() : `(${used.failure.kind})`
  }

  asker(actor: string) {
    return { command: uuidv7(this.world.ms, crypto.getRandomValues(new Uint8Array(10))), actor }
  }

  envelopes(): ReadonlyArray<Envelope> {
    return this.frames.flatMap((bytes, block) => [...opened(bytes, this.log, block)])
  }
}

const opened = (bytes: Uint8Array, log: string, block: number): ReadonlyArray<Envelope> => {
  const header = frameHeader(bytes)
  if (Result.isFailure(header)) throw header.failure
  const events = openFrame(bytes, { log, block }, frameKey(epochKey, { log, block }, header.success.nonce))
  if (Result.isFailure(events)) throw events.failure
  return events.success
}

/** As the runner folds: what the catalogue does not take is left out. */
export const foldFrame = (tables: Tables, log: string, block: number, bytes: Uint8Array, device: string): void => tables.transaction(() => {
  opened(bytes, log, block).forEach((envelope, offset) => {
    const decoded = decodeBody(envelope.type, envelope.body)
    if (Result.isFailure(decoded) || decoded.success._tag !== "Known") return
    tables.folds.get(envelope.type)?.({ log, block, offset, device, envelope, body: decoded.success.body })
  })
})

/** One text for equal views. */
export const viewText = (view: SecretsView, devices: ReadonlyArray<string>): string => JSON.stringify([...view.secrets.values()].map((secret) => ({
  ...secret,
  lines: secret.lines.map((line) => ({
    ...line, knowers: view.knowers(line), strangers: view.strangers(line), held: devices.filter((device) => line.live[0] !== undefined && view.holds(device, line.live[0].item))
  })),
  shredded: secret.removed.map(({ item }) => devices.map((device) => view.shredded(device, item) ?? null))
})).concat([])) + JSON.stringify(view.lacking()) + JSON.stringify(devices.map((device) => [view.readerOf(device)?.key, [...view.keptBy(device).recipient].toSorted(), [...view.keptBy(device).courier].toSorted()]))

/**
 * All values that can be had from device keys, whole logs and whole directories: every key pair that can be made from them is tried on every box, and
 * every 32 bytes of every file, as it is and as the stores open, as item key and as seed of a reader key.
 */
export const loot = (world: World, all: ReadonlyArray<SimDevice>): ReadonlyArray<string> => {
  const seeds: Array<Uint8Array> = []
  const pairs: Array<KeyPair> = all.map((device) => device.keyPair)
  for (const { directory, keyPair: pair } of all) {
    for (const file of readdirSync(directory)) {
      const bytes = readFileSync(`${directory}/${file}`)
      const contents = [...file.startsWith("secrets") ? [bytes] : [], ...SecretStore.contents(bytes, meshId, pair)]
      for (const content of contents) for (let at = 0; at + 32 <= content.byteLength; at++) seeds.push(content.subarray(at, at + 32))
    }
  }
  for (const seed of seeds) pairs.push(keyPairFromSeed(seed))
  const boxes: Array<Uint8Array> = []
  const sets: Array<{ readonly log: string; readonly name: string; readonly version: number; readonly nonce: Uint8Array; readonly commit: string; readonly cipher: Uint8Array }> = []
  for (const device of world.devices) {
    for (const { type, body } of device.envelopes()) {
      const { boxes: inside } = body as { readonly boxes?: ReadonlyArray<{ readonly sealed: Uint8Array }> }
      for (const { sealed } of inside ?? []) boxes.push(sealed)
      if (type === "secret.set/1") sets.push({ log: device.log, ...body as Omit<(typeof sets)[number], "log"> })
    }
  }
  const keys = [...seeds]
  for (const box of boxes) for (const pair of pairs) keys.push(...[openSealed(box, pair)].filter((found) => found !== undefined))
  const found = new Set<string>()
  for (const set of sets) {
    for (const one of keys) {
      if (!isItemKey(one, set.commit, set)) continue
      const value = openSecret(set, one, set)
      if (value !== undefined) found.add(Buffer.from(value).toString())
    }
  }
  return [...found].toSorted()
}
