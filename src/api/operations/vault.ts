import { Schema } from "effect"
import { operation } from "../operation.ts"
import { By, Done, flag, KeyHex, Time, Word } from "./common.ts"

/** The text itself. What is wrong with it is told without repeating it. */
const Value = Schema.String.annotate({ message: "expected a text" }).check(Schema.isMaxLength(65_536, { message: "expected at most 65,536 bytes" }))
const Name = Schema.String.annotate({ message: "expected a name" }).check(Schema.makeFilter((text: string) => text.length >= 1 && text.length <= 512, { message: "expected a name of at most 96 characters" }))
const Recipients = Schema.Array(Word).check(Schema.isMaxLength(64))

/** A device and what it has to do with the secret. */
const Holder = Schema.Struct({
  node: Schema.String, device: KeyHex,
  /** `holds`, `waiting` for its key, `courier` until the others hold it; of a removed one `destroyed`, or `not yet`; `gone`: no member any more. */
  state: Schema.Literals(["holds", "waiting", "courier", "destroyed", "not yet", "gone"]),
  /** When it was destroyed, by that node's clock. */
  at: Schema.optionalKey(Time)
})

const SecretRow = Schema.Struct({
  name: Schema.String,
  version: Schema.Natural,
  state: Schema.Literals(["in force", "contested", "removed"]),
  /** NODE, `role:ROLE` or `agent:NAME`. */
  recipients: Schema.Array(Schema.String),
  owner: Schema.String,
  /** Who set this version, or removed it. */
  by: By,
  /** When a new value was last set. */
  rotated: Schema.optionalKey(Time),
  nodes: Schema.Array(Holder),
  /** Nodes that could know the value and belong to the mesh no more: set a new value. */
  rotate: Schema.Array(Schema.String)
})

const valueDescribe = "file to read the value from; stdin when it is - or left out"

export const vaultSet = operation("vault.set", {
  summary: "Keep a secret for nodes, roles or agents; the value comes from stdin or a file.",
  kind: "command",
  input: Schema.Struct({ name: Name, for: Schema.optionalKey(Recipients), value: Schema.optionalKey(Value) }),
  output: Schema.Struct({ name: Schema.String, version: Schema.Natural, ...Done.fields }),
  cli: {
    positional: ["name"], file: "value", flags: { value: "file" },
    describe: { name: "name to refer to it by, as in vault:NAME", for: "NODE, agent:NAME or role:ROLE; may be given several times (default: for whom it was, else this node)", value: valueDescribe },
    examples: ["kos vault set weather-key --for attic < key.txt", "kos vault set db-password --for agent:backup --for role:admin --file pw.txt"]
  }
})

export const vaultGet = operation("vault.get", {
  summary: "Print a secret that is meant for this node; the reading is recorded.",
  kind: "command",
  input: Schema.Struct({ name: Name }),
  output: Schema.Struct({ name: Schema.String, version: Schema.Natural, value: Schema.String }),
  cli: { positional: ["name"], raw: "value", describe: { name: "its name" }, examples: ["kos vault get weather-key"] }
})

export const vaultList = operation("vault.list", {
  summary: "List secrets: names, for whom, who holds them and when they were last rotated; never values.",
  kind: "query",
  input: Schema.Struct({ all: flag }),
  output: Schema.Array(SecretRow),
  cli: { describe: { all: "also removed ones, with who has destroyed them" }, alias: { a: "all" }, examples: ["kos vault list", "kos vault list --all"] }
})

export const vaultRotate = operation("vault.rotate", {
  summary: "Give a secret a new value for the same recipients, or without one seal it under a new key.",
  kind: "command",
  input: Schema.Struct({ name: Name, value: Schema.optionalKey(Value) }),
  output: Schema.Struct({ name: Schema.String, version: Schema.Natural, ...Done.fields }),
  cli: {
    positional: ["name"], file: "value", flags: { value: "file" }, describe: { name: "its name", value: valueDescribe },
    examples: ["kos vault rotate weather-key < key.txt", "kos vault rotate weather-key"]
  }
})

export const vaultRemove = operation("vault.remove", {
  summary: "Remove a secret: every node that holds it destroys its key and says so.",
  kind: "command",
  input: Schema.Struct({ name: Name }),
  output: Schema.Struct({ name: Schema.String, nodes: Schema.Array(Holder), ...Done.fields }),
  cli: { positional: ["name"], describe: { name: "its name" }, examples: ["kos vault remove weather-key"] }
})
