/** Honest and dishonest writers of Automerge changes, for the tests of gate and documents. All chance comes from a seed. */
import * as Automerge from "@automerge/automerge"
import { createHash } from "node:crypto"
import { changeActor } from "../src/projections/documents/actor.ts"
import { genesisOf } from "../src/projections/documents/genesis.ts"
import type { LoggedChange } from "../src/projections/documents/types.ts"

export type Random = (below: number) => number

/** mulberry32 */
export const randomFrom = (seed: number): Random => {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 2 ** 32 * below)
  }
}

export const logKey = (n: number): string => (n + 17).toString(16).padStart(2, "0").repeat(32)

export type Handle = ReturnType<typeof Automerge.getBackend>

export const newHandle = (doc: string, log: string): Handle => {
  const handle = Automerge.getBackend(Automerge.init({ actor: changeActor(log, doc) }))
  const genesis = genesisOf(doc)
  if (genesis !== undefined) handle.applyChanges([genesis.change])
  return handle
}

export interface Made {
  readonly doc: string
  readonly changes: ReadonlyArray<LoggedChange>
}

const words = ["alpha", "beta", "größe", "日本", "😀", "k v", "x"]

/** Random edits like those of an ordinary Automerge program, in all shapes that the gate takes. */
export const randomEdit = (handle: Handle, random: Random, page: boolean): void => {
  const maps = ["/"]
  for (const key of handle.keys("/")) {
    const info = handle.getWithType("/", key)
    if (info?.[0] === "map" && !(page && key === "fields")) maps.push(info[1])
  }
  if (page) maps.push("2@00000000000000000000000000000000")
  const map = maps[random(maps.length)] ?? "/"
  const key = words[random(words.length)] ?? "x"
  const kind = random(12)
  if (kind < 5) handle.put(map, key, JSON.stringify(random(5)), "str")
  else if (kind === 5) {
    if (handle.get(map, key) !== undefined) handle.delete(map, key)
  } else if (kind === 6) handle.put(map, key, [null, true, 1.5, new Uint8Array([1, 2])][random(4)] ?? null)
  else if (kind === 7) {
    const inner = handle.putObject(map, key, {})
    handle.put(inner, "inner", "1", "str")
  } else if (kind === 8) {
    const list = handle.putObject(map, key, [])
    handle.insert(list, 0, "\"a\"", "str")
    handle.insert(list, 1, 3, "int")
    handle.delete(list, 0)
  } else if (page) {
    const text = "1@00000000000000000000000000000000"
    const length = handle.text(text).length
    const at = safe(handle.text(text), random(length + 1))
    const end = safe(handle.text(text), Math.min(length, at + random(4)))
    handle.splice(text, at, end - at, words[random(words.length)] ?? "")
  } else {
    const text = handle.putObject(map, key, "héllo")
    handle.splice(text, random(5), 1, "ab")
  }
}

const safe = (text: string, at: number): number => ((text.charCodeAt(at) & 0xfc00) === 0xdc00 ? at - 1 : at)

/** What `writers` logs wrote into one document, with merges, empty changes and concurrency; in one arrival order that is causal. */
export const honest = (doc: string, writers: number, count: number, random: Random, edit: (handle: Handle, random: Random, page: boolean) => void = randomEdit): Made => {
  const page = doc.startsWith("memory/")
  const logs = Array.from({ length: writers }, (_, i) => logKey(i))
  const handles = logs.map((log) => newHandle(doc, log))
  const blocks = logs.map(() => 0)
  const changes: Array<LoggedChange> = []
  while (changes.length < count) {
    const i = random(writers)
    const handle = handles[i]
    const other = handles[random(writers)]
    if (handle === undefined) continue
    if (random(3) === 0 && other !== undefined && other !== handle) handle.merge(other)
    for (let n = 1 + random(3); n > 0; n--) edit(handle, random, page)
    if (handle.pendingOps() === 0) {
      if (random(4) !== 0) continue
      handle.emptyChange(undefined, 1_000)
    } else handle.commit(undefined, 1_700_000_000_000 + changes.length)
    const change = handle.getLastLocalChange()
    if (change === null) continue
    const block = blocks[i] ?? 0
    blocks[i] = block + 1
    changes.push({ log: logs[i] ?? "", block, offset: random(3), ms: 1_000 + changes.length, change })
  }
  for (const handle of handles) handle.free()
  return { doc, changes }
}

/** Any order of arrival that keeps each log's own order, with some changes offered twice. */
export const shuffled = (changes: ReadonlyArray<LoggedChange>, random: Random, duplicates = true): ReadonlyArray<LoggedChange> => {
  const queues = new Map<string, Array<LoggedChange>>()
  for (const change of changes) queues.set(change.log, [...(queues.get(change.log) ?? []), change])
  const out: Array<LoggedChange> = []
  const lists = [...queues.values()]
  while (lists.some((list) => list.length > 0)) {
    const next = lists[random(lists.length)]?.shift()
    if (next === undefined) continue
    out.push(next)
    if (duplicates && random(6) === 0) out.push(out[random(out.length)] ?? next)
  }
  return out
}

/** The chunk with length and checksum made right again. */
export const seal = (body: Uint8Array): Uint8Array => {
  const size: Array<number> = []
  let rest = body.byteLength
  do {
    size.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0))
    rest >>>= 7
  } while (rest > 0)
  const tail = Buffer.concat([Uint8Array.of(1, ...size), body])
  return new Uint8Array(Buffer.concat([Uint8Array.of(0x85, 0x6f, 0x4a, 0x83), createHash("sha256").update(tail).digest().subarray(0, 4), tail]))
}

export const bodyOf = (chunk: Uint8Array): Uint8Array => {
  let at = 9
  while ((chunk[at] ?? 0) >= 0x80) at++
  return chunk.subarray(at + 1)
}
