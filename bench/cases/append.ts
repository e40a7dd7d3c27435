import { open } from "node:fs/promises"
import type { BenchCase, Side } from "../case.ts"
import { perSecond } from "../case.ts"
import { draftOf, openJournal } from "../kos.ts"
import { makePayloads, payloadBytes } from "../payload.ts"
import { watchWal } from "../wal.ts"

/** Appends that wait at any time; also the events of one raw batch. */
const inFlight = 64

const rocks = (sync: boolean): Side => async ({ dir, short, begin }) => {
  const { default: RocksDB } = await import("rocksdb-native")
  const payloads = makePayloads(short ? 6_400 : 128_000)
  const db = new RocksDB(dir)
  await db.ready()
  const key = (index: number) => {
    const bytes = Buffer.alloc(8)
    bytes.writeUInt32BE(index, 4)
    return bytes
  }
  const put = async (from: number) => {
    const batch = db.write()
    for (let i = from; i < from + inFlight; i++) void batch.put(key(i), payloads[i] ?? Buffer.alloc(0))
    await batch.flush()
    batch.destroy()
  }
  await put(0)
  const wal = await db.currentWalFile()
  const file = await open(`${dir}${wal?.path}`, "r+")
  const grown = watchWal(dir)
  const end = await begin()
  for (let at = inFlight; at < payloads.length; at += inFlight) {
    await put(at)
    if (sync) await file.datasync()
  }
  const window = await end()
  const count = payloads.length - inFlight
  const measure = perSecond(count, window)
  const walBytes = grown()
  await file.close()
  await db.close()
  return { ...measure, detail: { ...measure.detail, "WAL bytes per payload byte": walBytes / (count * payloadBytes) } }
}

/** What a program does that awaits each append of its own, 64 of them at a time; with `sync` it makes each one durable, as ours are. */
const hypercore = (sync: boolean): Side => async ({ dir, short, begin }) => {
  const { default: Corestore } = await import("corestore")
  const store = new Corestore(dir)
  const core = (store as unknown as { get(options: object): { ready(): Promise<void>; append(block: Buffer): Promise<unknown> } }).get({ name: "log" })
  await core.ready()
  const payloads = makePayloads(short ? 2_000 : 20_000)
  await core.append(Buffer.alloc(payloadBytes))
  const wal = await (store as unknown as { storage: { db: { currentWalFile(): Promise<{ path: string } | null> } } }).storage.db.currentWalFile()
  const file = await open(`${dir}/db${wal?.path}`, "r+")
  const grown = watchWal(`${dir}/db`)
  const end = await begin()
  await keepInFlight(payloads.length, async (index) => {
    await core.append(payloads[index] ?? Buffer.alloc(0))
    if (sync) await file.datasync()
  })
  const window = await end()
  const measure = perSecond(payloads.length, window)
  const walBytes = grown()
  await file.close()
  await store.close()
  return { ...measure, detail: { ...measure.detail, "WAL bytes per payload byte": walBytes / (payloads.length * payloadBytes) } }
}

const kos: Side = async ({ dir, short, begin }) => {
  const payloads = makePayloads(short ? 6_400 : 128_000)
  const journal = await openJournal(dir)
  await journal.append([draftOf(payloads[0] ?? Buffer.alloc(0))])
  const latencies: Array<number> = []
  const grown = watchWal(journal.walDirectory)
  const blocks = journal.blocks()
  const end = await begin()
  await keepInFlight(payloads.length - 1, async (index) => {
    const from = performance.now()
    await journal.append([draftOf(payloads[index + 1] ?? Buffer.alloc(0))])
    latencies.push(performance.now() - from)
  })
  const window = await end()
  const count = payloads.length - 1
  const measure = perSecond(count, window)
  const walBytes = grown()
  const framed = journal.blocks() - blocks
  await journal.close()
  latencies.sort((a, b) => a - b)
  return {
    ...measure,
    detail: {
      ...measure.detail, "WAL bytes per payload byte": walBytes / (count * payloadBytes), "events per block": count / framed,
      "median ms": latencies[latencies.length >> 1] ?? 0, "p99 ms": latencies[Math.floor(latencies.length * 0.99)] ?? 0
    }
  }
}

const keepInFlight = async (count: number, append: (index: number) => Promise<void>) => {
  let next = 0
  const lane = async () => {
    while (next < count) await append(next++)
  }
  await Promise.all(Array.from({ length: inFlight }, lane))
}

export const benchCase: BenchCase = {
  name: "append",
  about: `${payloadBytes}-byte events appended with ${inFlight} in flight; raw RocksDB writes batches of ${inFlight} such values, one after the other. Each kOS append is synced before it is answered.`,
  secondsMax: 120,
  sides: { kos, "rocksdb-synced": rocks(true), "rocksdb-unsynced": rocks(false), hypercore: hypercore(false), "hypercore-synced": hypercore(true) },
  rows: [
    { title: "append, against raw RocksDB, both synced", unit: "events/s", ours: { side: "kos" }, peer: { side: "rocksdb-synced" }, ratio: "ours/peer", target: { kind: "ratio-min", value: 0.25 } },
    { title: "append synced, against raw RocksDB unsynced", unit: "events/s", ours: { side: "kos" }, peer: { side: "rocksdb-unsynced" }, ratio: "ours/peer", target: { kind: "report" } },
    { title: "append, against Hypercore one at a time (unsynced)", unit: "events/s", ours: { side: "kos" }, peer: { side: "hypercore" }, ratio: "ours/peer", target: { kind: "ratio-min", value: 15 } },
    { title: "append, against Hypercore one at a time, both synced", unit: "events/s", ours: { side: "kos" }, peer: { side: "hypercore-synced" }, ratio: "ours/peer", target: { kind: "report" } },
    { title: "write-ahead bytes per payload byte", unit: "B/B", ours: { side: "kos", detail: "WAL bytes per payload byte" }, target: { kind: "value-max", value: 2.5 } }
  ]
}
