import { Effect } from "effect"
import { decideAgents, type AgentsCommand } from "../../commands/decide-agents.ts"
import { decideMemory, pageDoc, type MemoryCommand, type PageWishes } from "../../commands/decide-memory.ts"
import { Refusal } from "../../commands/refusal.ts"
import type { DocId, Json } from "../../projections/documents/types.ts"
import { readAgent, readAgentFile } from "../../projections/families/agents.ts"
import { settingBytes } from "../../projections/families/config-view.ts"
import { agentDoc } from "../../projections/families/doc-id.ts"
import { type Format, guessFormat, isFaulty, parseTable, writeTable } from "../../projections/families/formats.ts"
import { readPage } from "../../projections/families/memory.ts"
import type { DaemonView, MeshView } from "../node.ts"
import type { Call } from "../operation.ts"
import type { Handlers } from "../operations/table.ts"
import { conflictsOf, historyOf, lastChange } from "./documents.ts"
import { valueAt } from "./events.ts"
import { nowPoint, pointOf, refuse, withFrames } from "./reading.ts"

type MemoryNames = Extract<keyof Handlers, `memory.${string}`>
type AgentNames = Extract<keyof Handlers, `agent.${string}`>

export const memoryHandlers = (daemon: DaemonView): Pick<Handlers, MemoryNames> => ({
  "memory.list": ({ prefix, limit }) => Effect.sync(() => {
    const mesh = daemon.mesh()
    return mesh.tables.documents.list("memory", { limit, ...(prefix === undefined ? {} : { prefix }) }).flatMap(({ id, conflicts }) => {
      const state = mesh.tables.documents.state(id)
      const page = state === undefined ? undefined : readPage(state.live)
      if (page === undefined || page.state === "forgotten") return []
      return [{
        page: id.slice("memory/".length), module: id.split("/")[1] ?? "", characters: page.text.length, fields: Object.keys(page.fields).length,
        conflicts, changed: lastChange(mesh, id)
      }]
    })
  }),

  "memory.show": ({ page, at }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const doc = yield* docOfPage(page)
    const state = mesh.tables.documents.state(doc)
    const point = at === undefined ? undefined : yield* pointOf(mesh, at, daemon.now())
    const value = point === undefined ? state?.live : yield* withFrames(mesh, "the page could not be read", (frames) => valueAt(mesh, frames, doc, point))
    const shown = value === undefined ? undefined : readPage(value)
    if (shown === undefined || shown.state === "forgotten") {
      return yield* missing(mesh, page, shown !== undefined, at)
    }
    const writers = mesh.tables.events.forSubject(doc, point).map((row) => mesh.members.nameOf(mesh.members.deviceOf(row.log) ?? row.log))
    return {
      page, text: shown.text, fields: shown.fields, base: point ?? nowPoint(mesh), changed: lastChange(mesh, doc), authors: [...new Set(writers)].sort(),
      conflicts: point === undefined ? conflictsOf(mesh, doc, state) : []
    }
  }),

  "memory.add": ({ page, text, field }, call) => Effect.gen(function*() {
    if (text === undefined && (field ?? []).length === 0) return yield* refuse("usage", "expected text or --field KEY=VALUE", `kos memory add ${page} 'the text'`)
    return yield* written(daemon, "memory.add", call, page, { _tag: "Add", page, text: text ?? "", ...wishesOf(field, undefined) })
  }),

  "memory.edit": ({ page, text, base, field, unset }, call) => Effect.gen(function*() {
    const state = daemon.mesh().tables.documents.state(yield* docOfPage(page))
    // An editor that was opened on nothing, or text from stdin, makes the page.
    const isNew = text !== undefined && (base ?? "") === "" && (state === undefined || readPage(state.live).state === "forgotten")
    return yield* written(daemon, "memory.edit", call, page, isNew ? { _tag: "Add", page, text, ...wishesOf(field, unset) } : {
      _tag: "Edit", page, ...(text === undefined ? {} : { text }), ...(base === undefined ? {} : { base }), ...wishesOf(field, unset)
    })
  }),

  "memory.forget": ({ page }, call) => Effect.map(written(daemon, "memory.forget", call, page, { _tag: "Forget", page }), ({ summary, events }) => ({ summary, events })),

  "memory.history": ({ page, text, limit }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const doc = yield* docOfPage(page)
    if (mesh.tables.documents.state(doc) === undefined) return yield* missing(mesh, page, false, undefined)
    return yield* historyOf(mesh, doc, limit, text)
  }),

  "memory.search": ({ words, module, limit }) => Effect.sync(() => {
    const mesh = daemon.mesh()
    return mesh.tables.search.search(words.join(" "), { limit, ...(module === undefined ? {} : { module }) }).map(({ doc, snippet, rank }) => ({
      page: doc.slice("memory/".length), line: lineOf(mesh.tables.documents.state(doc)?.live["text"], words), excerpt: snippet, score: -rank
    }))
  })
})

export const agentHandlers = (daemon: DaemonView): Pick<Handlers, AgentNames> => ({
  "agent.list": () => Effect.sync(() => {
    const mesh = daemon.mesh()
    return mesh.tables.documents.list("agents").flatMap(({ id }) => {
      const row = agentRow(mesh, id)
      return row === undefined ? [] : [row]
    })
  }),

  "agent.show": ({ name }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const doc = agentDoc(name)
    const row = agentRow(mesh, doc)
    const state = mesh.tables.documents.state(doc)
    const agent = state === undefined ? undefined : readAgent(state.live)
    if (row === undefined || state === undefined || agent === undefined) return yield* refuse("not-found", `there is no agent ${name}`, "kos agent list")
    const text = writeTable(agent.definition, "yaml")
    return { ...row, definition: agent.definition, text: "why" in text ? "" : text.value, faults: state.faults, open: conflictsOf(mesh, doc, state) }
  }),

  "agent.apply": ({ text, format }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const command: AgentsCommand = { _tag: "Apply", text, format: format ?? guessFormat(text) }
    // Read once without a lock to learn which agent the file speaks of; the decision itself is made under it.
    const look = decideAgents(mesh.dispatch.documents(["agents"]), command)
    if (look instanceof Refusal) return yield* mesh.dispatch.run("agent.apply", call, [], Effect.fail(look)).pipe(Effect.flatMap(() => Effect.die("refused")))
    const doc = look.changes[0]?.doc ?? agentDoc(nameIn(text, format ?? guessFormat(text)))
    const created = mesh.tables.documents.state(doc) === undefined
    const done = yield* mesh.dispatch.change("agent.apply", call, [doc], (documents) => decideAgents(documents, command))
    const name = doc.slice("agents/".length)
    return { name, version: readAgent(mesh.tables.documents.state(doc)?.live ?? {})?.version ?? "", created, ...done }
  }),

  "agent.remove": ({ name }, call) => changeAgent(daemon, "agent.remove", call, { _tag: "Remove", name }),
  "agent.start": ({ name }, call) => changeAgent(daemon, "agent.start", call, { _tag: "Start", name }),
  "agent.stop": ({ name }, call) => changeAgent(daemon, "agent.stop", call, { _tag: "Stop", name })
})

const changeAgent = (daemon: DaemonView, name: string, call: Call, command: AgentsCommand & { readonly name: string }) =>
  daemon.mesh().dispatch.change(name, call, [agentDoc(command.name)], (documents) => decideAgents(documents, command))

const agentRow = (mesh: MeshView, id: DocId) => {
  const state = mesh.tables.documents.state(id)
  const agent = state === undefined ? undefined : readAgent(state.live)
  if (state === undefined || agent === undefined || agent.state === "removed") return undefined
  return {
    name: id.slice("agents/".length), version: agent.version, desired: agent.desired, where: agent.where, valid: state.faults.length === 0,
    conflicts: state.conflicts.length, changed: lastChange(mesh, id)
  }
}

const written = (daemon: DaemonView, name: string, call: Call, page: string, command: MemoryCommand) => Effect.gen(function*() {
  const mesh = daemon.mesh()
  const doc = yield* docOfPage(page)
  const before = mesh.tables.documents.state(doc)
  const created = before === undefined || readPage(before.live).state === "forgotten"
  const limits = { pageBytesMax: settingBytes(daemon.config(), "memory.page.bytes.max") }
  const done = yield* mesh.dispatch.change(name, call, [doc], (documents) => decideMemory(documents, command, limits))
  return { page, created: created && done.events.length > 0, ...done }
})

const docOfPage = (page: string): Effect.Effect<DocId, Refusal> => {
  const doc = pageDoc(page)
  return doc instanceof Refusal ? Effect.fail(doc) : Effect.succeed(doc)
}

const missing = (mesh: MeshView, page: string, forgotten: boolean, at: string | undefined): Effect.Effect<never, Refusal> => {
  if (at !== undefined) return Effect.fail(refuse("not-found", `${page} did not exist at ${at}`, `kos memory history ${page}`))
  if (forgotten) return Effect.fail(refuse("not-found", `${page} was forgotten; its history stays`, `kos memory history ${page}`))
  const decided = decideMemory(mesh.dispatch.documents(["memory"]), { _tag: "Forget", page }, { pageBytesMax: 1 })
  return Effect.fail(decided instanceof Refusal ? decided : refuse("not-found", `there is no page ${page}`, "kos memory list"))
}

const wishesOf = (field: ReadonlyArray<string> | undefined, unset: ReadonlyArray<string> | undefined): PageWishes => {
  const fields = new Map<string, { readonly word: string } | undefined>()
  for (const name of unset ?? []) fields.set(name, undefined)
  for (const text of field ?? []) {
    const at = text.indexOf("=")
    fields.set(text.slice(0, at), { word: text.slice(at + 1) })
  }
  return fields.size === 0 ? {} : { fields }
}

/** The agent that a definition's file names. */
const nameIn = (text: string, format: Format): string => {
  const parsed = parseTable(text, format)
  const file = isFaulty(parsed) ? undefined : readAgentFile(parsed.value)
  return file === undefined || "why" in file ? "" : file.value.name ?? ""
}

/** The first line that holds one of the words; 1 when they stand in the title or in fields. */
const lineOf = (text: Json | undefined, words: ReadonlyArray<string>): number => {
  if (typeof text !== "string") return 1
  const wanted = words.map((word) => word.replace(/["*]/g, "").toLowerCase())
  const line = text.split("\n").findIndex((candidate) => wanted.some((word) => candidate.toLowerCase().includes(word)))
  return line < 0 ? 1 : line + 1
}

