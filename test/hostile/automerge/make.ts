/**
 * The hostile changes of this folder: `node test/hostile/automerge/make.ts` writes them again, byte for byte. Each stands in the log `logKey(0)` of
 * `document`, after the honest change `base.bin`. `why` is what the gate has to say of it; "Waiting" and "Known" are verdicts.
 */
import * as Automerge from "@automerge/automerge"
import { writeFileSync } from "node:fs"
import { deflateRawSync } from "node:zlib"
import { changeActor } from "../../../src/projections/documents/actor.ts"
import { bodyOf, logKey, randomFrom, seal } from "../../documents-world.ts"

export const document = "config/mesh/hostile"

export interface HostileCase {
  readonly name: string
  readonly change: Uint8Array
  readonly why: RegExp
}

const actor = changeActor(logKey(0), document)

type Op = Parameters<typeof Automerge.encodeChange>[0]["ops"][number]

const encode = (fields: { readonly seq: number; readonly startOp: number; readonly deps: Array<string>; readonly actor?: string }, ops: Array<Op>): Uint8Array =>
  Automerge.encodeChange({ actor, author: null, time: 0, message: null, ...fields, ops })

export const base: Uint8Array = encode({ seq: 1, startOp: 1, deps: [] }, [{ action: "set", obj: "_root", key: "honest", value: "1", pred: [] }])
const baseHash = Automerge.decodeChange(base).hash
const next = { seq: 2, startOp: 2, deps: [baseHash] }
const put = (key: string): Op => ({ action: "set", obj: "_root", key, value: "2", pred: [] })

const uleb = (value: number): Array<number> => {
  const out: Array<number> = []
  let rest = value
  do {
    out.push(rest % 128 + (rest >= 128 ? 128 : 0))
    rest = Math.floor(rest / 128)
  } while (rest > 0)
  return out
}
const sleb = (value: number): Array<number> => {
  const out = uleb(value)
  const last = out[out.length - 1] ?? 0
  if ((last & 0x40) === 0) return out
  out[out.length - 1] = last | 0x80
  return [...out, 0]
}

/** A change out of raw columns, on top of the base. */
const raw = (columns: ReadonlyArray<readonly [number, ReadonlyArray<number>]>, startOp = 2): Uint8Array => seal(Uint8Array.from([
  1, ...Buffer.from(baseHash, "hex"), 16, ...Buffer.from(actor, "hex"), 2, ...uleb(startOp), 0, 0, 0, columns.length,
  ...columns.flatMap(([spec, data]) => [...uleb(spec), ...uleb(data.length)]), ...columns.flatMap(([, data]) => data)
]))

const run = (count: number, value: ReadonlyArray<number>): ReadonlyArray<number> => [...sleb(count), ...value]

const manyPuts = (count: number): Uint8Array => raw([
  [0x15, run(count, [1, 0x6b])], [0x34, uleb(count)], [0x42, run(count, [1])], [0x56, run(count, [0])], [0x70, run(count, [0])]
])

const nested = (depth: number, action: "makeMap" | "makeList"): Uint8Array => encode(next, Array.from({ length: depth }, (_, i): Op => i === 0
  ? { action, obj: "_root", key: "deep", pred: [] }
  : action === "makeMap"
  ? { action, obj: `${i + 1}@${actor}`, key: "d", pred: [] }
  // The published type of an operation leaves out lists.
  : Object.assign(Object.create(null), { action, obj: `${i + 1}@${actor}`, elemId: "_head", insert: true, pred: [] })))

const spoiled = (chunk: Uint8Array, change: (bytes: Uint8Array) => void): Uint8Array => {
  const copy = new Uint8Array(chunk)
  change(copy)
  return copy
}

const honestNext = encode(next, [put("b"), put("c")])
const columnsAt = 1 + 32 + 1 + 16 + 5

const deflated = (plain: Uint8Array, body: Uint8Array): Uint8Array => {
  const packed = deflateRawSync(body)
  return new Uint8Array(Buffer.concat([plain.subarray(0, 8), Uint8Array.of(2, ...uleb(packed.length)), packed]))
}

const mutations = (): ReadonlyArray<HostileCase> => {
  const random = randomFrom(7)
  return Array.from({ length: 24 }, (_, i) => {
    const body = Array.from(bodyOf(honestNext))
    for (let n = 1 + random(3); n > 0; n--) body[columnsAt + random(body.length - columnsAt)] = random(256)
    return { name: `mutated-${String(i).padStart(2, "0")}`, change: seal(Uint8Array.from(body)), why: /./ }
  })
}

export const cases = (): ReadonlyArray<HostileCase> => [
  { name: "spoofed-actor", change: encode({ seq: 1, startOp: 2, deps: [baseHash], actor: changeActor(logKey(1), document) }, [put("b")]), why: /actor is not this log's/ },
  { name: "bad-checksum", change: spoiled(honestNext, (bytes) => void (bytes[4] = (bytes[4] ?? 0) ^ 1)), why: /checksum is wrong/ },
  { name: "flipped-bit", change: spoiled(honestNext, (bytes) => void (bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1)), why: /checksum is wrong/ },
  { name: "start-op-near-2-32", change: encode({ ...next, startOp: 2 ** 32 - 2 }, [put("b")]), why: /out of range/ },
  { name: "start-op-ahead", change: encode({ ...next, startOp: 1_000_000 }, [put("b")]), why: /operation counter 1000000, expected 2/ },
  { name: "start-op-behind", change: encode({ ...next, startOp: 1 }, [put("b")]), why: /operation counter 1, expected 2/ },
  { name: "300001-operations", change: manyPuts(300_001), why: /300001 operations/ },
  { name: "2000000000-operations", change: manyPuts(2_000_000_000), why: /2000000000 operations/ },
  { name: "10000-rivals", change: manyPuts(10_000), why: /rivals itself/ },
  { name: "nesting-bomb", change: nested(3_000, "makeList"), why: /nested deeper than 32/ },
  { name: "2000-deep", change: nested(2_000, "makeMap"), why: /nested deeper than 32/ },
  { name: "33-deep", change: nested(33, "makeMap"), why: /nested deeper than 32/ },
  { name: "proto-key", change: encode(next, [{ action: "makeMap", obj: "_root", key: "__proto__", pred: [] }]), why: /key __proto__ is forbidden/ },
  { name: "constructor-key", change: encode(next, [put("constructor")]), why: /key constructor is forbidden/ },
  { name: "empty-key", change: encode(next, [put("")]), why: /empty key/ },
  { name: "long-key", change: encode(next, [put("k".repeat(257))]), why: /more than 256 characters/ },
  { name: "control-key", change: encode(next, [put("a\u001b[2J")]), why: /control character/ },
  { name: "too-many-keys", change: encode(next, Array.from({ length: 4_097 }, (_, i) => put(`k${i}`))), why: /more than 4096 keys/ },
  { name: "missing-dependency", change: encode({ ...next, deps: ["ab".repeat(32)] }, [put("b")]), why: /^Waiting$/ },
  { name: "sequence-gap", change: encode({ ...next, seq: 3 }, [put("b")]), why: /sequence number 3, expected 2/ },
  { name: "sequence-again", change: encode({ ...next, seq: 1 }, [put("b")]), why: /sequence number 1, expected 2/ },
  { name: "own-past-left-out", change: encode({ seq: 2, startOp: 1, deps: [] }, [put("b")]), why: /does not build on/ },
  { name: "truncated-columns", change: seal(bodyOf(honestNext).subarray(0, bodyOf(honestNext).length - 6)), why: /cut short/ },
  { name: "trailing-bytes", change: seal(Buffer.concat([bodyOf(honestNext), Buffer.from("tail")])), why: /follow the columns/ },
  { name: "chunk-cut", change: honestNext.subarray(0, honestNext.length - 5), why: /length is wrong/ },
  { name: "empty", change: new Uint8Array(0), why: /shorter than/ },
  { name: "not-automerge", change: new Uint8Array(Buffer.from("this is not a change at all")), why: /not an Automerge chunk/ },
  { name: "document-chunk", change: spoiled(honestNext, (bytes) => void (bytes[8] = 0)), why: /chunk type 0/ },
  { name: "deflate-bomb", change: deflated(honestNext, new Uint8Array(64 * 1024 * 1024)), why: /does not inflate/ },
  { name: "deflate-torn", change: deflated(honestNext, bodyOf(honestNext)).subarray(0, 40), why: /length is wrong/ },
  { name: "too-large", change: seal(new Uint8Array(300 * 1024)), why: /larger than 262144 bytes/ },
  { name: "unknown-predecessor", change: encode(next, [{ ...put("honest"), pred: [`99@${actor}`] }]), why: /later one/ },
  { name: "predecessor-of-another-key", change: encode(next, [{ ...put("other"), pred: [`1@${actor}`] }]), why: /predecessor/ },
  { name: "predecessor-is-itself", change: encode(next, [{ ...put("honest"), pred: [`2@${actor}`] }]), why: /later one/ },
  { name: "stranger-as-predecessor", change: encode(next, [{ ...put("honest"), pred: [`1@${"dd".repeat(16)}`] }]), why: /predecessor/ },
  { name: "unknown-object", change: encode(next, [{ ...put("b"), obj: `1@${actor}` }]), why: /object that its author cannot know/ },
  { name: "deletion-of-nothing", change: encode(next, [{ action: "del", obj: "_root", key: "honest", pred: [] }]), why: /deletion of nothing/ },
  { name: "counter", change: encode(next, [{ action: "inc", obj: "_root", key: "honest", value: 1, pred: [`1@${actor}`] }]), why: /action 5/ },
  { name: "run-of-one", change: raw([[0x15, [1, 1, 0x6b]], [0x34, [1]], [0x42, [0x7f, 1]], [0x56, [0x7f, 0]], [0x70, [0x7f, 0]]]), why: /malformed/ },
  ...mutations()
]

if (process.argv[1] === import.meta.filename) {
  const write = (name: string, bytes: Uint8Array): void => writeFileSync(new URL(`./${name}.bin`, import.meta.url), bytes)
  write("base", base)
  for (const { name, change } of cases()) write(name, change)
}
