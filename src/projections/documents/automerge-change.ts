/**
 * Our own reader of one Automerge change, as far as the gate needs it: what it says about itself and what each operation
 * touches. Linear in the bytes, bounded, never throws on any bytes.
 *
 * A chunk is `85 6f 4a 83`, four bytes of checksum, a type (1 change, 2 the same deflated), a length, the body. The hash
 * of a change is SHA-256 over type 1, length and plain body; its first four bytes are the checksum. The body: dependencies,
 * actor, sequence number, first operation's counter, time, message, other actors, column table, columns.
 *
 * Only what kOS writes is taken: no marks, counters or tables, no bytes after the columns, canonical columns
 * (column-reader.ts says why).
 */
import * as Result from "effect/Result"
import { isUtf8 } from "node:buffer"
import { hash as digest } from "node:crypto"
import { inflateRawSync } from "node:zlib"
import { absent, countRuns, readBooleans, readDeltas, reader, type Reader, readInt, readTexts, readUint, readUints, skip } from "./column-reader.ts"
import {
  changeActorsMax, changeBytesMax, changeDepsMax, changeInflatedBytesMax, changeMessageBytesMax, changeOperationsMax, changePredecessorsMax,
  keyCharsMax, operationCounterMax
} from "./limits.ts"

/** Actor 0 of a change is its author; 1 and up are `others`. */
export interface OpId {
  readonly actor: number
  readonly counter: number
}

export type ObjectKind = "map" | "list" | "text"

export interface Operation {
  readonly action: "put" | "delete" | ObjectKind
  /** The container; undefined is the root map. */
  readonly object: OpId | undefined
  /** Key in a map, else undefined. */
  readonly key: string | undefined
  /** In a list or text: the element deleted, or the one to insert after; undefined there is the head. */
  readonly element: OpId | undefined
  readonly insert: boolean
  readonly predecessors: ReadonlyArray<OpId>
  /** True when a put writes a string. */
  readonly string: boolean
}

export interface AutomergeChange {
  /** SHA-256, 64 hex digits. */
  readonly hash: string
  /** Lower-case hex. */
  readonly actor: string
  readonly seq: number
  readonly startOp: number
  readonly deps: ReadonlyArray<string>
  readonly others: ReadonlyArray<string>
  readonly operations: ReadonlyArray<Operation>
  /** The plain chunk, for Automerge. */
  readonly plain: Uint8Array
}

/** `hash` is there when the fault is in the content, so that every copy of this change is at fault. */
export interface ChangeFault {
  readonly why: string
  readonly hash: string | undefined
}

/** Reads one change chunk. */
export const readChange = (bytes: Uint8Array): Result.Result<AutomergeChange, ChangeFault> => {
  const chunk = openChunk(bytes)
  if (typeof chunk === "string") return Result.fail({ why: chunk, hash: undefined })
  const change = readBody(chunk)
  return typeof change === "string" ? Result.fail({ why: change, hash: chunk.hash }) : Result.succeed(change)
}

/** The hash of a well-formed chunk, or undefined. */
export const changeHash = (bytes: Uint8Array): string | undefined => {
  const chunk = openChunk(bytes)
  return typeof chunk === "string" ? undefined : chunk.hash
}

interface Chunk {
  readonly plain: Buffer
  readonly bodyAt: number
  readonly hash: string
}

const magic = 0x856f4a83
const headerBytes = 9

const openChunk = (bytes: Uint8Array): Chunk | string => {
  if (bytes.byteLength > changeBytesMax) return `larger than ${changeBytesMax} bytes`
  if (bytes.byteLength < headerBytes + 1) return "shorter than a chunk's header"
  const view = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.readUInt32BE(0) !== magic) return "not an Automerge chunk"
  const type = view[8]
  if (type !== 1 && type !== 2) return `chunk type ${type} is not a change`
  const r = reader(view, headerBytes, view.length)
  const size = readUint(r)
  if (r.bad || size !== view.length - r.at) return "the chunk's length is wrong"
  const plain = type === 1 ? view : inflate(view, r.at)
  if (plain === undefined) return `does not inflate within ${changeInflatedBytesMax} bytes`
  const hash = digest("sha256", plain.subarray(8), "hex")
  if (hash.slice(0, 8) !== view.toString("hex", 4, 8)) return "the checksum is wrong"
  return { plain, bodyAt: type === 1 ? r.at : plain.length - bodySize(plain), hash }
}

const bodySize = (plain: Buffer): number => readUint(reader(plain, headerBytes, plain.length))

/** The same change as a plain chunk. */
const inflate = (view: Buffer, at: number): Buffer | undefined => {
  let body: Buffer
  try {
    body = inflateRawSync(view.subarray(at), { maxOutputLength: changeInflatedBytesMax })
  } catch {
    return undefined
  }
  const size: Array<number> = []
  let rest = body.length
  do {
    size.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0))
    rest >>>= 7
  } while (rest > 0)
  return Buffer.concat([view.subarray(0, 8), Uint8Array.of(1, ...size), body])
}

const readBody = ({ plain, bodyAt, hash }: Chunk): AutomergeChange | string => {
  const r = reader(plain, bodyAt, plain.length)
  const depCount = readUint(r)
  if (depCount > changeDepsMax) return `more than ${changeDepsMax} dependencies`
  const deps: Array<string> = []
  for (let i = 0; i < depCount && !r.bad; i++) {
    const start = skip(r, 32)
    const dep = plain.toString("hex", start, r.at)
    if (i > 0 && dep <= (deps[i - 1] ?? "")) return "the dependencies are not in order"
    deps.push(dep)
  }
  const actor = readActor(r)
  const seq = readUint(r)
  const startOp = readUint(r)
  const time = readInt(r)
  if (r.bad) return "the header is cut short"
  if (time < 0) return "the time is before 1970"
  const messageSize = readUint(r)
  if (messageSize > changeMessageBytesMax) return `a message of more than ${changeMessageBytesMax} bytes`
  const messageAt = skip(r, messageSize)
  if (!isTextAt(plain, messageAt, messageAt + messageSize)) return "the message is not UTF-8"
  const otherCount = readUint(r)
  if (otherCount > changeActorsMax) return `more than ${changeActorsMax} actors`
  const others: Array<string> = []
  for (let i = 0; i < otherCount && !r.bad; i++) {
    const other = readActor(r)
    if (other === actor || (i > 0 && other <= (others[i - 1] ?? ""))) return "the actors are not in order"
    others.push(other)
  }
  if (r.bad) return "the header is cut short"
  if (seq < 1) return "sequence numbers start at 1"
  if (startOp < 1 || startOp > operationCounterMax - changeOperationsMax) return `operation counter ${startOp} is out of range`
  const columns = readColumns(r)
  if (typeof columns === "string") return columns
  const operations = readOperations(columns, startOp, others.length)
  if (typeof operations === "string") return operations
  return { hash, actor, seq, startOp, deps, others, operations, plain }
}

const readActor = (r: Reader): string => {
  const size = readUint(r)
  if (size > 32) r.bad = true
  const start = r.bad ? r.at : skip(r, size)
  return r.bad ? "" : r.bytes.toString("hex", start, r.at)
}

/** The columns kOS takes: what stands in the table (id << 4 | type), in ascending order. */
const column = {
  objectActor: 0x01, objectCounter: 0x02, keyActor: 0x11, keyCounter: 0x13, keyText: 0x15, insert: 0x34, action: 0x42,
  valueMeta: 0x56, valueRaw: 0x57, predGroup: 0x70, predActor: 0x71, predCounter: 0x73
} as const
const known = new Set<number>(Object.values(column))

/** By the number in the table. */
interface Columns {
  get(spec: number): Reader | undefined
  readonly list: ReadonlyArray<Reader>
}

const readColumns = (r: Reader): Columns | string => {
  const count = readUint(r)
  if (count > known.size) return "more columns than operations have"
  const table: Array<readonly [number, number]> = []
  let before = -1
  for (let i = 0; i < count && !r.bad; i++) {
    const spec = readUint(r)
    const size = readUint(r)
    if (!known.has(spec)) return `column ${spec} is not one that kOS writes`
    if (spec <= before || size === 0) return "the columns are not in order"
    before = spec
    table.push([spec, size])
  }
  const specs: Array<number> = []
  const list: Array<Reader> = []
  for (const [spec, size] of table) {
    const start = skip(r, size)
    specs.push(spec)
    list.push(reader(r.bytes, start, start + size))
  }
  if (r.bad) return "the columns are cut short"
  if (r.at !== r.end) return "bytes follow the columns"
  return { list, get: (spec) => list[specs.indexOf(spec)] }
}

const actions = ["map", "put", "list", "delete", "text"] as const

const readOperations = (columns: Columns, startOp: number, otherCount: number): ReadonlyArray<Operation> | string => {
  const action = columns.get(column.action)
  if (action === undefined) return columns.list.length === 0 && otherCount === 0 ? [] : "columns without operations"
  const count = countRuns({ ...action })
  if (count > changeOperationsMax) return `${count} operations, more than ${changeOperationsMax}`
  const malformed = "the columns are malformed"
  const codes = readUints(action, count)
  const inserts = required(columns, column.insert, (r) => readBooleans(r, count))
  const metas = required(columns, column.valueMeta, (r) => readUints(r, count))
  const groups = required(columns, column.predGroup, (r) => readUints(r, count))
  if (action.bad || inserts === undefined || metas === undefined || groups === undefined) return malformed
  for (const code of codes) if (actions[code] === undefined) return `action ${code} is not one that kOS writes`
  let predCount = 0
  for (const size of groups) {
    if (size === absent) return malformed
    predCount += size
  }
  if (predCount > changePredecessorsMax) return `more than ${changePredecessorsMax} predecessors`
  const objectActors = optional(columns, column.objectActor, (r) => readUints(r, count))
  const objectCounters = optional(columns, column.objectCounter, (r) => readUints(r, count))
  const keyActors = optional(columns, column.keyActor, (r) => readUints(r, count))
  const keyCounters = optional(columns, column.keyCounter, (r) => readDeltas(r, count))
  let keyFault: string | undefined
  const keyTexts = optional(columns, column.keyText, (r) =>
    readTexts(r, count, (bytes, start, end) => {
      const key = readKey(bytes, start, end)
      if (key.fault === undefined) return key.text
      keyFault ??= key.fault
      return undefined
    }))
  if (keyFault !== undefined) return keyFault
  const predActors = optional(columns, column.predActor, (r) => readUints(r, predCount))
  const predCounters = optional(columns, column.predCounter, (r) => readDeltas(r, predCount))
  for (const r of columns.list) if (r.bad) return malformed
  const values = readValues(metas, codes, columns.get(column.valueRaw))
  if (values !== undefined) return values

  const operations: Array<Operation> = []
  const used = new Set<number>()
  let predAt = 0
  for (let i = 0; i < count; i++) {
    const code = codes[i] ?? absent
    const kind = actions[code]
    if (kind === undefined) return malformed
    const object = opId(objectActors?.[i], objectCounters?.[i])
    const key = keyTexts?.[i]
    const elementCounter = keyCounters?.[i] ?? absent
    const elementActor = keyActors?.[i] ?? absent
    const insert = inserts[i] ?? false
    if (object === null || (key === undefined) === (elementCounter === absent)) return malformed
    const atHead = elementActor === absent && elementCounter === 0
    const element = key !== undefined ? opId(elementActor, elementCounter) : atHead ? undefined : opId(elementActor, elementCounter)
    if (element === null || (key !== undefined && element !== undefined)) return malformed
    const predecessors: Array<OpId> = []
    for (let n = groups[i] ?? 0; n > 0; n--) {
      const predecessor = opId(predActors?.[predAt], predCounters?.[predAt])
      if (predecessor === null || predecessor === undefined) return malformed
      predecessors.push(predecessor)
      predAt++
    }
    for (const id of [object, element, ...predecessors]) {
      if (id === undefined) continue
      if (id.actor > otherCount || id.counter < 1 || id.counter > operationCounterMax) return "an operation refers to one that cannot be"
      if (id.actor === 0 && id.counter >= startOp + i) return "an operation refers to a later one"
      if (id.actor > 0) used.add(id.actor)
    }
    operations.push({ action: kind, object, key, element, insert, predecessors, string: ((metas[i] ?? 0) & 15) === 6 })
  }
  if (used.size !== otherCount) return "an actor that no operation refers to"
  return operations
}

/** Null when only one half is there. */
const opId = (actor: number | undefined, counter: number | undefined): OpId | undefined | null => {
  const hasActor = actor !== undefined && actor !== absent
  const hasCounter = counter !== undefined && counter !== absent
  if (hasActor && hasCounter) return { actor, counter }
  return hasActor || hasCounter ? null : undefined
}

const required = <A>(columns: Columns, spec: number, read: (r: Reader) => A): A | undefined => {
  const r = columns.get(spec)
  if (r === undefined) return undefined
  const items = read(r)
  return r.bad ? undefined : items
}

const optional = <A>(columns: Columns, spec: number, read: (r: Reader) => A): A | undefined => {
  const r = columns.get(spec)
  return r === undefined ? undefined : read(r)
}

const forbidden = new Set(["__proto__", "constructor", "prototype"])

/** The rule for keys of maps, for people's edits and for changes alike; undefined when the key is fine. */
export const keyFault = (key: string): string | undefined => {
  if (key.length === 0) return "an empty key"
  if (key.length > keyCharsMax) return `a key of more than ${keyCharsMax} characters`
  if (forbidden.has(key)) return `the key ${key} is forbidden`
  for (let i = 0; i < key.length; i++) {
    const code = key.charCodeAt(i)
    if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return "a control character in a key"
  }
  return key.isWellFormed() ? undefined : "a key that is not Unicode"
}

const readKey = (bytes: Buffer, start: number, end: number): { readonly text: string; readonly fault: string | undefined } => {
  if (end - start > keyCharsMax * 4) return { text: "", fault: `a key of more than ${keyCharsMax} characters` }
  if (!isTextAt(bytes, start, end)) return { text: "", fault: "a key that is not UTF-8" }
  const text = bytes.toString("utf8", start, end)
  return { text, fault: keyFault(text) }
}

const valueType = { null: 0, false: 1, true: 2, unsigned: 3, signed: 4, double: 5, string: 6, bytes: 7 } as const

/** Checks the values without making them; gives the fault. */
const readValues = (metas: ReadonlyArray<number>, codes: ReadonlyArray<number>, raw: Reader | undefined): string | undefined => {
  const size = raw === undefined ? 0 : raw.end - raw.at
  const start = raw?.at ?? 0
  let at = start
  for (let i = 0; i < metas.length; i++) {
    const meta = metas[i] ?? absent
    if (meta === absent) return "a value is missing"
    const type = meta % 16
    const length = Math.floor(meta / 16)
    if (length > size - (at - start)) return "the values are cut short"
    if (codes[i] !== 1 && meta !== 0) return "a value where none belongs"
    const end = at + length
    if (type === valueType.string) {
      if (raw !== undefined && length > 0 && !isTextAt(raw.bytes, at, end)) return "a text that is not UTF-8"
    } else if (type === valueType.double) {
      if (length !== 8) return "a number of the wrong size"
    } else if (type === valueType.unsigned || type === valueType.signed) {
      if (raw === undefined) return "the values are cut short"
      const r = reader(raw.bytes, at, end)
      if (type === valueType.unsigned) readUint(r)
      else readInt(r)
      if (r.bad || r.at !== end) return "a number is malformed"
    } else if (type !== valueType.bytes && (type > valueType.bytes || length !== 0)) return "a value of an unknown type"
    at = end
  }
  return at - start === size ? undefined : "bytes follow the values"
}

/** Whether these bytes are UTF-8. Most are ASCII, and short: a view of each would be most of the cost of reading a change. */
const isTextAt = (bytes: Buffer, start: number, end: number): boolean => {
  for (let i = start; i < end; i++) if ((bytes[i] ?? 0x80) >= 0x80) return isUtf8(bytes.subarray(start, end))
  return true
}
