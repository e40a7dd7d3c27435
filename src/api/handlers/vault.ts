import { Effect } from "effect"
import { type SecretKeeper, secretKeeperOf } from "../../commands/secret-keeper.ts"
import type { SecretLine, SecretsView, SecretVersion } from "../../projections/secrets.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { Handlers, OutputOf } from "../operations/table.ts"
import { byOf, refuse, timeText } from "./reading.ts"

type Names = "vault.set" | "vault.get" | "vault.list" | "vault.rotate" | "vault.remove"
type Row = OutputOf<"vault.list">[number]
type Holder = Row["nodes"][number]

export const vaultHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "vault.set": ({ name, value, for: recipients }, call) => Effect.gen(function*() {
    if (value === undefined) return yield* refuse("usage", "the value is missing; it is read from stdin or a file", "kos help vault set")
    const keeper = keeperOf(daemon)
    const done = yield* keeper.set(call, { name, value, recipients })
    return { name, version: versionOf(keeper, name), ...done }
  }),

  "vault.get": ({ name }, call) => Effect.map(keeperOf(daemon).use(name, call.actor), ({ version, value }) => ({ name, version, value: Buffer.from(value).toString("utf8") })),

  "vault.list": ({ all }) => Effect.sync(() => {
    const mesh = daemon.mesh()
    const view = keeperOf(daemon).view()
    return [...view.secrets.values()].flatMap(({ lines, removed }) => [
      ...lines.map((line) => liveRow(mesh, view, line, lines.length > 1)),
      ...(all ? removed.map((version) => removedRow(mesh, view, version)) : [])
    ])
  }),

  "vault.rotate": ({ name, value }, call) => Effect.gen(function*() {
    const keeper = keeperOf(daemon)
    const done = yield* keeper.rotate(call, { name, value })
    return { name, version: versionOf(keeper, name), ...done }
  }),

  "vault.remove": ({ name }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const keeper = keeperOf(daemon)
    const { items, summary, events } = yield* keeper.remove(call, name)
    const view = keeper.view()
    const nodes = new Map<string, Holder>()
    for (const item of items) {
      // Of several versions the one that is not destroyed yet tells.
      for (const holder of receipts(mesh, view, item)) if (nodes.get(holder.device)?.state !== "not yet") nodes.set(holder.device, holder)
    }
    return { name, summary, events, nodes: [...nodes.values()] }
  })
})

const keeperOf = (daemon: DaemonView): SecretKeeper => secretKeeperOf(daemon.mesh(), daemon.now)

const versionOf = (keeper: SecretKeeper, name: string): number => keeper.view().secrets.get(name)?.versionMax ?? 0

const liveRow = (mesh: MeshView, view: SecretsView, line: SecretLine, contested: boolean): Row => {
  const [first] = line.live
  if (first === undefined) throw new Error("a line without a version")
  const wanted = view.devicesFor(first.recipients)
  const holding = view.keptBy(first.author).courier.has(first.item) && !wanted.includes(first.author) && view.shredded(first.author, first.item) === undefined ? [first.author] : []
  const fresh = line.live.find((version) => version.fresh)
  return {
    name: line.name, version: first.version, state: contested ? "contested" : "in force", recipients: recipientNames(mesh, first), owner: mesh.members.nameOf(line.owner),
    by: by(mesh, first), ...(fresh === undefined ? {} : { rotated: timeText(fresh.ms) }), rotate: view.strangers(line).map((device) => mesh.members.nameOf(device)),
    nodes: [
      ...wanted.map((device): Holder => ({ node: mesh.members.nameOf(device), device, state: view.holds(device, first.item) ? "holds" : "waiting" })),
      ...holding.map((device): Holder => ({ node: mesh.members.nameOf(device), device, state: "courier" }))
    ]
  }
}

const removedRow = (mesh: MeshView, view: SecretsView, version: SecretsRemoved): Row => ({
  name: version.name, version: version.version, state: "removed", recipients: recipientNames(mesh, version), owner: mesh.members.nameOf(version.owner),
  by: by(mesh, version.removal), nodes: receipts(mesh, view, version.item), rotate: []
})

type SecretsRemoved = NonNullable<ReturnType<SecretsView["secrets"]["get"]>>["removed"][number]

/** Every device that could have the key of a removed version, and whether it has destroyed it. */
const receipts = (mesh: MeshView, view: SecretsView, item: string): ReadonlyArray<Holder> => view.exposed(item).map((device) => {
  const at = view.shredded(device, item)
  const node = mesh.members.nameOf(device)
  if (at !== undefined) return { node, device, state: "destroyed", at: timeText(at) }
  return { node, device, state: mesh.members.view().members.get(device)?.standing === "member" ? "not yet" : "gone" }
})

const by = (mesh: MeshView, said: { readonly log: string; readonly block: number; readonly offset: number; readonly ms: number }) => {
  const row = mesh.tables.events.byAddress(said)
  return byOf(mesh, row ?? { log: said.log, block: said.block, offset: said.offset, actor: "device", ms: said.ms })
}

const recipientNames = (mesh: MeshView, { recipients }: SecretVersion): ReadonlyArray<string> =>
  recipients.map((recipient) => (recipient.startsWith("node:") ? mesh.members.nameOf(recipient.slice("node:".length)) : recipient))
