/**
 * A node's journal in a process of its own, to be killed by its parent, `kill.test.ts`. It loads everything, waits for one line on stdin
 * (a `Task`), opens the log as boot does, checks that all that its forerunners acknowledged is there and unchanged, shows the log to
 * the parent over descriptor 3 as to any peer, and appends as fast as it can with many in flight.
 *
 * What it says, one line each: `found JSON` what the journal knows of the last run, `block N HASH` a block that was opened and checked
 * event by event, with the hash of its bytes, `ready LENGTH`, `event BLOCK OFFSET HASH` an acknowledged event, `bad TEXT` what does not
 * hold, `done LENGTH` at the end of a run that was not killed.
 */
import { Context, Effect, Exit, Layer, Result, Scope } from "effect"
import { readFile } from "node:fs/promises"
import { Socket } from "node:net"
import { createInterface } from "node:readline"
import { fromHex, toHex } from "../../src/codec/bytes.ts"
import { encodeEvent, frameHeader, frameKey, openFrame } from "../../src/codec/frame.ts"
import { hashParts } from "../../src/codec/hash.ts"
import { HypercoreStore } from "../../src/events/hypercore-store.ts"
import { type Draft, Journal } from "../../src/events/journal.ts"
import { Disk } from "../../src/events/ports.ts"
import { keyPairFromSeed } from "../../src/codec/signature.ts"
import { singleKeyring } from "../../src/vault/keyring.ts"
import { chance } from "../membership-world.ts"
import { replicateOver } from "./replicate.ts"

export interface Task {
  /** Holds `store` and `mark`. */
  readonly directory: string
  /** Of the log and of the mesh key, 64 hex digits. */
  readonly seed: string
  readonly chance: number
  /** What a peer holds of this log, which it can only have from us. */
  readonly peer: { readonly length: number; readonly treeHash: string }
  /** A file with one line for each block checked before, `N HASH`, then one for each event acknowledged since, `BLOCK OFFSET HASH`. */
  readonly known: string
  /** Stops in good order after a last event. */
  readonly last: boolean
}

const inFlightMax = 64

const say = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

const hashOf = (bytes: Uint8Array): string => toHex(hashParts("test/kill", bytes).subarray(0, 16))

const readTask = async (): Promise<Task | undefined> => {
  for await (const line of createInterface({ input: process.stdin })) {
    const task: Task = JSON.parse(line)
    return task
  }
  return undefined
}

const run = async (task: Task): Promise<void> => {
  const key = fromHex(task.seed)
  const store = await HypercoreStore.open(`${task.directory}/store`)
  const scope = Effect.runSync(Scope.make())
  const services = await Effect.runPromise(Layer.buildWithScope(
    Journal.layer(keyPairFromSeed(key), () => singleKeyring(key)).pipe(
      Layer.provide(Layer.merge(HypercoreStore.layer(store), Disk.layer(task.directory)))
    ), scope
  ))
  const journal = Context.get(services, Journal)
  say(`found ${JSON.stringify(await journal.inspect())}`)
  const { length, treeHash } = task.peer
  if (length > journal.length()) say(`bad a peer holds ${length} blocks, the log has ${journal.length()}`)
  else if (length > 0 && await journal.treeHash(length) !== treeHash) say(`bad the tree of ${length} blocks is not the one that a peer holds`)
  await check(store, journal, key, task.known)

  const session = await store.session(journal.log())
  replicateOver(session, new Socket({ fd: 3 }), false)
  say(`ready ${journal.length()}`)
  journal.begin()
  await write(journal, task)
  await Effect.runPromise(journal.stop())
  say(`done ${journal.length()}`)
  await session.close()
  await Effect.runPromise(Scope.close(scope, Exit.void))
  await store.close()
}

/** Every block is read. Those known by hash are compared; the others are opened, and their acknowledged events compared one by one. */
const check = async (store: HypercoreStore, journal: Journal["Service"], meshKey: Uint8Array, path: string): Promise<void> => {
  const blocks = new Map<number, string>()
  const events = new Map<number, Array<readonly [number, string]>>()
  for (const line of (await readFile(path, "utf8")).split("\n")) {
    const [block = "", second = "", hash] = line.split(" ")
    if (line === "") continue
    if (hash === undefined) blocks.set(Number(block), second)
    else events.set(Number(block), [...events.get(Number(block)) ?? [], [Number(second), hash]])
  }
  const held = await store.openHeld(journal.log())
  const length = journal.length()
  for (const block of [...blocks.keys(), ...events.keys()]) if (block >= length) say(`bad block ${block} is gone, the log has ${length}`)
  const checkBlock = async (block: number): Promise<void> => {
    const bytes = await held.get(block)
    const known = blocks.get(block)
    const raw = hashOf(bytes)
    if (known !== undefined && known !== raw) say(`bad block ${block} changed`)
    const acknowledged = events.get(block)
    if (known !== undefined && acknowledged === undefined) return
    const place = { log: held.key, block }
    const nonce = Result.getOrThrow(frameHeader(bytes)).nonce
    const opened = Result.getOrThrow(openFrame(bytes, place, frameKey(meshKey, place, nonce)))
    for (const [offset, hash] of acknowledged ?? []) {
      const event = opened[offset]
      if (event === undefined || hashOf(encodeEvent(event, held.key)) !== hash) say(`bad event ${block}.${offset} is gone or changed`)
    }
    say(`block ${block} ${raw}`)
  }
  for (let from = 0; from < length; from += 128) {
    await Promise.all(Array.from({ length: Math.min(128, length - from) }, (_, i) => checkBlock(from + i)))
  }
  await held.close()
}

/** Until it is killed; a `last` run ends by itself. Units of one to three events, durable and batched ones, small and large. */
const write = async (journal: Journal["Service"], task: Task): Promise<void> => {
  const { below, next } = chance(task.chance)
  const measured = { uptimeSeconds: 1, memoryBytes: 2, diskFreeBytes: 3, peers: 4, events: 5 }
  const draft = (): Draft => {
    const text = "event ".repeat(1 + below(next() < 0.02 ? 170 : 30))
    const [type, body] = next() < 0.1 ? ["node.measured/1", measured] : ["command.done/1", { name: "test", detail: text }]
    return { type, actor: "device", subject: "node", command: "", cause: [], body }
  }
  let left = task.last ? 1 : Number.MAX_SAFE_INTEGER
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      const { block, offset, events } = await Effect.runPromise(journal.append(Array.from({ length: 1 + below(3) }, draft)))
      say(events.map((event, i) => `event ${block} ${offset + i} ${hashOf(encodeEvent(event, journal.log()))}`).join("\n"))
    }
  }
  await Promise.all(Array.from({ length: inFlightMax }, worker))
}

const task = await readTask()
if (task !== undefined) await run(task)
process.exit(0)
