import type { DocId, Family } from "../documents/types.ts"

/** The names of documents: how they are built, and what a name from a log, a file or a person must look like. */

export const nameCharsMax = 96
export const docIdCharsMax = 256

/** Whose configuration a document holds: `mesh`, `role:ROLE` or `node:DEVICE` (64 hex digits). It is the middle part of the document's id. */
export type LayerId = "mesh" | `role:${string}` | `node:${string}`

export type ParsedDocId =
  | { readonly family: "config"; readonly layer: LayerId; readonly namespace: string }
  | { readonly family: "agents"; readonly name: string }
  | { readonly family: "memory"; readonly module: string; readonly page: string }

/** A result without exceptions: the value, or one sentence that says why there is none. */
export type Read<A> = { readonly value: A } | { readonly why: string }

export const isWhy = <A>(read: Read<A>): read is { readonly why: string } => "why" in read

/** Parses an id from anywhere; hostile ones get a reason. The result builds back to the same id. */
export const parseDocId = (doc: string): Read<ParsedDocId> => {
  if (doc.length > docIdCharsMax) return { why: `a document id is at most ${docIdCharsMax} characters, this one has ${doc.length}` }
  const [family, ...rest] = doc.split("/")
  const [first, second] = rest
  if (family === "agents") {
    if (rest.length !== 1 || first === undefined) return { why: `${shown(doc)} is not agents/NAME` }
    const why = nameFault(first)
    return why === undefined ? { value: { family, name: first } } : { why }
  }
  if (family !== "config" && family !== "memory") return { why: `${shown(doc)} is not a document: ids begin with config/, agents/ or memory/` }
  if (rest.length !== 2 || first === undefined || second === undefined)
    return { why: `${shown(doc)} is not ${family === "config" ? "config/LAYER/NAMESPACE" : "memory/MODULE/PAGE"}` }
  if (family === "memory") {
    const why = nameFault(first) ?? pageNameFault(second)
    return why === undefined ? { value: { family, module: first, page: second } } : { why }
  }
  const layer = parseLayer(first)
  if (isWhy(layer)) return layer
  const why = nameFault(second)
  return why === undefined ? { value: { family, layer: layer.value, namespace: second } } : { why }
}

/** `mesh`, `role:ROLE` or `node:DEVICE`. */
export const parseLayer = (text: string): Read<LayerId> => {
  if (text === "mesh") return { value: "mesh" }
  const role = /^role:(.*)$/su.exec(text)?.[1]
  if (role !== undefined) {
    const why = nameFault(role)
    return why === undefined ? { value: `role:${role}` } : { why }
  }
  const device = /^node:([0-9a-f]{64})$/u.exec(text)?.[1]
  if (device !== undefined) return { value: `node:${device}` }
  return { why: `${shown(text)} is not a layer: expected mesh, role:ROLE or node: and 64 hex digits` }
}

export type LayerKind = "mesh" | "role" | "node"

export const layerKind = (layer: LayerId): LayerKind => (layer === "mesh" ? "mesh" : layer.startsWith("role:") ? "role" : "node")

export const configDoc = (layer: LayerId, namespace: string): DocId => `config/${layer}/${namespace}`
export const agentDoc = (name: string): DocId => `agents/${name}`
export const memoryDoc = (module: string, page: string): DocId => `memory/${module}/${page}`

export const buildDocId = (id: ParsedDocId): DocId =>
  id.family === "config" ? configDoc(id.layer, id.namespace) : id.family === "agents" ? agentDoc(id.name) : memoryDoc(id.module, id.page)

/** Of an id that is known to be good. */
export const familyOf = (doc: DocId): Family => (doc.startsWith("config/") ? "config" : doc.startsWith("agents/") ? "agents" : "memory")

/** Why a name of an agent, a memory module, a role or a namespace is refused: letters, digits, `.`, `_` and `-`, beginning with a letter or digit. */
export const nameFault = (name: string): string | undefined => fault(name, /^[A-Za-z0-9][A-Za-z0-9._-]*$/u, "letters, digits, '.', '_' and '-'")

/** Why the name of a memory page is refused: as `nameFault`, but letters of every script (in composed form, NFC). */
export const pageNameFault = (name: string): string | undefined =>
  fault(name, /^[\p{L}\p{N}][\p{L}\p{M}\p{N}._-]*$/u, "letters of any script, digits, '.', '_' and '-'") ??
  (name.normalize("NFC") === name ? undefined : `the name ${shown(name)} is not in composed Unicode form (NFC)`)

/** A text from anywhere, fit to stand in a sentence: quoted, control characters escaped, at most 60 characters. */
export const shown = (text: string): string => {
  const short = text.length > 60 ? `${text.slice(0, 59)}…` : text
  return JSON.stringify(short.toWellFormed()).replace(/[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu, (char) => `\\u${(char.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`)
}

const fault = (name: string, pattern: RegExp, allowed: string): string | undefined => {
  if (name === "") return "a name is empty"
  if (name.length > nameCharsMax) return `a name is at most ${nameCharsMax} characters, ${shown(name)} has ${name.length}`
  if (name.includes("..")) return `the name ${shown(name)} holds '..'`
  if (!pattern.test(name)) return `the name ${shown(name)} may hold ${allowed} only, and begins with a letter or digit`
  return undefined
}
