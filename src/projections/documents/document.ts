/**
 * One loaded document inside the worker: the gate in front, Automerge behind, and the values that were read last.
 *
 * Only registers (strings holding JSON) at the root are a document's value; a memory page also has `text` and `fields`. What else
 * a change may have put there is a fault, shown and never followed. Values are read again only where a change touched them.
 * The Automerge handle is used without its JavaScript documents: they cost more and let a change replace prototypes.
 */
import * as Automerge from "@automerge/automerge"
import { changeActor } from "./actor.ts"
import { keyFault } from "./automerge-change.ts"
import { Gate, type Taken } from "./gate.ts"
import type { AppliedChange, GateMemory } from "./gate-state.ts"
import { fieldsObjectId, genesisOf, isMemoryPage, textObjectId } from "./genesis.ts"
import { conflictValuesMax, editsMax, liveStepsMax, liveTextUnitsMax, registerBytesMax, textUnitsMax } from "./limits.ts"
import { canonical, readRegister, type Register } from "./register.ts"
import { splicesBetween } from "./text-splices.ts"
import type { ChangeInfo, Conflict, DocId, DocumentState, Edit, Json } from "./types.ts"

type Handle = ReturnType<typeof Automerge.getBackend>
type Values = Map<string, Entry>
type Value = { [key: string]: Json }

export type Validate = (doc: DocId, value: { readonly [key: string]: Json }) => ReadonlyArray<string>

interface Entry {
  readonly register: Register
  /** The operation that wrote the winning value. */
  readonly op: string
  /** All values with the operations that wrote them, the winner last; empty unless they differ. */
  readonly rivals: ReadonlyArray<{ readonly op: string; readonly value: Json }>
}

const root = "/"

/** The saved document cannot be read, or does not fit the gate's memory. */
export class Unreadable {
  readonly why: string
  constructor(why: string) {
    this.why = why
  }
}

export class LoadedDocument {
  readonly doc: DocId
  readonly gate: Gate
  #handle: Handle
  #actor = ""
  readonly #registers: Values = new Map()
  readonly #fields: Values = new Map()
  #text = ""
  #live: { readonly heads: string; readonly value: Value } | undefined

  constructor(doc: DocId, saved?: { readonly snapshot: Uint8Array; readonly memory: GateMemory }) {
    this.doc = doc
    this.gate = new Gate(doc, saved?.memory)
    const genesis = genesisOf(doc)
    if (saved === undefined) {
      this.#handle = Automerge.getBackend(Automerge.init())
      if (genesis !== undefined) this.#handle.applyChanges([genesis.change])
      return
    }
    try {
      this.#handle = Automerge.getBackend(Automerge.load(saved.snapshot))
    } catch (cause) {
      throw new Unreadable(`the saved document cannot be read: ${messageOf(cause)}`)
    }
    const { memory } = saved
    const heads = [...memory.heads].map((index) => memory.changes[index]?.hash ?? "").sort()
    if (heads.join() !== this.#handle.getHeads().sort().join()) throw new Unreadable("the saved document and the gate's memory of it are not of one moment")
    for (const key of this.#handle.keys(root)) this.#readRoot(key)
    if (!isMemoryPage(doc)) return
    for (const key of this.#handle.keys(fieldsObjectId)) this.#readField(key)
    this.#text = this.#handle.text(textObjectId)
  }

  free(): void {
    this.#handle.free()
  }

  /** Bytes of changes held, for the cache's bound. */
  get bytes(): number {
    return this.gate.memory.changeBytes + this.gate.memory.waitingBytes + this.gate.memory.heldBytes
  }

  /** Hands what passed the gate to Automerge, in bulk, or one by one with `step` told before each. Throws what Automerge throws. */
  settle(step?: () => void): Taken {
    const taken = this.gate.take()
    if (step === undefined) {
      if (taken.chunks.length > 0) this.#handle.applyChanges([...taken.chunks])
    } else {
      for (const chunk of taken.chunks) {
        step()
        this.#handle.applyChanges([chunk])
      }
    }
    this.#readTouched(taken)
    return taken
  }

  state(validate: Validate): DocumentState {
    const { memory } = this.gate
    const heads = this.#heads()
    const value = this.#value(this.#registers, this.#fields, this.#text)
    const faults = this.#faults(validate, value, this.#registers, this.#fields)
    return {
      heads, value, faults, live: faults.length === 0 ? value : this.#liveValue(validate, heads.join()), conflicts: this.#conflicts(),
      writers: this.#writers(),
      changes: memory.changes.length - (genesisOf(this.doc) === undefined ? 0 : 1), waiting: memory.waitingChanges, held: memory.heldChanges
    }
  }

  /** One change by this log; undefined when nothing changes. A string says why not; `spoiled` then means the document must be loaded again. */
  edit(log: string, edits: ReadonlyArray<Edit>, nowMs: number): { readonly change: Uint8Array | undefined } | { readonly why: string; readonly spoiled: boolean } {
    if (edits.length > editsMax) return { why: `${edits.length} edits at once, at most ${editsMax}`, spoiled: false }
    const actor = changeActor(log, this.doc)
    if (this.#actor !== actor) {
      const before = this.#handle
      this.#handle = before.fork(actor)
      this.#actor = actor
      before.free()
    }
    for (const edit of edits) {
      const why = this.#edit(edit)
      if (why === undefined) continue
      this.#handle.rollback()
      return { why, spoiled: false }
    }
    if (this.#handle.pendingOps() === 0) return { change: undefined }
    this.#handle.commit(undefined, nowMs)
    const change = this.#handle.getLastLocalChange()
    if (change === null || change === undefined) return { why: "Automerge made no change", spoiled: true }
    const why = this.gate.own(log, nowMs, change)
    if (why !== undefined) return { why, spoiled: true }
    this.#readTouched(this.gate.take())
    return { change: new Uint8Array(change) }
  }

  /** Applied changes in causal order; the constant first one is left out. */
  history(): ReadonlyArray<ChangeInfo> {
    const { memory } = this.gate
    return this.gate.order().filter((change) => change.log >= 0).map((change) => ({
      hash: change.hash, log: memory.logs[change.log]?.log ?? "", block: change.block, offset: change.offset, ms: change.ms,
      deps: change.deps.map((dep) => memory.changes[dep]?.hash ?? "")
    }))
  }

  /** Takes an own edit that the gate has just let in, when the document is loaded again. */
  adopt(change: Uint8Array): void {
    this.#handle.applyChanges([change])
    this.#readTouched(this.gate.take())
  }

  /** True while an edit of this node has no address yet. */
  get hasOwn(): boolean {
    return this.gate.memory.changes.some((change) => change.log < 0 && change.hash !== genesisOf(this.doc)?.hash)
  }

  save(): Uint8Array {
    return this.#handle.save()
  }

  #heads(): ReadonlyArray<string> {
    const { memory } = this.gate
    return [...memory.heads].map((index) => memory.changes[index]?.hash ?? "").sort()
  }

  #edit(edit: Edit): string | undefined {
    const page = isMemoryPage(this.doc)
    if (edit._tag === "Set" || edit._tag === "Delete") {
      if (page && (edit.key === "text" || edit.key === "fields")) return `the key ${edit.key} belongs to the page itself`
      return this.#editKey(root, edit.key, edit._tag === "Set" ? edit.json : undefined)
    }
    if (!page) return `${this.doc} has no text and no fields`
    if (edit._tag === "SetField" || edit._tag === "DeleteField") return this.#editKey(fieldsObjectId, edit.key, edit._tag === "SetField" ? edit.json : undefined)
    const before = this.#handle.text(textObjectId)
    if (edit._tag === "Text") {
      if (edit.text.length > textUnitsMax) return `a text of ${edit.text.length} characters, at most ${textUnitsMax}`
      if (!edit.text.isWellFormed()) return "the text is not Unicode"
      for (const { at, remove, insert } of splicesBetween(before, edit.text).toReversed()) this.#splice(at, remove, insert)
      return undefined
    }
    const { at, remove, insert } = edit
    if (!Number.isSafeInteger(at) || !Number.isSafeInteger(remove) || at < 0 || remove < 0 || at + remove > before.length) return `a splice at ${at} of ${remove} characters in a text of ${before.length}`
    if (before.length - remove + insert.length > textUnitsMax) return `a text of more than ${textUnitsMax} characters`
    if (!insert.isWellFormed() || !before.slice(0, at).isWellFormed() || !before.slice(at + remove).isWellFormed()) return "a splice that parts a character"
    this.#splice(at, remove, insert)
    return undefined
  }

  /**
   * What replaces a stretch is anchored to the stretch itself, behind it, and only then the stretch goes. Anchored to what stands before it,
   * the stretches that two people replace side by side would land in each other: both stand before the same character.
   */
  #splice(at: number, remove: number, insert: string): void {
    if (remove > 0 && insert !== "") this.#handle.splice(textObjectId, at + remove, 0, insert)
    if (remove > 0) this.#handle.splice(textObjectId, at, remove, "")
    else this.#handle.splice(textObjectId, at, 0, insert)
  }

  #editKey(object: string, key: string, json: string | undefined): string | undefined {
    const why = keyFault(key)
    if (why !== undefined) return why
    const present = this.#handle.getAll(object, key)
    if (json === undefined) {
      if (present.length > 0) this.#handle.delete(object, key)
      return undefined
    }
    if (Buffer.byteLength(json) > registerBytesMax) return `${key}: a value of ${Buffer.byteLength(json)} bytes, at most ${registerBytesMax}`
    const register = readRegister(json)
    if ("why" in register) return `${key} ${register.why}`
    const only = present.length === 1 ? entryOf(present).register : undefined
    if (only !== undefined && "value" in only && canonical(only.value) === canonical(register.value)) return undefined
    this.#handle.put(object, key, json, "str")
    return undefined
  }

  #readTouched({ rootKeys, fieldKeys, text }: Taken): void {
    for (const key of rootKeys) this.#readRoot(key)
    if (!isMemoryPage(this.doc)) return
    for (const key of fieldKeys) this.#readField(key)
    if (text) this.#text = this.#handle.text(textObjectId)
  }

  #readRoot(key: string): void {
    if (isMemoryPage(this.doc) && (key === "text" || key === "fields")) return
    readInto(this.#registers, key, this.#handle.getAll(root, key))
  }

  #readField(key: string): void {
    readInto(this.#fields, key, this.#handle.getAll(fieldsObjectId, key))
  }

  #value(registers: Values, fields: Values, text: string): Value {
    const value = plain(registers)
    if (isMemoryPage(this.doc)) {
      value["text"] = text
      value["fields"] = plain(fields)
    }
    return value
  }

  #faults(validate: Validate, value: Value, registers: Values, fields: Values): ReadonlyArray<string> {
    const faults = [...registerFaults(registers, ""), ...registerFaults(fields, "fields.")]
    return [...faults, ...validate(this.doc, value)]
  }

  #conflicts(): ReadonlyArray<Conflict> {
    const conflicts: Array<Conflict> = []
    for (const [prefix, values] of [["", this.#registers], ["fields.", this.#fields]] as const) {
      for (const key of [...values.keys()].sort()) {
        const rivals = values.get(key)?.rivals ?? []
        if (rivals.length === 0) continue
        conflicts.push({ key: prefix + key, values: rivals.slice(-conflictValuesMax).map(({ op, value }, i) => ({ value, ...this.#address(op), winner: i === Math.min(rivals.length, conflictValuesMax) - 1 })) })
      }
    }
    return conflicts
  }

  #writers(): DocumentState["writers"] {
    const writers: { [key: string]: DocumentState["writers"][string] } = {}
    for (const [prefix, values] of [["", this.#registers], ["fields.", this.#fields]] as const) {
      for (const [key, { op }] of values) writers[prefix + key] = this.#address(op)
    }
    return writers
  }

  #address(op: string): { readonly log: string; readonly block: number; readonly offset: number; readonly ms: number } {
    const at = op.indexOf("@")
    const actor = op.slice(at + 1)
    const change = this.gate.authorOf(actor, Number(op.slice(0, at)))
    const { logs } = this.gate.memory
    // Our own edit has no address before its event is back; its log is known by its actor.
    const log = logs[change?.log ?? -1] ?? logs.find((line) => line.actor === actor)
    return { log: log?.log ?? "", block: change?.block ?? -1, offset: change?.offset ?? -1, ms: change?.ms ?? 0 }
  }

  /** The value of the longest valid prefix of the changes in their common order; {} when none of the last 1,000 is valid. */
  #liveValue(validate: Validate, heads: string): Value {
    if (this.#live?.heads === heads) return this.#live.value
    const value = this.#walkBack(validate)
    this.#live = { heads, value }
    return value
  }

  #walkBack(validate: Validate): Value {
    const { memory } = this.gate
    const page = isMemoryPage(this.doc)
    const children = new Map<AppliedChange, number>()
    for (const change of memory.changes) for (const dep of change.deps) {
      const parent = memory.changes[dep]
      if (parent !== undefined) children.set(parent, (children.get(parent) ?? 0) + 1)
    }
    const heads = new Set<AppliedChange>()
    for (const index of memory.heads) {
      const change = memory.changes[index]
      if (change !== undefined) heads.add(change)
    }
    const registers = new Map(this.#registers)
    const fields = new Map(this.#fields)
    let text = this.#text
    let units = 0
    const order = this.gate.order()
    for (let i = order.length - 1, steps = 0; i >= 0 && steps < liveStepsMax && units <= liveTextUnitsMax; i--, steps++) {
      const change = order[i]
      if (change === undefined || change.hash === genesisOf(this.doc)?.hash) break
      heads.delete(change)
      for (const dep of change.deps) {
        const parent = memory.changes[dep]
        if (parent === undefined) continue
        const left = (children.get(parent) ?? 1) - 1
        children.set(parent, left)
        if (left === 0) heads.add(parent)
      }
      const at = [...heads].map((head) => head.hash)
      let touchesText = false
      for (const { obj, key } of this.#handle.getDecodedChangeByHash(change.hash)?.ops ?? []) {
        if (page && obj === textObjectId) touchesText = true
        else if (obj === "_root") readInto(registers, key, at.length === 0 ? [] : this.#handle.getAll(root, key, at))
        else if (page && obj === fieldsObjectId) readInto(fields, key, at.length === 0 ? [] : this.#handle.getAll(fieldsObjectId, key, at))
      }
      if (touchesText) {
        text = at.length === 0 ? "" : this.#handle.text(textObjectId, at)
        units += text.length
      }
      const value = this.#value(registers, fields, text)
      if (this.#faults(validate, value, registers, fields).length === 0) return value
    }
    return {}
  }
}

/** One sentence out of whatever was thrown. */
export const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause)).replace(/\s+/g, " ").slice(0, 200)

type All = ReturnType<Handle["getAll"]>

const readInto = (values: Values, key: string, all: All): void => {
  if (all.length === 0) values.delete(key)
  else values.set(key, entryOf(all))
}

const entryOf = (all: All): Entry => {
  const items = all.map((full) => {
    const [type, raw] = full
    const op = full.length === 3 ? full[2] : raw
    const register: Register = type === "str" ? readRegister(raw) : { why: `is ${type === "map" || type === "list" || type === "text" ? `a ${type}` : "not JSON text"}` }
    return { op: String(op), register, shown: "value" in register ? register.value : type === "str" ? raw : null }
  })
  const winner = items[items.length - 1]
  const differ = items.length > 1 && new Set(items.map(({ shown }) => canonical(shown))).size > 1
  return { register: winner?.register ?? { why: "is empty" }, op: winner?.op ?? "", rivals: differ ? items.map(({ op, shown }) => ({ op, value: shown })) : [] }
}

const plain = (values: Values): Value => {
  const out: Value = {}
  for (const key of [...values.keys()].sort()) {
    const register = values.get(key)?.register
    if (register !== undefined && "value" in register) out[key] = register.value
  }
  return out
}

const registerFaults = (values: Values, prefix: string): ReadonlyArray<string> => {
  const faults: Array<string> = []
  for (const [key, { register }] of values) if ("why" in register) faults.push(`${prefix}${key} ${register.why}`)
  return faults.sort()
}
