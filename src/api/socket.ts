/**
 * Where a node's API socket is, and how to claim it.
 *
 * The kernel takes socket paths of at most 107 bytes, but a home may lie deeper. Then both sides open `$home/run` and name the socket
 * through `/proc/self/fd/N/kos.sock`, which is short and the same file.
 *
 * A file of that name may be left from a daemon that died. It is removed only when connecting to it is refused; when somebody answers,
 * the claim fails and names its pid (told by `/livez`). Two daemons that start in the same instant are kept apart by boot's lock.
 */
import { chmodSync, closeSync, lstatSync, mkdirSync, openSync, unlinkSync } from "node:fs"
import { request } from "node:http"
import { join } from "node:path"
import { Refusal } from "../commands/refusal.ts"

const socketPathBytesMax = 107

const apiSocket = "kos.sock"

export const socketDirectory = (home: string): string => join(home, "run")
export const socketPath = (home: string, name = apiSocket): string => join(socketDirectory(home), name)

export interface SocketAddress {
  /** What to hand to `listen` or `connect`. */
  readonly address: string
  /** Lets go of the directory; after `listen` keep it until the server has closed. */
  release(): void
}

/** Throws when the home's `run` directory cannot be opened. */
export const socketAddress = (home: string, name = apiSocket): SocketAddress => {
  const path = socketPath(home, name)
  if (Buffer.byteLength(path) <= socketPathBytesMax) return { address: path, release: () => {} }
  const directory = openSync(socketDirectory(home), "r")
  return { address: `/proc/self/fd/${directory}/${name}`, release: () => closeSync(directory) }
}

/** Makes the directory (0700), removes a dead socket, refuses a live one. */
export const claimSocket = async (home: string): Promise<SocketAddress> => {
  const directory = socketDirectory(home)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  chmodSync(directory, 0o700)
  const path = socketPath(home)
  const at = socketAddress(home)
  try {
    const found = lstatSync(path, { throwIfNoEntry: false })
    if (found === undefined) return at
    if (!found.isSocket()) {
      throw new Refusal({ kind: "failed", detail: `${path} is in the way: it is not a socket`, hint: `mv ${path} ${path}.old` })
    }
    const living = await whoAnswers(at.address)
    if (living !== undefined) {
      throw new Refusal({ kind: "conflict", detail: `another daemon runs on ${home}${living === 0 ? "" : ` (pid ${living})`}`, hint: "kos status" })
    }
    unlinkSync(path)
    return at
  } catch (error) {
    at.release()
    throw error
  }
}

/** The pid of whoever answers there, 0 when it does not say, undefined when nobody listens. */
export const whoAnswers = (address: string): Promise<number | undefined> =>
  new Promise((resolve) => {
    const asking = request({ socketPath: address, path: "/livez", timeout: 2_000 }, (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (part: string) => { if (text.length < 4_096) text += part })
      response.on("end", () => resolve(Number(/"pid":(\d{1,10})\b/.exec(text)?.[1] ?? 0)))
      response.on("error", () => resolve(0))
    })
    asking.on("timeout", () => { asking.destroy(); resolve(0) })
    asking.on("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code === "ECONNREFUSED" || error.code === "ENOENT" ? undefined : 0))
    asking.end()
  })
