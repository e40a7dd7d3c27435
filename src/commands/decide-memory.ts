import type { DocId, Edit, Json } from "../projections/documents/types.ts"
import { isWhy, memoryDoc, parseDocId, shown } from "../projections/families/doc-id.ts"
import { mergeTexts, textEdits } from "../projections/families/diff.ts"
import { canonicalJson, equalJson, ownValue, type JsonObject } from "../projections/families/json.ts"
import { fieldFault, fieldsMax, readPage, tagsFault, textFault, titleFault } from "../projections/families/memory.ts"
import { secretShape, secretSentence } from "../projections/families/secret-scan.ts"
import { readWord } from "../projections/families/values.ts"
import { suggest } from "../codec/suggest.ts"
import { checked, conflicting, decideResolve, isConflicted, notFound, refuseSecret, usage, valueOf, type Decided, type Documents, type Resolve } from "./decide-change.ts"
import { Refusal } from "./refusal.ts"

/** What a wish may say of a page beside its text. A field's word is JSON when it reads as JSON, else text; `undefined` takes the field away. */
export interface PageWishes {
  readonly title?: string
  readonly tags?: ReadonlyArray<string>
  readonly fields?: ReadonlyMap<string, { readonly word: string } | { readonly value: Json } | undefined>
}

/** Decides wishes about pages. `page` is `MODULE/PAGE`. */
export type MemoryCommand =
  /** Makes a page; on a page that is there, adds a paragraph. A forgotten page comes back with the new text alone. */
  | { readonly _tag: "Add"; readonly page: string; readonly text: string } & PageWishes
  /** The text after an editor; with `base` (the text before) what others wrote meanwhile stays, without it the text replaces what is there. */
  | { readonly _tag: "Edit"; readonly page: string; readonly text?: string; readonly base?: string } & PageWishes
  | { readonly _tag: "Append"; readonly page: string; readonly text: string }
  | { readonly _tag: "SetField"; readonly page: string; readonly name: string; readonly word: string }
  | { readonly _tag: "UnsetField"; readonly page: string; readonly name: string }
  | { readonly _tag: "Forget"; readonly page: string }
  | { readonly _tag: "Restore"; readonly page: string }
  /** Makes the page say what its value said earlier. */
  | { readonly _tag: "Revert"; readonly page: string; readonly earlier: JsonObject }
  | Resolve

export interface MemoryLimits {
  /** Setting `memory.page.bytes.max`, in UTF-8 bytes. */
  readonly pageBytesMax: number
}

export const decideMemory = (documents: Documents, command: MemoryCommand, limits: MemoryLimits): Decided => {
  if (command._tag === "Resolve") return decideResolve(documents, command)
  const doc = pageDoc(command.page)
  if (doc instanceof Refusal) return doc
  const page = readPage(valueOf(documents, doc))
  const exists = Object.keys(valueOf(documents, doc)).length > 0
  const isThere = exists && page.state === "present"
  if (!exists && command._tag !== "Add") return missing(documents, command.page)
  if (!isThere && command._tag !== "Add" && command._tag !== "Restore" && command._tag !== "Revert" && command._tag !== "Forget")
    return notFound(`${command.page} was forgotten`, `kos memory add ${command.page}`)
  const write = (wishes: Wishes, what: string): Decided => change(documents, doc, wishes, `${what} ${command.page}`, limits)
  switch (command._tag) {
    case "Add": {
      if (isThere) return write({ ...command, text: command.text === "" ? page.text : withParagraph(page.text, command.text) }, "added to")
      return write({ ...command, state: "present" }, exists ? "restored" : "added")
    }
    case "Append": return write({ text: withParagraph(page.text, command.text) }, "added to")
    case "Edit": {
      if (command.text === undefined) return write(wishesOf(command), "edited")
      const merged = command.base === undefined ? command.text : mergeTexts(command.base, command.text, page.text)
      if (merged === undefined) return conflicting(`${command.page}: someone else changed the same lines while you edited; nothing was written`, { path: "text", hint: `kos memory edit ${command.page}` })
      return write({ ...wishesOf(command), text: merged }, "edited")
    }
    case "SetField": return write({ fields: new Map([[command.name, { word: command.word }]]) }, `set ${command.name} of`)
    case "UnsetField": return write({ fields: new Map([[command.name, undefined]]) }, `unset ${command.name} of`)
    case "Forget": return write({ state: "forgotten" }, "forgot")
    case "Restore": return write({ state: "present" }, "restored")
    case "Revert": {
      const earlier = readPage(command.earlier)
      const fields = new Map<string, { readonly value: Json } | undefined>([
        ...Object.keys(page.fields).map((name) => [name, undefined] as const),
        ...Object.entries(earlier.fields).map(([name, value]) => [name, { value }] as const)
      ])
      return write({ text: earlier.text, state: earlier.state, tags: earlier.tags, title: earlier.title, fields }, "reverted")
    }
  }
}

/** The document of `MODULE/PAGE`. */
export const pageDoc = (page: string): DocId | Refusal => {
  const [module = "", name, ...rest] = page.split("/")
  if (name === undefined || rest.length > 0) return usage(`expected MODULE/PAGE, found ${shown(page)}`, { path: "page" })
  const doc = memoryDoc(module, name.normalize("NFC"))
  const id = parseDocId(doc)
  return isWhy(id) ? usage(id.why, { path: "page" }) : doc
}

interface Wishes extends PageWishes {
  readonly text?: string
  readonly state?: "present" | "forgotten"
}

const wishesOf = ({ title, tags, fields }: PageWishes): Wishes => ({
  ...(title === undefined ? {} : { title }), ...(tags === undefined ? {} : { tags }), ...(fields === undefined ? {} : { fields })
})

const change = (documents: Documents, doc: DocId, wishes: Wishes, summary: string, limits: MemoryLimits): Decided => {
  const value = valueOf(documents, doc)
  const page = readPage(value)
  const edits: Array<Edit> = []
  const paths: Array<string> = []
  const register = (key: string, now: Json, wished: Json | undefined): void => {
    if (wished === undefined || (equalJson(now, wished) && !isConflicted(documents, doc, key) && (ownValue(value, key) !== undefined || key !== "state"))) return
    edits.push({ _tag: "Set", key, json: canonicalJson(wished) })
    paths.push(key)
  }
  const fault = (wishes.title === undefined ? undefined : titleFault(wishes.title)) ?? (wishes.tags === undefined ? undefined : tagsFault(wishes.tags)) ??
    (wishes.text === undefined ? undefined : newTextFault(page.text, wishes.text, limits.pageBytesMax))
  if (fault !== undefined) return usage(`${fault}; nothing was written`, { path: fault.slice(0, fault.indexOf(":")) })
  const secret = textSecret(page.text, wishes.text) ?? (wishes.title === undefined ? undefined : refuseSecret("title", wishes.title))
  if (secret !== undefined) return secret
  register("state", page.state, wishes.state)
  register("title", page.title, wishes.title)
  register("tags", page.tags, wishes.tags)
  if (wishes.text !== undefined && wishes.text !== page.text) {
    edits.push(...textEdits(page.text, wishes.text))
    paths.push("text")
  }
  for (const [name, wished] of wishes.fields ?? []) {
    const edit = fieldEdit(documents, doc, page.fields, name, wished)
    if (edit instanceof Refusal) return edit
    if (edit === undefined) continue
    edits.push(edit)
    paths.push(`fields.${name}`)
  }
  const added = edits.filter((edit) => edit._tag === "SetField" && ownValue(page.fields, edit.key) === undefined).length
  const total = Object.keys(page.fields).length + added
  if (added > 0 && total > fieldsMax) return usage(`fields: expected at most ${fieldsMax} fields, found ${total}; nothing was written`, { path: "fields" })
  return checked(documents, [{ doc, edits, paths, summary }])
}

const fieldEdit = (
  documents: Documents, doc: DocId, fields: JsonObject, name: string, wished: { readonly word: string } | { readonly value: Json } | undefined
): Edit | Refusal | undefined => {
  const now = ownValue(fields, name)
  if (wished === undefined) return now === undefined ? undefined : { _tag: "DeleteField", key: name }
  const read = "word" in wished ? readWord({ kind: "any" }, wished.word) : wished
  if (isWhy(read)) return usage(`fields.${name}: ${read.why}`)
  const secret = refuseSecret(`fields.${JSON.stringify(name)}`, read.value)
  if (secret !== undefined) return secret
  const fault = fieldFault(name, read.value)
  if (fault !== undefined) return usage(`${fault}; nothing was written`, { path: `fields.${name}` })
  return now !== undefined && equalJson(now, read.value) && !isConflicted(documents, doc, `fields.${name}`) ? undefined : { _tag: "SetField", key: name, json: canonicalJson(read.value) }
}

/** A page that is too long already may still get shorter. */
const newTextFault = (before: string, after: string, bytesMax: number): string | undefined => {
  if (!after.isWellFormed()) return "text: expected well-formed Unicode, found half of a character"
  if (after.includes("\u0000")) return "text: expected text, found a zero byte"
  return after.length < before.length ? undefined : textFault(after, bytesMax)
}

/** Only what is new is refused: a page that already looks like a secret can still be edited, and mended. */
const textSecret = (before: string, after: string | undefined): Refusal | undefined => {
  const kind = after === undefined || after === before ? undefined : secretShape(after)
  return kind === undefined || secretShape(before) === kind ? undefined : new Refusal({ kind: "policy", detail: secretSentence({ path: "text", kind }), path: "text" })
}

/** A blank line between what is there and what comes. */
const withParagraph = (before: string, added: string): string =>
  before === "" ? added : `${before}${before.endsWith("\n\n") ? "" : before.endsWith("\n") ? "\n" : "\n\n"}${added}`

const missing = (documents: Documents, page: string): Refusal => {
  const pages = [...documents.keys()].filter((doc) => doc.startsWith("memory/")).map((doc) => doc.slice("memory/".length))
  const near = suggest(page, pages)
  return notFound(`there is no page ${shown(page)}${near.length === 0 ? "" : `; did you mean ${near.join(" or ")}?`}`, "kos memory list")
}
