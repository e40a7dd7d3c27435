/**
 * A process of its own for carrier tests.
 * `exit NAME`: two devices meet, exchange a word, stop; the process must then end without process.exit.
 * `lan TOPIC`: a LAN node in this network namespace; prints what happens as JSON lines, ends when its stdin ends.
 */
import { fromHex, toHex } from "../src/codec/bytes.ts"
import { randomBytes } from "../src/codec/signature.ts"
import { hostDht } from "../src/swarm/carriers/dht-host.ts"
import { makeHyperswarmCarrier } from "../src/swarm/carriers/hyperswarm.ts"
import { makeLanCarrier } from "../src/swarm/carriers/lan.ts"
import { MemoryNetwork } from "../src/swarm/carriers/memory.ts"
import { meet, readBytes, TestDevice } from "./carrier-contract.ts"

const say = (line: unknown): void => {
  process.stdout.write(`${typeof line === "string" ? line : JSON.stringify(line)}\n`)
}

const exit = async (name: string): Promise<void> => {
  const network = new MemoryNetwork({ seed: 7 })
  const dht = name === "hyperswarm" ? await hostDht({ port: 0, host: "127.0.0.1", nodes: 1 }) : undefined
  const lan = [makeLanCarrier({ host: "127.0.0.1", interfaces: ["lo"] }), makeLanCarrier({ host: "127.0.0.1", interfaces: ["lo"] })]
  const make = (i: number) => dht !== undefined ? makeHyperswarmCarrier({ bootstrap: [{ host: dht.host, port: dht.port }] })
    : name === "memory" ? network.carrier() : lan[i] ?? network.carrier()
  const a = new TestDevice(make(0))
  const b = new TestDevice(make(1))
  await a.start()
  await b.start()
  const topic = randomBytes(32)
  await a.carrier.join(topic)
  await b.carrier.join(topic)
  // Somebody who is never there must not keep the process either.
  a.carrier.dial(toHex(randomBytes(32)), "127.0.0.1:9")
  a.carrier.dial(b.device, name === "lan" ? `127.0.0.1:${lan[1]?.port() ?? 0}` : undefined)
  const [ca, cb] = await meet(a, b)
  ca.stream.write(Buffer.from("word"))
  const bytes = await readBytes(cb, 4)
  await b.carrier.stop()
  await a.carrier.stop()
  await dht?.stop()
  say(`stopped after ${bytes.byteLength} bytes`)
}

const lan = async (topic: string): Promise<void> => {
  const node = new TestDevice(makeLanCarrier())
  await node.start()
  await node.carrier.join(fromHex(topic))
  say({ device: node.device, detail: node.carrier.status().detail })
  const connection = await node.connection()
  connection.stream.write(Buffer.from(node.device))
  const words = await readBytes(connection, 64)
  say({ met: connection.device, heard: words.toString("latin1"), remote: connection.remote })
  process.stdin.resume()
  process.stdin.once("end", () => void node.carrier.stop())
}

const [, , mode = "", argument = ""] = process.argv
await (mode === "lan" ? lan(argument) : exit(argument))
