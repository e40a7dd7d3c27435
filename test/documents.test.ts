import { Effect, Layer } from "effect"
import t from "tap"
import { changeActor } from "../src/projections/documents/actor.ts"
import { loadedDocumentsMax, waitingChangesMax } from "../src/projections/documents/limits.ts"
import { type Applied, DocumentWorker } from "../src/projections/documents/pool.ts"
import { canonical, readRegister } from "../src/projections/documents/register.ts"
import { splicesBetween, textSteps } from "../src/projections/documents/text-splices.ts"
import type { DocId, DocumentState, Edit, LoggedChange, StoredDocument } from "../src/projections/documents/types.ts"
import { logKey, newHandle, randomFrom, shuffled } from "./documents-world.ts"
import { effectTest } from "./effect.ts"
import { base, cases, document } from "./hostile/automerge/make.ts"

const validator = new URL("./documents-validator.ts", import.meta.url)
const layer = DocumentWorker.layerWith({ validator })
const quick = DocumentWorker.layerWith({ validator, deadlineMs: 1_000 })

const empty: StoredDocument = { snapshot: undefined, gate: undefined, changes: [] }
const nothing = (): StoredDocument => empty

/** What a node keeps on its disk. */
class Store {
  readonly saved = new Map<DocId, { readonly snapshot: Uint8Array; readonly gate: Uint8Array }>()
  readonly changes = new Map<DocId, Array<LoggedChange>>()
  readonly load = (doc: DocId): StoredDocument => {
    const saved = this.saved.get(doc)
    return { snapshot: saved?.snapshot, gate: saved?.gate, changes: this.changes.get(doc) ?? [] }
  }
  add(doc: DocId, changes: ReadonlyArray<LoggedChange>): void {
    this.changes.set(doc, [...(this.changes.get(doc) ?? []), ...changes])
  }
}

const put = (key: string, value: unknown): Edit => ({ _tag: "Set", key, json: JSON.stringify(value) })

const stateOf = (answers: ReadonlyArray<Applied>, doc?: DocId): DocumentState => {
  const answer = doc === undefined ? answers[0] : answers.find((one) => one.doc === doc)
  if (answer === undefined || "stalled" in answer) throw new Error(`${answer?.doc} stalled: ${answer?.stalled}`)
  return answer.state
}

/** Edits as a writer that knows only `known`, through a worker of its own document name space: a store that holds just that. */
const write = (worker: DocumentWorker["Service"], doc: DocId, log: string, block: number, edits: ReadonlyArray<Edit>, known: ReadonlyArray<LoggedChange>) =>
  Effect.gen(function*() {
    yield* worker.discard(doc)
    const { change } = yield* worker.edit(doc, log, edits, 1_000 + block, () => ({ ...empty, changes: known }))
    yield* worker.discard(doc)
    const logged: LoggedChange = { log, block, offset: 0, ms: 1_000 + block, change: change ?? new Uint8Array(0) }
    return logged
  })

effectTest("an edit is live at once, known when its event comes back, and gone after discard", layer, (t) => Effect.gen(function*() {
  const worker = yield* DocumentWorker
  const store = new Store()
  const doc = "config/mesh/net"
  const made = yield* worker.edit(doc, logKey(0), [put("a", 1), put("b.c", { x: [1, null] })], 5_000, store.load)
  t.strictSame(made.state.value, { a: 1, "b.c": { x: [1, null] } })
  const logged: LoggedChange = { log: logKey(0), block: 4, offset: 2, ms: 5_000, change: made.change ?? new Uint8Array(0) }
  t.equal(yield* worker.save(doc, store.load), undefined, "no snapshot holds an edit that is in no log")
  const [answer] = yield* worker.apply([{ doc, changes: [logged] }], store.load)
  t.match(answer, { verdicts: [{ _tag: "Known" }] })
  store.add(doc, [logged])
  t.strictSame(yield* worker.history(doc, store.load), [{ hash: made.state.heads[0], log: logKey(0), block: 4, offset: 2, ms: 5_000, deps: [] }])
  const none = yield* worker.edit(doc, logKey(0), [put("a", 1), { _tag: "Delete", key: "absent" }], 6_000, store.load)
  t.equal(none.change, undefined, "nothing changes")
  const lost = yield* worker.edit(doc, logKey(0), [put("a", 2)], 7_000, store.load)
  t.equal(lost.state.value["a"], 2)
  yield* worker.discard(doc)
  const again = yield* worker.edit(doc, logKey(0), [{ _tag: "Delete", key: "a" }], 8_000, store.load)
  t.strictSame(again.state.value, { "b.c": { x: [1, null] } })
  const refusals: ReadonlyArray<readonly [Edit, RegExp]> = [
    [{ _tag: "Set", key: "__proto__", json: "1" }, /forbidden/], [{ _tag: "Set", key: "a", json: "{" }, /not JSON/],
    [{ _tag: "Set", key: "a", json: JSON.stringify("x".repeat(70_000)) }, /at most 65536/], [{ _tag: "Text", text: "x" }, /has no text/],
    [{ _tag: "SetField", key: "a", json: "1" }, /no fields/], [{ _tag: "Set", key: "a", json: `${"[".repeat(70)}${"]".repeat(70)}` }, /nested deeper/]
  ]
  for (const [edit, why] of refusals) {
    const refused = yield* Effect.flip(worker.edit(doc, logKey(0), [put("half", 1), edit], 9_000, store.load))
    t.equal(refused._tag, "EditRefused")
    t.match(refused.message, why)
  }
  const after = yield* worker.edit(doc, logKey(0), [put("whole", 1)], 9_000, store.load)
  t.notOk("half" in after.state.value, "a refused edit leaves nothing behind")
}))

effectTest("two nodes that create one page apart share its text and its fields", layer, (t) => Effect.gen(function*() {
  const worker = yield* DocumentWorker
  const doc = "memory/notes/page"
  const field = (key: string): Edit => ({ _tag: "SetField", key, json: "1" })
  const a = yield* write(worker, doc, logKey(0), 0, [{ _tag: "Text", text: "from a\n" }, field("a")], [])
  const b = yield* write(worker, doc, logKey(1), 0, [{ _tag: "Text", text: "from b\n" }, field("b")], [])
  const state = stateOf(yield* worker.apply([{ doc, changes: [a, b] }], nothing))
  t.strictSame(state.value["fields"], { a: 1, b: 1 })
  t.strictSame(String(state.value["text"]).split("\n").sort(), ["", "from a", "from b"])
  t.strictSame(state.conflicts, [])
  const c = yield* write(worker, doc, logKey(0), 1, [{ _tag: "Text", text: String(state.value["text"]).replace("from a", "said a") }], [a, b])
  const d = yield* write(worker, doc, logKey(1), 1, [{ _tag: "Text", text: String(state.value["text"]).replace("from b", "from b, later") }], [a, b])
  const merged = stateOf(yield* worker.apply([{ doc, changes: [a, b, c, d] }], nothing))
  t.strictSame(String(merged.value["text"]).split("\n").sort(), ["", "from b, later", "said a"])
  const refused = yield* Effect.flip(worker.edit(doc, logKey(0), [put("text", "mine")], 1, nothing))
  t.match(refused.message, /belongs to the page/)
  const outside = yield* Effect.flip(worker.edit(doc, logKey(0), [{ _tag: "Splice", at: 900, remove: 1, insert: "" }], 1, nothing))
  t.match(outside.message, /a splice at 900/)
}))

effectTest("a conflict names both authors; equal values and text are none", layer, (t) => Effect.gen(function*() {
  const worker = yield* DocumentWorker
  const doc = "memory/notes/page"
  const setField = (key: string, value: unknown): Edit => ({ _tag: "SetField", key, json: JSON.stringify(value) })
  const a = yield* write(worker, doc, logKey(0), 3, [put("title", "A"), put("same", { x: 1, y: 2 }), setField("due", 1)], [])
  const b = yield* write(worker, doc, logKey(1), 8, [put("title", "B"), put("same", { y: 2, x: 1 }), setField("due", 2)], [])
  const { conflicts, value } = stateOf(yield* worker.apply([{ doc, changes: [a, b] }], nothing))
  t.strictSame(conflicts.map(({ key }) => key), ["title", "fields.due"])
  const title = conflicts[0]?.values ?? []
  t.strictSame(title.map(({ value, log, block, offset, ms }) => [value, log, block, offset, ms]).sort(), [["A", logKey(0), 3, 0, 1_003], ["B", logKey(1), 8, 0, 1_008]])
  t.strictSame(title.filter(({ winner }) => winner).map(({ value }) => value), [value["title"]])
  const solved = yield* worker.edit(doc, logKey(0), [put("title", value["title"]), setField("due", 3)], 9, nothing)
  t.strictSame(solved.state.conflicts, [], "writing the winner again resolves")
}))

effectTest("registers that are not JSON text are faults, never a crash", layer, (t) => Effect.gen(function*() {
  const worker = yield* DocumentWorker
  const doc = "config/mesh/odd"
  const handle = newHandle(doc, logKey(0))
  handle.put("/", "good", "1", "str")
  handle.put("/", "number", 5, "int")
  handle.put("/", "torn", "{\"a\":", "str")
  handle.put("/", "proto", "{\"__proto__\":{\"admin\":true}}", "str")
  handle.put("/", "deep", `${"[".repeat(20_000)}${"]".repeat(20_000)}`, "str")
  handle.putObject("/", "map", {})
  handle.commit(undefined, 0)
  const change = handle.getLastLocalChange() ?? base
  const state = stateOf(yield* worker.apply([{ doc, changes: [{ log: logKey(0), block: 0, offset: 0, ms: 0, change }] }], nothing))
  t.strictSame(state.value, { good: 1 })
  t.equal(state.faults.length, 5)
  t.strictSame(state.live, {}, "no valid prefix")
}))

effectTest("when the merged value is invalid, readers get the longest valid prefix, the same on every node", layer, (t) => Effect.gen(function*() {
  const worker = yield* DocumentWorker
  const doc = "config/mesh/rules"
  const first = yield* write(worker, doc, logKey(0), 0, [put("c", 1)], [])
  const a = yield* write(worker, doc, logKey(0), 1, [put("a", 1)], [first])
  const b = yield* write(worker, doc, logKey(1), 0, [put("b", 1)], [first])
  const late = yield* write(worker, doc, logKey(2), 0, [put("d", 1)], [first, b])
  const wanted = changeActor(logKey(0), doc) < changeActor(logKey(1), doc) ? { a: 1, c: 1 } : { b: 1, c: 1 }
  for (let seed = 1; seed <= 12; seed++) {
    yield* worker.discard(doc)
    const state = stateOf(yield* worker.apply([{ doc, changes: shuffled([first, a, b, late], randomFrom(seed)) }], nothing))
    t.strictSame(state.value, { a: 1, b: 1, c: 1, d: 1 })
    t.strictSame(state.faults, ["a and b: expected at most one of them, found both"])
    t.strictSame(state.live, wanted)
  }
  const healed = yield* worker.edit(doc, logKey(0), [{ _tag: "Delete", key: "a" }], 9, nothing)
  t.strictSame(healed.state.live, { b: 1, c: 1, d: 1 })
}))

const randomEdits = (random: (below: number) => number, page: boolean, text: string): ReadonlyArray<Edit> => {
  const key = `k${random(6)}`
  switch (random(page ? 7 : 3)) {
    case 0: return [{ _tag: "Delete", key }]
    case 1: return [put(key, random(3)), put("invalid", random(4) === 0)]
    case 2: return [put(key, { deep: [random(3)] })]
    case 3: return [{ _tag: "SetField", key, json: String(random(3)) }]
    case 4: return [{ _tag: "DeleteField", key }]
    case 5: return [{ _tag: "Splice", at: random(text.length + 1), remove: 0, insert: `w${random(9)} ` }]
    default: return [{ _tag: "Text", text: `${text.slice(0, random(text.length + 1))}${["x", "über ", "\n"][random(3)]}${text.slice(random(text.length + 1))}` }]
  }
}

const same = (state: DocumentState): string =>
  JSON.stringify(state.heads) + [state.value, state.live, state.faults].map(canonical).join() + canonical(state.conflicts.map(({ key, values }) => ({ key, values: values.map((one) => ({ ...one })) })))

effectTest("any writers, any order, any batches, saves and reloads between: one state", layer, (t) => Effect.gen(function*() {
  const worker = yield* DocumentWorker
  for (let seed = 1; seed <= 16; seed++) {
    const random = randomFrom(seed)
    const doc = seed % 2 === 0 ? `config/mesh/s${seed}` : `memory/notes/s${seed}`
    const writers = 2 + random(3)
    const known: Array<Array<LoggedChange>> = Array.from({ length: writers }, () => [])
    const blocks = known.map(() => 0)
    const all: Array<LoggedChange> = []
    while (all.length < 20) {
      const i = random(writers)
      const mine = known[i] ?? []
      if (random(3) === 0) {
        const have = new Set(mine)
        for (const change of known[random(writers)] ?? []) if (!have.has(change)) mine.push(change)
      }
      yield* worker.discard(doc)
      const load = (): StoredDocument => ({ ...empty, changes: mine })
      const now = yield* worker.materialize(doc, mine)
      const text = String(now.value["text"] ?? "")
      const { change } = yield* worker.edit(doc, logKey(i), randomEdits(random, seed % 2 === 1, text), all.length, load)
      if (change === undefined) continue
      const block = blocks[i] ?? 0
      blocks[i] = block + 1
      const logged: LoggedChange = { log: logKey(i), block, offset: 0, ms: all.length, change }
      mine.push(logged)
      all.push(logged)
    }
    yield* worker.discard(doc)
    const wanted = same(yield* worker.materialize(doc, all))
    for (let order = 0; order < 3; order++) {
      const store = new Store()
      const arrival = shuffled(all, random)
      yield* worker.discard(doc)
      for (let at = 0; at < arrival.length;) {
        const changes = arrival.slice(at, at + 1 + random(8))
        at += changes.length
        yield* worker.apply([{ doc, changes }], store.load)
        store.add(doc, changes)
        if (random(3) === 0) {
          const saved = yield* worker.save(doc, store.load)
          if (saved !== undefined) {
            store.saved.set(doc, saved)
            store.changes.set(doc, [])
          }
        }
        if (random(3) === 0) yield* worker.discard(doc)
      }
      const state = stateOf(yield* worker.apply([{ doc, changes: [] }], store.load))
      t.equal(same(state), wanted, `seed ${seed}, order ${order}`)
      t.equal(state.changes, all.length)
      t.equal(state.waiting, 0)
      t.equal((yield* worker.history(doc, store.load)).length, all.length)
    }
  }
}))

const chunkWith = (doc: DocId, mark: string): Uint8Array => {
  const handle = newHandle(doc, logKey(0))
  handle.put("/", "mark", JSON.stringify(mark), "str")
  handle.commit(undefined, 0)
  return handle.getLastLocalChange() ?? base
}

effectTest("a change that hangs, ends or confuses the worker stalls its document alone", quick, (t) => Effect.gen(function*() {
  const worker = yield* DocumentWorker
  const store = new Store()
  const good = (doc: DocId, block: number): LoggedChange => ({ log: logKey(0), block, offset: 0, ms: 0, change: chunkWith(doc, "fine") })
  const marks = ["HANG", "EXIT", "THROW"]
  const docs = ["config/mesh/one", ...marks.map((mark) => `config/mesh/${mark}`), "config/mesh/two"]
  const batch = docs.map((doc) => {
    const other = newHandle(doc, logKey(1))
    other.put("/", "other", "1", "str")
    other.commit(undefined, 0)
    const before: LoggedChange = { log: logKey(1), block: 0, offset: 0, ms: 0, change: other.getLastLocalChange() ?? base }
    const mark = marks.find((name) => doc.endsWith(name))
    return { doc, changes: [before, mark === undefined ? good(doc, 0) : { ...good(doc, 7), change: chunkWith(doc, mark) }] }
  })
  const answers = yield* worker.apply(batch, store.load)
  t.strictSame(answers.map(({ doc }) => doc), docs)
  for (const doc of ["config/mesh/one", "config/mesh/two"]) t.strictSame(stateOf(answers, doc).value, { mark: "fine", other: 1 })
  for (const mark of marks) {
    const answer = answers.find(({ doc }) => doc.endsWith(mark))
    t.match(answer, { stalled: /^change 11111111\/7\.0: / }, `${mark} names the change`)
  }
  t.strictSame((yield* worker.history("config/mesh/two", store.load)).length, 2, "not stored yet, and still there after the thread ended")
  for (const { doc, changes } of batch) if (doc.endsWith("one")) store.add(doc, changes)
  const more = yield* worker.apply([{ doc: "config/mesh/HANG", changes: [] }, { doc: "config/mesh/one", changes: [] }], store.load)
  t.match(more[0], { stalled: /no answer in/ }, "it stays stalled")
  t.strictSame(stateOf(more, "config/mesh/one").value, { mark: "fine", other: 1 })
  const refused = yield* Effect.flip(worker.edit("config/mesh/EXIT", logKey(3), [put("a", 1)], 1, store.load))
  t.equal(refused._tag, "DocumentStalled")
  t.equal((yield* worker.stats()).stalled.length, 3)
  yield* worker.discard("config/mesh/THROW")
  const fresh = yield* worker.edit("config/mesh/THROW", logKey(3), [put("a", 1)], 1, store.load)
  t.strictSame(fresh.state.value, { a: 1 }, "discard lifts the stall")
}))

effectTest("the hostile corpus in a worker with honest documents: refused, and all goes on", layer, (t) => Effect.gen(function*() {
  const worker = yield* DocumentWorker
  const ground: LoggedChange = { log: logKey(0), block: 0, offset: 0, ms: 0, change: base }
  const honestDoc = "config/mesh/honest"
  for (const { name, change } of cases()) {
    yield* worker.discard(document)
    const mine = yield* worker.edit(honestDoc, logKey(0), [put(name, 1)], 1, nothing)
    const answers = yield* worker.apply([{ doc: document, changes: [ground, { ...ground, block: 1, change }] }, { doc: honestDoc, changes: [] }], nothing)
    const state = stateOf(answers, document)
    t.equal(state.value["honest"], 1, name)
    t.equal(Object.getPrototypeOf(state.value), Object.prototype)
    t.equal(stateOf(answers, honestDoc).heads.join(), mine.state.heads.join())
  }
  t.equal((yield* worker.stats()).starts, 1, "the thread never ended")
}))

effectTest("too much waiting stalls a document until a load brings what was missing", layer, (t) => Effect.gen(function*() {
  const worker = yield* DocumentWorker
  const store = new Store()
  const doc = "config/mesh/late"
  const first = newHandle(doc, logKey(0))
  first.put("/", "a", "1", "str")
  first.commit(undefined, 0)
  const missing: LoggedChange = { log: logKey(0), block: 0, offset: 0, ms: 0, change: first.getLastLocalChange() ?? base }
  const second = newHandle(doc, logKey(1))
  second.merge(first)
  const waiting: Array<LoggedChange> = []
  for (let block = 0; block <= waitingChangesMax; block++) {
    second.emptyChange(undefined, 0)
    waiting.push({ log: logKey(1), block, offset: 0, ms: 0, change: second.getLastLocalChange() ?? base })
  }
  t.match(yield* worker.apply([{ doc, changes: waiting }], store.load), [{ stalled: /wait for others/ }])
  store.add(doc, waiting)
  const state = stateOf(yield* worker.apply([{ doc, changes: [missing] }], (id) => ({ ...empty, changes: [...store.load(id).changes, missing] })))
  t.equal(state.waiting, 0)
  t.equal(state.changes, waitingChangesMax + 2)
}))

effectTest("documents beyond the cache, and changes not stored yet, are there all the same", layer, (t) => Effect.gen(function*() {
  const worker = yield* DocumentWorker
  const docs = Array.from({ length: loadedDocumentsMax + 60 }, (_, i) => `config/mesh/d${i}`)
  const answers = yield* worker.apply(docs.map((doc) => ({ doc, changes: [{ log: logKey(0), block: 0, offset: 0, ms: 0, change: chunkWith(doc, doc) }] })), nothing)
  t.ok(answers.every((answer) => "state" in answer && answer.state.value["mark"] === answer.doc))
  t.equal((yield* worker.stats()).documents, loadedDocumentsMax)
  for (const doc of [docs[0], docs[50], docs[571]]) {
    const { state } = yield* worker.edit(doc ?? "", logKey(0), [put("more", 1)], 1, nothing)
    t.strictSame(state.value, { mark: doc, more: 1 }, "no sequence number is used twice")
  }
}))

t.test("small splices turn one text into the other", async (t) => {
  const random = randomFrom(3)
  const apply = (text: string, edits: ReadonlyArray<Edit>): string => edits.reduce((now, edit) =>
    edit._tag === "Splice" ? now.slice(0, edit.at) + edit.insert + now.slice(edit.at + edit.remove) : now, text)
  const line = (): string => Array.from({ length: random(9) }, () => ["one", "zwei 😀", "drei,", "\u{1f600}\u{1f601}", " "][random(5)]).join(" ")
  for (let i = 0; i < 300; i++) {
    const before = Array.from({ length: random(20) }, line)
    const after = before.flatMap((text) => (random(5) === 0 ? [] : random(5) === 0 ? [text, line()] : [random(4) === 0 ? text.replace("drei", "3") : text]))
    const [a, b] = [before.join("\n"), after.join("\n")]
    const steps = textSteps(a, b)
    t.equal(apply(a, steps.flat()), b)
    for (const { at, insert } of splicesBetween(a, b)) t.ok(insert.isWellFormed() && a.slice(0, at).isWellFormed())
  }
  const page = Array.from({ length: 400 }, (_, i) => `line ${i}`).join("\n")
  const changed = page.replace("line 3\n", "line three\n").replace("line 390", "line 390!")
  t.strictSame(splicesBetween(page, changed), [{ at: page.indexOf("3\n", page.indexOf("line 3\n")), remove: 1, insert: "three" }, { at: page.indexOf("line 390") + 8, remove: 0, insert: "!" }])
  const long = "😀".repeat(30_000)
  const steps = textSteps("", long)
  t.ok(steps.length > 1 && steps.every((step) => step.every((edit) => edit._tag === "Splice" && edit.insert.isWellFormed())))
  t.equal(apply("", steps.flat()), long)
  t.equal(apply(long, textSteps(long, "x").flat()), "x")
})

t.test("register texts", async (t) => {
  t.strictSame(readRegister("{\"a\":[1,null,\"x\"]}"), { value: { a: [1, null, "x"] } })
  for (const text of ["", "{", "undefined", "{\"constructor\":1}", "1e999", `${"[".repeat(100)}${"]".repeat(100)}`, "\"\\ud800\""]) t.ok("why" in readRegister(text), text.slice(0, 20))
  t.equal(canonical({ b: 1, a: { d: [2, 1], c: null } }), "{\"a\":{\"c\":null,\"d\":[2,1]},\"b\":1}")
})
