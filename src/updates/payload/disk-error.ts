import { PayloadError } from "./payload.ts"

/** What a disk, an abort or a part of this folder threw, as a `PayloadError`. */
export const diskError = (cause: unknown, what: string, signal?: AbortSignal, bytesNeeded?: number): PayloadError => {
  if (cause instanceof PayloadError) return cause
  if (signal?.aborted === true) return new PayloadError({ reason: "stopped", detail: `${what} was stopped.` })
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
  const detail = cause instanceof Error ? cause.message : String(cause)
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new PayloadError({ reason: "no-space", detail: `${what} found no space${bytesNeeded === undefined ? "" : `; ${bytesNeeded} bytes are needed`}.`, ...(bytesNeeded === undefined ? {} : { bytesNeeded }) })
  }
  return new PayloadError({ reason: "disk", detail: `${what} failed: ${detail}` })
}
