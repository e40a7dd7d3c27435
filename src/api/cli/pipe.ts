/** stdin and stdout as one end of a connection, the way `nc` does it: stdin's end ends one half, and when the other side has ended it is over. */
import { createConnection } from "node:net"
import type { Readable, Writable } from "node:stream"
import { socketAddress } from "../socket.ts"

/** The streams themselves; asked for only by a command that carries bytes. */
export interface RawIo {
  readonly input: Readable
  readonly output: Writable
}

/** Joins them with a socket in the home's `run` directory. Resolves when that has closed and all that came is written; never rejects. */
export const pipeToSocket = (home: string, name: string, { input, output }: RawIo, signal: AbortSignal): Promise<void> => new Promise((resolve) => {
  const at = socketAddress(home, name)
  const socket = createConnection({ path: at.address, allowHalfOpen: true })
  const stop = (): void => void socket.destroy()
  signal.addEventListener("abort", stop, { once: true })
  let unwritten = 0
  let closed = false
  const over = (): void => {
    if (closed && unwritten === 0) resolve()
  }
  socket.on("error", () => undefined)
  socket.on("data", (part: Buffer) => {
    unwritten += 1
    const goesOn = output.write(part, () => {
      unwritten -= 1
      over()
    })
    if (goesOn) return
    socket.pause()
    output.once("drain", () => socket.resume())
  })
  socket.on("end", () => {
    // Nobody is left to read what stdin would still say.
    if (!socket.writableEnded) socket.end()
  })
  socket.on("close", () => {
    closed = true
    signal.removeEventListener("abort", stop)
    at.release()
    input.unpipe(socket)
    input.destroy()
    over()
  })
  output.on("error", stop)
  output.on("close", stop)
  input.on("error", stop)
  input.pipe(socket)
})
