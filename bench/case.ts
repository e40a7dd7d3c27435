/**
 * What a benchmark case is. A case has sides (kOS and its peers); each run of a side happens in a fresh process, and each side
 * measures its own window, so that start-up and preparation never count. `run.ts` alternates the sides and takes medians.
 */

/** One measured window of one run of one side. */
export interface Measure {
  /** What the row compares, in the case's unit; for rates, amount per second of wall time. */
  readonly value: number
  readonly wallMs: number
  /** User and system time of every process of the side inside the window, milliseconds. */
  readonly cpuMs: number
  /** Further figures for the table's notes and the JSON; numbers are reduced to medians. */
  readonly detail?: Readonly<Record<string, number | string>>
}

export interface Window {
  readonly wallMs: number
  readonly cpuMs: number
}

/** Another process of the same side: it runs one exported function of a module. */
export interface Other {
  /** Asks and waits for the answer; fails when the process ends or after `secondsMax`. */
  ask(question: string, argument?: unknown): Promise<unknown>
  /** Ends it by a message and waits; killed when it does not go. */
  stop(): Promise<void>
}

export interface SideContext {
  /** An empty directory of this run's own. */
  readonly dir: string
  /** What `prepare` left behind, read-only by agreement; empty when the case has no `prepare`. */
  readonly fixture: string
  readonly short: boolean
  other(module: string, start: string, argument?: unknown): Promise<Other>
  /** Starts the window. CPU of processes started with `other` counts too. */
  begin(): Promise<() => Promise<Window>>
}

export type Side = (context: SideContext) => Promise<Measure>

/** Handed to an `other` process: name the questions it answers. */
export type OtherMain = (argument: unknown, context: { readonly dir: string }) => Promise<Readonly<Record<string, (argument: unknown) => Promise<unknown>>>>

export type Target =
  | { readonly kind: "ratio-min"; readonly value: number }
  | { readonly kind: "value-max"; readonly value: number }
  | { readonly kind: "report" }

export interface Row {
  readonly title: string
  readonly unit: string
  readonly ours: Pick
  readonly peer?: Pick
  /** What a ratio divides: `ours/peer` for rates (more is better), `peer/ours` for times (less is better). */
  readonly ratio?: "ours/peer" | "peer/ours"
  readonly target: Target
}

/** Which side, and which of its figures: its value, or a named one of its details. */
export interface Pick {
  readonly side: string
  readonly detail?: string
}

export interface BenchCase {
  readonly name: string
  /** One sentence: what is done and what is counted. */
  readonly about: string
  readonly secondsMax: number
  readonly runs?: number
  readonly sides: Readonly<Record<string, Side>>
  /** Runs once in a process of its own before the sides; its directory becomes `fixture`. */
  readonly prepare?: (context: { readonly dir: string; readonly short: boolean }) => Promise<void>
  readonly rows: ReadonlyArray<Row>
}

/** Thrown by a side whose part of the product does not exist yet; shown as "waits for …". */
export class NotYet extends Error {
  readonly needs: string
  constructor(needs: string) {
    super(`waits for ${needs}`)
    this.needs = needs
  }
}

/** kOS figures of one unit for many rows are clearer as rates. */
export const perSecond = (amount: number, window: Window): Measure & { detail: Record<string, number | string> } => ({
  value: amount / (window.wallMs / 1000),
  wallMs: window.wallMs,
  cpuMs: window.cpuMs,
  detail: { "per CPU s": Math.round(amount / (window.cpuMs / 1000)) }
})
