/** From a publisher's tree to a device's, by every way and through every failure. */
import { spawn } from "node:child_process"
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, truncateSync, unlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import t from "tap"
import { seededRandom } from "../src/swarm/carriers/memory.ts"
import { assemble } from "../src/updates/payload/assemble.ts"
import { extractArchive } from "../src/updates/payload/archive-read.ts"
import { planFetch, spaceNeeded } from "../src/updates/payload/fetch-plan.ts"
import { missingOf } from "../src/updates/payload/local-chunks.ts"
import type { AssembleOptions, LocalSource, MadePayload, PayloadIndex } from "../src/updates/payload/payload.ts"
import { emptied, growTree, indexOf, never, noise, packSource, prose, publish, reasonOf, sha256Hex, treeText } from "./payload-help.ts"

interface World {
  readonly dir: string
  readonly trees: ReadonlyArray<string>
  readonly made: ReadonlyArray<MadePayload>
  readonly indexes: ReadonlyArray<PayloadIndex>
}

/** Four releases of a tree of about 5 MB: a file changed, one added, one removed each time; the last one has a patch and a full pack. */
const releases = async (dir: string, seed: number): Promise<World> => {
  const trees = [0, 1, 2, 3].map((n) => join(dir, `tree${n}`))
  const made: Array<MadePayload> = []
  const [first = ""] = trees
  growTree(first, seed, 40)
  for (let n = 0; n < 6; n++) writeFileSync(join(first, `large${n}`), prose(seed + n, 600_000))
  for (const [n, tree] of trees.entries()) {
    const before = trees[n - 1]
    if (before !== undefined) {
      cpSync(before, tree, { recursive: true, verbatimSymlinks: true })
      const old = readFileSync(join(tree, `large${n}`))
      writeFileSync(join(tree, `large${n}`), Buffer.concat([old.subarray(0, 200_000), noise(seed + n, 5_000), old.subarray(200_000)]))
      writeFileSync(join(tree, `new${n}`), prose(seed + 50 + n, 150_000))
      if (n > 1) unlinkSync(join(tree, `new${n - 1}`))
    }
    const last = made.at(-1)
    made.push(await publish(dir, {
      source: { form: "tree", path: tree }, earlier: made.map(({ index }) => index),
      ...(n === 3 && before !== undefined && last !== undefined ? { full: true, patchFrom: { index: last.index, path: before } } : {})
    }))
  }
  return { dir, trees, made, indexes: made.map(indexOf) }
}

const device = (world: World, more: Partial<AssembleOptions> & { readonly release?: number } = {}): AssembleOptions => {
  const index = world.indexes[more.release ?? 3]
  if (index === undefined) throw new Error("no such release")
  return { index, work: join(world.dir, "work"), local: [], packs: packSource(world.dir, join(world.dir, "copies")), signal: never, ...more }
}
const tree = (world: World, n: number, index = false): LocalSource => ({ form: "tree", path: world.trees[n] ?? "", ...(index ? { index: world.indexes[n]! } : {}) })
const ends = async (world: World, options: AssembleOptions) => {
  const { path, report } = await assemble(options)
  if (sha256Hex(readFileSync(path)) !== options.index.payload.sha256) throw new Error("another payload")
  if (report.kept + report.local + report.patched + report.packs !== report.of) throw new Error(`${JSON.stringify(report)} does not add up`)
  return report
}
const fresh = (world: World): void => {
  emptied(join(world.dir, "work"))
  emptied(join(world.dir, "copies"))
}

let shared: Promise<World> | undefined
const aWorld = (): Promise<World> => (shared ??= releases(t.testdir(), 7))

t.test("a release is the same bytes each time, and its packs are append-only", async (t) => {
  const world = await aWorld()
  const again = await publish(join(world.dir, "again"), { source: tree(world, 1), earlier: world.made.slice(0, 1).map(({ index }) => index) })
  t.ok(Buffer.from(again.index).equals(world.made[1]?.index ?? new Uint8Array()))
  t.same(world.made.map(({ packs }) => packs.map(({ kind }) => kind)), [["chunks"], ["chunks"], ["chunks"], ["chunks", "patch", "full"]])
  const [first, second] = world.made
  t.ok((second?.packs[0]?.ref.length ?? 0) < 0.2 * (first?.packs[0]?.ref.length ?? 0))
  t.ok((world.made[3]?.packs[1]?.ref.length ?? 0) < 0.75 * (world.made[3]?.packs[0]?.ref.length ?? 0), "a patch is worth it")
  const same = await publish(join(world.dir, "again"), { source: tree(world, 1), earlier: world.made.slice(0, 2).map(({ index }) => index) })
  t.same(same.packs, [], "nothing new, no pack")
  const full = await publish(join(world.dir, "again"), { source: tree(world, 0), earlier: world.made.slice(0, 1).map(({ index }) => index), full: true })
  t.same(full.packs, [], "a full pack that is there already is none")
})

t.test("any older base ends at the release, and brings what it has", async (t) => {
  const world = await aWorld()
  for (const [name, local] of Object.entries({
    nothing: [], first: [tree(world, 0)], second: [tree(world, 1, true)], "the one before": [tree(world, 2)], "the one before, index known": [tree(world, 2, true)], several: [tree(world, 0), tree(world, 2)], itself: [tree(world, 3)]
  })) {
    fresh(world)
    const options = device(world, { local })
    const { missing, bases } = await missingOf(options.index, local, never)
    const plan = planFetch(options.index, missing, bases)
    const report = await ends(world, options)
    t.ok(report.fetched <= plan.bytes, `${name}: ${report.fetched} fetched of ${plan.bytes} planned`)
    t.equal(report.patched > 0, name.startsWith("the one before") || name === "several", name)
    t.equal(report.local === report.of, name === "itself", name)
    t.same(report.faults, [], name)
    const out = emptied(join(world.dir, "out"))
    await extractArchive(join(options.work, "payload"), out, never)
    t.equal(treeText(out), treeText(world.trees[3] ?? ""), name)
  }
})

t.test("what is planned and asked for is told before", async (t) => {
  const world = await aWorld()
  const index = world.indexes[3]
  if (index === undefined) return t.fail()
  const whole = planFetch(index)
  t.same(whole.packs.map(({ pack }) => pack.kind), ["full"], "a device with nothing takes the full pack")
  const space = spaceNeeded(index, whole)
  t.equal(space.total, space.payload + space.tree + space.packs + space.reserve)
  t.same(planFetch(index, new Set()), { packs: [], bytes: 0, nowhere: [] })
})

t.test("a base that was changed since gives what still fits, and is no patch base any more", async (t) => {
  const world = await aWorld()
  fresh(world)
  const changed = join(world.dir, "changed")
  cpSync(world.trees[2] ?? "", changed, { recursive: true, verbatimSymlinks: true })
  for (const sameLength of [true, false]) {
    fresh(world)
    writeFileSync(join(changed, "large5"), prose(999, 600_000))
    if (!sameLength) appendFileSync(join(changed, "large4"), "a person was here")
    const report = await ends(world, device(world, { local: [{ form: "tree", path: changed, index: world.indexes[2]! }] }))
    t.ok(report.local > 0.5 * report.of && report.patched === 0 && report.packs > 0, JSON.stringify(report))
  }
})

t.test("local sources that are gone, are no tree or cannot be packed are passed over", async (t) => {
  const world = await aWorld()
  fresh(world)
  const report = await ends(world, device(world, { local: [{ form: "tree", path: join(world.dir, "gone") }, { form: "file", path: world.dir }, { form: "file", path: "/dev/zero" }, tree(world, 2)] }))
  t.equal(report.faults.length, 3)
  t.ok(report.patched > 0)
})

t.test("a patch that cannot be had, or lies, falls to the chunks, and those to the full pack", async (t) => {
  const world = await aWorld()
  const packs = world.indexes[3]?.packs ?? []
  const kindOf = (sha256: string) => packs.find(({ ref }) => ref.sha256 === sha256)?.kind ?? ""
  for (const way of ["throws", "noise", "cut"] as const) {
    for (const kinds of [["patch"], ["patch", "chunks"], ["full"]]) {
      fresh(world)
      const source = packSource(world.dir, join(world.dir, "copies"), (ref, path) => {
        if (!kinds.includes(kindOf(ref.sha256))) return
        if (way === "throws") throw new Error("nobody has it")
        if (way === "noise") writeFileSync(path, noise(1, ref.length))
        else truncateSync(path, 10)
      })
      const local = kinds.includes("full") ? [] : [tree(world, 2)]
      const report = await ends(world, device(world, { packs: source, local }))
      t.ok(report.faults.length > 0, `${way} of ${kinds.join()}: ${report.faults[0]}`)
      t.equal(report.patched, 0)
      t.equal(source.blamed.length > 0, way !== "throws" && !(kinds.length === 1 && kinds[0] === "patch"), `${way} of ${kinds.join()}: blamed`)
      t.ok(source.asked.length < 30, `asked ${source.asked.length} times`)
    }
  }
})

t.test("when every way fails it is said why, and it goes on from there when one works again", async (t) => {
  const world = await aWorld()
  fresh(world)
  const dead = packSource(world.dir, join(world.dir, "copies"), () => {
    throw new Error("nobody has it")
  })
  t.match(await assemble(device(world, { packs: dead, local: [tree(world, 1)] })).then(() => undefined, (cause: unknown) => cause), { reason: "exhausted", detail: /chunks could not be had .*nobody has it/s })
  const report = await ends(world, device(world))
  t.ok(report.kept > 0.5 * report.of)
  t.equal(report.local, 0)
})

t.test("some frames are poisoned: only those are asked for again", async (t) => {
  const world = await aWorld()
  for (let seed = 1; seed <= 6; seed++) {
    fresh(world)
    const random = seededRandom(seed, "poison")
    let poisoned = false
    const source = packSource(world.dir, join(world.dir, "copies"), (ref, path, asked) => {
      const bytes = readFileSync(join(world.dir, "packs", ref.sha256))
      if (!poisoned && asked === 1) bytes.fill(0, Math.floor(random() * ref.length), ref.length)
      poisoned = true
      writeFileSync(path, bytes)
    })
    const report = await ends(world, device(world, { packs: source, release: 0 }))
    t.ok(source.blamed.length > 0 && report.refetched > 0 && report.refetched <= report.fetched, `seed ${seed}: ${report.refetched} of ${report.fetched} again`)
  }
})

t.test("a payload that was cut, lengthened, spoilt or swapped on the disk is made good", async (t) => {
  const world = await aWorld()
  const file = join(world.dir, "work/payload")
  const random = seededRandom(4, "cut")
  fresh(world)
  await ends(world, device(world))
  const whole = readFileSync(file)
  for (let n = 0; n < 14; n++) {
    const at = Math.floor(random() * whole.length)
    const bytes = Buffer.from(whole)
    if (n % 4 === 0) writeFileSync(file, bytes.subarray(0, at))
    else if (n % 4 === 1) writeFileSync(file, bytes.fill(0, at, Math.min(bytes.length, at + 500_000)))
    else if (n % 4 === 2) writeFileSync(file, Buffer.concat([bytes, noise(n, 10_000)]))
    else writeFileSync(file, Buffer.concat([noise(n, at), bytes.subarray(at)]))
    const report = await ends(world, device(world))
    t.equal(report.kept < report.of, n % 4 !== 2, `round ${n}: ${report.of - report.kept} bytes made good`)
  }
  t.same((await ends(world, device(world, { packs: packSource("/nowhere", "/nowhere") }))).kept, whole.length, "whole: nothing is asked for")
})

t.test("an index whose whole contradicts its chunks is found out, and leaves nothing behind", async (t) => {
  const world = await aWorld()
  fresh(world)
  const options = device(world)
  const swapped = { ...options.index, payload: { ...options.index.payload, sha256: sha256Hex(Buffer.from("another")) } }
  t.equal(await reasonOf(assemble({ ...options, index: swapped })), "wrong-payload")
  t.notOk(existsSync(join(options.work, "payload")))
})

t.test("an index whose chunk lengths or places lie writes nothing wrong", async (t) => {
  const world = await aWorld()
  fresh(world)
  const options = device(world, { release: 0 })
  const { index } = options
  const lengths = index.lengths.slice()
  lengths[0] = (lengths[0] ?? 0) - 1
  lengths[1] = (lengths[1] ?? 0) + 1
  t.equal(await reasonOf(assemble({ ...options, index: { ...index, lengths } })), "exhausted")
  const packs = index.packs.map((pack) => ({ ...pack, frames: pack.frames.map((frame, n) => n > 0 ? frame : { ...frame, places: frame.places.map((place, at) => at > 0 ? place : { ...place, offset: place.offset + 1 }) }) }))
  fresh(world)
  t.equal(await reasonOf(assemble({ ...options, index: { ...index, packs } })), "exhausted")
})

t.test("equal chunks are fetched once and written at all their places; an empty payload is one", async (t) => {
  const dir = t.testdir()
  const path = join(dir, "image")
  const part = noise(5, 700_000)
  writeFileSync(path, Buffer.concat([part, Buffer.alloc(900_000), part, part, Buffer.alloc(900_000)]))
  const made = await publish(dir, { source: { form: "file", path } })
  t.ok((made.packs[0]?.ref.length ?? 0) < 1_000_000)
  const packs = packSource(dir, join(dir, "copies"))
  const { path: payload } = await assemble({ index: indexOf(made), work: join(dir, "work"), local: [], packs, signal: never })
  t.ok(readFileSync(payload).equals(readFileSync(path)))
  writeFileSync(path, "")
  const empty = await publish(dir, { source: { form: "file", path } })
  t.same(empty.packs, [])
  t.equal((await assemble({ index: indexOf(empty), work: join(dir, "work2"), local: [], packs, signal: never })).report.of, 0)
})

t.test("images: an insertion in the middle costs a few chunks, a patch less", async (t) => {
  const dir = t.testdir()
  const [a, b] = [join(dir, "a"), join(dir, "b")]
  const bytes = noise(9, 6_000_000)
  writeFileSync(a, bytes)
  writeFileSync(b, Buffer.concat([bytes.subarray(0, 3_000_000), noise(10, 3_000), bytes.subarray(3_000_000)]))
  const first = await publish(dir, { source: { form: "file", path: a } })
  const second = await publish(dir, { source: { form: "file", path: b }, earlier: [first.index], patchFrom: { index: first.index, path: a } })
  t.ok(second.packs.some(({ kind, ref }) => kind === "patch" && ref.length < 6_000), second.packs.map(({ kind, ref }) => `${kind} ${ref.length}`).join())
  const { report } = await assemble({ index: indexOf(second), work: join(dir, "work"), local: [{ form: "file", path: a }], packs: packSource(dir, join(dir, "copies")), signal: never })
  t.ok(report.fetched < 6_000 && report.patched > 0, JSON.stringify(report))
})

t.test("stopped at any moment, it says so and goes on later", async (t) => {
  const world = await aWorld()
  fresh(world)
  let kept = 0
  for (let n = 1; n <= 5; n++) {
    const stop = new AbortController()
    let steps = 0
    const run = assemble(device(world, { local: [tree(world, 1)], signal: stop.signal, onProgress: () => { if (++steps === 2 * n) stop.abort(new Error("by a person")) } }))
    t.equal(await reasonOf(run), "stopped", `after ${2 * n} steps`)
  }
  kept = (await ends(world, device(world, { local: [tree(world, 1)] }))).kept
  t.ok(kept > 0, `${kept} bytes were there`)
})

t.test("killed at any moment, it goes on from what is on the disk", async (t) => {
  const world = await aWorld()
  fresh(world)
  writeFileSync(join(world.dir, "index"), world.made[3]?.index ?? "")
  const random = seededRandom(6, "kill")
  const argument = [join(world.dir, "index"), join(world.dir, "work"), world.trees[1] ?? "", join(world.dir, "packs")]
  let killed = 0
  for (let n = 0; n < 4; n++) {
    if (n % 2 === 0) emptied(join(world.dir, "work"))
    const child = spawn(process.execPath, [join(import.meta.dirname, "payload-child.ts"), ...argument], { stdio: ["ignore", "pipe", "inherit"] })
    const at = random() * (world.indexes[3]?.payload.length ?? 0)
    let said = ""
    child.stdout.on("data", (text: Buffer) => {
      said += text.toString()
      if (said.split("\n").some((line) => Number(line) > at)) child.kill("SIGKILL")
    })
    await new Promise((resolve) => child.once("close", resolve))
    if (!said.includes("done")) killed += 1
    if (n % 2 === 1) t.ok((await ends(world, device(world, { local: [tree(world, 1)] }))).kept > 0)
  }
  t.ok(killed >= 2, `${killed} of 4 killed`)
})

t.test("a full disk is said with the bytes that are needed", async (t) => {
  const world = await aWorld()
  fresh(world)
  const full = packSource(world.dir, join(world.dir, "copies"), () => {
    throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" })
  })
  t.match(await assemble(device(world, { packs: full })).then(() => undefined, (cause: unknown) => cause), { reason: "no-space", bytesNeeded: Number })
  const huge = { ...device(world).index, payload: { ...device(world).index.payload, length: 2 ** 43 } }
  t.match(await assemble({ ...device(world), index: huge, work: join(world.dir, "huge") }).then(() => undefined, (cause: unknown) => cause), { reason: "no-space", bytesNeeded: 2 ** 43 })
  rmSync(join(world.dir, "huge"), { recursive: true })
})

t.test("a publisher's mistakes are typed", async (t) => {
  const world = await aWorld()
  mkdirSync(join(world.dir, "elsewhere"), { recursive: true })
  const elsewhere = { out: join(world.dir, "elsewhere") }
  t.equal(await reasonOf(publish(world.dir, { ...elsewhere, source: { form: "tree", path: join(world.dir, "gone") } })), "disk")
  t.equal(await reasonOf(publish(world.dir, { ...elsewhere, source: tree(world, 3), earlier: [noise(1, 100)] })), "malformed")
  t.equal(await reasonOf(publish(world.dir, { ...elsewhere, source: tree(world, 3), patchFrom: { index: world.made[0]!.index, path: world.trees[1] ?? "" } })), "unfit-source")
  t.equal(await reasonOf(publish(world.dir, { ...elsewhere, source: tree(world, 3), signal: AbortSignal.abort() })), "stopped")
  t.equal(statSync(join(world.dir, "elsewhere")).isDirectory(), true)
})
