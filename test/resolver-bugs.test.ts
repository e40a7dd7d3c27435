/**
 * Do the graphs of the property test find errors? Each planted bug changes one expression of the resolver's source; the resolver made of it
 * must give another state than the model on one of the first graphs. A bug that is not found, or whose expression is no longer in the
 * source, fails the test.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import { pathToFileURL } from "node:url"
import t from "tap"
import type { Operation } from "../src/codec/operation.ts"
import type { MembershipFold } from "../src/projections/membership.ts"
import { chance } from "./membership-world.ts"
import { type RandomGraph, randomGraph, summaryOf } from "./resolver-graphs.ts"
import { modelOf } from "./resolver-model.ts"

/** Graphs that a bug may survive. */
const graphsMax = 1_500

interface Bug {
  readonly name: string
  readonly file: string
  readonly from: string
  readonly to: string
}

const facts = "src/codec/membership/facts.ts"
const graph = "src/codec/membership/graph.ts"
const rules = "src/codec/membership/rules.ts"
const passes = "src/codec/membership/passes.ts"
const acceptance = "src/codec/membership/acceptance.ts"
const cuts = "src/codec/membership/cuts.ts"
const resolver = "src/codec/membership/resolver.ts"
const view = "src/projections/membership-view.ts"
const files = [facts, graph, rules, passes, acceptance, cuts, resolver, view, "src/projections/membership.ts"]

const bugs: ReadonlyArray<Bug> = [
  { name: "strong removal is skipped", file: passes, from: "?.find((removal) => removes(removal, vertex))", to: "?.find(() => false)" },
  { name: "wall time in place of causality", file: passes, from: "?.find((removal) => removes(removal, vertex))", to: "?.find((removal) => removal.operation.ms <= vertex.operation.ms)" },
  { name: "strong removal takes what the revoker knew, too", file: passes, from: "?.find((removal) => removes(removal, vertex))", to: "?.[0]" },
  { name: "two that revoke each other are both void", file: passes, from: `!(says.kind === "member.revoked" && says.device === removal.operation.author)`, to: "true" },
  { name: "what a device revoked concurrently with its revocation counts", file: passes, from: `!(says.kind === "member.revoked" && says.device === removal.operation.author)`, to: `says.kind !== "member.revoked"` },
  { name: "a revocation is not threatened by one of its author", file: acceptance, from: "![vertex, ...authorityOf(facts, vertex)]", to: "![...authorityOf(facts, vertex)]" },
  { name: "surplus of an invite stays", file: passes, from: "before.size >= issue.uses", to: "before.size > issue.uses" },
  { name: "surplus counts admissions in place of devices", file: passes, from: "!before.has(says.device) && ", to: "" },
  { name: "operations that do not count give rights", file: passes, from: "if (why === undefined) facts.add(vertex)\n      else", to: "facts.add(vertex)\n      if (why !== undefined)" },
  { name: "an accepted revocation falls with its basis", file: passes, from: "if (accepted.revocations.has(vertex)) return undefined", to: "" },
  { name: "a contested recovery counts", file: passes, from: `if (blocked.has(vertex)) return "another recovery key was set concurrently"`, to: "" },
  { name: "a recovery is contested by a change that does not count", file: passes, from: "changes.some(({ operation }) => !first.voids.has(operation.hash))", to: "changes.length > 0" },
  { name: "the largest cut-off wins", file: cuts, from: "cut = Math.min(cut, listedLength(says.cutoffs, log) ?? 0)", to: "cut = cut === Infinity ? listedLength(says.cutoffs, log) ?? 0 : Math.max(cut, listedLength(says.cutoffs, log) ?? 0)" },
  { name: "a log that is not listed is not cut", file: cuts, from: "listedLength(says.cutoffs, log) ?? 0)", to: "listedLength(says.cutoffs, log) ?? Infinity)" },
  { name: "the log of a re-admission is cut", file: cuts, from: " || knew(claim.vertex, revocation)) continue", to: ") continue" },
  { name: "who lost writing keeps the logs that are not listed", file: cuts, from: "(takes && listed === undefined)", to: "false" },
  { name: "only the last taking of writing is looked at", file: cuts, from: "for (const other of earlier) taking.add(other)", to: "" },
  { name: "what an earlier membership wrote goes when the log had ended", file: cuts, from: "!(knew(grant, claim.vertex) && cutAtOf(verdicts, claim, log, grant) !== undefined)", to: "true" },
  { name: "equal rank may act", file: rules, from: "rankOf(other) < rankOf(role)", to: "rankOf(other) <= rankOf(role)" },
  { name: "the last owner may leave", file: rules, from: `case "member.left":\n      return role === "owner" && facts.ownersBut(author, vertex) === 0`, to: `case "member.left":\n      return false` },
  { name: "the last owner may step down", file: rules, from: `return role === "owner" && facts.ownersBut(author, vertex) === 0 ? "the last owner stays" : undefined\n}`, to: "return undefined\n}" },
  { name: "an owner's role is set by another", file: rules, from: `says.device !== author && target.role === "owner"`, to: "false" },
  { name: "members invite", file: rules, from: `if (!manages(role)) return "only admins and owners issue invites"`, to: "" },
  { name: "an invite has no cap", file: rules, from: "rankOf(says.role) > rankOf(issue.role)", to: "false" },
  { name: "a withdrawn invite admits", file: rules, from: "facts.isWithdrawn(says.invite, vertex)", to: "false" },
  { name: "an admission needs no proof", file: rules, from: "if (!vertex.operation.proven) return", to: "if (false) return" },
  { name: "a recovery needs no proof", file: rules, from: "if (!proven) return", to: "if (false) return" },
  { name: "any recovery key will do", file: rules, from: "set.recovery !== says.recovery", to: "false" },
  { name: "a device comes back with its old log", file: rules, from: "return claim === undefined || (claim.device !== device && ", to: "return claim === undefined || claim.device === device || (" },
  { name: "a revoked device is revoked again", file: rules, from: `target.standing === "revoked"`, to: "false" },
  { name: "the own past is ignored", file: facts, from: "horizon === undefined || knew(horizon, vertex)", to: "true" },
  { name: "of concurrent roles the higher wins", file: facts, from: "rankOf(given) < rankOf(role)", to: "rankOf(given) > rankOf(role)" },
  { name: "a grant that others knew still speaks", file: facts, from: "if (out.length > 0) out = out.filter((other) => !knew(vertex, other))", to: "" },
  { name: "any later admission brings a revoked device back", file: facts, from: "!known.some((entry) => knew(entry, vertex))", to: "!known.some((entry) => byOrder(vertex, entry) < 0)" },
  { name: "one owner revokes another, whatever the threshold", file: facts, from: "const needed = said === 1 ? 1 :", to: "const needed = said > 0 ? 1 :" },
  { name: "revocations of two memberships are added up", file: facts, from: "!apart(one, other) && !apart(other, one)", to: "true" },
  { name: "a re-admission that some did not know parts those who agree", file: facts, from: "knew(entry, a) && knew(b, entry)", to: "knew(entry, a) && !knew(entry, b)" },
  { name: "one owner's word twice is two", file: facts, from: "authors.add(vertex.operation.author).size >= needed", to: "authors.add(vertex.operation.hash).size >= needed" },
  { name: "the threshold asks for more owners than there are", file: facts, from: "Math.max(1, Math.min(said, others))", to: "Math.max(1, said)" },
  { name: "one owner lowers the threshold", file: facts, from: "if (agreeing < clip(said, others)) continue", to: "" },
  { name: "votes for a lower threshold outlive a change", file: facts, from: "votes.clear()", to: "" },
  { name: "a claim without proof wins by order", file: facts, from: "Number(holds(b.vertex.operation)) - Number(holds(a.vertex.operation)) || ", to: "" },
  { name: "a device whose log another one won is not looked at again", file: facts, from: "touchedDevices.add(other.device)", to: "" },
  { name: "a member that was touched is not made anew", file: view, from: "before.known.get(device) === one && ", to: "" },
  { name: "order by arrival", file: graph, from: "a.operation.hash < b.operation.hash ? -1 : a.operation.hash > b.operation.hash ? 1 : 0", to: "a.number - b.number" },
  { name: "a parent's past is forgotten", file: graph, from: "past[i] = (past[i] ?? 0) | (parent.past[i] ?? 0)", to: "past[i] = (past[i] ?? 0)" },
  { name: "all candidates are accepted at once", file: acceptance, from: "return free.length > 0 ? free :", to: "if (free.length < candidates.length) return candidates\n  return free.length > 0 ? free :" },
  { name: "in a circle the first by order is accepted, whatever its rank", file: acceptance, from: "b.rank - a.rank || ", to: "" },
  { name: "in a circle seniority is not looked at", file: acceptance, from: "byOrder(a.entry, b.entry) || ", to: "" },
  { name: "the ground of a ground is not looked at", file: acceptance, from: "queue.push(basis)", to: "" },
  { name: "an admission that pushes another out is judged alone", file: resolver, from: "return !mayPushOut(resolved.pass.facts, vertex, says.invite)", to: "return true" },
  { name: "a change of the recovery key is judged alone", file: resolver, from: `case "recovery.set": return !uses.some((use) => contest(use, vertex))`, to: "" },
  { name: "a recovery is judged alone", file: resolver, from: "return !changes.some((change) => contest(vertex, change))", to: "return true" },
  { name: "a revocation changes nothing that was judged before", file: resolver, from: `case "member.revoked": return !entering.has(author)`, to: "" }
]

t.setTimeout(120_000)

const root = resolve(import.meta.dirname, "..")

/** The resolver with the bug, in a directory of its own; what it does not change is imported from src. */
const plant = async (bug: Bug, directory: string): Promise<(mesh: string) => MembershipFold> => {
  for (const file of files) {
    const source = readFileSync(join(root, file), "utf8")
    const times = source.split(bug.from).length - 1
    if (file === bug.file && times !== 1) throw new Error(`its expression is ${times} times in ${file}`)
    const text = file === bug.file ? source.replace(bug.from, () => bug.to) : source
    const here = text.replaceAll(/(from|import\() ?"(\.[^"]+)"/g, (whole: string, word: string, target: string) => {
      const path = resolve(dirname(join(root, file)), target)
      return files.some((one) => join(root, one) === path) ? whole : `${word} "${pathToFileURL(path).href}"`
    })
    mkdirSync(dirname(join(directory, file)), { recursive: true })
    writeFileSync(join(directory, file), here)
  }
  const made = await import(pathToFileURL(join(directory, "src/projections/membership.ts")).href) as { readonly foldMembership: (mesh: string) => MembershipFold }
  return made.foldMembership
}

const known: Array<RandomGraph & { readonly want: string; readonly mixed: ReadonlyArray<Operation> }> = []
const graphOf = (index: number) => {
  const found = known[index]
  if (found !== undefined) return found
  const made = randomGraph(index + 1)
  const entry = { ...made, want: JSON.stringify(modelOf(made.operations)), mixed: chance(index).shuffle(made.operations) }
  known[index] = entry
  return entry
}

/** Number of the first graph on which it goes wrong, from 1. */
const foundAt = (fold: (mesh: string) => MembershipFold): number | undefined => {
  for (let i = 0; i < graphsMax; i++) {
    const { mesh, operations, mixed, want } = graphOf(i)
    for (const list of [operations, mixed]) {
      const made = fold(mesh)
      try {
        for (const operation of list) {
          made.offer(operation)
          if (list === mixed) made.view()
        }
        if (JSON.stringify(summaryOf(made.view())) !== want) return i + 1
      } catch {
        return i + 1
      }
    }
  }
  return undefined
}

t.test("without a bug the source as it was copied passes", async (t) => {
  const fold = await plant({ name: "none", file: rules, from: "export const fault", to: "export const fault" }, t.testdir())
  for (let i = 0; i < 100; i++) {
    const { mesh, operations, want } = graphOf(i)
    const made = fold(mesh)
    for (const operation of operations) made.offer(operation)
    if (JSON.stringify(summaryOf(made.view())) !== want) t.fail(`graph ${i + 1}`)
  }
})

t.test(`each of ${bugs.length} planted bugs is found`, async (t) => {
  const directory = t.testdir()
  const latest: Array<string> = []
  for (const [i, bug] of bugs.entries()) {
    try {
      const at = foundAt(await plant(bug, join(directory, String(i))))
      if (at === undefined) t.fail(`not found within ${graphsMax} graphs: ${bug.name}`)
      else {
        t.pass(`${bug.name}: graph ${at}`)
        if (at > 200) latest.push(`${bug.name}: ${at}`)
      }
    } catch (error) {
      t.fail(`not planted: ${bug.name}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  t.comment(`found late: ${latest.join("; ")}`)
})
