/** The index and the chunker: what is decoded adds up, whatever bytes come. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { zstdCompressSync } from "node:zlib"
import { Result } from "effect"
import t from "tap"
import { decodeCbor, encodeCbor } from "../src/codec/cbor.ts"
import { seededRandom } from "../src/swarm/carriers/memory.ts"
import { chunksOf, cut } from "../src/updates/payload/fastcdc.ts"
import { unpackFrame } from "../src/updates/payload/frames.ts"
import { decodeIndex, encodeIndex, indexBytesMax } from "../src/updates/payload/index-file.ts"
import type { PayloadIndex } from "../src/updates/payload/payload.ts"
import { hashPieces, infoHash, pieceLengthFor, torrentFile } from "../src/updates/payload/torrent.ts"
import { never, noise, prose, publish, sha256Hex } from "./payload-help.ts"

const lengthsOf = async (bytes: Buffer, average: number): Promise<ReadonlyArray<string>> => {
  const source = { length: bytes.length, close: async () => {}, read: async (offset: number, into: Buffer) => void bytes.copy(into, 0, offset, offset + into.length) }
  const list: Array<string> = []
  let at = 0
  for await (const chunk of chunksOf(source, average, never)) {
    if (chunk.offset !== at) throw new Error(`a chunk at ${chunk.offset} after ${at}`)
    at += chunk.bytes.length
    list.push(`${chunk.bytes.length} ${sha256Hex(chunk.bytes)}`)
  }
  if (at !== bytes.length) throw new Error(`${at} of ${bytes.length} bytes`)
  return list
}

t.test("chunks keep to their bounds and come to the average", async (t) => {
  for (const average of [16_384, 65_536, 262_144]) {
    const lengths = (await lengthsOf(noise(1, 64 * average), average)).map((line) => Number(line.split(" ")[0]))
    t.ok(Math.max(...lengths) <= 4 * average && Math.min(...lengths.slice(0, -1)) >= average / 4)
    const mean = (64 * average) / lengths.length
    t.ok(mean > 0.7 * average && mean < 1.5 * average, `${average}: ${mean}`)
  }
  for (const length of [0, 1, 16_383, 16_384, 16_385]) t.equal((await lengthsOf(noise(2, length), 65_536)).length, length === 0 ? 0 : 1)
  t.equal(cut(Buffer.alloc(300_000), 0, 300_000, 65_536), 262_144, "what has no boundary is cut at the largest length")
})

t.test("boundaries stay where they are around an insertion, a removal and a change", async (t) => {
  const bytes = noise(3, 8_000_000)
  const before = new Set(await lengthsOf(bytes, 65_536))
  const random = seededRandom(1, "insertion")
  for (let n = 0; n < 6; n++) {
    const at = Math.floor(random() * bytes.length)
    const removed = n % 2 === 0 ? 0 : 1 + Math.floor(random() * 5_000)
    const after = await lengthsOf(Buffer.concat([bytes.subarray(0, at), noise(n + 10, n === 1 ? 0 : 777), bytes.subarray(at + removed)]), 65_536)
    const fresh = after.filter((line) => !before.has(line)).length
    t.ok(fresh <= 4, `${fresh} new chunks at ${at}`)
  }
})

t.test("the boundaries are part of the format", async (t) => {
  t.equal(sha256Hex(Buffer.from((await lengthsOf(prose(4, 3_000_000), 65_536)).join())), "314ea384805b34e0185f92b5b3d2809fa333e3032e89de69ab1e98aa19ec64c4")
})

t.test("a pack's torrent is the one that every torrent library would make", async (t) => {
  const library: string = "parse-torrent"
  const { default: parse } = await import(library)
  const dir = t.testdir()
  for (const length of [1, 1_048_576, 1_048_577, 3_000_000]) {
    const file = join(dir, "pack")
    writeFileSync(file, noise(length, length))
    const ref = await hashPieces(file)
    t.match(await parse(torrentFile(ref)), { infoHash: infoHash(ref), private: true, length, name: ref.sha256, pieceLength: 1_048_576 })
  }
  t.same([2 ** 30, 2 ** 30 + 1, 2 ** 32, 2 ** 32 + 1].map(pieceLengthFor), [2 ** 20, 2 ** 21, 2 ** 21, 2 ** 22])
})

const sample = async (directory: string): Promise<{ readonly bytes: Uint8Array; readonly index: PayloadIndex }> => {
  const [a, b] = [join(directory, "a"), join(directory, "b")]
  const first = Buffer.concat([prose(1, 1_500_000), Buffer.alloc(1_200_000), prose(2, 500_000)])
  writeFileSync(a, first)
  writeFileSync(b, Buffer.concat([first.subarray(0, 700_000), prose(3, 90_000), first.subarray(700_000)]))
  const one = await publish(directory, { source: { form: "file", path: a } })
  const two = await publish(directory, { source: { form: "file", path: b }, earlier: [one.index], patchFrom: { index: one.index, path: a }, full: true })
  return { bytes: two.index, index: Result.getOrThrow(decodeIndex(two.index)) }
}

t.test("an index reads back as it was written", async (t) => {
  const { bytes, index } = await sample(t.testdir())
  t.same(index.packs.map(({ kind }) => kind), ["chunks", "chunks", "patch", "full"])
  t.ok(index.order.length > index.lengths.length, "equal chunks are one")
  t.ok(Buffer.from(encodeIndex(index)).equals(bytes))
})

t.test("an index that does not add up is refused", async (t) => {
  const { index } = await sample(t.testdir())
  const pack = index.packs[0]!
  const patch = index.packs[2]!
  const frame = pack.frames[0]!
  const place = frame.places[0]!
  const packs = (...list: ReadonlyArray<PayloadIndex["packs"][number]>): Partial<PayloadIndex> => ({ packs: [...list, ...index.packs.slice(1)] })
  const frames = (...list: PayloadIndex["packs"][number]["frames"]) => packs({ ...pack, frames: list })
  const lengths = (length: number) => index.lengths.map((other, n) => n === 0 ? length : other)
  const cases: Readonly<Record<string, Partial<PayloadIndex>>> = {
    "a longer payload": { payload: { ...index.payload, length: index.payload.length + 1 } },
    "an endless payload": { payload: { ...index.payload, length: 2 ** 40 } },
    "an average that is no power of two": { average: 65_537 },
    "a tiny average": { average: 4 },
    "a chunk of nothing": { lengths: lengths(0) },
    "a huge chunk": { lengths: lengths(1 + 4 * index.average) },
    "half a hash": { hashes: index.hashes.subarray(0, -16) },
    "one hash twice": { hashes: Buffer.concat([index.hashes.subarray(32, 64), index.hashes.subarray(32)]) },
    "a chunk that is nowhere in the payload": { order: index.order.subarray(0, -1) },
    "no packs": { packs: [] },
    "a pack twice": packs(pack, pack),
    "65 packs": { packs: Array.from({ length: 65 }, (_, n) => ({ ...pack, ref: { ...pack.ref, sha256: sha256Hex(Buffer.from([n])) } })) },
    "an empty pack": packs({ ...pack, ref: { ...pack.ref, length: 0 } }),
    "a piece too few": packs({ ...pack, ref: { ...pack.ref, pieces: pack.ref.pieces.subarray(20) } }),
    "a base of a pack that is no patch": packs({ ...pack, base: patch.base }),
    "a patch without a base": packs({ ...patch, base: undefined }),
    "a chunk in no pack": packs({ ...pack, frames: pack.frames.slice(1) }),
    "a frame beyond the pack": frames({ ...frame, offset: pack.ref.length }, ...pack.frames.slice(1)),
    "a last frame that ends beyond the pack": frames(...pack.frames.slice(0, -1), { ...pack.frames.at(-1)!, size: pack.frames.at(-1)!.size + 1 }),
    "a frame that unpacks to a gigabyte": frames({ ...frame, raw: 2 ** 30 }, ...pack.frames.slice(1)),
    "a frame larger than what is in it": frames({ ...frame, size: 2 * frame.raw }),
    "a place beyond its frame": frames({ ...frame, places: [{ ...place, offset: frame.raw }] }, ...pack.frames.slice(1)),
    "a chunk twice in a pack": frames({ ...frame, places: [place, { ...place, offset: 600_000 }] }, ...pack.frames.slice(1)),
    "a dictionary beyond the base": { packs: [...index.packs.slice(0, 2), { ...patch, frames: patch.frames.map((one) => ({ ...one, dictionary: { offset: index.payload.length, length: 1 } })) }, ...index.packs.slice(3)] },
    "a dictionary of a gigabyte": { packs: [...index.packs.slice(0, 2), { ...patch, base: { ...patch.base!, length: 2 ** 33 }, frames: patch.frames.map((one) => ({ ...one, dictionary: { offset: 0, length: 2 ** 30 } })) }, ...index.packs.slice(3)] }
  }
  for (const [name, change] of Object.entries(cases)) {
    const decoded = decodeIndex(encodeIndex({ ...index, ...(name === "a chunk in no pack" ? { packs: [{ ...pack, frames: [] }] } : change) }))
    t.ok(Result.isFailure(decoded), name)
  }
  t.ok(Result.isSuccess(decodeIndex(encodeIndex(index))))
})

t.test("bytes that are no index are refused, and nothing throws", async (t) => {
  const { bytes } = await sample(t.testdir())
  t.ok(Result.isFailure(decodeIndex(new Uint8Array(indexBytesMax + 1))))
  const value = Result.getOrThrow(decodeCbor("x", bytes))
  for (const change of [{ v: 2 }, { lengths: new Uint8Array([255, 255, 255, 255, 255, 255, 255, 255, 255]) }, { order: new Uint8Array([128, 0]) }, { packs: [null] }, { sha256: new Uint8Array(31) }, { hashes: "x" }]) {
    t.ok(Result.isFailure(decodeIndex(encodeCbor({ ...(typeof value === "object" ? value : {}), ...change }))), JSON.stringify(change))
  }
  const random = seededRandom(3, "fuzz")
  let refused = 0
  for (let n = 0; n < 400; n++) {
    const spoilt = Buffer.from(bytes.subarray(0, n % 4 === 0 ? Math.floor(random() * bytes.length) : bytes.length))
    for (let hits = 0; hits < n % 4; hits++) spoilt[Math.floor(random() * spoilt.length)] = Math.floor(random() * 256)
    if (Result.isFailure(decodeIndex(spoilt))) refused += 1
  }
  t.ok(refused > 150, `${refused} of 400 refused`)
  for (let n = 0; n < 200; n++) t.ok(Result.isFailure(decodeIndex(noise(n, 300))))
})

t.test("a frame never unpacks to more than its index says", async (t) => {
  const bomb = zstdCompressSync(Buffer.alloc(64 * 1_048_576))
  t.ok(bomb.length < 10_000)
  await t.rejects(unpackFrame(bomb, 1_000, undefined), { code: "ERR_BUFFER_TOO_LARGE" })
  t.equal((await unpackFrame(zstdCompressSync(Buffer.alloc(1_000)), 1_000, undefined)).length, 1_000)
})
