/** Channels and proposals as the doors show them. */
import type { ProposalRow, ReleaseChannelRow } from "../api/operations/release.ts"
import { timeText } from "../api/handlers/reading.ts"
import { Result } from "effect"
import { channelCode } from "../updates/metadata/channel-code.ts"
import { type ChannelBook, delegatedRoles, type Need, type Proposal } from "../updates/publish/book.ts"
import { planOf, yankedOf } from "../updates/publish/build.ts"
import { changesOf } from "../updates/publish/changes.ts"
import { sha256 } from "../updates/publish/signed.ts"
import { decodeCustom } from "../updates/release.ts"
import type { OpenChannel, PublisherNode } from "./publisher.ts"

/** What the owner of a key calls it, when a node of this mesh says that it is its own; by the first that said so. */
export const keyNames = ({ tables, members }: Pick<PublisherNode, "tables" | "members">): (key: string) => string => {
  const names = new Map<string, string>()
  for (const { body, log } of tables.updates.signers()) {
    const device = members.deviceOf(log)
    const node = device === undefined ? "" : members.nameOf(device)
    names.set(body.key, body.name === "" || body.name === node ? node : `${body.name} (${node})`)
  }
  return (key) => names.get(key) ?? ""
}

export const shownKey = (nameOf: (key: string) => string) => (key: string): string => nameOf(key) === "" ? key.slice(0, 16) : nameOf(key)

/** Whether what has enough signatures was published is known where the log is held only. */
export const proposalRows = (node: PublisherNode, book: ChannelBook): ReadonlyArray<ProposalRow> => {
  const nameOf = keyNames(node)
  const row = (proposal: Proposal, more: Pick<ProposalRow, "state" | "why" | "needs" | "changes">): ProposalRow => ({
    id: proposal.id, channel: book.id, channelName: book.name, role: proposal.role, version: proposal.version, summary: proposal.summary, by: node.members.nameOf(proposal.by), at: timeText(proposal.ms), ...more
  })
  return [
    ...[...book.due.roots, ...book.due.targets, ...book.due.delegated].map(({ proposal, metadata, before }) =>
      row(proposal, { state: "complete", why: "", needs: [], changes: changesOf(metadata.signed, before, shownKey(nameOf)) })),
    ...book.waiting.map(({ proposal, signed, before, needs }) => row(proposal, {
      state: "waiting", why: "", needs: needs.map((need) => needRow(need, nameOf)), changes: changesOf(signed, before, shownKey(nameOf))
    })),
    ...book.closed.map(({ proposal, why }) => row(proposal, { state: "closed", why, needs: [], changes: [] }))
  ]
}

export const needRow = ({ as, threshold, keys, signed }: Need, nameOf: (key: string) => string): ProposalRow["needs"][number] =>
  ({ as, threshold, signed: signed.length, signers: keys.map((key) => ({ key, name: nameOf(key), signed: signed.includes(key) })) })

export const channelRow = (node: PublisherNode, book: ChannelBook, channel: OpenChannel | undefined): ReleaseChannelRow => {
  const nameOf = keyNames(node)
  const root = book.roots.at(-1)?.signed
  const held = channel?.held
  const first = held?.roots[0]
  const role = (as: string): Need | undefined => root === undefined ? undefined : { as, ...planOf(root, as), signed: [] }
  // Where the log is held it says what is published; else what has enough signatures is all that is known.
  const targets = held === undefined ? book.targets : held.targets?.metadata
  const delegated = held === undefined ? [...book.delegated] : [...held.delegated].map(([name, file]) => [name, file.metadata] as const)
  const inForce = [["targets", targets] as const, ...delegated]
  const expires = held?.timestamp?.metadata.signed.expires
  return {
    name: book.name, id: book.id, log: book.log, here: channel?.own !== undefined,
    code: first === undefined || held?.timestamp === undefined ? "" : channelCode({ log: book.log, root: sha256(first.bytes) }),
    versions: {
      root: held?.roots.at(-1)?.metadata.signed.version ?? root?.version ?? 0, targets: targets?.signed.version ?? 0, snapshot: held?.snapshot?.metadata.signed.version ?? 0, timestamp: held?.timestamp?.metadata.signed.version ?? 0
    },
    ...(expires === undefined ? {} : { expires: timeText(Date.parse(expires)) }),
    needs: [role("root"), role("targets")].flatMap((need) => need === undefined ? [] : [needRow(need, nameOf)]),
    publishers: delegatedRoles(book.targets?.signed).flatMap((name) => {
      const found = book.targets?.signed.delegations?.roles?.[name]
      const keys = (found?.keyIDs ?? []).flatMap((id) => book.targets?.signed.delegations?.keys[id]?.keyVal["public"] ?? [])
      return found === undefined ? [] : [needRow({ as: name, keys, threshold: found.threshold, signed: [] }, nameOf)]
    }),
    releases: inForce.flatMap(([name, metadata]) => Object.values(metadata?.signed.targets ?? {}).map((target) => {
      const custom = Result.getOrUndefined(decodeCustom(target.path, target.custom))
      return {
        id: target.hashes["sha256"] ?? "", target: target.path, role: name, version: custom?.version ?? "", kind: custom?.kind ?? "no release", ring: custom?.ring ?? "",
        permille: custom?.rolloutPermille ?? 0, security: custom?.security ?? false
      }
    })),
    yanked: inForce.flatMap(([, metadata]) => yankedOf(metadata?.signed).map((one) => ({ ...one }))),
    waiting: proposalRows(node, book).filter(({ state }) => state === "waiting" || (state === "complete" && channel !== undefined))
  }
}
