/**
 * `kos update export FILE` and `kos update import FILE`: channel logs and packs on a stick (`updates/stick.ts`).
 *
 * How a block travels: as in a bundle of the mesh (`swarm/bundle.ts`), whose code writes, checks and applies it: with the hashes that tie it to the
 * tree that the log's key signed, through Hypercore's own verification. Who wrote the file does not matter, so the bundle's seal uses a key that everybody knows.
 *
 * Order on import. The whole file is checked; then its logs are, each block and signature, and taken, of channels that are followed here; then channels
 * are read anew and verified (`refresh`); and only packs that a release which is signed names are taken, each checked once more (R3.1).
 *
 * Invariants
 * - A file that is refused has changed nothing. What is not followed here, or named by no release, is left out and said so.
 * - Doing it twice changes nothing more. Blocks that are held already are skipped, packs that are whole here are not touched.
 * - R1.8: a file that holds another signed history of a log is a fork like any other.
 */
import { mkdir, readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { hashParts } from "../codec/hash.ts"
import { Malformed } from "../codec/malformed.ts"
import { equalBytes, toHex } from "../codec/bytes.ts"
import { keyPairFromSeed, randomBytes } from "../codec/signature.ts"
import { type BundleMesh, readBundle, recordTypes, refuse } from "../swarm/bundle-file.ts"
import { decodeBlocks, decodeRange, type LogRange } from "../swarm/bundle-records.ts"
import { exportBundle, importBundle, type ImportReport as LogsReport } from "../swarm/bundle.ts"
import { channelBlockBytesMax, channelBlocksMax } from "../swarm/channels.ts"
import type { SwarmHost, TreeNode } from "../swarm/host.ts"
import { leafNode, merge, treeHash } from "../swarm/merkle.ts"
import type { PackRef, Transfer } from "../updates/ports.ts"
import { checkStick, logsBytesMax, unpack, writeStick } from "../updates/stick.ts"
import type { ChannelStore } from "./channel-store.ts"

export interface StickParts {
  readonly store: ChannelStore
  readonly transfer: Pick<Transfer, "file" | "take">
  /** For what is unpacked meanwhile; on the disk of the packs. */
  readonly directory: string
}

export interface StickExport {
  readonly bytes: number
  readonly channels: ReadonlyArray<{ readonly log: string; readonly length: number }>
  readonly packs: ReadonlyArray<string>
  /** What was left out, and why. */
  readonly skipped: ReadonlyArray<{ readonly what: string; readonly why: string }>
}

/** Writes the logs of these channels, and those of these packs that are whole here. */
export const exportUpdate = async (
  parts: StickParts, path: string, what: { readonly channels: ReadonlyArray<string>; readonly packs: ReadonlyArray<PackRef> }
): Promise<StickExport> => within(parts.directory, async (directory) => {
  const skipped: Array<{ what: string; why: string }> = []
  const packs: Array<{ ref: PackRef; file: string }> = []
  for (const ref of what.packs) {
    const file = await parts.transfer.file(ref.sha256)
    if (file === undefined) skipped.push({ what: ref.sha256, why: "the pack is not whole here" })
    else if (!packs.some((other) => other.ref.sha256 === ref.sha256)) packs.push({ ref, file })
  }
  const wanted = new Set(what.channels)
  const host = hostOf(parts.store, (log) => wanted.has(log))
  const report = await exportBundle(host, join(directory, "logs"))
  skipped.push(...report.skipped.map(({ log, why }) => ({ what: log, why })))
  for (const log of wanted) {
    if (!report.logs.some((done) => done.log === log) && !skipped.some((other) => other.what === log)) skipped.push({ what: log, why: "no block of it is held here" })
  }
  const bytes = await writeStick(path, join(directory, "logs"), packs)
  return { bytes, channels: report.logs.map(({ log, to }) => ({ log, length: to })), packs: packs.map(({ ref }) => ref.sha256), skipped }
})

export interface StickImport {
  readonly channels: LogsReport["logs"]
  readonly packs: ReadonlyArray<{ readonly sha256: string; readonly state: "taken" | "held" | "unknown" | "refused"; readonly why: string }>
}

export interface StickReading {
  /** Verifies the channels anew, from the blocks that are held now. */
  readonly refresh: () => Promise<void>
  /** The pack of this name, if a release that is signed names it. */
  readonly known: (sha256: string) => PackRef | undefined | Promise<PackRef | undefined>
  readonly onProgress?: (bytes: number) => void
}

/** Fails with `StickRefused` or `BundleRefused`, and has changed nothing then. */
export const importUpdate = async (parts: StickParts, path: string, reading: StickReading): Promise<StickImport> => {
  const stick = await checkStick(path, reading.onProgress)
  return within(parts.directory, async (directory) => {
    const logs = join(directory, "logs")
    await unpack(path, stick.logs, logs)
    const others = await checkLogs(logs, parts.store)
    const host = hostOf(parts.store, () => true)
    const { logs: channels } = await importBundle(host, logs, { fileBytesMax: logsBytesMax })
    // R1.8: the bundle's code has found these blocks signed, and they are not ours.
    for (const { log, state } of channels) if (state === "diverged" && others.has(log)) parts.store.logs.forked(log, "a stick", undefined)
    await rm(logs)
    await reading.refresh()
    const packs: Array<StickImport["packs"][number]> = []
    for (const section of stick.packs) {
      const { sha256, length } = section
      const ref = await reading.known(sha256)
      if (ref === undefined || ref.length !== length) {
        packs.push({ sha256, state: "unknown", why: "no release that is known here names it" })
      } else if (await parts.transfer.file(sha256) !== undefined) {
        packs.push({ sha256, state: "held", why: "it is whole here already" })
      } else {
        const file = join(directory, "pack")
        try {
          await unpack(path, section, file)
          await parts.transfer.take(ref, file)
          packs.push({ sha256, state: "taken", why: `${length} bytes` })
        } catch (fault) {
          packs.push({ sha256, state: "refused", why: fault instanceof Error ? fault.message : String(fault) })
        } finally {
          await rm(file, { force: true })
        }
      }
    }
    return { channels, packs }
  })
}

/** Removes what an import or export left behind when the power went; to be called at the start. */
export const clearStickLeftovers = async (directory: string): Promise<void> => {
  for (const name of await readdir(directory).catch(() => [])) if (/^stick-[0-9a-f]{16}$/u.test(name)) await rm(join(directory, name), { recursive: true, force: true })
}

/** Everybody knows it: what is on a stick is public, and its proofs are inside. */
const stickMesh: BundleMesh = { id: "channels", key: hashParts("kos/stick-logs/1") }

/**
 * R1.7: a channel's log keeps to its limits on a stick, too; a file that does not is refused as a whole. Returns the logs that begin with other blocks
 * than those held here; whether they are signed is for the bundle's code to say.
 */
const checkLogs = async (path: string, store: ChannelStore): Promise<ReadonlySet<string>> => {
  const lengths = new Map(store.held().map(({ key, length }) => [key, length]))
  const others = new Set<string>()
  let range: LogRange | undefined
  let next = 0
  let roots: ReadonlyArray<TreeNode> = []
  for await (const { type, payload, at } of readBundle(path, stickMesh, logsBytesMax)) {
    try {
      if (type === recordTypes.log) {
        range = decodeRange(payload)
        next = range.from
        roots = []
        if (range.to > channelBlocksMax) throw refuse("oversize", at, `a log of ${range.to} blocks, at most ${channelBlocksMax} are allowed`)
      } else if (type === recordTypes.blocks && range !== undefined) {
        for (const { index, value } of decodeBlocks(payload, next, range)) {
          if (value.byteLength > channelBlockBytesMax) throw refuse("oversize", at, `block ${index} has ${value.byteLength} bytes, at most ${channelBlockBytesMax} are allowed`)
          next = index + 1
          const length = lengths.get(range.log) ?? 0
          if (range.from > 0 || index >= length) continue
          roots = merge(roots, [leafNode(index, value)])
          if (next === length && !equalBytes(await heldHash(store, range.log, length), treeHash(roots))) others.add(range.log)
        }
      } else if (type === recordTypes.operations) {
        throw refuse("damaged", at, "membership has no place here")
      }
    } catch (fault) {
      throw fault instanceof Malformed ? refuse("damaged", at, fault.message) : fault
    }
  }
  return others
}

const heldHash = async (store: ChannelStore, log: string, length: number): Promise<Uint8Array> => {
  const session = await store.logs.open(log)
  try {
    return await session.treeHash(length)
  } finally {
    await session.close()
  }
}

/** What the bundle's code needs of a mesh: the logs are those of channels, and everybody's word is as good as another's, since nothing is taken by word. */
const hostOf = (store: ChannelStore, includes: (log: string) => boolean): SwarmHost => {
  const keyPair = keyPairFromSeed(randomBytes(32))
  const held = () => store.held().filter(({ key }) => includes(key))
  return {
    keyPair, device: toHex(keyPair.publicKey), mesh: stickMesh,
    membership: {
      standing: () => "member",
      logs: () => held().map(({ key }) => ({ log: key, device: "" })),
      dismissal: () => undefined, operations: () => [], offer: async () => 0, onChange: () => () => undefined
    },
    logs: {
      own: () => "",
      heads: () => held().flatMap(({ key, length }) => length === 0 ? [] : [{ log: key, length, changed: 0 }]),
      sequence: () => 0, sequenceId: "", open: store.logs.open, grew: () => undefined, onGrow: () => () => undefined,
      diverged: (log) => store.logs.forked(log, "a stick", undefined), ownLogAhead: () => undefined
    },
    receipts: { holds: () => undefined, cursor: () => undefined, setCursor: () => undefined, holdings: () => [], touched: () => undefined },
    notice: () => undefined
  }
}

/** With a directory of its own, which is gone afterwards. */
const within = async <A>(directory: string, run: (directory: string) => Promise<A>): Promise<A> => {
  const own = join(directory, `stick-${toHex(randomBytes(8))}`)
  await mkdir(own, { recursive: true, mode: 0o700 })
  try {
    return await run(own)
  } finally {
    await rm(own, { recursive: true, force: true })
  }
}
