import t from "tap"
import { agentNames, decideAgents, type AgentsCommand } from "../src/commands/decide-agents.ts"
import { changeCharactersMax, changeEditsMax, isRefusal, withEdits, type Decided, type DocumentView } from "../src/commands/decide-change.ts"
import { decideMemory, type MemoryCommand } from "../src/commands/decide-memory.ts"
import type { Conflict, DocId } from "../src/projections/documents/types.ts"
import { readAgent } from "../src/projections/families/agents.ts"
import { canonicalJson, type JsonObject } from "../src/projections/families/json.ts"
import { validate } from "../src/projections/families/validate.ts"

const limits = { pageBytesMax: 1000 }

const view = (value: JsonObject, conflicts: ReadonlyArray<Conflict> = []): DocumentView => ({ value, live: value, conflicts })

const outcome = (documents: ReadonlyMap<DocId, DocumentView>, doc: DocId, decided: Decided, name: string) => ({
  decided,
  then: (expected: JsonObject) => {
    if (isRefusal(decided)) return t.fail(`${name}: ${decided.detail}`)
    t.equal(decided.changes.length, 1, name)
    const [change] = decided.changes
    const after = withEdits(documents.get(doc)?.value ?? {}, change?.edits ?? [])
    t.equal(change?.doc, doc)
    t.ok((change?.paths.length ?? 0) > 0 && (change?.summary.length ?? 0) > 5)
    t.same(validate(doc, after), [])
    return t.same(JSON.parse(canonicalJson(after)), JSON.parse(canonicalJson(expected)), name)
  },
  thenNothing: () => t.same(decided, { changes: [] }, name),
  thenRefused: (kind: string, detail: RegExp) => {
    t.ok(isRefusal(decided), name)
    if (isRefusal(decided)) t.match(`${decided.kind}: ${decided.detail}`, new RegExp(`^${kind}: .*${detail.source}`, "su"))
  }
})

const memory = (value: JsonObject | undefined, conflicts: ReadonlyArray<Conflict> = []) => ({
  when: (command: MemoryCommand) => {
    const documents = new Map<DocId, DocumentView>(value === undefined ? [] : [["memory/notes/todo", view(value, conflicts)]])
    return outcome(documents, "memory/notes/todo", decideMemory(documents, command, limits), `memory ${JSON.stringify(command).slice(0, 80)}`)
  }
})

const page = "notes/todo"
const here = { state: "present", text: "Oil the door.\n", fields: { due: "may" } }

t.test("add makes a page, adds a paragraph, or brings a forgotten page back", async () => {
  memory(undefined).when({ _tag: "Add", page, text: "Hi.", title: "T", tags: ["a"], fields: new Map([["n", { word: "5" }], ["s", { word: "x y" }]]) })
    .then({ state: "present", title: "T", tags: ["a"], text: "Hi.", fields: { n: 5, s: "x y" } })
  memory(undefined).when({ _tag: "Add", page, text: "" }).then({ state: "present" })
  memory(here).when({ _tag: "Add", page, text: "Feed the cat." }).then({ ...here, text: "Oil the door.\n\nFeed the cat." })
  memory({ ...here, state: "forgotten" }).when({ _tag: "Add", page, text: "New." }).then({ ...here, text: "New." })
  memory(here).when({ _tag: "Append", page, text: "More." }).then({ ...here, text: "Oil the door.\n\nMore." })
})

t.test("edit keeps what others wrote meanwhile", async () => {
  memory(here).when({ _tag: "Edit", page, text: "Oil the gate.\n" }).then({ ...here, text: "Oil the gate.\n" })
  memory({ ...here, text: "zero\none\ntwo\nthree\n" }).when({ _tag: "Edit", page, base: "one\ntwo\nthree\n", text: "one\ntwo\nTHREE\n" }).then({ ...here, text: "zero\none\ntwo\nTHREE\n" })
  memory({ ...here, text: "one\n2\nthree\n" }).when({ _tag: "Edit", page, base: "one\ntwo\nthree\n", text: "one\nTWO\nthree\n" }).thenRefused("conflict", /same lines/)
  memory(here).when({ _tag: "Edit", page, text: here.text, base: here.text }).thenNothing()
  memory(here).when({ _tag: "Edit", page, fields: new Map([["due", undefined], ["who", { word: "mara" }]]) }).then({ ...here, fields: { who: "mara" } })
})

t.test("fields, forgetting, restoring, reverting", async () => {
  memory(here).when({ _tag: "SetField", page, name: "due", word: "june" }).then({ ...here, fields: { due: "june" } })
  memory(here).when({ _tag: "SetField", page, name: "due", word: "may" }).thenNothing()
  memory(here).when({ _tag: "UnsetField", page, name: "due" }).then({ ...here, fields: {} })
  memory(here).when({ _tag: "Forget", page }).then({ ...here, state: "forgotten" })
  memory({ ...here, state: "forgotten" }).when({ _tag: "Forget", page }).thenNothing()
  memory({ ...here, state: "forgotten" }).when({ _tag: "Restore", page }).then(here)
  memory(here).when({ _tag: "Revert", page, earlier: { text: "Before.", fields: { x: 1 } } }).then({ state: "present", text: "Before.", fields: { x: 1 } })
})

t.test("what a page cannot be is refused", async () => {
  memory(undefined).when({ _tag: "Append", page: "notes/tood", text: "x" }).thenRefused("not-found", /no page/)
  memory(here).when({ _tag: "Append", page: "notes/tood", text: "x" }).thenRefused("not-found", /did you mean notes\/todo/)
  memory({ ...here, state: "forgotten" }).when({ _tag: "Append", page, text: "x" }).thenRefused("not-found", /was forgotten/)
  memory(undefined).when({ _tag: "Add", page: "todo", text: "x" }).thenRefused("usage", /MODULE\/PAGE/)
  memory(undefined).when({ _tag: "Add", page: "notes/../x", text: "x" }).thenRefused("usage", /MODULE\/PAGE/)
  memory(undefined).when({ _tag: "Add", page, text: "ä".repeat(501) }).thenRefused("usage", /text: expected at most 1000 bytes, found 1002/)
  memory({ ...here, text: "x".repeat(2000) }).when({ _tag: "Edit", page, text: "x".repeat(1500) }).then({ ...here, text: "x".repeat(1500) })
  memory(undefined).when({ _tag: "Add", page, text: "a\ud800b" }).thenRefused("usage", /well-formed/)
  memory(undefined).when({ _tag: "Add", page, text: "x", title: "a\nb" }).thenRefused("usage", /one line/)
  memory(undefined).when({ _tag: "Add", page, text: `token ghp_${"aB3".repeat(12)}` }).thenRefused("policy", /vault/)
  memory(here).when({ _tag: "SetField", page, name: "password", word: "hunter2" }).thenRefused("policy", /vault/)
  memory(here).when({ _tag: "SetField", page, name: "__proto__", word: "1" }).thenRefused("usage", /names/)
  memory({ ...here, fields: Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`f${i}`, i])) }).when({ _tag: "SetField", page, name: "one-more", word: "1" }).thenRefused("usage", /at most 100 fields/)
})

t.test("a long text becomes several changes that each stay under the gate's limits and never part a character", async (t) => {
  for (const [before, after] of [["", "x🙂".repeat(20_000)], ["🙂y".repeat(20_000), "short"], [`a${"🙂".repeat(15_000)}b`, `a${"🙃".repeat(15_001)}b`], ["l\n".repeat(3000), Array.from({ length: 3000 }, (_, i) => (i % 2 === 0 ? "l\n" : `m${i}\n`)).join("")]] as const) {
    const documents = new Map<DocId, DocumentView>([["memory/notes/todo", view({ state: "present", text: before })]])
    const decided = decideMemory(documents, { _tag: "Edit", page, text: after, base: before }, { pageBytesMax: 192 * 1024 })
    t.notOk(isRefusal(decided))
    if (isRefusal(decided)) continue
    let value: JsonObject = { state: "present", text: before }
    for (const { edits, paths } of decided.changes) {
      t.same(paths, ["text"])
      let characters = 0
      for (const edit of edits) {
        if (edit._tag !== "Splice") continue
        characters += edit.remove + edit.insert.length
        value = withEdits(value, [edit])
        t.ok(edit.insert.isWellFormed() && String(value["text"]).isWellFormed())
      }
      t.ok(edits.length <= changeEditsMax && characters <= changeCharactersMax && characters > 0)
    }
    t.equal(value["text"], after)
  }
})

t.test("a conflict in a field is settled by choosing", async () => {
  const conflict: Conflict = { key: "fields.due", values: [{ value: "may", log: "a", block: 0, offset: 0, ms: 0, winner: true }, { value: "june", log: "b", block: 0, offset: 0, ms: 0, winner: false }] }
  memory(here, [conflict]).when({ _tag: "Resolve", doc: "memory/notes/todo", key: "fields.due", choice: { number: 2 } }).then({ ...here, fields: { due: "june" } })
  memory(here, [conflict]).when({ _tag: "SetField", page, name: "due", word: "may" }).then(here)
})

const agents = (value: JsonObject | undefined, conflicts: ReadonlyArray<Conflict> = []) => ({
  when: (command: AgentsCommand) => {
    const documents = new Map<DocId, DocumentView>(value === undefined ? [] : [["agents/watcher", view(value, conflicts)]])
    return outcome(documents, "agents/watcher", decideAgents(documents, command), `agents ${JSON.stringify(command).slice(0, 80)}`)
  }
})

const file = "name: watcher\ndescription: Watches the pump\ncommand: [node, watch.js]\nneeds:\n  memory: 64MiB\n  tools: [memory.add]\nsecrets: [pump-token]\nenv:\n  LEVEL: info\n"
const definition = { description: "Watches the pump", command: ["node", "watch.js"], needs: { memory: "64MiB", tools: ["memory.add"] }, secrets: ["pump-token"], env: { LEVEL: "info" } }
const stored = { definition, version: "1", desired: "stopped", where: ["all"], state: "present" }
const apply = (text: string, name?: string): AgentsCommand => ({ _tag: "Apply", format: "yaml", text, ...(name === undefined ? {} : { name }) })

t.test("an agent's file becomes registers; a changed definition gets the next version", async () => {
  agents(undefined).when(apply(file)).then(stored)
  agents(stored).when(apply(file)).thenNothing()
  agents(undefined).when(apply("command: node watch.js\ndesired: running\nwhere: attic, role:member\nversion: 1.2\n", "watcher"))
    .then({ definition: { command: ["node", "watch.js"] }, version: "1.2", desired: "running", where: ["attic", "role:member"], state: "present" })
  agents(stored).when(apply(file.replace("64MiB", "32MiB"))).then({ ...stored, definition: { ...definition, needs: { memory: "32MiB", tools: ["memory.add"] } }, version: "2" })
  agents({ ...stored, version: "1.2.9" }).when(apply(file.replace("64MiB", "32MiB"))).then({ ...stored, definition: { ...definition, needs: { memory: "32MiB", tools: ["memory.add"] } }, version: "1.2.10" })
  agents({ ...stored, desired: "running", state: "removed" }).when(apply(file)).then(stored)
})

t.test("start, stop, remove and revert change the wish, not the definition", async (t) => {
  agents(stored).when({ _tag: "Start", name: "watcher" }).then({ ...stored, desired: "running" })
  agents(stored).when({ _tag: "Stop", name: "watcher" }).thenNothing()
  agents({ ...stored, desired: "running" }).when({ _tag: "Remove", name: "watcher" }).then({ ...stored, state: "removed" })
  agents({ ...stored, state: "removed" }).when({ _tag: "Remove", name: "watcher" }).thenNothing()
  agents({ ...stored, state: "removed" }).when({ _tag: "Start", name: "watcher" }).thenRefused("not-found", /no agent/)
  agents({ ...stored, version: "2" }).when({ _tag: "Revert", name: "watcher", earlier: stored }).then(stored)
  agents(stored).when({ _tag: "Revert", name: "watcher", earlier: { definition: 1 } }).thenRefused("usage", /earlier state/)
  t.equal(readAgent({ ...stored, desired: "running", state: "removed" })?.desired, "stopped", "removed while another started it: it does not run")
  t.same(agentNames(new Map([["agents/a", view(stored)], ["agents/b", view({ ...stored, state: "removed" })]])), ["a"])
})

t.test("what an agent cannot be is refused with line and path", async () => {
  agents(undefined).when(apply("command: [x]\n")).thenRefused("usage", /name: expected the agent's name/)
  agents(undefined).when(apply(file, "other")).thenRefused("usage", /expected other, found "watcher"/)
  agents(undefined).when(apply(`${file}comand: [x]\n`)).thenRefused("usage", /no key "comand"; did you mean command/)
  agents(undefined).when(apply(file.replace("64MiB", "lots"))).thenRefused("usage", /line 5: definition\.needs\.memory: expected a size/)
  agents(undefined).when(apply(`${file}image: x\n`)).thenRefused("usage", /either image or command, found both/)
  agents(undefined).when(apply(`${file}desired: maybe\n`)).thenRefused("usage", /desired: expected running or stopped/)
  agents(undefined).when(apply(`${file}where: [a b]\n`)).thenRefused("usage", /where: expected node names/)
  agents(undefined).when(apply(file.replace("LEVEL: info", "API_TOKEN: abcdef"))).thenRefused("policy", /API_TOKEN holds a secret by its name.*vault/)
  agents(undefined).when(apply("- a")).thenRefused("usage", /table of keys/)
  agents(stored).when({ _tag: "Start", name: "wacher" }).thenRefused("not-found", /did you mean watcher/)
  agents(stored).when({ _tag: "Start", name: "../x" }).thenRefused("usage", /name/)
})
