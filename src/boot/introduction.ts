import { Result } from "effect"
import { decodeCbor } from "../codec/cbor.ts"
import { readMaybe } from "../vault/files.ts"

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
