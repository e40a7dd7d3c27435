/** Limits of the API; boot may pass others. */
export interface ApiLimits {
  /** Bytes of one request body. */
  readonly bodyBytesMax: number
  /** Bytes of all request headers together. */
  readonly headerBytesMax: number
  /** Nesting of a JSON body. */
  readonly jsonDepthMax: number
  /** Calls under way at once that answer with one value. */
  readonly callsMax: number
  /** Calls under way at once that watch (streams and progress). */
  readonly watchersMax: number
  /** Open connections. */
  readonly connectionsMax: number
  /** From the first byte of a request to the last of its body. */
  readonly requestMsMax: number
  /** How long one call may take that nobody watches. */
  readonly callMsMax: number
  /** A watcher that takes nothing for so long is cut off. */
  readonly stalledMsMax: number
  /** A watched call says that it lives at least this often. */
  readonly heartbeatMs: number
  /** Items that a stream gathers into one array at most. */
  readonly gatheredItemsMax: number
  /** On shutdown, calls under way have so long to end. */
  readonly drainMsMax: number
}

export const apiLimits: ApiLimits = {
  bodyBytesMax: 8 * 1024 * 1024,
  headerBytesMax: 16 * 1024,
  jsonDepthMax: 64,
  callsMax: 32,
  watchersMax: 32,
  connectionsMax: 256,
  requestMsMax: 30_000,
  callMsMax: 90_000_000,
  stalledMsMax: 60_000,
  heartbeatMs: 10_000,
  gatheredItemsMax: 100_000,
  drainMsMax: 5_000
}

/** Progress is sent at most once in this time, besides its last word. */
export const progressMs = 100
