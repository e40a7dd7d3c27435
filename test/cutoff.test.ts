import { Effect } from "effect"
import t from "tap"
import { encodeEvent, sealFrame } from "../src/codec/frame.ts"
import { type Invite, inviteKey, proveInvite } from "../src/codec/invite.ts"
import { draftOperation, type Operation, signOperation, type Statement } from "../src/codec/operation.ts"
import { foldMembership } from "../src/projections/membership.ts"
import { TableError } from "../src/projections/tables/table-error.ts"
import { type Cuts, documents, endWorkers, fromNothing, keyOf, type Logs, type Node, openNode, openRealNode, worldOf } from "./cutoff-world.ts"
import { logKey, newHandle, type Random, randomFrom } from "./documents-world.ts"
import { deviceOf as deviceNamed, keyPair, must } from "./membership-world.ts"

t.teardown(endWorkers)

const lengthsOf = (logs: Logs): ReadonlyMap<string, number> => new Map([...logs].map(([log, blocks]) => [log, blocks.length]))

/** One or two logs with a cut-off, a place from which on documents may not be written, or both. */
const cutsOf = (logs: Logs, random: Random): Cuts => {
  const cuts = new Map<string, { readonly cutAt?: number; readonly docsTo?: number }>()
  for (let n = 1 + random(2); n > 0; n--) {
    const log = [...logs.keys()][random(logs.size)] ?? ""
    const length = logs.get(log)?.length ?? 0
    const [cutAt, docsTo] = [random(length + 1), random(length + 1)]
    cuts.set(log, [{ cutAt, docsTo: Math.min(cutAt, docsTo) }, { docsTo }, { cutAt, docsTo: cutAt }, { cutAt }][random(4)] ?? {})
  }
  return cuts
}

const differences = (node: Node, other: Node): ReadonlyArray<string> => {
  const [a, b] = [node.tables.fingerprint(), other.tables.fingerprint()]
  return (["events", "commands", "cursors", "witnesses", "operations", "documents", "sealed", "cutoffs"] as const).filter((part) => a[part] !== b[part])
}

const seeds = Number(process.env["KOS_SEEDS"] ?? 12)
const firstSeed = Number(process.env["KOS_SEED"] ?? 1)

t.test("however cut-offs come, move and go, and keys come, the tables are what folding from nothing makes of it", async (t) => {
  const directory = t.testdir()
  const counted = { held: 0, quarantined: 0, sealed: 0, saves: 0 }
  for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
    const random = randomFrom(seed)
    const epochs = seed % 3 === 0 ? 3 : undefined
    const logs = worldOf(random, 2 + seed % 4, 60, epochs === undefined ? {} : { epochs })
    const node = await openNode(`${directory}/live-${seed}.db`, logs)
    const lengths = new Map<string, number>()
    let cuts: Cuts = new Map()
    let absent: string | undefined
    const saves: Array<Promise<void>> = []
    const say = () => node.members.say([...logs.keys()].filter((log) => log !== absent), cuts)
    while ([...logs].some(([log, blocks]) => (lengths.get(log) ?? 0) < blocks.length)) {
      const what = random(10)
      if (what === 0) {
        cuts = random(4) === 0 ? new Map() : cutsOf(logs, random)
        say()
      } else if (what === 1 && epochs !== undefined) {
        const epoch = 1 + random(epochs)
        node.keys.add(epoch)
        node.runner.keysChanged([epoch])
      } else if (what === 2) {
        // The admission of its device counts no more, or again.
        absent = absent === undefined && random(3) === 0 ? [...logs.keys()][random(logs.size)] : undefined
        say()
        node.runner.wake()
      } else if (what === 3) {
        // As the reactor saves a document, perhaps while it is being built anew.
        const doc = documents[random(documents.length)] ?? ""
        const save = async (): Promise<void> => {
          const through = node.tables.documents.lastChange(doc)
          const saved = await Effect.runPromise(node.worker.save(doc, (id) => node.tables.documents.load(id)))
          if (saved === undefined) return
          node.tables.documents.putSnapshot(doc, saved.snapshot, saved.gate, through)
          counted.saves++
        }
        saves.push(save())
        if (random(2) === 0) await saves.at(-1)
      } else {
        const log = [...logs.keys()][random(logs.size)] ?? ""
        lengths.set(log, Math.min(logs.get(log)?.length ?? 0, (lengths.get(log) ?? 0) + 1 + random(6)))
        node.grow(log, lengths.get(log) ?? 0)
      }
      if (random(3) === 0) await node.runner.idle()
    }
    // Half of them end as they are: what came since the last change of a cut-off was never built anew.
    if (random(2) === 0) cuts = cutsOf(logs, random)
    say()
    node.runner.wake()
    await Promise.all([...saves, node.runner.idle()])
    const again = await fromNothing(`${directory}/again-${seed}.db`, logs, cuts, lengths, [...node.keys], [...logs.keys()].filter((log) => log !== absent))
    t.same(differences(node, again), [], `seed ${seed}`)
    t.same(node.notices.filter((text) => text.includes("held up")), [], `seed ${seed}: nothing went wrong`)
    t.same(node.tables.integrity(), [])
    counted.held += node.tables.documents.totals().held
    counted.quarantined += node.tables.events.totals().quarantined
    counted.sealed += node.tables.sealed.count()
    // What the worker holds is what is stored.
    for (const doc of documents) {
      const before = node.tables.documents.state(doc)
      if (before === undefined) continue
      await Effect.runPromise(node.worker.discard(doc))
      const [history] = await Promise.all([Effect.runPromise(node.worker.history(doc, (id) => node.tables.documents.load(id)))])
      t.equal(history.length, before.changes, `seed ${seed}: ${doc} loads as it was folded`)
    }
    await again.close()
    await node.close()
  }
  t.ok(counted.held > 0 && counted.quarantined > 0 && counted.sealed > 0 && counted.saves > 5, JSON.stringify(counted))
})

t.test("what is beyond a cut-off is shown as such, and nobody in good standing loses an edit", async (t) => {
  const logs = worldOf(randomFrom(5), 3, 120)
  const node = await fromNothing(`${t.testdir()}/tables.db`, logs, new Map(), lengthsOf(logs))
  const before = new Map(documents.flatMap((doc) => node.tables.events.forSubject(doc)).map((row) => [`${row.log}/${row.block}.${row.offset}`, row]))
  const arrivals = node.tables.events.totals().lastArrival
  const revoked = logKey(1)
  const witnesses = node.tables.database.prepare("SELECT count(*) AS n FROM witnesses").get()?.["n"]
  const told: Array<ReadonlyArray<string>> = []
  node.runner.onFold((notice) => told.push(notice.documents))
  node.members.say(logs.keys(), new Map([[revoked, { cutAt: 5 }]]))
  await node.runner.steady()
  let held = 0
  let released = 0
  for (const row of before.values()) {
    const now = node.tables.events.byAddress(row)
    if (row.log !== revoked || row.block < 5 || row.status === "quarantined") t.equal(now?.status, row.status)
    else if (now?.status === "known") released++
    else {
      held++
      t.equal(node.tables.quarantine.why(row.log, row.block, row.offset), "beyond the cut-off of its log")
    }
    t.equal(now?.arrival, row.arrival, "it keeps its number")
  }
  t.ok(held > 0 && released > 0, `${held} changes are held, ${released} stay since others build on them`)
  t.equal(node.tables.documents.totals().held, held)
  t.ok(told.flat().length > 0, "whoever listens hears of the documents")
  t.ok(Number(node.tables.database.prepare("SELECT count(*) AS n FROM witnesses").get()?.["n"]) < Number(witnesses), "what it witnessed beyond is out")
  t.equal(node.tables.events.totals().lastArrival, arrivals)
  node.members.say(logs.keys(), new Map())
  await node.runner.steady()
  const again = await fromNothing(`${t.testdir()}/again.db`, logs, new Map(), lengthsOf(logs))
  t.same(differences(node, again), [], "taken back, all is as before")
  t.equal(node.tables.quarantine.count(), again.tables.quarantine.count())
  await again.close()
  await node.close()
})

t.test("a rebuild that ends anywhere goes on at the next start", async (t) => {
  const directory = t.testdir()
  const logs = worldOf(randomFrom(8), 4, 120)
  const cuts: Cuts = new Map([[logKey(0), { cutAt: 4 }], [logKey(2), { cutAt: 30, docsTo: 2 }]])
  const again = await fromNothing(`${directory}/again.db`, logs, cuts, lengthsOf(logs))
  let cut = 0
  for (let allowed = 0; allowed < 12; allowed++) {
    const file = `${directory}/live-${allowed}.db`
    const node = await fromNothing(file, logs, new Map(), lengthsOf(logs))
    // The power goes after so many transactions: nothing is written any more.
    const transaction = node.tables.transaction.bind(node.tables)
    let left = allowed
    let failed = false
    node.tables.transaction = (work) => {
      if (left-- <= 0) {
        failed = true
        throw new TableError({ reason: "full", operation: "test", detail: "the power is gone" })
      }
      return transaction(work)
    }
    node.members.say(logs.keys(), cuts)
    const steady = node.runner.steady()
    while (!failed && node.tables.cutoffs.pending) await new Promise((resolve) => setTimeout(resolve, 1))
    if (failed) {
      cut++
      if (allowed > 0) t.ok(node.tables.cutoffs.pending, `after ${allowed} transactions something is left to do`)
    } else await steady
    await node.close()
    const next = await openNode(file, logs)
    next.members.say(logs.keys(), cuts)
    next.runner.wake()
    await next.runner.idle()
    t.same(differences(next, again), [], `cut short after ${allowed} transactions`)
    await next.close()
  }
  t.ok(cut >= 3, `${cut} rebuilds were cut short`)
  await again.close()
})

t.test("whoever waits for a fold waits for the rebuild; a block that is lost is told and everything held is folded again", async (t) => {
  const directory = t.testdir()
  const logs = new Map(worldOf(randomFrom(9), 3, 90))
  const node = await fromNothing(`${directory}/live.db`, logs, new Map(), lengthsOf(logs))
  const cuts: Cuts = new Map([[logKey(0), { cutAt: 3 }]])
  node.members.say(logs.keys(), cuts)
  await node.runner.folded(logKey(1), 1)
  t.equal(node.tables.cutoffs.pending, false)
  t.same(node.tables.cutoffs.of(logKey(0)), { cutAt: 3, docsTo: 3 })
  const one = await fromNothing(`${directory}/one.db`, logs, cuts, lengthsOf(logs))
  t.same(differences(node, one), [])
  const blocks = logs.get(logKey(0)) ?? []
  logs.set(logKey(0), blocks.slice(0, 5))
  node.members.say(logs.keys(), new Map())
  await node.runner.idle()
  t.ok(node.notices.some((text) => text.includes("is not held any more")))
  t.equal(node.tables.cursors.folded(logKey(0)), 5)
  t.equal(node.tables.heads.get(logKey(0))?.length, 5, "it is fetched again")
  logs.set(logKey(0), blocks)
  node.grow(logKey(0), blocks.length)
  await node.runner.idle()
  const two = await fromNothing(`${directory}/two.db`, logs, new Map(), lengthsOf(logs))
  t.same(differences(node, two), [])
  for (const each of [node, one, two]) await each.close()
})

t.test("a node without keys folds nothing and keeps its cursors; with the keys it is like any other", async (t) => {
  const directory = t.testdir()
  const logs = worldOf(randomFrom(11), 3, 90)
  const seeder = await fromNothing(`${directory}/seeder.db`, logs, new Map(), lengthsOf(logs), [])
  const blocks = [...logs.values()].reduce((sum, list) => sum + list.length, 0)
  t.equal(seeder.tables.sealed.count(), blocks)
  t.same([...seeder.tables.sealed.byEpoch()], [[1, blocks]])
  t.equal(seeder.tables.database.prepare("SELECT count(*) AS n FROM sealed").get()?.["n"], 3, "a row for each log")
  t.equal(seeder.tables.events.totals().events, 0)
  t.equal(seeder.tables.quarantine.count(), 0)
  seeder.runner.keysChanged([7])
  t.equal(seeder.tables.cutoffs.pending, false, "no work")
  seeder.keys.add(1)
  seeder.runner.keysChanged([1])
  await seeder.runner.idle()
  const reader = await fromNothing(`${directory}/reader.db`, logs, new Map(), lengthsOf(logs))
  t.same(differences(seeder, reader), [])
  await seeder.close()
  await reader.close()
})

t.test("a key that an operation brings opens what stands behind it, without being sealed first", async (t) => {
  const log = logKey(0)
  const event = (n: number, type: string, body: unknown) => encodeEvent({ type, at: { ms: 1_800_000_000_000 + n, count: 0 }, actor: "device", subject: "mesh", command: "", cause: [], body }, log)
  const blocks = Array.from({ length: 20 }, (_, block) => sealFrame(
    [block === 5 ? event(block, "epoch.rotated/1", { operation: new Uint8Array(1) }) : event(block, "node.stopped/1", { reason: "x" })], { log, block }, block > 5 ? 2 : 1, keyOf(block > 5 ? 2 : 1)
  ))
  const other = logKey(1)
  const logs: Logs = new Map([[other, [...blocks.slice(6)].map((_, block) => sealFrame([encodeEvent({
    type: "node.stopped/1", at: { ms: 1_800_000_000_000, count: 0 }, actor: "device", subject: "node", command: "", cause: [], body: { reason: "y" }
  }, other)], { log: other, block }, 2, keyOf(2)))], [log, blocks]])
  const node = await openNode(`${t.testdir()}/live.db`, logs)
  // As the keyring does, which reads the operations that are folded.
  const { transaction } = node.tables
  node.tables.transaction = (work) => {
    const done = transaction.call(node.tables, work)
    if (node.tables.cursors.folded(log) > 5) node.keys.add(2)
    return done as ReturnType<typeof work>
  }
  node.tables.heads.grew(log, 20)
  node.runner.wake(log)
  node.grow(other, 14)
  await node.runner.idle()
  t.equal(node.tables.cursors.folded(log), 20)
  t.equal(node.tables.sealed.of(log), 0)
  t.equal(node.tables.cursors.folded(other), 14)
  await node.close()
})

t.test("with the real rules: what a revocation in a log cuts, what an operation beyond a cut-off still says", async (t) => {
  const directory = t.testdir()
  const first = signOperation(draftOperation({ mesh: "", author: deviceNamed("ann"), parents: [], ms: 1, says: { kind: "mesh.created", name: "hill", nonce: new Uint8Array(32) } }), keyPair("ann"))
  const operations: Array<Operation> = [must(first)]
  const mesh = operations[0]?.hash ?? ""
  const say = (author: string, says: Statement, parents = foldOf(mesh, operations).view().heads): Operation => {
    const operation = must(signOperation(draftOperation({ mesh, author: deviceNamed(author), parents: [...parents].sort(), ms: operations.length + 1, says }), keyPair(author)))
    operations.push(operation)
    return operation
  }
  const own = { ann: logKey(0), ben: logKey(1), cem: logKey(2) }
  say("ann", { kind: "log.attached", log: own.ann })
  const invite: Invite = { mesh, meshName: "hill", seed: new Uint8Array(32).fill(3), issuer: deviceNamed("ann"), role: "owner", expiresMs: 9, bootstrap: [], lan: [] }
  say("ann", { kind: "invite.issued", invite: inviteKey(invite), role: "owner", expiresMs: 9, uses: 9 })
  for (const [name, role] of [["ben", "owner"], ["cem", "member"]] as const) {
    say("ann", { kind: "member.admitted", device: deviceNamed(name), log: own[name], name, role, invite: inviteKey(invite), proof: proveInvite(invite, deviceNamed(name), own[name]) })
  }
  const both = foldOf(mesh, operations).view().heads
  // Ann and ben revoke each other: ben's word stands in his log beyond where ann cut it off, and counts.
  const byAnn = say("ann", { kind: "member.revoked", device: deviceNamed("ben"), cutoffs: [{ log: own.ben, length: 4 }] }, both)
  const byBen = say("ben", { kind: "member.revoked", device: deviceNamed("ann"), cutoffs: [{ log: own.ann, length: 1_000 }] }, both)
  const worlds = new Map([...worldOf(randomFrom(21), 3, 60)].map(([log, blocks]) => [log, [...blocks]]))
  const put = (log: string, operation: Operation, at: number): void => {
    const blocks = worlds.get(log) ?? []
    blocks.splice(at, blocks.length - at, sealFrame([encodeEvent({
      type: "member.revoked/1", at: { ms: 1_800_000_000_000, count: 0 }, actor: "device", subject: "mesh", command: "", cause: [], body: { operation: operation.bytes }
    }, log)], { log, block: at }, 1, keyOf(1)))
  }
  put(own.ann, byAnn, 9)
  put(own.ben, byBen, 9)
  const known = operations.filter((operation) => operation !== byAnn && operation !== byBen)
  const prints = new Set<string>()
  for (let round = 0; round < 4; round++) {
    const node = await openRealNode(`${directory}/real-${round}.db`, worlds, mesh)
    node.tables.transaction(() => {
      for (const operation of known) node.members.take(operation.bytes, "met")
    })
    const random = randomFrom(round)
    const lengths = new Map<string, number>()
    while ([...worlds].some(([log, blocks]) => (lengths.get(log) ?? 0) < blocks.length)) {
      const log = [...worlds.keys()][random(3)] ?? ""
      lengths.set(log, Math.min(worlds.get(log)?.length ?? 0, (lengths.get(log) ?? 0) + 1 + random(5)))
      node.grow(log, lengths.get(log) ?? 0)
      if (random(2) === 0) await node.runner.idle()
    }
    await node.runner.idle()
    t.same([...node.members.view().members.values()].map(({ name, standing }) => `${name} ${standing}`).sort(), ["ann revoked", "ben revoked", "cem member"].map((text) => text.replace("ann", node.members.nameOf(deviceNamed("ann")))))
    t.equal(node.tables.cutoffs.of(own.ben).cutAt, 4)
    t.equal(node.tables.events.byAddress({ log: own.ben, block: 9, offset: 0 })?.status, "known", "a revocation counts wherever it stands")
    t.equal(node.tables.events.byAddress({ log: own.ann, block: 9, offset: 0 })?.status, "known")
    const out = node.tables.quarantine.list(1_000, own.ben).map(({ why }) => why)
    t.ok(out.includes(`beyond the cut-off of its revocation by ${node.members.nameOf(deviceNamed("ann"))}`), out[0] ?? "nothing is quarantined")
    prints.add(node.tables.fingerprint().all)
    await node.close()
  }
  t.equal(prints.size, 1, "in any order")
})

t.test("an own edit that meets a cut-off on its way into the log does not stay in the document", async (t) => {
  const doc = "memory/notes/a"
  const log = logKey(0)
  const blocks: Array<Uint8Array> = []
  const node = await openNode(`${t.testdir()}/live.db`, new Map([[log, blocks]]))
  const edited = await Effect.runPromise(node.worker.edit(doc, log, [{ _tag: "Text", text: "mine" }], 1, (id) => node.tables.documents.load(id)))
  t.equal(edited.state.value["text"], "mine")
  blocks.push(sealFrame([encodeEvent({
    type: "memory.changed/1", at: { ms: 1_800_000_000_000, count: 0 }, actor: "device", subject: doc, command: "", cause: [], body: { change: edited.change, paths: [], summary: "" }
  }, log)], { log, block: 0 }, 1, keyOf(1)))
  node.members.say([log], new Map([[log, { cutAt: 0 }]]))
  node.grow(log, 1)
  await node.runner.idle()
  t.equal(node.tables.documents.state(doc), undefined, "and does not make one either")
  t.match(node.tables.documents.summary(doc), { held: 1, changes: 0 })
  await node.close()
})

t.test("what builds on a refused change is refused, also when the document was loaded again in between", async (t) => {
  const doc = "config/mesh/net"
  const block = (log: string, change: Uint8Array) => sealFrame([encodeEvent({
    type: "config.changed/1", at: { ms: 1_800_000_000_000, count: 0 }, actor: "device", subject: doc, command: "", cause: [], body: { change, paths: [], summary: "" }
  }, log)], { log, block: 0 }, 1, keyOf(1))
  const change = (log: string, key: string, on?: Uint8Array): Uint8Array => {
    const handle = newHandle(doc, log)
    if (on !== undefined) handle.applyChanges([on])
    handle.put("/", key, "1", "str")
    handle.commit(undefined, 0)
    return handle.getLastLocalChange() ?? new Uint8Array(0)
  }
  const refused = change(logKey(0), "constructor")
  const logs: Logs = new Map([[logKey(0), [block(logKey(0), refused)]], [logKey(1), [block(logKey(1), change(logKey(1), "x", refused))]]])
  const node = await openNode(`${t.testdir()}/live.db`, logs)
  node.grow(logKey(0), 1)
  await node.runner.idle()
  await Effect.runPromise(node.worker.discard(doc))
  node.grow(logKey(1), 1)
  await node.runner.idle()
  t.match(node.tables.quarantine.why(logKey(1), 0, 0), /^builds on change/)
  t.equal(node.tables.documents.totals().waiting, 0)
  await node.close()
})

const foldOf = (mesh: string, operations: ReadonlyArray<Operation>) => {
  const fold = foldMembership(mesh)
  for (const operation of operations) fold.offer(operation)
  return fold
}
