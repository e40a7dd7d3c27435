import { Result, Schema } from "effect"
import { decodeCbor, encodeCbor } from "../codec/cbor.ts"
import { readMaybe, writeWhole } from "../vault/files.ts"

/** Size of the file at most, bytes. */
export const introductionBytesMax = 64 * 1024 * 1024

export const introductionFile = (meshDirectory: string): string => `${meshDirectory}/introduction`

/** The membership operations that came with the invite or founded the mesh; empty when the file is missing or no such list. */
export const readIntroduction = async (meshDirectory: string): Promise<ReadonlyArray<Uint8Array>> => {
  const bytes = await readMaybe(introductionFile(meshDirectory))
  if (bytes === undefined || bytes.byteLength > introductionBytesMax) return []
  const decoded = decodeCbor("introduction", bytes)
  if (Result.isFailure(decoded) || !Array.isArray(decoded.success)) return []
  return (decoded.success as ReadonlyArray<unknown>).filter((entry) => entry instanceof Uint8Array)
}

/** Where to look for a mesh before its own settings have arrived: what the invite said. */
export interface Hints {
  readonly bootstrap: ReadonlyArray<string>
  readonly issuer: string
  readonly lan: ReadonlyArray<string>
}

const Texts = Schema.Array(Schema.String.check(Schema.isMaxLength(256))).check(Schema.isMaxLength(16))
const decodeHints = Schema.decodeUnknownResult(Schema.Struct({ bootstrap: Texts, issuer: Schema.String, lan: Texts }))

export const writeHints = (meshDirectory: string, hints: Hints): Promise<void> => writeWhole(`${meshDirectory}/hints`, encodeCbor(hints))

export const readHints = async (meshDirectory: string): Promise<Hints> => {
  const bytes = await readMaybe(`${meshDirectory}/hints`)
  const decoded = bytes === undefined ? undefined : Result.flatMap(decodeCbor("hints", bytes), decodeHints)
  return decoded !== undefined && Result.isSuccess(decoded) ? decoded.success : { bootstrap: [], issuer: "", lan: [] }
}
