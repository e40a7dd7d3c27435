/**
 * A whole node of the product as boot puts it together (store, tables, membership, journal, worker, runner, swarm), without a
 * home and its vault: keys come from names, so that a fixture made in one process opens in another.
 */
import { Context, Effect, Exit, Layer, Result, Scope } from "effect"
import * as fs from "node:fs"
import * as path from "node:path"
import { toHex } from "../src/codec/bytes.ts"
import { admissionHash, draftOperation, signOperation, type Statement } from "../src/codec/operation.ts"
import { encodeEvent, nonceBytes, sealFrame } from "../src/codec/frame.ts"
import { randomBytes, sign } from "../src/codec/signature.ts"
import { HypercoreStore, logKey } from "../src/events/hypercore-store.ts"
import { Journal } from "../src/events/journal.ts"
import { Disk } from "../src/events/ports.ts"
import { makeSwarmHost } from "../src/boot/swarm-host.ts"
import { DocumentWorker } from "../src/projections/documents/pool.ts"
import { Members } from "../src/projections/members.ts"
import { Runner } from "../src/projections/runner.ts"
import { Tables } from "../src/projections/tables/tables.ts"
import type { Carrier } from "../src/swarm/carrier.ts"
import { makeSwarm, type Swarm } from "../src/swarm/swarm.ts"
import { singleKeyring } from "../src/vault/keyring.ts"
import { benchCommand, benchKeyPair, meshKey } from "./kos.ts"
import type { PlayedBurst } from "./changes.ts"
import { writersDefault } from "./workload.ts"

const writerPair = (writer: number) => benchKeyPair(`writer ${writer}`)
export const writerLogs = Array.from({ length: writersDefault }, (_, writer) => logKey(writerPair(writer).publicKey))
export const serverDevice = toHex(benchKeyPair("server").publicKey)
const awayDevice = toHex(benchKeyPair("away").publicKey)
const foundedMs = 1_800_000_000_000

/** The mesh of the server, which owns the nine writers' logs, and the node that was away. */
const operations = (() => {
  const server = benchKeyPair("server")
  const invite = benchKeyPair("invite")
  const list: Array<Uint8Array> = []
  let mesh = ""
  let parent = ""
  const say = (says: Statement) => {
    const unsigned = draftOperation({ mesh, author: serverDevice, parents: parent === "" ? [] : [parent], ms: foundedMs, says })
    const made = signOperation(unsigned, server)
    if (Result.isFailure(made)) throw made.failure
    list.push(made.success.bytes)
    parent = unsigned.hash
    if (mesh === "") mesh = parent
  }
  say({ kind: "mesh.created", name: "bench", nonce: new Uint8Array(32) })
  for (const log of writerLogs) say({ kind: "log.attached", log })
  const inviteId = toHex(invite.publicKey)
  const log = logKey(benchKeyPair("away log").publicKey)
  say({ kind: "invite.issued", invite: inviteId, role: "member", expiresMs: foundedMs + 3_600_000, uses: 1 })
  say({ kind: "member.admitted", device: awayDevice, log, name: "away", role: "member", invite: inviteId, proof: sign(admissionHash(mesh, inviteId, awayDevice, log), invite) })
  return { mesh, list }
})()

export interface BenchNode {
  readonly tables: Tables
  readonly runner: Runner
  readonly swarm: Swarm
  readonly store: HypercoreStore
  /** Sorted heads of a document as the tables have them. */
  heads(doc: string): string
  /** Saves every document, as the reactor of boot does when enough changes have come since the last time. */
  save(): Promise<void>
  close(): Promise<void>
}

export const openBenchNode = async (directory: string, name: "server" | "away", carriers: () => ReadonlyArray<Carrier>): Promise<BenchNode> => {
  fs.mkdirSync(directory, { recursive: true })
  const store = await HypercoreStore.open(path.join(directory, "logs"))
  const tables = new Tables(path.join(directory, "tables.db"))
  const members = new Members(operations.mesh, tables)
  tables.transaction(() => {
    for (const bytes of operations.list) {
      const taken = members.take(bytes, "met")
      if (Result.isFailure(taken)) throw new Error(taken.failure)
    }
  })
  const keyring = singleKeyring(meshKey)
  const scope = Scope.makeUnsafe()
  const services = await Effect.runPromise(Layer.buildWithScope(
    Layer.merge(Journal.layer(name === "server" ? writerPair(0) : benchKeyPair("away log"), () => keyring), DocumentWorker.layer).pipe(
      Layer.provide(Layer.merge(HypercoreStore.layer(store), Disk.layer(directory)))
    ), scope
  ))
  const journal = Context.get(services, Journal)
  const worker = Context.get(services, DocumentWorker)
  const notice = (level: string, text: string) => {
    if (level === "warn") process.stderr.write(`${name}: ${text}\n`)
  }
  const runner = new Runner({
    tables, members, worker, keyring: () => keyring, now: () => Date.now(), notice, ownDevice: name === "server" ? serverDevice : awayDevice,
    open: (log) => store.openHeld(log), observe: (stamp) => journal.observe(stamp),
    ownLog: () => ({ log: journal.log(), length: journal.length() })
  })
  const { host } = makeSwarmHost({
    keyPair: benchKeyPair(name), device: name === "server" ? serverDevice : awayDevice, mesh: { id: operations.mesh, key: meshKey },
    tables, members, runner, journal, store, now: () => Date.now(), notice,
    onDiverged: (log) => notice("warn", `log ${log} diverged`), onOwnLogAhead: () => undefined, onTouched: () => undefined
  })
  const swarm = makeSwarm(host, carriers, { now: () => Date.now() })
  return {
    tables, runner, swarm, store,
    heads: (doc) => (tables.documents.state(doc)?.heads ?? []).toSorted().join(),
    save: async () => {
      for (const { id } of tables.documents.list("memory")) {
        const saved = await Effect.runPromise(worker.save(id, (doc) => tables.documents.load(doc)))
        if (saved !== undefined) tables.documents.putSnapshot(id, saved.snapshot, saved.gate)
      }
    },
    close: async () => {
      await swarm.stop()
      await runner.stop()
      await Effect.runPromise(Scope.close(scope, Exit.void))
      tables.close()
      await store.close()
    }
  }
}

/** Writes bursts into the writers' logs, each as one frame, in this order; returns the length of each log then. */
export const writeBursts = async (directory: string, docs: ReadonlyArray<string>, bursts: ReadonlyArray<PlayedBurst>): Promise<Record<string, number>> => {
  fs.mkdirSync(directory, { recursive: true })
  const store = await HypercoreStore.open(path.join(directory, "logs"))
  const logs = await Promise.all(writerLogs.map((_, writer) => store.openOwn(writerPair(writer))))
  let ms = foundedMs
  for (const { writer, doc, changes } of bursts) {
    const log = logs[writer]
    if (log === undefined) continue
    const events = changes.map((change, count) => encodeEvent({
      type: "memory.changed/1", at: { ms, count }, actor: "person:mara", subject: docs[doc] ?? "", command: benchCommand, cause: [],
      body: { change, paths: ["text"], summary: "" }
    }, log.key))
    ms += 1_000
    await log.append(sealFrame(events, { log: log.key, block: log.length() }, 0, meshKey, randomBytes(nonceBytes)), async () => undefined)
  }
  const lengths = Object.fromEntries(logs.map((log) => [log.key, log.length()]))
  for (const log of logs) await log.close()
  await store.close()
  return lengths
}

/** Folds what the logs of a closed home hold, up to these lengths; with snapshots on demand. */
export const foldHome = async (directory: string, name: "server" | "away", lengths: Readonly<Record<string, number>>, save = false) => {
  const node = await openBenchNode(directory, name, () => [])
  await foldTo(node, lengths)
  if (save) await node.save()
  await node.close()
}

export const foldTo = async (node: BenchNode, lengths: Readonly<Record<string, number>>) => {
  for (const [log, length] of Object.entries(lengths)) node.tables.heads.grew(log, length)
  await Promise.all(Object.entries(lengths).map(([log, length]) => node.runner.folded(log, length)))
  await node.runner.idle()
}
