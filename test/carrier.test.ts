import { execFile } from "node:child_process"
import dgram from "node:dgram"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import t from "tap"
import { hostDht } from "../src/swarm/carriers/dht-host.ts"
import { makeHyperswarmCarrier } from "../src/swarm/carriers/hyperswarm.ts"
import { makeLanCarrier } from "../src/swarm/carriers/lan.ts"
import { MemoryNetwork } from "../src/swarm/carriers/memory.ts"
import { carrierContract, type CarrierWorld } from "./carrier-contract.ts"

const memoryWorld = async (): Promise<CarrierWorld> => {
  const network = new MemoryNetwork({ seed: 1, delayMs: { min: 0, max: 3 } })
  return { make: () => network.carrier(), hint: () => undefined, stop: async () => {} }
}

const lanWorld = async (): Promise<CarrierWorld> => {
  const made = new Map<unknown, ReturnType<typeof makeLanCarrier>>()
  const multicast = await multicastOnLoopback()
  return {
    make: () => {
      const carrier = makeLanCarrier({ host: "127.0.0.1", interfaces: ["lo"] })
      made.set(carrier, carrier)
      return carrier
    },
    hint: (carrier) => `127.0.0.1:${made.get(carrier)?.port() ?? 0}`,
    stop: async () => {},
    ...(multicast ? {} : { noTopics: "Multicast does not work on the loopback interface here." })
  }
}

const hyperswarmWorld = async (): Promise<CarrierWorld> => {
  // One node suffices on loopback: this is the smallest private DHT.
  const dht = await hostDht({ port: 0, host: "127.0.0.1", nodes: 1 })
  const bootstrap = [{ host: dht.host, port: dht.port }]
  return { make: () => makeHyperswarmCarrier({ bootstrap }), hint: () => undefined, stop: () => dht.stop() }
}

const multicastOnLoopback = (): Promise<boolean> => new Promise((resolve) => {
  const socket = dgram.createSocket({ type: "udp4", reuseAddr: true })
  const end = (works: boolean): void => {
    clearTimeout(timer)
    socket.close()
    resolve(works)
  }
  const timer = setTimeout(() => end(false), 1000)
  socket.on("error", () => end(false))
  socket.on("message", () => end(true))
  socket.bind(5353, () => {
    try {
      socket.addMembership("224.0.0.251", "127.0.0.1")
      socket.setMulticastInterface("127.0.0.1")
      socket.send(Buffer.from("kos"), 5353, "224.0.0.251")
    } catch {
      end(false)
    }
  })
})

t.test("memory carrier", async (t) => carrierContract(t, memoryWorld))
t.test("LAN carrier on loopback", async (t) => carrierContract(t, lanWorld))
t.test("Hyperswarm carrier on a private DHT of one node", async (t) => carrierContract(t, hyperswarmWorld))

t.test("a process whose carriers have stopped ends by itself", async (t) => {
  for (const name of ["memory", "lan", "hyperswarm"]) {
    const child = fileURLToPath(new URL("carrier-child.ts", import.meta.url))
    const { stdout } = await promisify(execFile)(process.execPath, [child, "exit", name], { timeout: 20_000 })
    t.match(stdout, /stopped after \d+ bytes/, name)
  }
})
