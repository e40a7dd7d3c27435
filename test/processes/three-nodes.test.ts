/** Three daemons, each a process of its own, over real Hyperswarm on a DHT that lives on loopback. */
import t from "tap"
import { type DemoNode, newCommand, Processes, Refused, waitFor } from "../demo/processes.ts"

const processes = new Processes({ name: "kos-three", env: { KOS_NETWORK_LAN: "false" } })
t.teardown(() => processes.endAll())
/** Bounds, milliseconds: generous for a machine with other work, far below the library's own waits of minutes. */
const meetMs = 20_000
const travelMs = 15_000

const inTouch = (node: DemoNode, wanted: number): Promise<unknown> => waitFor(`${node.name} in touch with ${wanted - 1}`, meetMs, async () =>
  (await node.call("status", {})).mesh.inTouch === wanted ? true : undefined)

const pageText = async (node: DemoNode, page: string): Promise<string | undefined> => {
  try {
    return (await node.call("memory.show", { page })).text
  } catch (cause) {
    if (cause instanceof Refused && cause.problem.kind === "not-found") return undefined
    throw cause
  }
}

const reads = (node: DemoNode, page: string, text: string): Promise<unknown> =>
  waitFor(`${node.name} reads ${page}`, travelMs, async () => (await pageText(node, page)) === text ? true : undefined)

const bootstrap = await processes.dht()
const argv = ["--bootstrap", bootstrap]
const a = processes.node("ada", argv)
const b = processes.node("ben", argv)
const c = processes.node("cyd", argv)
const d = processes.node("dan", argv)
await Promise.all([a, b, c, d].map((node) => node.start()))

t.test("two join by invite, and all three are in touch", async (t) => {
  await a.call("mesh.create", { name: "hill" })
  for (const node of [b, c]) {
    const { invite } = await a.call("invite.create", {})
    t.match(await node.call("join", { invite }), { mesh: { name: "hill" }, role: "member", admittedBy: "ada" })
  }
  await Promise.all([a, b, c].map((node) => inTouch(node, 3)))
  for (const node of [a, b, c]) {
    const { members } = await node.call("mesh.show", {})
    t.strictSame(members.map(({ name, role }) => `${name} ${role}`).toSorted(), ["ada owner", "ben member", "cyd member"], node.name)
  }
})

t.test("a change travels on through a node that did not make it, while its author is away", async (t) => {
  await c.call("mesh.mode", { mode: "isolated" })
  await waitFor("cyd alone", meetMs, async () => (await c.call("sync.status", {})).carriers.length === 0 ? true : undefined)
  await a.call("memory.add", { page: "notes/first", text: "Ada wrote this." })
  await reads(b, "notes/first", "Ada wrote this.")
  await a.call("mesh.mode", { mode: "isolated" })
  await waitFor("ada alone", meetMs, async () => (await a.call("sync.status", {})).carriers.length === 0 ? true : undefined)
  t.equal(await pageText(c, "notes/first"), undefined, "Cyd has not heard of it")
  await c.call("mesh.mode", { mode: "joined" })
  await reads(c, "notes/first", "Ada wrote this.")
  const [row] = await c.call("memory.history", { page: "notes/first" })
  t.equal(row?.by.node, "ada", "and knows whose it is")
  await a.call("mesh.mode", { mode: "joined" })
  await Promise.all([a, b, c].map((node) => inTouch(node, 3)))
})

t.test("all three write at once while they are in touch, and no log stalls on its way", async (t) => {
  const pagesEach = 40
  const began = performance.now()
  await Promise.all([a, b, c].map((node) => Promise.all(Array.from({ length: 4 }, async (_, writer) => {
    for (let i = writer; i < pagesEach; i += 4) await node.call("memory.add", { page: `${node.name}/page${i}`, text: `Page ${i} of ${node.name}.` })
  }))))
  for (const node of [a, b, c]) {
    await waitFor(`${node.name} holds all pages`, travelMs, async () =>
      (await node.call("memory.list", {})).filter(({ module }) => ["ada", "ben", "cyd"].includes(module)).length === 3 * pagesEach ? true : undefined)
  }
  t.pass(`${3 * pagesEach} pages everywhere`)
  t.comment(`after ${Math.round(performance.now() - began)} ms`)
})

t.test("while one is stopped the others go on, and say for whom something waits; it catches up", async (t) => {
  await b.stop()
  await inTouch(a, 2)
  await c.call("memory.add", { page: "notes/second", text: "Cyd wrote this." })
  await reads(a, "notes/second", "Cyd wrote this.")
  await a.call("memory.add", { page: "notes/second", text: "Ada added this." })
  await reads(c, "notes/second", "Cyd wrote this.\n\nAda added this.")
  const ben = (await a.call("sync.status", {})).peers.find(({ name }) => name === "ben")
  t.equal(ben?.inTouch, false)
  t.ok((ben?.waiting ?? 0) >= 2, "two changes wait for Ben")
  await b.start()
  await reads(b, "notes/second", "Cyd wrote this.\n\nAda added this.")
  await waitFor("nothing waits for Ben", travelMs, async () => (await a.call("sync.status", {})).peers.every(({ waiting }) => waiting === 0) ? true : undefined)
  t.match((await b.cli(["wait", "synced", "--timeout", "15"])), { code: 0 })
})

t.test("killed while writing it comes back with everything that it had acknowledged", async (t) => {
  const acknowledged = new Map<string, string>()
  let stopped = false
  const writers = Array.from({ length: 6 }, async (_, writer) => {
    for (let i = 0; !stopped; i++) {
      const command = newCommand()
      const done = await c.call("memory.add", { page: `writer${writer}/page${i}`, text: `Page ${i} of writer ${writer}.` }, { command }).catch(() => undefined)
      if (done === undefined) return
      acknowledged.set(`writer${writer}/page${i}`, done.events[0]?.address ?? "")
    }
  })
  await waitFor("a hundred acknowledged pages", 20_000, () => acknowledged.size >= 100 ? true : undefined, 5)
  await c.kill()
  stopped = true
  await Promise.all(writers)
  const before = c.pid
  await c.start()
  t.not(c.pid, before)
  for (const node of [c, a]) {
    await waitFor(`${node.name} holds all of it`, travelMs, async () => {
      const pages = new Set((await node.call("memory.list", { prefix: "writer" })).map(({ page }) => page))
      return [...acknowledged.keys()].every((page) => pages.has(page)) ? true : undefined
    })
    const events = new Set((await node.call("event.list", { node: "cyd", limit: 10_000 })).map(({ address }) => address))
    t.strictSame([...acknowledged.values()].filter((address) => !events.has(address)), [], `${acknowledged.size} acknowledged changes are in ${node.name}'s index under their addresses`)
  }
  const found = await c.call("event.list", { type: "node.found-unclean/1", node: "cyd" })
  t.equal(found.length, 1, "it noted how its last run had ended")
  for (const node of [a, b, c]) t.match(await node.call("event.verify", {}), { clean: true }, `${node.name} verifies clean`)
})

t.test("an invite that is used, expired, withdrawn or no invite lets nobody in, and says which", async (t) => {
  const refused = async (invite: string, why: RegExp): Promise<void> => {
    const ran = await d.cli(["join", invite, "--timeout", "15", "--json"])
    t.equal(ran.code, 5, `exit code of ${why}: ${ran.err}`)
    t.match(ran.err, why)
    t.equal((await d.call("mesh.show", {})).members.length, 1, "nothing was joined")
  }
  const expired = await a.call("invite.create", { expires: "1s" })
  const withdrawn = await a.call("invite.create", {})
  const used = await a.call("invite.create", {})
  await a.call("invite.revoke", { id: withdrawn.id })
  await refused("kos-invite:abcdef", /cannot be read/)
  await refused(withdrawn.invite, /withdrawn/)
  await waitFor("the end of an invite", 10_000, async () => (await a.call("invite.list", { all: true })).find(({ id }) => id === expired.id)?.state === "expired" ? true : undefined)
  await refused(expired.invite, /expired/)
  const e = processes.node("eve", argv)
  await e.start()
  t.match(await e.call("join", { invite: used.invite }), { admittedBy: "ada" })
  await refused(used.invite, /used/)
  t.equal((await a.call("invite.list", { all: true })).find(({ id }) => id === used.id)?.state, "used")
  await e.stop()
})

t.test("a second daemon on one home is refused and told of the first", async (t) => {
  const second = await processes.cli(["--home", a.home, "daemon", "run", ...argv])
  t.equal(second.code, 6)
  t.match(second.err, new RegExp(`pid ${a.pid}\\b`))
  t.match(await a.call("status", {}), { node: { pid: a.pid, ready: true } }, "and the first goes on")
})

t.test("who leaves keeps what it held, is alone, and the others know", async (t) => {
  await b.call("leave", {})
  t.match(await b.call("mesh.show", {}), { members: [{ name: "ben", self: true }] })
  t.equal(await pageText(b, "notes/first"), "Ada wrote this.")
  for (const node of [a, c]) {
    await waitFor(`${node.name} knows that ben left`, travelMs, async () =>
      (await node.call("mesh.show", {})).members.find(({ name }) => name === "ben")?.standing === "left" ? true : undefined)
  }
  await b.call("memory.add", { page: "notes/private", text: "Ben alone." })
  await a.call("memory.add", { page: "notes/third", text: "Still two." })
  await reads(c, "notes/third", "Still two.")
  t.equal(await pageText(b, "notes/third"), undefined)
  t.equal(await pageText(a, "notes/private"), undefined)
})

t.test("they stop when they are told to, cleanly", async (t) => {
  for (const node of [a, c]) {
    const ran = await node.stop()
    t.equal(ran?.code, 0, `${node.name}: ${ran?.err ?? ""}`)
  }
  await a.start()
  t.strictSame((await a.call("event.list", { type: "node.found-unclean/1", node: "ada" })), [], "no unclean stop")
})
