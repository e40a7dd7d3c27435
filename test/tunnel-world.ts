/** Two nodes with services, joined by a connection in memory. */
import { type Duplex, duplexPair } from "node:stream"
import type { Test } from "tap"
import { toHex } from "../src/codec/bytes.ts"
import type { Carrier, CarrierOptions, Connection } from "../src/swarm/carrier.ts"
import type { Admission, Services, ServiceUse } from "../src/swarm/services.ts"
import { makeSwarm, type Swarm, type SwarmOptions } from "../src/swarm/swarm.ts"
import { admit, connectPair, keysOf, logKeyOf, makeHost, testMesh, type TestHost, until } from "./swarm-host.ts"

export const mesh = testMesh("hill")
export const deviceOf = (name: string): string => toHex(keysOf(name).publicKey)
export const admission = (name: string): Uint8Array => admit(deviceOf(name), logKeyOf(keysOf(name)))

/** What a service does with a connection: the test's end of it. */
export interface Rule {
  readonly serve: (program: Duplex) => void
  readonly allow: ReadonlySet<string>
  readonly streamsMax?: number
  readonly idleMs?: number
  readonly target?: string
  /** Connecting fails with this sentence, or waits for this. */
  readonly fails?: string
  readonly waits?: Promise<void>
}

export interface TestServices extends Services {
  readonly rules: Map<string, Rule>
  readonly changed: () => void
  /** `opened web by 1234abcd`, `refused web: …`. */
  readonly told: Array<string>
  readonly uses: Array<{ readonly service: string; readonly use: ServiceUse }>
  /** Our side of the connections to programs that are open or were. */
  readonly programs: Array<Duplex>
}

export const makeServices = (): TestServices => {
  const rules = new Map<string, Rule>()
  const listeners = new Set<() => void>()
  const told: Array<string> = []
  const uses: TestServices["uses"] = []
  const programs: Array<Duplex> = []
  return {
    rules, told, uses, programs,
    changed: () => {
      for (const listener of listeners) listener()
    },
    admit: (service, device): Admission => {
      const rule = rules.get(service)
      if (rule === undefined) return { _tag: "Refused", reason: "unknown", sentence: `cellar has no service called ${service}` }
      if (!rule.allow.has(device)) return { _tag: "Refused", reason: "denied", sentence: `${service} is not for attic` }
      return { _tag: "Admitted", streamsMax: rule.streamsMax ?? 16, idleMs: rule.idleMs ?? 60_000, target: rule.target ?? "127.0.0.1:80" }
    },
    dial: async (service) => {
      const rule = rules.get(service)
      if (rule === undefined || rule.fails !== undefined) throw new Error(rule?.fails ?? "gone")
      await rule.waits
      const [ours, theirs] = duplexPair()
      for (const end of [ours, theirs]) end.on("error", () => undefined)
      programs.push(ours)
      rule.serve(theirs)
      return ours
    },
    onChange: (listener) => void listeners.add(listener),
    opened: (service, device) => void told.push(`opened ${service} by ${device.slice(0, 8)}`),
    refused: (service, _device, { reason }) => void told.push(`refused ${service}: ${reason}`),
    closed: (service, _device, use) => {
      told.push(`closed ${service}: ${use.why?.reason ?? "well"}`)
      uses.push({ service, use })
    }
  }
}

export interface World {
  readonly host: TestHost
  readonly swarm: Swarm
  readonly services: TestServices
  readonly accept: (connection: Connection) => void
}

const options: SwarmOptions = { now: () => performance.now(), replication: { lingerMs: 50, tickMs: 50 }, session: { farewellMs: 10 } }

export const world = async (t: Test, directory: string, name: string, over: Partial<SwarmOptions> = {}, members: ReadonlyArray<string> = ["a", "b"]): Promise<World> => {
  const host = await makeHost(`${directory}/${name}`, name, mesh, members.map(admission))
  const services = makeServices()
  let given: CarrierOptions | undefined
  const carrier: Carrier = {
    name: "memory", start: async (start) => { given = start }, join: async () => undefined, leave: async () => undefined, dial: () => undefined,
    forget: () => undefined, stop: async () => undefined, status: () => ({ name: "memory", listening: true, detail: "by hand", connections: 0 })
  }
  const swarm = makeSwarm(host, () => [carrier], { ...options, services, ...over })
  await swarm.start()
  t.teardown(async () => {
    await swarm.stop()
    await host.close()
  })
  return { host, swarm, services, accept: (connection) => given?.onConnection(connection) }
}

export const isReady = ({ swarm }: World): boolean => swarm.sessions().some(({ phase }) => phase === "ready")

/** A and b in touch; b's services are for a. `connections` are a's end and b's. */
export const pair = async (t: Test, over: Partial<SwarmOptions> = {}, overA: Partial<SwarmOptions> = over, under = "pair") => {
  const directory = t.testdir({ [under]: { a: {}, b: {} } }) + `/${under}`
  const [a, b] = [await world(t, directory, "a", overA), await world(t, directory, "b", over)]
  const connections = await connectPair(a.host.keyPair, b.host.keyPair)
  a.accept(connections[0])
  b.accept(connections[1])
  await until("both are ready", () => isReady(a) && isReady(b))
  return { a, b, connections }
}

export const forA: ReadonlySet<string> = new Set([deviceOf("a")])

/** Opens a stream from one to the other, which must be accepted. */
export const mustOpen = async (from: World, to: World, service: string): Promise<Duplex> => {
  const opened = await from.swarm.connect(to.host.device, service)
  if (opened._tag !== "Opened") throw new Error(`${service} was not opened: ${JSON.stringify(opened)}`)
  return opened.stream
}

export const readAll = async (stream: Duplex): Promise<Buffer> => {
  const parts: Array<Buffer> = []
  for await (const part of stream as AsyncIterable<Buffer>) parts.push(part)
  return Buffer.concat(parts)
}
