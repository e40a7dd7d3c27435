/** What the gate remembers of one document, and how it is looked up. Plain data; the rules are in gate.ts, its bytes in gate-memory.ts. */
import type { ObjectKind } from "./automerge-change.ts"
import type { LoggedChange } from "./types.ts"

/** One change that is in. Indices point into the gate's tables. */
export interface AppliedChange {
  readonly hash: string
  readonly actor: number
  readonly seq: number
  readonly startOp: number
  readonly count: number
  /** 1 + the greatest generation of its dependencies. */
  readonly generation: number
  readonly deps: ReadonlyArray<number>
  /** By actor, the sequence number of its newest change in the past of this one; its author's own is `seq - 1`. Shared, never changed. */
  readonly past: ReadonlyArray<number>
  /** -1 for the constant first change, and until our own edit is in a log. */
  log: number
  block: number
  offset: number
  ms: number
}

export interface ObjectInfo {
  readonly index: number
  readonly actor: number
  readonly counter: number
  readonly kind: ObjectKind
  readonly depth: number
}

export interface KeyInfo {
  readonly object: number
  readonly index: number
  readonly key: string
  /** Pairs of actor and first counter: who first touched the key, and when. */
  readonly first: Array<number>
}

export interface Place {
  readonly block: number
  readonly offset: number
}

export interface LogLine {
  readonly log: string
  readonly actor: string
  /** The last change offered. */
  block: number
  offset: number
  readonly queue: Array<Queued>
  /** Changes from this block on are held; Infinity when none is. */
  cut: number
  /** Held ones up to this place were released. */
  to: Place
  /** From this place on nothing can count any more; undefined while the line is short enough. */
  end: Place | undefined
  /** All that was offered at or beyond the cut-off, and its bytes. */
  beyondChanges: number
  beyondBytes: number
}

export const newLine = (log: string, actor: string): LogLine =>
  ({ log, actor, block: -1, offset: -1, queue: [], cut: Infinity, to: { block: -1, offset: -1 }, end: undefined, beyondChanges: 0, beyondBytes: 0 })

export const isBefore = (a: Place, b: Place): boolean => a.block < b.block || (a.block === b.block && a.offset < b.offset)

export const isHeld = (line: LogLine, change: Place): boolean => change.block >= line.cut && isBefore(line.to, change)

export interface Queued {
  change: LoggedChange
  /** Place in the answer of the present request; -1 when offered by an earlier one, -2 while the document is loaded. */
  slot: number
}

/** Operations that others may refer to, per actor: start, count, object, key (-1 an element of a list). */
export const segmentWords = 4

export const rootObject = 0

const opKey = (actor: number, counter: number): number => counter * 2 ** 20 + actor

/** All that the gate remembers; gate-memory.ts writes it down. */
export class GateMemory {
  readonly actors: Array<string> = []
  readonly actorIndex = new Map<string, number>()
  readonly logs: Array<LogLine> = []
  readonly logIndex = new Map<string, number>()
  readonly changes: Array<AppliedChange> = []
  readonly byHash = new Map<string, number>()
  readonly byActor: Array<Array<number>> = []
  readonly heads = new Set<number>()
  readonly refused = new Map<string, string>()
  readonly objects = new Map<number, ObjectInfo>()
  readonly objectList: Array<ObjectInfo> = [{ index: rootObject, actor: -1, counter: 0, kind: "map", depth: 0 }]
  /** Per object. */
  readonly keys: Array<Map<string, KeyInfo>> = [new Map()]
  readonly keysUsed: Array<number> = [0]
  /** Per actor. */
  readonly segments: Array<Array<number>> = []
  waitingChanges = 0
  waitingBytes = 0
  /** Beyond the cut-off of their log, and nobody builds on them. */
  heldChanges = 0
  heldBytes = 0
  changeBytes = 0

  actor(hex: string): number {
    const known = this.actorIndex.get(hex)
    if (known !== undefined) return known
    const index = this.actors.push(hex) - 1
    this.actorIndex.set(hex, index)
    this.byActor.push([])
    this.segments.push([])
    return index
  }

  object(actor: number, counter: number, kind: ObjectKind, depth: number): ObjectInfo {
    const info: ObjectInfo = { index: this.objectList.length, actor, counter, kind, depth }
    this.objectList.push(info)
    this.objects.set(opKey(actor, counter), info)
    this.keys.push(new Map())
    this.keysUsed.push(0)
    return info
  }

  forgetObject(info: ObjectInfo): void {
    this.objectList.pop()
    this.keys.pop()
    this.keysUsed.pop()
    this.objects.delete(opKey(info.actor, info.counter))
  }

  findObject(actor: number, counter: number): ObjectInfo | undefined {
    return this.objects.get(opKey(actor, counter))
  }

  key(object: number, key: string): KeyInfo {
    const keys = this.keys[object]
    const known = keys?.get(key)
    if (known !== undefined) return known
    const info: KeyInfo = { object, index: keys?.size ?? 0, key, first: [] }
    keys?.set(key, info)
    return info
  }

  lastOp(index: number): number {
    const change = this.changes[index]
    return change === undefined ? 0 : change.startOp + change.count - 1
  }

  add(change: AppliedChange): number {
    const index = this.changes.push(change) - 1
    this.byHash.set(change.hash, index)
    this.byActor[change.actor]?.push(index)
    for (const dep of change.deps) this.heads.delete(dep)
    this.heads.add(index)
    return index
  }

  /** The segment that holds this operation: its place in the actor's segments, or -1. */
  segment(actor: number, counter: number): number {
    const list = this.segments[actor]
    if (list === undefined) return -1
    let low = 0
    let high = list.length / segmentWords - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const start = list[middle * segmentWords] ?? 0
      if (counter < start) high = middle - 1
      else if (counter >= start + (list[middle * segmentWords + 1] ?? 0)) low = middle + 1
      else return middle * segmentWords
    }
    return -1
  }

  addOperation(actor: number, counter: number, object: number, key: number): void {
    const list = this.segments[actor]
    if (list === undefined) return
    const last = list.length - segmentWords
    if (last >= 0 && (list[last] ?? 0) + (list[last + 1] ?? 0) === counter && list[last + 2] === object && list[last + 3] === key) {
      list[last + 1] = (list[last + 1] ?? 0) + 1
    } else list.push(counter, 1, object, key)
  }
}

/** Indices of a memory page's own objects; in other documents these numbers belong to nothing that the state shows. */
export const textObject = 1
export const fieldsObject = 2
