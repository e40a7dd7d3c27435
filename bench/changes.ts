/**
 * The workload played once with Automerge: the very changes that both kOS and automerge-repo are given. Documents have kOS's shape
 * (a constant first change with `text` and `fields`), and each writer's actor is the one that kOS demands of its log.
 */
import * as Automerge from "@automerge/automerge"
import { changeActor } from "../src/projections/documents/actor.ts"
import { fieldsObjectId, genesisOf, textObjectId } from "../src/projections/documents/genesis.ts"
import { resolveSplice, type Burst, type Workload } from "./workload.ts"

export interface PlayedBurst {
  readonly writer: number
  readonly doc: number
  readonly changes: ReadonlyArray<Uint8Array>
}

export interface Played {
  /** By number of the document. */
  readonly docs: ReadonlyArray<string>
  readonly base: ReadonlyArray<PlayedBurst>
  readonly rounds: ReadonlyArray<ReadonlyArray<PlayedBurst>>
  /** Sorted heads of each document, in the end. */
  readonly heads: ReadonlyArray<ReadonlyArray<string>>
}

type Handle = ReturnType<typeof Automerge.getBackend>

export const docName = (doc: number) => `memory/bench/page-${doc}`
export const genesis = (): Uint8Array => genesisOf(docName(0))?.change ?? new Uint8Array(0)

/** `logs` are the log keys of the writers. */
export const play = (workload: Workload, logs: ReadonlyArray<string>): Played => {
  const docs = workload.docs.map((_, doc) => docName(doc))
  const merged = docs.map((): Handle => {
    const handle = Automerge.getBackend(Automerge.init())
    handle.applyChanges([genesis()])
    return handle
  })
  const edit = (replica: { readonly handle: Handle; length: number }, burst: Burst): PlayedBurst => {
    const { handle } = replica
    const changes: Array<Uint8Array> = []
    for (const one of burst.edits) {
      if (one.kind === "set") handle.put(fieldsObjectId, one.key, one.json, "str")
      else {
        const { at, remove, insert } = resolveSplice(one, replica.length)
        handle.splice(textObjectId, at, remove, insert)
        replica.length += insert.length - remove
      }
      handle.commit(undefined, 1_800_000_000)
      const change = handle.getLastLocalChange()
      if (change !== null && change !== undefined) changes.push(new Uint8Array(change))
    }
    return { writer: burst.writer, doc: burst.doc, changes }
  }
  const playRound = (round: ReadonlyArray<Burst>): ReadonlyArray<PlayedBurst> => {
    const replicas = new Map<string, { readonly handle: Handle; length: number }>()
    const played: Array<PlayedBurst> = []
    for (const burst of round) {
      const actor = changeActor(logs[burst.writer] ?? "", docName(burst.doc))
      const common = merged[burst.doc]
      if (common === undefined) continue
      const replica = replicas.get(actor) ?? { handle: common.fork(actor), length: common.text(textObjectId).length }
      replicas.set(actor, replica)
      played.push(edit(replica, burst))
    }
    for (const burst of played) merged[burst.doc]?.applyChanges([...burst.changes])
    for (const { handle } of replicas.values()) handle.free()
    return played
  }
  const base = playRound(workload.base)
  const rounds = workload.rounds.map(playRound)
  return { docs, base, rounds, heads: merged.map((handle) => handle.getHeads().toSorted()) }
}
