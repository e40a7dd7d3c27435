/**
 * What a node does when an admin has decided which of two histories of a log stands (`evidence.cleared`).
 *
 * - It has the history that stands, or fewer blocks than the decision speaks of: nothing; the log counts again by itself.
 * - It has a copy of the other one: the copy is removed and fetched anew, and state is folded again from what is left. Nothing of the other
 *   history was counted since the evidence came in, so nobody sees a change but in what was held back.
 * - The log is its own: the other history was written by whoever has a copy of this device's disk, and it is this one that goes on there.
 *   This node begins a log of its own, as a copied directory does (decision 0007); then it takes the history that stands from the others, like them.
 *
 * Doing it twice does no harm: after the first time the histories agree.
 */
import { Effect, type Scope } from "effect"
import { toHex } from "../codec/bytes.ts"
import type { MeshNode } from "./mesh-node.ts"

/** Keeps to what was decided, now and from now on. `overruled` is called when this node's own log is the one that does not stand. */
export const keepToDecisions = (
  node: MeshNode, overruled: () => void, notice: (level: "info" | "warn", text: string) => void
): Effect.Effect<void, never, Scope.Scope> => Effect.gen(function*() {
  let turn: Promise<void> = Promise.resolve()
  const look = (): void => {
    turn = turn.then(() => keep(node, overruled, notice)).catch((cause: unknown) => notice("warn", `a decision about a log could not be kept to: ${String(cause)}`))
  }
  const stop = node.members.onChange(look)
  yield* Effect.addFinalizer(() => Effect.sync(stop).pipe(Effect.andThen(Effect.promise(() => turn))))
  look()
})

/** Does this log lack the history that was decided for it? Undefined when it holds too little to say. */
export const isOverruled = async ({ members, store }: Pick<MeshNode, "members" | "store">, log: string): Promise<boolean | undefined> => {
  const decided = members.evidence().find(({ accused }) => accused === log)?.decided
  if (decided === undefined) return undefined
  const core = await store.session(log)
  try {
    return core.contiguousLength < decided.length ? undefined : toHex(await core.treeHash(decided.length)) !== decided.treeHash
  } finally {
    await core.close()
  }
}

const keep = async (node: MeshNode, overruled: () => void, notice: (level: "info" | "warn", text: string) => void): Promise<void> => {
  const { members, store, tables, runner, journal, worker } = node
  for (const { accused, decided } of members.evidence()) {
    if (decided === undefined || await isOverruled(node, accused) !== true) continue
    if (accused === journal.log()) {
      notice("warn", `another history of this node's log stands by decision of an admin; a new log begins`)
      return overruled()
    }
    notice("warn", `another history of log ${accused.slice(0, 8)} stands by decision of an admin; the copy here is removed and fetched anew`)
    await runner.idle()
    await store.drop(accused)
    tables.heads.correct(accused, 0)
    tables.heads.renewSequence()
    for (const family of ["config", "agents", "memory"] as const) {
      for (const { id } of tables.documents.list(family)) await Effect.runPromise(worker.discard(id))
    }
    await runner.again(() => tables.clearDerived())
    await runner.idle()
    node.swarm.syncNow()
  }
}
