/** Versions of kOS to be released in tests: this checkout's sources under another number. Packages are found above the homes, in the checkout itself. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import type { TestNode } from "./daemon-process.ts"

const root = resolve(import.meta.dirname, "..")

export interface TreeOptions {
  /** Bytes that nothing compresses, the same for the same seed; so that a pack has many pieces. */
  readonly ballast?: { readonly bytes: number; readonly seed: number }
  /** Changes a file of the tree. */
  readonly edit?: readonly [path: string, change: (text: string) => string]
}

export const kosTree = (directory: string, version: string, { ballast, edit }: TreeOptions = {}): string => {
  mkdirSync(directory, { recursive: true })
  for (const part of ["src", "bin"]) cpSync(join(root, part), join(directory, part), { recursive: true })
  writeFileSync(join(directory, "package.json"), readFileSync(join(root, "package.json"), "utf8").replace(/"version": "[^"]*"/, `"version": "${version}"`))
  if (ballast !== undefined) writeFileSync(join(directory, "ballast"), noise(ballast.bytes, ballast.seed))
  if (edit !== undefined) writeFileSync(join(directory, edit[0]), edit[1](readFileSync(join(directory, edit[0]), "utf8")))
  return directory
}

/** xorshift32: fast, and nothing that a compressor finds. */
const noise = (bytes: number, seed: number): Buffer => {
  const words = new Uint32Array(Math.ceil(bytes / 4))
  let state = seed | 1
  for (let i = 0; i < words.length; i += 1) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state >>> 0
  }
  return Buffer.from(words.buffer, 0, bytes)
}

/** Packs, signs and publishes a tree at the publishing node, whose own key is enough. */
export const publish = async (node: TestNode, channel: string, tree: string, version: string, args: ReadonlyArray<string> = []): Promise<{ readonly release: string; readonly packBytes: number }> => {
  const packed = await node.ask("release.pack", [tree, `kos@${version}`, "--channel", channel, "--kind", "bundle", ...(args.includes("--healthy") ? [] : ["--healthy", "1s"]), ...(args.includes("--deadline") ? [] : ["--deadline", "60s"]), ...args])
  await node.ask("release.publish", [channel])
  return { release: packed.release, packBytes: packed.packs.reduce((sum, { bytes }) => sum + bytes, 0) }
}

/** A channel of one signer, followed by the whole mesh. */
export const openChannelAt = async (node: TestNode, channel: string): Promise<string> => {
  await node.ask("release.key")
  await node.ask("release.init", [channel])
  await node.ask("release.publish", [channel])
  const { code } = (await node.ask("release.list")).find(({ name }) => name === channel) ?? { code: "" }
  await node.ask("update.channel", [channel, "--follow", code])
  return code
}
