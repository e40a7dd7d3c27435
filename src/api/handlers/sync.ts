import { Effect } from "effect"
import { existsSync } from "node:fs"
import type { Point } from "../../codec/address.ts"
import { findMember } from "../../projections/membership.ts"
import { parseDuration } from "../../projections/families/values.ts"
import { BundleRefused } from "../../swarm/bundle-file.ts"
import { exportBundle, importBundle } from "../../swarm/bundle.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { Handlers } from "../operations/table.ts"
import { lengthOf, modeOf } from "./mesh.ts"
import { peerStates } from "./peers.ts"
import { attempt, pointOf, refuse, timeText } from "./reading.ts"

type Names = Extract<keyof Handlers, `sync.${string}`>

export const syncHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "sync.status": () => Effect.sync(() => {
    const mesh = daemon.mesh()
    const until = daemon.pausedUntil()
    const others = othersOf(mesh)
    return {
      mode: modeOf(daemon), paused: mesh.swarm.paused(), ...(until === undefined ? {} : { pausedUntil: timeText(until) }),
      carriers: mesh.swarm.carriers(),
      peers: [...peerStates(mesh).values()].map(({ carrier, remote, lastSeen, waitingSince, ...peer }) => ({
        ...peer, ...(carrier === undefined ? {} : { carrier }), ...(remote === undefined ? {} : { remote }), ...(lastSeen === undefined ? {} : { lastSeen }),
        ...(waitingSince === undefined ? {} : { waitingSince })
      })),
      logs: mesh.members.logs().map(({ log, device }) => {
        const length = lengthOf(mesh, log)
        const held = others.map((other) => ({ name: other.name, length: mesh.tables.receipts.held(other.device, log) }))
        const known = Math.max(length, ...held.map((entry) => entry.length))
        return {
          log, node: mesh.members.nameOf(device), length, known,
          heldBy: held.filter((entry) => entry.length >= length).map((entry) => entry.name),
          missingAt: held.filter((entry) => entry.length < length).map((entry) => entry.name)
        }
      })
    }
  }),

  "sync.now": ({ peer, timeout }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    if (modeOf(daemon) === "isolated") return yield* refuse("policy", "this node is isolated: it opens no connection", "kos mesh mode joined")
    if (mesh.swarm.paused()) return yield* refuse("policy", "sync is paused", "kos sync resume")
    const member = peer === undefined ? undefined : findMember(mesh.members.view(), peer)
    if (peer !== undefined && member === undefined) return yield* refuse("not-found", `no node of this mesh is called ${peer}`, "kos node list")
    const before = heldBlocks(mesh)
    const began = daemon.now()
    const wanted = othersOf(mesh).filter((other) => member === undefined || other.device === member.device)
    mesh.swarm.syncNow()
    const inTouch = () => mesh.swarm.sessions().filter((session) => session.phase === "ready" && wanted.some((other) => other.device === session.device))
    const done = yield* until(daemon, timeout * 1_000, () => {
      call.progress(heldBlocks(mesh) - before, Math.max(1, heldBlocks(mesh) - before + mesh.swarm.downloading().waiting), "blocks")
      const sessions = inTouch()
      return sessions.length >= Math.min(1, wanted.length) && sessions.every((session) => session.caughtUp && session.ahead === 0)
    })
    yield* Effect.promise(() => mesh.runner.idle())
    const reached = [...new Set(inTouch().map((session) => session.device))]
    if (!done && reached.length === 0 && wanted.length > 0) {
      return yield* refuse("timeout", `nobody was reached within ${timeout} seconds`, "kos sync status")
    }
    if (!done) return yield* refuse("timeout", `logs were still being exchanged after ${timeout} seconds`, "kos sync status")
    yield* mesh.dispatch.run("sync.now", call, [], Effect.succeed({
      summary: "exchanged logs", events: [{ type: "command.done/1", subject: "sync", body: { name: "sync.now", detail: `received ${heldBlocks(mesh) - before} blocks` } }]
    }))
    return {
      received: heldBlocks(mesh) - before, reached: reached.map((device) => mesh.members.nameOf(device)),
      missed: wanted.filter(({ device }) => !reached.includes(device)).map(({ name }) => name), ms: Math.max(0, Math.round(daemon.now() - began))
    }
  }),

  "sync.pause": (input, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const life = input.for === undefined ? undefined : parseDuration(input.for)
    if (input.for !== undefined && life === undefined) return yield* refuse("usage", `${input.for} is no duration; expected for example 30m or 2h`)
    const until = life === undefined ? undefined : daemon.now() + life
    const done = yield* mesh.dispatch.run("sync.pause", call, ["sync"], Effect.succeed({
      summary: input.for === undefined ? "sync is paused" : `sync is paused for ${input.for}`, events: [{ type: "sync.paused/1", subject: "sync", body: {} }]
    }))
    daemon.pause(until)
    return { ...(until === undefined ? {} : { until: timeText(until) }), ...done }
  }),

  "sync.resume": (_input, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const done = yield* mesh.dispatch.run("sync.resume", call, ["sync"], Effect.succeed({
      summary: "sync goes on", events: mesh.swarm.paused() ? [{ type: "sync.resumed/1", subject: "sync", body: {} }] : []
    }))
    daemon.resume()
    return done
  }),

  "sync.export": ({ file, since, node }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    if (since !== undefined && node !== undefined) return yield* refuse("usage", "--since and --node both say where to begin; give one")
    let from: Point = {}
    if (since !== undefined) from = yield* pointOf(mesh, since, daemon.now())
    if (node !== undefined) {
      const member = findMember(mesh.members.view(), node)
      if (member === undefined) return yield* refuse("not-found", `no node of this mesh is called ${node}`, "kos node list")
      from = Object.fromEntries(mesh.tables.receipts.holdings(member.device).map(({ log, length }) => [log, length]))
    }
    const made = yield* attempt("the bundle could not be written", () => exportBundle(mesh.swarmHost, file, from))
    const blocks = made.logs.reduce((sum, log) => sum + log.to - log.from, 0)
    yield* mesh.dispatch.run("sync.export", call, [], Effect.succeed({
      summary: "exported", events: [{ type: "sync.exported/1", subject: "sync", body: { blocks, bytes: made.bytes, logs: made.logs.length } }]
    }))
    return { file, bytes: made.bytes, logs: made.logs.length, blocks }
  }),

  "sync.import": ({ file }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    if (!existsSync(file)) return yield* refuse("not-found", `there is no file ${file}`)
    const lengths = new Map(mesh.members.logs().map(({ log }) => [log, lengthOf(mesh, log)]))
    const report = yield* Effect.tryPromise({
      try: () => importBundle(mesh.swarmHost, file, { onProgress: (done) => call.progress(done, done, "bytes") }),
      catch: (cause) => cause instanceof BundleRefused
        ? refuse(["foreign", "stranger", "revoked"].includes(cause.reason) ? "denied" : "usage", cause.message) : refuse("failed", `${file} could not be read: ${cause instanceof Error ? cause.message : String(cause)}`)
    })
    yield* Effect.promise(() => mesh.runner.idle())
    const taken = report.logs.filter((log) => log.state === "taken")
    const blocks = taken.reduce((sum, { log, held }) => sum + Math.max(0, held - (lengths.get(log) ?? 0)), 0)
    const events = taken.reduce((sum, { log }) => sum + mesh.tables.events.from(log, lengths.get(log) ?? 0).events, 0)
    yield* mesh.dispatch.run("sync.import", call, [], Effect.succeed({
      summary: "imported", events: [{ type: "sync.imported/1", subject: "sync", body: { blocks, logs: taken.length } }]
    }))
    return {
      file, logs: taken.length, blocks, known: report.logs.reduce((sum, log) => sum + log.to - log.from, 0) - blocks,
      events,
      refused: report.logs.filter((log) => log.state !== "taken" && log.state !== "held").map(({ log, why }) => ({ log, why }))
    }
  })
})

export const othersOf = (mesh: MeshView) =>
  [...mesh.members.view().members.values()].filter((member) => member.standing === "member" && member.device !== mesh.vault.deviceId)

/** Looks again every 50 ms until it holds or the time is over. */
export const until = (daemon: DaemonView, msMax: number, holds: () => boolean): Effect.Effect<boolean> => Effect.suspend(() => {
  const end = daemon.now() + msMax
  const look: Effect.Effect<boolean> = Effect.suspend(() => holds() ? Effect.succeed(true)
    : daemon.now() >= end ? Effect.succeed(false) : Effect.flatMap(Effect.sleep("50 millis"), () => look))
  return look
})

const heldBlocks = (mesh: MeshView): number => mesh.members.logs().reduce((sum, { log }) => sum + lengthOf(mesh, log), 0)
