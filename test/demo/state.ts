/** What the demo looks at to judge: documents in the tables, events at the door, sockets in the kernel. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import type { DemoNode } from "./processes.ts"

export interface Document {
  readonly heads: string
  /** JSON with sorted keys. */
  readonly value: string
  readonly conflicts: string | null
}

/** Every document with its Automerge heads and its value, read from the node's tables beside the running daemon. */
export const documents = (node: DemoNode): ReadonlyMap<string, Document> => {
  const database = new DatabaseSync(tablesOf(node), { readOnly: true })
  try {
    const rows = database.prepare("SELECT n.text AS name, d.heads, d.value, d.conflicts FROM documents d JOIN names n ON n.id = d.id WHERE d.heads IS NOT NULL ORDER BY n.text").all()
    return new Map(rows.map((row) => [String(row["name"]), {
      heads: JSON.stringify(JSON.parse(String(row["heads"])).toSorted()), value: sortedJson(JSON.parse(String(row["value"]))),
      conflicts: row["conflicts"] === null ? null : String(row["conflicts"])
    }]))
  } finally {
    database.close()
  }
}

/** Ids of documents that are not the same everywhere. */
export const unequal = (all: ReadonlyArray<ReadonlyMap<string, Document>>): ReadonlyArray<string> => {
  const [first, ...others] = all
  const ids = new Set(all.flatMap((documents) => [...documents.keys()]))
  return [...ids].filter((id) => others.some((other) => JSON.stringify(other.get(id)) !== JSON.stringify(first?.get(id)))).toSorted()
}

const tablesOf = ({ home }: DemoNode): string => {
  const current = readFileSync(join(home, "current"), "utf8").trim()
  return join(home, "mesh", current.slice(0, 16), "tables.db")
}

const sortedJson = (value: unknown): string => JSON.stringify(value, (_key, inner: unknown) =>
  typeof inner === "object" && inner !== null && !Array.isArray(inner) ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => a < b ? -1 : 1)) : inner)

export interface Told {
  readonly type: string
  readonly subject: string
  readonly command: string
  readonly node: string
}

/** Every event that the node has, by address, as it tells them at its door (`kos event export`): each frame is read from its log and opened for that. */
export const events = async (node: DemoNode): Promise<ReadonlyMap<string, Told>> => {
  const found = new Map<string, Told>()
  await node.call("event.export", {}, {
    onItem: (item) => {
      if (typeof item !== "object" || item === null || !("id" in item)) return
      const text = (name: string): string => name in item ? String(Object.entries(item).find(([key]) => key === name)?.[1]) : ""
      found.set(String(item.id), { type: text("type"), subject: text("subject"), command: text("koscommand"), node: text("kosnode") })
    }
  })
  return found
}

/** Sockets of a process that could carry anything to another machine or process by network: TCP and UDP, both families. */
export const networkSockets = (pid: number): number => {
  const inodes = new Set(["tcp", "tcp6", "udp", "udp6"].flatMap((table) => readFileSync(`/proc/${pid}/net/${table}`, "utf8")
    .split("\n").slice(1).flatMap((line) => line.trim().split(/\s+/)[9] ?? [])))
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1]
      return inode !== undefined && inodes.has(inode)
    } catch {
      return false
    }
  }).length
}
