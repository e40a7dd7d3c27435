/** The tunnels of all connections of a node: which one to ask, and one place that tells them when the rules changed. */
import type { SwarmHost } from "./host.ts"
import type { Opened, Pinged, Services } from "./services.ts"
import type { Session } from "./session.ts"
import { makeTunnel, type InUse, type Tunnel } from "./tunnel.ts"
import { type TunnelOptions, tunnelDefaults } from "./tunnel-wire.ts"

export interface Tunnels {
  /** One for each session; it begins when the session is ready and ends with it. */
  readonly add: (session: Session) => Pick<Tunnel, "begin">
  /** Membership changed. */
  readonly review: () => void
  /** Undefined when the device is not in touch or did not answer in time. */
  readonly ping: (device: string, msMax: number) => Promise<Pinged | undefined>
  readonly open: (device: string, service: string, probe: boolean) => Promise<Opened>
  /** Streams open now, in both directions of asking. */
  readonly streams: () => number
}

export const makeTunnels = (host: SwarmHost, services: Services, given: Partial<TunnelOptions>, tick: () => number): Tunnels => {
  const options: TunnelOptions = { ...tunnelDefaults, ...given }
  const inUse: InUse = new Map()
  /** In the order in which they became ready. */
  const ready = new Map<Tunnel, string>()
  const all = new Set<Tunnel>()

  const review = (): void => {
    for (const tunnel of [...all]) tunnel.review()
  }
  services.onChange(review)

  /** The newest connection: of two to one device the older may be dead and not know it yet. */
  const to = (device: string): Tunnel | undefined => [...ready].findLast(([, other]) => other === device)?.[0]

  return {
    add: (session) => {
      const { connection, device, mux } = session
      const tunnel = makeTunnel({
        mux, device, initiator: connection.initiator, carrier: connection.carrier, remote: connection.remote,
        isMember: () => session.phase() === "ready" && host.membership.standing(device) === "member"
      }, services, inUse, options, tick)
      all.add(tunnel)
      void session.ended.then(({ refusal, why }) => {
        all.delete(tunnel)
        ready.delete(tunnel)
        tunnel.end(refusal === "revoked" || refusal === "notMember"
          ? { reason: "cut", sentence: "the device is a member no more" }
          : { reason: refusal === "stopping" || refusal === "isolated" ? "stopping" : "broken", sentence: why === "" ? "the node stops" : why })
      })
      return {
        begin: () => {
          ready.set(tunnel, device)
          tunnel.begin()
        }
      }
    },
    review,
    ping: async (device, msMax) => await to(device)?.ping(msMax),
    open: async (device, service, probe) => await to(device)?.open(service, probe) ?? { _tag: "Absent" },
    streams: () => [...all].reduce((sum, tunnel) => sum + tunnel.streams(), 0)
  }
}
