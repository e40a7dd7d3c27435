import type { MeshView } from "../node.ts"
import { timeText } from "./reading.ts"

/** How this node stands with one other. */
export interface PeerState {
  readonly name: string
  readonly device: string
  readonly inTouch: boolean
  readonly carrier: string | undefined
  readonly remote: string | undefined
  readonly lastSeen: string | undefined
  /** Events held here that it is not known to hold. */
  readonly waiting: number
  readonly waitingSince: string | undefined
  /** Blocks that it is known to hold and we do not: each is at least one event. */
  readonly behind: number
}

/** The other members, by device. Derived from what each of them told of its logs, never guessed. */
export const peerStates = (mesh: MeshView): ReadonlyMap<string, PeerState> => {
  const { tables, members, vault, swarm } = mesh
  const others = [...members.view().members.values()].filter((member) => member.standing === "member" && member.device !== vault.deviceId)
  const logs = members.logs().map(({ log }) => log)
  const waiting = new Map(tables.receipts.waiting(logs, others.map(({ device }) => device)).map((entry) => [entry.device, entry]))
  const open = new Map(swarm.sessions().filter((session) => session.phase === "ready").map((session) => [session.device, session]))
  return new Map(others.map(({ device, name }) => {
    const peer = tables.receipts.peer(device)
    const session = open.get(device)
    const rest = waiting.get(device)
    const behind = logs.reduce((sum, log) => {
      const ours = log === mesh.journal.log() ? mesh.journal.length() : tables.heads.get(log)?.length ?? 0
      return sum + Math.max(0, tables.receipts.held(device, log) - ours)
    }, 0)
    return [device, {
      name, device, inTouch: session !== undefined, carrier: session?.carrier ?? peer?.carrier, remote: session?.remote ?? peer?.remote,
      lastSeen: session === undefined ? lastSeenOf(mesh, device) : undefined, waiting: rest?.events ?? 0,
      waitingSince: rest?.sinceMs === undefined ? undefined : timeText(rest.sinceMs), behind
    }]
  }))
}

/** When a device was last in touch, also one that belongs no more. */
export const lastSeenOf = ({ tables }: MeshView, device: string): string | undefined => {
  const peer = tables.receipts.peer(device)
  const seen = Math.max(peer?.lastUpMs ?? 0, peer?.lastDownMs ?? 0)
  return seen === 0 ? undefined : timeText(seen)
}
