/** What tests of trust between real daemons share: who holds and counts what, read from their tables while they run. */
import { closeSync, openSync, readFileSync, readSync } from "node:fs"
import { Tables } from "../src/projections/tables/tables.ts"
import { eventually, filesBelow, type TestNode } from "./daemon-process.ts"

/** Reads the tables of a node beside its daemon. */
export const withTables = <A>(node: TestNode, read: (tables: Tables) => A): A => {
  const tables = new Tables(`${node.meshDirectory}/tables.db`, { readOnly: true })
  try {
    return read(tables)
  } finally {
    tables.close()
  }
}

/** What nodes that hold the same blocks and keys must have made of them. */
export const printOf = (node: TestNode): string => withTables(node, (tables) => {
  const { events, cursors, documents, operations, witnesses, cutoffs, sealed } = tables.fingerprint()
  return JSON.stringify({ events, cursors, documents, operations, witnesses, cutoffs, sealed })
})

/** Do they come to one state, and does folding everything from nothing give it again? Undefined when they do. */
export const disagreement = async (...nodes: ReadonlyArray<TestNode>): Promise<string | undefined> => {
  if (!await eventually(() => new Set(nodes.map(printOf)).size === 1)) return nodes.map(printOf).join("\n")
  for (const node of nodes) {
    const { rebuild } = await node.ask("doctor", ["--rebuild"], { codes: [0, 10] })
    if (rebuild?.equal !== true) return `${node.home}: ${JSON.stringify(rebuild)}`
  }
  return undefined
}

/** Pages by name, with their text. */
export const pagesOf = async (node: TestNode): Promise<Readonly<Record<string, string>>> => {
  const pages: Record<string, string> = {}
  for (const { page } of await node.ask("memory.list")) {
    const { code, out, err } = await node.run(["memory", "show", page, "--json"])
    // While everything is folded again a page may be gone for a moment.
    if (code === 0) pages[page] = JSON.parse(out).text
    else if (code !== 4) throw new Error(err)
  }
  return pages
}

/** Events of one node as another has them: block, and why it does not count. */
export const eventsOfNode = async (on: TestNode, name: string): Promise<ReadonlyArray<{ readonly log: string; readonly block: number; readonly type: string; readonly void: string | undefined; readonly arrival: number }>> =>
  (await on.ask("event.list", ["--node", name, "--limit", "10000"])).map(({ address, type, summary, arrival }) => {
    const [log = "", place = "0"] = address.split("/")
    return { log, block: Math.floor(Number(place)), type, void: /^quarantined: (.*)/s.exec(summary)?.[1], arrival }
  })

export const isolated = async (...nodes: ReadonlyArray<TestNode>): Promise<void> => {
  for (const node of nodes) await node.ask("mesh.mode", ["isolated"])
}

export const joined = async (...nodes: ReadonlyArray<TestNode>): Promise<void> => {
  for (const node of nodes) await node.ask("mesh.mode", ["joined"])
}

/** Is this node in touch with that one? */
export const meets = async (node: TestNode, other: TestNode): Promise<boolean> =>
  (await node.ask("status", [], { codes: [0, 10] })).peers.some(({ device, inTouch }) => inTouch && device === other.announced.device)

/** Every form in which a text could stand in a file, a table or the memory of a process: as it is, UTF-16, hex, and base64 at any of three places. */
export const formsOf = (text: string): ReadonlyArray<Buffer> => {
  const bytes = Buffer.from(text)
  const base64 = [0, 1, 2].map((shift) => Buffer.concat([Buffer.alloc(shift), bytes]).toString("base64").replace(/=+$/, "").slice(shift === 0 ? 0 : 4, -4))
  const texts = [bytes.toString("hex"), bytes.toString("hex").toUpperCase(), ...base64, ...base64.map((each) => each.replaceAll("+", "-").replaceAll("/", "_"))]
  return [bytes, Buffer.from(text, "utf16le"), ...texts.map((each) => Buffer.from(each))]
}

/** Which of the texts stand in a file, each with the number of the form that was found. Reads the file in parts, so that it may be large. */
export const tracesIn = (path: string, texts: ReadonlyArray<string>): ReadonlyArray<string> => {
  const wanted = texts.flatMap((text) => formsOf(text).map((form, i) => ({ text, form, name: `${text} in form ${i}` })))
  const overlap = Math.max(...wanted.map(({ form }) => form.length))
  const part = Buffer.alloc(4 * 1024 * 1024 + overlap)
  const found = new Set<string>()
  const file = openSync(path, "r")
  try {
    for (let at = 0, kept = 0;;) {
      const read = readSync(file, part, kept, part.length - kept, at)
      if (read === 0) break
      at += read
      const bytes = part.subarray(0, kept + read)
      for (const { form, name } of wanted) if (bytes.includes(form)) found.add(name)
      kept = Math.min(overlap, bytes.length)
      part.copyWithin(0, bytes.length - kept, bytes.length)
    }
  } finally {
    closeSync(file)
  }
  return [...found]
}

/** The same of every file below a directory. */
export const tracesBelow = (directory: string, texts: ReadonlyArray<string>): ReadonlyArray<string> =>
  filesBelow(directory).flatMap((path) => tracesIn(path, texts).map((trace) => `${path}: ${trace}`))

const pageBytes = 4_096

/**
 * Which of the texts stand in the memory of a process: every page that is there, as a core dump holds it. Read from the kernel page by page, since a
 * dump file of a Node that has WebAssembly is tens of gigabytes of reserved nothing. Throws when this machine does not allow it.
 */
export const tracesInMemory = (pid: number, texts: ReadonlyArray<string>): { readonly bytes: number; readonly traces: ReadonlyArray<string> } => {
  const wanted = texts.flatMap((text) => formsOf(text).map((form, i) => ({ form, name: `${text} in form ${i}` })))
  const found = new Set<string>()
  let bytes = 0
  const search = (memory: number, from: number, to: number): void => {
    const part = Buffer.alloc(to - from)
    let read = 0
    try {
      read = readSync(memory, part, 0, part.length, from)
    } catch {
      // It was given back meanwhile.
      return
    }
    bytes += read
    for (const { form, name } of wanted) if (part.subarray(0, read).includes(form)) found.add(name)
  }
  const [memory, pages] = [openSync(`/proc/${pid}/mem`, "r"), openSync(`/proc/${pid}/pagemap`, "r")]
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
      const [, start = "", end = "", what = ""] = /^([0-9a-f]+)-([0-9a-f]+) r\S+ \S+ \S+ \S+ *(.*)$/.exec(line) ?? []
      if (start === "" || what.startsWith("[v") || what.startsWith("/dev/")) continue
      const first = Number.parseInt(start, 16) / pageBytes
      const last = Number.parseInt(end, 16) / pageBytes
      const entries = Buffer.alloc(8 * 65_536)
      let run: number | undefined
      for (let at = first; at < last; at += 65_536) {
        const count = Math.min(65_536, last - at)
        readSync(pages, entries, 0, count * 8, at * 8)
        for (let i = 0; i < count; i++) {
          // In memory, or swapped out.
          const there = ((entries[i * 8 + 7] ?? 0) & 0xc0) !== 0
          if (there) run ??= at + i
          else if (run !== undefined) {
            search(memory, run * pageBytes, (at + i) * pageBytes)
            run = undefined
          }
        }
      }
      if (run !== undefined) search(memory, run * pageBytes, last * pageBytes)
    }
  } finally {
    closeSync(memory)
    closeSync(pages)
  }
  return { bytes, traces: [...found] }
}
