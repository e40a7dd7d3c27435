/** R5.7: whether a release fits this device, and if not, every reason as a sentence with its values. Pure. */
import type { Release, ReleaseKind } from "./release.ts"
import { compareVersions } from "./version.ts"

export interface CompatibleFacts {
  /** What can be installed here: images only where there are partitions for them. */
  readonly kinds: ReadonlyArray<ReleaseKind>
  /** `linux-x64`, `linux-arm64`. */
  readonly platform: string
  /** What the board calls itself; empty when it does not say. */
  readonly board: string
  /** Version of kOS that runs here. */
  readonly kos: string
  /** Version of what the release is called that is here; undefined when there is none. */
  readonly here: string | undefined
  /** Event types that this version reads. */
  readonly reads: ReadonlyArray<string>
  /** Of these, the ones that this device's own log holds: a version that cannot read them cannot read its own past. */
  readonly written: ReadonlyArray<string>
  readonly freeBytes: number
  /** Payload, unpacked tree, packs and reserve, without what the release asks beyond them. */
  readonly neededBytes: number
  /** R5.4; undefined when nothing that was committed has one. */
  readonly floor: string | undefined
}

export interface Judgement {
  readonly fits: boolean
  /** Sentences; empty when it fits. */
  readonly reasons: ReadonlyArray<string>
}

/** Event types that one sentence names. */
const namedMax = 8

export const judge = ({ custom }: Pick<Release, "custom">, facts: CompatibleFacts): Judgement => {
  const { kind, name, version, platform, boards, needs, events } = custom
  const runsKos = kind === "bundle" || kind === "os"
  const reasons: Array<string> = []
  const unless = (holds: boolean, reason: string): void => {
    if (!holds) reasons.push(reason)
  }
  // R5.7: kind, platform, board.
  unless(facts.kinds.includes(kind), `It is ${kindWords[kind]}, and this device cannot install one: it takes ${facts.kinds.length === 0 ? "nothing" : facts.kinds.map((one) => kindWords[one]).join(" or ")}.`)
  unless(platform === "any" || platform === facts.platform, `It is for ${platform}, and this device is ${facts.platform}.`)
  unless(boards.length === 0 || boards.some((board) => sameBoard(board, facts.board)),
    `It is for the ${boards.length === 1 ? "board" : "boards"} ${listed(boards)}, and this one ${facts.board === "" ? "does not say what it is" : `is ${facts.board}`}.`)
  // R5.7: version to come from. The same version again and older ones are no update.
  if (facts.here !== undefined) {
    const order = compareVersions(version, facts.here)
    unless(order !== 0, `${name} ${facts.here} is here already.`)
    unless(order >= 0, `It is older than ${name} ${facts.here}, which is here; an earlier version comes back by a rollback.`)
  }
  if (needs.from !== null) {
    unless(facts.here !== undefined, `It can only come from ${name} ${needs.from} or later, and there is no ${name} here.`)
    unless(facts.here === undefined || compareVersions(facts.here, needs.from) >= 0, `It can only come from ${name} ${needs.from} or later, and ${facts.here} is here; take ${needs.from} first.`)
  }
  // R5.4: nothing goes below the floor of what was committed.
  unless(facts.floor === undefined || compareVersions(version, facts.floor) >= 0, `It is older than ${name} ${facts.floor}, below which this device does not go any more for its security.`)
  // R5.7: kOS range.
  if (kind !== "bundle") {
    unless(needs.kosMin === null || compareVersions(facts.kos, needs.kosMin) >= 0, `It needs kOS ${needs.kosMin} or later, and kOS ${facts.kos} runs here.`)
    unless(needs.kosBelow === null || compareVersions(facts.kos, needs.kosBelow) < 0, `It needs a kOS before ${needs.kosBelow}, and kOS ${facts.kos} runs here.`)
  }
  // R5.7: event schema. A version that runs the node must read what the node has written; what runs beside it may write only what the node can read.
  if (runsKos) {
    const lost = missing(facts.written, events.reads)
    unless(events.reads.length === 0 || lost.length === 0, `It cannot read ${typesText(lost)}, which this device has written.`)
  } else {
    const foreign = missing([...events.reads, ...events.writes], facts.reads)
    unless(foreign.length === 0, `It works with ${typesText(foreign)}, which kOS ${facts.kos} does not know.`)
  }
  // R3.4, R5.7: space.
  const needed = facts.neededBytes + needs.freeBytes
  unless(facts.freeBytes >= needed, `It needs ${bytesText(needed)} of space, and ${bytesText(Math.max(0, facts.freeBytes))} are free.`)
  return { fits: reasons.length === 0, reasons }
}

/** The highest of the versions that committed releases named as their floor. */
export const floorOf = (minSecures: ReadonlyArray<string>): string | undefined =>
  minSecures.reduce<string | undefined>((floor, version) => floor === undefined || compareVersions(version, floor) > 0 ? version : floor, undefined)

/** May this device go back to a version? Undefined when it may. */
export const belowFloor = (name: string, version: string, floor: string | undefined): string | undefined =>
  // R5.4: a person cannot override it by rolling back.
  floor === undefined || compareVersions(version, floor) >= 0 ? undefined : `${name} ${version} is older than ${floor}, below which this device does not go any more for its security`

/** In decimal units, as the doors show bytes; rounded up, since it is asked what is needed. */
export const bytesText = (bytes: number): string => {
  const units = ["B", "kB", "MB", "GB", "TB"]
  let value = bytes
  let unit = 0
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000
    unit += 1
  }
  return `${unit === 0 || value >= 100 ? Math.ceil(value) : Math.ceil(value * 10) / 10} ${units[unit]}`
}

export const typesText = (types: ReadonlyArray<string>): string => {
  const more = types.length - namedMax
  return `events of type ${listed(more > 0 ? types.slice(0, namedMax) : types, more > 0 ? `${more} more` : undefined)}`
}

/** `a`, `a and b`, `a, b and c`. */
export const listed = (words: ReadonlyArray<string>, more?: string): string => {
  const all = more === undefined ? words : [...words, more]
  const last = all.at(-1)
  return last === undefined ? "" : all.length === 1 ? last : `${all.slice(0, -1).join(", ")} and ${last}`
}

export const missing = (wanted: ReadonlyArray<string>, known: ReadonlyArray<string>): ReadonlyArray<string> => {
  const has = new Set(known)
  return [...new Set(wanted)].filter((one) => !has.has(one)).sort()
}

/** Boards write their names with spaces and revisions, as in `Raspberry Pi 4 Model B Rev 1.4`: a release names the beginning. */
const sameBoard = (wanted: string, board: string): boolean => wanted !== "" && fold(board).startsWith(fold(wanted)) && /^($|[^a-z0-9])/.test(fold(board).slice(fold(wanted).length))

const fold = (board: string): string => board.trim().toLowerCase().replace(/\s+/g, " ")

const kindWords: Readonly<Record<ReleaseKind, string>> = { bundle: "a version of kOS", agent: "an agent", codex: "a codex module", os: "a system image" }
