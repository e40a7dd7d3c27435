/**
 * What is to be appended to a channel's log so that it says what the book says: as files, in their order. Pure; asked again after a crash it gives what is
 * missing, and nothing when all is there.
 *
 * Order: indexes, targets and delegated targets, roots, snapshot, timestamp. Who holds a beginning of it has the state before, whole, until the
 * roots; the roots come with snapshot and timestamp in one append, since a root with other keys for these makes the ones before worthless.
 */
import { Metadata, Signature, type Root, type Snapshot, type Targets, type Timestamp } from "@tufjs/models"
import { Refusal } from "../../commands/refusal.ts"
import { toHex } from "../../codec/bytes.ts"
import type { KeyPair } from "../../codec/signature.ts"
import { indexPath } from "../metadata/channel-block.ts"
import type { ChannelBook, Need } from "./book.ts"
import { isDue, lifeMs, logOf, type MetaEntry, nextSnapshot, nextTimestamp, onlineOf } from "./build.ts"
import { fileOf, type HeldChannel, type SignedFile, vouches } from "./published.ts"
import { canonicalBytes, signWith } from "./signed.ts"

export interface ChannelFile {
  readonly path: string
  readonly bytes: Uint8Array
}

export interface Publication {
  /** Changes nothing for a reader by itself: may be appended in several goes. */
  readonly before: ReadonlyArray<ChannelFile>
  /** To be appended at once. */
  readonly head: ReadonlyArray<ChannelFile>
  /** All metadata that a reader of the outcome sees, for the check before anything is appended. */
  readonly outcome: HeldChannel
  /** Ids of releases whose indexes the log must hold. */
  readonly indexes: ReadonlyArray<string>
  /** What changed, one sentence each. */
  readonly says: ReadonlyArray<string>
}

export interface PublicationParts {
  readonly book: ChannelBook
  /** What the log of the channel held so far; of a former log when this node takes the channel over. */
  readonly held: HeldChannel
  /** Key for snapshot and timestamp. */
  readonly online: KeyPair
  readonly now: number
}

/** Throws a refusal that says who has not signed yet when there is nothing to begin with. */
export const planPublication = ({ book, held, online, now }: PublicationParts): Publication => {
  const roots = [...held.roots, ...book.due.roots.map(({ metadata }) => fileOf(metadata))]
  const root = roots.at(-1)?.metadata
  if (root === undefined) throw waitingRefusal(book, "root")
  const lastTargets = book.due.targets.at(-1)?.metadata
  const targets = lastTargets === undefined ? held.targets : fileOf(lastTargets)
  if (targets === undefined) throw waitingRefusal(book, "targets")
  // R1.3: targets by keys that the new root does not know any more would leave every reader without releases.
  if (!vouches(root, "targets", targets.metadata)) throw waitingRefusal(book, "targets", `root ${root.signed.version} has other keys for targets, and no targets are signed by enough of them`)
  const delegated = new Map(held.delegated)
  for (const { proposal, metadata } of book.due.delegated) delegated.set(proposal.role, fileOf(metadata))
  if (onlineOf(root.signed) !== toHex(online.publicKey)) throw new Refusal({ kind: "denied", detail: "this node does not have the key for the channel's snapshot and timestamp" })
  const metas: ReadonlyArray<MetaEntry> = [["targets", targets] as const, ...delegated].map(([role, { metadata, bytes }]) => ({ name: `${role}.json`, version: metadata.signed.version, bytes }))
  const snapshot = snapshotAfter(held, root, metas, online, now)
  const timestamp = timestampAfter(held, root, snapshot, online, now)
  const all: ReadonlyArray<ChannelFile> = [
    { path: `${targets.metadata.signed.version}.targets.json`, bytes: targets.bytes },
    ...[...delegated].map(([role, { metadata, bytes }]) => ({ path: `${metadata.signed.version}.${role}.json`, bytes }))
  ]
  return {
    before: all,
    head: [
      ...roots.map(({ metadata, bytes }) => ({ path: `${metadata.signed.version}.root.json`, bytes })),
      { path: `${snapshot.metadata.signed.version}.snapshot.json`, bytes: snapshot.bytes }, { path: "timestamp.json", bytes: timestamp.bytes }
    ],
    outcome: { roots, timestamp, snapshot, targets, delegated },
    indexes: [...new Set([targets, ...delegated.values()].flatMap(({ metadata }) => indexesOf(metadata.signed)))],
    says: saysOf(book, held, snapshot, timestamp)
  }
}

/** Path and id of each release in targets. */
export const indexesOf = (targets: Targets): ReadonlyArray<string> => Object.values(targets.targets).flatMap(({ hashes }) => hashes["sha256"] ?? [])

export const indexFile = (id: string, bytes: Uint8Array): ChannelFile => ({ path: indexPath(id), bytes })

/** Does the newest complete root name another log than this one? Then this log only says so, and ends. */
export const hasMoved = (book: ChannelBook, log: string): boolean => {
  const root = book.roots.at(-1)?.signed
  return root !== undefined && logOf(root) !== log
}

const snapshotAfter = (held: HeldChannel, root: Metadata<Root>, metas: ReadonlyArray<MetaEntry>, online: KeyPair, now: number): SignedFile<Snapshot> => {
  const before = held.snapshot
  const next = nextSnapshot(before?.metadata.signed, metas, now)
  const same = before !== undefined && vouches(root, "snapshot", before.metadata) && !isDue(before.metadata.signed.expires, lifeMs.snapshot, now) &&
    JSON.stringify(Object.entries(next.toJSON()["meta"] ?? {}).toSorted()) === JSON.stringify(Object.entries(before.metadata.signed.toJSON()["meta"] ?? {}).toSorted())
  return same ? before : signedFile(next, online)
}

const timestampAfter = (held: HeldChannel, root: Metadata<Root>, snapshot: SignedFile<Snapshot>, online: KeyPair, now: number): SignedFile<Timestamp> => {
  const before = held.timestamp
  const same = before !== undefined && held.snapshot === snapshot && vouches(root, "timestamp", before.metadata) && !isDue(before.metadata.signed.expires, lifeMs.timestamp, now)
  return same ? before : signedFile(nextTimestamp(before?.metadata.signed, { name: "snapshot.json", version: snapshot.metadata.signed.version, bytes: snapshot.bytes }, now), online)
}

const signedFile = <T extends Snapshot | Timestamp>(signed: T, online: KeyPair): SignedFile<T> => {
  const { keyId, signature } = signWith(canonicalBytes(signed), online)
  return fileOf(new Metadata(signed, { [keyId]: new Signature({ keyID: keyId, sig: signature }) }))
}

const saysOf = ({ due }: ChannelBook, held: HeldChannel, snapshot: SignedFile<Snapshot>, timestamp: SignedFile<Timestamp>): ReadonlyArray<string> => [
  ...[...due.roots, ...due.targets, ...due.delegated].map(({ proposal }) => `${proposal.role} ${proposal.version}: ${proposal.summary}`),
  ...(held.snapshot === snapshot ? [] : [`snapshot ${snapshot.metadata.signed.version}`]),
  ...(held.timestamp === timestamp ? [] : [`timestamp ${timestamp.metadata.signed.version}, good until ${timestamp.metadata.signed.expires}`])
]

const waitingRefusal = ({ waiting, name }: ChannelBook, role: string, why?: string): Refusal => {
  const open = waiting.filter(({ proposal }) => proposal.role === role)
  const detail = open.map(({ proposal, needs }) => `${role} ${proposal.version} (${proposal.id.slice(0, 8)}) has ${needs.map(needText).join(" and ")}`)
  return new Refusal({
    kind: open.length === 0 ? "conflict" : "pending", hint: "kos release sign",
    detail: `channel ${name} is not published: ${[...(why === undefined ? [] : [why]), ...(detail.length === 0 && why === undefined ? [`there is no proposal for its ${role}`] : detail)].join("; ")}`
  })
}

/** `1 of 2 signatures as targets`. */
export const needText = ({ as, signed, threshold }: Need): string => `${signed.length} of ${threshold} signature${threshold === 1 ? "" : "s"} as ${as}`
