/**
 * The digest of a rehearsal: what a version makes of a set of events, in words that every version has. No row, no schema number, nothing of how it is
 * stored; only what a person or a program could ask for. Two versions that agree in it are the same to whoever uses the node.
 *
 * It travels as lines (`wire.ts`). A new version's lines are hostile until decoded here; a kind of line that is not known is left out.
 */
import { Result, Schema } from "effect"
import { Malformed } from "../../codec/malformed.ts"

export const lineBytesMax = 512 * 1024
/** Lines of a digest. */
export const linesMax = 500_000
/** Bytes of a value that is shown; a longer one is told by its length. */
export const valueBytesMax = 64 * 1024

const Text = (max: number) => Schema.String.check(Schema.isMaxLength(max))
const Count = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))
const Hash = Schema.String.check(Schema.isPattern(/^[0-9a-f]{32}$/))

const Hello = Schema.Struct({ kind: Schema.Literal("hello"), v: Count, version: Text(64), node: Text(64) })
const Progress = Schema.Struct({ kind: Schema.Literal("progress"), events: Count })
/** A document: hashes of what readers get, of what was merged, of the changes it is made of, and of its conflicts. */
const Document = Schema.Struct({
  kind: Schema.Literal("document"), id: Text(512), live: Hash, value: Hash, heads: Hash, conflicts: Hash, faults: Schema.Array(Text(512)).check(Schema.isMaxLength(8)), stalled: Schema.NullOr(Text(512)),
  changes: Count, waiting: Count, held: Count
})
const Type = Schema.Struct({ kind: Schema.Literal("type"), type: Text(256), known: Count, unknown: Count, quarantined: Count })
const Member = Schema.Struct({ kind: Schema.Literal("member"), device: Text(64), name: Text(256), role: Text(64), standing: Text(64) })
const Setting = Schema.Struct({ kind: Schema.Literal("setting"), path: Text(512), json: Text(valueBytesMax) })
/** `offset` is null for a whole block. */
const Quarantined = Schema.Struct({ kind: Schema.Literal("quarantined"), log: Text(64), block: Count, offset: Schema.NullOr(Count), why: Text(512) })
const Totals = Schema.Struct({ kind: Schema.Literal("totals"), events: Count, documents: Count, operations: Count, epochs: Count, sealed: Count, quarantined: Count, blocks: Count })
const Done = Schema.Struct({ kind: Schema.Literal("done") })
/** An answer to `ask`: what readers get of the document; null when it has none or is too large. */
const Value = Schema.Struct({ kind: Schema.Literal("value"), id: Text(512), json: Schema.NullOr(Text(valueBytesMax)) })
const Fault = Schema.Struct({ kind: Schema.Literal("fault"), why: Text(2_048) })

const Line = Schema.Union([Hello, Progress, Document, Type, Member, Setting, Quarantined, Totals, Done, Value, Fault])
export type Line = typeof Line.Type
export type DocumentLine = typeof Document.Type
export type TypeLine = typeof Type.Type
export type MemberLine = typeof Member.Type
export type QuarantinedLine = typeof Quarantined.Type
export type Totals = typeof Totals.Type

export interface Digest {
  readonly documents: ReadonlyMap<string, DocumentLine>
  readonly types: ReadonlyMap<string, TypeLine>
  /** By device. */
  readonly members: ReadonlyMap<string, MemberLine>
  /** Settings in force without environment and flags: path to JSON. */
  readonly settings: ReadonlyMap<string, string>
  /** By `LOG/BLOCK.OFFSET`, or `LOG/BLOCK` for a whole block. */
  readonly quarantined: ReadonlyMap<string, QuarantinedLine>
  readonly totals: Totals
}

const kindsKnown: ReadonlySet<string> = new Set<Line["kind"]>(["hello", "progress", "document", "type", "member", "setting", "quarantined", "totals", "done", "value", "fault"])

/** One line of a digest; undefined when its kind is not known here. */
export const decodeLine = (text: string): Result.Result<Line | undefined, Malformed> => {
  const value = parsed(text)
  if (value === undefined) return Result.fail(new Malformed({ what: "digest", why: "a line is no JSON" }))
  if (typeof value !== "object" || value === null || !("kind" in value) || typeof value.kind !== "string") return Result.fail(new Malformed({ what: "digest", why: "a line has no kind" }))
  if (!kindsKnown.has(value.kind)) return Result.succeed(undefined)
  const line = Schema.decodeUnknownResult(Line)(value)
  return Result.isSuccess(line) ? Result.succeed(line.success) : Result.fail(new Malformed({ what: `digest line ${value.kind}`, why: String(line.failure).slice(0, 300) }))
}

const parsed = (text: string): unknown => {
  try {
    const value: unknown = JSON.parse(text)
    return value
  } catch {
    return undefined
  }
}

export const placeText = ({ log, block, offset }: { readonly log: string; readonly block: number; readonly offset: number | null }): string => offset === null ? `${log}/${block}` : `${log}/${block}.${offset}`

/** A digest line by line. `add` says true for what belongs to it. */
export const gatherDigest = () => {
  const documents = new Map<string, DocumentLine>()
  const types = new Map<string, TypeLine>()
  const members = new Map<string, MemberLine>()
  const settings = new Map<string, string>()
  const quarantined = new Map<string, QuarantinedLine>()
  let totals: Totals | undefined
  return {
    add: (line: Line): boolean => {
      switch (line.kind) {
        case "document": documents.set(line.id, line); return true
        case "type": types.set(line.type, line); return true
        case "member": members.set(line.device, line); return true
        case "setting": settings.set(line.path, line.json); return true
        case "quarantined": quarantined.set(placeText(line), line); return true
        case "totals": totals = line; return true
        default: return false
      }
    },
    /** Undefined while the totals are missing: it is not whole. */
    digest: (): Digest | undefined => totals === undefined ? undefined : { documents, types, members, settings, quarantined, totals }
  }
}
