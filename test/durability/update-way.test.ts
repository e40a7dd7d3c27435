/**
 * kill -9 at every step of the way of an update, with real daemons under their launchers. Afterwards a healthy version runs, never a half one; nothing that was
 * acknowledged is lost; a good release ends committed, a bad one rolled back with its reason and is not taken again; and nothing is left lying about.
 *
 * `KOS_ROUNDS` says how many kills at each step (1 when not given, 20 and more for a release), `KOS_SEED` which moments, `KOS_ONLY` a part of the names of the
 * steps that are wanted. What stands in the home is watched from outside, and the kill follows at once or after a random time.
 */
import { randomBytes } from "node:crypto"
import { cpSync, existsSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs"
import { setTimeout as delay } from "node:timers/promises"
import t, { type Test } from "tap"
import { eventually, homesOf, joinMesh, type TestNode, testNode } from "../daemon-process.ts"
import { chance } from "../membership-world.ts"
import { kosTree, openChannelAt, publish, type TreeOptions } from "../update-tree.ts"
import { namesIn, type Step, UpdateHome, type Victim, victims } from "./update-home.ts"

const rounds = Number(process.env["KOS_ROUNDS"] ?? 1)
const seed = Number(process.env["KOS_SEED"] ?? 1)
const only = process.env["KOS_ONLY"] ?? ""
const { below } = chance(seed)
/** Until a release has come to its end, milliseconds. */
const restMsMax = 120_000
/** Bytes below `HOME/updates` when all is done: what is kept of versions of this size, with room. */
const bytesMax = 200 << 20

t.setTimeout(120_000 + rounds * 600_000)
t.comment(`seed ${seed}, ${rounds} rounds`)

/** What a round looks at to find its moment. */
interface Sight {
  readonly home: UpdateHome
  readonly version: string
  readonly release: string
  readonly generation: number
  readonly said: (step: string) => Promise<boolean>
}

interface Point {
  readonly name: string
  readonly at: (sight: Sight) => boolean | Promise<boolean>
  /** The kill comes up to so long after it, milliseconds. */
  readonly withinMs: number
  /** What is published: good when not given. */
  readonly bad?: "unwell" | "exits" | "hangs"
  /** Not paused while it is published: the first steps are done at once. */
  readonly early?: boolean
  /** A person stops it at that moment, and the kill follows when that was acknowledged. */
  readonly stop?: boolean
}

const said = (step: string) => ({ said: has }: Sight): Promise<boolean> => has(step)
const place = (generation: number): string => String(generation).padStart(4, "0")
const trialLine = ({ home }: Sight): string => read(`${home.slots}/trial`)
const read = (path: string): string => {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return ""
  }
}
const link = (path: string): string => {
  try {
    return readlinkSync(path)
  } catch {
    return ""
  }
}
const tried = (sight: Sight): boolean => trialLine(sight).startsWith(`1 ${sight.generation} `) && /^1 \d+ \d+ \d+ [1-9]/.test(trialLine(sight))

const points: ReadonlyArray<Point> = [
  { name: "seen, and verifying", at: said("seen"), withinMs: 40, early: true },
  { name: "verified, and judging", at: said("compatible"), withinMs: 20, early: true },
  { name: "assembling from what is here", at: ({ home, release }) => existsSync(`${home.updates}/work/${release}/payload`), withinMs: 400 },
  { name: "fetched", at: said("fetched"), withinMs: 10 },
  { name: "staging", at: ({ home, generation }) => existsSync(`${home.slots}/gen/.tmp-${generation}`), withinMs: 600 },
  { name: "named, staged not said", at: ({ home, generation }) => existsSync(`${home.slots}/gen/${place(generation)}`), withinMs: 0 },
  { name: "rehearsing", at: ({ home }) => namesIn(`${home.updates}/rehearsal`).length > 0, withinMs: 2_500 },
  { name: "rehearsed, and asking for the turn", at: said("rehearsed"), withinMs: 25 },
  { name: "trial said", at: said("trial"), withinMs: 0 },
  { name: "activated", at: (sight) => trialLine(sight).startsWith(`1 ${sight.generation} `), withinMs: 30 },
  { name: "starting again", at: (sight) => trialLine(sight).startsWith(`1 ${sight.generation} `), withinMs: 800 },
  { name: "the first try begins", at: tried, withinMs: 20 },
  { name: "the first try starts", at: tried, withinMs: 2_000 },
  { name: "on trial", at: async (sight) => tried(sight) && (await sight.home.list().catch(() => [])).some(({ running, state }) => running && state === "trial"), withinMs: 1_200 },
  { name: "healthy said", at: said("healthy"), withinMs: 0 },
  { name: "switched, committed not said", at: ({ home, generation }) => link(`${home.slots}/current`) === `gen/${place(generation)}`, withinMs: 0 },
  { name: "committed", at: said("committed"), withinMs: 60 },
  { name: "unwell: the trial is given up", at: ({ home }) => existsSync(`${home.slots}/failed`), withinMs: 0, bad: "unwell" },
  { name: "unwell: the old one starts", at: ({ home }) => existsSync(`${home.slots}/failed`), withinMs: 1_500, bad: "unwell" },
  { name: "unwell: on trial", at: tried, withinMs: 3_000, bad: "unwell" },
  { name: "unwell: rolled-back said", at: said("rolled-back"), withinMs: 15, bad: "unwell" },
  { name: "exits: in its tries", at: tried, withinMs: 300, bad: "exits" },
  { name: "exits: given up", at: ({ home }) => existsSync(`${home.slots}/failed`), withinMs: 200, bad: "exits" },
  { name: "hangs: in its tries", at: tried, withinMs: 4_000, bad: "hangs" },
  { name: "stopped while rehearsing", at: ({ home }) => namesIn(`${home.updates}/rehearsal`).length > 0, withinMs: 1_000, stop: true }
]
const overWires: ReadonlyArray<Point> = [
  { name: "fetching", at: ({ home, release }) => existsSync(`${home.updates}/work/${release}/payload`), withinMs: 3_000 }
]

const first = (line: string) => (text: string): string => text.replace("#!/bin/sh\n", `#!/bin/sh\n${line}\n`)
const edits: Readonly<Record<NonNullable<Point["bad"]>, { readonly edit?: TreeOptions["edit"]; readonly args: ReadonlyArray<string> }>> = {
  unwell: { args: ["--check", "never=/bin/false", "--deadline", "1s"] },
  exits: { edit: ["bin/kos", first("[ -n \"${KOS_TRIAL:-}\" ] && exit 3")], args: [] },
  hangs: { edit: ["bin/kos", first("[ -n \"${KOS_TRIAL:-}\" ] && exec sleep 3600")], args: ["--deadline", "1s"] }
}

let versions = 0

/** One release from its publication to its end, with a kill on its way. */
const round = async (t: Test, directory: string, base: string, home: UpdateHome, point: Point, victim: Victim, publisher: TestNode = home.node): Promise<string> => {
  const version = `9.0.${++versions}`
  const tree = `${directory}/tree-${versions}`
  const began = performance.now()
  const { edit, args = [] } = point.bad === undefined ? {} : edits[point.bad]
  treeOf(base, tree, version, edit)
  // What nobody has yet, so that it takes its time.
  if (publisher !== home.node) writeFileSync(`${tree}/ballast`, randomBytes(3 << 20))
  const before = (await home.list()).find(({ running }) => running)
  const ms = below(point.withinMs + 1)
  const what = `${point.name}, ${victim} killed ${ms} ms after (${version}, seed ${seed})`
  if (point.early !== true) await home.node.ask("update.pause")
  const last = Number(/^1 (\d+)/.exec(read(`${home.slots}/last`))?.[1] ?? 0)
  let killed = false
  let told = ""
  const strike = async (sight: Sight): Promise<void> => {
    const end = performance.now() + restMsMax
    while (!(await point.at(sight))) {
      if (performance.now() > end) return
      await delay(1)
    }
    if (ms > 0) await delay(ms)
    if (point.stop === true) await home.node.ask("update.stop", [version])
    told = (await Promise.race([home.steps(version), delay(0, [])])).map(({ step }) => step).join(" ")
    await home.kill(victim)
    killed = true
  }
  const sightOf = (release: string): Sight => ({ home, version, release, generation: last + 1, said: async (step) => (await home.steps(version)).some((one) => one.step === step) })
  const early = point.early === true ? strike(sightOf("")) : undefined
  const { release } = await publish(publisher, "stable", tree, version, args).catch((cause: unknown) => {
    if (point.early !== true) throw cause
    return { release: "" }
  })
  const striking = early ?? strike(sightOf(release))
  let resumed = point.early === true
  const resume = async (): Promise<void> => {
    if (!resumed) resumed = await home.node.ask("update.resume").then(() => true, () => false)
  }
  await resume()
  while (!killed && performance.now() - began < restMsMax) {
    await home.write()
    await Promise.race([striking, delay(100)])
  }
  await striking
  t.ok(killed, `${what}: the moment came`)

  // It comes to rest.
  let steps: ReadonlyArray<Step> = []
  const ended = point.stop === true ? "stopped" : point.bad === undefined ? "committed" : "rolled-back"
  const rests = await eventually(async () => {
    await resume()
    steps = await home.steps(version)
    const end = steps.at(-1)?.step
    return (end === "committed" || end === "rolled-back" || end === "stopped" || end === "failed") && home.leftovers().length === 0 && home.left().length === 0
  }, restMsMax)
  const way = steps.map(({ step, detail }) => detail === "" ? step : `${step} (${detail.slice(0, 160)})`).join(", ")
  t.ok(rests, `${what}: it comes to rest; ${way}; left: ${[...home.leftovers(), ...home.left()].join(", ")}`)
  t.equal(steps.at(-1)?.step, ended, `${what}: it ends ${ended}: ${way}`)
  if (ended !== "committed") t.match(steps.at(-1)?.detail, /\w/, `${what}: and says why`)
  await home.answers()
  const list = await home.list()
  const expected = ended === "committed" ? version : before?.version
  t.match(list.filter(({ running }) => running), [{ version: expected, state: "current" }], `${what}: one version runs, the one that is right: ${JSON.stringify(list.map(({ generation, version: v, state }) => [generation, v, state]))}`)
  t.equal((await home.node.ask("status", [], { codes: [0, 10] })).node.version, expected, `${what}: and it is what the process says`)
  t.notOk(list.some(({ state }) => state === "trial"), `${what}: nothing is on trial`)
  for (const slot of list) if (slot.generation !== 0) t.equal(JSON.parse(read(`${slot.path}/package.json`) || "{}").version, slot.version, `${what}: generation ${slot.generation} is whole`)
  t.ok(list.length <= 6, `${what}: ${list.length} generations are kept`)
  t.same(await home.lost(), [], `${what}: nothing acknowledged is lost`)
  for (let generation = last + 1; generation <= last + 3; generation++) t.ok(home.tries(generation).length <= 2, `${what}: ${home.tries(generation).join("; ")}`)
  t.ok(home.bytes() < bytesMax, `${what}: ${home.bytes()} bytes are used`)
  rmSync(tree, { recursive: true, force: true })
  t.comment(`${what}: [${told}] ${steps.map(({ step }) => step).join(" ")}; ${Math.round(performance.now() - began)} ms`)
  return version
}

/** The base under another number. */
const treeOf = (base: string, tree: string, version: string, edit: TreeOptions["edit"]): string => {
  cpSync(base, tree, { recursive: true })
  writeFileSync(`${tree}/package.json`, readFileSync(`${base}/package.json`, "utf8").replace("9.0.0", version))
  if (edit !== undefined) writeFileSync(`${tree}/${edit[0]}`, edit[1](readFileSync(`${tree}/${edit[0]}`, "utf8")))
  return tree
}

const wanted = points.filter(({ name }) => name.includes(only))

t.test("killed at each step, and started again", { skip: wanted.length === 0 && "none of them is wanted" }, async (t) => {
  const directory = homesOf(t)
  const base = kosTree(`${directory}/base`, "9.0.0")
  const jobs = Array.from({ length: rounds }, (_, n) => wanted.map((point, at) => ({ point, victim: victims[(n + at + seed) % victims.length] ?? "both" }))).flat()
  // Each takes the next one: much of a round is waiting.
  const worker = async (name: string): Promise<void> => {
    const home = new UpdateHome(t, directory, name, { KOS_NETWORK_MODE: "isolated" })
    await home.start()
    await openChannelAt(home.node, "stable")
    await home.node.ask("config.set", ["update.auto", "all"])
    const bad: Array<string> = []
    for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
      const version = await round(t, directory, base, home, job.point, job.victim)
      if (job.point.bad !== undefined || job.point.stop === true) bad.push(version)
    }
    await atLast(t, home, bad)
  }
  await Promise.all(["mill", "shed", "barn"].slice(0, jobs.length).map(worker))
})

t.test("killed while packs come over the wire", { skip: !overWires.some(({ name }) => name.includes(only)) && "it is not wanted" }, async (t) => {
  const directory = homesOf(t)
  const base = kosTree(`${directory}/base`, "9.0.0")
  const publisher = testNode(t, directory, { name: "mill" })
  const home = new UpdateHome(t, directory, "shed")
  await Promise.all([publisher.start(), home.start()])
  await joinMesh(publisher, home.node)
  await openChannelAt(publisher, "stable")
  await home.node.ask("config.set", ["update.auto", "all"])
  await home.node.ask("seed.limit", ["--down", "1MiB"])
  for (let n = 0; n < rounds; n++) {
    for (const point of overWires) await round(t, directory, base, home, point, ([...victims, "transfer"] as const)[(n + seed) % 4] ?? "both", publisher)
  }
  await atLast(t, home, [])
})

/** What was left for a reason is not taken again by itself, also after another start; and nothing runs on when the home is at rest. */
const atLast = async (t: Test, home: UpdateHome, left: ReadonlyArray<string>): Promise<void> => {
  // R5.3: also after another start.
  await home.kill("both")
  await home.answers()
  await home.node.ask("update.check").catch(() => undefined)
  for (const version of left) t.equal((await home.steps(version)).filter(({ step }) => step === "rolled-back" || step === "stopped").length, 1, `${version} is not taken again by itself`)
  await home.stop()
  t.same(home.left(), [], "no process is left")
  t.comment(`${home.name}: ${home.acknowledged} writes were acknowledged and are there`)
}
