/**
 * The publishing side of a home in one mesh: what members said of channels, the channels' logs that are held here, and publishing itself.
 *
 * What this owns. The one place that appends to a channel's log. The desk (`release-desk.ts`) says what people wish; a reactor signs snapshot and
 * timestamp anew when a third of their time is over, and finishes what was cut short.
 *
 * How one publication travels. The log and the events are read; what has enough signatures is put after what the log holds; the would-be channel is checked as
 * clients check it; a mark is written; files that the log lacks are appended, the head last; the mark goes. Each step can be done again: what is there is not
 * appended twice.
 *
 * Invariants.
 * 1. Nothing is appended that `faultForClients` did not pass, and nothing by a node that lacks the log's key.
 * 2. One publication at a time. The mark `HOME/updates/publishing/ID` is there from before the first block until after the last.
 * 3. Time: a clock far ahead of the last signing time would take every follower's floor with it (R2.2), so nothing is signed by it unless a person says that
 *    it is right. A clock that is behind changes nothing but the new dates.
 *
 * Tricky cases
 * - The publishing node is lost: another one proposes a root that names its own log (`rotate --log`), and fills that log with all files from a replica of the old one.
 * - The old node is there after all: it appends the root that names the other log, and signs nothing any more.
 * - The power goes between two blocks: readers have the state before, or for a moment a root that is newer than its timestamp; the mark makes the next start finish it.
 */
import { readdir, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Result, type Scope } from "effect"
import type { MeshView } from "../api/node.ts"
import { rankOf } from "../codec/operation.ts"
import type { KeyPair } from "../codec/signature.ts"
import { Refusal } from "../commands/refusal.ts"
import { type ChannelFiles, channelFiles, encodeFile, indexBytesMax, indexPath } from "../updates/metadata/channel-block.ts"
import { decodeIndex } from "../updates/payload/index-file.ts"
import type { MakePayload } from "../updates/payload/payload.ts"
import type { ChannelLog, OwnChannelLog, PackRef } from "../updates/ports.ts"
import { type ChannelBook, channelsIn, readChannel, type Said } from "../updates/publish/book.ts"
import { areaOfRole, logOf, onlineOf, signedMsOf } from "../updates/publish/build.ts"
import { faultForClients } from "../updates/publish/check.ts"
import { type ChannelFile, hasMoved, indexFile, planPublication, type Publication } from "../updates/publish/publication.ts"
import { fileOf, type HeldChannel, publishedOf, readHeld } from "../updates/publish/published.ts"
import { canonicalBytes, sha256 } from "../updates/publish/signed.ts"
import { makeDirectory, readSmall, removeWhole, writeWhole } from "../vault/files.ts"
import type { ChannelStore } from "./channel-store.ts"
import type { Level } from "./node-log.ts"

/** How far ahead of the last signing time a clock may be, milliseconds. */
export const clockAheadMsMax = 400 * 86_400_000
/** How often dates are looked at, milliseconds. */
export const lookEveryMs = 3_600_000
/** Channels of one mesh that are looked at; of each log the tables give the newest proposals (`updateRowsPerLogMax`). */
export const channelsMax = 256

export interface PublisherParts {
  /** The home's own directory. */
  readonly home: string
  readonly node: () => PublisherNode
  readonly now: () => number
  readonly notice: (level: Level, text: string, detail?: Readonly<Record<string, unknown>>) => void
  readonly channels: Pick<ChannelStore, "own" | "follow" | "logs">
  readonly makePayload: MakePayload
  /** Takes a pack that was made here, to serve it; the file may be removed afterwards. */
  readonly take: (pack: PackRef, file: string) => Promise<void>
}

export interface PublisherNode {
  readonly tables: Pick<MeshView["tables"], "updates">
  readonly members: Pick<MeshView["members"], "view" | "nameOf" | "deviceOf">
  readonly dispatch: Pick<MeshView["dispatch"], "run">
  readonly vault: MeshView["vault"]
}

/** A channel whose log is held here. */
export interface OpenChannel {
  readonly files: ChannelFiles
  readonly held: HeldChannel
  /** With what the log holds. */
  readonly book: ChannelBook
  /** Its log, when it is written here. */
  readonly own: OwnChannelLog | undefined
}

export interface PublishWish {
  /** Directories with indexes that the log lacks. */
  readonly indexes: ReadonlyArray<string>
  readonly trustClock: boolean
  /** Signs anew what is there and takes nothing new. */
  readonly renewOnly?: boolean
}

export interface PublishDone {
  readonly channel: OpenChannel
  readonly says: ReadonlyArray<string>
  /** What delegated publishers signed and what could not be taken, with the reason. */
  readonly left: ReadonlyArray<string>
}

export interface Publisher {
  readonly parts: PublisherParts
  /** Where indexes and packs are that were made here: `SHA256.index`, `SHA256`. */
  readonly made: string
  readonly said: () => Said
  readonly books: () => ReadonlyArray<ChannelBook>
  /** Undefined when no log of it is held here. */
  readonly open: (book: ChannelBook) => Promise<OpenChannel | undefined>
  readonly publish: (id: string, wish: PublishWish) => Promise<PublishDone>
  /** Index of a release: from the log, or from what was made here. */
  readonly index: (id: string, channel: OpenChannel | undefined, more?: ReadonlyArray<string>) => Promise<Uint8Array | undefined>
  /** Finishes what was cut short, and signs anew what is due. */
  readonly look: () => Promise<void>
}

export const makePublisher = (parts: PublisherParts): Publisher => {
  const { home, node, now, notice, channels } = parts
  const made = join(home, "updates", "made")
  const marks = join(home, "updates", "publishing")
  const readers = new WeakMap<ChannelLog, ChannelFiles>()
  let turn: Promise<unknown> = Promise.resolve()
  let clockTold = false

  const filesOf = (log: ChannelLog): ChannelFiles => {
    const files = readers.get(log) ?? channelFiles(log)
    readers.set(log, files)
    return files
  }

  let read: { readonly revision: number; readonly view: unknown; readonly books: ReadonlyArray<ChannelBook> } | undefined
  /** From events alone: that reads all proposals there ever were, so it is done once for what is known now. */
  const books = (): ReadonlyArray<ChannelBook> => {
    const { tables, members } = node()
    const [revision, view] = [tables.updates.revision, members.view()]
    if (read === undefined || read.revision !== revision || read.view !== view) {
      const said = saidOf(node())
      read = { revision, view, books: channelsIn(said).flatMap((id) => readChannel(id, said) ?? []) }
    }
    return read.books
  }

  /** Logs that the channel was or is published in, the newest first; the first proposal's when it has no complete root. */
  const logsOf = (book: ChannelBook): ReadonlyArray<string> => [...new Set([book.log, ...book.roots.map(({ signed }) => logOf(signed)).toReversed()])]

  const readAs = async (id: string, files: ChannelFiles): Promise<HeldChannel> => {
    const held = await readHeld(files)
    const [first] = held.roots
    return first === undefined || sha256(canonicalBytes(first.metadata.signed)) === id ? held : nothingHeld
  }

  const open = async (book: ChannelBook): Promise<OpenChannel | undefined> => {
    const said = saidOf(node())
    for (const log of logsOf(book)) {
      const keyPair = await node().vault.releaseKeyPair(log)
      const own = keyPair === undefined ? undefined : await channels.own(keyPair)
      const any = own ?? (channels.logs.keys().includes(log) ? await channels.follow(log) : undefined)
      if (any === undefined) continue
      const files = filesOf(any)
      let held = await readAs(book.id, files)
      // Also when taking it over was cut short: versions go on from those of the log before.
      if (held.timestamp === undefined && own !== undefined) held = await former(book, log) ?? held
      if (held.roots.length === 0 && own === undefined) continue
      return { files, held, own, book: readChannel(book.id, said, publishedOf(held)) ?? book }
    }
    return undefined
  }

  /** What the log before this one held, while this one is empty. */
  const former = async (book: ChannelBook, present: string): Promise<HeldChannel | undefined> => {
    for (const log of logsOf(book)) {
      if (log === present || !channels.logs.keys().includes(log)) continue
      const held = await readAs(book.id, filesOf(await channels.follow(log)))
      if (held.roots.length > 0) return held
    }
    return undefined
  }

  const index: Publisher["index"] = async (id, channel, more = []) => {
    const fits = (bytes: Uint8Array): boolean => sha256(bytes) === id
    const there = await channel?.files.find(indexPath(id), fits)
    if (there !== undefined) return there
    for (const directory of [made, ...more]) {
      const bytes = await readSmall(join(directory, `${id}.index`), indexBytesMax)
      // R1.7, R3.1: what comes from a directory counts when it is what was signed.
      if (typeof bytes !== "string" && fits(bytes)) return bytes
    }
    const logs = channel === undefined ? [] : logsOf(channel.book).filter((log) => channels.logs.keys().includes(log))
    for (const log of logs) {
      const found = await filesOf(await channels.follow(log)).find(indexPath(id), fits)
      if (found !== undefined) return found
    }
    return undefined
  }

  const publish = (id: string, wish: PublishWish): Promise<PublishDone> => {
    const next = turn.then(() => publishNow(id, wish))
    turn = next.catch(() => undefined)
    return next
  }

  const publishNow = async (id: string, wish: PublishWish): Promise<PublishDone> => {
    const book = books().find((one) => one.id === id)
    if (book === undefined) throw new Refusal({ kind: "not-found", detail: `no channel ${id.slice(0, 8)} is known here`, hint: "kos release list" })
    const channel = await open(book)
    if (channel?.own === undefined) throw elsewhere(book)
    const { own, files, held } = channel
    if (hasMoved(channel.book, own.key)) return sayMoved(channel)
    const online = await onlineKeys(channel.book)
    checkClock(held, wish.trustClock)
    const left: Array<string> = []
    const taken = wish.renewOnly === true ? withoutDue(channel.book, held) : await withoutFaulty(channel, wish, left)
    const publication = planPublication({ book: taken, held, online, now: now() })
    if (publication.says.length === 0 && (wish.renewOnly === true || left.length > 0)) return { channel, says: [], left }
    const indexes: Array<ChannelFile> = []
    for (const release of publication.indexes) {
      const bytes = await index(release, channel, wish.indexes)
      if (bytes === undefined) throw new Refusal({ kind: "not-found", detail: `the index of ${targetText(publication, release)} is not here: it was packed on another node`, hint: "kos release publish --packed DIR" })
      indexes.push(indexFile(release, bytes))
    }
    // R1.2 to R1.5, as a client would.
    const fault = await faultForClients(publication, held)
    if (fault !== undefined) throw new Refusal({ kind: "conflict", detail: `nothing was published: ${fault}` })
    const before = await lacking(files, [...indexes, ...publication.before])
    const head = await lacking(files, publication.head)
    if (before.length + head.length > 0) {
      await makeDirectory(marks)
      await writeWhole(join(marks, id), `${publication.says.join("\n")}\n`)
      for (const file of before) await own.append(encodeFile(file.path, file.bytes))
      await own.append(head.flatMap(({ path, bytes }) => encodeFile(path, bytes)))
    }
    await removeWhole(join(marks, id)).catch(() => undefined)
    await takePacks(indexes, wish.indexes)
    // The log has them now.
    for (const release of publication.indexes) await rm(join(made, `${release}.index`), { force: true })
    return { channel: { ...channel, held: publication.outcome, book: readChannel(id, saidOf(node()), publishedOf(publication.outcome)) ?? channel.book }, says: publication.says, left }
  }

  /** One publisher's fault must not hold up the others: what it signed beside its path, or brought no index for, waits. */
  const withoutFaulty = async (channel: OpenChannel, wish: PublishWish, left: Array<string>): Promise<ChannelBook> => {
    const faulty = new Set<string>()
    for (const { proposal, metadata } of channel.book.due.delegated) {
      const area = areaOfRole(proposal.role)
      for (const { path, hashes } of Object.values(metadata.signed.targets)) {
        // R1.5, R1.7.
        const why = area === undefined || !path.startsWith(`${area}/`) ? `${proposal.role} may not sign ${path}`
          : await index(hashes["sha256"] ?? "", channel, wish.indexes) === undefined ? `the index of ${path} is not here: it was packed on another node` : undefined
        if (why === undefined || faulty.has(proposal.role)) continue
        faulty.add(proposal.role)
        left.push(why)
      }
    }
    const { due } = channel.book
    return faulty.size === 0 ? channel.book : { ...channel.book, due: { ...due, delegated: due.delegated.filter(({ proposal }) => !faulty.has(proposal.role)) } }
  }

  /** Packs that were made elsewhere, or that could not be taken over when they were made. */
  const takePacks = async (indexes: ReadonlyArray<ChannelFile>, more: ReadonlyArray<string>): Promise<void> => {
    const directories = [made, ...more]
    const names = await Promise.all(directories.map((directory) => readdir(directory).catch(() => noNames)))
    if (!names.flat().some((name) => /^[0-9a-f]{64}$/.test(name))) return
    for (const { bytes } of indexes) {
      const decoded = decodeIndex(bytes)
      for (const { ref } of Result.isSuccess(decoded) ? decoded.success.packs : []) {
        for (const directory of directories) {
          const file = join(directory, ref.sha256)
          if (!(await stat(file).catch(() => undefined))?.isFile()) continue
          try {
            await parts.take(ref, file)
            if (directory === made) await rm(file, { force: true })
          } catch (cause) {
            notice("warn", `the pack ${ref.sha256.slice(0, 8)} could not be taken over for seeding: ${cause instanceof Error ? cause.message : String(cause)}`)
          }
        }
      }
    }
  }

  /** A channel that goes on elsewhere: this log says so, and that is its end. */
  const sayMoved = async (channel: OpenChannel): Promise<PublishDone> => {
    const roots = channel.book.roots.map((metadata, at) => channel.held.roots[at] ?? fileOf(metadata)).map(({ metadata, bytes }) => ({ path: `${metadata.signed.version}.root.json`, bytes }))
    const lacks = await lacking(channel.files, roots)
    if (lacks.length > 0) await channel.own?.append(lacks.flatMap(({ path, bytes }) => encodeFile(path, bytes)))
    return { channel, says: lacks.length === 0 ? [] : [`the channel goes on in log ${channel.book.log}; this one says so and ends`], left: [] }
  }

  const onlineKeys = async (book: ChannelBook): Promise<KeyPair> => {
    const root = book.roots.at(-1)?.signed
    const names = root === undefined ? [] : [onlineOf(root)]
    for (const name of names) {
      const found = await node().vault.releaseKeyPair(name)
      if (found !== undefined) return found
    }
    // Nothing is signed before the plan says who is missing.
    if (root === undefined) return await node().vault.releaseKeyPair(book.log) ?? Promise.reject(elsewhere(book))
    throw new Refusal({ kind: "denied", detail: `root ${root.version} of ${book.name} names a key for snapshot and timestamp that this node does not have`, hint: `kos release rotate ${book.name} --online` })
  }

  const checkClock = (held: HeldChannel, trusted: boolean): void => {
    const last = signedMsOf(held.timestamp?.metadata.signed)
    // R2.2: what followers take from the signing time must not come from a clock that jumped.
    if (trusted || last === 0 || now() - last <= clockAheadMsMax) return
    throw new Refusal({ kind: "policy", detail: `this node's clock says ${new Date(Math.min(now(), 8.64e15)).toISOString().slice(0, 10)}, more than 400 days after the last signing on ${new Date(last).toISOString().slice(0, 10)}; set the clock, or say that it is right`, hint: "kos release publish --trust-clock" })
  }

  const look = async (): Promise<void> => {
    const begun = await readdir(marks).catch(() => noNames)
    for (const book of books()) {
      try {
        if (begun.includes(book.id)) {
          const { says } = await publish(book.id, { indexes: [], trustClock: false })
          notice("info", `the publication in channel ${book.name} that was cut short is finished`, { says })
          continue
        }
        const channel = await open(book)
        if (channel?.own === undefined || channel.held.timestamp === undefined || channel.held.roots.length === 0) continue
        // A newcomer in the log's place has nothing to renew yet.
        if (await channel.files.read("timestamp.json") === undefined || hasMoved(channel.book, channel.own.key)) continue
        const { says } = await publish(book.id, { indexes: [], trustClock: false, renewOnly: true })
        if (says.length > 0) notice("info", `channel ${book.name}: ${says.join("; ")}`)
        clockTold = false
      } catch (cause) {
        if (!clockTold) notice("warn", `channel ${book.name} could not be looked after: ${cause instanceof Error ? cause.message : String(cause)}`)
        clockTold = true
      }
    }
  }

  return { parts, made, said: () => saidOf(node()), books, open, publish, index, look }
}

/** Looks after the channels of this home until the scope ends. */
export const startPublisher = (publisher: Publisher): Effect.Effect<void, never, Scope.Scope> =>
  Effect.forever(Effect.tryPromise({ try: () => publisher.look(), catch: String }).pipe(
    Effect.catch((why) => Effect.sync(() => publisher.parts.notice("warn", `channels could not be looked after: ${why}`))),
    Effect.andThen(Effect.sleep(lookEveryMs))
  )).pipe(Effect.forkScoped, Effect.asVoid)

/** What members said, as `book.ts` wants it. */
export const saidOf = ({ tables, members }: Pick<PublisherNode, "tables" | "members">): Said => {
  const { updates } = tables
  const deviceOf = (log: string): string => members.deviceOf(log) ?? ""
  const all = updates.proposals()
  // A channel's first proposal is needed for ever, however many have come after it.
  const firsts = [...new Set(all.map(({ body }) => body.channel))].slice(0, channelsMax).flatMap((channel) => updates.proposal(channel))
  const rows = [...all, ...firsts].map((row) => ({
    id: row.proposal, channel: row.body.channel, role: row.body.role, version: row.body.version, bytes: row.unsigned, summary: row.body.summary, by: deviceOf(row.log), ms: row.ms
  }))
  const first = new Map(rows.map((row) => [`${row.id} ${row.channel} ${row.role} ${row.version}`, row]))
  return {
    proposals: [...first.values()],
    signatures: (id) => updates.signatures(id).map(({ body, log }) => ({ proposal: id, keyId: body.keyId, signature: body.signature, by: deviceOf(log) })),
    withdrawn: (id) => {
      const authors = new Set(rows.filter((row) => row.id === id).map(({ by }) => by))
      // Whoever proposes the same bytes once more is no author who could take them back.
      const may = (device: string): boolean => {
        const member = members.view().members.get(device)
        return (authors.size === 1 && authors.has(device)) || (member !== undefined && member.standing === "member" && rankOf(member.role) >= rankOf("admin"))
      }
      const row = updates.withdrawn(id).find(({ log }) => may(deviceOf(log)))
      return row === undefined ? undefined : { by: deviceOf(row.log), reason: row.body.reason }
    }
  }
}

const noNames: Array<string> = []
const nothingHeld: HeldChannel = { roots: [], timestamp: undefined, snapshot: undefined, targets: undefined, delegated: new Map() }

const withoutDue = (book: ChannelBook, held: HeldChannel): ChannelBook =>
  ({ ...book, roots: held.roots.map(({ metadata }) => metadata), due: { roots: [], targets: [], delegated: [] } })

const lacking = async (files: ChannelFiles, wanted: ReadonlyArray<ChannelFile>): Promise<ReadonlyArray<ChannelFile>> => {
  const out: Array<ChannelFile> = []
  for (const file of wanted) {
    const there = await files.read(file.path)
    if (there === undefined || sha256(there) !== sha256(file.bytes)) out.push(file)
  }
  return out
}

const elsewhere = ({ name, log }: ChannelBook): Refusal => new Refusal({ kind: "denied", detail: `this node does not publish ${name}: it has no key of log ${log.slice(0, 8)}`, hint: "run it on the node that made the channel, or take it over with kos release rotate --log" })

const targetText = ({ outcome }: Publication, id: string): string => {
  for (const file of [outcome.targets, ...outcome.delegated.values()]) {
    for (const target of Object.values(file?.metadata.signed.targets ?? {})) if (target.hashes["sha256"] === id) return target.path
  }
  return id.slice(0, 8)
}
