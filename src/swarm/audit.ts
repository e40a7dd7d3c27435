import { equalBytes } from "../codec/bytes.ts"
import { randomBytes } from "../codec/signature.ts"
import type { SwarmHost } from "./host.ts"

/** What comparing histories needs: both sides' tree hash of a log at a length, undefined where it is not held that far. */
export interface Histories {
  readonly device: string
  readonly ours: (log: string, length: number) => Promise<Uint8Array | undefined>
  readonly theirs: (log: string, length: number) => Promise<Uint8Array | undefined>
}

/** Reports that a log has another history at the peer, with the proof when there is one. */
export type Report = (log: string, length: number, detail: string) => Promise<void>

/**
 * Compares our history of a log with the peer's at this length and reports a difference: equal lengths hide a rewritten log, since nothing
 * is then downloaded that could fail to verify. False when they differ.
 */
export const compareHistory = async (host: SwarmHost, histories: Histories, report: Report, log: string, length: number): Promise<boolean> => {
  const [theirs, ours] = await Promise.all([histories.theirs(log, length), histories.ours(log, length)])
  if (theirs === undefined || ours === undefined || equalBytes(theirs, ours)) return true
  await report(log, length, `${log === host.logs.own() ? "it holds another history of our log" : "another history"} at length ${length}`)
  return false
}

/** Compares a few logs taken by chance among those that both hold, one after the other; opening a log costs both sides about a millisecond. */
export const auditSome = async (host: SwarmHost, histories: Histories, report: Report, logsMax: number, ourLength: (log: string) => number): Promise<void> => {
  const both = host.receipts.holdings(histories.device).filter(({ log, length }) => length > 0 && length <= ourLength(log))
  for (let count = 0; count < logsMax && both.length > 0; count += 1) {
    const at = Buffer.from(randomBytes(4)).readUInt32BE() % both.length
    const [found] = both.splice(at, 1)
    if (found !== undefined) await compareHistory(host, histories, report, found.log, found.length)
  }
}
