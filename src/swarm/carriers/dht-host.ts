import dgram from "node:dgram"
import net from "node:net"
import os from "node:os"
import HyperDHT from "hyperdht"

export interface DhtHost {
  readonly port: number
  /** The address that others give as bootstrap. */
  readonly host: string
  readonly nodes: number
  stop(): Promise<void>
}

export interface DhtHostOptions {
  /** UDP port of the bootstrap node; 0 takes a free one. The others take the ports after it when those are free. */
  readonly port: number
  /**
   * IPv4 address by which others reach this machine; the first of its network interfaces when absent. It is part of the node's
   * identity: who reaches it by another address cannot announce there.
   */
  readonly host?: string
  /**
   * How many DHT nodes to run, 1 to 16, 4 when absent. With fewer than three, two devices with sockets on all addresses find each other
   * but only one of them believes that they are connected: hole punching needs three witnesses of an address. One is enough when all
   * is on loopback.
   */
  readonly nodes?: number
}

/** Runs a private DHT that needs nobody else; rejects when the port is taken or the host is no IPv4 address. */
export const hostDht = async (options: DhtHostOptions): Promise<DhtHost> => {
  const host = options.host ?? ownAddress()
  if (!net.isIPv4(host) || host === "0.0.0.0") throw new Error(`${host} is not an IPv4 address that others can reach`)
  const count = options.nodes ?? 4
  if (!Number.isInteger(count) || count < 1 || count > nodesMax) throw new Error(`the number of DHT nodes must be 1 to ${nodesMax}`)
  if (count < 3 && !isLoopback(host)) throw new Error("a DHT that is not on loopback needs at least 3 nodes")
  // On loopback nothing may leak to other interfaces; elsewhere bind to all, because the host's address may be one of a NAT.
  const bound = isLoopback(host) ? { host } : {}
  const port = await usablePort(options.port, bound.host)
  const nodes: Array<HyperDHT> = []
  const stop = async (): Promise<void> => {
    while (nodes.length > 0) await nodes.pop()?.destroy()
  }
  try {
    const first = HyperDHT.bootstrapper(port, host, bound)
    nodes.push(first)
    await first.fullyBootstrapped()
    const bootstrap = [{ host, port }]
    for (let i = 1; i < count; i += 1) {
      // The library tries five ports from this one and then any.
      const next = Math.min(port + i, 65_530)
      const node = new HyperDHT({ bootstrap, port: next, ephemeral: false, firewalled: false, ...bound })
      nodes.push(node)
      await node.fullyBootstrapped()
    }
  } catch (error) {
    await stop()
    throw error
  }
  return { port, host, nodes: count, stop }
}

export const isLoopback = (host: string): boolean => host.startsWith("127.")

const nodesMax = 16

const ownAddress = (): string => {
  for (const addresses of Object.values(os.networkInterfaces())) {
    for (const { family, internal, address } of addresses ?? []) if (family === "IPv4" && !internal) return address
  }
  return "127.0.0.1"
}

/** The DHT library wants to know its port before it binds, and says nothing when it cannot have it. */
const usablePort = (wanted: number, host: string | undefined): Promise<number> => new Promise((resolve, reject) => {
  const socket = dgram.createSocket("udp4")
  socket.once("error", (error) => {
    socket.close()
    reject(new Error(`UDP port ${wanted} cannot be used: ${error.message}`))
  })
  socket.bind(wanted, host, () => {
    const { port } = socket.address()
    socket.close(() => resolve(port))
  })
})
