import type { Json } from "../documents/types.ts"
import { shown } from "./doc-id.ts"
import { describe, isArray, isObject, jsonFault, utf8Length, type JsonObject } from "./json.ts"

/**
 * A page of memory: registers `title`, `state` and `tags`, a `text` that merges by character, and `fields`, a map whose keys merge one by one.
 * Other registers come from newer nodes: kept, ignored. `fields` has limits of its own so that a page stays small.
 */
export interface Page {
  readonly title: string
  readonly state: "present" | "forgotten"
  readonly tags: ReadonlyArray<string>
  readonly text: string
  readonly fields: JsonObject
}

/** UTF-8 bytes of a page's text that no setting can raise; a merge of concurrent edits may go over `memory.page.bytes.max` up to this. */
export const pageBytesMax = 192 * 1024
export const titleCharsMax = 300
export const tagsMax = 32
export const tagCharsMax = 64
export const fieldsMax = 100
/** Fields of a merged page, which two nodes filled apart. */
export const fieldsMergedMax = 200
export const fieldLimits = { depthMax: 16, bytesMax: 16 * 1024 }
export const fieldNameCharsMax = 128

/** The page that a document's value is; whatever is absent or of another type reads as empty. */
export const readPage = (value: JsonObject): Page => {
  const { title, state, tags, text, fields } = value
  return {
    title: typeof title === "string" ? title : "",
    state: state === "forgotten" ? "forgotten" : "present",
    tags: isArray(tags) ? tags.filter((tag) => typeof tag === "string") : [],
    text: typeof text === "string" ? text : "",
    fields: isObject(fields) ? fields : {}
  }
}

export const memoryFaults = (value: JsonObject): ReadonlyArray<string> => {
  const faults: Array<string> = []
  const { title, state, tags, text, fields } = value
  if (title !== undefined) push(faults, titleFault(title))
  if (state !== undefined && state !== "present" && state !== "forgotten") faults.push(`state: expected present or forgotten, found ${describe(state)}`)
  if (tags !== undefined) push(faults, tagsFault(tags))
  if (text !== undefined) push(faults, textFault(text, pageBytesMax))
  if (fields === undefined) return faults
  if (!isObject(fields)) return [...faults, `fields: expected a table, found ${describe(fields)}`]
  const names = Object.keys(fields)
  if (names.length > fieldsMergedMax) faults.push(`fields: expected at most ${fieldsMergedMax} fields, found ${names.length}`)
  for (const name of names) push(faults, fieldFault(name, fields[name] ?? null))
  return faults
}

export const titleFault = (title: Json): string | undefined =>
  typeof title === "string" && title.length <= titleCharsMax && !/[\u0000-\u001f\u007f]/u.test(title) ? undefined : `title: expected one line of at most ${titleCharsMax} characters, found ${describe(title)}`

export const tagsFault = (tags: Json): string | undefined => {
  if (!isArray(tags) || tags.length > tagsMax) return `tags: expected a list of at most ${tagsMax} words, found ${describe(tags)}`
  const bad = tags.find((tag) => typeof tag !== "string" || !isTag(tag))
  return bad === undefined ? undefined : `tags: expected words of letters, digits, '.', '_', '-' and ':' of at most ${tagCharsMax} characters, found ${describe(bad)}`
}

export const textFault = (text: Json, bytesMax: number): string | undefined => {
  if (typeof text !== "string") return `text: expected a text, found ${describe(text)}`
  const bytes = utf8Length(text)
  return bytes > bytesMax ? `text: expected at most ${bytesMax} bytes, found ${bytes}` : undefined
}

export const fieldFault = (name: string, value: Json): string | undefined => {
  if (name === "" || name.length > fieldNameCharsMax || name === "__proto__" || /[\u0000-\u001f\u007f]/u.test(name))
    return `fields: expected names of 1 to ${fieldNameCharsMax} printable characters, found ${shown(name)}`
  const fault = jsonFault(value, fieldLimits)
  return fault === undefined ? undefined : `fields.${name}: ${fault}`
}

const isTag = (tag: string): boolean => tag.length <= tagCharsMax && /^[\p{L}\p{N}][\p{L}\p{M}\p{N}._:-]*$/u.test(tag)

const push = (faults: Array<string>, fault: string | undefined): void => {
  if (fault !== undefined) faults.push(fault)
}
