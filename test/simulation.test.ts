/**
 * Whole nodes in one process: real Hypercores, tables and workers, meeting over the memory carrier with seeded delay, loss of
 * connection and partition. Whatever happens, in the end all hold the same events and say the same.
 *
 * `KOS_SEEDS=20 KOS_STEPS=200 node test/simulation.test.ts` runs longer; a failure names its seed.
 */
import { Context, Effect, Exit, Layer, Result, Scope } from "effect"
import t from "tap"
import { inviteKey, type Invite } from "../src/codec/invite.ts"
import { randomBytes } from "../src/codec/signature.ts"
import { uuidv7 } from "../src/codec/uuid.ts"
import { decideConfig } from "../src/commands/decide-config.ts"
import { decideMemory } from "../src/commands/decide-memory.ts"
import { decideIssueInvite } from "../src/commands/decide-membership.ts"
import { membershipLock, operationEvents } from "../src/commands/membership-events.ts"
import type { Refusal } from "../src/commands/refusal.ts"
import { rebuild } from "../src/boot/doctor.ts"
import { openHome } from "../src/boot/first-run.ts"
import { enter, redeem } from "../src/boot/joining.ts"
import { type MeshNode, openMeshNode } from "../src/boot/mesh-node.ts"
import { DocumentWorker } from "../src/projections/documents/pool.ts"
import { Members } from "../src/projections/members.ts"
import { Runner } from "../src/projections/runner.ts"
import { TableError } from "../src/projections/tables/table-error.ts"
import { Tables } from "../src/projections/tables/tables.ts"
import { verifyLogs } from "../src/api/handlers/verify.ts"
import { MemoryNetwork, seededRandom } from "../src/swarm/carriers/memory.ts"
import { Vault } from "../src/vault/vault.ts"

t.setTimeout(600_000)

const seeds = Number(process.env["KOS_SEEDS"] ?? 2)
const steps = Number(process.env["KOS_STEPS"] ?? 60)
const now = () => Math.floor(performance.timeOrigin + performance.now())

interface Running {
  readonly home: string
  node: MeshNode
  scope: Scope.Closeable
}

const open = async (home: string, network: MemoryNetwork): Promise<Running> => {
  const vault = await Vault.open(home)
  const mesh = await vault?.currentMesh()
  if (vault === undefined || mesh === undefined) throw new Error(`${home} is no node`)
  const scope = Effect.runSync(Scope.make())
  const node = await Effect.runPromise(openMeshNode({
    vault, mesh, version: "test", now, notice: () => undefined,
    carriers: () => [network.carrier()], mode: () => "joined", limits: () => ({}), redeem: (self) => redeem(self, now)
  }).pipe(Effect.provideService(Scope.Scope, scope)))
  return { home, node, scope }
}

const close = (running: Running) => Effect.runPromise(Scope.close(running.scope, Exit.void))

const asker = () => ({ command: uuidv7(now(), randomBytes(10)), actor: "person:test" })

const until = async (what: string, holds: () => boolean, msMax = 30_000) => {
  const end = now() + msMax
  while (!holds()) {
    if (now() > end) throw new Error(`${what} did not come about within ${msMax} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const invite = async (host: MeshNode): Promise<Invite> => {
  const made: Invite = {
    mesh: host.mesh, meshName: host.members.view().name, seed: randomBytes(32), issuer: host.vault.deviceId, role: "member", expiresMs: now() + 60_000, bootstrap: [], lan: []
  }
  await Effect.runPromise(host.dispatch.run("invite", asker(), [membershipLock], Effect.suspend(() =>
    Effect.map(Effect.fromResult(decideIssueInvite(host.situation(), { invite: made, uses: 1 })), (operations) => ({ summary: "", events: operationEvents(host.vault, operations) })))))
  await host.swarm.openInvite(Buffer.from(inviteKey(made), "hex"))
  return made
}

/** One random wish on one node; true when it was acknowledged. */
const wish = async (node: MeshNode, random: () => number, step: number): Promise<ReadonlyArray<string>> => {
  const pick = (n: number) => Math.floor(random() * n)
  const page = `notes/page-${pick(6)}`
  const work: Effect.Effect<{ readonly events: ReadonlyArray<{ readonly address: string }> }, Refusal> = pick(3) === 0
    ? node.dispatch.change("config.set", asker(), ["config/mesh"], (documents) =>
      decideConfig(documents, { _tag: "SetValue", layer: "mesh", path: `user.key${pick(5)}`, value: `${step}-${pick(100)}` }))
    : node.dispatch.change("memory.add", asker(), [`memory/${page}`], (documents) => pick(4) === 0
      ? decideMemory(documents, { _tag: "Add", page, text: "", fields: new Map([[`f${pick(3)}`, { value: step }]]) }, { pageBytesMax: 100_000 })
      : decideMemory(documents, { _tag: "Add", page, text: `Paragraph ${step} of ${node.members.nameOf(node.vault.deviceId)}.` }, { pageBytesMax: 100_000 }))
  const result = await Effect.runPromise(Effect.result(work))
  return Result.isSuccess(result) ? result.success.events.map(({ address }) => address) : []
}

/**
 * Folds everything that a node holds once more, in another order: each log grows by random steps, in turns by chance, and now and then the
 * tables refuse (as a full disk does), so that a tick is done twice.
 */
const foldAgain = async (node: MeshNode, directory: string, random: () => number): Promise<Tables> => {
  const tables = new Tables(`${directory}/again-${Math.floor(random() * 1e9)}.db`)
  const scope = Effect.runSync(Scope.make())
  const worker = Context.get(await Effect.runPromise(Layer.buildWithScope(Layer.fresh(DocumentWorker.layer), scope)), DocumentWorker)
  const members = new Members(node.mesh, tables)
  tables.transaction(() => {
    for (const operation of node.members.operations()) members.take(operation.bytes, "met")
  })
  let refusals = 3
  const transaction = tables.transaction.bind(tables)
  tables.transaction = (work) => transaction(() => {
    const done = work()
    if (refusals > 0 && random() < 0.2) {
      refusals--
      throw new TableError({ reason: "full", operation: "test", detail: "refused by chance" })
    }
    return done
  })
  // A log that cannot be opened now and then: what was read of others in that turn is read again.
  let unopened = 3
  const openHeld = async (log: string) => {
    if (unopened > 0 && random() < 0.3) {
      unopened--
      throw new Error("not opened by chance")
    }
    return node.store.openHeld(log)
  }
  const grown = new Map<string, number>()
  const runner = new Runner({
    tables, members, worker, keyring: () => node.keyring, now, ownDevice: node.vault.deviceId, notice: () => undefined, observe: () => undefined,
    open: openHeld, ownLog: () => ({ log: node.journal.log(), length: grown.get(node.journal.log()) ?? 0 })
  })
  const wanted = node.tables.cursors.all()
  while (wanted.some(({ log, folded }) => (grown.get(log) ?? 0) < folded)) {
    const short = wanted.filter(({ log, folded }) => (grown.get(log) ?? 0) < folded)
    const one = short[Math.floor(random() * short.length)]
    if (one === undefined) break
    const length = Math.min(one.folded, (grown.get(one.log) ?? 0) + 1 + Math.floor(random() * 9))
    grown.set(one.log, length)
    if (one.log !== node.journal.log()) tables.heads.grew(one.log, length)
    runner.wake(one.log)
    if (random() < 0.5) await runner.idle()
  }
  await until("everything is folded again", () => wanted.every(({ log, folded }) => tables.cursors.folded(log) === folded))
  await runner.stop()
  await Effect.runPromise(Scope.close(scope, Exit.void))
  return tables
}

for (let seed = 1; seed <= seeds; seed++) {
  t.test(`three nodes, seed ${seed}: nothing is lost and all agree`, { timeout: 180_000 }, async (t) => {
    const random = seededRandom(seed, "simulation")
    const pick = (n: number) => Math.floor(random() * n)
    const network = new MemoryNetwork({ seed, delayMs: { min: 0, max: 15 } })
    const directory = t.testdir()
    const homes = ["alpha", "beta", "gamma"].map((name) => `${directory}/${name}`)
    for (const [i, home] of homes.entries()) Effect.runSync(Effect.fromResult(await openHome(home, ["alpha", "beta", "gamma"][i], now)))
    const nodes: Array<Running> = []
    for (const home of homes) nodes.push(await open(home, network))
    const alpha = nodes[0]
    if (alpha === undefined) throw new Error("no node")
    for (const i of [1, 2]) {
      const newcomer = nodes[i]
      if (newcomer === undefined) continue
      const { inviteText } = await import("../src/codec/invite.ts")
      await Effect.runPromise(enter(newcomer.node, inviteText(await invite(alpha.node)), 20_000, () => [network.carrier()], now))
      await close(newcomer)
      nodes[i] = await open(newcomer.home, network)
    }
    await until("three members", () => nodes.every(({ node }) => node.members.view().members.size === 3))

    const acknowledged = new Set<string>()
    for (let step = 0; step < steps; step++) {
      const who = nodes[pick(3)]
      if (who === undefined) continue
      const what = pick(20)
      if (what === 0) {
        const others = nodes.filter((other) => other !== who).map(({ node }) => node.vault.deviceId)
        network.partition([who.node.vault.deviceId], others)
      } else if (what === 1) network.heal()
      else if (what === 2) {
        // A crash: nothing is said, nothing is marked.
        const i = nodes.indexOf(who)
        await close(who)
        nodes[i] = await open(who.home, network)
      } else if (what === 3) {
        const other = nodes[(nodes.indexOf(who) + 1) % 3]
        if (other !== undefined) network.cut(who.node.vault.deviceId, other.node.vault.deviceId)
      } else {
        const wishes = await Promise.all(Array.from({ length: 1 + pick(4) }, (_, k) => wish(who.node, random, step * 10 + k)))
        for (const address of wishes.flat()) acknowledged.add(address)
      }
    }
    network.heal()
    for (const { node } of nodes) node.swarm.syncNow()
    const parts = (node: MeshNode) => {
      const { events, cursors, documents, operations, witnesses } = node.tables.fingerprint()
      return JSON.stringify({ events, cursors, documents, operations, witnesses })
    }
    await until("one state", () => new Set(nodes.map(({ node }) => parts(node))).size === 1).catch((error: unknown) => {
      for (const { node } of nodes) t.comment(node.members.nameOf(node.vault.deviceId), JSON.stringify(node.tables.fingerprint()), JSON.stringify(node.tables.cursors.all()), node.runner.fault, JSON.stringify(node.swarm.sessions()))
      throw error
    })
    t.ok(acknowledged.size > steps / 2, `${acknowledged.size} events were acknowledged`)
    for (const { node } of nodes) {
      const name = node.members.nameOf(node.vault.deviceId)
      const lost = [...acknowledged].filter((address) => {
        const [log = "", place = ""] = address.split("/")
        const [block, offset] = place.split(".").map(Number)
        return node.tables.events.byAddress({ log, block: block ?? 0, offset: offset ?? 0 }) === undefined
      })
      t.same(lost, [], `${name} lost nothing`)
      t.equal(node.tables.quarantine.count(), 0, `${name} quarantined nothing`)
      t.equal(node.tables.documents.totals().waiting, 0, `${name} waits for nothing`)
      const again = await rebuild(node, now, () => undefined)
      t.match(again, { equal: true, differences: [] }, `${name} rebuilds to the same`)
      const verified = await verifyLogs(node, undefined, () => undefined)
      t.ok(verified.clean, `${name} verifies clean`)
    }
    const [first = alpha] = nodes
    for (let order = 0; order < 3; order++) {
      const again = await foldAgain(first.node, directory, seededRandom(seed * 10 + order, "order"))
      const { events, documents, operations, witnesses } = again.fingerprint()
      const live = first.node.tables.fingerprint()
      t.same({ events, documents, operations, witnesses }, { events: live.events, documents: live.documents, operations: live.operations, witnesses: live.witnesses }, `order ${order} gives the same state`)
      again.close()
    }
    for (const running of nodes) await close(running)
  })
}
