import { Schema } from "effect"
import { operation } from "../operation.ts"
import { By, ConflictShape, Done, flag, HistoryRow, Json, limit, PointShape, PointText, Text, Word } from "./common.ts"

/** `MODULE/PAGE`. */
const Page = Schema.String.check(Schema.isPattern(/^[^/\u0000-\u001f\u007f]{1,128}\/[^\u0000-\u001f\u007f]{1,256}$/, { message: "expected MODULE/PAGE" }))
const pageDescribe = "MODULE/PAGE"
const Fields = Schema.Record(Schema.String, Json)

const PageRow = Schema.Struct({
  page: Schema.String, module: Schema.String,
  /** Characters of text, and number of fields. */
  characters: Schema.Natural, fields: Schema.Natural, conflicts: Schema.Natural, changed: By
})

export const memoryList = operation("memory.list", {
  summary: "List modules and their pages.",
  kind: "query",
  input: Schema.Struct({ prefix: Schema.optionalKey(Word), limit: limit(1_000, 100_000) }),
  output: Schema.Array(PageRow),
  cli: { positional: ["prefix"], describe: { prefix: "only this module, or pages that begin with this", limit: "at most this many" }, alias: { n: "limit" }, examples: ["kos memory list", "kos memory list notes"] }
})

export const memoryShow = operation("memory.show", {
  summary: "Show a page, now or as it was.",
  kind: "query",
  input: Schema.Struct({ page: Page, at: Schema.optionalKey(PointText) }),
  output: Schema.Struct({
    page: Schema.String, text: Schema.String, fields: Fields,
    /** The state that was shown; `memory edit` sends it back. */
    base: PointShape,
    changed: By, authors: Schema.Array(Schema.String), conflicts: Schema.Array(ConflictShape)
  }),
  cli: { positional: ["page"], describe: { page: pageDescribe, at: "as of @NUMBER, address, time, or a duration such as 2h" }, examples: ["kos memory show notes/todo", "kos memory show notes/todo --at 7d"] }
})

const Written = Schema.Struct({ page: Schema.String, created: Schema.Boolean, ...Done.fields })

export const memoryAdd = operation("memory.add", {
  summary: "Add a page, or add a paragraph to a page that exists.",
  kind: "command",
  input: Schema.Struct({
    page: Page, text: Schema.optionalKey(Text),
    /** `key=value` each; the value is JSON when it parses as such, else text. */
    field: Schema.optionalKey(Schema.Array(Schema.String.check(Schema.isPattern(/^[^=]{1,128}=/, { message: "expected KEY=VALUE" }))))
  }),
  output: Written,
  cli: {
    positional: ["page", "text"], stdin: "text", editorUnless: ["field"],
    describe: { page: pageDescribe, text: "the text; read from stdin when it is - or left out", field: "KEY=VALUE; may be given several times" },
    examples: ["kos memory add notes/todo 'Oil the door.'", "kos memory add notes/readme < README.md"]
  }
})

export const memoryEdit = operation("memory.edit", {
  summary: "Edit a page in $EDITOR, or replace its text from stdin; what others wrote meanwhile stays.",
  kind: "command",
  input: Schema.Struct({
    page: Page, text: Schema.optionalKey(Text),
    /** The text as it was when the editor opened; without it `text` replaces what is there now. */
    base: Schema.optionalKey(Text),
    field: Schema.optionalKey(Schema.Array(Schema.String.check(Schema.isPattern(/^[^=]{1,128}=/, { message: "expected KEY=VALUE" })))),
    unset: Schema.optionalKey(Schema.Array(Word))
  }),
  output: Written,
  cli: {
    positional: ["page"], stdin: "text", hidden: ["base", "text"], editor: true, editorUnless: ["field", "unset"],
    describe: { page: pageDescribe, text: "text after", base: "text before", field: "KEY=VALUE; may be given several times", unset: "take this field away; may be given several times" },
    examples: ["kos memory edit notes/todo", "kos memory edit notes/readme < README.md"]
  }
})

export const memoryForget = operation("memory.forget", {
  summary: "Take a page out of memory; its history stays in the logs.",
  kind: "command",
  input: Schema.Struct({ page: Page }),
  output: Done,
  cli: { positional: ["page"], describe: { page: pageDescribe }, examples: ["kos memory forget notes/todo"] }
})

export const memoryHistory = operation("memory.history", {
  summary: "Show who wrote a page, when and on which node.",
  kind: "query",
  input: Schema.Struct({ page: Page, text: flag, limit: limit(50, 10_000) }),
  output: Schema.Array(HistoryRow),
  cli: { positional: ["page"], describe: { page: pageDescribe, text: "with the text before and after each change", limit: "at most this many, the newest" }, alias: { n: "limit" }, examples: ["kos memory history notes/todo"] }
})

export const memorySearch = operation("memory.search", {
  summary: "Find pages by their words.",
  kind: "query",
  input: Schema.Struct({ words: Schema.Array(Word).check(Schema.isMinLength(1)), module: Schema.optionalKey(Word), limit: limit(20, 1_000) }),
  output: Schema.Array(Schema.Struct({ page: Schema.String, line: Schema.Natural, excerpt: Schema.String, score: Schema.Finite })),
  cli: { rest: "words", describe: { words: "words that must all occur", module: "only this module", limit: "at most this many" }, alias: { n: "limit" }, examples: ["kos memory search garden pump"] }
})
