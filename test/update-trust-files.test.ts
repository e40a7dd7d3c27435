/** Hostile blocks, torn files, codes that are none. */
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import t from "tap"
import { utf8 } from "../src/codec/bytes.ts"
import { encodeCbor } from "../src/codec/cbor.ts"
import { blockBytesMax, channelBlocksMax, channelFiles, decodeBlock, encodeFile, indexBytesMax, indexPath, isChannelPath, partBytesMax } from "../src/updates/metadata/channel-block.ts"
import { channelCode, parseChannelCode } from "../src/updates/metadata/channel-code.ts"
import { channelPattern } from "../src/projections/families/updates.ts"
import { device, startMs } from "./update-followed.ts"
import { madeRepo, memoryLog, sha256 } from "./update-repo.ts"

t.test("files as blocks and back", async (t) => {
  const log = memoryLog("files")
  const files = channelFiles(log)
  for (const size of [0, 1, partBytesMax - 1, partBytesMax, partBytesMax + 1, indexBytesMax]) {
    const bytes = Buffer.alloc(size, size % 251)
    const path = indexPath(sha256(bytes))
    const blocks = encodeFile(path, bytes)
    t.equal(blocks.length, Math.max(1, Math.ceil(size / partBytesMax)))
    for (const block of blocks) t.ok(block.byteLength <= blockBytesMax)
    t.equal(await files.read(path), undefined)
    for (const block of blocks.slice(0, -1)) await log.append([block])
    t.equal(await files.read(path), undefined, "a file in part is no file")
    await log.append(blocks.slice(-1))
    t.ok(Buffer.from(await files.read(path) ?? []).equals(bytes))
    t.equal(await files.read(path, size - 1), undefined, "and none that is larger than asked for")
  }
  await log.append(encodeFile("timestamp.json", utf8("one")))
  await log.append(encodeFile("timestamp.json", utf8("two")))
  t.equal(Buffer.from(await files.read("timestamp.json") ?? []).toString(), "two")
  t.equal(Buffer.from(await files.find("timestamp.json", (bytes) => bytes[0] === 111) ?? []).toString(), "one")
  t.throws(() => encodeFile(indexPath("0".repeat(64)), new Uint8Array(indexBytesMax + 1)), /limit/)
  for (const path of ["../x.json", "a/b.json", ".json", "x", "targets/ab.index", `targets/${"0".repeat(64)}.index/..`, "a".repeat(300) + ".json", ""]) {
    t.notOk(isChannelPath(path), path)
    t.throws(() => encodeFile(path, new Uint8Array(1)), /no path/)
  }
  log.blocks.length = 3
  t.equal(await files.read("timestamp.json"), undefined, "a log that was opened anew on an older state is read anew")
})

t.test("blocks that are none", async (t) => {
  const right = { v: 1, path: "timestamp.json", part: 0, parts: 1, bytes: new Uint8Array(3) }
  t.equal(decodeBlock(encodeCbor(right))._tag, "Success")
  const wrong: ReadonlyArray<unknown> = [
    null, [], 1, {}, { ...right, v: 2 }, { ...right, path: "../timestamp.json" }, { ...right, path: 1 }, { ...right, part: 1 }, { ...right, part: -1 }, { ...right, part: 0.5 },
    { ...right, parts: 0 }, { ...right, parts: 1e9 }, { ...right, parts: 2 }, { ...right, bytes: "abc" }, { ...right, bytes: new Uint8Array(partBytesMax + 1) },
    { ...right, parts: 40, bytes: new Uint8Array(partBytesMax) }
  ]
  for (const value of wrong) t.equal(decodeBlock(encodeCbor(value))._tag, "Failure", JSON.stringify(value)?.slice(0, 80))
  t.equal(decodeBlock(new Uint8Array(blockBytesMax + 1))._tag, "Failure")
})

t.test("junk between, in and over files: at any place, and what is honest still gets through", async (t) => {
  let seed = 7
  const next = (max: number) => (seed = (seed * 48_271) % 2_147_483_647) % max
  const repo = madeRepo("junk", startMs)
  await repo.release("1.0.0")
  const one = await device(t, repo)
  t.equal(await one.check(), "fresh 1.0.0")
  for (let round = 1; round <= 40; round += 1) {
    const source = Buffer.from(repo.state.log.blocks[next(repo.state.log.blocks.length)] ?? [])
    const kind = next(4)
    if (kind === 0) source.fill(next(256))
    if (kind === 1) for (let at = 0; at < 3; at += 1) source[next(source.length)] = next(256)
    const junk = kind === 2 ? source.subarray(0, next(source.length)) : source
    await repo.state.log.append([new Uint8Array(junk)])
    const state = await one.channel.refresh()
    t.match(state.trust, /^(fresh|untrusted)$/)
    t.ok(state.releases.length >= 1)
    if (round % 8 === 0) {
      if (state.fault?.includes("root") === true) await repo.writeRoot()
      await repo.release(`1.${round}.0`)
      t.match(await one.check(), new RegExp(`fresh .*1.${round}.0$`))
    }
  }
})

t.test("a log without end costs what its first blocks cost", async (t) => {
  let asked = 0
  const files = channelFiles({ ...memoryLog("endless"), length: () => 1e9, block: async () => { asked += 1; return Uint8Array.of(1) } })
  t.equal(await files.read("timestamp.json"), undefined)
  t.equal(asked, channelBlocksMax)
  t.same(files.seen(), { blocks: channelBlocksMax, faulty: channelBlocksMax })
  await files.read("timestamp.json")
  t.equal(asked, channelBlocksMax, "and only once")
})

t.test("a log that the disk does not give is said, and read again later", async (t) => {
  const repo = madeRepo("disk", startMs)
  await repo.release("1.0.0")
  const log = repo.state.log
  let broken = false
  const one = await device(t, repo, { log: { ...log, key: log.key, length: log.length, block: (index) => broken ? Promise.reject(new Error("input/output error")) : log.block(index) } })
  t.equal(await one.check(), "fresh 1.0.0")
  await repo.release("1.1.0")
  broken = true
  t.equal(await one.check(), "untrusted 1.0.0")
  t.match(one.state().fault, /input\/output error/)
  broken = false
  t.equal(await one.check(), "fresh 1.0.0,1.1.0")
})

t.test("our own files, torn at any byte, changed or gone: the log leads to the same state again", async (t) => {
  const repo = madeRepo("torn", startMs)
  await repo.release("1.0.0")
  await repo.writeRoot()
  await repo.release("1.1.0")
  const one = await device(t, repo)
  t.equal(await one.check(), "fresh 1.0.0,1.1.0")
  await one.channel.stepped(startMs + 1)
  const trust = join(one.directory, "trust")
  t.same(readdirSync(trust).sort(), ["floor.json", "trusted.json"], "nothing is left aside")
  for (const name of ["trusted.json", "floor.json"]) {
    const whole = readFileSync(join(trust, name))
    const cuts = [0, 1, 64, 65, 66, 100, ...Array.from({ length: 6 }, (_, at) => Math.floor(whole.length * at / 6)), whole.length - 2]
    for (const cut of cuts) {
      writeFileSync(join(trust, name), whole.subarray(0, cut))
      await one.restart()
      t.equal(await one.check(), "fresh 1.0.0,1.1.0", `${name} cut at ${cut}`)
    }
    for (const at of [3, 70, whole.length >> 1]) {
      const changed = Buffer.from(whole)
      changed[at] = (changed[at] ?? 0) ^ 1
      writeFileSync(join(trust, name), changed)
      await one.restart()
      t.equal(await one.check(), "fresh 1.0.0,1.1.0", `${name} changed at ${at}`)
    }
    writeFileSync(join(trust, `${name}.new`), "half")
    rmSync(join(trust, name))
    await one.restart()
    t.equal(await one.check(), "fresh 1.0.0,1.1.0", `without ${name}`)
  }
  await repo.release("1.2.0")
  t.equal(await one.check(), "fresh 1.0.0,1.1.0,1.2.0")
})

t.test("a log that was lost and comes again does not take the channel back", async (t) => {
  const repo = madeRepo("lost", startMs)
  await repo.release("1.0.0")
  const early = repo.state.log.blocks.length
  await repo.release("1.1.0")
  const one = await device(t, repo)
  t.equal(await one.check(), "fresh 1.0.0,1.1.0")
  const blocks = repo.state.log.blocks.splice(0)
  await one.restart()
  t.equal(await one.check(), "fresh 1.0.0,1.1.0", "what is trusted holds without any block")
  await repo.state.log.append(blocks.slice(0, early))
  t.equal(await one.check(), "untrusted 1.0.0,1.1.0", "an old timestamp is not gone back to")
  await repo.state.log.append(blocks.slice(early))
  await repo.release("1.2.0")
  t.equal(await one.check(), "fresh 1.0.0,1.1.0,1.2.0")
})

t.test("a disk that takes nothing is told, and nothing is shown that it did not take", async (t) => {
  const repo = madeRepo("full", startMs)
  await repo.release("1.0.0")
  const one = await device(t, repo)
  t.equal(await one.check(), "fresh 1.0.0")
  await repo.release("1.1.0")
  const trust = join(one.directory, "trust")
  rmSync(trust, { recursive: true })
  writeFileSync(trust, "a file where the directory was")
  await t.rejects(one.channel.refresh())
  t.match(one.state().releases.map(({ custom }) => custom.version), ["1.0.0"])
  rmSync(trust)
  t.equal(await one.check(), "fresh 1.0.0,1.1.0")
})

t.test("a channel's code", async (t) => {
  const code = { log: sha256("log"), root: sha256("root") }
  const text = channelCode(code)
  t.match(text, channelPattern)
  t.equal(text.length, "kos-channel:".length + 103)
  t.same(parseChannelCode(text), code)
  t.same(parseChannelCode(`  ${text.toUpperCase().replaceAll(/(.{20})/g, "$1 \n")}`), code, "as it is pasted")
  for (const wrong of ["", "kos-channel:", text.slice(0, -1), `${text}a`, text.replace("kos-", "xos-"), `${text.slice(0, -1)}1`, "k".repeat(600)]) t.equal(parseChannelCode(wrong), undefined, wrong.slice(0, 30))
  const last = text.at(-1) ?? ""
  const spellings = [..."abcdefghijklmnopqrstuvwxyz234567"].filter((letter) => parseChannelCode(text.slice(0, -1) + letter) !== undefined)
  t.ok(spellings.includes(last))
  t.equal(spellings.length, 4, "the last letter has two bits of the code; those that fill it up are zero")
  t.throws(() => channelCode({ log: "x", root: code.root }), /64 hex digits/)
})
