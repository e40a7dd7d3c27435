/**
 * From a suspicion to a proof. When a peer's tree hash of a log is not ours, one of the two is wrong, the peer says something that is not
 * so, or the log's author signed two histories. Only the last can be proven, and the proof is looked for here: the smallest length at which
 * both differ is found by halving (at most 41 probes), and both sides show what the log's key signed of it (`codec/history.ts`).
 *
 * A peer that shows nothing signed is told about in the node's log, and nothing is held against the author.
 */
import { equalBytes } from "../codec/bytes.ts"
import { checkHistory, contradiction, decodeHistory, encodeHistory, type SignedHistory } from "../codec/history.ts"
import type { Histories } from "./audit.ts"

export interface Showing {
  /** Undefined when the log is not held that far or has no single signer. */
  readonly ours: (log: string, length: number) => Promise<SignedHistory | undefined>
  /** Encoded; undefined when the peer does not answer. */
  readonly theirs: (log: string, length: number) => Promise<Uint8Array | undefined>
}

export interface Proven {
  readonly length: number
  /** Encoded histories, ours first. */
  readonly histories: readonly [Uint8Array, Uint8Array]
}

/** `length` is one at which both hold the log and differ. A string says why nothing could be proven. */
export const investigate = async (histories: Histories, showing: Showing, log: string, length: number): Promise<Proven | string> => {
  let agreed = 0
  let differing = length
  while (differing - agreed > 1) {
    const middle = agreed + Math.floor((differing - agreed) / 2)
    const [ours, theirs] = await Promise.all([histories.ours(log, middle), histories.theirs(log, middle)])
    if (ours === undefined || theirs === undefined) return "the peer stopped answering"
    if (equalBytes(ours, theirs)) agreed = middle
    else differing = middle
  }
  const [mine, shown] = await Promise.all([showing.ours(log, differing), showing.theirs(log, differing)])
  if (mine === undefined) return "this node's copy cannot show what was signed"
  const theirs = shown === undefined ? undefined : decodeHistory(shown)
  if (shown === undefined || theirs === undefined) return "the peer shows nothing that was signed"
  if (checkHistory(log, theirs) === undefined) return "what the peer shows was not signed by the log's key"
  return contradiction(log, mine, theirs) === undefined ? "both histories are the same after all" : { length: differing, histories: [encodeHistory(mine), shown] }
}
