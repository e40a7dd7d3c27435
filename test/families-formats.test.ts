import t from "tap"
import type { Json } from "../src/projections/documents/types.ts"
import { applyTextEdits, diffKeys, diffLines, linesOf, mergeTexts, textEdits, unifiedDiff } from "../src/projections/families/diff.ts"
import { flatten, formatOfName, formats, guessFormat, isFaulty, parseTable, unflatten, writeConfig, writeTable, type Format } from "../src/projections/families/formats.ts"
import { equalJson, type JsonObject } from "../src/projections/families/json.ts"

/** Small seeded generator (mulberry32): each failure names its seed. */
const random = (seed: number) => {
  let state = seed
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  const below = (max: number): number => Math.floor(next() * max)
  const pick = <A>(items: ReadonlyArray<A>): A => {
    const item = items[below(items.length)]
    if (item === undefined) throw new Error("nothing to pick")
    return item
  }
  return { below, pick }
}

const read = (text: string, format: Format): JsonObject => {
  const parsed = parseTable(text, format)
  if (isFaulty(parsed)) throw new Error(parsed.faults.map(({ detail }) => detail).join())
  return parsed.value
}

const fault = (text: string, format: Format): string => {
  const parsed = parseTable(text, format)
  return isFaulty(parsed) ? parsed.faults[0]?.detail ?? "" : ""
}

t.test("any table of keys survives each format, with equal text for equal tables", async (t) => {
  const texts = ["", "yes", "no", "null", "~", "1", "1.0", "0x1f", "1e3", "true", " lead", "trail ", "a: b", "# no", "- x", "{", "'", "\"", "\\", "line\nbreak", "\ttab", "é漢🙂", "2024-01-01", "<<", "&a", "*a", "!t", "%", "@", "`", "a'b\"c", "-", "?", "|", ">", "=", ".inf", ".nan", "\u2028", "\u0085", "\ufeffx", "…\n\n…\n"]
  const keys = ["a", "b", "files.exclude", "x y", "", "1", "true", "null", "größe", "a\"b", "a\\b", "-", "#", "constructor", "toString", "~", "<<", "="]
  for (let seed = 1; seed <= 150; seed++) {
    const { below, pick } = random(seed)
    const value = (depth: number): Json => {
      const kind = below(depth > 3 ? 4 : 6)
      if (kind === 0) return pick(texts)
      if (kind === 1) return pick([0, 1, -1, 1.5, -0.25, 9_007_199_254_740_991, 1e-7, 12_345])
      if (kind === 2) return below(2) === 0
      if (kind === 3) return seed % 3 === 0 ? null : pick(texts)
      if (kind === 4) return Array.from({ length: below(4) }, () => value(depth + 1))
      return table(depth + 1)
    }
    const table = (depth: number): JsonObject => Object.fromEntries(Array.from({ length: below(5) + 1 }, () => [pick(keys), value(depth)]))
    const original = table(0)
    const backwards = Object.fromEntries(Object.entries(original).reverse())
    for (const format of formats) {
      const written = writeTable(original, format)
      if ("why" in written) {
        t.ok(format === "toml" && seed % 3 === 0 && /null/.test(written.why), `seed ${seed}: ${written.why}`)
        continue
      }
      const again = read(written.value, format)
      if (!equalJson(again, original)) t.fail(`seed ${seed} ${format}: ${JSON.stringify(original)} became ${JSON.stringify(again)}`)
      t.same(writeTable(backwards, format), written, `seed ${seed} ${format}`)
      if (!equalJson(read(written.value.replaceAll("\n", "\r\n").replace(/^/u, "\ufeff"), format), original)) t.ok(/\\r|"""/.test(written.value), `seed ${seed} ${format} with CRLF`)
    }
    t.ok(equalJson(unflatten(flatten(original)), original), `seed ${seed}: flatten`)
  }
})

t.test("flat paths and nested tables are each other's inverse", async (t) => {
  const flat = { "network.lan": false, "user.a.b": [1, { x: 1 }], "user.a.\"c.d\"": null, "user.z": {} }
  t.same(unflatten(flat), { network: { lan: false }, user: { a: { b: [1, { x: 1 }], "c.d": null }, z: {} } })
  t.same(flatten(unflatten(flat)), flat)
  t.same(unflatten({ "a": {}, "a.b": 1 }), { a: { b: 1 } })
  t.same(unflatten({ "a": 1, "a.b": 2 }), { a: 1, "a.b": 2 }, "total even where no valid document leads")
})

t.test("YAML carries the sentences of the settings", async (t) => {
  const written = writeConfig({ "network.lan": false, "user.a": 1 }, "yaml")
  t.same(written, { value: "network:\n  # Whether to find other nodes on the local network by mDNS\n  lan: false\nuser:\n  a: 1\n" })
  t.same(writeConfig({ "network.lan": false }, "yaml", { comments: false }), { value: "network:\n  lan: false\n" })
  t.same(writeConfig({}, "yaml"), { value: "{}\n" })
})

t.test("a fault in a text names its line and path", async (t) => {
  const table: ReadonlyArray<readonly [Format, string, RegExp]> = [
    ["yaml", "a: 1\nb:\n  c: 1\n  c: 2\n", /^line 4: b\.c: the key stands here for the second time$/],
    ["yaml", "a: &x 1\nb: *x\n", /^line 1: a: anchors \(&x\) are not read/],
    ["yaml", "b: *x\n", /^line 1: /],
    ["yaml", "a: !!binary aGk=\n", /^line 1: a: the tag/],
    ["yaml", "a: !mine 1\n", /^line 1: /],
    ["yaml", "a: 1\n---\nb: 1\n", /expected one document, found several/],
    ["yaml", "a:\n  b: 123456789012345678901\n", /^line 2: a\.b: the number 123456789012345678901 would lose digits/],
    ["yaml", "a: .inf\n", /not finite/],
    ["yaml", "? [a]\n: 1\n", /^line 1: /],
    ["yaml", "- a\n", /expected a table of keys/],
    ["yaml", "just words", /expected a table of keys/],
    ["yaml", "__proto__:\n  a: 1\n", /forbidden/],
    ["yaml", "a: \"open\n", /^line \d: /],
    ["yaml", "a: 1\n\u0007b: 2", /^line 2: expected text, found the control character/],
    ["json", "{\"a\": 1,\n\"b\": {\"c\": 1, \"c\": 2}}", /^line 2: b\.c: the key stands here for the second time$/],
    ["json", "{\"a\": 1,}", /^line 1: expected a key in double quotes/],
    ["json", "{\"a\" 1}", /^line 1: a: expected ':'/],
    ["json", "{\"a\": 01}", /expected ',' or '}'/],
    ["json", "{\"a\": 1e999}", /would lose digits/],
    ["json", "{\"a\": \"x\ny\"}", /^line 1: a: expected a text that ends on its line/],
    ["json", "{} {}", /expected the end of the text/],
    ["json", "[1]", /expected a table of keys/],
    ["json", "{\"__proto__\": 1}", /forbidden/],
    ["toml", "a = 1\na = 2\n", /^line 2: /],
    ["toml", "[a]\nb = inf\n", /^line 2: a\.b: expected a number, found one that is not finite$/],
    ["toml", "a = 99999999999999999999\n", /^line 1: /],
    ["toml", "[__proto__]\na = 1\n", /forbidden/],
    ["toml", "a = \n", /^line 1: /]
  ]
  for (const [format, text, pattern] of table) t.match(fault(text, format), pattern, JSON.stringify(text))
})

t.test("bombs are refused fast, unread", async (t) => {
  const started = process.hrtime.bigint()
  const wide = 120_000
  const bombs: ReadonlyArray<readonly [Format, string]> = [
    ["yaml", "[".repeat(wide)], ["yaml", "a: " + "[".repeat(wide) + "]".repeat(wide)], ["yaml", "{a: ".repeat(50_000)], ["yaml", "- ".repeat(wide)], ["yaml", "? ".repeat(wide)], ["yaml", "-\n ".repeat(80_000)],
    ["yaml", "!a ".repeat(80_000)], ["yaml", "&a ".repeat(80_000)], ["yaml", "- ? ".repeat(60_000)], ["yaml", Array.from({ length: 600 }, (_, i) => `${" ".repeat(i)}a:`).join("\n")],
    ["yaml", "[{a: ".repeat(95)], ["yaml", "[".repeat(99) + "]".repeat(99)], ["yaml", "a: " + "x".repeat(300_000)],
    ["json", "[".repeat(wide)], ["json", "{\"a\":".repeat(40_000)], ["json", `{"a":"${"\\u0000".repeat(5)}`],
    ["toml", "a=" + "[".repeat(wide)], ["toml", "a" + ".a".repeat(100_000) + "=1"], ["toml", "a=" + "{a=".repeat(60_000)]
  ]
  for (const [format, text] of bombs) t.not(fault(text, format), "", `${format} ${text.slice(0, 12)}`)
  const laughs = ["a: &a [x]", ...Array.from("bcdefghij", (name, i) => `${name}: &${name} [${Array.from({ length: 9 }, () => `*${"abcdefghij"[i] ?? ""}`).join(",")}]`)].join("\n")
  t.match(fault(laughs, "yaml"), /anchors|aliases/)
  t.ok(Number(process.hrtime.bigint() - started) / 1e6 < 8000)
})

t.test("formats are told by name and by look", async (t) => {
  t.same(["a.yml", "b.YAML", "c.toml", "d.json", "e.txt"].map(formatOfName), ["yaml", "yaml", "toml", "json", undefined])
  t.same(["{\"a\":1}", "a: 1", "# c\n\n[a]\nb = 1", "a.b = 1", "- 1", ""].map(guessFormat), ["json", "yaml", "toml", "toml", "yaml", "yaml"])
})

t.test("keys that differ are added, changed or removed", async (t) => {
  t.same(diffKeys({ a: 1, b: { x: 1, y: 2 }, c: 3 }, { b: { y: 2, x: 1 }, c: 4, d: 5 }), [
    { path: "a", change: "removed", before: 1 }, { path: "c", change: "changed", before: 3, after: 4 }, { path: "d", change: "added", after: 5 }
  ])
})

t.test("line differences, splices and unified text lead from the old text to the new one", async (t) => {
  for (let seed = 1; seed <= 300; seed++) {
    const { below, pick } = random(seed)
    const line = (): string => pick(["a", "b", "c", "a longer line", "🙂 x", "🙃 x", ""])
    const make = (): Array<string> => Array.from({ length: below(30) }, line)
    const old = make()
    const now = below(4) === 0 ? make() : [...old]
    for (let i = below(5); i > 0; i--) now.splice(below(now.length + 1), below(3), ...Array.from({ length: below(3) }, line))
    const ending = below(2) === 0 ? "\n" : ""
    const [before, after] = [old.join("\n") + ending, now.join("\n") + pick(["", "\n"])]
    t.equal(applyTextEdits(before, textEdits(before, after)), after, `seed ${seed}`)
    for (const edit of textEdits(before, after)) if (edit._tag === "Splice") t.ok(edit.insert.isWellFormed() && before.slice(0, edit.at).isWellFormed())
    const [a, b] = [linesOf(before), linesOf(after)]
    let rebuilt: Array<string> = []
    let at = 0
    for (const hunk of diffLines(a, b)) {
      rebuilt.push(...a.slice(at, hunk.from), ...b.slice(hunk.newFrom, hunk.newTo))
      at = hunk.to
    }
    rebuilt = [...rebuilt, ...a.slice(at)]
    t.equal(rebuilt.join(""), after, `seed ${seed}: hunks`)
  }
  t.same(unifiedDiff("a\nb\nc\n", "a\nB\nc\n"), ["@@ -1,3 +1,3 @@", " a", "-b", "+B", " c"])
  t.same(unifiedDiff("", "x"), ["@@ -0,0 +1 @@", "+x", "\\ No newline at end of file"])
  t.same(unifiedDiff("same", "same"), [])
  t.equal(unifiedDiff("", "x\n".repeat(5000)).length, 2001)
})

t.test("two far places of a long text are two splices", async (t) => {
  const text = Array.from({ length: 400 }, (_, i) => `line ${i}\n`).join("")
  const edits = textEdits(text, text.replace("line 3\n", "line three\n").replace("line 390\n", "line 390!\n"))
  t.same(edits, [
    { _tag: "Splice", at: text.indexOf("line 390\n") + 8, remove: 0, insert: "!" },
    { _tag: "Splice", at: text.indexOf("line 3\n") + 5, remove: 1, insert: "three" }
  ])
})

t.test("texts with nothing in common are compared in bounded time", async (t) => {
  const many = (word: string) => Array.from({ length: 20_000 }, (_, i) => `${word} ${i}\n`).join("")
  const started = process.hrtime.bigint()
  t.equal(diffLines(linesOf(many("a")), linesOf(many("b"))).length, 1)
  t.ok(Number(process.hrtime.bigint() - started) / 1e6 < 3000)
})

t.test("edits of two people to different lines merge, to the same lines they do not", async (t) => {
  const base = "one\ntwo\nthree\nfour\nfive\n"
  t.equal(mergeTexts(base, base.replace("one", "ONE"), base.replace("five", "FIVE")), "ONE\ntwo\nthree\nfour\nFIVE\n")
  t.equal(mergeTexts(base, base.replace("two", "2"), base.replace("two", "zwei")), undefined)
  t.equal(mergeTexts(base, base.replace("two", "2"), base.replace("two", "2")), base.replace("two", "2"))
  t.equal(mergeTexts(base, base + "six\n", "zero\n" + base), "zero\n" + base + "six\n")
  t.equal(mergeTexts(base, base, "other"), "other")
})
