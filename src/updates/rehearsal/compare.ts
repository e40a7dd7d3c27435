/**
 * What a new version makes otherwise than the running one, in words.
 *
 * Three kinds of difference. *Failing*: a document, a member or an event that counts differently; the new version is not fit for this node's data. *Shown*: what a person should
 * say yes to, such as a setting that is in force with another value. *Expected*: what every newer version brings (types that it knows now, new settings), and what the release announces.
 *
 * A release announces a difference by a line of `migrations` that begins with what it is about, a colon and a space: `config/mesh/agents: times are in seconds now`, `memory/*: …`,
 * `memory.changed/1: …`, `health.interval: …`, `members: …`. A trailing `*` stands for any ending.
 */
import type { Digest, DocumentLine } from "./digest.ts"

/** Lines of each list of a report; what is beyond is counted. */
export const differencesMax = 64
/** Documents of which the values are asked for. */
export const askedMax = 32
const charsMax = 400
const valueCharsMax = 60
const pathsShownMax = 6
const placesShownMax = 8

export interface Compared {
  /** Failing and shown ones, the failing first. */
  readonly differences: ReadonlyArray<string>
  readonly expected: ReadonlyArray<string>
  /** How many of the differences are failing. */
  readonly failing: number
}

export interface CompareContext {
  readonly live: Digest
  readonly fresh: Digest
  /** JSON of what readers get of a document, where it was asked for. */
  readonly values: ReadonlyMap<string, { readonly live: string | undefined; readonly fresh: string | undefined }>
  readonly migrations: ReadonlyArray<string>
  /** Events of types that the running version does not know and that change this document. */
  readonly unread: (document: string) => number
  /** An event or block for people: whose it is, its type, where it stands. */
  readonly describe: (place: { readonly log: string; readonly block: number; readonly offset: number | null }) => string
  readonly nameOf: (device: string) => string
  readonly version: string
}

/** Documents that the two have in different states, those whose values differ first, each group by id. */
export const differingDocuments = (live: Digest, fresh: Digest): ReadonlyArray<string> => {
  const ids = [...new Set([...live.documents.keys(), ...fresh.documents.keys()])].toSorted()
  const differing = ids.filter((id) => documentDiffers(live.documents.get(id), fresh.documents.get(id)))
  const byValue = differing.filter((id) => live.documents.get(id)?.live !== fresh.documents.get(id)?.live)
  return [...byValue, ...differing.filter((id) => !byValue.includes(id))]
}

const documentDiffers = (a: DocumentLine | undefined, b: DocumentLine | undefined): boolean =>
  a === undefined || b === undefined || documentParts(a, b).length > 0

const documentParts = (a: DocumentLine, b: DocumentLine): ReadonlyArray<string> => [
  ...(a.live === b.live ? [] : ["what readers get"]),
  ...(a.value === b.value ? [] : ["the merged value"]),
  ...(a.heads === b.heads ? [] : [`the changes that count (${a.changes} and ${b.changes})`]),
  ...(a.conflicts === b.conflicts ? [] : ["its conflicts"]),
  ...(a.faults.join("\n") === b.faults.join("\n") ? [] : [b.faults.length > 0 ? `it breaks its rules: ${b.faults[0] ?? ""}` : "it breaks no rule any more"]),
  ...(a.stalled === b.stalled ? [] : [b.stalled === null ? "it stalls no more" : `it stalls: ${b.stalled}`]),
  ...(a.waiting === b.waiting && a.held === b.held ? [] : ["changes that wait or are held"])
]

// R7.2: what it makes of the same events is compared with what the running version makes of them.
export const compareDigests = (context: CompareContext): Compared => {
  const { live, fresh, migrations } = context
  const failing = bounded()
  const shown = bounded()
  const expected = bounded()
  const announced = announcements(migrations)
  const say = (about: string, sentence: string, kind: typeof failing): void => {
    const by = announced(about)
    if (by === undefined) kind.add(sentence)
    else expected.add(`${sentence} (announced: ${by})`)
  }
  const learned = types(context, say, { failing, expected })
  let configAsExpected = false
  for (const id of differingDocuments(live, fresh)) {
    const unread = context.unread(id)
    if (unread > 0 && learned) {
      configAsExpected ||= id.startsWith("config/")
      expected.add(`${documentSentence(id, context)}; it reads ${unread} events about it that the running version cannot read`)
    } else {
      configAsExpected ||= id.startsWith("config/") && announced(id) !== undefined
      say(id, documentSentence(id, context), failing)
    }
  }
  quarantined(context, say, { failing, shown })
  memberSentences(context, say, failing)
  settings(context, say, configAsExpected ? expected : shown, expected)
  if (live.totals.sealed !== fresh.totals.sealed) failing.add(`it cannot open ${fresh.totals.sealed} blocks, the running version ${live.totals.sealed}`)
  if (live.totals.blocks !== fresh.totals.blocks) failing.add(`it folded ${fresh.totals.blocks} blocks of the ${live.totals.blocks} that it was given`)
  if (live.totals.epochs !== fresh.totals.epochs) failing.add(`it finds ${fresh.totals.epochs} key epochs, the running version ${live.totals.epochs}`)
  const failed = failing.list(differencesMax)
  return { differences: [...failed, ...shown.list(Math.max(1, differencesMax - failed.length))], expected: expected.list(differencesMax), failing: failing.count() }
}

type Bounded = ReturnType<typeof bounded>
type Say = (about: string, sentence: string, kind: Bounded) => void

/** True when it reads types that the running version cannot read. */
const types = ({ live, fresh }: CompareContext, say: Say, { failing, expected }: { readonly failing: Bounded; readonly expected: Bounded }): boolean => {
  let learned = false
  for (const type of [...new Set([...live.types.keys(), ...fresh.types.keys()])].toSorted()) {
    const a = live.types.get(type) ?? { known: 0, unknown: 0, quarantined: 0 }
    const b = fresh.types.get(type) ?? { known: 0, unknown: 0, quarantined: 0 }
    const [before, after] = [a.known + a.unknown + a.quarantined, b.known + b.unknown + b.quarantined]
    if (before !== after) say(type, `it found ${after} events of type ${type}, the running version ${before}`, failing)
    if (a.unknown > 0 && b.unknown === 0) {
      learned = true
      expected.add(`it reads ${a.unknown} events of type ${type}, which the running version cannot read`)
    } else if (b.unknown > a.unknown) say(type, `it cannot read ${b.unknown - a.unknown} events of type ${type}, which the running version reads`, failing)
  }
  return learned
}

const documentSentence = (id: string, { live, fresh, values }: CompareContext): string => {
  const [a, b] = [live.documents.get(id), fresh.documents.get(id)]
  if (a === undefined) return `document ${id} is there in the new version only`
  if (b === undefined) return `document ${id} is missing in the new version`
  if (a.live === b.live) return `document ${id}: ${documentParts(a, b).join(", ")}`
  const pair = values.get(id)
  const paths = pair?.live === undefined || pair.fresh === undefined ? [] : differingPaths(pair.live, pair.fresh)
  if (paths.length === 0) return `document ${id}: ${documentParts(a, b).join(", ")}`
  const more = paths.length > pathsShownMax ? ` and ${paths.length - pathsShownMax} more` : ""
  return `document ${id}: ${paths.slice(0, pathsShownMax).map(({ path, live, fresh }) => `${path} is ${live} here and ${fresh} in the new version`).join("; ")}${more}`
}

/** Keys of the two objects whose values differ, with both in short. */
const differingPaths = (live: string, fresh: string): ReadonlyArray<{ readonly path: string; readonly live: string; readonly fresh: string }> => {
  const [a, b] = [entriesOf(live), entriesOf(fresh)]
  return [...new Set([...a.keys(), ...b.keys()])].toSorted().flatMap((path) => {
    const [x, y] = [a.get(path), b.get(path)]
    return x === y ? [] : [{ path: short(path), live: x === undefined ? "missing" : short(x), fresh: y === undefined ? "missing" : short(y) }]
  })
}

const entriesOf = (json: string): ReadonlyMap<string, string> => {
  try {
    const value: unknown = JSON.parse(json)
    return typeof value === "object" && value !== null && !Array.isArray(value) ? new Map(Object.entries(value).map(([key, entry]) => [key, sorted(entry)])) : new Map([["the whole", json]])
  } catch {
    return new Map([["the whole", json]])
  }
}

/** The same text for the same value, whatever the order of its keys. */
const sorted = (value: unknown): string => JSON.stringify(value, (_key, entry: unknown) =>
  typeof entry === "object" && entry !== null && !Array.isArray(entry) ? Object.fromEntries(Object.entries(entry).toSorted(([a], [b]) => a < b ? -1 : 1)) : entry) ?? "missing"

const short = (text: string): string => text.length <= valueCharsMax ? text : `${text.slice(0, valueCharsMax)}… (${text.length} characters)`

const quarantined = ({ live, fresh, describe }: CompareContext, say: Say, { failing, shown }: { readonly failing: Bounded; readonly shown: Bounded }): void => {
  const newly = [...fresh.quarantined].filter(([place]) => !live.quarantined.has(place)).map(([, line]) => line)
  for (const [why, lines] of grouped(newly, ({ why }) => why)) {
    const places = lines.slice(0, placesShownMax).map(describe).join(", ")
    say("quarantine", `it quarantines ${lines.length} that count here (${why}): ${places}${lines.length > placesShownMax ? " and more" : ""}`, failing)
  }
  const released = [...live.quarantined].filter(([place]) => !fresh.quarantined.has(place)).map(([, line]) => line)
  if (released.length > 0) {
    say("quarantine", `it lets ${released.length} count that the running version quarantines: ${released.slice(0, placesShownMax).map(describe).join(", ")}${released.length > placesShownMax ? " and more" : ""}`, shown)
  }
  if (newly.length === 0 && fresh.totals.quarantined > live.totals.quarantined) say("quarantine", `it quarantines ${fresh.totals.quarantined - live.totals.quarantined} more than the running version`, failing)
}

const grouped = <A>(list: ReadonlyArray<A>, by: (entry: A) => string): ReadonlyMap<string, ReadonlyArray<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const entry of list) {
    const group = groups.get(by(entry))
    if (group === undefined) groups.set(by(entry), [entry])
    else group.push(entry)
  }
  return groups
}

const memberSentences = ({ live, fresh, nameOf }: CompareContext, say: Say, failing: Bounded): void => {
  for (const device of [...new Set([...live.members.keys(), ...fresh.members.keys()])].toSorted()) {
    const [a, b] = [live.members.get(device), fresh.members.get(device)]
    if (a === undefined || b === undefined) say("members", `${b === undefined ? nameOf(device) : b.name} is a device of the mesh ${b === undefined ? "here" : "in the new version"} only`, failing)
    else if (a.role !== b.role || a.standing !== b.standing || a.name !== b.name) say("members", `${nameOf(device)} is ${a.standing} ${a.name} (${a.role}) here and ${b.standing} ${b.name} (${b.role}) in the new version`, failing)
  }
}

const settings = ({ live, fresh }: CompareContext, say: Say, changed: Bounded, expected: Bounded): void => {
  for (const path of [...new Set([...live.settings.keys(), ...fresh.settings.keys()])].toSorted()) {
    const [a, b] = [live.settings.get(path), fresh.settings.get(path)]
    if (a === b) continue
    if (a === undefined) expected.add(`there is a new setting ${path}, which is ${short(b ?? "")}`)
    else say(path, b === undefined ? `setting ${path} is ${short(a)} here and is not known in the new version` : `setting ${path} is ${short(a)} here and ${short(b)} in the new version`, changed)
  }
}

/** Says by which line of `migrations` a difference was announced. */
const announcements = (migrations: ReadonlyArray<string>): (about: string) => string | undefined => {
  const lines = migrations.flatMap((line) => {
    const at = line.indexOf(": ")
    return at <= 0 ? [] : [{ line, about: line.slice(0, at).trim() }]
  })
  return (about) => lines.find((entry) => entry.about.endsWith("*") ? about.startsWith(entry.about.slice(0, -1)) : about === entry.about)?.line
}

const bounded = () => {
  const kept: Array<string> = []
  let count = 0
  return {
    add: (sentence: string): void => {
      count++
      if (kept.length < differencesMax) kept.push(plain(sentence, charsMax))
    },
    count: () => count,
    list: (max: number): ReadonlyArray<string> => count <= max ? kept : [...kept.slice(0, max - 1), `and ${count - max + 1} more`]
  }
}

/** What another version said, for a line of a report: no control characters, no keys, no more than so many characters. */
export const plain = (text: string, max: number): string => {
  const clean = text.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, " ").replace(/[0-9a-fA-F]{64,}/g, (digits) => `${digits.slice(0, 8)}…`)
  return clean.length <= max ? clean : `${clean.slice(0, max - 1)}…`
}
