/**
 * kill -9 at every step of the way of an update, with real daemons under their launchers. Afterwards a healthy version runs, never a half one; nothing that was
 * acknowledged is lost; a good release ends committed, a bad one rolled back with its reason and is not taken again; and nothing is left lying about.
 *
 * `KOS_ROUNDS` says how many kills at each step, 20 and more for a release; when it is not given, one release is killed at many of its steps, so that it takes little time. `KOS_SEED`
 * says which moments, `KOS_ONLY` a part of the names of the steps that are wanted, `KOS_SECONDS` after how long no further round is begun. What stands in the home is watched from outside, and the kill follows at once or after a random time.
 */
import { randomBytes } from "node:crypto"
import { cpSync, existsSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs"
import { setTimeout as delay } from "node:timers/promises"
import t, { type Test } from "tap"
import { eventually, homesOf, joinMesh, type TestNode, testNode } from "../daemon-process.ts"
import { chance } from "../membership-world.ts"
import { kosTree, openChannelAt, publish, type TreeOptions } from "../update-tree.ts"
import { namesIn, type Step, UpdateHome, type Victim, victims } from "./update-home.ts"

const given = process.env["KOS_ROUNDS"]
const rounds = Number(given ?? 1)
const secondsMax = Number(process.env["KOS_SECONDS"] ?? 86_400)
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
  /** The last generation that was there before; each staging takes a new number. */
  readonly last: number
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
/** Generation that is on trial, 0 when none is, and the tries that were counted. */
const trialOf = ({ home, last }: Sight): { readonly generation: number; readonly used: number } => {
  const [, generation = 0, , , used = 0] = read(`${home.slots}/trial`).trim().split(" ").map(Number)
  return generation > last ? { generation, used } : { generation: 0, used: 0 }
}
const staged = ({ home, last }: Sight): boolean => namesIn(`${home.slots}/gen`).some((name) => /^\d+$/.test(name) && Number(name) > last)
const rehearsing = async ({ home, said: has }: Sight): Promise<boolean> => namesIn(`${home.updates}/rehearsal`).length > 0 || await has("rehearsed")
const givenUp = ({ home }: Sight): boolean => existsSync(`${home.slots}/failed`)
const activated = (sight: Sight): boolean => trialOf(sight).generation > 0
const tried = (sight: Sight): boolean => trialOf(sight).used > 0
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

const points: ReadonlyArray<Point> = [
  { name: "seen, and verifying", at: said("seen"), withinMs: 40, early: true },
  { name: "verified, and judging", at: said("compatible"), withinMs: 20, early: true },
  { name: "assembling from what is here", at: async ({ home, release, said: has }) => existsSync(`${home.updates}/work/${release}/payload`) || await has("fetched"), withinMs: 400 },
  { name: "fetched", at: said("fetched"), withinMs: 10 },
  { name: "staging", at: (sight) => staged(sight) || namesIn(`${sight.home.slots}/gen`).some((name) => /^\.tmp-\d/.test(name)), withinMs: 600 },
  { name: "named, staged not said", at: staged, withinMs: 0 },
  { name: "rehearsing", at: rehearsing, withinMs: 2_500 },
  { name: "rehearsed, and asking for the turn", at: said("rehearsed"), withinMs: 25 },
  { name: "trial said", at: said("trial"), withinMs: 0 },
  { name: "activated", at: activated, withinMs: 30 },
  { name: "starting again", at: activated, withinMs: 800 },
  { name: "the first try begins", at: tried, withinMs: 20 },
  { name: "the first try starts", at: tried, withinMs: 2_000 },
  { name: "on trial", at: async (sight) => tried(sight) && (await sight.home.list().catch(() => [])).some(({ running, state }) => running && state === "trial"), withinMs: 1_200 },
  { name: "healthy said", at: said("healthy"), withinMs: 0 },
  { name: "switched, committed not said", at: ({ home, last }) => Number(link(`${home.slots}/current`).slice(4)) > last, withinMs: 0 },
  { name: "committed", at: said("committed"), withinMs: 60 },
  { name: "unwell: the trial is given up", at: givenUp, withinMs: 0, bad: "unwell" },
  { name: "unwell: the old one starts", at: givenUp, withinMs: 1_500, bad: "unwell" },
  { name: "unwell: on trial", at: tried, withinMs: 3_000, bad: "unwell" },
  { name: "unwell: rolled-back said", at: said("rolled-back"), withinMs: 15, bad: "unwell" },
  { name: "exits: in its tries", at: tried, withinMs: 300, bad: "exits" },
  { name: "exits: given up", at: givenUp, withinMs: 200, bad: "exits" },
  { name: "hangs: in its tries", at: tried, withinMs: 4_000, bad: "hangs" },
  { name: "stopped while rehearsing", at: rehearsing, withinMs: 1_000, stop: true }
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

interface Kill {
  readonly point: Point
  readonly victim: Victim
}

/** One release from its publication to its end, with kills on its way. */
const round = async (t: Test, directory: string, base: string, home: UpdateHome, kills: ReadonlyArray<Kill>, publisher: TestNode = home.node): Promise<string> => {
  const points = kills.map(({ point }) => point)
  const bad = points.find((point) => point.bad !== undefined)?.bad
  const early = points.some((point) => point.early === true)
  const stop = points.some((point) => point.stop === true)
  const version = `9.0.${++versions}`
  const began = performance.now()
  const { edit, args = [] } = bad === undefined ? {} : edits[bad]
  const tree = treeOf(base, `${directory}/tree-${versions}`, version, edit)
  // What nobody has yet, so that it takes its time.
  if (publisher !== home.node) writeFileSync(`${tree}/ballast`, randomBytes(3 << 20))
  const before = (await home.list()).find(({ running }) => running)
  const strikes = kills.map((kill) => ({ ...kill, ms: below(kill.point.withinMs + 1) }))
  const what = `${strikes.map(({ point, victim, ms }) => `${point.name}: ${victim} killed ${ms} ms after`).join(", ")} (${version}, seed ${seed})`
  if (!early) await home.node.ask("update.pause")
  const last = Number(/^1 (\d+)/.exec(read(`${home.slots}/last`))?.[1] ?? 0)
  let killed = 0
  const strike = async (sight: Sight): Promise<void> => {
    const end = performance.now() + restMsMax
    for (const { point, victim, ms } of strikes) {
      while (!(await point.at(sight))) {
        if (performance.now() > end) return
        await delay(1)
      }
      if (ms > 0) await delay(ms)
      if (point.stop === true) await home.node.ask("update.stop", [version])
      await home.kill(victim)
      killed++
      // The next one is a moment of another run.
      if (strikes.length > 1) await home.answers()
    }
  }
  const sightOf = (release: string): Sight => ({ home, version, release, last, said: async (step) => (await home.steps(version)).some((one) => one.step === step) })
  const striking = early ? strike(sightOf("")) : undefined
  const { release } = await publish(publisher, "stable", tree, version, args).catch((cause: unknown) => {
    if (!early) throw cause
    return { release: "" }
  })
  const struck = (striking ?? strike(sightOf(release))).then(() => true)
  let resumed = early
  const resume = async (): Promise<void> => {
    if (!resumed) resumed = await home.node.ask("update.resume").then(() => true, () => false)
  }
  while (!(await Promise.race([struck, delay(100, false)]))) {
    await resume()
    await home.write()
  }
  t.equal(killed, strikes.length, `${what}: the moment came`)

  // It comes to rest.
  let steps: ReadonlyArray<Step> = []
  const ended = stop ? "stopped" : bad === undefined ? "committed" : "rolled-back"
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
  // A daemon whose launcher was killed may hold the home when the next one begins its try, which is then said and not made.
  const alone = kills.filter(({ victim }) => victim === "launcher").length
  for (let generation = last + 1; generation <= last + 3; generation++) t.ok(home.tries(generation).length <= 2 + alone, `${what}: ${home.tries(generation).join("; ")}`)
  t.ok(home.bytes() < bytesMax, `${what}: ${home.bytes()} bytes are used`)
  rmSync(tree, { recursive: true, force: true })
  t.comment(`${what}: ${steps.map(({ step }) => step).join(" ")}; ${Math.round(performance.now() - began)} ms`)
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
/** The short form: releases that are killed at several of their steps. A trial has two tries, so that one of them may be killed. */
const chains: ReadonlyArray<ReadonlyArray<string>> = [
  ["seen, and verifying", "verified, and judging", "assembling from what is here", "staging", "named, staged not said", "rehearsing", "rehearsed, and asking for the turn", "trial said"],
  ["the first try begins", "switched, committed not said"],
  ["healthy said", "committed"],
  ["unwell: on trial", "unwell: the trial is given up", "unwell: rolled-back said"],
  ["exits: in its tries"],
  ["stopped while rehearsing"]
]
const killsOf = (n: number, names: ReadonlyArray<Point>): ReadonlyArray<Kill> => names.map((point, at) => ({ point, victim: victims[(n + at + seed) % victims.length] ?? "both" }))
const jobs: ReadonlyArray<ReadonlyArray<Kill>> = given === undefined && only === ""
  ? chains.map((names, n) => killsOf(n, names.flatMap((name) => points.filter((point) => point.name === name))))
  : Array.from({ length: rounds }, (_, n) => killsOf(n, wanted).map((kill) => [kill])).flat()

t.test("killed at each step, and started again", { skip: jobs.length === 0 && "none of them is wanted" }, async (t) => {
  const directory = homesOf(t)
  const base = kosTree(`${directory}/base`, "9.0.0")
  const home = new UpdateHome(t, directory, "mill", { KOS_NETWORK_MODE: "isolated" })
  await home.start()
  await openChannelAt(home.node, "stable")
  await home.node.ask("config.set", ["update.auto", "all"])
  const left: Array<string> = []
  for (const kills of jobs) {
    if (performance.now() > secondsMax * 1_000) break
    const version = await round(t, directory, base, home, kills)
    if (kills.some(({ point }) => point.bad !== undefined || point.stop === true)) left.push(version)
  }
  await atLast(t, home, left)
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
  for (let n = 0; n < rounds && (n === 0 || performance.now() < secondsMax * 1_000); n++) {
    for (const point of overWires) await round(t, directory, base, home, [{ point, victim: ([...victims, "transfer"] as const)[(n + seed) % 4] ?? "both" }], publisher)
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
