/** Two people rewrite neighbouring paragraphs at the same time: each paragraph stays whole. */
import { Context, Effect, Exit, Layer, Scope } from "effect"
import t from "tap"
import { DocumentWorker } from "../src/projections/documents/pool.ts"
import type { LoggedChange, StoredDocument } from "../src/projections/documents/types.ts"

const doc = "memory/notes/page"
const logA = "aa".repeat(32)
const logB = "bb".repeat(32)
const empty = (): StoredDocument => ({ snapshot: undefined, gate: undefined, changes: [] })

t.test("neighbouring paragraphs that are rewritten apart do not run into each other", async (t) => {
  const scope = Effect.runSync(Scope.make())
  const pool = async () => Context.get(await Effect.runPromise(Layer.buildWithScope(Layer.fresh(DocumentWorker.layer), scope)), DocumentWorker)
  const [a, b] = [await pool(), await pool()]
  const edit = async (worker: typeof a, log: string, block: number, text: string): Promise<LoggedChange> => {
    const { change } = await Effect.runPromise(worker.edit(doc, log, [{ _tag: "Text", text }], 1_800_000_000_000, empty))
    if (change === undefined) throw new Error("nothing changed")
    const logged = { log, block, offset: 0, ms: 1_800_000_000_000, change }
    await Effect.runPromise(worker.apply([{ doc, changes: [logged] }], empty))
    return logged
  }
  const take = async (worker: typeof a, change: LoggedChange) => {
    const [answer] = await Effect.runPromise(worker.apply([{ doc, changes: [change] }], empty))
    if (answer === undefined || "stalled" in answer) throw new Error("the document stalls")
    return answer.state.value["text"]
  }
  const base = await edit(a, logA, 0, "one one\n\ntwo two\n\nthree three\n\nfour four\n")
  await take(b, base)
  const fromA = await edit(a, logA, 1, "one one\n\nTWO, written anew\n\nthree three\n\nfour four\n")
  const fromB = await edit(b, logB, 0, "one one\n\ntwo two\n\nTHREE, also anew\n\nfour four\n")
  const expected = "one one\n\nTWO, written anew\n\nTHREE, also anew\n\nfour four\n"
  t.equal(await take(a, fromB), expected)
  t.equal(await take(b, fromA), expected)
  await Effect.runPromise(Scope.close(scope, Exit.void))
})
