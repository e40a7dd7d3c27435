/** What the driver of the slots is to do, and where it is to die. */
export interface Plan {
  readonly root: string
  readonly pkg: string
  readonly what: "stage" | "activate" | "good" | "rollback" | "fail" | "drop" | "anything"
  /** Number of the release. */
  readonly n: number
  readonly seed: number
  /** Counted from 1. */
  readonly dieAtStep?: number
  readonly dieAtFile?: number
}

/** Files of a tree beside its `bin/kos`. */
export const filesMax = 40
