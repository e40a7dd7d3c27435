/**
 * Secrets of a small society that was really run, searched for everywhere afterwards: in every file of every home (logs, tables, write-ahead files,
 * log files, run directory), in all that the daemons and the CLI printed, and in the memory, as a core dump has it, of a running daemon that has no
 * business with them.
 *
 * What may hold them: the key files of a home that is not sealed hold its own seeds; the answer to `kos vault get`, `kos key words` and
 * `kos invite create` is the secret; a process that uses one has it in memory. So the memory is that of a node which is no recipient; of its own it had
 * the passphrase, when it started.
 */
import { readFileSync } from "node:fs"
import t from "tap"
import { Result } from "effect"
import { readRecoveryWords } from "../../src/vault/words.ts"
import { eventually, filesBelow, homesOf, testNode, type TestNode } from "../daemon-process.ts"
import { fileWith, keyFilesBelow, leaks, secretsOf } from "../key-help.ts"
import { tracesBelow, tracesInMemory } from "../trust-help.ts"

t.setTimeout(170_000)

const secret = "cnry-vault-7Kq2ZpX04mVd9sLw"
const passphrase = "cnry passphrase of gamma 58fe21"
const control = "cnry-control-that-is-no-secret-90a1"

/** Undefined when this machine does not let its memory be read; then why. */
const inMemory = (node: TestNode, texts: ReadonlyArray<string>): ReturnType<typeof tracesInMemory> | string => {
  try {
    return tracesInMemory(node.pid, texts)
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause)
  }
}

t.test("no secret of the run is found where it has no business", async (t) => {
  const directory = homesOf(t, { homes: {} })
  const homes = `${directory}/homes`
  const opener = fileWith(t, passphrase)
  const nodes = ["alpha", "beta", "gamma"].map((name) => testNode(t, homes, { name }))
  const [alpha, beta, gamma] = nodes as [TestNode, TestNode, TestNode]
  const printed: Array<string> = []
  await Promise.all([alpha.start(), beta.start()])
  await gamma.start()
  const seeds = secretsOf(gamma.home)
  t.ok(seeds.length >= 3)
  await gamma.ask("key.seal", ["--passphrase-file", opener])
  await gamma.stop()
  await gamma.start({ env: { KOS_PASSPHRASE_FILE: opener } })
  await alpha.ask("mesh.create", ["hill"])
  const invites: Array<{ readonly invite: string; readonly words: string }> = []
  for (const guest of [beta, gamma]) {
    const made = await alpha.ask("invite.create")
    invites.push(made)
    printed.push(JSON.stringify(await guest.ask("join", [guest === beta ? made.invite : made.words, "--timeout", "30"])))
  }
  const recovery = await alpha.ask("key.words")
  await alpha.ask("memory.add", ["notes/control", control])
  t.ok(await eventually(async () => (await alpha.ask("event.list", ["--type", "secret.reader/1"])).length >= 3))
  printed.push(JSON.stringify(await alpha.ask("vault.set", ["weather-key", "--for", "beta"], { stdin: secret })))
  t.ok(await eventually(async () => (await beta.run(["vault", "get", "weather-key"])).out === secret), "the recipient can use it")
  printed.push(JSON.stringify(await gamma.refused(["vault", "get", "weather-key"])))
  await gamma.until("memory.list", [], (pages) => pages.length === 1)
  await alpha.ask("key.rotate")
  for (const node of nodes) {
    for (const name of ["status", "doctor", "key.show", "mesh.show", "invite.list", "vault.list"] as const) printed.push(JSON.stringify(await node.ask(name, [], { codes: [0, 10] })))
    printed.push(JSON.stringify(await node.lines("event.export", [])), (await node.run(["logs", "--level", "debug"])).out, (await node.get("/metrics")).text)
  }

  const words = recovery.words.split(" ")
  const entropy = Result.getOrThrow(readRecoveryWords(recovery.words))
  const texts = [secret, passphrase, words.slice(0, 6).join(" "), words.slice(12, 18).join(" "), ...invites.flatMap((made) => [made.invite.slice(-40), made.words.split(" ").slice(0, 6).join(" ")])]
  const search = (when: string) => {
    t.same(tracesBelow(homes, texts), [], `${when}: no file of any home`)
    t.same(leaks(nodes.map(({ home }) => home), [entropy]), [], `${when}: nor the recovery secret's bytes`)
    // Of the sealed home also the key files.
    t.same(filesBelow(gamma.home).filter((path) => seeds.some((seed) => readFileSync(path).includes(Buffer.from(seed)))), [], `${when}: gamma's seeds lie sealed`)
    t.same(leaks([gamma.home], seeds), [], `${when}: nor in hex or base64`)
  }
  t.ok(filesBelow(homes).length > 40 && keyFilesBelow(alpha.home).length > 0)
  t.not(tracesBelow(homes, [control]).length, 0, "the search finds what there is")
  search("while they run")

  const own = [passphrase, ...texts.filter((text) => invites[1]?.invite.endsWith(text) === true || invites[1]?.words.startsWith(text) === true)]
  const memory = inMemory(gamma, [...texts.filter((text) => !own.includes(text)), passphrase, control])
  if (typeof memory === "string") t.comment(`this machine does not let the memory of a daemon be read, so it was not searched: ${memory}`)
  else {
    t.comment(`${Math.round(memory.bytes / 1_048_576)} MiB of memory searched`)
    t.ok(memory.traces.some((trace) => trace.startsWith(control)), "the search finds what there is")
    t.same(memory.traces.filter((trace) => !trace.startsWith(control)), [], "no secret of others is in the memory of a node that is no recipient, nor the passphrase that opened its home")
  }

  for (const node of nodes) await node.stop()
  search("after they stopped")
  const said = [...printed, ...nodes.map(({ stderr }) => stderr)]
  t.same(said.flatMap((text) => texts.filter((wanted) => text.includes(wanted))), [], "nothing of it was printed")
  t.same(leaks([], [entropy, ...seeds, ...texts.map((text) => Buffer.from(text))], said), [])
})
