/**
 * The file of the transfer case between two nodes of one mesh: two processes, each with a swarm and a transfer process of its own, and pack wires
 * between them as the daemon makes them. They are in touch, and both transfer processes run, before the window begins.
 */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { type BuiltinServices, makePackWires, type PackMesh } from "../../src/boot/pack-wires.ts"
import type { Services } from "../../src/swarm/services.ts"
import { hashPieces } from "../../src/updates/payload/torrent.ts"
import type { PackRef } from "../../src/updates/ports.ts"
import { openTransfer } from "../../src/updates/transfer/transfer.ts"
import type { Measure, OtherMain, SideContext } from "../case.ts"
import { deviceOf, hyperswarmCarrier, openLogsNode, privateDht, tcpCarrier } from "../kos-logs.ts"
import { costOf, measured } from "./transfer.ts"

const here = fileURLToPath(import.meta.url)
const mebibyte = 1 << 20
const touchMsMax = 30_000
const fetchMsMax = 280_000

/** A session over Hyperswarm and a private DHT, one over TCP as in a LAN, or the lane that two nodes make when the session shows that they stand in one network. */
export type MeshBy = "udx" | "tcp" | "lane"

interface NodeArgument {
  readonly name: "server" | "away"
  readonly by: MeshBy
  /** Of the DHT, or of the one that listens; 0 listens. */
  readonly port: number
}

interface Pack {
  readonly ref: PackRef
  readonly path: string
}

export const startNode: OtherMain = async (argument, { dir }) => {
  const { name, by, port } = argument as NodeArgument
  const [own, other] = [deviceOf(name), deviceOf(name === "server" ? "away" : "server")]
  const transfer = openTransfer({
    device: own, directory: join(dir, "packs"), run: join(dir, "run"), now: () => performance.now(), notice: (text) => { process.stderr.write(`${name}: ${text}\n`) }
  })
  // Boot makes wires and swarm in this order too: each knows the other when it is first asked.
  let wires: BuiltinServices | undefined
  const services: Services = {
    admit: (service, device) => wires?.admit(service, device, own) ?? { _tag: "Refused", reason: "unknown", sentence: "no such service" },
    dial: () => Promise.reject(new Error("nothing is dialled")), onChange: () => undefined, opened: () => undefined, refused: () => undefined, closed: () => undefined
  }
  let listening = 0
  const carrier = by === "tcp" ? tcpCarrier(port, (at) => { listening = at }) : hyperswarmCarrier(port)
  const node = await openLogsNode(join(dir, "node"), name, { devices: [own, other], logs: [] }, () => [carrier], { services })
  const mesh: PackMesh = { device: own, isMember: (device) => device === other, sessions: node.swarm.sessions, connect: node.swarm.connect }
  const made = makePackWires({ transfer, meshes: () => [mesh], settings: () => ({ lan: by === "lane", metered: false }), tick: () => performance.now(), addresses: () => ["127.0.0.1"] })
  wires = made
  await node.swarm.start()
  const carriers = new Set<string>()
  return {
    port: async () => listening,
    touch: async () => {
      const until = performance.now() + touchMsMax
      while (!node.swarm.sessions().some(({ phase }) => phase === "ready")) {
        if (performance.now() > until) throw new Error("the two are not in touch")
        await delay(20)
      }
    },
    hold: async (pack) => {
      const { ref, path } = pack as Pack
      await transfer.take(ref, path)
      await transfer.seed(ref)
    },
    fetch: async (pack) => {
      const { ref } = pack as Pack
      const watch = setInterval(() => { for (const wire of made.wires()) carriers.add(wire.carrier) }, 100)
      await transfer.ensure(ref, [{ offset: 0, length: ref.length }], { signal: AbortSignal.timeout(fetchMsMax) })
      clearInterval(watch)
    },
    whole: async (sha256) => await transfer.file(String(sha256)) !== undefined,
    carriers: async () => [...carriers],
    cost: async () => costOf((await transfer.status()).pid),
    stop: async () => {
      made.close()
      await transfer.close()
      await node.close()
    }
  }
}

export const meshFetch = async (context: SideContext, path: string, ref: PackRef, by: MeshBy): Promise<Measure> => {
  const dht = by === "tcp" ? undefined : await privateDht()
  try {
    const server = await context.other(here, "startNode", { name: "server", by, port: dht?.port ?? 0 } satisfies NodeArgument)
    const away = await context.other(here, "startNode", { name: "away", by, port: dht?.port ?? Number(await server.ask("port")) } satisfies NodeArgument)
    const small = join(context.dir, "small")
    writeFileSync(small, Buffer.alloc(mebibyte, 1))
    const first: Pack = { ref: await hashPieces(small), path: small }
    const pack: Pack = { ref, path }
    await Promise.all([server.ask("touch"), away.ask("touch")])
    await server.ask("hold", first)
    await server.ask("hold", pack)
    await away.ask("fetch", first)
    const costs = async () => (await Promise.all([server.ask("cost"), away.ask("cost")])) as ReadonlyArray<ReturnType<typeof costOf>>
    const before = await costs()
    const end = await context.begin()
    await away.ask("fetch", pack)
    const window = await end()
    const after = await costs()
    const processCpuMs = after.reduce((sum, cost, n) => sum + cost.cpuMs - (before[n]?.cpuMs ?? 0), 0)
    if (await away.ask("whole", ref.sha256) !== true) throw new Error("what was fetched is not the pack")
    const carriers = (await away.ask("carriers")) as ReadonlyArray<string>
    const expected = by === "lane" ? "lan" : "mesh"
    if (carriers.some((carrier) => carrier !== expected)) throw new Error(`it went over ${carriers.join(" and ")}`)
    return measured(window.wallMs, window.cpuMs + processCpuMs, ref.length, { "of it transfer processes CPU s": processCpuMs / 1_000, "process MiB": Math.max(...after.map(({ peakMiB }) => peakMiB)) })
  } finally {
    await dht?.stop()
  }
}
