/** What a journal promises, whatever it stands on. `journal.test.ts` runs it on Hypercore and on the memory machine. */
import { Context, Effect, Exit, Layer, Result, Scope } from "effect"
import t from "tap"
import { type Envelope } from "../src/codec/envelope.ts"
import { frameHeader, frameKey, openFrame } from "../src/codec/frame.ts"
import { keyPairFromSeed, randomBytes } from "../src/codec/signature.ts"
import { diskReserveBytes, type Draft, Journal } from "../src/events/journal.ts"
import { type Head, LogStore } from "../src/events/log-store.ts"
import type { Disk } from "../src/events/ports.ts"
import { singleKeyring } from "../src/vault/keyring.ts"

export interface Machine {
  /** A run of the node on this machine: open until `end`; `end` without a stop is a crash. */
  layers(): Promise<{ readonly layer: Layer.Layer<LogStore | Disk>; end(): Promise<void> }>
  /** Cuts the log after this many blocks without a word, as a damaged write-ahead file does. */
  loseTail(log: string, seed: Uint8Array, length: number): Promise<void>
  copied(): Promise<void>
  onPublish?: (listener: (log: string, head: Head) => void) => void
}

export const meshKey = randomBytes(32)
export const epochKeyring = singleKeyring(meshKey)

export const draft = (n: number, type = "command.done/1"): Draft =>
  ({ type, actor: "device", subject: "node", command: "", cause: [], body: { name: "test", detail: `number ${n}` } })

export const readAll = async (log: { length(): number; get(block: number): Promise<Uint8Array>; readonly key: string }): Promise<ReadonlyArray<Envelope>> => {
  const events: Array<Envelope> = []
  for (let block = 0; block < log.length(); block++) {
    const bytes = await log.get(block)
    const at = { log: log.key, block }
    events.push(...Result.getOrThrow(openFrame(bytes, at, frameKey(meshKey, at, Result.getOrThrow(frameHeader(bytes)).nonce))))
  }
  return events
}

export interface Run {
  readonly journal: Journal["Service"]
  readonly store: LogStore["Service"]
  /** Ends without a stop. */
  crash(): Promise<void>
  stop(): Promise<void>
  events(): Promise<ReadonlyArray<Envelope>>
}

/** Starts a journal on the machine, as boot does. */
export const start = async (machine: Machine, seed: Uint8Array, options: { readonly begin?: boolean; readonly reserve?: number } = {}): Promise<Run> => {
  const { layer, end } = await machine.layers()
  const scope = Effect.runSync(Scope.make())
  const all = Journal.layer(keyPairFromSeed(seed), () => epochKeyring).pipe(
    Layer.provideMerge(layer), Layer.provide(Layer.succeed(diskReserveBytes, options.reserve ?? 0))
  )
  const context = await Effect.runPromise(Layer.buildWithScope(all, scope))
  const journal = Context.get(context, Journal)
  const store = Context.get(context, LogStore)
  if (options.begin !== false) journal.begin()
  return {
    journal, store,
    crash: async () => {
      await Effect.runPromise(Scope.close(scope, Exit.void))
      await end()
    },
    stop: async () => {
      await Effect.runPromise(journal.stop())
      await Effect.runPromise(Scope.close(scope, Exit.void))
      await end()
    },
    events: () => Effect.runPromise(Effect.scoped(Effect.flatMap(store.openHeld(journal.log()), (log) => Effect.promise(() => readAll(log)))))
  }
}

export const journalContract = (name: string, make: (t: { testdir(): string }) => Promise<Machine>): void => {
  const seed = () => randomBytes(32)

  t.test(`${name}: events come back in order with their addresses`, async (t) => {
    const run = await start(await make(t), seed())
    const answers = await Promise.all(Array.from({ length: 300 }, (_, i) => Effect.runPromise(run.journal.append([draft(i), draft(i + 1000)]))))
    const events = await run.events()
    t.equal(events.length, 600)
    t.ok(run.journal.length() < 100, `${run.journal.length()} frames: units that waited together share a block`)
    const seen = new Map<string, Envelope>()
    let block = -1
    for (const answer of answers) {
      t.ok(answer.block >= block)
      block = answer.block
      answer.events.forEach((event, i) => seen.set(`${answer.block}.${answer.offset + i}`, event))
    }
    t.equal(seen.size, 600, "every event has a place of its own")
    t.same((await run.events()).map((e) => (e.body as { detail: string }).detail),
      Array.from({ length: 300 }, (_, i) => [`number ${i}`, `number ${i + 1000}`]).flat())
    for (let i = 1; i < events.length; i++) {
      const [a, b] = [events[i - 1]?.at, events[i]?.at]
      if (a && b && !(b.ms > a.ms || (b.ms === a.ms && b.count > a.count))) t.fail(`stamp ${i} does not come after the one before`)
    }
    await run.stop()
  })

  t.test(`${name}: acknowledged events survive a crash, and the next run knows that it was one`, async (t) => {
    const machine = await make(t)
    const key = seed()
    const first = await start(machine, key)
    t.same((await first.journal.inspect()).finding, { _tag: "New" })
    for (let i = 0; i < 20; i++) await Effect.runPromise(first.journal.append([draft(i)]))
    await first.crash()
    const second = await start(machine, key)
    const found = await second.journal.inspect()
    t.same(found.finding, { _tag: "Healthy" })
    t.match(found.lastRun, { unclean: true, pid: process.pid })
    t.equal((await second.events()).length, 20)
    await Effect.runPromise(second.journal.append([draft(20)]))
    await second.stop()
    const third = await start(machine, key)
    t.match((await third.journal.inspect()).lastRun, { unclean: false })
    t.equal((await third.events()).length, 21)
    await third.stop()
  })

  t.test(`${name}: a log that lost its tail is found out before anything is appended`, async (t) => {
    const machine = await make(t)
    const key = seed()
    const first = await start(machine, key)
    const log = first.journal.log()
    for (let i = 0; i < 10; i++) await Effect.runPromise(first.journal.append([draft(i)]))
    await first.stop()
    await machine.loseTail(log, key, 6)
    const second = await start(machine, key, { begin: false })
    t.match((await second.journal.inspect()).finding, { _tag: "Short", length: 6, expected: 10 })
    await Effect.runPromise(second.journal.succeed(keyPairFromSeed(randomBytes(32))))
    t.same((await second.journal.inspect()).finding, { _tag: "New" })
    second.journal.begin()
    await Effect.runPromise(second.journal.append([draft(11)]))
    t.not(second.journal.log(), log)
    t.equal((await second.events()).length, 1)
    const old = await Effect.runPromise(Effect.scoped(Effect.map(second.store.openHeld(log), (held) => held.length())))
    t.equal(old, 6, "the old log is left as it was")
    await second.stop()
  })

  t.test(`${name}: a copied directory is found out`, async (t) => {
    const machine = await make(t)
    const key = seed()
    const first = await start(machine, key)
    await Effect.runPromise(first.journal.append([draft(0)]))
    await first.stop()
    await machine.copied()
    const second = await start(machine, key, { begin: false })
    t.equal((await second.journal.inspect()).finding._tag, "Copied")
    await second.crash()
  })

  t.test(`${name}: batched events wait for company, a durable one takes them along`, async (t) => {
    const run = await start(await make(t), seed())
    const health = (): Draft => ({ ...draft(0), type: "node.measured/1", body: { uptimeSeconds: 1, memoryBytes: 1, diskFreeBytes: 1, peers: 0, events: 0 } })
    const alone = await Promise.all([run.journal.append([health()]), run.journal.append([health()])].map((e) => Effect.runPromise(e)))
    t.equal(alone[0]?.block, alone[1]?.block)
    const together = await Promise.all([run.journal.append([health()]), run.journal.append([draft(1)])].map((e) => Effect.runPromise(e)))
    t.equal(together[0]?.block, together[1]?.block)
    await run.stop()
  })

  t.test(`${name}: limits are refusals, and a stopped journal says so`, async (t) => {
    const run = await start(await make(t), seed())
    const big = { ...draft(0), body: { name: "x", detail: "y".repeat(400_000) } }
    const results = await Promise.all([run.journal.append([draft(1)]), run.journal.append([big]), run.journal.append([draft(2)])]
      .map((e) => Effect.runPromise(Effect.result(e))))
    t.ok(results[0] && Result.isSuccess(results[0]))
    t.match(results[1], { failure: { reason: "too-large" } })
    t.ok(results[2] && Result.isSuccess(results[2]))
    t.equal((await run.events()).length, 2)
    await Effect.runPromise(run.journal.stop())
    t.match(await Effect.runPromise(Effect.flip(run.journal.append([draft(3)]))), { reason: "closed" })
    await run.stop()
  })

  t.test(`${name}: too little space refuses with the reason`, async (t) => {
    const run = await start(await make(t), seed(), { reserve: Number.MAX_SAFE_INTEGER })
    t.match(await Effect.runPromise(Effect.flip(run.journal.append([draft(0)]))), { reason: "full", detail: "the disk is full" })
    t.equal(run.journal.length(), 0)
    await run.stop()
  })
}
