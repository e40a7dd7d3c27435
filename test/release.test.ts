/** Making a channel and its releases: who has to sign, what counts, and what a client that knows TUF alone makes of the outcome. */
import t from "tap"
import { Result } from "effect"
import { channelFiles } from "../src/updates/metadata/channel-block.ts"
import { nextRoot, nextTargets, delegatedRole } from "../src/updates/publish/build.ts"
import { readHeld } from "../src/updates/publish/published.ts"
import { canonicalBytes, keyIdOf, parseSigned, sha256, signWith } from "../src/updates/publish/signed.ts"
import { bookOf, channelOf, clientOf, dayMs, entry, keyOf, Node, plan, publicOf, publish, startMs, type World } from "./release-world.ts"

/** A channel that is published, with nothing in it. */
const begun = async (options: Parameters<typeof channelOf>[1] = {}): Promise<World> => {
  const world = channelOf(new Node("publisher"), options)
  for (const { id } of [...world.node.proposals]) world.node.sign(id, "ann", "bob")
  await publish(world)
  return world
}

const targetsOf = async (world: World) => (await bookOf(world)).targets?.signed

t.test("2 of 3 signers that are never online together sign through a third node", async (t) => {
  const world = channelOf(new Node("publisher"))
  const { node, log } = world
  const [ann, cy, courier] = [new Node("ann"), new Node("cy"), new Node("courier")]
  node.carry(courier)
  await t.rejects(publish(world), /root 1 .* has 0 of 2 signatures as root 1/)
  courier.carry(ann)
  for (const { id } of [...ann.proposals]) ann.sign(id, "ann")
  ann.carry(courier)
  // Ann is gone for good when Cy hears of it.
  courier.carry(node)
  await t.rejects(publish(world), /1 of 2 signatures/)
  courier.carry(cy)
  for (const { id } of [...cy.proposals]) cy.sign(id, "cy")
  cy.carry(courier)
  courier.carry(node)
  await publish(world)
  const release = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { add: entry("kos/kos@1.0.0@any") }, node.now).targets)
  node.carry(courier)
  courier.carry(cy)
  cy.sign(release.id, "cy")
  cy.carry(courier)
  courier.carry(node)
  const client = await clientOf(log)
  t.teardown(client.close)
  t.same(await client.look("kos/kos@1.0.0@any"), [undefined], "one signature is not enough")
  courier.carry(ann)
  ann.sign(release.id, "ann")
  ann.carry(courier)
  courier.carry(node)
  await publish(world)
  t.same(await client.look("kos/kos@1.0.0@any"), [entry("kos/kos@1.0.0@any").sha256])
})

t.test("one key that signs twice, and one key under two ids, count once", async (t) => {
  const world = channelOf(new Node("publisher"))
  const { node } = world
  for (const proposal of [...node.proposals]) {
    node.sign(proposal.id, "ann", "ann")
    const { signature } = signWith(proposal.bytes, keyOf("ann"))
    node.said.push({ proposal: proposal.id, keyId: "ab".repeat(32), signature, by: "x" }, { proposal: proposal.id, keyId: keyIdOf(publicOf("bob")), signature, by: "x" })
  }
  await t.rejects(publish(world), /1 of 2 signatures/)
  const book = await bookOf(world)
  t.same(book.waiting.map(({ needs }) => needs.map(({ signed }) => signed)), [[[publicOf("ann")]], [[publicOf("ann")]]])
})

t.test("a signature over other bytes does not count", async (t) => {
  const world = await begun()
  const { node } = world
  const good = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { add: entry("kos/kos@1.0.0@any") }, node.now).targets)
  const other = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { add: entry("kos/evil@1.0.0@any") }, node.now).targets)
  node.sign(good.id, "ann")
  node.sign(other.id, "bob")
  node.said.push({ proposal: good.id, ...signWith(other.bytes, keyOf("bob")), by: "x" })
  await publish(world)
  const client = await clientOf(world.log)
  t.teardown(client.close)
  t.same(await client.look("kos/kos@1.0.0@any", "kos/evil@1.0.0@any"), [undefined, undefined])
  t.same((await bookOf(world)).waiting.map(({ needs }) => needs[0]?.signed.length), [1, 1])
})

t.test("a stranger's key and keys below the threshold publish nothing", async (t) => {
  const world = await begun()
  const { node } = world
  const proposal = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { add: entry("kos/kos@1.0.0@any") }, node.now).targets)
  node.sign(proposal.id, "cy", "mallory", "eve")
  t.same((await publish(world)).filter((line) => line.startsWith("targets")), [])
  const client = await clientOf(world.log)
  t.teardown(client.close)
  t.same(await client.look("kos/kos@1.0.0@any"), [undefined])
})

t.test("a proposal that was withdrawn is not published", async (t) => {
  const world = await begun()
  const { node } = world
  const proposal = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { add: entry("kos/kos@1.0.0@any") }, node.now).targets)
  node.sign(proposal.id, "ann", "bob")
  node.withdrawals.push({ proposal: proposal.id, by: "publisher", reason: "wrong tree" })
  await publish(world)
  const book = await bookOf(world)
  t.equal(book.targets?.signed.version, 1)
  t.match(book.closed.at(-1)?.why, "withdrawn: wrong tree")
  const again = node.propose(world.channel, "targets", nextTargets("targets", book.targets?.signed, { add: entry("kos/kos@1.0.1@any") }, node.now).targets)
  node.sign(again.id, "ann", "bob")
  await publish(world)
  const client = await clientOf(world.log)
  t.teardown(client.close)
  t.same(await client.look("kos/kos@1.0.0@any", "kos/kos@1.0.1@any"), [undefined, entry("kos/kos@1.0.1@any").sha256])
})

t.test("of two complete proposals of one version the earlier is taken; the log decides for good", async (t) => {
  const world = await begun()
  const { node } = world
  const before = await targetsOf(world)
  const first = node.propose(world.channel, "targets", nextTargets("targets", before, { add: entry("kos/kos@1.0.0@any") }, node.now).targets)
  const second = node.propose(world.channel, "targets", nextTargets("targets", before, { add: entry("kos/kos@2.0.0@any") }, node.now).targets)
  node.sign(second.id, "ann", "bob")
  await publish(world)
  node.sign(first.id, "ann", "bob")
  t.same(await publish(world), [], "nothing is left to be said")
  t.match((await bookOf(world)).closed.find(({ proposal }) => proposal.id === first.id)?.why, "another proposal for version 2 was signed first")
  const client = await clientOf(world.log)
  t.teardown(client.close)
  t.same(await client.look("kos/kos@1.0.0@any", "kos/kos@2.0.0@any"), [undefined, entry("kos/kos@2.0.0@any").sha256])
})

t.test("a new root needs old and new keys; clients of any age follow it; the old keys are dead", async (t) => {
  const world = await begun()
  const { node, log } = world
  const follower = await clientOf(log)
  t.teardown(follower.close)
  t.same(await follower.look("kos/kos@1.0.0@any"), [undefined])
  const before = (await bookOf(world)).roots.at(-1)?.signed
  if (before === undefined) throw new Error("no root")
  const next = node.propose(world.channel, "root", nextRoot(before, { root: plan(["dot", "eli"], 2), targets: plan(["dot", "eli"], 1), online: publicOf("online-2") }, node.now))
  node.sign(next.id, "dot", "eli")
  const book = await bookOf(world)
  t.same(book.due.roots.length, 0, "the old ones have not signed")
  t.same(book.waiting[0]?.needs.map(({ as, signed }) => [as, signed.length]), [["root 1", 0], ["root 2", 2]])
  node.sign(next.id, "ann", "bob")
  const moved = { ...world, online: "online-2" }
  await t.rejects(publish(moved), /root 2 has other keys for targets/)
  const anew = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { add: entry("kos/kos@1.0.0@any") }, node.now).targets)
  node.sign(anew.id, "ann", "bob", "cy")
  await t.rejects(publish(moved), /root 2 has other keys for targets/, "the old keys sign no targets any more")
  node.sign(anew.id, "dot")
  await t.rejects(publish(world), /does not have the key/, "the old key of the publishing node is of no use")
  await publish(moved)
  t.same(await follower.look("kos/kos@1.0.0@any"), [entry("kos/kos@1.0.0@any").sha256])
  const newcomer = await clientOf(log)
  t.teardown(newcomer.close)
  t.same(await newcomer.look("kos/kos@1.0.0@any"), [entry("kos/kos@1.0.0@any").sha256])
  const stale = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { add: entry("kos/kos@6.6.6@any") }, node.now).targets)
  node.sign(stale.id, "ann", "bob", "cy")
  t.same(await publish(moved), [])
})

t.test("a delegated publisher signs below its own path only", async (t) => {
  const world = await begun()
  const { node, log } = world
  const role = delegatedRole("agents", "acme")
  const delegating = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { delegate: { area: "agents", publisher: "acme", ...plan(["zoe", "yan"], 1) } }, node.now).targets)
  node.sign(delegating.id, "ann", "cy")
  const path = "agents/acme/watcher@1.0.0@any"
  const own = node.propose(world.channel, role, nextTargets(role, undefined, { add: entry(path) }, node.now).targets)
  node.sign(own.id, "yan")
  await publish(world)
  const client = await clientOf(log)
  t.teardown(client.close)
  t.same(await client.look(path), [entry(path).sha256])
  t.throws(() => nextTargets(role, undefined, { add: entry("kos/kos@9.0.0@any") }, node.now), /does not lie below agents\/acme/)
  // Who makes the bytes without asking is refused when they would be published.
  const bytes = Buffer.from(canonicalBytes(nextTargets(role, (await bookOf(world)).delegated.get(role)?.signed, { add: entry("agents/acme/x@1.0.0@any") }, node.now).targets)).toString().replace("agents/acme/x@1.0.0@any", "agents/evil/x@1.0.0@any")
  const parsed = parseSigned(role, Buffer.from(bytes))
  if (Result.isFailure(parsed)) throw parsed.failure
  const beside = node.propose(world.channel, role, parsed.success)
  node.sign(beside.id, "yan", "ann", "bob")
  await t.rejects(publish(world), /may not sign agents\/evil/)
  t.same(await client.look(path, "agents/evil/x@1.0.0@any"), [entry(path).sha256, undefined])
  node.withdrawals.push({ proposal: beside.id, by: "ann", reason: "" })
  // Its keys are changed: what it signed with the old one does not count until it signs anew, and holds up nobody.
  const changed = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { delegate: { area: "agents", publisher: "acme", ...plan(["xi"], 1) }, add: entry("kos/kos@1.0.0@any") }, node.now).targets)
  node.sign(changed.id, "ann", "cy")
  await publish(world)
  const newcomer = await clientOf(log)
  t.teardown(newcomer.close)
  t.same(await newcomer.look("kos/kos@1.0.0@any"), [entry("kos/kos@1.0.0@any").sha256])
  await t.rejects(newcomer.look(path))
})

t.test("a release that was yanked is gone, with its reason signed", async (t) => {
  const world = await begun()
  const { node } = world
  const path = "kos/kos@1.0.0@any"
  const add = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { add: entry(path) }, node.now).targets)
  node.sign(add.id, "ann", "bob")
  await publish(world)
  const client = await clientOf(world.log)
  t.teardown(client.close)
  t.same(await client.look(path), [entry(path).sha256])
  const yank = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { yank: { target: path, id: entry(path).sha256, reason: "eats\nthe \"disk\"" } }, node.now).targets)
  node.sign(yank.id, "cy", "bob")
  await publish(world)
  t.same(await client.look(path), [undefined])
  const held = await readHeld(channelFiles(world.log))
  t.same(held.targets?.metadata.signed.unrecognizedFields["x-kos-yanked"], [{ target: path, id: entry(path).sha256, reason: "eats\nthe \"disk\"" }], "it survives the file")
})

t.test("a publication that is cut short at any block is finished by doing it again, and nobody sees half of it", async (t) => {
  const path = "kos/kos@1.0.0@any"
  const blocks = await (async () => {
    const world = await begun()
    const before = world.log.blocks.length
    const proposal = world.node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { add: entry(path) }, world.node.now).targets)
    world.node.sign(proposal.id, "ann", "bob")
    await publish(world)
    return world.log.blocks.length - before
  })()
  t.ok(blocks >= 4)
  for (let cut = 0; cut < blocks; cut++) {
    const world = await begun()
    const client = await clientOf(world.log)
    const proposal = world.node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { add: entry(path) }, world.node.now).targets)
    world.node.sign(proposal.id, "ann", "bob")
    world.log.fuse = cut
    await t.rejects(publish(world), /the power went/)
    t.same(await client.look(path), [undefined], `${cut} of ${blocks} blocks: the state before`)
    world.log.fuse = Number.POSITIVE_INFINITY
    await publish(world)
    t.same(await client.look(path), [entry(path).sha256])
    const { length } = world.log.blocks
    t.same(await publish(world), [])
    t.equal(world.log.blocks.length, length, "once more changes nothing")
    await client.close()
  }
})

t.test("a first publication that is cut short is finished by doing it again", async (t) => {
  for (let cut = 0; cut < 4; cut++) {
    const world = channelOf(new Node("publisher"))
    for (const { id } of [...world.node.proposals]) world.node.sign(id, "ann", "bob")
    world.log.fuse = cut
    await t.rejects(publish(world), /the power went/)
    world.log.fuse = Number.POSITIVE_INFINITY
    await publish(world)
    const client = await clientOf(world.log)
    t.same(await client.look("kos/kos@1.0.0@any"), [undefined])
    await client.close()
  }
})

t.test("snapshot and timestamp are signed anew in time, and never expire earlier than before", async (t) => {
  const world = await begun()
  const { node, log } = world
  const stamp = async () => (await readHeld(channelFiles(log))).timestamp?.metadata.signed
  const first = await stamp()
  node.now += 5 * dayMs
  t.same(await publish(world), [], "not due yet")
  node.now += 6 * dayMs
  await publish(world)
  const second = await stamp()
  t.equal(second?.version, 2)
  t.ok(Date.parse(second?.expires ?? "") > Date.parse(first?.expires ?? ""))
  t.equal(second?.unrecognizedFields["x-kos-signed-ms"], node.now)
  node.now = 0
  const proposal = node.propose(world.channel, "targets", nextTargets("targets", await targetsOf(world), { add: entry("kos/kos@1.0.0@any") }, node.now).targets)
  node.sign(proposal.id, "ann", "bob")
  await publish(world)
  const third = await stamp()
  t.equal(third?.expires, second?.expires, "a clock in 1970")
  t.equal(third?.unrecognizedFields["x-kos-signed-ms"], second?.unrecognizedFields["x-kos-signed-ms"])
  const client = await clientOf(log, () => startMs + 20 * dayMs)
  t.teardown(client.close)
  t.same(await client.look("kos/kos@1.0.0@any"), [entry("kos/kos@1.0.0@any").sha256])
})

t.test("a client refuses what was signed with a stolen key of the publishing node only", async (t) => {
  const world = await begun()
  const thief = channelOf(new Node("thief"), { root: plan(["mallory"], 1), targets: plan(["mallory"], 1) })
  for (const { id } of [...thief.node.proposals]) thief.node.sign(id, "mallory")
  await publish(thief)
  const proposal = thief.node.propose(thief.channel, "targets", nextTargets("targets", await targetsOf(thief), { add: entry("kos/kos@1.0.0@any") }, thief.node.now).targets)
  thief.node.sign(proposal.id, "mallory")
  await publish(thief)
  const client = await clientOf(world.log)
  t.teardown(client.close)
  await client.look("kos/kos@1.0.0@any")
  world.log.blocks.push(...thief.log.blocks)
  await t.rejects(client.look("kos/kos@1.0.0@any"))
})

t.test("older releases make room when targets grow beyond an event", async (t) => {
  const notes = "n".repeat(4_000)
  let targets = nextTargets("targets", undefined, { add: entry("kos/other@1.0.0@any") }, startMs).targets
  let dropped: ReadonlyArray<string> = []
  for (let n = 1; n <= 14; n++) {
    const next = nextTargets("targets", targets, { add: entry(`kos/kos@1.0.${n}@any`, { custom: { kos: 1, notes } }) }, startMs)
    targets = next.targets
    dropped = [...dropped, ...next.dropped]
  }
  t.ok(canonicalBytes(targets).byteLength <= 49_152)
  t.same(dropped, ["kos/kos@1.0.1@any", "kos/kos@1.0.2@any", "kos/kos@1.0.3@any"])
  t.ok("kos/other@1.0.0@any" in targets.targets, "what nothing newer replaces stays")
  t.throws(() => nextTargets("targets", undefined, { add: entry("kos/kos@1.0.0@any", { custom: { notes: "n".repeat(50_000) } }) }, startMs), /no older release/)
})

t.test("hostile proposals are no proposals", async (t) => {
  const world = await begun()
  const { node } = world
  const good = nextTargets("targets", await targetsOf(world), { add: entry("kos/kos@1.0.0@any") }, node.now).targets
  const text = Buffer.from(canonicalBytes(good)).toString()
  for (const [why, bytes] of [
    ["not canonical", `${text} `], ["not JSON", "{"], ["another role", text.replace('"targets","version"', '"snapshot","version"').replace('"_type":"targets"', '"_type":"snapshot"')],
    ["a version that is none", text.replace('"version":2', '"version":2.5')], ["deep", "[".repeat(40_000)], ["too large", "x".repeat(60_000)]
  ] as const) {
    t.ok(Result.isFailure(parseSigned("targets", Buffer.from(bytes))), why)
    const raw = Buffer.from(bytes)
    node.proposals.push({ id: sha256(raw), channel: world.channel, role: "targets", version: 2, bytes: raw, summary: "x", by: "x", ms: 0 })
  }
  // Of another version than it says, and of a role that is none.
  node.proposals.push({ ...node.propose(world.channel, "targets", good), version: 3, ms: 0 }, { ...node.propose(world.channel, "targets", good), role: "timestamp", ms: 0 })
  t.equal((await bookOf(world)).waiting.length, 2)
  t.ok(Result.isSuccess(parseSigned("targets", canonicalBytes(good))))
})
