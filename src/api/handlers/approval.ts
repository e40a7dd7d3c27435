/** Approvals at the doors, and what policy leaves out of the settings as a person reads it. */
import { Effect } from "effect"
import { shortKey } from "../../codec/bytes.ts"
import { findProposal, proposalId } from "../../commands/decide-approval.ts"
import { Refusal } from "../../commands/refusal.ts"
import type { DocId, Json } from "../../projections/documents/types.ts"
import { ownValue } from "../../projections/families/json.ts"
import type { LeftOut } from "../../projections/families/in-force.ts"
import type { Standing } from "../../projections/policy-view.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { Call } from "../operation.ts"
import type { ConflictShape } from "../operations/common.ts"
import type { Handlers, InputOf, OutputOf } from "../operations/table.ts"
import { conflictId } from "./documents.ts"
import { byAt, timeText } from "./reading.ts"

type Names = Extract<keyof Handlers, `approval.${string}`>

export const approvalHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "approval.list": ({ all }) => Effect.sync(() => {
    const mesh = daemon.mesh()
    return mesh.dispatch.policy.proposals(daemon.now()).filter(({ state }) => all || state === "open" || state === "approved").map((standing) => rowOf(mesh, standing))
  }),

  "approval.show": ({ id }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const standing = yield* find(daemon, mesh, id)
    return {
      ...rowOf(mesh, standing), rule: standing.proposal.rule,
      edits: standing.proposal.edits.map(({ doc, key, json, base }) => ({
        document: doc, path: key, ...(base === undefined ? {} : { before: parsed(base) }), ...(json === undefined ? {} : { after: parsed(json) })
      })),
      given: standing.given.map((given) => ({ verdict: given.allow ? "allow" as const : "deny" as const, by: byAt(mesh, given), reason: given.reason, counts: given.counts })),
      effect: standing.done === undefined ? null : byAt(mesh, standing.done)
    }
  }),

  "approval.allow": (input, call) => verdict(daemon, input, call, true),
  "approval.deny": (input, call) => verdict(daemon, input, call, false)
})

/** What somebody wrote who may not, in every layer, as conflicts that wait to be settled: the value in force is the winner. */
export const refusedValues = (mesh: MeshView): ReadonlyArray<{ readonly doc: DocId; readonly shape: ConflictShape; readonly refused: string }> =>
  mesh.dispatch.policy.documents().flatMap(([doc, { left, values, writers }]) => [...new Set(left.map(({ key }) => key))].map((key) => {
    const here = left.filter((one) => one.key === key)
    const [value, at] = [ownValue(values, key), writers.get(key)]
    const shown = [
      ...here.flatMap((one) => one.value === undefined ? [] : [{ value: one.value, by: byAt(mesh, one), winner: false }]),
      ...(value === undefined || at === undefined ? [] : [{ value, by: byAt(mesh, at), winner: true }])
    ]
    const places = here.map((one) => ({ ...one, ms: mesh.tables.events.byAddress(one)?.ms ?? 0 }))
    return {
      doc, refused: here.map((one) => refusedSentence(mesh, one)).join("; "),
      shape: {
        id: conflictId(doc, { key, values: places.map((place) => ({ ...place, value: place.value ?? null, winner: false })) }), document: doc, path: key,
        since: timeText(Math.max(...places.map(({ ms }) => ms))), values: shown.map((one, i) => ({ choice: i + 1, ...one }))
      }
    }
  }))

/** "set by cellar, who may not (member; config/mesh network.** by admin): not in force" */
export const refusedSentence = (mesh: MeshView, { value, device, why, log }: LeftOut): string =>
  `${value === undefined ? "taken away" : "set"} by ${device === undefined ? shortKey(log) : mesh.members.nameOf(device)}, ${why}: not in force`

const verdict = (daemon: DaemonView, input: InputOf<"approval.allow">, call: Call, allow: boolean): Effect.Effect<OutputOf<"approval.allow">, Refusal> => Effect.gen(function*() {
  const mesh = daemon.mesh()
  const found = yield* find(daemon, mesh, input.id)
  const { standing, summary, events } = yield* mesh.dispatch.verdict(call, found.proposal, { allow, reason: input.reason ?? "" })
  return { id: proposalId(standing.proposal), state: standing.state, needs: standing.needs, has: countOf(standing), summary, events }
})

const find = (daemon: DaemonView, mesh: MeshView, text: string): Effect.Effect<Standing, Refusal> => Effect.suspend(() => {
  const found = findProposal(mesh.dispatch.policy.proposals(daemon.now()), text)
  return found instanceof Refusal ? Effect.fail(found) : Effect.succeed(found)
})

const rowOf = (mesh: MeshView, standing: Standing): OutputOf<"approval.list">[number] => ({
  id: proposalId(standing.proposal), state: standing.state, summary: standing.proposal.summary, asked: byAt(mesh, standing.proposal),
  expires: timeText(standing.proposal.expiresMs), needs: standing.needs, by: standing.by, has: countOf(standing)
})

const countOf = ({ given }: Standing): number => given.filter(({ counts, allow }) => counts && allow).length

/** Text that the catalogue let in; what is no JSON is shown as it is. */
const parsed = (text: string): Json => {
  try {
    const value: Json = JSON.parse(text)
    return value
  } catch {
    return text
  }
}
