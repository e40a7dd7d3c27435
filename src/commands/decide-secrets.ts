/** What may be done with secrets, as plain functions: who may set, rotate and remove, for whom, and who may use. Never repeats a value. */
import { Result } from "effect"
import { isRole, roles } from "../codec/operation.ts"
import { itemKeyBytes, secretBytesMax, secretCountMax, secretItem, type SecretPlace, sealSecret } from "../codec/secret-item.ts"
import { sealTo } from "../codec/seal.ts"
import { randomBytes } from "../codec/signature.ts"
import { didYouMean } from "../codec/suggest.ts"
import { fromHex, utf8 } from "../codec/bytes.ts"
import { nameFault, shown } from "../projections/families/doc-id.ts"
import { secretShape } from "../projections/families/secret-scan.ts"
import { findMember, type Membership } from "../projections/membership.ts"
import { mayHold, type PlacesOf, type Secret, type SecretLine, type SecretsView, type SecretVersion } from "../projections/secrets.ts"
import { itemBytes } from "../projections/tables/secrets.ts"
import type { Wanted } from "./dispatch.ts"
import { Refusal } from "./refusal.ts"

/** Names of secrets of one mesh that one node sets at most: the next is refused. */
export const secretsMax = 4_096
/** Recipients named in one version at most. */
export const recipientsMax = 64
/** Boxes in one event at most. */
export const boxesMax = 96

export interface SecretsSituation {
  readonly view: SecretsView
  readonly membership: Membership
  readonly places: PlacesOf
  /** This node, and the log that it writes. */
  readonly device: string
  readonly log: string
}

/** A version that is to be sealed and said. */
export interface VersionDraft {
  readonly place: SecretPlace
  readonly owner: string
  readonly fresh: boolean
  readonly recipients: ReadonlyArray<string>
  readonly value: Uint8Array
}

/** Sets a name: new, or the next version of what this node may change. Without `recipients` it stays for whom it was, or is for this node. */
export const decideSet = (
  situation: SecretsSituation, wish: { readonly name: string; readonly value: string; readonly recipients: ReadonlyArray<string> | undefined }
): Result.Result<VersionDraft, Refusal> => {
  const wrong = nameWrong(wish.name)
  if (wrong !== undefined) return Result.fail(wrong)
  const value = valueOf(wish.value)
  if (Result.isFailure(value)) return Result.fail(value.failure)
  const line = lineToChange(situation, wish.name)
  if (Result.isFailure(line)) return Result.fail(line.failure)
  if (line.success === undefined && situation.view.secrets.size >= secretsMax) return refuse("usage", `a mesh has at most ${secretsMax} secrets`, "kos vault list --all")
  const recipients = wish.recipients === undefined
    ? Result.succeed(line.success?.live[0]?.recipients ?? [`node:${situation.device}`])
    : recipientsOf(situation, wish.recipients)
  if (Result.isFailure(recipients)) return Result.fail(recipients.failure)
  return Result.succeed(draft(situation, wish.name, line.success, recipients.success, value.success, true))
}

/** A new value for the same recipients; or the same value (`current`) under a new item key. */
export const decideRotate = (
  situation: SecretsSituation, wish: { readonly name: string; readonly value: string | undefined; readonly current: (version: SecretVersion) => Uint8Array | undefined }
): Result.Result<VersionDraft, Refusal> => {
  const line = lineToChange(situation, wish.name)
  if (Result.isFailure(line)) return Result.fail(line.failure)
  const [first] = line.success?.live ?? []
  if (line.success === undefined || first === undefined) return missing(situation.view, wish.name)
  const value = wish.value === undefined ? Result.succeed(wish.current(first)) : valueOf(wish.value)
  if (Result.isFailure(value)) return Result.fail(value.failure)
  if (value.success === undefined) {
    return refuse("denied", `this node cannot open ${wish.name}, so it cannot seal it anew; give it a new value`, `kos vault rotate ${wish.name} --file FILE`)
  }
  return Result.succeed(draft(situation, wish.name, line.success, first.recipients, value.success, wish.value !== undefined))
}

/** All versions of the name that this node may remove. */
export const decideRemove = (situation: SecretsSituation, name: string): Result.Result<ReadonlyArray<SecretVersion>, Refusal> => {
  const secret = situation.view.secrets.get(name)
  if (secret === undefined || secret.lines.length === 0) return missing(situation.view, name)
  const mine = secret.lines.filter(({ owner }) => situation.view.mayChange(situation.device, owner)).flatMap(({ live }) => live)
  return mine.length === 0 ? notYours(situation, secret) : Result.succeed(mine)
}

/** The version that an actor gets on this device. `denied` tells a refusal that is to be recorded. */
export const decideUse = (
  { view, device }: Pick<SecretsSituation, "view" | "device">, name: string, actor: string
): Result.Result<SecretVersion, { readonly refusal: Refusal; readonly denied: boolean }> => {
  const secret = view.secrets.get(name)
  if (secret === undefined || secret.lines.length === 0) {
    const none = missing(view, name)
    return Result.fail({ refusal: Result.isFailure(none) ? none.failure : new Refusal({ kind: "not-found", detail: name }), denied: false })
  }
  const meant = secret.lines.flatMap(({ live: [first] }) => (first === undefined ? [] : [first])).find((first) => view.mayUse(first, device, actor))
  if (meant !== undefined) return Result.succeed(meant)
  const who = actor.startsWith("agent:") ? `${actor} on this node` : "this node"
  return Result.fail({ refusal: new Refusal({ kind: "denied", detail: `${name} is not for ${who}`, hint: "kos vault list" }), denied: true })
}

/** Seals a draft and says it: the version with its boxes, and more boxes when there are many. */
export const sealVersion = (view: SecretsView, draft: VersionDraft): { readonly item: string; readonly itemKey: Uint8Array; readonly events: ReadonlyArray<Wanted> } => {
  const { place, owner, fresh, recipients, value } = draft
  const itemKey = randomBytes(itemKeyBytes)
  const { nonce, commit, cipher } = sealSecret(value, itemKey, place)
  const item = secretItem(place, commit)
  const readers = view.devicesFor(recipients).flatMap((device) => view.readerOf(device)?.key ?? [])
  const [first = [], ...more] = boxesFor(itemKey, readers)
  const set: Wanted = {
    type: "secret.set/1", subject: subjectOf(place.name), body: { name: place.name, version: place.version, owner, fresh, recipients, nonce, commit, cipher, boxes: first }
  }
  return { item, itemKey, events: [set, ...more.map((boxes) => sharedEvent(place.name, item, boxes))] }
}

/** One item key for further reader keys. */
export const shareEvents = (name: string, item: string, itemKey: Uint8Array, readers: ReadonlyArray<string>): ReadonlyArray<Wanted> =>
  boxesFor(itemKey, readers).map((boxes) => sharedEvent(name, item, boxes))

export const subjectOf = (name: string): string => `secret/${name}`

/** The words of `--for` as recipients. */
export const recipientsOf = ({ membership, places }: Pick<SecretsSituation, "membership" | "places">, words: ReadonlyArray<string>): Result.Result<ReadonlyArray<string>, Refusal> => {
  if (words.length === 0 || words.length > recipientsMax) return refuse("usage", `a secret is for 1 to ${recipientsMax} recipients`)
  const out = new Set<string>()
  for (const word of words) {
    const [kind, rest] = split(word)
    if (kind === "role") {
      if (!isRole(rest)) return refuse("usage", `there is no role ${shown(rest)}${didYouMean(rest, roles)}`, "kos help vault set")
      if (rest === "seeder") return refuse("usage", "seeders read nothing of the mesh, so no secret can be for them")
      out.add(`role:${rest}`)
    } else if (kind === "agent") {
      if (nameFault(rest) !== undefined || places(rest) === undefined) return refuse("not-found", `there is no agent ${shown(rest)}`, "kos agent list")
      out.add(`agent:${rest}`)
    } else if (kind !== "node") return refuse("usage", `${shown(word)} is no recipient: expected NODE, agent:NAME or role:ROLE`, "kos help vault set")
    else {
      const member = findMember(membership, rest)
      if (member === undefined || member.standing !== "member") return refuse("not-found", `no node of this mesh is called ${shown(rest)}; a recipient is NODE, agent:NAME or role:ROLE`, "kos node list")
      if (!mayHold(member)) return refuse("usage", `${member.name} is a ${member.role} and reads nothing of the mesh, so no secret can be for it`)
      out.add(`node:${member.device}`)
    }
  }
  return Result.succeed([...out].toSorted())
}

const draft = (
  { view, device, log }: SecretsSituation, name: string, line: SecretLine | undefined, recipients: ReadonlyArray<string>, value: Uint8Array, fresh: boolean
): VersionDraft => ({
  place: { name, version: Math.min(secretCountMax, (view.secrets.get(name)?.versionMax ?? 0) + 1), log }, owner: line?.owner ?? device, fresh, recipients, value
})

/** The line that this node changes: its own, else the first that it may; undefined when the name is free. */
const lineToChange = (situation: SecretsSituation, name: string): Result.Result<SecretLine | undefined, Refusal> => {
  const { view, device } = situation
  const secret = view.secrets.get(name)
  if (secret === undefined || secret.lines.length === 0) return Result.succeed(undefined)
  const line = secret.lines.find(({ owner }) => owner === device) ?? secret.lines.find(({ owner }) => view.mayChange(device, owner))
  return line === undefined ? notYours(situation, secret) : Result.succeed(line)
}

const notYours = ({ membership }: SecretsSituation, { name, lines }: Secret) => {
  const owner = lines[0]?.owner ?? ""
  return refuse("denied", `${name} was set by ${membership.members.get(owner)?.name ?? owner.slice(0, 8)}; only that node, admins and owners change it`, "kos vault list")
}

const missing = (view: SecretsView, name: string): Result.Result<never, Refusal> => {
  if (nameWrong(name) !== undefined) return refuse("not-found", "there is no secret of this name", "kos vault list")
  if (view.secrets.has(name)) return refuse("not-found", `${name} was removed`, "kos vault list --all")
  const names = [...view.secrets.values()].filter(({ lines }) => lines.length > 0).map((secret) => secret.name)
  return refuse("not-found", `there is no secret ${name}${didYouMean(name, names)}`, "kos vault list")
}

/** What looks like a secret is not repeated: somebody gave the value for the name. */
const nameWrong = (name: string): Refusal | undefined => {
  const shape = secretShape(name)
  if (shape !== undefined) return new Refusal({ kind: "usage", detail: `the name looks like ${shape}; the value is read from stdin or a file`, path: "name", hint: "kos help vault set" })
  return nameFault(name) === undefined ? undefined : new Refusal({ kind: "usage", detail: "a secret's name is at most 96 letters, digits, '.', '_' and '-', beginning with a letter or digit", path: "name" })
}

const valueOf = (text: string): Result.Result<Uint8Array, Refusal> => {
  const bytes = utf8(text)
  if (bytes.byteLength === 0) return refuse("usage", "the value is empty; it is read from stdin or a file", "kos help vault set")
  return bytes.byteLength > secretBytesMax ? refuse("usage", `the value has ${bytes.byteLength} bytes; at most ${secretBytesMax} are kept`) : Result.succeed(bytes)
}

const split = (word: string): readonly [kind: string, rest: string] => {
  const at = word.indexOf(":")
  return at < 0 ? ["node", word] : [word.slice(0, at), word.slice(at + 1)]
}

interface Box {
  readonly reader: Uint8Array
  readonly sealed: Uint8Array
}

const boxesFor = (itemKey: Uint8Array, readers: ReadonlyArray<string>): ReadonlyArray<ReadonlyArray<Box>> => {
  const boxes = readers.flatMap((reader) => {
    const sealed = sealTo(itemKey, reader)
    return sealed === undefined ? [] : [{ reader: fromHex(reader), sealed }]
  })
  return Array.from({ length: Math.ceil(boxes.length / boxesMax) }, (_, i) => boxes.slice(i * boxesMax, (i + 1) * boxesMax))
}

const sharedEvent = (name: string, item: string, boxes: ReadonlyArray<Box>): Wanted =>
  ({ type: "secret.shared/1", subject: subjectOf(name), body: { name, item: itemBytes([item])[0], boxes } })

const refuse = (kind: Refusal["kind"], detail: string, hint?: string) => Result.fail(new Refusal({ kind, detail, ...(hint === undefined ? {} : { hint }) }))
