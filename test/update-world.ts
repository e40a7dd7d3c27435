/** A release with everything in it, of which a test changes what it is about; a mesh; and what its nodes have said. */
import type { Member, Membership } from "../src/projections/membership.ts"
import type { Role } from "../src/codec/operation.ts"
import type { UpdateStep, UpdateStepName, UpdateTurn } from "../src/events/catalogue.ts"
import { updateSteps } from "../src/events/catalogue.ts"
import type { StepRow, TurnRow } from "../src/projections/tables/updates.ts"
import type { turnsOf } from "../src/projections/updates.ts"
import type { Release, ReleaseCustom } from "../src/updates/release.ts"

export const releaseOf = (more: Partial<ReleaseCustom> = {}, id = "5e".repeat(32)): Release => {
  const custom: ReleaseCustom = {
    kos: 1, kind: "bundle", name: "kos", version: "1.1.0", platform: "any", boards: [], payload: { form: "tree", length: 1_000, sha256: "aa".repeat(32) },
    needs: { kosMin: null, kosBelow: null, from: null, freeBytes: 0 }, events: { reads: [], writes: [] }, minSecure: null, security: false, ring: "all", rolloutPermille: 1_000, checks: [],
    healthyMs: 0, deadlineMs: 60_000, entry: null, migrations: [], risk: "", notes: "", ...more
  }
  return { id, channel: "c4".repeat(32), channelName: "stable", target: `kos/${custom.name}@${custom.version}@${custom.platform}`, indexLength: 100, signers: ["11".repeat(32), "22".repeat(32)], threshold: 2, role: "targets", custom }
}

export interface Person {
  readonly device: string
  readonly name: string
  readonly logs: ReadonlyArray<string>
  readonly role?: Role
  readonly standing?: Member["standing"]
}

export const membershipOf = (people: ReadonlyArray<Person>): Membership => ({
  id: "3e".repeat(32), name: "hill", invites: new Map(), void: [], epochs: [], threshold: 1, recovery: undefined, operations: 1, waiting: 0, heads: [],
  devices: new Map(people.flatMap(({ device, logs }) => logs.map((log) => [log, device] as const))),
  members: new Map(people.map(({ device, name, logs, role = "member", standing = "member" }): [string, Member] => [device, {
    device, name, role, since: "", by: device, ms: 0, standing, granted: { hash: "", by: device, ms: 0 }, logs: logs.map((log) => ({ log, from: "" }))
  }]))
})

interface Said {
  readonly log: string
  readonly block: number
  readonly type: string
  readonly body: unknown
}

/** Steps and turns as the tables would hand them out, for a view that is asked thousands of times. */
export const readingOf = (view: Membership, said: ReadonlyArray<Said>): Parameters<typeof turnsOf>[0] => {
  const at = ({ log, block }: Said) => ({ log, block, offset: 0, ms: 0, count: 0, actor: "device" })
  const steps: ReadonlyArray<StepRow> = said.flatMap((one) => {
    const step = updateSteps.find((name): name is UpdateStepName => one.type === `update.${name}/1`)
    return step === undefined ? [] : [{ ...at(one), step, body: one.body as UpdateStep }]
  })
  const turns: ReadonlyArray<TurnRow> = said.flatMap((one) => one.type === "update.turn/1" ? [{ ...at(one), body: one.body as typeof UpdateTurn.Type }] : [])
  const none = () => []
  return {
    members: { view: () => view, deviceOf: (log) => view.devices.get(log), nameOf: (device) => view.members.get(device)?.name ?? device.slice(0, 8) },
    tables: { updates: { steps: () => steps, turns: () => turns, advice: none, capable: none } }
  }
}
