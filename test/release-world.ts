/** A channel's makers in memory: signers that never meet, what they said as rows, a log, and a client that knows tuf-js and nothing of ours. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { BaseFetcher, Updater } from "tuf-js"
import { DownloadHTTPError } from "tuf-js/dist/error.js"
import { toHex } from "../src/codec/bytes.ts"
import { type KeyPair, keyPairFromSeed } from "../src/codec/signature.ts"
import { channelFiles, encodeFile } from "../src/updates/metadata/channel-block.ts"
import type { OwnChannelLog } from "../src/updates/ports.ts"
import { type ChannelBook, type Proposal, readChannel, type Said, type SaidSignature } from "../src/updates/publish/book.ts"
import { firstRoot, nextTargets, type RolePlan, type TargetEntry } from "../src/updates/publish/build.ts"
import { faultForClients } from "../src/updates/publish/check.ts"
import { type ChannelFile, indexFile, planPublication } from "../src/updates/publish/publication.ts"
import { publishedOf, readHeld } from "../src/updates/publish/published.ts"
import { canonicalBytes, sha256, signWith } from "../src/updates/publish/signed.ts"
import type { Root, Targets } from "@tufjs/models"

export const dayMs = 86_400_000
export const startMs = Date.parse("2026-06-01T00:00:00Z")

/** The same key for the same word. */
export const keyOf = (word: string): KeyPair => keyPairFromSeed(Buffer.alloc(32, word))
export const publicOf = (word: string): string => toHex(keyOf(word).publicKey)
export const plan = (words: ReadonlyArray<string>, threshold: number): RolePlan => ({ keys: words.map(publicOf), threshold })

export interface MemoryLog extends OwnChannelLog {
  readonly blocks: Array<Uint8Array>
  /** Appends that succeed before the power goes. */
  fuse: number
}

export const memoryLog = (key: string): MemoryLog => {
  const blocks: Array<Uint8Array> = []
  const log: MemoryLog = {
    key, blocks, fuse: Number.POSITIVE_INFINITY, length: () => blocks.length, fork: () => undefined, onGrow: () => () => undefined,
    block: async (index) => blocks[index] ?? Promise.reject(new Error(`no block ${index}`)),
    append: async (more) => {
      for (const block of more) {
        if (log.fuse <= 0) throw new Error("the power went")
        log.fuse -= 1
        blocks.push(block)
      }
    }
  }
  return log
}

export const entry = (path: string, more: Partial<TargetEntry> = {}): TargetEntry => {
  const index = Buffer.from(`index of ${path}`)
  return { path, length: index.byteLength, sha256: sha256(index), custom: { kos: 1, notes: `about ${path}` }, ...more }
}

/** What members say, as it lies in the tables of a node; `carry` is all that ever connects two of them. */
export class Node {
  readonly proposals: Array<Proposal> = []
  readonly said: Array<SaidSignature> = []
  readonly withdrawals: Array<{ readonly proposal: string; readonly by: string; readonly reason: string }> = []
  now = startMs
  readonly name: string

  constructor(name: string) {
    this.name = name
  }

  get all(): Said {
    return {
      proposals: this.proposals, signatures: (id) => this.said.filter(({ proposal }) => proposal === id),
      withdrawn: (id) => this.withdrawals.find(({ proposal }) => proposal === id)
    }
  }

  propose(channel: string | undefined, role: string, signed: Root | Targets, summary = role): Proposal {
    const bytes = canonicalBytes(signed)
    const id = sha256(bytes)
    const proposal = { id, channel: channel ?? id, role, version: signed.version, bytes, summary, by: this.name, ms: this.now++ }
    this.proposals.push(proposal)
    return proposal
  }

  sign(id: string, ...words: ReadonlyArray<string>): void {
    const proposal = this.proposals.find((one) => one.id === id)
    if (proposal === undefined) throw new Error(`${this.name} has not heard of ${id}`)
    for (const word of words) this.said.push({ proposal: id, ...signWith(proposal.bytes, keyOf(word)), by: this.name })
  }

  /** Events travel, whoever made them. */
  carry(to: Node): void {
    to.proposals.push(...this.proposals.filter(({ id }) => !to.proposals.some((one) => one.id === id)))
    to.said.push(...this.said.filter((one) => !to.said.includes(one)))
    to.withdrawals.push(...this.withdrawals.filter((one) => !to.withdrawals.includes(one)))
  }
}

export interface World {
  readonly node: Node
  readonly log: MemoryLog
  readonly channel: string
  readonly online: string
}

/** A channel with its first root and targets proposed at `node`, signed by nobody yet. */
export const channelOf = (node: Node, { root = plan(["ann", "bob", "cy"], 2), targets = plan(["ann", "bob", "cy"], 2), online = "online" } = {}): World => {
  const log = memoryLog(publicOf("log"))
  const { id } = node.propose(undefined, "root", firstRoot({ name: "hill", log: log.key, online: publicOf(online), root, targets }, node.now))
  node.propose(id, "targets", nextTargets("targets", undefined, {}, node.now).targets)
  return { node, log, channel: id, online }
}

export const bookOf = async ({ node, log, channel }: World): Promise<ChannelBook> => {
  const book = readChannel(channel, node.all, publishedOf(await readHeld(channelFiles(log))))
  if (book === undefined) throw new Error("no such channel")
  return book
}

/** As the publishing node does it: plan, check, append what the log lacks, the head at once. */
export const publish = async (world: World): Promise<ReadonlyArray<string>> => {
  const files = channelFiles(world.log)
  const held = await readHeld(files)
  const publication = planPublication({ book: await bookOf(world), held, online: keyOf(world.online), now: world.node.now })
  const fault = await faultForClients(publication, held)
  if (fault !== undefined) throw new Error(fault)
  const lacks = async (list: ReadonlyArray<ChannelFile>) => {
    const out: Array<ChannelFile> = []
    for (const file of list) if (!Buffer.from(await files.read(file.path) ?? []).equals(file.bytes)) out.push(file)
    return out.flatMap(({ path, bytes }) => encodeFile(path, bytes))
  }
  const indexes = [...Object.values(publication.outcome.targets?.metadata.signed.targets ?? {}), ...[...publication.outcome.delegated.values()].flatMap(({ metadata }) => Object.values(metadata.signed.targets))]
    .map(({ path, hashes }) => indexFile(hashes["sha256"] ?? "", Buffer.from(`index of ${path}`)))
  await world.log.append(await lacks([...indexes, ...publication.before]))
  await world.log.append(await lacks(publication.head))
  return publication.says
}

class LogFetcher extends BaseFetcher {
  readonly #log: MemoryLog

  constructor(log: MemoryLog) {
    super()
    this.#log = log
  }

  override async fetch(url: string): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    const name = decodeURIComponent(new URL(url).pathname.replace(/^\/+/, ""))
    const bytes = await channelFiles(this.#log).read(name)
    if (bytes === undefined) throw new DownloadHTTPError(`no ${name}`, 404)
    return new ReadableStream({ start: (controller) => { controller.enqueue(new Uint8Array(bytes)); controller.close() } })
  }
}

export interface Client {
  /** What it finds at these paths: the hash of each index, or undefined. Rejects when it refuses the channel. */
  readonly look: (...paths: ReadonlyArray<string>) => Promise<ReadonlyArray<string | undefined>>
  readonly root: () => Promise<string>
  readonly close: () => Promise<void>
}

/** A client as everybody's: it begins with the first root and keeps what it accepted. */
export const clientOf = async (log: MemoryLog, ms: () => number = () => startMs + dayMs): Promise<Client> => {
  const directory = await mkdtemp(join(tmpdir(), "kos-client-"))
  const first = await channelFiles(log).read("1.root.json")
  if (first === undefined) throw new Error("there is no first root")
  await writeFile(join(directory, "root.json"), first)
  return {
    look: async (...paths) => {
      const updater = new Updater({ metadataDir: directory, metadataBaseUrl: "http://log.invalid/", fetcher: new LogFetcher(log) })
      Object.assign(Reflect.get(updater, "trustedSet"), { referenceTime: new Date(ms()) })
      await updater.refresh()
      const out: Array<string | undefined> = []
      for (const path of paths) {
        const info = await updater.getTargetInfo(path)
        out.push(info?.hashes["sha256"])
      }
      return out
    },
    root: async () => sha256(await readFile(join(directory, "root.json"))),
    close: () => rm(directory, { recursive: true, force: true })
  }
}
