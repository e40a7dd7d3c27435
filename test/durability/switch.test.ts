/**
 * kill -9 at every step of a switch. Always a healthy version runs afterwards, never a half one; the newest that became good wins; a trial never gets more tries
 * than it was given.
 *
 * `KOS_ROUNDS` says how many kills of each kind (3 when not given, 20 and more for a release), `KOS_SEED` which moments. The launcher is killed before and after each
 * of its changes on the disk: `mv`, `rm`, `sync` and `ln` of its PATH are ours, count, and kill their parent.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { setTimeout as delay } from "node:timers/promises"
import t, { type Test } from "tap"
import { eventually, homesOf } from "../daemon-process.ts"
import { holder } from "../../src/boot/lock.ts"
import { readCurrent } from "../../src/boot/slots-files.ts"
import { chance } from "../membership-world.ts"
import { type Behaviour, SlotsHome, writeVersion } from "../slots-help.ts"
import { filesMax, type Plan } from "./switch-plan.ts"

const rounds = Number(process.env["KOS_ROUNDS"] ?? 3)
const seed = Number(process.env["KOS_SEED"] ?? 1)
const { below } = chance(seed)

t.setTimeout(60_000 + rounds * 60_000)

/** Runs the driver; resolves with what it said when it is dead. */
const drive = async (t: Test, plan: Plan, killAfterMs?: number): Promise<ReadonlyArray<string>> => {
  const child = spawn(process.execPath, [new URL("switch-driver.ts", import.meta.url).pathname, JSON.stringify(plan)], {
    stdio: ["ignore", "pipe", "inherit"], env: { NODE_COMPILE_CACHE: `${plan.root}/../../../../compiled` }
  })
  t.teardown(() => child.kill("SIGKILL"))
  let text = ""
  child.stdout.on("data", (part: Buffer) => {
    const first = text === ""
    text += part.toString()
    if (first && killAfterMs !== undefined) setTimeout(() => child.kill("SIGKILL"), killAfterMs)
  })
  await once(child, "close")
  return text.split("\n").filter((line) => line !== "")
}

/** Every slot that is offered is whole, and the launcher starts a healthy one: the current one, or the one on trial. Returns the generation that runs in the end. */
const checkAfter = async (t: Test, place: SlotsHome, what: string): Promise<number> => {
  const slots = await place.open()
  const all = await slots.list()
  for (const { generation, path } of all.slice(1)) {
    const whole = existsSync(`${path}/whole`) && Array.from({ length: filesMax }, (_, n) => n).every((n) => existsSync(`${path}/src/${n}`) && readFileSync(`${path}/src/${n}`, "utf8") === `file ${n}`)
    if (!whole) t.fail(`${what}: generation ${generation} is only half there`)
  }
  const expected = all.find(({ state }) => state === "trial")?.generation ?? (await slots.current()).generation
  place.forget()
  const run = place.launch()
  t.ok(await eventually(() => place.lines().some((line) => line.startsWith("runs "))), `${what}: a healthy version runs ${run.err()}`)
  t.equal(place.lines().at(-1), `runs ${expected}`, `${what}: and it is the one that is to run`)
  await place.end(run)
  return (await slots.current()).generation
}

/** The last generation that the driver said was current, or those that it may be when it died in between. */
const mayBeCurrent = (said: ReadonlyArray<string>, before: number): ReadonlyArray<number> => {
  let current: ReadonlyArray<number> = [before]
  for (const [, verb, generation] of said.map((line) => /^(begins good|good|back|begins back) ?(\d*)$/.exec(line) ?? [])) {
    if (verb === "begins good") current = [...current, Number(generation)]
    else if (verb === "begins back") current = [...current, -1]
    else if (verb !== undefined) current = [Number(generation)]
  }
  return current
}

for (const what of ["stage", "activate", "good", "rollback", "fail", "drop"] as const) {
  t.test(`${what}: killed at its steps, ${rounds} times`, async (t) => {
    const directory = homesOf(t)
    for (let round = 0; round < rounds; round++) {
      const place = new SlotsHome(t, `${directory}/home-${round}`)
      const plan: Plan = { root: place.root, pkg: place.pkg, what, n: 1, seed: round }
      // A first good one, so that there is something to go back to beside the package.
      const slots = await place.open()
      await slots.stage({ name: "kos", version: "1.0.0", release: "f".repeat(64), write: async (into) => {
        mkdirSync(`${into}/src`)
        for (let n = 0; n < filesMax; n++) writeFileSync(`${into}/src/${n}`, `file ${n}`)
        writeVersion(into, "good")
      } })
      await slots.activate(1, { tries: 2, deadlineMs: 60_000 })
      await slots.good(1)
      const half = what === "stage" && round % 2 === 1
      const said = await drive(t, { ...plan, ...(half ? { dieAtFile: below(filesMax) } : { dieAtStep: 1 + (round % 5) }) })
      const look = await place.open()
      const current = (await look.current()).generation
      const may = mayBeCurrent(said, 1)
      // Going back from the second one leads to the first.
      t.ok(may.includes(current) || (may.includes(-1) && current === 1), `${what} ${round}: generation ${current} is current, it may be ${may.join(" or ")}`)
      if (half) t.same((await look.list()).length, 2, "what was written to a part is not there")
      await checkAfter(t, place, `${what}, round ${round}`)
    }
  })
}

t.test(`anything by chance: killed at any moment, ${rounds} times`, async (t) => {
  const place = new SlotsHome(t, homesOf(t))
  let current = 0
  for (let round = 0; round < rounds; round++) {
    const said = await drive(t, { root: place.root, pkg: place.pkg, what: "anything", n: round * 1_000, seed: seed * 1_000 + round }, below(400))
    const may = mayBeCurrent(said, current)
    const now = (await (await place.open()).current()).generation
    t.ok(may.includes(now) || may.includes(-1), `round ${round}: generation ${now} is current, it may be ${may.join(" or ")}`)
    current = await checkAfter(t, place, `round ${round}`)
  }
})

/** Programs in the place of the system's that count their calls, and kill the launcher before or after one of them. */
const killer = (directory: string): string => {
  const bin = `${directory}/killer`
  mkdirSync(bin, { recursive: true })
  for (const name of ["mv", "rm", "sync", "ln"]) {
    writeFileSync(`${bin}/${name}`, `#!/bin/sh
n=0; { read -r n < "$KILL_COUNT"; } 2>/dev/null; n=$((n + 1)); echo $n > "$KILL_COUNT"
[ "$n" = "$KILL_BEFORE" ] && kill -9 $PPID && exit 1
/bin/${name} "$@"; code=$?
[ "$n" = "$KILL_AFTER" ] && kill -9 $PPID
exit $code
`)
    chmodSync(`${bin}/${name}`, 0o755)
  }
  return bin
}

/** A home whose generation 1 is good and whose generation 2 is on trial. */
const withTrial = async (t: Test, directory: string, behaviour: Behaviour, deadlineMs = 60_000): Promise<SlotsHome> => {
  const place = new SlotsHome(t, directory)
  const slots = await place.open()
  await slots.activate(await place.stage(slots, "good", 1), { tries: 2, deadlineMs: 60_000 })
  await slots.good(1)
  await slots.activate(await place.stage(slots, behaviour, 2), { tries: 2, deadlineMs })
  return place
}

/** Nothing is on trial, and the current one runs. Looked at from outside: a launcher is at work. */
const atRest = async (place: SlotsHome): Promise<boolean> => !existsSync(`${place.root}/trial`) && place.lines().at(-1) === `runs ${await readCurrent(place.root)}`

/** What must hold in the end, however it was killed. */
const checkTrial = async (t: Test, place: SlotsHome, behaviour: Behaviour, what: string): Promise<void> => {
  const lines = place.lines()
  const slots = await place.open()
  const tries = lines.filter((line) => line.startsWith("start 2 1")).length
  t.ok(tries <= 2, `${what}: ${tries} tries`)
  t.notOk(lines.some((line) => line.startsWith("conflict") || line === "runs 0"), `${what}: one daemon at a time, and never the package's own: ${lines.join(", ")}`)
  const { generation } = await slots.current()
  t.equal(lines.at(-1), `runs ${generation}`, `${what}: what is current runs`)
  if (behaviour !== "good") {
    t.equal(generation, 1, `${what}: a bad one is never current`)
    t.match(await slots.failed(), { slot: { generation: 2, state: "failed" }, why: /\w/ }, `${what}: and it is said why`)
  }
}

for (const behaviour of ["good", "bad", "crash", "gives-up", "hang"] as const) {
  t.test(`a trial of a version that is ${behaviour}: the launcher is killed before or after each change on the disk, ${rounds} times`, async (t) => {
    const directory = homesOf(t)
    const bin = killer(directory)
    let killed = 0
    for (let round = 0; round < rounds; round++) {
      const place = await withTrial(t, `${directory}/home-${round}`, behaviour, behaviour === "hang" ? 1_000 : 60_000)
      const at = 1 + (rounds < 20 ? below(16) : (round >> 1) % 16)
      const what = `killed ${round % 2 === 0 ? "before" : "after"} change ${at}`
      const first = place.launch({ env: { PATH: `${bin}:/usr/bin:/bin`, KILL_COUNT: `${directory}/count-${round}`, [round % 2 === 0 ? "KILL_BEFORE" : "KILL_AFTER"]: String(at) } })
      let died = false
      void first.ended.then(() => { died = true })
      await eventually(() => died || place.lines().some((line) => line === "runs 1" || (behaviour === "good" && line === "runs 2")))
      if (died) killed++
      else {
        first.child.kill("SIGKILL")
        await first.ended
      }
      const next = place.launch()
      t.ok(await eventually(() => atRest(place)), `${what}: it comes to rest: ${next.err()}`)
      await checkTrial(t, place, behaviour, what)
      await place.end(next)
    }
    t.comment(`${killed} of ${rounds} were killed by a change`)
  })
}

t.test(`a trial: daemon, launcher or both are killed at any moment, ${rounds} times`, async (t) => {
  const directory = homesOf(t)
  for (let round = 0; round < rounds; round++) {
    const behaviour = round % 2 === 0 ? "good" : "hang"
    const place = await withTrial(t, `${directory}/home-${round}`, behaviour, 1_000)
    const kills = 1 + below(3)
    for (let n = 0; n < kills; n++) {
      const run = place.launch()
      await delay(below(250))
      // Told by its start as well: a number may be somebody else's by now.
      const daemon = await holder(place.home)
      const whom = below(3)
      if (whom > 0 && daemon !== undefined) kill(daemon)
      if (whom < 2) run.child.kill("SIGKILL")
      else {
        await delay(below(250))
        run.child.kill("SIGKILL")
      }
      await run.ended
    }
    const last = place.launch()
    t.ok(await eventually(() => atRest(place)), `round ${round} comes to rest: ${last.err()}`)
    const tries = place.lines().filter((line) => line.startsWith("start 2 1")).length
    t.ok(tries <= 2, `${tries} tries`)
    const slots = await place.open()
    const { generation } = await slots.current()
    t.equal(place.lines().at(-1), `runs ${generation}`, "what is current runs")
    if (behaviour === "hang") t.equal(generation, 1)
    else t.ok(generation === 2 || (await slots.failed())?.slot.generation === 2, "the new one, or it is said why not")
    t.notOk(place.lines().some((line) => line === "runs 0" || line.startsWith("conflict")), place.lines().join(", "))
    await place.end(last)
  }
})

const kill = (pid: number): void => {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // It ended by itself.
  }
}
