/**
 * What one Automerge change writes into the registers of a document: for each root key the operation, the text it puts, and the operations
 * that it takes the place of. With these of all changes one can say what a register would hold had some of its writers never written.
 */
import { Result } from "effect"
import type { Address } from "../../codec/address.ts"
import { readChange, type AutomergeChange } from "../documents/automerge-change.ts"
import { reader, readUint, readUints, skip } from "../documents/column-reader.ts"

export interface RegisterWrite extends Address {
  /** The operation, as Automerge names it: `counter@actor`. */
  readonly op: string
  /** JSON text; undefined: the key was taken away, or what was put is no register. */
  readonly json: string | undefined
  /** Operations of the same key that it replaced. */
  readonly over: ReadonlyArray<string>
}

export interface KeyWrite extends Omit<RegisterWrite, keyof Address> {
  readonly key: string
}

/** Writes of root keys in the order of the change; empty for a change that cannot be read or is another actor's. */
export const registerWrites = (bytes: Uint8Array, actor: string): ReadonlyArray<KeyWrite> => {
  const read = readChange(bytes)
  if (Result.isFailure(read) || read.success.actor !== actor) return []
  const change = read.success
  const texts = textsOf(change)
  const id = (at: { readonly actor: number; readonly counter: number }) => `${at.counter}@${at.actor === 0 ? actor : change.others[at.actor - 1] ?? ""}`
  return change.operations.flatMap((operation, i) => {
    if (operation.object !== undefined || operation.key === undefined) return []
    return [{ key: operation.key, op: `${change.startOp + i}@${actor}`, json: operation.action === "put" && operation.string ? texts[i] : undefined, over: operation.predecessors.map(id) }]
  })
}

/** Orders operations as Automerge does: of concurrent ones the last is seen. */
export const compareOps = (a: string, b: string): number => {
  const [atA, atB] = [a.indexOf("@"), b.indexOf("@")]
  return Number(a.slice(0, atA)) - Number(b.slice(0, atB)) || (a.slice(atA) < b.slice(atB) ? -1 : a.slice(atA) > b.slice(atB) ? 1 : 0)
}

const valueMeta = 0x56
const valueRaw = 0x57
const stringType = 6

/** The text of each operation that has one. The change was checked when it was read, so the columns are whole. */
const textsOf = ({ plain, operations }: AutomergeChange): ReadonlyArray<string | undefined> => {
  const bytes = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength)
  const r = reader(bytes, 9, bytes.length)
  readUint(r)
  skip(r, readUint(r) * 32)
  skip(r, readUint(r))
  readUint(r)
  readUint(r)
  // The time is a signed number; its bytes end where the high bit is clear, like those of an unsigned one.
  while ((bytes[r.at] ?? 0) >= 0x80) r.at++
  r.at++
  skip(r, readUint(r))
  for (let others = readUint(r); others > 0; others--) skip(r, readUint(r))
  const columns: Array<readonly [spec: number, size: number]> = []
  for (let count = readUint(r); count > 0; count--) columns.push([readUint(r), readUint(r)])
  let metas: ReadonlyArray<number> = []
  let raw = 0
  for (const [spec, size] of columns) {
    const start = skip(r, size)
    if (spec === valueMeta) metas = readUints(reader(bytes, start, start + size), operations.length)
    if (spec === valueRaw) raw = start
  }
  return metas.map((meta) => {
    const from = raw
    raw += Math.floor(meta / 16)
    return meta % 16 === stringType ? bytes.toString("utf8", from, raw) : undefined
  })
}
