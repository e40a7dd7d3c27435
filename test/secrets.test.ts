import { Effect, Result } from "effect"
import { closeSync, openSync, readdirSync, readFileSync, readSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import t, { type Test } from "tap"
import { fromHex, toHex } from "../src/codec/bytes.ts"
import { isItemKey, itemKeyBytes, openSecret, secretBytesMax, secretCipherBytesMax, secretItem, sealSecret } from "../src/codec/secret-item.ts"
import { sealTo } from "../src/codec/seal.ts"
import { randomBytes } from "../src/codec/signature.ts"
import { recipientsOf } from "../src/commands/decide-secrets.ts"
import { noteWindowMs } from "../src/commands/secret-keeper.ts"
import type { Wanted } from "../src/commands/dispatch.ts"
import { Refusal } from "../src/commands/refusal.ts"
import { decodeBody } from "../src/events/catalogue.ts"
import { maskSecrets, secretInEvent } from "../src/projections/families/secret-scan.ts"
import { readableBy, SecretsView } from "../src/projections/secrets.ts"
import { Tables } from "../src/projections/tables/tables.ts"
import { SecretStore } from "../src/vault/secret-store.ts"
import { chance, key, keyPair } from "./membership-world.ts"
import { foldFrame, loot, meshId, type SimDevice, viewText, World } from "./secrets-world.ts"

const worldOf = (t: Test, ...roles: ReadonlyArray<readonly [name: string, role: "owner" | "admin" | "member" | "reader" | "seeder"]>): { readonly world: World; readonly of: (name: string) => SimDevice } => {
  const world = new World(t.testdir())
  for (const [name, role] of roles) world.add(name, role)
  t.teardown(() => { for (const { tables } of world.devices) tables.close() })
  return { world, of: (name) => world.devices.find((device) => device.name === name) ?? (() => { throw new Error(name) })() }
}
const kindOf = (result: Result.Result<unknown, Refusal>): string => Result.isFailure(result) ? result.failure.kind : "done"

t.test("a version opens with its key at its place, and nowhere else", async (t) => {
  const place = { name: "weather", version: 3, log: key("log") }
  const itemKey = randomBytes(itemKeyBytes)
  for (const size of [1, 251, 252, 253, secretBytesMax]) {
    const value = randomBytes(size)
    const sealed = sealSecret(value, itemKey, place)
    t.same(openSecret(sealed, itemKey, place), Buffer.from(value))
    t.ok(sealed.cipher.byteLength <= secretCipherBytesMax && (sealed.cipher.byteLength - 16) % 256 === 0, "its length says little")
    t.equal(openSecret(sealed, randomBytes(32), place), undefined)
    for (const other of [{ ...place, name: "other" }, { ...place, version: 4 }, { ...place, log: key("other") }]) {
      t.equal(openSecret(sealed, itemKey, other), undefined)
      t.notOk(isItemKey(itemKey, sealed.commit, other))
      t.not(secretItem(other, sealed.commit), secretItem(place, sealed.commit))
    }
    const flipped = Buffer.from(sealed.cipher)
    flipped[sealed.cipher.byteLength >> 1] = (flipped[sealed.cipher.byteLength >> 1] ?? 0) ^ 1
    t.equal(openSecret({ ...sealed, cipher: flipped }, itemKey, place), undefined)
    t.equal(openSecret({ ...sealed, cipher: sealed.cipher.subarray(0, 8) }, itemKey, place), undefined)
    t.equal(openSecret({ ...sealed, commit: key("commit") }, itemKey, place), undefined)
  }
})

t.test("a secret for one node is used there, offline and after a restart, and nowhere else", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"], ["gamma", "member"])
  const [alpha, beta, gamma] = [of("alpha"), of("beta"), of("gamma")]
  await world.settle()
  t.equal(kindOf(await alpha.set("weather", "sunny-canary", ["beta"])), "done")
  t.equal(await beta.get("weather"), "(not-found)", "it has not heard of it")
  await world.settle()
  t.equal(await beta.get("weather"), "sunny-canary")
  t.equal(await alpha.get("weather"), "(denied)", "who set it is no recipient")
  t.equal(await gamma.get("weather"), "(denied)")
  const denied = gamma.envelopes().filter(({ type }) => type === "secret.denied/1")
  t.match(denied, [{ actor: "device", subject: "secret/weather", body: { name: "weather", times: 1 } }], "it is recorded")
  t.match(beta.envelopes().filter(({ type }) => type === "secret.read/1"), [{ body: { name: "weather", version: 1, times: 1 } }])
  t.equal(kindOf(await alpha.rotate("weather")), "denied", "nor may it seal it anew")
  const courier = alpha.view().secrets.get("weather")?.lines[0]?.live[0]
  t.notOk(alpha.view().keptBy(alpha.id).courier.has(courier?.item ?? ""), "the author keeps no key when the recipient has it")
  beta.makeKeeper()
  t.equal(await beta.get("weather"), "sunny-canary", "after a restart, with nobody in reach")
  t.same(loot(world, [alpha, gamma]), [], "who is no recipient has nothing, with device keys, logs and directories")
  t.same(loot(world, [beta]), ["sunny-canary"], "the recipient has it")
})

t.test("removal: who held it destroys it and says so; nothing that is left anywhere opens it", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"], ["gamma", "member"], ["delta", "member"])
  const [alpha, beta, gamma] = [of("alpha"), of("beta"), of("gamma")]
  await world.settle()
  await alpha.set("weather", "first-canary", ["role:member"])
  await alpha.set("kept", "kept-canary", ["beta", "alpha"])
  await world.settle()
  await alpha.rotate("weather", "second-canary")
  await world.settle()
  for (const device of [beta, gamma, of("delta")]) t.equal(await device.get("weather"), "second-canary")
  t.same(loot(world, world.devices), ["first-canary", "kept-canary", "second-canary"], "the thief finds all: the test can fail")
  // Gamma is away when it is removed.
  const present = world.devices.filter((device) => device !== gamma)
  t.equal(kindOf(await alpha.remove("weather")), "done")
  await world.settle(present)
  t.equal(await beta.get("weather"), "(not-found)")
  t.equal(await gamma.get("weather"), "second-canary", "it uses it until it hears of it")
  const receipts = (device: SimDevice) => {
    const view = device.view()
    return (view.secrets.get("weather")?.removed ?? []).map(({ item }) => view.exposed(item).map((one) => [world.devices.find(({ id }) => id === one)?.name, view.shredded(one, item) !== undefined]).toSorted())
  }
  const open = [["alpha", true], ["beta", true], ["delta", true], ["gamma", false]]
  t.same(receipts(alpha), [open, open])
  t.same(loot(world, present), ["kept-canary"], "device keys, all logs and directories of those who have destroyed it give nothing of it")
  await world.settle()
  t.same(receipts(alpha), [open, open].map((list) => list.map(([name]) => [name, true])), "every receipt is there")
  t.same(loot(world, world.devices), ["kept-canary"])
  t.equal(await beta.get("kept"), "kept-canary", "what was not removed is still used")
  t.equal(await alpha.get("kept"), "kept-canary")
  t.same(readdirSync(beta.directory).filter((name) => name.startsWith("secrets")), ["secrets"])
  // A name that was removed can be used again, and its versions go on.
  await beta.set("weather", "third-canary", ["gamma"])
  await world.settle()
  t.equal(await gamma.get("weather"), "third-canary")
  t.equal(gamma.view().secrets.get("weather")?.lines[0]?.live[0]?.version, 3)
})

t.test("a key that was removed before it was taken out is destroyed too", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"])
  const [alpha, beta] = [of("alpha"), of("beta")]
  await world.settle()
  await alpha.set("brief", "brief-canary", ["beta"])
  await alpha.remove("brief")
  t.same(loot(world, [beta]), ["brief-canary"], "its reader key could open it")
  await world.settle()
  t.same(loot(world, world.devices), [])
  const view = alpha.view()
  const [removed] = view.secrets.get("brief")?.removed ?? []
  t.ok(removed !== undefined && view.exposed(removed.item).every((device) => view.shredded(device, removed.item) !== undefined))
})

t.test("a device that comes into a role is given its secrets by whoever holds them; one that goes out destroys them", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "admin"], ["gamma", "admin"])
  const [alpha, beta, gamma] = [of("alpha"), of("beta"), of("gamma")]
  await world.settle()
  await alpha.set("admins", "admins-canary", ["role:admin"])
  await world.settle()
  const delta = world.add("delta", "admin")
  t.teardown(() => delta.tables.close())
  for (const device of [alpha, beta, gamma]) delta.hear(device)
  await world.settle([beta, gamma, delta])
  t.equal(await delta.get("admins"), "admins-canary", "the author was not there")
  t.equal([...beta.envelopes(), ...gamma.envelopes()].filter(({ type }) => type === "secret.shared/1").length, 1, "one of two shared it")
  world.members.set("gamma", { role: "member" })
  await world.settle()
  t.equal(await gamma.get("admins"), "(denied)")
  t.same(loot(world, [gamma]), [])
  t.equal(await beta.get("admins"), "admins-canary")
})

t.test("an agent gets what is for it, where it runs; a person gets what is for the node", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"], ["gamma", "member"])
  const [alpha, beta] = [of("alpha"), of("beta")]
  world.agents.set("backup", ["beta"])
  await world.settle()
  t.equal(kindOf(await alpha.set("pump", "x", ["agent:nobody"])), "not-found")
  await alpha.set("bucket", "bucket-canary", ["agent:backup"])
  await alpha.set("door", "door-canary", ["beta"])
  await world.settle()
  t.equal(await beta.get("bucket", "agent:backup"), "bucket-canary")
  t.equal(await beta.get("bucket", "agent:other"), "(denied)")
  t.equal(await beta.get("bucket", "device"), "(denied)")
  t.equal(await beta.get("door", "agent:backup"), "(denied)")
  t.equal(await beta.get("door", "person:Ann"), "door-canary")
  t.same(beta.envelopes().filter(({ type }) => type === "secret.denied/1").map(({ actor, subject }) => [actor, subject]), [
    ["agent:other", "secret/bucket"], ["device", "secret/bucket"], ["agent:backup", "secret/door"]
  ])
  world.agents.set("backup", ["gamma"])
  await world.settle([alpha, beta])
  await world.settle()
  t.equal(await of("gamma").get("bucket", "agent:backup"), "bucket-canary", "the agent moved, and its secret with it")
  t.equal(await beta.get("bucket", "agent:backup"), "(denied)")
  t.same(loot(world, [beta]), ["door-canary"])
  world.agents.delete("backup")
  await world.settle()
  world.agents.set("backup", ["gamma"])
  await world.settle()
  t.equal(await of("gamma").get("bucket", "agent:backup"), "bucket-canary", "an agent that was away for a while does not lose its secrets")
})

t.test("who may set, rotate and remove; the refusals never hold the value", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"], ["gamma", "member"], ["delta", "admin"])
  const [alpha, beta, gamma, delta] = [of("alpha"), of("beta"), of("gamma"), of("delta")]
  await world.settle()
  t.equal(kindOf(await beta.set("x", "one", ["beta", "gamma"])), "done")
  await world.settle()
  t.equal(kindOf(await gamma.set("x", "two", ["gamma"])), "denied")
  t.equal(kindOf(await gamma.rotate("x", "two")), "denied")
  t.equal(kindOf(await gamma.remove("x")), "denied")
  t.equal(kindOf(await delta.rotate("x")), "denied", "an admin that cannot open it cannot seal it anew")
  t.equal(kindOf(await delta.rotate("x", "two")), "done")
  await world.settle()
  t.equal(await gamma.get("x"), "two")
  t.equal(delta.view().secrets.get("x")?.lines[0]?.owner, beta.id, "it stays beta's")
  t.equal(kindOf(await beta.rotate("x")), "done")
  await world.settle()
  t.equal(await gamma.get("x"), "two", "the same value under a new key")
  t.match(gamma.view().secrets.get("x")?.lines[0]?.live[0], { version: 3, fresh: false })
  t.equal(kindOf(await alpha.remove("x")), "done")
  t.equal(kindOf(await alpha.remove("x")), "not-found")
  t.equal(kindOf(await alpha.rotate("never")), "not-found")
  const token = `ghp_${"a1B2".repeat(9)}`
  for (const result of [
    await alpha.set(token, "v"), await alpha.set("ok", ""), await alpha.set("ok", `${token}${"x".repeat(secretBytesMax)}`), await alpha.set("a b", "v"),
    await alpha.set("ok", "v", ["nobody"]), await alpha.set("ok", "v", ["role:king"]), await alpha.set("ok", "v", ["person:ann"]), await alpha.set("ok", "v", ["role:seeder"]), await alpha.set("ok", "v", [])
  ]) {
    t.ok(["usage", "not-found"].includes(kindOf(result)))
    t.notOk(JSON.stringify(result).includes(token))
  }
  t.same(recipientsOf({ membership: world.membership(), places: () => undefined }, ["beta", "node:beta", beta.id.slice(0, 12)]), Result.succeed([`node:${beta.id}`]))
})

t.test("a demoted admin's versions count no more, and the one before is in force again", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"], ["delta", "admin"])
  const [beta, delta] = [of("beta"), of("delta")]
  await world.settle()
  await beta.set("x", "mine", ["beta"])
  await world.settle()
  await delta.rotate("x", "its")
  await world.settle()
  t.equal(await beta.get("x"), "its")
  world.members.set("delta", { role: "member" })
  await world.settle()
  t.equal(await beta.get("x"), "mine")
})

t.test("a revoked node could read what it was given: until a new value is set", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"], ["gamma", "member"])
  const [alpha, beta, gamma] = [of("alpha"), of("beta"), of("gamma")]
  await world.settle()
  await alpha.set("shared", "v1", ["beta", "gamma"])
  await alpha.set("other", "v1", ["gamma", "alpha"])
  await gamma.set("typed", "v1", ["beta"])
  await world.settle()
  t.same(readableBy(alpha.view(), beta.id), ["shared", "typed"])
  world.members.set("gamma", { role: "member", standing: "revoked" })
  const left = [alpha, beta]
  await world.settle(left)
  const stale = () => [...alpha.view().secrets.values()].flatMap(({ lines }) => lines).filter((line) => alpha.view().strangers(line).length > 0).map(({ name }) => name)
  t.same(stale(), ["other", "shared", "typed"], "what it was given, and what it typed")
  await gamma.step()
  t.same(loot(world, [gamma]), [], "an honest node that was revoked destroys what it had")
  await beta.rotate("typed", "v2")
  t.equal(kindOf(await beta.rotate("shared")), "denied", "it is alpha's")
  await alpha.rotate("shared", "v2")
  await world.settle(left)
  t.same(stale(), ["other", "typed"], "beta may not rotate what gamma set")
  await alpha.rotate("typed", "v2")
  await world.settle(left)
  await alpha.set("shared", "v2", ["alpha", "beta"])
  await world.settle(left)
  t.equal(kindOf(await alpha.rotate("other")), "done")
  await world.settle(left)
  t.same(stale(), ["other"], "sealing the same value anew helps nothing")
})

t.test("concurrent sets of one name: the same one wins everywhere, both are kept, higher rank first", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"], ["gamma", "member"], ["delta", "admin"])
  const [alpha, beta, gamma, delta] = [of("alpha"), of("beta"), of("gamma"), of("delta")]
  await world.settle()
  await delta.set("n", "of delta", ["beta", "gamma"])
  world.ms += 1_000_000_000
  await gamma.set("n", "of gamma", ["beta", "gamma"])
  await world.settle()
  for (const device of [beta, gamma]) t.equal(await device.get("n"), "of delta", "a later stamp of a lower rank shadows nothing")
  for (const device of world.devices) t.equal(device.view().secrets.get("n")?.lines.length, 2, "contested, and shown as such")
  await delta.remove("n")
  await world.settle()
  t.same(beta.view().secrets.get("n")?.lines.map(({ owner }) => owner), [], "an admin removes both")
  // Two versions of one owner: an owner of the mesh and the setter rotate at the same time.
  await beta.set("m", "first", ["gamma"])
  await world.settle()
  await beta.rotate("m", "by beta")
  world.ms += 10
  await alpha.rotate("m", "by alpha")
  await world.settle()
  t.equal(await gamma.get("m"), "by alpha", "of one version number the later stamp")
  t.same(gamma.view().secrets.get("m")?.lines[0]?.live.map(({ version }) => version), [2, 2, 1])
})

t.test("a rotation that the remover did not know survives, and is listed", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "admin"])
  const [alpha, beta] = [of("alpha"), of("beta")]
  await world.settle()
  await alpha.set("x", "one", ["beta"])
  await world.settle()
  await alpha.remove("x")
  await beta.rotate("x", "two")
  await world.settle()
  t.equal(await beta.get("x"), "two")
  t.same(loot(world, world.devices), ["two"])
  await beta.remove("x")
  await world.settle()
  t.same(loot(world, world.devices), [])
})

t.test("a lost store, a reader key replaced in the same moment, a box in bad faith: it is given anew", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"], ["gamma", "member"], ["delta", "member"])
  const [alpha, beta, gamma] = [of("alpha"), of("beta"), of("gamma")]
  await world.settle()
  await alpha.set("x", "x-canary", ["beta", "gamma", "delta"])
  await world.settle()
  writeFileSync(`${beta.directory}/secrets`, Buffer.alloc(100, 1))
  beta.makeKeeper()
  t.equal(await beta.get("x"), "(pending)", "the box in the log was sealed to a key that is lost")
  t.ok(beta.envelopes().some(({ type, body }) => type === "node.recovered/1" && (body as { what: string }).what === "secrets"))
  await world.settle()
  t.equal(await beta.get("x"), "x-canary")
  // Alpha seals to a reader key that beta is about to replace.
  await alpha.set("y", "y-canary", ["beta"])
  writeFileSync(`${beta.directory}/secrets`, Buffer.alloc(0))
  beta.makeKeeper()
  await beta.step()
  beta.hear(alpha)
  t.equal(await beta.get("y"), "(pending)")
  await world.settle()
  t.equal(await beta.get("y"), "y-canary", "the courier gives it again")
  // Gamma gives beta a wrong key before anybody else can.
  const { item = "" } = gamma.view().secrets.get("x")?.lines[0]?.live[0] ?? {}
  writeFileSync(`${beta.directory}/secrets`, Buffer.alloc(5))
  beta.makeKeeper()
  await beta.step()
  gamma.hear(beta)
  const reader = gamma.view().readerOf(beta.id)?.key ?? ""
  gamma.say([{ type: "secret.shared/1", subject: "secret/x", body: { name: "x", item: fromHex(item), boxes: [{ reader: fromHex(reader), sealed: sealTo(randomBytes(32), reader) }] } }])
  alpha.hear(gamma)
  beta.hear(gamma)
  await world.settle()
  t.equal(await beta.get("x"), "x-canary")
  t.ok(beta.view().readerOf(beta.id)?.refused.has(gamma.id), "and who gave the wrong one is named")
})

t.test("two copies of one store do not fight for ever", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"])
  const beta = of("beta")
  await world.settle()
  await of("alpha").set("x", "x-canary", ["beta"])
  await world.settle()
  const backup = readFileSync(`${beta.directory}/secrets`)
  await of("alpha").set("y", "y", ["beta"])
  await of("alpha").remove("y")
  await world.settle()
  writeFileSync(`${beta.directory}/secrets`, backup)
  beta.makeKeeper()
  await world.settle()
  t.equal(await beta.get("x"), "x-canary", "a store that was put back from a backup goes on under a new reader key")
  const [newest, own] = [beta.view().readerOf(beta.id)?.key, toHex((await SecretStore.open(beta.directory, meshId, beta.keyPair)).readerKeys?.publicKey ?? new Uint8Array())]
  t.equal(newest, own)
})

t.test("the store survives a crash at every point of its writing", async (t) => {
  const directory = t.testdir()
  const device = keyPair("alpha")
  const store = await SecretStore.open(directory, meshId, device)
  const file = join(directory, "secrets")
  const state = (n: number) => ({ reader: { generation: n, seed: randomBytes(32) }, items: new Map([[key(`item ${n}`), { name: `n${n}`, key: randomBytes(32) }]]), destroyed: new Map([[key("gone"), "gone"]]) })
  await store.write(state(1))
  const one = readFileSync(file)
  const before = openSync(file, "r")
  await store.write(state(2))
  const left = Buffer.alloc(one.byteLength, 1)
  t.equal(readSync(before, left, 0, left.byteLength, 0), one.byteLength)
  closeSync(before)
  t.ok(left.every((byte) => byte === 0), "the file that it took the place of is overwritten")
  const two = readFileSync(file)
  t.notOk(two.includes(Buffer.from(device.secretKey.subarray(0, 32))))
  const generation = async (files: Readonly<Record<string, Uint8Array>>): Promise<number> => {
    for (const name of readdirSync(directory)) rmSync(join(directory, name))
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(directory, name), bytes)
    const opened = await SecretStore.open(directory, meshId, device)
    t.same(readdirSync(directory).filter((name) => name !== "secrets"), [], "nothing is left beside it")
    return opened.state.reader?.generation ?? 0
  }
  t.equal(await generation({ secrets: one, "secrets.new": two.subarray(0, 20) }), 1)
  t.equal(await generation({ secrets: one, "secrets.new": two }), 1)
  t.equal(await generation({ "secrets.old": one, "secrets.new": two }), 2)
  t.equal(await generation({ "secrets.old": one, "secrets.new": two.subarray(0, 20) }), 1)
  t.equal(await generation({ secrets: two, "secrets.old": one }), 2)
  t.equal(await generation({}), 0)
  for (const bytes of [two.subarray(0, 50), Buffer.alloc(0), Buffer.from([0, ...two.subarray(1)])]) t.equal(await generation({ secrets: bytes }), 0)
  const newer = Buffer.from([9, ...two.subarray(1)])
  writeFileSync(file, newer)
  t.equal((await SecretStore.open(directory, meshId, device)).state.items.size, 0, "what a newer version wrote cannot be read")
  t.same(readFileSync(`${file}.newer`), newer, "and is put aside whole")
  await (await SecretStore.open(directory, meshId, device)).destroy()
  t.same(readdirSync(directory), [], "until all is destroyed")
  writeFileSync(file, two)
  t.equal((await SecretStore.open(directory, meshId, keyPair("beta"))).state.items.size, 0, "another device opens nothing")
})

t.test("reads are recorded at once and then counted", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"])
  const alpha = of("alpha")
  await alpha.set("x", "v")
  const reads = () => alpha.envelopes().filter(({ type }) => type === "secret.read/1").map(({ actor, body }) => [actor, (body as { times: number }).times])
  for (let i = 0; i < 5; i++) await alpha.get("x")
  await alpha.get("x", "person:Ann")
  t.same(reads(), [["device", 1], ["person:Ann", 1]])
  world.ms += noteWindowMs
  await alpha.get("x")
  t.same(reads(), [["device", 1], ["person:Ann", 1], ["device", 5]])
  await alpha.get("x")
  await Effect.runPromise(alpha.keeper.flush(true))
  t.same(reads().at(-1), ["device", 1])
})

t.test("events in any order, again and again, in parts: one state", async (t) => {
  for (let seed = 1; seed <= 6; seed++) {
    const random = chance(seed)
    const world = new World(t.testdir({ [`s${seed}`]: {} }) + `/s${seed}`)
    for (const [name, role] of [["alpha", "owner"], ["beta", "member"], ["gamma", "member"], ["delta", "admin"]] as const) world.add(name, role)
    world.agents.set("bot", ["beta", "delta"])
    for (let step = 0; step < 30; step++) {
      const device = random.pick(world.devices)
      const name = random.pick(["a", "b", "c"])
      const act = random.below(8)
      if (act < 3) await device.set(name, `value ${step}`, random.pick([["alpha"], ["role:member"], ["agent:bot"], ["beta", "delta"]]))
      else if (act === 3) await device.rotate(name, random.below(2) === 0 ? undefined : `value ${step}`)
      else if (act === 4) await device.remove(name)
      else if (act === 5) await device.step()
      else device.hear(random.pick(world.devices))
      world.ms += random.below(3_000)
      if (random.below(10) === 0) hostile(device, random)
    }
    const frames = world.devices.flatMap((device) => device.frames.map((bytes, block) => ({ device, bytes, block })))
    const ids = world.devices.map(({ id }) => id)
    const seen = new Set<string>()
    for (let order = 0; order < 4; order++) {
      const tables = new Tables(`${world.directory}/order${order}.db`)
      const shuffled = order === 0 ? frames : random.shuffle([...frames, ...frames.slice(0, 10)])
      for (const { device, bytes, block } of shuffled) foldFrame(tables, device.log, block, bytes, device.id)
      seen.add(tables.fingerprint().secrets + viewText(new SecretsView(tables.secrets, world.membership(), (agent) => world.agents.get(agent)), ids))
      tables.close()
    }
    t.equal(seen.size, 1, `seed ${seed}, ${frames.length} frames`)
    await world.settle()
    const [first, ...others] = world.devices.map((device) => viewText(device.view(), ids))
    t.ok(others.every((text) => text === first), "when all have heard all, all see the same")
    for (const { name, lines } of world.devices[0]?.view().secrets.values() ?? []) {
      const version = lines[0]?.live[0]
      if (version === undefined) continue
      const values = new Set<string>()
      for (const device of world.devices) {
        for (const actor of ["device", "agent:bot"]) if (device.view().mayUse(version, device.id, actor)) values.add(await device.get(name, actor))
      }
      t.ok(values.size <= 1 && !values.has("(denied)"), `whoever may use ${name} has one value: ${[...values].join()}`)
    }
    for (const { tables } of world.devices) tables.close()
  }
})

/** What a member in bad faith may say: it must hurt nobody, and everybody must see the same. */
const hostile = (device: SimDevice, random: ReturnType<typeof chance>): void => {
  const { world } = device
  const victim = random.pick(world.devices)
  const set = victim.envelopes().find(({ type }) => type === "secret.set/1")
  const reader = device.view().readerOf(victim.id)?.key ?? key("none")
  const copied = set?.body as { readonly name: string; readonly version: number } | undefined
  device.say(random.pick<() => ReadonlyArray<Wanted>>([
    () => [{ type: "secret.reader/1", subject: "secrets", body: { generation: 1 + random.below(9), key: fromHex(reader), refused: [] } }],
    () => copied === undefined ? [] : [{ type: "secret.set/1", subject: "secret/a", body: copied }, { type: "secret.set/1", subject: "secret/a", body: { ...copied, owner: device.id, version: 2 ** 31 } }],
    () => [...device.view().secrets.values()].flatMap(({ name, lines }) => lines.flatMap(({ live }) => live.map(({ item }) => ({ type: "secret.removed/1", subject: `secret/${name}`, body: { name, items: [fromHex(item)] } })))),
    () => [...device.view().secrets.values()].flatMap(({ name, lines }) => lines.flatMap(({ live }) => live.map(({ item }) => ({ type: "secret.shredded/1", subject: `secret/${name}`, body: { name, reader: fromHex(reader), items: [fromHex(item), randomBytes(32)] } })))),
    () => [{ type: "secret.shared/1", subject: "secret/a", body: { name: "a", item: randomBytes(32), boxes: [{ reader: fromHex(reader), sealed: Buffer.alloc(80, 3) }, { reader: randomBytes(32), sealed: randomBytes(80) }] } }]
  ])().slice(0, 200).concat([{ type: "secret.held/1", subject: "secrets", body: { reader: fromHex(reader), items: [] } }]))
}

t.test("a member in bad faith takes nothing over, destroys nothing and learns nothing", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"], ["mallory", "member"], ["reader", "reader"])
  const [alpha, beta, mallory, reader] = [of("alpha"), of("beta"), of("mallory"), of("reader")]
  await world.settle()
  await alpha.set("x", "x-canary", ["beta"])
  await beta.set("y", "y-canary", ["alpha"])
  await world.settle()
  const y = alpha.view().secrets.get("y")?.lines[0]?.live[0]
  const x = alpha.view().secrets.get("x")?.lines[0]?.live[0]
  const body = alpha.envelopes().find(({ type }) => type === "secret.set/1")?.body as Record<string, unknown>
  const mine = [`node:${mallory.id}`]
  mallory.say([
    { type: "secret.set/1", subject: "secret/x", body: { ...body, recipients: mine } },
    { type: "secret.set/1", subject: "secret/x", body: { ...body, version: 9, recipients: mine } },
    { type: "secret.set/1", subject: "secret/y", body: { ...body, name: "y", version: 9, owner: beta.id, recipients: mine } },
    { type: "secret.removed/1", subject: "secret/x", body: { name: "x", items: [fromHex(x?.item ?? "")] } },
    { type: "secret.removed/1", subject: "secret/y", body: { name: "y", items: [fromHex(y?.item ?? "")] } },
    { type: "secret.shredded/1", subject: "secret/x", body: { name: "x", reader: randomBytes(32), items: [fromHex(x?.item ?? "")] } },
    { type: "secret.reader/1", subject: "secrets", body: { generation: 2 ** 31, key: fromHex(alpha.view().readerOf(beta.id)?.key ?? ""), refused: [alpha.id] } }
  ])
  reader.say([{ type: "secret.set/1", subject: "secret/z", body: { ...body, name: "z", owner: alpha.id } }, { type: "secret.removed/1", subject: "secret/x", body: { name: "x", items: [fromHex(x?.item ?? "")] } }])
  await world.settle()
  t.equal(await beta.get("x"), "x-canary")
  t.equal(await alpha.get("y"), "y-canary")
  t.notOk(alpha.view().secrets.has("z"))
  t.same(loot(world, [mallory, reader]), [])
  t.ok(alpha.view().holds(beta.id, x?.item ?? ""))
  await alpha.remove("x")
  await world.settle()
  t.equal(alpha.view().shredded(mallory.id, x?.item ?? ""), undefined, "it never gave a receipt that counts")
  t.ok(alpha.view().shredded(beta.id, x?.item ?? "") !== undefined)
})

t.test("a box for somebody who is away is given once", async (t) => {
  const { world, of } = worldOf(t, ["alpha", "owner"], ["beta", "member"], ["gamma", "member"])
  const [alpha, beta, gamma] = [of("alpha"), of("beta"), of("gamma")]
  world.agents.set("bot", ["beta"])
  await world.settle()
  await alpha.set("x", "x-canary", ["agent:bot"])
  await world.settle()
  await alpha.step()
  world.agents.set("bot", ["gamma"])
  for (let i = 0; i < 3; i++) await world.settle([alpha, beta])
  t.equal([...alpha.envelopes(), ...beta.envelopes()].filter(({ type }) => type === "secret.shared/1").length, 1, "by beta, which is a recipient no more")
  await world.settle()
  t.equal(await gamma.get("x", "agent:bot"), "x-canary")
})

t.test("bodies that do not fit are no events", async (t) => {
  const good = {
    name: "x", version: 1, owner: key("a"), fresh: true, recipients: [`node:${key("a")}`, "role:member", "agent:bot"], nonce: new Uint8Array(24), commit: key("c"),
    cipher: new Uint8Array(300), boxes: [{ reader: new Uint8Array(32), sealed: new Uint8Array(80) }]
  }
  t.ok(Result.isSuccess(decodeBody("secret.set/1", good)))
  for (const wrong of [
    { name: "../x" }, { name: "x".repeat(97) }, { name: 1 }, { version: 0 }, { version: 1.5 }, { version: 2 ** 32 }, { owner: "a" }, { recipients: ["person:ann"] }, { recipients: Array(65).fill("role:member") },
    { nonce: new Uint8Array(23) }, { cipher: new Uint8Array(secretCipherBytesMax + 1) }, { commit: "zz" }, { boxes: Array(97).fill(good.boxes[0]) }, { boxes: [{ reader: new Uint8Array(31), sealed: new Uint8Array(80) }] },
    { boxes: [{ reader: new Uint8Array(32), sealed: new Uint8Array(81) }] }, { boxes: null }, { fresh: 1 }
  ]) t.ok(Result.isFailure(decodeBody("secret.set/1", { ...good, ...wrong })), Object.keys(wrong).join())
  t.ok(Result.isFailure(decodeBody("secret.removed/1", { name: "x", items: Array(257).fill(new Uint8Array(32)) })))
  t.ok(Result.isFailure(decodeBody("secret.reader/1", { generation: -1, key: new Uint8Array(32), refused: [] })))
})

t.test("tokens in any event are found, and masked in what the node itself says", async (t) => {
  const token = `ghp_${"a1B2".repeat(9)}`
  t.same(secretInEvent("command.done/1", { name: "x", detail: `set it to ${token}, thanks` }), { path: "command.done/1.detail", kind: "a GitHub token" })
  t.same(secretInEvent("x.y/1", { a: [{ b: ["fine", { [token]: 1 }] }] })?.kind, "a GitHub token")
  t.equal(secretInEvent("config.changed/1", { change: Buffer.from(token), paths: ["a.b"], summary: "set a.b" }), undefined, "bytes are not looked into")
  for (const body of [null, 1, "text", { detail: "a hash 5eb63bbbe01eeed093cb22bb8f5acdc3 and base64 aGVsbG8gd29ybGQsIGhlbGxvIHdvcmxk" }, { detail: "see ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" }]) t.equal(secretInEvent("x.y/1", body), undefined)
  let deep: unknown = token
  for (let i = 0; i < 10_000; i++) deep = [deep]
  t.equal(secretInEvent("x.y/1", deep), undefined, "deeper than a frame holds is no event")
  const pem = `-----BEGIN OPENSSH PRIVATE KEY-----\n${"QUJD".repeat(20)}\n${"REVG".repeat(20)}\n-----END OPENSSH PRIVATE KEY-----`
  t.equal(maskSecrets(`could not read ${token} and ${pem}; went on`), "could not read (a GitHub token) and (a private key); went on")
  t.equal(maskSecrets(`half ${pem.slice(0, 90)}`), "half (a private key)")
  t.equal(maskSecrets("nothing here, AKIAIOSFODNN7EXAMPLE is an example"), "nothing here, AKIAIOSFODNN7EXAMPLE is an example")
  for (const evil of ["-----BEGIN ".repeat(6_000), `-----BEGIN PRIVATE KEY-----${"-".repeat(60_000)}`, "sk-".repeat(20_000), "xoxb-".repeat(12_000)]) {
    const begun = performance.now()
    maskSecrets(evil)
    secretInEvent("x.y/1", { detail: evil })
    t.ok(performance.now() - begun < 200, "in time linear in the text")
  }
})
