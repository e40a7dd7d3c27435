/** `kos key …` on one node: secrets at rest by every lock, and recovery words that are kept. */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import t from "tap"
import { unlockVault } from "../../src/api/unlocking.ts"
import { isSealed } from "../../src/vault/sealing.ts"
import { Vault } from "../../src/vault/vault.ts"
import { homesOf, kos, type TestNode, testNode } from "../daemon-process.ts"
import { fileWith, keyFilesBelow, leaks, secretsOf } from "../key-help.ts"

/** Starts a daemon that is to end by itself, and says how. */
const refusedStart = async (node: TestNode, env: Record<string, string> = {}) => {
  const ran = await kos(["--home", node.home, "--json", "daemon", "run", "--lan-only"], { process: true, env })
  return { code: ran.code, ...JSON.parse(ran.err) as { readonly kind: string; readonly detail: string } }
}

t.test("a running node is sealed, starts again only with its passphrase, and is unsealed", async (t) => {
  const directory = homesOf(t)
  const right = fileWith(t, "correct horse battery staple")
  const wrong = fileWith(t, "incorrect horse")
  const node = await testNode(t, directory, { name: "alpha", isolated: true }).start()
  const secrets = secretsOf(node.home)
  t.equal(secrets.length, 3)
  const shown = await node.ask("key.show")
  t.match(shown, { device: node.announced.device, kept: { sealed: false }, daemon: true, recovery: { set: false, kept: false } })
  t.equal(shown.fingerprint.split(" ").length, 6)
  t.match(await node.refused(["key", "seal"]), { kind: "usage", code: 2 }, "nobody sits at a terminal")
  t.match(await node.refused(["key", "seal", "--as", "agent:mate", "--passphrase-file", right]), { kind: "denied", code: 5 })
  t.match(await node.ask("key.seal", ["--passphrase-file", right]), { kept: { sealed: true, by: "passphrase" } })
  t.ok(keyFilesBelow(node.home).filter((path) => !path.endsWith("keys/home")).every((path) => isSealed(readFileSync(path))))
  await node.ask("config.set", ["user.sealed", "1"])
  await node.stop()

  const none = await refusedStart(node)
  t.match(none, { code: 5, kind: "denied", detail: /sealed by a passphrase, and none was given/ })
  const bad = await refusedStart(node, { KOS_PASSPHRASE_FILE: wrong })
  t.match(bad, { code: 5, kind: "denied", detail: /^the passphrase is wrong/ })
  t.notMatch(bad.detail, /\n|horse/)
  t.match(await refusedStart(node, { KOS_PASSPHRASE_FILE: "/nowhere/pass" }), { code: 4 })
  t.match(await node.ask("key.show"), { device: shown.device, fingerprint: shown.fingerprint, kept: { sealed: true, by: "passphrase" }, daemon: false }, "shown without any secret")
  t.match(await node.run(["doctor"]), { code: 0, err: "" }, "looked at without any secret")

  await node.start({ env: { KOS_PASSPHRASE_FILE: right } })
  t.match(await node.ask("config.get", ["user.sealed"]), { value: 1 })
  t.match(await node.ask("key.show"), { device: shown.device, kept: { sealed: true } })
  await node.stop()
  await node.start({ args: ["--passphrase-file", right] })
  await node.stop()
  const credentials = join(directory, "credentials")
  mkdirSync(credentials)
  cpSync(right, join(credentials, "kos-passphrase"))
  await node.start({ env: { CREDENTIALS_DIRECTORY: credentials } })
  await node.ask("key.unseal")
  t.same(secretsOf(node.home), secrets, "the same secrets, raw again")
  await node.stop()
  const piped = await kos(["--home", node.home, "--json", "key", "seal", "--passphrase-file", "-"], { stdin: "from stdin\n" })
  t.match(piped, { code: 0, err: "" }, "without a daemon, from stdin")
  writeFileSync(`${node.home}/planted`, `{"seed":"${Buffer.from(secrets[0] ?? "").toString("hex")}"}`)
  t.same(leaks([node.home], secrets), [`${node.home}/planted`], "the search finds what is planted")
  rmSync(`${node.home}/planted`)
  const ran = await kos(["--home", node.home, "--json", "daemon", "run", "--lan-only", "--passphrase-file", "-"], { process: true, stdin: "from stdin", env: { KOS_NETWORK_MODE: "isolated" }, until: (out) => out.includes("\n") })
  t.match(JSON.parse(ran.out), { device: shown.device })
  t.same(leaks([node.home], [...secrets, Buffer.from("correct horse battery staple"), Buffer.from("from stdin")], [JSON.stringify(shown), piped.out, ran.out, ran.err, node.stderr]), [])
})

t.test("key file and credential open a home without anybody there, and say what is missing", async (t) => {
  const directory = homesOf(t)
  const node = testNode(t, directory, { name: "alpha", isolated: true })
  t.match(await node.run(["init", "alpha"]), { code: 0 })
  const keyFile = join(directory, "kos.key")
  writeFileSync(keyFile, Buffer.alloc(16, 7))
  t.match(await node.refused(["key", "seal", "--key-file", keyFile]), { kind: "usage", detail: /at least 32 random/ })
  writeFileSync(keyFile, Buffer.alloc(64, 7))
  t.match(await node.ask("key.seal", ["--key-file", keyFile]), { kept: { by: "key-file", name: keyFile } })
  await node.start()
  await node.stop()
  cpSync(keyFile, `${keyFile}.away`)
  writeFileSync(keyFile, Buffer.alloc(64, 8))
  t.match(await refusedStart(node), { code: 5, detail: /is not the key file/ })
  writeFileSync(keyFile, Buffer.alloc(64, 7))

  const credentials = join(directory, "credentials")
  mkdirSync(credentials)
  t.match(await node.refused(["key", "seal", "--credential", "kos-home-key"], { env: { CREDENTIALS_DIRECTORY: credentials } }), { kind: "not-found", code: 4 })
  t.match(await node.refused(["key", "seal", "--credential", "../kos.key"], { env: { CREDENTIALS_DIRECTORY: credentials } }), { kind: "usage" })
  writeFileSync(join(credentials, "kos-home-key"), Buffer.alloc(32, 9))
  await node.ask("key.seal", ["--credential", "kos-home-key"], { env: { CREDENTIALS_DIRECTORY: credentials } })
  t.match(await refusedStart(node), { code: 5, detail: /sealed by the credential kos-home-key, and it is not there/ })
  await node.start({ env: { CREDENTIALS_DIRECTORY: credentials } })
  await node.stop()

  const fresh = testNode(t, directory, { name: "fresh", isolated: true })
  await fresh.start({ env: { CREDENTIALS_DIRECTORY: credentials } })
  t.match((await fresh.ask("key.show")).kept, { sealed: true, by: "credential", name: "kos-home-key" }, "a new home is sealed from its first key on when the credential is there")
})

t.test("at a terminal a wrong passphrase may be tried three times, with growing pauses", async (t) => {
  const home = join(homesOf(t), "home")
  const lock = { way: "passphrase", name: "", secret: Buffer.from("right"), cost: { ops: 1, memKiB: 8 * 1024 } } as const
  const { deviceId } = await Vault.create(home, { lock })
  const asking = (answers: Array<string>, prompts: Array<string>) => ({
    env: {}, cwd: "/", pausesMs: [20, 60], ask: async (prompt: string) => {
      prompts.push(prompt)
      return answers.shift() ?? ""
    }
  })
  const first: Array<string> = []
  t.equal((await unlockVault(home, asking(["no", "nor this", "right"], first)))?.deviceId, deviceId)
  t.equal(first.length, 3)
  const second: Array<string> = []
  const began = performance.now()
  await t.rejects(unlockVault(home, asking(["no", "nor this", "neither", "right"], second)), { message: /^the passphrase is wrong/ })
  t.equal(second.length, 3)
  t.ok(performance.now() - began >= 80)
  await t.rejects(unlockVault(home, { env: {}, cwd: "/" }), { message: /none was given/ })
})

t.test("words that are kept go into backups and are shown again; new ones void the old", async (t) => {
  const directory = homesOf(t)
  const passphrase = fileWith(t, "again")
  const alpha = await testNode(t, directory, { name: "alpha", isolated: true }).start()
  const first = await alpha.ask("key.words", ["--keep"])
  t.match(first, { kept: true })
  t.match(await alpha.ask("key.words"), { words: first.words, kept: true, events: [] })
  const file = join(directory, "alpha.age")
  t.match(await alpha.ask("key.backup", [file, "--passphrase-file", passphrase]), { recovery: true })
  const second = await alpha.ask("key.words", ["--replace"])
  t.not(second.words, first.words)
  t.match((await alpha.ask("key.show")).recovery, { set: true, kept: false }, "the old secret is not kept any longer")
  await alpha.stop()
  const fresh = testNode(t, directory, { name: "fresh", isolated: true })
  t.match(await fresh.ask("key.restore", [file, "--as-new", "--name", "fresh", "--passphrase-file", passphrase]), { asNew: true })
  await fresh.start()
  t.match(await fresh.ask("mesh.show"), { role: "owner" }, "to the file's knowledge the old words still hold")
})
