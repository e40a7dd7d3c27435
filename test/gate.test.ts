import * as Automerge from "@automerge/automerge"
import * as Result from "effect/Result"
import { readdirSync, readFileSync } from "node:fs"
import t from "tap"
import { changeActor } from "../src/projections/documents/actor.ts"
import { keyFault, readChange } from "../src/projections/documents/automerge-change.ts"
import { LoadedDocument } from "../src/projections/documents/document.ts"
import { decodeGateMemory, encodeGateMemory } from "../src/projections/documents/gate-memory.ts"
import { Gate } from "../src/projections/documents/gate.ts"
import { fieldsObjectId, genesisOf, textObjectId } from "../src/projections/documents/genesis.ts"
import { changeBytesMax, mapKeysMax, waitingChangesMax } from "../src/projections/documents/limits.ts"
import type { LoggedChange, Verdict } from "../src/projections/documents/types.ts"
import { bodyOf, honest, logKey, newHandle, randomFrom, seal, shuffled } from "./documents-world.ts"
import { base, cases, document } from "./hostile/automerge/make.ts"

const documents = ["config/mesh/x", "memory/notes/page"]

const place = ({ log, block, offset }: LoggedChange): string => `${log.slice(0, 4)}/${block}.${offset}`

/** Final verdict per address, `Known` counted as applied, and whatever was released later. */
const verdictsOf = (gate: Gate, changes: ReadonlyArray<LoggedChange>): ReadonlyMap<string, string> => {
  gate.begin()
  for (const change of changes) gate.offer(change)
  const out = new Map<string, string>()
  const say = (verdict: Verdict): string => (verdict._tag === "Refused" ? `Refused: ${verdict.why}` : verdict._tag === "Known" ? "Applied" : verdict._tag)
  // A change offered twice may have been waiting the second time: the first answer follows it.
  gate.verdicts().forEach((verdict, i) => {
    const change = changes[i]
    if (change === undefined) return
    const before = out.get(place(change))
    if (before === undefined || before === "Waiting") out.set(place(change), say(verdict))
  })
  return out
}

const sorted = (map: ReadonlyMap<string, string>): ReadonlyArray<string> => [...map].map(([key, value]) => `${key} ${value}`).sort()

t.test("every honest change is read as Automerge reads it and passes, merges and empty changes included", async (t) => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = randomFrom(seed)
    const doc = documents[seed % 2] ?? ""
    const { changes } = honest(doc, 1 + seed % 5, 20, random)
    for (const { change } of changes) {
      const read = readChange(change)
      const wanted = Automerge.decodeChange(change)
      if (Result.isFailure(read)) return t.fail(`seed ${seed}: ${read.failure.why}`)
      const { hash, actor, seq, startOp, deps, operations } = read.success
      t.strictSame([hash, actor, seq, startOp, deps, operations.length], [wanted.hash, wanted.actor, wanted.seq, wanted.startOp, wanted.deps, wanted.ops.length], `seed ${seed}`)
    }
    const gate = new Gate(doc)
    const verdicts = [...verdictsOf(gate, shuffled(changes, random)).values()]
    t.ok(verdicts.every((verdict) => verdict === "Applied"), `seed ${seed}: ${verdicts.find((verdict) => verdict !== "Applied")}`)
    t.equal(gate.memory.waitingChanges, 0)
  }
})

/** Honest logs with wrong changes put in between. */
const mixed = (doc: string, seed: number): ReadonlyArray<LoggedChange> => {
  const random = randomFrom(seed)
  const { changes } = honest(doc, 4, 24, random)
  const out: Array<LoggedChange> = []
  for (const change of changes) {
    const kind = random(9)
    const wrong = (chunk: Uint8Array): void => void out.push({ ...change, offset: change.offset + 10, change: chunk })
    if (kind === 0) continue
    out.push(change)
    if (kind === 1) wrong(changes[random(changes.length)]?.change ?? change.change)
    if (kind === 2) wrong(change.change.map((byte, i) => (i === 5 ? byte ^ 1 : byte)))
    const decoded = Automerge.decodeChange(change.change)
    const fields = { ...decoded, author: null, time: 0, ops: [] }
    if (kind === 3) wrong(Automerge.encodeChange({ ...fields, seq: decoded.seq + 1 + random(2), deps: [decoded.hash], startOp: decoded.startOp + decoded.ops.length }))
    if (kind === 4) wrong(Automerge.encodeChange({ ...fields, seq: decoded.seq + 1, startOp: decoded.startOp + 1 }))
    // Refers to what another log wrote, which may be concurrent: here, unlike in an honest change, arrival could decide.
    if (kind === 5) {
      const other = Automerge.decodeChange((changes[random(changes.length)] ?? change).change)
      wrong(Automerge.encodeChange({ ...fields, seq: decoded.seq + 1, deps: [decoded.hash], startOp: decoded.startOp + decoded.ops.length,
        ops: [{ action: "set", obj: "_root", key: "x", value: "9", pred: [`${other.startOp}@${other.actor}`] }] }))
    }
    if (kind === 6) wrong(Automerge.encodeChange({ ...fields, seq: decoded.seq + 1, deps: ["77".repeat(32)] }))
  }
  return out
}

t.test("verdicts are a function of the set: any interleaving, any duplicates, any number of batches", async (t) => {
  let refused = 0
  let waiting = 0
  for (let seed = 1; seed <= 80; seed++) {
    const doc = documents[seed % 2] ?? ""
    const changes = mixed(doc, seed)
    const wanted = sorted(verdictsOf(new Gate(doc), changes))
    for (const verdict of wanted) {
      if (verdict.includes("Refused")) refused++
      if (verdict.includes("Waiting")) waiting++
    }
    for (let round = 0; round < 4; round++) {
      const order = shuffled(changes, randomFrom(seed * 100 + round))
      t.strictSame(sorted(verdictsOf(new Gate(doc), order)), wanted, `seed ${seed}, order ${round}`)
    }
  }
  t.ok(refused > 100 && waiting > 50, `${refused} refused, ${waiting} waiting: the test meets both`)
})

t.test("a waiting change that is decided later is told, once", async (t) => {
  const { changes } = honest("config/mesh/x", 2, 12, randomFrom(5))
  const a = changes.filter(({ log }) => log === logKey(0))
  const b = changes.filter(({ log }) => log === logKey(1))
  const gate = new Gate("config/mesh/x")
  gate.begin()
  for (const change of a) gate.offer(change)
  const waited = gate.verdicts().flatMap((verdict, i) => (verdict._tag === "Waiting" ? [place(a[i] ?? changes[0]!)] : []))
  t.ok(waited.length > 0)
  t.strictSame(gate.take().released, [])
  gate.begin()
  for (const change of b) gate.offer(change)
  const released = gate.take().released
  t.strictSame(released.map(({ log, block, offset }) => `${log.slice(0, 4)}/${block}.${offset}`).sort(), waited.sort())
  t.ok(released.every(({ verdict }) => verdict._tag === "Applied"))
})

t.test("what passes the gate applies, saves and loads again with the same heads, however the change was bent", async (t) => {
  let passed = 0
  for (let seed = 1; seed <= 60; seed++) {
    const random = randomFrom(seed)
    const doc = documents[seed % 2] ?? ""
    const { changes } = honest(doc, 3, 8, random)
    for (let round = 0; round < 12; round++) {
      const at = random(changes.length)
      const victim = changes[at]
      if (victim === undefined) continue
      const body = Array.from(bodyOf(victim.change))
      for (let n = 1 + random(2); n > 0; n--) body[Math.max(0, body.length - 1 - random(Math.min(body.length, 60)))] = random(256)
      const loaded = new LoadedDocument(doc)
      for (const change of changes.slice(0, at)) loaded.gate.offer(change)
      loaded.gate.offer({ ...victim, change: seal(Uint8Array.from(body)) })
      if (loaded.gate.verdicts().at(-1)?._tag === "Applied") {
        passed++
        loaded.settle()
        const again = Automerge.getBackend(Automerge.load(loaded.save()))
        t.strictSame(again.getHeads().sort(), loaded.state(() => []).heads, `seed ${seed} round ${round}`)
        again.free()
      }
      loaded.free()
    }
  }
  t.ok(passed > 20, `${passed} bent changes passed`)
})

t.test("the hostile corpus is refused, each for its reason, and the honest writer goes on", async (t) => {
  const folder = new URL("./hostile/automerge/", import.meta.url)
  const names = readdirSync(folder).filter((name) => name.endsWith(".bin")).map((name) => name.slice(0, -4)).sort()
  t.strictSame(names, ["base", ...cases().map(({ name }) => name)].sort(), "the files are those of the generator")
  for (const { name, why } of cases()) {
    const bytes = new Uint8Array(readFileSync(new URL(`${name}.bin`, folder)))
    const gate = new Gate(document)
    gate.begin()
    gate.offer({ log: logKey(0), block: 0, offset: 0, ms: 1, change: base })
    gate.offer({ log: logKey(0), block: 1, offset: 0, ms: 2, change: bytes })
    const verdict = gate.verdicts()[1]
    const said = verdict?._tag === "Refused" ? verdict.why : verdict?._tag ?? ""
    if (name.startsWith("mutated") && verdict?._tag === "Applied") continue
    t.match(said, why, name)
    const handle = newHandle(document, logKey(1))
    handle.applyChanges([base])
    handle.put("/", "after", "1", "str")
    handle.commit(undefined, 0)
    gate.offer({ log: logKey(1), block: 0, offset: 0, ms: 3, change: handle.getLastLocalChange() ?? base })
    t.equal(gate.verdicts()[2]?._tag, "Applied", `after ${name}`)
    handle.free()
  }
})

t.test("no bytes make the reader throw", async (t) => {
  const random = randomFrom(11)
  const chunk = honest("memory/a/b", 2, 6, random).changes.at(-1)?.change ?? base
  for (let i = 0; i < 5_000; i++) {
    const bytes = Uint8Array.from(chunk)
    for (let n = random(5); n >= 0; n--) bytes[random(bytes.length)] = random(256)
    const cut = bytes.subarray(0, random(4) === 0 ? random(bytes.length) : bytes.length)
    readChange(cut)
    readChange(seal(bodyOf(cut)))
  }
  t.pass("10,000 chunks read")
})

t.test("a change on a refused one stays out and names it", async (t) => {
  const handle = newHandle("config/mesh/x", logKey(0))
  const made: Array<Uint8Array> = []
  for (const key of ["a", "__proto__", "b"]) {
    handle.put("/", key, "1", "str")
    handle.commit(undefined, 0)
    made.push(handle.getLastLocalChange() ?? base)
  }
  const gate = new Gate("config/mesh/x")
  gate.begin()
  made.forEach((change, block) => gate.offer({ log: logKey(0), block, offset: 0, ms: 0, change }))
  t.match(gate.verdicts(), [{ _tag: "Applied" }, { _tag: "Refused", why: "the key __proto__ is forbidden" }, { _tag: "Refused", why: /^builds on change [0-9a-f]{8}, which was refused$/ }])
})

t.test("a deflated change is the same change", async (t) => {
  const { deflateRawSync } = await import("node:zlib")
  const packed = deflateRawSync(bodyOf(base))
  const chunk = new Uint8Array(Buffer.concat([base.subarray(0, 8), Uint8Array.of(2, packed.length), packed]))
  const read = readChange(chunk)
  t.ok(Result.isSuccess(read))
  if (Result.isSuccess(read)) t.strictSame([read.success.hash, Buffer.from(read.success.plain)], [Automerge.decodeChange(base).hash, Buffer.from(base)])
})

t.test("limits: size, keys of a map over many changes, waiting", async (t) => {
  const doc = "config/mesh/x"
  const gate = new Gate(doc)
  gate.begin()
  const handle = newHandle(doc, logKey(0))
  handle.put("/", "big", JSON.stringify("x".repeat(changeBytesMax)), "str")
  handle.commit(undefined, 0)
  gate.offer({ log: logKey(0), block: 0, offset: 0, ms: 0, change: handle.getLastLocalChange() ?? base })
  t.match(gate.verdicts()[0], { _tag: "Refused", why: /larger than/ })
  const keys = newHandle(doc, logKey(1))
  for (let block = 0, key = 0; block < 5; block++) {
    for (let n = 0; n < 1_024; n++) keys.put("/", `key ${key++}`, "1", "str")
    keys.commit(undefined, 0)
    gate.offer({ log: logKey(1), block, offset: 0, ms: 0, change: keys.getLastLocalChange() ?? base })
  }
  t.strictSame(gate.verdicts().slice(1).map(({ _tag }) => _tag), ["Applied", "Applied", "Applied", "Applied", "Refused"], `${mapKeysMax} keys fit`)
  // Another log that knows nothing of these keys is not bound by them, on any node.
  const other = newHandle(doc, logKey(2))
  other.put("/", "elsewhere", "1", "str")
  other.commit(undefined, 0)
  gate.offer({ log: logKey(2), block: 0, offset: 0, ms: 0, change: other.getLastLocalChange() ?? base })
  t.equal(gate.verdicts().at(-1)?._tag, "Applied")
  t.equal(gate.overflow(), undefined)
  const orphan = Automerge.encodeChange({ actor: changeActor(logKey(3), doc), author: null, seq: 1, startOp: 1, time: 0, message: null, deps: ["11".repeat(32)], ops: [] })
  for (let block = 0; block <= waitingChangesMax; block++) gate.offer({ log: logKey(3), block, offset: 0, ms: 0, change: orphan })
  t.match(gate.overflow(), /10001 changes .* wait/)
})

t.test("keys that may not be", async (t) => {
  for (const key of ["", "__proto__", "constructor", "prototype", "x".repeat(257), "a\nb", "a\u0000", "\u009b", "\ud800"]) t.ok(keyFault(key), JSON.stringify(key))
  for (const key of ["a", "größe", "toString", "hasOwnProperty", "x".repeat(256), "😀"]) t.equal(keyFault(key), undefined, key)
})

t.test("the constant first change is what Automerge makes", async (t) => {
  const genesis = genesisOf("memory/a/b")
  const handle = Automerge.getBackend(Automerge.init({ actor: "00".repeat(16) }))
  t.equal(handle.putObject("/", "text", ""), textObjectId)
  t.equal(handle.putObject("/", "fields", {}), fieldsObjectId)
  handle.commit(undefined, 0)
  t.strictSame(Buffer.from(handle.getLastLocalChange() ?? base), Buffer.from(genesis?.change ?? base))
  t.strictSame(handle.getHeads(), [genesis?.hash])
  t.equal(genesisOf("config/mesh/x"), undefined)
})

t.test("the memory of the gate survives its bytes at any moment", async (t) => {
  for (let seed = 1; seed <= 30; seed++) {
    const doc = documents[seed % 2] ?? ""
    const changes = shuffled(mixed(doc, seed), randomFrom(seed), false)
    const wanted = sorted(verdictsOf(new Gate(doc), changes))
    const cut = randomFrom(seed + 1)(changes.length)
    const first = new Gate(doc)
    const before = verdictsOf(first, changes.slice(0, cut))
    const bytes = encodeGateMemory(first.memory)
    const memory = decodeGateMemory(bytes)
    if (memory === undefined) return t.fail(`seed ${seed}: cannot be read`)
    t.strictSame(Buffer.from(encodeGateMemory(memory)), Buffer.from(bytes))
    const second = new Gate(doc, memory)
    const after = new Map([...before, ...verdictsOf(second, changes.slice(cut))])
    for (const { log, block, offset, verdict } of second.take().released) after.set(`${log.slice(0, 4)}/${block}.${offset}`, verdict._tag === "Refused" ? `Refused: ${verdict.why}` : verdict._tag === "Known" ? "Applied" : verdict._tag)
    t.strictSame(sorted(after), wanted, `seed ${seed}, cut at ${cut}`)
    t.equal(decodeGateMemory(bytes.subarray(0, bytes.length - 1)), undefined)
  }
})
