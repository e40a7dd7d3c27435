/**
 * The daemon's door: an HTTP server on the unix socket `$home/run/kos.sock`.
 *
 * It owns the socket, the routes and the calls under way. A call travels: route → slot (or 503) → headers → body (bounded in bytes, time
 * and depth) → decode by the operation's Schema → handler → encode by its Schema → answer. Whatever goes wrong is one RFC 9457 problem.
 *
 * It is a thin layer over `node:http` with Effect inside the call: the router needed is one Map look-up, every limit is ours to set, and
 * Effect's HTTP platform layer would cost 5 to 17 MB and 60 to 80 ms at start for nothing that is used here.
 *
 * Tricky cases and the answer chosen:
 * - The caller goes away. A query or stream is interrupted; a command runs to its end, since a repeat with the same `Kos-Command` gets the
 *   answer from then.
 * - A watcher (NDJSON or SSE) does not read. Items wait for it; progress is dropped; after `stalledMsMax` it is cut off.
 * - An answer to a watched call has begun when the handler fails. The failure is its last line, `{"problem": …}`; a stream that ended
 *   well says `{"end": true}`, so a cut is told from an end.
 * - Shutdown. No new connections; watchers and queries are interrupted, commands have `drainMsMax`.
 */
import { Cause, Clock, type Context, Effect, Exit, Fiber, Option, Result, Schema, type Scope, Stream } from "effect"
import { chmodSync } from "node:fs"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { isActor } from "../codec/envelope.ts"
import { randomBytes } from "../codec/signature.ts"
import { suggest } from "../codec/suggest.ts"
import { isUuidv7, uuidv7 } from "../codec/uuid.ts"
import { Refusal } from "../commands/refusal.ts"
import { decodeInput, parseJson } from "./decode.ts"
import { type ApiLimits, apiLimits, progressMs } from "./limits.ts"
import { openApi } from "./openapi.ts"
import type { Call, Operation } from "./operation.ts"
import { type Handlers, operations } from "./operations/table.ts"
import { problem, type ProblemDocument, problemOfRefusal } from "./problem.ts"
import { answer, answerJson, answerProblem, type Lines, openLines, rawProblem } from "./respond.ts"
import { routeOf } from "./route.ts"
import { claimSocket, socketPath } from "./socket.ts"

export interface Readiness {
  readonly ready: boolean
  /** `log writable`, `projections caught up`, `disk`, … */
  readonly checks: ReadonlyArray<{ readonly name: string; readonly ok: boolean; readonly detail: string }>
}

/** What the server needs from the node; boot builds it. */
export interface ApiHost {
  readonly version: string
  /** Those of the mesh that the caller names by `Kos-Mesh`, or of the default one. */
  readonly handlers: Handlers | ((mesh: string | undefined, operation: string) => Result.Result<Handlers, Refusal>)
  readonly readiness: Effect.Effect<Readiness>
  /** Figures in the Prometheus text format. */
  readonly metrics: Effect.Effect<string>
  /** One structured line for the node's log. */
  readonly notice: (level: "debug" | "info" | "warn" | "error", text: string, detail?: Readonly<Record<string, unknown>>) => void
}

export interface ApiServer {
  readonly socket: string
  /** Calls under way. */
  readonly busy: () => number
}

/** Listens until the scope closes. Refuses when another daemon answers on the socket. */
export const serveApi = (home: string, host: ApiHost, limits: ApiLimits = apiLimits): Effect.Effect<ApiServer, Refusal, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<never>()
    const door = makeDoor(host, limits, context)
    const at = yield* Effect.acquireRelease(
      Effect.tryPromise({ try: () => claimSocket(home), catch: (error) => refusalOf(home, error) }),
      (claimed) => Effect.sync(() => claimed.release())
    )
    yield* Effect.acquireRelease(
      Effect.tryPromise({ try: () => listen(door.server, at.address), catch: (error) => refusalOf(home, error) }),
      () => door.close
    )
    yield* Effect.try({ try: () => chmodSync(at.address, 0o600), catch: (error) => refusalOf(home, error) })
    return { socket: socketPath(home), busy: door.busy }
  })

type AnyHandler = (input: never, call: Call) => Effect.Effect<unknown, Refusal> | Stream.Stream<unknown, Refusal>

interface Running {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly command: boolean
}

const makeDoor = (host: ApiHost, limits: ApiLimits, context: Context.Context<never>) => {
  const routes = new Map(operations.filter(({ place }) => place !== "local").map((op) => [routeOf(op), op]))
  const pages = ["/livez", "/readyz", "/metrics", "/openapi.json"]
  const running = new Set<Running>()
  const used = { calls: 0, watchers: 0 }
  let openApiText: string | undefined
  const run = Effect.runForkWith(context)

  const server = createServer({
    maxHeaderSize: limits.headerBytesMax,
    requestTimeout: limits.requestMsMax,
    headersTimeout: Math.min(limits.requestMsMax, 10_000),
    connectionsCheckingInterval: Math.min(5_000, limits.requestMsMax / 2),
    keepAliveTimeout: 5_000
  })
  server.maxConnections = limits.connectionsMax
  server.maxHeadersCount = 64

  const page = (path: string, request: IncomingMessage, response: ServerResponse): void => {
    if (request.method !== "GET") return answerProblem(request, response, problem("usage", `${path} is read with GET`, { status: 405 }))
    if (path === "/livez") return answerJson(request, response, { live: true, pid: process.pid, version: host.version })
    if (path === "/openapi.json") {
      openApiText ??= JSON.stringify(openApi(host.version))
      return answer(request, response, 200, "application/json", openApiText)
    }
    const shown = path === "/metrics"
      ? Effect.map(host.metrics, (text) => answer(request, response, 200, "text/plain; version=0.0.4; charset=utf-8", text))
      : Effect.map(host.readiness, (state) => answer(request, response, state.ready ? 200 : 503, "application/json", `${JSON.stringify(state)}\n`))
    run(Effect.catchCause(shown, (cause) => Effect.sync(() => answerProblem(request, response, broken(host, path, cause)))))
  }

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    request.on("error", () => {})
    response.on("error", () => {})
    const path = (request.url ?? "/").split("?", 1)[0] ?? "/"
    if (pages.includes(path)) return page(path, request, response)
    const op = routes.get(path)
    if (op === undefined) return answerProblem(request, response, unknownRoute(path, [...routes.keys(), ...pages]))
    if (request.method !== "POST") return answerProblem(request, response, problem("usage", `${path} is called with POST`, { status: 405 }))
    const lines = linesOf(request)
    const slot = lines === undefined ? "calls" : "watchers"
    const slotMax = lines === undefined ? limits.callsMax : limits.watchersMax
    if (used[slot] >= slotMax) {
      response.setHeader("retry-after", "1")
      return answerProblem(request, response, problem("degraded", `${slotMax} ${slot} are under way already`, { status: 503, hint: "try again in a second" }))
    }
    used[slot]++
    const work = exchange(op, request, response, lines, host, limits)
    const fiber = run(work)
    const entry = { fiber, command: op.kind === "command" }
    running.add(entry)
    fiber.addObserver(() => {
      used[slot]--
      running.delete(entry)
    })
    response.on("close", () => { if (!response.writableEnded && !(entry.command && request.complete)) fiber.interruptUnsafe() })
  }
  server.on("request", onRequest)
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    if (!socket.writable || error.code === "ECONNRESET") return socket.destroy()
    const [status, detail] = parserFault(error.code, limits)
    socket.end(rawProblem(problem("usage", detail, { status })), () => socket.destroy())
  })

  const close = Effect.gen(function*() {
    server.close()
    server.closeIdleConnections()
    for (const { fiber, command } of running) if (!command) fiber.interruptUnsafe()
    yield* Effect.forEach([...running], ({ fiber }) => Fiber.await(fiber), { concurrency: "unbounded" }).pipe(
      Effect.timeoutOrElse({ duration: limits.drainMsMax, orElse: () => Effect.sync(() => host.notice("warn", "calls were cut off", { calls: running.size })) })
    )
    for (const { fiber } of running) fiber.interruptUnsafe()
    server.closeAllConnections()
  })
  return { server, close, busy: () => running.size }
}

/** One call from head to answer; never fails. */
const exchange = (
  op: Operation, request: IncomingMessage, response: ServerResponse, lines: Lines | undefined, host: ApiHost, limits: ApiLimits
): Effect.Effect<void> =>
  Effect.gen(function*() {
    const refuse = (what: ProblemDocument) => Effect.sync(() => answerProblem(request, response, what))
    const caller = callerOf(request, uuidv7(yield* Clock.currentTimeMillis, randomBytes(10)))
    if (Result.isFailure(caller)) return yield* refuse(caller.failure)
    const body = yield* Effect.result(readBody(request, limits))
    if (Result.isFailure(body)) return yield* refuse(body.failure)
    const json = parseJson(body.success, limits.jsonDepthMax)
    if (Result.isFailure(json)) return yield* refuse(json.failure)
    const input = decodeInput(op, json.success)
    if (Result.isFailure(input)) return yield* refuse(input.failure)
    response.setHeader("kos-command", caller.success.command)
    const handlers = typeof host.handlers === "function" ? host.handlers(caller.success.mesh, op.name) : Result.succeed(host.handlers)
    if (Result.isFailure(handlers)) return yield* refuse(problemOfRefusal(handlers.failure, `urn:uuid:${caller.success.command}`))
    const handler = new Map<string, AnyHandler>(Object.entries(handlers.success)).get(op.name)
    if (handler === undefined) return yield* refuse(problem("failed", `${op.name} is not bound to anything`))
    const asked = { op, handler, input: input.success, ...caller.success }
    return yield* lines === undefined ? answerOnce(asked, request, response, host, limits) : answerLines(asked, response, lines, host, limits)
  }).pipe(Effect.catchCause((cause) => Effect.sync(() => {
    if (!Cause.hasInterruptsOnly(cause)) answerProblem(request, response, broken(host, op.name, cause))
  })))

interface Asked {
  readonly op: Operation
  readonly handler: AnyHandler
  readonly input: unknown
  readonly command: string
  readonly actor: string
}

const invoke = (asked: Asked, progress: Call["progress"]): Effect.Effect<unknown, Refusal> | Stream.Stream<unknown, Refusal> => {
  try {
    // The input was decoded by this operation's own schema, which is what its handler takes.
    const answer = asked.handler(asked.input as never, { command: asked.command, actor: asked.actor, progress })
    return Effect.isEffect(answer) ? Effect.catchDefect(answer, refusedOrFault) : answer
  } catch (defect) {
    return refusedOrFault(defect)
  }
}

/** A part that is being opened or closed refuses by throwing, also where nothing awaits a refusal. */
const refusedOrFault = (defect: unknown): Effect.Effect<never, Refusal> => defect instanceof Refusal ? Effect.fail(defect) : Effect.die(defect)

const answerOnce = (asked: Asked, request: IncomingMessage, response: ServerResponse, host: ApiHost, limits: ApiLimits) =>
  Effect.suspend(() => {
    const { op } = asked
    if (op.stream === "always" || endless(asked)) {
      return Effect.sync(() => answerProblem(request, response, problem("usage", `${op.name} is a stream: ask with "Accept: application/x-ndjson" or "text/event-stream"`, { status: 406 })))
    }
    const made = invoke(asked, () => {})
    const whole = Stream.isStream(made)
      ? Stream.runCollect(Stream.take(made, limits.gatheredItemsMax)).pipe(Effect.map((items) => items.map((item) => encoded(op, item))))
      : Effect.map(made, (value) => encoded(op, value))
    return Effect.timeoutOrElse(whole, { duration: limits.callMsMax, orElse: () => Effect.fail(tooLong(op.name, limits)) }).pipe(
      // An interrupted fibre runs its exit handlers only, and shutdown owes the caller an answer.
      Effect.onExit((exit) => Effect.sync(() => {
        if (Exit.isSuccess(exit)) answerJson(request, response, exit.value)
        else answerProblem(request, response, problemOfCause(host, op.name, exit.cause, asked.command))
      })),
      Effect.ignoreCause
    )
  })

const answerLines = (asked: Asked, response: ServerResponse, lines: Lines, host: ApiHost, limits: ApiLimits) =>
  Effect.suspend(() => {
    const { op } = asked
    const writer = openLines(response, lines, limits.stalledMsMax)
    const beat = setInterval(() => { if (!response.writableNeedDrain) writer.send("beat", {}) }, limits.heartbeatMs)
    let last = -Infinity
    const made = invoke(asked, (done, total, what) => {
      const now = performance.now()
      if (response.writableNeedDrain || (done < total && now - last < progressMs)) return
      last = now
      writer.send("progress", { done, total, what })
    })
    const told: Effect.Effect<void, Refusal | "stalled"> = Stream.isStream(made)
      ? Stream.runForEach(made, (item): Effect.Effect<void, "stalled"> => writer.send("item", encoded(op, item)) ? Effect.void : writer.drained).pipe(
        Effect.andThen(Effect.sync(() => { writer.send("end", true) }))
      )
      : Effect.map(made, (value) => { writer.send("result", encoded(op, value)) })
    const bounded = endless(asked) ? told : Effect.timeoutOrElse(told, { duration: limits.callMsMax, orElse: () => Effect.fail(tooLong(op.name, limits)) })
    return bounded.pipe(
      Effect.onExit((exit) => Effect.sync(() => {
        clearInterval(beat)
        if (Exit.isFailure(exit)) {
          const failure = Cause.findErrorOption(exit.cause)
          if (Option.isSome(failure) && failure.value === "stalled") {
            host.notice("warn", "a watcher was cut off because it does not read", { operation: op.name })
            response.destroy()
          } else writer.send("problem", problemOfCause(host, op.name, exit.cause, asked.command))
        }
        writer.end()
      })),
      Effect.ignoreCause
    )
  })

const tooLong = (name: string, limits: ApiLimits) =>
  new Refusal({ kind: "timeout", detail: `${name} took longer than ${limits.callMsMax} ms` })

/** True for a stream that goes on until the caller leaves. */
const endless = ({ op, input }: Asked): boolean =>
  op.stream !== "no" && typeof input === "object" && input !== null && "follow" in input && input.follow === true

/** Our own answer that does not fit its own schema is a defect. */
const encoded = (op: Operation, value: unknown): unknown => {
  const result = Schema.encodeUnknownResult(op.output)(value)
  if (Result.isSuccess(result)) return result.success
  throw new Error(`the answer of ${op.name} does not fit its schema: ${result.failure.message}`)
}

const problemOfCause = (host: ApiHost, name: string, cause: Cause.Cause<unknown>, command?: string): ProblemDocument => {
  const failure = Cause.findErrorOption(cause)
  if (Option.isSome(failure) && failure.value instanceof Refusal) return problemOfRefusal(failure.value, command === undefined ? undefined : `urn:uuid:${command}`)
  if (Cause.hasInterruptsOnly(cause)) return problem("degraded", "the daemon is stopping", { status: 503 })
  return broken(host, name, cause)
}

/** A defect: the caller learns that there is one, the log learns which. */
const broken = (host: ApiHost, name: string, cause: Cause.Cause<unknown>): ProblemDocument => {
  host.notice("error", "a call failed by a fault of kOS", { operation: name, cause: Cause.pretty(cause) })
  return problem("failed", `${name} failed by a fault of kOS itself; its log says more`, { hint: "kos logs --level error" })
}

interface Caller {
  readonly command: string
  readonly actor: string
  /** Name of a mesh, or the beginning of its id. */
  readonly mesh: string | undefined
}

const callerOf = (request: IncomingMessage, fresh: string): Result.Result<Caller, ProblemDocument> => {
  const command = request.headers["kos-command"] ?? fresh
  const actor = request.headers["kos-actor"] ?? "device"
  if (typeof command !== "string" || !isUuidv7(command)) return Result.fail(problem("usage", "the Kos-Command header must be a UUIDv7 in lower case", { path: "Kos-Command" }))
  if (typeof actor !== "string" || !isActor(actor)) {
    return Result.fail(problem("usage", "the Kos-Actor header must be device, agent:NAME or person:NAME", { path: "Kos-Actor" }))
  }
  const type = request.headers["content-type"]
  if (type !== undefined && !/^application\/(json|[a-z0-9.+-]+\+json)\s*(;|$)/i.test(type)) {
    return Result.fail(problem("usage", "the body must be application/json", { status: 415, path: "Content-Type" }))
  }
  const mesh = meshOf(request.headers["kos-mesh"])
  if (mesh === "malformed") return Result.fail(problem("usage", "the Kos-Mesh header must be the name of a mesh, percent-encoded", { path: "Kos-Mesh" }))
  return Result.succeed({ command, actor, mesh: mesh?.name })
}

/** A name may hold any character, a header may not. */
const meshOf = (header: string | ReadonlyArray<string> | undefined): { readonly name: string } | "malformed" | undefined => {
  if (header === undefined) return undefined
  if (typeof header !== "string" || header === "" || header.length > 1_024) return "malformed"
  try {
    return { name: decodeURIComponent(header) }
  } catch {
    return "malformed"
  }
}

const readBody = (request: IncomingMessage, limits: ApiLimits): Effect.Effect<string, ProblemDocument> =>
  Effect.callback((resume) => {
    const tooLarge = problem("usage", `the body is larger than ${limits.bodyBytesMax} bytes`, { status: 413 })
    if (Number(request.headers["content-length"] ?? 0) > limits.bodyBytesMax) return resume(Effect.fail(tooLarge))
    const parts: Array<Buffer> = []
    let size = 0
    const onData = (part: Buffer) => {
      size += part.byteLength
      if (size <= limits.bodyBytesMax) return void parts.push(part)
      forget()
      resume(Effect.fail(tooLarge))
    }
    const onEnd = () => {
      forget()
      try {
        resume(Effect.succeed(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts))))
      } catch {
        resume(Effect.fail(problem("usage", "the body is not UTF-8")))
      }
    }
    const onClose = () => {
      forget()
      resume(Effect.fail(problem("usage", "the request ended before its body did")))
    }
    const forget = () => {
      request.off("data", onData)
      request.off("end", onEnd)
      request.off("close", onClose)
    }
    request.on("data", onData)
    request.on("end", onEnd)
    request.on("close", onClose)
    return Effect.sync(forget)
  })

const linesOf = (request: IncomingMessage): Lines | undefined => {
  const accept = request.headers.accept ?? ""
  if (accept.includes("application/x-ndjson")) return "ndjson"
  return accept.includes("text/event-stream") ? "sse" : undefined
}

const unknownRoute = (path: string, known: ReadonlyArray<string>): ProblemDocument => {
  const near = suggest(path, known)
  const shown = path.length > 128 ? `${path.slice(0, 128)}…` : path
  return problem("not-found", `there is no ${shown}${near.length === 0 ? "" : `; did you mean ${near.join(" or ")}?`}`, { path: shown, hint: "GET /openapi.json" })
}

const parserFault = (code: string | undefined, limits: ApiLimits): readonly [status: number, detail: string] => {
  if (code === "HPE_HEADER_OVERFLOW") return [431, `the headers are larger than ${limits.headerBytesMax} bytes`]
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return [408, `the request was not complete within ${limits.requestMsMax} ms`]
  return [400, "the request is not HTTP"]
}

const listen = (server: Server, address: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once("error", reject)
    server.listen(address, () => {
      server.off("error", reject)
      server.on("error", () => {})
      resolve()
    })
  })

const refusalOf = (home: string, error: unknown): Refusal =>
  error instanceof Refusal
    ? error
    : new Refusal({ kind: "failed", detail: `cannot listen on ${socketPath(home)}: ${error instanceof Error ? error.message : "unknown reason"}` })
