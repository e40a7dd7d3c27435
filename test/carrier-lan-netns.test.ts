/** Two network namespaces joined by one cable, nothing else: no default route, no DNS, no DHT. Needs root and iproute2. */
import { execFileSync, spawn, type ChildProcess } from "node:child_process"
import { fileURLToPath } from "node:url"
import t from "tap"
import { toHex } from "../src/codec/bytes.ts"
import { randomBytes } from "../src/codec/signature.ts"
import { until } from "./carrier-contract.ts"

const ip = (...args: ReadonlyArray<string>): void => {
  execFileSync("ip", [...args], { stdio: "pipe" })
}

const whyNot = (): string | undefined => {
  if (process.getuid?.() !== 0) return "Network namespaces need root."
  try {
    ip("-V")
  } catch {
    return "The command ip is missing: apt-get install -y iproute2."
  }
  const probe = `kos-p${process.pid}`
  try {
    ip("netns", "add", probe)
    ip("netns", "del", probe)
    return undefined
  } catch {
    return "This machine does not allow network namespaces."
  }
}

const reason = whyNot()

t.test("two nodes on one cable find each other and talk", { skip: reason ?? false }, async (t) => {
  const spaces = [`kos-a${process.pid}`, `kos-b${process.pid}`] as const
  const children: Array<ChildProcess> = []
  t.teardown(() => {
    for (const child of children) child.kill("SIGKILL")
    for (const space of spaces) {
      try {
        ip("netns", "del", space)
      } catch {
        // It was never made.
      }
    }
  })
  for (const space of spaces) {
    ip("netns", "add", space)
    ip("-n", space, "link", "set", "lo", "up")
  }
  const cable = `kc${process.pid}`.slice(0, 12)
  ip("link", "add", `${cable}a`, "netns", spaces[0], "type", "veth", "peer", "name", `${cable}b`, "netns", spaces[1])
  ip("-n", spaces[0], "addr", "add", "10.99.7.1/24", "dev", `${cable}a`)
  ip("-n", spaces[1], "addr", "add", "10.99.7.2/24", "dev", `${cable}b`)
  ip("-n", spaces[0], "link", "set", `${cable}a`, "up")

  const topic = toHex(randomBytes(32))
  const script = fileURLToPath(new URL("carrier-child.ts", import.meta.url))
  const run = (space: string) => {
    const child = spawn("ip", ["netns", "exec", space, process.execPath, script, "lan", topic], { stdio: ["pipe", "pipe", "inherit"] })
    children.push(child)
    const node = { child, lines: new Array<Record<string, unknown>>(), code: undefined as number | null | undefined }
    let rest = ""
    child.stdout.on("data", (part: Buffer) => {
      rest += part.toString("utf8")
      const lines = rest.split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) node.lines.push(JSON.parse(line))
    })
    child.on("exit", (code) => {
      node.code = code
    })
    return node
  }
  const a = run(spaces[0])
  const b = run(spaces[1])
  await until(() => a.lines.length > 0 && b.lines.length > 0, "both nodes run", 20_000)
  // The second end of the cable is plugged in while both run: nobody may need a restart for that.
  ip("-n", spaces[1], "link", "set", `${cable}b`, "up")
  const plugged = performance.now()
  await until(() => a.lines.length > 1 && b.lines.length > 1, "both have met", 30_000)
  t.comment(`met ${Math.round(performance.now() - plugged)} ms after the cable was plugged in`)
  const [deviceA, deviceB] = [a.lines[0]?.["device"], b.lines[0]?.["device"]]
  t.match(a.lines[1], { met: deviceB, heard: deviceB, remote: /^(10\.99\.7\.2|\[fe80)/ })
  t.match(b.lines[1], { met: deviceA, heard: deviceA, remote: /^(10\.99\.7\.1|\[fe80)/ })
  a.child.stdin?.end()
  b.child.stdin?.end()
  await until(() => a.code !== undefined && b.code !== undefined, "both end by themselves")
  t.equal(a.code, 0)
  t.equal(b.code, 0)
})
