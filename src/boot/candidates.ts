/**
 * Candidates whose admission a person has to confirm: those who come with an invite as admin or owner. Kept in memory, by the node that
 * made the invite, for ten minutes at most; a candidate that goes away is forgotten.
 */
import { randomBytes } from "../codec/signature.ts"
import type { Candidates, WaitingCandidate } from "../api/node.ts"

/** Candidates that wait at a time. */
export const waitingMax = 4
export const confirmMsMax = 600_000

export type Decided = "confirmed" | "denied" | "late"

export interface CandidateRoom extends Candidates {
  /** Of this run: a nonce for each connection follows from it, and need not be remembered between a candidate's two questions. */
  readonly secret: Uint8Array
  /** Undefined when too many wait already. */
  readonly wait: (candidate: Omit<WaitingCandidate, "id" | "since" | "until">) => { readonly decided: Promise<Decided>; readonly forget: () => void } | undefined
}

export const makeCandidates = (now: () => number, msMax = confirmMsMax): CandidateRoom => {
  const waiting = new Map<WaitingCandidate, (decided: Decided) => void>()
  return {
    secret: randomBytes(32),
    list: () => [...waiting.keys()],
    decide: (candidate, allow) => {
      const found = [...waiting].find(([each]) => each.id === candidate.id && each.words === candidate.words)
      found?.[1](allow ? "confirmed" : "denied")
      return found !== undefined
    },
    wait: (candidate) => {
      // The same device again: it lost its connection, and its words are others now.
      for (const [each, settle] of waiting) if (each.device === candidate.device) settle("late")
      if (waiting.size >= waitingMax) return undefined
      const entry: WaitingCandidate = { ...candidate, id: candidate.device.slice(0, 8), since: now(), until: now() + msMax }
      let timer: NodeJS.Timeout | undefined
      const decided = new Promise<Decided>((resolve) => {
        const settle = (outcome: Decided): void => {
          clearTimeout(timer)
          waiting.delete(entry)
          resolve(outcome)
        }
        timer = setTimeout(() => settle("late"), msMax)
        waiting.set(entry, settle)
      })
      return { decided, forget: () => waiting.get(entry)?.("late") }
    }
  }
}
