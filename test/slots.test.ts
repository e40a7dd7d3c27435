/** Slots over plain directories, and the launcher that starts what they say. Rules R6.1 to R6.5. */
import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import t, { type Test } from "tap"
import { Effect } from "effect"
import { deadlineMsMax, generationsMax, openDirectorySlots, SlotError, triesMax } from "../src/boot/slots-directories.ts"
import { holder } from "../src/boot/lock.ts"
import { launcherGone, launchOf } from "../src/boot/slots-launcher.ts"
import { eventually, homesOf } from "./daemon-process.ts"
import { releaseId, SlotsHome, writeVersion } from "./slots-help.ts"

t.setTimeout(120_000)

/** Why it was refused. */
const reasonOf = (work: Promise<unknown>): Promise<string> => work.then(() => "done", (cause: unknown) => (cause instanceof SlotError ? cause.reason : String(cause)))

const trial = { tries: 2, deadlineMs: 60_000 }
const placeOf = (t: Test): SlotsHome => new SlotsHome(t, homesOf(t))

t.test("a version is staged, tried, good, and the one before it is kept", async (t) => {
  const place = placeOf(t)
  const slots = await place.open()
  t.match(await slots.list(), [{ generation: 0, version: "0.1.0", state: "current", path: place.pkg, release: undefined }])
  const first = await place.stage(slots, "good", 1)
  t.equal(first, 1)
  t.equal(await place.stage(slots, "good", 1), 1, "the same release is staged once")
  t.match((await slots.list())[1], { generation: 1, version: "1.0.1", state: "staged", release: releaseId(1), path: `${place.root}/gen/0001` })
  t.equal(await reasonOf(slots.good(first)), "not-on-trial")
  await slots.activate(first, trial)
  t.equal((await slots.list())[1]?.state, "trial")
  t.equal((await slots.current()).generation, 0, "a trial changes nothing that is current")
  await slots.good(first)
  await slots.good(first)
  t.match(await slots.list(), [{ generation: 0, state: "good" }, { generation: 1, state: "current" }])
  t.notOk(existsSync(`${place.root}/trial`))
  const second = await place.stage(slots, "good", 2)
  await slots.activate(second, trial)
  await slots.good(second)
  t.match((await slots.list()).map(({ state }) => state), ["good", "good", "current"])
  const again = await place.open()
  t.same(await again.list(), await slots.list(), "another opening sees the same")
})

t.test("going back: to the one before, to a named one, out of a trial", async (t) => {
  const place = placeOf(t)
  const slots = await place.open()
  t.equal(await reasonOf(slots.rollback(undefined, "no reason")), "absent", "there is nothing before the first one")
  for (const n of [1, 2, 3]) {
    const generation = await place.stage(slots, "good", n)
    await slots.activate(generation, trial)
    await slots.good(generation)
  }
  const fourth = await place.stage(slots, "good", 4)
  await slots.activate(fourth, trial)
  t.match(await slots.rollback(undefined, "no peer\nwas reached"), { generation: 3, state: "current" })
  t.match(await slots.failed(), { slot: { generation: 4, state: "failed" }, why: "no peer was reached" })
  await slots.settle(4)
  t.equal(await slots.failed(), undefined, "it is told once")
  t.match((await slots.list())[4], { state: "failed", why: "no peer was reached" }, "and remembered")
  t.match(await slots.rollback(undefined, "it eats memory"), { generation: 2, state: "current" })
  t.match((await slots.list()).map(({ state, why }) => [state, why]), [["good", undefined], ["good", undefined], ["current", undefined], ["failed", "it eats memory"], ["failed", "no peer was reached"]])
  t.equal(await reasonOf(slots.rollback(3, "back to it")), "wrong", "what was left comes back by a trial only")
  t.match(await slots.rollback(0, "to the package"), { generation: 0, state: "current" })
  t.notOk(existsSync(`${place.root}/current`))
  await slots.activate(3, trial)
  t.match((await slots.list())[3], { state: "trial", why: undefined })
  t.match(await slots.rollback(1, "neither of them"), { generation: 1, state: "current" }, "a trial is ended and another one taken")
  t.match(await slots.failed(), { slot: { generation: 3 } })
})

t.test("without a launcher the class counts the tries", async (t) => {
  const place = placeOf(t)
  const slots = await place.open()
  t.equal(await slots.beginTry(), undefined)
  const generation = await place.stage(slots, "good", 1)
  await slots.activate(generation, { tries: 2, deadlineMs: 1_500 })
  t.match(await slots.beginTry(), { slot: { generation, state: "trial" }, attempt: 1, tries: 2, deadlineMs: 2_000 })
  t.match(await (await place.open()).beginTry(), { attempt: 2 }, "also over a restart")
  t.equal(await slots.beginTry(), undefined, "no third one")
  t.match(await slots.failed(), { slot: { generation }, why: /begun 2 times/ })
  t.equal((await slots.current()).generation, 0)
  await slots.activate(generation, trial)
  t.equal(await slots.failed(), undefined, "asked for again, it has its tries again")
  await slots.fail(generation, "its check failed")
  t.match(await slots.failed(), { why: "its check failed" })
  t.equal(await reasonOf(slots.fail(generation, "twice")), "not-on-trial")
})

t.test("what is refused", async (t) => {
  const place = placeOf(t)
  const slots = await place.open()
  t.equal(await reasonOf(slots.stage({ name: "other", version: "1.0.0", release: releaseId(1), write: async () => undefined })), "wrong")
  t.equal(await reasonOf(slots.activate(7, trial)), "absent")
  const first = await place.stage(slots, "good", 1)
  for (const wrong of [{ tries: 0, deadlineMs: 1 }, { tries: triesMax + 1, deadlineMs: 1 }, { tries: 1, deadlineMs: 0 }, { tries: 1, deadlineMs: deadlineMsMax + 1 }]) {
    t.equal(await reasonOf(slots.activate(first, wrong)), "wrong")
  }
  await slots.activate(first, trial)
  t.equal(await reasonOf(slots.drop(first)), "in-use")
  await slots.good(first)
  t.equal(await reasonOf(slots.drop(first)), "in-use")
  t.equal(await reasonOf(slots.drop(0)), "in-use")
  t.equal(await reasonOf(slots.activate(first, trial)), "in-use")
  for (let n = 2; n <= generationsMax; n++) await place.stage(slots, "good", n)
  t.equal(await reasonOf(place.stage(slots, "good", 99)), "full")
  await slots.drop(5)
  await slots.drop(5)
  t.notOk(existsSync(`${place.root}/gen/0005`))
  t.equal(await place.stage(slots, "good", 99), generationsMax + 1)
  await slots.drop(generationsMax + 1)
  t.equal(await place.stage(slots, "good", 99), generationsMax + 2, "a number is given once")
  t.ok(new SlotError({ reason: "wrong", detail: "x" }).message)
})

t.test("a version that cannot be written is not there, and everything of it is on the disk before it has its name", async (t) => {
  const place = placeOf(t)
  const order: Array<string> = []
  const slots = await place.open({
    sync: async (directory) => { order.push(`sync ${readdirSync(directory).join()} ${existsSync(`${place.root}/gen/0001`)}`) },
    onStep: (step) => order.push(step)
  })
  await t.rejects(slots.stage({ name: "kos", version: "1.0.1", release: releaseId(1), write: async (directory) => {
    writeVersion(directory, "good")
    throw new Error("the disk is full")
  } }), { message: "the disk is full" })
  t.equal((await slots.list()).length, 1)
  t.same(readdirSync(`${place.root}/gen`), [])
  order.length = 0
  await slots.stage({ name: "kos", version: "1.0.1", release: releaseId(1), write: async (directory) => writeVersion(directory, "good") })
  t.same(order, ["stage: write", "stage: sync", "sync bin,whole false", "stage: describe", "stage: name", "stage: done"])
})

t.test("what lies in the place is decoded as hostile, and what a crash left is cleaned", async (t) => {
  const place = placeOf(t)
  const slots = await place.open()
  for (const n of [1, 2, 3]) await place.stage(slots, "good", n)
  await slots.activate(1, trial)
  await slots.good(1)
  mkdirSync(`${place.root}/gen/.tmp-9`)
  mkdirSync(`${place.root}/gen/0010`)
  writeFileSync(`${place.root}/gen/0011.json`, readFileSync(`${place.root}/gen/0002.json`))
  writeFileSync(`${place.root}/gen/0002.json`, "{\"v\":1,\"generation\":2,\"name\":\"../../etc\"}")
  writeFileSync(`${place.root}/current.new`, "")
  for (const text of ["", "1 3", "1 3 2 60 0 0", "2 3 2 60 0", "1 0 2 60 0", "1 3 2 60 08 ", "1 -3 2 60 0", `1 3 2 60 ${"9".repeat(40)}`, "\u0000".repeat(9_000)]) {
    writeFileSync(`${place.root}/trial`, text)
    t.equal((await slots.list()).find(({ state }) => state === "trial"), undefined, JSON.stringify(text.slice(0, 20)))
    t.equal(await slots.beginTry(), undefined)
  }
  writeFileSync(`${place.root}/failed`, `1 3 2 ${"why ".repeat(400)}\u001b[31m\u0007`)
  const opened = await place.open()
  t.match((await opened.list()).map(({ generation, state }) => [generation, state]), [[0, "good"], [1, "current"], [3, "failed"]])
  t.notMatch((await opened.failed())?.why, /[\u0000-\u001f]/)
  t.same(readdirSync(`${place.root}/gen`).sort(), ["0001", "0001.json", "0003", "0003.json"])
  t.notOk(existsSync(`${place.root}/trial`))
  // The link leads elsewhere, or to what is not there: then what the package brought is current.
  for (const target of ["/etc", "../../..", "gen/../../x", "gen/0777"]) {
    rmSync(`${place.root}/current`, { force: true })
    symlinkSync(target, `${place.root}/current`)
    t.equal((await (await place.open()).current()).generation, 0, target)
  }
  rmSync(`${place.root}/current`)
  symlinkSync("gen/0003", `${place.root}/current`)
  writeFileSync(`${place.root}/gen/0003.json`, "nothing of ours")
  t.match(await (await place.open()).current(), { generation: 3, version: "0.0.0" }, "what runs is not removed because its description is damaged")
  t.ok(lstatSync(`${place.root}/gen/0003`).isDirectory())
})

for (const shell of ["/bin/dash", "/bin/bash"]) {
  t.test(`the launcher under ${shell}`, { skip: existsSync(shell) ? false : `${shell} is not installed` }, async (t) => {
    t.test("a good one takes over; a second launcher is refused; it ends when it is asked to", async (t) => {
      const place = placeOf(t)
      const slots = await place.open()
      await slots.activate(await place.stage(slots, "good", 1), trial)
      const run = place.launch({ shell })
      t.ok(await eventually(() => place.lines().includes("runs 1")))
      t.same(place.lines(), ["start 1 1 -", "runs 1"])
      t.equal((await slots.current()).generation, 1)
      const second = place.launch({ shell })
      t.equal(await second.ended, 6)
      t.match(second.err(), /has a launcher already: pid \d+/)
      run.child.kill("SIGTERM")
      t.equal(await run.ended, 143)
      t.notOk(existsSync(`${place.home}/run/launcher`))
      place.forget()
      const next = place.launch({ shell })
      t.ok(await eventually(() => place.lines().includes("runs 1")))
      t.same(place.lines(), ["start 1 0 -", "runs 1"], "no trial any more")
      next.child.kill("SIGKILL")
      await next.ended
    })

    t.test("bad ones get their tries, and the version before them runs again and is told", async (t) => {
      for (const [behaviour, why] of [["bad", /^it ended with code 1 after \d s, in try 2 of 2$/], ["crash", /^it was ended by signal 9 after \d s, in try 2 of 2$/]] as const) {
        const place = new SlotsHome(t, t.testdir({ [behaviour]: {} }) + `/${behaviour}`)
        const slots = await place.open()
        await slots.activate(await place.stage(slots, behaviour, 1), trial)
        const run = place.launch({ shell })
        t.ok(await eventually(() => place.lines().includes("runs 0")))
        t.same(place.lines(), ["start 1 1 -", "start 1 1 -", "start 0 0 1", "runs 0"])
        t.match(await slots.failed(), { slot: { generation: 1, state: "failed" }, why })
        await place.end(run)
      }
    })
  })
}

t.test("one that is never good is ended when its time is over, also when it does not want to", async (t) => {
  for (const behaviour of ["hang", "stubborn"] as const) {
    const place = new SlotsHome(t, t.testdir({ [behaviour]: {} }) + `/${behaviour}`)
    const slots = await place.open()
    await slots.activate(await place.stage(slots, behaviour, 1), { tries: 1, deadlineMs: 1_000 })
    const run = place.launch()
    t.ok(await eventually(() => place.lines().includes("runs 0")), behaviour)
    t.match(await slots.failed(), { why: "it was not good within 1 s, in try 1 of 1" })
    await place.end(run)
  }
})

t.test("one whose bin/kos is missing or cannot be run has failed", async (t) => {
  const place = placeOf(t)
  const slots = await place.open()
  const generation = await place.stage(slots, "good", 1)
  chmodSync(`${place.root}/gen/0001/bin/kos`, 0o644)
  await slots.activate(generation, trial)
  const run = place.launch()
  t.ok(await eventually(() => place.lines().includes("runs 0")))
  t.match(await slots.failed(), { why: "its bin/kos is missing or cannot be run" })
  await place.end(run)
})

t.test("code 75 means: start again", async (t) => {
  const place = placeOf(t)
  const slots = await place.open()
  t.test("after it became good", async (t) => {
    await slots.activate(await place.stage(slots, "good-again", 1), trial)
    const run = place.launch()
    t.ok(await eventually(() => place.lines().includes("runs 1")))
    t.same(place.lines(), ["start 1 1 -", "start 1 0 -", "runs 1"])
    await place.end(run)
  })
  t.test("after it gave itself up", async (t) => {
    place.forget()
    await slots.activate(await place.stage(slots, "gives-up", 2), trial)
    const run = place.launch()
    t.ok(await eventually(() => place.lines().includes("runs 1")))
    t.same(place.lines(), ["start 2 1 -", "start 1 0 2", "runs 1"])
    t.match(await slots.failed(), { slot: { generation: 2 }, why: "it says so itself" })
    await place.end(run)
  })
  t.test("also for one that failed before, when a person asks for it again", async (t) => {
    place.forget()
    await slots.activate(await place.stage(slots, "bad", 3), trial)
    const run = place.launch()
    t.ok(await eventually(() => place.lines().includes("runs 1")))
    writeVersion(`${place.root}/gen/0003`, "good")
    await slots.activate(3, trial)
    const pid = await holder(place.home)
    if (pid !== undefined) process.kill(pid, "SIGUSR1")
    t.ok(await eventually(() => place.lines().includes("runs 3")))
    t.same(place.lines(), ["start 3 1 -", "start 3 1 -", "start 1 0 3", "runs 1", "start 3 1 -", "runs 3"])
    await place.end(run)
  })
  t.test("but not for ever", async (t) => {
    place.forget()
    writeVersion(`${place.root}/gen/0003`, "again")
    const run = place.launch()
    t.equal(await run.ended, 75)
    t.equal(place.lines().length, 5)
    t.match(run.err(), /5 times in a row/)
  })
})

t.test("a version that is not on trial ends with its own code, and nothing is started in its place", async (t) => {
  const place = placeOf(t)
  writeFileSync(`${place.pkg}/bin/kos`, "#!/bin/sh\nexit 9\n")
  t.equal(await place.launch().ended, 9)
})

t.test("a current one that is damaged gives way to the newest good one before it", async (t) => {
  const place = placeOf(t)
  const slots = await place.open()
  for (const n of [1, 2, 3]) {
    const generation = await place.stage(slots, "good", n)
    await slots.activate(generation, trial)
    await slots.good(generation)
  }
  rmSync(`${place.root}/gen/0003/bin/kos`)
  const run = place.launch()
  t.ok(await eventually(() => place.lines().includes("runs 2")))
  t.match(run.err(), /generation 3 is current and its bin\/kos is missing/)
  await place.end(run)
})

t.test("the home is found as the command line finds it, and other commands get the current version", async (t) => {
  const place = placeOf(t)
  const slots = await place.open()
  const generation = await place.stage(slots, "good", 1)
  await slots.activate(generation, trial)
  await slots.good(generation)
  writeFileSync(`${place.root}/gen/0001/bin/kos`, "#!/bin/sh\necho \"slot $*\" >&2\n")
  writeFileSync(`${place.pkg}/bin/kos`, "#!/bin/sh\necho \"package $*\" >&2\n")
  const said = async (args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}): Promise<string> => {
    const run = place.launch({ args, env: { HOME: "/nowhere", XDG_DATA_HOME: "/nowhere", ...env } })
    await run.ended
    return run.err().trim()
  }
  t.equal(await said(["--home", place.home, "status"]), `slot --home ${place.home} status`)
  t.equal(await said(["status", `--home=${place.home}`]), `slot status --home=${place.home}`)
  t.equal(await said(["status"], { KOS_HOME: place.home }), "slot status")
  t.equal(await said(["daemon", "run", "--help", "--home", place.home]), `slot daemon run --help --home ${place.home}`, "who only asks starts no daemon")
  t.equal(await said(["status", "--home", "/nowhere"], { KOS_HOME: place.home }), "package status --home /nowhere", "the flag wins")
})

t.test("on a disk that takes nothing the current version runs, and nothing is tried", async (t) => {
  const place = placeOf(t)
  const slots = await place.open()
  await slots.activate(await place.stage(slots, "bad", 1), trial)
  rmSync(`${place.home}/run`, { recursive: true })
  // A file in the place of the directory: also the one who may write everything cannot make it.
  writeFileSync(`${place.home}/run`, "")
  writeFileSync(`${place.pkg}/bin/kos`, "#!/bin/sh\necho \"package $* ${KOS_LAUNCHER:-alone}\" >&2\n")
  const run = place.launch({ args: ["daemon", "--json", "run", "--home", place.home] })
  t.equal(await run.ended, 0)
  t.match(run.err(), /cannot be written; the current version runs without trials\npackage daemon --json run --home .* alone/)
  t.match(readFileSync(`${place.root}/trial`, "utf8"), /^1 1 2 60 0$/m, "no try was counted")
})

t.test("what the launcher tells the daemon, and a launcher that is gone", async (t) => {
  t.equal(launchOf({}), undefined)
  t.equal(launchOf({ KOS_LAUNCHER: "1", KOS_SLOT: "x" }), undefined)
  t.same(launchOf({ KOS_LAUNCHER: "1", KOS_SLOT: "3", KOS_TRIAL: "1", KOS_LAUNCHER_PID: "42" }), { slot: 3, trial: true, rolledBack: undefined, pid: 42, factory: undefined })
  t.same(launchOf({ KOS_LAUNCHER: "1", KOS_SLOT: "0", KOS_ROLLED_BACK: "4" }), { slot: 0, trial: false, rolledBack: 4, pid: undefined, factory: undefined })
  let parent = 42
  const gone = Effect.runPromise(launcherGone({ KOS_LAUNCHER: "1", KOS_SLOT: "3", KOS_LAUNCHER_PID: "42" }, () => parent)).then(() => "gone")
  parent = 1
  t.equal(await gone, "gone")
  t.equal(await Promise.race([Effect.runPromise(launcherGone({}, () => 1)), Promise.resolve("stays")]), "stays")
})

t.test("the same class holds agents and other things", async (t) => {
  const directory = homesOf(t)
  const slots = await openDirectorySlots({ root: `${directory}/slots/backup`, name: "backup", factory: { version: "0.0.0", path: `${directory}/none` } })
  const { generation, path } = await slots.stage({ name: "backup", version: "2.0.0-rc.1", release: releaseId(5), write: async (into) => writeFileSync(`${into}/image`, "bytes") })
  await slots.activate(generation, trial)
  t.match(await slots.beginTry(), { slot: { path, version: "2.0.0-rc.1" } })
  await slots.good(generation)
  t.equal(readFileSync(`${path}/image`, "utf8"), "bytes")
})
