/** Two whole daemons, each in a network namespace, joined by one cable and nothing else: no route, no DNS, no DHT. Needs root and iproute2. */
import { execFileSync } from "node:child_process"
import t from "tap"
import { Processes, waitFor } from "./demo/processes.ts"

const ip = (...args: ReadonlyArray<string>): string => execFileSync("ip", [...args], { stdio: "pipe", encoding: "utf8" })

const whyNot = (): string | undefined => {
  if (process.getuid?.() !== 0) return "Network namespaces need root."
  try {
    ip("-V")
  } catch {
    return "The command ip is missing: apt-get install -y iproute2."
  }
  const probe = `kos-q${process.pid}`
  try {
    ip("netns", "add", probe)
    ip("netns", "exec", probe, "true")
    ip("netns", "del", probe)
    return undefined
  } catch {
    return "This machine does not allow network namespaces."
  }
}

const reason = whyNot()
const meetMs = 30_000
const travelMs = 15_000

t.test("two daemons on one cable find each other, join by invite and sync", { skip: reason ?? false }, async (t) => {
  const processes = new Processes({ name: "kos-netns" })
  const spaces = [`kos-n${process.pid}a`, `kos-n${process.pid}b`] as const
  t.teardown(async () => {
    await processes.endAll()
    for (const space of spaces) {
      try {
        ip("netns", "del", space)
      } catch {
        // It was never made.
      }
    }
  })
  const cable = `kn${process.pid}`.slice(0, 12)
  for (const space of spaces) {
    ip("netns", "add", space)
    ip("-n", space, "link", "set", "lo", "up")
  }
  ip("link", "add", `${cable}a`, "netns", spaces[0], "type", "veth", "peer", "name", `${cable}b`, "netns", spaces[1])
  ip("-n", spaces[0], "addr", "add", "10.99.8.1/24", "dev", `${cable}a`)
  ip("-n", spaces[1], "addr", "add", "10.99.8.2/24", "dev", `${cable}b`)
  for (const [space, end] of [[spaces[0], "a"], [spaces[1], "b"]] as const) {
    ip("-n", space, "link", "set", `${cable}${end}`, "up")
    t.equal(ip("-n", space, "route", "show", "default").trim(), "", "no way out")
  }
  const inside = (space: string) => ["ip", "netns", "exec", space]
  const a = processes.node("attic", ["--lan-only"], inside(spaces[0]))
  const b = processes.node("barn", ["--lan-only"], inside(spaces[1]))
  await Promise.all([a.start(), b.start()])
  t.strictSame((await a.call("sync.status", {})).carriers.map(({ name }) => name), ["lan"], "the local network is the only carrier")

  await a.call("mesh.create", { name: "hill" })
  const { invite } = await a.call("invite.create", {})
  t.match(await b.call("join", { invite, timeout: 30 }), { admittedBy: "attic", mesh: { name: "hill" } })
  const touched = await waitFor("both are in touch", meetMs, async () => {
    const all = await Promise.all([a, b].map((node) => node.call("sync.status", {})))
    return all.every(({ peers }) => peers.length === 1 && peers[0]?.inTouch === true) ? all : undefined
  })
  t.match(touched[0]?.peers[0], { name: "barn", carrier: "lan", remote: /^(10\.99\.8\.2|\[fe80)/ })
  t.match(touched[1]?.peers[0], { name: "attic", carrier: "lan", remote: /^(10\.99\.8\.1|\[fe80)/ })

  await a.call("memory.add", { page: "notes/cable", text: "Written at one end." })
  const reads = (node: typeof a, text: string) => waitFor(`${node.name} reads it`, travelMs, async () =>
    (await node.call("memory.show", { page: "notes/cable" }).catch(() => undefined))?.text === text ? true : undefined)
  await reads(b, "Written at one end.")
  await b.call("memory.add", { page: "notes/cable", text: "Answered at the other." })
  await reads(a, "Written at one end.\n\nAnswered at the other.")

  // The cable is pulled, both write, and it is plugged in again: no restart, no command.
  ip("-n", spaces[0], "link", "set", `${cable}a`, "down")
  await a.call("memory.add", { page: "notes/left", text: "From the left." })
  await b.call("memory.add", { page: "notes/right", text: "From the right." })
  t.equal((await a.call("memory.list", {})).length, 2, "nothing comes through a cable that is not there")
  ip("-n", spaces[0], "link", "set", `${cable}a`, "up")
  const plugged = performance.now()
  await waitFor("both hold all three pages", 60_000, async () =>
    (await Promise.all([a, b].map((node) => node.call("memory.list", {})))).every((pages) => pages.length === 3) ? true : undefined)
  t.comment(`in step ${Math.round(performance.now() - plugged)} ms after the cable was plugged in again`)
  for (const node of [a, b]) t.match(await node.call("event.verify", {}), { clean: true }, `${node.name} verifies clean`)
})
