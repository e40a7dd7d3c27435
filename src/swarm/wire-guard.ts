/**
 * What a Hypercore channel may claim. Hypercore 11.37 believes a peer's numbers: a `range` of 2^32 blocks, 12 bytes long, makes it fill bitfields
 * until memory or patience ends (measured: the process stands still), and an upgrade by 0 blocks makes it throw where nothing catches. A member
 * may be hostile, so every block number and length is bounded before Hypercore sees it.
 */
import { Malformed } from "../codec/malformed.ts"

/** More blocks than a log of ours will have: at a frame a second for half a year; costs at most 2 MiB of bitfield in a log. */
export const blocksMax = 2 ** 24
const siblingsMax = 64
const entriesMax = 4_096

/** Throws `Malformed` when a decoded Hypercore message holds a number that no honest log leads to. */
export const checkClaims = (message: unknown): void => {
  if (typeof message !== "object" || message === null || ArrayBuffer.isView(message)) return
  if (Array.isArray(message)) {
    if (message.length > entriesMax) throw claim("entries", message.length, entriesMax)
    for (const entry of message) checkClaims(entry)
    return
  }
  for (const [name, value] of Object.entries(message)) {
    if (name === "upgrade" && typeof value === "object" && value !== null && "length" in value && value.length === 0) {
      throw new Malformed({ what: "a Hypercore message", why: "an upgrade by 0 blocks" })
    }
    if (typeof value === "object") checkClaims(value)
    else if (typeof value === "number" && value > limitOf(name)) throw claim(name, value, limitOf(name))
  }
}

/** Place of the request among the messages of a Hypercore channel. */
export const requestType = 1

/** The block that a request asks for; -1 when it asks for none. */
export const requestedBlock = (message: unknown): number => {
  const block = typeof message === "object" && message !== null && "block" in message ? message.block : undefined
  const index = typeof block === "object" && block !== null && "index" in block ? block.index : undefined
  return typeof index === "number" ? index : -1
}

const limitOf = (name: string): number => {
  if (name === "index") return 2 * blocksMax
  if (name === "start" || name === "length" || name === "remoteLength") return blocksMax
  return name === "nodes" ? siblingsMax : Number.MAX_SAFE_INTEGER
}

const claim = (name: string, value: number, max: number): Malformed =>
  new Malformed({ what: "a Hypercore message", why: `${name} is ${value}, at most ${max} is possible` })
