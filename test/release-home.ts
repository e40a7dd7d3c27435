/** Homes with real tables, a real vault and a channel store on the disk, and members that hear of each other's events when the test says so. */
import { mkdirSync } from "node:fs"
import { Effect, Result } from "effect"
import type { Test } from "tap"
import { toHex } from "../src/codec/bytes.ts"
import type { Plan } from "../src/commands/dispatch.ts"
import type { Refusal } from "../src/commands/refusal.ts"
import { decodeBody } from "../src/events/catalogue.ts"
import type { Membership } from "../src/projections/membership.ts"
import { Tables } from "../src/projections/tables/tables.ts"
import { type ChannelStore, makeChannelStore } from "../src/boot/channel-store.ts"
import { makePublisher, type Publisher } from "../src/boot/publisher.ts"
import { makeReleaseDesk } from "../src/boot/release-desk.ts"
import type { ReleaseDesk } from "../src/api/release-desk.ts"
import { makePayload } from "../src/updates/payload/pack.ts"
import type { ChannelLog } from "../src/updates/ports.ts"
import { Vault } from "../src/vault/vault.ts"
import { membershipOf, type Person } from "./update-world.ts"
import { startMs } from "./release-world.ts"

interface Said {
  readonly type: string
  readonly body: unknown
  readonly ms: number
}

export class Home {
  readonly name: string
  readonly directory: string
  readonly vault: Vault
  readonly tables: Tables
  readonly store: ChannelStore
  readonly events: Array<Said> = []
  readonly heard = new Map<string, number>()
  readonly taken: Array<string> = []
  readonly notices: Array<string> = []
  readonly world: Homes
  readonly publisher: Publisher
  readonly desk: ReleaseDesk

  constructor(world: Homes, name: string, directory: string, vault: Vault) {
    this.world = world
    this.name = name
    this.directory = directory
    this.vault = vault
    this.tables = new Tables(`${directory}/tables.db`)
    this.store = makeChannelStore({ directory: `${directory}/updates/channels`, notice: (_level, text) => { this.notices.push(text) } })
    this.publisher = makePublisher({
      home: directory, now: () => world.ms, notice: (_level, text) => { this.notices.push(text) }, channels: this.store, makePayload,
      take: async (ref) => { this.taken.push(ref.sha256) },
      node: () => ({
        tables: this.tables, vault, dispatch: { run: (_name, _asker, _locks, decide) => Effect.map(decide, (plan: Plan) => this.say(plan)) },
        members: { view: () => world.view(), nameOf: (device) => world.view().members.get(device)?.name ?? device.slice(0, 8), deviceOf: (log) => world.view().devices.get(log) }
      })
    })
    this.desk = makeReleaseDesk(this.publisher)
  }

  /** Not a key that any log could have, but one that is like it. */
  get log(): string {
    return this.vault.deviceId
  }

  say({ summary, events }: Plan) {
    const from = this.events.length
    this.events.push(...events.map(({ type, body }) => ({ type, body, ms: this.world.ms++ })))
    this.hear(this)
    return { summary, events: events.map(({ type }, at) => ({ address: `${this.log}/${from + at}.0`, arrival: from + at + 1, type })) }
  }

  hear(other: Home): void {
    for (let block = this.heard.get(other.name) ?? 0; block < other.events.length; block++) {
      const { type, body, ms } = other.events[block] ?? { type: "", body: null, ms: 0 }
      const decoded = decodeBody(type, body)
      if (Result.isFailure(decoded) || decoded.success._tag !== "Known") throw new Error(`${type} does not fit`)
      const known = decoded.success.body
      const envelope = { type, at: { ms, count: 0 }, actor: "device", subject: "release", command: "", cause: [], body }
      this.tables.transaction(() => {
        this.tables.events.add([{ log: other.log, block, offset: 0, type, ms, count: 0, actor: "device", subject: "release", status: "known" }])
        this.tables.folds.get(type)?.({ log: other.log, block, offset: 0, device: other.log, envelope, body: known })
      })
      this.heard.set(other.name, block + 1)
    }
  }

  /** What this home holds of a log that another home writes, as replication would bring it. */
  async replicate(log: ChannelLog): Promise<void> {
    const blocks = await Promise.all(Array.from({ length: log.length() }, (_, at) => log.block(at)))
    this.replicas.set(log.key, { key: log.key, length: () => blocks.length, block: async (at) => blocks[at] ?? Promise.reject(new Error("no block")), onGrow: () => () => undefined, fork: () => undefined })
  }
  readonly replicas = new Map<string, ChannelLog>()
}

export class Homes {
  readonly homes: Array<Home> = []
  readonly people: Array<Person> = []
  ms = startMs
  readonly directory: string

  constructor(directory: string) {
    this.directory = directory
  }

  async add(t: Test, name: string, role: Person["role"] = "member"): Promise<Home> {
    const directory = `${this.directory}/${name}`
    mkdirSync(directory)
    const vault = await Vault.create(directory)
    const home = new Home(this, name, directory, vault)
    t.teardown(async () => {
      await home.store.close()
      home.tables.close()
    })
    this.homes.push(home)
    this.people.push({ device: vault.deviceId, name, logs: [home.log], ...(role === undefined ? {} : { role }) })
    return home
  }

  view(): Membership {
    return membershipOf(this.people)
  }
}

export const call = { command: "", actor: "device", progress: () => undefined }

export const done = <A>(work: Effect.Effect<A, Refusal>): Promise<A> => Effect.runPromise(Effect.result(work)).then((result) => {
  if (Result.isFailure(result)) throw result.failure
  return result.success
})

export const keyHex = async (home: Home): Promise<string> => {
  const pair = await home.vault.releaseKeyPair("signer")
  return pair === undefined ? "" : toHex(pair.publicKey)
}
