/** What the person gives beside the words of the command: stdin, files, an editor. */
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { Refusal } from "../../commands/refusal.ts"
import type { Operation } from "../operation.ts"
import { fillSecrets } from "./secrets.ts"
import { argumentName, fieldsOf } from "./shape.ts"

/** Bytes of a text that is given by stdin, file or editor. */
export const textBytesMax = 4 * 1024 * 1024

export interface InputIo {
  readonly stdin: AsyncIterable<unknown>
  /** Somebody writes into stdin: it is a pipe, a file or a socket, not a terminal and not nothing. */
  readonly stdinPiped: boolean
  readonly cwd: string
  readonly env: Readonly<Record<string, string | undefined>>
  /** Asks a person for a secret without showing it; absent when nobody sits at a terminal. */
  readonly ask?: (prompt: string) => Promise<string>
}

/** Completes the raw input: texts from stdin or files, absolute paths. `editor` tells that an editor is wanted for the rest. */
export const fillIn = async (op: Operation, raw: Readonly<Record<string, unknown>>, io: InputIo): Promise<{ readonly input: Record<string, unknown>; readonly editor: boolean }> => {
  const input: Record<string, unknown> = { ...raw }
  for (const key of op.cli.paths ?? []) if (typeof input[key] === "string") input[key] = resolve(io.cwd, input[key])
  await fillSecrets(op, input, io)
  const { file, stdin } = op.cli
  const spared = op.cli.editorUnless?.some((key) => key in input) ?? false
  if (file !== undefined) {
    const name = input[file]
    if (name === "-" || (name === undefined && io.stdinPiped)) input[file] = await readStdin(io)
    else if (typeof name === "string") {
      input[file] = readText(resolve(io.cwd, name))
      const format = formatOf(name)
      if (format !== undefined && !("format" in input) && fieldsOf(op).some(({ key }) => key === "format")) input["format"] = format
    } else if (fieldsOf(op).find(({ key }) => key === file)?.required === true) {
      throw new Refusal({ kind: "usage", detail: `${argumentName(op, fieldsOf(op).find(({ key }) => key === file) ?? missing(op))} is missing`, hint: `kos help ${op.name.replace(".", " ")}` })
    }
  }
  if (stdin !== undefined) {
    const explicit = input[stdin] === "-"
    if (explicit || (input[stdin] === undefined && io.stdinPiped && !spared)) {
      const text = await readStdin(io)
      if (text === "" && op.cli.editor === true) throw new Refusal({ kind: "usage", detail: "stdin was empty, and an empty page is rather forgotten", hint: "kos memory forget PAGE" })
      input[stdin] = text
    }
  }
  const editor = op.cli.editor === true && input["text"] === undefined && !spared
  return { input, editor }
}

const missing = (op: Operation): never => {
  throw new Error(`${op.name} names a key that it does not have`)
}

const formatOf = (name: string): "yaml" | "toml" | "json" | undefined =>
  /\.ya?ml$/i.test(name) ? "yaml" : /\.toml$/i.test(name) ? "toml" : /\.json$/i.test(name) ? "json" : undefined

const tooLarge = (what: string) => new Refusal({ kind: "usage", detail: `${what} is larger than ${textBytesMax} bytes` })

const utf8 = (bytes: Uint8Array, what: string): string => {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes)
  } catch {
    throw new Refusal({ kind: "usage", detail: `${what} is not UTF-8 text` })
  }
}

const readText = (path: string): string => {
  try {
    const found = statSync(path)
    if (found.isDirectory()) throw new Refusal({ kind: "usage", detail: `${path} is a directory` })
    if (found.size > textBytesMax) throw tooLarge(path)
    const bytes = readFileSync(path)
    if (bytes.byteLength > textBytesMax) throw tooLarge(path)
    return utf8(bytes, path)
  } catch (error) {
    if (error instanceof Refusal) throw error
    const absent = error instanceof Error && "code" in error && error.code === "ENOENT"
    throw new Refusal({ kind: absent ? "not-found" : "failed", detail: absent ? `there is no file ${path}` : `cannot read ${path}: ${error instanceof Error ? error.message : ""}` })
  }
}

/** All of stdin; one line loses its line end, since `echo x |` means x. */
const readStdin = async (io: InputIo): Promise<string> => {
  const parts: Array<Buffer> = []
  let size = 0
  for await (const part of io.stdin) {
    const bytes = typeof part === "string" ? Buffer.from(part) : part instanceof Uint8Array ? Buffer.from(part) : Buffer.alloc(0)
    size += bytes.byteLength
    if (size > textBytesMax) throw tooLarge("stdin")
    parts.push(bytes)
  }
  const text = utf8(Buffer.concat(parts), "stdin")
  return text.indexOf("\n") === text.length - 1 ? text.slice(0, -1) : text
}

/** The text after the person saved it, and where it is kept should applying it fail. */
export interface Edited {
  readonly text: string
  readonly path: string
  forget(): void
}

/** Opens the person's editor on a private copy of the text. */
export const edit = async (text: string, name: string, io: InputIo): Promise<Edited> => {
  const directory = mkdtempSync(join(tmpdir(), "kos-edit-"))
  const path = join(directory, name)
  const forget = () => rmSync(directory, { recursive: true, force: true })
  writeFileSync(path, text, { mode: 0o600 })
  const editor = io.env["VISUAL"] || io.env["EDITOR"] || "vi"
  try {
    // An editor may be a command with arguments, as in EDITOR="code --wait"; so a shell splits it.
    const code = await new Promise<number>((done, fail) => {
      spawn("/bin/sh", ["-c", `${editor} "$1"`, "kos-edit", path], { stdio: "inherit", env: { ...io.env } }).on("error", fail).on("exit", (exit) => done(exit ?? 1))
    })
    if (code !== 0) throw new Refusal({ kind: "failed", detail: `the editor (${editor}) ended with ${code}; nothing was changed` })
    return { text: readText(path), path, forget }
  } catch (error) {
    forget()
    throw error
  }
}
