import { randomBytes } from "../../codec/signature.ts"

/** Time for limits and back-off; a simulation brings its own. Never the time of day. */
export interface Timers {
  /** Milliseconds since some fixed moment; only differences mean anything. */
  now(): number
  /** Calls `run` once after `ms`; the answer cancels it. */
  after(ms: number, run: () => void): () => void
}

export const realTimers: Timers = {
  now: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  }
}

/** A number from 0 up to 1. */
export const secureRandom = (): number => {
  const bytes = randomBytes(4)
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0) / 2 ** 32
}
