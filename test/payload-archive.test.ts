/** The canonical archive: one tree, one archive, and nothing that an archive says gets out of its directory. */
import { chmodSync, existsSync, linkSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { execFileSync } from "node:child_process"
import { join } from "node:path"
import t from "tap"
import { archiveEnd, blockBytes, encodeHeader, linkFault, padded, pathFault, type Entry } from "../src/updates/payload/archive-format.ts"
import { extractArchive } from "../src/updates/payload/archive-read.ts"
import { openArchive } from "../src/updates/payload/archive-write.ts"
import { emptied, growTree, never, noise, reasonOf, sha256Hex, treeText } from "./payload-help.ts"
import { seededRandom } from "../src/swarm/carriers/memory.ts"

const archiveOf = async (tree: string): Promise<Buffer> => {
  const archive = await openArchive(tree, never)
  const bytes = Buffer.alloc(archive.length)
  await archive.read(0, bytes)
  return bytes
}

t.test("a tree comes out of its archive as it went in, whatever is in it", async (t) => {
  const dir = t.testdir()
  for (let seed = 1; seed <= 8; seed++) {
    const tree = join(dir, `tree${seed}`)
    growTree(tree, seed, 60)
    const bytes = await archiveOf(tree)
    const file = join(dir, "archive")
    writeFileSync(file, bytes)
    const out = emptied(join(dir, "out"))
    const { entries } = await extractArchive(file, out, never)
    t.equal(treeText(out), treeText(tree), `seed ${seed}`)
    t.ok(entries > 30)
    t.ok(bytes.equals(await archiveOf(out)), "and its archive is the same again")
  }
})

t.test("any range of an archive reads as it does in the whole", async (t) => {
  const dir = t.testdir()
  growTree(join(dir, "tree"), 3, 50)
  const whole = await archiveOf(join(dir, "tree"))
  const archive = await openArchive(join(dir, "tree"), never)
  const random = seededRandom(1, "ranges")
  for (let n = 0; n < 200; n++) {
    const offset = Math.floor(random() * whole.length)
    const bytes = Buffer.alloc(Math.floor(random() * Math.min(100_000, whole.length - offset)), 1)
    await archive.read(offset, bytes)
    if (!bytes.equals(whole.subarray(offset, offset + bytes.length))) t.fail(`${bytes.length} bytes at ${offset}`)
  }
  t.equal(await reasonOf(archive.read(whole.length - 1, Buffer.alloc(2))), "changed-source")
})

t.test("tar reads it too", async (t) => {
  const dir = t.testdir()
  growTree(join(dir, "tree"), 5, 60)
  writeFileSync(join(dir, "archive"), await archiveOf(join(dir, "tree")))
  mkdirSync(join(dir, "out"))
  execFileSync("tar", ["-xf", join(dir, "archive"), "-C", join(dir, "out")])
  t.equal(treeText(join(dir, "out")), treeText(join(dir, "tree")))
})

t.test("times, owners and other modes leave no trace", async (t) => {
  const dir = t.testdir({ a: { run: "x", plain: "y" }, b: { plain: "y", run: "x" } })
  chmodSync(join(dir, "a/run"), 0o700)
  chmodSync(join(dir, "b/run"), 0o777)
  chmodSync(join(dir, "b/plain"), 0o600)
  linkSync(join(dir, "a/run"), join(dir, "elsewhere"))
  t.ok((await archiveOf(join(dir, "a"))).equals(await archiveOf(join(dir, "b"))))
})

t.test("a tree that an archive cannot carry is refused with the path in the reason", async (t) => {
  const dir = t.testdir({ out: {}, absolute: {}, upLater: {}, pipe: {} })
  symlinkSync("../../etc", join(dir, "out/l"))
  symlinkSync("/etc/passwd", join(dir, "absolute/l"))
  symlinkSync("a/../..", join(dir, "upLater/l"))
  execFileSync("mkfifo", [join(dir, "pipe/l")])
  for (const name of ["out", "absolute", "upLater", "pipe"]) {
    const cause: unknown = await openArchive(join(dir, name), never).then(() => undefined, (cause: unknown) => cause)
    t.match(cause, { reason: "unfit-source", detail: /"l"/ }, name)
  }
})

t.test("paths and targets that are refused, and their neighbours that are not", async (t) => {
  for (const path of ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "../a", "a\0b", "\uD800", "x".repeat(256), "a/".repeat(80) + "a", `${"x".repeat(200)}/`.repeat(6) + "y"]) t.ok(pathFault(path), JSON.stringify(path.slice(0, 20)))
  for (const path of ["a", "a/b", "...", "a..b/..c", "x".repeat(255)]) t.notOk(pathFault(path), path.slice(0, 20))
  for (const [path, target] of [["l", "/etc"], ["l", ".."], ["l", "../x"], ["a/l", "../../x"], ["a/b/l", "../../../x"], ["l", "a/.."], ["l", "a/../.."], ["a/l", "b/.."], ["l", ""], ["l", "a//b"], ["a/l", "./../.."], ["l", "x\0"]] as const) t.ok(linkFault(path, target), `${path} to ${target}`)
  for (const [path, target] of [["l", "a"], ["l", "."], ["a/l", ".."], ["a/l", "../b"], ["a/b/l", "../../c/d"], ["l", "./a/b"]] as const) t.notOk(linkFault(path, target), `${path} to ${target}`)
})

const entry = (path: string, more: Partial<Entry> = {}): Entry => ({ path, kind: "file", executable: false, length: 0, target: "", ...more })
const packed = (...parts: ReadonlyArray<Entry | Buffer>): Buffer => Buffer.concat([...parts.map((part) => Buffer.isBuffer(part) ? part : encodeHeader(part)), archiveEnd])
/** A header as tar would write it, checksum included, with some bytes changed. */
const forged = (from: Entry, ...changes: ReadonlyArray<readonly [number, string]>): Buffer => {
  const block = encodeHeader(from)
  for (const [at, text] of changes) block.write(text, at, "latin1")
  block.fill(" ", 148, 156)
  block.write(block.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, "0") + "\0 ", 148, "latin1")
  return block
}
const content = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(padded(bytes.length) - bytes.length)])
const pax = (records: Buffer, claimed = records.length): Buffer => Buffer.concat([forged(entry("@pax", { length: claimed }), [156, "x"]), content(records)])
const link = (path: string, target: string): Entry => entry(path, { kind: "link", target })
const folder = (path: string): Entry => entry(path, { kind: "directory" })
const evil = content(Buffer.from("evil"))

const hostile: Readonly<Record<string, Buffer>> = {
  "an absolute path": packed(forged(entry("x"), [0, "/tmp/x"])),
  "a path that goes up": packed(entry("../x", { length: 4 }), evil),
  "a path that goes up within": packed(folder("a"), entry("a/../../x", { length: 4 }), evil),
  "a link out": packed(link("l", "../..")),
  "an absolute link": packed(link("l", "/etc")),
  "a link out behind a link": packed(folder("a"), link("b", "a"), link("c", "b/../..")),
  "a file written through a link": packed(folder("a"), link("l", "a"), entry("l/x", { length: 4 }), evil),
  "a file written through a link that takes its directory's place": packed(folder("a"), link("a", "."), entry("a/x", { length: 4 }), evil),
  "a file in the place of a link": packed(link("l", "x"), entry("l", { length: 4 }), evil),
  "a file twice": packed(entry("a"), entry("a")),
  "paths out of order": packed(entry("b"), entry("a")),
  "a file whose directory never came": packed(entry("a/b")),
  "a file below a file": packed(entry("a"), entry("a/b")),
  "a hard link": packed(forged(entry("h", { target: "" }), [156, "1"], [157, "etc"])),
  "a character device": packed(forged(entry("d"), [156, "3"])),
  "a block device": packed(forged(entry("d"), [156, "4"])),
  "a pipe": packed(forged(entry("d"), [156, "6"])),
  "a global header": packed(forged(entry("d"), [156, "g"])),
  "a GNU long name": packed(forged(entry("d"), [156, "L"])),
  "a file that sets the user": packed(forged(entry("s"), [100, "0004755"])),
  "a directory that others may write": packed(forged(folder("s"), [100, "0000777"])),
  "an owner": packed(forged(entry("o"), [108, "0001750"])),
  "a time": packed(forged(entry("o"), [136, "00000000001"])),
  "a prefix": packed(forged(entry("o"), [345, "../.."])),
  "a size in base 256": packed(forged(entry("o"), [124, "\x80\0\0\0\0\0\0\0\0\0\0\x04"])),
  "a length beyond the end": packed(entry("a", { length: 1_000_000 }), evil),
  "whole blocks beyond the end": packed(entry("a", { length: 1_024_000 }), evil),
  "the largest length": packed(entry("a", { length: 8 ** 11 - 1 }), evil),
  "a wrong checksum": packed(Buffer.concat([encodeHeader(entry("a")).subarray(0, 148), Buffer.from("0000000\0"), encodeHeader(entry("a")).subarray(156)])),
  "records of a megabyte": packed(pax(Buffer.alloc(1_048_576, "a")), entry("a")),
  "records that claim a gigabyte": packed(pax(Buffer.from("x"), 2 ** 30), entry("a")),
  "records that are none": packed(pax(Buffer.from("99999 path=/etc/passwd\n")), entry("a")),
  "records for a short path": packed(pax(Buffer.from("18 path=/etc/pass\n")), entry("a")),
  "records that name a size": packed(pax(Buffer.from("20 size=99999999999\n")), entry("a")),
  "records that go up": packed(pax(Buffer.from(`${"118"} path=${"../".repeat(36)}x\n`)), forged(entry("a"), [0, "@long"])),
  "a file whose last block is not filled with zero": packed(entry("a", { length: 4 }), Buffer.concat([Buffer.from("good"), Buffer.alloc(blockBytes - 4, 1)])),
  "something behind the end": Buffer.concat([packed(entry("a")), Buffer.alloc(blockBytes)]),
  "no end": encodeHeader(entry("a")),
  "half an end": Buffer.concat([encodeHeader(entry("a")), Buffer.alloc(blockBytes)]),
  "one zero block and more": Buffer.concat([Buffer.alloc(blockBytes), packed(entry("a"))]),
  nothing: Buffer.alloc(0),
  noise: noise(1, 10_240)
}

t.test("hostile archives are refused, and nothing of them is outside", async (t) => {
  const dir = t.testdir({ deep: { er: {} } })
  for (const [name, bytes] of Object.entries(hostile)) {
    const out = emptied(join(dir, "deep/er/out"))
    writeFileSync(join(dir, "archive"), bytes)
    t.equal(await reasonOf(extractArchive(join(dir, "archive"), out, never)), "unsafe-archive", name)
    for (const path of ["x", "deep/x", "deep/er/x"]) t.notOk(existsSync(join(dir, path)), `${name}: ${path}`)
  }
})

t.test("the forging of this test makes archives that are taken when nothing is forged", async (t) => {
  const dir = t.testdir({ out: {} })
  const long = `${"n".repeat(90)}/${"m".repeat(90)}`
  writeFileSync(join(dir, "archive"), packed(forged(folder("a")), entry("a/b", { length: 4, executable: true }), evil, link("c", "a/b"), folder("n".repeat(90)), entry(long)))
  t.same(await extractArchive(join(dir, "archive"), join(dir, "out"), never), { entries: 5, bytes: 4 })
  t.equal(readFileSync(join(dir, "out/c"), "utf8"), "evil")
})

t.test("any flipped byte of a header is noticed, or it is another tree's archive", async (t) => {
  const dir = t.testdir({ tree: { a: "content", d: { b: "more" } }, out: {} })
  const bytes = await archiveOf(join(dir, "tree"))
  const random = seededRandom(2, "flip")
  let refused = 0
  for (let n = 0; n < 150; n++) {
    const spoilt = Buffer.from(bytes)
    const at = Math.floor(random() * bytes.length)
    spoilt[at] = (spoilt[at] ?? 0) ^ (1 << Math.floor(random() * 8))
    writeFileSync(join(dir, "archive"), spoilt)
    const out = emptied(join(dir, "out"))
    const reason = await reasonOf(extractArchive(join(dir, "archive"), out, never))
    if (reason === "unsafe-archive") refused += 1
    else t.equal(sha256Hex(await archiveOf(out)), sha256Hex(spoilt), `byte ${at}`)
  }
  t.ok(refused > 100, `${refused} refused`)
})

t.test("a directory that is not empty is left alone", async (t) => {
  const dir = t.testdir({ out: { mine: "kept" } })
  writeFileSync(join(dir, "archive"), packed(entry("mine", { length: 4 }), evil))
  t.equal(await reasonOf(extractArchive(join(dir, "archive"), join(dir, "out"), never)), "disk")
  t.equal(readFileSync(join(dir, "out/mine"), "utf8"), "kept")
})
