/** What one node may be and do in the mesh: its role, its expulsion, and which of two histories of its log stands. */
import { Effect } from "effect"
import { toHex } from "../../codec/bytes.ts"
import { rankOf } from "../../codec/operation.ts"
import { randomBytes } from "../../codec/signature.ts"
import { decideRevoke, decideSetRole, decideThreshold } from "../../commands/decide-membership.ts"
import type { Done } from "../../commands/dispatch.ts"
import type { Member } from "../../projections/membership.ts"
import { secretsReadableBy } from "../../projections/secrets.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { Handlers, OutputOf } from "../operations/table.ts"
import { keyBytes } from "../../vault/vault.ts"
import { decided, lengthOf, memberOf, operationBy } from "./mesh.ts"
import { refuse, timeText } from "./reading.ts"

type Names = "node.role" | "node.revoke" | "node.clear" | "mesh.threshold"

/** How long a revocation is watched on its way to the peers in touch before the answer is given, milliseconds. */
const toldMsMax = 2_000

export const nodeHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "node.role": ({ node, role }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const member = yield* memberOf(mesh, node)
    const done = yield* decided(mesh, "node.role", call, `${member.name} is ${role} now`, () => decideSetRole(mesh.situation(), {
      node: member.device, role, lengthOf: (log) => lengthOf(mesh, log), newKey: randomBytes(keyBytes), keys: mesh.keyring.shared()
    }))
    return { name: member.name, device: member.device, role: mesh.members.view().members.get(member.device)?.role ?? role, was: member.role, ...done }
  }),

  "node.revoke": ({ node, reason }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const member = yield* memberOf(mesh, node)
    const others = peersInTouch(mesh).filter((device) => device !== member.device)
    const done = yield* decided(mesh, "node.revoke", call, `${member.name} is expelled`, () => decideRevoke(mesh.situation(), {
      node: member.device, lengthOf: (log) => lengthOf(mesh, log), newKey: randomBytes(keyBytes), ...(reason === "" ? {} : { reason })
    }))
    const view = mesh.members.view()
    const now = view.members.get(member.device) ?? member
    const agreed = agreement(mesh, member.device)
    const told = yield* Effect.promise(() => heard(mesh, others))
    const name = (device: string): string => mesh.members.nameOf(device)
    return {
      name: member.name, device: member.device, role: member.role,
      cutoffs: now.logs.flatMap(({ log, cutAt }) => cutAt === undefined ? [] : [{ log, length: cutAt }]),
      ...(now.standing === "revoked" && mesh.keyring.current !== undefined ? { epoch: mesh.keyring.current.epoch } : {}),
      agreed, readable: readableBy(mesh, member),
      told: told.map(name), untold: others.filter((device) => !told.includes(device)).map(name),
      ...done,
      summary: now.standing === "revoked" ? done.summary : `${agreed.owners} of ${agreed.of} owners agree that ${member.name} is expelled; it stays until they do`
    }
  }),

  "node.clear": ({ node, reason }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const member = yield* memberOf(mesh, node)
    const me = mesh.members.view().members.get(mesh.vault.deviceId)
    if (me === undefined || rankOf(me.role) < rankOf("admin")) return yield* refuse("denied", "only an admin or owner decides which history of a log stands")
    const held = mesh.members.evidence().filter(({ accused, decided }) => decided === undefined && mesh.members.deviceOf(accused) === member.device)
    if (held.length === 0) return yield* refuse("not-found", `no log of ${member.name} shows two histories`, "kos event verify --all")
    const logs = yield* Effect.tryPromise({
      try: () => Promise.all(held.map(async ({ accused, length }) => {
        const core = await mesh.store.session(accused)
        try {
          if (core.contiguousLength < length) throw new Error(`this node holds ${core.contiguousLength} blocks of it, ${length} are needed to decide`)
          return { log: accused, length, treeHash: toHex(await core.treeHash(length)) }
        } finally {
          await core.close()
        }
      })),
      catch: (cause) => refuse("conflict", `the history of ${member.name} that is held here cannot be named: ${cause instanceof Error ? cause.message : String(cause)}`)
    })
    const done: Done = yield* mesh.dispatch.run("node.clear", call, [], Effect.succeed({
      summary: `the history of ${member.name} that this node holds stands`,
      events: logs.map((body) => ({ type: "evidence.cleared/1", subject: `log/${body.log}`, body: { ...body, reason } }))
    }))
    return { name: member.name, device: member.device, logs, ...done }
  }),

  "mesh.threshold": ({ owners }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const done = owners === undefined
      ? { summary: "", events: [] }
      : yield* decided(mesh, "mesh.threshold", call, `${owners} must agree before an owner is expelled`, () => decideThreshold(mesh.situation(), { threshold: owners }))
    const view = mesh.members.view()
    const names = [...view.members.values()].filter((member) => member.standing === "member" && member.role === "owner").map((member) => member.name)
    const set = mesh.members.operations().findLast((operation) => operation.says.kind === "owners.threshold" && operation.says.threshold === view.threshold)
    return {
      threshold: view.threshold, owners: names.toSorted(), ...(set === undefined ? {} : { by: operationBy(mesh, set) }), ...done,
      summary: owners === undefined || owners === view.threshold ? done.summary || `${view.threshold} of ${names.length} owners must agree` : "recorded; it takes effect when as many owners as must agree now say the same"
    }
  })
})

/** How many owners want a node expelled, and how many it takes. */
const agreement = (mesh: MeshView, device: string): { readonly owners: number; readonly of: number } => {
  const member = mesh.members.view().members.get(device)
  const owners = member?.accused?.by.length
  return owners === undefined ? { owners: 1, of: 1 } : { owners, of: member?.accused?.needed ?? owners }
}

/** What the device could read, and what of it can be changed. */
export const readableBy = (mesh: MeshView, member: Member): OutputOf<"node.revoke">["readable"] => ({
  epochs: mesh.members.view().epochs.filter(({ sealed }) => sealed.has(member.device)).map(({ epoch, ms }) => ({ epoch, since: timeText(ms) })),
  secrets: [...secretsReadableBy(mesh, member.device)]
})

const peersInTouch = (mesh: MeshView): ReadonlyArray<string> =>
  [...new Set(mesh.swarm.sessions().filter((session) => session.phase === "ready").map((session) => session.device))]

/** Those of the peers in touch that hold this node's log up to now, and with it the news. */
const heard = async (mesh: MeshView, devices: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  const log = mesh.journal.log()
  const length = mesh.journal.length()
  const hold = () => devices.filter((device) => mesh.tables.receipts.held(device, log) >= length)
  for (let waited = 0; waited < toldMsMax && hold().length < devices.length; waited += 20) await new Promise((resolve) => setTimeout(resolve, 20))
  return hold()
}

/** What a role lets a node do, in sentences for people. */
export const rightsOf = (member: Member): ReadonlyArray<string> => {
  if (member.standing === "left") return ["none: it left"]
  if (member.standing === "revoked") return ["none: it was expelled"]
  const rank = rankOf(member.role)
  return [
    "hold, verify and pass on all logs",
    ...(rank >= rankOf("reader") ? ["read"] : []),
    ...(rank >= rankOf("member") ? ["change configuration, agents and memory as the policy says"] : []),
    ...(rank >= rankOf("admin") ? ["invite, expel and set roles below its own", "rotate keys, decide about evidence"] : []),
    ...(rank >= rankOf("owner") ? ["everything, also with other owners"] : [])
  ]
}

