/**
 * The node among others: starts the carriers, gives each connection a session or a pairing, and keeps to what membership says now.
 *
 * It owns the sessions, the replication they share, and the mode. A connection travels: firewall (devices that were put out once a minute, to be
 * told why; unknown ones only as far as the introduction has room) → multiplexer → session, and beside it pairing while an invite is open → replication.
 *
 * Invariants: `isolated` leaves no carrier, session or open log; a device has at most `perDeviceMax` connections (the oldest goes); what membership
 * revokes is cut off in the turn in which it tells; a carrier that cannot start is a notice, not a failure of the node.
 */
import { shortKey } from "../codec/bytes.ts"
import { hashParts } from "../codec/hash.ts"
import { beyondCutBlocksMax } from "../projections/documents/limits.ts"
import { encodeHistory, type SignedHistory } from "../codec/history.ts"
import { hypercoreProofSource } from "../events/proof.ts"
import { auditSome, compareHistory, type Histories, type Report } from "./audit.ts"
import type { Carrier, CarrierStatus, Connection } from "./carrier.ts"
import { type ChannelLogs, makeChannels } from "./channels.ts"
import { makeDoor } from "./door.ts"
import { headsDefaults, type HeadsOptions } from "./heads.ts"
import type { Refusal, Told } from "./hello.ts"
import type { SwarmHost } from "./host.ts"
import { replicationDefaults, type ReplicationOptions } from "./limits.ts"
import { investigate } from "./investigate.ts"
import { discoveryKeyOf, makeLinks, type Links, type ServedRoom } from "./links.ts"
import { openMux, type GuardedMux } from "./mux.ts"
import {
  attemptPairing, type Candidate, makeWrongInvites, pairingDefaults, servePairing, type PairingOptions, type Redeem, type Redeemed
} from "./pairing.ts"
import type { Slowed } from "./quota.ts"
import { makeReplication, type PeerState, type Replication } from "./replication.ts"
import type { Opened, Pinged, Services } from "./services.ts"
import { sessionDefaults, startSession, type Session, type SessionOptions } from "./session.ts"
import { makeTunnels } from "./tunnels.ts"
import type { TunnelOptions } from "./tunnel-wire.ts"

export interface SwarmOptions {
  readonly now: () => number
  readonly mode?: SwarmMode
  readonly replication?: Partial<ReplicationOptions>
  readonly session?: Partial<SessionOptions>
  readonly heads?: Partial<HeadsOptions>
  readonly pairing?: Partial<PairingOptions>
  /** Connections of devices not known here that are looked at at a time. */
  readonly introductionsMax?: number
  /** A device that was put out may come to hear why once in this time; while an invite is open it may bring one every few seconds. */
  readonly dismissedEveryMs?: number
  readonly perDeviceMax?: number
  /** Members dialled beside the topic. */
  readonly dialMax?: number
  /** Logs compared by tree hash with each peer, and how long after it told its heads. */
  readonly auditLogsMax?: number
  readonly auditDelayMs?: number
  /** Where a member was last met, for the carriers that can use it. */
  readonly hint?: (device: string) => string | undefined
  /** What this node serves to others; without it there are no tunnels and no pings. */
  readonly services?: Services
  readonly tunnels?: Partial<TunnelOptions>
  /** Logs of channels of releases, exchanged with members who follow the same. */
  readonly channels?: ChannelLogs
  /** Milliseconds of a clock that only goes forward, for round trips; `now` when left out. */
  readonly tick?: () => number
  /** Redeems an invite that this node issued or knows; without it nobody can pair here. */
  readonly redeem?: Redeem
}

export type SwarmMode = "joined" | "isolated"

export interface SessionStatus {
  readonly device: string
  readonly carrier: string
  readonly remote: string
  readonly initiator: boolean
  readonly phase: string
  /** Version of the session protocol; 0 before the hello. */
  readonly version: number
  readonly caughtUp: boolean
  /** Logs that the peer holds more of than we do. */
  readonly ahead: number
  readonly openLogs: number
  readonly headsSent: number
  readonly headsReceived: number
}

/** The last time that a peer refused this node. */
export interface RefusedBy {
  readonly device: string
  /** Undefined when its kind is of a later version. */
  readonly refusal: Refusal | undefined
  /** As the peer wrote it, for this node's person. */
  readonly sentence: string
  readonly at: number
}

export interface Swarm {
  readonly start: () => Promise<void>
  readonly stop: () => Promise<void>
  readonly mode: () => SwarmMode
  readonly setMode: (mode: SwarmMode) => Promise<void>
  /** No log is downloaded or served; membership and heads go on. */
  readonly pause: () => void
  readonly resume: () => void
  readonly paused: () => boolean
  /** Forgets back-off, asks every peer again, dials remembered ones. */
  readonly syncNow: () => void
  /** True once at least `peersMin` peers (default 1) are in touch, have told all their heads, and hold nothing that we lack; false after `timeoutMs`. */
  readonly waitSynced: (timeoutMs: number, peersMin?: number) => Promise<boolean>
  readonly sessions: () => ReadonlyArray<SessionStatus>
  /** Peers that refused this node and have not taken it since, the latest first. */
  readonly refusals: () => ReadonlyArray<RefusedBy>
  /** Logs whose authors write faster than their quota. */
  readonly slowed: () => ReadonlyArray<Slowed>
  readonly carriers: () => ReadonlyArray<CarrierStatus>
  readonly downloading: () => { readonly logs: number; readonly waiting: number }
  /** Downloads the tail of our own log that peers hold, before the first append; resolves with the length then held. */
  readonly healOwn: (length: number, timeoutMs: number) => Promise<number>
  /** Round trip to a device in touch; undefined when it is not, or did not answer in time. */
  readonly ping: (device: string, timeoutMs: number) => Promise<Pinged | undefined>
  /** A stream to a service of a device in touch; `probe` only asks whether there would be one. */
  readonly connect: (device: string, service: string, probe?: boolean) => Promise<Opened>
  /** Meet candidates of this invite until it is closed. */
  readonly openInvite: (invitePublicKey: Uint8Array) => Promise<void>
  readonly closeInvite: (invitePublicKey: Uint8Array) => Promise<void>
  /** The candidate's side of an invite; `undefined` when nobody was met in time. */
  readonly pair: (invitePublicKey: Uint8Array, side: Candidate, timeoutMs: number) => Promise<Redeemed | undefined>
}

/** Peers whose refusals are remembered. */
const refusalsMax = 256
/** Refusals that pass by themselves say nothing about this node. */
const passing: ReadonlySet<Refusal> = new Set(["stopping", "isolated", "busy"])
const dismissedEveryMs = 60_000
const invitedEveryMs = 5_000
/** A connection is kept for so long after an answer to a candidate was sent; the candidate ends it when it has all. */
const answerBytesPerMs = 64

/** Histories compared at a time. */
const provingMax = 16

export const meshTopic = (meshKey: Uint8Array): Uint8Array => hashParts("kos/topic/1", meshKey)
export const pairingTopic = (invitePublicKey: Uint8Array): Uint8Array => hashParts("kos/pairing-topic/1", invitePublicKey)

interface Open {
  readonly session: Session
  readonly links: Links
  readonly since: number
  /** A person here is asked about the candidate at the other end. */
  readonly waits: () => boolean
  state: PeerState | undefined
  audit: NodeJS.Timeout | undefined
}

export const makeSwarm = (host: SwarmHost, makeCarriers: () => ReadonlyArray<Carrier>, options: SwarmOptions): Swarm => {
  const replicationOptions: ReplicationOptions = { ...replicationDefaults, now: options.now, ...options.replication }
  const headsOptions: HeadsOptions = { ...headsDefaults, ...options.heads }
  const sessionOptions: SessionOptions = { ...sessionDefaults, heads: headsOptions, ...options.session }
  const pairingOptions: PairingOptions = { ...pairingDefaults, ...options.pairing }
  const introductionsMax = options.introductionsMax ?? 8
  const perDeviceMax = options.perDeviceMax ?? 2
  const dialMax = options.dialMax ?? 64
  const wrong = makeWrongInvites(pairingOptions, options.now)
  const room: ServedRoom = { count: 0 }
  const tunnels = options.services === undefined ? undefined : makeTunnels(host, options.services, options.tunnels ?? {}, options.tick ?? options.now)
  const channels = options.channels === undefined ? undefined : makeChannels(host, options.channels)
  const open = new Set<Open>()
  const invites = new Map<string, Uint8Array>()
  /** Logs whose histories are being compared at the moment. */
  const proving = new Set<string>()
  const dialled = new Set<string>()
  const refusals = new Map<string, RefusedBy>()
  const door = makeDoor(options.now, () => Math.min(options.dismissedEveryMs ?? dismissedEveryMs, invites.size > 0 ? invitedEveryMs : Infinity))
  let logs = new Map<string, string>()
  let limits = new Map<string, number>()
  let discovery = new Map<string, string>()
  let carriers: ReadonlyArray<Carrier> = []
  let replication: Replication | undefined
  let unsubscribe: () => void = () => undefined
  let candidate: ((connection: Connection, mux: GuardedMux) => void) | undefined
  let mode: SwarmMode = options.mode ?? "joined"
  let started = false
  let paused = false

  /** Discovery keys cost a hash each: only new logs are hashed. */
  const readMembership = (): void => {
    const before = new Map([...discovery].map(([key, log]) => [log, key]))
    const list = host.membership.logs()
    logs = new Map(list.map(({ log, device }) => [log, device]))
    limits = new Map(list.flatMap(({ log, cutAt }) => cutAt === undefined ? [] : [[log, cutAt + beyondCutBlocksMax]]))
    discovery = new Map(list.map(({ log }) => [before.get(log) ?? discoveryKeyOf(log), log]))
  }

  const limitOf = (log: string): number => limits.get(log) ?? Number.MAX_SAFE_INTEGER

  /** Those who wait for a person take nobody's place. */
  const introductions = (): number => [...open].filter(({ session, waits }) =>
    session.phase() !== "ready" && !waits() && host.membership.standing(session.device) !== "member").length

  const firewall = (device: string): boolean => {
    if (device === host.device) return false
    if (candidate !== undefined) return true
    const standing = host.membership.standing(device)
    if (standing === "member") return true
    return introductions() < introductionsMax && (standing === "unknown" || door.isOpen(device))
  }

  const onConnection = (connection: Connection): void => {
    if (!started || mode === "isolated" || !firewall(connection.device)) return connection.destroy()
    if (host.membership.standing(connection.device) === "revoked") door.enter(connection.device)
    const mux = openMux(connection.stream, (fault) => {
      host.notice("warn", `${shortKey(connection.device)} (${connection.carrier} ${connection.remote}) sent malformed bytes: ${fault.message}`, { device: connection.device })
    })
    // A node that was put out of this mesh has nothing to say to its members but that it wants to come back.
    const pairs = host.membership.standing(connection.device) !== "member" || host.membership.standing(host.device) !== "member"
    if (candidate !== undefined && pairs) return candidate(connection, mux)
    begin(connection, mux)
  }

  const begin = (connection: Connection, mux: GuardedMux): void => {
    const device = connection.device
    const links = makeLinks(host, mux, device, replicationOptions, room, (key) => discovery.get(key))
    mux.servedTo = (key) => limitOf(discovery.get(key) ?? "")
    const serves = invites.size > 0 && options.redeem !== undefined && host.membership.standing(device) !== "member"
    const pairing = serves && options.redeem !== undefined
      ? servePairing(connection, mux, pairingOptions, wrong, options.redeem, host.notice)
      : undefined
    const session = startSession(host, connection, mux, sessionOptions, {
      pairing: () => pairing?.busy() ?? false,
      onRefused: (told) => remember(device, told),
      onReady: () => {
        ready(entry)
        tunnel?.begin()
        exchange?.begin()
      },
      heads: {
        known: (log) => logs.has(log),
        limitOf,
        onHead: (log, length, fork) => {
          if (fork !== 0) void suspect(entry, log, `it tells of fork ${fork}`)
          else if (entry.state !== undefined) replication?.offer(entry.state, log, length)
        },
        onPace: (serving, bytesPerSecond) => {
          if (entry.state !== undefined) replication?.setPace(entry.state, serving, bytesPerSecond)
        },
        onCaughtUp: () => {
          if (entry.state !== undefined) replication?.caughtUp(entry.state)
          compare(entry)
        },
        treeHash: (log, length) => treeHash(links, log, length),
        history: async (log, length) => {
          const found = await history(links, log, length)
          return found === undefined ? undefined : encodeHistory(found)
        }
      }
    })
    const entry: Open = { session, links, since: options.now(), waits: () => pairing?.waiting() ?? false, state: undefined, audit: undefined }
    const tunnel = tunnels?.add(session)
    const exchange = channels?.add(session)
    open.add(entry)
    void pairing?.done.then(() => setTimeout(() => {
      if (session.phase() === "hello") session.end(undefined, "the pairing is over")
    }, sessionOptions.farewellMs + Math.ceil(pairing.answerBytes() / answerBytesPerMs)))
    void session.ended.then(async ({ refusal }) => {
      if (refusal === "revoked") door.enter(device)
      open.delete(entry)
      clearTimeout(entry.audit)
      pairing?.end()
      if (entry.state !== undefined) {
        replication?.remove(entry.state)
        if (![...open].some((other) => other.session.device === device && other.session.phase() === "ready")) {
          host.receipts.touched(device, connection.carrier, false, connection.remote)
        }
      }
      await links.close()
    })
    crowd(device)
  }

  const remember = (device: string, told: Told): void => {
    if (told.refusal !== undefined && passing.has(told.refusal)) return
    refusals.delete(device)
    const oldest = refusals.keys().next().value
    if (refusals.size >= refusalsMax && oldest !== undefined) refusals.delete(oldest)
    refusals.set(device, { device, ...told, at: options.now() })
  }

  /** Of too many connections to one device the oldest goes. */
  const crowd = (device: string): void => {
    const same = [...open].filter(({ session }) => session.device === device).sort((a, b) => a.since - b.since)
    for (const entry of same.slice(0, Math.max(0, same.length - perDeviceMax))) entry.session.end("busy", "a newer connection took its place")
  }

  const ready = (entry: Open): void => {
    if (replication === undefined) return
    const { session, links } = entry
    refusals.delete(session.device)
    const state = replication.add({ device: session.device, links, probe: session.heads.probe })
    entry.state = state
    links.setServing(!paused)
    host.receipts.touched(session.device, session.connection.carrier, true, session.connection.remote)
    queueMicrotask(() => session.heads.pace(!paused, replicationOptions.upBytesPerSecondMax))
    for (const { log, length } of host.receipts.holdings(session.device)) if (logs.has(log)) replication.offer(state, log, length)
  }

  /**
   * Our own log is the one whose rewriting would hurt most: compared with every peer that holds some of it, as soon as it told its heads.
   * A few others are compared later, when catching up is over.
   */
  const compare = (entry: Open): void => {
    const { device } = entry.session
    const histories = historiesOf(entry)
    const report: Report = (log, length, detail) => prove(entry, log, length, detail)
    const own = host.logs.own()
    const held = host.receipts.holdings(device).find(({ log }) => log === own)?.length ?? 0
    if (held > 0 && held <= ourLength(own)) void compareHistory(host, histories, report, own, held).catch(() => undefined)
    entry.audit = setTimeout(() => {
      void auditSome(host, histories, report, options.auditLogsMax ?? 8, ourLength).catch(() => undefined)
    }, options.auditDelayMs ?? 10_000)
  }

  const ourLength = (log: string): number => replication?.ourLength(log) ?? 0

  const historiesOf = (entry: Open): Histories => ({
    device: entry.session.device, ours: (log, length) => treeHash(entry.links, log, length), theirs: entry.session.heads.probe
  })

  /** What a peer sends does not fit our copy: is it another history? The greatest length that both hold tells. */
  const suspect = async (entry: Open, log: string, detail: string): Promise<void> => {
    const { device } = entry.session
    const theirs = host.receipts.holdings(device).find((held) => held.log === log)?.length ?? 0
    const length = Math.min(theirs, ourLength(log))
    const same = length === 0 || await compareHistory(host, historiesOf(entry), (_log, at) => prove(entry, log, at, detail), log, length).catch(() => true)
    if (same) host.logs.diverged(log, device, detail)
  }

  const prove = async (entry: Open, log: string, length: number, detail: string): Promise<void> => {
    const { device } = entry.session
    if (proving.has(log) || proving.size >= provingMax) return
    proving.add(log)
    try {
      const proven = await investigate(historiesOf(entry), {
        ours: (asked, at) => history(entry.links, asked, at), theirs: entry.session.heads.history
      }, log, length)
      if (typeof proven === "string") host.logs.diverged(log, device, `${detail}; it cannot be proven: ${proven}`)
      else host.logs.diverged(log, device, detail, proven)
    } finally {
      proving.delete(log)
    }
  }

  const history = async (links: Links, log: string, length: number): Promise<SignedHistory | undefined> => {
    const link = await links.acquire(log)
    try {
      return link.log.contiguousLength < length ? undefined : await hypercoreProofSource(link.log)?.history(length)
    } finally {
      link.release()
    }
  }

  /** Kept open for a moment: a probe is mostly followed by a download. */
  const treeHash = async (links: Links, log: string, length: number): Promise<Uint8Array | undefined> => {
    const link = await links.acquire(log)
    const found = link.log.contiguousLength < length ? undefined : await link.log.treeHash(length).catch(() => undefined)
    if (links.open() > replicationOptions.servedMax) link.release()
    else setTimeout(() => link.release(), replicationOptions.lingerMs)
    return found
  }

  const onMembership = (): void => {
    readMembership()
    for (const { session } of [...open]) session.review()
    tunnels?.review()
    replication?.review()
    dial()
  }

  const dial = (): void => {
    if (mode === "isolated" || !started) return
    const members = new Set([...logs.values()].filter((device) => device !== host.device && host.membership.standing(device) === "member"))
    for (const device of [...dialled]) {
      if (members.has(device)) continue
      dialled.delete(device)
      for (const carrier of carriers) carrier.forget(device)
    }
    for (const device of members) {
      if (dialled.has(device) || dialled.size >= dialMax) continue
      dialled.add(device)
      const hint = options.hint?.(device)
      for (const carrier of carriers) {
        if (hint === undefined) carrier.dial(device)
        else carrier.dial(device, hint)
      }
    }
  }

  const connect = async (): Promise<void> => {
    replication = makeReplication(host, replicationOptions, {
      deviceOf: (log) => logs.get(log), limitOf, logsOf: (device) => [...logs].flatMap(([log, owner]) => owner === device ? [log] : [])
    }, (log, device, detail) => {
      const entry = [...open].find(({ session }) => session.device === device && session.phase() === "ready")
      if (entry === undefined) host.logs.diverged(log, device, detail)
      else void suspect(entry, log, detail)
    })
    if (paused) replication.pause()
    carriers = makeCarriers()
    await Promise.all(carriers.map(async (carrier) => {
      try {
        await carrier.start({ keyPair: host.keyPair, firewall, onConnection, onNotice: (text) => host.notice("info", text, { carrier: carrier.name }) })
        await carrier.join(meshTopic(host.mesh.key))
        for (const key of invites.values()) await carrier.join(pairingTopic(key))
      } catch (fault) {
        host.notice("warn", `the carrier ${carrier.name} did not start: ${fault instanceof Error ? fault.message : String(fault)}`)
      }
    }))
    dial()
  }

  const disconnect = async (refusal: "stopping" | "isolated"): Promise<void> => {
    for (const { session } of [...open]) session.end(refusal, "")
    const ending = [...open].map(({ session }) => session.connection.closed)
    await Promise.all([...ending, replication?.stop()])
    replication = undefined
    await Promise.all(carriers.map((carrier) => carrier.stop()))
    carriers = []
    dialled.clear()
  }

  const joinAll = async (topic: Uint8Array): Promise<void> => {
    await Promise.all(carriers.map((carrier) => carrier.join(topic)))
  }

  const leaveAll = async (topic: Uint8Array): Promise<void> => {
    await Promise.all(carriers.map((carrier) => carrier.leave(topic)))
  }

  const synced = (peersMin: number): boolean => {
    const inTouch = [...open].filter(({ session }) => session.phase() === "ready")
    return inTouch.length >= peersMin && inTouch.every(({ session }) => session.heads.caughtUp()) && (replication?.idle() ?? true)
  }

  const setPaused = (value: boolean): void => {
    paused = value
    if (paused) replication?.pause()
    else replication?.resume()
    channels?.setServing(!paused)
    for (const { session, links } of open) {
      links.setServing(!paused && session.phase() === "ready")
      session.heads.pace(!paused, replicationOptions.upBytesPerSecondMax)
    }
  }

  return {
    start: async () => {
      if (started) return
      started = true
      readMembership()
      unsubscribe = host.membership.onChange(onMembership)
      channels?.start()
      if (mode === "joined") await connect()
    },
    stop: async () => {
      if (!started) return
      started = false
      unsubscribe()
      channels?.stop()
      await disconnect("stopping")
    },
    mode: () => mode,
    setMode: async (next) => {
      if (next === mode) return
      mode = next
      if (!started) return
      if (mode === "isolated") await disconnect("isolated")
      else await connect()
    },
    pause: () => setPaused(true),
    resume: () => setPaused(false),
    paused: () => paused,
    syncNow: () => {
      for (const { session } of open) session.heads.ask()
      replication?.now()
      dialled.clear()
      dial()
    },
    waitSynced: (timeoutMs, peersMin = 1) => new Promise((resolve) => {
      const until = options.now() + timeoutMs
      const look = (): void => {
        const reached = synced(peersMin)
        if (!reached && options.now() < until) return
        clearInterval(timer)
        resolve(reached)
      }
      const timer = setInterval(look, 20)
      look()
    }),
    sessions: () => [...open].map(({ session, links, state }) => ({
      device: session.device,
      carrier: session.connection.carrier,
      remote: session.connection.remote,
      initiator: session.connection.initiator,
      phase: session.phase(),
      version: session.version(),
      caughtUp: session.heads.caughtUp(),
      ahead: state?.ahead.size ?? 0,
      openLogs: links.open(),
      headsSent: session.heads.counts.sent,
      headsReceived: session.heads.counts.received
    })),
    refusals: () => [...refusals.values()].reverse(),
    slowed: () => replication?.slowed() ?? [],
    carriers: () => carriers.map((carrier) => carrier.status()),
    downloading: () => ({ logs: replication?.downloading() ?? 0, waiting: replication?.waiting() ?? 0 }),
    healOwn: async (length, timeoutMs) => replication === undefined ? 0 : await replication.heal(length, timeoutMs),
    ping: async (device, timeoutMs) => await tunnels?.ping(device, timeoutMs),
    connect: async (device, service, probe = false) => await tunnels?.open(device, service, probe) ?? { _tag: "Absent" },
    openInvite: async (key) => {
      invites.set(Buffer.from(key).toString("hex"), key)
      await joinAll(pairingTopic(key))
    },
    closeInvite: async (key) => {
      invites.delete(Buffer.from(key).toString("hex"))
      await leaveAll(pairingTopic(key))
    },
    pair: async (key, side, timeoutMs) => {
      if (candidate !== undefined) return { refused: "busy", detail: "another invite is being redeemed here" }
      const topic = pairingTopic(key)
      try {
        const attempt = attemptPairing(pairingOptions, side, timeoutMs)
        candidate = attempt.onConnection
        joinAll(topic).catch((fault: unknown) => host.notice("warn", `the invite's topic could not be joined: ${String(fault)}`))
        return await attempt.found
      } finally {
        candidate = undefined
        await leaveAll(topic).catch(() => undefined)
      }
    }
  }
}
