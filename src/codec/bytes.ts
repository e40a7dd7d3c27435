/** Text forms of bytes. Hex is the one spelling of keys and hashes in kOS; people see the first eight digits. */

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex")

export const fromHex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"))

/** True for exactly `bytes` bytes in lower-case hex. */
export const isHex = (text: unknown, bytes: number): text is string =>
  typeof text === "string" && text.length === bytes * 2 && /^[0-9a-f]*$/.test(text)

export const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "utf8"))

export const equalBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.byteLength === b.byteLength && Buffer.compare(a, b) === 0

/** What a person reads instead of a whole key. */
export const shortKey = (hex: string): string => hex.slice(0, 8)
