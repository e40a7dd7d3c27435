/**
 * From `argv` to an operation and its raw input. Our own rather than `effect/cli`: the commands come from a table, mistakes must be one problem
 * on stderr with exit 2 (it prints the whole help on stdout), and it is marked unstable.
 *
 * Rules: global flags anywhere; `--flag value`, `--flag=value`, `-f`, `-n5`; a boolean takes no value but `=true` or `=false`, and `--no-flag`
 * denies it; `--` ends flags; a word such as `-5` is a value; a list's flag may be repeated.
 */
import { Result } from "effect"
import { didYouMean } from "../../codec/suggest.ts"
import type { Operation } from "../operation.ts"
import { operationByName, operations } from "../operations/table.ts"
import { problem, type ProblemDocument } from "../problem.ts"
import { argumentName, type Field, fieldsOf, wordsOf } from "./shape.ts"

export interface Globals {
  readonly json: boolean
  readonly home: string | undefined
  readonly actor: string | undefined
  readonly mesh: string | undefined
  readonly help: boolean
  readonly version: boolean
  readonly color: boolean
}

export type Parsed =
  | { readonly _tag: "Call"; readonly op: Operation; readonly input: Record<string, unknown>; readonly globals: Globals }
  /** Help on an operation, a noun, or everything (`topic` empty). */
  | { readonly _tag: "Help"; readonly topic: ReadonlyArray<string>; readonly globals: Globals }
  | { readonly _tag: "Version"; readonly globals: Globals }
  /** A noun without its verb, or nothing at all. */
  | { readonly _tag: "Incomplete"; readonly topic: ReadonlyArray<string>; readonly globals: Globals }

export const globalFlags = [
  { flag: "json", letter: undefined, value: undefined, sentence: "print one JSON value, and failures as one RFC 9457 object on stderr" },
  { flag: "home", letter: undefined, value: "DIR", sentence: "the node in this directory (or KOS_HOME)" },
  { flag: "as", letter: undefined, value: "ACTOR", sentence: "act as agent:NAME or person:NAME on this device" },
  { flag: "mesh", letter: undefined, value: "NAME", sentence: "in this mesh (or KOS_MESH), by name or beginning of its id; the default one: kos mesh list" },
  { flag: "no-color", letter: undefined, value: undefined, sentence: "no colours (or NO_COLOR)" },
  { flag: "help", letter: "h", value: undefined, sentence: "explain the command" },
  { flag: "version", letter: "V", value: undefined, sentence: "print the version" }
] as const

/** Does the person want JSON? Asked before anything else can go wrong. */
export const wantsJson = (argv: ReadonlyArray<string>): boolean => {
  const end = argv.indexOf("--")
  return (end === -1 ? argv : argv.slice(0, end)).includes("--json")
}

export const parse = (argv: ReadonlyArray<string>): Result.Result<Parsed, ProblemDocument> => {
  const taken = takeGlobals(argv)
  if (Result.isFailure(taken)) return Result.fail(taken.failure)
  const { globals, words } = taken.success
  if (globals.version) return Result.succeed({ _tag: "Version", globals })
  const found = findOperation(words, globals)
  if (Result.isFailure(found)) return Result.fail(found.failure)
  if ("topic" in found.success) return Result.succeed({ _tag: globals.help ? "Help" : "Incomplete", topic: found.success.topic, globals })
  const { op, rest } = found.success
  if (globals.help) return Result.succeed({ _tag: "Help", topic: op.name.split("."), globals })
  const input = readInput(op, rest)
  return Result.isFailure(input) ? Result.fail(input.failure) : Result.succeed({ _tag: "Call", op, input: input.success, globals })
}

const takeGlobals = (argv: ReadonlyArray<string>): Result.Result<{ readonly globals: Globals; readonly words: ReadonlyArray<string> }, ProblemDocument> => {
  const words: Array<string> = []
  const values = new Map<string, string>()
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? ""
    if (word === "--") {
      words.push(...argv.slice(i))
      break
    }
    const [name = "", inlined] = splitFlag(word)
    const known = word.startsWith("-") ? globalFlags.find(({ flag, letter }) => name === `--${flag}` || (letter !== undefined && word === `-${letter}`)) : undefined
    if (known === undefined) words.push(word)
    else if (known.value === undefined) {
      if (inlined !== undefined) return usage(`--${known.flag} takes no value`, `--${known.flag}`)
      values.set(known.flag, "")
    } else {
      const value = inlined ?? argv[++i]
      if (value === undefined || value === "") return usage(`--${known.flag} needs a value: --${known.flag} ${known.value}`, `--${known.flag}`)
      values.set(known.flag, value)
    }
  }
  const globals = {
    json: values.has("json"), home: values.get("home"), actor: values.get("as"), mesh: values.get("mesh"), help: values.has("help"), version: values.has("version"),
    color: !values.has("no-color")
  }
  return Result.succeed({ globals, words })
}

type Found = { readonly op: Operation; readonly rest: ReadonlyArray<string> } | { readonly topic: ReadonlyArray<string> }

const findOperation = (words: ReadonlyArray<string>, globals: Globals): Result.Result<Found, ProblemDocument> => {
  const [first, second] = words
  if (first === undefined) return Result.succeed({ topic: [] })
  if (first.startsWith("-")) return usage(`unknown flag ${first}${didYouMean(first, globalFlags.map(({ flag }) => `--${flag}`))}`, first)
  const single = operationByName.get(first)
  if (single !== undefined) return Result.succeed({ op: single, rest: words.slice(1) })
  const verbs = operations.filter(({ name }) => name.startsWith(`${first}.`)).map(({ name }) => name.slice(first.length + 1))
  if (verbs.length === 0) {
    const known = new Set(operations.map(({ name }) => name.split(".")[0] ?? ""))
    return usage(`unknown command "${first}"${didYouMean(first, known) || verbHint(first)}`, first, "kos help")
  }
  if (second === undefined || (second.startsWith("-") && globals.help)) return Result.succeed({ topic: [first] })
  const op = operationByName.get(`${first}.${second}`)
  if (op === undefined) return usage(`unknown command "${first} ${second}"${didYouMean(second, verbs) || `; ${first} has ${verbs.join(", ")}`}`, second, `kos help ${first}`)
  return Result.succeed({ op, rest: words.slice(2) })
}

/** `kos get` was meant as `kos config get`. */
const verbHint = (verb: string): string => {
  const having = operations.filter(({ name }) => name.split(".")[1] === verb).map((op) => `kos ${wordsOf(op)}`)
  return having.length === 0 || having.length > 4 ? "" : `; did you mean ${having.join(" or ")}?`
}

const readInput = (op: Operation, words: ReadonlyArray<string>): Result.Result<Record<string, unknown>, ProblemDocument> => {
  const fields = fieldsOf(op)
  const help = `kos help ${wordsOf(op)}`
  const input: Record<string, unknown> = {}
  const positional: Array<string> = []
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? ""
    if (word === "--") {
      positional.push(...words.slice(i + 1))
      break
    }
    if (!word.startsWith("-") || word === "-" || /^-\d/.test(word)) {
      positional.push(word)
      continue
    }
    const flag = readFlag(fields, word)
    if (flag === undefined) {
      const known = [...fields.filter((field) => isFlag(field)), ...globalFlags].map((field) => `--${field.flag}`)
      return usage(`kos ${wordsOf(op)} has no flag ${word.split("=")[0] ?? ""}${didYouMean(word.split("=")[0] ?? "", known)}`, word.split("=")[0] ?? "", help)
    }
    const { field, denied } = flag
    let text = flag.value
    if (text === undefined && field.kind !== "boolean") text = words[++i]
    if (text === undefined && field.kind !== "boolean") return usage(`--${field.flag} needs a value`, `--${field.flag}`, help)
    if (field.kind !== "list" && field.key in input) return usage(`--${field.flag} is given twice`, `--${field.flag}`, help)
    const value = readValue(field, text ?? (denied ? "false" : "true"), `--${field.flag}`, help)
    if (Result.isFailure(value)) return Result.fail(value.failure)
    input[field.key] = field.kind === "list" ? [...(Array.isArray(input[field.key]) ? input[field.key] as Array<unknown> : []), value.success] : value.success
  }
  return readPositional(op, fields, positional, input, help)
}

const readPositional = (
  op: Operation, fields: ReadonlyArray<Field>, words: ReadonlyArray<string>, input: Record<string, unknown>, help: string
): Result.Result<Record<string, unknown>, ProblemDocument> => {
  const places = fields.filter(({ position }) => position !== undefined).sort((a, b) => (a.position ?? 0) - (b.position ?? 0))
  for (const [index, field] of places.entries()) {
    const word = words[index]
    if (word === undefined) {
      const comesLater = op.cli.stdin === field.key || op.cli.file === field.key
      if (field.required && !comesLater) return usage(`${argumentName(op, field)} is missing: ${field.sentence}`, field.key, help)
      break
    }
    const value = readValue(field, word, argumentName(op, field), help)
    if (Result.isFailure(value)) return Result.fail(value.failure)
    input[field.key] = value.success
  }
  const over = words.slice(places.length)
  const rest = fields.find((field) => field.rest)
  if (rest !== undefined) {
    if (over.length > 0) input[rest.key] = over
    else if (rest.required) return usage(`${argumentName(op, rest)} is missing: ${rest.sentence}`, rest.key, help)
  } else if (over.length > 0) return usage(`kos ${wordsOf(op)} has no place for "${over[0] ?? ""}"`, over[0] ?? "", help)
  const must = fields.find((field) => isFlag(field) && field.required && !(field.key in input))
  return must === undefined ? Result.succeed(input) : usage(`--${must.flag} is missing: ${must.sentence}`, `--${must.flag}`, help)
}

const isFlag = (field: Field): boolean => field.position === undefined && !field.rest && !field.hidden

const readFlag = (fields: ReadonlyArray<Field>, word: string): { readonly field: Field; readonly value: string | undefined; readonly denied: boolean } | undefined => {
  const [name = "", value] = splitFlag(word)
  const flags = fields.filter(isFlag)
  if (word.startsWith("--")) {
    const field = flags.find(({ flag }) => name === `--${flag}`)
    if (field !== undefined) return { field, value, denied: false }
    const denied = flags.find(({ flag, kind }) => kind === "boolean" && name === `--no-${flag}`)
    return denied === undefined || value !== undefined ? undefined : { field: denied, value, denied: true }
  }
  const field = flags.find(({ letter }) => letter === word[1])
  if (field === undefined) return undefined
  const glued = word.slice(2).replace(/^=/, "")
  if (glued !== "" && field.kind === "boolean") return undefined
  return { field, value: glued === "" ? undefined : glued, denied: false }
}

const readValue = (field: Field, text: string, where: string, help: string): Result.Result<unknown, ProblemDocument> => {
  if (field.kind === "boolean") {
    return text === "true" || text === "false" ? Result.succeed(text === "true") : usage(`${where}: expected true or false, not "${text}"`, where, help)
  }
  if (field.kind === "number") {
    const value = Number(text)
    return text.trim() === "" || !Number.isFinite(value) ? usage(`${where}: expected a number, not "${text}"`, where, help) : Result.succeed(value)
  }
  if (field.kind === "choice" && !field.choices.includes(text)) {
    return usage(`${where}: expected ${oneOf(field.choices)}, not "${text}"${didYouMean(text, field.choices)}`, where, help)
  }
  if (field.kind === "json") {
    try {
      return Result.succeed(JSON.parse(text))
    } catch {
      return usage(`${where}: expected JSON, not "${text}"`, where, help)
    }
  }
  return Result.succeed(text)
}

const oneOf = (words: ReadonlyArray<string>): string => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words[words.length - 1] ?? ""}`)

const splitFlag = (word: string): readonly [string, string | undefined] => {
  const at = word.indexOf("=")
  return at === -1 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)]
}

const usage = (detail: string, path: string, hint?: string) => Result.fail(problem("usage", detail, { path, hint: hint ?? "kos help" }))
