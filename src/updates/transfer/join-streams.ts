/** Joins two byte streams, each way at the pace of the slower one; ends both when one ends. */
import type { Duplex } from "node:stream"

/** A half that ended leaves this long for the other to say what it has, milliseconds. */
const lingerMs = 2_000

/** Resolves when both are gone. Never rejects: a wire that broke is a wire that ended. */
export const joinStreams = (one: Duplex, other: Duplex): Promise<void> =>
  new Promise((resolve) => {
    let ended = false
    const end = () => {
      if (ended) return
      ended = true
      clearTimeout(timer)
      one.destroy()
      other.destroy()
      resolve()
    }
    let timer: NodeJS.Timeout | undefined
    const flow = (from: Duplex, to: Duplex) => {
      from.on("data", (bytes: Uint8Array) => { if (!to.write(bytes)) from.pause() })
      to.on("drain", () => from.resume())
      from.once("end", () => {
        to.end()
        timer ??= setTimeout(end, lingerMs)
      })
      from.once("error", end)
      from.once("close", end)
      // Whoever handed it over may have paused it.
      from.resume()
    }
    if (one.destroyed || other.destroyed) return end()
    flow(one, other)
    flow(other, one)
  })
