/**
 * Makes the golden home of this version: `node test/golden/make.ts [DIRECTORY]` writes `home.br` and `expected.json` there (default: a directory
 * beside this file, named for the version). Keys and times are new each time; what is in it is not. Once a version is released its
 * golden home is never made again: every later version must read it.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { forgeBlocks } from "../daemon-forge.ts"
import { joinMesh, TestNode } from "../daemon-process.ts"
import { packHome, projectionsOf } from "./golden.ts"

const version = (JSON.parse(readFileSync(resolve(import.meta.dirname, "../../package.json"), "utf8")) as { readonly version: string }).version
const target = resolve(process.argv[2] ?? join(import.meta.dirname, version))
const directory = mkdtempSync(join(tmpdir(), "kos-golden-"))
const [alpha, beta] = ["alpha", "beta"].map((name) => new TestNode(join(directory, name), { name })) as [TestNode, TestNode]

const isolate = async (mode: "isolated" | "joined"): Promise<void> => {
  for (const node of [alpha, beta]) await node.ask("mesh.mode", [mode])
}
const inStep = async (): Promise<void> => {
  for (const node of [alpha, beta]) await node.ask("wait", ["synced"])
  for (const node of [alpha, beta]) await node.until("status", [], ({ peers }) => peers.every(({ inTouch, waiting, behind }) => inTouch && waiting === 0 && behind === 0))
}

try {
  await Promise.all([alpha.start(), beta.start()])
  await joinMesh(alpha, beta)
  await alpha.ask("config.set", ["user.pump.speed", "3", "--layer", "mesh", "--as", "person:Ann"])
  await alpha.ask("config.set", ["health.interval", "10m", "--layer", "role"])
  await alpha.ask("config.set", ["log.level", "warn"])
  await alpha.ask("memory.add", ["garden/beans", "Water the beans.\n\nNot too much.", "--as", "person:Ann"])
  await alpha.ask("memory.edit", ["garden/beans", "--field", "row=3", "--field", "tags=[\"food\",\"climbing\"]"])
  await alpha.ask("memory.add", ["garden/forgotten", "soon gone"])
  await alpha.ask("memory.forget", ["garden/forgotten"])
  const agent = join(directory, "watcher.yaml")
  writeFileSync(agent, "name: watcher\ndescription: Looks at the garden\ncommand: [/usr/bin/watch, garden]\nenv:\n  ROW: \"3\"\nwhere: [all]\n")
  await alpha.ask("agent.apply", [agent])
  await alpha.ask("agent.start", ["watcher"])
  await alpha.refused(["config", "set", "network.port", "many"])
  await alpha.ask("node.role", ["beta", "admin"])
  await alpha.ask("key.rotate")
  await alpha.ask("config.set", ["policy.rules.net", "config/mesh network.** by admin after 1 of owner", "--layer", "mesh"])
  await alpha.ask("vault.set", ["beans", "--for", "role:owner"], { stdin: "not in any event" })
  await alpha.ask("release.key")
  await alpha.ask("release.init", ["stable"])
  await alpha.ask("config.set", ["update.auto", "security", "--layer", "mesh"])
  await alpha.ask("update.pin", [version])
  await inStep()
  await isolate("isolated")
  await alpha.ask("config.set", ["user.pump.speed", "4", "--layer", "mesh", "--as", "person:Ann"])
  await beta.ask("config.set", ["user.pump.speed", "5", "--layer", "mesh", "--as", "person:Ben"])
  await alpha.ask("memory.add", ["garden/beans", "Ann was here."])
  await beta.ask("memory.add", ["garden/beans", "Ben was here: grüße, 豆."])
  await beta.stop()
  await forgeBlocks(beta.home, [({ frame }) => frame(
    { type: "garden.watered/1", subject: "garden/beans", body: { litres: 12, ring: [1, 2, null], bytes: new Uint8Array([1, 2, 3]) } }, { type: "garden.watered/2", subject: "garden/peas", body: { litres: 3 } }
  )])
  await beta.start()
  await isolate("joined")
  await inStep()
  await beta.stop()
  await alpha.until("status", [], ({ peers }) => peers.every(({ inTouch }) => !inTouch))
  // The golden node opens no connection, whatever it is started with.
  await alpha.ask("mesh.mode", ["isolated"])
  const before = await projectionsOf(alpha)
  await alpha.stop()
  mkdirSync(target, { recursive: true })
  const packed = packHome(alpha.home)
  writeFileSync(join(target, "home.br"), packed)
  writeFileSync(join(target, "expected.json"), `${JSON.stringify(before, null, 1)}\n`)
  process.stdout.write(`${target}: ${packed.byteLength} bytes, ${before.events.length} events, ${before.memory.length} pages\n`)
} finally {
  await Promise.all([alpha.kill(), beta.kill()])
  rmSync(directory, { recursive: true, force: true })
}
