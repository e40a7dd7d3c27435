/**
 * Whose turn it is to try a release (R5.6), without a server.
 *
 * **What it owns.** The rule alone; asks are events (`update.turn`), and what is asked and not ended is `turnsOf` of `src/projections/updates.ts`.
 *
 * **How one turn travels.** A device that is ready to switch asks, with a number greater than those of all asks that it holds → it waits until every node in
 * touch holds its ask and until it has folded all that these nodes said that they hold → it counts who goes before it: trials that run, and asks of a smaller
 * number, of equal numbers the smaller log → when fewer than `update.trial.max` do, it says `update.trial`, looks once more in the same way, and switches →
 * its ask ends with `committed`, `rolled-back`, `failed`, `stopped`, or when it gives its turn back.
 *
 * **Invariant.** Among nodes that are in touch with each other at most N switch at a time. Of two asks, either one's device held the other when it asked, then its
 * number is greater; or neither did, then each was told of before its device said that it holds the other one. So whoever has waited knows every ask that
 * goes before its own, and an ask that it does not know goes after its own on both sides. No wall clock has a part in it.
 *
 * **Tricky cases.**
 * - *The device on trial restarts, so it is away:* it counts until it was away for `turnAwayMsMax`, measured by this process's steady clock from the last sign of
 *   life, or from this process's own start. A device that never comes back blocks the others that long, not for ever.
 * - *Two groups of nodes that do not meet:* each has turns of its own; when they meet, trials of both count, and nobody new goes until they are few enough.
 * - *A node in touch takes nothing any more:* after the same time it counts as away.
 * - *An ask arrives while another one is being written:* both may think that they go first. The second look, between `update.trial` and the switch, sees it: who has
 *   the larger number gives its turn back.
 * - *Nodes that know of each other through third ones only:* counted when their asks have come here; two that ask at the same moment may both go.
 * - *A member that claims to be on trial for ever, or number 0:* it keeps the others from switching by themselves while it is in touch. A person can insist.
 */
import type { Turns } from "../projections/updates.ts"

/** Steady time after which a device without a sign of life does not count any more: longer than a restart and a trial's usual time. */
export const turnAwayMsMax = 900_000

/** A node in touch. */
export interface TurnPeer {
  readonly device: string
  /** It said that it holds this device's log up to its ask, or beyond. */
  readonly holdsAsk: boolean
  /** All that it said to hold, of any log, is folded here. */
  readonly heard: boolean
  /** For how long it has been behind in one or the other, steady ms; 0 when it is not. */
  readonly behindMs: number
}

export interface TurnFacts {
  readonly device: string
  readonly release: string
  readonly turns: Turns
  /** `update.trial.max`. */
  readonly nodesMax: number
  readonly inTouch: ReadonlyArray<TurnPeer>
  /** Steady ms since the last sign of life of a device: a connection, or growth of its log; 0 while it is in touch. At most the age of this process. */
  readonly awayMs: (device: string) => number
  /** Other members of the mesh, in touch or not, that keep logs. */
  readonly others: number
  readonly nameOf: (device: string) => string
  /** A person said that this node is to switch whoever else does and whether its events are held elsewhere or not. */
  readonly insisted: boolean
  /** `turnAwayMsMax` unless a test says less. */
  readonly awayMsMax?: number
}

export type TurnAnswer =
  /** It has to be asked for, with this number. */
  | { readonly _tag: "Unasked"; readonly number: number }
  | { readonly _tag: "Mine" }
  | { readonly _tag: "Waits"; readonly why: string }

export interface Turn {
  readonly answer: TurnAnswer
  /** This device has an ask for this release that has not ended. */
  readonly asked: boolean
  /** And has said since that it begins its trial. */
  readonly said: boolean
}

/** Names that one sentence gives. */
const namedMax = 4

export const turnOf = (facts: TurnFacts): Turn => {
  const { device, release, turns, nodesMax, inTouch, awayMs, others, insisted, awayMsMax = turnAwayMsMax } = facts
  const own = turns.asks.find((ask) => ask.device === device && ask.release === release)
  if (own === undefined) return { answer: { _tag: "Unasked", number: turns.nextNumber }, asked: false, said: false }
  const turn = (answer: TurnAnswer): Turn => ({ answer, asked: true, said: own.state === "trial" })
  const waits = (why: string): Turn => turn({ _tag: "Waits", why })
  if (insisted) return turn({ _tag: "Mine" })
  const peers = inTouch.filter((peer) => peer.device !== device && peer.behindMs < awayMsMax)
  // R5.6: never a node whose events nobody else holds.
  if (others > 0 && !peers.some(({ holdsAsk }) => holdsAsk)) return waits("no other node in touch holds all that this one has written yet")
  // R5.6: those in touch know of the ask, and what they knew is known here.
  const behind = peers.filter(({ holdsAsk }) => !holdsAsk)
  if (behind.length > 0) return waits(`${named(facts, behind)} ${behind.length === 1 ? "does" : "do"} not know yet that this node asks for its turn`)
  const unheard = peers.filter(({ heard }) => !heard)
  if (unheard.length > 0) return waits(`not all that ${named(facts, unheard)} ${unheard.length === 1 ? "has" : "have"} is known here yet`)
  // R5.6: at most so many. A device counts once, whatever it tries.
  const touching = new Set(peers.map((peer) => peer.device))
  const before = new Map<string, { readonly device: string; readonly trial: boolean }>()
  for (const ask of turns.asks) {
    if (ask.device === device || (!touching.has(ask.device) && awayMs(ask.device) >= awayMsMax)) continue
    const trial = ask.state === "trial"
    const earlier = ask.number < own.number || (ask.number === own.number && ask.at.log < own.at.log)
    if (trial || earlier) before.set(ask.device, { device: ask.device, trial: trial || before.get(ask.device)?.trial === true })
  }
  if (before.size < nodesMax) return turn({ _tag: "Mine" })
  const trying = [...before.values()].filter(({ trial }) => trial)
  const shown = trying.length > 0 ? trying : [...before.values()]
  return waits(`${named(facts, shown)} ${shown.length === 1 ? (trying.length > 0 ? "tries a release" : "goes first") : (trying.length > 0 ? "try releases" : "go first")}; at most ${nodesMax} at a time`)
}

const named = ({ nameOf }: TurnFacts, devices: ReadonlyArray<{ readonly device: string }>): string => {
  const names = devices.map(({ device }) => nameOf(device)).sort()
  const more = names.length - namedMax
  return more > 0 ? `${names.slice(0, namedMax).join(", ")} and ${more} more` : names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1) ?? ""}`
}
