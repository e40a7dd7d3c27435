import { createRequire } from "node:module"
import type { Duplex } from "node:stream"
import { fromHex, toHex, utf8 } from "../src/codec/bytes.ts"
import { hashParts } from "../src/codec/hash.ts"
import { keyPairFromSeed, type KeyPair } from "../src/codec/signature.ts"
import type { Carrier, CarrierOptions, Connection } from "../src/swarm/carrier.ts"
import type { ReplicatedLog, SwarmHost } from "../src/swarm/host.ts"
import type { Proven } from "../src/swarm/investigate.ts"

interface Core extends ReplicatedLog {
  ready(): Promise<void>
  append(blocks: ReadonlyArray<Uint8Array>, options: { keyPair: { publicKey: Buffer; secretKey: Buffer } }): Promise<unknown>
}
interface Store {
  ready(): Promise<void>
  get(options: Readonly<Record<string, unknown>>): Core
  close(): Promise<void>
  readonly cores: { readonly size: number }
}
interface NoiseStream extends Duplex {
  readonly rawStream: Duplex
  readonly remotePublicKey: Buffer
  readonly handshakeHash: Buffer
  readonly opened: Promise<boolean>
}
const load = createRequire(import.meta.url)
const Corestore: new (directory: string) => Store = load("corestore")
const Hypercore: { key(manifest: unknown): Buffer } = load("hypercore")
const SecretStream: new (initiator: boolean, raw: null, options: { keyPair: { publicKey: Buffer; secretKey: Buffer } }) => NoiseStream = load("@hyperswarm/secret-stream")

const buffers = (keys: KeyPair): { publicKey: Buffer; secretKey: Buffer } => ({ publicKey: Buffer.from(keys.publicKey), secretKey: Buffer.from(keys.secretKey) })

/** A seeded generator for tests (mulberry32). */
export const seeded = (seed: number): (() => number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let value = Math.imul(state ^ (state >>> 15), state | 1)
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61)
    return ((value ^ (value >>> 14)) >>> 0) / 4294967296
  }
}

export const keysOf = (name: string): KeyPair => keyPairFromSeed(hashParts("test/keys", utf8(name)))

/** The log key that a device key pair gets for its n-th log. */
export const manifestOf = (keys: KeyPair): { version: number; signers: ReadonlyArray<{ publicKey: Buffer }> } => ({ version: 1, signers: [{ publicKey: Buffer.from(keys.publicKey) }] })
export const logKeyOf = (keys: KeyPair): string => toHex(Hypercore.key(manifestOf(keys)))

export const admit = (device: string, ...logs: ReadonlyArray<string>): Uint8Array => utf8(JSON.stringify({ kind: "admit", device, logs }))
/** `cut`: its logs end there for this mesh. */
export const revoke = (device: string, cut?: number, by = "alpha"): Uint8Array => utf8(JSON.stringify({ kind: "revoke", device, by, ...(cut === undefined ? {} : { cut }) }))

export interface TestHost extends SwarmHost {
  readonly name: string
  readonly store: Store
  readonly ownLog: string
  /** Appends blocks to the log of these keys (ours by default) and records the growth. */
  append(blocks: ReadonlyArray<Uint8Array>, keys?: KeyPair): Promise<void>
  blocks(log: string): Promise<ReadonlyArray<Buffer>>
  readonly opened: Array<string>
  /** Operations taken, logs opened and growths recorded, in this order. */
  readonly did: Array<string>
  readonly divergedSeen: Array<{ log: string; device: string; detail: string; proven?: Proven }>
  readonly aheadSeen: Array<{ length: number; device: string }>
  readonly notices: Array<string>
  readonly held: Map<string, Map<string, number>>
  readonly touchedSeen: Array<{ device: string; up: boolean }>
  readonly cursors: Map<string, { sequenceId: string; sequence: number }>
  lengthOf(log: string): number
  /** For logs made before the host was: records what is on disk. */
  record(log: string, length: number): void
  close(): Promise<void>
}

export interface TestMesh {
  readonly id: string
  readonly key: Uint8Array
}
export const testMesh = (name: string): TestMesh => ({ id: toHex(hashParts("test/mesh", utf8(name))), key: hashParts("test/mesh-key", utf8(name)) })

export const makeHost = async (directory: string, name: string, mesh: TestMesh, operations: ReadonlyArray<Uint8Array>): Promise<TestHost> => {
  const keyPair = keysOf(name)
  const device = toHex(keyPair.publicKey)
  const store = new Corestore(directory)
  await store.ready()
  const ownLog = logKeyOf(keyPair)
  const held = new Map<string, Uint8Array>()
  const revoked = new Map<string, { readonly text: string; readonly by: string; readonly cut: number | undefined }>()
  const owners = new Map<string, string>()
  const members = new Set<string>()
  const memberListeners = new Set<() => void>()
  const growListeners = new Set<(log: string, length: number) => void>()
  const heads = new Map<string, { length: number; changed: number }>()
  const holds = new Map<string, Map<string, number>>()
  const cursors = new Map<string, { sequenceId: string; sequence: number }>()
  let sequence = 0
  const opened: Array<string> = []
  const did: Array<string> = []
  const divergedSeen: TestHost["divergedSeen"] = []
  const aheadSeen: TestHost["aheadSeen"] = []
  const touchedSeen: TestHost["touchedSeen"] = []
  const notices: Array<string> = []
  const own = store.get({ manifest: manifestOf(keyPair), allowFork: false })
  await own.ready()

  const learn = (list: ReadonlyArray<Uint8Array>): number => {
    let fresh = 0
    for (const operation of list) {
      const text = Buffer.from(operation).toString()
      if (held.has(text)) continue
      let decoded: { kind: string; device: string; logs?: ReadonlyArray<string>; by?: string; cut?: number }
      try {
        decoded = JSON.parse(text)
      } catch {
        continue
      }
      held.set(text, operation.slice())
      fresh += 1
      if (decoded.kind === "revoke") revoked.set(decoded.device, { text, by: decoded.by ?? "", cut: decoded.cut })
      else {
        members.add(decoded.device)
        for (const log of decoded.logs ?? []) owners.set(log, decoded.device)
      }
    }
    return fresh
  }
  learn(operations)

  const grew = (log: string, length: number): void => {
    if (length <= (heads.get(log)?.length ?? 0)) return
    sequence += 1
    did.push(`grew ${log}`)
    heads.set(log, { length, changed: sequence })
    for (const listener of growListeners) listener(log, length)
  }
  if (own.contiguousLength > 0) grew(ownLog, own.contiguousLength)

  return {
    name, keyPair, device, mesh, store, ownLog, opened, did, divergedSeen, aheadSeen, notices, touchedSeen, cursors, held: holds,
    membership: {
      standing: (who) => revoked.has(who) ? "revoked" : members.has(who) ? "member" : "unknown",
      logs: () => [...owners].map(([log, owner]) => ({ log, device: owner, cutAt: revoked.get(owner)?.cut })),
      dismissal: (who) => {
        const found = revoked.get(who)
        return found === undefined ? undefined : { kind: "revoked", sentence: `you were revoked by ${found.by} on 2026-11-23`, about: `${who.slice(0, 8)} was revoked by ${found.by} on 2026-11-23`, proof: () => [held.get(found.text) ?? utf8(found.text)] }
      },
      operations: () => [...held.values()],
      offer: async (list) => {
        const fresh = learn(list)
        if (fresh > 0) did.push(`took ${fresh}`)
        if (fresh > 0) for (const listener of [...memberListeners]) listener()
        return fresh
      },
      onChange: (listener) => {
        memberListeners.add(listener)
        return () => memberListeners.delete(listener)
      }
    },
    logs: {
      own: () => ownLog,
      heads: (since = -1) => [...heads].filter(([, head]) => head.changed > since).map(([log, head]) => ({ log, ...head })),
      sequence: () => sequence,
      sequenceId: `sequence of ${toHex(hashParts("test/sequence", utf8(directory))).slice(0, 16)}`,
      open: async (log) => {
        opened.push(log)
        did.push(`opened ${log}`)
        const core = store.get({ key: Buffer.from(log, "hex"), allowFork: false })
        await core.ready()
        return core
      },
      grew,
      onGrow: (listener) => {
        growListeners.add(listener)
        return () => growListeners.delete(listener)
      },
      diverged: (log, who, detail, proven) => divergedSeen.push({ log, device: who, detail, ...(proven === undefined ? {} : { proven }) }),
      ownLogAhead: (length, who) => aheadSeen.push({ length, device: who })
    },
    receipts: {
      holds: (who, log, length) => {
        const map = holds.get(who) ?? new Map<string, number>()
        holds.set(who, map)
        map.set(log, Math.max(map.get(log) ?? 0, length))
      },
      holdings: (who) => [...holds.get(who) ?? []].map(([log, length]) => ({ log, length })),
      cursor: (who) => cursors.get(who),
      setCursor: (who, sequenceId, at) => cursors.set(who, { sequenceId, sequence: at }),
      touched: (who, _carrier, up) => touchedSeen.push({ device: who, up })
    },
    notice: (level, text) => notices.push(`${level} ${text}`),
    lengthOf: (log) => heads.get(log)?.length ?? 0,
    record: grew,
    append: async (blocks, keys = keyPair) => {
      const core = store.get({ manifest: manifestOf(keys), allowFork: false })
      await core.ready()
      await core.append(blocks.map((block) => Buffer.from(block)), { keyPair: buffers(keys) })
      grew(logKeyOf(keys), core.contiguousLength)
      await core.close()
    },
    blocks: async (log) => {
      const core = store.get({ key: Buffer.from(fromHex(log)), allowFork: false })
      await core.ready()
      const found: Array<Buffer> = []
      for (let index = 0; index < core.contiguousLength; index += 1) {
        const block = await core.get(index, { wait: false })
        if (block !== null) found.push(block)
      }
      await core.close()
      return found
    },
    close: async () => {
      await own.close()
      await store.close()
    }
  }
}

/** A pair of connected Noise streams in memory, handed over once both are open. */
export const connectPair = async (a: KeyPair, b: KeyPair): Promise<readonly [Connection, Connection]> => {
  const left = new SecretStream(true, null, { keyPair: buffers(a) })
  const right = new SecretStream(false, null, { keyPair: buffers(b) })
  for (const stream of [left, right, left.rawStream, right.rawStream]) stream.on("error", () => undefined)
  left.rawStream.pipe(right.rawStream).pipe(left.rawStream)
  await Promise.all([left.opened, right.opened])
  const cut = (): void => {
    left.destroy()
    right.destroy()
  }
  return [connectionOf(left, true, cut), connectionOf(right, false, cut)]
}

let counter = 0
const connectionOf = (stream: NoiseStream, initiator: boolean, cut: () => void): Connection => {
  counter += 1
  return {
    id: `test ${counter}`, carrier: "memory", initiator, device: toHex(stream.remotePublicKey), handshakeHash: stream.handshakeHash,
    stream, remote: `test:${counter}`, closed: new Promise((resolve) => stream.on("close", () => resolve())), destroy: cut
  }
}

/** Connects every two started carriers that share a topic, until told not to; connections can be cut one by one. */
export const makeHub = () => {
  const nodes = new Set<{ options: CarrierOptions; topics: Set<string>; device: string }>()
  const live = new Map<string, readonly [Connection, Connection]>()
  const apart = new Set<string>()
  let on = true
  const name = (a: string, b: string): string => [a, b].sort().join()

  const meet = async (): Promise<void> => {
    if (!on) return
    for (const a of nodes) for (const b of nodes) {
      if (a.device >= b.device || apart.has(name(a.device, b.device)) || live.has(name(a.device, b.device))) continue
      if (![...a.topics].some((topic) => b.topics.has(topic))) continue
      if (!a.options.firewall(b.device) || !b.options.firewall(a.device)) continue
      const key = name(a.device, b.device)
      const placeholder = connectPair(a.options.keyPair, b.options.keyPair)
      const [left, right] = await placeholder
      if (live.has(key) || !on || !nodes.has(a) || !nodes.has(b)) {
        left.destroy()
        continue
      }
      live.set(key, [left, right])
      void left.closed.then(() => live.delete(key))
      a.options.onConnection(left)
      b.options.onConnection(right)
    }
  }
  let busy: Promise<void> = Promise.resolve()
  const meetSoon = (): Promise<void> => (busy = busy.then(meet))

  return {
    carrier: (): Carrier => {
      let node: { options: CarrierOptions; topics: Set<string>; device: string } | undefined
      return {
        name: "memory",
        start: async (options) => {
          node = { options, topics: new Set(), device: toHex(options.keyPair.publicKey) }
          nodes.add(node)
        },
        join: async (topic) => {
          node?.topics.add(toHex(topic))
          await meetSoon()
        },
        leave: async (topic) => { node?.topics.delete(toHex(topic)) },
        dial: () => undefined,
        forget: () => undefined,
        stop: async () => {
          if (node !== undefined) nodes.delete(node)
          for (const [key, [connection]] of live) if (node !== undefined && key.includes(node.device)) connection.destroy()
        },
        status: () => ({ name: "memory", listening: node !== undefined, detail: "test", connections: live.size })
      }
    },
    meet: meetSoon,
    /** Hands a connection over by hand. */
    accept: (device: string) => (connection: Connection): void => {
      for (const node of nodes) if (node.device === device) node.options.onConnection(connection)
    },
    /** The stream of this device's only connection. */
    streamOf: (device: string): Duplex => {
      for (const [key, pair] of live) if (key.includes(device)) for (const end of pair) if (end.device !== device) return end.stream
      throw new Error("not connected")
    },
    setOn: (value: boolean): void => { on = value },
    separate: (a: string, b: string): void => { apart.add(name(a, b)) },
    reunite: (a: string, b: string): void => { apart.delete(name(a, b)) },
    connections: () => [...live.keys()].sort(),
    cut: (key: string): void => live.get(key)?.[0].destroy()
  }
}

/** Waits until the condition holds; throws with `what` after `ms`. */
export const until = async (what: string, condition: () => boolean, ms = 10_000): Promise<void> => {
  const end = performance.now() + ms
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what}: not within ${ms} ms`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
