/** Trees and images from seeds, and a source of packs that can fail. */
import { createCipheriv, createHash } from "node:crypto"
import { chmodSync, copyFileSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { Result } from "effect"
import type { PackRef, PackSource, Range } from "../src/updates/ports.ts"
import { decodeIndex } from "../src/updates/payload/index-file.ts"
import { makePayload } from "../src/updates/payload/pack.ts"
import type { MadePayload, MakePayloadOptions, PayloadIndex } from "../src/updates/payload/payload.ts"
import { seededRandom } from "../src/swarm/carriers/memory.ts"

export const never = new AbortController().signal

export const sha256Hex = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")

/** The same seed gives the same bytes; they do not compress. */
export const noise = (seed: number, length: number): Buffer => {
  const key = createHash("sha256").update(`noise ${seed}`).digest()
  return createCipheriv("aes-256-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

/** Half of it compresses. */
export const prose = (seed: number, length: number): Buffer => {
  const bytes = noise(seed, length)
  for (let at = 0; at + 64 <= length; at += 64) bytes.fill(97 + (bytes[at] ?? 0) % 26, at, at + 32)
  return bytes
}

/** Directories, files of 0 B to 300 KB, some that may run, links, long and foreign names. */
export const growTree = (directory: string, seed: number, files: number): void => {
  const random = seededRandom(seed, "tree")
  const pick = (n: number) => Math.floor(random() * n)
  const directories = [""]
  mkdirSync(directory, { recursive: true })
  for (let n = 0; n < files; n++) {
    const parent = directories[pick(directories.length)] ?? ""
    const name = `${["a", "é", "漢😀", "B.c", "x y", "z".repeat(120)][pick(6)] ?? "a"}${n}`
    const path = parent === "" ? name : `${parent}/${name}`
    const kind = pick(10)
    if (kind < 2 && path.split("/").length < 8) {
      mkdirSync(join(directory, path))
      directories.push(path)
    } else if (kind === 2) symlinkSync(pick(2) === 0 ? `${"../".repeat(parent === "" ? 0 : parent.split("/").length)}target${"-long".repeat(pick(30))}` : "./beside", join(directory, path))
    else {
      writeFileSync(join(directory, path), prose(seed * 1_000 + n, [0, 1, 511, 512, 513, 40_000, 300_000][pick(7)] ?? 0))
      if (pick(3) === 0) chmodSync(join(directory, path), 0o755)
    }
  }
}

/** One line a path; equal for equal trees. */
export const treeText = (directory: string): string => readdirSync(directory, { recursive: true, encoding: "utf8" }).sort().map((path) => {
  const full = join(directory, path)
  const status = lstatSync(full)
  if (status.isSymbolicLink()) return `${path} -> ${readlinkSync(full)}`
  return status.isDirectory() ? `${path}/ ${(status.mode & 0o777).toString(8)}` : `${path} ${(status.mode & 0o7777).toString(8)} ${sha256Hex(readFileSync(full))}`
}).join("\n")

export const indexOf = (made: MadePayload): PayloadIndex => Result.getOrThrow(decodeIndex(made.index))

export const publish = (directory: string, options: Partial<MakePayloadOptions> & Pick<MakePayloadOptions, "source">): Promise<MadePayload> =>
  makePayload({ earlier: [], out: join(directory, "packs"), signal: never, ...options })

/** Packs out of the publisher's directory. `spoil` may change the copy that a device gets, or throw. */
export const packSource = (directory: string, copies: string, spoil?: (ref: PackRef, path: string, asked: number) => void): PackSource & { readonly asked: Array<{ readonly sha256: string; readonly ranges: ReadonlyArray<Range> }>; readonly blamed: Array<Range> } => {
  const asked: Array<{ readonly sha256: string; readonly ranges: ReadonlyArray<Range> }> = []
  const blamed: Array<Range> = []
  return {
    asked, blamed,
    ensure: async (ref, ranges, { signal }) => {
      signal.throwIfAborted()
      asked.push({ sha256: ref.sha256, ranges })
      const copy = join(copies, ref.sha256)
      mkdirSync(dirname(copy), { recursive: true })
      if (!existsSync(copy)) copyFileSync(join(directory, "packs", ref.sha256), copy)
      spoil?.(ref, copy, asked.length)
      return copy
    },
    bad: (_, range) => {
      blamed.push(range)
    }
  }
}

export const emptied = (directory: string): string => {
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  return directory
}

/** The `PayloadError` reason that this ends with, or what else came of it. */
export const reasonOf = (promise: Promise<unknown>): Promise<string> => promise.then(() => "nothing was wrong", (cause: unknown) =>
  cause !== null && typeof cause === "object" && "reason" in cause ? String(cause.reason) : String(cause))
