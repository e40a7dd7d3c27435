/** Key epochs on whole nodes in one process: what is sealed under which key, who opens it, and what admins' nodes do by themselves. */
import { Effect, Exit, Result, Scope } from "effect"
import t, { type Test } from "tap"
import { rotateEpoch } from "../src/api/handlers/epoch.ts"
import { startEpochReactor } from "../src/boot/epoch-reactor.ts"
import { createMesh, writeIntroduction } from "../src/boot/first-run.ts"
import { type MeshNode, openMeshNode } from "../src/boot/mesh-node.ts"
import { toHex } from "../src/codec/bytes.ts"
import { frameHeader } from "../src/codec/frame.ts"
import { type Invite, inviteKey, proveInvite } from "../src/codec/invite.ts"
import type { Role, Statement } from "../src/codec/operation.ts"
import { keyPairFromSeed, randomBytes } from "../src/codec/signature.ts"
import { uuidv7 } from "../src/codec/uuid.ts"
import { decideConfig } from "../src/commands/decide-config.ts"
import { decideCreateMesh, decideLeave } from "../src/commands/decide-membership.ts"
import { decideMemory } from "../src/commands/decide-memory.ts"
import { sharingStatements } from "../src/commands/epoch-statements.ts"
import { membershipLock, operationEvents, signed } from "../src/commands/membership-events.ts"
import { next } from "../src/commands/situation.ts"
import { logKey } from "../src/events/hypercore-store.ts"
import { foldMembership } from "../src/projections/membership.ts"
import { MemoryNetwork } from "../src/swarm/carriers/memory.ts"
import { Vault } from "../src/vault/vault.ts"
import { must } from "./membership-world.ts"

t.setTimeout(90_000)

const now = () => Math.floor(performance.timeOrigin + performance.now())
const asker = () => ({ command: uuidv7(now(), randomBytes(10)), actor: "person:test" })

interface Running {
  readonly node: MeshNode
  readonly close: () => Promise<void>
}

const openNode = async (t: Test, vault: Vault, network: MemoryNetwork, reactor: boolean): Promise<Running> => {
  const mesh = await vault.currentMesh()
  if (mesh === undefined) throw new Error("no mesh")
  const scope = Effect.runSync(Scope.make())
  const notice = () => undefined
  const node = await Effect.runPromise(Effect.gen(function*() {
    const opened = yield* openMeshNode({
      vault, mesh, version: "test", now, notice, carriers: () => [network.carrier()], mode: () => "joined", limits: () => ({}),
      redeem: () => () => Promise.resolve({ refused: "unknown", detail: "" })
    })
    if (reactor) yield* startEpochReactor({ node: opened, now, notice })
    return opened
  }).pipe(Effect.provideService(Scope.Scope, scope)))
  let open = true
  const close = async () => {
    if (open) await Effect.runPromise(Scope.close(scope, Exit.void))
    open = false
  }
  t.teardown(close)
  return { node, close }
}

const founded = async (home: string, name: string): Promise<Vault> => {
  const vault = await Vault.create(home)
  await vault.setCurrentMesh(must(await createMesh(vault, name, now())))
  return vault
}

const say = (node: MeshNode, statements: ReadonlyArray<Statement>) => Effect.runPromise(node.dispatch.run("test", asker(), [membershipLock], Effect.sync(() =>
  ({ summary: "", events: operationEvents(node.vault, next(node.situation(), statements)) }))))

/** Lets a new home in without a meeting: what the pairing would have brought is written into it. `keys` as the admitter gives them. */
const admitted = async (host: MeshNode, home: string, name: string, role: Role, keys: MeshNode["keyring"]["shared"] = () => host.keyring.shared()): Promise<Vault> => {
  const vault = await Vault.create(home)
  const logSeed = randomBytes(32)
  const log = logKey(keyPairFromSeed(logSeed).publicKey)
  const invite: Invite = { mesh: host.mesh, meshName: "hill", seed: randomBytes(16), issuer: host.vault.deviceId, role, expiresMs: now() + 60_000, bootstrap: [], lan: [] }
  await say(host, [
    { kind: "invite.issued", invite: inviteKey(invite), role, expiresMs: invite.expiresMs, uses: 1 },
    { kind: "member.admitted", device: vault.deviceId, log, name, role, invite: inviteKey(invite), proof: proveInvite(invite, vault.deviceId, log) },
    ...(role === "seeder" ? [] : sharingStatements(keys(), [vault.deviceId]))
  ])
  await vault.addMesh(host.mesh, host.meshKey, logSeed)
  await writeIntroduction(vault, host.mesh, host.members.operations().map((operation) => operation.bytes))
  await vault.setCurrentMesh(host.mesh)
  return vault
}

const write = async (node: MeshNode, page: string) => Effect.runPromise(Effect.result(node.dispatch.change("memory.add", asker(), [`memory/notes/${page}`], (documents) =>
  decideMemory(documents, { _tag: "Add", page: `notes/${page}`, text: `Of ${page}.` }, { pageBytesMax: 100_000 }))))

const until = async (what: string, holds: () => boolean) => {
  const end = now() + 25_000
  while (!holds()) {
    if (now() > end) throw new Error(`${what} did not come about`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Epoch numbers of the blocks of a node's own log. */
const epochsOf = async (node: MeshNode): Promise<ReadonlyArray<number>> => {
  const held = await node.store.openHeld(node.journal.log())
  const numbers: Array<number> = []
  for (let block = 0; block < held.length(); block++) numbers.push(must(frameHeader(await held.get(block))).epoch)
  await held.close()
  return numbers
}

const pages = (node: MeshNode): ReadonlyArray<string> => node.tables.documents.list("memory").map(({ id }) => id.slice("memory/notes/".length)).toSorted()
const rotations = (node: MeshNode) => node.members.view().epochs.filter(({ valid }) => valid)

t.test("a mesh writes under its newest key; readers follow, a seeder holds what it cannot read, who leaves is locked out", async (t) => {
  const network = new MemoryNetwork({ seed: 1, delayMs: { min: 0, max: 5 } })
  const directory = t.testdir()
  const ann = await openNode(t, await founded(`${directory}/ann`, "ann"), network, true)
  t.same(new Set(await epochsOf(ann.node)), new Set([1]), "nothing was ever sealed under the mesh key")
  must(await write(ann.node, "first"))
  const benVault = await admitted(ann.node, `${directory}/ben`, "ben", "member")
  const sidVault = await admitted(ann.node, `${directory}/sid`, "sid", "seeder")
  const ben = await openNode(t, benVault, network, true)
  const sid = await openNode(t, sidVault, network, true)
  await until("ben reads what was written before it came", () => pages(ben.node).includes("first"))
  must(await write(ben.node, "second"))
  await until("ann reads ben", () => pages(ann.node).includes("second"))

  const rotated = await Effect.runPromise(rotateEpoch(ann.node, asker()))
  t.match(rotated, { epoch: 2, readers: 2, events: [{ type: "epoch.rotated/1" }] })
  await until("ben has the new key", () => ben.node.keyring.current?.epoch === 2)
  must(await write(ben.node, "third"))
  await until("ann reads it", () => pages(ann.node).includes("third"))
  t.equal((await epochsOf(ben.node)).at(-1), 2)
  t.match(await Effect.runPromise(Effect.result(rotateEpoch(ben.node, asker()))), { failure: { kind: "denied" } }, "a member makes no keys")

  const logs = [ann, ben].map(({ node }) => node.journal.log())
  await until("the seeder holds all blocks", () => [ann, ben].every(({ node }) => (sid.node.tables.heads.get(node.journal.log())?.length ?? 0) === node.journal.length()))
  await sid.node.runner.idle()
  t.same(pages(sid.node), [], "and reads none")
  t.equal(sid.node.keyring.current, undefined)
  t.equal(sid.node.journal.canAppend(), false)
  t.same(sid.node.keyring.held(), [])
  t.ok(logs.every((log) => sid.node.tables.cursors.folded(log) > 0), "sealed blocks do not hold up anything")

  await say(ann.node, [{ kind: "role.set", device: sidVault.deviceId, role: "reader" }])
  await until("ann's node shares all keys with the new reader", () => rotations(ann.node).every(({ sealed }) => sealed.has(sidVault.deviceId)))
  await until("what was sealed is folded now", () => pages(sid.node).length === 3)
  t.same(pages(sid.node), pages(ann.node))
  t.equal(sid.node.keyring.current?.epoch, 2)

  const left = await Effect.runPromise(ben.node.dispatch.run("leave", asker(), [membershipLock], Effect.suspend(() =>
    Effect.map(Effect.fromResult(decideLeave(ben.node.situation())), (operations) => ({ summary: "left", events: operationEvents(benVault, operations) })))))
  t.equal(left.events.length, 1)
  await until("ann's node makes a new key by itself", () => ann.node.keyring.current?.epoch === 3)
  const third = rotations(ann.node).at(-1)
  t.same([...third?.sealed.keys() ?? []].toSorted(), [ann.node.vault.deviceId, sidVault.deviceId].toSorted(), "for those who may read now")
  must(await write(ann.node, "fourth"))
  await until("the other reads on", () => pages(sid.node).includes("fourth"))
  t.same(ben.node.keyring.held().map(({ epoch }) => epoch), [2, 1], "who left has no key of it")
  for (const { close } of [ben, sid, ann]) await close()
})

t.test("without shared history a newcomer reads from its coming on, and two admins' nodes do the work once", async (t) => {
  const network = new MemoryNetwork({ seed: 2, delayMs: { min: 0, max: 5 } })
  const directory = t.testdir()
  const ann = await openNode(t, await founded(`${directory}/ann`, "ann"), network, true)
  must(await write(ann.node, "old"))
  const zoe = await openNode(t, await admitted(ann.node, `${directory}/zoe`, "zoe", "admin"), network, true)
  await until("zoe reads", () => pages(zoe.node).includes("old"))
  const before = rotations(zoe.node).length
  await Effect.runPromise(zoe.node.dispatch.change("config.set", asker(), ["config/mesh"], (documents) =>
    decideConfig(documents, { _tag: "SetValue", layer: "mesh", path: "mesh.history", value: "private" })))
  await until("ann knows the setting", () => ann.node.tables.documents.state("config/mesh/mesh")?.live["mesh.history"] === "private")
  const cat = await openNode(t, await admitted(zoe.node, `${directory}/cat`, "cat", "member", () => []), network, false)
  await until("a new key for the newcomer", () => cat.node.keyring.current !== undefined)
  must(await write(zoe.node, "new"))
  await until("cat reads what is new", () => pages(cat.node).includes("new"))
  t.same(pages(cat.node), ["new"])
  t.same(cat.node.keyring.held().length, 1)
  await until("all know the same", () => [ann, zoe, cat].every(({ node }) => node.members.view().operations === ann.node.members.view().operations))
  t.equal(rotations(ann.node).length, before + 1, "of two admins' nodes in touch one has made it")
  for (const { close } of [cat, zoe, ann]) await close()
})

t.test("a home of before, sealed under the mesh key, gets a key of its own at its first start", async (t) => {
  const network = new MemoryNetwork({ seed: 3 })
  const vault = await Vault.create(`${t.testdir()}/old`)
  const logSeed = randomBytes(32)
  const { mesh, operations } = must(decideCreateMesh(
    { name: "old", nodeName: "old", log: logKey(keyPairFromSeed(logSeed).publicKey), nonce: randomBytes(32), newKey: randomBytes(32) }, { device: vault.deviceId, ms: now() }
  ))
  await vault.addMesh(mesh, randomBytes(32), logSeed)
  await writeIntroduction(vault, mesh, operations.filter(({ says }) => says.kind !== "epoch.rotated").map((unsigned) => signed(vault, unsigned)))
  await vault.setCurrentMesh(mesh)
  const first = await openNode(t, vault, network, false)
  must(await write(first.node, "before"))
  t.same(new Set(await epochsOf(first.node)), new Set([0]))
  await first.close()
  const second = await openNode(t, vault, network, true)
  await until("a rotation", () => second.node.keyring.current?.epoch === 1)
  must(await write(second.node, "after"))
  t.equal((await epochsOf(second.node)).at(-1), 1)
  t.same(pages(second.node), ["after", "before"], "what was written before is read on")
  await second.close()
})

t.test("an owner without any key makes one, and can write it down under it", async (t) => {
  const network = new MemoryNetwork({ seed: 4 })
  const vault = await Vault.create(`${t.testdir()}/bare`)
  const logSeed = randomBytes(32)
  const stranger = keyPairFromSeed(randomBytes(32))
  const { mesh, operations } = must(decideCreateMesh(
    { name: "bare", nodeName: "bare", log: logKey(keyPairFromSeed(logSeed).publicKey), nonce: randomBytes(32), newKey: randomBytes(32) }, { device: vault.deviceId, ms: now() }
  ))
  await vault.addMesh(mesh, randomBytes(32), logSeed)
  const founding = operations.slice(0, -1)
  const lost = next({ membership: { ...foldMembership(mesh).view(), id: mesh, heads: [founding.at(-1)?.hash ?? ""] }, device: vault.deviceId, ms: now() }, [
    { kind: "epoch.rotated", epoch: 1, commit: "ab".repeat(32), sealed: [{ reader: toHex(stranger.publicKey), sealed: new Uint8Array(80) }] }
  ])
  await writeIntroduction(vault, mesh, [...founding, ...lost].map((unsigned) => signed(vault, unsigned)))
  await vault.setCurrentMesh(mesh)
  const { node, close } = await openNode(t, vault, network, false)
  t.equal(node.journal.canAppend(), false)
  t.ok(Result.isFailure(await write(node, "no")))
  t.match(await Effect.runPromise(rotateEpoch(node, asker())), { epoch: 2, events: [{ type: "epoch.rotated/1" }] })
  must(await write(node, "yes"))
  t.same(new Set(await epochsOf(node)), new Set([2]))
  await close()
})
