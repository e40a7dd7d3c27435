import { execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Effect } from "effect"
import t, { type Test } from "tap"
import { Tables } from "../src/projections/tables/tables.ts"
import { TableError, tableEffect } from "../src/projections/tables/table-error.ts"
import { change, event, frames, logKey, opened, reasonOf, seeded, state } from "./tables-help.ts"

const killRounds = 10

t.test(`kill -9 while writing leaves rows and cursors that agree, and loses nothing that was finished (${killRounds} rounds)`, async (t) => {
  const file = path.join(t.testdir(), "tables.db")
  const random = seeded(4)
  let finished = 0
  for (let round = 0; round < killRounds; round++) {
    const said = await writeAndKill(file, 5 + random(60))
    t.ok(said > finished, `round ${round}: ${said - finished} transactions`)
    finished = said
    const tables = new Tables(file)
    const folded = tables.cursors.folded(logKey(1))
    t.ok(folded >= finished, "what was finished is here")
    finished = folded
    t.equal(tables.events.totals().events, folded * 5)
    t.equal(tables.heads.get(logKey(1))?.length, folded)
    t.same(tables.events.byAddress({ log: logKey(1), block: folded, offset: 0 }), undefined)
    const last = `memory/notes/p${(folded - 1) % 7}`
    t.equal(tables.documents.state(last)?.value["text"], `block ${folded - 1}`)
    t.match(tables.search.search(`"block ${folded - 1}"`, { limit: 5 }), [{ doc: last }])
    t.same(tables.integrity(), [])
    tables.close()
  }
})

/** Starts the writer, kills it after so many of its transactions; returns the number of the last one that it said it finished. */
function writeAndKill(file: string, transactions: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path.join(import.meta.dirname, "tables-writer.ts"), file], { stdio: ["ignore", "pipe", "inherit"] })
    let text = ""
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString()
      if (text.split("\n").length > transactions) child.kill("SIGKILL")
    })
    child.on("error", reject)
    child.on("close", () => {
      const last = text.split("\n").at(-2)
      if (last === undefined) reject(new Error("the writer wrote nothing"))
      else resolve(Number(last))
    })
  })
}

t.test("a full disk is said to be full, keeps what was there, and is written again when space is back", { skip: whyNoMount() }, async (t) => {
  const dir = smallDisk(t)
  const ballast = path.join(dir, "ballast")
  fs.writeFileSync(ballast, Buffer.alloc(1_000_000))
  const tables = opened(t, path.join(dir, "tables.db"))
  let block = 0
  const write = () => {
    tables.transaction(fill)
    block += 1
  }
  const fill = () => {
    tables.events.add(Array.from({ length: 100 }, (_, offset) => event({ block, offset, subject: `memory/notes/s${block}` })))
    tables.documents.append("memory/notes/a", [change({ block, change: new Uint8Array(2_000) })])
    tables.documents.putState("memory/notes/a", state({ value: { text: `block ${block}` } }))
    tables.cursors.advance(logKey(1), block + 1)
  }
  let reason: string = "none"
  while (reason === "none" && block < 5_000) reason = reasonOf(write)
  t.equal(reason, "full")
  t.ok(block > 2, `after ${block} transactions`)
  t.equal(reasonOf(write), "full", "and again")
  // More than the page cache holds is written out before the end of the transaction, and meets the full disk there.
  let swallowed: string = "none"
  t.equal(reasonOf(() => tables.transaction(() => {
    tables.documents.append("memory/notes/x1", [change()])
    swallowed = reasonOf(() => tables.documents.append("memory/notes/x2", Array.from({ length: 20 }, () => change({ change: new Uint8Array(1_000_000) }))))
    tables.documents.append("memory/notes/x3", [change()])
  })), "full")
  t.equal(swallowed, "full")
  const [events, folded] = [tables.events.totals().events, tables.cursors.folded(logKey(1))]
  t.equal(events, folded * 100, "rows and cursor agree")
  t.equal(folded, block, "nothing that was finished is lost")
  t.same(tables.documents.list("memory", { prefix: "notes/x" }), [])
  t.same(tables.integrity(), [])
  fs.rmSync(ballast)
  t.equal(reasonOf(write), "none", "the same connection writes again")
  t.equal(tables.events.totals().events, (folded + 1) * 100)
  t.same(tables.integrity(), [])
})

t.test("a disk that takes no writes is said to be read only, and can still be looked at", { skip: whyNoMount() }, async (t) => {
  const dir = smallDisk(t)
  const file = path.join(dir, "odd name ?#%.db")
  const before = new Tables(file)
  before.events.add([event()])
  before.close()
  execFileSync("mount", ["-o", "remount,ro", dir])
  t.equal(reasonOf(() => new Tables(file)), "readonly")
  const tables = new Tables(file, { readOnly: true })
  t.equal(tables.events.totals().events, 1)
  t.equal(reasonOf(() => tables.events.add([event({ block: 1 })])), "readonly")
  tables.close()
  execFileSync("mount", ["-o", "remount,rw", dir])
  const again = new Tables(file)
  t.same(again.events.add([event({ block: 1 })]), [2])
  again.close()
})

t.test("a damaged file is found, and its reason is corrupt (30 damages, seed 6)", async (t) => {
  const dir = t.testdir()
  const file = path.join(dir, "good.db")
  const good = new Tables(file)
  for (const frame of frames(600, 2)) good.events.add(frame)
  for (let i = 0; i < 40; i++) good.documents.putState(`memory/notes/p${i}`, state({ value: { text: `page ${i} ${"word ".repeat(50)}` } }))
  const print = good.fingerprint().all
  good.close()
  const bytes = fs.readFileSync(file)
  const pages = bytes.length / 4_096
  const random = seeded(6)
  const outcomes: Record<string, number> = {}
  for (let i = 0; i < 30; i++) {
    const damaged = path.join(dir, `damaged${i}.db`)
    const copy = Buffer.from(bytes)
    // The header of a page, where its tree hangs; every third time the page is another one's, as after a write that went astray.
    const at = (1 + random(pages - 1)) * 4_096
    if (i % 3 === 0) bytes.copy(copy, at, (1 + random(pages - 1)) * 4_096, (1 + random(pages - 1)) * 4_096 + 4_096)
    else for (let n = 0; n < 8; n++) copy[at + n] = random(256)
    if (copy.equals(bytes)) continue
    fs.writeFileSync(damaged, copy)
    const outcome = look(damaged, print)
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    t.not(outcome, "wrong and not noticed", `damage ${i} at page ${at / 4_096}`)
  }
  t.ok((outcomes["corrupt"] ?? 0) >= 20, JSON.stringify(outcomes))
  fs.writeFileSync(path.join(dir, "short.db"), bytes.subarray(0, bytes.length - 5 * 4_096))
  t.equal(look(path.join(dir, "short.db"), print), "corrupt")
})

/** Opens, checks and reads all. A page that nothing uses (free) may be damaged without harm. */
function look(file: string, print: string): string {
  try {
    const tables = new Tables(file)
    try {
      if (tables.integrity().length > 0) return "corrupt"
      return tables.fingerprint().all === print ? "unharmed" : "wrong and not noticed"
    } finally {
      tables.close()
    }
  } catch (cause) {
    if (cause instanceof TableError) return cause.reason
    throw cause
  }
}

t.test("table errors are failures of an effect, other errors defects", async (t) => {
  const tables = opened(t)
  const failed = await Effect.runPromise(Effect.flip(tableEffect(() => tables.events.query({ order: "oldest", limit: 0 }))))
  t.equal(failed.reason, "failed")
  t.match(failed.message, /1 to 10000 events, not 0/)
  await t.rejects(Effect.runPromise(tableEffect(() => { throw new RangeError("ours") })), { message: "ours" })
  t.equal(await Effect.runPromise(tableEffect(() => tables.events.totals().events)), 0)
})

/** A disk of 2 MB, gone after the test. */
function smallDisk(t: Test): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "kos-tables-"))
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", dir], { stdio: "ignore" })
  t.teardown(() => {
    execFileSync("umount", ["-l", dir])
    fs.rmdirSync(dir)
  })
  return dir
}

/** Why no small disk can be made here, or false. */
function whyNoMount(): string | false {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "needs root, to mount a small disk"
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "kos-tables-"))
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", dir], { stdio: "ignore" })
    execFileSync("umount", [dir], { stdio: "ignore" })
    return false
  } catch {
    return "mounting is not allowed here"
  } finally {
    fs.rmdirSync(dir)
  }
}
