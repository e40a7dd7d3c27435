/** What handlers see of a running node. Boot builds it; the doors know no more of it than this. */
import type { Effect } from "effect"
import type { Situation } from "../commands/decide-membership.ts"
import type { Dispatch } from "../commands/dispatch.ts"
import type { Refusal } from "../commands/refusal.ts"
import type { HypercoreStore } from "../events/hypercore-store.ts"
import type { Journal } from "../events/journal.ts"
import type { DocumentWorker } from "../projections/documents/pool.ts"
import type { Config } from "../projections/families/config-view.ts"
import type { Members } from "../projections/members.ts"
import type { Runner } from "../projections/runner.ts"
import type { Tables } from "../projections/tables/tables.ts"
import type { SwarmHost } from "../swarm/host.ts"
import type { Swarm } from "../swarm/swarm.ts"
import type { Keyring } from "../vault/keyring.ts"
import type { Vault } from "../vault/vault.ts"
import type { OutputOf } from "./operations/table.ts"

/** This node in the mesh that it is in now. */
export interface MeshView {
  readonly mesh: string
  readonly directory: string
  readonly vault: Vault
  readonly keyring: Keyring
  readonly meshKey: Uint8Array
  readonly store: HypercoreStore
  readonly tables: Tables
  readonly members: Members
  readonly journal: Journal["Service"]
  readonly worker: DocumentWorker["Service"]
  readonly runner: Runner
  readonly dispatch: Dispatch
  readonly swarm: Swarm
  /** What swarm sees of this node; bundles are written and read through it. */
  readonly swarmHost: SwarmHost
  readonly startedMs: number
  readonly situation: () => Situation
  readonly diskFree: () => Promise<number>
  readonly diverged: ReadonlyMap<string, string>
}

export type ConfigSource = { readonly actor: string; readonly log: string; readonly block: number; readonly offset: number; readonly ms: number }

/** The daemon around it, which may put another mesh in its place. */
export interface DaemonView {
  readonly home: string
  readonly socket: string
  readonly version: string
  readonly now: () => number
  readonly mesh: () => MeshView
  /** The settings in force, by all layers. */
  readonly config: () => Config<ConfigSource>
  /** Redeems an invite and puts this node into its mesh. */
  readonly join: (invite: string, timeoutMs: number) => Effect.Effect<{ readonly admittedBy: string; readonly role: string; readonly carried: number; readonly synced: boolean }, Refusal>
  /** Leaves the mesh for one of its own. */
  readonly leave: () => Effect.Effect<void, Refusal>
  readonly doctor: (rebuild: boolean, progress: (done: number, total: number, what: string) => void) => Effect.Effect<OutputOf<"doctor">, Refusal>
  /** Pauses sync until then, or without end. */
  readonly pause: (untilMs: number | undefined) => void
  readonly resume: () => void
  readonly pausedUntil: () => number | undefined
  /** Lines of the daemon's log, oldest first. */
  readonly logLines: (limit: number) => Promise<ReadonlyArray<OutputOf<"logs">>>
  readonly onLogLine: (listener: (line: OutputOf<"logs">) => void) => () => void
  /** Called when another mesh took the place of the present one. */
  readonly onSwitch: (listener: () => void) => () => void
}
