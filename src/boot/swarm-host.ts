/** What swarm sees of this node: the log store, membership and tables in the shape that `swarm/host.ts` asks for. */
import { Result } from "effect"
import type { HypercoreStore } from "../events/hypercore-store.ts"
import type { Journal } from "../events/journal.ts"
import { departureOf, departureProof } from "../projections/dismissal.ts"
import type { Members } from "../projections/members.ts"
import type { Runner } from "../projections/runner.ts"
import { TableError } from "../projections/tables/table-error.ts"
import type { Tables } from "../projections/tables/tables.ts"
import type { ReplicatedLog, SwarmHost } from "../swarm/host.ts"
import type { KeyPair } from "../codec/signature.ts"

export interface SwarmHostOptions {
  readonly keyPair: KeyPair
  readonly device: string
  readonly mesh: { readonly id: string; readonly key: Uint8Array }
  readonly tables: Tables
  readonly members: Members
  readonly runner: Runner
  readonly journal: Journal["Service"]
  readonly store: HypercoreStore
  readonly now: () => number
  readonly notice: SwarmHost["notice"]
  readonly onDiverged: SwarmHost["logs"]["diverged"]
  readonly onOwnLogAhead: (length: number, device: string) => void
  readonly onTouched: (device: string, carrier: string, up: boolean) => void
}

export interface BuiltHost {
  readonly host: SwarmHost
  /** To be called when the own log has grown. */
  readonly grewOwn: (length: number) => void
}

export const makeSwarmHost = (options: SwarmHostOptions): BuiltHost => {
  const { tables, members, runner, journal } = options
  /** The tables may refuse (disk full). What a peer told is told again at the next meeting; the node goes on. */
  const note = <A>(otherwise: A, write: () => A): A => {
    try {
      return write()
    } catch (cause) {
      if (!(cause instanceof TableError)) throw cause
      options.notice("warn", `what a peer told could not be kept: ${cause.message}`)
      return otherwise
    }
  }
  const listeners = new Set<(log: string, length: number) => void>()
  const tell = (log: string, length: number) => {
    for (const listener of listeners) listener(log, length)
  }
  const host: SwarmHost = {
    keyPair: options.keyPair,
    device: options.device,
    mesh: options.mesh,
    membership: {
      standing: (device) => members.standing(device),
      logs: () => members.logs(),
      dismissal: (device) => {
        const departure = departureOf(members.view(), members.operations(), device)
        return departure === undefined ? undefined : {
          kind: departure.kind, sentence: departure.sentence, about: departure.about, proof: () => departureProof(members.view(), members.operations(), device).map(({ bytes }) => bytes)
        }
      },
      operations: () => members.operations().map((operation) => operation.bytes),
      offer: async (operations) => {
        const taken = note(0, () => tables.transaction(() => operations.filter((bytes) => {
          const known = members.operations().length
          const result = members.take(bytes, "met")
          return Result.isSuccess(result) && members.operations().length > known
        }).length))
        if (taken > 0) {
          members.changed()
          runner.wake()
        }
        return taken
      },
      onChange: (listener) => members.onChange(listener)
    },
    logs: {
      own: () => journal.log(),
      heads: (since) => since === undefined ? tables.heads.all() : tables.heads.since(since),
      sequence: () => tables.heads.sequence(),
      sequenceId: tables.heads.sequenceId(),
      // ReplicatedLog names internals of the pinned Hypercore that our declaration of it leaves out.
      open: async (log): Promise<ReplicatedLog> => options.store.session(log),
      grew: (log, length) => {
        if (!note(false, () => tables.heads.grew(log, length))) return
        runner.wake(log)
        tell(log, length)
      },
      onGrow: (listener) => {
        listeners.add(listener)
        return () => listeners.delete(listener)
      },
      diverged: options.onDiverged,
      ownLogAhead: options.onOwnLogAhead
    },
    receipts: {
      holds: (device, log, length) => void note(false, () => tables.receipts.holds(device, log, length)),
      cursor: (device) => tables.receipts.cursor(device),
      setCursor: (device, id, sequence) => note(undefined, () => tables.receipts.setCursor(device, id, sequence)),
      holdings: (device) => tables.receipts.holdings(device),
      touched: (device, carrier, up, remote) => {
        note(undefined, () => tables.receipts.touched(device, carrier, up, remote, options.now()))
        options.onTouched(device, carrier, up)
      }
    },
    notice: options.notice
  }
  return {
    host,
    grewOwn: (length) => {
      const log = journal.log()
      if (note(false, () => tables.heads.grew(log, length))) tell(log, length)
    }
  }
}
