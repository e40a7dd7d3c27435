import { Deferred, Effect, Result, Schema, Stream } from "effect"
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { type IncomingMessage, request as httpRequest } from "node:http"
import { connect, createServer } from "node:net"
import { join } from "node:path"
import t from "tap"
import { callNode } from "../src/api/client.ts"
import { decodeInput, keysOf } from "../src/api/decode.ts"
import { readLogLines } from "../src/api/log-file.ts"
import { openApi } from "../src/api/openapi.ts"
import { operations } from "../src/api/operations/table.ts"
import { exitCodes, httpStatus, ProblemDocument } from "../src/api/problem.ts"
import { routeOf } from "../src/api/route.ts"
import { socketAddress, socketPath } from "../src/api/socket.ts"
import { Refusal } from "../src/commands/refusal.ts"
import { by, cloudEvent, fakeNode, sampleOf } from "./api-fake.ts"

const command = "01970000-0000-7000-8000-000000000001"

interface Reply {
  readonly status: number
  readonly type: string
  readonly text: string
  readonly json: any
  readonly headers: IncomingMessage["headers"]
}

/** One plain HTTP request; `body` is sent as it is. */
const http = (home: string, path: string, options: { method?: string; body?: string | Uint8Array; headers?: Record<string, string> } = {}): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const at = socketAddress(home)
    const sent = httpRequest({ socketPath: at.address, path, agent: false, method: options.method ?? "POST", headers: options.headers ?? {} }, (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (part: string) => { text += part })
      response.on("end", () => {
        at.release()
        let json: unknown
        try { json = JSON.parse(text) } catch { json = undefined }
        resolve({ status: response.statusCode ?? 0, type: response.headers["content-type"] ?? "", text, json, headers: response.headers })
      })
    })
    sent.on("error", reject)
    sent.end(options.body)
  })

const isProblem = (value: unknown): boolean => Result.isSuccess(Schema.decodeUnknownResult(ProblemDocument)(value))

const refusalOf = (promise: Promise<unknown>): Promise<unknown> => promise.then(() => "was not refused", (error: unknown) => error)

/** Polls until it holds, at most five seconds. */
const until = async (holds: () => boolean): Promise<boolean> => {
  for (let i = 0; i < 500 && !holds(); i++) await new Promise((resolve) => setTimeout(resolve, 10))
  return holds()
}

t.test("every operation answers over the socket with what its schema says", async (t) => {
  const node = await fakeNode(t.testdir())
  t.teardown(() => node.stop())
  const inputs: Record<string, object> = {
    wait: { condition: "ready" }, connect: { service: "a:b" }, "node.ping": { node: "a" }, join: { invite: "x" }, "mesh.create": { name: "hill" }, "mesh.use": { name: "hill" }, "node.role": { node: "a", role: "member" }, "node.revoke": { node: "a" }, "node.clear": { node: "a" }, "invite.revoke": { id: "1" }, "invite.confirm": { id: "1" }, "key.backup": { file: "/f" }, "sync.export": { file: "/f" }, "sync.import": { file: "/f" },
    "event.show": { event: "@1" }, "event.diff": { from: "2h" }, "event.at": { point: "@1", path: "a.b" }, "config.get": { path: "a.b" }, "config.set": { path: "a.b", value: 1 },
    "config.unset": { path: "a.b" }, "config.edit": { base: "", text: "a: 1" }, "config.diff": { text: "" }, "config.apply": { text: "a: 1" }, "config.revert": { event: "@1" },
    "config.resolve": { conflict: "a.b", choice: 1 }, "config.explain": { path: "a.b" }, "approval.show": { id: "x" }, "approval.allow": { id: "x" }, "approval.deny": { id: "x" }, "agent.show": { name: "x" }, "agent.apply": { text: "" }, "agent.remove": { name: "x" },
    "agent.start": { name: "x" }, "agent.stop": { name: "x" }, "memory.show": { page: "m/p" }, "memory.add": { page: "m/p", text: "x" }, "memory.edit": { page: "m/p", text: "x" },
    "memory.forget": { page: "m/p" }, "memory.history": { page: "m/p" }, "memory.search": { words: ["x"] },
    "vault.set": { name: "x", value: "y" }, "vault.get": { name: "x" }, "vault.rotate": { name: "x" }, "vault.remove": { name: "x" },
    "update.show": { release: "1.0.0" }, "update.plan": { release: "1.0.0" }, "update.fetch": { release: "1.0.0" }, "update.advise": { release: "1.0.0" }, "update.export": { file: "/f" }, "update.import": { file: "/f" },
    "seed.add": { release: "1.0.0" }, "seed.remove": { what: "1.0.0" },
    "release.init": { name: "hill" }, "release.pack": { path: "/d", release: "kos@1.0.0", kind: "bundle" }, "release.yank": { release: "kos@1.0.0", reason: "x" }, "release.delegate": { publisher: "acme", area: "agents", signer: ["a"] },
    "release.withdraw": { proposal: "1" }, "release.show": { proposal: "1" }
  }
  for (const op of operations.filter(({ place }) => place !== "local")) {
    const items: Array<unknown> = []
    const answer = await callNode(node.home, op.name, inputs[op.name] ?? {}, { command, onItem: (item) => { items.push(item) } })
    const expected = await sampleOf(op)
    if (answer._tag === "Problem") t.fail(`${op.name}: ${answer.problem.detail}`)
    else t.strictSame(op.stream === "no" ? answer.value : items, JSON.parse(JSON.stringify(op.stream === "no" ? expected : [expected, expected])), op.name)
  }
})

t.test("every input key has its sentence, and names are noun.verb or a word", async (t) => {
  for (const op of operations) {
    t.match(op.name, /^[a-z]+(\.[a-z]+)?$/)
    t.match(op.summary, /^[A-Z].*\.$/, op.name)
    t.strictSame(Object.keys(op.cli.describe).sort(), [...keysOf(op.input)].sort(), `${op.name} describes its keys`)
    for (const example of op.cli.examples ?? []) t.match(example, /kos /, op.name)
    t.ok((op.cli.examples?.length ?? 0) > 0, `${op.name} has an example`)
  }
})

t.test("a repeated call carries its command id and actor; wrong ones are refused", async (t) => {
  const seen: Array<[string, string]> = []
  const node = await fakeNode(t.testdir(), { "node.name": (_, call) => { seen.push([call.command, call.actor]); return Effect.succeed({ name: "x", device: "", summary: "", events: [] }) } })
  t.teardown(() => node.stop())
  const reply = await http(node.home, "/v1/node/name", { headers: { "kos-command": command, "kos-actor": "person:mara" } })
  t.equal(reply.status, 200)
  t.equal(reply.headers["kos-command"], command)
  await http(node.home, "/v1/node/name")
  t.strictSame(seen[0], [command, "person:mara"])
  t.match(seen[1]?.[0], /^[0-9a-f]{8}-[0-9a-f]{4}-7/)
  t.equal(seen[1]?.[1], "device")
  for (const headers of [{ "kos-command": "7" }, { "kos-actor": "root" }, { "kos-actor": `person:${"x".repeat(65)}` }, { "content-type": "text/html" }]) {
    const refused = await http(node.home, "/v1/node/name", { headers })
    t.ok(isProblem(refused.json) && refused.status >= 400, JSON.stringify(headers))
  }
  t.equal(seen.length, 2)
})

t.test("each kind of refusal has its status and is told again by the client", async (t) => {
  const kinds = ["failed", "usage", "not-found", "denied", "conflict", "timeout", "pending", "policy", "degraded"] as const
  for (const kind of kinds) {
    const node = await fakeNode(t.testdir(), { "config.get": () => Effect.fail(new Refusal({ kind, detail: `it is ${kind}`, path: "a.b", hint: "kos status" })) })
    const reply = await http(node.home, "/v1/config/get", { body: JSON.stringify({ path: "a.b" }) })
    t.equal(reply.status, httpStatus[kind])
    t.equal(reply.type, "application/problem+json")
    t.match(reply.json, { kind, detail: `it is ${kind}`, path: "a.b", hint: "kos status", type: `urn:kos:problem:${kind}`, instance: /^urn:uuid:/ })
    const answer = await callNode(node.home, "config.get", { path: "a.b" }, { command })
    t.match(answer, { _tag: "Problem", problem: { kind, detail: `it is ${kind}` } })
    await node.stop()
  }
  t.strictSame(exitCodes, { done: 0, failed: 1, usage: 2, "no-daemon": 3, "not-found": 4, denied: 5, conflict: 6, timeout: 7, pending: 8, policy: 9, degraded: 10 })
})

t.test("wrong input names its path and the nearest key", async (t) => {
  const node = await fakeNode(t.testdir())
  t.teardown(() => node.stop())
  const refused = async (path: string, body: unknown) => (await http(node.home, path, { body: typeof body === "string" ? body : JSON.stringify(body) })).json
  t.match(await refused("/v1/config/get", { pth: "a" }), { kind: "usage", path: "pth", detail: /no "pth"; did you mean path\?/ })
  t.match(await refused("/v1/config/get", {}), { kind: "usage", path: "path" })
  t.match(await refused("/v1/event/list", { limit: "many" }), { kind: "usage", path: "limit", detail: /expected number/i })
  t.match(await refused("/v1/event/list", { limit: 0 }), { kind: "usage", path: "limit", detail: /between 1 and 100000/ })
  t.match(await refused("/v1/event/list", { limit: 1.5 }), { kind: "usage", path: "limit" })
  t.match(await refused("/v1/invite/create", { role: "king" }), { kind: "usage", path: "role" })
  t.match(await refused("/v1/event/list", []), { kind: "usage", detail: /expects an object/ })
  t.match(await refused("/v1/event/list", "{"), { kind: "usage", detail: /not JSON/ })
  t.match(await refused("/v1/event/list", "{\"__proto__\":{\"limit\":1}}"), { kind: "usage", path: "__proto__" })
  t.match(await refused("/v1/confg/get", {}), { kind: "not-found", status: 404, detail: /did you mean \/v1\/config\/get/ })
  t.match(await http(node.home, "/v1/config/get", { method: "GET" }), { status: 405 })
  t.match(await refused(`/${"x".repeat(4_000)}`, {}), { kind: "not-found" })
  t.equal(node.notices.length, 0, "none of it is a fault of ours")
})

t.test("hostile requests are answered or cut, and the server lives", async (t) => {
  const node = await fakeNode(t.testdir(), {}, { bodyBytesMax: 10_000, requestMsMax: 400, headerBytesMax: 8_192 })
  t.teardown(() => node.stop())
  t.match(await http(node.home, "/v1/event/list", { body: `{"type":"${"x".repeat(20_000)}"}` }), { status: 413, json: { kind: "usage" } })
  t.match(await http(node.home, "/v1/event/list", { body: " ".repeat(20_000), headers: { "transfer-encoding": "chunked" } }), { status: 413 })
  t.match(await http(node.home, "/v1/config/set", { body: `{"path":"a","value":${"[".repeat(4_000)}${"]".repeat(4_000)}}` }), { status: 400, json: { detail: /nested deeper/ } })
  t.match(await http(node.home, "/v1/event/list", { body: new Uint8Array([0x22, 0xff, 0xfe, 0x22]) }), { status: 400, json: { detail: /UTF-8/ } })
  t.match(await http(node.home, "/livez", { method: "GET", headers: { padding: "x".repeat(20_000) } }), { status: 431, json: { kind: "usage" } })
  const rawly = (text: string) => new Promise<string>((resolve) => {
    const at = socketAddress(node.home)
    const socket = connect(at.address, () => { socket.write(text) })
    let got = ""
    socket.setEncoding("utf8")
    socket.on("data", (part: string) => { got += part })
    socket.on("close", () => { at.release(); resolve(got) })
    socket.on("error", () => {})
  })
  t.match(await rawly("what is this\r\n\r\n"), /^HTTP\/1\.1 400[^]*application\/problem\+json[^]*"kind":"usage"/)
  t.match(await rawly("POST /v1/event/list HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"lim"), /^HTTP\/1\.1 408[^]*"kind":"usage"/, "a slow body is cut in time")
  t.ok(await until(() => node.server.busy() === 0), "no call is left over")
  t.match(await http(node.home, "/livez", { method: "GET" }), { status: 200, json: { live: true, pid: process.pid } })
})

t.test("deep values are refused before anything recursive sees them; brackets in text do not count", async (t) => {
  const node = await fakeNode(t.testdir())
  t.teardown(() => node.stop())
  t.match(await http(node.home, "/v1/memory/add", { body: JSON.stringify({ page: "m/p", text: `${"[{".repeat(500)}\\"` }) }), { status: 200 })
})

t.test("a fault of a handler is one problem without its insides, and stands in the log", async (t) => {
  const node = await fakeNode(t.testdir(), {
    "config.get": () => Effect.die(new Error("secret insides")),
    "config.set": () => { throw new Error("thrown") },
    // An answer that does not fit its schema is a fault of ours too.
    "mesh.show": () => Effect.succeed({ nonsense: 1 } as never)
  })
  t.teardown(() => node.stop())
  for (const [path, body] of [["/v1/config/get", { path: "a" }], ["/v1/config/set", { path: "a" }], ["/v1/mesh/show", {}]] as const) {
    const reply = await http(node.home, path, { body: JSON.stringify(body) })
    t.equal(reply.status, 500, path)
    t.ok(isProblem(reply.json))
    t.notMatch(reply.text, /secret|thrown|nonsense/)
    const watched = await callNode(node.home, path.slice(4).replace("/", "."), body, { command })
    t.match(watched, { _tag: "Problem", problem: { kind: "failed" } }, path)
  }
  t.equal(node.notices.filter(({ level }) => level === "error").length, 6)
})

t.test("progress, items and the end come as lines, also as server-sent events", async (t) => {
  const node = await fakeNode(t.testdir(), {
    "event.verify": (_, call) => Effect.sync(() => {
      for (let i = 0; i <= 1_000; i++) call.progress(i, 1_000, "verifying")
      return { clean: true, logs: [], misbehaviour: [], ms: 1 }
    }),
    "event.export": () => Stream.concat(Stream.fromIterable([1, 2].map(cloudEvent)), Stream.fail(new Refusal({ kind: "degraded", detail: "the disk went away" })))
  })
  t.teardown(() => node.stop())
  const shown: Array<number> = []
  const verified = await callNode(node.home, "event.verify", {}, { command, onProgress: (done) => { shown.push(done) } })
  t.match(verified, { _tag: "Value", value: { clean: true } })
  t.ok(shown.length >= 2 && shown.length < 20, `throttled: ${shown.length}`)
  t.equal(shown[shown.length - 1], 1_000, "the last word is always said")
  const items: Array<unknown> = []
  const cut = await callNode(node.home, "event.export", {}, { command, onItem: (item) => { items.push(item) } })
  t.equal(items.length, 2)
  t.match(cut, { _tag: "Problem", problem: { kind: "degraded" } }, "a failure in the middle is the last line")
  t.match(await http(node.home, "/v1/event/export", { body: "{}" }), { status: 406 })
  const sse = await http(node.home, "/v1/event/export", { body: "{}", headers: { accept: "text/event-stream" } })
  t.match(sse.text, /^event: item\ndata: \{[^\n]*\n\nevent: item\n[^]*event: problem\ndata: /)
  const array = await http(node.home, "/v1/events", { body: "{}" })
  t.equal(array.json.length, 2, "a stream that ends is an array for who wants one")
  t.match(await http(node.home, "/v1/events", { body: "{\"follow\":true}" }), { status: 406 })
})

t.test("who leaves ends a stream and a query, not a command; a full house says so", async (t) => {
  const gate = await Effect.runPromise(Deferred.make<void>())
  const ended: Array<string> = []
  const noted = <A, E>(name: string, effect: Effect.Effect<A, E>) => Effect.onExit(effect, (exit) => Effect.sync(() => { ended.push(`${name} ${exit._tag}`) }))
  const node = await fakeNode(t.testdir(), {
    events: () => Stream.concat(Stream.make(cloudEvent(1)), Stream.fromEffect(noted("stream", Effect.never))),
    "config.get": () => noted("query", Effect.never),
    "config.unset": ({ path }) => noted("command", Deferred.await(gate)).pipe(Effect.as({ path, layer: "node" as const, summary: "", events: [] }))
  }, { callsMax: 2, watchersMax: 3 })
  t.teardown(() => node.stop())
  const leave = (name: string, input: unknown) => {
    const stop = new AbortController()
    const answer = callNode(node.home, name, input, { command, signal: stop.signal })
    return { stop, answer }
  }
  const all = [leave("events", { follow: true }), leave("config.get", { path: "a" }), leave("config.unset", { path: "a" })]
  t.ok(await until(() => node.server.busy() === 3))
  t.match(await callNode(node.home, "config.get", { path: "a" }, { command }), { problem: { kind: "degraded", status: 503, detail: /3 watchers/ } })
  t.match(await http(node.home, "/readyz", { method: "GET" }), { status: 200, json: { ready: true } }, "health is answered all the same")
  for (const { stop } of all) stop.abort()
  await Promise.all(all.map(({ answer }) => answer))
  t.ok(await until(() => ended.length === 2))
  t.strictSame([...ended].sort(), ["query Failure", "stream Failure"])
  await Effect.runPromise(Deferred.succeed(gate, undefined))
  t.ok(await until(() => node.server.busy() === 0))
  t.ok(ended.includes("command Success"))
})

t.test("a watcher that does not read is cut off, others are served", async (t) => {
  const node = await fakeNode(t.testdir(), { events: () => Stream.fromIterable(Array.from({ length: 50_000 }, (_, i) => cloudEvent(i))) }, { stalledMsMax: 1_000 })
  t.teardown(() => node.stop())
  const at = socketAddress(node.home)
  const socket = connect(at.address, () => { socket.write("POST /v1/events HTTP/1.1\r\nhost: x\r\naccept: application/x-ndjson\r\ncontent-length: 2\r\n\r\n{}") })
  socket.on("error", () => {})
  socket.pause()
  t.ok(await until(() => node.notices.some(({ text }) => /does not read/.test(text))))
  let items = 0
  const answer = await callNode(node.home, "events", {}, { command, onItem: () => { items++ } })
  t.equal(answer._tag, "Value")
  t.equal(items, 50_000)
  socket.destroy()
  at.release()
})

t.test("a silent daemon is a timeout, an absent one is no daemon, a dying one is a failure", async (t) => {
  const home = t.testdir()
  t.match(await callNode(home, "status", {}, { command }), { problem: { kind: "no-daemon", detail: `No daemon runs on ${home}.`, hint: /daemon run$/ } })
  mkdirSync(join(home, "run"))
  const at = socketAddress(home)
  const mute = createServer((socket) => { socket.on("error", () => {}) })
  await new Promise<void>((resolve) => { mute.listen(at.address, resolve) })
  t.match(await callNode(home, "status", {}, { command, silenceMsMax: 100 }), { problem: { kind: "timeout" } })
  mute.close()
  const dying = createServer((socket) => {
    socket.on("error", () => {})
    socket.once("data", () => { socket.end("HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n") })
  })
  rmSync(socketPath(home), { force: true })
  await new Promise<void>((resolve) => { dying.listen(at.address, resolve) })
  t.match(await callNode(home, "status", {}, { command }), { problem: { kind: "failed", detail: /went away/ } })
  dying.close()
  at.release()
})

t.test("the socket is private; a dead one is replaced, a live one and a file are refused", async (t) => {
  const home = t.testdir()
  const node = await fakeNode(home)
  t.equal(statSync(socketPath(home)).mode & 0o777, 0o600)
  t.equal(statSync(join(home, "run")).mode & 0o777, 0o700)
  t.match(await refusalOf(fakeNode(home)), { kind: "conflict", detail: new RegExp(`pid ${process.pid}`) })
  t.match(await http(home, "/livez", { method: "GET" }), { status: 200 }, "the first goes on")
  await node.stop()
  t.notOk(existsSync(socketPath(home)), "removed on a clean stop")
  // A dead daemon's socket: bound, never closed by its owner.
  const dead = t.testdir()
  mkdirSync(join(dead, "run"))
  spawnSync(process.execPath, ["-e", "require('net').createServer().listen('run/kos.sock', () => process.kill(process.pid, 'SIGKILL'))"], { cwd: dead })
  t.ok(existsSync(socketPath(dead)), "it is left over")
  const second = await fakeNode(dead)
  t.match(await http(dead, "/livez", { method: "GET" }), { status: 200 })
  await second.stop()
  const blocked = t.testdir({ run: {} })
  writeFileSync(socketPath(blocked), "x")
  t.match(await refusalOf(fakeNode(blocked)), { kind: "failed", detail: /not a socket/ })
})

t.test("a home deeper than a socket path may be long works", async (t) => {
  const home = join(t.testdir(), "deep".repeat(20), "er".repeat(40))
  mkdirSync(home, { recursive: true })
  t.ok(socketPath(home).length > 107)
  const node = await fakeNode(home)
  t.match(await callNode(home, "memory.list", {}, { command }), { _tag: "Value" })
  t.equal(statSync(socketPath(home)).mode & 0o777, 0o600)
  await node.stop()
})

t.test("stopping ends streams at once and waits for commands", async (t) => {
  const gate = await Effect.runPromise(Deferred.make<void>())
  const node = await fakeNode(t.testdir(), {
    events: () => Stream.concat(Stream.make(cloudEvent(1)), Stream.never),
    "config.unset": ({ path }) => Deferred.await(gate).pipe(Effect.as({ path, layer: "node" as const, summary: "done", events: [] }))
  })
  const stream = callNode(node.home, "events", { follow: true }, { command })
  const waiting = callNode(node.home, "config.unset", { path: "a" }, { command })
  t.ok(await until(() => node.server.busy() === 2))
  const stopped = node.stop()
  t.match(await stream, { _tag: "Problem", problem: { kind: "degraded" } })
  await Effect.runPromise(Deferred.succeed(gate, undefined))
  t.match(await waiting, { _tag: "Value", value: { summary: "done" } })
  await stopped
})

t.test("health, metrics and the OpenAPI document", async (t) => {
  const node = await fakeNode(t.testdir())
  t.teardown(() => node.stop())
  t.match(await http(node.home, "/metrics", { method: "GET" }), { status: 200, type: /^text\/plain/, text: /kos_events_total 3/ })
  const { status, json } = await http(node.home, "/openapi.json", { method: "GET" })
  t.equal(status, 200)
  t.equal(json.openapi, "3.1.0")
  t.strictSame(json, JSON.parse(JSON.stringify(openApi("0.1.0-fake"))))
  for (const op of operations.filter(({ place }) => place !== "local")) t.equal(json.paths[routeOf(op)]?.post.operationId, op.name)
  const references = new Set(JSON.stringify(json).match(/"\$ref":"[^"]*"/g))
  t.strictSame([...references], ["\"$ref\":\"#/components/schemas/Problem\""], "nothing refers to what is not there")
})

t.test("decoding an input gives its defaults", async (t) => {
  const op = operations.find(({ name }) => name === "invite.create")
  t.ok(op)
  if (op !== undefined) t.strictSame(Result.getOrThrow(decodeInput(op, {})), { role: "member", uses: 1, words: false, qr: false })
  t.equal(by.arrival, 1204)
})

t.test("the daemon's log is read back across rotated files, torn lines skipped", async (t) => {
  const line = (n: number, level = "info") => JSON.stringify({ at: by.at, level, text: `line ${n}`, detail: { n } })
  const path = join(t.testdir({
    "kos.log": `${line(5)}\n${line(6, "warn")}\n{"at":"torn`,
    "kos.log.1": `not json\n${line(3)}\n{"at":1}\n${line(4)}\n`,
    "kos.log.2": `${line(1)}\n${line(2)}\n`
  }), "kos.log")
  const texts = async (...rest: [number, ((line: { level: string }) => boolean)?]) => (await readLogLines(path, ...rest)).map(({ text }) => text)
  t.strictSame(await texts(100), [1, 2, 3, 4, 5, 6].map((n) => `line ${n}`))
  t.strictSame(await texts(3), ["line 4", "line 5", "line 6"])
  t.strictSame(await texts(3, ({ level }) => level === "warn"), ["line 6"])
  t.strictSame(await readLogLines(`${path}.absent`, 5), [])
})
