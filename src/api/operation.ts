import type { Effect, Schema, Stream } from "effect"
import type { Refusal } from "../commands/refusal.ts"

/**
 * One thing that can be asked of a node. The table of operations is the single source of the HTTP routes, the CLI's command tree,
 * the OpenAPI document and, later, the MCP tools. An operation says what goes in and out; its handler is bound to it in boot.
 */
export interface Operation<I = any, O = any, Name extends string = string, S extends StreamMode = StreamMode, L extends Place = Place> {
  /** `noun.verb` as in `kos noun verb`, or one everyday word. */
  readonly name: Name
  /** One sentence for `--help`, OpenAPI and MCP. */
  readonly summary: string
  /** A query changes nothing; a command may append events. */
  readonly kind: "query" | "command"
  readonly input: Schema.Codec<I, any>
  /** What comes out; for a stream, one item of it. */
  readonly output: Schema.Codec<O, any>
  readonly stream: S
  readonly place: L
  readonly cli: CliShape
}

/**
 * `no`: one value. `follow`: items, endless when the input's `follow` is true, else ended and shown as one array. `always`: items that
 * are never gathered (NDJSON with `--json`).
 */
export type StreamMode = "no" | "follow" | "always"

/** Who carries it out: the daemon; the CLI alone (`local`); the daemon, or the CLI when no daemon runs (`either`). */
export type Place = "daemon" | "local" | "either"

export interface CliShape {
  /** Input keys that are read as arguments, in order; the other keys are flags named like the key in kebab-case. */
  readonly positional?: ReadonlyArray<string>
  /** An argument that takes all remaining words, as an array. */
  readonly rest?: string
  /** Sentence for each input key. */
  readonly describe: Readonly<Record<string, string>>
  /** Short flags: letter to key. */
  readonly alias?: Readonly<Record<string, string>>
  /** Input key that is read from stdin when its argument is absent (and stdin is no terminal) or "-". */
  readonly stdin?: string
  /** Input key whose argument is a file path that the CLI reads and sends as text; "-" or absent reads stdin. */
  readonly file?: string
  /** Flags that are not named like their key. */
  readonly flags?: Readonly<Record<string, string>>
  /** Output key whose text is written as it is, with a line end on a terminal only, when no JSON is asked for. */
  readonly raw?: string
  /** Input keys that are file paths which the daemon opens; the CLI makes them absolute. */
  readonly paths?: ReadonlyArray<string>
  /**
   * Input keys that are secrets. The CLI reads each from the file that the key `file` names ("-": stdin), else asks a terminal with `prompt`; twice
   * when it is to be confirmed; not when one of `unless` is given, or `when` is not.
   */
  readonly secrets?: ReadonlyArray<{
    readonly key: string; readonly file: string; readonly prompt?: string; readonly confirm?: true
    readonly unless?: ReadonlyArray<string>; readonly when?: string
  }>
  /** Input keys that are set by programs, not by flags. */
  readonly hidden?: ReadonlyArray<string>
  /** Without stdin or a file, the CLI fetches the text, opens `$EDITOR` on it and sends `base` and `text`. */
  readonly editor?: true
  /** Neither editor nor stdin when one of these keys is given. */
  readonly editorUnless?: ReadonlyArray<string>
  /** Lines of `kos …` that show the use. */
  readonly examples?: ReadonlyArray<string>
}

/** Who asks, and how to tell them how far it is. */
export interface Call {
  /** UUIDv7 that makes a repeated call harmless; the CLI makes one per invocation. */
  readonly command: string
  /** `device`, `agent:NAME` or `person:NAME`. */
  readonly actor: string
  /** Done and total units of long work and what is being done; a total below 0: a line for the person that stays. Does nothing unless the caller watches. */
  readonly progress: (done: number, total: number, what: string) => void
}

export type Handler<Op> = Op extends Operation<infer I, infer O, string, infer S>
  ? (input: I, call: Call) => S extends "no" ? Effect.Effect<O, Refusal> : Stream.Stream<O, Refusal>
  : never

type Spec<I, O, S extends StreamMode, L extends Place> = {
  readonly summary: string
  readonly kind: "query" | "command"
  readonly input: Schema.Codec<I, any>
  readonly output: Schema.Codec<O, any>
  readonly stream?: S
  readonly place?: L
  readonly cli: CliShape
}

/** Declares an operation; `stream` is `no` and `place` is `daemon` unless said otherwise. */
export const operation = <const Name extends string, I, O, const S extends StreamMode = "no", const L extends Place = "daemon">(
  name: Name, spec: Spec<I, O, S, L>
): Operation<I, O, Name, S, L> => ({ ...spec, name, stream: (spec.stream ?? "no") as S, place: (spec.place ?? "daemon") as L })
