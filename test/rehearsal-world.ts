/** What the tests of rehearsals share: a whole node in this process, trees of new versions, real and fake, and who is left running. */
import { Effect, Exit, Scope } from "effect"
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { dirname, resolve } from "node:path"
import type { Test } from "tap"
import { createMesh } from "../src/boot/first-run.ts"
import { type MeshNode, openMeshNode } from "../src/boot/mesh-node.ts"
import { type RehearseOptions, rehearse, type Rehearsed } from "../src/boot/rehearsal.ts"
import { randomBytes } from "../src/codec/signature.ts"
import { uuidv7 } from "../src/codec/uuid.ts"
import { decideConfig } from "../src/commands/decide-config.ts"
import { decideMemory } from "../src/commands/decide-memory.ts"
import { findIsolation, type IsolationLevel, isolationLevels } from "../src/updates/rehearsal/isolate.ts"
import { Vault } from "../src/vault/vault.ts"
import { must } from "./membership-world.ts"

export const root = resolve(import.meta.dirname, "..")
export const now = (): number => Math.floor(performance.timeOrigin + performance.now())
export const asker = () => ({ command: uuidv7(now(), randomBytes(10)), actor: "person:test" })

/** A mesh of one that opens no connection. Closed by `close`, or with the test. */
export const openNode = async (t: Test, home: string): Promise<MeshNode> => {
  const vault = await Vault.create(home)
  const mesh = must(await createMesh(vault, "ada", now()))
  await vault.setCurrentMesh(mesh)
  const scope = Effect.runSync(Scope.make())
  const node = await Effect.runPromise(openMeshNode({
    vault, mesh, version: "test", now, notice: () => undefined, carriers: () => [], mode: () => "isolated", limits: () => ({}),
    redeem: () => () => Promise.resolve({ refused: "unknown", detail: "" })
  }).pipe(Effect.provideService(Scope.Scope, scope)))
  t.teardown(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return node
}

export const writePage = (node: MeshNode, page: string, text = `Of ${page}.`) => Effect.runPromise(node.dispatch.change("memory.add", asker(), [`memory/${page}`], (documents) =>
  decideMemory(documents, { _tag: "Add", page, text }, { pageBytesMax: 100_000 })))

export const setConfig = (node: MeshNode, path: string, word: string) =>
  Effect.runPromise(node.dispatch.change("config.set", asker(), ["config/mesh"], (documents) => decideConfig(documents, { _tag: "Set", layer: "mesh", path, word })))

/** Rehearses with what is the same for all tests. */
export const rehearseHere = (node: MeshNode, path: string, more: Partial<RehearseOptions> = {}): Promise<Rehearsed> => rehearse({
  mesh: node, slot: { path, version: "9.9.9" }, migrations: [], scratch: `${node.vault.home}/updates/rehearsal/one`, signal: new AbortController().signal, notice: () => undefined, now, ...more
})

/** This checkout as a tree of its own, with changes: path to what replaces what. Its dependencies are this checkout's. */
export const treeOf = (directory: string, changes: Readonly<Record<string, readonly [string, string]>> = {}): string => {
  mkdirSync(directory, { recursive: true })
  for (const name of ["src", "bin", "package.json"]) cpSync(`${root}/${name}`, `${directory}/${name}`, { recursive: true })
  symlinkSync(`${root}/node_modules`, `${directory}/node_modules`)
  for (const [path, [from, to]] of Object.entries(changes)) {
    const text = readFileSync(`${directory}/${path}`, "utf8")
    if (!text.includes(from)) throw new Error(`${path} does not say ${from}`)
    writeFileSync(`${directory}/${path}`, text.replace(from, to))
  }
  return directory
}

/** What such trees lead to. */
export const dependencies: ReadonlyArray<string> = [`${root}/node_modules`]

/** A tree whose `src/main.ts` is this. */
export const fakeTree = (directory: string, main: string, files: Readonly<Record<string, string>> = {}): string => {
  for (const [path, text] of Object.entries({ "src/main.ts": main, "package.json": '{"type":"module"}', ...files })) {
    mkdirSync(dirname(`${directory}/${path}`), { recursive: true })
    writeFileSync(`${directory}/${path}`, text)
    if (path.startsWith("bin/")) chmodSync(`${directory}/${path}`, 0o755)
  }
  return directory
}

/** Levels that work on this machine; for the others one sentence. */
export const workingLevels = async (t: Test, scratch: string): Promise<ReadonlyArray<IsolationLevel>> => {
  const found: Array<IsolationLevel> = []
  for (const level of isolationLevels) {
    await findIsolation(scratch, [level]).then(() => found.push(level), (cause: unknown) => t.comment(cause instanceof Error ? cause.message : String(cause)))
  }
  return found
}

/** Processes whose command line holds this text. */
export const processesWith = (text: string): ReadonlyArray<number> => readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name)).map(Number).filter((pid) => {
  try {
    return pid !== process.pid && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(text)
  } catch {
    return false
  }
})
