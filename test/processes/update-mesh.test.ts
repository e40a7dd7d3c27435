/**
 * A mesh updates itself: real daemons under their launchers, no internet. A publisher and five devices, of which two are away, one has a slow line and one a
 * disk that changes bits.
 */
import { closeSync, openSync, readdirSync, readSync, statSync, writeSync } from "node:fs"
import t from "tap"
import { eventually, homesOf, joinMesh, type TestNode, testNode } from "../daemon-process.ts"
import { kosTree, openChannelAt, publish } from "../update-tree.ts"

const ballast = { bytes: 24 << 20, seed: 7 }

const versionOf = async (node: TestNode): Promise<string> => {
  try {
    return (await node.ask("update.slots")).find(({ running, name }) => running && name === "kos")?.version ?? ""
  } catch {
    // It starts again just now.
    return ""
  }
}

const stepsOf = async (node: TestNode, version: string): Promise<ReadonlyArray<string>> => {
  try {
    return (await node.ask("update.history")).filter((row) => row.version === version).map(({ step }) => step)
  } catch {
    return []
  }
}

const settled = (nodes: ReadonlyArray<TestNode>, version: string): Promise<boolean> => eventually(async () => {
  for (const node of nodes) if ((await versionOf(node)) !== version || !(await stepsOf(node, version)).includes("committed")) return false
  return true
}, 150_000)

/** Changes one byte in the middle of each file that appears below a directory, once, as a failing disk would. */
const rot = (directory: string): { readonly stop: () => void; readonly files: () => number } => {
  const done = new Set<string>()
  const timer = setInterval(() => {
    for (const name of safely(() => readdirSync(directory, { recursive: true, encoding: "utf8" })) ?? []) {
      const path = `${directory}/${name}`
      if (done.has(path) || !/payload$|^[0-9a-f]{64}$/.test(name)) continue
      safely(() => {
        const { size } = statSync(path)
        if (size < 1 << 20) return
        const file = openSync(path, "r+")
        const at = Math.floor(size / 2)
        const byte = Buffer.alloc(1)
        readSync(file, byte, 0, 1, at)
        // Not yet written there.
        if (byte[0] !== 0) {
          writeSync(file, Buffer.of((byte[0] ?? 0) ^ 0x55), 0, 1, at)
          done.add(path)
        }
        closeSync(file)
      })
    }
  }, 5)
  return { stop: () => clearInterval(timer), files: () => done.size }
}

const safely = <A>(work: () => A): A | undefined => {
  try {
    return work()
  } catch {
    return undefined
  }
}

t.test("a release goes through a mesh, a bad one stops at the canary, and who was away takes three in one step", async (t) => {
  const homes = homesOf(t)
  const [publisher, canary, slow, rotten, ...away] = ["mill", "attic", "shed", "cellar", "barn", "loft"].map((name) => testNode(t, homes, { name, launched: true }))
  if (publisher === undefined || canary === undefined || slow === undefined || rotten === undefined) throw new Error("six nodes")
  const present = [canary, slow, rotten]
  const everybody = [publisher, ...present, ...away]
  await Promise.all(everybody.map((node) => node.start()))
  const first = await versionOf(publisher)
  for (const node of everybody.slice(1)) await joinMesh(publisher, node)
  await openChannelAt(publisher, "stable")
  for (const [path, value] of [["update.auto", "all"], ["update.trial.max", "2"]] as const) await publisher.ask("config.set", [path, value, "--layer", "mesh"])
  await canary.ask("config.set", ["update.ring", "canary"])
  // What it sent is counted by a process that would end with its own update.
  await publisher.ask("config.set", ["update.auto", "off"])
  await slow.ask("seed.limit", ["--down", "4MiB"])
  for (const node of everybody) t.ok(await eventually(async () => (await node.ask("update.channel")).channels.some(({ trust }) => trust === "fresh")), "each node has the channel")
  await Promise.all(away.map((node) => node.stop()))

  const bad = rot(`${rotten.home}/updates`)
  t.teardown(bad.stop)
  const one = await publish(publisher, "stable", kosTree(`${homes}/one`, "9.1.0", { ballast }), "9.1.0")
  t.ok(await settled(present, "9.1.0"), "all that are there run it")
  bad.stop()
  t.ok(bad.files() > 0, "the disk did change bits")
  const uploaded = (await publisher.ask("seed.list")).seeds.reduce((sum, { uploadedBytes }) => sum + uploadedBytes, 0)
  t.comment(`the publisher sent ${uploaded} bytes of a pack of ${one.packBytes}: ${(uploaded / one.packBytes).toFixed(2)} times`)
  t.ok(uploaded <= 1.3 * one.packBytes, `the publisher sent ${(uploaded / one.packBytes).toFixed(2)} times the pack`)
  for (const node of present) {
    // A turn that was given back and asked for again says its trial twice.
    const steps = [...new Set(await stepsOf(node, "9.1.0"))]
    t.same(steps.filter((step) => ["fetched", "staged", "rehearsed", "trial", "healthy", "committed"].includes(step)), ["fetched", "staged", "rehearsed", "trial", "healthy", "committed"], `${node.announced.name}: ${steps.join(" ")}`)
  }

  const two = await publish(publisher, "stable", kosTree(`${homes}/two`, "9.2.0", { ballast }), "9.2.0", ["--ring", "canary", "--check", "never=/bin/false", "--deadline", "4s"])
  t.ok(await eventually(async () => (await stepsOf(canary, "9.2.0")).includes("rolled-back"), 90_000), "the canary tried it and came back")
  t.ok(await eventually(async () => (await versionOf(canary)) === "9.1.0"))
  const history = (await canary.ask("update.history")).find(({ version, step }) => version === "9.2.0" && step === "rolled-back")
  t.match(history?.detail, /never/, "and says why")
  for (const node of present) {
    t.equal(await versionOf(node), "9.1.0")
    if (node !== canary) t.notOk((await stepsOf(node, "9.2.0")).includes("trial"), "nobody else tried it")
  }
  t.match((await canary.ask("update.list", ["--all"])).find(({ id }) => id === two.release)?.waits, /rolled back/, "it is bad there from now on")
  await publisher.ask("release.yank", ["kos@9.2.0", "--reason", "it does not get well"])
  await publisher.ask("release.publish", ["stable"])

  await publish(publisher, "stable", kosTree(`${homes}/three`, "9.3.0", { ballast }), "9.3.0")
  t.ok(await settled(present, "9.3.0"), "the good one that follows is taken")
  await publisher.stop()
  await Promise.all(away.map((node) => node.start()))
  t.ok(await settled(away, "9.3.0"), "who was away takes it from its neighbours, without the publisher")
  for (const node of away) {
    const tried = (await node.ask("update.history")).filter(({ step }) => step === "trial").map(({ version }) => version)
    t.same(tried, ["9.3.0"], `in one step from ${first}`)
  }
})
