import { mkdir } from "node:fs/promises"
import { decideMemory } from "../../src/commands/decide-memory.ts"
import { decideRevoke } from "../../src/commands/decide-membership.ts"
import { lengthOf } from "../../src/api/handlers/mesh.ts"
import { randomBytes } from "../../src/codec/signature.ts"
import { MemoryNetwork } from "../../src/swarm/carriers/memory.ts"
import { Effect } from "effect"
import { asker, close, enterBy, invite, makeHome, open, type Running, say, within } from "../../test/simulation-world.ts"
import type { BenchCase, Side } from "../case.ts"

/** One of them is expelled. */
const nodes = (short: boolean): number => (short ? 6 : 21)

/**
 * Whole nodes in one process (real logs, tables, workers and sessions; only the carrier is in memory), all in touch with all. One that has
 * written is expelled; timed until the last of the others has ended its session with it, holds the new key, and projects nothing of it beyond.
 */
const revocation: Side = async ({ dir, short, begin }) => {
  const network = new MemoryNetwork({ seed: 7 })
  const running: Array<Running> = []
  for (let i = 0; i < nodes(short); i++) {
    const home = `${dir}/node-${i}`
    await mkdir(home, { recursive: true })
    await makeHome(home, `node-${i}`)
    running.push(await open(home, network))
  }
  const [founder] = running
  if (founder === undefined) throw new Error("no nodes")
  for (let i = 1; i < running.length; i++) {
    const newcomer = running[i]
    const made = await invite(founder.node, "member")
    if (newcomer === undefined || made === undefined) throw new Error("no invite")
    const entered = await enterBy(newcomer, made, network, 60_000)
    if (!entered.entered) throw new Error(`node ${i} was not let in`)
    running[i] = entered.running
  }
  const expelled = running.at(-1)?.node
  if (expelled === undefined) throw new Error("no nodes")
  const others = running.slice(0, -1).map(({ node }) => node)
  for (let i = 0; i < 20; i++) {
    await Effect.runPromise(expelled.dispatch.change("memory.add", asker(), ["memory/notes/theirs"], (documents) =>
      decideMemory(documents, { _tag: "Add", page: "notes/theirs", text: `Line ${i} of theirs.` }, { pageBytesMax: 100_000 })))
  }
  const inTouch = await within(60_000, () => others.every((node) =>
    node.tables.cursors.folded(expelled.journal.log()) === expelled.journal.length() && node.swarm.sessions().some(({ device, phase }) => device === expelled.vault.deviceId && phase === "ready")))
  if (!inTouch) throw new Error("the nodes did not come into touch")
  const effects: Array<number> = []
  const end = await begin()
  const from = performance.now()
  // The cut-off lies before its last ten events: what they did to the page has to go everywhere.
  const cut = expelled.journal.length() - 10
  await say(founder.node, () => decideRevoke(founder.node.situation(), {
    node: expelled.vault.deviceId, newKey: randomBytes(32), lengthOf: (log) => log === expelled.journal.log() ? cut : lengthOf(founder.node, log)
  }))
  const epoch = founder.node.keyring.current?.epoch ?? 0
  const isDone = (node: Running["node"]): boolean =>
    node.members.standing(expelled.vault.deviceId) === "revoked" && node.keyring.current?.epoch === epoch && epoch > 1 &&
    !node.swarm.sessions().some(({ device, phase }) => device === expelled.vault.deviceId && phase !== "ended") &&
    !JSON.stringify(node.tables.documents.state("memory/notes/theirs")?.live ?? {}).includes("Line 19 of theirs")
  const waiting = new Set(others)
  await within(60_000, () => {
    for (const node of waiting) {
      if (!isDone(node)) continue
      waiting.delete(node)
      effects.push(performance.now() - from)
    }
    return waiting.size === 0
  })
  const window = await end()
  if (waiting.size > 0) throw new Error(`${waiting.size} nodes did not get so far within a minute`)
  for (const each of running) await close(each)
  const sorted = effects.toSorted((a, b) => a - b)
  return { ...window, value: sorted.at(-1) ?? 0, detail: { nodes: others.length, "ms at the median node": sorted[Math.floor(sorted.length / 2)] ?? 0 } }
}

export const benchCase: BenchCase = {
  name: "revocation",
  about: "From the command to the last of 20 nodes (whole nodes in one process, over a carrier in memory) that has cut the expelled one off, holds the new key, and projects nothing beyond the cut-off.",
  secondsMax: 240,
  runs: 3,
  sides: { revocation },
  rows: [
    { title: "revocation to the last of 20 online nodes", unit: "ms", ours: { side: "revocation" }, target: { kind: "value-max", value: 2_000 } },
    { title: "revocation to the median node", unit: "ms", ours: { side: "revocation", detail: "ms at the median node" }, target: { kind: "report" } }
  ]
}
