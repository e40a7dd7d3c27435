import t from "tap"
import { decideConfig, checkConfigFile, liveLayer, type ConfigCommand } from "../src/commands/decide-config.ts"
import { differencesOf, isRefusal, withEdits, type Decided, type DocumentView } from "../src/commands/decide-change.ts"
import type { Conflict, DocId } from "../src/projections/documents/types.ts"
import { configTree, explain, layerValues, resolveConfig, settingBytes, settingFlag, settingMs, settingTexts, settingWindow } from "../src/projections/families/config-view.ts"
import type { LayerId } from "../src/projections/families/doc-id.ts"
import { writeConfig } from "../src/projections/families/formats.ts"
import type { JsonObject } from "../src/projections/families/json.ts"
import { validate } from "../src/projections/families/validate.ts"

const device = "ab".repeat(32)
const node: LayerId = `node:${device}`

/** given(values).when(command).then(values | nothing | refusal) */
const given = (values: Readonly<Record<DocId, JsonObject>>, more: { readonly conflicts?: Readonly<Record<DocId, ReadonlyArray<Conflict>>>; readonly live?: Readonly<Record<DocId, JsonObject>> } = {}) => {
  const documents = new Map<DocId, DocumentView>(Object.entries(values).map(([doc, value]) => [doc, { value, live: more.live?.[doc] ?? value, conflicts: more.conflicts?.[doc] ?? [] }]))
  return {
    documents,
    when: (command: ConfigCommand) => {
      const decided: Decided = decideConfig(documents, command)
      const after = (): Record<DocId, JsonObject> => {
        if (isRefusal(decided)) throw new Error(decided.detail)
        const result: Record<DocId, JsonObject> = {}
        for (const { doc, edits, paths, summary } of decided.changes) {
          t.ok(edits.length > 0 && paths.length === edits.length && summary.length > 5, summary)
          result[doc] = withEdits(result[doc] ?? documents.get(doc)?.value ?? {}, edits)
          t.same(validate(doc, result[doc] ?? {}), [], "also between two events of one command")
        }
        return result
      }
      return {
        decided,
        then: (expected: Readonly<Record<DocId, JsonObject>>) => t.same(after(), expected, JSON.stringify(command).slice(0, 90)),
        thenNothing: () => t.same(after(), {}, JSON.stringify(command).slice(0, 90)),
        thenRefused: (kind: string, detail: RegExp, path?: string) => {
          t.ok(isRefusal(decided), JSON.stringify(command).slice(0, 90))
          if (!isRefusal(decided)) return
          t.equal(decided.kind, kind, decided.detail)
          t.match(decided.detail, detail)
          if (path !== undefined) t.equal(decided.path, path)
        }
      }
    }
  }
}

const set = (path: string, word: string, layer: LayerId = "mesh"): ConfigCommand => ({ _tag: "Set", layer, path, word })

const twoPorts: Conflict = {
  key: "swarm.peers.max",
  values: [{ value: 8, log: "aa", block: 1, offset: 0, ms: 1, winner: true }, { value: 16, log: "bb", block: 1, offset: 0, ms: 2, winner: false }]
}

t.test("set reads the word by the setting's type and writes one register of one document", async () => {
  given({}).when(set("network.lan", "false")).then({ "config/mesh/network": { "network.lan": false } })
  given({}).when(set("network.bootstrap", "a:1,b:2", "role:reader")).then({ "config/role:reader/network": { "network.bootstrap": ["a:1", "b:2"] } })
  given({}).when(set("network.port", "4077", node)).then({ [`config/${node}/network`]: { "network.port": 4077 } })
  given({ "config/mesh/log": { "log.level": "warn" } }).when(set("log.bytes.max", "8388608")).then({ "config/mesh/log": { "log.level": "warn", "log.bytes.max": "8MiB" } })
  given({}).when(set("sync.window", "22:00-06:00")).then({ "config/mesh/sync": { "sync.window": "22:00-06:00" } })
  given({ "config/mesh/log": { "log.bytes.max": "8MiB" } }).when(set("log.bytes.max", "8192KiB")).thenNothing()
  given({ "config/mesh/swarm": { "swarm.peers.max": 8 } }, { conflicts: { "config/mesh/swarm": [twoPorts] } }).when(set("swarm.peers.max", "8")).then({ "config/mesh/swarm": { "swarm.peers.max": 8 } })
})

t.test("the user's own settings take any value, table by key", async () => {
  given({}).when(set("user.app.port", "80")).then({ "config/mesh/user.app": { "user.app.port": 80 } })
  given({}).when(set("user.app.name", "plain words")).then({ "config/mesh/user.app": { "user.app.name": "plain words" } })
  given({ "config/mesh/user.app": { "user.app.a.x": 1, "user.app.b": 2 } }).when(set("user.app.a", "{\"y\":{\"z\":[1]}}")).then({ "config/mesh/user.app": { "user.app.b": 2, "user.app.a.y.z": [1] } })
  given({ "config/mesh/user.app": { "user.app.a.x": 1 } }).when(set("user.app.a", "5")).thenRefused("usage", /user\.app\.a: expected either a value or keys beneath it/, "user.app.a")
  given({}).when(set("user.app", "x".repeat(20_000))).thenRefused("usage", /user\.app: expected at most 16384 bytes/, "user.app")
  given({}).when(set("user.app.x", "{\"__proto__\":{\"a\":1}}")).thenRefused("usage", /forbidden/)
  given({}).when(set("user", "1")).thenRefused("usage", /user\.NAME/)
})

t.test("a bad value, path or layer is refused whole, with the path and what was expected", async () => {
  given({}).when(set("network.lan", "maybe")).thenRefused("usage", /^network\.lan: expected true or false, found "maybe"; nothing was written$/, "network.lan")
  given({}).when(set("swarm.peers.max", "0")).thenRefused("usage", /a whole number from 1 to 256, found the number 0/, "swarm.peers.max")
  given({}).when(set("netwrk.lan", "true")).thenRefused("not-found", /did you mean network\.lan/)
  given({}).when(set("network", "true")).thenRefused("usage", /a group, not a setting/)
  given({}).when(set("a..b", "1")).thenRefused("usage", /not a path/)
  given({}).when(set("network.port", "1")).thenRefused("usage", /cannot be set for the whole mesh: only for a node/, "network.port")
  given({}).when(set("memory.page.bytes.max", "64KiB", node)).thenRefused("usage", /only for the whole mesh/)
  given({ "config/mesh/log": { "log.bytes.max": "256MiB" } }).when(set("log.files.max", "100")).thenRefused("usage", /within 1GiB.*nothing was written/, "log.files.max")
  given({}).when({ _tag: "SetValue", layer: "mesh", path: "network.lan", value: "true" }).thenRefused("usage", /found the text "true"/)
})

t.test("a secret is refused, named and not repeated, and the vault is named", async (t) => {
  for (const [path, word] of [["user.app.password", "hunter2hunter2"], ["user.app.note", `ghp_${"aB3".repeat(12)}`], ["secrets.key", "x"], ["user.app", "{\"deep\":[{\"apiKey\":\"hunter2hunter2\"}]}"], ["network.bootstrap", `AKIA${"ABCD1234".repeat(2)}`]] as const) {
    const { decided } = given({}).when(set(path, word))
    t.ok(isRefusal(decided) && decided.kind === "policy" && decided.detail.includes("vault") && !decided.detail.includes("hunter2") && !decided.detail.includes("aB3"), path)
  }
  given({}).when(set("user.app.password", "vault:db")).then({ "config/mesh/user.app": { "user.app.password": "vault:db" } })
})

t.test("unset takes a key or a group away, and knows what never was", async () => {
  given({ "config/mesh/network": { "network.lan": false, "network.dht": true } }).when({ _tag: "Unset", layer: "mesh", path: "network.lan" }).then({ "config/mesh/network": { "network.dht": true } })
  given({ "config/mesh/user.app": { "user.app.a": 1, "user.app.b.c": 1 }, "config/mesh/user.b": { "user.b": 1 } }).when({ _tag: "Unset", layer: "mesh", path: "user.app" }).then({ "config/mesh/user.app": {} })
  given({ "config/mesh/later": { "later.key": 1 } }).when({ _tag: "Unset", layer: "mesh", path: "later.key" }).then({ "config/mesh/later": {} })
  given({}).when({ _tag: "Unset", layer: "mesh", path: "network.lan" }).thenNothing()
  given({}).when({ _tag: "Unset", layer: "mesh", path: "network" }).thenNothing()
  given({}).when({ _tag: "Unset", layer: "mesh", path: "network.lam" }).thenRefused("not-found", /did you mean network\.lan/)
})

const apply = (text: string, prune = false): ConfigCommand => ({ _tag: "Apply", layer: "mesh", format: "yaml", text, prune })

t.test("apply sets what the file names, prune takes the rest away, unknown keys of newer nodes stay", async () => {
  const before = { "config/mesh/network": { "network.lan": false, "network.dht": true, "network.later": 1 }, "config/mesh/user.app": { "user.app.a": 1 } }
  given(before).when(apply("network:\n  lan: true\nuser:\n  app:\n    b: [1]\n")).then({
    "config/mesh/network": { "network.lan": true, "network.dht": true, "network.later": 1 }, "config/mesh/user.app": { "user.app.a": 1, "user.app.b": [1] }
  })
  given(before).when(apply("network: {lan: false}\n", true)).then({ "config/mesh/network": { "network.lan": false, "network.later": 1 }, "config/mesh/user.app": {} })
  given(before).when(apply("network: {}\n")).thenNothing()
  given(before).when(apply("network:\n  lan: true\n  mode: maybe\n")).thenRefused("usage", /network\.mode: expected joined or isolated/, "network.mode")
  given(before).when(apply("network:\n  lan: true\n  lan: false\n")).thenRefused("usage", /line 3: network\.lan/, "network.lan")
  given(before).when(apply("a: *b")).thenRefused("usage", /line 1/)
})

t.test("a file is checked whole, each fault with its line", async (t) => {
  const { faults } = checkConfigFile("network:\n  lan: 1\n  lam: 2\nlog:\n  files:\n    max: 100\n  bytes:\n    max: 256MiB\nuser:\n  a:\n    password: secret-of-mine\n", "yaml", "mesh")
  t.same(faults.map(({ path, line }) => [path, line]), [["network.lan", 2], ["network.lam", 3], ["user.a.password", 11], ["log.files.max", 6]])
  t.same(checkConfigFile("network:\n  lan: false\n", "yaml", "mesh"), { values: { "network.lan": false }, faults: [] })
})

t.test("an editor's text applies its own difference only", async () => {
  const base = "network:\n  lan: false\nuser:\n  app:\n    a: 1\n    b: 2\n"
  const now = { "config/mesh/network": { "network.lan": false, "network.dht": false }, "config/mesh/user.app": { "user.app.a": 1, "user.app.b": 3 } }
  const edit = (text: string, force = false): ConfigCommand => ({ _tag: "Edit", layer: "mesh", format: "yaml", base, text, force })
  given(now).when(edit(base.replace("a: 1", "a: 9"))).then({ "config/mesh/user.app": { "user.app.a": 9, "user.app.b": 3 } })
  given(now).when(edit(base.replace("    a: 1\n", "    c: 1\n"))).then({ "config/mesh/user.app": { "user.app.b": 3, "user.app.c": 1 } })
  given(now).when(edit(base.replace("b: 2", "b: 3"))).thenNothing()
  given(now).when(edit(base.replace("b: 2", "b: 4"))).thenRefused("conflict", /user\.app\.b was changed by someone else/, "user.app.b")
  given(now).when(edit(base.replace("b: 2", "b: 4"), true)).then({ "config/mesh/user.app": { "user.app.a": 1, "user.app.b": 4 } })
  given(now).when(edit(base)).thenNothing()
  given(now).when(edit("a: [")).thenRefused("usage", /line 1/)
})

t.test("a quarantined document can be mended, and not made worse", async (t) => {
  const bad = { "config/mesh/log": { "log.files.max": 100, "log.bytes.max": "256MiB" } }
  const live = { "config/mesh/log": { "log.files.max": 100 } }
  given(bad, { live }).when(set("log.bytes.max", "1MiB")).then({ "config/mesh/log": { "log.files.max": 100, "log.bytes.max": "1MiB" } })
  given(bad, { live }).when(set("log.files.max", "90")).thenRefused("usage", /within 1GiB/)
  const { documents } = given(bad, { live })
  const shownText = writeConfig(liveLayer(documents, "mesh"), "toml")
  const text = "value" in shownText ? shownText.value : ""
  given(bad, { live }).when({ _tag: "Edit", layer: "mesh", format: "toml", base: text, text: text.replace("100", "4") }).then({ "config/mesh/log": { "log.files.max": 4, "log.bytes.max": "256MiB" } })
  const decided = decideConfig(documents, set("log.bytes.max", "1MiB"))
  t.ok(!isRefusal(decided))
  if (!isRefusal(decided)) t.same(differencesOf(documents, decided), [{ document: "config/mesh/log", path: "log.bytes.max", change: "changed", before: "256MiB", after: "1MiB" }])
})

t.test("revert writes earlier values, resolve chooses one of several", async () => {
  given({ "config/mesh/network": { "network.lan": false, "network.dht": true } }).when({ _tag: "Revert", layer: "mesh", earlier: new Map<string, boolean | undefined>([["network.lan", undefined], ["network.dht", false]]) })
    .then({ "config/mesh/network": { "network.dht": false } })
  given({ "config/mesh/network": { "network.dht": false } }).when({ _tag: "Revert", layer: "mesh", earlier: new Map([["network.lan", false]]) }).thenRefused("usage", /expected network\.lan or network\.dht/)
  const doc = "config/mesh/swarm"
  const state = given({ [doc]: { "swarm.peers.max": 8 } }, { conflicts: { [doc]: [twoPorts] } })
  state.when({ _tag: "Resolve", doc, key: "swarm.peers.max", choice: { number: 2 } }).then({ [doc]: { "swarm.peers.max": 16 } })
  state.when({ _tag: "Resolve", doc, key: "swarm.peers.max", choice: { number: 1 } }).then({ [doc]: { "swarm.peers.max": 8 } })
  state.when({ _tag: "Resolve", doc, key: "swarm.peers.max", choice: { word: "12" } }).then({ [doc]: { "swarm.peers.max": 12 } })
  state.when({ _tag: "Resolve", doc, key: "swarm.peers.max", choice: { word: "x" } }).thenRefused("usage", /a whole number/)
  state.when({ _tag: "Resolve", doc, key: "swarm.peers.max", choice: { number: 3 } }).thenRefused("usage", /2 values to choose from/)
  state.when({ _tag: "Resolve", doc, key: "swarm.retry.min", choice: { number: 1 } }).thenRefused("not-found", /open are swarm\.peers\.max/)
})

t.test("a file of many keys becomes several events, and none in between is invalid", async (t) => {
  const old = Object.fromEntries(Array.from({ length: 150 }, (_, i) => [`user.app.k${i}`, i]))
  const text = JSON.stringify({ user: { app: Object.fromEntries(Array.from({ length: 150 }, (_, i) => [`k${i}`, { deep: i }])) } })
  const state = given({ "config/mesh/user.app": old }).when({ _tag: "Apply", layer: "mesh", format: "json", text, prune: true })
  state.then({ "config/mesh/user.app": Object.fromEntries(Array.from({ length: 150 }, (_, i) => [`user.app.k${i}.deep`, i])) })
  t.equal(isRefusal(state.decided) ? 0 : state.decided.changes.length, 5)
  if (!isRefusal(state.decided)) t.equal(differencesOf(given({ "config/mesh/user.app": old }).documents, state.decided).length, 300)
})

t.test("a namespace has room for a thousand keys", async () => {
  const full = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`user.app.k${i}`, i]))
  given({ "config/mesh/user.app": full }).when(set("user.app.more", "1")).thenRefused("usage", /at most 1000 keys/)
  given({ "config/mesh/user.app": full }).when(set("user.app.k1", "7")).then({ "config/mesh/user.app": { ...full, "user.app.k1": 7 } })
  given({}).when({ _tag: "SetValue", layer: "mesh", path: "user.app", value: Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`k${i}`, "x".repeat(8000)])) }).thenRefused("usage", /bytes in one document/)
})

t.test("flag beats environment beats node beats role beats mesh beats default", async (t) => {
  const layer = (id: LayerId, level: string) => ({ layer: id, values: { "log.level": level }, who: (path: string) => ({ by: `${id} ${path}`, at: "then" }) })
  const layers = [layer(node, "debug"), layer("mesh", "warn"), layer("role:member", "error")]
  const level = (config: Parameters<typeof resolveConfig<string>>[0]) => resolveConfig(config).values.get("log.level")
  t.match(level({ layers: [] }), { value: "info", layer: "default" })
  t.match(level({ layers: [layers[1] ?? layer("mesh", "warn")] }), { value: "warn", layer: "mesh", by: "mesh log.level", at: "then" })
  t.match(level({ layers: layers.slice(1) }), { value: "error", layer: "role", from: "member" })
  t.match(level({ layers }), { value: "debug", layer: "node", from: device })
  t.match(level({ layers, env: { KOS_LOG_LEVEL: "info" } }), { value: "info", layer: "environment", from: "KOS_LOG_LEVEL" })
  const config = resolveConfig({ layers, env: { KOS_LOG_LEVEL: "info", KOS_HOME: "/x", PATH: "/y" }, flags: { "log.level": "warn" } })
  t.same(config.faults, [])
  t.same(explain(config, "log.level").layers.map(({ layer: source, value }) => [source, value]), [["flag", "warn"], ["environment", "info"], ["node", "debug"], ["role", "error"], ["mesh", "warn"], ["default", "info"]])
  t.same(configTree(config), { log: { level: "warn" } })
  t.equal(Object.keys(configTree(config, { defaults: true, scope: "network" })).join(), "network")
})

t.test("variables, flags and layers that cannot be read are said or ignored, never guessed", async (t) => {
  const config = resolveConfig({
    layers: [{ layer: "mesh", values: { "network.port": 5, "network.later": 1, "network.lan": false, "sync.upload.max": "1MiB", "user.x": 1 } }],
    env: { KOS_LOG_LEVEL: "loud", KOS_LOG_LEVLE: "info", KOS_BOOTSTRAP: "a:1 b:2", KOS_NETWORK_DHT: "0" }, flags: { "log.levle": "x", "sync.window": "now" }
  })
  t.equal(config.values.get("network.port")?.layer, "default", "the mesh may not set a port")
  t.notOk(config.values.has("network.later"))
  t.match(config.faults.join("\n"), /KOS_LOG_LEVEL: expected debug, info, warn or error[\s\S]*KOS_LOG_LEVLE; did you mean KOS_LOG_LEVEL[\s\S]*did you mean log\.level[\s\S]*sync\.window: expected always[\s\S]*network\.lan or network\.dht/)
  t.same(settingTexts(config, "network.bootstrap"), ["a:1", "b:2"])
  t.equal(settingFlag(config, "network.dht"), false)
  t.equal(settingBytes(config, "sync.upload.max"), 1_048_576)
  t.equal(settingBytes(config, "sync.download.max"), 0, "the default")
  t.equal(settingMs(config, "checkpoint.interval"), 600_000)
  t.equal(settingWindow(config, "sync.window"), "always")
  t.throws(() => settingMs(config, "network.lan"))
  t.equal(explain(config, "user.y").winner, undefined)
})

t.test("a layer is the sum of its documents", async (t) => {
  t.same(layerValues([["config/mesh/a", { "a.x": 1 }], ["config/role:r/a", { "a.x": 2 }], ["config/mesh/b", { "b.x": 3 }], ["memory/a/b", { text: "x" }], ["bad", {}]], "mesh"), { "a.x": 1, "b.x": 3 })
})
