/**
 * Tunnels: TCP services of a node for other nodes, as streams inside the connection that the two have anyway; and pings on the same channel.
 *
 * What it owns. The channel `kos/tunnel` of one connection, opened when one side first wants something of the other, and only after both
 * were found to be members (`begin`). Its streams live as long as the connection; a new connection begins without any.
 *
 * How one stream travels. The asker sends `open` with the service's name. The server asks the rules (`services.admit`), then dials the target, and
 * answers `accepted` or `refused` with a sentence. Then each side sends what its program writes, ends its half when the program does, and
 * closes both when the program breaks off.
 *
 * Invariants
 * - Nothing is read from the target's host before the rules admitted the device; they are asked again after dialling, and for every open
 *   stream whenever membership or configuration changed (`review`): what they take away is cut in that turn.
 * - Of each stream at most `windowBytes` lie here in each direction, whoever reads slowly (tunnel-flow.ts).
 * - Streams take turns, a piece of 16 KiB each, and only while the connection has drained: what replication writes waits behind one piece at most.
 * - A message that breaks the rules ends the session; the device is named.
 *
 * Tricky cases
 * - What was under way when a stream closed still arrives: messages for a stream below the newest number are ignored when it is gone.
 * - The asker gives up while the target is dialled: its `close` finds the stream among those that are dialled.
 * - Both sides open the channel at once: Protomux makes one of the two. The other side is not ready yet: its consent waits for `begin`.
 * - The other side knows no tunnels: the channel is rejected, and everything asked is answered so.
 */
import { shortKey, toHex } from "../codec/bytes.ts"
import { randomBytes } from "../codec/signature.ts"
import { type GuardedMux, openWire, type Wire } from "./mux.ts"
import type { Admitted, Opened, Pinged, Services } from "./services.ts"
import { type Flow, makeFlow, StreamClosed } from "./tunnel-flow.ts"
import { joinStreams } from "./tunnel-join.ts"
import * as message from "./tunnel-wire.ts"
import type { CloseReason, RefusalReason, Told, TunnelOptions } from "./tunnel-wire.ts"
import { Reader, Writer } from "./wire.ts"

/** The connection that a tunnel lives in. */
export interface TunnelHost {
  readonly mux: GuardedMux
  readonly device: string
  readonly initiator: boolean
  readonly carrier: string
  readonly remote: string
  readonly isMember: () => boolean
}

/** What all tunnels of a node share: how many streams each service has. */
export type InUse = Map<string, number>

export interface Tunnel {
  /** Both are members and ready. */
  readonly begin: () => void
  readonly end: (told: Told<CloseReason>) => void
  /** Membership or configuration changed. */
  readonly review: () => void
  /** Undefined when no answer came in time. */
  readonly ping: (msMax: number) => Promise<Pinged | undefined>
  /** `probe` only asks whether it would be accepted. */
  readonly open: (service: string, probe: boolean) => Promise<Opened>
  readonly streams: () => number
}

interface Served {
  readonly flow: Flow
  readonly service: string
  readonly since: number
  target: string
  idleMs: number
  moved: number
  timer: NodeJS.Timeout | undefined
}

interface Dialling {
  readonly service: string
}

export const makeTunnel = (
  host: TunnelHost, services: Services, inUse: InUse, options: TunnelOptions, tick: () => number
): Tunnel => {
  const { mux, device } = host
  const protocol = "kos/tunnel"
  const flows = new Map<number, Flow>()
  const served = new Map<number, Served>()
  const dialling = new Map<number, Dialling>()
  const asked = new Map<number, { readonly probe: boolean; readonly service: string; readonly answer: (opened: Opened) => void }>()
  const pings = new Map<string, (ms: number | undefined) => void>()
  const queue: Array<Flow> = []
  const queued = new Set<Flow>()
  const opens = makeTokens(options.opensBurstMax, options.opensPerSecondMax, tick)
  const answers = makeTokens(options.pingsBurstMax, options.pingsPerSecondMax, tick)
  let phase: "early" | "begun" | "over" = "early"
  let wire: Wire | undefined
  let pumping = false
  let ours = host.initiator ? 0 : -1
  let theirs = host.initiator ? -1 : 0
  let settle: () => void = () => undefined
  const settled = new Promise<void>((resolve) => { settle = resolve })

  mux.pair({ protocol }, async () => {
    await settled
    channel()
  })

  const channel = (): Wire | undefined => {
    if (phase !== "begun") return undefined
    wire ??= openWire(mux, {
      protocol, bytesMax: message.messageBytesMax, onMessage, onFault: (fault) => mux.onFault(fault), onDrain: () => pump(),
      onClose: () => finish({ reason: "broken", sentence: "the connection of the two nodes ended" })
    })
    return wire
  }

  const onMessage = (type: number, bytes: Uint8Array): void => {
    if (phase !== "begun") return
    const reader = new Reader(`kos/tunnel message ${type}`, bytes)
    if (type === message.ping) return onPing(reader)
    if (type === message.pong) return onPong(reader)
    const id = message.readStream(reader)
    if (type === message.open) return onOpen(id, reader)
    if (id > (id % 2 === Math.abs(ours % 2) ? ours : theirs) || id < 1) throw reader.fault(`it is about the stream ${id}, which was never opened`)
    if (type === message.accepted) onAccepted(id, reader)
    else if (type === message.refused) onRefused(id, reader)
    else if (type === message.close) onClose(id, message.decodeTold(reader, message.closeReasons))
    else if (asked.has(id) || dialling.has(id)) throw reader.fault(`it came before the stream ${id} was accepted`)
    else onFlow(type, reader, flows.get(id))
  }

  const onFlow = (type: number, reader: Reader, flow: Flow | undefined): void => {
    if (type === message.data) {
      const bytes = reader.fixed(reader.left)
      if (bytes.byteLength === 0) throw reader.fault("it holds nothing")
      flow?.take(bytes)
      if (flow !== undefined) touch(flow)
    } else if (type === message.credit) {
      const bytes = reader.uint(Math.max(options.windowBytes, options.bulkWindowBytes))
      reader.end()
      flow?.takeCredit(bytes)
    } else {
      reader.end()
      flow?.takeEnd()
    }
  }

  const onPing = (reader: Reader): void => {
    const nonce = reader.fixed(message.nonceBytes)
    reader.end()
    if (answers(0) >= 0) wire?.send(message.pong, nonce)
  }

  const onPong = (reader: Reader): void => {
    const nonce = reader.hex(message.nonceBytes)
    reader.end()
    pings.get(nonce)?.(tick())
  }

  const onOpen = (id: number, reader: Reader): void => {
    const probe = reader.byte() === 1
    const service = reader.text(message.serviceBytesMax)
    reader.end()
    if (id <= theirs || id % 2 === Math.abs(ours % 2)) throw reader.fault(`it opens the stream ${id} after ${theirs}`)
    theirs = id
    const tokens = opens(4 * options.opensBurstMax)
    if (tokens < -4 * options.opensBurstMax) throw reader.fault(`more than ${5 * options.opensBurstMax} streams were asked for at once`)
    const told = mayOpen(service, tokens < 0)
    if ("reason" in told) {
      services.refused(service, device, told)
      return refuse(id, told)
    }
    if (probe) return void wire?.send(message.accepted, streamMessage(id))
    if (told.take === undefined) return void dial(id, service, told.target)
    use(service, 1)
    told.take(serve(id, service, told).duplex)
  }

  const mayOpen = (service: string, isHasty: boolean): Told<RefusalReason> | Admitted => {
    if (!host.isMember()) return { reason: "denied", sentence: "only members may use services" }
    const admission = services.admit(service, device)
    if (admission._tag === "Refused") return { reason: admission.reason, sentence: admission.sentence }
    if (isHasty) return { reason: "busy", sentence: `${service} was asked for too often; try again in a moment` }
    if (served.size + dialling.size >= options.streamsMax) return { reason: "busy", sentence: `${options.streamsMax} connections are open between the two nodes already` }
    if ((inUse.get(service) ?? 0) >= admission.streamsMax) return { reason: "busy", sentence: `${service} has all its ${admission.streamsMax} connections in use` }
    return admission
  }

  const dial = async (id: number, service: string, target: string): Promise<void> => {
    const mine: Dialling = { service }
    dialling.set(id, mine)
    use(service, 1)
    const release = (): void => {
      if (dialling.delete(id)) use(service, -1)
    }
    try {
      const program = await services.dial(service, target, options.dialMs)
      if (dialling.get(id) !== mine) return void program.destroy()
      const admission = host.isMember() ? services.admit(service, device) : undefined
      if (admission?._tag !== "Admitted" || admission.target !== target) {
        program.destroy()
        release()
        return refuse(id, { reason: "denied", sentence: `${service} was closed to this node just now` })
      }
      dialling.delete(id)
      void joinStreams(serve(id, service, admission).duplex, program)
    } catch (fault) {
      if (dialling.get(id) !== mine) return
      release()
      const told: Told<RefusalReason> = { reason: "unreachable", sentence: fault instanceof Error ? fault.message : String(fault) }
      services.refused(service, device, told)
      refuse(id, told)
    }
  }

  const serve = (id: number, service: string, { target, idleMs }: Admitted): Flow => {
    const flow = newFlow(id, service)
    const entry: Served = { flow, service, since: tick(), target, idleMs, moved: tick(), timer: undefined }
    served.set(id, entry)
    wire?.send(message.accepted, streamMessage(id))
    services.opened(service, device)
    watch(entry)
    return flow
  }

  const refuse = (id: number, told: Told<RefusalReason>): void => {
    wire?.send(message.refused, message.encodeTold(id, told, message.refusalReasons))
  }

  const use = (service: string, more: 1 | -1): void => {
    const count = (inUse.get(service) ?? 0) + more
    if (count > 0) inUse.set(service, count)
    else inUse.delete(service)
  }

  const onAccepted = (id: number, reader: Reader): void => {
    reader.end()
    const waiting = asked.get(id)
    if (waiting === undefined) {
      if (flows.has(id)) throw reader.fault(`the stream ${id} was accepted twice`)
      return
    }
    asked.delete(id)
    if (waiting.probe) return waiting.answer({ _tag: "Allowed" })
    const flow = newFlow(id, waiting.service)
    waiting.answer({ _tag: "Opened", stream: flow.duplex, counts: flow.counts, carrier: host.carrier, remote: host.remote })
  }

  const onRefused = (id: number, reader: Reader): void => {
    const told = message.decodeTold(reader, message.refusalReasons)
    const waiting = asked.get(id)
    asked.delete(id)
    waiting?.answer({ _tag: "Refused", ...told })
  }

  const onClose = (id: number, told: Told<CloseReason>): void => {
    const waiting = dialling.get(id)
    if (waiting !== undefined) {
      dialling.delete(id)
      use(waiting.service, -1)
    }
    flows.get(id)?.destroy(new StreamClosed(told, true))
  }

  const newFlow = (id: number, service: string): Flow => {
    const flow = makeFlow(id, service.startsWith(message.bulkPrefix) ? options.bulkWindowBytes : options.windowBytes, {
      wake: (woken) => {
        if (!queued.has(woken)) {
          queued.add(woken)
          queue.push(woken)
        }
        pump()
      },
      credit: (to, bytes) => wire?.send(message.credit, new Writer().uint(to.id).uint(bytes).take()),
      end: (ending) => wire?.send(message.end, streamMessage(ending.id)),
      gone: (over, why) => gone(over, why)
    })
    flows.set(id, flow)
    return flow
  }

  const gone = (flow: Flow, why: StreamClosed | undefined): void => {
    flows.delete(flow.id)
    if (why !== undefined && !why.isRemote && wire !== undefined && !wire.closed()) {
      wire.send(message.close, message.encodeTold(flow.id, why.told, message.closeReasons))
    }
    const entry = served.get(flow.id)
    if (entry === undefined) return
    served.delete(flow.id)
    clearTimeout(entry.timer)
    use(entry.service, -1)
    services.closed(entry.service, device, {
      bytesIn: flow.counts.in, bytesOut: flow.counts.out, ms: Math.max(0, tick() - entry.since), ...(why === undefined ? {} : { why: why.told })
    })
  }

  /** One piece of each stream in turn, as long as the connection takes them at once. */
  const pump = (): void => {
    if (pumping) return
    pumping = true
    while (wire !== undefined && !wire.closed() && wire.drained()) {
      const flow = queue.shift()
      if (flow === undefined) break
      queued.delete(flow)
      if (!flow.wants()) continue
      wire.send(message.data, streamMessage(flow.id), flow.next())
      touch(flow)
      flow.sent()
      if (flow.wants() && !queued.has(flow)) {
        queued.add(flow)
        queue.push(flow)
      }
    }
    pumping = false
  }

  const touch = (flow: Flow): void => {
    const entry = served.get(flow.id)
    if (entry !== undefined) entry.moved = tick()
  }

  /** Ends a served stream when nothing moved for its time; one timer for each, set anew when it was too early. */
  const watch = (entry: Served): void => {
    clearTimeout(entry.timer)
    const left = entry.moved + entry.idleMs - tick()
    if (left <= 0) return entry.flow.destroy(new StreamClosed({ reason: "idle", sentence: `nothing moved on ${entry.service} for ${Math.round(entry.idleMs / 1000)} s` }, false))
    entry.timer = setTimeout(() => watch(entry), Math.min(left + 1, timerMsMax))
  }

  const review = (): void => {
    if (served.size + dialling.size === 0) return
    const isMember = host.isMember()
    for (const [id, waiting] of [...dialling]) {
      if (isMember && services.admit(waiting.service, device)._tag === "Admitted") continue
      dialling.delete(id)
      use(waiting.service, -1)
      refuse(id, { reason: "denied", sentence: `${waiting.service} was closed to this node just now` })
    }
    for (const entry of [...served.values()]) {
      const admission = isMember ? services.admit(entry.service, device) : undefined
      if (admission?._tag === "Admitted" && admission.target === entry.target) {
        if (admission.idleMs === entry.idleMs) continue
        entry.idleMs = admission.idleMs
        watch(entry)
      } else {
        const sentence = admission === undefined ? "the device is a member no more" : admission._tag === "Refused" ? admission.sentence : `${entry.service} is another program now`
        entry.flow.destroy(new StreamClosed({ reason: "cut", sentence }, false))
      }
    }
  }

  const finish = (told: Told<CloseReason>): void => {
    if (phase === "over") return
    // Once more before the wire is put away: each stream says why it ends, if anybody still listens.
    for (const flow of [...flows.values()]) flow.destroy(new StreamClosed(told, false))
    phase = "over"
    for (const waiting of dialling.values()) use(waiting.service, -1)
    dialling.clear()
    for (const { answer } of asked.values()) answer({ _tag: "Absent" })
    asked.clear()
    for (const answer of pings.values()) answer(undefined)
    pings.clear()
    mux.unpair({ protocol })
    if (wire !== undefined && !wire.closed()) wire.close()
    settle()
  }

  return {
    begin: () => {
      if (phase !== "early") return
      phase = "begun"
      settle()
    },
    end: finish,
    review,
    ping: (msMax) => new Promise((resolve) => {
      const to = channel()
      const nonce = randomBytes(message.nonceBytes)
      const key = toHex(nonce)
      const begun = tick()
      if (to === undefined || pings.size >= options.pingsUnderwayMax) return resolve(undefined)
      const timer = setTimeout(() => pings.get(key)?.(undefined), msMax)
      pings.set(key, (now) => {
        clearTimeout(timer)
        pings.delete(key)
        resolve(now === undefined ? undefined : { ms: now - begun, carrier: host.carrier, remote: host.remote })
      })
      to.send(message.ping, nonce)
    }),
    open: (service, probe) => new Promise((resolve) => {
      const to = channel()
      if (to === undefined) return resolve({ _tag: "Absent" })
      if (asked.size + flows.size >= 2 * options.streamsMax) {
        return resolve({ _tag: "Refused", reason: "busy", sentence: `${asked.size + flows.size} connections are open with ${shortKey(device)} already` })
      }
      ours += 2
      const id = ours
      const timer = setTimeout(() => {
        if (!asked.delete(id)) return
        to.send(message.close, message.encodeTold(id, { reason: "broken", sentence: "it took too long" }, message.closeReasons))
        resolve({ _tag: "Refused", reason: "unreachable", sentence: `no answer about ${service} came within ${Math.round(options.openMs / 1000)} s` })
      }, options.openMs)
      asked.set(id, { probe, service, answer: (opened) => {
        clearTimeout(timer)
        resolve(opened)
      } })
      to.send(message.open, new Writer().uint(id).byte(probe ? 1 : 0).text(service).take())
    }),
    streams: () => flows.size
  }
}

const timerMsMax = 2 ** 31 - 1

const streamMessage = (id: number): Uint8Array => new Writer().uint(id).take()

/** Takes one and says how many are left; `debtMax` is how far it may fall below zero before it stops to count. */
const makeTokens = (burst: number, perSecond: number, tick: () => number): (debtMax: number) => number => {
  let left = burst
  let at = tick()
  return (debtMax) => {
    const now = tick()
    left = Math.max(-debtMax - 1, Math.min(burst, left + Math.max(0, now - at) * perSecond / 1_000) - 1)
    at = now
    return left
  }
}
