import { Effect } from "effect"
import { decideEnd, federationCalled } from "../../commands/decide-federation.ts"
import { Refusal } from "../../commands/refusal.ts"
import { type Federation, federationsOf, isSharedKind, kinds, newest, receivedRows, type SharedKind, sharedKinds } from "../../projections/federation.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { Handlers, OutputOf } from "../operations/table.ts"
import { refuse, timeText } from "./reading.ts"

export const federationHandlers = (daemon: DaemonView): Pick<Handlers, "mesh.federate"> => ({
  "mesh.federate": ({ invite, share, list, end, timeout }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const shown = () => federationsOf(mesh).map((federation) => rowOf(mesh, federation))
    const modes = [list, end !== undefined, share !== undefined || invite !== undefined].filter((one) => one).length
    if (modes > 1) return yield* refuse("usage", "--list, --end and --share are different wishes; say one of them", "kos help mesh federate")
    if (list) return { summary: "", events: [], federations: shown() }
    if (end !== undefined) {
      const called = federationCalled(federationsOf(mesh), end)
      if (called instanceof Refusal) return yield* called
      const done = yield* mesh.dispatch.run("mesh.federate", call, ["federation"], Effect.suspend(() => {
        const federation = federationsOf(mesh).find(({ id }) => id === called.id) ?? called
        const events = decideEnd(mesh.members.view(), mesh.vault.deviceId, federation, "")
        const whom = called.others.map(({ name }) => name).join(", ")
        return events instanceof Refusal ? Effect.fail(events) : Effect.succeed({ summary: `the federation${whom === "" ? "" : ` with ${whom}`} has ended; the other side hears of it when it is met`, events })
      }))
      return { ...done, federations: shown() }
    }
    const wished = (share ?? []).flatMap((text) => text.split(",")).map((text) => text.trim()).filter((text) => text !== "")
    const other = wished.find((kind) => !isSharedKind(kind))
    if (other !== undefined) return yield* refuse("usage", `${other} cannot be shared; ${sharedKinds.join(", ")} can`, "kos help mesh federate")
    if (wished.length === 0) return yield* refuse("usage", `say what is shared: --share ${sharedKinds.join(",")}`, "kos help mesh federate")
    const made = yield* daemon.federate({ invite, shares: wished.filter(isSharedKind), timeoutMs: timeout * 1_000 }, call)
    return { ...made.done, federations: shown().filter(({ id }) => id === made.federation), ...(made.invite === undefined ? {} : { invite: made.invite }) }
  })
})

const rowOf = (mesh: MeshView, federation: Federation): OutputOf<"mesh.federate">["federations"][number] => {
  const { id, ended, shares, others, begunBy, begunMs, bridges } = federation
  const rows = ended === undefined ? receivedRows(mesh, id) : []
  return {
    id, state: ended === undefined ? "open" : "ended", with: others.map((other) => ({ id: other.id, name: other.name, shares: [...other.shares] })),
    shares: shares.map((kind) => sharedOf(mesh, kind, shares)),
    received: sharedKinds.reduce((sum, kind) => sum + newest(rows, kind).filter(({ value }) => value !== undefined).length, 0),
    bridge: bridges.has(mesh.vault.deviceId), begun: { node: mesh.members.nameOf(begunBy), at: timeText(begunMs) },
    ...(ended === undefined ? {} : { ended: { node: mesh.members.nameOf(ended.by), at: timeText(ended.ms) } })
  }
}

const sharedOf = (mesh: MeshView, kind: SharedKind, shares: ReadonlyArray<SharedKind>) => {
  const { source } = kinds[kind]
  return source === undefined ? { kind, things: 0, note: "nothing to share yet" } : { kind, things: source({ ...mesh, shares }).size }
}
