/** Answers on the wire: one JSON document, one problem, or lines as they come. */
import { Effect } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import type { ProblemDocument } from "./problem.ts"

const always = { "cache-control": "no-store", "x-content-type-options": "nosniff" }

/** A body that nobody read is drained after the answer, and the connection is not used again. */
export const answer = (request: IncomingMessage, response: ServerResponse, status: number, type: string, body: string): void => {
  if (response.headersSent || response.destroyed) return
  const unread = !request.complete
  response.writeHead(status, {
    ...always,
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    ...(unread ? { connection: "close" } : {})
  })
  response.end(body)
  if (unread) request.resume()
}

export const answerJson = (request: IncomingMessage, response: ServerResponse, body: unknown): void =>
  answer(request, response, 200, "application/json", `${JSON.stringify(body)}\n`)

export const answerProblem = (request: IncomingMessage, response: ServerResponse, what: ProblemDocument): void =>
  answer(request, response, what.status, "application/problem+json", `${JSON.stringify(what)}\n`)

/** The whole of an answer as bytes, for a connection whose request could not even be parsed. */
export const rawProblem = (what: ProblemDocument): string => {
  const body = `${JSON.stringify(what)}\n`
  return `HTTP/1.1 ${what.status} ${what.title}\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`
}

export type Lines = "ndjson" | "sse"

export interface LineWriter {
  /** Writes one named line; `beat` is an empty one. False when the reader lags behind. */
  send(name: "item" | "progress" | "result" | "problem" | "end" | "beat", value: unknown): boolean
  /** Waits until the reader has caught up; fails when it has taken nothing for `stalledMsMax`. */
  readonly drained: Effect.Effect<void, "stalled">
  end(): void
}

/** Sends the head at once, so that the caller knows that its call was accepted. */
export const openLines = (response: ServerResponse, as: Lines, stalledMsMax: number): LineWriter => {
  response.writeHead(200, { ...always, "content-type": as === "ndjson" ? "application/x-ndjson" : "text/event-stream" })
  response.flushHeaders()
  return {
    send: (name, value) => {
      if (response.destroyed || response.writableEnded) return true
      if (name === "beat") return response.write(as === "ndjson" ? "{}\n" : ":\n\n")
      const json = JSON.stringify(value)
      return response.write(as === "ndjson" ? `{"${name}":${json}}\n` : `event: ${name}\ndata: ${json}\n\n`)
    },
    drained: Effect.callback<void, "stalled">((resume) => {
      if (!response.writableNeedDrain || response.destroyed) return resume(Effect.void)
      const settle = (result: Effect.Effect<void, "stalled">) => {
        clearTimeout(timer)
        response.off("drain", done)
        response.off("close", done)
        resume(result)
      }
      const done = () => settle(Effect.void)
      // In two steps: a process that slept through the first one sees its sockets before the second.
      let timer = setTimeout(() => {
        timer = setTimeout(() => settle(Effect.fail("stalled" as const)), stalledMsMax / 2)
      }, stalledMsMax / 2)
      response.on("drain", done)
      response.on("close", done)
      return Effect.sync(done)
    }),
    end: () => { response.end() }
  }
}
