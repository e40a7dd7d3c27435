/**
 * Experimental modules: run shut in, beside a node of their own that nobody else sees, until they are promoted or dropped. Rule R7.3.
 * Boot has the real one (`src/boot/try-modules.ts`).
 */
import type { Isolation } from "./isolate.ts"

/** What is to be tried. */
export interface TrialModule {
  readonly name: string
  readonly version: string
  /** Id of its release; undefined for a directory of somebody. */
  readonly release: string | undefined
  /** What runs it, below the tree: a script for Node (`.ts`, `.mts`, `.js`, `.mjs`, `.cjs`) or a program. */
  readonly entry: string
  /** Directory with its files; it is copied, and never written. */
  readonly tree: string
}

export interface Trial {
  /** 8 hex digits. */
  readonly id: string
  readonly name: string
  readonly version: string
  readonly release: string | undefined
  readonly entry: string
  /** `failed`: it ended with another code than 0, could not be started, or was over a limit; `why` says so. */
  readonly state: "running" | "ended" | "failed"
  readonly why: string | undefined
  /** When it was begun, the last time; ms. */
  readonly sinceMs: number
  /** Events in its own log, as of the last look. */
  readonly events: number
  readonly isolation: Isolation
}

export interface TrialEvent {
  readonly ms: number
  readonly type: string
  readonly actor: string
  readonly subject: string
  readonly summary: string
}

export interface TrialView {
  readonly trial: Trial
  /** What it printed last. */
  readonly log: ReadonlyArray<string>
  /** The newest events of its own log, newest last. */
  readonly events: ReadonlyArray<TrialEvent>
}

/** Failures are `TrialRefused`. */
export interface Trials {
  /** By when they were begun. */
  readonly list: () => Promise<ReadonlyArray<Trial>>
  /** Copies the module and runs it; resolves when it runs. It is ended with the daemon, and by `signal` while it is being begun. */
  readonly start: (module: TrialModule, options?: { readonly signal?: AbortSignal }) => Promise<Trial>
  /** Runs one again that ended, with what it left. */
  readonly again: (id: string) => Promise<Trial>
  readonly stop: (id: string) => Promise<Trial>
  readonly show: (id: string) => Promise<TrialView>
  /** Ends it; `tree` is what was tried, to be taken over as it is. It stays until it is dropped. */
  readonly promote: (id: string) => Promise<{ readonly trial: Trial; readonly tree: string }>
  /** Ends it and removes all that it left: tree, node, log. */
  readonly drop: (id: string) => Promise<Trial>
  /** Ends those that run. */
  readonly close: () => Promise<void>
}

export class TrialRefused extends Error {
  readonly reason: "absent" | "full" | "running" | "wrong" | "failed"
  constructor(reason: TrialRefused["reason"], detail: string) {
    super(detail)
    this.reason = reason
  }
}
