/** Reading events back from the logs: rows of the index become events with bodies, and points become vectors of lengths. */
import { Effect } from "effect"
import { type Address, addressText, parseAddress, type Point } from "../../codec/address.ts"
import { isHex } from "../../codec/bytes.ts"
import { operationHash } from "../../codec/operation.ts"
import { Refusal } from "../../commands/refusal.ts"
import { operationTypes } from "../../events/catalogue.ts"
import { ingestBlock, type IngestedEvent } from "../../events/ingest.ts"
import { findMember } from "../../projections/membership.ts"
import { parseDuration } from "../../projections/families/values.ts"
import { type EventRow as IndexRow } from "../../projections/tables/event-index.ts"
import { int } from "../../projections/tables/database.ts"
import type { LoggedChange } from "../../projections/documents/types.ts"
import type { MeshView } from "../node.ts"
import type { By, CloudEvent, EventRow } from "../operations/common.ts"

export const refuse = (kind: Refusal["kind"], detail: string, hint?: string): Refusal =>
  new Refusal({ kind, detail, ...(hint === undefined ? {} : { hint }) })

/** RFC 3339 of wall milliseconds; a clock beyond what can be written is shown at its limit. */
export const timeText = (ms: number): string => new Date(Math.max(0, Math.min(ms, 8.64e15))).toISOString()

/** Work that waits on disk or worker; what goes wrong there is told, not thrown. */
export const attempt = <A>(what: string, run: () => Promise<A>): Effect.Effect<A, Refusal> =>
  Effect.tryPromise({ try: run, catch: (cause) => refuse("failed", `${what}: ${cause instanceof Error ? cause.message : String(cause)}`) })

/** Frames read for one answer are opened once. */
export class FrameReader {
  readonly #mesh: MeshView
  readonly #logs = new Map<string, { get(block: number): Promise<Uint8Array>; close(): Promise<void> }>()
  #last: { readonly log: string; readonly block: number; readonly events: ReadonlyArray<IngestedEvent>; readonly epoch: number; readonly bytes: number } | undefined

  constructor(mesh: MeshView) {
    this.#mesh = mesh
  }

  async frame(log: string, block: number): Promise<{ readonly events: ReadonlyArray<IngestedEvent>; readonly epoch: number; readonly bytes: number }> {
    if (this.#last?.log === log && this.#last.block === block) return this.#last
    let held = this.#logs.get(log)
    if (held === undefined) this.#logs.set(log, held = await this.#mesh.store.openHeld(log))
    const bytes = await held.get(block)
    const ingested = ingestBlock(bytes, { log, block }, this.#mesh.keyring)
    const opened = ingested._tag === "Opened" ? { events: ingested.events, epoch: ingested.epoch } : { events: [], epoch: 0 }
    this.#last = { log, block, bytes: bytes.byteLength, ...opened }
    return this.#last
  }

  async event({ log, block, offset }: Address): Promise<IngestedEvent | undefined> {
    return (await this.frame(log, block)).events[offset]
  }

  async close(): Promise<void> {
    for (const held of this.#logs.values()) await held.close().catch(() => undefined)
    this.#logs.clear()
  }
}

/** Gives a reader that is closed whatever happens. */
export const withFrames = <A>(mesh: MeshView, what: string, run: (frames: FrameReader) => Promise<A>): Effect.Effect<A, Refusal> =>
  Effect.acquireUseRelease(
    Effect.sync(() => new FrameReader(mesh)), (frames) => attempt(what, () => run(frames)), (frames) => Effect.promise(() => frames.close())
  )

export const byOf = (mesh: MeshView, row: Address & { readonly actor: string; readonly ms: number; readonly arrival?: number }): By => {
  const device = mesh.members.deviceOf(row.log) ?? ""
  return {
    actor: row.actor, device, node: device === "" ? "" : mesh.members.nameOf(device), address: addressText(row), at: timeText(row.ms),
    ...(row.arrival === undefined ? {} : { arrival: row.arrival })
  }
}

/** Who wrote what stands at an address, by the index. */
export const byAt = (mesh: MeshView, address: Address): By => {
  const row = mesh.tables.events.byAddress(address)
  return byOf(mesh, row ?? { ...address, actor: "device", ms: 0 })
}

export const summaryOf = (event: IngestedEvent | undefined): string =>
  event === undefined ? "cannot be read here"
    : event._tag === "Known" ? event.type.says(event.body)
    : event._tag === "Unknown" ? "of a type that this version does not know"
    : `quarantined: ${event.why}`

export const eventRow = (mesh: MeshView, row: IndexRow, event: IngestedEvent | undefined): EventRow => {
  const device = mesh.members.deviceOf(row.log) ?? ""
  return {
    address: addressText(row), arrival: row.arrival, type: row.type, at: timeText(row.ms), node: device === "" ? row.log.slice(0, 8) : mesh.members.nameOf(device),
    device, actor: row.actor, subject: row.subject, known: row.status !== "unknown",
    // What its author says of an event that does not count is not what a person should read first.
    summary: row.status === "quarantined" && event?._tag === "Known"
      ? `quarantined: ${mesh.tables.quarantine.why(row.log, row.block, row.offset) ?? "it does not count"}` : named(mesh, voided(mesh, event) ?? summaryOf(event))
  }
}

/** Whole device keys become names where they are known. */
const named = (mesh: MeshView, text: string): string =>
  text.replace(/\b[0-9a-f]{64}\b/g, (key) => mesh.members.view().members.get(key)?.name ?? key.slice(0, 8))

/** A membership operation that does not count says so before what it says. */
const voided = (mesh: MeshView, event: IngestedEvent | undefined): string | undefined => {
  if (event?._tag !== "Known" || !operationTypes.has(event.envelope.type)) return undefined
  const { body } = event
  const bytes = typeof body === "object" && body !== null && "operation" in body && body.operation instanceof Uint8Array ? body.operation : undefined
  const why = bytes === undefined ? undefined : mesh.members.whyVoid(operationHash(bytes.subarray(64)))
  return why === undefined ? undefined : `does not count (${why}): ${summaryOf(event)}`
}

export const cloudEvent = (mesh: MeshView, row: IndexRow, event: IngestedEvent | undefined): CloudEvent => {
  const device = mesh.members.deviceOf(row.log) ?? ""
  const envelope = event?.envelope
  return {
    specversion: "1.0", id: addressText(row), source: `urn:kos:${device}`, type: row.type, time: timeText(row.ms),
    ...(row.subject === "" ? {} : { subject: row.subject }), datacontenttype: "application/json",
    data: plainJson(event?._tag === "Known" ? event.body : envelope?.body ?? null),
    kosnode: device === "" ? row.log.slice(0, 8) : mesh.members.nameOf(device), kosactor: row.actor, kosarrival: row.arrival,
    ...(envelope === undefined || envelope.command === "" ? {} : { koscommand: envelope.command }),
    ...(envelope === undefined || envelope.cause.length === 0 ? {} : { koscause: envelope.cause.map(addressText).join(",") })
  }
}

type Plain = null | boolean | number | string | ReadonlyArray<Plain> | { readonly [key: string]: Plain }

/** A body as JSON: bytes become base64 in an object that says so. */
export const plainJson = (value: unknown): Plain => {
  if (value === null || typeof value === "boolean" || typeof value === "string") return value
  if (typeof value === "number") return Number.isFinite(value) ? value : null
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString("base64") }
  if (Array.isArray(value)) return (value as ReadonlyArray<unknown>).map(plainJson)
  if (typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plainJson(inner)]))
  return null
}

/** Log keys of the node that a person means. */
export const logsOfNode = (mesh: MeshView, text: string): Effect.Effect<ReadonlyArray<string>, Refusal> => {
  const member = findMember(mesh.members.view(), text)
  return member === undefined
    ? Effect.fail(refuse("not-found", `no node of this mesh is called ${text}`, "kos node list"))
    : Effect.succeed(member.logs.map(({ log }) => log))
}

/** Finds the row that `@N` or an address names. */
export const findEvent = (mesh: MeshView, text: string): Effect.Effect<IndexRow, Refusal> => Effect.gen(function*() {
  const number = /^@?([0-9]{1,15})$/.exec(text)?.[1]
  const address = parseAddress(text)
  if (number === undefined && address === undefined) {
    return yield* refuse("usage", `${text.slice(0, 80)} is neither @NUMBER nor an address log/block.offset`, "kos event list")
  }
  const row = number === undefined ? (address === undefined ? undefined : mesh.tables.events.byAddress(address)) : mesh.tables.events.byArrival(Number(number))
  return row ?? (yield* refuse("not-found", `there is no event ${text} here`, "kos event list"))
})

export const nowPoint = (mesh: MeshView): Point => Object.fromEntries(mesh.tables.cursors.all().map(({ log, folded }) => [log, folded]))

/** What a caller may say for a point, as a vector of log lengths. */
export const pointOf = (mesh: MeshView, text: string, nowMs: number): Effect.Effect<Point, Refusal> => Effect.gen(function*() {
  if (text === "now") return nowPoint(mesh)
  const vector = vectorOf(mesh, text)
  if (vector !== undefined) return vector
  if (/^@?[0-9]{1,15}$/.test(text) || parseAddress(text) !== undefined) {
    const row = yield* findEvent(mesh, text)
    return lengthsWhere(mesh, "id <= ?", row.arrival)
  }
  const ms = momentOf(text, nowMs)
  if (ms === undefined) return yield* refuse("usage", `${text.slice(0, 80)} is no point: expected @NUMBER, an address, a time, or a duration such as 2h`)
  return lengthsWhere(mesh, "ms <= ?", ms)
})

/** A time, or a duration back from now, in milliseconds. */
export const momentOf = (text: string, nowMs: number): number | undefined => {
  const duration = parseDuration(text)
  if (duration !== undefined) return nowMs - duration
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return undefined
  const ms = Date.parse(text)
  return Number.isNaN(ms) ? undefined : ms
}

const vectorOf = (mesh: MeshView, text: string): Point | undefined => {
  const pairs = text.split(",").map((part) => /^([0-9a-f]{8,64})=([0-9]{1,15})$/.exec(part))
  if (pairs.some((pair) => pair === null)) return undefined
  const logs = mesh.tables.cursors.all().map(({ log }) => log)
  const entries = pairs.flatMap((pair) => {
    const [, key = "", length = "0"] = pair ?? []
    const log = isHex(key, 32) ? key : logs.find((known) => known.startsWith(key))
    return log === undefined ? [] : [[log, Number(length)] as const]
  })
  return Object.fromEntries(entries)
}

const lengthsWhere = (mesh: MeshView, condition: "id <= ?" | "ms <= ?", value: number): Point => Object.fromEntries(
  mesh.tables.database.prepare(`SELECT log, max(block) AS block FROM events WHERE ${condition} GROUP BY log`).all(value)
    .map((row) => [mesh.tables.names.textAt(row, "log"), int(row["block"]) + 1])
)

/** The changes of a document as of a point, read from the logs. */
export const changesAt = async (mesh: MeshView, frames: FrameReader, doc: string, point: Point | undefined): Promise<ReadonlyArray<LoggedChange & { readonly row: IndexRow }>> => {
  const rows = mesh.tables.events.forSubject(doc, point).filter((row) => row.status === "known" && row.type.endsWith(".changed/1"))
  const changes: Array<LoggedChange & { readonly row: IndexRow }> = []
  for (const row of rows) {
    const event = await frames.event(row)
    if (event?._tag !== "Known") continue
    const body = event.body
    if (typeof body !== "object" || body === null || !("change" in body) || !(body.change instanceof Uint8Array)) continue
    changes.push({ log: row.log, block: row.block, offset: row.offset, ms: row.ms, change: body.change, row })
  }
  return changes
}
