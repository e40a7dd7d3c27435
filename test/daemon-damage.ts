/** Damage done to the files of a stopped home, and what those files say of its log. */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { Effect } from "effect"
import { MarkFile } from "../src/events/mark.ts"
import { Disk } from "../src/events/ports.ts"
import type { TestNode } from "./daemon-process.ts"

export const write = async (node: TestNode, from: number, to: number): Promise<void> => {
  for (let i = from; i < to; i++) await node.ask("memory.add", [`notes/page-${i}`, `text ${i} ${"word ".repeat(40)}`])
}

/** RocksDB's write-ahead file: here all blocks of a small log stand. */
export const walOf = (node: TestNode): string => {
  const db = `${node.meshDirectory}/store/db`
  const files = readdirSync(db).filter((name) => name.endsWith(".log")).map((name) => `${db}/${name}`)
  const largest = files.toSorted((a, b) => statSync(b).size - statSync(a).size)[0]
  if (largest === undefined) throw new Error(`no write-ahead file in ${db}`)
  return largest
}

export const tear = (node: TestNode, part: number): void => truncateSync(walOf(node), Math.floor(statSync(walOf(node)).size * part))

export const flip = (node: TestNode, part: number): void => {
  const path = walOf(node)
  const bytes = readFileSync(path)
  const at = Math.floor(bytes.length * part)
  bytes[at] = (bytes[at] ?? 0) ^ 0x40
  writeFileSync(path, bytes)
}

export const eventsOf = (node: TestNode, type: string) => node.ask("event.list", ["--type", type, "--limit", "1000"])

/** Log and mark as the files have them; no daemon may run. */
export const offlineLength = async (node: TestNode): Promise<{ readonly log: string; readonly length: number }> => {
  const mark = await withMark(node.meshDirectory, (marks) => marks.read())
  if (mark === undefined) throw new Error("there is no mark")
  return { log: mark.log, length: mark.length }
}

export const otherBoot = (directory: string): Promise<void> => withMark(directory, async (marks) => {
  const mark = await marks.read()
  if (mark !== undefined) await marks.write({ ...mark, bootId: "another-boot" })
})

export const withMark = async <A>(directory: string, run: (marks: MarkFile) => Promise<A>): Promise<A> => {
  const slots = await Effect.runPromise(Disk.use((disk) => disk.slots("mark")).pipe(Effect.provide(Disk.layer(directory))))
  const marks = new MarkFile(slots)
  try {
    return await run(marks)
  } finally {
    await marks.close()
  }
}

/** Writes the contents of an old image into the files that are there now, takes away newer ones, and brings back those that are gone. */
export const restoreInPlace = (image: string, home: string): void => {
  for (const entry of readdirSync(home, { recursive: true, withFileTypes: true })) {
    const path = `${entry.parentPath}/${entry.name}`
    if (entry.isFile() && statSync(path.replace(home, image), { throwIfNoEntry: false }) === undefined) rmSync(path)
  }
  for (const entry of readdirSync(image, { recursive: true, withFileTypes: true })) {
    const path = `${entry.parentPath}/${entry.name}`
    if (entry.isDirectory()) mkdirSync(path.replace(image, home), { recursive: true })
    else if (entry.isFile()) writeFileSync(path.replace(image, home), readFileSync(path))
  }
}
