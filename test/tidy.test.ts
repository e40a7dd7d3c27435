/** The house rules that a machine can check. */
import { readdirSync, readFileSync, statSync } from "node:fs"
import { join, relative, resolve } from "node:path"
import t from "tap"

const root = resolve(import.meta.dirname, "..")
const src = join(root, "src")

const filesBelow = (directory: string, ending: RegExp): ReadonlyArray<string> => readdirSync(directory, { recursive: true, encoding: "utf8" })
  .map((name) => join(directory, name)).filter((file) => ending.test(file) && statSync(file).isFile())

/** Design section 2: a file imports its own folder and lower floors only; the four siblings do not import each other. */
const floors: ReadonlyArray<ReadonlyArray<string>> = [
  ["codec"], ["vault"], ["events"], ["projections"], ["commands"], ["swarm", "agents", "updates", "guard"], ["api"], ["boot"], ["main.ts"]
]
const floorOf = (file: string): { readonly place: string; readonly floor: number } => {
  const place = relative(src, file).split("/")[0] ?? ""
  return { place, floor: floors.findIndex((names) => names.includes(place)) }
}

t.test("imports go down the floors only", async (t) => {
  let imports = 0
  for (const file of filesBelow(src, /\.ts$/)) {
    const here = floorOf(file)
    if (here.floor < 0) t.fail(`${relative(root, file)} stands on no floor`)
    for (const [, target] of readFileSync(file, "utf8").matchAll(/(?:from|import\()\s*"(\.[^"]+)"/g)) {
      imports++
      const there = floorOf(resolve(file, "..", target ?? ""))
      const allowed = there.place === here.place || (there.floor >= 0 && there.floor < here.floor)
      if (!allowed) t.fail(`${relative(root, file)} imports ${target}, which is ${there.floor < 0 ? "on no floor" : "not below it"}`)
    }
  }
  t.ok(imports > 500, `${imports} imports were looked at`)
})

const banned: ReadonlyArray<{ readonly word: RegExp; readonly instead: string; readonly except?: RegExp }> = [
  { word: /\bDate\.now\(/, instead: "Clock, or a `now` that is handed in" },
  { word: /\bMath\.random\(/, instead: "randomBytes of codec/signature.ts" },
  { word: /\b(FIXME|TODO|XXX|HACK)\b/, instead: "an issue" },
  { word: /\bas any\b|\bas unknown as\b/, instead: "a schema or a type guard" },
  { word: /@ts-(ignore|expect-error|nocheck)/, instead: "a type that fits" },
  { word: /\bconsole\.(log|error|warn)\(/, instead: "the node's log, or the CLI's output" },
  { word: /from "@effect\/platform-node"|from "effect\/(cli|http|http-api)"/, instead: "the module by its path: the barrels cost 30 MB" }
]

t.test("words that have a better one", async (t) => {
  const files = [...filesBelow(src, /\.ts$/)]
  for (const file of files) {
    const lines = readFileSync(file, "utf8").split("\n")
    for (const [index, line] of lines.entries()) {
      for (const { word, instead } of banned) if (word.test(line)) t.fail(`${relative(root, file)}:${index + 1} has ${word.source}; use ${instead}`)
    }
  }
  t.ok(files.length > 100, `${files.length} files were looked at`)
})

t.test("no barrels, and no file of two subjects", async (t) => {
  for (const file of filesBelow(src, /\.ts$/)) {
    const text = readFileSync(file, "utf8")
    t.notMatch(file, /\/index\.ts$/)
    const length = text.split("\n").length
    if (length > 640) t.fail(`${relative(root, file)} has ${length} lines; aim under 400`)
  }
  t.end()
})

t.test("no secret, machine path or registry host in tracked text", async (t) => {
  const files = ["README.md", "package.json", "package-lock.json", ".npmrc"].map((name) => join(root, name))
    .concat(filesBelow(join(root, "docs"), /\.md$/), filesBelow(src, /\.ts$/))
  for (const file of files) {
    const text = readFileSync(file, "utf8")
    t.notMatch(text, /https?:\/\/registry\.|"resolved":/, `${relative(root, file)} names no registry`)
  }
})

t.test("the kos-verify that is handed out is the one that its source makes", async (t) => {
  const { execFileSync } = await import("node:child_process")
  const out = join(t.testdir(), "kos-verify.mjs")
  execFileSync(process.execPath, [join(src, "codec/verify/build.mjs"), out], { cwd: root })
  t.equal(readFileSync(out, "utf8"), readFileSync(join(root, "bin/kos-verify.mjs"), "utf8"), "run npm run build and commit bin/kos-verify.mjs")
})
