/**
 * What a channel's metadata was verified as, kept between starts in one file: `latest`, each role's newest file that was accepted, and `good`, the set of
 * the last check that passed as a whole. One file, so that no power cut leaves files of two states; its first line is the SHA-256 of the
 * rest. A file that does not fit counts as none: the log and the pinned root lead to the same state again.
 */
import { createHash } from "node:crypto"
import { dirname } from "node:path"
import { Option, Schema } from "effect"
import { makeDirectory, readSmallText, writeWhole } from "../../vault/files.ts"
import type { TrustedFiles } from "./workflow.ts"

/** Bytes of the file. */
export const trustFileBytesMax = 67_108_864

export type RoleFiles = ReadonlyMap<string, Uint8Array>

export interface Trust {
  readonly latest: Map<string, Uint8Array>
  good: RoleFiles | undefined
}

const Files = Schema.Record(Schema.String, Schema.String)
const Body = Schema.Struct({ v: Schema.Literal(1), latest: Files, good: Schema.NullOr(Files) })

export const trustedFiles = (files: Map<string, Uint8Array>): TrustedFiles => ({ get: (role) => files.get(role), set: (role, bytes) => void files.set(role, bytes) })

export const readTrust = async (path: string): Promise<Trust> => {
  const text = await readSmallText(path, trustFileBytesMax)
  const none: Trust = { latest: new Map(), good: undefined }
  const end = text?.indexOf("\n") ?? -1
  if (text === undefined || end !== 64 || sumOf(text.slice(end + 1)) !== text.slice(0, end)) return none
  let value: unknown
  try {
    value = JSON.parse(text.slice(end + 1))
  } catch {
    return none
  }
  const body = Schema.decodeUnknownOption(Body)(value)
  if (Option.isNone(body)) return none
  return { latest: fromText(body.value.latest), good: body.value.good === null ? undefined : fromText(body.value.good) }
}

export const writeTrust = async (path: string, { latest, good }: Trust): Promise<void> => {
  // Somebody may have removed it: what was trusted comes again from the log.
  await makeDirectory(dirname(path))
  const body = JSON.stringify({ v: 1, latest: toText(latest), good: good === undefined ? null : toText(good) })
  return writeWhole(path, `${sumOf(body)}\n${body}`)
}

const sumOf = (text: string): string => createHash("sha256").update(text).digest("hex")
const fromText = (files: Readonly<Record<string, string>>): Map<string, Uint8Array> =>
  new Map(Object.entries(files).map(([role, text]) => [role, new Uint8Array(Buffer.from(text, "base64"))]))
const toText = (files: RoleFiles): Record<string, string> => Object.fromEntries([...files].map(([role, bytes]) => [role, Buffer.from(bytes).toString("base64")]))
