import { utf8 } from "../codec/bytes.ts"
import { asBuffer } from "../codec/hash.ts"
import { Malformed } from "../codec/malformed.ts"

/** Reads fields of a message in order; every fault is a `Malformed` that names the message. Numbers are LEB128, at most 2^53 - 1. */
export class Reader {
  readonly what: string
  private readonly source: Uint8Array
  private offset = 0

  constructor(what: string, source: Uint8Array) {
    this.what = what
    this.source = source
  }

  get left(): number {
    return this.source.byteLength - this.offset
  }

  byte(): number {
    const value = this.source[this.offset]
    if (value === undefined) throw this.fault("it ends too early")
    this.offset += 1
    return value
  }

  uint(max = Number.MAX_SAFE_INTEGER): number {
    let value = 0
    let factor = 1
    for (let digits = 0; digits < 8; digits += 1) {
      const digit = this.byte()
      value += (digit & 127) * factor
      if (digit < 128) {
        if (digit === 0 && digits > 0) throw this.fault("a number has a needless digit")
        if (value > max) throw this.fault(`${value} where at most ${max} is allowed`)
        return value
      }
      factor *= 128
    }
    throw this.fault("a number is too large")
  }

  /** A copy of the next `size` bytes. */
  fixed(size: number): Uint8Array {
    if (size > this.left) throw this.fault("it ends too early")
    const found = this.source.slice(this.offset, this.offset + size)
    this.offset += size
    return found
  }

  bytes(bytesMax: number): Uint8Array {
    return this.fixed(this.uint(bytesMax))
  }

  text(bytesMax: number): string {
    return asBuffer(this.bytes(bytesMax)).toString("utf8")
  }

  hex(size: number): string {
    return asBuffer(this.fixed(size)).toString("hex")
  }

  end(): void {
    if (this.left > 0) throw this.fault(`${this.left} bytes follow its end`)
  }

  fault(why: string): Malformed {
    return new Malformed({ what: this.what, why })
  }
}

/** Collects fields into one message; the mirror of `Reader`. */
export class Writer {
  private parts: Array<Uint8Array> = []
  private length = 0

  get size(): number {
    return this.length
  }

  byte(value: number): this {
    return this.fixed(Uint8Array.of(value))
  }

  uint(value: number): this {
    const digits: Array<number> = []
    let rest = value
    do {
      const digit = rest % 128
      rest = Math.floor(rest / 128)
      digits.push(rest > 0 ? digit + 128 : digit)
    } while (rest > 0)
    return this.fixed(Uint8Array.from(digits))
  }

  fixed(bytes: Uint8Array): this {
    this.parts.push(bytes)
    this.length += bytes.byteLength
    return this
  }

  bytes(bytes: Uint8Array): this {
    return this.uint(bytes.byteLength).fixed(bytes)
  }

  text(text: string): this {
    return this.bytes(utf8(text))
  }

  hex(text: string): this {
    return this.fixed(Buffer.from(text, "hex"))
  }

  take(): Buffer {
    return Buffer.concat(this.parts)
  }
}
