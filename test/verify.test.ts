import { Result } from "effect"
import sodium from "sodium-native"
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import t from "tap"
import { encodeEvent, frameKey, openFrame, sealFrame } from "../src/codec/frame.ts"
import { hashParts } from "../src/codec/hash.ts"
import { keyPairFromSeed, randomBytes, sign } from "../src/codec/signature.ts"
import { decodeProof, encodeProof, type ProofFile } from "../src/codec/verify/format.ts"
import { run } from "../src/codec/verify/main.ts"
import shim from "../src/codec/verify/sodium-shim.ts"
import { checkProof, verifyProof } from "../src/codec/verify/verify.ts"
import { HypercoreStore } from "../src/events/hypercore-store.ts"
import { hypercoreProofSource } from "../src/events/proof.ts"
import { chance, deviceOf, keyPair, must, mustFail } from "./membership-world.ts"
import { join as joinLogs } from "./durability/replicate.ts"
import { event, proofWorld } from "./verify-world.ts"

const world = await proofWorld(t.testdir(), 21, true)
t.teardown(() => world.close())
const at = (log: string, block: number, offset: number) => ({ log, block, offset })
const chosen = [
  at(world.benLog, 20, 0), at(world.annLog, 0, 0), at(world.annLog, 7, 2), at(world.annLog, 7, 0), at(world.annLog, 16, 1), at(world.benLog, 3, 1)
]
const good = must(await world.prove(chosen))

/** The file with its own hash made right again, as a forger would. */
const repaired = (bytes: Uint8Array): Uint8Array => {
  const body = bytes.subarray(0, bytes.byteLength - 32)
  return Buffer.concat([body, hashParts("kos/proof/1", body)])
}
const flipped = (bytes: Uint8Array, place: number, bit: number): Uint8Array => {
  const out = new Uint8Array(bytes)
  out[place] = (out[place] ?? 0) ^ (1 << bit)
  return out
}

t.test("a proof of real logs holds and shows exactly the chosen events", async (t) => {
  const report = must(verifyProof(good))
  t.same(report.faults, [])
  t.equal(report.proved, true)
  t.match(report.mesh, { id: world.mesh, name: "hill" })
  t.equal(report.logs.length, 2)
  const shown = report.logs.flatMap((log) => log.events.map((e) => `${log.log}/${e.block}.${e.offset}`))
  t.same([...shown].sort(), chosen.map((a) => `${a.log}/${a.block}.${a.offset}`).sort())
  for (const log of report.logs) {
    t.equal(log.length, 21)
    t.equal(log.device, log.log === world.annLog ? deviceOf("ann") : deviceOf("ben"))
    t.equal(log.deviceName, log.log === world.annLog ? "alpha" : "attic")
    for (const { block, offset, event } of log.events) t.same(event, world.truth.get(`${log.log}/${block}.${offset}`))
  }
  t.equal(good.length < 40_000, true, `${good.length} bytes`)
})

t.test("no byte can be changed: 500 places as they are, 1,000 with the file's hash made right again", async (t) => {
  const { below } = chance(2)
  for (let i = 0; i < 500; i++) {
    const place = below(good.length)
    const outcome = verifyProof(flipped(good, place, below(8)))
    if (Result.isSuccess(outcome) && outcome.success.proved) t.fail(`byte ${place} changed and it is still proved`)
  }
  let otherChoice = 0
  for (let i = 0; i < 1_000; i++) {
    const place = below(good.length - 32)
    const outcome = verifyProof(repaired(flipped(good, place, below(8))))
    if (Result.isFailure(outcome) || !outcome.success.proved) continue
    // Which events of an opened frame are shown is the shower's choice; what is shown must be true all the same.
    otherChoice++
    for (const log of outcome.success.logs) {
      for (const { block, offset, event } of log.events) {
        if (JSON.stringify(event) !== JSON.stringify(world.truth.get(`${log.log}/${block}.${offset}`))) t.fail(`byte ${place}: a false event is proved`)
      }
    }
    if (outcome.success.mesh.id !== world.mesh) t.fail(`byte ${place}: another mesh is proved`)
  }
  t.ok(otherChoice < 10, `${otherChoice} of 1,000 changes chose other true events`)
  for (let i = 0; i < 200; i++) {
    const cut = good.subarray(0, below(good.length))
    if (Result.isSuccess(verifyProof(cut)) || Result.isSuccess(verifyProof(repaired(cut)))) t.fail("a cut file was read")
  }
})

t.test("each lie is named", async (t) => {
  const file = must(decodeProof(good))
  const faults = (change: (copy: ProofFile) => ProofFile) => {
    const report = checkProof(change(file))
    t.equal(report.proved, false)
    return report.faults.join("; ")
  }
  const logs = (change: (log: ProofFile["logs"][number], i: number) => ProofFile["logs"][number]) => (f: ProofFile) => ({ ...f, logs: f.logs.map(change) })
  const frames = (change: (frame: ProofFile["logs"][number]["frames"][number]) => object) =>
    logs((log) => ({ ...log, frames: log.frames.map((frame) => ({ ...frame, ...change(frame) })) }))
  const [first, second] = file.logs
  if (first === undefined || second === undefined) throw new Error("two logs were proven")
  t.match(faults((f) => ({ ...f, logs: [...f.logs].reverse() })), /logs are not in order/)
  t.match(faults(logs((log) => ({ ...log, frames: [...log.frames].reverse() }))), /blocks are not in order/)
  t.match(faults(frames(({ offsets }) => ({ offsets: [...offsets, ...offsets] }))), /events are not in order/)
  t.match(faults(frames(() => ({ offsets: [7] }))), /no event 7/)
  t.match(faults(frames(({ block }) => ({ block: block + 1 }))), /not the block that the writer signed|wrong length|blocks only/)
  t.match(faults(frames(({ block }) => ({ block: block + 100 }))), /had 21 blocks only/)
  t.match(faults(frames(() => ({ key: new Uint8Array(32) }))), /is not committed to this key/)
  t.match(faults(frames(({ sealed }) => ({ sealed: flipped(sealed, 40, 1) }))), /not the block that the writer signed/)
  t.match(faults(frames(({ path }) => ({ path: path.slice(1) }))), /wrong length/)
  t.match(faults(logs((log) => ({ ...log, fork: 1 }))), /was not signed by the log's writer/)
  t.match(faults(logs((log) => ({ ...log, signature: log === first ? second.signature : first.signature }))), /was not signed/)
  t.match(faults(logs((log) => ({ ...log, manifest: flipped(log.manifest, 3, 0) }))), /manifest is not of a kOS log/)
  t.match(faults((f) => ({ ...f, operations: f.operations.slice(1) })), /that created the mesh is missing/)
  t.match(faults((f) => ({ ...f, operations: f.operations.filter((_, i) => i !== 1) })), /what it builds on is missing/)
  t.match(faults((f) => ({ ...f, operations: f.operations.slice(0, 1) })), /no member of the mesh attached it/)
  t.match(faults((f) => ({ ...f, operations: f.operations.map((one) => flipped(one, 5, 0)) })), /signature is not the author's/)
  t.match(faults((f) => ({ ...f, mesh: world.annLog })), /another mesh/)
  t.equal(checkProof(file).proved, true, "the unchanged one holds")
})

t.test("a block opens under one key only: what it is committed to stands in its header", async (t) => {
  const place = { log: world.annLog, block: 7 }
  const nonce = randomBytes(24)
  const [key, other] = [1, 2].map((n) => frameKey(new Uint8Array(32).fill(n), place, nonce))
  if (key === undefined || other === undefined) throw new Error("two keys were derived")
  const events = [encodeEvent(event("beans", 1), place.log)]
  const block = sealFrame(events, place, 0, new Uint8Array(32).fill(1), nonce)
  t.equal(must(openFrame(block, place, key)).length, 1)
  t.match(mustFail(openFrame(block, place, other)).why, /not committed to this key/)
  // What a writer of two histories would try: the other key's commitment over the same ciphertext, and the other way round.
  const second = sealFrame(events, place, 0, new Uint8Array(32).fill(2), nonce)
  const crossed = Buffer.concat([second.subarray(0, 61), block.subarray(61)])
  t.match(mustFail(openFrame(crossed, place, key)).why, /not committed to this key/)
  t.match(mustFail(openFrame(crossed, place, other)).why, /does not open with this key/)
  for (let i = 29; i < 61; i++) {
    const bent = flipped(block, i, i % 8)
    if (!/not committed/.test(mustFail(openFrame(bent, place, key)).why)) t.fail(`byte ${i} of the header is not what is checked`)
  }
  t.match(mustFail(openFrame(block, { ...place, block: 8 }, key)).why, /does not open with this key at this place/)
})

t.test("a replica proves as the writer does, also when it holds a part of the log only", async (t) => {
  const home = await mkdtemp(join(tmpdir(), "kos-verify-"))
  t.teardown(() => rm(home, { recursive: true, force: true }))
  const replica = await HypercoreStore.open(join(home, "replica"))
  const [theirs, ours] = [await world.store.session(world.annLog), await replica.session(world.annLog)]
  const part = joinLogs(theirs, ours)
  await ours.update({ wait: true })
  await ours.download({ start: 4, end: 9 }).done()
  await part()
  await theirs.close()
  const source = hypercoreProofSource(ours)
  if (source === undefined) throw new Error("no source")
  const sources = new Map([[world.annLog, source]])
  const wanted = [at(world.annLog, 7, 2), at(world.annLog, 4, 0), at(world.annLog, 8, 1)]
  const report = must(verifyProof(must(await world.prove(wanted, { sources }))))
  t.match(report, { proved: true, faults: [], logs: [{ log: world.annLog, device: deviceOf("ann"), length: 21 }] })
  for (const { block, offset, event } of report.logs[0]?.events ?? []) t.same(event, world.truth.get(`${world.annLog}/${block}.${offset}`))
  t.match(mustFail(await world.prove([at(world.annLog, 12, 0)], { sources })), { reason: "not-held" }, "a block that was never fetched")
  await ours.close()
  await replica.close()
})

t.test("the mesh is shown by the name that an owner gave it last", async (t) => {
  const home = await mkdtemp(join(tmpdir(), "kos-verify-"))
  const other = await proofWorld(join(home, "store"), 2, false)
  t.teardown(async () => {
    await other.close()
    await rm(home, { recursive: true, force: true })
  })
  other.nameMesh("ann", "The Hill")
  const report = must(verifyProof(must(await other.prove([at(other.benLog, 1, 0)]))))
  t.match(report, { proved: true, mesh: { id: other.mesh, name: "The Hill" } })
})

t.test("what cannot be proved is not exported", async (t) => {
  const why = async (...args: Parameters<typeof world.prove>) => mustFail(await world.prove(...args))
  t.match(await why([]), { reason: "nothing" })
  t.match(await why([at("00".repeat(32), 0, 0)]), { reason: "not-held" })
  t.match(await why([at(world.annLog, 99, 0)]), { reason: "not-held" })
  t.match(await why([at(world.annLog, 1, 9)]), { reason: "not-provable", detail: /no event 9/ })
  t.match(await why([at(world.eveLog, 1, 0)]), { reason: "not-provable", detail: /no member of the mesh attached it/ }, "a stranger's log")
  t.equal(hypercoreProofSource({}), undefined)
})

t.test("a log that grew, was attached late or was closed is proved up to where it counts", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "kos-verify-"))
  const other = await proofWorld(directory, 5, false)
  t.teardown(async () => {
    await other.close()
    await rm(directory, { recursive: true, force: true })
  })
  other.attach("ben", other.eveLog)
  must(await other.prove([at(other.eveLog, 4, 0)]))
  other.closeLog("ben", other.eveLog, 3)
  must(await other.prove([at(other.eveLog, 2, 0)]))
  t.match(mustFail(await other.prove([at(other.eveLog, 3, 0)])).detail, /closed it at 3/)
  const grown = new Map(other.sources)
  const source = other.sources.get(other.annLog)
  if (source === undefined) throw new Error("no source")
  const early = await source.head()
  const own = await other.store.openOwn(keyPair("ann-log"))
  await own.append(Buffer.from("one more"), async () => undefined)
  await own.close()
  grown.set(other.annLog, { ...source, head: async () => early })
  const proof = must(await other.prove([at(other.annLog, 4, 0), at(other.annLog, 0, 0)], { sources: grown }))
  t.equal(must(verifyProof(proof)).logs[0]?.length, 5, "the way is as of the earlier head")
})

t.test("the stand-in for libsodium computes the same", async (t) => {
  const { below } = chance(8)
  for (let i = 0; i < 300; i++) {
    const message = Buffer.from(randomBytes(1 + below(400)))
    const key = Buffer.from(randomBytes(32))
    const [a, b] = [Buffer.alloc(32), Buffer.alloc(32)]
    sodium.crypto_generichash(a, message, i % 2 === 0 ? key : undefined)
    shim.crypto_generichash(b, message, i % 2 === 0 ? key : undefined)
    t.ok(a.equals(b)) || t.bailout("hash")
    const pair = keyPairFromSeed(key)
    const signature = Buffer.from(sign(message, pair))
    const bent = Buffer.from(flipped(signature, below(64), below(8)))
    const publicKey = Buffer.from(pair.publicKey)
    if (!shim.crypto_sign_verify_detached(signature, message, publicKey)) t.fail("a good signature is refused")
    if (shim.crypto_sign_verify_detached(bent, message, publicKey)) t.fail("a bent signature is accepted")
    const nonce = Buffer.from(randomBytes(24))
    const ad = Buffer.from(randomBytes(below(50)))
    const sealed = Buffer.alloc(message.byteLength + 16)
    sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(sealed, message, ad, null, nonce, key)
    const opened = Buffer.alloc(message.byteLength)
    shim.crypto_aead_xchacha20poly1305_ietf_decrypt(opened, null, sealed, ad, nonce, key)
    if (!opened.equals(message)) t.fail("it opens to something else")
    const broken = Buffer.from(flipped(sealed, below(sealed.byteLength), below(8)))
    t.throws(() => shim.crypto_aead_xchacha20poly1305_ietf_decrypt(opened, null, broken, ad, nonce, key))
  }
  const zero = Buffer.alloc(32)
  t.equal(shim.crypto_sign_verify_detached(Buffer.alloc(64), Buffer.from("x"), zero), false, "a key of small order signs nothing")
})

t.test("the command prints for a person and for a program, and its exit code says the outcome", async (t) => {
  const path = join(t.testdir(), "p.kosproof")
  const call = (...args: ReadonlyArray<string>) => {
    const out: Array<string> = []
    const err: Array<string> = []
    const code = run(args, (line) => out.push(line), (line) => err.push(line))
    return { code, out: out.join("\n"), err: err.join("\n") }
  }
  await writeFile(path, good)
  const person = call(path)
  t.equal(person.code, 0)
  t.match(person.out, /mesh hill, id /)
  t.match(person.out, /attic \(member\)/)
  t.match(person.out, /proved: 6 events were written/)
  t.match(JSON.parse(call(path, "--json").out), { proved: true, logs: [{ events: [{ event: { body: { bytes: "AQID" } } }] }] })
  t.equal(call(path, "--mesh", world.mesh.slice(0, 16)).code, 0)
  t.match(call(path, "--mesh", "0".repeat(16)), { code: 1, out: /NOT PROVED/ })
  t.equal(call(path, "--mesh").code, 2)
  t.equal(call().code, 2)
  t.match(call(join(t.testdirName, "absent")), { code: 2, err: /cannot be read/ })
  await writeFile(path, repaired(flipped(good, good.length - 60, 0)))
  t.not(call(path).code, 0)
  await writeFile(path, "hello")
  t.match(call(path, "--json"), { code: 2, out: /"malformed"/ })
})

const execute = (file: string, args: ReadonlyArray<string>, cwd: string) =>
  new Promise<{ readonly code: number; readonly out: string }>((done) => {
    execFile(file, args, { cwd, env: {}, timeout: 30_000 }, (error, stdout, stderr) =>
      done({ code: error === null ? 0 : typeof error.code === "number" ? error.code : 99, out: stdout + stderr }))
  })

/** This Node and, when the system has another one, that too. */
const nodes = async (): Promise<ReadonlyArray<string>> => {
  const found = new Set([process.execPath])
  for (const directory of (process.env["PATH"] ?? "").split(delimiter)) {
    const path = join(directory, "node")
    if (existsSync(path)) found.add(await realpath(path))
  }
  return [...found]
}

t.test("the built file runs alone, in an empty directory, on every Node of this machine", async (t) => {
  const home = await mkdtemp(join(tmpdir(), "kos-verify-"))
  t.teardown(() => rm(home, { recursive: true, force: true }))
  const built = join(home, "kos-verify.mjs")
  t.equal((await execute(process.execPath, [new URL("../src/codec/verify/build.mjs", import.meta.url).pathname, built], home)).code, 0)
  t.notMatch(await readFile(built, "utf8"), /from "(?!node:|zlib")/, "nothing but Node's own modules is imported")
  const small = await proofWorld(join(home, "store"), 3, false)
  await writeFile(join(home, "plain"), must(await small.prove([at(small.annLog, 1, 0)])))
  await small.close()
  await writeFile(join(home, "packed"), good)
  const { below } = chance(4)
  for (const node of await nodes()) {
    const { out: version } = await execute(node, ["-p", "process.version + ' ' + typeof process.getBuiltinModule?.('zlib')?.zstdDecompressSync"], home)
    t.match(await execute(node, [built, "plain"], home), { code: 0, out: /proved: 1 event was/ }, version)
    t.match(await execute(node, [built, "packed"], home), { code: 0, out: /proved: 6 events/ }, version)
    for (let i = 0; i < 5; i++) {
      await writeFile(join(home, "bent"), repaired(flipped(good, 100 + below(good.length - 200), below(8))))
      t.not((await execute(node, [built, "bent"], home)).code, 0)
    }
    t.equal((await execute(node, [built, "none"], home)).code, 2)
  }
})

t.test("names in a proof cannot move the cursor of who reads it", async (t) => {
  const path = join(t.testdir(), "p.kosproof")
  await writeFile(path, encodeProof(must(decodeProof(good))))
  let out = ""
  run([path], (text) => out += text, () => undefined)
  t.match(out, /person:Ann\ufffd/)
  t.notMatch(out, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/)
})
