/**
 * Random graphs with hostile moves: one state whatever the order, and the state that the model says. `KOS_GRAPHS` says how many graphs
 * (10,000 for all; an everyday run takes fewer), `KOS_SEED` where to begin.
 */
import t from "tap"
import type { Operation } from "../src/codec/operation.ts"
import { foldMembership, type Membership, resolveMembership } from "../src/projections/membership.ts"
import { chance, viewText } from "./membership-world.ts"
import { randomGraph, summaryOf } from "./resolver-graphs.ts"
import { modelOf } from "./resolver-model.ts"

t.setTimeout(900_000)

const graphs = Number(process.env["KOS_GRAPHS"] ?? 1_200)
const firstSeed = Number(process.env["KOS_SEED"] ?? 1)

/** Views of the same set of operations that came in different ways; each says how. */
const otherWays = function*(mesh: string, operations: ReadonlyArray<Operation>, seed: number): Generator<readonly [string, Membership]> {
  const { shuffle, below, next } = chance(seed * 31)
  const among = (list: ReadonlyArray<Operation>, look: (index: number) => boolean): Membership => {
    const fold = foldMembership(mesh)
    list.forEach((operation, i) => {
      fold.offer(operation)
      if (look(i)) fold.view()
    })
    return fold.view()
  }
  yield ["all at once, backwards", among(operations.toReversed(), () => false)]
  yield ["one by one with a view after each, parents first", among(operations, () => true)]
  yield ["one by one with a view after each, in any order", among(shuffle(operations), () => true)]
  yield ["with duplicates, and views in between", among(shuffle([...operations, ...operations.filter(() => next() < 0.4)]), () => next() < 0.3)]
  const part = shuffle(operations).slice(0, below(operations.length))
  yield ["a part, then the rest", among([...part, ...shuffle(operations.filter((operation) => !part.includes(operation)))], (i) => i === part.length - 1)]
}

/** What holds in every state, whatever was said. */
const invariantBroken = (view: Membership): string | undefined => {
  const members = [...view.members.values()]
  const logs = members.flatMap((member) => member.logs.map(({ log }) => log))
  if (new Set(logs).size !== logs.length) return "a log belongs to two devices"
  if (new Set(members.map((member) => member.name.toLowerCase())).size !== members.length) return "two nodes have one name"
  for (const { device, standing, revoked, logs: own } of members) {
    if ((standing === "revoked") !== (revoked !== undefined)) return `${device} is ${standing} without a revocation, or has one`
    for (const { log, closedAt = Infinity, cutAt = Infinity, docsTo } of own) {
      if (cutAt > closedAt) return `${log} goes on after it was closed`
      if (docsTo !== undefined && docsTo > cutAt) return `${log} has documents beyond its end`
    }
  }
  return view.threshold < 1 ? "nobody must agree" : undefined
}

t.test(`${graphs} random graphs: one state in whatever way they come, and the state of the model`, async (t) => {
  const seen = { operations: 0, counted: 0, revoked: 0, struck: 0, surplus: 0, blocked: 0, accused: 0, contested: 0 }
  for (let seed = firstSeed; seed < firstSeed + graphs; seed++) {
    const { mesh, operations } = randomGraph(seed)
    const view = resolveMembership(mesh, operations)
    const want = viewText(view)
    for (const [way, other] of otherWays(mesh, operations, seed)) {
      if (viewText(other) !== want) return t.fail(`seed ${seed}: ${way}, another state`, { wanted: want, found: viewText(other) })
    }
    const summary = JSON.stringify(summaryOf(view))
    const model = JSON.stringify(modelOf(operations))
    if (summary !== model) return t.fail(`seed ${seed}: not the state of the model`, { wanted: model, found: summary })
    const fault = invariantBroken(view)
    if (fault !== undefined) return t.fail(`seed ${seed}: ${fault}`)
    seen.operations += operations.length
    seen.counted += operations.length - view.void.length
    for (const member of view.members.values()) {
      if (member.standing === "revoked") seen.revoked++
      if (member.accused !== undefined) seen.accused++
    }
    for (const { why } of view.void) {
      if (why.endsWith("concurrently")) seen.struck++
      if (why.endsWith("comes first")) seen.surplus++
      if (why.includes("recovery key was set")) seen.blocked++
      if (why.includes("attached to another")) seen.contested++
    }
  }
  t.comment(JSON.stringify(seen))
  t.ok(seen.counted > seen.operations / 2, `${seen.counted} of ${seen.operations} operations counted: the graphs are not all void`)
  for (const what of ["revoked", "struck", "surplus", "blocked", "accused", "contested"] as const) t.ok(seen[what] > graphs / 250, `${what} occurred ${seen[what]} times`)
})
