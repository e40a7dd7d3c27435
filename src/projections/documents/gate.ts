/**
 * The gate: decides which changes reach Automerge. Design section 4.2, facts 7.
 *
 * **What it owns.** For one document: what every applied change made and overwrote, which hashes are refused, and the changes
 * that wait. Pure memory: no clock, no chance, no Automerge.
 *
 * **How one change travels.** `offer` takes it from its log. The changes of one log are decided strictly in the order of that log;
 * one that waits holds up those behind it (they build on it anyway). A change whose dependencies are all decided is decided itself:
 * applied, or refused with a reason. That may wake others, of any log. `take` hands the applied ones over, in causal order.
 *
 * **Invariants.** A verdict is a function of the change and of its causal past alone, never of what else has arrived: therefore any
 * interleaving of logs gives the same verdicts. Each rule below looks only at ancestors:
 * - the actor belongs to the log; sequence = the actor's last accepted one + 1, and that one is an ancestor;
 * - startOp = 1 + the last operation of all dependencies (Automerge's own rule for honest changes);
 * - each reference names an operation of an ancestor or an earlier one of the same change, of the right kind, at the same place.
 *   Automerge takes wrong ones without a word and then saves documents that cannot be loaded;
 * - depth, and distinct keys of a map, are counted in the ancestors.
 *
 * **Tricky cases.**
 * - *The same change in a stranger's log*: refused there (wrong actor), which says nothing about the original.
 * - *A refused hash* is refused for ever, with the first reason; a fault of the transport form only (size, checksum) does not taint the hash.
 * - *A change on refused ones* waits until all its dependencies are decided, then says which one was refused.
 * - *Our own edit* is applied before it has an address; `own` marks it, and the event that brings it is `Known`.
 *
 * **Cut-offs** (design section 4.7). Changes of a log at or beyond its cut-off are *held*: not looked at, so that they decide nothing, until a
 * change that is not held waits for one of them. Then that one and all before it in its line are released and decided like any
 * other; what they build on is released in the same way. So a held change counts when, and only when, somebody in good standing builds on it.
 * - *Why the whole line up to it*: its author's earlier changes are its ancestors anyway, and one that is refused must not stand in its way for ever.
 * - *Which come into question* is said by the log alone, not by what else is here: those before `beyondCutBlocksMax` blocks, and before the line
 *   holds more than `heldChangesMax` changes or `heldBytesMax` bytes. Later ones are refused at once, and what builds on them too. A copy of
 *   an earlier change of the same line is refused without tainting its hash.
 * - *Held changes do not count as waiting*: nobody whose membership ended can stall a document with them.
 * - *The cut-off of a line* may change only while nothing at or beyond the smaller of both was offered; else the document is built anew (projections/rebuild.ts).
 */
import * as Result from "effect/Result"
import { changeActor } from "./actor.ts"
import { type AutomergeChange, type OpId, readChange } from "./automerge-change.ts"
import { type Genesis, genesisOf } from "./genesis.ts"
import { type AppliedChange, fieldsObject, GateMemory, isBefore, isHeld, type KeyInfo, type LogLine, newLine, type ObjectInfo, type Place, rootObject, segmentWords, textObject } from "./gate-state.ts"
import {
  beyondCutBlocksMax, heldBytesMax, heldChangesMax, mapKeysMax, objectDepthMax, operationCounterMax, waitingBytesMax, waitingChangesMax
} from "./limits.ts"
import type { DocId, LoggedChange, Verdict } from "./types.ts"

export const applied: Verdict = { _tag: "Applied" }
export const knownVerdict: Verdict = { _tag: "Known" }
export const waiting: Verdict = { _tag: "Waiting" }
export const heldVerdict: Verdict = { _tag: "Held" }

export interface Released {
  readonly log: string
  readonly block: number
  readonly offset: number
  readonly verdict: Verdict
}

/** What changed since the last `take`. */
export interface Taken {
  /** Plain chunks for Automerge. */
  readonly chunks: ReadonlyArray<Uint8Array>
  readonly rootKeys: ReadonlySet<string>
  readonly fieldKeys: ReadonlySet<string>
  readonly text: boolean
  readonly released: ReadonlyArray<Released>
}

export class Gate {
  readonly doc: DocId
  readonly memory: GateMemory
  readonly #genesis: Genesis | undefined
  readonly #waitingFor = new Map<string, Set<LogLine>>()
  /** Undecided changes of lines that hold some, by hash: the first place of each in its line. */
  readonly #places = new Map<string, Place & { readonly line: LogLine }>()
  #chunks: Array<Uint8Array> = []
  #rootKeys = new Set<string>()
  #fieldKeys = new Set<string>()
  #text = false
  #released: Array<Released> = []
  #verdicts: Array<Verdict> = []
  #fresh = new Set<string>()
  /** Why the document cannot go on; set once, cleared by loading it again. */
  stalled: string | undefined

  constructor(doc: DocId, memory?: GateMemory) {
    this.doc = doc
    this.#genesis = genesisOf(doc)
    this.memory = memory ?? new GateMemory()
    if (memory === undefined) this.#begin()
    else {
      for (const line of this.memory.logs) if (line.beyondChanges > 0) for (const { change } of line.queue) this.#remember(line, change)
      for (const line of this.memory.logs) this.#run(line)
    }
  }

  #begin(): void {
    const genesis = this.#genesis
    if (genesis === undefined) return
    const { memory } = this
    const actor = memory.actor(genesis.actor)
    memory.add({ hash: genesis.hash, actor, seq: 1, startOp: 1, count: 2, generation: 1, deps: [], past: [], log: -1, block: -1, offset: -1, ms: 0 })
    genesis.objects.forEach(({ key, kind }, i) => {
      memory.addOperation(actor, i + 1, rootObject, memory.key(rootObject, key).index)
      memory.key(rootObject, key).first.push(actor, i + 1)
      memory.keysUsed[rootObject] = i + 1
      memory.object(actor, i + 1, kind, 1)
    })
  }

  /** Starts a request; until `verdicts` is read, places of the answer belong to it. */
  begin(): void {
    this.#verdicts = []
    this.#fresh = new Set()
    for (const line of this.memory.logs) for (const entry of line.queue) entry.slot = -1
  }

  /** The answers to all changes offered since `begin`, in that order. */
  verdicts(): ReadonlyArray<Verdict> {
    for (const line of this.memory.logs) for (const { change, slot } of line.queue) if (slot >= 0) this.#verdicts[slot] = isHeld(line, change) ? heldVerdict : waiting
    return this.#verdicts
  }

  /** The next change of its log, or one offered before. */
  offer(change: LoggedChange): void {
    this.#offer(change, this.#verdicts.push(waiting) - 1)
  }

  /** The same for changes out of the database: what becomes of them was answered long ago. */
  reload(changes: ReadonlyArray<LoggedChange>): void {
    for (const change of changes) this.#offer(change, -2)
    for (const line of this.memory.logs) for (const entry of line.queue) entry.slot = -1
    this.#fresh.clear()
  }

  #offer(change: LoggedChange, slot: number): void {
    const line = this.#line(change.log)
    const again = change.block < line.block || (change.block === line.block && change.offset <= line.offset)
    if (again) {
      const verdict = this.#offeredBefore(line, change, slot)
      if (slot >= 0) this.#verdicts[slot] = verdict
      return
    }
    line.block = change.block
    line.offset = change.offset
    line.cut = change.cut ?? Infinity
    if (change.block >= line.cut) return this.#offerBeyond(line, change, slot)
    line.queue.push({ change: line.queue.length === 0 ? change : kept(change), slot })
    this.memory.waitingChanges++
    this.memory.waitingBytes += change.change.byteLength
    if (line.queue.length === 1) this.#run(line)
  }

  #offerBeyond(line: LogLine, change: LoggedChange, slot: number): void {
    if (line.beyondChanges === 0) for (const entry of [...line.queue]) this.#remember(line, entry.change)
    line.beyondChanges++
    line.beyondBytes += change.change.byteLength
    if (line.end === undefined && (change.block >= line.cut + beyondCutBlocksMax || line.beyondChanges > heldChangesMax || line.beyondBytes > heldBytesMax)) {
      line.end = { block: change.block, offset: change.offset }
    }
    if (line.end !== undefined) {
      if (slot >= 0) this.#verdicts[slot] = tooFar
      const hash = this.#undecided(line, change)
      if (hash !== undefined && !this.#places.has(hash)) this.#refuse(hash, tooFar.why)
      return
    }
    line.queue.push({ change: kept(change), slot })
    this.memory.heldChanges++
    this.memory.heldBytes += change.change.byteLength
    const hash = this.#remember(line, change)
    if (hash !== undefined && this.#waitingFor.has(hash) && this.#release(hash) !== undefined) this.#run(line)
  }

  /** The hash that a decision on this change would settle. One whose content is at fault is settled now: it is, wherever it stands. */
  #undecided(line: LogLine, { change }: LoggedChange): string | undefined {
    const { refused, byHash } = this.memory
    const read = readChange(change)
    const hash = Result.isFailure(read) ? read.failure.hash : read.success.actor === line.actor ? read.success.hash : undefined
    if (hash === undefined || byHash.has(hash) || refused.has(hash)) return undefined
    if (Result.isSuccess(read)) return hash
    this.#refuse(hash, read.failure.why)
    return undefined
  }

  #refuse(hash: string, why: string): void {
    this.memory.refused.set(hash, why)
    for (const line of this.#wake(hash)) this.#run(line)
  }

  #remember(line: LogLine, change: LoggedChange): string | undefined {
    const hash = this.#undecided(line, change)
    if (hash !== undefined && !this.#places.has(hash)) this.#places.set(hash, { line, block: change.block, offset: change.offset })
    return hash
  }

  /** Lets the held change of this hash, and those before it in its line, be decided; the line, when there was something to release. */
  #release(hash: string): LogLine | undefined {
    const at = this.#places.get(hash)
    if (at === undefined || !isHeld(at.line, at)) return undefined
    const { line } = at
    const { memory } = this
    for (const { change } of line.queue) {
      if (!isHeld(line, change) || isBefore(at, change)) continue
      memory.heldChanges--
      memory.heldBytes -= change.change.byteLength
      memory.waitingChanges++
      memory.waitingBytes += change.change.byteLength
    }
    line.to = { block: at.block, offset: at.offset }
    return line
  }

  /** The lines that waited for this hash. */
  #wake(hash: string): Iterable<LogLine> {
    const woken = this.#waitingFor.get(hash)
    this.#waitingFor.delete(hash)
    return woken ?? []
  }

  /** To be asked at the end of a request: whether more waits than may. */
  overflow(): string | undefined {
    const { waitingChanges, waitingBytes } = this.memory
    if (waitingChanges <= waitingChangesMax && waitingBytes <= waitingBytesMax) return undefined
    return `${waitingChanges} changes (${waitingBytes} bytes) wait for others that have not arrived; at most ${waitingChangesMax} and ${waitingBytesMax} may`
  }

  /** Takes an edit made here on top of everything; it has no address yet. Undefined when it is in, else why not. */
  own(log: string, ms: number, bytes: Uint8Array): string | undefined {
    const read = readChange(bytes)
    if (Result.isFailure(read)) return read.failure.why
    const change = read.success
    const line = this.#line(log)
    if (line.queue.length > 0) return "an earlier change of this log waits for others"
    if (change.actor !== line.actor) return "the actor is not this log's"
    if (change.deps.some((dep) => !this.memory.byHash.has(dep))) return "it builds on a change that is not there"
    const why = this.#check(change, { log, block: -1, offset: -1, ms, change: bytes })
    if (why !== undefined) return why
    this.#chunks.pop() // the document holds it already
    return undefined
  }

  /** Changes since the last call, for Automerge and for whoever reads the state. */
  take(): Taken {
    const taken: Taken = { chunks: this.#chunks, rootKeys: this.#rootKeys, fieldKeys: this.#fieldKeys, text: this.#text, released: this.#released }
    this.#chunks = []
    this.#rootKeys = new Set()
    this.#fieldKeys = new Set()
    this.#text = false
    this.#released = []
    return taken
  }

  /** Applied changes in an order that every node agrees on; each prefix is causally closed. */
  order(): ReadonlyArray<AppliedChange> {
    const { changes, actors } = this.memory
    return changes.toSorted((a, b) =>
      a.startOp - b.startOp || a.generation - b.generation || ((actors[a.actor] ?? "") < (actors[b.actor] ?? "") ? -1 : 1))
  }

  /** The applied change that made this operation. */
  authorOf(actorHex: string, counter: number): AppliedChange | undefined {
    const { memory } = this
    const list = memory.byActor[memory.actorIndex.get(actorHex) ?? -1] ?? []
    let low = 0
    let high = list.length - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const change = memory.changes[list[middle] ?? -1]
      if (change === undefined) return undefined
      if (counter < change.startOp) high = middle - 1
      else if (counter >= change.startOp + change.count) low = middle + 1
      else return change
    }
    return undefined
  }

  #line(log: string): LogLine {
    const { memory } = this
    const known = memory.logs[memory.logIndex.get(log) ?? -1]
    if (known !== undefined) return known
    const line = newLine(log, changeActor(log, this.doc))
    memory.logIndex.set(log, memory.logs.push(line) - 1)
    return line
  }

  #offeredBefore(line: LogLine, change: LoggedChange, slot: number): Verdict {
    const queued = line.queue.find((entry) => entry.change.block === change.block && entry.change.offset === change.offset)
    if (queued !== undefined) {
      if (queued.slot < 0 && slot >= 0) queued.slot = slot
      return isHeld(line, change) ? heldVerdict : waiting
    }
    if (line.end !== undefined && !isBefore(change, line.end)) return tooFar
    const read = readChange(change.change)
    if (Result.isFailure(read)) return { _tag: "Refused", why: read.failure.why }
    const { hash, actor } = read.success
    if (actor !== line.actor) return wrongActor
    if (this.memory.byHash.has(hash)) return this.#fresh.has(hash) ? applied : knownVerdict
    const why = this.memory.refused.get(hash)
    if (why !== undefined) return { _tag: "Refused", why }
    this.stalled ??= `changes of log ${change.log.slice(0, 8)} came out of their order (block ${change.block})`
    return waiting
  }

  /** Decides what can be decided, beginning with this log. */
  #run(first: LogLine): void {
    const ready: Array<LogLine> = [first]
    for (let line = ready.pop(); line !== undefined; line = ready.pop()) {
      for (let entry = line.queue[0]; entry !== undefined && !isHeld(line, entry.change); entry = line.queue[0]) {
        const decided = this.#decide(line, entry.change)
        if (typeof decided === "string") {
          const released = this.#release(decided)
          if (released !== undefined && released !== line) ready.push(released)
          const others = this.#waitingFor.get(decided)
          if (others === undefined) this.#waitingFor.set(decided, new Set([line]))
          else others.add(line)
          entry.change = kept(entry.change)
          break
        }
        line.queue.shift()
        this.memory.waitingChanges--
        this.memory.waitingBytes -= entry.change.change.byteLength
        if (entry.slot >= 0) this.#verdicts[entry.slot] = decided.verdict
        else if (entry.slot === -1) this.#released.push({ log: line.log, block: entry.change.block, offset: entry.change.offset, verdict: decided.verdict })
        if (decided.hash === undefined) continue
        this.#places.delete(decided.hash)
        for (const other of this.#wake(decided.hash)) if (other !== line) ready.push(other)
      }
    }
  }

  /** The verdict, and the hash that it settles; or the hash that must be decided first. */
  #decide(line: LogLine, logged: LoggedChange): { readonly verdict: Verdict; readonly hash: string | undefined } | string {
    const { memory } = this
    const read = readChange(logged.change)
    if (Result.isFailure(read)) {
      const { why, hash } = read.failure
      if (hash !== undefined && !memory.refused.has(hash)) memory.refused.set(hash, why)
      return { verdict: { _tag: "Refused", why }, hash }
    }
    const change = read.success
    const { hash } = change
    if (change.actor !== line.actor) return { verdict: wrongActor, hash: undefined }
    const known = memory.changes[memory.byHash.get(hash) ?? -1]
    if (known !== undefined) {
      if (known.log < 0) {
        known.log = memory.logIndex.get(line.log) ?? -1
        known.block = logged.block
        known.offset = logged.offset
        known.ms = logged.ms
      }
      return { verdict: knownVerdict, hash }
    }
    const before = memory.refused.get(hash)
    if (before !== undefined) return { verdict: { _tag: "Refused", why: before }, hash }
    let refusedDep: string | undefined
    for (const dep of change.deps) {
      if (memory.byHash.has(dep)) continue
      if (!memory.refused.has(dep)) return dep
      refusedDep ??= dep
    }
    const why = refusedDep !== undefined ? `builds on change ${refusedDep.slice(0, 8)}, which was refused` : this.#check(change, logged)
    if (why === undefined) {
      this.#fresh.add(hash)
      return { verdict: applied, hash }
    }
    memory.refused.set(hash, why)
    return { verdict: { _tag: "Refused", why }, hash }
  }

  /** The rules that look at the causal past; all dependencies are in. When it holds, the change is in; else nothing has changed. */
  #check(change: AutomergeChange, logged: LoggedChange): string | undefined {
    const { memory } = this
    const { actor: actorHex, seq, startOp, operations } = change
    const deps = change.deps.map((dep) => memory.byHash.get(dep) ?? -1)
    const actor = memory.actor(actorHex)
    const lastSeq = memory.byActor[actor]?.length ?? 0
    if (seq !== lastSeq + 1) return `sequence number ${seq}, expected ${lastSeq + 1}`
    const past = this.#past(deps, actor, seq)
    if (past === undefined) return "it does not build on its author's change before it"
    let highest = 0
    let generation = 0
    for (const dep of deps) {
      highest = Math.max(highest, memory.lastOp(dep))
      generation = Math.max(generation, memory.changes[dep]?.generation ?? 0)
    }
    if (startOp !== highest + 1) return `operation counter ${startOp}, expected ${highest + 1}`
    if (startOp + operations.length > operationCounterMax) return "operation counters are used up"
    // An actor not met yet is like one whose operations are not in the past: what has arrived must not show in the reason.
    const ids = [actor, ...change.others.map((other) => memory.actorIndex.get(other) ?? -1)]
    const segments = memory.segments[actor] ?? []
    const segmentsBefore = segments.length
    const lastCountBefore = segments[segmentsBefore - segmentWords + 1]
    const made: Array<ObjectInfo> = []
    const touched: Array<KeyInfo> = []
    const why = this.#checkOperations(change, ids, past, made, touched)
    if (why !== undefined) {
      segments.length = segmentsBefore
      if (lastCountBefore !== undefined) segments[segmentsBefore - segmentWords + 1] = lastCountBefore
      for (const object of made.toReversed()) memory.forgetObject(object)
      return why
    }
    for (const info of touched) {
      if (info.first.length === 0) memory.keysUsed[info.object] = (memory.keysUsed[info.object] ?? 0) + 1
      if (!hasFirst(info.first, actor)) info.first.push(actor, startOp)
      if (info.object === rootObject) this.#rootKeys.add(info.key)
      else if (info.object === fieldsObject) this.#fieldKeys.add(info.key)
    }
    memory.add({
      hash: change.hash, actor, seq, startOp, count: operations.length, generation: generation + 1, deps, past,
      log: logged.block < 0 ? -1 : memory.logIndex.get(logged.log) ?? -1, block: logged.block, offset: logged.offset, ms: logged.ms
    })
    memory.changeBytes += change.plain.byteLength
    this.#chunks.push(change.plain)
    return undefined
  }

  /** What the change knew, by actor; undefined when its author's last change is not in it. */
  #past(deps: ReadonlyArray<number>, actor: number, seq: number): ReadonlyArray<number> | undefined {
    const { changes } = this.memory
    const only = deps.length === 1 ? changes[deps[0] ?? -1] : undefined
    if (only !== undefined && only.actor === actor) return only.seq === seq - 1 ? only.past : undefined
    const past: Array<number> = []
    for (const index of deps) {
      const dep = changes[index]
      if (dep === undefined) continue
      for (let i = 0; i < dep.past.length; i++) if ((dep.past[i] ?? 0) > (past[i] ?? 0)) put(past, i, dep.past[i] ?? 0)
      if (dep.seq > (past[dep.actor] ?? 0)) put(past, dep.actor, dep.seq)
    }
    return (past[actor] ?? 0) === seq - 1 ? past : undefined
  }

  #checkOperations(change: AutomergeChange, ids: ReadonlyArray<number>, past: ReadonlyArray<number>, made: Array<ObjectInfo>, touched: Array<KeyInfo>): string | undefined {
    const { memory } = this
    const actor = ids[0] ?? -1
    // What this change itself wrote to a key; run-length encoding makes ten thousand rivals at one key out of a few bytes.
    const written = change.operations.length > 1 ? new Map<KeyInfo, number>() : undefined
    const visible = this.#visible(actor, change, past)
    const names = [change.actor, ...change.others]
    let counter = change.startOp - 1
    for (const operation of change.operations) {
      counter++
      let object = memory.objectList[rootObject]
      if (operation.object !== undefined) {
        const id = ids[operation.object.actor] ?? -1
        if (visible(id, operation.object.counter)) object = memory.findObject(id, operation.object.counter)
        else object = undefined
      }
      if (object === undefined) return "an operation in an object that its author cannot know"
      const creates = operation.action === "put" || operation.action === "delete" ? undefined : operation.action
      let keyIndex = -1
      if (operation.key !== undefined) {
        if (object.kind !== "map" || operation.insert) return "a map operation outside a map"
        if (object.index === rootObject && this.#reserved(operation.key)) return `the key ${operation.key} belongs to the page itself`
        const info = memory.key(object.index, operation.key)
        keyIndex = info.index
        touched.push(info)
        if (operation.action === "delete" && operation.predecessors.length === 0) return "a deletion of nothing"
        const own = written?.get(info)
        if (own !== undefined && !operation.predecessors.some((id) => id.actor === 0 && id.counter === own)) return "a change that rivals itself at one key"
        if (operation.action === "delete") written?.delete(info)
        else written?.set(info, counter)
      } else {
        const element = this.#checkElement(operation.element, operation, object, ids, visible)
        if (element !== undefined) return element
        if (object.index === textObject) this.#text = true
        if (object.kind === "text" && operation.insert && (creates !== undefined || !operation.string)) return "something other than text in a text"
      }
      const why = this.#checkPredecessors(operation.predecessors, names, ids, visible, object.index, keyIndex)
      if (why !== undefined) return why
      if (operation.action !== "delete") memory.addOperation(actor, counter, object.index, keyIndex)
      if (creates !== undefined) {
        if (object.depth + 1 > objectDepthMax) return `objects nested deeper than ${objectDepthMax}`
        made.push(memory.object(actor, counter, creates, object.depth + 1))
      }
    }
    return this.#keysFit(touched, visible) ? undefined : `more than ${mapKeysMax} keys in one map`
  }

  /** Whether the change may refer to this operation: an ancestor's, or its own. Later own ones were refused by the reader. */
  #visible(actor: number, change: AutomergeChange, past: ReadonlyArray<number>): (id: number, counter: number) => boolean {
    const { memory } = this
    return (id, counter) => {
      if (id === actor) return counter < change.startOp + change.operations.length
      const index = memory.byActor[id]?.[(past[id] ?? 0) - 1]
      return index !== undefined && counter <= memory.lastOp(index)
    }
  }

  #checkElement(element: OpId | undefined, operation: { readonly action: string; readonly insert: boolean; readonly predecessors: ReadonlyArray<OpId> }, object: ObjectInfo, ids: ReadonlyArray<number>, visible: (id: number, counter: number) => boolean): string | undefined {
    if (object.kind === "map") return "a list operation in a map"
    if (operation.insert) {
      if (operation.action === "delete" || operation.predecessors.length > 0) return "an insertion that also deletes"
    } else {
      const only = operation.predecessors[0]
      if (operation.action !== "delete" || element === undefined || only === undefined || operation.predecessors.length > 1 ||
        only.actor !== element.actor || only.counter !== element.counter) return "elements of lists are inserted and deleted, nothing else"
    }
    if (element === undefined) return undefined
    return this.#refersTo(ids[element.actor] ?? -1, element.counter, object.index, -1, visible) ? undefined : "an element that its author cannot know"
  }

  #checkPredecessors(predecessors: ReadonlyArray<OpId>, names: ReadonlyArray<string>, ids: ReadonlyArray<number>, visible: (id: number, counter: number) => boolean, object: number, key: number): string | undefined {
    let before: OpId | undefined
    for (const id of predecessors) {
      if (before !== undefined && (id.counter < before.counter || (id.counter === before.counter && (names[id.actor] ?? "") <= (names[before.actor] ?? "")))) return "predecessors out of order"
      before = id
      if (!this.#refersTo(ids[id.actor] ?? -1, id.counter, object, key, visible)) return "a predecessor that its author cannot know at this place"
    }
    return undefined
  }

  #refersTo(actor: number, counter: number, object: number, key: number, visible: (id: number, counter: number) => boolean): boolean {
    if (!visible(actor, counter)) return false
    const at = this.memory.segment(actor, counter)
    const list = this.memory.segments[actor]
    return at >= 0 && list?.[at + 2] === object && list[at + 3] === key
  }

  #reserved(key: string): boolean {
    return this.#genesis?.objects.some((object) => object.key === key) ?? false
  }

  /** Whether each touched map holds few enough keys, counted in the past of the change and in itself. */
  #keysFit(touched: ReadonlyArray<KeyInfo>, visible: (id: number, counter: number) => boolean): boolean {
    const { memory } = this
    // Enough room even if all keys that ever arrived were in its past: no need to count.
    if (touched.every(({ object }) => (memory.keysUsed[object] ?? 0) + touched.length <= mapKeysMax)) return true
    const own = new Set(touched)
    for (const object of new Set(touched.map((info) => info.object))) {
      let count = 0
      for (const info of memory.keys[object]?.values() ?? []) if (own.has(info) || seenBefore(info, visible)) count++
      if (count > mapKeysMax) return false
    }
    return true
  }
}

const seenBefore = ({ first }: KeyInfo, visible: (id: number, counter: number) => boolean): boolean => {
  for (let i = 0; i < first.length; i += 2) if (visible(first[i] ?? -1, first[i + 1] ?? 0)) return true
  return false
}

/** A change that stays: without the buffer of the whole request that it came in. */
const kept = (change: LoggedChange): LoggedChange =>
  change.change.buffer.byteLength <= change.change.byteLength * 2 ? change : { ...change, change: new Uint8Array(change.change) }

const tooFar = { _tag: "Refused", why: "it stands too far beyond the cut-off of its log" } as const
const wrongActor: Verdict = { _tag: "Refused", why: "the actor is not this log's: it was written in another log" }

const hasFirst = (first: ReadonlyArray<number>, actor: number): boolean => {
  for (let i = 0; i < first.length; i += 2) if (first[i] === actor) return true
  return false
}

/** Arrays of numbers stay packed: no holes. */
const put = (list: Array<number>, index: number, value: number): void => {
  while (list.length < index) list.push(0)
  list[index] = value
}
