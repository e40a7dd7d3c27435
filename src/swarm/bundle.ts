/**
 * A bundle carries for each log a range of blocks, with what proves them, and the membership operations: `kos sync export FILE`, `kos sync import FILE`.
 *
 * How a block travels: it is read as it stands in the log (ciphertext), written with the hashes that tie it to the signed tree, and sealed into the
 * file. The importer reads the file twice, one record in memory at a time. First it checks everything: each record's seal, the signature of
 * each range, each block against the tree, the exporter's signature over the whole. Then it applies: operations to membership; then, with what
 * these say, it judges the exporter; and only then for each log one signed upgrade and the blocks, through Hypercore's own verification,
 * so that a mistake here cannot put a wrong block into a log.
 *
 * Who exported. A bundle of a device that was revoked is refused, with who revoked it and when. One that it wrote while it was in good
 * standing is not: it says how long the exporter's own logs were, and a revocation that had seen them that long, or longer, came later. No
 * clock is asked. A hostile device can understate that length and have the blocks of *others* taken, which were signed by these and are
 * as good from anybody; its own count up to its cut-off, as everywhere. Whoever left by itself left nothing behind that is suspect.
 *
 * Invariants
 * - A refused file has changed nothing, but for membership operations when it was refused for its exporter: they are signed by themselves and
 *   may be what says that the exporter was revoked. A log that cannot be taken (a gap, another history, no log of this mesh) leaves the others alone and is
 *   named in the report with the reason and what to ask for.
 * - Operations come before the first log; of a log that was cut off no block beyond `limitOf` is taken or written.
 * - A log's range is proven up to its length when it was exported: Hypercore keeps only the newest signature.
 *
 * Tricky cases
 * - Overlap: blocks held already are checked and skipped; the upgrade starts at what is held, from subtrees met while checking.
 * - The log grew by network between the two readings: it is left alone and reported as busy.
 * - Our own log is never written from a file; if the file knows more of it, the journal is told.
 */
import type { Point } from "../codec/address.ts"
import { equalBytes, shortKey } from "../codec/bytes.ts"
import { Malformed } from "../codec/malformed.ts"
import { beyondCutBlocksMax } from "../projections/documents/limits.ts"
import { createBundle, type Exporter, exporterOf, readBundle, recordTypes, refuse, type BundleRefused } from "./bundle-file.ts"
import {
  blockBytesMax, blocksPerRecordMax, decodeBlocks, decodeOperations, decodeRange, encodeBlock, encodeOperations, encodeRange, logsMax,
  type BundleBlock, type LogRange
} from "./bundle-records.ts"
import type { LogProof, ReplicatedLog, SwarmHost, TreeNode } from "./host.ts"
import { climb, covering, equalNodes, levelsAt, merge, readManifest, signedTree, subtreeIndex, treeHash } from "./merkle.ts"
import { Writer } from "./wire.ts"

export interface ExportReport {
  readonly bytes: number
  readonly operations: number
  readonly logs: ReadonlyArray<{ readonly log: string; readonly from: number; readonly to: number }>
  /** Logs left out, with the reason. */
  readonly skipped: ReadonlyArray<{ readonly log: string; readonly why: string }>
  /** What the bundle reaches: the `since` of the next one. */
  readonly point: Point
}

export interface ImportOptions {
  readonly fileBytesMax?: number
  readonly operationBytesMax?: number
  readonly onProgress?: (done: number) => void
}

export type ImportState = "taken" | "held" | "gap" | "stranger" | "diverged" | "busy" | "own"

export interface ImportReport {
  /** Device key of who wrote the file. */
  readonly exporter: string
  /** Operations that were new here. */
  readonly operations: number
  readonly logs: ReadonlyArray<{ readonly log: string; readonly from: number; readonly to: number; readonly held: number; readonly state: ImportState; readonly why: string }>
}

const recordBytesAim = 524_288
const fileBytesDefault = 68_719_476_736

/** What a device is known to hold, as a `since`: only what it lacks is exported. */
export const sinceReceipts = (host: SwarmHost, device: string): Point =>
  Object.fromEntries(host.receipts.holdings(device).map(({ log, length }) => [log, length]))

/** Writes all that is held beyond `since`; of a log under download what is here without a gap. Logs of which nothing can be written are named. */
export const exportBundle = async (host: SwarmHost, path: string, since: Point = {}): Promise<ExportReport> => {
  const bundle = await createBundle(path, host.mesh)
  try {
    const operations = host.membership.operations()
    for (const part of parts(operations)) await bundle.write(recordTypes.operations, encodeOperations(part))
    const known = new Set(host.membership.logs().map(({ log }) => log))
    const logs: Array<{ log: string; from: number; to: number }> = []
    const skipped: Array<{ log: string; why: string }> = []
    const point: Record<string, number> = { ...since }
    for (const head of host.logs.heads()) {
      const from = since[head.log] ?? 0
      if (head.length <= from || !known.has(head.log)) continue
      const session = await host.logs.open(head.log)
      try {
        const range = await rangeOf(session, head.log, from, limitOf(host, head.log))
        if (typeof range === "string") {
          skipped.push({ log: head.log, why: range })
          continue
        }
        await bundle.write(recordTypes.log, encodeRange(range))
        await writeBlocks(session, range, (payload) => bundle.write(recordTypes.blocks, payload))
        logs.push({ log: head.log, from, to: range.until })
        point[head.log] = range.until
      } finally {
        await session.close()
      }
    }
    return { bytes: await bundle.finish(ownLengths(host), host.keyPair), operations: operations.length, logs, skipped, point }
  } catch (fault) {
    await bundle.abandon()
    throw fault
  }
}

/** What the exporter says of itself. */
const ownLengths = (host: SwarmHost): Exporter["logs"] => {
  const mine = new Set(host.membership.logs().flatMap(({ log, device }) => device === host.device ? [log] : []))
  return host.logs.heads().flatMap(({ log, length }) => mine.has(log) ? [{ log, length }] : [])
}

/** Blocks from here on are neither taken nor written. */
const limitOf = (host: SwarmHost, log: string): number => {
  const cutAt = host.membership.logs().find((known) => known.log === log)?.cutAt
  return cutAt === undefined ? Number.MAX_SAFE_INTEGER : cutAt + beyondCutBlocksMax
}

const parts = (operations: ReadonlyArray<Uint8Array>): ReadonlyArray<ReadonlyArray<Uint8Array>> => {
  const found: Array<Array<Uint8Array>> = []
  let bytes = recordBytesAim
  for (const operation of operations) {
    if (bytes + operation.byteLength >= recordBytesAim) {
      found.push([])
      bytes = 0
    }
    found.at(-1)?.push(operation)
    bytes += operation.byteLength + 8
  }
  return found
}

/** The proof of what lies between `from` and the newest signature, checked as the importer will check it; or why there is none. */
const rangeOf = async (session: ReplicatedLog, log: string, from: number, limit: number): Promise<LogRange | string> => {
  const manifest = session.getManifest({ raw: true })
  if (manifest === null) return "its manifest is not known"
  for (let attempt = 0; attempt < 5; attempt += 1) {
    const to = session.length
    if (Math.min(to, limit) <= from) return `its writer is no member any more, and what lies beyond block ${limit} is not passed on`
    // A download under way is no reason to leave out what is here: a log that somebody writes to is never quite whole.
    const until = Math.min(to, limit, session.contiguousLength)
    if (until <= from) return `its download is under way, ${session.contiguousLength} of ${to} blocks are here`
    const proof = await session.proof({ upgrade: { start: from, length: to - from } })
    const roots = from === 0 ? [] : (await session.proof({ upgrade: { start: 0, length: from } })).upgrade?.nodes ?? []
    if (proof.upgrade === null || proof.upgrade.additionalNodes.length > 0) continue
    const { nodes, signature } = proof.upgrade
    const range: LogRange = { log, from, to, until, fork: proof.fork, manifest, roots, nodes, signature }
    if (proven(range)) return range
  }
  return "it grew faster than its proof could be made"
}

const proven = (range: LogRange): boolean => {
  const manifest = readManifest(range.log, range.manifest)
  const positions = covering(range.from, range.to)
  return manifest !== undefined && positions.length === range.nodes.length &&
    positions.every((block, at) => range.nodes[at]?.index === 2 * block + 2 ** levelsAt(block, range.to) - 1) &&
    covering(0, range.from).length === range.roots.length &&
    signedTree(range.log, manifest, merge(range.roots, range.nodes), range.to, range.fork, range.signature)
}

const writeBlocks = async (session: ReplicatedLog, range: LogRange, write: (payload: Uint8Array) => Promise<void>): Promise<void> => {
  let writer = new Writer()
  let count = 0
  const flush = async (): Promise<void> => {
    if (count > 0) await write(writer.take())
    writer = new Writer()
    count = 0
  }
  const ahead = 32
  for (let start = range.from; start < range.until; start += ahead) {
    const indices = Array.from({ length: Math.min(ahead, range.until - start) }, (_, offset) => start + offset)
    const found = await Promise.all(indices.map((index) => session.proof({ block: { index, nodes: levelsAt(index, range.to) } })))
    for (const [offset, proof] of found.entries()) {
      const value = proof.block?.value
      if (proof.block === null || value === null || value === undefined) throw new Error(`block ${start + offset} of log ${range.log} is not here`)
      if (value.byteLength > blockBytesMax) throw new Error(`block ${start + offset} of log ${range.log} has ${value.byteLength} bytes, at most ${blockBytesMax} are exported`)
      if (count >= blocksPerRecordMax || count > 0 && writer.size + value.byteLength > recordBytesAim) await flush()
      encodeBlock(writer, { index: start + offset, value, nodes: proof.block.nodes })
      count += 1
    }
  }
  await flush()
}

/** Where a log stood when the file was checked, and the subtrees that lead from there to the bundle's length. */
interface Plan {
  readonly range: LogRange
  readonly length: number
  readonly nodes: Array<TreeNode>
}

/** Checks the whole file, then applies it; fails with `BundleRefused` when it cannot be trusted. */
export const importBundle = async (host: SwarmHost, path: string, options: ImportOptions = {}): Promise<ImportReport> => {
  const fileBytesMax = options.fileBytesMax ?? fileBytesDefault
  const operationBytesMax = options.operationBytesMax ?? 65_536
  const { plans, exporter } = await check(host, path, fileBytesMax, operationBytesMax, options.onProgress)
  let operations = 0
  const logs: Array<ImportReport["logs"][number]> = []
  let apply: Applying | undefined
  let judged = false
  const finish = async (): Promise<void> => {
    if (apply !== undefined) logs.push(await apply.finish())
    apply = undefined
  }
  for await (const { type, payload, at } of readBundle(path, host.mesh, fileBytesMax)) {
    options.onProgress?.(at)
    if (type !== recordTypes.operations && !judged) {
      judgeExporter(host, exporter)
      judged = true
    }
    if (type === recordTypes.operations) {
      operations += await host.membership.offer(decodeOperations(payload, operationBytesMax))
    } else if (type === recordTypes.log) {
      await finish()
      const range = decodeRange(payload)
      apply = await beginLog(host, plans.get(range.log), range)
    } else if (type === recordTypes.blocks) {
      await apply?.take(payload)
    }
  }
  await finish()
  return { exporter: exporter.device, operations, logs }
}

/** With all that the bundle's operations say: is the exporter somebody whose word is taken? */
const judgeExporter = (host: SwarmHost, { device, logs }: Exporter): void => {
  if (host.membership.standing(device) === "member") return
  const dismissal = host.membership.dismissal(device)
  if (dismissal === undefined || dismissal.kind === "void") throw refuse("stranger", 0, `it was exported by ${shortKey(device)}, which is no member of this mesh`)
  if (dismissal.kind === "left") return
  const cuts = new Map(host.membership.logs().map(({ log, cutAt }) => [log, cutAt ?? 0]))
  if (logs.length > 0 && logs.every(({ log, length }) => length <= (cuts.get(log) ?? 0))) return
  throw refuse("revoked", 0, `it was exported by a device that is no member any more: ${dismissal.about}`)
}

/** First reading: every record, every signature, every block. */
const check = async (
  host: SwarmHost, path: string, fileBytesMax: number, operationBytesMax: number, onProgress: ImportOptions["onProgress"]
): Promise<{ readonly plans: ReadonlyMap<string, Plan>; readonly exporter: Exporter }> => {
  const plans = new Map<string, Plan>()
  const known = new Set(host.membership.logs().map(({ log }) => log))
  let plan: Plan | undefined
  let next = 0
  let subtrees = new Map<number, TreeNode>()
  const complete = (at: number): void => {
    if (plan !== undefined && next < plan.range.until) throw refuse("damaged", at, `log ${shortKey(plan.range.log)} ends at block ${next} of ${plan.range.until}`)
    if (plan === undefined) return
    // Subtrees of blocks that were left out are known from the siblings of those before.
    for (const block of covering(plan.length, plan.range.to)) {
      const node = block < plan.range.until ? undefined : subtrees.get(subtreeIndex(block, levelsAt(block, plan.range.to)))
      if (node !== undefined) plan.nodes.push(node)
    }
  }
  let last = 0
  let exporter: Exporter | undefined
  for await (const { type, payload, at } of readBundle(path, host.mesh, fileBytesMax)) {
    onProgress?.(at)
    last = at
    try {
      if (type === recordTypes.operations) {
        if (plans.size > 0) throw refuse("damaged", at, "operations after the first log")
        decodeOperations(payload, operationBytesMax)
      } else if (type === recordTypes.end) {
        exporter = exporterOf(payload)
      } else if (type === recordTypes.log) {
        complete(at)
        const range = decodeRange(payload)
        if (plans.has(range.log) || plans.size >= logsMax) throw refuse("damaged", at, `log ${shortKey(range.log)} comes twice, or there are too many logs`)
        if (!proven(range)) throw refuse("damaged", at, `the signature of log ${shortKey(range.log)} at ${range.to} does not fit`)
        plan = { range, length: known.has(range.log) ? await lengthOf(host, range.log) : 0, nodes: [] }
        plans.set(range.log, plan)
        next = range.from
        subtrees = new Map(range.nodes.map((node) => [node.index, node]))
      } else if (type === recordTypes.blocks && plan !== undefined) {
        const wanted = new Set(covering(plan.length, plan.range.to))
        for (const block of decodeBlocks(payload, next, plan.range)) {
          const root = climb(block.index, block.value, block.nodes)
          if (!equalNodes(root, subtrees.get(root.index))) throw refuse("damaged", at, `block ${block.index} of log ${shortKey(plan.range.log)} is not the signed one`)
          subtrees.delete(root.index)
          for (const node of block.nodes) subtrees.set(node.index, node)
          if (wanted.has(block.index)) plan.nodes.push(root)
          next = block.index + 1
        }
      } else {
        throw refuse("damaged", at, `a record of type ${type} has no place here`)
      }
    } catch (fault) {
      throw fault instanceof Malformed ? refuse("damaged", at, fault.message) : fault
    }
  }
  complete(last)
  if (exporter === undefined) throw refuse("damaged", last, "it has no end")
  return { plans, exporter }
}

const lengthOf = async (host: SwarmHost, log: string): Promise<number> => {
  if (!host.logs.heads().some((head) => head.log === log)) return 0
  const session = await host.logs.open(log)
  const { length } = session
  await session.close()
  return length
}

interface Applying {
  readonly take: (payload: Uint8Array) => Promise<void>
  readonly finish: () => Promise<ImportReport["logs"][number]>
}

/** Second reading: one log. What stands against taking it is decided before its first block. */
const beginLog = async (host: SwarmHost, plan: Plan | undefined, range: LogRange): Promise<Applying> => {
  const known = host.membership.logs().some(({ log }) => log === range.log)
  if (plan === undefined || !known) return refused(range, 0, "stranger", "it is no log of a member")
  const own = host.logs.own() === range.log
  const session = await host.logs.open(range.log)
  const stop = async (state: ImportState, why: string): Promise<Applying> => {
    const held = session.contiguousLength
    await session.close()
    return refused(range, held, state, why)
  }
  const held = session.contiguousLength
  const limit = own ? range.until : Math.min(range.until, limitOf(host, range.log))
  const unequal = await compare(session, range)
  if (unequal !== undefined) {
    host.logs.diverged(range.log, "bundle", unequal)
    return stop("diverged", unequal)
  }
  if (held >= limit) return stop("held", limit < range.until ? `all that counts is held: its writer is no member any more, and nothing beyond block ${limit} is taken` : "all of it is held")
  if (own) {
    host.logs.ownLogAhead(range.to, "bundle")
    return stop("own", "it is the log of this node, and longer in the bundle")
  }
  if (range.from > held) {
    return stop("gap", `this bundle starts at ${range.from} of log ${shortKey(range.log)}, you hold ${held}: ask for one since ${held}`)
  }
  if (session.length !== plan.length || session.length > range.to) return stop("busy", "it is being downloaded: import again when that is done")
  const manifest = readManifest(range.log, range.manifest)
  const upgrade: LogProof["upgrade"] = session.length === range.to ? null : {
    start: plan.length, length: range.to - plan.length, nodes: plan.nodes, additionalNodes: [], signature: Buffer.from(range.signature)
  }
  const proof = (part: Pick<LogProof, "block" | "upgrade">) => session.applyProof({ fork: range.fork, hash: null, seek: null, manifest, ...part })
  try {
    if (upgrade !== null && !await proof({ block: null, upgrade })) return await stop("diverged", "its signed upgrade does not fit the blocks held")
  } catch (fault) {
    return stop("diverged", `its signed upgrade does not fit the blocks held: ${fault instanceof Error ? fault.message : String(fault)}`)
  }
  let next = range.from
  let failed: string | undefined
  return {
    take: async (payload) => {
      const blocks = decodeBlocks(payload, next, range)
      next += blocks.length
      if (failed !== undefined) return
      try {
        for (const wave of waves(blocks.filter((block) => block.index >= held && block.index < limit), range.to)) {
          const kept = await Promise.all(wave.map((block) => proof({ block, upgrade: null })))
          if (kept.includes(false)) throw new Error("a block was not accepted")
        }
      } catch (fault) {
        failed = fault instanceof Error ? fault.message : String(fault)
      }
      if (session.contiguousLength > held) host.logs.grew(range.log, session.contiguousLength)
    },
    finish: async () => {
      const reached = session.contiguousLength
      await session.close()
      const { log, from, to } = range
      const left = range.until - limit
      const why = `${reached - held} blocks${left > 0 ? `; ${left} more lie too far beyond the end of its writer's membership` : ""}`
      return { log, from, to, held: reached, state: failed === undefined ? "taken" : "busy", why: failed ?? why }
    }
  }
}

const refused = (range: LogRange, held: number, state: ImportState, why: string): Applying => ({
  take: async () => undefined,
  finish: async () => ({ log: range.log, from: range.from, to: range.to, held, state, why })
})

/** Does what is held begin with the same history? */
const compare = async (session: ReplicatedLog, range: LogRange): Promise<string | undefined> => {
  if (session.contiguousLength > 0 && session.fork !== range.fork) return `it is of fork ${range.fork}, here ${session.fork}`
  if (range.from > 0 && session.contiguousLength >= range.from && !equalBytes(await session.treeHash(range.from), treeHash(range.roots))) {
    return `another history at length ${range.from}`
  }
  if (session.contiguousLength >= range.to && !equalBytes(await session.treeHash(range.to), treeHash(merge(range.roots, range.nodes)))) {
    return `another history at length ${range.to}`
  }
  return undefined
}

/** Groups of blocks that can be verified at once: each block's subtree is known from blocks of earlier groups. */
const waves = (blocks: ReadonlyArray<BundleBlock>, to: number): ReadonlyArray<ReadonlyArray<BundleBlock>> => {
  const depth = new Map<number, number>()
  const found: Array<Array<BundleBlock>> = []
  for (const block of blocks) {
    const left = depth.get(block.index - 2 ** levelsAt(block.index, to))
    const mine = left === undefined ? 0 : left + 1
    depth.set(block.index, mine)
    const group = found[mine] ?? []
    group.push(block)
    found[mine] = group
  }
  return found
}

export type { BundleRefused }
