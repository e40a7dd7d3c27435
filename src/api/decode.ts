/** From the bytes of a request to an operation's input, or to the problem that says what is wrong with them. */
import { Result, Schema, SchemaAST, SchemaIssue } from "effect"
import { didYouMean } from "../codec/suggest.ts"
import type { Operation } from "./operation.ts"
import { problem, type ProblemDocument } from "./problem.ts"

/** Parses JSON that is no deeper than `depthMax`; the depth is counted before anything recursive sees the text. */
export const parseJson = (text: string, depthMax: number): Result.Result<unknown, ProblemDocument> => {
  if (text.trim() === "") return Result.succeed({})
  if (deeperThan(text, depthMax)) return Result.fail(problem("usage", `the body is nested deeper than ${depthMax}`))
  try {
    return Result.succeed(JSON.parse(text))
  } catch (error) {
    return Result.fail(problem("usage", `the body is not JSON: ${error instanceof Error ? error.message : "unreadable"}`))
  }
}

/** Decodes an operation's input. Unknown keys are refused with the nearest known one; every fault names its path. */
export const decodeInput = (operation: Operation, input: unknown): Result.Result<unknown, ProblemDocument> => {
  const use = `kos help ${operation.name.replace(".", " ")}`
  if (typeof input !== "object" || input === null || Array.isArray(input)) {
    return Result.fail(problem("usage", `${operation.name} expects an object`, { hint: use }))
  }
  const known = keysOf(operation.input)
  for (const key of Object.keys(input)) {
    if (!known.includes(key)) {
      return Result.fail(problem("usage", `${operation.name} has no "${key}"${didYouMean(key, known)}`, { path: key, hint: use }))
    }
  }
  const decoded = Schema.decodeUnknownResult(operation.input)(input, { onExcessProperty: "error", errors: "all" })
  if (Result.isSuccess(decoded)) return Result.succeed(decoded.success)
  const { path, detail } = firstFault(decoded.failure)
  return Result.fail(problem("usage", path === "" ? detail : `${path}: ${detail}`, { path: path === "" ? undefined : path, hint: use }))
}

/** Names of an operation's input keys. */
export const keysOf = (schema: Schema.Codec<any, any>): ReadonlyArray<string> => {
  const ast = SchemaAST.toEncoded(schema.ast)
  return SchemaAST.isObjects(ast) ? ast.propertySignatures.map((property) => String(property.name)) : []
}

const standardIssues = SchemaIssue.makeFormatterStandardSchemaV1()

const firstFault = (error: Schema.SchemaError): { readonly path: string; readonly detail: string } => {
  const { issues } = standardIssues(error.issue)
  const [first] = issues
  if (first === undefined) return { path: "", detail: error.message }
  const path = (first.path ?? []).map((key) => String(typeof key === "object" ? key.key : key)).join(".")
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : ""
  return { path, detail: `${first.message.charAt(0).toLowerCase()}${first.message.slice(1)}${more}` }
}

/** True when brackets outside of strings nest deeper than `depthMax`. */
const deeperThan = (text: string, depthMax: number): boolean => {
  let depth = 0
  let inString = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (inString) {
      if (code === backslash) i++
      else if (code === quote) inString = false
    } else if (code === quote) inString = true
    else if (code === openBracket || code === openBrace) {
      if (++depth > depthMax) return true
    } else if (code === closeBracket || code === closeBrace) depth--
  }
  return false
}
const [quote, backslash, openBracket, closeBracket, openBrace, closeBrace] = [0x22, 0x5c, 0x5b, 0x5d, 0x7b, 0x7d] as const
