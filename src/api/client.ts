/**
 * Calls a node over its unix socket. Every call asks for lines, so that progress and long work are seen, a living daemon is told from a dead
 * one (it sends an empty line now and then), and an answer that was cut is told from one that ended.
 */
import { Result, Schema } from "effect"
import { type ClientRequest, type IncomingMessage, request } from "node:http"
import { parseJson } from "./decode.ts"
import { routeOf } from "./route.ts"
import { problem, ProblemDocument } from "./problem.ts"
import { type SocketAddress, socketAddress, socketPath } from "./socket.ts"

export interface CallOptions {
  /** UUIDv7 of this invocation. */
  readonly command: string
  readonly actor?: string | undefined
  /** Name of the mesh that is meant, or the beginning of its id; the default one when left out. */
  readonly mesh?: string | undefined
  readonly onProgress?: (done: number, total: number, what: string) => void
  /** Each item of a stream, as it comes; it may answer with a promise to be waited for. */
  readonly onItem?: (item: unknown) => void | Promise<void>
  readonly signal?: AbortSignal
  /** Nothing at all for so long means that the daemon is stuck. */
  readonly silenceMsMax?: number
}

/** What came back; `value` of a stream is null. It is not decoded yet. */
export type Answer = { readonly _tag: "Value"; readonly value: unknown } | { readonly _tag: "Problem"; readonly problem: ProblemDocument }

const silenceMsDefault = 60_000
/** Characters of one line of an answer. */
const lineCharsMax = 256 * 1024 * 1024
const jsonDepthMax = 256

const failed = (what: ProblemDocument): Answer => ({ _tag: "Problem", problem: what })

export const callNode = async (home: string, name: string, input: unknown, options: CallOptions): Promise<Answer> => {
  let at: SocketAddress
  try {
    at = socketAddress(home)
  } catch {
    return failed(noDaemon(home))
  }
  try {
    return await exchange(home, at.address, name, input, options)
  } finally {
    at.release()
  }
}

export const noDaemon = (home: string): ProblemDocument =>
  problem("no-daemon", `No daemon runs on ${home}.`, { hint: `kos --home ${quoted(home)} daemon run` })

const exchange = (home: string, address: string, name: string, input: unknown, options: CallOptions): Promise<Answer> =>
  new Promise((resolve) => {
    const silenceMsMax = options.silenceMsMax ?? silenceMsDefault
    const body = JSON.stringify(input)
    const asking: ClientRequest = request({
      socketPath: address,
      agent: false,
      method: "POST",
      path: routeOf({ name }),
      timeout: silenceMsMax,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      headers: {
        accept: "application/x-ndjson",
        "content-type": "application/json",
        "content-length": Buffer.byteLength(body),
        "kos-command": options.command,
        ...(options.actor === undefined ? {} : { "kos-actor": options.actor }),
        ...(options.mesh === undefined ? {} : { "kos-mesh": encodeURIComponent(options.mesh) })
      }
    }, (response) => {
      readAnswer(response, options).then(resolve, (error: unknown) => resolve(failed(connectionProblem(home, error))))
    })
    asking.on("timeout", () => {
      resolve(failed(problem("timeout", `the daemon on ${home} has said nothing for ${Math.round(silenceMsMax / 1000)} s`, { hint: "kos logs --level warn" })))
      asking.destroy()
    })
    asking.on("error", (error) => resolve(failed(connectionProblem(home, error))))
    asking.end(body)
  })

const readAnswer = async (response: IncomingMessage, options: CallOptions): Promise<Answer> => {
  const type = response.headers["content-type"] ?? ""
  response.setEncoding("utf8")
  if (!type.startsWith("application/x-ndjson")) {
    let text = ""
    for await (const part of response as AsyncIterable<string>) if (text.length < 1_048_576) text += part
    return failed(problemFrom(text, response.statusCode ?? 0))
  }
  // A long line comes in many parts: they are joined once, when its end has come.
  let pending: Array<string> = []
  let pendingChars = 0
  for await (const part of response as AsyncIterable<string>) {
    const lines = part.split("\n")
    const rest = lines.pop() ?? ""
    for (const line of lines) {
      pending.push(line)
      const answer = await takeLine(pending.join(""), options)
      if (answer !== undefined) return answer
      pending = []
      pendingChars = 0
    }
    pending.push(rest)
    pendingChars += rest.length
    if (pendingChars > lineCharsMax) return failed(problem("failed", `the daemon sent a line longer than ${lineCharsMax} characters`))
  }
  return failed(problem("failed", "the daemon went away before it had answered", { hint: "kos doctor" }))
}

const takeLine = async (line: string, options: CallOptions): Promise<Answer | undefined> => {
  const parsed = parseJson(line, jsonDepthMax)
  if (Result.isFailure(parsed)) return failed(problem("failed", "the daemon answered with something that is not JSON"))
  const message = parsed.success
  if (typeof message !== "object" || message === null) return undefined
  if ("item" in message) await options.onItem?.(message.item)
  else if ("progress" in message) {
    const shown = Schema.decodeUnknownResult(Progress)(message.progress)
    if (Result.isSuccess(shown)) options.onProgress?.(shown.success.done, shown.success.total, shown.success.what)
  } else if ("result" in message) return { _tag: "Value", value: message.result }
  else if ("end" in message) return { _tag: "Value", value: null }
  else if ("problem" in message) return failed(problemFrom(JSON.stringify(message.problem), 500))
  return undefined
}

const Progress = Schema.Struct({ done: Schema.Finite, total: Schema.Finite, what: Schema.String })

const problemFrom = (text: string, status: number): ProblemDocument => {
  const parsed = parseJson(text, jsonDepthMax)
  const decoded = Schema.decodeUnknownResult(ProblemDocument)(Result.isSuccess(parsed) ? parsed.success : undefined)
  return Result.isSuccess(decoded) ? decoded.success : problem("failed", `the daemon answered with status ${status} and no problem document`)
}

const connectionProblem = (home: string, error: unknown): ProblemDocument => {
  const code = error instanceof Error && "code" in error ? error.code : undefined
  if (code === "ENOENT" || code === "ECONNREFUSED" || code === "ENOTDIR") return noDaemon(home)
  if (code === "EACCES" || code === "EPERM") return problem("denied", `${socketPath(home)} belongs to another user`, { hint: `ls -l ${quoted(socketPath(home))}` })
  if (code === "ABORT_ERR") return problem("failed", "interrupted")
  return problem("failed", `the connection to the daemon broke: ${error instanceof Error ? error.message : "unknown reason"}`, { hint: "kos doctor" })
}

/** For a line that a person may paste into a shell. */
export const quoted = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)
