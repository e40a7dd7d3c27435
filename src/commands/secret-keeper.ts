/**
 * The keeper of this node's secrets: takes item keys in, gives them on, destroys them, and hands out values. `src/projections/secrets.ts` tells how
 * secrets travel and why; this is the part that acts. It acts by events like everybody, and its step can be repeated harmlessly.
 *
 * **One step.** What is sealed to this node's reader key and is for it is taken out. What is not for it any more is forgotten; when its key could
 * still be had from a log, the reader key is replaced. The store is written, synced and its old file overwritten *before* anything is said
 * of it. Then one unit of events: the new reader key, what is held under it, receipts, and boxes for recipients that lack an item key.
 *
 * **Tricky cases.**
 * - *Crash between store and events*: everything that is said is derived from store and tables at the next step, so it is said then.
 * - *Tables that are being folded anew* know only a part: a removal is believed at once (it only grows), but being no recipient, or being
 *   superseded, only when nothing is left to fold (`settled`).
 * - *An append that fails after an item key was stored*: the item key is forgotten again.
 * - *Two copies of one device* (a cloned card) replace each other's reader key: the pause between replacements doubles, up to an hour.
 * - *Reading often*: the first read of a minute by an actor is recorded at once, further ones are counted into the next record.
 */
import { Effect, Result } from "effect"
import { toHex, utf8 } from "../codec/bytes.ts"
import { hashParts } from "../codec/hash.ts"
import { openSealed } from "../codec/seal.ts"
import { isItemKey, openSecret, secretCountMax } from "../codec/secret-item.ts"
import { randomBytes } from "../codec/signature.ts"
import type { Journal } from "../events/journal.ts"
import type { Members } from "../projections/members.ts"
import type { Membership } from "../projections/membership.ts"
import { mayHold, placesIn, type PlacesOf, SecretsView, type SecretVersion } from "../projections/secrets.ts"
import { itemBytes, type Secrets } from "../projections/tables/secrets.ts"
import type { Tables } from "../projections/tables/tables.ts"
import type { Runner } from "../projections/runner.ts"
import { type KeptItem, type SecretState, SecretStore } from "../vault/secret-store.ts"
import type { Vault } from "../vault/vault.ts"
import { decideRemove, decideRotate, decideSet, decideUse, sealVersion, type SecretsSituation, shareEvents, subjectOf, type VersionDraft } from "./decide-secrets.ts"
import type { Asker, Dispatch, Done, Plan, Wanted } from "./dispatch.ts"
import { KeyedLock } from "./keyed-lock.ts"
import { Refusal } from "./refusal.ts"

/** Between two replacements of the reader key, milliseconds. */
export const replaceGapMs = 1_000
export const replaceGapMsMax = 3_600_000
/** A holder that is not the author waits this long, and up to as long again as `shareSpreadMs`, before it shares, milliseconds. */
export const shareAfterMs = 500
export const shareSpreadMs = 3_000
/** Reads by one actor of one secret within this time are one record, milliseconds. */
export const noteWindowMs = 60_000
/** Pairs of actor and secret whose reads are counted together at most. */
export const notesMax = 1_024
/** Events said by one step at most; the rest follows in the next. */
export const stepEventsMax = 64
/** Boxes remembered not to open at most. */
export const uselessBoxesMax = 10_000
const itemsInEventMax = 256

/** What the keeper needs of a node. */
export interface KeeperParts {
  readonly device: string
  readonly log: () => string
  readonly membership: () => Membership
  readonly places: PlacesOf
  readonly rows: Secrets
  readonly openStore: () => Promise<SecretStore>
  /** Nothing is left to fold. */
  readonly settled: () => boolean
  readonly dispatch: Pick<Dispatch, "run" | "record">
  /** Wall milliseconds: for pauses and counting only. */
  readonly now: () => number
}

/** The slice of a running node that a keeper is made from. */
export interface NodeParts {
  readonly mesh: string
  readonly directory: string
  readonly vault: Vault
  readonly tables: Tables
  readonly members: Members
  readonly journal: Journal["Service"]
  readonly runner: Runner
  readonly dispatch: Dispatch
}

export interface Used {
  readonly name: string
  readonly version: number
  readonly value: Uint8Array
}

const keepers = new WeakMap<Dispatch, SecretKeeper>()

/** The keeper of a running node, one per node, made when it is first asked for. */
export const secretKeeperOf = (node: NodeParts, now: () => number): SecretKeeper => {
  const known = keepers.get(node.dispatch)
  if (known !== undefined) return known
  const { mesh, directory, vault, tables, members, journal, runner, dispatch } = node
  const keeper = new SecretKeeper({
    device: vault.deviceId, log: () => journal.log(), membership: () => members.view(), rows: tables.secrets, dispatch, now,
    places: placesIn(tables), openStore: () => SecretStore.open(directory, mesh, vault.device),
    settled: () => runner.behind() === 0 && runner.fault === undefined
  })
  keepers.set(dispatch, keeper)
  return keeper
}

/** The value of a secret for an agent, a service or a person on this node, as bytes; refused and recorded when it is not meant for them. */
export const resolveSecret = (node: NodeParts, name: string, actor: string, now: () => number): Effect.Effect<Uint8Array, Refusal> =>
  Effect.map(secretKeeperOf(node, now).use(name, actor), ({ value }) => value)

export class SecretKeeper {
  readonly #parts: KeeperParts
  readonly #lock = new KeyedLock()
  readonly #due = new Map<string, number>()
  readonly #useless = new Set<string>()
  readonly #notes = new Map<string, { readonly event: (times: number) => Wanted; readonly actor: string; ms: number; times: number }>()
  #store: SecretStore | undefined
  #replacedMs = -Infinity
  #leaps = 0

  constructor(parts: KeeperParts) {
    this.#parts = parts
  }

  view(): SecretsView {
    const { rows, membership, places } = this.#parts
    return new SecretsView(rows, membership(), places)
  }

  set(asker: Asker, wish: { readonly name: string; readonly value: string; readonly recipients: ReadonlyArray<string> | undefined }): Effect.Effect<Done, Refusal> {
    return this.#write("vault.set", asker, (situation) => Effect.fromResult(decideSet(situation, wish)))
  }

  /** Without a value: the same one under a new item key. */
  rotate(asker: Asker, wish: { readonly name: string; readonly value: string | undefined }): Effect.Effect<Done, Refusal> {
    return this.#write("vault.rotate", asker, (situation, store) =>
      Effect.fromResult(decideRotate(situation, {
        // A courier uses nothing, not for this either.
        ...wish, current: (version) => (situation.view.devicesFor(version.recipients).includes(situation.device) ? this.#open(version, store) : undefined)
      })))
  }

  /** Removes the name; this node's own keys of it are destroyed when this returns. The versions are those that were removed. */
  remove(asker: Asker, name: string): Effect.Effect<Done & { readonly items: ReadonlyArray<string> }, Refusal> {
    return Effect.gen({ self: this }, function*() {
      const done = yield* this.#exclusive(this.#parts.dispatch.run("vault.remove", asker, [], Effect.suspend(() => Effect.fromResult(decideRemove(this.#situation(), name))).pipe(
        Effect.map((versions): Plan => ({
          summary: `removed ${name}`,
          events: portions(versions.map(({ item }) => item)).map((items) => ({ type: "secret.removed/1", subject: subjectOf(name), body: { name, items: itemBytes(items) } }))
        }))
      )))
      yield* this.step().pipe(Effect.ignore)
      return { ...done, items: (this.view().secrets.get(name)?.removed ?? []).map(({ item }) => item) }
    })
  }

  /** Gives the value to an actor on this node, offline too, and records it. */
  use(name: string, actor: string): Effect.Effect<Used, Refusal> {
    return Effect.gen({ self: this }, function*() {
      const { device } = this.#parts
      const decided = decideUse({ view: this.view(), device }, name, actor)
      if (Result.isFailure(decided)) {
        const { denied, refusal } = decided.failure
        if (denied) yield* this.#note(actor, `denied ${name}`, (times) => ({ type: "secret.denied/1", subject: subjectOf(name), body: { name, times, why: refusal.detail.slice(0, 256) } }))
        return yield* refusal
      }
      const version = decided.success
      const store = yield* this.#opened()
      let value = this.#open(version, store)
      if (value === undefined) {
        // It may lie sealed in a log already.
        yield* this.step().pipe(Effect.ignore)
        value = this.#open(version, store)
      }
      if (value === undefined) {
        return yield* new Refusal({ kind: "pending", detail: `the key of ${name} has not reached this node yet; it comes when this node meets one that holds it`, hint: "kos vault list" })
      }
      yield* this.#note(actor, `read ${name} ${version.version}`, (times) => ({ type: "secret.read/1", subject: subjectOf(name), body: { name, version: version.version, times } }))
      return { name, version: version.version, value }
    })
  }

  /** One step of the keeper; tells after how many milliseconds it wants another, if it does. */
  step(): Effect.Effect<number | undefined, Refusal> {
    return this.#exclusive(Effect.gen({ self: this }, function*() {
      const { device, membership, dispatch } = this.#parts
      const store = yield* this.#opened()
      const me = membership().members.get(device)
      if (me === undefined) return undefined
      if (!mayHold(me)) {
        // Whoever left, was revoked or became a seeder holds no keys. Nothing is said: it may say nothing, or nobody listens.
        yield* attempt(() => store.destroy())
        return undefined
      }
      const view = this.view()
      const planned = this.#plan(view, store)
      if (planned.next !== undefined) {
        const next = planned.next
        yield* attempt(() => store.write(next))
      }
      if (planned.replaced) this.#replacedMs = this.#parts.now()
      const events = this.#says(view, store, planned.refused)
      const due = this.#shares(view, store)
      const all = [...events, ...due.events]
      if (all.length > 0) yield* dispatch.record(all.slice(0, stepEventsMax))
      const waits = [planned.again, due.again, all.length > stepEventsMax ? 0 : undefined].filter((ms) => ms !== undefined)
      return waits.length === 0 ? undefined : Math.min(...waits)
    }))
  }

  /** Writes what was counted and not recorded yet: `all` of it, or what is older than the window. */
  flush(all: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      const now = this.#parts.now()
      const old = [...this.#notes].filter(([, note]) => all || now - note.ms >= noteWindowMs)
      for (const [key] of old) this.#notes.delete(key)
      return Effect.forEach(old.filter(([, { times }]) => times > 0), ([, { event, actor, times }]) => this.#parts.dispatch.record([event(times)], actor).pipe(Effect.ignore), { discard: true })
    })
  }

  /** What is to be kept, and under which reader key. */
  #plan(view: SecretsView, store: SecretStore): {
    readonly next: SecretState | undefined; readonly replaced: boolean; readonly refused: ReadonlyArray<string>; readonly again: number | undefined
  } {
    const { device, now, settled, rows } = this.#parts
    const { state } = store
    const kept = view.keptBy(device)
    const items = new Map(state.items)
    const known = view.readerOf(device)
    const key = store.readerKeys === undefined ? undefined : toHex(store.readerKeys.publicKey)
    const isOpen = (item: string): boolean => view.shredded(device, item) === undefined && (key === undefined || !view.receipted(device, item, key))
    const destroyed = new Map([...state.destroyed].filter(([item]) => isOpen(item)))
    const { stale, bad } = this.#take(view, store, kept.recipient, items)
    const removed = new Map([...view.secrets.values()].flatMap((secret) => secret.removed.map((version) => [version.item, version.name] as const)))
    for (const [item, { name }] of items) {
      // A version that is not known may be one that is being folded anew.
      if (kept.recipient.has(item) || kept.courier.has(item) || view.version(item) === undefined || (!removed.has(item) && !settled())) continue
      items.delete(item)
      destroyed.set(item, name)
    }
    for (const [item, name] of [...removed, ...(settled() ? stale : [])]) if (view.exposed(item).includes(device) && isOpen(item)) destroyed.set(item, name)
    // A key that a log still has sealed to the reader key, or that was held under it, is destroyed only with it.
    const sealedNow = new Set(key === undefined ? [] : rows.sealedTo(key).map(({ item }) => item))
    const overtaken = known !== undefined && known.key !== key && known.generation >= (state.reader?.generation ?? 0)
    const mustReplace = key === undefined || overtaken || bad.size > 0 || [...destroyed.keys()].some((item) => sealedNow.has(item) || view.holds(device, item))
    if (overtaken && key !== undefined) this.#leaps++
    const gap = Math.min(replaceGapMsMax, replaceGapMs * 2 ** Math.min(12, this.#leaps))
    const waits = this.#replacedMs + gap - now()
    if (mustReplace && key !== undefined && waits > 0) {
      // Taken out is taken out; what is to be destroyed waits for the replacement, so that its receipt is true.
      const grown = [...items].some(([item]) => !state.items.has(item))
      return { next: grown ? { ...state, items: new Map([...state.items, ...items]) } : undefined, replaced: false, refused: [], again: waits }
    }
    const reader = mustReplace ? { generation: Math.min(secretCountMax, Math.max(state.reader?.generation ?? 0, known?.generation ?? 0) + 1), seed: randomBytes(32) } : state.reader
    const changed = mustReplace || !sameKeys(items, state.items) || !sameKeys(destroyed, state.destroyed)
    return { next: changed ? { reader, items, destroyed } : undefined, replaced: mustReplace && key !== undefined, refused: [...bad], again: settled() ? undefined : replaceGapMs }
  }

  /** Takes out what is sealed to the reader key: into `items` when it is for this node. `stale` opens and is not for it; `bad` gave what does not open. */
  #take(view: SecretsView, store: SecretStore, wanted: ReadonlySet<string>, items: Map<string, KeptItem>): {
    readonly stale: ReadonlyMap<string, string>; readonly bad: ReadonlySet<string>
  } {
    const stale = new Map<string, string>()
    const faulty = new Map<string, string>()
    const keys = store.readerKeys
    if (keys === undefined) return { stale, bad: new Set() }
    const { membership, device, rows } = this.#parts
    const refused = view.readerOf(device)?.refused
    for (const box of rows.sealedTo(toHex(keys.publicKey))) {
      const version = view.version(box.item)
      const place = `${box.log}/${box.block}.${box.offset}/${box.item}`
      if (version === undefined || items.has(box.item) || this.#useless.has(place)) continue
      const itemKey = openSealed(box.sealed, keys)
      if (itemKey !== undefined && isItemKey(itemKey, version.commit, version)) {
        if (wanted.has(box.item)) items.set(box.item, { name: version.name, key: itemKey })
        else stale.set(box.item, version.name)
        continue
      }
      if (this.#useless.size >= uselessBoxesMax) this.#useless.clear()
      this.#useless.add(place)
      const by = membership().devices.get(box.log)
      if (wanted.has(box.item) && by !== undefined && refused?.has(by) !== true) faulty.set(box.item, by)
    }
    return { stale, bad: new Set([...faulty].filter(([item]) => !items.has(item)).map(([, by]) => by)) }
  }

  /** The reader key, what is held under it, and receipts, as far as the tables do not know them. */
  #says(view: SecretsView, store: SecretStore, bad: ReadonlyArray<string>): ReadonlyArray<Wanted> {
    const { device } = this.#parts
    const { reader, items, destroyed } = store.state
    const keys = store.readerKeys
    if (reader === undefined || keys === undefined) return []
    const known = view.readerOf(device)
    const key = toHex(keys.publicKey)
    const announced = known?.key === key
    // Another copy of this device spoke last: what is said under this key would not be heard.
    if (!announced && known !== undefined && known.generation >= reader.generation) return []
    const events: Array<Wanted> = []
    if (!announced) {
      const refused = [...new Set([...(known?.refused ?? []), ...bad])].slice(-16)
      events.push({ type: "secret.reader/1", subject: "secrets", body: { generation: reader.generation, key: keys.publicKey, refused } })
    }
    const { recipient } = view.keptBy(device)
    const held = [...items.keys()].filter((item) => recipient.has(item) && !(announced && view.holds(device, item)))
    for (const part of portions(held)) events.push({ type: "secret.held/1", subject: "secrets", body: { reader: keys.publicKey, items: itemBytes(part) } })
    const names = Map.groupBy([...destroyed].filter(([item]) => !view.receipted(device, item, key)), ([, name]) => name)
    for (const [name, list] of names) {
      for (const part of portions(list.map(([item]) => item))) {
        events.push({ type: "secret.shredded/1", subject: subjectOf(name), body: { name, reader: keys.publicKey, items: itemBytes(part) } })
      }
    }
    return events
  }

  /** Boxes for those who lack an item key that this node has. The author gives at once, others after a moment that differs from node to node. */
  #shares(view: SecretsView, store: SecretStore): { readonly events: ReadonlyArray<Wanted>; readonly again: number | undefined } {
    const { device, now } = this.#parts
    const lacking = view.lacking().filter((one) => one.device !== device && store.state.items.has(one.version.item) && view.readerOf(one.device)?.refused.has(device) !== true && !view.gave(device, one.version.item, one.reader))
    const wanted = new Set(lacking.map(({ version, reader }) => `${version.item}/${reader}`))
    for (const key of this.#due.keys()) if (!wanted.has(key)) this.#due.delete(key)
    const giving = new Map<string, { readonly version: SecretVersion; readonly readers: Array<string> }>()
    let again: number | undefined
    for (const { version, reader } of lacking) {
      const key = `${version.item}/${reader}`
      const due = this.#due.get(key) ?? now() + (version.author === device ? 0 : shareAfterMs + spread(device, key))
      this.#due.set(key, due)
      const waits = due - now()
      if (waits > 0) again = Math.min(again ?? waits, waits)
      else {
        const list = giving.get(version.item)
        if (list === undefined) giving.set(version.item, { version, readers: [reader] })
        else list.readers.push(reader)
      }
    }
    return {
      again, events: [...giving.values()].flatMap(({ version, readers }) => {
        const kept = store.state.items.get(version.item)
        return kept === undefined ? [] : shareEvents(version.name, version.item, kept.key, readers)
      })
    }
  }

  #write(name: string, asker: Asker, decide: (situation: SecretsSituation, store: SecretStore) => Effect.Effect<VersionDraft, Refusal>): Effect.Effect<Done, Refusal> {
    return this.#exclusive(Effect.gen({ self: this }, function*() {
      const store = yield* this.#opened()
      let stored: string | undefined
      return yield* this.#parts.dispatch.run(name, asker, [], Effect.gen({ self: this }, function*() {
        const situation = this.#situation()
        const version = yield* decide(situation, store)
        const sealed = sealVersion(situation.view, version)
        version.value.fill(0)
        // Before the event: an item key that is lost cannot be given to anybody.
        yield* attempt(() => store.write({ ...store.state, items: new Map(store.state.items).set(sealed.item, { name: version.place.name, key: sealed.itemKey }) }))
        stored = sealed.item
        return { summary: `${version.fresh ? "set" : "sealed anew"} ${version.place.name}, version ${version.place.version}`, events: sealed.events }
      })).pipe(Effect.tapError(() => {
        const items = new Map(store.state.items)
        return stored === undefined || !items.delete(stored) ? Effect.void : attempt(() => store.write({ ...store.state, items })).pipe(Effect.ignore)
      }))
    }))
  }

  #open(version: SecretVersion, store: SecretStore): Uint8Array | undefined {
    const kept = store.state.items.get(version.item)
    const sealed = this.#parts.rows.sealed(version.item)
    return kept === undefined || sealed === undefined ? undefined : openSecret(sealed, kept.key, version)
  }

  #situation(): SecretsSituation {
    const { membership, places, device, log } = this.#parts
    return { view: this.view(), membership: membership(), places, device, log: log() }
  }

  #opened(): Effect.Effect<SecretStore, Refusal> {
    return this.#store !== undefined ? Effect.succeed(this.#store) : this.#lock.with(["store"], Effect.gen({ self: this }, function*() {
      const store = this.#store ?? (yield* attempt(() => this.#parts.openStore()))
      if (this.#store === undefined && store.damaged) {
        yield* this.#parts.dispatch.record([{
          type: "node.recovered/1", subject: "node", body: { what: "secrets", detail: "this node's store of item keys did not open and is overwritten; others that hold them give them anew" }
        }]).pipe(Effect.ignore)
      }
      return (this.#store = store)
    }))
  }

  #exclusive<A, E>(work: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return this.#lock.with(["keeper"], Effect.uninterruptible(work))
  }

  /** Records at once, or counts when this was recorded within the window. What cannot be recorded is counted and keeps nobody from working. */
  #note(actor: string, what: string, event: (times: number) => Wanted): Effect.Effect<void> {
    return Effect.suspend(() => {
      const now = this.#parts.now()
      const key = `${actor} ${what}`
      const note = this.#notes.get(key)
      if (note !== undefined && now - note.ms < noteWindowMs && now >= note.ms) {
        note.times++
        return Effect.void
      }
      const times = (note?.times ?? 0) + 1
      const entry = { event, actor, ms: now, times: 0 }
      this.#notes.set(key, entry)
      const record = this.#parts.dispatch.record([event(times)], actor).pipe(
        Effect.catch(() => Effect.sync(() => { entry.times += times })), Effect.asVoid
      )
      return this.#notes.size > notesMax ? Effect.andThen(record, this.flush(true)) : record
    })
  }
}

const portions = <A>(all: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(all.length / itemsInEventMax) }, (_, i) => all.slice(i * itemsInEventMax, (i + 1) * itemsInEventMax))

const sameKeys = (a: ReadonlyMap<string, unknown>, b: ReadonlyMap<string, unknown>): boolean => a.size === b.size && [...a.keys()].every((key) => b.has(key))

/** 0 to below `shareSpreadMs`, the same for one device and one box, different between devices. */
const spread = (device: string, key: string): number => {
  const [high = 0, low = 0] = hashParts("kos/secret-spread/1", utf8(device), utf8(key))
  return ((high * 256 + low) * shareSpreadMs) >> 16
}

const attempt = <A>(run: () => Promise<A>): Effect.Effect<A, Refusal> => Effect.tryPromise({
  try: run, catch: (cause) => new Refusal({ kind: "degraded", detail: `this node's store of secrets cannot be used: ${cause instanceof Error ? cause.message : "unknown reason"}`, hint: "kos doctor" })
})
