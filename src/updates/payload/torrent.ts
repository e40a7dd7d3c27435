/**
 * The torrent of a pack (BEP 3, version 1, one file). It is derived from what the signed index says of the pack, so that everyone makes
 * the same bytes and the same info hash: no tracker, magnet link or foreign torrent file is ever asked.
 */
import { createHash } from "node:crypto"
import { open } from "node:fs/promises"
import type { PackRef } from "../ports.ts"

const mebibyte = 1_048_576
/** Bytes of a pack; more than any payload may have. */
export const packBytesMax = 17 * 1_024 * mebibyte

/** Bytes of a piece: 1 MiB, 2 above 1 GiB, 4 above 4 GiB. */
export const pieceLengthFor = (length: number): number => (length > 4_096 * mebibyte ? 4 : length > 1_024 * mebibyte ? 2 : 1) * mebibyte

export const piecesOf = ({ length, pieceLength }: Pick<PackRef, "length" | "pieceLength">): number => Math.ceil(length / pieceLength)

/** Info hash as 40 hex digits: SHA-1 of the bencoded `info`. */
export const infoHash = (ref: PackRef): string => createHash("sha1").update(info(ref)).digest("hex")

/** The whole torrent file: `info` and nothing else. */
export const torrentFile = (ref: PackRef): Uint8Array => Buffer.concat([Buffer.from("d4:info"), info(ref), Buffer.from("e")])

/** What a pack file is: read once, in pieces. */
export const hashPieces = async (file: string): Promise<PackRef> => {
  const handle = await open(file, "r")
  try {
    const { size: length } = await handle.stat()
    const pieceLength = pieceLengthFor(length)
    const whole = createHash("sha256")
    const pieces: Array<Buffer> = []
    const block = Buffer.allocUnsafe(pieceLength)
    for (let offset = 0; offset < length; offset += pieceLength) {
      const bytes = block.subarray(0, Math.min(pieceLength, length - offset))
      for (let filled = 0; filled < bytes.length;) {
        const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, offset + filled)
        if (bytesRead === 0) throw new Error(`${file} became shorter than ${length} bytes while it was read`)
        filled += bytesRead
      }
      whole.update(bytes)
      pieces.push(createHash("sha1").update(bytes).digest())
    }
    return { sha256: whole.digest("hex"), length, pieceLength, pieces: Buffer.concat(pieces) }
  } finally {
    await handle.close()
  }
}

/** Bencode wants a dictionary's keys in the order of their bytes. */
const info = ({ sha256, length, pieceLength, pieces }: PackRef): Buffer => Buffer.concat([
  Buffer.from(`d6:lengthi${length}e4:name${sha256.length}:${sha256}12:piece lengthi${pieceLength}e6:pieces${pieces.length}:`),
  pieces,
  Buffer.from("7:privatei1ee")
])
