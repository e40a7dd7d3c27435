import t from "tap"
import { draftOperation, type Operation, roles, type Statement } from "../src/codec/operation.ts"
import { foldMembership, resolveMembership } from "../src/projections/membership.ts"
import { operationsMax, waitingMax } from "../src/codec/membership/graph.ts"
import { story } from "./membership-story.ts"
import { chance, key, unsignedOperation, viewText } from "./membership-world.ts"

t.test("an owner invites, the invited one names itself, attaches a log, closes it and leaves", async (t) => {
  const s = story()
  s.invite("ann", "i1")
  const admitted = s.admit("ann", "ben", "i1")
  s.say("ben", { kind: "member.named", device: key("ben"), name: "attic" })
  s.say("ben", { kind: "log.attached", log: key("ben-log-2") })
  s.say("ben", { kind: "log.succeeded", log: key("ben-log"), length: 7, treeHash: key("tree"), successor: key("ben-log-3") })
  t.match(s.member("ben"), {
    name: "attic", role: "member", standing: "member", since: admitted, by: key("ann"),
    logs: [{ log: key("ben-log"), closedAt: 7, successor: key("ben-log-3") }, { log: key("ben-log-2") }, { log: key("ben-log-3") }]
  })
  t.match(s.view().invites.get(key("i1")), { used: 1, uses: 1, withdrawn: false, admitted: [key("ben")] })
  t.equal(s.view().devices.get(key("ben-log-3")), key("ben"))
  s.say("ben", { kind: "member.left" })
  t.equal(s.member("ben")?.standing, "left")
  t.equal(s.view().void.length, 0)
  t.equal(s.why(s.say("ben", { kind: "log.attached", log: key("late") })), "its author had left")
  s.invite("ann", "i2")
  t.match(s.why(s.admit("ann", "ben", "i2")), /brings a new one/)
  s.admit("ann", "ben", "i2", undefined, "member", "ben-log-4")
  t.equal(s.member("ben")?.standing, "member", "it came back with a new log")
})

t.test("what the author had no right to does not count, and says why", async (t) => {
  const s = story()
  s.invite("ann", "i1", 2)
  s.admit("ann", "ben", "i1")
  t.equal(s.why(s.invite("ben", "i2")), "only admins and owners issue invites")
  t.equal(s.why(s.admit("ann", "eve", "i2")), "no such invite was issued")
  t.equal(s.why(s.admit("ben", "eve", "i1")), "only admins and owners admit")
  t.equal(s.why(s.say("eve", { kind: "log.attached", log: key("x") })), "its author was no member")
  t.equal(s.why(s.admit("ann", "eve", "i1", undefined, "owner")), "the invite goes up to member")
  t.equal(s.why(s.say("ann", {
    kind: "member.admitted", device: key("eve"), log: key("x"), name: "eve", role: "member", invite: key("i1"), proof: new Uint8Array(64)
  }, undefined, false)), "the invite's proof is wrong")
  t.equal(s.why(s.admit("ann", "ben", "i1", undefined, "member", "other")), "the device was a member already")
  t.equal(s.why(s.admit("ann", "eve", "i1", undefined, "member", "ben-log")), "the log was attached before; a device that comes back brings a new one")
  t.equal(s.why(s.admit("ann", "cem", "i1")), undefined)
  t.equal(s.why(s.admit("ann", "eve", "i1")), "the invite was used up")
  t.equal(s.why(s.say("ben", { kind: "log.attached", log: key("cem-log") })), "the log belongs to another device")
  t.equal(s.why(s.say("ben", { kind: "log.succeeded", log: key("cem-log"), length: 1, treeHash: key("x"), successor: key("n") })), "the log does not belong to its author")
  t.equal(s.why(s.say("ben", { kind: "log.succeeded", log: key("ben-log"), length: 1, treeHash: key("x"), successor: key("cem-log") })), "the successor belongs to another device")
  t.equal(s.why(s.say("ben", { kind: "member.named", device: key("cem"), name: "zoo" })), "only admins and owners name another's node")
  t.equal(s.why(s.say("ben", { kind: "role.set", device: key("ben"), role: "owner" })), "only admins and owners set roles")
  t.equal(s.why(s.say("ann", { kind: "member.left" })), "the last owner stays")
  t.equal(s.why(s.say("ann", { kind: "role.set", device: key("ann"), role: "member" })), "the last owner stays")
  t.equal(s.why(s.say("ann", { kind: "role.set", device: key("cem"), role: "owner" })), undefined)
  t.equal(s.why(s.say("ann", { kind: "role.set", device: key("cem"), role: "member" })), "an owner's role is changed by itself only")
  t.equal(s.why(s.say("ann", { kind: "member.left" })), undefined, "now there is another owner")
  t.equal(s.why(s.say("cem", { kind: "invite.withdrawn", invite: key("zz") })), "no such invite was issued")
})

t.test("a right counts from the author's own past, not from what came by other ways", async (t) => {
  const s = story()
  const issued = s.invite("ann", "i1", 3)
  const withdrawn = s.say("ann", { kind: "invite.withdrawn", invite: key("i1") }, [issued])
  t.equal(s.why(s.admit("ann", "ben", "i1", [issued])), undefined, "concurrent with the withdrawal: it stands")
  t.equal(s.why(s.admit("ann", "cem", "i1", [withdrawn])), "the invite was withdrawn")
  const early = s.say("dot", { kind: "log.attached", log: key("dot-2") }, [issued])
  t.equal(s.why(early), "its author was no member")
  const again = s.invite("ann", "i2")
  const dot = s.admit("ann", "dot", "i2", [again])
  const eve = s.admit("ann", "eve", "i2", [again])
  t.same([s.why(dot), s.why(eve)].sort(), ["the invite was used up by an admission that comes first", undefined], "the last use, spent twice in two partitions: one stands")
  t.equal(s.why(dot), dot < eve ? undefined : "the invite was used up by an admission that comes first", "the first by order, on every node")
  t.equal(s.why(early), "its author was no member", "a back-dated right is no right")
})

t.test("of two concurrent roles the lower wins, and a concurrent leaving wins over both", async (t) => {
  const s = story()
  s.invite("ann", "i1", 3, "owner")
  s.admit("ann", "cem", "i1", undefined, "owner")
  const base = s.admit("ann", "ben", "i1")
  s.say("ann", { kind: "role.set", device: key("ben"), role: "admin" }, [base])
  s.say("cem", { kind: "role.set", device: key("ben"), role: "reader" }, [base])
  t.equal(s.member("ben")?.role, "reader")
  s.say("ann", { kind: "role.set", device: key("ben"), role: "admin" })
  t.equal(s.member("ben")?.role, "admin", "one that knew of both decides")
  s.say("ben", { kind: "member.left" }, [base])
  t.equal(s.member("ben")?.standing, "left")
})

t.test("equal names and one log claimed twice are settled the same way everywhere", async (t) => {
  const s = story()
  s.invite("ann", "i1", 9)
  const base = s.say("ann", { kind: "member.named", device: key("ann"), name: "attic" })
  s.admit("ann", "ben", "i1")
  s.admit("ann", "cem", "i1")
  const all = s.admit("ann", "dot", "i1")
  t.equal(s.member("ann")?.name, "attic")
  s.say("ben", { kind: "member.named", device: key("ben"), name: "Attic" })
  t.equal(s.member("ben")?.name, "Attic-2", "a later equal name is the second")
  s.say("cem", { kind: "member.named", device: key("cem"), name: "attic-2" })
  t.equal(s.member("cem")?.name, "attic-2")
  t.equal(s.member("ben")?.name, "Attic-3", "a name that was asked for goes before one that was made")
  s.say("ben", { kind: "log.attached", log: key("both") }, [all])
  s.say("cem", { kind: "log.attached", log: key("both") }, [all])
  const holder = s.view().devices.get(key("both"))
  t.ok(holder === key("ben") || holder === key("cem"))
  t.equal([...s.view().members.values()].flatMap((m) => m.logs).filter((l) => l.log === key("both")).length, 1)
  t.match(s.view().void.map((entry) => entry.why), [/attached to another device concurrently/])
  t.ok(base)
})

t.test("the mesh has the name that an owner gave it last", async (t) => {
  const s = story()
  t.equal(s.view().name, "hill")
  const first = s.say("ann", { kind: "mesh.named", name: "The Hill" })
  t.equal(s.view().name, "The Hill")
  s.invite("ann", "i1", 2, "owner")
  s.admit("ann", "ben", "i1", undefined, "owner")
  const base = s.admit("ann", "cem", "i1")
  t.equal(s.why(s.say("cem", { kind: "mesh.named", name: "Cem's" })), "only an owner names the mesh")
  t.equal(s.why(s.say("eve", { kind: "mesh.named", name: "Eve's" })), "its author was no member")
  t.equal(s.view().name, "The Hill", "what does not count names nothing")
  const here = s.say("ann", { kind: "mesh.named", name: "Here" }, [base])
  const there = s.say("ben", { kind: "mesh.named", name: "There" }, [base])
  t.equal(s.view().name, here > there ? "Here" : "There", "of two concurrent ones the last by hash, on every node")
  s.say("ann", { kind: "mesh.named", name: "Old" }, [first])
  t.not(s.view().name, "Old", "one that knew less comes before them by depth")
  s.say("ben", { kind: "mesh.named", name: "Both" })
  t.equal(s.view().name, "Both", "one that knew of all decides")
})

t.test("kinds not known are kept and build the graph; another mesh's are refused; orphans wait", async (t) => {
  const s = story()
  const kept = s.say("ann", { kind: "kept", name: "sun.set", body: { epoch: 2 } })
  const strange = s.say("ann", { kind: "kept", name: "moon.phased", body: {} })
  const revoked = s.say("ann", { kind: "member.revoked", device: key("x"), cutoffs: [{ log: key("l"), length: 3 }] })
  t.same(s.view().heads, [revoked])
  t.match([kept, strange, revoked].map(s.why), [/sun.set is not known/, /moon.phased is not known/, /was no member/])
  const fold = foldMembership(s.mesh)
  const [first, ...rest] = s.operations
  if (first === undefined) throw new Error("no story")
  t.same(rest.toReversed().map((o) => fold.offer(o)._tag), ["Waiting", "Waiting", "Waiting"])
  t.equal(fold.view().waiting, 3)
  t.equal(fold.offer(rest[0] ?? first)._tag, "Known")
  const entered = fold.offer(first)
  t.equal(entered._tag === "Entered" && entered.entered.length, 4)
  t.equal(fold.view().waiting, 0)
  t.same(fold.operations().map((o) => o.hash), s.operations.map((o) => o.hash), "parents before children")
  const other = story("zed")
  t.match(other.operations.map((o) => fold.offer(o)), [{ _tag: "Refused", why: "it belongs to another mesh" }])
})

const randomGraph = (seed: number, size: number): { readonly mesh: string; readonly operations: ReadonlyArray<Operation> } => {
  const { below, pick, next } = chance(seed)
  const devices = ["a", "b", "c", "d", "e", "f"].map((name) => key(name))
  const logs = ["l1", "l2", "l3", "l4", "l5", "l6", "l7"].map((name) => key(name))
  const invites = ["i1", "i2", "i3"].map((name) => key(name))
  const names = ["attic", "Attic", "attic-2", "cabin"]
  const first = unsignedOperation(draftOperation({
    mesh: "", author: devices[0] ?? "", parents: [], ms: seed, says: { kind: "mesh.created", name: "m", nonce: new Uint8Array(32) }
  }))
  const operations = [first]
  const statement = (): Statement => {
    const device = pick(devices)
    const log = pick(logs)
    const invite = pick(invites)
    const role = next() < 0.5 ? "owner" : pick(roles)
    const dice = below(19)
    return dice < 3 ? { kind: "invite.issued", invite, role: next() < 0.7 ? "owner" : role, expiresMs: 5, uses: 1 + below(3) }
      : dice < 4 ? { kind: "invite.withdrawn", invite }
      : dice < 9 ? { kind: "member.admitted", device, log, name: pick(names), role, invite, proof: new Uint8Array(64) }
      : dice < 11 ? { kind: "member.named", device, name: pick(names) }
      : dice < 13 ? { kind: "role.set", device, role }
      : dice < 14 ? { kind: "log.attached", log }
      : dice < 16 ? { kind: "log.succeeded", log, length: below(9), treeHash: key("t"), successor: pick(logs.filter((l) => l !== log)) }
      : dice < 17 ? { kind: "member.left" }
      : dice < 18 ? { kind: "mesh.named", name: pick(names) }
      : { kind: "kept", name: "moon.phased", body: {} }
  }
  while (operations.length < size) {
    const recent = operations.slice(-4)
    const parents = new Set(Array.from({ length: 1 + below(3) }, () => next() < 0.93 ? pick(recent).hash : pick(operations).hash))
    const author = next() < 0.5 ? devices[0] ?? "" : pick(devices)
    operations.push(unsignedOperation(draftOperation({
      mesh: first.hash, author, parents: [...parents].sort(), ms: below(9), says: statement()
    }), next() < 0.95))
  }
  return { mesh: first.hash, operations }
}

t.test("2,500 random graphs give one view in any order, with duplicates, and when a part comes first", async (t) => {
  let counted = 0
  let operationsTotal = 0
  for (let seed = 1; seed <= 2_500; seed++) {
    const { mesh, operations } = randomGraph(seed, 6 + (seed % 30))
    const { shuffle, below } = chance(seed * 7)
    const straight = resolveMembership(mesh, operations)
    const want = viewText(straight)
    const mixed = shuffle([...operations, ...operations.slice(0, below(operations.length))])
    const fold = foldMembership(mesh)
    const cut = below(mixed.length)
    for (const operation of mixed.slice(0, cut)) fold.offer(operation)
    fold.view()
    for (const operation of mixed.slice(cut)) fold.offer(operation)
    if (viewText(fold.view()) !== want) t.fail(`seed ${seed}: the mixed order gives another view`)
    if (viewText(resolveMembership(mesh, [...operations].reverse())) !== want) t.fail(`seed ${seed}: the reverse order gives another view`)
    const logs = [...straight.members.values()].flatMap((member) => member.logs.map((log) => log.log))
    if (new Set(logs).size !== logs.length) t.fail(`seed ${seed}: a log belongs to two devices`)
    const names = [...straight.members.values()].map((member) => member.name.toLowerCase())
    if (new Set(names).size !== names.length) t.fail(`seed ${seed}: two nodes have one name`)
    counted += operations.length - straight.void.length
    operationsTotal += operations.length
  }
  t.ok(counted > operationsTotal / 6, `${counted} of ${operationsTotal} operations counted: the graphs are not all void`)
})

t.test("the graph has limits: operations in it, and operations that wait", async (t) => {
  const s = story()
  const fold = foldMembership(s.mesh)
  const chain = (count: number, from: string, ms: number) => {
    const out: Array<Operation> = []
    for (let top = from; out.length < count;) {
      const operation = unsignedOperation(draftOperation({ mesh: s.mesh, author: key("x"), parents: [top], ms, says: { kind: "member.left" } }))
      out.push(operation)
      top = operation.hash
    }
    return out
  }
  const orphans = chain(waitingMax + 1, key("nowhere"), 1)
  t.same(new Set(orphans.slice(0, waitingMax).map((operation) => fold.offer(operation)._tag)), new Set(["Waiting"]))
  t.match(orphans.slice(waitingMax).map((operation) => fold.offer(operation)), [{ _tag: "Refused", why: /10000 operations wait/ }])
  const first = s.operations.map((operation) => fold.offer(operation)._tag)
  const rest = chain(operationsMax - waitingMax, s.mesh, 2).map((operation) => fold.offer(operation))
  t.same(first, ["Entered"])
  t.match(rest.slice(-2), [{ _tag: "Entered" }, { _tag: "Refused", why: /20000 operations already/ }])
  t.match(fold.view(), { operations: operationsMax - waitingMax, waiting: waitingMax })
  t.equal(fold.has(s.mesh), true)
})

t.test("1,000 operations resolve fast", async (t) => {
  const { mesh, operations } = randomGraph(4, 1_000)
  const started = performance.now()
  const view = resolveMembership(mesh, operations)
  const ms = performance.now() - started
  t.equal(view.operations, 1_000)
  t.ok(ms < 500, `took ${ms.toFixed(1)} ms`)
  t.comment(`1,000 operations: ${ms.toFixed(1)} ms`)
})
