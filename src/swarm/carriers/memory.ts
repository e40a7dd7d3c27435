/**
 * A network in this process, for tests and simulations: real Noise streams over pipes whose faults come from a seed.
 *
 * Owns: the pipes between carriers, their delay, bandwidth, cuts and partitions.
 *
 * How a byte travels: secret-stream of A → pipe (drawn delay, order kept, one bandwidth per direction) → secret-stream of B. Streams are
 * reliable, so what a network loses is whole connections: by `cut`, by `partition`, or by itself after a drawn number of bytes.
 *
 * Determinism: every pair of devices has a generator of its own, made from the seed and both keys, so what one pair draws does not depend
 * on what others do. The same calls in the same order give the same draws; with `timers` of a simulation also the same times. Noise keys
 * stay random, their sizes do not vary.
 *
 * No kinder than the real ones: greeting, firewall, duplicates and back-off are the LAN carrier's own code.
 */
import { Duplex } from "node:stream"
import { toHex, utf8 } from "../../codec/bytes.ts"
import { hashParts } from "../../codec/hash.ts"
import type { Carrier, CarrierOptions } from "../carrier.ts"
import { makeConnections, type Connections } from "./connections.ts"
import { makeDialer, type Dialer } from "./dialer.ts"
import { greet } from "./greeting.ts"
import { realTimers, type Timers } from "./timers.ts"

export interface MemoryNetworkOptions {
  readonly seed: number
  /** Each chunk travels for a time drawn from this range. */
  readonly delayMs?: { readonly min: number; readonly max: number }
  /** Per direction of a connection; unlimited when absent. */
  readonly bytesPerSecondMax?: number
  /** A connection is cut after a number of bytes drawn from this range, never when absent. */
  readonly cutAfterBytes?: { readonly min: number; readonly max: number }
  readonly timers?: Timers
}

export class MemoryNetwork {
  readonly #options: MemoryNetworkOptions
  readonly #timers: Timers
  readonly #endpoints = new Map<string, Endpoint>()
  readonly #generators = new Map<string, () => number>()
  readonly #walls: Array<{ readonly a: ReadonlySet<string>; readonly b: ReadonlySet<string> }> = []
  readonly #pipes = new Set<Pipe>()

  constructor(options: MemoryNetworkOptions) {
    this.#options = options
    this.#timers = options.timers ?? realTimers
  }

  /** A carrier of this network; it belongs to one device from `start` to `stop`. */
  carrier(): Carrier {
    return memoryCarrier(this.#enter)
  }

  /** No connection between a device of `a` and one of `b` until `heal`; those there are now are cut. */
  partition(a: ReadonlyArray<string>, b: ReadonlyArray<string>): void {
    this.#walls.push({ a: new Set(a), b: new Set(b) })
    for (const pipe of [...this.#pipes]) if (this.#apart(pipe.from, pipe.to)) pipe.cut()
  }

  /** Removes every partition; devices look for each other again at once. */
  heal(): void {
    this.#walls.length = 0
    for (const endpoint of this.#endpoints.values()) endpoint.dialer.wake()
  }

  /** Cuts what connects these two now; they may connect again. Returns how many streams were cut. */
  cut(a: string, b: string): number {
    const hit = [...this.#pipes].filter(({ from, to }) => (from === a && to === b) || (from === b && to === a))
    for (const pipe of hit) pipe.cut()
    return hit.length
  }

  /** Raw streams that are open now, half-open ones included. */
  get openStreams(): number {
    return this.#pipes.size
  }

  readonly #apart = (one: string, two: string): boolean =>
    this.#walls.some(({ a, b }) => (a.has(one) && b.has(two)) || (a.has(two) && b.has(one)))

  readonly #random = (one: string, two: string): () => number => {
    const pair = one < two ? `${one}${two}` : `${two}${one}`
    let random = this.#generators.get(pair)
    if (random === undefined) this.#generators.set(pair, random = seededRandom(this.#options.seed, pair))
    return random
  }

  readonly #enter = (options: CarrierOptions): Endpoint => {
    const device = toHex(options.keyPair.publicKey)
    if (this.#endpoints.has(device)) throw new Error(`device ${device.slice(0, 8)} is on this memory network already`)
    const endpoint = makeEndpoint(device, options, {
      timers: this.#timers,
      random: (remote) => this.#random(device, remote)(),
      dial: (remote) => this.#dial(device, remote),
      others: () => [...this.#endpoints.values()].filter((other) => other.device !== device),
      leave: () => {
        if (this.#endpoints.get(device) === endpoint) this.#endpoints.delete(device)
      }
    })
    this.#endpoints.set(device, endpoint)
    return endpoint
  }

  readonly #dial = (from: string, to: string): Duplex | undefined => {
    const target = this.#endpoints.get(to)
    if (target === undefined || this.#apart(from, to)) return undefined
    const { delayMs = { min: 1, max: 5 }, bytesPerSecondMax = Infinity, cutAfterBytes } = this.#options
    const random = this.#random(from, to)
    const pipe = makePipe({
      from, to, timers: this.#timers, bytesPerSecondMax,
      delayMs: () => delayMs.min + (delayMs.max - delayMs.min) * random(),
      cutAfterBytes: cutAfterBytes === undefined ? Infinity : cutAfterBytes.min + (cutAfterBytes.max - cutAfterBytes.min) * random(),
      onClosed: () => this.#pipes.delete(pipe)
    })
    this.#pipes.add(pipe)
    target.receive(pipe.far)
    return pipe.near
  }
}

interface Endpoint {
  readonly device: string
  readonly topics: Set<string>
  join(topic: string): void
  readonly dialer: Dialer<string>
  readonly connections: Connections
  receive(raw: Duplex): void
  meet(device: string): void
  stop(): Promise<void>
}

interface World {
  readonly timers: Timers
  readonly random: (remote: string) => number
  readonly dial: (remote: string) => Duplex | undefined
  readonly others: () => ReadonlyArray<Endpoint>
  readonly leave: () => void
}

const greetDeadlineMs = 10_000
const keepAliveMs = 60_000
const connectionsMax = 256
const targetsMax = 1024

const makeEndpoint = (device: string, options: CarrierOptions, world: World): Endpoint => {
  const { keyPair, firewall, onNotice, onConnection } = options
  const { timers } = world
  const half = new Set<Duplex>()
  const connections = makeConnections({
    carrier: "memory", device, connectionsMax, onConnection,
    onLost: (remote) => dialer.lost((target) => target === remote)
  })
  /** `wanted` is the device that we dial, undefined when it dialled us. */
  const open = async (raw: Duplex, wanted: string | undefined): Promise<boolean> => {
    const initiator = wanted !== undefined
    let begun = false
    half.add(raw)
    try {
      const greeted = await greet(raw, {
        initiator, keyPair, timers, keepAliveMs, deadlineMs: greetDeadlineMs,
        greeting: { instance: device.slice(0, 16), port: 0 },
        refuse: (remote) => {
          if (!firewall(remote)) return "the firewall refuses this device"
          const refused = initiator ? connections.begin(remote) : undefined
          begun = initiator && refused === undefined
          return refused
        },
        accept: (remote) => connections.accept(remote)
      })
      return connections.add(greeted, greeted.device.slice(0, 8))
    } catch (error) {
      if (!initiator) onNotice(`memory: a connection failed: ${error instanceof Error ? error.message : "unknown"}`)
      return false
    } finally {
      half.delete(raw)
      if (begun && wanted !== undefined) connections.end(wanted)
    }
  }
  const dialer = makeDialer<string>({
    timers, random: () => world.random(device), targetsMax, parallelMax: 64, perMinuteMax: 100_000,
    backoffMs: { first: 20, max: 1000 }, livedMs: 100,
    idle: (target) => connections.has(target),
    attempt: async (target) => {
      if (!firewall(target)) return false
      const raw = world.dial(target)
      return raw === undefined ? false : await open(raw, target)
    }
  })
  const topics = new Set<string>()
  const meet = (remote: string): void => {
    if (dialer.get(remote) === undefined) dialer.set(remote, remote, 10 * world.random(remote))
  }
  return {
    device, topics, dialer, connections, meet,
    join(topic) {
      topics.add(topic)
      for (const other of world.others()) {
        if (!other.topics.has(topic)) continue
        meet(other.device)
        other.meet(device)
      }
    },
    receive: (raw) => {
      void open(raw, undefined)
    },
    async stop() {
      world.leave()
      dialer.stop()
      for (const raw of half) raw.destroy()
      await connections.destroyAll()
    }
  }
}

const memoryCarrier = (enter: (options: CarrierOptions) => Endpoint): Carrier => {
  let endpoint: Endpoint | undefined
  const running = (): Endpoint => {
    if (endpoint === undefined) throw new Error("the memory carrier is not started")
    return endpoint
  }
  return {
    name: "memory",
    async start(options) {
      endpoint ??= enter(options)
    },
    join: async (topic) => running().join(toHex(topic)),
    async leave(topic) {
      endpoint?.topics.delete(toHex(topic))
    },
    dial: (device) => running().meet(device),
    forget: (device) => endpoint?.dialer.delete(device),
    async stop() {
      const own = endpoint
      endpoint = undefined
      await own?.stop()
    },
    status: () => ({
      name: "memory", listening: endpoint !== undefined, detail: "in this process", connections: endpoint?.connections.size ?? 0
    })
  }
}

interface Pipe {
  readonly from: string
  readonly to: string
  /** The end of the one who dialled. */
  readonly near: Duplex
  readonly far: Duplex
  cut(): void
}

interface PipeOptions {
  readonly from: string
  readonly to: string
  readonly timers: Timers
  readonly bytesPerSecondMax: number
  readonly delayMs: () => number
  readonly cutAfterBytes: number
  readonly onClosed: () => void
}

/** What one direction may hold on its way before the writer has to wait. */
const inFlightBytesMax = 262_144

const makePipe = (options: PipeOptions): Pipe => {
  const { from, to, timers, bytesPerSecondMax, delayMs } = options
  let carried = 0
  let open = 2
  const pending = new Set<() => void>()
  const later = (ms: number, run: () => void): void => {
    const cancel = timers.after(ms, () => {
      pending.delete(cancel)
      run()
    })
    pending.add(cancel)
  }
  const cut = (): void => {
    for (const cancel of pending) cancel()
    pending.clear()
    near.destroy(new Error("the connection was cut"))
    far.destroy(new Error("the connection was cut"))
  }
  /** Per end: called when its reader wants more, so that the other end's writer may go on. */
  const onRead = { near: () => {}, far: () => {} }
  const makeEnd = (side: "near" | "far", other: () => Duplex): Duplex => {
    const opposite = side === "near" ? "far" : "near"
    let inFlight = 0
    let unread = 0
    let freeAt = 0
    let arrivesAt = 0
    let waiting: (() => void) | undefined
    const arriving: Array<() => void> = []
    /**
     * Arrives after what was sent before, after its turn on the wire, after the drawn delay. Timers may fire out of order (they count
     * whole milliseconds), hence each delivers whatever is next.
     */
    const travel = (bytes: number, arrive: () => void): void => {
      const now = timers.now()
      freeAt = Math.max(freeAt, now) + bytes / bytesPerSecondMax * 1000
      arrivesAt = Math.max(arrivesAt, freeAt + delayMs())
      arriving.push(arrive)
      later(arrivesAt - now, () => arriving.shift()?.())
    }
    const release = (bytes: number): void => {
      inFlight -= bytes
      const resume = inFlight <= inFlightBytesMax ? waiting : undefined
      if (resume === undefined) return
      waiting = undefined
      resume()
    }
    onRead[opposite] = () => {
      const bytes = unread
      unread = 0
      if (bytes > 0) release(bytes)
    }
    const end: Duplex = new Duplex({
      read() {
        onRead[side]()
      },
      write(chunk: Buffer, _encoding, done) {
        carried += chunk.byteLength
        if (carried > options.cutAfterBytes) {
          done()
          return cut()
        }
        inFlight += chunk.byteLength
        travel(chunk.byteLength, () => {
          if (other().destroyed || other().push(chunk)) release(chunk.byteLength)
          else unread += chunk.byteLength
        })
        if (inFlight <= inFlightBytesMax) done()
        else waiting = done
      },
      final(done) {
        travel(0, () => {
          if (!other().destroyed) other().push(null)
        })
        done()
      },
      destroy(error, done) {
        // The other side hears of it as late as of any byte, and loses nothing that was sent before.
        if (!other().destroyed) travel(0, () => other().destroy())
        open -= 1
        if (open === 0) {
          for (const cancel of pending) cancel()
          pending.clear()
          options.onClosed()
        }
        done(error)
      }
    })
    // Secret-stream listens too, but only while it lives.
    end.on("error", () => {})
    return end
  }
  const near: Duplex = makeEnd("near", () => far)
  const far: Duplex = makeEnd("far", () => near)
  return { from, to, near, far, cut }
}

/** Small fast counter generator (sfc32), seeded by BLAKE2b of the seed and a name. */
export const seededRandom = (seed: number, name: string): () => number => {
  const hash = hashParts("kos/memory-network/1", utf8(`${seed}`), utf8(name))
  const view = new DataView(hash.buffer, hash.byteOffset, 16)
  let a = view.getUint32(0)
  let b = view.getUint32(4)
  let c = view.getUint32(8)
  let counter = 1
  return () => {
    const sum = (a + b + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + sum | 0
    return (sum >>> 0) / 2 ** 32
  }
}
