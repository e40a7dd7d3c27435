/** What an operation looks like on the command line, read from its input's Schema and its `cli` part. */
import { SchemaAST } from "effect"
import type { Operation } from "../operation.ts"

export interface Field {
  readonly key: string
  /** `--flag` without the dashes. */
  readonly flag: string
  readonly kind: "boolean" | "number" | "text" | "choice" | "list" | "json"
  /** For `choice`. */
  readonly choices: ReadonlyArray<string>
  readonly required: boolean
  /** Shown in help. */
  readonly standard: unknown
  readonly sentence: string
  /** Place among the arguments; undefined for a flag. */
  readonly position: number | undefined
  /** Takes all remaining arguments. */
  readonly rest: boolean
  readonly letter: string | undefined
  readonly hidden: boolean
}

export const fieldsOf = (op: Operation): ReadonlyArray<Field> => {
  const ast = SchemaAST.toEncoded(op.input.ast)
  if (!SchemaAST.isObjects(ast)) return []
  return ast.propertySignatures.map((property) => {
    const key = String(property.name)
    const position = op.cli.positional?.indexOf(key) ?? -1
    return {
      key,
      flag: op.cli.flags?.[key] ?? kebab(key),
      ...kindOf(property.type),
      required: !SchemaAST.isOptional(property.type),
      standard: SchemaAST.resolve(property.type)?.["default"],
      sentence: op.cli.describe[key] ?? "",
      position: position === -1 ? undefined : position,
      rest: op.cli.rest === key,
      letter: Object.entries(op.cli.alias ?? {}).find(([, aliased]) => aliased === key)?.[0],
      hidden: op.cli.hidden?.includes(key) ?? false
    }
  })
}

/** Words after `kos`. */
export const wordsOf = (op: { readonly name: string }): string => op.name.replace(".", " ")

/** `kos config set PATH [TEXT] [--layer mesh|role|node]` */
export const usageOf = (op: Operation): string => {
  const fields = fieldsOf(op)
  const named = (field: Field) => (field.rest ? `${argumentName(op, field)}…` : argumentName(op, field))
  const positional = fields.filter((field) => field.position !== undefined || field.rest).sort((a, b) => (a.position ?? 99) - (b.position ?? 99))
  const words = positional.map((field) => (field.required ? named(field) : `[${named(field)}]`))
  const flags = flagsOf(op)
  const must = flags.filter(({ required }) => required).map((field) => `--${field.flag} ${valueName(field)}`)
  return ["kos", wordsOf(op), ...words, ...must, ...(flags.length > must.length ? ["[flags]"] : [])].join(" ")
}

export const flagsOf = (op: Operation): ReadonlyArray<Field> =>
  fieldsOf(op).filter((field) => field.position === undefined && !field.rest && !field.hidden)

/** A file's argument is called FILE although its text is what is sent. */
export const argumentName = (op: Operation, field: Field): string => (op.cli.file === field.key ? "FILE" : field.key === "text" ? "VALUE" : field.key.toUpperCase())

export const valueName = (field: Field): string =>
  field.kind === "choice" ? field.choices.join("|") : field.kind === "number" ? "N" : field.flag.toUpperCase().replaceAll("-", "_")

const kindOf = (ast: SchemaAST.AST): { readonly kind: Field["kind"]; readonly choices: ReadonlyArray<string> } => {
  if (SchemaAST.isBoolean(ast)) return { kind: "boolean", choices: [] }
  if (SchemaAST.isNumber(ast)) return { kind: "number", choices: [] }
  if (SchemaAST.isString(ast)) return { kind: "text", choices: [] }
  if (SchemaAST.isArrays(ast)) return { kind: "list", choices: [] }
  if (SchemaAST.isUnion(ast)) {
    const choices = ast.types.flatMap((type) => (SchemaAST.isLiteral(type) ? [String(type.literal)] : []))
    if (choices.length === ast.types.length) return { kind: "choice", choices }
  }
  return { kind: "json", choices: [] }
}

const kebab = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
