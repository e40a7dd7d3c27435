import { Effect, Queue, Stream } from "effect"
import { writeFile } from "node:fs/promises"
import { addressText, type Point } from "../../codec/address.ts"
import { didYouMean } from "../../codec/suggest.ts"
import { eventTypes } from "../../events/catalogue.ts"
import { buildProof, hypercoreProofSource } from "../../events/proof.ts"
import { diffKeys } from "../../projections/families/diff.ts"
import { parseDocId } from "../../projections/families/doc-id.ts"
import { namespaceOf } from "../../projections/families/path.ts"
import { findSetting } from "../../projections/families/settings.ts"
import type { EventQuery } from "../../projections/tables/event-query.ts"
import type { EventRow as IndexRow } from "../../projections/tables/event-index.ts"
import { verifyLogs } from "./verify.ts"
import { Refusal } from "../../commands/refusal.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { Handlers, InputOf, OutputOf } from "../operations/table.ts"
import {
  attempt, byAt, byOf, changesAt, cloudEvent, eventRow, findEvent, FrameReader, logsOfNode, momentOf, nowPoint, plainJson, pointOf, refuse, withFrames
} from "./reading.ts"

/** Rows fetched from the index in one go while a long answer is streamed. */
const pageRows = 500
/** Events that wait for a slow reader of `events -f`; older ones are dropped and the reader sees the gap in arrival numbers. */
const followMax = 4_096

type Filter = Pick<InputOf<"event.list">, "type" | "node" | "actor" | "subject" | "since" | "until">
type Names = "event.list" | "event.show" | "event.diff" | "event.at" | "event.verify" | "event.export" | "events"

export const eventHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "event.list": (input) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const query = yield* queryOf(daemon, input)
    const rows: Array<IndexRow> = []
    let after: number | undefined
    while (rows.length < input.limit) {
      const page = mesh.tables.events.query({
        ...query, order: "newest", limit: Math.min(input.limit - rows.length, 10_000), ...(after === undefined ? {} : { after })
      })
      rows.push(...page.events)
      after = page.next
      if (after === undefined) break
    }
    rows.reverse()
    return yield* withFrames(mesh, "the events could not be read", (frames) => inOrder(rows, async (row) =>
      eventRow(mesh, row, await frames.event(row).catch(() => undefined))))
  }),

  "event.show": ({ event }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const row = yield* findEvent(mesh, event)
    return yield* withFrames(mesh, "the event could not be read", async (frames) => {
      const frame = await frames.frame(row.log, row.block)
      const read = frame.events[row.offset]
      const devices = [...mesh.members.view().members.values()].filter((member) => member.standing === "member").map((member) => member.device)
      const holding = mesh.tables.receipts.holders(row.log, row.block, devices).holding
      const body = read?._tag === "Known" ? read.body : read?.envelope.body ?? null
      return {
        ...eventRow(mesh, row, read), log: row.log, block: row.block, offset: row.offset, epoch: frame.epoch,
        ...(read === undefined || read.envelope.command === "" ? {} : { command: read.envelope.command }),
        cause: (read?.envelope.cause ?? []).map(addressText), led: await ledBy(mesh, frames, row),
        body: plainJson(body), bytes: frame.bytes,
        heldBy: [mesh.vault.deviceId, ...holding.filter((device) => device !== mesh.vault.deviceId)].map((device) => mesh.members.nameOf(device))
      }
    })
  }),

  "event.diff": ({ from, to, subject }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const start = yield* pointOf(mesh, from, daemon.now())
    const end = to === undefined ? nowPoint(mesh) : yield* pointOf(mesh, to, daemon.now())
    const rows = rowsBetween(mesh, start, end, subject)
    const docs = [...new Set(rows.filter((row) => row.type.endsWith(".changed/1")).map((row) => row.subject))].sort()
    const differences = yield* withFrames(mesh, "the states could not be read", async (frames) => {
      const found = []
      for (const doc of docs) {
        const before = await valueAt(mesh, frames, doc, start)
        const after = await valueAt(mesh, frames, doc, end)
        const last = rows.findLast((row) => row.subject === doc)
        for (const { path, before: old, after: now } of diffKeys(before ?? {}, after ?? {})) {
          found.push({
            document: doc, path, change: old === undefined ? "added" as const : now === undefined ? "removed" as const : "changed" as const,
            ...(old === undefined ? {} : { before: old }), ...(now === undefined ? {} : { after: now }), ...(last === undefined ? {} : { by: byOf(mesh, last) })
          })
        }
      }
      return found
    })
    return { from: start, to: end, events: rows.length, differences }
  }),

  "event.at": ({ point: text, path }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const point = yield* pointOf(mesh, text, daemon.now())
    return yield* Effect.flatten(withFrames(mesh, "the state could not be read", (frames) => shownAt(mesh, frames, point, text, path)))
  }),

  "event.verify": ({ node, all }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const only = node === undefined ? undefined : yield* logsOfNode(mesh, node)
    const began = daemon.now()
    const found = yield* attempt("verifying failed", () => verifyLogs(mesh, only, all, call.progress))
    return { ...found, ms: Math.max(0, Math.round(daemon.now() - began)) }
  }),

  "event.export": (input, call) => {
    if (input.proof === undefined) return Stream.unwrap(Effect.map(queryOf(daemon, input), (query) => pages(daemon.mesh(), query, input.limit)))
    const file = input.proof
    return Stream.fromEffect(Effect.gen(function*() {
      const mesh = daemon.mesh()
      const query = yield* queryOf(daemon, input)
      const rows: Array<IndexRow> = []
      for (let after: number | undefined, more = true; more && rows.length < (input.limit ?? 100_000);) {
        const page = mesh.tables.events.query({ ...query, order: "oldest", limit: Math.min(10_000, (input.limit ?? 100_000) - rows.length), ...(after === undefined ? {} : { after }) })
        rows.push(...page.events)
        after = page.next
        more = after !== undefined
      }
      if (rows.length === 0) return yield* refuse("not-found", "no event fits the filter; nothing was written")
      const bytes = yield* proofOf(mesh, rows, (done, total) => call.progress(done, total, "proving"))
      yield* Effect.tryPromise({
        try: () => writeFile(file, bytes, { flag: input.force ? "w" : "wx", mode: 0o600 }),
        catch: (cause) => typeof cause === "object" && cause !== null && "code" in cause && cause.code === "EEXIST"
          ? refuse("conflict", `${file} exists already; --force writes over it`)
          : refuse("failed", `${file} could not be written: ${cause instanceof Error ? cause.message : String(cause)}`)
      })
      return { file, events: rows.length, blocks: new Set(rows.map((row) => `${row.log}/${row.block}`)).size, bytes: bytes.byteLength }
    }))
  },

  events: (input) => Stream.unwrap(Effect.map(queryOf(daemon, input), (query) => {
    const mesh = daemon.mesh()
    const newest = mesh.tables.events.query({ ...query, order: "newest", limit: Math.min(input.limit, 10_000) }).events.toReversed()
    const first = Stream.unwrap(Effect.acquireRelease(
      Effect.sync(() => new FrameReader(mesh)), (frames) => Effect.promise(() => frames.close())
    ).pipe(Effect.map((frames) => Stream.fromIterable(newest).pipe(
      Stream.mapEffect((row) => Effect.promise(async () => cloudEvent(mesh, row, await frames.event(row).catch(() => undefined))))
    ))))
    return input.follow ? Stream.concat(first, follow(mesh, query, newest.at(-1)?.arrival ?? mesh.tables.events.totals().lastArrival)) : first
  }))
})

/** A document as a whole, or one setting by the layers of this node, as of a point. */
const shownAt = async (
  mesh: MeshView, frames: FrameReader, point: Point, text: string, path: string
): Promise<Effect.Effect<OutputOf<"event.at">, Refusal>> => {
  if (path.startsWith("memory/") || path.startsWith("agents/") || path.startsWith("config/")) {
    const parsed = parseDocId(path)
    if ("why" in parsed) return Effect.fail(refuse("usage", parsed.why))
    const value = await valueAt(mesh, frames, path, point)
    return value === undefined ? Effect.fail(refuse("not-found", `${path} did not exist at ${text}`)) : Effect.succeed({ point, path, value })
  }
  const namespace = namespaceOf(path)
  if ("why" in namespace) return Effect.fail(refuse("usage", namespace.why))
  const role = mesh.members.view().members.get(mesh.vault.deviceId)?.role ?? "member"
  for (const layer of [`node:${mesh.vault.deviceId}`, `role:${role}`, "mesh"]) {
    const doc = `config/${layer}/${namespace.value}`
    const changes = await changesAt(mesh, frames, doc, point)
    if (changes.length === 0) continue
    const state = await Effect.runPromise(mesh.worker.materialize(doc, changes))
    if (!Object.hasOwn(state.live, path)) continue
    const writer = state.writers[path]
    return Effect.succeed({ point, path, value: state.live[path] ?? null, layer: layer.split(":")[0] ?? layer, ...(writer === undefined ? {} : { by: byAt(mesh, writer) }) })
  }
  const setting = findSetting(path)
  return setting !== undefined && setting.default !== null
    ? Effect.succeed({ point, path, value: setting.default, layer: "default" })
    : Effect.fail(refuse("not-found", `nothing set ${path} at ${text}`, `kos config explain ${path}`))
}

const proofOf = (mesh: MeshView, rows: ReadonlyArray<IndexRow>, progress: (done: number, total: number) => void): Effect.Effect<Uint8Array, Refusal> =>
  Effect.acquireUseRelease(
    attempt("the logs could not be opened", () => Promise.all([...new Set(rows.map(({ log }) => log))].map((log) => mesh.store.session(log)))),
    (cores) => {
      const sources = new Map(cores.flatMap((core) => {
        const source = hypercoreProofSource(core)
        return source === undefined ? [] : [[source.log, source] as const]
      }))
      return buildProof({
        mesh: mesh.mesh, events: rows, operations: mesh.members.operations(), source: (log) => sources.get(log), epochKeys: (epoch) => mesh.keyring.keys(epoch), progress
      }).pipe(Effect.mapError((error) => refuse(error.reason === "too-large" ? "usage" : "failed", error.detail)))
    },
    (cores) => Effect.promise(() => Promise.all(cores.map((core) => core.close())))
  )

/** Rows as CloudEvents, oldest first, page by page. */
const pages = (mesh: MeshView, query: Omit<EventQuery, "order" | "limit">, limit: number | undefined) => Stream.unwrap(
  Effect.acquireRelease(Effect.sync(() => new FrameReader(mesh)), (frames) => Effect.promise(() => frames.close())).pipe(
    Effect.map((frames) => Stream.fromAsyncIterable((async function*() {
      let left = limit ?? Number.MAX_SAFE_INTEGER
      let after: number | undefined
      while (left > 0) {
        const page = mesh.tables.events.query({ ...query, order: "oldest", limit: Math.min(pageRows, left), ...(after === undefined ? {} : { after }) })
        for (const row of page.events) yield cloudEvent(mesh, row, await frames.event(row).catch(() => undefined))
        left -= page.events.length
        if (page.next === undefined) return
        after = page.next
      }
    })(), (cause) => refuse("failed", `the events could not be read: ${String(cause)}`)))
  )
)

/** What comes in after `after`, as it comes. */
const follow = (mesh: MeshView, query: Omit<EventQuery, "order" | "limit">, after: number) => Stream.callback<void>((queue) => Effect.acquireRelease(
  Effect.sync(() => {
    const stop = mesh.runner.onFold((notice) => {
      if (notice.last > 0) Queue.offerUnsafe(queue, undefined)
    })
    Queue.offerUnsafe(queue, undefined)
    return stop
  }),
  (stop) => Effect.sync(stop)
), { bufferSize: 1, strategy: "sliding" }).pipe(
  Stream.mapAccumEffect(() => after, (seen) => Effect.promise(async () => {
    const page = mesh.tables.events.query({ ...query, arrivalMin: seen + 1, order: "oldest", limit: followMax })
    const frames = new FrameReader(mesh)
    try {
      const events = await inOrder(page.events, async (row) => cloudEvent(mesh, row, await frames.event(row).catch(() => undefined)))
      return [page.events.at(-1)?.arrival ?? seen, events] as const
    } finally {
      await frames.close()
    }
  }))
)

const queryOf = (daemon: DaemonView, filter: Filter): Effect.Effect<Omit<EventQuery, "order" | "limit">, Refusal> => Effect.gen(function*() {
  const mesh = daemon.mesh()
  const wanted = filter.type
  if (wanted !== undefined && !/[.*]$/.test(wanted) && !eventTypes.has(wanted) && !mesh.tables.events.unknownTypes().some(({ type }) => type === wanted)) {
    return yield* refuse("not-found", `there is no event type ${wanted}${didYouMean(wanted, eventTypes.keys())}`, "kos event list --type 'config.*'")
  }
  const logs = filter.node === undefined ? undefined : yield* logsOfNode(mesh, filter.node)
  const since = filter.since === undefined ? {} : yield* bound(daemon, filter.since, "since")
  const until = filter.until === undefined ? {} : yield* bound(daemon, filter.until, "until")
  return {
    ...(filter.type === undefined ? {} : { types: [filter.type.endsWith(".") ? `${filter.type}*` : filter.type] }),
    ...(filter.actor === undefined ? {} : { actor: filter.actor }),
    ...(filter.subject === undefined ? {} : { subject: filter.subject.endsWith("/") ? `${filter.subject}*` : filter.subject }),
    ...(logs === undefined ? {} : { logs }), ...since, ...until
  }
})

/** A bound by arrival (`@N`, an address) or by time. */
const bound = (daemon: DaemonView, text: string, side: "since" | "until"): Effect.Effect<Partial<EventQuery>, Refusal> => Effect.gen(function*() {
  const ms = momentOf(text, daemon.now())
  if (ms !== undefined) return side === "since" ? { since: ms } : { until: ms }
  const { arrival } = yield* findEvent(daemon.mesh(), text)
  return side === "since" ? { arrivalMin: arrival } : { arrivalMax: arrival }
})

/** Document value at a point; undefined when nothing had been written. */
export const valueAt = async (mesh: MeshView, frames: FrameReader, doc: string, point: Point) => {
  const changes = await changesAt(mesh, frames, doc, point)
  if (changes.length === 0) return undefined
  return (await Effect.runPromise(mesh.worker.materialize(doc, changes))).live
}

const rowsBetween = (mesh: MeshView, from: Point, to: Point, subject: string | undefined): ReadonlyArray<IndexRow> => {
  const rows: Array<IndexRow> = []
  for (let after: number | undefined, more = true; more;) {
    const page = mesh.tables.events.query({
      ...(subject === undefined ? {} : { subject: subject.endsWith("*") ? subject : `${subject}*` }), order: "oldest", limit: 10_000, ...(after === undefined ? {} : { after })
    })
    rows.push(...page.events.filter((row) => row.block >= (from[row.log] ?? 0) && row.block < (to[row.log] ?? 0)))
    after = page.next
    more = after !== undefined
  }
  return rows
}

/** Events here that name this one as their cause; looked for among the newest that came after it. */
const ledBy = async (mesh: MeshView, frames: FrameReader, row: IndexRow): Promise<ReadonlyArray<string>> => {
  const later = mesh.tables.events.query({ arrivalMin: row.arrival + 1, order: "oldest", limit: 1_000 }).events
  const found: Array<string> = []
  for (const candidate of later) {
    const event = await frames.event(candidate).catch(() => undefined)
    if (event?.envelope.cause.some((cause) => cause.log === row.log && cause.block === row.block && cause.offset === row.offset) === true) found.push(addressText(candidate))
  }
  return found
}

const inOrder = async <A, B>(items: ReadonlyArray<A>, run: (item: A) => Promise<B>): Promise<ReadonlyArray<B>> => {
  const out: Array<B> = []
  for (const item of items) out.push(await run(item))
  return out
}
