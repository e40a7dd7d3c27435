/**
 * What a running version and a new one say to each other in a rehearsal.
 *
 * **Towards the new version** (its stdin): records, each `length u32 LE | kind u8 | payload`. `begin` (CBOR: who this node is), then for each log its blocks
 * in order, the keys of an epoch before the first block that names it, then `end` (CBOR: how many blocks each log has). After the digest `ask` names
 * documents whose values are wanted. The end of the stream is the end of the rehearsal.
 *
 * **From the new version** (descriptor 3): lines of JSON, first `hello`, last `done`, as `digest.ts` has them.
 *
 * Both sides may be of any two versions, so this changes by a new number only: what is added has a default, and a kind that is not known is skipped.
 */
import { Result, Schema } from "effect"
import { fromHex, toHex, utf8 } from "../../codec/bytes.ts"
import { decodeCbor, encodeCbor } from "../../codec/cbor.ts"
import { Malformed } from "../../codec/malformed.ts"

export const rehearsalVersion = 1
/** Bytes of one record; a block has at most 15 MiB. */
export const recordBytesMax = 64 * 1024 * 1024

const Key = Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/))
const Length = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))

const Begin = Schema.Struct({
  v: Schema.Int, mesh: Key, device: Key, ownLog: Key,
  /** Signed membership operations that are known, parents first: what makes a log known may stand in that log only. */
  operations: Schema.Array(Schema.Uint8Array)
})
export type Begin = typeof Begin.Type
const End = Schema.Struct({ logs: Schema.Array(Schema.Tuple([Key, Length])) })
const Ask = Schema.Struct({ documents: Schema.Array(Schema.String) })

export type Record =
  | { readonly _tag: "Begin"; readonly begin: Begin }
  | { readonly _tag: "Key"; readonly epoch: number; readonly key: Uint8Array }
  | { readonly _tag: "Block"; readonly log: string; readonly index: number; readonly bytes: Uint8Array }
  | { readonly _tag: "End"; readonly logs: ReadonlyMap<string, number> }
  | { readonly _tag: "Ask"; readonly documents: ReadonlyArray<string> }

const kinds = { Begin: 1, Key: 2, Block: 3, End: 4, Ask: 5 } as const
const keyBytes = 32
const blockHeadBytes = keyBytes + 8

export const encodeRecord = (record: Record): Uint8Array => {
  const payload = payloadOf(record)
  const out = Buffer.allocUnsafeSlow(5 + payload.byteLength)
  out.writeUInt32LE(payload.byteLength + 1)
  out.writeUInt8(kinds[record._tag], 4)
  out.set(payload, 5)
  return out
}

const payloadOf = (record: Record): Uint8Array => {
  switch (record._tag) {
    case "Begin": return encodeCbor(record.begin)
    case "Key": {
      const out = Buffer.alloc(4 + record.key.byteLength)
      out.writeUInt32LE(record.epoch)
      out.set(record.key, 4)
      return out
    }
    case "Block": {
      const out = Buffer.allocUnsafeSlow(blockHeadBytes + record.bytes.byteLength)
      out.set(fromHex(record.log))
      out.writeBigUInt64LE(BigInt(record.index), keyBytes)
      out.set(record.bytes, blockHeadBytes)
      return out
    }
    case "End": return encodeCbor({ logs: [...record.logs] })
    case "Ask": return encodeCbor({ documents: [...record.documents] })
  }
}

/** The records of a stream, as its pieces come. Throws `Malformed` for what is no record; kinds that are not known are left out. */
export async function* readRecords(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Record> {
  let held: Array<Uint8Array> = []
  let size = 0
  let wanted = 4
  for await (const piece of pieces) {
    held.push(piece)
    size += piece.byteLength
    if (size < wanted) continue
    let rest = held.length === 1 ? Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength) : Buffer.concat(held)
    for (;;) {
      if (rest.byteLength < 4) {
        wanted = 4
        break
      }
      const length = rest.readUInt32LE()
      if (length < 1 || length > recordBytesMax) throw new Malformed({ what: "rehearsal record", why: `it says ${length} bytes` })
      wanted = 4 + length
      if (rest.byteLength < wanted) break
      const record = decodeRecord(rest.readUInt8(4), rest.subarray(5, wanted))
      rest = rest.subarray(wanted)
      if (record !== undefined) yield record
    }
    held = rest.byteLength === 0 ? [] : [rest]
    size = rest.byteLength
  }
  if (size > 0) throw new Malformed({ what: "rehearsal record", why: "the stream ends within it" })
}

const decodeRecord = (kind: number, payload: Buffer): Record | undefined => {
  switch (kind) {
    case kinds.Begin: return { _tag: "Begin", begin: decoded("begin", Begin, payload) }
    case kinds.Key:
      if (payload.byteLength !== 4 + keyBytes) throw new Malformed({ what: "rehearsal key", why: `it has ${payload.byteLength} bytes` })
      return { _tag: "Key", epoch: payload.readUInt32LE(), key: new Uint8Array(payload.subarray(4)) }
    case kinds.Block: {
      if (payload.byteLength < blockHeadBytes) throw new Malformed({ what: "rehearsal block", why: `it has ${payload.byteLength} bytes` })
      const index = payload.readBigUInt64LE(keyBytes)
      if (index > BigInt(Number.MAX_SAFE_INTEGER)) throw new Malformed({ what: "rehearsal block", why: "its number is too large" })
      return { _tag: "Block", log: toHex(payload.subarray(0, keyBytes)), index: Number(index), bytes: payload.subarray(blockHeadBytes) }
    }
    case kinds.End: return { _tag: "End", logs: new Map(decoded("end", End, payload).logs) }
    case kinds.Ask: return { _tag: "Ask", documents: decoded("ask", Ask, payload).documents }
    default: return undefined
  }
}

const decoded = <A>(what: string, schema: Schema.Codec<A, unknown>, payload: Uint8Array): A => {
  const value = decodeCbor(`rehearsal ${what}`, payload)
  if (Result.isFailure(value)) throw value.failure
  const found = Schema.decodeUnknownResult(schema)(value.success)
  if (Result.isFailure(found)) throw new Malformed({ what: `rehearsal ${what}`, why: String(found.failure).slice(0, 200) })
  return found.success
}

/** Lines of a stream of bytes, each without its end. Throws `Malformed` when one is too long, or all are. */
export async function* readLines(pieces: AsyncIterable<Uint8Array>, limits: { readonly lineBytesMax: number; readonly bytesMax: number }): AsyncGenerator<string> {
  let held: Array<Uint8Array> = []
  let size = 0
  let total = 0
  for await (const piece of pieces) {
    total += piece.byteLength
    if (total > limits.bytesMax) throw new Malformed({ what: "digest", why: `it has more than ${limits.bytesMax} bytes` })
    let from = 0
    for (let end = piece.indexOf(lineEnd); end >= 0; end = piece.indexOf(lineEnd, from)) {
      const line = Buffer.concat([...held, piece.subarray(from, end)])
      if (line.byteLength > limits.lineBytesMax) throw tooLong(limits.lineBytesMax)
      held = []
      size = 0
      from = end + 1
      yield line.toString("utf8")
    }
    if (from < piece.byteLength) {
      held.push(piece.subarray(from))
      size += piece.byteLength - from
      if (size > limits.lineBytesMax) throw tooLong(limits.lineBytesMax)
    }
  }
}

const lineEnd = 0x0a
const tooLong = (bytesMax: number): Malformed => new Malformed({ what: "digest", why: `a line has more than ${bytesMax} bytes` })

export const encodeLine = (value: unknown): Uint8Array => utf8(`${JSON.stringify(value)}\n`)
