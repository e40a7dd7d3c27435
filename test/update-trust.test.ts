/**
 * Attacks on a channel's metadata by who holds some of its keys, its log, or neither. Each is held, and each test ends by an honest newer release that
 * gets through. tuf-js's own updater is asked too: where it refuses, ours must.
 */
import { MetaFile } from "@tufjs/models"
import t from "tap"
import { device, startMs, type Device } from "./update-followed.ts"
import { customOf, dayMs, madeKey, madeKeys, madeRepo, memoryLog, sha256, type MadeRepo } from "./update-repo.ts"
import { utf8 } from "../src/codec/bytes.ts"
import { encodeFile, indexPath } from "../src/updates/metadata/channel-block.ts"

const follow = async (t: Parameters<typeof device>[0], name: string): Promise<{ readonly repo: MadeRepo; readonly one: Device }> => {
  const repo = madeRepo(name, startMs)
  await repo.release("1.0.0")
  const one = await device(t, repo)
  t.equal(await one.check(), "fresh 1.0.0")
  t.ok(await one.stock())
  return { repo, one }
}

/** Refused with this reason by both, what was good stays. */
const held = async (t: Parameters<typeof device>[0], one: Device, why: RegExp, releases = "1.0.0"): Promise<void> => {
  t.equal(await one.check(), `untrusted ${releases}`.trim())
  t.match(one.state().fault, why)
  t.notOk(await one.stock(), "tuf-js's own updater refuses it too")
  await one.restart()
  t.match(one.state().releases.map(({ custom }) => custom.version).join(), releases, "and what was good is there after a restart")
  t.equal(await one.check(), `untrusted ${releases}`.trim())
}

const passes = async (t: Parameters<typeof device>[0], one: Device, releases: string): Promise<void> => {
  t.equal(await one.check(), `fresh ${releases}`)
  t.equal(one.state().fault, undefined)
  t.ok(await one.stock(), "tuf-js's own updater takes it too")
}

t.test("a channel from its code to its releases", async (t) => {
  const { repo, one } = await follow(t, "plain")
  const state = one.state()
  t.match(state, { name: "main", channel: repo.state.firstRoot, logKey: repo.state.log.key, versions: { root: 1, timestamp: 1, snapshot: 1, targets: 1 }, signedMs: startMs, expiresMs: startMs + 30 * dayMs, faulty: [], yanked: [] })
  const [release] = state.releases
  t.ok(release)
  if (release === undefined) return
  t.match(release, { id: sha256("index of kos/kos@1.0.0@any"), channelName: "main", role: "targets", threshold: 2, custom: { notes: "notes of 1.0.0" } })
  t.same(release.signers, repo.state.targets.keys.slice(0, 2).map(({ id }) => id))
  t.same(Buffer.from(await one.channel.index(release)).toString(), "index of kos/kos@1.0.0@any")
  t.equal(await one.check(), "fresh 1.0.0", "a check with nothing new changes nothing")
  await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
})

t.test("a channel that has not come yet is empty, and one with another first root is not trusted", async (t) => {
  const repo = madeRepo("late", startMs)
  const other = madeRepo("other", startMs)
  await other.release("6.6.6")
  await repo.release("1.0.0")
  const blocks = repo.state.log.blocks.splice(0)
  const one = await device(t, repo)
  t.equal(await one.check(), "empty")
  // A log cut at each block is empty until its timestamp is here.
  for (const block of blocks) {
    t.equal(await one.check(), "empty")
    await repo.state.log.append([block])
  }
  await passes(t, one, "1.0.0")
  const { channelCode } = await import("../src/updates/metadata/channel-code.ts")
  const wrong = await device(t, other, { code: channelCode({ log: other.state.log.key, root: repo.state.firstRoot }) })
  t.equal(await wrong.check(), "untrusted")
  t.match(wrong.state().fault, /not the one that the channel's code names/)
  await t.rejects(device(t, other, { code: "kos-channel:abc" }), /no channel's code/)
  // The right root makes it right, although the wrong one is still there.
  other.state.log.blocks.push(...repo.state.log.blocks)
  t.equal(await wrong.check(), "fresh 1.0.0")
})

t.test("targets signed by foreign keys", async (t) => {
  const { repo, one } = await follow(t, "foreign")
  await repo.add("kos/kos@6.6.6@any", customOf("kos", "6.6.6"))
  await repo.writeTargets(madeKeys("stranger", 3))
  await repo.writeSnapshot()
  await repo.writeTimestamp()
  await held(t, one, /signed by 0\/2 keys/)
  repo.state.top.targets.delete("kos/kos@6.6.6@any")
  await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
})

t.test("a timestamp and a snapshot signed by foreign keys", async (t) => {
  const { repo, one } = await follow(t, "foreign online")
  await repo.writeTimestamp(madeKeys("stranger", 1))
  await held(t, one, /timestamp was signed by 0\/1 keys/)
  await repo.writeSnapshot(madeKeys("stranger", 1))
  await repo.writeTimestamp()
  await held(t, one, /snapshot was signed by 0\/1 keys/)
  await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
})

t.test("stolen keys below the threshold: one of the release keys and both that are online", async (t) => {
  const { repo, one } = await follow(t, "stolen")
  await repo.add("kos/kos@6.6.6@any", customOf("kos", "6.6.6"))
  await repo.writeTargets(repo.state.targets.keys.slice(1, 2))
  await repo.writeSnapshot()
  await repo.writeTimestamp()
  await held(t, one, /signed by 1\/2 keys/)
  repo.state.top.targets.delete("kos/kos@6.6.6@any")
  await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
})

t.test("one key twice: under a second name, as a second signature, and listed twice by a root", async (t) => {
  const { repo, one } = await follow(t, "twice")
  const [key] = repo.state.targets.keys
  if (key === undefined) return
  const alias = madeKey("twice targets 0", "alias")
  t.not(alias.id, key.id)
  await repo.writeTargets([key, alias])
  await repo.writeSnapshot()
  await repo.writeTimestamp()
  await held(t, one, /signed by 1\/2 keys/)
  // The same signature twice in the list.
  const file: unknown = JSON.parse(Buffer.from(repo.state.files.get("targets") ?? []).toString())
  const twice = JSON.parse(JSON.stringify(file)) as { signatures: Array<unknown> }
  twice.signatures = [twice.signatures[0], twice.signatures[0]]
  repo.state.top.version += 1
  repo.state.files.set("targets", await repo.put(`${repo.state.top.version}.targets.json`, utf8(JSON.stringify(twice))))
  await repo.writeSnapshot()
  await repo.writeTimestamp()
  await held(t, one, /multiple signatures/)
  // A root, signed as it should be, that would let one person be two.
  repo.state.targets = { keys: [key, alias], threshold: 2 }
  await repo.writeRoot()
  t.equal(await one.check(), "untrusted 1.0.0")
  t.match(one.state().fault, /lists one key twice/)
  repo.state.targets = { keys: madeKeys("twice targets", 3), threshold: 2 }
  repo.state.versions.root -= 1
  await repo.writeRoot()
  await repo.release("1.1.0")
  t.equal(await one.check(), "fresh 1.0.0,1.1.0", "the right root under the same number heals it")
})

t.test("rollback of timestamp, snapshot and targets", async (t) => {
  const { repo, one } = await follow(t, "rollback")
  const old = repo.state.log.blocks.at(-1)
  const oldSnapshot = repo.state.files.get("snapshot")
  await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
  if (old === undefined || oldSnapshot === undefined) return
  await repo.state.log.append([old])
  await held(t, one, /version 1 is less than current version 2/, "1.0.0,1.1.0")
  await repo.writeTimestamp(undefined, { snapshot: repo.metaOf(1, oldSnapshot) })
  await held(t, one, /New snapshot version 1 is less/, "1.0.0,1.1.0")
  await repo.writeSnapshot(undefined, { "targets.json": new MetaFile({ version: 1 }) })
  await repo.writeTimestamp()
  await held(t, one, /New version 1 of targets.json is less/, "1.0.0,1.1.0")
  await repo.release("1.2.0")
  await passes(t, one, "1.0.0,1.1.0,1.2.0")
})

t.test("freeze: nothing new comes", async (t) => {
  const { repo, one } = await follow(t, "freeze")
  one.nowMs = startMs + 29 * dayMs
  t.equal(await one.check(), "fresh 1.0.0")
  one.nowMs = startMs + 31 * dayMs
  t.equal(await one.check(), "stale 1.0.0", "said, and nothing is gone")
  t.notOk(await one.stock())
  await one.restart()
  t.equal(await one.check(), "stale 1.0.0")
  repo.state.nowMs = one.nowMs
  await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
})

t.test("all of it expired, the root too, on a device that was away: stale, and it still gives what is newer", async (t) => {
  const { repo, one } = await follow(t, "expired")
  await repo.release("1.1.0")
  one.nowMs = startMs + 4_000 * dayMs
  t.equal(await one.check(), "stale 1.0.0,1.1.0")
  const late = await device(t, repo, { nowMs: one.nowMs, builtMs: one.nowMs - dayMs })
  t.equal(await late.check(), "stale 1.0.0,1.1.0", "at first contact as well")
  repo.state.nowMs = one.nowMs
  await repo.writeRoot()
  await repo.release("1.2.0")
  await passes(t, one, "1.0.0,1.1.0,1.2.0")
  t.equal(await late.check(), "fresh 1.0.0,1.1.0,1.2.0")
})

t.test("mix and match: files of two publications", async (t) => {
  const { repo, one } = await follow(t, "mix")
  const [oldSnapshot, oldTargets] = [repo.state.files.get("snapshot"), repo.state.files.get("targets")]
  if (oldSnapshot === undefined || oldTargets === undefined) return
  // The timestamp names snapshot 2 by its hash; the old snapshot lies under that name.
  repo.state.versions.snapshot = 2
  await repo.put("2.snapshot.json", oldSnapshot)
  await repo.writeTimestamp(undefined, { snapshot: repo.metaOf(2, new Uint8Array(oldSnapshot.byteLength)) })
  await held(t, one, /Expected hash/)
  // Snapshot 3 names targets 2 by its hash; the old targets lie under that name.
  repo.state.top.version = 2
  await repo.put("2.targets.json", oldTargets)
  repo.state.files.set("targets", new Uint8Array(oldTargets.byteLength + 1))
  await repo.writeSnapshot()
  await repo.writeTimestamp()
  await held(t, one, /Expected length/)
  await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
  // Wrong files over the right ones are passed over: the right ones are known by their hash.
  await repo.put("4.snapshot.json", oldSnapshot)
  await repo.put("3.targets.json", oldTargets)
  const late = await device(t, repo)
  t.equal(await late.check(), "fresh 1.0.0,1.1.0")
})

t.test("endless metadata: too long, too many, too deep", async (t) => {
  const { repo, one } = await follow(t, "endless")
  const timestamp = repo.state.log.blocks.length
  await repo.put("timestamp.json", new Uint8Array(500_000).fill(32))
  t.equal(await one.check(), "fresh 1.0.0", "a timestamp of 500 kB is not read, what is trusted holds")
  await repo.put("timestamp.json", utf8("[".repeat(16_000)))
  t.equal(await one.check(), "untrusted 1.0.0")
  await repo.put("2.root.json", utf8(JSON.stringify({ signatures: [], signed: { _type: "root", keys: Object.fromEntries(Array.from({ length: 500 }, (_, at) => [`k${at}`, {}])) } })))
  t.equal(await one.check(), "untrusted 1.0.0")
  t.match(one.state().fault, /500 keys; 128 are the limit/)
  t.ok(repo.state.log.blocks.length > timestamp)
  await repo.writeRoot()
  // Targets that the snapshot calls longer than any may be.
  await repo.writeTargets()
  await repo.writeSnapshot(undefined, { "targets.json": new MetaFile({ version: repo.state.top.version, length: 99_000_000 }) })
  await repo.writeTimestamp()
  t.equal(await one.check(), "untrusted 1.0.0")
  t.throws(() => encodeFile("9.targets.json", new Uint8Array(600_000)), /limit/)
  await repo.release("1.1.0")
  t.equal(await one.check(), "fresh 1.0.0,1.1.0")
})

t.test("a swapped index", async (t) => {
  const { repo, one } = await follow(t, "index")
  const [release] = one.state().releases
  if (release === undefined) return
  await repo.put(indexPath(release.id), utf8("index of kos/kos@6.6.6@any"))
  t.equal(Buffer.from(await one.channel.index(release)).toString(), "index of kos/kos@1.0.0@any", "the right one is still found behind the wrong one")
  for (let at = 0; at < 5; at += 1) await repo.put(indexPath(release.id), utf8(`other bytes ${at}`))
  await t.rejects(one.channel.index(release), /no file of 26 bytes/)
  await t.rejects(one.channel.index({ ...release, indexLength: 25 }), /no file of 25 bytes/)
  await repo.put(indexPath(release.id), utf8("index of kos/kos@1.0.0@any"))
  t.equal(Buffer.from(await one.channel.index(release)).toString(), "index of kos/kos@1.0.0@any")
  await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
})

t.test("rotation of the release keys: the old ones are dead from the root on", async (t) => {
  const { repo, one } = await follow(t, "rotation")
  const old = repo.state.targets
  repo.state.targets = { keys: madeKeys("rotation targets new", 3), threshold: 2 }
  await repo.writeRoot()
  await one.check()
  t.same(one.state().releases, [], "what only the old keys signed is not shown any more")
  t.equal(one.state().versions.root, 2)
  await repo.writeTargets(old.keys)
  await repo.writeSnapshot()
  await repo.writeTimestamp()
  t.equal(await one.check(), "untrusted")
  t.match(one.state().fault, /signed by 0\/2 keys/)
  t.notOk(await one.stock())
  await one.restart()
  t.same(one.state().releases, [], "nor after a restart")
  await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
})

t.test("a root that the old root did not sign, or that did not sign itself", async (t) => {
  const { repo, one } = await follow(t, "root")
  const honest = repo.state.root
  repo.state.root = { keys: madeKeys("stranger root", 3), threshold: 2 }
  await repo.writeRoot()
  await repo.release("6.6.6")
  await held(t, one, /root was signed by 0\/2 keys/)
  repo.state.versions.root = 1
  await repo.writeRoot(honest.keys, [])
  t.equal(await one.check(), "untrusted 1.0.0")
  repo.state.top.targets.delete("kos/kos@6.6.6@any")
  // The honest one rotates its root keys: old and new sign.
  repo.state.versions.root = 1
  repo.state.root = { keys: madeKeys("root new", 5), threshold: 3 }
  await repo.writeRoot(honest.keys)
  await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
  // A device that meets the channel now goes the whole way.
  const late = await device(t, repo)
  t.equal(await late.check(), "fresh 1.0.0,1.1.0")
  t.equal(late.state().versions.root, 2)
})

t.test("versions run to their end by a thief of the online keys: a new root gets them back", async (t) => {
  const { repo, one } = await follow(t, "fast-forward")
  repo.state.versions.snapshot = Number.MAX_SAFE_INTEGER - 1
  await repo.writeSnapshot()
  await repo.writeTimestamp(undefined, { version: Number.MAX_SAFE_INTEGER - 1 })
  t.equal(await one.check(), "fresh 1.0.0")
  t.ok(await one.stock())
  repo.state.versions.snapshot = 1
  repo.state.versions.timestamp = 1
  await repo.release("1.1.0")
  await held(t, one, /less than current version/)
  repo.state.timestamp = { keys: madeKeys("new timestamp", 1), threshold: 1 }
  repo.state.snapshot = { keys: madeKeys("new snapshot", 1), threshold: 1 }
  await repo.writeRoot()
  await repo.release("1.2.0")
  await passes(t, one, "1.0.0,1.1.0,1.2.0")
})

t.test("between a root with new online keys and its timestamp, the last good releases stay as stale", async (t) => {
  const { repo, one } = await follow(t, "between")
  repo.state.timestamp = { keys: madeKeys("new timestamp", 1), threshold: 1 }
  await repo.writeRoot()
  t.equal(await one.check(), "stale 1.0.0")
  t.match(one.state().fault, /timestamp of root 2 has not come yet/)
  await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
})

t.test("a publisher signs below its own path only, and its faults are its own", async (t) => {
  const { repo, one } = await follow(t, "publisher")
  const agent = (version: string) => customOf("bee", version, { kind: "agent", entry: "main.js" })
  const acme = { name: "agents-acme", paths: ["agents/acme/*"], keys: madeKeys("acme", 3), threshold: 2 }
  repo.delegate(acme)
  repo.delegate({ name: "agents-zeta", paths: ["agents/zeta/*"], keys: madeKeys("zeta", 1), threshold: 1 })
  repo.delegate({ name: "wide", paths: ["*/*"], keys: madeKeys("wide", 1), threshold: 1 })
  repo.delegate({ name: "agents-unborn", paths: ["agents/unborn/*"], keys: madeKeys("unborn", 1), threshold: 1 })
  repo.state.roles.delete("agents-unborn")
  repo.delegate({ name: "late-acme", paths: ["agents/acme/*"], keys: madeKeys("late acme", 1), threshold: 1 })
  await repo.add("agents/acme/bee@1.0.0@any", agent("1.0.0"), "late-acme", utf8("other bytes"))
  await repo.add("agents/acme/wasp@1.0.0@any", customOf("wasp", "1.0.0", { kind: "agent" }), "late-acme")
  await repo.add("agents/acme/bee@1.0.0@any", agent("1.0.0"), "agents-acme")
  await repo.add("agents/zeta/bee@2.0.0@any", agent("2.0.0"), "agents-zeta")
  await repo.add("agents/acme/bee@6.6.6@any", agent("6.6.6"), "agents-zeta")
  await repo.add("kos/kos@6.6.6@any", customOf("kos", "6.6.6"), "agents-zeta")
  await repo.add("kos/kos@6.6.7@any", customOf("kos", "6.6.7"), "wide")
  await repo.add("agents/zeta/ape@3.0.0@any", customOf("ape", "3.0.0", { kind: "agent" }), "agents-zeta", utf8("index of kos/kos@1.0.0@any"))
  await repo.publish()
  t.equal(await one.check(), "fresh 1.0.0,1.0.0,2.0.0")
  t.same(one.state().releases.map(({ target, role, threshold, signers }) => [target, role, threshold, signers.length]), [
    ["kos/kos@1.0.0@any", "targets", 2, 2], ["agents/acme/bee@1.0.0@any", "agents-acme", 2, 2], ["agents/zeta/bee@2.0.0@any", "agents-zeta", 1, 1]
  ])
  const faulty = Object.fromEntries(one.state().faulty.map(({ target, why }) => [target, why]))
  t.match(faulty["agents/acme/bee@6.6.6@any"], /may not list it/)
  t.match(faulty["agents/acme/bee@1.0.0@any"], /late-acme may not list it/, "the role that comes first and ends the search is the only one")
  t.match(faulty["agents/acme/wasp@1.0.0@any"], /late-acme may not list it/)
  t.match(faulty["kos/kos@6.6.6@any"], /may not list it/)
  t.match(faulty["wide"], /paths such as/)
  t.match(faulty["agents-unborn"], /snapshot has no/)
  t.match(faulty["agents/zeta/ape@3.0.0@any"], /has the index of kos/)
  // One of three of acme's keys is not enough; zeta and kOS go on.
  await repo.writeRole("agents-acme", acme.keys.slice(0, 1))
  await repo.writeTargets()
  await repo.writeSnapshot()
  await repo.writeTimestamp()
  t.equal(await one.check(), "fresh 1.0.0,2.0.0")
  t.match(one.state().faulty.find(({ target }) => target === "agents-acme")?.why, /signed by 1\/2/)
  // A role that is expired holds what it holds, and says so.
  const zeta = repo.state.roles.get("agents-zeta")
  if (zeta !== undefined) zeta.expiresMs = startMs + dayMs
  await repo.release("1.1.0")
  one.nowMs = startMs + 2 * dayMs
  t.equal(await one.check(), "fresh 1.0.0,1.1.0,1.0.0,2.0.0")
  t.same(one.state().releases.filter((release) => "stale" in release).map(({ role }) => role), ["agents-zeta"])
})

t.test("what is no release by our schema is named, and the others are not affected", async (t) => {
  const { repo, one } = await follow(t, "schema")
  await repo.add("kos/kos@2.0.0@any", customOf("kos", "2.0.1"))
  await repo.add("os/kos@2.0.0@any", customOf("kos", "2.0.0"))
  await repo.add("kos/kos@3.0.0@any", { kos: 2 })
  await repo.add("kos/__proto__", { kos: 1 })
  await repo.release("1.1.0")
  t.equal(await one.check(), "fresh 1.0.0,1.1.0")
  t.equal(one.state().faulty.length, 4)
})

t.test("a release is yanked with its reason, by who may", async (t) => {
  const { repo, one } = await follow(t, "yank")
  const bad = await repo.release("1.1.0")
  await passes(t, one, "1.0.0,1.1.0")
  const acme = { name: "agents-acme", paths: ["agents/acme/*"], keys: madeKeys("acme", 1), threshold: 1 }
  repo.delegate(acme)
  const made = repo.state.roles.get("agents-acme")
  const [one0] = one.state().releases
  if (made === undefined || one0 === undefined) return
  made.yanked = [{ target: "kos/kos@1.0.0@any", id: one0.id, reason: "I say so" }]
  repo.state.top.yanked = [{ target: "kos/kos@1.1.0@any", id: bad, reason: "it eats the disk" }]
  await repo.publish()
  t.equal(await one.check(), "fresh 1.0.0", "also while its entry is still there; a publisher cannot yank another's")
  t.same(one.state().yanked, [{ target: "kos/kos@1.1.0@any", id: bad, reason: "it eats the disk" }])
  repo.state.top.targets.delete("kos/kos@1.1.0@any")
  await repo.release("1.2.0")
  await passes(t, one, "1.0.0,1.2.0")
  repo.state.top.yanked = "nonsense"
  await repo.release("1.3.0")
  await passes(t, one, "1.0.0,1.2.0,1.3.0")
})

t.test("a fork of the log: not followed any further, until a person enters a code with another log", async (t) => {
  const repo = madeRepo("fork", startMs)
  await repo.release("1.0.0")
  const next = memoryLog("fork next")
  const one = await device(t, repo, { logs: [next] })
  t.equal(await one.check(), "fresh 1.0.0")
  const forked = repo.state.log
  forked.forked = "node attic holds another block 3"
  await repo.release("6.6.6")
  t.equal(await one.check(), "untrusted 1.0.0")
  t.match(one.state().fault, /two signed histories \(node attic holds another block 3\)/)
  await one.restart()
  t.equal(await one.check(), "untrusted 1.0.0")
  const late = await device(t, repo, { logs: [next] })
  t.equal(await late.check(), "untrusted")
  // The publisher goes over to a new log; the code that a person enters has the same first root.
  repo.state.top.targets.delete("kos/kos@6.6.6@any")
  repo.state.log = next
  await next.append(forked.blocks.slice(0, 5))
  repo.state.movedTo = next.key
  await repo.writeRoot()
  await repo.release("1.1.0")
  for (const each of [one, late]) {
    await each.restart(repo.code())
    t.equal(await each.check(), "fresh 1.0.0,1.1.0")
    t.equal(each.state().logKey, next.key)
  }
})

t.test("the log moves by what the root says; the old log's holder loses its say", async (t) => {
  const { repo, one: plain } = await follow(t, "move")
  await plain.channel.close()
  const [first, second] = [repo.state.log, memoryLog("move second")]
  const one = await device(t, repo, { logs: [second] })
  t.equal(await one.check(), "fresh 1.0.0")
  repo.state.movedTo = second.key
  await repo.writeRoot()
  t.equal(await one.check(), "fresh 1.0.0", "the new log is empty as yet")
  t.equal(one.state().logKey, second.key)
  repo.state.log = second
  await second.append(first.blocks)
  await repo.release("1.1.0")
  t.equal(await one.check(), "fresh 1.0.0,1.1.0")
  // Whoever held the old log writes and forks on.
  await first.append(encodeFile("timestamp.json", utf8("{}")))
  t.equal(await one.check(), "fresh 1.0.0,1.1.0")
  first.forked = "another block 2"
  await one.restart()
  t.equal(await one.check(), "fresh 1.0.0,1.1.0")
  await repo.release("1.2.0")
  t.equal(await one.check(), "fresh 1.0.0,1.1.0,1.2.0")
  t.equal(one.state().logKey, second.key)
})
