/**
 * Autobase 7 with a Hyperbee as its view, as its documentation recommends: values appended in batches (one call for each burst),
 * big batches on, and an `apply` that reads each document at most once and writes it at most once for each batch it is given.
 * Registers are keys of their own; a page is one value. One of the nine writers is the indexer, the cheapest arrangement.
 *
 * Two sides: as it comes (fast-forward on: the node takes over a view that the indexer signed, and folds only what
 * came after), and with fast-forward off (it folds every change itself, as kOS and automerge-repo do).
 */
import Autobase from "autobase"
import Hyperbee from "hyperbee"
import * as fs from "node:fs"
import { createRequire } from "node:module"
import * as net from "node:net"
import * as path from "node:path"
import type { OtherMain, Side } from "../case.ts"
import { perSecond } from "../case.ts"
import { type Burst, resolveSplice, type Workload } from "../workload.ts"

const settleMsMax = 240_000

interface Value { readonly doc?: number; readonly key?: string; readonly json?: string; readonly at?: number; readonly remove?: number; readonly insert?: string; readonly addWriter?: string; readonly indexer?: boolean }

interface Manifest { readonly key: string; readonly changes: number; readonly heads: string; readonly digest: string }

const openBase = async (dir: string, key: Buffer | null, fastForward = true): Promise<Base> => {
  const { default: Corestore } = await import("corestore")
  const store = new Corestore(dir, { allowBackup: true } as object)
  const base = new Autobase(store, key, {
    valueEncoding: "json", bigBatches: true, fastForward, ackInterval: 0,
    open: (viewStore: { get(name: string): unknown }) => new Hyperbee(viewStore.get("view"), { extension: false, keyEncoding: "utf-8", valueEncoding: "utf-8" }),
    apply
  })
  await base.ready()
  return Object.assign(base, { corestore: store as unknown as Base["corestore"] })
}

type Base = Autobase & { readonly corestore: { get(options: object): WriterCore; close(): Promise<void> } }

interface WriterCore { readonly key: Buffer; readonly length: number; ready(): Promise<void>; append(blocks: ReadonlyArray<unknown>): Promise<unknown> }

/** Autobase's own encoding of a writer's block. */
const { OplogMessage } = createRequire(import.meta.url)("autobase/lib/messages.js") as { readonly OplogMessage: unknown }

const apply = async (nodes: ReadonlyArray<{ readonly value: Value | null }>, view: any, host: { addWriter(key: Buffer, options: object): Promise<void> }) => {
  const registers = new Map<string, string>()
  const pages = new Map<string, string>()
  const batch = view.batch({ update: false })
  for (const { value } of nodes) {
    if (value === null) continue
    if (value.addWriter !== undefined) await host.addWriter(Buffer.from(value.addWriter, "hex"), { indexer: value.indexer === true })
    else if (value.key !== undefined) registers.set(`config/${value.doc}/${value.key}`, value.json ?? "")
    else {
      const key = `page/${value.doc}`
      const text = pages.get(key) ?? ((await batch.get(key))?.value as string | undefined) ?? ""
      const { at, remove, insert } = resolveSplice({ kind: "splice", at: value.at ?? 0, remove: value.remove ?? 0, insert: value.insert ?? "" }, text.length)
      pages.set(key, text.slice(0, at) + insert + text.slice(at + remove))
    }
  }
  for (const [key, value] of registers) await batch.put(key, value)
  for (const [key, value] of pages) await batch.put(key, value)
  await batch.flush()
}

const valuesOf = (burst: Burst): ReadonlyArray<Value> =>
  burst.edits.map((edit) => (edit.kind === "set" ? { doc: burst.doc, key: edit.key, json: edit.json } : { doc: burst.doc, at: edit.at, remove: edit.remove, insert: edit.insert }))

const headsOf = (base: Base) => base.heads().map(({ key, length }) => `${key.toString("hex")}:${length}`).toSorted().join()

const digestOf = async (base: Base) => {
  const { createHash } = await import("node:crypto")
  const hash = createHash("sha256")
  for await (const { key, value } of base.view.createReadStream()) hash.update(`${key}=${value}\n`)
  return hash.digest("hex")
}

/**
 * Plays the workload. Nine live bases would fold every change nine times (13 minutes for 100,000 changes), so only the first,
 * the indexer, is live. The other writers' blocks are written into their own cores in Autobase's own encoding: each round they
 * link to the heads of the round before, exactly as a writer that saw those would have done. The live base must accept them all.
 */
export const prepareAutobase = async (dir: string, workload: Workload) => {
  const at = (name: string) => path.join(dir, name)
  const first = await openBase(at("server"), null)
  const away = await openBase(at("away"), first.key)
  const cores: Array<WriterCore> = []
  for (let writer = 1; writer < workload.writers; writer++) {
    const core = first.corestore.get({ name: `writer ${writer}`, compat: false, valueEncoding: OplogMessage })
    await core.ready()
    cores.push(core)
    await first.append({ addWriter: core.key.toString("hex"), indexer: false })
  }
  for (const burst of workload.base) await first.append(valuesOf(burst))
  await first.ack()
  await meet(first, away)
  await away.close()
  await away.corestore.close()
  for (const round of workload.rounds) {
    const heads = first.heads().map(({ key, length }) => ({ key, length }))
    for (const burst of round) if (burst.writer === 0) await first.append(valuesOf(burst))
    for (const [index, core] of cores.entries()) {
      const values = round.filter((burst) => burst.writer === index + 1).map(valuesOf)
      const blocks: Array<unknown> = []
      for (const burst of values) {
        burst.forEach((value, i) => blocks.push({
          version: 2, maxSupportedVersion: 2, checkpoint: null, digest: null, optimistic: false, trace: null,
          node: { heads: blocks.length > 0 ? [{ key: core.key, length: core.length + blocks.length }] : heads, batch: burst.length - i, value: Buffer.from(JSON.stringify(value)) }
        }))
      }
      if (blocks.length > 0) await core.append(blocks)
    }
    await first.update()
    await first.ack()
  }
  await first.update()
  const written = first.heads()
  if (written.length !== 1) throw new Error(`${written.length} heads remain`)
  const manifest: Manifest = { key: first.key.toString("hex"), changes: workload.changes, heads: headsOf(first), digest: await digestOf(first) }
  fs.writeFileSync(at("manifest.json"), JSON.stringify(manifest))
  await first.close()
  await first.corestore.close()
}

const meet = async (first: Base, away: Base) => {
  const a = first.replicate(true)
  const b = away.replicate(false)
  for (const stream of [a, b]) stream.on("error", () => {})
  a.pipe(b).pipe(a)
  const until = Date.now() + settleMsMax
  while (headsOf(first) !== headsOf(away)) {
    if (Date.now() > until) throw new Error("the away node did not get the base state")
    await away.update()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  a.destroy()
  b.destroy()
}

const readManifest = (fixture: string) => JSON.parse(fs.readFileSync(path.join(fixture, "manifest.json"), "utf8")) as Manifest

export const startServer: OtherMain = async (fixture, { dir }) => {
  const storage = path.join(dir, "storage")
  fs.cpSync(path.join(String(fixture), "server"), storage, { recursive: true })
  const base = await openBase(storage, Buffer.from(readManifest(String(fixture)).key, "hex"))
  await base.update()
  const server = net.createServer((socket) => connect(base, socket, false))
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  return { port: async () => (typeof address === "object" ? address?.port : undefined) }
}

const connect = (base: Base, socket: net.Socket, initiator: boolean) => {
  socket.setNoDelay(true)
  const stream = base.replicate(initiator)
  stream.on("error", () => {})
  socket.on("error", () => {})
  stream.pipe(socket).pipe(stream)
}

export const autobaseSide = (fixtureName: string, fastForward: boolean): Side => async ({ dir, fixture, other, begin }) => {
  const from = path.join(fixture, fixtureName)
  const manifest = readManifest(from)
  const server = await other(import.meta.filename, "startServer", from)
  const storage = path.join(dir, "storage")
  fs.cpSync(path.join(from, "away"), storage, { recursive: true })
  const base = await openBase(storage, Buffer.from(manifest.key, "hex"), fastForward)
  await base.update()
  const port = Number(await server.ask("port"))
  let jumps = 0
  base.on("fast-forward", () => jumps++)
  const end = await begin()
  const socket = net.connect(port, "127.0.0.1")
  connect(base, socket, true)
  await new Promise<void>((resolve) => {
    const check = () => {
      if (headsOf(base) === manifest.heads) resolve()
    }
    base.on("update", check)
    check()
  })
  const headsMs = performance.now()
  const digest = await digestOf(base)
  const readMs = performance.now() - headsMs
  const window = await end()
  if (digest !== manifest.digest) throw new Error("the view differs from the server's")
  const measure = perSecond(manifest.changes, window)
  const read = socket.bytesRead
  socket.destroy()
  return { ...measure, detail: { ...measure.detail, "reading the view ms": readMs, "fast-forwards": jumps, "bytes per change": read / manifest.changes } }
}
