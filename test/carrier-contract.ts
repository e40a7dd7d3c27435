/** What every carrier must do, whatever carries it. Each suite below is run by `carrier.test.ts` against memory, LAN and Hyperswarm. */
import { once } from "node:events"
import type { Test } from "tap"
import { toHex } from "../src/codec/bytes.ts"
import { hashParts } from "../src/codec/hash.ts"
import { keyPairFromSeed, randomBytes, type KeyPair } from "../src/codec/signature.ts"
import type { Carrier, Connection } from "../src/swarm/carrier.ts"

/** One kind of network under test, fresh for each suite. */
export interface CarrierWorld {
  make(): Carrier
  /** Where others find this started carrier when there is no topic; undefined when its device key is enough. */
  hint(carrier: Carrier): string | undefined
  /** Can devices meet by topic here? Else the reason, as a sentence. */
  readonly noTopics?: string
  stop(): Promise<void>
}

/** A device with one carrier, recording what the contract is about. */
export class TestDevice {
  readonly carrier: Carrier
  readonly keyPair: KeyPair
  readonly device: string
  readonly seen: Array<Connection> = []
  readonly open = new Set<Connection>()
  readonly asked: Array<string> = []
  readonly notices: Array<string> = []
  allows: (device: string) => boolean = () => true

  constructor(carrier: Carrier) {
    this.carrier = carrier
    this.keyPair = keyPairFromSeed(randomBytes(32))
    this.device = toHex(this.keyPair.publicKey)
  }

  start(): Promise<void> {
    return this.carrier.start({
      keyPair: this.keyPair,
      firewall: (device) => {
        this.asked.push(device)
        return this.allows(device)
      },
      onConnection: (connection) => {
        this.seen.push(connection)
        this.open.add(connection)
        void connection.closed.then(() => this.open.delete(connection))
      },
      onNotice: (text) => this.notices.push(text)
    })
  }

  /** The one open connection, once there is one. */
  async connection(): Promise<Connection> {
    await until(() => this.open.size > 0, `${this.carrier.name} connects (${this.notices.join("; ")})`)
    const [first] = this.open
    if (first === undefined) throw new Error("the connection went away")
    return first
  }
}

export const until = async (condition: () => boolean, what: string, boundMs = 15_000): Promise<void> => {
  const end = performance.now() + boundMs
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within ${boundMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Both sides' ends of the one connection, once they agree which it is. */
export const meet = async (a: TestDevice, b: TestDevice): Promise<readonly [Connection, Connection]> => {
  let ends: readonly [Connection, Connection] | undefined
  await until(() => {
    const [ca] = a.open
    const [cb] = b.open
    const agreed = a.open.size === 1 && b.open.size === 1 && ca !== undefined && cb !== undefined &&
      toHex(ca.handshakeHash) === toHex(cb.handshakeHash)
    if (agreed) ends = [ca, cb]
    return agreed
  }, `${a.carrier.name} connects (${[...a.notices, ...b.notices].join("; ")})`)
  if (ends === undefined) throw new Error("unreachable")
  return ends
}

/** Reads exactly so many bytes; leaves the stream flowing no more than needed. */
export const readBytes = async (connection: Connection, size: number): Promise<Buffer> => {
  const parts: Array<Buffer> = []
  let have = 0
  await new Promise<void>((resolve, reject) => {
    const onData = (part: Buffer): void => {
      parts.push(part)
      have += part.byteLength
      if (have < size) return
      connection.stream.removeListener("data", onData)
      connection.stream.pause()
      resolve()
    }
    connection.stream.on("data", onData)
    void connection.closed.then(() => reject(new Error(`the connection closed after ${have} of ${size} bytes`)))
  })
  return Buffer.concat(parts)
}

const writeAll = async (connection: Connection, bytes: Buffer): Promise<void> => {
  for (let at = 0; at < bytes.byteLength; at += 40_000) {
    if (!connection.stream.write(bytes.subarray(at, at + 40_000))) await once(connection.stream, "drain")
  }
}

/** Reproducible bytes. */
const sample = (name: string, size: number): Buffer => {
  const out = Buffer.alloc(size)
  for (let at = 0, i = 0; at < size; at += 32, i += 1) out.set(hashParts(name, Buffer.from([i & 255, i >> 8])).subarray(0, size - at), at)
  return out
}

const pair = async (t: Test, open: () => Promise<CarrierWorld>) => {
  const world = await open()
  const a = new TestDevice(world.make())
  const b = new TestDevice(world.make())
  t.teardown(async () => {
    await a.carrier.stop()
    await b.carrier.stop()
    await world.stop()
  })
  await a.start()
  await b.start()
  return { world, a, b }
}

const mebibyte = 1_048_576

export const carrierContract = (t: Test, open: () => Promise<CarrierWorld>): void => {
  t.test("two devices meet by topic, and 1 MiB flows each way in order", async (t) => {
    const { world, a, b } = await pair(t, open)
    if (world.noTopics !== undefined) {
      t.comment(world.noTopics)
      return
    }
    const topic = randomBytes(32)
    const started = performance.now()
    await Promise.all([a.carrier.join(topic), b.carrier.join(topic)])
    const [ca, cb] = await meet(a, b)
    t.comment(`${ca.carrier}: met by topic after ${Math.round(performance.now() - started)} ms`)
    await exchange(t, ca, cb)
    t.equal(ca.device, b.device)
    t.equal(cb.device, a.device)
    t.not(ca.initiator, cb.initiator)
    t.equal(ca.handshakeHash.byteLength, 64)
    t.equal(toHex(ca.handshakeHash), toHex(cb.handshakeHash))
    t.not(ca.id, cb.id)
    t.ok(ca.remote.length > 0)
    t.equal(a.carrier.status().connections, 1)
    t.equal(a.carrier.status().listening, true)
  })

  t.test("a remembered device is dialled without any topic", async (t) => {
    const { world, a, b } = await pair(t, open)
    const started = performance.now()
    a.carrier.dial(b.device, world.hint(b.carrier))
    const [ca, cb] = await meet(a, b)
    t.comment(`${ca.carrier}: dialled in ${Math.round(performance.now() - started)} ms`)
    t.equal(ca.device, b.device)
    t.equal(cb.device, a.device)
    t.equal(ca.initiator, true)
    await exchange(t, ca, cb)
  })

  t.test("a stranger is refused before anyone hears of it, and let in once admitted", async (t) => {
    const { world, a, b } = await pair(t, open)
    b.allows = () => false
    a.carrier.dial(b.device, world.hint(b.carrier))
    await until(() => b.asked.includes(a.device), "the firewall is asked about the stranger")
    await until(() => a.open.size === 0, "the stranger is cut off")
    t.equal(b.seen.length, 0)
    t.equal(a.seen.length, 0)
    b.allows = () => true
    a.carrier.dial(b.device, world.hint(b.carrier))
    t.equal((await b.connection()).device, a.device)
  })

  t.test("the firewall of the one who dials is asked too", async (t) => {
    const { world, a, b } = await pair(t, open)
    a.allows = () => false
    a.carrier.dial(b.device, world.hint(b.carrier))
    await until(() => a.asked.includes(b.device), "the dialling side's firewall is asked")
    t.equal(a.seen.length, 0)
    a.allows = () => true
    a.carrier.dial(b.device, world.hint(b.carrier))
    t.equal((await a.connection()).device, b.device)
  })

  t.test("one connection stays when both dial", async (t) => {
    const { world, a, b } = await pair(t, open)
    a.carrier.dial(b.device, world.hint(b.carrier))
    b.carrier.dial(a.device, world.hint(a.carrier))
    const [ca, cb] = await meet(a, b)
    await exchange(t, ca, cb)
    t.strictSame([...a.open], [ca], "still the same one after the bytes")
    t.strictSame([...b.open], [cb])
    if (ca.carrier === "hyperswarm") return
    t.equal(a.seen.length, 1, "nothing was handed over and then replaced")
    t.equal(b.seen.length, 1)
  })

  t.test("stop ends everything, and the same carrier starts again", async (t) => {
    const { world, a, b } = await pair(t, open)
    a.carrier.dial(b.device, world.hint(b.carrier))
    const [ca, cb] = await meet(a, b)
    await a.carrier.stop()
    await Promise.all([ca.closed, cb.closed])
    await a.carrier.stop()
    t.equal(a.carrier.status().listening, false)
    t.equal(a.carrier.status().connections, 0)
    const before = a.seen.length
    await a.start()
    t.equal(a.carrier.status().listening, true)
    a.carrier.dial(b.device, world.hint(b.carrier))
    await until(() => a.seen.length > before && a.open.size === 1, "it connects after the restart")
  })

  t.test("a connection whose remote dies says that it has closed, and is made again", async (t) => {
    const { world, a, b } = await pair(t, open)
    a.carrier.dial(b.device, world.hint(b.carrier))
    const [ca, cb] = await meet(a, b)
    cb.stream.destroy()
    await Promise.all([ca.closed, cb.closed])
    await until(() => a.open.size === 1 && b.open.size === 1, "it is dialled again")
    t.not(toHex((await a.connection()).handshakeHash), toHex(ca.handshakeHash))
  })

  t.test("20 connects and disconnects leave nothing behind", async (t) => {
    const { world, a, b } = await pair(t, open)
    const round = async (): Promise<void> => {
      a.carrier.dial(b.device, world.hint(b.carrier))
      const [ca, cb] = await meet(a, b)
      a.carrier.forget(b.device)
      ca.destroy()
      await Promise.all([ca.closed, cb.closed])
    }
    await round()
    const handles = (): number => process.getActiveResourcesInfo().filter((kind) => kind !== "Timeout").length
    await until(() => a.open.size === 0 && b.open.size === 0, "the first round is over")
    const before = handles()
    for (let i = 0; i < 20; i += 1) await round()
    t.equal(a.carrier.status().connections, 0)
    t.equal(b.carrier.status().connections, 0)
    await until(() => handles() <= before, `handles go back to ${before}`)
    t.ok(a.seen.length >= 21)
  })
}

const exchange = async (t: Test, ca: Connection, cb: Connection): Promise<void> => {
  const fromA = sample("a", mebibyte)
  const fromB = sample("b", mebibyte)
  const [atB, atA] = await Promise.all([
    readBytes(cb, mebibyte), readBytes(ca, mebibyte), writeAll(ca, fromA), writeAll(cb, fromB)
  ])
  t.ok(fromA.equals(atB), "what A wrote is what B read")
  t.ok(fromB.equals(atA), "what B wrote is what A read")
}
