/** Whole nodes in one process over the memory carrier, for simulations: opened, closed, let in, and wishing things by chance. */
import { Context, Effect, Exit, Layer, Result, Scope } from "effect"
import { rotateEpoch } from "../src/api/handlers/epoch.ts"
import { lengthOf } from "../src/api/handlers/mesh.ts"
import { makeCandidates } from "../src/boot/candidates.ts"
import { startEpochReactor } from "../src/boot/epoch-reactor.ts"
import { openHome } from "../src/boot/first-run.ts"
import { readIntroduction } from "../src/boot/introduction.ts"
import { enter, redeem } from "../src/boot/joining.ts"
import { type MeshNode, openMeshNode } from "../src/boot/mesh-node.ts"
import { toHex } from "../src/codec/bytes.ts"
import { hashParts } from "../src/codec/hash.ts"
import { certifyInvite, type Invite, inviteKey, inviteText } from "../src/codec/invite.ts"
import type { Role } from "../src/codec/operation.ts"
import { randomBytes } from "../src/codec/signature.ts"
import { uuidv7 } from "../src/codec/uuid.ts"
import { decideConfig } from "../src/commands/decide-config.ts"
import { type Decision, decideIssueInvite, decideLeave, decideRevoke, decideSetRole } from "../src/commands/decide-membership.ts"
import { decideMemory } from "../src/commands/decide-memory.ts"
import { membershipLock, operationEvents } from "../src/commands/membership-events.ts"
import type { Refusal } from "../src/commands/refusal.ts"
import { DocumentWorker } from "../src/projections/documents/pool.ts"
import { Members } from "../src/projections/members.ts"
import { Runner } from "../src/projections/runner.ts"
import { TableError } from "../src/projections/tables/table-error.ts"
import { Tables } from "../src/projections/tables/tables.ts"
import type { MemoryNetwork } from "../src/swarm/carriers/memory.ts"
import { Vault } from "../src/vault/vault.ts"

export const now = (): number => Math.floor(performance.timeOrigin + performance.now())

/** Chance that a test can repeat. */
export type Random = () => number

export interface Running {
  readonly home: string
  readonly node: MeshNode
  readonly scope: Scope.Closeable
}

export const makeHome = async (home: string, name: string): Promise<void> => void Effect.runSync(Effect.fromResult(await openHome(home, name, now)))

/** As the daemon does, but for the doors: with the reactor that keeps the mesh's keys. */
export const open = async (home: string, network: MemoryNetwork): Promise<Running> => {
  const vault = await Vault.open(home)
  const mesh = await vault?.currentMesh()
  if (vault === undefined || mesh === undefined) throw new Error(`${home} is no node`)
  const scope = Effect.runSync(Scope.make())
  const notice = () => undefined
  const node = await Effect.runPromise(Effect.gen(function*() {
    const opened = yield* openMeshNode({
      vault, mesh, version: "test", now, notice, carriers: () => [network.carrier()], mode: () => "joined", limits: () => ({ dismissedEveryMs: 200 }),
      redeem: (self) => redeem(self, { now, candidates: makeCandidates(now), bootstrap: () => [] })
    })
    yield* startEpochReactor({ node: opened, now, notice })
    return opened
  }).pipe(Effect.provideService(Scope.Scope, scope)))
  return { home, node, scope }
}

export const close = (running: Running): Promise<void> => Effect.runPromise(Scope.close(running.scope, Exit.void))

export const asker = (): { readonly command: string; readonly actor: string } => ({ command: uuidv7(now(), randomBytes(10)), actor: "person:test" })

/** False when it does not come about within this time. */
export const within = async (msMax: number, holds: () => boolean): Promise<boolean> => {
  const end = now() + msMax
  while (!holds()) {
    if (now() > end) return false
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return true
}

/** Says it to the mesh if this node may; false when it may not. */
export const say = async (node: MeshNode, decide: () => Decision): Promise<boolean> => {
  const done = await Effect.runPromise(Effect.result(node.dispatch.run("test", asker(), [membershipLock], Effect.suspend(() =>
    Effect.map(Effect.fromResult(decide()), (operations) => ({ summary: "", events: operationEvents(node.vault, operations) }))))))
  return Result.isSuccess(done) && done.success.events.length > 0
}

/** Undefined when this node may not invite for that role. */
export const invite = async (host: MeshNode, role: Role): Promise<Invite | undefined> => {
  const made: Invite = {
    mesh: host.mesh, meshName: host.members.view().name, seed: randomBytes(16), issuer: host.vault.deviceId, role, expiresMs: now() + 600_000, bootstrap: [], lan: []
  }
  const issued = await say(host, () => decideIssueInvite(host.situation(), { invite: made, uses: 1, certificate: certifyInvite(made) }))
  if (issued) await host.swarm.openInvite(Buffer.from(inviteKey(made), "hex"))
  return issued ? made : undefined
}

/** Goes through the door with an invite; the node opened anew in the mesh, or as it was when nobody let it in. */
export const enterBy = async (newcomer: Running, made: Invite, network: MemoryNetwork, timeoutMs: number): Promise<{ readonly running: Running; readonly entered: boolean }> => {
  const entered = await Effect.runPromise(Effect.result(enter(newcomer.node, inviteText(made), { timeoutMs, makeCarriers: () => [network.carrier()], now, onWaiting: () => undefined })))
  if (Result.isFailure(entered)) return { running: newcomer, entered: false }
  await close(newcomer)
  return { running: await open(newcomer.home, network), entered: true }
}

/** One thing that was acknowledged: where it stands, and the words that it added to a page. */
export interface Said {
  readonly address: string
  readonly page?: string
  readonly words?: string
}

/** One random wish about a document on one node; empty when it was refused. */
export const wish = async (node: MeshNode, random: Random, step: number): Promise<ReadonlyArray<Said>> => {
  const pick = (n: number) => Math.floor(random() * n)
  const page = `notes/page-${pick(6)}`
  const words = `Paragraph ${step} of ${node.vault.deviceId.slice(0, 8)}.`
  const [kind, key, value, field] = [pick(12), pick(5), pick(100), pick(3)]
  const limits = { pageBytesMax: 100_000 }
  const work: Effect.Effect<{ readonly events: ReadonlyArray<{ readonly address: string }> }, Refusal> = kind < 4
    ? node.dispatch.change("config.set", asker(), ["config/mesh"], (documents) =>
      decideConfig(documents, { _tag: "SetValue", layer: "mesh", path: `user.key${key}`, value: `${step}-${value}` }))
    : node.dispatch.change("memory.add", asker(), [`memory/${page}`], (documents) => kind < 6
      ? decideMemory(documents, { _tag: "Add", page, text: "", fields: new Map([[`f${field}`, { value: step }]]) }, limits)
      : decideMemory(documents, { _tag: "Add", page, text: words }, limits))
  const result = await Effect.runPromise(Effect.result(work))
  if (Result.isFailure(result)) return []
  return result.success.events.map(({ address }) => kind < 6 ? { address } : { address, page: `memory/${page}`, words })
}

/** Somebody in touch holds all that this node said: only then does `kos leave` go without force. */
const isHeld = ({ swarm, tables, journal }: MeshNode): boolean =>
  swarm.sessions().some(({ phase, device }) => phase === "ready" && tables.receipts.held(device, journal.log()) >= journal.length())

const roles: ReadonlyArray<Role> = ["owner", "admin", "admin", "member", "member", "member", "reader", "seeder"]

/** One random wish about who belongs and who may what; what was done, empty when it was refused. */
export const govern = async (node: MeshNode, random: Random): Promise<string> => {
  const pick = (n: number) => Math.floor(random() * n)
  const view = node.members.view()
  const others = [...view.members.values()].filter((member) => member.device !== node.vault.deviceId).toSorted((a, b) => a.name < b.name ? -1 : 1)
  const [other, what, role = "member"] = [others[pick(others.length)], pick(10), roles[pick(roles.length)]]
  if (other === undefined) return ""
  const about = (verb: string, done: boolean) => done ? `${verb} ${other.name}` : ""
  const wished = { node: other.device, lengthOf: (log: string) => lengthOf(node, log), newKey: randomBytes(32) }
  if (what < 3) return about("revokes", await say(node, () => decideRevoke(node.situation(), wished)))
  if (what < 7) return about(`makes ${role}`, await say(node, () => decideSetRole(node.situation(), { ...wished, role, keys: node.keyring.shared() })))
  if (what < 8) return isHeld(node) && await say(node, () => decideLeave(node.situation())) ? "leaves" : ""
  return Result.isSuccess(await Effect.runPromise(Effect.result(rotateEpoch(node, asker())))) ? "rotates" : ""
}

/**
 * Folds everything that a node holds once more, in another order: of the membership operations some are known beforehand, each log grows by
 * random steps, in turns by chance, and now and then the tables refuse (as a full disk does), so that a tick is done twice.
 */
export const foldAgain = async (node: MeshNode, directory: string, random: Random): Promise<Tables> => {
  const tables = new Tables(`${directory}/again-${Math.floor(random() * 1e9)}.db`)
  const scope = Effect.runSync(Scope.make())
  const worker = Context.get(await Effect.runPromise(Layer.buildWithScope(Layer.fresh(DocumentWorker.layer), scope)), DocumentWorker)
  const members = new Members(node.mesh, tables)
  const operations = node.members.operations()
  // The others are met in the logs, and cut off what was folded before; but for those that must be known before their log is.
  const early = new Set(operations.slice(0, Math.floor(random() * (operations.length + 1))).map(({ hash }) => hash))
  for (const bytes of await readIntroduction(node.directory)) early.add(toHex(hashParts("kos/operation/1", bytes)))
  const parents = new Map(operations.map(({ hash, parents: own }) => [hash, own]))
  const pastOf = (hash: string, past = new Set<string>()): Set<string> => {
    for (const parent of parents.get(hash) ?? []) if (!past.has(parent)) pastOf(parent, past.add(parent))
    return past
  }
  const claims = new Map([...node.members.view().members.values()].flatMap(({ logs }) => logs.map(({ log, from }) => [log, pastOf(from).add(from)] as const)))
  for (const row of node.tables.database.prepare("SELECT hash, source, log FROM operations").all()) {
    const hash = String(row["hash"])
    if (row["source"] !== 0 || claims.get(node.tables.names.textAt(row, "log"))?.has(hash) !== false) early.add(hash)
  }
  tables.transaction(() => {
    for (const { hash, bytes } of operations) if (early.has(hash)) members.take(bytes, "met")
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
  for (;;) {
    const short = wanted.filter(({ log, folded }) => (grown.get(log) ?? 0) < folded)
    const one = short[Math.floor(random() * short.length)]
    if (one === undefined) break
    const length = Math.min(one.folded, (grown.get(one.log) ?? 0) + 1 + Math.floor(random() * 9))
    grown.set(one.log, length)
    if (one.log !== node.journal.log()) tables.heads.grew(one.log, length)
    runner.wake(one.log)
    if (random() < 0.5) await runner.idle()
  }
  const folded = await within(30_000, () => {
    runner.wake()
    return wanted.every(({ log, folded }) => tables.cursors.folded(log) === folded)
  })
  await runner.idle()
  await runner.stop()
  await Effect.runPromise(Scope.close(scope, Exit.void))
  if (!folded) throw new Error(`not everything was folded again: ${JSON.stringify(tables.cursors.all())} of ${JSON.stringify(wanted)}; ${runner.fault ?? "no fault"}`)
  return tables
}
