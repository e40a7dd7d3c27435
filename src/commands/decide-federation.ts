/** Deciders of federations: who may begin and end one, and what has to be written so that one side knows what the other shares. Pure. */
import { manages } from "../codec/membership/rules.ts"
import { type Federation, itemCharsMax, itemsMax, type Kind, kinds, newest, type SharedKind } from "../projections/federation.ts"
import type { Membership } from "../projections/membership.ts"
import type { ItemRow } from "../projections/tables/federation.ts"
import type { Wanted } from "./dispatch.ts"
import { Refusal } from "./refusal.ts"

/** Characters of things in one event, about; a single larger thing has one of its own. */
export const eventCharsMax = 49_152
/** Things in one event. */
export const eventItemsMax = 256
/** Federations of one mesh that have not ended. */
export const federationsMax = 16

/** Undefined when this node may begin and end federations in its mesh's name. */
export const federatingRefusal = (membership: Membership, device: string): Refusal | undefined => {
  const me = membership.members.get(device)
  if (me?.standing !== "member") return new Refusal({ kind: "denied", detail: "this node is no member of the mesh" })
  return manages(me.role) ? undefined : new Refusal({ kind: "denied", detail: `only admins and owners federate; this node is ${me.role}`, hint: "kos node list" })
}

export const decideBegin = (
  membership: Membership, device: string, federations: ReadonlyArray<Federation>, wish: { readonly federation: string; readonly shares: ReadonlyArray<SharedKind> }
): ReadonlyArray<Wanted> | Refusal => {
  const refusal = federatingRefusal(membership, device)
  if (refusal !== undefined) return refusal
  const known = federations.find(({ id }) => id === wish.federation)
  if (known?.ended !== undefined) return new Refusal({ kind: "conflict", detail: "this federation has ended; begin another one", hint: "kos mesh federate --share names" })
  if (federations.filter(({ ended }) => ended === undefined).length >= federationsMax) return new Refusal({ kind: "conflict", detail: `${membership.name} is in ${federationsMax} federations, which is the most`, hint: "kos mesh federate --list" })
  return [{ type: "federation.begun/1", subject: `federation/${wish.federation}`, body: { federation: wish.federation, shares: [...new Set(wish.shares)].sort() } }]
}

/** An end counts for ever; a second one changes nothing. */
export const decideEnd = (membership: Membership, device: string, federation: Federation, reason: string): ReadonlyArray<Wanted> | Refusal => {
  const refusal = federatingRefusal(membership, device)
  if (refusal !== undefined) return refusal
  return federation.ended === undefined ? [endedEvent(federation.id, reason)] : []
}

export const endedEvent = (federation: string, reason: string): Wanted => ({ type: "federation.ended/1", subject: `federation/${federation}`, body: { federation, reason: reason.slice(0, 256) } })

/** One federation by the name of the mesh on the other side, or by 4 digits or more of its id. */
export const federationCalled = (federations: ReadonlyArray<Federation>, text: string): Federation | Refusal => {
  const open = federations.filter(({ ended }) => ended === undefined)
  const named = open.filter(({ others }) => others.some(({ name }) => name.toLowerCase() === text.toLowerCase()))
  const found = named.length > 0 ? named : /^[0-9a-f]{4,64}$/i.test(text) ? open.filter(({ id }) => id.startsWith(text.toLowerCase())) : []
  const [one] = found
  if (one === undefined) return new Refusal({ kind: "not-found", detail: `there is no federation with ${text}`, hint: "kos mesh federate --list" })
  return found.length === 1 ? one : new Refusal({ kind: "conflict", detail: `there are ${found.length} federations with ${text}: ${found.map(({ id }) => id.slice(0, 8)).join(", ")}; name one by its id`, hint: "kos mesh federate --list" })
}

/** A mesh, as others are told of it. */
export interface Whose {
  readonly mesh: string
  readonly name: string
}

/** What changed between what is there and what is to be, as `federation.shared` or `federation.received` events. Values that are equal are not said again. */
export const decideItems = (
  there: ReadonlyArray<ItemRow>, wanted: ReadonlyMap<string, string>, from: Whose, kind: Kind, received?: { readonly federation: string }
): ReadonlyArray<Wanted> => {
  const known = new Map(there.filter(({ mesh }) => mesh === from.mesh).map(({ item, value }) => [item, value]))
  const changed = [...wanted].filter(([id, value]) => known.get(id) !== value).map(([id, value]): Item => ({ id, value }))
  const gone = [...known].filter(([id, value]) => value !== undefined && !wanted.has(id)).map(([id]): Item => ({ id, value: null }))
  return batches([...gone, ...changed]).map((items) => received === undefined
    ? { type: "federation.shared/1", subject: `federation/${kind}`, body: { from, kind, items } }
    : { type: "federation.received/1", subject: `federation/${received.federation}`, body: { federation: received.federation, from, kind, items } })
}

/** Other meshes that one federation is looked at for; the first by id. */
export const othersMax = 16

/** What others share of one kind, as far as it is what it says it is; by the mesh that it is of. */
export const acceptable = (rows: ReadonlyArray<ItemRow>, kind: Kind, home: string): ReadonlyMap<string, { readonly name: string; readonly items: ReadonlyMap<string, string> }> => {
  const found = new Map<string, { readonly name: string; readonly items: Map<string, string> }>()
  for (const { mesh, meshName, item, value } of newest(rows, kind)) {
    if (mesh === home) continue
    if (!found.has(mesh) && found.size >= othersMax) break
    const entry = found.get(mesh) ?? { name: meshName, items: new Map<string, string>() }
    found.set(mesh, entry)
    if (value !== undefined && value.length <= itemCharsMax && entry.items.size < itemsMax && kinds[kind].fits(item, value)) entry.items.set(item, value)
  }
  return found
}

interface Item {
  readonly id: string
  readonly value: string | null
}

const batches = (items: ReadonlyArray<Item>): ReadonlyArray<ReadonlyArray<Item>> => {
  const out: Array<Array<Item>> = []
  let chars = Infinity
  for (const item of items) {
    const size = item.id.length + (item.value?.length ?? 0)
    const last = out.at(-1)
    if (last === undefined || last.length >= eventItemsMax || chars + size > eventCharsMax) {
      out.push([item])
      chars = size
    } else {
      last.push(item)
      chars += size
    }
  }
  return out
}
