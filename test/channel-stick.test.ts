/** Channels and packs on a stick: from one home to another that never met anybody. */
import { createHash } from "node:crypto"
import { copyFile, mkdir, readFile, readdir, rename, writeFile } from "node:fs/promises"
import { execFileSync } from "node:child_process"
import t, { type Test } from "tap"
import { utf8 } from "../src/codec/bytes.ts"
import { type ChannelStore, makeChannelStore } from "../src/boot/channel-store.ts"
import { clearStickLeftovers, exportUpdate, importUpdate, type StickParts } from "../src/boot/update-stick.ts"
import type { PackRef } from "../src/updates/ports.ts"
import { checkStick, StickRefused, writeStick } from "../src/updates/stick.ts"
import { BundleRefused } from "../src/swarm/bundle-file.ts"
import { keysOf, logKeyOf, seeded } from "./swarm-host.ts"
import Hypercore from "hypercore"

const publisher = keysOf("publisher")
const channel = logKeyOf(publisher)

interface Home extends StickParts {
  readonly store: ChannelStore
  readonly notices: Array<string>
  /** Packs that its transfer holds. */
  readonly packs: Map<string, string>
  readonly place: string
  /** Packs that a verified release names. */
  readonly known: Map<string, PackRef>
  refreshed: number
}

const home = async (t: Test, place: string): Promise<Home> => {
  const notices: Array<string> = []
  const store = makeChannelStore({ directory: `${place}/channels`, notice: (_level, text) => notices.push(text) })
  const packs = new Map<string, string>()
  await mkdir(`${place}/packs`, { recursive: true })
  t.teardown(() => store.close())
  return {
    store, notices, packs, place, known: new Map(), refreshed: 0, directory: `${place}/work`,
    transfer: {
      file: async (sha256) => packs.get(sha256),
      take: async (ref, path) => {
        if (createHash("sha256").update(await readFile(path)).digest("hex") !== ref.sha256) throw new Error("not this pack")
        await rename(path, `${place}/packs/${ref.sha256}`)
        packs.set(ref.sha256, `${place}/packs/${ref.sha256}`)
      }
    }
  }
}

const reading = (at: Home) => ({ refresh: async () => { at.refreshed += 1 }, known: (sha256: string) => at.known.get(sha256) })

const makePack = async (at: Home, seed: number, length: number): Promise<PackRef> => {
  const random = seeded(seed)
  const bytes = Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)))
  const sha256 = createHash("sha256").update(bytes).digest("hex")
  const path = `${at.place}/packs/${sha256}`
  await writeFile(path, bytes)
  at.packs.set(sha256, path)
  return { sha256, length, pieceLength: 1_048_576, pieces: new Uint8Array(20) }
}

const blocksOf = (from: number, to: number, text = "block"): ReadonlyArray<Uint8Array> =>
  Array.from({ length: to - from }, (_, i) => utf8(`${text} ${from + i} ${"x".repeat((from + i) * 97 % 3_000)}`))

const world = async (t: Test, under: string) => {
  const place = `${t.testdir({ [under]: { a: {}, b: {} } })}/${under}`
  const [a, b] = [await home(t, `${place}/a`), await home(t, `${place}/b`)]
  return { a, b, stick: `${place}/stick.kos`, place, own: await a.store.own(publisher) }
}

t.test("what was never met comes by stick, is taken once, and what came since is added by the next one", async (t) => {
  const { a, b, own, stick } = await world(t, "carry")
  await own.append(blocksOf(0, 60))
  const [one, two] = [await makePack(a, 1, 3_000_000), await makePack(a, 2, 5)]
  const missing: PackRef = { ...one, sha256: "0".repeat(64) }
  const made = await exportUpdate(a, stick, { channels: [channel, "f".repeat(64)], packs: [one, two, missing] })
  t.same(made.channels, [{ log: channel, length: 60 }])
  t.same(made.packs, [one.sha256, two.sha256])
  t.same(made.skipped.map(({ what }) => what), [missing.sha256, "f".repeat(64)])
  const before = await importUpdate(b, stick, reading(b))
  t.match(before, { channels: [{ state: "stranger", held: 0 }], packs: [{ state: "unknown" }, { state: "unknown" }] }, "b follows nothing")
  const log = await b.store.follow(channel)
  b.known.set(one.sha256, one)
  const got = await importUpdate(b, stick, reading(b))
  t.match(got, { channels: [{ log: channel, state: "taken", held: 60 }], packs: [{ sha256: one.sha256, state: "taken" }, { sha256: two.sha256, state: "unknown" }] })
  t.equal(log.length(), 60)
  t.equal(Buffer.compare(await log.block(59), blocksOf(59, 60)[0] ?? utf8("")), 0)
  t.ok((await readFile(b.packs.get(one.sha256) ?? "")).equals(await readFile(a.packs.get(one.sha256) ?? "")))
  t.match(await importUpdate(b, stick, reading(b)), { channels: [{ state: "held", held: 60 }], packs: [{ state: "held" }, { state: "unknown" }] }, "again")
  await own.append(blocksOf(60, 75))
  const old = `${stick}.old`
  await copyFile(stick, old)
  await exportUpdate(a, stick, { channels: [channel], packs: [] })
  t.match(await importUpdate(b, stick, reading(b)), { channels: [{ state: "taken", from: 0, held: 75 }], packs: [] })
  t.equal(log.length(), 75)
  t.match(await importUpdate(b, old, reading(b)), { channels: [{ state: "held", held: 75 }] }, "an old stick does no harm")
  t.equal(log.fork(), undefined)
  t.equal(b.refreshed, 5)
  t.same(await readdir(`${b.place}/work`), [], "nothing is left behind")
  await mkdir(`${b.place}/work/stick-0123456789abcdef`)
  await clearStickLeftovers(b.directory)
  t.same(await readdir(`${b.place}/work`), [])
  // B passes on what it has.
  const c = await home(t, `${b.place}/c`)
  const atC = await c.store.follow(channel)
  await exportUpdate(b, stick, { channels: [channel], packs: [one] })
  c.known.set(one.sha256, one)
  t.match(await importUpdate(c, stick, reading(c)), { channels: [{ state: "taken", held: 75 }], packs: [{ state: "taken" }] })
  t.equal(atC.length(), 75)
})

t.test("a pack that is another size than its release says, or that the transfer refuses, is left out", async (t) => {
  const { a, b, own, stick } = await world(t, "packs")
  await own.append(blocksOf(0, 2))
  const one = await makePack(a, 1, 1_000)
  await exportUpdate(a, stick, { channels: [channel], packs: [one, one] })
  b.known.set(one.sha256, { ...one, length: 999 })
  t.match(await importUpdate(b, stick, reading(b)), { packs: [{ state: "unknown" }] })
  b.known.set(one.sha256, one)
  const refusing = { ...b, transfer: { ...b.transfer, take: () => Promise.reject(new Error("the disk is full")) } }
  t.match(await importUpdate(refusing, stick, reading(b)), { packs: [{ state: "refused", why: "the disk is full" }] })
  await writeFile(a.packs.get(one.sha256) ?? "", "changed meanwhile, and longer than it was".repeat(100))
  await t.rejects(exportUpdate(a, stick, { channels: [channel], packs: [one] }), /is damaged here/)
  t.match(await importUpdate(b, stick, reading(b)), { packs: [{ state: "taken" }] }, "the file of before is still whole")
})

t.test("a file that is cut or changed at any byte is refused with the byte, and has changed nothing", async (t) => {
  const { a, b, own, stick } = await world(t, "damaged")
  await own.append(blocksOf(0, 5))
  const one = await makePack(a, 1, 700)
  await exportUpdate(a, stick, { channels: [channel], packs: [one] })
  const log = await b.store.follow(channel)
  b.known.set(one.sha256, one)
  const whole = await readFile(stick)
  const bad = `${stick}.bad`
  const refused = async (bytes: Uint8Array, what: string): Promise<void> => {
    await writeFile(bad, bytes)
    try {
      await importUpdate(b, bad, reading(b))
      t.fail(`${what} was taken`)
    } catch (fault) {
      if (!(fault instanceof StickRefused) && !(fault instanceof BundleRefused)) throw fault
    }
  }
  const random = seeded(4)
  const places = [...Array.from({ length: 60 }, (_, i) => i), ...Array.from({ length: 120 }, () => Math.floor(random() * whole.byteLength)), ...Array.from({ length: 60 }, (_, i) => whole.byteLength - 1 - i)]
  for (const at of places) {
    await refused(whole.subarray(0, at), `the first ${at} bytes`)
    const changed = Buffer.from(whole)
    changed[at] = (changed[at] ?? 0) ^ (1 << Math.floor(random() * 8))
    await refused(changed, `byte ${at} changed`)
  }
  await refused(Buffer.concat([whole, Buffer.of(0)]), "one byte more")
  await refused(Buffer.concat([whole, whole]), "twice")
  t.equal(log.length(), 0)
  t.equal(b.packs.size, 0)
  t.equal(b.refreshed, 0)
  t.same(await readdir(`${b.place}/work`).catch(() => []), [])
})

t.test("a file with a good hash around false contents is refused, too: foreign blocks, endless lengths, too large blocks, no plain files", async (t) => {
  const { a, b, own, stick, place } = await world(t, "hostile")
  await own.append(blocksOf(0, 5))
  const log = await b.store.follow(channel)
  await exportUpdate(a, stick, { channels: [channel], packs: [] })
  const { logs } = await checkStick(stick)
  const bundle = (await readFile(stick)).subarray(logs.offset, logs.offset + logs.length)
  const again = async (bytes: Uint8Array): Promise<string> => {
    await writeFile(`${place}/logs`, bytes)
    await writeStick(`${stick}.bad`, `${place}/logs`, [])
    return `${stick}.bad`
  }
  for (const at of [0, 8, 60, 100, 200, bundle.byteLength - 300, bundle.byteLength - 10]) {
    const changed = Buffer.from(bundle)
    changed[at] = (changed[at] ?? 0) ^ 1
    await t.rejects(importUpdate(b, await again(changed), reading(b)), BundleRefused, `byte ${at} of the logs`)
    await t.rejects(importUpdate(b, await again(bundle.subarray(0, at)), reading(b)), BundleRefused, `cut at byte ${at} of the logs`)
  }
  // Lengths that nothing follows, or that no disk holds.
  const head = Buffer.concat([utf8("KOSSTICK"), Buffer.of(1)])
  for (const length of [2n ** 63n, 2n ** 53n, 2n ** 31n, 1n]) for (const type of [1, 2, 3, 9]) {
    const section = Buffer.alloc(9)
    section[0] = type
    section.writeBigUInt64BE(length, 1)
    await writeFile(`${stick}.bad`, Buffer.concat([head, section]))
    await t.rejects(importUpdate(b, `${stick}.bad`, reading(b)), StickRefused)
  }
  execFileSync("truncate", ["-s", "300G", `${stick}.huge`])
  await t.rejects(importUpdate(b, `${stick}.huge`, reading(b)), /at most 274877906944 are read/)
  execFileSync("mkfifo", [`${stick}.pipe`])
  for (const none of ["/dev/zero", `${stick}.pipe`, place, `${stick}.none`]) await t.rejects(importUpdate(b, none, reading(b)), /no plain file|ENOENT/, none)
  // A publisher whose own node keeps to no limit.
  const raw = await a.store.logs.open(channel)
  if (!(raw instanceof Hypercore)) throw new Error("no Hypercore")
  await raw.append(Buffer.alloc(70_000), { keyPair: { publicKey: Buffer.from(publisher.publicKey), secretKey: Buffer.from(publisher.secretKey) } })
  await raw.close()
  await exportUpdate(a, stick, { channels: [channel], packs: [] })
  await t.rejects(importUpdate(b, stick, reading(b)), /block 5 has 70000 bytes/)
  t.equal(log.length(), 0)
  t.equal(log.fork(), undefined)
})

t.test("another signed history on a stick is a fork", async (t) => {
  const { a, b, own, stick } = await world(t, "fork")
  await own.append(blocksOf(0, 5))
  const other = await b.store.own(publisher)
  await other.append(blocksOf(0, 5, "other"))
  await exportUpdate(a, stick, { channels: [channel], packs: [] })
  t.match(await importUpdate(b, stick, reading(b)), { channels: [{ state: "diverged" }] })
  t.match(other.fork(), /two signed histories of it exist; a stick holds the other one/)
  t.same(b.store.held(), [])
  // Also one that is longer than what is held here.
  const c = await home(t, `${b.place}/c`)
  const shorter = await c.store.own(publisher)
  await shorter.append(blocksOf(0, 3, "third"))
  t.match(await importUpdate(c, stick, reading(c)), { channels: [{ state: "diverged" }] })
  t.match(shorter.fork(), /two signed histories/)
  // And one that is shorter.
  const d = await home(t, `${b.place}/d`)
  const longer = await d.store.own(publisher)
  await longer.append(blocksOf(0, 9, "fourth"))
  t.match(await importUpdate(d, stick, reading(d)), { channels: [{ state: "diverged" }] })
  t.match(longer.fork(), /two signed histories/)
})
