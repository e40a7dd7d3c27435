/** Services of one real daemon used from another: denied unless declared and allowed, over a port and over stdin and stdout, cut when the right goes. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createServer as createHttp, request } from "node:http"
import { type AddressInfo, connect as connectTcp, createServer, type Server, type Socket } from "node:net"
import { resolve } from "node:path"
import t, { type Test } from "tap"
import { eventually, homesOf, isPlain, joinMesh, testNode, type TestNode } from "./daemon-process.ts"

t.setTimeout(110_000)

const bin = resolve(import.meta.dirname, "../bin/kos")

const listening = async (t: Test, server: Server): Promise<number> => {
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

/** `kos connect … --listen 0` as a process of its own; `address` once it listens. */
const listenTo = async (t: Test, node: TestNode, service: string): Promise<{ readonly child: ChildProcess; readonly address: string; readonly items: ReadonlyArray<Readonly<Record<string, unknown>>> }> => {
  const child = spawn("env", ["-u", "NODE_OPTIONS", bin, "--home", node.home, "--json", "connect", service, "--listen", "0"], { stdio: ["ignore", "pipe", "pipe"] })
  t.teardown(() => child.kill("SIGKILL"))
  const items: Array<Readonly<Record<string, unknown>>> = []
  let text = ""
  let err = ""
  child.stdout.on("data", (part: Buffer) => {
    const lines = (text + part.toString()).split("\n")
    text = lines.pop() ?? ""
    for (const line of lines) items.push(JSON.parse(line))
  })
  child.stderr.on("data", (part: Buffer) => { err += part.toString() })
  if (!await eventually(() => items.some(({ state }) => state === "listening") || child.exitCode !== null)) throw new Error("it does not listen")
  const address = items.find(({ state }) => state === "listening")?.["address"]
  if (typeof address !== "string") throw new Error(`connect ended with ${child.exitCode}: ${err}`)
  return { child, address, items }
}

const get = (address: string, path: string): Promise<{ readonly status: number; readonly text: string }> => new Promise((done, fail) => {
  request(`http://${address}${path}`, { agent: false }, (response) => {
    let text = ""
    response.setEncoding("utf8").on("data", (part: string) => { text += part }).on("end", () => done({ status: response.statusCode ?? 0, text })).on("error", fail)
  }).on("error", fail).end()
})

/** What became of a connection that nobody ended well. */
const fateOf = (socket: Socket): Promise<string> => new Promise((done) => {
  socket.on("error", (fault: NodeJS.ErrnoException) => done(fault.code ?? fault.message))
  socket.on("close", () => done("closed"))
})

t.test("a service is denied unless declared and allowed; then it is used by port and by stdin and stdout, and cut when the right goes", async (t) => {
  const directory = homesOf(t)
  const alpha = testNode(t, directory, { name: "alpha" })
  const beta = testNode(t, directory, { name: "beta" })
  await Promise.all([alpha.start(), beta.start()])
  await joinMesh(alpha, beta)

  const web = await listening(t, createHttp((asked, answer) => {
    if (asked.url === "/big") return void answer.end("x".repeat(3_000_000))
    answer.end(`you asked for ${asked.url}`)
  }))
  const echo = await listening(t, createServer({ allowHalfOpen: true }, (socket) => void socket.on("error", () => undefined).pipe(socket)))

  const pings = await beta.run(["node", "ping", "alpha", "--count", "2", "--json"])
  t.equal(pings.code, 0, pings.err)
  t.match(JSON.parse(pings.out), [{ name: "alpha", number: 1, carrier: "lan" }, { number: 2 }])
  t.match((await beta.run(["node", "ping", "alpha", "-c", "1"])).out, /alpha answered ping 1 in [\d.]+ ms, by lan \(/)
  t.match(await beta.refused(["node", "ping", "nobody"]), { code: 4, detail: /no node of this mesh is called nobody/ })
  t.match(await beta.refused(["node", "ping", "beta"]), { code: 2, detail: /this node itself/ })

  t.match(await beta.refused(["connect", "alpha:web", "--listen", "0"]), { code: 4, detail: "alpha has no service called web" })
  t.match(await beta.refused(["connect", "nobody:web"]), { code: 4 })
  t.match(await beta.refused(["connect", "alpha"]), { code: 2, detail: /expected NODE:SERVICE/ })
  t.match(await beta.refused(["connect", "beta:web"]), { code: 2 })
  t.match(await alpha.refused(["config", "set", "services.web.target", "no port"]), { code: 2, detail: /expected host:port/ })
  t.match(await alpha.refused(["config", "set", "services.web.allow", "everybody"]), { code: 2, detail: /role:ROLE, node:NAME, all or federated/ })
  await alpha.ask("config.set", ["services.web.target", `127.0.0.1:${web}`])
  t.match(await beta.refused(["connect", "alpha:web", "--listen", "0"]), { code: 5, detail: "web is not for beta" })
  t.match(await alpha.ask("service.list"), [{ name: "web", allow: [], may: false, fault: /names nobody/ }])
  await alpha.ask("config.set", ["services.web.allow", "role:admin"])
  t.match(await beta.refused(["connect", "alpha:web", "--listen", "0"]), { code: 5 }, "beta is a member")
  await alpha.ask("config.set", ["services.web.allow", "role:admin,node:beta"])
  await alpha.ask("config.set", ["services.echo.target", `localhost:${echo}`])
  await alpha.ask("config.set", ["services.echo.allow", "role:member"])
  await alpha.ask("config.set", ["services.down.target", "127.0.0.1:1"])
  await alpha.ask("config.set", ["services.down.allow", "all"])
  await alpha.ask("config.set", ["services.far.target", "192.0.2.7:80"])
  await alpha.ask("config.set", ["services.far.allow", "all"])
  const listed = await beta.until("service.list", ["alpha"], (rows) => rows.length === 4 && rows.every(({ may }) => may))
  t.match(listed.map(({ name, may }) => [name, may]), [["down", true], ["echo", true], ["far", true], ["web", true]])
  t.ok(isPlain((await beta.run(["service", "list", "alpha"])).out))
  t.match(await beta.refused(["connect", "alpha:down"]), { code: 1, detail: /nothing listens at 127\.0\.0\.1:1/ })
  t.match(await beta.refused(["connect", "alpha:far"]), { code: 1, detail: /not this node; the setting services\.far\.remote/ })

  const { child, address, items } = await listenTo(t, beta, "alpha:web")
  t.match(await get(address, "/one"), { status: 200, text: "you asked for /one" })
  const several = await Promise.all(Array.from({ length: 8 }, (_, n) => get(address, `/${n}`)))
  t.same(several.map(({ text }) => text), Array.from({ length: 8 }, (_, n) => `you asked for /${n}`))
  t.equal((await get(address, "/big")).text.length, 3_000_000)
  t.ok(await eventually(() => items.filter(({ state }) => state === "closed").length === 10))
  t.ok(items.some(({ bytesIn }) => typeof bytesIn === "number" && bytesIn > 3_000_000))

  const said = await beta.run(["connect", "alpha:echo"], { process: true, stdin: "hello through the mesh\n".repeat(20_000) })
  t.equal(said.code, 0, said.err)
  t.equal(said.out, "hello through the mesh\n".repeat(20_000), "stdout is what came, and nothing else")

  // The right goes: what is open is cut, and not like a good end.
  const [host = "", port = ""] = address.split(":")
  const open = connectTcp(Number(port), host)
  const fate = fateOf(open)
  open.write("GET /half HTTP/1.1\r\n")
  t.ok(await eventually(() => items.at(-1)?.["state"] === "opened"))
  await alpha.ask("config.set", ["services.web.allow", "role:admin"])
  t.match(await fate, /ECONNRESET|EPIPE/)
  t.ok(await eventually(() => items.some(({ state, sentence }) => state === "closed" && String(sentence).includes("web is not for beta"))))
  await t.rejects(get(address, "/again"))
  t.ok(await eventually(() => items.some(({ state, sentence }) => state === "refused" && sentence === "web is not for beta")))
  child.kill("SIGINT")
  const [code] = await once(child, "close") as [number]
  t.equal(code, 130)
  await t.rejects(get(address, "/gone"), { code: "ECONNREFUSED" })

  const types = (await alpha.ask("event.list", ["--type", "service.*"])).map(({ type, summary }) => `${type} ${summary}`)
  t.ok(types.some((text) => text.startsWith("service.opened/1 1 connection to web by")), types.join("\n"))
  t.ok(types.some((text) => text.startsWith("service.refused/1") && text.includes("web is not for beta")))
  t.ok(types.some((text) => text.startsWith("service.closed/1") && text.includes("bytes in")))
  t.ok(types.length <= 14, `${types.length} events for some twenty connections`)

  const last = await listenTo(t, beta, "alpha:echo")
  const [, echoPort] = last.address.split(":")
  const held = connectTcp(Number(echoPort), "127.0.0.1")
  const end = fateOf(held)
  held.write("x")
  await once(held, "data")
  await alpha.ask("node.revoke", ["beta"])
  t.match(await end, /ECONNRESET|EPIPE/, "a revocation cuts it")
  t.equal(await alpha.stop(), 0)
})

t.test("a node that is away is waited for, and then it is a timeout", async (t) => {
  const directory = homesOf(t)
  const alpha = testNode(t, directory, { name: "alpha" })
  const beta = testNode(t, directory, { name: "beta" })
  await Promise.all([alpha.start(), beta.start()])
  await joinMesh(alpha, beta)
  const echo = await listening(t, createServer({ allowHalfOpen: true }, (socket) => void socket.on("error", () => undefined).pipe(socket)))
  await alpha.ask("config.set", ["services.echo.target", `127.0.0.1:${echo}`])
  await alpha.ask("config.set", ["services.echo.allow", "node:beta"])
  const { address } = await listenTo(t, beta, "alpha:echo")
  await alpha.stop()
  t.match(await beta.refused(["node", "ping", "alpha", "--timeout", "1"]), { code: 7, detail: "alpha was not in touch within 1 s" })
  t.match(await beta.refused(["connect", "alpha:echo", "--timeout", "1"]), { code: 7 })
  await beta.ask("mesh.mode", ["isolated"])
  t.match(await beta.refused(["node", "ping", "alpha", "--timeout", "1"]), { code: 10, detail: /isolated/ })
  await beta.ask("mesh.mode", ["joined"])
  await alpha.start()
  t.equal((await beta.run(["node", "ping", "alpha", "--count", "1", "--timeout", "30"])).code, 0)
  const [host = "", port = ""] = address.split(":")
  const socket = connectTcp(Number(port), host)
  socket.end("still there")
  let text = ""
  for await (const part of socket) text += String(part)
  t.equal(text, "still there", "the port that was opened before is good again")
})
