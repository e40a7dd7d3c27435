/** Where the benchmarks touch the product: everything kOS-specific that a case needs, and nothing else of it. */
import { Context, Effect, Exit, Layer, Scope } from "effect"
import * as fs from "node:fs"
import { createHash } from "node:crypto"
import { type KeyPair, keyPairFromSeed } from "../src/codec/signature.ts"
import { uuidv7 } from "../src/codec/uuid.ts"
import { HypercoreStore, logManifest } from "../src/events/hypercore-store.ts"
import { type Draft, Journal } from "../src/events/journal.ts"
import { Disk } from "../src/events/ports.ts"
import { Database } from "../src/projections/tables/database.ts"
import { EventIndex, type NewEvent } from "../src/projections/tables/event-index.ts"
import { Names } from "../src/projections/tables/names.ts"
import { Vault } from "../src/vault/vault.ts"
import { singleKeyring } from "../src/vault/keyring.ts"

/** Keys by name, the same in every run, so that fixtures of different processes agree. */
export const benchSeed = (name: string): Uint8Array => createHash("sha256").update(`kos bench ${name}`).digest()
export const benchKeyPair = (name: string): KeyPair => keyPairFromSeed(benchSeed(name))
export const meshKey = benchSeed("mesh")

/** One setting changed, as a person's command makes it: the payload stands where the document's binary change does. */
export const draftOf = (change: Uint8Array, subject = "config/node/network"): Draft => ({
  type: "config.changed/1", actor: "person:mara", subject, command: benchCommand, cause: [], body: { change, paths: ["retry.limit"], summary: "" }
})
export const benchCommand = uuidv7(1_800_000_000_000, Buffer.alloc(10, 7))

export { logManifest }

export interface BenchJournal {
  readonly log: string
  /** Resolves when the events are synced and published: they were one unit of one frame. */
  append(drafts: ReadonlyArray<Draft>): Promise<void>
  blocks(): number
  /** Bytes of all blocks. */
  bytes(): Promise<number>
  readonly walDirectory: string
  close(): Promise<void>
}

/** The real journal over the real store, as boot wires them. */
export const openJournal = (directory: string, name = "node"): Promise<BenchJournal> =>
  journalIn(directory, `${directory}/logs`, benchKeyPair(name), meshKey)

/** The own log of a stopped node. */
export const openHomeJournal = async (home: string): Promise<BenchJournal> => {
  const vault = await Vault.open(home)
  const mesh = await vault?.currentMesh()
  if (vault === undefined || mesh === undefined) throw new Error(`${home} is no node`)
  const directory = vault.meshDirectory(mesh)
  return journalIn(directory, `${directory}/store`, (await vault.logKeyPair(mesh)).keyPair, await vault.meshKey(mesh))
}

const journalIn = async (directory: string, logs: string, keyPair: KeyPair, key: Uint8Array): Promise<BenchJournal> => {
  fs.mkdirSync(logs, { recursive: true, mode: 0o700 })
  const store = await HypercoreStore.open(logs)
  const scope = Scope.makeUnsafe()
  const layer = Journal.layer(keyPair, () => singleKeyring(key)).pipe(
    Layer.provide(Layer.merge(HypercoreStore.layer(store), Disk.layer(directory)))
  )
  const context = await Effect.runPromise(Layer.buildWithScope(layer, scope))
  const journal = Context.get(context, Journal)
  journal.begin()
  return {
    log: journal.log(),
    append: async (drafts) => {
      await Effect.runPromise(journal.append(drafts))
    },
    blocks: () => journal.length(),
    bytes: async () => {
      const log = await store.openHeld(journal.log())
      let sum = 0
      for (let block = 0; block < log.length(); block++) sum += (await log.get(block)).byteLength
      await log.close()
      return sum
    },
    walDirectory: `${logs}/db`,
    close: async () => {
      await Effect.runPromise(journal.stop())
      await Effect.runPromise(Scope.close(scope, Exit.void))
      await store.close()
    }
  }
}

export interface BenchIndex {
  /** One transaction: rows and counts. */
  add(events: ReadonlyArray<NewEvent>): void
  /** Rows found. */
  query(log: string, type: string, since: number, until: number, limit: number): number
  close(): void
}

export const openIndex = async (file: string): Promise<BenchIndex> => {
  const database = new Database(file)
  const index = new EventIndex(database, new Names(database))
  return {
    add: (events) => {
      index.add(events)
    },
    query: (log, type, since, until, limit) => index.query({ logs: [log], types: [type], since, until, order: "newest", limit }).events.length,
    close: () => database.close()
  }
}
