/** What handlers see of a running node. Boot builds it; the doors know no more of it than this. */
import type { Effect } from "effect"
import type { Role } from "../codec/operation.ts"
import type { Situation } from "../commands/decide-membership.ts"
import type { Dispatch, Done } from "../commands/dispatch.ts"
import type { Refusal } from "../commands/refusal.ts"
import type { HypercoreStore } from "../events/hypercore-store.ts"
import type { Journal } from "../events/journal.ts"
import type { DocumentWorker } from "../projections/documents/pool.ts"
import type { Config } from "../projections/families/config-view.ts"
import type { SharedKind } from "../projections/federation.ts"
import type { Members } from "../projections/members.ts"
import type { Runner } from "../projections/runner.ts"
import type { Tables } from "../projections/tables/tables.ts"
import type { SwarmHost } from "../swarm/host.ts"
import type { Swarm } from "../swarm/swarm.ts"
import type { OpenedKeyring } from "../vault/keyring.ts"
import type { Vault } from "../vault/vault.ts"
import type { Call } from "./operation.ts"
import type { ReleaseDesk } from "./release-desk.ts"
import type { UpdateDesk } from "./update-desk.ts"
import type { OutputOf } from "./operations/table.ts"

/** This node in the mesh that it is in now. */
export interface MeshView {
  readonly mesh: string
  readonly directory: string
  readonly vault: Vault
  readonly keyring: OpenedKeyring
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

/** Somebody with an invite as admin or owner, until a person has compared the words. */
export interface WaitingCandidate {
  /** Beginning of its device key. */
  readonly id: string
  readonly device: string
  /** Public key of the invite. */
  readonly invite: string
  /** The name that it would like. */
  readonly name: string
  readonly role: Role
  /** Six; the same on its screen when nobody stands between. */
  readonly words: string
  readonly since: number
  readonly until: number
}

export interface Candidates {
  readonly list: () => ReadonlyArray<WaitingCandidate>
  /** False when it waits no more. */
  readonly decide: (candidate: WaitingCandidate, allow: boolean) => boolean
}

/** What this node shows while it waits to be confirmed in another mesh. */
export interface OwnCheck {
  readonly words: string
  readonly role: string
  readonly meshName: string
}

/** One mesh of this home. */
export interface MeshEntry {
  /** 64 hex digits. */
  readonly id: string
  readonly name: string
  /** Commands that name no mesh go here. */
  readonly isDefault: boolean
  /** Undefined when it could not be opened; then `fault` says why. */
  readonly mesh: MeshView | undefined
  readonly fault: string | undefined
}

export interface Joined {
  /** This node in the mesh that it came into. */
  readonly mesh: MeshView
  readonly admittedBy: string
  readonly role: string
  readonly carried: number
  readonly synced: boolean
  /** Name of the default mesh, when the new one stands beside others and is not the default. */
  readonly beside: string | undefined
}

/** What changes in which meshes this home is. */
export interface MeshDoors {
  /** Redeems an invite: a mesh of one gives its place to the new mesh, else the new one is added beside the others, where this home has a device key of its own. */
  readonly join: (invite: string, options: { readonly timeoutMs: number; readonly name?: string | undefined; readonly onWaiting: (check: OwnCheck) => void }) => Effect.Effect<Joined, Refusal>
  /** Leaves this mesh. Answers with the default mesh's name, or undefined when this was the last one and the node is a mesh of its own again. */
  readonly leave: () => Effect.Effect<string | undefined, Refusal>
  /** The default one first. */
  readonly meshes: () => ReadonlyArray<MeshEntry>
  /** Makes a mesh, by name or by 8 digits or more of its id, the default one. */
  readonly useMesh: (name: string) => Effect.Effect<MeshEntry, Refusal>
  /** Begins a federation of this mesh, or takes part in the one that the invite is for. */
  readonly federate: (
    wish: { readonly invite: string | undefined; readonly shares: ReadonlyArray<SharedKind>; readonly timeoutMs: number }, call: Call
  ) => Effect.Effect<{ readonly federation: string; readonly invite: string | undefined; readonly done: Done }, Refusal>
  /** A further mesh, with this home as its owner under a device key of its own. */
  readonly anotherMesh: (name: string) => Effect.Effect<MeshView, Refusal>
}

/** The daemon around it, as it is for one mesh of the home; it may put another mesh in its place. */
export interface DaemonView extends MeshDoors {
  readonly home: string
  /** Environment of the daemon: where its credentials are. */
  readonly env: Readonly<Record<string, string | undefined>>
  readonly socket: string
  readonly version: string
  readonly now: () => number
  readonly mesh: () => MeshView
  /** The settings in force, by all layers. */
  readonly config: () => Config<ConfigSource>
  /** Candidates that wait to be confirmed at this node. */
  readonly candidates: Candidates
  /** While this node itself waits to be confirmed. */
  readonly ownCheck: () => OwnCheck | undefined
  /** Updates of this home. */
  readonly updates: () => UpdateDesk
  /** The making of releases. */
  readonly releases: () => ReleaseDesk
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
