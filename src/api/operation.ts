import type { Effect, Schema } from "effect"
import type { Refusal } from "../commands/refusal.ts"

/**
 * One thing that can be asked of a node. The table of operations is the single source of the HTTP routes, the CLI's command tree,
 * the OpenAPI document and, later, the MCP tools. An operation says what goes in and out; its handler is bound to it in boot.
 */
export interface Operation<I = any, O = any> {
  /** `noun.verb` as in `kos noun verb`, or one everyday word. */
  readonly name: string
  /** One sentence for `--help`, OpenAPI and MCP. */
  readonly summary: string
  /** A query changes nothing; a command may append events. */
  readonly kind: "query" | "command"
  readonly input: Schema.Codec<I, any>
  readonly output: Schema.Codec<O, any>
  readonly cli: CliShape
}

export interface CliShape {
  /** Input keys that are read as arguments, in order; the other keys are flags named like the key in kebab-case. */
  readonly positional?: ReadonlyArray<string>
  /** An argument that takes all remaining words, as an array. */
  readonly rest?: string
  /** Sentence for each input key. */
  readonly describe: Readonly<Record<string, string>>
  /** Short flags: letter to key. */
  readonly alias?: Readonly<Record<string, string>>
  /** Input key that is read from stdin when its argument is absent or "-". */
  readonly stdin?: string
  /** Input key whose argument is a file path that the CLI reads and sends as text. */
  readonly file?: string
}

/** Who asks, and how to tell them how far it is. */
export interface Call {
  /** UUIDv7 that makes a repeated call harmless; the CLI makes one per invocation. */
  readonly command: string
  /** `device`, `agent:NAME` or `person:NAME`. */
  readonly actor: string
  /** Done and total units of long work and what is being done; does nothing unless the caller watches. */
  readonly progress: (done: number, total: number, what: string) => void
}

export type Handler<Op> = Op extends Operation<infer I, infer O> ? (input: I, call: Call) => Effect.Effect<O, Refusal> : never
