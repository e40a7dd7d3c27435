/**
 * One channel that is followed: from its code to verified releases.
 *
 * *Owns* the directory `HOME/updates/trust/ROOT`: `trusted.json` (trust-file.ts) and `floor.json` (time-floor.ts). Owns no log: blocks are
 * read, never asked for, so a check works without any network.
 *
 * *One check*: the first root is compared with the code's hash → roots are followed one by one → a root may name another log, which is
 * opened and read from then on → timestamp, snapshot, targets, delegated roles (workflow.ts) → releases (channel-view.ts) → what was
 * accepted is written, then shown. Checks follow each other, never overlap, and repeating one changes nothing.
 *
 * *Invariants*
 * - Signatures and versions are checked at time 0, at which nothing is expired; expiry is judged apart, against the floor of time. So
 *   expired metadata is stale and never gone (R2.4), and a wrong clock can make a channel stale and nothing worse.
 * - What is accepted stays accepted: roles in `latest` never go back, not even when the check fails later on. Releases are shown only
 *   from a set that passed as a whole, `good`, and only while the root in force still lets those keys sign targets.
 *
 * *Tricky cases*
 * - A root came that replaces the online keys, and its timestamp has not come yet: the last good releases stay, as stale.
 * - Two logs hold files, because the channel moved: numbered files are taken from either, as they are right by their signatures. The
 *   timestamp is the new log's as soon as it has one; before that the old one's.
 * - The log that is in force was forked (R1.8): nothing is read from it. A root in another log, from a new code that a person entered, leads on.
 * - The log was lost and comes again from its first block: what is trusted already holds meanwhile.
 * - A torn file of ours: see trust-file.ts. A torn floor is no floor; it comes again with the timestamp in force.
 */
import { createHash } from "node:crypto"
import { equalBytes, shortKey } from "../../codec/bytes.ts"
import { Malformed } from "../../codec/malformed.ts"
import type { Channel, ChannelLog, ChannelState } from "../ports.ts"
import type { Release } from "../release.ts"
import { type ChannelFiles, channelFiles, indexPath } from "./channel-block.ts"
import { parseChannelCode } from "./channel-code.ts"
import { type ChannelView, movedTo, viewChannel } from "./channel-view.ts"
import { makeDirectory, readSmallText, writeWhole } from "../../vault/files.ts"
import { channelLimits } from "./metadata-limits.ts"
import { acceptTimestamp, decodeFloor, encodeFloor, type FloorGround, floorMs, noFloor, noteStep, referenceMs, type TimeFloor } from "./time-floor.ts"
import { readTrust, type Trust, trustedFiles, writeTrust } from "./trust-file.ts"
import { emptySource, MetadataMissing, openWorkflow, type MetadataSource, type Workflow } from "./workflow.ts"

/** Logs that one channel may have moved to, of which each is still read. */
export const channelLogsMax = 5

export interface ChannelOptions {
  /** Name of the channel here. */
  readonly name: string
  readonly code: string
  readonly directory: string
  /** Opens a log by its key: that of the code, and those that roots name. Called once for each. */
  readonly follow: (key: string) => Promise<ChannelLog>
  /** The wall clock, ms; it may be wrong. */
  readonly now: () => number
  /** When this version of kOS was made, ms. */
  readonly builtMs: number
  /** A log of the channel has new blocks. */
  readonly onGrow?: () => void
}

export interface FollowedChannel extends Channel {
  /** R2.2: this device did a step by itself at this time of its clock, ms. */
  readonly stepped: (ms: number) => Promise<void>
  /** R2.1, R2.3: the time at which expiry is judged now, ms. */
  readonly referenceMs: () => number
  /** Ends listening; logs are closed by who opened them. */
  readonly close: () => Promise<void>
}

interface OpenLog {
  readonly log: ChannelLog
  readonly files: ChannelFiles
  readonly stop: () => void
}

type Verdict =
  | { readonly kind: "good"; readonly view: ChannelView }
  | { readonly kind: "empty" }
  /** Verified as far as it came; the timestamp of the newest root has not come. */
  | { readonly kind: "waiting"; readonly fault: string }
  | { readonly kind: "untrusted"; readonly fault: string }

/** Rejects when the code is none, or its log cannot be opened. */
export const openChannel = async (options: ChannelOptions): Promise<FollowedChannel> => {
  const { name, directory, now, builtMs } = options
  const code = parseChannelCode(options.code)
  if (code === undefined) throw new Malformed({ what: `code of channel ${name}`, why: "it is no channel's code" })
  const [trustPath, floorPath] = [`${directory}/trusted.json`, `${directory}/floor.json`]
  const trust: Trust = await readTrust(trustPath)
  let floor: TimeFloor = await readFloor(floorPath)
  const logs = new Map<string, OpenLog>()

  const open = async (key: string): Promise<void> => {
    if (logs.has(key)) return
    const log = await options.follow(key)
    const spare = logs.size < channelLogsMax ? undefined : [...logs.keys()].find((each) => each !== code.log && each !== current)
    if (spare !== undefined) {
      logs.get(spare)?.stop()
      logs.delete(spare)
    }
    logs.set(key, { log, files: channelFiles(log), stop: log.onGrow(() => options.onGrow?.()) })
  }

  let root: Workflow | undefined
  let asked: { readonly root: unknown; readonly targets: unknown; readonly may: boolean } | undefined
  let current = code.log
  let good: ChannelView | undefined
  let mark: string | undefined

  /** Logs that are read: the one in force, that of the code, then the others; none that was forked (R1.8). */
  const readable = (): ReadonlyArray<ChannelFiles> => {
    const order = [current, code.log, ...[...logs.keys()].reverse()]
    return [...new Set(order)].flatMap((key) => logs.get(key) ?? []).filter(({ log }) => log.fork() === undefined).map(({ files }) => files)
  }

  const source: MetadataSource = {
    files: async (file, bytesMax) => {
      const found: Array<Uint8Array> = []
      for (const files of readable()) {
        if (file === "timestamp.json") {
          const newest = await files.read(file, bytesMax)
          if (newest !== undefined) return [newest]
        } else {
          await files.find(file, (bytes) => found.push(bytes) < 0, bytesMax)
        }
      }
      return found
    }
  }

  /** R1.1: the first root is the one that the code names by its hash. */
  const firstRoot = async (): Promise<Uint8Array | "other" | undefined> => {
    let other = false
    for (const files of readable()) {
      const bytes = await files.find("1.root.json", (each) => {
        const same = sha256(each) === code.root
        other ||= !same
        return same
      }, channelLimits.rootBytesMax)
      if (bytes !== undefined) return bytes
    }
    return other ? "other" : undefined
  }

  const check = async (): Promise<Verdict> => {
    const first = await firstRoot()
    const held = trust.latest.get("root")
    if (first === "other" && held === undefined) return { kind: "untrusted", fault: "the first root in the log is not the one that the channel's code names" }
    const pinned = first === "other" || first === undefined ? held : first
    if (pinned === undefined) {
      const fork = logs.get(code.log)?.log.fork()
      return fork === undefined ? { kind: "empty" } : { kind: "untrusted", fault: forked(code.log, fork) }
    }
    // R1.2: everything below reads what is held here.
    const workflow = openWorkflow({ root: pinned, trusted: trustedFiles(trust.latest), source, referenceMs: 0, limits: channelLimits, timestampNeeded: false })
    trust.latest.set("root", trust.latest.get("root") ?? pinned)
    for (let moves = 0; moves < channelLogsMax; moves += 1) {
      await workflow.followRoots()
      root = workflow
      const key = movedTo(workflow.root()) ?? code.log
      if (key === current && logs.has(key)) break
      // A log that cannot be opened now is asked for again at the next check; what is here holds meanwhile.
      await open(key).catch(() => undefined)
      if (!logs.has(key)) break
      current = key
    }
    const fork = logs.get(current)?.log.fork()
    // R1.8: a log with two histories is not followed any further until a person decides.
    if (fork !== undefined) return { kind: "untrusted", fault: forked(current, fork) }
    const [newest] = await source.files("timestamp.json", channelLimits.timestampBytesMax)
    if (newest === undefined && !trust.latest.has("timestamp")) return { kind: "empty" }
    try {
      await workflow.followTargets()
      const view = await viewChannel(workflow, { root: code.root, name, rolesMax: channelLimits.delegationsMax })
      // Just verified against this root.
      asked = { root: workflow.root(), targets: view.targets, may: true }
      return { kind: "good", view }
    } catch (cause) {
      const before = trust.good?.get("timestamp")
      const same = newest === undefined || (before !== undefined && equalBytes(newest, before))
      const version = workflow.root().signed.version
      if (same && good !== undefined && version > good.versions.root) return { kind: "waiting", fault: `the timestamp of root ${version} has not come yet` }
      throw cause
    }
  }

  const ground = (view: ChannelView | undefined): FloorGround => ({
    builtMs, thresholdMs: view?.thresholdMs ?? 0, timestampKeys: root?.root().signed.roles["timestamp"]?.keyIDs
  })
  const reference = (): number => referenceMs(now(), floorMs(floor, ground(good)))

  /** Does the root in force let those keys sign targets that signed these? Answered once for each pair. */
  const mayStillSign = (by: Workflow, { targets }: ChannelView): boolean => {
    const metadata = by.root()
    if (asked?.root === metadata && asked.targets === targets) return asked.may
    let may = true
    try {
      metadata.verifyDelegate("targets", targets)
    } catch {
      may = false
    }
    asked = { root: metadata, targets, may }
    return may
  }

  const toState = (verdict: Verdict): ChannelState => {
    const at = reference()
    const view = verdict.kind === "good" ? verdict.view : good
    // What keys signed that may not sign any more is not shown.
    const holds = view !== undefined && root !== undefined && mayStillSign(root, view)
    const expired = view?.expiries.some(([, ms]) => at >= ms) ?? false
    const trusted = verdict.kind === "good" ? expired ? "stale" : "fresh" : verdict.kind === "waiting" ? "stale" : verdict.kind
    return {
      channel: code.root, name, logKey: current, trust: trusted,
      fault: verdict.kind === "good" || verdict.kind === "empty" ? undefined : verdict.fault,
      versions: { ...view?.versions ?? { timestamp: 0, snapshot: 0, targets: 0 }, root: root?.root().signed.version ?? view?.versions.root ?? 0 },
      signedMs: view?.signedMs ?? 0, expiresMs: view?.expiresMs ?? 0,
      releases: holds ? view.releases.map(({ release, expiresMs }) => at >= expiresMs && release.role !== "targets" ? { ...release, stale: true as const } : release) : [],
      yanked: view?.yanked ?? [], faulty: view?.faulty ?? []
    }
  }

  const acceptFloor = async (next: TimeFloor): Promise<void> => {
    if (next === floor) return
    await makeDirectory(directory)
    await writeWhole(floorPath, encodeFloor(next))
    floor = next
  }

  const heldNow = (): string => [...logs.values()].map(({ log }) => `${log.key} ${log.length()} ${log.fork() ?? ""}`).join()

  /** The last good set as it was written, before any log is read. */
  const restore = async (): Promise<Verdict> => {
    const files = trust.good
    const pinned = files?.get("root")
    if (files === undefined || pinned === undefined) return { kind: "empty" }
    try {
      const limits = channelLimits
      const workflow = openWorkflow({ root: pinned, trusted: trustedFiles(new Map(files)), source: emptySource, referenceMs: 0, limits, timestampNeeded: false })
      await workflow.followTargets()
      good = await viewChannel(workflow, { root: code.root, name, rolesMax: limits.delegationsMax })
      root = openWorkflow({ root: pinned, trusted: trustedFiles(trust.latest), source: emptySource, referenceMs: 0, limits, timestampNeeded: false })
      current = movedTo(root.root()) ?? code.log
      return { kind: "good", view: good }
    } catch {
      trust.good = undefined
      return { kind: "empty" }
    }
  }

  let verdict: Verdict = await restore()
  await open(code.log)
  if (current !== code.log) await open(current).catch(() => { current = code.log })
  let state = toState(verdict)
  let written: Trust = { latest: new Map(trust.latest), good: trust.good }

  const refresh = async (): Promise<ChannelState> => {
    const held = heldNow()
    if (held !== mark) {
      const next = await check().catch((cause: unknown): Verdict => ({ kind: "untrusted", fault: sentence(cause) }))
      if (next.kind === "good") {
        for (const role of trust.latest.keys()) if (!["root", "timestamp", "snapshot", ...next.view.roles].includes(role)) trust.latest.delete(role)
        trust.good = new Map(trust.latest)
      }
      // Written before it is shown: what a person or another node saw is never taken back by a power cut. A disk that refuses is the caller's to tell.
      if (!sameFiles(written.latest, trust.latest) || !sameFiles(written.good ?? new Map(), trust.good ?? new Map())) {
        await writeTrust(trustPath, trust)
        written = { latest: new Map(trust.latest), good: trust.good }
      }
      verdict = next
      if (verdict.kind === "good") {
        good = verdict.view
        // R2.2: the floor moves by what was accepted.
        await acceptFloor(acceptTimestamp(floor, good.timestamp))
      }
      // A check that failed is made again: the disk, not the log, may have been at fault.
      mark = verdict.kind === "good" || verdict.kind === "empty" ? held : undefined
    }
    state = toState(verdict)
    return state
  }

  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <A>(work: () => Promise<A>): Promise<A> => {
    const next = turn.then(work)
    turn = next.catch(() => undefined)
    return next
  }

  return {
    state: () => state,
    refresh: () => inTurn(refresh),
    index: (release) => inTurn(async () => {
      // R1.7, R3.1: its length is known before it is read, its hash checked before it is used.
      for (const files of readable()) {
        const bytes = await files.find(indexPath(release.id), (each) => each.byteLength === release.indexLength && sha256(each) === release.id, release.indexLength)
        if (bytes !== undefined) return bytes
      }
      throw new Malformed({ what: `index of ${release.target}`, why: `no file of ${release.indexLength} bytes with SHA-256 ${shortKey(release.id)} is in the channel's log as it is held here` })
    }),
    stepped: (ms) => inTurn(() => acceptFloor(noteStep(floor, ground(good), ms))),
    referenceMs: reference,
    close: () => inTurn(async () => {
      for (const { stop } of logs.values()) stop()
      logs.clear()
    })
  }
}

const readFloor = async (path: string): Promise<TimeFloor> => {
  const text = await readSmallText(path, 65_536)
  const decoded = text === undefined ? undefined : decodeFloor(text)
  return decoded?._tag === "Success" ? decoded.success : noFloor
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")

const forked = (key: string, what: string): string => `the channel's log ${shortKey(key)} has two signed histories (${what}); it is not followed any further`


const sentence = (cause: unknown): string => {
  const text = (cause instanceof Error ? cause.message : String(cause)).slice(0, 300)
  return cause instanceof MetadataMissing ? `the log does not hold what its metadata names: ${text}` : `the metadata did not pass: ${text}`
}

const sameFiles = (a: ReadonlyMap<string, Uint8Array>, b: ReadonlyMap<string, Uint8Array>): boolean =>
  a.size === b.size && [...a].every(([role, bytes]) => equalBytes(bytes, b.get(role) ?? new Uint8Array(0)))
