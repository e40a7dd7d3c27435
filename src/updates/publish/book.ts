/**
 * Where a channel stands, from what members said of it: proposals, signatures, withdrawals, and the files that its log holds when that log is here.
 *
 * What this owns. Which proposals have enough signatures, in which order they follow each other, which wait and for whom. It trusts nobody's word: a
 * signature counts when it verifies over the proposal's bytes with a key of the role, whoever brought it; signers never need to be online together, nor to be
 * members, since a key on a stick signs through any node.
 *
 * How one proposal travels. Somebody proposes bytes (`release.proposed`). Each signer's node shows what they change and adds a signature (`release.signed`). All of
 * that are events, so it passes through any third node. The publishing node finds that enough keys have signed, checks the would-be channel as a
 * client does, and appends the files.
 *
 * Invariants.
 * 1. A root needs its own threshold and that of the root before it (R1.3). Targets need the threshold of the newest root; a delegated role that of its delegation
 *    in the newest targets. Keys are counted once, by their bytes.
 * 2. Of each role the next version only is taken, one after the other (R1.4). Two complete proposals of one version: the earlier by its author's stamp, then the
 *    smaller id; the log, once it has one of them, decides for good.
 * 3. A withdrawal counts when its author made the proposal, or is admin or owner; it does not undo what is in the log.
 *
 * A channel is named in these events by the id of its first proposal, the SHA-256 of its first root's signed part: the hash of the file `1.root.json`, which is the
 * channel's identity for those who follow it, is not known before enough keys have signed.
 */
import { Metadata, Root, Signature, Targets } from "@tufjs/models"
import { Result } from "effect"
import { areaOfRole, channelNameOf, logOf, type RolePlan } from "./build.ts"
import { canonicalBytes, keyIdOf, type KeySignature, parseSigned, sha256, signs } from "./signed.ts"

export interface Proposal {
  /** SHA-256 of its bytes, 64 hex digits. */
  readonly id: string
  /** Id of the channel's first proposal. */
  readonly channel: string
  readonly role: string
  readonly version: number
  readonly bytes: Uint8Array
  readonly summary: string
  /** Device that proposed it. */
  readonly by: string
  readonly ms: number
}

export interface SaidSignature extends KeySignature {
  readonly proposal: string
  readonly by: string
}

/** What members said of all channels; withdrawals are those that count. */
export interface Said {
  readonly proposals: ReadonlyArray<Proposal>
  readonly signatures: (proposal: string) => ReadonlyArray<SaidSignature>
  readonly withdrawn: (proposal: string) => { readonly by: string; readonly reason: string } | undefined
}

/** What a channel's log holds, verified; `published.ts` reads it. */
export interface Published {
  readonly roots: ReadonlyArray<Metadata<Root>>
  readonly targets: Metadata<Targets> | undefined
  readonly delegated: ReadonlyMap<string, Metadata<Targets>>
}

/** A set of keys of which some must sign. */
export interface Need extends RolePlan {
  /** `root 1`, `root 2`, `targets`, `agents-acme`: who has to sign it as. */
  readonly as: string
  /** Public keys that did, each once. */
  readonly signed: ReadonlyArray<string>
}

export interface Waiting {
  readonly proposal: Proposal
  readonly signed: Root | Targets
  readonly needs: ReadonlyArray<Need>
  /** What it would follow. */
  readonly before: Root | Targets | undefined
}

/** A proposal with enough signatures. */
export interface Complete<T extends Root | Targets = Root | Targets> {
  readonly proposal: Proposal
  readonly metadata: Metadata<T>
  readonly before: T | undefined
}

export interface ChannelBook {
  readonly id: string
  readonly name: string
  /** Key of the log that the newest complete root names; of the first proposal when there is none. */
  readonly log: string
  readonly first: Proposal
  /** All roots, from the first one on. */
  readonly roots: ReadonlyArray<Metadata<Root>>
  readonly targets: Metadata<Targets> | undefined
  readonly delegated: ReadonlyMap<string, Metadata<Targets>>
  /** Complete, and not in the log yet: in the order in which they follow each other. */
  readonly due: { readonly roots: ReadonlyArray<Complete<Root>>; readonly targets: ReadonlyArray<Complete<Targets>>; readonly delegated: ReadonlyArray<Complete<Targets>> }
  readonly waiting: ReadonlyArray<Waiting>
  /** Proposals that can come to nothing any more, and why. */
  readonly closed: ReadonlyArray<{ readonly proposal: Proposal; readonly why: string }>
}

/** Everything that is known of a channel; undefined when its first proposal is not known here, or is no first root. */
export const readChannel = (id: string, said: Said, published: Published = nothing): ChannelBook | undefined => {
  const mine = said.proposals.filter(({ channel }) => channel === id)
  // What the log has left behind is not read again: it is as large as all releases there ever were.
  const reached = (role: string): number =>
    (role === "root" ? published.roots.at(-1)?.signed : role === "targets" ? published.targets?.signed : published.delegated.get(role)?.signed)?.version ?? 0
  const past = mine.filter((one) => one.id !== id && one.version <= reached(one.role))
  const parsed = mine.filter((one) => one.id === id || one.version > reached(one.role)).flatMap((proposal) => {
    const signed = fits(proposal) ? parseSigned(proposal.role, proposal.bytes) : undefined
    return signed !== undefined && Result.isSuccess(signed) && signed.success.version === proposal.version ? [{ proposal, signed: signed.success }] : []
  }).toSorted((a, b) => a.proposal.ms - b.proposal.ms || (a.proposal.id < b.proposal.id ? -1 : 1))
  const first = parsed.find(({ proposal }) => proposal.id === id && proposal.role === "root" && proposal.version === 1)
  if (first === undefined || !(first.signed instanceof Root)) return undefined
  const open = parsed.filter(({ proposal }) => said.withdrawn(proposal.id) === undefined && (proposal.id === id || proposal.role !== "root" || proposal.version !== 1))

  const complete = <T extends Root | Targets>(role: string, version: number, is: (signed: Root | Targets) => signed is T, needsOf: (signed: T) => ReadonlyArray<RoleKeys>): Omit<Complete<T>, "before"> | undefined => {
    for (const { proposal, signed } of open) {
      if (proposal.role !== role || proposal.version !== version || !is(signed)) continue
      const counted = needsOf(signed).map((need) => count(need, proposal, said))
      if (counted.length === 0 || counted.some((need) => need.signed.length < need.threshold)) continue
      return { proposal, metadata: new Metadata(signed, signaturesOf(counted, proposal, said)) }
    }
    return undefined
  }
  const chain = <T extends Root | Targets>(role: string, from: Metadata<T> | undefined, is: (signed: Root | Targets) => signed is T, needsOf: (signed: T, before: T | undefined) => ReadonlyArray<RoleKeys>): ReadonlyArray<Complete<T>> => {
    const out: Array<Complete<T>> = []
    for (let before = from?.signed; ;) {
      const next = complete(role, (before?.version ?? 0) + 1, is, (signed) => needsOf(signed, before))
      if (next === undefined) return out
      out.push({ ...next, before })
      before = next.metadata.signed
    }
  }

  const dueRoots = chain("root", published.roots.at(-1), isRoot, rootNeeds)
  const roots = [...published.roots, ...dueRoots.map(({ metadata }) => metadata)]
  const root = roots.at(-1)?.signed
  const targetsNeeds = (): ReadonlyArray<RoleKeys> => root === undefined ? [] : [keysOf(root, "targets")]
  const dueTargets = chain("targets", published.targets, isTargets, targetsNeeds)
  const targets = dueTargets.at(-1)?.metadata ?? published.targets
  const delegated = new Map(published.delegated)
  const dueDelegated: Array<Complete<Targets>> = []
  const delegatedNeeds = (role: string) => (): ReadonlyArray<RoleKeys> => delegationKeys(targets?.signed, role)
  for (const role of delegatedRoles(targets?.signed)) {
    const due = chain(role, published.delegated.get(role), isTargets, delegatedNeeds(role))
    dueDelegated.push(...due)
    const last = due.at(-1)
    if (last !== undefined) delegated.set(role, last.metadata)
  }

  const inForce = (role: string): Root | Targets | undefined => role === "root" ? root : role === "targets" ? targets?.signed : delegated.get(role)?.signed
  const waiting: Array<Waiting> = []
  const closed: Array<{ readonly proposal: Proposal; readonly why: string }> = []
  const taken = new Set([...dueRoots, ...dueTargets, ...dueDelegated].map(({ proposal }) => proposal.id))
  // Who signs targets once a root that waits is complete may do so before.
  const pendingRoots = open.flatMap(({ signed }) => isRoot(signed) && signed.version === (root?.version ?? 0) + 1 ? [signed] : [])
  for (const { proposal, signed } of parsed) {
    const withdrawn = said.withdrawn(proposal.id)
    const before = inForce(proposal.role)
    if (taken.has(proposal.id)) continue
    const version = before?.version ?? 0
    if (withdrawn !== undefined) closed.push({ proposal, why: withdrawnText(withdrawn.reason) })
    else if (proposal.version <= version) closed.push({ proposal, why: whyClosed(proposal, before) })
    else if (!open.some((one) => one.proposal === proposal)) closed.push({ proposal, why: "it is no first root of this channel" })
    else {
      const needs = isRoot(signed) ? rootNeeds(signed, isRoot(before) ? before : undefined)
        : proposal.role === "targets" ? distinct([...targetsNeeds(), ...pendingRoots.map((next) => keysOf(next, "targets", root === undefined ? "targets" : `targets by root ${next.version}`))]) : delegatedNeeds(proposal.role)()
      waiting.push({ proposal, signed, before, needs: needs.map((need) => count(need, proposal, said)) })
    }
  }
  for (const proposal of past) {
    const withdrawn = said.withdrawn(proposal.id)
    closed.push({ proposal, why: withdrawn === undefined ? whyClosed(proposal, inForce(proposal.role)) : withdrawnText(withdrawn.reason) })
  }
  const latest = root ?? first.signed
  return {
    id, name: channelNameOf(first.signed), log: logOf(latest), first: first.proposal, roots, targets, delegated,
    due: { roots: dueRoots, targets: dueTargets, delegated: dueDelegated }, waiting,
    closed: closed.toSorted((a, b) => a.proposal.ms - b.proposal.ms)
  }
}

const nothing: Published = { roots: [], targets: undefined, delegated: new Map() }

/** Ids of all channels that somebody proposed a first root for. */
export const channelsIn = ({ proposals }: Said): ReadonlyArray<string> =>
  [...new Set(proposals.filter(({ id, channel, role, version }) => id === channel && role === "root" && version === 1).map(({ id }) => id))]

interface RoleKeys extends RolePlan {
  readonly as: string
}

const fits = ({ id, role, bytes }: Proposal): boolean => (role === "root" || role === "targets" || areaOfRole(role) !== undefined) && sha256(bytes) === id

const isRoot = (signed: Root | Targets | undefined): signed is Root => signed instanceof Root
const isTargets = (signed: Root | Targets | undefined): signed is Targets => signed instanceof Targets

/** R1.3: enough keys of the one before, and of itself. */
const rootNeeds = (root: Root, before: Root | undefined): ReadonlyArray<RoleKeys> =>
  before === undefined ? [keysOf(root, "root", `root ${root.version}`)] : [keysOf(before, "root", `root ${before.version}`), keysOf(root, "root", `root ${root.version}`)]

/** One of several that ask the same of the same keys. */
const distinct = (needs: ReadonlyArray<RoleKeys>): ReadonlyArray<RoleKeys> => {
  const text = ({ keys, threshold }: RoleKeys): string => JSON.stringify([threshold, [...keys].sort()])
  return needs.filter((need, at) => needs.findIndex((other) => text(other) === text(need)) === at)
}

const keysOf = (root: Root, role: string, as = role): RoleKeys => {
  const found = root.roles[role]
  return { as, keys: publicKeys(found?.keyIDs ?? [], root.keys), threshold: found?.threshold ?? Number.POSITIVE_INFINITY }
}

/** Names of the roles to which targets delegate. */
export const delegatedRoles = (targets: Targets | undefined): ReadonlyArray<string> => Object.keys(targets?.delegations?.roles ?? {})

const delegationKeys = (targets: Targets | undefined, role: string): ReadonlyArray<RoleKeys> => {
  const found = targets?.delegations?.roles?.[role]
  const area = areaOfRole(role)
  // R1.5: a delegation that reaches beyond the publisher's own path is none.
  if (found === undefined || area === undefined || found.paths?.length !== 1 || found.paths[0] !== `${area}/*`) return []
  return [{ as: role, keys: publicKeys(found.keyIDs, targets?.delegations?.keys ?? {}), threshold: found.threshold }]
}

const publicKeys = (ids: ReadonlyArray<string>, keys: Root["keys"]): ReadonlyArray<string> => [...new Set(ids.flatMap((id) => {
  const publicHex = keys[id]?.keyVal["public"]
  return publicHex !== undefined && keyIdOf(publicHex) === id ? [publicHex] : []
}))]

const count = ({ as, keys, threshold }: RoleKeys, proposal: Proposal, said: Said): Need => {
  const valid = validSignatures(keys, proposal, said)
  return { as, keys, threshold, signed: keys.filter((key) => valid.some(({ publicHex }) => publicHex === key)) }
}

/** The first signature of each key that verifies. */
const validSignatures = (keys: ReadonlyArray<string>, proposal: Proposal, said: Said): ReadonlyArray<KeySignature & { readonly publicHex: string }> => {
  const byId = new Map(keys.map((key) => [keyIdOf(key), key]))
  const out = new Map<string, KeySignature & { readonly publicHex: string }>()
  for (const { keyId, signature } of said.signatures(proposal.id)) {
    const publicHex = byId.get(keyId)
    if (publicHex === undefined || out.has(keyId)) continue
    if (signs(proposal.bytes, { keyId, signature }, publicHex)) out.set(keyId, { keyId, signature, publicHex })
  }
  return [...out.values()]
}

const signaturesOf = (needs: ReadonlyArray<Need>, proposal: Proposal, said: Said): Record<string, Signature> => {
  const keys = [...new Set(needs.flatMap((need) => need.keys))]
  return Object.fromEntries(validSignatures(keys, proposal, said).toSorted((a, b) => (a.keyId < b.keyId ? -1 : 1)).map(({ keyId, signature }) => [keyId, new Signature({ keyID: keyId, sig: signature })]))
}

const withdrawnText = (reason: string): string => `withdrawn${reason === "" ? "" : `: ${reason}`}`

const whyClosed = ({ id, version }: Proposal, inForce: Root | Targets | undefined): string =>
  inForce === undefined || version < inForce.version ? `version ${inForce?.version ?? 0} has followed it`
    : sha256(canonicalBytes(inForce)) === id ? "it is in force" : `another proposal for version ${version} was signed first`
