import type { Conflict, DocId, DocumentState, Edit, Json } from "../projections/documents/types.ts"
import { familyOf, shown } from "../projections/families/doc-id.ts"
import { applyTextEdits, diffKeys, type KeyDifference } from "../projections/families/diff.ts"
import { canonicalJson, objectOf, type JsonObject } from "../projections/families/json.ts"
import { findSecret, secretSentence } from "../projections/families/secret-scan.ts"
import { findSetting } from "../projections/families/settings.ts"
import { validate } from "../projections/families/validate.ts"
import { readWord } from "../projections/families/values.ts"
import { Refusal } from "./refusal.ts"

/** What the deciders of documents share: what they are given, what they answer, and the checks that each change passes before it is answered. */

/** What a decider needs of a document. A decider compares wishes with the merged `value` and shows people the `live` one. */
export interface DocumentView extends Pick<DocumentState, "value" | "live" | "conflicts"> {
  /** Faults of the merged value when they are known already; else they are computed. */
  readonly faults?: ReadonlyArray<string>
}

/** Documents by id; a Map is one. `keys` need only name the documents of the decider's own family. */
export interface Documents {
  readonly get: (doc: DocId) => DocumentView | undefined
  readonly keys: () => Iterable<DocId>
}

/** What one event will say: edits of one document. */
export interface DocumentChange {
  readonly doc: DocId
  readonly edits: ReadonlyArray<Edit>
  /** Registers that change, for indexes and history; a field of a page is `fields.NAME`. */
  readonly paths: ReadonlyArray<string>
  /** One sentence without a final dot, for people. */
  readonly summary: string
}

/** No changes means that everything is already so. */
export interface Decision {
  readonly changes: ReadonlyArray<DocumentChange>
}

export type Decided = Refusal | Decision

export const isRefusal = (decided: Decided): decided is Refusal => decided instanceof Refusal

export const nothingToDo: Decision = { changes: [] }

/** JSON bytes of a document's registers at most; leaves room under the gate's limit for history and for concurrent edits. */
export const documentBytesMax = 160 * 1024

export const usage = (detail: string, extra: { readonly path?: string; readonly hint?: string } = {}): Refusal => new Refusal({ kind: "usage", detail, ...extra })

export const notFound = (detail: string, hint?: string): Refusal => new Refusal({ kind: "not-found", detail, ...(hint === undefined ? {} : { hint }) })

export const conflicting = (detail: string, extra: { readonly path?: string; readonly hint?: string } = {}): Refusal => new Refusal({ kind: "conflict", detail, ...extra })

/** A refusal when a value that is to stand at `path` holds a secret. */
export const refuseSecret = (path: string, value: Json): Refusal | undefined => {
  const found = findSecret(path, value)
  return found === undefined ? undefined : new Refusal({ kind: "policy", detail: secretSentence(found), path: found.path })
}

/** The merged value of a document; empty when there is none. */
export const valueOf = (documents: Documents, doc: DocId): JsonObject => documents.get(doc)?.value ?? {}

export const liveOf = (documents: Documents, doc: DocId): JsonObject => documents.get(doc)?.live ?? {}

/** Whether a register has several values; writing it settles that even when the text is the winner's. */
export const isConflicted = (documents: Documents, doc: DocId, key: string): boolean => documents.get(doc)?.conflicts.some((conflict) => conflict.key === key) ?? false

/** What the document will say when nobody else writes meanwhile. */
export const withEdits = (value: JsonObject, edits: ReadonlyArray<Edit>): JsonObject => {
  const registers = new Map(Object.entries(value))
  const fieldsNow = registers.get("fields")
  const fields = new Map(typeof fieldsNow === "object" && fieldsNow !== null && !Array.isArray(fieldsNow) ? Object.entries(fieldsNow) : [])
  let fieldsTouched = false
  for (const edit of edits) {
    switch (edit._tag) {
      case "Set": registers.set(edit.key, JSON.parse(edit.json)); break
      case "Delete": registers.delete(edit.key); break
      case "Text":
      case "Splice": {
        const text = registers.get("text")
        registers.set("text", applyTextEdits(typeof text === "string" ? text : "", [edit]))
        break
      }
      case "SetField": fields.set(edit.key, JSON.parse(edit.json)); fieldsTouched = true; break
      case "DeleteField": fields.delete(edit.key); fieldsTouched = true; break
    }
  }
  if (fieldsTouched) registers.set("fields", objectOf(fields))
  return objectOf(registers)
}

/**
 * Passes a decision on unless it would bring in a fault: the document after the edits may have no fault that it does not have now, so that an
 * invalid (quarantined) document can still be mended step by step.
 */
export const checked = (documents: Documents, changes: ReadonlyArray<DocumentChange>): Decided => {
  const real = changes.filter((change) => change.edits.length > 0)
  for (const { doc, edits } of real) {
    const before = valueOf(documents, doc)
    const after = withEdits(before, edits)
    const old = new Set(documents.get(doc)?.faults ?? validate(doc, before))
    const fault = validate(doc, after).find((found) => !old.has(found))
    if (fault !== undefined) return usage(`${fault}; nothing was written`, { path: pathOfFault(fault) })
    const bytes = canonicalJson({ ...after, text: "" }).length
    if (bytes > documentBytesMax && bytes > canonicalJson({ ...before, text: "" }).length)
      return usage(`${doc}: expected at most ${documentBytesMax} bytes in one document, found ${bytes}; nothing was written`)
  }
  return { changes: real.flatMap((change) => inPieces(change, textOf(documents, change.doc))) }
}

/**
 * What one change may do at most, well under the gate's limits: the gate counts each character of text as one operation, and refuses a change of
 * more than 10,000. An event also names each register that it changes, at most 64.
 */
export const changeCharactersMax = 8_000
export const changeEditsMax = 64

/** A change that is too large for one event becomes several of the same document, to be written in this order and together. */
const inPieces = (change: DocumentChange, text: string): ReadonlyArray<DocumentChange> => {
  const pieces: Array<Array<Edit>> = [[]]
  let characters = 0
  const add = (edit: Edit, size: number): void => {
    const piece = pieces[pieces.length - 1] ?? []
    if (piece.length > 0 && (piece.length >= changeEditsMax || characters + size > changeCharactersMax)) {
      pieces.push([edit])
      characters = size
    } else {
      piece.push(edit)
      characters += size
    }
  }
  for (const edit of change.edits) {
    if (edit._tag !== "Splice") add(edit, 1)
    else for (const part of spliceParts(edit, text)) add(part, part.remove + part.insert.length)
  }
  const [only, ...more] = pieces
  if (only === undefined || more.length === 0) return [change]
  return pieces.map((edits, i) => ({
    doc: change.doc, edits, paths: [...new Set(edits.map(registerOf))], summary: `${change.summary} (part ${i + 1} of ${pieces.length})`
  }))
}

/**
 * A splice as smaller ones in the order in which they are done: what goes, last part first, then what comes. No part ends inside a character.
 * `text` is the text before the change; splices come last place first, so up to this splice's end it still reads so.
 */
const spliceParts = ({ at, remove, insert }: SpliceEdit, text: string): ReadonlyArray<SpliceEdit> => {
  if (remove + insert.length <= changeCharactersMax) return [{ _tag: "Splice", at, remove, insert }]
  const removals = cuts(text.slice(at, at + remove)).map(([from, to]): SpliceEdit => ({ _tag: "Splice", at: at + from, remove: to - from, insert: "" }))
  const insertions = cuts(insert).map(([from, to]): SpliceEdit => ({ _tag: "Splice", at: at + from, remove: 0, insert: insert.slice(from, to) }))
  return [...removals.reverse(), ...insertions]
}

type SpliceEdit = Edit & { readonly _tag: "Splice" }

/** Ranges of at most `changeCharactersMax` code units that make up a text and do not part surrogate pairs. */
const cuts = (text: string): ReadonlyArray<readonly [number, number]> => {
  const ranges: Array<readonly [number, number]> = []
  for (let from = 0; from < text.length;) {
    let to = Math.min(text.length, from + changeCharactersMax)
    const last = text.charCodeAt(to - 1)
    if (to < text.length && last >= 0xd800 && last <= 0xdbff) to--
    ranges.push([from, to])
    from = to
  }
  return ranges
}

const textOf = (documents: Documents, doc: DocId): string => {
  const text = valueOf(documents, doc)["text"]
  return typeof text === "string" ? text : ""
}

const registerOf = (edit: Edit): string => (edit._tag === "Splice" || edit._tag === "Text" ? "text" : edit._tag === "SetField" || edit._tag === "DeleteField" ? `fields.${edit.key}` : edit.key)

/** The path that a fault's sentence begins with. */
export const pathOfFault = (fault: string): string => /^(.{1,512}?): /su.exec(fault)?.[1] ?? ""

export interface DocumentDifference extends KeyDifference {
  readonly document: DocId
}

/** What a decision will change, register by register, against the merged values. */
export const differencesOf = (documents: Documents, decision: Decision): ReadonlyArray<DocumentDifference> => {
  const after = new Map<DocId, JsonObject>()
  for (const { doc, edits } of decision.changes) after.set(doc, withEdits(after.get(doc) ?? valueOf(documents, doc), edits))
  return [...after].flatMap(([document, value]) => diffKeys(valueOf(documents, document), value).map((difference) => ({ document, ...difference })))
}

export interface Resolve {
  readonly _tag: "Resolve"
  readonly doc: DocId
  /** Register, or `fields.NAME` of a page. */
  readonly key: string
  /** Number from 1 in the order of `conflict.values`; or a word as a person types it; or a value. */
  readonly choice: { readonly number: number } | { readonly word: string } | { readonly value: Json }
}

/** Settles a conflict in any family by writing one value over the several. */
export const decideResolve = (documents: Documents, command: Resolve): Decided => {
  const view = documents.get(command.doc)
  const conflict = view?.conflicts.find(({ key }) => key === command.key)
  if (view === undefined || conflict === undefined) {
    const open = view?.conflicts.map(({ key }) => key) ?? []
    return notFound(`there is no conflict at ${command.key} of ${shown(command.doc)}${open.length === 0 ? "" : `; open are ${open.slice(0, 5).join(", ")}`}`, "kos config conflicts")
  }
  const value = chosen(command, conflict)
  if (value instanceof Refusal) return value
  const field = familyOf(command.doc) === "memory" && command.key.startsWith("fields.") ? command.key.slice("fields.".length) : undefined
  const secret = refuseSecret(field ?? command.key, value)
  if (secret !== undefined) return secret
  const json = canonicalJson(value)
  const edit: Edit = field === undefined ? { _tag: "Set", key: command.key, json } : { _tag: "SetField", key: field, json }
  return checked(documents, [{ doc: command.doc, edits: [edit], paths: [command.key], summary: `settled ${command.key} as ${brief(value)}` }])
}

/** A value in a summary: its JSON, at most 60 characters. */
export const brief = (value: Json): string => {
  const text = canonicalJson(value)
  return text.length > 60 ? `${text.slice(0, 59)}…` : text
}

const chosen = (command: Resolve, conflict: Conflict): Json | Refusal => {
  const { choice, key, doc } = command
  if ("value" in choice) return choice.value
  if ("number" in choice) {
    const picked = conflict.values[choice.number - 1]
    return picked === undefined ? usage(`${key} has ${conflict.values.length} values to choose from, 1 to ${conflict.values.length}; found ${choice.number}`, { path: key }) : picked.value
  }
  const read = readWord((familyOf(doc) === "config" ? findSetting(key)?.type : undefined) ?? { kind: "any" }, choice.word)
  return "why" in read ? usage(`${key}: ${read.why}`, { path: key }) : read.value
}

