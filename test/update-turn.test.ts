/** Turns without a server: never more on trial than allowed among those in touch, whatever comes in which order, and nobody waits for ever. */
import t from "tap"
import { decideAskTurn, decideGiveBackTurn, sayStep } from "../src/commands/decide-updates.ts"
import type { Wanted } from "../src/commands/dispatch.ts"
import { turnsOf, type TurnAsk } from "../src/projections/updates.ts"
import { turnAwayMsMax, type TurnFacts, turnOf } from "../src/updates/turn.ts"
import { seeded } from "./tables-help.ts"
import { membershipOf, readingOf, releaseOf } from "./update-world.ts"

const release = releaseOf()
const hex = (n: number): string => (n + 1).toString(16).padStart(2, "0").repeat(32)
const ask = (n: number, more: Partial<TurnAsk> = {}): TurnAsk => ({ device: hex(n), release: release.id, number: n, state: "asked", at: { log: hex(n + 100), block: 0, offset: 0 }, ms: 0, ...more })
const facts = (me: number, asks: ReadonlyArray<TurnAsk>, inTouch: ReadonlyArray<number>, more: Partial<TurnFacts> = {}): TurnFacts => ({
  device: hex(me), release: release.id, turns: { asks, nextNumber: 9 }, nodesMax: 1, inTouch: inTouch.map((n) => ({ device: hex(n), holdsAsk: true, heard: true, behindMs: 0 })),
  awayMs: (device) => inTouch.some((n) => hex(n) === device) ? 0 : 10_000, others: 5, nameOf: (device) => `node-${parseInt(device.slice(0, 2), 16) - 1}`, insisted: false, ...more
})
const says = (of: TurnFacts): string => {
  const { answer } = turnOf(of)
  return answer._tag === "Waits" ? answer.why : answer._tag === "Unasked" ? `unasked, ${answer.number}` : "mine"
}

t.test("who goes, and what the others wait for", async (t) => {
  t.equal(says(facts(1, [], [2])), "unasked, 9")
  t.equal(says(facts(1, [ask(1)], [2, 3])), "mine")
  t.equal(says(facts(2, [ask(1), ask(2)], [1, 3])), "node-1 goes first; at most 1 at a time")
  t.equal(says(facts(1, [ask(1), ask(2, { state: "trial" })], [2, 3])), "node-2 tries a release; at most 1 at a time", "a trial goes before whatever its number")
  t.equal(says(facts(3, [ask(1, { state: "trial" }), ask(2, { state: "trial" }), ask(3)], [1, 2], { nodesMax: 2 })), "node-1 and node-2 try releases; at most 2 at a time")
  t.equal(says(facts(3, [ask(1, { state: "trial" }), ask(3)], [1, 2], { nodesMax: 2 })), "mine")
  t.equal(says(facts(2, [ask(1, { number: 2 }), ask(2)], [1])), "node-1 goes first; at most 1 at a time", "of equal numbers the smaller log")
  t.equal(says(facts(1, [ask(1)], [])), "no other node in touch holds all that this one has written yet")
  t.equal(says(facts(1, [ask(1)], [], { others: 0 })), "mine", "alone in the mesh")
  t.equal(says(facts(1, [ask(1)], [], { insisted: true })), "mine", "a person insists")
  const half = { device: hex(2), holdsAsk: false, heard: true, behindMs: 5_000 }
  const whole = { device: hex(3), holdsAsk: true, heard: true, behindMs: 0 }
  t.equal(says(facts(1, [ask(1)], [], { inTouch: [half, whole] })), "node-2 does not know yet that this node asks for its turn")
  t.equal(says(facts(1, [ask(1)], [], { inTouch: [{ ...half, holdsAsk: true, heard: false }, whole] })), "not all that node-2 has is known here yet")
  t.equal(says(facts(1, [ask(1)], [], { inTouch: [{ ...half, behindMs: turnAwayMsMax }, whole] })), "mine", "who takes nothing for so long is as if away")
  t.equal(says(facts(2, [ask(1, { state: "trial" }), ask(2)], [3])), "node-1 tries a release; at most 1 at a time", "it is away for its restart")
  t.equal(says(facts(2, [ask(1, { state: "trial" }), ask(2)], [3], { awayMs: () => turnAwayMsMax })), "mine", "it is away for long")
})

/** A mesh in which every event, block and receipt takes its own time. */
interface Logged {
  readonly type: string
  readonly body: unknown
}
class Node {
  readonly log: Array<Logged> = []
  readonly held: Array<number>
  readonly folded: Array<number>
  /** By peer and log: what it said that it holds. */
  readonly announced: Array<Array<number>>
  /** To each peer, in order. */
  readonly outbox: Array<Array<readonly [log: number, length: number]>>
  pending: (() => void) | undefined
  state: "idle" | "asked" | "said" | "active" = "idle"
  askBlock = 0
  times = 0

  constructor(count: number) {
    this.held = Array.from({ length: count }, () => 0)
    this.folded = Array.from({ length: count }, () => 0)
    this.announced = Array.from({ length: count }, () => Array.from({ length: count }, () => 0))
    this.outbox = Array.from({ length: count }, () => [])
  }
}

const simulate = (seed: number, options: { readonly count: number; readonly nodesMax: number; readonly cuts: boolean; readonly steps: number }) => {
  const { count, nodesMax, cuts } = options
  const random = seeded(seed)
  const nodes = Array.from({ length: count }, () => new Node(count))
  const node = (i: number): Node => {
    const found = nodes[i]
    if (found === undefined) throw new Error(`no node ${i}`)
    return found
  }
  const view = membershipOf(Array.from({ length: count }, (_, i) => ({ device: hex(i), name: `node-${i}`, logs: [hex(i + 100)] })))
  const up = new Set<string>()
  /** Since which step two nodes are in touch without a break. */
  const since = new Map<string, number>()
  const link = (a: number, b: number): string => a < b ? `${a}-${b}` : `${b}-${a}`
  const connect = (a: number, b: number, step: number): void => {
    up.add(link(a, b))
    since.set(link(a, b), step)
    for (const [x, y] of [[a, b], [b, a]] as const) node(x).outbox[y] = node(x).held.map((length, log) => [log, length] as const)
  }
  for (let a = 0; a < count; a++) for (let b = a + 1; b < count; b++) connect(a, b, 0)
  const grew = (i: number, log: number, length: number): void => {
    node(i).held[log] = length
    for (let j = 0; j < count; j++) if (j !== i && up.has(link(i, j))) node(i).outbox[j]?.push([log, length])
  }
  const append = (i: number, { type, body }: Wanted): void => {
    node(i).log.push({ type, body })
    const length = node(i).log.length
    grew(i, i, length)
    node(i).folded[i] = length
  }
  const turns = (i: number) => {
    const rows = node(i).folded.flatMap((length, log) => node(log).log.slice(0, length).map((event, block) => ({ log: hex(log + 100), block, ...event })))
    return turnsOf(readingOf(view, rows))
  }
  const turn = (i: number) => turnOf({
    device: hex(i), release: release.id, turns: turns(i), nodesMax,
    inTouch: nodes.flatMap((_, j) => j === i || !up.has(link(i, j)) ? [] : [{
      device: hex(j), holdsAsk: (node(i).announced[j]?.[i] ?? 0) > node(i).askBlock, heard: (node(i).announced[j] ?? []).every((length, log) => length <= (node(i).folded[log] ?? 0)), behindMs: 0
    }]),
    awayMs: (device) => nodes.some((_, j) => hex(j) === device && up.has(link(i, j))) ? 0 : turnAwayMsMax, others: count - 1, nameOf: (device) => device.slice(0, 2), insisted: false
  })
  const faults: Array<string> = []
  const askedAt = new Map<number, number>()
  let most = 0
  const decide = (i: number, step: number): void => {
    const me = node(i)
    const { answer } = turn(i)
    if (me.state === "idle") {
      const wanted = decideAskTurn(turns(i), hex(i), release)
      me.pending = () => {
        me.askBlock = me.log.length
        for (const one of wanted) append(i, one)
        me.state = "asked"
        askedAt.set(i, step)
      }
    } else if (me.state === "asked" && answer._tag === "Mine") {
      me.pending = () => {
        append(i, sayStep(release, "trial", ""))
        me.state = "said"
      }
    } else if (me.state === "said" && answer._tag === "Waits" && random(3) === 0) {
      const wanted = decideGiveBackTurn(turns(i), hex(i), release)
      me.pending = () => {
        for (const one of wanted) append(i, one)
        me.state = "idle"
      }
    } else if (me.state === "said" && answer._tag === "Mine") {
      me.pending = () => {
        me.state = "active"
        // Nodes that have been in touch ever since each of the two asked.
        const together = nodes.filter((other, j) => j !== i && other.state === "active" && up.has(link(i, j)) && (since.get(link(i, j)) ?? 0) <= Math.min(askedAt.get(i) ?? 0, askedAt.get(j) ?? 0)).length + 1
        most = Math.max(most, together)
        if (together > nodesMax) faults.push(`seed ${seed}, step ${step}: ${together} on trial, ${nodesMax} allowed`)
      }
    } else if (me.state === "active" && random(6) === 0) {
      append(i, sayStep(release, random(2) === 0 ? "rolled-back" : "committed", ""))
      me.state = "idle"
      me.times++
    }
  }
  const act = (step: number, quiet: boolean): void => {
    const i = random(count)
    const me = node(i)
    const j = random(count)
    switch (random(cuts && !quiet ? 6 : 5)) {
      case 0: {
        const message = i === j || !up.has(link(i, j)) ? undefined : me.outbox[j]?.shift()
        const told = node(j).announced[i]
        if (message !== undefined && told !== undefined) told[message[0]] = Math.max(told[message[0]] ?? 0, message[1])
        return
      }
      case 1: {
        const log = random(count)
        const length = i === j || !up.has(link(i, j)) ? 0 : me.announced[j]?.[log] ?? 0
        if (length > (me.held[log] ?? 0)) grew(i, log, length)
        return
      }
      case 2: {
        const log = random(count)
        me.folded[log] = me.held[log] ?? 0
        return
      }
      case 3:
      case 4: {
        // What was decided is done later, and much may happen in between.
        const { pending } = me
        if (pending !== undefined) {
          me.pending = undefined
          pending()
        } else decide(i, step)
        return
      }
      case 5:
        if (i === j || random(8) !== 0) return
        if (up.has(link(i, j))) up.delete(link(i, j))
        else connect(i, j, step)
        return
    }
  }
  for (let step = 0; step < options.steps; step++) act(step, false)
  const before = nodes.map(({ times }) => times)
  for (let a = 0; a < count; a++) for (let b = a + 1; b < count; b++) if (!up.has(link(a, b))) connect(a, b, options.steps)
  for (let step = 0; step < options.steps * 12 && nodes.some(({ times }, i) => times === before[i]); step++) act(options.steps + step, true)
  return { faults, most, stuck: nodes.flatMap(({ times }, i) => times === before[i] ? [`seed ${seed}: node ${i} never had its turn`] : []), tried: nodes.reduce((sum, { times }) => sum + times, 0) }
}

t.test("never more than allowed on trial among nodes in touch, and everybody has a turn, in any interleaving", async (t) => {
  let tried = 0
  const most = new Map<number, number>()
  for (let seed = 1; seed <= 60; seed++) {
    const nodesMax = 1 + seed % 2
    const done = simulate(seed, { count: 2 + seed % 4, nodesMax, cuts: seed % 3 === 0, steps: 2_500 })
    for (const fault of [...done.faults, ...done.stuck]) t.fail(fault)
    tried += done.tried
    most.set(nodesMax, Math.max(most.get(nodesMax) ?? 0, done.most))
  }
  t.ok(tried > 200, `${tried} trials`)
  t.equal(most.get(1), 1)
  t.equal(most.get(2), 2, "as many as are allowed do go")
})
