import t from "tap"
import { didYouMean, editDistance, suggest } from "../src/codec/suggest.ts"
import { buildDocId, isWhy, parseDocId } from "../src/projections/families/doc-id.ts"
import { canonicalJson, equalJson, jsonFault } from "../src/projections/families/json.ts"
import { formatPath, isWithin, namespaceOf, parsePath } from "../src/projections/families/path.ts"
import { findSecret, isSecretName, secretSentence, secretShape } from "../src/projections/families/secret-scan.ts"
import { environmentNames, findSetting, readSetting, requireSetting, settings } from "../src/projections/families/settings.ts"
import { faultsMax, notes, validate } from "../src/projections/families/validate.ts"
import { formatBytes, formatDuration, parseAddress, parseBytes, parseDuration, parseWindow, readWord, windowHolds } from "../src/projections/families/values.ts"

const device = "ab".repeat(32)

t.test("an id parses to its parts and builds back to itself", async (t) => {
  for (const doc of ["config/mesh/network", "config/role:reader/log", `config/node:${device}/user.my-app`, "agents/watcher", "memory/notes/todo", "memory/notes/Größe_日本.1"]) {
    const id = parseDocId(doc)
    t.notOk(isWhy(id), doc)
    if (!isWhy(id)) t.equal(buildDocId(id.value), doc)
  }
})

t.test("hostile ids are refused with a reason", async (t) => {
  const hostile = [
    "", "/", "config", "config/mesh", "config/mesh/", "config/mesh/a/b", "config/mesh/..", "config/mesh/a..b", "config/node:abc/x", `config/node:${device.toUpperCase()}/x`,
    "config/role:/x", "config/role:a b/x", "config/all/x", "agents/", "agents/a/b", "agents/.hidden", "agents/größe", "memory/a", "memory/../b", "memory/a/..", "memory/a/b\u0000", "memory/a/b\n",
    "memory/a/o\u0308", "memory/a/" + "x".repeat(97), "memory/a/\u202eb", "memory/a/\ud800", "secrets/a", "agents/" + "x".repeat(300), "__proto__/a/b", "agents/__proto__"
  ]
  for (const doc of hostile) {
    const id = parseDocId(doc)
    t.ok(isWhy(id) && id.why.length > 10 && !/[\u0000-\u001f\u202e]/u.test(id.why), JSON.stringify(doc).slice(0, 40))
    t.equal(validate(doc, {}).length, 1)
  }
})

t.test("a path has one text, and other texts lead to it or are refused", async (t) => {
  for (const path of ["a", "network.lan", "user.editor.\"files.exclude\"", "user.x.\"a \\\"b\\\"\"", "user.größe.0"]) {
    const parts = parsePath(path)
    t.equal(isWhy(parts) ? parts.why : formatPath(parts.value), path)
  }
  t.same(parsePath("user.\"a\".b"), { value: ["user", "a", "b"] })
  for (const bad of ["", ".", "a.", ".a", "a..b", "a b", "a.\"b", "a.\"\\x\"", "a.__proto__", "a/b", Array.from({ length: 30 }, () => "a").join("."), "a".repeat(600)]) t.ok(isWhy(parsePath(bad)), bad.slice(0, 20))
  t.same(namespaceOf("network.lan"), { value: "network" })
  t.same(namespaceOf("user.app.a.b"), { value: "user.app" })
  t.ok(isWhy(namespaceOf("user")))
  t.ok(isWhy(namespaceOf("user.\"a/b\".c")))
  t.ok(isWithin("a.b.c", "a.b"))
  t.notOk(isWithin("a.bc", "a.b"))
})

t.test("the nearest words are suggested, far ones are not", async (t) => {
  t.equal(editDistance("ca", "abc"), 3)
  t.equal(editDistance("lna", "lan"), 1)
  t.same(suggest("netwrok.lan", settings.map(({ path }) => path)).slice(0, 1), ["network.lan"])
  t.same(suggest("bootstrap", settings.map(({ path }) => path)), ["network.bootstrap"])
  t.same(suggest("zzzzzz", ["status", "doctor"]), [])
  t.equal(suggest("a", Array.from({ length: 50 }, (_, i) => `a${i % 10}`)).length, 3)
  t.equal(didYouMean("stauts", ["status", "start"]), "; did you mean status or start?")
  t.equal(didYouMean("", ["status"]), "")
})

t.test("every setting is sound: its default is of its own type and already in normal form", async (t) => {
  const names = new Set<string>()
  for (const setting of settings) {
    t.match(setting.about, /^[A-Z].{15,}[^.]$/u, setting.path)
    if (setting.secret === true) continue
    t.same(readSetting(setting.path, setting, setting.default), { value: setting.default }, setting.path)
    t.ok(setting.layers.length > 0)
    for (const name of environmentNames(setting)) {
      t.notOk(names.has(name), name)
      names.add(name)
    }
  }
  t.ok(names.has("KOS_NETWORK_BOOTSTRAP") && names.has("KOS_BOOTSTRAP"))
  t.equal(findSetting("secrets.door")?.path, "secrets.*")
  t.equal(findSetting("sync.upload"), undefined)
  const unknown = requireSetting("network.lam")
  t.match(isWhy(unknown) ? unknown.why : "", /there is no setting network\.lam; did you mean network\.lan/)
  const group = requireSetting("swarm.retry")
  t.match(isWhy(group) ? group.why : "", /a group, not a setting: it holds swarm\.retry\.min, swarm\.retry\.max/)
})

t.test("durations, sizes, addresses and windows read and write", async (t) => {
  t.equal(parseDuration("1h30m"), 5_400_000)
  t.equal(formatDuration(5_400_000), "90m")
  t.equal(formatDuration(0), "0s")
  for (const bad of ["", "10", "-1s", "1y", "1s ", "s", "1e3s", "9".repeat(30) + "d"]) t.equal(parseDuration(bad), undefined, bad)
  t.equal(parseBytes("4MiB"), 4_194_304)
  t.equal(parseBytes("1.5k"), 1536)
  t.equal(parseBytes("100kB"), 100_000)
  t.equal(formatBytes(100_000), "100000B")
  t.equal(formatBytes(0), "0B")
  for (const bad of ["", "x", "-1", "1 XB", "1e9", "0.3333333B"]) t.equal(parseBytes(bad), undefined, bad)
  for (let i = 0, n = 1; i < 40; i++, n = n * 2 + (i % 3)) {
    t.equal(parseBytes(formatBytes(n)), n)
    t.equal(parseDuration(formatDuration(n)), n)
  }
  t.same(parseAddress("[::1]:80"), { host: "::1", port: 80 })
  t.same(parseAddress("dht.example.org:49737"), { host: "dht.example.org", port: 49_737 })
  for (const bad of ["host", ":1", "a:0", "a:65536", "a..b:1", "-a:1", "a b:1"]) t.equal(parseAddress(bad), undefined, bad)
  const night = parseWindow("22:00-06:00,12:00-13:00")
  t.ok(night !== undefined)
  if (night !== undefined) t.same([0, 359, 360, 730, 1319, 1320].map((minute) => windowHolds(night, minute)), [true, true, false, true, false, true])
  for (const bad of ["", "22-6", "24:01-01:00", "10:00-10:00", "sometimes"]) t.equal(parseWindow(bad), undefined, bad)
})

t.test("a word is read by the setting's type", async (t) => {
  t.same(readWord({ kind: "boolean" }, "off"), { value: false })
  t.same(readWord({ kind: "integer", min: 0, max: 9 }, " 7 "), { value: 7 })
  t.match(readWord({ kind: "integer", min: 0, max: 9 }, "7x"), { why: /a whole number from 0 to 9, found the text "7x"/ })
  t.match(readWord({ kind: "integer", min: 0, max: 9 }, "0x7"), { why: /found/ })
  t.same(readWord({ kind: "addresses", itemsMax: 3 }, "a:1, b:2"), { value: ["a:1", "b:2"] })
  t.same(readWord({ kind: "addresses", itemsMax: 3 }, "[\"a:1\"]"), { value: ["a:1"] })
  t.same(readWord({ kind: "duration", minMs: 1000, maxMs: 3_600_000 }, "60s"), { value: "1m" })
  t.same(readWord({ kind: "any" }, "{\"a\":[1]}"), { value: { a: [1] } })
  t.same(readWord({ kind: "any" }, "plain words"), { value: "plain words" })
})

t.test("equal JSON values have one text", async (t) => {
  t.equal(canonicalJson({ b: [1, { d: null, c: "x" }], a: true }), "{\"a\":true,\"b\":[1,{\"c\":\"x\",\"d\":null}]}")
  t.ok(equalJson({ a: 1, b: 2 }, { b: 2, a: 1 }))
  t.notOk(equalJson({ a: 1 }, [1]))
  t.match(jsonFault(JSON.parse("{\"a\":{\"__proto__\":1}}"), { depthMax: 4, bytesMax: 100 }), /forbidden key/)
  t.match(jsonFault([[[[1]]]], { depthMax: 3, bytesMax: 100 }), /nested too deeply/)
  t.match(jsonFault(2 ** 60, { depthMax: 3, bytesMax: 100 }), /lose digits/)
})

t.test("each fault says path, what was expected and what was found; a valid document has none", async (t) => {
  const table: ReadonlyArray<readonly [string, Parameters<typeof validate>[1], ReadonlyArray<RegExp>]> = [
    ["config/mesh/network", {}, []],
    ["config/mesh/network", { "network.lan": false, "network.bootstrap": ["a:1"] }, []],
    ["config/mesh/network", { "network.lan": "no" }, [/^network\.lan: expected true or false, found the text "no"$/]],
    ["config/mesh/network", { "network.lan": false, "network.dht": false }, [/^network\.lan: expected network\.lan or network\.dht to stay true/]],
    ["config/mesh/network", { "network.lan": false, "network.dht": false, "network.mode": "isolated" }, []],
    ["config/mesh/network", { "log.level": "info" }, [/expected a path of network, found one of log/]],
    ["config/mesh/network", { "network.\"lan\"": true }, [/found another spelling/]],
    ["config/mesh/network", { "not a path": true }, [/is not a path/]],
    ["config/mesh/network", { "network.port": "wrong layer and type, so never read" }, []],
    [`config/node:${device}/network`, { "network.port": 70_000 }, [/^network\.port: expected a whole number from 0 to 65535, found the number 70000$/]],
    ["config/mesh/log", { "log.files.max": 100 }, []],
    ["config/mesh/log", { "log.bytes.max": "256MiB" }, []],
    ["config/mesh/log", { "log.files.max": 100, "log.bytes.max": "256MiB" }, [/within 1GiB/]],
    ["config/mesh/swarm", { "swarm.retry.min": "1h", "swarm.retry.max": "5m" }, [/^swarm\.retry\.min: expected at most swarm\.retry\.max/]],
    ["config/mesh/future", { "future.thing": { any: 1 } }, []],
    ["config/mesh/user.app", { "user.app.a": [1, 2], "user.app.b": null }, []],
    ["config/mesh/user.app", { "user.app.a": 1, "user.app.a.b": 2 }, [/either a value or keys beneath it/]],
    ["config/mesh/user.app", { "user.app.a": {}, "user.app.a.b": 2 }, []],
    ["config/mesh/user.app", { "user.app.a": "x".repeat(20_000) }, [/at most 16384 bytes/]],
    ["memory/m/p", {}, []],
    ["memory/m/p", { title: "T", state: "present", tags: ["a"], text: "x", fields: { k: 1 }, later: 1 }, []],
    ["memory/m/p", { title: 1, state: "gone", tags: ["a b"], text: 2, fields: [] }, [/^title: /, /^state: /, /^tags: /, /^text: /, /^fields: /]],
    ["memory/m/p", { text: "ä".repeat(100_000) }, [/^text: expected at most 196608 bytes, found 200000$/]],
    ["agents/a", {}, []],
    ["agents/a", { definition: { command: ["x"], later: 1 }, version: "1", desired: "running", where: ["all", "attic", "role:member"], state: "present" }, []],
    ["agents/a", { desired: "running" }, [/^definition: expected a table, found nothing$/]],
    ["agents/a", { definition: {}, desired: "maybe", where: "all" }, [/either image or command, found neither/, /^desired: /, /^where: /]],
    ["agents/a", { definition: { image: "x", command: ["x"], needs: { memory: 1, tools: ["ok"] }, env: { "a b": "1", C: 2 } } }, [/found both/, /env: expected names/, /env\.C: /, /needs\.memory: /]]
  ]
  for (const [doc, value, expected] of table) {
    const faults = validate(doc, value)
    t.equal(faults.length, expected.length, `${doc} ${JSON.stringify(value).slice(0, 60)}: ${faults.join(" | ")}`)
    expected.forEach((pattern, i) => t.match(faults[i], pattern))
  }
  const many = validate("config/mesh/network", Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`bad key ${i}`, 1])))
  t.equal(many.length, faultsMax + 1)
  t.same(notes("config/mesh/network", { "network.later": 1, "network.port": 1, "network.lan": true }).length, 2)
})

t.test("secrets are found by shape and by name, and never repeated; prose is left alone", async (t) => {
  const body = "MIIEpAIBAAKCAQEA1234567890abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"
  const secrets = [
    `-----BEGIN RSA PRIVATE KEY-----\n${body}\n-----END`, `-----BEGIN OPENSSH PRIVATE KEY-----\\n${body}`, `aws AKIA${"ABCDEFGH12345678"} here`, `ghp_${"aB3".repeat(12)}`, `github_pat_${"a1B_".repeat(12)}`,
    `glpat-${"a1B2".repeat(6)}`, `sk_live_${"a1B2".repeat(8)}`, `npm_${"a1B2".repeat(9)}`, `sk-ant-api03-${"a1B2".repeat(9)}`, `kos:secret:${"a1B2".repeat(9)}`
  ]
  for (const secret of secrets) {
    const found = findSecret("user.app.note", `text before ${secret}`)
    t.ok(found, secret.slice(0, 16))
    if (found !== undefined) t.notMatch(secretSentence(found), secret.slice(4, 24))
  }
  const harmless = [
    "a".repeat(64), "c29tZSBiYXNlNjQgdGV4dCB0aGF0IGlzIG5vIHNlY3JldA==", "AKIAIOSFODNN7EXAMPLE", "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----", "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "task-force-of-the-whole-wide-world-and-more", "sk-learn-is-a-library-for-machine-learning", "-----BEGIN PUBLIC KEY-----\n" + body, "Put your password into the vault."
  ]
  for (const text of harmless) t.equal(secretShape(text), undefined, text.slice(0, 24))
  for (const name of ["password", "dbPassword", "API_KEY", "apiKey", "github-token", "client_secret", "privateKey"]) t.ok(isSecretName(name), name)
  for (const name of ["passwordless", "tokens", "key", "keyboard", "tokenizer", "public_key", "secretary"]) t.notOk(isSecretName(name), name)
  t.match(findSecret("user.app", { db: { password: "hunter2" } }), { path: "user.app.db.password" })
  t.equal(findSecret("user.app.password", "vault:db"), undefined)
  t.equal(findSecret("user.app.password", false), undefined)
  t.match(findSecret("secrets.x", 1), { kind: "a secret by its name" })
})

t.test("the secret scan is linear in hostile text", async (t) => {
  const started = process.hrtime.bigint()
  for (const unit of ["-----BEGIN A PRIVATE KEY-----\n", "sk-", "xoxb-", "AIza", "-----BEGIN ", "kos:secret:", "A: \n", "ghp_aaaa"]) secretShape(unit.repeat(Math.floor(200_000 / unit.length)))
  t.ok(Number(process.hrtime.bigint() - started) / 1e6 < 3000)
})
