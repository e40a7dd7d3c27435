/**
 * `node ping`, `service list` and `connect`.
 *
 * The bytes of a connection do not go through the API: the daemon listens for them, on a socket of its own in the home's `run` directory for
 * stdin and stdout (one connection, mode 0600), or on a port of 127.0.0.1 for as long as the caller stays (any program of this
 * machine may connect there). What the caller gets from the API is how it goes.
 */
import { Cause, Effect, Queue, Stream } from "effect"
import { chmodSync, readdirSync, unlinkSync } from "node:fs"
import { createServer, type Server, type Socket } from "node:net"
import { toHex } from "../../codec/bytes.ts"
import { randomBytes } from "../../codec/signature.ts"
import type { Refusal } from "../../commands/refusal.ts"
import { allowText, serviceNameFault, type ServiceRule, targetText } from "../../projections/families/services.ts"
import type { Member } from "../../projections/membership.ts"
import { mayUseService, servicesOf } from "../../projections/services.ts"
import type { Opened } from "../../swarm/services.ts"
import { breakOff, joinStreams } from "../../swarm/tunnel-join.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { Handlers, OutputOf } from "../operations/table.ts"
import { socketAddress, socketDirectory } from "../socket.ts"
import { memberOf } from "./mesh.ts"
import { refuse } from "./reading.ts"

type Item = OutputOf<"connect">
type Connected = Extract<Opened, { readonly _tag: "Opened" }>

/** Connections at one listening port at once. */
export const listenConnectionsMax = 64
/** The command that asked for a socket must have connected to it by then, milliseconds. */
const socketMsMax = 10_000
const pingEveryMs = 500
const lookEveryMs = 50
/** How the caller is told goes no faster than it reads; what it does not read of these is dropped, the oldest first. */
const itemsMax = 256

export const connectHandlers = (daemon: DaemonView): Pick<Handlers, "node.ping" | "service.list" | "connect"> => ({
  "node.ping": ({ node, count, timeout }) => Stream.unwrap(Effect.gen(function*() {
    const member = yield* otherNode(daemon, node)
    yield* inTouch(daemon, member, timeout * 1_000)
    return Stream.range(1, count).pipe(Stream.mapEffect((number) => Effect.gen(function*() {
      if (number > 1) yield* Effect.sleep(pingEveryMs)
      const pinged = yield* Effect.promise(() => daemon.mesh().swarm.ping(member.device, timeout * 1_000))
      if (pinged === undefined) return yield* refuse("timeout", `${member.name} did not answer within ${timeout} s`, "kos sync status")
      return { name: member.name, device: member.device, number, ms: Math.round(pinged.ms * 1_000) / 1_000, carrier: pinged.carrier, remote: pinged.remote }
    })))
  })),

  "service.list": ({ node }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const member = yield* memberOf(mesh, node ?? mesh.vault.deviceId)
    return [...servicesOf(mesh, member.device).values()].map((rule) => serviceRow(mesh, member, rule))
  }),

  connect: ({ service: wanted, listen, timeout }) => Stream.unwrap(Effect.gen(function*() {
    const at = wanted.lastIndexOf(":")
    const [node, service] = [wanted.slice(0, at), wanted.slice(at + 1)]
    if (at < 1 || service === "") return yield* refuse("usage", `expected NODE:SERVICE, found ${wanted}`, "kos service list NODE")
    const fault = serviceNameFault(service)
    if (fault !== undefined) return yield* refuse("usage", fault)
    const member = yield* otherNode(daemon, node, service)
    const open = (probe: boolean) => inTouch(daemon, member, timeout * 1_000).pipe(
      Effect.andThen(Effect.promise(() => daemon.mesh().swarm.connect(member.device, service, probe))),
      Effect.flatMap((opened) => openedOr(member, opened))
    )
    if (listen === undefined) {
      const opened = yield* open(false)
      return opened._tag === "Opened" ? overSocket(daemon, member, service, opened) : Stream.empty
    }
    yield* open(true)
    return overPort(member, service, listen, open)
  }))
})

/** Another node of the mesh that is a member now. */
const otherNode = (daemon: DaemonView, name: string, service?: string): Effect.Effect<Member, Refusal> => Effect.gen(function*() {
  const mesh = daemon.mesh()
  const member = yield* memberOf(mesh, name)
  if (member.device === mesh.vault.deviceId) {
    return yield* refuse("usage", `${member.name} is this node itself${service === undefined ? "" : `; ${service} is here already`}`, ...(service === undefined ? [] : ["kos service list"]))
  }
  if (member.standing !== "member") return yield* refuse("denied", `${member.name} ${member.standing === "left" ? "has left the mesh" : "was revoked"}`, "kos node list --all")
  if (mesh.swarm.mode() === "isolated") return yield* refuse("degraded", "this node is isolated: it meets nobody", "kos mesh mode joined")
  return member
})

/** Waits until the node is in touch; dials it anew when it is not. */
const inTouch = (daemon: DaemonView, member: Member, msMax: number): Effect.Effect<void, Refusal> => Effect.gen(function*() {
  const isInTouch = () => daemon.mesh().swarm.sessions().some(({ device, phase }) => device === member.device && phase === "ready")
  if (isInTouch()) return
  daemon.mesh().swarm.syncNow()
  for (let waited = 0; waited < msMax; waited += lookEveryMs) {
    yield* Effect.sleep(lookEveryMs)
    if (isInTouch()) return
  }
  return yield* refuse("timeout", `${member.name} was not in touch within ${Math.round(msMax / 1_000)} s`, "kos sync status")
})

const kinds = { unknown: "not-found", denied: "denied", busy: "degraded", unreachable: "failed", failed: "failed" } as const

const openedOr = (member: Member, opened: Opened): Effect.Effect<Exclude<Opened, { readonly _tag: "Refused" | "Absent" }>, Refusal> => {
  if (opened._tag === "Refused") return Effect.fail(refuse(kinds[opened.reason], opened.sentence, `kos service list ${member.name}`))
  return opened._tag === "Absent" ? Effect.fail(refuse("failed", `the connection to ${member.name} ended just now`, "kos sync status")) : Effect.succeed(opened)
}

const serviceRow = (mesh: MeshView, member: Member, rule: ServiceRule): OutputOf<"service.list">[number] => {
  const fault = rule.target === undefined ? `services.${rule.name}.target is not set` : rule.allow.length === 0 ? `services.${rule.name}.allow names nobody` : undefined
  return {
    node: member.name, device: member.device, name: rule.name, ...(rule.target === undefined ? {} : { target: targetText(rule.target) }), remote: rule.remote,
    allow: rule.allow.map(allowText), connectionsMax: rule.connectionsMax, idleSeconds: Math.round(rule.idleMs / 1_000),
    may: rule.target !== undefined && mayUseService(mesh.members, rule, mesh.vault.deviceId), ...(fault === undefined ? {} : { fault })
  }
}

/** One connection over a socket in the home; the stream of items ends with it. */
const overSocket = (daemon: DaemonView, member: Member, service: string, { stream: remote, counts }: Connected): Stream.Stream<Item, Refusal> =>
  Stream.callback<Item, Refusal>((queue) => Effect.acquireRelease(
    Effect.sync(() => {
      const name = `connect-${toHex(randomBytes(8))}.sock`
      removeStale(daemon.home)
      living.add(name)
      const at = socketAddress(daemon.home, name)
      const item = (state: Item["state"], sentence: string, more: Partial<Item> = {}): Item => ({ state, node: member.name, service, sentence, open: state === "closed" ? 0 : 1, ...more })
      const fail = (detail: string): void => {
        breakOff(remote, new Error(detail))
        Queue.failCauseUnsafe(queue, Cause.fail(refuse("failed", detail)))
      }
      const timer = setTimeout(() => fail("nobody came for the connection"), socketMsMax)
      const server: Server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (local) => {
        clearTimeout(timer)
        server.close()
        void joinStreams(local, remote).then((fault) => {
          if (fault !== undefined) return fail(`the connection to ${service} of ${member.name} broke: ${fault.message}`)
          Queue.offerUnsafe(queue, item("closed", `the connection to ${service} of ${member.name} ended`, { bytesIn: counts.in, bytesOut: counts.out }))
          Queue.endUnsafe(queue)
        })
      })
      server.maxConnections = 1
      server.on("error", (fault) => fail(`no socket could be opened: ${fault.message}`))
      server.listen(at.address, () => {
        chmodSync(at.address, 0o600)
        Queue.offerUnsafe(queue, item("ready", `connected to ${service} of ${member.name}`, { socket: name }))
      })
      return () => {
        clearTimeout(timer)
        server.close()
        breakOff(remote, new Error("the command that asked for it has ended"))
        living.delete(name)
        at.release()
      }
    }),
    (stop) => Effect.sync(stop)
  ), { bufferSize: itemsMax, strategy: "sliding" })

/** Connections to a port of this machine, each a stream of its own, for as long as the caller stays. */
const overPort = (member: Member, service: string, port: number, open: (probe: boolean) => Effect.Effect<Opened, Refusal>): Stream.Stream<Item, Refusal> =>
  Stream.callback<Item, Refusal>((queue) => Effect.acquireRelease(
    Effect.sync(() => {
      const locals = new Set<Socket>()
      const tell = (state: Item["state"], sentence: string, more: Partial<Item> = {}): void =>
        void Queue.offerUnsafe(queue, { state, node: member.name, service, sentence, open: locals.size, ...more })
      const accept = async (local: Socket): Promise<void> => {
        local.on("error", () => undefined)
        locals.add(local)
        local.on("close", () => locals.delete(local))
        const from = `${local.remoteAddress}:${local.remotePort}`
        const opened = await Effect.runPromise(Effect.result(open(false)))
        if (opened._tag === "Failure" || opened.success._tag !== "Opened") {
          breakOff(local, new Error("refused"))
          return tell("refused", opened._tag === "Failure" ? opened.failure.detail : "it was not opened")
        }
        const { stream, counts, carrier } = opened.success
        if (local.destroyed) return void stream.destroy()
        tell("opened", `${from} is connected to ${service} of ${member.name} by ${carrier}`)
        const fault = await joinStreams(local, stream)
        tell("closed", fault === undefined ? `${from} has ended` : `${from} was broken off: ${fault.message}`, { bytesIn: counts.in, bytesOut: counts.out })
      }
      const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (local) => void accept(local))
      server.maxConnections = listenConnectionsMax
      server.on("error", (fault: NodeJS.ErrnoException) => {
        Queue.failCauseUnsafe(queue, Cause.fail(refuse(fault.code === "EADDRINUSE" ? "conflict" : "failed", fault.code === "EADDRINUSE" ? `port ${port} of 127.0.0.1 is taken` : `port ${port} cannot be opened: ${fault.message}`)))
      })
      server.listen(port, "127.0.0.1", () => {
        const at = server.address()
        const address = `127.0.0.1:${typeof at === "object" && at !== null ? at.port : port}`
        tell("listening", `${service} of ${member.name} is at ${address}`, { address })
      })
      return () => {
        server.close()
        for (const local of locals) breakOff(local, new Error("the command that asked for it has ended"))
      }
    }),
    (stop) => Effect.sync(stop)
  ), { bufferSize: itemsMax, strategy: "sliding" })

const living = new Set<string>()

/** Left by a daemon that died. */
const removeStale = (home: string): void => {
  for (const name of readdirSync(socketDirectory(home))) {
    if (/^connect-[0-9a-f]{16}\.sock$/.test(name) && !living.has(name)) unlinkSync(`${socketDirectory(home)}/${name}`)
  }
}
