/**
 * A writer killed with SIGKILL again and again while it appends as fast as it can. Nothing that it acknowledged may be missing, and a
 * peer that heard every block as it was published must never see another history.
 *
 * `KOS_ROUNDS` says how many kills (25 when not given), `KOS_SEED` which moments. Every fifth round is killed while it opens and checks,
 * before or after its first append, because a crash during the repair of a crash is a crash too; these come on top of the rounds counted.
 */
import { treeHash } from "../../src/codec/verify/merkle.ts"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdir, writeFile } from "node:fs/promises"
import { Socket } from "node:net"
import { once } from "node:events"
import t from "tap"
import { toHex } from "../../src/codec/bytes.ts"
import { hashParts } from "../../src/codec/hash.ts"
import { keyPairFromSeed } from "../../src/codec/signature.ts"
import { HypercoreStore, logKey } from "../../src/events/hypercore-store.ts"
import { chance } from "../membership-world.ts"
import { replicateOver } from "./replicate.ts"
import type { Task } from "./writer.ts"

const rounds = Number(process.env["KOS_ROUNDS"] ?? 25)
const seed = Number(process.env["KOS_SEED"] ?? 1)
/** A round takes this long at most, milliseconds. */
const roundMsMax = 30_000

t.setTimeout(30_000 + rounds * 4_000)

t.test(`${rounds} kills while writing: nothing acknowledged is lost, nothing published is rewritten`, async (t) => {
  const directory = t.testdir()
  await mkdir(`${directory}/node`)
  const { below } = chance(seed)
  const key = hashParts("test/kill", Buffer.from(String(seed)))
  const log = logKey(keyPairFromSeed(key).publicKey)
  const known = `${directory}/known`
  const blocks = new Map<number, string>()
  let events: Array<string> = []

  const peer = await HypercoreStore.open(`${directory}/peer`)
  const replica = await peer.session(log)
  replica.on("conflict", () => t.fail("the peer sees two histories"))
  replica.on("truncate", () => t.fail("the peer was made to forget blocks"))
  replica.download({ start: 0, end: -1 })
  const heads: Array<{ readonly length: number; readonly treeHash: string }> = []

  // None of the test runner's own options: its loaders double the time to start.
  const spawnWriter = (): ChildProcess => spawn(process.execPath, [new URL("writer.ts", import.meta.url).pathname], {
    stdio: ["pipe", "pipe", "inherit", "pipe"], env: { NODE_COMPILE_CACHE: `${directory}/compiled` }
  })
  // One that ends by itself leaves its compiled code behind: one that is killed does not.
  const first = spawnWriter()
  first.stdin?.end()
  await once(first, "close")
  // The next one loads its code while the present one writes.
  let waiting = spawnWriter()
  t.teardown(() => waiting.kill("SIGKILL"))
  let acknowledged = 0
  let lastPid = 0
  let whileOpening = 0

  /** One process from its task to its end. Which line starts the clock of its death, and how long that runs. */
  const round = async (doom: { readonly at: "task" | "event"; readonly ms: number } | undefined): Promise<void> => {
    await writeFile(known, [...[...blocks].map(([block, hash]) => `${block} ${hash}`), ...events].join("\n"))
    const child = waiting
    // Not `treeHash()`: that waits for the last block, which may have been announced and not sent when the writer died.
    const head = { length: replica.state.length, treeHash: toHex(treeHash(replica.state.length, replica.state.roots)) }
    if (head.length > 0) heads.push(head)
    const task: Task = { directory: `${directory}/node`, seed: toHex(key), chance: below(1e9), peer: head, known, last: doom === undefined }
    const [stdin, stdout, , wire] = child.stdio
    if (stdin === null || stdout === null || stdin === undefined || stdout === undefined || !(wire instanceof Socket) || !("write" in stdin) || !("setEncoding" in stdout)) {
      throw new Error("the writer has no pipes")
    }
    const replicating = replicateOver(replica, wire, true)
    let rest = ""
    let dying = false
    let ready = false
    let found = false
    let mine = 0
    const die = (): void => {
      if (dying || doom === undefined) return
      dying = true
      setTimeout(() => child.kill("SIGKILL"), doom.ms)
    }
    const stuck = setTimeout(() => {
      t.fail("the writer is stuck")
      child.kill("SIGKILL")
    }, roundMsMax)
    const checked: Array<string> = []
    stdout.setEncoding("utf8")
    stdout.on("data", (text: string) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) {
        const word = line.slice(0, line.indexOf(" "))
        const value = line.slice(word.length + 1)
        if (word === "event") {
          mine++
          events.push(value)
          if (doom?.at === "event") die()
        } else if (word === "block") checked.push(value)
        else if (word === "ready") ready = true
        else if (word === "found") {
          found = true
          const { finding, lastRun } = JSON.parse(value)
          t.equal(finding._tag, lastPid === 0 ? "New" : "Healthy", value) || t.comment(`seed ${seed}`)
          if (lastPid !== 0) t.match(lastRun, { unclean: true, sameBoot: true }, "the last run is known to have ended without a stop")
        } else if (word === "bad") t.fail(`${value} (seed ${seed})`)
      }
    })
    stdin.write(`${JSON.stringify(task)}\n`)
    waiting = spawnWriter()
    if (doom?.at === "task") die()
    const [code, signal] = await once(child, "close")
    clearTimeout(stuck)
    if (doom !== undefined) t.equal(signal, "SIGKILL", `it was killed and did not end with ${code}`)
    else t.equal(code, 0, "it ended by itself")
    if (doom?.at !== "task") t.ok(ready && found && mine > 0, "it found the log, checked it and wrote")
    if (ready) {
      // All that was there is known by block now, so its events need not be opened again.
      for (const value of checked) {
        const [block = "", hash = ""] = value.split(" ")
        blocks.set(Number(block), hash)
      }
      events = events.slice(events.length - mine)
    }
    if (mine > 0) lastPid = child.pid ?? 0
    else whileOpening++
    acknowledged += mine
  }

  const started = performance.now()
  for (let i = 0; i < rounds; i++) {
    await round({ at: "event", ms: 5 + below(116) })
    if (i % 5 === 4) await round({ at: "task", ms: below(250) })
  }
  await round(undefined)
  for (const { length, treeHash } of heads) {
    if (toHex(await replica.treeHash(length)) !== treeHash) t.fail(`the tree of ${length} blocks became another one`)
  }
  t.ok(replica.length > 0 && heads.length > rounds / 2, "the peer really heard of blocks as they were published")
  t.comment(`${rounds} kills, ${acknowledged} events acknowledged in ${blocks.size} blocks, the peer heard of ${replica.length}; ${
    whileOpening} killed before their first append; ${Math.round((performance.now() - started) / 1000)} s`)
  waiting.kill("SIGKILL")
  await replica.close()
  await peer.close()
})
