import type { Duplex } from "node:stream"

/**
 * Lets two streams speak with each other until both have ended; each half ends for itself. When one breaks, the other is broken as well, so that
 * what was cut is never taken for a whole. Resolves with the fault, or undefined after a good end.
 */
export const joinStreams = (left: Duplex, right: Duplex): Promise<Error | undefined> => new Promise((resolve) => {
  let fault: Error | undefined
  let open = 2
  const watch = (me: Duplex, other: Duplex): void => {
    me.on("error", (error: Error) => { fault ??= error })
    me.on("close", () => {
      if (!(me.readableEnded && me.writableFinished)) {
        fault ??= new Error("it was broken off")
        breakOff(other, fault)
      }
      open -= 1
      if (open === 0) resolve(fault)
    })
    me.pipe(other)
  }
  watch(left, right)
  watch(right, left)
  for (const [me, other] of [[left, right], [right, left]] as const) if (me.destroyed) breakOff(other, new Error("it was broken off"))
})

/** A TCP connection is reset: closed like any other it would look like a good end. */
export const breakOff = (stream: Duplex, fault: Error): void => {
  if (stream.destroyed) return
  if ("resetAndDestroy" in stream && typeof stream.resetAndDestroy === "function" && "remoteAddress" in stream && stream.remoteAddress !== undefined) stream.resetAndDestroy()
  else stream.destroy(fault)
}
