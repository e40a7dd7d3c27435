/**
 * What happens to this node's own log before it is written: look, heal, or begin another. Design section 3, point 5.
 *
 * - *New* and *healthy*: begin. After a restart of the machine a joined node first gives its peers a short while to say that they hold
 *   more of this log than we do, because the image of an old disk looks healthy.
 * - *Short*: wait for peers to bring the tail back; what they cannot bring is closed for ever at the marked length, so that blocks which
 *   others hold still count, and succeeded by a new log that says how many are missing.
 * - *Overruled*: an admin decided that another history of this log stands (evidence.ts); a new log, and the old one is left to that history.
 * - *Rewritten, unmarked*: closed at the greatest length that we or a peer know of, and succeeded. *Copied*: a new log, and the old one is left to whoever has the original.
 */
import { Effect } from "effect"
import { logKey } from "../events/hypercore-store.ts"
import type { Finding, Journal, LastRun, Mismatch } from "../events/journal.ts"
import type { LogStoreError } from "../events/log-store.ts"
import type { Vault } from "../vault/vault.ts"

/** A log of this many blocks is succeeded by another at the next start; peers exchange no log of more than twice as many. */
export const ownBlocksMax = 8_388_608
/** How long a short log waits for peers, milliseconds. */
export const healMsMax = 10_000
/** How long a healthy-looking log waits for word from peers after a restart of the machine, milliseconds. */
export const wordMsMax = 3_000

export interface Succession {
  readonly log: string
  readonly finding: Finding["_tag"] | "Long" | "Overruled"
  /** Blocks held, and blocks that the mark speaks of. */
  readonly length: number
  readonly expected: number
  /** Of the old log at the expected length; zeros when only peers know it. */
  readonly treeHash: string
  readonly successor: string
  readonly why: string
}

export interface OwnLogReport {
  readonly lastRun: LastRun | undefined
  readonly healed: { readonly from: number; readonly to: number } | undefined
  readonly succession: Succession | undefined
}

export interface OwnLogOptions {
  readonly journal: Journal["Service"]
  readonly vault: Vault
  readonly mesh: string
  /** Waits until peers have brought the own log to this length, or until the time is over; true when they have. */
  readonly heal: (length: number, msMax: number) => Promise<boolean>
  /** The length that peers report of the own log, after waiting for a first word of any. 0 when nobody is there. */
  readonly word: (msMax: number) => Promise<number>
  readonly notice: (level: "info" | "warn", text: string, detail?: Readonly<Record<string, unknown>>) => void
  readonly blocksMax?: number
  /** Was it decided that another history of this log stands? */
  readonly overruled?: (log: string) => Promise<boolean>
}

/** Brings the journal to where it may begin; does not begin it. */
export const settleOwnLog = (options: OwnLogOptions): Effect.Effect<OwnLogReport, LogStoreError> => Effect.gen(function*() {
  const { journal, heal, word, notice } = options
  let { finding, lastRun } = yield* Effect.promise(() => journal.inspect())
  let healed: OwnLogReport["healed"]
  const from = journal.length()
  if (finding._tag === "Healthy" && lastRun !== undefined && !lastRun.sameBoot) {
    const reported = yield* Effect.promise(() => word(wordMsMax))
    if (reported > from) finding = { _tag: "Short", length: from, expected: reported, treeHash: unknownHash }
  }
  if (finding._tag === "Short") {
    const { expected, length } = finding
    notice("warn", `this node's log has ${length} of ${expected} blocks; asking peers for the rest before anything is written`)
    yield* Effect.promise(() => heal(expected, healMsMax))
    const again = (yield* Effect.promise(() => journal.inspect())).finding
    if (again._tag === "Healthy" && journal.length() >= expected) {
      healed = { from, to: journal.length() }
      finding = again
    } else if (again._tag === "Rewritten") {
      finding = again
    } else {
      // What a heal brought that was cut short is held now and counts; what is missing is missing of the greater number.
      finding = again._tag === "Short" && again.expected >= expected ? again : { ...finding, length: journal.length() }
    }
  } else if (finding._tag === "Unmarked" || finding._tag === "Rewritten") {
    // The old log ends where its last holder has it: what peers hold beyond us was published and stands.
    const reported = yield* Effect.promise(() => word(wordMsMax))
    if (reported > finding.expected) finding = { ...finding, expected: reported, treeHash: unknownHash }
  }
  const old = journal.log()
  const sound = finding._tag === "New" || finding._tag === "Healthy"
  const length = journal.length()
  const overruled = yield* Effect.promise(async () => await options.overruled?.(old) ?? false)
  if (sound && !overruled && length < (options.blocksMax ?? ownBlocksMax)) return { lastRun, healed, succession: undefined }
  const why: Ended = finding._tag === "New" || finding._tag === "Healthy" || overruled
    ? { _tag: overruled ? "Overruled" : "Long", length, expected: length, treeHash: yield* Effect.promise(() => journal.treeHash(length)) } : finding
  const next = yield* Effect.promise(() => options.vault.nextLogKeyPair(options.mesh))
  yield* journal.succeed(next.keyPair)
  const succession: Succession = {
    log: old, finding: why._tag, length: why.length, expected: why.expected, treeHash: why.treeHash,
    successor: logKey(next.keyPair.publicKey), why: whyOf[why._tag]
  }
  notice("warn", `${isLeft(why._tag) ? "left" : "closed"} log ${old.slice(0, 8)} and began ${succession.successor.slice(0, 8)}: ${succession.why}`, { ...succession })
  return { lastRun, healed, succession }
})

const unknownHash = "0".repeat(64)

type Ended = Exclude<Finding, { readonly _tag: "New" | "Healthy" }> | ({ readonly _tag: "Long" | "Overruled" } & Mismatch)

/** The old log goes on elsewhere: it is left, not closed. */
export const isLeft = (finding: Succession["finding"]): boolean => finding === "Copied" || finding === "Overruled"

const whyOf: Readonly<Record<Ended["_tag"], string>> = {
  Overruled: "an admin decided that another history of it stands",
  Long: "it is as long as one log may become",
  Short: "it lost its tail, and no peer could bring it back",
  Rewritten: "its blocks are not those that were published",
  Copied: "its directory is a copy, and the original may still be in use",
  Unmarked: "its high-water mark is gone, so nobody can say whether it is whole"
}
