/** A node's API with made-up answers, on a real socket. */
import { Arbitrary, Effect, Exit, Scope, Stream } from "effect"
import { type ApiHost, type ApiServer, serveApi } from "../src/api/server.ts"
import { type ApiLimits, apiLimits } from "../src/api/limits.ts"
import type { Operation } from "../src/api/operation.ts"
import { type Handlers, operations, type OutputOf } from "../src/api/operations/table.ts"

export const key = (digit: string) => digit.repeat(64)

export const by = { actor: "person:mara", device: key("a"), node: "attic", address: `${key("b")}/12.0`, arrival: 1204, at: "2026-05-01T12:00:00.000Z" }

export const cloudEvent = (n: number): OutputOf<"events"> => ({
  specversion: "1.0", id: `${key("b")}/${n}.0`, source: `urn:kos:${key("a")}`, type: "config.changed/1", time: by.at, subject: "config/network",
  datacontenttype: "application/json", data: { n }, kosnode: "attic", kosactor: "device", kosarrival: n
})

export const statusAnswer = (peers: number): OutputOf<"status"> => ({
  sentence: "All well. 2 of 3 nodes in touch; 4 events waiting for `attic`.",
  state: "well",
  node: { name: "cellar", device: key("c"), log: key("d"), home: "/home/mara/kos", version: "0.1.0", pid: 4711, startedAt: "2026-05-01T11:00:00.000Z", ready: true, mode: "joined" },
  mesh: { id: key("e"), name: "hill", members: peers + 1, inTouch: 2 },
  peers: Array.from({ length: peers }, (_, i) => ({ name: `node-${i}`, device: key("f"), inTouch: i === 0, carrier: "lan", lastSeen: by.at, waiting: i, behind: 0 })),
  events: { total: 120_400, own: 312, newestArrival: 120_400 },
  conflicts: peers, quarantine: { frames: peers, events: 0, documents: peers > 5 ? ["config/mesh/network", "agents/x"] : [] },
  unknownTypes: peers > 5 ? [{ type: "future.happened/1", count: 3 }] : [],
  uncleanStops: { count: peers > 5 ? 1 : 0 }, refusedCommands: peers > 5 ? 2 : 0,
  disk: { usedBytes: 12_345_678, freeBytes: 40_000_000_000 }, sync: { paused: false },
  warnings: peers > 5 ? Array.from({ length: 9 }, (_, i) => `warning ${i}: ${"long ".repeat(60)}`) : [],
  next: "kos sync status"
})

/** A value that the operation's own output schema can have; the same each time. */
export const sampleOf = async (op: Operation): Promise<unknown> => {
  const [first] = await Effect.runPromise(Arbitrary.sampleEffect(Arbitrary.schema(op.output), { count: 1, seed: 7 }))
  return first
}

/** Handlers that answer every call with a sample, but for those given. */
export const fakeHandlers = async (own: Partial<Handlers> = {}): Promise<Handlers> => {
  const made: Record<string, unknown> = {}
  for (const op of operations) {
    if (op.place === "local") continue
    const value = await sampleOf(op)
    made[op.name] = op.stream === "no" ? () => Effect.succeed(value) : () => Stream.fromIterable([value, value])
  }
  return { ...made, ...own } as Handlers
}

export interface FakeNode {
  readonly home: string
  readonly server: ApiServer
  readonly notices: Array<{ level: string; text: string; detail?: unknown }>
  stop(): Promise<void>
}

export const fakeNode = async (home: string, own: Partial<Handlers> = {}, limits: Partial<ApiLimits> = {}): Promise<FakeNode> => {
  const notices: FakeNode["notices"] = []
  const host: ApiHost = {
    version: "0.1.0-fake",
    handlers: await fakeHandlers(own),
    readiness: Effect.succeed({ ready: true, checks: [{ name: "log writable", ok: true, detail: "" }] }),
    metrics: Effect.succeed("# TYPE kos_events_total counter\nkos_events_total 3\n"),
    notice: (level, text, detail) => { notices.push({ level, text, detail }) }
  }
  const scope = await Effect.runPromise(Scope.make())
  const server = await Effect.runPromise(serveApi(home, host, { ...apiLimits, ...limits }).pipe(Scope.provide(scope)))
  return { home, server, notices, stop: () => Effect.runPromise(Scope.close(scope, Exit.void)) }
}
