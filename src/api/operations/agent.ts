import { Schema } from "effect"
import { operation } from "../operation.ts"
import { By, ConflictShape, Done, Format, formatDescribe, Json, Text, Word } from "./common.ts"

const AgentRow = Schema.Struct({
  name: Schema.String,
  /** Version of the definition. */
  version: Schema.String,
  desired: Schema.Literals(["running", "stopped"]),
  /** Where it should run: names of nodes or roles, or `any`. */
  where: Schema.Array(Schema.String),
  valid: Schema.Boolean,
  conflicts: Schema.Natural,
  changed: By
})

export const agentList = operation("agent.list", {
  summary: "List the agents of the mesh and what is wanted of them.",
  kind: "query",
  input: Schema.Struct({}),
  output: Schema.Array(AgentRow),
  cli: { describe: {}, examples: ["kos agent list"] }
})

export const agentShow = operation("agent.show", {
  summary: "Show one agent's definition.",
  kind: "query",
  input: Schema.Struct({ name: Word }),
  output: Schema.Struct({ ...AgentRow.fields, definition: Json, text: Schema.String, faults: Schema.Array(Schema.String), open: Schema.Array(ConflictShape) }),
  cli: { positional: ["name"], describe: { name: "its name" }, examples: ["kos agent show watcher"] }
})

export const agentApply = operation("agent.apply", {
  summary: "Add or change an agent from its definition.",
  kind: "command",
  input: Schema.Struct({ text: Text, format: Schema.optionalKey(Format) }),
  output: Schema.Struct({ name: Schema.String, version: Schema.String, created: Schema.Boolean, ...Done.fields }),
  cli: { positional: ["text"], file: "text", describe: { text: "file to read, - for stdin", format: `${formatDescribe} (default: by the file's name)` }, examples: ["kos agent apply watcher.yaml"] }
})

export const agentRemove = operation("agent.remove", {
  summary: "Remove an agent from the mesh; its history stays.",
  kind: "command",
  input: Schema.Struct({ name: Word }),
  output: Done,
  cli: { positional: ["name"], describe: { name: "its name" }, examples: ["kos agent remove watcher"] }
})

export const agentStart = operation("agent.start", {
  summary: "Want an agent to run.",
  kind: "command",
  input: Schema.Struct({ name: Word }),
  output: Done,
  cli: { positional: ["name"], describe: { name: "its name" }, examples: ["kos agent start watcher"] }
})

export const agentStop = operation("agent.stop", {
  summary: "Want an agent not to run.",
  kind: "command",
  input: Schema.Struct({ name: Word }),
  output: Done,
  cli: { positional: ["name"], describe: { name: "its name" }, examples: ["kos agent stop watcher"] }
})
