/**
 * The would-be channel as a client would take it, before anything is appended: once as a newcomer who knows the first root, once as somebody who holds what is in force.
 * A fault that is found here costs a sentence; one that is published costs a new root at worst.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TargetFile, Targets } from "@tufjs/models"
import { BaseFetcher, Updater } from "tuf-js"
import { DownloadHTTPError } from "tuf-js/dist/error.js"
import { areaOfRole, signedMsOf } from "./build.ts"
import type { ChannelFile, Publication } from "./publication.ts"
import { type HeldChannel, type SignedFile, vouches } from "./published.ts"

/** What a client would refuse, as a sentence; undefined when it takes all of it. `held` is what followers hold now. */
export const faultForClients = async (publication: Publication, held: HeldChannel): Promise<string | undefined> => {
  const files = [...publication.before, ...publication.head]
  const [firstRoot] = publication.outcome.roots
  if (firstRoot === undefined) return "there is no root"
  const newcomer = await faultFor({ files, root: firstRoot.bytes, local: [], outcome: publication.outcome })
  if (newcomer !== undefined) return `a newcomer would refuse it: ${newcomer}`
  const root = held.roots.at(-1)
  if (root === undefined || held.timestamp === undefined) return undefined
  const local = [["timestamp", held.timestamp] as const, ["snapshot", held.snapshot] as const, ["targets", held.targets] as const, ...held.delegated]
    .flatMap(([role, file]) => file === undefined ? [] : [{ path: `${encodeURIComponent(role)}.json`, bytes: file.bytes }])
  const follower = await faultFor({ files, root: root.bytes, local, outcome: publication.outcome })
  return follower === undefined ? undefined : `who follows the channel would refuse it: ${follower}`
}

interface Client {
  readonly files: ReadonlyArray<ChannelFile>
  /** Root that it trusts. */
  readonly root: Uint8Array
  /** What it has accepted so far. */
  readonly local: ReadonlyArray<ChannelFile>
  readonly outcome: HeldChannel
}

const faultFor = async ({ files, root, local, outcome }: Client): Promise<string | undefined> => {
  const directory = await mkdtemp(join(tmpdir(), "kos-publish-"))
  try {
    for (const { path, bytes } of [{ path: "root.json", bytes: root }, ...local]) await writeFile(join(directory, path), bytes)
    const updater = new Updater({ metadataDir: directory, metadataBaseUrl: "log:", fetcher: new Files(files) })
    setReferenceTime(updater, referenceMs(outcome))
    // R1.2: client workflow 5.3 to 5.6.
    await updater.refresh()
    for (const [role, file] of [["targets", outcome.targets] as const, ...outcome.delegated]) {
      // A publisher whose keys were changed is cut off until it has signed anew; that must not hold up the others.
      if (role !== "targets" && file !== undefined && !vouchedFor(outcome, role, file)) continue
      for (const target of Object.values(file?.metadata.signed.targets ?? {})) {
        const fault = await targetFault(updater, role, target)
        if (fault !== undefined) return fault
      }
    }
    return undefined
  } catch (cause) {
    return (cause instanceof Error ? cause.message : String(cause)).slice(0, 400)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

const vouchedFor = ({ targets }: HeldChannel, role: string, file: SignedFile<Targets>): boolean => targets !== undefined && vouches(targets.metadata, role, file.metadata)

const targetFault = async (updater: Updater, role: string, target: TargetFile): Promise<string | undefined> => {
  const area = areaOfRole(role)
  // R1.5: a walk from the top never asks a publisher for what lies beside its path.
  if (area !== undefined && !target.path.startsWith(`${area}/`)) return `${role} may not sign ${target.path}`
  const found = await updater.getTargetInfo(target.path)
  if (found === undefined) return `${target.path} of ${role} cannot be reached`
  return found.equals(target) || area !== undefined ? undefined : `${target.path} is another one`
}

/**
 * The time at which it was signed, and before anything of it expires: whether metadata is stale is said to those who read it (R2.4) and is no reason to keep back what is
 * newer, and a clock of this machine that is wrong must not stop a publication.
 */
const referenceMs = ({ roots, timestamp, snapshot, targets, delegated }: HeldChannel): number => Math.min(
  signedMsOf(timestamp?.metadata.signed),
  ...[roots.at(-1), timestamp, snapshot, targets, ...delegated.values()].flatMap((file) => file === undefined ? [] : [Date.parse(file.metadata.signed.expires) - 1_000])
)

/** tuf-js takes the wall clock when it is made and has no option for another one; its version is pinned. */
const setReferenceTime = (updater: Updater, ms: number): void => {
  const trusted: unknown = Reflect.get(updater, "trustedSet")
  if (typeof trusted !== "object" || trusted === null || !("referenceTime" in trusted)) throw new Error("this version of tuf-js keeps its reference time elsewhere")
  trusted.referenceTime = new Date(ms)
}

/** Reads files from memory; the newest of one name. */
class Files extends BaseFetcher {
  readonly #files: ReadonlyMap<string, Uint8Array>

  constructor(files: ReadonlyArray<ChannelFile>) {
    super()
    this.#files = new Map(files.map(({ path, bytes }) => [path, bytes]))
  }

  override fetch(url: string): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    const name = decodeURIComponent(url.slice(url.lastIndexOf("/") + 1))
    const bytes = this.#files.get(name)
    if (bytes === undefined) return Promise.reject(new DownloadHTTPError(`there is no ${name}`, 404))
    return Promise.resolve(new ReadableStream({
      start: (controller) => {
        controller.enqueue(new Uint8Array(bytes))
        controller.close()
      }
    }))
  }
}
