/**
 * Federations as they are now: which other meshes this mesh shares named things with, and what came from them.
 *
 * **What a federation is.** A small mesh of its own. Nodes of each side, the bridges, are members of it and of their own mesh. A bridge writes into it what its
 * mesh shares (`federation.shared`), and into its own mesh what the others share (`federation.received`), so that every member there can read it.
 * No log, key or event of one mesh goes to the other; only these things do, by kinds that each side has named.
 *
 * **How one thing travels.** A source reads it in the home mesh → the bridge writes what changed into the federation → the other bridge decodes it by its kind,
 * within limits → writes what changed into its own mesh → everybody there shows it as `NAME.MESH`.
 *
 * **Invariants.** A thing is what the newest event says that counts, by stamp and place, whatever came in which order. In a home mesh only what admins
 * and owners wrote counts. What is received is shown, and never acted on: no configuration, no membership, no right follows from it. Once an end
 * stands, nothing of that federation is shown any more, for ever: to begin again is another federation.
 *
 * **Tricky cases.**
 * - *Who says that a thing is of which mesh?* The bridge that wrote it. That the others in a federation speak for the meshes that they name is their word.
 * - *A bridge loses its role at home:* what it received is not shown any more until an admin's bridge receives it again.
 * - *Somebody writes garbage into the federation:* what does not decode by its kind is not taken, and more than 10,000 things of one kind are not either.
 */
import { Option, Schema } from "effect"
import { manages } from "../codec/membership/rules.ts"
import { isKeyText, isMeshName, isNodeName } from "../codec/operation.ts"
import { configDoc } from "./families/doc-id.ts"
import { serviceNameFault } from "./families/services.ts"
import { channelPattern } from "./families/updates.ts"
import { PolicyView } from "./policy-view.ts"
import type { Members } from "./members.ts"
import { servicesOf } from "./services.ts"
import type { ItemRow } from "./tables/federation.ts"
import type { Tables } from "./tables/tables.ts"

/** What may be shared. `mesh`, who the other side is, goes always. */
export const sharedKinds = ["names", "releases", "threats"] as const
export type SharedKind = (typeof sharedKinds)[number]
export type Kind = SharedKind | "mesh"

/** Things of one kind from one mesh. */
export const itemsMax = 10_000
/** Characters of one thing. */
export const itemCharsMax = 65_536

type Parts = { readonly tables: Tables; readonly members: Members }
type Reading = { readonly tables: Pick<Tables, "federations">; readonly members: Pick<Members, "view" | "deviceOf"> }

/** How a kind is read at home and checked when it comes from others. */
export interface KindRules {
  /** Things by id; undefined while there is nothing of this kind that could be shared. */
  readonly source: ((parts: Parts & { readonly mesh: string; readonly shares: ReadonlyArray<SharedKind> }) => ReadonlyMap<string, string>) | undefined
  /** Is this a thing of the kind? What comes from others is hostile until it says so. */
  readonly fits: (id: string, value: string) => boolean
}

const NameItem = Schema.Struct({
  name: Schema.String.check(Schema.isMaxLength(64)), services: Schema.Array(Schema.String.check(Schema.isMaxLength(64))).check(Schema.isMaxLength(64))
})
const MeshItem = Schema.Struct({ name: Schema.String.check(Schema.isMaxLength(64)), shares: Schema.Array(Schema.Literals(sharedKinds)).check(Schema.isMaxLength(8)) })
const decodeChannel = Schema.decodeUnknownOption(Schema.Struct({ code: Schema.String.check(Schema.isMaxLength(256)) }), { onExcessProperty: "error" })
const decodeName = Schema.decodeUnknownOption(NameItem, { onExcessProperty: "error" })
const decodeMesh = Schema.decodeUnknownOption(MeshItem, { onExcessProperty: "error" })

const json = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const nameOf = (id: string, value: string): { readonly device: string; readonly name: string; readonly services: ReadonlyArray<string> } | undefined => {
  const decoded = Option.getOrUndefined(decodeName(json(value)))
  return decoded === undefined || !isKeyText(id) || !isNodeName(decoded.name) || decoded.services.some((service) => serviceNameFault(service) !== undefined) ? undefined : { device: id, ...decoded }
}

const meshOf = (id: string, value: string): { readonly name: string; readonly shares: ReadonlyArray<SharedKind> } | undefined => {
  const decoded = Option.getOrUndefined(decodeMesh(json(value)))
  return decoded === undefined || !isKeyText(id) || !isMeshName(decoded.name) ? undefined : decoded
}

const channelNameOf = (path: string): string | undefined => /^update\.channels\.([a-z0-9][a-z0-9-]{0,31})$/.exec(path)?.[1]

const codeOf = (id: string, value: string): string | undefined => {
  const code = Option.getOrUndefined(decodeChannel(json(value)))?.code
  return code !== undefined && code !== "" && channelPattern.test(code) && channelNameOf(`update.channels.${id}`) === id ? code : undefined
}

export const kinds: Readonly<Record<Kind, KindRules>> = {
  mesh: {
    source: ({ mesh, members, shares }) => new Map([[mesh, JSON.stringify({ name: members.view().name, shares })]]),
    fits: (id, value) => meshOf(id, value) !== undefined
  },
  // Names that people gave, device keys, and services that are allowed to `federated`; nothing else.
  names: {
    source: (parts) => new Map([...parts.members.view().members.values()].filter(({ standing }) => standing === "member").map(({ device, name }) => [device, JSON.stringify({
      name, services: [...servicesOf(parts, device).values()].filter(({ allow, target }) => target !== undefined && allow.some((one) => one.kind === "federated")).map((service) => service.name).sort().slice(0, 64)
    })])),
    fits: (id, value) => nameOf(id, value) !== undefined
  },
  // Channels that the whole mesh follows, by name and code. A code lets others follow and verify; it gives no right.
  releases: {
    source: (parts) => new Map(Object.entries(new PolicyView(parts).document(configDoc("mesh", "update")).values).flatMap(([path, value]) => {
      const name = channelNameOf(path)
      return name === undefined || typeof value !== "string" || value === "" ? [] : [[name, JSON.stringify({ code: value })] as const]
    })),
    fits: (id, value) => codeOf(id, value) !== undefined
  },
  // Nothing of this kind exists yet.
  threats: { source: undefined, fits: () => false }
}

export const isKind = (text: string): text is Kind => Object.hasOwn(kinds, text)
export const isSharedKind = (text: string): text is SharedKind => sharedKinds.some((kind) => kind === text)

/** A mesh that shares something with this one. */
export interface OtherMesh {
  readonly id: string
  readonly name: string
  readonly shares: ReadonlyArray<SharedKind>
}

export interface Federation {
  /** Id of the federation's own mesh. */
  readonly id: string
  /** What this mesh shares. */
  readonly shares: ReadonlyArray<SharedKind>
  readonly begunBy: string
  readonly begunMs: number
  /** Devices whose word began it: they may be bridges. */
  readonly bridges: ReadonlySet<string>
  readonly ended: { readonly by: string; readonly ms: number } | undefined
  readonly others: ReadonlyArray<OtherMesh>
}

/** A node of another mesh, as that mesh names it. */
export interface FederatedName {
  readonly federation: string
  readonly mesh: string
  readonly meshName: string
  readonly device: string
  readonly name: string
  readonly services: ReadonlyArray<string>
}

/** The federations of a home mesh, by what admins and owners said, the newest first. */
export const federationsOf = (parts: Reading): ReadonlyArray<Federation> => {
  const { tables } = parts
  const said = tables.federations.said().flatMap((row) => {
    const device = managerOf(parts, row.log)
    return device === undefined ? [] : [{ ...row, device }]
  })
  return [...new Set(said.filter(({ ended }) => !ended).map(({ federation }) => federation))].flatMap((id) => {
    const mine = said.filter(({ federation }) => federation === id)
    const begun = mine.find(({ ended }) => !ended)
    if (begun === undefined) return []
    const ended = mine.findLast((row) => row.ended)
    const others = ended === undefined ? newest(receivedRows(parts, id), "mesh").flatMap(({ mesh, item, value }) => {
      const other = value === undefined || item !== mesh ? undefined : meshOf(item, value)
      return other === undefined ? [] : [{ id: mesh, ...other }]
    }) : []
    return [{
      id, shares: begun.shares.filter(isSharedKind), begunBy: begun.device, begunMs: begun.ms, bridges: new Set(mine.filter((row) => !row.ended).map(({ device }) => device)),
      ended: ended === undefined ? undefined : { by: ended.device, ms: ended.ms }, others
    }]
  })
}

/** Names of nodes of other meshes, of federations that have not ended. */
export const federatedNames = (parts: Reading): ReadonlyArray<FederatedName> => {
  // Two federations with one mesh show each of its nodes once.
  const found = new Map<string, FederatedName>()
  for (const { id, others } of federationsOf(parts).filter(({ ended }) => ended === undefined)) {
    for (const { mesh, meshName, item, value } of newest(receivedRows(parts, id), "names")) {
      const named = value === undefined ? undefined : nameOf(item, value)
      if (named !== undefined && !found.has(`${mesh} ${item}`)) found.set(`${mesh} ${item}`, { federation: id, mesh, meshName: others.find((other) => other.id === mesh)?.name ?? meshName, ...named })
    }
  }
  return [...found.values()].toSorted((a, b) => compare(a.meshName, b.meshName) || compare(a.name, b.name) || compare(a.device, b.device))
}

/** A channel that another mesh follows. */
export interface FederatedChannel {
  readonly mesh: string
  readonly meshName: string
  readonly name: string
  readonly code: string
}

/** Channels of other meshes, of federations that have not ended; nobody follows one because of that. */
export const federatedChannels = (parts: Reading): ReadonlyArray<FederatedChannel> => {
  const found = new Map<string, FederatedChannel>()
  for (const { id, others } of federationsOf(parts).filter(({ ended }) => ended === undefined)) {
    for (const { mesh, meshName, item, value } of newest(receivedRows(parts, id), "releases")) {
      const code = value === undefined ? undefined : codeOf(item, value)
      if (code !== undefined && !found.has(`${mesh} ${item}`)) found.set(`${mesh} ${item}`, { mesh, meshName: others.find((other) => other.id === mesh)?.name ?? meshName, name: item, code })
    }
  }
  return [...found.values()].toSorted((a, b) => compare(a.meshName, b.meshName) || compare(a.name, b.name))
}

/** What counts in a home mesh of what its bridges received. */
export const receivedRows = (parts: Reading, federation: string): ReadonlyArray<ItemRow> =>
  parts.tables.federations.items(federation).filter(({ log }) => managerOf(parts, log) !== undefined)

/** What counts in a federation: what its members wrote. */
export const sharedRows = (parts: Reading): ReadonlyArray<ItemRow> => parts.tables.federations.items("").filter(({ log }) => isWriter(parts, log))

/** Is this mesh a federation, and has a member of it ended it? Undefined when it is none. */
export const asFederation = (parts: Reading & { readonly mesh: string }): { readonly ended: boolean } | undefined => {
  const said = parts.tables.federations.said().filter(({ federation, log }) => federation === parts.mesh && isWriter(parts, log))
  return said.some(({ ended }) => !ended) ? { ended: said.some(({ ended }) => ended) } : undefined
}

/** The newest row of each thing of a kind, whether it is there or gone; rows come newest first. At most `itemsMax` things of each mesh, by id. */
export const newest = (rows: ReadonlyArray<ItemRow>, kind: Kind): ReadonlyArray<ItemRow> => {
  const found = new Map<string, ItemRow>()
  for (const row of rows) if (row.kind === kind && !found.has(`${row.mesh} ${row.item}`)) found.set(`${row.mesh} ${row.item}`, row)
  const counts = new Map<string, number>()
  return [...found.values()].toSorted((a, b) => compare(a.mesh, b.mesh) || compare(a.item, b.item)).filter(({ mesh, value }) => {
    const count = (counts.get(mesh) ?? 0) + (value === undefined ? 0 : 1)
    counts.set(mesh, count)
    return count <= itemsMax
  })
}

/** The device of a log when its role now lets it speak for the mesh. */
const managerOf = ({ members }: Reading, log: string): string | undefined => {
  const device = members.deviceOf(log)
  const member = device === undefined ? undefined : members.view().members.get(device)
  return member?.standing === "member" && manages(member.role) ? member.device : undefined
}

const isWriter = ({ members }: Reading, log: string): boolean => {
  const member = members.view().members.get(members.deviceOf(log) ?? "")
  return member?.standing === "member" && member.role !== "reader" && member.role !== "seeder"
}

const compare = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0
