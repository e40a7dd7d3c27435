/** `bin/kos` as a process of its own: what cannot be seen from inside. */
import { Effect, Stream } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { mkdirSync, readdirSync, statSync, symlinkSync } from "node:fs"
import { join, resolve } from "node:path"
import t from "tap"
import { cloudEvent, fakeNode, statusAnswer } from "./api-fake.ts"

const bin = resolve(import.meta.dirname, "../bin/kos")

interface Ran {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly out: string
  readonly err: string
}

const caches = t.testdir()

const run = (command: string, argv: ReadonlyArray<string>, options: { cwd?: string; env?: Record<string, string>; then?: (child: ReturnType<typeof spawn>, out: string) => void } = {}): Promise<Ran> =>
  new Promise((done, fail) => {
    const env = { PATH: "/usr/bin:/bin", HOME: caches, XDG_CACHE_HOME: join(caches, "cache"), ...options.env }
    const child = spawn(command, argv, { cwd: options.cwd ?? "/", env, stdio: ["ignore", "pipe", "pipe"] })
    let out = ""
    let err = ""
    child.stdout.on("data", (part: Buffer) => { out += part.toString(); options.then?.(child, out) })
    child.stderr.on("data", (part: Buffer) => { err += part.toString() })
    child.on("error", fail)
    child.on("close", (code, signal) => done({ code, signal, out, err }))
  })

t.test("it runs from any directory, through symlinks, whatever node the system has", async (t) => {
  const directory = t.testdir({ one: {}, two: {} })
  symlinkSync(bin, join(directory, "one", "kos"))
  symlinkSync("../one/kos", join(directory, "two", "kos"))
  for (const command of [bin, join(directory, "one", "kos"), join(directory, "two", "kos")]) {
    t.match(await run(command, ["--version"]), { code: 0, out: /^kos \d+\.\d+\.\d+\n$/, err: "" })
  }
  t.match(await run("./kos", ["--version"], { cwd: join(directory, "two") }), { code: 0 })
  t.match(await run("sh", ["-c", "kos --version"], { env: { PATH: `${join(directory, "two")}:/usr/bin:/bin` } }), { code: 0 })
})

t.test("npx finds it in the package", async (t) => {
  const ran = spawnSync("npx", ["--no", "--offline", "kos", "--version"], { cwd: resolve(import.meta.dirname, ".."), encoding: "utf8" })
  if (ran.error !== undefined) return t.comment("npx is not installed here")
  t.match(ran.stdout, /^kos \d/, ran.stderr)
  t.equal(ran.status, 0)
})

t.test("a reader that has read enough ends it quietly", async (t) => {
  const node = await fakeNode(t.testdir(), { events: () => Stream.fromIterable(Array.from({ length: 100_000 }, (_, i) => cloudEvent(i))) })
  t.teardown(() => node.stop())
  const ran = await run("bash", ["-c", `set -o pipefail; ${bin} --home ${node.home} events -f --json | head -n 2; echo "codes \${PIPESTATUS[*]}"`])
  t.equal(ran.err, "")
  t.match(ran.out, /^\{.*\}\n\{.*\}\ncodes 0 0\n$/)
})

t.test("Ctrl-C ends it with 130", async (t) => {
  const node = await fakeNode(t.testdir(), { events: () => Stream.concat(Stream.make(cloudEvent(1)), Stream.never) })
  t.teardown(() => node.stop())
  const ran = await run(bin, ["--home", node.home, "events", "-f"], { then: (child) => { child.kill("SIGINT") } })
  t.match(ran, { code: 130, err: "" })
  for (let i = 0; i < 500 && node.server.busy() > 0; i++) await new Promise((done) => setTimeout(done, 10))
  t.equal(node.server.busy(), 0, "and the daemon has let it go")
})

t.test("a whole answer reaches a pipe, and exit codes reach the shell", async (t) => {
  const text = "a line of a long page\n".repeat(100_000)
  const node = await fakeNode(t.testdir(), {
    status: () => Effect.succeed(statusAnswer(2)),
    "config.show": () => Effect.succeed({ values: {}, text, base: {}, conflicts: 0, quarantined: [] })
  })
  t.teardown(() => node.stop())
  t.equal((await run(bin, ["--home", node.home, "config", "show"])).out, text)
  t.match(await run(bin, ["status"], { env: { KOS_HOME: node.home } }), { code: 0, out: /^All well\./, err: "" })
  t.match(await run(bin, ["status"], { env: { KOS_HOME: "/nowhere" } }), { code: 3, out: "", err: /^kos: No daemon runs on \/nowhere\./ })
  t.match(await run(bin, ["sttus", "--json"]), { code: 2, out: "", err: /"kind":"usage"/ })
})

t.test("compiled sources are kept where only this person writes", async (t) => {
  const cache = join(caches, "cache", "kos", "compiled")
  t.ok(readdirSync(cache).length > 0)
  t.equal(statSync(cache).uid, process.getuid?.())
  // A cache that cannot be written is done without.
  const file = join(caches, "plain")
  mkdirSync(file, { mode: 0o500 })
  t.match(await run(bin, ["help", "files"], { env: { XDG_CACHE_HOME: "/dev/null" } }), { code: 0, out: /kos\.sock/, err: "" })
})
