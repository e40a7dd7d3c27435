/** Experimental modules: each with a node of its own, shut in, shown, promoted, dropped. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import t from "tap"
import { openTrials, trialsMax } from "../../src/boot/try-modules.ts"
import type { TrialModule, Trials } from "../../src/updates/rehearsal/trials.ts"
import { eventually } from "../daemon-process.ts"
import { fakeTree, now, processesWith, root, workingLevels } from "../rehearsal-world.ts"

t.setTimeout(180_000)

const home = t.testdir({ secret: "nobody else's" })
const moduleOf = (name: string, entry: string, text: string): TrialModule => ({
  name, version: "1.0.0", release: undefined, entry, tree: fakeTree(`${home}/modules/${name}`, "", { [entry]: text })
})
const open = (levels?: Parameters<typeof openTrials>[0]["levels"]): Promise<Trials> => openTrials({
  root: `${home}/trials`, kos: root, now, notice: (_level, text) => t.comment(text), limits: { msMax: 60_000 }, ...(levels === undefined ? {} : { levels })
})

const gardener = moduleOf("gardener", "main.mjs", `
import { spawnSync } from "node:child_process"
import fs from "node:fs"
const kos = (...words) => { const ran = spawnSync("kos", words, { encoding: "utf8" }); console.log(words.join(" "), ran.status, ran.stderr.trim()); return ran }
kos("memory", "add", "notes/garden", "Water it.")
fs.writeFileSync("mine", "here")
for (const path of ["${home}/secret", process.env.KOS_HOME + "/keys/device", process.env.KOS_HOME + "/tables.db"]) { try { fs.readFileSync(path); console.log("read", path) } catch (e) { console.log("not read", e.code) } }
try { fs.writeFileSync(process.env.KOS_HOME + "/run/planted", "x"); console.log("planted") } catch (e) { console.log("not planted", e.code) }
console.log("waits")
if (!fs.existsSync("again")) { fs.writeFileSync("again", ""); setInterval(() => {}, 1000) }
`)

const levels = await workingLevels(t, home)

t.test("a module writes into a log of its own, is shown, ends with its daemon, runs again, is promoted and dropped", async (t) => {
  if (levels[0] === "node-permissions") return t.pass("trial", { skip: "no namespaces on this machine: a module that starts programs cannot be shut in" })
  const trials = await open()
  const began = await trials.start(gardener)
  t.match(began, { state: "running", name: "gardener", isolation: { network: true, writes: true } })
  t.ok(await eventually(async () => (await trials.show(began.id)).log.includes("waits")), "it gets as far as it goes")
  const shown = await trials.show(began.id)
  t.match(shown.log.join("\n"), /memory add notes\/garden "?Water it\.?"? 0|memory add notes\/garden Water it\. 0/, shown.log.join(" | "))
  t.notMatch(shown.log.join("\n"), /^(read|planted)/m, shown.log.join(" | "))
  t.match(shown.events.filter(({ type }) => type === "memory.changed/1"), [{ actor: "agent:gardener", subject: "memory/notes/garden" }], "its event is in its log, under its name")
  t.ok(shown.trial.events >= 3)
  await t.rejects(trials.again(began.id), /runs already/)

  await trials.close()
  t.same(processesWith(began.id), [], "nothing of it runs on")
  const later = await open()
  const [kept] = await later.list()
  t.match(kept, { id: began.id, state: "ended", why: "the daemon that ran it ended" })
  t.match((await later.show(began.id)).events.map(({ type }) => type), shown.events.map(({ type }) => type), "what it did is still shown")
  t.match((await later.show(began.id)).log, /waits/)

  const again = await later.again(began.id)
  t.equal(again.id, began.id)
  t.ok(await eventually(async () => (await later.list())[0]?.state !== "running"), "this time it ends by itself")
  t.match(await later.show(began.id), { trial: { state: "ended", why: undefined } })
  t.ok((await later.show(began.id)).events.length > shown.events.length, "in the same log")

  const { tree } = await later.promote(began.id)
  t.equal(readFileSync(`${tree}/main.mjs`, "utf8"), readFileSync(`${gardener.tree}/main.mjs`, "utf8"))
  await later.drop(began.id)
  t.notOk(existsSync(`${home}/trials/${began.id}`), "all of it is gone")
  t.same(await later.list(), [])
  await later.close()
})

t.test("a module that goes wrong has failed, and says why", async (t) => {
  const trials = await open()
  t.teardown(() => trials.close())
  const broken = await trials.start(moduleOf("broken", "main.mjs", "console.log('so far'); throw new Error('no further')"))
  t.ok(await eventually(async () => (await trials.list())[0]?.state === "failed"))
  t.match(await trials.show(broken.id), { trial: { why: "it ended with exit code 1" }, log: [/so far/] })
  await trials.drop(broken.id)
  t.same(readdirSync(`${home}/trials`), [])
})

t.test("what is no module is refused before anything runs, and no more are kept than may be", async (t) => {
  const trials = await open()
  t.teardown(() => trials.close())
  const good = moduleOf("good", "main.mjs", "")
  await t.rejects(trials.start({ ...good, entry: "../good/main.mjs" }), /leads out of it/)
  await t.rejects(trials.start({ ...good, entry: "absent.mjs" }), /is no file/)
  await t.rejects(trials.start({ ...good, name: "../x" }), /is no name/)
  await t.rejects(trials.show("ffff"), /there is no trial ffff/)
  await t.rejects(trials.start(good, { signal: AbortSignal.abort() }), /was stopped while it began/)
  t.same(readdirSync(`${home}/trials`), [], "nothing is left of what was refused")
  await t.rejects((await open(["node-permissions"])).start(moduleOf("program", "bin/run", "#!/bin/sh\necho hello\n")), /only Node can be held by Node's permission model/)
  t.same(readdirSync(`${home}/trials`), [])
  t.equal(trialsMax, 8)
  t.ok(statSync(`${home}/trials`).mode & 0o700)
})
