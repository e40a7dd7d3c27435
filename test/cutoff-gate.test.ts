import * as Automerge from "@automerge/automerge"
import * as Result from "effect/Result"
import t from "tap"
import { readChange } from "../src/projections/documents/automerge-change.ts"
import { LoadedDocument } from "../src/projections/documents/document.ts"
import { decodeGateMemory, encodeGateMemory } from "../src/projections/documents/gate-memory.ts"
import { isHeld } from "../src/projections/documents/gate-state.ts"
import { beyondCutBlocksMax, heldBytesMax, heldChangesMax, waitingChangesMax } from "../src/projections/documents/limits.ts"
import type { LoggedChange, Verdict } from "../src/projections/documents/types.ts"
import { honest, logKey, newHandle, type Random, randomFrom, shuffled } from "./documents-world.ts"

const documents = ["config/mesh/x", "memory/notes/page"]

/** Log to the block from which on its changes are held. */
type Cuts = ReadonlyMap<string, number>

const place = ({ log, block, offset }: { readonly log: string; readonly block: number; readonly offset: number }): string => `${log.slice(0, 4)}/${block}.${offset}`
const said = (verdict: Verdict): string => verdict._tag === "Refused" ? `Refused: ${verdict.why}` : verdict._tag === "Known" ? "Applied" : verdict._tag

/**
 * One node and one document: changes arrive, cut-offs appear, move and go. As the runner does, it builds the document anew when a
 * cut-off reaches back behind what it was offered, and only then. Now and then it is saved and loaded again.
 */
class Replica {
  readonly doc: string
  loaded: LoadedDocument
  readonly verdicts = new Map<string, string>()
  readonly #offered: Array<LoggedChange> = []
  #cuts: Cuts = new Map()
  rebuilds = 0

  constructor(doc: string) {
    this.doc = doc
    this.loaded = new LoadedDocument(doc)
  }

  offer(changes: ReadonlyArray<LoggedChange>): void {
    this.#offered.push(...changes)
    this.#take(changes)
  }

  cut(cuts: Cuts): void {
    const before = this.#cuts
    this.#cuts = cuts
    const back = (log: string): number => Math.min(before.get(log) ?? Infinity, cuts.get(log) ?? Infinity)
    const moved = [...new Set([...before.keys(), ...cuts.keys()])].filter((log) => before.get(log) !== cuts.get(log))
    if (!this.#offered.some(({ log, block }) => moved.includes(log) && block >= back(log))) return
    this.rebuilds++
    this.loaded.free()
    this.loaded = new LoadedDocument(this.doc)
    this.verdicts.clear()
    this.#take(this.#offered)
  }

  restart(): void {
    const snapshot = this.loaded.save()
    const bytes = encodeGateMemory(this.loaded.gate.memory)
    const memory = decodeGateMemory(bytes)
    if (memory === undefined) throw new Error("the memory cannot be read")
    if (Buffer.compare(encodeGateMemory(memory), bytes) !== 0) throw new Error("the memory is not what was written")
    this.loaded.free()
    this.loaded = new LoadedDocument(this.doc, { snapshot, memory })
  }

  /** What every node must agree on. */
  result(): string {
    const { heads, value, conflicts, changes, waiting, held } = this.loaded.state(() => [])
    for (const line of this.loaded.gate.memory.logs) for (const { change } of line.queue) this.verdicts.set(place(change), isHeld(line, change) ? "Held" : "Waiting")
    return JSON.stringify([[...this.verdicts].sort(), heads, sortedKeys(value), conflicts, changes, waiting, held], undefined, 1)
  }

  #take(changes: ReadonlyArray<LoggedChange>): void {
    const { gate } = this.loaded
    gate.begin()
    for (const change of changes) gate.offer({ ...change, cut: this.#cuts.get(change.log) })
    const { released } = this.loaded.settle()
    gate.verdicts().forEach((verdict, i) => {
      const change = changes[i]
      if (change === undefined) return
      const before = this.verdicts.get(place(change))
      if (before === undefined || before === "Waiting" || before === "Held") this.verdicts.set(place(change), said(verdict))
    })
    for (const { verdict, ...at } of released) this.verdicts.set(place(at), said(verdict))
    if (gate.stalled !== undefined || gate.overflow() !== undefined) throw new Error(gate.stalled ?? gate.overflow())
  }
}

const sortedKeys = (value: unknown): unknown =>
  Array.isArray(value) ? value.map(sortedKeys)
    : typeof value === "object" && value !== null ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, sortedKeys(v)])) : value

/** Honest logs; blocks far enough apart that some stand beyond all bounds. */
const world = (doc: string, seed: number): ReadonlyArray<LoggedChange> => {
  const random = randomFrom(seed)
  const spread = [1, 3, 900][seed % 3] ?? 1
  return honest(doc, 2 + seed % 4, 14 + random(20), random).changes.map((change) => ({ ...change, block: change.block * spread }))
}

/** One or two cut-offs somewhere in the logs. */
const cutsOf = (changes: ReadonlyArray<LoggedChange>, random: Random): Cuts => {
  const cuts = new Map<string, number>()
  for (let n = 1 + random(2); n > 0; n--) {
    const some = changes[random(changes.length)]
    if (some !== undefined) cuts.set(some.log, some.block + random(2))
  }
  return cuts
}

/** The rule by itself: what a change not held builds on counts, however far back; within the bound; nothing that builds on what may not. */
const model = (changes: ReadonlyArray<LoggedChange>, cuts: Cuts): ReadonlyMap<string, string> => {
  const byHash = new Map(changes.map((change) => {
    const read = readChange(change.change)
    if (Result.isFailure(read)) throw new Error(read.failure.why)
    const cut = cuts.get(change.log) ?? Infinity
    return [read.success.hash, { change, deps: read.success.deps, beyond: change.block >= cut, far: change.block >= cut + beyondCutBlocksMax }] as const
  }))
  const reached = new Set<string>()
  const visit = (hash: string): void => {
    const entry = byHash.get(hash)
    if (entry === undefined || reached.has(hash)) return
    reached.add(hash)
    if (!entry.far) for (const dep of entry.deps) visit(dep)
  }
  for (const [hash, { beyond }] of byHash) if (!beyond) visit(hash)
  const spoiled = (hash: string): boolean => {
    const entry = byHash.get(hash)
    return entry !== undefined && (entry.far || entry.deps.some(spoiled))
  }
  return new Map([...byHash].map(([hash, { change, far }]) => [place(change), far || (reached.has(hash) && spoiled(hash)) ? "Refused" : reached.has(hash) ? "Applied" : "Held"]))
}

t.test("what counts beyond a cut-off is what somebody in good standing builds on, and nothing else", async (t) => {
  const seen = new Map<string, number>()
  for (let seed = 1; seed <= 400; seed++) {
    const doc = documents[seed % 2] ?? ""
    const changes = world(doc, seed)
    const random = randomFrom(seed + 10_000)
    const cuts = cutsOf(changes, random)
    const wanted = model(changes, cuts)
    for (const verdict of wanted.values()) seen.set(verdict, (seen.get(verdict) ?? 0) + 1)
    const replica = new Replica(doc)
    replica.cut(cuts)
    replica.offer(shuffled(changes, random))
    replica.result()
    const found = [...replica.verdicts].map(([at, verdict]) => [at, verdict.split(":")[0]])
    if (JSON.stringify([...wanted].sort()) !== JSON.stringify(found.sort())) t.same(found, [...wanted].sort(), `seed ${seed}`)
    replica.loaded.free()
  }
  t.ok((seen.get("Held") ?? 0) > 300 && (seen.get("Refused") ?? 0) > 100 && (seen.get("Applied") ?? 0) > 3_000, JSON.stringify([...seen]))
})

t.test("nobody in good standing loses an edit: what a log without cut-off wrote counts, within the bound", async (t) => {
  let beyond = 0
  for (let seed = 1; seed <= 200; seed++) {
    const doc = documents[seed % 2] ?? ""
    const random = randomFrom(seed + 20_000)
    const { changes } = honest(doc, 2 + seed % 4, 30, random)
    const cuts = cutsOf(changes, random)
    const replica = new Replica(doc)
    replica.offer(shuffled(changes, random))
    replica.cut(cuts)
    for (const change of changes) {
      const counts = replica.verdicts.get(place(change)) === "Applied"
      if (change.block < (cuts.get(change.log) ?? Infinity)) t.ok(counts, `seed ${seed}: ${place(change)}`)
      else if (counts) beyond++
    }
    replica.loaded.free()
  }
  t.ok(beyond > 100, `${beyond} changes beyond a cut-off were kept for those who build on them`)
})

/** Honest logs with wrong, forged and repeated changes put in between. */
const hostile = (doc: string, seed: number): ReadonlyArray<LoggedChange> => {
  const random = randomFrom(seed)
  const out: Array<LoggedChange> = []
  const changes = world(doc, seed)
  for (const change of changes) {
    const kind = random(10)
    let offset = 10
    const add = (chunk: Uint8Array): void => void out.push({ ...change, offset: change.offset + offset++, change: chunk })
    if (kind === 0) continue
    out.push(change)
    const { author: _, ...decoded } = Automerge.decodeChange(change.change)
    const make = (fields: Partial<typeof decoded>): Uint8Array => Automerge.encodeChange({ ...decoded, author: null, time: 0, ops: [], ...fields })
    const other = Automerge.decodeChange((changes[random(changes.length)] ?? change).change)
    const next = { seq: decoded.seq + 1, startOp: Math.max(decoded.startOp + decoded.ops.length, other.startOp + other.ops.length) }
    if (kind === 1) add(changes[random(changes.length)]?.change ?? change.change)
    if (kind === 2) add(change.change)
    // Names any change of any log, also later ones of its own: cycles cannot be made, waiting for each other can.
    if (kind === 3) add(make({ ...next, deps: [decoded.hash, other.hash].sort() }))
    if (kind === 4) add(make({ deps: [other.hash] }))
    if (kind === 5) add(make({ ...next, deps: ["77".repeat(32), other.hash].sort() }))
    if (kind === 6) add(change.change.map((byte, i) => (i === 5 ? byte ^ 1 : byte)))
    if (kind === 7) {
      const again = make({ ...next, deps: [decoded.hash, other.hash].sort(), ops: [{ action: "set", obj: "_root", key: "h", value: "1", pred: [] }] })
      add(again)
      if (random(2) === 0) out.push({ ...change, block: change.block + beyondCutBlocksMax * 2, offset: 99, change: again })
    }
  }
  // The logs' own order, whatever was put where.
  return out.toSorted((a, b) => a.block - b.block || a.offset - b.offset)
}

t.test("verdicts and state are a function of changes and cut-offs: any interleaving, restarts, and cut-offs known first, late, moved and withdrawn", async (t) => {
  const seen = new Map<string, number>()
  let rebuilds = 0
  for (let seed = 1; seed <= (Number(process.env["KOS_SEEDS"]) || 150); seed++) {
    const doc = documents[seed % 2] ?? ""
    const changes = seed % 4 === 0 ? world(doc, seed) : hostile(doc, seed)
    const random = randomFrom(seed + 30_000)
    const cuts = cutsOf(changes, random)
    const first = new Replica(doc)
    first.cut(cuts)
    first.offer(changes)
    const wanted = first.result()
    for (const verdict of first.verdicts.values()) seen.set(verdict.split(":")[0] ?? "", (seen.get(verdict.split(":")[0] ?? "") ?? 0) + 1)
    first.loaded.free()
    for (let round = 0; round < 6; round++) {
      const replica = new Replica(doc)
      const left = [...shuffled(changes, random)]
      const when = [0, left.length, random(left.length + 1)][round % 3] ?? 0
      let done = 0
      while (left.length > 0 || done <= when) {
        if (done >= when) replica.cut(cuts)
        // Other cut-offs in the meantime: smaller, greater, of other logs, none.
        else if (random(8) === 0) replica.cut(random(3) === 0 ? new Map() : cutsOf(changes, random))
        if (left.length === 0) break
        const portion = left.splice(0, 1 + random(7))
        done += portion.length
        replica.offer(portion)
        if (random(6) === 0) replica.restart()
      }
      replica.cut(cuts)
      const found = replica.result()
      if (found !== wanted) t.equal(found, wanted, `seed ${seed} round ${round}`)
      rebuilds += replica.rebuilds
      replica.loaded.free()
    }
  }
  t.ok(rebuilds > 500, `${rebuilds} rebuilds`)
  for (const verdict of ["Applied", "Held", "Waiting", "Refused"]) t.ok((seen.get(verdict) ?? 0) > 100, `${verdict}: ${seen.get(verdict)}`)
})

t.test("held changes do not stall a document, and beyond a bound of changes or bytes they are refused", async (t) => {
  const doc = "config/mesh/x"
  const flood = (bytes: number, count: number): ReadonlyArray<LoggedChange> => {
    const handle = newHandle(doc, logKey(0))
    return Array.from({ length: count }, (_, n) => {
      handle.put("/", "k", JSON.stringify(`${n}`.padEnd(bytes, "x")), "str")
      handle.commit(undefined, 0)
      return { log: logKey(0), block: Math.floor(n / 200), offset: n % 200, ms: 0, change: handle.getLastLocalChange() ?? new Uint8Array(0) }
    })
  }
  for (const [bytes, count] of [[1, heldChangesMax + 300], [200_000, 30]] as const) {
    const changes = flood(bytes, count)
    const replica = new Replica(doc)
    replica.cut(new Map([[logKey(0), 0]]))
    replica.offer(changes)
    const { held, waiting } = replica.loaded.state(() => [])
    t.equal(waiting, 0)
    t.ok(held <= heldChangesMax && replica.loaded.gate.memory.heldBytes <= heldBytesMax && held < count, `${held} of ${count} are held`)
    // Somebody in good standing builds on the last that may count: all before it count. On the first that may not: refused, and everything goes on.
    const good = newHandle(doc, logKey(1))
    good.applyChanges(changes.slice(0, held).map(({ change }) => change))
    good.put("/", "mine", "1", "str")
    good.commit(undefined, 0)
    replica.offer([{ log: logKey(1), block: 0, offset: 0, ms: 0, change: good.getLastLocalChange() ?? new Uint8Array(0) }])
    t.equal(replica.verdicts.get(place({ log: logKey(1), block: 0, offset: 0 })), "Applied")
    t.equal(replica.loaded.state(() => []).changes, held + 1)
    const bad = newHandle(doc, logKey(2))
    bad.applyChanges(changes.slice(0, held + 1).map(({ change }) => change))
    bad.put("/", "yours", "1", "str")
    bad.commit(undefined, 0)
    replica.offer([{ log: logKey(2), block: 0, offset: 0, ms: 0, change: bad.getLastLocalChange() ?? new Uint8Array(0) }])
    t.match(replica.verdicts.get(place({ log: logKey(2), block: 0, offset: 0 })), /^Refused: builds on change/)
    for (const handle of [good, bad]) handle.free()
  }
  t.ok(heldChangesMax < waitingChangesMax)
})
