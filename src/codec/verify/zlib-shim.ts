/**
 * The little of zlib that the codec uses, for the one built file. Node unpacks zstd itself from 22.15 on; an older one does it with fzstd,
 * which is in the file. The build puts this in the place of "node:zlib".
 */
import { Decompress } from "fzstd"
import * as native from "zlib"

export const constants = native.constants

/** Never called: the verifier only reads. */
export const zstdCompressSync = native.zstdCompressSync

export const zstdDecompressSync = (bytes: Uint8Array, { maxOutputLength }: { readonly maxOutputLength: number }): Uint8Array =>
  typeof native.zstdDecompressSync === "function" ? native.zstdDecompressSync(bytes, { maxOutputLength }) : unpack(bytes, maxOutputLength)

/** Piece by piece, so that what is too much is refused before it is all in memory. */
const unpack = (bytes: Uint8Array, lengthMax: number): Uint8Array => {
  const pieces: Array<Uint8Array> = []
  let length = 0
  const stream = new Decompress((piece) => {
    length += piece.byteLength
    if (length > lengthMax) throw new Error(`more than ${lengthMax} bytes`)
    pieces.push(piece.slice())
  })
  stream.push(bytes, true)
  return Buffer.concat(pieces)
}
