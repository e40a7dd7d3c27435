/**
 * Completion scripts for bash, zsh and fish, made from the table. Nouns, verbs, flags and choices are completed; names that only the daemon
 * knows are not, so that a Tab never waits.
 */
import { operations } from "../operations/table.ts"
import { globalFlags } from "./parse.ts"
import { type Field, fieldsOf, flagsOf, wordsOf } from "./shape.ts"
import { topics } from "./help.ts"
import type { Operation } from "../operation.ts"

export const completionScript = (shell: "bash" | "zsh" | "fish"): string => (shell === "fish" ? fish() : shell === "bash" ? bash() : zsh())

const firstWords = (): ReadonlyArray<string> => [...new Set(operations.map(({ name }) => name.split(".")[0] ?? ""))]
const verbsOf = (noun: string): ReadonlyArray<string> => operations.filter(({ name }) => name.startsWith(`${noun}.`)).map(({ name }) => name.slice(noun.length + 1))
const nouns = (): ReadonlyArray<string> => firstWords().filter((word) => verbsOf(word).length > 0)
const globals = globalFlags.map(({ flag }) => `--${flag}`)

/** What may follow a command: its flags, and the choices of its first argument. */
const wordsAfter = (op: Operation): ReadonlyArray<string> => {
  const first = fieldsOf(op).find(({ position }) => position === 0)
  const choices = op.name === "help" ? [...topics, ...firstWords()] : op.name === "wait" ? ["ready", "synced", "peer="] : first?.choices ?? []
  return [...choices, ...flagsOf(op).map(({ flag }) => `--${flag}`), ...globals]
}

const choiceFlags = (op: Operation): ReadonlyArray<Field> => flagsOf(op).filter(({ kind }) => kind === "choice")
const takesFile = (op: Operation): boolean => op.cli.file !== undefined || (op.cli.paths?.length ?? 0) > 0

/** Cases for the value of a flag with choices. */
const choiceCases = (then: (choices: string) => string): string =>
  operations.flatMap((op) => choiceFlags(op).map((field) => `    "${wordsOf(op)} --${field.flag}") ${then(field.choices.join(" "))} ;;`)).join("\n")

/** Finds the noun and verb among the words before the cursor, skipping global flags and the value of --home, --as and --mesh. */
const bash = (): string => `# kos completion for bash: source <(kos completion bash)
_kos() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" first="" second="" words="" files="" skip="" word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    if [[ -n "$skip" ]]; then skip=""; continue; fi
    case "$word" in
      --home|--as|--mesh) skip=1 ;;
      -*) ;;
      *) if [[ -z "$first" ]]; then first="$word"; elif [[ -z "$second" ]]; then second="$word"; fi ;;
    esac
  done
  if [[ "$previous" == "--home" ]]; then COMPREPLY=($(compgen -d -- "$current")); return; fi
  if [[ -z "$first" ]]; then COMPREPLY=($(compgen -W "${[...firstWords(), ...globals].join(" ")}" -- "$current")); return; fi
  case "$first" in
    ${nouns().join("|")}) ;;
    *) second="" ;;
  esac
  case "$first\${second:+ $second} $previous" in
${choiceCases((choices) => `COMPREPLY=($(compgen -W "${choices}" -- "$current")); return`)}
  esac
  case "$first\${second:+ $second}" in
${nouns().map((noun) => `    "${noun}") words="${verbsOf(noun).join(" ")}" ;;`).join("\n")}
${operations.map((op) => `    "${wordsOf(op)}") words="${wordsAfter(op).join(" ")}"${takesFile(op) ? " files=1" : ""} ;;`).join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [[ -n "$files" ]]; then COMPREPLY+=($(compgen -f -- "$current")); fi
}
complete -F _kos kos
`

const zsh = (): string => `#compdef kos
# kos completion for zsh: source <(kos completion zsh)
_kos() {
  local first="" second="" skip="" files="" word
  local -a words_after
  local i
  for ((i = 2; i < CURRENT; i++)); do
    word="\${words[i]}"
    if [[ -n "$skip" ]]; then skip=""; continue; fi
    case "$word" in
      --home|--as|--mesh) skip=1 ;;
      -*) ;;
      *) if [[ -z "$first" ]]; then first="$word"; elif [[ -z "$second" ]]; then second="$word"; fi ;;
    esac
  done
  if [[ "\${words[CURRENT-1]}" == "--home" ]]; then _files -/; return; fi
  if [[ -z "$first" ]]; then words_after=(${[...firstWords(), ...globals].join(" ")}); compadd -- $words_after; return; fi
  case "$first" in
    ${nouns().join("|")}) ;;
    *) second="" ;;
  esac
  case "$first\${second:+ $second} \${words[CURRENT-1]}" in
${choiceCases((choices) => `compadd -- ${choices}; return`)}
  esac
  case "$first\${second:+ $second}" in
${nouns().map((noun) => `    "${noun}") words_after=(${verbsOf(noun).join(" ")}) ;;`).join("\n")}
${operations.map((op) => `    "${wordsOf(op)}") words_after=(${wordsAfter(op).join(" ")})${takesFile(op) ? "; files=1" : ""} ;;`).join("\n")}
  esac
  compadd -- $words_after
  if [[ -n "$files" ]]; then _files; fi
}
compdef _kos kos
`

const fish = (): string => {
  const quote = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`
  const everyday = operations.filter(({ name }) => !name.includes("."))
  const on = (op: Operation) => {
    const [first = "", second] = op.name.split(".")
    return quote(second === undefined ? `__fish_seen_subcommand_from ${first}` : `__fish_seen_subcommand_from ${first}; and __fish_seen_subcommand_from ${second}`)
  }
  const lines = [
    "# kos completion for fish: kos completion fish > ~/.config/fish/completions/kos.fish",
    "complete -c kos -f",
    ...globalFlags.map(({ flag, letter, value, sentence }) =>
      `complete -c kos -l ${flag}${letter === undefined ? "" : ` -s ${letter}`}${value === undefined ? "" : flag === "home" ? " -r -a '(__fish_complete_directories)'" : " -r"} -d ${quote(sentence)}`),
    ...everyday.map((op) => `complete -c kos -n '__fish_use_subcommand' -a ${op.name} -d ${quote(op.summary)}`),
    ...nouns().map((noun) => `complete -c kos -n '__fish_use_subcommand' -a ${noun} -d ${quote(verbsOf(noun).join(", "))}`),
    ...operations.filter(({ name }) => name.includes(".")).map((op) => {
      const [noun = "", verb = ""] = op.name.split(".")
      return `complete -c kos -n ${quote(`__fish_seen_subcommand_from ${noun}; and not __fish_seen_subcommand_from ${verbsOf(noun).join(" ")}`)} -a ${verb} -d ${quote(op.summary)}`
    }),
    ...operations.flatMap((op) => [
      ...flagsOf(op).map((field) =>
        `complete -c kos -n ${on(op)} -l ${field.flag}${field.letter === undefined ? "" : ` -s ${field.letter}`}${field.kind === "boolean" ? "" : " -r"}${field.choices.length === 0 ? "" : ` -a ${quote(field.choices.join(" "))}`} -d ${quote(field.sentence)}`),
      ...(takesFile(op) ? [`complete -c kos -n ${on(op)} -F`] : [])
    ]),
    `complete -c kos -n '__fish_seen_subcommand_from help' -a ${quote(topics.join(" "))}`
  ]
  return `${lines.join("\n")}\n`
}
