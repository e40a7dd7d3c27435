/** Logs in memory, members as a test says, and runners over real tables and a real worker. */
import { Context, Effect, Exit, Layer, Scope } from "effect"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import type { Envelope } from "../src/codec/envelope.ts"
import { encodeEvent, sealFrame } from "../src/codec/frame.ts"
import { hashParts } from "../src/codec/hash.ts"
import { DocumentWorker } from "../src/projections/documents/pool.ts"
import { type AttachedLog, Members } from "../src/projections/members.ts"
import { Runner } from "../src/projections/runner.ts"
import { Tables } from "../src/projections/tables/tables.ts"
import { honest, logKey, type Random } from "./documents-world.ts"

export const documents = ["config/mesh/net", "memory/notes/a", "memory/notes/b", "memory/work/c"]
export const keyOf = (epoch: number): Uint8Array => hashParts("test/epoch", utf8(String(epoch)))
export const deviceOf = (log: string): string => toHex(hashParts("test/device", utf8(log)))

/** Log to its blocks. */
export type Logs = ReadonlyMap<string, ReadonlyArray<Uint8Array>>

/** What `writers` logs wrote: changes of documents that build on each other, checkpoints, measurements, types of the future, wrong bodies. */
export const worldOf = (random: Random, writers: number, count: number, options: { readonly epochs?: number; readonly perBlock?: number } = {}): Logs => {
  const changes = documents.flatMap((doc) => honest(doc, writers, Math.ceil(count / documents.length), random).changes.map((change) => ({ ...change, doc })))
  // Each document in its own order, mixed with the others.
  const queues = documents.map((doc) => changes.filter((change) => change.doc === doc))
  const events = new Map<string, Array<Envelope>>()
  let ms = 1_800_000_000_000
  const put = (log: string, type: string, subject: string, body: unknown): void => {
    const list = events.get(log)
    const envelope: Envelope = { type, at: { ms: ms++, count: 0 }, actor: "device", subject, command: "", cause: [], body }
    if (list === undefined) events.set(log, [envelope])
    else list.push(envelope)
  }
  while (queues.some((queue) => queue.length > 0)) {
    const next = queues[random(queues.length)]?.shift()
    if (next === undefined) continue
    put(next.log, `${next.doc.split("/")[0]}.changed/1`, next.doc, { change: next.change, paths: ["x"], summary: "a change" })
    const other = random(8)
    if (other === 0) put(next.log, "checkpoint.made/1", "logs", { logs: [{ log: logKey(random(writers)), fork: 0, length: 1 + random(9), treeHash: "ab".repeat(32) }] })
    if (other === 1) put(next.log, "node.measured/1", "node", { uptimeSeconds: 1, memoryBytes: 1, diskFreeBytes: 1, peers: 0, events: 0 })
    if (other === 2) put(next.log, "future.come/9", "node", { a: 1 })
    if (other === 3) put(next.log, "node.stopped/1", "node", { no: 1 })
    if (other === 4) put(next.log, "memory.changed/1", "config/mesh/net", { change: next.change, paths: [], summary: "wrong family" })
  }
  return new Map([...events].map(([log, list]) => {
    const blocks: Array<Uint8Array> = []
    for (let at = 0; at < list.length;) {
      const portion = list.slice(at, at + 1 + random(options.perBlock ?? 3))
      at += portion.length
      const epoch = 1 + random(options.epochs ?? 1)
      blocks.push(sealFrame(portion.map((envelope) => encodeEvent(envelope, log)), { log, block: blocks.length }, epoch, keyOf(epoch)))
    }
    return [log, blocks]
  }))
}

export type Cuts = ReadonlyMap<string, { readonly cutAt?: number; readonly docsTo?: number }>

export class TestMembers extends Members {
  #list: ReadonlyArray<AttachedLog> = []

  say(logs: Iterable<string>, cuts: Cuts): void {
    this.#list = [...logs].map((log) => ({ log, device: deviceOf(log), closedAt: undefined, cutAt: cuts.get(log)?.cutAt, docsTo: cuts.get(log)?.docsTo }))
    this.changed()
  }

  override logs(): ReadonlyArray<AttachedLog> {
    return this.#list
  }

  override deviceOf(log: string): string | undefined {
    return this.#list.find((entry) => entry.log === log)?.device
  }
}

export interface Node<M = TestMembers> {
  readonly tables: Tables
  readonly members: M
  readonly worker: DocumentWorker["Service"]
  readonly runner: Runner
  readonly notices: Array<string>
  readonly keys: Set<number>
  grow(log: string, length: number): void
  close(): Promise<void>
}

/** Starting a thread takes most of a short test: nodes that are closed leave theirs, empty, to the next. */
const scope = Effect.runSync(Scope.make())
const free: Array<DocumentWorker["Service"]> = []
export const endWorkers = (): Promise<void> => Effect.runPromise(Scope.close(scope, Exit.void))

/** The own log is one that nobody writes; the first log is one of before. `logs` are held as far as `grow` said. */
export const openNode = async (file: string, logs: Logs, keys: ReadonlyArray<number> = [1]): Promise<Node> => {
  const tables = new Tables(file)
  const members = new TestMembers("00".repeat(32), tables)
  members.say(logs.keys(), new Map())
  return opened(tables, members, logs, keys)
}

/** The same with the rules of membership. */
export const openRealNode = async (file: string, logs: Logs, mesh: string): Promise<Node<Members>> => {
  const tables = new Tables(file)
  return opened(tables, new Members(mesh, tables), logs, [1])
}

const opened = async <M extends Members>(tables: Tables, members: M, logs: Logs, keys: ReadonlyArray<number>): Promise<Node<M>> => {
  const worker = free.pop() ?? Context.get(await Effect.runPromise(Layer.buildWithScope(Layer.fresh(DocumentWorker.layer), scope)), DocumentWorker)
  const held = new Set(keys)
  const notices: Array<string> = []
  const runner = new Runner({
    tables, members, worker, now: () => 1_800_000_000_000, ownDevice: deviceOf(logKey(0)), notice: (_level, text) => notices.push(text), observe: () => undefined,
    keyring: () => ({ current: undefined, shared: () => [], keys: (epoch) => held.has(epoch) ? [keyOf(epoch)] : [] }),
    ownLog: () => ({ log: "ff".repeat(32), length: 0 }),
    open: async (log) => ({
      key: log, length: () => tables.heads.get(log)?.length ?? 0, fork: () => 0, treeHash: async () => "", close: async () => undefined,
      get: async (block) => {
        const bytes = logs.get(log)?.[block]
        if (bytes === undefined) throw new Error("not held")
        return bytes
      }
    })
  })
  return {
    tables, members, worker, runner, notices, keys: held,
    grow: (log, length) => {
      if (tables.heads.grew(log, length)) runner.wake(log)
    },
    close: async () => {
      await runner.stop()
      for (const doc of documents) await Effect.runPromise(worker.discard(doc))
      free.push(worker)
      tables.close()
    }
  }
}

/** Everything folded at once with these cut-offs known from the start. */
export const fromNothing = async (file: string, logs: Logs, cuts: Cuts, lengths: ReadonlyMap<string, number>, keys: ReadonlyArray<number> = [1], known: Iterable<string> = logs.keys()): Promise<Node> => {
  const node = await openNode(file, logs, keys)
  node.members.say(known, cuts)
  for (const [log, length] of lengths) node.tables.heads.grew(log, length)
  node.runner.wake()
  await node.runner.idle()
  return node
}
