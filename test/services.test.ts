/** Services as settings: what is read, who is allowed, what may be dialled; and how their use becomes few events. */
import t from "tap"
import type { Wanted } from "../src/commands/dispatch.ts"
import { gatheredMax, gatherMs, makeServiceEvents } from "../src/boot/service-events.ts"
import { validate } from "../src/projections/families/validate.ts"
import { isAllowed, readServices, serviceFaults, type ServiceRule, targetFault, targetText } from "../src/projections/families/services.ts"
import { findSetting, readSetting } from "../src/projections/families/settings.ts"
import { readWord } from "../src/projections/families/values.ts"
import { deviceNamed } from "../src/projections/services.ts"
import { configDoc } from "../src/projections/families/doc-id.ts"

const device = "ab".repeat(32)
const other = "cd".repeat(32)
const nobody = (): undefined => undefined
const ruleOf = (values: Readonly<Record<string, unknown>>): ServiceRule => {
  const rule = readServices(Object.fromEntries(Object.entries(values).map(([key, value]) => [`services.web.${key}`, value as never]))).get("web")
  if (rule === undefined) throw new Error("no service")
  return rule
}

t.test("a service is what its settings say, and closed to all when they say nothing", (t) => {
  t.same([...readServices({})], [])
  t.match(ruleOf({ target: "127.0.0.1:8080" }), { name: "web", target: { host: "127.0.0.1", port: 8080 }, remote: false, allow: [], connectionsMax: 16, idleMs: 600_000 })
  t.match(ruleOf({ target: "[::1]:22", remote: true, allow: ["all", "role:admin", "node:attic"], "connections.max": 3, idle: "90s" }), {
    target: { host: "::1", port: 22 }, remote: true, connectionsMax: 3, idleMs: 90_000,
    allow: [{ kind: "all" }, { kind: "role", role: "admin" }, { kind: "node", node: "attic" }]
  })
  t.equal(ruleOf({ allow: ["all"] }).target, undefined, "named, not declared")
  t.same(ruleOf({ target: "nonsense", allow: ["everybody", 7, "role:king", "node:"], remote: "yes", idle: 5, "connections.max": "many" }),
    { name: "web", target: undefined, remote: false, allow: [], connectionsMax: 16, idleMs: 600_000 }, "what cannot be read is not there")
  t.equal(targetText({ host: "::1", port: 22 }), "[::1]:22")
  t.same([...readServices({ "services.a b.target": "127.0.0.1:1", "service.x.target": "127.0.0.1:1" })], [])
  t.end()
})

t.test("a role means those above it too, a name the device that has it now", (t) => {
  const named = (name: string): string | undefined => name === "attic" ? device : undefined
  t.notOk(isAllowed(ruleOf({ allow: [] }), device, "owner", named))
  t.ok(isAllowed(ruleOf({ allow: ["all"] }), device, "seeder", nobody))
  t.same(["owner", "admin", "member", "reader", "seeder"].map((role) => isAllowed(ruleOf({ allow: ["role:admin"] }), device, role as "owner", nobody)), [true, true, false, false, false])
  t.ok(isAllowed(ruleOf({ allow: ["node:attic"] }), device, "reader", named))
  t.notOk(isAllowed(ruleOf({ allow: ["node:attic"] }), other, "owner", named))
  t.notOk(isAllowed(ruleOf({ allow: ["node:cellar"] }), device, "owner", named))
  t.end()
})

t.test("a name that two members want means neither; a key means its device", (t) => {
  const member = (key: string, name: string, standing = "member") => ({ device: key, name, role: "member", standing })
  const said = (key: string, name: string) => ({ says: { kind: "member.named", device: key, name } })
  const known = (members: ReadonlyArray<ReturnType<typeof member>>, operations: ReadonlyArray<ReturnType<typeof said>>): Parameters<typeof deviceNamed>[0] =>
    ({ view: () => ({ members: new Map(members.map((one) => [one.device, one])) }), operations: () => operations }) as never
  const calm = known([member(device, "attic"), member(other, "pi-2")], [said(device, "attic"), said(other, "pi-2")])
  t.equal(deviceNamed(calm, "ATTIC"), device)
  t.equal(deviceNamed(calm, "pi"), undefined)
  t.equal(deviceNamed(calm, device), device)
  t.equal(deviceNamed(calm, device.slice(0, 8)), undefined, "the beginning of a key could be somebody's name")
  t.equal(deviceNamed(known([member(device, "pi"), member(other, "pi-2")], [said(device, "pi"), said(other, "pi-2")]), "pi"), device, "a name that only looks like a second one")
  const stolen = known([member(other, "attic"), member(device, "attic-2")], [said(device, "attic"), said(other, "attic")])
  t.equal(deviceNamed(stolen, "attic"), undefined)
  t.equal(deviceNamed(stolen, device), device)
  t.equal(deviceNamed(known([member(device, "attic", "left")], []), "attic"), undefined)
  t.equal(deviceNamed(known([member(device, "attic", "revoked")], []), device), undefined)
  t.end()
})

t.test("only this node is dialled, unless the rule says otherwise", (t) => {
  const own = new Set(["192.168.1.5", "fe80::1"])
  const fault = (target: string, remote = false): string | undefined => targetFault(ruleOf({ target, remote }), own)
  for (const good of ["127.0.0.1:80", "127.9.9.9:80", "localhost:80", "LOCALHOST:80", "[::1]:80", "192.168.1.5:80", "[FE80::1]:80"]) t.equal(fault(good), undefined, good)
  for (const bad of ["192.168.1.6:80", "0.0.0.0:80", "[::]:80", "example.org:80", "127.0.0.1.example.org:80", "127.1:80", "[::ffff:10.0.0.1]:80"]) {
    t.match(fault(bad), /not this node; the setting services\.web\.remote/, bad)
    t.equal(fault(bad, true), undefined)
  }
  t.end()
})

t.test("the settings check what is written", (t) => {
  const reads = (path: string, word: string): unknown => {
    const setting = findSetting(path)
    if (setting === undefined) throw new Error(path)
    const read = readWord(setting.type, word)
    return "why" in read ? read.why : read.value
  }
  t.equal(reads("services.web.target", "127.0.0.1:8080"), "127.0.0.1:8080")
  for (const bad of ["8080", "127.0.0.1", "127.0.0.1:", ":80", "a b:80", "http://x:80"]) t.match(reads("services.web.target", bad), /expected host:port/, bad)
  t.same(reads("services.web.allow", "role:admin, node:attic,role:admin"), ["role:admin", "node:attic"])
  t.same(reads("services.web.allow", "[\"all\"]"), ["all"])
  t.same(reads("services.web.allow", ""), [], "nobody")
  for (const bad of ["everybody", "role:king", "node:", "all all!"]) t.match(reads("services.web.allow", bad), /expected role:ROLE/, bad)
  t.equal(reads("services.web.connections.max", "4"), 4)
  t.equal(findSetting("services.web"), undefined)
  t.equal(findSetting("services.web.allow.more"), undefined)
  const setting = findSetting("services.web.allow")
  t.ok(setting !== undefined && "why" in readSetting("services.web.allow", setting, "all"), "a list, not a text")
  t.same(serviceFaults({ "services.web.allow": [], "network.lan": true }), [])
  t.match(serviceFaults({ [`services.${"x".repeat(64)}.allow`]: [], "services.\"a b\".target": "x:1" }), [/at most 63/, /found "a b"/])
  t.same(validate(configDoc("role:member", "services"), { "services.web.target": "127.0.0.1:80" }), [])
  t.match(validate(configDoc("role:member", "services"), { "services.\"a b\".target": "127.0.0.1:80" }), [/the name of a service/])
  t.end()
})

t.test("a busy service fills no log: the first use at once, the rest once a minute", (t) => {
  let now = 1_000_000
  const events: Array<Wanted> = []
  const desk = makeServiceEvents((wanted) => void events.push(...wanted), () => now)
  const use = { bytesIn: 10, bytesOut: 1_000, ms: 2_400 }
  for (let n = 0; n < 5_000; n += 1) {
    desk.opened("web", device)
    desk.closed("web", device, n % 100 === 0 ? { ...use, why: { reason: "cut", sentence: "web is not for attic" } } : use)
    desk.refused("", device, "cellar has no service called ftp")
    desk.tick()
    now += 20
  }
  t.equal(events.length, 3 * 2, "100 seconds")
  now += gatherMs
  desk.tick()
  t.equal(events.length, 3 * 3)
  const sum = (type: string, key: string): number => events.filter((event) => event.type === type).reduce((all, { body }) => all + Number(Reflect.get(Object(body), key)), 0)
  t.equal(sum("service.opened/1", "count"), 5_000, "none is lost")
  t.equal(sum("service.closed/1", "bytesOut"), 5_000_000)
  t.equal(sum("service.closed/1", "broken"), 50)
  t.equal(sum("service.refused/1", "count"), 5_000)
  t.match(events.at(-1), { subject: /^service/ })
  now += gatherMs
  desk.tick()
  now += gatherMs
  desk.tick()
  t.equal(events.length, 9, "silence says nothing")
  desk.opened("web", device)
  desk.opened("web", device)
  t.equal(events.length, 10)
  desk.flush()
  t.match(events.slice(9), [{ body: { count: 1 } }, { body: { count: 1 } }], "what is held is told at the end")
  for (let n = 0; n < 3_000; n += 1) desk.refused("", n.toString(16).padStart(64, "0"), "no")
  t.ok(events.length <= 11 + gatheredMax, "and not more devices than are gathered")
  t.end()
})
