/**
 * The high-water mark: what this node knows of its own log by another road than the log itself. Design section 3, point 5.
 *
 * A log that lost its tail looks healthy, and the next append would rewrite history that others hold. So before anybody hears of a
 * block, its length and tree hash are synced here: two slots in one file, written in turn, so that a torn write leaves the other.
 */
import { Result, Schema } from "effect"
import { decodeCbor, encodeCbor } from "../codec/cbor.ts"
import { asBuffer, hashParts } from "../codec/hash.ts"
import { slotBytes, type SlotFile } from "./ports.ts"

export const Mark = Schema.Struct({
  turn: Schema.Int,
  log: Schema.String,
  length: Schema.Int,
  fork: Schema.Int,
  treeHash: Schema.String,
  /** True from the first append of a run until its clean stop. */
  dirty: Schema.Boolean,
  bootId: Schema.String,
  /** Device and inode of the store: another one means that the directory was copied. */
  place: Schema.String,
  pid: Schema.Int
})
export type Mark = typeof Mark.Type

const decodeMark = Schema.decodeUnknownResult(Mark)
const checkBytes = 16

export class MarkFile {
  readonly #slots: SlotFile
  #turn = 0

  constructor(slots: SlotFile) {
    this.#slots = slots
  }

  /** The newest readable mark, or undefined when there is none. */
  async read(): Promise<Mark | undefined> {
    let newest: Mark | undefined
    for (const slot of await this.#slots.read()) {
      const mark = parse(slot)
      if (mark !== undefined && (newest === undefined || mark.turn > newest.turn)) newest = mark
    }
    this.#turn = newest === undefined ? 0 : newest.turn + 1
    return newest
  }

  /** Resolves when the mark would survive a power cut. */
  async write(mark: Omit<Mark, "turn">): Promise<void> {
    const turn = this.#turn++
    const body = encodeCbor({ ...mark, turn })
    const record = Buffer.allocUnsafe(2 + checkBytes + body.byteLength)
    record.writeUInt16BE(body.byteLength)
    record.set(check(body), 2)
    record.set(body, 2 + checkBytes)
    if (record.byteLength > slotBytes) throw new Error(`mark of ${record.byteLength} bytes does not fit its slot`)
    await this.#slots.write(turn, record)
  }

  close(): Promise<void> {
    return this.#slots.close()
  }
}

const check = (body: Uint8Array): Uint8Array => hashParts("kos/mark/1", body).subarray(0, checkBytes)

const parse = (slot: Uint8Array): Mark | undefined => {
  if (slot.byteLength < 2 + checkBytes) return undefined
  const view = asBuffer(slot)
  const size = view.readUInt16BE(0)
  const body = view.subarray(2 + checkBytes, 2 + checkBytes + size)
  if (size === 0 || body.byteLength !== size || Buffer.compare(view.subarray(2, 2 + checkBytes), check(body)) !== 0) return undefined
  const decoded = Result.flatMap(decodeCbor("mark", body), decodeMark)
  return Result.isSuccess(decoded) ? decoded.success : undefined
}
