/**
 * Whole nodes in one process: real Hypercores, tables and workers, meeting over the memory carrier with seeded delay, loss of
 * connection and partition. Meanwhile they let each other in, put each other out, take and give roles and keys. Whatever happens, in the end
 * all that belong hold the same events and say the same, and nothing that counts is lost.
 *
 * `KOS_SEEDS=20 KOS_STEPS=200 node test/simulation.test.ts` runs longer; `KOS_SEED=7` runs that one. A failure names its seed.
 */
import { Effect } from "effect"
import t, { type Test } from "tap"
import type { Address } from "../src/codec/address.ts"
import { verifyLogs } from "../src/api/handlers/verify.ts"
import { rebuild } from "../src/boot/doctor.ts"
import type { MeshNode } from "../src/boot/mesh-node.ts"
import { inviteKey } from "../src/codec/invite.ts"
import { rankOf } from "../src/codec/operation.ts"
import { decideSetRole } from "../src/commands/decide-membership.ts"
import { readPage } from "../src/projections/families/memory.ts"
import { MemoryNetwork, seededRandom } from "../src/swarm/carriers/memory.ts"
import { close, enterBy, foldAgain, govern, invite, makeHome, now, open, type Random, type Running, type Said, say, wish, within } from "./simulation-world.ts"

t.setTimeout(3_600_000)

const only = process.env["KOS_SEED"]
const seeds = only === undefined ? Array.from({ length: Number(process.env["KOS_SEEDS"] ?? 2) }, (_, i) => i + 1) : [Number(only)]
const steps = Number(process.env["KOS_STEPS"] ?? 60)
const names = ["alpha", "beta", "gamma", "delta"]

const deviceOf = ({ node }: Running): string => node.vault.deviceId
const own = ({ node }: Running) => node.members.view().members.get(node.vault.deviceId)
const reads = (running: Running): boolean => rankOf(own(running)?.role ?? "seeder") >= rankOf("reader")
const governs = (running: Running): boolean => own(running)?.standing === "member" && rankOf(own(running)?.role ?? "seeder") >= rankOf("admin")

/** Nodes of one simulated society, in the order of their names; those that never came in are meshes of their own. */
class Society {
  readonly network: MemoryNetwork
  readonly nodes: Array<Running>
  readonly mesh: string
  /** What happened, for a failure to tell. */
  readonly story: Array<string> = []

  constructor(network: MemoryNetwork, nodes: Array<Running>, mesh: string) {
    this.network = network
    this.nodes = nodes
    this.mesh = mesh
  }

  nameOf(running: Running): string {
    return names[this.nodes.indexOf(running)] ?? ""
  }

  belongs(running: Running): boolean {
    return running.node.mesh === this.mesh && own(running)?.standing === "member"
  }

  async reopen(running: Running): Promise<void> {
    const i = this.nodes.indexOf(running)
    await close(running)
    this.nodes[i] = await open(running.home, this.network)
  }

  /** Several newcomers come with one invite, each to a door of its own, parted from the others: at most one of them stays. */
  async letIn(host: Running, meets: ReadonlyArray<readonly [Running, Running]>): Promise<void> {
    const made = await invite(host.node, "member")
    if (made === undefined) return
    const doors = meets.map(([door]) => door)
    const known = await within(3_000, () => doors.every(({ node }) => node.members.view().invites.has(inviteKey(made))))
    if (meets.length > 1) {
      if (!known) return
      const sides = meets.map((pair) => pair.map(deviceOf))
      for (const [i, side] of sides.entries()) for (const other of sides.slice(i + 1)) this.network.partition(side, other)
    }
    for (const { node } of doors) await node.swarm.openInvite(Buffer.from(inviteKey(made), "hex"))
    await Promise.all(meets.map(async ([door, newcomer]) => {
      const i = this.nodes.indexOf(newcomer)
      const { running, entered } = await enterBy(newcomer, made, this.network, 4_000)
      this.nodes[i] = running
      if (entered) this.story.push(`${names[i]} comes in at ${this.nameOf(door)}`)
    }))
  }

  async end(): Promise<void> {
    for (const running of this.nodes) await close(running)
  }
}

const founded = async (directory: string, seed: number): Promise<Society> => {
  const network = new MemoryNetwork({ seed, delayMs: { min: 0, max: 15 } })
  const nodes: Array<Running> = []
  for (const name of names) {
    await makeHome(`${directory}/${name}`, name)
    nodes.push(await open(`${directory}/${name}`, network))
  }
  const [alpha, beta, gamma] = nodes
  if (alpha === undefined || beta === undefined || gamma === undefined) throw new Error("no nodes")
  const society = new Society(network, nodes, alpha.node.mesh)
  for (const newcomer of [beta, gamma]) await society.letIn(alpha, [[alpha, newcomer]])
  await say(alpha.node, () => decideSetRole(alpha.node.situation(), { node: deviceOf(beta), role: "admin", lengthOf: () => 0 }))
  const ready = () => nodes.slice(0, 3).every(({ node }) => node.members.view().members.size === 3 && node.members.view().members.get(deviceOf(beta))?.role === "admin")
  if (!await within(20_000, ready)) throw new Error("a mesh of an owner, an admin and a member did not come about")
  return society
}

const step = async (society: Society, random: Random, number: number, said: Array<Said>): Promise<void> => {
  const { nodes, network, story } = society
  const pick = (n: number) => Math.floor(random() * n)
  const who = nodes[pick(nodes.length)]
  const what = pick(24)
  if (who === undefined) return
  if (what < 2) {
    const side = nodes.filter((other) => other === who || random() < 0.3)
    network.partition(side.map(deviceOf), nodes.filter((other) => !side.includes(other)).map(deviceOf))
    story.push(`${number}: ${side.map((one) => society.nameOf(one)).join("+")} apart`)
  } else if (what < 4) {
    network.heal()
    story.push(`${number}: all meet`)
  } else if (what === 4) await society.reopen(who)
  else if (what === 5) {
    const other = nodes[(nodes.indexOf(who) + 1) % nodes.length]
    if (other !== undefined) network.cut(deviceOf(who), deviceOf(other))
  } else if (what < 12 && who.node.mesh === society.mesh) {
    const done = await govern(who.node, random)
    if (done !== "") story.push(`${number}: ${society.nameOf(who)} ${done}`)
  } else if (what < 14) {
    const outside = nodes.filter((one) => !society.belongs(one)).slice(0, 2)
    const doors = nodes.filter((one) => society.belongs(one) && governs(one))
    const meets = outside.flatMap((newcomer, i) => doors[i] === undefined ? [] : [[doors[i], newcomer] as const])
    const [door] = doors
    if (door !== undefined && meets.length > 0) await society.letIn(door, meets)
  } else if (who.node.mesh === society.mesh) {
    for (const one of await Promise.all(Array.from({ length: 1 + pick(4) }, (_, k) => wish(who.node, random, number * 10 + k)))) said.push(...one)
  }
}

/** What nodes that belong must agree on; documents and events only when they have keys. */
const stateOf = (running: Running): string => {
  const { node } = running
  const view = node.members.view()
  const { events, cursors, documents, operations, witnesses, cutoffs, sealed } = node.tables.fingerprint()
  const membership = {
    members: [...view.members.values()], void: view.void, threshold: view.threshold, operations: view.operations, heads: view.heads.toSorted(),
    epochs: view.epochs.map((epoch) => ({ ...epoch, sealed: [...epoch.sealed.keys()].toSorted() })), devices: [...view.devices]
  }
  return JSON.stringify({ membership, cursors, ...(reads(running) ? { operations, events, documents, witnesses, cutoffs, sealed } : {}) })
}

const agree = (society: Society): boolean => {
  const good = society.nodes.filter((one) => society.belongs(one))
  if (good.some(({ node }) => good.some((other) => node.members.standing(deviceOf(other)) !== "member"))) return false
  return [true, false].every((reading) => new Set(good.filter((one) => reads(one) === reading).map(stateOf)).size <= 1) &&
    new Set(good.map(({ node }) => `${node.members.view().operations} ${node.tables.fingerprint().cursors}`)).size <= 1
}

/** Documents count up to here. */
const endOf = ({ cutAt, docsTo }: { readonly cutAt?: number | undefined; readonly docsTo?: number | undefined }): number => Math.min(cutAt ?? Infinity, docsTo ?? Infinity)

const historyOf = (node: MeshNode, doc: string) => Effect.runPromise(node.worker.history(doc, (id) => node.tables.documents.load(id)))

/** Does somebody else's change depend on the one at this place, or on a later one of its log? */
const isBuiltOn = (history: Awaited<ReturnType<typeof historyOf>>, at: Address): boolean => {
  const these = new Set(history.filter(({ log, block, offset }) => log === at.log && (block > at.block || block === at.block && offset >= at.offset)).map(({ hash }) => hash))
  return history.some(({ log, deps }) => log !== at.log && deps.some((dep) => these.has(dep)))
}

const checkNode = async (t: Test, name: string, node: MeshNode, said: ReadonlyArray<Said>): Promise<void> => {
  const logs = new Map(node.members.logs().map((log) => [log.log, log]))
  const wrong: Array<string> = []
  for (const { address, page, words } of said) {
    const [log = "", place = ""] = address.split("/")
    const [block = 0, offset = 0] = place.split(".").map(Number)
    const bounds = logs.get(log)
    // Of a device whose admission does not count.
    if (bounds === undefined) continue
    const row = node.tables.events.byAddress({ log, block, offset })
    const status = row?.status
    const counts = block < endOf(bounds)
    // Beyond the cut-off counts what somebody in good standing has built on.
    const builtOn = !counts && status === "known" && row !== undefined && isBuiltOn(await historyOf(node, row.subject), { log, block, offset })
    if (counts ? status !== "known" : block >= (bounds.cutAt ?? Infinity) && status === "known" && !builtOn) wrong.push(`${address} ${counts ? "counts" : "is cut off"} and is ${status ?? "missing"}`)
    if (page === undefined || words === undefined || !counts) continue
    const state = node.tables.documents.state(page)
    if (state === undefined || !readPage(state.live).text.includes(words)) wrong.push(`${address}: ${page} lacks "${words}"`)
  }
  t.same(wrong, [], `${name} lost nothing that counts, and counts nothing else`)
  const beyond = node.tables.quarantine.list(10_000).filter(({ log, block }) => block < endOf(logs.get(log) ?? {}))
  t.same(beyond, [], `${name} quarantined nothing but what is cut off`)
  t.equal(node.tables.documents.totals().waiting, 0, `${name} waits for nothing`)
  t.match(await rebuild(node, now, () => undefined), { equal: true, differences: [] }, `${name} rebuilds to the same`)
  const verified = await verifyLogs(node, undefined, true, () => undefined)
  t.ok(verified.clean, `${name} verifies clean`)
  if (!verified.clean) t.comment(JSON.stringify(verified.logs.filter(({ faults }) => faults.length > 0)), JSON.stringify(verified.misbehaviour))
}

for (const seed of seeds) {
  t.test(`four nodes, seed ${seed}: nothing that counts is lost and all that belong agree`, { timeout: 300_000 }, async (t) => {
    const random = seededRandom(seed, "simulation")
    const directory = t.testdir()
    const society = await founded(directory, seed)
    const { nodes, network, story } = society
    const said: Array<Said> = []
    for (let number = 0; number < steps; number++) await step(society, random, number, said)
    network.heal()
    for (const { node } of nodes) node.swarm.syncNow()
    const agreed = await within(60_000, () => agree(society))
    const good = nodes.filter((one) => society.belongs(one))
    if (!agreed || process.env["KOS_STORY"] !== undefined) {
      t.comment(story.join("\n"))
      for (const one of agreed ? [] : nodes) {
        t.comment(society.nameOf(one), own(one)?.standing, own(one)?.role, stateOf(one), JSON.stringify(one.node.tables.cursors.all()), one.node.runner.fault, JSON.stringify(one.node.swarm.sessions()), JSON.stringify(one.node.swarm.refusals()))
      }
    }
    t.ok(agreed, "all that belong agree")
    t.comment(`${said.length} events acknowledged; ${good.map((one) => `${society.nameOf(one)} ${own(one)?.role}`).join(", ")} belong; ${story.length} turns`)
    t.ok(said.length > steps / 3, `${said.length} events were acknowledged`)
    for (const one of good.filter(reads)) await checkNode(t, society.nameOf(one), one.node, said)
    const [first] = good.filter(reads)
    for (let order = 0; first !== undefined && order < 3; order++) {
      const again = await foldAgain(first.node, directory, seededRandom(seed * 10 + order, "order"))
      const parts = ["events", "documents", "operations", "witnesses", "cutoffs"] as const
      const [folded, live] = [again.fingerprint(), first.node.tables.fingerprint()]
      t.same(parts.filter((part) => folded[part] !== live[part]), [], `order ${order} gives the same state`)
      again.close()
    }
    await society.end()
  })
}
