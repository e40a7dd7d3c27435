/**
 * The new version's side of a rehearsal: `kos daemon rehearse`, run by the version before it, shut in (`updates/rehearsal/isolate.ts`).
 *
 * **How it goes.** Membership operations, blocks and keys come on stdin (`updates/rehearsal/wire.ts`). The blocks are put, sealed as they are, into one file of the scratch
 * directory; everything is folded from there into new tables by this version's catalogue, gate, worker and folds, as a rebuild does; then the digest goes out on descriptor 3, and
 * values that are asked for. It ends with its stdin.
 *
 * **Invariants.** It knows no home, no secret key and no network. The keys of epochs stay in memory. What it writes is its scratch directory, the current one.
 *
 * **Tricky case.** A key comes before the first block that names its epoch, and folding begins after the last block: so nothing is sealed here that was open there.
 */
import { Context, Effect, Exit, Layer, Scope } from "effect"
import { createWriteStream } from "node:fs"
import { type FileHandle, open } from "node:fs/promises"
import { DocumentWorker } from "../projections/documents/pool.ts"
import { Members } from "../projections/members.ts"
import { Runner } from "../projections/runner.ts"
import { Tables } from "../projections/tables/tables.ts"
import type { Line } from "../updates/rehearsal/digest.ts"
import { type Begin, encodeLine, readRecords, rehearsalVersion, type Record } from "../updates/rehearsal/wire.ts"
import type { Keyring } from "../vault/keyring.ts"
import { digestLines, documentJson } from "./digest.ts"

export interface RehearseContext {
  readonly stdin: AsyncIterable<Uint8Array>
  /** Writes one piece of the answer; resolves when there is room for more. */
  readonly answer: (bytes: Uint8Array) => Promise<void>
  /** Lines for people. */
  readonly say: (text: string) => void
  /** Scratch directory. */
  readonly directory: string
  readonly version: string
  readonly now: () => number
}

/** Milliseconds between two words of how far it is. */
const progressMs = 500
/** How often folding may be held up, a second each time. */
const heldUpMax = 5

/** Resolves with the exit code. */
export const rehearse = async (context: RehearseContext): Promise<number> => {
  const say = (line: Line): Promise<void> => context.answer(encodeLine(line))
  await say({ kind: "hello", v: rehearsalVersion, version: context.version, node: process.versions.node })
  const records = readRecords(context.stdin)
  const store = await openBlockFile(`${context.directory}/blocks`)
  try {
    const begin = await beginOf(records)
    const keys = new Map<number, Array<Uint8Array>>()
    const lengths = await receive(records, store, keys)
    await fold({ context, begin, lengths, store, keys, say, records })
    return 0
  } catch (cause) {
    await say({ kind: "fault", why: (cause instanceof Error ? cause.message : String(cause)).slice(0, 2_048) })
    return 1
  } finally {
    await store.close()
  }
}

/** Runs it over this process's own streams. */
export const runRehearsal = async (version: string): Promise<number> => {
  process.umask(0o077)
  const out = createWriteStream("", { fd: 3 })
  const code = await rehearse({
    stdin: process.stdin, directory: process.cwd(), version, now: () => Math.floor(performance.timeOrigin + performance.now()),
    answer: (bytes) => new Promise((done, fail) => { out.write(bytes, (error) => error ? fail(error) : done()) }),
    say: (text) => { process.stderr.write(`${text}\n`) }
  })
  await new Promise<void>((done) => { out.end(() => done()) })
  return code
}

const beginOf = async (records: AsyncGenerator<Record>): Promise<Begin> => {
  const { value } = await records.next()
  if (value?._tag !== "Begin") throw new Error("a rehearsal begins with who this node is")
  if (value.begin.v !== rehearsalVersion) throw new Error(`version ${value.begin.v} of the rehearsal is not known here; this one speaks ${rehearsalVersion}`)
  return value.begin
}

const receive = async (records: AsyncGenerator<Record>, store: BlockFile, keys: Map<number, Array<Uint8Array>>): Promise<ReadonlyMap<string, number>> => {
  for (;;) {
    const { value } = await records.next()
    switch (value?._tag) {
      case "Key": {
        const list = keys.get(value.epoch)
        if (list === undefined) keys.set(value.epoch, [value.key])
        else list.push(value.key)
        break
      }
      case "Block": await store.append(value.log, value.index, value.bytes); break
      case "End":
        await store.flush()
        return value.logs
      default: throw new Error("the logs end before they are whole")
    }
  }
}

interface Folding {
  readonly context: RehearseContext
  readonly begin: Begin
  readonly lengths: ReadonlyMap<string, number>
  readonly store: BlockFile
  readonly keys: ReadonlyMap<number, ReadonlyArray<Uint8Array>>
  readonly say: (line: Line) => Promise<void>
  readonly records: AsyncGenerator<Record>
}

const fold = async ({ context, begin, lengths, store, keys, say, records }: Folding): Promise<void> => {
  const { now } = context
  const scope = Effect.runSync(Scope.make())
  const tables = new Tables(`${context.directory}/tables.db`)
  let runner: Runner | undefined
  try {
    const worker = Context.get(await Effect.runPromise(Layer.buildWithScope(Layer.fresh(DocumentWorker.layer), scope)), DocumentWorker)
    const members = new Members(begin.mesh, tables)
    tables.transaction(() => {
      for (const bytes of begin.operations) members.take(bytes, "met")
    })
    const keyring: Keyring = { current: undefined, keys: (epoch) => keys.get(epoch) ?? [], shared: () => [] }
    let heldUp = 0
    let giveUp: (why: Error) => void = () => undefined
    const stuck = new Promise<never>((_, fail) => { giveUp = fail })
    stuck.catch(() => undefined)
    const notice = (level: string, text: string): void => {
      if (level !== "warn") return
      context.say(text)
      // A daemon waits until the disk has room again; here nothing changes by waiting.
      if (runner?.fault !== undefined && ++heldUp >= heldUpMax) giveUp(new Error(runner.fault))
    }
    runner = new Runner({
      tables, members, worker, keyring: () => keyring, now, ownDevice: begin.device, notice, observe: () => undefined,
      open: (key) => Promise.resolve(store.log(key)), ownLog: () => ({ log: begin.ownLog, length: lengths.get(begin.ownLog) ?? 0 })
    })
    let told = now()
    runner.onFold(({ last }) => {
      if (now() - told < progressMs) return
      told = now()
      void say({ kind: "progress", events: last }).catch(() => undefined)
    })
    for (const [log, length] of lengths) tables.heads.grew(log, length)
    for (let before = -1; runner.behind() !== before && runner.behind() !== 0;) {
      // Logs that an operation made known are folded in the next round.
      before = runner.behind()
      runner.wake()
      await Promise.race([runner.idle(), stuck])
    }
    await Promise.race([runner.steady(), stuck])
    for (const line of digestLines({ tables, members, device: begin.device })) await say(line)
    await say({ kind: "done" })
    for await (const record of records) {
      if (record._tag !== "Ask") continue
      for (const id of record.documents) await say({ kind: "value", id, json: documentJson(tables, id) ?? null })
    }
  } finally {
    await runner?.stop()
    await Effect.runPromise(Scope.close(scope, Exit.void))
    tables.close()
  }
}

type BlockFile = Awaited<ReturnType<typeof openBlockFile>>

/** Bytes that are gathered before they are written. */
const gatheredBytesMax = 1024 * 1024

/** Blocks of many logs in one file, in the order in which they came; where each one lies is kept in memory, 16 bytes for each. */
const openBlockFile = async (path: string) => {
  const file: FileHandle = await open(path, "wx+", 0o600)
  const places = new Map<string, Array<{ readonly at: number; readonly length: number }>>()
  let gathered: Array<Uint8Array> = []
  let size = 0
  let end = 0
  const flush = async (): Promise<void> => {
    if (gathered.length === 0) return
    const bytes = Buffer.concat(gathered)
    gathered = []
    const { bytesWritten } = await file.write(bytes, 0, bytes.byteLength, size)
    if (bytesWritten !== bytes.byteLength) throw new Error("the scratch directory is full")
    size += bytesWritten
  }
  return {
    append: async (log: string, index: number, bytes: Uint8Array): Promise<void> => {
      const list = places.get(log) ?? []
      if (index !== list.length) throw new Error(`block ${index} of log ${log.slice(0, 8)} comes after block ${list.length - 1}`)
      if (list.length === 0) places.set(log, list)
      list.push({ at: end, length: bytes.byteLength })
      // A view of what the pipe brought is overwritten by nobody, but would keep its whole piece in memory.
      gathered.push(bytes)
      end += bytes.byteLength
      if (end - size >= gatheredBytesMax) await flush()
    },
    flush,
    log: (key: string) => ({
      key, fork: () => 0, length: () => places.get(key)?.length ?? 0, close: () => Promise.resolve(),
      treeHash: () => Promise.reject(new Error("a rehearsal has no trees")),
      get: async (block: number): Promise<Uint8Array> => {
        const place = places.get(key)?.[block]
        if (place === undefined) throw new Error(`block ${block} of log ${key.slice(0, 8)} was not given`)
        const bytes = new Uint8Array(place.length)
        await file.read(bytes, 0, place.length, place.at)
        return bytes
      }
    }),
    close: () => file.close()
  }
}
