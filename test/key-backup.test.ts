/** Backup files and restoration without any daemon: what opens them, what is refused, and what a restoration that was cut short leaves. */
import { generateX25519Identity, identityToRecipient } from "age-encryption"
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Result } from "effect"
import t, { type Test } from "tap"
import { openOperation } from "../src/codec/operation.ts"
import { readIntroduction } from "../src/boot/introduction.ts"
import { resolveMembership } from "../src/projections/membership.ts"
import { type Backup, openBackup, sealBackup } from "../src/vault/backup.ts"
import { VaultError } from "../src/vault/vault-error.ts"
import { Vault } from "../src/vault/vault.ts"
import { fingerprintOf, readRecoveryWords, recoveryKeyPair, recoveryWords } from "../src/vault/words.ts"
import { setRecoveryOperations } from "../src/commands/decide-recovery.ts"
import { signed } from "../src/commands/membership-events.ts"
import { makeKeyring } from "../src/vault/keyring.ts"
import { homesOf, kos, problemOf } from "./daemon-process.ts"
import { fileWith } from "./key-help.ts"

const run = (home: string, argv: ReadonlyArray<string>) => kos(["--home", home, "--json", ...argv])
const answer = async (home: string, argv: ReadonlyArray<string>) => {
  const ran = await run(home, argv)
  if (ran.code !== 0) throw new Error(`kos ${argv.join(" ")}: ${ran.err}`)
  return JSON.parse(ran.out)
}
const refused = async (home: string, argv: ReadonlyArray<string>) => problemOf(await run(home, argv), argv)

const newHome = async (t: Test): Promise<{ readonly directory: string; readonly home: string; readonly device: string }> => {
  const directory = homesOf(t)
  const home = join(directory, "home")
  const { device } = await answer(home, ["init", "attic"])
  return { directory, home, device }
}

t.test("a backup to an age recipient opens with its identity, and every flipped byte is one sentence", async (t) => {
  const { directory, home, device } = await newHome(t)
  const identity = await generateX25519Identity()
  const file = join(directory, "attic.age")
  t.match(await refused(home, ["key", "backup", file, "--recipient", "age1nobody"]), { kind: "usage", code: 2 })
  t.match(await refused(home, ["key", "backup", join(directory, "nowhere", "attic.age"), "--recipient", await identityToRecipient(identity)]), { kind: "not-found" })
  t.match(await refused(home, ["key", "backup", file]), { kind: "usage" })
  t.match(await answer(home, ["key", "backup", file, "--recipient", await identityToRecipient(identity)]), { file, recovery: false, epochs: 1 })
  t.equal(statSync(file).mode & 0o777, 0o600)
  const bytes = readFileSync(file)
  for (let at = 0; at < bytes.byteLength; at += 5) {
    const flipped = Buffer.from(bytes)
    flipped[at] = (flipped[at] ?? 0) ^ 1
    const failed = await openBackup(flipped, { identity }, "/b").then(() => undefined, (cause: unknown) => cause)
    if (!(failed instanceof VaultError) || failed.message.includes("\n") || failed.message.length > 300) t.fail(`byte ${at}: ${String(failed)}`)
  }
  const fresh = join(directory, "fresh")
  t.match(await refused(fresh, ["key", "restore", file, "--passphrase-file", fileWith(t, "none")]), { kind: "usage", detail: /age recipient/ })
  t.match(await refused(fresh, ["key", "restore", file]), { kind: "usage" })
  t.match(await refused(fresh, ["key", "restore", file, "--identity-file", fileWith(t, await generateX25519Identity())]), { kind: "denied", code: 5 })
  t.match(await refused(fresh, ["key", "restore", join(directory, "none.age"), "--passphrase-file", fileWith(t, "none")]), { kind: "not-found" })
  t.match(await refused(fresh, ["key", "restore", fileWith(t, "no backup at all"), "--passphrase-file", fileWith(t, "none")]), { kind: "failed", detail: /no age file/ })
  t.notOk(existsSync(`${fresh}/keys`) || existsSync(`${fresh}/current`) || existsSync(`${fresh}/restoring`))
  t.match(await answer(fresh, ["key", "restore", file, "--identity-file", fileWith(t, `# created: today\n# public key: age1…\n${identity}`)]), { device, asNew: false })
})

t.test("a file that asks for more work than any honest one is refused before the work", async (t) => {
  const header = (work: string) => Buffer.from(`age-encryption.org/v1\n-> scrypt ${"A".repeat(22)} ${work}\n${"A".repeat(43)}\n--- ${"A".repeat(43)}\nxxxx`)
  for (const work of ["19", "30", "999999999"]) {
    const began = performance.now()
    await t.rejects(openBackup(header(work), { passphrase: Buffer.from("x") }, "/b"), { message: /asks for 2\^/ })
    t.ok(performance.now() - began < 1_000)
  }
})

t.test("a restoration that was cut short leaves nobody, and is simply done again", async (t) => {
  const { directory, home, device } = await newHome(t)
  const passphrase = fileWith(t, "of the backup")
  const file = join(directory, "attic.age")
  await answer(home, ["key", "backup", file, "--passphrase-file", passphrase])
  const whole = join(directory, "whole")
  await answer(whole, ["key", "restore", file, "--passphrase-file", passphrase])
  // As the power left it: keys still below `restoring`, and the mesh and `current` moved or not.
  for (const moved of [[], ["mesh"], ["mesh", "current"]]) {
    const cut = `${directory}/cut-${moved.length}`
    cpSync(whole, cut, { recursive: true })
    mkdirSync(`${cut}/restoring`)
    for (const name of ["keys", "mesh", "current"]) if (!moved.includes(name)) renameSync(`${cut}/${name}`, `${cut}/restoring/${name}`)
    t.match(await refused(cut, ["key", "show"]), { kind: "not-found" })
    if (moved.includes("mesh")) t.match(await refused(cut, ["init"]), { kind: "not-found", detail: /device is missing/ }, "no second device key is made beside a mesh's keys")
    t.match(await answer(cut, ["key", "restore", file, "--passphrase-file", passphrase]), { device })
    t.match(await answer(cut, ["key", "show"]), { device })
    t.notOk(existsSync(`${cut}/restoring`))
  }
  const lost = `${directory}/lost`
  cpSync(whole, lost, { recursive: true })
  renameSync(`${lost}/keys`, `${directory}/elsewhere`)
  t.match(await refused(lost, ["key", "restore", file, "--passphrase-file", passphrase]), { kind: "conflict", detail: /has been a node before/ })
})

t.test("with words on paper a backup without them makes a new device, which the mesh takes for an owner", async (t) => {
  const { directory, home, device } = await newHome(t)
  const passphrase = fileWith(t, "of the backup")
  // The mesh as it is after `kos key words`.
  const vault = await Vault.open(home)
  const mesh = await vault?.currentMesh()
  if (vault === undefined || mesh === undefined) throw new Error("no home")
  const operations = (await readIntroduction(vault.meshDirectory(mesh))).map((bytes) => Effect.runSync(Effect.fromResult(openOperation(bytes))))
  const membership = resolveMembership(mesh, operations)
  const entropy = Buffer.alloc(32, 5)
  const keys = makeKeyring({ device: vault.device, legacyKey: await vault.meshKey(mesh), epochs: () => membership.epochs }).held()
  const set = Effect.runSync(Effect.fromResult(setRecoveryOperations({ membership, device, ms: 1 }, { entropy, keys })))
  const backup = (): Backup => ({
    version: 1, made: 1, device: vault.deviceSeed(),
    meshes: [{ id: mesh, name: "attic", node: "attic", key: Buffer.alloc(32, 1), bootstrap: [], operations: [...operations.map(({ bytes }) => bytes), ...set.operations.map((one) => signed(vault, one))], epochs: [] }]
  })
  const file = join(directory, "attic.age")
  writeFileSync(file, await sealBackup(backup(), { passphrase: Buffer.from("of the backup") }))
  const fresh = join(directory, "fresh")
  t.match(await refused(fresh, ["key", "restore", file, "--as-new", "--passphrase-file", passphrase]), { kind: "denied", detail: /no recovery secret/ })
  t.match(await refused(fresh, ["key", "restore", file, "--as-new", "--passphrase-file", passphrase, "--words-file", fileWith(t, recoveryWords(Buffer.alloc(32, 6)))]), { kind: "denied", detail: /not the recovery words of attic/ })
  const restored = await answer(fresh, ["key", "restore", file, "--as-new", "--name", "barn", "--passphrase-file", passphrase, "--words-file", fileWith(t, recoveryWords(entropy))])
  t.not(restored.device, device)
  const made = await Vault.open(fresh)
  if (made === undefined) throw new Error("no home")
  const after = resolveMembership(mesh, (await readIntroduction(made.meshDirectory(mesh))).map((bytes) => Effect.runSync(Effect.fromResult(openOperation(bytes)))))
  t.match(after.members.get(restored.device), { name: "barn", role: "owner", standing: "member" })
  t.same(after.void, [])
  t.same(makeKeyring({ device: made.device, legacyKey: Buffer.alloc(32), epochs: () => after.epochs }).held(), keys, "and it holds what the paper opens")
})

t.test("words are read as people write them, and a wrong one is told by its place only", async (t) => {
  const entropy = Buffer.alloc(32, 9)
  const words = recoveryWords(entropy).split(" ")
  const forms = [words.join(" "), words.join("\n").toUpperCase(), words.map((word, i) => `${i + 1}. ${word},`).join("  "), words.map((word) => word.slice(0, 4)).join(" ")]
  for (const form of forms) t.same(Result.getOrThrow(readRecoveryWords(form)), new Uint8Array(entropy))
  for (const bad of [words.slice(1).join(" "), [...words, words[0]].join(" "), ["qwerty", ...words.slice(1)].join(" "), "", "x".repeat(10_000)]) {
    const read = readRecoveryWords(bad)
    t.ok(Result.isFailure(read) && !words.some((word) => read.failure.includes(word)) && !read.failure.includes("qwerty"))
  }
  const [one, two] = [recoveryKeyPair("ab".repeat(32), entropy), recoveryKeyPair("cd".repeat(32), entropy)]
  t.notSame(one.publicKey, two.publicKey, "the words of one mesh say nothing in another")
  t.equal(fingerprintOf("ab".repeat(32)).split(" ").length, 6)
  t.not(fingerprintOf("ab".repeat(32)), fingerprintOf("cd".repeat(32)))
})
