import * as fs from "node:fs"
import * as path from "node:path"
import type { BenchCase, OtherMain, Side } from "../case.ts"
import { perSecond } from "../case.ts"
import { play } from "../changes.ts"
import { copyHome, tcpCarrier } from "../kos-logs.ts"
import { foldHome, openBenchNode, writeBursts, writerLogs } from "../kos-node.ts"
import { automergeRepoSide, prepareAutomergeRepo } from "../peers/automerge-repo.ts"
import { autobaseSide, prepareAutobase } from "../peers/autobase.ts"
import { makeWorkload } from "../workload.ts"

interface Manifest {
  readonly changes: number
  readonly blocks: number
  readonly docs: ReadonlyArray<{ readonly doc: string; readonly heads: string }>
}

const readManifest = (fixture: string) => JSON.parse(fs.readFileSync(path.join(fixture, "kos.json"), "utf8")) as Manifest

const prepare = async ({ dir, short }: { readonly dir: string; readonly short: boolean }) => {
  const workload = makeWorkload(short ? 4_000 : 100_000)
  const sub = (name: string) => {
    fs.mkdirSync(path.join(dir, name))
    return path.join(dir, name)
  }
  const from = Date.now()
  const said = (what: string) => process.stderr.write(`  ${what} after ${Math.round((Date.now() - from) / 1000)} s\n`)
  const played = play(workload, writerLogs)
  said("edits made")
  await prepareAutomergeRepo(sub("automerge-repo"), played, workload.changes)
  said("automerge-repo")
  const before = await writeBursts(path.join(dir, "server"), played.docs, played.base)
  copyHome(path.join(dir, "server"), path.join(dir, "away"))
  await foldHome(path.join(dir, "away"), "away", before)
  const after = await writeBursts(path.join(dir, "server"), played.docs, played.rounds.flat())
  await foldHome(path.join(dir, "server"), "server", after)
  const manifest: Manifest = {
    changes: workload.changes, blocks: played.rounds.flat().length, docs: played.docs.map((doc, i) => ({ doc, heads: played.heads[i]?.join() ?? "" }))
  }
  fs.writeFileSync(path.join(dir, "kos.json"), JSON.stringify(manifest))
  said("kOS")
  await prepareAutobase(sub("autobase"), workload)
  said("Autobase")
}

export const startServer: OtherMain = async (fixture, { dir }) => {
  copyHome(path.join(String(fixture), "server"), dir)
  let port = 0
  const node = await openBenchNode(dir, "server", () => [tcpCarrier(0, (listening) => (port = listening))])
  await node.swarm.start()
  return { port: async () => port, stop: () => node.close() }
}

const kos: Side = async ({ dir, fixture, other, begin }) => {
  const manifest = readManifest(fixture)
  const server = await other(import.meta.filename, "startServer", fixture)
  const port = Number(await server.ask("port"))
  copyHome(path.join(fixture, "away"), dir)
  const node = await openBenchNode(dir, "away", () => [tcpCarrier(port)])
  const left = new Map(manifest.docs.map(({ doc, heads }) => [doc, heads]))
  const done = new Promise<void>((resolve) => node.runner.onFold((notice) => {
    for (const doc of notice.documents) if (node.heads(doc) === left.get(doc)) left.delete(doc)
    if (left.size === 0) resolve()
  }))
  for (const { doc, heads } of manifest.docs) if (node.heads(doc) === heads) left.delete(doc)
  const end = await begin()
  await node.swarm.start()
  await done
  const window = await end()
  await node.close()
  const measure = perSecond(manifest.changes, window)
  return { ...measure, detail: { ...measure.detail, "changes per block": manifest.changes / manifest.blocks } }
}

export const benchCase: BenchCase = {
  name: "offline",
  about: "A node was away while 9 writers made 100,000 changes to 200 documents; the clock runs from the first byte to one peer until its documents equal the peer's and are stored.",
  secondsMax: 400,
  prepare,
  sides: { kos, "automerge-repo": automergeRepoSide("automerge-repo"), autobase: autobaseSide("autobase", true), "autobase-fold": autobaseSide("autobase", false) },
  rows: [
    { title: "back after offline, against automerge-repo", unit: "changes/s", ours: { side: "kos" }, peer: { side: "automerge-repo" }, ratio: "ours/peer", target: { kind: "ratio-min", value: 0.5 } },
    { title: "back after offline, against Autobase folding every change", unit: "changes/s", ours: { side: "kos" }, peer: { side: "autobase-fold" }, ratio: "ours/peer", target: { kind: "ratio-min", value: 4 } },
    { title: "the same, Autobase taking over its indexer's signed view", unit: "changes/s", ours: { side: "kos" }, peer: { side: "autobase" }, ratio: "ours/peer", target: { kind: "report" } }
  ]
}
