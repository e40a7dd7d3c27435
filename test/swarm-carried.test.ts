import t from "tap"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import { MemoryNetwork } from "../src/swarm/carriers/memory.ts"
import { makeSwarm } from "../src/swarm/swarm.ts"
import { admit, keysOf, logKeyOf, makeHost, seeded, testMesh, until } from "./swarm-host.ts"

t.test("over a carrier that delays and cuts by seed, four nodes agree in the end", async (t) => {
  const names = ["a", "b", "c", "d"]
  const devices = names.map((name) => toHex(keysOf(name).publicKey))
  const operations = names.map((name) => admit(toHex(keysOf(name).publicKey), logKeyOf(keysOf(name))))
  const directory = t.testdir(Object.fromEntries(names.map((name) => [name, {}])))
  const network = new MemoryNetwork({ seed: 11, delayMs: { min: 0, max: 8 }, cutAfterBytes: { min: 20_000, max: 400_000 } })
  const hosts = await Promise.all(names.map((name) => makeHost(`${directory}/${name}`, name, testMesh("hill"), operations)))
  const swarms = hosts.map((host) => makeSwarm(host, () => [network.carrier()], { now: () => performance.now(), replication: { tickMs: 50, retryMs: 50, lingerMs: 100 } }))
  t.teardown(async () => {
    await Promise.all(swarms.map((swarm) => swarm.stop()))
    await Promise.all(hosts.map((host) => host.close()))
  })
  const random = seeded(11)
  const write = async (rounds: number): Promise<void> => {
    for (let round = 0; round < rounds; round += 1) {
      for (const host of hosts) await host.append(Array.from({ length: 10 + Math.floor(random() * 40) }, (_, index) => utf8(`${host.name} ${round} ${index} ${"x".repeat(200)}`)))
    }
  }
  const equal = (): boolean => hosts.every((host) => hosts.every((other) => host.lengthOf(other.ownLog) === other.lengthOf(other.ownLog)))
  await Promise.all(swarms.map((swarm) => swarm.start()))
  await write(3)
  network.partition(devices.slice(0, 2), devices.slice(2))
  await write(5)
  network.heal()
  await until("all hold all", equal, 20_000)
  for (const host of hosts) for (const other of hosts) t.same(await host.blocks(other.ownLog), await other.blocks(other.ownLog))
  await hosts[0]?.membership.offer([utf8(JSON.stringify({ kind: "revoke", device: devices[3] }))])
  await until("the revoked one is out everywhere", () => swarms.slice(0, 3).every((swarm) => swarm.sessions().every(({ device }) => device !== devices[3])), 5_000)
  t.same(hosts.flatMap((host) => host.divergedSeen), [])
})
