/**
 * The documents against the code: tables that are made from it, command lines that the CLI's own parser takes, files that exist.
 *
 * `KOS_WRITE=1 node test/docs.test.ts` writes the two made tables into README.md.
 */
import { Result } from "effect"
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import t from "tap"
import { parse } from "../src/api/cli/parse.ts"
import { usageOf } from "../src/api/cli/shape.ts"
import { operationByName, operations } from "../src/api/operations/table.ts"
import { exitCodes } from "../src/api/problem.ts"

const root = resolve(import.meta.dirname, "..")
const readmePath = join(root, "README.md")
const readme = readFileSync(readmePath, "utf8")
const pages: ReadonlyArray<string> = ["README.md", ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`)].toSorted()
const textOf = (page: string): string => readFileSync(join(root, page), "utf8")

/** Limits that a person may run into: what it bounds, the file under src, the constant (or a key of it), the unit. */
const limits: ReadonlyArray<readonly [what: string, file: string, name: string, unit: "bytes" | "ms" | "count"]> = [
  ["events in one frame", "codec/frame.ts", "frameEventsMax", "count"],
  ["encoded events gathered into one frame", "codec/frame.ts", "frameGatherBytesMax", "bytes"],
  ["one encoded event", "codec/frame.ts", "eventBytesMax", "bytes"],
  ["one sealed frame", "codec/frame.ts", "frameBytesMax", "bytes"],
  ["commands waiting for the log", "events/journal.ts", "queueUnitsMax", "count"],
  ["wait of batched events for company", "events/journal.ts", "lingerMsMax", "ms"],
  ["commands under way at once", "commands/dispatch.ts", "commandsMax", "count"],
  ["one document change in a log", "projections/documents/limits.ts", "changeBytesMax", "bytes"],
  ["operations in one change (a character is one)", "projections/documents/limits.ts", "changeOperationsMax", "count"],
  ["nesting of a document", "projections/documents/limits.ts", "objectDepthMax", "count"],
  ["distinct keys of one map, deleted ones included", "projections/documents/limits.ts", "mapKeysMax", "count"],
  ["changes of one document that wait for others", "projections/documents/limits.ts", "waitingChangesMax", "count"],
  ["documents loaded at once", "projections/documents/limits.ts", "loadedDocumentsMax", "count"],
  ["text and fields of one memory page", "projections/families/memory.ts", "pageBytesMax", "bytes"],
  ["fields of one memory page", "projections/families/memory.ts", "fieldsMax", "count"],
  ["settings in one namespace of a layer", "projections/families/settings.ts", "namespaceKeysMax", "count"],
  ["a file of settings or an agent's definition", "projections/families/formats.ts", "fileBytesMax", "bytes"],
  ["one membership operation", "codec/operation.ts", "operationBytesMax", "bytes"],
  ["membership operations of one mesh", "codec/membership/graph.ts", "operationsMax", "count"],
  ["uses of one invite", "codec/operation.ts", "inviteUsesMax", "count"],
  ["blocks of one log that peers may speak of", "swarm/wire-guard.ts", "blocksMax", "count"],
  ["logs downloaded at once", "swarm/limits.ts", "replicationDefaults.openMax", "count"],
  ["blocks asked for and not yet here, per log", "swarm/limits.ts", "replicationDefaults.windowBlocksMax", "count"],
  ["bytes read from a device before it is known to be a member", "swarm/session.ts", "sessionDefaults.introductionBytesMax", "bytes"],
  ["connections on the local network", "swarm/carriers/lan.ts", "lanLimits.connectionsMax", "count"],
  ["connections by the DHT", "swarm/carriers/hyperswarm.ts", "hyperswarmLimits.connectionsMax", "count"],
  ["wait of a short log for peers", "boot/own-log.ts", "healMsMax", "ms"],
  ["wait for word of peers after a restart of the machine", "boot/own-log.ts", "wordMsMax", "ms"],
  ["things kept in quarantine's list", "projections/tables/quarantine.ts", "quarantineRowsMax", "count"],
  ["one request to the daemon", "api/limits.ts", "apiLimits.bodyBytesMax", "bytes"],
  ["calls under way at once", "api/limits.ts", "apiLimits.callsMax", "count"],
  ["watchers (`kos events -f` and the like) at once", "api/limits.ts", "apiLimits.watchersMax", "count"],
  ["channels that a node follows", "boot/update-channels.ts", "channelsMax", "count"],
  ["one file of a channel's metadata", "updates/metadata/metadata-limits.ts", "metadataBytesMax", "bytes"],
  ["blocks of one channel's log", "updates/metadata/channel-block.ts", "channelBlocksMax", "count"],
  ["files of one release", "updates/payload/archive-format.ts", "entriesMax", "count"],
  ["payload of one release", "updates/payload/index-file.ts", "payloadBytesMax", "bytes"],
  ["versions of kOS that lie on a node", "boot/slots-directories.ts", "generationsMax", "count"],
  ["starts that a version on trial gets", "updates/way.ts", "triesMax", "count"],
  ["attempts with one release that a node makes by itself", "updates/rollout.ts", "attemptsMax", "count"],
  ["characters of advice on a release", "commands/decide-updates.ts", "adviceCharsMax", "count"],
  ["one file of channels and packs (`kos update export`)", "updates/stick.ts", "stickBytesMax", "bytes"],
  ["one proof file", "codec/verify/format.ts", "proofBytesMax", "bytes"],
  ["frames in one proof file", "codec/verify/format.ts", "proofFramesMax", "count"]
]

const shown = (value: number, unit: "bytes" | "ms" | "count"): string => {
  if (unit === "bytes" && value >= 2 ** 30 && value % 2 ** 30 === 0) return `${value / 2 ** 30} GiB`
  if (unit === "bytes") return value >= 1_048_576 && value % 1_048_576 === 0 ? `${value / 1_048_576} MiB` : `${value / 1_024} KiB`
  if (unit === "ms") return value >= 1_000 ? `${value / 1_000} s` : `${value} ms`
  return value.toLocaleString("en-GB")
}

const valueOf = async (file: string, name: string): Promise<number> => {
  const loaded: unknown = await import(join(root, "src", file))
  let at: unknown = loaded
  for (const part of name.split(".")) at = typeof at === "object" && at !== null ? Reflect.get(at, part) : undefined
  if (typeof at !== "number") throw new Error(`src/${file} exports no number ${name}`)
  return at
}

const operationTable = (): string => [
  "| command | what it does |", "| --- | --- |",
  ...operations.map((op) => `| \`${usageOf(op).replace(/ \[flags\]$/, "").replaceAll("|", "\\|")}\` | ${op.summary.replaceAll("|", "\\|")} |`)
].join("\n")

const limitTable = async (): Promise<string> => [
  "| limit | value | where |", "| --- | --- | --- |",
  ...await Promise.all(limits.map(async ([what, file, name, unit]) => `| ${what} | ${shown(await valueOf(file, name), unit)} | \`${name}\` in \`src/${file}\` |`))
].join("\n")

const place = (name: string): RegExp => new RegExp(`(<!-- ${name}: made by test/docs\\.test\\.ts -->\\n\\n)([\\s\\S]*?)(\\n\\n<!-- end -->)`)
const between = (text: string, name: string): string | undefined => place(name).exec(text)?.[2]

const made = async (): Promise<ReadonlyArray<readonly [string, string]>> => [["commands", operationTable()], ["limits", await limitTable()]]

if (process.env["KOS_WRITE"] === "1") {
  let text = readme
  for (const [name, table] of await made()) {
    if (between(text, name) === undefined) throw new Error(`README.md has no place for ${name}`)
    text = text.replace(place(name), (_, before: string, __, after: string) => before + table + after)
  }
  writeFileSync(readmePath, text)
}

t.test("README's tables of commands and limits are those of the code", async (t) => {
  const now = readFileSync(readmePath, "utf8")
  for (const [name, table] of await made()) t.equal(between(now, name), table, `run KOS_WRITE=1 node test/docs.test.ts to write the table of ${name}`)
})

t.test("every exit code is explained in README", async (t) => {
  const codes = [...(/## Exit codes\n([\s\S]*?)\n## /.exec(readme)?.[1] ?? "").matchAll(/^\| (\d+) \|/gm)].map(([, code]) => Number(code))
  t.same(codes, [...Object.values(exitCodes), 130])
})

/** Words as a shell splits them, up to a redirection, a pipe, a comment or the end. */
const wordsOf = (line: string): ReadonlyArray<string> => {
  const words: Array<string> = []
  for (const [word, single, double] of line.matchAll(/'([^']*)'|"([^"]*)"|\S+/g)) {
    if (/^(>|>>|<|\||&|&&|;|#.*)$/.test(word)) break
    words.push(single ?? double ?? word)
  }
  return words
}

/** Each `kos …` that a page shows: after a prompt or at the start of a line in a code block, and in code within a sentence. */
const commandLines = (text: string): ReadonlyArray<string> => {
  const lines: Array<string> = []
  const prose = text.replaceAll(/^```[a-z]*\n([\s\S]*?)^```$/gm, (_, code: string) => {
    for (const line of code.split("\n")) {
      const command = /^(?:\$ )?(?:npx )?kos(?= )(.*)$/.exec(line)?.[1]
      if (command !== undefined) lines.push(command)
    }
    return ""
  })
  for (const [, command] of prose.matchAll(/`(?:npx )?kos ([^`]+)`/g)) lines.push((command ?? "").replaceAll("\\|", "|"))
  // In what was printed, a version of kOS is no command.
  return lines.map((line) => line.trim()).filter((line) => !line.startsWith("…") && line !== "" && !/^\d/.test(line))
}

/** Usage shows a number or a choice by its name; the parser wants one. */
const standIns: Readonly<Record<string, string>> = { CHOICE: "1", N: "1", MODE: "joined", SHELL: "bash", ROLE: "member", OWNERS: "2", GENERATION: "1" }

t.test("every kos command line in the documents is one that the CLI takes", async (t) => {
  let count = 0
  for (const page of pages) {
    for (const line of commandLines(textOf(page))) {
      count++
      const words = wordsOf(line)
      // A sentence may name a command without its arguments.
      if (operationByName.has(words.join("."))) continue
      // Of choices the first one stands for all.
      const parsed = parse(words.map((word) => standIns[word.replace(/^\[|\]$/g, "")] ?? (/^[a-z]+(\|[a-z]+)+$/.test(word) ? word.split("|")[0] ?? word : word)))
      if (Result.isFailure(parsed)) t.fail(`${page}: kos ${line}: ${parsed.failure.detail}`)
      else if (parsed.success._tag === "Incomplete") t.fail(`${page}: kos ${line}: a verb is missing`)
    }
  }
  t.ok(count > operations.length + 20, `${count} command lines were parsed`)
})

t.test("every file and link in the documents exists", async (t) => {
  let count = 0
  for (const page of pages) {
    const text = textOf(page)
    const named = [...text.matchAll(/`((?:src|test|bench|docs|bin)\/[A-Za-z0-9_./-]+)`/g)].map(([, path]) => join(root, path ?? ""))
    const linked = [...text.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)].map(([, path]) => resolve(root, dirname(page), path ?? ""))
    for (const file of [...named, ...linked]) {
      count++
      if (!existsSync(file)) t.fail(`${page} names ${file.slice(root.length + 1)}, which is not there`)
    }
  }
  t.ok(count > 100, `${count} names and links were looked up`)
})

t.test("decisions are numbered without a gap and have four parts", async (t) => {
  const names = readdirSync(join(root, "docs/decisions")).toSorted()
  t.same(names.map((name) => Number(name.slice(0, 4))), names.map((_, i) => i + 1))
  for (const name of names) {
    const headings = [...textOf(`docs/decisions/${name}`).matchAll(/^## (.*)$/gm)].map(([, heading]) => heading)
    t.same(headings, ["Context", "Options", "Choice", "Consequence"], name)
  }
})

t.test("documents use no machine path and stay readable", async (t) => {
  for (const page of pages) {
    const text = textOf(page)
    t.notMatch(text, /(?<![\w.])\/(?:work|root|home)\//, page)
  }
  t.ok(textOf("docs/ARCHITECTURE.md").split("\n").length <= 250, "ARCHITECTURE.md has at most 250 lines")
})
