/**
 * Who changes what: lanes of commands, one lane per node and page (or settings file). Commands of a lane go one after another, since each
 * builds on the text before; lanes run beside each other. While apart every node works on its own copy of the same pages.
 */
import type { Json } from "../../src/projections/documents/types.ts"
import { newCommand, type DemoNode, Refused } from "./processes.ts"
import type { Page, SettingValue } from "./input.ts"

/** Requests under way at one node: fewer than the daemon takes, so that a person still gets an answer. */
const inFlightMax = 24
/** Widths at which a person's editor may have wrapped a paragraph, characters. */
const widths = [60, 72, 88, 104]

export type Change =
  | { readonly call: "memory.edit"; readonly input: { readonly page: string; readonly base: string; readonly text: string } }
  | { readonly call: "memory.add"; readonly input: { readonly page: string; readonly text: string } }
  | { readonly call: "config.set"; readonly input: { readonly path: string; readonly value: Json; readonly layer: "mesh" } }

export type Lane = ReadonlyArray<Change>

/** What a node said of a change that it took. */
export interface Acknowledged {
  readonly node: string
  readonly address: string
  readonly command: string
  readonly subject: string
}

export interface Plan {
  /** Written while all are together. */
  readonly before: ReadonlyArray<Lane>
  /** Per node, while apart. */
  readonly apart: ReadonlyArray<ReadonlyArray<Lane>>
  readonly pages: number
  readonly settings: number
  /** The page that all nodes edited most. */
  readonly shown: string
  /**
   * Paragraphs that must stand in a page at the end, whoever wrote them. Those that share a line with another paragraph of their page are left
   * out: of two equal lines a diff may keep either, so what somebody else does to the other one is merged into it, as in any tool that compares texts.
   */
  readonly paragraphs: ReadonlyArray<{ readonly page: string; readonly text: string }>
}

/**
 * Every fourth paragraph of a page is there before the parting. While apart, node 0, 1 and 2 each add a third of the others, each at its
 * place, and go over their own ones again. Every sixth page is new and written by one node alone. One command in twelve changes a setting.
 */
export const plan = (pages: ReadonlyArray<Page>, settings: ReadonlyArray<SettingValue>, nodes: number, changes: number): Plan => {
  const apart: ReadonlyArray<Array<Lane>> = Array.from({ length: nodes }, () => [])
  const before: Array<Lane> = []
  const paragraphs: Array<{ page: string; text: string }> = []
  const budget = apart.map((_, node) => Math.floor(changes / nodes) + (node < changes % nodes ? 1 : 0))
  const room = budget.slice()
  const give = (node: number, lane: Lane): Lane => {
    const taken = lane.slice(0, room[node] ?? 0)
    room[node] = (room[node] ?? 0) - taken.length
    if (taken.length > 0) apart[node]?.push(taken)
    return taken
  }
  apart.forEach((_, node) => give(node, settingsLane(settings.filter((_, i) => i % nodes === node), Math.floor((budget[node] ?? 0) / 12))))
  let used = 0
  let shown = ""
  for (const [index, { page, paragraphs: parts }] of pages.entries()) {
    if (room.every((left) => left === 0)) break
    used++
    if (index % 6 === 5) {
      const node = Math.floor(index / 6) % nodes
      for (const { input } of give(node, parts.map((text) => ({ call: "memory.add", input: { page, text } })))) if ("text" in input) paragraphs.push({ page, text: input.text })
      continue
    }
    const alone = unshared(parts)
    const first = parts.filter((_, k) => k % 4 === 0)
    before.push([{ call: "memory.add", input: { page, text: first.join("\n\n") } }])
    const lanes = apart.map((_, node) => pageLane(page, parts, node))
    lanes.forEach(({ lane, after }, node) => {
      const taken = give(node, lane)
      paragraphs.push(...after(taken.length).filter(([k]) => alone.has(k)).map(([, text]) => ({ page, text })))
    })
    if (shown === "" && parts.length >= 8 && parts.length <= 14) shown = page
  }
  // Fewer packages, fewer pages: what is left of the number is made of settings.
  apart.forEach((_, node) => give(node, settingsLane(settings.filter((_, i) => i % nodes === node), room[node] ?? 0)))
  return { before, apart, pages: used, settings: settings.length, shown, paragraphs }
}

const pageLane = (page: string, parts: ReadonlyArray<string>, node: number): { readonly lane: Lane; readonly after: (taken: number) => ReadonlyArray<readonly [number, string]> } => {
  const standing = new Map(parts.flatMap((text, k) => k % 4 === 0 ? [[k, text] as const] : []))
  const written = () => [...standing].sort(([a], [b]) => a - b).map(([, text]) => text).join("\n\n")
  const lane: Array<Change> = []
  const made: Array<readonly [number, string]> = []
  const change = (k: number, text: string) => {
    const base = written()
    standing.set(k, text)
    made.push([k, text])
    lane.push({ call: "memory.edit", input: { page, base, text: written() } })
  }
  const mine = parts.flatMap((text, k) => k % 4 === node + 1 ? [[k, text] as const] : [])
  for (const [k, text] of mine) change(k, text)
  for (const [k, text] of mine) {
    const wrapped = wrap(text, widths[(k + node) % widths.length] ?? 72)
    if (wrapped !== text) change(k, wrapped)
  }
  return { lane, after: (taken) => [...new Map(made.slice(0, taken))] }
}

/** Places of paragraphs none of whose lines occurs elsewhere in the page. */
const unshared = (parts: ReadonlyArray<string>): ReadonlySet<number> => {
  const lines = Map.groupBy(parts.flatMap((text, k) => text.split("\n").map((line) => ({ k, line: line.trim() }))), ({ line }) => line)
  return new Set(parts.keys().filter((k) => (parts[k] ?? "").split("\n").every((line) => lines.get(line.trim())?.length === 1)))
}

/** Prose only: code, tables, lists and headings stay as they are. */
const wrap = (text: string, width: number): string => {
  if (/^(?:[#>|<`*+-]| {4}|\d+\.|!\[|\[)/m.test(text)) return text
  const lines: Array<string> = []
  let line = ""
  for (const word of text.split(/\s+/)) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === "" ? word : `${line} ${word}`
  }
  return [...lines, line].join("\n")
}

/** Round after round over the keys, as releases do: versions go up, switches are turned, words get longer. */
const settingsLane = (settings: ReadonlyArray<SettingValue>, count: number): Lane => Array.from({ length: settings.length === 0 ? 0 : count }, (_, i) => {
  const { path, value } = settings[i % settings.length] ?? { path: "", value: null }
  return { call: "config.set", input: { path, value: next(value, Math.floor(i / settings.length) + 1), layer: "mesh" } }
})

const next = (value: Json, round: number): Json => {
  if (typeof value === "boolean") return round % 2 === 1 ? !value : value
  if (typeof value === "number") return value + round
  if (typeof value !== "string") return [round, value]
  const version = /^([\^~]?\d+\.\d+\.)(\d+)$/.exec(value)
  return version === null ? `${value} (${round})` : `${version[1]}${Number(version[2]) + round}`
}

export interface WorkEvents {
  readonly acknowledged: (change: Acknowledged) => void
  /** Resolves when a node that went away is there again. */
  readonly back: (node: DemoNode) => Promise<void>
}

/** Sends all lanes to one node. An answer that was lost is asked for again with the same command id: that does no harm. */
export const work = async (node: DemoNode, lanes: ReadonlyArray<Lane>, events: WorkEvents): Promise<{ readonly repeated: number }> => {
  const waiting = [...lanes]
  let repeated = 0
  const one = async (change: Change): Promise<void> => {
    const command = newCommand()
    for (;;) {
      try {
        const done = change.call === "memory.edit" ? await node.call(change.call, change.input, { command })
          : change.call === "memory.add" ? await node.call(change.call, change.input, { command }) : await node.call(change.call, change.input, { command })
        const [event] = done.events
        if (event === undefined) throw new Error(`${change.call} of ${subjectOf(change)} changed nothing`)
        return events.acknowledged({ node: node.name, address: event.address, command, subject: subjectOf(change) })
      } catch (cause) {
        if (!(cause instanceof Refused) || !isGone(cause)) throw cause
        repeated++
        await events.back(node)
      }
    }
  }
  await Promise.all(Array.from({ length: inFlightMax }, async () => {
    for (let lane = waiting.shift(); lane !== undefined; lane = waiting.shift()) for (const change of lane) await one(change)
  }))
  return { repeated }
}

const isGone = ({ problem }: Refused): boolean => problem.kind === "no-daemon" || /broke|went away/.test(problem.detail)

const subjectOf = (change: Change): string =>
  change.call === "config.set" ? `config/mesh/${change.input.path.split(".").slice(0, 2).join(".")}` : `memory/${change.input.page}`
