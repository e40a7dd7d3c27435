/**
 * Real stores, damaged while their node is stopped, in as many ways as disks, people and backups know. Whatever happens: a block that
 * was published is never written anew with other content, and an acknowledged event is in the own log, on the peer, or counted as
 * missing in a log that was closed.
 *
 * `KOS_ROUNDS` says how many cases (20 when not given), `KOS_SEED` which. Every second case has a peer; of those every third knows only
 * the earlier half of the log.
 */
import { Effect } from "effect"
import { mkdir } from "node:fs/promises"
import t from "tap"
import { HypercoreStore } from "../../src/events/hypercore-store.ts"
import { chance } from "../membership-world.ts"
import { damages, keepCopy } from "./damage.ts"
import { type Acknowledged, append, flushStore, heldBy, makeHome, meet, openNode, shown } from "./node-home.ts"
import { join } from "./replicate.ts"

const cases = Number(process.env["KOS_ROUNDS"] ?? 20)
const seed = Number(process.env["KOS_SEED"] ?? 1)
t.setTimeout(60_000 + cases * 3_000)

const tally = new Map<string, number>()
const count = (what: string): void => void tally.set(what, (tally.get(what) ?? 0) + 1)

for (let i = 0; i < cases; i++) {
  const damage = damages[i % damages.length]
  if (damage === undefined) break
  const around = Math.floor(i / damages.length)
  const withPeer = (i + around) % 2 === 0
  const { below } = chance(seed * 1_000 + i)
  const partly = withPeer && i % 3 === 2
  void t.test(`${i + 1}. ${damage.name}, ${withPeer ? partly ? "a peer with the earlier half" : "a peer" : "nobody else"}`, async (t) => {
    const root = t.testdir()
    const home = await makeHome(`${root}/home`)
    const peer = withPeer ? await HypercoreStore.open(`${root}/peer`) : undefined
    const acknowledged: Array<Acknowledged> = []
    const heads = new Map<string, string>()
    // Of chance, so that it does not shrink, most bytes of a file are blocks of the log, and a file has many parts of which one can be hit.
    const text = (): string => Array.from({ length: 20 + below(4_000) }, () => below(36).toString(36)).join("")
    const write = async (frames: number, clean: boolean): Promise<string> => {
      const node = await openNode(home, "first boot", peer)
      for (let n = 0; n < frames; n++) await append(node, Array.from({ length: 1 + below(3) }, text), acknowledged, heads)
      const log = node.journal.log()
      if (peer !== undefined && !(partly && acknowledged.some((one) => one.block > 30))) await meet(node.store, peer, log, node.journal.length())
      await node.close(clean)
      return log
    }
    const log = await write(10 + below(10), true)
    await flushStore(home)
    await keepCopy(home.directory, `${root}/earlier`)
    await write(8 + below(6), below(2) === 0)
    await flushStore(home)
    await write(10 + below(20), below(2) === 0)
    const published = Math.max(...acknowledged.map((one) => one.block)) + 1
    const peerHeld = peer === undefined ? 0 : await heldBy(peer, log)

    await damage.run(home.directory, `${root}/earlier`, below)
    const node = await openNode(home, damage.restarted === true ? "second boot" : "first boot", peer)
    const { succession, healed } = node.report
    const why = [...node.notes, JSON.stringify(node.report)].join("\n")
    const before = await shown(node.store, home.meshKey, acknowledged)
    const onPeer = peer === undefined ? new Set<Acknowledged>() : await shown(peer, home.meshKey, acknowledged)
    const lost = acknowledged.filter((one) => !before.has(one) && !onPeer.has(one))
    const lostBlocks = new Set(lost.map((one) => one.block)).size
    const heldBlocks = new Set([...before].map((one) => one.block)).size

    // A node that was given back its own past as a whole, and meets nobody who knows better, cannot tell; neither can anybody else.
    const unknowable = damage.restarted === true && peerHeld < published
    if (peerHeld === published) t.equal(lost.length, 0, `the peer has everything\n${why}`)
    if (!damage.takesBlocks) t.equal(lost.length, 0, `no block was touched\n${why}`)
    if (succession === undefined) {
      t.equal(node.journal.log(), log)
      t.ok(node.journal.length() >= (unknowable ? peerHeld : published), `it goes on with all that was published: ${node.journal.length()} of ${published}\n${why}`)
      if (!unknowable) t.equal(lost.length, 0, `and all that was acknowledged\n${why}`)
      count(healed === undefined ? "whole" : "healed")
    } else {
      t.not(node.journal.log(), log, "the next log has another key")
      t.equal(node.journal.length(), 0)
      if (succession.finding !== "Copied") {
        const known = damage.forgetful === true ? Math.max(heldBlocks, peerHeld) : published
        t.equal(succession.expected, known, `closed at what was published\n${why}`)
        t.equal(succession.expected - succession.length, known - heldBlocks, `with the exact count of what is missing here\n${why}`)
      }
      if (withPeer && !partly) t.ok(["Copied", "Unmarked"].includes(succession.finding), `a peer would have healed it\n${why}`)
      count(`closed: ${succession.finding}`)
    }
    if (lost.length > 0) {
      t.ok(succession !== undefined || unknowable, "what is gone everywhere was not passed over in silence")
      count("cases with blocks that nobody has any more")
      tally.set("blocks that nobody has any more", (tally.get("blocks that nobody has any more") ?? 0) + lostBlocks)
    }

    // Life goes on, and the peer agrees with everything.
    const later: Array<Acknowledged> = []
    for (let n = 0; n < 3; n++) await append(node, [text()], later, heads)
    if (peer !== undefined) {
      await t.resolves(meet(node.store, peer, node.journal.log(), node.journal.length()), `no two histories\n${why}`)
      await t.resolves(meet(node.store, peer, log, Math.max(published, peerHeld)), "nor of the old log")
      t.equal((await shown(peer, home.meshKey, later)).size, later.length, "the new events reached the peer")
    }
    for (const [who, store] of [["own", node.store], ["peer", peer]] as const) {
      if (store === undefined) continue
      const held = await store.openHeld(log)
      for (let length = 1; length <= Math.min(published, held.length()); length++) {
        const known = heads.get(`${log}/${length}`)
        if (unknowable && length > peerHeld) break
        if (known !== undefined && await held.treeHash(length) !== known) t.fail(`${who}: the tree of ${length} blocks is not what was published`)
      }
      await held.close()
    }
    await node.close(true)
    const again = await openNode(home, "third boot", peer)
    t.equal(again.report.succession, undefined, `the next start finds nothing to settle\n${JSON.stringify(again.report)}`)
    t.equal((await shown(again.store, home.meshKey, later)).size, later.length)
    await again.close(true)
    await peer?.close()
  })
}

t.test("the guard is what prevents a fork: without it the same damage makes two histories", async (t) => {
  const root = t.testdir()
  const home = await makeHome(`${root}/home`)
  const peer = await HypercoreStore.open(`${root}/peer`)
  const node = await openNode(home, "boot", undefined)
  const log = node.journal.log()
  for (let n = 0; n < 10; n++) await append(node, ["early"], [], new Map())
  await node.close(true)
  await keepCopy(home.directory, `${root}/earlier`)
  const later = await openNode(home, "boot", undefined)
  for (let n = 0; n < 10; n++) await append(later, ["late"], [], new Map())
  await meet(later.store, peer, log, 20)
  await later.close(true)
  await damages.find((one) => one.name.startsWith("an older copy"))?.run(home.directory, `${root}/earlier`, () => 0)
  // Without the guard: opened with nobody to heal from, and written on under the old key.
  const { openStore } = await import("../../src/boot/open-store.ts")
  const { keyPair } = await home.vault.logKeyPair(home.mesh)
  const store = await openStore({ directory: home.directory, own: keyPair, now: () => 2, notice: () => undefined })
  const own = await store.openOwn(keyPair)
  t.equal(own.length(), 10)
  for (let n = 0; n < 12; n++) await own.append(Buffer.from("other"), async () => undefined)
  await t.rejects(meet(store, peer, log, 22), /two histories/)
  await own.close()
  await store.close()
  await peer.close()
})

t.test("a heal that was cut short is not taken for health", async (t) => {
  const root = t.testdir()
  const home = await makeHome(`${root}/home`)
  const peer = await HypercoreStore.open(`${root}/peer`)
  await mkdir(`${root}/earlier`, { recursive: true })
  const acknowledged: Array<Acknowledged> = []
  const first = await openNode(home, "boot", undefined)
  const log = first.journal.log()
  for (let n = 0; n < 10; n++) await append(first, ["early"], acknowledged, new Map())
  await first.close(true)
  await keepCopy(home.directory, `${root}/earlier`)
  const second = await openNode(home, "boot", undefined)
  for (let n = 0; n < 20; n++) await append(second, ["late"], acknowledged, new Map())
  await meet(second.store, peer, log, 30)
  await second.close(true)
  await damages.find((one) => one.name.startsWith("an older image"))?.run(home.directory, `${root}/earlier`, () => 0)
  // The node hears of thirty blocks, gets three of them with a gap, and the power goes.
  const store = await HypercoreStore.open(`${home.directory}/store`)
  const [ours, theirs] = [await store.session(log), await peer.session(log)]
  const part = join(theirs, ours)
  await ours.download({ start: 10, end: 12 }).done()
  await ours.download({ start: 20, end: 21 }).done()
  await part()
  t.equal(ours.length, 30)
  await ours.close()
  await theirs.close()
  await store.close()
  const alone = await openNode(home, "boot", undefined)
  t.match(alone.report.succession, { finding: "Short", length: 13, expected: 30 }, "the same boot, a mark that fits, and yet not whole")
  t.equal((await shown(alone.store, home.meshKey, acknowledged)).size, 13)
  await Effect.runPromise(alone.journal.append([{ type: "command.done/1", actor: "device", subject: "node", command: "", cause: [], body: { name: "x", detail: "y" } }]))
  await meet(peer, alone.store, log, 30)
  t.equal((await shown(alone.store, home.meshKey, acknowledged)).size, 30, "the closed log is filled later like any other")
  await alone.close(true)
  await peer.close()
})

t.teardown(() => t.comment([...tally].map(([what, n]) => `${what} ${n}`).join("; ")))
