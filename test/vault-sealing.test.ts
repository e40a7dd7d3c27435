/** Secrets at rest: every lock, what is damaged or hostile, and a crash between any two writes. */
import { randomBytes } from "node:crypto"
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import t, { type Test } from "tap"
import { toHex, utf8 } from "../src/codec/bytes.ts"
import { encodeCbor } from "../src/codec/cbor.ts"
import { besideEnding, removeWhole, writeWhole } from "../src/vault/files.ts"
import { lookAtHome } from "../src/vault/home.ts"
import { argonMemKiBMax, argonOpsMax, isSealed, type Lock, openSecret, sealSecret, unwrapHomeKey, type Way, wrapHomeKey } from "../src/vault/sealing.ts"
import { VaultError } from "../src/vault/vault-error.ts"
import { type Unlock, Vault, type VaultFiles } from "../src/vault/vault.ts"

/** The least that is allowed, so that hundreds of openings fit into a test. */
const cheap = { ops: 1, memKiB: 8 * 1024 }
const mesh = "ab".repeat(32)
const keyOf = (byte: number) => Buffer.alloc(32, byte)

const lockBy = (way: Way, secret: string): Lock => ({ way, name: way === "passphrase" ? "" : way === "credential" ? "kos-home-key" : "/media/stick/kos.key", secret: utf8(secret), cost: cheap })
const passphrase = (text: string): Lock => lockBy("passphrase", text)
const giving = (text: string): Unlock => async () => utf8(text)
const long = "0123456789abcdef0123456789abcdef"

/** Everything that a home knows, for comparing. */
const knows = async (vault: Vault): Promise<unknown> => ({
  device: vault.deviceId, mesh: toHex(await vault.meshKey(mesh)), log: toHex((await vault.logKeyPair(mesh)).keyPair.secretKey), recovery: toHex(await vault.recovery(mesh) ?? keyOf(0))
})

/** A home with five secrets, raw. */
const rawHome = async (t: Test): Promise<{ readonly home: string; readonly known: unknown }> => {
  const home = join(t.testdir(), "home")
  const vault = await Vault.create(home)
  await vault.addMesh(mesh, keyOf(1), keyOf(2))
  await vault.nextLogKeyPair(mesh)
  await vault.keepRecovery(mesh, keyOf(3))
  return { home, known: await knows(vault) }
}

const open = async (home: string, unlock?: Unlock, files?: VaultFiles): Promise<Vault> => {
  const vault = await Vault.open(home, { ...(unlock === undefined ? {} : { unlock }), ...(files === undefined ? {} : { files }) })
  if (vault === undefined) throw new Error("there is no vault")
  return vault
}

const secretFiles = (home: string): ReadonlyArray<string> => readdirSync(home, { recursive: true, encoding: "utf8" })
  .filter((name) => /(^|\/)keys\//.test(name)).map((name) => join(home, name)).filter((path) => statSync(path).isFile() && !path.endsWith("keys/home"))

const failure = async (work: Promise<unknown>): Promise<VaultError> => {
  const cause = await work.then(() => undefined, (thrown: unknown) => thrown)
  if (cause instanceof VaultError) return cause
  throw cause instanceof Error ? cause : new Error(`it was to fail with a VaultError, not with ${String(cause)}`)
}

/** A sentence, not a stack and not two. */
const isSentence = (text: string): boolean => text.length > 10 && text.length < 400 && !text.includes("\n") && !/\bat .*\.ts:/.test(text)

t.test("a home is sealed by each lock, opens by it, and can be unsealed", async (t) => {
  for (const way of ["passphrase", "credential", "key-file"] as const) {
    const { home, known } = await rawHome(t)
    const vault = await open(home)
    t.equal(vault.sealed(), undefined)
    await vault.seal(lockBy(way, long))
    t.match(vault.sealed(), { way })
    t.same(await knows(vault), known, `${way}: a vault that is open goes on`)
    for (const path of secretFiles(home)) {
      t.ok(isSealed(readFileSync(path)), `${path} is sealed`)
      t.equal(statSync(path).mode & 0o777, 0o600)
    }
    t.same((await lookAtHome(home))?.device, vault.deviceId, "the device is told without any secret")
    t.same(await knows(await open(home, giving(long))), known)
    t.equal((await failure(open(home))).reason, "locked")
    const wrong = await failure(open(home, giving("f".repeat(32))))
    t.equal(wrong.reason, "wrong")
    t.ok(isSentence(wrong.message), wrong.message)
    const again = await open(home, giving(long))
    const next = await again.nextLogKeyPair(mesh)
    t.ok(secretFiles(home).every((path) => isSealed(readFileSync(path))), "a new log's seed is sealed as it is made")
    await again.unseal()
    t.notOk(existsSync(`${home}/keys/home`))
    t.notOk(secretFiles(home).some((path) => isSealed(readFileSync(path))))
    t.same((await (await open(home)).logKeyPair(mesh)).keyPair.publicKey, next.keyPair.publicKey)
  }
})

t.test("another passphrase writes one file, and a lock of another way takes its place", async (t) => {
  const { home, known } = await rawHome(t)
  const vault = await open(home)
  await vault.seal(passphrase("first"))
  const before = secretFiles(home).map((path) => readFileSync(path))
  await vault.seal(passphrase("second"))
  t.same(secretFiles(home).map((path) => readFileSync(path)), before, "no secret was written")
  t.equal((await failure(open(home, giving("first")))).reason, "wrong")
  await (await open(home, giving("second"))).seal(lockBy("key-file", long))
  t.same(await knows(await open(home, async (header) => {
    t.match(header, { way: "key-file", name: "/media/stick/kos.key" })
    return utf8(long)
  })), known)
})

t.test("a home can be sealed from its first key on", async (t) => {
  const home = join(t.testdir(), "home")
  const writes: Array<string> = []
  const vault = await Vault.create(home, { lock: passphrase("first"), files: { write: async (path, bytes) => { writes.push(toHex(bytes)); await writeWhole(path, bytes) }, remove: removeWhole } })
  const seed = toHex(vault.deviceSeed())
  await vault.addMesh(mesh, keyOf(1), keyOf(2))
  t.notOk(writes.some((bytes) => bytes.includes(seed) || bytes.includes(toHex(keyOf(1)))), "no raw key was ever written")
  t.equal((await open(home, giving("first"))).deviceId, vault.deviceId)
})

t.test("locks that are no locks are refused", async (t) => {
  const { home, known } = await rawHome(t)
  const vault = await open(home)
  for (const lock of [passphrase(""), lockBy("key-file", "too short"), lockBy("credential", "x".repeat(70_000))]) {
    const refused = await failure(vault.seal(lock))
    t.equal(refused.reason, "refused")
    t.ok(isSentence(refused.message), refused.message)
  }
  t.same(await knows(await open(home)), known, "and nothing changed")
})

t.test("the secret that unlocks is overwritten after use", async (t) => {
  const { home } = await rawHome(t)
  await (await open(home)).seal(passphrase("first"))
  const given = utf8("first")
  await open(home, async () => given)
  t.same(given, new Uint8Array(5))
  const wrong = utf8("wrong")
  await failure(open(home, async () => wrong))
  t.same(wrong, new Uint8Array(5))
})

t.test("a missing home key, or a missing device key, is said and makes nothing anew", async (t) => {
  const { home } = await rawHome(t)
  await (await open(home)).seal(passphrase("first"))
  renameSync(`${home}/keys/home`, `${home}/elsewhere`)
  t.equal((await failure(open(home, giving("first")))).reason, "missing")
  t.equal((await failure(lookAtHome(home))).reason, "missing")
  renameSync(`${home}/elsewhere`, `${home}/keys/home`)
  rmSync(`${home}/keys/device`)
  t.equal(await Vault.open(home, { unlock: giving("first") }), undefined)
  t.equal((await failure(Vault.create(home))).reason, "missing", "no second device key beside keys of meshes")
  t.ok(existsSync(`${home}/keys/home`))
})

t.test("a key file that is swapped for another, or for another home's, does not pass", async (t) => {
  const { home } = await rawHome(t)
  await (await open(home)).seal(passphrase("first"))
  const keys = `${home}/mesh/${mesh.slice(0, 16)}/keys`
  cpSync(`${keys}/log.1`, `${keys}/log.2`)
  t.equal((await failure((await open(home, giving("first"))).logKeyPair(mesh))).reason, "damaged")
  writeFileSync(`${home}/keys/device`, randomBytes(32))
  t.equal((await failure(open(home, giving("first")))).reason, "damaged", "a raw device key that is not this home's")
})

t.test("every flipped byte and every length of a key file is one sentence, and damages nothing", async (t) => {
  const { home, known } = await rawHome(t)
  await (await open(home)).seal(passphrase("first"))
  for (const name of ["keys/home", "keys/device"]) {
    const path = `${home}/${name}`
    const whole = readFileSync(path)
    const tried = async (bytes: Uint8Array, what: string) => {
      writeFileSync(path, bytes)
      const failed = await failure(open(home, giving("first")))
      if (!["wrong", "damaged"].includes(failed.reason) || !isSentence(failed.message)) t.fail(`${what}: ${failed.reason}, ${failed.message}`)
      if (!readFileSync(path).equals(bytes)) t.fail(`${what}: the file was written`)
    }
    for (let at = 0; at < whole.byteLength; at++) {
      const flipped = Buffer.from(whole)
      flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8))
      await tried(flipped, `${name} with byte ${at} flipped`)
      await tried(whole.subarray(0, at), `${name} cut to ${at} bytes`)
    }
    await tried(Buffer.concat([whole, Buffer.alloc(1)]), `${name} with a byte more`)
    await tried(Buffer.alloc(200_000, 7), `${name} grown large`)
    writeFileSync(path, whole)
  }
  t.same(await knows(await open(home, giving("first"))), known)
})

t.test("a hostile header gets no memory, no time and no device of this machine", async (t) => {
  const { home } = await rawHome(t)
  const honest = { way: "passphrase", name: "", device: keyOf(1), ops: 1, memKiB: 8 * 1024, salt: Buffer.alloc(16), nonce: Buffer.alloc(24) }
  const put = (header: Record<string, unknown>) => {
    const body = encodeCbor(header)
    const size = Buffer.alloc(2)
    size.writeUInt16BE(body.byteLength)
    writeFileSync(`${home}/keys/home`, Buffer.concat([utf8("kos/home-key/1\n"), size, body, Buffer.alloc(48)]))
  }
  put(honest)
  t.equal((await failure(open(home, giving("first")))).reason, "wrong", "the honest one is tried")
  for (const bad of [
    { memKiB: 100 * 1024 * 1024 }, { memKiB: argonMemKiBMax + 1 }, { memKiB: 0 }, { memKiB: -1 }, { memKiB: 1.5 }, { ops: 1e9 }, { ops: argonOpsMax + 1 }, { ops: 0 }, { way: "none" },
    { salt: Buffer.alloc(8) }, { nonce: Buffer.alloc(12) }, { device: Buffer.alloc(31) }, { name: "x".repeat(5_000) }, { salt: "text" }
  ]) {
    put({ ...honest, ...bad })
    const began = performance.now()
    const failed = await failure(open(home, giving("first")))
    t.match([failed.reason, isSentence(failed.message)], ["damaged", true], `${Object.keys(bad).join()}: ${failed.message}`)
    t.ok(performance.now() - began < 1_000)
  }
  rmSync(`${home}/keys/home`)
  mkdirSync(`${home}/keys/home`)
  t.equal((await failure(open(home, giving("first")))).reason, "damaged", "a directory is no key")
})

t.test("sealed bytes of one place do not open at another, nor under another key", async (t) => {
  const key = randomBytes(32)
  const sealed = sealSecret(key, "keys/device", keyOf(9))
  t.same(openSecret(key, "keys/device", sealed), new Uint8Array(keyOf(9)))
  t.throws(() => openSecret(key, "keys/other", sealed), /damaged/)
  t.throws(() => openSecret(randomBytes(32), "keys/device", sealed), /damaged/)
  t.notSame(sealSecret(key, "keys/device", keyOf(9)), sealed, "the same secret is never sealed to the same bytes")
  const wrapped = await wrapHomeKey(key, keyOf(1), lockBy("credential", long))
  t.same(await unwrapHomeKey(wrapped, "home", utf8(long)), new Uint8Array(key))
})

/** Fails at the nth write or removal: before it, in the midst of it (a torn file beside), or right after it. */
const failingAt = (nth: number, how: "before" | "torn" | "after"): { readonly files: VaultFiles; readonly steps: () => number } => {
  let step = 0
  const crash = () => new Error("power cut")
  const doing = async (work: () => Promise<void>, torn: () => void) => {
    const now = step++
    if (now > nth) throw crash()
    if (now === nth && how === "before") throw crash()
    if (now === nth && how === "torn") {
      torn()
      throw crash()
    }
    await work()
    if (now === nth) throw crash()
  }
  return {
    steps: () => step,
    files: {
      write: (path, bytes) => doing(() => writeWhole(path, bytes), () => writeFileSync(`${path}${besideEnding}`, bytes)),
      remove: (path) => doing(() => removeWhole(path), () => undefined)
    }
  }
}

const opensOneOf = async (home: string, unlocks: ReadonlyArray<Unlock | undefined>): Promise<Vault> => {
  const causes: Array<unknown> = []
  for (const unlock of unlocks) {
    try {
      return await open(home, unlock)
    } catch (cause) {
      causes.push(cause)
    }
  }
  throw new Error(`the home does not open: ${causes.map(String).join("; ")}`)
}

t.test("a power cut at any write leaves a home that opens", async (t) => {
  const works: ReadonlyArray<{ readonly name: string; readonly before?: string; readonly work: (vault: Vault) => Promise<void>; readonly unlocks: ReadonlyArray<string | undefined> }> = [
    { name: "sealing", work: (vault) => vault.seal(passphrase("new")), unlocks: [undefined, "new"] },
    { name: "unsealing", before: "old", work: (vault) => vault.unseal(), unlocks: ["old", undefined] },
    { name: "another passphrase", before: "old", work: (vault) => vault.seal(passphrase("new")), unlocks: ["old", "new"] },
    { name: "another log", before: "old", work: async (vault) => { await vault.addMesh(mesh, keyOf(1), keyOf(7)) }, unlocks: ["old"] }
  ]
  for (const { name, before, work, unlocks } of works) {
    const { home: model, known } = await rawHome(t)
    if (before !== undefined) await (await open(model)).seal(passphrase(before))
    const dry = failingAt(Number.POSITIVE_INFINITY, "before")
    const unlockOld = before === undefined ? undefined : giving(before)
    cpSync(model, `${model}.dry`, { recursive: true })
    await work(await open(`${model}.dry`, unlockOld, dry.files))
    t.ok(dry.steps() > 0)
    for (let nth = 0; nth < dry.steps(); nth++) {
      for (const how of ["before", "torn", "after"] as const) {
        const home = `${model}.${nth}.${how}`
        cpSync(model, home, { recursive: true })
        await t.rejects(work(await open(home, unlockOld, failingAt(nth, how).files)), { message: "power cut" })
        const vault = await opensOneOf(home, unlocks.map((text) => text === undefined ? undefined : giving(text)))
        const what = `${name}, ${how} write ${nth}`
        const now = await knows(vault)
        if (name === "another log") t.match(now, { device: vault.deviceId, mesh: toHex(keyOf(1)) }, what)
        else t.same(now, known, what)
        const left = secretFiles(home)
        t.notOk(left.some((path) => path.endsWith(besideEnding)), `${what}: nothing half-written is left`)
        const sealed = left.filter((path) => isSealed(readFileSync(path))).length
        t.ok(sealed === 0 || sealed === left.length, `${what}: after opening, all of it is sealed or none`)
        // What was begun can be done again, and done whole.
        await work(vault)
        await opensOneOf(home, unlocks.map((text) => text === undefined ? undefined : giving(text)))
      }
    }
  }
})

t.test("a disk that cannot be written does not keep a home from opening", async (t) => {
  const { home, known } = await rawHome(t)
  await t.rejects((await open(home, undefined, failingAt(1, "before").files)).seal(passphrase("new")))
  const readOnly: VaultFiles = { write: () => Promise.reject(new Error("read-only")), remove: () => Promise.reject(new Error("read-only")) }
  t.same(await knows(await open(home, giving("new"), readOnly)), known)
})
