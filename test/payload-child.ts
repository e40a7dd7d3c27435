/** Assembles in a process of its own, which the test kills: index file, work directory, local tree, packs directory, bytes a second at most. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { Result } from "effect"
import { assemble } from "../src/updates/payload/assemble.ts"
import { decodeIndex } from "../src/updates/payload/index-file.ts"

const [indexFile = "", work = "", local = "", packs = ""] = process.argv.slice(2)
await assemble({
  index: Result.getOrThrow(decodeIndex(readFileSync(indexFile))), work, local: [{ form: "tree", path: local }], signal: new AbortController().signal, syncEveryBytesMax: 262_144,
  packs: { ensure: async ({ sha256 }) => { await pause(5); return join(packs, sha256) }, bad: () => {} },
  onProgress: ({ local, packs, kept }) => { process.stdout.write(`${local + packs + kept}\n`) }
})
process.stdout.write("done\n")
