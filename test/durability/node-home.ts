/** One node on one directory, opened as boot opens it, with a peer in the same process when there is one. For `corruption.test.ts`. */
import Corestore from "corestore"
import { Context, Effect, Exit, Layer, Result, Scope } from "effect"
import { setTimeout as wait } from "node:timers/promises"
import { openStore } from "../../src/boot/open-store.ts"
import { type OwnLogReport, settleOwnLog } from "../../src/boot/own-log.ts"
import { toHex } from "../../src/codec/bytes.ts"
import { encodeEvent, frameHeader, frameKey, openFrame } from "../../src/codec/frame.ts"
import { hashParts } from "../../src/codec/hash.ts"
import { randomBytes } from "../../src/codec/signature.ts"
import { HypercoreStore } from "../../src/events/hypercore-store.ts"
import { type Draft, Journal } from "../../src/events/journal.ts"
import { Disk } from "../../src/events/ports.ts"
import { singleKeyring } from "../../src/vault/keyring.ts"
import { Vault } from "../../src/vault/vault.ts"
import { join } from "./replicate.ts"

export interface Home {
  readonly vault: Vault
  readonly mesh: string
  readonly meshKey: Uint8Array
  /** Holds `store` and `mark`. */
  readonly directory: string
}

export interface OpenNode {
  readonly store: HypercoreStore
  readonly journal: Journal["Service"]
  readonly report: OwnLogReport
  readonly notes: ReadonlyArray<string>
  /** Ends in good order, or as a crash does. */
  close(clean: boolean): Promise<void>
}

/** How long a heal may take, milliseconds. */
const healMsMax = 2_000

export const makeHome = async (directory: string): Promise<Home> => {
  const vault = await Vault.create(directory)
  const mesh = toHex(randomBytes(32))
  const meshKey = randomBytes(32)
  await vault.addMesh(mesh, meshKey, randomBytes(32))
  return { vault, mesh, meshKey, directory: vault.meshDirectory(mesh) }
}

/** Opens, settles the own log (peers heal it) and begins to write. `boot` names the start of the machine. */
export const openNode = async (home: Home, boot: string, peer: HypercoreStore | undefined): Promise<OpenNode> => {
  const { vault, mesh, directory } = home
  const notes: Array<string> = []
  const notice = (_level: string, text: string): void => void notes.push(text)
  const { keyPair } = await vault.logKeyPair(mesh)
  const store = await openStore({ directory, own: keyPair, now: () => 1, notice })
  const scope = Effect.runSync(Scope.make())
  const disk = Layer.effect(Disk, Effect.map(Disk, (real) => Disk.of({ ...real, bootId: Effect.succeed(boot) }))).pipe(Layer.provide(Disk.layer(directory)))
  const services = await Effect.runPromise(Layer.buildWithScope(
    Journal.layer(keyPair, () => singleKeyring(home.meshKey)).pipe(Layer.provide(Layer.merge(HypercoreStore.layer(store), disk))), scope
  ))
  const journal = Context.get(services, Journal)
  const report = await Effect.runPromise(settleOwnLog({
    journal, vault, mesh, notice,
    heal: async (length) => {
      if (peer !== undefined) await meet(peer, store, journal.log(), length)
      return journal.length() >= length
    },
    word: async () => peer === undefined ? 0 : heldBy(peer, journal.log())
  }))
  journal.begin()
  return {
    store, journal, report, notes,
    close: async (clean) => {
      if (clean) await Effect.runPromise(journal.stop())
      await Effect.runPromise(Scope.close(scope, Exit.void))
      await store.close()
    }
  }
}

/**
 * `to` takes a log from `from` up to a length, as the swarm does it: first the tree hashes are compared, and a log with another
 * history is never attached. Throws when the histories differ. Less is taken when `from` holds less.
 */
export const meet = async (from: HypercoreStore, to: HypercoreStore, log: string, length: number): Promise<void> => {
  const [theirs, ours] = [await from.session(log), await to.session(log)]
  let conflict = ""
  for (const core of [theirs, ours]) core.on("conflict", () => conflict = "Hypercore found a conflict")
  const both = Math.min(theirs.contiguousLength, ours.contiguousLength)
  if (both > 0 && !(await theirs.treeHash(both)).equals(await ours.treeHash(both))) throw new Error(`two histories of ${both} blocks`)
  const part = join(theirs, ours)
  const range = ours.download({ start: 0, end: Math.min(length, theirs.contiguousLength) })
  await Promise.race([range.done(), wait(healMsMax)])
  range.destroy()
  await part()
  await theirs.close()
  await ours.close()
  if (conflict !== "") throw new Error(conflict)
}

export const heldBy = async (store: HypercoreStore, log: string): Promise<number> => {
  const held = await store.openHeld(log)
  const length = held.length()
  await held.close()
  return length
}

/** Moves what stands in the write-ahead file into tables (SST), as RocksDB does when it has gathered enough. */
export const flushStore = async ({ directory }: Home): Promise<void> => {
  const store = new Corestore(`${directory}/store`, { wait: true })
  await store.ready()
  await store.storage.db.flush()
  await store.close()
}

export const draft = (text: string): Draft =>
  ({ type: "command.done/1", actor: "device", subject: "node", command: "", cause: [], body: { name: "test", detail: text } })

/** What was answered for one event, and how it is known again. */
export interface Acknowledged {
  readonly log: string
  readonly block: number
  readonly offset: number
  readonly hash: string
}

/** Appends one unit and remembers its events, and the tree of the log as its peers know it from now on. */
export const append = async (
  { journal }: OpenNode, texts: ReadonlyArray<string>, acknowledged: Array<Acknowledged>, heads: Map<string, string>
): Promise<void> => {
  const { log, block, offset, events } = await Effect.runPromise(journal.append(texts.map(draft)))
  events.forEach((event, i) => acknowledged.push({ log, block, offset: offset + i, hash: toHex(hashParts("test", encodeEvent(event, log))) }))
  heads.set(`${log}/${block + 1}`, await journal.treeHash(block + 1))
}

/** Which of these events this store can show, unchanged, by `block.offset`. */
export const shown = async (store: HypercoreStore, meshKey: Uint8Array, events: ReadonlyArray<Acknowledged>): Promise<ReadonlySet<Acknowledged>> => {
  const out = new Set<Acknowledged>()
  for (const log of new Set(events.map((event) => event.log))) {
    const held = await store.openHeld(log)
    const mine = events.filter((event) => event.log === log)
    for (const block of new Set(mine.map((event) => event.block))) {
      const bytes = await held.get(block).catch(() => undefined)
      if (bytes === undefined) continue
      const place = { log, block }
      const opened = Result.getOrThrow(openFrame(bytes, place, frameKey(meshKey, place, Result.getOrThrow(frameHeader(bytes)).nonce)))
      for (const event of mine.filter((one) => one.block === block)) {
        const found = opened[event.offset]
        if (found !== undefined && toHex(hashParts("test", encodeEvent(found, log))) === event.hash) out.add(event)
      }
    }
    await held.close()
  }
  return out
}
