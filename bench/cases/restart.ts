import * as fs from "node:fs"
import * as path from "node:path"
import type { BenchCase, Side } from "../case.ts"
import { play } from "../changes.ts"
import { copyHome } from "../kos-logs.ts"
import { foldHome, foldTo, openBenchNode, writeBursts, writerLogs } from "../kos-node.ts"
import { makeWorkload } from "../workload.ts"

interface Manifest {
  readonly changes: number
  readonly lengths: Readonly<Record<string, number>>
  readonly docs: ReadonlyArray<{ readonly doc: string; readonly heads: string }>
}

const prepare = async ({ dir, short }: { readonly dir: string; readonly short: boolean }) => {
  const workload = makeWorkload(short ? 4_000 : 100_000, { rounds: 100 })
  const played = play(workload, writerLogs)
  const home = path.join(dir, "home")
  const before = await writeBursts(home, played.docs, [...played.base, ...played.rounds.slice(0, 99).flat()])
  await foldHome(home, "server", before, true)
  const lengths = await writeBursts(home, played.docs, played.rounds.slice(99).flat())
  const manifest: Manifest = { changes: workload.changes, lengths, docs: played.docs.map((doc, i) => ({ doc, heads: played.heads[i]?.join() ?? "" })) }
  fs.writeFileSync(path.join(dir, "restart.json"), JSON.stringify(manifest))
}

/** From opening the store and tables until every document is as the logs say. */
const restart = (full: boolean): Side => async ({ dir, fixture, begin }) => {
  const manifest = JSON.parse(fs.readFileSync(path.join(fixture, "restart.json"), "utf8")) as Manifest
  copyHome(path.join(fixture, "home"), dir)
  if (full) for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(path.join(dir, `tables.db${suffix}`), { force: true })
  const end = await begin()
  const node = await openBenchNode(dir, "server", () => [])
  const opened = performance.now()
  await foldTo(node, manifest.lengths)
  const foldMs = performance.now() - opened
  const window = await end()
  const wrong = manifest.docs.filter(({ doc, heads }) => node.heads(doc) !== heads).length
  await node.close()
  if (wrong > 0) throw new Error(`${wrong} documents are not as the logs say`)
  return { ...window, value: window.wallMs, detail: { "folding ms": foldMs, "events": full ? manifest.changes : Math.round(manifest.changes / 100) } }
}

export const benchCase: BenchCase = {
  name: "restart",
  about: "A node with 100,000 changes in 9 logs and 200 documents starts; its tables and snapshots miss the last 1 %. Against folding all of it from the logs.",
  secondsMax: 300,
  prepare,
  sides: { kos: restart(false), replay: restart(true) },
  rows: [
    { title: "restart with 1 % new, against full replay", unit: "ms", ours: { side: "kos" }, peer: { side: "replay" }, ratio: "peer/ours", target: { kind: "ratio-min", value: 5 } }
  ]
}
