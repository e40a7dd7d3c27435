/**
 * Takes one range of a pack from a web address, and no more than that.
 *
 * Everything about a mirror is hostile: the name may be slow, the answer may be another file, longer or shorter than it says, endless, or come a byte at a time. So
 * bytes are counted against the range that was asked, a pace is kept, redirects are few and the whole has an end. Nothing is gathered here: what comes is handed on at once,
 * and the taker holds it against the hashes. A mirror that answers 200 with the whole file, since it knows no ranges, is read up to the range.
 */
import { request as httpRequest, type IncomingMessage } from "node:http"
import { request as httpsRequest } from "node:https"

export interface MirrorRequest {
  readonly url: string
  readonly offset: number
  readonly length: number
  /** Length of the whole file. */
  readonly total: number
  readonly signal: AbortSignal
  /** Milliseconds that never go back. */
  readonly now: () => number
  /** Takes the next bytes; the mirror is read on when it resolves. A rejection ends it. */
  readonly take: (bytes: Uint8Array) => Promise<void>
  readonly limits?: Partial<MirrorLimits>
}

export interface MirrorLimits {
  /** Until the answer's head is there, milliseconds. */
  readonly answerMsMax: number
  /** Fewer bytes than this in a second, over `paceMs`, is too slow. */
  readonly bytesPerSecondMin: number
  readonly paceMs: number
  readonly redirectsMax: number
}

export const mirrorLimits: MirrorLimits = { answerMsMax: 10_000, bytesPerSecondMin: 8_192, paceMs: 10_000, redirectsMax: 3 }

/** Why a mirror was left. `lies`: what it says or sends is not what a mirror of this file would. */
export class MirrorFault extends Error {
  readonly lies: boolean
  constructor(why: string, lies: boolean) {
    super(why)
    this.name = "MirrorFault"
    this.lies = lies
  }
}

/** Address of a pack at a mirror; undefined for an address that is none. */
export const addressAtMirror = (mirror: string, sha256: string): string | undefined => {
  if (!URL.canParse(mirror)) return undefined
  const url = new URL(mirror)
  if ((url.protocol !== "http:" && url.protocol !== "https:") || url.username !== "" || url.password !== "") return undefined
  url.search = ""
  url.hash = ""
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/packs/${sha256}`
  return url.href
}

/** Resolves when exactly the range was taken, with whether the mirror knows ranges; rejects with `MirrorFault`, or with what `take` rejected. */
export const takeFromMirror = async (asked: MirrorRequest): Promise<{ readonly ranges: boolean }> => {
  const limits = { ...mirrorLimits, ...asked.limits }
  let url = asked.url
  for (let redirects = 0; ; redirects += 1) {
    const response = await answer(url, asked, limits)
    const status = response.statusCode ?? 0
    if (status >= 300 && status < 400) {
      response.destroy()
      // R4.4: a mirror that sends one round in circles is left.
      if (redirects >= limits.redirectsMax) throw new MirrorFault(`it redirects more than ${limits.redirectsMax} times`, false)
      url = redirected(url, response.headers.location)
      continue
    }
    try {
      return await read(response, asked, limits)
    } finally {
      response.destroy()
    }
  }
}

const answer = (url: string, { offset, length, signal }: MirrorRequest, { answerMsMax }: MirrorLimits): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const ask = url.startsWith("https:") ? httpsRequest : httpRequest
    const asking = ask(url, {
      agent: false, signal, maxHeaderSize: 16_384,
      headers: { range: `bytes=${offset}-${offset + length - 1}`, "accept-encoding": "identity", "user-agent": "kos" }
    })
    const timer = setTimeout(() => asking.destroy(new MirrorFault(`it does not answer within ${answerMsMax / 1_000} s`, false)), answerMsMax)
    asking.once("response", (response) => {
      clearTimeout(timer)
      response.on("error", () => {})
      resolve(response)
    })
    asking.once("error", (error) => {
      clearTimeout(timer)
      reject(error instanceof MirrorFault ? error : new MirrorFault(error.message, false))
    })
    asking.end()
  })

const redirected = (from: string, location: string | undefined): string => {
  if (location === undefined || location.length > 2_048 || !URL.canParse(location, from)) throw new MirrorFault("it redirects to nowhere", true)
  const to = new URL(location, from)
  if (to.protocol !== "https:" && !(to.protocol === "http:" && from.startsWith("http:"))) throw new MirrorFault(`it redirects to ${to.protocol}`, false)
  return to.href
}

/** R1.7, R4.4: what is to come is known before the first byte, and is what comes. */
const read = async (response: IncomingMessage, asked: MirrorRequest, limits: MirrorLimits): Promise<{ readonly ranges: boolean }> => {
  const skip = leading(response, asked)
  const end = skip + asked.length
  const from = asked.now()
  const msMax = limits.paceMs + end / limits.bytesPerSecondMin * 1_000
  let at = 0
  let [paceFrom, paceAt] = [from, 0]
  /** Set while the taker is at work: its time is not the mirror's. */
  let taking = false
  const watch = setInterval(() => {
    const now = asked.now()
    if (taking) {
      ;[paceFrom, paceAt] = [now, at]
      return
    }
    if (now - from > msMax) response.destroy(new MirrorFault(`it is not done within ${Math.round(msMax / 1_000)} s`, false))
    if (now - paceFrom < limits.paceMs) return
    if ((at - paceAt) / (now - paceFrom) * 1_000 < limits.bytesPerSecondMin) {
      response.destroy(new MirrorFault(`it gives less than ${limits.bytesPerSecondMin} bytes a second`, false))
    }
    ;[paceFrom, paceAt] = [now, at]
  }, Math.min(1_000, limits.paceMs / 2))
  try {
    for await (const chunk of response) {
      if (!(chunk instanceof Uint8Array)) continue
      const [start, stop] = [Math.max(0, skip - at), Math.min(chunk.byteLength, end - at)]
      if (response.statusCode === 206 && chunk.byteLength > end - at) throw new MirrorFault("it sends more bytes than were asked for", true)
      at += chunk.byteLength
      taking = true
      if (stop > start) await asked.take(chunk.subarray(start, stop))
      taking = false
      if (at >= end) break
    }
  } catch (error) {
    if (error instanceof MirrorFault || asked.signal.aborted || taking) throw error
    throw new MirrorFault(error instanceof Error ? error.message : "the connection broke", false)
  } finally {
    clearInterval(watch)
  }
  if (at < end) throw new MirrorFault(`it ends after ${at} bytes`, false)
  return { ranges: response.statusCode === 206 }
}

/** Bytes of the body that lie before the range. */
const leading = (response: IncomingMessage, { offset, length, total }: MirrorRequest): number => {
  const { statusCode = 0, headers } = response
  if (headers["content-encoding"] !== undefined && headers["content-encoding"] !== "identity") throw new MirrorFault(`it encodes as ${headers["content-encoding"].slice(0, 32)}`, false)
  const told = headers["content-length"] === undefined ? undefined : Number(headers["content-length"])
  if (statusCode === 206) {
    const range = headers["content-range"] ?? ""
    if (range !== `bytes ${offset}-${offset + length - 1}/${total}`) throw new MirrorFault(`it gives the range "${range.slice(0, 64)}", not the one asked for`, true)
    if (told !== undefined && told !== length) throw new MirrorFault(`it says ${told} bytes for a range of ${length}`, true)
    return 0
  }
  if (statusCode === 200) {
    if (told !== total) throw new MirrorFault(`its file has ${told ?? "an unknown number of"} bytes, not ${total}`, true)
    return offset
  }
  throw new MirrorFault(`it answers ${statusCode}`, false)
}
