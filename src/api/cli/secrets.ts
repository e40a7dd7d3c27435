/**
 * Secrets that a command takes: from a file, from stdin, or from a terminal that shows nothing of them. Never from the arguments and never
 * from an environment variable, where every process of the machine can read them.
 */
import { readFileSync, statSync } from "node:fs"
import { resolve } from "node:path"
import { Refusal } from "../../commands/refusal.ts"
import type { Operation } from "../operation.ts"
import type { InputIo } from "./input.ts"

/** A secret at most, bytes. */
export const secretTextBytesMax = 4_096

/** Puts the secrets of an operation into its input, and takes the names of their files out. */
export const fillSecrets = async (op: Operation, input: Record<string, unknown>, io: InputIo): Promise<void> => {
  for (const { key, file, prompt, confirm = false, unless = [], when } of op.cli.secrets ?? []) {
    const name = input[file]
    delete input[file]
    if (key in input) throw new Refusal({ kind: "usage", detail: `${key} is read from a file or a terminal`, path: file })
    if (unless.some((other) => other in input) || (when !== undefined && !(when in input))) {
      if (name !== undefined) throw new Refusal({ kind: "usage", detail: `--${kebab(file)} does not go together with ${unless.filter((other) => other in input).map((other) => `--${kebab(other)}`).join(", ") || `a call without --${kebab(when ?? "")}`}`, path: file })
      continue
    }
    if (typeof name === "string") input[key] = name === "-" ? await secretFromStdin(io) : secretFromFile(resolve(io.cwd, name))
    else if (prompt !== undefined && io.ask !== undefined) {
      const text = await io.ask(`${prompt}: `)
      if (confirm && await io.ask(`${prompt}, again: `) !== text) throw new Refusal({ kind: "usage", detail: "the two are not the same; nothing was done" })
      input[key] = text
    }
  }
}

const kebab = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

const secretFromStdin = async (io: InputIo): Promise<string> => {
  const parts: Array<Buffer> = []
  let size = 0
  for await (const part of io.stdin) {
    const bytes = typeof part === "string" ? Buffer.from(part) : part instanceof Uint8Array ? Buffer.from(part) : Buffer.alloc(0)
    size += bytes.byteLength
    if (size > secretTextBytesMax) throw tooLarge("stdin")
    parts.push(bytes)
  }
  return withoutLineEnd(Buffer.concat(parts))
}

const secretFromFile = (path: string): string => {
  try {
    const found = statSync(path)
    if (!found.isFile() && !found.isFIFO()) throw new Refusal({ kind: "usage", detail: `${path} is no file` })
    if (found.size > secretTextBytesMax) throw tooLarge(path)
    return withoutLineEnd(readFileSync(path))
  } catch (error) {
    if (error instanceof Refusal) throw error
    const absent = error instanceof Error && "code" in error && error.code === "ENOENT"
    throw new Refusal({ kind: absent ? "not-found" : "failed", detail: absent ? `there is no file ${path}` : `cannot read ${path}: ${error instanceof Error ? error.message : ""}` })
  }
}

const tooLarge = (what: string) => new Refusal({ kind: "usage", detail: `${what} is larger than ${secretTextBytesMax} bytes; that is no passphrase` })

/** An editor ends the file with a line end that nobody means; the daemon reads passphrase files in the same way. */
const withoutLineEnd = (bytes: Buffer): string => {
  if (bytes.byteLength > secretTextBytesMax) throw tooLarge("it")
  const text = bytes.toString("utf8").replace(/\r?\n$/, "")
  bytes.fill(0)
  return text
}
