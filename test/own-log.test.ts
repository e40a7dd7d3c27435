/** What becomes of this node's own log before it is written; damage of real stores is in test/durability. */
import { Effect, Layer } from "effect"
import t from "tap"
import { settleOwnLog } from "../src/boot/own-log.ts"
import { keyPairFromSeed, randomBytes } from "../src/codec/signature.ts"
import { logKey } from "../src/events/hypercore-store.ts"
import { MemoryMachine } from "../src/events/memory-store.ts"
import { Vault } from "../src/vault/vault.ts"
import { draft, type Machine, start } from "./journal-contract.ts"

const world = async (directory: string) => {
  const machine = new MemoryMachine()
  const contract: Machine = {
    layers: async () => ({ layer: Layer.merge(machine.logStore, machine.disk), end: async () => machine.powerCut() }),
    loseTail: async (log, _seed, length) => machine.loseTail(log, length), copied: async () => machine.copied()
  }
  const vault = await Vault.create(directory)
  const mesh = "ab".repeat(32)
  const seed = randomBytes(32)
  await vault.addMesh(mesh, randomBytes(32), seed)
  return { machine, contract, vault, mesh, seed, log: logKey(keyPairFromSeed(seed).publicKey) }
}

type World = Awaited<ReturnType<typeof world>>
const settle = async (w: World, options: { readonly word?: number; readonly heal?: (length: number) => boolean; readonly blocksMax?: number } = {}) => {
  const run = await start(w.contract, w.seed, { begin: false })
  const asked = { heal: 0, word: 0 }
  const report = await Effect.runPromise(settleOwnLog({
    journal: run.journal, vault: w.vault, mesh: w.mesh, notice: () => undefined,
    heal: async (length) => (asked.heal++, options.heal?.(length) ?? false), word: async () => (asked.word++, options.word ?? 0),
    ...(options.blocksMax === undefined ? {} : { blocksMax: options.blocksMax })
  }))
  return { run, report, asked }
}

const write = async (w: World, events: number) => {
  const run = await start(w.contract, w.seed)
  for (let i = 0; i < events; i++) await Effect.runPromise(run.journal.append([draft(i)]))
  await run.stop()
}

t.test("a new log and a healthy one go on, without asking anybody", async (t) => {
  const w = await world(t.testdir())
  const first = await settle(w)
  t.same([first.report.succession, first.report.lastRun, first.asked], [undefined, undefined, { heal: 0, word: 0 }])
  await first.run.crash()
  const run = await start(w.contract, w.seed)
  await Effect.runPromise(run.journal.append([draft(0)]))
  await Effect.runPromise(run.journal.stop())
  const second = await Effect.runPromise(settleOwnLog({
    journal: run.journal, vault: w.vault, mesh: w.mesh, notice: () => undefined, heal: async () => false, word: async () => { throw new Error("nobody is to be asked in the same boot") }
  }))
  t.equal(second.succession, undefined)
  await run.crash()
})

t.test("after a restart of the machine peers are asked, and more of our log than we hold is waited for", async (t) => {
  const w = await world(t.testdir())
  await write(w, 5)
  const { run, report, asked } = await settle(w, { word: 9 })
  t.same(asked, { heal: 1, word: 1 })
  t.match(report.succession, { log: w.log, finding: "Short", length: 5, expected: 9 })
  t.not(run.journal.log(), w.log)
  await run.crash()
})

t.test("a copy leaves the log to its original, a lost mark ends it, a long log is succeeded", async (t) => {
  for (const [finding, prepare, blocksMax] of [
    ["Copied", (w: World) => w.machine.copied(), undefined], ["Unmarked", (w: World) => w.machine.forgetSlots("mark"), undefined], ["Long", () => undefined, 5]
  ] as const) {
    const w = await world(t.testdir({}) + `/${finding}`)
    await write(w, 5)
    prepare(w)
    const { run, report } = await settle(w, blocksMax === undefined ? {} : { blocksMax })
    t.match(report.succession, { log: w.log, finding, length: 5, expected: 5 }, finding)
    t.equal(run.journal.log(), report.succession?.successor)
    run.journal.begin()
    await Effect.runPromise(run.journal.append([draft(1)]))
    t.equal(run.journal.length(), 1)
    await run.stop()
  }
})

t.test("what was rewritten is never written on", async (t) => {
  const w = await world(t.testdir())
  await write(w, 4)
  w.machine.rewrite(w.log, 2, new Uint8Array(40))
  const { run, report } = await settle(w)
  t.match(report.succession, { finding: "Rewritten", length: 4, expected: 4 })
  await run.crash()
})
