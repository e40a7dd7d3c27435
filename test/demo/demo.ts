/**
 * `npm run demo`: the main job on real input, told so that a person can follow. Three daemons, first over a private DHT, then over the
 * local network alone; apart they take thousands of changes, one is killed while writing, and together again all must be equal.
 *
 *   node test/demo/demo.ts [--dht] [--lan] [--changes N] [--short] [--keep]
 */
import { cpus, totalmem } from "node:os"
import { parseArgs } from "node:util"
import { readPages, readSettings } from "./input.ts"
import { type DemoNode, Processes, waitFor } from "./processes.ts"
import { type Document, documents, events, networkSockets, unequal } from "./state.ts"
import { type Acknowledged, plan, type Plan, work } from "./work.ts"

const { values: options } = parseArgs({
  options: { dht: { type: "boolean" }, lan: { type: "boolean" }, changes: { type: "string" }, short: { type: "boolean" }, keep: { type: "boolean" } }
})
const changes = options.short === true ? 1_000 : Number(options.changes ?? 10_000)
if (!Number.isInteger(changes) || changes < 30 || changes > 100_000) {
  console.error("--changes is a whole number from 30 to 100000")
  process.exit(2)
}

/** The setting that two nodes change, neither knowing of the other. */
const disputed = "user.corestore.dependencies.hypercore"
const bounds = { meetMs: 60_000, apartMs: 30_000, convergeMs: 600_000, settleMs: 60_000 }

const faults: Array<string> = []
const say = (text = ""): void => console.log(text)
const held = (holds: boolean, text: string, otherwise = text): void => {
  say(`  ${holds ? "yes" : "NO "}  ${holds ? text : otherwise}`)
  if (!holds) faults.push(otherwise)
}
const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`
const number = (n: number): string => n.toLocaleString("en-GB")

/** On a terminal only, and gone afterwards. */
const progress = (text: string): void => {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`)
}

let processes: Processes | undefined
let interrupted = false
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (interrupted) processes?.endNow()
    interrupted = true
    progress("")
    void (processes?.endAll() ?? Promise.resolve()).finally(() => process.exit(130))
  })
}
process.on("exit", () => processes?.endNow())

const main = async (): Promise<void> => {
  const pages = readPages()
  const settings = readSettings().filter(({ path }) => path !== disputed)
  const planned = plan(pages, settings, 3, changes)
  say(`kOS demo: three nodes, ${number(changes)} changes while apart.`)
  say(`Input: ${planned.pages} READMEs and change logs of the installed packages as pages, edited paragraph by paragraph;`)
  say(`       the package.json of corestore as ${planned.settings + 1} settings, edited key by key.`)
  say(`Machine: ${cpus().length} processors (${cpus()[0]?.model ?? "unknown"}), ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}.`)
  const both = options.dht !== true && options.lan !== true
  for (const carrier of ["dht", "lan"] as const) if (both || options[carrier] === true) await round(carrier, planned)
  say()
  if (faults.length === 0) return say("Everything held.")
  say(`${faults.length === 1 ? "One thing" : `${faults.length} things`} did not hold:`)
  for (const fault of faults) say(`  ${fault}`)
  process.exitCode = 1
}

const round = async (carrier: "dht" | "lan", planned: Plan): Promise<void> => {
  const began = performance.now()
  say()
  say(carrier === "dht" ? "== On a private DHT, without the local network ==" : "== On the local network alone, without a DHT ==")
  processes = new Processes({ name: "kos-demo", keep: options.keep === true, env: carrier === "dht" ? { KOS_NETWORK_LAN: "false" } : {} })
  try {
    const argv = carrier === "dht" ? ["--bootstrap", await processes.dht()] : ["--lan-only"]
    const nodes = ["attic", "barn", "cellar"].map((name) => processes?.node(name, argv)).filter((node) => node !== undefined)
    const run = new Round(nodes, planned, changes)
    if (!await run.meet(carrier)) return
    await run.writeTogether()
    await run.part()
    await run.writeApart()
    await run.reconnect()
    await run.judge()
    say()
    say(`This round took ${seconds(performance.now() - began)}.${options.keep === true ? ` The homes are kept in ${processes.directory}.` : ""}`)
  } finally {
    progress("")
    await processes.endAll()
    processes = undefined
  }
}

class Round {
  readonly #nodes: ReadonlyArray<DemoNode>
  readonly #plan: Plan
  readonly #changes: number
  readonly #acknowledged: Array<Acknowledged> = []
  #totals = new Map<string, number>()

  constructor(nodes: ReadonlyArray<DemoNode>, planned: Plan, count: number) {
    this.#nodes = nodes
    this.#plan = planned
    this.#changes = count
  }

  #node(index: number): DemoNode {
    const node = this.#nodes[index]
    if (node === undefined) throw new Error(`there is no node ${index}`)
    return node
  }

  #each<A>(run: (node: DemoNode) => Promise<A>): Promise<ReadonlyArray<A>> {
    return Promise.all(this.#nodes.map(run))
  }

  /** False when this machine cannot do it. */
  async meet(carrier: "dht" | "lan"): Promise<boolean> {
    await this.#each((node) => node.start())
    const [attic, ...others] = this.#nodes
    if (attic === undefined) return false
    if (carrier === "lan") {
      const lan = (await attic.call("sync.status", {})).carriers.find(({ name }) => name === "lan")
      if (lan?.listening !== true || /no multicast/i.test(lan.detail)) {
        say(`Multicast does not work on this machine (${lan?.detail ?? "no such carrier"}), so this round is left out.`)
        return false
      }
    }
    await attic.call("mesh.create", { name: "hill" })
    const began = performance.now()
    for (const node of others) {
      const { invite } = await attic.call("invite.create", {})
      await node.call("join", { invite, timeout: 60 })
    }
    await this.#inTouch(3)
    const status = await attic.call("sync.status", {})
    say(`Three daemons (pids ${this.#nodes.map(({ pid }) => pid).join(", ")}) are one mesh by two invites, after ${seconds(performance.now() - began)}; carried by ${status.carriers.map(({ name }) => name).join(" and ")}.`)
    return true
  }

  async #inTouch(wanted: number): Promise<void> {
    await waitFor(`${wanted} nodes in touch`, bounds.meetMs, async () => {
      const all = await this.#each((node) => node.call("status", {}))
      return all.every(({ mesh }) => mesh.inTouch === wanted) ? true : undefined
    })
  }

  async writeTogether(): Promise<void> {
    const attic = this.#node(0)
    const settings = readSettings()
    await attic.call("config.apply", { text: JSON.stringify(treeOf(settings)), format: "json", layer: "mesh" })
    const lanes = this.#nodes.map((_, i) => this.#plan.before.filter((_, k) => k % this.#nodes.length === i))
    const began = performance.now()
    await Promise.all(this.#nodes.map((node, i) => work(node, lanes[i] ?? [], { acknowledged: () => undefined, back: async () => { throw new Error(`${node.name} went away`) } })))
    await this.#sameDocuments()
    say(`Together they wrote the first paragraphs of ${this.#plan.before.length} pages; all hold them after ${seconds(performance.now() - began)}.`)
  }

  /** Waits until all three have the same documents. */
  async #sameDocuments(): Promise<void> {
    await waitFor("equal documents", bounds.convergeMs, () => unequal(this.#nodes.map(documents)).length === 0 ? true : undefined, 250)
  }

  async part(): Promise<void> {
    await this.#each((node) => node.call("mesh.mode", { mode: "isolated" }))
    const sockets = await waitFor("being apart", bounds.apartMs, async () => {
      const all = await this.#each((node) => node.call("sync.status", {}))
      const open = this.#nodes.map(({ pid }) => networkSockets(pid))
      return all.every((status) => status.mode === "isolated" && status.carriers.length === 0 && status.peers.every((peer) => !peer.inTouch)) && open.every((n) => n === 0) ? open : undefined
    })
    say(`Now each is isolated (kos mesh mode isolated): ${sockets.join(" + ")} network sockets open.`)
  }

  async writeApart(): Promise<void> {
    const total = this.#plan.apart.flat(2).length + 2
    const began = performance.now()
    const victim = this.#node(2)
    const share = this.#plan.apart[2]?.flat().length ?? 0
    let done = 0
    let ofVictim = 0
    let back: Promise<void> | undefined
    let killedAfter = 0
    const kill = async () => {
      killedAfter = ofVictim
      await victim.kill()
      await victim.start()
    }
    const acknowledged = (change: Acknowledged) => {
      this.#acknowledged.push(change)
      done++
      if (change.node === victim.name && ++ofVictim === Math.floor(share / 2)) back = kill()
      if (done % 20 === 0) progress(`${number(done)} of ${number(total)} changes, ${Math.round(done / (performance.now() - began) * 1_000)} a second`)
    }
    for (const [node, value] of [[this.#node(0), "^11.37.0"], [this.#node(1), "^11.37.1"]] as const) {
      const set = await node.call("config.set", { path: disputed, value, layer: "mesh" })
      const [event] = set.events
      acknowledged({ node: node.name, address: event?.address ?? "", command: "", subject: "config/mesh/user.corestore" })
    }
    const ran = await Promise.all(this.#nodes.map((node, i) => work(node, this.#plan.apart[i] ?? [], { acknowledged, back: async () => back })))
    await back
    const ms = performance.now() - began
    progress("")
    say(`Apart they took ${number(done)} changes in ${seconds(ms)} (${Math.round(done / ms * 1_000)} a second, all three together).`)
    const events = await victim.call("event.list", { type: "node.found-unclean/1", node: victim.name, limit: 10 })
    held(back !== undefined && events.length > 0, `${victim.name} was killed with kill -9 after ${number(killedAfter)} of its changes, came back (pid ${victim.pid}) and noted that in its log`,
      `${victim.name} noted nothing of having been killed`)
    say(`       ${number(ran[2]?.repeated ?? 0)} of its answers were lost in that; the same commands were sent again under the same ids.`)
    const apart = unequal(this.#nodes.map(documents)).length
    held(apart > 0, `${number(apart)} documents differ between the three now`, "the three do not differ: they were not apart")
    held(done === this.#changes + 2, `${number(done)} changes were acknowledged: ${number(this.#changes)} and the two that dispute one setting`, `only ${number(done)} of ${number(this.#changes + 2)} changes were acknowledged`)
  }

  /** How many events each node must hold of each other. */
  async #own(): Promise<ReadonlyMap<string, number>> {
    const all = await this.#each(async (node) => [node.name, (await node.call("node.list", {})).find(({ self }) => self)?.events ?? 0] as const)
    return new Map(all)
  }

  async reconnect(): Promise<void> {
    const own = await this.#own()
    const began = performance.now()
    await this.#each((node) => node.call("mesh.mode", { mode: "joined" }))
    let met: number | undefined
    await waitFor("convergence", bounds.convergeMs, async () => {
      const all = await this.#each((node) => node.call("node.list", {}))
      if (met === undefined && all.every((rows) => rows.every(({ inTouch }) => inTouch))) met = performance.now() - began
      const got = all.flat().reduce((sum, { events }) => sum + events, 0)
      progress(`${number(got)} events held by all together`)
      return all.every((rows) => rows.every(({ name, events }) => events >= (own.get(name) ?? 0))) ? true : undefined
    }, 50)
    const ms = performance.now() - began
    const sum = [...own.values()].reduce((a, b) => a + b, 0)
    progress("")
    say()
    say(`Together again (kos mesh mode joined): every node holds and has folded all ${number(sum)} events after ${seconds(ms)}${met === undefined ? "" : `, of which ${seconds(met)} to meet`}.`)
    await this.#settled()
  }

  /** Nothing is under way any more: checkpoints and the like have reached everybody, too. */
  async #settled(): Promise<void> {
    let last = ""
    await waitFor("quiet", bounds.settleMs, async () => {
      const all = await this.#each((node) => node.call("sync.status", {}))
      const now = JSON.stringify(all.map(({ logs }) => logs.map(({ log, length }) => [log, length]).toSorted()))
      const same = new Set(all.map(({ logs }) => JSON.stringify(logs.map(({ log, length }) => [log, length]).toSorted()))).size === 1
      const quiet = same && now === last && all.every(({ logs }) => logs.every(({ missingAt, length, known }) => missingAt.length === 0 && length === known))
      last = now
      return quiet ? true : undefined
    }, 300)
  }

  async judge(): Promise<void> {
    await this.#judgeState()
    await this.#judgeEvents()
    await this.#judgeConflict()
    await this.#judgeReceipts()
    await this.#judgeProof()
    await this.#showHistory()
  }

  async #judgeState(): Promise<void> {
    const all = this.#nodes.map(documents)
    const different = unequal(all)
    held(different.length === 0, `equal state: ${number(all[0]?.size ?? 0)} documents have the same heads and the same key-sorted JSON on all three (read from each node's tables)`,
      `${different.length} documents differ, the first is ${different[0] ?? ""}`)
    const texts = all.map((documents) => new Map(this.#plan.paragraphs.map(({ page }) => [page, textOf(documents.get(`memory/${page}`))])))
    const missing = this.#plan.paragraphs.filter(({ page, text }) => !texts.every((pages) => pages.get(page)?.includes(text)))
    held(missing.length === 0, `the ${number(this.#plan.paragraphs.length)} paragraphs written apart stand whole in their pages on all three (those that repeat a line of another are not judged)`,
      `${missing.length} of ${this.#plan.paragraphs.length} paragraphs are missing or torn, the first in ${missing[0]?.page ?? ""}: ${JSON.stringify(missing[0]?.text.slice(0, 60))}`)
  }

  async #judgeEvents(): Promise<void> {
    const told = await this.#each(events)
    const lost = told.map((found) => this.#acknowledged.filter(({ node, address, command, subject }) => {
      const event = found.get(address)
      return event === undefined || event.node !== node || event.subject !== subject || (command !== "" && event.command !== command)
    }).length)
    const twice = told.map((found) => {
      const commands = [...found.values()].map(({ command }) => command).filter((command) => command !== "")
      const mine = new Set(this.#acknowledged.map(({ command }) => command))
      const counted = commands.filter((command) => mine.has(command)).length
      return counted - new Set(commands.filter((command) => mine.has(command))).size
    })
    const n = this.#acknowledged.length
    held(lost.every((count) => count === 0), `events acknowledged ${number(n)}; found again by address, author, subject and command: ${this.#nodes.map(({ name }, i) => `${name} ${number(n - (lost[i] ?? 0))}`).join(", ")}; lost 0`,
      `events lost: ${this.#nodes.map(({ name }, i) => `${name} ${lost[i]}`).join(", ")} of ${n}`)
    held(twice.every((count) => count === 0), "no command was done twice", `commands done twice: ${twice.join(", ")}`)
  }

  async #judgeConflict(): Promise<void> {
    const all = await this.#each((node) => node.call("config.conflicts", { all: true }))
    const [first] = all[0] ?? []
    const authors = first?.values.map(({ by }) => by.node).toSorted().join(" ")
    held(all.every((conflicts) => conflicts.length === 1 && conflicts[0]?.id === first?.id) && first?.path === disputed && authors === "attic barn", "one conflict on each node, the same one:",
      `conflicts found: ${all.map((conflicts) => conflicts.map(({ path }) => path).join(" ") || "none").join("; ")}`)
    for (const { choice, value, by, winner } of first?.values ?? []) say(`         ${choice}  ${disputed} = ${JSON.stringify(value)} by ${by.actor} on ${by.node} at ${by.at}${winner ? " (counts for now)" : ""}`)
    if (first === undefined) return
    const cellar = this.#node(2)
    const wanted = first.values.find(({ value }) => value === "^11.37.1") ?? first.values[0]
    await cellar.call("config.resolve", { conflict: first.id, choice: wanted?.choice ?? 1 })
    const began = performance.now()
    const gone = await waitFor("the end of the conflict", bounds.settleMs, async () => {
      const left = await this.#each((node) => node.call("config.conflicts", { all: true }))
      const values = await this.#each((node) => node.call("config.get", { path: disputed }))
      return left.every((conflicts) => conflicts.length === 0) && values.every(({ value }) => value === wanted?.value) ? true : undefined
    }).catch(() => false)
    held(gone, `resolved on cellar (kos config resolve ${first.id} ${wanted?.choice ?? 1}); gone everywhere after ${seconds(performance.now() - began)}`, "the conflict was resolved but not everywhere")
  }

  async #judgeReceipts(): Promise<void> {
    await this.#settled()
    const all = await this.#each((node) => node.call("sync.status", {}))
    held(all.every(({ logs, peers }) => logs.every(({ missingAt }) => missingAt.length === 0) && peers.every(({ waiting, behind }) => waiting === 0 && behind === 0)),
      "receipts (kos sync status on attic), nothing waits for anybody:", "receipts: something still waits for somebody")
    for (const { node, length, heldBy } of all[0]?.logs ?? []) say(`         log of ${node}: ${number(length)} blocks, held by attic, ${heldBy.join(" and ")}`)
  }

  async #judgeProof(): Promise<void> {
    const verified = await this.#each((node) => node.call("event.verify", {}, { silenceMsMax: 300_000 }))
    const agreed = verified[0]?.logs ?? []
    held(verified.every(({ clean }) => clean), `kos event verify is clean on all three: ${number(agreed.reduce((sum, { blocks }) => sum + blocks, 0))} blocks and ${number(agreed.reduce((sum, { events }) => sum + events, 0))} events recomputed in ${verified.map(({ ms }) => seconds(ms)).join(", ")}; ${agreed.reduce((sum, { witnesses }) => sum + witnesses, 0)} checkpoints of others agree`,
      `kos event verify finds faults: ${JSON.stringify(verified.flatMap(({ logs, misbehaviour }) => [...logs.flatMap(({ faults }) => faults), ...misbehaviour])[0])}`)
    const hashes = new Set(verified.map(({ logs }) => JSON.stringify(logs.map(({ log, treeHash, blocks }) => [log, blocks, treeHash]).toSorted())))
    held(hashes.size === 1, "the tree hashes of all three logs are the same on all three", "the tree hashes of the logs differ")
    const rebuilt = await this.#each((node) => node.call("doctor", { rebuild: true }, { silenceMsMax: 300_000 }))
    held(rebuilt.every(({ rebuild }) => rebuild?.equal === true), `kos doctor --rebuild: rebuilt from the logs alone, the state is equal on all three (${rebuilt.map(({ rebuild }) => seconds(rebuild?.ms ?? 0)).join(", ")})`,
      `kos doctor --rebuild differs: ${rebuilt.map(({ rebuild }) => rebuild?.differences.join(" ") ?? "").join("; ")}`)
    const unwell = rebuilt.flatMap(({ findings }, i) => findings.filter(({ level }) => level === "fault").map(({ detail }) => `${this.#node(i).name}: ${detail}`))
    held(unwell.length === 0, "kos doctor finds no fault", unwell[0] ?? "")
  }

  async #showHistory(): Promise<void> {
    const page = this.#plan.shown
    const rows = await this.#node(0).call("memory.history", { page, limit: 200 })
    const writers = new Set(rows.map(({ by }) => by.node))
    held(writers.size === 3, `the history of ${page} names all three nodes (kos memory history ${page}):`, `the history of ${page} names only ${[...writers].join(" and ")}`)
    const shown = rows.length <= 12 ? rows : [...rows.slice(0, 6), undefined, ...rows.slice(-5)]
    for (const row of shown) say(row === undefined ? `         … ${rows.length - 11} more` : `         @${String(row.by.arrival ?? 0).padEnd(6)} ${row.by.at}  ${row.by.node.padEnd(6)}  ${row.summary}`)
  }
}

const textOf = (document: Document | undefined): string => {
  const value: unknown = JSON.parse(document?.value ?? "{}")
  return typeof value === "object" && value !== null && "text" in value ? String(value.text) : ""
}

/** Dotted paths back into the tree that a file holds; the demo's paths have quoted parts only where package.json has odd names. */
const treeOf = (settings: ReturnType<typeof readSettings>): Record<string, unknown> => {
  const tree: Record<string, unknown> = {}
  for (const { path, value } of settings) {
    const parts = [...path.matchAll(/"((?:[^"\\]|\\.)*)"|[^."]+/g)].map(([whole, quoted]) => quoted ?? whole)
    let at = tree
    for (const part of parts.slice(0, -1)) {
      const inner = at[part]
      if (typeof inner === "object" && inner !== null) at = inner as Record<string, unknown>
      else at = (at[part] = {})
    }
    at[parts.at(-1) ?? ""] = value
  }
  return tree
}

try {
  await main()
} catch (cause) {
  progress("")
  if (!interrupted) {
    console.error(`The demo broke off: ${cause instanceof Error ? cause.message : String(cause)}`)
    process.exitCode = 1
  }
}
