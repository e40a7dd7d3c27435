/**
 * Channel logs between two members: whoever follows the same channel of releases as the peer exchanges its log with it.
 *
 * What it owns. The channel `kos/channels` of one connection, opened when one side follows something and both were found to be members, and the
 * Hypercore sessions of channel logs that are open for this connection. A channel log is none of the mesh's logs: it has no author among the members, no
 * heads, no receipts and no quota, and everybody who follows it serves it, whatever its role.
 *
 * How one block travels. Each side tells which channel logs it follows (`have`: discovery key and the signed history that it holds). Who holds at least as
 * much of one as the other told compares: equal histories are `agreed`, and both tie the log to the connection; different ones are shown (`differs`).
 * Then Hypercore takes everything, from the first block on, and goes on with what is appended later. Growth is told again by `have`.
 *
 * Invariants
 * - R1.8: two histories that the log's own key signed and that differ at one length are a fork; it is handed to `forked` with its proof, and the log is
 *   tied to no connection any more. What is not signed proves nothing: such a peer is left for this log, and nothing is held against the log.
 * - R1.7: a log has at most `channelBlocksMax` blocks of `channelBlockBytesMax` bytes. Both are judged by what Hypercore has verified, so that no peer can
 *   make us leave a good log; of what is not verified yet only `wireBlockBytesMax` bytes are looked at.
 * - A log is tied to a connection only after the histories were compared: Hypercore closes a log for good when it finds the conflict by itself.
 * - What is shorter at the peer, or cut off, does no harm: nothing that is held here is given up.
 * - All ends with the session, in the turn in which membership ends it; the wire guard checks these channels like all others (`mux.ts`).
 *
 * Tricky cases
 * - `agreed` goes out before the log is tied here: the other side ties it in the turn in which it reads that, so that Hypercore's own channel finds both ready.
 * - Both lengths move while the messages travel: a copy never gets shorter, so whoever told more can still judge what the other told.
 * - A log is followed later than the peer told of it: what was told is kept, bounded, and looked at then.
 * - The store was closed and opened again (full disk): the session of the log ends, and the log is begun anew.
 */
import { shortKey } from "../codec/bytes.ts"
import { checkHistory, contradiction, decodeHistory, encodeHistory, historyBytesMax, type SignedHistory } from "../codec/history.ts"
import { hypercoreProofSource } from "../events/proof.ts"
import type { ReplicatedLog, SwarmHost } from "./host.ts"
import type { Proven } from "./investigate.ts"
import { discoveryKeyOf } from "./links.ts"
import { openWire, type Wire } from "./mux.ts"
import type { Session } from "./session.ts"
import { Reader, Writer } from "./wire.ts"

/** Blocks of a channel's log. */
export const channelBlocksMax = 65_536
/** Bytes of one of its blocks. */
export const channelBlockBytesMax = 65_536
/** Channels that one node follows or publishes. */
export const channelsMax = 64

/** The channel logs of this home; boot gives the same to the swarm of each mesh. */
export interface ChannelLogs {
  /** Those that are followed or published here and not stopped, 64 hex digits each, at most `channelsMax`. */
  readonly keys: () => ReadonlyArray<string>
  /** Opens a Hypercore session with forks refused; the caller closes it. */
  readonly open: (key: string) => Promise<ReplicatedLog>
  /** Keys came or went, or a log has grown; returns the unsubscribe. */
  readonly onChange: (listener: () => void) => () => void
  /** The log's key has signed two histories. From now on it is not among `keys`. */
  readonly forked: (key: string, device: string, proven: Proven | undefined) => void
  /** What the log's key has signed is beyond the limits. From now on it is not among `keys`. */
  readonly tooLarge: (key: string, why: string) => void
}

export interface Channels {
  readonly start: () => void
  /** One for each session; it begins when the session is ready and ends with it. */
  readonly add: (session: Session) => { readonly begin: () => void }
  /** May logs be exchanged now? */
  readonly setServing: (serving: boolean) => void
  readonly stop: () => void
}

const have = 0
const gone = 1
const agreed = 2
const differs = 3

const protocol = "kos/channels"
const idBytes = 32
/** What one peer may tell of that is not followed here. */
const toldMax = 4 * channelsMax
/** Messages that a peer may send within a tick, and bytes that may wait for their turn. */
const messagesPerTickMax = 1_024
const pendingBytesMax = 1_048_576
/** A block that was not verified yet; Hypercore itself would take 15 MiB. */
const wireBlockBytesMax = 1_048_576
const tickMs = 1_000
/** Growth is told again at most this often. */
const growMs = 100

interface Entry {
  readonly key: string
  readonly id: string
  log: ReplicatedLog | undefined
  opening: Promise<void> | undefined
  range: { destroy(): void } | undefined
  /** Length that we told last; -1 before. */
  told: number
  /** The histories were compared. */
  agreed: boolean
  /** What this peer says of this log is not believed any more. */
  left: boolean
  closed: boolean
}

export const makeChannels = (host: Pick<SwarmHost, "notice">, logs: ChannelLogs): Channels => {
  const all = new Set<{ readonly sync: () => void; readonly end: () => void }>()
  let serving = true
  let unsubscribe: () => void = () => undefined
  return {
    start: () => {
      unsubscribe()
      unsubscribe = logs.onChange(() => {
        for (const exchange of [...all]) exchange.sync()
      })
    },
    add: (session) => {
      const exchange = makeExchange(host, logs, session, () => serving)
      all.add(exchange)
      void session.ended.then(() => {
        all.delete(exchange)
        exchange.end()
      })
      return { begin: exchange.begin }
    },
    setServing: (value) => {
      serving = value
      for (const exchange of [...all]) exchange.sync()
    },
    stop: () => {
      unsubscribe()
      for (const exchange of [...all]) exchange.end()
      all.clear()
    }
  }
}

const makeExchange = (host: Pick<SwarmHost, "notice">, logs: ChannelLogs, session: Session, isServing: () => boolean) => {
  const { mux, device } = session
  const entries = new Map<string, Entry>()
  /** What the peer told, by discovery key: the encoded history, empty when it holds nothing. */
  const theirs = new Map<string, Uint8Array>()
  let phase: "early" | "begun" | "over" = "early"
  let wire: Wire | undefined
  let refused = false
  let messages = 0
  let pendingBytes = 0
  let tail: Promise<void> = Promise.resolve()
  let growing: NodeJS.Timeout | undefined
  let ticking: NodeJS.Timeout | undefined
  let settle: () => void = () => undefined
  const settled = new Promise<void>((resolve) => { settle = resolve })

  mux.pair({ protocol }, async () => {
    await settled
    if (channel() !== undefined) sync()
  })
  mux.accepts = (id, message) => accepts(id, message)

  const channel = (): Wire | undefined => {
    if (phase !== "begun" || refused) return undefined
    if (wire !== undefined) return wire
    wire = openWire(mux, {
      protocol, bytesMax: [idBytes + historyBytesMax, idBytes, idBytes, idBytes + historyBytesMax],
      onMessage, onFault: (fault) => mux.onFault(fault),
      // Also by a node of an earlier version, which knows nothing of channels.
      onClose: () => { refused = true }
    })
    if (wire !== undefined) ticking = setInterval(tick, tickMs)
    return wire
  }

  const onMessage = (type: number, bytes: Uint8Array): void => {
    if (phase !== "begun") return
    const reader = new Reader(`kos/channels message ${type}`, bytes.slice())
    messages += 1
    pendingBytes += bytes.byteLength
    if (messages > messagesPerTickMax || pendingBytes > pendingBytesMax) throw reader.fault("too many messages at once")
    const id = reader.hex(idBytes)
    const rest = reader.fixed(reader.left)
    // In this turn, without waiting for those before: Hypercore's own channel comes right after it.
    if (type === have && (theirs.has(id) || theirs.size < toldMax)) theirs.set(id, rest)
    if (type === agreed) onAgreed(id)
    else tail = tail.then(() => handle(type, id, rest)).catch((fault: unknown) => failed(id, fault)).then(() => { pendingBytes -= bytes.byteLength })
  }

  const handle = async (type: number, id: string, bytes: Uint8Array): Promise<void> => {
    if (phase === "over") return
    const entry = entries.get(id)
    if (type === gone) {
      theirs.delete(id)
      if (entry !== undefined) untie(entry)
    } else if (type === have && entry !== undefined) {
      await judge(entry)
    } else if (type === differs && entry !== undefined) {
      await meet(entry, bytes)
    }
  }

  const failed = (id: string, fault: unknown): void => {
    host.notice("warn", `a channel's log could not be exchanged with ${shortKey(device)}: ${fault instanceof Error ? fault.message : String(fault)}`, { device, channel: id })
  }

  /** Opens what is followed now and was not, ends what is followed no more, and tells both. */
  const sync = (): void => {
    if (phase !== "begun") return
    const keys = isServing() ? logs.keys().slice(0, channelsMax) : []
    if (keys.length === 0 && entries.size === 0) return
    if (channel() === undefined) return
    const wanted = new Map(keys.map((key) => [discoveryKeyOf(key), key]))
    for (const entry of [...entries.values()]) if (!wanted.has(entry.id)) drop(entry)
    for (const [id, key] of wanted) if (!entries.has(id)) begin(key, id)
    growing ??= setTimeout(() => {
      growing = undefined
      for (const entry of entries.values()) tail = tail.then(() => tell(entry)).catch((fault: unknown) => failed(entry.id, fault))
    }, growMs)
  }

  const begin = (key: string, id: string): void => {
    const entry: Entry = { key, id, log: undefined, opening: undefined, range: undefined, told: -1, agreed: false, left: false, closed: false }
    entries.set(id, entry)
    entry.opening = (async () => {
      const log = await logs.open(key)
      if (entry.closed) return await log.close()
      entry.log = log
      log.on("close", () => {
        // Not by us: the store was opened anew, or Hypercore has found a conflict.
        if (entry.closed) return
        drop(entry)
        sync()
      })
      log.on("append", () => measure(entry))
      log.on("download", (_index: number, bytes: number) => {
        // R1.7: Hypercore has verified this block, so its size is the publisher's word.
        if (bytes > channelBlockBytesMax) logs.tooLarge(key, `a block of ${bytes} bytes, at most ${channelBlockBytesMax} are allowed`)
      })
      log.on("conflict", () => logs.forked(key, device, undefined))
      measure(entry)
    })()
    tail = tail.then(() => entry.opening).then(() => tell(entry)).then(() => judge(entry)).catch((fault: unknown) => {
      failed(id, fault)
      drop(entry)
    })
  }

  /** R1.7: what a log may weigh is known before it is taken. */
  const measure = ({ key, log }: Entry): void => {
    if (log !== undefined && log.length > channelBlocksMax) logs.tooLarge(key, `${log.length} blocks, at most ${channelBlocksMax} are allowed`)
  }

  const tell = async (entry: Entry): Promise<void> => {
    const { log } = entry
    if (log === undefined || entry.closed || wire === undefined || log.contiguousLength === entry.told) return
    const length = log.contiguousLength
    const history = await historyAt(log, length)
    if (entry.closed || (length > 0 && history === undefined)) return
    entry.told = length
    wire.send(have, new Writer().hex(entry.id).fixed(history === undefined ? new Uint8Array(0) : encodeHistory(history)).take())
    // What could not be judged at the length of before may be judged now.
    await judge(entry)
  }

  /** Compares what the peer told with what is held here, if that is at least as much. */
  const judge = async (entry: Entry): Promise<void> => {
    const told = theirs.get(entry.id)
    const { log } = entry
    if (told === undefined || log === undefined || entry.closed || entry.left || entry.told < 0) return
    if (told.byteLength === 0) return agree(entry)
    const history = readHistory(entry, told)
    if (history === undefined || history.length > log.contiguousLength) return
    const ours = await historyAt(log, history.length)
    if (ours === undefined || entry.closed || entry.left) return
    if (contradiction(entry.key, ours, history) === undefined) return agree(entry)
    wire?.send(differs, new Writer().hex(entry.id).fixed(encodeHistory(ours)).take())
    logs.forked(entry.key, device, { length: history.length, histories: [encodeHistory(ours), told] })
  }

  /** The peer holds another history than the one that we told of. */
  const meet = async (entry: Entry, shown: Uint8Array): Promise<void> => {
    const { log } = entry
    const history = log === undefined || entry.left ? undefined : readHistory(entry, shown)
    if (log === undefined || history === undefined || history.length > log.contiguousLength) return
    const ours = await historyAt(log, history.length)
    if (ours === undefined || entry.closed) return
    if (contradiction(entry.key, ours, history) === undefined) return leave(entry, "shows the same history as another one")
    logs.forked(entry.key, device, { length: history.length, histories: [encodeHistory(ours), shown] })
  }

  /** R1.8: only what the log's own key has signed counts, for it or against it. */
  const readHistory = (entry: Entry, bytes: Uint8Array): SignedHistory | undefined => {
    const history = decodeHistory(bytes)
    if (history === undefined || checkHistory(entry.key, history) === undefined) {
      leave(entry, "tells of a history that the log's key has not signed")
      return undefined
    }
    if (history.signedLength <= channelBlocksMax) return history
    logs.tooLarge(entry.key, `${history.signedLength} blocks, at most ${channelBlocksMax} are allowed`)
    return undefined
  }

  const leave = (entry: Entry, why: string): void => {
    if (entry.left) return
    entry.left = true
    untie(entry)
    host.notice("warn", `the channel log ${shortKey(entry.key)} is not exchanged with ${shortKey(device)}: it ${why}`, { device, log: entry.key })
  }

  const agree = (entry: Entry): void => {
    if (!entry.agreed) wire?.send(agreed, new Writer().hex(entry.id).take())
    entry.agreed = true
    tie(entry)
  }

  const onAgreed = (id: string): void => {
    const entry = entries.get(id)
    if (entry === undefined || !theirs.has(id) || entry.told < 0) return
    entry.agreed = true
    tie(entry)
  }

  const tie = (entry: Entry): void => {
    const { log } = entry
    if (log === undefined || entry.closed || entry.left || phase !== "begun" || entry.range !== undefined) return
    log.replicate(mux)
    entry.range = log.download({ start: 0, end: channelBlocksMax, linear: true })
  }

  const untie = (entry: Entry): void => {
    const { log } = entry
    entry.range?.destroy()
    entry.range = undefined
    entry.agreed = false
    if (log === undefined) return
    log.core.replicator.detachFrom(mux)
    for (const peer of [...log.peers]) if (peer.protomux === mux) peer.channel.close()
  }

  const drop = (entry: Entry): void => {
    if (entry.closed) return
    entry.closed = true
    if (entries.get(entry.id) === entry) entries.delete(entry.id)
    untie(entry)
    if (phase === "begun") wire?.send(gone, new Writer().hex(entry.id).take())
    // A core that failed rejects its close; there is nothing to do about it.
    void Promise.resolve(entry.opening).then(() => entry.log?.close()).catch(() => undefined)
  }

  /** Asked for each message of a Hypercore channel, before Hypercore sees it. */
  const accepts = (id: string, message: unknown): boolean => {
    const entry = entries.get(id)
    if (entry === undefined || blockBytes(message) <= wireBlockBytesMax) return true
    // Not while the message is being handled: the channel that it came on is closed by this.
    queueMicrotask(() => leave(entry, `sends blocks of more than ${wireBlockBytesMax} bytes`))
    return false
  }

  /** Hypercore 11.37 forgets at times to tell how much is held here, and then is offered nothing beyond that (see `links.ts`). */
  const tick = (): void => {
    messages = 0
    for (const entry of entries.values()) {
      const told = theirs.get(entry.id)
      if (entry.log === undefined || entry.range === undefined || told === undefined || told.byteLength === 0) continue
      if ((decodeHistory(told)?.length ?? 0) <= entry.log.contiguousLength) continue
      for (const peer of entry.log.peers) if (peer.protomux === mux) peer.sendSync()
    }
  }

  return {
    begin: () => {
      if (phase !== "early") return
      phase = "begun"
      settle()
      sync()
    },
    sync,
    end: () => {
      if (phase === "over") return
      phase = "over"
      clearTimeout(growing)
      clearInterval(ticking)
      for (const entry of [...entries.values()]) drop(entry)
      mux.unpair({ protocol })
      if (wire !== undefined && !wire.closed()) wire.close()
      settle()
    }
  }
}

const historyAt = async (log: ReplicatedLog, length: number): Promise<SignedHistory | undefined> =>
  length === 0 ? undefined : await hypercoreProofSource(log)?.history(length)

/** Size of the block that a message brings; 0 when it brings none. */
const blockBytes = (message: unknown): number => {
  const block = typeof message === "object" && message !== null && "block" in message ? message.block : undefined
  const value = typeof block === "object" && block !== null && "value" in block ? block.value : undefined
  return value instanceof Uint8Array ? value.byteLength : 0
}
