import { openJournal, draftOf } from "./kos.ts"
import { makePayloads } from "./payload.ts"
import * as fs from "node:fs"
const dir = "/work/main/.kos/ja"; fs.rmSync(dir, { recursive: true, force: true }); fs.mkdirSync(dir, { recursive: true })
const payloads = makePayloads(64_000)
const journal = await openJournal(dir)
await journal.append([draftOf(payloads[0]!)])
let next = 1
const t = performance.now(), c = process.cpuUsage()
await Promise.all(Array.from({ length: 64 }, async () => { while (next < payloads.length) await journal.append([draftOf(payloads[next++]!)]) }))
const ms = performance.now() - t, u = process.cpuUsage(c)
console.log(Math.round(payloads.length / ms * 1000), "/s", (payloads.length / journal.blocks()).toFixed(1), "per block", ((u.user + u.system) / payloads.length).toFixed(1), "us cpu/event", (ms / journal.blocks()).toFixed(2), "ms/frame")
await journal.close()
