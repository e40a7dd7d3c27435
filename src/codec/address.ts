/** The place of an event: log, block in it, offset in the block's frame. Written `log/block.offset`. */

export interface Address {
  /** Log key, 64 hex digits. */
  readonly log: string
  readonly block: number
  readonly offset: number
}

/** "As of then": the length of each log, by log key. A log that is absent has length 0. */
export type Point = Readonly<Record<string, number>>

export const addressText = (address: Address): string => `${address.log}/${address.block}.${address.offset}`

const pattern = /^([0-9a-f]{64})\/(0|[1-9][0-9]{0,14})\.(0|[1-9][0-9]{0,3})$/

/** Reads `log/block.offset`; undefined when the text is anything else. */
export const parseAddress = (text: string): Address | undefined => {
  const found = pattern.exec(text)
  if (found === null) return undefined
  return { log: found[1] ?? "", block: Number(found[2]), offset: Number(found[3]) }
}
