import { Effect, Layer } from "effect"
import { cp, readFile, rename, rm } from "node:fs/promises"
import t from "tap"
import { asBuffer } from "../src/codec/hash.ts"
import { keyPairFromSeed, randomBytes } from "../src/codec/signature.ts"
import { HypercoreStore } from "../src/events/hypercore-store.ts"
import type { Head } from "../src/events/log-store.ts"
import { MemoryMachine } from "../src/events/memory-store.ts"
import { Disk } from "../src/events/ports.ts"
import { draft, journalContract, type Machine, start } from "./journal-contract.ts"

const memory = (): Machine & { readonly machine: MemoryMachine } => {
  const machine = new MemoryMachine()
  return {
    machine,
    layers: async () => ({ layer: Layer.merge(machine.logStore, machine.disk), end: async () => machine.powerCut() }),
    loseTail: async (log, _seed, length) => machine.loseTail(log, length),
    copied: async () => machine.copied()
  }
}

/** Real Hypercores. A shorter log is made by keeping an older copy of the store, which is what a lost tail amounts to. */
const real = (directory: string): Machine => ({
  layers: async () => {
    const store = await HypercoreStore.open(`${directory}/store`)
    return { layer: Layer.merge(HypercoreStore.layer(store), Disk.layer(directory)), end: () => store.close() }
  },
  loseTail: async (log, seed, length) => {
    const store = await HypercoreStore.open(`${directory}/store`)
    const held = await store.openHeld(log)
    const blocks: Array<Uint8Array> = []
    for (let i = 0; i < length; i++) blocks.push(await held.get(i))
    await held.close()
    await store.close()
    await rm(`${directory}/store`, { recursive: true })
    const shorter = await HypercoreStore.open(`${directory}/store`)
    const own = await shorter.openOwn(keyPairFromSeed(seed))
    for (const block of blocks) await own.append(block, async () => undefined)
    await own.close()
    await shorter.close()
  },
  copied: async () => {
    await cp(`${directory}/mark`, `${directory}/mark.copy`)
    await rename(`${directory}/mark.copy`, `${directory}/mark`)
  }
})

journalContract("memory", async () => memory())
journalContract("hypercore", async (t) => real(t.testdir()))

t.test("memory: peers never hear of a block that a power cut can take", async (t) => {
  const { machine, ...rest } = memory()
  const published = new Map<string, Head>()
  machine.onPublish = (log, head) => published.set(log, head)
  const key = randomBytes(32)
  let run = await start(rest, key)
  for (let round = 0; round < 40; round++) {
    const pending = Array.from({ length: round % 7 }, (_, i) => Effect.runPromise(Effect.result(run.journal.append([draft(i)]))))
    if (round % 3 === 0) machine.failSyncs = 1
    if (round % 2 === 0) await Promise.all(pending)
    await run.crash()
    await Promise.all(pending)
    run = await start(rest, key)
    t.match((await run.journal.inspect()).finding, { _tag: /New|Healthy/ })
    const head = published.get(run.journal.log())
    t.ok(run.journal.length() >= (head?.length ?? 0), "what was published is still there")
    if (head !== undefined) t.equal(await run.journal.treeHash(head.length), head.treeHash, "and unchanged")
  }
  await run.stop()
})

t.test("memory: a full disk refuses, keeps what was there, and works again when space is back", async (t) => {
  const { machine, ...rest } = memory()
  machine.setCapacity(4_000)
  const run = await start(rest, randomBytes(32))
  let refused = 0
  for (let i = 0; i < 40; i++) {
    const result = await Effect.runPromise(Effect.result(run.journal.append([draft(i)])))
    if (result._tag === "Failure") refused++
  }
  t.ok(refused > 0)
  t.equal((await run.events()).length, 40 - refused)
  machine.setCapacity(1e6)
  await Effect.runPromise(run.journal.append([draft(41)]))
  t.equal((await run.events()).length, 41 - refused)
  machine.setReadonly(true)
  t.match(await Effect.runPromise(Effect.flip(run.journal.append([draft(42)]))), { reason: "readonly", detail: "the disk is read-only" })
  machine.setReadonly(false)
  await Effect.runPromise(run.journal.append([draft(43)]))
  await run.stop()
})

t.test("memory: one torn slot of the mark leaves the other; no mark at all is not taken for health", async (t) => {
  const { machine, ...rest } = memory()
  const key = randomBytes(32)
  const first = await start(rest, key)
  for (let i = 0; i < 3; i++) await Effect.runPromise(first.journal.append([draft(i)]))
  await first.crash()
  machine.tearSlot("mark", 0)
  const second = await start(rest, key, { begin: false })
  t.equal((await second.journal.inspect()).finding._tag, "Healthy")
  await second.crash()
  machine.forgetSlots("mark")
  const third = await start(rest, key, { begin: false })
  t.match((await third.journal.inspect()).finding, { _tag: "Unmarked", length: 3, expected: 3 })
  await third.crash()
})

t.test("hypercore: the log's secret key is not in the store's files", async (t) => {
  const directory = t.testdir()
  const seed = randomBytes(32)
  const run = await start(real(directory), seed)
  await Effect.runPromise(run.journal.append([draft(0)]))
  await run.stop()
  const { readdir } = await import("node:fs/promises")
  for (const name of await readdir(`${directory}/store`, { recursive: true, withFileTypes: true })) {
    if (!name.isFile()) continue
    const bytes = await readFile(`${name.parentPath}/${name.name}`)
    t.notOk(bytes.includes(asBuffer(seed)), `${name.name} holds no seed`)
  }
})
