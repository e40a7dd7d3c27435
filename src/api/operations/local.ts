/** What the CLI does without asking a daemon: become one, host a DHT, help. */
import { Schema } from "effect"
import { operation } from "../operation.ts"
import { flag, KeyHex, Word } from "./common.ts"
import { LogLevel } from "./everyday.ts"

export const daemonRun = operation("daemon.run", {
  summary: "Run the node in the foreground; makes its home first when there is none.",
  kind: "command",
  place: "local",
  input: Schema.Struct({
    name: Schema.optionalKey(Word),
    bootstrap: Schema.optionalKey(Schema.Array(Word)),
    lanOnly: flag,
    level: Schema.optionalKey(LogLevel),
    passphraseFile: Schema.optionalKey(Word)
  }),
  /** Said once, when it is ready; then it runs until it is told to stop. */
  output: Schema.Struct({
    name: Schema.String, device: KeyHex, home: Schema.String, socket: Schema.String, pid: Schema.Natural,
    /** This run made the node. */
    created: Schema.Boolean,
    next: Schema.String
  }),
  cli: {
    describe: {
      name: "name for a node that is new", bootstrap: "DHT to use instead of the public one: HOST:PORT; may be given several times",
      lanOnly: "no DHT at all, only the local network", level: "what to log: debug, info, warn or error",
      passphraseFile: "file whose content is the passphrase of the home's keys; - reads stdin (or KOS_PASSPHRASE_FILE)"
    },
    examples: ["kos daemon run", "kos --home /tmp/second daemon run --bootstrap 127.0.0.1:49737"]
  }
})

export const dhtRun = operation("dht.run", {
  summary: "Host a DHT bootstrap in the foreground, so that a mesh needs nobody else's.",
  kind: "command",
  place: "local",
  input: Schema.Struct({ port: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65_535 })), host: Schema.optionalKey(Word) }),
  output: Schema.Struct({ host: Schema.String, port: Schema.Natural, bootstrap: Schema.String }),
  cli: {
    describe: { port: "UDP port to listen on", host: "address that others reach it at" }, alias: { p: "port" },
    examples: ["kos dht run --port 49737"]
  }
})

export const completion = operation("completion", {
  summary: "Print a completion script for a shell.",
  kind: "query",
  place: "local",
  input: Schema.Struct({ shell: Schema.Literals(["bash", "zsh", "fish"]) }),
  output: Schema.Struct({ shell: Schema.String, script: Schema.String }),
  cli: { positional: ["shell"], describe: { shell: "bash, zsh or fish" }, examples: ["source <(kos completion bash)", "kos completion fish > ~/.config/fish/completions/kos.fish"] }
})

export const help = operation("help", {
  summary: "Explain a command or a topic: exit-codes, environment, files.",
  kind: "query",
  place: "local",
  input: Schema.Struct({ topic: Schema.optionalKey(Schema.Array(Word)) }),
  output: Schema.Struct({ topic: Schema.String, text: Schema.String }),
  cli: { rest: "topic", describe: { topic: "exit-codes, environment, files, or a command" }, examples: ["kos help exit-codes", "kos help config set"] }
})
