/** Help pages, made from the table; topics are written here. */
import { suggest } from "../../codec/suggest.ts"
import { apiLimits } from "../limits.ts"
import type { Operation } from "../operation.ts"
import { operationByName, operations } from "../operations/table.ts"
import { exitCodes } from "../problem.ts"
import { globalFlags } from "./parse.ts"
import { argumentName, type Field, fieldsOf, flagsOf, usageOf, valueName, wordsOf } from "./shape.ts"

export const topics = ["exit-codes", "environment", "files"] as const

/** The page for `kos help WORDS`; undefined when there is none. */
export const helpPage = (words: ReadonlyArray<string>): string | undefined => {
  const [first, second] = words
  if (first === undefined) return overview()
  const topic = topicPages[first]
  if (topic !== undefined && second === undefined) return topic()
  const op = operationByName.get(words.join("."))
  if (op !== undefined) return operationPage(op)
  const verbs = operations.filter(({ name }) => name.startsWith(`${first}.`))
  return verbs.length > 0 && second === undefined ? nounPage(first, verbs) : undefined
}

/** What may have been meant by a topic that does not exist. */
export const nearTopics = (words: ReadonlyArray<string>): ReadonlyArray<string> =>
  suggest(words.join(" "), [...topics, ...operations.map(wordsOf), ...new Set(operations.map(({ name }) => name.split(".")[0] ?? ""))])

const operationPage = (op: Operation): string => {
  const fields = fieldsOf(op)
  const positional = fields.filter((field) => field.position !== undefined || field.rest).sort((a, b) => (a.position ?? 99) - (b.position ?? 99))
  const from = op.cli.stdin !== undefined || op.cli.file !== undefined ? ["", "Text can come from stdin; - says so."] : []
  return page([
    op.summary,
    "",
    `usage: ${usageOf(op)}`,
    ...section("arguments", positional.map((field) => [argumentName(op, field), sentence(field)])),
    ...section("flags", flagsOf(op).map((field) => [flagText(field), sentence(field)])),
    ...section("everywhere", globalFlags.map(({ flag, letter, value, sentence }) => [`${letter === undefined ? "    " : `-${letter}, `}--${flag}${value === undefined ? "" : ` ${value}`}`, sentence])),
    ...(op.cli.editor === true ? ["", "Opens $VISUAL or $EDITOR."] : from),
    ...(op.cli.examples === undefined ? [] : ["", "examples:", ...op.cli.examples.map((line) => `  ${line}`)])
  ])
}

const nounPage = (noun: string, verbs: ReadonlyArray<Operation>): string =>
  page([`usage: kos ${noun} VERB`, ...section("verbs", verbs.map((op) => [usageOf(op).replace(/^kos /, "").replace(/ \[flags\]$/, ""), op.summary])), "", `more: kos help ${noun} VERB`])

const overview = (): string => {
  const words = operations.filter(({ name }) => !name.includes("."))
  const nouns = [...new Set(operations.filter(({ name }) => name.includes(".")).map(({ name }) => name.split(".")[0] ?? ""))]
  const verbsOf = (noun: string) => operations.filter(({ name }) => name.startsWith(`${noun}.`)).map(({ name }) => name.slice(noun.length + 1)).join(", ")
  return page([
    "kos: a node of a society of devices that needs no server",
    "",
    "usage: kos [--home DIR] [--json] NOUN VERB …",
    ...section("everyday", words.map((op) => [op.name, op.summary])),
    ...section("nouns", nouns.map((noun) => [noun, verbsOf(noun)])),
    "",
    "more: kos help NOUN [VERB] · kos help exit-codes · kos help environment · kos help files",
    "first steps: kos init, kos daemon run, kos status"
  ])
}

const exitMeanings: Readonly<Record<keyof typeof exitCodes, string>> = {
  done: "done",
  failed: "failed; the message says why",
  usage: "wrong use: unknown command or flag, or a value of the wrong type; nothing was written",
  "no-daemon": "no daemon runs on this home",
  "not-found": "there is no such thing",
  denied: "you may not, or the invite is not good",
  conflict: "something else is there already, or it changed meanwhile",
  timeout: "took too long",
  pending: "accepted, but not everywhere yet",
  policy: "a rule of the mesh forbids it",
  degraded: "the node is not able to now: disk full or read-only, stopping, or found unhealthy"
}

const topicPages: Readonly<Record<string, () => string>> = {
  "exit-codes": () => page([
    "Exit codes of every kos command.",
    ...section("codes", Object.entries(exitMeanings).map(([name, meaning]) => [String(exitCodes[name as keyof typeof exitCodes]).padStart(3), meaning])),
    "  130  interrupted by Ctrl-C",
    "",
    "With --json a failure is one RFC 9457 object on stderr; its `kind` names the code: " + Object.keys(exitCodes).slice(1).join(", ") + "."
  ]),
  environment: () => page([
    "Environment that kos reads.",
    ...section("variables", [
      ["KOS_HOME", "directory of the node, when --home is not given"],
      ["XDG_DATA_HOME", "its default: $XDG_DATA_HOME/kos, else ~/.local/share/kos; for root /var/lib/kos when it is there"],
      ["KOS_PASSPHRASE_FILE", "file whose content is the passphrase of the home's keys, when --passphrase-file is not given"],
      ["CREDENTIALS_DIRECTORY", "credentials of systemd: kos-passphrase, kos-home-key, or the one that kos key seal named"],
      ["KOS_BOOTSTRAP", "DHT to use instead of the public one: HOST:PORT,…"],
      ["KOS_MESH", "which mesh is meant, when --mesh is not given"],
      ["KOS_ACTOR", "act as agent:NAME or person:NAME, when --as is not given"],
      ["VISUAL, EDITOR", "editor for `config edit` and `memory edit`; else vi"],
      ["NO_COLOR", "any value: no colours"]
    ])
  ]),
  files: () => page([
    "Files of a node, under its home.",
    ...section("files", [
      ["run/kos.sock", "the daemon's API (mode 0600); kos talks to it"],
      ["run/kos.pid", "who holds this home"],
      ["keys/device", "seed of the device key, raw or sealed; never copy it to another device: kos key backup"],
      ["keys/home", "the key that seals all others, under its passphrase, key file or credential; there when the home is sealed"],
      ["current", "which mesh commands go to when they name none: kos mesh use"],
      ["meshes", "all meshes that this node is in"],
      ["mesh/ID/keys/", "mesh key, seeds of this node's logs, and its device key there when that is not keys/device"],
      ["mesh/ID/store/", "the logs of all nodes, this one's included: the truth"],
      ["mesh/ID/tables.db", "what is folded from the logs; can be rebuilt: kos doctor --rebuild"],
      ["logs/kos.log", "what the daemon logged, rotated by size; kos logs shows it"]
    ]),
    "",
    `Requests over the socket hold at most ${apiLimits.bodyBytesMax / 1_048_576} MiB.`
  ])
}

const flagText = (field: Field): string =>
  `${field.letter === undefined ? "    " : `-${field.letter}, `}--${field.flag}${field.kind === "boolean" ? "" : ` ${valueName(field)}`}`

const sentence = (field: Field): string =>
  field.sentence + (field.standard === undefined || field.standard === false ? "" : ` (default ${String(field.standard)})`)

const section = (title: string, rows: ReadonlyArray<readonly [string, string]>): ReadonlyArray<string> => {
  if (rows.length === 0) return []
  const wide = Math.min(34, rows.reduce((most, [name]) => Math.max(most, name.length), 0))
  return ["", `${title}:`, ...rows.map(([name, text]) => (name.length > wide ? `  ${name}\n  ${" ".repeat(wide)}  ${text}` : `  ${name.padEnd(wide)}  ${text}`))]
}

const page = (lines: ReadonlyArray<string>): string => lines.join("\n")
