/** One invocation of `kos`: parse, complete the input, call the daemon (or do it here), show the answer, and say with which code to exit. */
import { Result, Schema } from "effect"
import { isActor } from "../../codec/envelope.ts"
import { didYouMean } from "../../codec/suggest.ts"
import { uuidv7 } from "../../codec/uuid.ts"
import { Refusal } from "../../commands/refusal.ts"
import { type Answer, callNode, noDaemon } from "../client.ts"
import { decodeInput } from "../decode.ts"
import { homeOf } from "../home.ts"
import type { Operation } from "../operation.ts"
import { type InputOf, operationByName, operations, type OutputOf } from "../operations/table.ts"
import { exitCodes, problem, type ProblemDocument, problemOfRefusal } from "../problem.ts"
import { completionScript } from "./completion.ts"
import { exitOf } from "./exit.ts"
import { helpPage, nearTopics } from "./help.ts"
import { edit, fillIn, type InputIo } from "./input.ts"
import { jsonText, type Progress, progressBar, put, putProblem, type Sink } from "./output.ts"
import { pipeToSocket, type RawIo } from "./pipe.ts"
import { type Globals, parse, wantsJson } from "./parse.ts"
import { render } from "./render/render.ts"
import { safe, safeDeep, type View } from "./text.ts"

export interface CliIo extends InputIo {
  readonly stdout: Sink
  readonly stderr: Sink
  /** stdin and stdout as streams, for a command that carries bytes. */
  readonly raw?: () => RawIo
  /** Wall milliseconds. */
  readonly now: () => number
  readonly random: (size: number) => Uint8Array
  readonly version: string
  /** Fires on Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal
  readonly local: LocalCommands
}

/** What boot does without a daemon; each is loaded when it is wanted. They reject with a `Refusal`. */
export interface LocalCommands {
  readonly init: (input: InputOf<"init">, context: LocalContext) => Promise<OutputOf<"init">>
  readonly doctor: (input: InputOf<"doctor">, context: LocalContext) => Promise<OutputOf<"doctor">>
  readonly keys: LocalKeys
  /** Resolves with the exit code when the daemon has stopped, for instance because `signal` fired. */
  readonly daemonRun: (input: InputOf<"daemon.run">, context: LocalContext & Announcing<"daemon.run">) => Promise<number>
  readonly dhtRun: (input: InputOf<"dht.run">, context: LocalContext & Announcing<"dht.run">) => Promise<void>
}

/** What is done with keys in a home that no daemon holds. */
export type LocalKeys = {
  readonly [Verb in "show" | "seal" | "unseal" | "backup" | "restore"]: (input: InputOf<`key.${Verb}`>, context: LocalContext) => Promise<OutputOf<`key.${Verb}`>>
}

export interface LocalContext {
  readonly home: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly stdin: AsyncIterable<unknown>
  /** Asks a person for a secret; absent when nobody sits at a terminal. */
  readonly ask?: (prompt: string) => Promise<string>
  readonly version: string
  readonly command: string
  readonly actor: string
  readonly signal: AbortSignal
  readonly progress: (done: number, total: number, what: string) => void
}

interface Announcing<Name extends "daemon.run" | "dht.run"> {
  /** Says once that it runs; shown like any answer. */
  readonly announce: (value: OutputOf<Name>) => Promise<void>
}

interface Session {
  readonly io: CliIo
  readonly globals: Globals
  readonly home: string
  readonly command: string
  readonly actor: string
  readonly view: View
  readonly progress: Progress
}

/** Resolves with the exit code. */
export const runCli = async (argv: ReadonlyArray<string>, io: CliIo): Promise<number> => {
  const json = wantsJson(argv)
  const plainView: View = { now: io.now(), color: colored(io.stderr, io, !argv.includes("--no-color")), columns: io.stderr.columns ?? 80, input: {} }
  const fail = async (what: ProblemDocument): Promise<number> => {
    await putProblem(io.stderr, what, json, plainView)
    return exitCodes[what.kind]
  }
  try {
    const parsed = parse(argv)
    if (Result.isFailure(parsed)) return await fail(parsed.failure)
    const asked = parsed.success
    if (asked._tag === "Version") {
      await put(io.stdout, asked.globals.json ? jsonText(io.stdout, { version: io.version }) : `kos ${io.version}\n`)
      return 0
    }
    if (asked._tag === "Incomplete" && asked.topic.length > 0) {
      const noun = asked.topic[0] ?? ""
      if (json) return await fail(problem("usage", `${noun} needs a verb`, { hint: `kos help ${noun}` }))
      await put(io.stderr, `${helpPage(asked.topic) ?? ""}\n`)
      return exitCodes.usage
    }
    const { op, input } = asked._tag === "Call" ? asked : { op: helpOperation(), input: { topic: asked.topic } }
    const session = openSession(asked.globals, input, io)
    try {
      return await perform(op, input, session, fail)
    } finally {
      session.progress.clear()
    }
  } catch (error) {
    if (io.signal.aborted) return interrupted
    if (error instanceof Refusal) return fail(problemOfRefusal(error))
    return fail(problem("failed", `a fault of kOS itself: ${error instanceof Error ? error.stack ?? error.message : String(error)}`))
  }
}

const interrupted = 130

const helpOperation = (): Operation => operationByName.get("help") ?? operations[0] ?? (() => { throw new Error("no operations") })()

const openSession = (globals: Globals, input: Readonly<Record<string, unknown>>, io: CliIo): Session => {
  const actor = globals.actor ?? (io.env["KOS_ACTOR"] || "device")
  if (!isActor(actor)) throw new Refusal({ kind: "usage", detail: `the actor must be device, agent:NAME or person:NAME, not "${actor}"`, path: "--as" })
  return {
    io, globals, actor,
    home: homeOf(globals.home, io.env, io.cwd),
    command: uuidv7(io.now(), io.random(10)),
    view: { now: io.now(), color: colored(io.stdout, io, globals.color), columns: io.stdout.columns ?? (io.stdout.isTTY === true ? 80 : 10_000), input },
    progress: progressBar(io.stderr, !globals.json)
  }
}

const colored = (sink: Sink, io: CliIo, wanted: boolean): boolean =>
  wanted && sink.isTTY === true && (io.env["NO_COLOR"] ?? "") === "" && io.env["TERM"] !== "dumb"

const perform = async (op: Operation, raw: Record<string, unknown>, session: Session, fail: (what: ProblemDocument) => Promise<number>): Promise<number> => {
  const filled = await fillIn(op, raw, session.io)
  if (filled.editor) return editAndSend(op, filled.input, session, fail)
  // Checked here too, so that a mistake is named although no daemon runs.
  const decoded = decodeInput(op, filled.input)
  if (Result.isFailure(decoded)) return fail(decoded.failure)
  const here = await performHere(op, decoded.success, session)
  if (here !== undefined) return typeof here === "number" ? here : fail(here)
  return askAndShow(op, filled.input, decoded.success, session, fail)
}

/** Asks the daemon and shows what it says. */
const askAndShow = async (op: Operation, input: unknown, decoded: unknown, session: Session, fail: (what: ProblemDocument) => Promise<number>): Promise<number> => {
  const { io, globals } = session
  const gathered: Array<unknown> | undefined = op.stream === "follow" && globals.json && raw(decoded, "follow") !== true ? [] : undefined
  // Without a port to listen on, stdin and stdout are the connection: nothing else may be written there.
  const carries = op.name === "connect" && raw(decoded, "listen") === undefined
  let carried: Promise<void> | undefined
  const onItem = async (item: unknown): Promise<void> => {
    const socket = raw(item, "socket")
    if (carries && typeof socket === "string") carried = pipeToSocket(session.home, socket, rawOf(io), io.signal)
    else if (gathered !== undefined) gathered.push(item)
    else if (!carries) await show(op, item, session)
  }
  const answer = await ask(op, input, session, onItem)
  await carried
  session.progress.clear()
  if (io.signal.aborted) return interrupted
  if (answer._tag === "Problem") {
    if (op.place === "either" && answer.problem.kind === "no-daemon") return eitherHere(op, decoded, session)
    return fail(answer.problem)
  }
  if (gathered !== undefined) await put(io.stdout, jsonText(io.stdout, gathered))
  else if (op.stream === "no") return show(op, answer.value, session)
  return 0
}

const rawOf = (io: CliIo): RawIo => {
  if (io.raw === undefined) throw new Refusal({ kind: "usage", detail: "stdin and stdout cannot carry a connection here", hint: "kos connect NODE:SERVICE --listen 0" })
  return io.raw()
}

const raw = (value: unknown, key: string): unknown => (typeof value === "object" && value !== null ? Object.entries(value).find(([name]) => name === key)?.[1] : undefined)

const ask = async (op: Operation, input: unknown, session: Session, onItem?: (item: unknown) => Promise<void>): Promise<Answer> => {
  const { io, home, command, actor } = session
  const once = (sent: unknown) => callNode(home, op.name, sent, {
    command, actor, mesh: session.globals.mesh ?? (io.env["KOS_MESH"] || undefined), signal: io.signal, onProgress: session.progress.show, ...(onItem === undefined ? {} : { onItem })
  })
  if (op.name !== "wait") return once(input)
  // `wait` also waits for a daemon that is only about to start.
  const seconds = Number(raw(input, "timeout") ?? 60)
  const until = io.now() + seconds * 1000
  for (;;) {
    const left = Math.max(1, Math.ceil((until - io.now()) / 1000))
    const answer = await once({ ...Object(input), timeout: left })
    if (answer._tag === "Value" || answer.problem.kind !== "no-daemon" || io.signal.aborted) return answer
    if (io.now() >= until) return { _tag: "Problem", problem: problem("timeout", `no daemon ran on ${home} within ${seconds} s`, { hint: noDaemon(home).hint }) }
    await new Promise((resolve) => setTimeout(resolve, waitRetryMs))
  }
}

const waitRetryMs = 200

/** Shows one value; resolves with the exit code that it stands for. */
const show = async (op: Operation, value: unknown, session: Session): Promise<number> => {
  const { io, globals, view } = session
  const decoded = Schema.decodeUnknownResult(op.output)(value)
  const code = Result.isSuccess(decoded) ? exitOf(op.name, decoded.success) : 0
  if (globals.json || (op.stream === "always" && raw(value, "specversion") !== undefined)) {
    await put(io.stdout, op.stream === "no" ? jsonText(io.stdout, value) : `${JSON.stringify(value)}\n`)
    return code
  }
  if (Result.isFailure(decoded)) throw new Refusal({ kind: "failed", detail: `the daemon's answer to ${op.name} is not what this version of kos expects: ${decoded.failure.message}`, hint: "kos --json …" })
  if (op.cli.raw !== undefined) {
    const text = String(raw(decoded.success, op.cli.raw))
    // On a terminal nothing may act on it; a program gets every byte.
    await put(io.stdout, io.stdout.isTTY === true ? `${safe(text)}\n` : text)
    return code
  }
  const lines = render(op.name, safeDeep(decoded.success), view)
  if (lines.length > 0) await put(io.stdout, `${lines.join("\n")}\n`)
  return code
}

/** Operations that need no daemon; undefined when the daemon is to be asked. */
const performHere = async (op: Operation, decoded: unknown, session: Session): Promise<number | ProblemDocument | undefined> => {
  if (op.place !== "local") return undefined
  const { io } = session
  const context = contextOf(session)
  // Decoded by this operation's own schema just now.
  if (op.name === "help") return helpHere(decoded as InputOf<"help">, session)
  if (op.name === "completion") {
    const { shell } = decoded as InputOf<"completion">
    return show(op, { shell, script: completionScript(shell) }, session)
  }
  if (op.name === "event.types") return show(op, { version: io.version, ...(await import("../../events/catalogue.ts")).schemaRange }, session)
  if (op.name === "key.restore") return show(op, await io.local.keys.restore(decoded as InputOf<"key.restore">, context), session)
  if (op.name === "init") return show(op, await io.local.init(decoded as InputOf<"init">, context), session)
  const announce = async (value: unknown) => { await show(op, value, session) }
  if (op.name === "daemon.run") return io.local.daemonRun(decoded as InputOf<"daemon.run">, { ...context, announce })
  await io.local.dhtRun(decoded as InputOf<"dht.run">, { ...context, announce })
  return 0
}

const helpHere = async ({ topic = [] }: InputOf<"help">, session: Session): Promise<number | ProblemDocument> => {
  const text = helpPage(topic)
  if (text !== undefined) return show(helpOperation(), { topic: topic.join(" "), text }, session)
  const near = nearTopics(topic)
  const words = topic.join(" ")
  return problem("not-found", `there is no help on "${words}"${near.length > 0 ? didYouMean(words, near) : ""}`, { hint: "kos help" })
}

/** No daemon runs: what can be done from the files alone. */
const eitherHere = async (op: Operation, decoded: unknown, session: Session): Promise<number> => {
  const { local } = session.io
  const context = contextOf(session)
  // Decoded by this operation's own schema just now.
  switch (op.name) {
    case "key.show": return show(op, await local.keys.show(decoded as InputOf<"key.show">, context), session)
    case "key.seal": return show(op, await local.keys.seal(decoded as InputOf<"key.seal">, context), session)
    case "key.unseal": return show(op, await local.keys.unseal(decoded as InputOf<"key.unseal">, context), session)
    case "key.backup": return show(op, await local.keys.backup(decoded as InputOf<"key.backup">, context), session)
    default: return show(op, await local.doctor(decoded as InputOf<"doctor">, context), session)
  }
}

const contextOf = ({ home, io, command, actor, progress }: Session): LocalContext => ({
  home, env: io.env, cwd: io.cwd, stdin: io.stdin, ...(io.ask === undefined ? {} : { ask: io.ask }), version: io.version, command, actor, signal: io.signal, progress: progress.show
})

/** Fetches the text as it is, lets the person edit it, and sends both, so that what others change meanwhile stays. */
const editAndSend = async (op: Operation, input: Record<string, unknown>, session: Session, fail: (what: ProblemDocument) => Promise<number>): Promise<number> => {
  const { io } = session
  const source = operationByName.get(op.name === "config.edit" ? "config.show" : "memory.show") ?? op
  const { layer = "node", role, format = "yaml", page } = input
  const shown = await ask(source, op.name === "config.edit" ? { layer, format, ...(role === undefined ? {} : { role }) } : { page }, session)
  if (shown._tag === "Problem" && !(op.name === "memory.edit" && shown.problem.kind === "not-found")) return fail(shown.problem)
  const base = shown._tag === "Value" ? String(raw(shown.value, "text") ?? "") : ""
  const edited = await edit(base, op.name === "config.edit" ? `config.${String(format)}` : "page.md", io)
  if (edited.text === base) {
    edited.forget()
    await put(io.stderr, "Nothing changed.\n")
    return 0
  }
  const sent = { ...input, base, text: edited.text }
  const decoded = decodeInput(op, sent)
  const code = Result.isFailure(decoded) ? await fail(decoded.failure) : await askAndShow(op, sent, decoded.success, session, fail)
  if (code === 0) edited.forget()
  else await put(io.stderr, `  your text is kept in ${edited.path}\n`)
  return code
}
