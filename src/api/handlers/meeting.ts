import { departureOf } from "../../projections/dismissal.ts"
import type { DaemonView, MeshView } from "../node.ts"
import { timeText } from "./reading.ts"

/** Refusals and slowed logs shown in a status at most. */
const shownMax = 3

/** What a person should know of meeting others: own standing, who refuses this node and why, who writes too fast, who waits to be confirmed. */
export const meetingWarnings = (daemon: DaemonView, mesh: MeshView): ReadonlyArray<string> => {
  const { members, swarm, vault } = mesh
  const departure = departureOf(members.view(), members.operations(), vault.deviceId)
  const check = daemon.ownCheck()
  return [
    ...(departure === undefined ? [] : [`${departure.own}; it writes nothing more and is refused by the others`]),
    ...(departure === undefined ? swarm.refusals().slice(0, shownMax).map(({ device, sentence, at }) => `${members.nameOf(device)} refuses this node (${timeText(at).slice(0, 16).replace("T", " ")} UTC): ${sentence}`) : []),
    ...swarm.slowed().slice(0, shownMax).map(({ log, state, until }) => {
      const name = members.nameOf(members.deviceOf(log) ?? "")
      return state === "paused" ? `${name} writes far too fast: nothing of its log is taken until ${timeText(until).slice(11, 19)} UTC` : `${name} writes faster than sync.member.rate: its log is taken more slowly`
    }),
    ...daemon.candidates.list().map(({ id, name, role, words }) => `${name} waits to be let in as ${role}; its screen must show: ${words} (kos invite confirm ${id})`),
    ...(check === undefined ? [] : [`this node waits to be let into ${check.meshName} as ${check.role}; the other screen must show: ${check.words}`])
  ]
}
