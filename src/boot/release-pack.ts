/** Makes the payload of a release, and what its signers will sign. */
import { execFile } from "node:child_process"
import { mkdir, rm, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { delimiter, dirname, join } from "node:path"
import { Result, Schema } from "effect"
import type { Call } from "../api/operation.ts"
import type { InputOf } from "../api/operations/table.ts"
import { Refusal } from "../commands/refusal.ts"
import { parseDuration } from "../projections/families/values.ts"
import type { ChannelBook } from "../updates/publish/book.ts"
import { delegatedRole, type TargetEntry } from "../updates/publish/build.ts"
import { isJsonObject, sha256 } from "../updates/publish/signed.ts"
import { decodeCustom, type ReleaseCustom, targetPath } from "../updates/release.ts"
import { compareVersions } from "../updates/version.ts"
import { readSmall, writeWhole } from "../vault/files.ts"
import type { Publisher } from "./publisher.ts"

type Wish = InputOf<"release.pack">

export interface PackedRelease {
  readonly role: string
  readonly entry: TargetEntry
  readonly payloadBytes: number
  readonly packs: ReadonlyArray<{ readonly sha256: string; readonly kind: string; readonly bytes: number }>
}

/** After so many releases a pack with everything is made, so that a device that has nothing asks few packs. */
export const fullEvery = 8
/** How long a bundle may take to say what events it knows, milliseconds, and how much it may say, bytes. */
const askMsMax = 30_000
const askBytesMax = 1_048_576
const checkMs = 30_000

/** Throws `Refusal` and `PayloadError`. What is asked for and cannot be is refused before anything is packed. */
export const packRelease = async (publisher: Publisher, book: ChannelBook, wish: Wish, call: Call, signal: AbortSignal): Promise<PackedRelease> => {
  const { made, parts } = publisher
  const found = await stat(wish.path).catch(() => undefined)
  if (found === undefined) throw new Refusal({ kind: "not-found", detail: `there is no ${wish.path}` })
  if (!found.isDirectory() && !found.isFile()) throw new Refusal({ kind: "usage", detail: `${wish.path} is neither a directory nor a file` })
  const form = found.isDirectory() ? "tree" : "file"
  const { area, role } = placeOf(book, wish)
  const draft = await customOf(wish, form, signal)
  const path = targetPath(area, draft)
  const fault = decodeCustom(path, draft)
  if (Result.isFailure(fault)) throw new Refusal({ kind: "usage", detail: fault.failure.message })
  const before = await earlierOf(publisher, book, role, path)
  if (before.some((one) => one.path === path)) throw new Refusal({ kind: "conflict", detail: `${path} is in the channel already`, hint: "give it another version" })
  const newest = before.filter((one) => one.path.split("@")[2] === path.split("@")[2]).at(-1)
  if (wish.patchFrom !== undefined && newest === undefined) throw new Refusal({ kind: "usage", detail: `there is no earlier release of ${draft.name} for a patch to start from`, path: "patchFrom" })
  await mkdir(made, { recursive: true, mode: 0o700 })
  const payload = await parts.makePayload({
    source: { form, path: wish.path }, earlier: before.map(({ index }) => index), out: made, signal, full: wish.full || (before.length > 0 && before.length % fullEvery === 0),
    ...(wish.patchFrom === undefined || newest === undefined ? {} : { patchFrom: { index: newest.index, path: wish.patchFrom } }),
    onProgress: ({ bytes, of }) => call.progress(bytes, of, "bytes")
  })
  const custom: ReleaseCustom = { ...draft, payload: payload.payload }
  const id = sha256(payload.index)
  const same = before.find(({ index }) => sha256(index) === id)
  if (same !== undefined) throw new Refusal({ kind: "conflict", detail: `this is, byte for byte, what ${same.path} is already`, hint: "a release is known by its content; change something in it, such as its version" })
  await writeWhole(join(made, `${id}.index`), payload.index)
  for (const { ref, file } of payload.packs) {
    try {
      await parts.take(ref, file)
      await rm(file, { force: true })
    } catch (cause) {
      // It is offered again when the release is published.
      parts.notice("warn", `the pack ${ref.sha256.slice(0, 8)} of ${path} could not be taken over for seeding: ${cause instanceof Error ? cause.message : String(cause)}`)
    }
  }
  const json: unknown = JSON.parse(JSON.stringify(custom))
  if (!isJsonObject(json)) throw new Error("a release's fields are no object")
  return {
    role, entry: { path, length: payload.index.byteLength, sha256: id, custom: json }, payloadBytes: payload.payload.length,
    packs: payload.packs.map(({ ref, kind }) => ({ sha256: ref.sha256, kind, bytes: ref.length }))
  }
}

/** Where it lies and who signs there: a delegated publisher when there is one, else the channel's own signers. */
const placeOf = (book: ChannelBook, { kind, publisher }: Wish): { readonly area: string; readonly role: string } => {
  if (kind === "bundle" || kind === "os") {
    if (publisher !== undefined) throw new Refusal({ kind: "usage", detail: `a release of kind ${kind} belongs to the channel, not to a publisher`, path: "publisher" })
    return { area: kind === "bundle" ? "kos" : "os", role: "targets" }
  }
  if (publisher === undefined) throw new Refusal({ kind: "usage", detail: `whose ${kind === "agent" ? "agent" : "module"} is it?`, path: "publisher", hint: "--publisher NAME" })
  const area = kind === "agent" ? "agents" : "codex"
  const role = delegatedRole(area, publisher)
  return { area: `${area}/${publisher}`, role: book.targets?.signed.delegations?.roles?.[role] === undefined ? "targets" : role }
}

interface Earlier {
  readonly path: string
  readonly index: Uint8Array
}

/** Indexes of earlier releases of the name, the oldest first; those that are not here are no loss but of bytes. */
const earlierOf = async (publisher: Publisher, book: ChannelBook, role: string, path: string): Promise<ReadonlyArray<Earlier>> => {
  const channel = await publisher.open(book)
  const targets = role === "targets" ? book.targets : book.delegated.get(role)
  const name = path.slice(0, path.indexOf("@") + 1)
  const out: Array<Earlier> = []
  const known = Object.values(targets?.signed.targets ?? {}).filter((target) => target.path.startsWith(name))
  for (const target of known.toSorted((a, b) => compareVersions(a.path.split("@")[1] ?? "", b.path.split("@")[1] ?? ""))) {
    const index = await publisher.index(target.hashes["sha256"] ?? "", channel)
    if (index !== undefined) out.push({ path: target.path, index })
    else if (target.path === path) out.push({ path, index: new Uint8Array() })
  }
  return out
}

const customOf = async (wish: Wish, form: "tree" | "file", signal: AbortSignal): Promise<ReleaseCustom> => {
  const [name = "", version = "", more] = wish.release.split("@")
  if (version === "" || more !== undefined) throw new Refusal({ kind: "usage", detail: `${wish.release} is no NAME@VERSION, such as kos@0.4.0`, path: "release" })
  const events = await eventsOf(wish, form, signal)
  return {
    kos: 1, kind: wish.kind, name, version, platform: wish.platform ?? (wish.kind === "bundle" ? `${process.platform}-${process.arch}` : "any"), boards: wish.board ?? [],
    payload: { form, length: 0, sha256: "0".repeat(64) },
    needs: { kosMin: wish.kosMin ?? null, kosBelow: wish.kosBelow ?? null, from: wish.from ?? null, freeBytes: wish.freeBytes ?? 0 },
    events, minSecure: wish.minSecure ?? null, security: wish.security, ring: wish.ring ?? "all", rolloutPermille: wish.permille ?? 1_000,
    checks: (wish.check ?? []).map(checkOf), healthyMs: durationOf(wish.healthy ?? "1m", "healthy"), deadlineMs: durationOf(wish.deadline ?? "2m", "deadline"),
    entry: wish.entry ?? null, migrations: wish.migration ?? [], risk: wish.risk ?? "", notes: await notesOf(wish)
  }
}

const durationOf = (text: string, path: string): number => {
  const ms = parseDuration(text)
  if (ms === undefined) throw new Refusal({ kind: "usage", detail: `${text} is no duration; expected for example 30s or 2m`, path })
  return ms
}

const checkOf = (text: string): ReleaseCustom["checks"][number] => {
  const at = text.indexOf("=")
  const command = text.slice(at + 1).split(/\s+/).filter((word) => word !== "")
  if (at < 1 || command.length === 0) throw new Refusal({ kind: "usage", detail: `${text} is no check; expected NAME=COMMAND`, path: "check" })
  return { name: text.slice(0, at), command, timeoutMs: checkMs }
}

const notesOf = async ({ notes, note }: Wish): Promise<string> => {
  if (notes === undefined) return note ?? ""
  const bytes = await readSmall(notes, 16_384)
  if (typeof bytes === "string") throw new Refusal({ kind: bytes === "absent" ? "not-found" : "usage", detail: bytes === "absent" ? `there is no file ${notes}` : `${notes} is too large for notes, or no file`, path: "notes" })
  const text = Buffer.from(bytes).toString("utf8").trim()
  if (text.length > 4_096) throw new Refusal({ kind: "usage", detail: `the notes have ${text.length} characters, more than 4096`, path: "notes" })
  return text
}

const Types = Schema.Struct({ version: Schema.optionalKey(Schema.String), reads: Schema.Array(Schema.String), writes: Schema.Array(Schema.String) })

/** What events it reads and writes: as the person says, else as a bundle's own kOS says. */
const eventsOf = async (wish: Wish, form: "tree" | "file", signal: AbortSignal): Promise<ReleaseCustom["events"]> => {
  if (wish.reads !== undefined || wish.writes !== undefined || wish.kind !== "bundle") return { reads: wish.reads ?? [], writes: wish.writes ?? [] }
  const program = join(wish.path, "bin/kos")
  const unknown = (why: string) => new Refusal({ kind: "usage", detail: `what events this bundle knows cannot be found out: ${why}`, hint: "--reads TYPE --writes TYPE" })
  if (form !== "tree" || !(await stat(program).catch(() => undefined))?.isFile()) throw unknown(`it has no bin/kos`)
  const text = await new Promise<string>((done, fail) => {
    // Under this Node, wherever the system keeps its own.
    const env = { PATH: [dirname(process.execPath), process.env["PATH"] ?? ""].join(delimiter), HOME: tmpdir(), LANG: "C", NODE_DISABLE_COMPILE_CACHE: "1" }
    execFile(program, ["event", "types", "--json"], { timeout: askMsMax, maxBuffer: askBytesMax, env, cwd: wish.path, signal }, (error, stdout) => error === null ? done(stdout) : fail(unknown(error.message.slice(0, 200))))
  })
  const types = Result.try(() => Schema.decodeUnknownResult(Types)(JSON.parse(text))).pipe(Result.flatMap((decoded) => decoded))
  if (Result.isFailure(types)) throw unknown("its bin/kos event types gave something else")
  const { version, reads, writes } = types.success
  const wanted = wish.release.slice(wish.release.indexOf("@") + 1)
  if (version !== undefined && version !== wanted) throw new Refusal({ kind: "conflict", detail: `the bundle says of itself that it is ${version}, not ${wanted}`, hint: `npm run bundle -- --out DIR --version ${wanted}` })
  return { reads, writes }
}
