/** Making releases as people do it: keys in vaults and on sticks, proposals that travel as events, packing, publishing, taking a channel over. */
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import t, { type Test } from "tap"
import { openChannel } from "../src/updates/metadata/channel.ts"
import { channelFiles } from "../src/updates/metadata/channel-block.ts"
import { parseChannelCode } from "../src/updates/metadata/channel-code.ts"
import { decodeIndex } from "../src/updates/payload/index-file.ts"
import { readHeld } from "../src/updates/publish/published.ts"
import { sha256 } from "../src/updates/publish/signed.ts"
import { decodeCustom } from "../src/updates/release.ts"
import { Result } from "effect"
import { Vault } from "../src/vault/vault.ts"
import { call, done, type Home, Homes, keyHex } from "./release-home.ts"
import { clientOf, dayMs } from "./release-world.ts"

const tree = (t: Test, name: string, text: string): string => {
  const path = join(t.testdirName, name)
  mkdirSync(join(path, "bin"), { recursive: true })
  writeFileSync(join(path, "bin/kos"), `#!/bin/sh\necho '{"reads":["a.b/1"],"writes":["a.b/1"]}'\n`, { mode: 0o755 })
  writeFileSync(join(path, "text"), text)
  return path
}

const firstOf = <A>(all: ReadonlyArray<A>): A => {
  const [first] = all
  if (first === undefined) throw new Error("there is none")
  return first
}

const packInput = (path: string, more: Partial<Parameters<Home["desk"]["pack"]>[0]> = {}): Parameters<Home["desk"]["pack"]>[0] => ({ path, release: "kos@1.0.0", kind: "bundle", platform: "any", security: false, full: false, ...more })

const ownLog = async (home: Home) => {
  const [book] = home.publisher.books()
  if (book === undefined) throw new Error("no channel")
  const open = await home.publisher.open(book)
  if (open?.own === undefined) throw new Error("it is not published here")
  return { open, log: open.own, client: () => clientOf({ ...open.files.log, blocks: [], fuse: 0, append: async () => undefined }) }
}

t.test("one node makes, signs and publishes by itself; a client finds the release, and its index is as signed", async (t) => {
  const homes = new Homes(t.testdir())
  const cellar = await homes.add(t, "cellar", "owner")
  await t.rejects(done(cellar.desk.init({ name: "hill" }, call)), /no signer's key/)
  const made = await done(cellar.desk.key({ force: false }, call))
  t.equal(made.key, await keyHex(cellar))
  t.equal((await done(cellar.desk.key({ force: false }, call))).key, made.key, "made once")
  t.equal(statSync(join(cellar.directory, "keys/release.signer")).mode & 0o777, 0o600)
  const begun = await done(cellar.desk.init({ name: "hill" }, call))
  t.same(begun.proposals.map(({ state, role }) => [role, state]), [["root", "complete"], ["targets", "complete"]])
  t.equal(begun.next, "kos release publish hill")
  await t.rejects(done(cellar.desk.init({ name: "hill" }, call)), /there is a channel hill already/)
  const packed = await done(cellar.desk.pack(packInput(tree(t, "one", "x".repeat(200_000)), { note: "line\n\"two\"", check: ["works=bin/kos status"] }), call))
  t.equal(packed.target, "kos/kos@1.0.0@any")
  t.same(packed.packs.map(({ sha256: id }) => id), cellar.taken)
  t.same(readdirSync(join(cellar.directory, "updates/made")), [`${packed.release}.index`])
  const published = await done(cellar.desk.publish({ trustClock: false }, call))
  const code = parseChannelCode(published.channel.code)
  t.equal(code?.log, published.channel.log)
  t.equal(published.follow, `kos update channel hill --follow ${published.channel.code}`)
  const { open, client } = await ownLog(cellar)
  t.equal(sha256(await open.files.read("1.root.json") ?? new Uint8Array()), code?.root)
  const reader = await client()
  t.teardown(reader.close)
  t.same(await reader.look("kos/kos@1.0.0@any"), [packed.release])
  const target = open.held.targets?.metadata.signed.targets["kos/kos@1.0.0@any"]
  const custom = Result.getOrThrow(decodeCustom("kos/kos@1.0.0@any", target?.custom))
  t.same(custom.events, { reads: ["a.b/1"], writes: ["a.b/1"] }, "the packed tree was asked")
  t.equal(custom.notes, "line\n\"two\"")
  t.same(custom.checks, [{ name: "works", command: ["bin/kos", "status"], timeoutMs: 30_000 }])
  const index = Result.getOrThrow(decodeIndex(await cellar.publisher.index(packed.release, open) ?? new Uint8Array()))
  t.equal(index.payload.sha256, custom.payload.sha256)
  t.same(readdirSync(join(cellar.directory, "updates/made")), [], "the log has the index now")
  t.same((await done(cellar.desk.publish({ trustClock: false }, call))).published, [])
  await t.rejects(done(cellar.desk.pack(packInput(tree(t, "one", "y")), call)), /is in the channel already/)
  await t.rejects(done(cellar.desk.pack(packInput(tree(t, "two", "z"), { release: "kos@1.0.1", patchFrom: join(t.testdirName, "one") }), call)), /not the payload of the index/)
  const third = await done(cellar.desk.pack(packInput(tree(t, "two", `${"x".repeat(200_000)}z`), { release: "kos@1.0.1" }), call))
  t.same(third.proposals.map(({ version, state }) => [version, state]), [[3, "complete"]])
  await done(cellar.desk.publish({ trustClock: false }, call))
  await done(cellar.desk.yank({ release: "kos@1.0.0", reason: "too old" }, call))
  await done(cellar.desk.publish({ trustClock: false }, call))
  t.same(await reader.look("kos/kos@1.0.0@any", "kos/kos@1.0.1@any"), [undefined, third.release])
  const [row] = await done(cellar.desk.list({}, call))
  t.same(row?.yanked, [{ target: "kos/kos@1.0.0@any", id: packed.release, reason: "too old" }])
  t.same(row?.releases.map(({ target: path }) => path), ["kos/kos@1.0.1@any"])
})

t.test("two of three, one of them a stick, never at the same place; the proposal travels as an event through a third node", async (t) => {
  const homes = new Homes(t.testdir())
  const [attic, cellar, shed] = [await homes.add(t, "attic", "owner"), await homes.add(t, "cellar"), await homes.add(t, "shed")]
  const stick = join(t.testdirName, "release.key")
  const made = await done(attic.desk.key({ out: stick, force: false, passphrase: "hush", name: "on paper" }, call))
  t.equal(statSync(stick).mode & 0o777, 0o600)
  t.notMatch(readFileSync(stick, "utf8"), /seed/)
  await t.rejects(done(attic.desk.key({ out: stick, force: false }, call)), /there already/)
  await done(attic.desk.key({ force: false }, call))
  await done(cellar.desk.key({ force: false }, call))
  attic.hear(cellar)
  await t.rejects(done(attic.desk.init({ name: "hill", signer: ["attic", "shed"] }, call)), /shed has not said a signer's key/)
  const begun = await done(attic.desk.init({ name: "hill", signer: ["attic", "cellar", stick] }, call))
  t.same(begun.proposals.map(({ state, needs }) => [state, needs.map(({ signed, threshold }) => `${signed}/${threshold}`)]), [["waiting", ["1/2"]], ["waiting", ["1/2"]]])
  await t.rejects(done(attic.desk.publish({ trustClock: false }, call)), /has 1 of 2 signatures/)
  // Shed has no key; it only carries. Cellar signs while attic is away.
  shed.hear(attic)
  await t.rejects(done(shed.desk.sign({ proposal: "all" }, call)), /no signer's key/)
  await done(shed.desk.key({ force: false }, call))
  await t.rejects(done(shed.desk.sign({ proposal: begun.proposals[0]?.id.slice(0, 8) ?? "" }, call)), /is none of those that sign/)
  cellar.hear(attic)
  const shown = await done(cellar.desk.sign({}, call))
  t.match(shown.summary, "2 proposals are open, 2 of them for this node's key")
  t.match(shown.proposals[0]?.changes.join("\n"), /2 of attic, cellar, [0-9a-f]{16} sign releases/)
  await done(cellar.desk.sign({ proposal: "all" }, call))
  t.match((await done(cellar.desk.sign({ proposal: "all" }, call))).summary, "it is signed already")
  await t.rejects(done(cellar.desk.publish({ trustClock: false }, call)), /does not publish hill/)
  attic.hear(cellar)
  await done(attic.desk.publish({ trustClock: false }, call))
  const packed = await done(attic.desk.pack(packInput(tree(t, "one", "a")), call))
  await t.rejects(done(attic.desk.publish({ trustClock: false }, call)).then(({ published }) => { if (published.length === 0) throw new Error("nothing") }), /nothing/)
  // The stick signs through shed, which is no signer.
  shed.hear(cellar)
  shed.hear(attic)
  const id = packed.proposals[0]?.id ?? ""
  await t.rejects(done(shed.desk.sign({ proposal: id, key: stick, passphrase: "wrong" }, call)), /passphrase is wrong/)
  await done(shed.desk.sign({ proposal: id, key: stick, passphrase: "hush" }, call))
  attic.hear(shed)
  const published = await done(attic.desk.publish({ channel: "hill", trustClock: false }, call))
  t.same(published.channel.releases.map(({ id: release }) => release), [packed.release])
  const { client, open } = await ownLog(attic)
  const reader = await client()
  t.teardown(reader.close)
  t.same(await reader.look("kos/kos@1.0.0@any"), [packed.release])
  t.equal(Object.keys(open.held.targets?.metadata.signatures ?? {}).length, 2)
  t.equal(made.sealed, true)
})

t.test("a later wish takes the place of an open one of the same node; others withdraw theirs only, admins any", async (t) => {
  const homes = new Homes(t.testdir())
  const [attic, cellar] = [await homes.add(t, "attic", "owner"), await homes.add(t, "cellar")]
  for (const home of [attic, cellar]) await done(home.desk.key({ force: false }, call))
  attic.hear(cellar)
  await done(attic.desk.init({ name: "hill", signer: ["attic", "cellar"], threshold: 2 }, call))
  cellar.hear(attic)
  await done(cellar.desk.sign({ proposal: "all" }, call))
  attic.hear(cellar)
  await done(attic.desk.publish({ trustClock: false }, call))
  const first = await done(attic.desk.pack(packInput(tree(t, "one", "a")), call))
  const second = await done(attic.desk.pack(packInput(tree(t, "two", "b"), { release: "kos@1.1.0" }), call))
  t.same(second.proposals[0]?.changes.filter((line) => line.startsWith("+")).length, 2)
  cellar.hear(attic)
  t.same((await done(cellar.desk.sign({}, call))).proposals.map(({ id }) => id), [second.proposals[0]?.id])
  await t.rejects(done(cellar.desk.sign({ proposal: first.proposals[0]?.id ?? "" }, call)), /is closed: withdrawn/)
  await t.rejects(done(cellar.desk.withdraw({ proposal: second.proposals[0]?.id ?? "" }, call)), /that node or an admin may withdraw it/)
  // Who proposes the same bytes once more is no author who could take them back.
  const [row] = cellar.tables.updates.proposal(second.proposals[0]?.id ?? "")
  if (row === undefined) throw new Error("not heard")
  cellar.say({ summary: "", events: [
    { type: "release.proposed/1", subject: "release", body: { ...row.body, unsigned: row.unsigned } },
    { type: "release.withdrawn/1", subject: "release", body: { channel: row.body.channel, proposal: row.proposal, reason: "mine" } }
  ] })
  attic.hear(cellar)
  t.same((await done(attic.desk.list({}, call)))[0]?.waiting.map(({ id }) => id), [second.proposals[0]?.id])
  const foreign = await done(cellar.desk.pack(packInput(tree(t, "three", "c"), { release: "kos@2.0.0" }), call))
  t.same(foreign.proposals[0]?.changes.filter((line) => line.startsWith("+")).length, 1, "what another node wants is not taken over")
  attic.hear(cellar)
  await done(attic.desk.withdraw({ proposal: foreign.proposals[0]?.id ?? "", reason: "not yet" }, call))
  cellar.hear(attic)
  await done(cellar.desk.sign({ proposal: "all" }, call))
  attic.hear(cellar)
  const { channel } = await done(attic.desk.publish({ trustClock: false }, call))
  t.same(channel.releases.map(({ target }) => target).toSorted(), ["kos/kos@1.0.0@any", "kos/kos@1.1.0@any"])
  t.same(channel.waiting, [])
})

t.test("a delegated publisher packs and signs for itself; the channel's node publishes what it brought", async (t) => {
  const homes = new Homes(t.testdir())
  const [attic, acme] = [await homes.add(t, "attic", "owner"), await homes.add(t, "acme")]
  for (const home of [attic, acme]) await done(home.desk.key({ force: false }, call))
  attic.hear(acme)
  await done(attic.desk.init({ name: "hill" }, call))
  await done(attic.desk.delegate({ publisher: "acme", area: "agents", signer: ["acme"] }, call))
  await done(attic.desk.publish({ trustClock: false }, call))
  acme.hear(attic)
  const path = tree(t, "watcher", "w")
  const packed = await done(acme.desk.pack(packInput(path, { release: "watcher@1.0.0", kind: "agent", publisher: "acme", entry: "bin/kos" }), call))
  t.same(packed.proposals.map(({ role, state }) => [role, state]), [["agents-acme", "complete"]])
  await t.rejects(done(acme.desk.yank({ release: "kos@9.9.9", reason: "x" }, call)), /there is no release/)
  attic.hear(acme)
  await t.rejects(done(attic.desk.publish({ trustClock: false }, call)), /was packed on another node/)
  // Acme's index is missing; what the channel itself has to say goes out all the same.
  const urgent = await done(attic.desk.pack(packInput(tree(t, "one", "a")), call))
  const without = await done(attic.desk.publish({ trustClock: false }, call))
  t.same(without.channel.releases.map(({ id }) => id), [urgent.release])
  t.match(without.notes[0], /Left for now: the index of agents\/acme\/watcher@1\.0\.0@any/)
  const { channel } = await done(attic.desk.publish({ trustClock: false, packed: join(acme.directory, "updates/made") }, call))
  t.same(channel.releases.map(({ role, target }) => [role, target]), [["targets", "kos/kos@1.0.0@any"], ["agents-acme", "agents/acme/watcher@1.0.0@any"]])
  const { client } = await ownLog(attic)
  const reader = await client()
  t.teardown(reader.close)
  t.same(await reader.look("agents/acme/watcher@1.0.0@any"), [packed.release])
})

t.test("signers change; the publishing node is lost and another takes over with the same history", async (t) => {
  const homes = new Homes(t.testdir())
  const [attic, cellar] = [await homes.add(t, "attic", "owner"), await homes.add(t, "cellar", "admin")]
  const stick = join(t.testdirName, "key")
  await done(attic.desk.key({ out: stick, force: false }, call))
  for (const home of [attic, cellar]) await done(home.desk.key({ force: false }, call))
  attic.hear(cellar)
  await done(attic.desk.init({ name: "hill", signer: ["attic", stick], threshold: 1 }, call))
  const packed = await done(attic.desk.pack(packInput(tree(t, "one", "a")), call))
  await done(attic.desk.publish({ trustClock: false }, call))
  const before = await ownLog(attic)
  const reader = await before.client()
  t.teardown(reader.close)
  t.same(await reader.look("kos/kos@1.0.0@any"), [packed.release])
  const [old] = await done(attic.desk.list({}, call))
  // Attic burns. Cellar has heard the events and holds a replica of the log; the stick is in a drawer.
  cellar.hear(attic)
  await cellar.replicate(before.log)
  const { follow, logs } = cellar.store
  Object.assign(cellar.store, { follow: async (key: string) => cellar.replicas.get(key) ?? follow(key), logs: { ...logs, keys: () => [...logs.keys(), ...cellar.replicas.keys()] } })
  const wish = { online: false, log: true, addSigner: ["cellar"], removeSigner: ["attic"], addRootSigner: ["cellar"], removeRootSigner: ["attic"], key: stick }
  const rotated = await done(cellar.desk.rotate(wish, call))
  t.match(rotated.proposals.map(({ role }) => role), ["root", "targets"])
  t.match(rotated.proposals[0]?.changes.join("\n"), /goes on in log/)
  await t.rejects(done(attic.desk.publish({ trustClock: false }, call)).then(({ published }) => { if (published.length === 0) throw new Error("nothing") }), /nothing/)
  await done(cellar.desk.sign({ proposal: "all" }, call))
  const { channel } = await done(cellar.desk.publish({ trustClock: false }, call))
  t.not(channel.log, old?.log)
  t.equal(parseChannelCode(channel.code)?.root, parseChannelCode(old?.code ?? "")?.root, "it is the same channel")
  t.same(channel.releases.map(({ id }) => id), [packed.release])
  const after = await ownLog(cellar)
  t.ok(await after.open.files.read(`targets/${packed.release}.index`))
  const newcomer = await after.client()
  t.teardown(newcomer.close)
  t.same(await newcomer.look("kos/kos@1.0.0@any"), [packed.release])
  // Attic was not burnt after all: its log says where it goes on, and is signed no more.
  attic.hear(cellar)
  t.match((await done(attic.desk.publish({ trustClock: false }, call))).published, [/goes on in log/])
  // Who follows the old code is led over by the signed root.
  const follower = await openChannel({
    name: "hill", code: old?.code ?? "", directory: join(t.testdirName, "trust"), now: () => homes.ms, builtMs: homes.ms - dayMs,
    follow: async (key) => key === before.log.key ? before.log : key === after.log.key ? after.log : Promise.reject(new Error("another log"))
  })
  const state = await follower.refresh()
  t.match([state.trust, state.logKey, state.releases.map(({ id }) => id)], ["fresh", after.log.key, [packed.release]])
  t.equal(sha256(await follower.index(firstOf(state.releases))), packed.release)
  await follower.close()
  homes.ms += 12 * dayMs
  await attic.publisher.look()
  await cellar.publisher.look()
  t.equal((await readHeld(channelFiles(after.log))).timestamp?.metadata.signed.version, 3)
})

t.test("dates are renewed in time; a clock that jumped far ahead signs nothing; what was cut short is finished at the next look", async (t) => {
  const homes = new Homes(t.testdir())
  const attic = await homes.add(t, "attic", "owner")
  await done(attic.desk.key({ force: false }, call))
  await done(attic.desk.init({ name: "hill" }, call))
  await done(attic.desk.publish({ trustClock: false }, call))
  const { open, log } = await ownLog(attic)
  const version = async () => (await readHeld(open.files)).timestamp?.metadata.signed.version
  const { length } = log
  const before = length()
  await attic.publisher.look()
  t.equal(length(), before)
  homes.ms += 11 * dayMs
  await attic.publisher.look()
  t.equal(await version(), 2)
  const good = homes.ms
  homes.ms = Date.parse("2099-01-01T00:00:00Z")
  await attic.publisher.look()
  t.equal(await version(), 2)
  t.match(attic.notices.at(-1), /clock says 2099-01-01/)
  await t.rejects(done(attic.desk.publish({ trustClock: false }, call)), /clock says 2099-01-01/)
  homes.ms = good
  // The power goes after the targets, before the snapshot.
  await done(attic.desk.pack(packInput(tree(t, "one", "a")), call))
  const [book] = attic.publisher.books()
  const { append } = log
  let left = 2
  Object.assign(log, { append: (blocks: ReadonlyArray<Uint8Array>) => left-- > 0 ? append(blocks) : Promise.reject(new Error("the power went")) })
  await t.rejects(done(attic.desk.publish({ trustClock: false }, call)), /the power went/)
  t.same(readdirSync(join(attic.directory, "updates/publishing")), [book?.id])
  Object.assign(log, { append })
  t.equal((await readHeld(open.files)).targets?.metadata.signed.version, 1)
  await attic.publisher.look()
  t.equal((await readHeld(open.files)).targets?.metadata.signed.version, 2)
  t.same(readdirSync(join(attic.directory, "updates/publishing")), [])
})

t.test("a sealed home seals its release keys, and opens with them", async (t) => {
  const homes = new Homes(t.testdir())
  const attic = await homes.add(t, "attic", "owner")
  const { key } = await done(attic.desk.key({ force: false }, call))
  const raw = readFileSync(join(attic.directory, "keys/release.signer"))
  await attic.vault.seal({ way: "passphrase", name: "", secret: Buffer.from("hush"), cost: { ops: 1, memKiB: 8_192 } })
  const sealed = readFileSync(join(attic.directory, "keys/release.signer"))
  t.notOk(sealed.includes(raw))
  t.equal(sealed.subarray(0, 12).toString(), "kos/sealed/1")
  const again = await Vault.open(attic.directory, { unlock: async () => Buffer.from("hush") })
  t.equal(Buffer.from((await again?.releaseKeyPair("signer"))?.publicKey ?? []).toString("hex"), key)
  await t.rejects(async () => again?.releaseKeyPair("../device"), /no release key/)
})
