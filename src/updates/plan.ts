/**
 * What an update would do here, before anything is touched: what changes, bytes, space, migrations, who signed, who has it, and what it means for those who
 * have not updated. Pure and deterministic: the same facts give the same sentences in the same order, in bounded lists.
 */
import type { HealthCheck } from "./ports.ts"
import { bytesText, type Judgement, listed, missing, typesText } from "./compatible.ts"
import type { Release, ReleaseKind } from "./release.ts"
import { compareVersions } from "./version.ts"

/** A node of the mesh that reads logs: seeders, which open none, are left out. */
export interface PlanNode {
  readonly device: string
  readonly name: string
  /** What it says that it reads and writes; undefined when it never said so. */
  readonly capability: { readonly version: string; readonly reads: ReadonlyArray<string>; readonly writes: ReadonlyArray<string> } | undefined
}

export interface PlanFacts {
  readonly device: string
  /** What is here of this name; undefined when there is none. */
  readonly from: { readonly version: string; readonly generation: number } | undefined
  /** All that read, this one among them. */
  readonly nodes: ReadonlyArray<PlanNode>
  /** What this version reads and writes. */
  readonly now: { readonly reads: ReadonlyArray<string>; readonly writes: ReadonlyArray<string> }
  /** Event types that stand in the logs here. */
  readonly types: ReadonlyArray<string>
  readonly bytes: {
    /** To be fetched, about; undefined before its index is here. */
    readonly fetch: number | undefined
    /** Packs that are kept, unpacked tree, payload and reserve. */
    readonly needed: number
    readonly free: number
  }
  /** Names of the nodes and people that say that they sign with a key; a key that nobody named has none. */
  readonly signerNames: (keyId: string) => ReadonlyArray<string>
  /** Names of peers that have all of it, and part of it. */
  readonly whole: ReadonlyArray<string>
  readonly part: ReadonlyArray<string>
  readonly judgement: Judgement
  /** What the last rehearsal here said of it; undefined when there was none. */
  readonly rehearsed: { readonly differences: number; readonly says: string } | undefined
  readonly trust: "fresh" | "stale" | "untrusted" | "empty"
  /** Checks of this device that are bad already. */
  readonly unwell: ReadonlyArray<HealthCheck>
}

export interface UpdatePlan {
  readonly release: string
  readonly name: string
  readonly version: string
  readonly kind: ReleaseKind
  readonly from: string | undefined
  readonly fits: boolean
  readonly reasons: ReadonlyArray<string>
  /** One sentence. */
  readonly summary: string
  readonly fetchBytes: number | undefined
  readonly neededBytes: number
  readonly freeBytes: number
  readonly migrations: ReadonlyArray<string>
  readonly signedBy: ReadonlyArray<string>
  readonly holders: ReadonlyArray<string>
  /** Sentences, the most serious first; at most `risksMax` of at most `riskCharsMax` characters. */
  readonly risks: ReadonlyArray<string>
}

/** As many as `update.offered` carries. */
export const risksMax = 32
export const riskCharsMax = 512
/** Nodes that one sentence names. */
export const nodesNamedMax = 5
const holdersMax = 64
/** Sentences on who cannot read what, in each direction; what is left of `risksMax` is for the others. */
const groupsMax = 8

export const planOf = (release: Release, facts: PlanFacts): UpdatePlan => {
  const { custom } = release
  const { from, bytes } = facts
  return {
    release: release.id, name: custom.name, version: custom.version, kind: custom.kind, from: from?.version, fits: facts.judgement.fits, reasons: facts.judgement.reasons,
    summary: summaryOf(release, facts), fetchBytes: bytes.fetch, neededBytes: bytes.needed + custom.needs.freeBytes, freeBytes: bytes.free, migrations: custom.migrations,
    signedBy: signedBy(release, facts), holders: [...new Set(facts.whole)].sort().slice(0, holdersMax),
    risks: [...risksOf(release, facts)].map((risk) => risk.slice(0, riskCharsMax)).slice(0, risksMax)
  }
}

const summaryOf = ({ custom, channelName }: Release, { from, bytes, whole, part }: PlanFacts): string => {
  const change = from === undefined ? `${custom.name} ${custom.version} comes anew` : `${custom.name} goes from ${from.version} to ${custom.version}`
  const size = bytes.fetch === undefined ? "how much has to be fetched is not known yet" : bytes.fetch === 0 ? "nothing has to be fetched" : `about ${bytesText(bytes.fetch)} have to be fetched`
  const have = whole.length > 0 ? `${whole.length} ${whole.length === 1 ? "peer has" : "peers have"} it` : part.length > 0 ? `${part.length} ${part.length === 1 ? "peer has" : "peers have"} part of it` : "no peer in touch has it"
  return `${change} (channel ${channelName}): ${size}, ${have}, and it needs ${bytesText(bytes.needed + custom.needs.freeBytes)} of ${bytesText(bytes.free)} free.`
}

const signedBy = ({ signers, threshold, role }: Release, { signerNames }: PlanFacts): ReadonlyArray<string> => {
  const keys = [...new Set(signers)].sort().slice(0, 32).map((key) => {
    const names = [...new Set(signerNames(key))].sort().slice(0, 4)
    return `key ${key.slice(0, 8)}${names.length === 0 ? ", which no node here names as its own" : ` of ${listed(names)}`}`
  })
  return [...keys, `${signers.length === 1 ? "1 signature" : `${signers.length} signatures`} for ${role}, of which ${threshold} ${threshold === 1 ? "is" : "are"} needed`]
}

/** Sentences on what could go wrong, and on who cannot read what afterwards. */
export const risksOf = (release: Release, facts: PlanFacts): ReadonlyArray<string> => {
  const { custom } = release
  const risks: Array<string> = []
  // R2.4: said before a person decides.
  if (facts.trust !== "fresh") risks.push(`its channel is ${facts.trust}: there may be a newer release that is not known here`)
  if (custom.risk !== "") risks.push(`its publisher says: ${custom.risk}`)
  if (custom.kind === "bundle" || custom.kind === "os") risks.push(...syncRisks(release, facts))
  if (facts.rehearsed !== undefined && facts.rehearsed.differences > 0) risks.push(`its rehearsal made ${facts.rehearsed.differences} ${facts.rehearsed.differences === 1 ? "thing" : "things"} otherwise than the running version: ${facts.rehearsed.says}`)
  for (const migration of custom.migrations.slice(0, 8)) risks.push(`it changes what is stored: ${migration}`)
  if (custom.minSecure !== null && facts.from !== undefined && compareVersions(custom.minSecure, facts.from.version) > 0) risks.push(`once it is committed, this device cannot go back to ${facts.from.version}: nothing before ${custom.minSecure} is secure`)
  const unwell = facts.unwell.filter(({ ok }) => !ok)
  if (unwell.length > 0) risks.push(`this device is not healthy as it is (${listed(unwell.slice(0, 4).map(({ name }) => name).sort())}), so its trial would fail`)
  if (facts.nodes.length > 1 && facts.whole.length === 0 && facts.part.length === 0 && facts.bytes.fetch !== 0) risks.push("no peer in touch has it, so it has to come from a mirror or a stick")
  return risks
}

/** Who could not read what whom wrote, in both directions. */
const syncRisks = ({ custom: { events, version, name } }: Release, { device, nodes, now, types }: PlanFacts): ReadonlyArray<string> => {
  const total = nodes.length
  const others = nodes.filter((node) => node.device !== device)
  // Of those that write it in any case, this update changes nothing.
  const fresh = missing(events.writes, now.writes)
  const cannot = others.flatMap(({ name: who, capability }) => {
    const lacks = capability === undefined ? [] : missing(fresh, capability.reads)
    return lacks.length === 0 ? [] : [{ who, types: lacks }]
  })
  const unknown = others.filter(({ capability }) => capability === undefined).map(({ name: who }) => who)
  const ahead = others.flatMap(({ name: who, capability }) => {
    // What this version cannot read either is no consequence of the update.
    const writes = capability === undefined ? [] : missing(capability.writes, events.reads).filter((type) => now.reads.includes(type))
    return writes.length === 0 ? [] : [{ who, types: writes }]
  })
  const unreadHere = missing(types, events.reads).filter((type) => now.reads.includes(type))
  return [
    ...firstOf(byTypes(cannot), total, "cannot read other types of events after this", ({ who, types: lacked }) =>
      `after this, ${nodesText(who, total)} cannot read ${typesText(lacked)} until ${who.length === 1 ? "it updates; it" : "they update; they"} will keep and forward them`),
    ...(events.reads.length === 0 ? [] : [
      ...firstOf(byTypes(ahead), total, `already write other types of events, which ${name} ${version} cannot read`, ({ who, types: written }) =>
        `${nodesText(who, total)} already ${who.length === 1 ? "writes" : "write"} ${typesText(written)}, which ${name} ${version} cannot read; this node would keep and forward them`),
      ...(unreadHere.length === 0 ? [] : [`the logs here hold ${typesText(unreadHere)}, which ${name} ${version} cannot read; this node would keep and forward them`])
    ]),
    ...(unknown.length === 0 || fresh.length === 0 ? [] : [`what ${nodesText(unknown, total)} can read is not known, so ${unknown.length === 1 ? "it" : "they"} may not be able to read ${typesText(fresh)} after this`])
  ]
}

interface Group {
  readonly who: ReadonlyArray<string>
  readonly types: ReadonlyArray<string>
}

const firstOf = (groups: ReadonlyArray<Group>, total: number, also: string, sentence: (group: Group) => string): ReadonlyArray<string> => {
  const rest = groups.slice(groupsMax).reduce((sum, { who }) => sum + who.length, 0)
  return [...groups.slice(0, groupsMax).map(sentence), ...(rest === 0 ? [] : [`${rest} more of ${total} nodes ${also}`])]
}

/** Nodes for which the same holds stand in one sentence; those that concern the most nodes first. */
const byTypes = (found: ReadonlyArray<{ readonly who: string; readonly types: ReadonlyArray<string> }>): ReadonlyArray<Group> => {
  const groups = new Map<string, { readonly who: Array<string>; readonly types: ReadonlyArray<string> }>()
  for (const { who, types } of found) {
    const key = types.join(" ")
    const known = groups.get(key)
    if (known === undefined) groups.set(key, { who: [who], types })
    else known.who.push(who)
  }
  return [...groups].toSorted(([a, { who: x }], [b, { who: y }]) => y.length - x.length || (a < b ? -1 : 1)).map(([, group]) => group)
}

/** "`attic` and `shed` (2 of 7 nodes)" */
const nodesText = (names: ReadonlyArray<string>, total: number): string => {
  const sorted = names.toSorted().map((name) => `\`${name}\``)
  const more = sorted.length - nodesNamedMax
  return `${listed(more > 0 ? sorted.slice(0, nodesNamedMax) : sorted, more > 0 ? `${more} more` : undefined)} (${names.length} of ${total} nodes)`
}
