/** One invite for one node, redeemed by two admins in two parts of the mesh: the same one stays everywhere, and the other one reads why. Also: seeders. */
import { Effect, Exit, Scope } from "effect"
import t, { type Test } from "tap"
import { makeCandidates } from "../src/boot/candidates.ts"
import { openHome } from "../src/boot/first-run.ts"
import { enter, redeem } from "../src/boot/joining.ts"
import { type MeshNode, openMeshNode } from "../src/boot/mesh-node.ts"
import { certifyInvite, type Invite, inviteKey, inviteWords } from "../src/codec/invite.ts"
import type { Role } from "../src/codec/operation.ts"
import { randomBytes } from "../src/codec/signature.ts"
import { uuidv7 } from "../src/codec/uuid.ts"
import { type Decision, decideIssueInvite, decideSetRole } from "../src/commands/decide-membership.ts"
import { membershipLock, operationEvents } from "../src/commands/membership-events.ts"
import { departureOf } from "../src/projections/dismissal.ts"
import { MemoryNetwork } from "../src/swarm/carriers/memory.ts"
import { Vault } from "../src/vault/vault.ts"
import { until } from "./swarm-host.ts"

t.setTimeout(100_000)

const now = () => Math.floor(performance.timeOrigin + performance.now())

interface Running {
  readonly home: string
  readonly node: MeshNode
  readonly close: () => Promise<void>
}

const open = async (home: string, network: MemoryNetwork): Promise<Running> => {
  const vault = await Vault.open(home)
  const mesh = await vault?.currentMesh()
  if (vault === undefined || mesh === undefined) throw new Error(`${home} is no node`)
  const scope = Effect.runSync(Scope.make())
  const candidates = makeCandidates(now)
  const node = await Effect.runPromise(openMeshNode({
    vault, mesh, version: "test", now, notice: () => undefined, carriers: () => [network.carrier()], mode: () => "joined",
    limits: () => ({ dismissedEveryMs: 200 }), redeem: (self) => redeem(self, { now, candidates, bootstrap: () => [] })
  }).pipe(Effect.provideService(Scope.Scope, scope)))
  let closed = false
  return {
    home, node, close: async () => {
      if (!closed) await Effect.runPromise(Scope.close(scope, Exit.void))
      closed = true
    }
  }
}

const run = (node: MeshNode, decide: () => Decision): Promise<unknown> =>
  Effect.runPromise(node.dispatch.run("test", { command: uuidv7(now(), randomBytes(10)), actor: "person:test" }, [membershipLock], Effect.suspend(() =>
    Effect.map(Effect.fromResult(decide()), (operations) => ({ summary: "", events: operationEvents(node.vault, operations) })))))

const issue = async (host: MeshNode, role: Role = "member"): Promise<Invite> => {
  const made: Invite = {
    mesh: host.mesh, meshName: host.members.view().name, seed: randomBytes(16), issuer: host.vault.deviceId, role, expiresMs: now() + 60_000, bootstrap: [], lan: []
  }
  await run(host, () => decideIssueInvite(host.situation(), { invite: made, uses: 1, certificate: certifyInvite(made) }))
  return made
}

const world = async (t: Test, names: ReadonlyArray<string>) => {
  const directory = t.testdir(Object.fromEntries(names.map((name) => [name, {}])))
  const network = new MemoryNetwork({ seed: 1, delayMs: { min: 0, max: 2 } })
  const nodes = new Map<string, Running>()
  t.teardown(() => Promise.all([...nodes.values()].map((running) => running.close())))
  for (const name of names) {
    const opened = await openHome(`${directory}/${name}`, name, now)
    Effect.runSync(Effect.fromResult(opened))
    nodes.set(name, await open(`${directory}/${name}`, network))
  }
  const at = (name: string): MeshNode => {
    const found = nodes.get(name)
    if (found === undefined) throw new Error(`no ${name}`)
    return found.node
  }
  /** With words, as they hold less. */
  const join = async (name: string, invite: Invite): Promise<string> => {
    const entered = await Effect.runPromise(enter(at(name), inviteWords(invite), { timeoutMs: 15_000, makeCarriers: () => [network.carrier()], now, onWaiting: () => undefined }))
    await nodes.get(name)?.close()
    nodes.set(name, await open(`${directory}/${name}`, network))
    return entered.admittedBy
  }
  const openInvite = (name: string, invite: Invite) => at(name).swarm.openInvite(Buffer.from(inviteKey(invite), "hex"))
  const device = (name: string): string => at(name).vault.deviceId
  return { network, at, join, openInvite, device }
}

t.test("an invite raced in two partitions", async (t) => {
  const { network, at, join, openInvite, device } = await world(t, ["alpha", "beta", "x", "y"])
  const first = await issue(at("alpha"))
  await openInvite("alpha", first)
  await join("beta", first)
  await run(at("alpha"), () => decideSetRole(at("alpha").situation(), { node: device("beta"), role: "admin", lengthOf: () => 0 }))
  const raced = await issue(at("alpha"))
  await until("beta is an admin and knows the invite", () => {
    const view = at("beta").members.view()
    return view.members.get(device("beta"))?.role === "admin" && view.invites.has(inviteKey(raced))
  }, 20_000)
  network.partition([device("alpha"), device("x")], [device("beta"), device("y")])
  await openInvite("alpha", raced)
  await openInvite("beta", raced)
  t.equal(await join("x", raced), device("alpha"))
  t.equal(await join("y", raced), device("beta"), "each part lets one in")
  network.heal()
  const names = ["alpha", "beta", "x", "y"]
  const standing = (name: string, who: string): string => at(name).members.standing(device(who))
  await until("all agree", () => new Set(names.map((name) => `${standing(name, "x")} ${standing(name, "y")}`)).size === 1 && standing("alpha", "x") !== standing("alpha", "y"), 30_000)
  const [stays, goes] = standing("alpha", "x") === "member" ? ["x", "y"] : ["y", "x"]
  t.same(names.map((name) => standing(name, stays)), names.map(() => "member"))
  const read = departureOf(at(goes).members.view(), at(goes).members.operations(), device(goes))
  t.match(read, { kind: "void", own: /^this node is not a member: / }, "who does not stay reads why")
  t.comment(read?.own)
  await until("and is refused", () => at("alpha").swarm.sessions().every((session) => session.device !== device(goes)) && at("beta").swarm.sessions().every((session) => session.device !== device(goes)))
  await until("the one that stays is in touch", () => at(stays).swarm.sessions().filter(({ phase }) => phase === "ready").length === 2)
})

t.test("a seeder comes in by words, holds every log, and holds no key that opens one", async (t) => {
  const { at, join, openInvite, device } = await world(t, ["alpha", "seed"])
  const invite = await issue(at("alpha"), "seeder")
  await openInvite("alpha", invite)
  await join("seed", invite)
  await until("it holds all blocks", () => (at("seed").tables.heads.get(at("alpha").journal.log())?.length ?? 0) === at("alpha").journal.length() && at("alpha").journal.length() > 0, 20_000)
  t.equal(at("seed").members.view().members.get(device("seed"))?.role, "seeder")
  t.same(at("seed").keyring.held(), [])
})
