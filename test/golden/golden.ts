/** A home as one compressed file, and what a node says of it: what golden homes are made and checked with. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib"
import type { TestNode } from "../daemon-process.ts"

/** Not part of what a later version must read: the daemon's own log, its socket and pid, RocksDB's own notes. */
const left = /^(logs|run)\/|\/store\/db\/(LOG|LOCK)/

/** All files of a home, as `{path: base64}` under brotli. */
export const packHome = (home: string): Buffer => {
  const paths = readdirSync(home, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => relative(home, join(entry.parentPath, entry.name)))
  const files = Object.fromEntries(paths.filter((path) => !left.test(path)).toSorted().map((path) => [path, readFileSync(join(home, path)).toString("base64")]))
  return brotliCompressSync(JSON.stringify(files), { params: { [constants.BROTLI_PARAM_LGWIN]: 24 } })
}

export const unpackHome = (packed: Uint8Array, home: string): void => {
  const files = JSON.parse(brotliDecompressSync(packed).toString("utf8")) as Readonly<Record<string, string>>
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(home, path)), { recursive: true, mode: 0o700 })
    writeFileSync(join(home, path), Buffer.from(text, "base64"), { mode: 0o600 })
  }
}

/** Everything that a later version must say in the same way of the same logs; `events` only up to those that were there then. */
export const projectionsOf = async (node: TestNode, events?: ReadonlySet<string>) => {
  const pages = (await node.ask("memory.list")).map(({ page }) => page)
  const agents = (await node.ask("agent.list")).map(({ name }) => name)
  const listed = await node.ask("event.list", ["--limit", "10000"])
  const mesh = await node.ask("mesh.show")
  return {
    mesh: { id: mesh.id, name: mesh.name, members: mesh.members.map(({ name, device, role, standing, since }) => ({ name, device, role, standing, since })) },
    settings: await Promise.all((["mesh", "role", "node"] as const).map(async (layer) => ({ layer, values: (await node.ask("config.show", ["--layer", layer])).values }))),
    memory: await Promise.all(pages.map(async (page) => {
      const { text, fields, authors } = await node.ask("memory.show", [page])
      return { page, text, fields, authors, history: (await node.ask("memory.history", [page, "--text"])).map(({ by, path, before, after }) => ({ address: by.address, path, before, after })) }
    })),
    agents: await Promise.all(agents.map(async (name) => {
      const { version, desired, where, definition, valid } = await node.ask("agent.show", [name])
      return { name, version, desired, where, definition, valid }
    })),
    conflicts: (await node.ask("config.conflicts", ["--all"])).map(({ document, path, values }) => ({
      document, path, values: values.map(({ value, winner, by }) => ({ value, winner, actor: by.actor, address: by.address }))
    })),
    unknownTypes: (await node.ask("status", [], { codes: [0, 10] })).unknownTypes,
    events: listed.filter(({ address }) => events?.has(address) ?? true).map(({ address, type, at, node: author, actor, subject, known, summary }) => ({ address, type, at, node: author, actor, subject, known, summary }))
      .toSorted((a, b) => (a.address < b.address ? -1 : 1))
  }
}

export type Projections = Awaited<ReturnType<typeof projectionsOf>>
