/** Log sessions joined as if their nodes had met: in this process, or over a socket to another one. */
import type Hypercore from "hypercore"
import type { Socket } from "node:net"

/** Replicates between two sessions of one log until the returned function is called. */
export const join = (a: Hypercore, b: Hypercore): () => Promise<void> => {
  const [left, right] = [wire(a.replicate(true, {})), wire(b.replicate(false, {}))]
  const ended = Promise.all([closed(left), closed(right)])
  left.pipe(right)
  right.pipe(left)
  return async () => {
    left.destroy()
    right.destroy()
    await ended
  }
}

/** Replicates a session over a socket; resolves when the other side is gone, as it is when it was killed. */
export const replicateOver = async (session: Hypercore, socket: Socket, initiator: boolean): Promise<void> => {
  const stream = wire(session.replicate(initiator, {}))
  const ended = closed(stream)
  socket.on("error", () => undefined)
  socket.on("close", () => stream.destroy())
  socket.on("data", (bytes) => stream.write(bytes))
  stream.on("data", (bytes) => {
    if (bytes instanceof Uint8Array && !socket.destroyed) socket.write(bytes)
  })
  await ended
  socket.destroy()
}

/** The slice of a streamx duplex that is used here. */
interface Wire {
  pipe(to: Wire): void
  write(bytes: Uint8Array): void
  on(event: string, listener: (value: unknown) => void): void
  destroy(): void
}

const isWire = (value: unknown): value is Wire =>
  typeof value === "object" && value !== null && ["pipe", "write", "on", "destroy"].every((name) => typeof Reflect.get(value, name) === "function")

const wire = (value: unknown): Wire => {
  if (!isWire(value)) throw new Error("replicate gave no stream")
  return value
}

const closed = (stream: Wire): Promise<void> => new Promise((resolve) => {
  stream.on("close", () => resolve())
  stream.on("error", () => undefined)
})
