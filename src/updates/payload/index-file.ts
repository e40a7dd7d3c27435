/**
 * The chunk index as a file: CBOR with columns of bytes in it, about 38 bytes a chunk. It is hostile until decoded, though signed: a publisher's key
 * may be stolen. What `decodeIndex` returns adds up: lengths to the payload, places within frames, frames within packs, and each chunk has a way.
 *
 * `lengths`: a varint a chunk. `order`: a varint a place of the payload, 0 for the next new chunk, else 1 + the number of one that came before. `frames` of a
 * pack: a frame is its gap to the one before, size, raw size, for a patch the dictionary's offset and length, number of places, and a place is its gap
 * to the one before and the zigzag distance of its chunk's number to the number expected next.
 */
import { Result, Schema } from "effect"
import { decodeCbor, encodeCbor } from "../../codec/cbor.ts"
import { Malformed } from "../../codec/malformed.ts"
import type { Range } from "../ports.ts"
import { averageMax, averageMin } from "./fastcdc.ts"
import type { Frame, IndexPack, PayloadIndex, Place } from "./payload.ts"
import { packBytesMax, pieceLengthFor, piecesOf } from "./torrent.ts"

export const indexBytesMax = 4 * 1_048_576
export const payloadBytesMax = 16 * 2 ** 30
/** Chunks in the order of the payload. */
export const chunksMax = 262_144
export const packsMax = 64
/** Bytes of a frame when unpacked; it is held in memory whole. */
export const frameRawMax = 2 * 1_048_576
/** Bytes of a patch frame's dictionary; held in memory beside it. */
export const dictionaryMax = 4 * 1_048_576
/** Places of chunks in all packs together. */
export const placesMax = 524_288

/** What zstd makes of bytes that cannot be compressed is no larger. */
export const frameSizeMax = (raw: number): number => raw + (raw >> 7) + 1_024

const Hash = Schema.Uint8Array.check(Schema.makeFilter((bytes: Uint8Array) => bytes.length === 32 || "not 32 bytes"))
const Count = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))

const File = Schema.Struct({
  v: Schema.Literal(1),
  form: Schema.Literals(["tree", "file"]), length: Count(payloadBytesMax), sha256: Hash,
  average: Count(averageMax), hashes: Schema.Uint8Array, lengths: Schema.Uint8Array, order: Schema.Uint8Array,
  packs: Schema.Array(Schema.Struct({
    kind: Schema.Literals(["patch", "chunks", "full"]), sha256: Hash, length: Count(packBytesMax), pieces: Schema.Uint8Array,
    base: Schema.NullOr(Schema.Struct({ release: Hash, sha256: Hash, length: Count(payloadBytesMax) })),
    frames: Schema.Uint8Array
  })).check(Schema.isMaxLength(packsMax))
})

/** The same index gives the same bytes. */
export const encodeIndex = (index: PayloadIndex): Uint8Array => {
  const lengths = new Writer()
  for (const length of index.lengths) lengths.number(length)
  const order = new Writer()
  let seen = 0
  for (const chunk of index.order) {
    order.number(chunk === seen ? 0 : chunk + 1)
    if (chunk === seen) seen += 1
  }
  return encodeCbor({
    v: 1, form: index.payload.form, length: index.payload.length, sha256: Buffer.from(index.payload.sha256, "hex"),
    average: index.average, hashes: index.hashes, lengths: lengths.done(), order: order.done(),
    packs: index.packs.map(({ ref, kind, base, frames }) => ({
      kind, sha256: Buffer.from(ref.sha256, "hex"), length: ref.length, pieces: ref.pieces,
      base: base === undefined ? null : { release: Buffer.from(base.release, "hex"), sha256: Buffer.from(base.sha256, "hex"), length: base.length },
      frames: encodeFrames(kind, frames, index.lengths)
    }))
  })
}

export const decodeIndex = (bytes: Uint8Array): Result.Result<PayloadIndex, Malformed> => {
  // R1.7: its size is bounded before it is looked into.
  if (bytes.length > indexBytesMax) return Result.fail(fault(`it has ${bytes.length} bytes, more than ${indexBytesMax}`))
  const cbor = decodeCbor("chunk index", bytes)
  if (Result.isFailure(cbor)) return Result.fail(cbor.failure)
  const file = Schema.decodeUnknownResult(File)(cbor.success)
  if (Result.isFailure(file)) return Result.fail(fault(String(file.failure).slice(0, 300)))
  try {
    return Result.succeed(checked(file.success))
  } catch (cause) {
    if (cause instanceof Malformed) return Result.fail(cause)
    throw cause
  }
}

const checked = (file: typeof File.Type): PayloadIndex => {
  const { average, hashes } = file
  if (average < averageMin || (average & (average - 1)) !== 0) throw fault(`chunks of ${average} bytes on average`)
  const count = hashes.length / 32
  if (!Number.isInteger(count) || count > chunksMax) throw fault(`${hashes.length} bytes of hashes`)
  const text = Buffer.from(hashes.buffer, hashes.byteOffset, hashes.byteLength)
  const distinct = new Set<string>()
  for (let n = 0; n < count; n++) distinct.add(text.toString("latin1", n * 32, n * 32 + 32))
  if (distinct.size !== count) throw fault("two chunks have one hash")
  const lengthBytes = new Reader(file.lengths, "lengths")
  const lengths = Uint32Array.from({ length: count }, () => {
    const length = lengthBytes.number()
    if (length === 0 || length > 4 * average) throw fault(`a chunk of ${length} bytes`)
    return length
  })
  lengthBytes.end()
  const order = readOrder(file.order, count)
  let total = 0
  for (const chunk of order) total += lengths[chunk] ?? 0
  if (total !== file.length) throw fault(`its chunks have ${total} bytes, its payload ${file.length}`)
  let places = 0
  const packs = file.packs.map((pack): IndexPack => {
    const ref = { sha256: hex(pack.sha256), length: pack.length, pieceLength: pieceLengthFor(pack.length), pieces: pack.pieces }
    if (ref.length === 0 || ref.pieces.length !== 20 * piecesOf(ref)) throw fault(`${ref.pieces.length} bytes of piece hashes for a pack of ${ref.length}`)
    if ((pack.kind === "patch") !== (pack.base !== null)) throw fault(`a pack of kind ${pack.kind} ${pack.base === null ? "without" : "with"} a base`)
    const base = pack.base === null ? undefined : { release: hex(pack.base.release), sha256: hex(pack.base.sha256), length: pack.base.length }
    const frames = decodeFrames(pack.frames, ref.length, base?.length, lengths)
    for (const frame of frames) places += frame.places.length
    if (places > placesMax) throw fault(`more than ${placesMax} places`)
    return { ref, kind: pack.kind, base, frames }
  })
  if (new Set(packs.map(({ ref }) => ref.sha256)).size !== packs.length) throw fault("a pack is named twice")
  const found = new Uint8Array(count)
  for (const pack of packs) if (pack.kind !== "patch") for (const frame of pack.frames) for (const { chunk } of frame.places) found[chunk] = 1
  // R3.2: the packs are the way that must not lack.
  if (found.includes(0)) throw fault(`chunk ${found.indexOf(0)} is in no pack`)
  return { payload: { form: file.form, length: file.length, sha256: hex(file.sha256) }, average, hashes, lengths, order, packs }
}

const readOrder = (bytes: Uint8Array, count: number): Uint32Array => {
  const reader = new Reader(bytes, "order")
  const order: Array<number> = []
  let seen = 0
  while (reader.more()) {
    const code = reader.number()
    if (order.length >= chunksMax) throw fault(`more than ${chunksMax} chunks`)
    const chunk = code === 0 ? seen : code - 1
    if (code === 0 ? seen >= count : chunk >= seen) throw fault(`chunk ${chunk} before it is there`)
    if (code === 0) seen += 1
    order.push(chunk)
  }
  if (seen !== count) throw fault(`${count - seen} chunks have no place in the payload`)
  return Uint32Array.from(order)
}

const encodeFrames = (kind: IndexPack["kind"], frames: ReadonlyArray<Frame>, lengths: Uint32Array): Uint8Array => {
  const writer = new Writer()
  let end = 0
  let expected = 0
  for (const frame of frames) {
    writer.number(frame.offset - end)
    writer.number(frame.size)
    writer.number(frame.raw)
    if (kind === "patch") {
      writer.number(frame.dictionary?.offset ?? 0)
      writer.number(frame.dictionary?.length ?? 0)
    }
    writer.number(frame.places.length)
    let within = 0
    for (const { chunk, offset } of frame.places) {
      const distance = chunk - expected
      writer.number(offset - within)
      writer.number(distance < 0 ? -2 * distance - 1 : 2 * distance)
      within = offset + (lengths[chunk] ?? 0)
      expected = chunk + 1
    }
    end = frame.offset + frame.size
  }
  return writer.done()
}

const decodeFrames = (bytes: Uint8Array, packLength: number, baseLength: number | undefined, lengths: Uint32Array): ReadonlyArray<Frame> => {
  const reader = new Reader(bytes, "frames")
  const frames: Array<Frame> = []
  const seen = new Set<number>()
  let end = 0
  let expected = 0
  while (reader.more()) {
    const offset = end + reader.number()
    const [size, raw] = [reader.number(), reader.number()]
    if (raw === 0 || raw > frameRawMax || size === 0 || size > frameSizeMax(raw)) throw fault(`a frame of ${size} bytes for ${raw}`)
    if (offset + size > packLength) throw fault(`a frame ends at ${offset + size} of a pack of ${packLength} bytes`)
    let dictionary: Range | undefined
    if (baseLength !== undefined) {
      dictionary = { offset: reader.number(), length: reader.number() }
      if (dictionary.length > dictionaryMax || dictionary.offset + dictionary.length > baseLength) throw fault(`a dictionary of ${dictionary.length} bytes at ${dictionary.offset} of a base of ${baseLength}`)
    }
    const count = reader.number()
    if (count === 0 || count > lengths.length) throw fault(`a frame of ${count} chunks`)
    const places: Array<Place> = []
    let within = 0
    for (let n = 0; n < count; n++) {
      const at = within + reader.number()
      const code = reader.number()
      const chunk = expected + (code % 2 === 1 ? -(code + 1) / 2 : code / 2)
      const length = lengths[chunk]
      if (length === undefined || seen.has(chunk)) throw fault(`chunk ${chunk} in a frame is unknown or there twice`)
      if (at + length > raw) throw fault(`chunk ${chunk} ends at ${at + length} of a frame of ${raw} bytes`)
      seen.add(chunk)
      places.push({ chunk, offset: at })
      within = at + length
      expected = chunk + 1
    }
    frames.push({ offset, size, raw, dictionary, places })
    end = offset + size
  }
  return frames
}

const fault = (why: string): Malformed => new Malformed({ what: "chunk index", why })
const hex = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex")

/** Numbers up to 2^53 in groups of seven bits, low ones first; the shortest form only. */
class Writer {
  readonly #bytes: Array<number> = []
  number(value: number): void {
    let rest = value
    while (rest >= 128) {
      this.#bytes.push(rest % 128 + 128)
      rest = Math.floor(rest / 128)
    }
    this.#bytes.push(rest)
  }
  done(): Uint8Array {
    return Uint8Array.from(this.#bytes)
  }
}

class Reader {
  readonly #bytes: Uint8Array
  readonly #what: string
  #at = 0
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes
    this.#what = what
  }
  more(): boolean {
    return this.#at < this.#bytes.length
  }
  number(): number {
    let value = 0
    for (let scale = 1; scale <= 2 ** 49; scale *= 128) {
      const byte = this.#bytes[this.#at++]
      if (byte === undefined) throw fault(`its ${this.#what} end within a number`)
      value += (byte & 127) * scale
      if (byte < 128) {
        if (!Number.isSafeInteger(value) || (byte === 0 && scale > 1)) throw fault(`a number in its ${this.#what} is too large or too long`)
        return value
      }
    }
    throw fault(`a number in its ${this.#what} is too large`)
  }
  end(): void {
    if (this.more()) throw fault(`something follows its ${this.#what}`)
  }
}
