/**
 * The edits that kOS and its peers are given: the same for all, made once from a seed. Half of the documents are configuration
 * (registers with short JSON values), half are pages of text (paragraphs written and mended by splices).
 *
 * Time runs in rounds. Within a round no writer sees another's edits; at its end all of them meet. A writer works in bursts on
 * one document; about one burst in five meets another writer's burst on the same document in the same round, so that real forks
 * exist. Positions in text are fractions of the length that the writer sees, so that each implementation resolves them itself.
 */

export type LogicalEdit =
  | { readonly kind: "set"; readonly key: string; readonly json: string }
  | { readonly kind: "splice"; readonly at: number; readonly remove: number; readonly insert: string }

export interface Burst {
  readonly writer: number
  readonly doc: number
  readonly edits: ReadonlyArray<LogicalEdit>
}

export interface Workload {
  readonly writers: number
  /** `config` documents hold registers, `page` documents hold one text. */
  readonly docs: ReadonlyArray<"config" | "page">
  /** First contents, by writer 0, one burst for each document: everybody has these before anyone goes away. */
  readonly base: ReadonlyArray<Burst>
  readonly rounds: ReadonlyArray<ReadonlyArray<Burst>>
  readonly changes: number
}

export const writersDefault = 9

export const makeWorkload = (changes: number, options: { readonly docs?: number; readonly rounds?: number; readonly seed?: number } = {}): Workload => {
  const { docs: docCount = 200, rounds: roundCount = 40, seed = 1 } = options
  const random = seeded(seed)
  const below = (n: number) => Math.floor(random() * n)
  const words = (count: number) => {
    let text = ""
    for (let i = 0; i < count; i++) text += vocabulary[below(vocabulary.length)] + (random() < 0.08 ? ". " : " ")
    return text
  }
  const value = () => {
    const kind = random()
    return JSON.stringify(kind < 0.25 ? below(65_536) : kind < 0.4 ? random() < 0.5 : kind < 0.9 ? words(1 + below(4)).trim() : [words(2).trim(), words(2).trim()])
  }
  const set = (): LogicalEdit => ({ kind: "set", key: `${vocabulary[below(8)]}.${vocabulary[8 + below(5)]}`, json: value() })
  const splice = (): LogicalEdit => {
    const kind = random()
    if (kind < 0.55) return { kind: "splice", at: random(), remove: 0, insert: words(1 + below(5)) }
    if (kind < 0.8) return { kind: "splice", at: random(), remove: 1 + below(20), insert: words(1 + below(2)) }
    return { kind: "splice", at: random(), remove: 1 + below(30), insert: "" }
  }
  const docs: Array<"config" | "page"> = []
  const base: Array<Burst> = []
  for (let doc = 0; doc < docCount; doc++) {
    docs.push(doc % 2 === 0 ? "config" : "page")
    const edits: Array<LogicalEdit> = []
    if (doc % 2 === 0) for (let i = 0; i < 20; i++) edits.push(set())
    else for (let i = 0; i < 5; i++) edits.push({ kind: "splice", at: 1, remove: 0, insert: `${words(40)}\n\n` })
    base.push({ writer: 0, doc, edits })
  }
  const rounds: Array<ReadonlyArray<Burst>> = []
  let left = changes
  for (let round = 0; round < roundCount; round++) {
    let budget = round === roundCount - 1 ? left : Math.floor(changes / roundCount)
    left -= budget
    const bursts: Array<Burst> = []
    for (let turn = 0; budget > 0; turn++) {
      const doc = below(docCount)
      const count = Math.min(budget, 1 + below(39))
      const edits: Array<LogicalEdit> = []
      for (let i = 0; i < count; i++) edits.push(docs[doc] === "config" ? set() : splice())
      bursts.push({ writer: turn % writersDefault, doc, edits })
      budget -= count
    }
    rounds.push(bursts)
  }
  return { writers: writersDefault, docs, base, rounds, changes }
}

/** Where a splice stands in a text of this length. */
export const resolveSplice = (edit: Extract<LogicalEdit, { kind: "splice" }>, length: number) => {
  const at = Math.floor(edit.at * length)
  return { at, remove: Math.min(edit.remove, length - at), insert: edit.insert }
}

/** mulberry32: small, fast, the same everywhere. */
export const seeded = (seed: number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

const vocabulary = (
  "network agent memory sync update limit backup power level port name retry window quota address the a of and to in that it is was " +
  "node log event page field carries holds meets merges river cabin winter battery solar panel station clinic harvest garden fence " +
  "bridge measure record change history signed verified waiting returned device neighbour household uplink release slowly often never " +
  "between before after because although every third small large green copper iron wooden paper"
).split(" ")
