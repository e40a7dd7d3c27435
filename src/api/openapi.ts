/** The OpenAPI 3.1 document, made from the table of operations. */
import { Schema } from "effect"
import type { Operation } from "./operation.ts"
import { operations } from "./operations/table.ts"
import { ProblemDocument } from "./problem.ts"
import { routeOf } from "./route.ts"


export const openApi = (version: string): unknown => ({
  openapi: "3.1.0",
  info: { title: "kOS node", version, description: "One node's API, served on its unix socket. Every failure is an RFC 9457 problem." },
  servers: [{ url: "http://localhost" }],
  paths: {
    ...Object.fromEntries(operations.filter(({ place }) => place !== "local").map((op) => [routeOf(op), { post: pathItem(op) }])),
    "/livez": { get: plain("Is the process alive?", "application/json") },
    "/readyz": { get: plain("Can it write, and is its state caught up? 503 when not.", "application/json") },
    "/metrics": { get: plain("Figures in the Prometheus text format.", "text/plain") },
    "/openapi.json": { get: plain("This document.", "application/json") }
  },
  components: { schemas: { Problem: schemaOf(ProblemDocument) } }
})

const pathItem = (op: Operation) => ({
  operationId: op.name,
  summary: op.summary,
  tags: [op.name.split(".")[0]],
  "x-kos-kind": op.kind,
  parameters: [
    { name: "Kos-Command", in: "header", description: "UUIDv7; a repeated call with the same one is answered as then", schema: { type: "string", format: "uuid" } },
    { name: "Kos-Actor", in: "header", description: "device, agent:NAME or person:NAME", schema: { type: "string", default: "device" } }
  ],
  requestBody: { content: { "application/json": { schema: described(op) } } },
  responses: {
    200: { description: op.stream === "no" ? "Done." : "The items.", content: contentOf(op) },
    default: { description: "Refused or failed.", content: { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } } }
  }
})

const contentOf = (op: Operation) => {
  const one = schemaOf(op.output)
  const lines = { description: "One JSON object a line: {progress}, {item}, then {result}, {end} or {problem}; empty objects say that it lives.", type: "string" }
  return {
    "application/json": { schema: op.stream === "no" ? one : { type: "array", items: one } },
    "application/x-ndjson": { schema: lines },
    ...(op.stream === "no" ? {} : { "text/event-stream": { schema: lines } })
  }
}

/** The input's schema with the CLI's sentences, and without room for unknown keys. */
const described = (op: Operation) => {
  const schema = schemaOf(op.input) as { readonly properties?: Record<string, object> }
  const properties = Object.entries(schema.properties ?? {}).map(([key, value]) => [key, { ...value, description: op.cli.describe[key] ?? "" }])
  return { ...schema, properties: Object.fromEntries(properties), additionalProperties: false }
}

const schemaOf = (schema: Schema.Codec<any, any>): object => {
  const { schema: main, definitions } = Schema.toJsonSchemaDocument(schema)
  return Object.keys(definitions).length === 0 ? main : { ...main, $defs: definitions }
}

const plain = (description: string, type: string) => ({ summary: description, responses: { 200: { description, content: { [type]: {} } } } })
