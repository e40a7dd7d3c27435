/**
 * The code of a channel, as one hands it to another: `kos-channel:` and base32 (RFC 4648 section 6, lower case, no padding) of the log's
 * key and the SHA-256 of the first root, 32 bytes each. Reading takes upper case, spaces, line breaks and hyphens, as copying leaves them.
 */
import { fromHex, isHex, toHex } from "../../codec/bytes.ts"

export const channelCodePrefix = "kos-channel:"
/** Characters of a code as a person may paste it. */
export const channelCodeTextMax = 512

export interface ChannelCode {
  /** Key of the log, 64 hex digits. */
  readonly log: string
  /** SHA-256 of `1.root.json`, 64 hex digits: the channel's identity. */
  readonly root: string
}

const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
const bytesCount = 64
const lettersCount = Math.ceil(bytesCount * 8 / 5)

export const channelCode = ({ log, root }: ChannelCode): string => {
  if (!isHex(log, 32) || !isHex(root, 32)) throw new RangeError("a channel's code needs two hashes of 64 hex digits")
  const bits = [...fromHex(`${log}${root}`)].map((byte) => byte.toString(2).padStart(8, "0")).join("").padEnd(lettersCount * 5, "0")
  return channelCodePrefix + Array.from({ length: lettersCount }, (_, at) => alphabet[Number.parseInt(bits.slice(at * 5, at * 5 + 5), 2)]).join("")
}

/** undefined for all that is no code. */
export const parseChannelCode = (text: string): ChannelCode | undefined => {
  if (text.length > channelCodeTextMax) return undefined
  const squeezed = text.replaceAll(/[\s\u200b\u00ad-]+/g, "").toLowerCase()
  const prefix = channelCodePrefix.replaceAll("-", "")
  const letters = squeezed.slice(prefix.length)
  if (!squeezed.startsWith(prefix) || letters.length !== lettersCount || !/^[a-z2-7]+$/.test(letters)) return undefined
  const bits = [...letters].map((letter) => alphabet.indexOf(letter).toString(2).padStart(5, "0")).join("")
  // What fills up the last letter is zero, so that a channel has one code only.
  if (/1/.test(bits.slice(bytesCount * 8))) return undefined
  const hex = toHex(Uint8Array.from({ length: bytesCount }, (_, at) => Number.parseInt(bits.slice(at * 8, at * 8 + 8), 2)))
  return { log: hex.slice(0, 64), root: hex.slice(64) }
}
