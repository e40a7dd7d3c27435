import { Effect } from "effect"
import { decideConfig, checkConfigFile, liveLayer, type ConfigCommand } from "../../commands/decide-config.ts"
import { decideAgents } from "../../commands/decide-agents.ts"
import { decideMemory } from "../../commands/decide-memory.ts"
import type { Decided, Documents, Resolve } from "../../commands/decide-change.ts"
import { lockOf, type Done } from "../../commands/dispatch.ts"
import { Refusal } from "../../commands/refusal.ts"
import type { DocId, Family, Json } from "../../projections/documents/types.ts"
import { configTree, explain, type LayeredValue, settingBytes } from "../../projections/families/config-view.ts"
import { configDoc, familyOf, type LayerId, parseDocId } from "../../projections/families/doc-id.ts"
import { diffKeys } from "../../projections/families/diff.ts"
import { flatten, guessFormat, unflatten, writeConfig, writeTable } from "../../projections/families/formats.ts"
import { canonicalPath, isWithin, namespaceOf } from "../../projections/families/path.ts"
import { demandOf, type Rule, subjectOf } from "../../projections/families/policy.ts"
import { findSetting, layerFault, requireSetting, settingExpects, settings } from "../../projections/families/settings.ts"
import type { ConfigSource, DaemonView, MeshView } from "../node.ts"
import type { Call } from "../operation.ts"
import type { By, ConflictShape, Difference } from "../operations/common.ts"
import type { Handlers } from "../operations/table.ts"
import { conflictId, conflictShape, differences, earlierOf, historyOf, writerOf } from "./documents.ts"
import { refusedSentence, refusedValues } from "./approval.ts"
import { byAt, byOf, findEvent, nowPoint, refuse, timeText } from "./reading.ts"

type Names = Extract<keyof Handlers, `config.${string}`>

type Target = { readonly layer?: "mesh" | "role" | "node"; readonly role?: string }

export const configHandlers = (daemon: DaemonView): Pick<Handlers, Names> => ({
  "config.show": ({ path, layer, role, format, defaults }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const scope = path === undefined ? undefined : yield* scopeOf(path)
    const values = layer === undefined
      ? configTree(daemon.config(), { defaults, ...(scope === undefined ? {} : { scope }) })
      : unflatten(Object.fromEntries(Object.entries(liveLayer(mesh.dispatch.documents(["config"]), yield* layerOf(mesh, { layer, ...(role === undefined ? {} : { role }) })))
        .filter(([key]) => scope === undefined || isWithin(key, scope))))
    const written = layer === undefined ? writeTable(values, format, { comments: defaults }) : writeConfig(flatten(values), format)
    if ("why" in written) return yield* refuse("usage", written.why)
    return {
      values, text: written.value, ...(layer === undefined ? {} : { layer }), base: nowPoint(mesh),
      conflicts: mesh.tables.documents.conflicts().filter(({ id }) => id.startsWith("config/")).reduce((sum, { conflicts }) => sum + conflicts.length, 0),
      quarantined: mesh.tables.documents.unwell().filter(({ id }) => id.startsWith("config/")).map(({ id }) => id)
    }
  }),

  "config.get": ({ path, layer, role }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const known = requireSetting(path)
    if ("why" in known) return yield* refuse("not-found", known.why, "kos config show --defaults")
    const name = known.value.path
    if (layer !== undefined) {
      const id = yield* layerOf(mesh, { layer, ...(role === undefined ? {} : { role }) })
      const doc = yield* docOf(id, name)
      const state = mesh.tables.documents.state(doc)
      const value = state?.live[name]
      if (value === undefined) return yield* refuse("not-found", `${name} is not set in the ${layer} layer`, `kos config explain ${name}`)
      const by = writerOf(mesh, state, name) ?? null
      return { path: name, value, layer, by, at: by?.at ?? null }
    }
    const winner = explain(daemon.config(), name).winner
    if (winner === undefined) {
      const tree = configTree(daemon.config(), { scope: name })
      if (Object.keys(tree).length === 0) return yield* refuse("not-found", `nobody set ${name}`, "kos config show")
      return { path: name, value: tree, layer: "default" as const, by: null, at: null }
    }
    const by = byOfValue(mesh, winner)
    return { path: name, value: winner.value, layer: winner.layer, by, at: by?.at ?? null }
  }),

  "config.set": (input, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const id = yield* layerOf(mesh, input)
    const path = yield* pathOf(input.path)
    if (input.text === undefined && input.value === undefined) return yield* refuse("usage", `${path}: expected a value`, `kos config set ${path} VALUE`)
    const before = liveLayer(mesh.dispatch.documents(["config"]), id)[path]
    const done = yield* changeConfig(mesh, "config.set", call, id, input.value !== undefined
      ? { _tag: "SetValue", layer: id, path: input.path, value: input.value } : { _tag: "Set", layer: id, path: input.path, word: input.text ?? "" })
    const layerNow = liveLayer(mesh.dispatch.documents(["config"]), id)
    const beneath = Object.fromEntries(Object.entries(layerNow).filter(([key]) => isWithin(key, path)))
    const after: Json = layerNow[path] ?? (Object.keys(beneath).length > 0 ? beneath : null)
    return { path, layer: input.layer, ...(before === undefined ? {} : { before }), after, ...done }
  }),

  "config.unset": (input, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const id = yield* layerOf(mesh, input)
    const path = yield* pathOf(input.path)
    const before = liveLayer(mesh.dispatch.documents(["config"]), id)[path]
    const done = yield* changeConfig(mesh, "config.unset", call, id, { _tag: "Unset", layer: id, path: input.path })
    const after = explain(daemon.config(), path).winner?.value
    return { path, layer: input.layer, ...(before === undefined ? {} : { before }), ...(after === undefined ? {} : { after }), ...done }
  }),

  "config.edit": (input, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const id = yield* layerOf(mesh, input)
    return yield* applied(mesh, "config.edit", call, input.layer, id, { _tag: "Edit", layer: id, base: input.base, text: input.text, format: input.format })
  }),

  "config.validate": (input) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    if (input.text === undefined) {
      const unwell = mesh.tables.documents.unwell().filter(({ id }) => id.startsWith("config/"))
      const faults = [
        ...unwell.flatMap(({ id, faults, stalled }) => [...faults, ...(stalled === undefined ? [] : [`stalls: ${stalled}`])].map((detail) => ({ path: id, detail }))),
        ...daemon.config().faults.map((detail) => ({ path: "", detail }))
      ]
      return { valid: faults.length === 0, faults }
    }
    const id = yield* layerOf(mesh, input)
    const { faults } = checkConfigFile(input.text, input.format ?? guessFormat(input.text), id)
    return { valid: faults.length === 0, faults: faults.map(({ path, detail }) => ({ path, detail })) }
  }),

  "config.diff": (input) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const id = yield* layerOf(mesh, input)
    const { values, faults } = checkConfigFile(input.text, input.format ?? guessFormat(input.text), id)
    const now = liveLayer(mesh.dispatch.documents(["config"]), id)
    const wished = input.prune ? values : { ...now, ...values }
    const found: ReadonlyArray<Difference> = diffKeys(now, wished).map(({ path, before, after }) => ({
      document: `config/${id}`, path, change: before === undefined ? "added" : after === undefined ? "removed" : "changed",
      ...(before === undefined ? {} : { before }), ...(after === undefined ? {} : { after })
    }))
    return { layer: input.layer, differences: faults.length === 0 ? found : [], faults: faults.map(({ path, detail }) => ({ path, detail })) }
  }),

  "config.apply": (input, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const id = yield* layerOf(mesh, input)
    return yield* applied(mesh, "config.apply", call, input.layer, id, {
      _tag: "Apply", layer: id, text: input.text, format: input.format ?? guessFormat(input.text), prune: input.prune
    })
  }),

  "config.history": ({ path, layer, limit }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const scope = path === undefined ? undefined : yield* scopeOf(path)
    const id = layer === undefined ? undefined : yield* layerOf(mesh, { layer })
    const docs = mesh.tables.documents.list("config").map((doc) => doc.id).filter((doc) => {
      const parsed = parseDocId(doc)
      if ("why" in parsed || parsed.value.family !== "config") return false
      return (id === undefined || parsed.value.layer === id) && (scope === undefined || isWithin(scope, parsed.value.namespace) || isWithin(parsed.value.namespace, scope))
    })
    const rows = (yield* Effect.forEach(docs, (doc) => historyOf(mesh, doc, limit, true, scope))).flat()
    return rows.toSorted((a, b) => (a.by.arrival ?? 0) - (b.by.arrival ?? 0)).slice(-limit)
  }),

  "config.revert": ({ event }, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const row = yield* findEvent(mesh, event)
    const parsed = parseDocId(row.subject)
    if (row.type !== "config.changed/1" || "why" in parsed || parsed.value.family !== "config") {
      return yield* refuse("usage", `@${row.arrival} changed no settings; it is ${row.type}`, "kos config history")
    }
    const { before, after } = yield* earlierOf(mesh, row.subject, row.arrival)
    const earlier = new Map<string, Json | undefined>(diffKeys(before, after).map((difference) => [difference.path, difference.before]))
    const layer = parsed.value.layer
    return yield* applied(mesh, "config.revert", call, kindOfLayer(layer), layer, { _tag: "Revert", layer, earlier })
  }),

  "config.conflicts": ({ all }) => Effect.sync(() => {
    const mesh = daemon.mesh()
    return inbox(mesh).filter(({ doc }) => all || doc.startsWith("config/")).map(({ shape, refused }) => ({ ...shape, ...(refused === undefined ? {} : { refused }) }))
  }),

  "config.resolve": (input, call) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const found = inbox(mesh).filter(({ shape }) => shape.id === input.conflict || shape.path === input.conflict || `${shape.document}/${shape.path}` === input.conflict)
    const [only] = found
    if (only === undefined) return yield* refuse("not-found", `there is no conflict ${input.conflict}`, "kos config conflicts --all")
    if (found.length > 1) return yield* refuse("usage", `${input.conflict} is in conflict in ${found.length} places; give its id`, "kos config conflicts --all")
    const { doc, shape } = only
    const chosen = shape.values.find((value) => value.choice === input.choice)
    if (input.choice !== undefined && chosen === undefined) return yield* refuse("usage", `there is no choice ${input.choice}; expected 1 to ${shape.values.length}`, `kos config conflicts --all`)
    const family = familyOf(doc)
    const choice = input.choice !== undefined ? { number: input.choice } : input.value !== undefined ? { value: input.value } : input.text !== undefined ? { word: input.text } : undefined
    if (choice === undefined) return yield* refuse("usage", "expected the number of the value to keep, or another value", `kos config resolve ${shape.id} 1`)
    const done = yield* mesh.dispatch.change("config.resolve", call, [lockOf(doc)], (documents) => resolve(daemon, documents, family, { _tag: "Resolve", doc, key: shape.path, choice }))
    const now = mesh.tables.documents.state(doc)
    return { document: doc, path: shape.path, value: valueAtKey(now?.value ?? {}, shape.path), ...done }
  }),

  "config.explain": ({ path }) => Effect.gen(function*() {
    const mesh = daemon.mesh()
    const known = requireSetting(path)
    if ("why" in known) return yield* refuse("not-found", known.why, "kos config show --defaults")
    const { setting } = known.value
    const explained = explain(daemon.config(), known.value.path)
    const { policy } = mesh.dispatch
    const conflict = inbox(mesh).find(({ shape, refused }) => refused === undefined && shape.path === known.value.path)?.shape ?? null
    const namespace = namespaceOf(known.value.path)
    const subject = "why" in namespace ? undefined : subjectOf(configDoc("mesh", namespace.value), known.value.path)
    const demand = demandOf(policy.rules(), subject ?? { kind: "config/mesh", parts: [known.value.path] })
    const written = policy.rules().find(({ name }) => name !== "" && name === demand.rule?.name)
    const refused = policy.documents().flatMap(([doc, { left }]) => left.filter(({ key }) => key === known.value.path)
      .map((one) => ({ document: doc, value: one.value ?? null, by: byAt(mesh, one), why: refusedSentence(mesh, one) })))
    return {
      path: known.value.path, sentence: setting.about, type: settingExpects(setting), default: setting.default ?? null,
      value: explained.winner?.value ?? null, winner: explained.winner?.layer ?? "default",
      layers: explained.layers.map((layer) => ({ layer: layer.layer, value: layer.value, by: byOfValue(mesh, layer), ...(layer.from === "" ? {} : { from: layer.from }) })),
      conflict, refused,
      policy: { may: demand.may, approvals: demand.approvals, by: demand.by, rule: ruleShown(demand.rule), setBy: written === undefined ? null : byAt(mesh, written.at) },
      restart: false
    }
  })
})

/** Sets several settings as one change, for commands that are about something else than settings; a value of undefined is taken away, alone. */
export const changeSettings = (
  mesh: MeshView, name: string, call: Call, kind: "mesh" | "role" | "node", values: ReadonlyArray<readonly [path: string, value: Json | undefined]>
): Effect.Effect<Done, Refusal> => Effect.gen(function*() {
  const layer = yield* layerOf(mesh, { layer: kind })
  const [first] = values
  if (first !== undefined && first[1] === undefined) return yield* changeConfig(mesh, name, call, layer, { _tag: "Unset", layer, path: first[0] })
  const set = Object.fromEntries(values.flatMap(([path, value]) => value === undefined ? [] : [[path, value]]))
  return yield* changeConfig(mesh, name, call, layer, { _tag: "Apply", layer, text: JSON.stringify(unflatten(set)), format: "json", prune: false })
})

const changeConfig = (mesh: MeshView, name: string, call: Call, layer: LayerId, command: ConfigCommand): Effect.Effect<Done, Refusal> =>
  mesh.dispatch.change(name, call, [`config/${layer}`], (documents) => decideConfig(documents, command))

const applied = (mesh: MeshView, name: string, call: Call, kind: "mesh" | "role" | "node", layer: LayerId, command: ConfigCommand) => Effect.gen(function*() {
  const before = liveLayer(mesh.dispatch.documents(["config"]), layer)
  const done = yield* changeConfig(mesh, name, call, layer, command)
  const after = liveLayer(mesh.dispatch.documents(["config"]), layer)
  return { layer: kind, differences: differences(`config/${layer}`, before, after, undefined), ...done }
})

const resolve = (daemon: DaemonView, documents: Documents, family: Family, command: Resolve): Decided =>
  family === "config" ? decideConfig(documents, command)
    : family === "agents" ? decideAgents(documents, command)
    : decideMemory(documents, command, { pageBytesMax: settingBytes(daemon.config(), "memory.page.bytes.max") })

/** Conflicts, and values that are not in force because who wrote them may not, where there is no conflict anyway. */
const inbox = (mesh: MeshView): ReadonlyArray<{ readonly doc: DocId; readonly shape: ConflictShape; readonly refused?: string }> => {
  const conflicts = mesh.tables.documents.conflicts().flatMap(({ id, conflicts }) => conflicts.map((conflict) => ({ doc: id, shape: { ...conflictShape(mesh, id, conflict), id: conflictId(id, conflict) } })))
  const refused = refusedValues(mesh)
  return [
    ...conflicts.map((entry) => {
      const why = refused.find(({ doc, shape }) => doc === entry.doc && shape.path === entry.shape.path)?.refused
      return why === undefined ? entry : { ...entry, refused: why }
    }),
    ...refused.filter(({ doc, shape }) => !conflicts.some((entry) => entry.doc === doc && entry.shape.path === shape.path))
  ]
}

const ruleShown = (rule: Rule | undefined): string => rule === undefined ? "members write" : rule.name === "" ? `built-in: ${rule.text}` : `${rule.name}: ${rule.text}`

const valueAtKey = (value: { readonly [key: string]: Json }, key: string): Json => {
  if (!key.startsWith("fields.")) return value[key] ?? null
  const fields = value["fields"]
  return typeof fields === "object" && fields !== null && !Array.isArray(fields) ? (fields as { readonly [key: string]: Json })[key.slice(7)] ?? null : null
}

const layerOf = (mesh: MeshView, target: Target): Effect.Effect<LayerId, Refusal> => Effect.suspend(() => {
  const me = mesh.members.view().members.get(mesh.vault.deviceId)
  if (target.layer === "mesh") return Effect.succeed<LayerId>("mesh")
  if (target.layer === "role") return Effect.succeed<LayerId>(`role:${target.role ?? me?.role ?? "member"}`)
  return target.role === undefined ? Effect.succeed<LayerId>(`node:${mesh.vault.deviceId}`) : Effect.fail(refuse("usage", "--role goes with --layer role"))
})

const kindOfLayer = (layer: LayerId): "mesh" | "role" | "node" => layer === "mesh" ? "mesh" : layer.startsWith("role:") ? "role" : "node"

const pathOf = (text: string): Effect.Effect<string, Refusal> => {
  const path = canonicalPath(text)
  return "why" in path ? Effect.fail(refuse("usage", path.why)) : Effect.succeed(path.value)
}

/** A path or a group of settings; unknown ones are told with a suggestion. */
const scopeOf = (text: string): Effect.Effect<string, Refusal> => Effect.gen(function*() {
  const path = yield* pathOf(text)
  const known = requireSetting(path)
  const group = findSetting(path) !== undefined || !("why" in known)
  if (!group && !groups.has(path.split(".")[0] ?? "")) return yield* refuse("not-found", "why" in known ? known.why : `there is no setting ${path}`, "kos config show --defaults")
  return path
})

const docOf = (layer: LayerId, path: string): Effect.Effect<DocId, Refusal> => {
  const setting = findSetting(path)
  const fault = setting === undefined ? undefined : layerFault(path, setting, layer)
  if (fault !== undefined) return Effect.fail(refuse("usage", fault))
  const namespace = namespaceOf(path)
  return "why" in namespace ? Effect.fail(refuse("usage", namespace.why)) : Effect.succeed(configDoc(layer, namespace.value))
}

const byOfValue = (mesh: MeshView, value: LayeredValue<ConfigSource>): By | null => {
  if (value.by === undefined) return null
  const row = mesh.tables.events.byAddress(value.by)
  return row === undefined ? { ...byOf(mesh, { ...value.by }), at: timeText(value.by.ms) } : byOf(mesh, row)
}

/** First parts of setting paths: what can be shown as a group. */
const groups: ReadonlySet<string> = new Set([...settings.map(({ path }) => path.split(".")[0] ?? ""), "user"])
